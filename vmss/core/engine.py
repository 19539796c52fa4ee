"""The state machine of a pass: which XAPI operations may start next, and what follows from one that has ended.

A job is one VM of one due policy: it waits for its turn, takes the snapshot, then destroys each expired snapshot with
its disks. The engine is told what has ended, and answers what to start. It has no clock, no I/O and no thread, so a run
can be repeated exactly and tested by the million.

Limits are tokens. An operation occupies its tokens from its start to its end: one for every SR that it touches, one for
the host that a checkpoint runs on, and one out of `operations_max` for the whole pool. xapi runs one storage operation
per SR at a time, pool-wide (docs/xapi-facts.md, One operation per SR).

The order:

- Whatever can start within the limits starts. An operation that waits for a token reserves none of the others, so one
  that needs several tokens is tried first whenever all of them are free.
- Snapshots go before deletions, because users care most about how close to its slot the data was frozen. Deletions use
  what snapshots leave idle. On a tight SR, which may have too little room for its snapshots, deletions go first.
- The SR or host with most work goes first, so that the pass ends when the busiest of them does.
- Nothing of an expired snapshot is destroyed before the VM's new snapshot exists or has failed, and before the journal
  lists what is to be destroyed (`to_record`, `recorded`). If the new one failed, one old snapshot more stays.
- A snapshot that cannot be destroyed keeps no younger one from being destroyed, unless an operation reached its limit.
"""

from collections import deque
from itertools import islice
from typing import Deque, Dict, FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core.job import (
    DESTROY_VDI,
    DESTROY_VM,
    SHUT_DOWN,
    TAKE_QUIESCED,
    TAKE_SNAPSHOT,
    TAKES,
    ExpiredDisk,
    ExpiredSnapshot,
    Job,
    Operation,
    Tokens,
    already_gone,
)
from vmss.core.outcome import RUN_OVER, SPARED, TIMED_OUT, Error, Outcome
from vmss.core.waiting import Waiting

# The expected duration of destroying a disk, in seconds. Only its order of magnitude matters, beside that of snapshots.
DESTROY_SECONDS = 1.0

# The errors of operations that ran into a limit.
_LIMITS = (TIMED_OUT, RUN_OVER)


class State(NamedTuple):
    """The progress of a job.

    `snapshot` is the reference of the new snapshot; `error` the first error that the job met; `destroyed` the number of
    expired snapshots that are gone with all their disks; `degraded`: a plain snapshot was taken instead of a quiesced
    one.
    """

    snapshot: str = ""
    error: Error = ()
    destroyed: int = 0
    degraded: bool = False
    done: bool = False


class _Deletion:
    """The deletion of one job's expired snapshots, oldest first."""

    def __init__(self, expired: Sequence[ExpiredSnapshot]) -> None:
        self.remaining: Deque[ExpiredSnapshot] = deque(expired)
        self.disks: Set[str] = set()  # of the first one, not yet destroyed
        self.failed = False  # whether a disk of the first one could not be destroyed
        self.timed_out = False  # whether an operation ran into its limit, as further ones probably would


