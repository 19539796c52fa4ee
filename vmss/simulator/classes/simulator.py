"""Methods that only the simulator has: its clock, counters, licence, users, guests and failures."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict, Generator, List

from .. import faults, licence, lifecycle
from ..errors import XapiError
from ..registry import simulator_method
from ..sr_types import SR_TYPES
from ..storage import REVERT_FEATURE
from ..values import from_seconds, to_seconds

if TYPE_CHECKING:
    from ..call import Call

Steps = Generator[Any, Any, Any]


@simulator_method("simulator.set_time", ("value", "datetime"))
def set_time(call: "Call", value: datetime) -> Any:
    """Step the clock; the timers that expire run before the answer. The caller's session stays fresh."""
    if call.session in call.sim.sessions.last_used:
        call.sim.sessions.last_used[call.session] = to_seconds(value)
    call.sim.step_clock(to_seconds(value))


@simulator_method("simulator.get_time")
def get_time(call: "Call") -> datetime:
    return from_seconds(call.sim.kernel.now())


@simulator_method("simulator.set_host_clock", ("host", "ref host"), ("seconds", "float"))
def set_host_clock(call: "Call", host: str, seconds: float) -> None:
    """Let the clock of a host be ahead of the pool's, or behind it, by so many seconds."""
    call.db.row("host", host)
    call.sim.hosts.clocks[host] = seconds


@simulator_method("simulator.get_counts")
def get_counts(call: "Call") -> Dict[str, Dict[str, int]]:
    """For each method: the number of calls, and the bytes of the HTTP bodies received and sent."""
    return {name: dict(traffic._asdict()) for name, traffic in call.sim.traffic().items()}


@simulator_method("simulator.reset_counts")
def reset_counts(call: "Call") -> None:
    call.sim.reset_counts()


@simulator_method("simulator.restrict", ("feature", "string"), ("restricted", "bool"))
def restrict(call: "Call", feature: str, restricted: bool) -> None:
    """Take a licensed feature (VMSS, VSS, Checkpoint, …) from the pool, or give it back."""
    licence.restrict(call.sim, feature, restricted)


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


@simulator_method("simulator.withhold", ("name", "string"), ("value", "bool"))
def withhold(call: "Call", name: str, value: bool) -> None:
    """Let the pool lack a method, or a defaulted parameter (CLASS.METHOD.PARAMETER), as an older xapi does."""
    methods, (cls, _, rest) = call.sim.dispatcher.methods, name.partition(".")
    method, _, wanted = rest.partition(".")
    found = methods.get("%s.%s" % (cls, method))
    optional = [parameter.name for parameter in found.parameters if parameter.optional] if found is not None else []
    if found is None or found.cls == "simulator" or (wanted and wanted not in optional[-1:]):
        raise XapiError("INVALID_VALUE", "name", name)
    withheld = call.sim.dispatcher.withheld
    (withheld.add if value else withheld.discard)(name)


@simulator_method("simulator.limit_rate", ("user_agent", "string"), ("burst", "float"), ("per_second", "float"))
def limit_rate(call: "Call", user_agent: str, burst: float, per_second: float) -> None:
    """Limit the calls of clients whose user agent begins so; with 0 tokens a second, no longer."""
    if not (0.0 < burst < float("inf") and 0.0 <= per_second < float("inf")):
        raise XapiError("INVALID_VALUE", "burst, per_second", "%g, %g" % (burst, per_second))
    call.sim.rate_limits.limit(user_agent, burst, per_second)


# --- failures ---


@simulator_method("simulator.restart", ("way", "string"), ("seconds", "float"))
def restart(call: "Call", way: str, seconds: float) -> Steps:
    """End xapi and start it again after some seconds: clean, kill (what was not written is lost), or host (the
    storage manager and the guests of the host die too). Answers when xapi has ended."""
    yield from lifecycle.restart(call.sim, way, seconds)


@simulator_method("simulator.fail_over", ("host", "ref host"), ("way", "string"), ("seconds", "float"))
def fail_over(call: "Call", host: str, way: str, seconds: float) -> Steps:
    """End xapi, and let another host be the coordinator when it starts again."""
    call.db.row("host", host)
    yield from lifecycle.restart(call.sim, way, seconds, host)


