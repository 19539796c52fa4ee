"""`vmss prune`: what it takes, what it leaves, and that it takes no snapshot."""

import json
import os
import pty
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import pytest

from tests.front import Front, Once, lose
from tests.pool import TestPool
from tests.test_commands import ROOT, one_line, tls, vmss
from vmss.core.problem import BadInput, UnknownPolicy
from vmss.core.pruning import DELETED, FUTURE, SURPLUS, Prune
from vmss.edges.lock import LockDirectory
from vmss.edges.sessions import NoSession
from vmss.passes.request import Report, Request
from vmss.passes.run import run

assert tls  # a fixture


def hours(pool: TestPool, first: int, last: int, day: int = 2) -> None:
    for hour in range(first, last + 1):
        pool.at(hour, 15, day=day)
        pool.tick()


def prune(pool: TestPool, what: str = SURPLUS, policy: Optional[str] = None, **request: Any) -> Report:
    return pool.tick(prune=Prune(what, policy), **request)


def uuids(pool: TestPool, vm: str) -> List[str]:
    return [snapshot["uuid"] for snapshot in pool.snapshots(vm)]


def scheduled(pool: TestPool) -> List[str]:
    return sorted(vm["uuid"] for vm in pool.call("VM.get_all_records").values() if vm["is_vmss_snapshot"])


def command(pool: TestPool, *words: str, **environment: str) -> Any:
    return vmss(pool.folder, "prune", *words, VMSS_XAPI=pool.place.xapi, **environment)


@pytest.fixture
def full(pool: TestPool) -> TestPool:
    """Two VMs with seven snapshots each, of a schedule that keeps two by now; each with a disk."""
    vms = [pool.vm(name, [pool.sr(name)]) for name in ("one", "two")]
    policy = pool.policy(vms, "nightly", retained_snapshots="7")
    hours(pool, 9, 15)
    pool.call("VMSS.set_retained_snapshots", policy, "2")
    return pool


def vms_of(pool: TestPool) -> List[str]:
    return [pool.call("VM.get_by_name_label", name)[0] for name in ("one", "two")]


def policy_of(pool: TestPool, name: str = "nightly") -> str:
    return str(pool.call("VMSS.get_by_name_label", name)[0])


# What exceeds retention


def test_all_that_exceeds_retention_goes_at_once_with_its_disks_and_nothing_is_taken(full: TestPool) -> None:
    one, two = vms_of(full)
    newest = [uuids(full, vm)[-2:] for vm in (one, two)]
    told, ran = full.names(), full.last_run(policy_of(full))
    full.at(16, 16)  # the slot of 16:15 is due: nobody asked for that
    report = prune(full)
    assert (report.status, report.line) == (0, "snapshots deleted: 10, of 2 VMs; VMs with errors: 0")
    assert [uuids(full, vm) for vm in (one, two)] == newest
    assert len(full.snapshot_vdis()) == 4
    assert (full.names(), full.last_run(policy_of(full))) == (told, ran)
    assert full.sessions() == 0 and full.tasks() == []
    assert not [key for key in full.other_config() if key.startswith("vmss-destroying")]
    full.at(16, 30)
    assert full.tick().served[0].taken == 2  # the next tick serves it, late


def test_the_oldest_go_first_with_the_lines_of_any_deletion(full: TestPool) -> None:
    one, _ = vms_of(full)
    gone, before = uuids(full, one)[:5], len(full.log())
    prune(full)
    begin = "Snapshot retention value reached for VM: %s. Deleting the oldest snapshot: " % full.uuid("VM", one)
    assert [line[len(begin) :] for line in full.log()[before:] if line.startswith(begin)] == gone
    assert "Completed processing VM: %s" % full.uuid("VM", one) in full.log()[before:]
    assert "Processing VM: %s" % full.uuid("VM", one) not in full.log()[before:]


def test_the_database_and_the_journal_are_written_before_the_first_deletion(full: TestPool) -> None:
    path = str(full.folder / "front.sock")
    front = Front(path, full.socket)
    around = full.surroundings(place=full.place._replace(xapi="unix:" + path))
    assert run(Request(prune=Prune()), around).status == 0
    first = front.calls.index("Async.VM.destroy")
    written = front.calls[:first].index("pool.sync_database")
    # The sign that a pass is at work, and the journal.
    assert front.calls[:written].count("pool.add_to_other_config") == 2
    assert not [method for method in front.calls if "snapshot" in method and method.startswith("Async")]
    assert not [method for method in front.calls if method.startswith(("message.", "VMSS.set"))]


