"""Runs worlds of the simulation for some seconds of a processor, until one breaks: what the simulation notices.

python -m tests.mutations.worlds SECONDS
"""

import signal
import sys
import time
from types import FrameType
from typing import Callable, Iterator, List, NamedTuple, Optional

from tests.simulation.cases import CASES
from tests.simulation.faults import Fault, parse
from tests.simulation.once import ONCE, Once
from tests.simulation.run import live, live_weeks
from tests.simulation.small import SEED, SmallWorld, small, worlds

# No world takes a tenth of this, in seconds of a processor: one that does goes round and round.
LONGEST_S = 40.0
NOTICED = 3
KINDS = (
    "killed_before",
    "lost_after",
    "stop_asked",
    "coordinator_changed",
    "disk_full",
    "licence_changed",
    "task_gone",
    "snapshot_now",
)


class Piece(NamedTuple):
    """Something to run: its name, and what gives the names of the checks that did not hold."""

    name: str
    run: Callable[[], List[str]]


def _passes(seed: int) -> Piece:
    return Piece("seed %d" % seed, lambda: [str(broken) for broken in live(seed).found])


def _once(name: str, it: Once) -> Piece:
    return Piece(name, lambda: list(map(str, live(it.seed, parse(it.faults), switches=it.switches.split()).found)))


def _struck(call: int, kind: str, seconds: float) -> Piece:
    faults = [Fault(1, call, kind, call)]
    return Piece(
        "%s at call %d" % (kind, call), lambda: [str(broken) for broken in live(SEED, faults, small(seconds)).found]
    )


def _small(name: str, it: SmallWorld) -> Piece:
    return Piece(name, it.live)


def _case(name: str) -> Piece:
    def run() -> List[str]:
        outcome = live_weeks(1, shape=CASES[name].shape)
        marks = CASES[name].marks
        return [str(lapse) for lapse in outcome.lapses if lapse.check not in marks] + list(map(str, outcome.found))

    return Piece(name, run)


def _weeks(seed: int) -> Piece:
    def run() -> List[str]:
        outcome = live_weeks(seed)
        return [str(it) for it in outcome.surprises]

    return Piece("weeks, seed %d" % seed, run)


def pieces() -> Iterator[Piece]:
    """What is run, what tells most for its time first; without an end."""
    yield from map(_passes, range(1, 9))
    yield from (_once(name, it) for name, it in ONCE.items())
    yield from (_small(name, it) for name, it in worlds().items() if it.telling)
    yield from (_struck(call, kind, 100.0) for call in range(3, 60, 12) for kind in ("killed_after", "xapi_killed"))
    yield from map(_case, CASES)
    yield from (_struck(call, kind, 0.0) for kind in KINDS for call in range(1, 60, 9))
    yield from (_small(name, it) for name, it in [it for it in worlds().items() if not it[1].telling][::3])
    yield from map(_weeks, range(1, 4))
    seed = 9
    while True:
        yield from map(_passes, range(seed, seed + 20))
        seed += 20


def _went_round(_signal: int, _frame: Optional[FrameType]) -> None:
    raise TimeoutError("the world did not end")


def main(seconds: float) -> int:
    """Print the first piece that notices something, and what; return NOTICED then, and else 0."""
    signal.signal(signal.SIGVTALRM, _went_round)
    for piece in pieces():
        signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
        try:
            broken = piece.run()
        except BaseException as error:  # noqa: BLE001, whatever it is, the simulation has noticed it
            broken = [repr(error)]
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if broken:
            print("%s after %.1f s (%s)" % (broken[0][:90], time.process_time(), piece.name))
            return NOTICED
        if time.process_time() >= seconds:
            return 0
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
