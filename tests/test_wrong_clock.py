"""A clock that was ahead: what is dated in the future proves nothing, is named, and has a way out (design, rule 14)."""

import io
import json
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.front import Front
from tests.pool import START, TestPool
from vmss.cli.commands import history, show
from vmss.cli.commands import list as listing
from vmss.cli.commands import next as forecast
from vmss.core.messages import FAILED, LOCK_FAILED, SUCCEEDED, body
from vmss.core.schedule import due_slot
from vmss.edges.alerts import Alerts
from vmss.edges.clock import Clock
from vmss.edges.log import Log
from vmss.insight import checks, lock_and_log
from vmss.insight.findings import OK, WARNING, Finding
from vmss.insight.logfile import LogSummary
from vmss.insight.reading import reading
from vmss.installation.root import Root
from vmss.simulator.build import build_pool

UTC = timezone.utc
AHEAD = timedelta(days=365)


def ask(pool: TestPool, command: Any, *words: str) -> List[Dict[str, Any]]:
    out = io.StringIO()
    with reading(pool.surroundings()) as session:
        command.show(session, command.parser().parse_args(list(words) + ["--json"]), out)
    return list(json.loads(out.getvalue()))


def findings(pool: TestPool, check: str, **around: Any) -> List[Finding]:
    found, _session = checks.examine(pool.surroundings(**around), Root(str(pool.folder / "dom0")), False)
    return [finding for finding in found if finding.check == check]


def message(pool: TestPool, policy: str, name: str, at: datetime, text: str = "") -> None:
    """A message of that time."""
    now = pool.simulator.now()
    pool.simulator.set_time(at)
    pool.call("message.create", name, "5" if name == SUCCEEDED else "3", "VMSS", pool.uuid("VMSS", policy), text)
    pool.simulator.set_time(now)


@pytest.fixture()
def failing(pool: TestPool) -> str:
    """A schedule that fails at 10:15 and 11:15; its SUCCEEDED message is of 2027."""
    vm = pool.vm("vm", [pool.sr()])
    pool.call("VM.add_to_blocked_operations", vm, "snapshot", "no")
    policy = pool.policy([vm], name="hourly")
    message(pool, policy, SUCCEEDED, START + AHEAD, "All is well.")
    for hour in (10, 11):
        pool.at(hour, 15)
        pool.tick()
    pool.at(11, 20)
    return policy


@pytest.fixture()
def ahead(pool: TestPool) -> str:
    """A schedule that ran three times with the clock a year ahead, and twice with the right one."""
    sr = pool.sr()
    policy = pool.policy([pool.vm("vm 1", [sr]), pool.vm("vm 2", [sr])], name="hourly")
    for hour in range(3):
        pool.simulator.set_time(START + AHEAD + timedelta(hours=hour, minutes=15))
        pool.tick()
    for hour in (10, 11):
        pool.at(hour, 15)
        pool.tick()
    pool.at(11, 20)
    return policy


def test_a_message_of_the_future_hides_no_run_that_failed(pool: TestPool, failing: str) -> None:
    assert [row["last_result"] for row in ask(pool, listing)] == ["failed"]
    assert [row["last_result"] for row in ask(pool, show, "hourly")] == ["failed"]
    assert [row["message"] for row in ask(pool, history)] == [FAILED, FAILED]
    assert [row["message"] for row in ask(pool, history, "--last", "1")] == [FAILED]
    assert [row["message"] for row in ask(pool, history, "--last", "7d")] == [FAILED, FAILED]


def test_a_minute_is_no_future(pool: TestPool) -> None:
    policy = pool.policy()
    message(pool, policy, SUCCEEDED, pool.simulator.now() + timedelta(seconds=50))
    assert [row["message"] for row in ask(pool, history)] == [SUCCEEDED]


def test_a_last_run_and_snapshots_of_the_future_are_not_shown_as_the_last(pool: TestPool, ahead: str) -> None:
    (row,) = ask(pool, show, "hourly")
    assert row["last_run"] == "2026-03-02T11:15:%s" % row["last_run"][-3:]
    assert {vm["newest_snapshot"][:13] for vm in row["vm_list"]} == {"2026-03-02T11"}
    pool.call("VMSS.set_last_run_time", ahead, "20270302T10:15:00Z")
    assert [one["last_run"] for one in ask(pool, listing)] == [None]


def test_the_doctor_names_what_is_of_the_future_until_it_is_mended(pool: TestPool, ahead: str) -> None:
    pool.simulator.db.set("VMSS", ahead, "last_run_time", START + AHEAD)
    last, alerts, snapshots = findings(pool, "dates")
    assert {finding.severity for finding in (last, alerts, snapshots)} == {WARNING}
    assert "the last run of 'hourly' is dated in the future" in last.text and "12:15" not in last.text
    assert "the next run sets it right, 2026-03-02 12:15 UTC" in last.remedy
    assert alerts.text.startswith("3 alerts of 'hourly' are dated in the future")
    assert snapshots.text.startswith("4 scheduled snapshots of vm 1 and vm 2 are dated in the future")
    assert snapshots.remedy == "vmss prune --dated-in-future"
    (retention,) = findings(pool, "retention")
    assert "but for those dated in the future" in retention.text
    # The remedy of the alerts, as printed; and the next run.
    shell(pool, alerts.remedy)
    pool.at(12, 15)
    pool.tick()
    (left,) = findings(pool, "dates")
    assert left.text == snapshots.text
    assert len(pool.alerts(ahead)) == 3


