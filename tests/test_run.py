"""A pass, over a real socket with the real client: what it takes, deletes, raises, logs and leaves behind."""

import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List

import pytest

from tests.pool import START, TestPool
from vmss.core.datetimes import parse_datetime
from vmss.core.fate import GOES, Fate
from vmss.core.problem import BadInput, UnknownPolicy
from vmss.core.pruning import Prune
from vmss.core.records import BEGUN
from vmss.core.rehearsed import Rehearsed
from vmss.edges.lock import LockDirectory
from vmss.edges.settings import Settings
from vmss.insight import history

UTC = timezone.utc


def clean(pool: TestPool) -> None:
    """Nothing is left behind: no session, task, lock or record, no disk without its snapshot."""
    assert pool.sessions() == 0
    assert pool.tasks() == []
    assert LockDirectory(pool.place.lock_dir).holder(pool.call("pool.get_uuid", pool.call("pool.get_all")[0])) is None
    assert [
        key for key in pool.other_config() if key.startswith("vmss") and not key.startswith(("vmss-owed:", BEGUN))
    ] == []
    held = set()
    for record in pool.call("VM.get_all_records").values():
        if record["is_a_snapshot"]:
            held.add(record["suspend_VDI"])
            held.update(pool.call("VBD.get_VDI", vbd) for vbd in record["VBDs"])
    assert set(pool.snapshot_vdis()) <= held


# What is due


def test_a_due_policy_takes_one_scheduled_snapshot_of_each_of_its_vms(pool: TestPool) -> None:
    sr = pool.sr()
    one, other, foreign = pool.vm("one", [sr, sr]), pool.vm("other", [sr]), pool.vm("foreign", [sr])
    policy = pool.policy([one, other], name="hourly")
    pool.at(10, 15)
    report = pool.tick()
    assert report.status == 0
    assert report.line == (
        "schedules served: 1, VMs snapshotted: 2 of 2, expired snapshots deleted: 0, VMs with errors: 0"
    )
    assert [len(pool.snapshots(vm)) for vm in (one, other, foreign)] == [1, 1, 0]
    assert pool.snapshots(one)[0]["name_label"] == "hourly 2026-03-02T10:15:00Z"
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"]
    assert pool.alerts(policy)[0]["priority"] == "5"
    assert datetime(2026, 3, 2, 10, 15, tzinfo=UTC) < pool.last_run(policy) <= pool.simulator.now()
    clean(pool)


def test_a_slot_is_served_once_and_the_next_one_again(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], retained_snapshots="10")
    for hour, minute in ((10, 15), (10, 30), (10, 45), (11, 0), (11, 15), (11, 30)):
        pool.at(hour, minute)
        assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 2


def test_nothing_is_due_before_the_first_slot_nor_for_a_slot_before_the_policy_was_made(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.at(10, 20)
    policy = pool.policy([vm], frequency="daily", schedule={"hour": "10", "min": "15"})
    for hour, minute in ((10, 30), (10, 45), (23, 0)):
        pool.at(hour, minute)
        assert pool.tick().line == "no schedule is due"
    pool.at(10, 15, day=3)
    pool.tick()
    assert len(pool.snapshots(vm)) == 1 and pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"]


def test_several_missed_slots_are_one_late_run(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], frequency="daily", schedule={"hour": "10", "min": "15"}, retained_snapshots="10")
    pool.at(10, 15)
    pool.tick()
    for minute in (0, 15, 30):
        pool.at(9, minute, day=6)
        pool.tick()
    assert len(pool.snapshots(vm)) == 2
    assert pool.snapshots(vm)[1]["name_label"].endswith("2026-03-06T09:00:00Z")
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"] * 2


def test_disabled_policies_and_those_without_vms_are_not_processed(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    disabled, empty = pool.policy([vm], enabled=False), pool.policy()
    pool.at(10, 15)
    assert pool.tick().line == "no schedule is due"
    assert {"Not processing policy: %s" % pool.uuid("VMSS", ref) for ref in (disabled, empty)} <= set(pool.log())
    assert pool.alerts() == []


def test_a_last_run_in_the_future_is_told_and_taken_as_never(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm])
    pool.call("VMSS.set_last_run_time", policy, "20380119T03:14:07Z")
    pool.at(10, 15)
    pool.tick()
    assert len(pool.snapshots(vm)) == 1
    assert any(line.startswith("Warning: the last run of policy") for line in pool.log())
    assert pool.last_run(policy) <= pool.simulator.now()


