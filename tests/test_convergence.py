"""Retention over several runs: it converges also where snapshots fail, and where one of them cannot be deleted."""

from datetime import datetime
from typing import List

from tests.pool import TestPool
from vmss.insight.history import Counts, Run, runs


def fault(pool: TestPool, method: str, error: str, object_: str = "", count: int = 0) -> None:
    """Every call of a method fails, or those about one object."""
    rule = {"method": method, "action": "error", "error": error, "count": str(count)}
    pool.call("simulator.add_fault", dict(rule, object=object_) if object_ else rule)


def hours(pool: TestPool, first: int, last: int) -> List[int]:
    """A run in each of these hours; the number of the pool's scheduled snapshots after each."""
    kept = []
    for hour in range(first, last + 1):
        pool.at(hour, 15)
        pool.tick()
        kept.append(len([vm for vm in pool.call("VM.get_all_records").values() if vm["is_vmss_snapshot"]]))
    return kept


def test_a_lower_retention_makes_room_although_no_snapshot_can_be_taken(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], retained_snapshots="7")
    assert hours(pool, 10, 17)[-2:] == [7, 7]
    fault(pool, "VM.snapshot", '["SR_BACKEND_FAILURE_44", "", "There is insufficient space", ""]')
    assert hours(pool, 18, 18) == [7]  # what the alert advises
    pool.call("VMSS.set_retained_snapshots", policy, "2")
    newest = sorted(snapshot["snapshot_time"] for snapshot in pool.snapshots(vm))[-2:]
    assert hours(pool, 19, 22) == [5, 3, 2, 2]  # two in a run, for nothing new takes the place of a third
    assert sorted(snapshot["snapshot_time"] for snapshot in pool.snapshots(vm)) == newest
    assert pool.names(policy)[-1] == "VMSS_SNAPSHOT_FAILED"
    pool.call("simulator.clear_faults")
    assert hours(pool, 23, 23) == [2]
    assert pool.names(policy)[-1] == "VMSS_SNAPSHOT_SUCCEEDED"


def test_a_lower_retention_costs_a_few_snapshots_in_each_run_and_the_alert_says_what_is_left(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], retained_snapshots="7")
    assert hours(pool, 10, 16)[-1] == 7
    pool.call("VMSS.set_retained_snapshots", policy, "2")
    before = [snapshot["uuid"] for snapshot in pool.snapshots(vm)]
    assert hours(pool, 17, 17) == [5]
    assert [snapshot["uuid"] for snapshot in pool.snapshots(vm)][:-1] == before[3:]  # the oldest three are gone
    remedy = "vmss prune --policy %s" % pool.uuid("VMSS", policy)
    (told,) = [line for line in pool.alerts(policy)[-1]["body"].split("\n") if remedy in line]
    assert told.startswith("3 scheduled snapshots still exceed retention: ")
    assert hours(pool, 18, 20) == [3, 2, 2]
    bodies = [alert["body"] for alert in pool.alerts(policy)]
    assert "1 scheduled snapshot still exceeds retention: " in bodies[-3]
    assert not any("exceed" in body for body in bodies[:-4] + bodies[-2:])
    assert newest_run(pool, policy).counts == Counts(1, 1, 1, datetime(2026, 3, 2, 20, 15))  # noqa: DTZ001


def newest_run(pool: TestPool, policy: str) -> Run:
    """As `vmss history` reads it."""
    return runs(pool.call("message.get", "VMSS", pool.uuid("VMSS", policy), "19700101T00:00:00Z"))[0]


def test_a_vm_that_was_moved_to_a_schedule_that_keeps_fewer_loses_its_snapshots_over_several_runs(
    pool: TestPool,
) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], "hourly", retained_snapshots="10")
    assert hours(pool, 1, 10)[-1] == 10
    weekly = pool.policy([], "weekly", frequency="weekly", schedule={"days": "monday", "hour": "12", "min": "0"})
    pool.call("VM.set_snapshot_schedule", vm, weekly)
    kept = []
    for day in (2, 9, 16, 23, 30):
        pool.at(12, 0, day=day)
        pool.tick()
        kept.append(len(pool.snapshots(vm)))
    assert kept == [8, 6, 4, 2, 2]
    assert "6 scheduled snapshots still exceed retention" in pool.alerts(weekly)[0]["body"]


def test_snapshots_that_cannot_be_deleted_do_not_count_among_those_that_a_run_may_delete(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], retained_snapshots="7")
    assert hours(pool, 10, 16)[-1] == 7
    for stuck in pool.snapshots(vm)[:4]:
        fault(pool, "VM.destroy", '["INTERNAL_ERROR", "stuck"]', stuck["uuid"])
    pool.call("VMSS.set_retained_snapshots", policy, "2")
    assert hours(pool, 17, 19) == [6, 6, 6]  # four that are stuck, and the two that are to be kept


def test_without_a_new_snapshot_as_many_stay_as_are_to_be_kept(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], retained_snapshots="3")
    assert hours(pool, 10, 13) == [1, 2, 3, 3]
    fault(pool, "VM.snapshot", '["SR_BACKEND_FAILURE_109", "", "The snapshot chain is too long", ""]')
    assert hours(pool, 14, 17) == [3, 3, 3, 3]


def test_a_snapshot_that_cannot_be_deleted_keeps_no_other_from_being_deleted(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], retained_snapshots="2")
    assert hours(pool, 10, 11) == [1, 2]
    oldest = min(pool.snapshots(vm), key=lambda snapshot: str(snapshot["snapshot_time"]))
    fault(pool, "VM.destroy", '["INTERNAL_ERROR", "stuck"]', oldest["uuid"])
    assert hours(pool, 12, 16) == [3, 3, 3, 3, 3]  # the two that are to be kept, and the one that is stuck
    pool.call("simulator.clear_faults")
    assert hours(pool, 17, 17) == [2]


def test_a_snapshot_that_somebody_copies_is_left_for_later_and_delays_nobody(pool: TestPool) -> None:
    vm, other = pool.vm("vm", [pool.sr()]), pool.vm("other", [pool.sr("other")])
    policy = pool.policy([vm, other], retained_snapshots="2")
    assert hours(pool, 10, 11) == [2, 4]
    oldest = min(pool.snapshots(vm), key=lambda snapshot: str(snapshot["snapshot_time"]))
    ref = pool.call("VM.get_by_uuid", oldest["uuid"])
    pool.simulator.db.set("VM", ref, "current_operations", {"OpaqueRef:a-backup": "export"})
    assert hours(pool, 12, 14) == [5, 5, 5]
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"] * 5
    assert "Snapshot %s of VM %s is left for a later run: export is in progress" % (
        oldest["uuid"], pool.uuid("VM", vm),
    ) in pool.log()  # fmt: skip
    pool.simulator.db.set("VM", ref, "current_operations", {})
    assert hours(pool, 15, 15) == [4]
