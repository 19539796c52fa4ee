"""Time zones: dom0's own, and zones by name."""

import os
import re
import time
from calendar import timegm
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Optional

from vmss.core.datetimes import EPOCH, UTC
from vmss.core.text import quoted

# The form of a zone's name, such as America/Argentina/Buenos_Aires or Etc/GMT+5: no path, no rule.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z][A-Za-z0-9_+-]*){0,2}\Z")
_NAME_MAX = 64


class Dom0Zone(tzinfo):
    """The machine's own zone, from its C library: TZ, else /etc/localtime.

    It converts an instant to the wall clock (`instant.astimezone(zone)`) and nothing else; the result has the offset
    and the zone's abbreviation of that instant.
    """

    def fromutc(self, instant: datetime) -> datetime:
        reading = time.localtime(timegm(instant.replace(tzinfo=UTC).timetuple()))
        offset = timedelta(seconds=reading.tm_gmtoff)
        return (instant + offset).replace(tzinfo=timezone(offset, reading.tm_zone))

    def utcoffset(self, wall: Optional[datetime]) -> Optional[timedelta]:
        return None  # a wall-clock reading may be two instants, or none

    def dst(self, wall: Optional[datetime]) -> Optional[timedelta]:
        return None

    def tzname(self, wall: Optional[datetime]) -> Optional[str]:
        return None


def machine_zone() -> tzinfo:
    """This machine's own zone (/etc/localtime), whatever TZ says: in dom0, a shell may have any."""
    if "TZ" not in os.environ:
        return time_zone(None)
    from dateutil import tz  # slow to load, and cron sets no TZ

    try:
        return tz.tzfile("/etc/localtime")
    except (OSError, ValueError):
        return UTC  # as the C library has it, where there is no such file


def set_zone(setting: str) -> tzinfo:
    """The zone that the setting names; this machine's if it names none."""
    return time_zone(setting) if setting else machine_zone()


def time_zone(name: Optional[str]) -> tzinfo:
    """Given the name of a time zone, or None for dom0's own (TZ, else /etc/localtime), return it.

    Raise ValueError for an unknown name. Anything but a name is refused before dateutil sees it, which opens paths.
    """
    if not name:
        time.tzset()
        return Dom0Zone()
    if len(name) > _NAME_MAX or not _NAME.match(name):
        raise ValueError("%s is not a known time zone" % quoted(name))
    return _named(name)


@lru_cache(maxsize=8)
def _named(name: str) -> tzinfo:
    """The zone of this name, which is read and tried once. Raise ValueError for an unknown one."""
    from dateutil import tz  # slow to load, and the zone is hardly ever named

    try:
        zone = tz.gettz(name)
        if zone is not None:
            for day in range(0, 366, 7):  # an impossible offset may apply in summer only
                (EPOCH + timedelta(days=day)).astimezone(zone).utcoffset()
    except Exception:  # noqa: BLE001 - it reads whatever bears the name, and raises any error
        zone = None
    if zone is None:
        raise ValueError("%s is not a known time zone" % quoted(name))
    return zone
