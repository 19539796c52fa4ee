"""The command: all parts of the proof, or one, with numbers and a seed."""

import argparse
import time
from typing import Callable, Dict, Optional, Sequence, Tuple

from tests.proof.answers import answers
from tests.proof.clocks import clocks
from tests.proof.kills import kills
from tests.proof.passes import passes
from tests.proof.rounds import Proof, fresh_seed

Part = Callable[[int, int], Proof]

# Each part, how often, and what is counted.
PARTS: Dict[str, Tuple[Part, int, str]] = {
    "kills": (kills, 500, "processes to kill at a random time or call"),
    "answers": (answers, 1000, "hostile answers to give"),
    "passes": (passes, 300, "passes in one process"),
    "clocks": (clocks, 10, "times to make each step of the clock: an hour and a day, both ways"),
}


def main(words: Optional[Sequence[str]] = None) -> int:
    """Prove what is asked for. Return 1 if something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument(
        "--seed", type=int, help="of the first round of each part (by default one that is new each time)"
    )
    parser.add_argument("--only", choices=sorted(PARTS), action="append", help="this part alone; more than once, these")
    for name, (_, count, what) in PARTS.items():
        parser.add_argument("--" + name, type=int, default=count, help="%s (%d)" % (what, count))
    args = parser.parse_args(words)
    seed = fresh_seed() if args.seed is None else args.seed
    print("seed %d" % seed, flush=True)
    failed = 0
    for name, (part, _, _) in PARTS.items():
        count = getattr(args, name)
        if count and (not args.only or name in args.only):
            began = time.monotonic()
            proof = part(seed, count)
            print("%s, %.0f s" % (proof, time.monotonic() - began), flush=True)
            failed += len(proof.failures)
    return 1 if failed else 0
