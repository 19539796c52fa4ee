"""Notes since when each schedule is as it is, for the setting `catch_up_changed`: in a key of pool.other_config."""

from typing import Dict, List, Optional, Sequence, Tuple

from vmss.core import changes
from vmss.core.changes import Known
from vmss.core.policy import Policy
from vmss.core.records import SCHEDULES
from vmss.edges.xapi import Refused
from vmss.passes.context import Context


def noted(
    context: Context, policies: Sequence[Policy], known: Optional[Dict[str, Known]], writes: bool
) -> Tuple[List[Policy], Dict[str, Known]]:
    """The policies, each with the time since when it is as it is, and the notes. They are written if they have changed,
    and if this `writes`: a rehearsal changes nothing. `known` are those that this pass has; None if it has none yet."""
    text = context.pool.other_config.get(SCHEDULES, "")
    before = changes.read(text) if known is None else known
    now = changes.renewed(policies, before, context.now())
    if (now != before or (known is None and changes.write(now) != text)) and writes:
        _write(context, changes.write(now))
    return changes.applied(policies, now), now


def _write(context: Context, text: str) -> None:
    try:
        context.xapi.call("pool.remove_from_other_config", context.pool.ref, SCHEDULES)
        context.xapi.call("pool.add_to_other_config", context.pool.ref, SCHEDULES, text)
    except Refused as refused:
        context.log("Since when schedules are as they are could not be noted: %s" % refused)
