"""The scheduled snapshots of the whole pool, and their VMs: also VMs that are gone, or on no schedule."""

from datetime import datetime
from typing import Any, Dict, List, Mapping, Sequence, Set

from vmss.core.datetimes import parse_datetime
from vmss.core.records import NULL
from vmss.core.text import is_uuid
from vmss.core.vms import Vm
from vmss.edges.query import list_of, text_of
from vmss.edges.xapi import MISREAD, Refused, Xapi, understood

_SCHEDULED = '(field "is_a_snapshot" = "true") and (field "is_vmss_snapshot" = "true")'
_ON_SCHEDULE = '(field "is_a_snapshot" = "false") and (not (field "snapshot_schedule" = "%s"))' % NULL


def scheduled_snapshots(xapi: Xapi) -> List[str]:
    """The references of all scheduled snapshots of the pool."""
    with understood("VM"):
        return sorted(str(ref) for ref in xapi.call("VM.get_all_where", _SCHEDULED))


def scheduled_vms(xapi: Xapi) -> List[str]:
    """The uuids of all VMs that are on a schedule."""
    with understood("VM"):
        records = xapi.call("VM.get_all_records_where", _ON_SCHEDULE).values()
        return sorted(record["uuid"] for record in records if is_uuid(record["uuid"]))


def later_than(xapi: Xapi, snapshots: Sequence[str], instant: datetime) -> List[str]:
    """Those of these snapshots that are dated later than an instant; one whose time makes no sense is left out."""
    found = []
    for ref in snapshots:
        try:
            if parse_datetime(xapi.call("VM.get_snapshot_time", ref)) > instant:
                found.append(ref)
        except Refused:
            continue  # it is gone
        except MISREAD:
            continue
    return found


def without_schedule(xapi: Xapi, snapshots: Sequence[str]) -> List[Vm]:
    """The VMs of these snapshots, without their snapshots, that are on no schedule, or are gone.

    A VM that is on any schedule, enabled or not, is left out, and with it whatever its list of snapshots names.
    """
    claimed: Set[str] = set()
    schedules = _schedules(xapi)
    for members in schedules.values():
        for vm in members:
            try:
                claimed.update(str(ref) for ref in xapi.call("VM.get_snapshots", vm))
            except Refused:
                continue  # it is gone
    vms = owners(xapi, [ref for ref in snapshots if ref not in claimed])
    # Read again, and after the VMs: a VM may have been put on a schedule that was made meanwhile.
    schedules = _schedules(xapi)
    return [vm for vm in vms if vm.policy not in schedules]


def owners(xapi: Xapi, snapshots: Sequence[str]) -> List[Vm]:
    """The VMs that these snapshots are of, without their snapshots. A VM that is gone has its reference for a uuid, and
    no name. Snapshots whose records name no VM at all, or one that is no VM, are left out."""
    of: Dict[str, List[str]] = {}
    for ref in snapshots:
        try:
            of.setdefault(str(xapi.call("VM.get_snapshot_of", ref)), []).append(ref)
        except Refused:
            continue  # it is gone
    # xapi gives a snapshot its VM only at the end of an import, for one.
    of.pop(NULL, None)
    found: List[Vm] = []
    for vm, mine in sorted(of.items()):
        found += _owner(xapi, vm, mine)
    return found


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
