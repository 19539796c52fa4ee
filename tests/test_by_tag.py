"""The setting assign_by_tag: which VMs a tick puts on schedules, what it leaves alone and says, and what it costs."""

from pathlib import Path
from typing import Any, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.front import Front
from tests.pool import TestPool
from tests.test_assign import RECORD, schedule_of
from tests.test_roles import As
from vmss.core.assignment import Member
from vmss.core.by_tag import decide
from vmss.core.policy import from_record
from vmss.core.records import NULL
from vmss.core.tags import NONE
from vmss.edges.settings import Settings
from vmss.insight import tags
from vmss.insight.findings import Finding
from vmss.insight.reading import reading
from vmss.passes.request import Request
from vmss.passes.run import run


@pytest.fixture
def pool(pool: TestPool) -> TestPool:
    """A pool whose ticks go by tags."""
    pool.settings = pool.settings._replace(assign_by_tag=True)
    return pool


def tagged(pool: TestPool, name: str, *words: str) -> str:
    vm = pool.vm(name, [pool.sr(name)])
    pool.call("VM.set_tags", vm, list(words))
    return vm


def bad(pool: TestPool, everywhere: bool = True) -> List[Finding]:
    from vmss.edges.world import read_policies

    with reading(pool.surroundings()) as session:
        return tags.findings(session, read_policies(session.xapi)[0], everywhere)


def told(pool: TestPool) -> List[str]:
    return [line for line in pool.log() if " is not put on a policy: " in line]


def test_a_vm_with_the_tag_comes_on_the_schedule_and_is_served_in_the_same_tick(pool: TestPool) -> None:
    vm, other = tagged(pool, "web", "vmss:nightly", "other"), tagged(pool, "db", "nightly", "vmss:")
    policy = pool.policy(name="nightly")
    template = tagged(pool, "template", "vmss:nightly")
    pool.call("VM.set_is_a_template", template, True)
    pool.settings = pool.settings._replace(assign_by_tag=False)
    pool.at(10, 15)
    pool.tick()
    assert schedule_of(pool, vm) == ""
    pool.settings = pool.settings._replace(assign_by_tag=True)
    pool.at(11, 15)
    assert pool.tick().status == 0
    assert (schedule_of(pool, vm), schedule_of(pool, other)) == ("nightly", "") and len(pool.snapshots(vm)) == 1
    uuids = pool.uuid("VM", vm), pool.uuid("VMSS", policy)
    assert "VM %s (web) is put on policy %s by its tag" % uuids in pool.log() and len(told(pool)) == 1


def test_a_full_disk_keeps_no_vm_from_its_snapshot(pool: TestPool) -> None:
    vm = tagged(pool, "web", "vmss:nightly")
    tagged(pool, "lost", "vmss:absent")
    pool.policy(name="nightly")
    pool.at(10, 15)
    pool.tick()
    pool.settings = pool.settings._replace(timezone="UTC")
    name = pool.uuid("pool", pool.call("pool.get_all")[0]) + ".tags"
    Path(pool.place.lock_dir, name).unlink()
    Path(pool.place.lock_dir, name + ".new").mkdir()  # so it cannot be written
    pool.at(11, 15)
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 2 and len(told(pool)) == 2


def test_it_takes_none_off_moves_none_and_deletes_nothing(pool: TestPool) -> None:
    vm, moved, many = (tagged(pool, name) for name in ("vm", "moved", "many"))
    pool.policy([vm, moved, many], "nightly", retained_snapshots="7")
    pool.policy(name="few", retained_snapshots="2", schedule={"min": "30"})
    for hour in (10, 11, 12):
        pool.at(hour, 15)
        pool.tick()
    pool.call("VM.set_tags", moved, ["vmss:few"])
    pool.call("VM.set_tags", many, ["vmss:few"])
    pool.call("VM.set_tags", vm, ["vmss:none"])
    pool.call("VM.set_snapshot_schedule", many, NULL)
    pool.at(12, 30)
    pool.tick()
    assert [schedule_of(pool, each) for each in (vm, moved, many)] == ["nightly", "nightly", ""]
    assert [len(pool.snapshots(each)) for each in (vm, moved, many)] == [3, 3, 3]
    assert [line.split(" ")[2] for line in told(pool)] == ["(many)"]
    assert [finding.evidence.split("; ")[1] for finding in bad(pool)] == ["too many", "elsewhere"]
    # A pinned one does not count.
    snapshot = pool.call("VM.get_by_uuid", pool.snapshots(many)[0]["uuid"])
    pool.call("VM.add_to_blocked_operations", snapshot, "destroy", "audit")
    pool.at(12, 45)
    pool.tick()
    assert schedule_of(pool, many) == "few"


