"""When a schedule is due: the rules as examples, and properties against a clock walked by the minute."""

import os
from datetime import datetime, timedelta, timezone
from typing import List, Optional, Tuple

import pytest
from dateutil import tz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import oracle
from vmss.core.frequencies import DAILY, HOURLY, WEEKLY, Schedule
from vmss.core.policy import Policy
from vmss.core.schedule import TICK_INTERVAL, due_slot, latest_slot, next_slot
from vmss.edges.zones import time_zone

UTC = timezone.utc
SECOND = timedelta(seconds=1)
MONDAY, FRIDAY, SATURDAY, SUNDAY = 0, 4, 5, 6

# VMSS_TEST_EXAMPLES=20 looks twenty times as long.
EXAMPLES = int(os.environ.get("VMSS_TEST_EXAMPLES", "1"))

pytestmark = pytest.mark.skipif(not oracle.knows_time_zones(), reason="no time zone database here")


def at(text: str) -> datetime:
    """2026-03-29T01:00 as an instant in UTC, seconds and fractions where given."""
    form = "%Y-%m-%dT%H:%M" + ":%S" * (text.count(":") == 2)
    return datetime.strptime(text, form).replace(tzinfo=UTC)


def hourly(minute: int) -> Schedule:
    return Schedule(HOURLY, minute)


def daily(clock: str) -> Schedule:
    hour, minute = clock.split(":")
    return Schedule(DAILY, int(minute), int(hour))


def weekly(clock: str, *days: int) -> Schedule:
    return daily(clock)._replace(frequency=WEEKLY, days=frozenset(days))


def slots(schedule: Schedule, zone: str, first: str, last: str) -> List[str]:
    """The slots after `first` and up to `last`, found one from the other."""
    return [slot.strftime("%Y-%m-%dT%H:%M") for slot in slots_between(schedule, zone, at(first), at(last))]


def slots_between(schedule: Schedule, zone: str, first: datetime, last: datetime) -> List[datetime]:
    found, slot = [], next_slot(schedule, time_zone(zone), first)
    while slot <= last:
        found.append(slot)
        slot = next_slot(schedule, time_zone(zone), slot)
        assert slot > found[-1]
    return found


# Rule 1: wall-clock time in the coordinator's own zone


def test_an_hourly_schedule_runs_at_its_minute_of_every_hour() -> None:
    found = slots(hourly(15), "Europe/London", "2026-01-10T08:15", "2026-01-10T11:15")
    assert found == ["2026-01-10T09:15", "2026-01-10T10:15", "2026-01-10T11:15"]


@pytest.mark.parametrize(
    "zone, expected",
    [
        ("UTC", ["2026-01-10T10:15", "2026-01-11T10:15"]),
        ("Europe/London", ["2026-01-10T10:15", "2026-01-11T10:15"]),
        ("America/New_York", ["2026-01-10T15:15", "2026-01-11T15:15"]),
        ("Australia/Lord_Howe", ["2026-01-10T23:15", "2026-01-11T23:15"]),
        ("Asia/Kathmandu", ["2026-01-10T04:30", "2026-01-11T04:30"]),
        ("Pacific/Apia", ["2026-01-10T21:15", "2026-01-11T21:15"]),
    ],
)
def test_a_daily_schedule_runs_at_its_time_of_the_zones_clock(zone: str, expected: List[str]) -> None:
    assert slots(daily("10:15"), zone, "2026-01-10T00:00", "2026-01-12T00:00") == expected


@pytest.mark.parametrize(
    "zone, expected",
    [
        ("Asia/Kathmandu", ["2026-01-10T08:15", "2026-01-10T09:15"]),
        ("Australia/Lord_Howe", ["2026-01-10T08:00", "2026-01-10T09:00"]),
        ("America/St_Johns", ["2026-01-10T08:30", "2026-01-10T09:30"]),
    ],
)
def test_an_hourly_schedule_follows_an_offset_that_is_no_whole_hour(zone: str, expected: List[str]) -> None:
    assert slots(hourly(0), zone, "2026-01-10T07:59", "2026-01-10T09:30") == expected


