"""What xapi's data model says of the classes of `vmss xe`. Made by `python -m tests.xe_model`, not by hand.

A reference does not tell its class over the API, nor a number that it is one, so that the records alone are not enough.
"""

from typing import Dict

# By class, each member of a record with its type. Behind it stands = if a method sets it, + if one adds to it.
MEMBERS: Dict[str, str] = {
    "PBD": (
        "uuid string; host ref host; SR ref SR; device_config map(string, string)=; currently_attached bool; "
        "other_config map(string, string)=+"
    ),
    "SR": (
        "uuid string; name_label string=; name_description string=; allowed_operations set(enum storage_operations); "
        "current_operations map(string, enum storage_operations); VDIs set(ref VDI); PBDs set(ref PBD); "
        "virtual_allocation int; physical_utilisation int; physical_size int=; type string; content_type string; "
        "shared bool=; other_config map(string, string)=+; tags set(string)=+; sm_config map(string, string)=+; blobs "
        "map(string, ref blob); local_cache_enabled bool; introduced_by ref DR_task; clustered bool; is_tools_sr bool"
    ),
    "VBD": (
        "uuid string; allowed_operations set(enum vbd_operations); current_operations map(string, enum "
        "vbd_operations); VM ref VM; VDI ref VDI; device string; userdevice string=; bootable bool=; mode enum "
        "vbd_mode=; type enum vbd_type=; unpluggable bool=; storage_lock bool; empty bool; other_config map(string, "
        "string)=+; currently_attached bool; status_code int; status_detail string; runtime_properties map(string, "
        "string); qos_algorithm_type string=; qos_algorithm_params map(string, string)=+; qos_supported_algorithms "
        "set(string); metrics ref VBD_metrics"
    ),
    "VDI": (
        "uuid string; name_label string=; name_description string=; allowed_operations set(enum vdi_operations); "
        "current_operations map(string, enum vdi_operations); SR ref SR; VBDs set(ref VBD); crash_dumps set(ref "
        "crashdump); virtual_size int; physical_utilisation int; type enum vdi_type; sharable bool=; read_only bool=; "
        "other_config map(string, string)=+; storage_lock bool; location string; managed bool; missing bool; parent "
        "ref VDI; xenstore_data map(string, string)=+; sm_config map(string, string)=+; is_a_snapshot bool; "
        "snapshot_of ref VDI; snapshots set(ref VDI); snapshot_time datetime; tags set(string)=+; allow_caching bool=; "
        "on_boot enum on_boot=; metadata_of_pool ref pool; metadata_latest bool; is_tools_iso bool; cbt_enabled bool"
    ),
    "VM": (
        "uuid string; allowed_operations set(enum vm_operations); current_operations map(string, enum vm_operations); "
        "name_label string=; name_description string=; power_state enum vm_power_state; user_version int=; "
        "is_a_template bool=; is_default_template bool=; suspend_VDI ref VDI=; resident_on ref host; "
        "scheduled_to_be_resident_on ref host; affinity ref host=; memory_overhead int; memory_target int; "
        "memory_static_max int=; memory_dynamic_max int=; memory_dynamic_min int=; memory_static_min int=; "
        "VCPUs_params map(string, string)=+; VCPUs_max int=; VCPUs_at_startup int=; actions_after_softreboot enum "
        "on_softreboot_behavior=; actions_after_shutdown enum on_normal_exit=; actions_after_reboot enum "
        "on_normal_exit=; actions_after_crash enum on_crash_behaviour=; consoles set(ref console); VIFs set(ref VIF); "
        "VBDs set(ref VBD); VUSBs set(ref VUSB); crash_dumps set(ref crashdump); VTPMs set(ref VTPM); PV_bootloader "
        "string=; PV_kernel string=; PV_ramdisk string=; PV_args string=; PV_bootloader_args string=; PV_legacy_args "
        "string=; HVM_boot_policy string=; HVM_boot_params map(string, string)=+; HVM_shadow_multiplier float=; "
        "platform map(string, string)=+; PCI_bus string=; other_config map(string, string)=+; domid int; domarch "
        "string; last_boot_CPU_flags map(string, string); is_control_domain bool; metrics ref VM_metrics; "
        "guest_metrics ref VM_guest_metrics; last_booted_record string; recommendations string=; xenstore_data "
        "map(string, string)=+; ha_always_run bool=; ha_restart_priority string=; is_a_snapshot bool; snapshot_of ref "
        "VM; snapshots set(ref VM); snapshot_time datetime; transportable_snapshot_id string; blobs map(string, ref "
        "blob); tags set(string)=+; blocked_operations map(enum vm_operations, string)=+; snapshot_info map(string, "
        "string); snapshot_metadata string; parent ref VM; children set(ref VM); bios_strings map(string, string)=; "
        "protection_policy ref VMPP; is_snapshot_from_vmpp bool; snapshot_schedule ref VMSS=; is_vmss_snapshot bool; "
        "appliance ref VM_appliance=; start_delay int=; shutdown_delay int=; order int=; VGPUs set(ref VGPU); "
        "attached_PCIs set(ref PCI); suspend_SR ref SR=; version int; generation_id string; hardware_platform_version "
        "int=; has_vendor_device bool=; requires_reboot bool; reference_label string; domain_type enum domain_type=; "
        "NVRAM map(string, string)=+; pending_guidances set(enum update_guidances); pending_guidances_recommended "
        "set(enum update_guidances); pending_guidances_full set(enum update_guidances); groups set(ref VM_group)=; "
        "secureboot_certificates_state enum vm_secureboot_certificates_state"
    ),
    "VMSS": (
        "uuid string; name_label string=; name_description string=; enabled bool=; type enum vmss_type=; "
        "retained_snapshots int=; frequency enum vmss_frequency=; schedule map(string, string)=+; last_run_time "
        "datetime; VMs set(ref VM)"
    ),
    "VM_guest_metrics": (
        "uuid string; os_version map(string, string); netbios_name map(string, string); PV_drivers_version map(string, "
        "string); PV_drivers_up_to_date bool; memory map(string, string); disks map(string, string); networks "
        "map(string, string); other map(string, string); last_updated datetime; other_config map(string, string)=+; "
        "live bool; can_use_hotplug_vbd enum tristate_type; can_use_hotplug_vif enum tristate_type; "
        "PV_drivers_detected bool; services map(string, string)"
    ),
    "VM_metrics": (
        "uuid string; memory_actual int; VCPUs_number int; VCPUs_utilisation map(int, float); VCPUs_CPU map(int, int); "
        "VCPUs_params map(string, string); VCPUs_flags map(int, set(string)); state set(string); start_time datetime; "
        "install_time datetime; last_updated datetime; other_config map(string, string)=+; hvm bool; nested_virt bool; "
        "nomigrate bool; current_domain_type enum domain_type; numa_optimised bool; numa_nodes int; numa_node_memory "
        "map(int, int)"
    ),
    "host": (
        "uuid string; name_label string=; name_description string=; memory_overhead int; allowed_operations set(enum "
        "host_allowed_operations); current_operations map(string, enum host_allowed_operations); API_version_major "
        "int; API_version_minor int; API_version_vendor string; API_version_vendor_implementation map(string, string); "
        "enabled bool; software_version map(string, string); other_config map(string, string)=+; capabilities "
        "set(string); cpu_configuration map(string, string); sched_policy string; supported_bootloaders set(string); "
        "resident_VMs set(ref VM); logging map(string, string)=+; PIFs set(ref PIF); suspend_image_sr ref SR=; "
        "crash_dump_sr ref SR=; crashdumps set(ref host_crashdump); patches set(ref host_patch); updates set(ref "
        "pool_update); PBDs set(ref PBD); host_CPUs set(ref host_cpu); cpu_info map(string, string); hostname string=; "
        "address string=; metrics ref host_metrics; license_params map(string, string); ha_statefiles set(string); "
        "ha_network_peers set(string); blobs map(string, ref blob); tags set(string)=+; external_auth_type string; "
        "external_auth_service_name string; external_auth_configuration map(string, string); edition string; "
        "license_server map(string, string)=+; bios_strings map(string, string); power_on_mode string; power_on_config "
        "map(string, string); local_cache_sr ref SR; chipset_info map(string, string); PCIs set(ref PCI); PGPUs "
        "set(ref PGPU); PUSBs set(ref PUSB); ssl_legacy bool=; guest_VCPUs_params map(string, string)=+; display enum "
        "host_display=; virtual_hardware_platform_versions set(int); control_domain ref VM; updates_requiring_reboot "
        "set(ref pool_update); features set(ref Feature); iscsi_iqn string=; multipathing bool=; uefi_certificates "
        "string; certificates set(ref Certificate); editions set(string); pending_guidances set(enum "
        "update_guidances); tls_verification_enabled bool; last_software_update datetime; https_only bool=; "
        "latest_synced_updates_applied enum latest_synced_updates_applied_state; numa_affinity_policy enum "
        "host_numa_affinity_policy=; pending_guidances_recommended set(enum update_guidances); pending_guidances_full "
        "set(enum update_guidances); last_update_hash string; ssh_enabled bool; ssh_enabled_timeout int=; ssh_expiry "
        "datetime; console_idle_timeout int=; ssh_auto_mode bool=; max_cstate string=; secure_boot bool; ntp_mode enum "
        "host_ntp_mode=; ntp_custom_servers set(string)=; timezone string="
    ),
    "host_metrics": (
        "uuid string; memory_total int; memory_free int; live bool; last_updated datetime; other_config map(string, "
        "string)=+"
    ),
    "message": (
        "uuid string; name string; priority int; cls enum cls; obj_uuid string; timestamp datetime; body string"
    ),
    "pool": (
        "uuid string; name_label string=; name_description string=; master ref host; default_SR ref SR=; "
        "suspend_image_SR ref SR=; crash_dump_SR ref SR=; other_config map(string, string)=+; ha_enabled bool; "
        "ha_configuration map(string, string); ha_statefiles set(string); ha_host_failures_to_tolerate int=; "
        "ha_plan_exists_for int; ha_allow_overcommit bool=; ha_overcommitted bool; blobs map(string, ref blob); tags "
        "set(string)=+; gui_config map(string, string)=+; health_check_config map(string, string)=+; wlb_url string; "
        "wlb_username string; wlb_enabled bool=; wlb_verify_cert bool=; redo_log_enabled bool; redo_log_vdi ref VDI; "
        "vswitch_controller string; restrictions map(string, string); metadata_VDIs set(ref VDI); ha_cluster_stack "
        "string; allowed_operations set(enum pool_allowed_operations); current_operations map(string, enum "
        "pool_allowed_operations); guest_agent_config map(string, string)+; cpu_info map(string, string); "
        "policy_no_vendor_device bool=; live_patching_disabled bool=; igmp_snooping_enabled bool=; uefi_certificates "
        "string=; custom_uefi_certificates string=; is_psr_pending bool=; tls_verification_enabled bool; repositories "
        "set(ref Repository)=; client_certificate_auth_enabled bool; client_certificate_auth_name string; "
        "repository_proxy_url string; repository_proxy_username string; repository_proxy_password ref secret; "
        "migration_compression bool=; coordinator_bias bool=; local_auth_max_threads int=; ext_auth_max_threads int=; "
        "ext_auth_cache_enabled bool=; ext_auth_cache_size int=; ext_auth_cache_expiry int=; telemetry_uuid ref "
        "secret; telemetry_frequency enum telemetry_frequency; telemetry_next_collection datetime=; last_update_sync "
        "datetime; update_sync_frequency enum update_sync_frequency; update_sync_day int; update_sync_enabled bool=; "
        "recommendations map(string, string); license_server map(string, string)=+; ha_reboot_vm_on_internal_shutdown "
        "bool=; limit_console_sessions bool=; vm_console_idle_timeout int=; auto_update_vm_secureboot_certificates "
        "bool="
    ),
    "task": (
        "uuid string; name_label string; name_description string; allowed_operations set(enum "
        "task_allowed_operations); current_operations map(string, enum task_allowed_operations); created datetime; "
        "finished datetime; status enum task_status_type=; resident_on ref host; progress float=; type string; result "
        "string=; error_info set(string)=; other_config map(string, string)=+; subtask_of ref task; subtasks set(ref "
        "task); backtrace string"
    ),
}

