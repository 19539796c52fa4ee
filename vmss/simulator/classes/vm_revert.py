"""Reverting a VM to a snapshot (xapi: ocaml/xapi/xapi_vm_snapshot.ml, message_forwarding.ml).

Where the storage can, the contents of the VM's own disks are replaced. Elsewhere it gets clones of the snapshot's
disks, and its old ones are destroyed.
"""

from typing import TYPE_CHECKING, Any, Dict, Generator, List

from ..errors import XapiError
from ..registry import method
from ..values import NULL
from ..vm_operations import refresh, run
from .vm import announce, power_off
from .vm_copy import NOT_COPIED, copy_metrics, copy_vbds, destroy_disks

if TYPE_CHECKING:
    from ..call import Call

Steps = Generator[Any, Any, Any]

# Fields that a VM keeps when it is reverted; all others are again what they were at the snapshot.
_KEPT = frozenset(
    ["uuid", "suspend_VDI", "power_state", "parent", "current_operations", "allowed_operations", "metrics",
     "guest_metrics", "resident_on", "domid", "domarch", "protection_policy", "snapshot_schedule",
     "scheduled_to_be_resident_on", "tags", "affinity", "groups", "generation_id"]
)  # fmt: skip
# The failures of disks that a client is told as they are. Any other is VM_REVERT_FAILED.
_TOLD = ("SR_BACKEND_FAILURE_44", "SR_BACKEND_FAILURE_109", "VDI_INCOMPATIBLE_TYPE")


@method("VM.revert")
def revert(call: "Call", snapshot: str) -> Steps:
    source = call.db.row("VM", snapshot)
    name, uuid = source["name_label"], source["uuid"]
    vm = source["snapshot_of"]
    if not call.db.exists("VM", vm):
        vm = _create_vm(call, snapshot, vm)

    def work() -> Steps:
        return run(call, vm, "reverting", lambda: _revert(call, vm, snapshot))

    yield from run(call, snapshot, "revert", work)
    target = call.db.row("VM", vm)
    texts = (target["name_label"], target["uuid"], name, uuid)
    announce(call, vm, "VM_SNAPSHOT_REVERTED", "VM '%s' (uuid: %s) reverted to snapshot: %s (uuid %s)" % texts)


def _create_vm(call: "Call", snapshot: str, gone: str) -> str:
    """Create the VM of a snapshot anew, which is gone, under its old uuid. What is no snapshot cannot tell of a VM."""
    db = call.db
    stored = db.read_metadata("VM", db.row("VM", snapshot)["snapshot_metadata"])
    if not stored.get("uuid") or stored["uuid"] in db.tables["VM"].uuids:
        raise XapiError("VM_REVERT_FAILED", snapshot, gone)
    fields = {name: value for name, value in db.row("VM", snapshot).items() if name not in NOT_COPIED}
    fields.update((name, value) for name, value in stored.items() if name not in _KEPT)
    fields.update(
        uuid=stored["uuid"], power_state="Halted", domid=-1, metrics=copy_metrics(call, "VM_metrics", NULL),
        guest_metrics=NULL,
    )  # fmt: skip
    vm = db.create("VM", fields)
    for sibling in dict.fromkeys([*db.pointing_at("VM", "snapshot_of", gone), snapshot]):
        db.set("VM", sibling, "snapshot_of", vm)
    refresh(db, vm)
    return vm


def _revert(call: "Call", vm: str, snapshot: str) -> Steps:
    """Restore the record, then the disks. After a failure the VM is halted, with what it has by then."""
    db = call.db
    if db.row("VM", vm)["power_state"] in ("Running", "Paused"):
        yield call.sim.draw("vm_hard_shutdown")
        power_off(call, vm, "Halted")
    _restore_fields(call, vm, snapshot)
    try:
        image = yield from _restore_disks(call, vm, snapshot)
    except XapiError as error:
        db.set("VM", vm, "power_state", "Halted")
        refresh(db, vm)
        raise error if error.code in _TOLD else XapiError("VM_REVERT_FAILED", snapshot, vm)
    _finish(call, vm, snapshot, image)


def _restore_fields(call: "Call", vm: str, snapshot: str) -> None:
    """Restore the VM's record from the snapshot's metadata."""
    db = call.db
    stored = db.read_metadata("VM", db.row("VM", snapshot)["snapshot_metadata"])
    fields: Dict[str, Any] = {name: value for name, value in stored.items() if name not in _KEPT}
    fields["ha_always_run"] = False
    db.update("VM", vm, **fields)


