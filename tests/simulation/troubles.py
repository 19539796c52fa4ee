"""What goes on in a world of weeks: troubles that last, and end again, and what people do.

Each kind is a generator: it begins the trouble, yields whom it touches, and ends it. What is over at once yields too.
"""

from random import Random
from typing import TYPE_CHECKING, Any, Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Tuple

from tests.simulation.ledger import NULL, Touch
from vmss.simulator.build import vbd_record, vdi_record, vm_record
from vmss.simulator.faults import Rule

if TYPE_CHECKING:
    from tests.simulation.weeks import Weeks

GIB = 1 << 30
MIB = 1 << 20
HOUR, DAY = 4, 96  # in quarters of an hour
# The delay of an operation that ends with the trouble.
UNTIL_THE_END = -1.0


class Trouble(NamedTuple):
    """What begins at some quarter of an hour since the world's beginning, and lasts so many of them; `seed` decides
    whatever else there is to it."""

    at: int
    lasts: int
    kind: str
    seed: int

    def __str__(self) -> str:
        return "%d+%d:%s:%d" % (self.at, self.lasts, self.kind, self.seed)


def parse_troubles(text: str) -> List[Trouble]:
    """The troubles that a list of them, separated by spaces, says."""
    found = []
    for word in text.split():
        at, kind, seed = word.split(":")
        begins, lasts = at.split("+")
        found.append(Trouble(int(begins), int(lasts), kind, int(seed)))
    return found


class Scene(NamedTuple):
    """Where a trouble happens: the world, what is left to chance, and how long it will last, in seconds."""

    world: "Weeks"
    random: Random
    seconds: float


Kind = Callable[[Scene], Iterator[Touch]]


def _these(*refs: str) -> FrozenSet[str]:
    return frozenset(refs)


# Storage


def _disks_on(world: "Weeks", sr: str) -> str:
    """The name of all disks that were made on an SR, and of their snapshots: faults go by it."""
    return "disk on sr %d" % world.srs.index(sr)


def _with_rules(scene: Scene, sr: str, **how: Any) -> Iterator[Touch]:
    """Let all operations on the disks of an SR end in some way."""
    rules = [
        scene.world.rule(Rule(method=method, object=_disks_on(scene.world, sr), count=0, **how), scene.seconds)
        for method in ("VDI.snapshot", "VDI.destroy", "VDI.clone")
    ]
    yield Touch(srs=_these(sr))
    scene.world.forget(rules)


def sr_hangs(scene: Scene) -> Iterator[Touch]:
    """What is started on an SR does not end before the trouble does."""
    return _with_rules(scene, scene.random.choice(scene.world.srs), action="delay", seconds=UNTIL_THE_END)


def sr_hangs_for_good(scene: Scene) -> Iterator[Touch]:
    """What is started on an SR never ends, until somebody restarts xapi."""
    yield from _with_rules(scene, scene.random.choice(scene.world.srs), action="hang")
    scene.world.restart("clean", 5.0)


def sr_slow(scene: Scene) -> Iterator[Touch]:
    """Everything on an SR takes some minutes more."""
    seconds = scene.random.choice([120.0, 400.0])
    return _with_rules(scene, scene.random.choice(scene.world.srs), action="delay", seconds=seconds)


def sr_full(scene: Scene) -> Iterator[Touch]:
    """Foreign files fill an SR."""
    sr = scene.random.choice(scene.world.srs)
    scene.world.call("simulator.fill", "", sr, 1 << 50)
    yield Touch(srs=_these(sr), takes_only=True)
    scene.world.call("simulator.fill", "", sr, 0)


def sr_read_only(scene: Scene) -> Iterator[Touch]:
    """The file system of an SR can only be read."""
    sr = scene.random.choice(scene.world.srs)
    scene.world.call("simulator.set_read_only", "", sr, True)
    yield Touch(srs=_these(sr), refused=True)
    scene.world.call("simulator.set_read_only", "", sr, False)


