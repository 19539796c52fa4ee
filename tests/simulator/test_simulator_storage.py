"""SRs: one operation at a time, the queue of those who wait, space, chains, and the garbage collector."""

from datetime import timedelta
from typing import Any

import pytest

from vmss.simulator import Durations, Simulator
from vmss.simulator.build import vdi_record

from .client import Client

GIB = 1024**3
MIB = 1024**2
EXACT = Durations(vdi_snapshot=(2.0, 2.0), vdi_destroy=(1.0, 1.0), lost_wakeup=0.0)


def depth(root: Client, disk: str) -> int:
    """How many images the chain of a disk has."""
    row = root.sim.db.row("VDI", disk)
    return root.sim.storage.manager.repository(row["SR"]).depth(row["uuid"])


@pytest.fixture
def exact(root: Client) -> Any:
    """A client of a simulator whose storage operations take exactly known times."""
    sim = Simulator(seed=1, now=root.sim.now(), durations=EXACT)
    return type(root)(sim, sim.call("session.login_with_password", "root", ""))


def machines(root: Client, sr: Any, count: Any) -> Any:
    vms = [root.vm("vm%d" % number) for number in range(count)]
    for vm in vms:
        root.disk(vm, sr)
    return vms


def elapsed(root: Client, calls: Any) -> Any:
    """Start calls together; return after how many seconds each of them ended, sorted."""
    begin = root.sim.kernel.now()
    tasks = [root(*call) for call in calls]
    ends = []
    for task in tasks:
        # `finished` has whole seconds, so the clock is read instead.
        ends.append(root.task_end(task))
    assert {end["status"] for end in ends} == {"success"}
    return sorted((end["finished"].timestamp() - int(begin)) for end in ends)


def test_one_operation_runs_on_an_sr_at_a_time(exact: Client) -> None:
    one = exact.sr()
    vms = machines(exact, one, 2)
    ends = elapsed(exact, [("Async.VM.snapshot", vm, "x") for vm in vms])
    assert ends[1] - ends[0] >= 2


def test_different_srs_run_side_by_side(exact: Client) -> None:
    vms = machines(exact, exact.sr(), 1) + machines(exact, exact.sr(), 1)
    ends = elapsed(exact, [("Async.VM.snapshot", vm, "x") for vm in vms])
    assert ends[0] == ends[1]


def test_two_snapshots_of_one_vm_are_allowed_and_queue(exact: Client) -> None:
    (vm,) = machines(exact, exact.sr(), 1)
    elapsed(exact, [("Async.VM.snapshot", vm, "x"), ("Async.VM.snapshot", vm, "y")])
    assert len(exact("VM.get_snapshots", vm)) == 2


def test_the_sr_shows_what_runs_and_the_vm_what_waits(exact: Client) -> None:
    sr = exact.sr()
    vms = machines(exact, sr, 2)
    tasks = [exact("Async.VM.snapshot", vm, "x") for vm in vms]
    assert list(exact("SR.get_current_operations", sr).values()) == ["vdi_snapshot"]
    assert exact("SR.get_allowed_operations", sr) == []
    for vm, task in zip(vms, tasks):
        assert exact("VM.get_current_operations", vm) == {task: "snapshot"}
        assert exact("VM.get_allowed_operations", vm) == ["snapshot"]
    for task in tasks:
        exact.task_end(task)
    assert exact("SR.get_current_operations", sr) == {}


def test_other_operations_of_a_busy_vm_wait_for_it(exact: Client) -> None:
    (vm,) = machines(exact, exact.sr(), 1)
    task = exact("Async.VM.snapshot", vm, "x")
    exact("VM.clone", vm, "copy")
    assert exact("task.get_status", task) == "success"


def test_a_waiting_destroy_finds_its_disk_gone(exact: Client) -> None:
    disk = exact("VDI.create", vdi_record("d", exact.sr(), GIB))
    tasks = [exact("Async.VDI.destroy", disk) for _ in range(2)]
    ends = [exact.task_end(task) for task in tasks]
    assert [end["status"] for end in ends] == ["success", "failure"]
    assert ends[1]["error_info"] == ["HANDLE_INVALID", "VDI", disk]


def test_when_more_than_a_hundred_wait_the_next_is_refused(exact: Client) -> None:
    sr = exact.sr()
    disks = [exact("VDI.create", vdi_record("d", sr, GIB)) for _ in range(103)]
    tasks = [exact("Async.VDI.destroy", disk) for disk in disks]
    assert exact("task.get_error_info", tasks[102]) == ["TOO_MANY_PENDING_TASKS"]
    # One runs, 101 wait.
    assert exact("task.get_status", tasks[101]) == "pending"