def test_a_schedule_is_in_the_time_zone_of_the_settings(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], frequency="daily", schedule={"hour": "16", "min": "0"})
    pool.settings = Settings(timezone="Asia/Kathmandu")
    pool.at(10, 0)
    pool.tick()
    assert pool.snapshots(vm) == []
    pool.at(10, 15)  # 16:00 there
    pool.tick()
    assert len(pool.snapshots(vm)) == 1


def test_a_setting_of_the_pool_wins(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], frequency="daily", schedule={"hour": "16", "min": "0"})
    ref = pool.call("pool.get_all")[0]
    pool.call("pool.add_to_other_config", ref, "vmss:timezone", "Asia/Kathmandu")
    pool.call("pool.add_to_other_config", ref, "vmss:nonsense", "1")
    pool.at(10, 15)
    pool.tick()
    assert len(pool.snapshots(vm)) == 1
    assert any("'nonsense' is not a setting" in line and "(ignored)" in line for line in pool.log())


# The log


def test_the_log_has_the_lines_of_the_article_in_its_order(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], retained_snapshots="1")
    idle = pool.policy(name="idle")
    pool.at(10, 15)
    pool.tick()
    oldest = pool.snapshots(vm)[0]["uuid"]
    before = len(pool.log())
    pool.at(11, 15)
    pool.tick()
    lines = pool.log()[before:]
    uuid, vm_uuid = pool.uuid("VMSS", policy), pool.uuid("VM", vm)
    assert lines[:10] == [
        "===Kicking cron job for VMSS===",
        "No of Policies: 2",
        "Max number of threads allocated for policy : 100",
        "Policy Batch: 0",
        "Not processing policy: %s" % pool.uuid("VMSS", idle),
        "Processing policy: %s" % uuid,
        "No of VMs: 1",
        "Max number of threads for processing VM: 64",
        "Processing VM: %s" % vm_uuid,
        "Snapshot retention value reached for VM: %s. Deleting the oldest snapshot: %s" % (vm_uuid, oldest),
    ]
    assert lines[10] == "Completed processing VM: %s" % vm_uuid
    assert lines[11].startswith("snapshot start time: 2026-03-02 11:15:00")
    assert lines[11].endswith(", Last expected run time: 2026-03-02 11:15:00")
    assert lines[12].startswith("RETURN in create_structured_alert: <XCData><time>2026-03-02 11:15:")
    assert lines[12].endswith(
        "</time><messagetype>info</messagetype><message>VMSS_SNAPSHOT_SUCCEEDED</message></XCData>"
    )
    assert lines[13:] == ["Completed processing policy: %s" % uuid]


# Retention


def test_exactly_the_retained_number_stays_and_what_expires_is_gone_with_its_disks(pool: TestPool) -> None:
    sr, other = pool.sr("one"), pool.sr("other")
    vm = pool.vm("vm", [sr, other])
    pool.policy([vm], retained_snapshots="2")
    for hour in range(10, 16):
        pool.at(hour, 15)
        assert pool.tick().status == 0
    assert [record["name_label"][-9:] for record in pool.snapshots(vm)] == ["14:15:00Z", "15:15:00Z"]
    assert len(pool.snapshot_vdis()) == 4
    clean(pool)


def test_snapshots_made_by_others_are_never_touched(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    manual = pool.call("VM.snapshot", vm, "by hand")
    pool.policy([vm], retained_snapshots="1")
    for hour in (10, 11, 12):
        pool.at(hour, 15)
        pool.tick()
    assert pool.call("VM.get_name_label", manual) == "by hand"
    assert len(pool.snapshots(vm)) == 1


def test_a_pinned_snapshot_stays_and_does_not_count(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], retained_snapshots="1")
    pool.at(10, 15)
    pool.tick()
    pinned = pool.call("VM.get_snapshots", vm)[0]
    pool.call("VM.add_to_blocked_operations", pinned, "destroy", "keep")
    for hour in (11, 12):
        pool.at(hour, 15)
        assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 2
    assert pinned in pool.call("VM.get_snapshots", vm)


def test_a_lower_retention_takes_effect_at_the_next_run_oldest_first(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], retained_snapshots="5")
    for hour in range(10, 15):
        pool.at(hour, 15)
        pool.tick()
    pool.call("VMSS.set_retained_snapshots", policy, "2")
    pool.at(15, 15)
    (served,) = pool.tick().served
    assert (served.deleted, served.left) == (3, 1)
    assert [record["name_label"][-9:] for record in pool.snapshots(vm)] == ["13:15:00Z", "14:15:00Z", "15:15:00Z"]
    pool.at(16, 15)
    (served,) = pool.tick().served
    assert (served.deleted, served.left) == (2, 0)
    assert [record["name_label"][-9:] for record in pool.snapshots(vm)] == ["15:15:00Z", "16:15:00Z"]


