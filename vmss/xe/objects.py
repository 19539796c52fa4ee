"""Objects of xapi as xe sees them, read when they are first needed."""

from contextlib import suppress
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from vmss.core.records import NULL
from vmss.edges.xapi import Refused, Unanswered, Xapi
from vmss.xe.classes import SECOND_RECORDS, Class
from vmss.xe.fields import COSTLY, HIDDEN, LINES, LIST, MAP, NOT_IN_DATABASE, ONE, SET, Field
from vmss.xe.layout import Row

# Upper limit on the uuids of one class that are read one by one; after that, all others are read at once.
_ONE_BY_ONE_MAX = 100

# The errors of an object that was deleted meanwhile, and of a class that xapi does not have.
_ABSENT = ("HANDLE_INVALID", "MESSAGE_METHOD_UNKNOWN", "MESSAGE_REMOVED", "NOT_IMPLEMENTED")

# Printed in lists in place of a field that is slow to read.
_COSTLY_TEXT = "<expensive field>"


class Session:
    """A session with xapi, and a cache of references and uuids."""

    def __init__(self, xapi: Xapi, shown: Callable[[str, bool], str]) -> None:
        """`shown` escapes a text for the output; its second argument says whether several lines are allowed."""
        self.call = xapi.call
        self.shown = shown
        self._uuids: Dict[str, Dict[str, str]] = {}  # by class and reference
        self._refs: Dict[str, Dict[str, str]] = {}  # by class and uuid
        self._classes: Dict[str, str] = {}  # the class of objects that a command is about, by reference

    def all(self, cls: Class, everything: bool = False) -> List["XeObject"]:
        """The objects of a class, or all objects of xapi's class."""
        if cls.where and not everything:
            records = self.call(cls.api + ".get_all_records_where", cls.where)
        else:
            records = self.call(cls.api + ".get_all_records")
        self._classes.update((str(ref), cls.api) for ref in records)
        return [XeObject(self, cls, str(ref), record) for ref, record in records.items()]

    def one(self, cls: Class, uuid: str) -> "XeObject":
        """The object with this uuid. Raise Refused."""
        ref = self.ref(cls.api, uuid)
        record = self.call(cls.api + ".get_record", ref)
        self._uuids.setdefault(cls.api, {})[ref] = str(record["uuid"])
        return XeObject(self, cls, ref, record)

    def ref(self, cls: str, uuid: str) -> str:
        """The reference of the object of xapi's class with this uuid. Raise Refused."""
        ref = str(self.call(cls + ".get_by_uuid", uuid))
        self._classes[ref] = cls
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
        known = self._uuids.setdefault(cls, {})
        if ref == NULL or not ref:
            return NOT_IN_DATABASE
        if ref not in known:
            if len(known) == _ONE_BY_ONE_MAX:
                records = self.call(cls + ".get_all_records")
                known.update((str(other), str(record["uuid"])) for other, record in records.items())
            if ref not in known:
                try:
                    known[ref] = str(self.call(cls + ".get_uuid", ref))
                except Refused as refused:
                    if refused.code not in _ABSENT:
                        raise
                    known[ref] = NOT_IN_DATABASE
        return known[ref]

    def name(self, text: str) -> str:
        """Given a parameter of an error, return it; for the reference of a known object, its uuid and name."""
        cls = self._classes.get(text)
        if cls is None:
            return text
        with suppress(Refused, Unanswered):  # the object was deleted meanwhile
            uuid = self.uuid(cls, text)
            return uuid if cls == "message" else "%s (%s)" % (uuid, self.call(cls + ".get_name_label", text))
        return text


class XeObject:
    """One object: its fields as values and as text."""

    def __init__(self, session: Session, cls: Class, ref: str, record: Mapping[str, Any]) -> None:
        self.cls = cls
        self.ref = ref
        self._session = session
        self._record = record
        self._second_records: Dict[str, Optional[Mapping[str, Any]]] = {}
        # An older xapi has fewer fields, and its xe too.
        self.fields: Dict[str, Field] = {field.name: field for field in cls.fields if self._has(field)}

    def _has(self, field: Field) -> bool:
        return field.member.endswith("()") or field.member.split(".")[0] in self._record

    def row(self, names: Tuple[str, ...], costly: bool = False, first: bool = False) -> Row:
        """The fields of these names (none: all fields) in the class's order, or with `first` only the first."""
        wanted = [
            field for field in self.fields.values() if field.seen != HIDDEN and (not names or field.name in names)
        ]
        return [
            (field.label, self.text(field) if costly or field.seen != COSTLY else _COSTLY_TEXT)
            for field in (wanted[:1] if first else wanted)
        ]

    def text(self, field: Field) -> str:
        """The text of a field as it is shown."""
        return self._session.shown(self.plain(field), field.kind is LINES)

    def plain(self, field: Field) -> str:
        """The text of a field, not escaped."""
        value = self._value(field)
        if value is None:
            return field.missing
        if field.holds == ONE:
            return self._item(field, value)
        if field.holds in (LIST, SET):
            return field.between.join(self.items(field))
        return "; ".join("%s: %s" % pair for pair in self.map(field).items())

    def items(self, field: Field) -> List[str]:
        """The members of a set."""
        value = self._value(field) or []
        # Current operations are a map from tasks to operations.
        members = value.values() if isinstance(value, dict) else value
        return [self._item(field, member) for member in members]

    def map(self, field: Field) -> Dict[str, str]:
        """The members of a map."""
        value = self._value(field) or {}
        return {str(key): self._item(field, member) for key, member in value.items()}

    def matches(self, field: Field, key: Optional[str], value: str) -> bool:
        """Whether a field has this value; given a key, whether a map has it there, or a set contains it."""
        alone = field.holds == ONE and key is None
        if field.of and value != NOT_IN_DATABASE and (alone or field.holds == SET and key is not None):
            # One call for the wanted object, instead of one for every reference.
            refs = [self._value(field)] if alone else self._value(field)
            return self._session.find_ref(field.of, value) in refs
        if key is None:
            return self.plain(field) == value
        if field.holds == MAP:
            return self.map(field).get(key) == value
        return value in self.items(field)

    def _item(self, field: Field, value: Any) -> str:
        if field.of:
            return self._session.uuid(field.of, str(value))
        return field.kind.show(value)

    def _value(self, field: Field) -> Any:
        """The value of a field; None if there is none."""
        if field.member.endswith("()"):
            try:
                return self._session.call(field.member[:-2], self.ref)
            except Refused:
                return None
        head, dot, tail = field.member.partition(".")
        if not dot:
            return self._record.get(head)
        if head not in self._second_records:
            self._second_records[head] = self._read_second_record(head)
        record = self._second_records[head]
        return None if record is None else record.get(tail)

    def _read_second_record(self, member: str) -> Optional[Mapping[str, Any]]:
        ref = self._record.get(member)
        if ref in (None, "", NULL):
            return None
        try:
            record = self._session.call(SECOND_RECORDS[self.cls.api, member] + ".get_record", ref)
        except Refused as refused:
            if refused.code not in _ABSENT:
                raise
            return None
        return dict(record)
