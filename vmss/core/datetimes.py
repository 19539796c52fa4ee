"""Instants as XAPI writes them, and time zones by name."""

import re
from datetime import datetime, timezone, tzinfo
from typing import Any

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


def format_datetime(instant: datetime) -> str:
    """Given an instant, return it as XAPI takes it: 20260131T10:15:00Z."""
    return instant.astimezone(UTC).strftime("%Y%m%dT%H:%M:%SZ")


def local(instant: datetime, zone: tzinfo) -> str:
    """An instant as local wall-clock time, as the lines of the vendor's article have it."""
    return str(instant.astimezone(zone).replace(tzinfo=None))
