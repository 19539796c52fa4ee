"""The configuration of VMs: memory, processors and other fields with setters of their own (xapi: xapi_vm.ml)."""

from typing import TYPE_CHECKING, Any, Dict, Generator, List

from ..errors import XapiError
from ..registry import method
from ..values import NULL
from ..vm_operations import at_once, refresh, run

if TYPE_CHECKING:
    from ..call import Call

Steps = Generator[Any, Any, Any]
MIB = 1024 * 1024

# --- memory ---


def _set_memory(call: "Call", vm: str, operation: str, **limits: int) -> Steps:
    """Change memory limits, which must be in order, once no other operation runs on the VM."""

    def change() -> None:
        row = call.db.row("VM", vm)
        names = ("static_min", "dynamic_min", "dynamic_max", "static_max")
        wanted: List[int] = [limits[name] if name in limits else row["memory_" + name] for name in names]
        if not 0 <= wanted[0] <= wanted[1] <= wanted[2] <= wanted[3]:
            rule = "static_min ≤ dynamic_min ≤ dynamic_max ≤ static_max"
            raise XapiError("MEMORY_CONSTRAINT_VIOLATION", "Memory limits must satisfy: " + rule)
        for name, value in zip(names, wanted):
            call.db.set("VM", vm, "memory_" + name, value)

    yield from run(call, vm, operation, at_once(change))


@method("VM.set_memory_limits")
def set_memory_limits(
    call: "Call", vm: str, static_min: int, static_max: int, dynamic_min: int, dynamic_max: int
) -> Steps:
    yield from _set_memory(
        call, vm, "changing_static_range",
        static_min=static_min, static_max=static_max, dynamic_min=dynamic_min, dynamic_max=dynamic_max,
    )  # fmt: skip


@method("VM.set_memory_static_range")
def set_memory_static_range(call: "Call", vm: str, low: int, high: int) -> Steps:
    yield from _set_memory(call, vm, "changing_static_range", static_min=low, static_max=high)


@method("VM.set_memory_dynamic_range")
def set_memory_dynamic_range(call: "Call", vm: str, low: int, high: int) -> Steps:
    yield from _set_memory(call, vm, "changing_dynamic_range", dynamic_min=low, dynamic_max=high)


@method("VM.set_memory_static_min", "VM.set_memory_static_max")
def set_memory_static(call: "Call", vm: str, value: int) -> Steps:
    yield from _set_memory(call, vm, "changing_static_range", **{call.method[len("VM.set_memory_") :]: value})


@method("VM.set_memory_dynamic_min", "VM.set_memory_dynamic_max")
def set_memory_dynamic(call: "Call", vm: str, value: int) -> Steps:
    yield from _set_memory(call, vm, "changing_dynamic_range", **{call.method[len("VM.set_memory_") :]: value})


@method("VM.set_memory")
def set_memory(call: "Call", vm: str, value: int) -> Steps:
    limits = dict.fromkeys(("static_max", "dynamic_min", "dynamic_max"), value)
    yield from _set_memory(call, vm, "changing_static_range", **limits)


# --- processors ---


@method("VM.set_VCPUs_max", "VM.set_VCPUs_at_startup")
def set_vcpus(call: "Call", vm: str, count: int) -> None:
    row = call.db.row("VM", vm)
    most, start = row["VCPUs_max"], row["VCPUs_at_startup"]
    most, start = (count, start) if call.method.endswith("max") else (most, count)
    if not 0 < start <= most:
        raise XapiError("INVALID_VALUE", "VCPU values must satisfy: 0 < VCPUs_at_startup ≤ VCPUs_max", str(count))
    if row["power_state"] != "Halted":
        raise XapiError("VM_BAD_POWER_STATE", vm, "halted", row["power_state"].lower())
    call.db.update("VM", vm, VCPUs_max=most, VCPUs_at_startup=start)