def test_a_disk_of_an_expired_snapshot_that_another_vm_uses_stays(pool: TestPool) -> None:
    vm, other = pool.vm("vm", [pool.sr()]), pool.vm("other")
    pool.policy([vm], retained_snapshots="1")
    pool.at(10, 15)
    pool.tick()
    vdi = pool.snapshot_vdis()[0]
    pool.vbd(other, vdi, 0, mode="RO")
    pool.at(11, 15)
    pool.tick()
    assert len(pool.snapshots(vm)) == 1
    assert vdi in pool.snapshot_vdis()
    assert any("left alone" in line and pool.uuid("VDI", vdi) in line for line in pool.log())


def test_a_cd_in_the_drive_is_never_destroyed(pool: TestPool) -> None:
    vm, iso = pool.vm("vm", [pool.sr()]), pool.vdi(pool.sr("isos"), name="tools.iso")
    pool.vbd(vm, iso, 3, type="CD", mode="RO")
    pool.policy([vm], retained_snapshots="1")
    for hour in (10, 11, 12):
        pool.at(hour, 15)
        pool.tick()
    assert pool.call("VDI.get_name_label", iso) == "tools.iso"
    assert len(pool.snapshot_vdis()) == 1


def test_a_vm_without_disks_is_snapshotted_and_expired_like_others(pool: TestPool) -> None:
    vm = pool.vm("diskless")
    pool.policy([vm], retained_snapshots="1")
    for hour in (10, 11):
        pool.at(hour, 15)
        assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1
    clean(pool)


# Checkpoints and quiescing


def test_an_expired_checkpoint_is_gone_with_its_memory(pool: TestPool) -> None:
    sr = pool.sr()
    pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], sr)
    vm = pool.vm("vm", [sr], running=True)
    pool.policy([vm], type="checkpoint", retained_snapshots="1")
    for hour in (10, 11, 12):
        pool.at(hour, 15)
        assert pool.tick().status == 0, pool.log()[-12:]
    snapshots = pool.snapshots(vm)
    assert [record["power_state"] for record in snapshots] == ["Suspended"]
    assert set(pool.snapshot_vdis()) == {
        snapshots[0]["suspend_VDI"],
        *(pool.call("VBD.get_VDI", vbd) for vbd in snapshots[0]["VBDs"]),
    }
    assert pool.call("VM.get_power_state", vm) == "Running"
    clean(pool)


def test_no_room_for_the_memory_is_told_as_that_and_the_vm_runs_on(pool: TestPool) -> None:
    memory = pool.sr("memory")
    pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], memory)
    pool.call("simulator.fill", memory, pool.call("SR.get_physical_size", memory))
    vm = pool.vm("vm", [pool.sr()], running=True)
    pool.policy([vm], type="checkpoint")
    pool.at(10, 15)
    assert pool.tick().status == 1 and pool.names() == ["VMSS_SNAPSHOT_FAILED"]
    body = pool.alerts()[0]["body"]
    assert "Error:['SR_SUSPEND_SPACE_INSUFFICIENT', '%s']" % memory in body
    assert "The storage repository for the memory of VMs is full" in body
    assert pool.call("VM.get_power_state", vm) == "Running" and pool.snapshots(vm) == []


def test_a_checkpoint_policy_takes_a_plain_snapshot_of_a_halted_vm(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], type="checkpoint")
    pool.at(10, 15)
    assert pool.tick().status == 0
    assert [record["power_state"] for record in pool.snapshots(vm)] == ["Halted"]


