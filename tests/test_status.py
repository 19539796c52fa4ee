"""`vmss status` against a simulated pool: what it finds, how it says it, and what it costs."""

import io
import json
import os
import re
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest

from tests.front import Front
from tests.pool import START, TestPool
from tests.test_commands import tls, vmss  # noqa: F401
from tests.test_read_back import Bench
from vmss.cli.commands import status
from vmss.core.datetimes import format_datetime
from vmss.core.messages import Victim, failed_body
from vmss.core.records import NULL
from vmss.edges.lock import LockDirectory
from vmss.edges.sessions import NoSession
from vmss.insight import state
from vmss.insight.lock_and_log import read_local
from vmss.insight.reading import reading
from vmss.passes.request import Request
from vmss.passes.run import run

# One line, numbers after the only |, then the details.
LINE = re.compile(r"VMSS (OK|WARNING|CRITICAL|UNKNOWN): [^|\n]*( \| [a-z_]+=\S+( [a-z_]+=\S+)*)?\Z")


class Said:
    """What the command says, and its exit status."""

    def __init__(self, pool: TestPool, *words: str, xapi: Optional[str] = None) -> None:
        out = io.StringIO()
        where = pool.place._replace(xapi=xapi or pool.place.xapi)
        with reading(pool.surroundings(place=where)) as session:
            self.status = status.show(session, where, status.parser().parse_args(words), out)
        self.text = out.getvalue()
        self.lines = self.text.split("\n")[:-1]
        if not words:
            assert LINE.match(self.lines[0]), self.lines[0]
            assert not any("|" in line for line in self.lines[1:])

    @property
    def first(self) -> str:
        return self.lines[0].split(" | ")[0]

    @property
    def numbers(self) -> List[str]:
        return self.lines[0].split(" | ")[1].split(" ")


def served(pool: TestPool, vms: int = 3, **fields: Any) -> List[str]:
    """A pool of which one policy ran at 10:15, and 10:20 it is."""
    sr = pool.sr()
    refs = [pool.vm("vm %d" % number, [sr]) for number in range(vms)]
    pool.policy(refs, **fields)
    pool.at(10, 15)
    pool.tick()
    pool.at(10, 20)
    return refs


def test_a_healthy_pool(pool: TestPool) -> None:
    served(pool)
    said = Said(pool)
    assert said.status == 0
    assert said.first.startswith("VMSS OK: schedules: 1, VMs: 3, last tick ")
    assert {"policies=1", "vms=3", "vms_late=0", "runs_failed=0", "running=0"} <= set(said.numbers)
    assert any("last run ended" in line and "3 of 3 VMs" in line for line in said.lines)


def test_it_leaves_no_trace(pool: TestPool) -> None:
    Said(pool)
    assert not os.path.exists(pool.place.lock_dir) and not os.path.exists(pool.place.log)
    assert pool.sessions() == 0


def without_srs(calls: List[str]) -> List[str]:
    """The calls that are about no storage repository."""
    return [call for call in calls if not call.startswith("SR.")]


def test_what_it_costs_does_not_grow_with_the_vms(pool: TestPool, tmp_path: Path) -> None:
    served(pool, vms=30)
    path = str(tmp_path / "front")
    front = Front(path, pool.socket)
    assert Said(pool, xapi="unix:" + path).status == 0
    assert len(without_srs(front.calls)) <= 6 + 2, front.calls  # two for each policy that ran
    assert len(front.calls) - len(without_srs(front.calls)) == 1 + 4  # four for each storage repository
    assert not [call for call in front.calls if call.startswith("VM.") and call != "VM.get_all_where"]


def test_a_tick_that_does_not_come(pool: TestPool) -> None:
    served(pool, frequency="daily", schedule={"hour": "10", "min": "15"})
    pool.at(10, 44)
    assert Said(pool).status == 0
    pool.at(10, 46)
    said = Said(pool)
    assert said.status == 1 and said.first.startswith("VMSS WARNING: last tick 3")
    pool.at(12)
    said = Said(pool)
    assert said.status == 2 and "crond" in said.text


