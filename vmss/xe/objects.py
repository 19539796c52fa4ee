"""Objects of xapi as xe sees them, read when they are first needed."""

from typing import Any, Dict, List, Mapping, Optional, Tuple

from vmss.core.records import NULL
from vmss.edges.xapi import Refused
from vmss.xe.classes import Class
from vmss.xe.fields import COSTLY, HIDDEN, LINES, LIST, MAP, NOT_IN_DATABASE, ONE, SET, Field
from vmss.xe.layout import Row
from vmss.xe.names import SECOND_RECORDS
from vmss.xe.session import ABSENT, Session

# Printed in lists in place of a field that is slow to read.
_COSTLY_TEXT = "<expensive field>"


class _Lacking(Exception):
    """xapi is older than a field, which its xe has not either."""


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
        made = field.made is not None or field.member.endswith("()")
        return made or field.member.split(".")[0] in self._record

    def row(self, names: Tuple[str, ...], costly: bool = False, first: bool = False) -> Row:
        """The fields of these names (none: all fields) in the class's order, or with `first` only the first."""
        row: List[Tuple[str, str]] = []
        for field in self.fields.values():
            if field.seen != HIDDEN and (not names or field.name in names) and not (first and row):
                try:
                    text = self.text(field) if costly or field.seen != COSTLY else _COSTLY_TEXT
                except _Lacking:
                    continue
                row.append((field.label, text))
        return row

    def text(self, field: Field) -> str:
        """The text of a field as it is shown."""
        return self._session.user.shown(self.plain(field), field.kind is LINES)

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
        try:
            return self._matches(field, key, value)
        except _Lacking:
            return False

    def _matches(self, field: Field, key: Optional[str], value: str) -> bool:
        alone = field.holds == ONE and key is None
        if (
            field.of
            and not field.named
            and value != NOT_IN_DATABASE
            and (alone or field.holds == SET and key is not None)
        ):
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
            shown = self._session.name_label if field.named else self._session.uuid
            return shown(field.of, str(value))
        return field.kind.show(value)

    def _value(self, field: Field) -> Any:
        """The value of a field; None if there is none. Raise _Lacking."""
        if field.made is not None:
            try:
                return field.made(self._session, self.ref, self._record)
            except Refused as refused:
                if refused.code not in ABSENT:
                    raise
                raise _Lacking
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
        if record is not None and tail not in record:
            raise _Lacking
        return None if record is None else record[tail]

    def _read_second_record(self, member: str) -> Optional[Mapping[str, Any]]:
        ref = self._record.get(member)
        if ref in (None, "", NULL):
            return None
        try:
            record = self._session.call(SECOND_RECORDS[self.cls.api, member] + ".get_record", ref)
        except Refused as refused:
            if refused.code not in ABSENT:
                raise
            return None
        return dict(record)


def objects(session: Session, cls: Class, everything: bool = False) -> List[XeObject]:
    """The objects of a class, or all objects of xapi's class."""
    if cls.where and not everything:
        records = session.call(cls.api + ".get_all_records_where", cls.where)
    else:
        records = session.call(cls.api + ".get_all_records")
    for ref in records:
        session.is_about(cls.api, str(ref))
    return [XeObject(session, cls, str(ref), record) for ref, record in records.items()]


def object_of(session: Session, cls: Class, uuid: str) -> XeObject:
    """The object with this uuid. Raise Refused."""
    ref = session.ref(cls.api, uuid)
    record = session.call(cls.api + ".get_record", ref)
    session.is_about(cls.api, ref, str(record["uuid"]))
    return XeObject(session, cls, ref, record)
