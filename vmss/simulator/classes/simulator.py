"""Methods that only the simulator has: its clock, its counters, its licence, its users, its guests."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict

from ..errors import XapiError
from ..registry import simulator_method
from ..values import from_seconds, to_seconds
from . import pool

if TYPE_CHECKING:
    from ..dispatch import Call


@simulator_method("simulator.set_time", ("value", "datetime"))
def set_time(call: "Call", value: datetime) -> Any:
    """Step the clock; what falls due on the way happens before the answer. The caller's session does not age."""
    call.sim.sessions.last_used[call.session] = to_seconds(value)
    call.sim.step_clock(to_seconds(value))


@simulator_method("simulator.get_time")
def get_time(call: "Call") -> datetime:
    return from_seconds(call.sim.kernel.now())


@simulator_method("simulator.get_counts")
def get_counts(call: "Call") -> Dict[str, Dict[str, int]]:
    """For each method: calls, and bytes of the HTTP bodies that came and went."""
    return {name: dict(traffic._asdict()) for name, traffic in call.sim.traffic().items()}


@simulator_method("simulator.reset_counts")
def reset_counts(call: "Call") -> None:
    call.sim.reset_counts()


@simulator_method("simulator.restrict", ("feature", "string"), ("restricted", "bool"))
def restrict(call: "Call", feature: str, restricted: bool) -> None:
    """Take a licensed feature (VMSS, VSS, Checkpoint, …) from the pool, or give it back."""
    pool.restrict(call.sim, feature, restricted)


@simulator_method("simulator.create_session", ("user", "string"), ("role", "string"))
def create_session(call: "Call", user: str, role: str) -> str:
    """A session as external authentication would make it, with one role instead of all rights."""
    if role not in call.sim.model.roles["ALL"]:
        raise XapiError("INVALID_VALUE", "role", role)
    session = call.sim.sessions.create(user, "", superuser=False)
    call.sim.sessions.roles[session] = role
    call.db.set("session", session, "auth_user_sid", "u:" + user)
    return session


@simulator_method("simulator.write", ("vdi", "ref VDI"), ("bytes", "int"))
def write(call: "Call", vdi: str, count: int) -> None:
    """Put new data into a disk, as its guest would."""
    call.db.row("VDI", vdi)
    call.sim.storage.manager.write(vdi, count)