def test_a_run_that_failed(pool: TestPool) -> None:
    refs = served(pool, vms=3, name="night|ly")
    pool.call("VM.add_to_blocked_operations", refs[0], "snapshot", "no")
    pool.at(11, 15)
    pool.tick()
    said = Said(pool)
    assert said.status == 1
    assert said.first.startswith("VMSS WARNING: last run of 'night\\x7cly' failed: 1 of 3 VMs; ")
    assert "1 of 3 VMs of 'night\\x7cly' has no snapshot since 2026-03-02 11:15 UTC: vm 0" in said.first
    assert "vms_late=1" in said.numbers and "runs_failed=1" in said.numbers
    pool.at(12, 15)
    pool.tick()
    assert Said(pool).status == 2  # the second slot in a row


def test_a_vm_that_never_got_one_and_whose_run_says_why(pool: TestPool) -> None:
    sr = pool.sr()
    vms = [pool.vm("good", [sr]), pool.vm("bad", [sr])]
    pool.call("VM.add_to_blocked_operations", vms[1], "snapshot", "no")
    pool.policy(vms)
    pool.at(10, 15)
    pool.tick()
    said = Said(pool)
    assert said.status == 2 and "since 2026-03-02 10:15 UTC: bad" in said.first


def test_a_vm_that_was_assigned_since_waits_for_its_first(pool: TestPool) -> None:
    served(pool)
    policy = pool.call("VMSS.get_all")[0]
    pool.call("VM.set_snapshot_schedule", pool.vm("new", []), policy)
    assert Said(pool).status == 0
    pool.at(11, 15)
    pool.tick()
    assert Said(pool).status == 0 and len(pool.snapshots(pool.call("VM.get_by_name_label", "new")[0])) == 1


def test_a_snapshot_that_somebody_deleted(pool: TestPool) -> None:
    refs = served(pool)
    pool.call("VM.destroy", pool.call("VM.get_snapshots", refs[1])[0])
    said = Said(pool)
    assert said.status == 1 and "1 of 3 VMs of 'policy' has no snapshot since 2026-03-02 10:15 UTC: vm 1" in said.first


def test_a_snapshot_too_many_makes_up_for_none(pool: TestPool) -> None:
    sr = pool.sr()
    refs = [pool.vm("vm %d" % number, [sr]) for number in range(2)]
    policy = pool.policy(refs)
    pool.call("VM.add_to_blocked_operations", refs[0], "snapshot", "no")
    other = pool.policy([pool.vm("other", [sr])], name="other")
    pool.at(10, 15)
    pool.tick()
    pool.at(10, 20)
    pool.tick(policy=pool.uuid("VMSS", policy))
    assert len(pool.snapshots(refs[1])) == 2
    assert "1 of 2 VMs of 'policy' has no snapshot since 2026-03-02 10:15 UTC: vm 0" in Said(pool).text
    # Nor does one of another schedule.
    pool.call("VM.remove_from_blocked_operations", refs[0], "snapshot")
    pool.tick(policy=pool.uuid("VMSS", policy))
    pool.tick(policy=pool.uuid("VMSS", other))
    assert Said(pool).status == 0
    for snapshot in pool.call("VM.get_snapshots", refs[1])[:2]:
        pool.call("VM.destroy", snapshot)
    assert "vm 1" in Said(pool).first


def test_snapshots_by_another_name_count(pool: TestPool) -> None:
    refs = served(pool)
    pool.call("VM.set_name_label", pool.call("VM.get_snapshots", refs[1])[0], "kept")
    pool.call("VMSS.set_name_label", pool.call("VMSS.get_all")[0], 'the "new" name')
    assert Said(pool).status == 0


