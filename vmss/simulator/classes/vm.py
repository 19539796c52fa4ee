"""VMs: creation, power states, destruction, schedules (xapi: ocaml/xapi/xapi_vm.ml).

The other operations are in vm_copy.py, vm_revert.py, vm_move.py and vm_config.py.
"""

from typing import TYPE_CHECKING, Any, Dict, Generator, List

from ..errors import XapiError
from ..kernel import Sleep
from ..licence import require_feature, the_pool
from ..registry import method
from ..storage_manager import is_full
from ..values import EPOCH, NULL, from_seconds
from ..vm_operations import at_once, check_disks, check_operation, hosts_seeing, refresh, run
from . import vbd as vbds

if TYPE_CHECKING:
    from ..call import Call

Steps = Generator[Any, Any, Any]
MIB = 1024 * 1024

# The report of the guest tools, which every started guest here has.
GUEST_FEATURES = {"feature-suspend": "1", "feature-shutdown": "1", "feature-reboot": "1", "feature-vcpu-hotplug": "1"}


def memory_overhead(fields: Dict[str, Any]) -> int:
    """The memory overhead of a guest (xapi: ocaml/xapi/memory.ml)."""
    if fields["domain_type"] == "pv":
        return MIB
    pages = 256 * int(fields["VCPUs_max"]) + 2 * (int(fields["memory_static_max"]) // MIB)
    shadow = -(-int(pages * 4096 * float(fields["HVM_shadow_multiplier"])) // MIB)
    return (shadow + 3) * MIB


@method("VM.create")
def create(call: "Call", fields: Dict[str, Any]) -> str:
    if fields["power_state"] not in ("Halted", "Suspended"):
        raise XapiError("VM_BAD_POWER_STATE", NULL, "halted, suspended", fields["power_state"].lower())
    if fields["domain_type"] == "unspecified":
        fields["domain_type"] = "hvm" if fields["HVM_boot_policy"] else "pv"
    other_config = fields["other_config"]
    if "mac_seed" not in other_config:
        fields["other_config"] = {**other_config, "mac_seed": call.db.new_uuid()}
    fields.update(
        memory_overhead=memory_overhead(fields),
        metrics=call.db.create("VM_metrics", {"last_updated": EPOCH, "start_time": EPOCH, "install_time": EPOCH}),
        domid=-1,
        # The vendor device needs the second version of the virtual hardware.
        hardware_platform_version=max(fields["hardware_platform_version"], 2 if fields["has_vendor_device"] else 0),
        is_vmss_snapshot=False,
        snapshot_schedule=NULL,
    )
    vm = call.db.create("VM", fields)
    refresh(call.db, vm)
    return vm


# --- power ---


def announce(call: "Call", vm: str, name: str, text: str) -> None:
    """The message that the coordinator raises after an operation on a VM."""
    if call.db.exists("VM", vm):
        call.sim.messages.create(name, 5, "VM", call.db.row("VM", vm)["uuid"], text)


def on_host(call: "Call", vm: str, word: str) -> str:
    """The text of a message about an operation on a VM, with its host."""
    host = call.db.row("host", call.db.row("VM", vm)["resident_on"])
    name = call.db.row("VM", vm)["name_label"]
    return "VM '%s' %s on host: %s (uuid: %s)" % (name, word, host["name_label"], host["uuid"])


def _choose_host(call: "Call", vm: str) -> str:
    hosts = [host for host in hosts_seeing(call.sim, vm) if call.db.row("host", host)["enabled"]]
    if not hosts:
        raise XapiError("NO_HOSTS_AVAILABLE")
    affinity = call.db.row("VM", vm)["affinity"]
    return affinity if affinity in hosts else call.sim.random.choice(hosts)


def power_on(call: "Call", vm: str, host: str, power_state: str) -> None:
    """Update the records of a VM that starts to run on a host."""
    guest = {
        "PV_drivers_detected": True,
        "PV_drivers_up_to_date": True,
        "live": True,
        "other": GUEST_FEATURES,
        "last_updated": from_seconds(call.sim.kernel.now()),
    }
    call.db.update(
        "VM",
        vm,
        power_state=power_state,
        resident_on=host,
        domid=call.sim.hosts.new_domain(host),
        domarch="x64",
        guest_metrics=call.db.create("VM_guest_metrics", guest),
    )
    call.db.set("VM_metrics", call.db.row("VM", vm)["metrics"], "start_time", from_seconds(call.sim.kernel.now()))
    for vbd in call.db.pointing_at("VBD", "VM", vm):
        vbds.set_attached(call, vbd, True)
    refresh(call.db, vm)


def power_off(call: "Call", vm: str, power_state: str) -> None:
    """Update the records of a VM that has stopped."""
    row = call.db.row("VM", vm)
    metrics = row["guest_metrics"]
    call.db.update("VM", vm, power_state=power_state, resident_on=NULL, domid=-1, domarch="", guest_metrics=NULL)
    if call.db.exists("VM_guest_metrics", metrics):
        call.db.delete("VM_guest_metrics", metrics)
    for vbd in call.db.pointing_at("VBD", "VM", vm):
        vbds.set_attached(call, vbd, False)
    refresh(call.db, vm)


@method("VM.start")
def start(call: "Call", vm: str, start_paused: bool, force: bool) -> Steps:
    def work() -> Steps:
        host = _choose_host(call, vm)
        yield call.sim.draw("vm_start")
        power_on(call, vm, host, "Paused" if start_paused else "Running")

    yield from run(call, vm, "start", work)
    announce(call, vm, "VM_STARTED", on_host(call, vm, "started"))


@method("VM.start_on")
def start_on(call: "Call", vm: str, host: str, start_paused: bool, force: bool) -> Steps:
    call.db.row("host", host)

    def work() -> Steps:
        if host not in hosts_seeing(call.sim, vm):
            raise XapiError("NO_HOSTS_AVAILABLE")
        yield call.sim.draw("vm_start")
        power_on(call, vm, host, "Paused" if start_paused else "Running")

    yield from run(call, vm, "start_on", work)
    announce(call, vm, "VM_STARTED", on_host(call, vm, "started"))


def _reach_guest(call: "Call", vm: str) -> None:
    """Raise if the host of a running guest, which carries out operations on it, cannot be reached."""
    row = call.db.row("VM", vm)
    if row["power_state"] in ("Running", "Paused"):
        call.sim.hosts.reach(row["resident_on"])


@method("VM.pause", "VM.unpause")
def pause(call: "Call", vm: str) -> Steps:
    operation = call.method[3:]

    def work() -> Steps:
        _reach_guest(call, vm)
        yield Sleep(0.1)
        call.db.set("VM", vm, "power_state", "Paused" if operation == "pause" else "Running")

    yield from run(call, vm, operation, work)


@method("VM.clean_shutdown", "VM.shutdown")
def clean_shutdown(call: "Call", vm: str) -> Steps:
    def work() -> Steps:
        _reach_guest(call, vm)
        yield call.sim.draw("vm_shutdown")
        power_off(call, vm, "Halted")

    yield from run(call, vm, "clean_shutdown", work)
    announce(call, vm, "VM_SHUTDOWN", "VM '%s' shutdown" % call.db.row("VM", vm)["name_label"])


@method("VM.hard_shutdown")
def hard_shutdown(call: "Call", vm: str) -> Steps:
    """Also drops the memory image of a suspended VM, or of a suspended snapshot."""

    def work() -> Steps:
        _reach_guest(call, vm)
        row = call.db.row("VM", vm)
        suspended = row["power_state"] == "Suspended"
        image = row["suspend_VDI"]
        yield call.sim.draw("vm_hard_shutdown")
        if suspended and call.db.exists("VDI", image):
            yield from call.sim.dispatcher.subtask(call, "VDI.destroy", image)
        call.db.set("VM", vm, "suspend_VDI", NULL)
        power_off(call, vm, "Halted")

    yield from run(call, vm, "hard_shutdown", work)
    if not call.db.row("VM", vm)["is_a_snapshot"]:
        announce(call, vm, "VM_SHUTDOWN", "VM '%s' shutdown forcibly" % call.db.row("VM", vm)["name_label"])


@method("VM.power_state_reset")
def power_state_reset(call: "Call", vm: str) -> None:
    if call.db.row("VM", vm)["is_control_domain"]:
        raise XapiError("OPERATION_NOT_ALLOWED", "This operation is not allowed on a control domain")
    call.db.set("VM", vm, "current_operations", {})
    power_off(call, vm, "Halted")


def suspend_sr(call: "Call", vm: str) -> str:
    """The SR for the memory image of a running VM: the first of its own, the pool's and the host's that is attached to
    its host (xapi: ocaml/xapi/helpers.ml, choose_suspend_sr)."""
    row = call.db.row("VM", vm)
    host = call.db.row("host", row["resident_on"])
    pbds = (call.db.row("PBD", pbd) for pbd in call.db.pointing_at("PBD", "host", row["resident_on"]))
    attached = {pbd["SR"] for pbd in pbds if pbd["currently_attached"]}
    pool = call.db.row("pool", the_pool(call.sim))
    for sr in (row["suspend_SR"], pool["suspend_image_SR"], host["suspend_image_sr"]):
        if sr in attached:
            return str(sr)
    raise XapiError("VM_NO_SUSPEND_SR", vm)


def save_memory(call: "Call", vm: str) -> Steps:
    """Suspend a running VM: write its memory to a new suspend VDI. The VM has it at once, so that a VM that still runs
    has one where xapi ends meanwhile (xapi: ocaml/xapi/xapi_xenops.ml, suspend)."""
    row = call.db.row("VM", vm)
    size, sr = row["memory_dynamic_max"], suspend_sr(call, vm)
    fields = {
        "name_label": "Suspend image",
        "name_description": "Suspend image",
        "SR": sr,
        "virtual_size": size + 8 * MIB,
        "type": "suspend",
        "other_config": {},
        "sm_config": {},
    }
    try:
        image = yield from call.sim.dispatcher.subtask(call, "VDI.create", fields)
    except XapiError as error:
        # The VM runs on (xapi: ocaml/xapi/xapi_xenops.ml, suspend; pull requests 6838 and 6882).
        raise XapiError("SR_SUSPEND_SPACE_INSUFFICIENT", sr) if is_full(error) else error
    call.db.set("VM", vm, "suspend_VDI", image)
    yield Sleep(size / call.sim.durations.memory_bytes_per_second)
    call.sim.storage.manager.write(image, size)
    power_off(call, vm, "Suspended")


def load_memory(call: "Call", vm: str, host: str) -> Steps:
    """Resume a suspended VM, and destroy its suspend VDI."""
    row = call.db.row("VM", vm)
    image = row["suspend_VDI"]
    yield Sleep(row["memory_dynamic_max"] / call.sim.durations.memory_bytes_per_second)
    power_on(call, vm, host, "Running")
    call.db.set("VM", vm, "suspend_VDI", NULL)
    if call.db.exists("VDI", image):
        yield from call.sim.dispatcher.subtask(call, "VDI.destroy", image)


@method("VM.suspend")
def suspend(call: "Call", vm: str) -> Steps:
    def work() -> Steps:
        _reach_guest(call, vm)
        yield from save_memory(call, vm)

    yield from run(call, vm, "suspend", work)
    announce(call, vm, "VM_SUSPENDED", "VM '%s' suspended" % call.db.row("VM", vm)["name_label"])


@method("VM.resume")
def resume(call: "Call", vm: str, start_paused: bool, force: bool) -> Steps:
    def work() -> Steps:
        yield from load_memory(call, vm, _choose_host(call, vm))
        if start_paused:
            call.db.set("VM", vm, "power_state", "Paused")

    yield from run(call, vm, "resume", work)
    announce(call, vm, "VM_RESUMED", on_host(call, vm, "resumed"))


# --- destruction ---


def remove(call: "Call", vm: str) -> None:
    """Delete the records of a VM, never a disk; its children get its parent."""
    db = call.db
    row = db.row("VM", vm)
    for child in db.pointing_at("VM", "parent", vm):
        db.set("VM", child, "parent", row["parent"])
    for vbd in db.pointing_at("VBD", "VM", vm):
        db.delete("VBD", vbd)
    for cls, ref in (("VM_metrics", row["metrics"]), ("VM_guest_metrics", row["guest_metrics"])):
        if db.exists(cls, ref):
            db.delete(cls, ref)
    db.delete("VM", vm)


@method("VM.destroy")
def destroy(call: "Call", vm: str) -> Steps:
    def change() -> None:
        if call.db.row("VM", vm)["is_default_template"]:
            raise XapiError("VM_CANNOT_DELETE_DEFAULT_TEMPLATE")
        remove(call, vm)

    yield from run(call, vm, "destroy", at_once(change))


# --- queries ---


@method("VM.assert_operation_valid")
def assert_operation_valid(call: "Call", vm: str, operation: str) -> None:
    check_operation(call.db, vm, operation)


@method("VM.update_allowed_operations")
def update_allowed_operations(call: "Call", vm: str) -> None:
    refresh(call.db, vm)


@method("VM.get_allowed_VBD_devices")
def get_allowed_vbd_devices(call: "Call", vm: str) -> List[str]:
    call.db.row("VM", vm)
    used = set(vbds.used_devices(call.db, vm))
    return [str(number) for number in range(vbds.DEVICES_MAX) if str(number) not in used]


@method("VM.get_possible_hosts")
def get_possible_hosts(call: "Call", vm: str) -> List[str]:
    call.db.row("VM", vm)
    return hosts_seeing(call.sim, vm)


@method("VM.compute_memory_overhead")
def compute_memory_overhead(call: "Call", vm: str) -> int:
    return memory_overhead(call.db.row("VM", vm))


# --- setters ---


@method("VM.set_snapshot_schedule")
def set_snapshot_schedule(call: "Call", vm: str, policy: str) -> None:
    """Put a VM under a policy, or under none; an empty reference is kept as it is (xapi: ocaml/xapi/xapi_vm.ml,
    xapi_vmss.ml)."""
    require_feature(call.sim, "VMSS")
    unassign = policy in ("", NULL)
    if not unassign and not call.db.exists("VMSS", policy):
        raise XapiError("INVALID_VALUE", policy)
    row = call.db.row("VM", vm)
    if not unassign:
        if row["is_control_domain"]:
            raise XapiError("INVALID_VALUE", policy)
        if row["is_a_template"]:
            raise XapiError("VM_IS_TEMPLATE", vm)
        if call.db.row("VMSS", policy)["type"] == "snapshot_with_quiesce":
            check_quiesce(call, vm)
    call.db.set("VM", vm, "snapshot_schedule", policy)
    refresh(call.db, vm)


def check_quiesce(call: "Call", vm: str) -> None:
    """Raise: quiesced snapshots were removed from xapi."""
    require_feature(call.sim, "VSS")
    check_disks(call.db, vm)
    raise XapiError("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", vm)


@method("VM.set_is_a_template")
def set_is_a_template(call: "Call", vm: str, value: bool) -> None:
    schedule = call.db.row("VM", vm)["snapshot_schedule"]
    if value and schedule not in ("", NULL):
        raise XapiError("VM_ASSIGNED_TO_SNAPSHOT_SCHEDULE", vm, schedule)
    call.db.set("VM", vm, "is_a_template", value)
    refresh(call.db, vm)
