"""The VMs of policies and their snapshots, as a pass reads them."""

from contextlib import suppress
from datetime import datetime
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core.datetimes import parse_datetime
from vmss.core.policy import Policy
from vmss.core.records import NULL, TAKING
from vmss.core.retention import Snapshot
from vmss.core.text import one_line
from vmss.core.vms import Vm
from vmss.edges.query import int_of, list_of, text_of, where
from vmss.edges.xapi import MISREAD, Fields, Misunderstood, Refused, Xapi, understood

# The key of VM.other_config with the duration in seconds of the VM's last scheduled snapshot.
_TOOK_KEY = "vmss:seconds"
# What is read of a VM, and of a snapshot.
VM_FIELDS = Fields(
    "VBDs",
    (
        "snapshot_schedule",
        "current_operations",
        "guest_metrics",
        "memory_dynamic_max",
        "metrics",
        "name_label",
        "other_config",
        "parent",
        "power_state",
        "resident_on",
        "snapshots",
        "suspend_SR",
        "suspend_VDI",
        "tags",
        "uuid",
    ),
)
_SNAPSHOT_FIELDS = Fields(
    "blocked_operations",
    (
        "snapshot_time",
        "current_operations",
        "name_label",
        "power_state",
        "snapshot_info",
        "snapshot_of",
        "suspend_VDI",
        "uuid",
    ),
)
# The operations of a deletion. If a killed pass started it, the next one goes on with it.
_DELETING = {"destroy", "hard_shutdown"}


class _SnapshotRead(NamedTuple):
    """The record of a scheduled snapshot, `of` a VM. `snapshot` is None if the record cannot be understood, and then
    `of` may be empty."""

    of: str
    ref: str
    uuid: str
    snapshot: Optional[Snapshot]


def read_vms(xapi: Xapi, policies: Sequence[Policy]) -> List[Vm]:
    """The VMs of these policies, without their snapshots."""
    refs = [policy.ref for policy in policies]
    return vms_of(xapi, where(xapi, "VM", "snapshot_schedule", refs, fields=VM_FIELDS), policies)


@understood("VM")
def vms_of(xapi: Xapi, records: Iterable[Tuple[str, Any]], policies: Sequence[Policy]) -> List[Vm]:
    """The same, given the records of VMs, some of which may be on no schedule of these."""
    asked = {policy.ref for policy in policies}
    vms: List[Vm] = []
    for ref, record in records:
        try:
            vm = _vm(xapi, ref, record)
        except (Misunderstood,) + MISREAD as error:
            vm = _misread(ref, record, policies, one_line(repr(error), 200))
        if vm.policy in asked:
            vms.append(vm)
    return sorted(vms, key=lambda vm: (vm.name, vm.uuid))


@understood("VM")
def read_vms_by_uuid(xapi: Xapi, uuids: Sequence[str]) -> List[Vm]:
    """The VMs with these uuids that still exist, without their snapshots."""
    vms = []
    for ref, record in where(xapi, "VM", "uuid", uuids, fields=VM_FIELDS):
        try:
            vms.append(_vm(xapi, ref, record))
        except (Misunderstood,) + MISREAD as error:
            vms.append(_misread(ref, record, (), one_line(repr(error), 200)))
    return sorted(vms, key=lambda vm: (vm.name, vm.uuid))


@understood("VM")
def with_snapshots(xapi: Xapi, vms: Sequence[Vm]) -> List[Vm]:
    """These VMs with their scheduled snapshots."""
    read: Dict[str, List[_SnapshotRead]] = {}
    for item in _read_snapshots(xapi, [vm.ref for vm in vms if vm.snapshot_refs]):
        # If a snapshot's record has no VM, the VM's list of snapshots tells it.
        of = item.of or next((vm.ref for vm in vms if item.ref in vm.snapshot_refs), "")
        read.setdefault(of, []).append(item)
    complete = []
    for vm in vms:
        agreed, suspect = [], []
        mine, refs = read.get(vm.ref, []), vm.snapshot_refs
        if any(item.snapshot is not None and item.ref not in refs for item in mine):
            refs = _snapshot_refs(xapi, vm.ref)  # one was taken since the VM was read
        for item in mine:
            # The VM's list and the snapshot's own field are two sides of one relation. If they disagree, the database
            # is damaged, and the snapshot is not touched.
            if item.snapshot is not None and item.ref in refs and item.ref != vm.ref:
                agreed.append(item.snapshot)
            else:
                suspect.append(item.uuid)
        complete.append(vm._replace(snapshots=tuple(agreed), suspect=tuple(sorted(suspect))))
    return complete


