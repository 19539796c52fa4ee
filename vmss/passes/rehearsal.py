"""A rehearsal: says what a pass would do now, and changes nothing."""

from typing import List, Tuple

from vmss.core import fate
from vmss.core.fate import Fate
from vmss.core.plan import Expiry
from vmss.core.pruning import Prune
from vmss.core.rehearsed import Listing, Rehearsal, Rehearsed, rehearsed
from vmss.edges.zones import time_zone
from vmss.passes.agenda import Due
from vmss.passes.context import Context
from vmss.passes.planning import Planner
from vmss.passes.pruning import Pruner


def of_what_is_due(context: Context, due: Due) -> Tuple[str, Rehearsal]:
    """What would be taken and deleted for the policies that are due; and a line about the whole."""
    most = context.settings.max_policies
    found: List[Rehearsed] = []
    for start in range(0, len(due.turns), most):
        turns = due.turns[start : start + most]
        planner = Planner(context, turns, context.now())
        plans = list(planner.plans())
        fates = {one.vm.ref: _fates(context, one) for planned in plans for one in planned.decided}
        found += rehearsed([job for planned in plans for job in planned.jobs], turns, fates)
    line = "schedules that would run: %d of %d; nothing was changed" % (len(due.turns), due.policies)
    return line, Rehearsal(tuple(found), context.log.zone, time_zone(None))


def _fates(context: Context, expiry: Expiry) -> List[Fate]:
    """What would become of the snapshots of a VM, and why."""
    keep = context.settings.keep_of(expiry.turn.policy, context.log.zone, expiry.vm.tags)
    skipped = [Fate("", expiry.turn.slot, fate.SKIPPED, expiry.excused)] if expiry.excused else []
    return skipped + fate.fates(expiry.vm, keep, context.now(), (), 0 if expiry.served else 1)


def of_prune(context: Context, prune: Prune) -> Tuple[str, Listing]:
    """Which snapshots a request would delete; and a line about the whole."""
    pruner = Pruner(context, prune)
    found = tuple(sorted(pruner.listed(), key=lambda one: (one.vm, one.vm_uuid)))
    line = "snapshots that would be deleted: %d; nothing was changed" % len(found)
    return line, Listing(found, tuple(pruner.stay), context.now(), context.log.zone, time_zone(None))


def why_nothing_else(prunes: bool) -> str:
    """Why a pass can only be rehearsed where xapi is not reached over its unix socket; `prunes`: one that deletes
    snapshots on request."""
    if prunes:
        return (
            "snapshots have to be deleted in dom0 of the coordinator, over xapi's unix socket: the lock that keeps two "
            "passes apart is there"
        )
    return (
        "snapshots have to be taken in dom0 of the coordinator, over xapi's unix socket: from elsewhere xapi does not "
        "mark them as scheduled"
    )
