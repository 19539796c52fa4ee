"""The setting keep_halted: a halted VM that is unchanged since its last scheduled snapshot gets no equal one."""

from typing import Any, Callable, Dict

import pytest

from tests.pool import TestPool
from tests.test_late import findings
from tests.test_plan import planned, whys
from vmss.edges.settings import Settings
from vmss.insight.outlook import read_outlook
from vmss.insight.reading import reading


@pytest.fixture(name="halted")
def a_halted_vm(pool: TestPool) -> str:
    """A VM that was halted all along, with one snapshot, on a schedule of each hour."""
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], "hourly", retained_snapshots="3")
    pool.settings = Settings(timezone="UTC", keep_halted=True)
    pool.at(10, 15)
    pool.tick()
    return vm


def next_hours(pool: TestPool, *hours: int) -> None:
    for hour in hours:
        pool.at(hour, 15)
        assert pool.tick().status == 0


def test_it_gets_no_further_snapshot_and_counts_as_served(pool: TestPool, halted: str) -> None:
    assert whys(planned(pool), "vm")[0] == "is not taken: halted and unchanged since its last snapshot (keep_halted)"
    pool.call("simulator.reset_counts")
    next_hours(pool, 11, 12)
    assert len(pool.snapshots(halted)) == 1 and "Async.VM.snapshot" not in pool.simulator.counts
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] * 3
    assert "1 VM is halted and unchanged since the last snapshot" in pool.alerts()[-1]["body"]
    why = "halted and unchanged since its last snapshot (keep_halted)"
    assert pool.log().count("VM %s gets no snapshot: it is %s" % (pool.uuid("VM", halted), why)) == 2
    pool.at(13, 0)
    assert not [text for text in findings(pool) if "no snapshot since" in text]
    assert [row["goes"] for row in planned(pool)] == [None, None]
    # By hand it gets one all the same.
    assert pool.tick(policy=pool.uuid("VMSS", pool.call("VM.get_snapshot_schedule", halted))).status == 0
    assert len(pool.snapshots(halted)) == 2


def test_the_forecast_knows_it(pool: TestPool, halted: str) -> None:
    with reading(pool.surroundings()) as session:
        outlook = read_outlook(session, 1)
        (run,) = outlook.runs
        assert list(outlook.remarks(run)) == ["without 1 VM, as it is now: vmss plan tells why"]
        assert outlook.loads[run.policy.uuid].pieces == () and outlook.coming.rooms == {}
    pool.settings = Settings(timezone="UTC")
    with reading(pool.surroundings()) as session:
        outlook = read_outlook(session, 1)
        assert list(outlook.remarks(outlook.runs[0])) == [] and len(outlook.coming.rooms) == 1


def test_without_the_setting_it_does_and_monitoring_would_miss_it(pool: TestPool, halted: str) -> None:
    next_hours(pool, 11)
    pool.settings = Settings(timezone="UTC")
    pool.at(12, 0)
    assert any("no snapshot since" in text for text in findings(pool))
    next_hours(pool, 12)
    assert len(pool.snapshots(halted)) == 2


def test_a_disk_that_is_left_out_keeps_it_no_less_equal(pool: TestPool, halted: str) -> None:
    sr = pool.call("SR.get_by_name_label", "sr")[0]
    left_out = pool.vdi(sr, name="[NOSNAP] scratch")
    pool.vbd(halted, left_out, 5)
    pool.settings = Settings(timezone="UTC", keep_halted=True, skip_disks="[NOSNAP]")
    next_hours(pool, 11, 12)
    assert len(pool.snapshots(halted)) == 1
    pool.settings = Settings(timezone="UTC", keep_halted=True)
    next_hours(pool, 13, 14)
    assert len(pool.snapshots(halted)) == 2


def started(pool: TestPool, vm: str) -> None:
    pool.call("VM.start", vm, False, False)
    pool.call("VM.hard_shutdown", vm)


def running(pool: TestPool, vm: str) -> None:
    pool.call("VM.start", vm, False, False)


def with_another_disk(pool: TestPool, vm: str) -> None:
    pool.vbd(vm, pool.vdi(pool.call("SR.get_by_name_label", "sr")[0]), 5)


def shared(pool: TestPool, vm: str) -> None:
    (vbd,) = pool.call("VM.get_VBDs", vm)
    pool.vbd(pool.vm("another"), pool.call("VBD.get_VDI", vbd), 0)


def reverted(pool: TestPool, vm: str) -> None:
    first = pool.call("VM.snapshot", vm, "by hand")
    pool.call("VM.revert", first)


CHANGES: Dict[str, Callable[[TestPool, str], Any]] = {
    "started": started,
    "running": running,
    "another disk": with_another_disk,
    "shared disk": shared,
    "reverted": reverted,
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_vm_that_may_have_changed_gets_one(pool: TestPool, halted: str, change: str) -> None:
    next_hours(pool, 11)
    assert len(pool.snapshots(halted)) == 1
    CHANGES[change](pool, halted)
    next_hours(pool, 12)
    assert len(pool.snapshots(halted)) == 2


def test_one_that_was_halted_after_its_snapshot_gets_one_more(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()], running=True)
    pool.policy([vm], "hourly", retained_snapshots="9")
    pool.settings = Settings(timezone="UTC", keep_halted=True)
    next_hours(pool, 12)
    pool.call("VM.hard_shutdown", vm)
    next_hours(pool, 13, 14, 15)
    assert len(pool.snapshots(vm)) == 2
