"""Snapshots, checkpoints and clones of VMs.

Sources: xapi: ocaml/xapi/xapi_vm_snapshot.ml, xapi_vm_clone.ml, xapi_vmss.ml, message_forwarding.ml.
"""

from typing import TYPE_CHECKING, Any, Dict, Generator, List, Tuple

from ..errors import XapiError
from ..licence import require_feature
from ..registry import method
from ..sr_types import features
from ..values import EPOCH, NULL, from_seconds
from ..vm_operations import hosts_seeing, refresh, run
from .vbd import refresh as refresh_vbd
from .vm import announce, load_memory, remove, save_memory

if TYPE_CHECKING:
    from ..call import Call

Steps = Generator[Any, Any, Any]

# Fields that a copy does not take over from the VM.
NOT_COPIED = (
    "uuid", "allowed_operations", "current_operations", "resident_on", "scheduled_to_be_resident_on",
    "suspend_VDI", "suspend_SR", "metrics", "guest_metrics", "domid", "domarch", "snapshot_schedule",
    "protection_policy", "appliance", "is_vmss_snapshot", "is_default_template", "is_control_domain",
    "blocked_operations", "ha_always_run", "start_delay", "shutdown_delay", "order",
    "groups", "blobs", "snapshot_info", "snapshot_metadata", "snapshot_of", "snapshot_time", "is_a_snapshot",
    "parent", "requires_reboot",
)  # fmt: skip
# The part of a checkpoint that resumes its VM, which has no call of its own, as faults name it.
RESUME_PART = "VM.checkpoint.resume"
_NOT_COPIED_KEYS = ("default_template", "xensource_internal")


def mark_task(call: "Call", vm: str) -> None:
    """XenCenter shows the tasks of scheduled snapshots by these marks (xapi: ocaml/xapi/xapi_vmss.ml)."""
    if call.sim.sessions.is_scheduled_snapshot(call.session) and call.db.exists("task", call.task):
        marks = {"ShowInXenCenter": "", "applies_to": vm}
        other = call.db.row("task", call.task)["other_config"]
        call.db.set("task", call.task, "other_config", {**other, **marks})


def copy_disks(call: "Call", vm: str, vbds: List[str], operation: str) -> Steps:
    """Snapshot or clone the disks one after another; return VBD -> new disk. A failure destroys all new disks."""
    disks: List[Tuple[str, str, int]] = []
    for vbd in vbds:
        row = call.db.row("VBD", vbd)
        if row["type"] == "Disk" and not row["empty"]:
            disks.append((vbd, row["VDI"], call.db.row("VDI", row["VDI"])["virtual_size"]))
    total = sum(size for _, _, size in disks)
    done = 0
    copies: Dict[str, str] = {}
    try:
        for vbd, vdi, size in disks:
            call.check_cancelled()
            copies[vbd] = yield from call.sim.dispatcher.subtask(call, operation, vdi, {})
            done += size
            call.set_progress(done / total if total else 1.0)
    except XapiError:
        yield from destroy_disks(call, list(copies.values()))
        raise
    return copies


def destroy_disks(call: "Call", disks: List[str]) -> Steps:
    """Destroy disks after a failure; those that cannot be destroyed stay."""
    for disk in disks:
        try:
            yield from call.sim.dispatcher.subtask(call, "VDI.destroy", disk)
        except XapiError:
            continue


def copy_record(call: "Call", vm: str, name: str, fields: Dict[str, Any]) -> str:
    """A new VM record like this one, with metrics of its own."""
    db = call.db
    source = db.row("VM", vm)
    row = {key: value for key, value in source.items() if key not in NOT_COPIED}
    other = source["other_config"]
    row["other_config"] = {key: value for key, value in other.items() if key not in _NOT_COPIED_KEYS}
    numbers = tuple(call.sim.random.getrandbits(63) for _ in range(2))
    row.update(
        name_label=name,
        domid=-1,
        power_state="Halted",
        generation_id="%d:%d" % numbers,
        metrics=copy_metrics(call, "VM_metrics", source["metrics"]),
        guest_metrics=copy_metrics(call, "VM_guest_metrics", source["guest_metrics"]),
    )
    row.update(fields)
    return db.create("VM", row)


def copy_metrics(call: "Call", cls: str, ref: str) -> str:
    """The copy keeps the metrics that the VM has when it is copied (xapi: ocaml/xapi/xapi_vm_helpers.ml)."""
    row = call.db.tables[cls].rows.get(ref)
    if row is not None:
        return call.db.create(cls, dict(row, uuid=""))
    if cls == "VM_guest_metrics":
        return NULL
    return call.db.create(cls, {"last_updated": EPOCH, "start_time": EPOCH, "install_time": EPOCH})


