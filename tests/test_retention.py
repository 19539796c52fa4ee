"""Which scheduled snapshots expire: only the oldest, never below what is retained."""

from datetime import datetime, timedelta, timezone
from random import Random
from typing import List, NamedTuple, Sequence, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pool import TestPool
from vmss.core.datetimes import CLOCK_TOLERANCE, parse_datetime, wall_clock
from vmss.core.frequencies import Schedule
from vmss.core.pruning import Prune
from vmss.core.retention import Keep, Snapshot, expired, in_future, votes
from vmss.core.thinning import Spread, of_tags, read
from vmss.edges.zones import time_zone
from vmss.insight import policies
from vmss.insight.reading import reading

NOW = datetime(2026, 1, 31, 10, 15, tzinfo=timezone.utc)
DAY = timedelta(days=1)
LONDON = time_zone("Europe/London")


def snapshot(name: str, days: float, pinned: bool = False) -> Snapshot:
    return Snapshot("OpaqueRef:" + name, name, NOW - days * DAY, pinned)


def names(snapshots: Sequence[Snapshot]) -> List[str]:
    return [item.uuid for item in snapshots]


WEEK = [snapshot("day%d" % days, days) for days in range(7)]  # day0 is of now, day6 the oldest


def test_the_oldest_beyond_what_is_retained_expire_oldest_first() -> None:
    assert names(expired(WEEK, Keep(4), NOW)) == ["day6", "day5", "day4"]


@pytest.mark.parametrize("retained", [7, 8, 10])
def test_nothing_expires_as_long_as_no_more_exist_than_are_retained(retained: int) -> None:
    assert expired(WEEK, Keep(retained), NOW) == ()


def test_a_vm_without_snapshots_has_none_that_expire() -> None:
    assert expired([], Keep(1), NOW) == ()
    assert expired([], Keep(1), NOW, new=1) == ()


def test_one_that_is_about_to_be_taken_makes_room_for_itself() -> None:
    assert names(expired(WEEK, Keep(7), NOW, new=1)) == ["day6"]
    assert names(expired(WEEK, Keep(8), NOW, new=1)) == []
    assert names(expired(WEEK[:1], Keep(1), NOW, new=1)) == ["day0"]


def test_after_retention_was_lowered_all_the_surplus_expires_at_once() -> None:
    assert names(expired(WEEK, Keep(1), NOW, new=1)) == ["day6", "day5", "day4", "day3", "day2", "day1", "day0"]


def test_a_pinned_snapshot_stays_and_does_not_count() -> None:
    pinned = [item._replace(pinned=item.uuid in ("day6", "day1")) for item in WEEK]
    assert names(expired(pinned, Keep(4), NOW)) == ["day5"]
    assert names(expired(pinned, Keep(5), NOW)) == []


def test_a_snapshot_that_is_dated_in_the_future_stays_and_does_not_count() -> None:
    future = [snapshot("tomorrow", -1), snapshot("in a while", -0.00071)]
    assert names(expired(WEEK + future, Keep(6), NOW)) == ["day6"]
    assert names(expired(WEEK + future, Keep(7), NOW)) == []


def test_what_is_younger_than_the_days_to_keep_stays_to_the_second() -> None:
    keep = Keep(1, spread=read("weekly:1"), days=1)
    for seconds, gone in ((-1, ["of an earlier week"]), (1, ["of yesterday"])):
        yesterday = Snapshot("OpaqueRef:y", "of yesterday", NOW - DAY - timedelta(seconds=seconds))
        weeks = [yesterday, snapshot("of an earlier week", 7)]
        assert names(expired(weeks, keep._replace(retained=2), NOW, new=1)) == gone


def test_a_snapshot_that_is_dated_now_counts() -> None:
    assert names(expired([snapshot("now", 0), snapshot("old", 9)], Keep(1), NOW)) == ["old"]


