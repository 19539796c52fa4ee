"""The XAPI operations in flight: started, awaited together, cancelled at their limits, retried if xapi was busy."""

from datetime import timedelta
from math import inf
from typing import Dict, Iterator, List, Optional, Set, Tuple

from vmss.core.datetimes import CLOCK_TOLERANCE, parse_reading
from vmss.core.engine import Engine
from vmss.core.failures import TRANSIENT, failure_of
from vmss.core.job import DESTROY_VM, SHUT_DOWN, TAKE_CHECKPOINT, TAKES, Operation, already_gone
from vmss.core.outcome import OFF_SCHEDULE, RESULT_LOST, RUN_OVER, TIMED_OUT, Outcome
from vmss.core.plan import take_anew
from vmss.core.text import one_line
from vmss.core.ways import refusal
from vmss.edges.tasks import Tasks
from vmss.edges.vms import read_vm
from vmss.edges.xapi import Misunderstood, Refused, Unanswered
from vmss.passes.context import Context
from vmss.passes.flight import Flight
from vmss.passes.frozen import FrozenVms
from vmss.passes.hooks import Hooks
from vmss.passes.meanwhile import if_gone, snapshot_since
from vmss.passes.notes import Notes
from vmss.passes.resuming import Resuming
from vmss.passes.unplaced import Unplaced

# Errors that leave open whether a snapshot was taken: the pool is asked for it.
_UNDECIDED = (RESULT_LOST, "CANNOT_CONTACT_HOST")
# Errors that tell that a VM is not any more as it was when its snapshot was planned.
_CHANGED = ("VM_BAD_POWER_STATE", "HANDLE_INVALID")
# Upper limit on the replacements of a VM's operation by another: xapi may say for ever that it runs, and does not.
_CHANGES_MAX = 5
# A VM that was read longer ago is read once more before its snapshot is started.
_FRESH = timedelta(seconds=60)
# Errors of a deletion that may have been carried out, or may yet be.
_MAYBE_CARRIED_OUT = (*_UNDECIDED, TIMED_OUT, "TASK_CANCELLED")


