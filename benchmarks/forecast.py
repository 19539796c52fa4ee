"""The forecast of room and of chains, compared with what the storage really holds later, over simulated weeks.

Day after day (or week after week) a world is forecast as `vmss next`, `vmss status` and the metrics do it; then the
time passes, with real passes, and the storage of the embedded xapi tells what was true.
"""

import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from tests.pool import GIB, UTC, TestPool
from vmss.core import frequencies
from vmss.core.room import AFTER_EXPIRY, FITS, NOT, Room, full_at, rate
from vmss.core.schedule import next_slot
from vmss.edges.room_notes import read_notes
from vmss.insight.outlook import read_outlook
from vmss.insight.reading import reading
from vmss.simulator.images import LV_EMPTY

KINDS = ("nfs", "lvm")
# How guests write. `rewritten`: disks are full of data, and a part of it is written again each day; `growing`: each day
# brings new data; `bursty`: rewritten, on some days eight times as much as on others, on some days nothing.
HABITS = ("rewritten", "bursty", "growing")

_DAY = timedelta(days=1)
_HEADER = (
    "| forecasts                | number | in use then |   allocated | too well | too bad | full, days | early | not |",
    "|--------------------------|-------:|------------:|------------:|---------:|--------:|-----------:|------:|----:|",
)
_VMS, _DISK = 2, 16 * GIB
# What each guest writes in a day, without bursts.
_WRITTEN = GIB // 2
_VERDICTS = (FITS, AFTER_EXPIRY, NOT)


class Course(NamedTuple):
    """How worlds of a frequency go: the keys of the schedule, the snapshots that are kept, the days that are simulated,
    how far a forecast looks in hours, the days between two slots, and the worlds by their room."""

    keys: Dict[str, str]
    kept: int
    days: int
    hours: int
    between: float
    rooms: Tuple[float, ...]


COURSES = {
    "hourly": Course({"min": "15"}, 8, 3, 12, 1 / 24, (4.0,)),
    "daily": Course({"hour": "2", "min": "0"}, 7, 21, 24, 1.0, (0.7, 1.1, 3.0)),
    "weekly": Course({"hour": "2", "min": "0", "days": "Monday"}, 3, 84, 168, 7.0, (1.1,)),
}


class World(NamedTuple):
    """A pool: the type of its SR, how guests write, the schedule, and the room beside the data of the guests, to what
    the snapshots that are kept and one more need. `stuck`: coalescing is switched off after the first third of the
    time."""

    kind: str
    habit: str
    frequency: str
    room: float
    stuck: bool = False


class Day(NamedTuple):
    """One forecast, and what came of it until its end. `full_at`: when the SR was to be full; `most`: the most that was
    in use; `end`: what was in use at the end; `taken`: what was allocated, whatever was given back. `failed`: a
    snapshot or a guest had no room. `lengths`: of each chain what was expected, and the truth."""

    at: datetime
    room: Room
    full_at: Optional[datetime]
    most: int
    end: int
    taken: int
    failed: bool
    lengths: Sequence[Tuple[int, int]]

    @property
    def verdict(self) -> str:
        """What the verdict should have been."""
        if self.failed:
            return NOT
        return FITS if self.taken <= self.room.free else AFTER_EXPIRY

    @property
    def error(self) -> float:
        """By how much the forecast of what is in use at the end was wrong, to what is in use then. Of a day on which
        something failed no error counts: what was to be allocated was not."""
        expected = self.room.space.used + self.room.needed + self.room.growth - self.room.freed
        return abs(expected - self.end) / self.end

    @property
    def error_of_need(self) -> float:
        """By how much the forecast of what is allocated was wrong, to that."""
        return abs(self.room.needed + self.room.growth - self.taken) / max(1, self.taken)


class Account(NamedTuple):
    """The days of a world, and when its SR was full for the first time."""

    days: List[Day]
    full: Optional[datetime]


