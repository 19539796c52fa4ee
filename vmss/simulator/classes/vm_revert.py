"""Reverting a VM to a snapshot (xapi: ocaml/xapi/xapi_vm_snapshot.ml)."""

from typing import TYPE_CHECKING, Any, Dict, Generator, List

from ..errors import XapiError
from ..registry import method
from ..values import EPOCH, NULL
from ..vm_operations import check_operation, refresh, run
from .vm import announce, power_off
from .vm_copy import NOT_COPIED, copy_disks, copy_vbds

if TYPE_CHECKING:
    from ..call import Call

Steps = Generator[Any, Any, Any]

# Fields that a VM keeps when it is reverted.
_KEPT = frozenset(NOT_COPIED) | {
    "is_a_template", "power_state", "generation_id", "ha_restart_priority", "last_booted_record", "last_boot_CPU_flags",
}  # fmt: skip


@method("VM.revert")
def revert(call: "Call", snapshot: str) -> Steps:
    row = call.db.row("VM", snapshot)
    if not row["is_a_snapshot"]:
        raise XapiError("REVERT_ONLY_ALLOWED_ON_SNAPSHOT")
    check_operation(call.db, snapshot, "revert")
    vm = row["snapshot_of"]
    call.db.row("VM", vm)

    def work() -> Steps:
        return _revert(call, vm, snapshot)

    yield from run(call, vm, "reverting", work)
    target = call.db.row("VM", vm)
    texts = (target["name_label"], target["uuid"], row["name_label"], row["uuid"])
    announce(call, vm, "VM_SNAPSHOT_REVERTED", "VM '%s' (uuid: %s) reverted to snapshot: %s (uuid %s)" % texts)


def _revert(call: "Call", vm: str, snapshot: str) -> Steps:
    """Clone the snapshot's disks, destroy the old ones, and restore the record."""
    db = call.db
    if db.row("VM", vm)["power_state"] in ("Running", "Paused"):
        yield call.sim.draw("vm_hard_shutdown")
        power_off(call, vm, "Halted")
    old_disks = _detach_disks(call, vm)
    vbds = db.pointing_at("VBD", "VM", snapshot)
    copies = yield from copy_disks(call, snapshot, vbds, "VDI.clone")
    old_image = db.row("VM", vm)["suspend_VDI"]
    image = yield from _copy_memory(call, snapshot)
    yield from _destroy_replaced(call, old_disks, snapshot, copies)
    if db.exists("VDI", old_image):
        yield from call.sim.dispatcher.subtask(call, "VDI.destroy", old_image)
    copy_vbds(call, vm, vbds, copies, [])
    _restore_record(call, vm, snapshot, image)


def _copy_memory(call: "Call", snapshot: str) -> Steps:
    """Clone the suspend VDI of a checkpoint, from which the VM can be resumed; NULL if there is none."""
    image = call.db.row("VM", snapshot)["suspend_VDI"]
    if not call.db.exists("VDI", image):
        return NULL
    return (yield from call.sim.dispatcher.subtask(call, "VDI.clone", image, {}))


def _detach_disks(call: "Call", vm: str) -> List[str]:
    """Delete the VBDs of the VM, which is the first step of a revert; return their disks."""
    disks = []
    for vbd in call.db.pointing_at("VBD", "VM", vm):
        disks.append(call.db.row("VBD", vbd)["VDI"])
        call.db.delete("VBD", vbd)
    return disks


def _destroy_replaced(call: "Call", disks: List[str], snapshot: str, copies: Dict[str, str]) -> Steps:
    """Destroy the old disks that have a replacement, to which their snapshots then belong.

    A disk whose snapshot was deleted has none: it stays without a VBD (seen on a real xapi).
    """
    db = call.db
    replaced = _replacements(call, snapshot, copies)
    for disk in disks:
        new = replaced.get(disk)
        if new is None:
            continue
        for older in db.pointing_at("VDI", "snapshot_of", disk):
            db.set("VDI", older, "snapshot_of", new)
        yield from call.sim.dispatcher.subtask(call, "VDI.destroy", disk)


def _replacements(call: "Call", snapshot: str, copies: Dict[str, str]) -> Dict[str, str]:
    """By live disk of which the snapshot has a copy: the new disk made from that copy."""
    replaced = {}
    for vbd, new in copies.items():
        source = call.db.row("VDI", call.db.row("VBD", vbd)["VDI"])
        replaced[source["snapshot_of"]] = new
        call.db.update("VDI", new, snapshot_time=source["snapshot_time"])
    return replaced


def _restore_record(call: "Call", vm: str, snapshot: str, image: str) -> None:
    """Restore the VM's record from the snapshot's metadata."""
    db = call.db
    stored = db.read_metadata("VM", db.row("VM", snapshot)["snapshot_metadata"])
    fields: Dict[str, Any] = {name: value for name, value in stored.items() if name not in _KEPT}
    numbers = tuple(call.sim.random.getrandbits(62) for _ in range(2))
    metrics = db.row("VM", vm)["metrics"]
    if db.exists("VM_metrics", metrics):
        db.delete("VM_metrics", metrics)
    fields.update(
        parent=snapshot,
        suspend_VDI=image,
        power_state="Suspended" if image != NULL else "Halted",
        generation_id="%d:%d" % numbers,
        metrics=db.create("VM_metrics", {"last_updated": EPOCH, "start_time": EPOCH, "install_time": EPOCH}),
    )
    db.update("VM", vm, **fields)
    refresh(db, vm)
