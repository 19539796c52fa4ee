"""Retention over several runs: it converges also where snapshots fail, and where one of them cannot be deleted."""

from typing import List

from tests.pool import TestPool


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
    assert hours(pool, 19, 20) == [2, 2]
    assert sorted(snapshot["snapshot_time"] for snapshot in pool.snapshots(vm)) == newest
    assert pool.names(policy)[-1] == "VMSS_SNAPSHOT_FAILED"
    pool.call("simulator.clear_faults")
    assert hours(pool, 21, 22) == [2, 2]
    assert pool.names(policy)[-1] == "VMSS_SNAPSHOT_SUCCEEDED"


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