# The values of the enumerations in them.
ENUMS: Dict[str, str] = {
    "cls": "VM, Host, SR, Pool, VMPP, VMSS, PVS_proxy, VDI, Certificate",
    "domain_type": "hvm, pv, pv_in_pvh, pvh, unspecified",
    "host_allowed_operations": (
        "provision, evacuate, shutdown, reboot, power_on, vm_start, vm_resume, vm_migrate, apply_updates, enable"
    ),
    "host_display": "enabled, disable_on_reboot, disabled, enable_on_reboot",
    "host_ntp_mode": "DHCP, Custom, Factory, Disabled",
    "host_numa_affinity_policy": "any, best_effort, default_policy",
    "latest_synced_updates_applied_state": "yes, no, unknown",
    "on_boot": "reset, persist",
    "on_crash_behaviour": "destroy, coredump_and_destroy, restart, coredump_and_restart, preserve, rename_restart",
    "on_normal_exit": "destroy, restart",
    "on_softreboot_behavior": "soft_reboot, destroy, restart, preserve",
    "pool_allowed_operations": (
        "ha_enable, ha_disable, cluster_create, designate_new_master, configure_repositories, sync_updates, "
        "sync_bundle, get_updates, apply_updates, tls_verification_enable, cert_refresh, "
        "exchange_certificates_on_join, exchange_ca_certificates_on_join, copy_primary_host_certs, eject, "
        "exchange_crls_on_join"
    ),
    "storage_operations": (
        "scan, destroy, forget, plug, unplug, update, vdi_create, vdi_introduce, vdi_destroy, vdi_resize, vdi_clone, "
        "vdi_snapshot, vdi_mirror, vdi_enable_cbt, vdi_disable_cbt, vdi_data_destroy, vdi_list_changed_blocks, "
        "vdi_set_on_boot, vdi_blocked, vdi_copy, vdi_force_unlock, vdi_forget, vdi_generate_config, vdi_resize_online, "
        "vdi_update, vdi_revert, pbd_create, pbd_destroy"
    ),
    "task_allowed_operations": "cancel, destroy",
    "task_status_type": "pending, success, failure, cancelling, cancelled",
    "telemetry_frequency": "daily, weekly, monthly",
    "tristate_type": "yes, no, unspecified",
    "update_guidances": (
        "reboot_host, reboot_host_on_livepatch_failure, reboot_host_on_kernel_livepatch_failure, "
        "reboot_host_on_xen_livepatch_failure, restart_toolstack, restart_device_model, restart_vm"
    ),
    "update_sync_frequency": "daily, weekly",
    "vbd_mode": "RO, RW",
    "vbd_operations": "attach, eject, insert, plug, unplug, unplug_force, pause, unpause",
    "vbd_type": "CD, Disk, Floppy",
    "vdi_operations": (
        "clone, copy, resize, resize_online, snapshot, mirror, destroy, forget, update, force_unlock, generate_config, "
        "enable_cbt, disable_cbt, data_destroy, list_changed_blocks, set_on_boot, blocked, revert_to, revert_from"
    ),
    "vdi_type": (
        "system, user, ephemeral, suspend, crashdump, ha_statefile, metadata, redo_log, rrd, pvs_cache, cbt_metadata"
    ),
    "vm_operations": (
        "snapshot, clone, copy, create_template, revert, checkpoint, snapshot_with_quiesce, provision, start, "
        "start_on, pause, unpause, clean_shutdown, clean_reboot, hard_shutdown, power_state_reset, hard_reboot, "
        "suspend, csvm, resume, resume_on, pool_migrate, migrate_send, get_boot_record, send_sysrq, send_trigger, "
        "query_services, shutdown, call_plugin, changing_memory_live, awaiting_memory_live, changing_dynamic_range, "
        "changing_static_range, changing_memory_limits, changing_shadow_memory, changing_shadow_memory_live, "
        "changing_VCPUs, changing_VCPUs_live, changing_NVRAM, assert_operation_valid, data_source_op, "
        "update_allowed_operations, make_into_template, import, export, metadata_export, reverting, destroy, "
        "create_vtpm, sysprep"
    ),
    "vm_power_state": "Halted, Paused, Running, Suspended",
    "vm_secureboot_certificates_state": "ok, update_available, update_on_boot",
    "vmss_frequency": "hourly, daily, weekly",
    "vmss_type": "snapshot, checkpoint, snapshot_with_quiesce",
}
