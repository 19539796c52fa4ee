"""What xe decides itself, and no data model says: its classes, their fields in order, and what breaks its rules.

Facts of xen-api's ocaml/xapi-cli-server/records.ml, and gen_cmds in cli_operations.ml.

Its rules are in `classes`: a field is named after a member of the record, has its type, and can be set where a method
sets the member.
"""

from typing import Dict, NamedTuple, Tuple


class Names(NamedTuple):
    """A class of xe: its name begins its commands, `api` is its class in xapi, and `listed` are the fields in lists.

    `only` are the values of fields that an object of xapi's class must have.
    """

    name: str
    api: str
    listed: str = ""
    only: Tuple[Tuple[str, str], ...] = ()


CLASSES: Tuple[Names, ...] = (
    Names(
        "vmss",
        "VMSS",
        "uuid name-label name-description enabled type retained-snapshots frequency schedule last-run-time VMs",
    ),
    Names("vm", "VM", "uuid name-label power-state", (("is-a-template", "false"),)),
    Names("snapshot", "VM", "uuid name-label name-description is-vmss-snapshot", (("is-a-snapshot", "true"),)),
    Names(
        "template", "VM", "uuid name-label name-description", (("is-a-template", "true"), ("is-a-snapshot", "false"))
    ),
    Names("host", "host", "uuid name-label name-description"),
    Names("pool", "pool", "uuid name-label name-description master default-SR"),
    Names("sr", "SR", "uuid name-label name-description host type content-type"),
    Names("vdi", "VDI", "uuid name-label name-description sr-uuid virtual-size sharable read-only"),
    Names("vbd", "VBD", "uuid vm-uuid vm-name-label vdi-uuid empty device"),
    Names("pbd", "PBD", "uuid host-uuid sr-uuid device-config currently-attached"),
    Names("message", "message"),
    Names("task", "task", "uuid name-label name-description status progress"),
)

# The class of the second record to which a member of a record refers.
SECOND_RECORDS = {
    ("VM", "metrics"): "VM_metrics",
    ("VM", "guest_metrics"): "VM_guest_metrics",
    ("host", "metrics"): "host_metrics",
}

