"""The classes that xe has commands for, with their fields in xe's order (ocaml/xapi-cli-server/records.ml)."""

from typing import Any, Dict, NamedTuple, Tuple

from vmss.core import frequencies, policy
from vmss.xe.fields import (
    BOOLEAN,
    BYTES,
    COSTLY,
    HIDDEN,
    INTEGER,
    LINES,
    LIST,
    LOWER,
    MAP,
    QUOTED,
    REAL,
    SET,
    TABLE,
    TEXT,
    TRISTATE,
    Field,
    Kind,
    choice,
    wording,
)


class Class(NamedTuple):
    """A class of xe. `name` begins its commands, `api` is its class in xapi, and `listed` are the fields in lists.

    `only` are the values of fields that an object of xapi's class must have; `where` is the same as a query for xapi.
    """

    name: str
    api: str
    fields: Tuple[Field, ...]
    listed: Tuple[str, ...] = ()
    only: Tuple[Tuple[str, str], ...] = ()
    where: str = ""


# The class of the second record to which a member of a record refers.
SECOND_RECORDS = {
    ("VM", "metrics"): "VM_metrics",
    ("VM", "guest_metrics"): "VM_guest_metrics",
    ("host", "metrics"): "host_metrics",
}


def _field(name: str, kind: Kind = TEXT, **more: Any) -> Field:
    member = more.pop("member", name.replace("-", "_"))
    return Field(name, member, kind, **more)


def _set(name: str, kind: Kind = TEXT, **more: Any) -> Field:
    return _field(name, kind, writable=True, **more)


def _map(name: str, **more: Any) -> Field:
    return _field(name, TEXT, holds=MAP, **more)


_UUID = _field("uuid")
_NAME = _set("name-label")
_DESCRIPTION = _set("name-description")
_OTHER_CONFIG = _map("other-config", writable=True)
_TAGS = _field("tags", holds=SET, writable=True, between=", ")
_OPERATIONS = (_field("allowed-operations", holds=SET), _field("current-operations", holds=SET))

TYPES = choice(*policy.TYPES)
FREQUENCIES = choice(*frequencies.FREQUENCIES)

_VMSS = (
    _UUID,
    _NAME,
    _DESCRIPTION,
    _set("enabled", BOOLEAN),
    _set("type", TYPES),
    _set("retained-snapshots", INTEGER),
    _set("frequency", FREQUENCIES),
    _map("schedule", writable=True),
    _field("last-run-time"),
    _field("VMs", holds=SET, of="VM"),
)

_EXIT = wording("destroy", "restart")
_CRASH = wording("destroy", "coredump_and_destroy", "restart", "coredump_and_restart", "preserve", "rename_restart")
_DOMAIN = choice("hvm", "pv", "pv_in_pvh", "pvh", "unspecified")


def _guest(name: str, kind: Kind = TEXT, **more: Any) -> Field:
    member = more.pop("member", name.replace("-", "_"))
    return _field(name, kind, member="guest_metrics." + member, **more)