def test_a_pin_a_copy_and_somebody_elses_use_of_a_disk_are_respected(full: TestPool) -> None:
    one, two = vms_of(full)
    pinned, copied = full.snapshots(one)[0], full.snapshots(two)[0]
    full.call("VM.add_to_blocked_operations", full.call("VM.get_by_uuid", pinned["uuid"]), "destroy", "audit")
    copy = full.call("VM.get_by_uuid", copied["uuid"])
    full.simulator.db.set("VM", copy, "current_operations", {"OpaqueRef:a-backup": "copy"})
    used = full.call("VBD.get_VDI", full.snapshots(one)[1]["VBDs"][0])
    full.vbd(full.vm("other"), used, 0, mode="RO")
    report = prune(full)
    assert (report.status, report.pruned.deleted if report.pruned else 0) == (0, 8)
    assert pinned["uuid"] in uuids(full, one) and len(uuids(full, one)) == 3
    assert copied["uuid"] in uuids(full, two) and len(uuids(full, two)) == 3
    assert used in full.snapshot_vdis()
    assert report.pruned and "copy is in progress" in report.pruned.stay[0]


def test_the_schedule_may_be_named_by_its_uuid_or_its_name(full: TestPool) -> None:
    other = full.vm("three", [full.sr("three")])
    full.policy([other], "also", retained_snapshots="3", schedule={"min": "30"})
    for hour in (16, 17, 18):
        full.at(hour, 30)
        full.tick(policy=full.uuid("VMSS", policy_of(full, "also")))
    full.call("VMSS.set_retained_snapshots", policy_of(full, "also"), "1")
    left = len(uuids(full, vms_of(full)[0]))
    assert prune(full, policy="also").status == 0
    assert (len(uuids(full, other)), len(uuids(full, vms_of(full)[0]))) == (1, left)
    assert prune(full, policy=full.uuid("VMSS", policy_of(full))).status == 0
    assert len(uuids(full, vms_of(full)[0])) == 2
    with pytest.raises(UnknownPolicy):
        prune(full, policy="nobody")
    full.policy([], "also")
    with pytest.raises(BadInput, match="2 snapshot schedules are called 'also'"):
        prune(full, policy="also")


def test_a_disabled_schedule_loses_nothing_unless_it_is_named(full: TestPool) -> None:
    full.call("VMSS.set_enabled", policy_of(full), False)
    before = scheduled(full)
    assert prune(full).line == "snapshots deleted: 0, of 0 VMs; VMs with errors: 0"
    assert scheduled(full) == before
    assert prune(full, policy="nightly").status == 0
    assert len(scheduled(full)) == 4


def test_a_schedule_that_cannot_be_understood_is_refused_by_its_uuid_and_skipped_without(full: TestPool) -> None:
    broken = policy_of(full)
    full.simulator.db.set("VMSS", broken, "retained_snapshots", 99)
    before = scheduled(full)
    with pytest.raises(BadInput, match="cannot be understood: retained_snapshots"):
        prune(full, policy=full.uuid("VMSS", broken))
    assert prune(full).status == 0
    assert scheduled(full) == before


def test_what_cannot_be_deleted_is_reported_and_keeps_nothing_else(full: TestPool) -> None:
    one, _ = vms_of(full)
    stuck = uuids(full, one)[0]
    rule = {"method": "VM.destroy", "action": "error", "error": '["INTERNAL_ERROR", "stuck"]', "object": stuck}
    full.call("simulator.add_fault", dict(rule, count="0"))
    report = prune(full)
    assert (report.status, report.line) == (1, "snapshots deleted: 9, of 2 VMs; VMs with errors: 1")
    assert len(uuids(full, one)) == 3 and stuck in uuids(full, one)
    ended = command(full)
    assert ended.status == 1 and "one: " in ended.err and "INTERNAL_ERROR stuck" in ended.err


