"""The duration of a pass against a lower bound and against the orders of others.

The engine runs alone, driven by the durations that were drawn.
"""

import heapq
import time
from statistics import median
from typing import Iterator, List, NamedTuple, Sequence, Tuple

from benchmarks import bound
from benchmarks.bound import Spans
from benchmarks.draw import KINDS, SHAPES, Case, Pool, draw
from vmss.core.engine import Engine
from vmss.core.job import TAKES, Operation
from vmss.core.outcome import Outcome
from vmss.edges.settings import Settings

LIMIT = Settings().max_operations
SRS = (1, 4, 16, 64)


class Result(NamedTuple):
    """The ratios of one case: the whole pass to its bound, to one VM at a time and to two; the last snapshot to its
    bound. `cpu` is the engine's own processor time in seconds."""

    case: Case
    bound: float
    serial: float
    two: float
    last: float
    cpu: float


def run(pool: Pool) -> Tuple[Spans, float]:
    """Let the engine order a pool's operations. Return when they end, and the processor time that the engine took."""
    began = time.process_time()
    engine = Engine(LIMIT)
    engine.add(pool.jobs)
    events: List[Tuple[float, int, Operation]] = []
    now = last = 0.0
    started = 0
    while not engine.finished:
        for operation in _start(engine):
            started += 1
            heapq.heappush(events, (now + pool.seconds[operation.job, operation.ref], started, operation))
        now, _, operation = heapq.heappop(events)
        if operation.action in TAKES:
            last = now
        engine.end(operation, Outcome("a reference"))
    return Spans(last, now), time.process_time() - began


def _start(engine: Engine) -> Iterator[Operation]:
    while True:
        yield from engine.start()
        jobs = engine.to_record(300)
        if not jobs:
            return
        engine.recorded(jobs)


def measure(case: Case, informed: bool = True) -> Result:
    """Draw a case, run it in all three orders, and return the ratios."""
    pool = draw(case, informed)
    ours, cpu = run(pool)
    serial, two = bound.one_at_a_time(pool.steps), bound.two_for_the_pool(pool.steps)
    return Result(
        case,
        ours.everything / bound.bound(pool.steps, case.srs, LIMIT),
        ours.everything / serial.everything,
        ours.everything / two.everything,
        ours.snapshots / bound.last_snapshot_bound(pool.steps, case.srs, LIMIT),
        cpu,
    )


def page(vms: Sequence[int]) -> Iterator[str]:
    """Yield the lines of this part of the page: the table and its summary."""
    yield "| duration to the bound        | 1 SR  | 4 SRs | 16 SRs | 64 SRs | first time | to 1 VM     | to 2 VMs    |"
    yield "|------------------------------|------:|------:|-------:|-------:|-----------:|------------:|------------:|"
    everything: List[Result] = []
    for kind in KINDS:
        for shape in SHAPES:
            for expiry in (False, True):
                rows = [[measure(Case(number, srs, shape, kind, expiry)) for number in vms] for srs in SRS]
                uninformed = [
                    measure(Case(number, srs, shape, kind, expiry), False) for srs in SRS for number in vms[:3]
                ]
                everything.extend(result for row in rows for result in row)
                yield _row("%s, %s%s" % (shape, kind, ", expiry" if expiry else ""), rows, uninformed)
    dense = [result for result in everything if _dense(result)]
    over = sum(1 for result in dense if result.bound > 1.05)
    yield ""
    yield "%d of %d cases with at least ten VMs per SR end within 1.05 of the bound; the worst is at %.3f." % (
        len(dense) - over,
        len(dense),
        max(result.bound for result in dense),
    )
    yield (
        "Time to the last snapshot, to the bound of the snapshots alone: median %.3f; with deletions in the pass %.3f."
        % (
            median(result.last for result in dense if not result.case.expiry),
            median(result.last for result in dense if result.case.expiry),
        )
    )
    largest, smallest = (
        [result.cpu / count for result in dense if result.case.vms == count] for count in (vms[-1], vms[1])
    )
    yield "The engine's own processor time per VM: %.2f ms for %d VMs, %.2f ms for %d VMs." % (
        1000 * median(smallest),
        vms[1],
        1000 * median(largest),
        vms[-1],
    )


def _row(label: str, rows: Sequence[Sequence[Result]], uninformed: Sequence[Result]) -> str:
    worst = [_worst(row) for row in rows]
    (example,) = (result for result in rows[2] if result.case.vms == 1000)
    return "| %-28s | %5s | %5s | %6s | %6s | %10s | %11s | %11s |" % (
        label,
        *worst,
        _worst(uninformed),
        "%.2f" % example.serial,
        "%.2f" % example.two,
    )


def _worst(results: Sequence[Result]) -> str:
    """The worst ratio to the bound among the cases with at least ten VMs per SR."""
    ratios = [result.bound for result in results if _dense(result)]
    return "%.3f" % max(ratios) if ratios else "-"


def _dense(result: Result) -> bool:
    return result.case.vms >= 10 * result.case.srs
