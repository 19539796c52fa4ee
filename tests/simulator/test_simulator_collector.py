"""The garbage collector: when it starts, what it does first, what it leaves alone, and what it tells."""

from datetime import timedelta
from typing import Any, Dict, List

import pytest

from vmss.simulator import Durations, Simulator
from vmss.simulator.build import vdi_record
from vmss.simulator.images import Repository

from .client import Client
from .conftest import START

GIB = 1024**3
MIB = 1024**2
QUIET = 300


@pytest.fixture
def root() -> Client:
    """Snapshots take two seconds, a destroy one, and a merge one second and one more for each 100 MB."""
    durations = Durations(
        vdi_snapshot=(2.0, 2.0), vdi_destroy=(1.0, 1.0), lost_wakeup=0.0, merge_bytes_per_second=100.0 * MIB
    )
    sim = Simulator(seed=1, now=START, durations=durations)
    return Client(sim, sim.call("session.login_with_password", "root", ""))


def wait(root: Client, seconds: float) -> None:
    root.sim.set_time(root.sim.now() + timedelta(seconds=seconds))


def disk_on(root: Client, sr: str, size: int = GIB) -> str:
    return str(root("VDI.create", vdi_record("d", sr, size)))


def chain(root: Client, disk: str, sizes: List[int]) -> List[Any]:
    """Write and snapshot again and again; the snapshots."""
    snaps = []
    for size in sizes:
        root("simulator.write", disk, size)
        snaps.append(root("VDI.snapshot", disk, {}))
    return snaps


def tree(root: Client, sr: str) -> Repository:
    """What lies on an SR, checked to be a sound tree."""
    repository = root.sim.storage.manager.repository(sr)
    images = repository.images
    for name, image in images.items():
        assert image.parent is None or name in images[image.parent].children
        assert all(images[child].parent == name for child in image.children)
        assert image.hidden or not image.children
        assert image.size == repository.size_of(image) and image.used <= image.virtual
    assert repository.used == sum(image.size for image in images.values())
    return repository


def depth(root: Client, disk: str) -> int:
    row = root.sim.db.row("VDI", disk)
    return tree(root, row["SR"]).depth(row["uuid"])


def data(root: Client, disk: str) -> int:
    """All data that a disk holds, its ancestors' included."""
    row = root.sim.db.row("VDI", disk)
    repository = tree(root, row["SR"])
    return sum(repository.images[name].used for name in [row["uuid"], *repository.ancestors(row["uuid"])])


def collections(root: Client) -> Any:
    return root("task.get_all_records_where", 'field "name__label" = "Garbage Collection"')


def collecting(root: Client) -> bool:
    """Whether a collector runs; one that has failed has left a task that says so."""
    failed = [task["error_info"] for task in collections(root).values() if task["error_info"]]
    assert failed == []
    return bool(root.sim.storage.manager.collector.running)


def no_space(root: Client) -> Dict[str, Any]:
    records = root("message.get_all_records").items()
    return {ref: record for ref, record in records if record["name"] == "SM_GC_NO_SPACE"}


# --- when ---


def test_a_snapshot_alone_starts_no_collection(root: Client) -> None:
    chain(root, disk_on(root, root.sr()), [MIB, MIB])
    wait(root, 10000)
    assert collections(root) == {} and len(root("VDI.get_all")) == 5


def test_a_destroy_starts_it_and_five_minutes_are_quiet(root: Client) -> None:
    disk = disk_on(root, root.sr())
    (snap,) = chain(root, disk, [MIB])
    root("VDI.destroy", snap)
    (task,) = collections(root).values()
    assert task["status"] == "pending" and task["progress"] == 0.0
    wait(root, QUIET - 1)
    assert depth(root, disk) == 2
    wait(root, 4)
    assert depth(root, disk) == 1 and root("VDI.get_all") == [disk]
    ((ref, task),) = collections(root).items()
    assert task["status"] == "success" and task["progress"] == 1.0
    assert task["name_description"] == "Garbage collection for SR " + root("SR.get_uuid", root("VDI.get_SR", disk))
    # The collector says that it has ended and not when: its task looks old at once.
    wait(root, 31)
    assert root.error("task.get_record", ref)[0] == "HANDLE_INVALID"