def test_a_rehearsal_lists_what_would_go_and_changes_nothing(full: TestPool) -> None:
    before, log = scheduled(full), full.log()
    report = prune(full, dry_run=True)
    one, two = vms_of(full)
    expected = uuids(full, one)[:5] + uuids(full, two)[:5]
    assert list(report.listed) == expected and report.listing
    first = report.listing.snapshots[0]
    assert (first.vm, first.vm_uuid, first.name) == ("one", full.uuid("VM", one), "nightly 2026-03-02T09:15:00Z")
    assert (first.time.hour, first.time.minute) == (9, 15)
    assert report.line == "snapshots that would be deleted: 10; nothing was changed"
    assert (scheduled(full), full.log()) == (before, log)
    assert not (full.folder / "lock").exists() or not list((full.folder / "lock").glob("*.taking"))


def test_what_is_left_behind_is_listed_by_the_names_of_vms(pool: TestPool, left: Dict[str, str]) -> None:
    pool.call("VM.set_snapshot_schedule", left["on"], "OpaqueRef:NULL")

    def names() -> List[str]:
        listing = prune(pool, DELETED, dry_run=True).listing
        assert listing is not None
        return [it.vm for it in listing.snapshots]

    first, last = sorted(("on", "off"), key=names().index)
    pool.call("VM.set_name_label", left[first], "zoo")
    assert names() == ["", "", *sorted([last, "zoo"] * 2)]


def test_the_size_is_what_the_disks_the_memory_and_the_base_copies_occupy_each_once(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()], running=True)
    pool.policy([vm], "memory", type="checkpoint", retained_snapshots="7")
    hours(pool, 9, 11)
    pool.call("VM.set_snapshot_schedule", vm, "OpaqueRef:NULL")
    for at, vdi in enumerate(sorted(pool.call("VDI.get_all"))):
        pool.simulator.db.set("VDI", vdi, "physical_utilisation", 1 << at)
    listing = prune(pool, DELETED, dry_run=True).listing
    vdis = pool.call("VDI.get_all_records")
    mine = set(pool.snapshot_vdis())
    bases = {vdis[ref]["sm_config"].get("vhd-parent") for ref in mine}
    of = [int(it["physical_utilisation"]) for ref, it in vdis.items() if ref in mine or it["uuid"] in bases]
    # Each disk has another bit: so none is missing, and none counts twice.
    assert listing and sum(one.size or 0 for one in listing.snapshots) == sum(of) and len(of) >= 8
    # Two that build on one base copy: it counts for the first alone.
    first, second = (pool.call("VBD.get_VDI", one["VBDs"][0]) for one in pool.snapshots(vm)[:2])
    lost, kept = (vdis[ref]["sm_config"]["vhd-parent"] for ref in (first, second))
    pool.simulator.db.set("VDI", first, "sm_config", {"vhd-parent": kept})
    listing = prune(pool, DELETED, dry_run=True).listing
    unused = [int(it["physical_utilisation"]) for it in vdis.values() if it["uuid"] == lost]
    assert listing and sum(one.size or 0 for one in listing.snapshots) == sum(of) - sum(unused)
    # What stands there is no part of a query.
    pool.simulator.db.set("VDI", sorted(mine)[0], "sm_config", {"vhd-parent": '") or ("'})
    assert len(prune(pool, DELETED, dry_run=True).listed) == 3


def test_a_snapshot_that_is_gone_meanwhile_counts_as_deleted_and_a_killed_one_is_finished(full: TestPool) -> None:
    one, _ = vms_of(full)
    oldest = full.snapshots(one)[0]
    disks = [full.uuid("VDI", full.call("VBD.get_VDI", vbd)) for vbd in oldest["VBDs"]]
    full.record({oldest["uuid"]: disks})  # by a pass that was killed after it
    full.call("VM.destroy", full.call("VM.get_by_uuid", oldest["uuid"]))
    assert prune(full).status == 0
    assert len(full.snapshot_vdis()) == 4


def test_while_a_pass_is_at_work_it_ends_with_its_status_and_tells_nobody(full: TestPool) -> None:
    full.at(16, 15)
    directory = LockDirectory(full.place.lock_dir)
    lock = directory.acquire(full.uuid("pool", full.call("pool.get_all")[0]), {"pid": 1, "since": "now"})
    told = full.names()
    assert prune(full).status == 4
    lock.release()
    assert full.names() == told and len(scheduled(full)) == 14


