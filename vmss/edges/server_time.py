"""The coordinator's clock and time zone: this machine's in its dom0; from anywhere else, as xapi tells them."""

from datetime import datetime, timedelta, timezone, tzinfo
from typing import Optional, Tuple

from vmss.core.datetimes import UTC, minutes_ahead, parse_reading
from vmss.core.records import Pool
from vmss.edges.clock import Clock, RemoteClock
from vmss.edges.settings import Settings
from vmss.edges.surroundings import Surroundings
from vmss.edges.xapi import Refused, Xapi, understood
from vmss.edges.zones import set_zone, time_zone


def clock_and_zone(around: Surroundings, xapi: Xapi, pool: Pool, settings: Settings) -> Tuple[Clock, tzinfo]:
    """The clock to decide by, and the zone of the schedules: the setting's, else the coordinator's. The zone of whoever
    asks (TZ) plays no part."""
    clock = around.clock or Clock()
    if around.clock is None and not around.place.local:
        with understood("host.get_servertime"):
            clock = RemoteClock(parse_reading(xapi.call("host.get_servertime", pool.coordinator)))
    if settings.timezone or around.place.local:
        return clock, set_zone(settings.timezone)
    return clock, _ask_zone(xapi, pool.coordinator, clock.now())


def _ask_zone(xapi: Xapi, coordinator: str, now: datetime) -> tzinfo:
    """The zone that the host names, if its wall clock agrees. xapi before 2025 names none, and one that somebody has
    set since xapi started is not known to it: then the offset from UTC that the host has now is taken for every
    instant, and instants beyond the next change of its clock are an hour off (docs/xapi-facts.md, Time zones)."""
    named, offset = _named(xapi, coordinator), _offset(xapi, coordinator, now)
    if named is not None and offset in (None, now.astimezone(named).utcoffset()):
        return named
    return UTC if offset is None else timezone(offset)


def _named(xapi: Xapi, coordinator: str) -> Optional[tzinfo]:
    try:
        name = str(xapi.call("host.get_timezone", coordinator))
        return time_zone(name) if name else None
    except (Refused, ValueError):
        return None


def _offset(xapi: Xapi, coordinator: str, now: datetime) -> Optional[timedelta]:
    try:
        reading = xapi.call("host.get_server_localtime", coordinator)
    except Refused:
        return None
    with understood("host.get_server_localtime"):
        minutes = minutes_ahead(parse_reading(reading), now)  # it comes without a zone
        if abs(minutes) > 15 * 60:
            raise ValueError(str(reading))
        return timedelta(minutes=minutes)
