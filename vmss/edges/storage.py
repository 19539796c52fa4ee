"""Disks and storage repositories, as a pass reads them."""

from contextlib import suppress
from typing import Any, Collection, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core.plan import Space
from vmss.core.records import NULL
from vmss.core.text import one_line
from vmss.core.vms import Disk, Vm
from vmss.edges.query import CHUNK, by_uuid, int_of, list_of, text_of, where
from vmss.edges.xapi import MISREAD, Fields, Misunderstood, Refused, Xapi, understood

# Disks that VMs have, and CDs; no snapshots.
_IN_USE = '(field "is_a_snapshot" = "false") and (not (field "VBDs" = "()"))'
# To name a disk takes the record of its VBD as well, which is as large as its own: so all are read where they are less
# than twice as many as those that are asked for. So many in one answer, which is 3 MB.
_MOST, _AT_ONCE = 2, 2000
# What is read of a disk.
_DISK_FIELDS = Fields(
    "VBDs",
    (
        "SR",
        "is_a_snapshot",
        "managed",
        "name_label",
        "other_config",
        "physical_utilisation",
        "sm_config",
        "snapshot_of",
        "type",
        "uuid",
        "virtual_size",
    ),
)
# Its key in the other_config of a disk that snapshots leave out; the value is for people.
_SKIP_KEY = "vmss:skip"


class Disks(NamedTuple):
    """The disks of VMs and snapshots, by their references. `misread` has the VMs and snapshots of which not all disks
    are known, because the record of a disk or a VBD cannot be understood, and the reason."""

    of: Dict[str, List[Disk]]
    misread: Dict[str, str]


class _Vbd(NamedTuple):
    """A disk of a VM: `vdi` is its reference, `device` its number in the VM."""

    vm: str
    device: str
    vdi: str


def read_disks(xapi: Xapi, vms: Sequence[str]) -> Disks:
    """The disks of these VMs or snapshots, in the order of their devices. A CD is not a disk."""
    vbds: List[_Vbd] = []
    misread: Dict[str, str] = {}
    for start in range(0, len(vms), CHUNK):
        chunk = vms[start : start + CHUNK]
        try:
            vbds += _read_vbds(xapi, chunk)
        except Misunderstood:  # read one by one, it shows which VM has the bad record
            for vm in chunk:
                try:
                    vbds += _read_vbds(xapi, [vm])
                except Misunderstood as error:
                    misread[vm] = str(error)
    found, unread = _read_vdis(xapi, sorted({vbd.vdi for vbd in vbds}))
    disks: Dict[str, List[Disk]] = {}
    for vbd in sorted(vbds, key=lambda vbd: (len(vbd.device), vbd.device)):
        if vbd.vdi in unread:
            misread[vbd.vm] = unread[vbd.vdi]
        elif vbd.vdi in found:
            disks.setdefault(vbd.vm, []).append(found[vbd.vdi])
    return Disks(disks, misread)


def read_disks_of(xapi: Xapi, vms: Sequence[Vm]) -> Disks:
    """The disks of these VMs, in no order.

    With each reference that a query names xapi compares every row of a table (docs/xapi-facts.md, Queries). So where
    these VMs have most of the disks that are in use in the pool, the records of all of those are read, which say by
    what VBDs they are used; else those that are named.
    """
    vbds = {vbd: vm.ref for vm in vms for vbd in vm.vbds or ()}
    if len(vms) <= CHUNK:
        return read_disks(xapi, [vm.ref for vm in vms])
    in_use = len(_refs(xapi, "VDI", _IN_USE))
    if in_use > len(vbds) * _MOST:
        return read_disks(xapi, [vm.ref for vm in vms])
    cds = _refs(xapi, "VBD", '(field "type" = "CD") and (field "empty" = "false")')
    found: Dict[str, List[Disk]] = {}
    unknown = set(vbds)
    for ref, record in _disks_in_use(xapi, in_use):
        with suppress(*MISREAD):
            disk = _disk(ref, record)
            for vbd in sorted(unknown.intersection(disk.vbds)):
                unknown.discard(vbd)
                if vbd not in cds:
                    found.setdefault(vbds[vbd], []).append(disk)
    if unknown:
        unknown -= _refs(xapi, "VBD", 'field "empty" = "true"')
    # What is odd about the disks of a VM shows where they are named.
    odd = {vbds[vbd] for vbd in unknown} | {vm.ref for vm in vms if vm.vbds is None}
    named = read_disks(xapi, sorted(odd))
    return Disks({**{vm: disks for vm, disks in found.items() if vm not in odd}, **named.of}, named.misread)