def test_what_becomes_due_while_it_is_at_work_is_served_by_it(full: TestPool) -> None:
    full.at(16, 14, second=30)
    path = str(full.folder / "front.sock")

    def before(method: str) -> None:
        if method == "Async.VM.destroy" and full.simulator.now().hour == 16 and full.simulator.now().minute == 14:
            full.at(16, 15, second=5)

    Front(path, full.socket, before=before)
    report = run(Request(prune=Prune()), full.surroundings(place=full.place._replace(xapi="unix:" + path)))
    assert [(served.taken, served.turn.policy.name) for served in report.served] == [(2, "nightly")]
    assert report.line.endswith("; schedules that became due meanwhile and were served: 1")
    assert report.status == 0 and len(scheduled(full)) in (4, 6)  # the run may have counted what was about to go
    hours(full, 17, 17)
    assert len(scheduled(full)) == 4


def test_what_earlier_ticks_could_not_serve_is_still_owed_afterwards(full: TestPool) -> None:
    directory = LockDirectory(full.place.lock_dir)
    uuid = full.uuid("pool", full.call("pool.get_all")[0])
    directory.acquire(uuid, {}).release({"since": "20260302T10:00:00Z"})
    prune(full)
    assert directory.acquire(uuid, {}).previous == {"since": "20260302T10:00:00Z"}


# What is dated in the future


def ahead(pool: TestPool) -> str:
    """A VM with three snapshots of a time when the clock was a year ahead; now it is right again."""
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], retained_snapshots="3")
    for hour in (10, 11, 12):
        pool.simulator.set_time(pool_time(hour) + timedelta(days=365))
        pool.tick()
    return vm


def pool_time(hour: int) -> datetime:
    return datetime(2026, 3, 2, hour, 15, tzinfo=timezone.utc)


def test_what_is_dated_in_the_future_goes_and_nothing_else(pool: TestPool) -> None:
    vm = ahead(pool)
    hours(pool, 10, 13)
    assert len(uuids(pool, vm)) == 6
    kept = uuids(pool, vm)[:3]
    listing = prune(pool, FUTURE, dry_run=True).listing
    assert listing and [one.time.year for one in listing.snapshots] == [2027, 2027, 2027]
    report = prune(pool, FUTURE)
    assert (report.status, report.line) == (0, "snapshots deleted: 3, of 1 VM; VMs with errors: 0")
    assert uuids(pool, vm) == kept
    assert len(pool.snapshot_vdis()) == 3


@pytest.mark.parametrize("named", [False, True])
def test_a_vm_that_has_no_other_snapshot_keeps_the_newest_of_the_future(pool: TestPool, named: bool) -> None:
    vm = ahead(pool)
    newest = uuids(pool, vm)[-1]
    pool.at(9)  # or the clock is wrong now
    report = prune(pool, FUTURE, "policy" if named else None)
    assert report.status == 0 and uuids(pool, vm) == [newest]
    (line,) = report.pruned.stay if report.pruned else ()
    assert line in pool.log() and newest in line
    assert prune(pool, FUTURE).status == 0 and uuids(pool, vm) == [newest]
    pool.at(10, 15)
    pool.tick()
    assert prune(pool, FUTURE).status == 0 and len(uuids(pool, vm)) == 1 and newest not in uuids(pool, vm)


def test_what_is_less_than_a_minute_ahead_or_pinned_stays(pool: TestPool) -> None:
    vm = ahead(pool)
    hours(pool, 10, 12)
    pinned = pool.snapshots(vm)[-1]
    pool.call("VM.add_to_blocked_operations", pool.call("VM.get_by_uuid", pinned["uuid"]), "destroy", "audit")
    pool.at(12, 14, second=30)
    kept = uuids(pool, vm)[:3] + [pinned["uuid"]]
    assert prune(pool, FUTURE).status == 0
    assert uuids(pool, vm) == kept


def test_it_takes_those_of_vms_on_no_schedule_and_of_vms_that_are_gone_too(pool: TestPool) -> None:
    vm = ahead(pool)
    hours(pool, 10, 12)
    pool.call("VM.set_snapshot_schedule", vm, "OpaqueRef:NULL")
    assert prune(pool, FUTURE).line.startswith("snapshots deleted: 3,")
    assert len(uuids(pool, vm)) == 3