# The fields in xe's order, by xapi's class.
FIELDS: Dict[str, str] = {
    "VMSS": CLASSES[0].listed,
    "VM": (
        "uuid name-label name-description user-version is-a-template is-default-template is-a-snapshot snapshot-of "
        "snapshots snapshot-time transportable-snapshot-id snapshot-info parent children is-control-domain power-state "
        "memory-actual memory-target memory-overhead memory-static-max memory-dynamic-max memory-dynamic-min "
        "memory-static-min suspend-VDI-uuid suspend-SR-uuid VCPUs-params VCPUs-max VCPUs-at-startup "
        "actions-after-shutdown actions-after-softreboot actions-after-reboot actions-after-crash console-uuids hvm "
        "nomigrate nested-virt numa-optimised numa-nodes numa-node-memory platform allowed-operations "
        "current-operations blocked-operations allowed-VBD-devices allowed-VIF-devices possible-hosts domain-type "
        "current-domain-type HVM-boot-policy HVM-boot-params HVM-shadow-multiplier NVRAM PV-kernel PV-ramdisk PV-args "
        "PV-legacy-args PV-bootloader PV-bootloader-args last-boot-CPU-flags last-boot-record resident-on affinity "
        "other-config dom-id recommendations xenstore-data ha-always-run ha-restart-priority blobs start-time "
        "install-time VCPUs-number VCPUs-utilisation os-version netbios-name PV-drivers-version PV-drivers-up-to-date "
        "memory disks VBDs networks services PV-drivers-detected other live guest-metrics-last-updated "
        "can-use-hotplug-vbd can-use-hotplug-vif cooperative tags appliance groups snapshot-schedule is-vmss-snapshot "
        "start-delay shutdown-delay order version generation-id hardware-platform-version has-vendor-device "
        "requires-reboot reference-label bios-strings pending-guidances vtpms secureboot-certificates-state "
        "pending-guidances-recommended pending-guidances-full"
    ),
    "host": (
        "uuid name-label name-description allowed-operations current-operations enabled display API-version-major "
        "API-version-minor API-version-vendor API-version-vendor-implementation logging suspend-image-sr-uuid "
        "crash-dump-sr-uuid software-version capabilities other-config cpu_info chipset-info hostname address "
        "https-only supported-bootloaders blobs memory-overhead memory-total memory-free memory-free-computed "
        "host-metrics-live patches updates ha-statefiles ha-network-peers external-auth-type "
        "external-auth-service-name external-auth-configuration edition license-server power-on-mode power-on-config "
        "local-cache-sr tags ssl-legacy guest_VCPUs_params virtual-hardware-platform-versions control-domain-uuid "
        "resident-vms updates-requiring-reboot features iscsi_iqn multipathing uefi-certificates numa-affinity-policy "
        "pending-guidances tls-verification-enabled last-software-update latest-synced-updates-applied "
        "pending-guidances-recommended pending-guidances-full last-update-hash ssh-enabled ssh-enabled-timeout "
        "ssh-expiry console-idle-timeout ssh-auto-mode max-cstate"
    ),
    "pool": (
        "uuid name-label name-description master default-SR crash-dump-SR suspend-image-SR supported-sr-types "
        "other-config allowed-operations current-operations ha-enabled ha-configuration ha-statefiles "
        "ha-host-failures-to-tolerate ha-plan-exists-for ha-allow-overcommit ha-overcommitted "
        "ha-reboot-vm-on-internal-shutdown blobs wlb-url wlb-username wlb-enabled wlb-verify-cert "
        "igmp-snooping-enabled gui-config health-check-config vswitch-controller restrictions tags license-state "
        "ha-cluster-stack guest-agent-config cpu_info policy-no-vendor-device live-patching-disabled "
        "uefi-certificates custom-uefi-certificates tls-verification-enabled client-certificate-auth-enabled "
        "client-certificate-auth-name repositories repository-proxy-url repository-proxy-username https-only "
        "migration-compression coordinator-bias telemetry-frequency telemetry-next-collection last-update-sync "
        "update-sync-frequency update-sync-day update-sync-enabled recommendations ext-auth-cache-enabled "
        "ext-auth-cache-size ext-auth-cache-expiry license-server ssh-enabled ssh-enabled-timeout ssh-expiry "
        "console-idle-timeout ssh-auto-mode"
    ),
    "SR": (
        "uuid name-label name-description host allowed-operations current-operations VDIs PBDs virtual-allocation "
        "physical-utilisation physical-size type content-type shared introduced-by is-tools-sr other-config sm-config "
        "blobs local-cache-enabled tags clustered"
    ),
    "VDI": (
        "uuid name-label name-description is-a-snapshot snapshot-of snapshots snapshot-time allowed-operations "
        "current-operations sr-uuid sr-name-label vbd-uuids crashdump-uuids virtual-size physical-utilisation location "
        "type sharable read-only storage-lock managed parent missing is-tools-iso other-config xenstore-data sm-config "
        "on-boot allow-caching metadata-latest metadata-of-pool tags cbt-enabled"
    ),
    "VBD": (
        "uuid vm-uuid vm-name-label vdi-uuid vdi-name-label allowed-operations current-operations empty device "
        "userdevice bootable mode type unpluggable currently-attached attachable storage-lock status-code "
        "status-detail qos_algorithm_type qos_algorithm_params qos_supported_algorithms other-config io_read_kbs "
        "io_write_kbs"
    ),
    "PBD": ("uuid host host-uuid host-name-label sr-uuid sr-name-label device-config currently-attached other-config"),
    "message": "uuid name priority class obj-uuid timestamp body",
    "task": (
        "uuid name-label name-description subtask_of subtasks resident-on status progress type result created finished "
        "error_info allowed-operations other-config"
    ),
}

