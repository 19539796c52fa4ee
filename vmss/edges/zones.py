"""Time zones: dom0's own, and those that have a name."""

import time
from calendar import timegm
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Optional

from vmss.core.datetimes import EPOCH, UTC
from vmss.core.text import quoted


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
