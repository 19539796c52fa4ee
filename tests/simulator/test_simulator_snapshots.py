"""VM.snapshot and VM.checkpoint: what they check, what they leave, and what they leave when they fail."""

from typing import Any, List

import pytest

from vmss.simulator.build import vbd_record

from .client import Client

GIB = 1024**3
NULL = "OpaqueRef:NULL"


@pytest.fixture
def vm(root: Client) -> Any:
    """A halted VM with two disks and an empty CD drive."""
    sr = root.sr()
    root.keep_memory_on(sr)
    vm = root.vm("web01", blocked_operations={})
    root.disk(vm, sr, GIB, "0", "system")
    root.disk(vm, sr, 2 * GIB, "1", "data")
    root("VBD.create", vbd_record(vm, NULL, "3"))
    return vm


def start(root: Client, vm: str) -> Any:
    root("VM.start", vm, False, False)


def test_a_snapshot_is_a_halted_template_of_the_vm(vmss_user: Client, vm: str) -> None:
    before = vmss_user.sim.now()
    snap = vmss_user("VM.snapshot", vm, "snap")
    record, source = vmss_user("VM.get_record", snap), vmss_user("VM.get_record", vm)
    assert record["is_a_snapshot"] and record["is_a_template"] and record["is_vmss_snapshot"]
    assert record["name_label"] == "snap" and record["snapshot_of"] == vm and record["power_state"] == "Halted"
    assert record["snapshot_time"] > before and record["snapshot_time"].microsecond == 0
    info = {"disk-snapshot-type": "crash_consistent", "power-state-at-snapshot": "Halted"}
    assert record["snapshot_info"] == info
    assert record["snapshot_metadata"].startswith("(('xenstore_data' '()') ('version' '0') ('uuid' ")
    assert record["other_config"] == source["other_config"] and record["uuid"] != source["uuid"]
    assert record["parent"] == NULL and source["parent"] == snap and record["children"] == [vm]
    assert record["allowed_operations"] == ["destroy", "metadata_export", "export", "revert", "copy", "clone"]
    assert source["snapshots"] == [snap]


def test_the_disks_of_a_snapshot_are_owned_snapshots_and_the_drive_stays_empty(root: Client, vm: str) -> None:
    snap = root("VM.snapshot", vm, "snap")
    vbds = [root("VBD.get_record", vbd) for vbd in root("VM.get_VBDs", snap)]
    assert sorted(vbd["userdevice"] for vbd in vbds) == ["0", "1", "3"]
    for vbd in vbds:
        assert not vbd["currently_attached"]
        if vbd["type"] == "CD":
            assert vbd["empty"] and vbd["VDI"] == NULL
            continue
        disk = root("VDI.get_record", vbd["VDI"])
        assert "owner" in vbd["other_config"]
        assert disk["is_a_snapshot"] and disk["managed"] and not disk["read_only"]
        assert vm in [root("VBD.get_VM", v) for v in root("VDI.get_VBDs", disk["snapshot_of"])]
        base = root("VDI.get_by_uuid", disk["sm_config"]["vhd-parent"])
        record = root("VDI.get_record", base)
        assert (record["name_label"], record["managed"], record["read_only"]) == ("base copy", False, True)
        assert root("VDI.get_sm_config", disk["snapshot_of"])["vhd-parent"] == record["uuid"]


def test_snapshots_form_a_line_and_destroying_one_mends_it(root: Client, vm: str) -> None:
    one, two, three = [root("VM.snapshot", vm, name) for name in ("one", "two", "three")]
    assert root("VM.get_parent", vm) == three and root("VM.get_snapshots", vm) == [three, two, one]
    root("VM.destroy", two)
    assert root("VM.get_parent", three) == one and root("VM.get_children", one) == [three]