_VM = (
    (
        _UUID,
        _NAME,
        _DESCRIPTION,
        _set("user-version", INTEGER),
        _set("is-a-template", BOOLEAN),
        _set("is-default-template", BOOLEAN),
        _field("is-a-snapshot", BOOLEAN),
        _field("snapshot-of", of="VM"),
        _field("snapshots", of="VM", holds=LIST),
        _field("snapshot-time"),
        _field("transportable-snapshot-id", seen=HIDDEN),
        _field("snapshot-info", holds=TABLE),
        _field("parent", of="VM"),
        _field("children", of="VM", holds=LIST),
        _field("is-control-domain", BOOLEAN),
        _field("power-state", LOWER),
        _field("memory-actual", member="metrics.memory_actual"),
        _field("memory-target", seen=COSTLY),
        _field("memory-overhead"),
        _set("memory-static-max", BYTES),
        _set("memory-dynamic-max", BYTES),
        _set("memory-dynamic-min", BYTES),
        _set("memory-static-min", BYTES),
        _set("suspend-VDI-uuid", member="suspend_VDI", of="VDI"),
        _set("suspend-SR-uuid", member="suspend_SR", of="SR"),
        _map("VCPUs-params", writable=True),
        _set("VCPUs-max", INTEGER),
        _set("VCPUs-at-startup", INTEGER),
        _set("actions-after-shutdown", _EXIT),
        _set("actions-after-reboot", _EXIT),
        _set("actions-after-crash", _CRASH),
        _field("console-uuids", member="consoles", of="console", holds=SET),
        _field("hvm", BOOLEAN, member="metrics.hvm", missing="false"),
        _field("nomigrate", BOOLEAN, member="metrics.nomigrate", missing="false", seen=HIDDEN),
        _field("nested-virt", BOOLEAN, member="metrics.nested_virt", missing="false", seen=HIDDEN),
        _map("platform", writable=True),
    )
    + _OPERATIONS
    + (
        _map("blocked-operations", writable=True),
        _field("allowed-VBD-devices", member="VM.get_allowed_VBD_devices()", holds=SET, missing="", seen=COSTLY),
        _field("allowed-VIF-devices", member="VM.get_allowed_VIF_devices()", holds=SET, missing="", seen=COSTLY),
        _field("possible-hosts", member="VM.get_possible_hosts()", of="host", holds=LIST, missing="", seen=COSTLY),
        _set("domain-type", _DOMAIN),
        _field("current-domain-type", member="metrics.current_domain_type"),
        _set("HVM-boot-policy"),
        _map("HVM-boot-params", writable=True),
        _set("HVM-shadow-multiplier", REAL),
        _map("NVRAM", writable=True, seen=HIDDEN),
        _set("PV-kernel"),
        _set("PV-ramdisk"),
        _set("PV-args"),
        _set("PV-legacy-args"),
        _set("PV-bootloader"),
        _set("PV-bootloader-args"),
        _field("last-boot-CPU-flags", holds=TABLE),
        _field("last-boot-record", QUOTED, member="last_booted_record", seen=COSTLY),
        _field("resident-on", of="host"),
        _set("affinity", of="host"),
        _OTHER_CONFIG,
        _field("dom-id", member="domid"),
        _field("recommendations"),
        _map("xenstore-data", writable=True),
        _set("ha-always-run", BOOLEAN, deprecated=True),
        _set("ha-restart-priority"),
        _field("blobs", of="blob", holds=TABLE),
        _field("start-time", member="metrics.start_time", missing="<unknown time>"),
        _field("install-time", member="metrics.install_time", missing="<unknown time>"),
        _field("VCPUs-number", member="metrics.VCPUs_number"),
        _field("VCPUs-utilisation", member="metrics.VCPUs_utilisation", holds=MAP, missing="", seen=COSTLY),
        _guest("os-version", holds=MAP),
        _guest("PV-drivers-version", holds=MAP),
        _guest("PV-drivers-up-to-date", BOOLEAN, deprecated=True),
        _guest("memory", holds=MAP),
        _guest("disks", holds=MAP),
        _field("VBDs", of="VBD", holds=SET),
        _guest("networks", holds=MAP),
        _guest("PV-drivers-detected", BOOLEAN),
        _guest("other", holds=MAP),
        _guest("live", BOOLEAN),
        _guest("guest-metrics-last-updated", member="last_updated"),
        _guest("can-use-hotplug-vbd", TRISTATE),
        _guest("can-use-hotplug-vif", TRISTATE),
        _field("cooperative", BOOLEAN, member="VM.get_cooperative()", missing="true", seen=COSTLY, deprecated=True),
        _TAGS,
        _set("appliance", of="VM_appliance"),
        _set("snapshot-schedule", of="VMSS"),
        _field("is-vmss-snapshot", BOOLEAN),
        _set("start-delay", INTEGER),
        _set("shutdown-delay", INTEGER),
        _set("order", INTEGER),
        _field("version"),
        _field("generation-id"),
        _field("hardware-platform-version"),
        _set("has-vendor-device", BOOLEAN),
        _field("requires-reboot", BOOLEAN),
        _field("reference-label"),
        _map("bios-strings"),
        _field("pending-guidances", holds=LIST),
        _field("vtpms", member="VTPMs", of="VTPM", holds=LIST),
    )
)

