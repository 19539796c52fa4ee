"""Disks (xapi: ocaml/xapi/xapi_vdi.ml); what happens below their records is in storage_manager.py."""

from typing import TYPE_CHECKING, Any, Dict, Generator

from ..errors import XapiError
from ..registry import method

if TYPE_CHECKING:
    from ..dispatch import Call

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
    """A record for an image that is on the SR already: here only files of an ISO SR can be."""
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


@method("VDI.destroy")
def destroy(call: "Call", vdi: str) -> Steps:
    sr = call.db.row("VDI", vdi)["SR"]

    def work() -> Steps:
        return call.sim.storage.manager.destroy(vdi)

    yield from call.sim.storage.operation(call, sr, "vdi_destroy", vdi, work)


@method("VDI.resize")
def resize(call: "Call", vdi: str, size: int) -> Steps:
    sr = call.db.row("VDI", vdi)["SR"]

    def work() -> Steps:
        return call.sim.storage.manager.resize(vdi, size)

    yield from call.sim.storage.operation(call, sr, "vdi_resize", vdi, work)


@method(
    "VDI.set_name_label",
    "VDI.set_name_description",
    "VDI.set_sharable",
    "VDI.set_read_only",
    "VDI.set_on_boot",
    "VDI.set_allow_caching",
)
def set_field(call: "Call", vdi: str, value: Any) -> None:
    call.db.set("VDI", vdi, call.method[len("VDI.set_") :], value)