def test_an_inserted_iso_is_shared_and_an_ignored_disk_left_out(root: Client, vm: str) -> None:
    isos = root.sr("iso")
    iso = root("VDI.introduce", "", "a.iso", "", isos, "user", False, True, {}, "a.iso", {}, {}, True, "1000000")
    drive = [v for v in root("VM.get_VBDs", vm) if root("VBD.get_type", v) == "CD"][0]
    root("VBD.insert", drive, iso)
    data = [v for v in root("VM.get_VBDs", vm) if root("VBD.get_userdevice", v) == "1"][0]
    snap = root("VM.snapshot", vm, "snap", [root("VBD.get_VDI", data)])
    vbds = {root("VBD.get_userdevice", v): root("VBD.get_VDI", v) for v in root("VM.get_VBDs", snap)}
    assert set(vbds) == {"0", "3"} and vbds["3"] == iso


def test_an_older_xapi_knows_no_disks_to_ignore_and_no_checkpoint_does(root: Client, vm: str) -> None:
    start(root, vm)
    surplus = ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.checkpoint", "2", "3"]
    assert root.error("VM.checkpoint", vm, "x", []) == surplus
    root("simulator.withhold", "VM.snapshot.ignore_vdis", True)
    refused = ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.snapshot", "2", "3"]
    for name in ("VM.snapshot", "Async.VM.snapshot"):
        assert root.error(name, vm, "x", []) == refused
    assert len(root("VM.get_VBDs", root("VM.snapshot", vm, "x"))) == 3
    root("simulator.withhold", "VM.snapshot.ignore_vdis", False)
    disk = root("VBD.get_VDI", root("VBD.get_all_where", 'field "userdevice" = "1"')[0])
    assert len(root("VM.get_VBDs", root("VM.snapshot", vm, "y", [disk]))) == 2
    root("simulator.withhold", "message.destroy_all", True)
    assert root.error("message.destroy_all", {}) == ["MESSAGE_METHOD_UNKNOWN", "message.destroy_all"]
    for name in ("VM.snapshot.vm", "VM.nothing", "SR.create.type", "simulator.withhold", ""):
        assert root.error("simulator.withhold", name, True) == ["INVALID_VALUE", "name", name]


def test_only_the_service_users_snapshots_are_scheduled_ones(root: Client, vmss_user: Client, vm: str) -> None:
    assert not root("VM.get_is_vmss_snapshot", root("VM.snapshot", vm, "manual"))
    task = vmss_user("Async.VM.snapshot", vm, "scheduled")
    record = root.task_end(task)
    assert record["other_config"] == {"ShowInXenCenter": "", "applies_to": vm}
    snap = record["result"][len("<value>") : -len("</value>")]
    assert root("VM.get_is_vmss_snapshot", snap)


def test_a_logout_while_the_snapshot_is_pending_unmarks_it(root: Client, vmss_user: Client, vm: str) -> None:
    task = vmss_user("Async.VM.snapshot", vm, "scheduled")
    vmss_user("session.logout")
    record = root.task_end(task)
    assert record["status"] == "success"
    assert not root("VM.get_is_vmss_snapshot", root("VM.get_snapshots", vm)[0])


def test_disks_are_snapshotted_one_after_another_in_subtasks(root: Client, vm: str) -> None:
    task = root("Async.VM.snapshot", vm, "snap")
    token, seen = "", []
    while True:
        answer = root("event.from", ["task/" + task], token, 3600.0)
        token, record = answer["token"], answer["events"][-1]["snapshot"]
        seen.append((round(record["progress"], 3), len(record["subtasks"]), record["allowed_operations"]))
        if record["status"] != "pending":
            break
    # The newest VBD comes first: the disk of 2 GiB, then the one of 1 GiB.
    assert (0.0, 1, ["cancel"]) in seen and (0.667, 1, ["cancel"]) in seen and seen[-1] == (1.0, 0, [])


