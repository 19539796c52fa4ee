"""Time as it really goes: years of ticks in zones whose clocks are changed, ticks that do not keep to their times,
and clocks that are set to another year."""

import os
import time
from bisect import bisect_right
from calendar import timegm
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.pool import TestPool
from tests.test_run import clean
from vmss.core.datetimes import parse_datetime
from vmss.core.frequencies import DAILY, FREQUENCIES, HOURLY, WEEKLY, Schedule
from vmss.core.policy import Policy
from vmss.core.schedule import due_slot
from vmss.edges.zones import time_zone

UTC = timezone.utc
TICK, HOUR, DAY = 900, 3600, 86400

# VMSS_TEST_EXAMPLES=20 looks twenty times as long.
EXAMPLES = int(os.environ.get("VMSS_TEST_EXAMPLES", "1"))

pytestmark = pytest.mark.skipif(not oracle.knows_time_zones(), reason="no time zone database here")
thorough = settings(max_examples=20 * EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def seconds(year: int, month: int = 1, day: int = 1, hour: int = 0, minute: int = 0) -> int:
    return timegm((year, month, day, hour, minute, 0))


def instant(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def offsets(zone: str, year: int) -> Tuple[int, ...]:
    """The offset of a zone's clock from UTC at the beginning of each day of a year, and of one before and after."""
    with oracle.c_library_zone(zone):
        return tuple(time.localtime(day).tm_gmtoff for day in range(seconds(year) - DAY, seconds(year + 1) + DAY, DAY))


def changes(zone: str, year: int) -> List[int]:
    """The days on which the clock of a zone is changed."""
    found = offsets(zone, year)
    return [seconds(year) + (index - 1) * DAY for index in range(len(found) - 1) if found[index] != found[index + 1]]


@lru_cache(maxsize=None)
def zones(year: int) -> Dict[str, List[int]]:
    """The zones whose clocks are changed in a year, one of each kind, with the days of their changes."""
    table = Path("/usr/share/zoneinfo/zone.tab").read_text()
    kinds: Dict[Tuple[int, ...], str] = {}
    for name in sorted(line.split("\t")[2].strip() for line in table.splitlines() if line[0] != "#"):
        kinds.setdefault(offsets(name, year), name)
    return {name: changes(name, year) for kind, name in kinds.items() if len(set(kind)) > 1}


class Run(NamedTuple):
    """What a tick served, and until when that took; all in seconds since 1970."""

    slot: int
    began: int
    ended: int


def played(schedule: Schedule, zone: str, ticks: Sequence[int], last_run: Optional[int], takes: int) -> Iterator[Run]:
    """What a policy does at these ticks, if each run takes so long."""
    with oracle.c_library_zone(zone):
        dom0 = time_zone(None)
        ran, busy = None if last_run is None else instant(last_run), 0
        for tick in ticks:
            if tick < busy:
                continue  # it finds the lock taken
            policy = Policy("ref", "uuid", "name", True, "snapshot", 1, schedule, ran, ("vm",))
            slot = policy.due(dom0, instant(tick))
            if slot is not None:
                busy = tick + takes
                ran = instant(busy)
                yield Run(int(slot.timestamp()), tick, tick + takes)


def expected(slots: Sequence[int], ticks: Sequence[int], last_run: Optional[int], takes: int) -> Iterator[Run]:
    """The rule in other words: a tick serves the latest slot there is, if no run has ended since that."""
    busy = 0
    for tick in ticks:
        if tick < busy:
            continue
        latest = slots[bisect_right(slots, tick) - 1]
        if last_run is None and latest <= tick - TICK:
            continue
        if last_run is None or last_run < latest:
            last_run = busy = tick + takes
            yield Run(latest, tick, last_run)


def accounted_for(slots: Sequence[int], runs: Sequence[Run], ticks: Sequence[int], never_ran: bool) -> None:
    """Each slot was served once; or passed while the policy was running, which is reported; or a later one of the
    same policy passed as well before there was any tick at all. A policy that never ran waits for a tick in time."""
    served = [run.slot for run in runs]
    assert len(set(served)) == len(served) and set(served) <= set(slots)
    for slot, later in zip(slots, list(slots[1:]) + [1 << 40]):
        following = ticks[bisect_right(ticks, slot - 1) :][:1]
        waits = never_ran and (not served or slot < served[0])
        if slot in served or not following or slot < ticks[0] or waits:
            continue
        while_running = any(run.began < slot <= run.ended for run in runs)
        assert while_running or following[0] >= later, instant(slot)


def unpunctual(first: int, last: int, random: Random) -> List[int]:
    """Ticks every quarter of an hour, of which some come late, early, twice or not at all; for a day, too."""
    ticks: List[int] = []
    off_until = 0
    for tick in range(first, last, TICK):
        fate = random.random()
        if fate < 0.002:
            off_until = tick + random.randrange(26 * HOUR)
        if tick < off_until or fate < 0.05:
            continue
        at = tick + (random.randrange(TICK - 60) if fate < 0.15 else -random.randrange(1, 60) if fate < 0.2 else 1)
        ticks += [at, at + random.choice([0, 1, 30])] if 0.2 < fate < 0.25 else [at]
    return ticks


def compare(schedule: Schedule, zone: str, ticks: Sequence[int], last_run: Optional[int], takes: int = 20) -> List[Run]:
    slots = oracle.slots(
        zone, ticks[0] - 9 * DAY, ticks[-1], schedule.frequency, schedule.minute, schedule.hour, schedule.days
    )
    runs = list(played(schedule, zone, ticks, last_run, takes))
    assert runs == list(expected(slots, ticks, last_run, takes))
    accounted_for(slots, runs, ticks, last_run is None)
    return runs


def a_schedule(frequency: str, random: Random) -> Schedule:
    # The hours in which clocks are changed.
    hour = random.choice([0, 1, 2, 3, 23, random.randrange(24)])
    days = frozenset(random.sample(range(7), 3)) | {5, 6}
    return Schedule(frequency, random.choice([0, 15, 30, 45]), hour, days if frequency == WEEKLY else frozenset([0]))


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_every_slot_around_every_change_of_every_clock_is_served_once(frequency: str) -> None:
    # By default a third of the zones each; with VMSS_TEST_EXAMPLES, all.
    assert len(zones(2026)) > 15
    for number, (zone, days) in enumerate(zones(2026).items()):
        if EXAMPLES == 1 and list(FREQUENCIES)[number % 3] != frequency:
            continue
        for day in days:
            random = Random(number)
            ticks = unpunctual(day - DAY, day + 2 * DAY, random)
            compare(a_schedule(frequency, random), zone, ticks, ticks[0] - 8 * DAY)


@pytest.mark.parametrize(
    "frequency, zone", [(HOURLY, "Australia/Lord_Howe"), (DAILY, "America/St_Johns"), (WEEKLY, "Europe/London")]
)
def test_every_slot_of_a_year_is_served_once(frequency: str, zone: str) -> None:
    ticks = unpunctual(seconds(2026), seconds(2027), Random(frequency))
    if EXAMPLES == 1:
        ticks = ticks[::12]
    runs = compare(a_schedule(frequency, Random(1)), zone, ticks, ticks[0] - 8 * DAY)
    assert len(runs) > {HOURLY: 2500, DAILY: 350, WEEKLY: 150}[frequency]


@given(
    st.sampled_from([2007, 2026, 2037]),
    st.integers(0, 1000),
    st.sampled_from(list(FREQUENCIES)),
    st.integers(0, 2**32),
    st.sampled_from([1, 60, 2000, 4000, 100000]),
    st.booleans(),
)
@thorough
def test_every_slot_is_accounted_for_however_long_runs_take(
    year: int, which: int, frequency: str, seed: int, takes: int, never_ran: bool
) -> None:
    random = Random(seed)
    some = sorted(zones(year).items())
    zone, days = some[which % len(some)]
    first = days[which % len(days)] - random.randrange(2 * DAY)
    ticks = unpunctual(first, first + 3 * DAY, random)
    compare(a_schedule(frequency, random), zone, ticks, None if never_ran else ticks[0] - 8 * DAY, takes)


@pytest.mark.parametrize("year", [2038, 2399])
@pytest.mark.parametrize("zone", ["Europe/London", "Australia/Lord_Howe"])
def test_clocks_are_changed_beyond_2037_too(year: int, zone: str) -> None:
    days = changes(zone, year)
    if not days:
        pytest.skip("this C library knows no rules for that year")
    for day in days:
        for frequency in FREQUENCIES:
            ticks = unpunctual(day - DAY, day + 2 * DAY, Random(year))
            compare(a_schedule(frequency, Random(year)), zone, ticks, ticks[0] - 8 * DAY)


@given(st.integers(0, seconds(8999)).map(instant), st.sampled_from(list(FREQUENCIES)), st.integers(0, 99))
@thorough
def test_no_time_that_a_clock_can_show_is_too_early_or_too_late(at: datetime, frequency: str, seed: int) -> None:
    schedule = a_schedule(frequency, Random(seed))
    for zone in (time_zone(None), time_zone("Pacific/Apia"), UTC):
        for last_run in (None, at - timedelta(seconds=1), datetime(2026, 1, 1, tzinfo=UTC)):
            slot = due_slot(schedule, zone, last_run, at)
            assert slot is None or at - timedelta(days=8) < slot <= at


# The whole program


def settled(pool: TestPool, vm: str, kept: int) -> None:
    assert len(pool.snapshots(vm)) == kept and set(pool.names()) == {"VMSS_SNAPSHOT_SUCCEEDED"}
    clean(pool)


@pytest.mark.parametrize(
    "zone, frequency, hour, minute, count",
    [
        ("Europe/London", DAILY, 1, 30, 365),
        ("America/St_Johns", WEEKLY, 2, 0, 52),
        ("Pacific/Chatham", WEEKLY, 3, 15, 52),
    ],
)
def test_a_year_of_the_whole_program_serves_every_slot_once(
    tmp_path: Path, zone: str, frequency: str, hour: int, minute: int, count: int
) -> None:
    random = Random(zone)
    # Clocks are changed on Sundays there.
    slots = oracle.slots(zone, seconds(2026), seconds(2027) - 1, frequency, minute, hour, frozenset([6]))
    assert len(slots) == count
    with TestPool(tmp_path, now=instant(slots[0] - HOUR)) as pool:
        vm = pool.vm("vm")
        policy = pool.policy(
            [vm],
            frequency=frequency,
            schedule=dict(
                {"hour": str(hour), "min": str(minute)}, **({"days": "Sunday"} if frequency == WEEKLY else {})
            ),
        )
        pool.settings = pool.settings._replace(timezone=zone)
        for slot in slots:
            late = random.choice([0, 1, 90, TICK - 1, 5 * HOUR if slot != slots[0] else 0])
            ticks = [(slot - random.randrange(1, 60), 0), (slot + late, 1), (slot + late + TICK, 0)]
            for tick, served in ticks if random.random() < 0.3 * EXAMPLES else ticks[1:2]:
                pool.simulator.set_time(instant(tick))
                report = pool.tick()
                assert report.status == 0
                assert [int(done.turn.slot.timestamp()) for done in report.served] == [slot] * served
            assert pool.last_run(policy) >= instant(slot)
        assert len(pool.names(policy)) == len(slots)
        settled(pool, vm, 2)


def stepped(pool: TestPool, to: datetime, ticks: int = 96) -> int:
    """Set the clock, and let a day of ticks go by; return how many of them served the policy."""
    served = 0
    for number in range(ticks):
        pool.simulator.set_time(to + number * timedelta(minutes=15))
        report = pool.tick()
        assert report.status == 0
        served += len(report.served)
    return served


@pytest.mark.parametrize(
    "frequency, a_day, to",
    [
        ("hourly", 24, "20260302T12:15:00Z"),
        ("daily", 1, "20260302T12:15:00Z"),
        ("daily", 1, "20260301T14:00:00Z"),
        ("hourly", 24, "19700101T00:00:00Z"),
        ("daily", 1, "19700101T00:01:00Z"),
        ("hourly", 24, "20380118T20:00:00Z"),
        ("daily", 1, "20380119T03:14:08Z"),
        ("daily", 1, "21060207T06:28:16Z"),
        ("hourly", 24, "89980101T00:00:00Z"),
    ],
)
def test_a_clock_that_is_set_to_another_time_and_back_silences_nobody(
    pool: TestPool, frequency: str, a_day: int, to: str
) -> None:
    vm = pool.vm("vm")
    policy = pool.policy(
        [vm],
        frequency=frequency,
        schedule=dict({"min": "15"}, **({"hour": "13"} if frequency == "daily" else {})),
        retained_snapshots="3",
    )
    pool.at(13, 15)
    assert len(pool.tick().served) == 1
    before = pool.snapshots(vm)
    wrong, at = parse_datetime(to), datetime(2026, 3, 2, 13, 15, tzinfo=UTC)
    served = stepped(pool, wrong)
    again = wrong < at < wrong + timedelta(days=1)  # the slot that was served already comes once more
    assert a_day - again <= served <= a_day + 1  # what was missed in the years between is one late run
    assert "VMSS_SNAPSHOT_FAILED" not in pool.names()
    if wrong < at - timedelta(days=2):
        # What is dated in the future is none of the past's to delete.
        assert before[0]["uuid"] in [record["uuid"] for record in pool.snapshots(vm)]
    # Somebody sets it right.
    right = datetime(2026, 3, 4, 0, 0, tzinfo=UTC)
    served = stepped(pool, right)
    assert a_day <= served <= a_day + 1
    assert right < pool.last_run(policy) < right + timedelta(days=1)
    times = [parse_datetime(record["snapshot_time"]) for record in pool.snapshots(vm)]
    assert max(at for at in times if at.year <= 2026) > right
    assert len([at for at in times if at.year <= 2026]) <= 3
    if wrong.year > 2026:
        assert any("lies in the future: taken as never" in line for line in pool.log())
