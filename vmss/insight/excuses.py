"""VMs that lack a snapshot because somebody wants it so: they promise none."""

from datetime import datetime
from typing import List

from vmss.core.policy import Policy
from vmss.edges.excused import excused
from vmss.edges.vms import read_vms_by_uuid, with_snapshots
from vmss.insight.promises import Late
from vmss.insight.reading import Reading


def without_excused(session: Reading, policy: Policy, late: List[Late], slot: datetime) -> List[Late]:
    """Those of these VMs that really lack their snapshot of a slot."""
    if not late:
        return late
    vms = read_vms_by_uuid(session.xapi, [vm.uuid for vm in late])
    if session.settings.of(policy).keep_halted:
        vms = with_snapshots(session.xapi, vms)
    refs = excused(session.xapi, session.settings, policy, vms, session.now(), slot)
    uuids = {vm.uuid for vm in vms if vm.ref in refs}
    return [vm for vm in late if vm.uuid not in uuids]
