"""Expired snapshots that could not be deleted, and whose pause is over: they are tried again between runs, too."""

from typing import Iterator, List, Optional, Sequence

from vmss.core import plan
from vmss.core.job import Job
from vmss.core.policy import Policy
from vmss.core.retention import Snapshot, expired
from vmss.core.vms import Vm
from vmss.edges import world
from vmss.edges.vms import read_vms_by_uuid, with_snapshots
from vmss.passes.context import Context
from vmss.passes.left_over import LeftOver
from vmss.passes.planning import read_disks


def jobs_again(context: Context, left: LeftOver, due: Sequence[str]) -> List[Job]:
    """The jobs that try again, without a call if there are none; `due` are policies, by reference, whose runs try it
    anyway.

    Retention decides anew: what is not to be deleted any more leaves the list of what is left over.
    """
    if not context.pool.licensed:
        return []
    ripe = left.ripe(context.clock.now())
    if not ripe:
        return []
    policies = {policy.ref: policy for policy in world.read_policies(context.xapi)[0] if policy.enabled}
    vms = with_snapshots(context.xapi, read_vms_by_uuid(context.xapi, sorted({item.of for item in ripe if item.of})))
    again = {item.uuid for item in ripe}
    stays = {item.uuid for item in ripe if item.of in [vm.uuid for vm in vms if vm.misread]}
    jobs: List[Job] = []
    for vm in vms:
        mine = [snapshot for snapshot in _surplus(context, vm, policies.get(vm.policy)) if snapshot.uuid in again]
        stays.update(snapshot.uuid for snapshot in mine)
        if vm.policy not in due:
            jobs += _job(context, vm, [snapshot for snapshot in mine if not snapshot.operation])
    for uuid in again - stays:
        left.gone(uuid)
    return jobs


def _surplus(context: Context, vm: Vm, policy: Optional[Policy]) -> Sequence[Snapshot]:
    """What retention does not keep of a VM."""
    if policy is None or vm.misread:
        return ()
    keep = context.settings.keep_of(policy, context.log.zone, vm.tags)
    return expired(vm.snapshots, keep, context.now())


def _job(context: Context, vm: Vm, snapshots: Sequence[Snapshot]) -> Iterator[Job]:
    """The job that deletes these snapshots of a VM, and takes none."""
    disks, misread = read_disks(context.xapi, [], snapshots)
    readable = [snapshot for snapshot in snapshots if snapshot.ref not in misread]
    if readable:
        yield plan.deletion(vm, readable, disks)
