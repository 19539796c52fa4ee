"""What is going to be destroyed, written into the pool's database before it is, for the next pass to finish.

A record is one key of pool.other_config: `vmss-destroying:N` with, by the uuid of each expired snapshot, the
uuids of its disks. It is only read for snapshots that are gone: as long as a snapshot's record exists, nothing
of it has been destroyed, and retention decides about it anew.
"""
import json
from typing import Dict, List, Mapping, Sequence, Tuple

from vmss.engine import Doomed
from vmss.text import is_uuid
from vmss.world import Disk, Pool, read_disk
from vmss.xapi import Refused, Xapi

PREFIX = "vmss-destroying:"

# Snapshots in one record: the pool's record is read at every tick, also by other clients.
RECORD_MAX = 300


class Journal:
    """The records of one pass, and those that an earlier one has left."""

    def __init__(self, xapi: Xapi, pool: Pool) -> None:
        self._xapi = xapi
        self._pool = pool
        self._left = [(key, _parse(text)) for key, text in pool.other_config.items() if key.startswith(PREFIX)]
        self._keys = {key for key, _ in self._left}

    def left(self) -> List[Tuple[str, Dict[str, List[str]]]]:
        """The records that earlier passes left, by key: the disks of each snapshot. Handed out once."""
        left, self._left = self._left, []
        return sorted(left)

    def write(self, doomed: Sequence[Doomed]) -> str:
        """Record what is going to be destroyed; return the key of the record."""
        number = 0
        while PREFIX + str(number) in self._keys:
            number += 1
        key = PREFIX + str(number)
        value = json.dumps({item.uuid: [disk.uuid for disk in item.disks] for item in doomed}, separators=(",", ":"))
        self._xapi.call("pool.add_to_other_config", self._pool.ref, key, value)
        self._keys.add(key)
        return key

    def remove(self, key: str) -> None:
        """Everything in this record is gone."""
        self._xapi.call("pool.remove_from_other_config", self._pool.ref, key)
        self._keys.discard(key)


def still_there(xapi: Xapi, snapshot_uuid: str) -> bool:
    """Whether a snapshot's record exists."""
    return bool(_by_uuid(xapi, "VM", snapshot_uuid))


def disks(xapi: Xapi, uuids: Sequence[str]) -> List[Disk]:
    """The disks with these uuids, as far as they are still there."""
    found: List[Disk] = []
    for uuid in uuids:
        for ref in _by_uuid(xapi, "VDI", uuid):
            found.extend(read_disk(xapi, ref))
    return found


def _by_uuid(xapi: Xapi, cls: str, uuid: str) -> List[str]:
    try:
        return [str(xapi.call(cls + ".get_by_uuid", uuid))]
    except Refused as refused:
        if refused.code != "UUID_INVALID":
            raise
        return []


def _parse(text: str) -> Dict[str, List[str]]:
    """A record as it was written; of one that somebody else has written, what has its form."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, Mapping):
        return {}
    return {
        snapshot: [uuid for uuid in uuids if is_uuid(uuid)]
        for snapshot, uuids in value.items()
        if is_uuid(snapshot) and isinstance(uuids, list)
    }
