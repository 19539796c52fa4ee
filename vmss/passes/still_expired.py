"""Whether what is to go by the plan still is as its deletion is about to begin, which may be hours later.

Meanwhile somebody may have deleted or pinned snapshots that were to stay, have the schedule keep more, have taken the
VM off it, or have deleted the VM: then the oldest snapshots are what is left. Or somebody moves the VM to other storage
at this moment, and its snapshots with it. Two calls tell, for many VMs together; only of those of which something has
changed more is read.
"""

from typing import Dict, Sequence, Set, Tuple

from vmss.core.job import Job
from vmss.core.policy import Policy
from vmss.edges import world
from vmss.edges.query import CHUNK
from vmss.edges.xapi import Refused, Xapi, understood
from vmss.passes.context import Context
from vmss.passes.retrying import with_surplus

# A map is stored as an S-expression, and this is the empty one. What is pinned does not count.
_COUNTS = '(field "is_vmss_snapshot" = "true") and (field "blocked_operations" = "()")'
_BUSY = 'not (field "current_operations" = "()")'
# By this operation xapi moves the snapshots too, and nothing on them shows it (docs/xapi-facts.md, Moving a VM).
_MOVES = "migrate_send"


def spared(context: Context, doomed: Sequence[Tuple[Job, str]]) -> Set[str]:
    """The references of the snapshots to be deleted by these jobs that have to stay after all. With each job comes the
    reference of its new snapshot, empty if it has none. Of the jobs of a prune that retention has nothing to do with,
    only those stay whose VM is being moved."""
    xapi, stay = context.xapi, set()
    found = _found(xapi, sorted({job.vm for job, _ in doomed if job.vm}))
    expiring = [(job, new) for job, new in doomed if job.policy or job.keeps]
    policies = {vm: one for one in world.read_policies(xapi)[0] for vm in one.vms} if expiring else {}
    changed = [job for job, new in expiring if not _is_as_planned(job, new, policies, found)]
    again = sorted({job.uuid for job in changed if job.vm in policies})
    surplus = {
        snapshot.ref
        for _, snapshots in with_surplus(xapi, context.settings, context.log.zone, again, context.now())
        for snapshot in snapshots
    }
    for job in changed:
        mine = {snapshot.ref for snapshot in job.expired} - surplus
        if mine:
            context.log(
                "Snapshots of VM %s that had expired stay: %d (others of it are gone or pinned since, more are to be "
                "kept, or the VM is off its schedule)" % (job.uuid, len(mine))
            )
        stay |= mine
    moved = {vm for vm in sorted({job.vm for job, _ in doomed} & found) if _is_moved(xapi, vm)}
    for job in (job for job, _ in doomed if job.vm in moved):
        context.log("Snapshots of VM %s are left for a later run: %s is in progress" % (job.uuid, _MOVES))
        stay.update(snapshot.ref for snapshot in job.expired)
    return stay


def _is_as_planned(job: Job, new: str, policies: Dict[str, Policy], found: Set[str]) -> bool:
    """Whether beside what expires of a VM there are as many snapshots as its schedule keeps."""
    policy = policies.get(job.vm)
    keeps = job.keeps | ({new} if new else {snapshot.ref for snapshot in job.expired if snapshot.after_new})
    return policy is not None and len(keeps & found) >= policy.retained


def _found(xapi: Xapi, vms: Sequence[str]) -> Set[str]:
    """The references of all scheduled snapshots of these VMs that are not pinned; and of those of these VMs on which an
    operation is in progress."""
    found: Set[str] = set()
    for start in range(0, len(vms), CHUNK):
        of, is_one = (
            " or ".join('(field "%s" = "%s")' % (field, vm) for vm in vms[start : start + CHUNK])
            for field in ("snapshot_of", "_ref")
        )
        # In xapi's query language `and` binds no tighter than `or`.
        wanted = "((%s) and (%s)) or ((%s) and (%s))" % (_COUNTS, of, _BUSY, is_one)
        with understood("VM"):
            found.update(xapi.refs("VM", wanted))
    return found


def _is_moved(xapi: Xapi, vm: str) -> bool:
    try:
        with understood("VM.get_current_operations"):
            return _MOVES in xapi.call("VM.get_current_operations", vm).values()
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return False  # it is gone
