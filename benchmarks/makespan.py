"""The duration of a pass against a lower bound and against the orders of others.

The engine runs alone, driven by the durations that were drawn.
"""

import time
from statistics import median
from typing import Iterator, List, NamedTuple, Sequence, Tuple

from benchmarks import bound
from benchmarks.bound import Spans
from benchmarks.draw import KINDS, SHAPES, Case, Pool, draw
from benchmarks.storage import LOST, Storage
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


def run(pool: Pool, alone: bool = False, lost: float = LOST) -> Tuple[Spans, float, Storage]:
    """Let the engine order a pool's operations. Return when they end, the processor time that the engine took, and the
    storage. `alone`: no snapshot shares an SR; `lost`: the odds that a wake-up is lost."""
    cpu = 0.0
    storage = Storage(lost)
    engine = Engine(LIMIT, alone)
    engine.add(pool.jobs)
    last = 0.0
    while not engine.finished:
        began = time.process_time()
        started = list(_start(engine))
        cpu += time.process_time() - began
        for operation in started:
            storage.begin(operation, pool.phases[operation.job, operation.ref])
        operation = storage.ended()
        if operation.action in TAKES:
            last = storage.now
        began = time.process_time()
        engine.end(operation, Outcome("a reference"))
        cpu += time.process_time() - began
    return Spans(last, storage.now), cpu, storage


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
    ours, cpu, _ = run(pool)
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
    yield ""
    yield from _near_the_bound(dense)
    yield ""
    yield from shared(1000, 16)
    yield ""
    largest, smallest = (
        [result.cpu / count for result in dense if result.case.vms == count] for count in (vms[-1], vms[1])
    )
    yield "The engine's own processor time per VM: %.2f ms for %d VMs, %.2f ms for %d VMs." % (
        1000 * median(smallest),
        vms[1],
        1000 * median(largest),
        vms[-1],
    )


def _near_the_bound(dense: Sequence[Result]) -> Iterator[str]:
    """Yield the lines about how near to the bound these cases end, and which do not."""
    for title, group in (
        ("snapshots of disks on three SRs", [result for result in dense if _shares(result)]),
        ("all else", [result for result in dense if not _shares(result)]),
    ):
        yield "%s: %d of %d cases with at least ten VMs per SR end within 1.05 of the bound; the worst is at %.3f." % (
            title[0].upper() + title[1:],
            sum(1 for result in group if result.bound <= 1.05),
            len(group),
            max(result.bound for result in group),
        )
    for result in dense:
        if result.bound > 1.05 and not _shares(result):
            pool = draw(result.case, True)
            found = bound.best_found(pool.steps) / bound.bound(pool.steps, result.case.srs, LIMIT)
            yield "%d VMs on %d SRs, %s, %s: %.3f; an order that knows all durations ends at %.3f." % (
                *result.case[:4],
                result.bound,
                found,
            )
    yield (
        "Time to the last snapshot, to the bound of the snapshots alone: median %.3f; with deletions in the pass %.3f."
        % (
            median(result.last for result in dense if not result.case.expiry),
            median(result.last for result in dense if result.case.expiry),
        )
    )


def shared(vms: int, srs: int) -> Iterator[str]:
    """Yield the lines about disks on several SRs: what it gains that snapshots share SRs, and what it costs."""
    yield "| %4d VMs on %2d SRs         | alone | shared | 0.3 lost | all lost | waits | apart, s   |" % (vms, srs)
    yield "|----------------------------|------:|-------:|---------:|---------:|------:|-----------:|"
    for shape, title in (("paired", "disks on two SRs"), ("tangled", "disks on three SRs")):
        for expiry in (False, True):
            pool = draw(Case(vms, srs, shape, "snapshots", expiry), True)
            least = bound.bound(pool.steps, srs, LIMIT)
            spans, _, storage = run(pool)
            gaps = sorted(gap for operation, gap in storage.gaps.items() if operation.action in TAKES)
            yield "| %-26s | %5.2f | %6.2f | %8.2f | %8.2f | %5.2f | %4.1f  %4.1f |" % (
                title + ", expiry" * expiry,
                run(pool, alone=True)[0].everything / least,
                spans.everything / least,
                run(pool, lost=0.3)[0].everything / least,
                run(pool, lost=1.0)[0].everything / least,
                storage.waits / vms,
                gaps[len(gaps) * 95 // 100],
                gaps[-1],
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


def _shares(result: Result) -> bool:
    """Whether snapshots of the case share SRs, so that they meet inside xapi."""
    return result.case.shape == "tangled" and result.case.srs > 1 and result.case.kind != "checkpoints"


def _dense(result: Result) -> bool:
    return result.case.vms >= 10 * result.case.srs
