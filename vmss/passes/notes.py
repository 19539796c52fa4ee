"""Notes about snapshots that were started, in case xapi dies and loses what it knows of them.

They are in a file beside the lock, which costs no call and is gone with the memory of the host. What is left of them
when a pass ends is in the pool's database too, for a host that is started anew, or another coordinator. Of a pass that
dies with its host only its sign (passes/at_work.py) is left, which tells since when it was at work.
"""

import json
from collections import OrderedDict
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from vmss.core.datetimes import format_datetime, parse_reading
from vmss.core.outcome import DOES_NOT_COUNT, RESULT_LOST, TIMED_OUT, Outcome
from vmss.core.records import BEGUN, NULL, Pool
from vmss.core.text import is_uuid
from vmss.edges.json_text import json_object
from vmss.edges.lock import LockDirectory
from vmss.edges.lock_folder import LockError
from vmss.edges.log import Log
from vmss.edges.query import where
from vmss.edges.xapi import MISREAD, Misunderstood, Refused, Unanswered, Xapi

# xapi writes its database every five minutes: what ended before that can no longer be lost
# (docs/xapi-facts.md, When xapi writes its database).
_WRITTEN_AFTER = timedelta(minutes=10)
# Upper limit on the finished snapshots in the notes; the newest stay. The file is written anew for every snapshot, so
# what stays as it was is kept as text.
_FINISHED_MAX = 1000
# Upper limit on the snapshots in the pool's database; the newest stay. The pool's record is read at every tick.
_SHARED_MAX = 100
# The disks of new snapshots are read together, in one call: when there are this many snapshots, or the first of them is
# this old. A pass that is shorter makes no call, because it ends by having xapi write its database.
_READ_TOGETHER = 50
_READ_AFTER = timedelta(seconds=60)
# Errors after which the snapshot may be under way all the same, or have left something.
_UNDECIDED = (TIMED_OUT, RESULT_LOST, *DOES_NOT_COUNT)
# The error after which nobody tidies up what the snapshot left.
_HOST_LOST = "CANNOT_CONTACT_HOST"


class Attempt(NamedTuple):
    """A snapshot that was started: the uuid of the VM, the start, the end if the snapshot was read back, and the number
    of disks that the VM had.

    `cancelled`: it reached its limit, and xapi was told to cancel it: then xapi destroys the disks that were done, if
    their storage lets it. `until` is the latest time at which it can have made disks. It is known after the first
    search for orphans, or when the host was lost.

    Without a VM: whatever a pass has started that began at `since`, and of which nothing else is known.
    """

    vm: str
    since: datetime
    ended: Optional[datetime] = None
    until: Optional[datetime] = None
    disks: Optional[int] = None
    cancelled: bool = False


