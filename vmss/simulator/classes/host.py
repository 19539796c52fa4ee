"""Hosts: records, their clocks, and the plugins they run (xapi: ocaml/xapi/xapi_host.ml)."""

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict, Generator, List

from .. import lifecycle
from ..errors import XapiError
from ..kernel import Sleep
from ..registry import method
from ..values import from_seconds
from ..vm_operations import hosts_seeing, refresh

if TYPE_CHECKING:
    from ..call import Call
    from ..simulator import Simulator

Steps = Generator[Any, Any, Any]

GIB = 1024**3
MEMORY = 64 * GIB
DOM0_MEMORY = 4 * GIB
OPERATIONS = ["vm_migrate", "provision", "vm_resume", "evacuate", "vm_start"]

# The licensed features (xapi: ocaml/xapi-types/features.ml), none restricted.
_RESTRICTABLE = (
    "vlan qos pool_attached_storage netapp equalogic pooling marathon email_alerting historical_performance wlb "
    "rbac dmc checkpoint cpu_masking connection vmpr vmss intellicache gpu dr vif_locking storage_xen_motion vgpu "
    "integrated_gpu_passthrough vss guest_agent_auto_update pci_device_for_auto_update xen_motion "
    "guest_ip_setting ad nested_virt live_patching set_vcpus_number_live pvs_proxy igmp_snooping rpu pool_size "
    "cbt usb_passthrough network_sriov corosync cluster_address zstd_export pool_secret_rotation "
    "certificate_verification updates internal_repo_access vtpm vm_groups vm_start vm_appliance_start"
)
LICENSE: Dict[str, str] = {"restrict_" + name: "false" for name in _RESTRICTABLE.split()}
LICENSE.update({"enable_xha": "true", "regular_nag_dialog": "false", "platform_filter": "false"})


def zone_of_this_machine() -> str:
    """The name of this machine's time zone, which new hosts have: TZ, else what /etc/localtime points to."""
    name = os.environ.get("TZ", "")
    if name:
        from dateutil import tz  # slow to load, and most machines have no TZ

        if tz.gettz(name) is not None:
            return name
    path = os.path.realpath("/etc/localtime")
    name = path.partition("/zoneinfo/")[2]
    return name if name and os.path.exists(path) else "Etc/UTC"


def create_host(sim: "Simulator", uuid: str, name: str, description: str, hostname: str, address: str) -> str:
    """A host record with its metrics and its control domain."""
    db = sim.db
    now = from_seconds(sim.kernel.now())
    metrics = db.create(
        "host_metrics", {"memory_total": MEMORY, "memory_free": MEMORY - DOM0_MEMORY, "live": True, "last_updated": now}
    )
    pool_rows = db.tables["pool"].rows
    fields: Dict[str, Any] = {
        "uuid": uuid,
        "name_label": name,
        "name_description": description,
        "hostname": hostname,
        "address": address,
        "allowed_operations": OPERATIONS,
        "API_version_major": 2,
        "API_version_minor": 23,
        "API_version_vendor": "XenSource",
        "software_version": {
            "product_version": "8.3.0", "product_version_text": "8.3", "product_version_text_short": "8.3",
            "product_brand": "XCP-ng", "platform_name": "XCP", "platform_version": "3.4.0",
            "xapi": "26.17", "xapi_build": "26.17.0",
        },
        "sched_policy": "credit",
        "supported_bootloaders": ["pygrub", "eliloader"],
        "metrics": metrics,
        "edition": "xcp-ng",
        "license_params": next(iter(pool_rows.values()))["restrictions"] if pool_rows else LICENSE,
        "license_server": {"address": "localhost", "port": "27000"},
        "virtual_hardware_platform_versions": [0, 1, 2],
        "timezone": zone_of_this_machine(),
        "other_config": {"agent_start_time": "%d." % sim.kernel.now(), "boot_time": "%d." % (sim.kernel.now() - 120)},
    }  # fmt: skip
    host = db.create("host", fields)
    db.set("host", host, "control_domain", _create_dom0(sim, host, name))
    return host


