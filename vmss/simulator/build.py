"""Building a pool by calls of the API alone, which any XAPI server has."""

from random import Random
from typing import Any, Callable, Dict, List, NamedTuple

ApiCall = Callable[..., Any]

GIB = 1024**3
ROLES = ("web", "db", "mail", "files", "app", "build")
SR_TYPES = ("lvm", "nfs", "ext", "lvmoiscsi")
DISK_GIBS = (10, 20, 40, 80)


class Pool(NamedTuple):
    """The objects of a new pool: references by kind, and the session that created them."""

    session: str
    hosts: List[str]
    srs: List[str]
    vms: List[str]
    running: List[str]
    disks: List[str]


def vm_record(name: str, description: str = "", **changes: Any) -> Dict[str, Any]:
    """A complete record for VM.create."""
    record: Dict[str, Any] = {
        "name_label": name,
        "name_description": description,
        "user_version": "1",
        "is_a_template": False,
        "affinity": "OpaqueRef:NULL",
        "memory_static_max": str(2 * GIB),
        "memory_dynamic_max": str(2 * GIB),
        "memory_dynamic_min": str(2 * GIB),
        "memory_static_min": str(GIB),
        "VCPUs_params": {},
        "VCPUs_max": "2",
        "VCPUs_at_startup": "2",
        "actions_after_shutdown": "destroy",
        "actions_after_reboot": "restart",
        "actions_after_crash": "restart",
        "PV_bootloader": "",
        "PV_kernel": "",
        "PV_ramdisk": "",
        "PV_args": "",
        "PV_bootloader_args": "",
        "PV_legacy_args": "",
        "HVM_boot_policy": "BIOS order",
        "HVM_boot_params": {"order": "cd"},
        "platform": {"acpi": "1"},
        "PCI_bus": "",
        "other_config": {},
        "recommendations": "",
        "hardware_platform_version": "2",
    }
    record.update(changes)
    return record


def vdi_record(name: str, sr: str, size: int) -> Dict[str, Any]:
    """A complete record for VDI.create."""
    return {
        "name_label": name,
        "name_description": "",
        "SR": sr,
        "virtual_size": str(size),
        "type": "user",
        "sharable": False,
        "read_only": False,
        "other_config": {},
        "xenstore_data": {},
        "sm_config": {},
        "tags": [],
    }


def vbd_record(vm: str, vdi: str, device: str, bootable: bool = False) -> Dict[str, Any]:
    """A complete record for VBD.create: a disk, or with a null VDI an empty CD drive."""
    empty = vdi == "OpaqueRef:NULL"
    return {
        "VM": vm,
        "VDI": vdi,
        "userdevice": device,
        "bootable": bootable,
        "mode": "RO" if empty else "RW",
        "type": "CD" if empty else "Disk",
        "unpluggable": True,
        "empty": empty,
        "other_config": {} if empty else {"owner": ""},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }


def vm_name(number: int) -> str:
    """The name of a VM by its number, which begins at 0."""
    return "%s%02d" % (ROLES[number % len(ROLES)], number // len(ROLES) + 1)


def build_pool(
    call: ApiCall, hosts: int = 2, srs: int = 2, vms: int = 6, disks: int = 2, seed: int = 1, room: int = 0
) -> Pool:
    """Build hosts, SRs and VMs with disks; `call(method, *params)` runs one call. Counts of 0 are allowed. `room`: for
    how many VMs the SRs have room, if for more."""
    random = Random(seed)  # noqa: S311, a simulation
    session = call("session.login_with_password", "root", "", "1.0", "build")
    all_hosts = _build_hosts(call, session, hosts)
    # Room for several copies of every disk, even if all disks are on one SR.
    size = max(1024, 6 * max(DISK_GIBS) * max(vms, room) * disks // max(1, srs)) * GIB
    all_srs = [_build_sr(call, session, all_hosts[0], number, size) for number in range(srs)]
    if all_srs:
        # Without one, no VM can be suspended.
        call("pool.set_suspend_image_SR", session, call("pool.get_all", session)[0], all_srs[0])
    all_vms: List[str] = []
    running: List[str] = []
    all_disks: List[str] = []
    for number in range(vms):
        name = vm_name(number)
        vm = call("VM.create", session, vm_record(name))
        all_vms.append(vm)
        if all_srs:
            all_disks += _build_disks(call, session, vm, name, all_srs, disks, number, random)
        call("VBD.create", session, vbd_record(vm, "OpaqueRef:NULL", str(disks)))
        # Two of three VMs run.
        if number % 3 != 2:
            call("VM.start", session, vm, False, False)
            running.append(vm)
    return Pool(session, all_hosts, all_srs, all_vms, running, all_disks)


def _build_hosts(call: ApiCall, session: str, count: int) -> List[str]:
    hosts = call("host.get_all", session)
    pool = call("pool.get_all", session)[0]
    if not call("pool.get_name_label", session, pool):
        call("pool.set_name_label", session, pool, "simulated pool")
    for number in range(len(hosts) + 1, count + 1):
        name = "host%d" % number
        uuid = "00000000-0000-4000-8000-%012d" % number
        host = call("host.create", session, uuid, name, "Default install", name, "192.0.2.%d" % (number % 255))
        call("host.enable", session, host)
        hosts.append(host)
    return list(hosts)


def _build_sr(call: ApiCall, session: str, host: str, number: int, size: int) -> str:
    """Thick and thin SRs in turn, all of them shared so that every host can run every VM."""
    kind = SR_TYPES[number % len(SR_TYPES)]
    name = "%s storage %d" % (kind, number + 1)
    config = {"location": "/srv/%d" % number}
    return str(call("SR.create", session, host, config, str(size), name, "", kind, "user", True, {}))


def _build_disks(
    call: ApiCall, session: str, vm: str, name: str, srs: List[str], count: int, number: int, random: Random
) -> List[str]:
    disks = []
    for device in range(count):
        # Every third VM has its disks on two SRs.
        sr = srs[(number + (device if number % 3 == 0 else 0)) % len(srs)]
        size = random.choice(DISK_GIBS) * GIB
        vdi = call("VDI.create", session, vdi_record("%s disk %d" % (name, device), sr, size))
        call("VBD.create", session, vbd_record(vm, vdi, str(device), bootable=device == 0))
        disks.append(vdi)
    return disks