class Operations:
    """Carries out the operations of one engine.

    `over`: the pass has reached its limit. `lost`: the answer to a start was lost, so there may be one more task than
    `pending` knows. `took`: the duration of each job's snapshot in seconds. `resuming`: VMs left suspended by one.
    """

    def __init__(
        self, context: Context, engine: Engine, notes: Notes, frozen: FrozenVms, unplaced: Unplaced, hooks: Hooks
    ) -> None:
        self._worked = self._changed = self.lost = self.over = False
        self.took: Dict[int, float] = {}
        self._context = context
        self._log = context.log
        self._clock = context.clock
        self._settings = context.settings
        self._engine = engine
        self._notes = notes
        self._unplaced = unplaced
        self._hooks = hooks
        self._tasks = Tasks(context.xapi, context.clock, context.settings.waits_per_second)
        self.resuming = Resuming(context, self._tasks, frozen)
        self._flights: Dict[str, Flight] = {}
        self._held: List[Tuple[Operation, Outcome]] = []  # of checkpoints whose VM is being resumed
        self._parked: Dict[Operation, float] = {}  # to be retried, and when, on the monotonic clock
        self._tries: Dict[Operation, int] = {}
        self._changes: Dict[int, int] = {}  # by job: how often its operation was replaced by another
        self._announced: Set[int] = set()  # jobs that the log has named
        self._adopted: Set[int] = set()  # jobs whose task of an earlier pass is, or was, in flight

    @property
    def changed(self) -> bool:
        """Whether anything in the pool was changed, or may have been."""
        return self._changed or self.resuming.changed

    @property
    def worked(self) -> bool:
        """Whether an operation was started."""
        return self._worked or self.resuming.changed

    @property
    def in_flight(self) -> bool:
        return bool(self._flights) or self.resuming.busy or self._hooks.busy

    @property
    def parked(self) -> bool:
        """Whether any operation waits to be retried."""
        return bool(self._parked)

    @property
    def pending(self) -> List[str]:
        """The tasks of ours that have not ended."""
        return list(self._tasks.pending)

    def finish(self) -> None:
        """Leave no record of a task that has ended."""
        self._tasks.finish()

    def slow(self, seconds: float, most: float = inf) -> Set[Operation]:
        """The operations in flight that take more than so many seconds, and twice as long as expected; or longer than
        `most` seconds, or half of their limit. And those whose VM is being resumed."""
        now, jobs = self._clock.monotonic(), self._engine.jobs
        return {
            it.operation
            for it in self._flights.values()
            if now
            >= it.since + min(self._limit(it.operation) / 2, most, max(seconds, 2 * jobs[it.operation.job].seconds))
        }.union(operation for operation, _ in self._held)

    def enforce_pass_limit(self) -> None:
        """If the pass has reached its limit, let what is in flight be cancelled; every later start fails."""
        if self.over or self._clock.monotonic() < self._context.until:
            return
        self.over = True
        for flight in self._flights.values():
            flight.deadline = min(flight.deadline, self._context.until)
        for operation in self._parked:
            self._parked[operation] = self._context.until

    def resume(self) -> float:
        """Queue the parked operations again whose pause is over. Return the seconds until the next one's is."""
        now = self._clock.monotonic()
        for operation, due in list(self._parked.items()):
            if due <= now:
                del self._parked[operation]
                self._engine.resume(operation)
        return max(0.0, min(self._parked.values()) - now) if self._parked else inf

    def start(self, operation: Operation) -> Optional[Outcome]:
        """Start an operation. Return its outcome if it has ended already, None if it is in flight or parked.

        Raise Unanswered if it is not known whether it was started.
        """
        if self.over:
            return self._concluded(operation, Outcome(error=(RUN_OVER, "%d s" % self._settings.pass_limit)))
        if operation.action in TAKES and self._engine.jobs[operation.job].there:
            self._announce(operation)
            return Outcome(value=self._engine.jobs[operation.job].there)  # it is only read back
        if operation.action in TAKES and self.resuming.holds(self._engine.jobs[operation.job].uuid):
            self._engine.park(operation)
            self._parked[operation] = inf
            return None
        if operation.action in TAKES and self._is_stale(operation):
            anew = self._decide_anew(operation)
            if anew is None or (anew != operation and self._may_change(operation)):
                return self._instead(operation, anew)
        if operation not in self._tries:
            self._announce(operation)
        doubted = self._doubted(operation) if operation.action in TAKES else None
        if doubted is not None:
            return self._concluded(operation, doubted)
        if operation.action in TAKES and self._hooks.holds(operation, self._engine.jobs[operation.job]):
            return None
        return self._begin(operation)

    def prepared(self) -> Iterator[Tuple[Operation, Optional[Outcome]]]:
        """Start the snapshots whose hooks have ended. Yield each, with its outcome if it has ended already."""
        for operation, error in self._hooks.prepared():
            error = (RUN_OVER, "%d s" % self._settings.pass_limit) if self.over else error
            yield operation, self._concluded(operation, Outcome(error=error)) if error else self._begin(operation)

    def _begin(self, operation: Operation) -> Optional[Outcome]:
        self._worked = True
        try:
            task, adopted = self._task(operation)
        except Refused as refused:
            self.lost = self.lost or refused.code == RESULT_LOST
            return self._concluded(operation, Outcome(error=refused.error))
        except Unanswered:
            self.lost = True
            raise
        now = self._clock.monotonic()
        self._flights[task] = Flight(operation, now, adopted, now + self._limit(operation))
        return None

    def wait(self, timeout_s: float) -> Iterator[Tuple[Operation, Outcome]]:
        """Wait until an operation ends, at most `timeout_s`, and not beyond a deadline. Yield those that ended."""
        now = self._clock.monotonic()
        deadline = min([flight.deadline for flight in self._flights.values()] + [self.resuming.due])
        ended = self._wait(min(timeout_s, max(0.0, deadline - now)))
        for vm in self.resuming.step(ended):
            yield from self._released(vm)
        for task, outcome in ended.items():
            flight = self._flights.pop(task, None)
            if flight is None:
                continue  # given up before
            judged = self._of_this_slot(flight, outcome)
            if judged is None:
                continue  # queued again
            outcome = judged
            if flight.has_taken(outcome):
                self.took[flight.operation.job] = self._clock.monotonic() - flight.since
            if flight.cancelled and outcome.error[:1] == ("TASK_CANCELLED",):
                outcome = self._timed_out(flight.operation)  # the administrator should learn why it was cancelled
            yield from self._ended(flight.operation, outcome)
        for task, flight in list(self._flights.items()):
            if self._clock.monotonic() >= flight.deadline:
                yield from self._overdue(task, flight)

    def _wait(self, timeout_s: float) -> Dict[str, Outcome]:
        if self._hooks.busy:
            timeout_s = self._hooks.wait(timeout_s)
            if self._hooks.are_prepared and not self._tasks.is_time:
                return {}  # their guests wait
        if self._tasks.in_flight:
            return self._tasks.wait(timeout_s)
        self._clock.sleep(timeout_s)  # a VM waits for the next try to resume it
        return {}

    # Starting

    def _announce(self, operation: Operation) -> None:
        job = self._engine.jobs[operation.job]
        if operation.action in TAKES:
            if operation.job not in self._announced:
                self._log("Processing VM: %s" % job.uuid)
                self._announced.add(operation.job)
            self._notes.began(job.uuid, self._clock.now(), job.disks)
            return
        for snapshot in job.expired:
            if snapshot.ref == operation.ref and operation.action == (SHUT_DOWN if snapshot.suspended else DESTROY_VM):
                self._log(
                    "Snapshot retention value reached for VM: %s. Deleting the oldest snapshot: %s"
                    % (job.uuid, snapshot.uuid)
                )

    def _task(self, operation: Operation) -> Tuple[str, bool]:
        """The task of an operation that starts, and whether an earlier pass had started it."""
        job = self._engine.jobs[operation.job]
        if operation.action not in TAKES:
            return self._tasks.start(operation.action, operation.ref), False
        if job.task and operation.job not in self._adopted:
            self._adopted.add(operation.job)
            self._tasks.adopt(job.task, operation.action)
            return job.task, True
        if operation.action != TAKE_CHECKPOINT:
            left_out = [list(job.left_out)] if job.left_out else []  # an older server knows no such parameter
            return self._tasks.start(operation.action, operation.ref, job.label, *left_out), False
        self.resuming.begins(job)
        task = self._tasks.start(operation.action, operation.ref, job.label)
        self.resuming.has_begun(job, task)
        return task, False

    def _limit(self, operation: Operation) -> int:
        if operation.action == TAKE_CHECKPOINT:
            return self._settings.checkpoint_limit
        return self._settings.snapshot_limit if operation.action in TAKES else self._settings.destroy_limit

    # Ending

    def _ended(self, operation: Operation, outcome: Outcome) -> Iterator[Tuple[Operation, Outcome]]:
        concluded = self._concluded(operation, outcome)
        if concluded is not None:
            yield operation, concluded

    def _concluded(self, operation: Operation, outcome: Outcome) -> Optional[Outcome]:
        """The final outcome of an operation that has ended; None if it is parked, to be retried, or held until its VM
        is resumed."""
        job = self._engine.jobs[operation.job]
        # A checkpoint of a VM that is shut down meanwhile may fail although its snapshot is complete.
        if operation.action in TAKES and outcome.error[:1] and outcome.error[0] in _UNDECIDED + _CHANGED:
            snapshot = self._new_snapshot(operation)
            outcome = Outcome(value=snapshot) if snapshot else outcome
        if operation.action in TAKES and outcome.error[:1] and outcome.error[0] in _CHANGED:
            anew = self._decide_anew(operation)
            if anew is None or (anew != operation and not self.over and self._may_change(operation)):
                self._hooks.has_ended(operation, outcome)
                return self._instead(operation, anew)
        if self._retried(operation, outcome):
            self._hooks.has_ended(operation, outcome)
            return None
        # What xapi refuses to delete is as it was.
        if operation.action in TAKES or not outcome.error or outcome.error[0] in _MAYBE_CARRIED_OUT:
            self._changed = True
        if operation.action not in TAKES and outcome.error[:1] == (RESULT_LOST,):
            outcome = if_gone(self._context.xapi, operation) or outcome
        if operation.action in TAKES and outcome.error:  # else it is read back first
            self._notes.ended(job.uuid, self._clock.now(), outcome)
        if outcome.error and not already_gone(operation, outcome):
            self._log("%s failed for VM: %s" % (operation.action, self._vm_and_error(operation, outcome)))
        if operation.action == TAKE_CHECKPOINT and self.resuming.has_ended(job, outcome):
            self._held.append((operation, outcome))  # its SR and host are in use, and its guest cannot be reached
            return None
        self._hooks.has_ended(operation, outcome)
        return outcome

    def _released(self, vm: str) -> Iterator[Tuple[Operation, Outcome]]:
        """A VM is not being resumed any more: go on with what has waited for that."""
        for operation in self._parked:
            if self._parked[operation] == inf and self._engine.jobs[operation.job].uuid == vm:
                self._parked[operation] = self._clock.monotonic()
        for operation, outcome in list(self._held):
            if self._engine.jobs[operation.job].uuid == vm:
                self._held.remove((operation, outcome))
                self._hooks.has_ended(operation, outcome)
                yield operation, outcome

    def _retried(self, operation: Operation, outcome: Outcome) -> bool:
        """Park an operation that was refused for a transient reason, unless it was retried too often."""
        retries = self._tries.get(operation, 0)
        if not outcome.error or failure_of(outcome.error).kind != TRANSIENT or retries >= self._settings.retries:
            return False
        if self.over:
            return False
        pause = self._settings.retry_pause * 2**retries
        self._tries[operation] = retries + 1
        self._parked[operation] = self._clock.monotonic() + pause
        self._engine.park(operation)
        self._log(
            "%s is tried again in %d s for VM: %s" % (operation.action, pause, self._vm_and_error(operation, outcome))
        )
        return True

    def _overdue(self, task: str, flight: Flight) -> Iterator[Tuple[Operation, Outcome]]:
        """Cancel an operation that has reached its limit; give it up if that did not end it either.

        Given up, it may still end. Its snapshot is then a scheduled one like any other, and the next run counts it.
        """
        if not flight.cancelled:
            flight.cancelled = True
            flight.deadline = self._clock.monotonic() + self._settings.cancel_limit
            self._tasks.cancel(task)
        else:
            del self._flights[task]
            yield from self._ended(flight.operation, self._timed_out(flight.operation))

    def _timed_out(self, operation: Operation) -> Outcome:
        return Outcome(error=(TIMED_OUT, operation.action, "%d s" % self._limit(operation)))

    def _vm_and_error(self, operation: Operation, outcome: Outcome) -> str:
        job = self._engine.jobs[operation.job]
        return "%s (%s): %s" % (job.uuid, one_line(job.name, 100), one_line(" ".join(outcome.error), 1000))

    def _is_stale(self, operation: Operation) -> bool:
        return self._clock.now() > self._engine.jobs[operation.job].since + _FRESH

    def _decide_anew(self, operation: Operation) -> Optional[Operation]:
        """The operation that takes the snapshot of a VM as it is now; None if the VM has left its policy."""
        job, state = self._engine.jobs[operation.job], self._engine.states[operation.job]
        try:
            vm = read_vm(self._context.xapi, job.vm)
        except (Refused, Misunderstood):
            return operation  # it will tell by itself
        return take_anew(operation, job, bool(state.degraded), vm, self._context.pool.suspend_sr)

    def _may_change(self, operation: Operation) -> bool:
        """Whether a job may have another operation in place of this one once more: its VM has changed."""
        self._changes[operation.job] = self._changes.get(operation.job, 0) + 1
        return self._changes[operation.job] <= _CHANGES_MAX

    def _instead(self, operation: Operation, anew: Optional[Operation]) -> Optional[Outcome]:
        """Queue another operation in place of this one; return this one's outcome if there is no other."""
        if anew is not None:
            self._engine.park(operation)
            self._engine.resume(anew)
            return None
        uuid = self._engine.jobs[operation.job].uuid
        self._notes.ended(uuid, self._clock.now(), Outcome(error=(OFF_SCHEDULE,)))
        self._log("VM %s is not served: it is gone, or off the schedule, since the run began" % uuid)
        return Outcome(error=(OFF_SCHEDULE,))

    def _of_this_slot(self, flight: Flight, outcome: Outcome) -> Optional[Outcome]:
        """The outcome; None if a snapshot that an earlier pass started is not one of this slot: then this slot's is
        taken now.

        One that is dated in the future proves nothing: the clock was wrong when it was taken, or is now. If there is
        none of the name that the task tells, the pool is asked before a second one is taken.
        """
        operation = flight.operation
        if operation.action not in TAKES or not flight.adopted or outcome.error:
            return outcome
        try:
            time = parse_reading(self._context.xapi.call("VM.get_snapshot_time", outcome.value))
            if self._engine.jobs[operation.job].slot <= time <= self._clock.now() + CLOCK_TOLERANCE:
                return outcome
            self._new_snapshot(operation)  # the next one must not get its name
        except (Refused, ValueError):  # it is gone, has no time at all, or the task has named something else
            snapshot = self._new_snapshot(operation)
            if snapshot:
                return Outcome(value=snapshot)
        self._engine.park(operation)
        self._engine.resume(operation)
        return None

    def _doubted(self, operation: Operation) -> Optional[Outcome]:
        """What keeps a snapshot from being started: its VM's is under way, or taken already; None: nothing does."""
        job = self._engine.jobs[operation.job]
        busy = refusal(job, operation.action) or (() if job.task else self._unplaced.error_for(job))
        if busy:
            return Outcome(error=busy)
        # That it was refused before does not prove that it was not started; and an earlier pass's may have ended since.
        if operation in self._tries or self._unplaced.concerns(job):
            snapshot = self._new_snapshot(operation)
            if snapshot:
                return Outcome(value=snapshot)
        return None

    def _new_snapshot(self, operation: Operation) -> str:
        """The scheduled snapshot that a job's VM got since the job was planned; empty if there is none."""
        number = operation.job
        found, self._engine.jobs[number] = snapshot_since(self._context.xapi, self._engine.jobs[number])
        return found
