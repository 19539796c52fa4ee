"""Retention over several runs: it converges also where snapshots fail, and where something cannot be deleted."""

import json
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, List

import pytest

from tests.front import Front, Once
from tests.pool import START, TestPool
from vmss.core.left_over import Stuck, stuck
from vmss.core.problem import Problem
from vmss.core.pruning import DELETED, SURPLUS, Prune
from vmss.insight.history import Counts, Run, runs
from vmss.passes import left_over
from vmss.passes.journal import LEFT_OVER, PREFIX


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
    counts = newest_run(pool, policy).counts
    assert counts is not None and counts[:4] == Counts(1, 1, 1, datetime(2026, 3, 2, 20, 15, tzinfo=timezone.utc))[:4]


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
    for old in pool.snapshots(vm)[:4]:
        fault(pool, "VM.destroy", '["INTERNAL_ERROR", "stuck"]', old["uuid"])
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


# What cannot be deleted

NEVER = '["SR_BACKEND_FAILURE_80", "", "Failed to mark VDI hidden", ""]'


def test_pauses_grow_from_a_quarter_of_an_hour_to_a_day() -> None:
    mark = stuck(("E",), START)
    pauses = []
    for _ in range(12):
        pauses.append(mark.pause // timedelta(minutes=15))
        mark = mark.again(("F",), START)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 96, 96, 96, 96, 96]
    assert mark.since == START and mark.error == ("F",) and mark.tries == 13
    assert mark._replace(tries=1 << 40).pause == mark._replace(tries=-5).pause * 96


def test_a_last_try_that_is_dated_in_the_future_makes_nobody_wait() -> None:
    assert Stuck(START, START + timedelta(days=400), 9, ("E",)).is_ripe(START)
    assert not Stuck(START, START, 9, ("E",)).is_ripe(START + timedelta(hours=23))


class Watched:
    """Ticks every quarter of an hour, with every call that they make."""

    def __init__(self, pool: TestPool) -> None:
        self.pool = pool
        self.calls: List[str] = []
        path = pool.socket + ".watched"
        Front(path, pool.socket, before=self.calls.append)
        self.place = pool.place._replace(xapi="unix:" + path)

    def tick(self, **changes: Any) -> List[str]:
        """The calls of one tick."""
        pool, place = self.pool, self.pool.place
        self.calls.clear()
        pool.place = self.place._replace(**changes)
        try:
            pool.tick()
        finally:
            pool.place = place
        return list(self.calls)

    def hours_of(self, method: str, count: int) -> List[float]:
        """The hours from now at which ticks call a method, `count` hours long."""
        begin, found = self.pool.simulator.now(), []
        for quarter in range(1, 4 * count + 1):
            self.pool.simulator.set_time(begin + timedelta(minutes=15) * quarter)
            if method in self.tick():
                found.append(quarter / 4)
        return found


def left_disk(pool: TestPool) -> str:
    """A disk of an expired snapshot that cannot be destroyed; return its uuid. It is 12:20."""
    vm = pool.vm("vm", [pool.sr(), pool.sr()])
    policy = pool.policy([vm], retained_snapshots="1")
    hours(pool, 10, 11)
    (snapshot,) = pool.snapshots(vm)
    disk = pool.uuid("VDI", pool.call("VBD.get_VDI", snapshot["VBDs"][0]))
    fault(pool, "VDI.destroy", NEVER, disk)
    assert hours(pool, 12, 12) == [1]
    assert pool.names(policy)[-1] == "VMSS_SNAPSHOT_FAILED"
    pool.call("VMSS.set_enabled", policy, False)
    pool.at(12, 15)
    return disk


def test_a_disk_that_can_never_be_destroyed_is_tried_at_growing_pauses_and_costs_no_write(pool: TestPool) -> None:
    disk = left_disk(pool)
    watched = Watched(pool)
    assert watched.hours_of("pool.sync_database", 3) == []  # it was tried three times: see below
    assert watched.hours_of("Async.VDI.destroy", 77) == [0.75, 4.75, 12.75, 28.75, 52.75, 76.75]
    pool.call("simulator.clear_faults")
    begin = pool.simulator.now()
    assert watched.hours_of("pool.sync_database", 24) == [23.75]  # only where it was destroyed
    assert pool.simulator.now() - begin == timedelta(days=1)
    assert not any(vdi["uuid"] == disk for vdi in pool.call("VDI.get_all_records").values())
    assert not any(key.startswith(PREFIX) for key in pool.other_config())


