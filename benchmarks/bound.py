"""A lower bound on the time of a pass, and two orders that others use. Nothing here knows the engine."""

import heapq
from collections import deque
from random import Random
from typing import Dict, Iterable, List, NamedTuple, Sequence, Set, Tuple

from benchmarks.draw import Step
from benchmarks.storage import Phase, Storage, needs


class Spans(NamedTuple):
    """Seconds from the slot to the end of the last snapshot, and to the end of the last operation."""

    snapshots: float
    everything: float


def bound(steps: Sequence[Step], srs: int, limit: int) -> float:
    """A lower bound in seconds for every order, where one disk at a time is worked on in each SR, those of a snapshot
    after one another, and there is one checkpoint at a time on each host, and at most `limit` operations in the pool:
    the time that the busiest of these needs alone, or the longest operation."""
    busy: Dict[str, float] = {}
    for step in steps:
        for resource, seconds in needs(step.phases):
            busy[resource] = busy.get(resource, 0.0) + seconds
    return max([step.seconds for step in steps] + [_pool(steps, srs, limit)] + list(busy.values()))


def last_snapshot_bound(steps: Sequence[Step], srs: int, limit: int) -> float:
    """The bound of the snapshots alone, without the deletions."""
    return bound([step for step in steps if step.snapshot], srs, limit)


def _pool(steps: Sequence[Step], srs: int, limit: int) -> float:
    # No order has more checkpoints of n SRs each in flight than srs // n.
    wide = 0.0
    for phase in (phase for step in steps for phase in step.phases):
        of_phase = sum(need.startswith("SR") for need in phase.needs)
        wide += phase.seconds / (srs // of_phase) if of_phase > 1 else 0.0
    return max(wide, sum(step.seconds for step in steps) / limit)


def best_found(steps: Sequence[Step], tries: int = 200) -> float:
    """The duration of the best of many orders of checkpoints, for which all durations are known: where it is near the
    bound, no bound is much higher. Each starts what it can, the busiest first, give or take a seventh."""
    return min(_list_order([step.phases[0] for step in steps], Random(number)) for number in range(tries))


def _list_order(phases: Sequence[Phase], random: Random) -> float:
    left: Dict[str, float] = {}
    for need, seconds in needs(phases):
        left[need] = left.get(need, 0.0) + seconds
    weights = {phase: random.uniform(0.85, 1.0) for phase in phases}
    waiting = list(phases)
    running: List[Tuple[float, int, Phase]] = []
    busy: Set[str] = set()
    now, number = 0.0, 0
    while waiting or running:
        waiting.sort(key=lambda phase: -max(left[need] for need in phase.needs) * weights[phase])
        for phase in list(waiting):
            if phase.needs.isdisjoint(busy):
                waiting.remove(phase)
                busy |= phase.needs
                number += 1
                heapq.heappush(running, (now + phase.seconds, number, phase))
        now, _, ended = heapq.heappop(running)
        busy -= ended.needs
        for need in ended.needs:
            left[need] -= ended.seconds
    return now


def one_at_a_time(steps: Sequence[Step]) -> Spans:
    """The order of the vendor's plugin: VM by VM, its snapshot and then the deletion of its expired snapshots."""
    now = last = 0.0
    for step in steps:
        now += step.seconds
        if step.snapshot:
            last = now
    return Spans(last, now)


def two_for_the_pool(steps: Sequence[Step]) -> Spans:
    """Two VMs at a time, whatever their SRs, as Xen Orchestra takes them: the snapshot of a VM, then its deletions, all
    started at once. What finds its SR busy waits inside xapi."""
    waiting = deque(_by_job(steps))
    storage = Storage()
    last = 0.0
    left: Dict[int, int] = {}  # by job: its deletions under way

    under_way: Dict[int, List[Step]] = {}

    def begin_next() -> None:
        if waiting:
            steps_of_vm = waiting.popleft()
            under_way[steps_of_vm[0].job] = steps_of_vm
            storage.begin((steps_of_vm[0].job, 0), steps_of_vm[0].phases)

    for _ in range(2):
        begin_next()
    while under_way:
        job, number = storage.ended()
        deletions = under_way[job][1:]
        if number == 0:
            last = storage.now
            left[job] = len(deletions)
            for index, step in enumerate(deletions, 1):
                storage.begin((job, index), step.phases)
        else:
            left[job] -= 1
        if not left[job]:
            del under_way[job]
            begin_next()
    return Spans(last, storage.now)


def _by_job(steps: Iterable[Step]) -> List[List[Step]]:
    jobs: Dict[int, List[Step]] = {}
    for step in steps:
        jobs.setdefault(step.job, []).append(step)
    return list(jobs.values())
