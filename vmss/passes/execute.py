"""Carries out the operations that the engine says may start, and waits for all of them at once."""

from itertools import islice
from typing import Callable, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Set

from vmss.core.engine import Engine
from vmss.core.failures import TRANSIENT, explain
from vmss.core.job import DESTROY_VDI, TAKE_CHECKPOINT, TAKES, ExpiredSnapshot, Operation, already_gone
from vmss.core.outcome import RESULT_LOST, RUN_OVER, TIMED_OUT, Outcome
from vmss.edges import stop
from vmss.edges.clock import Clock
from vmss.edges.settings import Settings
from vmss.edges.xapi import Refused, Tasks, Unanswered, Xapi
from vmss.passes.journal import Entries, Journal

# One wait on events at most, so that a request to stop is seen.
_WAIT_S = 10.0
# VMs whose expired snapshots are recorded together.
_JOBS_AT_ONCE = 300


class Watch(NamedTuple):
    """Who is told, and asked.

    Told: of an operation that starts, of one that ended, of one that is tried again after so many seconds, of a job
    that ended (by its number), of a request to stop. Asked: which of these expired snapshots, and of their disks, are
    not to be destroyed after all; for the snapshot that a job has taken though nobody said so (empty if there is none);
    whether a snapshot whose making was begun before this pass is the one that a job has to take; and to admit further
    jobs, which is answered by the seconds until it has to be asked again.
    """

    started: Callable[[Operation], None]
    ended: Callable[[Operation, Outcome], None]
    again: Callable[[Operation, Outcome, int], None]
    finished: Callable[[int], None]
    spared: Callable[[Sequence[ExpiredSnapshot]], FrozenSet[str]]
    taken: Callable[[int], str]
    serves: Callable[[int, str], bool]
    stopping: Callable[[], None]
    admit: Callable[[], float]


class _Flight:
    """An operation in flight: when it began (None if that was before us) and its task's deadline, both on the
    monotonic clock, and whether it has been cancelled."""

    def __init__(self, operation: Operation, began: Optional[float], deadline: float) -> None:
        self.operation = operation
        self.began = began
        self.deadline = deadline
        self.cancelled = False


class _Record:
    """A record of the journal: the jobs in it that have not ended, and what of theirs could not be destroyed."""

    def __init__(self, jobs: Set[int]) -> None:
        self.jobs = jobs
        self.left: Entries = {}


