"""A session with xapi as the commands of xe use it: it knows uuids and names, and speaks to the user."""

from contextlib import suppress
from typing import Any, Callable, Dict, List, NamedTuple

from vmss.core.records import NULL
from vmss.edges.xapi import Refused, Unanswered, Xapi
from vmss.xe.fields import NOT_IN_DATABASE

# Upper limit on the uuids of one class that are read one by one; after that, all others are read at once.
_ONE_BY_ONE_MAX = 100

# The errors of an object that was deleted meanwhile, and of a class that xapi does not have.
ABSENT = ("HANDLE_INVALID", "MESSAGE_METHOD_UNKNOWN", "MESSAGE_REMOVED", "NOT_IMPLEMENTED")


class Terminal(NamedTuple):
    """The user: `shown` escapes a text for the output, and its second argument says whether several lines are allowed;
    `say` writes lines at once; `answer` is the next line that he types."""

    shown: Callable[[str, bool], str]
    say: Callable[[List[str]], None]
    answer: Callable[[], str]


class Session:
    """A session with xapi, and a cache of references, uuids and names."""

    def __init__(self, xapi: Xapi, user: Terminal) -> None:
        self.call = xapi.call
        self.user = user
        self._texts: Dict[str, Dict[str, str]] = {}  # uuids and names, by class and member, and by reference
        self._refs: Dict[str, Dict[str, str]] = {}  # by class and uuid
        self._classes: Dict[str, str] = {}  # the class of objects that a command is about, by reference

    def is_about(self, cls: str, ref: str, uuid: str = "") -> None:
        """Note the class of an object that a command is about, and its uuid if that is known."""
        self._classes[ref] = cls
        if uuid:
            self._texts.setdefault(cls + ".uuid", {})[ref] = uuid

    def ref(self, cls: str, uuid: str) -> str:
        """The reference of the object of xapi's class with this uuid. Raise Refused."""
        ref = str(self.call(cls + ".get_by_uuid", uuid))
        self.is_about(cls, ref)
        return ref

    def find_ref(self, cls: str, uuid: str) -> str:
        """The reference of the object of xapi's class with this uuid; "" if there is none."""
        refs = self._refs.setdefault(cls, {})
        if uuid not in refs:
            try:
                refs[uuid] = self.ref(cls, uuid)
            except Refused as refused:
                if refused.code != "UUID_INVALID":
                    raise
                refs[uuid] = ""
        return refs[uuid]

    def uuid(self, cls: str, ref: str) -> str:
        """The uuid of a reference."""
        return self._text(cls, "uuid", ref)

    def name_label(self, cls: str, ref: str) -> str:
        """The name of the object with a reference."""
        return self._text(cls, "name_label", ref)

    def _text(self, cls: str, member: str, ref: str) -> str:
        known = self._texts.setdefault("%s.%s" % (cls, member), {})
        if ref == NULL or not ref:
            return NOT_IN_DATABASE
        if ref not in known:
            if len(known) == _ONE_BY_ONE_MAX:
                records = self.call(cls + ".get_all_records")
                known.update((str(other), str(record[member])) for other, record in records.items())
            if ref not in known:
                try:
                    known[ref] = str(self.call("%s.get_%s" % (cls, member), ref))
                except Refused as refused:
                    if refused.code not in ABSENT:
                        raise
                    known[ref] = NOT_IN_DATABASE
        return known[ref]

    def described(self, text: str) -> str:
        """Given a parameter of an error, return it; for the reference of a known object, its uuid and name."""
        cls = self._classes.get(text)
        if cls is None:
            return text
        with suppress(Refused, Unanswered):  # the object was deleted meanwhile
            uuid = self.uuid(cls, text)
            return "%s (%s)" % (uuid, self.call(cls + ".get_name_label", text)) if cls in _NAMED else uuid
        return text

    def uuid_line(self, cls: str, ref: Any) -> str:
        """The uuid of what a command has made."""
        return str(self.call(cls + ".get_uuid", ref))


# The classes whose objects have names, of those that a command can be about.
_NAMED = ("SR", "VDI", "VM", "VMSS", "host", "pool", "task")
