"""`vmss assign` and `vmss unassign`: which VMs are meant, what changes, and what is said of snapshots that will go."""

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pool import VM, TestPool
from tests.test_commands import tls
from tests.test_commands import vmss as command
from vmss.cli.main import main
from vmss.core import declared
from vmss.core.assignment import Member, Selection, Selector, change_to
from vmss.core.policy import from_record
from vmss.core.records import NULL
from vmss.core.retention import Keep, Snapshot
from vmss.edges.xapi import Xapi

assert tls  # a fixture

Command = Callable[..., Tuple[int, str, str]]


@pytest.fixture
def vmss(pool: TestPool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line against the pool: its exit status, output, and what it says on standard error."""
    (pool.folder / "vmss.conf").write_text("[vmss]\nlogin_limit = 0\ntimezone = UTC\n")
    monkeypatch.setenv("VMSS_XAPI", pool.place.xapi)
    monkeypatch.setenv("VMSS_CONFIG", pool.place.config)

    def call(*words: str) -> Tuple[int, str, str]:
        try:
            status = main(words)
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def schedule_of(pool: TestPool, vm: str) -> str:
    schedule = str(pool.call("VM.get_snapshot_schedule", vm))
    return "" if schedule == NULL else str(pool.call("VMSS.get_name_label", schedule))


def rows(said: Tuple[int, str, str]) -> List[Dict[str, Any]]:
    found: List[Dict[str, Any]] = json.loads(said[1])
    return found


def test_vms_are_meant_by_tag_by_name_or_by_uuid_and_never_what_is_no_vm(pool: TestPool, vmss: Command) -> None:
    pool.policy(name="nightly")
    one, two, other = (pool.vm(name) for name in ("db1", "db2", "db\nVM:forged"))
    template = pool.vm("db template")
    pool.call("VM.set_is_a_template", template, True)
    pool.call("VM.snapshot", one, "db snapshot", [])
    pool.call("VM.add_tags", two, "production")
    assert vmss("assign", "nightly", "--tag", "production")[:2] == (
        0,
        "db2\t-\tnightly\tdone\t-\t-\t%s\n1 VM put on 'nightly'; VMs with errors: 0\n" % pool.uuid("VM", two),
    )
    assert [schedule_of(pool, vm) for vm in (one, two, other)] == ["", "nightly", ""]
    said = vmss("assign", "nightly", "--name", "db*", "--dry-run")
    assert (said[0], said[2]) == (0, "") and schedule_of(pool, one) == ""
    assert "2 VMs would be put on 'nightly'; 1 on it already; nothing was changed" in said[1]
    assert "db\\x0aVM:forged" in said[1] and "snapshot\t" not in said[1] and "template" not in said[1]
    # Host 0's control domain matches, too.
    found = rows(vmss("assign", "nightly", "--name", "*", "--json"))
    assert [(row["vm"], row["from"], row["result"]) for row in found] == [
        ("db\nVM:forged", None, "done"), ("db1", None, "done"), ("db2", "nightly", "already")
    ]  # fmt: skip
    pool.policy(name="weekly")
    found = rows(vmss("assign", "weekly", "--json", "--uuid", pool.uuid("VM", one), pool.uuid("VM", two).upper()))
    assert [(row["from"], row["to"]) for row in found] == [("nightly", "weekly")] * 2
    assert [schedule_of(pool, vm) for vm in (one, two, other)] == ["weekly", "weekly", "nightly"]


def test_where_no_vm_is_meant_nothing_is_changed_and_that_is_said(pool: TestPool, vmss: Command) -> None:
    pool.policy(name="nightly")
    vm = pool.vm("web")
    template = pool.vm("template")
    pool.call("VM.set_is_a_template", template, True)
    uuid = pool.uuid("VM", vm)
    for words, why in (
        (["assign", "nightly", "--tag", "no\nsuch"], "no VM has the tag 'no\\x0asuch': nothing was changed"),
        (["assign", "nightly", "--name", "WEB"], "no VM has a name that matches 'WEB': nothing was changed"),
        (["assign", "nightly", "--uuid", uuid, "x"], "'x' is no uuid: nothing was changed"),
        (["assign", "nightly", "--uuid", uuid, pool.uuid("VM", template)], "is the uuid of no VM, or of a template"),
        (["assign", "absent", "--uuid", uuid], "no snapshot schedule of this pool has the uuid or the name 'absent'"),
        (["unassign", "nightly", "--all"], "no VM is on 'nightly': nothing was changed"),
        (["unassign", "nightly", "--name", "*"], "no VM of 'nightly' has a name that matches '*': nothing was changed"),
        (["unassign", "--all"], "--all: goes with a schedule"),
    ):
        status, out, err = vmss(*words)
        assert (status, out) == (2, "") and why in err and len(err.splitlines()) == 1, (words, err)
    assert vmss("assign", "nightly")[0] == 2 and vmss("assign", "nightly", "--tag", "a", "--name", "b")[0] == 2
    assert schedule_of(pool, vm) == ""


def test_one_vms_failure_does_not_stop_the_others(pool: TestPool, vmss: Command) -> None:
    pool.policy(name="nightly")
    vms = [pool.vm("vm %d" % number) for number in range(3)]
    rule = {"method": "VM.set_snapshot_schedule", "action": "error", "error": '["INTERNAL_ERROR", "stuck"]'}
    pool.call("simulator.add_fault", dict(rule, object=pool.uuid("VM", vms[0]), count="1"))
    status, out, err = vmss("assign", "nightly", "--name", "vm *")
    assert status == 1 and "2 VMs put on 'nightly'; VMs with errors: 1" in out
    assert "vm 0: " in err and "INTERNAL_ERROR stuck" in err
    assert [schedule_of(pool, vm) for vm in vms] == ["", "nightly", "nightly"]


def test_it_says_what_the_next_run_deletes_and_that_is_what_goes(pool: TestPool, vmss: Command) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], "many", retained_snapshots="7")
    few = pool.policy(name="few", retained_snapshots="2", schedule={"min": "30"})
    for hour in range(10, 17):
        pool.at(hour, 15)
        pool.tick()
    before = [snapshot["uuid"] for snapshot in pool.snapshots(vm)]
    status, _, err = vmss("assign", "few", "--name", "vm", "--dry-run")
    assert status == 0 and "'few' keeps 2 snapshots of each VM: its next run deletes 3 older ones of 'vm', later" in err
    (row,) = rows(vmss("assign", "few", "--name", "vm", "--json"))
    assert row["deletes"] == before[:3] and row["later"] == 3
    pool.at(16, 30)
    assert pool.tick().status == 0 and len(pool.alerts(few)) == 1
    assert [snapshot["uuid"] for snapshot in pool.snapshots(vm)][:-1] == before[3:]


def test_vms_are_taken_off_and_their_snapshots_stay(pool: TestPool, vmss: Command) -> None:
    vms = [pool.vm(name, [pool.sr(name)]) for name in ("one", "two")]
    pool.policy(vms, "nightly")
    alone = pool.vm("three")
    pool.policy([alone], "weekly")
    pool.at(10, 15)
    pool.tick()
    status, out, _ = vmss("unassign", "nightly", "--name", "o*")
    assert status == 0 and "1 VM taken off" in out and [schedule_of(pool, vm) for vm in vms] == ["", "nightly"]
    assert len(pool.snapshots(vms[0])) == 1
    assert vmss("unassign", "nightly", "--all")[0] == 0
    assert [schedule_of(pool, vm) for vm in vms + [alone]] == ["", "", "weekly"]
    assert vmss("unassign", "--uuid", pool.uuid("VM", alone))[0] == 0 and schedule_of(pool, alone) == ""
    assert "1 on none already" in vmss("unassign", "--uuid", pool.uuid("VM", alone))[1]


def test_it_works_over_https(tmp_path: Path, tls: Dict[str, str]) -> None:
    xapi = Xapi(tls["VMSS_XAPI"], ca_file=str(tmp_path / "crt"))
    xapi.login("root", tls["VMSS_PASSWORD"])
    vm = xapi.call("VM.create", dict(VM, name_label="web"))
    schedule = {"name_label": "nightly", "type": "snapshot", "frequency": "daily", "schedule": {}}
    policy = xapi.call("VMSS.create", schedule)
    ended = command(tmp_path, "assign", "nightly", "--name", "*", **tls)
    assert (ended.status, ended.err) == (0, "") and "1 VM put on 'nightly'; VMs with errors: 0" in ended.out
    assert xapi.call("VM.get_snapshot_schedule", vm) == policy
    xapi.close()


RECORD = {
    "uuid": "u", "name_label": "n", "enabled": True, "type": "snapshot", "retained_snapshots": "3",
    "frequency": "hourly", "schedule": {"min": "15"}, "last_run_time": "19700101T00:00:00Z", "VMs": []
}  # fmt: skip


NAMES = st.text("ab[]*?!", max_size=5)


@given(st.lists(NAMES, max_size=6), NAMES, st.booleans())
def test_names_are_found_as_their_patterns_match(names: List[str], wanted: str, exactly: bool) -> None:
    vms = [Member(str(number), str(number), name) for number, name in enumerate(names)]
    (selector,) = declared.exactly([wanted]) if exactly else (Selector(name=wanted),)
    found = Selection(vms).of(selector)
    assert found == [vm for vm in vms if selector.takes(vm)]
    assert not exactly or found == [vm for vm in vms if vm.name == wanted]
    assert Selection(vms).of(Selector(uuids=("1", "3", "9"))) == vms[1:2] + vms[3:4]


@given(st.integers(0, 12), st.integers(1, 10), st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_what_would_go_is_of_the_oldest_and_never_what_is_to_stay(
    number: int, retained: int, pinned: "set[int]", read: "set[int]"
) -> None:
    start = datetime(2026, 3, 2, tzinfo=timezone.utc)
    snapshots = [
        Snapshot("r%d" % at, "%02d" % at, start + timedelta(hours=at), at in pinned, operation="copy" * (at in read))
        for at in range(number)
    ]
    policy = from_record("OpaqueRef:1", RECORD)
    change = change_to(Member("v", "v", "v"), policy, Keep(retained, 2), snapshots, start + timedelta(days=1))
    free = [one for one in snapshots if not one.pinned]
    assert len(change.deletes) <= 3 and list(change.deletes) == sorted(change.deletes)
    assert not set(change.deletes) & {"%02d" % at for at in pinned | read}
    # With the new one, as many as are to be kept stay.
    assert len(free) + 1 - len(change.deletes) - change.later >= min(retained, len(free) + 1)