def test_a_slot_that_nobody_served(pool: TestPool) -> None:
    served(pool)
    pool.at(11, 44)
    assert "has missed" not in Said(pool).text
    pool.at(11, 46)
    said = Said(pool)
    assert "'policy' has missed its run of 2026-03-02 11:15 UTC" in said.text and "vmss run --policy" in said.text
    pool.at(12, 50)
    assert "missed its run of 2026-03-02 11:15 UTC and 2026-03-02 12:15 UTC" in Said(pool).text


@pytest.mark.parametrize("fields", [{"enabled": False}, {}], ids=["disabled", "never ran"])
def test_policies_that_promise_nothing(pool: TestPool, fields: Any) -> None:
    pool.policy([pool.vm()], **fields)
    pool.at(15)
    assert Said(pool).status == 0


def test_the_licence(pool: TestPool) -> None:
    served(pool)
    pool.call("simulator.restrict", "VMSS", True)
    said = Said(pool)
    assert said.status == 2 and "licence" in said.first


def test_a_schedule_that_cannot_be_understood(pool: TestPool) -> None:
    policy = pool.policy(name="odd")
    pool.simulator.db.set("VMSS", policy, "schedule", {"min": "7"})
    said = Said(pool)
    assert said.status == 2 and "odd cannot be understood" in said.first


def test_a_pass_that_is_running(pool: TestPool) -> None:
    refs = served(pool)
    policy = pool.uuid("VMSS", pool.call("VMSS.get_all")[0])
    pool.at(11, 15)
    directory = LockDirectory(pool.place.lock_dir)
    pool_uuid = pool.uuid("pool", pool.call("pool.get_all")[0])
    holder = {"pid": 4711, "since": format_datetime(pool.simulator.now()), "session": "secret"}
    lock = directory.acquire(pool_uuid, holder)
    lock.working_on([policy])
    pool.call("VM.destroy", pool.call("VM.get_snapshots", refs[0])[0])  # of 10:15: that is late indeed
    pool.at(11, 18)
    said = Said(pool)
    text = "a pass has been running for 3 min, on 'policy', 0 of 3 VMs have their snapshot (process 4711)"
    assert text in said.text
    assert "secret" not in said.text and "running=1" in said.numbers
    assert said.status == 2 and "has no snapshot since 2026-03-02 10:15 UTC" in said.text
    # An age in which no pass is left alone.
    pool.at(12, 0, day=4)
    said = Said(pool)
    assert said.status == 2 and "longer than pass_limit" in said.text
    lock.release()
    directory.close()


def test_how_far_a_pass_has_come(pool: TestPool) -> None:
    served(pool)
    seen: List[str] = []

    def say(line: str) -> None:
        if line.startswith("[2/3]"):
            seen.extend(Said(pool).lines)

    pool.at(11, 15)
    pool.tick(say=say)
    assert any("2 of 3 VMs have their snapshot" in line or "3 of 3 VMs" in line for line in seen)
    assert any("a pass has been running" in line for line in seen)
    assert Said(pool).status == 0


def test_a_lock_directory_that_no_pass_can_use(pool: TestPool) -> None:
    served(pool)
    os.chmod(pool.place.lock_dir, 0o777)
    said = Said(pool)
    assert said.status == 2 and "nobody else may write to it" in said.first


def test_a_log_that_cannot_be_read(pool: TestPool) -> None:
    served(pool)
    os.rename(pool.place.log, pool.place.log + ".real")
    os.symlink(pool.place.log + ".real", pool.place.log)
    assert "cron has started no pass, by the log" in Said(pool).text


def test_over_https_the_lock_and_the_log_are_not_seen(pool: TestPool) -> None:
    served(pool)
    with reading(pool.surroundings()) as session:
        local = read_local(pool.place._replace(xapi="https://pool.example"), session, session.now())
        tally = state.examine(session, local, session.now())
    assert local.hidden and "running" not in tally.numbers
    assert any(finding.skipped and "https" in finding.text for finding in tally.findings)


