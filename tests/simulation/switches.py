"""What an administrator may have switched on in a world: settings, tags of VMs, marks of disks, and people who change
schedules and VMs between passes.

Each seed draws it from numbers of its own, so that all else in its world stays as it was. Half of the worlds have
nothing switched on, some one thing, some several. Each switch draws for itself: one that is taken away, or put beside
others, changes none of these.
"""

from random import Random
from typing import Any, Callable, Dict, List, Optional, Sequence

from tests.simulation.allowed import KEYED, NO_MEMORY, NONE, ONLY_RUNNING, PERIODS
from tests.simulation.world import Shape
from vmss.edges.settings import OfSchedule

# People who act between passes, see world.py.
POWER, SCHEDULES, TAGS = "power", "schedules", "tags"
# The mark of a disk that is left out by its name.
NAMED = "[NOSNAP]"

Switch = Callable[[Shape, Random], Shape]


def switched(shape: Shape, seed: int, names: Optional[Sequence[str]] = None) -> Shape:
    """The world of a seed with what the seed switches on; or with these, and nothing else."""
    names = drawn(seed) if names is None else names
    for name in names:
        shape = SWITCHES[name](shape, Random("switch %s %d" % (name, seed)))
    return shape._replace(switched=tuple(names))


def switched_for_weeks(shape: Shape, seed: int, names: Optional[Sequence[str]] = None) -> Shape:
    """The same of a world of weeks: there troubles shut VMs down, and go by the names of disks. A VM of which a disk is
    left out cannot be checkpointed: it gets a plain snapshot, for else it would fail at each slot."""
    shape = switched(shape, seed, names)
    marks = tuple(tuple(mark and KEYED for mark in of_vm) for of_vm in shape.marks)
    people = tuple(person for person in shape.people if person != POWER)
    if marks:
        shape = shape._replace(settings=shape.settings._replace(checkpoint_fallback="snapshot"))
    return shape._replace(marks=marks, people=people)


def drawn(seed: int) -> List[str]:
    """What a seed switches on."""
    random = Random("switches %d" % seed)
    kind, names = random.random(), sorted(SWITCHES)
    if kind < 0.5:
        return []
    return [random.choice(names)] if kind < 0.8 else [name for name in names if random.random() < 0.3]


def _set(shape: Shape, random: Random, **values: Any) -> Shape:
    """Set this for all schedules, or for one of them."""
    if random.random() < 0.7:
        return shape._replace(settings=shape.settings._replace(**values))
    name = "policy %d" % random.randrange(len(shape.policies))
    schedules = {one.schedule: dict(one.values) for one in shape.settings.schedules}
    schedules.setdefault(name, {}).update(values)
    of_one = tuple(OfSchedule(one, tuple(sorted(mine.items())), "the file") for one, mine in schedules.items())
    return shape._replace(settings=shape.settings._replace(schedules=of_one))


def _with(shape: Shape, person: str) -> Shape:
    return shape._replace(people=tuple(sorted(set(shape.people) | {person})))


def _tag(shape: Shape, random: Random, likely: float, tags: Callable[[], Sequence[str]]) -> Shape:
    """Give some of the VMs tags."""
    before = shape.tags or ((),) * len(shape.vms)
    return shape._replace(tags=tuple(mine + tuple(tags() if random.random() < likely else ()) for mine in before))


def _keep_halted(shape: Shape, random: Random) -> Shape:
    return _with(_set(shape, random, keep_halted=True), POWER)


def _late_limit(shape: Shape, random: Random) -> Shape:
    return _set(shape, random, late_limit=random.choice((0, 1800, 7200, 43200)))


def _checkpoint_late_limit(shape: Shape, random: Random) -> Shape:
    shape = _set(shape, random, checkpoint_late_limit=random.choice((0, 3600, 14400)))
    return shape._replace(
        policies=tuple(
            policy._replace(type="checkpoint") if random.random() < 0.5 else policy for policy in shape.policies
        )
    )


def _catch_up_changed(shape: Shape, random: Random) -> Shape:
    return _with(shape._replace(settings=shape.settings._replace(catch_up_changed=False)), SCHEDULES)


def _assign_by_tag(shape: Shape, random: Random) -> Shape:
    """Some VMs are on no schedule and have a tag that names one, or none that there is; some are on another, or have
    tags that contradict each other."""
    number = len(shape.policies)
    shape = _tag(shape, random, 0.6, lambda: ["vmss:policy %d" % random.choice([*range(number), *range(number + 1)])])
    shape = _tag(shape, random, 0.2, lambda: [random.choice((NONE, "vmss:policy 0"))])
    vms = [(disks, runs, -1 if random.random() < 0.5 else policy) for disks, runs, policy in shape.vms]
    return _with(shape._replace(settings=shape.settings._replace(assign_by_tag=True), vms=tuple(vms)), TAGS)


def _no_memory(shape: Shape, random: Random) -> Shape:
    policies = [it._replace(type="checkpoint") if random.random() < 0.6 else it for it in shape.policies]
    return _tag(shape._replace(policies=tuple(policies)), random, 0.5, lambda: [NO_MEMORY])


def _only_running(shape: Shape, random: Random) -> Shape:
    return _with(_tag(shape, random, 0.5, lambda: [ONLY_RUNNING]), POWER)


def _none(shape: Shape, random: Random) -> Shape:
    """It is for VMs that are on no schedule, and changes nothing for others."""
    return _tag(shape, random, 0.4, lambda: [NONE])


def _keep_of_vms(shape: Shape, random: Random) -> Shape:
    return _tag(shape, random, 0.5, lambda: ["vmss:keep=" + _rule(random).replace(" ", ",")])


def _left_out(shape: Shape, random: Random) -> Shape:
    """Some disks are left out, by their names or their records. Names only count where the setting has the mark."""
    marks = [tuple(random.choice(("", "", NAMED, KEYED)) for _ in disks) for disks, _, _ in shape.vms]
    shape = shape._replace(marks=tuple(marks))
    return _set(shape, random, skip_disks=NAMED) if random.random() < 0.7 else shape


def _rule(random: Random) -> str:
    periods = random.sample(PERIODS, random.randint(1, 3))
    return " ".join("%s:%d" % (period, random.choice((1, 2, 2, 3))) for period in periods)


def _keep(shape: Shape, random: Random) -> Shape:
    policies = [it._replace(retained=random.choice((1, 2, 3, 4, 6))) for it in shape.policies]
    shape = shape._replace(policies=tuple(policies))
    return _set(shape, random, keep=_rule(random), keep_days=random.choice((0, 0, 1, 3)))


SWITCHES: Dict[str, Switch] = {
    "assign_by_tag": _assign_by_tag,
    "catch_up_changed": _catch_up_changed,
    "checkpoint_late_limit": _checkpoint_late_limit,
    "keep": _keep,
    "keep_halted": _keep_halted,
    "keep_of_vms": _keep_of_vms,
    "late_limit": _late_limit,
    "left_out": _left_out,
    "no_memory": _no_memory,
    "none": _none,
    "only_running": _only_running,
}