def test_success_raises_one_message_and_failure_none(root: Client, vm: str) -> None:
    root("VM.snapshot", vm, "snap")
    root("VM.add_to_blocked_operations", vm, "snapshot", "no")
    root.error("VM.snapshot", vm, "other")
    (message,) = root("message.get_all_records").values()
    uuid = root("VM.get_uuid", vm)
    assert message["body"] == "VM 'web01' (uuid: %s) snapshotted, snapshot name: snap" % uuid
    assert (message["name"], message["priority"], message["cls"]) == ("VM_SNAPSHOTTED", 5, "VM")


def test_the_checks_come_in_xapis_order(root: Client, vm: str) -> None:
    root("VM.set_blocked_operations", vm, {"checkpoint": "", "snapshot": "REASON"})
    assert root.error("VM.snapshot", vm, "x") == ["OPERATION_BLOCKED", vm, "REASON"]
    assert root.error("VM.checkpoint", vm, "x") == ["OPERATION_BLOCKED", vm, ""]
    root("VM.set_blocked_operations", vm, {})
    states = ["VM_BAD_POWER_STATE", vm, "paused, suspended, running", "halted"]
    assert root.error("VM.checkpoint", vm, "x") == states
    template = root.vm("template", is_a_template=True)
    assert root.error("VM.snapshot", template, "x") == ["VM_IS_TEMPLATE", template, "snapshot"]
    snap = root("VM.snapshot", vm, "snap")
    assert root.error("VM.snapshot", snap, "x") == ["VM_IS_SNAPSHOT", snap, "snapshot"]
    dom0 = root("VM.get_all_where", 'field "is_control_domain" = "true"')[0]
    assert root.error("VM.snapshot", dom0, "x")[0] == "OPERATION_NOT_ALLOWED"
    assert root.error("VM.snapshot", "OpaqueRef:bad", "x") == ["HANDLE_INVALID", "VM", "OpaqueRef:bad"]
    assert root.error("VM.snapshot_with_quiesce", vm, "x") == ["MESSAGE_REMOVED"]
    states = ["VM_BAD_POWER_STATE", vm, "running", "halted"]
    assert root.error("VM.assert_operation_valid", vm, "snapshot_with_quiesce") == states
    start(root, vm)
    quiesce = ["VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", vm]
    assert root.error("VM.assert_operation_valid", vm, "snapshot_with_quiesce") == quiesce
    for platform in ({"nomigrate": "true"}, {"nomigrate": "1"}, {"nested-virt": "True"}):
        root("VM.set_platform", vm, platform)
        assert root.error("VM.checkpoint", vm, "x") == ["VM_IS_IMMOBILE", vm]


def test_a_blocked_operation_is_not_inherited_and_a_pinned_snapshot_stays(root: Client, vm: str) -> None:
    root("VM.set_blocked_operations", vm, {"destroy": "live"})
    snap = root("VM.snapshot", vm, "snap")
    assert root("VM.get_blocked_operations", snap) == {}
    root("VM.set_blocked_operations", snap, {"destroy": "keep this one"})
    assert root.error("VM.destroy", snap) == ["OPERATION_BLOCKED", snap, "keep this one"]
    assert "destroy" not in root("VM.get_allowed_operations", snap)


def test_a_running_vm_is_not_suspended_for_a_checkpoint_that_its_sr_cannot_take(root: Client, vm: str) -> None:
    isos = root.sr("iso")
    iso = root("VDI.introduce", "", "a.iso", "", isos, "user", False, True, {}, "a.iso", {}, {}, True, "1000")
    root("VBD.create", vbd_record(vm, iso, "7"))
    start(root, vm)
    token = root("event.from", ["vm"], "", 0.0)["token"]
    # The SR's own check names the SR; the one before names the VM.
    assert root.error("VM.checkpoint", vm, "x") == ["SR_OPERATION_NOT_SUPPORTED", vm]
    states = [event["snapshot"]["power_state"] for event in root("event.from", ["vm"], token, 0.0)["events"]]
    assert set(states) == {"Running"} and not root("VDI.get_all_where", 'field "type" = "suspend"')
    assert root.error("VM.snapshot", vm, "x") == ["SR_OPERATION_NOT_SUPPORTED", isos]


