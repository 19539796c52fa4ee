"""Records of xapi: the objects that a question is about and no others, in few calls; and the forms of their fields.

xapi sends whole records or single fields, nothing between. What is read in which way follows from what that costs. A
call takes as long as 20 kB of records: 0.6 ms over the socket, and many times that over a network. In JSON a VM has
3 kB, a snapshot 6, a disk or a VBD 1.5; an SR lists all its disks. And a query compares every row of its table with
everything that it names, while a call for one reference finds its row at once. So

- two objects or more are asked for by a query for their records, fifty to a query, and not field by field: that is less
  than a third of the time, at ten times the bytes;
- where most rows of a table are wanted, the query has a condition that they all meet, and names none;
- single fields are for single objects, and for SRs.
"""

from typing import Any, Dict, Iterable, Iterator, List, Mapping, Tuple

from vmss.edges.xapi import Refused, Xapi

# References in one query.
CHUNK = 50


def where(
    xapi: Xapi, cls: str, field: str, values: Iterable[str], condition: str = ""
) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Records of a class in which a field has one of these values, and which meet the condition."""
    values = list(values)
    for start in range(0, len(values), CHUNK):
        # In xapi's query language `and` binds no tighter than `or`, so everything is in parentheses
        # (docs/xapi-facts.md, Queries).
        expression = " or ".join('(field "%s" = "%s")' % (field, value) for value in values[start : start + CHUNK])
        if condition:
            expression = "(%s) and (%s)" % (condition, expression)
        answer: Dict[str, Dict[str, Any]] = xapi.call(cls + ".get_all_records_where", expression)
        yield from answer.items()


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
