"""`vmss coverage`: which VMs no schedule covers and why, which snapshots no run deletes, and what it costs to know."""

import argparse
import io
import json
from typing import Any, Dict, List, Optional

import pytest

from tests.front import Front, valued
from tests.pool import VBD, TestPool
from tests.test_doctor import Ward
from tests.test_doctor import ward as ward_of_a_dom0
from vmss.cli.commands import coverage as command
from vmss.core.records import NULL
from vmss.core.tags import named
from vmss.insight import coverage, state
from vmss.insight.lock_and_log import read_local
from vmss.insight.reading import reading

ward = ward_of_a_dom0


def shown(pool: TestPool, *words: str, xapi: Optional[str] = None) -> str:
    """What the command prints."""
    out = io.StringIO()
    place = pool.place._replace(xapi=xapi or pool.place.xapi)
    with reading(pool.surroundings(place=place)) as session:
        assert command.show(session, arguments(*words), out) == 0
    return out.getvalue()


def arguments(*words: str) -> argparse.Namespace:
    return command.parser().parse_args(words)


def rows(pool: TestPool) -> List[Dict[str, Any]]:
    found: List[Dict[str, Any]] = json.loads(shown(pool, "--json"))
    return found


def told(pool: TestPool) -> Dict[str, str]:
    """What is said of each VM, or schedule, by its name."""
    return {row["vm"] or row["schedule"]: row["what"] for row in rows(pool)}


def test_vms_on_no_schedule_or_a_disabled_one_and_schedules_without_vms(pool: TestPool) -> None:
    pool.policy([pool.vm("web", [pool.sr()])], "nightly")
    pool.policy([pool.vm("paused")], "old", enabled=False)
    pool.policy(name="empty")
    broken = pool.policy([pool.vm("lost")], "broken")
    pool.simulator.db.set("VMSS", broken, "retained_snapshots", 99)
    alone, emptied, template = (pool.vm(name) for name in ("alone", "emptied", "template"))
    pool.call("VM.set_is_a_template", template, True)
    pool.call("VM.snapshot", alone, "by hand", [])
    pool.simulator.db.set("VM", emptied, "snapshot_schedule", "")  # as a client may leave it
    for tags, name in ((["vmss:none"], "out 1"), (["vmss:none", "other"], "out 2"), (["other"], "tagged")):
        pool.call("VM.set_tags", pool.vm(name), tags)
    assert told(pool) == {
        "alone": "no schedule", "emptied": "no schedule", "tagged": "no schedule", "paused": "disabled",
        "lost": "disabled", "empty": "no VM"
    }  # fmt: skip
    assert shown(pool).splitlines()[0] == (
        "1 of 8 VMs covered; on no schedule: 3; on a disabled schedule: 2; schedules without VMs: 1; "
        "left out on purpose: 2"
    )
    with reading(pool.surroundings()) as session:
        assert coverage.unscheduled(session.xapi) == (3, True)
        found = state.examine(session, read_local(pool.place, session, session.now()), session.now())
    (line,) = [finding for finding in found.findings if finding.check == "coverage"]
    assert line.severity == 0 and found.numbers["vms_unscheduled"] == 3
    assert line.text.startswith("VMs on no schedule: 3, VMs on a disabled schedule: 1, schedules without VMs: 1")