def test_a_scan_starts_it_too_and_while_it_runs_nothing_starts_another(root: Client) -> None:
    sr = root.sr()
    disk = disk_on(root, sr)
    root("SR.add_to_other_config", sr, "gc", "false")
    (snap,) = chain(root, disk, [MIB])
    root("VDI.destroy", snap)
    root("SR.remove_from_other_config", sr, "gc")
    assert collections(root) == {}
    root("SR.scan", sr)
    root("SR.scan", sr)
    assert len(collections(root)) == 1
    wait(root, QUIET + 5)
    assert root("VDI.get_all") == [disk]
    root("SR.scan", sr)
    assert len(collections(root)) == 1


def test_two_srs_are_collected_side_by_side(root: Client) -> None:
    srs = [root.sr(), root.sr("lvm")]
    disks = [disk_on(root, sr) for sr in srs]
    snaps = [chain(root, disk, [200 * MIB])[0] for disk in disks]
    for snap in snaps:
        root("VDI.destroy", snap)
    assert len(collections(root)) == 2
    wait(root, QUIET + 3)
    assert [depth(root, disk) for disk in disks] == [1, 1]


def test_an_sr_does_one_thing_after_another(root: Client) -> None:
    sr = root.sr()
    disks = [disk_on(root, sr) for _ in range(3)]
    snaps = [chain(root, disk, [MIB])[0] for disk in disks]
    for disk in disks:
        root("simulator.write", disk, 99 * MIB)
    for snap in snaps:
        root("VDI.destroy", snap)
    # It began with the first destroy, two seconds before the last ended.
    wait(root, QUIET - 2 + 0.5)
    left = []
    for _ in range(4):
        left.append(sum(depth(root, disk) - 1 for disk in disks))
        wait(root, 2)
    assert left == [3, 2, 1, 0]


def test_no_collection_starts_on_an_sr_that_is_unplugged_and_one_that_runs_ends(root: Client) -> None:
    sr = root.sr()
    disk = disk_on(root, sr)
    (snap,) = chain(root, disk, [MIB])
    root("VDI.destroy", snap)
    (pbd,) = root("SR.get_PBDs", sr)
    root("PBD.unplug", pbd)
    wait(root, 2 * QUIET)
    assert depth(root, disk) == 2
    assert not collecting(root)
    root("PBD.plug", pbd)
    wait(root, QUIET + 5)
    assert depth(root, disk) == 1


# --- what first ---


def test_a_shared_sr_is_collected_by_the_coordinator_alone(root: Client) -> None:
    other = root("host.create", "", "host2", "", "host2", "192.0.2.2")
    sr = root.sr()
    disk = disk_on(root, sr)
    (snap,) = chain(root, disk, [MIB])
    root("VDI.destroy", snap)
    (pbd,) = [pbd for pbd in root("SR.get_PBDs", sr) if root("PBD.get_host", pbd) != other]
    root("PBD.unplug", pbd)
    wait(root, 2 * QUIET)
    assert depth(root, disk) == 2 and not collecting(root)
    root("PBD.plug", pbd)
    wait(root, 2 * QUIET)
    assert depth(root, disk) == 1


def test_orphans_go_first_then_the_tallest_tree_and_leaves_last(root: Client) -> None:
    sr = root.sr()
    leaf, low, tall, dead = (disk_on(root, sr) for _ in range(4))
    root("SR.add_to_other_config", sr, "gc", "false")
    (only,) = chain(root, leaf, [MIB])
    lows, talls, gone = chain(root, low, [MIB] * 3), chain(root, tall, [MIB] * 5), chain(root, dead, [MIB])
    for disk in (only, lows[1], talls[2], *gone, dead):
        root("VDI.destroy", disk)
    bases = {"leaf": leaf, "low": low, "tall": tall}
    begin = {name: depth(root, disk) for name, disk in bases.items()}
    orphans = [name for name, image in tree(root, sr).images.items() if image.hidden and not image.children]
    assert begin == {"leaf": 2, "low": 4, "tall": 6} and len(orphans) == 1
    root("SR.remove_from_other_config", sr, "gc")
    root("SR.scan", sr)
    order: List[str] = []
    while len(order) < 4:
        wait(root, 0.5)
        done = [name for name, disk in bases.items() if depth(root, disk) < begin[name]]
        done += ["orphan"] if orphans[0] not in tree(root, sr).images else []
        order += [name for name in done if name not in order]
    assert order == ["orphan", "tall", "low", "leaf"]


