"""How long a pass takes, against what no order can beat and against the orders of others: the engine alone, driven by
the times that were drawn."""

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

MOST = Settings().max_operations
SRS = (1, 4, 16, 64)


class Result(NamedTuple):
    """Ratios of one case; `cpu` is our own processor time in seconds."""

    case: Case
    bound: float
    serial: float
    two: float
    last: float
    cpu: float


def run(pool: Pool) -> Tuple[Spans, float]:
    """Let the engine order a pool's operations; return how long that takes, and the processor time it costs."""
    began = time.process_time()
    engine = Engine(MOST)
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
    """The ratios of one case."""
    pool = draw(case, informed)
    ours, cpu = run(pool)
    serial, two = bound.one_at_a_time(pool.steps), bound.two_for_the_pool(pool.steps)
    return Result(
        case,
        ours.everything / bound.bound(pool.steps, case.srs, MOST),
        ours.everything / serial.everything,
        ours.everything / two.everything,
        ours.snapshots / bound.last_snapshot_bound(pool.steps, case.srs, MOST),
        cpu,
    )


def page(vms: Sequence[int]) -> Iterator[str]:
    """The table, and what it says in a sentence."""
    yield "| end of a pass to the bound   | 1 SR  | 4 SRs | 16 SRs | 64 SRs | first time | to 1 a time | to 2 a time |"
    yield "|------------------------------|------:|------:|-------:|-------:|-----------:|------------:|------------:|"
    everything: List[Result] = []
    for kind in KINDS:
        for shape in SHAPES:
            for expiry in (False, True):
                rows = [[measure(Case(number, srs, shape, kind, expiry)) for number in vms] for srs in SRS]
                blind = [measure(Case(number, srs, shape, kind, expiry), False) for srs in SRS for number in vms[:3]]
                everything.extend(result for row in rows for result in row)
                yield _row("%s, %s%s" % (shape, kind, ", expiry" if expiry else ""), rows, blind)
    dense = [result for result in everything if _dense(result)]
    over = sum(1 for result in dense if result.bound > 1.05)
    yield ""
    yield "%d of %d cases with ten VMs an SR or more end within 1.05 of the bound; the worst at %.3f." % (
        len(dense) - over,
        len(dense),
        max(result.bound for result in dense),
    )
    yield "Slot to last snapshot, to the bound of snapshots alone: median %.3f; with deletions in the pass %.3f." % (
        median(result.last for result in dense if not result.case.expiry),
        median(result.last for result in dense if result.case.expiry),
    )
    largest, smallest = (
        [result.cpu / count for result in dense if result.case.vms == count] for count in (vms[-1], vms[1])
    )
    yield "The engine's own processor time for each VM: %.2f ms for %d VMs, %.2f ms for %d." % (
        1000 * median(smallest),
        vms[1],
        1000 * median(largest),
        vms[-1],
    )


def _row(label: str, rows: Sequence[Sequence[Result]], blind: Sequence[Result]) -> str:
    worst = [_worst(row) for row in rows]
    (usual,) = (result for result in rows[2] if result.case.vms == 1000)
    return "| %-28s | %5s | %5s | %6s | %6s | %10s | %11s | %11s |" % (
        label,
        *worst,
        _worst(blind),
        "%.2f" % usual.serial,
        "%.2f" % usual.two,
    )


def _worst(results: Sequence[Result]) -> str:
    """Of the cases with ten VMs an SR or more."""
    ratios = [result.bound for result in results if _dense(result)]
    return "%.3f" % max(ratios) if ratios else "-"


def _dense(result: Result) -> bool:
    return result.case.vms >= 10 * result.case.srs
