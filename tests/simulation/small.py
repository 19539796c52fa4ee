"""Small worlds in which something is certain to happen that worlds drawn from seeds come to rarely."""

from functools import lru_cache
from typing import Dict, Iterator, List, NamedTuple, Sequence

from tests.simulation.faults import Fault
from tests.simulation.run import live
from tests.simulation.world import PolicyShape, Shape
from vmss.edges.settings import Settings
from vmss.simulator.durations import Durations

HOURLY = PolicyShape("snapshot", "hourly", {"min": "0"}, 1, True)
SEED = 7


class SmallWorld(NamedTuple):
    """A shape, and the faults that strike in it."""

    shape: Shape
    faults: List[Fault]


def small(seconds: float = 0.0) -> Shape:
    """Two policies and three VMs, one with two disks and one that is checkpointed; both keep one snapshot. `seconds`:
    how long all storage operations take, and then the third pass comes before those of the second have ended."""
    slow = Durations(vdi_snapshot=(seconds, seconds), vdi_destroy=(seconds, seconds))
    return Shape(
        zone="UTC",
        srs=("nfs", "lvm"),
        policies=(HOURLY, HOURLY._replace(type="checkpoint")),
        vms=(((0, 1), True, 0), ((0,), False, 0), ((1,), True, 1)),
        durations=slow if seconds else Durations(),
        settings=Settings(timezone="UTC"),
        steps=(60, 60, 1 if seconds else 15),
    )


def calls_of_the_second_pass(shape: Shape) -> int:
    """The number of calls that the second pass of a world makes."""
    return sum(1 for line in live(SEED, [], shape).history if line.split()[1].startswith("1."))


def _queue() -> Shape:
    """Twelve disks of one SR, which go one after another, each of which takes a while."""
    slow = Durations(vdi_snapshot=(1.0, 1.0), vdi_destroy=(100.0, 100.0))
    return small()._replace(
        srs=("nfs",), policies=(HOURLY,), vms=(((0,), False, 0),) * 12, durations=slow, steps=(60, 120)
    )


@lru_cache(maxsize=None)
def _recorded() -> int:
    """The call of the second pass with which it records what it deletes."""
    history = [line for line in live(SEED, [], _queue()).history if line.split()[1].startswith("1.")]
    return next(number for number, line in enumerate(history) if "pool.add_to_other_config" in line)


def _while_disks_wait(kind: str, seed: int) -> SmallWorld:
    """Somebody does something while the disks of expired snapshots wait for their turn."""
    return SmallWorld(_queue(), [Fault(1, _recorded() + 7, kind, seed)])


def _over_a_slot(call: int) -> SmallWorld:
    """A snapshot of a pass that was killed lasts until the next slot. No run of this pool ends before a policy is due
    again, so a pass goes on up to its limit: here a few slots, and not a day of them."""
    limits = Settings(
        timezone="UTC", snapshot_limit=9000, checkpoint_limit=9000, destroy_limit=9000, pass_limit=4 * 3600
    )
    shape = small(4000.0)._replace(settings=limits, steps=(60, 120, 60, 60))
    return SmallWorld(shape, [Fault(1, call, "killed_after", 0)])


def _worlds() -> Iterator[SmallWorld]:
    for call in range(2, 42, 4):
        for seed in range(3):
            yield SmallWorld(small(), [Fault(1, call, "snapshot_now", seed)])
    for call in range(8, 40, 4):
        for seed in range(6):
            yield SmallWorld(small(100.0), [Fault(1, call, "vm_power", seed)])
    for kind in ("disk_attached", "snapshot_pinned"):
        for seed in range(3):
            yield _while_disks_wait(kind, seed)
    for call in range(14, 40, 5):
        yield _over_a_slot(call)


def worlds() -> Dict[str, SmallWorld]:
    """The small worlds, by name."""
    return {"%s, %s" % (" ".join(map(str, it.faults)), _steps(it.shape.steps)): it for it in _worlds()}


def _steps(steps: Sequence[int]) -> str:
    return "-".join(map(str, steps))
