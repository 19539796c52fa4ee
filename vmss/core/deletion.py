"""The deletion of one VM's expired snapshots, oldest first: what of it remains."""

from collections import deque
from itertools import islice
from typing import Callable, Deque, Dict, FrozenSet, List, Sequence, Set

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


class Unrecorded:
    """Jobs whose expired snapshots are not in the journal yet, by the SRs of their disks."""

    def __init__(self) -> None:
        self._jobs: Dict[str, Dict[int, None]] = {}

    def add(self, job: int, deletion: Deletion) -> None:
        """What expires of a job is to be recorded."""
        for sr in deletion.srs():
            self._jobs.setdefault(sr, {})[job] = None

    def remove(self, job: int, deletion: Deletion) -> None:
        """What expires of a job is recorded."""
        for sr in deletion.srs():
            del self._jobs[sr][job]
            if not self._jobs[sr]:
                del self._jobs[sr]

    def ready(self, may_delete: Callable[[str], bool], most: int) -> List[int]:
        """The jobs, at most `most`, to record now: none before it may be deleted on one of their SRs."""
        if not any(map(may_delete, self._jobs)):
            return []
        # The others too: an entry costs the same for one job and for many.
        ready = dict.fromkeys(
            job for sr in sorted(self._jobs, key=lambda sr: not may_delete(sr)) for job in islice(self._jobs[sr], most)
        )
        return list(islice(ready, most))