def test_a_checkpoint_keeps_the_memory_and_the_vm_runs_on(root: Client, vm: str) -> None:
    start(root, vm)
    snap = root("VM.checkpoint", vm, "with memory")
    record = root("VM.get_record", snap)
    assert record["power_state"] == "Suspended"
    assert record["snapshot_info"]["power-state-at-snapshot"] == "Running"
    image = root("VDI.get_record", record["suspend_VDI"])
    assert image["type"] == "suspend" and image["is_a_snapshot"]
    assert root("VM.get_power_state", vm) == "Running" and root("VM.get_suspend_VDI", vm) == NULL
    root("VM.hard_shutdown", snap)
    assert root("VM.get_power_state", snap) == "Halted" and root("VM.get_suspend_VDI", snap) == NULL
    assert root.error("VDI.get_record", record["suspend_VDI"])[0] == "HANDLE_INVALID"
    root("VM.destroy", snap)


@pytest.mark.parametrize("kind", ["lvm", "ext"])
def test_a_checkpoint_without_room_for_the_memory_names_the_sr_and_the_vm_runs_on(
    root: Client, vm: str, kind: str
) -> None:
    images = root.sr(kind, 8 * GIB, "images")
    root("VM.set_suspend_SR", vm, images)
    root("simulator.fill", images, str(8 * GIB))
    start(root, vm)
    before = sorted(root("VDI.get_all"))
    for name, rest in (("VM.checkpoint", ["x"]), ("VM.suspend", [])):
        assert root.error(name, vm, *rest) == ["SR_SUSPEND_SPACE_INSUFFICIENT", images]
        assert root("VM.get_power_state", vm) == "Running" and root("VM.get_current_operations", vm) == {}
    assert sorted(root("VDI.get_all")) == before
    # Only a lack of space is told so.
    rule = {"method": "VDI.create", "action": "error", "error": '["SR_BACKEND_FAILURE_47", "", "no mount", ""]'}
    root("simulator.add_fault", rule)
    assert root.error("VM.checkpoint", vm, "x") == ["SR_BACKEND_FAILURE_47", "", "no mount", ""]
    root("simulator.fill", images, "0")
    root("VM.checkpoint", vm, "x")


def test_memory_goes_to_the_first_sr_of_the_vm_the_pool_and_the_host_that_its_host_has(root: Client) -> None:
    own, pools, hosts = (root.sr(name=name) for name in ("own", "pool", "host"))
    pool, host = root("pool.get_all")[0], root("host.get_all")[0]
    vm = root.vm("vm", suspend_SR=own)
    root("pool.set_default_SR", pool, pools)
    root("pool.set_suspend_image_SR", pool, pools)
    root("host.set_suspend_image_sr", host, hosts)
    root.disk(vm, hosts)
    start(root, vm)
    for sr in (own, pools, hosts):
        root("VM.suspend", vm)
        assert root("VDI.get_SR", root("VM.get_suspend_VDI", vm)) == sr
        root("VM.resume", vm, False, False)
        if sr != hosts:
            root("PBD.unplug", root("SR.get_PBDs", sr)[0])
    root("host.set_suspend_image_sr", host, NULL)
    for name, rest in (("VM.suspend", []), ("VM.checkpoint", ["x"])):
        assert root.error(name, vm, *rest) == ["VM_NO_SUSPEND_SR", vm]
    assert root("VM.get_power_state", vm) == "Running"


