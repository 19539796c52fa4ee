"""Storage repositories (xapi: ocaml/xapi/xapi_sr.ml)."""

from typing import TYPE_CHECKING, Any, Dict, Generator, List

from ..errors import XapiError, internal_error
from ..registry import method
from ..sr_types import NEEDED_CONFIG, SR_TYPES
from ..storage_manager import failure

if TYPE_CHECKING:
    from ..call import Call

Steps = Generator[Any, Any, Any]
DEFAULT_SR_SIZE = 1 << 40


def _record(
    call: "Call", name: str, description: str, kind: str, content: str, shared: bool, config: Dict[str, str]
) -> str:
    fields: Dict[str, Any] = {
        "name_label": name,
        "name_description": description,
        "type": kind,
        "content_type": content,
        "shared": shared,
        "sm_config": config,
        # It has not been scanned yet.
        "other_config": {"dirty": ""},
    }
    return call.db.create("SR", fields)


@method("SR.create")
def create(
    call: "Call",
    host: str,
    device_config: Dict[str, str],
    physical_size: int,
    name: str,
    description: str,
    kind: str,
    content: str,
    shared: bool,
    sm_config: Dict[str, str],
) -> Steps:
    """An SR with a plugged PBD on the host, or on every host if it is shared.

    `physical_size` is the size of the SR; 0 stands for 1 TiB.
    """
    call.db.row("host", host)
    if kind not in SR_TYPES:
        raise internal_error('Unix.Unix_error(Unix.ENOENT, "connect", "")')
    needed = NEEDED_CONFIG.get(kind)
    if needed is not None and needed not in device_config:
        raise failure(94, "The request is missing the %s parameter" % needed)
    yield call.sim.draw("sr_create")
    sr = _record(call, name, description, kind, content, shared, sm_config)
    call.db.set("SR", sr, "physical_size", physical_size or DEFAULT_SR_SIZE)
    hosts = list(call.db.tables["host"].rows) if shared else [host]
    for each in hosts:
        fields = {"host": each, "SR": sr, "device_config": device_config, "currently_attached": True}
        call.db.create("PBD", fields)
        # xapi plugs PBDs by calls of its own, whose tasks stay.
        task = call.sim.dispatcher.new_task("Async.PBD.plug", call.session, call.task)
        call.sim.dispatcher.finish_task(task, None, None)
    call.sim.storage.manager.create_repository(sr, physical_size or DEFAULT_SR_SIZE, device_config)
    call.sim.storage.refresh("SR", sr)
    return sr


@method("SR.introduce")
def introduce(
    call: "Call",
    uuid: str,
    name: str,
    description: str,
    kind: str,
    content: str,
    shared: bool,
    sm_config: Dict[str, str],
) -> str:
    """An SR record without PBDs."""
    sr = _record(call, name, description, kind, content, shared, sm_config)
    if uuid:
        call.db.set("SR", sr, "uuid", uuid)
    call.db.set("SR", sr, "physical_size", DEFAULT_SR_SIZE)
    call.sim.storage.refresh("SR", sr)
    return sr


def _remove(call: "Call", sr: str) -> None:
    for vdi in call.db.get("SR", sr, "VDIs"):
        call.db.delete("VDI", vdi)
    call.sim.upkeep.dangling = True
    call.db.delete("SR", sr)


@method("SR.forget")
def forget(call: "Call", sr: str) -> None:
    """Remove the records of the SR and its disks; VBDs keep dangling references to them."""
    _check_unplugged(call, sr)
    _remove(call, sr)


@method("SR.destroy")
def destroy(call: "Call", sr: str) -> None:
    _check_unplugged(call, sr)
    if not call.db.get("SR", sr, "PBDs"):
        # No host could remove its content (xapi: xapi_sr_operations.ml).
        raise XapiError("SR_HAS_NO_PBDS", sr)
    if any(call.db.row("VDI", vdi)["managed"] for vdi in call.db.get("SR", sr, "VDIs")):
        raise XapiError("SR_NOT_EMPTY")
    call.sim.storage.manager.repositories.pop(call.db.row("SR", sr)["uuid"], None)
    _remove(call, sr)


def _check_unplugged(call: "Call", sr: str) -> None:
    call.db.row("SR", sr)
    if any(call.db.row("PBD", pbd)["currently_attached"] for pbd in call.db.get("SR", sr, "PBDs")):
        raise XapiError("SR_HAS_PBD", sr)


@method("SR.scan")
def scan(call: "Call", sr: str) -> Steps:
    """Update the sizes in the records, and start the garbage collector."""
    call.db.row("SR", sr)

    def work() -> Steps:
        return call.sim.storage.manager.scan(sr)

    yield from call.sim.storage.operation(call, sr, "scan", None, work)


@method("SR.update")
def update(call: "Call", sr: str) -> None:
    call.db.row("SR", sr)
    call.sim.storage.manager.show_sizes(sr)


@method("SR.set_name_label", "SR.set_name_description", "SR.set_shared", "SR.set_physical_size")
def set_field(call: "Call", sr: str, value: Any) -> None:
    call.db.set("SR", sr, call.method[len("SR.set_") :], value)


@method("SR.get_supported_types")
def get_supported_types(call: "Call") -> List[str]:
    return [row["type"] for row in call.db.tables["SM"].rows.values()]
