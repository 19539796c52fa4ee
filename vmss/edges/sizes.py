"""What snapshots occupy on their storage, as far as the records of their disks tell.

A snapshot of a disk is nearly empty by itself: what was written before it is in the base copy that its image builds on.
So that counts too, but once: for the first snapshot that is asked about.
"""

from typing import Dict, List, Sequence, Set

from vmss.core.records import NULL
from vmss.core.retention import Snapshot
from vmss.core.text import is_uuid
from vmss.core.vms import Disk
from vmss.edges.query import int_of, text_of, where
from vmss.edges.storage import read_disk, read_disks
from vmss.edges.xapi import MISREAD, Misunderstood, Xapi


def read_sizes(xapi: Xapi, snapshots: Sequence[Snapshot], seen: Set[str]) -> Dict[str, int]:
    """The bytes that each of these snapshots occupies, by its reference; one whose records cannot be understood is left
    out. `seen` has the base copies, by their uuids, that count already, and gets those that count now."""
    disks = read_disks(xapi, [one.ref for one in snapshots])
    of: Dict[str, List[Disk]] = {}
    for one in snapshots:
        try:
            memory = read_disk(xapi, one.suspend_vdi) if one.suspend_vdi != NULL else []
        except Misunderstood:
            continue
        if one.ref not in disks.misread:
            of[one.ref] = disks.of.get(one.ref, []) + memory
    bases = read_bases(xapi, {disk.parent for mine in of.values() for disk in mine if is_uuid(disk.parent)} - seen)
    found: Dict[str, int] = {}
    for ref, mine in of.items():
        found[ref] = sum(disk.used for disk in mine)
        for base in sorted({disk.parent for disk in mine} & set(bases)):
            found[ref] += bases.pop(base)
            seen.add(base)
    return found


def read_bases(xapi: Xapi, uuids: Set[str]) -> Dict[str, int]:
    """What each of these base copies occupies, by its uuid. A disk that a VM or a snapshot has is none."""
    found: Dict[str, int] = {}
    for _, record in where(xapi, "VDI", "uuid", sorted(uuids), 'field "managed" = "false"'):
        try:
            found[text_of(record, "uuid")] = max(0, int_of(record["physical_utilisation"]))
        except MISREAD:
            continue
    return found