def test_hostile_names(pool: TestPool) -> None:
    refs = served(pool, vms=2, name="a | b\u202e=1 'x'")
    for vm in refs:
        pool.call("VM.set_name_label", vm, "x | y=9;;\u2028z\nVMSS OK")
        pool.call("VM.add_to_blocked_operations", vm, "snapshot", "no")
    pool.at(11, 15)
    pool.tick()
    said = Said(pool)
    assert said.status == 2 and len(said.lines) < 12


def test_a_setting_of_the_pool_with_a_mistake(pool: TestPool) -> None:
    served(pool)
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], "vmss:retries", "many")
    said = Said(pool)
    assert said.status == 1 and "retries: 'many'" in said.first


def test_json(pool: TestPool) -> None:
    served(pool)
    rows = json.loads(Said(pool, "--json").text)
    assert {row["check"] for row in rows} == {"licence", "pass", "tick", "last run", "storage"}
    assert all(row["state"] == "OK" for row in rows)


# As a process


def test_as_monitoring_systems_start_it(pool: TestPool) -> None:
    served(pool)
    ended = vmss(pool.folder, "status", VMSS_XAPI=pool.place.xapi)
    assert ended.out.startswith("VMSS OK: ") and (ended.status, ended.err) == (0, "")
    assert pool.sessions() == 0


def test_without_xapi_nothing_is_known(tmp_path: Path) -> None:
    ended = vmss(tmp_path, "status")
    assert ended.status == 3 and ended.out.startswith("VMSS UNKNOWN: ") and "nobody.sock" in ended.out
    assert ended.err == "" and not (tmp_path / "lock").exists()


def test_settings_that_no_pass_can_use(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("[vmss]\nretries = many\n")
    ended = vmss(tmp_path, "status")
    assert ended.status == 2 and ended.out.startswith("VMSS CRITICAL: ") and "retries" in ended.out


def test_the_help_has_examples(tmp_path: Path) -> None:
    ended = vmss(tmp_path, "status", "--help")
    assert ended.status == 0 and "examples:" in ended.out and "critical" in ended.out


def test_over_https(tmp_path: Path, tls: Dict[str, str]) -> None:  # noqa: F811
    ended = vmss(tmp_path, "status", **tls)
    assert ended.status == 0 and ended.out.startswith("VMSS OK: schedules: 0, VMs: 0 | policies=0 ")
    assert "not checked: pass: the lock and the log are on the coordinator" in ended.out
    ended = vmss(tmp_path, "doctor", **tls)
    assert ended.status == 0 and "not checked\tcron entry\tthis is not dom0" in ended.out
    ended = vmss(tmp_path, "status", **dict(tls, VMSS_PASSWORD="wrong secret"))
    assert ended.status == 3 and ended.out.startswith("VMSS UNKNOWN: ") and "secret" not in ended.out


# The promise, by VMs and snapshots


def test_a_schedule_that_hangs_is_no_excuse(pool: TestPool) -> None:
    """Storage that hangs, an hourly schedule, which never ran before: its promise is broken an hour after its slot."""
    pool.policy([pool.vm("vm %d" % number, [pool.sr()]) for number in range(4)])
    said: Dict[int, Said] = {}
    path = str(pool.folder / "front")

    def before(method: str) -> None:
        hours = int((pool.simulator.now() - START).total_seconds() - 900) // 3600
        if method == "event.from" and 0 < hours <= 3 and hours not in said:
            said[hours] = Said(pool)

    Front(path, pool.socket, before=before)
    pool.at(10, 15)
    pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(80000.0, 80000.0))
    run(Request(kicked=True), pool.surroundings(place=pool.place._replace(xapi="unix:" + path)))
    assert said
    for hours in said:
        assert said[hours].status and "4 of 4 VMs of 'policy' have no snapshot since" in said[hours].text


@contextmanager
def held(pool: TestPool, minute: int = 0) -> Iterator[None]:
    """A pass has the one policy in hand, since that minute after 11 o'clock."""
    directory = LockDirectory(pool.place.lock_dir)
    pool.at(11, minute)
    lock = directory.acquire(
        pool.uuid("pool", pool.call("pool.get_all")[0]), {"pid": 7, "since": format_datetime(pool.simulator.now())}
    )
    lock.working_on([pool.uuid("VMSS", pool.call("VMSS.get_all")[0])])
    yield
    lock.release()
    directory.close()


