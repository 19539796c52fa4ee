"""How snapshots are taken: disks that are left out, VMs that cannot be checkpointed, and snapshots without memory."""

from typing import Any, Dict, List, Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pool import TestPool
from tests.test_late import findings
from vmss.core.job import TAKE_CHECKPOINT, TAKE_QUIESCED, TAKE_SNAPSHOT, Job, Operation
from vmss.core.records import NULL
from vmss.core.vms import Disk
from vmss.core.ways import Ways, become_plain, left_out
from vmss.insight import history


def set_for_the_pool(pool: TestPool, name: str, value: str) -> None:
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], "vmss:" + name, value)


def disks(pool: TestPool, vm: str) -> List[str]:
    """The disks of a VM, or of a snapshot, in the order of their devices."""
    vbds = [pool.call("VBD.get_record", vbd) for vbd in pool.call("VM.get_VBDs", vm)]
    return [record["VDI"] for record in sorted(vbds, key=lambda record: int(record["userdevice"]))]


def of_the_snapshots(pool: TestPool, vm: str) -> List[Set[str]]:
    """The disks that each scheduled snapshot of a VM has one of, the oldest first."""
    return [
        {pool.call("VDI.get_snapshot_of", disk) for disk in disks(pool, pool.call("VM.get_by_uuid", record["uuid"]))}
        for record in pool.snapshots(vm)
    ]


def run(pool: TestPool, policy: str) -> Dict[str, str]:
    """Run a schedule; the error code of each VM that failed."""
    (served,) = pool.tick(policy=pool.uuid("VMSS", policy)).served
    return {victim.name: victim.error[0] for victim in served.victims}


def alert(pool: TestPool, policy: str) -> Any:
    return pool.alerts(policy)[-1]


# Disks that are left out


def test_a_marked_disk_is_left_out_and_its_storage_not_waited_for(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr("fine"), pool.sr("raw LUN")])
    other = pool.vm("other", [pool.sr("another")])
    first, second = disks(pool, vm)
    policy = pool.policy([vm, other], retained_snapshots="1")
    pool.call("simulator.add_fault", {"method": "VDI.snapshot", "action": "hang", "object": second, "count": "0"})
    pool.call("VDI.add_to_other_config", second, "vmss:skip", "it cannot be snapshotted")
    assert run(pool, policy) == {}
    assert of_the_snapshots(pool, vm) == [{first}]
    line = "Disks of VM %s that its snapshot leaves out: %s" % (pool.uuid("VM", vm), pool.uuid("VDI", second))
    assert pool.log().count(line) == 1
    # It expires like any other, and costs the disk that was left out nothing.
    assert run(pool, policy) == {}
    assert of_the_snapshots(pool, vm) == [{first}]
    assert pool.call("VDI.get_record", second)["snapshots"] == [] and alert(pool, policy)["priority"] == "5"


@pytest.mark.parametrize("prefixes, taken", [("", 3), ("[NOSNAP]", 2), ("[NOBAK] [NOSNAP]", 1)])
def test_names_leave_a_disk_out_only_if_the_setting_says_so(pool: TestPool, prefixes: str, taken: int) -> None:
    vm = pool.vm("vm", [pool.sr()] * 3)
    for disk, name in zip(disks(pool, vm), ("[NOSNAP] scratch", "swap [NOSNAP]", "[NOBAK]data")):
        pool.call("VDI.set_name_label", disk, name)
    if prefixes:
        set_for_the_pool(pool, "skip_disks", prefixes)
    assert run(pool, pool.policy([vm])) == {}
    assert [len(found) for found in of_the_snapshots(pool, vm)] == [taken]


def test_a_word_that_many_names_begin_with_is_no_mark(pool: TestPool) -> None:
    set_for_the_pool(pool, "skip_disks", "[NOSNAP] d")
    vm = pool.vm("vm", [pool.sr()])
    assert run(pool, pool.policy([vm])) == {} and len(of_the_snapshots(pool, vm)[0]) == 1
    assert "skip_disks: '[NOSNAP] d' has a word that is no mark in brackets" in "".join(pool.log())


