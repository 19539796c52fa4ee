"""Rounds of one part of the proof: each has a seed of its own, and one that fails says how to see it again."""

import traceback
from collections import Counter
from random import SystemRandom
from typing import Callable, List, NamedTuple, Tuple

# Those after so many failures would say the same.
FAILURES_MAX = 10


class Proof(NamedTuple):
    """What came of one part: how many rounds, what happened in them and how often, and what failed."""

    part: str
    rounds: int
    seen: Tuple[Tuple[str, int], ...]
    failures: Tuple[str, ...]

    def __str__(self) -> str:
        seen = ", ".join("%s %d" % item for item in self.seen)
        return "%s: %d, failed: %d (%s)" % (self.part, self.rounds, len(self.failures), seen)


def fresh_seed() -> int:
    """A seed that nobody has seen yet."""
    return SystemRandom().randrange(10**9)


def play(part: str, seed: int, count: int, one: Callable[[int], List[str]]) -> Proof:
    """Play so many rounds, with the seeds from this one on. `one` returns what happened in a round, and raises whatever
    is wrong with it."""
    seen: Counter[str] = Counter()
    failures: List[str] = []
    rounds = 0
    for number in range(seed, seed + count):
        rounds += 1
        try:
            seen.update(one(number))
        except Exception:  # noqa: BLE001 - whatever it is, it is a failure, and the next round has no part in it
            again = "python -m tests.proof --only %s --%s 1 --seed %d" % (part, part, number)
            failures.append("%s\n%s" % (traceback.format_exc(), again))
            print(failures[-1], flush=True)
            if len(failures) >= FAILURES_MAX:
                break
    return Proof(part, rounds, tuple(sorted(seen.items())), tuple(failures))
