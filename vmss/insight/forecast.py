"""The runs to come and their durations; which get in each other's way, and how to move them. Functions of values.

A run works on resources: storage repositories, and hosts if it makes checkpoints. Each of them serves one operation at
a time, so two runs that share one take as long as both, one after the other.

Two things can be wrong. Runs *overlap* if one begins while another, by its median duration, is at work on a shared
resource: then the snapshots of the later one are taken later. And if a run does not *end in time*, before the policy's
next slot, that slot is missed. The remedy for both is another time, which is always a quarter of an hour: xapi accepts
no other.
"""

from bisect import bisect_right
from datetime import datetime, timedelta, tzinfo
from typing import Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core.frequencies import HOUR_KEY, MINUTES, Schedule
from vmss.core.plan import Need
from vmss.core.policy import Policy
from vmss.core.schedule import next_slot, next_tick
from vmss.core.vms import Disk

# Upper limit on the policies for which another time is sought.
_MOVES_MAX = 20

# Runs that are further apart do not overlap: by default a pass does not last longer (setting pass_limit).
_REACH = timedelta(days=1)

Interval = Tuple[datetime, datetime]


class Piece(NamedTuple):
    """What the snapshot of a VM makes on a storage repository: of a `disk`, or of memory, if that is None. `need`: the
    room that it may need there at once; `snapshots`: how many the VM has."""

    sr: str
    need: Need
    disk: Optional[Disk]
    snapshots: int


class Load(NamedTuple):
    """A policy with the duration of its runs in seconds, more than zero; the number of past runs that tell it (zero: it
    is an estimate); and the resources that the runs work on. `pieces`: what the snapshots of one run are made of.
    `excused`: the number of VMs of which none is taken if they stay as they are."""

    policy: Policy
    seconds: float
    runs: int
    resources: FrozenSet[str]
    pieces: Tuple[Piece, ...] = ()
    excused: int = 0

    @property
    def length(self) -> timedelta:
        return timedelta(seconds=self.seconds)


class Expected(NamedTuple):
    """A run to come. `at` is its slot, or the next tick if it is `late`; `ends` is its earliest end, after the work of
    others that began before it; `next_slot` is the slot after it. `missed`: the policy's previous run is not over, so
    this one does not take place. `behind` are the uuids of the policies that are at work on its resources when it
    begins, `common` those resources."""

    policy: Policy
    at: datetime
    ends: datetime
    next_slot: datetime
    late: bool = False
    missed: bool = False
    behind: Tuple[str, ...] = ()
    common: FrozenSet[str] = frozenset()

    @property
    def too_long(self) -> bool:
        """Whether it cannot end before the policy's next slot."""
        return not self.missed and self.ends >= self.next_slot


class Move(NamedTuple):
    """A policy at another time, at which it overlaps no other."""

    policy: Policy
    schedule: Schedule

    @property
    def command(self) -> str:
        """The command line that sets this time."""
        words = ["vmss xe vmss-param-set uuid=%s" % self.policy.uuid]
        if self.schedule.hour != self.policy.schedule.hour:
            words.append("schedule:hour=%d" % self.schedule.hour)
        if self.schedule.minute != self.policy.schedule.minute:
            words.append("schedule:min=%d" % self.schedule.minute)
        return " ".join(words)


class Calendar:
    """The slots of schedules within a period. They are computed once for each schedule: many policies share one."""

    def __init__(self, zone: tzinfo, since: datetime, until: datetime) -> None:
        self._zone, self._since, self._until = zone, since, until
        self._known: Dict[Schedule, List[datetime]] = {}

    def slots(self, schedule: Schedule, since: datetime, until: datetime) -> List[datetime]:
        """The slots later than an instant, up to another; both within the period."""
        slots = self._slots(schedule)
        return slots[bisect_right(slots, since) : bisect_right(slots, until)]

    def after(self, schedule: Schedule, at: datetime) -> datetime:
        """The first slot later than an instant of the period."""
        slots = self._slots(schedule)
        return slots[bisect_right(slots, at)]

    def _slots(self, schedule: Schedule) -> List[datetime]:
        if schedule not in self._known:
            slots = [next_slot(schedule, self._zone, self._since)]
            while slots[-1] <= self._until:
                slots.append(next_slot(schedule, self._zone, slots[-1]))
            self._known[schedule] = slots
        return self._known[schedule]


