"""The time and memory of whole processes: an idle tick against a bare script with the same calls, and large passes."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

from vmss.edges.xapi import Xapi

ROOT = Path(__file__).resolve().parent.parent

# The command that cron starts, and the same calls without us.
TICK = "import vmss; vmss.trigger_schedule_snapshots()"
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
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
wall, usage = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
"""


class Usage(NamedTuple):
    """The usage of a process: seconds by the clock, seconds of the processor, and the peak of its memory in MB."""

    wall: float
    cpu: float
    memory: float


@contextmanager
def server(folder: Path, *options: str) -> Iterator[Dict[str, str]]:
    """Run an embedded xapi in a process of its own; yield the environment with which a process connects to it."""
    socket = folder / "x.sock"
    command = [sys.executable, "-m", "vmss", "simulator", "--socket", str(socket), *options]
    process = subprocess.Popen(command, cwd=str(ROOT), stdout=subprocess.PIPE, universal_newlines=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("ready"):
            raise SystemExit("the embedded xapi did not start")
        yield {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "VMSS_XAPI": "unix:%s" % socket,
            "VMSS_LOG": str(folder / "log"),
            "VMSS_LOCK_DIR": str(folder / "lock"),
            "TZ": "UTC",
        }
    finally:
        process.terminate()
        process.wait()


def measured(environment: Dict[str, str], *arguments: str) -> Usage:
    """Run Python with these arguments until it ends, and return its usage."""
    command = [sys.executable, "-c", STOPWATCH, sys.executable, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit("%s failed: %s" % (arguments, done.stderr.decode()[-2000:]))
    return Usage(*json.loads(done.stdout.decode()))


def idle(rounds: int = 31) -> Tuple[Usage, Usage]:
    """Run an idle tick and the bare script alternately; return the medians of both."""
    with _folder() as folder, server(folder, "--hosts", "2", "--srs", "4", "--vms", "20") as environment:
        # The client's own transport reads each underscore as a slash.
        bare = BARE % str(folder / "x.sock").replace("/", "_")
        ticks: List[Usage] = []
        scripts: List[Usage] = []
        for _ in range(rounds):
            ticks.append(measured(environment, "-c", TICK))
            scripts.append(measured(environment, "-c", bare))
    return _medians(ticks), _medians(scripts)


@contextmanager
def _folder() -> Iterator[Path]:
    """Yield a temporary folder whose path has no underscore."""
    path = Path("/tmp/vmss-benchmark-%d" % os.getpid())  # noqa: S108 - created here, or refused
    path.mkdir(0o700)
    try:
        yield path
    finally:
        shutil.rmtree(str(path))


def _medians(usages: Sequence[Usage]) -> Usage:
    return Usage(*map(median, zip(*usages)))


def large_pass(vms: int, srs: int = 64) -> Usage:
    """The usage of a pass, in a process of its own, in which each of these VMs gets a snapshot and loses one."""
    with tempfile.TemporaryDirectory() as name:
        options = ["--hosts", "2", "--srs", str(srs), "--vms", str(vms), "--now", "2026-03-02T10:00:00Z"]
        with server(Path(name), *options, "--speed", "100") as environment:
            xapi = Xapi(environment["VMSS_XAPI"])
            xapi.login("root", "")
            policy = xapi.call(
                "VMSS.create",
                {
                    "name_label": "all",
                    "type": "snapshot",
                    "frequency": "daily",
                    "schedule": {"hour": "2", "min": "0"},
                    "retained_snapshots": "1",
                },
            )
            for vm, record in xapi.call("VM.get_all_records").items():
                if not record["is_control_domain"]:
                    xapi.call("VM.set_snapshot_schedule", vm, policy)
            uuid = xapi.call("VMSS.get_uuid", policy)
            xapi.close()
            measured(environment, "-m", "vmss", "run", "--policy", uuid)
            return measured(environment, "-m", "vmss", "run", "--policy", uuid)


def page(sizes: Sequence[int]) -> Iterator[str]:
    """Yield the lines of this part of the page."""
    tick, script = idle()
    yield "An idle tick takes %.2f of the time of a bare script with the same calls (%.0f ms)," % (
        tick.wall / script.wall,
        script.wall * 1000,
    )
    yield "%.2f of its processor time, and at its peak %.0f MB (the script: %.0f MB)." % (
        tick.cpu / script.cpu,
        tick.memory,
        script.memory,
    )
    passes = [large_pass(vms) for vms in sizes]
    yield "The peak memory of a pass over due VMs on 64 SRs: %s MB." % (
        ", ".join("%d VMs: %.0f" % (vms, usage.memory) for vms, usage in zip(sizes, passes))
    )
    # Less the start of the process.
    each = [(usage.cpu - tick.cpu) / vms * 1000 for vms, usage in zip(sizes, passes)]
    yield "Its processor time per VM: %s ms; the largest pass to the smallest: %.2f." % (
        ", ".join("%d VMs: %.1f" % pair for pair in zip(sizes, each)),
        each[-1] / each[0],
    )
