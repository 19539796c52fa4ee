"""A new snapshot counts when it was read back: until then nothing of its VM expires, whatever its task has told."""

import re
from datetime import timedelta
from typing import Any, Callable, Dict, List, Set

import pytest

from tests.front import Front, Once, lose
from tests.pool import TestPool
from vmss.demo import VirtualClock
from vmss.edges.sessions import NoSession
from vmss.passes.request import Request
from vmss.passes.run import run
from vmss.simulator.faults import Rule

KINDS = ("snapshot", "checkpoint", "snapshot_with_quiesce")
# The result of a task within the answer of event.from.
RESULT = re.compile(rb"<value>(OpaqueRef:[-0-9a-f]+)</value>")
DESTROYS = ("Async.VM.destroy", "Async.VDI.destroy", "Async.VM.hard_shutdown")


class Bench:
    """A pool with a VM that has two disks, two scheduled snapshots, and a schedule that keeps two; and another VM.

    When the next snapshot of the VM ends, `happens` is done with it, and what that returns is told in its place.
    """

    def __init__(self, pool: TestPool, kind: str = "snapshot") -> None:
        self.pool = pool
        self.vm = pool.vm("vm", [pool.sr("one"), pool.sr("two")], running=True)
        self.other = pool.vm("other", [pool.sr("three")], running=True)
        (ref,) = pool.call("pool.get_all")
        pool.call("pool.set_suspend_image_SR", ref, pool.sr("memory"))
        self.policy = pool.policy([self.vm, self.other])
        pool.simulator.db.set("VMSS", self.policy, "type", kind)  # as an upgrade leaves it
        for hour in (8, 9):
            pool.at(hour, 15)
            assert pool.tick().status == 0
        self.old = pool.snapshots(self.vm)
        self.front = Front(str(pool.folder / "front.sock"), pool.socket, rewrite=self._rewrite)
        pool.place = pool.place._replace(xapi="unix:%s" % (pool.folder / "front.sock"))
        self.happens: Callable[[str], str] = lambda new: new
        self._told: Set[bytes] = set()

    def _rewrite(self, method: str, body: bytes) -> bytes:
        if method != "event.from":
            return body
        for told in set(RESULT.findall(body)) - self._told:
            self._told.add(told)
            if self.pool.call("VM.get_snapshot_of", told.decode()) == self.vm:
                body = body.replace(told, self.happens(told.decode()).encode())
        return body

    def ref(self, record: Dict[str, Any]) -> str:
        return str(self.pool.call("VM.get_by_uuid", record["uuid"]))

    def uuids(self) -> List[str]:
        return [str(record["uuid"]) for record in self.pool.snapshots(self.vm)]

    def error(self) -> List[str]:
        """The error of the VM, as the last alert of the schedule tells it."""
        last = self.pool.alerts(self.policy)[-1]
        assert last["name"] == "VMSS_SNAPSHOT_FAILED"
        (line,) = [line for line in last["body"].split("\n") if "UUID:%s" % self.pool.uuid("VM", self.vm) in line]
        return re.findall("'([^']*)'", line)

    # What happens to the new snapshot

    def gone(self, new: str, told: str = "") -> str:
        """There is none, though its task says so."""
        if self.pool.call("VM.get_power_state", new) == "Suspended":
            self.pool.call("VM.hard_shutdown", new)
        disks = [self.pool.call("VBD.get_VDI", vbd) for vbd in self.pool.call("VM.get_VBDs", new)]
        self.pool.call("VM.destroy", new)
        for disk in disks:
            self.pool.call("VDI.destroy", disk)
        return told

    def foreign(self, new: str) -> str:
        return self.gone(new, self.ref(self.pool.snapshots(self.other)[0]))

    def itself(self, new: str) -> str:
        return self.gone(new, self.vm)

    def older(self, new: str) -> str:
        return self.gone(new, self.ref(self.old[0]))

    def unmarked(self, new: str) -> str:
        self.pool.simulator.db.set("VM", new, "is_vmss_snapshot", False)
        return new

    def without_a_disk(self, new: str) -> str:
        self.pool.call("VDI.destroy", self.pool.call("VBD.get_VDI", self.pool.call("VM.get_VBDs", new)[0]))
        return new

    def without_memory(self, new: str) -> str:
        self.pool.call("VDI.destroy", self.pool.call("VM.get_suspend_VDI", new))
        return new


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("gone", "its task tells nothing that exists"),
        ("foreign", "it tells a snapshot of another VM"),
        ("itself", "it tells an object that is no snapshot"),
        ("older", "it tells a snapshot that is older"),
    ],
)
def test_where_there_is_no_new_snapshot_nothing_expires_and_the_next_tick_takes_it(
    pool: TestPool, kind: str, what: str, reason: str
) -> None:
    bench = Bench(pool, kind)
    before = bench.uuids()
    bench.happens = getattr(bench, what)
    pool.at(10, 15)
    assert pool.tick().status == 1
    assert bench.uuids() == before and len(pool.snapshots(bench.other)) == 2
    assert bench.error()[0] == "VMSS_SNAPSHOT_MISSING" and bench.error()[-1] == reason
    bench.happens = lambda new: new
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert bench.uuids()[0] == before[1] and len(bench.uuids()) == 2
    assert pool.names(bench.policy)[-1] == "VMSS_SNAPSHOT_SUCCEEDED"
    pool.at(10, 45)
    assert pool.tick().line == "no schedule is due"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("what", "reason"), [("unmarked", "it is not marked as scheduled"), ("without_a_disk", "it has 1 of 2 disks")]
)
def test_a_new_snapshot_that_lacks_something_does_not_count_and_stays(
    pool: TestPool, kind: str, what: str, reason: str
) -> None:
    bench = Bench(pool, kind)
    before = bench.uuids()
    made = []
    bench.happens = lambda new: made.append(pool.uuid("VM", new)) or getattr(bench, what)(new)  # type: ignore[func-returns-value]
    pool.at(10, 15)
    assert pool.tick().status == 1
    assert set(before) <= set(bench.uuids()) and len(pool.snapshots(bench.other)) == 2
    assert bench.error() == ["VMSS_SNAPSHOT_UNFIT", made[0], reason]
    there = pool.call("VM.get_snapshots", bench.vm)
    for minute in (30, 45):  # each try would leave one more of them
        pool.at(10, minute)
        assert pool.tick().line == "no schedule is due"
    assert pool.call("VM.get_snapshots", bench.vm) == there