def test_the_memory_of_a_checkpoint_is_kept_last(root: Client, vm: str) -> None:
    """The snapshot is there before it, busy, and tells the time when its disks were done."""
    start(root, vm)
    root("VM.suspend", vm)
    token = root("event.from", ["vm"], "", 1.0)["token"]
    task = root("Async.VM.checkpoint", vm, "x")
    seen: List[Any] = []
    while not seen:
        answer = root("event.from", ["vm"], token, 60.0)
        token = answer["token"]
        seen = [event["snapshot"] for event in answer["events"] if event["operation"] == "add"]
    (record,) = seen
    assert record["power_state"] == "Suspended" and record["suspend_VDI"] == NULL
    assert record["current_operations"] == {task: "checkpoint"} and record["allowed_operations"] == []
    assert root.task_end(task)["status"] == "success"
    (snap,) = root("VM.get_snapshots", vm)
    end = root("VM.get_record", snap)
    assert end["current_operations"] == {} and "revert" in end["allowed_operations"]
    assert root("VDI.get_snapshot_of", end["suspend_VDI"]) == root("VM.get_suspend_VDI", vm)


def test_a_checkpoint_whose_memory_cannot_be_kept_leaves_nothing(root: Client, vm: str) -> None:
    start(root, vm)
    root("VM.suspend", vm)
    before = root("VM.get_parent", vm)
    root("simulator.spoil", root("VDI.get_uuid", root("VM.get_suspend_VDI", vm)), "corrupt")
    assert root.error("VM.checkpoint", vm, "x")[0] == "SR_BACKEND_FAILURE_65"
    assert root("VM.get_snapshots", vm) == [] and root("VM.get_parent", vm) == before
    assert root("VDI.get_all_where", 'field "is_a_snapshot" = "true"') == []


def test_a_checkpoint_of_a_suspended_vm_is_suspended_even_without_an_image(root: Client) -> None:
    vm = root.vm("no image", power_state="Suspended")
    snap = root("VM.checkpoint", vm, "x")
    assert root("VM.get_power_state", snap) == "Suspended" and root("VM.get_suspend_VDI", snap) == NULL


def test_a_checkpoint_that_was_cancelled_while_the_vm_was_suspended_lets_it_run_on(root: Client) -> None:
    sr = root.sr()
    vm = root.vm("diskless", suspend_SR=sr)
    root("VM.set_suspend_SR", vm, sr)
    start(root, vm)
    task = root("Async.VM.checkpoint", vm, "x")
    root("task.cancel", task)
    end = root.task_end(task)
    assert end["status"] == "cancelled" and root("VM.get_snapshots", vm) == []
    assert root("VM.get_power_state", vm) == "Running"


def test_a_snapshot_has_copies_of_what_is_known_of_the_vm(root: Client, vm: str) -> None:
    start(root, vm)
    root("VM.set_ha_restart_priority", vm, "restart")
    snap = root("VM.snapshot", vm, "x")
    source, copy = root("VM.get_record", vm), root("VM.get_record", snap)
    assert copy["ha_restart_priority"] == "restart"
    for cls, field in (("VM_metrics", "metrics"), ("VM_guest_metrics", "guest_metrics")):
        assert copy[field] not in (NULL, source[field])
        one, other = (root(cls + ".get_record", record[field]) for record in (source, copy))
        assert one.pop("uuid") != other.pop("uuid") and one == other
    root("VM.destroy", snap)
    assert root("VM_guest_metrics.get_all") == [source["guest_metrics"]]


def test_during_a_rolling_upgrade_nothing_is_snapshotted_but_destroying_works(root: Client, vm: str) -> None:
    snap = root("VM.snapshot", vm, "before")
    pool = root("pool.get_all")[0]
    root("pool.add_to_other_config", pool, "rolling_upgrade_in_progress", "true")
    refused = ["NOT_SUPPORTED_DURING_UPGRADE"]
    assert root.error("VM.snapshot", vm, "x") == refused and root.error("VM.revert", snap) == refused
    # It is the last of the checks.
    assert root.error("VM.checkpoint", vm, "x")[0] == "VM_BAD_POWER_STATE"
    start(root, vm)
    assert root.error("VM.checkpoint", vm, "x") == refused
    assert "snapshot" not in root("VM.get_allowed_operations", vm)
    root("VM.destroy", snap)
    root("pool.remove_from_other_config", pool, "rolling_upgrade_in_progress")
    root("VM.snapshot", vm, "after")


