"""Disks (xapi: ocaml/xapi/xapi_vdi.ml); what happens below their records is in storage_manager.py."""

from typing import TYPE_CHECKING, Any, Dict, Generator

from ..errors import XapiError
from ..kernel import Sleep
from ..registry import method
from ..values import NULL

if TYPE_CHECKING:
    from ..call import Call

Steps = Generator[Any, Any, Any]


@method("VDI.create")
def create(call: "Call", fields: Dict[str, Any]) -> Steps:
    sr = fields["SR"]
    call.db.row("SR", sr)

    def work() -> Steps:
        return call.sim.storage.manager.create(sr, fields)

    return (yield from call.sim.storage.operation(call, sr, "vdi_create", None, work))


@method("VDI.introduce")
def introduce(
    call: "Call",
    uuid: str,
    name: str,
    description: str,
    sr: str,
    kind: str,
    sharable: bool,
    read_only: bool,
    other_config: Dict[str, str],
    location: str,
    xenstore_data: Dict[str, str],
    sm_config: Dict[str, str],
    managed: bool,
    virtual_size: int,
    *rest: Any,
) -> str:
    """Create a record for an image that exists on the SR; here only files of an ISO SR can."""
    if call.db.row("SR", sr)["type"] != "iso":
        raise XapiError("SR_OPERATION_NOT_SUPPORTED", sr)
    fields: Dict[str, Any] = {
        "uuid": uuid or call.db.new_uuid(),
        "name_label": name,
        "name_description": description,
        "SR": sr,
        "type": kind,
        "sharable": sharable,
        "read_only": True,
        "other_config": other_config,
        "location": location,
        "xenstore_data": xenstore_data,
        "sm_config": sm_config,
        "managed": managed,
        "virtual_size": virtual_size,
        "physical_utilisation": virtual_size,
    }
    images = call.sim.storage.manager.repository(sr)
    if location not in images.images:
        images.add(location, virtual_size)
    vdi = call.db.create("VDI", fields)
    call.sim.storage.refresh("VDI", vdi)
    return vdi


@method("VDI.snapshot", "VDI.clone")
def snapshot(call: "Call", vdi: str, driver_params: Dict[str, str]) -> Steps:
    sr = call.db.row("VDI", vdi)["SR"]
    is_snapshot = call.method == "VDI.snapshot"

    def work() -> Steps:
        return call.sim.storage.manager.snapshot(vdi, is_snapshot)

    operation = "vdi_snapshot" if is_snapshot else "vdi_clone"
    return (yield from call.sim.storage.operation(call, sr, operation, vdi, work))


@method("VDI.revert")
def revert(call: "Call", snapshot: str) -> Steps:
    """Replace the contents of the disk that this one is a snapshot of, if the storage driver can."""
    row = call.db.row("VDI", snapshot)
    target = row["snapshot_of"]
    call.db.row("VDI", target)

    def work() -> Steps:
        return call.sim.storage.manager.revert(snapshot, target)

    yield from call.sim.storage.operation(call, row["SR"], "vdi_revert", target, work)


@method("VDI.destroy")
def destroy(call: "Call", vdi: str) -> Steps:
    sr = call.db.row("VDI", vdi)["SR"]

    def work() -> Steps:
        return call.sim.storage.manager.destroy(vdi)

    yield from call.sim.storage.operation(call, sr, "vdi_destroy", vdi, work)


@method("VDI.resize", "VDI.resize_online")
def resize(call: "Call", vdi: str, size: int) -> Steps:
    sr = call.db.row("VDI", vdi)["SR"]

    def work() -> Steps:
        return call.sim.storage.manager.resize(vdi, size)

    yield from call.sim.storage.operation(call, sr, "vdi_resize", vdi, work)


@method("VDI.copy")
def copy(call: "Call", vdi: str, sr: str, base: str, into: str) -> Steps:
    """Make an independent copy with all the data. It locks the target SR, and only marks the original disk."""
    call.db.row("VDI", vdi)
    target = into if into != NULL else None
    sr = call.db.row("VDI", target)["SR"] if target is not None else sr
    call.db.row("SR", sr)

    def work() -> Steps:
        return call.sim.storage.manager.copy(vdi, sr, target)

    return (yield from call.sim.storage.operation(call, sr, "vdi_create", None, work))


@method("VDI.forget")
def forget(call: "Call", vdi: str) -> Steps:
    """Remove the record and keep the image: a scan brings the record back."""
    sr = call.db.row("VDI", vdi)["SR"]

    def work() -> Steps:
        call.sim.storage.manager.forget(vdi)
        yield Sleep(0.0)

    yield from call.sim.storage.operation(call, sr, "vdi_forget", vdi, work)


@method("VDI.update")
def update(call: "Call", vdi: str) -> None:
    call.db.row("VDI", vdi)


@method("VDI.generate_config")
def generate_config(call: "Call", host: str, vdi: str) -> str:
    raise XapiError("SR_OPERATION_NOT_SUPPORTED", call.db.row("VDI", vdi)["SR"])


@method("VDI.enable_cbt", "VDI.disable_cbt")
def set_tracking(call: "Call", vdi: str) -> None:
    call.db.set("VDI", vdi, "cbt_enabled", call.method == "VDI.enable_cbt")


@method(
    "VDI.set_name_label",
    "VDI.set_name_description",
    "VDI.set_sharable",
    "VDI.set_read_only",
    "VDI.set_on_boot",
    "VDI.set_allow_caching",
    # The fields below belong to the storage manager, but xapi lets clients set them.
    "VDI.set_managed",
    "VDI.set_missing",
    "VDI.set_virtual_size",
    "VDI.set_physical_utilisation",
    "VDI.set_is_a_snapshot",
    "VDI.set_snapshot_of",
    "VDI.set_snapshot_time",
    "VDI.set_metadata_of_pool",
    "VDI.set_cbt_enabled",
)
def set_field(call: "Call", vdi: str, value: Any) -> None:
    call.db.set("VDI", vdi, call.method[len("VDI.set_") :], value)