def copy_vbds(call: "Call", copy: str, vbds: List[str], disks: Dict[str, str], ignored: List[str]) -> None:
    """Create the copy's VBDs, with its own disks and the same CDs, but not those that are ignored."""
    for vbd in vbds:
        row = call.db.row("VBD", vbd)
        if row["VDI"] in ignored and not row["empty"]:
            continue
        fields = dict(row, VM=copy, metrics=call.db.new_ref(), currently_attached=False, current_operations={})
        fields.update(uuid="", device="", reserved=False, storage_lock=False)
        if row["type"] == "Disk":
            fields["VDI"] = disks.get(vbd, NULL)
            fields["other_config"] = {"owner": "", **row["other_config"]}
        new = call.db.create("VBD", fields)
        refresh_vbd(call.db, new)


def finish_copy(
    call: "Call", vm: str, name: str, fields: Dict[str, Any], disks: Dict[str, str], vbds: List[str],
    ignored: List[str],
) -> Steps:  # fmt: skip
    """Create the records of the copy after its disks; a failure removes both."""
    copy = NULL
    try:
        copy = copy_record(call, vm, name, fields)
        copy_vbds(call, copy, vbds, disks, ignored)
    except XapiError:
        if call.db.exists("VM", copy):
            for vbd in call.db.pointing_at("VBD", "VM", copy):
                call.db.delete("VBD", vbd)
            call.db.delete("VM", copy)
        yield from destroy_disks(call, list(disks.values()))
        raise
    refresh(call.db, copy)
    return copy


def take_snapshot(call: "Call", vm: str, name: str, ignored: List[str], power_state: str, memory: bool) -> Steps:
    """The part that snapshot and checkpoint share; `power_state` is that of the VM when the call began."""
    db = call.db
    vbds = [vbd for vbd in db.pointing_at("VBD", "VM", vm) if db.row("VBD", vbd)["VDI"] not in ignored]
    disks = yield from copy_disks(call, vm, vbds, "VDI.snapshot")
    if db.exists("task", call.task):
        db.set("task", call.task, "allowed_operations", [])
    fields = {
        "is_a_snapshot": True,
        "is_a_template": True,
        "snapshot_of": vm,
        "snapshot_time": from_seconds(call.sim.kernel.now()),
        "snapshot_info": {"disk-snapshot-type": "crash_consistent", "power-state-at-snapshot": power_state},
        "snapshot_metadata": db.metadata_text("VM", vm),
        "parent": db.row("VM", vm)["parent"],
        # Decided by the state of the session after the disks are done.
        "is_vmss_snapshot": call.sim.sessions.is_scheduled_snapshot(call.session),
        "power_state": "Suspended" if memory else "Halted",
    }
    copy = yield from finish_copy(call, vm, name, fields, disks, vbds, ignored)
    db.set("VM", vm, "parent", copy)
    if memory:
        yield from copy_memory(call, vm, copy, list(disks.values()), "VDI.snapshot", {})
    return copy


def copy_memory(call: "Call", vm: str, copy: str, disks: List[str], method: str, *params: Any) -> Steps:
    """Copy the memory last, by a method of VDIs, when the copy of the VM exists and is busy (xapi:
    ocaml/xapi/xapi_vm_clone.ml)."""
    db, key = call.db, call.task_key
    image = db.row("VM", vm)["suspend_VDI"]
    db.update("VM", copy, current_operations={key: call.method[len("VM.") :]}, allowed_operations=[])
    try:
        if db.exists("VDI", image):
            db.set("VM", copy, "suspend_VDI", (yield from call.sim.dispatcher.subtask(call, method, image, *params)))
    except XapiError:
        remove(call, copy)
        yield from destroy_disks(call, disks)
        raise
    finally:
        if db.exists("VM", copy):
            db.remove_from_map("VM", copy, "current_operations", key)
            refresh(db, copy)
        call.sim.waiting.released("VM", copy)


def _begin(call: "Call", vm: str, host: str = NULL) -> str:
    """The first steps of snapshot and checkpoint; return the host that carries them out: if none is given, any one that
    sees the VM's disks."""
    if host == NULL:
        host = call.sim.random.choice(hosts_seeing(call.sim, vm))
    mark_task(call, vm)
    call.allow_cancel()
    return host