def _snapshot_refs(xapi: Xapi, vm: str) -> Tuple[str, ...]:
    """The references of a VM's snapshots as they are now; empty if the VM is gone."""
    try:
        return tuple(xapi.call("VM.get_snapshots", vm))
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return ()


def _vm(xapi: Xapi, ref: str, record: Mapping[str, Any]) -> Vm:
    task, ended = _taking_task(xapi, ref, record["current_operations"])
    return Vm(
        ref=ref,
        uuid=str(record["uuid"]),
        name=str(record["name_label"]),
        policy=str(record["snapshot_schedule"]),
        power_state=str(record["power_state"]),
        host=str(record["resident_on"]),
        suspend_sr=_memory_sr(xapi, record),
        task=task,
        memory=int_of(record["memory_dynamic_max"]),
        took=_took(record["other_config"]),
        snapshot_refs=_snapshot_refs(xapi, ref) if ended else tuple(list_of(record, "snapshots")),
        tags=frozenset(map(str, list_of(record, "tags"))),
        guest_metrics=str(record["guest_metrics"]),
        parent=str(record.get("parent", "")),
        metrics=str(record.get("metrics", "")),
        vbds=tuple(map(str, record["VBDs"])) if isinstance(record.get("VBDs"), list) else None,
    )


@understood("VM")
def read_vm(xapi: Xapi, ref: str) -> Optional[Vm]:
    """One VM as it is now, without its snapshots; None if it is gone."""
    try:
        return _vm(xapi, ref, xapi.call("VM.get_record", ref))
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return None


def _misread(ref: str, record: Any, policies: Sequence[Policy], why: str) -> Vm:
    fields = record if isinstance(record, Mapping) else {}
    # The policy's list of VMs tells it too.
    policy = next((policy.ref for policy in policies if ref in policy.vms), "")
    return Vm(
        ref,
        one_line(str(fields.get("uuid", ref)), 100),
        one_line(str(fields.get("name_label", "")), 1000),
        policy,
        "",
        NULL,
        NULL,
        misread=why,
    )


def note_took(xapi: Xapi, vm: str, seconds: float) -> None:
    """Note the duration of a VM's scheduled snapshot in the VM's record."""
    entry = (vm, _TOOK_KEY, "%.1f" % max(0.1, seconds))
    try:
        xapi.call("VM.add_to_other_config", *entry)
    except Refused as refused:
        if refused.code == "MAP_DUPLICATE_KEY":
            with suppress(Refused):  # the VM is gone
                xapi.call("VM.remove_from_other_config", vm, _TOOK_KEY)
                xapi.call("VM.add_to_other_config", *entry)


@understood("VM")
def read_held(xapi: Xapi, snapshots: Sequence[str]) -> Dict[str, str]:
    """Those of these snapshots, given by their uuids, that must not be deleted now, by reference: the operation that is
    in progress on it, or an empty text for one that is pinned. Raise Misunderstood if a record cannot be understood."""
    held: Dict[str, str] = {}
    # A map is stored as an S-expression, and this is the empty one: of most snapshots no record needs to be sent.
    marked = '(not (field "current_operations" = "()")) or (not (field "blocked_operations" = "()"))'
    for ref, record in where(xapi, "VM", "uuid", snapshots, marked):
        operation = _operation(record)
        if "destroy" in record["blocked_operations"]:
            held[ref] = ""
        elif operation:
            held[ref] = one_line(operation, 40)
    return held


