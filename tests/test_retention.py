"""Which scheduled snapshots expire: only the oldest, never below what is retained."""

from datetime import datetime, timedelta, timezone
from random import Random
from typing import List, NamedTuple, Sequence, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmss.core.retention import Keep, Snapshot, expired

NOW = datetime(2026, 1, 31, 10, 15, tzinfo=timezone.utc)
DAY = timedelta(days=1)


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
    future = [snapshot("tomorrow", -1), snapshot("in a moment", -0.00001)]
    assert names(expired(WEEK + future, Keep(6), NOW)) == ["day6"]
    assert names(expired(WEEK + future, Keep(7), NOW)) == []


def test_a_snapshot_that_is_dated_now_counts() -> None:
    assert names(expired([snapshot("now", 0), snapshot("old", 9)], Keep(1), NOW)) == ["old"]


def test_snapshots_of_the_same_second_expire_in_the_order_of_their_uuids() -> None:
    same = [snapshot("b", 1), snapshot("c", 1), snapshot("a", 1)]
    assert names(expired(same, Keep(1), NOW)) == ["a", "b"]


def test_snapshots_that_hold_memory_count_like_any_other() -> None:
    memory = [item._replace(suspended=True, suspend_vdi="OpaqueRef:memory") for item in WEEK[2:5]]
    assert names(expired(WEEK[:2] + memory + WEEK[5:], Keep(5), NOW)) == ["day6", "day5"]


# Properties


class Case(NamedTuple):
    snapshots: List[Snapshot]
    retained: int
    new: int

    def expired(self) -> Tuple[Snapshot, ...]:
        return expired(self.snapshots, Keep(self.retained), NOW, self.new)

    def counted(self) -> List[Snapshot]:
        return [item for item in self.snapshots if not item.pinned and item.time <= NOW]


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
cases = st.builds(Case, snapshots_of_a_vm, st.integers(1, 10), st.integers(0, 1))


@given(cases)
def test_as_many_as_are_retained_are_left_where_that_many_exist(case: Case) -> None:
    left = len(case.counted()) - len(case.expired()) + case.new
    assert left == min(case.retained, len(case.counted()) + case.new)


@given(cases)
def test_what_expires_is_older_than_all_that_counts_and_stays_and_comes_oldest_first(case: Case) -> None:
    gone = case.expired()
    staying = [item for item in case.counted() if item not in gone]
    assert list(gone) == sorted(gone, key=lambda item: item.time)
    assert all(old.time <= young.time for old in gone for young in staying)


@given(cases)
def test_what_expires_exists_once_and_is_neither_pinned_nor_of_the_future(case: Case) -> None:
    gone = case.expired()
    assert len(set(names(gone))) == len(gone)
    assert all(item in case.snapshots and not item.pinned and item.time <= NOW for item in gone)


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


@given(cases)
def test_the_new_one_counts_as_though_it_existed(case: Case) -> None:
    taken = case.snapshots + [snapshot("new", 0)]  # the last of all, by its time and by its name
    assert case._replace(snapshots=taken, new=0).expired() == case._replace(new=1).expired()
