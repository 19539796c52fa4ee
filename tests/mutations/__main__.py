"""`python -m tests.mutations`: makes each mutation of the catalogue, and prints who notices it."""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import List, Sequence

from tests.mutations.catalogue import MUTATIONS, Mutation
from tests.mutations.trial import Noticed, fault_of, tried

# Of six mutations the simulation has to notice five.
_BY_SIMULATION = 5 / 6


def main() -> int:
    """Return 1 if the suite notices too few, or the simulation."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="those with these words in their name or path")
    parser.add_argument("--jobs", type=int, default=2, help="so many at a time (default: 2)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="how long the simulation may look, of a processor (default: 60)"
    )
    parser.add_argument("--no-suite", action="store_true", help="ask the simulation only")
    parser.add_argument("--no-simulation", action="store_true", help="ask the suite only")
    args = parser.parse_args()
    seconds = 0.0 if args.no_simulation else args.seconds
    chosen = [it for it in MUTATIONS if args.only in "%s %s" % (it.path, it.what)]
    faults = ["%s: %s" % (it.what, fault_of(it)) for it in chosen if fault_of(it)]
    if faults:
        print("\n".join(faults))
        return 2
    unchanged = tried(None, suite=False, seconds=seconds)
    if unchanged.simulation:
        print("the simulation breaks without any mutation: %s" % unchanged.simulation)
        return 2
    return _report(chosen, args.jobs, not args.no_suite, seconds)


def _report(chosen: Sequence[Mutation], jobs: int, suite: bool, seconds: float) -> int:
    began = time.monotonic()
    found: List[Noticed] = []
    with ThreadPoolExecutor(jobs) as pool:
        for mutation, noticed in zip(chosen, pool.map(lambda it: tried(it, suite, seconds), chosen)):
            found.append(noticed)
            print("%3d %s (%s)\n%s" % (len(found), mutation.what, mutation.path, _line(noticed)), flush=True)
    by_suite = sum(1 for noticed in found if noticed.suite != "")
    by_simulation = sum(1 for noticed in found if noticed.simulation != "")
    if suite:
        print("noticed by the suite: %d of %d" % (by_suite, len(found)))
    if seconds:
        print("noticed by the simulation within %.0f s: %d of %d" % (seconds, by_simulation, len(found)))
    print("seconds: %.0f" % (time.monotonic() - began))
    return 0 if by_suite == len(found) and by_simulation >= len(found) * _BY_SIMULATION else 1


def _line(noticed: Noticed) -> str:
    lines = []
    for who, what in (("suite", noticed.suite), ("simulation", noticed.simulation)):
        if what is not None:
            lines.append("      %s: %s" % (who, what or "notices nothing"))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
