"""Reverting VMs: what a VM keeps, its disks in place and as clones, failures, and a VM that is gone."""

from typing import Any

import pytest

from .client import GIB, Client

NULL = "OpaqueRef:NULL"


@pytest.fixture
def sr(root: Client) -> Any:
    return root.sr()


@pytest.fixture
def vm(root: Client, sr: str) -> Any:
    """A VM with two disks that have data."""
    vm = root.vm("web01")
    for device in ("0", "1"):
        root("simulator.write", root.disk(vm, sr, GIB, device), 5 * 1024 * 1024)
    return vm


def disks(root: Client, vm: str) -> Any:
    """The disks of a VM by device."""
    vbds = [root("VBD.get_record", vbd) for vbd in root("VM.get_VBDs", vm)]
    return {vbd["userdevice"]: vbd["VDI"] for vbd in vbds}


def data(root: Client, sr: str, vdi: str) -> int:
    """The bytes that a disk has of its own."""
    return int(root.sim.storage.manager.repository(sr).images[root("VDI.get_uuid", vdi)].used)


def test_only_a_snapshot_can_be_reverted_to(root: Client, vm: str) -> None:
    template = root.vm("template", is_a_template=True)
    dom0 = root("VM.get_all_where", 'field "is_control_domain" = "true"')[0]
    for one in (vm, template, dom0):
        # Whatever else would forbid it.
        root("VM.set_blocked_operations", one, {"revert": "no"})
        assert root.error("VM.revert", one) == ["VM_REVERT_FAILED", one, NULL]
        record = root.task_end(root("Async.VM.revert", one))
        assert record["error_info"] == ["VM_REVERT_FAILED", one, NULL]
    assert root.error("VM.revert", "OpaqueRef:none") == ["HANDLE_INVALID", "VM", "OpaqueRef:none"]
    snap = root("VM.snapshot", root.vm("other"), "snap")
    root("VM.set_blocked_operations", snap, {"revert": "no"})
    assert root.error("VM.revert", snap) == ["OPERATION_BLOCKED", snap, "no"]


def test_tags_schedule_affinity_and_groups_stay_and_the_rest_is_as_it_was(root: Client, vm: str) -> None:
    policies = [root("VMSS.create", {"type": "snapshot", "frequency": "daily"}) for _ in range(2)]
    host = root("host.get_all")[0]

    def give(tag: str, policy: str, affinity: str, text: str) -> None:
        root("VM.set_tags", vm, [tag])
        root("VM.set_snapshot_schedule", vm, policy)
        root("VM.set_affinity", vm, affinity)
        root.sim.db.set("VM", vm, "groups", ["OpaqueRef:" + tag])
        for field in ("name_label", "name_description"):
            root("VM.set_" + field, vm, text)
        root("VM.set_other_config", vm, {"key": text})
        root("VM.set_blocked_operations", vm, {"destroy": text})

    give("before", policies[0], NULL, "old")
    snap = root("VM.snapshot", vm, "snap")
    give("after", policies[1], host, "new")
    root("VM.revert", snap)
    record = root("VM.get_record", vm)
    kept = ["tags", "snapshot_schedule", "affinity", "groups"]
    assert [record[field] for field in kept] == [["after"], policies[1], host, ["OpaqueRef:after"]]
    assert record["name_label"] == record["name_description"] == "old"
    assert record["other_config"] == {"key": "old"} and record["blocked_operations"] == {"destroy": "old"}
    assert record["parent"] == snap and not record["is_a_template"] and not record["is_a_snapshot"]
    assert root("VMSS.get_VMs", policies[1]) == [vm] and root("VMSS.get_VMs", policies[0]) == []


def test_a_vm_is_suspended_as_its_checkpoint_is_even_if_the_memory_is_gone(root: Client, vm: str, sr: str) -> None:
    root.keep_memory_on(sr)
    root("VM.start", vm, False, False)
    checkpoint = root("VM.checkpoint", vm, "snap")
    root("VDI.destroy", root("VM.get_suspend_VDI", checkpoint))
    root("VM.revert", checkpoint)
    assert root("VM.get_power_state", vm) == "Suspended" and root("VM.get_suspend_VDI", vm) == NULL


def test_a_revert_gives_the_vm_clones_of_the_snapshots_disks(root: Client, vm: str, sr: str) -> None:
    old = disks(root, vm)
    first, second = root("VM.snapshot", vm, "first"), root("VM.snapshot", vm, "second")
    root("VM.revert", first)
    new = disks(root, vm)
    assert set(new) == {"0", "1"} and not set(new.values()) & set(old.values())
    assert all(root.error("VDI.get_record", vdi)[0] == "HANDLE_INVALID" for vdi in old.values())
    for snap in (first, second):
        assert {device: root("VDI.get_snapshot_of", vdi) for device, vdi in disks(root, snap).items()} == new
    assert root.error("VDI.revert", disks(root, first)["0"]) == ["SR_OPERATION_NOT_SUPPORTED", sr]


