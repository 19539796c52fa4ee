"""The state machine of a pass: which XAPI operation may start next, and what a finished one leads to.

A job is one VM of one due policy: wait for its turn, take the snapshot, then destroy each expired snapshot with
its disks. The engine is told what has finished and answers what to start; it has no clock, no I/O and no
thread, so that a run can be repeated exactly and tested by the million.

Limits are tokens. An operation takes the tokens it needs when it starts and gives them back when it ends: one
for every SR it touches (xapi runs one storage operation per SR at a time, pool-wide), one for the host that a
checkpoint runs on, and one of a number for the whole pool.

Rules of order:

- Whatever could start within the limits starts. An operation that lacks a token keeps the others from nobody; so
  one that needs several has to find them free together, and is tried first whenever they are.
- Snapshots go before deletions: what matters to users is how close to its slot the data was frozen. Deletions fill
  what snapshots leave idle. On a tight SR, one with too little room for the snapshots that it is to take, it is the
  other way round: what expires makes room.
- The SR or host with most work left goes first, so that the pass ends when the busiest of them does.
- Nothing of an expired snapshot is destroyed before the VM's new one exists, and before it has been recorded
  what is going to be destroyed (`to_record`, `recorded`).
"""

from collections import deque
from itertools import islice
from typing import Deque, Dict, FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core.outcome import Error, Outcome

# What an operation does to its object; the object is a VM, a snapshot or a VDI.
TAKE_SNAPSHOT = "VM.snapshot"
TAKE_QUIESCED = "VM.snapshot_with_quiesce"
TAKE_CHECKPOINT = "VM.checkpoint"
SHUT_DOWN = "VM.hard_shutdown"
DESTROY_VM = "VM.destroy"
DESTROY_VDI = "VDI.destroy"
TAKES = (TAKE_SNAPSHOT, TAKE_QUIESCED, TAKE_CHECKPOINT)

# What the destruction of a disk is taken to last, in seconds; the order of magnitude matters, beside that of snapshots.
DESTROY_SECONDS = 1.0