def test_merging_loses_no_data_and_frees_the_space(root: Client) -> None:
    sr = root.sr()
    disk = disk_on(root, sr)
    snaps = chain(root, disk, [10 * MIB] * 6)
    before, held = root("SR.get_physical_utilisation", sr), data(root, disk)
    for snap in snaps[1:5]:
        root("VDI.destroy", snap)
    wait(root, 2 * QUIET)
    assert data(root, disk) == held == 60 * MIB
    assert data(root, snaps[0]) == 10 * MIB and data(root, snaps[5]) == 60 * MIB
    assert depth(root, disk) == 3 and len(tree(root, sr).images) == 5
    assert root("SR.get_physical_utilisation", sr) <= before
    # Base copies tell which blocks they have.
    bases = root("VDI.get_all_records_where", 'field "managed" = "false"').values()
    assert all("vhd-blocks" in base["sm_config"] for base in bases)


def test_the_children_of_a_merged_base_name_their_new_parent_at_once(root: Client) -> None:
    disk = disk_on(root, root.sr())
    snaps = chain(root, disk, [MIB] * 3)
    root("VDI.destroy", snaps[1])
    wait(root, 2 * QUIET)
    repository = tree(root, root("VDI.get_SR", disk))
    for vdi in (disk, snaps[2]):
        row = root("VDI.get_record", vdi)
        assert row["sm_config"]["vhd-parent"] == repository.images[row["uuid"]].parent


def test_a_merged_leaf_names_its_old_parent_until_a_scan(root: Client) -> None:
    sr = root.sr()
    disk = disk_on(root, sr)
    snaps = chain(root, disk, [MIB] * 2)
    old = root("VDI.get_sm_config", disk)["vhd-parent"]
    root("VDI.destroy", snaps[1])
    wait(root, 2 * QUIET)
    assert depth(root, disk) == 2 and root("VDI.get_sm_config", disk)["vhd-parent"] == old
    assert root.error("VDI.get_by_uuid", old) == ["UUID_INVALID", "VDI", old]
    root("SR.scan", sr)
    new = root("VDI.get_sm_config", disk)["vhd-parent"]
    assert new != old and root("VDI.get_by_uuid", new)


def test_a_disk_that_grew_is_merged_whole(root: Client) -> None:
    sr = root.sr()
    disk = disk_on(root, sr, 100 * MIB)
    snaps = chain(root, disk, [100 * MIB])
    root("VDI.resize", disk, str(300 * MIB))
    snaps += chain(root, disk, [190 * MIB, MIB])
    root("VDI.destroy", snaps[0])
    root("VDI.destroy", snaps[1])
    wait(root, 2 * QUIET)
    assert data(root, disk) == 291 * MIB


# --- what it leaves alone ---


@pytest.mark.parametrize("key, left", [("gc", 4), ("coalesce", 4), ("leaf-coalesce", 3)])
def test_the_switches_of_an_sr_hold_it_back(root: Client, key: str, left: int) -> None:
    """Without coalescing no leaf is merged either, whatever the disk's own setting (sm: libs/sm/cleanup.py)."""
    sr = root.sr()
    disk = disk_on(root, sr)
    root("SR.add_to_other_config", sr, key, "false")
    root("VDI.add_to_other_config", disk, "leaf-coalesce", "force")
    for snap in chain(root, disk, [MIB, MIB, MIB]):
        root("VDI.destroy", snap)
    wait(root, 2 * QUIET)
    assert depth(root, disk) == {4: 4, 3: 2}[left]
    root("SR.remove_from_other_config", sr, key)
    root("SR.scan", sr)
    wait(root, 2 * QUIET)
    assert depth(root, disk) == 1