def test_what_a_migrating_vm_allows(root: Client, vm: str) -> None:
    start(root, vm)
    root.sim.db.set("VM", vm, "current_operations", {"OpaqueRef:1": "migrate_send"})
    for operation in ("metadata_export", "clean_shutdown", "clean_reboot", "hard_shutdown", "hard_reboot"):
        root("VM.assert_operation_valid", vm, operation)
    busy = ["OTHER_OPERATION_IN_PROGRESS", "VM", vm, "migrate_send", "OpaqueRef:1"]
    assert root.error("VM.assert_operation_valid", vm, "snapshot") == busy
    root.sim.db.set("VM", vm, "power_state", "Halted")
    assert root.error("VM.assert_operation_valid", vm, "start") == busy
    root.sim.db.set("VM", vm, "power_state", "Running")
    # It cannot be ended twice.
    root.sim.db.set("VM", vm, "current_operations", {"OpaqueRef:1": "hard_shutdown"})
    busy[3] = "hard_shutdown"
    for operation in ("hard_shutdown", "hard_reboot"):
        assert root.error("VM.assert_operation_valid", vm, operation) == busy


def test_a_checkpoint_needs_the_licence(root: Client, vm: str) -> None:
    root("simulator.restrict", "Checkpoint", True)
    assert root.error("VM.checkpoint", vm, "x") == ["LICENCE_RESTRICTION", "Checkpoint"]


def test_checkpoints_of_a_host_wait_for_one_another(root: Client) -> None:
    sr, host = root.sr(), root("host.get_all")[0]
    root.keep_memory_on(sr)
    vms = [root.vm(name, affinity=host) for name in ("a", "b")]
    for vm in vms:
        root.disk(vm, sr)
        start(root, vm)
    tasks = [root("Async.VM.checkpoint", vm, "x") for vm in vms]
    ends = [root.task_end(task) for task in tasks]
    assert [end["status"] for end in ends] == ["success", "success"]
    assert ends[0]["finished"] <= ends[1]["finished"]
    images = root("VDI.get_all_records_where", 'field "type" = "suspend" and field "is_a_snapshot" = "true"')
    times = sorted(image["snapshot_time"] for image in images.values())
    assert times[1] >= ends[0]["finished"]


def test_a_failed_disk_takes_the_finished_ones_with_it(root: Client, vm: str) -> None:
    raw = dict(root("VDI.get_record", root("VDI.get_all")[0]))
    record = {k: raw[k] for k in ("SR", "type", "sharable", "read_only", "other_config")}
    record.update(name_label="raw", virtual_size="8388608", sm_config={"type": "raw"})
    disk = root("VDI.create", record)
    # The oldest VBD comes last, so the good disks are finished when the raw one fails.
    first = [v for v in root("VM.get_VBDs", vm) if root("VBD.get_type", v) == "Disk"]
    other = root.vm("other")
    root("VBD.create", vbd_record(other, disk, "0"))
    for number, vbd in enumerate(first):
        root("VBD.create", vbd_record(other, root("VBD.get_VDI", vbd), str(number + 1)))
    task = root("Async.VM.snapshot", other, "x")
    end = root.task_end(task)
    assert end["error_info"] == ["UNIMPLEMENTED_IN_SM_BACKEND", raw["SR"]]
    # The subtask that failed stays in the database.
    assert root("task.get_error_info", end["subtasks"][0]) == end["error_info"]
    assert root("VDI.get_all_where", 'field "is_a_snapshot" = "true"') == []
    assert root("VM.get_snapshots", other) == [] and root("VM.get_current_operations", other) == {}


def test_destroying_a_vbd_meanwhile_makes_the_snapshot_fail(root: Client, vm: str) -> None:
    task = root("Async.VM.snapshot", vm, "x")
    vbd = root("VM.get_VBDs", vm)[0]
    root("VBD.destroy", vbd)
    assert root.task_end(task)["error_info"] == ["HANDLE_INVALID", "VBD", vbd]
    assert root("VM.get_snapshots", vm) == []