Tokens = FrozenSet[str]


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

    `tokens` are those of the snapshot: references of SRs and, for a checkpoint, of a host. `seconds` is how long
    the snapshot may be expected to take. `recorded`: what expires stands recorded already, by a pass that did not
    come to its end.
    """

    policy: str
    vm: str
    uuid: str
    name: str
    take: str
    tokens: Tokens
    seconds: float
    expired: Tuple[Doomed, ...] = ()
    recorded: bool = False


class Operation(NamedTuple):
    """One XAPI operation of a job that may start now."""

    job: int
    action: str
    ref: str
    tokens: Tokens


def already_gone(operation: Operation, outcome: Outcome) -> bool:
    """Whether what was to be destroyed was gone already, which is as good: somebody else was faster, or a
    checkpoint's memory went when it was shut down."""
    error = outcome.error
    if operation.action == SHUT_DOWN and error[:2] == ("VM_BAD_POWER_STATE", operation.ref):
        # A pass that was killed had begun it, and it ended while ours waited behind it.
        return error[-1] == "halted"
    return (
        operation.action in (SHUT_DOWN, DESTROY_VM, DESTROY_VDI)
        and error[:1] in (("HANDLE_INVALID",), ("VDI_MISSING",))
        and operation.ref in error
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


class _Waiting:
    """Operations that wait for their turn. Those that need the same tokens form a line."""

    def __init__(self) -> None:
        self.lines: Dict[Tokens, Deque[Operation]] = {}
        self._by_token: Dict[str, Dict[Tokens, None]] = {}  # the lines that need a token, in a stable order

    def __bool__(self) -> bool:
        return bool(self.lines)

    def wants(self, token: str) -> bool:
        """Whether anything that waits needs this token."""
        return token in self._by_token

    def add(self, operation: Operation) -> None:
        line = self.lines.get(operation.tokens)
        if line is None:
            line = self.lines[operation.tokens] = deque()
            for token in operation.tokens:
                self._by_token.setdefault(token, {})[operation.tokens] = None
        line.append(operation)

    def take(self, tokens: Tokens) -> Operation:
        """The first of a line, which leaves it."""
        operation = self.lines[tokens].popleft()
        if not self.lines[tokens]:
            self._close(tokens)
        return operation

    def remove_all(self, action: str) -> List[Operation]:
        """All operations of a kind, which leave their lines."""
        removed: List[Operation] = []
        for tokens, line in list(self.lines.items()):
            removed.extend(operation for operation in line if operation.action == action)
            self.lines[tokens] = deque(operation for operation in line if operation.action != action)
            if not self.lines[tokens]:
                self._close(tokens)
        return removed

    def free(self, tokens: Iterable[str], taken: Set[str]) -> Iterator[Tokens]:
        """The lines that need at least one of these tokens and none that is taken; and the one that needs none."""
        if frozenset() in self.lines:
            yield frozenset()
        seen: Set[Tokens] = set()
        for token in tokens:
            for line in self._by_token.get(token, ()):
                if line not in seen and line.isdisjoint(taken):
                    seen.add(line)
                    yield line

    def _close(self, tokens: Tokens) -> None:
        del self.lines[tokens]
        for token in tokens:
            del self._by_token[token][tokens]
            if not self._by_token[token]:
                del self._by_token[token]


class Engine:
    """Given jobs and the number of operations that may run at once, says what to start.

    `plain_instead`: where the server turns out to have no quiesced snapshots, plain ones are taken.
    """

    def __init__(self, operations_max: int, plain_instead: bool = True) -> None:
        self.jobs: List[Job] = []
        self.states: List[State] = []
        self._operations_max = operations_max
        self._plain_instead = plain_instead
        self._running: Set[Operation] = set()
        self._taken: Set[str] = set()  # tokens of running operations
        self._stirred: Dict[str, None] = {}  # tokens with which something may start that could not before
        self._snapshots = _Waiting()
        self._deletions = _Waiting()
        self._expiring: Dict[int, _Deletion] = {}
        # Jobs that have come to expire and are not recorded, by the SRs of what they destroy; "" for no disk.
        self._unrecorded: Dict[str, Dict[int, None]] = {}
        self._unfinished = 0
        self._work: Dict[str, float] = {}  # expected seconds that are left, by token
        self._tight: Set[str] = set()

    def add(self, jobs: Sequence[Job], tight: Iterable[str] = ()) -> List[int]:
        """Take further jobs in hand, and return their numbers; `tight` are SRs with too little room for what they are
        to take."""
        first = len(self.jobs)
        self.jobs.extend(jobs)
        self.states.extend(State() for _ in jobs)
        self._unfinished += len(jobs)
        self._tight.update(tight)
        for job in jobs:
            self._expect((token, job.seconds) for token in (job.tokens if job.take else ()))
            self._expect((disk.sr, DESTROY_SECONDS) for disk in _disks(job.expired))
        for number, job in enumerate(jobs, first):
            if job.take:
                self._queue(self._snapshots, Operation(number, job.take, job.vm, job.tokens))
            else:
                self._expire(number)
        return list(range(first, len(self.jobs)))

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
        for waiting, tokens in self._candidates():
            while tokens in waiting.lines and tokens.isdisjoint(self._taken):
                if len(self._running) >= self._operations_max:
                    return started  # what is stirred stays so
                operation = waiting.take(tokens)
                self._running.add(operation)
                self._taken |= tokens
                started.append(operation)
        self._stirred.clear()
        return started

    def end(self, operation: Operation, outcome: Outcome) -> Optional[int]:
        """Take in how a running operation ended. Return its job's number if that ended the job."""
        self._running.remove(operation)
        self._taken -= operation.tokens
        self._stirred.update(dict.fromkeys(sorted(operation.tokens)))
        before = self.states[operation.job]
        if operation.action in TAKES:
            self._taken_or_failed(operation, outcome)
        else:
            self._destroyed_or_failed(operation, outcome)
        return operation.job if self.states[operation.job].done and not before.done else None

    def park(self, operation: Operation) -> None:
        """A running operation was refused for a reason that passes. Its tokens are free for others until it is
        resumed."""
        self._running.remove(operation)
        self._taken -= operation.tokens
        self._stirred.update(dict.fromkeys(sorted(operation.tokens)))

    def resume(self, operation: Operation) -> None:
        """Let an operation that was parked wait for its turn again."""
        self._queue(self._snapshots if operation.action in TAKES else self._deletions, operation)

    # What is to be destroyed, before it is

    def to_record(self, most: int) -> List[int]:
        """After `start`: the jobs, at most `most`, whose deletions wait only for a record of what they destroy.

        None as long as snapshots wait for all SRs that they need and keep them busy: so one record serves many
        jobs, and no SR is left idle.
        """
        if not self._unrecorded or len(self._running) >= self._operations_max:
            return []
        if not any(self._may_delete(sr) for sr in self._unrecorded):
            return []
        # The others too: a record costs the same for one job and for many.
        ready = dict.fromkeys(
            number
            for sr in sorted(self._unrecorded, key=lambda sr: not self._may_delete(sr))
            for number in islice(self._unrecorded[sr], most)
        )
        return list(islice(ready, most))

    def recorded(self, jobs: Sequence[int], spared: FrozenSet[str] = frozenset()) -> None:
        """Be told that what these jobs destroy stands in the pool's database now: all of it but `spared`, which
        are disks that others have taken into use since they were read, and snapshots that were pinned."""
        for number in jobs:
            for sr in self._srs_of_expired(number):
                del self._unrecorded[sr][number]
                if not self._unrecorded[sr]:
                    del self._unrecorded[sr]
            deletion = self._expiring[number]
            before = tuple(deletion.left)
            deletion.left = deque(
                doomed._replace(disks=tuple(disk for disk in doomed.disks if disk.ref not in spared))
                for doomed in before
                if doomed.ref not in spared
            )
            kept = {disk.ref for disk in _disks(tuple(deletion.left))}
            self._gone(disk for disk in _disks(before) if disk.ref not in kept)
            self._next_doomed(number)

    # Inside

    def _candidates(self) -> List[Tuple[_Waiting, Tokens]]:
        """The lines whose first may start as far as is known now, in the order in which they are to be asked."""
        snapshots = [(1, self._urgency(tokens), tokens) for tokens in self._snapshots.free(self._stirred, self._taken)]
        deletions = [
            (2 if tokens.isdisjoint(self._tight) else 0, self._urgency(tokens), tokens)
            for tokens in self._deletions.free(self._stirred, self._taken)
        ]
        ranked = sorted(snapshots + deletions, key=lambda entry: entry[:2])
        return [(self._snapshots if rank == 1 else self._deletions, tokens) for rank, _, tokens in ranked]

    def _urgency(self, tokens: Tokens) -> List[float]:
        """A line's place among those of its kind, lower ones first: by the work that is left for its busiest token,
        then for the next. What needs several goes before what needs some of them, for it does not often find them
        all free; and what needs none before all, for it is over soon and storage work waits for it."""
        return sorted(-self._work[token] for token in tokens) + [0.0] if tokens else []

    def _queue(self, waiting: _Waiting, operation: Operation) -> None:
        waiting.add(operation)
        self._stirred.update(dict.fromkeys(sorted(operation.tokens)))

    def _may_delete(self, sr: str) -> bool:
        """Whether deletions on an SR would hold no snapshot back: none waits for it; or those that do cannot
        start, for it is idle; or it is tight."""
        if not sr:
            return not self._snapshots
        return not self._snapshots.wants(sr) or sr not in self._taken or sr in self._tight

    def _expect(self, work: Iterable[Tuple[str, float]]) -> None:
        for token, seconds in work:
            self._work[token] = self._work.get(token, 0.0) + seconds

    def _gone(self, disks: Iterable[Disk]) -> None:
        """These disks are no work any more."""
        self._expect((disk.sr, -DESTROY_SECONDS) for disk in disks)

    def _taken_or_failed(self, operation: Operation, outcome: Outcome) -> None:
        job, number = self.jobs[operation.job], operation.job
        if operation.action == TAKE_QUIESCED and outcome.error[:1] == ("MESSAGE_REMOVED",):
            if self._plain_instead:
                self._without_quiesce(operation)
                return
            outcome = Outcome(error=("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", job.vm))
        self._expect((token, -job.seconds) for token in job.tokens)
        if outcome.error:
            # Without a new snapshot nothing of this VM is deleted.
            self._gone(_disks(job.expired))
            self._update(number, error=outcome.error, done=True)
        else:
            self._update(number, snapshot=outcome.value)
            self._expire(number)

    def _without_quiesce(self, refused: Operation) -> None:
        """The server has no quiescing any more: plain snapshots for this VM and all that wait."""
        for item in [refused] + self._snapshots.remove_all(TAKE_QUIESCED):
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
            for sr in self._srs_of_expired(number):
                self._unrecorded.setdefault(sr, {})[number] = None

    def _srs_of_expired(self, number: int) -> Iterable[str]:
        return {disk.sr: None for disk in _disks(self.jobs[number].expired)} or ("",)

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
            self._gone(deletion.left.popleft().disks)
            self._next_doomed(number)
        elif operation.action == DESTROY_VDI:
            self._gone(disk for disk in deletion.left[0].disks if disk.ref == operation.ref)
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
        self._gone(_disks(tuple(self._expiring.pop(number).left)))
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
