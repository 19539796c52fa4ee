"""The checks of a world of weeks, and which of them the product does not pass yet: each with a world that shows it.

To mend the product is to take its mark away: a mark whose world has become clean fails, and so does a lapse of a check
without a mark. What a check means is said where it is made: ledger.py, and for status and its remedies weeks.py.
"""

from datetime import datetime, timezone
from itertools import count
from random import Random
from typing import Any, Dict, NamedTuple, Sequence, Tuple

from tests.simulation.troubles import DAY, HOUR, Trouble
from tests.simulation.weeks import WeeksShape
from tests.simulation.world import PolicyShape, Shape
from vmss.edges.settings import Settings
from vmss.simulator.durations import Durations

UTC = timezone.utc

# What each check asks; the number is the invariant's, or the rule's where there is a word with it.
CHECKS: Dict[str, str] = {
    "1 assigned": "in the end each VM is on the schedule that its tag names, if it can be",
    "9 told": "a run is told soon after its limits, whatever hangs",
    "11 told": "a broken promise is told by status, also while a pass runs",
    "11 left told": "what is left over is told by status until it is gone",
    "11 room": "storage repositories that are nearly full are told, and no others",
    "11 chains": "storage repositories are said to coalesce nothing only if something waits there",
    "11 calm": "where all is well, status says OK",
    "11 made good": "also where a run has failed, and nothing of what it failed in is left",
    "11 tried again": "a VM that missed its slot has its snapshot soon after it is well again (rule 11)",
    "12 served": "a VM whose own storage and host work has its snapshot within minutes of its slot",
    "12 names": "two snapshots of a VM never bear one name (rule 12)",
    "13 kept": "after a run without trouble each VM has at most as many snapshots as are to be kept",
    "13 gently": "beyond the usual one a run deletes at most two more of a VM",
    "13 pruned": "vmss prune leaves each VM of a schedule as many as are to be kept, and others what they have",
    "13 paused": "what cannot be deleted is tried a few times a day",
    "13 again": "an expired snapshot that could not be deleted is gone soon after everything works again",
    "13 finished": "what is recorded to be destroyed is gone soon after everything works again",
    "14 clocks": "doctor names the hosts whose clocks are not the coordinator's, and no others",
    "14 runs": "a VM is in the state in which people left it",
    "15 usable": "a VM that had a usable snapshot has one",
    "16 named": "status names a command as the remedy for a VM without a snapshot",
    "16 mends": "that command gives the VM its snapshot",
    "16 costs nothing": "that command costs no other VM a snapshot",
    "handed over": "a run that a pass was asked for while it was at work has given each VM a snapshot, as it says",
    "jump": "a tick like those that were jumped over finds nothing to do",
    "crash": "a command ends without an error of its own",
}


class Case(NamedTuple):
    """A small world in which something happens, and the checks that the product does not pass in it yet, with the
    reason of each."""

    shape: WeeksShape
    marks: Dict[str, str] = {}


HOURLY = PolicyShape("snapshot", "hourly", {"min": "0"}, 3, True)
DAILY = PolicyShape("snapshot", "daily", {"hour": "3", "min": "0"}, 3, True)
WEEKLY = PolicyShape("snapshot", "weekly", {"hour": "3", "min": "0", "days": "Wednesday"}, 3, True)

A_MONDAY = datetime(2026, 3, 2, tzinfo=UTC)

Vms = Sequence[Tuple[Tuple[int, ...], bool, int]]


def world_of(
    vms: Vms,
    policies: Sequence[PolicyShape],
    troubles: Sequence[Trouble],
    days: float = 2,
    zone: str = "UTC",
    start: datetime = A_MONDAY,
    **settings: Any,
) -> WeeksShape:
    pool = Shape(
        zone=zone,
        srs=("nfs", "ext"),
        vms=tuple(vms),
        policies=tuple(policies),
        durations=Durations(),
        settings=Settings(timezone=zone, **settings),
        steps=(),
        start=start,
    )
    return WeeksShape(pool, int(days * DAY), tuple(troubles), ask_within=4)


def _with_hosts(hosts: int, shape: WeeksShape) -> WeeksShape:
    return shape._replace(pool=shape.pool._replace(hosts=hosts))


def choosing(number: int, of: int) -> int:
    """The seed of a trouble that strikes one of so many things, by its number."""
    return next(seed for seed in count() if Random(seed).choice(range(of)) == number)


def _moving(policy: int, of: int) -> int:
    """The seed with which the only VM moves to one of so many schedules, by its number."""
    for seed in count():
        random = Random(seed)
        if random.choice([0]) == 0 and random.choice((list(range(of))) * 3 + [-1]) == policy:
            return seed
    raise AssertionError


