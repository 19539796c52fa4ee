"""Disks without a snapshot, after real deaths of xapi: what is found, what is reported, and that all others stay."""

import json
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.front import Front, Lose
from tests.pool import TestPool
from vmss.core.left_over import MEMORY, NAMELESS, SUSPECT, Item, sentences, stuck
from vmss.core.outcome import TIMED_OUT, Outcome
from vmss.core.problem import Problem
from vmss.core.records import NULL, Pool
from vmss.edges.lock import LockDirectory
from vmss.edges.log import Log
from vmss.edges.xapi import Refused, Unanswered, Xapi
from vmss.passes import left_over
from vmss.passes.notes import Attempt, Notes
from vmss.passes.orphans import OURS, Candidate, is_nameless, judge
from vmss.passes.request import Request
from vmss.passes.run import run

UTC = timezone.utc
SINCE = datetime(2026, 3, 2, 10, 15, tzinfo=UTC)
OPERATION = Attempt("vm", SINCE, until=SINCE + timedelta(minutes=1))
LEFT = Candidate(
    ref="OpaqueRef:disk",
    uuid="disk",
    sr="sr",
    of="source",
    name="disk 0",
    type="user",
    is_a_snapshot=True,
    managed=True,
    used=False,
    time=SINCE + timedelta(seconds=5),
    size=1 << 30,
)
POOL = Pool("OpaqueRef:pool", "pool", "OpaqueRef:host", {}, True, NULL)
NAMELESS_DISK = LEFT._replace(name="", is_a_snapshot=False, of=NULL, time=datetime(1970, 1, 1, tzinfo=UTC))

# --- what counts ---


def test_a_disk_that_was_seen_on_a_snapshot_which_is_gone_is_ours() -> None:
    assert judge(LEFT, OPERATION, seen=True, restarted=True) == OURS


def test_by_its_record_alone_no_disk_is_ours() -> None:
    assert judge(LEFT, OPERATION, seen=False, restarted=True) == SUSPECT
    assert judge(LEFT, OPERATION, seen=True, restarted=False) == SUSPECT


@pytest.mark.parametrize(
    "change",
    [
        {"used": True},
        {"managed": False},
        {"is_a_snapshot": False},
        {"type": "suspend"},
        {"type": "metadata"},
        {"type": "cbt_metadata"},
        {"time": SINCE - timedelta(seconds=61)},
        {"time": SINCE + timedelta(seconds=121)},
    ],
)
def test_a_disk_that_fails_one_condition_is_none_of_our_business(change: Dict[str, Any]) -> None:
    assert judge(LEFT._replace(**change), OPERATION, seen=True, restarted=True) == ""


disks = st.builds(
    Candidate,
    ref=st.just("r"),
    uuid=st.just("u"),
    sr=st.just("s"),
    of=st.sampled_from(["source", NULL]),
    name=st.sampled_from(["", "disk"]),
    type=st.sampled_from(["user", "system", "suspend", "ha_statefile", ""]),
    is_a_snapshot=st.booleans(),
    managed=st.booleans(),
    used=st.booleans(),
    time=st.integers(-900, 900).map(lambda seconds: SINCE + timedelta(seconds=seconds)),
    size=st.integers(0, 1 << 40),
)


@given(disk=disks, seen=st.booleans(), restarted=st.booleans())
def test_whatever_is_ours_is_an_unused_snapshot_of_that_time_that_was_seen(
    disk: Candidate, seen: bool, restarted: bool
) -> None:
    if judge(disk, OPERATION, seen, restarted) == OURS:
        assert seen and restarted and disk.is_a_snapshot and disk.managed and not disk.used and disk.type != "suspend"
        assert abs(disk.time - SINCE) <= timedelta(minutes=2)
    assert not (is_nameless(disk) and judge(disk, OPERATION, seen, restarted))


def test_an_operation_whose_time_is_not_known_yet_left_nothing() -> None:
    assert judge(LEFT, OPERATION._replace(until=None), seen=True, restarted=True) == ""


@pytest.mark.parametrize(
    "change",
    [{"name": "x"}, {"used": True}, {"is_a_snapshot": True}, {"managed": False}, {"of": "source"}, {"type": "suspend"}],
)
def test_a_disk_that_says_anything_of_itself_is_not_nameless(change: Dict[str, Any]) -> None:
    assert is_nameless(NAMELESS_DISK) and not is_nameless(NAMELESS_DISK._replace(**change))


def test_an_alert_names_ten_disks() -> None:
    assert sentences([]) == ""
    mark = stuck((), SINCE)
    text = sentences([Item((SUSPECT, NAMELESS)[number % 2], "disk%d" % number, "vm", mark) for number in range(12)])
    assert ": 12 (disk0, " in text and "disk9, and more)" in text and "disk10" not in text


# --- what is noted ---


