"""The state machine of a pass: which XAPI operations may start next, and what follows from one that has ended.

A job is one VM of one due policy: it waits for its turn, takes the snapshot, then destroys each expired snapshot with
its disks. The engine is told what has ended, and answers what to start, without clock, I/O and thread: by the million.

Limits are tokens. An operation occupies its tokens from its start to its end: one for every SR that it touches, one for
the host that a checkpoint runs on, and one out of `operations_max` for the whole pool. xapi runs one storage operation
per SR at a time, pool-wide (docs/xapi-facts.md, One operation per SR). A plain snapshot whose disks are on several SRs
occupies a part of each: it works on one after another. Where two meet, one waits inside xapi (benchmarks/README.md).

The order:

- Whatever can start within the limits starts. An operation that waits for a token reserves none of the others, so one
  that needs several tokens is tried first whenever all of them are free.
- Snapshots go before deletions, because users care most about how close to its slot the data was frozen. Deletions use
  what snapshots leave idle. On a tight SR, which may have too little room for its snapshots, deletions go first.
- The SR or host with most work goes first, so that the pass ends when the busiest of them does.
- Nothing of an expired snapshot is destroyed before the VM's new snapshot was read back or has failed, and before the
  journal lists what is to be destroyed (`to_record`, `recorded`). If the new one failed, one old snapshot more stays.
- A snapshot that cannot be destroyed keeps no younger one from being destroyed, unless an operation reached its limit.
- An operation that takes too long keeps no token from others (`release`), and those that need most of them go last:
  they may hang too. Once it has reached its limit, what waits for what it hangs on has no hope (`hopeless`).
- Of one VM no more go than the job allows; what cannot be destroyed does not count.
"""

from math import inf
from typing import Dict, FrozenSet, Iterable, List, Optional, Sequence, Set, Tuple

from vmss.core.deletion import Deletion, Unrecorded
from vmss.core.job import (
    DESTROY_VDI,
    DESTROY_VM,
    SHUT_DOWN,
    TAKE_QUIESCED,
    TAKE_SNAPSHOT,
    TAKES,
    Claim,
    ExpiredSnapshot,
    Job,
    Operation,
    State,
    already_gone,
    disks_of,
)
from vmss.core.outcome import (
    DOES_NOT_COUNT,
    LIMITS,
    OFF_SCHEDULE,
    RESULT_LOST,
    SPARED,
    STORAGE_STUCK,
    TIMED_OUT,
    Error,
    Outcome,
)
from vmss.core.running import Running
from vmss.core.waiting import Waiting
from vmss.core.ways import become_plain
from vmss.core.work import Work