def _restore_disks(call: "Call", vm: str, snapshot: str) -> Steps:
    """Give the VM the snapshot's disks, CDs and memory; return its new suspend VDI."""
    db = call.db
    old_image = db.row("VM", vm)["suspend_VDI"]
    old_disks = _detach_disks(call, vm)
    vbds = db.pointing_at("VBD", "VM", snapshot)
    disks = yield from _revert_disks(call, vbds)
    image = yield from _copy_memory(call, snapshot)
    yield from _destroy_replaced(call, old_disks, disks)
    if db.exists("VDI", old_image):
        yield from call.sim.dispatcher.subtask(call, "VDI.destroy", old_image)
    copy_vbds(call, vm, vbds, disks, [])
    return image


def _detach_disks(call: "Call", vm: str) -> List[str]:
    """Delete the VBDs of the VM, which is the first step of a revert; return their disks."""
    disks = []
    for vbd in call.db.pointing_at("VBD", "VM", vm):
        disks.append(call.db.row("VBD", vbd)["VDI"])
        call.db.delete("VBD", vbd)
    return disks


def _revert_disks(call: "Call", vbds: List[str]) -> Steps:
    """The disk that the VM gets for each VBD of the snapshot. A failure destroys the clones."""
    disks: Dict[str, str] = {}
    clones: List[str] = []
    try:
        for vbd in vbds:
            row = call.db.row("VBD", vbd)
            if row["type"] != "Disk" or row["empty"]:
                continue
            disks[vbd] = yield from _revert_in_place(call, row["VDI"])
            if disks[vbd] == NULL:
                disks[vbd] = yield from call.sim.dispatcher.subtask(call, "VDI.clone", row["VDI"], {})
                clones.append(disks[vbd])
    except XapiError:
        yield from destroy_disks(call, clones)
        raise
    return disks


def _revert_in_place(call: "Call", disk: str) -> Steps:
    """Revert the disk that a snapshot's disk is of, and return it; NULL if that cannot be done: then xapi clones."""
    target = call.db.row("VDI", disk)["snapshot_of"]
    if not call.db.exists("VDI", target) or not call.sim.storage.reverts_in_place(call.db.row("VDI", disk)["SR"]):
        return NULL
    try:
        yield from call.sim.dispatcher.subtask(call, "VDI.revert", disk)
    except XapiError:
        return NULL
    return target


def _copy_memory(call: "Call", snapshot: str) -> Steps:
    """Clone the suspend VDI of a checkpoint, from which the VM can be resumed; NULL if there is none."""
    image = call.db.row("VM", snapshot)["suspend_VDI"]
    if not call.db.exists("VDI", image):
        return NULL
    return (yield from call.sim.dispatcher.subtask(call, "VDI.clone", image, {}))


def _destroy_replaced(call: "Call", old_disks: List[str], disks: Dict[str, str]) -> Steps:
    """Destroy the old disks that have a replacement, to which their snapshots then belong.

    A disk whose snapshot was deleted has none: it stays without a VBD (seen on a real xapi).
    """
    db = call.db
    for vbd, new in disks.items():
        source = db.row("VDI", db.row("VBD", vbd)["VDI"])
        old = source["snapshot_of"]
        if new == old:
            continue
        db.set("VDI", new, "snapshot_time", source["snapshot_time"])
        for older in db.pointing_at("VDI", "snapshot_of", old):
            db.set("VDI", older, "snapshot_of", new)
        if old in old_disks:
            yield from call.sim.dispatcher.subtask(call, "VDI.destroy", old)


def _finish(call: "Call", vm: str, snapshot: str, image: str) -> None:
    """Give the VM the snapshot's metrics and power state, and make the snapshot its parent."""
    db = call.db
    row, source = db.row("VM", vm), db.row("VM", snapshot)
    for cls, ref in (("VM_metrics", row["metrics"]), ("VM_guest_metrics", row["guest_metrics"])):
        if db.exists(cls, ref):
            db.delete(cls, ref)
    numbers = tuple(call.sim.random.getrandbits(62) for _ in range(2))
    db.update(
        "VM",
        vm,
        parent=snapshot,
        suspend_VDI=image,
        # Also without its memory, if somebody has destroyed that.
        power_state=source["power_state"],
        generation_id="%d:%d" % numbers,
        metrics=copy_metrics(call, "VM_metrics", source["metrics"]),
        guest_metrics=copy_metrics(call, "VM_guest_metrics", source["guest_metrics"]),
    )
    refresh(db, vm)