def test_noted_is_what_is_under_way_and_what_xapi_may_not_have_written_yet(tmp_path: Path) -> None:
    directory = LockDirectory(str(tmp_path / "lock"))
    notes = Notes(directory, POOL, Log(None, lambda: SINCE, UTC))

    def noted() -> List[str]:
        return [operation["vm"] for operation in directory.read("pool.taking").get("operations", [])]

    vms = ["%08d-0000-0000-0000-000000000000" % number for number in range(5)]
    for vm in vms[:3]:
        notes.began(vm, SINCE, 1)
    notes.ended(vms[0], SINCE, Outcome(value="OpaqueRef:snapshot"))
    notes.ended(vms[1], SINCE, Outcome(error=("VM_IS_TEMPLATE",)))
    notes.ended(vms[2], SINCE, Outcome(error=(TIMED_OUT,)))
    notes.began(vms[3], SINCE + timedelta(minutes=9), 1)
    assert noted() == [vms[0], vms[2], vms[3]]
    notes.began(vms[4], SINCE + timedelta(minutes=11), 1)
    assert noted() == [vms[2], vms[3], vms[4]]
    notes.ended(vms[3], SINCE + timedelta(minutes=12), Outcome(value="OpaqueRef:snapshot"))
    notes.database_written()
    assert noted() == [vms[2], vms[4]]
    assert [operation.vm for operation in Notes(directory, POOL, Log(None, lambda: SINCE, UTC)).earlier] == noted()


def test_a_second_attempt_does_not_undo_the_note_of_one_that_was_given_up(tmp_path: Path) -> None:
    directory = LockDirectory(str(tmp_path / "lock"))
    notes = Notes(directory, POOL, Log(None, lambda: SINCE, UTC))
    vm, later = "%08d-0000-0000-0000-000000000000" % 1, SINCE + timedelta(hours=1)
    notes.began(vm, SINCE, 2)
    notes.ended(vm, later, Outcome(error=(TIMED_OUT,)))
    notes.began(vm, later, 2)
    notes.ended(vm, later, Outcome(value="OpaqueRef:snapshot"))
    notes.database_written()
    kept = Attempt(vm, SINCE, disks=2, cancelled=True)
    assert Notes(directory, POOL, Log(None, lambda: SINCE, UTC)).earlier == [kept]


def test_a_note_stays_small_enough_to_be_read_again(tmp_path: Path) -> None:
    directory = LockDirectory(str(tmp_path / "lock"))
    notes = Notes(directory, POOL, Log(None, lambda: SINCE, UTC))
    vms = ["%08d-0000-0000-0000-000000000000" % number for number in range(1100)]
    for vm in vms:
        notes.began(vm, SINCE, 1)
        notes.ended(vm, SINCE, Outcome(value="OpaqueRef:" + vm))
    noted = [operation["vm"] for operation in directory.read("pool.taking")["operations"]]
    assert noted == vms[99:]


# --- whole passes, and a xapi that dies ---


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[TestPool]:
    with TestPool(tmp_path) as pool:
        pool.simulator.durations = pool.simulator.durations._replace(
            vdi_snapshot=(4.0, 4.0), orphan_finishes=1.0, lost_wakeup=0.0
        )
        yield pool


class Death:
    """xapi dies as soon as a disk of a snapshot is done that has no VM yet, with the database as it is then."""

    def __init__(self, pool: TestPool, way: str = "kill") -> None:
        self.pool, self.way, self.earlier, self.writes = pool, way, 1, True

    def __call__(self, method: str) -> None:
        if method == "event.from" and self.earlier:
            with TestPoolClient(self.pool) as call:
                if not call("VDI.get_all_where", 'field "is_a_snapshot" = "true" and field "VBDs" = "()"'):
                    return
                self.earlier = 0
                if self.writes:
                    call("pool.sync_database")
                with suppress(Unanswered):
                    call("simulator.restart", self.way, 0.0)
            raise Lose


class TestPoolClient:
    """A client of its own, which may outlive nothing."""

    __test__ = False

    def __init__(self, pool: TestPool) -> None:
        self._xapi = Xapi(pool.place.xapi)

    def __enter__(self) -> Callable[..., Any]:
        self._xapi.login("root", "")
        return self._xapi.call

    def __exit__(self, *error: Any) -> None:
        self._xapi.close()


def fails(pool: TestPool, hook: Callable[[str], None]) -> None:
    """A pass that xapi does not live through."""
    path = "%s.%d" % (pool.socket, len(list(pool.folder.iterdir())))
    Front(path, pool.socket, before=hook)
    with pytest.raises(Problem):
        run(Request(kicked=True), pool.surroundings(place=pool.place._replace(xapi="unix:" + path)))
    pool.xapi.close()
    pool.xapi.login("root", "")