class Engine:
    """Given jobs and an upper limit on operations in flight, says what to start. `alone`: guests may stand still for
    plain snapshots too, so these share no SR."""

    def __init__(self, operations_max: int, alone: bool = False) -> None:
        self.jobs: List[Job] = []
        self.states: List[State] = []
        self._operations_max = operations_max
        self._alone = alone
        self._running = Running()
        self._taken: Set[Operation] = set()  # snapshots that are to be read back
        self._hopeless: List[Tuple[Operation, Outcome]] = []
        self._freed: Dict[str, None] = {}  # tokens with which an operation may start that could not before
        self._snapshots = Waiting()
        self._deletions = Waiting()
        self._deleting: Dict[int, Deletion] = {}  # by job
        self._unrecorded = Unrecorded()
        self._unsettled: Set[int] = set()  # jobs whose snapshots have not ended
        self._unfinished = 0
        self._work = Work()
        self._tight: Set[str] = set()

    def add(self, jobs: Sequence[Job], tight: Iterable[str] = ()) -> List[int]:
        """Take over further jobs, and return their numbers. `tight` are SRs with too little room for snapshots."""
        first = len(self.jobs)
        self.jobs.extend(jobs)
        self.states.extend(State() for _ in jobs)
        self._unfinished += len(jobs)
        self._tight.update(tight)
        for number, job in enumerate(jobs, first):
            self._work.expect_deletion(disks_of(job.expired))
            if job.take:
                self._expect(job, 1)
                self._unsettled.add(number)
                self._queue(self._snapshots, Operation(number, job.take, job.vm, job.tokens, self._alone))
            else:
                self._expire(number, job.expired, replaced=1)
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
        for waiting, claim in self._candidates():
            while claim in waiting.queues and self._running.admits(claim):
                if len(self._running) >= self._operations_max:
                    return started  # the freed tokens are kept for the next time
                operation = waiting.pop(claim)
                self._running.start(operation, claim.tokens)
                started.append(operation)
        self._freed.clear()
        return started

    def end(self, operation: Operation, outcome: Outcome) -> Optional[int]:
        """Process the outcome of a running operation, or of a snapshot that was read back. Return its job if ended."""
        if operation not in self._taken:
            self._has_run(operation, outcome)
        before = self.states[operation.job]
        if operation.action in TAKES:
            self._snapshot_ended(operation, outcome)
        else:
            self._deletion_ended(operation, outcome)
        return operation.job if self.states[operation.job].done and not before.done else None

    def _has_run(self, operation: Operation, outcome: Outcome) -> None:
        """A running operation occupies nothing any more."""
        if operation.action in TAKES:
            self._expect(self.jobs[operation.job], -1)
        if not outcome.error:
            self._running.succeeded(operation)
        elif outcome.error[0] == TIMED_OUT:
            suspects = self._running.suspects(operation)
            error = (STORAGE_STUCK, operation.action, self.jobs[operation.job].uuid)
            for waiting in (self._snapshots, self._deletions):
                self._give_up(waiting, {item for item in waiting.operations() if item.tokens & suspects}, error)
        self._free(operation)

    def taken(self, operation: Operation, outcome: Outcome) -> None:
        """The task of a running snapshot says that it was taken: it ends (`end`) when it was read back."""
        self._has_run(operation, outcome)
        self._taken.add(operation)

    def release(self, operation: Operation) -> None:
        """A running operation takes too long: it keeps its tokens from nobody any more, unless it has only one.

        xapi lets an operation that needs what it hangs on wait by itself; all others have been waiting for nothing.
        """
        self._running.is_slow(operation)
        if len(operation.tokens) > 1:
            self._running.release(operation)
            self._freed.update(dict.fromkeys(sorted(operation.tokens)))

    def hopeless(self) -> List[Tuple[Operation, Outcome]]:
        """The operations that wait no more, with the outcome of each: another one has reached its limit on the same SR
        or host, or they were withdrawn. They count as running until `end` is called for them."""
        hopeless, self._hopeless = self._hopeless, []
        return hopeless

    def withdraw(self, jobs: Set[int], error: Error) -> None:
        """The snapshots of these jobs that wait for their turn are not taken any more, for this reason."""
        self._give_up(self._snapshots, {item for item in self._snapshots.operations() if item.job in jobs}, error)

    def stalled(self, jobs: Iterable[int], slow: Set[Operation]) -> bool:
        """Whether the snapshots of these jobs that have not ended are all among the `slow` running operations, or wait
        for what these occupy."""
        occupied = {token for operation in slow for token in operation.tokens}
        stuck = {item.job for item in slow}
        stuck.update(item.job for item in self._snapshots.operations() if not item.tokens.isdisjoint(occupied))
        return all(number not in self._unsettled or number in stuck for number in jobs)

    def settled(self, job: int) -> bool:
        """Whether a job's snapshot was taken, or has failed, so that only deletions can follow."""
        return job not in self._unsettled

    @property
    def being_taken(self) -> FrozenSet[str]:
        """The references of the VMs of which a snapshot is being taken, or is to be read back."""
        running = {item for item in self._running if item.action in TAKES}
        return frozenset(self.jobs[item.job].vm for item in running | self._taken)

    @property
    def taking(self) -> bool:
        """Whether snapshots are being taken, or wait for their turn."""
        return bool(self._snapshots) or any(item.action in TAKES for item in self._running)

    def idle(self, tokens: Iterable[str]) -> bool:
        """After `start`: whether nothing uses one of these SRs and hosts, or deletions go first on it."""
        return any(token not in self._running.in_use or token in self._tight for token in tokens)

    @property
    def being_expired(self) -> FrozenSet[str]:
        """The references of the VMs of which expired snapshots are being deleted, or wait for that."""
        return frozenset(self.jobs[number].vm for number in self._deleting)

    def park(self, operation: Operation) -> None:
        """Stop counting an operation as running that xapi refused for a transient reason, until it is resumed."""
        self._free(operation)

    def resume(self, operation: Operation) -> None:
        """Queue a parked operation again, or another one of its job in its place."""
        self._queue(self._snapshots if operation.action in TAKES else self._deletions, operation)

    # The journal: what is to be destroyed, before it is

    def to_record(self, most: int) -> List[int]:
        """After `start`: the jobs, at most `most`, whose deletions wait only for an entry in the journal.

        Empty as long as snapshots wait for all SRs that the deletions need, and keep them busy: so one entry serves
        many jobs, and no SR is idle.
        """
        full = len(self._running) >= self._operations_max
        return [] if full else self._unrecorded.ready(self._may_delete, most)

    def recorded(self, jobs: Sequence[int], spared: FrozenSet[str] = frozenset()) -> None:
        """Start the deletions of these jobs, which the journal lists now.

        `spared` are the references of disks that others have started to use since they were read, and of snapshots
        that were pinned since: they stay.
        """
        for number in jobs:
            self._unrecorded.remove(number, self._deleting[number])
            self._work.no_deletion(self._deleting[number].spare(spared))
            self._delete_next(number)

    # The order

    def _candidates(self) -> List[Tuple[Waiting, Claim]]:
        """The queues whose first operation may start, in the order in which they are served."""
        slow, full = self._running.slow, self._running.full
        snapshots = [
            (1, self._work.urgency(claim.tokens, slow), claim) for claim in self._snapshots.startable(self._freed, full)
        ]
        deletions = [
            (2 if claim.tokens.isdisjoint(self._tight) else 0, self._work.urgency(claim.tokens, slow), claim)
            for claim in self._deletions.startable(self._freed, full)
        ]
        ranked = sorted(snapshots + deletions, key=lambda entry: entry[:2])
        return [(self._snapshots if rank == 1 else self._deletions, claim) for rank, _, claim in ranked]

    def _may_delete(self, sr: str) -> bool:
        """Whether deletions on an SR delay no snapshot: none waits for it, or the SR is idle, or it is tight."""
        if not sr:
            return all(item.tokens & self._running.slow for item in self._snapshots.operations())
        return not self._snapshots.wants(sr) or sr not in self._running.in_use or sr in self._tight

    def _queue(self, waiting: Waiting, operation: Operation) -> None:
        waiting.add(operation)
        self._freed.update(dict.fromkeys(sorted(operation.tokens)))

    def _free(self, operation: Operation) -> None:
        self._running.end(operation)
        self._freed.update(dict.fromkeys(sorted(operation.tokens)))

    def _give_up(self, waiting: Waiting, operations: Set[Operation], error: Error) -> None:
        waiting.remove(operations)
        for item in sorted(operations):
            self._running.start(item, frozenset())
            self._hopeless.append((item, Outcome(error=error)))

    # Snapshots

    def _snapshot_ended(self, operation: Operation, outcome: Outcome) -> None:
        job, number = self.jobs[operation.job], operation.job
        plain = become_plain(operation, outcome.error, self._snapshots.operations(), self.jobs)
        if plain:
            self._take_plain(plain, outcome.error)
            return
        if operation.action == TAKE_QUIESCED and outcome.error[:1] == ("MESSAGE_REMOVED",):
            outcome = Outcome(error=("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", job.vm))
        self._taken.discard(operation)
        self._unsettled.discard(number)
        if outcome.error[:1] == (OFF_SCHEDULE,):
            self._work.no_deletion(disks_of(job.expired))
            self._update(number, done=True, off_schedule=True)
        elif outcome.error:
            stay = outcome.error[0] in DOES_NOT_COUNT  # then all do
            expired = [snapshot for snapshot in job.expired if not (stay or snapshot.after_new)]
            self._work.no_deletion(disks_of(snapshot for snapshot in job.expired if snapshot not in expired))
            self._update(number, error=outcome.error)
            self._expire(number, expired, replaced=0)
        else:
            self._update(number, snapshot=outcome.value)
            self._expire(number, job.expired, replaced=1)

    def _expect(self, job: Job, snapshots: int) -> None:
        """So many snapshots more, or fewer, are to be taken by a job."""
        self._work.expect((token, snapshots * job.seconds) for token in job.tokens)

    def _take_plain(self, operations: List[Operation], error: Error) -> None:
        """Take plain snapshots in the place of these operations: the first has ended so, the others wait."""
        self._expect(self.jobs[operations[0].job], 1)
        self._snapshots.remove(set(operations[1:]))
        for item in operations:
            self._update(item.job, degraded=error)
            self._queue(self._snapshots, item._replace(action=TAKE_SNAPSHOT))

    # Deletions

    def _expire(self, number: int, expired: Sequence[ExpiredSnapshot], replaced: int) -> None:
        """Let what expired be deleted; `replaced` of it by the new snapshot."""
        if not expired:
            self._update(number, done=True)
            return
        more = self.jobs[number].more
        self._deleting[number] = Deletion(expired, inf if more is None else more + replaced)
        if self.jobs[number].recorded:
            self._delete_next(number)
        else:
            self._unrecorded.add(number, self._deleting[number])

    def _delete_next(self, number: int) -> None:
        """Start on the oldest expired snapshot that remains, or end the job."""
        deletion = self._deleting[number]
        if not deletion.remaining or deletion.timed_out or not deletion.most:
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
            self._work.no_deletion(deletion.remaining.popleft().disks)
            self._delete_next(number)
        elif operation.action == DESTROY_VDI:
            self._work.no_deletion(disk for disk in deletion.remaining[0].disks if disk.ref == operation.ref)
            deletion.disks.discard(operation.ref)
            if error:
                deletion.failed = True
                deletion.timed_out = deletion.timed_out or error[0] in LIMITS
                self._note(number, error)
            if not deletion.disks:
                self._snapshot_is_gone(number)
        elif error:
            # The snapshot still exists, and the policy's next run tries it again.
            self._note(number, error)
            deletion.timed_out = error[0] in LIMITS
            deletion.most -= error[0] == RESULT_LOST  # it may be gone
            self._work.no_deletion(deletion.remaining.popleft().disks)
            self._delete_next(number)
        elif operation.action == SHUT_DOWN:
            self._queue(self._deletions, Operation(number, DESTROY_VM, operation.ref, frozenset()))
        else:
            deletion.most -= 1
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
        deletion = self._deleting.pop(number)
        self._work.no_deletion(disks_of(deletion.remaining))
        self._update(number, done=True, left=0 if deletion.most else len(deletion.remaining))

    def _note(self, number: int, error: Error) -> None:
        # What was not even tried is no failure of this VM: the next pass finishes it.
        if not self.states[number].error and error[0] != STORAGE_STUCK:
            self._update(number, error=error)

    def _update(self, number: int, **changes: object) -> None:
        self.states[number] = self.states[number]._replace(**changes)  # type: ignore[arg-type]
        if changes.get("done"):
            self._unfinished -= 1
