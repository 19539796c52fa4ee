"""The connections of hosts to SRs (xapi: ocaml/xapi/xapi_pbd.ml)."""

from typing import TYPE_CHECKING, Any, Dict, Generator

from ..errors import XapiError
from ..registry import method

if TYPE_CHECKING:
    from ..call import Call

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
    """Attach an SR to a host; the coordinator also scans it."""
    row = call.db.row("PBD", pbd)
    host, sr = row["host"], row["SR"]
    call.sim.hosts.reach(host)
    if row["currently_attached"]:
        return
    is_coordinator = host == call.sim.hosts.coordinator

    def work() -> Steps:
        yield from _attach(call, pbd, True)
        # The master of an SR removes the marks of dead drivers (sm: libs/sm/resetvdis.py).
        if is_coordinator or not call.db.row("SR", sr)["shared"]:
            call.sim.storage.manager.reset_disks(sr)

    yield from call.sim.storage.operation(call, sr, "plug", None, work)
    if is_coordinator:
        yield from _scan(call, sr)


def _attach(call: "Call", pbd: str, attached: bool) -> Steps:
    """Attach or detach an SR; the result is recorded only if xapi has not died meanwhile."""
    call.db.row("PBD", pbd)
    life = call.sim.life
    yield call.sim.draw("pbd_plug")
    if call.sim.life == life:
        call.db.set("PBD", pbd, "currently_attached", attached)


def _scan(call: "Call", sr: str) -> Steps:
    """Scan the SR after it was attached; a failure raises an alert."""
    try:
        yield from call.sim.storage.operation(call, sr, "scan", None, lambda: call.sim.storage.manager.scan(sr))
    except XapiError as error:
        uuid = call.db.row("SR", sr)["uuid"]
        reason = error.details[2] if error.code.startswith("SR_BACKEND_FAILURE") else error.code
        text = "Failed to scan SR %s after attaching, error %s" % (uuid, reason)
        call.sim.messages.create("POST_ATTACH_SCAN_FAILED", 2, "SR", uuid, text)


@method("PBD.unplug")
def unplug(call: "Call", pbd: str) -> Steps:
    """Detach an SR, after the operations that run on it; refused if a VM of this host uses any of its disks."""
    row = call.db.row("PBD", pbd)
    call.sim.hosts.reach(row["host"])

    def work() -> Steps:
        used = [vdi for vdi in call.db.get("SR", row["SR"], "VDIs") if _is_used(call, vdi, row["host"])]
        if used:
            raise XapiError("VDI_IN_USE", *used)
        if row["currently_attached"]:
            yield from _attach(call, pbd, False)

    yield from call.sim.storage.operation(call, row["SR"], "unplug", None, work)


def _is_used(call: "Call", vdi: str, host: str) -> bool:
    vbds = (call.db.row("VBD", vbd) for vbd in call.db.pointing_at("VBD", "VDI", vdi))
    return any(vbd["currently_attached"] and call.db.row("VM", vbd["VM"])["resident_on"] == host for vbd in vbds)


@method("PBD.set_device_config")
def set_device_config(call: "Call", pbd: str, value: Dict[str, str]) -> None:
    call.db.set("PBD", pbd, "device_config", value)
