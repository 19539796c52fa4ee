"""A lower bound on the time of a pass, and two orders that others use. Nothing here knows the engine."""

import heapq
from collections import deque
from random import Random
from typing import Deque, Dict, Iterable, List, NamedTuple, Sequence, Set, Tuple

from benchmarks.draw import Step


class Spans(NamedTuple):
    """Seconds from the slot to the end of the last snapshot, and to the end of the last operation."""

    snapshots: float
    everything: float


def bound(steps: Sequence[Step], srs: int, limit: int) -> float:
    """A lower bound in seconds for every order that has one operation at a time on each SR, one checkpoint at a time on
    each host, and at most `limit` operations in the pool: the time that the busiest of these needs alone."""
    busy: Dict[str, float] = {}
    for step in steps:
        for resource in list(step.srs) + [step.host] * bool(step.host):
            busy[resource] = busy.get(resource, 0.0) + step.seconds
    return max([_pool(steps, srs, limit)] + list(busy.values()))


def last_snapshot_bound(steps: Sequence[Step], srs: int, limit: int) -> float:
    """The bound of the snapshots alone, without the deletions."""
    return bound([step for step in steps if step.snapshot], srs, limit)


def _pool(steps: Sequence[Step], srs: int, limit: int) -> float:
    # No order has more snapshots of n SRs each in flight than srs // n.
    wide = sum(step.seconds / (srs // len(step.srs)) for step in steps if len(step.srs) > 1)
    return max(wide, sum(step.seconds for step in steps) / limit)


def one_at_a_time(steps: Sequence[Step]) -> Spans:
    """The order of the vendor's plugin: VM by VM, its snapshot and then the deletion of its expired snapshots."""
    now = last = 0.0
    for step in steps:
        now += step.seconds
        if step.snapshot:
            last = now
    return Spans(last, now)


def two_for_the_pool(steps: Sequence[Step]) -> Spans:
    """The order of Xen Orchestra: two VMs at a time, whatever their SRs. An operation whose SR is busy waits inside
    xapi, which retries it after 1 to 20 seconds (ocaml/xapi/helpers.ml)."""
    random = Random(2)
    waiting: Deque[List[Step]] = deque(_by_job(steps))
    busy_until: Dict[str, float] = {}
    events: List[Tuple[float, int, List[Step]]] = []  # time, lane, the steps that its VM still needs
    last = now = 0.0
    for lane in range(2):
        if waiting:
            heapq.heappush(events, (0.0, lane, waiting.popleft()))
    while events:
        now, lane, remaining = heapq.heappop(events)
        if not remaining:
            if waiting:
                heapq.heappush(events, (now, lane, waiting.popleft()))
            continue
        step = remaining[0]
        if any(busy_until.get(resource, 0.0) > now for resource in _resources(step)):
            heapq.heappush(events, (now + random.uniform(1, 20), lane, remaining))
            continue
        end = now + step.seconds
        for resource in _resources(step):
            busy_until[resource] = end
        if step.snapshot:
            last = max(last, end)
        heapq.heappush(events, (end, lane, remaining[1:]))
    return Spans(last, now)


def _resources(step: Step) -> Set[str]:
    return set(step.srs) | ({step.host} if step.host else set())


def _by_job(steps: Iterable[Step]) -> List[List[Step]]:
    jobs: Dict[int, List[Step]] = {}
    for step in steps:
        jobs.setdefault(step.job, []).append(step)
    return list(jobs.values())
