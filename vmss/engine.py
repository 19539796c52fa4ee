"""The state machine of a pass: which XAPI operation may start next, and what a finished one leads to.

A job is one VM of one due policy: wait for its turn, take the snapshot, then destroy each expired snapshot with
its disks. The engine is told what has finished and answers what to start; it has no clock, no I/O and no
thread, so that a run can be repeated exactly and tested by the million.

Limits are tokens. An operation takes the tokens it needs when it starts and gives them back when it ends: one
for every SR it touches (xapi runs one storage operation per SR at a time, pool-wide), one for the host that a
checkpoint runs on, and one of a number for the whole pool.

Rules of order:

- Snapshots go before deletions on an SR: what matters to users is how close to its slot the data was frozen.
- The SR with most work left goes first, so that the pass ends when its busiest SR does.
- Nothing of an expired snapshot is destroyed before the VM's new one exists, and before it has been recorded
  what is going to be destroyed (`to_record`, `recorded`).
"""
from collections import deque
from typing import Deque, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

# What an operation does to its object; the object is a VM, a snapshot or a VDI.
TAKE_SNAPSHOT = "VM.snapshot"
TAKE_QUIESCED = "VM.snapshot_with_quiesce"
TAKE_CHECKPOINT = "VM.checkpoint"
SHUT_DOWN = "VM.hard_shutdown"
DESTROY_VM = "VM.destroy"
DESTROY_VDI = "VDI.destroy"

Error = Tuple[str, ...]


class Disk(NamedTuple):
    """A VDI of an expired snapshot."""

    ref: str
    uuid: str
    sr: str


class Doomed(NamedTuple):
    """An expired snapshot and the disks that go with it. `ref` is empty where only the disks are left."""

    ref: str
    uuid: str
    suspended: bool
    disks: Tuple[Disk, ...]


class Job(NamedTuple):
    """One VM of one due policy. `take` is empty for a VM that has its snapshot of the slot already.

    `tokens` are those of the snapshot: references of SRs and, for a checkpoint, of a host. `work` is the
    number of disk operations the snapshot makes on each SR. `recorded`: what expires stands recorded already,
    by a pass that did not come to its end.
    """

    policy: str
    vm: str
    uuid: str
    name: str
    take: str
    tokens: FrozenSet[str]
    work: Tuple[Tuple[str, int], ...]
    expired: Tuple[Doomed, ...] = ()
    recorded: bool = False


class Operation(NamedTuple):
    """One XAPI operation of a job that may start now."""

    job: int
    action: str
    ref: str
    tokens: FrozenSet[str]


class Outcome(NamedTuple):
    """How an operation ended: `error` is XAPI's error array, empty on success; `value` what it returned."""

    value: str = ""
    error: Error = ()


def already_gone(operation: Operation, outcome: Outcome) -> bool:
    """Whether what was to be destroyed was gone already, which is as good: somebody else was faster, or a
    checkpoint's memory went when it was shut down."""
    error = outcome.error
    return (
        operation.action in (SHUT_DOWN, DESTROY_VM, DESTROY_VDI)
        and error[:1] in (("HANDLE_INVALID",), ("VDI_MISSING",)) and operation.ref in error
    )


class State(NamedTuple):
    """What is known of a job. `snapshot` is the new snapshot's reference; `error` the first error that the job
    met; `destroyed` the number of expired snapshots that are gone with all their disks; `degraded`: the
    snapshot was to be quiesced and is not."""

    snapshot: str = ""
    error: Error = ()
    destroyed: int = 0
    degraded: bool = False
    done: bool = False


class _Deletion:
    """How far the deletion of one job's expired snapshots has come."""

    def __init__(self, doomed: Sequence[Doomed]) -> None:
        self.left: Deque[Doomed] = deque(doomed)
        self.disks: Set[str] = set()  # of the current one, not yet destroyed


