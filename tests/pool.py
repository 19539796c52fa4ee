"""A small simulated pool for tests, built through the API over a real unix socket, in virtual time."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from tests.simulation.wire import as_received
from vmss.core.datetimes import parse_datetime
from vmss.core.records import NULL
from vmss.demo import VirtualClock
from vmss.edges.settings import Place, Settings
from vmss.edges.surroundings import Surroundings
from vmss.edges.transport import UnixTransport
from vmss.edges.xapi import Refused, Unanswered, Xapi
from vmss.passes.journal import PREFIX, record
from vmss.passes.request import Report, Request
from vmss.passes.run import run
from vmss.simulator import Simulator
from vmss.simulator.errors import Dropped, XapiError
from vmss.simulator.server import Server

UTC = timezone.utc
GIB = 1 << 30

# A Monday on which nothing happens to any clock.
START = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)

VM = {
    "name_description": "",
    "user_version": "1",
    "is_a_template": False,
    "affinity": NULL,
    "memory_static_max": "268435456",
    "memory_dynamic_max": "268435456",
    "memory_dynamic_min": "268435456",
    "memory_static_min": "134217728",
    "VCPUs_params": {},
    "VCPUs_max": "1",
    "VCPUs_at_startup": "1",
    "actions_after_shutdown": "destroy",
    "actions_after_reboot": "restart",
    "actions_after_crash": "restart",
    "PV_bootloader": "",
    "PV_kernel": "",
    "PV_ramdisk": "",
    "PV_args": "",
    "PV_bootloader_args": "",
    "PV_legacy_args": "",
    "HVM_boot_policy": "BIOS order",
    "HVM_boot_params": {"order": "cd"},
    "platform": {},
    "PCI_bus": "",
    "other_config": {},
    "recommendations": "",
}
VBD = {
    "mode": "RW",
    "type": "Disk",
    "unpluggable": True,
    "empty": False,
    "bootable": False,
    "other_config": {"owner": ""},
    "qos_algorithm_type": "",
    "qos_algorithm_params": {},
}


class XmlTransport(UnixTransport):
    """The transport of a client that knows XML-RPC only, as XenAPI's does."""

    post = None  # type: ignore[assignment]


