"""Waiting for changes (xapi: ocaml/xapi/xapi_event.ml)."""

from typing import TYPE_CHECKING, Any, Dict, FrozenSet, Generator, Iterator, List, NamedTuple, Set, Tuple

from ..errors import XapiError
from ..kernel import Sleep, Wait
from ..registry import method
from ..table import Deletion, no_garbage
from ..values import Count, ocaml_int

if TYPE_CHECKING:
    from ..call import Call
    from ..database import Database

Steps = Generator[Any, Any, Any]

BATCH_SECONDS = 0.05
TIMEOUT_MAX = 24 * 3600.0


class Subscription(NamedTuple):
    """The subscription of a client: everything, whole classes, or single objects."""

    everything: bool
    classes: FrozenSet[str]
    objects: FrozenSet[Tuple[str, str]]

    def wants(self, cls: str, ref: str) -> bool:
        return self.everything or cls in self.classes or (cls, ref) in self.objects

    def wants_class(self, cls: str) -> bool:
        return self.everything or cls in self.classes or any(name == cls for name, _ in self.objects)

    def changed_since(self, db: "Database", generation: int) -> Iterator[Tuple[str, str, int]]:
        """The objects of the subscription that have changed after a generation, the latest first: class, reference,
        generation."""
        if self.everything or self.classes:
            changed = db.changed_since(generation)
            return (change for change in changed if self.wants(change[0], change[1]))
        return db.changed_since(generation, self.objects)

    def deleted_since(self, db: "Database", generation: int) -> Iterator[Deletion]:
        """The same of objects that have been deleted."""
        return (gone for gone in db.deleted_since(generation) if self.wants(gone.cls, gone.ref))

    @property
    def only_tasks(self) -> bool:
        names = self.classes | {name for name, _ in self.objects}
        return not self.everything and names == {"task"}


def parse_subscription(classes: List[str], names: Dict[str, str]) -> Subscription:
    """Read what a client subscribes to; `names` has those of the classes by their lower case."""
    whole, objects = set(), set()
    for text in classes:
        name, slash, ref = text.partition("/")
        if slash and (not ref or "/" in ref):
            raise XapiError("EVENT_SUBSCRIPTION_PARSE_FAILURE", text)
        if slash:
            objects.add((names.get(name.lower(), ""), ref))
        elif text != "*":
            whole.add(names.get(name.lower(), ""))
    return Subscription("*" in classes, frozenset(whole), frozenset(objects))


def parse_token(token: str) -> Tuple[int, int]:
    """A token consists of two generations, that of the database and that of the messages."""
    if token == "":
        return 0, 0
    parts = token.split(",")
    try:
        database, messages = (ocaml_int(part) for part in parts)
    except ValueError:
        raise XapiError("EVENT_FROM_TOKEN_PARSE_FAILURE", token)
    return database, messages


@method("event.from")
def event_from(call: "Call", classes: List[str], token: str, timeout: float) -> Steps:
    """Answer with the changes since the token, at once or as soon as there are any."""
    subscription = parse_subscription(classes, call.sim.model.names)
    since, messages_since = parse_token(token)
    kernel = call.sim.kernel
    seconds = timeout if 0.0 <= timeout <= TIMEOUT_MAX else TIMEOUT_MAX
    deadline = kernel.now() + seconds
    batch = 0.0 if subscription.only_tasks else BATCH_SECONDS
    checked = since
    if batch:
        yield Sleep(batch)
    while True:
        if not call.db.exists("session", call.session):
            raise XapiError("SESSION_INVALID", call.session)
        # No change up to `checked` was relevant, so only later ones are checked.
        if checked == since or _relevant(call, subscription, checked, messages_since):
            with no_garbage():
                events, newest = _events(call, subscription, since, messages_since)
            if events:
                return _answer(call, events, newest)
        checked = call.db.generation
        remaining = deadline - kernel.now()
        if remaining <= 0:
            return _answer(call, [], (since, messages_since))
        changed = yield Wait(call.sim.changed, remaining)
        if changed and batch:
            yield Sleep(batch)


def _relevant(call: "Call", subscription: Subscription, since: int, messages_since: int) -> bool:
    """Whether any change after `since` is one that the client has subscribed to."""
    for _ in subscription.changed_since(call.db, since):
        return True
    for _ in subscription.deleted_since(call.db, since):
        return True
    return call.sim.messages.newest > max(since, messages_since) and subscription.wants_class("message")


