"""Disks that a dying xapi left without a snapshot: found, reported, and deleted where they are proven to be ours.

When xapi dies between the disks of a snapshot and the record that would own them, the disks stay. By its record such
a disk cannot be told from one that another product has made with VDI.snapshot: both name their source, bear its name
and have no VM. So the record alone proves nothing. What proves a disk ours is that we saw it on a scheduled snapshot
whose record xapi has lost since. All others are only reported.

What was under way is noted beside the lock (a file, no call). As long as no pass left a note, nothing is looked for.
"""

from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core.datetimes import EPOCH, format_datetime, parse_datetime, parse_reading
from vmss.core.outcome import RESULT_LOST, TIMED_OUT, Outcome
from vmss.core.records import NULL, TAKING
from vmss.core.text import is_uuid, one_line
from vmss.edges import world
from vmss.edges.lock import LockDirectory, LockError
from vmss.edges.log import Log
from vmss.edges.world import where
from vmss.edges.xapi import MISREAD, Misunderstood, Refused, Xapi
from vmss.passes.journal import Entries, Journal

OURS = "ours"  # we saw it on a scheduled snapshot that is no more
SUSPECT = "suspect"  # a snapshot made while an operation of ours was under way, and no VM has it
NAMELESS = "nameless"  # what a scan makes of a disk whose record was lost

# xapi writes its database every five minutes: what ended longer ago than this is in it.
_WRITTEN_AFTER = timedelta(minutes=10)
# Finished snapshots that are noted at most, the newest: a note is a file that is written anew each time.
_NOTED_MAX = 1000
# Disks whose records were lost come back when somebody scans their SR: the second look.
_SECOND_LOOK_AFTER = timedelta(days=1)
# The disks of new snapshots are read when there are so many of them, or the pass goes on for so long: it is one call
# for all of them. A short pass makes none, and has xapi write its database at the end.
_SEEN_TOGETHER = 50
_SEEN_AFTER = timedelta(seconds=60)
# How many an alert names.
_DISKS_NAMED = 10

# The host that made a disk dates it, ours the operation.
_CLOCKS_DIFFER = timedelta(seconds=60)
# Errors after which an operation may be under way all the same; and after which nobody has tidied up behind it.
_UNKNOWN = (TIMED_OUT, RESULT_LOST)
_HOST_LOST = "CANNOT_CONTACT_HOST"

_TYPES = ("user", "system")


class Operation(NamedTuple):
    """A snapshot of ours that was begun: of which VM, by its uuid, and when; when it ended, if we know; and until when
    it can have made disks, which is known once it was looked for, or its host was lost."""

    vm: str
    since: datetime
    ended: Optional[datetime] = None
    until: Optional[datetime] = None


class Candidate(NamedTuple):
    """A disk that may have been left: a VDI; `of` is the reference of its source."""

    ref: str
    uuid: str
    sr: str
    of: str
    name: str
    type: str
    is_a_snapshot: bool
    managed: bool
    used: bool
    time: datetime
    size: int


class Found(NamedTuple):
    """A disk that was found: why it counts, its uuid and that of its SR, bytes, the VM's uuid (empty if unknown), and
    of one that is ours the reference of the snapshot it was seen on."""

    why: str
    disk: str
    sr: str
    size: int
    vm: str = ""
    snapshot: str = ""

    @property
    def line(self) -> str:
        """What the log says of it."""
        which = "Disk %s on SR %s (%d MiB)" % (self.disk, self.sr, self.size >> 20)
        if self.why == OURS:
            return "%s is left of scheduled snapshot %s of VM %s, whose record xapi has lost: it is destroyed" % (
                which,
                _key(self.snapshot),
                self.vm,
            )
        if self.why == SUSPECT:
            return "%s is left alone: xapi died while it took a snapshot of VM %s, and may have left it" % (
                which,
                self.vm,
            )
        return "%s is left alone: it has no name and no VM, and a xapi that died may have left it" % which


def judge(disk: Candidate, operation: Operation, seen: bool, restarted: bool) -> str:
    """Given a disk whose source is a disk of the operation's VM, return why it counts as left behind: OURS, SUSPECT, or
    an empty text if it does not. `seen`: it was on a scheduled snapshot of the VM that is gone. `restarted`: it is
    certain that xapi has been since.
    """
    if disk.used or not disk.managed or not disk.is_a_snapshot or disk.type not in _TYPES:
        return ""
    if operation.until is None:
        return ""
    if not operation.since - _CLOCKS_DIFFER <= disk.time <= operation.until + _CLOCKS_DIFFER:
        return ""
    return OURS if seen and restarted else SUSPECT