def note(pool: TestPool) -> Path:
    return Path(pool.place.lock_dir) / (pool.uuid("pool", pool.call("pool.get_all")[0]) + ".taking")


def loose(pool: TestPool) -> List[str]:
    """The uuids of snapshot disks without a VM."""
    records = pool.call("VDI.get_all_records").values()
    return sorted(record["uuid"] for record in records if record["is_a_snapshot"] and record["VBDs"] == [])


def told(pool: TestPool) -> List[str]:
    return [line for line in pool.log() if line.startswith("Disk ")]


def at_quarter(pool: TestPool, hour: int) -> None:
    pool.at(hour, 15)


def test_disks_of_a_snapshot_that_xapi_was_stopped_in_are_reported_and_left(pool: TestPool) -> None:
    sr = pool.sr()
    vm = pool.vm("vm", [sr, sr])
    policy = pool.policy([vm])
    pool.simulator.durations = pool.simulator.durations._replace(without_source=0.0)
    at_quarter(pool, 10)
    fails(pool, Death(pool, "clean"))
    pool.at(10, 30)
    left = loose(pool)
    assert left and note(pool).exists()
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1 and loose(pool) == left
    why = "xapi died, or had to give up, in a snapshot of VM %s, and may have left it" % pool.uuid("VM", vm)
    where = pool.uuid("SR", sr)
    assert told(pool) == ["Disk %s on SR %s (1024 MiB) is left alone: %s" % (uuid, where, why) for uuid in left]
    (alert,) = pool.alerts(policy)
    named = "%d (%s)" % (len(left), ", ".join(left))
    assert "Disks that unfinished snapshots may have left: %s; see the log." % named in alert["body"]


def stopped(pool: TestPool, unmarked: bool) -> str:
    """xapi is stopped in the snapshot of a second disk, and does not enter its source; return the disk's uuid."""
    sr = pool.sr()
    vm = pool.vm("vm", [sr, sr])
    pool.policy([vm])
    for name in ("vm 0", "vm 1"):
        pool.vdi(sr, name=name)  # of the same name, size and SR, but nobody's snapshot
    before = set(pool.call("VDI.get_all"))
    pool.simulator.durations = pool.simulator.durations._replace(without_source=1.0, unmarked=float(unmarked))
    pool.at(10, 15)
    fails(pool, Death(pool, "clean"))
    pool.at(10, 30)
    rows = {ref: pool.call("VDI.get_record", ref) for ref in pool.call("VDI.get_all") if ref not in before}
    (left,) = [row for row in rows.values() if row["managed"] and row["snapshot_of"] == NULL]
    assert left["name_label"] in ("vm 0", "vm 1") and left["is_a_snapshot"] is not unmarked
    return str(left["uuid"])


@pytest.mark.parametrize("unmarked", [False, True])
def test_a_disk_of_which_a_stopped_xapi_has_not_entered_the_source_is_reported_and_left(
    pool: TestPool, unmarked: bool
) -> None:
    left = stopped(pool, unmarked)
    assert pool.tick().status == 0
    vm = pool.uuid("VM", pool.call("VM.get_by_name_label", "vm")[0])
    named = [line.split()[1] for line in told(pool)]
    assert len(named) == 2 and left in named  # and the first disk, which was done
    assert all(
        "is left alone: xapi died, or had to give up, in a snapshot of VM %s" % vm in line for line in told(pool)
    )
    assert left in pool.alerts()[-1]["body"]
    pool.call("VDI.get_by_uuid", left)


def listed(pool: TestPool) -> List[str]:
    """The uuids of the list of what is left over."""
    return sorted(item.uuid for item in left_over.read(pool.other_config()))


def test_what_was_found_is_known_though_xapi_dies_right_after(pool: TestPool) -> None:
    left = stopped(pool, False)
    (policy,) = pool.call("VMSS.get_all")
    pool.call("VMSS.set_enabled", policy, False)
    pool.tick()  # nothing is due
    found = listed(pool)
    assert left in found
    pool.call("simulator.restart", "kill", 0.0)
    pool.xapi.login("root", "")
    assert listed(pool) == found


def test_what_was_found_is_said_by_the_next_run_until_it_is_gone(pool: TestPool) -> None:
    left = stopped(pool, True)
    policy = pool.call("VMSS.get_all")[0]
    pool.call("VMSS.set_enabled", policy, False)
    pool.tick()  # nothing is due
    assert left in listed(pool) and len(listed(pool)) == 2 and pool.names() == []
    pool.call("VMSS.set_enabled", policy, True)
    for hour in (11, 12):
        at_quarter(pool, hour)
        pool.tick()
        assert "may have left: 2 (" in pool.alerts()[-1]["body"] and left in pool.alerts()[-1]["body"]
    pool.call("VDI.destroy", pool.call("VDI.get_by_uuid", left))
    at_quarter(pool, 13)
    pool.tick()
    assert left not in pool.alerts()[-1]["body"] and "may have left: 1 (" in pool.alerts()[-1]["body"]
    (other,) = listed(pool)
    # It is a backup tool's after all.
    pool.call("VDI.add_to_other_config", pool.call("VDI.get_by_uuid", other), "vmss-keep", "true")
    at_quarter(pool, 14)
    pool.tick()
    assert "may have left" not in pool.alerts()[-1]["body"] and listed(pool) == []
    assert other in loose(pool)