def test_a_revert_in_place_keeps_the_disks_and_changes_what_they_contain(root: Client, vm: str, sr: str) -> None:
    root("simulator.revert_in_place", True)
    old = disks(root, vm)
    uuids = {vdi: root("VDI.get_uuid", vdi) for vdi in old.values()}
    first, second = root("VM.snapshot", vm, "first"), root("VM.snapshot", vm, "second")
    snapshots = {snap: disks(root, snap) for snap in (first, second)}
    for vdi in old.values():
        root("simulator.write", vdi, 7 * 1024 * 1024)
    root("VDI.resize", old["1"], str(2 * GIB))
    root("VM.start", vm, False, False)
    root("VM.revert", first)
    assert root("VM.get_power_state", vm) == "Halted"
    assert disks(root, vm) == old and {vdi: root("VDI.get_uuid", vdi) for vdi in old.values()} == uuids
    assert [data(root, sr, vdi) for vdi in old.values()] == [0, 0]
    assert root("VDI.get_virtual_size", old["1"]) == GIB
    for snap, mine in snapshots.items():
        assert disks(root, snap) == mine
        assert {device: root("VDI.get_snapshot_of", vdi) for device, vdi in mine.items()} == old
    tree = root.sim.storage.manager.repository(sr)
    for device, vdi in old.items():
        parent = root("VDI.get_sm_config", vdi)["vhd-parent"]
        assert parent == root("VDI.get_sm_config", snapshots[first][device])["vhd-parent"]
        assert tree.images[uuids[vdi]].parent == parent
    # A scan finds nothing that is not recorded.
    before = sorted(root("VDI.get_all"))
    root("SR.scan", sr)
    assert sorted(root("VDI.get_all")) == before
    root("simulator.revert_in_place", False)
    root("VM.revert", first)
    assert not set(disks(root, vm).values()) & set(old.values())


def test_a_disk_that_cannot_be_reverted_in_place_is_cloned(root: Client, vm: str) -> None:
    root("simulator.revert_in_place", True)
    old, snap = disks(root, vm), root("VM.snapshot", vm, "snap")
    root("VDI.destroy", old["0"])
    rule = {"method": "VDI.revert", "action": "error", "error": '["SR_BACKEND_FAILURE_82", "", "", ""]', "count": "0"}
    root("VM.revert", snap)
    new = disks(root, vm)
    assert new["1"] == old["1"] and new["0"] != old["0"]
    root("simulator.add_fault", rule)
    root("VM.revert", snap)
    assert not set(disks(root, vm).values()) & {*old.values(), *new.values()}


@pytest.mark.parametrize(
    "error, told",
    [
        (["SR_BACKEND_FAILURE_44", "", "There is insufficient space", ""], True),
        (["SR_BACKEND_FAILURE_109", "", "The snapshot chain is too long", ""], True),
        (["SR_BACKEND_FAILURE_46", "", "The VDI is not available", ""], False),
    ],
)
def test_a_failed_revert_leaves_a_halted_vm(root: Client, vm: str, error: Any, told: bool) -> None:
    snap = root("VM.snapshot", vm, "snap")
    root("VM.start", vm, False, False)
    rule = {"method": "VDI.clone", "action": "error", "error": str(error).replace("'", '"'), "skip": "1"}
    root("simulator.add_fault", rule)
    before = len(root("VDI.get_all"))
    assert root.error("VM.revert", snap) == (error if told else ["VM_REVERT_FAILED", snap, vm])
    record = root("VM.get_record", vm)
    assert record["power_state"] == "Halted" and record["current_operations"] == {}
    # The clone of the first disk is destroyed; the VM's own disks have lost their VBDs.
    assert len(root("VDI.get_all")) == before and record["VBDs"] == []
    root("VM.revert", snap)
    assert set(disks(root, vm)) == {"0", "1"}


def test_a_revert_of_a_vm_that_is_gone_creates_it_anew(root: Client, vm: str) -> None:
    uuid, old = root("VM.get_uuid", vm), disks(root, vm)
    first, second = root("VM.snapshot", vm, "first"), root("VM.snapshot", vm, "second")
    root("VM.destroy", vm)
    for vdi in old.values():
        root("VDI.destroy", vdi)
    root("VM.revert", first)
    again = root("VM.get_by_uuid", uuid)
    record = root("VM.get_record", again)
    assert again != vm and record["name_label"] == "web01" and record["power_state"] == "Halted"
    assert not record["is_a_snapshot"] and not record["is_a_template"] and record["snapshot_schedule"] == NULL
    assert set(record["snapshots"]) == {first, second} and record["parent"] == first
    new = disks(root, again)
    for snap in (first, second):
        assert {device: root("VDI.get_snapshot_of", vdi) for device, vdi in disks(root, snap).items()} == new
    root("VM.start", again, False, False)
