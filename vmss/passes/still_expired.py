"""Whether what is to go by the plan still is as its deletion is about to begin, which may be hours later.

Meanwhile somebody may have deleted or pinned snapshots that were to stay, have the schedule keep more, have taken the
VM off it, or have deleted the VM: then the oldest snapshots are what is left. Or somebody moves the VM to other storage
at this moment, and its snapshots with it. Two calls for many VMs together, and one for each policy, tell; only of those
of which something has changed more is read.
"""

from typing import List, Optional, Sequence, Set, Tuple

from vmss.core.job import Job
from vmss.edges.query import CHUNK, int_of
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
    changed = _changed(xapi, [(job, new) for job, new in doomed if job.kept.policy])
    surplus = _surplus(context, sorted({job.uuid for job in changed})) if changed else set()
    for job in changed:
        mine = {snapshot.ref for snapshot in job.expired} - surplus
        if mine:
            context.log(
                "Snapshots of VM %s that had expired stay: %d (others of it are gone or pinned since, more are to be "
                "kept, or the VM is off its schedule)" % (job.uuid, len(mine))
            )
        stay |= mine
    moved = {vm for vm in _busy(xapi, sorted({job.vm for job, _ in doomed if job.vm})) if _is_moved(xapi, vm)}
    for job in (job for job, _ in doomed if job.vm in moved):
        context.log("Snapshots of VM %s are left for a later run: %s is in progress" % (job.uuid, _MOVES))
        stay.update(snapshot.ref for snapshot in job.expired)
    return stay


def _surplus(context: Context, vms: Sequence[str]) -> Set[str]:
    """The references of the snapshots of these VMs that retention does not keep now."""
    found = with_surplus(context.xapi, context.settings, context.log.zone, vms, context.now())
    return {snapshot.ref for _, snapshots in found for snapshot in snapshots}


def _changed(xapi: Xapi, jobs: Sequence[Tuple[Job, str]]) -> List[Job]:
    """Those of these jobs whose VMs are not on the same policy any more, or have not as many snapshots beside what
    expires as it keeps."""
    retained = {policy: _retained(xapi, policy) for policy in sorted({job.kept.policy for job, _ in jobs})}
    found = _found(xapi, [job for job, _ in jobs])
    changed = []
    for job, new in jobs:
        beside = job.kept.snapshots | ({new} if new else {one.ref for one in job.expired if one.after_new})
        number = retained[job.kept.policy]
        if number is None or job.vm not in found or len(beside & found) < number:
            changed.append(job)
    return changed


def _retained(xapi: Xapi, policy: str) -> Optional[int]:
    """How many snapshots of each VM a policy keeps; None if it is gone. The record would list all its VMs."""
    try:
        with understood("VMSS.get_retained_snapshots"):
            return int_of(xapi.call("VMSS.get_retained_snapshots", policy))
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return None


def _found(xapi: Xapi, jobs: Sequence[Job]) -> Set[str]:
    """The references of those of these jobs' VMs that are on the same policy still, and of all their scheduled
    snapshots that are not pinned."""
    found: Set[str] = set()
    for start in range(0, len(jobs), CHUNK):
        chunk = jobs[start : start + CHUNK]
        of = " or ".join('(field "snapshot_of" = "%s")' % job.vm for job in chunk)
        on = " or ".join(
            '((field "_ref" = "%s") and (field "snapshot_schedule" = "%s"))' % (job.vm, job.kept.policy)
            for job in chunk
        )
        # In xapi's query language `and` binds no tighter than `or`.
        with understood("VM"):
            found.update(xapi.refs("VM", "((%s) and (%s)) or (%s)" % (_COUNTS, of, on)))
    return found


def _busy(xapi: Xapi, vms: Sequence[str]) -> List[str]:
    """Those of these VMs on which an operation is in progress."""
    busy: List[str] = []
    for start in range(0, len(vms), CHUNK):
        is_one = " or ".join('(field "_ref" = "%s")' % vm for vm in vms[start : start + CHUNK])
        with understood("VM"):
            busy += xapi.refs("VM", "(%s) and (%s)" % (_BUSY, is_one))
    return busy


def _is_moved(xapi: Xapi, vm: str) -> bool:
    try:
        with understood("VM.get_current_operations"):
            return _MOVES in xapi.call("VM.get_current_operations", vm).values()
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return False  # it is gone
