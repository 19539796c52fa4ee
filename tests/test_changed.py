"""The setting catch_up_changed: a schedule that is enabled or moved waits for its next slot, or does not wait."""

from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pool import TestPool
from tests.test_late import findings
from tests.test_owed import fail
from vmss.core import changes, messages
from vmss.core.changes import Known
from vmss.core.frequencies import Schedule
from vmss.core.policy import Policy
from vmss.core.records import SCHEDULES
from vmss.edges.settings import Settings

UTC = timezone.utc
WEDNESDAY = datetime(2026, 3, 11, 9, 0, tzinfo=UTC)
SUNDAY = {"days": "Sunday", "hour": "2", "min": "30"}
QUARTER = timedelta(minutes=15)


@pytest.fixture(name="weekly")
def a_schedule_that_has_run_and_is_off(pool: TestPool) -> str:
    """It takes checkpoints on Sundays, ran on the first of March, and was switched off before the eighth."""
    pool.settings = Settings(timezone="UTC", catch_up_changed=False)
    policy = pool.policy([pool.vm("vm", [pool.sr()])], "weekly", frequency="weekly", schedule=SUNDAY)
    pool.simulator.set_time(datetime(2026, 3, 1, 2, 30, tzinfo=UTC))
    pool.tick()
    assert names(pool, policy) == 1
    pool.call("VMSS.set_enabled", policy, False)
    pool.simulator.set_time(WEDNESDAY - QUARTER)
    pool.tick()
    return policy


def names(pool: TestPool, policy: str) -> int:
    """The number of runs of a schedule, as its alerts tell."""
    return len(pool.names(policy))


def tick_at(pool: TestPool, instant: datetime) -> None:
    pool.simulator.set_time(instant)
    pool.tick()


@pytest.mark.parametrize("catch_up", [True, False])
def test_a_weekly_schedule_that_is_enabled_on_a_wednesday(pool: TestPool, weekly: str, catch_up: bool) -> None:
    pool.settings = Settings(timezone="UTC", catch_up_changed=catch_up)
    pool.call("VMSS.set_enabled", weekly, True)
    tick_at(pool, WEDNESDAY)
    tick_at(pool, WEDNESDAY + QUARTER)
    assert names(pool, weekly) == 1 + catch_up
    assert not [text for text in findings(pool) if "missed" in text or "no snapshot" in text]
    tick_at(pool, datetime(2026, 3, 15, 2, 30, tzinfo=UTC))
    assert names(pool, weekly) == 2 + catch_up


def test_one_that_is_moved_waits_too_and_one_that_was_not_makes_up_for_what_it_missed(pool: TestPool) -> None:
    pool.settings = Settings(timezone="UTC", catch_up_changed=False)
    daily: Dict[str, Any] = {"frequency": "daily", "schedule": {"hour": "12", "min": "0"}}
    moved, other = [pool.policy([pool.vm(name, [pool.sr()])], name, **daily) for name in ("moved", "other")]
    pool.at(12, 0)
    pool.tick()
    tick_at(pool, pool.simulator.now() + timedelta(hours=20))
    pool.call("VMSS.set_schedule", moved, {"hour": "6", "min": "0"})
    tick_at(pool, pool.simulator.now() + QUARTER)  # 08:15: six o'clock has passed
    assert [names(pool, policy) for policy in (moved, other)] == [1, 1]
    tick_at(pool, pool.simulator.now() + timedelta(hours=6))  # the host was off at noon
    assert [names(pool, policy) for policy in (moved, other)] == [1, 2]
    assert not [text for text in findings(pool) if "missed" in text and "moved" in text]
    tick_at(pool, pool.simulator.now().replace(hour=6, minute=0) + timedelta(days=1))
    assert names(pool, moved) == 2


def test_its_first_slot_after_the_change_is_made_up_for_as_any_other(pool: TestPool, weekly: str) -> None:
    pool.call("VMSS.set_enabled", weekly, True)
    tick_at(pool, WEDNESDAY)
    tick_at(pool, datetime(2026, 3, 15, 9, 0, tzinfo=UTC))  # the host was off on Sunday night
    assert names(pool, weekly) == 2


def test_a_slot_that_was_served_is_not_served_again_because_its_schedule_has_changed(pool: TestPool) -> None:
    pool.settings = Settings(timezone="UTC", catch_up_changed=False)
    policy = pool.policy([pool.vm("vm", [pool.sr()])], "hourly")
    pool.at(12, 15)
    pool.tick()
    pool.call("VMSS.set_retained_snapshots", policy, "3")
    pool.call("VMSS.set_type", policy, "checkpoint")
    pool.at(12, 20)  # somebody starts a pass
    pool.tick()
    assert names(pool, policy) == 1
    pool.at(13, 15)
    pool.tick()
    assert names(pool, policy) == 2