def test_a_quiesced_policy_takes_plain_snapshots_and_says_so_once_a_day(pool: TestPool) -> None:
    sr = pool.sr()
    policy = pool.policy(type="snapshot_with_quiesce", retained_snapshots="10")
    vms = [pool.vm("vm%d" % number, [sr], running=True) for number in range(2)]
    pool.call("VMSS.set_type", policy, "snapshot")
    for vm in vms:
        pool.call("VM.set_snapshot_schedule", vm, policy)
    pool.simulator.db.set("VMSS", policy, "type", "snapshot_with_quiesce")  # as an upgrade leaves it
    for hour in (10, 11, 12):
        pool.at(hour, 15)
        assert pool.tick().status == 0
    assert [len(pool.snapshots(vm)) for vm in vms] == [3, 3]
    # XenCenter knows no such message of class VMSS: the runs say it in their own, and the pool once a day.
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"] * 3
    remedy = "vmss xe vmss-param-set uuid=%s type=snapshot" % pool.uuid("VMSS", policy)
    for alert in pool.alerts(policy):
        said = "This pool has no quiesced snapshots any more: plain snapshots were taken instead. "
        assert said in alert["body"] and remedy in alert["body"]
    (told,) = not_quiesced(pool)
    assert remedy in told["body"] and "'policy'" in told["body"] and told["priority"] == "3"
    assert sum(line.startswith("VMSS_SNAPSHOT_NOT_QUIESCED") for line in pool.log()) == 3
    # Another schedule has a message of its own on the same day.
    vm = pool.vm("other", [sr], running=True)
    other = pool.policy([vm], name="other", schedule={"min": "30"})
    pool.simulator.db.set("VMSS", other, "type", "snapshot_with_quiesce")
    pool.call("VM.add_to_blocked_operations", vms[0], "snapshot", "no")
    pool.at(12, 30)
    assert pool.tick().status == 0
    assert [pool.uuid("VMSS", other) in alert["body"] for alert in not_quiesced(pool)] == [False, True]
    pool.at(12, 15, day=3)
    assert pool.tick().status == 1
    assert pool.names(policy)[-1] == "VMSS_SNAPSHOT_FAILED" and said + "To end" in pool.alerts(policy)[-1]["body"]
    assert [remedy in alert["body"] for alert in not_quiesced(pool)] == [True, False, True]
    # The history tells it with the run.
    (run,) = history.runs({"OpaqueRef:1": pool.alerts(policy)[1]})
    assert run.story == "2 of 2 VMs snapshotted, 0 expired snapshots deleted; plain snapshots instead of quiesced ones"


def not_quiesced(pool: TestPool) -> List[Dict[str, Any]]:
    """The messages about plain snapshots instead of quiesced ones, oldest first."""
    records = pool.call("message.get_all_records").values()
    found = [record for record in records if record["name"] == "VMSS_SNAPSHOT_NOT_QUIESCED"]
    (uuid,) = [record["uuid"] for record in pool.call("pool.get_all_records").values()]
    assert all((record["cls"], record["obj_uuid"]) == ("Pool", uuid) for record in found)
    return sorted(found, key=lambda record: str(record["timestamp"]))


def test_a_quiesced_policy_fails_where_the_settings_want_that(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()], running=True)
    policy = pool.policy([vm])
    pool.simulator.db.set("VMSS", policy, "type", "snapshot_with_quiesce")
    other = pool.vm("other", [pool.sr()], running=True)
    theirs = pool.policy([other], "theirs")
    pool.simulator.db.set("VMSS", theirs, "type", "snapshot_with_quiesce")
    pool.settings = Settings(timezone="UTC", quiesce="fail")
    (ref,) = pool.call("pool.get_all")
    pool.call("pool.add_to_other_config", ref, "vmss:%s:quiesce" % pool.uuid("VMSS", theirs), "snapshot")
    pool.at(10, 15)
    assert pool.tick().status == 1
    assert (len(pool.snapshots(vm)), len(pool.snapshots(other))) == (0, 1)
    assert "'VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED'" in pool.alerts(policy)[0]["body"]


# Failures


def test_one_vm_that_fails_is_named_in_the_alert_and_keeps_no_other_from_its_snapshot(pool: TestPool) -> None:
    sr = pool.sr()
    good, bad = pool.vm("good", [sr]), pool.vm("bad 'one'\nVM:x", [sr])
    policy = pool.policy([good, bad])
    pool.call("VM.add_to_blocked_operations", bad, "snapshot", "not now")
    pool.at(10, 15)
    report = pool.tick()
    assert report.status == 1
    assert report.line == (
        "schedules served: 1, VMs snapshotted: 1 of 2, expired snapshots deleted: 0, VMs with errors: 1"
    )
    assert [len(pool.snapshots(vm)) for vm in (good, bad)] == [1, 0]
    assert pool.names(policy) == ["VMSS_SNAPSHOT_FAILED"]
    alert = pool.alerts(policy)[0]
    assert alert["priority"] == "1"
    assert alert["body"].splitlines()[2] == (
        "VM:bad \u2019one\u2019\\x0aVM :x UUID:%s Error:['OPERATION_BLOCKED', '%s', 'not now'],"
        % (pool.uuid("VM", bad), bad)
    )
    assert pool.last_run(policy) > START
    clean(pool)


