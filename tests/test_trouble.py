"""What happens in the middle of a pass: answers that are lost, others that act, slots that pass, a stop."""

import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict, List
from uuid import uuid4

import pytest

from tests.front import Front, Once, lose
from tests.pool import TestPool
from tests.test_read_back import Stepped
from tests.test_run import clean
from vmss.core.datetimes import parse_datetime
from vmss.edges import settings, surroundings, world
from vmss.edges.lock import LockDirectory
from vmss.edges.sessions import NoSession
from vmss.edges.vms import read_snapshots, read_vms_by_uuid, with_snapshots
from vmss.edges.xapi import Xapi
from vmss.passes.journal import Journal
from vmss.passes.request import Request
from vmss.passes.run import run
from vmss.simulator.faults import Rule

ROOT = Path(__file__).resolve().parent.parent
LONG_AGO = "20260302T01:00:00Z"


def front(pool: TestPool, **hooks: Any) -> str:
    """Let passes go through a front; returns the address without it."""
    direct = pool.place.xapi
    path = str(pool.folder / ("front%d.sock" % len(list(pool.folder.glob("front*")))))
    Front(path, pool.socket, **hooks)
    pool.place = pool.place._replace(xapi="unix:" + path)
    return direct


def due_vm(pool: TestPool, disks: int = 1, **fields: Any) -> str:
    """A VM whose hourly policy is due at 10:15."""
    vm = pool.vm("vm", [pool.sr() for _ in range(disks)])
    pool.call("VMSS.set_last_run_time", pool.policy([vm], **fields), LONG_AGO)
    pool.at(10, 15)
    return vm


def slow(pool: TestPool, **seconds: float) -> None:
    """Let operations take so many seconds."""
    durations: Dict[str, Any] = {name: (value, value) for name, value in seconds.items()}
    pool.simulator.durations = pool.simulator.durations._replace(**durations)


# Answers that are lost


def test_a_snapshot_whose_answer_was_lost_is_marked_adopted_and_not_doubled(pool: TestPool) -> None:
    vm = due_vm(pool)
    direct = front(pool, after=Once("Async.VM.snapshot", lose))
    with pytest.raises(NoSession):
        pool.tick()
    assert pool.sessions() == 1  # the snapshot needs it for its mark
    pool.place = pool.place._replace(xapi=direct)
    pool.at(10, 30)
    assert pool.tick().status == 0
    records = [record for record in pool.call("VM.get_all_records").values() if record["is_a_snapshot"]]
    assert [record["is_vmss_snapshot"] for record in records] == [True]
    assert len(pool.snapshots(vm)) == 1
    clean(pool)


@pytest.mark.parametrize("gone", [False, True], ids=["its task is there", "its task is gone"])
@pytest.mark.parametrize(
    "method, number, earlier",  # before which call it ends, and how many snapshots the VM has
    [
        ("task.get_other_config", 1, 0),
        ("task.get_other_config", 1, 1),
        ("VM.get_all_records_where", 2, 1),
        ("VBD.get_all_records_where", 1, 0),
    ],
)
def test_a_snapshot_of_an_earlier_pass_that_ends_while_the_next_reads_the_pool_counts(
    pool: TestPool, method: str, number: int, earlier: int, gone: bool
) -> None:
    """A VM, its task and its snapshots are read one after the other: what was read first is older."""
    vm = due_vm(pool, retained_snapshots="2")
    if earlier:
        pool.tick()
        pool.at(11, 15)
    slow(pool, vdi_snapshot=1200.0)
    direct = front(pool, after=Once("Async.VM.snapshot", lose))
    with pytest.raises(NoSession):
        pool.tick()
    (task,) = pool.call("task.get_by_name_label", "Async.VM.snapshot")

    def ended() -> None:
        token = ""
        while pool.call("task.get_status", task) == "pending":
            token = pool.call("event.from", ["task/" + task], token, 60.0)["token"]
        if gone:
            pool.call("task.destroy", task)

    pool.place = pool.place._replace(xapi=direct)
    front(pool, before=Once(method, ended, number))
    pool.at(11 if earlier else 10, 34, second=50)
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1 + earlier
    assert set(pool.names()) == {"VMSS_SNAPSHOT_SUCCEEDED"}
    assert not [line for line in pool.log() if "contradict" in line or "does not count" in line]


