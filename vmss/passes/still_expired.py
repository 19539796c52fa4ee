"""Whether what has expired by the plan still has as its deletion is about to begin, which may be hours later.

Meanwhile somebody may have deleted or pinned snapshots that were to stay, have the schedule keep more, have taken the
VM off it, or have deleted the VM: then the oldest snapshots are what is left. Two calls tell, for many VMs together;
only of those of which something has changed the snapshots are read again.
"""

from typing import Dict, Sequence, Set, Tuple

from vmss.core.job import Job
from vmss.core.policy import Policy
from vmss.edges import world
from vmss.edges.query import CHUNK
from vmss.edges.xapi import Xapi, understood
from vmss.passes.context import Context
from vmss.passes.retrying import with_surplus

# A map is stored as an S-expression, and this is the empty one. What is pinned does not count.
_COUNTS = '(field "is_vmss_snapshot" = "true") and (field "blocked_operations" = "()")'


def spared(context: Context, doomed: Sequence[Tuple[Job, str]]) -> Set[str]:
    """The references of the expired snapshots of these jobs that have to stay after all. With each job comes the
    reference of its new snapshot, empty if it has none. Deletions that retention has nothing to do with go on."""
    asked = [(job, new) for job, new in doomed if job.policy or job.keeps]
    if not asked:
        return set()
    policies: Dict[str, Policy] = {vm: one for one in world.read_policies(context.xapi)[0] for vm in one.vms}
    there = _counting(context.xapi, sorted({job.vm for job, _ in asked}))
    changed = [job for job, new in asked if not _is_as_planned(job, new, policies, there)]
    again = sorted({job.uuid for job in changed if job.vm in policies})
    surplus = {
        snapshot.ref
        for _, snapshots in with_surplus(context.xapi, context.settings, context.log.zone, again, context.now())
        for snapshot in snapshots
    }
    stay: Set[str] = set()
    for job in changed:
        mine = {snapshot.ref for snapshot in job.expired} - surplus
        if mine:
            context.log(
                "Snapshots of VM %s that had expired stay: %d (others of it are gone or pinned since, more are to be "
                "kept, or the VM is off its schedule)" % (job.uuid, len(mine))
            )
        stay |= mine
    return stay


def _is_as_planned(job: Job, new: str, policies: Dict[str, Policy], there: Set[str]) -> bool:
    """Whether beside what expires of a VM there are as many snapshots as its schedule keeps."""
    policy = policies.get(job.vm)
    keeps = job.keeps | ({new} if new else {snapshot.ref for snapshot in job.expired if snapshot.after_new})
    return policy is not None and len(keeps & there) >= policy.retained


def _counting(xapi: Xapi, vms: Sequence[str]) -> Set[str]:
    """The references of all scheduled snapshots of these VMs that are not pinned."""
    found: Set[str] = set()
    for start in range(0, len(vms), CHUNK):
        mine = " or ".join('(field "snapshot_of" = "%s")' % vm for vm in vms[start : start + CHUNK])
        with understood("VM"):
            found.update(map(str, xapi.call("VM.get_all_where", "(%s) and (%s)" % (_COUNTS, mine))))
    return found
