"""The notes of VMs that ran when a checkpoint of ours began, and how these VMs are now.

A note is in two places. The file beside the lock survives a death of xapi, which forgets what its database has not on
disk. The key of pool.other_config is there after a change of coordinator too, can be read from everywhere, and is not
put back by VM.revert, as other_config of the VM would be.
"""

from datetime import datetime, timedelta
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from vmss.core.datetimes import CLOCK_TOLERANCE, EPOCH, format_datetime, parse_reading
from vmss.core.frozen import Frozen, Seen
from vmss.core.records import FROZEN_PREFIX, NULL
from vmss.core.text import is_uuid, one_line
from vmss.edges.messages import before, messages_since
from vmss.edges.query import exists, where
from vmss.edges.xapi import MISREAD, Refused, Xapi, understood

# The messages that xapi makes when somebody suspends a VM, or reverts it, which may leave it Suspended. A checkpoint
# makes neither (docs/xapi-facts.md, A VM that a checkpoint leaves Suspended).
_BY_OTHERS = {"VM_SUSPENDED", "VM_SNAPSHOT_REVERTED"}
# And those that it makes when a VM begins to run.
_RUNS = {"VM_STARTED", "VM_RESUMED", "VM_UNPAUSED", "VM_REBOOTED", "VM_MIGRATED"}
_TASK = "OpaqueRef:"
_FILE_ALONE = timedelta(days=1)


def of_pool(other_config: Mapping[str, str]) -> Dict[str, Frozen]:
    """The notes in pool.other_config, by the uuid of the VM; what is none is left out."""
    notes = {}
    for key, value in other_config.items():
        frozen = _frozen({"vm": key[len(FROZEN_PREFIX) :], "since": value}) if key.startswith(FROZEN_PREFIX) else None
        if frozen is not None:
            notes[frozen.vm] = frozen
    return notes


def of_file(kept: Mapping[str, Any]) -> Dict[str, Frozen]:
    """The notes in the file, by the uuid of the VM; what is none is left out."""
    items = kept.get("vms")
    notes = map(_frozen, items if isinstance(items, list) else ())
    return {frozen.vm: frozen for frozen in notes if frozen is not None}


def believed(pooled: Mapping[str, Frozen], filed: Mapping[str, Frozen], now: datetime) -> Dict[str, Frozen]:
    """The notes of both places; where both have one of a VM, that of the file, which says more. A note that only the
    file has is believed for a day: later it is of a time when this host was the coordinator before, and another one has
    seen to the VM since."""
    notes = {**pooled, **filed}
    for vm, frozen in filed.items():
        if vm not in pooled and not now - _FILE_ALONE <= frozen.since <= now + CLOCK_TOLERANCE:
            del notes[vm]
    return notes


def to_file(notes: Sequence[Frozen]) -> Dict[str, Any]:
    """The value of the file for these notes; empty if there are none."""
    return {"vms": [_written(frozen) for frozen in notes]} if notes else {}


def _written(frozen: Frozen) -> Dict[str, str]:
    value = {"vm": frozen.vm, "since": format_datetime(frozen.since), "task": frozen.task}
    return value if frozen.told is None else {**value, "told": format_datetime(frozen.told), "as": frozen.told_as}


def _frozen(value: Any) -> Optional[Frozen]:
    """A note as `_written` gives it; None for anything else."""
    if not isinstance(value, Mapping) or not is_uuid(value.get("vm")):
        return None
    task = value.get("task", "")
    try:
        told = parse_reading(value["told"]) if "told" in value else None
        since = parse_reading(value.get("since"))
    except ValueError:
        return None
    known = isinstance(task, str) and task.startswith(_TASK) and is_uuid(task[len(_TASK) :])
    return Frozen(value["vm"], since, task if known else "", told, str(value.get("as", "")))


@understood("VM")
def look(xapi: Xapi, notes: Sequence[Frozen], now: datetime, thorough: bool = True) -> Dict[str, Seen]:
    """How the VMs of these notes are now, by their uuids; those that are gone are left out. Without `thorough`, xapi is
    not asked for messages that it has stored without links."""
    of = {frozen.vm: frozen for frozen in notes}
    seen: Dict[str, Seen] = {}
    for ref, record in where(xapi, "VM", "uuid", sorted(of)):
        try:
            uuid, it = _seen(ref, record)
            memory = str(record["suspend_VDI"])
        except MISREAD as error:
            uuid = str(record.get("uuid")) if isinstance(record, Mapping) else ""
            memory, it = "", Seen(str(ref), "", "", pending=True, error=one_line(repr(error), 200))
        if uuid in of:
            seen[uuid] = _asked(xapi, of[uuid], it, now, memory, thorough)
    return seen


def _seen(ref: str, record: Mapping[str, Any]) -> Tuple[str, Seen]:
    operations = frozenset(str(operation) for operation in record["current_operations"].values())
    return str(record["uuid"]), Seen(str(ref), str(record["name_label"]), str(record["power_state"]), operations)


def _asked(xapi: Xapi, frozen: Frozen, seen: Seen, now: datetime, memory: str, thorough: bool) -> Seen:
    """What is seen, with what has to be asked for: only of a VM whose state needs an explanation. `memory` is the
    reference of the disk with its memory."""
    if seen.error:
        return seen
    try:
        # In this order: a checkpoint that ends in between has left its VM as it was seen, or resumed it.
        seen = seen._replace(pending=_is_pending(xapi, frozen.task))
        if seen.power_state == "Suspended" and not seen.operations and not seen.pending:
            by_others = _is_by_others(xapi, frozen, now)
            gone = not by_others and memory != NULL and not exists(xapi, "VDI", memory)
            if thorough and not by_others and not gone:
                by_others = _is_by_others_without_links(xapi, frozen, now)
            seen = seen._replace(by_others=by_others, memory_gone=gone)
    except (Refused,) + MISREAD as error:
        seen = seen._replace(error=one_line(str(error), 200))
    return seen


def _is_pending(xapi: Xapi, task: str) -> bool:
    if not task:
        return False
    try:
        return bool(xapi.call("task.get_status", task) == "pending")
    except Refused as refused:
        if refused.code != "HANDLE_INVALID":
            raise
        return False


def _is_by_others(xapi: Xapi, frozen: Frozen, now: datetime) -> bool:
    """Whether somebody has suspended or reverted the VM since the checkpoint began.

    A note from the future does not tell when that was: then the last of the VM's messages decides.
    """
    known = frozen.since <= now + CLOCK_TOLERANCE
    after = before(frozen.since) if known else format_datetime(EPOCH)
    messages = list(xapi.call("message.get", "VM", frozen.vm, after).values())
    names = [record["name"] for record in sorted(messages, key=lambda record: parse_reading(record["timestamp"]))]
    if known:
        return any(name in _BY_OTHERS for name in names)
    last = next((name for name in reversed(names) if name in _BY_OTHERS | _RUNS), "")
    return last in _BY_OTHERS


def _is_by_others_without_links(xapi: Xapi, frozen: Frozen, now: datetime) -> bool:
    """The same, by messages that xapi has stored without links: else the VM would be resumed against somebody's will.
    xapi reads all messages since then."""
    if frozen.since > now + CLOCK_TOLERANCE:
        return False
    messages = messages_since(xapi, "VM", frozen.vm, before(frozen.since))
    return any(record["name"] in _BY_OTHERS for record in messages)