def test_a_vm_that_failed_loses_none_of_its_snapshots(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], retained_snapshots="1")
    pool.at(10, 15)
    pool.tick()
    pool.call("VM.add_to_blocked_operations", vm, "snapshot", "not now")
    for hour in (11, 12, 13):
        pool.at(hour, 15)
        assert pool.tick().status == 1
    assert len(pool.snapshots(vm)) == 1


def test_a_full_storage_repository_fails_its_vms_only(pool: TestPool) -> None:
    full, roomy = pool.sr("full", "lvm", 11 << 30), pool.sr("roomy")
    one, other = pool.vm("one", [full], size=10 << 30), pool.vm("other", [roomy])
    policy = pool.policy([one, other])
    (vbd,) = pool.call("VM.get_VBDs", one)
    pool.call("simulator.write", pool.call("VBD.get_VDI", vbd), str(9 << 30))
    pool.at(10, 15)
    assert pool.tick().status == 1
    assert [len(pool.snapshots(vm)) for vm in (one, other)] == [0, 1]
    body = pool.alerts(policy)[0]["body"]
    assert "\nDetails:\nVM:one UUID:%s Error:['SR_BACKEND_FAILURE_44'" % pool.uuid("VM", one) in body
    assert "The storage repository is full" in body and "VM:other" not in body
    clean(pool)


def test_a_policy_that_makes_no_sense_is_told_and_the_others_run(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    broken, good = pool.policy(name="broken"), pool.policy([vm], name="good")
    pool.simulator.db.set("VMSS", broken, "schedule", {"min": "99"})
    pool.at(10, 15)
    assert pool.tick().status == 0
    assert any(
        line.startswith("Not processing policy: %s (schedule:min: '99'" % pool.uuid("VMSS", broken))
        for line in pool.log()
    )
    assert pool.names(good) == ["VMSS_SNAPSHOT_SUCCEEDED"]


def test_a_pool_without_the_licence_gets_one_alert_a_slot_and_no_snapshot(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm])
    pool.call("simulator.restrict", "VMSS", True)
    for hour, minute in ((10, 15), (10, 30), (10, 45), (11, 0), (11, 15)):
        pool.at(hour, minute)
        pool.tick()
    assert pool.snapshots(vm) == []
    assert set(pool.names(policy)) == {"VMSS_LICENSE_ERROR"}
    assert len(pool.names(policy)) <= 2


# Missed, late, forced


def test_a_slot_that_passes_while_its_policy_runs_is_missed_and_said_so(pool: TestPool) -> None:
    sr = pool.sr()
    vms = [pool.vm("vm%d" % number, [sr] * 4) for number in range(40)]
    policy = pool.policy(vms)
    pool.at(11, 14, second=50)
    pool.call("VMSS.set_last_run_time", policy, "20260302T09:16:00Z")
    assert pool.tick().status == 0
    assert pool.simulator.now() > datetime(2026, 3, 2, 11, 15, tzinfo=UTC)
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED", "VMSS_SNAPSHOT_MISSED_EVENT"]
    assert pool.last_run(policy) > datetime(2026, 3, 2, 11, 15, tzinfo=UTC)
    assert all(len(pool.snapshots(vm)) == 1 for vm in vms)


def test_a_policy_that_becomes_due_during_a_pass_is_served_before_the_lock_is_given_back(pool: TestPool) -> None:
    sr, other = pool.sr(), pool.sr("other")
    vms = [pool.vm("vm%d" % number, [sr] * 4) for number in range(40)]
    late = pool.vm("late", [other])
    long = pool.policy(vms, name="long", schedule={"min": "0"})
    pool.policy([late], name="short", schedule={"min": "15"})
    pool.at(11, 14, second=50)
    pool.call("VMSS.set_last_run_time", long, "20260302T09:16:00Z")
    assert pool.tick().line.startswith("schedules served: 2")
    assert pool.simulator.now() > datetime(2026, 3, 2, 11, 15, tzinfo=UTC)
    assert len(pool.snapshots(late)) == 1
    clean(pool)


