"""The unit of work of a pass, one VM of one due policy, and the XAPI operations that it is made of."""

from datetime import datetime
from typing import FrozenSet, Iterable, Iterator, NamedTuple, Optional, Tuple

from vmss.core.datetimes import EPOCH
from vmss.core.outcome import Error, Outcome

# The method of an operation. Its object is a VM, a snapshot or a VDI.
TAKE_SNAPSHOT = "VM.snapshot"
TAKE_QUIESCED = "VM.snapshot_with_quiesce"
TAKE_CHECKPOINT = "VM.checkpoint"
SHUT_DOWN = "VM.hard_shutdown"
DESTROY_VM = "VM.destroy"
DESTROY_VDI = "VDI.destroy"
TAKES = (TAKE_SNAPSHOT, TAKE_QUIESCED, TAKE_CHECKPOINT)

# What an operation occupies while it runs: references of SRs and, for a checkpoint, of a host.
Tokens = FrozenSet[str]

# The parts of a token. All numbers up to ten divide it.
WHOLE = 5040


class Claim(NamedTuple):
    """What an operation occupies while it runs: so many parts of each of these tokens."""

    tokens: Tokens
    parts: int


def claim(action: str, tokens: Tokens, alone: bool = False) -> Claim:
    """What an operation occupies. A plain snapshot works on one SR after another (docs/xapi-facts.md, VM.snapshot), so
    others can use them in between; `alone`: they must not. What a guest stands still for has its tokens whole, and so
    has all else."""
    if action == TAKE_SNAPSHOT and tokens and not alone:
        return Claim(tokens, -(-WHOLE // len(tokens)))
    return Claim(tokens, WHOLE)


class ExpiredDisk(NamedTuple):
    """A VDI of an expired snapshot, and the reference of its SR."""

    ref: str
    uuid: str
    sr: str


class ExpiredSnapshot(NamedTuple):
    """An expired snapshot and the disks to destroy with it. `ref` is empty where only the disks still exist.

    `suspended`: the snapshot holds memory, so it has to be shut down before it can be destroyed. `after_new`: retention
    keeps it if the job's new snapshot fails.
    """

    ref: str
    uuid: str
    suspended: bool
    disks: Tuple[ExpiredDisk, ...]
    after_new: bool = False


class Kept(NamedTuple):
    """What was to stay of a VM beside what expires, when retention decided that: its policy, and its snapshots, by
    reference. Without a policy retention had no part in it."""

    policy: str = ""
    snapshots: FrozenSet[str] = frozenset()


def disks_of(snapshots: Iterable[ExpiredSnapshot]) -> Iterator[ExpiredDisk]:
    """The disks of expired snapshots."""
    for snapshot in snapshots:
        yield from snapshot.disks


class Job(NamedTuple):
    """One VM of one due policy: the snapshot to take, then the expired snapshots to destroy.

    - `policy` and `vm` are references; `policy` is empty for a leftover of an earlier pass. `uuid` and `name` are the
      VM's.
    - `take` is the method that takes the snapshot; empty if the VM has its snapshot of the slot already.
    - `tokens` and `seconds` are those of the snapshot: what it occupies, and how long it is expected to take.
    - `recorded`: what expires is in the journal already, because an earlier pass wrote it there.
    - `label` is the name of the new snapshot. A scheduled snapshot of the VM that is dated `since` or later, and is not
      one of `known` (the uuids of those that the VM had at the plan), is the one that this job takes, even if its
      result was lost.
    - `task` takes a snapshot of the VM already, for an earlier pass; it counts if it is not older than `slot`.
    - `kept` is what was to stay at the plan, beside what expires.
    - `more`: of what expires, at most so many go beyond the one that the new snapshot replaces; None: all.
    - `disks` is the number of the VM's disks: so many has a snapshot of it.
    - `there` is the reference of the snapshot of the slot, if an earlier pass took it and did not read it back: then
      none is taken.
    - `future` is the number of the VM's scheduled snapshots that are dated in the future.
    - `unless_halted` is the method that is asked for; of a halted VM a plain snapshot is taken.
    - `plain_instead`: if the server turns out to have no quiesced snapshots, a plain one is taken; `fallback`: if the
      VM cannot be checkpointed.
    - `left_out` are the references of the VM's disks that its snapshot leaves out, which only a plain one can; `disks`,
      `tokens` and `seconds` are without them.
    - `refused` is the error of ours for which its snapshot must not be taken.
    - `excused`: why nothing is taken of the VM, though it has no snapshot of the slot; else empty.
    """

    policy: str
    vm: str
    uuid: str
    name: str
    take: str
    tokens: Tokens
    seconds: float
    expired: Tuple[ExpiredSnapshot, ...] = ()
    recorded: bool = False
    label: str = ""
    since: datetime = EPOCH
    known: FrozenSet[str] = frozenset()
    slot: datetime = EPOCH
    task: str = ""
    more: Optional[int] = None
    future: int = 0
    unless_halted: str = ""
    disks: int = 0
    there: str = ""
    plain_instead: bool = True
    left_out: Tuple[str, ...] = ()
    fallback: bool = False
    refused: Error = ()
    excused: str = ""
    kept: Kept = Kept()

    @property
    def first_to_go(self) -> Tuple[ExpiredSnapshot, ...]:
        """What goes if the new snapshot does not fail, and everything can be deleted."""
        return self.expired if self.more is None else self.expired[: self.more + 1]

    def share(self, alone: bool) -> float:
        """The part of the time of its snapshot for which it occupies each of its tokens. `alone`: see `claim`."""
        return claim(self.take, self.tokens, alone).parts / WHOLE


class State(NamedTuple):
    """The progress of a job.

    `snapshot` is the reference of the new snapshot; `error` the first error that the job met; `destroyed` the number of
    expired snapshots that are gone with all their disks; `degraded` is the error for which a plain snapshot is taken
    instead of another one; `left` is the number of those that stay because no more of them may go in one run;
    `off_schedule`: the VM has left its policy, so it gets no snapshot, which is no failure.
    """

    snapshot: str = ""
    error: Error = ()
    destroyed: int = 0
    degraded: Error = ()
    done: bool = False
    left: int = 0
    off_schedule: bool = False


class Operation(NamedTuple):
    """One XAPI operation: the number of its job, the method, the reference of its object, and the tokens that it needs.
    `alone`: nothing else may use them meanwhile, even if it is a plain snapshot."""

    job: int
    action: str
    ref: str
    tokens: Tokens
    alone: bool = False

    @property
    def claim(self) -> Claim:
        """What it occupies."""
        return claim(self.action, self.tokens, self.alone)


def already_gone(operation: Operation, outcome: Outcome) -> bool:
    """Whether a deletion failed only because its object does not exist any more, which counts as success.

    Somebody else was faster, or the memory of a checkpoint was destroyed when the checkpoint was shut down
    (docs/xapi-facts.md, Gone already).
    """
    error = outcome.error
    if operation.action == SHUT_DOWN and error[:2] == ("VM_BAD_POWER_STATE", operation.ref):
        # A killed pass had started it; it ended while ours was queued behind it.
        return error[-1] == "halted"
    return (
        operation.action in (SHUT_DOWN, DESTROY_VM, DESTROY_VDI)
        and error[:1] in (("HANDLE_INVALID",), ("VDI_MISSING",))
        and operation.ref in error
    )
