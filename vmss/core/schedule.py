"""When a snapshot schedule is due: its slots, in wall-clock time of one zone, as instants in UTC.

A slot is one instant at which a policy is scheduled. Everything here is a function of values: the instants
are aware datetimes in UTC, the zone is any `tzinfo` (python-dateutil's in practice), and no clock is read.
"""

from datetime import datetime, timedelta, tzinfo
from typing import Optional

from vmss.core.datetimes import UTC
from vmss.core.frequencies import Schedule

# A policy that never ran is due only while its slot is younger than this: the distance of two ticks.
TICK_INTERVAL = timedelta(minutes=15)


def latest_slot(schedule: Schedule, zone: tzinfo, instant: datetime) -> datetime:
    """Given a schedule, its zone and an instant, return the latest slot at or before the instant."""
    return max(slot for slot in schedule.slots_around(zone, instant) if slot <= instant)


def next_slot(schedule: Schedule, zone: tzinfo, instant: datetime) -> datetime:
    """Given a schedule, its zone and an instant, return the first slot after the instant."""
    return min(slot for slot in schedule.slots_around(zone, instant) if slot > instant)


def next_tick(instant: datetime) -> datetime:
    """The first instant after this one at which a slot can be: they are quarters of an hour, in every zone."""
    return datetime.fromtimestamp((instant.timestamp() // 900 + 1) * 900, UTC)


def due_slot(
    schedule: Schedule, zone: tzinfo, last_run: Optional[datetime], now: datetime, since: Optional[datetime] = None
) -> Optional[datetime]:
    """Return the slot that waits to be served now, or None.

    Only the latest slot counts, however many were missed. `last_run` is the end of the last run, None if
    there was none; one that lies in the future comes from a wrong clock and counts as none, lest the policy
    stay silent until then. A policy that never ran waits for a slot of its own: it is due only in the tick
    of that slot, not for one that passed before it was made. `since` is the first tick, if it was not this
    one, that could not serve what was due: a slot of then is late, not lost.
    """
    slot = latest_slot(schedule, zone, now)
    if last_run is None or last_run > now:
        return slot if slot > min(since or now, now) - TICK_INTERVAL else None
    return slot if slot > last_run else None
