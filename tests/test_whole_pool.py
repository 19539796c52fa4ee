"""What commands read of a whole pool: once, together, and the same as piece by piece."""

from typing import Any, Dict, List, Set, Tuple

import pytest

from tests.front import Front, valued
from tests.pool import TestPool
from vmss.core.policy import Policy, from_record
from vmss.core.records import NULL
from vmss.edges import pool_vms, scheduled, storage, vms
from vmss.edges.pool_vms import PoolVms
from vmss.edges.query import CHUNK, field_of_each
from vmss.edges.storage import Disks, read_disks, read_disks_of
from vmss.edges.vms import read_vms
from vmss.edges.xapi import Fields, Refused, Unanswered, Xapi
from vmss.insight import snapshots

VMS = CHUNK + 10
OF_VMS = (vms.VM_FIELDS, vms._SNAPSHOT_FIELDS, pool_vms._FIELDS, snapshots._FIELDS, scheduled._CLAIMING)


class Many:
    """A pool with more VMs on a schedule than one query names, and a session through a front."""

    def __init__(self, pool: TestPool) -> None:
        self.pool = pool
        self.srs = [pool.sr("one"), pool.sr("other")]
        self.vms = [pool.vm("vm %02d" % number, [self.srs[number % 2]]) for number in range(VMS)]
        pool.policy(self.vms, "nightly")
        self.worse: List[str] = []  # disks whose records make no sense
        path = str(pool.folder / "front.sock")
        self.front = Front(path, pool.socket, rewrite=valued(self._change))
        self.xapi = Xapi("unix:" + path)
        self.xapi.login("root", "")

    def _change(self, method: str, value: Any) -> None:
        if method == "VDI.get_all_records_where":
            for ref in set(self.worse).intersection(value):
                value[ref]["virtual_size"] = "much"

    def policies(self) -> List[Policy]:
        return [from_record(ref, record) for ref, record in self.pool.call("VMSS.get_all_records").items()]

    def calls(self, method: str) -> int:
        return self.front.calls.count(method)


@pytest.fixture
def many(pool: TestPool) -> Many:
    return Many(pool)


def as_sets(disks: Disks) -> Tuple[Dict[str, Set[Any]], Set[str]]:
    return {vm: set(mine) for vm, mine in disks.of.items()}, set(disks.misread)


def test_the_disks_of_most_vms_are_read_together(many: Many) -> None:
    vms = read_vms(many.xapi, many.policies())
    assert len(vms) == VMS
    before = len(many.front.calls)
    together = read_disks_of(many.xapi, vms)
    assert many.front.calls[before:] == ["VDI.get_all_where", "VBD.get_all_where", "VDI.get_all_records_where"]
    assert as_sets(together) == as_sets(read_disks(many.xapi, [vm.ref for vm in vms]))
    assert all(len(together.of[vm.ref]) == 1 for vm in vms)


def test_what_is_odd_about_disks_is_the_same_as_where_each_is_named(many: Many) -> None:
    pool, (with_cd, with_drive, with_two, with_snapshot, with_shared, sharing, bad) = many.pool, many.vms[:7]
    pool.vbd(with_cd, pool.vdi(many.srs[1], name="an iso"), 3, type="CD", mode="RO")
    pool.vbd(with_drive, NULL, 3, type="CD", mode="RO", empty=True)
    pool.vbd(with_two, pool.vdi(many.srs[1]), 1)
    (disk,) = [pool.call("VBD.get_VDI", vbd) for vbd in pool.call("VM.get_VBDs", with_two)][:1]
    pool.vbd(with_snapshot, pool.call("VDI.snapshot", disk, {}), 1, mode="RO")
    shared = pool.vdi(many.srs[0])
    for vm in (with_shared, sharing):
        pool.vbd(vm, shared, 1, mode="RO")
    many.worse = [pool.call("VBD.get_VDI", vbd) for vbd in pool.call("VM.get_VBDs", bad)]
    vms = read_vms(many.xapi, many.policies())
    together, apart = read_disks_of(many.xapi, vms), read_disks(many.xapi, [vm.ref for vm in vms])
    assert as_sets(together) == as_sets(apart)
    assert [len(together.of[vm]) for vm in many.vms[:6]] == [1, 1, 2, 2, 2, 2]


def test_of_a_few_vms_among_many_the_disks_are_named(many: Many, monkeypatch: pytest.MonkeyPatch) -> None:
    vms = read_vms(many.xapi, many.policies())
    monkeypatch.setattr("vmss.edges.storage.CHUNK", 5)
    others = many.calls("VDI.get_all_records_where")
    few = read_disks_of(many.xapi, vms[:10])
    assert as_sets(few) == as_sets(read_disks(many.xapi, [vm.ref for vm in vms[:10]]))
    assert many.calls("VDI.get_all_records_where") == others + 2  # which name ten disks, twice


