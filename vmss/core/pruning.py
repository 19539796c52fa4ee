"""Pruning: which scheduled snapshots of a VM are deleted on request, without a run of its schedule."""

from datetime import datetime
from typing import FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from vmss.core.messages import Victim
from vmss.core.retention import Keep, Snapshot, expired, in_future
from vmss.core.vms import Vm
from vmss.core.words import counted

# What is to be deleted: what exceeds retention, what is dated in the future, or what belongs to no schedule any more.
SURPLUS, FUTURE, DELETED = "surplus", "dated in the future", "of what was deleted"


class Prune(NamedTuple):
    """A request to delete snapshots: which; of the VMs of one schedule, by its uuid, or of all; and of these
    only those with certain uuids, because somebody has seen and confirmed them (None: all)."""

    what: str = SURPLUS
    policy: Optional[str] = None
    only: Optional[FrozenSet[str]] = None


class Going(NamedTuple):
    """A VM, its scheduled snapshots that are to go, oldest first, and those that have to stay because an operation is
    in progress on them. `last` would go, but the VM has no other scheduled snapshot."""

    vm: Vm
    expired: Tuple[Snapshot, ...]
    busy: Tuple[Snapshot, ...] = ()
    last: Optional[Snapshot] = None


class Pruned(NamedTuple):
    """What came of a request: the number of VMs of which snapshots were to go, the number of snapshots that are gone,
    the VMs with an error, and a line for each snapshot that stays though it was asked for."""

    vms: int = 0
    deleted: int = 0
    victims: Tuple[Victim, ...] = ()
    stay: Tuple[str, ...] = ()


def going(vm: Vm, prune: Prune, keep: Keep, now: datetime) -> Going:
    """Given a VM with its snapshots, a request and the VM's rule of retention (which only a request for what exceeds
    retention asks), return what goes. Pinned snapshots stay."""
    last = None
    if prune.what == SURPLUS:
        chosen = list(expired(vm.snapshots, keep, now))
    else:
        chosen = _by_age([snapshot for snapshot in vm.snapshots if not snapshot.pinned])
        if prune.what == FUTURE:
            chosen = [snapshot for snapshot in chosen if in_future(snapshot, now)]
            if chosen and len(chosen) == len(vm.snapshots):
                # It is not good for much, but if the clock is wrong now, and not then, it is the best one.
                last = chosen.pop()
    wanted = [snapshot for snapshot in chosen if prune.only is None or snapshot.uuid in prune.only]
    return Going(
        vm,
        tuple(snapshot for snapshot in wanted if not snapshot.operation),
        tuple(snapshot for snapshot in wanted if snapshot.operation),
        last,
    )


def _by_age(snapshots: Sequence[Snapshot]) -> List[Snapshot]:
    return sorted(snapshots, key=lambda snapshot: (snapshot.time, snapshot.uuid))


def summary(pruned: Pruned) -> str:
    """What came of a request, in one line."""
    return "snapshots deleted: %d, of %s; VMs with errors: %d" % (
        pruned.deleted,
        counted(pruned.vms, "VM"),
        len(pruned.victims),
    )