@pytest.mark.parametrize("catch_up", [True, False])
def test_a_vm_that_had_failed_is_not_tried_again_either(pool: TestPool, catch_up: bool) -> None:
    pool.settings = Settings(timezone="UTC", catch_up_changed=catch_up)
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], "daily", frequency="daily", schedule={"hour": "10", "min": "15"})
    fail(pool, vm)
    for minute in (15, 30):
        pool.at(10, minute)
        assert pool.tick().status == 1
    pool.call("simulator.clear_faults")
    pool.call("VMSS.set_type", policy, "checkpoint")
    pool.at(10, 45)
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == catch_up


@pytest.mark.parametrize("taken", [True, False])
def test_what_its_last_run_failed_in_is_told_after_a_change_until_it_is_made_good(pool: TestPool, taken: bool) -> None:
    pool.settings = Settings(timezone="UTC", catch_up_changed=False)
    vms = [pool.vm(name, [pool.sr()]) for name in ("one", "two")]
    daily: Dict[str, Any] = {"frequency": "daily", "schedule": {"hour": "10", "min": "15"}, "retained_snapshots": "1"}
    policy = pool.policy(vms, "daily", **daily)
    pool.at(10, 15)
    pool.tick()
    error = {"method": "VM.destroy", "action": "error", "count": "0", "error": '["INTERNAL_ERROR", "stuck"]'}
    pool.call("simulator.add_fault", error)
    if not taken:
        fail(pool, vms[0])
    pool.at(10, 15, 3)
    assert pool.tick().status == 1
    pool.call("simulator.clear_faults")
    pool.call("VMSS.set_schedule", policy, {"hour": "9", "min": "0"})
    for minute in (30, 45):  # it waits for its next slot, and what could not be deleted is
        pool.at(10, minute, 3)
        pool.tick()
    assert names(pool, policy) == 2 and len(pool.snapshots(vms[1])) == 1
    assert [text for text in findings(pool) if "failed" in text] == ["last run of 'daily' failed: 2 of 2 VMs"] * (
        not taken
    )


def test_that_nobody_could_log_in_at_the_first_slot_of_a_schedule_is_told_at_once(pool: TestPool) -> None:
    policy = pool.policy(
        [pool.vm("one", [pool.sr()])], "daily", frequency="daily", schedule={"hour": "10", "min": "15"}
    )
    pool.at(10, 16)
    body = messages.body(messages.LOGON_FAILURE, "No session")
    pool.call("message.create", messages.LOGON_FAILURE, "1", "VMSS", pool.uuid("VMSS", policy), body)
    pool.at(10, 20)  # too early for a snapshot to be late
    assert any("last run of 'daily' failed" in text for text in findings(pool))


def test_where_the_notes_are_lost_nothing_is(pool: TestPool, weekly: str) -> None:
    (ref,) = pool.call("pool.get_all")
    pool.call("VMSS.set_enabled", weekly, True)
    pool.call("pool.remove_from_other_config", ref, SCHEDULES)
    tick_at(pool, WEDNESDAY)
    assert names(pool, weekly) == 2  # as it may have been enabled all along
    noted = pool.call("pool.get_other_config", ref)[SCHEDULES]
    pool.call("simulator.reset_counts")
    tick_at(pool, WEDNESDAY + QUARTER)
    assert pool.call("pool.get_other_config", ref)[SCHEDULES] == noted
    counts = pool.call("simulator.get_counts")
    assert not [method for method in counts if method.endswith("_other_config") and method.startswith("pool.add")]


def test_a_rehearsal_notes_nothing(pool: TestPool, weekly: str) -> None:
    (ref,) = pool.call("pool.get_all")
    pool.call("VMSS.set_enabled", weekly, True)
    before = pool.call("pool.get_other_config", ref)
    pool.simulator.set_time(WEDNESDAY)
    assert pool.tick(dry_run=True).line.startswith("schedules that would run: 0 of 1")
    assert pool.call("pool.get_other_config", ref) == before


UUIDS = ["%08x-0000-0000-0000-000000000000" % number for number in range(3)]
known = st.dictionaries(
    st.sampled_from(UUIDS),
    st.builds(
        Known,
        st.from_regex(r"[a-zA-Z0-9,:_]{1,100}", fullmatch=True),
        st.none() | st.integers(0, 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    ),
)


@given(known)
def test_notes_are_read_as_they_are_written(notes: Dict[str, Known]) -> None:
    assert changes.read(changes.write(notes)) == notes


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    assert all(len(uuid) == 36 for uuid in changes.read(text))


@given(known, st.lists(st.booleans(), min_size=3, max_size=3))
def test_what_has_not_changed_keeps_its_note(notes: Dict[str, Known], enabled: List[bool]) -> None:
    policies = [
        Policy(uuid, uuid, "name", on, "snapshot", 7, Schedule("daily"), None, ()) for uuid, on in zip(UUIDS, enabled)
    ]
    first = changes.renewed(policies, notes, WEDNESDAY)
    assert set(first) == set(UUIDS)
    assert all(one.since == (WEDNESDAY if uuid in notes else None) for uuid, one in first.items())
    assert changes.renewed(policies, first, WEDNESDAY + QUARTER) == first
    assert [policy.changed for policy in changes.applied(policies, first)] == [first[uuid].since for uuid in UUIDS]
