"""The calls, bytes and waits of a pass, counted by the server in virtual time."""

import tempfile
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence

from tests.pool import TestPool
from vmss.core.datetimes import parse_datetime


class Counts(NamedTuple):
    """How many calls read, how many write and how many wait; and the bytes of all of them, requests and answers."""

    reads: int
    writes: int
    waits: int
    size: int

    @property
    def calls(self) -> int:
        return self.reads + self.writes


@contextmanager
def new_pool() -> Iterator[TestPool]:
    """Yield an empty pool whose files are in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, TestPool(Path(folder)) as pool:
        yield pool


def counted(pool: TestPool, hour: int, minute: int) -> Counts:
    """Run one tick at this time of day, and return its calls and bytes."""
    pool.at(hour, minute)
    pool.call("simulator.reset_counts")
    report = pool.tick()
    if report.status:
        raise SystemExit("the tick failed: %s" % report.line)
    counts: Dict[str, Dict[str, str]] = pool.call("simulator.get_counts")
    reads = writes = waits = size = 0
    for method, numbers in counts.items():
        if method.startswith("simulator."):
            continue
        calls = int(numbers["calls"])
        size += int(numbers["bytes_in"]) + int(numbers["bytes_out"])
        if method == "event.from":
            waits += calls
        elif ".get_" in method or method.startswith("session."):
            reads += calls
        else:
            writes += calls
    return Counts(reads, writes, waits, size)


def build(pool: TestPool, vms: int, srs: int) -> List[str]:
    """Create VMs with two disks each, on neighbouring SRs; return their references."""
    refs = [pool.sr("sr%d" % number) for number in range(srs)]
    return [pool.vm("vm%d" % number, [refs[number % srs], refs[(number + 1) % srs]]) for number in range(vms)]


def idle(vms: int, policies: int) -> Counts:
    """The cost of a tick at which nothing is due; ten VMs of the pool belong to each policy."""
    with new_pool() as pool:
        refs = [pool.vm("vm%d" % number) for number in range(vms)]
        for number in range(policies):
            pool.policy(refs[number * 10 : number * 10 + 10], name="policy %d" % number)
        return counted(pool, 10, 1)


def served(vms: int, srs: int = 4) -> Counts:
    """The cost of a pass in which each VM gets a snapshot of two disks and loses one."""
    with new_pool() as pool:
        pool.policy(build(pool, vms, srs), retained_snapshots="1")
        counted(pool, 10, 15)  # the first snapshots: from now on one expires each time
        counted(pool, 11, 15)  # now the duration of each is known
        return counted(pool, 12, 15)


def delay_by_a_hanging_vm(vms: int = 200, srs: int = 16) -> float:
    """The time until the last snapshot on the other SRs if the snapshot of one VM hangs, to that time if none hangs."""

    def last(hanging: bool) -> float:
        with new_pool() as pool:
            refs = [pool.sr("sr%d" % number) for number in range(srs)]
            vms_of_policy = [pool.vm("vm%03d" % number, [refs[number % srs]] * 2) for number in range(vms)]
            pool.policy(vms_of_policy, frequency="daily", schedule={"hour": "10", "min": "15"})
            if hanging:
                pool.call(
                    "simulator.add_fault", {"method": "VM.snapshot", "object": vms_of_policy[0], "action": "hang"}
                )
            # Fixed durations: the two passes differ in the fault alone.
            pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(1.65, 1.65))
            pool.at(10, 15)
            began = pool.simulator.now()
            pool.tick()
            others = [vm for number, vm in enumerate(vms_of_policy) if number % srs]
            snapshotted = max(parse_datetime(pool.snapshots(vm)[0]["snapshot_time"]) for vm in others)
            return (snapshotted - began) / timedelta(seconds=1)

    return last(True) / last(False)


def whole_pass(vms: int, srs: int) -> float:
    """The duration of a pass with deletions over the wire, to the time that its SRs need alone. Each VM has two disks
    on one SR."""
    with new_pool() as pool:
        refs = [pool.sr("sr%d" % number) for number in range(srs)]
        pool.policy(
            [pool.vm("vm%04d" % number, [refs[number % srs]] * 2) for number in range(vms)], retained_snapshots="1"
        )
        snapshot, destroy = 1.65, 0.55
        pool.simulator.durations = pool.simulator.durations._replace(
            vdi_snapshot=(snapshot, snapshot), vdi_destroy=(destroy, destroy)
        )
        counted(pool, 10, 15)
        counted(pool, 11, 15)
        slot = pool.simulator.now().replace(minute=15, second=0, microsecond=0)
        alone = -(-vms // srs) * 2 * (snapshot + destroy)
        return (pool.simulator.now() - slot) / timedelta(seconds=1) / alone


def page(sizes: Sequence[int]) -> Iterator[str]:
    """Yield the lines of this part of the page."""
    yield "| idle tick                | calls |  KiB |"
    yield "|--------------------------|------:|-----:|"
    for vms in sizes:
        policies = min(10, vms // 10)
        counts = idle(vms, policies)
        yield "| %6d VMs, %3d policies | %5d | %4.0f |" % (vms, policies, counts.calls, counts.size / 1024)
    counts = idle(1000, 100)
    yield "| %6d VMs, %3d policies | %5d | %4.0f |" % (1000, 100, counts.calls, counts.size / 1024)
    yield ""
    yield "| per VM served      | reads | writes | waits | KiB |"
    yield "|--------------------|------:|-------:|------:|----:|"
    for vms in (10, 100, 1000):
        counts = served(vms)
        yield "| %8d VMs       | %5.2f | %6.2f | %5.2f | %3.0f |" % (
            vms,
            counts.reads / vms,
            counts.writes / vms,
            counts.waits / vms,
            counts.size / vms / 1024,
        )
    yield ""
    for vms, srs in ((200, 4), (200, 16), (1000, 16)):
        yield "A pass over %4d VMs on %2d SRs, over the wire, takes %.3f of the time that its SRs need alone." % (
            vms,
            srs,
            whole_pass(vms, srs),
        )
    yield (
        "If one VM of 200 on 16 SRs hangs, the last snapshot on the other SRs comes after %.2f of the time without it."
        % (delay_by_a_hanging_vm())
    )
