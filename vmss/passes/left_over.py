"""The list of what is left over, which passes, alerts, `vmss status` and `vmss doctor` read: kept until it is gone.

Disks of deleted snapshots are in the journal. The others, which no journal has, are in keys `vmss-left-over:…` of
pool.other_config, where a killed pass and another coordinator find them: expired snapshots that could not be deleted,
and disks that a dying xapi may have left. Nothing is destroyed because it is in this list.
"""

import json
import os
from datetime import datetime
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set

from vmss.core.left_over import DISK, MEMORY, NAMELESS, SNAPSHOT, SUSPECT, Entry, Item, Stuck, sentences, stuck
from vmss.core.outcome import Error
from vmss.core.records import Pool
from vmss.core.text import is_uuid
from vmss.edges.query import where
from vmss.edges.storage import memory_in_use
from vmss.edges.xapi import Misunderstood, Refused, Xapi, understood
from vmss.passes import journal
from vmss.passes.journal import LEFT_OVER, Journal, parse_stuck, written

# A disk with this key in other_config belongs to somebody, as an administrator has found out.
KEEP_KEY = "vmss-keep"

# The pool's record is read at every tick, by other clients too. Beyond this, the newest items are not kept.
_BYTES_MAX = 30000


class LeftOver:
    """The list, as one pass reads and changes it. With `at_once` no snapshot rests."""

    def __init__(self, xapi: Xapi, pool: Pool, entries: Journal, at_once: bool = False) -> None:
        self._xapi = xapi
        self._pool = pool
        self._journal = entries
        self._at_once = at_once
        self._keys = [key for key in pool.other_config if key.startswith(LEFT_OVER)]
        self._items = {item.uuid: item for item in _kept(pool.other_config)}
        self._changed = False
        self._tried: Set[str] = set()  # snapshots that this pass has tried, or will try
        self._missing: Set[str] = set()  # what `refresh` has not found
        self._number = 0

    # Snapshots that could not be deleted

    def rests(self, snapshot: str, now: datetime) -> bool:
        """Whether it is too early to try again to delete a snapshot."""
        item = self._items.get(snapshot)
        return item is not None and not self._at_once and not item.stuck.is_ripe(now)

    def has_ripe(self, now: datetime) -> bool:
        """Whether `ripe` would return any."""
        return bool(self._ripe(now))

    def ripe(self, now: datetime) -> List[Item]:
        """The snapshots of which the pause is over. Each is returned once."""
        found = self._ripe(now)
        self._tried.update(item.uuid for item in found)
        return found

    def _ripe(self, now: datetime) -> List[Item]:
        return [
            item
            for item in self._items.values()
            if item.kind == SNAPSHOT and item.uuid not in self._tried and not self.rests(item.uuid, now)
        ]

    def not_deleted(self, snapshot: str, vm: str, error: Error, now: datetime) -> None:
        """A snapshot of a VM could not be deleted."""
        old = self._items.get(snapshot)
        mark = stuck(error, now) if old is None else old.stuck.again(error, now)
        self._items[snapshot] = Item(SNAPSHOT, snapshot, vm, mark)
        self._tried.add(snapshot)
        self._changed = True

    def gone(self, uuid: str) -> None:
        """Something is gone, or is not to go any more."""
        self._changed = self._items.pop(uuid, None) is not None or self._changed

    # Disks that may have been left

    def found(self, kind: str, disk: str, vm: str, now: datetime) -> None:
        """A disk was found, which is SUSPECT, NAMELESS or MEMORY, and of this VM, if that is known."""
        if disk not in self._items:
            self._items[disk] = Item(kind, disk, vm, Stuck(now, now, 0, ()))
            self._changed = True

    # The whole

    def refresh(self) -> None:
        """Look what of it is still there, and drop the rest. If xapi does not tell, all of it stays."""
        items = self.items()
        try:
            there = still_there(self._xapi, items)
        except (Refused, Misunderstood):
            return
        self._missing = {item.uuid for item in items} - {item.uuid for item in there}
        for uuid in self._missing:
            self.gone(uuid)

    def items(self) -> List[Item]:
        """All that is left over, the journal's disks included, as far as it is known to be there."""
        items = list(_of_journal(self._journal.resting.values())) + list(self._items.values())
        return [item for item in items if item.uuid not in self._missing]

    def sentences(self) -> str:
        """What an alert says about it."""
        return sentences(self.items())

    def save(self) -> None:
        """Write the list, if it was changed."""
        if not self._changed:
            return
        self._changed = False
        old, self._keys = self._keys, []
        if self._items:
            self._number += 1
            key = "%s%d-%s-%d" % (LEFT_OVER, os.getpid(), os.urandom(4).hex(), self._number)
            self._xapi.call("pool.add_to_other_config", self._pool.ref, key, _text(self._items.values()))
            self._keys = [key]
        for key in old:  # last, because a killed pass should rather leave two lists than none
            self._xapi.call("pool.remove_from_other_config", self._pool.ref, key)