class Notes:
    """The attempts of this pass, and of earlier ones that did not come to their end, on whichever host.

    `earlier` are the attempts of earlier passes; `disks` the disks that those passes saw on new snapshots, by the uuid
    of the VM and the reference of the snapshot. `begun` are the VMs of attempts that had not ended as this pass began,
    and the number of disks of each, if it is known: if one has a snapshot of its slot, that was not read back.
    """

    def __init__(self, directory: LockDirectory, pool: Pool, log: Log) -> None:
        self._directory = directory
        self._name = pool.uuid + ".taking"
        self._log = log
        kept = directory.read(self._name)
        self.earlier = _attempts(kept)
        self._shared = pool.other_config.get(BEGUN)
        known = {(attempt.vm, attempt.since) for attempt in self.earlier}
        shared = _attempts(json_object((self._shared or "").encode("utf-8", "replace")))
        self.earlier += [it for it in shared if (it.vm, it.since) not in known]
        self.begun = {attempt.vm: attempt.disks for attempt in self.earlier if attempt.vm and attempt.ended is None}
        self.disks = _disks(kept)
        self._disks_text = _disk_texts(self.disks)
        self._mine: Dict[str, Attempt] = {}  # by VM
        self._mine_text: Dict[str, str] = {}
        self._finished: OrderedDict[str, datetime] = OrderedDict()  # the VMs of those that ended well, oldest first
        self._seen: Dict[str, Dict[str, List[str]]] = {}  # like `disks`
        self._seen_text: Dict[str, str] = {}
        self._unread: Dict[str, str] = {}  # VMs, by new snapshots whose disks were not read yet
        self._full = False
        self._earlier_text = lru_cache(maxsize=2 * _FINISHED_MAX)(_attempt_text)

    def adopt(self, vms: Sequence[str], since: datetime) -> None:
        """A pass that was at work since then has died, and its notes with it: it may have begun a snapshot of each of
        these VMs, whose uuids are given."""
        self.earlier.append(Attempt("", since))
        self.begun.update((vm, None) for vm in vms if vm not in self.begun)
        self.keep()

    def share(self, xapi: Xapi, pool: Pool) -> None:
        """At the end of a pass: write into the pool's database what is left of the notes."""
        left = sorted(self.earlier + list(self._mine.values()), key=lambda it: it.since)[-_SHARED_MAX:]
        text = json.dumps({"operations": [_written(it) for it in left]}, separators=(",", ":")) if left else None
        if text == self._shared:
            return
        with suppress(Refused, Unanswered):  # the file has them, and the next pass tries again
            xapi.call("pool.remove_from_other_config", pool.ref, BEGUN)  # also what another pass wrote meanwhile
            if text is not None:
                xapi.call("pool.add_to_other_config", pool.ref, BEGUN, text)
            self._shared = text

    def began(self, vm: str, now: datetime, disks: int) -> None:
        """A snapshot of a VM that has so many disks is about to be started."""
        while self._finished:
            oldest, ended = next(iter(self._finished.items()))
            if len(self._finished) <= _FINISHED_MAX and ended >= now - _WRITTEN_AFTER:
                break
            self._forget(oldest)
        if vm in self._mine and self._mine[vm].ended is None:
            self.earlier.append(self._mine[vm])  # this one does not undo what that may have left
        self._note(Attempt(vm, now.replace(microsecond=0), disks=disks))
        self.keep()

    def ended(self, vm: str, now: datetime, outcome: Outcome) -> None:
        """The snapshot of a VM has ended, or was given up."""
        code = outcome.error[0] if outcome.error else ""
        if vm not in self._mine:
            return
        if code == TIMED_OUT:
            self._note(self._mine[vm]._replace(cancelled=True))
        elif code in _UNDECIDED:
            return
        elif code == _HOST_LOST:
            self._note(self._mine[vm]._replace(until=now))
        elif code:
            self._forget(vm)
        else:
            self._note(self._mine[vm]._replace(ended=now))
            self._finished[vm] = now
            self._unread[outcome.value] = vm

    def read_disks(self, xapi: Xapi, now: datetime) -> None:
        """Read the disks of new snapshots, if there are enough of them to be worth a call."""
        ends = (self._mine[vm].ended or now for vm in self._unread.values())
        if len(self._unread) < _READ_TOGETHER and now - min(ends, default=now) < _READ_AFTER:
            return
        unread = dict(list(self._unread.items())[:_READ_TOGETHER])
        self._unread = {snapshot: vm for snapshot, vm in self._unread.items() if snapshot not in unread}
        with suppress(Refused, Misunderstood, *MISREAD):
            for _, record in where(xapi, "VBD", "VM", unread):
                snapshot = str(record["VM"])
                if snapshot in unread and record["type"] != "CD" and record["VDI"] != NULL:
                    disks = self._seen.setdefault(unread[snapshot], {}).setdefault(snapshot, [])
                    disks.append(str(record["VDI"]))
        self._seen_text.update(_disk_texts({vm: self._seen[vm] for vm in unread.values() if vm in self._seen}))
        self.keep()

    def database_written(self) -> None:
        """xapi has written its database: snapshots that ended can no longer be lost."""
        for vm in list(self._finished):
            self._forget(vm)
        self.keep()

    def searched(self, again: Sequence[Attempt]) -> None:
        """The orphans of earlier attempts were searched for; those of `again` are to be searched for once more."""
        self.earlier = list(again)
        vms = {attempt.vm for attempt in again if attempt.until is None}
        self.disks = {vm: disks for vm, disks in self.disks.items() if vm in vms}
        self._disks_text = _disk_texts(self.disks)
        self.keep()

    def _note(self, attempt: Attempt) -> None:
        self._mine[attempt.vm] = attempt
        self._mine_text[attempt.vm] = _attempt_text(attempt)
        self._finished.pop(attempt.vm, None)

    def _forget(self, vm: str) -> None:
        for noted in (self._mine, self._mine_text, self._finished, self._seen, self._seen_text):
            noted.pop(vm, None)
        self._unread = {snapshot: of for snapshot, of in self._unread.items() if of != vm}

    def keep(self) -> None:
        """Write them, also where somebody has removed what was written before."""
        attempts = [*map(self._earlier_text, self.earlier), *self._mine_text.values()]
        disks = {**self._disks_text, **self._seen_text}.values()
        text = '{"operations": [%s], "disks": {%s}}' % (", ".join(attempts), ", ".join(disks))
        try:
            self._directory.keep_text(self._name, text if attempts else "")
        except LockError as error:  # a full disk: then nothing is searched for
            if not self._full:
                self._log(str(error))
            self._full = True