def test_a_running_pass_hides_no_slot_that_should_be_over(pool: TestPool) -> None:
    served(pool)
    with held(pool, 15):
        for hour, minute, text in (
            (11, 44, ""),  # it may still be at it: the run of 10:15 took no time
            (11, 46, "'policy' should have ended its run of 2026-03-02 11:15 UTC: a pass has it in hand"),
            (12, 14, "'policy' should have ended its run of 2026-03-02 11:15 UTC: a pass has it in hand"),
            (14, 14, "'policy' should have ended its run of 2026-03-02 12:15 UTC and 2026-03-02 13:15 UTC: a pass"),
        ):
            pool.at(hour, minute)
            said = Said(pool)
            assert text in said.text and ("vms_late=3" in said.numbers) == bool(text)
            assert "vmss run" not in said.text  # it is refused while the pass has it in hand
        assert said.status == 2


def test_a_run_whose_vms_all_have_their_snapshots_may_take_its_time(pool: TestPool) -> None:
    served(pool)
    pool.at(11, 15)
    pool.tick()
    # As though it were still deleting.
    pool.call("VMSS.set_last_run_time", pool.call("VMSS.get_all")[0], "20260302T10:15:10Z")
    for message in pool.call("message.get_all"):
        pool.call("message.destroy", message)
    with held(pool, 16):
        pool.at(12, 10)
        assert "'policy'" not in Said(pool).first


def by_hand(pool: TestPool) -> None:
    pool.tick(policy=pool.uuid("VMSS", pool.call("VMSS.get_all")[0]))


def asked(pool: TestPool, status: int) -> List[str]:
    """The calls that a question costs."""
    path = str(pool.folder / ("front %d" % len(os.listdir(str(pool.folder)))))
    front = Front(path, pool.socket)
    said = Said(pool, xapi="unix:" + path)
    assert said.status == status, said.text
    return without_srs(front.calls)


@pytest.mark.parametrize("vms", [3, 30])
def test_what_it_costs_does_not_grow_with_the_vms_that_are_well_beside_one_that_failed(
    pool: TestPool, vms: int
) -> None:
    refs = served(pool, vms=vms)
    pool.call("VM.add_to_blocked_operations", refs[0], "snapshot", "no")
    pool.at(11, 15)
    pool.tick()
    assert len(asked(pool, 1)) == 14


@pytest.mark.parametrize("vms", [3, 30])
def test_nor_beside_one_whose_snapshot_somebody_deleted_nor_with_runs_by_hand_and_late_ones(
    pool: TestPool, vms: int
) -> None:
    refs = served(pool, vms=vms, retained_snapshots="5")
    pool.call("VM.destroy", pool.call("VM.get_snapshots", refs[1])[0])
    assert len(asked(pool, 1)) == 13
    by_hand(pool)
    assert len(asked(pool, 0)) == 9
    pool.at(11, 50)
    pool.tick()
    assert len(asked(pool, 0)) == 8


def test_a_snapshot_that_is_dated_in_the_future_is_none(pool: TestPool) -> None:
    """The clock was ahead for an instant within a run, whose alert says that all is well."""
    refs = served(pool)
    for ref, year in ((refs[0], 2027), (refs[1], 2025)):
        snapshot = pool.call("VM.get_snapshots", ref)[0]
        pool.simulator.db.set("VM", snapshot, "snapshot_time", datetime(year, 3, 2, tzinfo=timezone.utc))
    said = Said(pool)
    assert said.status == 2 and "2 of 3 VMs of 'policy' have no snapshot since" in said.first


