"""No answer of xapi, whatever it says, makes a pass go round for ever: each loop has a limit, in calls.

Time is virtual here, so a pass that waits costs nothing; one that goes round without waiting is cut off.
"""

import re
from collections import Counter
from datetime import datetime
from typing import Any, Callable, Dict, List

import pytest

from tests.front import Front, Lose, valued
from tests.pool import START, TestPool
from vmss.core.outcome import RESULT_LOST
from vmss.demo import VirtualClock
from vmss.edges.tasks import Tasks
from vmss.edges.xapi import Refused
from vmss.passes.request import Report, Request
from vmss.passes.run import run
from vmss.simulator.faults import Rule

# A pass makes so many calls at most, apart from waits, for each of its two VMs, and for the whole.
CALLS = 60
# What is far beyond: the pass is cut off, and fails.
TOO_MANY = 3000
VALUE = re.compile(rb'"result":"(OpaqueRef:[-0-9a-f]+)"')
LIMITS: Dict[str, Any] = {
    "snapshot_limit": 60,
    "checkpoint_limit": 60,
    "destroy_limit": 60,
    "cancel_limit": 10,
    "late_limit": 0,
}

Lie = Callable[[str, bytes], bytes]


class Bench:
    """A pool with two VMs, each with one snapshot too many, whose schedule is due; and a liar in front of it."""

    def __init__(self, pool: TestPool, lie: Lie, kind: str = "snapshot") -> None:
        self.pool = pool
        # On an SR each, so that they go side by side.
        self.vms = [pool.vm(name, [pool.sr(name)], running=True) for name in ("one", "two")]
        self.policy = pool.policy(self.vms, retained_snapshots="1", type=kind)
        pool.at(9, 15)
        assert pool.tick().status == 0
        pool.at(10, 15)
        pool.settings = pool.settings._replace(**LIMITS)
        self.lie = lie
        self.honest = pool.place
        self.front = Front(pool.socket + ".liar", pool.socket, before=self._count, rewrite=self._rewrite)
        pool.place = pool.place._replace(xapi="unix:" + pool.socket + ".liar")

    def _count(self, method: str) -> None:
        if len(self.front.calls) > TOO_MANY:
            raise Lose

    def _rewrite(self, method: str, body: bytes) -> bytes:
        return self.lie(method, body)

    def tick(self) -> Report:
        """A pass, which waits as often as it may, and no more."""
        began = self.pool.simulator.now()
        report = self.pool.tick()
        seconds = (self.pool.simulator.now() - began).total_seconds()
        counts = Counter(self.front.calls)
        waits = counts.pop("event.from", 0)
        assert waits <= 5 * seconds + 2, (waits, seconds)
        assert sum(counts.values()) <= CALLS * 3, counts
        assert seconds < 1000
        return report

    def all_is_made_good(self) -> None:
        self.pool.place = self.honest
        self.pool.settings = self.pool.settings._replace(late_limit=3600)
        for hour in (11, 12):
            self.pool.at(hour, 15)
            assert self.pool.tick().status == 0
        assert [len(self.pool.snapshots(vm)) for vm in self.vms] == [1, 1]
        assert self.pool.tasks() == [] and self.pool.sessions() == 0


def refuse(pool: TestPool, method: str, error: str) -> None:
    """Every call of a method is refused."""
    pool.simulator.faults.add(Rule(method=method, action="error", error=[error]))


def honestly(method: str, body: bytes) -> bytes:
    return body


class FirstAgain:
    """Every start of an operation is answered with the task of the first one."""

    def __init__(self, *methods: str) -> None:
        self.methods = methods
        self.first = b""

    def __call__(self, method: str, body: bytes) -> bytes:
        match = VALUE.search(body) if method.startswith("Async.") and method[6:] in self.methods else None
        if match is None:
            return body
        self.first = self.first or match.group(1)
        return body.replace(match.group(1), self.first)


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint"])
@pytest.mark.parametrize(
    "methods", [("VM.snapshot", "VM.checkpoint"), ("VM.destroy",), ("VDI.destroy",), ("VM.hard_shutdown",)]
)
@pytest.mark.timeout(60)
def test_two_operations_that_are_told_one_task_both_come_to_an_end(
    pool: TestPool, kind: str, methods: List[str]
) -> None:
    bench = Bench(pool, FirstAgain(*methods), kind)
    bench.tick()
    assert pool.names(bench.policy)[1:]  # the run was told
    bench.all_is_made_good()