def _striking(call: int) -> int:
    """The seed of a clean restart of xapi at this call of a pass."""
    for seed in count():
        random = Random(seed)
        kind = random.choice(["xapi_killed", "xapi_killed", "xapi_restarted"])
        if kind == "xapi_restarted" and random.randrange(1, 60) == call:
            return seed
    raise AssertionError


def _asking(call: int, policy: int) -> int:
    """The seed with which somebody asks a pass, when it makes this call, for a run of one of two schedules."""
    for seed in count():
        random = Random(seed)
        if random.randrange(4, 60) == call and random.choice(range(2)) == policy:
            return seed
    raise AssertionError


def _slowing(seconds: float, sr: int) -> int:
    """The seed with which everything takes so many seconds more on one of two SRs."""
    for seed in count():
        random = Random(seed)
        if random.choice([120.0, 400.0]) == seconds and random.choice(range(2)) == sr:
            return seed
    raise AssertionError


def _keeping(number: int) -> int:
    """The seed with which the only schedule is to keep so many."""
    for seed in count():
        random = Random(seed)
        if random.choice([0]) == 0 and random.randint(1, 7) == number:
            return seed
    raise AssertionError


TEN: Vms = [((0,), True, 0)] * 6 + [((1,), True, 0)] * 4
TWO: Vms = [((0,), False, 0)] * 2

AT_NIGHT = [DAILY._replace(schedule={"hour": "1", "min": "15"}), HOURLY._replace(schedule={"min": "15"})]
OF_TWO: Vms = [((0,), False, 0), ((1,), False, 1)]

