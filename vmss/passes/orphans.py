"""Disks that a dying xapi left without a snapshot: found, reported, and deleted where they are proven to be ours.

When xapi dies between the disks of a snapshot and the record that would own them, the disks stay (docs/xapi-facts.md,
Disks that a death leaves behind). So they do when it is told to cancel the snapshot, and cannot destroy those that are
done. By its record such a disk cannot be told from one that another product has made with
VDI.snapshot: both name their source, bear its name and have no VM. So the record alone proves nothing. What proves a
disk ours is that we saw it on a scheduled snapshot whose record xapi has lost since. All others are only reported.

What was under way is noted beside the lock (a file, no call); of a pass that is lost with its host, its sign in the
pool tells. As long as no pass left either, nothing is looked for.
"""

from datetime import datetime, timedelta
from typing import Any, Collection, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core.datetimes import CLOCK_TOLERANCE, EPOCH, parse_datetime
from vmss.core.left_over import MEMORY, NAMELESS, SUSPECT
from vmss.core.records import NULL, TAKING
from vmss.core.text import is_uuid, one_line
from vmss.core.vms import Disk
from vmss.edges import storage
from vmss.edges.query import exists, where
from vmss.edges.scheduled import scheduled_vms
from vmss.edges.xapi import MISREAD, Misunderstood, Refused, Xapi
from vmss.passes.context import Context
from vmss.passes.database import write_database
from vmss.passes.journal import Entries, Journal
from vmss.passes.left_over import LeftOver
from vmss.passes.notes import Attempt, Notes, lost_name

# Why a disk counts as an orphan; one that is SUSPECT, NAMELESS or MEMORY is only reported.
OURS = "ours"  # it was seen on a scheduled snapshot that no longer exists: it is destroyed

_SECOND_SEARCH_AFTER = timedelta(days=1)

_TYPES = ("user", "system")


class Candidate(NamedTuple):
    """A VDI that may be an orphan. `of` is the reference of its source; `size` is in bytes; `parent` is the uuid of its
    base copy."""

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
    parent: str = ""


class Orphan(NamedTuple):
    """A disk without a snapshot: why it counts, the uuids of disk, SR and VM (empty if unknown), the size in bytes; of
    one that is ours, the reference of the snapshot that it was seen on."""

    why: str
    disk: str
    sr: str
    size: int
    vm: str = ""
    snapshot: str = ""

    @property
    def line(self) -> str:
        """The line of the log about it."""
        which = "Disk %s on SR %s (%d MiB)" % (self.disk, self.sr, self.size >> 20)
        if self.why == OURS:
            return "%s is left of scheduled snapshot %s of VM %s, whose record xapi has lost: it is destroyed" % (
                which,
                lost_name(self.snapshot),
                self.vm,
            )
        if self.why == SUSPECT:
            return "%s is left alone: xapi died, or had to give up, in a snapshot of VM %s, and may have left it" % (
                which,
                self.vm,
            )
        if self.why == MEMORY:
            return (
                "%s is left alone: it has the memory of a VM, no suspended VM has it, and a checkpoint may have left it"
                % which
            )
        return "%s is left alone: it has no name and no VM, and a xapi that died may have left it" % which


def judge(disk: Candidate, attempt: Attempt, seen: bool, restarted: bool) -> str:
    """Given a disk whose source is a disk of the attempt's VM, return why it counts as an orphan: OURS, SUSPECT, or an
    empty text if it does not.

    `seen`: it was on a scheduled snapshot of the VM that is gone. `restarted`: it is certain that xapi was restarted
    since.
    """
    if disk.used or not disk.managed or not disk.is_a_snapshot or disk.type not in _TYPES:
        return ""
    if not _is_of(disk, attempt):
        return ""
    return OURS if seen and restarted else SUSPECT


def is_unentered(disk: Candidate, source: Disk, attempt: Attempt) -> bool:
    """Whether a disk that names no source has the form that is left where xapi is stopped in a snapshot of this source:
    the storage has made the record, and xapi has not entered all of it.

    It bears the name of the source, and has its size and its storage. If it is not marked as a snapshot it has no time
    either: then it has to share the base copy with the source, as the disk of a fresh snapshot does.
    """
    if disk.used or not disk.managed or disk.of != NULL or disk.type not in _TYPES or disk.ref == source.ref:
        return False
    if (disk.name, disk.sr, disk.size) != (source.name, source.sr, source.virtual_size):
        return False
    return _is_of(disk, attempt) if disk.is_a_snapshot else bool(disk.parent) and disk.parent == source.parent


def _is_of(disk: Candidate, attempt: Attempt) -> bool:
    """Whether a disk was made during an attempt."""
    if attempt.until is None:
        return False
    return attempt.since - CLOCK_TOLERANCE <= disk.time <= attempt.until + CLOCK_TOLERANCE


def is_nameless(disk: Candidate) -> bool:
    """Whether a disk has the form that a scan gives to an image whose record was lost: no name, no source, no VM."""
    return (
        not (disk.name or disk.used or disk.is_a_snapshot) and disk.managed and disk.of == NULL and disk.type in _TYPES
    )