@pytest.mark.timeout(60)
def test_every_operation_is_told_one_task(pool: TestPool) -> None:
    bench = Bench(pool, FirstAgain("VM.snapshot", "VM.destroy", "VDI.destroy"))
    bench.tick()
    bench.all_is_made_good()


@pytest.mark.parametrize("task", ["", "×", "OpaqueRef:NULL", "OpaqueRef:00000000-0000-0000-0000-000000000000", "a VM"])
@pytest.mark.timeout(60)
def test_an_operation_is_told_a_task_that_is_none(pool: TestPool, task: str) -> None:
    def lie(method: str, body: bytes) -> bytes:
        told = (bench.vms[0] if task == "a VM" else task).encode()
        match = VALUE.search(body) if method == "Async.VM.snapshot" else None
        return body.replace(match.group(1), told) if match else body

    bench = Bench(pool, lie)
    bench.tick()
    assert len(bench.front.calls) < 5 * 100 + CALLS
    bench.all_is_made_good()


def test_a_task_that_is_awaited_is_not_awaited_for_another(pool: TestPool) -> None:
    tasks = Tasks(pool.xapi, VirtualClock(pool.simulator))
    tasks.adopt("OpaqueRef:1", "VM.snapshot")
    with pytest.raises(Refused) as caught:
        tasks.adopt("OpaqueRef:1", "VM.checkpoint")
    assert caught.value.error == (RESULT_LOST, "VM.checkpoint") and tasks.pending == {"OpaqueRef:1": "VM.snapshot"}


def event_from(change: Callable[[bytes], bytes]) -> Lie:
    return lambda method, body: change(body) if method == "event.from" else body


class Token:
    """Tells a token that it has told before, and so the same events again."""

    def __init__(self) -> None:
        self.first = b""

    def __call__(self, body: bytes) -> bytes:
        match = re.search(rb'"token":"([^"]*)"', body)
        assert match
        self.first = self.first or match.group(1)
        return body.replace(match.group(1), self.first)


def without_events(body: bytes) -> bytes:
    return valued(lambda _, value: value.update(events=[]))("", body)


@pytest.mark.parametrize("change", [Token(), without_events], ids=["a token that goes back", "no events"])
@pytest.mark.timeout(60)
def test_an_answer_of_event_from_that_tells_nothing_new_costs_no_more_than_a_wait(
    pool: TestPool, change: Callable[[bytes], bytes]
) -> None:
    bench = Bench(pool, event_from(change))
    bench.tick()
    bench.all_is_made_good()


@pytest.mark.parametrize("error", ["EVENT_FROM_TOKEN_PARSE_FAILURE", "EVENTS_LOST"])
@pytest.mark.timeout(60)
def test_an_event_from_that_is_always_refused_is_not_asked_for_ever(pool: TestPool, error: str) -> None:
    bench = Bench(pool, honestly)
    refuse(pool, "event.from", error)
    with pytest.raises(Exception, match=error):
        bench.tick()
    assert len(bench.front.calls) < CALLS
    pool.call("simulator.clear_faults")
    bench.all_is_made_good()


class Flips:
    """Each time that a VM is read, it is told to run, or to be halted, in turn."""

    def __init__(self) -> None:
        self.states = [b"Running", b"Halted"]

    def __call__(self, method: str, body: bytes) -> bytes:
        if not method.startswith("VM.get_") or b"power_state" not in body:
            return body
        self.states.reverse()
        return re.sub(rb"(?<=>)(Running|Halted)(?=<)", self.states[0], body)


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.timeout(60)
def test_a_vm_that_is_told_to_run_and_not_to_run_in_turn_is_tried_a_few_times(pool: TestPool, refused: bool) -> None:
    bench = Bench(pool, Flips(), "checkpoint")
    error = "VM_BAD_POWER_STATE"
    if refused:
        for method in ("VM.checkpoint", "VM.snapshot"):
            refuse(pool, method, error)
    else:  # it is read before each start, because the plan is old
        hook = bench.front._before

        def late(method: str) -> None:
            hook(method)
            if method == "VDI.get_all_records_where" and bench.front.calls.count(method) == 1:
                pool.simulator.set_time(datetime.fromtimestamp(pool.simulator.now().timestamp() + 100, START.tzinfo))

        bench.front._before = late
    report = bench.tick()
    assert report.status == (1 if refused else report.status)
    assert bench.front.calls.count("Async.VM.checkpoint") + bench.front.calls.count("Async.VM.snapshot") < 30
    pool.call("simulator.clear_faults")
    bench.all_is_made_good()