def test_a_weekly_schedule_runs_on_each_of_its_days_and_on_no_other() -> None:
    found = slots(weekly("22:30", MONDAY, FRIDAY, SUNDAY), "UTC", "2026-01-05T00:00", "2026-01-18T00:00")
    assert found == ["2026-01-05T22:30", "2026-01-09T22:30", "2026-01-11T22:30", "2026-01-12T22:30", "2026-01-16T22:30"]


def test_the_day_of_a_weekly_schedule_is_the_day_of_the_zones_calendar() -> None:
    found = slots(weekly("03:00", MONDAY), "Asia/Kathmandu", "2026-01-10T00:00", "2026-01-14T00:00")
    assert found == ["2026-01-11T21:15"]  # a Sunday in UTC


def test_keys_that_are_not_given_have_the_defaults_of_xapi() -> None:
    assert Schedule(HOURLY) == Schedule(HOURLY, 0)
    assert Schedule(WEEKLY) == Schedule(WEEKLY, 0, 0, frozenset([MONDAY]))


def test_a_zone_without_a_name_is_the_one_that_tz_names() -> None:
    with oracle.c_library_zone("Asia/Kathmandu"):
        assert latest_slot(daily("10:15"), time_zone(None), at("2026-01-10T12:00")) == at("2026-01-10T04:30")


# Rule 2: gaps (spring) and overlaps (autumn)

Case = Tuple[str, Schedule, str, str, List[str]]

GAPS: List[Case] = [
    # 2026-03-29 01:00Z: 01:00 -> 02:00
    ("Europe/London", daily("00:45"), "2026-03-28T12:00", "2026-03-29T12:00", ["2026-03-29T00:45"]),
    ("Europe/London", daily("01:00"), "2026-03-28T12:00", "2026-03-29T12:00", ["2026-03-29T01:00"]),
    ("Europe/London", daily("01:45"), "2026-03-28T12:00", "2026-03-29T12:00", ["2026-03-29T01:00"]),
    ("Europe/London", daily("02:00"), "2026-03-28T12:00", "2026-03-29T12:00", ["2026-03-29T01:00"]),
    ("Europe/London", daily("02:15"), "2026-03-28T12:00", "2026-03-29T12:00", ["2026-03-29T01:15"]),
    (
        "Europe/London",
        weekly("01:30", SUNDAY),
        "2026-03-23T00:00",
        "2026-04-06T00:00",
        ["2026-03-29T01:00", "2026-04-05T00:30"],
    ),
    (
        "Europe/London",
        hourly(30),
        "2026-03-28T23:31",
        "2026-03-29T02:30",
        ["2026-03-29T00:30", "2026-03-29T01:30", "2026-03-29T02:30"],
    ),
    # 2026-03-08 07:00Z: 02:00 -> 03:00
    (
        "America/New_York",
        daily("02:30"),
        "2026-03-07T00:00",
        "2026-03-09T12:00",
        ["2026-03-07T07:30", "2026-03-08T07:00", "2026-03-09T06:30"],
    ),
    ("America/New_York", hourly(45), "2026-03-08T05:46", "2026-03-08T08:00", ["2026-03-08T06:45", "2026-03-08T07:45"]),
    # 2026-10-03 15:30Z: 02:00 -> 02:30; what is left of the hour has its hourly slot
    ("Australia/Lord_Howe", daily("02:15"), "2026-10-03T00:00", "2026-10-04T00:00", ["2026-10-03T15:30"]),
    ("Australia/Lord_Howe", daily("02:45"), "2026-10-03T00:00", "2026-10-04T00:00", ["2026-10-03T15:45"]),
    (
        "Australia/Lord_Howe",
        hourly(0),
        "2026-10-03T14:00",
        "2026-10-03T16:00",
        ["2026-10-03T14:30", "2026-10-03T15:30", "2026-10-03T16:00"],
    ),
    (
        "Australia/Lord_Howe",
        hourly(15),
        "2026-10-03T14:00",
        "2026-10-03T16:15",
        ["2026-10-03T14:45", "2026-10-03T15:30", "2026-10-03T16:15"],
    ),
    (
        "Australia/Lord_Howe",
        hourly(45),
        "2026-10-03T14:00",
        "2026-10-03T16:15",
        ["2026-10-03T14:15", "2026-10-03T15:15", "2026-10-03T15:45"],
    ),
    # 1985-12-31 18:30Z: 00:00 -> 00:15
    (
        "Asia/Kathmandu",
        daily("00:00"),
        "1985-12-31T00:00",
        "1986-01-01T18:15",
        ["1985-12-31T18:30", "1986-01-01T18:15"],
    ),
    (
        "Asia/Kathmandu",
        hourly(0),
        "1985-12-31T17:00",
        "1985-12-31T19:15",
        ["1985-12-31T17:30", "1985-12-31T18:30", "1985-12-31T19:15"],
    ),
    # 2024-04-14 02:00Z: 02:00 -> 03:00, the end of Ramadan
    (
        "Africa/Casablanca",
        daily("02:30"),
        "2024-04-13T12:00",
        "2024-04-15T12:00",
        ["2024-04-14T02:00", "2024-04-15T01:30"],
    ),
    # 2010-03-14 03:31Z: 00:01 -> 01:01
    (
        "America/St_Johns",
        hourly(0),
        "2010-03-14T02:35",
        "2010-03-14T05:00",
        ["2010-03-14T03:30", "2010-03-14T03:31", "2010-03-14T04:30"],
    ),
    ("America/St_Johns", daily("00:30"), "2010-03-13T12:00", "2010-03-14T12:00", ["2010-03-14T03:31"]),
    # 2011-12-30 10:00Z: there was no Friday 30th
    (
        "Pacific/Apia",
        daily("08:00"),
        "2011-12-28T12:00",
        "2012-01-01T00:00",
        ["2011-12-28T18:00", "2011-12-29T18:00", "2011-12-30T10:00", "2011-12-30T18:00", "2011-12-31T18:00"],
    ),
    (
        "Pacific/Apia",
        weekly("08:00", FRIDAY),
        "2011-12-24T00:00",
        "2012-01-06T00:00",
        ["2011-12-30T10:00", "2012-01-05T18:00"],
    ),
    (
        "Pacific/Apia",
        weekly("00:00", SATURDAY),
        "2011-12-25T00:00",
        "2012-01-07T00:00",
        ["2011-12-30T10:00", "2012-01-06T10:00"],
    ),
    (
        "Pacific/Apia",
        hourly(30),
        "2011-12-30T08:00",
        "2011-12-30T11:30",
        ["2011-12-30T08:30", "2011-12-30T09:30", "2011-12-30T10:30", "2011-12-30T11:30"],
    ),
]

