"""The VMs that can be on a schedule, and the conditions that queries for VMs and snapshots share."""

from typing import Any, Iterator, List, Mapping, Sequence

from vmss.core.assignment import Member
from vmss.core.records import NULL
from vmss.core.text import is_uuid
from vmss.edges.query import where
from vmss.edges.xapi import Xapi, understood

# What is no template, no snapshot and no control domain.
REAL = (
    '((field "is_a_snapshot" = "false") and (field "is_a_template" = "false")) and '
    '(field "is_control_domain" = "false")'
)
# What is on a schedule, also if it has become a template since.
ON_SCHEDULE = '(field "is_a_snapshot" = "false") and (not (field "snapshot_schedule" = "%s"))' % NULL
# A client that sets an empty reference has it stored as it is.
NO_SCHEDULE = '(field "snapshot_schedule" = "%s") or (field "snapshot_schedule" = "")' % NULL
SCHEDULED = '(field "is_a_snapshot" = "true") and (field "is_vmss_snapshot" = "true")'
# On which nothing is in progress. xapi stores maps and sets as S-expressions; this is the empty one.
AT_REST = 'field "current_operations" = "()"'
# With any tag: xapi cannot look for one of several.
TAGGED = 'not (field "tags" = "()")'


def read_members(xapi: Xapi, *conditions: str) -> List[Member]:
    """The VMs of the pool that meet these conditions too, by name."""
    with understood("VM"):
        return _members(xapi.call("VM.get_all_records_where", expression(*conditions)))


def expression(*conditions: str) -> str:
    """The query for VMs that can be on a schedule, and meet these conditions too."""
    text = REAL
    for condition in conditions:
        text = "(%s) and (%s)" % (text, condition)
    return text


def read_by_uuid(xapi: Xapi, uuids: Sequence[str]) -> List[Member]:
    """Those of these uuids that are of a VM that can be on a schedule."""
    with understood("VM"):
        return _members(dict(where(xapi, "VM", "uuid", [uuid for uuid in uuids if is_uuid(uuid)], REAL)))


def _members(records: Mapping[str, Any]) -> List[Member]:
    found = [member_of(ref, record) for ref, record in records.items() if isinstance(record, Mapping)]
    return sorted(found, key=lambda vm: (vm.name, vm.uuid))


def member_of(ref: str, record: Mapping[str, Any]) -> Member:
    """A VM by its record. What does not have xapi's form is left out: it takes part in no decision."""
    schedule = record.get("snapshot_schedule")
    return Member(
        ref,
        str(record.get("uuid", ref)),
        str(record.get("name_label", "")),
        schedule if isinstance(schedule, str) and schedule != NULL else "",
        frozenset(_texts(record, "tags")),
        frozenset(_texts(record, "snapshots")),
    )


def _texts(record: Mapping[str, Any], name: str) -> Iterator[str]:
    values = record.get(name)
    return (value for value in (values if isinstance(values, list) else ()) if isinstance(value, str))