def sr_away(scene: Scene) -> Iterator[Touch]:
    """An SR has none of its PBDs plugged."""
    world, sr = scene.world, scene.random.choice(scene.world.srs)
    pbds = [ref for ref in world.sim.db.pointing_at("PBD", "SR", sr) if world.row("PBD", ref)["currently_attached"]]
    for pbd in pbds:
        world.sim.db.set("PBD", pbd, "currently_attached", False)
    yield Touch(srs=_these(sr))
    for pbd in pbds:
        if world.sim.db.exists("PBD", pbd):
            world.sim.db.set("PBD", pbd, "currently_attached", True)
    world.see_that_it_stays()


def disk_stays(scene: Scene) -> Iterator[Touch]:
    """The disks of one VM's snapshots cannot be destroyed."""
    world = scene.world
    vm = world.some_vm(scene.random, scheduled=True)
    if vm is None:
        return
    rules = []
    for snapshot in world.snapshots_of(vm):
        for disk in world.disks_of(snapshot):
            error = ["SR_BACKEND_FAILURE_80", "", "Failed to mark VDI hidden", ""]
            rules.append(world.rule(Rule(method="VDI.destroy", action="error", object=disk, error=error, count=0)))
    yield Touch(vms=_these(vm), kept=frozenset(world.snapshots_of(vm)), refused=True)
    world.forget(rules)


def _oldest_snapshot(scene: Scene) -> str:
    """The oldest snapshot of some VM; empty if it has none."""
    vm = scene.world.some_vm(scene.random, scheduled=True)
    return next(iter(scene.world.snapshots_of(vm)), "") if vm else ""


def snapshot_stays(scene: Scene) -> Iterator[Touch]:
    """The oldest snapshot of a VM cannot be destroyed. It keeps no other from being deleted."""
    world, snapshot = scene.world, _oldest_snapshot(scene)
    if not snapshot:
        return
    error = ["INTERNAL_ERROR", "Not_found"]
    rule = world.rule(Rule(method="VM.destroy", action="error", object=snapshot, error=error, count=0))
    yield Touch(kept=_these(snapshot), refused=True)
    world.forget([rule])


def snapshot_copied(scene: Scene) -> Iterator[Touch]:
    """The oldest snapshot of a VM is being copied or exported."""
    world, snapshot = scene.world, _oldest_snapshot(scene)
    if not snapshot:
        return
    operation = {"OpaqueRef:copying": scene.random.choice(["copy", "export"])}
    world.sim.db.set("VM", snapshot, "current_operations", operation)
    world.sim.refresh_operations("VM", snapshot)
    yield Touch(kept=_these(snapshot))
    if world.sim.db.exists("VM", snapshot):
        world.sim.db.set("VM", snapshot, "current_operations", {})
        world.sim.refresh_operations("VM", snapshot)


def chain_too_long(scene: Scene) -> Iterator[Touch]:
    """A VM has so many snapshots that it can have no more."""
    world = scene.world
    vm = world.some_vm(scene.random, scheduled=True)
    disks = world.disks_of(vm) if vm else []
    if vm is None or not disks:
        return
    error = ["SR_BACKEND_FAILURE_109", "", "The snapshot chain is too long", ""]
    rule = world.rule(Rule(method="VDI.snapshot", action="error", object=disks[0], error=error, count=0))
    yield Touch(vms=_these(vm), takes_only=True, lasting=True)
    world.forget([rule])


# Hosts, xapi and the clock


def host_down(scene: Scene) -> Iterator[Touch]:
    """A host loses its power."""
    world = scene.world
    members = [host for host in world.hosts if host not in (world.sim.this_host, world.here)]
    if not members:
        return
    host = scene.random.choice(members)
    guests = [vm for vm in world.living() if world.row("VM", vm)["resident_on"] == host]
    world.call("simulator.kill_host", "", host)
    yield Touch(vms=frozenset(guests), hosts=_these(host))
    if host in world.sim.hosts.dead:
        world.call("simulator.start_host", "", host)
    world.ledger.accept(*guests)
    for vm in guests:
        world.outside("VM.start", vm, False, False)
    world.ledger.accept(*guests)


