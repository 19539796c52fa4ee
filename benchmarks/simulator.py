"""The speed of the embedded xapi, and the size that its pools may have.

    python benchmarks/simulator.py
    python benchmarks/simulator.py --sizes 100 1000      # a minute and 6 GB of memory less

First calls over a real unix socket and in process, new simulators, and the life of one snapshot; then pools of several
sizes, whose VMs have 2 disks and 10 snapshots each, are built, saved, loaded and read in bulk. Two VMs are created
through the API; all others are copies of these, put straight into the tables. A short time is the best of several
tries. "ratio" compares the largest pool with the smallest: per VM where a figure grows with the pool, else as it is.
The ideal is 1.0.
"""

import argparse
import http.client
import multiprocessing
import os
import sys
import tempfile
import time
import xmlrpc.client
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import XenAPI  # noqa: E402

from tests.simulator.client import UnixConnection, UnixTransport  # noqa: E402
from tests.simulator.test_simulator_large import SNAPSHOTS, large_pool  # noqa: E402
from vmss.simulator import Simulator  # noqa: E402
from vmss.simulator.build import build_pool  # noqa: E402
from vmss.simulator.server import Server  # noqa: E402

START = datetime(2026, 3, 2, 10, 0, tzinfo=timezone.utc)
TRIES = 5
NULL = "OpaqueRef:NULL"
POLICY = {
    "name_label": "daily", "type": "snapshot", "retained_snapshots": "7", "frequency": "daily",
    "schedule": {"hour": "4", "min": "0"},
}  # fmt: skip
MB = 1e6


def best(work: Callable[[], Any], count: int) -> float:
    """Seconds for one round of `work`: the best of several tries of `count` rounds each."""
    tries = []
    for _ in range(TRIES):
        began = time.perf_counter()
        for _ in range(count):
            work()
        tries.append((time.perf_counter() - began) / count)
    return min(tries)


def once(work: Callable[[], Any]) -> Tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def memory(field: str) -> float:
    """Bytes of this process by a field of Linux: VmRSS is now, VmHWM the peak since `forget_peak`."""
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) * 1024.0 for line in stream if line.startswith(field + ":"))


def forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")


# --- clients ---


class RawClient:
    """An XML-RPC client with one connection that it keeps. It reads the answers but does not parse them."""

    def __init__(self, path: str) -> None:
        self.connection: http.client.HTTPConnection = UnixConnection(path)

    def __call__(self, method: str, *params: Any) -> int:
        return self.send(xmlrpc.client.dumps(params, method).encode())

    def send(self, body: bytes) -> int:
        """Send a request and read its answer piece by piece; return the length of the answer."""
        self.connection.request("POST", "/", body)
        response = self.connection.getresponse()
        size = 0
        while True:
            piece = response.read(1 << 20)
            size += len(piece)
            if not piece:
                return size


def serve(path: str, ready: Any, pool: Any) -> None:
    """Serve in a process of its own until `ready` is set."""
    sim = Simulator(now=START)
    built = build_pool(sim.call)
    with Server(sim, socket=path):
        pool.put((built.session, built.vms[0]))
        ready.wait()


# --- calls, simulators, snapshots ---


