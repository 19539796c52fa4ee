"""Hundreds of passes in one process, which must not grow: memory, descriptors, threads, files, sessions and tasks."""

import gc
import os
import subprocess
import sys
import threading
import tracemalloc
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from tests.pool import TestPool
from tests.proof.rounds import Proof
from vmss.core.datetimes import format_datetime, parse_datetime
from vmss.edges.clock import Clock
from vmss.edges.settings import Place, Settings
from vmss.edges.surroundings import Surroundings
from vmss.edges.xapi import Xapi
from vmss.passes.request import Request
from vmss.passes.run import run

HOUR = timedelta(hours=1)
PAGE = os.sysconf("SC_PAGE_SIZE")
# What is loaded and cached by the first passes, or by the first half of a few, is no growth.
WARM_UP = 30
# Bytes of Python's own objects: what its own caches still take after that, and by how much each pass may grow, which is
# less than a reference that it would keep.
CACHES_MAX = 64 << 10
GROWTH_MAX = 64
# Bytes of the process, which grows in whole pages and with what the allocator does not give back.
RESIDENT_MAX = 16 << 20


class ServersClock(Clock):
    """The virtual clock of a simulator in another process."""

    def __init__(self, xapi: Xapi) -> None:
        self._xapi = xapi

    def now(self) -> datetime:
        return parse_datetime(self._xapi.call("simulator.get_time")).replace(tzinfo=timezone.utc)

    def monotonic(self) -> float:
        return self.now().timestamp()

    def sleep(self, seconds: float) -> None:
        # xapi's times on the wire are whole seconds.
        later = self.now() + timedelta(seconds=max(1.0, round(seconds)))
        self._xapi.call("simulator.set_time", format_datetime(later))


class Size(NamedTuple):
    """What a process has after a pass: bytes of its own objects and of itself, descriptors and threads; the files
    beside the lock; and what xapi holds for it, sessions and tasks."""

    objects: int
    resident: int
    descriptors: int
    threads: int
    files: int
    sessions: int
    tasks: int


class Client(TestPool):
    """A pool whose simulator is in another process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = str(folder / "xapi.sock")
        self.place = Place("unix:" + self.socket, log=str(folder / "VMSSlog"), lock_dir=str(folder / "lock"))
        self.settings = Settings(timezone="UTC", login_limit=0)
        self.xapi = Xapi(self.place.xapi)
        self.xapi.login("root", "")

    def answer(self, method: str, params: Sequence[Any]) -> Any:
        return self.xapi.call(method, *params)

    def size(self) -> Size:
        gc.collect()
        with open("/proc/self/statm", encoding="ascii") as file:
            resident = int(file.read().split()[1]) * PAGE
        return Size(
            tracemalloc.get_traced_memory()[0],
            resident,
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
            len(os.listdir(self.place.lock_dir)),
            self.sessions(),
            len(self.tasks()),
        )


def child(folder: str, count: int) -> None:
    """Run in a process of its own: so many passes, each with work to do; print what the process has after each."""
    pool = Client(Path(folder))
    clock = ServersClock(pool.xapi)
    around = Surroundings(pool.place, pool.settings, clock=clock)
    slot = clock.now().replace(minute=15, second=0, microsecond=0)
    tracemalloc.start()
    for _ in range(count):
        slot += HOUR
        pool.call("simulator.set_time", format_datetime(slot))
        report = run(Request(kicked=True), around)
        print(report.status, len(report.served), *pool.size(), flush=True)


def build(pool: TestPool) -> None:
    """Two policies, of disks and of memory; each pass takes three snapshots and destroys three."""
    srs = [pool.sr("a"), pool.sr("b")]
    pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], srs[1])
    pool.policy([pool.vm("one", srs), pool.vm("two", srs[:1])], name="disks", retained_snapshots="1")
    memory = [pool.vm("three", srs[1:], running=True)]
    pool.policy(memory, name="memory", type="checkpoint", retained_snapshots="1")
    for policy in pool.call("VMSS.get_all"):
        pool.call("VMSS.set_last_run_time", policy, "20260302T01:00:00Z")


def warm_of(sizes: List[Size]) -> List[Size]:
    """The sizes after the passes that load and cache."""
    return sizes[min(WARM_UP, len(sizes) // 2) :]


def judge(sizes: List[Size]) -> List[str]:
    """What has grown, given what the process had after each pass."""
    warm = warm_of(sizes)
    wrong = []
    for name in ("descriptors", "threads", "files"):
        if getattr(warm[-1], name) > getattr(warm[0], name):
            wrong.append("%s: %d, then %d" % (name, getattr(warm[0], name), getattr(warm[-1], name)))
    for name in ("sessions", "tasks"):
        if any(getattr(size, name) for size in sizes):
            wrong.append("%s: %s" % (name, [getattr(size, name) for size in sizes]))
    if warm[-1].resident - warm[0].resident > RESIDENT_MAX:
        wrong.append("resident bytes: %d, then %d" % (warm[0].resident, warm[-1].resident))
    grown = warm[-1].objects - warm[0].objects
    if grown > CACHES_MAX + GROWTH_MAX * len(warm):
        wrong.append("bytes of objects: %d, then %d" % (warm[0].objects, warm[-1].objects))
    return wrong


def measured(folder: Path, count: int) -> Tuple[List[Size], List[str]]:
    """What a process had after each of so many passes, and what was wrong with them."""
    with TestPool(folder) as pool:
        build(pool)
        pool.xapi.logout()  # so that the sessions that there are are the passes'
        words = [
            sys.executable,
            "-c",
            "from tests.proof.passes import child; child(%r, %d)" % (str(pool.folder), count),
        ]
        root = str(Path(__file__).resolve().parent.parent.parent)
        process = subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, universal_newlines=True)
        out, _ = process.communicate(timeout=60 + 10 * count)
        rows = [[int(word) for word in line.split()] for line in out.splitlines()]
        wrong = [] if process.returncode == 0 and len(rows) == count else ["it ended with %d" % process.returncode]
        bad = [number for number, row in enumerate(rows) if row[:2] != [0, 2]]
        if bad:
            wrong.append("passes that did not serve both policies: %s" % bad)
        if [len(pool.snapshots(vm)) for vm in pool.call("VM.get_all") if pool.call("VM.get_snapshots", vm)] != [
            1,
            1,
            1,
        ]:
            wrong.append("not one snapshot for each VM")
        return [Size(*row[2:]) for row in rows], wrong


def passes(seed: int, count: int) -> Proof:
    """So many passes in one process. Nothing of it is drawn: the seed changes nothing."""
    with TemporaryDirectory(prefix="proof") as folder:
        sizes, wrong = measured(Path(folder), count)
    wrong += judge(sizes) if not wrong else []
    seen: Dict[str, int] = {}
    if sizes:
        warm = warm_of(sizes)
        for name in Size._fields:
            seen[name + " first"], seen[name + " last"] = getattr(warm[0], name), getattr(warm[-1], name)
    failures = ["%s\npython -m tests.proof --only passes --passes %d" % (text, count) for text in wrong]
    if failures:
        print("\n".join(failures), flush=True)
    return Proof("passes", len(sizes), tuple(seen.items()), tuple(failures))
