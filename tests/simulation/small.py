"""Small worlds in which something is certain to happen that worlds drawn from seeds come to rarely."""

from datetime import datetime, timezone
from functools import lru_cache
from itertools import count
from random import Random
from typing import Callable, Dict, Iterator, List, NamedTuple

from tests.simulation.conduct import TAKES
from tests.simulation.faults import OPERATION_ERRORS, Fault
from tests.simulation.run import live
from tests.simulation.switches import SWITCHES, switched
from tests.simulation.world import PolicyShape, Shape
from vmss.edges.settings import Settings
from vmss.simulator.durations import Durations

HOURLY = PolicyShape("snapshot", "hourly", {"min": "0"}, 1, True)
SEED = 7


class SmallWorld(NamedTuple):
    """A shape, and the faults that strike in it. `telling`: it is the only one of its kind. `well`: no VM of it fails,
    and no run is told twice. `fails`: a VM fails. `all_run`: in the end each of its policies has run."""

    shape: Shape
    faults: List[Fault]
    telling: bool = True
    well: bool = False
    fails: bool = False
    all_run: bool = False

    def live(self) -> List[str]:
        """Run it. Return what did not hold."""
        outcome = live(SEED, self.faults, self.shape)
        found = [str(broken) for broken in outcome.found]
        found += ["%s struck of %d faults" % (len(outcome.struck), len(self.faults))] * (
            len(outcome.struck) != len(self.faults)
        )
        found += outcome.failures + outcome.twice if self.well else []
        found += ["no VM has failed"] * (self.fails and not outcome.failures)
        return found + ["%s has never run" % name for name in outcome.never_ran if self.all_run]


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
    # The first such call shows that the pass is at work.
    return [number for number, line in enumerate(history) if "pool.add_to_other_config" in line][1]


def _while_disks_wait(kind: str, seed: int) -> SmallWorld:
    """Somebody does something while the disks of expired snapshots wait for their turn."""
    return SmallWorld(_queue(), [Fault(1, _recorded() + 7, kind, seed)], telling=False)


def _over_a_slot() -> Shape:
    """A snapshot lasts until the next slot."""
    limits = Settings(timezone="UTC", snapshot_limit=9000, checkpoint_limit=9000, destroy_limit=9000)
    return small(4000.0)._replace(
        srs=("nfs",), policies=(HOURLY,), vms=(((0,), False, 0),), settings=limits, steps=(60, 60, 60, 60)
    )


def _calls(shape: Shape, number: int, *methods: str) -> List[int]:
    """The calls of a pass that are of these methods, where nothing happens."""
    words = [line.split()[1:3] for line in live(SEED, [], shape).history]
    return [int(at.split(".")[1]) for at, method in words if at.startswith("%d." % number) and method in methods]


def _seed(wanted: Callable[[Random], bool]) -> int:
    """The first seed with which a fault does what is wanted."""
    return next(seed for seed in count() if wanted(Random(seed)))


def _busy(random: Random) -> bool:
    return random.random() >= 0.3 and random.choice(OPERATION_ERRORS["VM.snapshot"])[0] == "OTHER_OPERATION_IN_PROGRESS"


def _power(vm: int, of: int, method: str) -> int:
    """The seed with which somebody changes the power state of a VM right before a call."""

    def wanted(random: Random) -> bool:
        return (
            random.random() >= 0.5
            and random.choice(range(of)) == vm
            and random.choice(["VM.hard_shutdown", "VM.start", "VM.suspend"]) == method
        )

    return _seed(wanted)


def _answers_lost() -> Iterator[SmallWorld]:
    """The answer to each call that asks for a snapshot is lost, or each is refused because the VM is busy."""
    for call in _calls(small(), 1, *TAKES):
        yield SmallWorld(small(), [Fault(1, call, "lost_after", 0)], well=True)
    for call in _calls(small(), 1, "Async.VM.snapshot"):
        yield SmallWorld(small(), [Fault(1, call, "operation_fails", _seed(_busy))], well=True)
        yield SmallWorld(small(), [Fault(1, call, "failed_all_the_same", 0)], well=True)
    first_destroyed = _calls(small(), 1, "Async.VM.destroy")[0]
    for call in _calls(small(), 1, "event.from"):
        if call < first_destroyed:
            yield SmallWorld(small(), [Fault(1, call, "task_gone", 0)], well=True)
    for call in _calls(small(), 1, "message.create"):
        yield SmallWorld(small(), [Fault(1, call, "stored_all_the_same", 0)], well=True)
        yield SmallWorld(small(), [Fault(1, call, "refused", 0)], well=True)


def _waiting() -> Iterator[SmallWorld]:
    """VMs wait for their SR longer than a look at them is good for."""
    one = small(100.0)._replace(srs=("nfs",), vms=(((0,), True, 0), ((0,), False, 0), ((0,), False, 0)))
    for kind in ("snapshot", "checkpoint", "snapshot_with_quiesce"):
        yield SmallWorld(one._replace(policies=(HOURLY._replace(type=kind),)), [], well=True)
    gone = _seed(lambda random: random.random() >= 0.5 and random.choice(range(3)) == 2 and random.choice((0, 1)) == 1)
    shape = one._replace(policies=(HOURLY,))
    yield SmallWorld(shape, [Fault(1, _calls(shape, 1, *TAKES)[0] + 1, "vm_reassigned", gone)])