def over_the_socket() -> List[Tuple[str, float]]:
    """The times of small calls from another process."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path, done, answer = os.path.join(folder, "socket"), context.Event(), context.Queue()
        server = context.Process(target=serve, args=(path, done, answer))
        server.start()
        session, vm = answer.get()
        raw = RawClient(path)
        body = xmlrpc.client.dumps((session, vm), "VM.get_power_state").encode()
        api = XenAPI.Session("http://localhost", transport=UnixTransport(path))
        api.xenapi.login_with_password("root", "")
        get = api.xenapi.VM.get_power_state
        rows = [
            ("VM.get_power_state over the socket, raw client", best(lambda: raw.send(body), 2000)),
            ("VM.get_power_state over the socket, XenAPI client", best(lambda: get(vm), 1000)),
        ]
        done.set()
        server.join()
    return rows


def small_pool() -> Tuple[Simulator, str, str]:
    """A new simulator with 3 VMs of 2 disks, 2 SRs and 2 policies; a session and a VM of it."""
    sim = Simulator(now=START)
    pool = build_pool(sim.call, hosts=1, srs=2, vms=3)
    for number in range(2):
        policy = sim.call("VMSS.create", pool.session, dict(POLICY, name_label="policy %d" % number))
        sim.call("VM.set_snapshot_schedule", pool.session, pool.vms[number], policy)
    return sim, pool.session, pool.vms[0]


def snapshot_life(sim: Simulator, session: str, vm: str) -> None:
    """Take a snapshot, destroy it and its disks, and let the garbage collector run."""
    snapshot = sim.call("VM.snapshot", session, vm, "snapshot", [])
    disks = [sim.call("VBD.get_VDI", session, vbd) for vbd in sim.call("VM.get_VBDs", session, snapshot)]
    sim.call("VM.destroy", session, snapshot)
    for disk in disks:
        if disk != NULL:
            sim.call("VDI.destroy", session, disk)
    sim.set_time(sim.now() + timedelta(minutes=30))


def in_process() -> List[Tuple[str, float]]:
    sim, session, vm = small_pool()
    return [
        ("VM.get_power_state in process", best(lambda: sim.call("VM.get_power_state", session, vm), 5000)),
        ("VM.get_record in process", best(lambda: sim.call("VM.get_record", session, vm), 1000)),
        ("Simulator()", best(lambda: Simulator(now=START), 100)),
        ("Simulator() and a pool of 3 VMs, 2 SRs, 2 policies", best(small_pool, 20)),
        ("snapshot, destroy, collect, in virtual time", best(lambda: snapshot_life(sim, session, vm), 20)),
    ]


# --- pools ---


def build_and_read(vms: int, path: str) -> Dict[str, float]:
    """Build a pool, save it to `path`, and read it over a socket; return the figures."""
    before = memory("VmRSS")
    sim = Simulator(now=START)
    figures: Dict[str, float] = {}
    figures["build"], session = once(lambda: large_pool(sim, vms))
    figures["objects"] = float(sum(len(table.rows) for table in sim.db.tables.values()))
    figures["memory"] = memory("VmRSS") - before
    figures["save"], figures["save, peak"] = peak_of(lambda: sim.save(path))[:2]
    figures["file"] = float(os.path.getsize(path))
    with tempfile.TemporaryDirectory() as folder, Server(sim, socket=os.path.join(folder, "socket")) as server:
        client = RawClient(str(server.socket_path))
        vm = sim.call("VM.get_by_name_label", session, "vm%05d" % (vms // 2))[0]
        figures.update(bulk_reads(client, session, sim.call("VM.get_VBDs", session, vm)[0], sim))
        body = xmlrpc.client.dumps((session, vm), "VM.get_power_state").encode()
        figures["VM.get_power_state"] = best(lambda: client.send(body), 500)
        figures["VM.get_all_records_where, of one VM"] = best(
            lambda: client("VM.get_all_records_where", session, 'field "snapshot_of" = "%s"' % vm), 10
        )
    figures["snapshot and destroy"] = best(lambda: snapshot_life(sim, session, vm), 2)
    return figures


def peak_of(work: Callable[[], Any]) -> Tuple[float, float, Any]:
    """Run `work`: the seconds it takes, by how many bytes the memory grows at its peak, and its result."""
    forget_peak()
    before = memory("VmRSS")
    seconds, result = once(work)
    return seconds, memory("VmHWM") - before, result


def bulk_reads(client: RawClient, session: str, vbd: str, sim: Simulator) -> Dict[str, float]:
    """The seconds, the size and the growth of memory of each call that reads much."""
    disk = sim.call("VBD.get_VDI", session, vbd)
    sr = sim.call("VDI.get_SR", session, disk)
    figures: Dict[str, float] = {}
    for label, call in (
        ("VM.get_all_records", ("VM.get_all_records", session)),
        ("VM…where is_vmss_snapshot", ("VM.get_all_records_where", session, 'field "is_vmss_snapshot" = "true"')),
        ("VM…where not a snapshot", ("VM.get_all_records_where", session, 'field "is_a_snapshot" = "false"')),
        ("VDI…where is_a_snapshot", ("VDI.get_all_records_where", session, 'field "is_a_snapshot" = "true"')),
        ("VDI…where snapshot_of", ("VDI.get_all_records_where", session, 'field "snapshot_of" = "%s"' % disk)),
        ("event.from VM, empty token", ("event.from", session, ["VM"], "", 1.0)),
        ("SR.get_record", ("SR.get_record", session, sr)),
        ("pool.get_all_records", ("pool.get_all_records", session)),
    ):
        figures[label], figures[label + ", peak"], size = peak_of(partial(client, *call))
        figures[label + ", bytes"] = float(size)
    return figures


def load(path: str) -> Dict[str, float]:
    """Load a state file into a new process; return the figures."""
    before = memory("VmRSS")
    seconds, peak, sim = peak_of(lambda: Simulator.load(path))
    assert sim.db.tables["VM"].rows
    return {"load": seconds, "load, peak": peak, "loaded": memory("VmRSS") - before}


def measure_pool(vms: int) -> Dict[str, float]:
    """All figures of a pool of one size. Each part runs in a process of its own, so that its memory can be measured."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state.json")
        figures: Dict[str, float] = {}
        for work, args in ((build_and_read, (vms, path)), (load, (path,))):
            with context.Pool(1) as fresh:
                figures.update(fresh.apply(work, args))
    return figures