def _create_dom0(sim: "Simulator", host: str, name: str) -> str:
    fields: Dict[str, Any] = {
        "name_label": "Control domain on host: " + name,
        "name_description": "The domain which manages physical devices and manages other domains",
        "power_state": "Running",
        "user_version": 1,
        "resident_on": host,
        "affinity": host,
        "VCPUs_max": 2,
        "VCPUs_at_startup": 2,
        "domid": 0,
        "domarch": "x64",
        "is_control_domain": True,
        "metrics": sim.db.create("VM_metrics", {"memory_actual": DOM0_MEMORY, "VCPUs_number": 2}),
        "domain_type": "pv",
        "has_vendor_device": False,
        "actions_after_softreboot": "soft_reboot",
        "actions_after_shutdown": "destroy",
        "actions_after_reboot": "destroy",
        "actions_after_crash": "destroy",
    }
    for field in ("target", "static_max", "static_min", "dynamic_max", "dynamic_min"):
        fields["memory_" + field] = DOM0_MEMORY
    vm = sim.db.create("VM", fields)
    refresh(sim.db, vm)
    return vm


@method("host.create")
def create(call: "Call", uuid: str, name: str, description: str, hostname: str, address: str, *rest: Any) -> str:
    """Add a host to the pool; fields that the caller leaves out are as in the record of the first host."""
    host = create_host(call.sim, uuid, name, description, hostname, address)
    parameters = call.sim.model.classes["host"].methods["create"].parameters[5:]
    for parameter, value in zip(parameters, rest):
        if value != parameter.default:
            call.db.set("host", host, parameter.name, value)
    return host


@method("host.enable", "host.disable")
def set_enabled(call: "Call", host: str, auto_enable: bool = True) -> None:
    enable = call.method == "host.enable"
    call.sim.hosts.reach(host)
    call.db.set("host", host, "enabled", enable)
    call.db.set("host", host, "allowed_operations", OPERATIONS if enable else OPERATIONS + ["enable"])


@method("host.get_servertime")
def get_servertime(call: "Call", host: str) -> datetime:
    call.sim.hosts.reach(host)
    return from_seconds(call.sim.hosts.clock(host))


@method("host.get_server_localtime")
def get_server_localtime(call: "Call", host: str) -> datetime:
    """The wall clock of the host, in its time zone, which the answer does not name."""
    call.sim.hosts.reach(host)
    from dateutil import tz  # slow to load

    zone = tz.gettz(call.db.row("host", host)["timezone"]) or tz.UTC
    return from_seconds(int(call.sim.hosts.clock(host))).astimezone(zone).replace(tzinfo=None)


@method("host.call_plugin")
def call_plugin(call: "Call", host: str, plugin: str, function: str, args: Dict[str, str]) -> Generator[Any, Any, str]:
    """Run a plugin. On another host than the coordinator it gets a session of its own, a child of the caller's."""
    call.sim.hosts.reach(host)
    if host == call.sim.hosts.coordinator:
        return (yield from call.sim.plugins.run(call.session, plugin, function, args))
    user = call.db.row("session", call.session)["auth_user_name"]
    session = call.sim.sessions.create(user, "", superuser=True, parent=call.session, pool=True, host=host)
    try:
        steps = call.sim.plugins.run(session, plugin, function, args, host)
        return str((yield from call.sim.hosts.run_on(host, steps)))
    finally:
        if call.db.exists("session", session):
            call.sim.sessions.destroy(session)


# --- the life of hosts ---


@method("host.restart_agent")
def restart_agent(call: "Call", host: str) -> Steps:
    """Answer, and restart xapi a moment later. On a member nothing is lost: the coordinator has the whole state."""
    call.sim.hosts.reach(host)
    if host == call.sim.hosts.coordinator:
        seconds = call.sim.draw("restart").seconds
        call.sim.kernel.spawn(restart_soon(call.sim, seconds), None, "simulator")
    yield Sleep(0.0)


def restart_soon(sim: "Simulator", seconds: float) -> Steps:
    yield Sleep(1.0)
    yield from lifecycle.restart(sim, "clean", seconds)


@method("host.shutdown", "host.reboot")
def shut_down(call: "Call", host: str) -> Steps:
    """Shut down a disabled host without running VMs; the coordinator is refused."""
    row = call.db.row("host", host)
    call.sim.hosts.reach(host)
    if row["enabled"]:
        raise XapiError("HOST_NOT_DISABLED")
    if any(not call.db.row("VM", vm)["is_control_domain"] for vm in call.db.pointing_at("VM", "resident_on", host)):
        raise XapiError("HOST_IN_USE", host, "VM", call.db.pointing_at("VM", "resident_on", host)[0])
    if host == call.sim.hosts.coordinator:
        raise XapiError("NOT_IMPLEMENTED", call.method + " of the coordinator")
    yield call.sim.draw("restart")
    if call.method == "host.shutdown":
        call.sim.hosts.die(host)


