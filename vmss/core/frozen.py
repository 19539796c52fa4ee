"""VMs that ran when a checkpoint of ours began: what is noted of them, and what follows from how they are seen now.

A checkpoint suspends its VM and resumes it. If xapi ends in between, or the checkpoint is cancelled, fails or hangs,
the VM may stay Suspended (docs/xapi-facts.md, A VM that a checkpoint leaves Suspended). Nothing in its record tells
that from what an administrator does with VM.suspend: only a note that was made before does.
"""

from datetime import datetime, timedelta
from typing import FrozenSet, NamedTuple, Optional

# What follows from how a frozen VM is seen.
SETTLED = "settled"  # it runs, is gone, or is in a state that somebody else gave it: the note has done its service
UNDER_WAY = "under way"  # the checkpoint has not ended, or it cannot be told: look again later
STUCK = "stuck"  # Suspended, and an operation on it that should be over is not: nothing can be done with it yet
LEFT = "left"  # Suspended, and nothing is under way on it: it can be resumed
LOST = "lost"  # the same, but its memory is gone: a xapi that died has forgotten that the VM was resumed since

_SUSPENDED = "Suspended"
_CHECKPOINT = "checkpoint"


class Frozen(NamedTuple):
    """A VM, by its uuid, that ran when a checkpoint of ours began, at `since`. `task` is that of the checkpoint, empty
    if it is not known. `told` is the last time at which an alert said that the VM is Suspended, and `told_as` what that
    said it was: LEFT, LOST or STUCK, each of which has another remedy."""

    vm: str
    since: datetime
    task: str = ""
    told: Optional[datetime] = None
    told_as: str = ""


class Seen(NamedTuple):
    """A frozen VM as it is now. `operations` are those in progress on it; `pending`: the task of the checkpoint is;
    `by_others`: somebody has suspended or reverted it since; `memory_gone`: the disk with its memory is; `error`: why
    some of this cannot be told."""

    ref: str
    name: str
    power_state: str
    operations: FrozenSet[str] = frozenset()
    pending: bool = False
    by_others: bool = False
    memory_gone: bool = False
    error: str = ""


def judge(frozen: Frozen, seen: Optional[Seen], now: datetime, limit_s: int) -> str:
    """Given a frozen VM, how it is seen (None: it is gone) and the limit of a checkpoint in seconds, return what
    follows: SETTLED, UNDER_WAY, STUCK, LEFT or LOST."""
    if seen is None:
        return SETTLED
    if seen.error:
        return UNDER_WAY
    checkpointing = seen.pending or _CHECKPOINT in seen.operations
    if seen.power_state != _SUSPENDED:
        return UNDER_WAY if checkpointing else SETTLED
    if checkpointing or seen.operations:
        # Suspended is what a VM is in the middle of its checkpoint. A note from the future proves a wrong clock.
        return UNDER_WAY if timedelta(0) <= now - frozen.since < timedelta(seconds=limit_s) else STUCK
    if seen.by_others:
        return SETTLED
    return LOST if seen.memory_gone else LEFT


def reason(state: str, operations: FrozenSet[str]) -> str:
    """Why a VM in this state is still down, with these operations in progress on it."""
    if state == STUCK:
        return "%s is still in progress" % (", ".join(sorted(operations)) or "its checkpoint")
    return "its memory is gone" if state == LOST else "nothing is in progress on it"


def remedy(vm: str, state: str) -> str:
    """The commands that bring back a VM, given by its uuid, that is LEFT, LOST or STUCK."""
    if state == LOST:
        return "xe vm-shutdown force=true uuid=%s, then xe vm-start uuid=%s" % (vm, vm)
    command = "xe vm-resume uuid=%s" % vm
    return "xe-toolstack-restart on the host where it ran, then %s" % command if state == STUCK else command
