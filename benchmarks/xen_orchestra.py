"""Rolling snapshots by Xen Orchestra's order of calls, on its own client, and by us: the same pool, the same wire."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple

from benchmarks.goals import Figures
from benchmarks.processes import ROOT, Usage, environment, measured_output
from vmss.simulator import Simulator
from vmss.simulator.build import build_pool, vbd_record, vdi_record, vm_record
from vmss.simulator.durations import Durations
from vmss.simulator.server import Server

SCRIPT = ROOT / "benchmarks" / "rolling_snapshots.mjs"
# With the version of xen-api that the tests speak to as well.
PACKAGE = ROOT / "tests" / "simulator" / "foreign" / "package.json"
NODE_MIN = 18
INSTALL = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
PATIENCE = ["--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"]
INSTALL_S = 300

START = datetime(2026, 3, 2, 10, 0, tzinfo=timezone.utc)
JOB = "4a3f0f6e-0000-4000-8000-000000000000"
GIB = 1 << 30
# How much faster the server's clock is than ours: the faster, the more of the time is that of the calls themselves.
SPEED = 3.0
# How many of the runs are side by side: more would wait for the processor, Xen Orchestra's first.
AT_ONCE = 3


class Case(NamedTuple):
    """So many VMs with two disks each, on so many SRs; Xen Orchestra serves so many at once, and by default two.
    `spread`: the disks of each third VM are on two SRs, else those of each VM are on one."""

    vms: int
    srs: int
    at_once: int
    spread: bool = False


CASES = (Case(96, 16, 2), Case(96, 16, 2, True), Case(96, 4, 2), Case(96, 4, 8), Case(96, 4, 8, True))
QUICK = (Case(32, 16, 2),)
# By SRs and VMs at once.
GOALS = {(16, 2): "xo, 16 SRs", (4, 8): "xo, 8 at once"}


class Cost(NamedTuple):
    """What the rolling snapshots of a pool took: seconds of the server's clock, calls, bytes, and the client."""

    seconds: float
    calls: int
    size: int
    usage: Usage


def missing() -> str:
    """Why Xen Orchestra's client cannot run here; empty if it can."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return "%s is not installed" % program
    version = subprocess.run(["node", "--version"], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    if int(version.lstrip("v").split(".")[0]) < NODE_MIN:
        return "xen-api needs Node.js %d, this is %s" % (NODE_MIN, version)
    return ""


def install(folder: Path) -> str:
    """Install xen-api and put the script beside it; return why that was not possible, else an empty text."""
    for path in (PACKAGE, SCRIPT):
        shutil.copy(str(path), str(folder))
    try:
        subprocess.run(
            INSTALL + PATIENCE, cwd=str(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=INSTALL_S, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "npm has not installed xen-api in %d seconds" % INSTALL_S
    except subprocess.CalledProcessError as error:
        return "npm cannot install xen-api: %s" % error.stdout.decode("utf-8", "replace")[:300]
    return ""


class Rolling:
    """A pool in which each VM has a scheduled snapshot that both know as their own, and is to get another for it."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.folder = folder
        self.simulator = Simulator(seed=1, now=START)
        pool = build_pool(self.simulator.call, hosts=4, srs=case.srs, vms=0)
        self.root = pool.session
        self.vms = [self._build(case, number, pool.srs) for number in range(case.vms)]
        self.uuids = [str(self._call("VM.get_uuid", vm)) for vm in self.vms]
        self.policy = self._schedule()
        ours = self.simulator.call("session.login_with_password", "__dom0__vmss", "", "1.0", "benchmark")
        for vm, uuid in zip(self.vms, self.uuids):
            self._mark(self.simulator.call("VM.snapshot", ours, vm, "before", []), uuid)
        self.simulator.set_time(START + timedelta(hours=2))

    def _build(self, case: Case, number: int, srs: Sequence[str]) -> str:
        vm = str(self._call("VM.create", vm_record("vm%03d" % number)))
        for device in range(2):
            sr = srs[(number + (device if case.spread and number % 3 == 0 else 0)) % len(srs)]
            vdi = self._call("VDI.create", vdi_record("disk %d" % device, sr, 8 * GIB))
            self._call("VBD.create", vbd_record(vm, vdi, str(device)))
        return vm

    def _call(self, method: str, *params: Any) -> Any:
        return self.simulator.call(method, self.root, *params)

    def _schedule(self) -> str:
        policy = self._call(
            "VMSS.create",
            {
                "name_label": "rolling",
                "type": "snapshot",
                "frequency": "daily",
                "schedule": {"hour": "2", "min": "0"},
                "retained_snapshots": "1",
            },
        )
        for vm in self.vms:
            self._call("VM.set_snapshot_schedule", vm, policy)
        return str(self._call("VMSS.get_uuid", policy))

    def _mark(self, snapshot: str, vm: str) -> None:
        """Let a snapshot and its disks bear what Xen Orchestra writes to its own."""
        vbds = [self._call("VBD.get_record", vbd) for vbd in self._call("VM.get_VBDs", snapshot)]
        for cls, ref in [("VM", snapshot), *(("VDI", vbd["VDI"]) for vbd in vbds)]:
            for key, value in (("job", JOB), ("schedule", JOB), ("datetime", "20260302T090000Z"), ("vm", vm)):
                self._call("%s.add_to_other_config" % cls, ref, "xo:backup:" + key, value)

    @contextmanager
    def served(self) -> Iterator[Server]:
        """Serve the pool while its clock runs, `SPEED` times as fast as ours."""
        socket = str(self.folder / "x.sock")
        with Server(self.simulator, socket=socket, http=("127.0.0.1", 0)) as server:
            self.simulator.reset_counts()
            self.simulator.run_clock(self.simulator.now(), SPEED)
            yield server

    def cost(self, seconds: float, usage: Usage) -> Cost:
        """What it took, now that each VM has got one snapshot and lost one."""
        traffic = [one for method, one in self.simulator.traffic().items() if not method.startswith("simulator.")]
        counts = [len(self._call("VM.get_snapshots", vm)) for vm in self.vms]
        if counts != [1] * len(self.vms):
            raise SystemExit("%d VMs have not one snapshot" % sum(count != 1 for count in counts))
        size = sum(one.bytes_in + one.bytes_out for one in traffic)
        return Cost(seconds, sum(one.calls for one in traffic), size, usage)


