"""Policies served side by side: admitted as there is room, nobody held up by another, room made where it is short."""

import re
from datetime import datetime, timedelta, timezone
from typing import Dict, List, Tuple

import pytest

from tests.pool import GIB, TestPool
from tests.test_policy import REF, record
from vmss.core.datetimes import parse_datetime
from vmss.core.policy import from_record
from vmss.core.turn import Turn
from vmss.edges.settings import Settings
from vmss.passes.line import Line

UTC = timezone.utc


def taken_at(pool: TestPool, vm: str) -> datetime:
    """When the VM's only snapshot was taken."""
    (snapshot,) = pool.snapshots(vm)
    return parse_datetime(snapshot["snapshot_time"])


def batches(pool: TestPool) -> List[List[str]]:
    """The policies of each batch, by the log, in the order of admission."""
    found: List[List[str]] = []
    for line in pool.log():
        if line.startswith("Policy Batch: "):
            assert line == "Policy Batch: %d" % len(found)
            found.append([])
        elif line.startswith("Processing policy: "):
            found[-1].append(line.split()[-1])
    return found


def hang(pool: TestPool, vm: str) -> None:
    """The next snapshot of a VM never ends."""
    pool.call("simulator.add_fault", {"method": "VM.snapshot", "object": vm, "when": "before", "action": "hang"})


def test_a_policy_becomes_due_and_is_served_while_another_hangs(pool: TestPool) -> None:
    hanging, prompt = pool.vm("hanging", [pool.sr("one")]), pool.vm("prompt", [pool.sr("other")])
    early = pool.policy([hanging], name="early", schedule={"min": "0"})
    pool.policy([prompt], name="late", schedule={"min": "15"})
    pool.call("VMSS.set_last_run_time", early, "20260302T09:16:00Z")
    hang(pool, hanging)
    pool.at(11, 0, second=30)
    report = pool.tick()
    assert report.line.startswith("schedules served: 3")  # at 12:00 the hanging one is told to have missed a slot more
    assert pool.simulator.now() >= datetime(2026, 3, 2, 12, 0, tzinfo=UTC)  # the limit of a snapshot: an hour
    assert datetime(2026, 3, 2, 11, 15, tzinfo=UTC) <= taken_at(pool, prompt)
    assert taken_at(pool, prompt) < datetime(2026, 3, 2, 11, 15, 30, tzinfo=UTC)
    assert [len(batch) for batch in batches(pool)] == [1, 1, 1]


def test_a_policy_that_hangs_keeps_its_own_place_and_no_other(pool: TestPool) -> None:
    pool.settings = Settings(timezone="UTC", max_policies=2)
    vms = [pool.vm("vm%d" % number, [pool.sr("sr%d" % number)]) for number in range(6)]
    daily = {"frequency": "daily", "schedule": {"hour": "10", "min": "15"}}
    policies = [pool.policy([vm], name="policy %d" % number, **daily) for number, vm in enumerate(vms)]
    hang(pool, vms[0])
    pool.at(10, 15)
    assert pool.tick().status == 1
    uuids = [pool.uuid("VMSS", policy) for policy in policies]
    assert batches(pool) == [uuids[:2]] + [[uuid] for uuid in uuids[2:]]
    assert all(taken_at(pool, vm) < datetime(2026, 3, 2, 10, 16, tzinfo=UTC) for vm in vms[1:])
    assert pool.names(policies[0]) == ["VMSS_SNAPSHOT_FAILED"]


def behind_one_that_hangs(pool: TestPool, **other: str) -> Tuple[str, str]:
    """One policy at a time; of two, a daily one hangs for an hour. Return the other, an hourly one, and its VM."""
    pool.settings = Settings(timezone="UTC", max_policies=1)
    hanging, waiting = pool.vm("hanging", [pool.sr("one")]), pool.vm("waiting", [pool.sr("other")])
    pool.policy([hanging], name="daily", frequency="daily", schedule=dict({"hour": "10"}, **other))
    policy = pool.policy([waiting], name="hourly", schedule={"min": "15"})
    hang(pool, hanging)
    return policy, waiting


def test_a_slot_that_passes_while_its_policy_waits_for_another_is_missed_and_said_so(pool: TestPool) -> None:
    policy, vm = behind_one_that_hangs(pool, min="15")
    pool.at(10, 15)
    pool.tick()
    eleven = datetime(2026, 3, 2, 11, 15, tzinfo=UTC)
    assert pool.simulator.now() > eleven
    assert pool.names(policy) == ["VMSS_SNAPSHOT_MISSED_EVENT", "VMSS_SNAPSHOT_SUCCEEDED"]
    missed, served = pool.alerts(policy)
    assert (
        "Missed: 2026-03-02 10:15:00 (UTC)." in missed["body"] and "snapshot of 2026-03-02 11:15:00" in served["body"]
    )
    assert pool.last_run(policy) > eleven and taken_at(pool, vm) > eleven


