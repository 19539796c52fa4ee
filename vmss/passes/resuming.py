"""Resumes VMs that a checkpoint of ours has left Suspended: those of earlier passes, and those of this one."""

from contextlib import suppress
from math import inf
from typing import Dict, List, Mapping

from vmss.core.failures import TRANSIENT, failure_of
from vmss.core.frozen import LEFT, SETTLED, Frozen
from vmss.core.job import Job
from vmss.core.outcome import LEFT_SUSPENDED, RESULT_LOST, TIMED_OUT, Error, Outcome
from vmss.core.text import one_line
from vmss.edges import stop
from vmss.edges.tasks import Tasks
from vmss.edges.xapi import MISREAD, Misunderstood, Refused
from vmss.passes.context import Context
from vmss.passes.frozen import FrozenVms

_RESUME = "VM.resume"
# Why a VM is not resumed.
_OVER = "the pass came to its end"


class _Resumption:
    """The resumption of one VM: its reference and name; the task that is in flight, if one is, and its deadline; else
    the time of the next try. Times are on the monotonic clock."""

    def __init__(self, frozen: Frozen, ref: str, name: str, due: float) -> None:
        self.frozen = frozen
        self.ref = ref
        self.name = name
        self.task = ""
        self.cancelled = False
        self.due = due
        self.retries = 0


