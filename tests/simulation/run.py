"""Runs worlds by their seeds, and shrinks the fault list of one that breaks an invariant."""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

from tests.simulation.faults import Drawn, Fault, Listed, parse
from tests.simulation.invariants import Broken
from tests.simulation.world import Shape, World

MEMORY = Path("/dev/shm")  # the log and the lock: files that need no disk
TRIES_MAX = 400


class Outcome(NamedTuple):
    """How a world went."""

    passes: int
    calls: int
    struck: List[Fault]
    checked: Dict[int, int]
    found: List[Broken]
    history: List[str]
    log: bytes


def live(seed: int, faults: Optional[Sequence[Fault]] = None, shape: Optional[Shape] = None) -> Outcome:
    """Run the world of a seed; with these faults, or those that the seed draws."""
    folder = Path(tempfile.mkdtemp(prefix="vmss_sim_", dir=str(MEMORY) if MEMORY.is_dir() else None))
    try:
        plan = Drawn("faults %d" % seed) if faults is None else Listed(faults)
        world = World(seed, folder, plan, shape)
        world.live()
        logs = [Path(place.log) for place in world.places.values()]
        observer = world.observer
        return Outcome(
            world.passes,
            len(world.history),
            world.struck,
            observer.checked,
            observer.found,
            world.history,
            b"".join(log.read_bytes() for log in logs if log.exists()).replace(str(folder).encode(), b""),
        )
    finally:
        shutil.rmtree(str(folder))


def shrink(faults: List[Fault], breaks: Callable[[List[Fault]], bool]) -> List[Fault]:
    """Given faults and whether some of them still break what they all break, return the fewest: halves are left out
    first, then single ones."""
    size, tries = max(1, len(faults) // 2), 0
    while faults and tries < TRIES_MAX:
        for start in range(0, len(faults), size):
            fewer = faults[:start] + faults[start + size :]
            tries += 1
            if breaks(fewer):
                faults = fewer
                break
        else:
            if size == 1:
                break
            size = max(1, size // 2)
        size = max(1, min(size, len(faults)))
    return faults


def report(seed: int, outcome: Outcome) -> str:
    """What broke, the fewest faults that break it, and the command that shows it again."""
    broken = outcome.found[0]
    fewest = shrink(outcome.struck, lambda some: any(it.number == broken.number for it in live(seed, some).found))
    again = live(seed, fewest)
    lines = [
        "seed %d breaks %s" % (seed, broken),
        "with %d of its %d faults: %s"
        % (len(fewest), len(outcome.struck), "; ".join(str(found) for found in again.found)),
    ]
    command = 'python -m tests.simulation --seed %d --faults "%s" --show' % (seed, " ".join(map(str, fewest)))
    return "\n".join(lines + [command])


def main(words: Optional[Sequence[str]] = None) -> int:
    """The command: returns 1 where an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="the first seed (by default one that is new each time)")
    parser.add_argument("--count", type=int, default=0, help="so many seeds")
    parser.add_argument("--seconds", type=float, default=0.0, help="as many seeds as fit into so many seconds")
    parser.add_argument("--faults", help="these faults instead of those that the seed draws")
    parser.add_argument("--show", action="store_true", help="print what happened, and the log")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first failure")
    args = parser.parse_args(words)
    first = int(time.time()) * 1000 if args.seed is None else args.seed
    count = args.count or (10**9 if args.seconds else 1)
    began = time.monotonic()
    passes = calls = worlds = bad = 0
    kinds: Dict[str, int] = {}
    checked: Dict[int, int] = {}
    for seed in range(first, first + count):
        outcome = live(seed, None if args.faults is None else parse(args.faults))
        worlds, passes, calls = worlds + 1, passes + outcome.passes, calls + outcome.calls
        for fault in outcome.struck:
            kinds[fault.kind] = kinds.get(fault.kind, 0) + 1
        for number, times in outcome.checked.items():
            checked[number] = checked.get(number, 0) + times
        if args.show:
            print("\n".join(outcome.history))
            print(outcome.log.decode())
        if outcome.found:
            bad += 1
            print(report(seed, outcome) if args.faults is None else "\n".join(map(str, outcome.found)), flush=True)
            if not args.keep_going:
                break
        if args.seconds and time.monotonic() - began >= args.seconds:
            break
    seconds = time.monotonic() - began
    print(
        "worlds: %d from seed %d, passes: %d (%.0f a second), calls: %d, faults: %d, worlds that broke: %d"
        % (worlds, first, passes, passes / seconds, calls, sum(kinds.values()), bad)
    )
    print("faults by kind: " + ", ".join("%s %d" % item for item in sorted(kinds.items())))
    print("checks by invariant: " + ", ".join("%d: %d" % item for item in sorted(checked.items())))
    return 1 if bad else 0
