"""Hooks, programs of the administrator's that a pass starts: their names, their order, and what each is told."""

import re
from datetime import datetime
from typing import Dict, NamedTuple

from vmss.core.datetimes import UTC
from vmss.core.outcome import Error

BEFORE_PASS, AFTER_PASS, BEFORE_VM, AFTER_VM = PHASES = ("before-pass", "after-pass", "before-vm", "after-vm")

# How a snapshot ended, or a pass, for an after-hook; beside these, the code of an error.
OK, LOST, FAILED, STOPPED = "ok", "lost", "failed", "stopped"

_NAME = re.compile(r"(%s)(-[A-Za-z0-9][A-Za-z0-9._-]*)?\Z" % "|".join(PHASES))
# What editors and packages leave beside a file. It would be carried out as well as the file itself.
_COPY = re.compile(r"~\Z|\.(bak|old|orig|save|swp|tmp|disabled|rpm(save|new|orig)|dpkg-[a-z]+)\Z")
# Upper limit on the characters of a name or an error in the environment; the kernel refuses more than 128 KiB.
_TEXT_MAX = 8000


def phase_of(name: str) -> str:
    """Given the name of a file, return the phase of the hook that it is; empty if it is none."""
    match = _NAME.match(name)
    return match.group(1) if match and not _COPY.search(name) else ""


class Subject(NamedTuple):
    """What a hook is about: a policy, a VM of it, and the snapshot to be taken; all empty for the hooks of a pass.
    `slot` is the slot that the snapshot is for, and `sync` the address that Xen Orchestra's VM sync hook asks, empty if
    it does not ask this VM."""

    policy_uuid: str = ""
    policy_name: str = ""
    vm_uuid: str = ""
    vm_name: str = ""
    snapshot: str = ""
    slot: str = ""
    sync: str = ""


def slot_text(slot: datetime) -> str:
    """A slot as hooks are told it: ISO 8601, in UTC."""
    return slot.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def told_before(phase: str, subject: Subject) -> Dict[str, str]:
    """The variables of a hook that runs before something."""
    if not subject.vm_uuid:
        return {"VMSS_PHASE": phase}
    told = {
        "VMSS_PHASE": phase,
        "VMSS_POLICY_UUID": subject.policy_uuid,
        "VMSS_POLICY_NAME": subject.policy_name,
        "VMSS_VM_UUID": subject.vm_uuid,
        "VMSS_VM_NAME": subject.vm_name,
        "VMSS_SNAPSHOT_NAME": subject.snapshot,
        "VMSS_SLOT": subject.slot,
    }
    return {name: _bounded(text) for name, text in told.items()}


def told_after(phase: str, subject: Subject, result: str, uuid: str = "", error: Error = ()) -> Dict[str, str]:
    """The variables of a hook that runs after something, which ended with this result: OK, an error code, or another of
    the words above; `uuid` is that of the new snapshot."""
    told = dict(told_before(phase, subject), VMSS_RESULT=_bounded(result), VMSS_ERROR=_bounded(" ".join(error)))
    if subject.vm_uuid:
        told["VMSS_SNAPSHOT_UUID"] = _bounded(uuid)
    return told


def _bounded(text: str) -> str:
    """A text as the environment can carry it."""
    return text[:_TEXT_MAX].replace("\0", "")