def test_while_it_rests_a_tick_is_idle(pool: TestPool) -> None:
    left_disk(pool)
    watched = Watched(pool)
    assert watched.hours_of("Async.VDI.destroy", 1) == [0.25, 0.75]
    assert watched.tick() == [
        "session.login_with_password", "pool.get_all_records", "VMSS.get_all_records", "session.logout",
    ]  # fmt: skip


def test_another_coordinator_knows_how_often_it_was_tried(pool: TestPool, tmp_path: Any) -> None:
    left_disk(pool)
    watched = Watched(pool)
    watched.hours_of("Async.VDI.destroy", 2)
    elsewhere = str(tmp_path / "another host")
    for minute, tried in ((0, False), (30, False), (45, False)):
        pool.at(15, minute)
        assert ("Async.VDI.destroy" in watched.tick(lock_dir=elsewhere)) is tried
    pool.at(16)
    assert "Async.VDI.destroy" in watched.tick(lock_dir=elsewhere)


def test_a_run_by_hand_tries_at_once(pool: TestPool) -> None:
    disk = left_disk(pool)
    Watched(pool).hours_of("Async.VDI.destroy", 9)
    pool.call("simulator.clear_faults")
    assert pool.tick(kicked=False).status == 0
    assert not any(vdi["uuid"] == disk for vdi in pool.call("VDI.get_all_records").values())


def test_disks_with_different_errors_keep_their_own(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr(), pool.sr(), pool.sr()])
    pool.policy([vm], retained_snapshots="1")
    hours(pool, 10, 10)
    (snapshot,) = pool.snapshots(vm)
    disks = [pool.uuid("VDI", pool.call("VBD.get_VDI", vbd)) for vbd in snapshot["VBDs"]]
    fault(pool, "VDI.destroy", NEVER, disks[0])
    fault(pool, "VDI.destroy", '["VDI_IN_USE", "x"]', disks[1])
    hours(pool, 11, 11)
    marks = {}
    for key, text in pool.other_config().items():
        if key.startswith(PREFIX):
            value = json.loads(text)
            marks.update(dict.fromkeys(value["destroying"][snapshot["uuid"]], value["stuck"]["error"][0]))
    assert marks == {disks[0]: "SR_BACKEND_FAILURE_80", disks[1]: "VDI_IN_USE"}


def weekly(pool: TestPool) -> str:
    """The oldest snapshot of a weekly schedule cannot be deleted; return its uuid. It is Monday, 10:15."""
    vm = pool.vm("vm", [pool.sr()])
    pool.policy(
        [vm], frequency="weekly", schedule={"days": "monday", "hour": "10", "min": "15"}, retained_snapshots="1"
    )
    pool.at(10, 15)
    pool.tick()
    (oldest,) = pool.snapshots(vm)
    fault(pool, "VM.destroy", '["INTERNAL_ERROR", "stuck"]', oldest["uuid"])
    pool.at(10, 15, day=9)
    pool.tick()
    assert len(pool.snapshots(vm)) == 2
    pool.at(10, 15, day=9)
    return str(oldest["uuid"])


def test_a_snapshot_that_could_not_be_deleted_is_tried_between_runs_too(pool: TestPool) -> None:
    oldest = weekly(pool)
    watched = Watched(pool)
    assert watched.hours_of("Async.VM.destroy", 8) == [0.25, 0.75, 1.75, 3.75, 7.75]
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED", "VMSS_SNAPSHOT_FAILED"]  # one alert, and none for each try
    assert oldest in "".join(pool.other_config().values())
    pool.call("simulator.clear_faults")
    assert watched.hours_of("Async.VM.destroy", 7) == []
    pool.simulator.set_time(pool.simulator.now() + timedelta(minutes=45))
    assert "Async.VM.destroy" in watched.tick()
    assert not any(key.startswith((PREFIX, LEFT_OVER)) for key in pool.other_config())
    assert len(pool.snapshot_vdis()) == 1


def raised(pool: TestPool, oldest: str) -> None:
    pool.call("VMSS.set_retained_snapshots", pool.call("VMSS.get_all")[0], "5")