# Members that have another name than the field.
MEMBERS: Dict[str, Dict[str, str]] = {
    "VM": {
        "dom-id": "domid",
        "guest-metrics-last-updated": "guest_metrics.last_updated",
        "last-boot-record": "last_booted_record",
    },
    "VDI": {"crashdump-uuids": "crash_dumps"},
    "host": {"host-metrics-live": "metrics.live"},
    "message": {"class": "cls"},
}

# Values that a method of the class answers, and their types.
METHODS: Dict[str, Dict[str, Tuple[str, str]]] = {
    "VM": {
        "allowed-VBD-devices": ("VM.get_allowed_VBD_devices()", "set(string)"),
        "allowed-VIF-devices": ("VM.get_allowed_VIF_devices()", "set(string)"),
        "cooperative": ("VM.get_cooperative()", "bool"),
        "possible-hosts": ("VM.get_possible_hosts()", "set(ref host)"),
    },
    "host": {"memory-free-computed": ("host.compute_free_memory()", "int")},
    "pool": {"license-state": ("pool.get_license_state()", "map(string, string)")},
}

# Fields that xe does not set, though there is a method.
READ_ONLY: Dict[str, str] = {
    "SR": "physical-size sm-config",
    "VDI": "sharable read-only xenstore-data sm-config",
    "VM": "recommendations hardware-platform-version",
    "host": "hostname address display license-server",
    "pool": "telemetry-next-collection update-sync-enabled",
    "task": "status progress result error_info",
}

# Sets and maps that xe takes for one text: nothing can be looked up in them.
WHOLE: Dict[str, str] = {
    "SR": "blobs",
    "VDI": "snapshots",
    "VM": "snapshots children possible-hosts snapshot-info last-boot-CPU-flags blobs groups pending-guidances vtpms "
    "pending-guidances-recommended pending-guidances-full",
    "host": "blobs ha-statefiles ha-network-peers pending-guidances pending-guidances-recommended "
    "pending-guidances-full",
    "pool": "supported-sr-types ha-configuration ha-statefiles blobs restrictions license-state",
    "task": "subtasks error_info",
}

# Fields that are slow to read: not read for lists.
COSTLY: Dict[str, str] = {
    "VBD": "attachable io_read_kbs io_write_kbs",
    "VM": "memory-target allowed-VBD-devices allowed-VIF-devices possible-hosts last-boot-record VCPUs-utilisation "
    "cooperative",
    "host": "memory-free-computed",
    "pool": "supported-sr-types",
}

# Fields that only a filter and param-get know.
HIDDEN: Dict[str, str] = {
    "VM": "transportable-snapshot-id nomigrate nested-virt NVRAM",
    "host": "uefi-certificates",
    "pool": "vswitch-controller uefi-certificates custom-uefi-certificates ext-auth-cache-enabled ext-auth-cache-size "
    "ext-auth-cache-expiry",
}

DEPRECATED: Dict[str, str] = {
    "PBD": "host",
    "VDI": "parent",
    "VM": "ha-always-run PV-drivers-up-to-date cooperative",
    "host": "patches",
}

# What is shown where there is no value.
MISSING: Dict[str, Dict[str, str]] = {
    "VM": {
        "VCPUs-utilisation": "",
        "allowed-VBD-devices": "",
        "allowed-VIF-devices": "",
        "cooperative": "true",
        "hvm": "false",
        "install-time": "<unknown time>",
        "nested-virt": "false",
        "nomigrate": "false",
        "possible-hosts": "",
        "start-time": "<unknown time>",
    }
}

# Sets that are shown with commas.
COMMAS = ("tags", "patches", "updates")

# A method that adds to a set, where it is not named after the member.
ADDS = {("pool", "repositories"): "repository"}