def test_one_policy_can_be_run_now_whatever_its_schedule_and_also_when_disabled(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], enabled=False, frequency="weekly", schedule={"days": "Friday"})
    assert pool.tick(policy=pool.uuid("VMSS", policy)).status == 0
    assert pool.tick(policy=pool.uuid("VMSS", policy)).status == 0
    assert len(pool.snapshots(vm)) == 2
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"] * 2


def test_an_unknown_policy_is_bad_input_and_changes_nothing(pool: TestPool) -> None:
    with pytest.raises(UnknownPolicy, match="no snapshot schedule of this pool has the uuid"):
        pool.tick(policy="00000000-0000-0000-0000-000000000000")
    clean(pool)


def test_a_rehearsal_says_what_would_be_done_and_does_nothing(pool: TestPool) -> None:
    vm = pool.vm("web01", [pool.sr()])
    policy = pool.policy([vm], name="nightly", retained_snapshots="1")
    pool.at(10, 15)
    pool.tick()
    snapshot = pool.snapshots(vm)[0]["uuid"]
    taken = parse_datetime(pool.snapshots(vm)[0]["snapshot_time"])
    pool.at(11, 15)
    pool.call("simulator.reset_counts")
    report = pool.tick(dry_run=True)
    assert report.line == "schedules that would run: 1 of 1; nothing was changed"
    slot = datetime(2026, 3, 2, 11, 15, tzinfo=UTC)
    assert report.rehearsal and report.rehearsal.vms == (
        Rehearsed(
            "nightly",
            pool.uuid("VMSS", policy),
            slot,
            "web01",
            pool.uuid("VM", vm),
            takes="VM.snapshot",
            deletes=(snapshot,),
            later=0,
            fates=(Fate(snapshot, taken, GOES, "exceeds the 1 that are kept"),),
        ),
    )
    assert all(".get" in name or name.startswith(("session.", "simulator.")) for name in pool.simulator.counts)
    assert [record["uuid"] for record in pool.snapshots(vm)] == [snapshot]


def test_a_rehearsal_can_suppose_another_time(pool: TestPool) -> None:
    pool.policy([pool.vm("vm", [pool.sr()])], frequency="daily", schedule={"hour": "4", "min": "0"})
    report = pool.tick(dry_run=True, at=datetime(2026, 3, 9, 4, 0, tzinfo=UTC))
    assert report.line == "schedules that would run: 1 of 1; nothing was changed"
    assert pool.simulator.now() < START + timedelta(hours=1)


# The lock


def locked(pool: TestPool, **holder: Any) -> Any:
    uuid = pool.call("pool.get_uuid", pool.call("pool.get_all")[0])
    written = dict({"pid": 4711, "since": "20260302T10:00:00Z"}, **holder)
    return LockDirectory(pool.place.lock_dir).acquire(uuid, written)


def test_a_pass_that_finds_the_lock_taken_tells_each_due_policy_once_a_slot(pool: TestPool) -> None:
    sr = pool.sr()
    waiting, running, idle = (pool.policy([pool.vm(name, [sr])], name=name) for name in ("waiting", "running", "idle"))
    pool.call("VMSS.set_enabled", idle, False)
    pool.call("VMSS.set_last_run_time", waiting, "20260302T09:16:00Z")
    lock = locked(pool, policies=[pool.uuid("VMSS", running)])
    pool.at(10, 15)
    for _ in range(2):
        report = pool.tick()
        assert report.status == 4 and "process 4711" in report.line
    assert pool.names(waiting) == ["VMSS_SNAPSHOT_LOCK_FAILED"]
    assert "'waiting' has to wait: another pass holds" in pool.alerts(waiting)[0]["body"]
    assert pool.names(running) == pool.names(idle) == []
    assert any(line.startswith("'VMSS_SNAPSHOT_LOCK_FAILED': 'The snapshot phase is already") for line in pool.log())
    lock.release()
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert pool.names(waiting) == ["VMSS_SNAPSHOT_LOCK_FAILED", "VMSS_SNAPSHOT_SUCCEEDED"]