def test_a_switch_that_is_thrown_meanwhile_stops_it(root: Client) -> None:
    sr = root.sr()
    disk = disk_on(root, sr)
    for snap in chain(root, disk, [MIB, MIB]):
        root("VDI.destroy", snap)
    wait(root, 100)
    root("SR.add_to_other_config", sr, "gc", "false")
    wait(root, 2 * QUIET)
    assert depth(root, disk) == 3


@pytest.mark.parametrize("how", ["false", "on_boot", "allow_caching"])
def test_some_leaves_are_never_merged(root: Client, how: str) -> None:
    sr = root.sr()
    disk, other = disk_on(root, sr), disk_on(root, sr)
    snaps = chain(root, disk, [MIB]) + chain(root, other, [MIB])
    if how == "false":
        root("VDI.add_to_other_config", disk, "leaf-coalesce", "false")
    elif how == "on_boot":
        root("VDI.set_on_boot", disk, "reset")
    else:
        root("VDI.set_allow_caching", disk, True)
    for snap in snaps:
        root("VDI.destroy", snap)
    wait(root, 2 * QUIET)
    assert (depth(root, disk), depth(root, other)) == (2, 1)


def test_files_that_are_missing_or_corrupt_are_not_merged(root: Client) -> None:
    sr = root.sr()
    disk, other = disk_on(root, sr), disk_on(root, sr)
    snaps = chain(root, disk, [MIB]) + chain(root, other, [MIB])
    for snap in snaps:
        root("VDI.destroy", snap)
    root("simulator.spoil", root("VDI.get_uuid", disk), "missing")
    wait(root, 2 * QUIET)
    assert (depth(root, disk), depth(root, other)) == (2, 1)
    root("simulator.spoil", root("VDI.get_uuid", disk), "corrupt")
    assert root.error("SR.scan", sr)[0] == "SR_BACKEND_FAILURE_40"
    wait(root, 2 * QUIET)
    assert depth(root, disk) == 2


def test_on_a_read_only_file_system_it_can_do_nothing(root: Client) -> None:
    sr = root.sr()
    disk = disk_on(root, sr)
    for snap in chain(root, disk, [MIB, MIB]):
        root("VDI.destroy", snap)
    root("simulator.set_read_only", sr, True)
    wait(root, 2 * QUIET)
    assert depth(root, disk) == 3 and not collecting(root)
    root("simulator.set_read_only", sr, False)
    root("SR.scan", sr)
    wait(root, 2 * QUIET)
    assert depth(root, disk) == 1


# --- no room ---


def test_without_room_there_is_one_message_until_there_is_room_again(root: Client) -> None:
    sr = root.sr("ext", 100 * GIB)
    disks = [disk_on(root, sr) for _ in range(2)]
    snaps = [snap for disk in disks for snap in chain(root, disk, [100 * MIB] * 3)]
    root("simulator.fill", sr, 100 * GIB - root.sim.storage.manager.repository(sr).used - MIB)
    for snap in (snaps[1], snaps[4]):
        root("VDI.destroy", snap)
    wait(root, 2 * QUIET)
    ((ref, message),) = no_space(root).items()
    assert (message["priority"], message["cls"], message["obj_uuid"]) == (3, "SR", root("SR.get_uuid", sr))
    assert root("SR.get_sm_config", sr)["gc_no_space"] == ref
    marked = [row for row in root("VDI.get_all_records").values() if row["sm_config"].get("gc_no_space") == ref]
    assert len(marked) == 2 and not any(row["managed"] for row in marked)
    for _ in range(3):
        root("SR.scan", sr)
        wait(root, 2 * QUIET)
    assert list(no_space(root)) == [ref] and depth(root, disks[0]) == 4
    root("simulator.fill", sr, 0)
    root("SR.scan", sr)
    wait(root, 2 * QUIET)
    assert [depth(root, disk) for disk in disks] == [3, 3] and no_space(root) == {}
    assert "gc_no_space" not in root("SR.get_sm_config", sr)
    assert not any("gc_no_space" in row["sm_config"] for row in root("VDI.get_all_records").values())


