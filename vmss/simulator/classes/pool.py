"""The pool: its creation as by an installer, its licence, saving the database."""

from typing import TYPE_CHECKING, Any, Dict

from ..errors import XapiError
from ..registry import method
from ..sr_types import SR_TYPES
from . import host as hosts

if TYPE_CHECKING:
    from ..dispatch import Call
    from ..simulator import Simulator

OPERATIONS = [
    "ha_enable", "cluster_create", "designate_new_master", "tls_verification_enable", "configure_repositories",
    "sync_updates", "sync_bundle", "apply_updates", "cert_refresh", "exchange_certificates_on_join",
    "exchange_ca_certificates_on_join", "copy_primary_host_certs", "eject", "get_updates",
    "exchange_crls_on_join",
]  # fmt: skip


def create_pool(sim: "Simulator") -> None:
    """What a fresh installation holds: a pool of one host, its control domain, the storage plugins."""
    sim.this_host = hosts.create_host(
        sim, sim.db.new_uuid(), "host1", "Default install", "host1", "192.0.2.1"
    )
    sim.db.set("host", sim.this_host, "enabled", True)
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
                "features": dict.fromkeys(sorted(kind.features), 1),
                "capabilities": sorted(kind.features),
            },
        )


def the_pool(sim: "Simulator") -> str:
    """There is always exactly one pool."""
    return next(iter(sim.db.tables["pool"].rows))


def require_feature(sim: "Simulator", feature: str) -> None:
    """Raise LICENCE_RESTRICTION unless the pool's licence has the feature; a missing key restricts."""
    restrictions = sim.db.row("pool", the_pool(sim))["restrictions"]
    if restrictions.get("restrict_" + feature.lower()) != "false":
        raise XapiError("LICENCE_RESTRICTION", feature)


def restrict(sim: "Simulator", feature: str, restricted: bool) -> None:
    """Give or take a licensed feature on every host."""
    key = "restrict_" + feature.lower()
    word = "true" if restricted else "false"
    for host, row in list(sim.db.tables["host"].rows.items()):
        sim.db.set("host", host, "license_params", {**row["license_params"], key: word})
    pool = the_pool(sim)
    sim.db.set("pool", pool, "restrictions", {**sim.db.row("pool", pool)["restrictions"], key: word})


@method("pool.sync_database")
def sync_database(call: "Call") -> None:
    """Write the database out, where the simulator keeps one."""
    if call.sim.state_path is not None:
        call.sim.save(call.sim.state_path)


@method("pool.is_slave")
def is_slave(call: "Call", host: str) -> bool:
    call.db.row("host", host)
    return False
