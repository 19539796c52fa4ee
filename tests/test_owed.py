"""A VM that failed for a reason that may pass is tried again by later ticks, until it has its snapshot of the slot."""

from typing import Any, List

import pytest

from tests.pool import TestPool
from vmss.edges.settings import Settings

FULL = '["SR_BACKEND_FAILURE_47", "", "The SR is not available", ""]'


def fail(pool: TestPool, vm: str, error: str = FULL) -> None:
    """Every snapshot of a VM fails."""
    pool.call(
        "simulator.add_fault", {"method": "VM.snapshot", "object": vm, "action": "error", "error": error, "count": "0"}
    )


def weekly(pool: TestPool, vms: List[str], **fields: Any) -> str:
    """A policy that is due on Monday the 2nd at 10:15."""
    return pool.policy(vms, frequency="weekly", schedule={"hour": "10", "min": "15", "days": "Monday"}, **fields)


def notes(pool: TestPool) -> List[str]:
    return [key for key in pool.other_config() if key.startswith("vmss-owed:")]


@pytest.fixture
def good(pool: TestPool) -> str:
    return pool.vm("good", [pool.sr("good")])


@pytest.fixture
def bad(pool: TestPool) -> str:
    return pool.vm("bad", [pool.sr("bad")])


def test_a_vm_that_failed_is_tried_again_by_each_tick_and_told_once_when_it_has_its_snapshot(
    pool: TestPool, good: str, bad: str
) -> None:
    policy = weekly(pool, [good, bad], retained_snapshots="1")
    fail(pool, bad)
    pool.at(10, 15)
    assert pool.tick().status == 1
    assert pool.names(policy) == ["VMSS_SNAPSHOT_FAILED"] and len(notes(pool)) == 1
    (snapshot,) = pool.snapshots(good)
    for minute in (30, 45):
        pool.at(10, minute)
        assert pool.tick().status == 1
    assert pool.names(policy) == ["VMSS_SNAPSHOT_FAILED"]  # one alert for one run
    pool.call("simulator.clear_faults")
    pool.at(11, 0)
    assert pool.tick().line.startswith("schedules served: 1, VMs snapshotted: 1 of 1")
    assert pool.names(policy) == ["VMSS_SNAPSHOT_FAILED", "VMSS_SNAPSHOT_SUCCEEDED"]
    assert "tried again" in pool.alerts(policy)[-1]["body"]
    assert len(pool.snapshots(bad)) == 1 and notes(pool) == []
    assert pool.snapshots(good) == [snapshot]  # the other VM gets no second one, and keeps its oldest
    pool.at(11, 15)
    assert pool.tick().line == "no schedule is due"


def test_the_pass_that_saw_it_fail_tries_again_at_its_own_later_ticks_only(pool: TestPool, good: str, bad: str) -> None:
    weekly(pool, [bad])
    weekly(pool, [good], name="hangs")
    fail(pool, bad)
    pool.call("simulator.add_fault", {"method": "VM.snapshot", "object": good, "when": "before", "action": "hang"})
    pool.at(10, 15)
    pool.tick()
    tries = sum(1 for line in pool.log() if line == "Processing VM: %s" % pool.uuid("VM", bad))
    assert tries == 5  # at the slot, and at the four ticks until the one that hangs was given up


@pytest.mark.parametrize("error", ['["VM_HAS_VUSBS", "vm"]', '["OPERATION_BLOCKED", "vm", "snapshot"]'])
def test_what_no_later_try_changes_is_not_tried_again(pool: TestPool, good: str, bad: str, error: str) -> None:
    weekly(pool, [good, bad])
    fail(pool, bad, error)
    pool.at(10, 15)
    assert pool.tick().status == 1
    assert notes(pool) == []
    pool.at(10, 30)
    assert pool.tick().line == "no schedule is due"


