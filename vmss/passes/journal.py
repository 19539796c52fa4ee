"""The journal: what is to be destroyed is written into the pool's database first, so that the next pass can finish it.

An entry is one key of pool.other_config, `vmss-destroying:…`. It lists, by the uuid of each expired snapshot, the uuids
of its disks. It says something only about snapshots that are gone: as long as a snapshot's record exists, nothing of it
has been destroyed, and retention decides about it anew.

Once a snapshot is gone, nothing in the database tells its disks from snapshots of disks that another product made, such
as a backup tool. So an entry is believed. Who may write one (role pool-operator) may destroy disks anyway (vm-admin).

An entry of disks that could not be destroyed has a mark beside them: since when, why, and how often it was tried. It
rests until its pause is over.
"""

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Tuple

from vmss.core.datetimes import format_datetime, parse_reading
from vmss.core.records import Pool
from vmss.core.text import is_uuid, one_line
from vmss.edges.xapi import MISREAD, Xapi

if TYPE_CHECKING:
    from vmss.core.left_over import Entry, Stuck

PREFIX = "vmss-destroying:"
# The keys of the list of what else is left over (passes/left_over.py), which an idle tick does not read.
LEFT_OVER = "vmss-left-over:"

# The pool's record is read at every tick, by other clients too; and a quote takes six bytes in XML.
_ENTRY_BYTES_MAX = 30000
# Upper limits on the texts of an error in a mark.
_ERROR_ITEMS, _ERROR_LENGTH = 4, 150

Entries = Dict[str, List[str]]


class Journal:
    """The entries of this pass, and those that earlier ones left.

    `resting` are those of which the pause is not over, by key. With `at_once` no entry rests.
    """

    def __init__(self, xapi: Xapi, pool: Pool, now: datetime, at_once: bool = False) -> None:
        self._xapi = xapi
        self._pool = pool
        self._leftovers: List[Tuple[str, Optional[Entry]]] = []
        self.resting: Dict[str, Entry] = {}
        self._written = 0
        for key, entry in read(pool.other_config):
            if entry is None or entry.stuck is None or at_once or entry.stuck.is_ripe(now):
                self._leftovers.append((key, entry))
            else:
                self.resting[key] = entry

    @property
    def has_leftovers(self) -> bool:
        """Whether earlier passes left entries that `leftovers` has not returned yet, and that do not rest."""
        return bool(self._leftovers)

    def leftovers(self) -> "List[Tuple[str, Optional[Entry]]]":
        """The entries that earlier passes left and that do not rest, by key; None for what is no entry. Each is
        returned once."""
        leftovers, self._leftovers = self._leftovers, []
        return leftovers

    def write(self, entries: Entries, stuck: "Optional[Stuck]" = None) -> List[str]:
        """Record what is to be destroyed, or could not be; return the keys of the new entries."""
        from vmss.core.left_over import Entry  # not needed by an idle tick

        keys = []
        for part in _parts(entries):
            entry = Entry(part, stuck)
            keys.append(self._write(entry))
            if stuck is not None:
                self.resting[keys[-1]] = entry
        return keys

    def add_leftovers(self, entries: Entries) -> None:
        """Record deletions that this pass is to carry out as if an earlier one had left them over."""
        from vmss.core.left_over import Entry  # not needed by an idle tick

        self._leftovers += [(self._write(Entry(part)), Entry(part)) for part in _parts(entries)]

    def remove(self, key: str) -> None:
        """Remove an entry: everything in it is gone, or listed in another."""
        self._xapi.call("pool.remove_from_other_config", self._pool.ref, key)

    def _write(self, entry: "Entry") -> str:
        # A name that no other pass can have chosen, so that no existing key is in the way.
        self._written += 1
        key = "%s%d-%s-%d" % (PREFIX, os.getpid(), os.urandom(4).hex(), self._written)
        self._xapi.call("pool.add_to_other_config", self._pool.ref, key, record(entry.disks, entry.stuck))
        return key


def read(other_config: Mapping[str, str]) -> "List[Tuple[str, Optional[Entry]]]":
    """The entries in pool.other_config, by key; None for what is no entry."""
    return [(key, _parse(text)) for key, text in sorted(other_config.items()) if key.startswith(PREFIX)]


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


def record(entries: Entries, stuck: "Optional[Stuck]" = None) -> str:
    """The value of an entry."""
    value: Dict[str, Any] = {"destroying": entries}
    if stuck is not None:
        value["stuck"] = written(stuck)
    return json.dumps(value, separators=(",", ":"))


def _parse(text: str) -> "Optional[Entry]":
    """The value of an entry, read; None if it is none."""
    from vmss.core.left_over import Entry  # not needed by an idle tick

    try:
        value = json.loads(text)
        # The first version wrote them without a name, another one with a seal beside them.
        entries = value.get("destroying", value)
        if all(is_uuid(snapshot) and all(map(is_uuid, disks)) for snapshot, disks in entries.items()):
            disks = {str(snapshot): list(disks) for snapshot, disks in entries.items()}
            return Entry(disks, parse_stuck(value.get("stuck")))
    except MISREAD:
        pass
    return None


# The form of a mark


def written(stuck: "Stuck") -> Dict[str, Any]:
    """A mark, as `parse_stuck` reads it back; its size is bounded."""
    return {
        "since": format_datetime(stuck.since),
        "tried": format_datetime(stuck.tried),
        "tries": stuck.tries,
        "error": [one_line(item, _ERROR_LENGTH) for item in stuck.error[:_ERROR_ITEMS]],
    }


def parse_stuck(value: Any) -> "Optional[Stuck]":
    """A mark as `written` gives it; None for anything else: what has no mark is tried at once."""
    from vmss.core.left_over import Stuck  # not needed by an idle tick

    try:
        if not isinstance(value["tries"], int) or not isinstance(value["error"], list):
            return None
        error = tuple(one_line(str(item), _ERROR_LENGTH) for item in value["error"][:_ERROR_ITEMS])
        return Stuck(parse_reading(value["since"]), parse_reading(value["tried"]), value["tries"], error)
    except MISREAD:
        return None