def images(pool: TestPool) -> Dict[str, Any]:
    """The memory images, by reference."""
    wanted = 'field "type" = "suspend" and field "managed" = "true"'
    found: Dict[str, Any] = pool.call("VDI.get_all_records_where", wanted)
    return found


@pytest.mark.parametrize("way", ["clean", "kill"])
def test_the_memory_that_a_checkpoint_had_begun_to_save_is_reported_until_it_is_gone(pool: TestPool, way: str) -> None:
    sr = pool.sr()
    pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], sr)
    other, halted, vm = pool.vm("other", [sr], True), pool.vm("halted", [sr]), pool.vm("vm", [sr], True)
    # A VM that somebody has suspended, and a checkpoint from before: their memory is nobody's to report.
    pool.call("VM.checkpoint", other, "from before")
    pool.call("VM.suspend", other)
    policy = pool.policy([vm, halted], type="checkpoint")
    before = set(images(pool))
    assert len(before) == 2

    def death(method: str) -> None:
        if method == "event.from" and set(images(pool)) - before:
            pool.call("pool.sync_database")
            with suppress(Unanswered):
                pool.call("simulator.restart", way, 0.0)
            raise Lose

    at_quarter(pool, 10)
    fails(pool, death)
    (left,) = set(images(pool)) - before
    assert pool.call("VM.get_power_state", vm) == "Running"
    pool.at(10, 30)
    assert pool.tick().status == 0 and len(pool.snapshots(vm)) == 1
    uuid = pool.uuid("VDI", left)
    why = "it has the memory of a VM, no suspended VM has it, and a checkpoint may have left it"
    assert [line for line in told(pool) if "memory" in line] == [
        "Disk %s on SR %s (264 MiB) is left alone: %s" % (uuid, pool.uuid("SR", sr), why)
    ]
    assert listed(pool) == [uuid] and uuid in pool.alerts(policy)[-1]["body"]
    assert left in images(pool)
    pool.call("VDI.destroy", left)
    at_quarter(pool, 11)
    pool.tick()
    assert listed(pool) == [] and pool.call("VM.get_power_state", other) == "Suspended"


def test_memory_that_xapi_could_not_destroy_when_it_resumed_the_vm_is_told(pool: TestPool) -> None:
    sr = pool.sr()
    pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], sr)
    pool.policy([pool.vm("vm", [sr], True)], type="checkpoint")
    error = '["SR_BACKEND_FAILURE_80", "", "no", ""]'
    pool.call(
        "simulator.add_fault",
        {"method": "VDI.destroy", "object": "Suspend image", "action": "error", "error": error, "count": "1"},
    )
    at_quarter(pool, 10)
    pool.tick()
    (left,) = [image["uuid"] for image in images(pool).values() if not image["is_a_snapshot"]]
    assert listed(pool) == [left] and len(told(pool)) == 1
    at_quarter(pool, 11)
    pool.tick()
    assert listed(pool) == [left] and left in pool.alerts()[-1]["body"] and len(told(pool)) == 1


def test_a_disk_that_xapi_could_not_destroy_when_it_cancelled_the_snapshot_is_told(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr("one"), pool.sr("two")])
    pool.policy([vm])
    pool.settings = pool.settings._replace(snapshot_limit=60, cancel_limit=10)
    # That of the first disk is done by then.
    late = {"method": "VDI.snapshot", "object": "vm 1", "action": "delay", "seconds": "600", "count": "1"}
    error = '["SR_BACKEND_FAILURE_80", "", "no", ""]'
    pool.call("simulator.add_fault", late)
    pool.call("simulator.add_fault", {"method": "VDI.destroy", "action": "error", "error": error, "count": "1"})
    at_quarter(pool, 10)
    assert pool.tick().status == 1
    pool.at(10, 45)
    assert pool.tick().status == 0
    (left,) = loose(pool)
    assert listed(pool) == [left] and len(told(pool)) == 1 and len(pool.snapshots(vm)) == 1
    pool.at(11, 0)
    pool.tick()
    assert len(told(pool)) == 1 and loose(pool) == [left]