def test_after_two_hours_a_waiter_gives_up(root: Client) -> None:
    durations = Durations(vdi_snapshot=(9000.0, 9000.0))
    sim = Simulator(seed=1, durations=durations)
    client = type(root)(sim, sim.call("session.login_with_password", "root", ""))
    sr = client.sr()
    one, two = (client("VDI.create", vdi_record("d", sr, GIB)) for _ in range(2))
    slow = client("Async.VDI.snapshot", one, {})
    busy = client.error("VDI.destroy", two)
    (running,) = client("SR.get_current_operations", sr)
    assert busy == ["OTHER_OPERATION_IN_PROGRESS", "SR", sr, "VDI.snapshot", running] and running == slow


def test_sizes_are_rounded_to_blocks_and_bounded(root: Client) -> None:
    sr = root.sr()
    assert root("VDI.get_virtual_size", root("VDI.create", vdi_record("tiny", sr, 1))) == 2 * MIB
    assert root("VDI.get_virtual_size", root("VDI.create", vdi_record("odd", sr, 3 * MIB + 1))) == 4 * MIB
    for size in (3 * 1024 * GIB, -5):
        assert root.error("VDI.create", vdi_record("bad", sr, size))[0] == "SR_BACKEND_FAILURE_79"


def test_a_thin_sr_takes_only_what_is_written(root: Client) -> None:
    sr = root.sr("nfs")
    disk = root("VDI.create", vdi_record("d", sr, 10 * GIB))
    assert root("SR.get_virtual_allocation", sr) == 10 * GIB
    before = root("SR.get_physical_utilisation", sr)
    assert before < MIB
    root("simulator.write", disk, 100 * MIB)
    assert 100 * MIB < root("SR.get_physical_utilisation", sr) - before < 101 * MIB


def test_a_thick_sr_takes_the_whole_disk_and_a_snapshot_its_used_size(root: Client) -> None:
    sr = root.sr("lvm")
    disk = root("VDI.create", vdi_record("d", sr, 10 * GIB))
    full = root("SR.get_physical_utilisation", sr)
    assert full == 10 * GIB + 28 * MIB
    root("simulator.write", disk, GIB)
    root("VDI.snapshot", disk, {})
    # The base shrinks to what is used, the leaf stays full, the snapshot is an empty volume.
    assert GIB <= root("SR.get_physical_utilisation", sr) - full <= GIB + 16 * MIB
    assert root("VDI.get_sm_config", disk)["vdi_type"] == "vhd"


def test_full_srs_give_the_codes_of_their_kind(root: Client) -> None:
    thick = root.sr("lvm", 10 * GIB + 60 * MIB)
    disk = root("VDI.create", vdi_record("d", thick, 10 * GIB))
    root("simulator.write", disk, GIB)
    assert root.error("VDI.snapshot", disk, {})[0] == "SR_BACKEND_FAILURE_44"
    assert root.error("VDI.create", vdi_record("d", thick, GIB))[0] == "SR_BACKEND_FAILURE_44"
    thin = root.sr("nfs", 100 * MIB)
    disk = root("VDI.create", vdi_record("d", thin, 10 * GIB))
    root("simulator.write", disk, 200 * MIB)
    expected = ["SR_BACKEND_FAILURE_81", "", "Failed to clone VDI [opterr=VDI clone failed error 28]", ""]
    assert root.error("VDI.snapshot", disk, {}) == expected
    assert root.error("VDI.create", vdi_record("d", thin, GIB))[0] == "SR_BACKEND_FAILURE_78"
    assert root("SR.get_physical_utilisation", thin) == 100 * MIB


def test_an_unwritten_disk_grows_no_chain_and_a_written_one_ends_at_thirty(root: Client) -> None:
    sr = root.sr()
    vm = root.vm()
    disk = root.disk(vm, sr)
    for number in range(3):
        root("VM.snapshot", vm, "empty %d" % number)
    assert depth(root, disk) == 2
    for number in range(28):
        root("simulator.write", disk, MIB)
        root("VM.snapshot", vm, "written %d" % number)
    assert depth(root, disk) == 30
    too_long = ["SR_BACKEND_FAILURE_109", "", "The snapshot chain is too long", ""]
    before = len(root("VDI.get_all"))
    root("simulator.write", disk, MIB)
    assert root.error("VM.snapshot", vm, "x") == too_long
    assert len(root("VDI.get_all")) == before and "snapshot" in root("VM.get_allowed_operations", vm)
    # A disk that cannot be paused is noticed before its chain is measured.
    root("VDI.add_to_sm_config", disk, "paused", "true")
    assert root.error("VM.snapshot", vm, "x")[0] == "SR_BACKEND_FAILURE_82"


def test_a_base_copy_is_not_for_clients_to_destroy(root: Client) -> None:
    disk = root("VDI.create", vdi_record("d", root.sr(), GIB))
    root("VDI.snapshot", disk, {})
    base = root("VDI.get_all_where", 'field "managed" = "false"')[0]
    assert root.error("VDI.destroy", base) == ["VDI_NOT_MANAGED", base]
    assert "destroy" in root("VDI.get_allowed_operations", base)


