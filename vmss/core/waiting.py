"""Queues of operations that wait for their tokens: one queue for each set of tokens."""

from collections import deque
from typing import Deque, Dict, Iterable, Iterator, Set

from vmss.core.job import Operation, Tokens


class Waiting:
    """Operations that wait for their turn. Those that need the same tokens form one queue, first in, first out."""

    def __init__(self) -> None:
        self.queues: Dict[Tokens, Deque[Operation]] = {}
        self._by_token: Dict[str, Dict[Tokens, None]] = {}  # the queues that need a token, in a stable order

    def __bool__(self) -> bool:
        return bool(self.queues)

    def wants(self, token: str) -> bool:
        """Whether any waiting operation needs this token."""
        return token in self._by_token

    def add(self, operation: Operation) -> None:
        """Put an operation at the end of its queue."""
        queue = self.queues.get(operation.tokens)
        if queue is None:
            queue = self.queues[operation.tokens] = deque()
            for token in operation.tokens:
                self._by_token.setdefault(token, {})[operation.tokens] = None
        queue.append(operation)

    def pop(self, tokens: Tokens) -> Operation:
        """Remove the first operation of a queue, and return it."""
        operation = self.queues[tokens].popleft()
        if not self.queues[tokens]:
            self._close(tokens)
        return operation

    def operations(self) -> Iterator[Operation]:
        """All operations that wait."""
        for queue in self.queues.values():
            yield from queue

    def remove(self, unwanted: Set[Operation]) -> None:
        """Remove these operations."""
        for tokens in {operation.tokens for operation in unwanted}:
            queue = self.queues[tokens]
            self.queues[tokens] = deque(operation for operation in queue if operation not in unwanted)
            if not self.queues[tokens]:
                self._close(tokens)

    def startable(self, freed: Iterable[str], in_use: Set[str]) -> Iterator[Tokens]:
        """The queues that need one of the freed tokens and none that is in use; and the one that needs no token."""
        if frozenset() in self.queues:
            yield frozenset()
        seen: Set[Tokens] = set()
        for token in freed:
            for tokens in self._by_token.get(token, ()):
                if tokens not in seen and tokens.isdisjoint(in_use):
                    seen.add(tokens)
                    yield tokens

    def _close(self, tokens: Tokens) -> None:
        del self.queues[tokens]
        for token in tokens:
            del self._by_token[token][tokens]
            if not self._by_token[token]:
                del self._by_token[token]
