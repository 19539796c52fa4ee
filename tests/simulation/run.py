"""Runs worlds by their seeds, some passes long or weeks, and shrinks the list of what happens in one that breaks
something."""

import argparse
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, TypeVar

from tests.simulation.cases import CASES, MARKED
from tests.simulation.faults import Drawn, Fault, Listed, parse
from tests.simulation.invariants import OUTCOMES, Broken
from tests.simulation.ledger import Lapse
from tests.simulation.switches import SWITCHES, switched, switched_for_weeks
from tests.simulation.troubles import Trouble, parse_troubles
from tests.simulation.weeks import Weeks, WeeksShape, draw_weeks
from tests.simulation.world import Shape, World, draw, thinning

MEMORY = Path("/dev/shm")  # the log and the lock: files that need no disk
TRIES_MAX = 400

Item = TypeVar("Item")


class Outcome(NamedTuple):
    """How a world went. `failures` are the bodies of alerts that tell of VMs that failed, `twice` of those that tell of
    a run again, `never_ran` the policies without a run at its end; `switched` is what was switched on."""

    passes: int
    calls: int
    struck: List[Fault]
    checked: Dict[int, int]
    found: List[Broken]
    history: List[str]
    log: bytes
    failures: List[str]
    twice: List[str]
    never_ran: List[str]
    switched: Sequence[str] = ()


def live(
    seed: int,
    faults: Optional[Sequence[Fault]] = None,
    shape: Optional[Shape] = None,
    switches: Optional[Sequence[str]] = None,
) -> Outcome:
    """Run the world of a seed; with these faults, or those that the seed draws; and with these things switched on, or
    those that the seed draws."""
    with _folder() as folder:
        plan = Drawn("faults %d" % seed) if faults is None else Listed(faults)
        shape = switched(thinning(draw(seed), seed), seed, switches) if shape is None else shape
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
            [it["body"] for it in world.sim.messages.records.values() if it["name"] == "VMSS_SNAPSHOT_FAILED"],
            _twice([it for it in world.sim.messages.records.values() if it["name"] in OUTCOMES]),
            [
                row["name_label"]
                for row in world.sim.db.tables["VMSS"].rows.values()
                if row["last_run_time"].year == 1970
            ],
            shape.switched,
        )


def _twice(alerts: Sequence[Dict[str, Any]]) -> List[str]:
    """The bodies of the alerts that tell of a run which an earlier one tells of."""
    seen, found = set(), []
    for alert in alerts:
        run = alert["obj_uuid"], tuple(re.findall(r"(?:has its|have their) snapshot of (.*?);", alert["body"]))
        found += [alert["body"]] if run in seen else []
        seen.add(run)
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix="vmss_sim_", dir=str(MEMORY)))
    except OSError:  # a machine without it, or a user who may not write there
        folder = Path(tempfile.mkdtemp(prefix="vmss_sim_"))
    try:
        yield folder
    finally:
        shutil.rmtree(str(folder))


class WeeksOutcome(NamedTuple):
    """How a world of weeks went: `lapses` are all checks of time that did not hold, `found` the invariants that a pass
    broke."""

    shape: WeeksShape
    ticks: int
    jumped: int
    asked: Dict[str, int]
    lapses: List[Lapse]
    found: List[Broken]
    history: List[str]

    @property
    def surprises(self) -> List[Any]:
        """What the product is known to pass, and did not."""
        return [it for it in self.lapses if it.check not in MARKED] + list(self.found)


def live_weeks(
    seed: int,
    troubles: Optional[Sequence[Trouble]] = None,
    weeks: float = 0.0,
    shape: Optional[WeeksShape] = None,
    switches: Optional[Sequence[str]] = None,
) -> WeeksOutcome:
    """Run the world of weeks of a seed; with these troubles, or those that the seed draws; and with these things
    switched on, or those that the seed draws."""
    if shape is None:
        shape = draw_weeks(seed, weeks)
        shape = shape._replace(pool=switched_for_weeks(shape.pool, seed, switches))
    if troubles is not None:
        shape = shape._replace(troubles=tuple(troubles))
    with _folder() as folder:
        world = Weeks(seed, folder, shape)
        world.live()
        ledger = world.ledger
        history = [line.replace(str(folder), "") for line in world.history]
        return WeeksOutcome(
            shape, world.ticks, world.jumped, ledger.asked, ledger.lapses, world.observer.found, history
        )


