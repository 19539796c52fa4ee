"""The report: whether every VM is protected and since when, how the runs fared, what is kept, the room, what comes.

It decides nothing of its own: it puts together what `vmss status`, `plan`, `coverage`, `next` and `history` say.
"""

from datetime import datetime, timedelta
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core import fate, room, ways
from vmss.core.assignment import Member
from vmss.core.coverage import DISABLED, EMPTY, LEFT_BEHIND, PARTLY, UNABLE, UNSCHEDULED, Row
from vmss.core.fate import Fate
from vmss.core.policy import Policy
from vmss.core.vms import Vm
from vmss.core.words import agree, counted
from vmss.edges.pool_vms import PoolVms
from vmss.edges.room_notes import read_notes
from vmss.edges.settings import Place
from vmss.edges.storage import named
from vmss.edges.vms import with_snapshots
from vmss.edges.xapi import Xapi, understood
from vmss.insight import (
    calendar,
    checks_of_chains,
    coverage,
    history,
    lock_and_log,
    outlook,
    plans,
    policies,
    rooms,
    state,
)
from vmss.insight.calendar import Cell
from vmss.insight.findings import Finding, ordered, worst
from vmss.insight.history import Run, Trouble
from vmss.insight.lock_and_log import read_local
from vmss.insight.policies import Entry
from vmss.insight.promises import remedy_of_overdue
from vmss.insight.reading import Reading
from vmss.insight.state import Lack

# What is said of a VM; one that no schedule covers has what `vmss coverage` says of it.
PROTECTED, LATE, AT_RISK, NEW = "protected", "late", "at risk", "new"

# What somebody has to look at comes first.
_ORDER = (LATE, AT_RISK, UNABLE, PARTLY, DISABLED, UNSCHEDULED, NEW, PROTECTED)

# What becomes of a snapshot, as it is drawn.
KEPT, PINNED, GOES = "kept", "pinned", "goes next"

# The snapshots of so many VMs are read and drawn, if nobody asks for another number: a record is 6 kB on the wire.
TIMELINES = 500


class Mark(NamedTuple):
    """A scheduled snapshot; `goes`: the run that deletes it, if one is known; GOES if that is the next one."""

    time: datetime
    kind: str
    uuid: str
    why: str
    goes: Optional[datetime] = None


class Guarded(NamedTuple):
    """A VM and whether it is protected: it is on an enabled schedule, has a scheduled snapshot of the latest slot that
    should be over, and nothing is known that keeps the next one from being taken. `since`: the slot from which on it
    has missed none, as far as messages tell; `whole`: nothing is known of a gap before it. `marks` are its snapshots,
    oldest first; None if they were not read."""

    name: str
    uuid: str
    schedule: str
    schedule_uuid: str
    state: str
    why: str = ""
    remedy: str = ""
    since: Optional[datetime] = None
    whole: bool = False
    marks: Optional[Tuple[Mark, ...]] = None

    @property
    def protected(self) -> bool:
        return self.state == PROTECTED


class Course(NamedTuple):
    """A schedule with the calendar of its runs. `when` and `kind` are in words."""

    name: str
    uuid: str
    when: str
    kind: str
    state: str
    vms: int
    retained: int
    next_run: Optional[datetime]
    cells: Tuple[Cell, ...]


class Repository(NamedTuple):
    """A storage repository: its room in bytes, what was in use in the past (seconds since the epoch, and bytes), by how
    many bytes a second that grows, and when it is full if it goes on so; the longest chain of images, and what waits to
    be coalesced."""

    name: str
    uuid: str
    size: int
    used: int
    notes: Tuple[Tuple[float, int], ...]
    rate: Optional[float]
    full_at: Optional[datetime]
    longest: Optional[int]
    waiting: int
    waiting_bytes: int


class Coming(NamedTuple):
    """A run to come: `behind` are the names of schedules that are at work on the same storage or host, `on` those."""

    schedule: str
    uuid: str
    at: datetime
    ends: datetime
    missed: bool
    clash: bool
    behind: Tuple[str, ...]
    on: Tuple[str, ...]
    remarks: str


class Report(NamedTuple):
    """All of it. `findings` are those of `vmss status` that are not OK; `advice` is what `vmss next` warns of."""

    pool: str
    pool_uuid: str
    made: datetime
    since: datetime
    severity: int
    findings: Tuple[Finding, ...]
    well: str
    headline: str
    opted_out: int
    vms: Tuple[Guarded, ...]
    schedules: Tuple[Course, ...]
    others: Tuple[Row, ...]
    storage: Tuple[Repository, ...]
    coming: Tuple[Coming, ...]
    advice: Tuple[str, ...]
    troubles: Tuple[Trouble, ...]

    @property
    def protected(self) -> int:
        return sum(vm.protected for vm in self.vms)

    @property
    def verdict(self) -> str:
        """The first thing that a person wants to know."""
        number, total = self.protected, len(self.vms)
        if not total:
            return "This pool has no VM to protect"
        if number == total:
            return "The VM is protected" if total == 1 else "All %d VMs are protected" % total
        if total == 1:
            return "The VM is not protected"
        return "%d of %s %s protected" % (number, counted(total, "VM"), agree(number, "is", "are"))

    @property
    def gap(self) -> Optional[datetime]:
        """The latest slot before which a VM that is protected now was not; None if none is known of."""
        return max((vm.since for vm in self.vms if vm.protected and vm.since and not vm.whole), default=None)


