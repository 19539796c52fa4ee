"""What the settings and tags of a world allow a pass to leave undone, and what they forbid it: each with its condition.

Nothing here is shared with the code under test: the simulator's tables are read, and what people did is seen as it
happens. A VM without its snapshot, a slot that nobody serves, a snapshot that goes: each has to be allowed by what is
switched on, under just that condition, and to be told where that is promised.
"""

import re
from datetime import datetime, timedelta, timezone
from math import inf
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from dateutil import tz

from tests.simulation.conduct import Found
from tests.simulation.slots import latest_slot
from vmss.simulator import Simulator

UTC = timezone.utc
NULL = "OpaqueRef:NULL"
QUARTER = timedelta(minutes=15)
A_MINUTE = timedelta(minutes=1)
# What a halted VM tells is trusted only if it was started so long before its snapshot: clocks differ.
CLOCKS_DIFFER = timedelta(hours=1)
EXCUSED = re.compile(r"(\d+) VMs? (?:is|are) (?:halted and unchanged|not running)")
NOT_MADE_UP = "not made up for"
TYPES = ("snapshot", "checkpoint")
# From the shortest to the longest.
PERIODS: List[str] = ["hourly", "daily", "weekly", "monthly"]
# The tags of a VM that concern its snapshots, and the key of a disk that is left out.
NO_MEMORY, ONLY_RUNNING, NONE = "vmss:no-memory", "vmss:only-running", "vmss:none"
KEYED = "vmss:skip"
# The beginning of the tag of a VM that has a rule of its own.
KEEP = "vmss:keep="

Row = Dict[str, Any]


class Values(NamedTuple):
    """The settings of one schedule that decide what it may leave undone. `late_limit` is in seconds; None: there is
    none."""

    keep_halted: bool
    late_limit: Optional[int]
    skip_disks: Tuple[str, ...]
    keep: str
    keep_days: int


def values_of(settings: Any, policy: Dict[str, Any]) -> Values:
    """The settings that hold for a schedule, given as its record: what is set for it wins."""
    mine = {one.schedule: dict(one.values) for one in settings.schedules}.get(policy["name_label"], {})

    def value(name: str) -> Any:
        return mine.get(name, getattr(settings, name))

    limit = value("late_limit")
    if policy["type"] == "checkpoint":
        # A limit of the schedule's own is meant for it, whatever its type.
        of_checkpoints = mine.get(
            "checkpoint_late_limit", None if "late_limit" in mine else settings.checkpoint_late_limit
        )
        limit = limit if of_checkpoints is None else of_checkpoints
    return Values(value("keep_halted"), limit, tuple(value("skip_disks").split()), value("keep"), value("keep_days"))


class Moment(NamedTuple):
    """The pass that is under way: when it began, by the pool's clock and by the steady one; whether somebody has asked
    for a run by hand in it, whether nobody has changed anything in it, and whether the clock was set back at some
    time, or xapi restarted."""

    began: datetime
    steady: float
    by_hand: bool
    quiet: bool
    jumped: bool
    restarted: bool