def test_a_run_says_once_a_day_what_is_dated_in_the_future_and_how_it_goes(pool: TestPool) -> None:
    vm = ahead(pool)
    hours(pool, 13, 15)
    hours(pool, 10, 11, day=3)
    said = [alert["body"].split("\n")[-1] for alert in pool.alerts() if alert["timestamp"] < "20270101"]
    told = ["3 scheduled snapshots are dated in the future" in line for line in said]
    assert told == [True, False, False, True, False]
    assert said[0].endswith(": vmss prune --dated-in-future")
    assert pool.log().count("Snapshots of VM %s are dated in the future: 3" % pool.uuid("VM", vm)) == 5
    assert command(pool, *said[0].split(": ")[-1].split()[2:]).status == 0
    hours(pool, 10, 10, day=4)
    assert "1 expired snapshot deleted." in newest(pool) and len(uuids(pool, vm)) == 3


def newest(pool: TestPool) -> str:
    """The last line about the newest run, without those of the time when the clock was ahead."""
    bodies = [alert["body"] for alert in pool.alerts() if alert["timestamp"] < "20270101"]
    return str(bodies[-1]).split("\n")[-1]


def test_a_run_whose_vm_has_no_snapshot_but_those_of_the_future_does_not_offer_to_delete_them(pool: TestPool) -> None:
    ahead(pool)
    pool.call("simulator.add_fault", {"method": "VM.snapshot", "action": "error", "error": '["X"]', "count": "0"})
    hours(pool, 13, 13)
    assert "future" not in [alert["body"] for alert in pool.alerts() if alert["timestamp"] < "20270101"][-1]


# What belongs to no schedule any more


@pytest.fixture
def left(pool: TestPool) -> Dict[str, str]:
    """VMs with two scheduled snapshots each: on a schedule, moved to another, moved to a disabled one, taken off, and
    gone. The gone one's reference is still there."""
    sr = pool.sr()
    vms = {name: pool.vm(name, [sr]) for name in ("on", "moved", "disabled", "off", "gone")}
    pool.policy(list(vms.values()), "nightly")
    hours(pool, 10, 11)
    pool.call("VM.set_snapshot_schedule", vms["moved"], pool.policy([], "other", schedule={"min": "45"}))
    pool.call("VM.set_snapshot_schedule", vms["disabled"], pool.policy([], "paused", enabled=False))
    pool.call("VM.set_snapshot_schedule", vms["off"], "OpaqueRef:NULL")
    for vbd in pool.call("VM.get_VBDs", vms["gone"]):
        pool.call("VDI.destroy", pool.call("VBD.get_VDI", vbd))
    pool.call("VM.destroy", vms["gone"])
    return vms


def of(pool: TestPool, vm: str) -> int:
    """The number of scheduled snapshots whose records name a VM."""
    return len([it for it in pool.call("VM.get_all_records").values() if it["snapshot_of"] == vm])


def test_snapshots_of_vms_that_are_gone_or_on_no_schedule_go_and_no_others(
    pool: TestPool, left: Dict[str, str]
) -> None:
    listing = prune(pool, DELETED, dry_run=True).listing
    assert listing and sorted(one.vm for one in listing.snapshots) == ["", "", "off", "off"]
    assert {one.vm_uuid for one in listing.snapshots} == {pool.uuid("VM", left["off"]), left["gone"]}
    assert {one.name for one in listing.snapshots} == {"nightly 2026-03-02T10:15:00Z", "nightly 2026-03-02T11:15:00Z"}
    report = prune(pool, DELETED)
    assert (report.status, report.line) == (0, "snapshots deleted: 4, of 2 VMs; VMs with errors: 0")
    assert {name: of(pool, vm) for name, vm in left.items()} == {
        "on": 2, "moved": 2, "disabled": 2, "off": 0, "gone": 0
    }  # fmt: skip
    assert len(pool.snapshot_vdis()) == 6


