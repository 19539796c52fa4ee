"""Progress over several slots: what hangs keeps nothing waiting that works, in its own schedule or in another."""

from datetime import datetime, timedelta, timezone
from typing import List

from tests.pool import TestPool
from vmss.core.datetimes import parse_datetime
from vmss.edges.settings import Settings

UTC = timezone.utc
FIRST = datetime(2026, 3, 2, 10, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hang(pool: TestPool, method: str, object_: str) -> None:
    """Every call of a method about one object hangs."""
    pool.call(
        "simulator.add_fault", {"method": method, "object": object_, "when": "before", "action": "hang", "count": "0"}
    )


def delays(pool: TestPool, vm: str, slots: int) -> List[timedelta]:
    """How long after each of these slots, an hour apart, the VM had a snapshot."""
    times = sorted(parse_datetime(snapshot["snapshot_time"]) for snapshot in pool.snapshots(vm))
    return [
        min((time for time in times if time >= slot), default=slot + 99 * HOUR) - slot
        for slot in (FIRST + number * HOUR for number in range(slots))
    ]


def ticks(pool: TestPool, until: datetime) -> None:
    """The ticks of cron from the first slot on; those that find the lock taken are skipped."""
    at = FIRST
    while at < until:
        if at >= pool.simulator.now():
            pool.simulator.set_time(at)
            pool.tick()
        at += timedelta(minutes=15)


def test_vms_on_a_healthy_sr_are_served_at_every_slot_of_a_schedule_whose_other_sr_hangs(pool: TestPool) -> None:
    pool.settings = Settings(timezone="UTC", pass_limit=7 * 3600)
    sick = [pool.vm("sick %d" % number, [pool.sr("sick")]) for number in range(1)]
    sr = pool.call("VDI.get_SR", pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", sick[0])[0]))
    sick += [pool.vm("sick %d" % number, [sr]) for number in range(1, 6)]
    healthy = [pool.vm("healthy %d" % number, [pool.sr("healthy %d" % number)]) for number in range(4)]
    policy = pool.policy(sick + healthy, retained_snapshots="10")
    for vm in sick:
        hang(pool, "VM.snapshot", vm)
    ticks(pool, FIRST + 6 * HOUR)
    for vm in healthy:
        assert max(delays(pool, vm, 6)) < timedelta(minutes=3)
    assert all(pool.snapshots(vm) == [] for vm in sick)
    failed = [alert["body"] for alert in pool.alerts(policy) if alert["name"] == "VMSS_SNAPSHOT_FAILED"]
    for body in failed:
        assert sum(1 for number in range(6) if "VM:sick %d UUID:" % number in body) == 6


def test_a_deletion_that_hangs_keeps_neither_the_alert_nor_the_next_slot_waiting(pool: TestPool) -> None:
    vm, other = pool.vm("vm", [pool.sr()]), pool.vm("other", [pool.sr("other")])
    policy = pool.policy([vm, other], retained_snapshots="1")
    ticks(pool, FIRST + HOUR)
    (old,) = pool.call("VM.get_snapshots", vm)
    hang(pool, "VM.destroy", old)
    pool.simulator.set_time(FIRST + HOUR)
    pool.tick()
    second = [alert for alert in pool.alerts(policy) if parse_datetime(alert["timestamp"]) >= FIRST + HOUR]
    assert parse_datetime(second[0]["timestamp"]) < FIRST + HOUR + timedelta(minutes=6)
    assert max(delays(pool, vm, 3)) < timedelta(minutes=1) and delays(pool, other, 3)[-1] < timedelta(minutes=1)
    assert "VMSS_SNAPSHOT_MISSED_EVENT" not in pool.names(policy)


def test_what_hangs_together_is_passed_by_in_one_order_in_any_process(pool: TestPool) -> None:
    # They were released in the order of a set, and so what had waited for them started in any order.
    srs = [pool.sr("sr %d" % number) for number in range(8)]
    hanging = [pool.vm("hangs %d" % number, srs[2 * number : 2 * number + 2]) for number in range(4)]
    waiting = [pool.vm("waits %d" % number, [srs[2 * number]]) for number in range(4)]
    pool.policy(hanging + waiting)
    for vm in hanging:
        hang(pool, "VM.snapshot", vm)
    pool.simulator.set_time(FIRST)
    pool.tick()
    names = {pool.uuid("VM", vm): pool.call("VM.get_name_label", vm) for vm in waiting}
    begun = [names.get(line[len("Processing VM: ") :]) for line in pool.log() if line.startswith("Processing VM: ")]
    assert list(filter(None, begun))[:4] == ["waits 0", "waits 1", "waits 2", "waits 3"]