def test_cancelling_takes_effect_between_the_disks(root: Client, vm: str) -> None:
    task = root("Async.VM.snapshot", vm, "x")
    root("task.cancel", task)
    end = root.task_end(task)
    assert end["status"] == "cancelled" and end["error_info"] == []
    assert root("VDI.get_all_where", 'field "is_a_snapshot" = "true"') == []


def test_cancelling_during_the_last_disk_is_ignored(root: Client) -> None:
    sr = root.sr()
    vm = root.vm("one disk")
    root.disk(vm, sr)
    task = root("Async.VM.snapshot", vm, "x")
    root("task.cancel", task)
    assert root.task_end(task)["status"] == "success"


def test_an_sr_that_no_host_sees_leaves_no_host(root: Client, vm: str) -> None:
    pbd = root("PBD.get_all")[0]
    root("PBD.unplug", pbd)
    assert root.error("VM.snapshot", vm, "x") == ["NO_HOSTS_AVAILABLE"]
    disk = root("VDI.get_all")[0]
    sr = root("VDI.get_SR", disk)
    assert root.error("VDI.snapshot", disk, {}) == ["SR_HAS_NO_PBDS", sr]
    root("PBD.plug", pbd)
    root("VM.snapshot", vm, "x")


def unplugged_iso(root: Client, vm: str) -> str:
    """Put a CD of an ISO SR into the VM's drive, and unplug the SR; its PBD."""
    isos = root.sr("iso")
    iso = root("VDI.introduce", "", "a.iso", "", isos, "user", False, True, {}, "a.iso", {}, {}, True, "1000000")
    drive = [v for v in root("VM.get_VBDs", vm) if root("VBD.get_type", v) == "CD"][0]
    root("VBD.insert", drive, iso)
    (pbd,) = root("SR.get_PBDs", isos)
    root("PBD.unplug", pbd)
    return str(pbd)


def test_a_cd_of_an_sr_that_no_host_sees_leaves_no_host(root: Client, vm: str) -> None:
    unplugged_iso(root, vm)
    assert root.error("VM.snapshot", vm, "x") == ["NO_HOSTS_AVAILABLE"]
    drive = [v for v in root("VM.get_VBDs", vm) if root("VBD.get_type", v) == "CD"][0]
    root("VBD.eject", drive)
    root("VM.snapshot", vm, "x")


def test_a_suspended_vm_needs_the_sr_of_its_memory_image(root: Client, vm: str) -> None:
    images = root.sr("nfs")
    root("VM.set_suspend_SR", vm, images)
    root("VM.start", vm, False, False)
    root("VM.suspend", vm)
    assert root("VDI.get_SR", root("VM.get_suspend_VDI", vm)) == images
    (pbd,) = root("SR.get_PBDs", images)
    root("PBD.unplug", pbd)
    assert root.error("VM.snapshot", vm, "x") == ["NO_HOSTS_AVAILABLE"]
    root("PBD.plug", pbd)
    root("VM.snapshot", vm, "x")


def test_a_checkpoint_is_taken_where_the_vm_runs_whatever_its_host_sees(root: Client, vm: str) -> None:
    pbd = unplugged_iso(root, vm)
    root("PBD.plug", pbd)
    root("VM.start", vm, False, False)
    root.sim.db.set("PBD", pbd, "currently_attached", False)  # as after a start of xapi that could not attach it
    assert root.error("VM.snapshot", vm, "x") == ["NO_HOSTS_AVAILABLE"]
    root("VM.checkpoint", vm, "x")