def test_a_run_by_hand_that_finds_the_lock_taken_says_so_by_alert_and_status(pool: TestPool) -> None:
    policy = pool.policy([pool.vm("vm", [pool.sr()])])
    lock = locked(pool)
    report = pool.tick(policy=pool.uuid("VMSS", policy))
    assert report.status == 4
    assert re.match(r"not run: another pass .*4711.*; run it again when that pass has ended$", report.line)
    assert pool.names(policy) == ["VMSS_SNAPSHOT_LOCK_FAILED"]
    # It does not wait, so the alert must not say it, and it does not show that the schedule was due.
    body = pool.alerts(policy)[0]["body"]
    assert re.search(r"\nNot run by hand: another pass .*4711.*\. Run 'policy' again when that pass has ended\.$", body)
    (run,) = history.runs(pool.call("message.get", "VMSS", pool.uuid("VMSS", policy), "19700101T00:00:00Z"))
    assert run.gave_up and run.story.startswith("Not run by hand: ") and "wait" not in body + run.meaning
    pruned = pool.tick(prune=Prune())
    assert pruned.status == 4 and pruned.line.startswith("nothing was deleted: another pass holds the lock")
    lock.release()


# What a pass that was killed leaves, and the next one finishes


def test_disks_that_were_recorded_are_destroyed_by_the_next_pass_when_their_snapshot_is_gone(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr(), pool.sr("other")])
    policy = pool.policy([vm])
    pool.at(10, 15)
    pool.tick()
    snapshot = pool.call("VM.get_snapshots", vm)[0]
    record = {pool.uuid("VM", snapshot): [pool.uuid("VDI", vdi) for vdi in pool.snapshot_vdis()]}
    pool.record(record)
    pool.call("VM.destroy", snapshot)
    pool.call("VMSS.set_enabled", policy, False)
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert pool.snapshot_vdis() == []
    clean(pool)


def test_a_record_of_a_snapshot_that_is_still_there_is_void(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm])
    pool.at(10, 15)
    pool.tick()
    snapshot = pool.call("VM.get_snapshots", vm)[0]
    record = {pool.uuid("VM", snapshot): [pool.uuid("VDI", vdi) for vdi in pool.snapshot_vdis()]}
    pool.record(record)
    pool.at(10, 30)
    pool.tick()
    assert len(pool.snapshots(vm)) == 1 and len(pool.snapshot_vdis()) == 1
    clean(pool)


def test_a_forged_record_destroys_no_disk_that_is_in_use_or_no_snapshot(pool: TestPool) -> None:
    sr = pool.sr()
    vm = pool.vm("vm", [sr])
    loose = pool.vdi(sr, name="loose")
    manual = pool.call("VM.snapshot", vm, "by hand")
    vdis = list(pool.call("VDI.get_all_records"))
    record = {"00000000-0000-0000-0000-000000000000": [pool.uuid("VDI", vdi) for vdi in vdis], "x": ["y"]}
    pool.record({snapshot: uuids for snapshot, uuids in record.items() if len(snapshot) == 36})
    for number, text in enumerate((json.dumps(record), "{", "[]", '"' * 10000, "\u2028"), 1):
        pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], "vmss-destroying:%d" % number, text)
    assert pool.tick().status == 0
    assert set(pool.call("VDI.get_all")) == set(vdis)
    assert pool.call("VDI.get_name_label", loose) == "loose" and pool.call("VM.get_VBDs", manual) != []
    clean(pool)


def test_a_vm_that_has_its_snapshot_of_the_slot_is_not_snapshotted_again(pool: TestPool) -> None:
    sr = pool.sr()
    one, other = pool.vm("one", [sr]), pool.vm("other", [sr])
    policy = pool.policy([one, other], retained_snapshots="1")
    pool.at(10, 15)
    pool.tick()
    # As though the first pass had been killed before it was through with the policy.
    pool.call("VMSS.set_last_run_time", policy, "20260302T09:16:00Z")
    (gone,) = pool.call("VM.get_snapshots", other)
    pool.call("VM.destroy", gone)
    kept = pool.snapshots(one)[0]["uuid"]
    pool.at(10, 30)
    assert pool.tick().served[0].taken == 2
    assert [record["uuid"] for record in pool.snapshots(one)] == [kept]
    assert len(pool.snapshots(other)) == 1


def test_an_operation_that_does_not_end_is_given_up_and_its_session_left_open(pool: TestPool) -> None:
    sr = pool.sr()
    slow, quick = pool.vm("slow", [sr]), pool.vm("quick without disks")
    policy = pool.policy([slow, quick])
    pool.settings = Settings(timezone="UTC", snapshot_limit=10)
    usual = pool.simulator.durations
    pool.simulator.durations = usual._replace(vdi_snapshot=(80000.0, 80000.0))
    pool.at(10, 15)
    report = pool.tick()
    assert report.status == 1
    assert "VMSS_OPERATION_TIMED_OUT" in pool.alerts(policy)[0]["body"]
    assert len(pool.snapshots(quick)) == 1
    # The snapshot may still come: without its session it would not be marked as scheduled.
    assert pool.sessions() == 1
    # Not a day: xapi forgets a task, and then its session, that has made no progress for one.
    pool.at(10, 0, day=3)
    assert len(pool.snapshots(slow)) == 1
    pool.simulator.durations = usual
    assert pool.tick().status == 0
    clean(pool)


