"""The times of scheduled snapshots, which never change: each is asked for once, and kept beside the lock.

A snapshot's record is 12 kB on the wire, so of many snapshots this field alone is read, in a call for each.
"""

from contextlib import suppress
from datetime import datetime
from typing import Any, Dict, Iterable, Optional, Sequence

from vmss.core.datetimes import format_datetime, parse_datetime
from vmss.core.records import TAKING
from vmss.edges.lock import LockDirectory
from vmss.edges.xapi import MISREAD, Refused, Xapi, understood

_SCHEDULED = '(field "is_a_snapshot" = "true") and (field "is_vmss_snapshot" = "true")'
# A map is stored as an S-expression, and this is the empty one.
_AT_REST = 'field "current_operations" = "()"'
# What is kept beside the lock is read to 1 MiB: 15,000 times. So many files are enough for each VM of a large pool.
_PARTS = 16


def finished(xapi: Xapi) -> Iterable[str]:
    """The references of all scheduled snapshots, without checkpoints in the making, which may yet fail."""
    with understood("VM"):
        yield from map(str, xapi.call("VM.get_all_where", "(%s) and (%s)" % (_SCHEDULED, _AT_REST)))
        others = xapi.call("VM.get_all_where", "(%s) and (not (%s))" % (_SCHEDULED, _AT_REST))
    for ref in others:
        with suppress(Refused):  # it is gone
            if not TAKING.intersection(xapi.call("VM.get_current_operations", ref).values()):
                yield str(ref)


class SnapshotTimes:
    """The times of snapshots, by their references. `directory` has those that are known from earlier, if there is
    one."""

    def __init__(self, xapi: Xapi, pool: str, directory: Optional[LockDirectory] = None) -> None:
        self._xapi = xapi
        self._pool = pool
        self._kept: Dict[int, Dict[str, Any]] = {part: {} for part in range(_PARTS)}
        if directory is not None:
            self._kept = {part: directory.read(self._name(part)) for part in range(_PARTS)}
        self._new: Dict[str, str] = {}

    def of(self, ref: str) -> Optional[datetime]:
        """The time of a snapshot; None if it is gone, or has none."""
        with suppress(Refused, *MISREAD):
            text = self._kept[_part(ref)].get(ref)
            if text is not None:
                return parse_datetime(text)
            time = parse_datetime(self._xapi.call("VM.get_snapshot_time", ref))
            self._new[ref] = format_datetime(time)
            return time
        return None

    def keep(self, directory: LockDirectory, there: Sequence[str]) -> None:
        """Keep the times of the snapshots that are there, for the next time. Raise LockError."""
        of: Dict[int, Dict[str, str]] = {part: {} for part in range(_PARTS)}
        for ref in there:
            time = self._new.get(ref) or self._kept[_part(ref)].get(ref)
            if time is not None:
                of[_part(ref)][ref] = time
        for part, times in of.items():
            if times != self._kept[part]:
                directory.keep(self._name(part), times)

    def _name(self, part: int) -> str:
        return "%s.times-%x" % (self._pool, part)


def _part(ref: str) -> int:
    return ord(ref[-1:] or "0") % _PARTS
