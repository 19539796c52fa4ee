"""When a snapshot schedule is due: its slots, which are wall-clock times of one zone, as instants in UTC.

A slot is one instant at which a policy is scheduled. No clock is read here: the instants are aware datetimes in UTC,
and the zone is any `tzinfo` (see vmss.edges.zones).
"""

from datetime import datetime, timedelta, tzinfo
from typing import Dict, Optional

from vmss.core.datetimes import UTC, in_future
from vmss.core.frequencies import Schedule

# The time between two ticks. A policy that never ran is due only for a slot that is younger.
TICK_INTERVAL = timedelta(minutes=15)


def latest_slot(schedule: Schedule, zone: tzinfo, instant: datetime) -> datetime:
    """Given a schedule, its zone and an instant, return the latest slot at or before the instant."""
    if not (_latest.zone is zone and _latest.instant == instant):
        _latest.zone, _latest.instant, _latest.slots = zone, instant, {}
    slot = _latest.slots.get(schedule)
    if slot is None:
        slot = max(slot for slot in schedule.slots_around(zone, instant) if slot <= instant)
        _latest.slots[schedule] = slot
    return slot


class _Latest:
    """The latest slots for one instant: a tick asks for those of all policies, of which many have the same times."""

    zone: Optional[tzinfo] = None
    instant: Optional[datetime] = None
    slots: Dict[Schedule, datetime] = {}


_latest = _Latest()


def next_slot(schedule: Schedule, zone: tzinfo, instant: datetime) -> datetime:
    """Given a schedule, its zone and an instant, return the first slot after the instant."""
    return min(slot for slot in schedule.slots_around(zone, instant) if slot > instant)


def next_tick(instant: datetime) -> datetime:
    """The first quarter of an hour after an instant. In every zone, ticks and slots are quarters of an hour."""
    return datetime.fromtimestamp((instant.timestamp() // 900 + 1) * 900, UTC)


def due_slot(
    schedule: Schedule, zone: tzinfo, last_run: Optional[datetime], now: datetime, since: Optional[datetime] = None
) -> Optional[datetime]:
    """Return the slot that is to be served now, or None.

    Only the latest slot counts, however many were missed. `last_run` is the end of the last run, None if there was
    none. A last run in the future comes from a wrong clock and counts as none, or the policy would not run until then.
    A policy that never ran is due only in the tick of a slot, because an earlier slot may have passed before the policy
    was made. `since` is the first tick that could not serve what was due, if that was an earlier one: slots since then
    are late, not missed.
    """
    slot = latest_slot(schedule, zone, now)
    if last_run is None or in_future(last_run, now):
        return slot if slot > min(since or now, now) - TICK_INTERVAL else None
    return slot if slot > last_run else None