def test_a_result_that_xapi_has_lost_is_looked_for_in_the_pool(pool: TestPool) -> None:
    vm = due_vm(pool)

    def collected() -> None:
        (task,) = pool.call("task.get_by_name_label", "Async.VM.snapshot")
        token = ""
        while pool.call("task.get_status", task) == "pending":
            token = pool.call("event.from", ["task/" + task], token, 60.0)["token"]
        pool.call("task.destroy", task)

    front(pool, before=Once("event.from", collected, number=2))
    assert pool.tick().line.startswith("schedules served: 1, VMs snapshotted: 1 of 1")
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] and len(pool.snapshots(vm)) == 1


def test_a_snapshot_whose_task_names_none_is_looked_for_in_the_pool(pool: TestPool) -> None:
    vm = due_vm(pool)

    def emptied() -> None:
        (task,) = pool.call("task.get_by_name_label", "Async.VM.snapshot")
        token = ""
        while pool.call("task.get_status", task) == "pending":
            token = pool.call("event.from", ["task/" + task], token, 60.0)["token"]
        pool.simulator.db.set("task", task, "result", "<value></value>")

    front(pool, before=Once("event.from", emptied, number=2))
    assert pool.tick().line.startswith("schedules served: 1, VMs snapshotted: 1 of 1")
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] and len(pool.snapshots(vm)) == 1


def test_a_snapshot_from_a_time_when_the_clock_was_ahead_is_not_taken_for_a_new_one(pool: TestPool) -> None:
    vm = due_vm(pool, retained_snapshots="1")
    pool.at(10, 15, day=4)
    pool.tick()
    (ahead,) = pool.snapshots(vm)
    pool.at(10, 15)
    pool.tick()  # the clock is right again
    (good,) = [snapshot for snapshot in pool.snapshots(vm) if snapshot["uuid"] != ahead["uuid"]]
    fail = {
        "method": "VM.snapshot",
        "object": vm,
        "action": "error",
        "error": '["CANNOT_CONTACT_HOST", "h"]',
        "count": "0",
    }
    pool.call("simulator.add_fault", fail)
    pool.at(11, 15)
    assert pool.tick().status == 1
    assert good["uuid"] in [snapshot["uuid"] for snapshot in pool.snapshots(vm)]
    assert "VMSS_SNAPSHOT_FAILED" in pool.names()


def test_a_task_of_an_earlier_pass_whose_snapshot_is_dated_in_the_future_serves_no_slot(pool: TestPool) -> None:
    vm = due_vm(pool)
    slow(pool, vdi_snapshot=1000.0)
    direct = front(pool, after=Once("Async.VM.snapshot", lose))
    with pytest.raises(NoSession):
        pool.tick()
    pool.place = pool.place._replace(xapi=direct)
    front(pool, before=Once("VM.get_snapshot_time", lambda: pool.at(10, 17)))
    assert pool.tick().status == 0
    assert len({snapshot["name_label"] for snapshot in pool.snapshots(vm)}) == 2


def test_a_vm_whose_snapshot_lasts_beyond_its_next_slot_gets_no_second_one_behind_it(pool: TestPool) -> None:
    vm = due_vm(pool)
    slow(pool, vdi_snapshot=4500.0)
    pool.settings = pool.settings._replace(snapshot_limit=9000)
    assert pool.tick().status == 1
    (policy,) = pool.call("VMSS.get_all")
    overtaken = ["VMSS_OVERTAKEN_BY_NEXT_SLOT" in alert["body"] for alert in pool.alerts(policy)]
    assert overtaken == [True, True, False] and len(pool.snapshots(vm)) == 1


def test_a_checkpoint_that_is_still_being_taken_is_no_snapshot_yet(pool: TestPool) -> None:
    vm = due_vm(pool)
    pool.tick()
    (ref,) = read_snapshots(pool.xapi, [vm])[vm]
    pool.simulator.db.set("VM", ref, "current_operations", {"OpaqueRef:task": "checkpoint"})
    assert read_snapshots(pool.xapi, [vm]) == {}


def test_a_snapshot_that_its_vm_does_not_list_is_left_alone(pool: TestPool) -> None:
    vm = due_vm(pool, retained_snapshots="5")
    for hour in (10, 11):
        pool.at(hour, 15)
        pool.tick()
    (read,) = read_vms_by_uuid(pool.xapi, [pool.uuid("VM", vm)])
    listed, unlisted = sorted(read.snapshot_refs)
    before = read._replace(snapshot_refs=(listed,))
    (fresh,) = with_snapshots(pool.xapi, [before])  # the list is read again: it was taken since
    assert len(fresh.snapshots) == 2 and not fresh.suspect

    def damage(method: str, body: bytes) -> bytes:
        return body.replace(unlisted.encode(), listed.encode()) if method == "VM.get_snapshots" else body

    front(pool, rewrite=damage)
    with closing(Xapi(pool.place.xapi)) as xapi:
        xapi.login("root", "")
        (damaged,) = with_snapshots(xapi, [before])
        xapi.logout()
    assert [snapshot.ref for snapshot in damaged.snapshots] == [listed]
    assert damaged.suspect == (pool.uuid("VM", unlisted),)


