"""Messages, the pool's alerts (xapi: ocaml/xapi/xapi_message.ml)."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Callable, Dict, List

from .. import query
from ..errors import XapiError
from ..registry import method
from ..values import parse_date, stored_text, to_seconds

if TYPE_CHECKING:
    from ..call import Call

Records = Dict[str, Dict[str, Any]]

# The classes a message can be about, and the tables where their objects are.
_TABLES = {"VM": "VM", "Host": "host", "SR": "SR", "Pool": "pool", "VMPP": "VMPP", "VMSS": "VMSS", "VDI": "VDI"}


def _object_exists(call: "Call", cls: str, uuid: str) -> bool:
    return cls in _TABLES and uuid in call.db.tables[_TABLES[cls]].uuids


def _records(call: "Call", refs: List[str]) -> Records:
    return {ref: call.sim.messages.records[ref] for ref in refs}


@method("message.create")
def create(call: "Call", name: str, priority: int, cls: str, obj_uuid: str, body: str) -> str:
    if not _object_exists(call, cls, obj_uuid):
        raise XapiError("UUID_INVALID", cls, obj_uuid)
    return call.sim.messages.create(name, priority, cls, obj_uuid, body)


@method("message.destroy")
def destroy(call: "Call", ref: str) -> None:
    call.sim.messages.destroy(ref)


@method("message.destroy_many")
def destroy_many(call: "Call", refs: List[str]) -> None:
    for ref in refs:
        call.sim.messages.destroy(ref)


@method("message.destroy_all")
def destroy_all(call: "Call", filters: Dict[str, str]) -> None:
    """Destroy the messages that fulfil all given conditions: before an instant, after one, of one priority."""
    unknown = sorted(set(filters) - {"before", "after", "priority"})
    if unknown:
        raise XapiError("INVALID_VALUE", "filter_name", unknown[0])
    store = call.sim.messages
    first = to_seconds(parse_date(filters["after"])) if "after" in filters else float("-inf")
    last = to_seconds(parse_date(filters["before"])) if "before" in filters else float("inf")
    for ref, when in list(store.times.items()):
        priority = str(store.records[ref]["priority"])
        if first < when < last and filters.get("priority", priority) == priority:
            store.destroy(ref)


@method("message.get")
def get(call: "Call", cls: str, obj_uuid: str, since: datetime) -> Records:
    if not _object_exists(call, cls, obj_uuid):
        raise XapiError("UUID_INVALID")
    store = call.sim.messages
    seconds = to_seconds(since)
    linked = _records(call, [ref for ref in store.of_object(obj_uuid) if ref not in store.unlinked])
    # The timestamps of records are compared, which are in whole seconds; get_since compares the times themselves.
    return {
        ref: record
        for ref, record in linked.items()
        if record["cls"] == cls and to_seconds(record["timestamp"]) > seconds
    }


@method("message.get_since")
def get_since(call: "Call", since: datetime) -> Records:
    return _records(call, call.sim.messages.later_than(to_seconds(since)))


@method("message.get_all")
def get_all(call: "Call") -> List[str]:
    return [ref for ref in call.sim.messages.records if ref not in call.sim.messages.unlinked]


@method("message.get_all_records")
def get_all_records(call: "Call") -> Records:
    return dict(call.sim.messages.records)


@method("message.get_record")
def get_record(call: "Call", ref: str) -> Dict[str, Any]:
    if ref in call.sim.messages.unlinked:
        raise XapiError("HANDLE_INVALID", "message", ref)
    return call.sim.messages.record(ref)


@method("message.get_by_uuid")
def get_by_uuid(call: "Call", uuid: str) -> str:
    ref = call.sim.messages.refs_by_uuid.get(uuid)
    if ref is None or ref in call.sim.messages.unlinked:
        raise XapiError("UUID_INVALID", "message", uuid)
    return ref


@method("message.get_all_records_where")
def get_all_records_where(call: "Call", text: str) -> Records:
    """Select messages by a query. An unknown field is no error here: the message does not match."""

    def reader(name: str) -> Callable[[str, Dict[str, Any]], str]:
        return lambda ref, record: stored_text(record[name])

    test = query.parse(text, reader).test

    def matches(ref: str, record: Dict[str, Any]) -> bool:
        try:
            return test(ref, record)
        except KeyError:
            return False

    return {ref: record for ref, record in call.sim.messages.records.items() if matches(ref, record)}
