"""Which operations a VM allows: the checks in xapi's order, and the marks of running operations.

Source: xapi: ocaml/xapi/xapi_vm_lifecycle.ml.
"""

from typing import TYPE_CHECKING, Any, Callable, Dict, FrozenSet, Generator, Iterable, List, Set

from .errors import XapiError
from .kernel import Sleep
from .licence import is_upgrading
from .values import NULL
from .waiting import check_not_busy

if TYPE_CHECKING:
    from .call import Call
    from .database import Database
    from .simulator import Simulator
    from .table import Row

Steps = Generator[Any, Any, Any]

ANY = ("Halted", "Paused", "Suspended", "Running")

# Every operation that a client can see in allowed_operations, in xapi's order, with the power states that allow it.
POWER_STATES = {
    "create_vtpm": ("Halted",),
    "sysprep": ("Running",),
    "destroy": ("Halted", "Suspended"),
    "metadata_export": ANY,
    "export": ("Halted", "Suspended"),
    "revert": ANY,
    "make_into_template": ("Halted",),
    "changing_NVRAM": ("Halted",),
    "changing_shadow_memory": ("Halted",),
    "changing_static_range": ("Halted",),
    "changing_dynamic_range": ("Halted", "Running"),
    "migrate_send": ("Halted", "Suspended", "Running"),
    "pool_migrate": ("Running",),
    "changing_VCPUs_live": ("Running",),
    "suspend": ("Running",),
    "hard_reboot": ("Paused", "Running"),
    "hard_shutdown": ("Paused", "Suspended", "Running"),
    "clean_reboot": ("Running",),
    "clean_shutdown": ("Running",),
    "unpause": ("Paused",),
    "pause": ("Running",),
    "resume_on": ("Suspended",),
    "resume": ("Suspended",),
    "start_on": ("Halted",),
    "start": ("Halted",),
    "provision": ("Halted",),
    "copy": ("Halted", "Suspended"),
    "clone": ("Halted", "Suspended"),
    "checkpoint": ("Paused", "Suspended", "Running"),
    "snapshot": ANY,
}
# Operations that are in no allowed_operations.
_OTHER_POWER_STATES = {
    "awaiting_memory_live": ("Running",),
    "call_plugin": ("Running",),
    "changing_VCPUs": ("Halted",),
    "changing_memory_limits": ("Halted",),
    "changing_memory_live": ("Running",),
    "changing_shadow_memory_live": ("Running",),
    "create_template": ("Halted", "Suspended"),
    "csvm": ("Suspended",),
    "data_source_op": ("Running",),
    "get_boot_record": ("Paused", "Suspended", "Running"),
    "import": (),
    "send_sysrq": ("Running",),
    "send_trigger": ("Running",),
    "shutdown": ("Paused", "Suspended", "Running"),
    "snapshot_with_quiesce": ("Running",),
}
# Of these, only snapshots may be suspended, unless the pool says otherwise.
_CLONES = ("clone", "copy")
_CLONE_SUSPENDED_KEY = "allow_clone_suspended_vm"
_IN_STATE = {state: [name for name, states in POWER_STATES.items() if state in states] for state in ANY}
# In error texts the states are named in this order.
_STATE_ORDER = ("Halted", "Paused", "Suspended", "Running")

_ON_SNAPSHOT: FrozenSet[str] = frozenset(
    ["revert", "clone", "copy", "export", "destroy", "hard_shutdown", "metadata_export"]
)
_ON_TEMPLATE: FrozenSet[str] = frozenset(
    ["destroy", "metadata_export", "export", "changing_NVRAM", "changing_shadow_memory",
     "changing_static_range", "changing_dynamic_range", "migrate_send", "provision", "copy", "clone"]
)  # fmt: skip
_ON_DOM0: FrozenSet[str] = frozenset(["metadata_export", "changing_static_range", "changing_dynamic_range"])
_NEEDS_FEATURE = {
    "clean_shutdown": "feature-shutdown",
    "clean_reboot": "feature-reboot",
    "changing_VCPUs_live": "feature-vcpu-hotplug",
    "suspend": "feature-suspend",
    "checkpoint": "feature-suspend",
    "pool_migrate": "feature-suspend",
    "migrate_send": "feature-suspend",
}
_MOBILE = ("checkpoint", "suspend", "pool_migrate", "migrate_send")
_STORAGE_STATE = ("snapshot", "checkpoint", "suspend")
_TOGETHER = (
    frozenset(["clone", "copy", "export"]), frozenset(["snapshot", "checkpoint"]), frozenset(["get_boot_record"]),
)  # fmt: skip
_WHILE_MIGRATING: FrozenSet[str] = frozenset(["metadata_export", "clean_shutdown", "clean_reboot"])
# The operations that are allowed while the hosts of the pool are being upgraded (xapi: ocaml/xapi/xapi_globs.ml).
_DURING_UPGRADE: FrozenSet[str] = frozenset(
    ["assert_operation_valid", "changing_memory_live", "changing_shadow_memory_live", "changing_VCPUs_live",
     "clean_reboot", "clean_shutdown", "clone", "copy", "csvm", "destroy", "export", "get_boot_record",
     "hard_reboot", "hard_shutdown", "import", "make_into_template", "pause", "pool_migrate", "power_state_reset",
     "provision", "resume", "resume_on", "send_sysrq", "send_trigger", "start", "start_on", "suspend", "unpause",
     "update_allowed_operations"]
)  # fmt: skip