def test_the_next_slot_and_the_limit_end_it(pool: TestPool, good: str, bad: str) -> None:
    hourly = pool.policy([good, bad], name="hourly")
    fail(pool, bad)
    pool.at(10, 15)
    pool.tick()
    pool.at(11, 15)
    pool.tick()
    assert pool.names(hourly) == ["VMSS_SNAPSHOT_FAILED"] * 2 and len(notes(pool)) == 1
    pool.call("VMSS.set_enabled", hourly, False)
    pool.at(11, 30)
    assert pool.tick().line == "no schedule is due"
    pool.call("VMSS.set_enabled", hourly, True)
    pool.settings = Settings(timezone="UTC", late_limit=600)
    pool.at(11, 45)
    assert pool.tick().line == "no schedule is due"


def test_a_vm_that_leaves_the_schedule_is_owed_nothing(pool: TestPool, good: str, bad: str) -> None:
    policy = weekly(pool, [good, bad])
    fail(pool, bad)
    pool.at(10, 15)
    pool.tick()
    pool.call("VM.set_snapshot_schedule", bad, "OpaqueRef:NULL")
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert pool.names(policy) == ["VMSS_SNAPSHOT_FAILED"] and notes(pool) == []


def test_the_note_of_a_schedule_that_is_gone_goes_too(pool: TestPool, good: str, bad: str) -> None:
    policy = weekly(pool, [bad])
    fail(pool, bad)
    pool.at(10, 15)
    pool.tick()
    assert len(notes(pool)) == 1
    pool.call("VM.set_snapshot_schedule", bad, "OpaqueRef:NULL")
    pool.call("VMSS.destroy", policy)
    pool.at(10, 30)
    assert pool.tick(dry_run=True).status == 0
    assert len(notes(pool)) == 1  # a rehearsal changes nothing
    pool.tick()
    assert notes(pool) == []


def test_by_hand_only_the_missing_ones_are_taken(pool: TestPool, good: str, bad: str) -> None:
    policy = weekly(pool, [good, bad], retained_snapshots="1")
    fail(pool, bad)
    pool.settings = Settings(timezone="UTC", late_limit=0)
    pool.at(10, 15)
    pool.tick()
    (snapshot,) = pool.snapshots(good)
    pool.call("simulator.clear_faults")
    pool.at(15, 0)
    said: List[str] = []
    report = pool.tick(policy=pool.uuid("VMSS", policy), missing=True, say=said.append)
    assert report.status == 0 and "VMs snapshotted: 2 of 2 (1 of them before), " in report.line
    assert {line.partition("] ")[2] for line in said[1:]} == {"good: has its snapshot already", "bad: ok"}
    assert pool.snapshots(good) == [snapshot] and len(pool.snapshots(bad)) == 1
    assert pool.tick(policy=pool.uuid("VMSS", policy)).status == 0
    assert pool.snapshots(good) != [snapshot]


def test_by_hand_the_missing_ones_cost_no_other_vm_what_it_has_too_many(pool: TestPool, good: str, bad: str) -> None:
    policy = pool.policy([good, bad], schedule={"min": "15"}, retained_snapshots="5")
    pool.settings = Settings(timezone="UTC", late_limit=0)
    for hour in range(3, 10):
        pool.at(hour, 15)
        pool.tick()
    pool.call("VMSS.set_retained_snapshots", policy, "1")
    fail(pool, bad)
    pool.at(10, 15)
    pool.tick()  # at most two more than usual of each VM
    kept = {snapshot["uuid"] for snapshot in pool.snapshots(good)}
    assert len(kept) == 3
    pool.call("simulator.clear_faults")
    pool.at(10, 40)
    assert pool.tick(policy=pool.uuid("VMSS", policy), missing=True).status == 0
    assert {snapshot["uuid"] for snapshot in pool.snapshots(good)} == kept
    pool.at(11, 15)
    pool.tick()
    assert len(pool.snapshots(good)) == 1


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"slot": "soon", "vms": []}', '{"slot": "20260302T10:15:00Z"}', "[" * 9999]
)
def test_a_note_that_cannot_be_understood_owes_nothing(pool: TestPool, good: str, text: str) -> None:
    policy = weekly(pool, [good])
    pool.call("VMSS.set_last_run_time", policy, "20260302T10:16:00Z")
    ref = pool.call("pool.get_all")[0]
    pool.call("pool.add_to_other_config", ref, "vmss-owed:" + pool.uuid("VMSS", policy), text)
    pool.at(10, 30)
    assert pool.tick().line == "no schedule is due"