OVERLAPS: List[Case] = [
    # 2026-10-25 01:00Z: 02:00 -> 01:00
    ("Europe/London", daily("01:15"), "2026-10-24T12:00", "2026-10-26T12:00", ["2026-10-25T00:15", "2026-10-26T01:15"]),
    ("Europe/London", daily("01:00"), "2026-10-24T12:00", "2026-10-25T12:00", ["2026-10-25T00:00"]),
    ("Europe/London", daily("02:00"), "2026-10-24T12:00", "2026-10-25T12:00", ["2026-10-25T02:00"]),
    (
        "Europe/London",
        weekly("01:45", SUNDAY),
        "2026-10-20T00:00",
        "2026-11-02T00:00",
        ["2026-10-25T00:45", "2026-11-01T01:45"],
    ),
    (
        "Europe/London",
        hourly(0),
        "2026-10-24T23:30",
        "2026-10-25T02:00",
        ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"],
    ),
    # 2026-11-01 06:00Z: 02:00 -> 01:00
    (
        "America/New_York",
        daily("01:30"),
        "2026-10-31T12:00",
        "2026-11-02T12:00",
        ["2026-11-01T05:30", "2026-11-02T06:30"],
    ),
    (
        "America/New_York",
        hourly(45),
        "2026-11-01T04:50",
        "2026-11-01T08:00",
        ["2026-11-01T05:45", "2026-11-01T06:45", "2026-11-01T07:45"],
    ),
    # 2026-04-04 15:00Z: 02:00 -> 01:30; 01:30 and 01:45 are shown twice, 01:00 and 01:15 once
    ("Australia/Lord_Howe", daily("01:45"), "2026-04-04T00:00", "2026-04-05T00:00", ["2026-04-04T14:45"]),
    ("Australia/Lord_Howe", daily("01:15"), "2026-04-04T00:00", "2026-04-05T00:00", ["2026-04-04T14:15"]),
    (
        "Australia/Lord_Howe",
        hourly(45),
        "2026-04-04T14:00",
        "2026-04-04T16:30",
        ["2026-04-04T14:45", "2026-04-04T15:15", "2026-04-04T16:15"],
    ),
    (
        "Australia/Lord_Howe",
        hourly(15),
        "2026-04-04T14:00",
        "2026-04-04T16:30",
        ["2026-04-04T14:15", "2026-04-04T15:45"],
    ),
    # 2024-03-10 02:00Z: 03:00 -> 02:00, Ramadan
    (
        "Africa/Casablanca",
        daily("02:30"),
        "2024-03-09T12:00",
        "2024-03-11T12:00",
        ["2024-03-10T01:30", "2024-03-11T02:30"],
    ),
    (
        "Africa/Casablanca",
        hourly(30),
        "2024-03-10T01:00",
        "2024-03-10T04:00",
        ["2024-03-10T01:30", "2024-03-10T02:30", "2024-03-10T03:30"],
    ),
    # 2010-11-07 02:31Z: 00:01 of the 7th -> 23:01 of the 6th
    (
        "America/St_Johns",
        daily("23:30"),
        "2010-11-06T12:00",
        "2010-11-08T12:00",
        ["2010-11-07T02:00", "2010-11-08T03:00"],
    ),
    (
        "America/St_Johns",
        daily("00:00"),
        "2010-11-06T12:00",
        "2010-11-08T12:00",
        ["2010-11-07T02:30", "2010-11-08T03:30"],
    ),
    (
        "America/St_Johns",
        hourly(0),
        "2010-11-07T01:00",
        "2010-11-07T05:00",
        ["2010-11-07T01:30", "2010-11-07T02:30", "2010-11-07T03:30", "2010-11-07T04:30"],
    ),
]


