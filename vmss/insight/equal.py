"""VMs that lack a snapshot because the setting keep_halted says so: they are halted, and their last one is equal."""

from typing import List

from vmss.core.policy import Policy
from vmss.edges import halted
from vmss.edges.vms import read_vms_by_uuid, with_snapshots
from vmss.insight.promises import Late
from vmss.insight.reading import Reading


def without_halted(session: Reading, policy: Policy, late: List[Late]) -> List[Late]:
    """Those of these VMs that really lack a snapshot."""
    if not late or not session.settings.of(policy).keep_halted:
        return late
    vms = with_snapshots(session.xapi, read_vms_by_uuid(session.xapi, [vm.uuid for vm in late]))
    refs = halted.unchanged(session.xapi, vms, session.now())
    equal = {vm.uuid for vm in vms if vm.ref in refs}
    return [vm for vm in late if vm.uuid not in equal]