class _Life:
    """A world whose time passes."""

    def __init__(self, pool: TestPool, world: World) -> None:
        self.pool, self.world, self.course = pool, world, COURSES[world.frequency]
        self.schedule = frequencies.read(world.frequency, self.course.keys)
        self.random = Random(str(world))
        self.simulator = pool.simulator
        data = GIB if world.habit == "growing" else _DISK
        room = int(world.room * (self.course.kept + 1) * _WRITTEN * self.course.between)
        whole = data if world.kind == "nfs" else _DISK + data
        sr = pool.sr("sr", world.kind, _VMS * (whole + GIB // 8 + room))
        vms = [pool.vm("vm %d" % number, [sr], size=_DISK) for number in range(_VMS)]
        self.sr = sr
        self.disks = [str(pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", vm)[0])) for vm in vms]
        self.storage = self.simulator.storage.manager.repository(sr)
        self.write([data] * _VMS)
        pool.policy(vms, frequency=world.frequency, schedule=self.course.keys, retained_snapshots=str(self.course.kept))
        self.full: Optional[datetime] = None
        self.begin()

    def begin(self) -> None:
        self.taken, self.most, self.failed = 0, self.storage.used, False

    def write(self, amounts: Sequence[int]) -> None:
        for disk, count in zip(self.disks, amounts):
            self.pool.call("simulator.write", disk, str(count))

    def now(self) -> datetime:
        return self.simulator.now()

    def next_slot(self) -> datetime:
        return next_slot(self.schedule, UTC, self.now())

    def slot(self) -> None:
        """Let the time pass until after the next slot: guests write, a pass serves it, and the storage coalesces."""
        before, whole = self.storage.used, _WRITTEN * self.course.between
        self.write([int(whole * self._times() * self.random.uniform(0.8, 1.2)) for _ in self.disks])
        self._see(before)
        self.simulator.set_time(self.next_slot())
        before, disks = self.storage.used, self._disks()
        status = self.pool.tick().status
        self._see(before)
        # The volumes of the snapshots that this pass has deleted are given back already.
        self.taken += LV_EMPTY * max(0, disks + _VMS - self._disks()) * (self.storage.lvm and not status)
        if status or self.storage.used > self.storage.capacity:
            self.failed, self.full = True, self.full or self.now()
        # The collector begins when it was quiet for five minutes.
        self.simulator.set_time(self.now() + timedelta(minutes=30))

    def _disks(self) -> int:
        return len(self.storage.images) - len(self.storage.hidden)

    def _times(self) -> float:
        return self.random.choice((0.0, 0.5, 0.5, 0.5, 4.0)) if self.world.habit == "bursty" else 1.0

    def _see(self, before: int) -> None:
        self.taken += max(0, self.storage.used - before)
        self.most = max(self.most, self.storage.used)

    def day(self) -> Day:
        """Forecast, and see what comes."""
        now, hours = self.now(), self.course.hours
        with reading(self.pool.surroundings()) as session:
            coming = read_outlook(session, hours).coming
            room = coming.rooms[self.sr]
            end = full_at(room.space, rate(read_notes(session.xapi, self.sr)), now)
        self.begin()
        while self.next_slot() <= now + timedelta(hours=hours):
            self.slot()
        self.simulator.set_time(max(self.now(), now + timedelta(hours=hours)))
        lengths = [(one.expected, self.storage.depth(one.disk.uuid)) for one in coming.chains]
        return Day(now, room, end, self.most, self.storage.used, self.taken, self.failed, lengths)


def account(world: World, days: Optional[int] = None) -> Account:
    """Let the time of a world pass, as many days as its course has or as are given, and return its days."""
    found: List[Day] = []
    with tempfile.TemporaryDirectory() as folder, TestPool(Path(folder)) as pool:
        life, course = _Life(pool, world), COURSES[world.frequency]
        end = life.now() + timedelta(days=days or course.days)
        life.slot()
        while life.now() < end:
            if world.stuck and life.now() > end - timedelta(days=2 * course.days / 3):
                pool.call("SR.remove_from_other_config", life.sr, "coalesce")
                pool.call("SR.add_to_other_config", life.sr, "coalesce", "false")
            found.append(life.day())
            if life.full is not None and world.habit == "growing":
                break  # it stays so
    return Account(found, life.full)


def page(quick: bool = False) -> Iterator[str]:
    """Yield the lines of this part of the page. `quick`: without the worlds of hours and weeks."""
    worlds = [(kind, habit, "daily") for kind in KINDS for habit in HABITS]
    if not quick:
        worlds += [(kind, habit, "weekly") for kind in KINDS for habit in ("rewritten", "growing")]
        worlds += [(kind, "rewritten", "hourly") for kind in KINDS]
    yield from _HEADER
    every: List[Tuple[int, int]] = []
    for kind, habit, frequency in worlds:
        accounts = [account(World(kind, habit, frequency, room)) for room in COURSES[frequency].rooms]
        every += _lengths(accounts)
        what = "%s, %s, %s" % ("thin" if kind == "nfs" else "thick", habit, frequency)
        yield "| %-24s | %s |" % (what, _row(accounts))
    yield ""
    yield "Chains of disks: %s." % _of_chains(every)
    stuck = account(World("nfs", "rewritten", "daily", 9.0, stuck=True))
    yield "Where coalescing is switched off: %s." % _of_chains(_lengths([stuck]))


def _row(accounts: Sequence[Account]) -> str:
    days = [day for one in accounts for day in one.days]
    rank = [(_VERDICTS.index(day.room.verdict), _VERDICTS.index(day.verdict)) for day in days]
    before = [(day, one.full) for one in accounts for day in one.days if one.full is None or day.at < one.full]
    off = [
        abs((day.full_at - full).total_seconds()) / _DAY.total_seconds()
        for day, full in before
        if full is not None and day.full_at is not None
    ]
    # Of the last week of a world nobody knows.
    known = [(day, full) for day, full in before if full is not None or day.at < accounts[0].days[-1].at - 7 * _DAY]
    said = [(_within(day, day.full_at), _within(day, full)) for day, full in known]
    return "%6d | %s | %s | %8d | %7d | %10s | %5d | %3d" % (
        len(days),
        _spread([day.error for day in days if not day.failed]),
        _spread([day.error_of_need for day in days if not day.failed]),
        sum(told < true for told, true in rank),
        sum(told > true for told, true in rank),
        "%4.1f %5.1f" % _points(off) if off else "-",
        sum(told and not true for told, true in said),
        sum(true and not told for told, true in said),
    )


def _within(day: Day, full: Optional[datetime]) -> bool:
    """Whether it is to be full within a week."""
    return full is not None and full < day.at + 7 * _DAY


def _points(errors: Sequence[float]) -> Tuple[float, float]:
    """The median and the 90th percentile."""
    found = sorted(errors)
    return found[len(found) // 2], found[len(found) * 9 // 10]


def _spread(errors: Sequence[float]) -> str:
    median, most = _points(errors)
    return "%4.0f%% %5.0f%%" % (100 * median, 100 * most)


def _lengths(accounts: Sequence[Account]) -> List[Tuple[int, int]]:
    return [pair for one in accounts for day in one.days if not day.failed for pair in day.lengths]


def _of_chains(lengths: Sequence[Tuple[int, int]]) -> str:
    wrong = [abs(expected - true) for expected, true in lengths]
    return "%d of %d forecasts are right, the worst is wrong by %d images" % (
        wrong.count(0),
        len(wrong),
        max(wrong, default=0),
    )