def report_weeks(seed: int, outcome: WeeksOutcome, weeks: float = 0.0) -> str:
    """What broke, the fewest troubles with which it does, and the command that shows it again."""
    first = outcome.surprises[0]

    def breaks(some: List[Trouble], on: Sequence[str]) -> bool:
        return any(_kind(it) == _kind(first) for it in live_weeks(seed, some, weeks, switches=on).surprises)

    on = outcome.shape.pool.switched
    fewest = shrink(list(outcome.shape.troubles), lambda some: breaks(some, on))
    least = shrink(list(on), lambda some: breaks(fewest, some))
    again = live_weeks(seed, fewest, weeks, switches=least)
    lines = [
        "seed %d breaks %s" % (seed, first),
        "with %d of its %d troubles, switched on: %s (of %s): %s"
        % (
            len(fewest),
            len(outcome.shape.troubles),
            ", ".join(least) or "nothing",
            ", ".join(on) or "nothing",
            "; ".join(str(found) for found in again.surprises),
        ),
    ]
    words = "--weeks %s --seed %d" % ("%g" % weeks if weeks else "", seed)
    command = 'python -m tests.simulation %s --faults "%s" --switches "%s" --show' % (
        " ".join(words.split()),
        " ".join(map(str, fewest)),
        " ".join(least),
    )
    return "\n".join(lines + [command])


def _kind(surprise: Any) -> Any:
    return surprise.check if isinstance(surprise, Lapse) else surprise.number


def shrink(faults: List[Item], breaks: Callable[[List[Item]], bool]) -> List[Item]:
    """Given faults, or troubles, and whether some of them still break what they all break, return the fewest: halves
    are left out first, then single ones."""
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
    """What broke, the fewest faults that break it, with the least that is switched on, and the command that shows it
    again."""
    number = outcome.found[0].number

    def breaks(some: Sequence[Fault], on: Sequence[str]) -> bool:
        return any(it.number == number for it in live(seed, some, switches=on).found)

    fewest = shrink(outcome.struck, lambda some: breaks(some, outcome.switched))
    least = shrink(list(outcome.switched), lambda on: breaks(fewest, on))
    again = live(seed, fewest, switches=least)
    lines = [
        "seed %d breaks %s" % (seed, outcome.found[0]),
        "with %d of its %d faults, switched on: %s (of %s): %s"
        % (
            len(fewest),
            len(outcome.struck),
            ", ".join(least) or "nothing",
            ", ".join(outcome.switched) or "nothing",
            "; ".join(str(found) for found in again.found),
        ),
    ]
    command = 'python -m tests.simulation --seed %d --faults "%s" --switches "%s" --show' % (
        seed,
        " ".join(map(str, fewest)),
        " ".join(least),
    )
    return "\n".join(lines + [command])