def test_an_older_server_leaves_no_disk_out_and_serves_all_other_vms(pool: TestPool) -> None:
    pool.call("simulator.withhold", "VM.snapshot.ignore_vdis", True)
    marked, other = pool.vm("marked", [pool.sr(), pool.sr()]), pool.vm("other", [pool.sr()])
    pool.call("VDI.add_to_other_config", disks(pool, marked)[1], "vmss:skip", "yes")
    policy = pool.policy([marked, other])
    assert run(pool, policy) == {"marked": "MESSAGE_PARAMETER_COUNT_MISMATCH"}
    assert "The server cannot leave a disk out of a snapshot" in alert(pool, policy)["body"]
    assert [len(pool.snapshots(vm)) for vm in (marked, other)] == [0, 1]


def test_a_snapshot_without_any_disk_is_one(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.call("VDI.add_to_other_config", disks(pool, vm)[0], "vmss:skip", "yes")
    assert run(pool, pool.policy([vm])) == {} and of_the_snapshots(pool, vm) == [set()]


def test_a_reverted_vm_keeps_the_disk_that_was_left_out_but_not_attached(pool: TestPool) -> None:
    """As the guide says: who reverts has to attach it again."""
    vm = pool.vm("vm", [pool.sr(), pool.sr()])
    kept = disks(pool, vm)[1]
    pool.call("VDI.add_to_other_config", kept, "vmss:skip", "yes")
    run(pool, pool.policy([vm]))
    pool.call("VM.revert", pool.call("VM.get_by_uuid", pool.snapshots(vm)[0]["uuid"]))
    assert kept not in disks(pool, vm) and pool.call("VDI.get_record", kept)["VBDs"] == []


# VMs that cannot be checkpointed


@pytest.mark.parametrize("fallback", ["", "snapshot"])
def test_a_vm_that_cannot_be_checkpointed(pool: TestPool, fallback: str) -> None:
    names = ("immobile", "no tools", "a disk left out", "fine")
    vms = {name: pool.vm(name, [pool.sr()], running=True) for name in names}
    pool.simulator.db.set("VM", vms["immobile"], "platform", {"nomigrate": "true"})
    for name, value in {"other": {}, "PV_drivers_detected": False}.items():
        pool.simulator.db.set("VM_guest_metrics", pool.call("VM.get_guest_metrics", vms["no tools"]), name, value)
    pool.call("VDI.add_to_other_config", disks(pool, vms["a disk left out"])[0], "vmss:skip", "yes")
    policy = pool.policy(list(vms.values()), type="checkpoint")
    if fallback:
        set_for_the_pool(pool, "checkpoint_fallback", fallback)
    failed = run(pool, policy)
    (made,) = history.runs({"": alert(pool, policy)})
    memory = {name: [record["power_state"] for record in pool.snapshots(vm)] for name, vm in vms.items()}
    assert memory.pop("fine") == ["Suspended"]
    if fallback:
        assert failed == {} and memory == dict.fromkeys(memory, ["Halted"])
        assert alert(pool, policy)["name"] == "VMSS_SNAPSHOT_SUCCEEDED"
        assert made.story.endswith(
            "4 of 4 VMs snapshotted, 0 expired snapshots deleted; plain snapshots of VMs of which no other can be taken"
        )
        assert (
            "Plain snapshots were taken of VMs that cannot be snapshotted as the schedule asks: A disk of the VM is to "
            "be left out, and only a plain snapshot can do that: 'a disk left out'; The VM cannot be suspended: "
            "'immobile'; The VM lacks the guest tools: 'no tools'"
        ) in alert(pool, policy)["body"].split("\n")
    else:
        assert memory == dict.fromkeys(memory, [])
        assert failed == {
            "immobile": "VM_IS_IMMOBILE",
            "no tools": "VM_LACKS_FEATURE",
            "a disk left out": "VMSS_ALL_DISKS_NEEDED",
        }
    assert {pool.call("VM.get_power_state", vm) for vm in vms.values()} == {"Running"}


def test_what_may_pass_is_no_reason_for_a_plain_snapshot(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()], running=True)
    policy = pool.policy([vm], type="checkpoint")
    set_for_the_pool(pool, "checkpoint_fallback", "snapshot")
    pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], NULL)
    assert run(pool, policy) == {"vm": "VM_NO_SUSPEND_SR"} and pool.snapshots(vm) == []