def test_an_alert_of_the_future_hides_nothing(pool: TestPool) -> None:
    refs = served(pool)
    uuid = pool.uuid("VMSS", pool.call("VMSS.get_all")[0])
    pool.simulator.set_time(datetime(2027, 3, 2, tzinfo=timezone.utc))
    body = pool.alerts()[0]["body"]
    pool.call("message.create", "VMSS_SNAPSHOT_SUCCEEDED", "5", "VMSS", uuid, body)
    pool.call("VM.add_to_blocked_operations", refs[0], "snapshot", "no")
    for hour in (11, 12):
        pool.at(hour, 15)
        pool.tick()
    said = Said(pool)
    assert said.status == 2 and "last run of 'policy' failed: 1 of 3 VMs" in said.first and "vms_late=1" in said.numbers


def test_a_last_run_of_the_future_hides_nothing(pool: TestPool) -> None:
    served(pool)
    policy = pool.call("VMSS.get_all")[0]
    pool.simulator.db.set("VMSS", policy, "last_run_time", datetime(2027, 1, 1, tzinfo=timezone.utc))
    assert Said(pool).status == 0
    pool.at(12, 10)
    said = Said(pool)
    assert "'policy' has missed its run of 2026-03-02 11:15 UTC" in said.first and "vms_late=3" in said.numbers


def test_what_was_made_good_is_well_whatever_old_alerts_say(pool: TestPool) -> None:
    refs = served(pool)
    pool.call("VM.add_to_blocked_operations", refs[0], "snapshot", "no")
    pool.at(11, 15)
    pool.tick()
    assert Said(pool).status == 1
    # The VM is taken off its schedule.
    pool.call("VM.set_snapshot_schedule", refs[0], NULL)
    said = Said(pool)
    assert said.status == 0 and "all VMs that it left out have a snapshot by now" in said.text
    # Or the schedule is disabled.
    pool.call("VM.set_snapshot_schedule", refs[0], pool.call("VMSS.get_all")[0])
    assert Said(pool).status == 1
    pool.call("VMSS.set_enabled", pool.call("VMSS.get_all")[0], False)
    assert Said(pool).status == 0


def test_a_run_by_hand_that_was_cut_off_is_well_where_each_vm_has_the_snapshot_of_its_slot(pool: TestPool) -> None:
    refs = served(pool)
    (policy,) = pool.call("VMSS.get_all")
    pool.call("simulator.add_fault", {"method": "Async.VM.snapshot", "action": "drop"})
    with pytest.raises(NoSession):
        run(Request(policy=pool.uuid("VMSS", policy)), pool.surroundings())
    pool.at(10, 30)
    pool.tick()
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED", "VMSS_SNAPSHOT_FAILED"]
    said = Said(pool)
    assert said.status == 0 and "all VMs that it left out have a snapshot by now" in said.text
    pool.call("VM.destroy", pool.call("VM.get_snapshots", refs[2])[0])
    said = Said(pool)
    assert said.status == 2 and "vm 2" in said.text and "last run of 'policy' failed: " in said.text


def test_a_vm_for_another_is_no_late_one(pool: TestPool) -> None:
    """As many VMs as the run had, but not the same."""
    refs = served(pool)
    policy = pool.call("VMSS.get_all")[0]
    pool.call("VM.set_snapshot_schedule", refs[0], NULL)
    pool.call("VM.set_snapshot_schedule", pool.vm("new"), policy)
    assert Said(pool).status == 0
    # And one more of which somebody has deleted the snapshot.
    pool.call("VM.destroy", pool.call("VM.get_snapshots", refs[1])[0])
    assert "vm 1" in Said(pool).first


