"""What is left over: what it is, since when, why it could not be deleted, and when that is tried again."""

from datetime import datetime, timedelta
from typing import Dict, List, NamedTuple, Optional, Sequence

from vmss.core.outcome import Error

# The pause after the first try; each further one is twice as long, up to the longest.
_PAUSE = timedelta(minutes=15)
_PAUSE_MAX = timedelta(days=1)
# What is tried by a tick is tried by the tick that comes a whole pause later, though a try takes some time itself.
_EARLY = timedelta(minutes=5)
# More doublings change nothing: the longest pause is reached before.
_DOUBLINGS_MAX = 10


class Stuck(NamedTuple):
    """Something that could not be deleted: the first and the last try, their number, and the last error."""

    since: datetime
    tried: datetime
    tries: int
    error: Error

    @property
    def pause(self) -> timedelta:
        """The time from the last try to the next."""
        doublings = min(max(0, self.tries - 1), _DOUBLINGS_MAX)
        return min(_PAUSE * (1 << doublings), _PAUSE_MAX)

    def is_ripe(self, now: datetime) -> bool:
        """Whether it is time for the next try. A last try that is dated in the future proves nothing: the clock was
        wrong then, or is now."""
        return now < self.tried - _EARLY or now >= self.tried + self.pause - _EARLY

    def again(self, error: Error, now: datetime) -> "Stuck":
        """After one more try, which failed too."""
        return Stuck(min(self.since, now), now, self.tries + 1, error)


def stuck(error: Error, now: datetime) -> Stuck:
    """After the first try."""
    return Stuck(now, now, 1, error)


class Entry(NamedTuple):
    """What an entry of the journal lists: the disks by their snapshots, uuids both; and if they could not be destroyed,
    the mark."""

    disks: Dict[str, List[str]]
    stuck: Optional[Stuck] = None


# What can be left over, and the sentence of an alert about it.
DISK = "disk"  # of a deleted snapshot; it could not be destroyed
SNAPSHOT = "snapshot"  # expired, but could not be deleted
SUSPECT = "suspect"  # a disk that may be of a snapshot of ours that xapi died in; it is not touched
NAMELESS = "nameless"  # a disk of which a scan found an image and no record; it is not touched
MEMORY = "memory"  # the memory of a VM, which no suspended VM has; it is not touched

_SENTENCES = (
    ((DISK,), " Disks of deleted snapshots that could not be destroyed: %d (%s); vmss status tells why."),
    ((SNAPSHOT,), " Expired snapshots that could not be deleted: %d (%s); vmss status tells why."),
    ((MEMORY,), " Memory images that no suspended VM has: %d (%s); vmss status tells what to do."),
    ((SUSPECT, NAMELESS), " Disks that unfinished snapshots may have left: %d (%s); see the log."),
)
# Upper limit on the objects that a sentence names.
_NAMED_MAX = 10


class Item(NamedTuple):
    """Something that is left over: its kind and uuid, and that of its snapshot or VM, empty if it is not known. What is
    not touched has no try and no error."""

    kind: str
    uuid: str
    of: str
    stuck: Stuck


def sentences(items: Sequence[Item]) -> str:
    """What an alert says about all that is left over; empty if nothing is."""
    text = ""
    for kinds, sentence in _SENTENCES:
        uuids = [item.uuid for item in items if item.kind in kinds]
        if uuids:
            named = uuids[:_NAMED_MAX] + ["and more"] * (len(uuids) > _NAMED_MAX)
            text += sentence % (len(uuids), ", ".join(named))
    return text