@understood("VM")
def read_snapshots(xapi: Xapi, vms: Sequence[str]) -> Dict[str, Dict[str, Snapshot]]:
    """The scheduled snapshots whose records name these VMs, by VM and reference."""
    found: Dict[str, Dict[str, Snapshot]] = {}
    for item in _read_snapshots(xapi, vms):
        if item.snapshot is not None:
            found.setdefault(item.of, {})[item.ref] = item.snapshot
    return found


def _read_snapshots(xapi: Xapi, vms: Sequence[str]) -> Iterator[_SnapshotRead]:
    """The scheduled snapshots whose records name these VMs."""
    marked = 'field "is_vmss_snapshot" = "true"'
    for ref, record in where(xapi, "VM", "snapshot_of", vms, marked, _SNAPSHOT_FIELDS):
        of, uuid, snapshot = "", one_line(str(ref), 100), None
        try:
            of, uuid = text_of(record, "snapshot_of"), one_line(str(record.get("uuid", ref)), 100)
            if set(record["current_operations"].values()) & TAKING:
                continue  # a checkpoint in the making, which may yet fail
            snapshot = _snapshot(ref, record)
        except MISREAD:
            pass
        yield _SnapshotRead(of, ref, uuid, snapshot)


def _snapshot(ref: str, record: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        ref=ref,
        uuid=str(record["uuid"]),
        time=_time(record),
        pinned="destroy" in record["blocked_operations"],
        suspended=record["power_state"] != "Halted",
        suspend_vdi=str(record["suspend_VDI"]),
        operation=_operation(record),
        name=str(record["name_label"]),
        pin=str(record["blocked_operations"].get("destroy", "")),
        of_halted=_info(record).get("power-state-at-snapshot") == "Halted",
    )


def _info(record: Mapping[str, Any]) -> Mapping[str, Any]:
    info = record.get("snapshot_info")
    return info if isinstance(info, Mapping) else {}


def _operation(record: Mapping[str, Any]) -> str:
    """What is in progress on a snapshot, but for a deletion; empty if nothing is."""
    return next(iter(sorted(set(map(str, record["current_operations"].values())) - _DELETING)), "")


def _taking_task(xapi: Xapi, vm: str, operations: Mapping[str, str]) -> Tuple[str, bool]:
    """Of the operations in progress on a VM as it was read, the task that takes a scheduled snapshot of it, if there is
    one; and whether one that took a snapshot has ended since."""
    ended = False
    for task, operation in operations.items():
        if operation in TAKING:
            try:
                marks = xapi.call("task.get_other_config", task)
            except Refused as refused:
                if refused.code == "HANDLE_INVALID":
                    ended = True
                    continue
                # If it is ours, a second snapshot would be one too many: this VM is not served now.
                raise Misunderstood("task.get_other_config: %s" % refused)
            if is_marked(marks, vm):
                return str(task), ended
    return "", ended


def is_marked(marks: Mapping[str, str], vm: str) -> bool:
    """Whether the other_config of a task says that it takes a scheduled snapshot of this VM. Only the tasks of those
    have these marks (ocaml/xapi/xapi_vmss.ml)."""
    return "ShowInXenCenter" in marks and marks.get("applies_to") == vm


def _memory_sr(xapi: Xapi, record: Mapping[str, Any]) -> str:
    """The SR to which a checkpoint of this VM writes memory, if the VM's own record tells."""
    from vmss.edges.storage import read_disk  # not needed by an idle tick

    for disk in read_disk(xapi, str(record["suspend_VDI"])):
        return disk.sr
    return str(record["suspend_SR"] or NULL)


def _took(other_config: Mapping[str, str]) -> Optional[float]:
    try:
        seconds = float(other_config.get(_TOOK_KEY, ""))
    except ValueError:
        return None
    return seconds if 0 < seconds < 1e6 else None


def _time(record: Mapping[str, Any]) -> datetime:
    return parse_datetime(record["snapshot_time"])
