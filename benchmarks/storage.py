"""A model of how xapi carries out operations: one at a time on each SR; what waits sleeps, and is mostly woken."""

import heapq
from collections import deque
from random import Random
from typing import Any, Deque, Dict, FrozenSet, Iterator, List, NamedTuple, Sequence, Tuple

# docs/xapi-facts.md, Waiting inside xapi. The odds that a wake-up is lost are those of the embedded xapi: with them
# twenty snapshots that are started together take 9 s on average, and 5 s one after another; a real xapi took 17 and 5.
SLEEP_S = (1.0, 20.0)
LOST = 0.1


class Phase(NamedTuple):
    """A part of an operation: the SRs, and the host, that it keeps busy, and for how many seconds."""

    needs: FrozenSet[str]
    seconds: float


class _Waiter:
    def __init__(self, key: Any) -> None:
        self.key = key
        self.asleep = True


class Storage:
    """Operations that were begun, by any key, and time. `waits` counts how often one had to wait."""

    def __init__(self, lost: float = LOST) -> None:
        self.now = 0.0
        self.waits = 0
        self.gaps: Dict[Any, float] = {}  # by operation: for how long it has waited since its first phase began
        self._lost = lost
        self._random = Random(3)
        self._left: Dict[Any, Deque[Phase]] = {}
        self._first: Dict[Any, bool] = {}
        self._since: Dict[Any, float] = {}
        self._busy: FrozenSet[str] = frozenset()
        self._asleep: Dict[str, Deque[_Waiter]] = {}
        self._events: List[Tuple[float, int, str, Any]] = []
        self._count = 0

    def begin(self, key: Any, phases: Sequence[Phase]) -> None:
        """Begin an operation; its phases follow one another."""
        self._left[key] = deque(phases)
        self._first[key] = True
        self.gaps[key] = 0.0
        self._try(key)

    def ended(self) -> Any:
        """Let time pass until an operation ends; return its key."""
        while True:
            self.now, _, what, of = heapq.heappop(self._events)
            if what == "end":
                return of
            if what == "wake":
                if of.asleep:
                    self._wake(of)
                continue
            phase = self._left[of].popleft()
            self._busy -= phase.needs
            for need in sorted(phase.needs):
                self._release(need)
            self._try(of)

    def _try(self, key: Any) -> None:
        if not self._left[key]:
            self._later(0.0, "end", key)
            return
        phase = self._left[key][0]
        self._since.setdefault(key, self.now)
        if phase.needs & self._busy:
            self.waits += 1
            waiter = _Waiter(key)
            self._asleep.setdefault(min(phase.needs & self._busy), deque()).append(waiter)
            self._later(self._random.uniform(*SLEEP_S), "wake", waiter)
            return
        waited = self.now - self._since.pop(key)
        self.gaps[key] += 0.0 if self._first[key] else waited
        self._first[key] = False
        self._busy |= phase.needs
        self._later(phase.seconds, "phase", key)

    def _release(self, need: str) -> None:
        waiting = self._asleep.get(need, deque())
        while waiting and not waiting[0].asleep:
            waiting.popleft()
        if waiting and self._random.random() >= self._lost:
            self._wake(waiting.popleft())

    def _wake(self, waiter: _Waiter) -> None:
        waiter.asleep = False
        self._try(waiter.key)

    def _later(self, seconds: float, what: str, of: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, what, of))


def needs(phases: Sequence[Phase]) -> Iterator[Tuple[str, float]]:
    """The seconds for which an operation keeps each SR and host busy."""
    for phase in phases:
        for need in phase.needs:
            yield need, phase.seconds
