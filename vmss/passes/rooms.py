"""The room on storage as the plans of a pass know it: where deletions have to go first, and what alerts say of it.

It is read where something expires, once in a pass.
"""

from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from vmss.core import plan
from vmss.core.job import Job
from vmss.core.plan import Expiry, Need, Space
from vmss.core.room import Room, amount, parse_reserve
from vmss.core.text import quoted
from vmss.core.vms import Disk
from vmss.edges import storage
from vmss.passes.context import Context


class Rooms:
    """The room that the plans of one pass have counted so far."""

    def __init__(self, context: Context) -> None:
        self._xapi = context.xapi
        self._suspend_sr = context.pool.suspend_sr
        self._settings = context.settings
        self._found: Dict[str, Optional[Space]] = {}  # by SR, as it was read
        self._after: Dict[str, Space] = {}  # and with what the snapshots that are planned need
        self._needs: Dict[str, List[Tuple[Need, bool]]] = {}  # by SR, not yet counted; and whether any expires for it
        self._expiring: Set[str] = set()  # SRs
        self._freed: Dict[str, int] = {}  # by SR: what expiry gives back
        self._names: Dict[str, str] = {}

    def count(self, expiries: Sequence[Expiry], jobs: Sequence[Job], disks: Mapping[str, Sequence[Disk]]) -> Set[str]:
        """Count what these jobs need and free. Return the SRs on which something expires, and which may have too little
        room for the new snapshots."""
        self._expiring.update(disk.sr for job in jobs for snapshot in job.expired for disk in snapshot.disks)
        tight = set()
        for expiry, job in zip(expiries, jobs):
            for sr, need in plan.needs(expiry, job, disks.get(expiry.vm.ref, ()), self._suspend_sr):
                self._needs.setdefault(sr, []).append((need, bool(job.expired)))
                if sr in self._expiring and sr not in self._found:
                    self._found[sr] = found = storage.read_space(self._xapi, sr)
                    if found is not None:
                        self._after[sr] = found
                if sr in self._after:
                    self._count_needs(sr)
                    if self._after[sr].used > self._after[sr].size:
                        tight.add(sr)
        return tight

    def _count_needs(self, sr: str) -> None:
        """What the VMs before one need is not available to it, nor to those after it."""
        space = self._after[sr]
        for need, expires in self._needs.pop(sr):
            space = plan.after(space, need)
            # What expires of a VM gives back about what its new snapshot needs.
            self._freed[sr] = self._freed.get(sr, 0) + (amount(need, space) if expires else 0)
        self._after[sr] = space

    def short(self) -> Dict[str, str]:
        """What is said of the SRs that are nearly full, as `vmss status` has it, by reference."""
        said = {}
        reserve = parse_reserve(self._settings.room_reserve)
        for sr, after in self._after.items():
            found = self._found[sr]
            if found is None or found.size <= 0 or 100 * found.used // found.size < self._settings.room_warning:
                continue
            room = Room(found, after.used - found.used, 0, self._freed.get(sr, 0), reserve.of(found.size))
            said[sr] = "Little room on the storage repository %s, before this run: %s." % (
                self._name(sr),
                room.sentence,
            )
        return said

    def _name(self, sr: str) -> str:
        if sr not in self._names:
            self._names[sr] = quoted(storage.named(self._xapi, sr)[0])
        return self._names[sr]