def is_nameless(disk: Candidate) -> bool:
    """Whether a disk looks like what a scan makes of an image whose record was lost: it says nothing of itself."""
    return (
        not (disk.name or disk.used or disk.is_a_snapshot) and disk.managed and disk.of == NULL and disk.type in _TYPES
    )


class Notes:
    """What passes have begun and xapi may not have written down: of this pass, and of those before it that did not
    come to their end. `left` are the operations of the latter, `disks` of theirs were seen by snapshot."""

    def __init__(self, directory: LockDirectory, pool: str, log: Log) -> None:
        self._directory = directory
        self._name = pool + ".taking"
        self._log = log
        kept = directory.read(self._name)
        self.left = [operation for operation in map(_operation, _items(kept, "operations")) if operation is not None]
        self.disks = _seen(kept)  # by VM and snapshot
        self._mine: Dict[str, Operation] = {}
        self._seen: Dict[str, Dict[str, List[str]]] = {}
        self._unseen: Dict[str, str] = {}  # VMs, by snapshots that have ended and whose disks were not read
        self._full = False

    def began(self, vm: str, now: datetime) -> None:
        """A snapshot of a VM is going to be begun."""
        ended = [old for old in self._mine.values() if old.ended]
        for number, old in enumerate(ended):
            if number < len(ended) - _NOTED_MAX or (old.ended and old.ended < now - _WRITTEN_AFTER):
                self._forget(old.vm)
        self._mine[vm] = Operation(vm, now.replace(microsecond=0))
        self._keep()

    def ended(self, vm: str, now: datetime, outcome: Outcome) -> None:
        """It came to its end, or was given up."""
        code = outcome.error[0] if outcome.error else ""
        if vm not in self._mine or code in _UNKNOWN:
            return
        if code == _HOST_LOST:
            self._mine[vm] = self._mine[vm]._replace(until=now)
        elif code:
            self._forget(vm)
        else:
            self._mine[vm] = self._mine[vm]._replace(ended=now)
            self._unseen[outcome.value] = vm

    def see(self, xapi: Xapi, now: datetime) -> None:
        """Read which disks the new snapshots have, once it is worth a call."""
        ends = (self._mine[vm].ended or now for vm in self._unseen.values())
        if len(self._unseen) < _SEEN_TOGETHER and now - min(ends, default=now) < _SEEN_AFTER:
            return
        unseen = dict(list(self._unseen.items())[:_SEEN_TOGETHER])
        self._unseen = {snapshot: vm for snapshot, vm in self._unseen.items() if snapshot not in unseen}
        with suppress(Refused, Misunderstood, *MISREAD):
            for _, record in where(xapi, "VBD", "VM", unseen):
                snapshot = str(record["VM"])
                if snapshot in unseen and record["type"] != "CD" and record["VDI"] != NULL:
                    disks = self._seen.setdefault(unseen[snapshot], {}).setdefault(snapshot, [])
                    disks.append(str(record["VDI"]))
        self._keep()

    def written(self) -> None:
        """xapi has written its database: what ended can no longer be lost."""
        for operation in [operation for operation in self._mine.values() if operation.ended]:
            self._forget(operation.vm)
        self._keep()

    def looked(self, left: Sequence[Operation]) -> None:
        """What earlier passes have begun was looked for; these are to be looked for again."""
        self.left = list(left)
        vms = {operation.vm for operation in left if operation.until is None}
        self.disks = {vm: seen for vm, seen in self.disks.items() if vm in vms}
        self._keep()

    def _forget(self, vm: str) -> None:
        del self._mine[vm]
        self._seen.pop(vm, None)
        self._unseen = {snapshot: of for snapshot, of in self._unseen.items() if of != vm}

    def _keep(self) -> None:
        operations = self.left + list(self._mine.values())
        value = {"operations": [_written(operation) for operation in operations], "disks": {**self.disks, **self._seen}}
        try:
            self._directory.keep(self._name, value if operations else {})
        except LockError as error:  # a full disk: then nothing is looked for
            if not self._full:
                self._log(str(error))
            self._full = True


