"""VMs that come on a schedule by a tag, `vmss:NAME`: which, and of which of them it cannot be, and why.

A tag puts a VM on a schedule if it is on none, and does nothing else. It takes no VM off and moves none, and it puts
none where its snapshots would exceed what is kept: whoever may start a VM may write its tags, and may not delete
snapshots (SECURITY.md).
"""

from typing import List, Mapping, NamedTuple, Optional, Sequence

from vmss.core.assignment import Member
from vmss.core.policy import Policy
from vmss.core.tags import NONE, PREFIX, named
from vmss.core.text import quoted
from vmss.core.words import counted, listed

# What is in the way.
UNKNOWN, SEVERAL, CONTRADICTION, ELSEWHERE, TOO_MANY = "unknown", "several", "contradiction", "elsewhere", "too many"


class Tagged(NamedTuple):
    """A VM with a tag that names a schedule: the schedule that it comes on (`to`, without an obstacle), or what is in
    the way: which, why in words, and the tag without which it would not be; `to` is then the schedule that the tag
    names, if there is one."""

    vm: Member
    to: Optional[Policy] = None
    obstacle: str = ""
    why: str = ""
    tag: str = ""


def decide(vms: Sequence[Member], policies: Sequence[Policy], scheduled: Mapping[str, int]) -> List[Tagged]:
    """Given VMs and the schedules, return what their tags come to. `scheduled` has the number of scheduled snapshots of
    the VMs of which it was asked, by reference: those that have many snapshots. A VM that is where its tag says, and
    one without such a tag, is left out."""
    found = [_decide(vm, policies, scheduled.get(vm.ref, 0)) for vm in vms if named(vm.tags)]
    return [one for one in found if one.obstacle or one.to is not None and one.vm.schedule != one.to.ref]


def may_have_too_many(vm: Member, policies: Sequence[Policy]) -> bool:
    """Whether it has to be asked how many scheduled snapshots a VM has, before it comes on a schedule."""
    names = named(vm.tags)
    return any(policy.name in names and len(vm.snapshots) > policy.retained for policy in policies)


def _decide(vm: Member, policies: Sequence[Policy], scheduled: int) -> Tagged:
    names = sorted(named(vm.tags))
    tag = PREFIX + names[-1]
    if NONE in vm.tags or len(names) > 1:
        tags = listed([quoted(tag) for tag in ([NONE] if NONE in vm.tags else []) + [PREFIX + name for name in names]])
        return Tagged(vm, None, CONTRADICTION, "its tags %s contradict each other" % tags, tag)
    fitting = [policy for policy in policies if policy.name == names[0]]
    if not fitting:
        return Tagged(vm, None, UNKNOWN, "its tag %s names no schedule that can be understood" % quoted(tag), tag)
    if len(fitting) > 1:
        why = "its tag %s names %s" % (quoted(tag), counted(len(fitting), "schedule"))
        return Tagged(vm, None, SEVERAL, why, tag)
    to = fitting[0]
    if vm.schedule and vm.schedule != to.ref:
        why = "its tag %s names another schedule than the one that it is on, and a tag moves no VM" % quoted(tag)
        return Tagged(vm, to, ELSEWHERE, why, tag)
    if not vm.schedule and scheduled > to.retained:
        why = "it has %s, and %s keeps %d" % (counted(scheduled, "scheduled snapshot"), quoted(to.name), to.retained)
        return Tagged(vm, to, TOO_MANY, why, tag)
    return Tagged(vm, to)
