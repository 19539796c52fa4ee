"""Reads what the plan of some policies needs to know of the pool, and makes it."""
from datetime import datetime
from typing import Dict, List, Mapping, NamedTuple, Sequence, Set

from vmss import plan, world
from vmss.engine import Job
from vmss.log import Log
from vmss.plan import Expiry
from vmss.turn import Turn
from vmss.world import Disk, Pool, Vm
from vmss.xapi import NULL, Xapi


class Planned(NamedTuple):
    """The jobs of some policies; the SRs with too little room for them; by VM, the task that takes its snapshot
    already; and VMs that have no job because their records cannot be understood."""

    jobs: List[Job]
    tight: List[str]
    under_way: Dict[str, str]
    misread: List[Vm]


def make_plan(xapi: Xapi, pool: Pool, log: Log, turns: Sequence[Turn], now: datetime) -> Planned:
    """Given policies whose turn it is and the time to decide by, return what is to be done."""
    of = {turn.policy.ref: turn for turn in turns}
    found = world.read_vms(xapi, [turn.policy for turn in turns])
    vms, misread = [vm for vm in found if not vm.misread], [vm for vm in found if vm.misread]
    for vm in misread:
        log("VM %s is not served, its record cannot be understood: %s" % (vm.uuid, vm.misread))
    expiries = [plan.decide(vm, of[vm.policy], now) for vm in vms]
    doomed = [snapshot for expiry in expiries for snapshot in expiry.expired]
    disks = world.read_disks(xapi, [vm.ref for vm in vms] + [snapshot.ref for snapshot in doomed])
    for snapshot in doomed:
        if snapshot.suspend_vdi != NULL:
            disks.setdefault(snapshot.ref, []).extend(world.read_disk(xapi, snapshot.suspend_vdi))
    for expiry in expiries:
        for line in plan.left_alone(expiry, disks):
            log(line)
    jobs = [plan.job(expiry, disks, pool.suspend_sr) for expiry in expiries]
    tight = _tight(xapi, expiries, jobs, disks, pool.suspend_sr)
    return Planned(
        # What makes room goes first where room is short.
        sorted(jobs, key=lambda job: not (job.expired and job.tokens & tight)) if tight else jobs,
        sorted(tight),
        {expiry.vm.ref: expiry.vm.taking for expiry in expiries if expiry.vm.taking and not expiry.turn.forced},
        misread,
    )


def _tight(
    xapi: Xapi, expiries: Sequence[Expiry], jobs: Sequence[Job], disks: Mapping[str, Sequence[Disk]], suspend_sr: str
) -> Set[str]:
    """SRs on which something expires and which may have too little room for the snapshots to be taken."""
    expiring = {disk.sr for job in jobs for doomed in job.expired for disk in doomed.disks}
    needs: Dict[str, List[plan.Need]] = {}
    for expiry, job in zip(expiries, jobs):
        for sr, need in plan.needs(expiry, job, disks.get(expiry.vm.ref, ()), suspend_sr):
            if sr in expiring:
                needs.setdefault(sr, []).append(need)
    tight = set()
    for sr, mine in needs.items():
        space = world.read_space(xapi, sr)
        if space is not None and plan.room(space, mine) < 0:
            tight.add(sr)
    return tight