def pinned(pool: TestPool, oldest: str) -> None:
    pool.call("VM.add_to_blocked_operations", pool.call("VM.get_by_uuid", oldest), "destroy", "kept")


def unassigned(pool: TestPool, oldest: str) -> None:
    pool.call("VM.set_snapshot_schedule", pool.call("VM.get_by_name_label", "vm")[0], "OpaqueRef:NULL")


def deleted(pool: TestPool, oldest: str) -> None:
    pool.call("simulator.clear_faults")
    pool.call("VM.destroy", pool.call("VM.get_by_uuid", oldest))


@pytest.mark.parametrize("change", [raised, pinned, unassigned, deleted])
def test_what_is_not_to_be_deleted_any_more_is_not_tried_and_leaves_the_list(
    pool: TestPool, change: Callable[[TestPool, str], None]
) -> None:
    oldest = weekly(pool)
    change(pool, oldest)
    calls = Watched(pool).hours_of("Async.VM.destroy", 2)
    assert calls == []
    assert not any(key.startswith((PREFIX, LEFT_OVER)) for key in pool.other_config())


def test_runs_between_the_tries_succeed_and_say_what_is_left_over(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], retained_snapshots="2")
    hours(pool, 10, 11)
    oldest = min(pool.snapshots(vm), key=lambda snapshot: str(snapshot["snapshot_time"]))["uuid"]
    fault(pool, "VM.destroy", '["INTERNAL_ERROR", "stuck"]', oldest)
    assert hours(pool, 12, 18) == [3] * 7
    failed = "VMSS_SNAPSHOT_FAILED"
    ended = [alert["name"] == failed for alert in pool.alerts(policy)[2:]]
    assert ended == [True, True, True, True, False, True, False]
    said = "Expired snapshots that could not be deleted: 1 (%s); vmss status tells why." % oldest
    assert all(said in alert["body"] for alert in pool.alerts(policy)[2:])


@pytest.mark.parametrize(
    "text",
    ["", "[]", "nonsense", "5", '{"a": 1}', "[5, null, [], {}]", '[{"kind": "snapshot", "uuid": "x"}]',
     '[{"kind": "disk", "uuid": "11111111-1111-1111-1111-111111111111", "since": "20260302T10:15:00Z",'
     ' "tried": "20260302T10:15:00Z", "tries": 1, "error": []}]',
     '[{"kind": "snapshot", "uuid": "11111111-1111-1111-1111-111111111111", "of": 7, "since": "20260302T10:15:00Z",'
     ' "tried": "99990302T10:15:00Z", "tries": 1, "error": ["E"]}]'],
)  # fmt: skip
def test_a_list_that_makes_no_sense_is_none_and_harms_nothing(pool: TestPool, text: str) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], retained_snapshots="1")
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], LEFT_OVER + "0", text)
    assert hours(pool, 10, 12) == [1, 1, 1]


def test_a_listed_snapshot_that_is_none_of_ours_is_not_deleted(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], retained_snapshots="1")
    mine = pool.call("VM.snapshot", vm, "by hand")
    hours(pool, 10, 10)
    mark = {"since": "20260302T10:15:00Z", "tried": "20260302T10:15:00Z", "tries": 1, "error": ["E"]}
    uuids = [pool.uuid("VM", ref) for ref in [mine, vm, *pool.call("VM.get_snapshots", vm)]]
    forged = [dict(mark, kind="snapshot", uuid=uuid, of=pool.uuid("VM", vm)) for uuid in uuids]
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], LEFT_OVER + "0", json.dumps(forged))
    before = set(pool.call("VM.get_all"))
    pool.at(10, 45)
    pool.tick()
    assert set(pool.call("VM.get_all")) == before