def test_an_older_snapshot_is_not_the_one_whose_result_is_in_doubt(pool: TestPool) -> None:
    vm = due_vm(pool)
    pool.tick()
    error = '["CANNOT_CONTACT_HOST", "OpaqueRef:host"]'
    pool.call("simulator.add_fault", {"method": "VM.snapshot", "action": "error", "error": error, "count": "20"})
    pool.at(11, 15)
    assert pool.tick().status == 1
    (policy,) = pool.call("VMSS.get_all")
    assert "Error:['CANNOT_CONTACT_HOST'" in pool.alerts(policy)[-1]["body"] and len(pool.snapshots(vm)) == 1


def test_a_policy_whose_first_run_was_broken_off_is_late_and_not_lost(pool: TestPool) -> None:
    sr = pool.sr()
    vms = [pool.vm(name, [sr]) for name in ("one", "two")]
    policy = pool.policy(vms, frequency="weekly", schedule={"hour": "10", "min": "15", "days": "Monday"})
    pool.at(10, 15)
    direct = front(pool, before=Once("Async.VM.snapshot", lose, number=2))
    with pytest.raises(NoSession):
        pool.tick()
    pool.place = pool.place._replace(xapi=direct)
    pool.at(10, 45)
    assert pool.tick().status == 0
    assert [len(pool.snapshots(vm)) for vm in vms] == [1, 1]
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"]


# Others that act in the middle of a pass


def test_a_disk_that_another_vm_takes_into_use_meanwhile_is_not_destroyed(pool: TestPool) -> None:
    vm = due_vm(pool, retained_snapshots="1")
    pool.tick()
    (vdi,) = pool.snapshot_vdis()
    other = pool.vm("other")
    pool.at(11, 15)
    front(pool, before=Once("Async.VM.snapshot", lambda: pool.vbd(other, vdi, 0)))
    pool.tick()
    assert len(pool.call("VM.get_VBDs", other)) == 1 and vdi in pool.snapshot_vdis()
    assert len(pool.snapshots(vm)) == 1


def test_a_checkpoint_that_is_pinned_meanwhile_keeps_its_memory(pool: TestPool) -> None:
    sr = pool.sr()
    pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], sr)
    vm = pool.vm("vm", [sr], running=True)
    pool.policy([vm], type="checkpoint", retained_snapshots="1", schedule={"min": "15"})
    pool.at(10, 15)
    pool.tick()
    (old,) = pool.call("VM.get_snapshots", vm)
    pool.at(11, 15)
    front(
        pool,
        before=Once("Async.VM.checkpoint", lambda: pool.call("VM.add_to_blocked_operations", old, "destroy", "keep")),
    )
    assert pool.tick().status == 0
    assert pool.call("VM.get_power_state", old) == "Suspended"
    assert pool.call("VM.get_suspend_VDI", old) in pool.snapshot_vdis()


def test_a_snapshot_that_somebody_destroys_meanwhile_counts_as_destroyed(pool: TestPool) -> None:
    vm = due_vm(pool, retained_snapshots="1")
    pool.tick()
    (old,) = pool.call("VM.get_snapshots", vm)
    pool.at(11, 15)
    front(pool, before=Once("Async.VM.destroy", lambda: pool.call("VM.destroy", old)))
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1
    clean(pool)


def test_a_policy_that_is_deleted_meanwhile_stops_nobody(pool: TestPool) -> None:
    sr = pool.sr()
    one, two = pool.vm("one", [sr]), pool.vm("two", [sr])
    gone, stays = pool.policy([one], name="gone"), pool.policy([two], name="stays")

    def delete() -> None:
        pool.call("VM.set_snapshot_schedule", one, "OpaqueRef:NULL")
        pool.call("VMSS.destroy", gone)

    pool.at(10, 15)
    front(pool, before=Once("message.create", delete))
    pool.tick()
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] and pool.names(stays) == ["VMSS_SNAPSHOT_SUCCEEDED"]
    assert any(line.startswith("The alert could not be raised: UUID_INVALID") for line in pool.log())
    clean(pool)