def test_a_schedule_that_is_deleted_leaves_its_vms_without_one(pool: TestPool, left: Dict[str, str]) -> None:
    pool.call("VM.set_snapshot_schedule", left["on"], "OpaqueRef:NULL")
    pool.call("VMSS.destroy", policy_of(pool))
    assert prune(pool, DELETED).status == 0
    assert [of(pool, left[name]) for name in ("on", "moved", "disabled")] == [0, 2, 2]


def test_a_schedule_that_cannot_be_understood_is_one_nevertheless(pool: TestPool, left: Dict[str, str]) -> None:
    pool.simulator.db.set("VMSS", policy_of(pool), "retained_snapshots", 99)
    assert prune(pool, DELETED).status == 0
    assert of(pool, left["on"]) == 2


def test_snapshots_that_others_made_pinned_ones_and_those_that_name_no_vm_stay(
    pool: TestPool, left: Dict[str, str]
) -> None:
    off, gone = left["off"], left["gone"]
    pool.call("VM.snapshot", off, "by hand", [])
    pinned = [ref for ref, it in pool.call("VM.get_all_records").items() if it["snapshot_of"] == gone][0]
    pool.call("VM.add_to_blocked_operations", pinned, "destroy", "audit")
    scheduled_of_off = [ref for ref in pool.call("VM.get_snapshots", off) if pool.call("VM.get_is_vmss_snapshot", ref)]
    nameless = scheduled_of_off[0]
    pool.simulator.db.set("VM", nameless, "snapshot_of", "OpaqueRef:NULL")
    report = prune(pool, DELETED)
    assert report.pruned and report.pruned.deleted == 2
    left_of = [ref for ref, it in pool.call("VM.get_all_records").items() if it["is_a_snapshot"]]
    assert {pinned, nameless} <= set(left_of)
    assert "by hand" in [pool.call("VM.get_name_label", ref) for ref in left_of]


def test_no_vm_and_no_snapshot_is_asked_by_itself_on_which_schedule_it_is(pool: TestPool, left: Dict[str, str]) -> None:
    path = str(pool.folder / "front.sock")
    front = Front(path, pool.socket)
    run(Request(prune=Prune(DELETED)), pool.surroundings(place=pool.place._replace(xapi="unix:" + path)))
    assert not {"VM.get_snapshot_of", "VM.get_snapshots"}.intersection(front.calls)
    assert front.calls.count("VM.get_record") == 2


def test_only_what_was_confirmed_goes(pool: TestPool, left: Dict[str, str]) -> None:
    listed = prune(pool, DELETED, dry_run=True).listed
    assert pool.tick(prune=Prune(DELETED, only=frozenset(listed[:1]))).status == 0
    assert not set(listed[:1]) & set(scheduled(pool)) and set(listed[1:]) <= set(scheduled(pool))


# The command


def test_the_command_prunes_and_says_how_much(full: TestPool) -> None:
    ended = command(full, "--policy", "nightly", "--dry-run")
    assert (ended.status, ended.err) == (0, "") and ended.out.startswith("one\tnightly 2026-03-02T09:15:00Z\t2026-03-")
    assert "snapshots that would be deleted: 10; nothing was changed; on disk they occupy " in ended.out
    listed = json.loads(command(full, "--dry-run", "--json").out)
    assert len(listed) == 10 and listed[0]["age"] == 6 * 3600 and listed[0]["time"].startswith("2026-03-02T09:15:")
    assert command(full, "--dry-run", "--csv").out.startswith("vm,name,time,age,size,uuid,vm_uuid\r\none,")
    one_line(command(full, "--json"), 2, "--json: goes with --dry-run")
    ended = command(full)
    assert (ended.status, ended.out, ended.err) == (0, "snapshots deleted: 10, of 2 VMs; VMs with errors: 0\n", "")
    assert command(full).out == "snapshots deleted: 0, of 0 VMs; VMs with errors: 0\n"


def test_bad_words_are_one_clear_line(full: TestPool) -> None:
    one_line(command(full, "--policy", "nobody"), 2, "no snapshot schedule of this pool has the uuid or the name")
    one_line(command(full, "--of-deleted", "--policy", "nightly"), 2, "--of-deleted", "--policy")
    one_line(command(full, "--of-deleted"), 2, "--of-deleted", "--dry-run", "--yes")
    assert command(full, "--of-deleted", "--dated-in-future").status == 2
    assert len(scheduled(full)) == 14