def theirs(case: Case, package: str) -> Cost:
    """The cost by Xen Orchestra's order; the time is that from the moment at which its client knows the pool."""
    with tempfile.TemporaryDirectory() as name:
        rolling = Rolling(case, Path(name))
        with rolling.served() as server:
            told_to = {
                "PATH": os.environ["PATH"],
                "XAPI_URL": "http://%s:%d" % (server.http_address or ("", 0)),
                "XAPI_USER": "root",
                "XAPI_PASSWORD": rolling.simulator.password,
                "JOB": JOB,
                "CONCURRENCY": str(case.at_once),
                "RETENTION": "1",
                "SPEED": str(SPEED),
            }
            command = ["node", os.path.join(package, SCRIPT.name)]
            usage, output = measured_output(told_to, command, "\n".join(rolling.uuids))
            told = json.loads(output)
            if told["failures"]:
                raise SystemExit("in Xen Orchestra's order: %s" % told["failures"][:3])
            return rolling.cost(told["seconds"] * SPEED, usage)


def ours(case: Case) -> Cost:
    """The cost by us; the time is that of the whole process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rolling = Rolling(case, folder)
        # As often as in real time, by the server's clock.
        config = folder / "vmss.conf"
        config.write_text("[vmss]\nwaits_per_second = %d\n" % (5 * SPEED))
        with rolling.served():
            command = [sys.executable, "-m", "vmss", "run", "--policy", rolling.policy]
            usage, _ = measured_output(dict(environment(folder), VMSS_CONFIG=str(config)), command)
            return rolling.cost(usage.wall * SPEED, usage)


def alone(case: Case) -> float:
    """The seconds that each SR needs by itself, on average: no order is faster."""
    durations = Durations()
    each_disk = sum(durations.vdi_snapshot) / 2 + sum(durations.vdi_destroy) / 2
    return 2 * case.vms / case.srs * each_disk


def measure(cases: Sequence[Case], package: str) -> List[Tuple[Case, Cost, Cost]]:
    """For each case its costs: ours, and theirs. All wait for storage most of the time, so some run side by side, each
    with a server of its own."""
    pools = sorted({case._replace(at_once=0) for case in cases})
    with multiprocessing.get_context("spawn").Pool(AT_ONCE) as fresh:
        of_theirs = [fresh.apply_async(theirs, (case, package)) for case in cases]
        of_ours = {pool: fresh.apply_async(ours, (pool,)) for pool in pools}
        return [(case, of_ours[case._replace(at_once=0)].get(), cost.get()) for case, cost in zip(cases, of_theirs)]


def page(cases: Sequence[Case], figures: Figures) -> Iterator[str]:
    """Yield the lines of this part of the page."""
    with tempfile.TemporaryDirectory() as folder:
        reason = missing() or install(Path(folder))
        if reason:
            yield "Skipped: %s." % reason
            return
        found = measure(cases, folder)
    yield "| VMs | SRs | disks  | who                      | seconds | ratio | calls/VM | KiB/VM | CPU, s | peak, MB |"
    yield "|----:|----:|--------|--------------------------|--------:|------:|---------:|-------:|-------:|---------:|"
    told: List[Case] = []
    for case, mine, cost in found:
        pool = case._replace(at_once=0)
        if pool not in told:
            told.append(pool)
            yield "| %3d | %3d | %-6s | %-24s | %7.0f | %5.1f |          |        |        |          |" % (
                *_pool(case), "the storage by itself", alone(case), alone(case) / mine.seconds,
            )  # fmt: skip
            yield _row(case, "vmss", mine, mine)
        yield _row(case, "Xen Orchestra, %d at once" % case.at_once, cost, mine)
        if not case.spread and (case.srs, case.at_once) in GOALS:
            figures[GOALS[case.srs, case.at_once]] = cost.seconds / mine.seconds


def _pool(case: Case) -> Tuple[int, int, str]:
    return case.vms, case.srs, "spread" if case.spread else "one SR"


def _row(case: Case, who: str, cost: Cost, to: Cost) -> str:
    return "| %3d | %3d | %-6s | %-24s | %7.0f | %5.1f | %8.1f | %6.0f | %6.1f | %8.0f |" % (
        *_pool(case),
        who,
        cost.seconds,
        cost.seconds / to.seconds,
        cost.calls / case.vms,
        cost.size / case.vms / 1024,
        cost.usage.cpu,
        cost.usage.memory,
    )
