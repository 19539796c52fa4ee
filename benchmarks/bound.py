"""What no order can beat, and two orders that others use. Nothing here knows the engine."""

import heapq
from collections import deque
from random import Random
from typing import Deque, Dict, Iterable, List, NamedTuple, Sequence, Set, Tuple

from benchmarks.draw import Step


class Spans(NamedTuple):
    """Seconds from the slot to the end of the last snapshot, and to the end of everything."""

    snapshots: float
    everything: float


def bound(steps: Sequence[Step], srs: int, most: int) -> float:
    """The seconds below which no order comes that has one operation at a time on each SR, one checkpoint at a time on
    each host, and at most so many in the pool: the busiest of them alone."""
    busy: Dict[str, float] = {}
    for step in steps:
        for resource in list(step.srs) + [step.host] * bool(step.host):
            busy[resource] = busy.get(resource, 0.0) + step.seconds
    return max([_pool(steps, srs, most)] + list(busy.values()))


def last_snapshot_bound(steps: Sequence[Step], srs: int, most: int) -> float:
    """The same for the snapshots alone."""
    return bound([step for step in steps if step.snapshot], srs, most)


def _pool(steps: Sequence[Step], srs: int, most: int) -> float:
    # Snapshots that take several SRs each: so many fit side by side, whatever the order.
    wide = sum(step.seconds / (srs // len(step.srs)) for step in steps if len(step.srs) > 1)
    return max(wide, sum(step.seconds for step in steps) / most)


def one_at_a_time(steps: Sequence[Step]) -> Spans:
    """As the original: VM by VM, its snapshot and then what expires."""
    now = last = 0.0
    for step in steps:
        now += step.seconds
        if step.snapshot:
            last = now
    return Spans(last, now)


def two_for_the_pool(steps: Sequence[Step]) -> Spans:
    """As Xen Orchestra: two VMs at once, whatever SR they are on. One that finds its SR busy waits inside xapi, which
    tries again after 1 to 20 seconds (ocaml/xapi/helpers.ml)."""
    random = Random(2)
    waiting: Deque[List[Step]] = deque(_by_job(steps))
    busy_until: Dict[str, float] = {}
    events: List[Tuple[float, int, List[Step]]] = []
    last = now = 0.0
    for slot in range(2):
        if waiting:
            heapq.heappush(events, (0.0, slot, waiting.popleft()))
    while events:
        now, slot, mine = heapq.heappop(events)
        if not mine:
            if waiting:
                heapq.heappush(events, (now, slot, waiting.popleft()))
            continue
        step = mine[0]
        if any(busy_until.get(resource, 0.0) > now for resource in _resources(step)):
            heapq.heappush(events, (now + random.uniform(1, 20), slot, mine))
            continue
        end = now + step.seconds
        for resource in _resources(step):
            busy_until[resource] = end
        if step.snapshot:
            last = max(last, end)
        heapq.heappush(events, (end, slot, mine[1:]))
    return Spans(last, now)


def _resources(step: Step) -> Set[str]:
    return set(step.srs) | ({step.host} if step.host else set())


def _by_job(steps: Iterable[Step]) -> List[List[Step]]:
    jobs: Dict[int, List[Step]] = {}
    for step in steps:
        jobs.setdefault(step.job, []).append(step)
    return list(jobs.values())
