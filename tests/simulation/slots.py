"""The slots of a schedule, found by walking back over the quarters of real hours: the rules of the design, section 3,
without a line of the code under test. All zones change their clocks at full quarters, by full quarters."""

from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Dict, List, NamedTuple, Tuple

from dateutil import tz

UTC = timezone.utc
SECONDS = 900
QUARTER = timedelta(seconds=SECONDS)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# No clock is set back by more than this.
QUARTERS_BACK_MAX = 8

_zone = lru_cache(maxsize=None)(tz.gettz)


class Quarter(NamedTuple):
    """The beginning of a quarter of an hour: what the clock shows, what it has just skipped, and whether it showed
    the same before, as it does in autumn."""

    shown: datetime
    skipped: List[datetime]
    again: bool


def _shown(zone: str, number: int) -> datetime:
    return datetime.fromtimestamp(number * SECONDS, UTC).astimezone(_zone(zone)).replace(tzinfo=None)


@lru_cache(maxsize=200000)
def _quarter(zone: str, number: int) -> Quarter:
    shown = _shown(zone, number)
    expected = _shown(zone, number - 1) + QUARTER
    skipped = []
    while expected < shown:
        skipped.append(expected)
        expected += QUARTER
    offset = shown - datetime.fromtimestamp(number * SECONDS, UTC).replace(tzinfo=None)
    earlier = _shown(zone, number - QUARTERS_BACK_MAX) - datetime.fromtimestamp(
        (number - QUARTERS_BACK_MAX) * SECONDS, UTC
    ).replace(tzinfo=None)
    again = earlier > offset and any(_shown(zone, number - back) == shown for back in range(1, QUARTERS_BACK_MAX + 1))
    return Quarter(shown, skipped, again)


def _meant(frequency: str, minute: int, hour: int, days: str, shown: datetime) -> bool:
    """Whether a schedule means what a clock shows."""
    return (
        shown.minute == minute
        and (frequency == "hourly" or shown.hour == hour)
        and (frequency != "weekly" or DAYS[shown.weekday()] in days.split(","))
    )


@lru_cache(maxsize=200000)
def _is_slot(zone: str, number: int, frequency: str, minute: int, hour: int, days: str) -> bool:
    quarter = _quarter(zone, number)
    if _meant(frequency, minute, hour, days, quarter.shown):
        # An hourly one is served in every real hour.
        return frequency == "hourly" or not quarter.again
    # What falls into a gap comes at its end. Of an hour that is skipped as a whole nothing real has passed.
    return any(
        _meant(frequency, minute, hour, days, skipped) and (frequency != "hourly" or skipped.hour == quarter.shown.hour)
        for skipped in quarter.skipped
    )


def latest_slot(zone: str, policy: Dict[str, Any], now: datetime) -> datetime:
    """The latest slot at or before an instant of a policy, given as its record."""
    schedule = policy["schedule"]
    number = _latest(
        zone,
        int(now.timestamp() // SECONDS),
        policy["frequency"],
        int(schedule.get("min", 0)),
        int(schedule.get("hour", 0)),
        str(schedule.get("days", "")),
    )
    return datetime.fromtimestamp(number * SECONDS, UTC)


# The number of the latest slot, by schedule and by number of a quarter: the one that was asked for last.
_asked: Dict[Tuple[Any, ...], Tuple[int, int]] = {}


def _latest(zone: str, number: int, frequency: str, minute: int, hour: int, days: str) -> int:
    key = (zone, frequency, minute, hour, days)
    asked, slot = _asked.get(key, (number + 1, 0))
    start, end = number, asked if asked <= number else 0  # nothing but what lies between is new
    while number > end and not _is_slot(zone, number, frequency, minute, hour, days):
        number -= 1
    _asked[key] = start, number if number > end else slot
    return _asked[key][1]