def lost_name(snapshot: str) -> str:
    """Given the reference of a snapshot whose record was lost, return its name for people: the uuid in it."""
    return snapshot[len("OpaqueRef:") :]


# The form of the file, and of the text in the pool's database


def _attempts(kept: Mapping[str, Any]) -> List[Attempt]:
    items = kept.get("operations")
    return [it for it in map(_attempt, items if isinstance(items, list) else []) if it is not None]


def _written(attempt: Attempt) -> Dict[str, str]:
    times = (("since", attempt.since), ("ended", attempt.ended), ("until", attempt.until))
    value = {name: format_datetime(time) for name, time in times if time is not None}
    if attempt.disks is not None:
        value["disks"] = str(attempt.disks)
    if attempt.cancelled:
        value["cancelled"] = "true"
    return dict(value, vm=attempt.vm)


def _attempt_text(attempt: Attempt) -> str:
    return json.dumps(_written(attempt))


def _attempt(value: Any) -> Optional[Attempt]:
    """An attempt as `_written` gives it; None for anything else."""
    if not isinstance(value, Mapping) or not (value.get("vm") == "" or is_uuid(value.get("vm"))):
        return None
    try:
        ended, until = (parse_reading(value[name]) if name in value else None for name in ("ended", "until"))
        disks = int(value["disks"]) if "disks" in value else None
        cancelled = value.get("cancelled") == "true"
        return Attempt(value["vm"], parse_reading(value.get("since")), ended, until, disks, cancelled)
    except MISREAD:
        return None


def _disk_texts(by_vm: Mapping[str, Mapping[str, Sequence[str]]]) -> Dict[str, str]:
    return {vm: "%s: %s" % (json.dumps(vm), json.dumps(disks)) for vm, disks in by_vm.items()}


def _disks(kept: Mapping[str, Any]) -> Dict[str, Dict[str, List[str]]]:
    by_vm = kept.get("disks")
    return {
        vm: {
            snapshot: [disk for disk in disks if isinstance(disk, str)]
            for snapshot, disks in snapshots.items()
            if is_uuid(lost_name(snapshot)) and isinstance(disks, list)
        }
        for vm, snapshots in (by_vm.items() if isinstance(by_vm, dict) else ())
        if isinstance(snapshots, dict)
    }