def _disks_in_use(xapi: Xapi, number: int) -> Iterator[Tuple[str, Any]]:
    """The records of the disks that VMs have; so many as fill the memory of a small dom0, storage by storage."""
    conditions = [_IN_USE]
    if number > _AT_ONCE:
        srs = sorted(map(str, xapi.call("SR.get_all")))
        conditions = ['(field "SR" = "%s") and (%s)' % (sr, _IN_USE) for sr in srs]
    for condition in conditions:
        with understood("VDI"):
            yield from xapi.records("VDI", condition, _DISK_FIELDS).items()


def _refs(xapi: Xapi, cls: str, condition: str) -> Set[str]:
    with understood(cls):
        return set(xapi.refs(cls, condition))


@understood("VBD")
def _read_vbds(xapi: Xapi, vms: Sequence[str]) -> List[_Vbd]:
    """The VBDs of these VMs that have a disk."""
    found = []
    for _, record in where(xapi, "VBD", "VM", vms):
        vbd = _Vbd(text_of(record, "VM"), text_of(record, "userdevice"), text_of(record, "VDI"))
        if vbd.vm not in vms:
            raise ValueError(vbd.vm)
        if not isinstance(record["empty"], bool):
            raise TypeError("empty")
        if text_of(record, "type") != "CD" and not record["empty"] and vbd.vdi != NULL:
            found.append(vbd)
    return found


def read_disk(xapi: Xapi, vdi: str) -> List[Disk]:
    """The disk with this reference, in a list that is empty for the null reference and for a disk that no longer
    exists. Raise Misunderstood if its record cannot be understood."""
    if vdi == NULL:
        return []
    try:
        with understood("VDI"):
            return [_disk(vdi, xapi.call("VDI.get_record", vdi))]
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return []


def read_marked(xapi: Xapi, prefixes: Tuple[str, ...]) -> List[str]:
    """The references of disks that snapshots are to leave out: those with the key for it, and those whose names begin
    with one of these. No query can look into a map, or for the beginning of a text: but few disks have a key at all."""
    alive = 'field "is_a_snapshot" = "false"'
    asked = alive if prefixes else '(%s) and (not (field "other_config" = "()"))' % alive
    with understood("VDI"):
        records = xapi.call("VDI.get_all_records_where", asked)
        return sorted(
            str(ref)
            for ref, record in records.items()
            if _SKIP_KEY in record["other_config"] or str(record["name_label"]).startswith(prefixes)
        )


def remaining_disks(xapi: Xapi, uuids: Sequence[str]) -> List[Disk]:
    """The disks with these uuids that still exist, without memory images of suspended VMs."""
    found: List[Disk] = []
    for uuid in uuids:
        for ref in by_uuid(xapi, "VDI", uuid):
            found.extend(disk for disk in read_disk(xapi, ref) if not _is_memory(xapi, disk))
    return found


def _is_memory(xapi: Xapi, disk: Disk) -> bool:
    # A memory image has no VBD that would tell whose it is.
    return disk.type == "suspend" and bool(
        xapi.call("VM.get_all_records_where", 'field "suspend_VDI" = "%s"' % disk.ref)
    )


