"""The scheduled snapshots of a slot: whether all VMs of a policy have one, and which have none.

A snapshot's record is 12 kB on the wire, and a monitoring system asks every minute: so snapshots are found by the name
that they bear after their slot, and records are read only of VMs that seem to have none.
"""

from datetime import datetime, timedelta
from typing import Iterable, List, Optional, Sequence

from vmss.core.datetimes import parse_datetime
from vmss.core.plan import snapshot_name
from vmss.core.policy import Policy
from vmss.edges.vms import read_snapshots
from vmss.edges.xapi import Refused, Xapi, understood
from vmss.insight.history import RUN_FAILED, Run
from vmss.insight.promises import Late

# Upper limits on the snapshots, and on the VMs without one, that are read one by one for each policy.
_SNAPSHOTS_MAX = 1000
_LATE_MAX = 100


def all_taken(xapi: Xapi, policy: Policy, slot: datetime, runs: Sequence[Run]) -> bool:
    """Whether every VM of a policy seems to have its snapshot of a slot, by the number of snapshots that bear the name
    of the slot, and by the messages of the policy's last run."""
    if any(run.result == RUN_FAILED for run in runs):
        return False
    refs = _of_slot(xapi, policy, slot)
    return refs is not None and len(refs) == len(policy.vms)


def count_since(xapi: Xapi, policy: Policy, slots: Iterable[datetime], since: datetime) -> int:
    """How many snapshots of these slots were taken at an instant or later."""
    refs = [ref for slot in slots for ref in _of_slot(xapi, policy, slot) or ()]
    return sum(1 for ref in refs[:_SNAPSHOTS_MAX] if _is_since(xapi, ref, since))


def late_vms(xapi: Xapi, policy: Policy, slot: datetime) -> List[Late]:
    """The VMs of a policy without a scheduled snapshot since a slot."""
    served = set()
    for ref in (_of_slot(xapi, policy, slot) or [])[:_SNAPSHOTS_MAX]:
        try:
            served.add(str(xapi.call("VM.get_snapshot_of", ref)))
        except Refused:
            continue  # it is gone
    suspects = [vm for vm in policy.vms if vm not in served][:_LATE_MAX]
    found = []
    snapshots = read_snapshots(xapi, suspects)
    for vm in suspects:
        newest = max((snapshot.time for snapshot in snapshots.get(vm, {}).values()), default=None)
        if newest is not None and newest >= slot - timedelta(seconds=1):
            continue  # by another name: of a run before this plugin's, or renamed
        try:
            name, uuid = str(xapi.call("VM.get_name_label", vm)), str(xapi.call("VM.get_uuid", vm))
        except Refused:
            continue
        found.append(Late(name, uuid, newest))
    return found


def _of_slot(xapi: Xapi, policy: Policy, slot: datetime) -> Optional[List[str]]:
    """The scheduled snapshots that bear the name of a policy's slot; None if xapi cannot be asked for that name."""
    name = snapshot_name(policy, slot)
    if '"' in name:
        return None
    with understood("VM"):
        wanted = '(field "is_vmss_snapshot" = "true") and (field "name__label" = "%s")' % name
        return [str(ref) for ref in xapi.call("VM.get_all_where", wanted)]


def _is_since(xapi: Xapi, snapshot: str, since: datetime) -> bool:
    try:
        return parse_datetime(xapi.call("VM.get_snapshot_time", snapshot)) >= since
    except (Refused, ValueError):
        return False  # it is gone, or no time at all