# For all who read it


def read(other_config: Mapping[str, str]) -> List[Item]:
    """What pool.other_config says is left over."""
    entries = [entry for _, entry in journal.read(other_config) if entry is not None]
    return list(_of_journal(entries)) + list(_kept(other_config))


def still_there(xapi: Xapi, items: Sequence[Item]) -> List[Item]:
    """Those of these items that are still there and left over: no VM has got the disk, nobody has pinned the snapshot.

    One query for 50 of them, and for memory one more; none if there is none. Raise Refused or Misunderstood.
    """
    found: Set[str] = set()
    memory: Dict[str, str] = {}  # uuids by reference
    for cls, is_left in (("VDI", _is_left_disk), ("VM", _is_left_snapshot)):
        wanted = {item.uuid: item for item in items if (item.kind == SNAPSHOT) == (cls == "VM")}
        with understood(cls):
            for ref, record in where(xapi, cls, "uuid", sorted(wanted)):
                if record["uuid"] in wanted and is_left(wanted[record["uuid"]], record):
                    found.add(record["uuid"])
                    if wanted[record["uuid"]].kind == MEMORY:
                        memory[ref] = record["uuid"]
    with understood("VM"):
        found -= {memory[ref] for ref in memory_in_use(xapi, sorted(memory)) if ref in memory}
    return [item for item in items if item.uuid in found]


def _is_left_disk(item: Item, record: Mapping[str, Any]) -> bool:
    if record["VBDs"] != []:
        return False
    if item.kind == DISK:
        return True
    # Somebody has given it a name, or says that it is his.
    return KEEP_KEY not in record["other_config"] and not (item.kind == NAMELESS and record["name_label"])


def _is_left_snapshot(item: Item, record: Mapping[str, Any]) -> bool:
    return "destroy" not in record["blocked_operations"]


def _of_journal(entries: Iterable[Entry]) -> Iterator[Item]:
    """The disks that could not be destroyed."""
    for entry in entries:
        if entry.stuck is not None:
            for snapshot, disks in entry.disks.items():
                for disk in disks:
                    yield Item(DISK, disk, snapshot, entry.stuck)


# The form of the list


def _text(items: Iterable[Item]) -> str:
    texts: List[str] = []
    size = 0
    for item in sorted(items, key=lambda item: (item.stuck.since, item.uuid)):
        value = dict(written(item.stuck), kind=item.kind, uuid=item.uuid, of=item.of)
        texts.append(json.dumps(value, separators=(",", ":"), sort_keys=True))
        size += len(texts[-1]) + 1
        if size > _BYTES_MAX:
            break
    return "[%s]" % ",".join(texts)


def _kept(other_config: Mapping[str, str]) -> Iterator[Item]:
    """The items that stand in the list; what is none is left out."""
    for key, text in sorted(other_config.items()):
        if key.startswith(LEFT_OVER):
            try:
                values = json.loads(text)
            except (ValueError, RecursionError):
                continue
            for item in map(_item, values if isinstance(values, list) else ()):
                if item is not None:
                    yield item


def _item(value: Any) -> Optional[Item]:
    mark = parse_stuck(value)
    if mark is None or value.get("kind") not in (SNAPSHOT, SUSPECT, NAMELESS, MEMORY) or not is_uuid(value.get("uuid")):
        return None
    return Item(value["kind"], value["uuid"], value["of"] if is_uuid(value.get("of")) else "", mark)