@pytest.mark.parametrize("method", ["VDI.get_all_records_where", "VM.get_all_records_where"])
def test_where_xapi_does_not_tell_what_is_there_all_stays_on_the_list(pool: TestPool, method: str) -> None:
    pool.policy([], schedule={"min": "15"})
    disk = pool.call("VDI.snapshot", pool.vdi(pool.sr()), {})
    mark = {"since": "20260302T09:15:00Z", "tried": "20260302T10:15:00Z", "tries": 9, "error": ["E"]}
    vm = pool.vm("vm")
    snapshot = pool.call("VM.snapshot", vm, "by hand")
    kinds = {"suspect": pool.uuid("VDI", disk), "snapshot": pool.uuid("VM", snapshot)}
    text = json.dumps([dict(mark, kind=kind, uuid=uuid, of="") for kind, uuid in kinds.items()])
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], LEFT_OVER + "0", text)
    pool.call("VMSS.set_last_run_time", pool.policy([pool.vm("due")]), "20260302T01:00:00Z")
    fault(pool, method, '["INTERNAL_ERROR", "no"]', count=1)
    pool.at(10, 16)
    with suppress(Problem):  # without its VMs no schedule can be served
        pool.tick()
    assert sorted(item.uuid for item in left_over.read(pool.other_config())) == sorted(kinds.values())


# What has expired by the plan, and has not any more


def three_kept(pool: TestPool, **fields: str) -> str:
    """A VM with three snapshots, of which the oldest expires at 12:15."""
    vm = pool.vm("vm", [pool.sr(), pool.sr()])
    pool.policy([vm], retained_snapshots="3", **fields)
    hours(pool, 9, 11)
    return vm


def stays(pool: TestPool, vm: str, change: Callable[[], object], method: str = "Async.VM.snapshot") -> None:
    """The oldest snapshot of the VM stays if this happens during the run."""
    oldest, disks = pool.snapshots(vm)[0]["uuid"], pool.snapshot_vdis()[:2]
    run_with(pool, Once(method, change))
    assert oldest in [vm["uuid"] for vm in pool.call("VM.get_all_records").values()]
    assert set(disks) <= set(pool.snapshot_vdis())
    assert pool.names()[-1] == "VMSS_SNAPSHOT_SUCCEEDED" and pool.tasks() == []
    begin = "Snapshots of VM %s that had expired stay: 1 (" % pool.simulator.db.get("VM", vm, "uuid")
    assert len([line for line in pool.log() if line.startswith(begin)]) == 1
    assert not any(key.startswith((PREFIX, LEFT_OVER)) for key in pool.other_config())


@pytest.mark.parametrize("how", ["deleted", "pinned"])
def test_the_oldest_snapshot_stays_where_younger_ones_are_deleted_or_pinned_meanwhile(pool: TestPool, how: str) -> None:
    vm = three_kept(pool)
    young = [pool.call("VM.get_by_uuid", one["uuid"]) for one in pool.snapshots(vm)[1:]]

    def change() -> None:
        for ref in young:
            if how == "pinned":
                pool.call("VM.add_to_blocked_operations", ref, "destroy", "keep")
            else:
                pool.call("VM.destroy", ref)

    stays(pool, vm, change)
    assert len(pool.snapshots(vm)) == (4 if how == "pinned" else 2)


def test_nothing_goes_that_the_schedule_has_come_to_keep_meanwhile(pool: TestPool) -> None:
    vm = three_kept(pool)
    (policy,) = pool.call("VMSS.get_all")
    stays(pool, vm, lambda: pool.call("VMSS.set_retained_snapshots", policy, "4"))
    assert len(pool.snapshots(vm)) == 4
    assert hours(pool, 13, 13) == [4]


def test_nothing_goes_of_a_vm_that_has_left_its_schedule_meanwhile(pool: TestPool) -> None:
    vm = three_kept(pool)
    stays(pool, vm, lambda: pool.call("VM.set_snapshot_schedule", vm, "OpaqueRef:NULL"))
    assert len(pool.snapshots(vm)) == 4


def test_an_operation_that_is_blocked_on_a_younger_snapshot_is_no_pin(pool: TestPool) -> None:
    vm = three_kept(pool)
    young = pool.call("VM.get_by_uuid", pool.snapshots(vm)[1]["uuid"])
    pool.call("VM.add_to_blocked_operations", young, "revert", "ask first")
    assert hours(pool, 12, 12) == [3]


def test_a_prune_leaves_what_has_not_expired_any_more(pool: TestPool) -> None:
    vm = three_kept(pool)
    (policy,) = pool.call("VMSS.get_all")
    pool.call("VMSS.set_retained_snapshots", policy, "1")
    path = pool.socket + ".front"
    change = Once("VBD.get_all_records_where", lambda: pool.call("VMSS.set_retained_snapshots", policy, "2"))
    Front(path, pool.socket, after=change)  # the last that the plan reads of VMs
    pool.place = pool.place._replace(xapi="unix:" + path)
    pool.tick(prune=Prune())
    assert len(pool.snapshots(vm)) == 2


