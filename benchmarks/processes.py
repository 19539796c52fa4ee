"""The time and memory of whole processes: an idle tick against a bare script with the same calls, and large passes."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

from benchmarks.goals import Figures
from vmss.edges.xapi import Xapi
from vmss.simulator import Simulator
from vmss.simulator.build import build_pool
from vmss.simulator.server import Server

ROOT = Path(__file__).resolve().parent.parent

START = datetime(2026, 3, 2, 10, 0, tzinfo=timezone.utc)
POLICY = {"type": "snapshot", "frequency": "daily", "schedule": {"hour": "2", "min": "0"}, "retained_snapshots": "7"}

# The command that cron starts. For it the socket is xapi's own, as in dom0: from elsewhere the coordinator's clock and
# zone are asked for. And the same calls without us.
TICK = """
import os
from vmss.edges import settings
settings.DEFAULT_XAPI = os.environ["VMSS_XAPI"]
import vmss
vmss.trigger_schedule_snapshots()
"""
BARE = """
import XenAPI
from XenAPI.XenAPI import UDSTransport
session = XenAPI.Session("http://%s", transport=UDSTransport())
session.login_with_password("__dom0__vmss", "", "1.0", "bare")
session.xenapi.pool.get_all_records()
session.xenapi.VMSS.get_all_records()
session.xenapi.session.logout()
"""

# Runs a command and prints its usage. A process starts with the memory of its parent, so the parent is a small one.
STOPWATCH = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, check=True)
wall, usage = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([[wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024], done.stdout.decode()]))
"""


# As many calls as a served VM needs, without anything of ours.
YARDSTICK = """
import XenAPI
from XenAPI.XenAPI import UDSTransport
session = XenAPI.Session("http://%s", transport=UDSTransport())
session.login_with_password("root", "", "1.0", "bare")
vm = session.xenapi.VM.get_all()[0]
for _ in range(15 * 100):
    session.xenapi.VM.get_power_state(vm)
"""


class Served(NamedTuple):
    """An embedded xapi in a process of its own, and the environment with which others connect to it."""

    environment: Dict[str, str]
    pid: int

    @property
    def cpu(self) -> float:
        """The processor time that it has used so far, in seconds."""
        fields = Path("/proc/%d/stat" % self.pid).read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """The usage of a process: seconds by the clock, seconds of the processor, and the peak of its memory in MB."""

    wall: float
    cpu: float
    memory: float


def environment(folder: Path) -> Dict[str, str]:
    """What a process of ours needs to know of a server whose socket, x.sock, is in this folder."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "VMSS_XAPI": "unix:%s" % (folder / "x.sock"),
        "VMSS_LOG": str(folder / "log"),
        "VMSS_LOCK_DIR": str(folder / "lock"),
        "TZ": "UTC",
    }


@contextmanager
def server(folder: Path, *options: str) -> Iterator[Served]:
    """Run an embedded xapi in a process of its own, of which nothing is left afterwards."""
    socket = folder / "x.sock"
    command = [sys.executable, "-m", "vmss", "simulator", "--socket", str(socket), *options]
    process = subprocess.Popen(command, cwd=str(ROOT), stdout=subprocess.PIPE, universal_newlines=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("ready"):
            raise SystemExit("the embedded xapi did not start")
        yield Served(environment(folder), process.pid)
    finally:
        process.terminate()
        process.wait()


def measured(environment: Dict[str, str], *arguments: str) -> Usage:
    """Run Python with these arguments until it ends, and return its usage."""
    return measured_output(environment, [sys.executable, *arguments])[0]


def measured_output(environment: Dict[str, str], command: Sequence[str], given: str = "") -> Tuple[Usage, str]:
    """Run a program that is given a text as its input until it ends; return its usage and its output."""
    done = subprocess.run(
        [sys.executable, "-c", STOPWATCH, *command],
        env=environment,
        input=given.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise SystemExit("%s failed: %s" % (command, done.stderr.decode()[-2000:]))
    usage, output = json.loads(done.stdout.decode())
    return Usage(*usage), output


def run_tick(environment: Dict[str, str]) -> Usage:
    """The usage of a tick. cron sets no TZ."""
    return measured({name: value for name, value in environment.items() if name != "TZ"}, "-c", TICK)


def idle(rounds: int = 9) -> Tuple[Usage, Usage]:
    """Run an idle tick and the bare script alternately; return the medians of both."""
    with in_tmp() as folder, server(folder, "--hosts", "2", "--srs", "4", "--vms", "20") as served:
        # The client's own transport reads each underscore as a slash.
        bare = BARE % str(folder / "x.sock").replace("/", "_")
        ticks: List[Usage] = []
        scripts: List[Usage] = []
        for _ in range(rounds):
            ticks.append(run_tick(served.environment))
            scripts.append(measured(served.environment, "-c", bare))
    return _medians(ticks), _medians(scripts)


def yardstick() -> float:
    """The processor time in seconds of as many calls as a served VM needs, by the bare client."""
    with in_tmp() as folder, server(folder, "--vms", "1") as served:
        bare = YARDSTICK % str(folder / "x.sock").replace("/", "_")
        return median(measured(served.environment, "-c", bare).cpu for _ in range(3)) / 100


def idle_with(schedules: int) -> Tuple[Usage, int]:
    """An idle tick with so many daily schedules, of a VM each: its usage, and its bytes."""
    simulator = Simulator(seed=1, now=START, clock="virtual")
    pool = build_pool(simulator.call, hosts=1, srs=1, vms=schedules, disks=0)
    for number, vm in enumerate(pool.vms):
        named = dict(POLICY, name_label="schedule %d" % number)
        simulator.call("VM.set_snapshot_schedule", pool.session, vm, simulator.call("VMSS.create", pool.session, named))
    with in_tmp() as folder, Server(simulator, socket=str(folder / "x.sock")):
        run_tick(environment(folder))
        simulator.reset_counts()
        ticks = [run_tick(environment(folder)) for _ in range(7)]
        return _medians(ticks), sum(one.bytes_in + one.bytes_out for one in simulator.traffic().values()) // 7


@contextmanager
def in_tmp() -> Iterator[Path]:
    """Yield a temporary folder whose path has no underscore, for the bare client's sake."""
    path = Path("/tmp/vmss-benchmark-%d" % os.getpid())  # noqa: S108 - created here, or refused
    path.mkdir(0o700)
    try:
        yield path
    finally:
        shutil.rmtree(str(path))


