"""The means by which a replay is given what happened beside the recorded calls, by a client or on the host."""

import re
from datetime import datetime, timezone
from typing import Any, Callable, List, Set, Tuple

from vmss.simulator import Durations, Simulator
from vmss.simulator.build import vbd_record, vdi_record, vm_record
from vmss.simulator.images import BLOCK
from vmss.simulator.values import NULL

from .replay import Replay, Trace
from .replay_traces import dress_host

REFERENCE = re.compile(r"OpaqueRef:[0-9a-f-]{36}")
GIB = 1 << 30
QUICK = Durations(
    vdi_create=(0.1, 0.1), vdi_destroy=(0.1, 0.1), vdi_snapshot=(0.25, 0.25), vdi_resize=(0.1, 0.1),
    sr_scan=(0.3, 0.3), sr_create=(0.4, 0.4), pbd_plug=(0.2, 0.2), written_bytes_per_second=0.0,
    # What was slow on that host was the time before a driver asks xapi for something: without xapi it failed.
    # The host that was lost had made one of the two images of a snapshot.
    lost_wakeup=0.0, orphan_finishes=0.0, half_made=1.0, without_source=0.0,
)  # fmt: skip


class Stage(Replay):
    """The means by which directions are given."""

    def simulator(self) -> Simulator:
        now = datetime(2026, 11, 23, 23, 21, 4, 700000, tzinfo=timezone.utc)
        sim = Simulator(seed=1, now=now, durations=QUICK)
        dress_host(sim)
        for plugin, row in list(sim.db.tables["SM"].rows.items()):
            # That host had these five storage plugins.
            if row["type"] not in ("ext", "file", "nfs", "iso", "dummy"):
                sim.db.delete("SM", plugin)
        self.kick = sim.storage.manager.collector.kick
        # The service that runs the garbage collector was a stub at first.
        self.collect(sim, False)
        self.session = ""
        self.depths: List[Tuple[int, int, int, int]] = []
        return sim

    def collect(self, sim: Simulator, on: bool) -> None:
        """Let the garbage collector be started, or not."""
        sim.storage.manager.collector.kick = self.kick if on else lambda sr: None  # type: ignore[method-assign]

    def free_fields(self, trace: Trace) -> Set[str]:
        # The SRs were directories of one file system with much else in it.
        file_system = {"physical_size", "physical_utilisation"} if trace.method == "SR.get_record" else set()
        return super().free_fields(trace) | file_system

    # --- what a client did ---

    def do(self, method: str, *params: Any) -> Any:
        """A call of the recording client, in a session that lasts."""
        if not self.sim.db.exists("session", self.session):
            self.session = self.sim.call("session.login_with_password", "__dom0__vmss", "")
        return self.sim.call(method, self.session, *params)

    def meant(self, number: int, *ours: str) -> None:
        """Say which of our objects the names stand for that the request of a call shows for the first time."""
        unknown = [ref for ref in REFERENCE.findall(self.traces[number].request)[1:] if ref not in self.names.ours]
        for ref, stands_for in zip(unknown, ours):
            assert self.names.bind(ref, stands_for), (number, ref)

    def vbd(self, vm: str, device: str) -> str:
        db = self.sim.db
        return next(vbd for vbd in db.pointing_at("VBD", "VM", vm) if db.row("VBD", vbd)["userdevice"] == device)

    def disk(self, vm: str, device: str = "0") -> str:
        return str(self.sim.db.row("VBD", self.vbd(vm, device))["VDI"])

    def uuid(self, cls: str, ref: str) -> str:
        return str(self.sim.db.row(cls, ref)["uuid"])

    def vm(self, name: str, sr: str, sizes: List[int], label: str = "{} {}", cd: bool = False) -> str:
        """A halted VM like those of the recording, with disks on an SR."""
        fields = {
            "memory_static_max": "268435456", "memory_dynamic_max": "268435456", "memory_dynamic_min": "268435456",
            "memory_static_min": "134217728", "VCPUs_max": "1", "VCPUs_at_startup": "1",
            "other_config": {"mykey": "myval"},
        }  # fmt: skip
        record = vm_record(name, "d1", **fields)
        record.pop("hardware_platform_version")
        vm = str(self.do("VM.create", record))
        for number, size in enumerate(sizes):
            vdi = self.do("VDI.create", vdi_record(label.format(name, number), sr, size))
            self.do("VBD.create", vbd_record(vm, vdi, str(number), bootable=number == 0))
        if cd:
            self.do("VBD.create", vbd_record(vm, NULL, str(len(sizes) + 1)))
        return vm

    # --- what was done on the host ---

    def take(self, **seconds: float) -> None:
        """From now on operations take so long."""
        self.sim.durations = QUICK._replace(**{name: (value, value) for name, value in seconds.items()})  # type: ignore[arg-type]

    def write(self, disk: str, blocks: int = 2) -> None:
        """Blocks of 2 MiB were written into the file of a disk, unseen by xapi."""
        row = self.sim.db.row("VDI", disk)
        self.sim.storage.manager.repository(row["SR"]).write(row["uuid"], blocks * BLOCK)

    def spoil(self, disk: str, fault: str) -> None:
        self.call("simulator.spoil", self.uuid("VDI", disk), fault)

    def mend_all(self) -> None:
        for repository in self.sim.storage.manager.repositories.values():
            for image in repository.images.values():
                image.fault = ""

    def all_end(self) -> None:
        """Whatever was under way has ended."""
        rows = self.sim.db.tables["task"].rows
        for task in list(rows):
            self.finish(task)

    # --- a call in the middle of something slow ---

    def during(self, number: int, background: Callable[[], str], seconds: float = 0.7) -> str:
        """Start something in the background, and be called so many seconds later; return its task."""
        task = background()
        self.let_pass(seconds)
        return task

    def first_ref(self, number: int) -> str:
        """The recorded name of what a call was about."""
        return str(REFERENCE.findall(self.traces[number].request)[1])
