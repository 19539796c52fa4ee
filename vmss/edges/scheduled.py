"""The scheduled snapshots of the whole pool, and their VMs: also VMs that are gone, or on no schedule."""

from contextlib import suppress
from datetime import datetime
from typing import AbstractSet, Any, Collection, Dict, List, Mapping, NamedTuple, Sequence, Set, Tuple

from vmss.core.assignment import Member
from vmss.core.datetimes import parse_datetime
from vmss.core.records import NULL
from vmss.core.retention import Snapshot
from vmss.core.text import is_reference, is_uuid
from vmss.core.vms import Vm
from vmss.edges.members import ON_SCHEDULE, SCHEDULED
from vmss.edges.query import field_of_each, list_of, text_of
from vmss.edges.vms import read_snapshots
from vmss.edges.xapi import MISREAD, Fields, Refused, Xapi, understood

# Upper limit on the VMs that are gone whose snapshots are looked for; of more, only the number of snapshots is told.
_GONE_MAX = 200
# What is read of the VMs on schedules.
_CLAIMING = Fields("snapshots", ("snapshot_schedule",))


def scheduled_snapshots(xapi: Xapi) -> List[str]:
    """The references of all scheduled snapshots of the pool."""
    with understood("VM"):
        return sorted(xapi.refs("VM", SCHEDULED))


def scheduled_vms(xapi: Xapi) -> List[str]:
    """The uuids of all VMs that are on a schedule."""
    with understood("VM"):
        records = xapi.call("VM.get_all_records_where", ON_SCHEDULE).values()
        return sorted(record["uuid"] for record in records if is_uuid(record["uuid"]))


def later_than(xapi: Xapi, snapshots: Sequence[str], instant: datetime) -> List[str]:
    """Those of these snapshots that are dated later than an instant; one whose time makes no sense is left out."""
    times = read_times(xapi, snapshots, len(snapshots))
    return [ref for ref in snapshots if ref in times and times[ref] > instant]


@understood("VM")
def read_times(xapi: Xapi, snapshots: Sequence[str], rows: int) -> Dict[str, datetime]:
    """The times of these snapshots, of so many that there are; one that is gone, or whose time makes no sense, is left
    out."""
    times = {}
    for ref, time in field_of_each(xapi, "VM", snapshots, "snapshot_time", rows):
        with suppress(*MISREAD):
            times[ref] = parse_datetime(time)
    return times


def without_schedule(xapi: Xapi, snapshots: Sequence[str], seen: AbstractSet[str] = frozenset()) -> List[Vm]:
    """The VMs of these snapshots, without their snapshots, that are on no schedule, or are gone.

    A VM that is on any schedule, enabled or not, is left out, and with it whatever its list of snapshots names. Of the
    VMs in `seen` it is known that their lists name none of these.
    """
    if not snapshots:
        return []
    claimed: Set[str] = set()
    schedules = _schedules(xapi)
    if any(vm not in seen for members in schedules.values() for vm in members):
        with understood("VM"):
            for record in xapi.records("VM", ON_SCHEDULE, _CLAIMING).values():
                if record["snapshot_schedule"] in schedules:
                    claimed.update(map(str, list_of(record, "snapshots")))
    vms = owners(xapi, [ref for ref in snapshots if ref not in claimed], len(snapshots))
    # Read again, and after the VMs: a VM may have been put on a schedule that was made meanwhile.
    schedules = _schedules(xapi)
    return [vm for vm in vms if vm.policy not in schedules]


def owners(xapi: Xapi, snapshots: Sequence[str], rows: int) -> List[Vm]:
    """The VMs that these snapshots are of, of so many that there are, without their snapshots. A VM that is gone has
    its reference for a uuid, and no name. Snapshots whose records name no VM at all, or one that is no VM, are left
    out."""
    with understood("VM"):
        named = dict(field_of_each(xapi, "VM", snapshots, "snapshot_of", rows))
    of: Dict[str, List[str]] = {}
    for ref in snapshots:
        if ref in named:  # else it is gone
            of.setdefault(str(named[ref]), []).append(ref)
    # xapi gives a snapshot its VM only at the end of an import, for one.
    of.pop(NULL, None)
    found: List[Vm] = []
    for vm, mine in sorted(of.items()):
        found += _owner(xapi, vm, mine)
    return found