def test_a_pass_that_lasts_too_long_ends_and_names_the_vms_that_it_did_not_reach(pool: TestPool) -> None:
    sr = pool.sr()
    vms = [pool.vm("vm%02d" % number, [sr]) for number in range(20)]
    policy = pool.policy(vms)
    pool.settings = Settings(timezone="UTC", pass_limit=600, snapshot_limit=3600)
    pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(100.0, 100.0))
    pool.at(10, 15)
    report = pool.tick()
    assert report.status == 1
    assert pool.simulator.now() < datetime(2026, 3, 2, 10, 26, tzinfo=UTC)
    taken = sum(len(pool.snapshots(vm)) for vm in vms)
    body = pool.alerts(policy)[0]["body"]
    assert 4 <= taken <= 6
    # One was under way and is cancelled, the others were not begun.
    assert body.count("VMSS_RUN_TIMED_OUT") >= 20 - taken - 1
    assert body.count("Error:['VMSS_") == 20 - taken
    assert pool.last_run(policy) > datetime(2026, 3, 2, 10, 15, tzinfo=UTC)
    clean(pool)


def test_a_pass_that_has_lasted_long_leaves_what_becomes_due_to_the_next(pool: TestPool) -> None:
    sr, other = pool.sr(), pool.sr("other")
    vms = [pool.vm("vm%d" % number, [sr]) for number in range(15)]
    late = pool.vm("late", [other])
    pool.policy(vms, name="long", schedule={"min": "0"})
    # It has never run: after its tick only a pass that knows of the wait serves it.
    pool.policy([late], name="short", schedule={"min": "15"})
    pool.settings = Settings(timezone="UTC", pass_limit=1200)
    pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(60.0, 60.0))
    pool.at(11, 3)
    pool.tick()
    assert datetime(2026, 3, 2, 11, 15, tzinfo=UTC) < pool.simulator.now() < datetime(2026, 3, 2, 11, 23, tzinfo=UTC)
    assert [len(pool.snapshots(vm)) for vm in vms] == [1] * 15
    assert pool.snapshots(late) == []
    pool.at(11, 30)
    pool.tick()
    assert len(pool.snapshots(late)) == 1
    clean(pool)


def test_the_time_may_only_be_set_on_a_simulator(pool: TestPool) -> None:
    assert pool.tick(at=datetime(2026, 3, 4, 12, 0, tzinfo=UTC)).status == 0
    assert pool.simulator.now() >= datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def test_over_https_nothing_is_taken(pool: TestPool) -> None:
    pool.place = pool.place._replace(xapi="https://127.0.0.1:1")
    with pytest.raises(BadInput, match="in dom0 of the coordinator"):
        pool.tick()


def test_each_snapshot_is_named_for_the_instant_that_it_stands_for(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    daily = {"frequency": "daily", "schedule": {"hour": "10", "min": "15"}}
    policy = pool.policy([vm], name="p", retained_snapshots="5", **daily)
    pool.at(10, 15, second=2)
    pool.tick()
    pool.at(15, 40, second=7)
    pool.tick(policy=pool.uuid("VMSS", policy))
    pool.at(12, 0, day=3, second=3)  # late
    pool.tick()
    assert sorted(snapshot["name_label"] for snapshot in pool.snapshots(vm)) == [
        "p 2026-03-02T10:15:00Z",
        "p 2026-03-02T15:40:07Z",
        "p 2026-03-03T12:00:03Z",
    ]


def test_a_name_that_an_older_snapshot_has_is_not_given_again(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], name="p")
    pool.at(10, 15)
    pool.tick()
    # As though the clock had been an hour ahead then.
    (old,) = pool.call("VM.get_snapshots", vm)
    pool.simulator.db.set("VM", old, "snapshot_time", datetime(2026, 3, 2, 9, 15, tzinfo=UTC))
    pool.call("VMSS.set_last_run_time", policy, "20260302T09:16:00Z")
    pool.tick()
    names = sorted(snapshot["name_label"] for snapshot in pool.snapshots(vm))
    assert names == ["p 2026-03-02T10:15:00Z", "p 2026-03-02T10:15:01Z"]
