"""When a snapshot schedule is due: its slots, in wall-clock time of one zone, as instants in UTC.

A slot is one instant at which a policy is scheduled. Everything here is a function of values: the instants
are aware datetimes in UTC, the zone is any `tzinfo` (python-dateutil's in practice), and no clock is read.

The rules:

- A slot whose wall-clock time falls into a gap of the clock (spring) is served at the first instant after
  the gap.
- A daily or weekly slot that occurs twice (autumn) is served once, at its first occurrence; an hourly one is
  served at both, which keeps one in every real hour. By the same thought an hour that the clock skips as a
  whole has no hourly slot: no real hour passed.
"""

from datetime import date, datetime, time, timedelta, tzinfo
from typing import FrozenSet, Iterator, NamedTuple, Optional

from vmss.core.datetimes import UTC, wall_clock, wall_to_instants

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HOURLY, DAILY, WEEKLY = FREQUENCIES = ("hourly", "daily", "weekly")

# A policy that never ran is due only while its slot is younger than this: the distance of two ticks.
TICK_INTERVAL = timedelta(minutes=15)

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)


class Schedule(NamedTuple):
    """Wall-clock times: `hourly` at `minute`, `daily` at `hour`:`minute`, `weekly` on `days` (0 is Monday)."""

    frequency: str
    minute: int = 0
    hour: int = 0
    days: FrozenSet[int] = frozenset([0])

    def __str__(self) -> str:
        if self.frequency == HOURLY:
            return "hourly at minute %02d" % self.minute
        clock = "%02d:%02d" % (self.hour, self.minute)
        if self.frequency == DAILY:
            return "daily at " + clock
        return "weekly on %s at %s" % (", ".join(DAYS[day] for day in sorted(self.days)), clock)


def latest_slot(schedule: Schedule, zone: tzinfo, instant: datetime) -> datetime:
    """Given a schedule, its zone and an instant, return the latest slot at or before the instant."""
    return max(slot for slot in _slots_around(schedule, zone, instant) if slot <= instant)


def next_slot(schedule: Schedule, zone: tzinfo, instant: datetime) -> datetime:
    """Given a schedule, its zone and an instant, return the first slot after the instant."""
    return min(slot for slot in _slots_around(schedule, zone, instant) if slot > instant)


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


def _slots_around(schedule: Schedule, zone: tzinfo, instant: datetime) -> Iterator[datetime]:
    """Yield slots near the instant in any order: at least the latest one at or before it and the next one."""
    if schedule.frequency == HOURLY:
        return _hourly_slots(schedule.minute, zone, instant)
    return _daily_slots(schedule, zone, instant)


def _hourly_slots(minute: int, zone: tzinfo, instant: datetime) -> Iterator[datetime]:
    # The wall-clock hours near four real hours on either side, and their neighbours: where the clock was
    # changed at 00:01, an hour lasted for a minute only.
    near = {_hour(wall_clock(zone, instant + step * _HOUR)) for step in range(-4, 5)}
    for hour in {hour + step * _HOUR for hour in near for step in (-1, 0, 1)}:
        for slot in wall_to_instants(zone, hour.replace(minute=minute)):
            # A slot moved out of a gap stays with the hour it belongs to, if any of that hour is left.
            if _hour(wall_clock(zone, slot)) == hour:
                yield slot


def _daily_slots(schedule: Schedule, zone: tzinfo, instant: datetime) -> Iterator[datetime]:
    at = time(schedule.hour, schedule.minute)
    today = wall_clock(zone, instant).date()
    days = schedule.days if schedule.frequency == WEEKLY else frozenset(range(7))
    for day in _dates(today, -9, 9):
        if day.weekday() in days:
            yield wall_to_instants(zone, datetime.combine(day, at))[0]


def _dates(today: date, first: int, last: int) -> Iterator[date]:
    for offset in range(first, last + 1):
        yield today + offset * _DAY


def _hour(wall: datetime) -> datetime:
    return wall.replace(minute=0, second=0, microsecond=0)
