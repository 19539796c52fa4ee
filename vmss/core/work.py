"""The expected work of a pass on each SR and host: the busiest goes first, so that the pass ends when it does."""

from typing import Dict, Iterable, List, Set, Tuple

from vmss.core.job import ExpiredDisk, Tokens

# The expected duration of destroying a disk, in seconds. Only its order of magnitude matters, beside that of snapshots.
DESTROY_SECONDS = 1.0


class Work:
    """The seconds of work that remain, by token."""

    def __init__(self) -> None:
        self._seconds: Dict[str, float] = {}

    def expect(self, work: Iterable[Tuple[str, float]]) -> None:
        """Add seconds to tokens."""
        for token, seconds in work:
            self._seconds[token] = self._seconds.get(token, 0.0) + seconds

    def expect_deletion(self, disks: Iterable[ExpiredDisk]) -> None:
        """These disks will be destroyed."""
        self.expect((disk.sr, DESTROY_SECONDS) for disk in disks)

    def no_deletion(self, disks: Iterable[ExpiredDisk]) -> None:
        """The deletion of these disks is done, or will not be done."""
        self.expect((disk.sr, -DESTROY_SECONDS) for disk in disks)

    def urgency(self, tokens: Tokens, slow: Set[str]) -> List[float]:
        """The sort key of a queue among those of its kind: how many of its tokens are `slow`, which operations that
        take too long need; the remaining work of its busiest token, then of the next.

        A queue that needs several tokens goes before one that needs some of them, because they are rarely all free;
        one that needs no token goes before all, because it ends soon and storage work waits for it.
        """
        # Of a token that no plan had, because a VM has changed since, no work is known.
        work = sorted(-self._seconds.get(token, 0.0) for token in tokens)
        return [float(len(tokens & slow)), *work, 0.0] if tokens else []