class Engine:
    """Given jobs and an upper limit on operations in flight, says what to start.

    `plain_instead`: if the server turns out to have no quiesced snapshots, plain ones are taken.
    """

    def __init__(self, operations_max: int, plain_instead: bool = True) -> None:
        self.jobs: List[Job] = []
        self.states: List[State] = []
        self._operations_max = operations_max
        self._plain_instead = plain_instead
        self._running: Set[Operation] = set()
        self._in_use: Set[str] = set()  # tokens of running operations
        self._freed: Dict[str, None] = {}  # tokens with which an operation may start that could not before
        self._snapshots = Waiting()
        self._deletions = Waiting()
        self._deleting: Dict[int, _Deletion] = {}  # by job
        # Jobs whose expired snapshots are not in the journal yet, by the SRs of their disks; "" for no disk.
        self._unrecorded: Dict[str, Dict[int, None]] = {}
        self._unfinished = 0
        self._work: Dict[str, float] = {}  # expected seconds of work, by token
        self._tight: Set[str] = set()

    def add(self, jobs: Sequence[Job], tight: Iterable[str] = ()) -> List[int]:
        """Take over further jobs, and return their numbers. `tight` are SRs with too little room for snapshots."""
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
                self._expire(number, job.expired)
        return list(range(first, len(self.jobs)))

    @property
    def running(self) -> FrozenSet[Operation]:
        return frozenset(self._running)

    @property
    def finished(self) -> bool:
        """Whether every job has ended."""
        return self._unfinished == 0

    def start(self) -> List[Operation]:
        """The operations that may start now. They count as running until `end` or `park` is called for them."""
        started: List[Operation] = []
        for waiting, tokens in self._candidates():
            while tokens in waiting.queues and tokens.isdisjoint(self._in_use):
                if len(self._running) >= self._operations_max:
                    return started  # the freed tokens are kept for the next time
                operation = waiting.pop(tokens)
                self._running.add(operation)
                self._in_use |= tokens
                started.append(operation)
        self._freed.clear()
        return started

    def end(self, operation: Operation, outcome: Outcome) -> Optional[int]:
        """Process the outcome of a running operation. Return the number of its job if that ended the job."""
        self._free(operation)
        before = self.states[operation.job]
        if operation.action in TAKES:
            self._snapshot_ended(operation, outcome)
        else:
            self._deletion_ended(operation, outcome)
        return operation.job if self.states[operation.job].done and not before.done else None

    def park(self, operation: Operation) -> None:
        """Stop counting an operation as running that xapi refused for a transient reason, until it is resumed."""
        self._free(operation)

    def resume(self, operation: Operation) -> None:
        """Queue a parked operation again."""
        self._queue(self._snapshots if operation.action in TAKES else self._deletions, operation)

    # The journal: what is to be destroyed, before it is

    def to_record(self, most: int) -> List[int]:
        """After `start`: the jobs, at most `most`, whose deletions wait only for an entry in the journal.

        Empty as long as snapshots wait for all SRs that the deletions need, and keep them busy: so one entry serves
        many jobs, and no SR is idle.
        """
        if not self._unrecorded or len(self._running) >= self._operations_max:
            return []
        if not any(self._may_delete(sr) for sr in self._unrecorded):
            return []
        # The others too: an entry costs the same for one job and for many.
        ready = dict.fromkeys(
            number
            for sr in sorted(self._unrecorded, key=lambda sr: not self._may_delete(sr))
            for number in islice(self._unrecorded[sr], most)
        )
        return list(islice(ready, most))

    def recorded(self, jobs: Sequence[int], spared: FrozenSet[str] = frozenset()) -> None:
        """Start the deletions of these jobs, which the journal lists now.

        `spared` are the references of disks that others have started to use since they were read, and of snapshots
        that were pinned since: they stay.
        """
        for number in jobs:
            for sr in self._srs_of_expired(number):
                del self._unrecorded[sr][number]
                if not self._unrecorded[sr]:
                    del self._unrecorded[sr]
            deletion = self._deleting[number]
            before = tuple(deletion.remaining)
            deletion.remaining = deque(
                snapshot._replace(disks=tuple(disk for disk in snapshot.disks if disk.ref not in spared))
                for snapshot in before
                if snapshot.ref not in spared
            )
            kept = {disk.ref for disk in _disks(tuple(deletion.remaining))}
            self._no_work(disk for disk in _disks(before) if disk.ref not in kept)
            self._delete_next(number)

    # The order

    def _candidates(self) -> List[Tuple[Waiting, Tokens]]:
        """The queues whose first operation may start, in the order in which they are served."""
        snapshots = [
            (1, self._urgency(tokens), tokens) for tokens in self._snapshots.startable(self._freed, self._in_use)
        ]
        deletions = [
            (2 if tokens.isdisjoint(self._tight) else 0, self._urgency(tokens), tokens)
            for tokens in self._deletions.startable(self._freed, self._in_use)
        ]
        ranked = sorted(snapshots + deletions, key=lambda entry: entry[:2])
        return [(self._snapshots if rank == 1 else self._deletions, tokens) for rank, _, tokens in ranked]

    def _urgency(self, tokens: Tokens) -> List[float]:
        """The sort key of a queue among those of its kind: the remaining work of its busiest token, then of the next.

        A queue that needs several tokens goes before one that needs some of them, because they are rarely all free;
        one that needs no token goes before all, because it ends soon and storage work waits for it.
        """
        return sorted(-self._work[token] for token in tokens) + [0.0] if tokens else []

    def _may_delete(self, sr: str) -> bool:
        """Whether deletions on an SR delay no snapshot: none waits for it, or the SR is idle, or it is tight."""
        if not sr:
            return not self._snapshots
        return not self._snapshots.wants(sr) or sr not in self._in_use or sr in self._tight

    def _queue(self, waiting: Waiting, operation: Operation) -> None:
        waiting.add(operation)
        self._freed.update(dict.fromkeys(sorted(operation.tokens)))

    def _free(self, operation: Operation) -> None:
        self._running.remove(operation)
        self._in_use -= operation.tokens
        self._freed.update(dict.fromkeys(sorted(operation.tokens)))

    def _expect(self, work: Iterable[Tuple[str, float]]) -> None:
        for token, seconds in work:
            self._work[token] = self._work.get(token, 0.0) + seconds

    def _no_work(self, disks: Iterable[ExpiredDisk]) -> None:
        """Subtract the deletion of these disks from the remaining work: it is done, or will not be done."""
        self._expect((disk.sr, -DESTROY_SECONDS) for disk in disks)

    # Snapshots

    def _snapshot_ended(self, operation: Operation, outcome: Outcome) -> None:
        job, number = self.jobs[operation.job], operation.job
        if operation.action == TAKE_QUIESCED and outcome.error[:1] == ("MESSAGE_REMOVED",):
            if self._plain_instead:
                self._without_quiesce(operation)
                return
            outcome = Outcome(error=("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", job.vm))
        self._expect((token, -job.seconds) for token in job.tokens)
        if outcome.error:
            self._no_work(_disks([snapshot for snapshot in job.expired if snapshot.after_new]))
            self._update(number, error=outcome.error)
            self._expire(number, [snapshot for snapshot in job.expired if not snapshot.after_new])
        else:
            self._update(number, snapshot=outcome.value)
            self._expire(number, job.expired)

    def _without_quiesce(self, refused: Operation) -> None:
        """The server has no quiescing: plain snapshots for this VM and all that wait."""
        for item in [refused] + self._snapshots.pop_all(TAKE_QUIESCED):
            self._update(item.job, degraded=True)
            self._queue(self._snapshots, item._replace(action=TAKE_SNAPSHOT))

    # Deletions

    def _expire(self, number: int, expired: Sequence[ExpiredSnapshot]) -> None:
        if not expired:
            self._update(number, done=True)
            return
        self._deleting[number] = _Deletion(expired)
        if self.jobs[number].recorded:
            self._delete_next(number)
        else:
            for sr in self._srs_of_expired(number):
                self._unrecorded.setdefault(sr, {})[number] = None

    def _srs_of_expired(self, number: int) -> Iterable[str]:
        return {disk.sr: None for disk in _disks(tuple(self._deleting[number].remaining))} or ("",)

    def _delete_next(self, number: int) -> None:
        """Start on the oldest expired snapshot that remains, or end the job."""
        deletion = self._deleting[number]
        if not deletion.remaining or deletion.timed_out:
            self._finish(number)
            return
        snapshot = deletion.remaining[0]
        deletion.disks = {disk.ref for disk in snapshot.disks}
        deletion.failed = False
        if snapshot.suspended:
            # A checkpoint is Suspended: its memory image has to go before its record can.
            tokens = frozenset(disk.sr for disk in snapshot.disks)
            self._queue(self._deletions, Operation(number, SHUT_DOWN, snapshot.ref, tokens))
        elif snapshot.ref:
            # VM.destroy touches no storage.
            self._queue(self._deletions, Operation(number, DESTROY_VM, snapshot.ref, frozenset()))
        else:
            self._destroy_disks(number)

    def _destroy_disks(self, number: int) -> None:
        deletion = self._deleting[number]
        for disk in deletion.remaining[0].disks:
            self._queue(self._deletions, Operation(number, DESTROY_VDI, disk.ref, frozenset([disk.sr])))
        if not deletion.disks:
            self._snapshot_is_gone(number)

    def _deletion_ended(self, operation: Operation, outcome: Outcome) -> None:
        number = operation.job
        deletion = self._deleting[number]
        error = () if already_gone(operation, outcome) else outcome.error
        if error[:1] == (SPARED,) or (operation.action == DESTROY_VM and error[:1] == ("OPERATION_BLOCKED",)):
            # Pinned since it was read, or somebody reads it: it stays with its disks, which is no failure.
            self._no_work(deletion.remaining.popleft().disks)
            self._delete_next(number)
        elif operation.action == DESTROY_VDI:
            self._no_work(disk for disk in deletion.remaining[0].disks if disk.ref == operation.ref)
            deletion.disks.discard(operation.ref)
            if error:
                deletion.failed = True
                deletion.timed_out = deletion.timed_out or error[0] in _LIMITS
                self._note(number, error)
            if not deletion.disks:
                self._snapshot_is_gone(number)
        elif error:
            # The snapshot still exists, and the policy's next run tries it again.
            self._note(number, error)
            deletion.timed_out = error[0] in _LIMITS
            self._no_work(deletion.remaining.popleft().disks)
            self._delete_next(number)
        elif operation.action == SHUT_DOWN:
            self._queue(self._deletions, Operation(number, DESTROY_VM, operation.ref, frozenset()))
        else:
            self._destroy_disks(number)

    def _snapshot_is_gone(self, number: int) -> None:
        deletion = self._deleting[number]
        deletion.remaining.popleft()
        # A disk that could not be destroyed stays in the journal, and the next pass tries it again.
        if not deletion.failed:
            self._update(number, destroyed=self.states[number].destroyed + 1)
        self._delete_next(number)

    # States

    def _finish(self, number: int) -> None:
        self._no_work(_disks(tuple(self._deleting.pop(number).remaining)))
        self._update(number, done=True)

    def _note(self, number: int, error: Error) -> None:
        if not self.states[number].error:
            self._update(number, error=error)

    def _update(self, number: int, **changes: object) -> None:
        self.states[number] = self.states[number]._replace(**changes)  # type: ignore[arg-type]
        if changes.get("done"):
            self._unfinished -= 1


def _disks(snapshots: Sequence[ExpiredSnapshot]) -> Iterator[ExpiredDisk]:
    for snapshot in snapshots:
        yield from snapshot.disks
