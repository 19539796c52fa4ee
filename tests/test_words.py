"""Words: schedules, durations and instants as people read them."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmss.core import words
from vmss.core.frequencies import DAILY, FREQUENCIES, HOURLY, WEEKLY, Schedule

UTC = timezone.utc
CET = timezone(timedelta(hours=1), "CET")

SCHEDULES = st.builds(
    Schedule,
    st.sampled_from(list(FREQUENCIES)),
    st.sampled_from((0, 15, 30, 45)),
    st.integers(0, 23),
    st.frozensets(st.integers(0, 6), min_size=1),
)


@pytest.mark.parametrize(
    "schedule, text",
    [
        (Schedule(HOURLY, 0), "every hour at :00"),
        (Schedule(HOURLY, 15), "every hour at :15"),
        (Schedule(DAILY, 30, 2), "every day at 02:30"),
        (Schedule(WEEKLY, 0, 22, frozenset([4])), "Fridays at 22:00"),
        (Schedule(WEEKLY, 0, 22, frozenset([4, 0])), "Mondays and Fridays at 22:00"),
        (Schedule(WEEKLY, 0, 7, frozenset([6, 5, 0])), "Mondays, Saturdays and Sundays at 07:00"),
        (Schedule(WEEKLY, 45, 7, frozenset(range(7))), "every day at 07:45"),
    ],
)
def test_a_schedule_in_words(schedule: Schedule, text: str) -> None:
    assert schedule.in_words() == text


@given(SCHEDULES, SCHEDULES)
def test_schedules_with_the_same_words_have_the_same_slots(one: Schedule, other: Schedule) -> None:
    if one.in_words() != other.in_words():
        return

    def meaning(slots: Schedule) -> object:
        if slots.frequency == HOURLY:
            return slots.minute
        days = slots.days if slots.frequency == WEEKLY else frozenset(range(7))
        return slots.minute, slots.hour, days

    assert meaning(one) == meaning(other)


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (3661, "1 h 1 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d"),
        (100000, "1 d 3 h"),
        (-5, "0 s"),
    ],
)
def test_a_duration_in_words(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@given(st.integers(0, 10**8))
def test_a_duration_in_words_is_less_than_its_smallest_unit_short(seconds: int) -> None:
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    parts = words.duration(seconds).split(" ")
    told = sum(int(number) * units[unit] for number, unit in zip(parts[::2], parts[1::2]))
    sizes = sorted(units.values())
    largest = units[parts[1]]
    assert 0 <= seconds - told < (sizes[max(0, sizes.index(largest) - 1)])


@pytest.mark.parametrize("seconds, text", [(0, "now"), (300, "in 5 min"), (-7200, "2 h ago")])
def test_how_far_off_an_instant_is(seconds: int, text: str) -> None:
    now = datetime(2026, 3, 2, 10, 15, tzinfo=UTC)
    assert words.distance(now + timedelta(seconds=seconds), now) == text


@pytest.mark.parametrize(
    "number, text",
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 << 29, "1.5 GiB"),
        (250 << 30, "250 GiB"),
        (1 << 60, "1048576 TiB"),
    ],
)
def test_a_size_in_words(number: int, text: str) -> None:
    assert words.size(number) == text


def test_an_instant_is_told_on_both_clocks_where_they_differ() -> None:
    late = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)
    assert words.moment(late, UTC, UTC) == "2026-03-02 23:30 UTC"
    assert words.moment(late, UTC, timezone(timedelta(0), "GMT")) == "2026-03-02 23:30 UTC"
    assert words.moment(late - timedelta(hours=5), UTC, CET) == "2026-03-02 18:30 UTC (19:30 CET)"
    assert words.moment(late, UTC, CET) == "2026-03-02 23:30 UTC (2026-03-03 00:30 CET)"
    assert words.moment(late, CET, UTC) == "2026-03-03 00:30 CET (2026-03-02 23:30 UTC)"


@pytest.mark.parametrize("items, text", [("", ""), ("a", "a"), ("ab", "a and b"), ("abc", "a, b and c")])
def test_words_one_after_another(items: str, text: str) -> None:
    assert words.listed(list(items)) == text


@pytest.mark.parametrize("number, text", [(0, "0 VMs"), (1, "1 VM"), (2, "2 VMs")])
def test_a_number_and_its_noun_agree(number: int, text: str) -> None:
    assert words.counted(number, "VM") == text
    assert words.agree(number, "has", "have") == ("has" if number == 1 else "have")