@pytest.mark.parametrize("zone, schedule, first, last, expected", GAPS)
def test_a_slot_in_a_gap_of_the_clock_is_served_at_the_first_instant_after_it(
    zone: str, schedule: Schedule, first: str, last: str, expected: List[str]
) -> None:
    assert slots(schedule, zone, first, last) == expected


@pytest.mark.parametrize("zone, schedule, first, last, expected", OVERLAPS)
def test_a_daily_or_weekly_slot_that_occurs_twice_is_served_once_and_an_hourly_one_twice(
    zone: str, schedule: Schedule, first: str, last: str, expected: List[str]
) -> None:
    assert slots(schedule, zone, first, last) == expected


@pytest.mark.parametrize("zone, schedule, first, last, expected", GAPS + OVERLAPS)
def test_the_latest_slot_around_a_change_of_the_clock_is_the_last_one_that_came_before(
    zone: str, schedule: Schedule, first: str, last: str, expected: List[str]
) -> None:
    instants = [at(slot) for slot in expected]
    for slot, following in zip(instants, instants[1:] + [at(last)]):
        assert latest_slot(schedule, time_zone(zone), slot) == slot
        if slot < following:
            assert latest_slot(schedule, time_zone(zone), slot + (following - slot) / 2) == slot
            if following in instants:
                assert latest_slot(schedule, time_zone(zone), following - SECOND) == slot


@pytest.mark.parametrize("zone", ["Europe/London", "America/New_York", "Africa/Casablanca", "Europe/Dublin"])
@pytest.mark.parametrize("minute", [0, 15, 30, 45])
def test_where_the_clock_changes_by_whole_hours_an_hourly_schedule_runs_once_in_every_real_hour(
    zone: str, minute: int
) -> None:
    for change in oracle.transitions(zone)[-4:]:
        slot = latest_slot(hourly(minute), time_zone(zone), instant(change - 4 * 3600))
        for _ in range(8):
            following = next_slot(hourly(minute), time_zone(zone), slot)
            assert following - slot == timedelta(hours=1)
            slot = following