# --- the page ---

# The rows of a pool: a label, the figure, its unit, and whether it grows with the pool.
ROWS = (
    ("objects", "objects", "", True),
    ("build, straight into the tables", "build", "s", True),
    ("  memory", "memory", "MB", True),
    ("save", "save", "s", True),
    ("  more memory while it saves", "save, peak", "MB", True),
    ("  the file", "file", "MB", True),
    ("load", "load", "s", True),
    ("  memory", "loaded", "MB", True),
    ("  memory at the peak", "load, peak", "MB", True),
    ("VM.get_all_records", "VM.get_all_records", "s", True),
    ("  the answer", "VM.get_all_records, bytes", "MB", True),
    ("  more memory while it answers", "VM.get_all_records, peak", "MB", True),
    ("VM…where is_vmss_snapshot", "VM…where is_vmss_snapshot", "s", True),
    ("  the answer", "VM…where is_vmss_snapshot, bytes", "MB", True),
    ("VM…where not is_a_snapshot", "VM…where not a snapshot", "s", True),
    ("  the answer", "VM…where not a snapshot, bytes", "MB", True),
    ("VDI…where is_a_snapshot", "VDI…where is_a_snapshot", "s", True),
    ("  the answer", "VDI…where is_a_snapshot, bytes", "MB", True),
    ("event.from VM, empty token", "event.from VM, empty token", "s", True),
    ("  the answer", "event.from VM, empty token, bytes", "MB", True),
    ("SR.get_record, all its disks named", "SR.get_record", "ms", True),
    ("  the answer", "SR.get_record, bytes", "kB", True),
    ("pool.get_all_records", "pool.get_all_records", "ms", False),
    ("  the answer", "pool.get_all_records, bytes", "kB", False),
    ("VM…where snapshot_of, 10 snapshots", "VM.get_all_records_where, of one VM", "ms", False),
    ("VDI…where snapshot_of, 10 snapshots", "VDI…where snapshot_of", "ms", False),
    ("VM.get_power_state", "VM.get_power_state", "ms", False),
    ("snapshot, destroy, collect", "snapshot and destroy", "ms", False),
)
UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "MB": MB, "kB": 1e3}


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else "%.3g" % value


def print_calls(rows: List[Tuple[str, float]]) -> None:
    print("| %-52s | %9s | %10s |" % ("", "ms", "a second"))
    print("|%s|%s:|%s:|" % ("-" * 54, "-" * 10, "-" * 11))
    for label, seconds in rows:
        print("| %-52s | %9.3f | %10s |" % (label, seconds * 1e3, shown(1 / seconds)))


def print_pools(sizes: List[int]) -> None:
    """Print a table with one column per size."""
    pools = [measure_pool(vms) for vms in sizes]
    scale = sizes[-1] / sizes[0]
    titles = ["%10s" % f"{vms:,} VMs" for vms in sizes]
    print("| %-40s | %s | ratio |" % ("%d snapshots a VM; reads over the socket" % SNAPSHOTS, " | ".join(titles)))
    print("|%s|%s------:|" % ("-" * 42, ("-" * 11 + ":|") * len(sizes)))
    for label, name, unit, grows in ROWS:
        cells = ["%10s" % shown(pool[name] / UNITS[unit]) for pool in pools]
        ratio = pools[-1][name] / max(pools[0][name], 1e-9) / (scale if grows else 1)
        print("| %-40s | %s | %5.2f |" % ("%s%s" % (label, ", " + unit if unit else ""), " | ".join(cells), ratio))


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10000], metavar="VMS",
                        help="numbers of VMs of the pools (default: 100 1000 10000)")  # fmt: skip
    parser.add_argument("--no-pools", action="store_true", help="measure calls only")
    args = parser.parse_args()
    if min(args.sizes) < 4:
        parser.error("a pool has at least 4 VMs")
    print_calls(over_the_socket() + in_process())
    if not args.no_pools:
        print(flush=True)
        print_pools(sorted(args.sizes))


if __name__ == "__main__":
    main()