class Execution:
    """Runs one engine to its end against one session.

    `changed` tells whether anything in the pool was; `lost`, whether the answer to an operation was, which then
    may have been started; `took` gives the seconds that each job's snapshot took.
    """

    def __init__(
        self,
        xapi: Xapi,
        clock: Clock,
        settings: Settings,
        journal: Journal,
        work: Engine,
        names: Dict[int, str],
        under_way: Dict[int, str],
        watch: Watch,
        until: float,
    ) -> None:
        """`names` gives the name of the snapshot that each job takes; `under_way` the task of one that is being
        taken already. `until`, on the monotonic clock, is when the pass has lasted too long."""
        self.changed = False
        self.lost = False
        self.took: Dict[int, float] = {}
        self._clock = clock
        self._settings = settings
        self._journal = journal
        self._engine = work
        self._names = names
        self._under_way = under_way
        self._watch = watch
        self._until = until
        self._over = False  # the pass has lasted too long: nothing is started any more
        self._tasks = Tasks(xapi, clock, settings.waits_per_second)
        self._flights: Dict[str, _Flight] = {}
        self._parked: Dict[Operation, float] = {}  # those that are tried again, and when on the monotonic clock
        self._tries: Dict[Operation, int] = {}
        self._records: Dict[str, _Record] = {}
        self._written: Set[int] = set()  # jobs of which it is recorded what they destroy

    def run(self) -> bool:
        """Carry out everything. Return whether it came to its end: False if we were asked to stop."""
        stop_by: Optional[float] = None
        while True:
            within, started = _WAIT_S, False
            if stop.requested() and stop_by is None:
                stop_by = self._clock.monotonic() + self._settings.stop_limit
                self._watch.stopping()
            if not self._over and self._clock.monotonic() >= self._until:
                self._give_up()
            if stop_by is None:
                within = min(within, self._watch.admit(), self._resume())
                started = self._start_all()
            if not self._flights:
                if stop_by is not None:
                    return self._engine.finished
                if self._engine.finished and self._watch.admit() > 0 and self._engine.finished:
                    return True
                if not started and self._parked:
                    self._clock.sleep(within)
                continue  # what was refused at once has made room for others
            if stop_by is not None and self._clock.monotonic() >= stop_by:
                return False
            self._wait(within, stop_by)

    def adopt(self, key: str, jobs: List[int], undecided: Entries) -> None:
        """Take over a record of an earlier pass: it goes when these jobs have ended, but for what is undecided
        of it."""
        self._records[key] = _Record({job for job in jobs if not self._engine.states[job].done})
        self._records[key].left = undecided
        if jobs or not undecided:
            self._close_record(key)
        else:
            del self._records[key]  # it stays as it is

    def pending(self) -> List[str]:
        """Tasks of ours that have not ended."""
        return list(self._tasks.pending)

    # Operations

    def _start_all(self) -> bool:
        """Start whatever may start, and record what has to be recorded for more to start. Return whether anything
        was."""
        any_started = False
        while True:
            operations = self._engine.start()
            for operation in operations:
                any_started = True
                self._start(operation)
            if operations:
                continue  # what was refused at once has made room for others
            jobs = self._engine.to_record(_JOBS_AT_ONCE)
            if not jobs:
                return any_started
            self._record(jobs)

    def _resume(self) -> float:
        """Let those wait for their turn again whose pause is over. Return the seconds until the next one's is."""
        now = self._clock.monotonic()
        for operation, due in list(self._parked.items()):
            if due <= now:
                del self._parked[operation]
                self._engine.resume(operation)
        return max(0.0, min(self._parked.values()) - now) if self._parked else _WAIT_S

    def _start(self, operation: Operation) -> None:
        if self._over:
            self._end(operation, Outcome(error=(RUN_OVER, "%d s" % self._settings.pass_limit)))
            return
        if operation not in self._tries:
            self._watch.started(operation)
        elif operation.action in TAKES:
            # Whether what was refused had been begun all the same is not always known.
            snapshot = self._watch.taken(operation.job)
            if snapshot:
                self._end(operation, Outcome(value=snapshot))
                return
        params = [operation.ref]
        if operation.action in TAKES:
            params.append(self._names[operation.job])
        self.changed = True
        task = self._under_way.pop(operation.job, "") if operation.action in TAKES else ""
        adopted = bool(task)
        try:
            if task:
                self._tasks.adopt(task, operation.action)
            else:
                task = self._tasks.start(operation.action, *params)
        except Refused as refused:
            self._end(operation, Outcome(error=refused.error))
            return
        except Unanswered:
            self.lost = True
            raise
        now = self._clock.monotonic()
        self._flights[task] = _Flight(operation, None if adopted else now, now + self._limit(operation))

    def _give_up(self) -> None:
        """The pass has lasted too long: what is in flight is overdue, and whatever waits for its turn has failed when
        that comes."""
        self._over = True
        for flight in self._flights.values():
            flight.deadline = min(flight.deadline, self._until)
        for operation in self._parked:
            self._parked[operation] = self._until

    def _limit(self, operation: Operation) -> int:
        if operation.action == TAKE_CHECKPOINT:
            return self._settings.checkpoint_limit
        return self._settings.snapshot_limit if operation.action in TAKES else self._settings.destroy_limit

    def _wait(self, within: float, stop_by: Optional[float]) -> None:
        now = self._clock.monotonic()
        until = min([flight.deadline for flight in self._flights.values()] + [stop_by or now + within])
        ended = self._tasks.wait(min(within, max(0.0, until - now)))
        for task, outcome in ended.items():
            flight = self._flights.pop(task, None)
            if flight is not None:  # else it was given up before
                self._note_duration(flight, outcome)
                if self._came_of_before(flight, outcome):
                    continue
                self._end(flight.operation, self._late(flight, outcome))
        for task, flight in list(self._flights.items()):
            if self._clock.monotonic() >= flight.deadline:
                self._overdue(task, flight)

    def _came_of_before(self, flight: _Flight, outcome: Outcome) -> bool:
        """A snapshot that an earlier pass began may be one of an earlier slot: then this slot's is taken now."""
        operation = flight.operation
        adopted = operation.action in TAKES and flight.began is None and not outcome.error
        if not adopted or self._watch.serves(operation.job, outcome.value):
            return False
        self._engine.park(operation)
        self._engine.resume(operation)
        return True

    def _late(self, flight: _Flight, outcome: Outcome) -> Outcome:
        # Cancelled by us, so the reader should learn why.
        if flight.cancelled and outcome.error[:1] == ("TASK_CANCELLED",):
            return self._timed_out(flight.operation)
        return outcome

    def _overdue(self, task: str, flight: _Flight) -> None:
        """An operation has not ended within its limit: cancel it; if that does not end it either, give it up.

        Given up, it may still end. Its snapshot is then a scheduled one like any other, and the next run
        counts it.
        """
        if not flight.cancelled:
            flight.cancelled = True
            flight.deadline = self._clock.monotonic() + self._settings.cancel_limit
            self._tasks.cancel(task)
        else:
            del self._flights[task]
            self._end(flight.operation, self._timed_out(flight.operation))

    def _try_again(self, operation: Operation, outcome: Outcome) -> bool:
        """Park an operation that was refused for a reason that passes, if it has not been tried too often."""
        tries = self._tries.get(operation, 0)
        if not outcome.error or explain(outcome.error).kind != TRANSIENT or tries >= self._settings.retries:
            return False
        if self._over:
            return False
        pause = self._settings.retry_pause * 2**tries
        self._tries[operation] = tries + 1
        self._parked[operation] = self._clock.monotonic() + pause
        self._engine.park(operation)
        self._watch.again(operation, outcome, pause)
        return True

    def _note_duration(self, flight: _Flight, outcome: Outcome) -> None:
        operation = flight.operation
        if operation.action in TAKES and not outcome.error and flight.began is not None:
            self.took[operation.job] = self._clock.monotonic() - flight.began

    def _timed_out(self, operation: Operation) -> Outcome:
        return Outcome(error=(TIMED_OUT, operation.action, "%d s" % self._limit(operation)))

    def _end(self, operation: Operation, outcome: Outcome) -> None:
        if operation.action in TAKES and outcome.error[:1] in ((RESULT_LOST,), ("CANNOT_CONTACT_HOST",)):
            # Unknown is not failed: the pool is looked at.
            snapshot = self._watch.taken(operation.job)
            outcome = Outcome(value=snapshot) if snapshot else outcome
        if self._try_again(operation, outcome):
            return
        self._watch.ended(operation, outcome)
        self._note_left(operation, outcome)
        finished = self._engine.end(operation, outcome)
        if finished is not None:
            self._finish(finished)

    def _finish(self, job: int) -> None:
        for key in [key for key, record in self._records.items() if job in record.jobs]:
            self._records[key].jobs.discard(job)
            self._close_record(key)
        self._watch.finished(job)

    # The journal

    def _record(self, jobs: Sequence[int]) -> None:
        if not self._written.issuperset(jobs):
            self._write(jobs)
        spared = self._watch.spared([doomed for job in jobs for doomed in self._engine.jobs[job].expired])
        self._engine.recorded(jobs, spared)
        for job in jobs:
            if self._engine.states[job].done:  # all of it was spared
                self._finish(job)

    def _write(self, jobs: Sequence[int]) -> None:
        """Record what these jobs destroy, and others with them whose turn will come: it costs no more, and what
        is recorded of a snapshot says nothing as long as that exists."""
        waiting = (number for number, job in enumerate(self._engine.jobs) if job.expired and not job.recorded)
        others = (number for number in waiting if number not in self._written and number not in jobs)
        together = list(jobs) + list(islice(others, max(0, _JOBS_AT_ONCE - len(jobs))))
        entries = {
            doomed.uuid: [disk.uuid for disk in doomed.disks]
            for job in together
            if job not in self._written
            for doomed in self._engine.jobs[job].expired
        }
        self.changed = True
        self._written.update(together)
        unfinished = {job for job in together if not self._engine.states[job].done}
        for key in self._journal.write(entries):
            self._records[key] = _Record(set(unfinished))

    def _note_left(self, operation: Operation, outcome: Outcome) -> None:
        """Keep in mind what could not be destroyed, or may yet be."""
        if operation.action in TAKES or not outcome.error or already_gone(operation, outcome):
            return
        for doomed in self._engine.jobs[operation.job].expired:
            disks = [disk.uuid for disk in doomed.disks if operation.ref in (disk.ref, doomed.ref)]
            if disks and (operation.action == DESTROY_VDI or outcome.error[0] in (TIMED_OUT, RESULT_LOST)):
                records = (record for record in self._records.values() if operation.job in record.jobs)
                next(records).left.setdefault(doomed.uuid, []).extend(disks)

    def _close_record(self, key: str) -> None:
        """If all jobs of a record have ended, replace it by one of what is left, if anything is."""
        record = self._records[key]
        if not record.jobs:
            del self._records[key]
            self.changed = True
            self._journal.write(record.left)
            self._journal.remove(key)
