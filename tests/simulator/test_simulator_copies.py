"""Large pools of copies are what calls for each VM would have made of them."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, List, Sequence, Set

import pytest

from vmss.simulator import Simulator
from vmss.simulator.build import Pool, build_pool, vm_name
from vmss.simulator.copies import PATTERNS_MIN, Pattern, build_large_pool

from .client import Client
from .conftest import START

SRS = 4
FIRST = 96
VMS = FIRST + 14
_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# What is drawn for each VM, and what follows from when it was made. Where it lies all VMs of a pool share.
DRAWN = (
    "virtual_size", "physical_utilisation", "resident_on", "domid", "start_time", "last_updated", "timestamp",
    "snapshot_time", "virtual_allocation",
)  # fmt: skip


class Large:
    """A large pool."""

    def __init__(self) -> None:
        self.sim = Simulator(seed=1, now=START)
        self.pool = build_large_pool(self.sim, srs=SRS, vms=VMS)
        self.root = Client(self.sim, self.pool.session)


@pytest.fixture(scope="module")
def large() -> Large:
    """One that no test changes."""
    return Large()


def belongings(root: Client, vm: str, without: Sequence[str] = ()) -> Any:
    """All that a client sees of a VM, without these fields: its ids are numbered as they come, its name is left
    out, and so is its host, if that is drawn."""
    record = root("VM.get_record", vm)
    machines = [record, *(root("VM.get_record", ref) for ref in record["snapshots"])]
    vbds = [root("VBD.get_record", ref) for machine in machines for ref in machine["VBDs"]]
    vdis = [root("VDI.get_record", vbd["VDI"]) for vbd in vbds if not vbd["empty"]]
    records = machines + vbds + vdis + [root("VM_metrics.get_record", machine["metrics"]) for machine in machines]
    if record["power_state"] == "Running":
        records.append(root("VM_guest_metrics.get_record", record["guest_metrics"]))
    messages = root("message.get_all_records").values()
    records += [message for message in messages if message["obj_uuid"] in [one["uuid"] for one in machines]]
    text = json.dumps([{k: v for k, v in one.items() if k not in without} for one in records], default=str)
    numbers: Dict[str, str] = {}
    text = _ID.sub(lambda found: numbers.setdefault(found.group(), "id %d" % len(numbers)), text)
    text = text.replace(record["name_label"], "NAME")
    return json.loads(re.sub("on host: .*?\\)", "", text) if "resident_on" in without else text)


def test_copies_are_like_what_calls_make(large: Large) -> None:
    sim = Simulator(seed=1, now=START)
    called = build_pool(sim.call, srs=SRS, vms=VMS)
    root = Client(sim, called.session)
    assert len(large.pool.vms) == len(called.vms) == VMS > FIRST >= PATTERNS_MIN
    for number in range(FIRST, VMS):
        copy, made = large.pool.vms[number], called.vms[number]
        assert large.root("VM.get_name_label", copy) == root("VM.get_name_label", made) == vm_name(number)
        assert belongings(large.root, copy, DRAWN) == belongings(root, made, DRAWN)
        assert [_sr_of(large.root, disk) for disk in _disks(large.pool, number)] == [
            _sr_of(root, disk) for disk in _disks(called, number)
        ]
    assert [large.pool.vms.index(vm) for vm in large.pool.running] == [called.vms.index(vm) for vm in called.running]
    assert len(large.root("message.get_all")) == len(root("message.get_all"))
    assert large.sim.counts["VM.create"] == FIRST
    sizes = [[client("SR.get_physical_size", sr) for sr in client("SR.get_all")] for client in (large.root, root)]
    assert sizes[0] == sizes[1]


def _disks(pool: Pool, number: int) -> List[str]:
    return pool.disks[2 * number : 2 * number + 2]


def _sr_of(root: Client, disk: str) -> int:
    return int(root("SR.get_all").index(root("VDI.get_SR", disk)))


def test_no_two_objects_share_an_id(large: Large) -> None:
    tables = large.sim.db.tables.values()
    refs = [ref for table in tables for ref in table.rows]
    uuids = [row["uuid"] for table in tables for row in table.rows.values()]
    assert len(set(refs)) == len(refs) and len(set(uuids)) == len(uuids)
    numbers = [
        tuple(large.root("VM.get_%s" % field, vm) for field in ("resident_on", "domid")) for vm in large.pool.running
    ]
    assert len(set(numbers)) == len(large.pool.running) and all(number > 0 for _, number in numbers)
    seeds: Set[str] = {large.root("VM.get_other_config", vm)["mac_seed"] for vm in large.pool.vms}
    assert len(seeds) == VMS


def test_the_srs_show_the_room_that_copies_take(large: Large) -> None:
    for sr in large.pool.srs:
        disks = [large.root("VDI.get_record", disk) for disk in large.pool.disks]
        disks = [disk for disk in disks if disk["SR"] == sr]
        assert large.root("SR.get_virtual_allocation", sr) == sum(disk["virtual_size"] for disk in disks)
        assert large.root("SR.get_physical_utilisation", sr) == sum(disk["physical_utilisation"] for disk in disks)


def test_a_small_pool_has_no_copies() -> None:
    large, small = Simulator(seed=3, now=START), Simulator(seed=3, now=START)
    assert build_large_pool(large, vms=5, seed=3) == build_pool(small.call, vms=5, seed=3)
    assert large.random.getstate() == small.random.getstate()


def test_a_copy_works_like_any_other_vm(tmp_path: Path) -> None:
    large = Large()
    large.sim.save(str(tmp_path / "state.json"))
    loaded = Simulator.load(str(tmp_path / "state.json"))
    root = Client(loaded, loaded.call("session.login_with_password", "root", ""))
    vm = root("VM.get_by_name_label", vm_name(VMS - 1))[0]
    assert belongings(root, vm) == belongings(large.root, large.pool.vms[VMS - 1])
    snapshot = root("VM.snapshot", vm, "snapshot", [])
    assert root("VM.get_snapshots", vm) == [snapshot]
    root("VM.clean_shutdown" if vm in root("VM.get_all_where", 'field "power_state" = "Running"') else "VM.start", vm)
    root("VM.destroy", snapshot)


def test_a_vm_is_copied_with_its_snapshots_and_their_disks() -> None:
    sim = Simulator(seed=1, now=START)
    pool = build_pool(sim.call, srs=1, vms=2)
    root, vm = Client(sim, pool.session), pool.vms[0]
    for number in range(2):
        root("simulator.write", pool.disks[0], 1 << 20)
        root("VM.snapshot", vm, "snapshot %d of web01" % number, [])
    # What is not the VM's own, the copy refers to as well.
    host = root("host.get_all")[0]
    root("VM.add_to_other_config", vm, "host", root("host.get_uuid", host))
    root("VM.set_affinity", vm, host)
    disks, machines = len(root("VDI.get_all")), len(root("VM.get_all"))
    copy = Pattern(sim, vm).copy("other01")[vm]
    own = ("domid", "timestamp")
    assert belongings(root, copy, own) == belongings(root, vm, own)
    assert [root("VM.get_other_config", one)["host"] for one in (vm, copy)] == [root("host.get_uuid", host)] * 2
    assert [root("VM.get_affinity", one) for one in (vm, copy)] == [host] * 2
    assert root("VM.get_by_name_label", "snapshot 1 of other01") == root("VM.get_snapshots", copy)[:1]
    # All but the disks of the other VM have a copy: two disks, two snapshots of each, and their base copies.
    assert len(root("VDI.get_all")) == 2 * disks - 2 > 2 * (2 + 4)
    assert len(root("VM.get_all")) == machines + 3
    # The collector finds the same to do for both.
    for machine in (vm, copy):
        for snapshot in root("VM.get_snapshots", machine):
            copied = [root("VBD.get_VDI", vbd) for vbd in root("VM.get_VBDs", snapshot)]
            root("VM.destroy", snapshot)
            for disk in copied:
                if sim.db.exists("VDI", disk):
                    root("VDI.destroy", disk)
    sim.set_time(sim.now() + timedelta(hours=1))
    assert len(root("VDI.get_all")) == 3 * 2
