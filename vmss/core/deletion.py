"""The deletion of one VM's expired snapshots, oldest first: what of it remains."""

from collections import deque
from typing import Deque, FrozenSet, List, Sequence, Set

from vmss.core.job import ExpiredDisk, ExpiredSnapshot, disks_of


class Deletion:
    """The expired snapshots that `remain`, the oldest first; at most `most` of them go.

    `disks` are the references of those of the first one that are not yet destroyed; `failed`: one of them could not be
    destroyed. `timed_out`: an operation has reached its limit, as further ones probably would.
    """

    def __init__(self, expired: Sequence[ExpiredSnapshot], most: float) -> None:
        self.most = most
        self.remaining: Deque[ExpiredSnapshot] = deque(expired)
        self.disks: Set[str] = set()
        self.failed = False
        self.timed_out = False

    def srs(self) -> List[str]:
        """The SRs of the disks that remain, each once; one empty text if there are none."""
        return list({disk.sr: None for disk in disks_of(self.remaining)}) or [""]

    def spare(self, refs: FrozenSet[str]) -> List[ExpiredDisk]:
        """Leave out these snapshots and disks, which have to stay. Return the disks that stay."""
        before = list(disks_of(self.remaining))
        self.remaining = deque(
            snapshot._replace(disks=tuple(disk for disk in snapshot.disks if disk.ref not in refs))
            for snapshot in self.remaining
            if snapshot.ref not in refs
        )
        kept = {disk.ref for disk in disks_of(self.remaining)}
        return [disk for disk in before if disk.ref not in kept]