class Allowed:
    """Follows one world. What it yields are invariants that are broken, by their numbers."""

    def __init__(self, sim: Simulator, settings: Any, zone: str, steady: Callable[[], float]) -> None:
        self._sim = sim
        self._settings = settings
        self._zone = zone
        self._steady = steady
        of_any = [dict(one.values) for one in settings.schedules] + [settings._asdict()]
        self.thins = any(one.get("keep") for one in of_any)  # not the newest stay of all VMs
        self._halts = any(one.get("keep_halted") for one in of_any)
        self._ran: Dict[str, float] = {}  # when a VM was last seen in another state than Halted
        self._seen: Dict[str, float] = {}  # when a scheduled snapshot was first seen
        self._off: Dict[str, float] = {}  # since when a VM is in another state than Running
        self._ever_off: Set[str] = set()  # VMs that were so at some time of this pass
        self._unchanged: Set[str] = set()  # halted VMs that were unchanged as this pass began
        self._tags: Dict[str, Set[str]] = {}  # as this pass began
        self._disks: Dict[str, Set[str]] = {}  # the same
        self._asked_with: Dict[str, Set[str]] = {}  # those of VMs as each snapshot was asked for that may still come
        self._forms: Dict[str, Tuple[Any, ...]] = {}  # what makes a schedule another one, as a pass last noted it
        self._begun_with: Dict[str, Tuple[Any, ...]] = {}  # what they are as this pass begins
        self._changed_meanwhile: Set[str] = set()  # the schedules that have changed in the last pass
        self._changed: Dict[str, datetime] = {}  # when a pass first saw that it was changed, at the latest
        self._noted: Dict[str, datetime] = {}  # the same, where it is certain that the pass noted it
        self._notes = False  # whether the last pass came to noting what the schedules are
        self._excused: Dict[str, Set[str]] = {}  # by policy, the VMs that got no snapshot in its last run

    def _rows(self, cls: str) -> Dict[str, Row]:
        return self._sim.db.tables[cls].rows

    def _vms(self) -> Dict[str, Row]:
        return {ref: row for ref, row in self._rows("VM").items() if not row["is_a_snapshot"]}

    def values(self, policy: Row) -> Values:
        """The settings that hold for a schedule."""
        return values_of(self._settings, policy)

    # What is followed

    def changed(self) -> None:
        """Something may have changed."""
        now = self._steady()
        for ref, row in self._rows("VM").items():
            if row["is_a_snapshot"]:
                if row["is_vmss_snapshot"]:
                    self._seen.setdefault(ref, now)
                continue
            if row["power_state"] != "Halted":
                self._ran[ref] = now
            if row["power_state"] == "Running":
                self._off.pop(ref, None)
            else:
                self._off.setdefault(ref, now)
                self._ever_off.add(ref)

    def restarted(self) -> None:
        """xapi has ended and begun: it may have forgotten what VMs did."""
        self._ran = {
            ref: at for ref, at in self._ran.items() if self._vms().get(ref, {}).get("power_state") != "Halted"
        }
        self._notes = False

    def begin(self, now: datetime) -> None:
        """A pass begins."""
        self._ever_off = set()
        self.changed()
        self._tags = {ref: set(row["tags"]) for ref, row in self._vms().items() if row["tags"]}
        self.thins = self.thins or any(tag.startswith(KEEP) for tags in self._tags.values() for tag in tags)
        self._disks = {ref: self._disks_of(ref) for ref in self._vms()}
        for ref, row in self._vms().items():
            if not row["current_operations"]:
                self._asked_with.pop(ref, None)
        self._unchanged = {vm for vm in self._vms() if self._halts and self._is_unchanged(vm, now)}
        self._begun_with = self._forms_now()
        for ref, form in self._begun_with.items():
            if self._forms.get(ref, form) != form:
                self._changed[ref] = now
                if self._notes and ref not in self._changed_meanwhile:
                    self._noted[ref] = now
                else:
                    self._noted.pop(ref, None)

    def ended(self, status: str, before: Dict[str, Any], it: Moment) -> Found:
        """It has ended; `before` has the scheduled snapshots of its beginning."""
        forms = self._forms_now()
        for ref, form in forms.items():
            if self._forms.get(ref, form) != form and self._changed.get(ref, it.began) <= it.began:
                self._changed[ref] = max(self._sim.now(), it.began)
                self._noted.pop(ref, None)
        self._notes = status[:1] in "01"
        # What changes in a pass may be new to the next one, and so may all, if the pass came to no note.
        if self._notes:
            self._forms = self._begun_with
            self._changed_meanwhile = {ref for ref, form in forms.items() if self._forms.get(ref) != form}
        for ref, row in self._rows("VM").items():
            if row["is_a_snapshot"] and row["is_vmss_snapshot"] and ref not in before:
                yield from self._has_its_disks(ref, row, it)

    def _forms_now(self) -> Dict[str, Tuple[Any, ...]]:
        return {
            ref: (row["enabled"], row["type"], row["frequency"], tuple(sorted(row["schedule"].items())))
            for ref, row in self._rows("VMSS").items()
        }

    # Disks that are left out

    def _disks_of(self, vm: str) -> Set[str]:
        rows = [self._rows("VBD")[vbd] for vbd in self._sim.db.pointing_at("VBD", "VM", vm)]
        return {row["VDI"] for row in rows if row["type"] == "Disk" and row["VDI"] in self._rows("VDI")}

    def _is_left_out(self, vm: str, disk: str) -> bool:
        row, policy = self._rows("VDI")[disk], self._rows("VMSS").get(self._rows("VM")[vm]["snapshot_schedule"])
        marks = self.values(policy).skip_disks if policy is not None else ()
        return KEYED in row["other_config"] or any(row["name_label"].startswith(mark) for mark in marks)

    def _has_its_disks(self, snapshot: str, row: Row, it: Moment) -> Found:
        """A new snapshot has no disk that is left out, and all others."""
        vm, time = row["snapshot_of"], row["snapshot_time"].replace(tzinfo=UTC)
        if vm not in self._vms() or time < it.began or it.jumped or not it.quiet:
            return
        theirs = {self._rows("VDI")[disk]["snapshot_of"] for disk in self._disks_of(snapshot)}
        known = self._disks.get(vm, set())
        mine = {disk for disk in known & self._asked_with.get(vm, known) if disk in self._rows("VDI")}
        out = {disk for disk in mine if self._is_left_out(vm, disk)}
        if theirs & out:
            yield 1, "%s has disks that are to be left out: %d" % (row["name_label"], len(theirs & out))
        if mine - out - theirs and not it.restarted:
            yield 1, "%s lacks disks of its VM: %d" % (row["name_label"], len(mine - out - theirs))

    # VMs that get no snapshot

    def excuses(self, policy: Row, vm: str, it: Moment) -> bool:
        """Whether a VM of a policy may be without a snapshot that the run has not taken of it."""
        if ONLY_RUNNING in self._tags.get(vm, ()) and vm in self._ever_off:
            return True
        if not self.values(policy).keep_halted:
            return False
        return vm in self._unchanged if not it.quiet else self._is_unchanged(vm, self._sim.now())

    def is_excused(self, policy: Row, vm: str) -> bool:
        """Whether a VM would get no snapshot now."""
        row = self._vms()[vm]
        if ONLY_RUNNING in row["tags"] and row["power_state"] != "Running":
            return True
        return self.values(policy).keep_halted and self._is_unchanged(vm, self._sim.now())

    def run_is_over(self, policy: str, excused: Set[str]) -> None:
        """These VMs got no snapshot in the run of a policy, and are excused."""
        self._excused[policy] = excused

    def was_excused(self, policy: str, vm: str) -> bool:
        """Whether a VM was so in the last run of its policy."""
        return vm in self._excused.get(policy, ())

    @staticmethod
    def told(bodies: str) -> int:
        """Of how many VMs alerts say that they need no snapshot."""
        return sum(map(int, EXCUSED.findall(bodies)))

    def _newest(self, vm: str, now: datetime) -> Optional[str]:
        rows = [
            (row["snapshot_time"], row["uuid"], ref)
            for ref, row in self._rows("VM").items()
            if row["snapshot_of"] == vm
            and row["is_a_snapshot"]
            and row["is_vmss_snapshot"]
            and row["snapshot_time"].replace(tzinfo=UTC) <= now + A_MINUTE
        ]
        return max(rows)[2] if rows else None

    def _is_unchanged(self, vm: str, now: datetime) -> bool:
        """Whether a VM is halted, was so when its newest scheduled snapshot was taken, and has not run since; and its
        disks are those that the snapshot is of, but for those that are left out, and no other VM has them."""
        newest = self._newest(vm, now)
        if newest is None or self._vms()[vm]["power_state"] != "Halted":
            return False
        if self._rows("VM")[newest]["snapshot_info"].get("power-state-at-snapshot") != "Halted":
            return False
        theirs = {self._rows("VDI")[disk]["snapshot_of"] for disk in self._disks_of(newest)}
        mine = {disk for disk in self._disks_of(vm) if not self._is_left_out(vm, disk)}
        alone = all(len(self._sim.db.pointing_at("VBD", "VDI", disk)) == 1 for disk in mine)
        return bool(mine) and alone and mine == theirs and self._ran.get(vm, -inf) <= self._seen.get(newest, inf)

    def _needs_none(self, policy: Row, vm: str, it: Moment) -> bool:
        """Whether it is certain, by all that xapi tells, that a VM gets no snapshot."""
        row, newest = self._vms()[vm], self._newest(vm, it.began)
        metrics = self._rows("VM_metrics").get(row["metrics"])
        if not self.values(policy).keep_halted or newest is None or metrics is None or row["parent"] != newest:
            return False
        time = self._rows("VM")[newest]["snapshot_time"].replace(tzinfo=UTC)
        return (
            vm in self._unchanged
            and self._is_unchanged(vm, it.began)
            and self._seen[newest] < it.steady
            and not row["current_operations"]
            and metrics["start_time"].replace(tzinfo=UTC) < time - CLOCKS_DIFFER
        )

    # Slots that nobody serves

    def limit(self, policy: Row, quiet: bool = True) -> Optional[timedelta]:
        """How long after its slot a run may begin at the latest; `quiet`: nobody has changed the type of the schedule,
        which may have another limit."""
        types = [policy["type"]] if quiet else TYPES
        limits = [self.values(dict(policy, type=kind)).late_limit for kind in types]
        known = [limit for limit in limits if limit is not None]
        return max(QUARTER, timedelta(seconds=max(known))) if len(known) == len(limits) else None

    def may_be_unserved(self, ref: str, policy: Row, slot: datetime, messages: List[Row]) -> bool:
        """Whether nobody has to serve a slot: the schedule was changed after it; or it was too late, and was told so,
        and not earlier."""
        if not self._settings.catch_up_changed and slot <= self._changed.get(ref, slot - QUARTER):
            return True
        limit = self.limit(policy)
        if limit is None or self._sim.now() < slot + limit:
            return False
        shortest = min(self.limit(dict(policy, type=kind)) or limit for kind in TYPES)
        return any(
            it["obj_uuid"] == policy["uuid"]
            and it["name"] == "VMSS_SNAPSHOT_MISSED_EVENT"
            and NOT_MADE_UP in it["body"]
            and it["timestamp"].replace(tzinfo=UTC) >= slot + shortest
            for it in messages
        )

    def is_not_due(self, ref: str, policy: Row, slot: datetime, now: datetime) -> bool:
        """Whether a slot may be left unserved at this time, whatever was told of it."""
        limit = self.limit(policy, quiet=False)
        late = self.limit(policy) is not None or limit is not None
        changed = not self._settings.catch_up_changed and slot <= self._changed.get(ref, slot - QUARTER)
        return changed or (late and now >= slot + QUARTER)

    # What is forbidden

    def takes(self, method: str, vm: str, it: Moment) -> Found:
        """A snapshot of a VM is about to be asked for."""
        row = self._vms().get(vm)
        if row is None:
            return
        self._asked_with[vm] = self._asked_with.get(vm, self._disks_of(vm)) & self._disks_of(vm)
        tags = self._tags.get(vm, set()) & set(row["tags"])
        if NO_MEMORY in tags and method == "Async.VM.checkpoint":
            yield 14, "a checkpoint is to be taken of %s, which is tagged %s" % (row["name_label"], NO_MEMORY)
        if it.by_hand:
            return
        # What a pass resumes runs without anybody's doing, which `changed` is told of.
        if ONLY_RUNNING in tags and row["power_state"] != "Running" and self._off.get(vm, inf) < it.steady:
            yield 1, "%s is snapshotted, and does not run (%s)" % (row["name_label"], ONLY_RUNNING)
        policy = self._rows("VMSS").get(row["snapshot_schedule"])
        if policy is not None and it.quiet and not it.jumped and not it.restarted and self._needs_none(policy, vm, it):
            yield 1, "%s is snapshotted, and unchanged since its last snapshot (keep_halted)" % row["name_label"]

    def is_in_time(self, ref: str, policy: Row, when: datetime, slot: datetime, it: Moment) -> Found:
        """A snapshot is to be taken of a policy's slot, by a run that stands for some time."""
        if it.by_hand or it.jumped:
            return
        limit = self.limit(policy, it.quiet)
        if limit is not None and when - slot >= limit + A_MINUTE:
            yield 1, "the slot %s is served at %s, which is too late" % (slot, when)
        changed = self._noted.get(ref)
        made_up = changed is not None and slot + QUARTER <= changed <= when
        if made_up and not self._settings.catch_up_changed and not it.restarted:
            yield 1, "the slot %s is made up for at %s, and its schedule was changed since" % (slot, when)

    def assigns(self, vm: str, policy: str, it: Moment) -> Found:
        """A VM is about to be put on a schedule, or taken off."""
        row, to = self._vms().get(vm), self._rows("VMSS").get(policy)
        if row is None or not it.quiet:
            return
        names = self._names(row)
        good = self._settings.assign_by_tag and row["snapshot_schedule"] == NULL and to is not None
        if not good or names != [to["name_label"] if to else ""] or NONE in row["tags"]:
            yield 6, "%s is to be put on %s, by the tags %s" % (row["name_label"], policy, sorted(row["tags"]))

    def is_misplaced(self) -> bool:
        """Whether any VM is on another schedule than its tags name, or these contradict each other."""
        names = {ref: row["name_label"] for ref, row in self._rows("VMSS").items()}
        return any(
            self._names(row) not in ([], [names.get(row["snapshot_schedule"], "")])
            or (bool(self._names(row)) and NONE in row["tags"])
            for row in self._vms().values()
        )

    def unassigned(self) -> Iterator[str]:
        """The VMs that are on no schedule, and that a tag puts on one."""
        for ref, row in self._vms().items() if self._settings.assign_by_tag else ():
            names = self._names(row)
            if row["snapshot_schedule"] != NULL or len(names) != 1 or NONE in row["tags"]:
                continue
            mine = [
                it
                for it in self._rows("VM").values()
                if it["is_vmss_snapshot"] and it["snapshot_of"] == ref and "destroy" not in it["blocked_operations"]
            ]
            for policy in self._rows("VMSS").values():
                fits = policy["name_label"] == names[0] and policy["type"] in TYPES
                if fits and len(mine) <= policy["retained_snapshots"]:
                    yield row["name_label"]

    @staticmethod
    def _names(row: Row) -> List[str]:
        """The names of schedules that the tags of a VM name: in these worlds all are called so."""
        return sorted(tag[len("vmss:") :] for tag in row["tags"] if tag.startswith("vmss:policy"))

    # Snapshots that stay

    def rule(self, policy: Row, vm: str) -> Tuple[List[Tuple[str, int]], int]:
        """The rule by which the snapshots of a VM stay: periods with a number of each, and a number of days."""
        values = self.values(policy)
        mine = [tag for tag in self._rows("VM").get(vm, {}).get("tags", ()) if tag.startswith(KEEP)]
        text = mine[0].partition("=")[2] if len(mine) == 1 else values.keep
        numbers = dict(word.split(":") for word in re.split("[ ,]", text) if word)
        return [(it, int(numbers[it])) for it in PERIODS if it in numbers], values.keep_days

    def stay(self, policy: Row, vm: str, times: Dict[str, datetime], most: int, now: datetime) -> Set[str]:
        """Of the snapshots of a VM, given with their times in UTC, those that stay by its rule, at most so many."""
        periods, days = self.rule(policy, vm)
        newest_first = sorted(times, key=lambda ref: (times[ref], self._rows("VM")[ref]["uuid"]), reverse=True)
        chosen: List[str] = [ref for ref in newest_first if days and times[ref] > now - timedelta(days=days)]
        walls = {ref: latest_slot(self._zone, policy, times[ref]).astimezone(tz.gettz(self._zone)) for ref in times}
        for period, number in periods:
            newest: Dict[Any, str] = {}
            for ref in newest_first:
                newest.setdefault(_of_period(period, walls[ref]), ref)
            chosen = chosen[:most]
            chosen += [ref for ref in newest.values() if ref not in chosen][:number]
        return set((chosen + [ref for ref in newest_first if ref not in chosen])[:most])


def _of_period(period: str, wall: datetime) -> Any:
    """What tells a period from others."""
    if period == "hourly":
        return wall.replace(minute=0, second=0, microsecond=0, tzinfo=None), wall.utcoffset()
    if period == "weekly":
        return wall.isocalendar()[:2]
    return (wall.year, wall.month) if period == "monthly" else wall.date()