def main(words: Optional[Sequence[str]] = None) -> int:
    """The command: returns 1 where an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="the first seed (by default one that is new each time)")
    parser.add_argument("--count", type=int, default=0, help="so many seeds")
    parser.add_argument("--seconds", type=float, default=0.0, help="as many seeds as fit into so many seconds")
    parser.add_argument("--faults", help="these faults, or troubles, instead of those that the seed draws")
    parser.add_argument(
        "--switches", help="switch these on (tests/simulation/switches.py), and not what the seed draws"
    )
    parser.add_argument("--show", action="store_true", help="print what happened, and the log")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first failure")
    parser.add_argument(
        "--weeks", type=float, nargs="?", const=0.0, help="worlds of weeks: of so many, or as many as the seed draws"
    )
    parser.add_argument("--case", help="the world of weeks of tests/simulation/cases.py with this in its name")
    args = parser.parse_args(words)
    unknown = set((args.switches or "").split()) - set(SWITCHES)
    if unknown:
        parser.error("no switches: %s; there are %s" % (", ".join(sorted(unknown)), ", ".join(sorted(SWITCHES))))
    if args.case is not None:
        return _show_case(args.case, args.show)
    return _passes(args) if args.weeks is None else _weeks(args)


def _seeds(args: argparse.Namespace) -> Iterator[int]:
    """The seeds that are asked for, until their time is over."""
    first = int(time.time()) * 1000 if args.seed is None else args.seed
    began = time.monotonic()
    for seed in range(first, first + (args.count or (10**9 if args.seconds else 1))):
        yield seed
        if args.seconds and time.monotonic() - began >= args.seconds:
            break


def _add(totals: Dict[str, int], more: Dict[Any, int]) -> None:
    for name, times in more.items():
        totals[name] = totals.get(name, 0) + times


def _passes(args: argparse.Namespace) -> int:
    began = time.monotonic()
    passes = calls = bad = 0
    seeds: List[int] = []
    kinds: Dict[str, int] = {}
    checked: Dict[Any, int] = {}
    switches: Dict[str, int] = {}
    for seed in _seeds(args):
        faults = None if args.faults is None else parse(args.faults)
        outcome = live(seed, faults, switches=None if args.switches is None else args.switches.split())
        seeds.append(seed)
        passes, calls = passes + outcome.passes, calls + outcome.calls
        for fault in outcome.struck:
            _add(kinds, {fault.kind: 1})
        _add(switches, dict.fromkeys(outcome.switched, 1))
        _add(checked, outcome.checked)
        if args.show:
            print("\n".join(outcome.history))
            print(outcome.log.decode())
        if outcome.found:
            bad += 1
            print(report(seed, outcome) if args.faults is None else "\n".join(map(str, outcome.found)), flush=True)
            if not args.keep_going:
                break
    seconds = time.monotonic() - began
    print(
        "worlds: %d from seed %d, passes: %d (%.0f a second), calls: %d, faults: %d, worlds that broke: %d"
        % (len(seeds), seeds[0], passes, passes / seconds, calls, sum(kinds.values()), bad)
    )
    print("faults by kind: " + ", ".join("%s %d" % item for item in sorted(kinds.items())))
    print("worlds by what is switched on: " + ", ".join("%s %d" % item for item in sorted(switches.items())))
    print("checks by invariant: " + ", ".join("%d: %d" % item for item in sorted(checked.items())))
    return 1 if bad else 0


def _weeks(args: argparse.Namespace) -> int:
    began = time.monotonic()
    ticks = jumped = bad = 0
    seeds: List[int] = []
    kinds: Dict[str, int] = {}
    asked: Dict[str, int] = {}
    known: Dict[str, int] = {}
    for seed in _seeds(args):
        troubles = None if args.faults is None else parse_troubles(args.faults)
        switches = None if args.switches is None else args.switches.split()
        outcome = live_weeks(seed, troubles, args.weeks, switches=switches)
        seeds.append(seed)
        ticks, jumped = ticks + outcome.ticks, jumped + outcome.jumped
        for trouble in outcome.shape.troubles:
            _add(kinds, {trouble.kind: 1})
        _add(asked, outcome.asked)
        for check in {lapse.check for lapse in outcome.lapses if lapse.check in MARKED}:
            _add(known, {check: 1})
        if args.show:
            print("\n".join(outcome.history + [str(lapse) for lapse in outcome.lapses]))
        if outcome.surprises:
            bad += 1
            shown = "\n".join(map(str, outcome.surprises))
            print(report_weeks(seed, outcome, args.weeks) if args.faults is None else shown, flush=True)
            if not args.keep_going:
                break
    print(
        "worlds of weeks: %d from seed %d, ticks: %d (and %d jumped over), seconds: %.1f, worlds that broke: %d"
        % (len(seeds), seeds[0], ticks, jumped, time.monotonic() - began, bad)
    )
    print("troubles by kind: " + ", ".join("%s %d" % item for item in sorted(kinds.items())))
    print("checks: " + ", ".join("%s: %d" % item for item in sorted(asked.items())))
    print("worlds in which a known lapse was seen: " + ", ".join("%s: %d" % item for item in sorted(known.items())))
    return 1 if bad else 0


def _show_case(words: str, show: bool) -> int:
    """Run the cases of this name, and print what they found: of each check that lapsed, the first time."""
    for name, case in CASES.items():
        if words in name:
            outcome = live_weeks(1, shape=case.shape)
            counts: Dict[str, int] = {}
            first: Dict[str, str] = {}
            for lapse in outcome.lapses:
                first.setdefault(lapse.check, str(lapse))
                _add(counts, {lapse.check: 1})
            print(name)
            print("\n".join(outcome.history if show else []))
            for check, text in first.items():
                print("  %s (%d times; %s)" % (text, counts[check], case.marks.get(check, "not marked")))
            print("\n".join("  " + str(broken) for broken in outcome.found))
    return 0
