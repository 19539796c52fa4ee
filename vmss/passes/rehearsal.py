"""A rehearsal: says what a pass would do now, and changes nothing."""

from typing import Tuple

from vmss.core.plan import lines
from vmss.core.pruning import Prune
from vmss.passes.agenda import Due
from vmss.passes.context import Context
from vmss.passes.planning import Planner
from vmss.passes.pruning import Pruner


def of_what_is_due(context: Context, due: Due) -> str:
    """Say what would be taken and deleted for the policies that are due; return a line about the whole."""
    most = context.settings.max_policies
    for start in range(0, len(due.turns), most):
        turns = due.turns[start : start + most]
        planner = Planner(context, turns, context.now())
        for line in lines([job for planned in planner.plans() for job in planned.jobs], turns):
            context.say(line)
    return "policies that would run: %d of %d; nothing was changed" % (len(due.turns), due.policies)


def of_prune(context: Context, prune: Prune) -> Tuple[str, Tuple[str, ...]]:
    """Say which snapshots a request would delete; return a line about the whole, and their uuids."""
    pruner = Pruner(context, prune)
    listed = []
    for one in pruner.listed():
        context.say(one.line)
        listed.append(one.uuid)
    for line in pruner.stay:
        context.say(line)
    return "snapshots that would be deleted: %d; nothing was changed" % len(listed), tuple(listed)


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
