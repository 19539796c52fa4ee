"""One table of the database: its rows and its indexes."""

import gc
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from .datamodel import Class, Field
from .values import quoted, stored_text

Row = Dict[str, Any]
DELETED_KEPT = 10000
# The interval in seconds at which xapi writes its database by itself (seen on a real one).
WRITE_SECONDS = 300.0


class Deletion(NamedTuple):
    """A deleted object, with the generations of its creation and of its deletion."""

    cls: str
    ref: str
    created: int
    deleted: int


# How to undo a change that is not on disk yet: the class, the reference and the field of an object, and the field's old
# value; without a field the object's old row, or none. A tuple, because there are hundreds of thousands.
Undo = Tuple[str, str, Optional[str], Any]


@contextmanager
def no_garbage() -> Iterator[None]:
    """Switch Python's garbage collector off while many objects are created and none is freed."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Column(NamedTuple):
    """A column of a row's text: its name, its field (that of the reference has none), and the text with the default."""

    name: str
    field: Optional[Field]
    default: str


# A field of the back side of a relation, and the index that holds it; None if this pool has no such objects.
Back = Tuple[str, Optional[Dict[str, Dict[str, None]]]]


class Table:
    """The rows of one class."""

    def __init__(self, cls: Class) -> None:
        self.cls = cls
        self.stored = [field for field in cls.fields.values() if not field.derived]
        # The defaults of a new row, and the names of a record in wire order.
        self.defaults: Row = cls.defaults
        self.record: Row = dict.fromkeys(field.name for field in cls.wire_fields)
        self.internal = [field.name for field in self.stored if field.internal]
        self.derived: List[Back] = []
        self.rows: Dict[str, Row] = {}
        self.created: Dict[str, int] = {}
        self.uuids: Dict[str, str] = {}
        self.labels: Dict[str, Dict[str, None]] = {}
        # For each field that refers to one other object: target -> the rows that point at it, oldest first. Those of
        # relations are always there; `Database.index` adds others.
        self.back: Dict[str, Dict[str, Dict[str, None]]] = {
            field.name: {} for field in cls.fields.values() if _is_indexed(field)
        }
        self.has_label = "name_label" in cls.fields
        self._columns: List[Column] = []

    def columns(self) -> List[Column]:
        """The columns of a row, in the order of its text."""
        if not self._columns:
            fields: Dict[str, Optional[Field]] = {**self.cls.columns, "_ref": None}
            for name in sorted(fields, reverse=True):
                default = self.defaults.get(getattr(fields[name], "name", ""), "")
                self._columns.append(Column(name, fields[name], column_text(name, default)))
        return self._columns

    def forget_indexes(self) -> None:
        """Drop the indexes that are no relation's; they are made again when they are needed."""
        self.back = {name: index for name, index in self.back.items() if _is_indexed(self.cls.fields[name])}


def column_text(name: str, value: Any) -> str:
    """A column in the text of a row."""
    return "(%s %s)" % (quoted(name), quoted(stored_text(value)))


def _is_indexed(field: Field) -> bool:
    return field.relation is not None and not field.derived and field.type.startswith("ref ")
