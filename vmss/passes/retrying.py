"""Expired snapshots that could not be deleted, and whose pause is over: they are tried again between runs, too."""

from datetime import datetime, tzinfo
from typing import Iterator, List, Sequence, Set, Tuple

from vmss.core import plan
from vmss.core.job import Job, Kept
from vmss.core.retention import Snapshot, expired
from vmss.core.vms import Vm
from vmss.edges import world
from vmss.edges.settings import Settings
from vmss.edges.vms import read_vms_by_uuid, with_snapshots
from vmss.edges.xapi import Xapi
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
    again = {item.uuid for item in ripe}
    stays: Set[str] = set()
    jobs: List[Job] = []
    vms = sorted({item.of for item in ripe if item.of})
    for vm, surplus in with_surplus(context.xapi, context.settings, context.log.zone, vms, context.now()):
        if vm.misread:
            stays.update(item.uuid for item in ripe if item.of == vm.uuid)
            continue
        mine = [snapshot for snapshot in surplus if snapshot.uuid in again]
        stays.update(snapshot.uuid for snapshot in mine)
        if vm.policy not in due:
            free = [snapshot for snapshot in mine if not snapshot.operation]
            jobs += _job(context, vm, free, plan.what_stays(vm, surplus, context.now()))
    for uuid in again - stays:
        left.gone(uuid)
    return jobs


def with_surplus(
    xapi: Xapi, settings: Settings, zone: tzinfo, uuids: Sequence[str], now: datetime
) -> List[Tuple[Vm, Sequence[Snapshot]]]:
    """The VMs with these uuids, and what retention does not keep of each: nothing that is known of one that was
    misread, and nothing without a schedule that is enabled."""
    policies = {policy.ref: policy for policy in world.read_policies(xapi)[0] if policy.enabled}
    found: List[Tuple[Vm, Sequence[Snapshot]]] = []
    for vm in with_snapshots(xapi, read_vms_by_uuid(xapi, uuids)):
        policy = policies.get(vm.policy) if not vm.misread else None
        surplus = () if policy is None else expired(vm.snapshots, settings.keep_of(policy, zone, vm.tags), now)
        found.append((vm, surplus))
    return found


def _job(context: Context, vm: Vm, snapshots: Sequence[Snapshot], kept: Kept) -> Iterator[Job]:
    """The job that deletes these snapshots of a VM, and takes none; `kept` as in Job."""
    disks, misread = read_disks(context.xapi, [], snapshots)
    readable = [snapshot for snapshot in snapshots if snapshot.ref not in misread]
    if readable:
        yield plan.deletion(vm, readable, disks, kept)
