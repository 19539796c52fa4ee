"""Which VMs are halted, and unchanged since their last scheduled snapshot, so that another one would be equal to it."""

from datetime import datetime, timedelta
from typing import List, Optional, Sequence, Set

from vmss.core.datetimes import in_future, parse_datetime
from vmss.core.retention import Snapshot
from vmss.core.vms import Disk, Vm
from vmss.core.ways import Ways, left_out
from vmss.edges import storage
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
    halted = [vm for vm in vms if vm.ref in last and _started_before(xapi, vm, last[vm.ref].time)]
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


def _started_before(xapi: Xapi, vm: Vm, snapshot: datetime) -> bool:
    """Whether a VM was started last before a snapshot. No query finds a record of metrics by its reference, so it is a
    call for each VM; a snapshot, which may be saved by it, costs eight."""
    try:
        started = parse_datetime(xapi.call("VM_metrics.get_start_time", vm.metrics))
    except (Refused, Misunderstood) + MISREAD:
        return False
    return started < snapshot - _CLOCKS_DIFFER