def _checkpoints() -> Iterator[SmallWorld]:
    """A VM is shut down, or suspended, around its checkpoint."""
    (call,) = _calls(small(), 1, "Async.VM.checkpoint")
    yield SmallWorld(small(), [Fault(1, call, "vm_power", _power(2, 3, "VM.hard_shutdown"))])
    killed = Fault(1, call, "killed_after", 0)
    yield SmallWorld(small(), [killed, Fault(2, 1, "vm_power", _power(2, 3, "VM.suspend"))])
    yield SmallWorld(small(), [Fault(1, call, "checkpoint_stays_down", 0), Fault(1, call + 1, "killed_after", 0)])


def _first_slots() -> Iterator[SmallWorld]:
    """A policy that never ran has its slot while a pass is at work that does not come to its end."""
    first = PolicyShape("snapshot", "daily", {"hour": "1", "min": "15"}, 1, False)
    shape = small(1500.0)._replace(
        srs=("nfs",),
        policies=(first._replace(schedule={"hour": "1", "min": "0"}, ran=True), first),
        vms=(((0,), False, 0), ((0,), False, 0), ((0,), False, 1)),
        start=datetime(2026, 1, 5, tzinfo=timezone.utc),
        steps=(60, 15, 15),
    )
    times = [line.split()[:2] for line in live(SEED, [], shape).history]
    late = [int(at[2:]) for seconds, at in times if at.startswith("0.") and float(seconds) > 3600 + 35 * 60]
    for kind in ("killed_after", "stop_asked"):
        yield SmallWorld(shape, [Fault(0, late[0], kind, 0)], all_run=True)


def _two_of_a_name() -> SmallWorld:
    """The clock is set back to before a slot that was served, and comes to it again: while it had been served, one VM
    had waited for its SR, so that its snapshot is younger than the slot."""
    shape = small(60.0)._replace(
        srs=("nfs",),
        policies=(HOURLY,),
        vms=(((0,), False, 0),) * 4,
        start=datetime(2026, 1, 5, tzinfo=timezone.utc),
        steps=(60, 1, 15, 15),
    )
    (call,) = _calls(shape, 0, "session.logout")
    back = _seed(lambda random: random.random() >= 0.5 and random.choice([61.0, 1000.0, 3600.0, 72000.0]) == 1000.0)
    return SmallWorld(shape, [Fault(0, call, "clock_back", back)])


def _deletions() -> Iterator[SmallWorld]:
    """What deletions meet: disks that stay, or hang for longer than anybody waits for an alert, a database that cannot
    be written, a new snapshot that lacks a disk."""
    hours = Settings(timezone="UTC", destroy_limit=4 * 3600)
    shape = small()._replace(settings=hours)
    fails = _seed(lambda random: random.choice(OPERATION_ERRORS["VDI.destroy"])[0] == "SR_BACKEND_FAILURE_80")
    for call in _calls(shape, 1, "Async.VDI.destroy"):
        yield SmallWorld(shape, [Fault(1, call, "operation_hangs", 0)])
        yield SmallWorld(shape, [Fault(1, call, "operation_fails", fails)])
    for call in _calls(small(), 1, "pool.sync_database"):
        yield SmallWorld(small(), [Fault(1, call, "refused", 0)])
    for call in _calls(small(), 1, "event.from")[:9:2]:
        yield SmallWorld(small(), [Fault(1, call, "disk_taken", 0)])
    ended = _calls(small(), 1, "task.destroy")[0]
    yield SmallWorld(small(), [Fault(1, ended, "newest_gone", 0)], fails=True)


def _roomy() -> Shape:
    """Eight VMs, some of which run, under three schedules that keep several, and passes that skip some slots."""
    policies = (
        HOURLY._replace(retained=3),
        HOURLY._replace(type="checkpoint", schedule={"min": "15"}, retained=2),
        HOURLY._replace(retained=2),
    )
    return small()._replace(
        policies=policies,
        vms=tuple(((0, 1) if number % 2 else (0,), number % 3 == 0, number % 3) for number in range(8)),
        start=datetime(2026, 1, 5, tzinfo=timezone.utc),
        steps=(60, 75, 180, 60, 15, 1440, 60),
    )


def _switched_on() -> Iterator[SmallWorld]:
    """Each thing that can be switched on, and all of them: nothing fails, and what is left undone is excused."""
    for name in SWITCHES:
        yield SmallWorld(switched(_roomy(), 2, [name]), [])
    yield SmallWorld(switched(_roomy(), 2, sorted(SWITCHES)), [])


def _worlds() -> Iterator[SmallWorld]:
    yield from _switched_on()
    yield from _answers_lost()
    yield from _waiting()
    yield from _checkpoints()
    yield from _first_slots()
    yield _two_of_a_name()
    yield from _deletions()
    yield SmallWorld(_over_a_slot(), [])
    for number in (1, 2, 3):
        killed = [Fault(it, 20, "killed_after", 0) for it in range(number)]
        yield SmallWorld(_over_a_slot(), killed)
    for call in range(2, 42, 4):
        for seed in range(3):
            yield SmallWorld(small(), [Fault(1, call, "snapshot_now", seed)], telling=False)
    for call in range(8, 40, 4):
        for seed in range(6):
            yield SmallWorld(small(100.0), [Fault(1, call, "vm_power", seed)], telling=False)
    for kind in ("disk_attached", "snapshot_pinned"):
        for seed in range(3):
            yield _while_disks_wait(kind, seed)


@lru_cache(maxsize=None)
def worlds() -> Dict[str, SmallWorld]:
    """The small worlds, by name."""
    return {
        "%d: %s" % (number, " ".join(it.shape.switched + tuple(map(str, it.faults))) or "no fault"): it
        for number, it in enumerate(_worlds())
    }