def memory_in_use(xapi: Xapi, vdis: Sequence[str]) -> Set[str]:
    """Those of these memory images that a suspended VM has, or one that is being suspended or resumed. A VM that just
    runs may have one too, of a suspension that did not come to its end: nobody will ever read that."""
    used: Set[str] = set()
    for _, record in where(xapi, "VM", "suspend_VDI", vdis):
        if record["power_state"] == "Suspended" or record["current_operations"] != {}:
            used.add(text_of(record, "suspend_VDI"))
    return used


@understood("VBD")
def read_users(xapi: Xapi, vdis: Sequence[str]) -> Dict[str, Set[str]]:
    """The VMs, snapshots among them, that have each of these disks. Raise Misunderstood if a record cannot be
    understood."""
    users: Dict[str, Set[str]] = {}
    asked = set(vdis)
    for _, record in where(xapi, "VBD", "VDI", vdis):
        vdi = text_of(record, "VDI")
        if vdi not in asked:
            raise ValueError(vdi)
        users.setdefault(vdi, set()).add(text_of(record, "VM"))
    return users


def read_space(xapi: Xapi, sr: str, not_of: Sequence[str] = ()) -> Optional[Space]:
    """The space on an SR; None if the SR no longer exists or does not tell, or is of one of these types. Single fields
    are read, because the record lists all disks of the SR."""
    try:
        kind = str(xapi.call("SR.get_type", sr))
        if kind in not_of:
            return None
        size, used = xapi.call("SR.get_physical_size", sr), xapi.call("SR.get_physical_utilisation", sr)
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return None
    try:
        return Space(int_of(size), int_of(used), kind.startswith("lvm"))
    except MISREAD:
        return None


def named(xapi: Xapi, sr: str) -> Tuple[str, str]:
    """The name and the uuid of an SR; its reference for both if it is gone."""
    try:
        return str(xapi.call("SR.get_name_label", sr)), one_line(str(xapi.call("SR.get_uuid", sr)), 40)
    except Refused:
        return sr, sr


def _read_vdis(xapi: Xapi, vdis: Collection[str]) -> Tuple[Dict[str, Disk], Dict[str, str]]:
    """These disks by their references, and the reason for each whose record cannot be understood."""
    found: Dict[str, Disk] = {}
    misread: Dict[str, str] = {}
    with suppress(Misunderstood), understood("VDI"):
        for ref, record in where(xapi, "VDI", "_ref", vdis, fields=_DISK_FIELDS):
            with suppress(*MISREAD):
                found[ref] = _disk(ref, record)
    for vdi in sorted(set(vdis) - set(found)):  # it is gone, or the query has failed for another's record
        try:
            found.update((disk.ref, disk) for disk in read_disk(xapi, vdi))
        except Misunderstood as error:
            misread[vdi] = str(error)
    return found, misread


def _disk(ref: str, record: Mapping[str, Any]) -> Disk:
    return Disk(
        ref=ref,
        uuid=str(record["uuid"]),
        sr=str(record["SR"]),
        type=str(record["type"]),
        is_a_snapshot=record["is_a_snapshot"] is True,
        managed=record["managed"] is True,
        vbds=tuple(list_of(record, "VBDs")),
        virtual_size=int_of(record["virtual_size"]),
        name=str(record.get("name_label", "")),
        parent=parent_of(record),
        skip=_SKIP_KEY in record.get("other_config", ()),
        used=_used(record),
        snapshot_of=str(record.get("snapshot_of", "")),
    )


def _used(record: Mapping[str, Any]) -> int:
    """The bytes that a disk's image occupies; 0 if its record does not tell."""
    try:
        return max(0, int_of(record.get("physical_utilisation", 0)))
    except MISREAD:
        return 0


def parent_of(record: Mapping[str, Any]) -> str:
    """The uuid of the base copy that a disk's image builds on; empty if its record does not tell."""
    config = record.get("sm_config")
    return str(config.get("vhd-parent", "")) if isinstance(config, Mapping) else ""
