"""Steps of the coordinator's clock, of an hour and a day both ways, at a random call of a pass; and the slots after."""

from datetime import timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import List

from tests.front import Front
from tests.pool import TestPool
from tests.proof.answers import QUARTER, next_slot
from tests.proof.kills import AtCall
from tests.proof.passes import build
from tests.proof.rounds import Proof, play
from tests.simulation.wire import SimulatedClock
from vmss.core import messages
from vmss.core.datetimes import format_datetime
from vmss.core.records import AT_WORK
from vmss.edges.sessions import NoSession
from vmss.passes.journal import PREFIX
from vmss.passes.request import Report, Request
from vmss.passes.run import run

STEPS = {
    "an hour ahead": timedelta(hours=1),
    "an hour back": timedelta(hours=-1),
    "a day ahead": timedelta(days=1),
    "a day back": timedelta(days=-1),
}


class Stepped:
    """A pool with two policies of which the third slot is to be served, and each of whose VMs has one snapshot; with a
    clock that can be set in the middle of a call."""

    def __init__(self, pool: TestPool) -> None:
        self.pool = pool
        build(pool)
        self.policies = pool.call("VMSS.get_all")
        self.vms = [vm for vm in pool.call("VM.get_all") if pool.call("VM.get_snapshot_schedule", vm) in self.policies]
        self.base = set(pool.call("VDI.get_all"))
        self.manual = pool.call("VM.snapshot", self.vms[0], "somebody's own")
        self.clock = SimulatedClock(pool.simulator)
        self.at_call = AtCall()
        path = str(pool.folder / "front.sock")
        self.front = Front(path, pool.socket, before=self.at_call)
        pool.place = pool.place._replace(xapi="unix:" + path)
        self.slot()
        met = len(self.front.calls)
        self.slot()
        self.calls = len(self.front.calls) - met

    def tick(self) -> Report:
        return run(Request(kicked=True), self.pool.surroundings(clock=self.clock))

    def slot(self) -> Report:
        """A pass at the next slot, by the clock as it is."""
        now = self.pool.simulator.now()
        self.pool.simulator.set_time(next_slot(now))
        return self.tick()

    def step(self, by: timedelta) -> None:
        self.clock.step(by.total_seconds())

    def nothing_is_lost(self) -> None:
        """Each VM has a scheduled snapshot; and nothing that nobody scheduled is gone."""
        pool = self.pool
        assert all(pool.snapshots(vm) for vm in self.vms), "a VM without a snapshot"
        assert self.manual in pool.call("VM.get_snapshots", self.vms[0]), "a snapshot that nobody scheduled is gone"
        assert self.base <= set(pool.call("VDI.get_all")), "a disk of a VM is gone"

    def slots(self, again: bool = False) -> None:
        """Two slots, and a quiet tick after each: one alert for each run. If the first comes `again`, because the clock
        was set back, a policy that has served it before does not serve it a second time."""
        for number in range(2):
            before = [len(self.pool.alerts(policy)) for policy in self.policies]
            assert self.slot().status == 0
            counts = [len(self.pool.alerts(policy)) for policy in self.policies]
            runs = {now - then for now, then in zip(counts, before)}
            assert runs <= ({0, 1} if again and number == 0 else {1}), "not one alert per run"
            self.quiet_tick()

    def quiet_tick(self) -> None:
        self.pool.simulator.set_time(self.pool.simulator.now() + QUARTER)
        assert self.tick().status == 0

    def check(self) -> None:
        """One snapshot of the latest slot for each VM, and nothing left.

        One that is dated in the future, from before the clock was set back, counts for nothing, and expires when its
        time has come.
        """
        pool = self.pool
        self.nothing_is_lost()
        now = format_datetime(pool.simulator.now())
        slot = next_slot(pool.simulator.now()) - timedelta(hours=1)
        for vm in self.vms:
            times = [str(record["snapshot_time"]) for record in pool.snapshots(vm)]
            assert len([time for time in times if time > now]) <= 1, "several from the future: %s" % times
            times = [time for time in times if time <= now]
            assert len(times) == 1 and times[0] >= format_datetime(slot), "not one snapshot of the slot: %s" % times
        records = pool.call("VM.get_all_records")
        kept = {str(record["suspend_VDI"]) for record in records.values()}
        for vbd in pool.call("VBD.get_all_records").values():
            if records[vbd["VM"]]["is_a_snapshot"]:
                kept.add(str(vbd["VDI"]))
        assert set(pool.snapshot_vdis()) <= kept, "orphaned disks"
        assert pool.tasks() == [] and pool.sessions() == 0, (pool.tasks(), pool.sessions())
        left = [key for key in pool.other_config() if key.startswith((PREFIX, AT_WORK))]
        assert not left, "left in pool.other_config: %s" % left


def one(seed: int, name: str) -> List[str]:
    """One step in one pass."""
    chance = Random("clock %s %d" % (name, seed))
    with TemporaryDirectory(prefix="proof") as folder, TestPool(Path(folder)) as pool:
        it = Stepped(pool)
        it.at_call.left = number = chance.randint(1, it.calls)
        it.at_call.action = lambda: it.step(STEPS[name])
        began = len(it.front.calls)
        lost = False
        try:
            assert it.slot().status == 0
        except NoSession as error:
            # To xapi, the session of the pass has been idle for a day.
            assert name == "a day ahead" and "SESSION_INVALID" in str(error), error
            lost = True
        method = it.front.calls[began + number - 1]
        try:
            it.nothing_is_lost()
            it.quiet_tick()
            it.quiet_tick()
            it.slots(again=name == "an hour back")
            it.check()
            pool.simulator.set_time(pool.simulator.now() + timedelta(days=2))
            it.slots()
            it.check()
            # A slot that passes while a pass is at work is missed.
            may = {messages.SUCCEEDED} | ({messages.MISSED_EVENT} if name.endswith("ahead") else set())
            assert set(pool.names()) <= may, pool.names()
            times = [len(pool.snapshots(vm)) for vm in it.vms]
            assert times == [1, 1, 1], "what was dated in the future has not expired: %s" % times
        except AssertionError as error:
            raise AssertionError("%s\nafter a step of %s at %s, call %d" % (error, name, method, number)) from error
    return [name] + (["session lost"] if lost else [])


def clocks(seed: int, count: int) -> Proof:
    """Each step so many times."""
    names = sorted(STEPS)
    return play("clocks", seed, count * len(names), lambda number: one(number, names[number % len(names)]))
