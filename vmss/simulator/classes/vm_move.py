"""VMs that reboot, move to another host, or are copied in full (xapi: ocaml/xapi/xapi_vm.ml, xapi_vm_migrate.ml)."""

from typing import TYPE_CHECKING, Any, Dict, Generator, List

from ..errors import XapiError
from ..registry import method
from ..values import NULL
from ..vm_operations import at_once, hosts_seeing, run
from .vm import announce, load_memory, on_host
from .vm_copy import clone_fields, copy_memory, destroy_disks, finish_copy

if TYPE_CHECKING:
    from ..call import Call

Steps = Generator[Any, Any, Any]


@method("VM.clean_reboot", "VM.hard_reboot")
def reboot(call: "Call", vm: str) -> Steps:
    operation = call.method[3:]

    def work() -> Steps:
        yield call.sim.draw("vm_reboot")

    yield from run(call, vm, operation, work)
    how = " forcibly" if operation == "hard_reboot" else ""
    announce(call, vm, "VM_REBOOTED", on_host(call, vm, "rebooted%s" % how))


@method("VM.resume_on")
def resume_on(call: "Call", vm: str, host: str, start_paused: bool, force: bool) -> Steps:
    def work() -> Steps:
        _check_host(call, vm, host)
        yield from load_memory(call, vm, host)
        if start_paused:
            call.db.set("VM", vm, "power_state", "Paused")

    yield from run(call, vm, "resume_on", work)
    announce(call, vm, "VM_RESUMED", on_host(call, vm, "resumed"))


@method("VM.pool_migrate")
def pool_migrate(call: "Call", vm: str, host: str, options: Dict[str, str]) -> Steps:
    def work() -> Steps:
        _check_host(call, vm, host)
        yield call.sim.draw("vm_migrate")
        call.db.set("VM", vm, "resident_on", host)
        call.sim.hosts.forget_domains(host)

    source = call.db.row("VM", vm)["resident_on"]
    yield from run(call, vm, "pool_migrate", work)
    name = call.db.row("VM", vm)["name_label"]
    hosts = [call.db.row("host", ref) for ref in (source, host)]
    texts = (name, hosts[0]["name_label"], hosts[0]["uuid"], hosts[1]["name_label"], hosts[1]["uuid"])
    announce(call, vm, "VM_MIGRATED", "VM '%s' migrated from '%s' (uuid: %s) to '%s' (uuid: %s)" % texts)


def _check_host(call: "Call", vm: str, host: str) -> None:
    call.sim.hosts.reach(host)
    if host not in hosts_seeing(call.sim, vm):
        raise XapiError("VM_REQUIRES_SR", vm, NULL)


@method("VM.copy")
def copy(call: "Call", vm: str, name: str, sr: str) -> Steps:
    """Copy a VM with independent disks: on the given SR, or each on the SR of the original."""

    def target(disk: str) -> str:
        return str(sr if sr not in ("", NULL) else call.db.row("VDI", disk)["SR"])

    def work() -> Steps:
        hosts_seeing(call.sim, vm)
        vbds = call.db.pointing_at("VBD", "VM", vm)
        disks: Dict[str, str] = {}
        try:
            for vbd in vbds:
                row = call.db.row("VBD", vbd)
                if row["type"] == "Disk" and not row["empty"]:
                    call.check_cancelled()
                    arguments: List[Any] = [row["VDI"], target(row["VDI"]), NULL, NULL]
                    disks[vbd] = yield from call.sim.dispatcher.subtask(call, "VDI.copy", *arguments)
        except XapiError:
            yield from destroy_disks(call, list(disks.values()))
            raise
        copy = yield from finish_copy(call, vm, name, clone_fields(call, vm), disks, vbds, [])
        image = call.db.row("VM", vm)["suspend_VDI"]
        if call.db.exists("VDI", image):
            yield from copy_memory(call, vm, copy, list(disks.values()), "VDI.copy", target(image), NULL, NULL)
        return copy

    return (yield from run(call, vm, "copy", work))


@method("VM.provision")
def provision(call: "Call", vm: str) -> Steps:
    """Turn a clone of a template into a VM. Disks that the template describes are not supported here."""

    def change() -> None:
        if "disks" in call.db.row("VM", vm)["other_config"]:
            raise XapiError("NOT_IMPLEMENTED", "VM.provision of a template that describes disks")
        call.db.set("VM", vm, "is_a_template", False)

    yield from run(call, vm, "provision", at_once(change))


@method("VM.assert_can_boot_here")
def assert_can_boot_here(call: "Call", vm: str, host: str) -> None:
    call.db.row("VM", vm)
    call.sim.hosts.reach(host)
    if not call.db.row("host", host)["enabled"]:
        raise XapiError("HOST_DISABLED", host)
    if host not in hosts_seeing(call.sim, vm):
        raise XapiError("VM_REQUIRES_SR", vm, NULL)


@method("VM.get_allowed_VIF_devices")
def get_allowed_vif_devices(call: "Call", vm: str) -> List[str]:
    call.db.row("VM", vm)
    return [str(number) for number in range(7)]


@method("VM.get_boot_record")
def get_boot_record(call: "Call", vm: str) -> Dict[str, Any]:
    return call.db.record("VM", vm)


@method("VM.maximise_memory")
def maximise_memory(call: "Call", vm: str, total: int, approximate: bool) -> int:
    return max(0, total - int(call.db.row("VM", vm)["memory_overhead"]))


@method("VM.get_cooperative")
def get_cooperative(call: "Call", vm: str) -> bool:
    call.db.row("VM", vm)
    return True


@method("VM.assert_agile")
def assert_agile(call: "Call", vm: str) -> None:
    """Raise unless any host could run the VM, that is, unless all its SRs are shared."""
    for vbd in call.db.pointing_at("VBD", "VM", vm):
        disk = call.db.tables["VDI"].rows.get(call.db.row("VBD", vbd)["VDI"])
        if disk is not None and not call.db.row("SR", disk["SR"])["shared"]:
            raise XapiError("HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED", disk["SR"])