@method("VM.set_VCPUs_number_live")
def set_vcpus_live(call: "Call", vm: str, count: int) -> Steps:
    change = at_once(lambda: call.db.set("VM", vm, "VCPUs_at_startup", count))
    yield from run(call, vm, "changing_VCPUs_live", change)


@method("VM.set_HVM_shadow_multiplier")
def set_shadow_multiplier(call: "Call", vm: str, value: float) -> None:
    if value < 1.0:
        raise XapiError("INVALID_VALUE", "HVM_shadow_multiplier", "%g" % value)
    call.db.set("VM", vm, "HVM_shadow_multiplier", value)


# --- the rest ---


@method("VM.set_suspend_VDI")
def set_suspend_vdi(call: "Call", vm: str, vdi: str) -> None:
    state = call.db.row("VM", vm)["power_state"]
    if state != "Suspended":
        raise XapiError("VM_BAD_POWER_STATE", vm, "suspended", state.lower())
    call.db.row("VDI", vdi)
    call.db.set("VM", vm, "suspend_VDI", vdi)


@method("VM.set_appliance")
def set_appliance(call: "Call", vm: str, appliance: str) -> None:
    """Accept only the null reference and the empty one: this pool has no appliances."""
    call.db.row("VM", vm)
    if appliance not in ("", NULL):
        raise XapiError("HANDLE_INVALID", "VM_appliance", appliance)
    call.db.set("VM", vm, "appliance", appliance)


@method("VM.set_is_default_template")
def set_is_default_template(call: "Call", vm: str, value: bool) -> None:
    if not call.db.row("VM", vm)["is_a_template"]:
        raise XapiError("OPERATION_NOT_ALLOWED", "This VM is not a template")
    call.db.set("VM", vm, "is_default_template", value)


@method("VM.set_has_vendor_device", "VM.set_domain_type", "VM.set_HVM_boot_policy", "VM.set_ha_always_run")
def set_when_halted(call: "Call", vm: str, value: Any) -> None:
    state = call.db.row("VM", vm)["power_state"]
    if state != "Halted" and not call.method.endswith("ha_always_run"):
        raise XapiError("VM_BAD_POWER_STATE", vm, "halted", state.lower())
    call.db.set("VM", vm, call.method[len("VM.set_") :], value)


@method(
    "VM.set_other_config",
    "VM.set_platform",
    "VM.set_NVRAM",
    "VM.set_order",
    "VM.set_start_delay",
    "VM.set_shutdown_delay",
    "VM.set_actions_after_crash",
    "VM.set_ha_restart_priority",
    "VM.set_bios_strings",
)
def set_field(call: "Call", vm: str, value: Any) -> None:
    call.db.set("VM", vm, call.method[len("VM.set_") :], value)


@method("VM.add_to_other_config", "VM.add_to_platform", "VM.add_to_NVRAM", "VM.add_to_VCPUs_params_live")
def add_to_field(call: "Call", vm: str, key: str, value: str) -> None:
    field = call.method[len("VM.add_to_") :]
    call.db.add_to_map("VM", vm, "VCPUs_params" if field == "VCPUs_params_live" else field, key, value)


@method("VM.remove_from_other_config", "VM.remove_from_platform", "VM.remove_from_NVRAM")
def remove_from_field(call: "Call", vm: str, key: str) -> None:
    call.db.remove_from_map("VM", vm, call.method[len("VM.remove_from_") :], key)


@method("VM.set_blocked_operations")
def set_blocked_operations(call: "Call", vm: str, value: Dict[str, str]) -> None:
    call.db.set("VM", vm, "blocked_operations", value)
    refresh(call.db, vm)


@method("VM.add_to_blocked_operations")
def add_to_blocked_operations(call: "Call", vm: str, key: str, value: str) -> None:
    call.db.add_to_map("VM", vm, "blocked_operations", key, value)
    refresh(call.db, vm)


@method("VM.remove_from_blocked_operations")
def remove_from_blocked_operations(call: "Call", vm: str, key: str) -> None:
    call.db.remove_from_map("VM", vm, "blocked_operations", key)
    refresh(call.db, vm)
