"""Guards: a VM gets no snapshot where its storage has too little room for it, or its chain of images is too long.

Both are off by default, as in the vendor's plugin. A VM that is refused so fails with the reason, like one that its
storage refuses: it is in the run's alert, what it has too many goes, and later ticks try it again.
"""

from typing import Dict, List, Mapping, Optional, Sequence

from vmss.core import plan
from vmss.core.chain import chains
from vmss.core.job import Job
from vmss.core.outcome import CHAIN_TOO_LONG, NO_ROOM, Error
from vmss.core.plan import Expiry, Space
from vmss.core.room import amount, leaves_reserve, parse_reserve
from vmss.core.text import one_line
from vmss.core.vms import Disk
from vmss.core.words import size
from vmss.edges import storage
from vmss.edges.xapi import Refused, Xapi
from vmss.passes.context import Context


class Guards:
    """The guards of the VMs that are planned together. What is planned first has the room first."""

    def __init__(self, context: Context) -> None:
        self._xapi: Xapi = context.xapi
        self._suspend_sr = context.pool.suspend_sr
        self._reserve = parse_reserve(context.settings.room_reserve)
        self._longest = context.settings.chain_limit
        self._spaces: Dict[str, Optional[Space]] = {}

    def refuse(self, expiries: Sequence[Expiry], jobs: Sequence[Job], disks: Mapping[str, Sequence[Disk]]) -> List[Job]:
        """The jobs; those whose snapshot must not be taken have the error that says why."""
        errors = self._too_long(jobs, disks) if self._longest else {}
        return [
            job._replace(refused=errors.get(job.vm) or self._no_room(expiry, job, disks.get(job.vm, ())))
            for expiry, job in zip(expiries, jobs)
        ]

    def _no_room(self, expiry: Expiry, job: Job, disks: Sequence[Disk]) -> Error:
        if self._reserve == (0, 0) or not job.take or job.task or job.there:
            return ()
        after: Dict[str, Space] = {}
        for sr, need in plan.needs(expiry, job, disks, self._suspend_sr):
            space = after.get(sr) or self._space(sr)
            if space is None:
                continue
            if not leaves_reserve(space, amount(need, space), self._reserve):
                return self._error(sr, space, amount(need, space))
            after[sr] = plan.after(space, need)
        self._spaces.update(after)
        return ()

    def _space(self, sr: str) -> Optional[Space]:
        if sr not in self._spaces:
            self._spaces[sr] = storage.read_space(self._xapi, sr)
        return self._spaces[sr]

    def _error(self, sr: str, space: Space, needed: int) -> Error:
        try:
            uuid = one_line(str(self._xapi.call("SR.get_uuid", sr)), 40)
        except Refused:
            uuid = sr  # it is gone
        free, reserve = max(0, space.size - space.used), self._reserve.of(space.size)
        return (NO_ROOM, uuid, "free: %s" % size(free), "needed: %s" % size(needed), "to stay free: %s" % size(reserve))

    def _too_long(self, jobs: Sequence[Job], disks: Mapping[str, Sequence[Disk]]) -> Dict[str, Error]:
        """The errors of VMs with a disk whose chain is too long, by their references."""
        from vmss.edges.chains import read_images

        mine = {
            disk.uuid: job.vm
            for job in jobs
            if job.take and not job.task and not job.there
            for disk in disks.get(job.vm, ())
            if disk.ref not in job.left_out
        }
        images = read_images(self._xapi, [disk for job in jobs for disk in disks.get(job.vm, ()) if disk.uuid in mine])
        return {
            mine[uuid]: (CHAIN_TOO_LONG, uuid, "images: %d" % chain.length, "limit: %d" % self._longest)
            for uuid, chain in chains(list(mine), images).items()
            if chain.length >= self._longest
        }