def look(
    xapi: Xapi, notes: Notes, journal: Journal, coordinator: str, limit_s: int, now: datetime, log: Log
) -> List[Found]:
    """Look for what the operations of earlier passes have left, and record what is ours to be destroyed by this one.

    Nothing is looked for, and no call made, unless there are such operations and it is time. `limit_s` is the longest
    that an operation of ours takes.
    """
    due = [operation for operation in notes.left if _is_time(operation, now)]
    if not due:
        return []
    again = [operation for operation in notes.left if operation not in due]
    found: List[Found] = []
    try:
        started = _started(xapi, coordinator)
        due = [operation for operation in due if _died(operation, started)]
        bounded = [_bounded(operation, started, limit_s, now) for operation in due]
        found, busy = _find(xapi, bounded, notes.disks, started is not None)
        for one in found:
            log(one.line)
        journal.leave(_proven(found))
        again += [
            old if old.vm in busy else new for old, new in zip(due, bounded) if old.until is None or old.vm in busy
        ]
    except (Refused, Misunderstood) + MISREAD as error:
        log("Disks that a xapi that died has left cannot be looked for: %s" % one_line(str(error), 300))
        again += [operation._replace(until=now) for operation in due if operation.until is None]
    notes.looked(again)
    return found


def summary(found: Sequence[Found]) -> str:
    """A sentence for an alert; empty if there is nothing to tell."""
    disks = [one.disk for one in found if one.why != OURS]
    if not disks:
        return ""
    named = disks[:_DISKS_NAMED] + ["and more"] * (len(disks) > _DISKS_NAMED)
    return " Disks that a xapi that died may have left: %d (%s); see the log." % (len(disks), ", ".join(named))


# Looking


def _is_time(operation: Operation, now: datetime) -> bool:
    return operation.until is None or abs(now - operation.until) >= _SECOND_LOOK_AFTER


def _started(xapi: Xapi, coordinator: str) -> Optional[datetime]:
    """When the coordinator's xapi was started, as it says itself; None if it does not."""
    text = xapi.call("host.get_other_config", coordinator).get("agent_start_time", "")
    try:
        return EPOCH + timedelta(seconds=int(float(text)))
    except (ValueError, OverflowError):
        return None


def _died(operation: Operation, started: Optional[datetime]) -> bool:
    """Whether the xapi that an operation was begun with may be no more."""
    return operation.until is not None or started is None or started >= operation.since


def _bounded(operation: Operation, started: Optional[datetime], limit_s: int, now: datetime) -> Operation:
    """An operation with the time until which it can have made disks."""
    if operation.until is not None:
        return operation
    until = min(now, started or now, operation.ended or now, operation.since + timedelta(seconds=limit_s))
    return operation._replace(until=until)


def _find(
    xapi: Xapi, operations: Sequence[Operation], seen: Mapping[str, Mapping[str, Sequence[str]]], restarted: bool
) -> Tuple[List[Found], Set[str]]:
    """What these operations have left, and the VMs of which that cannot be told yet: a snapshot is being taken."""
    if not operations:
        return [], set()
    vms, busy = _vms(xapi, [operation.vm for operation in operations])
    disks = world.read_disks(xapi, list(vms)).of
    sources = {disk.ref: vms[vm] for vm, mine in disks.items() for disk in mine}
    srs = sorted({disk.sr for mine in disks.values() for disk in mine})
    found: List[Found] = []
    names: Dict[str, str] = {}
    for disk in _candidates(xapi, "snapshot_of", list(sources), 'field "is_a_snapshot" = "true"'):
        vm = sources.get(disk.of, "")
        snapshot = next((ref for ref, refs in seen.get(vm, {}).items() if disk.ref in refs), "")
        is_lost = bool(snapshot) and _is_gone(xapi, snapshot)
        whys = {judge(disk, operation, is_lost, restarted) for operation in operations if operation.vm == vm}
        why = OURS if OURS in whys else SUSPECT if SUSPECT in whys else ""
        if why:
            found.append(Found(why, disk.uuid, _sr(xapi, disk.sr, names), disk.size, vm, snapshot))
    for disk in _candidates(xapi, "SR", srs, '(field "name__label" = "") and (field "is_a_snapshot" = "false")'):
        if disk.sr in srs and is_nameless(disk):
            found.append(Found(NAMELESS, disk.uuid, _sr(xapi, disk.sr, names), disk.size))
    return found, busy


