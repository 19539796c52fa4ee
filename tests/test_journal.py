"""The journal of deletions: what is no record destroys nothing, and what is one only the disks of a snapshot."""

import json
from typing import Any, Dict, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pool import TestPool
from tests.test_hostile import estate, hostile, junk, one_line_or_report, thorough, untouched
from vmss.passes.journal import PREFIX

GONE = "11111111-1111-1111-1111-111111111111"


def put(pool: TestPool, text: str) -> None:
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], PREFIX + "forged", text)


def test_what_is_no_record_is_removed_and_told_once(pool: TestPool) -> None:
    disk = pool.call("VDI.snapshot", pool.vdi(pool.sr()), {})
    for text in ("", "[]", json.dumps({"x": [pool.uuid("VDI", disk)]}), json.dumps({GONE: pool.uuid("VDI", disk)})):
        put(pool, text)
        before = len(pool.log())
        assert pool.tick().status == 0
        assert pool.tick().status == 0
        assert disk in pool.call("VDI.get_all")
        told = [line for line in pool.log()[before:] if "cannot be understood as a record of deletions" in line]
        assert len(told) == 1 and PREFIX + "forged" not in pool.other_config()


@pytest.mark.parametrize("seal", [{}, {"seal": "0" * 64}])
def test_what_earlier_versions_recorded_is_finished(pool: TestPool, seal: Dict[str, str]) -> None:
    # The first wrote the entries without a name, another one with a seal beside them.
    disk = pool.call("VDI.snapshot", pool.vdi(pool.sr()), {})
    entries = {GONE: [pool.uuid("VDI", disk)]}
    put(pool, json.dumps(dict(seal, destroying=entries) if seal else entries))
    assert pool.tick().status == 0
    assert disk not in pool.call("VDI.get_all")
    assert PREFIX + "forged" not in pool.other_config()


def test_a_record_is_kept_while_its_snapshot_is_being_deleted_and_no_note_says_so(pool: TestPool) -> None:
    # The session that has begun with it is noted nowhere: the disk beside the lock was full.
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm])
    pool.at(10, 15)
    pool.tick()
    (snapshot,) = pool.call("VM.get_snapshots", vm)
    pool.record({pool.uuid("VM", snapshot): [pool.uuid("VDI", disk) for disk in pool.snapshot_vdis()]})
    pool.simulator.db.set("VM", snapshot, "current_operations", {"OpaqueRef:task": "destroy"})
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert PREFIX + "0" in pool.other_config()
    pool.simulator.db.set("VM", snapshot, "current_operations", {})
    pool.call("VM.destroy", snapshot)
    pool.at(10, 45)
    assert pool.tick().status == 0
    assert pool.snapshot_vdis() == [] and PREFIX + "0" not in pool.other_config()


@given(
    st.one_of(
        junk.map(lambda value: json.dumps(value, default=str)),
        hostile,
        st.fixed_dictionaries(
            {
                "destroying": st.one_of(st.dictionaries(hostile, junk, max_size=2), junk),
                "seal": st.one_of(junk, st.just("0" * 64)),
            }
        ).map(lambda it: json.dumps(it, default=str)),
    )
)
@thorough(15)
def test_whatever_stands_in_place_of_a_record_destroys_nothing(text: str) -> None:
    with estate() as here:
        before = set(here.pool.call("VDI.get_all"))
        here.pool.call("VMSS.set_enabled", here.policy, False)
        db, ref = here.pool.simulator.db, here.pool.call("pool.get_all")[0]
        db.add_to_map("pool", ref, "other_config", PREFIX + "0", text)
        one_line_or_report(here.pool.tick)
        db.set("pool", ref, "other_config", {})  # what XML cannot carry has no place in it
        assert before <= set(here.pool.call("VDI.get_all"))
        untouched(here)


# The types of disks


@pytest.mark.parametrize(
    "kind", ["cbt_metadata", "ha_statefile", "metadata", "redo_log", "rrd", "pvs_cache", "crashdump"]
)
def test_a_disk_of_an_expired_snapshot_that_is_no_vms_disk_is_left_alone(pool: TestPool, kind: str) -> None:
    vm, (mine, other) = expiring(pool)
    pool.simulator.db.set("VDI", other, "type", kind)
    pool.at(11, 15)
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1
    there: List[Any] = pool.call("VDI.get_all")
    assert other in there and mine not in there
    assert any("Disks of snapshot" in line and pool.uuid("VDI", other) in line for line in pool.log())
    # A record that a pass has written does not destroy it either.
    pool.record({GONE: [pool.uuid("VDI", other)]})
    pool.at(11, 30)
    assert pool.tick().status == 0
    assert other in pool.call("VDI.get_all")


@pytest.mark.parametrize("kind", ["system", "user", "ephemeral"])
def test_every_type_of_a_vms_disk_goes_with_its_snapshot(pool: TestPool, kind: str) -> None:
    vm, disks = expiring(pool)
    for disk in disks:
        pool.simulator.db.set("VDI", disk, "type", kind)
    pool.at(11, 15)
    assert pool.tick().status == 0
    assert not set(disks) & set(pool.call("VDI.get_all"))


@pytest.mark.parametrize("fields", [{"is_a_snapshot": False}, {"managed": False}])
def test_a_disk_that_is_no_snapshot_or_not_managed_is_left_alone(pool: TestPool, fields: Dict[str, Any]) -> None:
    vm, (mine, other) = expiring(pool)
    for name, value in fields.items():
        pool.simulator.db.set("VDI", other, name, value)
    pool.at(11, 15)
    assert pool.tick().status == 0
    there = pool.call("VDI.get_all")
    assert other in there and mine not in there


def expiring(pool: TestPool) -> Tuple[str, List[str]]:
    """A VM of two disks with a snapshot that goes at 11:15, and the disks of that."""
    sr = pool.sr()
    vm = pool.vm("vm", [sr, sr])
    pool.policy([vm], retained_snapshots="1")
    pool.at(10, 15)
    assert pool.tick().status == 0
    (snapshot,) = pool.snapshots(vm)
    return vm, [str(pool.call("VBD.get_VDI", vbd)) for vbd in snapshot["VBDs"]]