def test_a_vm_that_is_deleted_meanwhile_is_no_failure_and_stops_nobody(pool: TestPool) -> None:
    one, two = pool.vm("one"), pool.vm("two")
    policy = pool.policy([one, two])
    pool.at(10, 15)
    front(pool, before=Once("Async.VM.snapshot", lambda: pool.call("VM.destroy", one)))
    assert pool.tick().line.startswith("schedules served: 1, VMs snapshotted: 1 of 1")
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"]
    assert len(pool.snapshots(two)) == 1
    clean(pool)


def waiting_checkpoint(pool: TestPool, change: Callable[[str], Any], seconds: float) -> str:
    """A pass with the checkpoint of a running VM, which waits for its SR so many seconds, while the VM is changed."""
    sr = pool.sr()
    pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], sr)
    vms = [pool.vm(name, [sr], running=True) for name in ("first", "second")]
    pool.policy(vms, type="checkpoint")
    slow(pool, vdi_snapshot=seconds)
    pool.at(10, 15)
    waits: List[str] = []

    def changed() -> None:
        # The one that has no snapshot under way.
        waits.extend(vm for vm in vms if not pool.call("VM.get_current_operations", vm))
        change(waits[0])

    front(pool, before=Once("event.from", changed, number=2))
    assert pool.tick().status == 0
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"]
    return waits[0]


@pytest.mark.parametrize("seconds", [1.0, 100.0])
def test_a_vm_that_is_shut_down_while_its_checkpoint_waits_gets_a_plain_snapshot(
    pool: TestPool, seconds: float
) -> None:
    vm = waiting_checkpoint(pool, lambda vm: pool.call("VM.hard_shutdown", vm), seconds)
    (snapshot,) = pool.snapshots(vm)
    assert snapshot["power_state"] == "Halted"


def test_a_vm_that_is_taken_off_its_schedule_while_it_waits_gets_no_snapshot(pool: TestPool) -> None:
    vm = waiting_checkpoint(pool, lambda vm: pool.call("VM.set_snapshot_schedule", vm, "OpaqueRef:NULL"), 100.0)
    assert pool.snapshots(vm) == []
    assert any(
        line.endswith("is not served: it is gone, or off the schedule, since the run began") for line in pool.log()
    )


def test_a_vm_that_is_suspended_while_it_waits_gets_its_checkpoint(pool: TestPool) -> None:
    vm = waiting_checkpoint(pool, lambda vm: pool.call("VM.suspend", vm), 100.0)
    (snapshot,) = pool.snapshots(vm)
    assert snapshot["power_state"] == "Suspended" and pool.call("VM.get_power_state", vm) == "Suspended"


def test_a_vm_that_is_started_while_it_waits_gets_its_checkpoint(pool: TestPool) -> None:
    sr = pool.sr()
    pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], sr)
    first, second = pool.vm("first", [sr]), pool.vm("second", [sr])
    pool.policy([first, second], type="checkpoint")
    slow(pool, vdi_snapshot=100.0)
    pool.at(10, 15)
    waits: List[str] = []

    def start() -> None:
        waits.extend(vm for vm in (first, second) if not pool.call("VM.get_current_operations", vm))
        pool.call("VM.start", waits[0], False, False)

    front(pool, before=Once("event.from", start, number=2))
    assert pool.tick().status == 0
    (snapshot,) = pool.snapshots(waits[0])
    assert snapshot["power_state"] == "Suspended" and pool.call("VM.get_power_state", waits[0]) == "Running"
    for vm in (first, second):
        assert pool.log().count("Processing VM: %s" % pool.call("VM.get_uuid", vm)) == 1
    clean(pool)


def test_a_quiesced_schedule_takes_plain_snapshots_of_vms_that_waited_too(pool: TestPool) -> None:
    sr = pool.sr()
    vms = [pool.vm(name, [sr], running=True) for name in ("first", "second", "third")]
    policy = pool.policy(vms)
    pool.simulator.db.set("VMSS", policy, "type", "snapshot_with_quiesce")
    slow(pool, vdi_snapshot=100.0)
    pool.at(10, 15)
    assert pool.tick().status == 0
    assert [len(pool.snapshots(vm)) for vm in vms] == [1, 1, 1]
    clean(pool)


# Slots that pass in the middle of a pass