def check_operation(db: "Database", vm: str, operation: str) -> None:
    """Raise the error that forbids this operation on the VM now; the first reason wins."""
    row = db.row("VM", vm)
    if operation in row["blocked_operations"]:
        raise XapiError("OPERATION_BLOCKED", vm, row["blocked_operations"][operation])
    _check_power_state(db, vm, row, operation)
    running = _conflicts(row["current_operations"], operation)
    check_not_busy("VM", vm, running, {})
    _check_kind(vm, row, operation)
    if operation in _MOBILE and _is_immobile(row):
        raise XapiError("VM_IS_IMMOBILE", vm)
    if row["is_control_domain"] and operation not in _ON_DOM0:
        raise XapiError("OPERATION_NOT_ALLOWED", "This operation is not allowed on a control domain")
    _check_guest(db, vm, row, operation)
    if operation == "snapshot_with_quiesce":
        raise XapiError("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", vm)
    if operation in _STORAGE_STATE:
        check_disks(db, vm)
    if operation not in _DURING_UPGRADE and is_upgrading(db):
        raise XapiError("NOT_SUPPORTED_DURING_UPGRADE")


def _check_power_state(db: "Database", vm: str, row: "Row", operation: str) -> None:
    allowed = POWER_STATES.get(operation) or _OTHER_POWER_STATES.get(operation, ANY)
    if row["is_control_domain"] and operation in _ON_DOM0:
        return
    if operation in _CLONES and not (row["is_a_snapshot"] or _clones_suspended(db)):
        allowed = ("Halted",)
    if row["power_state"] not in allowed:
        names = ", ".join(state.lower() for state in _STATE_ORDER if state in allowed)
        raise XapiError("VM_BAD_POWER_STATE", vm, names, row["power_state"].lower())


def _clones_suspended(db: "Database") -> bool:
    return any(pool["other_config"].get(_CLONE_SUSPENDED_KEY) == "true" for pool in db.tables["pool"].rows.values())


def _conflicts(running: Dict[str, str], operation: str) -> Dict[str, str]:
    """The running operations that exclude this one."""
    if not running:
        return running
    names = set(running.values())
    if operation == "hard_shutdown" and operation not in names:
        return {}
    if operation == "hard_reboot" and not names & {"hard_shutdown", "hard_reboot"}:
        return {}
    if operation in _WHILE_MIGRATING and list(running.values()) == ["migrate_send"]:
        return {}
    for group in _TOGETHER:
        if operation in group and all(other in group for other in running.values()):
            return {}
    return running


def _check_kind(vm: str, row: "Row", operation: str) -> None:
    """Templates, snapshots and ordinary VMs each allow their own operations."""
    if row["is_a_snapshot"]:
        if operation not in _ON_SNAPSHOT:
            raise XapiError("VM_IS_SNAPSHOT", vm, operation)
    elif row["is_a_template"]:
        if operation not in _ON_TEMPLATE:
            raise XapiError("VM_IS_TEMPLATE", vm, operation)
    elif operation == "provision":
        raise XapiError("ONLY_PROVISION_TEMPLATE")
    elif operation == "revert":
        raise XapiError("ONLY_REVERT_SNAPSHOT")
    if operation == "make_into_template" and row["snapshot_schedule"] not in ("", "OpaqueRef:NULL"):
        raise XapiError("VM_ASSIGNED_TO_SNAPSHOT_SCHEDULE", vm, row["snapshot_schedule"])


def _is_immobile(row: "Row") -> bool:
    platform: Dict[str, str] = row["platform"]
    return any(platform.get(key, "").lower() in ("true", "1") for key in ("nomigrate", "nested-virt"))