@pytest.mark.parametrize("what", ["gone", "without_a_disk"])
def test_for_a_new_snapshot_that_does_not_count_not_even_what_exceeds_retention_goes(pool: TestPool, what: str) -> None:
    bench = Bench(pool)
    pool.call("VMSS.set_retained_snapshots", bench.policy, "1")
    before = bench.uuids()
    bench.happens = getattr(bench, what)
    pool.at(10, 15)
    assert pool.tick().status == 1
    assert len(before) == 2 and set(before) <= set(bench.uuids())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("told", ["", "OpaqueRef:NULL", "OpaqueRef:no-such-object", "the VM", "an older one"])
def test_a_snapshot_that_its_task_does_not_tell_is_found(pool: TestPool, kind: str, told: str) -> None:
    bench = Bench(pool, kind)
    before = bench.uuids()
    bench.happens = lambda new: {"the VM": bench.vm, "an older one": bench.ref(bench.old[0])}.get(told, told)
    pool.at(10, 15)
    assert pool.tick().status == 0
    assert bench.uuids()[0] == before[1] and len(bench.uuids()) == 2


def test_a_snapshot_that_cannot_be_read_back_is_read_by_the_next_tick_and_not_taken_twice(pool: TestPool) -> None:
    bench = Bench(pool)
    before = bench.uuids()

    def refused(new: str) -> str:
        pool.simulator.faults.add(Rule(method="VM.get_all_records_where", action="error", error=["NO"]))
        return new

    bench.happens = refused
    pool.call("VM.set_snapshot_schedule", bench.other, "OpaqueRef:NULL")
    pool.at(10, 15)
    assert pool.tick().status == 1
    assert bench.error()[0] == "VMSS_SNAPSHOT_NOT_READ_BACK"
    assert bench.uuids()[:2] == before and len(bench.uuids()) == 3
    bench.happens = lambda new: new
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert len(bench.uuids()) == 2 and bench.uuids()[0] == before[1]
    assert pool.names(bench.policy)[-1] == "VMSS_SNAPSHOT_SUCCEEDED"


