"""Pins a scheduled snapshot, or unpins it: then no retention deletes it, and it does not count; or it does again."""

from contextlib import suppress
from typing import List, Tuple

from vmss.core.pins import KEY, WITHOUT_REASON, index_of, may_begin_uuid
from vmss.core.problem import BadInput
from vmss.core.text import is_uuid, one_line, quoted
from vmss.edges import query, scheduled
from vmss.edges.xapi import Refused, Xapi, understood


def pin(xapi: Xapi, wanted: str, reason: str) -> str:
    """Pin a snapshot that is given by its uuid, the beginning of that, or its name; return what was done, in a
    sentence. Raise BadInput if it is none."""
    ref, uuid = _find(xapi, wanted)
    with understood("VM"):
        blocked = dict(xapi.call("VM.get_blocked_operations", ref))
    if KEY in blocked and reason in ("", blocked[KEY]):
        return "%s is pinned already: %s" % (uuid, one_line(str(blocked[KEY]), 200) or "no reason is given")
    # All of them in one call: between two calls a run could delete a snapshot that was pinned for another reason.
    xapi.call("VM.set_blocked_operations", ref, dict(blocked, **{KEY: reason or WITHOUT_REASON}))
    return "%s is pinned: no run deletes it, and it does not count; vmss unpin %s ends that" % (uuid, uuid)


def unpin(xapi: Xapi, wanted: str) -> str:
    """Unpin a snapshot; return what was done, in a sentence. Raise BadInput if it is none, or not pinned."""
    ref, uuid = _find(xapi, wanted)
    with understood("VM"):
        blocked = dict(xapi.call("VM.get_blocked_operations", ref))
    if KEY not in blocked:
        raise BadInput("the snapshot %s is not pinned" % uuid)
    xapi.call("VM.remove_from_blocked_operations", ref, KEY)
    return "%s is no longer pinned (%s): it counts again, and a run may delete it" % (uuid, one_line(blocked[KEY], 200))


def _find(xapi: Xapi, wanted: str) -> Tuple[str, str]:
    """The reference and the uuid of a scheduled snapshot."""
    if is_uuid(wanted.lower()):
        refs = query.by_uuid(xapi, "VM", wanted.lower())
        with understood("VM"):
            if refs and xapi.call("VM.get_is_vmss_snapshot", refs[0]) is not True:
                raise BadInput("%s is no scheduled snapshot: retention never deletes it" % quoted(wanted))
    else:
        refs = _named(xapi, wanted)
        if not refs and may_begin_uuid(wanted):
            refs = scheduled.scheduled_snapshots(xapi)
    known: List[Tuple[str, str]] = []
    there = []
    for ref in refs:
        try:
            known.append((str(xapi.call("VM.get_uuid", ref)), str(xapi.call("VM.get_name_label", ref))))
            there.append(ref)
        except Refused:
            continue  # it is gone
    index = index_of(known, wanted, lambda at: _vm_of(xapi, there[at]))
    return there[index], known[index][0]


def _named(xapi: Xapi, name: str) -> List[str]:
    """The references of the scheduled snapshots of this name."""
    found = []
    with understood("VM"):
        for ref in xapi.call("VM.get_by_name_label", name):
            with suppress(Refused):  # it is gone
                if xapi.call("VM.get_is_vmss_snapshot", ref) is True:
                    found.append(str(ref))
    return sorted(found)


def _vm_of(xapi: Xapi, snapshot: str) -> str:
    """The name of the VM of a snapshot."""
    try:
        return str(xapi.call("VM.get_name_label", xapi.call("VM.get_snapshot_of", snapshot)))
    except Refused:
        return "a VM that is gone"