class Renamed:
    """Each time that the schedules are read, they bear other references, and perhaps other uuids."""

    def __init__(self, uuids: bool) -> None:
        self.uuids = uuids
        self.count = 0

    def __call__(self, method: str, body: bytes) -> bytes:
        if method != "VMSS.get_all_records":
            return body
        self.count += 1
        digits = b"%012d" % self.count
        body = re.sub(rb'("OpaqueRef:[-0-9a-f]{24})[0-9a-f]{12}(?=":{)', rb"\g<1>" + digits, body)
        if self.uuids:
            body = re.sub(rb'("uuid":"[-0-9a-f]{24})[0-9a-f]{12}', rb"\g<1>" + digits, body)
        return body


@pytest.mark.parametrize("uuids", [True, False])
@pytest.mark.timeout(60)
def test_schedules_that_are_others_whenever_they_are_read_are_served_once(pool: TestPool, uuids: bool) -> None:
    bench = Bench(pool, Renamed(uuids))
    bench.tick()
    assert len(bench.front.calls) < 2 * CALLS
    bench.all_is_made_good()


@pytest.mark.timeout(60)
def test_a_schedule_whose_last_run_time_never_moves_is_served_once(pool: TestPool) -> None:
    bench = Bench(pool, honestly)
    before = pool.last_run(bench.policy)
    refuse(pool, "VMSS.set_last_run_time", "INTERNAL_ERROR")
    assert bench.tick().status == 0
    assert pool.last_run(bench.policy) == before
    assert Counter(bench.front.calls)["Async.VM.snapshot"] == 2
    pool.call("simulator.clear_faults")
    bench.all_is_made_good()


MEMBERS = re.compile(rb'("VMs":\[)(.*?)(\])')


@pytest.mark.timeout(60)
def test_a_vm_that_stands_twice_in_its_schedule_is_served_once(pool: TestPool) -> None:
    def lie(method: str, body: bytes) -> bytes:
        return MEMBERS.sub(rb"\1\2,\2\3", body) if method == "VMSS.get_all_records" else body

    bench = Bench(pool, lie)
    bench.tick()
    assert Counter(bench.front.calls)["Async.VM.snapshot"] == 2
    bench.all_is_made_good()


class Standing(VirtualClock):
    """A clock that stands still, or jumps an hour on and back; the monotonic one goes on."""

    def __init__(self, pool: TestPool, jumps: float) -> None:
        VirtualClock.__init__(self, pool.simulator)
        self._at = pool.simulator.now()
        self._jumps = jumps
        self._asked = 0

    def now(self) -> datetime:
        self._asked += 1
        return datetime.fromtimestamp(self._at.timestamp() + self._jumps * (self._asked % 2), START.tzinfo)


@pytest.mark.parametrize("jumps", [0.0, 3600.0, -3600.0])
@pytest.mark.timeout(60)
def test_a_clock_that_stands_still_or_jumps_makes_no_pass_go_round(pool: TestPool, jumps: float) -> None:
    bench = Bench(pool, honestly)
    run(Request(kicked=True), pool.surroundings(clock=Standing(pool, jumps)))
    assert len(bench.front.calls) < 2 * CALLS


@pytest.mark.parametrize("method", ["task.destroy", "task.cancel", "VM.get_all_records_where"])
@pytest.mark.timeout(60)
def test_what_is_always_refused_is_not_asked_for_ever(pool: TestPool, method: str) -> None:
    bench = Bench(pool, honestly)
    refuse(pool, method, "INTERNAL_ERROR")
    pool.call("simulator.add_fault", {"method": "VM.snapshot", "object": bench.vms[0], "action": "hang"})
    try:
        bench.tick()
    except Exception as error:  # noqa: BLE001 - it may end the pass; but it ends
        assert "INTERNAL_ERROR" in str(error)
    assert len(bench.front.calls) < 5 * 100 + CALLS
