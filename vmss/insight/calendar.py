"""The calendar of a schedule's runs: what became of each slot, by the messages about them. Functions of values."""

from bisect import bisect_right
from datetime import datetime, timedelta, tzinfo
from typing import AbstractSet, Dict, FrozenSet, List, NamedTuple, Optional, Sequence

from vmss.core import messages
from vmss.core.outcome import DOES_NOT_COUNT
from vmss.core.policy import Policy
from vmss.core.schedule import latest_slot, next_slot
from vmss.insight.history import AGAIN, AT_SLOT, BY_HAND, LATE, Run

# What became of a slot.
SERVED, MADE_UP, FAILED, MISSED, WAITS, UNKNOWN = "served", "late", "failed", "missed", "waits", "unknown"

# A schedule has at most so many slots that are told: a year of an hourly one.
SLOTS_MAX = 24 * 366


class Cell(NamedTuple):
    """A slot and what became of it: SERVED, by a run at the slot; MADE_UP, by a later one; FAILED, of at least one VM;
    MISSED: no run is known of. WAITS: its run may be under way. UNKNOWN: it is older than all that is known. `lacking`
    are the uuids of the VMs that got no snapshot of it; `text` says what happened unless it was SERVED."""

    slot: datetime
    state: str
    lacking: FrozenSet[str] = frozenset()
    text: str = ""


def slots(policy: Policy, zone: tzinfo, since: datetime, now: datetime) -> List[datetime]:
    """The slots of a policy from one instant to another, oldest first."""
    found: List[datetime] = []
    at = next_slot(policy.schedule, zone, since - timedelta(seconds=1))
    while at <= now and len(found) < SLOTS_MAX:
        found.append(at)
        at = next_slot(policy.schedule, zone, at)
    return found


def cells(
    policy: Policy, runs: Sequence[Run], zone: tzinfo, since: datetime, now: datetime, over: Optional[datetime]
) -> List[Cell]:
    """What became of the slots since an instant, given the messages about the policy, some of earlier times among them:
    before the first of them nothing tells whether the policy existed, and after the last of a policy that does not run
    now, whether it should have run. `over` is the latest slot that should be over, if one is known."""
    wanted = slots(policy, zone, since, now)
    if not wanted:
        return []
    of_slot: Dict[datetime, List[Run]] = {}
    for run in sorted(runs, key=lambda run: run.at):
        at = _slot_of(run, wanted, zone)
        if at is not None:
            of_slot.setdefault(at, []).append(run)
    known = min((run.at for run in runs), default=None)
    first = None if known is None else latest_slot(policy.schedule, zone, known)
    idle = not policy.enabled or not policy.vms
    found = []
    for at in wanted:
        waits = at == wanted[-1] if over is None else at > over
        if at not in of_slot and (first is None or at < first or (idle and at > max(of_slot, default=first))):
            found.append(Cell(at, WAITS if waits and not idle else UNKNOWN))
        else:
            found.append(_cell(at, of_slot.get(at, []), waits))
    return found


def _slot_of(run: Run, wanted: Sequence[datetime], zone: tzinfo) -> Optional[datetime]:
    """The slot that a message is about: the one that it names, or else the latest before the run began."""
    at = run.at
    if run.counts is not None:
        stated = run.counts.slot
        if run.counts.start != BY_HAND and stated.tzinfo is not None:
            at = stated
        else:
            at = min(run.counts.began(zone), default=run.at)
    index = bisect_right(wanted, at) - 1
    return wanted[index] if index >= 0 else None


def _cell(slot: datetime, runs: Sequence[Run], waits: bool) -> Cell:
    ended = [run for run in runs if run.name in (messages.SUCCEEDED, messages.FAILED)]
    last: Optional[Run] = None
    for run in ended:
        # A run by hand of what was served already changes nothing.
        if last is None or last.name == messages.FAILED or run.counts is None or run.counts.start != BY_HAND:
            last = run
    if last is None:
        said = next((run.story for run in runs if run.name != messages.LOCK_FAILED), "")
        return Cell(slot, WAITS) if waits and not said else Cell(slot, MISSED, text=said or "no run is known of")
    if last.name == messages.FAILED:
        return Cell(slot, FAILED, frozenset(_lacking(last)), last.story)
    start = last.counts.start if last.counts is not None else AT_SLOT
    if len(ended) > 1 and ended[0].name == messages.FAILED:
        return Cell(slot, MADE_UP, text="failed at first; by now every VM has its snapshot")
    if start in (LATE, AGAIN, BY_HAND):
        return Cell(slot, MADE_UP, text="served by a run that was started %s" % start)
    return Cell(slot, SERVED)


def _lacking(run: Run) -> AbstractSet[str]:
    """The VMs of which a run that failed has no snapshot; it may have failed in a deletion alone."""
    counts = run.counts
    doubted = any(victim.error and victim.error[0] in DOES_NOT_COUNT for victim in run.victims)
    if counts is not None and counts.snapshotted >= counts.vms and not doubted:
        return set()
    return {victim.uuid for victim in run.victims}


def unbroken_since(found: Sequence[Cell], vm: str) -> Optional[Cell]:
    """The slot from which on a VM has had its snapshot of every one that is over; None if it lacks that of the last.
    Where none is known to be broken, it is the first of which anything is known."""
    since: Optional[Cell] = None
    for cell in reversed(found):
        if cell.state in (MISSED, UNKNOWN) or vm in cell.lacking:
            break
        since = cell if cell.state != WAITS else since
    return since


def broken(found: Sequence[Cell]) -> int:
    """How many slots were missed, or failed."""
    return sum(cell.state in (MISSED, FAILED) for cell in found)
