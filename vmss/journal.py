"""What is going to be destroyed, written into the pool's database before it is, for the next pass to finish.

A record is one key of pool.other_config: `vmss-destroying:…` with, by the uuid of each expired snapshot, the
uuids of its disks. It is only read for snapshots that are gone: as long as a snapshot's record exists, nothing
of it has been destroyed, and retention decides about it anew.
"""
import json
import os
from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

from vmss.text import is_uuid
from vmss.world import Disk, Pool, read_disk
from vmss.xapi import Refused, Xapi

PREFIX = "vmss-destroying:"

# The pool's record is read at every tick, also by other clients; and in XML a quote takes six bytes.
_RECORD_BYTES_MAX = 30000

Entries = Dict[str, List[str]]


class Journal:
    """The records of one pass, and those that an earlier one has left."""

    def __init__(self, xapi: Xapi, pool: Pool) -> None:
        self._xapi = xapi
        self._pool = pool
        self._left = [(key, _parse(text)) for key, text in pool.other_config.items() if key.startswith(PREFIX)]
        self._written = 0

    @property
    def any_left(self) -> bool:
        """Whether earlier passes left records that were not handed out yet."""
        return bool(self._left)

    def left(self) -> List[Tuple[str, Entries]]:
        """The records that earlier passes left, by key. Handed out once."""
        left, self._left = self._left, []
        return sorted(left)

    def write(self, entries: Entries) -> List[str]:
        """Record what is going to be destroyed; return the keys of the records."""
        return [self._write(part) for part in _parts(entries)]

    def remove(self, key: str) -> None:
        """Everything in this record is gone."""
        self._xapi.call("pool.remove_from_other_config", self._pool.ref, key)

    def _write(self, entries: Entries) -> str:
        # A name that no other pass can have given: what is there already is not ours to know.
        self._written += 1
        key = "%s%d-%s-%d" % (PREFIX, os.getpid(), os.urandom(4).hex(), self._written)
        value = json.dumps(entries, separators=(",", ":"), sort_keys=True)
        self._xapi.call("pool.add_to_other_config", self._pool.ref, key, value)
        return key


def _parts(entries: Entries) -> Iterator[Entries]:
    """Split entries so that each part fits into one call to xapi, which takes 300 KiB."""
    part: Entries = {}
    size = 0
    for snapshot, disks in entries.items():
        size += 42 + 39 * len(disks)
        if part and size > _RECORD_BYTES_MAX:
            yield part
            part, size = {}, 42 + 39 * len(disks)
        part[snapshot] = disks
    if part:
        yield part


def still_there(xapi: Xapi, snapshot_uuid: str) -> bool:
    """Whether a snapshot's record exists."""
    return bool(_by_uuid(xapi, "VM", snapshot_uuid))


def disks(xapi: Xapi, uuids: Sequence[str]) -> List[Disk]:
    """The disks with these uuids, as far as they are still there and no suspended VM's memory."""
    found: List[Disk] = []
    for uuid in uuids:
        for ref in _by_uuid(xapi, "VDI", uuid):
            found.extend(disk for disk in read_disk(xapi, ref) if not _is_memory(xapi, disk))
    return found


def _is_memory(xapi: Xapi, disk: Disk) -> bool:
    # A memory image has no VBD that would tell whose it is.
    return disk.type == "suspend" and bool(
        xapi.call("VM.get_all_records_where", 'field "suspend_VDI" = "%s"' % disk.ref)
    )


def _by_uuid(xapi: Xapi, cls: str, uuid: str) -> List[str]:
    try:
        return [str(xapi.call(cls + ".get_by_uuid", uuid))]
    except Refused as refused:
        if refused.code != "UUID_INVALID":
            raise
        return []


def _parse(text: str) -> Entries:
    """A record as it was written; of one that somebody else has written, what has its form."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    if not isinstance(value, Mapping):
        return {}
    return {
        snapshot: [uuid for uuid in uuids if is_uuid(uuid)]
        for snapshot, uuids in value.items()
        if is_uuid(snapshot) and isinstance(uuids, list)
    }
