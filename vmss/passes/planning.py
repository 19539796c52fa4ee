"""Makes the plan of policies in hand: reads their VMs, snapshots and disks, and lets the core decide."""

from datetime import datetime
from typing import TYPE_CHECKING, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core import plan, thinning
from vmss.core.job import Job
from vmss.core.plan import Expiry
from vmss.core.records import NULL
from vmss.core.retention import Snapshot
from vmss.core.turn import Turn
from vmss.core.vms import Disk, Vm
from vmss.core.ways import ONLY_RUNNING
from vmss.edges import storage
from vmss.edges.log import Log
from vmss.edges.storage import Disks
from vmss.edges.vms import read_vms, with_snapshots
from vmss.edges.xapi import Misunderstood, Xapi
from vmss.passes.context import Context
from vmss.passes.rooms import Rooms

if TYPE_CHECKING:
    from vmss.passes.guards import Guards

# VMs that are planned together. Reading one takes milliseconds, so the first snapshots need not wait for the last read.
_GROUP = 200


class Planned(NamedTuple):
    """The plan of a group of VMs: the jobs, and the SRs that have too little room for them.

    `misread` are the VMs that get no job, because the records of their disks cannot be understood. `spared` says by VM
    why an expired snapshot stays: the records of its disks cannot be understood. `decided` is what the jobs follow.
    `short` is what is said of SRs with little room, by reference.
    """

    jobs: List[Job]
    tight: List[str]
    misread: List[Vm]
    spared: Dict[str, str]
    decided: Sequence[Expiry] = ()
    short: Mapping[str, str] = {}