@pytest.mark.parametrize("what", [SURPLUS, DELETED])
def test_nothing_goes_of_a_vm_that_is_being_moved_with_its_snapshots(pool: TestPool, what: str) -> None:
    vm = three_kept(pool)
    (policy,) = pool.call("VMSS.get_all")
    pool.call("VMSS.set_retained_snapshots", policy, "1")
    if what == DELETED:
        pool.call("VM.set_snapshot_schedule", vm, "OpaqueRef:NULL")
    pool.simulator.db.set("VM", vm, "current_operations", {"OpaqueRef:a-move": "migrate_send"})
    assert pool.tick(prune=Prune(what)).status == 0
    assert len(pool.snapshots(vm)) == 3
    begin = "Snapshots of VM %s are left for a later run: migrate_send is in progress" % pool.uuid("VM", vm)
    assert pool.log().count(begin) == 1
    pool.simulator.db.set("VM", vm, "current_operations", {"OpaqueRef:a-copy": "copy"})  # of its own disks
    pool.tick(prune=Prune(what))
    assert len(pool.snapshots(vm)) == (1 if what == SURPLUS else 0)


def test_a_snapshot_whose_vm_was_moved_to_other_storage_meanwhile_goes_with_the_disks_that_it_has_now(
    pool: TestPool,
) -> None:
    oldest = two_kept(pool)
    there = pool.sr("there")

    def move() -> None:
        for vbd in oldest["VBDs"]:
            old = pool.call("VBD.get_VDI", vbd)
            new = pool.call("VDI.copy", old, there)
            pool.simulator.db.set("VDI", new, "is_a_snapshot", True)
            pool.simulator.db.set("VBD", vbd, "VDI", new)
            pool.call("VDI.destroy", old)

    run_with(pool, Once("Async.VM.snapshot", move))
    assert "Snapshot %s is left for a later run: its disks are others by now" % oldest["uuid"] in pool.log()
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] * 3
    assert hours(pool, 13, 13) == [2]
    assert len(pool.snapshot_vdis()) == 4  # two of each snapshot


# The last look


def two_kept(pool: TestPool) -> Dict[str, Any]:
    """A VM with two snapshots, of which the older expires at 12:15; return that one."""
    vm = pool.vm("vm", [pool.sr(), pool.sr()])
    pool.policy([vm], retained_snapshots="2")
    hours(pool, 10, 11)
    return min(pool.snapshots(vm), key=lambda snapshot: str(snapshot["snapshot_time"]))


def run_with(pool: TestPool, before: Once) -> None:
    """The run of 12:15, in which something happens before a call."""
    path = pool.socket + ".front"
    Front(path, pool.socket, before=before)
    place, pool.place = pool.place, pool.place._replace(xapi="unix:" + path)
    hours(pool, 12, 12)
    pool.place = place


# First comes the sign that a pass is at work, which xapi writes to its disk, then the journal.
@pytest.mark.parametrize(
    "call, number", [("Async.VM.snapshot", 1), ("pool.add_to_other_config", 2), ("pool.sync_database", 2)]
)
def test_a_copy_that_begins_after_the_plan_is_not_waited_for(pool: TestPool, call: str, number: int) -> None:
    oldest = two_kept(pool)
    ref = pool.call("VM.get_by_uuid", oldest["uuid"])

    def copy() -> None:
        pool.simulator.db.set("VM", ref, "current_operations", {"OpaqueRef:a-backup": "copy"})

    run_with(pool, Once(call, copy, number))
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] * 3
    assert ref in pool.call("VM.get_all") and pool.tasks() == []
    assert "Snapshot %s is left for a later run: copy is in progress" % oldest["uuid"] in pool.log()
    assert not any(key.startswith((PREFIX, LEFT_OVER)) for key in pool.other_config())
    pool.simulator.db.set("VM", ref, "current_operations", {})
    assert hours(pool, 13, 13) == [2]


