"""Carries out the operations that the engine says may start, and waits for all of them at once."""
from typing import Callable, Dict, List, NamedTuple, Optional, Set

from vmss import engine, stop
from vmss.clock import Clock
from vmss.engine import Engine, Operation, Outcome
from vmss.failures import TIMED_OUT
from vmss.journal import RECORD_MAX, Journal
from vmss.settings import Settings
from vmss.xapi import Refused, Tasks, Xapi

TAKES = (engine.TAKE_SNAPSHOT, engine.TAKE_QUIESCED, engine.TAKE_CHECKPOINT)

# One wait on events at most, so that a request to stop is seen; and how long a cancelled task may take to end.
_WAIT_S = 10.0
_CANCEL_S = 30.0


class Observer(NamedTuple):
    """Who is told: of an operation that starts, of one that ended, of a job that ended (by its number)."""

    started: Callable[[Operation], None]
    ended: Callable[[Operation, Outcome], None]
    finished: Callable[[int], None]


class _Flight:
    """An operation in flight: its task's deadline on the monotonic clock, and whether it has been cancelled."""

    def __init__(self, operation: Operation, deadline: float) -> None:
        self.operation = operation
        self.deadline = deadline
        self.cancelled = False


class Execution:
    """Runs one engine to its end against one session."""

    def __init__(
        self, xapi: Xapi, clock: Clock, settings: Settings, journal: Journal, work: Engine,
        names: Dict[int, str], under_way: Dict[int, str], observer: Observer,
    ) -> None:
        """`names` gives the name of the snapshot that each job takes; `under_way` the task of one that is being
        taken already."""
        self._xapi = xapi
        self._clock = clock
        self._settings = settings
        self._journal = journal
        self._engine = work
        self._names = names
        self._under_way = under_way
        self._observer = observer
        self._tasks = Tasks(xapi, clock)
        self._flights: Dict[str, _Flight] = {}
        self._records: Dict[str, Set[int]] = {}  # jobs in each record of the journal that have not ended
        self._spoiled: Set[str] = set()  # records of which something could not be destroyed
        self.changed = False

    def run(self) -> bool:
        """Carry out everything. Return whether it came to its end: False if we were asked to stop."""
        stop_by: Optional[float] = None
        while True:
            if stop.requested() and stop_by is None:
                stop_by = self._clock.monotonic() + self._settings.stop_limit
            if stop_by is None:
                self._record()
                for operation in self._engine.start():
                    self._start(operation)
            if not self._flights:
                # What was refused at once has made room for others.
                if self._engine.finished or stop_by is not None:
                    return self._engine.finished
                continue
            if stop_by is not None and self._clock.monotonic() >= stop_by:
                return False
            self._wait(stop_by)

    def adopt(self, key: str, jobs: List[int]) -> None:
        """Take over a record of an earlier pass: it goes when these jobs have ended well."""
        self._records[key] = {job for job in jobs if not self._engine.states[job].done}
        if not self._records[key]:
            self._close_record(key)

    def pending_snapshots(self) -> List[str]:
        """Tasks that still take a snapshot, which needs our session to be marked as a scheduled one."""
        return [task for task, method in self._tasks.pending.items() if method in TAKES]

    def _start(self, operation: Operation) -> None:
        self._observer.started(operation)
        params = [operation.ref]
        if operation.action in TAKES:
            params.append(self._names[operation.job])
        self.changed = True
        task = self._under_way.pop(operation.job, "") if operation.action in TAKES else ""
        try:
            if task:
                self._tasks.adopt(task, operation.action)
            else:
                task = self._tasks.start(operation.action, *params)
        except Refused as refused:
            self._end(operation, Outcome(error=refused.error))
            return
        self._flights[task] = _Flight(operation, self._clock.monotonic() + self._limit(operation))

    def _limit(self, operation: Operation) -> int:
        if operation.action == engine.TAKE_CHECKPOINT:
            return self._settings.checkpoint_limit
        return self._settings.snapshot_limit if operation.action in TAKES else self._settings.destroy_limit

    def _wait(self, stop_by: Optional[float]) -> None:
        now = self._clock.monotonic()
        until = min([flight.deadline for flight in self._flights.values()] + [stop_by or now + _WAIT_S])
        ended = self._tasks.wait(min(_WAIT_S, max(0.0, until - now)))
        for task, outcome in ended.items():
            flight = self._flights.pop(task, None)
            if flight is not None:  # else it was given up before
                self._end(flight.operation, self._late(flight, outcome))
        for task, flight in list(self._flights.items()):
            if self._clock.monotonic() >= flight.deadline:
                self._overdue(task, flight)

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
            flight.deadline = self._clock.monotonic() + _CANCEL_S
            self._tasks.cancel(task)
        else:
            del self._flights[task]
            self._end(flight.operation, self._timed_out(flight.operation))

    def _timed_out(self, operation: Operation) -> Outcome:
        return Outcome(error=(TIMED_OUT, operation.action, "%d s" % self._limit(operation)))

    def _end(self, operation: Operation, outcome: Outcome) -> None:
        self._observer.ended(operation, outcome)
        finished = self._engine.end(operation, outcome)
        if finished is not None:
            for key in [key for key, jobs in self._records.items() if finished in jobs]:
                self._records[key].discard(finished)
                if self._engine.states[finished].error:
                    self._spoiled.add(key)
                if not self._records[key]:
                    self._close_record(key)
            self._observer.finished(finished)

    def _record(self) -> None:
        while True:
            jobs = self._engine.to_record(RECORD_MAX)
            if not jobs:
                return
            key = self._journal.write([doomed for job in jobs for doomed in self._engine.jobs[job].expired])
            self._records[key] = set(jobs)
            self.changed = True
            self._engine.recorded(jobs)

    def _close_record(self, key: str) -> None:
        del self._records[key]
        if key not in self._spoiled:
            self._journal.remove(key)
            self.changed = True