class Resuming:
    """Sees to the VMs that ran when a checkpoint of ours began. Shares the tasks of a pass, which it waits for.

    `changed`: an operation was started.
    """

    def __init__(self, context: Context, tasks: Tasks, vms: FrozenVms) -> None:
        self.changed = False
        self._context = context
        self._log = context.log
        self._clock = context.clock
        self._settings = context.settings
        self._tasks = tasks
        self._vms = vms
        self._resumptions: Dict[str, _Resumption] = {}  # by the uuid of the VM

    @property
    def busy(self) -> bool:
        """Whether a VM is being resumed."""
        return bool(self._resumptions)

    @property
    def due(self) -> float:
        """The next time at which `step` has something to do, whatever ends before, on the monotonic clock."""
        return min((self._deadline(one) for one in self._resumptions.values()), default=inf)

    def holds(self, vm: str) -> bool:
        """Whether this VM is being resumed: no snapshot of it is started meanwhile."""
        return vm in self._resumptions

    def left(self, vm: str) -> Error:
        """The error of a VM that is down because of a checkpoint of ours; empty if it is not, or not any more."""
        if vm in self._vms.down:
            with suppress(Refused, Misunderstood):
                for _ in self._vms.look([vm]):
                    pass
        down = self._vms.down.get(vm)
        return (LEFT_SUSPENDED, down.why) if down is not None else ()

    # A checkpoint

    def begins(self, job: Job) -> None:
        """A checkpoint of a VM is about to start: note whether the VM runs."""
        if self._power_state(job) == "Running":
            self._vms.add(job.uuid, self._clock.now())

    def has_begun(self, job: Job, task: str) -> None:
        """The checkpoint of a VM has been started."""
        if job.uuid in self._vms.notes:
            self._vms.change(self._vms.notes[job.uuid]._replace(task=task))

    def has_ended(self, job: Job, outcome: Outcome) -> bool:
        """The checkpoint of a VM has ended, or was given up. Return whether the VM is being resumed."""
        if job.uuid not in self._vms.notes:
            return False
        if not outcome.error and self._power_state(job) == "Running":
            self._vms.remove(job.uuid)
        else:
            self._see_to([job.uuid])
        return self.holds(job.uuid)

    def _power_state(self, job: Job) -> str:
        try:
            return str(self._context.xapi.call("VM.get_power_state", job.vm))
        except Refused:
            return ""

    # What earlier passes left

    def see_to_earlier(self) -> None:
        """See to the VMs that earlier passes noted."""
        earlier, self._vms.earlier = self._vms.earlier, []
        if earlier:
            self._vms.keep()
            self._see_to(earlier)

    def _see_to(self, vms: List[str]) -> None:
        try:
            for frozen, seen, state in self._vms.look(vms):
                if seen is not None and state == LEFT:
                    self._left(_Resumption(frozen, seen.ref, seen.name, self._clock.monotonic()))
                elif frozen.vm in self._vms.down:
                    self._stays_down(frozen.vm)
        except (Refused, Misunderstood) + MISREAD as error:
            self._log("Whether VMs were left suspended cannot be told: %s" % one_line(str(error), 300))

    def _left(self, one: _Resumption) -> None:
        vm = one.frozen.vm
        if vm in self._vms.tried:
            return
        if not self._settings.resume:
            self._vms.is_down(one.frozen, one.name, "resume = no")
        elif not self._may_start():
            self._vms.is_down(one.frozen, one.name, _OVER)
        else:
            self._vms.tried[vm] = None
            self._resumptions[vm] = one
            self._log("VM %s (%s) was left suspended by its checkpoint: it is resumed" % (vm, one_line(one.name, 100)))
            self._start(one)
            return
        self._stays_down(vm)

    def _stays_down(self, vm: str) -> None:
        down = self._vms.down[vm]
        self._log(
            "VM %s (%s) was left suspended by its checkpoint, and is not resumed: %s"
            % (vm, one_line(down.name, 100), one_line(down.why, 300))
        )

    def _may_start(self) -> bool:
        return not stop.requested() and self._clock.monotonic() < self._context.until

    # The operations

    def step(self, ended: Mapping[str, Outcome]) -> List[str]:
        """Given the tasks that have ended, go on. Return the VMs whose resumption is over, well or not."""
        before = list(self._resumptions)
        for one in list(self._resumptions.values()):
            if one.task and one.task in ended:
                self._ended(one, ended[one.task])
            elif one.task and self._clock.monotonic() >= self._deadline(one):
                self._overdue(one)
            elif not one.task and not self._may_start():
                del self._resumptions[one.frozen.vm]
                self._vms.is_down(one.frozen, one.name, _OVER)
                self._stays_down(one.frozen.vm)
            elif not one.task and self._clock.monotonic() >= one.due:
                self._start(one)
        return [vm for vm in before if vm not in self._resumptions]

    def _start(self, one: _Resumption) -> None:
        self.changed = True
        try:
            # Neither paused, nor without xapi's checks. xapi chooses the host: one that has the memory's storage.
            one.task = self._tasks.start(_RESUME, one.ref, False, False)
        except Refused as refused:
            self._refused(one, refused.error)
            return
        one.due = self._clock.monotonic() + self._settings.resume_limit

    def _ended(self, one: _Resumption, outcome: Outcome) -> None:
        one.task = ""
        if one.cancelled and outcome.error[:1] == ("TASK_CANCELLED",):
            outcome = Outcome(error=self._timed_out())
        if outcome.error:
            self._refused(one, outcome.error)
            return
        del self._resumptions[one.frozen.vm]
        self._log("VM %s (%s) was resumed" % (one.frozen.vm, one_line(one.name, 100)))
        self._vms.was_resumed(one.frozen, one.name)

    def _deadline(self, one: _Resumption) -> float:
        # A cancelled one may still end after the limit of the pass.
        return one.due if one.cancelled else min(one.due, self._context.until)

    def _overdue(self, one: _Resumption) -> None:
        if one.cancelled:
            one.task = ""
            self._failed(one, self._timed_out())
        else:
            one.cancelled = True
            one.due = self._clock.monotonic() + self._settings.cancel_limit
            self._tasks.cancel(one.task)

    def _timed_out(self) -> Error:
        return (TIMED_OUT, _RESUME, "%d s" % self._settings.resume_limit)

    def _refused(self, one: _Resumption, error: Error) -> None:
        """It has failed: try again if something was busy, but not too often."""
        retry = failure_of(error).kind == TRANSIENT and one.retries < self._settings.retries and self._may_start()
        if retry and not one.cancelled:
            one.due = self._clock.monotonic() + self._settings.retry_pause * 2**one.retries
            one.retries += 1
        else:
            self._failed(one, error)

    def _failed(self, one: _Resumption, error: Error) -> None:
        vm = one.frozen.vm
        del self._resumptions[vm]
        text = one_line(" ".join(error), 300)
        for _, _, state in self._vms.look([vm]):
            if state == SETTLED and error[0] == RESULT_LOST:
                self._vms.was_resumed(one.frozen, one.name)
        if vm in self._vms.notes:
            self._vms.is_down(one.frozen, one.name, "%s failed: %s" % (_RESUME, text))
            self._log("%s failed for VM: %s (%s): %s" % (_RESUME, vm, one_line(one.name, 100), text))
