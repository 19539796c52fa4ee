"""`vmss status` against a simulated pool: what it finds, how it says it, and what it costs."""

import io
import json
import os
import re
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from tests.front import Front
from tests.pool import TestPool
from tests.test_commands import tls, vmss  # noqa: F401
from vmss.cli.commands import status
from vmss.core.datetimes import format_datetime
from vmss.edges.lock import LockDirectory
from vmss.insight import state
from vmss.insight.lock_and_log import read_local
from vmss.insight.reading import reading

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


def test_what_it_costs_does_not_grow_with_the_vms(pool: TestPool, tmp_path: Path) -> None:
    served(pool, vms=30)
    path = str(tmp_path / "front")
    front = Front(path, pool.socket)
    assert Said(pool, xapi="unix:" + path).status == 0
    assert len(front.calls) <= 6 + 2, front.calls  # two for each policy that ran
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
    assert {row["check"] for row in rows} == {"licence", "pass", "tick", "last run"}
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
    assert len(front.calls) <= 6 + 2 + 1, front.calls