def put_off(pool: TestPool) -> None:
    """A tick at 10:15 finds the lock taken, with a connection of its own."""
    place, pool.place = pool.place, pool.place._replace(xapi="unix:" + pool.socket)
    pool.at(10, 15)
    assert pool.tick().status == 4
    pool.place = place


def test_a_policy_that_never_ran_and_finds_the_lock_taken_is_served_when_that_run_is_through(pool: TestPool) -> None:
    first, second = pool.vm("first", [pool.sr()]), pool.vm("second", [pool.sr("other")])
    pool.policy([first], schedule={"min": "0"})
    daily = pool.policy([second], frequency="daily", schedule={"hour": "10", "min": "15"})
    slow(pool, vdi_snapshot=2400.0)
    front(pool, before=Once("event.from", lambda: put_off(pool), number=2))
    pool.tick()
    assert pool.names(daily) == ["VMSS_SNAPSHOT_LOCK_FAILED", "VMSS_SNAPSHOT_SUCCEEDED"]
    assert len(pool.snapshots(second)) == 1
    clean(pool)


def test_a_slot_that_passes_while_the_database_is_written_is_not_lost(pool: TestPool) -> None:
    first, second = pool.vm("first", [pool.sr()]), pool.vm("second", [pool.sr("other")])
    pool.policy([first], schedule={"min": "0"})
    daily = pool.policy([second], frequency="daily", schedule={"hour": "10", "min": "15"})
    front(pool, before=Once("pool.sync_database", lambda: put_off(pool)))
    pool.tick()
    assert pool.names(daily) == ["VMSS_SNAPSHOT_LOCK_FAILED", "VMSS_SNAPSHOT_SUCCEEDED"]
    assert len(pool.snapshots(second)) == 1


def test_a_slot_that_passes_while_a_pass_only_finishes_what_was_left_is_not_lost(pool: TestPool) -> None:
    sr = pool.sr()
    vm = pool.vm("vm", [sr])
    daily = pool.policy([vm], frequency="daily", schedule={"hour": "10", "min": "15"})
    left = pool.call("VDI.snapshot", pool.vdi(sr), {})
    pool.record({"11111111-1111-1111-1111-111111111111": [pool.uuid("VDI", left)]})
    slow(pool, vdi_destroy=1200.0)
    front(pool, before=Once("event.from", lambda: put_off(pool), number=2))
    pool.tick()
    assert pool.names(daily) == ["VMSS_SNAPSHOT_LOCK_FAILED", "VMSS_SNAPSHOT_SUCCEEDED"]
    assert left not in pool.call("VDI.get_all")


def test_the_slots_after_a_clock_was_set_back_are_not_lost_as_long_as_the_pass_lasts(pool: TestPool) -> None:
    first, second = pool.vm("first", [pool.sr()]), pool.vm("second", [pool.sr("other")])
    pool.policy([first], schedule={"min": "0"})
    hourly = pool.policy([second], schedule={"min": "30"})
    pool.call("VMSS.set_last_run_time", hourly, "20260302T09:50:00Z")
    slow(pool, vdi_snapshot=2400.0)
    clock = Stepped(pool, seconds=3000.0)  # from 10:00 to 9:10
    front(pool, before=Once("event.from", clock.set_back))
    run(Request(kicked=True), pool.surroundings(clock=clock))
    assert [snapshot["name_label"] for snapshot in pool.snapshots(second)] == ["policy 2026-03-02T09:30:00Z"]


# What is written down


def test_a_suspended_vms_memory_is_not_destroyed_by_a_forged_record(pool: TestPool) -> None:
    sr = pool.sr()
    ref = pool.call("pool.get_all")[0]
    pool.call("pool.set_suspend_image_SR", ref, sr)
    vm = pool.vm("sleeper", [sr], running=True)
    pool.call("VM.suspend", vm)
    memory = pool.call("VM.get_suspend_VDI", vm)
    pool.record({"11111111-1111-1111-1111-111111111111": [pool.uuid("VDI", memory)]})
    pool.tick()
    assert pool.call("VM.get_suspend_VDI", vm) == memory and memory in pool.snapshot_vdis()


def test_what_is_destroyed_is_recorded_in_calls_that_xapi_takes(pool: TestPool) -> None:
    # Retention lowered from 10 to 1 on 300 VMs of four disks: more than one call may carry.
    entries = {str(uuid4()): [str(uuid4()) for _ in range(4)] for _ in range(2700)}
    journal = Journal(pool.xapi, world.read_pool(pool.xapi), pool.simulator.now())
    keys = journal.write(entries)
    values = pool.other_config()
    assert max(len(values[key]) for key in keys) < 40000
    found: Dict[str, List[str]] = {}
    for _, entry in Journal(pool.xapi, world.read_pool(pool.xapi), pool.simulator.now()).leftovers():
        found.update(entry.disks if entry else {})
    assert found == entries
    for key in keys:
        journal.remove(key)
    clean(pool)


