"""The invariants of the design, section 5, checked by their numbers.

Nothing here is shared with the code under test: the simulator's tables are read directly, and slots are found in a way
of its own (slots.py). What a check tolerates is said where it does.
"""

import fcntl
import json
import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from math import inf
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from tests.simulation.allowed import Allowed, Moment
from tests.simulation.conduct import TAKES, Conduct, Found, Limits
from tests.simulation.power import Power
from tests.simulation.slots import latest_slot
from vmss.simulator import Simulator

UTC = timezone.utc
NULL = "OpaqueRef:NULL"
OUTCOMES = ("VMSS_SNAPSHOT_SUCCEEDED", "VMSS_SNAPSHOT_FAILED")
A_SECOND, A_MINUTE = timedelta(seconds=1), timedelta(seconds=60)
# As the name of a scheduled snapshot has it.
INSTANT = "%Y-%m-%dT%H:%M:%SZ"
SLOT_NAME = re.compile(r"policy \d+ \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
DELETED = re.compile(r"(\d+) expired snapshots? deleted")
JOURNAL = "vmss-destroying:"
OWED = "vmss-owed:"
# No pass may last longer than this: all operations of the largest world hanging one after another end earlier.
LONGEST_PASS = 5 * 86400.0
# What a pass still does that was asked to stop, besides waiting for what is in flight.
STOPPING_SECONDS = 120.0
# So many snapshots of a VM a run deletes at most: the one that the new snapshot replaces, and two more.
GO_IN_A_RUN = 3
# A VM that waits for its snapshot is looked at again after a minute; a call may take a moment itself.
FRESH_SECONDS = 66.0
# Before a disk is destroyed it is asked who uses it, and not longer before than this; a call may take a moment itself.
LOOK_SECONDS = 6.0

Row = Dict[str, Any]


class Broken(NamedTuple):
    """An invariant that does not hold, by its number."""

    number: int
    text: str

    def __str__(self) -> str:
        return "invariant %d: %s" % self


class Kept(NamedTuple):
    """A scheduled snapshot as it was when a pass began."""

    time: datetime
    pinned: bool
    vm: str


def instant_of(name: str) -> datetime:
    """The time in the name of a scheduled snapshot."""
    return datetime.strptime(name.rpartition(" ")[2], INSTANT).replace(tzinfo=UTC)


def lock_is_held(lock_dir: Path) -> bool:
    """Whether a pass holds the lock of the pool."""
    for path in lock_dir.glob("*.lock"):
        with open(str(path)) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


class Observer:
    """Sees every call of the pass on its way, and looks at the pool before, between and after."""

    def __init__(
        self,
        sim: Simulator,
        lock_dirs: Sequence[Path],
        zone: str,
        steady: Callable[[], float],
        stop_limit: float,
        limits: Limits,
        allowed: Allowed,
    ) -> None:
        """`lock_dirs` are those of all hosts. `steady` gives seconds that pass whatever the clock is set to; `allowed`
        knows what is switched on."""
        self.sim = sim
        self._limits = limits
        self._conduct = Conduct(sim, limits, steady, self._is_owed)
        self.found: List[Broken] = []
        self.allowed = allowed
        self.checked: Dict[int, int] = dict.fromkeys([*range(1, 11), 14, 15], 0)
        self.power = Power(sim)
        self._lock_dirs = lock_dirs
        self.lock_dir = lock_dirs[0]  # that of the coordinator
        self._stop_limit = stop_limit
        self._steady = steady
        self._steady_began = steady()
        self._zone = zone
        self._sessions: Set[str] = set()  # that the code under test has opened
        self._unheard: Set[str] = set()  # of those, the ones it never heard of
        self._mine: Set[str] = set()  # of those, the ones of this pass
        self._excused: Set[str] = set()  # of those, the ones that could not be written down: the disk was full
        self._disk_full = False
        self._unread = False  # a pass could not see what had been said: it may have said it again
        self._lock_was_there = False
        self._stop_asked: Optional[float] = None
        self._others_began = 0.0
        self._alerts: List[Row] = []  # before others changed something
        self._snapshots: Dict[str, Row] = {}  # the same
        self._deleted: List[
            Tuple[str, datetime]
        ] = []  # snapshots that others have deleted: the VM and the time of each
        self._alerts_gone: List[Row] = []  # with their policies; xapi may forget that it has deleted those
        self._stop_seen = False  # it has waited since it was asked to stop, and so has had the time to look
        self._unlicensed = False  # as it was from the beginning of the pass to its end
        self._quiet = True  # nobody else has changed anything in this pass, and no alert was lost
        self._scheduled_disks: Set[str] = set()  # uuids of disks of scheduled snapshots
        self._doomed_disks: Dict[str, Tuple[str, str]] = {}  # uuids, with the uuids of their snapshots and the SR
        self._jumped = False  # the clock was set back at some time
        self._restarted = self._restarted_in_pass = False
        self._is_down = False  # by the answer to the last call, or that there was none
        self._latest = datetime(1970, 1, 1, tzinfo=UTC)
        self._began = self._latest
        self._kept: Dict[str, Kept] = {}
        self._users: Dict[str, Set[str]] = {}
        self._ever_users: Dict[str, Set[str]] = {}  # at some time of this pass
        self._users_since: Dict[Tuple[str, str], float] = {}  # by disk and VM, on the steady clock
        self._on_since: Dict[
            str, Tuple[str, float]
        ] = {}  # the schedule of each VM, and since when, on the steady clock
        self._halted_since: Dict[str, float] = {}  # VMs, on the steady clock
        self._saved: Set[str] = set()  # snapshots that xapi has written to its database
        self.lacking: Set[str] = set()  # snapshots of which somebody took a disk
        self._policies: Dict[str, Row] = {}
        self._members: Dict[str, Set[str]] = {}
        self._slots: Dict[str, datetime] = {}
        self._retained: Dict[str, Set[int]] = {}
        self._said: Dict[str, List[Tuple[str, str]]] = {}
        self._told_of: Set[Tuple[str, str]] = set()  # what the alerts of this pass are, by name and object
        self._first_taken: Dict[str, datetime] = {}  # by policy, when the first snapshot of its run was asked for
        self._told_first: Dict[str, datetime] = {}  # the same, of a run that has been told
        self._named_at: Dict[str, datetime] = {}  # by policy, the latest time in a name that was asked for
        self._unseen: Set[str] = set()  # VMs that the pass was refused a look at
        self._claimed = 0  # expired snapshots that the alerts of this pass say are deleted
        self._journal_at_end: Set[str] = set()
        self._disturbed = False  # in this pass, snapshots may have gone that were there
        self._taken_away = 0  # in this pass, by others
        self._ever_pinned: Set[str] = set()  # snapshots that were, at some time of this pass
        self._tried: Set[str] = set()  # snapshots that were to be destroyed in this pass, and may not have gone
        self._asked_to_go: Dict[str, str] = {}  # the same, gone or not, with their uuids
        self._of_vm: Dict[str, Set[str]] = {}  # the same, by VM
        self._stuck: Set[str] = set()  # the same, in earlier passes
        self._names: Dict[str, Set[str]] = {}  # by VM, of the snapshots that were to be taken in this pass
        self._pruning = False  # this pass was asked to delete what exceeds retention, and to take nothing
        self.first_holds_the_lock = False  # while a second pass runs
        self._forced = 0  # runs that somebody asked for: they take a snapshot more of a slot
        self._by_hand = False  # somebody has asked for one in this pass
        self._peace_since = self._latest
        self._last_runs: Dict[str, datetime] = {}  # then
        self._told_before: Set[str] = set()  # then: the alerts that there were, by their uuids
        self._counts: Dict[str, int] = {}  # then: how many snapshots each VM had that retention counts
        self._ahead: Set[str] = set()  # then: VMs with snapshots that were dated in the future

    def broken(self, number: int, text: str) -> None:
        """An invariant does not hold."""
        self.found.append(Broken(number, text))

    def _check(self, number: int, holds: bool, text: str, *values: Any) -> None:
        self.checked[number] += 1
        if not holds:
            self.broken(number, text % values)

    def _hold(self, found: Found) -> None:
        for number, text in found:
            self.broken(number, text)

    # The pool

    def _rows(self, cls: str) -> Dict[str, Row]:
        return self.sim.db.tables[cls].rows

    def scheduled(self) -> Dict[str, Row]:
        """The scheduled snapshots."""
        return {ref: row for ref, row in self._rows("VM").items() if row["is_a_snapshot"] and row["is_vmss_snapshot"]}

    def _disks(self, vm: str) -> Set[str]:
        """The disks of a VM or snapshot, its memory's included."""
        rows = [self._rows("VBD")[vbd] for vbd in self.sim.db.pointing_at("VBD", "VM", vm)]
        disks = {row["VDI"] for row in rows if row["type"] == "Disk" and not row["empty"]}
        return {disk for disk in disks | {self._rows("VM")[vm]["suspend_VDI"]} if disk in self._rows("VDI")}

    def _vms_of(self, policy: str) -> Set[str]:
        return {
            ref
            for ref, row in self._rows("VM").items()
            if row["snapshot_schedule"] == policy and not row["is_a_snapshot"]
        }

    def _now(self) -> datetime:
        now = self.sim.now()
        self._latest = max(self._latest, now)
        return now

    def latest_slot(self, policy: Row, now: datetime) -> datetime:
        """The latest slot of a policy at or before an instant."""
        return latest_slot(self._zone, policy, now)

    def _restricted(self) -> bool:
        (pool,) = self._rows("pool").values()
        return bool(pool["restrictions"].get("restrict_vmss") == "true")

    def _moment(self) -> Moment:
        return Moment(self._began, self._steady_began, self._by_hand, self._quiet, self._jumped, self._restarted)

    # During a pass

    def begin(self) -> None:
        """A pass begins."""
        self.power.begin()
        self.allowed.begin(self.sim.now())
        self._by_hand = False
        self._conduct = Conduct(self.sim, self._limits, self._steady, self._is_owed)
        now = self._began = self._latest = self.sim.now()
        self._steady_began = self._steady()
        self._kept = {
            ref: Kept(row["snapshot_time"], "destroy" in row["blocked_operations"], row["snapshot_of"])
            for ref, row in self.scheduled().items()
        }
        self._users = self._users_of_disks()
        self._ever_users = {}
        self._users_since = {}
        self._policies = {ref: dict(row) for ref, row in self._rows("VMSS").items()}
        self._members = {ref: self._vms_of(ref) for ref in self._policies}
        self._slots = {ref: self.latest_slot(row, now) for ref, row in self._policies.items()}
        self._retained = {}
        self._said = {}
        self._told_of = set()
        self._read_on: Set[str] = set()  # the policies that were switched on when the pass read them
        self._unseen = set()
        self._first_taken = {}
        self._told_first = {}
        self._named_at = {}
        self._claimed = 0
        self._disturbed = False
        self._taken_away = 0
        self._ever_pinned = set()
        # What could not be deleted before is tried again beside a run.
        self._stuck |= self._tried
        self._tried = set()
        self._asked_to_go = {}
        self._of_vm = {}
        self._names = {}
        self._pruning = False
        self._mine = set()
        self._restarted_in_pass = False
        self._disk_full = self._stop_seen = False
        self._lock_was_there = any(self.lock_dir.glob("*.lock"))
        self._stop_asked = None
        self._unlicensed = self._restricted()
        self._quiet = True
        self.changed()
        self._quiet = True

    def _users_of_disks(self) -> Dict[str, Set[str]]:
        users: Dict[str, Set[str]] = {}
        for row in self._rows("VBD").values():
            users.setdefault(row["VDI"], set()).add(row["VM"])
        return users

    def changed(self) -> None:
        """Somebody else has changed something, or may have."""
        self._quiet = False
        self.allowed.changed()
        if self.sim.now() < self._latest:
            self._jumped = True
        self._now()
        for vm, row in self._rows("VM").items():
            policy = self._rows("VMSS").get(row["snapshot_schedule"])
            if policy is not None:
                self._retained.setdefault(vm, set()).add(policy["retained_snapshots"])
        for snapshot, row in self.scheduled().items():
            if "destroy" in row["blocked_operations"]:
                self._ever_pinned.add(snapshot)
            elif snapshot in self._kept:
                self._kept[snapshot] = self._kept[snapshot]._replace(pinned=False)
        users = {(disk, vm) for disk, vms in self._users_of_disks().items() for vm in vms}
        self._users_since = {use: self._users_since.get(use, self._steady()) for use in users}
        on = {vm: row["snapshot_schedule"] for vm, row in self._rows("VM").items()}
        for vm, schedule in {**dict.fromkeys(self._on_since, NULL), **on}.items():  # one that is gone has none
            if self._on_since.get(vm, ("", 0.0))[0] != schedule:
                self._on_since[vm] = schedule, self._steady()
        self._give_away()
        halted = {vm for vm, row in self._rows("VM").items() if row["power_state"] == "Halted"}
        self._halted_since = {vm: self._halted_since.get(vm, self._steady()) for vm in halted}
        self.about_to_change()

    def _give_away(self) -> None:
        """A disk that somebody has taken into use is theirs from then on, whatever they do with it."""
        snapshots = {row["uuid"]: ref for ref, row in self._rows("VM").items()}
        users = self._users_of_disks()
        for disk, row in self._rows("VDI").items():
            snapshot = self._doomed_disks.get(row["uuid"], ("", ""))[0]
            if snapshot and users.get(disk, set()) - {snapshots.get(snapshot, "")}:
                del self._doomed_disks[row["uuid"]]

    def restarted(self) -> None:
        """xapi has ended and begun."""
        self._restarted = self._restarted_in_pass = self._disturbed = True
        self._saved = set(self.scheduled())  # it has read them from there
        self.allowed.restarted()
        self.changed()

    def asked(self, method: str, params: List[Any]) -> None:
        """The code under test is about to make a call."""
        self._is_down = True
        self._now()
        if self._stop_asked is None:
            self._hold(self._conduct.asked(method, params))
        meddles = self.power.asked(method, params)
        self._check(14, not meddles or self._jumped, "a VM is to be resumed that somebody else has suspended")
        if method != "session.login_with_password" and params[0] not in self._rows("session"):
            return  # xapi has been restarted: it refuses whatever this is
        if method.startswith("Async."):
            self._check(7, not self._stop_seen, "%s is started though the pass was asked to stop", method)
        elif method == "event.from" and self._stop_asked is not None:
            self._stop_seen = True
        if method in TAKES:
            self._hold(self.allowed.takes(method, str(params[1]), self._moment()))
            self._is_named(str(params[1]), str(params[2]))
            self._names.setdefault(str(params[1]), set()).add(str(params[2]))
            policy = self._rows("VM").get(params[1], {}).get("snapshot_schedule", NULL)
            row = self._rows("VMSS").get(policy)
            named = instant_of(str(params[2]))
            # Else VMs that failed are tried again, or somebody asks for a run.
            due = row is not None and row["last_run_time"].replace(tzinfo=UTC) < self.latest_slot(row, self._latest)
            if row is not None and due and not self._is_owed(row, str(params[2])):
                self._first_taken.setdefault(policy, self.sim.now())
            self._named_at[policy] = max(self._named_at.get(policy, self._began), named)
            halted = self._steady() - self._halted_since.get(str(params[1]), inf)
            self._check(
                1,
                method != "Async.VM.checkpoint" or halted < FRESH_SECONDS,
                "a checkpoint is to be taken of a VM that is halted for %d s",
                halted,
            )
        elif method in ("Async.VM.destroy", "Async.VM.hard_shutdown"):
            self._snapshot_goes(str(params[1]))
            state = self._rows("VM").get(params[1], {}).get("power_state")
            # As xe does it: the memory goes first, and a record without its disks is nothing that somebody reverts to.
            has_memory = method == "Async.VM.destroy" and state == "Suspended"
            self._check(3, not has_memory, "%s is destroyed, and was not shut down", params[1])
            self._asked_to_go[str(params[1])] = str(self._rows("VM").get(params[1], {}).get("uuid"))
            self._tried.add(str(params[1]))
        elif method == "Async.VDI.destroy":
            self._disk_goes(str(params[1]))
        elif method == "message.create":
            self._told_of.add((str(params[1]), str(params[4])))
            for policy, row in self._rows("VMSS").items():
                if row["uuid"] == params[4] and params[1] in OUTCOMES:  # also if xapi refuses the alert
                    self._told_first[policy] = self._first_taken.pop(policy, self.sim.now())
        elif method == "VM.set_snapshot_schedule":
            self._hold(self.allowed.assigns(str(params[1]), str(params[2]), self._moment()))
        elif method == "VMSS.set_last_run_time":
            self._run_is_over(str(params[1]), str(params[2]))

    def answered(self, method: str, params: List[Any], answer: Dict[str, Any]) -> None:
        """The server has answered a call, whether that gets back or not."""
        self._conduct.answered(method, params, answer)
        if answer["Status"] != "Success":
            return
        if method == "session.login_with_password":
            self._sessions.add(answer["Value"])
            self._unheard.add(answer["Value"])
            self._mine.add(answer["Value"])
            if self._disk_full:
                self._excused.add(answer["Value"])
        elif method == "pool.sync_database":
            self._saved = set(self.scheduled())
        elif method == "VM.set_snapshot_schedule":
            self._is_assigned(str(params[1]), str(params[2]))
        elif method == "VMSS.get_all_records":
            self._read_on |= {ref for ref, row in self._rows("VMSS").items() if row["enabled"]}
        elif method == "message.create" and params[1] in OUTCOMES:
            self._said.setdefault(str(params[4]), []).append((str(params[1]), str(params[5])))
            self._says_what_is_deleted(str(params[5]))

    def _is_assigned(self, vm: str, policy: str) -> None:
        """The pass has put a VM on a schedule."""
        self._on_since[vm] = policy, self._steady()
        self._members.setdefault(policy, set()).add(vm)
        if policy in self._rows("VMSS"):
            self._retained.setdefault(vm, set()).add(self._rows("VMSS")[policy]["retained_snapshots"])

    def heard(self, method: str, params: List[Any], answer: Dict[str, Any]) -> None:
        """The answer has come to the code under test."""
        self._conduct.heard(method, params, answer)
        self._is_down = answer.get("ErrorDescription", [""])[0] == "HOST_STILL_BOOTING"
        if method == "session.login_with_password":
            self._unheard.discard(str(answer.get("Value")))  # from here on it is written down
        elif method == "message.create" and answer.get("Value") in (None, NULL):
            self._quiet = False
        elif method == "message.get" and answer["Status"] != "Success":
            self._unread = True
        elif method == "VM.get_record" and answer["Status"] != "Success":
            self._unseen.add(str(params[1]))

    def _says_what_is_deleted(self, body: str) -> None:
        """An alert counts as deleted only what is gone, with all of its disks."""
        self._claimed += sum(map(int, DELETED.findall(body)))
        disks = {row["uuid"]: ref for ref, row in self._rows("VDI").items()}
        users = self._users_of_disks()
        left = {it for uuid, (it, _) in self._doomed_disks.items() if uuid in disks and not users.get(disks[uuid])}
        gone = {ref for ref, uuid in self._asked_to_go.items() if ref not in self._rows("VM") and uuid not in left}
        self._check(
            6,
            self._claimed <= len(gone) or self._restarted_in_pass,
            "%d expired snapshots are said to be deleted, and %d are",
            self._claimed,
            len(gone),
        )

    def _is_named(self, vm: str, name: str) -> None:
        """A snapshot of this name is to be taken: of a policy, and of one of its slots, or of the beginning of a run
        that is late or by hand; or of the next second of which the VM has none. No two of a VM have the same name."""
        self._check(1, bool(SLOT_NAME.match(name)), "a snapshot is to be called %r", name)
        label, when = name.rpartition(" ")[0], instant_of(name)
        mine = {row["name_label"] for row in self.scheduled().values() if row["snapshot_of"] == vm}
        self._check(1, name not in mine, "%s: there is one of this name", name)
        while "%s %s" % (label, (when - A_SECOND).strftime(INSTANT)) in mine:
            when -= A_SECOND
        began = self._began.replace(microsecond=0)
        self._check(
            1,
            not self._pruning or when > self._began or self._jumped,
            "%s is to be taken by a pass that was to prune",
            name,
        )
        for policy, row in self._policies.items():
            if row["name_label"] == label:
                on = policy in self._read_on
                self._check(1, on or bool(self._forced), "%s is taken, and its schedule is off", name)
                slot = self.latest_slot(row, when)
                is_slot = slot == when
                self._hold(self.allowed.is_in_time(policy, row, when, slot, self._moment()))
                self._check(
                    1, is_slot or began <= when or self._jumped, "%s: this is no slot, nor when a run began", name
                )
        schedule, since = self._on_since.get(vm, ("", inf))
        self._check(
            1,
            self._jumped
            or vm in self._unseen
            or self._steady() - since < FRESH_SECONDS
            or self._rows("VMSS").get(schedule, {}).get("name_label") == label,
            "%s is taken of a VM that has left the schedule for long",
            name,
        )
        if self._forced == 0 and not self._jumped:
            self._check(1, not self._has_one_of_the_slot(vm, label), "%s is taken, and there is one of the slot", name)

    def _has_one_of_the_slot(self, vm: str, label: str) -> bool:
        """Whether a VM had a snapshot of its schedule's latest slot as the pass began."""
        slots = [self.latest_slot(row, self._latest) for row in self._policies.values() if row["name_label"] == label]
        return any(
            it.vm == vm and slots[0] <= it.time.replace(tzinfo=UTC) <= self._began and ref in self.scheduled()
            for ref, it in self._kept.items()
            if slots and not self._is_incomplete(ref)
        )

    def _is_incomplete(self, snapshot: str) -> bool:
        return snapshot in self._rows("VM") and any(
            self._rows("VBD")[vbd]["VDI"] not in self._rows("VDI")
            for vbd in self.sim.db.pointing_at("VBD", "VM", snapshot)
        )

    def _snapshot_goes(self, ref: str) -> None:
        row = self._rows("VM").get(ref)
        if row is None:
            return
        name = row["name_label"]
        self._check(2, row["is_a_snapshot"] and row["is_vmss_snapshot"], "%s is no scheduled snapshot", name)
        vm, time = row["snapshot_of"], row["snapshot_time"]
        kept = self._kept.get(ref)
        self._check(
            2, kept is None or not kept.pinned or "destroy" not in row["blocked_operations"], "%s is pinned", name
        )
        self._check(2, time <= self._latest, "%s is dated in the future", name)
        # What others have pinned or deleted since the pass began was counted by it.
        mine = {
            other: it
            for other, it in self.scheduled().items()
            if it["snapshot_of"] == vm
            and ("destroy" not in it["blocked_operations"] or other not in self._kept or not self._kept[other].pinned)
        }
        # Clocks differ a little: so much in the future may be now.
        count = self._taken_away + sum(1 for it in mine.values() if it["snapshot_time"] <= self._latest + A_MINUTE)
        allowed = min(self._retained.get(vm, {10}))
        self._check(2, count > allowed, "%s goes, though there are %d and %d are to stay", name, count, allowed)
        self._few_go(ref, vm, name)
        older = [
            it["name_label"]
            for other, it in mine.items()
            if it["snapshot_time"] < time
            and other in self._kept
            and other not in self._ever_pinned
            and other not in self._tried | self._stuck  # what could not be deleted is passed over
            and not it["current_operations"]  # somebody copies it
        ]
        policy = self._rows("VMSS").get(self._rows("VM").get(vm, {}).get("snapshot_schedule", NULL))
        if self.allowed.thins and (policy is None or self.allowed.rule(policy, vm)[0]):
            if policy is not None:  # else nobody knows by which rule it goes
                self._goes_by_rule(ref, vm, policy, mine, allowed)
        else:
            self._check(2, not older, "%s goes before the older %s", name, older)
        # xapi gives the times of snapshots in whole seconds.
        newer = [other for other, it in mine.items() if other != ref and it["snapshot_time"] >= time]
        self._check(2, bool(newer) or self._taken_away > 0 or self._jumped, "%s goes, and there is no newer one", name)
        good = {other for other in mine if other != ref and other not in self.lacking}
        saved = self._taken_away + len(good & (self._saved | set(self._kept)))
        self._check(15, saved >= min(allowed, len(mine) - 1), "%s goes, and %d are complete and on disk", name, saved)
        recorded = self._recorded()
        self._check(3, row["uuid"] in recorded, "%s goes and is not recorded", name)
        for disk in self._disks(ref):
            it = self._rows("VDI")[disk]
            if it["is_a_snapshot"] or it["type"] == "suspend":
                self._scheduled_disks.add(it["uuid"])
                # One that another VM used when the pass looked is left alone, though that VM may be gone since.
                users = self._users_of_disks().get(disk, set()) | self._ever_users.get(disk, set())
                if it["type"] == "suspend" or users == {ref}:
                    self._doomed_disks[it["uuid"]] = row["uuid"], it["SR"]

    def _goes_by_rule(self, ref: str, vm: str, policy: Row, mine: Dict[str, Row], allowed: int) -> None:
        """A snapshot is to go, of a VM of which not the newest are to stay: it is none of those that are."""
        if not self._quiet or self._taken_away or self._jumped:
            return
        times = {
            other: it["snapshot_time"].replace(tzinfo=UTC)
            for other, it in mine.items()
            if it["snapshot_time"] <= self._latest
        }
        # Nobody knows when it was decided: those that are young enough to stay are fewer with each moment.
        stays = all(ref in self.allowed.stay(policy, vm, times, allowed, now) for now in (self._began, self._latest))
        name = mine[ref]["name_label"] if ref in mine else ref
        self._check(2, not stays, "%s goes, and by the rule %s it stays", name, self.allowed.rule(policy, vm))

    def _few_go(self, ref: str, vm: str, name: str) -> None:
        """A snapshot of a VM is to go: not more than a run may delete."""
        tried = self._of_vm.setdefault(vm, set())
        tried.add(ref)
        if self._pruning:
            return
        gone = len([other for other in tried - self._stuck if other != ref and other not in self._rows("VM")])
        # One run of the VM for each name that a snapshot was to get, and one that found the VM served: by an earlier
        # pass, or by this one before the VM was moved to another policy.
        policy = self._rows("VM").get(vm, {}).get("snapshot_schedule", NULL)
        slot = self._slots.get(policy)
        moved = vm not in self._members.get(policy, ())
        served = slot is not None and any(it.vm == vm and it.time >= slot for it in self._kept.values())
        # A run whose snapshots were not even tried has no name: each tick that the pass has lived through may be one.
        ticks = int(self._latest.timestamp()) // 900 - int(self._began.timestamp()) // 900
        runs = max(1, len(self._names.get(vm, ())) + (served or moved)) + ticks
        # And each of which the pass has told.
        runs = max(runs, 1 + len(self._said.get(str(self._rows("VMSS").get(policy, {}).get("uuid")), ())))
        self._check(2, gone < runs * GO_IN_A_RUN, "%s goes, as the %d. of its VM in %d runs", name, gone + 1, runs)

    def _recorded(self) -> Dict[str, List[str]]:
        """What is recorded to be destroyed: disks by snapshots, uuids both."""
        recorded: Dict[str, List[str]] = {}
        for pool in self._rows("pool").values():
            for key, text in pool["other_config"].items():
                if key.startswith(JOURNAL):
                    for snapshot, disks in json.loads(text)["destroying"].items():
                        recorded.setdefault(snapshot, []).extend(disks)
        return recorded

    def _is_owed(self, row: Row, name: str) -> bool:
        """Whether a snapshot with this name, of a VM of this policy, is that of one that is tried again: a pass that is
        late may come to it only after the next slot."""
        notes = [pool["other_config"].get(OWED + row["uuid"]) for pool in self._rows("pool").values()]
        slots = [json.loads(note)["slot"] for note in notes if note]
        return self.latest_slot(row, instant_of(name)).strftime("%Y%m%dT%H:%M:%SZ") in slots

    def _others(self, disk: str) -> Set[str]:
        """Who uses a disk, and has done so for longer than a look at it may be old."""
        now = {row["VM"] for row in self._rows("VBD").values() if row["VDI"] == disk}
        return {vm for vm in now if self._steady() - self._users_since.get((disk, vm), inf) > LOOK_SECONDS}

    def _disk_goes(self, ref: str) -> None:
        row = self._rows("VDI").get(ref)
        if row is None:
            return
        uuid = row["uuid"]
        self._check(4, row["is_a_snapshot"] or row["type"] == "suspend", "disk %s is no snapshot", uuid)
        self._check(4, row["managed"], "disk %s is a base copy", uuid)
        self._check(4, not self._others(ref), "disk %s is used elsewhere", uuid)
        self._check(4, uuid in self._scheduled_disks, "disk %s was no scheduled snapshot's", uuid)
        suspended = [it["name_label"] for it in self._rows("VM").values() if it["suspend_VDI"] == ref]
        self._check(4, not suspended, "disk %s is the memory of %s", uuid, suspended)
        self._check(3, any(uuid in disks for disks in self._recorded().values()), "disk %s is not recorded", uuid)

    def _run_is_over(self, policy: str, value: str) -> None:
        row = self._rows("VMSS").get(policy)
        if row is None:
            return
        when = datetime.strptime(value, "%Y%m%dT%H:%M:%SZ").replace(tzinfo=UTC)
        before = row["last_run_time"].replace(tzinfo=UTC)
        self._check(
            10,
            when >= before or before > self._latest or self._jumped,
            "last-run-time goes back from %s to %s",
            before,
            when,
        )
        slot = self.latest_slot(row, when)
        told = ("VMSS_SNAPSHOT_MISSED_EVENT", row["uuid"]) in self._told_of
        # A run is named after its slot, or its beginning if that is later. VMs that are tried again make no run.
        has_run = self._named_at.get(policy, self._began) >= slot
        missed = row["enabled"] and self._told_first.pop(policy, when) < slot and not has_run
        self._check(9, told or not missed or self._jumped, "%s: nobody is told that %s is missed", policy, slot)
        said = self._said.get(row["uuid"], [])
        self._check(10, bool(said), "last-run-time of %s is set without an alert", row["name_label"])
        # The run of a slot is told once, and once more if the VMs that failed get their snapshots later.
        # One by hand may begin in the second of the slot.
        runs = [
            (re.findall(r"(?:has its|have their) snapshot of (.*?);", body), "started by hand" in body)
            for _, body in said
            if "was tried again" not in body
        ]
        if not self._jumped:
            self._check(
                9, all(runs.count(run) == 1 for run in runs), "%s is told twice of one run: %s", row["name_label"], runs
            )
        if policy not in self._members:
            return
        if self._jumped or (said and "was tried again" in said[-1][1]):
            self._note_excused(policy, row)
        if self._jumped:
            return
        if said and "was tried again" in said[-1][1]:
            return  # it is about the VMs that had failed, and not about those that have joined the policy since
        earlier = self._policies[policy]["last_run_time"].replace(tzinfo=UTC)
        if said and not self._disturbed and "started by hand" not in said[-1][1]:
            self._check(
                9,
                not self.latest_slot(row, when) <= earlier <= self._began + A_MINUTE,
                "%s is served, though its run of %s has told of the latest slot",
                row["name_label"],
                earlier,
            )
        by_hand = bool(said) and "started by hand" in said[-1][1]
        self._each_has_its_own(policy, row, "".join(body for _, body in said), by_hand)

    def _note_excused(self, policy: str, row: Row) -> None:
        """A run is over of which not all is known: note the VMs that need no snapshot."""
        excuses = {vm for vm in self._vms_of(policy) if self.allowed.excuses(row, vm, self._moment())}
        self.allowed.run_is_over(policy, excuses)

    def _each_has_its_own(self, policy: str, row: Row, bodies: str, by_hand: bool) -> None:
        """A run is over: each of its VMs has its snapshot, or its alerts name it, or it needs none and they say so. Who
        runs a schedule by hand wants one of each."""
        excused: Set[str] = set()
        for vm in sorted(self._members[policy] & self._vms_of(policy)):
            it = self._rows("VM")[vm]
            has = any(
                snapshot["snapshot_of"] == vm and snapshot["snapshot_time"].replace(tzinfo=UTC) >= self._slots[policy]
                for snapshot in self.scheduled().values()
            )
            named = "UUID:%s " % it["uuid"] in bodies
            if not has and not named and not by_hand and self.allowed.excuses(row, vm, self._moment()):
                excused.add(vm)
            # Somebody may have deleted it since; and xapi may have forgotten it.
            if not self._disturbed:
                self._check(
                    6,
                    has or named or vm in excused,
                    "%s has no snapshot, and the alert of %s does not name it",
                    it["name_label"],
                    row["name_label"],
                )
        self.allowed.run_is_over(policy, excused)
        told = self.allowed.told(bodies)
        if not self._disturbed:
            self._check(9, told >= len(excused), "%d VMs are left out, and %d are told", len(excused), told)

    def about_to_change(self) -> Dict[str, str]:
        """Others are about to change something. Return the scheduled snapshots that there are, with their uuids."""
        snapshots = self.scheduled()
        for disk, users in self._users_of_disks().items():
            self._ever_users.setdefault(disk, set()).update(users)
        for snapshot in snapshots:
            self._scheduled_disks |= {self._rows("VDI")[disk]["uuid"] for disk in self._disks(snapshot)}
        self._others_began = self._steady()
        self._alerts = list(self.sim.messages.records.values())
        self._snapshots = snapshots
        return {snapshot: row["uuid"] for snapshot, row in snapshots.items()}

    def others_acted(self, before: Dict[str, str]) -> None:
        """Others have changed something; `before` are the scheduled snapshots that there were."""
        if self._stop_asked is not None:
            self._stop_asked += self._steady() - self._others_began  # that was their time, not the pass's
        lasted = self._steady() - self._others_began  # their time: the pass could look at nothing
        self._conduct.others_took(lasted)
        self._on_since = {vm: (policy, since + lasted) for vm, (policy, since) in self._on_since.items()}
        self._halted_since = {vm: since + lasted for vm, since in self._halted_since.items()}
        self._users_since = {use: since + lasted for use, since in self._users_since.items()}
        gone = set(before) - set(self.scheduled())
        self._taken_away += len(gone)
        rows = [self._snapshots[snapshot] for snapshot in sorted(gone)]
        self._deleted += [(row["snapshot_of"], row["snapshot_time"].replace(tzinfo=UTC)) for row in rows]
        self._disturbed = self._disturbed or bool(gone)
        for policy in self._members:
            self._members[policy] &= self._vms_of(policy)  # the pass may not have seen who went and came back
        # A second pass, which nobody watches, may have taken a snapshot and begun to delete it.
        self._scheduled_disks.update(disk for disks in self._recorded().values() for disk in disks)
        # What is left of those is left by others, also if we had destroyed them before, and xapi forgot it.
        theirs = {before[snapshot] for snapshot in gone}
        # xapi deletes the alerts of a policy with it. They are files: if xapi dies, only the policy may come back.
        policies = {row["uuid"] for ref, row in self._policies.items() if ref not in self._rows("VMSS")}
        self._alerts_gone += [it for it in self._alerts if it["obj_uuid"] in policies]
        self._doomed_disks = {disk: it for disk, it in self._doomed_disks.items() if it[0] not in theirs}
        self.changed()

    def second_asked(self, method: str, params: List[Any]) -> None:
        """A second pass, while the first is under way, is about to make a call."""
        if self.first_holds_the_lock:
            self._check(
                5,
                not method.startswith("Async.") and method != "VMSS.set_last_run_time",
                "a second pass calls %s while the first holds the lock",
                method,
            )

    def asked_to_stop(self) -> None:
        """The process of the pass gets a SIGTERM."""
        if self._stop_asked is None:
            self._stop_asked = self._steady()

    def clock_was_set_back(self) -> None:
        """Between two passes: what was said and taken before may be said and taken again."""
        self._jumped = True

    def disk_is_full(self) -> None:
        """From now on, and until the pass has ended, it can write nothing down. What earlier ones have written down
        must not be lost."""
        self._disk_full = True
        self._excused |= self._mine

    def licence_changed(self) -> None:
        """Scheduled snapshots are allowed, or are not any more."""
        self._unlicensed = False

    def forced(self) -> None:
        """Somebody asks for a run of a policy whatever its schedule."""
        self._forced += 1
        self._by_hand = True
        self._quiet = False

    def pruned(self) -> None:
        """Somebody asks to delete what exceeds retention, at once; the pass has just begun. What is due is nothing to
        such a pass, so it tells nobody that the licence does not allow it."""
        self._pruning = True
        self._quiet = False

    def peace(self) -> None:
        """The faults have ended."""
        self._peace_since = self.sim.now()
        self._last_runs = {ref: row["last_run_time"].replace(tzinfo=UTC) for ref, row in self._rows("VMSS").items()}
        self._told_before = {it["uuid"] for it in self.sim.messages.records.values()}
        # What is dated in the future then will be past when it is counted again.
        self._counts = self._counted(datetime.max.replace(tzinfo=UTC))
        self._ahead = {
            it["snapshot_of"]
            for it in self.scheduled().values()
            if it["snapshot_time"].replace(tzinfo=UTC) > self.sim.now()
        }
        self.restarted()

    def second_ended(self, status: str) -> None:
        """A second pass has ended."""
        if self.first_holds_the_lock:
            self._check(5, status[:1] in "43", "a second pass ended with %r while the first held the lock", status)

    # After a pass

    def end(self, status: str) -> None:
        """A pass has ended."""
        quiet = self._quiet
        self._hold(self.allowed.ended(status, self._kept, self._moment()))
        self.changed()
        lasted = self._steady() - self._steady_began
        self._check(7, lasted < LONGEST_PASS, "the pass lasted for %d s", lasted)
        self._exactly_once()
        unmarked = [
            row["name_label"]
            for row in self._rows("VM").values()
            if row["is_a_snapshot"] and not row["is_vmss_snapshot"] and SLOT_NAME.match(row["name_label"])
        ]
        self._check(8, not unmarked, "snapshots that nobody will know as scheduled: %s", unmarked)
        written = self._written()
        if status != "killed":
            for lock_dir in self._lock_dirs:
                self._check(5, not lock_is_held(lock_dir), "the lock is still held")
        if self._stop_asked is not None:
            lasted = self._steady() - self._stop_asked
            self._check(
                7,
                lasted <= self._stop_limit + STOPPING_SECONDS,
                "the pass went on for %d s when it was asked to stop",
                lasted,
            )
        if self._disk_full and self._lock_was_there:
            self._check(6, not status.startswith("2 LockError"), "a full disk has ended the pass: %s", status)
        if status[:1] in "01" and self._stop_asked is None:
            if not self._restarted_in_pass and "stopped before the end" not in status:
                self._hold(self._conduct.ended())
            # To a xapi that is down, nothing can be said.
            unsaid = [] if self._is_down else list(self.power.unsaid())
            self._check(14, not unsaid, "the pass has left VMs suspended, and says nothing of it: %s", unsaid)
        for session in self._open():
            self._check(
                8,
                session in written or session in self._unheard or session in self._excused,
                "a session is open and written down nowhere",
            )
        if self._unlicensed and quiet and status[:1] in "01" and self._stop_asked is None and not self._jumped:
            self._told_of_the_licence()

    def _told_of_the_licence(self) -> None:
        """A pass has found policies due, and could not serve them."""
        for ref, row in self._policies.items():
            slot = self.latest_slot(row, self._began)
            last = row["last_run_time"].replace(tzinfo=UTC)
            if not row["enabled"] or not self._members[ref] or last.year == 1970 or last >= slot:
                continue
            if self.allowed.is_not_due(ref, row, slot, self._began):
                continue
            told = [
                it
                for it in self.sim.messages.records.values()
                if it["obj_uuid"] == row["uuid"]
                and it["name"] == "VMSS_LICENSE_ERROR"
                and it["timestamp"].replace(tzinfo=UTC) >= slot
            ]
            once = len(told) == 1 or (bool(told) and self._unread)
            self._check(
                9,
                once,
                "%s was told %d times that the licence does not allow its run of %s",
                row["name_label"],
                len(told),
                slot,
            )

    def _exactly_once(self) -> None:
        """No VM has two snapshots of one slot. Where the clock was set back there is no telling which is which."""
        if self._jumped:
            return
        seen: Dict[Tuple[str, str], int] = {}
        for row in self.scheduled().values():
            key = row["snapshot_of"], row["name_label"]
            seen[key] = seen.get(key, 0) + 1
        for (vm, name), count in seen.items():
            self._check(1, count <= 1 + self._forced, "%d snapshots %r of %s", count, name, vm)

    def _open(self) -> List[str]:
        """Sessions of ours that are open."""
        return [ref for ref, row in self._rows("session").items() if row["auth_user_name"] == "__dom0__vmss"]

    def _files(self, pattern: str, lock_dirs: Sequence[Path]) -> List[Row]:
        texts = [path.read_text().strip("\0 ") for lock_dir in lock_dirs for path in sorted(lock_dir.glob(pattern))]
        found = []
        for text in texts:
            with suppress(ValueError):  # the disk was full
                found.append(json.loads(text))
        return found

    def _written(self) -> Set[str]:
        """The sessions that the next pass will find written down."""
        found = set()
        for it in self._files("*.lock", self._lock_dirs):
            found |= {str(it.get("session")), *it.get("died", [])}
        found |= {str(it.get("session")) for it in self._files("login-*", self._lock_dirs)}
        for kept in self._files("*.sessions", self._lock_dirs):
            found |= {str(entry["session"]) for entry in kept["sessions"]}
        return found

    # At the end

    def check_first(self) -> None:
        """The faults have ended, and one tick has passed: it has found the VMs that are down."""
        down = list(self.power.down())
        self._check(14, not down, "the first tick has not found that VMs are down: %s", down)

    def check_end(self) -> None:
        """The faults have ended, and quiet ticks have passed: everything holds."""
        now = self.sim.now()
        messages = self._alerts_gone + list(self.sim.messages.records.values())
        for policy, row in self._rows("VMSS").items():
            members = self._vms_of(policy)
            slot = self.latest_slot(row, self._began)
            last = row["last_run_time"].replace(tzinfo=UTC)
            # One that never ran, as far as anybody can tell, is due only in the tick of its slot.
            if not row["enabled"] or not members or last.year == 1970 or last > now:
                continue
            unserved = slot > last and self.allowed.may_be_unserved(policy, row, slot, messages)
            self._check(9, slot <= last or unserved, "%s of %s was not served", slot, row["name_label"])
            if unserved:
                continue
            mine = [
                it
                for it in messages
                if it["obj_uuid"] == row["uuid"]
                and it["name"] in OUTCOMES
                and it["timestamp"].replace(tzinfo=UTC) >= slot
            ]
            self._check(9, bool(mine), "the run of %s for %s was silent", row["name_label"], slot)
            bodies = "".join(it["body"] for it in mine)
            if slot < self._peace_since or last == self._last_runs.get(policy):
                continue  # it was served before the end of the faults: somebody may have deleted its snapshot since
            excused = 0
            # What was dated in the future may have got a date of this slot by now.
            for vm in sorted(members - self._ahead):
                count = sum(
                    1
                    for it in self.scheduled().values()
                    if it["snapshot_of"] == vm and slot <= it["snapshot_time"].replace(tzinfo=UTC) <= now
                )
                it = self._rows("VM")[vm]
                named = "UUID:%s " % it["uuid"] in bodies
                spared = not count and not named and self._was_excused(policy, row, vm)
                excused += spared
                # Where the clock was set back, the slot may have come before: then somebody may have asked for a run by
                # hand since, and somebody may have deleted what was taken.
                most = 1 + self._forced if self._jumped else 1
                taken_away = self._jumped and any(of == vm and time >= slot for of, time in self._deleted)
                self._check(
                    1,
                    1 <= count <= most or ((named or taken_away or spared) and not count),
                    "%s has %d snapshots of %s",
                    it["name_label"],
                    count,
                    slot,
                )
                # Where the clock was set back, an alert that is dated later may be of an earlier run.
                runs = sum(1 for alert in mine if alert["uuid"] not in self._told_before)
                self._keeps_no_more(vm, row, runs, named)
            told = self.allowed.told(bodies)
            self._check(9, told >= excused, "%d VMs are left out, and %d are told", excused, told)
        unassigned = list(self.allowed.unassigned())
        self._check(1, not unassigned, "VMs that their tags put on a schedule are on none: %s", unassigned)
        self._nothing_left()
        down = list(self.power.down())
        self._check(14, not down, "VMs that nobody else has suspended are not running: %s", down)

    def _was_excused(self, policy: str, row: Row, vm: str) -> bool:
        """Whether the last run of a policy may have left a VM out; where the clock was set back, nobody has looked."""
        return self.allowed.was_excused(policy, vm) or (self._jumped and self.allowed.excuses(row, vm, self._moment()))

    def _counted(self, now: datetime) -> Dict[str, int]:
        """How many snapshots each VM has that retention counts at some time."""
        counts: Dict[str, int] = {}
        for it in self.scheduled().values():
            if "destroy" not in it["blocked_operations"] and it["snapshot_time"].replace(tzinfo=UTC) <= now:
                counts[it["snapshot_of"]] = counts.get(it["snapshot_of"], 0) + 1
        return counts

    def _keeps_no_more(self, vm: str, policy: Row, runs: int, named: bool) -> None:
        """After runs in which nothing went wrong, a VM has no more than are to be kept; but beyond the usual one, a run
        deletes no more than two."""
        count = self._counted(self.sim.now()).get(vm, 0)
        most = max(int(policy["retained_snapshots"]), self._counts.get(vm, 0) - 2 * runs)
        self._check(2, named or count <= most, "%s keeps %d, not %d", self._rows("VM")[vm]["name_label"], count, most)

    def _nothing_left(self) -> None:
        recorded = self._recorded()
        self._check(3, not recorded, "still recorded to be destroyed: %s", recorded)
        snapshots = {row["uuid"] for row in self.scheduled().values()}
        disks = {row["uuid"]: ref for ref, row in self._rows("VDI").items()}
        used = {row["VDI"] for row in self._rows("VBD").values()} | {
            row["suspend_VDI"] for row in self._rows("VM").values()
        }
        for uuid, (snapshot, _) in sorted(self._doomed_disks.items()):
            left = uuid in disks and snapshot not in snapshots and disks[uuid] not in used
            self._check(3, not left, "disk %s is left of snapshot %s", uuid, snapshot)
        for session in self._open():
            self._check(8, session in self._unheard | self._excused, "a session is left open")
        for row in self._rows("task").values():
            mine = row["session"] in self._sessions - self._excused and row["subtask_of"] == NULL
            self._check(8, not mine, "the record of task %s (%s) is left", row["name_label"], row["status"])
        for pattern in ("*.lock", "*.sessions"):
            # What a host keeps that is no coordinator any more is nobody's concern.
            kept = self._files(pattern, [self.lock_dir])
            self._check(8, not kept, "something is left in the lock: %s", kept)

    def check_left(self) -> None:
        """A world of weeks has ended: none of the passes has left anything of its own."""
        self._nothing_left()