def expect(loads: Sequence[Load], zone: tzinfo, now: datetime, until: datetime) -> List[Expected]:
    """The runs from now until an instant, in the order of their beginnings."""
    calendar = Calendar(zone, now, max(until, next_tick(now)))
    coming = sorted(
        ((at, late, load) for load in loads for at, late in _starts(load.policy, calendar, zone, now, until)),
        key=lambda item: (item[0], item[2].policy.name, item[2].policy.uuid),
    )
    free: Dict[str, datetime] = {}  # when a resource has done all its work
    over: Dict[str, datetime] = {}  # when the policy's last run ends
    busy: Dict[str, List[Tuple[datetime, str]]] = {}  # by resource: until when a run works on it, and whose
    found = []
    for at, late, load in coming:
        policy = load.policy
        following = calendar.after(policy.schedule, at)
        if at <= over.get(policy.uuid, now - timedelta(days=1)):
            found.append(Expected(policy, at, over[policy.uuid], following, late, missed=True))
            continue
        behind: Set[str] = set()
        common: Set[str] = set()
        ends = at + load.length
        for resource in load.resources:
            free[resource] = max(at, free.get(resource, at)) + load.length
            ends = max(ends, free[resource])
            busy[resource] = [item for item in busy.get(resource, []) if item[0] > at]
            others = {uuid for _, uuid in busy[resource] if uuid != policy.uuid}
            behind |= others
            common |= {resource} if others else set()
            busy[resource].append((at + load.length, policy.uuid))
        over[policy.uuid] = ends
        found.append(
            Expected(policy, at, ends, following, late, behind=tuple(sorted(behind)), common=frozenset(common))
        )
    return found


def moves(loads: Sequence[Load], zone: tzinfo, now: datetime, until: datetime) -> List[Move]:
    """How to rearrange the schedules: each policy that is moved gets the nearest time at which it overlaps no other one
    and ends in time. Of two that overlap the later one is moved; if there is no such time for it, the other one."""
    found: List[Move] = []
    placed = {load.policy.uuid: load for load in loads}
    tried = 0
    # What began before now may not be over, and what is not over may overlap what begins after the end.
    before, after = now - _REACH, until + _REACH
    calendar = Calendar(zone, before, after)
    for uuid in _to_move(expect(loads, zone, now, until)):
        if tried == _MOVES_MAX:
            break
        load = placed[uuid]
        intervals = _intervals([other for other in placed.values() if _share(other, load)], calendar, before, after)
        if _fits(load, load.policy.schedule, intervals, calendar, now, until):
            continue  # the move of another one has made room for it
        tried += 1
        for schedule in _alternatives(load.policy.schedule):
            if _fits(load, schedule, intervals, calendar, now, until):
                found.append(Move(load.policy, schedule))
                placed[uuid] = load._replace(policy=load.policy._replace(schedule=schedule))
                break
    return found


def _starts(
    policy: Policy, calendar: Calendar, zone: tzinfo, now: datetime, until: datetime
) -> Iterator[Tuple[datetime, bool]]:
    """When the policy will run, and whether that is late."""
    if not policy.enabled or not policy.vms:
        return
    since = now
    if policy.late(zone, now):
        since = next_tick(now)
        yield since, True
    for at in calendar.slots(policy.schedule, since, until):
        yield at, False


def _to_move(expected: Sequence[Expected]) -> List[str]:
    """The policies that overlap others, or do not end in time: those that begin later first."""
    later: Dict[str, None] = {}
    earlier: Dict[str, None] = {}
    for run in expected:
        if run.behind or run.too_long:
            later[run.policy.uuid] = None
        for uuid in run.behind:
            earlier[uuid] = None
    return list(later) + [uuid for uuid in earlier if uuid not in later]


def _share(one: Load, other: Load) -> bool:
    return one.policy.uuid != other.policy.uuid and bool(one.resources & other.resources)


def _intervals(loads: Sequence[Load], calendar: Calendar, since: datetime, until: datetime) -> List[Interval]:
    """The intervals in which at least one of these is at work, by its duration: disjoint, in order."""
    merged: List[Interval] = []
    for start, end in sorted(
        (at, at + load.length)
        for load in loads
        if load.policy.enabled and load.policy.vms
        for at in calendar.slots(load.policy.schedule, since, until)
    ):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _fits(
    load: Load, schedule: Schedule, intervals: Sequence[Interval], calendar: Calendar, now: datetime, until: datetime
) -> bool:
    """Whether the policy, on this schedule, overlaps none of these intervals, and ends before its own next slot."""
    ends = [end for _, end in intervals]
    for at in calendar.slots(schedule, now, until):
        if at + load.length >= calendar.after(schedule, at):
            return False
        first = bisect_right(ends, at)  # the first interval that is not over by then
        if first < len(intervals) and intervals[first][0] < at + load.length:
            return False
    return True


def _alternatives(schedule: Schedule) -> List[Schedule]:
    """The other times that a schedule can have, the nearest first: within the hour for hourly ones, else within the
    day."""
    if not schedule.reads(HOUR_KEY):
        others = [schedule._replace(minute=minute) for minute in MINUTES if minute != schedule.minute]
        return sorted(others, key=lambda other: _apart(other.minute, schedule.minute, 60))
    times = [(hour, minute) for hour in range(24) for minute in MINUTES]
    times.remove((schedule.hour, schedule.minute))
    at = schedule.hour * 60 + schedule.minute
    times.sort(key=lambda time: abs(60 * time[0] + time[1] - at))
    return [schedule._replace(hour=hour, minute=minute) for hour, minute in times]


def _apart(one: int, other: int, around: int) -> int:
    return min((one - other) % around, (other - one) % around)
