"""The one pool: whether it is being upgraded, and the features that its licence allows.

Source: xapi: ocaml/xapi/pool_features.ml, helpers.ml.
"""

from typing import TYPE_CHECKING

from .errors import XapiError

if TYPE_CHECKING:
    from .database import Database
    from .simulator import Simulator

_UPGRADE_KEY = "rolling_upgrade_in_progress"


def the_pool(sim: "Simulator") -> str:
    """There is always exactly one pool."""
    return next(iter(sim.db.tables["pool"].rows))


def is_upgrading(db: "Database") -> bool:
    """Whether the hosts of the pool are being upgraded one after another."""
    return any(_UPGRADE_KEY in pool["other_config"] for pool in db.tables["pool"].rows.values())


def require_feature(sim: "Simulator", feature: str) -> None:
    """Raise LICENCE_RESTRICTION unless the pool's licence has the feature; a missing key restricts."""
    restrictions = sim.db.row("pool", the_pool(sim))["restrictions"]
    if restrictions.get("restrict_" + feature.lower()) != "false":
        raise XapiError("LICENCE_RESTRICTION", feature)


def restrict(sim: "Simulator", feature: str, restricted: bool) -> None:
    """Grant or revoke a licensed feature on every host."""
    sim.licence["restrict_" + feature.lower()] = "true" if restricted else "false"
    enter(sim)


def enter(sim: "Simulator") -> None:
    """Enter into the database what the licence allows. xapi does so when it starts, too, because the licence daemon
    has it and not the database (xapi: ocaml/license/license_init.ml)."""
    pool = the_pool(sim)
    rows = [("host", host, "license_params") for host in sim.db.tables["host"].rows]
    for cls, ref, field in rows + [("pool", pool, "restrictions")]:
        now = {**sim.db.row(cls, ref)[field], **sim.licence}
        if now != sim.db.row(cls, ref)[field]:
            sim.db.set(cls, ref, field, now)
