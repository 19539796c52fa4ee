"""What a pass is asked for, as people type it: a schedule by its name, a time by the wall clock."""

from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Tuple

from vmss.core.datetimes import format_datetime, wall_to_instants
from vmss.core.policy import index_of
from vmss.core.problem import BadInput
from vmss.core.text import is_uuid
from vmss.edges.xapi import Refused, Xapi, understood

if TYPE_CHECKING:
    from vmss.passes.request import Request


def resolved(request: "Request", xapi: Xapi, zone: tzinfo) -> "Request":
    """The request with the uuid of the schedule that it names, and with the instant at which a wall clock shows its
    time; `zone` is that of the schedules. Raise BadInput if there is no such schedule, or more than one."""
    prune, at = request.prune, request.at
    if prune is not None:
        prune = prune._replace(policy=_uuid_of(xapi, prune.policy))
    if at is not None and at.tzinfo is None:
        at = wall_to_instants(zone, at)[0]
    return request._replace(policy=_uuid_of(xapi, request.policy), prune=prune, at=at)


def set_clock(xapi: Xapi, at: datetime) -> None:
    """Set the clock of a simulator. Raise BadInput if the server is none."""
    try:
        xapi.call("simulator.set_time", format_datetime(at))
    except Refused:
        raise BadInput("--at: only a simulator's clock can be set; with --dry-run it is the time to suppose, anywhere")


def _uuid_of(xapi: Xapi, wanted: Optional[str]) -> Optional[str]:
    """The uuid of a schedule. A whole one is not looked up: who uses it asks for its record anyway."""
    if wanted is None or is_uuid(wanted):
        return wanted
    known = _known(xapi)
    return known[index_of(known, wanted)][0]


@understood("VMSS")
def _known(xapi: Xapi) -> List[Tuple[str, str]]:
    """The uuids and names of all schedules, also of those whose other fields cannot be understood."""
    return [_uuid_and_name(ref, record) for ref, record in sorted(xapi.call("VMSS.get_all_records").items())]


def _uuid_and_name(ref: str, record: Any) -> Tuple[str, str]:
    fields: Mapping[str, Any] = record if isinstance(record, Mapping) else {}
    return str(fields.get("uuid", ref)), str(fields.get("name_label", ""))