# Rule 3: only the latest slot counts

RUN_LATE = at("2026-01-10T11:00")


def policy(enabled: bool = True, vms: Tuple[str, ...] = ("OpaqueRef:1",)) -> Policy:
    last_run = at("2026-01-09T10:20")
    return Policy("OpaqueRef:p", "u", "name", enabled, "snapshot", 7, daily("10:15"), last_run, vms)


def test_a_policy_is_due_once_its_slot_has_come_and_until_it_has_run() -> None:
    schedule, last_run = daily("10:15"), at("2026-01-09T10:20")
    assert due_slot(schedule, tz.UTC, last_run, at("2026-01-10T10:14:59")) is None
    assert due_slot(schedule, tz.UTC, last_run, at("2026-01-10T10:15")) == at("2026-01-10T10:15")
    assert due_slot(schedule, tz.UTC, last_run, at("2026-01-11T10:14")) == at("2026-01-10T10:15")
    assert due_slot(schedule, tz.UTC, at("2026-01-10T11:01"), at("2026-01-11T10:14")) is None


def test_a_run_that_ended_at_the_very_slot_has_served_it() -> None:
    assert due_slot(daily("10:15"), tz.UTC, at("2026-01-10T10:15"), RUN_LATE) is None
    assert due_slot(daily("10:15"), tz.UTC, at("2026-01-10T10:14:59"), RUN_LATE) == at("2026-01-10T10:15")


def test_three_missed_days_are_one_late_run() -> None:
    assert due_slot(daily("10:15"), tz.UTC, at("2026-01-06T10:20"), RUN_LATE) == at("2026-01-10T10:15")
    assert due_slot(daily("10:15"), tz.UTC, RUN_LATE, RUN_LATE + SECOND) is None


def test_a_policy_with_vms_is_due_and_one_without_is_not() -> None:
    assert policy().due(tz.UTC, RUN_LATE) == at("2026-01-10T10:15")
    assert policy(vms=()).due(tz.UTC, RUN_LATE) is None


def test_a_disabled_policy_is_never_due() -> None:
    assert policy(enabled=False).due(tz.UTC, RUN_LATE) is None


def test_a_daily_slot_that_occurs_twice_is_not_due_again_at_its_second_occurrence() -> None:
    zone, after_first = time_zone("Europe/London"), at("2026-10-25T00:20")
    assert due_slot(daily("01:15"), zone, after_first, at("2026-10-25T01:15")) is None
    assert due_slot(hourly(15), zone, after_first, at("2026-10-25T01:15")) == at("2026-10-25T01:15")


# Rule 4: a policy that has never run


@pytest.mark.parametrize(
    "now, due",
    [
        ("2026-01-10T10:14:59", False),
        ("2026-01-10T10:15:00", True),
        ("2026-01-10T10:29:59", True),
        ("2026-01-10T10:30:00", False),
        ("2026-01-11T09:00:00", False),
    ],
)
def test_a_policy_that_never_ran_is_due_only_within_15_minutes_of_its_slot(now: str, due: bool) -> None:
    assert due_slot(daily("10:15"), tz.UTC, None, at(now)) == (at("2026-01-10T10:15") if due else None)


@pytest.mark.parametrize(
    "now, due", [("2026-03-29T01:00", True), ("2026-03-29T01:14", True), ("2026-03-29T01:15", False)]
)
def test_a_policy_that_never_ran_has_its_15_minutes_from_the_end_of_a_gap(now: str, due: bool) -> None:
    found = due_slot(daily("01:45"), time_zone("Europe/London"), None, at(now))
    assert found == (at("2026-03-29T01:00") if due else None)


# Rule 5: a last run in the future


@pytest.mark.parametrize(
    "now, due", [("2026-01-10T10:15", True), ("2026-01-10T10:29", True), ("2026-01-10T10:30", False)]
)
def test_a_last_run_in_the_future_counts_as_never_run(now: str, due: bool) -> None:
    found = due_slot(daily("10:15"), tz.UTC, at("2036-01-01T00:00"), at(now))
    assert found == (at("2026-01-10T10:15") if due else None)