@pytest.mark.parametrize("missing", [False, True])
def test_a_run_by_hand_keeps_its_place_in_the_line(missing: bool) -> None:
    began = datetime(2026, 3, 2, 10, 20, tzinfo=UTC)
    slots = [datetime(2026, 3, 2, hour, 15, tzinfo=UTC) for hour in (10, 11)]
    policy = from_record(REF, record())
    line = Line()
    line.add_first(Turn(policy, slots[0], forced=True, begun=began, missing=missing))
    assert line.add(Turn(policy, slots[1], begun=slots[1])) is None
    (turn,) = line.take(2)
    # Who lacks the snapshot of the slot is asked for the latest one.
    assert turn == Turn(policy, slots[missing], forced=True, begun=began, missing=missing)


def test_what_waits_until_it_is_too_late_leaves_the_line_but_not_a_run_by_hand() -> None:
    slot = datetime(2026, 3, 2, 10, 15, tzinfo=UTC)
    policy = from_record(REF, record())._replace(late_limit=timedelta(hours=1))
    for minutes, late in ((59, []), (60, [REF])):
        line = Line()
        line.add(Turn(policy, slot, begun=slot))
        line.add(Turn(policy._replace(ref="OpaqueRef:other", late_limit=None), slot, begun=slot))
        now = slot + timedelta(minutes=minutes)
        assert [turn.policy.ref for turn in line.take_late(now)] == late
        assert [turn.policy.ref for turn in line] == [ref for ref in (REF, "OpaqueRef:other") if ref not in late]
    line.add_first(Turn(policy, slot, forced=True, begun=slot))
    assert not line.take_late(now) and len(line) == 2


@pytest.mark.parametrize("ran", [True, False])
def test_of_what_waited_until_it_was_too_late_the_same_pass_tells(pool: TestPool, ran: bool) -> None:
    policy, _ = behind_one_that_hangs(pool, min="15")
    pool.settings = pool.settings._replace(late_limit=1200)
    if not ran:
        pool.call("VMSS.set_frequency", policy, "daily")
        pool.call("VMSS.set_schedule", policy, {"hour": "10", "min": "15"})
    else:
        pool.call("VMSS.set_last_run_time", policy, "20260302T09:15:10Z")
    pool.at(10, 15)
    pool.tick()
    assert pool.names(policy) == ["VMSS_SNAPSHOT_MISSED_EVENT"] + ["VMSS_SNAPSHOT_SUCCEEDED"] * ran  # of 11:15
    assert pool.alerts(policy)[0]["body"].count("2026-03-02 10:15:00") == 1
    for minute in (30, 45):
        pool.at(12, minute)
        pool.tick()
    assert pool.names(policy).count("VMSS_SNAPSHOT_MISSED_EVENT") == 1


def test_what_is_tried_again_does_not_take_the_place_of_the_next_slot(pool: TestPool) -> None:
    policy, vm = behind_one_that_hangs(pool, min="30")
    fault = {"method": "VM.snapshot", "object": vm, "when": "before", "action": "error", "error": '["SR_FULL","1","2"]'}
    pool.call("simulator.add_fault", fault)
    pool.at(10, 15)
    pool.tick()
    pool.at(10, 30)
    pool.tick()
    eleven = datetime(2026, 3, 2, 11, 15, tzinfo=UTC)
    assert pool.names(policy) == ["VMSS_SNAPSHOT_FAILED", "VMSS_SNAPSHOT_SUCCEEDED"]
    assert "snapshot of 2026-03-02 11:15:00" in pool.alerts(policy)[-1]["body"]
    assert pool.last_run(policy) > eleven and taken_at(pool, vm) > eleven


def test_policies_that_are_refused_at_once_do_not_keep_those_behind_them_from_being_admitted(pool: TestPool) -> None:
    pool.settings = Settings(timezone="UTC", max_policies=1)
    vms = [pool.vm("vm%d" % number) for number in range(3)]
    for number, vm in enumerate(vms):
        pool.policy([vm], name="policy %d" % number)
        pool.call(
            "simulator.add_fault",
            {"method": "VM.snapshot", "object": vm, "when": "before", "action": "error", "error": '["VM_IS_TEMPLATE"]'},
        )
    pool.at(10, 15)
    assert "VMs with errors: 3" in pool.tick().line
    assert [len(batch) for batch in batches(pool)] == [1, 1, 1]


def deletions_before_the_last_snapshot(pool: TestPool, kind: str, size: int) -> int:
    """How many expired snapshots go before the last new one is taken, on an SR of this kind and size."""
    sr = pool.sr("sr", kind, size)
    vms = [pool.vm("vm%d" % number, [sr], size=GIB) for number in range(4)]
    pool.policy(vms, retained_snapshots="1")
    for hour in (10, 11):
        pool.at(hour, 15)
        assert pool.tick().status == 0
    lines = pool.log()
    last = max(number for number, line in enumerate(lines) if line.startswith("Processing VM: "))
    return sum(1 for line in lines[:last] if line.startswith("Snapshot retention value reached"))


