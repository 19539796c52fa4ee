"""The slots of a schedule, found by walking real minutes under the C library's clock.

Written to share nothing with `vmss.core.schedule`: no dateutil, no arithmetic with offsets, no bisection over wall
times. The wall clock is read minute by minute as anybody's `date` would show it, and what it shows decides.
Instants are seconds since 1970, wall-clock times are counted in minutes as though the wall stood in UTC.
"""

import calendar
import os
import time
from contextlib import contextmanager
from functools import lru_cache
from typing import FrozenSet, Iterator, List, Tuple

DAY = 86400
FIRST, LAST = calendar.timegm((2000, 1, 1, 0, 0, 0)), calendar.timegm((2037, 12, 1, 0, 0, 0))


@contextmanager
def c_library_zone(name: str) -> Iterator[None]:
    """Let the C library's local time be that of a zone, and put back what was there."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def knows_time_zones() -> bool:
    """Whether the C library finds its time zones; where it does not, it says UTC to every name."""
    with c_library_zone("Asia/Kathmandu"):
        return time.localtime(FIRST).tm_gmtoff == 5 * 3600 + 45 * 60


@lru_cache(maxsize=None)
def transitions(zone: str) -> Tuple[int, ...]:
    """The instants from 2000 to 2037 at which the clock of a zone is set forward or back."""
    found = []
    with c_library_zone(zone):
        for day in range(FIRST, LAST, DAY):
            before, after = day, day + DAY
            if _offset(before) == _offset(after):
                continue
            while after - before > 1:
                middle = (before + after) // 2
                if _offset(middle) == _offset(day):
                    before = middle
                else:
                    after = middle
            assert after % 60 == 0, "the walk goes by whole minutes"
            found.append(after)
    return tuple(found)


def _offset(instant: int) -> int:
    return time.localtime(instant).tm_gmtoff


@lru_cache(maxsize=8)
def _walk(zone: str, first: int, last: int) -> Tuple[int, ...]:
    """What the clock shows at each minute from first to last, minutes both."""
    with c_library_zone(zone):
        return tuple(calendar.timegm(time.localtime(minute * 60)) // 60 for minute in range(first, last + 1))


def slots(zone: str, first: int, last: int, frequency: str, minute: int, hour: int, days: FrozenSet[int]) -> List[int]:
    """The slots of a schedule from one instant to another, both included. Monday is day 0."""
    # Whole days, so that one walk serves many examples; two more before, to know what was shown already.
    begin, end = first // DAY * 1440 - 2 * 1440, (last // DAY + 1) * 1440
    shown = _walk(zone, begin, end)
    if frequency == "hourly":
        found = _hourly(shown, minute)
    else:
        found = _daily(shown, hour * 60 + minute, days if frequency == "weekly" else frozenset(range(7)))
    instants = [(begin + index) * 60 for index in found]
    return [instant for instant in instants if first <= instant <= last]


def _hourly(shown: Tuple[int, ...], minute: int) -> Iterator[int]:
    for index in range(1, len(shown)):
        now, before = shown[index], shown[index - 1]
        jumped = range(before + 1, now)  # empty but where the clock is set forward
        if now % 60 == minute or any(wall % 60 == minute and wall // 60 == now // 60 for wall in jumped):
            yield index


def _daily(shown: Tuple[int, ...], at: int, days: FrozenSet[int]) -> Iterator[int]:
    latest = shown[0]
    for index, now in enumerate(shown):
        if now <= latest:
            continue  # the clock was set back: all this has been shown before
        if any(wall % 1440 == at and (wall // 1440 + 3) % 7 in days for wall in range(latest + 1, now + 1)):
            yield index  # shown for the first time, or jumped over just now
        latest = now
