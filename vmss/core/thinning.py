"""Thinning: the newest snapshot of each hour, day, week or month stays, so that a history reaches further back."""

import re
from datetime import datetime, tzinfo
from typing import Any, Callable, Container, Dict, FrozenSet, List, Sequence, Tuple

from vmss.core.datetimes import UTC, wall_clock
from vmss.core.frequencies import Schedule
from vmss.core.schedule import latest_slot
from vmss.core.text import quoted

# Pairs of a period and a number of them, the shortest period first.
Spread = Tuple[Tuple[str, int], ...]

# The tag of a VM that has its own, such as vmss:keep=hourly:4,daily:4.
TAG = "vmss:keep="

# By the name of a period, what of the wall clock tells one from another. An hour that the clock shows twice is two.
_PERIODS: Dict[str, Callable[[datetime, datetime], Any]] = {
    "hourly": lambda wall, at: (wall.replace(minute=0, second=0, microsecond=0), at.replace(tzinfo=None) - wall),
    "daily": lambda wall, at: wall.date(),
    "weekly": lambda wall, at: wall.isocalendar()[:2],
    "monthly": lambda wall, at: (wall.year, wall.month),
}
# No schedule keeps more.
_MOST = 10


def read(text: str) -> Spread:
    """Given a rule such as `hourly:4 daily:4 weekly:2`, return its pairs. Raise ValueError, which repeats no text."""
    found: Dict[str, int] = {}
    for word in re.split(r"[\s,]+", text.strip()) if text.strip() else []:
        match = re.match(r"([a-z]+):([0-9]{1,2})\Z", word)
        if match is None or match.group(1) not in _PERIODS:
            raise ValueError("is not such as hourly:4 daily:4 weekly:2, of hourly, daily, weekly and monthly")
        period, number = match.group(1), int(match.group(2))
        if period in found:
            raise ValueError("names a period twice")
        if not 1 <= number <= _MOST:
            raise ValueError("has a number that is not within 1 to %d" % _MOST)
        found[period] = number
    return tuple((period, found[period]) for period in _PERIODS if period in found)


def of_tags(tags: FrozenSet[str], otherwise: Spread) -> Tuple[Spread, str]:
    """Given the tags of a VM and its schedule's rule, return the VM's rule, and what is wrong with its tag, if
    anything is: then the schedule's holds."""
    mine = sorted(tag for tag in tags if tag.startswith(TAG))
    if not mine:
        return otherwise, ""
    if len(mine) > 1:
        return otherwise, "it has %d tags that begin with %s" % (len(mine), TAG)
    try:
        return read(mine[0][len(TAG) :]), ""
    except ValueError as error:
        return otherwise, "its tag %s %s" % (quoted(mine[0]), error)


def slots_of(times: Sequence[datetime], schedule: Schedule, zone: tzinfo) -> List[Tuple[datetime, datetime]]:
    """Given times of snapshots, return the slot of each, on the wall clock and in UTC. What counts is the slot: a run
    that takes past midnight is still of the day of its slot."""
    slots = [latest_slot(schedule, zone, time).astimezone(UTC) for time in times]
    return [(wall_clock(zone, slot), slot) for slot in slots]


def newest_of_periods(
    newest_first: Sequence[Tuple[datetime, datetime]], period: str, number: int, kept: Container[int]
) -> List[int]:
    """Given slots as of `slots_of`, return the indexes of the newest of each period, without those that are `kept` by
    another rule, at most so many.

    The newest one of a period is the one that stays as time goes on: a period whose newest one is still kept by a rule
    of shorter periods is not counted yet, and comes to be as soon as that rule lets go of it.
    """
    found: List[int] = []
    last: Any = None
    for index, (wall, slot) in enumerate(newest_first):
        of = _PERIODS[period](wall, slot)
        if of == last:
            continue
        last = of
        if index not in kept:
            found.append(index)
        if len(found) == number:
            break
    return found