def _medians(usages: Sequence[Usage]) -> Usage:
    return Usage(*map(median, zip(*usages)))


class Pass(NamedTuple):
    """What a pass cost: our process, the server's processor time in seconds, calls, and bytes down and in all."""

    usage: Usage
    server: float
    calls: int
    down: int
    size: int


def large_pass(vms: int, srs: int = 64) -> Pass:
    """The cost of a pass, in a process of its own, in which each of these VMs gets a snapshot and loses one."""
    with tempfile.TemporaryDirectory() as name:
        options = ["--hosts", "2", "--srs", str(srs), "--vms", str(vms), "--now", "2026-03-02T10:00:00Z"]
        with server(Path(name), *options, "--speed", "100") as served:
            xapi = Xapi(served.environment["VMSS_XAPI"])
            xapi.login("root", "")
            policy = xapi.call("VMSS.create", dict(POLICY, name_label="all", retained_snapshots="1"))
            for vm, record in xapi.call("VM.get_all_records").items():
                if not record["is_control_domain"]:
                    xapi.call("VM.set_snapshot_schedule", vm, policy)
            command = ["-m", "vmss", "run", "--policy", xapi.call("VMSS.get_uuid", policy)]
            measured(served.environment, *command)
            xapi.call("simulator.reset_counts")
            before = served.cpu
            usage = measured(served.environment, *command)
            cpu = served.cpu - before
            counts = xapi.call("simulator.get_counts")
            xapi.close()
    of_methods = [numbers for method, numbers in counts.items() if not method.startswith("simulator.")]
    calls, up, down = (sum(int(one[key]) for one in of_methods) for key in ("calls", "bytes_in", "bytes_out"))
    return Pass(usage, cpu, calls, down, up + down)


def page(sizes: Sequence[int], figures: Figures) -> Iterator[str]:
    """Yield the lines of this part of the page."""
    runs = [idle() for _ in range(5)]
    tick, script = _medians([tick for tick, _ in runs]), _medians([script for _, script in runs])
    times = [tick.wall / script.wall for tick, script in runs]
    cpus = [tick.cpu / script.cpu for tick, script in runs]
    figures.update({"idle, time": max(times), "idle, cpu": max(cpus)})
    yield "An idle tick takes %.2f to %.2f of the time of a bare script with the same calls (%.0f ms) in five runs," % (
        min(times),
        max(times),
        script.wall * 1000,
    )
    yield "%.2f to %.2f of its processor time, and at its peak %.0f MB (the script: %.0f MB)." % (
        min(cpus),
        max(cpus),
        tick.memory,
        script.memory,
    )
    (few, _), (many, size) = idle_with(10), idle_with(1000)
    figures.update({"idle, KB": size / 1000, "idle, growth": many.wall / few.wall})
    yield "With 1,000 schedules it takes %.2f of the time of one with ten, and %.0f KB." % (
        many.wall / few.wall,
        size / 1000,
    )
    figures["yardstick, ms"] = yardstick() * 1000
    yield ""
    yield "| served VMs | ours, ms/VM | server, ms/VM | calls/VM | KiB/VM down | KiB/VM | peak, MB |"
    yield "|-----------:|------------:|--------------:|---------:|------------:|-------:|---------:|"
    each: Dict[int, Tuple[float, float]] = {}
    for vms in sizes:
        cost = large_pass(vms)
        # Less the start of the process.
        each[vms] = (cost.usage.cpu - tick.cpu) / vms * 1000, cost.server / vms * 1000
        yield "| %10d | %11.1f | %13.1f | %8.1f | %11.0f | %6.0f | %8.0f |" % (
            vms,
            *each[vms],
            cost.calls / vms,
            cost.down / vms / 1024,
            cost.size / vms / 1024,
            cost.usage.memory,
        )
        if vms == 5000:
            figures.update({"pass, ms": each[vms][0], "server, ms": each[vms][1]})
            figures.update({"pass, KiB down": cost.down / vms / 1024})
            figures.update({"pass, growth": each[vms][0] / each[sizes[0]][0]})
            figures.update({"server, growth": each[vms][1] / each[sizes[0]][1]})