def due_attempts(notes: Notes, now: datetime) -> List[Attempt]:
    """The attempts of earlier passes whose orphans are to be searched for now. Each is searched for twice: disks whose
    records were lost reappear when somebody scans their SR."""
    return [it for it in notes.earlier if it.until is None or abs(now - it.until) >= _SECOND_SEARCH_AFTER]


def find_orphans(context: Context, due: Sequence[Attempt], notes: Notes, journal: Journal, left: LeftOver) -> None:
    """Search for the orphans of the attempts that are due, log them, and put those that are ours into the journal, the
    others on the list of what is left over."""
    xapi, settings, log, now = context.xapi, context.settings, context.log, context.clock.now()
    limit_s = max(settings.snapshot_limit, settings.checkpoint_limit) + settings.cancel_limit
    again = [attempt for attempt in notes.earlier if attempt not in due]
    try:
        started = _started(xapi, context.pool.coordinator)
        due = [attempt for attempt in due if _may_have_left_disks(attempt, started)]
        bounded = [_bounded(attempt, started, limit_s, settings.pass_limit, now) for attempt in due]
        found, busy = _search(xapi, _by_vm(xapi, bounded), notes.disks, started)
        for one in found:
            log(one.line)
            if one.why != OURS:
                left.found(one.why, one.disk, one.vm, now)
        left.save()
        journal.add_leftovers(_proven(found))
        for old, new in zip(due, bounded):
            too_early = old.vm in busy if old.vm else bool(busy)
            if too_early or old.until is None:
                again.append(old if too_early else new)
        # If xapi dies again, it forgets what it was just told; and then only the attempts tell what to look for.
        if found and write_database(context, None):
            again = list(notes.earlier)
    except (Refused, Misunderstood) + MISREAD as error:
        log("Disks that a xapi that died has left cannot be looked for: %s" % one_line(str(error), 300))
        again += [attempt._replace(until=now) for attempt in due if attempt.until is None]
    notes.searched(again)


def find_memory(context: Context, left: LeftOver) -> None:
    """After checkpoints that failed: put memory images on the list that nobody has any more, and log what is new. xapi
    destroys them when it resumes the VM, if their storage lets it."""
    known = {item.uuid for item in left.items()}
    try:
        for one in _memory(context.xapi, [], {}):
            left.found(one.why, one.disk, one.vm, context.clock.now())
            if one.disk not in known:
                context.log(one.line)
    except (Refused, Misunderstood) + MISREAD as error:
        context.log("Memory that checkpoints have left cannot be looked for: %s" % one_line(str(error), 300))


# Searching


def _started(xapi: Xapi, coordinator: str) -> Optional[datetime]:
    """The start of the coordinator's xapi, as its host record has it; None if it has none."""
    text = xapi.call("host.get_other_config", coordinator).get("agent_start_time", "")
    try:
        return EPOCH + timedelta(seconds=int(float(text)))
    except (ValueError, OverflowError):
        return None


def _is_later(started: Optional[datetime], attempt: Attempt) -> bool:
    """Whether xapi was started, as far as that is known, after an attempt began."""
    return started is not None and started >= attempt.since


def _may_have_left_disks(attempt: Attempt, started: Optional[datetime]) -> bool:
    """Whether the xapi that an attempt was started with may have died since, or has had to undo the attempt."""
    return attempt.cancelled or attempt.until is not None or started is None or _is_later(started, attempt)


def _was_restarted(attempt: Attempt, started: Optional[datetime]) -> bool:
    """Whether it is certain that xapi was restarted since an attempt that may have left disks."""
    return started is not None and (not attempt.cancelled or _is_later(started, attempt))


def _bounded(attempt: Attempt, started: Optional[datetime], limit_s: int, pass_s: int, now: datetime) -> Attempt:
    """The attempt with the latest time at which it can have made disks, given the limits of a snapshot and of a pass in
    seconds."""
    if attempt.until is not None:
        return attempt
    died = started if _is_later(started, attempt) else None
    # Of one without a VM it is known when its pass began, but not when the last snapshot did.
    longest = limit_s if attempt.vm else pass_s + limit_s
    ends = (now, attempt.since + timedelta(seconds=longest), attempt.ended, died)
    return attempt._replace(until=min(end for end in ends if end is not None))


def _by_vm(xapi: Xapi, attempts: Sequence[Attempt]) -> Dict[str, List[Attempt]]:
    """The attempts by the uuid of the VM; those without one count for each VM that is on a schedule."""
    of: Dict[str, List[Attempt]] = {}
    any_vm = [attempt for attempt in attempts if not attempt.vm]
    for vm in scheduled_vms(xapi) if any_vm else []:
        of[vm] = list(any_vm)
    for attempt in attempts:
        if attempt.vm:
            of.setdefault(attempt.vm, []).append(attempt)
    return of


