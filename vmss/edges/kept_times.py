"""The times of scheduled snapshots, which never change: each is asked for once, and kept beside the lock."""

from contextlib import suppress
from datetime import datetime
from typing import AbstractSet, Any, Dict, Iterable, List, Mapping, Optional

from vmss.core.datetimes import parse_datetime
from vmss.core.records import TAKING
from vmss.edges.lock import LockDirectory
from vmss.edges.members import AT_REST, SCHEDULED
from vmss.edges.query import field_of_each, naming_pays, where
from vmss.edges.xapi import MISREAD, Refused, Xapi, understood

# What is kept beside the lock is read to 1 MiB: 15,000 times. So many files are enough for a large pool.
_PARTS = 16


def finished(xapi: Xapi) -> Iterable[str]:
    """The references of all scheduled snapshots, without checkpoints in the making, which may yet fail."""
    with understood("VM"):
        yield from xapi.refs("VM", "(%s) and (%s)" % (SCHEDULED, AT_REST))
        others = xapi.refs("VM", "(%s) and (not (%s))" % (SCHEDULED, AT_REST))
    for ref in others:
        with suppress(Refused):  # it is gone
            if not TAKING.intersection(xapi.call("VM.get_current_operations", ref).values()):
                yield str(ref)


class KeptTimes:
    """The times of snapshots, by references. `directory` has those that are known from earlier, if there is one."""

    def __init__(self, xapi: Xapi, pool: str, directory: Optional[LockDirectory] = None) -> None:
        self._xapi = xapi
        self._pool = pool
        self._kept: Dict[int, Dict[str, Any]] = {part: {} for part in range(_PARTS)}
        if directory is not None:
            self._kept = {part: directory.read(self._name(part)) for part in range(_PARTS)}
        self._used: Dict[int, Dict[str, str]] = {part: {} for part in range(_PARTS)}

    def read(self, snapshots: Mapping[str, AbstractSet[str]]) -> Dict[str, datetime]:
        """The times of snapshots, which are given by their VMs; without those that are gone, or have none."""
        times: Dict[str, datetime] = {}
        together: List[str] = []  # VMs whose snapshots are asked for with one name
        rows = sum(map(len, snapshots.values()))
        for vm, refs in snapshots.items():
            for ref in refs:
                text = self._kept[_part(ref)].get(ref)
                if isinstance(text, str):
                    self._use(times, ref, text)
            if naming_pays(self._xapi, rows, len(refs), sum(ref not in times for ref in refs)):
                together.append(vm)
        wanted = {ref for refs in snapshots.values() for ref in refs}
        with understood("VM"):
            for ref, record in where(self._xapi, "VM", "snapshot_of", together, SCHEDULED):
                if ref in wanted:
                    self._use(times, ref, record["snapshot_time"])
            for ref, time in field_of_each(self._xapi, "VM", sorted(wanted.difference(times)), "snapshot_time", rows):
                self._use(times, ref, time)
        return times

    def keep(self, directory: LockDirectory) -> None:
        """Keep what was asked for, for the next time, and nothing else: the rest is gone. Raise LockError."""
        for part, times in self._used.items():
            if times != self._kept[part]:
                directory.keep(self._name(part), times)

    def _use(self, times: Dict[str, datetime], ref: str, text: Any) -> None:
        with suppress(*MISREAD):
            times[ref] = parse_datetime(text)
            self._used[_part(ref)][ref] = str(text)

    def _name(self, part: int) -> str:
        return "%s.fields-%x" % (self._pool, part)


def _part(ref: str) -> int:
    return ord(ref[-1:] or "0") % _PARTS
