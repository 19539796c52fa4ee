"""The attachments of disks and CDs to VMs (xapi: ocaml/xapi/xapi_vbd.ml)."""

from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from ..errors import XapiError
from ..registry import method
from ..values import NULL

if TYPE_CHECKING:
    from ..call import Call
    from ..database import Database

DEVICES_MAX = 255


def refresh(db: "Database", vbd: str) -> None:
    """Recompute a VBD's allowed_operations."""
    row = db.row("VBD", vbd)
    vm = db.row("VM", row["VM"])
    allowed: List[str] = []
    if vm["power_state"] == "Running":
        if not db.exists("VM_guest_metrics", vm["guest_metrics"]):
            # Without drivers in the guest, no disk can be hot-plugged.
            db.set_list("VBD", vbd, "allowed_operations", [])
            return
        allowed = ["unplug", "unplug_force", "pause", "unpause"] if row["currently_attached"] else ["plug"]
    allowed = ["attach"] + allowed
    if row["type"] == "CD":
        allowed.append("insert" if row["empty"] else "eject")
    db.set_list("VBD", vbd, "allowed_operations", allowed)


def used_devices(db: "Database", vm: str) -> List[str]:
    return [db.row("VBD", vbd)["userdevice"] for vbd in db.pointing_at("VBD", "VM", vm)]


@method("VBD.create")
def create(call: "Call", fields: Dict[str, Any]) -> str:
    """Create a VBD after xapi's checks; "autodetect" takes the first free device."""
    vm = call.db.row("VM", fields["VM"])
    if fields["empty"] and fields["type"] != "CD":
        raise XapiError("VBD_NOT_REMOVABLE_MEDIA", "in constructor")
    if fields["empty"]:
        fields["VDI"] = NULL
    else:
        call.db.row("VDI", fields["VDI"])
    if fields["type"] == "CD" and fields["mode"] == "RW":
        raise XapiError("VBD_CDS_MUST_BE_READONLY")
    used = used_devices(call.db, fields["VM"])
    if fields["userdevice"] == "autodetect":
        fields["userdevice"] = next(str(n) for n in range(DEVICES_MAX) if str(n) not in used)
    if not fields["userdevice"].isdigit() or int(fields["userdevice"]) >= DEVICES_MAX:
        raise XapiError("INVALID_DEVICE", fields["userdevice"])
    if fields["userdevice"] in used:
        raise XapiError("DEVICE_ALREADY_EXISTS", fields["userdevice"])
    fields.update(device="", currently_attached=False, metrics=call.db.new_ref())
    vbd = call.db.create("VBD", fields)
    if vm["power_state"] != "Running":
        refresh(call.db, vbd)
    else:
        call.db.set_list("VBD", vbd, "allowed_operations", ["attach", "plug"])
    return vbd


@method("VBD.destroy")
def destroy(call: "Call", vbd: str) -> None:
    """Remove a VBD without waiting, so that a running snapshot fails (seen on a real xapi)."""
    if call.db.row("VBD", vbd)["currently_attached"]:
        raise XapiError("OPERATION_NOT_ALLOWED", "VBD '%s' still attached to '%s'" % _uuids(call.db, vbd))
    call.db.delete("VBD", vbd)


def _uuids(db: "Database", vbd: str) -> Tuple[str, str]:
    row = db.row("VBD", vbd)
    return row["uuid"], db.row("VM", row["VM"])["uuid"]


@method("VBD.eject")
def eject(call: "Call", vbd: str) -> None:
    row = call.db.row("VBD", vbd)
    if row["type"] != "CD":
        raise XapiError("VBD_NOT_REMOVABLE_MEDIA", vbd)
    if row["empty"]:
        raise XapiError("VBD_IS_EMPTY", vbd)
    call.db.update("VBD", vbd, empty=True, VDI=NULL)
    refresh(call.db, vbd)


@method("VBD.insert")
def insert(call: "Call", vbd: str, vdi: str) -> None:
    row = call.db.row("VBD", vbd)
    call.db.row("VDI", vdi)
    if row["type"] != "CD":
        raise XapiError("VBD_NOT_REMOVABLE_MEDIA", vbd)
    if not row["empty"]:
        raise XapiError("VBD_NOT_EMPTY", vbd)
    call.db.update("VBD", vbd, empty=False, VDI=vdi)
    refresh(call.db, vbd)


@method("VBD.plug", "VBD.unplug")
def plug(call: "Call", vbd: str) -> None:
    """Attach to or detach from a running VM."""
    row = call.db.row("VBD", vbd)
    state = call.db.row("VM", row["VM"])["power_state"]
    if state != "Running":
        raise XapiError("VM_BAD_POWER_STATE", row["VM"], "running", state.lower())
    attach = call.method == "VBD.plug"
    if attach == row["currently_attached"]:
        raise XapiError("DEVICE_ALREADY_ATTACHED" if attach else "DEVICE_ALREADY_DETACHED", vbd)
    set_attached(call, vbd, attach)


def set_attached(call: "Call", vbd: str, attached: bool) -> None:
    """Mark a VBD attached or not, and let the storage manager know whether a guest writes to the disk."""
    row = call.db.row("VBD", vbd)
    call.db.set("VBD", vbd, "currently_attached", attached)
    if not row["empty"]:
        call.sim.storage.manager.attached(row["VDI"], attached and row["mode"] == "RW")
        if call.db.exists("VDI", row["VDI"]):
            call.sim.storage.refresh("VDI", row["VDI"])
    refresh(call.db, vbd)


@method("VBD.set_mode")
def set_mode(call: "Call", vbd: str, value: str) -> None:
    call.db.set("VBD", vbd, "mode", value)
