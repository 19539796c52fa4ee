"""Retention: which scheduled snapshots of a VM have expired."""

from datetime import datetime
from typing import NamedTuple, Optional, Sequence, Tuple

from vmss.core.datetimes import CLOCK_TOLERANCE

# Beyond the one that the new snapshot replaces, a run deletes at most so many snapshots of a VM: a VM that came from a
# schedule that keeps more, or a number that was mistyped, costs a few of them, and there is time to see it.
MORE_IN_A_RUN = 2


class Snapshot(NamedTuple):
    """A scheduled snapshot of one VM.

    `time` is its snapshot_time. `pinned`: blocked_operations has destroy. `suspended`: it holds memory (a
    checkpoint). `suspend_vdi` is a reference, or OpaqueRef:NULL. `operation` is in progress on it, a copy or an export
    for example, but not a deletion; empty if none is. `name` is its name_label.
    """

    ref: str
    uuid: str
    time: datetime
    pinned: bool = False
    suspended: bool = False
    suspend_vdi: str = "OpaqueRef:NULL"
    operation: str = ""
    name: str = ""


class Keep(NamedTuple):
    """The rule of retention: the newest `retained` scheduled snapshots of a VM stay. A run deletes the one that the new
    snapshot replaces, and at most `more` others; None: all that have expired."""

    retained: int
    more: Optional[int] = None

    def may_expire(self, count: int) -> bool:
        """Whether any of so many snapshots of a VM can have expired."""
        return count > self.retained


def expired(snapshots: Sequence[Snapshot], keep: Keep, now: datetime, new: int = 0) -> Tuple[Snapshot, ...]:
    """Given the scheduled snapshots of one VM, return those that retention no longer keeps, oldest first.

    `new` of those that stay do not exist yet, but will before anything is deleted. A pinned snapshot stays and does not
    count; neither does one that is dated in the future, because its age is unknown.
    """
    counted = sorted(
        (snapshot for snapshot in snapshots if not snapshot.pinned and snapshot.time <= now),
        key=lambda snapshot: (snapshot.time, snapshot.uuid),
    )
    return tuple(counted[: max(0, len(counted) + new - keep.retained)])


def surplus(snapshots: Sequence[Snapshot], keep: Keep, now: datetime) -> Tuple[Tuple[Snapshot, ...], int]:
    """Given the scheduled snapshots of one VM, return those that exceed retention, oldest first, without those that
    wait for an operation; and how many of them, from the oldest on, the next run deletes beyond the usual one."""
    free = tuple(snapshot for snapshot in expired(snapshots, keep, now) if not snapshot.operation)
    return free, len(free) if keep.more is None else min(keep.more, len(free))


def in_future(snapshot: Snapshot, now: datetime) -> bool:
    """Whether a snapshot is dated later than now, by more than clocks differ."""
    return snapshot.time > now + CLOCK_TOLERANCE