def test_snapshots_go_first_where_there_is_room(pool: TestPool) -> None:
    assert deletions_before_the_last_snapshot(pool, "lvm", 100 * GIB) == 0


def test_what_expires_goes_first_where_room_is_short(pool: TestPool) -> None:
    # Four disks of 1 GiB on thick volumes may need as much again.
    assert deletions_before_the_last_snapshot(pool, "lvm", 8 * GIB) > 0


def test_disks_that_grow_by_their_differences_only_need_little_room(pool: TestPool) -> None:
    assert deletions_before_the_last_snapshot(pool, "nfs", 8 * GIB) == 0


def noted(pool: TestPool, vm: str) -> Dict[str, str]:
    config = pool.call("VM.get_other_config", vm)
    return {key: value for key, value in config.items() if key.startswith("vmss")}


def test_how_long_a_snapshot_took_is_noted_at_the_vm_where_it_was_not_foreseen(pool: TestPool) -> None:
    usual, slow = pool.simulator.durations, pool.simulator.durations._replace(vdi_snapshot=(30.0, 30.0))
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], retained_snapshots="10")
    pool.simulator.durations = slow
    pool.at(10, 15)
    pool.tick()
    assert re.match(r"3[0-9]\.[0-9]\Z", noted(pool, vm)["vmss:seconds"])
    pool.call("simulator.reset_counts")
    pool.at(11, 15)
    pool.tick()
    assert "VM.add_to_other_config" not in pool.call("simulator.get_counts")  # as before
    pool.simulator.durations = usual
    pool.at(12, 15)
    pool.tick()
    assert float(noted(pool, vm)["vmss:seconds"]) < 15


def test_the_sr_whose_vms_took_longest_last_time_goes_first(pool: TestPool) -> None:
    pool.settings = Settings(timezone="UTC", max_operations=1)
    quick, slow = pool.vm("a quick one", [pool.sr("one")]), pool.vm("b slow one", [pool.sr("other")])
    pool.policy([quick, slow])
    pool.call("VM.add_to_other_config", slow, "vmss:seconds", "500.0")
    pool.at(10, 15)
    pool.tick()
    assert taken_at(pool, slow) <= taken_at(pool, quick)
    started = [line.split()[-1] for line in pool.log() if line.startswith("Processing VM: ")]
    assert started == [pool.uuid("VM", slow), pool.uuid("VM", quick)]


def test_a_note_that_makes_no_sense_is_none(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm])
    for text in ("nan", "inf", "-3", "0", "", "soon", "1e99"):
        pool.call("VM.remove_from_other_config", vm, "vmss:seconds")
        pool.call("VM.add_to_other_config", vm, "vmss:seconds", text)
        hour = pool.simulator.now().hour + 1
        pool.at(hour, 15)
        assert pool.tick().status == 0


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint"])
def test_no_operation_of_ours_has_to_wait_for_another_one_of_ours(pool: TestPool, kind: str) -> None:
    srs = [pool.sr("sr%d" % number) for number in range(5)]
    # Where the guest stands still, no SR is shared.
    still = kind == "checkpoint"
    mine = [[srs[(number + disk * still) % 5] for disk in range(3)] for number in range(15)]
    vms = [pool.vm("vm%d" % number, disks, running=still or number % 3 > 0) for number, disks in enumerate(mine)]
    pool.policy(vms, retained_snapshots="1", type=kind)
    waited = pool.simulator.waiting.total
    for hour in (10, 11, 12):
        pool.at(hour, 15)
        assert pool.tick().status == 0
    assert pool.simulator.waiting.total == waited
    assert [len(pool.snapshots(vm)) for vm in vms] == [1] * 15


def test_snapshots_of_disks_on_several_srs_share_them(pool: TestPool) -> None:
    srs = [pool.sr("sr%d" % number) for number in range(5)]
    vms = [pool.vm("vm%d" % number, [srs[(number + disk) % 5] for disk in range(3)]) for number in range(15)]
    pool.policy(vms)
    pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(2.0, 2.0))
    pool.at(10, 15)
    began = pool.simulator.now()
    assert pool.tick().status == 0
    last = max(taken_at(pool, vm) for vm in vms)
    # The disks alone need 18 s. VMs that had all their SRs to themselves would take 90 s: no two fit on five SRs.
    assert 18 <= (last - began).total_seconds() < 60