def test_vms_that_cannot_be_snapshotted_by_all_or_some_of_their_disks_or_for_what_they_have(pool: TestPool) -> None:
    lvm, nfs = pool.sr("lvm", "lvm"), pool.sr("nfs")
    vms = {name: pool.vm(name, [nfs]) for name in ("fit", "some", "blocked", "shared")}
    vms["all"] = pool.vm("all")
    raw = dict(pool.call("VDI.get_record", pool.vdi(lvm)), sm_config={"type": "raw"}, name_label="raw\ndisk")
    for name, number in (("some", 1), ("all", 0)):
        pool.vbd(vms[name], pool.call("VDI.create", raw), number)
    cd = dict(VBD, VM=vms["all"], VDI=NULL, type="CD", empty=True, mode="RO", userdevice="3")
    pool.call("VBD.create", cd)
    pool.call("VM.add_to_blocked_operations", vms["blocked"], "snapshot", "no")
    disk = pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", vms["shared"])[0])
    pool.simulator.db.set("VDI", disk, "sharable", True)
    pool.policy(list(vms.values()), "nightly")
    assert told(pool) == {
        "some": "some disks", "all": "no snapshot", "blocked": "no snapshot", "shared": "no snapshot"
    }  # fmt: skip
    by_name = {row["vm"]: row for row in rows(pool)}
    assert by_name["some"]["why"] == "1 of 2 disks: 'raw\\x0adisk': The storage cannot snapshot a disk of this VM"
    assert by_name["all"]["why"].startswith("1 of 1 disk: ")
    assert by_name["blocked"]["error"].startswith("OPERATION_BLOCKED")
    text = shown(pool)
    assert "1 of 5 VMs covered; without any disk that can be snapshotted, or refused: 3; kept" in text
    # It is as it says: a run fails in these VMs, and in no other.
    pool.at(10, 15)
    pool.tick()
    assert {name for name, vm in vms.items() if pool.snapshots(vm)} == {"fit"}


def test_vms_that_are_snapshotted_without_some_of_their_disks(pool: TestPool) -> None:
    sr = pool.sr()
    vms = {name: pool.vm(name, [sr, sr]) for name in ("marked", "named", "whole", "other key")}
    disks = {
        name: [pool.call("VBD.get_VDI", vbd) for vbd in sorted(pool.call("VM.get_VBDs", vm))]
        for name, vm in vms.items()
    }
    pool.call("VDI.add_to_other_config", disks["marked"][0], "vmss:skip", "scratch")
    pool.call("VDI.add_to_other_config", disks["other key"][0], "mine", "yes")
    pool.call("VDI.set_name_label", disks["named"][1], "swap of named")
    pool.policy(list(vms.values()), "nightly")
    assert told(pool) == {"marked": "without disks"}
    pool.settings = pool.settings._replace(skip_disks="swap tmp")
    assert told(pool) == {"marked": "without disks", "named": "without disks"}
    by_name = {row["vm"]: row for row in rows(pool)}
    assert by_name["named"]["why"] == "1 of 2 disks: 'swap of named': left out"
    assert by_name["named"]["remedy"] == "the setting skip_disks says so"
    assert shown(pool).startswith("4 of 4 VMs covered; without some of their disks, on purpose: 2\n")
    # It is as it says.
    pool.at(10, 15)
    pool.tick()
    taken = [pool.call("VM.get_snapshots", vm)[0] for vm in vms.values()]
    assert [len(pool.call("VM.get_VBDs", snapshot)) for snapshot in taken] == [1, 1, 2, 2]
    assert by_name["marked"]["remedy"].endswith("uuid=%s" % pool.uuid("VDI", disks["marked"][0]))


@pytest.mark.parametrize("field, kind", [("VUSBs", "snapshot"), ("attached_PCIs", "checkpoint")])
def test_vms_with_devices_are_told_by_their_records(pool: TestPool, field: str, kind: str) -> None:
    vm = pool.vm("vm", [pool.sr()], running=True)
    pool.policy([vm], "nightly", type=kind)

    def with_device(method: str, value: Any) -> None:
        """The simulator's VMs have no such devices: the answer gets one, and xapi would refuse the operation."""
        for record in value.values() if method == "VM.get_all_records_where" else ():
            record[field] = ["OpaqueRef:device"]
            record["allowed_operations"] = ["start"]

    path = str(pool.folder / "front.sock")
    front = Front(path, pool.socket, rewrite=valued(with_device))
    (row,) = json.loads(shown(pool, "--json", xapi="unix:" + path))
    assert row["what"] == "no snapshot" and row["error"].startswith(
        "VM_HAS_" + field.replace("attached_", "")[:3].upper()
    )
    assert "VM.assert_operation_valid" not in front.calls