def _proven(found: Sequence[Found]) -> Entries:
    """What of this is ours for certain, for the journal: disks by the snapshot they were on."""
    entries: Entries = {}
    for one in found:
        if one.why == OURS:
            entries.setdefault(_key(one.snapshot), []).append(one.disk)
    return entries


def _key(snapshot: str) -> str:
    """What a snapshot is called whose record is lost: only its reference is known, which has a uuid in it."""
    return snapshot[len("OpaqueRef:") :]


def _vms(xapi: Xapi, uuids: Sequence[str]) -> Tuple[Dict[str, str], Set[str]]:
    """The uuids of these VMs by their references, as far as they are there and no snapshot of them is being taken; and
    those of the ones of which one is."""
    vms, busy = {}, set()
    for ref, record in where(xapi, "VM", "uuid", sorted(set(uuids))):
        if set(record["current_operations"].values()) & TAKING:
            busy.add(str(record["uuid"]))  # its disks have no VM yet
        elif not record["is_a_snapshot"]:
            vms[ref] = str(record["uuid"])
    return vms, busy


def _candidates(xapi: Xapi, field: str, values: Sequence[str], condition: str) -> Iterator[Candidate]:
    # A set is stored as an S-expression, and this is the empty one: what has a VBD need not be sent.
    unused = '(%s) and (field "VBDs" = "()") and (field "managed" = "true")' % condition
    for ref, record in where(xapi, "VDI", field, values, unused):
        try:
            yield _candidate(ref, record)
        except MISREAD:
            continue  # what cannot be understood is nothing that we know


def _candidate(ref: str, record: Mapping[str, Any]) -> Candidate:
    if not is_uuid(record["uuid"]):
        raise ValueError("uuid")
    return Candidate(
        ref=ref,
        uuid=record["uuid"],
        sr=str(record["SR"]),
        of=str(record["snapshot_of"]),
        name=str(record["name_label"]),
        type=str(record["type"]),
        is_a_snapshot=record["is_a_snapshot"] is True,
        managed=record["managed"] is True,
        used=record["VBDs"] != [] or record["current_operations"] != {},
        time=parse_datetime(record["snapshot_time"]),
        size=int(record["virtual_size"]),
    )


def _is_gone(xapi: Xapi, snapshot: str) -> bool:
    try:
        xapi.call("VM.get_uuid", snapshot)
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return True
    return False


def _sr(xapi: Xapi, sr: str, names: Dict[str, str]) -> str:
    if sr not in names:
        try:
            names[sr] = one_line(str(xapi.call("SR.get_uuid", sr)), 100)
        except Refused:
            names[sr] = one_line(sr, 100)
    return names[sr]


# The file


@lru_cache(maxsize=2 * _NOTED_MAX)
def _written(operation: Operation) -> Dict[str, str]:
    times = (("since", operation.since), ("ended", operation.ended), ("until", operation.until))
    value = {name: format_datetime(time) for name, time in times if time is not None}
    return dict(value, vm=operation.vm)


def _operation(value: Any) -> Optional[Operation]:
    """An operation as it was written; None for anything else."""
    if not isinstance(value, Mapping) or not is_uuid(value.get("vm")):
        return None
    try:
        ended, until = (parse_reading(value[name]) if name in value else None for name in ("ended", "until"))
        return Operation(value["vm"], parse_reading(value.get("since")), ended, until)
    except ValueError:
        return None


def _seen(kept: Mapping[str, Any]) -> Dict[str, Dict[str, List[str]]]:
    """The disks of snapshots by VM and snapshot, as they were written."""
    by_vm = kept.get("disks")
    return {
        vm: {
            snapshot: [disk for disk in disks if isinstance(disk, str)]
            for snapshot, disks in snapshots.items()
            if is_uuid(_key(snapshot)) and isinstance(disks, list)
        }
        for vm, snapshots in (by_vm.items() if isinstance(by_vm, dict) else ())
        if isinstance(snapshots, dict)
    }


def _items(kept: Mapping[str, Any], name: str) -> List[Any]:
    items = kept.get(name)
    return items if isinstance(items, list) else []
