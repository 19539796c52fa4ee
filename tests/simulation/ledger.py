"""The oracle of a world of weeks: what was promised to each VM and by when, what became of it, what is not in order.

Nothing here is shared with the code under test: it reads the tables of the embedded xapi, finds slots in a way of its
own (slots.py), and is told by the world of troubles, of what people do and of restarts. All times are the pool's own.
"""

import json
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Set, Tuple

from tests.simulation.allowed import Allowed
from tests.simulation.slots import latest_slot
from vmss.simulator import Simulator

UTC = timezone.utc
NULL = "OpaqueRef:NULL"
JOURNAL = "vmss-destroying:"
A_MINUTE = timedelta(minutes=1)
# A VM whose own storage and host work has its snapshot so soon after its slot. Looks come every quarter of an hour, so
# that it is seen at the second tick after the slot.
SERVED_WITHIN = timedelta(minutes=20)
# A slot that is this old should be over: two ticks that could not serve it, and more than a run without trouble takes.
OVER_AFTER = timedelta(minutes=75)
# What a trouble leaves under way may last so long after its end: operations that end late, and a queue behind them.
SETTLED_AFTER = timedelta(minutes=45)
# A VM that missed its slot, and is well again, is tried again within so many ticks, if the trouble ended soon enough.
TRIED_AGAIN_WITHIN = timedelta(minutes=65)
TRIED_AGAIN_UNTIL = timedelta(hours=2)
# A VM that we suspended is back so soon; a checkpoint may run into its limit twice.
RESUMED_WITHIN = timedelta(minutes=75)
# What is left over is gone so long after everything works again, or is told. What could not be destroyed is tried again
# at growing pauses, each as long as the tries have gone on, and the longest of them a day (rule 13).
LEFT_FOR = timedelta(minutes=75)
LEFT_OVER = "vmss-left-over:"
LONGEST_PAUSE = timedelta(days=1)
# The alert of a run may be raised so long after the limit on its snapshots: one that is cancelled may end late, the
# alert waits some minutes for deletions, and the tick of the slot may have come late.
TOLD_WITHIN = timedelta(minutes=50)
# So often is a deletion that fails tried in a day: after 15 minutes, and then at pauses that grow.
TRIES_A_DAY = 12
# Beyond the usual one, a run deletes at most so many of a VM.
GENTLE = 2

Row = Dict[str, Any]


class Lapse(NamedTuple):
    """A check that does not hold, by its name."""

    check: str
    text: str

    def __str__(self) -> str:
        return "%s: %s" % (self.check, self.text)


class Touch(NamedTuple):
    """Whom a trouble concerns: SRs, VMs and hosts by reference, or everybody; `kept` are snapshots that cannot be
    deleted. `takes_only`: it keeps no snapshot from being deleted. `refused`: deletions fail, and are tried again at
    growing pauses. `lasting`: VMs fail for a reason that somebody has to remove, so that none is tried again
    before the next slot."""

    srs: FrozenSet[str] = frozenset()
    vms: FrozenSet[str] = frozenset()
    hosts: FrozenSet[str] = frozenset()
    everybody: bool = False
    kept: FrozenSet[str] = frozenset()
    takes_only: bool = False
    refused: bool = False
    lasting: bool = False


class _Trouble:
    """A trouble: whom it touches, since when, and until when if it is over."""

    def __init__(self, touch: Touch, since: datetime) -> None:
        self.touch = touch
        self.since = since
        self.until: Optional[datetime] = None


def _pause_after(trouble: _Trouble, until: datetime) -> timedelta:
    """How long after the end of a trouble what failed in it may wait for the next try."""
    return min(LONGEST_PAUSE, until - trouble.since) if trouble.touch.refused else timedelta()


class _Member:
    """What the account says of a VM on a schedule. `since`: from when on slots are promised to it; `slot`: the latest
    one, with the snapshots that the VM had before it; `not_in`: a run that it was not in, or in which it failed, of a
    time that has not come yet; the rest: whether a check was made for that slot."""

    def __init__(self, policy: str, since: datetime) -> None:
        self.policy = policy
        self.since = since
        self.slot: Optional[datetime] = None
        self.not_in: Optional[datetime] = None
        self.before: FrozenSet[str] = frozenset()
        self.retained = 0
        self.served_asked = False
        self.again_asked = False
        self.kept_asked = False