@simulator_method("simulator.kill_host", ("host", "ref host"))
def kill_host(call: "Call", host: str) -> None:
    """A host loses its power. If it is the coordinator, the pool waits for it, or for another to take over."""
    call.db.row("host", host)
    if host == call.sim.hosts.coordinator and host not in call.sim.hosts.dead:
        lifecycle.die(call.sim, "host")
    call.sim.hosts.die(host)


@simulator_method("simulator.start_host", ("host", "ref host"))
def start_host(call: "Call", host: str) -> None:
    """Start a dead host; its guests are halted."""
    call.db.row("host", host)
    was_dead = host in call.sim.hosts.dead
    if host == call.sim.hosts.coordinator and was_dead:
        lifecycle.start(call.sim)
    call.sim.hosts.revive(host)
    if was_dead:
        lifecycle.lose_guests(call.sim, host)


@simulator_method("simulator.add_fault", ("rule", "map(string,string)"))
def add_fault(call: "Call", rule: Dict[str, str]) -> None:
    """Activate a rule; its keys are those of a fault in a file (see the manual)."""
    try:
        call.sim.faults.add(faults.parse_rule(rule))
    except faults.BadRule as error:
        raise XapiError("INVALID_VALUE", "rule", str(error))


@simulator_method("simulator.get_faults")
def get_faults(call: "Call") -> List[Dict[str, str]]:
    """The active rules, and how often each was applied."""
    return call.sim.faults.describe()


@simulator_method("simulator.clear_faults")
def clear_faults(call: "Call") -> None:
    call.sim.faults.clear()


@simulator_method("simulator.collide", ("count", "int"))
def collide(call: "Call", count: int) -> None:
    """Let xapi store so many of the next messages without links, as after an older database came back."""
    call.sim.messages.collisions = count


@simulator_method("simulator.fill", ("sr", "ref SR"), ("bytes", "int"))
def fill(call: "Call", sr: str, count: int) -> None:
    """Let foreign files occupy some bytes of an SR; 0 removes them."""
    call.sim.storage.manager.repository(sr).filler = count
    call.sim.storage.manager.show_space(sr)


@simulator_method("simulator.add_file", ("sr", "ref SR"), ("name", "string"), ("bytes", "int"))
def add_file(call: "Call", sr: str, name: str, size: int) -> None:
    """Put a file on an ISO SR; a scan finds it."""
    repository = call.sim.storage.manager.repository(sr)
    if name not in repository.images:
        repository.add(name, size)
        repository.resized(name)


@simulator_method("simulator.revert_in_place", ("value", "bool"))
def revert_in_place(call: "Call", value: bool) -> None:
    """Let the drivers of SRs of VHDs revert disks in place, or not, as the released ones."""
    for sm, row in list(call.db.tables["SM"].rows.items()):
        kind = SR_TYPES.get(row["type"])
        if kind is not None and kind.layout == "vhd":
            features = {name: version for name, version in row["features"].items() if name != REVERT_FEATURE}
            call.db.set("SM", sm, "features", {**features, REVERT_FEATURE: 1} if value else features)


@simulator_method("simulator.set_read_only", ("sr", "ref SR"), ("value", "bool"))
def set_read_only(call: "Call", sr: str, value: bool) -> None:
    """Let the file system of an SR fail, or mend it."""
    call.sim.storage.manager.repository(sr).read_only = value


@simulator_method("simulator.spoil", ("vdi_uuid", "string"), ("fault", "string"))
def spoil(call: "Call", uuid: str, fault: str) -> None:
    """Let the file of a disk be "missing" or "corrupt"; "" mends it."""
    if fault not in ("", "missing", "corrupt"):
        raise XapiError("INVALID_VALUE", "fault", fault)
    for repository in call.sim.storage.manager.repositories.values():
        if uuid in repository.images:
            repository.spoil(uuid, fault)
            return
    raise XapiError("UUID_INVALID", "VDI", uuid)