def test_snapshots_of_the_same_second_expire_in_the_order_of_their_uuids() -> None:
    same = [snapshot("b", 1), snapshot("c", 1), snapshot("a", 1)]
    assert names(expired(same, Keep(1), NOW)) == ["a", "b"]


def test_snapshots_that_hold_memory_count_like_any_other() -> None:
    memory = [item._replace(suspended=True, suspend_vdi="OpaqueRef:memory") for item in WEEK[2:5]]
    assert names(expired(WEEK[:2] + memory + WEEK[5:], Keep(5), NOW)) == ["day6", "day5"]


def test_every_part_that_says_what_expires_goes_by_the_rule_of_the_schedule_or_the_vms_tag(pool: TestPool) -> None:
    sr = pool.sr()
    vms = [pool.vm(name, [sr]) for name in ("tagged", "of_schedule", "bad tag")]
    plain = pool.vm("plain", [sr])
    policy, other = pool.policy(vms), pool.policy([plain], "other")
    (ref,) = pool.call("pool.get_all")
    pool.call("pool.add_to_other_config", ref, "vmss:%s:keep" % pool.uuid("VMSS", policy), "daily:2")
    pool.call("VM.add_tags", vms[0], "vmss:keep=")
    pool.call("VM.add_tags", vms[2], "vmss:keep=sometimes")
    for day, hour in ((2, 10), (3, 10), (3, 11)):
        pool.at(hour, 15, day)
        assert pool.tick().status == 0
    days = [[item["snapshot_time"].value[6:11] for item in pool.snapshots(vm)] for vm in vms + [plain]]
    assert days == [["03T10", "03T11"], ["02T10", "03T11"], ["02T10", "03T11"], ["03T10", "03T11"]]
    uuid = pool.uuid("VM", vms[2])
    told = "VM %s keeps snapshots by the rule of its schedule: its tag" % uuid
    assert any(line.startswith(told) for line in pool.log())
    # Those three exceed a retention of one: what goes is said alike by everybody, and the pass does it.
    for one in (policy, other):
        pool.call("VMSS.set_retained_snapshots", one, "1")
    pool.call("pool.add_to_other_config", ref, "vmss:keep_days", "1")
    rehearsed = pool.tick(prune=Prune(), dry_run=True)
    with reading(pool.surroundings()) as session:
        known = [entry.policy for entry in policies.read(session) if entry.policy]
        shown = [snapshot.uuid for one in known for vm in policies.surplus(session, one) for snapshot in vm.exceeding]
    assert sorted(rehearsed.listed) == sorted(shown) and len(shown) == 4
    pool.tick(prune=Prune())
    assert all(len(pool.snapshots(vm)) == 1 for vm in vms + [plain])


# Properties


class Case(NamedTuple):
    snapshots: List[Snapshot]
    retained: int
    new: int
    spread: Spread = ()
    days: int = 0

    def expired(self) -> Tuple[Snapshot, ...]:
        keep = Keep(self.retained, spread=self.spread, days=self.days, zone=LONDON)
        return expired(self.snapshots, keep, NOW, self.new)

    def counted(self) -> List[Snapshot]:
        return [item for item in self.snapshots if not item.pinned and not in_future(item, NOW)]


snapshots_of_a_vm = st.lists(
    st.builds(
        lambda name, minutes, pinned: snapshot("%03d" % name, minutes / 1440, pinned),
        st.integers(0, 999),
        st.one_of(st.integers(-3, 3), st.integers(-500, 20000)),  # many of the same time, some of the future
        st.sampled_from([False, False, False, True]),
    ),
    max_size=25,
    unique_by=lambda item: item.uuid,
)
simple = st.builds(Case, snapshots_of_a_vm, st.integers(1, 10), st.integers(0, 1), st.just(()), st.just(0))
spreads = st.lists(st.sampled_from(["hourly", "daily", "weekly", "monthly"]), unique=True, min_size=1).flatmap(
    lambda periods: st.tuples(*[st.just(period + ":").flatmap(_numbered) for period in periods])
)


