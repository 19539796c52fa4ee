"""Since when each schedule is as it is: one that was enabled or changed counts as never run until its next slot.

xapi does not tell when a schedule was changed, so each tick compares it with what the one before has noted. Only with
the setting `catch_up_changed = no`: by default a schedule that is enabled makes up for the slot that has passed, as
with the vendor's plugin.
"""

import re
from datetime import datetime
from typing import Dict, List, NamedTuple, Optional, Sequence

from vmss.core.datetimes import format_datetime, parse_datetime
from vmss.core.policy import Policy

# A note in the text of all: the uuid, what a schedule was, and since when, if that is known.
_NOTE = re.compile(r"([0-9a-f-]{36})=([^ =@]{1,100})(?:@([0-9TZ:]{18}))?\Z")


class Known(NamedTuple):
    """What a schedule was, and since when; None if it was always so, as far as anybody knows."""

    form: str
    since: Optional[datetime] = None


def read(text: str) -> Dict[str, Known]:
    """The notes, by the uuids of schedules. What is no note is left out."""
    found: Dict[str, Known] = {}
    for match in filter(None, map(_NOTE.match, text.split(" "))):
        uuid, form, since = match.groups()
        try:
            found[uuid] = Known(form, parse_datetime(since) if since else None)
        except ValueError:
            continue
    return found


def write(known: Dict[str, Known]) -> str:
    """The notes as text, which `read` reads."""
    return " ".join(
        "%s=%s%s" % (uuid, one.form, "" if one.since is None else "@" + format_datetime(one.since))
        for uuid, one in sorted(known.items())
    )


def renewed(policies: Sequence[Policy], known: Dict[str, Known], now: datetime) -> Dict[str, Known]:
    """The notes as they are to be now. A schedule that was not known is new, and needs no time: it never ran."""
    found = {}
    for policy in policies:
        before, form = known.get(policy.uuid), _form(policy)
        found[policy.uuid] = before if before and before.form == form else Known(form, now if before else None)
    return found


def applied(policies: Sequence[Policy], known: Dict[str, Known]) -> List[Policy]:
    """The policies, each with the time since when it is as it is."""
    return [policy._replace(changed=known.get(policy.uuid, Known("")).since) for policy in policies]


def _form(policy: Policy) -> str:
    """What makes a schedule another one: whether it is enabled, what it takes, and when."""
    what = "on" if policy.enabled else "off", policy.type, policy.schedule.in_words()
    return re.sub(r"[^A-Za-z0-9,:]+", "_", ",".join(what))[:100]
