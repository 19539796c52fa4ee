"""Whether what is to go by the plan still is as its deletion is about to begin, which may be hours later.

Meanwhile somebody may have deleted or pinned snapshots that were to stay, have the schedule keep more, have taken the
VM off it, or have deleted the VM: then the oldest snapshots are what is left. Or somebody moves the VM to other storage
at this moment, and its snapshots with it. Three calls for many VMs together, and one for each policy, tell; only of
those of which something has changed more is read.
"""

from typing import List, Optional, Sequence, Set, Tuple

from vmss.core.job import Job
from vmss.edges.query import int_of, refs_of
from vmss.edges.xapi import Refused, Xapi, understood
from vmss.passes.context import Context
from vmss.passes.retrying import with_surplus

# A map is stored as an S-expression, and this is the empty one. What is pinned does not count.
_COUNTS = '(field "is_vmss_snapshot" = "true") and (field "blocked_operations" = "()")'
_NO_SNAPSHOT = '(field "is_a_snapshot" = "false")'
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
    busy = _those(xapi, _BUSY, "_ref", sorted({job.vm for job, _ in doomed if job.vm}))
    moved = {vm for vm in sorted(busy) if _is_moved(xapi, vm)}
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
    changed = []
    for policy in sorted({job.kept.policy for job, _ in jobs}):
        mine = [(job, new) for job, new in jobs if job.kept.policy == policy]
        vms = sorted({job.vm for job, _ in mine})
        retained = _retained(xapi, policy)
        on = _those(xapi, '%s and (field "snapshot_schedule" = "%s")' % (_NO_SNAPSHOT, policy), "_ref", vms)
        counting = _those(xapi, _COUNTS, "snapshot_of", vms)
        for job, new in mine:
            beside = job.kept.snapshots | ({new} if new else {one.ref for one in job.expired if one.after_new})
            if retained is None or job.vm not in on or len(beside & counting) < retained:
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


def _those(xapi: Xapi, condition: str, field: str, vms: Sequence[str]) -> Set[str]:
    """The references of the VMs or snapshots that meet a condition, in which most fail, and in which the field has one
    of these VMs."""
    with understood("VM"):
        return set(refs_of(xapi, "VM", field, vms, condition))


def _is_moved(xapi: Xapi, vm: str) -> bool:
    try:
        with understood("VM.get_current_operations"):
            return _MOVES in xapi.call("VM.get_current_operations", vm).values()
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return False  # it is gone
