"""Checks of what every pass needs: settings, a session with xapi, the licence, and clocks that agree."""

from datetime import datetime, timedelta, timezone, tzinfo
from typing import Iterator

from vmss.core import words
from vmss.core.datetimes import CLOCK_TOLERANCE, format_iso, minutes_ahead, parse_reading
from vmss.core.text import one_line, quoted
from vmss.edges.clock import Clock
from vmss.edges.settings import POOL_PREFIX
from vmss.edges.xapi import Refused, understood
from vmss.edges.zones import machine_zone
from vmss.insight import state
from vmss.insight.case import Case
from vmss.insight.findings import CRITICAL, OK, UNKNOWN, WARNING, Finding, skipped
from vmss.insight.reading import Reading


def settings(case: Case) -> Iterator[Finding]:
    """Whether the settings can be used."""
    if case.settings_error:
        yield Finding(CRITICAL, "settings", case.settings_error, "no pass begins", case.settings_remedy)
    else:
        yield Finding(OK, "settings", "there is no mistake in the settings file", one_line(case.where.config))
    if case.session is not None:
        yield from state.settings_of_pool(case.session, case.entries)


def xapi(case: Case) -> Iterator[Finding]:
    """Whether xapi answers."""
    if case.session is None or case.xapi_error:
        yield Finding(UNKNOWN, "xapi", case.xapi_error, one_line(case.where.xapi), case.xapi_remedy)
    else:
        yield Finding(OK, "xapi", "xapi answers, and lets us in", one_line(case.where.xapi))


def licence(case: Case) -> Iterator[Finding]:
    """Whether the pool's licence includes scheduled snapshots."""
    yield state.licence(case.open.pool.licensed)


def clock(case: Case) -> Iterator[Finding]:
    """Whether this machine's clock and xapi's agree, and those of all hosts: each may be the next coordinator."""
    yield from _hosts_clocks(case)
    if not case.dom0 and not case.where.xapi.startswith("https:"):
        yield skipped("clock", "a simulator has a clock of its own")
        return
    session = case.open
    answer = session.xapi.call("host.get_servertime", session.pool.coordinator)
    with understood("host.get_servertime"):
        theirs = parse_reading(answer)
    # In dom0 the session's clock is this machine's.
    yield clocks(session.now() if case.dom0 else Clock().now(), theirs)


def clocks(mine: datetime, theirs: datetime) -> Finding:
    """Whether what this machine's clock and xapi's show is the same time."""
    apart = abs(mine - theirs)
    evidence = "here %s, xapi's %s" % (format_iso(mine), format_iso(theirs))
    if apart <= CLOCK_TOLERANCE:
        return Finding(OK, "clock", "this machine's clock and xapi's agree", evidence)
    return Finding(
        WARNING,
        "clock",
        "this machine's clock and xapi's are %s apart" % words.duration(apart.total_seconds()),
        evidence,
        "set them by NTP: chronyc tracking, timedatectl",
    )


def _hosts_clocks(case: Case) -> Iterator[Finding]:
    """Whether the clocks of the other hosts show the coordinator's time."""
    session, seen, bad = case.open, 0, 0
    with understood("host"):
        hosts = [str(ref) for ref in session.xapi.call("host.get_all")]
    for host in hosts:
        if host == session.pool.coordinator:
            continue
        before = session.now()
        try:
            answer = session.xapi.call("host.get_servertime", host)
        except Refused:
            continue  # it is switched off, or gone
        after = session.now()
        with understood("host.get_servertime"):
            theirs = parse_reading(answer)
        seen += 1
        # The answer may have taken long.
        ours = min(max(theirs, before), after)
        if abs(theirs - ours) > CLOCK_TOLERANCE:
            bad += 1
            yield _wrong_clock(session, host, ours, theirs)
    if seen and not bad:
        yield Finding(OK, "clock", "the clocks of all hosts agree", "hosts besides the coordinator: %d" % seen)


def _wrong_clock(session: Reading, host: str, ours: datetime, theirs: datetime) -> Finding:
    try:
        name = str(session.xapi.call("host.get_name_label", host)) or host
    except Refused:
        name = host
    return Finding(
        WARNING,
        "clock",
        "the clock of host %s is %s %s the coordinator's"
        % (quoted(name), words.duration(abs(theirs - ours).total_seconds()), "ahead of" if theirs > ours else "behind"),
        "there %s, the coordinator's %s" % (format_iso(theirs), format_iso(ours)),
        "set it by NTP, on that host: chronyc tracking, timedatectl",
    )


def time_zone(case: Case) -> Iterator[Finding]:
    """Whether schedules run on the coordinator's wall clock."""
    session = case.open
    answer = session.xapi.call("host.get_server_localtime", session.pool.coordinator)
    with understood("host.get_server_localtime"):
        wall = parse_reading(answer)
    now = session.now()
    minutes = minutes_ahead(wall, now)
    place = case.settings.timezone or ("this machine" if case.dom0 else "the coordinator")
    zone = case.zone if case.settings.timezone or not case.dom0 else machine_zone()
    offset = now.astimezone(zone).utcoffset() or timedelta(0)
    evidence = "schedules %s, the coordinator %s" % (
        _shown(now, zone),
        _shown(now, timezone(timedelta(minutes=max(-1439, min(1439, minutes))))),
    )
    if offset == timedelta(minutes=minutes):
        yield Finding(OK, "time zone", "schedules run on the coordinator's clock", evidence)
    else:
        yield Finding(
            WARNING,
            "time zone",
            "schedules do not run on the coordinator's clock, which XenCenter shows, "
            "but on that of %s" % one_line(place, 60),
            evidence,
            _zone_remedy(case),
        )


def _zone_remedy(case: Case) -> str:
    """How schedules come to run on the coordinator's clock, by where the other zone was set."""
    pool = case.open.pool
    if POOL_PREFIX + "timezone" in pool.other_config:
        key = "param-name=other-config param-key=%stimezone" % POOL_PREFIX
        return "remove the setting: xe pool-param-remove uuid=%s %s" % (pool.uuid, key)
    if case.settings.timezone:
        return "remove the line timezone from %s" % one_line(case.where.config)
    return "set the zone of dom0: timedatectl set-timezone ZONE"


def _shown(now: datetime, zone: tzinfo) -> str:
    return now.astimezone(zone).strftime("%H:%M %z")