def test_memory_that_a_suspended_vm_has_is_left_over_no_more(pool: TestPool) -> None:
    sr = pool.sr()
    pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], sr)
    vm = pool.vm("vm", [sr], True)
    pool.call("VM.suspend", vm)
    (image,) = images(pool).values()
    item = Item(MEMORY, image["uuid"], "", stuck((), SINCE))
    assert left_over.still_there(pool.xapi, [item]) == []
    pool.simulator.db.set("VM", vm, "power_state", "Running")  # as a xapi that died in VM.suspend leaves it
    assert left_over.still_there(pool.xapi, [item]) == [item]


def test_a_pass_that_nothing_happened_to_leaves_no_note_and_the_next_costs_nothing(pool: TestPool) -> None:
    pool.policy([pool.vm("vm", [pool.sr()])])
    at_quarter(pool, 10)
    assert pool.tick().status == 0
    assert not note(pool).exists()
    pool.at(10, 30)
    pool.call("simulator.reset_counts")
    pool.tick()
    counts = pool.call("simulator.get_counts")
    assert sum(int(count["calls"]) for name, count in counts.items() if not name.startswith("simulator.")) == 4


def killed(pool: TestPool) -> str:
    """A snapshot of two disks in whose middle the database was written and xapi killed; return the VM."""
    sr = pool.sr()
    vm = pool.vm("vm", [sr, sr])
    pool.policy([vm])
    at_quarter(pool, 10)
    fails(pool, Death(pool))
    return vm


def test_after_a_kill_disks_are_found_once_and_again_a_day_later(pool: TestPool) -> None:
    vm = killed(pool)
    left = loose(pool)
    assert len(left) == 1
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert len(told(pool)) == 1 and len(pool.snapshots(vm)) == 1
    pool.at(11, 15)
    pool.tick()
    assert len(told(pool)) == 1
    pool.at(11, 15, day=3)
    pool.tick()
    assert len(told(pool)) == 2 and not note(pool).exists()
    pool.at(11, 15, day=5)
    pool.tick()
    assert len(told(pool)) == 2 and loose(pool) == left


def foreign_snapshot(pool: TestPool, vm: str) -> str:
    """The uuid of a snapshot of a VM's first disk that somebody else makes with VDI.snapshot."""
    disk = pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", vm)[0])
    return pool.uuid("VDI", pool.call("VDI.snapshot", disk, {}))


class LateDeath(Death):
    """The database is written when the first disks are done; xapi dies when the snapshots are, and were seen."""

    def __call__(self, method: str) -> None:
        with TestPoolClient(self.pool) as call:
            if method == "event.from" and self.earlier == 1:
                if call("VDI.get_all_where", 'field "is_a_snapshot" = "true" and field "VBDs" = "()"'):
                    self.earlier = 2
                    call("pool.sync_database")
            elif self.earlier == 3:
                self.earlier = 0
                with suppress(Unanswered):
                    call("simulator.restart", self.way, 0.0)
                raise Lose
            elif self.earlier == 2 and method == "VBD.get_all_records_where":
                self.earlier = 3


def sixty(pool: TestPool) -> List[str]:
    """Sixty VMs that are due, each with two disks on SRs of their own; one has more and takes longest."""
    vms = [pool.vm("vm%d" % number, [pool.sr(), pool.sr()] * (3 if number == 0 else 1)) for number in range(60)]
    pool.policy(vms)
    at_quarter(pool, 10)
    return vms


def test_disks_that_were_seen_on_snapshots_whose_records_are_lost_are_destroyed(pool: TestPool) -> None:
    vms = sixty(pool)
    fails(pool, LateDeath(pool))
    assert len(loose(pool)) == 60 and not any(pool.snapshots(vm) for vm in vms)
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert [len(pool.snapshots(vm)) for vm in vms] == [1] * 60
    destroyed = [line for line in told(pool) if "whose record xapi has lost: it is destroyed" in line]
    left = loose(pool)
    assert len(destroyed) >= 50 and len(destroyed) + len(left) == 60
    # The slow one's snapshot was never finished.
    assert [line for line in told(pool) if "left alone" in line and pool.uuid("VM", vms[0]) in line]
    assert sorted(line.split()[1] for line in told(pool) if "left alone" in line) == left
    assert not any(key.startswith("vmss-destroying:") for key in pool.other_config())
    assert len(pool.snapshot_vdis()) == 59 * 2 + 6 + len(left)


def test_snapshots_that_others_made_of_the_same_disks_at_the_same_time_stay(pool: TestPool) -> None:
    vms = sixty(pool)
    death = LateDeath(pool)
    others: List[str] = []

    def with_others(method: str) -> None:
        """Somebody makes snapshots of the disks whose turn is later, while ours are being made of the first."""
        if method == "event.from" and not others:
            with TestPoolClient(pool) as call:
                for vm in vms[1:4]:
                    disks = [call("VBD.get_VDI", vbd) for vbd in call("VM.get_VBDs", vm)]
                    others.extend(disk for disk in disks if not call("VDI.get_current_operations", disk))
                for disk in others:
                    call("Async.VDI.snapshot", disk, {})
        death(method)

    fails(pool, with_others)
    foreign = {pool.uuid("VDI", snapshot) for disk in others for snapshot in pool.call("VDI.get_snapshots", disk)}
    assert len(foreign) == 3 and foreign < set(loose(pool)) and len(loose(pool)) == 63
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert foreign < set(loose(pool))
    assert sum("destroyed" in line for line in told(pool)) >= 50
    assert foreign < {line.split()[1] for line in told(pool) if "left alone" in line}