def test_a_tagged_vm_is_snapshotted_without_its_memory(pool: TestPool) -> None:
    vms = [pool.vm(name, [pool.sr()], running=True) for name in ("tagged", "other")]
    pool.call("VM.add_tags", vms[0], "vmss:no-memory")
    assert run(pool, pool.policy(vms, type="checkpoint")) == {}
    assert [pool.snapshots(vm)[0]["power_state"] for vm in vms] == ["Halted", "Suspended"]
    assert not [line for line in pool.log() if "failed" in line]


def test_a_tagged_vm_is_snapshotted_only_while_it_runs(pool: TestPool) -> None:
    runs, off = pool.vm("runs", [pool.sr()], running=True), pool.vm("off", [pool.sr()])
    for vm in (runs, off):
        pool.call("VM.add_tags", vm, "vmss:only-running")
    policy = pool.policy([runs, off], "hourly")
    pool.at(10, 15)
    assert pool.tick().status == 0
    assert [len(pool.snapshots(vm)) for vm in (runs, off)] == [1, 0]
    assert "1 VM is not running, and snapshotted only then (the tag vmss:only-running)." in alert(pool, policy)["body"]
    pool.at(10, 50)
    assert not [text for text in findings(pool) if "no snapshot" in text]
    # It was not running at the slot, whatever it does now; at the next one it is.
    pool.call("VM.start", off, False, False)
    pool.tick()
    pool.at(11, 10)
    assert not [text for text in findings(pool) if "no snapshot" in text]
    pool.at(11, 15)
    pool.tick()
    assert [len(pool.snapshots(vm)) for vm in (runs, off)] == [2, 1]
    pool.call("VM.hard_shutdown", off)
    run(pool, policy)  # by hand it gets one all the same
    assert len(pool.snapshots(off)) == 2


# The decisions

DISK = Disk("ref", "uuid", "sr", "user", False, True, ())


@given(st.text(max_size=12), st.lists(st.text("[]NO ", min_size=1, max_size=4), max_size=3), st.booleans())
def test_a_disk_is_left_out_for_its_mark_or_for_the_beginning_of_its_name(
    name: str, prefixes: List[str], skip: bool
) -> None:
    disk = DISK._replace(name=name, skip=skip)
    wanted = skip or any(name[: len(prefix)] == prefix for prefix in prefixes)
    assert left_out([disk], Ways(tuple(prefixes))) == [disk] * wanted


@given(
    st.sampled_from([TAKE_SNAPSHOT, TAKE_QUIESCED, TAKE_CHECKPOINT]),
    st.sampled_from(["", "VM_IS_IMMOBILE", "VMSS_ALL_DISKS_NEEDED", "MESSAGE_REMOVED", "VM_NO_SUSPEND_SR", "SR_FULL"]),
    st.booleans(),
    st.booleans(),
)
def test_a_plain_snapshot_is_never_taken_for_another_reason(
    action: str, code: str, fallback: bool, plain_instead: bool
) -> None:
    ended = Operation(0, action, "vm", frozenset())
    waiting = [Operation(1, TAKE_QUIESCED, "other", frozenset()), Operation(2, TAKE_CHECKPOINT, "vm 2", frozenset())]
    job = Job("", "", "", "", "", frozenset(), 0.0, fallback=fallback, plain_instead=plain_instead)
    found = become_plain(ended, (code,) if code else (), waiting, [job, job._replace(plain_instead=True), job])
    if action == TAKE_QUIESCED and plain_instead and code == "MESSAGE_REMOVED":
        assert found == [ended, waiting[0]]
    elif (
        action == TAKE_QUIESCED
        and plain_instead
        and code == "VMSS_ALL_DISKS_NEEDED"
        or action == TAKE_CHECKPOINT
        and fallback
        and code in ("VM_IS_IMMOBILE", "VMSS_ALL_DISKS_NEEDED")
    ):
        assert found == [ended]
    else:
        assert found == []
