"""Queues of operations that wait for their tokens: one queue for each claim."""

from collections import deque
from typing import Callable, Deque, Dict, Iterable, Iterator, Set

from vmss.core.job import WHOLE, Claim, Operation

# The claim of an operation that touches neither SR nor host.
NOTHING = Claim(frozenset(), WHOLE)


class Waiting:
    """Operations that wait for their turn. Those with the same claim form one queue, first in, first out."""

    def __init__(self) -> None:
        self.queues: Dict[Claim, Deque[Operation]] = {}
        self._by_token: Dict[str, Dict[Claim, None]] = {}  # the queues that need a token, in a stable order

    def __bool__(self) -> bool:
        return bool(self.queues)

    def wants(self, token: str) -> bool:
        """Whether any waiting operation needs this token."""
        return token in self._by_token

    def add(self, operation: Operation) -> None:
        """Put an operation at the end of its queue."""
        claim = operation.claim
        queue = self.queues.get(claim)
        if queue is None:
            queue = self.queues[claim] = deque()
            for token in claim.tokens:
                self._by_token.setdefault(token, {})[claim] = None
        queue.append(operation)

    def pop(self, claim: Claim) -> Operation:
        """Remove the first operation of a queue, and return it."""
        operation = self.queues[claim].popleft()
        if not self.queues[claim]:
            self._close(claim)
        return operation

    def operations(self) -> Iterator[Operation]:
        """All operations that wait."""
        for queue in self.queues.values():
            yield from queue

    def remove(self, unwanted: Set[Operation]) -> None:
        """Remove these operations."""
        for claim in {operation.claim for operation in unwanted}:
            queue = self.queues[claim]
            self.queues[claim] = deque(operation for operation in queue if operation not in unwanted)
            if not self.queues[claim]:
                self._close(claim)

    def startable(self, freed: Iterable[str], full: Callable[[int], Set[str]]) -> Iterator[Claim]:
        """The queues that need one of the freed tokens and may start, and the one that needs no token. `full` are the
        tokens of which not so many parts are free."""
        if NOTHING in self.queues:
            yield NOTHING
        seen: Set[Claim] = set()
        taken: Dict[int, Set[str]] = {}
        for token in freed:
            for claim in self._by_token.get(token, ()):
                if claim.parts not in taken:
                    taken[claim.parts] = full(claim.parts)
                if claim not in seen and claim.tokens.isdisjoint(taken[claim.parts]):
                    seen.add(claim)
                    yield claim

    def _close(self, claim: Claim) -> None:
        del self.queues[claim]
        for token in claim.tokens:
            del self._by_token[token][claim]
            if not self._by_token[token]:
                del self._by_token[token]