def test_a_pass_that_lasts_sees_the_disks_of_few_snapshots_too(pool: TestPool) -> None:
    quick, slow = pool.vm("quick", [pool.sr()] * 2), pool.vm("slow", [pool.sr()] * 30)
    pool.policy([quick, slow])
    at_quarter(pool, 10)
    pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(8.0, 8.0))
    fails(pool, LateDeath(pool))
    assert len(loose(pool)) == 2 and not pool.snapshots(quick)
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert ["destroyed" in line for line in sorted(told(pool), key=len)] == [False, True]
    assert len(loose(pool)) == 1


def test_what_a_host_may_have_left_that_was_lost_with_a_snapshot_is_reported_a_day_later(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm])
    at_quarter(pool, 10)
    left = foreign_snapshot(pool, vm)  # it cannot be told from one
    pool.call(
        "simulator.add_fault",
        {
            "method": "VM.snapshot",
            "action": "error",
            "error": '["CANNOT_CONTACT_HOST", "%s"]' % pool.host,
            "count": "0",
        },
    )
    assert pool.tick().status == 1
    pool.call("simulator.clear_faults")
    at_quarter(pool, 11)
    pool.tick()
    assert told(pool) == [] and note(pool).exists()
    pool.at(11, 15, day=3)
    pool.tick()
    assert len(told(pool)) == 1 and left in told(pool)[0] and loose(pool) == [left]
    assert not note(pool).exists()


def test_a_foreign_snapshot_after_the_death_is_not_even_reported(pool: TestPool) -> None:
    vm = killed(pool)
    pool.at(10, 25)
    foreign = foreign_snapshot(pool, vm)
    pool.at(10, 30)
    pool.tick()
    assert foreign in loose(pool)
    assert len(told(pool)) == 1 and foreign not in told(pool)[0]


def test_disks_whose_records_were_lost_are_reported_when_a_scan_has_found_them(pool: TestPool) -> None:
    sr = pool.sr()
    vm = pool.vm("vm", [sr, sr])
    pool.policy([vm])
    at_quarter(pool, 10)
    pool.call("pool.sync_database")
    death = Death(pool)
    death.writes = False
    fails(pool, death)
    assert loose(pool) == []
    pool.at(10, 20)
    pool.call("SR.scan", sr)
    records = pool.call("VDI.get_all_records_where", 'field "name__label" = "" and field "managed" = "true"')
    nameless = sorted(record["uuid"] for record in records.values())
    assert nameless
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert sorted(told(pool)) == [
        "Disk %s on SR %s (1024 MiB) is left alone: it has no name and no VM, and a xapi that died may have left it"
        % (uuid, pool.uuid("SR", sr))
        for uuid in nameless
    ]
    for uuid in nameless:
        pool.call("VDI.get_by_uuid", uuid)


def test_where_xapi_lives_nothing_is_looked_for(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm])
    at_quarter(pool, 10)
    hits: List[str] = []

    def lose_once(method: str) -> None:
        if method == "event.from" and not hits:
            hits.append(method)
            raise Lose

    pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(1200.0, 1200.0))
    fails(pool, lose_once)
    pool.at(10, 30)
    pool.tick()
    assert note(pool).exists()  # when that pass began it was under way
    foreign = foreign_snapshot(pool, vm)
    pool.at(10, 59)
    pool.tick()
    assert len(pool.snapshots(vm)) == 1 and foreign in loose(pool)
    assert told(pool) == [] and not note(pool).exists()


def test_while_somebody_takes_a_snapshot_of_the_vm_its_disks_are_not_judged(pool: TestPool) -> None:
    vm = killed(pool)
    left = loose(pool)
    pool.at(10, 20)
    pool.call("Async.VM.snapshot", vm, "by hand")
    pool.tick()
    assert told(pool) == []
    pool.at(11, 15)
    pool.tick()
    assert len(told(pool)) == 1 and left[0] in told(pool)[0]


def forge(pool: TestPool, vm: str, seen: Dict[str, List[str]]) -> None:
    """A note that says an operation of ours had a snapshot, by its reference, with these disks."""
    uuid = pool.uuid("VM", vm)
    value = {"operations": [{"vm": uuid, "since": "20260302T10:15:00Z"}], "disks": {uuid: seen}}
    pool.tick()  # makes the folder
    note(pool).write_text(json.dumps(value))