@method("host.destroy")
def destroy(call: "Call", host: str) -> None:
    """Remove the record of a host that will not come back."""
    row = call.db.row("host", host)
    if host == call.sim.hosts.coordinator:
        raise XapiError("HOST_IS_SLAVE", call.sim.hosts.address(host))
    if call.sim.hosts.is_live(host):
        raise XapiError("HOST_IS_LIVE", host)
    for pbd in call.db.pointing_at("PBD", "host", host):
        call.db.delete("PBD", pbd)
    for vm in call.db.pointing_at("VM", "resident_on", host):
        if call.db.row("VM", vm)["is_control_domain"]:
            call.db.delete("VM", vm)
    if call.db.exists("host_metrics", row["metrics"]):
        call.db.delete("host_metrics", row["metrics"])
    call.db.delete("host", host)


@method("host.evacuate")
def evacuate(call: "Call", host: str, *rest: Any) -> Steps:
    """Move every running VM to another host that sees its disks."""
    for vm in _guests(call, host):
        seeing = [other for other in hosts_seeing(call.sim, vm) if other != host]
        others = [other for other in seeing if call.db.row("host", other)["enabled"]]
        if not others:
            raise XapiError("NO_HOSTS_AVAILABLE")
        yield from call.sim.dispatcher.subtask(call, "VM.pool_migrate", vm, others[0], {})


def _guests(call: "Call", host: str) -> List[str]:
    call.db.row("host", host)
    residents = call.db.pointing_at("VM", "resident_on", host)
    return [vm for vm in residents if not call.db.row("VM", vm)["is_control_domain"]]


@method("host.assert_can_evacuate")
def assert_can_evacuate(call: "Call", host: str) -> None:
    for vm in _guests(call, host):
        if not [other for other in hosts_seeing(call.sim, vm) if other != host]:
            raise XapiError("NO_HOSTS_AVAILABLE")


@method("host.get_uncooperative_resident_VMs")
def get_uncooperative(call: "Call", host: str) -> List[str]:
    call.db.row("host", host)
    return []


# --- queries ---


@method("host.is_in_emergency_mode")
def is_in_emergency_mode(call: "Call") -> bool:
    hosts = call.sim.hosts
    return hosts.at(call.origin) != hosts.coordinator and not hosts.is_listening(hosts.coordinator)


@method("host.list_methods")
def list_methods(call: "Call") -> List[str]:
    return sorted(call.sim.dispatcher.model_names)


@method("host.compute_free_memory")
def compute_free_memory(call: "Call", host: str) -> int:
    metrics = call.db.row("host", host)["metrics"]
    used = sum(int(call.db.row("VM", vm)["memory_dynamic_max"]) for vm in _guests(call, host))
    return max(0, int(call.db.row("host_metrics", metrics)["memory_free"]) - used)


@method("host.compute_memory_overhead")
def compute_memory_overhead(call: "Call", host: str) -> int:
    return int(call.db.row("host", host)["memory_overhead"])


@method("host.has_extension")
def has_extension(call: "Call", host: str, name: str) -> bool:
    call.sim.hosts.reach(host)
    return False


@method("host.call_extension")
def call_extension(call: "Call", host: str, name: str) -> str:
    call.sim.hosts.reach(host)
    raise XapiError("MESSAGE_METHOD_UNKNOWN", name)


@method("host.get_ntp_synchronized")
def get_ntp_synchronized(call: "Call", host: str) -> bool:
    call.sim.hosts.reach(host)
    return True


@method(
    "host.set_iscsi_iqn", "host.set_multipathing", "host.set_max_cstate", "host.set_ntp_mode",
    "host.set_ntp_custom_servers", "host.set_timezone", "host.set_numa_affinity_policy", "host.set_ssh_auto_mode",
    "host.set_console_idle_timeout", "host.set_https_only", "host.set_ssl_legacy", "host.set_uefi_certificates",
)  # fmt: skip
def set_field(call: "Call", host: str, value: Any) -> None:
    call.db.set("host", host, call.method[len("host.set_") :], value)


@method("host.set_power_on_mode")
def set_power_on_mode(call: "Call", host: str, mode: str, config: Dict[str, str]) -> None:
    call.db.update("host", host, power_on_mode=mode, power_on_config=config)