def test_what_may_not_be_snapshotted_says_why(root: Client) -> None:
    sr = root.sr()
    disk = root("VDI.create", dict(vdi_record("d", sr, GIB), sharable=True))
    assert root.error("VDI.snapshot", disk, {}) == ["VDI_IS_SHARABLE", disk]
    disk = root("VDI.create", vdi_record("d", sr, GIB))
    root("VDI.set_on_boot", disk, "reset")
    assert root.error("VDI.snapshot", disk, {}) == ["VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION"]
    isos = root.sr("iso")
    iso = root("VDI.introduce", "", "a.iso", "", isos, "user", False, True, {}, "a.iso", {}, {}, True, "1000")
    assert root.error("VDI.snapshot", iso, {}) == ["SR_OPERATION_NOT_SUPPORTED", isos]


def test_the_collector_merges_what_destroyed_snapshots_leave(root: Client) -> None:
    sr = root.sr()
    disk = root("VDI.create", vdi_record("d", sr, GIB))
    snaps = []
    for _ in range(4):
        root("simulator.write", disk, 10 * MIB)
        snaps.append(root("VDI.snapshot", disk, {}))
    assert depth(root, disk) == 5
    for snap in snaps:
        root("VDI.destroy", snap)
    assert root("task.get_all_where", 'field "name__label" = "Garbage Collection"')
    root.sim.set_time(root.sim.now() + timedelta(seconds=200))
    assert depth(root, disk) == 5
    root.sim.set_time(root.sim.now() + timedelta(seconds=600))
    assert root("VDI.get_all") == [disk] and depth(root, disk) == 1
    root("SR.scan", sr)
    assert "vhd-parent" not in root("VDI.get_sm_config", disk)
    assert 40 * MIB <= root("VDI.get_physical_utilisation", disk) < 41 * MIB


@pytest.mark.parametrize("switch, left", [("gc", 2), ("leaf-coalesce", 2), ("coalesce", 2)])
def test_the_collectors_switches_are_heeded(root: Client, switch: Any, left: Any) -> None:
    sr = root.sr()
    root("SR.add_to_other_config", sr, switch, "false")
    disk = root("VDI.create", vdi_record("d", sr, GIB))
    root("VDI.destroy", root("VDI.snapshot", disk, {}))
    root.sim.set_time(root.sim.now() + timedelta(hours=1))
    assert len(root("VDI.get_all")) == left


def test_an_sr_without_pbd_or_with_one_is_treated_as_xapi_does(root: Client) -> None:
    sr = root.sr()
    assert root.error("SR.forget", sr) == ["SR_HAS_PBD", sr]
    (pbd,) = root("SR.get_PBDs", sr)
    root("PBD.unplug", pbd)
    assert root.error("SR.scan", sr) == ["SR_HAS_NO_PBDS", sr]
    root("SR.forget", sr)
    assert root("SR.get_all") == []
    assert root.error("SR.create", root("host.get_all")[0], {}, "0", "", "", "nosuch", "", False, {})[0] == (
        "INTERNAL_ERROR"
    )


def test_on_a_read_only_file_system_nothing_is_created_or_destroyed(root: Client) -> None:
    sr = root.sr()
    disk = root("VDI.create", vdi_record("d", sr, GIB))
    root("simulator.set_read_only", sr, True)
    expected = ["SR_BACKEND_FAILURE_78", "", "VDI Creation failed [opterr=error 30]", ""]
    assert root.error("VDI.create", vdi_record("e", sr, GIB)) == expected
    code, _, text, _ = root.error("VDI.destroy", disk)
    path = "/run/sr-mount/%s/%s.vhd" % (root("SR.get_uuid", sr), root("VDI.get_uuid", disk))
    assert code == "SR_BACKEND_FAILURE_80" and text.endswith("[Errno 30] Read-only file system: '%s']" % path)
    assert root("SR.get_VDIs", sr) == [disk]
    root("simulator.set_read_only", sr, False)
    root("VDI.destroy", disk)
    assert root("SR.get_VDIs", sr) == []


def test_a_disk_in_use_offers_what_it_then_allows(root: Client) -> None:
    vm = root.vm()
    disk = root.disk(vm, root.sr())
    offered = root("VDI.get_allowed_operations", disk)
    root("VM.start", vm, False, False)
    assert root("VDI.get_allowed_operations", disk) == ["clone", "snapshot"]
    root("VM.hard_shutdown", vm)
    assert root("VDI.get_allowed_operations", disk) == offered