def test_a_forged_note_gets_no_disk_destroyed_that_is_in_use_or_no_snapshot_or_not_of_that_time(pool: TestPool) -> None:
    sr = pool.sr()
    vm, other = pool.vm("vm", [sr, sr]), pool.vm("other", [sr])
    policy = pool.policy([vm])
    pool.call("VMSS.set_enabled", policy, False)
    pool.at(9, 0)
    early = foreign_snapshot(pool, vm)
    pool.at(10, 15)
    snapshot = pool.call("VM.snapshot", vm, "by hand")
    in_time = foreign_snapshot(pool, vm)
    lent = pool.call("VDI.get_by_uuid", foreign_snapshot(pool, vm))
    pool.vbd(other, lent, 5)
    iso = pool.vdi(sr, name="an ISO")
    pool.vbd(vm, iso, 7, type="CD", mode="RO")
    pool.call("pool.sync_database")
    with suppress(Unanswered):
        pool.call("simulator.restart", "kill", 0.0)
    pool.xapi.close()
    pool.xapi.login("root", "")
    pool.at(10, 30)
    before = pool.call("VDI.get_all_records")
    # Everything there is, under a snapshot that is gone; what others made in time under one that is not.
    everything = [ref for ref in before if before[ref]["uuid"] != in_time]
    forge(pool, vm, {"OpaqueRef:%s" % early: everything, snapshot: list(before)})
    pool.tick()
    pool.at(11, 15)
    pool.tick()
    assert set(pool.call("VDI.get_all_records")) == set(before)
    assert [line for line in told(pool) if "destroyed" in line] == []
    assert len(told(pool)) == 1 and in_time in told(pool)[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "nonsense",
        '{"operations": 5, "disks": 5}',
        '{"operations": [5, {}, {"vm": "x"}], "disks": {"x": 5}}',
        '{"operations": [{"vm": "11111111-1111-1111-1111-111111111111", "since": "soon"}]}',
        '{"operations": [{"vm": "\\" or true", "since": "20260302T10:15:00Z"}], "disks": []}',
        '{"operations": [{"vm": "11111111-1111-1111-1111-111111111111", "since": "20260302T10:15:00Z", "until": 7}]}',
        '{"operations": [{"vm": "11111111-1111-1111-1111-111111111111", "since": "20260302T10:00:00Z"}], "disks": {}}',
    ],
)
def test_a_note_that_makes_no_sense_is_none(pool: TestPool, text: str) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm])
    pool.tick()
    note(pool).write_text(text)
    at_quarter(pool, 10)
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1 and told(pool) == []


@pytest.mark.parametrize("scan", [False, True])
def test_a_destroyed_snapshot_that_comes_back_without_its_disks_is_destroyed_again(pool: TestPool, scan: bool) -> None:
    sr = pool.sr()
    vm = pool.vm("vm", [sr, sr])
    pool.policy([vm], retained_snapshots="1")
    at_quarter(pool, 10)
    assert pool.tick().status == 0
    at_quarter(pool, 11)
    hits: List[str] = []

    def die_at_the_end(method: str) -> None:
        if method == "pool.sync_database" and not hits:
            hits.append(method)
            with TestPoolClient(pool) as call, suppress(Unanswered):
                call("simulator.restart", "kill", 0.0)
            raise Lose

    pool.call("pool.sync_database")
    fails(pool, die_at_the_end)
    assert len(pool.snapshots(vm)) == 1  # the old one; of the new one there is no record
    if scan:
        pool.call("SR.scan", sr)
    for hour in (12, 13):
        at_quarter(pool, hour)
        assert pool.tick().status == 0
    (snapshot,) = pool.snapshots(vm)
    assert str(snapshot["snapshot_time"]).startswith("20260302T13:15")
    assert len(pool.snapshot_vdis()) == 2 and pool.names()[-1] == "VMSS_SNAPSHOT_SUCCEEDED"


def test_a_look_that_is_refused_holds_up_nothing_and_is_made_again_a_day_later(pool: TestPool) -> None:
    vm = killed(pool)
    pool.call(
        "simulator.add_fault",
        {"method": "host.get_other_config", "action": "error", "error": '["INTERNAL_ERROR", "no"]'},
    )
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1 and told(pool) == []
    assert "Disks that a xapi that died has left cannot be looked for: INTERNAL_ERROR no" in pool.log()
    pool.at(10, 45, day=3)
    pool.tick()
    assert len(told(pool)) == 1


def test_where_xapi_does_not_say_since_when_it_runs_nothing_is_destroyed(pool: TestPool) -> None:
    sixty(pool)
    fails(pool, LateDeath(pool))
    pool.call("host.remove_from_other_config", pool.host, "agent_start_time")
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert len(loose(pool)) == 60
    assert len(told(pool)) == 60 and all("is left alone" in line for line in told(pool))