@method("VM.snapshot")
def snapshot(call: "Call", vm: str, name: str, ignore_vdis: List[str]) -> Steps:
    def work() -> Steps:
        host = _begin(call, vm)
        power_state = call.db.row("VM", vm)["power_state"]
        steps = take_snapshot(call, vm, name, ignore_vdis, power_state, memory=False)
        return (yield from call.sim.hosts.run_on(host, steps))

    copy = yield from run(call, vm, "snapshot", work)
    _announce(call, vm, name, "VM_SNAPSHOTTED", "snapshotted")
    return copy


def _announce(call: "Call", vm: str, name: str, message: str, word: str) -> None:
    if call.db.exists("VM", vm):
        row = call.db.row("VM", vm)
        text = "VM '%s' (uuid: %s) %s, snapshot name: %s" % (row["name_label"], row["uuid"], word, name)
        announce(call, vm, message, text)


@method("VM.checkpoint")
def checkpoint(call: "Call", vm: str, name: str) -> Steps:
    require_feature(call.sim, "Checkpoint")

    def work() -> Steps:
        # That of a running VM is taken where it runs, whatever its host sees (xapi: message_forwarding.ml).
        host = _begin(call, vm, call.db.row("VM", vm)["resident_on"])
        yield from call.sim.checkpoints.enter(call, host)
        try:
            return (yield from call.sim.hosts.run_on(host, _checkpoint_now(call, vm, name)))
        finally:
            call.sim.checkpoints.leave(host)

    copy = yield from run(call, vm, "checkpoint", work)
    _announce(call, vm, name, "VM_CHECKPOINTED", "checkpointed")
    return copy


def _checkpoint_now(call: "Call", vm: str, name: str) -> Steps:
    """Take the checkpoint. A running VM is suspended for it, and resumed even after a failure."""
    row = call.db.row("VM", vm)
    power_state, host = row["power_state"], row["resident_on"]
    if power_state != "Running":
        memory = power_state == "Suspended"
        return (yield from take_snapshot(call, vm, name, [], power_state, memory))
    _check_disks_can(call, vm)
    yield from save_memory(call, vm)
    try:
        call.check_cancelled()
        copy = yield from take_snapshot(call, vm, name, [], power_state, memory=True)
    except Exception:  # not where xapi ends: then nobody resumes the VM
        yield from _resume(call, vm, host)
        raise
    yield from _resume(call, vm, host)
    return copy


def _check_disks_can(call: "Call", vm: str) -> None:
    """Raise, before a running VM is suspended, if a disk is on an SR that makes no snapshots. The error names the VM
    where it means the SR (xapi: ocaml/xapi/xapi_vm_snapshot.ml)."""
    vbds = (call.db.row("VBD", vbd) for vbd in call.db.pointing_at("VBD", "VM", vm))
    for vdi in [vbd["VDI"] for vbd in vbds if vbd["type"] != "CD" and call.db.exists("VDI", vbd["VDI"])]:
        kind = call.db.row("SR", call.db.row("VDI", vdi)["SR"])["type"]
        if "VDI_SNAPSHOT" not in features(kind):
            raise XapiError("SR_OPERATION_NOT_SUPPORTED", vm)


def _resume(call: "Call", vm: str, host: str) -> Steps:
    """Resume the VM of a checkpoint."""
    steps = load_memory(call, vm, host)
    rule = call.sim.faults.meet(RESUME_PART, [vm])
    return steps if rule is None else call.sim.faults.around(rule, steps)


@method("VM.clone")
def clone(call: "Call", vm: str, name: str) -> Steps:
    def work() -> Steps:
        hosts_seeing(call.sim, vm)
        vbds = call.db.pointing_at("VBD", "VM", vm)
        disks = yield from copy_disks(call, vm, vbds, "VDI.clone")
        copy = yield from finish_copy(call, vm, name, clone_fields(call, vm), disks, vbds, [])
        if call.db.row("VM", copy)["power_state"] == "Suspended":
            yield from copy_memory(call, vm, copy, list(disks.values()), "VDI.clone", {})
        return copy

    return (yield from run(call, vm, "clone", work))


def clone_fields(call: "Call", vm: str) -> Dict[str, Any]:
    """The fields in which a clone differs: network addresses, the name of its template, and whether it is suspended."""
    source = call.db.row("VM", vm)
    power_state = "Suspended" if source["power_state"] == "Suspended" else "Halted"
    other_config = {**source["other_config"], "mac_seed": call.db.new_uuid()}
    if source["is_a_template"]:
        other_config["base_template_name"] = source["name_label"]
    return {"other_config": other_config, "power_state": power_state}