def test_a_field_of_each_is_asked_for_in_the_way_that_costs_less(many: Many) -> None:
    many.pool.call("VM.destroy", many.vms[0])
    alive, ways = {ref: "vm %02d" % number for number, ref in enumerate(many.vms) if number}, []
    for rows in (VMS, 1000 * VMS):
        before = len(many.front.calls)
        assert dict(field_of_each(many.xapi, "VM", many.vms, "name_label", rows)) == alive
        ways.append(many.front.calls[before:])
    assert ways == [["VM.get_all_records_where"] * 2, ["VM.get_name_label"] * VMS]
    # A call over a network takes longer, so there queries pay in larger tables too.
    many.xapi.unix = False
    before = len(many.front.calls)
    assert dict(field_of_each(many.xapi, "VM", many.vms, "name_label", 1000 * VMS)) == alive
    assert len(many.front.calls) == before + 2


def test_records_are_cut_to_what_is_asked_of_them(many: Many) -> None:
    pool = many.pool
    pool.call("VM.add_to_other_config", many.vms[0], "VBDs", "looks like a record")
    pool.call("VM.add_to_other_config", many.vms[0], "key", "stays")
    fields = Fields("VBDs", ("name_label", "other_config", "no such field"))
    for xapi in (many.xapi, pool.xapi):  # over JSON-RPC and over XML-RPC
        cut = xapi.records("VM", 'field "is_a_template" = "false"', fields)
        whole = xapi.records("VM", 'field "is_a_template" = "false"')
        assert set(cut) == set(whole) > set(many.vms)
        assert cut == {
            ref: {name: record[name] for name in ("VBDs", "name_label", "other_config")}
            for ref, record in whole.items()
        }
        assert cut[many.vms[0]]["other_config"]["key"] == "stays"
        assert len(whole[many.vms[0]]) > 50


def test_one_of_the_fields_that_are_read_tells_a_record_from_a_map(many: Many) -> None:
    vm, disk = many.vms[0], many.pool.call("VDI.get_all")[0]
    of_vm, of_disk = many.pool.call("VM.get_record", vm), many.pool.call("VDI.get_record", disk)
    for fields in (*OF_VMS, storage._DISK_FIELDS):
        record = of_disk if fields is storage._DISK_FIELDS else of_vm
        assert {fields.told_by, *fields.others} <= set(record), fields
        assert isinstance(record[fields.told_by], (list, dict)), fields


def test_the_vms_of_the_pool_are_those_of_its_schedules_and_the_rest(many: Many) -> None:
    pool = many.pool
    template, alone = many.vms[0], pool.vm("alone")
    pool.simulator.db.set("VM", template, "is_a_template", True)
    pool.call("VM.snapshot", many.vms[1], "by hand")
    pool.at(10, 15)
    pool.tick()
    known, vms = many.policies(), PoolVms(many.xapi)
    before = len(many.front.calls)
    members = {member.ref for member, _ in vms.members()}
    assert members == {*many.vms[1:], alone}
    assert vms.of(known) == read_vms(pool.xapi, known)
    assert {ref for policy in known for ref, _ in vms.on(policy)} == set(many.vms)
    assert len(vms.scheduled()) == len(vms.scheduled()) == len(many.vms) - 1
    assert many.front.calls[before:] == ["VM.get_all_records_where", "VM.get_all_where"]


@pytest.mark.parametrize("action", ["drop", "error"])
def test_what_cannot_be_read_of_the_pool_is_asked_for_once(many: Many, action: str) -> None:
    fault = {"action": action, "count": "0", **({"error": '["INTERNAL_ERROR"]'} if action == "error" else {})}
    many.pool.call("simulator.add_fault", {"method": "VM.get_all_records_where", **fault})
    vms, known = PoolVms(many.xapi), many.policies()
    before = len(many.front.calls)
    for part in (lambda: list(vms.members()), lambda: vms.of(known), lambda: list(vms.on(known[0]))):
        with pytest.raises((Refused, Unanswered)):
            part()
    assert vms.scheduled() == frozenset()  # which is another question
    assert many.front.calls[before:] == ["VM.get_all_records_where", "VM.get_all_where"]


def test_the_vms_that_are_gone_are_found_in_a_few_calls(many: Many) -> None:
    pool = many.pool
    pool.at(10, 15)
    pool.tick()
    gone = many.vms[:5]
    for vm in gone:
        pool.call("VM.destroy", vm)
    every, before = scheduled.scheduled_snapshots(many.xapi), len(many.front.calls)
    found = scheduled.without_schedule(many.xapi, every)
    assert sorted(vm.ref for vm in found) == sorted(gone) and all(len(vm.snapshot_refs) == 1 for vm in found)
    read = ["VMSS.get_all_records", "VM.get_all_records_where", "VM.get_all_records_where"]
    assert many.front.calls[before:] == [*read, *["VM.get_record"] * len(gone), "VMSS.get_all_records"]
