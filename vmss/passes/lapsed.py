"""Tells of slots that are not made up for, because the setting `late_limit` says that it is too late.

A note in pool.other_config, `vmss-lapsed:UUID` with the slot, keeps later ticks from telling it again.
"""

from vmss.core import messages
from vmss.core.datetimes import format_datetime, stated
from vmss.core.records import LAPSED_PREFIX
from vmss.core.turn import Turn
from vmss.edges.alerts import Alerts
from vmss.edges.xapi import Refused
from vmss.passes.agenda import Due
from vmss.passes.context import Context


def tell_lapsed(context: Context, due: Due) -> None:
    """Tell of the slots of these policies, in the log and by an alert, once; and forget what was told of policies that
    are gone."""
    for turn in due.lapsed:
        tell(context, turn)
    known = {policy.uuid for policy in due.idle} | {turn.policy.uuid for turn in due.turns}
    known |= {uuid for uuid, _ in due.errors}
    for key in context.pool.other_config:
        if key.startswith(LAPSED_PREFIX) and key[len(LAPSED_PREFIX) :] not in known:
            _write(context, "remove_from_other_config", key)


def tell(context: Context, turn: Turn) -> None:
    """Tell of the slot of one policy, and note that it is told."""
    slot, policy = turn.slot, turn.policy.uuid
    text = messages.not_made_up(stated(slot, context.log.zone), policy)
    context.log("The slot %s of policy %s is not made up for: it is too late" % (format_datetime(slot), policy))
    alerts = Alerts(context.xapi, context.clock, context.log)
    alerts.create_once(messages.MISSED_EVENT, policy, text, slot, text.split("\n")[0])
    _note(context, turn)


def _note(context: Context, turn: Turn) -> None:
    key = LAPSED_PREFIX + turn.policy.uuid
    if key in context.pool.other_config:
        _write(context, "remove_from_other_config", key)
    _write(context, "add_to_other_config", key, format_datetime(turn.slot))


def _write(context: Context, method: str, *params: str) -> None:
    try:
        context.xapi.call("pool." + method, context.pool.ref, *params)
    except Refused as refused:
        context.log("What policy %s missed could not be noted: %s" % (params[0][len(LAPSED_PREFIX) :], refused))