def test_vm_destroy_touches_no_disk_and_vdi_destroy_takes_the_vbds_along(root: Client, vm: str) -> None:
    snap = root("VM.snapshot", vm, "snap")
    disks = [root("VBD.get_VDI", v) for v in root("VM.get_VBDs", snap) if root("VBD.get_type", v) == "Disk"]
    root("VDI.destroy", disks[0])
    assert disks[0] not in [root("VBD.get_VDI", v) for v in root("VM.get_VBDs", snap)]
    root("VM.destroy", snap)
    assert root("VDI.get_name_label", disks[1])
    assert root.error("VM.destroy", snap) == ["HANDLE_INVALID", "VM", snap]


def test_clones_have_no_schedule_and_are_no_snapshots(root: Client, vm: str) -> None:
    policy = root("VMSS.create", {"type": "snapshot", "frequency": "daily"})
    root("VM.set_snapshot_schedule", vm, policy)
    copy = root("VM.get_record", root("VM.clone", vm, "copy"))
    assert copy["snapshot_schedule"] == NULL and not copy["is_a_snapshot"] and not copy["is_a_template"]
    assert root("VMSS.get_VMs", policy) == [vm]


@pytest.mark.parametrize("how", ["clone", "copy"])
def test_what_is_suspended_is_cloned_with_its_memory_if_it_is_a_snapshot(root: Client, vm: str, how: str) -> None:
    more = [NULL] if how == "copy" else []
    start(root, vm)
    checkpoint = root("VM.checkpoint", vm, "snap")
    assert how in root("VM.get_allowed_operations", checkpoint)
    clone = root("VM.get_record", root("VM." + how, checkpoint, "clone", *more))
    assert clone["power_state"] == "Suspended" and how not in clone["allowed_operations"]
    assert clone["suspend_VDI"] not in (NULL, root("VM.get_suspend_VDI", checkpoint))
    assert root("VDI.get_type", clone["suspend_VDI"]) == "suspend" and not clone["current_operations"]
    root("VM.suspend", vm)
    assert how not in root("VM.get_allowed_operations", vm)
    assert root.error("VM." + how, vm, "x", *more) == ["VM_BAD_POWER_STATE", vm, "halted", "suspended"]
    root("pool.add_to_other_config", root("pool.get_all")[0], "allow_clone_suspended_vm", "true")
    assert root("VM.get_power_state", root("VM." + how, vm, "x", *more)) == "Suspended"


def test_of_a_paused_guest_nobody_asks_what_its_tools_can(root: Client, vm: str) -> None:
    start(root, vm)
    root.sim.db.set("VM_guest_metrics", root("VM.get_guest_metrics", vm), "other", {"data-cant-suspend-reason": "R"})
    assert root.error("VM.checkpoint", vm, "x") == ["VM_NON_SUSPENDABLE", vm, "R"]
    root("VM.pause", vm)
    assert root("VM.get_snapshot_info", root("VM.checkpoint", vm, "x"))["power-state-at-snapshot"] == "Paused"


def test_power_states_follow_the_operations(root: Client, vm: str) -> None:
    start(root, vm)
    assert root("VM.get_power_state", vm) == "Running" and "checkpoint" in root("VM.get_allowed_operations", vm)
    assert root.error("VM.destroy", vm) == ["VM_BAD_POWER_STATE", vm, "halted, suspended", "running"]
    disk = root("VBD.get_VDI", root("VM.get_VBDs", vm)[-1])
    assert root.error("VDI.destroy", disk) == ["VDI_IN_USE", disk, "destroy"]
    root("VM.suspend", vm)
    assert root("VM.get_power_state", vm) == "Suspended" and root("VM.get_suspend_VDI", vm) != NULL
    root("VM.resume", vm, False, False)
    assert root("VM.get_power_state", vm) == "Running" and root("VM.get_suspend_VDI", vm) == NULL
    root("VM.clean_shutdown", vm)
    assert root("VM.get_power_state", vm) == "Halted"
    root("VM.start", vm, True, False)
    assert root("VM.get_power_state", vm) == "Paused"
    root("VM.unpause", vm)
    root("VM.hard_shutdown", vm)
    assert root("VM.get_resident_on", vm) == NULL