def test_a_newcomer_that_is_well_excuses_no_other(pool: TestPool) -> None:
    """One VM more than the run counted, from another schedule; and one of the others whose snapshot is gone."""
    refs = served(pool)
    other = pool.vm("other", [pool.sr()])
    pool.policy([other], name="other", schedule={"min": "30"})
    pool.at(10, 30)
    pool.tick()
    pool.at(11, 15)
    pool.tick()
    pool.call("VM.set_snapshot_schedule", other, pool.call("VMSS.get_by_name_label", "policy")[0])
    pool.at(11, 20)
    assert Said(pool).status == 0  # it has one of 10:30, and waits for 12:15
    pool.call("VM.destroy", pool.call("VM.get_by_uuid", pool.snapshots(refs[1])[-1]["uuid"]))
    said = Said(pool)
    assert said.status == 1 and "1 of 4 VMs of 'policy' has no snapshot since 2026-03-02 11:15 UTC: vm 1" in said.first


def test_two_schedules_of_one_name_do_not_stand_in_for_each_other(pool: TestPool) -> None:
    refs = served(pool)
    pool.policy([pool.vm("other %d" % number) for number in range(3)])
    pool.at(11, 15)
    pool.tick()
    assert Said(pool).status == 0
    for ref in refs:
        pool.call("VM.destroy", pool.call("VM.get_by_uuid", pool.snapshots(ref)[-1]["uuid"]))
    assert "3 of 3 VMs of 'policy' have no snapshot since 2026-03-02 11:15 UTC: vm 0, vm 1 and vm 2" in Said(pool).first


def test_a_slot_whose_run_failed_to_delete_is_still_told(pool: TestPool) -> None:
    refs = served(pool, retained_snapshots="1")
    old = pool.call("VM.get_snapshots", refs[0])[0]
    pool.simulator.db.set("VM", old, "is_default_template", True)  # xapi refuses to destroy one
    pool.at(11, 15)
    pool.tick()
    assert len(pool.snapshots(refs[0])) == 2
    said = Said(pool).first
    assert said.startswith("VMSS WARNING: ") and "last run of 'policy' failed: 1 of 3 VMs" in said


def test_a_run_that_failed_to_delete_is_told_until_nothing_of_it_is_left(pool: TestPool) -> None:
    refs = served(pool, retained_snapshots="1")
    old = pool.call("VM.get_snapshots", refs[0])[0]
    pool.simulator.db.set("VM", old, "is_default_template", True)  # xapi refuses to destroy one
    pool.at(11, 15)
    pool.tick()
    text = "last run of 'policy' failed: 1 of 3 VMs"
    (ref,) = pool.call("pool.get_all")
    for key in [key for key in pool.other_config() if key.startswith("vmss-left-over:")]:
        pool.call("pool.remove_from_other_config", ref, key)
    said = Said(pool)  # the list is lost, the snapshot is there
    assert said.status == 1 and text in said.first and "left_over=0" in said.numbers
    pool.simulator.db.set("VM", old, "is_default_template", False)
    assert text in Said(pool).first
    pool.call("VM.add_to_blocked_operations", old, "destroy", "keep")  # it is not to go any more
    said = Said(pool)
    assert said.status == 0 and "runs_failed=0" in said.numbers and "all is made good by now" in said.text
    pool.call("VM.remove_from_blocked_operations", old, "destroy")
    disk = pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", old)[0])
    entry = json.dumps({"destroying": {pool.uuid("VM", old): [pool.uuid("VDI", disk)]}})
    pool.call("VM.destroy", old)
    assert Said(pool).status == 0
    pool.call("pool.add_to_other_config", ref, "vmss-destroying:0", entry)  # a pass that was killed has begun with it
    assert text in Said(pool).first
    pool.call("VDI.destroy", disk)
    assert Said(pool).status == 0


def test_a_run_of_which_not_all_failures_are_known_is_told(pool: TestPool) -> None:
    served(pool)
    victims = [Victim("vm", "x", ["CODE", "y" * 490] * 5) for _ in range(100)]
    body = failed_body(victims, pool.alerts()[-1]["body"].split("\n")[1])
    assert " more VMs failed: see /var/log/VMSSlog.\n" in body
    uuid = pool.uuid("VMSS", pool.call("VMSS.get_all")[0])
    pool.call("message.create", "VMSS_SNAPSHOT_FAILED", "1", "VMSS", uuid, body)
    assert "last run of 'policy' failed" in Said(pool).first