class Engine:
    """Given the jobs of a pass and the number of operations that may run at once, says what to start.

    `plain_instead`: where the server turns out to have no quiesced snapshots, plain ones are taken.
    """

    def __init__(self, jobs: Sequence[Job], operations_max: int, plain_instead: bool = True) -> None:
        self.jobs = list(jobs)
        self.states: List[State] = [State() for _ in jobs]
        self._operations_max = operations_max
        self._plain_instead = plain_instead
        self._running: Set[Operation] = set()
        self._taken: Set[str] = set()  # tokens of running operations
        # Operations that wait for their turn, by the SR that leads them; "" for those that touch none.
        self._snapshots: Dict[str, Deque[Operation]] = {}
        self._deletions: Dict[str, Deque[Operation]] = {}
        self._expiring: Dict[int, _Deletion] = {}
        self._unrecorded: Dict[int, None] = {}  # jobs in the order they came to expire
        self._may_record = False
        self._unfinished = len(self.jobs)
        self._work: Dict[str, int] = {}
        for job in self.jobs:
            for sr, disks in job.work:
                self._work[sr] = self._work.get(sr, 0) + disks
            for disk in _disks(job.expired):
                self._work[disk.sr] = self._work.get(disk.sr, 0) + 1
        for number, job in enumerate(self.jobs):
            if job.take:
                self._queue(self._snapshots, Operation(number, job.take, job.vm, job.tokens))
            else:
                self._expire(number)

    @property
    def running(self) -> FrozenSet[Operation]:
        return frozenset(self._running)

    @property
    def finished(self) -> bool:
        """Whether every job has ended."""
        return self._unfinished == 0

    def start(self) -> List[Operation]:
        """The operations that may start now. They count as running until `end` is told of them."""
        started: List[Operation] = []
        while len(self._running) < self._operations_max:
            operation = self._next(self._snapshots) or self._next(self._deletions)
            if operation is None:
                break
            self._running.add(operation)
            self._taken |= operation.tokens
            started.append(operation)
        return started

    def end(self, operation: Operation, outcome: Outcome) -> Optional[int]:
        """Take in how a running operation ended. Return its job's number if that ended the job."""
        self._running.remove(operation)
        self._taken -= operation.tokens
        before = self.states[operation.job]
        if operation.action in (TAKE_SNAPSHOT, TAKE_QUIESCED, TAKE_CHECKPOINT):
            self._taken_or_failed(operation, outcome)
        else:
            self._destroyed_or_failed(operation, outcome)
        return operation.job if self.states[operation.job].done and not before.done else None

    # What is to be destroyed, before it is

    def to_record(self, most: int) -> List[int]:
        """The jobs, at most `most`, whose deletions wait only for a record of what they destroy.

        None as long as snapshots are waiting that are led by the same SRs: so one record serves many jobs, and
        no SR is left idle for a VM that waits for another.
        """
        if not self._may_record:
            return []
        ready = [number for number in self._unrecorded if self._drained(number)]
        self._may_record = len(ready) > most
        return ready[:most]

    def recorded(self, jobs: Sequence[int], spared: FrozenSet[str] = frozenset()) -> None:
        """Be told that what these jobs destroy stands in the pool's database now: all of it but `spared`, which
        are disks that others have taken into use since they were read, and snapshots that were pinned."""
        for number in jobs:
            del self._unrecorded[number]
            deletion = self._expiring[number]
            before = tuple(deletion.left)
            deletion.left = deque(
                doomed._replace(disks=tuple(disk for disk in doomed.disks if disk.ref not in spared))
                for doomed in before if doomed.ref not in spared
            )
            kept = {disk.ref for disk in _disks(tuple(deletion.left))}
            self._done_with((disk.sr, 1) for disk in _disks(before) if disk.ref not in kept)
            self._next_doomed(number)

    # Inside

    def _queue(self, queues: Dict[str, Deque[Operation]], operation: Operation) -> None:
        srs = [token for token in operation.tokens if token in self._work]
        lead = max(srs, key=lambda sr: (self._work[sr], sr)) if srs else ""
        queues.setdefault(lead, deque()).append(operation)

    def _next(self, queues: Dict[str, Deque[Operation]]) -> Optional[Operation]:
        # Those that touch no SR first: they cost nothing, and storage work waits for them.
        for lead in sorted(queues, key=lambda sr: (sr != "", -self._work.get(sr, 0))):
            if lead in self._taken:
                continue
            queue = queues[lead]
            for operation in queue:
                if not operation.tokens & self._taken:
                    queue.remove(operation)
                    if not queue:
                        del queues[lead]
                        self._may_record = True
                    return operation
        return None

    def _done_with(self, work: Iterator[Tuple[str, int]]) -> None:
        for sr, disks in work:
            self._work[sr] -= disks

    def _taken_or_failed(self, operation: Operation, outcome: Outcome) -> None:
        job, number = self.jobs[operation.job], operation.job
        if operation.action == TAKE_QUIESCED and outcome.error[:1] == ("MESSAGE_REMOVED",):
            if self._plain_instead:
                self._without_quiesce(operation)
                return
            outcome = Outcome(error=("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", job.vm))
        self._done_with(iter(job.work))
        if outcome.error:
            # Without a new snapshot nothing of this VM is deleted.
            self._done_with((disk.sr, 1) for disk in _disks(job.expired))
            self._update(number, error=outcome.error, done=True)
        else:
            self._update(number, snapshot=outcome.value)
            self._expire(number)

    def _without_quiesce(self, refused: Operation) -> None:
        """The server has no quiescing any more: plain snapshots for this VM and all that wait."""
        waiting = [refused]
        for lead in list(self._snapshots):
            quiesced = [item for item in self._snapshots[lead] if item.action == TAKE_QUIESCED]
            waiting.extend(quiesced)
            self._snapshots[lead] = deque(item for item in self._snapshots[lead] if item.action != TAKE_QUIESCED)
            if not self._snapshots[lead]:
                del self._snapshots[lead]
        for item in waiting:
            self._update(item.job, degraded=True)
            self._queue(self._snapshots, item._replace(action=TAKE_SNAPSHOT))

    def _expire(self, number: int) -> None:
        job = self.jobs[number]
        if not job.expired:
            self._update(number, done=True)
            return
        self._expiring[number] = _Deletion(job.expired)
        if job.recorded:
            self._next_doomed(number)
        else:
            self._unrecorded[number] = None
            self._may_record = self._may_record or self._drained(number)

    def _drained(self, number: int) -> bool:
        """Whether no snapshot waits that is led by an SR which this job's deletions need."""
        return not any(disk.sr in self._snapshots for disk in _disks(self.jobs[number].expired))

    def _next_doomed(self, number: int) -> None:
        """Start on the oldest expired snapshot that is left, or end the job."""
        deletion = self._expiring[number]
        if not deletion.left:
            self._finish(number)
            return
        doomed = deletion.left[0]
        deletion.disks = {disk.ref for disk in doomed.disks}
        if doomed.suspended:
            # A checkpoint's snapshot is Suspended: its memory image has to go before the record can.
            tokens = frozenset(disk.sr for disk in doomed.disks)
            self._queue(self._deletions, Operation(number, SHUT_DOWN, doomed.ref, tokens))
        elif doomed.ref:
            # VM.destroy touches no storage.
            self._queue(self._deletions, Operation(number, DESTROY_VM, doomed.ref, frozenset()))
        else:
            self._destroy_disks(number)

    def _destroy_disks(self, number: int) -> None:
        deletion = self._expiring[number]
        for disk in deletion.left[0].disks:
            self._queue(self._deletions, Operation(number, DESTROY_VDI, disk.ref, frozenset([disk.sr])))
        if not deletion.disks:
            self._doomed_is_gone(number)

    def _destroyed_or_failed(self, operation: Operation, outcome: Outcome) -> None:
        number = operation.job
        deletion = self._expiring[number]
        error = () if already_gone(operation, outcome) else outcome.error
        if error and operation.action == DESTROY_VM and error[0] == "OPERATION_BLOCKED":
            # Pinned since it was read: it stays, whole, and is no failure.
            self._done_with((disk.sr, 1) for disk in deletion.left.popleft().disks)
            self._next_doomed(number)
        elif operation.action == DESTROY_VDI:
            self._done_with((disk.sr, 1) for disk in deletion.left[0].disks if disk.ref == operation.ref)
            deletion.disks.discard(operation.ref)
            if error:
                self._note(number, error)
            if not deletion.disks:
                self._doomed_is_gone(number)
        elif error:
            # The snapshot is still there; it and the younger ones are left to the policy's next run.
            self._note(number, error)
            self._finish(number)
        elif operation.action == SHUT_DOWN:
            self._queue(self._deletions, Operation(number, DESTROY_VM, operation.ref, frozenset()))
        else:
            self._destroy_disks(number)

    def _doomed_is_gone(self, number: int) -> None:
        deletion = self._expiring[number]
        deletion.left.popleft()
        if self.states[number].error:
            # A disk would not go. What was recorded of it is finished by the next pass.
            self._finish(number)
        else:
            self._update(number, destroyed=self.states[number].destroyed + 1)
            self._next_doomed(number)

    def _finish(self, number: int) -> None:
        self._done_with((disk.sr, 1) for disk in _disks(tuple(self._expiring.pop(number).left)))
        self._update(number, done=True)

    def _note(self, number: int, error: Error) -> None:
        if not self.states[number].error:
            self._update(number, error=error)

    def _update(self, number: int, **changes: object) -> None:
        self.states[number] = self.states[number]._replace(**changes)  # type: ignore[arg-type]
        if changes.get("done"):
            self._unfinished -= 1


def _disks(doomed: Sequence[Doomed]) -> Iterator[Disk]:
    for snapshot in doomed:
        yield from snapshot.disks
