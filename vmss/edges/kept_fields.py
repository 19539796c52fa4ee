"""Fields of VMs and snapshots that never change: each is asked for once, and kept beside the lock.

A snapshot's record is 12 kB on the wire, so of many snapshots this one field is read, in a call for each.
"""

from contextlib import suppress
from datetime import datetime
from typing import Any, Dict, Iterable, Optional

from vmss.core.datetimes import parse_datetime
from vmss.core.records import TAKING
from vmss.edges.lock import LockDirectory
from vmss.edges.xapi import MISREAD, Refused, Xapi, understood

_SCHEDULED = '(field "is_a_snapshot" = "true") and (field "is_vmss_snapshot" = "true")'
# A map is stored as an S-expression, and this is the empty one.
_AT_REST = 'field "current_operations" = "()"'
# What is kept beside the lock is read to 1 MiB: 15,000 fields. So many files are enough for a large pool.
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


class KeptFields:
    """The uuids of VMs and the times of snapshots, by references. `directory` has those that are known from earlier, if
    there is one."""

    def __init__(self, xapi: Xapi, pool: str, directory: Optional[LockDirectory] = None) -> None:
        self._xapi = xapi
        self._pool = pool
        self._kept: Dict[int, Dict[str, Any]] = {part: {} for part in range(_PARTS)}
        if directory is not None:
            self._kept = {part: directory.read(self._name(part)) for part in range(_PARTS)}
        self._used: Dict[int, Dict[str, str]] = {part: {} for part in range(_PARTS)}

    def uuid(self, vm: str) -> str:
        """The uuid of a VM. Raise Refused if it is gone."""
        return self._field("VM.get_uuid", vm)

    def time(self, snapshot: str) -> Optional[datetime]:
        """The time of a snapshot; None if it is gone, or has none."""
        with suppress(Refused, *MISREAD):
            return parse_datetime(self._field("VM.get_snapshot_time", snapshot))
        return None

    def keep(self, directory: LockDirectory) -> None:
        """Keep what was asked for, for the next time, and nothing else: the rest is gone. Raise LockError."""
        for part, fields in self._used.items():
            if fields != self._kept[part]:
                directory.keep(self._name(part), fields)

    def _field(self, method: str, ref: str) -> str:
        part = ord(ref[-1:] or "0") % _PARTS
        text = self._kept[part].get(ref)
        if not isinstance(text, str):
            text = str(self._xapi.call(method, ref))
        self._used[part][ref] = text
        return text

    def _name(self, part: int) -> str:
        return "%s.fields-%x" % (self._pool, part)
