"""The turns that are due and not yet in hand, in their order."""

from collections import OrderedDict
from datetime import datetime
from typing import Iterator, List, Optional, Sequence

from vmss.core.turn import Turn


class Line:
    """At most one turn of each policy."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, Turn] = OrderedDict()  # by policy

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[Turn]:
        return iter(self._turns.values())

    def __contains__(self, policy: str) -> bool:
        return policy in self._turns

    def add(self, turn: Turn) -> Optional[Turn]:
        """Put a turn last, or in the place of one of the same policy that still waits when its next slot has come;
        return that one. A run by hand stays: it is for now. If it is for VMs that lack their snapshot, it is for those
        that lack the one of the latest slot."""
        waiting = self._turns.get(turn.policy.ref)
        if waiting is not None and (waiting.forced or waiting.slot >= turn.slot):
            if waiting.missing and waiting.slot < turn.slot:
                self._turns[turn.policy.ref] = waiting._replace(slot=turn.slot)
            return None
        self._turns[turn.policy.ref] = turn
        return waiting

    def add_first(self, turn: Turn) -> None:
        """Put a turn first."""
        self._turns[turn.policy.ref] = turn
        self._turns.move_to_end(turn.policy.ref, last=False)

    def take(self, most: int) -> Sequence[Turn]:
        """Take so many turns out of the line, or all, if there are fewer."""
        taken: List[Turn] = []
        while self._turns and len(taken) < most:
            taken.append(self._turns.popitem(last=False)[1])
        return taken

    def take_late(self, now: datetime) -> Sequence[Turn]:
        """Take those turns out of the line for whose slots it has become too late while they waited. A run by hand is
        for no slot."""
        late = [turn for turn in self if not turn.forced and turn.policy.lapsed(turn.slot, now)]
        for turn in late:
            del self._turns[turn.policy.ref]
        return late