def xapi_restarted(scene: Scene) -> Iterator[Touch]:
    """xapi ends and starts again."""
    yield Touch(everybody=True)
    scene.world.restart("clean", scene.random.choice([5.0, 40.0]))


def xapi_struck(scene: Scene) -> Iterator[Touch]:
    """xapi is killed, or restarted, in the middle of the next pass that does something."""
    kind = scene.random.choice(["xapi_killed", "xapi_killed", "xapi_restarted"])
    scene.world.strike_at(scene.random.randrange(1, 60), kind)
    yield Touch()


def pass_killed(scene: Scene) -> Iterator[Touch]:
    """Our process is killed in the middle of the next pass that does something."""
    kind = scene.random.choice(["killed_before", "killed_after"])
    scene.world.strike_at(scene.random.randrange(1, 60), kind)
    yield Touch()


def some_fault(scene: Scene) -> Iterator[Touch]:
    """Any of the faults that calls can meet."""
    kinds = ["lost_before", "lost_after", "refused", "events_lost", "operation_fails", "operation_silent", "task_gone"]
    for _ in range(scene.random.randint(1, 3)):
        scene.world.strike_at(scene.random.randrange(1, 80), scene.random.choice(kinds))
    yield Touch()


def coordinator_changed(scene: Scene) -> Iterator[Touch]:
    """Another host becomes the coordinator."""
    world = scene.world
    others = [host for host in world.hosts if host != world.sim.this_host and host not in world.sim.hosts.dead]
    if not others:
        return
    yield Touch(everybody=True)
    world.restart("clean", 5.0, scene.random.choice(others))


def _clock_off(scene: Scene, seconds: float) -> Iterator[Touch]:
    scene.world.set_clock(seconds)
    yield Touch(everybody=True)
    scene.world.set_clock(-seconds)


def clock_ahead(scene: Scene) -> Iterator[Touch]:
    """The clock is far ahead for some runs."""
    return _clock_off(scene, scene.random.choice([365 * 86400.0, 86400.0, 3 * 3600.0]))


def clock_behind(scene: Scene) -> Iterator[Touch]:
    """The clock is behind for some time."""
    return _clock_off(scene, -scene.random.choice([3 * 86400.0, 7200.0, 1800.0]))


def host_clock_off(scene: Scene) -> Iterator[Touch]:
    """The clock of a member is wrong for some time; the pool goes by it if that becomes the coordinator."""
    world = scene.world
    members = [host for host in world.hosts if host != world.sim.this_host]
    if not members:
        return
    host = scene.random.choice(members)
    world.set_host_clock(host, scene.random.choice([-7200.0, -600.0, -180.0, 180.0, 600.0, 3600.0]))
    yield Touch()
    world.set_host_clock(host, 0.0)


# People


def vm_comes(scene: Scene) -> Iterator[Touch]:
    """A new VM, on a schedule."""
    world, random = scene.world, scene.random
    session = world.call("session.login_with_password", "root", "", "1.0", "somebody")
    memory = dict.fromkeys(
        ("memory_static_max", "memory_dynamic_max", "memory_dynamic_min", "memory_static_min"), str(256 * MIB)
    )
    vm = str(world.call("VM.create", session, vm_record("vm %d" % len(world.vms), **memory)))
    sr = random.choice(world.srs)
    disk = world.outside("VDI.create", vdi_record(_disks_on(world, sr), sr, GIB))
    if disk is not None:  # where the SR fails, the VM has no disk
        world.call("VBD.create", session, vbd_record(vm, disk, "0"))
    if random.random() < 0.5:
        world.outside("VM.start", vm, False, False)
    world.outside("VM.set_snapshot_schedule", vm, random.choice(world.policies))
    world.call("session.logout", session)
    world.vms.append(vm)
    world.ledger.accept(vm)
    yield Touch()


def vm_goes(scene: Scene) -> Iterator[Touch]:
    """A VM is deleted, with its disks and snapshots."""
    world = scene.world
    vm = world.some_vm(scene.random)
    if vm is not None and len(world.living()) > 2:
        world.remove(vm)
    yield Touch()


