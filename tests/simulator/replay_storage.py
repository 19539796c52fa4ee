"""What happened beside the calls of storage.jsonl: calls that were not written down, and what was done on the host."""

from typing import List, Tuple

from vmss.simulator.build import vbd_record, vdi_record
from vmss.simulator.classes.vbd import refresh as refresh_vbd
from vmss.simulator.faults import Rule
from vmss.simulator.images import MIB

from .replay import Trace
from .replay_observations import Observations
from .replay_stage import GIB, REFERENCE


class Storage(Observations):
    """673 calls and observations of a xapi with the real storage manager below it."""

    name = "storage"

    def before(self, trace: Trace) -> None:
        number = trace.number
        if 100 <= number <= 109 or 117 <= number <= 135:
            self.write(self.value(14))
        if 100 <= number <= 109 and number % 2 == 0:
            self.write(self.value(16), 1)

    # --- 4. destroying ---

    def before_147(self) -> None:
        self.meant(147, self.disk(self.value(146)))

    def before_167(self) -> None:
        self.meant(167, self.disk(self.value(166)))

    def before_197(self) -> None:
        snapshot = self.value(196)
        (vbd,) = self.sim.db.pointing_at("VBD", "VM", snapshot)
        self.meant(197, self.sim.db.row("VBD", vbd)["VDI"])

    def before_228(self) -> None:
        self.call("simulator.add_file", self.value(227), "a.iso", 1000000)

    # --- 5. errors ---

    def before_252(self) -> None:
        self.meant(252, self.disk(self.value(247), "0"))
        self.meant(256, self.disk(self.value(247), "1"))

    def before_271(self) -> None:
        self.remember()
        self.spoil(self.disk(self.value(263), "0"), "missing")

    def before_279(self) -> None:
        self.mend_all()

    def before_282(self) -> None:
        self.spoil(self.disk(self.value(263), "1"), "corrupt")

    def before_290(self) -> None:
        (pbd,) = self.sim.db.pointing_at("PBD", "SR", self.value(262))
        self.meant(290, pbd)

    def before_301(self) -> None:
        self.meant(302, self.disk(self.value(289)))

    def before_319(self) -> None:
        self.sim.storage.manager.repository(self.value(317)).capacity = 12 * MIB

    def before_323(self) -> None:
        self.do("SR.scan", self.value(317))

    def before_325(self) -> None:
        self.remember()
        repository = self.sim.storage.manager.repository(self.value(317))
        self.call("simulator.fill", self.value(317), repository.free)

    def before_334(self) -> None:
        self.call("simulator.fill", self.value(317), 0)

    def before_335(self) -> None:
        self.call("simulator.set_read_only", self.value(317), True)

    def before_336(self) -> None:
        self.call("simulator.set_read_only", self.value(317), False)
        killed = ["SR_BACKEND_FAILURE", "received signal: SIGKILL", "", ""]
        self.sim.faults.add(Rule("VDI.snapshot", "error", error=killed))

    # --- 6b. in the middle of a slow snapshot ---

    def before_354(self) -> None:
        first, second = self._bursts()
        self.take(vdi_snapshot=4.0)
        self.meant(354, self.during(354, lambda: str(self.do("Async.VM.snapshot", first, "s41", [])), 0.2))
        self.meant(357, self.disk(first))
        self.meant(359, second)

    def _bursts(self) -> Tuple[str, str]:
        """The subject of observations 342 to 353: VMs on two SRs, many snapshots at once, twice over."""
        srs = (self.value(340), self.value(341))
        names = (["ma%d" % number for number in range(5)], ["mb%d" % number for number in range(5)])
        rows = [[self.vm(name, sr, [GIB], "{} disk") for name in row] for row, sr in zip(names, srs)]
        both = self.vm("m-two", srs[0], [GIB])
        disk = self.do("VDI.create", vdi_record("m-two 1", srs[1], GIB))
        self.do("VBD.create", vbd_record(both, disk, "1"))
        a, b = self.a, self.b = rows
        count = 0
        for turn in range(2):
            for vm in [a[0], *a[:2], a[0], b[0], *a, *a, *b]:
                count += 1
                self.do("VM.snapshot", vm, "s%d" % count, [])
            self.do("VM.snapshot", both, "x%d" % (2 * turn), [])
        for sr in srs:
            self.do("SR.scan", sr)
        return a[0], a[1]

    def slow(self, number: int, seconds: float = 3.0) -> Tuple[str, str]:
        """A VM whose snapshot has begun 0.7 s before; return it and the task."""
        self.all_end()
        self.take()
        vm = self.vm("w", self.value(340), [64 * MIB], "{} disk")
        self.take(vdi_snapshot=seconds)
        task = self.during(number, lambda: str(self.do("Async.VM.snapshot", vm, "w snap", [])))
        return vm, task

    def before_369(self) -> None:
        self.meant(369, self.slow(369)[0])

    def before_371(self) -> None:
        self.meant(371, self.disk(self.slow(371)[0]))

    def before_373(self) -> None:
        self.meant(373, self.disk(self.slow(373)[0]))

    def before_375(self) -> None:
        self.meant(375, self.disk(self.slow(375)[0]))

    def before_377(self) -> None:
        self.meant(377, self.disk(self.slow(377)[0]))

    def before_379(self) -> None:
        self.meant(379, self.slow(379)[0])

    def before_381(self) -> None:
        self.meant(381, self.slow(381)[0])

    def before_383(self) -> None:
        self.meant(383, self.slow(383)[0])

    def before_385(self) -> None:
        self.meant(385, self.slow(385)[0])

    def before_387(self) -> None:
        self.meant(387, self.vbd(self.slow(387)[0], "0"))

    def before_389(self) -> None:
        self.take()
        disk = self.do("VDI.create", vdi_record("new disk", self.value(340), GIB))
        self.meant(389, self.slow(389)[0], disk)

    def before_391(self) -> None:
        self.slow(391)

    before_393 = before_395 = before_391

    def before_397(self) -> None:
        self.slow(397)
        self.meant(397, self.b[1])

    def before_399(self) -> None:
        self.meant(399, self.slow(399)[0])

    def before_401(self) -> None:
        self.meant(401, self.slow(401, 12.0)[0])

    # --- 6c. destroying at once ---

    def before_411(self) -> None:
        """The subject of observations 404 to 410: snapshots created and destroyed at the same time."""
        self.all_end()
        self.take()
        a, b = self.a, self.b
        for name in ("t1", "t2", "t3"):
            self.do("VM.snapshot", a[0], name, [])
        for vm in [*a[:2], a[0], b[0], *a] * 2:
            self.do("VDI.destroy", self.loose_disk(vm))
        self.take(vdi_destroy=3.0)
        disk = self.loose_disk(a[0])
        self.meant(411, disk)
        self.during(411, lambda: str(self.do("Async.VDI.destroy", disk)))

    def loose_disk(self, vm: str, name: str = "del") -> str:
        """The disk of a snapshot that is gone."""
        snapshot = self.do("VM.snapshot", vm, name, [])
        disk = self.disk(snapshot)
        self.do("VM.destroy", snapshot)
        return disk

    def before_418(self) -> None:
        """Observations 415 and 416: a snapshot beside a VDI.destroy, a VM.destroy twice at once."""
        self.all_end()
        self.take()
        self.do("VDI.destroy", self.loose_disk(self.a[0]))
        self.do("VM.snapshot", self.a[0], "both", [])
        self.loose_disk(self.a[0], "deltwice")

    # --- 7. xapi killed ---

    def restart(self, way: str) -> None:
        self.call("simulator.restart", way, 0.0)

    def order_vbds(self, vm: str, devices: str) -> None:
        """After a restart sets come in another order: here in the one that was recorded, which decides which disk of a
        VM comes first."""
        vbds = [self.vbd(vm, device) for device in devices]
        self.sim.db.tables["VBD"].back["VM"][vm] = dict.fromkeys(reversed(vbds))

    def before_428(self) -> None:
        self.all_end()
        self.take(vdi_snapshot=4.2)

    def before_432(self) -> None:
        self.let_pass(6.0)
        self.restart("kill")
        self.order_vbds(self.value(419), "120")
        self.let_pass(5.0)
        self.take()

    def before_443(self) -> None:
        self.take(vdi_snapshot=4.2)

    def before_444(self) -> None:
        self.let_pass(6.0)

    def before_447(self) -> None:
        self.restart("kill")
        self.order_vbds(self.value(419), "120")
        self.let_pass(5.0)
        self.take()

    def before_457(self) -> None:
        # The disks that observation 456 had found were cleaned up.
        rows = self.sim.db.tables["VDI"].rows
        for vdi, row in list(rows.items()):
            mine = row["SR"] == self.value(418) and row["is_a_snapshot"]
            if mine and not self.sim.db.pointing_at("VBD", "VDI", vdi):
                self.do("VDI.destroy", vdi)

    def before_458(self) -> None:
        self.take(vdi_snapshot=4.2)
        self.during(458, lambda: str(self.do("Async.VM.snapshot", self.value(419), "lost", [])), 2.0)

    def before_460(self) -> None:
        self.restart("host")
        self.order_vbds(self.value(419), "120")
        self.take()

    def before_471(self) -> None:
        snapshot = self.value(470)
        self.meant(472, self.disk(snapshot, "0"))
        self.meant(479, self.disk(snapshot, "2"))

    def before_473(self) -> None:
        self.let_pass(0.05)

    def before_474(self) -> None:
        self.restart("kill")
        self.order_vbds(self.value(419), "210")
        self.let_pass(1.0)

    def before_480(self) -> None:
        self.take(vdi_snapshot=4.2)

    def before_482(self) -> None:
        self.let_pass(6.0)
        self.restart("clean")
        self.take()

    # --- 8. cancel ---

    def before_487(self) -> None:
        self.all_end()
        place = {"location": "/storage/sr8"}
        sr = self.do("SR.create", self.sim.this_host, place, "0", "sr eight", "", "file", "user", False, {})
        vm = self.vm("vm-x", sr, [64 * MIB] * 3, "x{1}")
        self.take(vdi_snapshot=4.2)
        self.meant(487, vm)
        self.remember()

    def before_488(self) -> None:
        self.let_pass(6.0)

    def before_494(self) -> None:
        self.let_pass(1.5)

    def before_499(self) -> None:
        self.let_pass(10.5)

    def before_504(self) -> None:
        self.let_pass(1.5)
        rows = self.sim.db.tables["task"].rows
        self.meant(504, *[task for task, row in rows.items() if row["subtask_of"] == self.value(503)])

    def before_508(self) -> None:
        self.all_end()
        snapshot = self.do("VM.get_snapshots", self.names.translate(self.first_ref(487)))[0]
        self.meant(508, self.disk(snapshot))
        self.take(vdi_destroy=4.0)

    def before_512(self) -> None:
        self.all_end()

    def before_513(self) -> None:
        self.take(vdi_snapshot=4.2)
        vm = self.names.translate(self.first_ref(487))
        self.during(513, lambda: str(self.do("Async.VM.snapshot", vm, "first", [])), 0.5)

    # --- 9. coalescing ---

    def snapshots(self, count: int) -> List[str]:
        """Snapshots of vm-q, with something written before each."""
        refs = []
        for number in range(count):
            self.write(self.value(520))
            refs.append(str(self.do("VM.snapshot", self.value(519), "q%d" % number, [])))
        self.write(self.value(520))
        return refs

    def collect_now(self) -> None:
        """The collector was run by hand: at once, and without a task."""
        self.collect(self.sim, True)
        self.kick(self.value(518))
        self.let_pass(340)
        self.collect(self.sim, False)
        for task, row in list(self.sim.db.tables["task"].rows.items()):
            if row["name_label"] == "Garbage Collection":
                self.sim.db.delete("task", task)

    def before_522(self) -> None:
        self.all_end()
        self.take()
        self.q = self.snapshots(6)
        for number, snapshot in zip((523, 525, 527), (self.q[1], self.q[2], self.q[4])):
            self.meant(number, snapshot)
            self.meant(number + 1, self.disk(snapshot))

    def before_532(self) -> None:
        self.collect_now()

    def before_537(self) -> None:
        self.meant(537, self.q[5])

    def before_540(self) -> None:
        self.collect_now()

    def before_542(self) -> None:
        self.meant(542, self.q[0])
        self.meant(544, self.q[3])

    def before_547(self) -> None:
        self.collect_now()

    # --- 9b. the collector by itself ---

    def before_550(self) -> None:
        self.collect(self.sim, True)
        refs = self.snapshots(8)
        for number, snapshot in zip(range(550, 562, 2), refs[1:7]):
            self.meant(number, snapshot)
            self.meant(number + 1, self.disk(snapshot))

    def before_566(self) -> None:
        # The session of the recording client was not idle meanwhile.
        for session in self.sim.sessions.last_used:
            self.sim.sessions.last_used[session] = self.sim.kernel.now() + 900
        rows = self.sim.db.tables["task"].rows
        for task in [task for task, row in rows.items() if row["name_label"] == "Garbage Collection"]:
            # Looked at just when it had ended: such tasks do not stay for long.
            self.finish(task)
        self.collect(self.sim, False)

    # --- 10. further cases ---

    def before_570(self) -> None:
        sr = self.value(569)
        corrupt = self.vm("vm-corrupt", sr, [64 * MIB] * 2)
        self.gone = [self.vm(name, sr, [64 * MIB] * 2) for name in ("vm-gone", "vm-gone2")]
        self.spoil(self.disk(corrupt, "0"), "corrupt")
        self.meant(570, corrupt)
        self.meant(571, self.disk(corrupt, "0"))
        self.bad = self.disk(corrupt, "0")

    def before_574(self) -> None:
        self.spoil(self.disk(self.gone[0], "1"), "missing")
        self.meant(574, self.disk(self.gone[0], "1"))
        self.meant(576, self.gone[0])

    def before_577(self) -> None:
        self.spoil(self.bad, "missing")
        self.spoil(self.disk(self.gone[1], "1"), "missing")

    def before_580(self) -> None:
        """Observations 578 and 579: attachments that lead nowhere, and the order of things after a clean restart."""
        self.let_pass(60)
        self.do("VM.snapshot", self.gone[1], "gone2", [])
        order = self.vm("vm-order", self.value(569), [64 * MIB] * 4)
        snapshots = [str(self.do("VM.snapshot", order, "o%d" % number, [])) for number in range(5)]
        self.restart("clean")
        self.meant(580, order)
        for recorded, number in zip(REFERENCE.findall(self.traces[580].response), (0, 4, 2, 1, 3)):
            assert self.names.bind(recorded, snapshots[number])

    # --- 11. a VM marked Running ---

    def before_592(self) -> None:
        self.meant(592, self.vm("vm-ev", self.value(591), [64 * MIB] * 2, cd=True))

    def before_593(self) -> None:
        self.all_end()

    def before_595(self) -> None:
        snapshot = self.do("VM.get_snapshots", self.names.translate(self.first_ref(592)))[0]
        self.meant(595, snapshot)
        self.meant(596, self.disk(snapshot, "0"))
        self.meant(597, self.disk(snapshot, "1"))

    def before_608(self) -> None:
        vm = self.vm("vm-run", self.value(591), [64 * MIB] * 2)
        self.meant(608, vm)
        self.restart("clean")
        self.order_vbds(vm, "10")
        db = self.sim.db
        disks = db.tables["VDI"].back["SR"][self.value(591)]
        for device in "01":
            disks[self.disk(vm, device)] = disks.pop(self.disk(vm, device))
        db.update("VM", vm, power_state="Running", resident_on=self.sim.this_host)
        for vbd in db.pointing_at("VBD", "VM", vm):
            db.set("VBD", vbd, "currently_attached", True)
            refresh_vbd(db, vbd)
            self.sim.refresh_operations("VDI", db.row("VBD", vbd)["VDI"])
        self.sim.refresh_operations("VM", vm)

    def before_623(self) -> None:
        (pbd,) = self.sim.db.pointing_at("PBD", "SR", self.value(591))
        self.meant(623, pbd)

    def before_625(self) -> None:
        rows = self.sim.db.tables["VDI"].rows
        self.meant(625, next(v for v, row in rows.items() if row["SR"] == self.value(591) and not row["managed"]))

    def before_626(self) -> None:
        disks = [self.disk(self.value(613), device) for device in "01"]
        self.meant(628, *[disk for disk in disks if disk not in self.names.taken])

    # --- 12. checks while a snapshot runs ---

    def before_632(self) -> None:
        vm = self.vm("vm-12", self.value(631), [64 * MIB])
        self.take(vdi_snapshot=4.0)
        self.during(632, lambda: str(self.do("Async.VM.snapshot", vm, "slow", [])))
        self.meant(632, vm)

    def before_641(self) -> None:
        self.all_end()

    # --- 13. clients that go away ---

    def before_646(self) -> None:
        self.take()
        vm = self.vm("vm-13", self.value(645), [64 * MIB] * 2)
        policy = self.do("VMSS.create", {"name_label": "thirteen", "type": "snapshot", "frequency": "daily"})
        self.do("VM.set_snapshot_schedule", vm, policy)
        self.meant(646, vm)
        self.meant(659, policy)
        self.take(vdi_snapshot=2.2)

    def before_647(self) -> None:
        self.let_pass(1.0)

    def before_653(self) -> None:
        """Observation 652: a client closed its connection, and its snapshot was created all the same."""
        self.closed = self.do("VM.snapshot", self.names.translate(self.first_ref(646)), "closed", [])
        self.take(vdi_snapshot=3.2)

    def before_655(self) -> None:
        self.meant(655, self.closed)
        self.meant(657, self.disk(self.closed))
        self.meant(660, self.background("running"))

    def background(self, name: str) -> str:
        """A snapshot of vm-13 that has begun 0.7 s ago."""
        vm = self.names.translate(self.first_ref(646))
        return self.during(0, lambda: str(self.do("Async.VM.snapshot", vm, name, [])))

    def before_662(self) -> None:
        self.meant(663, self.background("rv"))

    def before_665(self) -> None:
        snapshot = self.names.translate(self.first_ref(662))
        self.during(665, lambda: str(self.do("Async.VM.revert", snapshot)))

    def before_669(self) -> None:
        self.take()
        vm = self.vm("vm-short", self.value(645), [])
        self.do("VM.destroy", vm)
        self.meant(669, vm)