def test_a_call_that_is_lost_while_it_is_read_back_costs_no_second_snapshot(pool: TestPool) -> None:
    bench = Bench(pool)
    before = bench.uuids()
    ended: List[str] = []
    bench.happens = lambda new: ended.append(new) or new  # type: ignore[func-returns-value]
    hook = Once("VM.get_all_records_where", lose)
    path = str(pool.folder / "loses.sock")
    Front(path, str(pool.folder / "front.sock"), before=lambda method: hook(method) if ended else None)
    whole = pool.place
    pool.place = pool.place._replace(xapi="unix:" + path)
    pool.at(10, 15)
    with pytest.raises(NoSession):
        pool.tick()
    pool.place = whole
    assert bench.uuids()[:2] == before and len(bench.uuids()) == 3
    assert any("The pass ends here" in line for line in pool.log())
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert len(bench.uuids()) == 2 and bench.uuids()[0] == before[1]


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("lacks", [False, True])
def test_what_a_pass_has_taken_and_not_read_back_the_next_one_reads_back(
    pool: TestPool, lacks: bool, added: bool
) -> None:
    bench = Bench(pool)
    before = bench.uuids()
    made: List[str] = []

    def dies(new: str) -> str:
        made.append(new)
        return bench.without_a_disk(new) if lacks else new

    bench.happens = dies
    path = str(pool.folder / "dies.sock")
    Front(path, str(pool.folder / "front.sock"), before=lambda method: lose() if made else None)
    whole = pool.place
    pool.place = pool.place._replace(xapi="unix:" + path)
    pool.at(10, 15)
    with pytest.raises(NoSession):
        pool.tick()
    pool.place = whole
    if added:  # a disk that the VM had not when its snapshot was taken
        pool.vbd(bench.vm, pool.vdi(pool.sr("four")), 7)
    bench.happens = lambda new: new
    pool.at(10, 30)
    assert pool.tick().status == int(lacks)
    new = pool.uuid("VM", made[0])
    if lacks:
        assert bench.error() == ["VMSS_SNAPSHOT_UNFIT", new, "it has 1 of 2 disks"]
        assert bench.uuids() == [*before, new]
    else:
        assert bench.uuids() == [before[1], new]


def test_a_disk_that_was_taken_off_meanwhile_is_not_missed(pool: TestPool) -> None:
    bench = Bench(pool)

    def detached(new: str) -> str:
        vbd = pool.call("VM.get_VBDs", bench.vm)[0]
        pool.simulator.db.delete("VBD", vbd)
        return bench.without_a_disk(new)

    bench.happens = detached
    pool.at(10, 15)
    assert pool.tick().status == 0


def test_a_disk_of_the_new_snapshot_that_another_vm_has_is_there(pool: TestPool) -> None:
    bench = Bench(pool)

    def attached(new: str) -> str:
        disk = pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", new)[0])
        pool.vbd(bench.other, disk, 5)
        return new

    bench.happens = attached
    pool.at(10, 15)
    assert pool.tick().status == 0


class Stepped(VirtualClock):
    """A clock that is set back, by 20 minutes if nothing else is said."""

    def __init__(self, pool: TestPool, seconds: float = 1200.0) -> None:
        VirtualClock.__init__(self, pool.simulator)
        self._pool = pool
        self._back, self._seconds = 0.0, seconds

    def set_back(self) -> None:
        self._back = self._seconds
        self._pool.simulator.set_time(self.now() - timedelta(seconds=self._back))

    def monotonic(self) -> float:
        return VirtualClock.monotonic(self) + self._back


def test_a_clock_that_is_set_back_meanwhile_makes_no_snapshot_too_old(pool: TestPool) -> None:
    bench, clock = Bench(pool), Stepped(pool)
    path = str(pool.folder / "back.sock")
    Front(path, pool.socket, before=Once("Async.VM.snapshot", clock.set_back))
    pool.place = pool.place._replace(xapi="unix:" + path)
    pool.at(10, 15)
    assert run(Request(kicked=True), pool.surroundings(clock=clock)).status == 0
    assert bench.uuids()[:2] != [record["uuid"] for record in bench.old]


def test_nothing_is_destroyed_before_the_snapshot_was_read_back(pool: TestPool) -> None:
    bench = Bench(pool)
    pool.at(10, 15)
    pool.tick()
    calls = bench.front.calls
    last = max(at for at, method in enumerate(calls) if method == "Async.VM.snapshot")
    read = calls.index("VDI.get_all_records_where", last)
    assert read < min(calls.index(method) for method in DESTROYS[:2])


def test_many_are_read_back_together(pool: TestPool) -> None:
    sr = pool.sr()
    pool.policy([pool.vm("vm%d" % number, [sr]) for number in range(30)])
    path = str(pool.folder / "count.sock")
    front = Front(path, pool.socket)
    pool.place = pool.place._replace(xapi="unix:" + path)
    pool.at(10, 15)
    assert pool.tick().status == 0
    first = front.calls.index("Async.VM.snapshot")
    told = front.calls.index("message.create")  # after that, other things are measured
    reads = [method for method in front.calls[first:told] if method.endswith(".get_all_records_where")]
    assert len(reads) <= 4, reads
