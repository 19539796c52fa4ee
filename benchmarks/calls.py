"""What a pass costs in calls, bytes and waits, counted on the server's side.

    python3 benchmarks/calls.py

An idle tick, and a served VM with two disks and one expired snapshot, for pools of several sizes.
"""
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.pool import TestPool  # noqa: E402

WAITS = ("event.from",)


def counted(pool: TestPool, hour: int, minute: int) -> Dict[str, Dict[str, int]]:
    """The calls of one tick: by method, how many and how many bytes went in and out."""
    pool.at(hour, minute)
    pool.call("simulator.reset_counts")
    report = pool.tick()
    if report.status:
        raise SystemExit("the tick failed: %s" % report.line)
    counts: Dict[str, Dict[str, Any]] = pool.call("simulator.get_counts")
    return {
        method: {name: int(number) for name, number in numbers.items()}
        for method, numbers in counts.items() if not method.startswith("simulator.")
    }


def row(label: str, counts: Dict[str, Dict[str, int]], served: int) -> str:
    """One line of the table; with `served` VMs, per VM."""
    calls = sum(numbers["calls"] for method, numbers in counts.items() if method not in WAITS)
    waits = sum(numbers["calls"] for method, numbers in counts.items() if method in WAITS)
    size = sum(numbers["bytes_in"] + numbers["bytes_out"] for numbers in counts.values())
    each = max(1, served)
    return "| %-34s | %7.2f | %7.2f | %9.1f |" % (label, calls / each, waits / each, size / each / 1024)


def measure(vms: int) -> List[str]:
    """The rows of a pool with so many VMs, all of one policy, on four SRs."""
    with tempfile.TemporaryDirectory() as folder, TestPool(Path(folder)) as pool:
        srs = [pool.sr("sr%d" % number) for number in range(4)]
        refs = [pool.vm("vm%d" % number, [srs[number % 4], srs[(number + 1) % 4]]) for number in range(vms)]
        pool.policy(refs, retained_snapshots="1")
        counted(pool, 10, 15)  # the first snapshots: from now on one expires each time
        return [
            row("idle tick, %d VMs" % vms, counted(pool, 10, 45), 0),
            row("per VM served, %d VMs" % vms, counted(pool, 11, 15), vms),
        ]


def main() -> None:
    """Print the table."""
    print("| %-34s | %7s | %7s | %9s |" % ("", "calls", "waits", "KiB"))
    print("|%s|%s|%s|%s|" % ("-" * 36, "-" * 8 + ":", "-" * 8 + ":", "-" * 10 + ":"))
    for vms in (1, 10, 100, 400):
        for line in measure(vms):
            print(line, flush=True)


if __name__ == "__main__":
    main()