HOURS = 24


def read(session: Reading, where: Place, time: timedelta, timelines: int) -> Report:
    """Read and put together what there is to report of this time until now, with the snapshots of so many VMs."""
    now = session.now()
    since = now - time
    local = read_local(where, session, now)
    tally = state.examine(session, local, now)
    entries = policies.read(session)
    known = [entry.policy for entry in entries if entry.policy is not None]
    pool_vms = PoolVms(session.xapi)
    covered, members = coverage.examine(session, entries, pool_vms)
    runs = {policy.uuid: policies.runs(session, policy.uuid, since - 2 * policy.schedule.distance) for policy in known}
    lacks = {policy.uuid: tally.lacks.get(policy.uuid, Lack()) for policy in known}
    cells = {
        policy.uuid: calendar.cells(policy, runs[policy.uuid], session.zone, since, now, lacks[policy.uuid].slot)
        for policy in known
    }
    busy = {policy.uuid for policy in lock_and_log.in_hand(local.holder, known)}
    seen = {policy.ref: _Seen(policy, cells[policy.uuid], lacks[policy.uuid], policy.uuid in busy) for policy in known}
    found = outlook.read_outlook(session, HOURS, entries, pool_vms)
    recent = [run for of_policy in runs.values() for run in of_policy if run.at >= since]
    return Report(
        pool=_name(session.xapi, session),
        pool_uuid=session.pool.uuid,
        made=now,
        since=since,
        severity=worst(tally.findings),
        findings=tuple(finding for finding in ordered(tally.findings) if finding.severity),
        well=tally.well,
        headline=covered.headline(now),
        opted_out=covered.opted_out,
        vms=tuple(_vms(session, seen, covered.rows, members, pool_vms, timelines, now)),
        schedules=tuple(_course(session, entry, cells, now) for entry in entries),
        others=tuple(row for row in covered.rows if row.what in (EMPTY, LEFT_BEHIND)),
        storage=tuple(_storage(session, known, now)),
        coming=tuple(_coming(found)),
        advice=tuple(outlook.warnings(session, found)),
        troubles=tuple(_troubles(recent, session)),
    )


def _name(xapi: Xapi, session: Reading) -> str:
    """The name of the pool; of one that has none, that of its coordinator."""
    with understood("pool"):
        name = str(xapi.call("pool.get_name_label", session.pool.ref))
        return name or str(xapi.call("host.get_name_label", session.pool.coordinator))


def _troubles(runs: Sequence[Run], session: Reading) -> List[Trouble]:
    newest_first = sorted(runs, key=lambda run: run.at, reverse=True)
    return history.troubles(newest_first, session.pool.uuid)


def _course(session: Reading, entry: Entry, cells: Mapping[str, Sequence[Cell]], now: datetime) -> Course:
    policy = entry.policy
    details = policies.Details(entry, None, None, None)
    if policy is None:
        return Course(entry.name, entry.uuid, "", "", details.state, 0, 0, None, ())
    return Course(
        entry.name,
        entry.uuid,
        policy.schedule.in_words(),
        ways.WORDS.get(policy.type, policy.type),
        details.state,
        len(policy.vms),
        policy.retained,
        policies.next_run(session, policy, now),
        tuple(cells[policy.uuid]),
    )


# The VMs


class _Seen(NamedTuple):
    """A policy with what became of its slots, and what it lacks; `in_hand`: a pass serves it."""

    policy: Policy
    cells: Sequence[Cell]
    lack: Lack
    in_hand: bool