def _search(
    xapi: Xapi,
    attempts: Mapping[str, Sequence[Attempt]],
    seen: Mapping[str, Mapping[str, Sequence[str]]],
    started: Optional[datetime],
) -> Tuple[List[Orphan], Set[str]]:
    """The orphans of these attempts, by the uuid of the VM, and the uuids of the VMs for which it is too early: a
    snapshot is being taken."""
    if not attempts:
        return [], set()
    vms, busy = _vms(xapi, list(attempts))
    disks = storage.read_disks(xapi, list(vms)).of
    sources = {disk.ref: vms[vm] for vm, mine in disks.items() for disk in mine}
    srs = sorted({disk.sr for mine in disks.values() for disk in mine})
    found: List[Orphan] = []
    names: Dict[str, str] = {}
    for disk in _candidates(xapi, "snapshot_of", list(sources), 'field "is_a_snapshot" = "true"'):
        vm = sources.get(disk.of, "")
        snapshot = next((ref for ref, refs in seen.get(vm, {}).items() if disk.ref in refs), "")
        is_lost = bool(snapshot) and not exists(xapi, "VM", snapshot)
        whys = {judge(disk, one, is_lost, _was_restarted(one, started)) for one in attempts.get(vm, ())}
        why = OURS if OURS in whys else SUSPECT if SUSPECT in whys else ""
        if why:
            found.append(Orphan(why, disk.uuid, _sr(xapi, disk.sr, names), disk.size, vm, snapshot))
    found += _unentered(xapi, attempts, [(disk, vms[vm]) for vm, mine in disks.items() for disk in mine], names)
    for disk in _candidates(xapi, "SR", srs, '(field "name__label" = "") and (field "is_a_snapshot" = "false")'):
        if disk.sr in srs and is_nameless(disk):
            found.append(Orphan(NAMELESS, disk.uuid, _sr(xapi, disk.sr, names), disk.size))
    every = {one for mine in attempts.values() for one in mine}
    return found + list(_memory(xapi, every, names)), busy


def _unentered(
    xapi: Xapi, attempts: Mapping[str, Sequence[Attempt]], sources: Sequence[Tuple[Disk, str]], names: Dict[str, str]
) -> Iterator[Orphan]:
    """The orphans of these attempts that name no source; `sources` are the disks of the VMs, with the VMs' uuids."""
    # A query cannot carry a quote.
    labels = sorted({disk.name for disk, _ in sources if disk.name and '"' not in disk.name})
    like: Dict[Tuple[str, str, int], List[Tuple[Disk, str]]] = {}
    for source, vm in sources:
        like.setdefault((source.name, source.sr, source.virtual_size), []).append((source, vm))
    for disk in _candidates(xapi, "name__label", labels, 'field "snapshot_of" = "%s"' % NULL):
        of = [
            vm
            for source, vm in like.get((disk.name, disk.sr, disk.size), ())
            if any(is_unentered(disk, source, attempt) for attempt in attempts.get(vm, ()))
        ]
        if of:
            yield Orphan(SUSPECT, disk.uuid, _sr(xapi, disk.sr, names), disk.size, of[0])


def _memory(xapi: Xapi, attempts: Collection[Attempt], names: Dict[str, str]) -> Iterator[Orphan]:
    """The memory images that no suspended VM has; of those of checkpoints, only what was made during the attempts."""
    images = [
        image
        for image in _candidates(xapi, "type", ["suspend"])
        if image.managed and not image.used and (not image.is_a_snapshot or _is_of_any(image, attempts))
    ]
    used = storage.memory_in_use(xapi, [image.ref for image in images])
    for image in images:
        if image.ref not in used:
            yield Orphan(MEMORY, image.uuid, _sr(xapi, image.sr, names), image.size)


def _is_of_any(disk: Candidate, attempts: Collection[Attempt]) -> bool:
    return any(_is_of(disk, attempt) for attempt in attempts)


def _proven(found: Sequence[Orphan]) -> Entries:
    """The orphans that are ours, as entries of the journal."""
    entries: Entries = {}
    for one in found:
        if one.why == OURS:
            entries.setdefault(lost_name(one.snapshot), []).append(one.disk)
    return entries


def _vms(xapi: Xapi, uuids: Sequence[str]) -> Tuple[Dict[str, str], Set[str]]:
    """The uuids of these VMs by reference, as far as they exist and no snapshot of them is being taken; and the uuids
    of those of which one is."""
    vms, busy = {}, set()
    for ref, record in where(xapi, "VM", "uuid", sorted(set(uuids))):
        if set(record["current_operations"].values()) & TAKING:
            busy.add(str(record["uuid"]))  # its disks have no VM yet
        elif not record["is_a_snapshot"]:
            vms[ref] = str(record["uuid"])
    return vms, busy


def _candidates(xapi: Xapi, field: str, values: Sequence[str], condition: str = "true") -> Iterator[Candidate]:
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
        parent=storage.parent_of(record),
    )


def _sr(xapi: Xapi, sr: str, names: Dict[str, str]) -> str:
    if sr not in names:
        try:
            names[sr] = one_line(str(xapi.call("SR.get_uuid", sr)), 100)
        except Refused:
            names[sr] = one_line(sr, 100)
    return names[sr]
