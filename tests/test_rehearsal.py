"""A rehearsal and the run decide alike, whatever the state of the pool and the zone of whoever asks."""

import json
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import List, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pool import START, TestPool
from tests.test_commands import vmss
from vmss.core.datetimes import format_datetime
from vmss.edges.lock import LockDirectory
from vmss.edges.sessions import LOGON_FAILURE
from vmss.edges.settings import Settings
from vmss.edges.transport import UnixTransport
from vmss.insight.reading import reading
from vmss.passes.request import Request
from vmss.passes.run import run

UTC = timezone.utc
HOUR = timedelta(hours=1)

# One decision

# What tells whether a policy is due: its slot, its last run (None: it never ran), both in quarters of an hour before
# the time of the pass, and whether it is enabled and has a VM.
STATES = st.lists(
    st.tuples(
        st.sampled_from(["hourly", "daily"]),
        st.integers(0, 12),
        st.one_of(st.none(), st.integers(-5, 12)),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@given(
    STATES,
    st.integers(-100, 400),
    st.one_of(st.none(), st.integers(0, 12)),
    st.one_of(st.none(), st.integers(0, 12)),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_a_rehearsal_for_an_instant_says_what_the_run_at_that_instant_does(
    tmp_path_factory: pytest.TempPathFactory,
    states: List[Tuple[str, int, Optional[int], bool, bool]],
    ahead: int,
    no_session: Optional[int],
    unfinished: Optional[int],
    licensed: bool,
) -> None:
    """Also about policies that never ran, and slots that earlier ticks got no session for, or found the lock held."""
    at = START + timedelta(minutes=15) * ahead
    with TestPool(tmp_path_factory.mktemp("pool")) as pool:
        for number, (frequency, slot, last, enabled, has_vm) in enumerate(states):
            when = at - slot * HOUR / 4
            keys = {"min": str(when.minute), **({"hour": str(when.hour)} if frequency == "daily" else {})}
            vms = [pool.vm("vm%d" % number)] if has_vm else []
            policy = pool.policy(vms, "policy %d" % number, frequency=frequency, schedule=keys, enabled=enabled)
            if last is not None:
                pool.call("VMSS.set_last_run_time", policy, format_datetime(at - last * HOUR / 4))
        leave_behind(pool, at, no_session, unfinished)
        if not licensed:
            (ref,) = pool.simulator.db.tables["pool"].rows
            pool.simulator.db.set("pool", ref, "restrictions", {"restrict_vmss": "true"})
        report = pool.tick(dry_run=True, at=at)
        assert report.rehearsal is not None
        names = [one.schedule for one in report.rehearsal.vms]
        served = pool.tick(at=at).served
        assert names == [
            each.turn.policy.name for each in sorted(served, key=lambda it: it.turn.policy.name) if licensed
        ]
        assert report.line.startswith("schedules that would run: %d of %d;" % (len(names), len(states)))


def leave_behind(pool: TestPool, at: datetime, no_session: Optional[int], unfinished: Optional[int]) -> None:
    """What earlier ticks, so many quarters of an hour before, have left beside the lock."""
    directory = LockDirectory(pool.place.lock_dir)
    try:
        if no_session is not None:
            since = format_datetime(at - no_session * HOUR / 4)
            directory.keep(LOGON_FAILURE, {"xapi": pool.place.xapi, "since": since, "last": since})
        if unfinished is not None:
            since = format_datetime(at - unfinished * HOUR / 4)
            (record,) = pool.call("pool.get_all_records").values()
            lock = Path(pool.place.lock_dir) / (record["uuid"] + ".lock")
            lock.write_text(json.dumps({"since": since}))
    finally:
        directory.close()


# The zone of whoever asks


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_what_runs_does_not_depend_on_the_zone_of_whoever_asks(pool: TestPool, zone: str) -> None:
    policy = pool.policy([pool.vm("vm", [pool.sr()])], frequency="daily", schedule={"hour": "2", "min": "30"})
    (pool.folder / "conf").write_text("[vmss]\nlogin_limit = 0\n")
    pool.call("host.set_timezone", pool.host, "America/New_York")
    rehearsed = [
        vmss(pool.folder, "run", "--dry-run", "--at", at, VMSS_XAPI=pool.place.xapi, TZ=zone).out
        for at in ("2026-03-07T07:30:00Z", "2026-03-08T06:30:00Z", "2026-03-08T07:00:00Z")
    ]
    # The clocks of New York skip 02:30 on 8 March: it is served at 03:00, which is 07:00 UTC.
    assert [text.splitlines()[-1].split(";")[0] for text in rehearsed] == [
        "schedules that would run: %s of 1" % number for number in (1, 0, 1)
    ]
    vmss(pool.folder, "run", "--at", "2026-03-08T07:00:00Z", VMSS_XAPI=pool.place.xapi, TZ=zone)
    assert "2026-03-08 03:00:00 (EDT, UTC-04:00)" in pool.alerts(policy)[0]["body"]


def test_in_dom0_a_shell_may_have_any_zone(pool: TestPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The zone is the one of /etc/localtime, which xapi and cron have."""
    pool.policy([pool.vm("vm", [pool.sr()])], frequency="daily", schedule={"hour": "2", "min": "30"})
    pool.settings = Settings(login_limit=0)
    place = pool.place._replace(xapi="unix:/var/lib/xcp/xapi")
    at = datetime(2026, 3, 2, 2, 30)  # noqa: DTZ001, what the wall clock of this machine shows
    try:
        monkeypatch.delenv("TZ", raising=False)
        time.tzset()
        due = at.astimezone(UTC)
        monkeypatch.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        around = pool.surroundings(place=place, transport=UnixTransport(pool.socket))
        report = run(Request(dry_run=True, at=due), around)
        with reading(pool.surroundings(place=place, transport=UnixTransport(pool.socket))) as session:
            shown = due.astimezone(session.zone).replace(tzinfo=None)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert report.line.startswith("schedules that would run: 1 of 1")
    assert shown == at
