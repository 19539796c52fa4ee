"""Instants: as XAPI writes them, and as a wall clock shows them."""

import re
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, List

from vmss.core.text import quoted

UTC = timezone.utc
_CANONICAL = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z\Z")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # xapi's "never"

# The clocks of two machines, or of xapi and dom0, may differ by this much without meaning anything.
CLOCK_TOLERANCE = timedelta(seconds=60)


def in_future(instant: datetime, now: datetime) -> bool:
    """Whether what is dated so comes from a wrong clock, and therefore proves nothing."""
    return instant > now + CLOCK_TOLERANCE


def parse_datetime(value: Any) -> datetime:
    """Given a datetime of XAPI (text, or the client's DateTime), return the instant in UTC.

    A value without a zone is UTC, as in xapi (ocaml/libs/clock/date.ml). Raise ValueError otherwise.
    """
    text = str(value)
    try:
        match = _CANONICAL.match(text)
        if match:
            year, month, day, hour, minute, second = map(int, match.groups())
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        from dateutil.parser import isoparse  # slow to load, and xapi itself writes only the form above

        instant = isoparse(text)
        return (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("%s is not a date and time" % quoted(text))


def parse_typed(text: str) -> datetime:
    """Given a date and time as people type it, in ISO 8601, return the instant in UTC; without a zone, the reading of a
    wall clock, as a naive datetime. Raise ValueError otherwise."""
    try:
        from dateutil.parser import isoparse  # slow to load

        value: datetime = isoparse(text)
        return value if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("%s is not a date and time" % quoted(text))


def parse_reading(value: Any) -> datetime:
    """Given the reading of a clock, as a datetime of XAPI, return the instant. Raise ValueError also for a year near
    either end of the calendar, where sums with it would overflow."""
    instant = parse_datetime(value)
    if not 1970 <= instant.year < 9000:
        raise ValueError("%s is not in a year from 1970 to 8999" % quoted(str(value)))
    return instant


def format_datetime(instant: datetime) -> str:
    """Given an instant, return it as XAPI takes it: 20260131T10:15:00Z."""
    return instant.astimezone(UTC).strftime("%Y%m%dT%H:%M:%SZ")


def format_iso(instant: datetime) -> str:
    """Given an instant, return it in ISO 8601, in UTC, to the second: 2026-01-31T10:15:00Z."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def local(instant: datetime, zone: tzinfo) -> str:
    """An instant as local wall-clock time, in the form of the lines in the vendor's article."""
    return str(wall_clock(zone, instant))


def stated(instant: datetime, zone: tzinfo) -> str:
    """An instant as alerts state it: on the wall clock, to the second, with the name of the zone and its offset from
    UTC, which says the same whatever the zone of who reads it: `2026-03-26 02:30:00 (CET, UTC+01:00)`."""
    there = instant.replace(microsecond=0).astimezone(zone)
    name, offset = str(there.tzname()), str(timezone(there.utcoffset() or timedelta(0)))
    known = name if name in (offset, "UTC") else "%s, %s" % (name, offset)
    return "%s (%s)" % (there.replace(tzinfo=None), known)


def parse_stated(wall: str, zone: str) -> datetime:
    """The inverse of `stated`: given its two parts, return the instant; or, of earlier versions, which gave the name of
    the zone alone, what the wall clock showed, as a naive datetime. Raise ValueError for anything else."""
    shown = datetime.strptime(wall, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007, what a clock shows
    found = re.search(r"(?:\A|, )UTC(?:([+-])([0-9]{2}):([0-9]{2}))?\Z", zone)
    if found is None:
        return shown
    sign, hours, minutes = found.groups()
    east = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    return (shown + east if sign == "-" else shown - east).replace(tzinfo=UTC)


def minutes_ahead(wall: datetime, now: datetime) -> int:
    """By how many minutes a wall clock is ahead of UTC: `wall` is what it shows, as though that were UTC. The two were
    read at different moments, and zones differ by quarters of an hour."""
    return 15 * round((wall - now).total_seconds() / 900)


def wall_clock(zone: tzinfo, instant: datetime) -> datetime:
    """The wall-clock reading at an instant, as a naive datetime."""
    return instant.astimezone(zone).replace(tzinfo=None)


def wall_to_instants(zone: tzinfo, wall: datetime) -> List[datetime]:
    """The instants, in order, at which the wall clock shows `wall`; for a reading in a gap the end of the gap.

    The zone is only asked to convert from UTC to the wall clock, which is never ambiguous.
    """
    near = wall.replace(tzinfo=UTC)
    offsets = {wall_clock(zone, near + day) - (wall + day) for day in (-timedelta(days=1), timedelta(days=1))}
    candidates = sorted(near - offset for offset in offsets)
    found = [instant for instant in candidates if wall_clock(zone, instant) == wall]
    return found or [_end_of_gap(zone, wall, candidates[0], candidates[-1])]


def _end_of_gap(zone: tzinfo, wall: datetime, before: datetime, after: datetime) -> datetime:
    """The first instant, to the second, whose wall-clock reading is past `wall`, by bisection."""
    seconds_low, seconds_high = 0, int((after - before).total_seconds())
    while seconds_low < seconds_high:
        middle = (seconds_low + seconds_high) // 2
        if wall_clock(zone, before + timedelta(seconds=middle)) > wall:
            seconds_high = middle
        else:
            seconds_low = middle + 1
    return before + timedelta(seconds=seconds_high)
