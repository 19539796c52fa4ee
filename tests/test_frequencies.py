"""The table of frequencies: a further one is an entry in it, and what is not in it is an error, and is never served."""

from datetime import datetime, time, timedelta, timezone, tzinfo
from typing import Iterator

import pytest

from tests.pool import TestPool
from tests.test_listing import ask, told
from tests.test_policy import REF, record
from vmss.core import frequencies
from vmss.core.datetimes import wall_clock, wall_to_instants
from vmss.core.frequencies import FREQUENCIES, HOUR_KEY, MINUTE_KEY, Frequency, Schedule
from vmss.core.policy import PolicyError, from_record
from vmss.core.schedule import due_slot, latest_slot, next_slot
from vmss.edges.zones import Dom0Zone, time_zone
from vmss.xe import classes

UTC = timezone.utc
MONTHLY = "monthly"
SLOT = datetime(2026, 4, 1, 10, 15, tzinfo=UTC)


def slots_on_the_first(schedule: Schedule, zone: tzinfo, instant: datetime) -> Iterator[datetime]:
    today = wall_clock(zone, instant).date()
    for day in (today + timedelta(days=offset) for offset in range(-32, 33)):
        if day.day == 1:
            yield wall_to_instants(zone, datetime.combine(day, time(schedule.hour, schedule.minute)))[0]


def in_words(schedule: Schedule) -> str:
    return "on the first of each month at %02d:%02d" % (schedule.hour, schedule.minute)


