"""Which VMs are halted, and unchanged since their last scheduled snapshot, so that another one would be equal to it."""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Dict, List, Optional, Sequence, Set

from vmss.core.datetimes import in_future, parse_datetime
from vmss.core.retention import Snapshot
from vmss.core.vms import Disk, Vm
from vmss.core.ways import Ways, left_out
from vmss.edges import storage
from vmss.edges.query import field_of_each
from vmss.edges.xapi import MISREAD, Misunderstood, Refused, Xapi

# The start of a VM is dated by the clock of its host, a snapshot by the coordinator's. Where they differ by less than
# this, no start is overlooked; a VM that was started within that time before its snapshot gets one more.
_CLOCKS_DIFFER = timedelta(hours=1)


def unchanged(xapi: Xapi, vms: Sequence[Vm], now: datetime, ways: Ways) -> Set[str]:
    """The references of those of these VMs, read with their snapshots, that need no further one. `ways` tells which
    disks the next one would leave out.

    xapi tells it by four things together (docs/xapi-facts.md, What a halted VM tells): the snapshot was taken of the VM
    when it was halted; it is the VM's parent, so it was not reverted since; the VM was not started since; and its disks
    are those that the snapshot is of, but for those that are left out, and no other VM has them.
    """
    last = {vm.ref: one for vm in vms for one in [_last(vm, now)] if one is not None}
    started = _read_starts(xapi, [vm for vm in vms if vm.ref in last])
    halted = [vm for vm in vms if vm.ref in started and started[vm.ref] < last[vm.ref].time - _CLOCKS_DIFFER]
    if not halted:
        return set()
    disks = storage.read_disks(xapi, [ref for vm in halted for ref in (vm.ref, last[vm.ref].ref)])
    return {
        vm.ref
        for vm in halted
        if vm.ref not in disks.misread
        and last[vm.ref].ref not in disks.misread
        and _same(_taken(disks.of.get(vm.ref, []), ways), disks.of.get(last[vm.ref].ref, []))
    }


def _last(vm: Vm, now: datetime) -> Optional[Snapshot]:
    """The last scheduled snapshot of a VM, if by their records it may be equal to the VM."""
    past = [one for one in vm.snapshots if not in_future(one.time, now)]
    newest = max(past, key=lambda one: (one.time, one.uuid), default=None)
    if newest is None or not newest.of_halted or vm.parent != newest.ref:
        return None
    return newest if vm.power_state == "Halted" and not vm.task else None


def _taken(disks: List[Disk], ways: Ways) -> List[Disk]:
    """The disks that a snapshot of a VM with these has."""
    without = left_out(disks, ways)
    return [disk for disk in disks if disk not in without]


def _same(mine: List[Disk], theirs: List[Disk]) -> bool:
    alone = all(len(disk.vbds) == 1 for disk in mine)
    return bool(mine) and alone and sorted(disk.ref for disk in mine) == sorted(disk.snapshot_of for disk in theirs)


def _read_starts(xapi: Xapi, vms: Sequence[Vm]) -> Dict[str, datetime]:
    """When each of these VMs was started last, by reference; without those of which it is not known."""
    found: Dict[str, datetime] = {}
    by_metrics = {vm.metrics: vm.ref for vm in vms}
    rows = sum(1 + len(vm.snapshot_refs) for vm in vms)  # a snapshot has metrics as well
    with suppress(Refused, Misunderstood, *MISREAD):
        for metrics, time in field_of_each(xapi, "VM_metrics", sorted(by_metrics), "start_time", rows):
            with suppress(*MISREAD):
                found[by_metrics[metrics]] = parse_datetime(time)
    return found
