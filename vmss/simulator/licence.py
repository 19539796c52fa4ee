"""The one pool, and the features that its licence allows (xapi: ocaml/xapi/pool_features.ml)."""

from typing import TYPE_CHECKING

from .errors import XapiError

if TYPE_CHECKING:
    from .simulator import Simulator


def the_pool(sim: "Simulator") -> str:
    """There is always exactly one pool."""
    return next(iter(sim.db.tables["pool"].rows))


def require_feature(sim: "Simulator", feature: str) -> None:
    """Raise LICENCE_RESTRICTION unless the pool's licence has the feature; a missing key restricts."""
    restrictions = sim.db.row("pool", the_pool(sim))["restrictions"]
    if restrictions.get("restrict_" + feature.lower()) != "false":
        raise XapiError("LICENCE_RESTRICTION", feature)


def restrict(sim: "Simulator", feature: str, restricted: bool) -> None:
    """Grant or revoke a licensed feature on every host."""
    key = "restrict_" + feature.lower()
    word = "true" if restricted else "false"
    for host, row in list(sim.db.tables["host"].rows.items()):
        sim.db.set("host", host, "license_params", {**row["license_params"], key: word})
    pool = the_pool(sim)
    sim.db.set("pool", pool, "restrictions", {**sim.db.row("pool", pool)["restrictions"], key: word})
