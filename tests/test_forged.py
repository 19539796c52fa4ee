"""What is recorded to be destroyed: only what a pass has written is, and only a snapshot's own disks."""

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pool import TestPool
from tests.test_hostile import estate, hostile, junk, one_line_or_report, thorough, untouched
from vmss.edges import seal
from vmss.edges.lock import LockDirectory
from vmss.passes.journal import PREFIX, record

GONE = "11111111-1111-1111-1111-111111111111"


def key(pool: TestPool) -> bytes:
    (uuid,) = [fields["uuid"] for fields in pool.call("pool.get_all_records").values()]
    directory = LockDirectory(pool.place.lock_dir)
    try:
        return seal.key(uuid, False, directory)
    finally:
        directory.close()


def put(pool: TestPool, text: str) -> None:
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], PREFIX + "forged", text)


def test_a_backup_tools_snapshot_of_a_disk_is_not_destroyed_by_a_forged_record(pool: TestPool) -> None:
    # A snapshot, managed, of no VM: nothing in its record tells it from a disk that a pass has left.
    backup = pool.call("VDI.snapshot", pool.vdi(pool.sr()), {})
    put(pool, json.dumps({GONE: [pool.uuid("VDI", backup)]}))
    assert pool.tick().status == 0
    assert backup in pool.call("VDI.get_all")
    # It is told, and once.
    assert len([line for line in pool.log() if "was written by no pass of this pool, and is removed" in line]) == 1
    assert PREFIX + "forged" not in pool.other_config()


def test_the_seal_of_another_record_another_pool_or_another_key_is_none(pool: TestPool) -> None:
    backup = pool.call("VDI.snapshot", pool.vdi(pool.sr()), {})
    wanted, other = {GONE: [pool.uuid("VDI", backup)]}, {GONE: [GONE]}
    mine = key(pool)
    directory = LockDirectory(pool.place.lock_dir)
    foreign = seal.key(GONE, False, directory)
    directory.close()
    borrowed = dict(json.loads(record(wanted, b"x")), seal=json.loads(record(other, mine))["seal"])
    added = json.loads(record(other, mine))
    added["destroying"][GONE].append(pool.uuid("VDI", backup))
    for value in (json.dumps(borrowed), json.dumps(added), record(wanted, b""), record(wanted, foreign)):
        put(pool, value)
        assert pool.tick().status == 0
        assert backup in pool.call("VDI.get_all")
    put(pool, record(wanted, mine))  # or nothing of this would say anything
    pool.tick()
    assert backup not in pool.call("VDI.get_all")


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
        every = [here.pool.uuid("VDI", ref) for ref in here.pool.call("VDI.get_all")]
        before = set(here.pool.call("VDI.get_all"))
        here.pool.call("VMSS.set_enabled", here.policy, False)
        db, ref = here.pool.simulator.db, here.pool.call("pool.get_all")[0]
        db.add_to_map("pool", ref, "other_config", PREFIX + "0", text)
        db.add_to_map("pool", ref, "other_config", PREFIX + "1", json.dumps({"destroying": {GONE: every}, "seal": ""}))
        one_line_or_report(here.pool.tick)
        db.set("pool", ref, "other_config", {})  # what XML cannot carry has no place in it
        assert before <= set(here.pool.call("VDI.get_all"))
        untouched(here)


def test_the_key_is_the_pools_secret_in_dom0_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, other = LockDirectory(str(tmp_path / "one")), LockDirectory(str(tmp_path / "two"))
    monkeypatch.setattr(seal, "POOL_SECRET", str(tmp_path / "ptoken"))
    alone = seal.key(GONE, True, directory)
    assert alone == seal.key(GONE, True, directory) != seal.key(GONE, True, other)
    (tmp_path / "ptoken").write_text("a/b/c\n")
    # The same on every host of the pool, whatever lies in its lock directory.
    assert seal.key(GONE, True, directory) == seal.key(GONE, True, other) != alone
    assert b"a/b/c" not in seal.key(GONE, True, directory)
    assert (tmp_path / "one" / (GONE + ".seal")).stat().st_mode & 0o777 == 0o600


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
