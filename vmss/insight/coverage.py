"""What the schedules cover and what they do not, read from the pool: in full for a list, or as a number."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core import coverage
from vmss.core.assignment import Member
from vmss.core.coverage import Coverage, Known, Left, Unfit
from vmss.core.policy import Policy
from vmss.core.retention import Snapshot
from vmss.core.tags import NONE
from vmss.edges.access import refs_where
from vmss.edges.members import NO_SCHEDULE, TAGGED, expression, read_members
from vmss.edges.pool_vms import PoolVms
from vmss.edges.scheduled import LeftBehind, left_behind
from vmss.edges.sizes import read_sizes
from vmss.edges.xapi import Xapi
from vmss.insight import left_out, policies
from vmss.insight.policies import Entry
from vmss.insight.reading import Reading
from vmss.insight.unfit import Examined, Fitness

# Snapshots whose sizes are read together.
_TOGETHER = 500
# So many VMs with tags and without a schedule are looked at for the tag that leaves them out, where only a number is
# asked for: a record is 3 kB on the wire.
_TAGGED_MAX = 100
_ONLY_NONE = "('%s')" % NONE


class Unscheduled(NamedTuple):
    """The number of VMs on no schedule; `exact` if it is known which of them are left out on purpose."""

    number: int
    exact: bool = True


def read(session: Reading) -> Coverage:
    """What is covered and what is not."""
    return examine(session, policies.read(session), PoolVms(session.xapi))[0]


def examine(
    session: Reading, entries: Sequence[Entry], pool_vms: PoolVms, fitness: Optional[Fitness] = None
) -> Tuple[Coverage, List[Member]]:
    """The same, given all schedules and all VMs of the pool, and what keeps snapshots of them from being taken, if that
    is asked for elsewhere too; and the VMs that can be on a schedule, by name."""
    xapi, now = session.xapi, session.now()
    known = {entry.policy.ref: entry.policy for entry in entries if entry.policy is not None}
    examined: Dict[str, Examined] = {}
    members = []
    for member, record in pool_vms.members():
        members.append(member)
        policy = known.get(member.schedule)
        if policy is not None and policy.enabled:
            examined[member.ref] = Examined(policy, record)
    members.sort(key=lambda vm: (vm.name, vm.uuid))
    numbers: Dict[str, int] = {}
    for vm in members:
        numbers[vm.schedule] = numbers.get(vm.schedule, 0) + 1
    schedules = {entry.ref: _known(entry, numbers.get(entry.ref, 0)) for entry in entries}
    left = _sized(xapi, left_behind(xapi, members, schedules, pool_vms.scheduled()))
    without = left_out.read(xapi, examined, session.settings)
    fitness = fitness or Fitness(session, list(known.values()), pool_vms)
    return coverage.judge(members, schedules, _unfit(fitness), left, now, without), members


def _known(entry: Entry, vms: int) -> Known:
    return Known(entry.uuid, entry.name, entry.policy.enabled if entry.policy is not None else None, vms)


def _unfit(fitness: Fitness) -> Dict[str, Unfit]:
    """The VMs of which no snapshot can be taken: for their records or disks, or for storage that is not attached."""
    found = {
        ref: Unfit((group.code,), text=group.text, remedy=group.remedy)
        for group in fitness.unattached
        for ref in group.vms
    }
    found.update(fitness.unfit)
    return found


def _sized(xapi: Xapi, behind: Sequence[LeftBehind]) -> List[Left]:
    snapshots: List[Snapshot] = [one for group in behind for one in group.snapshots]
    seen: Set[str] = set()
    sizes: Dict[str, int] = {}
    for start in range(0, len(snapshots), _TOGETHER):
        sizes.update(read_sizes(xapi, snapshots[start : start + _TOGETHER], seen))
    return [
        Left(
            group.vm,
            group.uuid,
            group.number,
            min((one.time for one in group.snapshots), default=None),
            sum(sizes.get(one.ref, 0) for one in group.snapshots),
            group.gone,
        )
        for group in behind
    ]


def unscheduled(xapi: Xapi) -> Unscheduled:
    """The VMs on no schedule, in two calls whatever their number, and one more if some have tags."""
    untagged = len(refs_where(xapi, "VM", expression(NO_SCHEDULE, 'field "tags" = "()"')))
    conditions = (NO_SCHEDULE, TAGGED, 'not (field "tags" = "%s")' % _ONLY_NONE)
    tagged = len(refs_where(xapi, "VM", expression(*conditions)))
    if not 0 < tagged <= _TAGGED_MAX:
        return Unscheduled(untagged + tagged, not tagged)
    mine = [vm for vm in read_members(xapi, *conditions) if NONE not in vm.tags]
    return Unscheduled(untagged + len(mine))


def in_numbers(number: Unscheduled, known: Sequence[Policy]) -> str:
    """What can be told in little time, as a sentence; empty if there is nothing to tell."""
    disabled = sum(len(policy.vms) for policy in known if not policy.enabled)
    empty = sum(not policy.vms for policy in known)
    parts = ["VMs on no schedule: %s%d" % ("" if number.exact else "at most ", number.number)] * (number.number > 0)
    parts += ["VMs on a disabled schedule: %d" % disabled] if disabled else []
    parts += ["schedules without VMs: %d" % empty] if empty else []
    return ", ".join(parts)