def _numbered(start: str) -> "st.SearchStrategy[str]":
    return st.integers(1, 5).map(lambda number: start + str(number))


thinned = st.builds(
    lambda case, words, days: case._replace(spread=read(",".join(words)), days=days),
    simple,
    spreads,
    st.sampled_from([0, 0, 1, 5]),
)
cases = st.one_of(simple, thinned)


@given(cases)
def test_as_many_as_are_retained_are_left_where_that_many_exist(case: Case) -> None:
    left = len(case.counted()) - len(case.expired()) + case.new
    assert left == min(case.retained, len(case.counted()) + case.new)


@given(simple)
def test_what_expires_is_older_than_all_that_counts_and_stays_and_comes_oldest_first(case: Case) -> None:
    gone = case.expired()
    staying = [item for item in case.counted() if item not in gone]
    assert list(gone) == sorted(gone, key=lambda item: item.time)
    assert all(old.time <= young.time for old in gone for young in staying)


@given(cases)
def test_what_expires_exists_once_and_is_neither_pinned_nor_of_the_future(case: Case) -> None:
    gone = case.expired()
    assert len(set(names(gone))) == len(gone)
    assert all(item in case.snapshots and not item.pinned and not in_future(item, NOW) for item in gone)


@given(cases)
def test_after_they_are_gone_nothing_more_expires(case: Case) -> None:
    gone = case.expired()
    assert case._replace(snapshots=[item for item in case.snapshots if item not in gone]).expired() == ()


@given(cases, st.integers(0, 25))
def test_a_deletion_that_was_broken_off_is_finished_by_the_next_one(case: Case, done: int) -> None:
    gone = case.expired()
    rest = case._replace(snapshots=[item for item in case.snapshots if item not in gone[:done]])
    assert rest.expired() == gone[done:]


@given(cases, st.randoms())
def test_the_order_in_which_they_are_read_does_not_matter(case: Case, random: Random) -> None:
    shuffled = list(case.snapshots)
    random.shuffle(shuffled)
    assert case._replace(snapshots=shuffled).expired() == case.expired()


@given(cases)
def test_pinned_and_future_ones_make_no_difference_to_the_others(case: Case) -> None:
    assert case._replace(snapshots=case.counted()).expired() == case.expired()


@given(thinned)
def test_the_newest_stays_whatever_the_rule_and_a_vote_says_by_which_rule_each_one_does(case: Case) -> None:
    keep = Keep(case.retained, spread=case.spread, days=case.days, zone=LONDON)
    said = votes(case.snapshots, keep, NOW)
    assert sorted(vote.snapshot.uuid for vote in said) == sorted(names(case.snapshots))
    assert [vote.snapshot for vote in said if not vote.stays] == list(expired(case.snapshots, keep, NOW))
    counted = case.counted()
    if counted:
        newest = max(counted, key=lambda item: (item.time, item.uuid))
        assert next(vote for vote in said if vote.snapshot == newest).place == 1
    for period, number in case.spread:
        assert [vote.rule for vote in said].count(period) <= number


@given(thinned)
def test_what_expires_without_the_new_one_expires_with_it_too(case: Case) -> None:
    assert set(case._replace(new=0).expired()) <= set(case._replace(new=1).expired())


def kept_over_time(keep: Keep, began: datetime, hours: int) -> List[Tuple[datetime, str]]:
    """What is left of an hourly schedule after so many slots, the newest first, as readings of London's clock, each
    with its rule."""
    there: List[Snapshot] = []
    for hour in range(hours):
        now = began + timedelta(hours=hour)
        gone = expired(there, keep, now, new=1)
        assert len(gone) <= 1  # the history is never rewritten at once
        there = [item for item in there if item not in gone] + [Snapshot(str(hour), "%05d" % hour, now)]
    said = votes(there, keep, now)
    return [(wall_clock(LONDON, vote.snapshot.time), vote.rule) for vote in reversed(said)]