class Planner:
    """Plans policies, one group of VMs at a time. `vms` are all their VMs; `misread` those of them that get no job,
    because their records cannot be understood."""

    def __init__(
        self, context: Context, turns: Sequence[Turn], now: datetime, begun: Mapping[str, Optional[int]] = {}
    ) -> None:
        """`now` is the time to decide by. `begun` are the VMs, by their uuids, of which earlier passes began a snapshot
        and did not come to its end, with the number of disks that each had, if it is known."""
        self._context = context
        self._guards: Optional[Guards] = None
        self._xapi = context.xapi
        self._pool = context.pool
        self._log = context.log
        self._settings = context.settings
        self._turns = {turn.policy.ref: turn for turn in turns}
        self._now = now
        self._begun = begun
        self._rooms = Rooms(context)
        self.vms = [vm for vm in read_vms(context.xapi, [turn.policy for turn in turns]) if self._is_wanted(vm)]
        self.misread = [vm for vm in self.vms if vm.misread]
        for vm in self.misread:
            self._log("VM %s is not served, its record cannot be understood: %s" % (vm.uuid, vm.misread))

    def _is_wanted(self, vm: Vm) -> bool:
        only = self._turns[vm.policy].only
        return not only or vm.uuid in only

    def plans(self) -> Iterator[Planned]:
        """The plans, group by group."""
        vms = [vm for vm in self.vms if not vm.misread]
        for start in range(0, len(vms), _GROUP):
            yield self._plan(with_snapshots(self._xapi, vms[start : start + _GROUP]))

    def _plan(self, vms: Sequence[Vm]) -> Planned:
        turns = [self._turns[vm.policy] for vm in vms]
        excused = self._excused(vms)
        expiries = [self._decide(vm, turn, excused.get(vm.ref, "")) for vm, turn in zip(vms, turns)]
        expired = [snapshot for expiry in expiries for snapshot in expiry.expired]
        disks, misread = read_disks(self._xapi, [vm.ref for vm in vms], expired)
        without_job = [vm._replace(misread=misread[vm.ref]) for vm in vms if vm.ref in misread]
        for vm in without_job:
            self._log("VM %s is not served, the record of a disk cannot be understood: %s" % (vm.uuid, vm.misread))
        spared: Dict[str, str] = {}
        expiries = [
            expiry._replace(expired=spare(expiry.vm, expiry.expired, misread, spared, self._log))
            for expiry in expiries
            if expiry.vm.ref not in misread
        ]
        for expiry in expiries:
            for line in plan.left_alone(expiry.vm, expiry.expired, expiry.busy, disks):
                self._log(line)
            if expiry.future:
                self._log("Snapshots of VM %s are dated in the future: %d" % (expiry.vm.uuid, expiry.future))
        jobs = self._guarded(expiries, [self._job(expiry, disks) for expiry in expiries], disks)
        tight = self._rooms.count(expiries, jobs, disks)
        # Where room is short, the jobs that make room go first.
        ordered = sorted(jobs, key=lambda job: not (job.expired and job.tokens & tight)) if tight else jobs
        return Planned(ordered, sorted(tight), without_job, spared, expiries, self._rooms.short())

    def _excused(self, vms: Sequence[Vm]) -> Dict[str, str]:
        """Why those VMs get no snapshot that get none, by reference. Who runs a schedule by hand wants one of each."""
        found: Dict[str, str] = {}
        for ref, turn in self._turns.items():
            mine = [vm for vm in vms if vm.policy == ref and not turn.forced]
            if any(ONLY_RUNNING in vm.tags for vm in mine) or (mine and self._settings.of(turn.policy).keep_halted):
                from vmss.edges.excused import excused  # most schedules have none

                found.update(excused(self._xapi, self._settings, turn.policy, mine, self._now))
        return found

    def _decide(self, vm: Vm, turn: Turn, excused: str) -> Expiry:
        _, mistake = thinning.of_tags(vm.tags, ())
        if mistake:
            self._log("VM %s keeps snapshots by the rule of its schedule: %s" % (vm.uuid, mistake))
        expiry = plan.decide(vm, turn, self._settings.keep_of(turn.policy, self._log.zone, vm.tags), self._now, excused)
        if expiry.excused:
            self._log("VM %s gets no snapshot: it is %s" % (vm.uuid, expiry.excused))
        if expiry.served and turn.missing and not turn.again:
            # Who asks for what is missing asks for nothing else: what others have too many goes with their next run.
            return expiry._replace(expired=(), after_new=frozenset(), busy=())
        return expiry

    def _job(self, expiry: Expiry, disks: Mapping[str, Sequence[Disk]]) -> Job:
        uuid, prove = expiry.vm.uuid, expiry.served and not expiry.excused and expiry.vm.uuid in self._begun
        ways = self._settings.ways(expiry.turn.policy)
        job = plan.job(expiry._replace(served=expiry.served and not prove), disks, self._pool.suspend_sr, ways)
        job = plan.unproven(expiry, job, self._now, self._begun[uuid]) if prove else job
        if job.take and job.left_out:
            left_out = [disk.uuid for disk in disks[expiry.vm.ref] if disk.ref in job.left_out]
            self._log("Disks of VM %s that its snapshot leaves out: %s" % (uuid, ", ".join(left_out)))
        # xapi dates snapshots in whole seconds.
        return job._replace(since=self._now.replace(microsecond=0))

    def _guarded(self, expiries: Sequence[Expiry], jobs: List[Job], disks: Mapping[str, Sequence[Disk]]) -> List[Job]:
        """The jobs, with the errors of those whose snapshots must not be taken."""
        if not self._settings.guarded:
            return jobs
        from vmss.passes.guards import Guards  # most pools have none

        self._guards = self._guards or Guards(self._context)
        return self._guards.refuse(expiries, jobs, disks)


def read_disks(xapi: Xapi, vms: Sequence[str], expired: Sequence[Snapshot]) -> Disks:
    """The disks of these VMs and of these expired snapshots, memory images included."""
    disks = storage.read_disks(xapi, list(vms) + [snapshot.ref for snapshot in expired])
    for snapshot in expired:
        if snapshot.suspend_vdi != NULL:
            try:
                disks.of.setdefault(snapshot.ref, []).extend(storage.read_disk(xapi, snapshot.suspend_vdi))
            except Misunderstood as error:
                disks.misread[snapshot.ref] = str(error)
    return disks


def spare(
    vm: Vm, expired: Sequence[Snapshot], misread: Mapping[str, str], spared: Dict[str, str], log: Log
) -> Tuple[Snapshot, ...]:
    """Given the expired snapshots of a VM, return them without those whose disks cannot be understood: they stay, which
    is noted in `spared`."""
    for snapshot in expired:
        if snapshot.ref in misread:
            spared[vm.ref] = misread[snapshot.ref]
            log(
                "Snapshot %s of VM %s is left alone: the record of a disk cannot be understood: %s"
                % (snapshot.uuid, vm.uuid, misread[snapshot.ref])
            )
    return tuple(snapshot for snapshot in expired if snapshot.ref not in misread)