def _events(
    call: "Call", subscription: Subscription, since: int, messages_since: int
) -> Tuple[List[Dict[str, Any]], Tuple[int, int]]:
    """The events in xapi's order: messages, new, changed and deleted objects; and the token that they lead to."""
    fresh: List[Dict[str, Any]] = []
    newest, newest_message = since, messages_since
    if subscription.wants_class("message"):
        for entry in call.sim.messages.events_since(messages_since):
            if subscription.wants("message", entry.ref):
                snapshot = entry.record if entry.operation == "add" else None
                fresh.append(_event(0, "message", entry.operation, entry.ref, snapshot))
                newest_message = max(newest_message, entry.generation)
    added: List[Dict[str, Any]] = []
    changed: List[Dict[str, Any]] = []
    for cls, ref, generation in subscription.changed_since(call.db, since):
        newest = max(newest, generation)
        created = call.db.tables[cls].created[ref]
        record = call.db.record(cls, ref)
        if created > since:
            added.append(_event(created, cls, "add", ref, record))
        else:
            changed.append(_event(generation, cls, "mod", ref, record))
    gone: List[Dict[str, Any]] = []
    for deletion in subscription.deleted_since(call.db, since) if since else ():
        newest = max(newest, deletion.deleted)
        gone.append(_event(deletion.deleted, deletion.cls, "del", deletion.ref, None))
    return fresh + added + changed + gone, (newest, newest_message)


def _event(number: int, cls: str, operation: str, ref: str, snapshot: Any) -> Dict[str, Any]:
    event = {"id": number, "timestamp": "0.0", "class": cls.lower(), "operation": operation, "ref": ref}
    if snapshot is not None:
        event["snapshot"] = snapshot
    return event


def _answer(call: "Call", events: List[Dict[str, Any]], token: Tuple[int, int]) -> Dict[str, Any]:
    counts = dict.fromkeys(call.sim.model.names, Count(0))
    for name, rows in call.db.counted:
        if rows:
            counts[name] = Count(len(rows))
    return {"events": events, "valid_ref_counts": counts, "token": "%020d,%020d" % token}


# --- the older interface: a queue of single events for each session that registered ---


class Queue:
    """The classes that a session has registered for, and the last event that it has read."""

    __slots__ = ("classes", "since", "messages_since")

    def __init__(self, since: int) -> None:
        self.classes: Set[str] = set()
        self.since = since
        self.messages_since = since


@method("event.register")
def register(call: "Call", classes: List[str]) -> None:
    parse_subscription(classes, call.sim.model.names)
    queue = call.sim.event_queues.setdefault(call.session, Queue(call.db.generation))
    queue.classes.update(classes)


@method("event.unregister")
def unregister(call: "Call", classes: List[str]) -> None:
    queue = call.sim.event_queues.get(call.session)
    if queue is not None:
        queue.classes.difference_update(classes)
        if not queue.classes:
            del call.sim.event_queues[call.session]


@method("event.next")
def event_next(call: "Call") -> Steps:
    """Wait, without a timeout, for events of the classes that the session has registered for.

    Several changes of one object between two calls are one event here; a real xapi reports each of them.
    """
    while True:
        if not call.db.exists("session", call.session):
            raise XapiError("SESSION_INVALID", call.session)
        queue = call.sim.event_queues.get(call.session)
        if queue is None:
            import hashlib  # slow to load

            digest = hashlib.md5(call.session.encode("utf-8")).hexdigest()  # noqa: S324, xapi's way to name sessions
            raise XapiError("SESSION_NOT_REGISTERED", "trackid=" + digest)
        subscription = parse_subscription(sorted(queue.classes), call.sim.model.names)
        events, _ = _events(call, subscription, queue.since, queue.messages_since)
        queue.since = queue.messages_since = call.db.generation
        if events:
            return events
        yield Wait(call.sim.changed)


@method("event.get_current_id")
def get_current_id(call: "Call") -> int:
    """The number of the last event of this interface; a real xapi begins at 0 and counts the events delivered."""
    return 0


@method("event.inject")
def inject(call: "Call", cls: str, ref: str) -> str:
    """Make an event for an object; the class is spelt as in the data model."""
    if cls not in call.db.tables or not call.db.exists(cls, ref):
        raise XapiError("HANDLE_INVALID", cls, ref)
    return "%020d,%020d" % (call.db.touch(cls, ref), 0)
