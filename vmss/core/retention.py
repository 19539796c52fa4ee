"""Retention: which scheduled snapshots of a VM have expired."""

from datetime import datetime
from typing import NamedTuple, Sequence, Tuple


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
    """The rule of retention: the newest `retained` scheduled snapshots of a VM stay."""

    retained: int

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
