"""New snapshots are read back, many together: whether they are there, whose they are, and how many disks they have."""

from typing import Any, Dict, Mapping, Optional, Sequence

from vmss.core.datetimes import parse_datetime
from vmss.core.read_back import Named, Taken
from vmss.core.records import TAKING
from vmss.core.text import one_line
from vmss.edges.query import list_of, text_of, where
from vmss.edges.xapi import MISREAD, Refused, Xapi, understood


@understood("VM")
def read_taken(xapi: Xapi, vms: Sequence[str], names: Sequence[str] = ()) -> Dict[str, Dict[str, Taken]]:
    """The scheduled snapshots of these VMs that have one of these names, or any, by VM and reference. One whose record
    cannot be understood is left out."""
    marked = 'field "is_vmss_snapshot" = "true"'
    if names:
        marked = "(%s) and (%s)" % (marked, " or ".join('(field "name__label" = "%s")' % name for name in names))
    found: Dict[str, Dict[str, Taken]] = {}
    for ref, record in where(xapi, "VM", "snapshot_of", vms, marked):
        try:
            found.setdefault(text_of(record, "snapshot_of"), {})[ref] = _taken(ref, record)
        except MISREAD:
            continue
    return found


def can_be_asked_for(name: str) -> bool:
    """Whether a query can have this name: its texts stand in quotes."""
    return not set('"\\').intersection(name)


def _taken(ref: str, record: Mapping[str, Any]) -> Taken:
    return Taken(
        ref=ref,
        uuid=text_of(record, "uuid"),
        time=parse_datetime(record["snapshot_time"]),
        vbds=tuple(str(vbd) for vbd in list_of(record, "VBDs")),
        making=bool(set(record["current_operations"].values()) & TAKING),
        memory=text_of(record, "suspend_VDI") if record["power_state"] == "Suspended" else "",
    )


@understood("VM")
def read_named(xapi: Xapi, ref: str) -> Optional[Named]:
    """The object with the reference that the task of a snapshot tells; None if there is no such VM or snapshot."""
    try:
        record = xapi.call("VM.get_record", ref)
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return None
    return Named(
        uuid=one_line(text_of(record, "uuid"), 40),
        is_a_snapshot=record["is_a_snapshot"] is True,
        of=text_of(record, "snapshot_of"),
        marked=record["is_vmss_snapshot"] is True,
        time=parse_datetime(record["snapshot_time"]),
    )


@understood("VDI")
def count_disks(xapi: Xapi, snapshots: Sequence[Taken]) -> Dict[str, int]:
    """By reference, of how many disks of each of these snapshots this proves that they exist: of all but those that
    something else has too."""
    of = {vbd: snapshot.ref for snapshot in snapshots for vbd in snapshot.vbds}
    counts = dict.fromkeys((snapshot.ref for snapshot in snapshots), 0)
    # xapi stores a disk's list of VBDs as an S-expression: this finds the disks that have one. A CD is no snapshot.
    for _, record in where(xapi, "VDI", "VBDs", ["('%s')" % vbd for vbd in of]):
        (vbd,) = list_of(record, "VBDs")
        if record["is_a_snapshot"] is True:
            counts[of[vbd]] += 1
    return counts