class LeftBehind(NamedTuple):
    """The scheduled snapshots of one VM that is on no schedule, or gone: its name, which is empty then, its uuid or its
    reference, and those that are not pinned. Where there are too many VMs that are gone, the last has only the
    `number` of what is left."""

    vm: str
    uuid: str
    snapshots: Tuple[Snapshot, ...]
    number: int
    gone: bool = False


def left_behind(
    xapi: Xapi, vms: Sequence[Member], schedules: Collection[str], scheduled: Collection[str]
) -> List[LeftBehind]:
    """Given all VMs, the references of all schedules and those of all scheduled snapshots, return the snapshots that no
    run deletes."""
    rest = set(scheduled)
    for vm in vms:
        if vm.schedule in schedules:
            rest -= vm.snapshots
    off = [vm for vm in vms if vm.schedule not in schedules and not rest.isdisjoint(vm.snapshots)]
    read = read_snapshots(xapi, [vm.ref for vm in off])
    found = [_left(vm.name, vm.uuid, read.get(vm.ref, {}), rest) for vm in off]
    return [one for one in found + _left_of_gone(xapi, rest.difference(*(vm.snapshots for vm in off))) if one.number]


def _left(name: str, uuid: str, read: Mapping[str, Snapshot], rest: AbstractSet[str], gone: bool = False) -> LeftBehind:
    # A pinned one was not left behind, but kept.
    mine = tuple(one for ref, one in read.items() if ref in rest and not one.pinned)
    return LeftBehind(name, uuid, mine, len(mine), gone)


def _left_of_gone(xapi: Xapi, rest: Set[str]) -> List[LeftBehind]:
    """What these snapshots are of: VMs that are gone, or have become templates. No field of a snapshot that a query
    could ask for tells that its VM is gone; so of each such VM one snapshot is asked, which tells of the others."""
    found: List[LeftBehind] = []
    while rest and len(found) < _GONE_MAX:
        ref = min(rest)
        rest.discard(ref)
        try:
            of = str(xapi.call("VM.get_snapshot_of", ref))
        except Refused:
            continue  # it is gone
        if of == NULL or not is_reference(of):
            continue
        read = read_snapshots(xapi, [of]).get(of, {})
        name, gone = "", True
        with suppress(Refused):
            name, gone = str(xapi.call("VM.get_name_label", of)), False
        found.append(_left(name, of, read, rest | {ref}, gone))
        rest.difference_update(read)
    return found + ([LeftBehind("", "", (), len(rest), True)] if rest else [])


def _owner(xapi: Xapi, ref: str, snapshots: Sequence[str]) -> List[Vm]:
    try:
        record = xapi.call("VM.get_record", ref)
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return [Vm(ref, ref, "", NULL, "", NULL, NULL, snapshot_refs=tuple(snapshots))]
    try:
        return [] if record["is_a_snapshot"] is not False else [_vm(ref, record)]
    except MISREAD:
        return []


def _vm(ref: str, record: Mapping[str, Any]) -> Vm:
    return Vm(
        ref=ref,
        uuid=text_of(record, "uuid"),
        name=text_of(record, "name_label"),
        policy=text_of(record, "snapshot_schedule"),
        power_state=text_of(record, "power_state"),
        host=NULL,
        suspend_sr=NULL,
        snapshot_refs=tuple(list_of(record, "snapshots")),
    )


def _schedules(xapi: Xapi) -> Dict[str, List[str]]:
    """The VMs of each schedule, by reference; also of schedules that cannot be understood."""
    with understood("VMSS"):
        records = xapi.call("VMSS.get_all_records")
        return {str(ref): [str(vm) for vm in list_of(record, "VMs")] for ref, record in records.items()}