@pytest.mark.parametrize("began", ["2026-02-23", "2026-10-05"])
def test_an_hourly_history_becomes_four_hours_four_days_and_two_weeks(began: str) -> None:
    # Over the change of London's clock in spring, and in autumn.
    keep = Keep(10, spread=read("weekly:2 hourly:4,daily:4"), schedule=Schedule("hourly", 45), zone=LONDON)
    weeks = kept_over_time(keep, parse_datetime(began + "T00:45:00Z"), 24 * 7 * 5 - 6)
    now = weeks[0][0]
    hours = [(now - timedelta(hours=back), "hourly") for back in range(4)]
    midnight = now.replace(hour=23)
    days = [(midnight - timedelta(days=back), "daily") for back in range(1, 5)]
    sunday = midnight - timedelta(days=now.isoweekday())
    sundays = [sunday - timedelta(days=7 * back) for back in range(3)]
    found = [at for at, rule in weeks if rule == "weekly"]
    assert [each for each in weeks if each[1] != "weekly"] == hours + days
    assert found == [at for at in sundays if (at, "daily") not in days][:2]


def test_the_number_that_is_kept_is_never_less_and_the_rest_are_the_newest() -> None:
    keep = Keep(10, spread=read("weekly:2"), zone=LONDON)
    rules = [rule for _, rule in kept_over_time(keep, NOW, 24 * 16)]
    assert sorted(rules) == ["newest"] * 8 + ["weekly"] * 2
    few = Keep(3, spread=read("hourly:4 daily:4"), zone=LONDON)
    assert [rule for _, rule in kept_over_time(few, NOW, 100)] == ["hourly"] * 3


def test_a_snapshot_is_of_the_day_of_its_slot_though_its_run_went_on_past_midnight() -> None:
    nightly = Keep(2, spread=read("daily:2"), schedule=Schedule("daily", 45, 23))
    late = [snapshot("first", 1)._replace(time=datetime(2026, 1, 30, 0, 10, tzinfo=timezone.utc))]
    late += [snapshot("second", 0)._replace(time=datetime(2026, 1, 30, 23, 50, tzinfo=timezone.utc))]
    assert [vote.rule for vote in votes(late, nightly, NOW)] == ["daily", "daily"]


def test_what_is_young_comes_before_the_other_rules() -> None:
    keep = Keep(5, spread=read("daily:4"), days=1)
    history = [snapshot("h%02d" % hours, hours / 24) for hours in range(0, 96, 8)]
    rules = [vote.rule for vote in votes(history, keep, NOW) if vote.stays]
    assert rules == ["daily", "daily", "young", "young", "young"]


@pytest.mark.parametrize("text", ["daily", "daily:0", "daily:11", "daily:4 daily:2", "yearly:1", "daily:4;", "4,"])
def test_a_rule_that_is_none_is_refused_and_nothing_of_it_is_repeated(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(text)
    assert text not in str(caught.value).split(" ")


def test_the_tag_of_a_vm_wins_and_one_with_a_mistake_does_not() -> None:
    otherwise = read("daily:4")
    assert of_tags(frozenset(["other", "vmss:keep=hourly:4,daily:2"]), otherwise) == (read("hourly:4 daily:2"), "")
    assert of_tags(frozenset(["vmss:keep="]), otherwise) == ((), "")
    for tags in (["vmss:keep=nonsense"], ["vmss:keep=daily:1", "vmss:keep=daily:2"]):
        spread, mistake = of_tags(frozenset(tags), otherwise)
        assert spread == otherwise and "vmss:keep=" in mistake


@given(simple)
def test_the_new_one_counts_as_though_it_existed(case: Case) -> None:
    # The last of all, by its time and by its name.
    taken = case.snapshots + [Snapshot("OpaqueRef:new", "new", NOW + CLOCK_TOLERANCE)]
    assert case._replace(snapshots=taken, new=0).expired() == case._replace(new=1).expired()
