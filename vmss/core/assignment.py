"""Putting VMs on schedules: which VMs are meant, what changes for each, and what the next run then deletes of it."""

import re
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from vmss.core.policy import Policy
from vmss.core.retention import Keep, Snapshot, expired
from vmss.core.text import quoted
from vmss.core.words import counted, listed

# The special characters of a pattern of the shell's, and one of them that stands for itself.
_SPECIAL, _IN_BRACKETS = re.compile(r"[*?\[]"), re.compile(r"\[([*?\[])\]")


class Member(NamedTuple):
    """A VM that can be on a schedule: no template, no snapshot, no control domain. `schedule` is the reference of the
    one that it is on; empty if it is on none. `snapshots` are the references of all its snapshots."""

    ref: str
    uuid: str
    name: str
    schedule: str = ""
    tags: FrozenSet[str] = frozenset()
    snapshots: FrozenSet[str] = frozenset()


class Selector(NamedTuple):
    """Which VMs are meant: those with a tag, those whose names match a pattern of the shell's, those with these uuids,
    or, with nothing of all this, each."""

    tag: Optional[str] = None
    name: Optional[str] = None
    uuids: Tuple[str, ...] = ()

    def __str__(self) -> str:
        """What the VMs have that are meant."""
        if self.tag is not None:
            return "the tag %s" % quoted(self.tag)
        if self.name is not None:
            return "a name that matches %s" % quoted(self.name)
        uuids = [quoted(uuid) for uuid in self.uuids]
        return "the uuid " + " or ".join(uuids[:5] + (["one of %d more" % (len(uuids) - 5)] if uuids[5:] else []))

    def takes(self, vm: Member) -> bool:
        """Whether a VM is meant."""
        if self.tag is not None:
            return self.tag in vm.tags
        if self.name is not None:
            return fnmatchcase(vm.name, self.name)
        return not self.uuids or vm.uuid in self.uuids


class Selection:
    """VMs, in the order in which they are given, and which of them selectors mean: of thousands of selectors with whole
    names, each is not compared with each VM."""

    def __init__(self, vms: Sequence[Member]) -> None:
        self._vms = vms
        self._named: Dict[str, List[Member]] = {}
        for vm in vms:
            self._named.setdefault(vm.name, []).append(vm)

    def of(self, selector: Selector) -> List[Member]:
        """The VMs that a selector means."""
        if selector.uuids:
            wanted = frozenset(selector.uuids)
            return [vm for vm in self._vms if vm.uuid in wanted]
        # A special character in brackets stands for itself.
        if selector.name is not None and not _SPECIAL.search(_IN_BRACKETS.sub("", selector.name)):
            return self._named.get(_IN_BRACKETS.sub(r"\1", selector.name), [])
        return [vm for vm in self._vms if selector.takes(vm)]


class Change(NamedTuple):
    """A VM, and the schedule that it goes to; None: to none.

    `deletes` are the uuids of the scheduled snapshots that the next run of that schedule deletes of it, the oldest
    first, and `later` is the number of those that go in later runs. `error` is xapi's, if it refused.
    """

    vm: Member
    to: Optional[Policy]
    deletes: Tuple[str, ...] = ()
    later: int = 0
    error: Tuple[str, ...] = ()

    @property
    def is_one(self) -> bool:
        """Whether it changes anything: the VM is not there already."""
        return self.vm.schedule != (self.to.ref if self.to else "")


def change_to(vm: Member, to: Policy, keep: Keep, snapshots: Sequence[Snapshot], now: datetime) -> Change:
    """Given a VM with its scheduled snapshots, return what it means for it to be on a schedule that keeps so many."""
    # The new snapshot exists before anything is deleted, and one that is being read waits for a later run.
    gone = [one.uuid for one in expired(snapshots, keep, now, new=1) if not one.operation]
    first = keep.in_a_run(len(gone))
    return Change(vm, to, tuple(gone[:first]), len(gone) - first)


def in_one_line(changes: Sequence[Change], rehearsed: bool) -> str:
    """What came, or would come, of these changes."""
    failed = sum(bool(change.error) for change in changes)
    made = sum(change.is_one and not change.error for change in changes)
    to = changes[0].to if changes else None
    where = "put on %s" % quoted(to.name or to.uuid) if to else "taken off"
    parts = ["%s %s%s" % (counted(made, "VM"), "would be " if rehearsed else "", where)]
    there = len(changes) - made - failed
    if there:
        parts.append("%d %s" % (there, "on it already" if to else "on none already"))
    parts += ["VMs with errors: %d" % failed] if failed or not rehearsed else []
    return "; ".join(parts + ["nothing was changed"] * rehearsed)


def deletions(changes: Sequence[Change]) -> List[str]:
    """What the next run deletes of VMs that come with more scheduled snapshots than their new schedule keeps."""
    many = [change for change in changes if change.is_one and not change.error and len(change.deletes) > 1]
    if not many or many[0].to is None:
        return []
    to, now = many[0].to, sum(len(change.deletes) for change in many)
    later = sum(change.later for change in many)
    return [
        "%s keeps %s of each VM: its next run deletes %s of %s%s"
        % (
            quoted(to.name or to.uuid),
            counted(to.retained, "snapshot"),
            counted(now, "older one"),
            listed([quoted(change.vm.name or change.vm.uuid) for change in many[:3]])
            + (" and %d more" % (len(many) - 3) if len(many) > 3 else ""),
            ", later runs %d more" % later if later else "",
        )
    ]