def test_a_record_stays_while_its_snapshots_end_is_still_under_way(pool: TestPool) -> None:
    vm = due_vm(pool, retained_snapshots="1")
    pool.tick()
    (old,) = pool.call("VM.get_snapshots", vm)

    def export() -> None:
        pool.simulator.db.set("VM", old, "current_operations", {"OpaqueRef:foreign": "export"})

    # Somebody begins to export it after the last look: our destroy has to wait, and the run is told to stop meanwhile.
    pool.at(10, 40)
    words = ("--policy", pool.uuid("VMSS", pool.call("VMSS.get_all")[0]))
    stopped(pool, "Async.VM.destroy", *words, before=Once("Async.VM.destroy", export))
    records = [key for key in pool.other_config() if key.startswith("vmss-destroying:")]
    assert len(records) == 1
    pool.at(10, 45)
    assert pool.tick().line == "no schedule is due"
    assert records[0] in pool.other_config()
    pool.simulator.db.set("VM", old, "current_operations", {})
    pool.at(11, 0)
    assert pool.tick().line == "no schedule is due"
    assert old not in pool.call("VM.get_all") and len(pool.snapshots(vm)) == 1
    clean(pool)


# A stop


def stopped(pool: TestPool, method: str, *words: str, before: Callable[[str], None] = lambda method: None) -> None:
    """A pass in a process of its own, which is told to stop as soon as it has made this call."""
    Path(pool.place.config).write_text("[vmss]\nlogin_limit = 0\nstop_limit = 0\ntimezone = UTC\n")
    processes: List[subprocess.Popen[bytes]] = []
    direct = front(pool, before=before, after=Once(method, lambda: processes[0].send_signal(signal.SIGTERM)))
    processes.append(
        subprocess.Popen(
            [sys.executable, "-m", "vmss", "run"] + list(words),
            env=dict(
                os.environ,
                PYTHONPATH=str(ROOT),
                VMSS_LOG=pool.place.log,
                VMSS_LOCK_DIR=pool.place.lock_dir,
                VMSS_CONFIG=pool.place.config,
                VMSS_XAPI=pool.place.xapi,
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    )
    out, err = processes[0].communicate(timeout=60)
    assert (processes[0].returncode, b"stopped before the end" in err) == (1, True), err
    pool.place = pool.place._replace(xapi=direct)


def test_a_snapshot_that_still_waits_for_a_busy_vm_is_taken_once(pool: TestPool) -> None:
    vm = due_vm(pool, retained_snapshots="5")
    pool.simulator.db.set("VM", vm, "current_operations", {"OpaqueRef:foreign": "pool_migrate"})
    stopped(pool, "Async.VM.snapshot")
    assert pool.tasks() == ["Async.VM.snapshot"] and pool.sessions() == 1
    pool.at(10, 30)
    front(pool, before=Once("event.from", lambda: pool.simulator.db.set("VM", vm, "current_operations", {}), number=2))
    assert pool.tick().status == 0
    pool.at(10, 45)
    pool.tick()
    assert len(pool.snapshots(vm)) == 1
    clean(pool)


@pytest.mark.parametrize("after", [20.0, 60.0, 2000.0])
def test_a_snapshot_that_has_not_begun_when_the_next_pass_does_is_not_taken_twice(pool: TestPool, after: float) -> None:
    # It says of which VM it is once it begins; and it has no disk before which it would notice that it was cancelled.
    vm = due_vm(pool, disks=0, retained_snapshots="5")
    pool.simulator.faults.add(Rule(method="VM.snapshot", action="delay", seconds=900.0 + after))
    stopped(pool, "Async.VM.snapshot")
    pool.at(10, 30)
    assert pool.tick().status == (0 if after < 300 else 1)
    assert len(pool.snapshots(vm)) == (1 if after < 300 else 0)
    pool.simulator.step_clock(pool.simulator.now().timestamp() + after)
    for minute in (15, 30):
        pool.at(11, minute)
        pool.tick()
    assert [row["name_label"][-20:] for row in pool.snapshots(vm)] == ["2026-03-02T10:15:00Z", "2026-03-02T11:15:00Z"]
    clean(pool)


def test_a_snapshot_that_never_begins_keeps_its_vm_from_being_served_for_an_hour(pool: TestPool) -> None:
    vm = due_vm(pool, disks=0, retained_snapshots="5")
    pool.simulator.faults.add(Rule(method="VM.snapshot", action="hang"))
    stopped(pool, "Async.VM.snapshot")
    pool.at(10, 30)
    assert pool.tick().status == 1 and pool.snapshots(vm) == []
    pool.at(11, 15)
    pool.tick()
    pool.at(11, 30)
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1


def test_a_pass_whose_host_loses_its_role_while_it_logs_in_leaves_all_to_the_new_coordinator(
    pool: TestPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = due_vm(pool)
    role = pool.folder / "pool.conf"
    role.write_text("master")
    lost = Once("session.login_with_password", lambda: role.write_text("slave:192.0.2.2"))
    front(pool, before=lost)
    monkeypatch.setattr(surroundings, "POOL_ROLE", str(role))
    monkeypatch.setattr(settings, "DEFAULT_XAPI", pool.place.xapi)
    assert pool.place.local
    report = pool.tick()
    assert (report.status, report.line) == (0, "this host is not the pool's coordinator: nothing to do")
    assert pool.snapshots(vm) == [] and pool.names() == []
    clean(pool)
    role.write_text("master")
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1


def test_the_records_of_tasks_that_a_stopped_pass_left_are_destroyed(pool: TestPool) -> None:
    vm = due_vm(pool, retained_snapshots="1")
    pool.tick()
    slow(pool, vdi_destroy=600.0)
    pool.at(11, 15)
    stopped(pool, "Async.VDI.destroy")
    assert pool.tasks() == ["Async.VDI.destroy"]
    pool.at(11, 45)
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1
    clean(pool)


@pytest.mark.parametrize("method", ["VM.destroy", "VDI.destroy"])
def test_a_deletion_whose_result_is_lost_has_succeeded_if_its_object_is_gone(pool: TestPool, method: str) -> None:
    vm = due_vm(pool, disks=2, retained_snapshots="1")
    pool.tick()
    pool.at(11, 15)

    def collect(called: str) -> None:
        """The operation ends at once, and its record is collected before anybody has read it, as one of too many."""
        if called == "Async." + method:
            pool.simulator.set_time(pool.simulator.now() + timedelta(seconds=30))
            for task, record in pool.call("task.get_all_records").items():
                if (record["name_label"], record["status"]) == (called, "success"):
                    pool.simulator.db.delete("task", task)

    direct = front(pool, after=collect)
    assert pool.tick().status == 0
    pool.place = pool.place._replace(xapi=direct)
    assert pool.names()[-1] == "VMSS_SNAPSHOT_SUCCEEDED" and len(pool.snapshots(vm)) == 1
    clean(pool)


def test_an_alert_that_xapi_stored_and_answered_as_not_stored_is_raised_once(pool: TestPool) -> None:
    # Seen on a real xapi: three alerts for one run, and last-run-time at the epoch for two passes.
    vm = due_vm(pool)
    (policy,) = pool.call("VMSS.get_all")

    def forget(method: str, body: bytes) -> bytes:
        return re.sub(b"OpaqueRef:[-0-9a-f]+", b"OpaqueRef:NULL", body) if method == "message.create" else body

    direct = front(pool, rewrite=forget)
    assert pool.tick().status == 0
    pool.place = pool.place._replace(xapi=direct)
    pool.at(10, 30)
    assert pool.tick().line == "no schedule is due"
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"] and len(pool.snapshots(vm)) == 1
    assert not any("could not be stored" in line for line in pool.log())


def test_an_alert_that_xapi_stored_without_links_is_raised_once(pool: TestPool) -> None:
    # After an older database came back: xapi answers NULL, and does not find the message by its object.
    vm = due_vm(pool, type="snapshot")
    (policy,) = pool.call("VMSS.get_all")
    pool.call("simulator.collide", 2)  # the first is VM_SNAPSHOTTED
    assert pool.tick().status == 0
    assert pool.call("message.get", "VMSS", pool.uuid("VMSS", policy), LONG_AGO) == {}
    pool.at(10, 30)
    assert pool.tick().line == "no schedule is due"
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"] and len(pool.snapshots(vm)) == 1
    assert not any("could not be stored" in line for line in pool.log())


def test_an_alert_of_once_a_slot_that_has_no_links_is_not_raised_again(pool: TestPool) -> None:
    due_vm(pool)
    (policy,) = pool.call("VMSS.get_all")
    pool.call("simulator.restrict", "VMSS", True)
    pool.call("simulator.collide", 1)
    for minute in (15, 20, 25):
        pool.at(10, minute)
        pool.tick()
    assert pool.names(policy) == ["VMSS_LICENSE_ERROR"]


def refused(pool: TestPool, method: str) -> None:
    """xapi refuses the next call of a method with an error of its own."""
    pool.call(
        "simulator.add_fault",
        {"method": method, "when": "before", "action": "error", "error": '["INTERNAL_ERROR", "no space left"]'},
    )


def test_an_alert_that_xapi_did_not_store_is_raised_by_the_next_pass(pool: TestPool) -> None:
    vm = due_vm(pool)
    (policy,) = pool.call("VMSS.get_all")
    refused(pool, "message.create")
    pool.tick()
    assert pool.names(policy) == []
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"] and len(pool.snapshots(vm)) == 1
    pool.at(10, 45)
    assert pool.tick().line == "no schedule is due"


def test_the_record_of_a_task_that_xapi_does_not_destroy_at_once_costs_nothing(pool: TestPool) -> None:
    vms = [pool.vm("vm%d" % number, [pool.sr()]) for number in range(2)]
    pool.call("VMSS.set_last_run_time", pool.policy(vms, retained_snapshots="1"), LONG_AGO)
    pool.at(10, 15)
    refused(pool, "task.destroy")
    assert pool.tick().status == 0
    assert [len(pool.snapshots(vm)) for vm in vms] == [1, 1]
    pool.at(10, 30)
    pool.tick()  # if it was the last task, the record waits for this pass
    clean(pool)


def test_a_vm_of_which_it_cannot_be_told_whether_its_snapshot_is_being_taken_gets_no_second_one(pool: TestPool) -> None:
    vm = due_vm(pool, retained_snapshots="5")
    slow(pool, vdi_snapshot=600.0)
    stopped(pool, "Async.VM.snapshot")
    refused(pool, "task.get_other_config")
    pool.at(10, 16)
    assert pool.tick().status == 1
    pool.at(10, 45)
    pool.tick()
    assert len(pool.snapshots(vm)) == 1
    clean(pool)


def test_who_asks_for_the_holder_of_the_lock_takes_nothing_from_the_next_pass(tmp_path: Path) -> None:
    directory = LockDirectory(str(tmp_path))
    lock = directory.acquire("pool", {"session": "OpaqueRef:1", "pid": 1})
    assert directory.holder("pool") == {"pid": 1}  # a session is nobody else's business
    os.close(lock._descriptor)  # as though it had died
    assert directory.holder("pool") is None
    assert directory.acquire("pool", {}).previous == {"session": "OpaqueRef:1", "pid": 1}


def test_a_checkpoint_that_an_earlier_pass_began_before_the_slot_is_awaited_and_another_taken(pool: TestPool) -> None:
    sr = pool.sr()
    pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], sr)
    vm = pool.vm("vm", [sr], running=True)
    policy = pool.policy([vm], type="checkpoint")
    # The time of a checkpoint is that of its record, which is made between the disk's snapshot and the memory's.
    pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(120.0, 120.0))
    earlier = Xapi(pool.place.xapi)
    earlier.login("__dom0__vmss", "")
    pool.at(10, 12)
    earlier.call("Async.VM.checkpoint", vm, "earlier")
    pool.at(10, 15)
    assert pool.tick().status == 0
    slot = pool.simulator.now().replace(minute=15, second=0, microsecond=0)
    times = sorted(parse_datetime(record["snapshot_time"]) for record in pool.snapshots(vm))
    assert len(times) == 2 and times[0] < slot < times[1]
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"]
    earlier.close()


def test_a_pass_that_xapi_slows_down_takes_longer_and_does_all(pool: TestPool) -> None:
    # Since July 2026 an administrator may limit the rate of a client's calls.
    vms = [pool.vm("vm%d" % number, [pool.sr()]) for number in range(3)]
    pool.policy(vms, retained_snapshots="1")
    pool.call("simulator.limit_rate", "", 150.0, 10.0)
    for hour in (10, 11):
        pool.at(hour, 15)
        assert pool.tick().status == 0
        assert [len(pool.snapshots(vm)) for vm in vms] == [1, 1, 1]
    pool.call("simulator.limit_rate", "", 1.0, 0.0)
    clean(pool)