def test_over_https_it_only_rehearses(tmp_path: Path, tls: Dict[str, str]) -> None:
    one_line(vmss(tmp_path, "prune", **tls), 2, "VMSS_XAPI", "--dry-run", "in dom0 of the coordinator")
    assert vmss(tmp_path, "prune", "--dry-run", **tls).out.startswith("snapshots that would be deleted: 0")


def test_with_yes_nobody_is_asked(pool: TestPool, left: Dict[str, str]) -> None:
    ended = command(pool, "--of-deleted", "--yes")
    assert (ended.status, ended.out) == (0, "snapshots deleted: 4, of 2 VMs; VMs with errors: 0\n")


@pytest.mark.parametrize("answer, number", [("y\n", 6), ("\n", 10), ("no\n", 10), ("\x04", 10)])
def test_on_a_terminal_it_lists_and_asks(pool: TestPool, left: Dict[str, str], answer: str, number: int) -> None:
    shown = asked(pool, ["prune", "--of-deleted"], answer)
    assert "nightly 2026-03-02T10:15:00Z" in shown and "(deleted)" in shown and "Delete 4 snapshots? [y/N]" in shown
    assert len(scheduled(pool)) == number
    assert ("snapshots deleted: 4" in shown) == (number == 6)


def asked(pool: TestPool, words: Sequence[str], answer: str) -> str:
    """What the command shows on a terminal on which somebody types this."""
    master, slave = pty.openpty()
    environment = dict(
        os.environ, PYTHONPATH=str(ROOT), VMSS_XAPI=pool.place.xapi, VMSS_LOG=pool.place.log,
        VMSS_LOCK_DIR=pool.place.lock_dir, TERM="xterm",
    )  # fmt: skip
    environment.pop("VMSS_CONFIG", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "vmss"] + list(words),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        cwd=str(pool.folder),
    )
    os.close(slave)
    os.write(master, answer.encode())
    shown = b""
    try:
        for piece in iter(lambda: os.read(master, 65536), b""):
            shown += piece
    except OSError:  # the terminal of a process that has ended
        pass
    os.close(master)
    process.wait()
    return shown.decode()


def test_a_schedule_that_is_due_for_the_first_time_when_a_prune_begins_is_late_and_not_lost(full: TestPool) -> None:
    """The tick of its slot finds the lock held by the prune, and what never ran is due in the tick of its slot only."""
    vm = full.vm("new", [full.sr("new")])
    weekly = full.policy([vm], "weekly", frequency="weekly", schedule={"days": "Monday", "hour": "16", "min": "15"})
    full.at(16, 15)
    assert prune(full).status == 0
    assert full.names(weekly) == []
    full.at(16, 30)
    full.tick()
    assert full.names(weekly) == ["VMSS_SNAPSHOT_SUCCEEDED"] and len(full.snapshots(vm)) == 1


def test_a_prune_that_loses_xapi_says_how_far_it_came(full: TestPool) -> None:
    path = str(full.folder / "front.sock")
    Front(path, full.socket, before=Once("Async.VM.destroy", lose, number=9))
    around = full.surroundings(place=full.place._replace(xapi="unix:" + path))
    with pytest.raises(NoSession) as lost:
        run(Request(prune=Prune()), around)
    gone = 14 - len(scheduled(full))
    so_far = r"; it had got so far: snapshots deleted: (\d+), of 2 VMs; .*; call it again for the rest$"
    said = re.search(so_far, str(lost.value))
    assert said is not None and 1 < int(said.group(1)) <= gone
    assert prune(full).status == 0 and len(scheduled(full)) == 4


def test_a_prune_that_loses_xapi_when_all_is_deleted_says_so(full: TestPool) -> None:
    path = str(full.folder / "front.sock")

    def at_the_end(method: str) -> None:
        if method == "pool.sync_database" and len(scheduled(full)) == 4:
            lose()

    Front(path, full.socket, before=at_the_end)
    around = full.surroundings(place=full.place._replace(xapi="unix:" + path))
    with pytest.raises(NoSession, match="snapshots deleted: 10, of 2 VMs; VMs with errors: 0"):
        run(Request(prune=Prune()), around)