def _vms(
    session: Reading,
    seen: Mapping[str, _Seen],
    covered: Sequence[Row],
    members: Sequence[Member],
    pool_vms: PoolVms,
    timelines: int,
    now: datetime,
) -> Iterator[Guarded]:
    """The VMs, what somebody has to look at first, then by schedule and name. Those left out on purpose are not among
    them."""
    rows = {row.uuid: row for row in covered if row.what in (UNSCHEDULED, DISABLED, UNABLE, PARTLY)}
    lacking = {vm.uuid for one in seen.values() for vm in one.lack.vms}
    on = [vm for vm in members if vm.schedule in seen]
    first = sorted(on, key=lambda vm: vm.uuid not in lacking and vm.uuid not in rows)[:timelines]
    drawn: Dict[str, List[Vm]] = {}
    refs = {vm.ref for vm in first}
    chosen = [vm for vm in pool_vms.of([one.policy for one in seen.values()]) if vm.ref in refs]
    for vm in with_snapshots(session.xapi, chosen):
        drawn.setdefault(vm.policy, []).append(vm)
    marks = {
        vm.uuid: tuple(_marks(vm, told))
        for ref, one in seen.items()
        for vm, told in plans.of_vms(session, one.policy, drawn.get(ref, []), now)
    }
    found: List[Guarded] = []
    for member in on:
        one, uuid = seen[member.schedule], member.uuid
        whole = Guarded(member.name, uuid, one.policy.name, one.policy.uuid, PROTECTED, marks=marks.get(uuid))
        late = session.moment(one.lack.slot) if uuid in lacking and one.lack.slot is not None else ""
        found.append(_since(_judged(whole, one, late, rows.get(uuid)), one.cells, one.policy.retained))
    listed = {guarded.uuid for guarded in found}
    for row in rows.values():
        if row.uuid not in listed:
            found.append(Guarded(row.vm, row.uuid, row.schedule, row.schedule_uuid, row.what, row.why, row.remedy))
    yield from sorted(found, key=lambda one: (_ORDER.index(one.state), one.schedule, one.name, one.uuid))


def _marks(vm: Vm, told: Iterator[Fate]) -> Iterator[Mark]:
    """The snapshots of a VM, oldest first."""
    pinned = {one.uuid for one in vm.snapshots if one.pinned}
    fates = [one for one in told if one.uuid]
    next_run = min((one.goes for one in fates if one.goes is not None), default=None)
    for one in sorted(fates, key=lambda one: (one.time, one.uuid)):
        goes = one.fate == fate.GOES or (one.goes is not None and one.goes == next_run)
        kind = PINNED if one.uuid in pinned else GOES if goes else KEPT
        yield Mark(one.time, kind, one.uuid, one.why, one.goes)


def _judged(vm: Guarded, one: _Seen, late: str, row: Optional[Row]) -> Guarded:
    """What is said of a VM; `late`: since when it has no snapshot that it should have, empty if it has."""
    newest = vm.marks[-1].time if vm.marks else None
    if row is not None and row.what == DISABLED:
        return vm._replace(state=DISABLED, why=row.why, remedy=row.remedy)
    if late:
        why = "no snapshot since %s" % late
        why += ". %s" % row.why if row is not None else ""
        remedy = row.remedy if row is not None else remedy_of_overdue(one.policy.uuid, one.in_hand)
        return vm._replace(state=LATE, why=why, remedy=remedy)
    if row is not None:
        return vm._replace(state=AT_RISK, why="the next snapshot cannot be taken: %s" % row.why, remedy=row.remedy)
    unserved = vm.marks is not None and (newest is None or (one.lack.slot is not None and newest < one.lack.slot))
    if unserved or (vm.marks is None and one.lack.slot is None):
        return vm._replace(state=NEW, why="it waits for its first run of this schedule")
    return vm


def _since(vm: Guarded, cells: Sequence[Cell], retained: int) -> Guarded:
    """The same with the slot from which on it has missed none."""
    if vm.state not in (PROTECTED, AT_RISK):
        return vm
    first = calendar.unbroken_since(cells, vm.uuid)
    if first is None:
        return vm
    known = [cell for cell in cells if cell.state != calendar.UNKNOWN]
    since, whole = first.slot, first is known[0]
    counted = [mark.time for mark in vm.marks or () if mark.kind != PINNED]
    if counted and len(vm.marks or ()) < retained and counted[0] > since:
        since, whole = max(cell.slot for cell in cells if cell.slot <= counted[0]), False  # it is new on the schedule
    return vm._replace(since=since, whole=whole)


# Storage, and what comes


def _storage(session: Reading, known: Sequence[Policy], now: datetime) -> Iterator[Repository]:
    xapi = session.xapi
    chains = checks_of_chains.by_storage(xapi, known)
    found = []
    for one in rooms.read(xapi):
        notes, mine = read_notes(xapi, one.ref), chains.get(one.ref)
        rate = room.rate(notes)
        name, uuid = named(xapi, one.ref)
        found.append(
            Repository(
                name,
                uuid,
                one.space.size,
                one.space.used,
                tuple((note.at, note.used) for note in notes),
                rate,
                room.full_at(one.space, rate, now),
                max(chain.length for chain in mine) if mine else None,
                sum(chain.waiting for chain in mine or ()),
                sum(chain.bytes for chain in mine or ()),
            )
        )
    yield from sorted(found, key=lambda one: (-one.used / one.size, one.name, one.uuid))


def _coming(found: outlook.Outlook) -> Iterator[Coming]:
    for run in found.runs:
        yield Coming(
            run.policy.name,
            run.policy.uuid,
            run.at,
            run.ends,
            run.missed,
            bool(run.behind) or run.too_long or run.missed,
            tuple(found.behind(run)),
            tuple(found.shared(run)),
            "; ".join(found.remarks(run)),
        )
