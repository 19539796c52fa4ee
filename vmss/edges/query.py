"""Records of xapi: the objects that a question is about and no others, in few calls; and the forms of their fields.

xapi sends whole records or single fields, nothing between. A field is a call. A query for records names the objects,
and xapi compares every row of the table with every one of them; a call for one reference finds its row at once. What is
read in which way follows from what that costs (`naming_pays`):

- objects are asked for by queries that name them, fifty to a query, and not field by field: records have ten times the
  bytes of a field, and take a third of the time of a call;
- but in a table of many thousand rows a field of each is asked for by itself, over the socket: there a call is cheap;
- where most rows of a table are wanted, the query has a condition that they all meet, and names none;
- of an SR single fields are read, because its record lists all its disks.
"""

from contextlib import suppress
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from vmss.edges.xapi import Fields, Refused, Xapi

# References in one query.
CHUNK = 50
# What reading costs, in microseconds: a call over the socket, as it was measured; a call over a network; a record of a
# snapshot, which has 6 kB in JSON; and a row that is compared with one reference, as the code of xapi lets expect.
_CALL, _CALL_FROM_AFAR, _RECORD, _COMPARISON = 600, 5000, 200, 0.05


def where(
    xapi: Xapi, cls: str, field: str, values: Iterable[str], condition: str = "", fields: Optional[Fields] = None
) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Records of a class in which a field has one of these values, and which meet the condition; with `fields`, as
    Xapi.records gives them."""
    for expression in _naming(field, values, condition):
        yield from xapi.records(cls, expression, fields).items()


def refs_of(xapi: Xapi, cls: str, field: str, values: Iterable[str], condition: str) -> Iterator[str]:
    """The references of the same objects. A row that fails in the condition is compared with no value."""
    for expression in _naming(field, values, condition):
        yield from xapi.refs(cls, expression)


def _naming(field: str, values: Iterable[str], condition: str) -> Iterator[str]:
    """The queries that together name all of these values."""
    values = list(values)
    for start in range(0, len(values), CHUNK):
        # In xapi's query language `and` binds no tighter than `or`, so everything is in parentheses
        # (docs/xapi-facts.md, Queries).
        expression = " or ".join('(field "%s" = "%s")' % (field, value) for value in values[start : start + CHUNK])
        yield "(%s) and (%s)" % (condition, expression) if condition else expression


def naming_pays(xapi: Xapi, rows: int, records: int, calls: int) -> bool:
    """Whether a query that names one object more, in a table with so many rows, and brings so many records, costs less
    than so many calls for fields."""
    call = _CALL if xapi.unix else _CALL_FROM_AFAR
    return rows * _COMPARISON + records * _RECORD < calls * call


def field_of_each(xapi: Xapi, cls: str, refs: Sequence[str], name: str, rows: int) -> Iterator[Tuple[str, Any]]:
    """One field of each of these objects, by reference; those that are gone are left out. The table has so many rows,
    or a few more."""
    if naming_pays(xapi, rows, 1, 1):
        for ref, record in where(xapi, cls, "_ref", refs):
            yield ref, record[name]
        return
    for ref in refs:
        with suppress(Refused):
            yield ref, xapi.call("%s.get_%s" % (cls, name), ref)


def int_of(value: Any) -> int:
    """An integer of a record, which xapi sends as a number or, over XML-RPC, as text. Raise what reading anything else
    comes to: one of MISREAD."""
    if isinstance(value, (bool, float)):
        raise TypeError("not an integer")
    number = int(value)
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError("more than 64 bits")
    return number


def text_of(record: Mapping[str, Any], name: str) -> str:
    """A member that is a text. Raise KeyError or TypeError."""
    value = record[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def list_of(record: Mapping[str, Any], name: str) -> List[Any]:
    """A member that is a list. Raise KeyError or TypeError."""
    value = record[name]
    if not isinstance(value, list):  # a disk without users may be destroyed: nothing else may pass for an empty list
        raise TypeError(name)
    return value


def exists(xapi: Xapi, cls: str, ref: str) -> bool:
    """Whether there is an object of this class with this reference."""
    try:
        xapi.call(cls + ".get_uuid", ref)
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return False
    return True


def by_uuid(xapi: Xapi, cls: str, uuid: str) -> List[str]:
    """The reference of the object with this uuid, in a list that is empty if there is none."""
    try:
        return [str(xapi.call(cls + ".get_by_uuid", uuid))]
    except Refused as refused:
        if refused.code != "UUID_INVALID":
            raise
        return []
