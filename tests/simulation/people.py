"""What people do between the passes of a world in which something is switched on."""

from random import Random
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

if TYPE_CHECKING:
    from tests.simulation.world import World

MINUTES = ("0", "15", "30", "45")


def _living(world: "World") -> List[str]:
    return [vm for vm in world.vms if world.sim.db.exists("VM", vm)]


def _sees(world: "World", method: str, *params: Any) -> None:
    """Somebody does it, and the observer sees what came of it."""
    world.outside(method, *params)
    world.observer.changed()


def power(world: "World", random: Random) -> None:
    """Somebody starts a VM, shuts it down, or does both."""
    vms = _living(world)
    if not vms or random.random() < 0.5:
        return
    vm = random.choice(vms)
    ways: Dict[str, List[Tuple[str, List[Any]]]] = {
        "Running": [("VM.hard_shutdown", []), ("VM.start", [False, False])],
        "Halted": [("VM.start", [False, False]), ("VM.hard_shutdown", [])],
    }
    for method, more in ways.get(world.sim.db.row("VM", vm)["power_state"], [])[: random.choice((1, 1, 2))]:
        _sees(world, method, vm, *more)


def schedules(world: "World", random: Random) -> None:
    """Somebody disables a schedule or enables it, or gives it another time or type."""
    policies = [policy for policy in world.policies if world.sim.db.exists("VMSS", policy)]
    if not policies or random.random() < 0.5:
        return
    policy = random.choice(policies)
    row = world.sim.db.row("VMSS", policy)
    other = {"snapshot": "checkpoint", "checkpoint": "snapshot"}.get(row["type"], row["type"])
    changes: List[Tuple[str, Any]] = [
        ("VMSS.set_enabled", not row["enabled"]),
        ("VMSS.set_enabled", True),
        ("VMSS.set_schedule", {"min": random.choice(MINUTES)}),
        ("VMSS.set_type", other),
    ]
    method, value = random.choice(changes)
    _sees(world, method, policy, value)


def tags(world: "World", random: Random) -> None:
    """Somebody gives a VM a tag that names a schedule, takes one away, or takes a VM off its schedule."""
    vms = _living(world)
    if not vms or random.random() < 0.5:
        return
    vm = random.choice(vms)
    mine = sorted(tag for tag in world.sim.db.row("VM", vm)["tags"] if tag.startswith("vmss:policy "))
    if random.random() < 0.3:
        _sees(world, "VM.set_snapshot_schedule", vm, "OpaqueRef:NULL")
    elif mine:
        _sees(world, "VM.remove_tags", vm, mine[0])
    else:
        _sees(world, "VM.add_tags", vm, "vmss:policy %d" % random.randrange(len(world.policies)))


PEOPLE: Dict[str, Callable[["World", Random], None]] = {"power": power, "schedules": schedules, "tags": tags}