def test_a_last_run_more_than_a_minute_ahead_is_in_the_future_and_one_of_less_is_a_clock_that_was_set() -> None:
    now = at("2026-01-10T10:20")
    assert due_slot(daily("10:15"), tz.UTC, now + 60 * SECOND, now) is None
    assert due_slot(daily("10:15"), tz.UTC, now + 61 * SECOND, now) == at("2026-01-10T10:15")


# Properties, against the walked clock

ZONES = [
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "UTC",
    "Pacific/Apia",  # skipped a day
    "Pacific/Chatham",  # 45 minutes off the hour
    "America/St_Johns",  # changed at 00:01
    "Antarctica/Troll",  # by two hours
    "Antarctica/Casey",  # by three hours
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Tehran",  # at midnight
    "America/Scoresbysund",
    "Europe/Dublin",
    "America/Caracas",
    "Asia/Pyongyang",
]

Moment = Tuple[str, datetime]


def instant(seconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def moments_of(zone: str) -> "st.SearchStrategy[Moment]":
    anywhere = st.integers(oracle.FIRST, oracle.LAST)
    changes = oracle.transitions(zone)
    if changes:
        close = st.one_of(
            st.integers(-16, 16).map(lambda quarters: quarters * 900),
            st.integers(-6 * 3600, 6 * 3600),
            st.integers(-3 * oracle.DAY, 3 * oracle.DAY),
        )
        near = st.builds(lambda change, distance: change + distance, st.sampled_from(changes), close)
        seconds = st.one_of(near, near, near, anywhere)
    else:
        seconds = anywhere
    fractions = st.sampled_from([0, 0, 0.000001, 0.999999])
    return st.builds(lambda second, fraction: (zone, instant(second) + timedelta(seconds=fraction)), seconds, fractions)


moments = st.sampled_from(ZONES).flatmap(moments_of)
schedules = st.builds(
    Schedule,
    st.sampled_from([HOURLY, DAILY, DAILY, WEEKLY]),
    st.sampled_from([0, 15, 30, 45]),
    # Small hours are where clocks change.
    st.one_of(st.integers(0, 4), st.integers(0, 23)),
    st.frozensets(st.integers(0, 6), min_size=1),
)
thorough = settings(max_examples=150 * EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def computed(schedule: Schedule, zone: str, now: datetime) -> Tuple[datetime, datetime]:
    return latest_slot(schedule, time_zone(zone), now), next_slot(schedule, time_zone(zone), now)


def seconds_of(now: datetime) -> int:
    return int((now - instant(0)).total_seconds())


def walked(schedule: Schedule, zone: str, now: datetime) -> Tuple[datetime, datetime]:
    """The latest slot and the next one, as the walked clock has them."""
    days = {HOURLY: 1, DAILY: 3, WEEKLY: 9}[schedule.frequency]
    second = seconds_of(now)
    found = oracle.slots(
        zone,
        second - days * oracle.DAY,
        second + days * oracle.DAY,
        schedule.frequency,
        schedule.minute,
        schedule.hour,
        schedule.days,
    )
    return (
        max(instant(slot) for slot in found if instant(slot) <= now),
        min(instant(slot) for slot in found if instant(slot) > now),
    )


@given(schedules, moments)
@thorough
def test_the_latest_and_the_next_slot_are_those_that_the_walked_clock_has(schedule: Schedule, moment: Moment) -> None:
    assert computed(schedule, *moment) == walked(schedule, *moment)


@pytest.mark.parametrize(
    "zone, day",
    [
        ("Europe/London", "2026-03-29"),
        ("Europe/London", "2026-10-25"),
        ("Australia/Lord_Howe", "2026-10-03"),
        ("Australia/Lord_Howe", "2026-04-04"),
        ("America/St_Johns", "2010-03-14"),
        ("America/St_Johns", "2010-11-07"),
        ("Antarctica/Troll", "2026-03-29"),
        ("Antarctica/Troll", "2026-10-25"),
        ("Pacific/Apia", "2011-12-30"),
    ],
)
@pytest.mark.parametrize("minute", [0, 15, 30, 45])
def test_every_thirteen_minutes_around_a_change_the_hourly_slots_are_those_that_the_walked_clock_has(
    zone: str, day: str, minute: int
) -> None:
    noon = seconds_of(at(day + "T12:00"))
    change = min(oracle.transitions(zone), key=lambda second: abs(second - noon))
    for minutes in range(-150, 150, 13):
        now = instant(change + minutes * 60)
        assert computed(hourly(minute), zone, now) == walked(hourly(minute), zone, now)


@given(schedules, moments)
@thorough
def test_dom0s_own_zone_is_the_zone_of_that_name(schedule: Schedule, moment: Moment) -> None:
    zone, now = moment
    with oracle.c_library_zone(zone):
        own = time_zone(None)
        here = now.astimezone(own)
        assert (latest_slot(schedule, own, now), next_slot(schedule, own, now)) == computed(schedule, zone, now)
    named = now.astimezone(time_zone(zone))
    assert (here, here.replace(tzinfo=None), here.tzname()) == (now, named.replace(tzinfo=None), named.tzname())


@given(st.sampled_from([0, 15, 30, 45]), moments)
@settings(thorough, max_examples=60 * EXAMPLES)
def test_the_hourly_slots_of_two_days_are_those_that_the_walked_clock_has(minute: int, moment: Moment) -> None:
    zone, now = moment
    first, last = seconds_of(now), seconds_of(now) + 2 * oracle.DAY
    walk = oracle.slots(zone, first, last, HOURLY, minute, 0, frozenset())
    found = slots_between(hourly(minute), zone, now, instant(last))
    assert found == [instant(second) for second in walk if instant(second) > now]


@given(
    schedules,
    moments,
    st.one_of(st.none(), st.integers(-20, 20).map(lambda ticks: 900 * ticks), st.integers(-(10**6), 10**5)),
)
@settings(thorough, max_examples=100 * EXAMPLES)
def test_what_is_due_follows_from_the_walked_clock_and_the_last_run(
    schedule: Schedule, moment: Moment, distance: Optional[int]
) -> None:
    zone, now = moment
    last_run = None if distance is None else now + timedelta(seconds=distance)
    slot, _ = walked(schedule, zone, now)
    never_ran = last_run is None or last_run > now + timedelta(minutes=1)  # by a wrong clock
    due = now - slot < timedelta(minutes=15) if never_ran else last_run is not None and last_run < slot
    assert due_slot(schedule, time_zone(zone), last_run, now) == (slot if due else None)


@given(schedules, moments)
@settings(thorough, max_examples=300 * EXAMPLES)
def test_an_instant_lies_between_its_latest_slot_and_its_next_and_no_slot_lies_between_them(
    schedule: Schedule, moment: Moment
) -> None:
    zone, now = time_zone(moment[0]), moment[1]
    latest, following = latest_slot(schedule, zone, now), next_slot(schedule, zone, now)
    assert latest <= now < following
    assert (latest.utcoffset(), following.utcoffset()) == (timedelta(0), timedelta(0))
    assert latest_slot(schedule, zone, latest) == latest_slot(schedule, zone, following - SECOND) == latest
    assert next_slot(schedule, zone, latest) == next_slot(schedule, zone, latest + SECOND) == following
    assert next_slot(schedule, zone, latest - SECOND) == latest
    assert latest_slot(schedule, zone, following) == following


@given(schedules, moments)
@settings(thorough, max_examples=100 * EXAMPLES)
def test_a_slot_is_due_from_its_instant_until_the_next_one_and_not_after_it_was_served(
    schedule: Schedule, moment: Moment
) -> None:
    zone, slot = time_zone(moment[0]), latest_slot(schedule, time_zone(moment[0]), moment[1])
    following = next_slot(schedule, zone, slot)
    assert due_slot(schedule, zone, slot - SECOND, slot) == slot
    assert due_slot(schedule, zone, slot - SECOND, following - SECOND) == slot
    assert due_slot(schedule, zone, slot, following - SECOND) is None
    assert due_slot(schedule, zone, slot, following) == following
    assert due_slot(schedule, zone, None, slot) == slot
    if following - slot > TICK_INTERVAL:
        assert due_slot(schedule, zone, None, following - SECOND) is None