@pytest.fixture
def monthly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frequency more. This entry is all that it takes."""
    entry = Frequency(MONTHLY, (MINUTE_KEY, HOUR_KEY), timedelta(days=31), slots_on_the_first, in_words)
    monkeypatch.setitem(FREQUENCIES, MONTHLY, entry)


def policy_of(pool: TestPool, frequency: str) -> str:
    """A policy at 10:15 with one VM, of a frequency that the embedded xapi may not have."""
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], name="the policy", frequency="daily", schedule={"hour": "10", "min": "15"})
    pool.simulator.db.set("VMSS", policy, "frequency", frequency)
    return policy


# One more


@pytest.mark.usefixtures("monthly")
def test_a_record_with_a_frequency_more_is_understood() -> None:
    schedule = from_record(REF, record(frequency=MONTHLY, schedule={"hour": "10", "days": "Caturday"})).schedule
    assert schedule == Schedule(MONTHLY, 0, 10)
    with pytest.raises(PolicyError, match="schedule:hour: '24' is not within 0 to 23"):
        from_record(REF, record(frequency=MONTHLY, schedule={"hour": "24"}))
    with pytest.raises(PolicyError, match="frequency: 'yearly' is not one of hourly, daily, weekly, monthly"):
        from_record(REF, record(frequency="yearly"))


@pytest.mark.usefixtures("monthly")
def test_a_frequency_more_has_slots_and_words() -> None:
    schedule, london = Schedule(MONTHLY, 15, 10), time_zone("Europe/London")
    assert next_slot(schedule, london, datetime(2026, 3, 2, tzinfo=UTC)) == SLOT - timedelta(hours=1)
    assert latest_slot(schedule, UTC, SLOT - timedelta(seconds=1)) == datetime(2026, 3, 1, 10, 15, tzinfo=UTC)
    assert due_slot(schedule, UTC, SLOT - timedelta(days=30), SLOT) == SLOT
    assert due_slot(schedule, UTC, SLOT, SLOT + timedelta(days=29)) is None
    assert schedule.in_words() == "on the first of each month at 10:15"
    assert schedule.distance == timedelta(days=31)


@pytest.mark.usefixtures("monthly")
def test_a_frequency_more_is_served_at_its_slots_and_shown(pool: TestPool) -> None:
    policy = policy_of(pool, MONTHLY)
    for day in (2, 3, 31):
        pool.at(10, 15, day=day)
        pool.tick()
    assert pool.names(policy) == []
    assert [run["time"] for run in ask(pool, "next", "--hours", "48")] == ["2026-04-01T10:15:00Z"]
    pool.simulator.set_time(SLOT)
    pool.tick()
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"]
    pool.simulator.set_time(SLOT + timedelta(days=1))
    pool.tick()
    assert [run["result"] for run in ask(pool, "history", "--last", "1")] == ["succeeded"]
    (row,) = ask(pool, "list")
    assert (row["schedule"], row["state"]) == ("on the first of each month at 10:15", "enabled")
    assert (row["frequency"], row["minute"], row["hour"], row["days"]) == (MONTHLY, 15, 10, None)
    assert row["next_run"] == "2026-05-01T10:15:00Z"


def test_xe_and_the_embedded_xapi_have_the_frequencies_of_the_table(pool: TestPool) -> None:
    (field,) = (field for field in classes.BY_NAME["vmss"].fields if field.name == "frequency")
    for name in FREQUENCIES:
        assert field.kind.parse("frequency", name) == name
        keys = pool.call("VMSS.get_schedule", pool.policy(frequency=name, schedule={}))
        assert keys == {key.name: key.default for key in FREQUENCIES[name].keys}


# Unknown ones


def test_a_schedule_of_an_unknown_frequency_is_an_error_whatever_is_asked_of_it() -> None:
    schedule, now = Schedule("yearly", 15, 10), datetime(2026, 3, 2, 10, 15, tzinfo=UTC)
    for ask_for in (
        lambda: latest_slot(schedule, UTC, now),
        lambda: next_slot(schedule, UTC, now),
        lambda: due_slot(schedule, UTC, None, now),
        lambda: schedule.in_words(),
        lambda: schedule.distance,
        lambda: schedule.reads(HOUR_KEY),
        lambda: frequencies.read("yearly", {}),
    ):
        with pytest.raises(ValueError, match=r"\Afrequency: 'yearly' is not one of hourly, daily, weekly\Z"):
            ask_for()


def test_a_policy_of_an_unknown_frequency_is_never_served_and_said_to_be_wrong(pool: TestPool) -> None:
    policy = policy_of(pool, "yearly")
    rule = "frequency: 'yearly' is not one of hourly, daily, weekly"
    for day in range(2, 10):
        pool.at(10, 15, day=day)
        pool.tick()
    assert pool.names(policy) == []
    assert any(rule in line for line in pool.log())
    (row,) = ask(pool, "list")
    assert (row["state"], row["next_run"], row["schedule"]) == ("error: " + rule, None, None)
    assert ask(pool, "next") == []
    assert ask(pool, "history") == []
    assert rule in told(pool, "show", "the policy")


class Counting(Dom0Zone):
    """A zone with a fixed offset that counts how often it is asked."""

    def __init__(self, hours: int) -> None:
        self.asked = 0
        self._offset = timedelta(hours=hours)

    def fromutc(self, instant: datetime) -> datetime:
        self.asked += 1
        return (instant + self._offset).replace(tzinfo=timezone(self._offset))


def test_schedules_with_the_same_times_ask_the_zone_once() -> None:
    now = datetime(2026, 3, 2, 10, 7, tzinfo=timezone.utc)
    asked = []
    for times in (1, 100):
        zone = Counting(0)
        for number in range(96 * times):
            latest_slot(Schedule("daily", minute=15 * (number % 4), hour=number // 4 % 24), zone, now)
        asked.append(zone.asked)
    assert asked[0] == asked[1] > 96


def test_the_latest_slot_is_that_of_the_zone_and_the_instant_asked_for() -> None:
    daily, now = Schedule("daily", hour=9), datetime(2026, 3, 2, 10, tzinfo=timezone.utc)
    for _ in range(2):
        assert latest_slot(daily, Counting(0), now) == datetime(2026, 3, 2, 9, tzinfo=timezone.utc)
        assert latest_slot(daily, Counting(-3), now) == datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
        assert latest_slot(daily, Counting(0), now - timedelta(hours=2)) == datetime(2026, 3, 1, 9, tzinfo=timezone.utc)