def test_a_new_snapshot_that_does_not_count_is_told_until_it_is_gone(pool: TestPool) -> None:
    bench = Bench(pool)
    bench.happens = bench.without_a_disk
    pool.at(10, 15)
    assert pool.tick().status == 1
    assert "last run of 'policy' failed: 1 of 2 VMs" in Said(pool).first
    bench.happens = lambda new: new
    bench.gone(pool.call("VM.get_by_uuid", bench.error()[1]))
    assert Said(pool).status == 1  # the VM has no other of this slot
    assert pool.tick(policy=pool.uuid("VMSS", bench.policy), missing=True).status == 0
    assert Said(pool).status == 0


# What is left over


def test_what_cannot_be_deleted_is_a_warning_until_it_is_gone(pool: TestPool) -> None:
    (vm,) = served(pool, vms=1, retained_snapshots="1")
    (old,) = pool.snapshots(vm)
    disk = pool.uuid("VDI", pool.call("VBD.get_VDI", old["VBDs"][0]))
    error = '["SR_BACKEND_FAILURE_80", "", "no", ""]'
    rule = {"method": "VDI.destroy", "object": disk, "action": "error", "count": "0", "error": error}
    pool.call("simulator.add_fault", rule)
    for hour in (11, 12):
        pool.at(hour, 15)
        pool.tick()
    assert pool.names()[-1] == "VMSS_SNAPSHOT_SUCCEEDED"  # of the run of 12:15, which had nothing to do with it
    said = Said(pool)
    assert said.status == 1 and "left_over=1" in said.numbers
    text = "1 disk could not be destroyed with its snapshot: The storage reports an error: %s" % disk
    assert said.first == "VMSS WARNING: " + text
    (line,) = [line for line in said.lines if line.startswith("WARNING: left over")]
    assert "; since 2026-03-02 11:15 UTC, tries: 2, the next one in " in line and line.endswith(": vmss run")
    pool.call("simulator.clear_faults")
    pool.tick(kicked=False)
    said = Said(pool)
    assert said.status == 0 and "left_over=0" in said.numbers


def test_a_snapshot_that_could_not_be_deleted_and_is_kept_by_now_is_not_told_of(pool: TestPool) -> None:
    (vm,) = served(pool, vms=1, retained_snapshots="1")
    (snapshot,) = pool.call("VM.get_snapshots", vm)
    error = '["INTERNAL_ERROR", "no"]'
    rule = {"method": "VM.destroy", "object": snapshot, "action": "error", "count": "0", "error": error}
    pool.call("simulator.add_fault", rule)
    pool.at(11, 15)
    pool.tick()
    assert "1 expired snapshot could not be deleted" in str(Said(pool).lines) and "left_over=1" in Said(pool).numbers
    (policy,) = pool.call("VMSS.get_all")
    pool.call("VMSS.set_retained_snapshots", policy, "2")
    said = Said(pool)
    assert "could not be deleted" not in str(said.lines) and "left_over=0" in said.numbers


def test_what_is_left_over_costs_a_query_for_fifty(pool: TestPool, tmp_path: Path) -> None:
    vms = served(pool, vms=30)
    disks = [pool.call("VDI.snapshot", pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", vm)[0]), {}) for vm in vms]
    mark = {"since": "20260302T10:15:00Z", "tried": "20260302T10:15:00Z", "tries": 0, "error": [], "kind": "suspect"}
    items = [dict(mark, uuid=pool.uuid("VDI", disk), of="") for disk in disks]
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], "vmss-left-over:0", json.dumps(items))
    path = str(tmp_path / "front")
    front = Front(path, pool.socket)
    said = Said(pool, xapi="unix:" + path)
    assert said.status == 1 and "left_over=30" in said.numbers
    assert len([line for line in said.lines if line.startswith("WARNING: left over")]) == 11
    assert len(without_srs(front.calls)) <= 6 + 2 + 1, front.calls
