"""The forecast: every slot that is to come, who gets in whose way, and moves that really help."""

from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, List, Optional, Sequence, Set, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmss.core.frequencies import DAILY, FREQUENCIES, HOURLY, WEEKLY, Schedule
from vmss.core.policy import SNAPSHOT, Policy
from vmss.core.schedule import latest_slot, next_slot, next_tick
from vmss.edges.zones import time_zone
from vmss.insight import forecast
from vmss.insight.forecast import Interval, Load

UTC = timezone.utc
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)  # a Monday
DAY = timedelta(days=1)
ZONES = [UTC, time_zone("Europe/London"), time_zone("Asia/Kathmandu")]


def uuid(number: int) -> str:
    return "00000000-0000-0000-0000-%012d" % number


def load(
    number: int, schedule: Schedule, seconds: float = 60, resources: Sequence[str] = ("sr",), **fields: Any
) -> Load:
    vms = ("OpaqueRef:vm",)
    policy = Policy("OpaqueRef:%d" % number, uuid(number), "p", True, SNAPSHOT, 3, schedule, None, vms)
    return Load(policy._replace(**fields), seconds, 1, frozenset(resources))


@st.composite
def pools(draw: Any) -> List[Load]:
    return [
        load(
            number,
            Schedule(
                draw(st.sampled_from(list(FREQUENCIES))),
                draw(st.sampled_from((0, 15, 30, 45))),
                draw(st.integers(0, 23)),
                draw(st.frozensets(st.integers(0, 6), min_size=1)),
            ),
            draw(st.sampled_from((1, 60, 600, 900, 901, 3000, 3600, 5000, 30000))),
            draw(st.lists(st.sampled_from(("sr1", "sr2", "sr3")), max_size=2)),
        )
        for number in range(draw(st.integers(0, 5)))
    ]


# An hour and a minute, lest a policy that never ran be due at once.
starts = st.builds(lambda hours: NOON + timedelta(hours=hours, minutes=14, seconds=59), st.integers(0, 24 * 7))
zones = st.sampled_from(ZONES)


def on_time(loads: Sequence[Load], now: datetime) -> List[Load]:
    """Those policies, none of which is late."""
    return [one._replace(policy=one.policy._replace(last_run=now)) for one in loads]


def slots(one: Load, zone: tzinfo, now: datetime, until: datetime) -> List[Interval]:
    """When it is at work, by its usual length."""
    found = []
    at = next_slot(one.policy.schedule, zone, now)
    while at <= until:
        found.append((at, at + one.length))
        at = next_slot(one.policy.schedule, zone, at)
    return found


def overlapping(loads: Sequence[Load], zone: tzinfo, now: datetime, until: datetime) -> Set[Tuple[str, str]]:
    """The pairs of policies of which any two runs are at work on a common resource at the same time."""
    when = [(one, slots(one, zone, now, until)) for one in loads]
    return {
        (one.policy.uuid, other.policy.uuid)
        for one, mine in when
        for other, others in when
        if one is not other
        and one.resources & other.resources
        and any(start < end_other and start_other < end for start, end in mine for start_other, end_other in others)
    }


# What runs when


