"""The journal: what is to be destroyed is written into the pool's database first, so that the next pass can finish it.

An entry is one key of pool.other_config, `vmss-destroying:…`. It lists, by the uuid of each expired snapshot, the uuids
of its disks. It says something only about snapshots that are gone: as long as a snapshot's record exists, nothing of it
has been destroyed, and retention decides about it anew.

Once a snapshot is gone, nothing in the database tells its disks from snapshots of disks that another product made, such
as a backup tool. So an entry is believed. Who may write one (role pool-operator) may destroy disks anyway (vm-admin).
"""

import json
import os
from typing import Dict, Iterator, List, Optional, Tuple

from vmss.core.records import Pool
from vmss.core.text import is_uuid
from vmss.edges.xapi import MISREAD, Xapi

PREFIX = "vmss-destroying:"

# The pool's record is read at every tick, by other clients too; and a quote takes six bytes in XML.
_ENTRY_BYTES_MAX = 30000

Entries = Dict[str, List[str]]


class Journal:
    """The entries of this pass, and those that earlier ones left."""

    def __init__(self, xapi: Xapi, pool: Pool) -> None:
        self._xapi = xapi
        self._pool = pool
        self._leftovers = [(name, text) for name, text in pool.other_config.items() if name.startswith(PREFIX)]
        self._written = 0

    @property
    def has_leftovers(self) -> bool:
        """Whether earlier passes left entries that `leftovers` has not returned yet."""
        return bool(self._leftovers)

    def leftovers(self) -> List[Tuple[str, Optional[Entries]]]:
        """The entries that earlier passes left, by key; None for what is no entry. Each is returned once."""
        leftovers, self._leftovers = self._leftovers, []
        return [(name, _parse(text)) for name, text in sorted(leftovers)]

    def write(self, entries: Entries) -> List[str]:
        """Record what is to be destroyed; return the keys of the new entries."""
        return [self._write(part) for part in _parts(entries)]

    def add_leftovers(self, entries: Entries) -> None:
        """Record deletions that this pass is to carry out as if an earlier one had left them over."""
        self._leftovers += [(self._write(part), record(part)) for part in _parts(entries)]

    def remove(self, key: str) -> None:
        """Remove an entry: everything in it is gone."""
        self._xapi.call("pool.remove_from_other_config", self._pool.ref, key)

    def _write(self, entries: Entries) -> str:
        # A name that no other pass can have chosen, so that no existing key is in the way.
        self._written += 1
        key = "%s%d-%s-%d" % (PREFIX, os.getpid(), os.urandom(4).hex(), self._written)
        value = record(entries)
        self._xapi.call("pool.add_to_other_config", self._pool.ref, key, value)
        return key


def _parts(entries: Entries) -> Iterator[Entries]:
    """Split entries so that each part fits into one request to xapi, which is limited to 300 KiB."""
    part: Entries = {}
    size = 0
    for snapshot, disks in entries.items():
        size += 42 + 39 * len(disks)
        if part and size > _ENTRY_BYTES_MAX:
            yield part
            part, size = {}, 42 + 39 * len(disks)
        part[snapshot] = disks
    if part:
        yield part


def record(entries: Entries) -> str:
    """The value of an entry."""
    return json.dumps({"destroying": entries}, separators=(",", ":"))


def _parse(text: str) -> Optional[Entries]:
    """The value of an entry, read; None if it is none."""
    try:
        entries = json.loads(text)
        # The first version wrote them without a name, another one with a seal beside them.
        entries = entries.get("destroying", entries)
        if all(is_uuid(snapshot) and all(map(is_uuid, disks)) for snapshot, disks in entries.items()):
            return {str(snapshot): list(disks) for snapshot, disks in entries.items()}
    except MISREAD:
        pass
    return None