def test_what_fits_is_merged_before_what_does_not(root: Client) -> None:
    sr = root.sr("ext", 100 * GIB)
    big, small = disk_on(root, sr), disk_on(root, sr)
    bigs, smalls = chain(root, big, [200 * MIB] * 4), chain(root, small, [MIB] * 3)
    root("simulator.fill", sr, 100 * GIB - root.sim.storage.manager.repository(sr).used - 50 * MIB)
    root("VDI.destroy", bigs[1])
    root("VDI.destroy", smalls[1])
    wait(root, 2 * QUIET)
    assert (depth(root, big), depth(root, small)) == (5, 3) and len(no_space(root)) == 1


def test_a_message_that_somebody_removed_comes_again(root: Client) -> None:
    sr = root.sr("ext", 100 * GIB)
    disk = disk_on(root, sr)
    snaps = chain(root, disk, [100 * MIB] * 3)
    root("simulator.fill", sr, 100 * GIB - root.sim.storage.manager.repository(sr).used - MIB)
    root("VDI.destroy", snaps[1])
    (first,) = no_space(root)
    root("message.destroy", first)
    root("SR.scan", sr)
    (second,) = no_space(root)
    assert second != first and root("SR.get_sm_config", sr)["gc_no_space"] == second


def test_a_thick_sr_needs_room_for_a_whole_volume(root: Client) -> None:
    sr = root.sr("lvm", 12 * GIB)
    disk = disk_on(root, sr, 10 * GIB)
    (snap,) = chain(root, disk, [MIB])
    root("VDI.destroy", snap)
    wait(root, 2 * QUIET)
    assert len(no_space(root)) == 1 and depth(root, disk) == 2


# --- a guest that writes ---


def running(root: Client, rate: float, size: int) -> Any:
    """A disk of a running VM with one snapshot behind it, and `size` bytes written since."""
    root.sim.durations = root.sim.durations._replace(written_bytes_per_second=rate)
    sr, vm = root.sr(), root.vm()
    disk = root.disk(vm, sr, 100 * GIB)
    root("VM.start", vm, False, False)
    (snap,) = chain(root, disk, [MIB])
    root("simulator.write", disk, size)
    root("VDI.destroy", snap)
    return disk


def test_a_little_data_of_a_running_guest_is_merged_at_once(root: Client) -> None:
    disk = running(root, 16e3, 10 * MIB)
    wait(root, QUIET + 5)
    assert depth(root, disk) == 1


def test_much_data_of_a_running_guest_is_moved_in_rounds(root: Client) -> None:
    disk = running(root, 1e6, 5 * GIB)
    wait(root, QUIET + 30)
    row = root.sim.db.row("VDI", disk)
    # The first round moves it; meanwhile the guest writes on.
    assert depth(root, disk) == 2 and tree(root, row["SR"]).images[row["uuid"]].used == 0
    wait(root, 60)
    assert depth(root, disk) == 1 and data(root, disk) > 5 * GIB


def test_a_guest_that_writes_faster_than_it_is_merged_keeps_its_base(root: Client) -> None:
    disk = running(root, 200e6, GIB)
    wait(root, 3 * QUIET)
    assert depth(root, disk) == 2
    assert not collecting(root)


def test_a_leaf_that_must_be_merged_is_whatever_it_holds(root: Client) -> None:
    disk = running(root, 200e6, GIB)
    root("VDI.add_to_other_config", disk, "leaf-coalesce", "force")
    # It takes as long as the guest has written for.
    wait(root, 10 * QUIET)
    assert depth(root, disk) == 1


# --- while it merges ---


def merging(root: Client) -> Any:
    """An SR, a disk and its three snapshots, the middle of a merge of one gigabyte (ten seconds)."""
    sr = root.sr()
    disk = disk_on(root, sr, 10 * GIB)
    snaps = chain(root, disk, [GIB, GIB, GIB])
    root("VDI.destroy", snaps[1])
    wait(root, QUIET + 5)
    assert depth(root, disk) == 4
    return sr, disk, snaps


def test_a_snapshot_in_the_middle_of_a_merge_does_no_harm(root: Client) -> None:
    sr, disk, snaps = merging(root)
    root("simulator.write", disk, MIB)
    new = root("VDI.snapshot", disk, {})
    empty = root("VDI.snapshot", disk, {})
    wait(root, 2 * QUIET)
    assert data(root, disk) == data(root, new) == data(root, empty) == 3 * GIB + MIB
    assert data(root, snaps[0]) == GIB and depth(root, disk) == 4
    root("SR.scan", sr)