def vm_moves(scene: Scene) -> Iterator[Touch]:
    """A VM gets another schedule, or none."""
    world = scene.world
    vm = world.some_vm(scene.random)
    if vm is not None:
        world.outside("VM.set_snapshot_schedule", vm, scene.random.choice(world.policies * 3 + [NULL]))
    yield Touch()


def vm_power(scene: Scene) -> Iterator[Touch]:
    """Somebody shuts a VM down, starts, suspends or resumes it."""
    world = scene.world
    vm = world.some_vm(scene.random)
    if vm is not None:
        ways: Dict[str, List[Tuple[str, List[Any]]]] = {
            "Running": [("VM.hard_shutdown", []), ("VM.suspend", [])],
            "Halted": [("VM.start", [False, False])],
            "Suspended": [("VM.resume", [False, False])],
        }
        otherwise: List[Tuple[str, List[Any]]] = [("VM.hard_shutdown", [])]
        method, more = scene.random.choice(ways.get(world.row("VM", vm)["power_state"], otherwise))
        world.outside(method, vm, *more)
        world.ledger.accept(vm)
    yield Touch(vms=_these(*([vm] if vm else [])))


def vm_migrated(scene: Scene) -> Iterator[Touch]:
    """A VM moves to another host."""
    world = scene.world
    vm = world.some_vm(scene.random)
    if vm is not None:
        world.outside("VM.pool_migrate", vm, scene.random.choice(world.hosts), {})
        world.ledger.accept(vm)
    yield Touch(vms=_these(*([vm] if vm else [])))


def vm_reverted(scene: Scene) -> Iterator[Touch]:
    """A VM is reverted to one of its snapshots."""
    world = scene.world
    vm = world.some_vm(scene.random, scheduled=True)
    snapshots = world.snapshots_of(vm) if vm else []
    if vm is None or not snapshots:
        return
    world.outside("VM.revert", scene.random.choice(snapshots))
    world.ledger.accept(vm)
    yield Touch(vms=_these(vm))


def snapshot_pinned(scene: Scene) -> Iterator[Touch]:
    """Somebody wants to keep a snapshot for some time."""
    world = scene.world
    vm = world.some_vm(scene.random, scheduled=True)
    snapshots = world.snapshots_of(vm) if vm else []
    if not snapshots:
        return
    snapshot = scene.random.choice(snapshots)
    world.outside("VM.add_to_blocked_operations", snapshot, "destroy", "keep")
    yield Touch(kept=_these(snapshot))
    world.outside("VM.remove_from_blocked_operations", snapshot, "destroy")
    world.see_that_it_stays()


def vm_blocked(scene: Scene) -> Iterator[Touch]:
    """Somebody wants no snapshots of a VM for some time."""
    world = scene.world
    vm = world.some_vm(scene.random)
    if vm is None:
        return
    for operation in ("snapshot", "checkpoint"):
        world.outside("VM.add_to_blocked_operations", vm, operation, "no")
    yield Touch(vms=_these(vm), takes_only=True, lasting=True)
    for operation in ("snapshot", "checkpoint"):
        world.outside("VM.remove_from_blocked_operations", vm, operation)
    world.see_that_it_stays()


def retention_changed(scene: Scene) -> Iterator[Touch]:
    """More are to be kept of each VM, or fewer."""
    world = scene.world
    world.outside("VMSS.set_retained_snapshots", scene.random.choice(world.policies), str(scene.random.randint(1, 7)))
    yield Touch()


def schedule_off(scene: Scene) -> Iterator[Touch]:
    """A schedule is disabled for some time."""
    policy = scene.random.choice(scene.world.policies)
    scene.world.outside("VMSS.set_enabled", policy, False)
    yield Touch()
    scene.world.outside("VMSS.set_enabled", policy, True)


def run_by_hand(scene: Scene) -> Iterator[Touch]:
    """Somebody asks for a run of a schedule."""
    scene.world.run_by_hand(scene.random.choice(scene.world.policies))
    yield Touch()


