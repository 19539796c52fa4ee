"""The connections of hosts to SRs (xapi: ocaml/xapi/xapi_pbd.ml)."""

from typing import TYPE_CHECKING, Any, Dict, Generator

from ..errors import XapiError
from ..registry import method

if TYPE_CHECKING:
    from ..dispatch import Call

Steps = Generator[Any, Any, Any]


@method("PBD.create")
def create(call: "Call", fields: Dict[str, Any]) -> str:
    call.db.row("SR", fields["SR"])
    call.db.row("host", fields["host"])
    for pbd in call.db.pointing_at("PBD", "SR", fields["SR"]):
        if call.db.row("PBD", pbd)["host"] == fields["host"]:
            raise XapiError("PBD_EXISTS", fields["SR"], fields["host"], pbd)
    return call.db.create("PBD", fields)


@method("PBD.destroy")
def destroy(call: "Call", pbd: str) -> None:
    if call.db.row("PBD", pbd)["currently_attached"]:
        raise XapiError("OPERATION_NOT_ALLOWED", "Cannot destroy PBD which is currently attached")
    call.db.delete("PBD", pbd)


@method("PBD.plug")
def plug(call: "Call", pbd: str) -> Steps:
    if not call.db.row("PBD", pbd)["currently_attached"]:
        yield call.sim.draw("pbd_plug")
        call.db.set("PBD", pbd, "currently_attached", True)
        call.sim.storage.manager.collector.kick(call.db.row("PBD", pbd)["SR"])


@method("PBD.unplug")
def unplug(call: "Call", pbd: str) -> Steps:
    row = call.db.row("PBD", pbd)
    for vdi in call.db.get("SR", row["SR"], "VDIs"):
        for vbd in call.db.pointing_at("VBD", "VDI", vdi):
            fields = call.db.row("VBD", vbd)
            if fields["currently_attached"] and call.db.row("VM", fields["VM"])["resident_on"] == row["host"]:
                raise XapiError("VDI_IN_USE", vdi, "unplug")
    if row["currently_attached"]:
        yield call.sim.draw("pbd_plug")
        call.db.set("PBD", pbd, "currently_attached", False)


@method("PBD.set_device_config")
def set_device_config(call: "Call", pbd: str, value: Dict[str, str]) -> None:
    call.db.set("PBD", pbd, "device_config", value)
