"""Reads what the plan of some policies needs to know of the pool, and makes it."""

from datetime import datetime
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set

from vmss.core import plan
from vmss.core.job import Job
from vmss.core.plan import Expiry
from vmss.core.records import NULL, Disk, Disks, Pool, Space, Vm
from vmss.core.turn import Turn
from vmss.edges import world
from vmss.edges.log import Log
from vmss.edges.xapi import Misunderstood, Xapi

# VMs that are planned at once. Reading what is known of one takes milliseconds: nobody waits for that of all others.
_GROUP = 200


class Planned(NamedTuple):
    """Jobs; the SRs with too little room for them; and by VM, the task that takes its snapshot already. `misread` are
    VMs that have no job, because their disks cannot be understood; `spared` says by VM why an expired snapshot stays,
    the disks of which cannot."""

    jobs: List[Job]
    tight: List[str]
    under_way: Dict[str, str]
    misread: List[Vm]
    spared: Dict[str, str]


class Planner:
    """Plans some policies, a group of VMs at a time. `vms` are all their VMs; `misread` those of them that will have no
    job, because their records cannot be understood."""

    def __init__(self, xapi: Xapi, pool: Pool, log: Log, turns: Sequence[Turn], now: datetime) -> None:
        """`now` is the time to decide by."""
        self._xapi = xapi
        self._pool = pool
        self._log = log
        self._turns = {turn.policy.ref: turn for turn in turns}
        self._now = now
        self._spaces: Dict[str, Optional[Space]] = {}
        self._needs: Dict[str, List[plan.Need]] = {}  # by SR, not yet counted in its space
        self.vms = world.read_vms(xapi, [turn.policy for turn in turns])
        self.misread = [vm for vm in self.vms if vm.misread]
        for vm in self.misread:
            log("VM %s is not served, its record cannot be understood: %s" % (vm.uuid, vm.misread))

    def plans(self) -> Iterator[Planned]:
        """What is to be done, group by group."""
        vms = [vm for vm in self.vms if not vm.misread]
        for start in range(0, len(vms), _GROUP):
            yield self._plan(world.with_snapshots(self._xapi, vms[start : start + _GROUP]))

    def _plan(self, vms: Sequence[Vm]) -> Planned:
        suspend_sr = self._pool.suspend_sr
        expiries = [plan.decide(vm, self._turns[vm.policy], self._now) for vm in vms]
        disks, misread = self._disks(expiries)
        unread = [vm._replace(misread=misread[vm.ref]) for vm in vms if vm.ref in misread]
        for vm in unread:
            self._log("VM %s is not served, the record of a disk cannot be understood: %s" % (vm.uuid, vm.misread))
        spared: Dict[str, str] = {}
        expiries = [self._spare(expiry, misread, spared) for expiry in expiries if expiry.vm.ref not in misread]
        for expiry in expiries:
            for line in plan.left_alone(expiry, disks):
                self._log(line)
        jobs = [plan.job(expiry, disks, suspend_sr) for expiry in expiries]
        tight = self._tight(expiries, jobs, disks)
        return Planned(
            # What makes room goes first where room is short.
            sorted(jobs, key=lambda job: not (job.expired and job.tokens & tight)) if tight else jobs,
            sorted(tight),
            {expiry.vm.ref: expiry.vm.taking for expiry in expiries if expiry.vm.taking and not expiry.turn.forced},
            unread,
            spared,
        )

    def _disks(self, expiries: Sequence[Expiry]) -> Disks:
        """The disks of these VMs and of what expires of them."""
        doomed = [snapshot for expiry in expiries for snapshot in expiry.expired]
        disks = world.read_disks(self._xapi, [expiry.vm.ref for expiry in expiries] + [item.ref for item in doomed])
        for snapshot in doomed:
            if snapshot.suspend_vdi != NULL:
                try:
                    disks.of.setdefault(snapshot.ref, []).extend(world.read_disk(self._xapi, snapshot.suspend_vdi))
                except Misunderstood as error:
                    disks.misread[snapshot.ref] = str(error)
        return disks

    def _spare(self, expiry: Expiry, misread: Mapping[str, str], spared: Dict[str, str]) -> Expiry:
        """Without the expired snapshots whose disks cannot be understood: they stay, and are noted in `spared`."""
        for snapshot in expiry.expired:
            if snapshot.ref in misread:
                spared[expiry.vm.ref] = misread[snapshot.ref]
                self._log(
                    "Snapshot %s of VM %s is left alone: the record of a disk cannot be understood: %s"
                    % (snapshot.uuid, expiry.vm.uuid, misread[snapshot.ref])
                )
        return expiry._replace(expired=tuple(item for item in expiry.expired if item.ref not in misread))

    def _tight(self, expiries: Sequence[Expiry], jobs: Sequence[Job], disks: Mapping[str, Sequence[Disk]]) -> Set[str]:
        """SRs on which something expires and which may have too little room for the snapshots to be taken."""
        expiring = {disk.sr for job in jobs for doomed in job.expired for disk in doomed.disks}
        tight = set()
        for expiry, job in zip(expiries, jobs):
            for sr, need in plan.needs(expiry, job, disks.get(expiry.vm.ref, ()), self._pool.suspend_sr):
                self._needs.setdefault(sr, []).append(need)
                if sr in expiring and sr not in self._spaces:
                    self._spaces[sr] = world.read_space(self._xapi, sr)
                space = self._spaces.get(sr)
                if space is not None:
                    # For the next VM there is so much less; for this one, what those before it take.
                    for taken in self._needs.pop(sr):
                        space = plan.after(space, taken)
                    self._spaces[sr] = space
                    if space.used > space.size:
                        tight.add(sr)
        return tight