def asked_meanwhile(scene: Scene) -> Iterator[Touch]:
    """Somebody asks for a run of a schedule while the next pass that does something is at work."""
    scene.world.ask_meanwhile(scene.random.randrange(4, 60), scene.random.choice(scene.world.policies))
    yield Touch()


def prune_by_hand(scene: Scene) -> Iterator[Touch]:
    """Somebody has what exceeds retention deleted at once."""
    scene.world.prune_by_hand()
    yield Touch()


def licence_gone(scene: Scene) -> Iterator[Touch]:
    """The licence has no scheduled snapshots for some time."""
    scene.world.call("simulator.restrict", "", "VMSS", True)
    yield Touch(everybody=True)
    scene.world.call("simulator.restrict", "", "VMSS", False)


class Often(NamedTuple):
    """How often a kind occurs, and how long it lasts, in quarters."""

    kind: Kind
    weight: float
    shortest: int = 0
    longest: int = 0


KINDS: Dict[str, Often] = {
    it.kind.__name__: it
    for it in (
        Often(sr_hangs, 2, HOUR, 12 * HOUR),
        Often(sr_hangs_for_good, 1, HOUR, 8 * HOUR),
        Often(sr_slow, 1, HOUR, DAY),
        Often(sr_full, 2, HOUR, 2 * DAY),
        Often(sr_read_only, 1, HOUR, DAY),
        Often(sr_away, 2, 1, DAY),
        Often(disk_stays, 2, HOUR, DAY),
        Often(snapshot_stays, 2, HOUR, 2 * DAY),
        Often(snapshot_copied, 2, HOUR, 12 * HOUR),
        Often(chain_too_long, 1, HOUR, 2 * DAY),
        Often(host_down, 1.5, 1, DAY),
        Often(xapi_restarted, 1.5, 1, 1),
        Often(xapi_struck, 2, DAY, DAY),
        Often(pass_killed, 2, DAY, DAY),
        Often(some_fault, 2, DAY, DAY),
        Often(coordinator_changed, 1, 1, 1),
        Often(clock_ahead, 1, 3 * HOUR, 3 * DAY),
        Often(clock_behind, 0.5, HOUR, DAY),
        Often(host_clock_off, 1, HOUR, 2 * DAY),
        Often(licence_gone, 0.5, HOUR, DAY),
        Often(vm_comes, 2),
        Often(vm_goes, 1.5),
        Often(vm_moves, 3),
        Often(vm_power, 3, 1, 1),
        Often(vm_migrated, 1, 1, 1),
        Often(vm_reverted, 1.5, 1, 1),
        Often(snapshot_pinned, 1.5, DAY, 4 * DAY),
        Often(vm_blocked, 1, HOUR, DAY),
        Often(retention_changed, 2.5),
        Often(schedule_off, 1, HOUR, 2 * DAY),
        Often(run_by_hand, 1.5),
        Often(asked_meanwhile, 1.5, DAY, DAY),
        Often(prune_by_hand, 1),
    )
}


def draw_troubles(random: Random, quarters: int, rate: float) -> List[Trouble]:
    """The troubles of a world: `rate` a day. Swarm: each seed leaves some kinds out."""
    kinds = [name for name in sorted(KINDS) if random.random() < 0.5] or [random.choice(sorted(KINDS))]
    found = []
    for _ in range(max(1, int(rate * quarters / DAY))):
        (name,) = random.choices(kinds, [KINDS[kind].weight for kind in kinds])
        lasts = random.randint(KINDS[name].shortest, KINDS[name].longest)
        found.append(Trouble(random.randrange(quarters), lasts, name, random.getrandbits(32)))
    return sorted(found)


def begin(world: "Weeks", trouble: Trouble) -> Optional[Tuple[Touch, Iterator[Touch]]]:
    """Begin a trouble. Return whom it touches and what ends it; None where there was nobody to have it."""
    going = iter(KINDS[trouble.kind].kind(Scene(world, Random(trouble.seed), trouble.lasts * 900.0)))
    touch = next(going, None)
    return None if touch is None else (touch, going)
