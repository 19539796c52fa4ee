"""Instants as XAPI writes them, and time zones by name."""

import re
import time
from calendar import timegm
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, Optional

from vmss.core.text import quoted

UTC = timezone.utc
_CANONICAL = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z\Z")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # xapi's "never"


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


def parse_reading(value: Any) -> datetime:
    """Given what a clock showed, as a datetime of XAPI, return the instant. Raise ValueError also for one that leaves
    the calendar no room to reckon with on both sides."""
    instant = parse_datetime(value)
    if not 1970 <= instant.year < 9000:
        raise ValueError("%s is not in a year from 1970 to 8999" % quoted(str(value)))
    return instant


class Dom0Zone(tzinfo):
    """The machine's own zone, as its C library has it: TZ, else /etc/localtime.

    It answers one question, what the clock shows at an instant (`instant.astimezone(zone)`); the answer carries the
    offset and the zone's abbreviation of that instant.
    """

    def fromutc(self, instant: datetime) -> datetime:
        reading = time.localtime(timegm(instant.replace(tzinfo=UTC).timetuple()))
        offset = timedelta(seconds=reading.tm_gmtoff)
        return (instant + offset).replace(tzinfo=timezone(offset, reading.tm_zone))

    def utcoffset(self, wall: Optional[datetime]) -> Optional[timedelta]:
        return None  # what a clock shows need not be one instant

    def dst(self, wall: Optional[datetime]) -> Optional[timedelta]:
        return None

    def tzname(self, wall: Optional[datetime]) -> Optional[str]:
        return None


def format_datetime(instant: datetime) -> str:
    """Given an instant, return it as XAPI takes it: 20260131T10:15:00Z."""
    return instant.astimezone(UTC).strftime("%Y%m%dT%H:%M:%SZ")


def time_zone(name: Optional[str]) -> tzinfo:
    """Given the name of a time zone, or None for dom0's own (TZ, else /etc/localtime), return it.

    Raise ValueError for an unknown name.
    """
    if not name:
        time.tzset()
        return Dom0Zone()
    from dateutil import tz  # slow to load, and hardly anybody names a zone

    try:
        zone = tz.gettz(name)
        if zone is not None:
            for day in range(0, 366, 7):  # a rule may have an offset that only shows in summer
                (EPOCH + timedelta(days=day)).astimezone(zone).utcoffset()
    except Exception:  # noqa: BLE001 - it takes a name for a path, a rule or a file, and raises whatever comes of that
        zone = None
    if zone is None:
        raise ValueError("%s is not a known time zone" % quoted(name))
    return zone


def local(instant: datetime, zone: tzinfo) -> str:
    """An instant as local wall-clock time, as the lines of the vendor's article have it."""
    return str(instant.astimezone(zone).replace(tzinfo=None))
