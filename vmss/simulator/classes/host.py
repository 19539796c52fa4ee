"""Hosts: records, their clocks, and the plugins they run (xapi: ocaml/xapi/xapi_host.ml)."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict, Generator

from ..errors import XapiError
from ..registry import method
from ..values import from_seconds
from ..vm_operations import refresh

if TYPE_CHECKING:
    from ..dispatch import Call
    from ..simulator import Simulator

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


def create_host(sim: "Simulator", uuid: str, name: str, description: str, hostname: str, address: str) -> str:
    """A host record with its metrics and its control domain."""
    db = sim.db
    now = from_seconds(sim.kernel.now())
    metrics = db.create(
        "host_metrics",
        {"memory_total": MEMORY, "memory_free": MEMORY - DOM0_MEMORY, "live": True, "last_updated": now},
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
        "timezone": "Etc/UTC",
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
def create(
    call: "Call", uuid: str, name: str, description: str, hostname: str, address: str, *rest: Any
) -> str:
    """A further host as a record: calls are not forwarded to it yet."""
    return create_host(call.sim, uuid, name, description, hostname, address)


@method("host.enable", "host.disable")
def set_enabled(call: "Call", host: str, auto_enable: bool = True) -> None:
    enable = call.method == "host.enable"
    call.db.set("host", host, "enabled", enable)
    call.db.set("host", host, "allowed_operations", OPERATIONS if enable else OPERATIONS + ["enable"])


@method("host.get_servertime")
def get_servertime(call: "Call", host: str) -> datetime:
    call.db.row("host", host)
    return from_seconds(call.sim.kernel.now())


@method("host.get_server_localtime")
def get_server_localtime(call: "Call", host: str) -> datetime:
    """The wall clock of the host, without a zone: hosts keep the time zone of this machine."""
    call.db.row("host", host)
    return datetime.fromtimestamp(int(call.sim.kernel.now()))  # noqa: DTZ006, without a zone on purpose


@method("host.call_plugin")
def call_plugin(
    call: "Call", host: str, plugin: str, function: str, args: Dict[str, str]
) -> Generator[Any, Any, str]:
    if not call.db.exists("host", host):
        raise XapiError("HOST_OFFLINE", host)
    return (yield from call.sim.plugins.run(call.session, plugin, function, args))