def test_a_disk_that_was_seen_on_a_snapshot_that_is_still_there_is_left(pool: TestPool) -> None:
    vm = killed(pool)
    (left,) = loose(pool)
    snapshot = pool.call("VM.snapshot", vm, "by hand")
    kept = json.loads(note(pool).read_text())
    kept["disks"] = {pool.uuid("VM", vm): {snapshot: [pool.call("VDI.get_by_uuid", left)]}}
    note(pool).write_text(json.dumps(kept))
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert loose(pool) == [left] and "is left alone" in told(pool)[0]
    pool.call("VM.destroy", snapshot)


def test_a_look_costs_calls_by_the_number_of_vms_that_were_under_way(pool: TestPool) -> None:
    killed(pool)
    idle = [pool.vm("idle%d" % number, [pool.sr()]) for number in range(20)]
    pool.policy(idle, name="idle", schedule={"min": "0"})
    pool.call("simulator.reset_counts")
    Path(pool.place.log).write_text("")
    calls: List[str] = []
    path = pool.socket + ".counting"
    Front(path, pool.socket, before=calls.append)
    pool.at(10, 30)
    run(Request(kicked=True), pool.surroundings(place=pool.place._replace(xapi="unix:" + path)))
    looking = calls[calls.index("host.get_other_config") : calls.index("VMSS.get_all_records")]
    assert looking == [
        "host.get_other_config",
        "VM.get_all_records_where",
        "VBD.get_all_records_where",
        "VDI.get_all_records_where",
        "VDI.get_all_records_where",
        "SR.get_uuid",
        "VDI.get_all_records_where",
        "VDI.get_all_records_where",
        "VDI.get_all_records_where",  # memory images; there is none of which to ask whose it is
        "pool.add_to_other_config",
        "pool.sync_database",
    ]


# --- xapi dies while old snapshots are being destroyed ---


class DeathInDeletion:
    """xapi dies when a pass is about to destroy one more disk, with the database as it is on the coordinator's disk."""

    def __init__(self, pool: TestPool, disks: int) -> None:
        self.pool, self.disks = pool, disks

    def __call__(self, method: str) -> None:
        if method == "Async.VDI.destroy":
            self.disks -= 1
            if self.disks == 0:
                with TestPoolClient(self.pool) as call, suppress(Unanswered):
                    call("simulator.restart", "kill", 0.0)
                raise Lose


def usable(pool: TestPool, vm: str) -> List[str]:
    """The scheduled snapshots of a VM that have all their disks."""
    disks = len([vbd for vbd in pool.call("VM.get_VBDs", vm) if pool.call("VBD.get_type", vbd) == "Disk"])
    there = set(pool.call("VDI.get_all"))
    return [
        snapshot["uuid"]
        for snapshot in pool.snapshots(vm)
        if len([vbd for vbd in snapshot["VBDs"] if pool.call("VBD.get_VDI", vbd) in there]) == disks
    ]


@pytest.mark.parametrize("disks", [1, 2, 5, 12])
def test_after_a_death_of_xapi_while_old_snapshots_go_every_vm_has_a_usable_one(pool: TestPool, disks: int) -> None:
    # Seen on a real xapi: of six VMs, all had only the old record, and two of these had no disks any more.
    vms = [pool.vm("vm%d" % number, [pool.sr("sr%d" % (number % 2))] * 2) for number in range(6)]
    pool.policy(vms, retained_snapshots="1")
    pool.at(10, 15)
    assert pool.tick().status == 0
    pool.call("pool.sync_database")
    pool.at(11, 15)
    fails(pool, DeathInDeletion(pool, disks))
    for sr in pool.call("SR.get_all"):
        with suppress(Refused):  # xapi's own ones have nothing to scan
            pool.call("SR.scan", sr)  # which removes the records of disks that are gone
    assert all(usable(pool, vm) for vm in vms)
    pool.at(11, 30)
    pool.tick()
    assert all(usable(pool, vm) for vm in vms)
    pool.at(12, 15)
    assert pool.tick().status == 0
    assert [len(usable(pool, vm)) for vm in vms] == [1] * 6
    assert [len(pool.snapshots(vm)) for vm in vms] == [1] * 6


def test_nothing_is_destroyed_while_xapi_cannot_write_its_database(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], retained_snapshots="1")
    pool.at(10, 15)
    assert pool.tick().status == 0
    full = {"method": "pool.sync_database", "action": "error", "error": '["INTERNAL_ERROR", "no space"]', "count": "0"}
    pool.call("simulator.add_fault", full)
    pool.at(11, 15)
    assert pool.tick().status == 1
    assert len(pool.snapshots(vm)) == 2
    assert pool.names(policy)[-1] == "VMSS_SNAPSHOT_FAILED"
    pool.call("simulator.clear_faults")
    pool.at(12, 15)
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1