def test_a_pin_that_comes_after_the_plan_is_seen_before_the_memory_goes(pool: TestPool) -> None:
    sr = pool.sr()
    vm = pool.vm("vm", [sr], running=True)
    pool.policy([vm], type="checkpoint", retained_snapshots="1")
    hours(pool, 10, 10)
    (old,) = pool.snapshots(vm)
    ref = pool.call("VM.get_by_uuid", old["uuid"])
    run_with(pool, Once("pool.sync_database", lambda: pinned(pool, old["uuid"])))
    assert pool.call("VM.get_power_state", ref) == "Suspended"
    assert old["suspend_VDI"] in pool.call("VDI.get_all")
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] * 2


@pytest.mark.parametrize("copied", [False, True])
def test_a_checkpoint_that_waits_for_its_storage_is_looked_at_again_before_its_memory_goes(
    pool: TestPool, copied: bool
) -> None:
    pool.simulator.durations = pool.simulator.durations._replace(vdi_destroy=(60.0, 60.0))
    sr = pool.sr()
    vms = [pool.vm("vm %d" % number, [sr], running=True) for number in range(2)]
    pool.policy(vms, type="checkpoint", retained_snapshots="1")
    hours(pool, 10, 10)
    old = {vm: pool.snapshots(vm)[0] for vm in vms}

    def hold() -> None:
        """Whichever's turn it is: the other's has not come."""
        for vm in vms:
            ref = pool.call("VM.get_by_uuid", old[vm]["uuid"])
            if copied:
                pool.simulator.db.set("VM", ref, "current_operations", {"OpaqueRef:a-backup": "copy"})
            else:
                pinned(pool, old[vm]["uuid"])

    path = pool.socket + ".front"
    Front(path, pool.socket, after=Once("Async.VM.hard_shutdown", hold))
    place, pool.place = pool.place, pool.place._replace(xapi="unix:" + path)
    hours(pool, 11, 11)
    pool.place = place
    memories = [vm for vm in vms if old[vm]["suspend_VDI"] in pool.call("VDI.get_all")]
    assert len(memories) == 1
    assert pool.call("VM.get_power_state", pool.call("VM.get_by_uuid", old[memories[0]]["uuid"])) == "Suspended"
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] * 2 and pool.tasks() == []
    assert not any(key.startswith((PREFIX, LEFT_OVER)) for key in pool.other_config())


# With 4 seconds for each, the last of four is looked at together with the third, and not once more.
@pytest.mark.parametrize("disks_of_it, seconds", [(3, 60.0), (4, 4.0), (2, 19 * 60.0)])
def test_a_disk_that_another_vm_got_while_it_waited_for_its_storage_stays(
    pool: TestPool, disks_of_it: int, seconds: float
) -> None:
    pool.simulator.durations = pool.simulator.durations._replace(vdi_destroy=(seconds, seconds))
    sr = pool.sr()
    vm, other = pool.vm("vm", [sr] * disks_of_it), pool.vm("other", [])
    pool.policy([vm], retained_snapshots="1")
    hours(pool, 10, 11)
    disks = [pool.call("VBD.get_VDI", vbd) for vbd in pool.snapshots(vm)[0]["VBDs"]]
    run_with(pool, Once("Async.VDI.destroy", lambda: pool.vbd(other, disks[-1], 5)))  # it is the first one's turn
    assert set(disks) & set(pool.call("VDI.get_all")) == {disks[-1]}
    assert len([line for line in pool.log() if "left alone: 1 (in use elsewhere)" in line]) == 1
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] * 3
    assert not any(key.startswith((PREFIX, LEFT_OVER)) for key in pool.other_config())


def test_what_is_pinned_when_its_memory_has_gone_keeps_its_disks_and_nobody_has_failed(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()], running=True)
    pool.policy([vm], type="checkpoint", retained_snapshots="1")
    hours(pool, 10, 10)
    (old,) = pool.snapshots(vm)
    disk = pool.call("VBD.get_VDI", old["VBDs"][0])
    run_with(pool, Once("Async.VM.destroy", lambda: pinned(pool, old["uuid"])))
    assert old["uuid"] in [snapshot["uuid"] for snapshot in pool.snapshots(vm)]
    assert disk in pool.call("VDI.get_all") and old["suspend_VDI"] not in pool.call("VDI.get_all")
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] * 2 and pool.tasks() == []
    assert not any(key.startswith((PREFIX, LEFT_OVER)) for key in pool.other_config())