def refuse(pool: TestPool, method: str, thing: str, count: int, code: str = "OTHER_OPERATION_IN_PROGRESS") -> None:
    pool.call(
        "simulator.add_fault",
        {
            "method": method,
            "object": thing,
            "action": "error",
            "count": str(count),
            "error": '["%s", "VM", "%s", "clone", "a task"]' % (code, thing),
        },
    )


def seconds_between_tries(pool: TestPool) -> List[int]:
    found = [line.split(" is tried again in ") for line in pool.log()]
    return [int(parts[1].split()[0]) for parts in found if len(parts) > 1]


@pytest.mark.parametrize("method", ["VM.snapshot", "Async.VM.snapshot"])
def test_what_is_busy_is_tried_again_and_holds_up_nobody(pool: TestPool, method: str) -> None:
    sr = pool.sr()
    busy, others = pool.vm("a busy one", [sr]), [pool.vm("vm%d" % number, [sr]) for number in range(3)]
    policy = pool.policy([busy] + others)
    refuse(pool, method, busy, 2)
    pool.at(10, 15)
    assert pool.tick().status == 0
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"]
    assert seconds_between_tries(pool) == [10, 20]
    assert max(taken_at(pool, vm) for vm in others) < datetime(2026, 3, 2, 10, 15, 15, tzinfo=UTC)
    assert datetime(2026, 3, 2, 10, 15, 30, tzinfo=UTC) <= taken_at(pool, busy)
    started = [line for line in pool.log() if line == "Processing VM: %s" % pool.uuid("VM", busy)]
    assert len(started) == 1


def test_what_stays_busy_fails_in_the_end(pool: TestPool) -> None:
    pool.settings = Settings(timezone="UTC", retries=3, retry_pause=2)
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm])
    refuse(pool, "VM.snapshot", vm, 0)
    pool.at(10, 15)
    assert pool.tick().status == 1
    assert seconds_between_tries(pool) == [2, 4, 8]
    assert "OTHER_OPERATION_IN_PROGRESS" in pool.alerts(policy)[0]["body"]
    assert pool.snapshots(vm) == [] and pool.sessions() == 0


def test_a_disk_in_use_is_destroyed_when_it_is_free(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr(), pool.sr("other")])
    pool.policy([vm], retained_snapshots="1")
    pool.at(10, 15)
    pool.tick()
    disks = pool.snapshot_vdis()
    refuse(pool, "VDI.destroy", disks[0], 1, "VDI_IN_USE")
    refuse(pool, "VDI.destroy", disks[1], 2, "VDI_IN_USE")
    pool.at(11, 15)
    assert pool.tick().status == 0
    assert sorted(seconds_between_tries(pool)) == [10, 10, 20]
    assert not set(disks) & set(pool.snapshot_vdis())
    assert len(pool.snapshot_vdis()) == 2


def test_an_error_that_does_not_pass_is_not_tried_again(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm])
    refuse(pool, "VM.snapshot", vm, 1, "VM_BAD_POWER_STATE")
    pool.at(10, 15)
    assert pool.tick().status == 1
    assert seconds_between_tries(pool) == []


def test_no_result_is_lost_however_many_vms_end_at_once(pool: TestPool) -> None:
    pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(1.0, 1.0))
    srs = [pool.sr("sr%d" % number) for number in range(60)]
    vms = [pool.vm("vm%d" % number, [srs[number % 60]]) for number in range(120)]
    vms += [pool.vm("diskless%d" % number) for number in range(150)]  # xapi keeps 200 records of tasks that ended
    policy = pool.policy(vms)
    pool.at(10, 15)
    report = pool.tick()
    assert report.status == 0 and "270 of 270" in report.line
    assert not any("VMSS_RESULT_LOST" in line for line in pool.log())
    assert pool.tasks() == [] and pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"]


def test_what_is_refused_at_once_leaves_its_sr_to_the_next_at_once(pool: TestPool) -> None:
    one, other = pool.sr("one"), pool.sr("other")
    hanging, last = pool.vm("hanging", [other]), pool.vm("z", [one])
    refused = [pool.vm("vm%d" % number, [one]) for number in range(9)]
    pool.policy([hanging, last] + refused, frequency="daily", schedule={"hour": "10", "min": "15"})
    hang(pool, hanging)
    for vm in refused:
        refuse(pool, "Async.VM.snapshot", vm, 0, "VM_IS_TEMPLATE")
    pool.at(10, 15)
    assert pool.tick().status == 1
    assert taken_at(pool, last) < datetime(2026, 3, 2, 10, 15, 5, tzinfo=UTC)


def test_a_snapshot_that_was_taken_though_a_host_did_not_answer_is_not_taken_again(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm])
    pool.call(
        "simulator.add_fault",
        {
            "method": "VM.snapshot",
            "object": vm,
            "when": "after",
            "action": "error",
            "error": '["CANNOT_CONTACT_HOST", "%s"]' % pool.host,
        },
    )
    pool.at(10, 15)
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"]
