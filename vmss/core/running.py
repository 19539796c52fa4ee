"""The operations that run, the tokens that they hold, and what a timeout says about those tokens."""

from typing import Dict, Iterator, Set

from vmss.core.job import WHOLE, Claim, Operation, Tokens


class Running:
    """Operations from their start to their end, and what they hold: `in_use` has the parts of each token."""

    def __init__(self) -> None:
        self.in_use: Dict[str, int] = {}
        self._held: Dict[Operation, Tokens] = {}
        self._began: Dict[Operation, int] = {}  # the number of the start
        self._proven: Dict[str, int] = {}  # the number of starts when an operation last succeeded with a token
        self._starts = 0
        self._slow: Set[Operation] = set()

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def full(self, parts: int) -> Set[str]:
        """The tokens of which not so many parts are free."""
        return {token for token, used in self.in_use.items() if used > WHOLE - parts}

    def admits(self, claim: Claim) -> bool:
        """Whether there is room for an operation beside what runs."""
        return claim.tokens.isdisjoint(self.full(claim.parts))

    def start(self, operation: Operation, tokens: Tokens) -> None:
        """An operation starts, and holds its part of these tokens."""
        self._starts += 1
        self._began[operation] = self._starts
        self._held[operation] = tokens
        for token in tokens:
            self.in_use[token] = self.in_use.get(token, 0) + operation.claim.parts

    def end(self, operation: Operation) -> None:
        """An operation has ended."""
        self.release(operation)
        self._slow.discard(operation)
        del self._held[operation], self._began[operation]

    def release(self, operation: Operation) -> None:
        """An operation runs on, and holds no token any more."""
        for token in self._held[operation]:
            self.in_use[token] -= operation.claim.parts
            if not self.in_use[token]:
                del self.in_use[token]
        self._held[operation] = frozenset()

    def is_slow(self, operation: Operation) -> None:
        """A running operation takes too long."""
        self._slow.add(operation)

    @property
    def slow(self) -> Set[str]:
        """What operations need that take too long: who waits for one of these may wait for long."""
        return {token for operation in self._slow for token in operation.tokens}

    def succeeded(self, operation: Operation) -> None:
        """A running operation has succeeded: so what it needed works."""
        self._proven.update((token, self._starts) for token in operation.tokens)

    def suspects(self, operation: Operation) -> Set[str]:
        """The tokens of a running operation with which no other has succeeded since its start: if it reaches its limit,
        it is one of these that hangs."""
        return {token for token in operation.tokens if self._proven.get(token, 0) < self._began[operation]}
