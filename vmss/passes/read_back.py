"""New snapshots are read back before they count: until then nothing of their VMs expires.

The word of a task is not enough. What it tells may be nothing, or another object; and an oldest snapshot that was
deleted for it would be lost. Many are read together: when an SR has nothing more to do, or enough of them have come.
"""

from datetime import datetime, timedelta
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

from vmss.core.datetimes import EPOCH
from vmss.core.engine import Engine
from vmss.core.job import Job, Operation
from vmss.core.outcome import SNAPSHOT_MISSING, SNAPSHOT_NOT_READ, SNAPSHOT_UNFIT, Error, Outcome
from vmss.core.read_back import Taken, new_snapshot, reasons
from vmss.core.text import is_reference, one_line
from vmss.core.words import counted
from vmss.edges import storage
from vmss.edges.query import CHUNK
from vmss.edges.taken import can_be_asked_for, count_disks, read_named, read_taken
from vmss.edges.xapi import Misunderstood, Refused
from vmss.passes.context import Context
from vmss.passes.notes import Notes

# The first of those that wait to be read back waits no longer, in seconds: its run should be told.
_WAITS_S = 300.0
# xapi's errors that concern the session, and not the question.
_OF_SESSION = ("SESSION_INVALID", "HOST_IS_SLAVE")


class _Unread(NamedTuple):
    """A snapshot that its task says was taken: the reference that it told, and when, on the monotonic clock."""

    operation: Operation
    told: str
    at: float


class ReadBack:
    """The snapshots of one engine that are to be read back."""

    def __init__(self, context: Context, engine: Engine, notes: Notes) -> None:
        self._context = context
        self._clock = context.clock
        self._engine = engine
        self._notes = notes
        self._unread: List[_Unread] = []
        self._ahead = self._offset()

    def add(self, operation: Operation, outcome: Outcome) -> None:
        """The task of a snapshot says that it was taken."""
        self._engine.taken(operation, outcome)
        self._unread.append(_Unread(operation, outcome.value, self._clock.monotonic()))

    def read(self, at_once: bool = False) -> List[Tuple[Operation, Outcome]]:
        """The outcomes of those that are read back now: all, if it is time, or `at_once`; else none."""
        if not self._unread or not (at_once or self._is_time()):
            return []
        unread, self._unread = self._unread, []
        found: List[Tuple[Operation, Outcome]] = []
        for start in range(0, len(unread), CHUNK):
            found += self._outcomes(unread[start : start + CHUNK])
        for operation, outcome in found:
            job = self._engine.jobs[operation.job]
            self._notes.ended(job.uuid, self._clock.now(), outcome)
            if outcome.error:
                self._context.log(
                    "The snapshot of VM %s (%s) does not count, and nothing of the VM expires for it: %s"
                    % (job.uuid, one_line(job.name, 100), one_line(" ".join(outcome.error), 1000))
                )
        return found

    def _is_time(self) -> bool:
        if len(self._unread) >= CHUNK or not self._engine.taking:
            return True
        if self._clock.monotonic() >= self._unread[0].at + _WAITS_S:
            return True
        # An SR has nothing else to do: of what is on it something may expire, or a run be over.
        return self._engine.idle({token for one in self._unread for token in one.operation.tokens})

    def _outcomes(self, unread: Sequence[_Unread]) -> Iterator[Tuple[Operation, Outcome]]:
        try:
            outcomes = self._look(unread)
        except (Refused, Misunderstood) as error:
            if isinstance(error, Refused) and error.code in _OF_SESSION:
                raise
            if len(unread) > 1:  # read one by one, it shows which of them is concerned
                for one in unread:
                    yield from self._outcomes([one])
                return
            outcomes = [Outcome(error=(SNAPSHOT_NOT_READ, one_line(str(error), 300)))]
        for one, outcome in zip(unread, outcomes):
            yield one.operation, outcome

    def _look(self, unread: Sequence[_Unread]) -> List[Outcome]:
        jobs = [self._engine.jobs[one.operation.job] for one in unread]
        names = sorted({job.label for job in jobs if can_be_asked_for(job.label)})
        found = self._new(unread, names) if names else {}
        missing = [one for one in unread if one not in found]
        if missing:  # of another name, given by an earlier pass or by somebody else
            found.update(self._new(missing, []))
        counts = count_disks(self._context.xapi, list(found.values()))
        return [
            self._judged(one, found[one], counts[found[one].ref]) if one in found else Outcome(error=self._why(one))
            for one in unread
        ]

    def _new(self, unread: Sequence[_Unread], names: Sequence[str]) -> Dict[_Unread, Taken]:
        """The new snapshot of each of these VMs that has one, with one of these names, or with any."""
        jobs = {one: self._engine.jobs[one.operation.job] for one in unread}
        snapshots = read_taken(self._context.xapi, [job.vm for job in jobs.values()], names)
        found = {}
        for one, job in jobs.items():
            mine = snapshots.get(job.vm, {})
            new = new_snapshot(one.told, mine, job, self._since(job))
            if new:
                found[one] = mine[new]
        return found

    def _judged(self, one: _Unread, new: Taken, disks: int) -> Outcome:
        """The outcome, given the new snapshot, and of how many of its disks it is proven that they exist."""
        job = self._engine.jobs[one.operation.job]
        if disks < job.disks:  # asked one by one: somebody may have one of them already, or have taken one off the VM
            read = storage.read_disks(self._context.xapi, [new.ref, job.vm])
            if new.ref in read.misread:
                return Outcome(error=(SNAPSHOT_NOT_READ, read.misread[new.ref]))
            disks, wanted = len(read.of.get(new.ref, ())), job.disks
            if job.vm not in read.misread:
                wanted = min(wanted, len(read.of.get(job.vm, ())))
            if disks < wanted:
                return Outcome(error=(SNAPSHOT_UNFIT, new.uuid, "it has %d of %s" % (disks, counted(wanted, "disk"))))
        if new.memory and not storage.read_disk(self._context.xapi, new.memory):
            return Outcome(error=(SNAPSHOT_UNFIT, new.uuid, "its memory is missing"))
        return Outcome(value=new.ref)

    def _why(self, one: _Unread) -> Error:
        """Why there is no new snapshot that could count."""
        job = self._engine.jobs[one.operation.job]
        named = read_named(self._context.xapi, one.told) if is_reference(one.told) else None
        if named is None:
            return (SNAPSHOT_MISSING, job.take, "its task tells nothing that exists")
        for reason in reasons(named, job, self._since(job)):
            return (SNAPSHOT_MISSING, job.take, reason)
        if not named.marked:
            return (SNAPSHOT_UNFIT, named.uuid, "it is not marked as scheduled")
        return (SNAPSHOT_NOT_READ, "the record of snapshot %s cannot be understood" % named.uuid)

    # The time

    def _since(self, job: Job) -> datetime:
        """The time that the new snapshot of a job may have at the earliest, by the clock as it is now."""
        begun = job.slot if job.task or job.there else job.since  # an earlier pass may have started it
        return begun - max(timedelta(0), self._ahead - self._offset())

    def _offset(self) -> timedelta:
        """By how much the clock is ahead of the monotonic one. If it is set back, this becomes less."""
        return self._clock.now() - EPOCH - timedelta(seconds=self._clock.monotonic())