@given(pools(), starts, zones, st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_every_slot_is_there_once_in_order(loads: List[Load], now: datetime, zone: tzinfo, hours: int) -> None:
    until = now + timedelta(hours=hours)
    expected = forecast.expect(on_time(loads, now), zone, now, until)
    assert [run.at for run in expected] == sorted(run.at for run in expected)
    for one in loads:
        mine = [run for run in expected if run.policy.uuid == one.policy.uuid]
        assert [run.at for run in mine] == [at for at, _ in slots(one, zone, now, until)]
        for run in mine:
            assert run.next_slot == next_slot(one.policy.schedule, zone, run.at)
            assert run.missed or run.ends >= run.at + one.length


@given(pools(), starts, zones)
@settings(max_examples=60, deadline=None)
def test_a_pool_is_free_of_overlaps_if_and_only_if_no_run_is_behind_another(
    loads: List[Load], now: datetime, zone: tzinfo
) -> None:
    loads = [one._replace(seconds=min(one.seconds, 800)) for one in loads]  # none is missed
    expected = forecast.expect(on_time(loads, now), zone, now, now + DAY)
    behind = {(run.policy.uuid, other) for run in expected for other in run.behind}
    assert behind | {(other, uuid) for uuid, other in behind} == overlapping(loads, zone, now, now + DAY)
    assert behind or forecast.moves(on_time(loads, now), zone, now, now + DAY) == []


def test_a_disabled_policy_and_one_without_vms_do_not_run() -> None:
    loads = [load(1, Schedule(HOURLY), enabled=False), load(2, Schedule(HOURLY), vms=())]
    assert forecast.expect(loads, UTC, NOON, NOON + DAY) == []


def test_a_policy_that_is_late_runs_in_the_next_tick_and_again_at_its_slot() -> None:
    late = load(1, Schedule(DAILY, 0, 11), last_run=NOON - 2 * DAY)
    runs = forecast.expect([late], UTC, NOON, NOON + DAY)
    assert [(run.at, run.late) for run in runs] == [
        (NOON + timedelta(minutes=15), True),
        (NOON + timedelta(hours=23), False),
    ]


def test_who_begins_behind_another_ends_later() -> None:
    loads = [load(1, Schedule(DAILY, 0, 14), 1800), load(2, Schedule(DAILY, 15, 14), 600)]
    first, second = forecast.expect(loads, UTC, NOON, NOON + DAY)
    assert (first.behind, second.behind, second.common) == ((), (uuid(1),), frozenset(["sr"]))
    assert first.ends == NOON + timedelta(hours=2, minutes=30)
    assert second.ends == NOON + timedelta(hours=2, minutes=40)


def test_who_works_elsewhere_is_in_nobodys_way() -> None:
    loads = [load(1, Schedule(DAILY, 0, 14), 1800, ["a"]), load(2, Schedule(DAILY, 0, 14), 600, ["b"])]
    assert [run.behind for run in forecast.expect(loads, UTC, NOON, NOON + DAY)] == [(), ()]
    assert forecast.moves(loads, UTC, NOON, NOON + DAY) == []


def test_who_begins_as_another_ends_is_not_behind_it() -> None:
    loads = [load(1, Schedule(DAILY, 0, 14), 900), load(2, Schedule(DAILY, 15, 14), 900)]
    assert [run.behind for run in forecast.expect(loads, UTC, NOON, NOON + DAY)] == [(), ()]


def test_a_run_that_takes_longer_than_an_hour_cannot_end_in_time_and_its_next_slot_is_missed() -> None:
    runs = forecast.expect([load(1, Schedule(HOURLY, 30), 4000)], UTC, NOON, NOON + timedelta(hours=4))
    assert [(run.too_long, run.missed) for run in runs] == [(True, False), (False, True)] * 2


def test_a_run_may_take_too_long_because_of_others() -> None:
    loads = [load(1, Schedule(HOURLY, 0), 1800), load(2, Schedule(HOURLY, 15), 3000)]
    assert any(run.too_long for run in forecast.expect(loads, UTC, NOON, NOON + timedelta(hours=3)))


# Moves


@given(pools(), starts, zones)
@settings(max_examples=100, deadline=None)
def test_what_is_moved_overlaps_nobody_afterwards_and_ends_in_time(
    loads: List[Load], now: datetime, zone: tzinfo
) -> None:
    until = now + DAY
    moves = forecast.moves(loads, zone, now, until)
    assert len({move.policy.uuid for move in moves}) == len(moves)
    placed = {one.policy.uuid: one for one in loads}
    for move in moves:
        assert move.schedule != move.policy.schedule
        assert move.schedule.minute in (0, 15, 30, 45) and 0 <= move.schedule.hour < 24
        was, one = move.policy.schedule, placed[move.policy.uuid]
        assert (move.schedule.frequency, move.schedule.days) == (was.frequency, was.days)
        placed[move.policy.uuid] = one._replace(policy=move.policy._replace(schedule=move.schedule))
    still = {uuid for pair in overlapping(list(placed.values()), zone, now, until) for uuid in pair}
    for move in moves:
        assert move.policy.uuid not in still
        for at, end in slots(placed[move.policy.uuid], zone, now, until):
            assert end < next_slot(move.schedule, zone, at)


@given(pools(), starts, zones)
@settings(max_examples=40, deadline=None)
def test_moving_makes_no_new_overlap(loads: List[Load], now: datetime, zone: tzinfo) -> None:
    until = now + DAY
    moves = forecast.moves(loads, zone, now, until)
    schedules = {move.policy.uuid: move.schedule for move in moves}
    moved = [
        one._replace(policy=one.policy._replace(schedule=schedules.get(one.policy.uuid, one.policy.schedule)))
        for one in loads
    ]
    assert overlapping(moved, zone, now, until) <= overlapping(loads, zone, now, until)


def only_move(loads: Sequence[Load]) -> Optional[str]:
    moves = forecast.moves(loads, UTC, NOON, NOON + DAY)
    assert len(moves) < 2
    return moves[0].command if moves else None


def test_the_command_sets_only_what_changes() -> None:
    two = [load(1, Schedule(DAILY, 0, 14), 600), load(2, Schedule(DAILY, 0, 14), 600)]
    assert only_move(two) == "vmss xe vmss-param-set uuid=%s schedule:hour=13 schedule:min=45" % uuid(2)
    two = [load(1, Schedule(DAILY, 15, 14), 600), load(2, Schedule(DAILY, 15, 14), 600)]
    assert only_move(two) == "vmss xe vmss-param-set uuid=%s schedule:min=0" % uuid(2)
    two = [load(1, Schedule(HOURLY, 30), 600), load(2, Schedule(HOURLY, 30), 600)]
    assert only_move(two) == "vmss xe vmss-param-set uuid=%s schedule:min=15" % uuid(2)


def test_the_nearest_time_that_is_free_is_chosen() -> None:
    loads = [load(1, Schedule(HOURLY, 0), 1000), load(2, Schedule(WEEKLY, 15, 14, frozenset(range(7))), 900)]
    # From :00 to :16 the hourly one is at work; at :45 this one would end as the next begins.
    assert only_move(loads) == "vmss xe vmss-param-set uuid=%s schedule:min=30" % uuid(2)


@pytest.mark.parametrize("seconds, moved", [(900, True), (901, False)])
def test_an_hour_has_room_for_four_quarters(seconds: int, moved: bool) -> None:
    loads = [load(number, Schedule(HOURLY, 0), seconds) for number in range(4)]
    times = [move.schedule.minute for move in forecast.moves(loads, UTC, NOON, NOON + DAY)]
    assert sorted(times) == [15, 30, 45] if moved else len(times) < 3


def test_where_no_quarter_is_free_nothing_is_moved() -> None:
    # From :15 to :44 the hourly one is at work, and the other needs more than the rest of an hour.
    assert only_move([load(1, Schedule(DAILY, 0, 14), 1900), load(2, Schedule(HOURLY, 15), 1750)]) is None


def test_the_other_one_is_moved_where_the_one_that_begins_later_cannot_be() -> None:
    # The last one cannot be moved: at the other quarters the first two have work on a.
    loads = [
        load(1, Schedule(HOURLY, 0), 1700, ["a"]),
        load(2, Schedule(HOURLY, 45), 800, ["a"]),
        load(3, Schedule(HOURLY, 15), 1200, ["b"]),
        load(4, Schedule(HOURLY, 30), 600, ["a", "b"]),
    ]
    assert only_move(loads) == "vmss xe vmss-param-set uuid=%s schedule:min=0" % uuid(3)


def test_what_takes_longer_than_its_period_is_not_moved() -> None:
    assert forecast.moves([load(1, Schedule(HOURLY, 30), 4000)], UTC, NOON, NOON + DAY) == []


def test_nor_to_where_it_would_only_get_out_of_anothers_way() -> None:
    # The long one misses Tuesday, at any time; its run of Wednesday ends on Thursday at 15:00.
    long = load(2, Schedule(WEEKLY, 0, 14, frozenset([0, 1, 2])), 90000)
    loads = [load(1, Schedule(WEEKLY, 0, 14, frozenset([3]))), long]
    (move,) = forecast.moves(loads, UTC, NOON, NOON + 7 * DAY)
    assert (move.policy.uuid, move.schedule.hour, move.schedule.minute) == (uuid(1), 15, 0)


def test_latest_and_next_slot_are_what_the_forecast_goes_by() -> None:
    one = load(1, Schedule(DAILY, 30, 1))
    zone = time_zone("Europe/London")
    # On 29 March 2026 the clock goes from 01:00 to 02:00: the slot is served at the end of the gap.
    night = datetime(2026, 3, 28, 22, 0, tzinfo=UTC)
    (run,) = forecast.expect([one], zone, night, night + timedelta(hours=12))
    assert run.at == datetime(2026, 3, 29, 1, 0, tzinfo=UTC) == latest_slot(one.policy.schedule, zone, run.at)


# When the next run is


@pytest.mark.parametrize("minute", [0, 1, 14, 16, 29, 31, 44, 46, 59])
def test_a_policy_that_never_ran_is_due_in_the_tick_of_its_slot_only(minute: int) -> None:
    """By what the ticks do: of those to come, the first that finds it due."""
    never = load(1, Schedule(HOURLY, 15))
    now = NOON + timedelta(minutes=minute)
    ticks = [next_tick(now) + number * timedelta(minutes=15) for number in range(8)]
    first = next(tick for tick in ticks if never.policy.due(UTC, tick) is not None)
    run = forecast.expect([never], UTC, now, now + DAY)[0]
    assert (run.at, run.late) == (first, False)
    assert not never.policy.late(UTC, now)
