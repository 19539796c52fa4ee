"""The pool: its creation as by an installer, its licence, saving the database."""

from typing import TYPE_CHECKING, Any, Dict, Generator, List

from .. import lifecycle
from ..errors import XapiError
from ..registry import method
from ..sr_types import FEATURE_VERSIONS, SR_TYPES
from . import host as hosts

if TYPE_CHECKING:
    from ..call import Call
    from ..simulator import Simulator

Steps = Generator[Any, Any, Any]

OPERATIONS = [
    "ha_enable", "cluster_create", "designate_new_master", "tls_verification_enable", "configure_repositories",
    "sync_updates", "sync_bundle", "apply_updates", "cert_refresh", "exchange_certificates_on_join",
    "exchange_ca_certificates_on_join", "copy_primary_host_certs", "eject", "get_updates",
    "exchange_crls_on_join",
]  # fmt: skip


def create_pool(sim: "Simulator") -> None:
    """Create what a new installation has: a pool of one host, its control domain, the storage plugins."""
    sim.this_host = hosts.create_host(sim, sim.db.new_uuid(), "host1", "Default install", "host1", "192.0.2.1")
    sim.db.update("host", sim.this_host, enabled=True, ssl_legacy=False, https_only=True, ssh_auto_mode=True)
    fields: Dict[str, Any] = {
        "master": sim.this_host,
        "other_config": {"memory-ratio-hvm": "0.25", "memory-ratio-pv": "0.25"},
        "allowed_operations": OPERATIONS,
        "ha_cluster_stack": "xhad",
        "ext_auth_cache_enabled": False,
        "restrictions": sim.db.row("host", sim.this_host)["license_params"],
    }
    sim.db.create("pool", fields)
    for kind in SR_TYPES.values():
        sim.db.create(
            "SM",
            {
                "name_label": kind.label,
                "name_description": kind.description,
                "type": kind.name,
                "vendor": "Citrix Systems Inc",
                "copyright": "(C) 2008 Citrix Systems Inc",
                "version": "1.0",
                "required_api_version": kind.required_api_version,
                "configuration": kind.configuration,
                "driver_filename": kind.driver,
                "features": {name: FEATURE_VERSIONS.get(name, 1) for name in sorted(kind.features)},
                "capabilities": sorted(kind.features),
            },
        )


@method("pool.sync_database")
def sync_database(call: "Call") -> None:
    """Write the database to the coordinator's disk, and to the state file if there is one."""
    call.db.written()
    if call.sim.state_path is not None:
        call.sim.save(call.sim.state_path)


@method("pool.is_slave")
def is_slave(call: "Call", host: str) -> bool:
    call.db.row("host", host)
    return host != call.sim.hosts.coordinator


@method("pool.designate_new_master")
def designate_new_master(call: "Call", host: str) -> Steps:
    """Make another host the coordinator; both restart their xapi, and the caller's connection breaks."""
    call.sim.hosts.reach(host)
    if host != call.sim.hosts.coordinator:
        yield from lifecycle.restart(call.sim, "clean", call.sim.draw("restart").seconds, host)


@method("pool.emergency_transition_to_master")
def emergency_transition(call: "Call") -> Steps:
    """Make a member the coordinator after the old one has died, with the member's copy of the database."""
    host = call.sim.hosts.at(call.origin)
    if host != call.sim.hosts.coordinator:
        yield from lifecycle.restart(call.sim, "kill", call.sim.draw("restart").seconds, host)


@method("pool.recover_slaves")
def recover_slaves(call: "Call") -> List[str]:
    hosts = call.sim.hosts
    return [host for host in call.db.tables["host"].rows if host != hosts.coordinator and hosts.is_listening(host)]


@method("pool.eject")
def eject(call: "Call", host: str) -> None:
    """A host leaves the pool and is reinstalled: all its records are removed."""
    call.sim.hosts.reach(host)
    if host == call.sim.hosts.coordinator:
        raise XapiError("HOST_IS_MASTER")
    call.sim.hosts.die(host)
    metrics = call.db.row("host", host)["metrics"]
    call.db.set("host_metrics", metrics, "live", False)
    hosts.destroy(call, host)


@method("pool.get_license_state")
def get_license_state(call: "Call", pool: str) -> Dict[str, str]:
    call.db.row("pool", pool)
    return {"edition": "xcp-ng", "expiry": "never"}


@method("pool.has_extension")
def has_extension(call: "Call", pool: str, name: str) -> bool:
    call.db.row("pool", pool)
    return False


@method("pool.add_to_guest_agent_config")
def add_to_guest_agent_config(call: "Call", pool: str, key: str, value: str) -> None:
    call.db.add_to_map("pool", pool, "guest_agent_config", key, value)


@method("pool.remove_from_guest_agent_config")
def remove_from_guest_agent_config(call: "Call", pool: str, key: str) -> None:
    call.db.remove_from_map("pool", pool, "guest_agent_config", key)


@method(
    "pool.set_igmp_snooping_enabled", "pool.set_uefi_certificates", "pool.set_custom_uefi_certificates",
    "pool.set_update_sync_enabled", "pool.set_local_auth_max_threads", "pool.set_ext_auth_max_threads",
    "pool.set_ext_auth_cache_enabled", "pool.set_ext_auth_cache_size", "pool.set_ext_auth_cache_expiry",
)  # fmt: skip
def set_field(call: "Call", pool: str, value: Any) -> None:
    call.db.set("pool", pool, call.method[len("pool.set_") :], value)