def test_an_sr_without_pbds_can_be_forgotten_only(root: Client) -> None:
    sr = root.sr()
    (pbd,) = root("SR.get_PBDs", sr)
    root("PBD.unplug", pbd)
    root("PBD.destroy", pbd)
    assert root.error("SR.destroy", sr) == ["SR_HAS_NO_PBDS", sr]
    root("SR.forget", sr)


# --- which host serves an SR ---


def pbd_of(root: Client, sr: str, host: str) -> Any:
    (pbd,) = [pbd for pbd in root("SR.get_PBDs", sr) if root("PBD.get_host", pbd) == host]
    return pbd


@pytest.fixture
def hosts(exact: Client) -> Any:
    """The coordinator and another host."""
    return [exact.sim.hosts.coordinator, exact("host.create", "", "host2", "", "host2", "192.0.2.2")]


def test_a_shared_sr_is_served_by_the_coordinator_alone(exact: Client, hosts: Any) -> None:
    sr = exact.sr()
    vm = exact.vm()
    disk = exact.disk(vm, sr)
    pbd = pbd_of(exact, sr, hosts[0])
    exact("PBD.unplug", pbd)
    calls: Any = [("SR.scan", sr), ("VDI.snapshot", disk, {}), ("VDI.destroy", disk), ("VM.snapshot", vm, "x")]
    for call in calls:
        assert exact.error(*call) == ["SR_HAS_NO_PBDS", sr]
    exact("PBD.plug", pbd)
    exact("PBD.unplug", pbd_of(exact, sr, hosts[1]))
    exact("VM.snapshot", vm, "x")


def test_an_sr_of_a_dead_host_cannot_be_reached(exact: Client, hosts: Any) -> None:
    sr = exact("SR.create", hosts[1], {"location": "/srv"}, "0", "local", "", "ext", "user", False, {})
    disk = exact("VDI.create", vdi_record("d", sr, GIB))
    (pbd,) = exact("SR.get_PBDs", sr)
    exact("simulator.kill_host", hosts[1])
    for call in (("SR.scan", sr), ("VDI.destroy", disk), ("PBD.unplug", pbd), ("PBD.plug", pbd)):
        assert exact.error(*call) == ["CANNOT_CONTACT_HOST", hosts[1]]
    exact.sim.set_time(exact.sim.now() + timedelta(seconds=601))
    assert exact.error("VDI.destroy", disk) == ["HOST_OFFLINE", hosts[1]]
    exact("simulator.start_host", hosts[1])
    exact("VDI.destroy", disk)


def test_a_member_that_plugs_a_shared_sr_neither_scans_nor_mends_it(exact: Client, hosts: Any) -> None:
    sr = exact.sr()
    disk = exact("VDI.create", vdi_record("d", sr, GIB))
    exact("VDI.add_to_sm_config", disk, "paused", "true")
    own = exact("SR.create", hosts[1], {"location": "/own"}, "0", "local", "", "ext", "user", False, {})
    local = exact("VDI.create", vdi_record("d", own, GIB))
    exact("VDI.add_to_sm_config", local, "paused", "true")
    scans = []
    for where, host in ((sr, hosts[1]), (own, hosts[1]), (sr, hosts[0])):
        exact("PBD.unplug", pbd_of(exact, where, host))
        exact("PBD.plug", pbd_of(exact, where, host))
        scans.append(("dirty" in exact("SR.get_other_config", where), "paused" in exact("VDI.get_sm_config", disk)))
    assert scans == [(True, True), (True, True), (False, False)]
    assert "paused" not in exact("VDI.get_sm_config", local)


def test_an_sr_is_unplugged_only_when_nothing_runs_on_it(exact: Client) -> None:
    sr = exact.sr()
    (pbd,) = exact("SR.get_PBDs", sr)
    task = exact("Async.VDI.snapshot", exact("VDI.create", vdi_record("d", sr, GIB)), {})
    unplug = exact("Async.PBD.unplug", pbd)
    assert exact("SR.get_current_operations", sr) == {task: "vdi_snapshot"}
    assert exact.task_end(task)["status"] == "success" and exact("PBD.get_currently_attached", pbd)
    assert exact("SR.get_current_operations", sr) == {unplug: "unplug"}
    assert exact.task_end(unplug)["status"] == "success" and not exact("PBD.get_currently_attached", pbd)


def test_hosts_plug_an_sr_side_by_side(exact: Client, hosts: Any) -> None:
    sr = exact.sr()
    pbds = exact("SR.get_PBDs", sr)
    for pbd in pbds:
        exact("PBD.unplug", pbd)
    tasks = [exact("Async.PBD.plug", pbd) for pbd in pbds]
    assert exact("SR.get_current_operations", sr) == dict.fromkeys(tasks, "plug")
    assert exact("SR.get_allowed_operations", sr) == ["plug"]
    for task in tasks:
        assert exact.task_end(task)["status"] == "success"
