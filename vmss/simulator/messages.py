"""The messages (alerts) of the pool, which xapi keeps as files and not in its database.

Source: xapi: ocaml/xapi/xapi_message.ml.
"""

import re
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, Dict, Iterator, List, NamedTuple, Set

from .errors import XapiError
from .licence import is_upgrading
from .values import NULL, from_seconds

if TYPE_CHECKING:
    from .simulator import Simulator

MESSAGES_MAX = 10000
# Characters that the files, which are XML, cannot contain.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
DELETIONS_MAX = 1024
DELETIONS_KEPT = 512


class MessageEvent(NamedTuple):
    """One message that was created or deleted."""

    generation: int
    operation: str
    ref: str
    record: Dict[str, Any]


class MessageStore:
    """All messages in the order of their creation, and the last few hundred deletions; `newest`: the generation of the
    last event."""

    def __init__(self, sim: "Simulator") -> None:
        self.sim = sim
        self.records: Dict[str, Dict[str, Any]] = {}
        self.times: Dict[str, float] = {}
        self.generations: Dict[str, int] = {}
        self.refs_by_uuid: Dict[str, str] = {}
        self.refs_by_object: Dict[str, Dict[str, None]] = {}
        self.deletions: Deque[MessageEvent] = deque()
        self.newest = 0
        # xapi links each file by the generation of its database, first of all. After a death of xapi the generations
        # that were not on disk come again: `ago` is how many. A number that is taken leaves a file without any link.
        self.numbers: Dict[str, int] = {}
        self.taken: Set[int] = set()
        self.unlinked: Set[str] = set()
        self.ago = 0
        self.collisions = 0  # so many of the next messages find their number taken, as somebody has asked for

    def create(self, name: str, priority: int, cls: str, obj_uuid: str, body: str) -> str:
        """Store a new message, and return what xapi answers: the null reference if the message has no links."""
        now = self.sim.kernel.now()
        if is_upgrading(self.sim.db):
            # The hosts may not agree on what a priority means.
            priority = self.sim.model.priorities.get(name, priority)
        name, body = _FORBIDDEN.sub("\ufffd", name), _FORBIDDEN.sub("\ufffd", body)
        record = {
            "uuid": self.sim.db.new_uuid(),
            "name": name,
            "priority": priority,
            "cls": cls,
            "obj_uuid": obj_uuid,
            "timestamp": from_seconds(now),
            "body": body,
        }
        ref = self.sim.db.new_ref()
        self.enter(ref, record, now)
        linked = self._link(ref)
        if linked:
            self._event("add", ref, record)
        return ref if linked else NULL

    def collect(self) -> None:
        """Delete the oldest of too many messages, whatever their priorities. The clock may have been set back."""
        surplus = len(self.records) - MESSAGES_MAX
        if surplus > 0:
            for ref in sorted(self.times, key=self.times.__getitem__)[:surplus]:
                self.destroy(ref)

    def _link(self, ref: str) -> bool:
        """Link a new message; return False if its number is taken."""
        number = self.sim.db.generation - self.ago
        if self.collisions or number in self.taken:
            self.collisions = max(0, self.collisions - 1)
            self.unlinked.add(ref)
            self.sim.db.generation += 1
            return False
        self.numbers[ref] = number
        self.taken.add(number)
        return True

    def generations_lost(self, count: int) -> None:
        """The database is so many generations older than it was."""
        self.ago += count

    def enter(self, ref: str, record: Dict[str, Any], when: float) -> None:
        """Put a message into the store without an event (a new one, or one from a state file)."""
        self.records[ref] = record
        self.times[ref] = when
        self.generations[ref] = 1  # the first, until a new one gets its own
        self.refs_by_uuid[record["uuid"]] = ref
        self.refs_by_object.setdefault(record["obj_uuid"], {})[ref] = None

    def destroy(self, ref: str) -> None:
        record = self.record(ref)
        del self.records[ref]
        del self.times[ref]
        del self.generations[ref]
        del self.refs_by_uuid[record["uuid"]]
        self.taken.discard(self.numbers.pop(ref, -1))
        self.unlinked.discard(ref)
        of_object = self.refs_by_object[record["obj_uuid"]]
        del of_object[ref]
        if not of_object:
            del self.refs_by_object[record["obj_uuid"]]
        self._event("del", ref, record)

    def forget_events(self) -> None:
        """Forget the deletions, and the order of what happened, as a restart of xapi does; the messages stay."""
        self.deletions.clear()

    def record(self, ref: str) -> Dict[str, Any]:
        if ref not in self.records:
            raise XapiError("HANDLE_INVALID", "message", ref)
        return self.records[ref]

    def of_object(self, obj_uuid: str) -> List[str]:
        return list(self.refs_by_object.get(obj_uuid, ()))

    def later_than(self, when: float) -> List[str]:
        """The messages later than `when`. All are compared, because the clock may have been set back."""
        return [ref for ref, time in self.times.items() if time > when]

    def events_since(self, generation: int) -> Iterator[MessageEvent]:
        """The events after `generation`, in xapi's order: deletions, the latest first, then creations of messages that
        still exist, the oldest first.

        Deletions are forgotten, creations are not: xapi looks at the files of the messages, which survive a restart.
        """
        yield from (event for event in reversed(self.deletions) if event.generation > generation)
        for ref, created in list(self.generations.items()):
            if created > generation:
                yield MessageEvent(created, "add", ref, self.records[ref])

    def _event(self, operation: str, ref: str, record: Dict[str, Any]) -> None:
        self.sim.db.generation += 1
        self.newest = self.sim.db.generation
        if operation == "add":
            self.generations[ref] = self.newest
        else:
            self.deletions.append(MessageEvent(self.newest, operation, ref, record))
            if len(self.deletions) > DELETIONS_MAX:
                while len(self.deletions) > DELETIONS_KEPT:
                    self.deletions.popleft()
        self.sim.db.listener()