class Verdict(NamedTuple):
    """What `vmss status` has to say: `broken` promises and what is `left` over must be told; where there is nothing of
    them and nothing is in `doubt`, all is well and has to be called so. `missing` are the VMs that lack a snapshot."""

    broken: List[str]
    left: List[str]
    doubt: List[str]
    missing: List[str]

    @property
    def well(self) -> bool:
        """Whether everything is certainly in order."""
        return not (self.broken or self.left or self.doubt)


class Ledger:
    """The account of one world. `lapses` are the checks that did not hold; `asked` counts how often each was made."""

    def __init__(self, sim: Simulator, zone: str, snapshot_limit: int, checkpoint_limit: int, allowed: Allowed) -> None:
        """The limits are the product's settings, in seconds; `allowed` knows what is switched on."""
        self.sim = sim
        self._allowed = allowed
        self.snapshot_limit = snapshot_limit
        self.checkpoint_limit = checkpoint_limit
        self._told_asked: Dict[str, datetime] = {}  # by policy, the last slot of which it was asked whether it was told
        self._tries: Dict[str, List[datetime]] = {}  # by reference, when a pass tried to destroy it
        self._expired: Dict[str, datetime] = {}  # by reference, since when an expired snapshot that was tried is there
        self.lapses: List[Lapse] = []
        self.asked: Dict[str, int] = {}
        self._zone = zone
        self._troubles: List[_Trouble] = []
        self._members: Dict[str, _Member] = {}  # by VM
        self._schedules: Dict[str, Tuple[Any, ...]] = {}  # what decides a policy's slots, and whether it has any
        self._since: Dict[str, datetime] = {}  # by policy: when that was changed
        self._states: Dict[str, str] = {}  # the power states in which people left their VMs
        self._off_since: Dict[str, datetime] = {}  # VMs that are in another one
        self._had: Dict[str, FrozenSet[str]] = {}  # the scheduled snapshots of each VM at the last look
        self._usable: Set[str] = set()  # VMs that had a usable one then
        self._left_since: Dict[str, datetime] = {}  # what is left over, and since when
        self._left_told: Set[str] = set()  # what of that has been told
        self._left_by_people: Set[str] = set()  # disks that are none of ours
        self.pending = False  # whether a later look has to check something, though nothing changes until then
        self._taken_away: Set[str] = set()  # snapshots that other people deleted

    # What the world tells

    def trouble_begins(self, touch: Touch) -> _Trouble:
        """From now on it may be somebody else's fault."""
        trouble = _Trouble(touch, self.sim.now())
        self._troubles.append(trouble)
        return trouble

    def trouble_ends(self, trouble: _Trouble) -> None:
        """And from now on not any more, but for what is under way."""
        trouble.until = self.sim.now()

    def accept(self, *vms: str) -> None:
        """People have left these VMs as they are now."""
        for vm in vms:
            self._states.pop(vm, None)
            self._off_since.pop(vm, None)

    def accept_restart(self) -> None:
        """xapi was restarted: it may have forgotten what people did, but we have not forgotten who ran."""
        for vm, state in list(self._states.items()):
            row = self._rows("VM").get(vm)
            if row is not None and not (state == "Running" and row["power_state"] == "Suspended"):
                self.accept(vm)

    def people_deleted(self, snapshots: Set[str]) -> None:
        """Somebody else has deleted scheduled snapshots."""
        self._taken_away |= snapshots

    def pruned(self, before: Dict[str, Dict[str, Row]], whole: bool) -> None:
        """Somebody had what exceeds retention deleted; `before` are the snapshots that there were. `whole`: that came
        to its end, without an error."""
        now, after = self.sim.now(), self.snapshots()
        for vm, rows in before.items():
            left, member = after.get(vm, {}), self._members.get(vm)
            gone = set(rows) - set(left)
            self._taken_away |= gone
            if member is None:
                self._ask("13 pruned", not gone, "pruning has deleted %d of a VM without a schedule", len(gone))
                continue
            policy, name = self._rows("VMSS")[member.policy], self._rows("VM")[vm]["name_label"]
            retained = int(policy["retained_snapshots"])
            counted = self._counted(left, now)
            if gone:
                self._ask("13 pruned", len(counted) >= retained, "pruning has left %s %d", name, len(counted))
            busy = {ref for ref in counted if left[ref]["current_operations"]} | self._kept()
            if whole and policy["enabled"] and not self._touched(vm, now - SERVED_WITHIN, now, deleting=True):
                many = len(counted - busy)
                self._ask("13 pruned", many <= retained, "pruning has left %s %d, and not %d", name, many, retained)

    def served_by_hand(self, policy: str, since: datetime, status: int) -> None:
        """A pass has told somebody who asked it for a run since then how that has ended: with the exit status of a
        command."""
        if status not in (0, 1):
            return  # it was refused
        now, snapshots = self.sim.now(), self.snapshots()
        for vm, member in self._members.items():
            is_on = self._rows("VM")[vm]["snapshot_schedule"] == policy  # it may have left since the last look
            if is_on and member.policy == policy and member.since < since:
                newest = self._newest(snapshots.get(vm, {}), now)
                has = newest is not None and newest >= since.replace(microsecond=0)
                name = self._rows("VM")[vm]["name_label"]
                if status == 0 or not self._touched(vm, since - SERVED_WITHIN, now):
                    self._ask("handed over", has, "%s has no snapshot of the run that was asked for", name)

    def people_left(self, before: Set[str]) -> None:
        """What is left over beyond this was left by other people."""
        self._left_by_people |= {what for _, what in self.left()} - before

    def clock_was_set(self, seconds: float) -> None:
        """The clock makes a step: what was promised before is void, and intervals keep their lengths."""
        step, now = timedelta(seconds=seconds), self.sim.now()
        for vm, member in self._members.items():
            last_run = self._last_run(member)
            slot = latest_slot(self._zone, self._rows("VMSS")[member.policy], last_run)
            without = last_run < member.since or self._failed_for_good(vm, slot)
            member.not_in = last_run if now < last_run and without else None
        for trouble in self._troubles:
            trouble.since += step
            trouble.until = trouble.until + step if trouble.until is not None else None
        for times in (self._off_since, self._left_since, self._expired):
            times.update({key: at + step for key, at in times.items()})
        self._since = dict.fromkeys(self._since, now)
        for member in self._members.values():
            member.since, member.slot = now, None

    # The pool

    def _rows(self, cls: str) -> Dict[str, Row]:
        return self.sim.db.tables[cls].rows

    def snapshots(self) -> Dict[str, Dict[str, Row]]:
        """The scheduled snapshots, by VM and reference."""
        found: Dict[str, Dict[str, Row]] = {}
        for ref, row in self._rows("VM").items():
            if row["is_a_snapshot"] and row["is_vmss_snapshot"]:
                found.setdefault(row["snapshot_of"], {})[ref] = row
        return found

    def _is_usable(self, snapshot: str) -> bool:
        """Whether a snapshot could be reverted to: all of its disks are there, and so are their images."""
        for vbd in self.sim.db.pointing_at("VBD", "VM", snapshot):
            row = self._rows("VBD")[vbd]
            if row["type"] == "Disk" and not row["empty"] and not self._has_image(row["VDI"]):
                return False
        return True

    def _has_image(self, vdi: str) -> bool:
        if vdi not in self._rows("VDI"):
            return False
        image = self.sim.storage.manager.image(vdi)
        return image is not None and not image.fault

    def _newest(self, rows: Dict[str, Row], now: datetime) -> Optional[datetime]:
        """The time of the newest usable one of these snapshots that is not dated in the future."""
        for ref, row in sorted(rows.items(), key=lambda item: item[1]["snapshot_time"], reverse=True):
            time: datetime = row["snapshot_time"].replace(tzinfo=UTC)
            if time <= now + A_MINUTE and self._is_usable(ref):
                return time
        return None

    def srs_of(self, vm: str) -> Set[str]:
        """The SRs that work on a VM touches: those of its disks, and of its scheduled snapshots'."""
        vms = [vm] + [ref for ref, row in self._rows("VM").items() if row["snapshot_of"] == vm]
        disks = {self._rows("VBD")[vbd]["VDI"] for it in vms for vbd in self.sim.db.pointing_at("VBD", "VM", it)}
        disks |= {self._rows("VM")[it]["suspend_VDI"] for it in vms}
        srs = {self._rows("VDI")[disk]["SR"] for disk in disks if disk in self._rows("VDI")}
        policy = self._rows("VMSS").get(self._rows("VM")[vm]["snapshot_schedule"])
        if policy is not None and policy["type"] == "checkpoint":
            (pool,) = self._rows("pool").values()
            srs.add(pool["suspend_image_SR"])
        return srs

    def _touched(self, vm: str, since: datetime, now: datetime, deleting: bool = False) -> bool:
        """Whether any trouble between two instants concerned a VM, or what a trouble had left under way did;
        `deleting`: one that keeps snapshots from being deleted."""
        active = [
            it.touch
            for it in self._troubles
            if it.since <= now
            and (it.until is None or it.until + SETTLED_AFTER >= since)
            and not (deleting and it.touch.takes_only)
        ]
        if any(it.everybody for it in active):
            return True
        vms = [vm]
        if active and self._is_checkpointed(vm):  # each host takes one checkpoint at a time
            vms += [other for other in self._members if self._is_checkpointed(other)]
        return any(self._is_concerned(each, it) for each in vms for it in active)

    def _is_concerned(self, vm: str, touch: Touch) -> bool:
        if vm in touch.vms or vm not in self._rows("VM"):
            return True
        return self._rows("VM")[vm]["resident_on"] in touch.hosts or bool(touch.srs and touch.srs & self.srs_of(vm))

    def _is_checkpointed(self, vm: str) -> bool:
        member = self._members.get(vm)
        return member is not None and bool(self._rows("VMSS")[member.policy]["type"] == "checkpoint")

    def _kept(self) -> Set[str]:
        """The snapshots that nobody can delete now, or could not until a little while ago."""
        now = self.sim.now()
        found: Set[str] = set()
        for it in self._troubles:
            if it.until is None or it.until + SETTLED_AFTER + _pause_after(it, it.until) >= now:
                found |= it.touch.kept
                if it.touch.refused and it.touch.srs:
                    found |= {ref for ref in self._listed() if it.touch.srs & self.srs_of(ref)}
        return found

    def _listed(self) -> Set[str]:
        """The snapshots that a pass has listed because they could not be deleted: they wait for their pause."""
        (pool,) = self._rows("pool").values()
        lists = [json.loads(text) for key, text in pool["other_config"].items() if key.startswith(LEFT_OVER)]
        uuids = {item["uuid"] for items in lists for item in items}
        return {ref for ref, row in self._rows("VM").items() if row["uuid"] in uuids}

    def _counted(self, rows: Dict[str, Row], now: datetime) -> FrozenSet[str]:
        """Those of a VM's scheduled snapshots that retention counts."""
        return frozenset(
            ref
            for ref, row in rows.items()
            if "destroy" not in row["blocked_operations"] and row["snapshot_time"].replace(tzinfo=UTC) <= now + A_MINUTE
        )

    def _ask(self, check: str, holds: bool, text: str, *values: Any) -> None:
        self.asked[check] = self.asked.get(check, 0) + 1
        if not holds:
            self.lapses.append(Lapse(check, "%s: %s" % (self.sim.now().strftime("%a %d %b %H:%M"), text % values)))

    # A look

    def look(self) -> None:
        """What is to be checked at a tick, after its pass; or while an earlier one still runs."""
        now = self.sim.now()
        snapshots = self.snapshots()
        self._schedules_now(now)
        self._members_now(now)
        self.pending = False
        for vm, member in sorted(self._members.items()):
            self._look_at(vm, member, snapshots.get(vm, {}), now)
        self._states_now(now)
        self._less_than_before(snapshots, now)
        self._gently(snapshots)
        self._left_over(now)
        self._expired_now(now)
        self._one_name_each(snapshots)
        self._told(now)
        self._had = {vm: frozenset(rows) for vm, rows in snapshots.items()}

    def _told(self, now: datetime) -> None:
        """A run is told when its operations have reached their limits, whatever hangs."""
        latest = {member.policy: member.slot for member in self._members.values() if member.slot is not None}
        for policy, slot in sorted(latest.items()):
            row = self._rows("VMSS")[policy]
            limit_s = self.checkpoint_limit if row["type"] == "checkpoint" else self.snapshot_limit
            if now < slot + timedelta(seconds=limit_s) + TOLD_WITHIN or self._told_asked.get(policy) == slot:
                continue
            self._told_asked[policy] = slot
            if any(it.touch.everybody and (it.until is None or it.until >= slot) for it in self._troubles):
                continue
            told = any(
                it["obj_uuid"] == row["uuid"] and it["timestamp"].replace(tzinfo=UTC) >= slot
                for it in self.sim.messages.records.values()
            )
            self._ask("9 told", told, "nothing tells of the run of %s at %s", row["name_label"], slot)

    def tried(self, ref: str) -> None:
        """A pass tries to destroy something."""
        now = self.sim.now()
        times = [time for time in self._tries.get(ref, ()) if now - LONGEST_PAUSE < time <= now] + [now]
        self._tries[ref] = times
        self._expired.setdefault(ref, now)
        self._ask("13 paused", len(times) <= TRIES_A_DAY, "%s is tried for the %d. time in a day", ref, len(times))

    def _schedules_now(self, now: datetime) -> None:
        for ref, row in self._rows("VMSS").items():
            keys = (row["enabled"], row["frequency"], tuple(sorted(row["schedule"].items())), row["type"])
            if self._schedules.get(ref) != keys:
                self._schedules[ref], self._since[ref] = keys, now

    def _members_now(self, now: datetime) -> None:
        for vm, row in self._rows("VM").items():
            policy = row["snapshot_schedule"]
            if row["is_a_snapshot"] or policy not in self._schedules:
                self._members.pop(vm, None)
            elif vm not in self._members or self._members[vm].policy != policy:
                self._members[vm] = _Member(policy, now)
        for vm in set(self._members) - set(self._rows("VM")):
            del self._members[vm]

    def _slot(self, member: _Member, now: datetime) -> Optional[datetime]:
        """The latest slot that was promised to a VM; None if there was none yet."""
        policy = self._rows("VMSS")[member.policy]
        if not policy["enabled"]:
            return None
        slot = latest_slot(self._zone, policy, now)
        promised = slot > max(member.since, self._since[member.policy]) and not self._was_served_without(member, slot)
        return slot if promised else None

    def _last_run(self, member: _Member) -> datetime:
        time: datetime = self._rows("VMSS")[member.policy]["last_run_time"].replace(tzinfo=UTC)
        return time

    def _has_run(self, member: _Member, now: datetime) -> bool:
        """Whether a schedule has ever run, as far as xapi knows; a time that has not come yet proves nothing."""
        last_run = self._last_run(member)
        return last_run.year > 1970 and last_run <= now + A_MINUTE

    def _was_served_without(self, member: _Member, slot: datetime) -> bool:
        """Whether the clock was ahead, the slot was served then, and the VM came only after that run, or failed in it
        for a reason that somebody had to remove. When the slot comes again, the time of that run is right to the
        minute, and nothing tells that the VM came before, or that this is not the slot in which it failed."""
        last_run = member.not_in
        return last_run is not None and slot <= last_run <= slot + A_MINUTE and last_run == self._last_run(member)

    def _look_at(self, vm: str, member: _Member, rows: Dict[str, Row], now: datetime) -> None:
        slot = self._slot(member, now)
        if slot is None:
            return
        policy, name = self._rows("VMSS")[member.policy], self._rows("VM")[vm]["name_label"]
        if member.slot != slot:
            member.slot, member.retained = slot, int(policy["retained_snapshots"])
            member.before = self._had.get(vm, frozenset())
            member.served_asked = member.again_asked = member.kept_asked = False
        newest = self._newest(rows, now)
        served = (newest is not None and newest >= slot) or self._is_excused(vm, member, slot)
        if now < slot + SERVED_WITHIN:
            self.pending = True
            return
        if not member.served_asked:
            member.served_asked = True
            if not self._touched(vm, slot - SERVED_WITHIN, now):
                self._ask("12 served", served, "%s of %s has no snapshot of %s", name, policy["name_label"], slot)
        if not served and not member.again_asked:
            self._tried_again(vm, member, slot, now)
        if not member.kept_asked:
            member.kept_asked = True
            # Where the clock was ahead, the slot has a snapshot from before it: no run had to clean up since.
            early = any(rows[ref]["snapshot_time"].replace(tzinfo=UTC) >= slot for ref in member.before & set(rows))
            if not early and not self._touched(vm, slot - SERVED_WITHIN, now, deleting=True):
                self._retention(vm, member, rows, policy, now)

    def _is_excused(self, vm: str, member: _Member, slot: datetime) -> bool:
        """Whether a VM needed no snapshot of a slot, by what is switched on: in the run of it, or if that were now."""
        policy = self._rows("VMSS")[member.policy]
        has_run = slot <= self._last_run(member) <= self.sim.now() + A_MINUTE
        return (has_run and self._allowed.was_excused(member.policy, vm)) or self._allowed.is_excused(policy, vm)

    def _tried_again(self, vm: str, member: _Member, slot: datetime, now: datetime) -> None:
        """A VM that missed its slot for a reason that has passed has its snapshot some ticks later."""
        since = now - TRIED_AGAIN_WITHIN
        limit = self._allowed.limit(self._rows("VMSS")[member.policy])
        too_late = limit is not None and now >= slot + limit
        if too_late or since - SETTLED_AFTER > slot + TRIED_AGAIN_UNTIL or self._failed_for_good(vm, slot):
            member.again_asked = True
            return
        if not self._has_run(member, now):
            return  # a death of xapi took the run back, and it is due in the tick of its slot only (rules 4 and 5)
        if since > slot and not self._touched(vm, since, now):
            member.again_asked = True
            name = self._rows("VM")[vm]["name_label"]
            self._ask("11 tried again", False, "%s is well again, and still has no snapshot of %s", name, slot)

    def _failed_for_good(self, vm: str, since: datetime) -> bool:
        """Whether a VM may have failed since then for a reason that does not pass by itself."""
        return any(
            it.touch.lasting and vm in it.touch.vms and (it.until is None or it.until >= since) for it in self._troubles
        )

    def _retention(self, vm: str, member: _Member, rows: Dict[str, Row], policy: Row, now: datetime) -> None:
        """What has to go has gone after a run without trouble, and not more at once than people expect."""
        kept = self._kept() & set(rows)  # one that is gone could be deleted after all
        before = member.before - self._taken_away
        label = "%s of %s" % (self._rows("VM")[vm]["name_label"], policy["name_label"])
        retained = max(member.retained, int(policy["retained_snapshots"]))
        counted = self._counted(rows, now) - kept
        # The usual one goes for the one that came.
        most = max(retained, len(before - kept) - GENTLE)
        self._ask(
            "13 kept",
            len(counted) <= most,
            "%s keeps %d snapshots, %d too many",
            label,
            len(counted),
            len(counted) - most,
        )

    def _states_now(self, now: datetime) -> None:
        for vm in set(self._states) - set(self._rows("VM")):
            self.accept(vm)
        for vm, row in self._rows("VM").items():
            if row["is_a_snapshot"] or row["is_control_domain"] or row["is_a_template"]:
                continue
            state = self._states.setdefault(vm, row["power_state"])
            if state == row["power_state"]:
                self._off_since.pop(vm, None)
                continue
            since = self._off_since.setdefault(vm, now)
            if state != "Running":
                self._ask("14 runs", False, "%s was %s and is %s", row["name_label"], state, row["power_state"])
                self.accept(vm)
            elif now - since > RESUMED_WITHIN and not self._touched(vm, now - RESUMED_WITHIN, now):
                text = "%s ran, and is %s since %s"
                self._ask("14 runs", False, text, row["name_label"], row["power_state"], since)
                self._states[vm] = "lost"  # said once; people find it and start it
        self.asked["14 runs"] = self.asked.get("14 runs", 0) + 1

    def lost_vms(self) -> List[str]:
        """The VMs that nobody has brought back to what they were."""
        return sorted(vm for vm, state in self._states.items() if state == "lost")

    def _less_than_before(self, snapshots: Dict[str, Dict[str, Row]], now: datetime) -> None:
        usable = {
            vm for vm, rows in snapshots.items() if vm in self._rows("VM") and any(self._is_usable(ref) for ref in rows)
        }
        for vm in sorted(self._usable - usable):
            if vm in self._rows("VM") and not self._had.get(vm, frozenset()) <= self._taken_away:
                self._ask("15 usable", False, "%s has no usable snapshot any more", self._rows("VM")[vm]["name_label"])
        self.asked["15 usable"] = self.asked.get("15 usable", 0) + 1
        self._usable = usable

    def _gently(self, snapshots: Dict[str, Dict[str, Row]]) -> None:
        """Between two looks there is at most one run of a VM."""
        for vm, had in self._had.items():
            gone = had - set(snapshots.get(vm, {})) - self._taken_away
            if gone and vm in self._rows("VM"):
                name = self._rows("VM")[vm]["name_label"]
                self._ask("13 gently", len(gone) <= 1 + GENTLE, "%s lost %d snapshots in one run", name, len(gone))

    def left(self) -> Iterator[Tuple[str, str]]:
        """What is left over now: what is recorded to be destroyed, and disks that nobody has. Each try records what it
        is about to destroy under another key. A record of what is gone is void, and goes when its pause is over."""
        uuids = {row["uuid"] for row in self._rows("VDI").values()}
        for pool in self._rows("pool").values():
            for key, text in pool["other_config"].items():
                if key.startswith(JOURNAL):
                    recorded = json.loads(text).get("destroying", {})
                    is_void = bool(recorded) and uuids.isdisjoint(disk for disks in recorded.values() for disk in disks)
                    yield "void" if is_void else "journal", ",".join(sorted(recorded)) or key
        known = self._left_by_people | {
            row["suspend_VDI"]
            for row in self._rows("VM").values()
            if row["power_state"] == "Suspended" or row["current_operations"]
        }
        for ref, row in self._rows("VDI").items():
            ours = row["managed"] and row["type"] in ("user", "suspend") and ref not in known
            if ours and not self.sim.db.pointing_at("VBD", "VDI", ref):
                yield "disk", ref

    def _left_over(self, now: datetime) -> None:
        left = {what: kind for kind, what in self.left()}
        self._left_since = {what: self._left_since.get(what, now) for what in left}
        for what, kind in left.items():
            age = now - self._left_since[what]
            # With everything working for so long, it had been tried for half of the rest, or a day.
            wait = LEFT_FOR + min(LONGEST_PAUSE, (age - LEFT_FOR) / 2)
            if kind in ("journal", "void") and age >= LEFT_FOR and not self._any_touch(now - wait, now):
                self._ask("13 finished", what in self._left_told, "%s is still recorded to be destroyed", what)
                self._left_told.add(what)
        self.asked["13 finished"] = self.asked.get("13 finished", 0) + 1

    def _expired_now(self, now: datetime) -> None:
        """An expired snapshot that could not be deleted is tried again between runs, too, at pauses of up to a day."""
        surplus = self.surplus()
        self._expired = {ref: since for ref, since in self._expired.items() if ref in surplus}
        for ref, since in list(self._expired.items()):
            wait = LEFT_FOR + min(LONGEST_PAUSE, (now - since - LEFT_FOR) / 2)
            if now - since >= LEFT_FOR and not self._any_touch(now - wait, now):
                del self._expired[ref]  # said once
                name = self._rows("VM")[ref]["name_label"]
                self._ask("13 again", False, "%s has expired, could not be deleted, and is there since %s", name, since)
        self.asked["13 again"] = self.asked.get("13 again", 0) + 1

    def surplus(self) -> Set[str]:
        """The snapshots that schedules do not keep."""
        now = self.sim.now()
        return {ref for vm, rows in self.snapshots().items() for ref in self._surplus(vm, rows, now)}

    def newcomers(self) -> Set[str]:
        """The VMs that came to their schedule since its latest slot, as far as their newest snapshots tell: nothing was
        promised of them, but a run for those without a snapshot of the slot takes theirs too."""
        now, found = self.sim.now(), self.snapshots()
        latest = {vm: latest_slot(self._zone, self._rows("VMSS")[it.policy], now) for vm, it in self._members.items()}
        return {vm for vm, slot in latest.items() if (self._newest(found.get(vm, {}), now) or slot) < slot}

    def _surplus(self, vm: str, rows: Dict[str, Row], now: datetime) -> List[str]:
        """The snapshots of a VM that its schedule does not keep."""
        member = self._members.get(vm)
        policy = self._rows("VMSS")[member.policy] if member is not None else None
        if policy is None or not policy["enabled"]:
            return []
        counted = sorted(self._counted(rows, now), key=lambda ref: (rows[ref]["snapshot_time"], ref))
        return counted[: max(0, len(counted) - int(policy["retained_snapshots"]))]

    def _any_touch(self, since: datetime, now: datetime) -> bool:
        return any(it.since <= now and (it.until is None or it.until + SETTLED_AFTER >= since) for it in self._troubles)

    def _one_name_each(self, snapshots: Dict[str, Dict[str, Row]]) -> None:
        for vm, rows in snapshots.items():
            names = [row["name_label"] for row in rows.values()]
            twice = {name for name in names if names.count(name) > 1}
            new = frozenset(rows) - self._had.get(vm, frozenset())
            if any(rows[ref]["name_label"] in twice for ref in new):
                self._ask("12 names", False, "two snapshots are called %s", sorted(twice))
        self.asked["12 names"] = self.asked.get("12 names", 0) + 1

    # What is owed, and what status has to say

    def given_up(self, vms: List[str]) -> bool:
        """Whether it is certain that no tick will try these VMs again."""
        return all(vm in self._members and self._members[vm].again_asked for vm in vms)

    def untroubled(self) -> bool:
        """Whether nothing is wrong in the pool, or was a little while ago."""
        now = self.sim.now()
        return not self._any_touch(now, now) and not any(it.touch.kept and it.until is None for it in self._troubles)

    def owes(self) -> bool:
        """Whether a tick could have anything to do beside slots: then none is jumped over."""
        now = self.sim.now()
        if self._off_since or self._left_since:
            return True
        snapshots = self.snapshots()
        for vm, member in self._members.items():
            slot = self._slot(member, now)
            newest = self._newest(snapshots.get(vm, {}), now)
            if slot is not None and (newest is None or newest < slot):
                return True
        return False

    def slot_since(self, then: datetime, now: datetime) -> bool:
        """Whether a schedule had a slot after an instant, until another."""
        return any(latest_slot(self._zone, row, now) > then for row in self._rows("VMSS").values())

    def verdict(self) -> Verdict:
        """What `vmss status` has to say now."""
        now = self.sim.now()
        verdict = Verdict([], [], [], [])
        broken, doubt = verdict.broken, verdict.doubt
        snapshots = self.snapshots()
        for vm, member in sorted(self._members.items()):
            self._judge(vm, member, snapshots.get(vm, {}), now, verdict)
        for vm, since in self._off_since.items():
            name = self._rows("VM")[vm]["name_label"]
            (broken if now - since > RESUMED_WITHIN else doubt).append("%s is not as it was since %s" % (name, since))
        for vm in self.lost_vms():
            doubt.append("%s is not as it was" % self._rows("VM")[vm]["name_label"])
        left = {what: kind for kind, what in self.left()}
        for what, kind in left.items():
            certain = kind != "void" and now - self._left_since.get(what, now) >= LEFT_FOR
            (verdict.left if certain else doubt).append("%s %s is left over" % (kind, what))
        (pool,) = self._rows("pool").values()
        if pool["restrictions"].get("restrict_vmss") == "true":
            broken.append("the licence does not allow it")
        if self._allowed.is_misplaced():
            doubt.append("a tag names another schedule")
        doubt.extend(self._dated_in_the_future(snapshots, now))
        return verdict

    def _judge(self, vm: str, member: _Member, rows: Dict[str, Row], now: datetime, verdict: Verdict) -> None:
        policy, name = self._rows("VMSS")[member.policy], self._rows("VM")[vm]["name_label"]
        if not policy["enabled"]:
            return
        latest = latest_slot(self._zone, policy, now)
        over = latest_slot(self._zone, policy, now - OVER_AFTER)
        newest = self._newest(rows, now)
        since = max(member.since, self._since[member.policy])
        counted = self._counted({ref: row for ref, row in rows.items() if not row["current_operations"]}, now)
        if len(counted) > int(policy["retained_snapshots"]):
            verdict.doubt.append("%s has more snapshots than are to be kept" % name)
        if newest is not None and newest >= latest:
            return
        if self._is_excused(vm, member, over):
            if not self._allowed.is_excused(policy, vm):
                verdict.doubt.append("%s needed no snapshot of %s" % (name, over))
            return
        text = "%s of %s has no snapshot of %s"
        # One that never ran waits for a slot that it can be served at: what it had promised before is not certain.
        certain = over > since and self._has_run(member, now) and not self._was_served_without(member, over)
        if certain and (newest is None or newest < over):
            verdict.broken.append(text % (name, policy["name_label"], over))
            verdict.missing.append(vm)
        else:
            verdict.doubt.append(text % (name, policy["name_label"], latest))

    def _dated_in_the_future(self, snapshots: Dict[str, Dict[str, Row]], now: datetime) -> Iterator[str]:
        for rows in snapshots.values():
            if any(row["snapshot_time"].replace(tzinfo=UTC) > now + A_MINUTE for row in rows.values()):
                yield "a snapshot is dated in the future"
        for row in self._rows("VMSS").values():
            if row["last_run_time"].replace(tzinfo=UTC) > now + A_MINUTE:
                yield "a last run is dated in the future"
        for row in self.sim.messages.records.values():
            if row["timestamp"].replace(tzinfo=UTC) > now + A_MINUTE:
                yield "a message is dated in the future"
                return
