"""Retention: which scheduled snapshots of a VM stay, by the votes of rules, and which have expired."""

from datetime import datetime, timedelta, tzinfo
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from vmss.core.datetimes import CLOCK_TOLERANCE, EPOCH, UTC
from vmss.core.frequencies import Schedule

# Beyond the one that the new snapshot replaces, a run deletes at most so many snapshots of a VM: a VM that came from a
# schedule that keeps more, or a number that was mistyped, costs a few of them, and there is time to see it.
MORE_IN_A_RUN = 2


class Snapshot(NamedTuple):
    """A scheduled snapshot of one VM.

    `time` is its snapshot_time. `pinned`: blocked_operations has destroy; `pin` is the reason, if somebody gave one.
    `suspended`: it holds memory (a checkpoint). `suspend_vdi` is a reference, or OpaqueRef:NULL. `operation` is in
    progress on it, a copy or an export for example, but not a deletion; empty if none is. `name` is its name_label.
    `of_halted`: the VM was halted when it was taken.
    """

    ref: str
    uuid: str
    time: datetime
    pinned: bool = False
    suspended: bool = False
    suspend_vdi: str = "OpaqueRef:NULL"
    operation: str = ""
    name: str = ""
    pin: str = ""
    of_halted: bool = False


class Keep(NamedTuple):
    """The rule of retention: `retained` scheduled snapshots of a VM stay, the newest if nothing else is said. A run
    deletes the one that the new snapshot replaces, and at most `more` others; None: all that have expired.

    With `spread` (from vmss.core.thinning), pairs of a period and a number, the newest of each of so many periods have
    the right of way; and before these, what is younger than `days` days. A snapshot is of the period of the slot that
    it was taken for, by `schedule` and its `zone`.
    """

    retained: int
    more: Optional[int] = None
    spread: Tuple[Tuple[str, int], ...] = ()
    days: int = 0
    schedule: Schedule = Schedule("hourly")
    zone: tzinfo = UTC

    def may_expire(self, count: int) -> bool:
        """Whether any of so many snapshots of a VM can have expired."""
        return count > self.retained

    def in_a_run(self, expired: int) -> int:
        """How many of so many expired snapshots of a VM a run deletes that has taken a new one."""
        return expired if self.more is None else min(expired, self.more + 1)


class Vote(NamedTuple):
    """Whether a scheduled snapshot stays, and by which rule: one of those below, or a period of vmss.core.thinning.
    `place` is its place among those that the rule keeps, from 1 on."""

    snapshot: Snapshot
    stays: bool
    rule: str
    place: int = 0


PINNED, FUTURE, NEWEST, YOUNG, EXPIRED = "pinned", "future", "newest", "young", "expired"


def votes(snapshots: Sequence[Snapshot], keep: Keep, now: datetime, new: int = 0) -> List[Vote]:
    """Given the scheduled snapshots of one VM, return the vote on each, oldest first. The rules choose which stay,
    never how many: `keep.retained`, as far as there are so many.

    `new` of those that stay do not exist yet, but will before anything is deleted. A pinned snapshot stays and does not
    count; neither does one that is dated in the future, by more than clocks differ, because its age is unknown.
    """
    found = [Vote(snapshot, True, PINNED if snapshot.pinned else FUTURE) for snapshot in _uncounted(snapshots, now)]
    counted = sorted(
        (snapshot for snapshot in snapshots if not snapshot.pinned and not in_future(snapshot, now)),
        key=lambda snapshot: (snapshot.time, snapshot.uuid),
        reverse=True,
    )
    newest_first = [_TO_COME._replace(time=now)] * new + counted
    kept = _kept(newest_first, keep, now)
    for index, snapshot in enumerate(newest_first[new:], new):
        rule, place = kept.get(index, (EXPIRED, 0))
        found.append(Vote(snapshot, index in kept, rule, place))
    return sorted(found, key=lambda vote: (vote.snapshot.time, vote.snapshot.uuid))


def expired(snapshots: Sequence[Snapshot], keep: Keep, now: datetime, new: int = 0) -> Tuple[Snapshot, ...]:
    """Given the scheduled snapshots of one VM, return those that no rule keeps, oldest first; `new` as in `votes`."""
    return tuple(vote.snapshot for vote in votes(snapshots, keep, now, new) if not vote.stays)


# A snapshot that does not exist yet.
_TO_COME = Snapshot("", "", EPOCH)


def _uncounted(snapshots: Sequence[Snapshot], now: datetime) -> List[Snapshot]:
    return [snapshot for snapshot in snapshots if snapshot.pinned or in_future(snapshot, now)]


def _kept(newest_first: Sequence[Snapshot], keep: Keep, now: datetime) -> Dict[int, Tuple[str, int]]:
    """The indexes of the snapshots that stay, with the rule by which each does, and its place among those of the rule.
    The rules choose one after the other, until there are enough."""
    found: Dict[int, Tuple[str, int]] = {}

    def choose(rule: str, indexes: Iterable[int]) -> None:
        for place, index in enumerate((index for index in list(indexes) if index not in found), 1):
            if len(found) < keep.retained:
                found[index] = (rule, place)

    if keep.spread:  # without, the newest stay anyway
        from vmss.core.thinning import newest_of_periods, slots_of  # most schedules have no such rule

        since = now - timedelta(days=keep.days)
        choose(YOUNG, [index for index, one in enumerate(newest_first) if keep.days and one.time > since])
        slots = slots_of([one.time for one in newest_first], keep.schedule, keep.zone)
        for period, number in keep.spread:
            choose(period, newest_of_periods(slots, period, number, found))
    choose(NEWEST, range(len(newest_first)))
    return found


def surplus(snapshots: Sequence[Snapshot], keep: Keep, now: datetime) -> Tuple[Tuple[Snapshot, ...], int]:
    """Given the scheduled snapshots of one VM, return those that exceed retention, oldest first, without those that
    wait for an operation; and how many of them, from the oldest on, the next run deletes beyond the usual one."""
    free = tuple(snapshot for snapshot in expired(snapshots, keep, now) if not snapshot.operation)
    return free, len(free) if keep.more is None else min(keep.more, len(free))


def in_future(snapshot: Snapshot, now: datetime) -> bool:
    """Whether a snapshot is dated later than now, by more than clocks differ."""
    return snapshot.time > now + CLOCK_TOLERANCE