def test_snapshots_that_no_run_deletes_with_their_age_and_size(pool: TestPool) -> None:
    sr = pool.sr()
    vms = {name: pool.vm(name, [sr]) for name in ("on", "off", "pinned", "gone", "disabled")}
    policy = pool.policy(list(vms.values()), "nightly")
    for hour in (10, 11):
        pool.at(hour, 15)
        pool.tick()
    pool.call("VM.set_snapshot_schedule", vms["disabled"], pool.policy([], "paused", enabled=False))
    for name in ("off", "pinned"):
        pool.call("VM.set_snapshot_schedule", vms[name], NULL)
    for ref in pool.call("VM.get_snapshots", vms["pinned"]):
        pool.call("VM.add_to_blocked_operations", ref, "destroy", "audit")
    pool.call("VM.snapshot", vms["off"], "by hand", [])
    for vbd in pool.call("VM.get_VBDs", vms["gone"]):
        pool.call("VDI.destroy", pool.call("VBD.get_VDI", vbd))
    pool.call("VM.destroy", vms["gone"])
    pool.at(12, 15)
    left = [row for row in rows(pool) if row["what"] == "left behind"]
    assert [(row["vm"], row["snapshots"], row["oldest"][:13]) for row in left] == [
        ("", 2, "2026-03-02T10"), ("off", 2, "2026-03-02T10")
    ]  # fmt: skip
    assert all(row["size"] > 0 for row in left) and "the VM is gone, so no run deletes them" in left[0]["why"]
    text = shown(pool)
    assert "snapshots that no run deletes: 4 (" in text and ", the oldest is 1 h 59 min old)" in text
    # What it names deletes just these.
    pool.tick(prune=prune())
    assert [row for row in rows(pool) if row["what"] == "left behind"] == []
    assert [len(pool.snapshots(vms[name])) for name in ("on", "off", "pinned", "disabled")] == [2, 0, 2, 2]
    for name in ("on", "disabled"):
        pool.call("VM.set_snapshot_schedule", vms[name], NULL)
    pool.call("VMSS.destroy", policy)
    assert "snapshots that no run deletes: 4 (" in shown(pool)


def prune() -> Any:
    from vmss.core.pruning import DELETED, Prune

    return Prune(DELETED)


@pytest.mark.parametrize("number", [2, 40])
def test_it_costs_no_call_for_each_vm(pool: TestPool, number: int) -> None:
    sr = pool.sr()
    pool.policy([pool.vm("on %d" % each, [sr]) for each in range(number)], "nightly")
    for each in range(number):
        pool.vm("off %d" % each)
        pool.call("VM.add_to_blocked_operations", pool.vm("no %d" % each), "snapshot", "no")
    path = str(pool.folder / "front.sock")
    front = Front(path, pool.socket)
    with reading(pool.surroundings(place=pool.place._replace(xapi="unix:" + path))) as session:
        before = len(front.calls)
        coverage.unscheduled(session.xapi)
        assert len(front.calls) - before == 2
    shown(pool, xapi="unix:" + path)
    assert len(front.calls) - before < 30, front.calls


def test_the_doctor_tells_it_as_information(ward: Ward) -> None:
    assert [one.text for one in ward.findings() if one.check == "coverage"] == ["2 of 2 VMs covered"]
    names = ["alone", "b\nOK: forged"]
    for name in names:
        ward.pool.vm(name)
    assert ward.bad() == []
    (found,) = [one.text for one in ward.findings() if one.check == "coverage"]
    assert found.startswith(
        "2 of 4 VMs covered; on no schedule: 2; without a schedule: alone and b\\x0aOK: forged; vmss"
    )
    assert "b\\x0aOK: forged\t" in shown(ward.pool)


def test_tags_that_name_a_schedule() -> None:
    tags = {"vmss:nightly", "vmss:none", "vmss:no-memory", "vmss:keep=hourly:4", "nightly", "vmss:two words"}
    assert named(tags) == {"nightly", "two words"}