_HOST = (
    (_UUID, _NAME, _DESCRIPTION)
    + _OPERATIONS
    + (
        _field("enabled", BOOLEAN),
        _field("API-version-major"),
        _field("API-version-minor"),
        _field("API-version-vendor"),
        _map("logging", writable=True),
        _set("suspend-image-sr-uuid", member="suspend_image_sr", of="SR"),
        _set("crash-dump-sr-uuid", member="crash_dump_sr", of="SR"),
        _map("software-version"),
        _field("capabilities", holds=SET),
        _OTHER_CONFIG,
        _map("cpu_info"),
        _set("hostname"),
        _set("address"),
        _map("license-params"),
        _field("resident-vms", member="resident_VMs", of="VM", holds=SET),
        _TAGS,
        _field("edition"),
        _field("memory-total", member="metrics.memory_total"),
        _field("memory-free", member="metrics.memory_free"),
        _field("host-metrics-live", BOOLEAN, member="metrics.live"),
    )
)

_POOL = (
    (
        _UUID,
        _NAME,
        _DESCRIPTION,
        _field("master", of="host"),
        _set("default-SR", of="SR"),
        _set("crash-dump-SR", of="SR"),
        _set("suspend-image-SR", of="SR"),
        _OTHER_CONFIG,
    )
    + _OPERATIONS
    + (
        _field("ha-enabled", BOOLEAN),
        _field("ha-configuration", holds=TABLE),
        _field("ha-host-failures-to-tolerate"),
        _field("ha-plan-exists-for"),
        _field("ha-allow-overcommit", BOOLEAN),
        _field("ha-overcommitted", BOOLEAN),
        _field("blobs", of="blob", holds=TABLE),
        _field("wlb-url"),
        _field("wlb-username"),
        _field("wlb-enabled", BOOLEAN),
        _field("wlb-verify-cert", BOOLEAN),
        _field("igmp-snooping-enabled", BOOLEAN),
        _map("gui-config", writable=True),
        _map("health-check-config", writable=True),
        _field("restrictions", holds=TABLE),
        _TAGS,
        _field("ha-cluster-stack"),
        _map("guest-agent-config", writable=True),
        _map("cpu_info"),
        _set("policy-no-vendor-device", BOOLEAN),
        _set("live-patching-disabled", BOOLEAN),
        _field("tls-verification-enabled", BOOLEAN),
        _set("migration-compression", BOOLEAN),
    )
)

_MESSAGE = (
    _UUID,
    _field("name"),
    _field("priority"),
    _field("class", member="cls"),
    _field("obj-uuid"),
    _field("timestamp"),
    _field("body", LINES),
)

_TASK = (
    (
        _UUID,
        _field("name-label"),
        _field("name-description"),
        _field("subtask_of", of="task"),
        _field("subtasks", of="task", holds=LIST),
        _field("resident-on", of="host"),
        _field("status"),
        _field("progress", REAL),
        _field("type"),
        _field("result"),
        _field("created"),
        _field("finished"),
        _field("error_info", holds=LIST),
    )
    + _OPERATIONS[:1]
    + (_OTHER_CONFIG,)
)

CLASSES: Tuple[Class, ...] = (
    Class("vmss", "VMSS", _VMSS, tuple(field.name for field in _VMSS)),
    Class(
        "vm",
        "VM",
        _VM,
        ("uuid", "name-label", "power-state"),
        (("is-a-template", "false"),),
        'field "is_a_template"="false"',
    ),
    Class(
        "snapshot",
        "VM",
        _VM,
        ("uuid", "name-label", "name-description", "is-vmss-snapshot"),
        (("is-a-snapshot", "true"),),
        'field "is_a_snapshot"="true"',
    ),
    Class("host", "host", _HOST, ("uuid", "name-label", "name-description")),
    Class("pool", "pool", _POOL, ("uuid", "name-label", "name-description", "master", "default-SR")),
    Class("message", "message", _MESSAGE),
    Class("task", "task", _TASK, ("uuid", "name-label", "name-description", "status", "progress")),
)

BY_NAME: Dict[str, Class] = {cls.name: cls for cls in CLASSES}