def _check_guest(db: "Database", vm: str, row: "Row", operation: str) -> None:
    """Raise if a running guest lacks what the operation needs, as its tools report it."""
    feature = _NEEDS_FEATURE.get(operation)
    if feature is None or row["power_state"] != "Running" or row["is_control_domain"]:
        return
    metrics = db.tables["VM_guest_metrics"].rows.get(row["guest_metrics"])
    other = metrics["other"] if metrics is not None else {}
    if operation in _MOBILE and "data-cant-suspend-reason" in other:
        raise XapiError("VM_NON_SUSPENDABLE", vm, other["data-cant-suspend-reason"])
    has_drivers = metrics is not None and metrics["PV_drivers_detected"]
    if not has_drivers and feature not in other:
        raise XapiError("VM_LACKS_FEATURE", vm)


def check_disks(db: "Database", vm: str) -> None:
    """Raise if a disk is reset at each boot: its state cannot be kept."""
    for vbd in db.pointing_at("VBD", "VM", vm):
        disk = db.tables["VDI"].rows.get(db.row("VBD", vbd)["VDI"])
        if disk is not None and disk["sm_config"].get("on_boot") == "reset":
            raise XapiError("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")


def refresh(db: "Database", vm: str) -> None:
    """Recompute a VM's allowed_operations."""
    row = db.row("VM", vm)
    # What the state, a running operation or the kind of the VM forbids is left out first: an exception for each takes
    # most of the time.
    names: Iterable[str] = POWER_STATES if row["is_control_domain"] else _IN_STATE[row["power_state"]]
    if row["is_a_snapshot"]:
        names = [name for name in names if name in _ON_SNAPSHOT]
    running = row["current_operations"]
    if running:
        names = [name for name in names if not _conflicts(running, name)]
    db.set_list("VM", vm, "allowed_operations", [name for name in names if _is_allowed(db, vm, name)])


def _is_allowed(db: "Database", vm: str, operation: str) -> bool:
    try:
        check_operation(db, vm, operation)
    except XapiError:
        return False
    return True


def run(call: "Call", vm: str, operation: str, work: Callable[[], Steps]) -> Steps:
    """Wait until the operation is allowed, mark it, run `work`, and unmark it."""
    key = call.task_key

    def mark() -> None:
        check_operation(call.db, vm, operation)
        operations = call.db.row("VM", vm)["current_operations"]
        call.db.set("VM", vm, "current_operations", {**operations, key: operation})
        refresh(call.db, vm)

    yield from call.sim.waiting.until_free(call, mark)
    try:
        return (yield from work())
    finally:
        if call.db.exists("VM", vm):
            call.db.remove_from_map("VM", vm, "current_operations", key)
            refresh(call.db, vm)
        call.sim.waiting.released("VM", vm)


def at_once(change: Callable[[], Any]) -> Callable[[], Steps]:
    """An operation for `run` that takes no time."""

    def work() -> Steps:
        change()
        yield Sleep(0.0)

    return work


def hosts_seeing(sim: "Simulator", vm: str) -> List[str]:
    """The live hosts that see every SR of the VM's disks and CDs, and of its memory image if it is suspended;
    NO_HOSTS_AVAILABLE if there are none (xapi: ocaml/xapi/xapi_vm_helpers.ml)."""
    db = sim.db
    vbds = [db.row("VBD", vbd) for vbd in db.pointing_at("VBD", "VM", vm)]
    vdis = [row["VDI"] for row in vbds if not row["empty"]]
    machine = db.row("VM", vm)
    if machine["power_state"] == "Suspended" and machine["suspend_VDI"] != NULL:
        vdis.append(machine["suspend_VDI"])
    needed = set()
    for vdi in vdis:
        disk = db.tables["VDI"].rows.get(vdi)
        if disk is None:
            raise XapiError("NO_HOSTS_AVAILABLE")
        needed.add(disk["SR"])
    hosts = [host for host in db.tables["host"].rows if _sees(db, host, needed)]
    if not hosts:
        raise XapiError("NO_HOSTS_AVAILABLE")
    return hosts


def _sees(db: "Database", host: str, srs: Set[str]) -> bool:
    metrics = db.tables["host_metrics"].rows.get(db.row("host", host)["metrics"])
    if metrics is None or not metrics["live"]:
        return False
    pbds = (db.row("PBD", pbd) for pbd in db.pointing_at("PBD", "host", host))
    return srs <= {row["SR"] for row in pbds if row["currently_attached"]}