def test_destroying_all_below_in_the_middle_of_a_merge_does_no_harm(root: Client) -> None:
    sr, disk, snaps = merging(root)
    for each in (snaps[2], disk):
        root("VDI.destroy", each)
    wait(root, 3 * QUIET)
    assert data(root, snaps[0]) == GIB and depth(root, snaps[0]) == 1
    assert len(tree(root, sr).images) == 1


def test_a_snapshot_while_a_leaf_is_merged_keeps_both(root: Client) -> None:
    sr = root.sr()
    disk = disk_on(root, sr, 10 * GIB)
    (old,) = chain(root, disk, [GIB])
    root("simulator.write", disk, GIB)
    root("VDI.destroy", old)
    wait(root, QUIET + 5)
    new = root("VDI.snapshot", disk, {})
    root("simulator.write", disk, MIB)
    wait(root, 2 * QUIET)
    assert data(root, new) == 2 * GIB and data(root, disk) == 2 * GIB + MIB
    assert not collecting(root)


def test_a_snapshot_between_the_rounds_of_a_leaf_gets_none_of_what_comes_later(root: Client) -> None:
    disk = running(root, 1e6, 5 * GIB)
    wait(root, QUIET + 20)
    new = root("VDI.snapshot", disk, {})
    held = data(root, new)
    root("simulator.write", disk, 5 * GIB)
    wait(root, 3 * QUIET)
    assert data(root, new) == held and data(root, disk) >= held + 5 * GIB


def test_an_sr_that_is_forgotten_in_the_middle_of_a_merge_is_left_alone(root: Client) -> None:
    sr, _, _ = merging(root)
    uuid = root("SR.get_uuid", sr)
    (pbd,) = root("SR.get_PBDs", sr)
    root("PBD.unplug", pbd)
    root("SR.forget", sr)
    before = len(root.sim.storage.manager.repositories[uuid].images)
    wait(root, 2 * QUIET)
    assert len(root.sim.storage.manager.repositories[uuid].images) == before
    assert not collecting(root)


@pytest.mark.parametrize("way", ["clean", "kill"])
def test_a_restart_in_the_middle_of_a_merge_begins_it_anew(root: Client, way: str) -> None:
    _, disk, _ = merging(root)
    root("pool.sync_database")
    root.sim.call("simulator.restart", "OpaqueRef:NULL", way, 0.0)
    wait(root, QUIET - 5)
    assert depth(root, disk) == 4
    wait(root, 30)
    assert depth(root, disk) == 3 and data(root, disk) == 3 * GIB


def again(root: Client) -> Any:
    """A new session: the old one has gone with its xapi."""
    return root.login("root")


def test_the_first_collection_since_a_host_has_booted_is_not_preceded_by_quiet(root: Client) -> None:
    _, disk, snaps = merging(root)
    root("pool.sync_database")
    root.sim.call("simulator.restart", "OpaqueRef:NULL", "host", 0.0)
    wait(root, 20)
    assert depth(root, disk) == 3 and data(root, disk) == 3 * GIB and not collecting(again(root))
    again(root)("VDI.destroy", snaps[0])
    wait(root, QUIET - 5)
    assert depth(root, disk) == 3
    wait(root, 30)
    assert depth(root, disk) == 2


def test_a_host_that_becomes_the_coordinator_has_never_collected(root: Client) -> None:
    first = root.sim.hosts.coordinator
    second = root("host.create", "", "host2", "", "host2", "192.0.2.2")
    _, disk, snaps = merging(root)
    root("pool.sync_database")
    root.sim.call("simulator.fail_over", "OpaqueRef:NULL", second, "clean", 0.0)
    wait(root, 20)
    assert depth(root, disk) == 3
    again(root)("VDI.destroy", snaps[0])
    # The first one has collected here before.
    root.sim.call("simulator.fail_over", "OpaqueRef:NULL", first, "clean", 0.0)
    wait(root, QUIET - 5)
    assert depth(root, disk) == 3
    wait(root, 30)
    assert depth(root, disk) == 2
