"""What is going to be destroyed, written into the pool's database before it is, for the next pass to finish.

A record is one key of pool.other_config: `vmss-destroying:…` with, by the uuid of each expired snapshot, the
uuids of its disks, and a seal over them. It is only read for snapshots that are gone: as long as a snapshot's record
exists, nothing of it has been destroyed, and retention decides about it anew.

When a snapshot is gone, nothing in the database tells its disks from snapshots of disks that somebody else has made,
a backup tool's say. So a record is believed only if the seal shows that a pass of this pool has written it,
see vmss.edges.seal: others who may write pool.other_config cannot make one. What they can do is bring back an old
one, which names disks that were to be destroyed anyway; or take one away, and those disks stay. After a change of
the pool's secret the records from before it are believed no more: what they name is logged, and stays.
"""

import json
import os
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from vmss.core.records import Disk, Pool
from vmss.core.text import is_uuid
from vmss.edges.seal import holds, seal
from vmss.edges.world import read_disk
from vmss.edges.xapi import MISREAD, Refused, Xapi

PREFIX = "vmss-destroying:"

# The pool's record is read at every tick, also by other clients; and in XML a quote takes six bytes.
_RECORD_BYTES_MAX = 30000

Entries = Dict[str, List[str]]


class Journal:
    """The records of one pass, and those that an earlier one has left."""

    def __init__(self, xapi: Xapi, pool: Pool, key: Callable[[], bytes]) -> None:
        """`key` gives the key that records are sealed with; it is not asked for where there is no record."""
        self._xapi = xapi
        self._pool = pool
        self._seal_key = key
        self._left = [(name, text) for name, text in pool.other_config.items() if name.startswith(PREFIX)]
        self._written = 0

    @property
    def any_left(self) -> bool:
        """Whether earlier passes left records that were not handed out yet."""
        return bool(self._left)

    def left(self) -> List[Tuple[str, Optional[Entries]]]:
        """The records that earlier passes left, by key; None for one that no pass has written. Handed out once."""
        left, self._left = self._left, []
        return [(name, _parse(text, self._seal_key())) for name, text in sorted(left)]

    def write(self, entries: Entries) -> List[str]:
        """Record what is going to be destroyed; return the keys of the records."""
        return [self._write(part) for part in _parts(entries)]

    def leave(self, entries: Entries) -> None:
        """Record what this very pass is to destroy as though an earlier one had begun it."""
        self._left += [(self._write(part), record(part, self._seal_key())) for part in _parts(entries)]

    def remove(self, key: str) -> None:
        """Everything in this record is gone."""
        self._xapi.call("pool.remove_from_other_config", self._pool.ref, key)

    def _write(self, entries: Entries) -> str:
        # A name that no other pass can have given: what is there already is not ours to know.
        self._written += 1
        key = "%s%d-%s-%d" % (PREFIX, os.getpid(), os.urandom(4).hex(), self._written)
        value = record(entries, self._seal_key())
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


def record(entries: Entries, key: bytes) -> str:
    """Entries as they are recorded."""
    return json.dumps({"destroying": entries, "seal": seal(key, _text(entries))}, separators=(",", ":"))


def _text(entries: Entries) -> str:
    return json.dumps(entries, separators=(",", ":"), sort_keys=True)


def _parse(text: str, key: bytes) -> Optional[Entries]:
    """What a record says, if a pass has written it."""
    try:
        value = json.loads(text)
        entries, claimed = value["destroying"], value["seal"]
        if holds(key, _text(entries), claimed) and all(is_uuid(uuid) for uuids in entries.values() for uuid in uuids):
            return {str(snapshot): list(uuids) for snapshot, uuids in entries.items() if is_uuid(snapshot)}
    except MISREAD:
        pass
    return None