CASES: Dict[str, Case] = {
    "an hour occurs twice": Case(
        world_of(OF_TWO, AT_NIGHT, [], zone="Europe/London", start=datetime(2026, 10, 24, tzinfo=UTC))
    ),
    "an hour is skipped": Case(
        world_of(OF_TWO, AT_NIGHT, [], zone="Europe/London", start=datetime(2026, 3, 28, tzinfo=UTC))
    ),
    "an SR hangs on which VMs have one of their disks": Case(
        world_of(
            [((0, 1), False, 0)] * 2 + [((1,), False, 0)] * 3,
            [HOURLY],
            [Trouble(9 * HOUR, 6 * HOUR, "sr_hangs", choosing(0, 2))],
            days=1,
        )
    ),
    "an SR is slow, and then hangs": Case(
        world_of(
            [((0, 0, 1), False, 0)] * 2 + [((1,), False, 0)] * 3,
            [HOURLY],
            [
                Trouble(5 * HOUR, 6 * HOUR, "sr_slow", _slowing(400.0, 0)),
                Trouble(11 * HOUR, 4 * HOUR, "sr_hangs", choosing(0, 2)),
            ],
            days=1,
        )
    ),
    "an SR hangs at a daily slot": Case(
        world_of(TEN, [DAILY], [Trouble(DAY + 2 * HOUR, 12 * HOUR, "sr_hangs", choosing(0, 2))], days=3)
    ),
    "the oldest snapshot of a weekly schedule cannot be destroyed": Case(
        world_of(
            TWO, [WEEKLY._replace(retained=1)], [Trouble(8 * DAY, 2 * DAY, "snapshot_stays", choosing(0, 2))], days=14
        )
    ),
    "an SR hangs for six hours": Case(
        world_of(TEN, [HOURLY], [Trouble(9 * HOUR, 6 * HOUR, "sr_hangs", choosing(0, 2))])
    ),
    "an SR is away for ten minutes at a weekly slot": Case(
        world_of(TEN, [WEEKLY], [Trouble(2 * DAY + 3 * HOUR, 1, "sr_away", choosing(0, 2))], days=10)
    ),
    "an SR is away for ten minutes at a daily slot": Case(
        world_of(TEN, [DAILY], [Trouble(4 * DAY + 3 * HOUR, 1, "sr_away", choosing(0, 2))], days=6)
    ),
    "the oldest snapshot is copied for hours": Case(
        world_of(TWO, [HOURLY], [Trouble(9 * HOUR, 6 * HOUR, "snapshot_copied", choosing(0, 2))])
    ),
    "the oldest snapshot cannot be destroyed": Case(
        world_of(TWO, [HOURLY], [Trouble(9 * HOUR, 12 * HOUR, "snapshot_stays", choosing(0, 2))])
    ),
    "disks cannot be destroyed for a day": Case(
        world_of(TWO, [HOURLY], [Trouble(9 * HOUR, DAY, "disk_stays", choosing(0, 2))], days=3)
    ),
    "disks cannot be destroyed for two hours, and then all is well": Case(
        world_of(TWO, [DAILY], [Trouble(5 * DAY + 2 * HOUR, 2 * HOUR, "disk_stays", choosing(0, 2))], days=8)
    ),
    "xapi dies in many runs": Case(
        world_of(
            TWO,
            [HOURLY._replace(retained=1)],
            [Trouble((4 + seed) * HOUR, 1, "xapi_struck", seed) for seed in range(40)],
        )
    ),
    "the clock is far ahead for some runs": Case(
        world_of(TWO, [HOURLY], [Trouble(9 * HOUR, 3 * HOUR, "clock_ahead", choosing(0, 3))])
    ),
    "the clock was ahead, and then runs fail": Case(
        world_of(
            TWO,
            [HOURLY],
            [
                Trouble(9 * HOUR, 3 * HOUR, "clock_ahead", choosing(0, 3)),
                Trouble(20 * HOUR, 20 * HOUR, "sr_away", choosing(0, 2)),
            ],
        )
    ),
    "runs fail while the clock is ahead, and after": Case(
        world_of(
            TWO,
            [DAILY],
            [
                Trouble(4 * DAY, 2 * DAY, "clock_ahead", choosing(0, 3)),
                Trouble(5 * DAY, DAY + 4 * HOUR, "sr_away", choosing(0, 2)),
            ],
            days=8,
        )
    ),
    "the clock is a day ahead, and a VM that cannot be snapshotted just then is well when the slot comes": Case(
        world_of(
            TWO,
            [DAILY],
            [
                Trouble(2 * DAY + HOUR, 6 * HOUR, "vm_blocked", choosing(0, 2)),
                Trouble(2 * DAY + 2 * HOUR, 4 * HOUR, "clock_ahead", choosing(1, 3)),
            ],
            days=5,
        )
    ),
    "a checkpoint hangs": Case(
        world_of(
            [((0,), True, 0), ((1,), True, 0)],
            [DAILY._replace(type="checkpoint")],
            [Trouble(2 * DAY, 30 * HOUR, "sr_hangs_for_good", choosing(0, 2))],
            days=5,
            checkpoint_limit=900,
        )
    ),
    "a VM moves to a schedule that keeps fewer": Case(
        world_of(
            [((0,), False, 0)],
            [HOURLY._replace(retained=10), DAILY._replace(retained=2)],
            [Trouble(DAY, 0, "vm_moves", _moving(1, 2))],
            days=4,
        )
    ),
    "somebody asks for a run": Case(world_of(TWO, [DAILY], [Trouble(DAY + 8 * HOUR, 0, "run_by_hand", 0)], days=3)),
    "an SR is full, and fewer are to be kept": Case(
        world_of(
            TWO,
            [HOURLY._replace(retained=7)],
            [Trouble(10 * HOUR, 6 * HOUR, "sr_full", choosing(0, 2)), Trouble(11 * HOUR, 0, "retention_changed", 0)],
        )
    ),
    "xapi ends while a checkpoint saves the memory": Case(
        world_of(
            [((0,), True, 0), ((1,), True, 0)],
            [DAILY._replace(type="checkpoint")],
            [Trouble(DAY, DAY, "xapi_struck", _striking(12))],
            days=3,
        )
    ),
    "fewer are to be kept, and then one VM misses its slot": Case(
        world_of(
            [((0,), False, 0)] * 3,
            [DAILY._replace(retained=7)],
            [
                Trouble(8 * DAY, 0, "retention_changed", _keeping(1)),
                Trouble(9 * DAY + 2 * HOUR, 8 * HOUR, "vm_blocked", choosing(0, 3)),
            ],
            days=11,
        )
    ),
    "an SR hangs, and a VM has no disk": Case(
        world_of(
            [((), False, 0), ((0,), False, 0), ((0,), False, 0)],
            [HOURLY],
            [Trouble(9 * HOUR, 6 * HOUR, "sr_hangs", choosing(0, 2))],
        )
    ),
    "fewer are to be kept, and somebody prunes": Case(
        world_of(
            [((0,), False, 0)] * 3,
            [DAILY._replace(retained=7)],
            [Trouble(8 * DAY, 0, "retention_changed", _keeping(1)), Trouble(8 * DAY + 8 * HOUR, 0, "prune_by_hand", 0)],
            days=10,
        )
    ),
    "somebody asks the pass that is at work for a run": Case(
        world_of(
            [((0,), False, 0)] * 3 + [((1,), True, 1)] * 2,
            [DAILY, DAILY._replace(schedule={"hour": "9", "min": "0"})],
            [Trouble(2 * DAY, DAY, "asked_meanwhile", _asking(12, 1))],
            days=4,
        )
    ),
    "a host whose clock is wrong becomes the coordinator": Case(
        _with_hosts(
            2,
            world_of(
                TWO,
                [DAILY, HOURLY],
                [
                    Trouble(DAY, DAY, "host_clock_off", choosing(4, 6)),
                    Trouble(DAY + 4 * HOUR, 1, "coordinator_changed", 0),
                ],
                days=4,
            ),
        )
    ),
}

# The checks that the product is known not to pass. In worlds that are drawn they are not held against it.
MARKED = frozenset(check for case in CASES.values() for check in case.marks)