def test_what_cannot_be_followed_is_told_once_a_day_or_when_it_changes(pool: TestPool) -> None:
    pool.policy(name="nightly")
    pool.policy(name="nightly")
    pool.policy(name="x")
    tagged(pool, "a\nPolicy: forged", "vmss:no\nsuch")
    tagged(pool, "b", "vmss:x", "vmss:nightly")
    tagged(pool, "c", "vmss:none", "vmss:x")
    tagged(pool, "d", "vmss:nightly")
    for minute in (20, 30, 45):
        pool.at(10, minute)
        assert pool.tick().status == 0
    lines = told(pool)
    assert len(lines) == 4 and lines[0].endswith("its tag 'vmss:no\\x0asuch' names no schedule that can be understood")
    assert "(a\\x0aPolicy: forged)" in lines[0] and lines[3].endswith("names 2 schedules")
    assert lines[1].endswith("its tags 'vmss:nightly' and 'vmss:x' contradict each other")
    found = bad(pool, everywhere=False)
    assert [finding.state for finding in found] == ["WARNING"] * 4
    assert "no command line here can have it" in found[0].remedy and found[1].remedy.endswith("param-key=vmss:x")
    tagged(pool, "e", "vmss:none", "vmss:x")
    pool.at(11, 0)
    pool.tick()
    assert len(told(pool)) == 9
    pool.at(0, 0, day=3)
    pool.tick()
    assert len(told(pool)) == 14


def test_one_vms_failure_stops_neither_the_others_nor_the_tick(pool: TestPool) -> None:
    vms = [tagged(pool, "vm %d" % number, "vmss:nightly") for number in range(2)]
    pool.policy(name="nightly")
    rule = {"method": "VM.set_snapshot_schedule", "action": "error", "error": '["INTERNAL_ERROR", "stuck"]'}
    pool.call("simulator.add_fault", dict(rule, object=pool.uuid("VM", vms[0]), count="1"))
    pool.at(10, 15)
    assert pool.tick().status == 0 and [len(pool.snapshots(vm)) for vm in vms] == [0, 1]
    assert any("cannot be put on policy" in line and "INTERNAL_ERROR stuck" in line for line in pool.log())
    pool.at(11, 15)
    pool.tick()
    assert [len(pool.snapshots(vm)) for vm in vms] == [1, 2]


def test_an_idle_tick_costs_one_query_more_where_it_is_on(pool: TestPool) -> None:
    pool.policy([tagged(pool, "on", "vmss:nightly")], "nightly")
    tagged(pool, "off", "production")
    pool.vm("untagged")
    calls = []
    for number, on in enumerate((False, True)):
        path = str(pool.folder / ("front %d" % number))
        front = Front(path, pool.socket)
        pool.settings = pool.settings._replace(assign_by_tag=on)
        around = pool.surroundings(place=pool.place._replace(xapi="unix:" + path))
        run(Request(kicked=True), around)
        calls.append(front.calls)
    assert sorted(calls[1]) == sorted(calls[0] + ["VM.get_all_records_where"])


def test_a_vm_operator_gets_its_vm_on_a_schedule_only_where_that_is_switched_on(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy(name="nightly")
    operator = As(pool, "vm-operator")
    operator("VM.add_tags", vm, "vmss:nightly")
    operator.may_not("VM.set_snapshot_schedule", vm, policy)
    pool.settings = Settings(timezone="UTC")
    pool.at(10, 15)
    pool.tick()
    assert schedule_of(pool, vm) == ""
    (ref,) = pool.call("pool.get_all")
    operator.may_not("pool.add_to_other_config", ref, "vmss:assign_by_tag", "yes")
    As(pool, "pool-operator")("pool.add_to_other_config", ref, "vmss:assign_by_tag", "yes")
    pool.at(11, 15)
    pool.tick()
    assert schedule_of(pool, vm) == "nightly"
    # Once it is there, no tag takes it away.
    operator("VM.set_tags", vm, ["vmss:none"])
    pool.at(12, 15)
    pool.tick()
    assert schedule_of(pool, vm) == "nightly" and len(pool.snapshots(vm)) == 2


WORDS = ["vmss:a", "vmss:b", "vmss:two", NONE, "vmss:keep=daily:1", "vmss:no-memory", "a", "vmss:absent"]


SCHEDULES = ["", "OpaqueRef:a", "OpaqueRef:b"]


@given(st.lists(st.tuples(st.sets(st.sampled_from(WORDS)), st.sampled_from(SCHEDULES), st.integers(0, 9))))
def test_only_a_vm_on_no_schedule_with_one_tag_of_one_schedule_comes_on_it(vms: Any) -> None:
    names = [("a", "a"), ("b", "b"), ("two", "c"), ("two", "d"), ("none", "e")]
    policies = [from_record("OpaqueRef:" + ref, dict(RECORD, name_label=name)) for name, ref in names]
    members = [Member(str(at), str(at), "", on, frozenset(words)) for at, (words, on, _) in enumerate(vms)]
    found = decide(members, policies, {str(at): number for at, (_, _, number) in enumerate(vms)})
    for one in found:
        if not one.obstacle:
            assert one.to is not None and one.vm.schedule == "" and NONE not in one.vm.tags
            assert one.vm.tags & {"vmss:a", "vmss:b", "vmss:two", "vmss:absent"} == {"vmss:" + one.to.name}
            assert vms[int(one.vm.ref)][2] <= one.to.retained