class TestPool:
    """One host and as many SRs, VMs and policies as a test asks for. Use it as a context manager."""

    __test__ = False

    def __init__(self, folder: Path, now: datetime = START, clock: str = "virtual", **simulator: Any) -> None:
        # A path that the client's own unix transport could not carry.
        self.folder = folder / "a_pool"
        self.folder.mkdir()
        self.socket = str(self.folder / "xapi.sock")
        self.simulator = Simulator(seed=1, now=now, clock=clock, **simulator)
        self.server = Server(self.simulator, socket=self.socket)
        self.place = Place(
            xapi="unix:" + self.socket,
            log=str(self.folder / "VMSSlog"),
            lock_dir=str(self.folder / "lock"),
            config=str(self.folder / "vmss.conf"),
        )
        self.settings = Settings(timezone="UTC", login_limit=0)
        self.xapi = Xapi(self.place.xapi, transport=XmlTransport(self.socket))

    def __enter__(self) -> "TestPool":
        self.server.__enter__()
        self.xapi.login("root", "")
        self.host = str(self.call("host.get_all")[0])
        return self

    def __exit__(self, *error: Any) -> None:
        self.xapi.close()
        self.server.__exit__(*error)

    def call(self, method: str, *params: Any) -> Any:
        """Any call, as root; a session that was idle for a simulated day has died of it."""
        try:
            return self.answer(method, params)
        except Refused as refused:
            if refused.code != "SESSION_INVALID":
                raise
        self.xapi.login("root", "")
        return self.answer(method, params)

    def answer(self, method: str, params: Sequence[Any]) -> Any:
        """What the XenAPI client would return. Only what is tested takes the way over the socket, and what may end
        xapi, and the connection with it."""
        if method.startswith("simulator."):
            return self.xapi.call(method, *params)
        try:
            return as_received(self.simulator.call(method, self.xapi.session, *params))
        except XapiError as error:
            raise Refused(error.details)
        except Dropped:
            raise Unanswered("%s: xapi has ended" % method)

    # Building it

    def sr(self, name: str = "sr", kind: str = "nfs", size: int = 1000 * GIB) -> str:
        """A shared SR. The first one takes the memory of the pool's VMs."""
        sr = str(self.call("SR.create", self.host, {}, str(size), name, "", kind, "user", True, {}))
        ref = self.call("pool.get_all")[0]
        if self.call("pool.get_suspend_image_SR", ref) == NULL:
            self.call("pool.set_suspend_image_SR", ref, sr)
        return sr

    def vm(self, name: str = "vm", srs: Sequence[str] = (), running: bool = False, size: int = GIB) -> str:
        """A VM with a disk on each of these SRs."""
        vm = str(self.call("VM.create", dict(VM, name_label=name)))
        for number, sr in enumerate(srs):
            self.vbd(vm, self.vdi(sr, size, "%s %d" % (name, number)), number)
        if running:
            self.call("VM.start", vm, False, False)
        return vm

    def vdi(self, sr: str, size: int = GIB, name: str = "disk") -> str:
        return str(
            self.call(
                "VDI.create",
                {
                    "name_label": name,
                    "SR": sr,
                    "virtual_size": str(size),
                    "type": "user",
                    "sharable": False,
                    "read_only": False,
                    "other_config": {},
                },
            )
        )

    def vbd(self, vm: str, vdi: str, number: int, **fields: Any) -> str:
        return str(self.call("VBD.create", dict(VBD, VM=vm, VDI=vdi, userdevice=str(number), **fields)))

    def policy(self, vms: Sequence[str] = (), name: str = "policy", **fields: Any) -> str:
        """A policy, by default hourly at minute 15 with 2 kept."""
        record: Dict[str, Any] = {
            "name_label": name,
            "type": "snapshot",
            "frequency": "hourly",
            "schedule": {"min": "15"},
            "retained_snapshots": "2",
        }
        record.update(fields)
        policy = str(self.call("VMSS.create", record))
        for vm in vms:
            self.call("VM.set_snapshot_schedule", vm, policy)
        return policy

    # Running it

    def at(self, hour: int, minute: int = 0, day: int = 2, second: int = 0) -> None:
        """Set the clock, on a day of March 2026."""
        self.simulator.set_time(datetime(2026, 3, day, hour, minute, second, tzinfo=UTC))

    def surroundings(self, **changes: Any) -> Surroundings:
        around = Surroundings(self.place, self.settings, clock=VirtualClock(self.simulator))
        return around._replace(**changes)

    def tick(self, say: Optional[Callable[[str], None]] = None, **request: Any) -> Report:
        """One pass, as cron starts it or as `request` says."""
        around = self.surroundings(**({"say": say} if say else {}))
        return run(Request(**request) if request else Request(kicked=True), around)

    # Looking at it

    def uuid(self, cls: str, ref: str) -> str:
        return str(self.call(cls + ".get_uuid", ref))

    def snapshots(self, vm: str) -> List[Dict[str, Any]]:
        """The scheduled snapshots of a VM, oldest first."""
        records = [self.call("VM.get_record", ref) for ref in self.call("VM.get_snapshots", vm)]
        return sorted(
            (record for record in records if record["is_vmss_snapshot"]),
            key=lambda record: str(record["snapshot_time"]),
        )

    def snapshot_vdis(self) -> List[str]:
        """All disks that are snapshots or memory images."""
        records = self.call("VDI.get_all_records")
        return [
            ref
            for ref, record in records.items()
            if record["managed"] and (record["is_a_snapshot"] or record["type"] == "suspend")
        ]

    def alerts(self, policy: Optional[str] = None) -> List[Dict[str, Any]]:
        """The alerts of a policy, or of all, oldest first."""
        uuid = self.uuid("VMSS", policy) if policy else None
        records = [
            record
            for record in self.call("message.get_all_records").values()
            if record["cls"] == "VMSS" and uuid in (None, record["obj_uuid"])
        ]
        return sorted(records, key=lambda record: str(record["timestamp"]))

    def names(self, policy: Optional[str] = None) -> List[str]:
        """The names of the alerts."""
        return [str(record["name"]) for record in self.alerts(policy)]

    def last_run(self, policy: str) -> datetime:
        return parse_datetime(self.call("VMSS.get_last_run_time", policy))

    def log(self) -> List[str]:
        """The texts of the lines of the log."""
        path = Path(self.place.log)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [line.split("] ", 1)[1] for line in lines]

    def tasks(self) -> List[str]:
        """The names of the tasks in the database, without xapi's own: the garbage collector's, those of the SRs'
        making, and subtasks, which stay when they failed."""
        records = [record for record in self.call("task.get_all_records").values() if record["subtask_of"] == NULL]
        own = ("Garbage Collection", "Async.PBD.plug")
        return [str(record["name_label"]) for record in records if record["name_label"] not in own]

    def sessions(self) -> int:
        """Sessions that are open, ours not counted."""
        answer = self.call("event.from", ["session"], "", 0.0)
        return int(answer["valid_ref_counts"]["session"]) - 1

    def record(self, entries: Dict[str, List[str]]) -> None:
        """Record in the pool's database, as a pass does, what is to be destroyed: disks by snapshots, uuids both."""
        (ref,) = self.call("pool.get_all")
        self.call("pool.add_to_other_config", ref, PREFIX + "0", record(entries))

    def other_config(self) -> Dict[str, str]:
        """pool.other_config."""
        return dict(next(iter(self.call("pool.get_all_records").values()))["other_config"])