def by_name(pool: TestPool, vm: str) -> str:
    return str(pool.call("VM.get_by_name_label", vm)[0])


def shell(pool: TestPool, line: str) -> None:
    """Run a remedy as it is printed."""
    command = 'vmss() { %s -m vmss "$@"; }; %s' % (sys.executable, line)
    environment = {"VMSS_XAPI": pool.place.xapi, "PATH": "/usr/bin:/bin"}
    subprocess.run(["sh", "-ec", command], env=environment, check=True, timeout=60)


def test_the_remedy_of_one_alert(pool: TestPool, failing: str) -> None:
    (finding,) = findings(pool, "dates")
    assert re.match(r"vmss xe message-destroy uuid=[0-9a-f-]{36}\Z", finding.remedy)
    shell(pool, finding.remedy)
    assert [found.severity for found in findings(pool, "dates")] == [OK]


def test_of_a_large_pool_the_vms_with_too_many_are_looked_at(
    pool: TestPool, ahead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vmss.insight import checks_of_dates

    ready = [snapshot for vm in ("vm 1", "vm 2") for snapshot in pool.snapshots(by_name(pool, vm))]
    for snapshot in ready[:2]:  # of the three or four of vm 1 two are left, which is no more than is to be kept
        pool.call("VM.destroy", pool.call("VM.get_by_uuid", snapshot["uuid"]))
    monkeypatch.setattr(checks_of_dates, "_SNAPSHOTS_MAX", 5)
    (alerts, snapshots) = findings(pool, "dates")
    assert snapshots.text.startswith("2 scheduled snapshots of vm 2 are dated in the future")


def test_an_alert_of_the_future_keeps_none_from_being_raised(pool: TestPool) -> None:
    policy = pool.policy()
    message(pool, policy, LOCK_FAILED, START + AHEAD)

    class Now(Clock):
        def now(self) -> datetime:
            return pool.simulator.now()

    alerts = Alerts(pool.xapi, Now(), Log(None, pool.simulator.now, UTC))
    for _ in range(2):
        alerts.create_once(LOCK_FAILED, pool.uuid("VMSS", policy), body(LOCK_FAILED, "x"), START)
    assert len(pool.alerts(policy)) == 2


def test_next_takes_a_last_run_of_the_future_for_none(pool: TestPool, ahead: str) -> None:
    pool.simulator.db.set("VMSS", ahead, "last_run_time", START + AHEAD)
    runs = ask(pool, forecast, "--hours", "2")
    assert [(run["time"], run["late"]) for run in runs] == [
        ("2026-03-02T12:15:00Z", False),
        ("2026-03-02T13:15:00Z", False),
    ]


@pytest.mark.parametrize("seconds, slot", [(0, None), (60, None), (61, START)])
def test_a_clock_that_was_set_by_less_than_a_minute_makes_no_last_run_a_never(seconds: int, slot: Any) -> None:
    from vmss.core.frequencies import HOURLY, Schedule

    # The slot was served: a last run shortly after now says so.
    assert due_slot(Schedule(HOURLY, 0), UTC, START + timedelta(seconds=seconds), START) == slot


def test_a_tick_of_the_future_proves_nothing() -> None:
    for seconds, severity in ((60, OK), (61, WARNING), (3600, WARNING)):
        found = lock_and_log.last_tick(LogSummary("/log", tick=START + timedelta(seconds=seconds)), START)
        assert found.severity == severity


def test_a_pass_that_began_in_the_future_has_not_lasted_any_time() -> None:
    holder = {"pid": 7, "since": (START + AHEAD).strftime("%Y%m%dT%H:%M:%SZ")}
    assert lock_and_log.running(holder, {}, "", 86400, START).text == "a pass is running"


# The clocks of the other hosts


def test_the_clock_of_each_host_is_compared(tmp_path: Path) -> None:
    with TestPool(tmp_path) as pool:
        build_pool(pool.simulator.call, hosts=2, srs=0, vms=0)
        (finding, skipped) = findings(pool, "clock")
        assert (finding.severity, finding.evidence) == (OK, "hosts besides the coordinator: 1") and skipped.skipped
        asked: List[str] = []

        def rewrite(method: str, answer: bytes) -> bytes:
            if method != "host.get_servertime":
                return answer
            asked.append(method)
            return re.sub(rb"[0-9]{8}T[0-9:]{8}Z", b"20260302T09:56:00Z", answer)

        path = str(tmp_path / "front")
        Front(path, pool.socket, rewrite=rewrite)
        place = pool.place._replace(xapi="unix:" + path)
        (finding, skipped) = findings(pool, "clock", place=place)
        assert finding.severity == WARNING and " behind the coordinator's" in finding.text and len(asked) == 1
        assert "4 min" in finding.text and "on that host" in finding.remedy
