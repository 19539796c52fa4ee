"""Puts VMs on no schedule that have a tag `vmss:NAME` on the schedule of that name (setting assign_by_tag)."""

from typing import List, Sequence

from vmss.core import by_tag
from vmss.core.assignment import Change, Member
from vmss.core.by_tag import Tagged
from vmss.core.policy import Policy
from vmss.core.tags import NONE, named
from vmss.core.text import one_line
from vmss.edges import world
from vmss.edges.lock import LockDirectory
from vmss.edges.lock_folder import LockError
from vmss.edges.members import NO_SCHEDULE, TAGGED, read_members
from vmss.edges.vms import read_snapshots
from vmss.edges.xapi import Xapi
from vmss.passes.assigning import carry_out
from vmss.passes.context import Context

# The first lines that a tick writes about VMs that cannot be put where their tags say.
_TOLD_MAX = 20
_ONLY_NONE = 'not (field "tags" = "(\'%s\')")' % NONE


def assign(context: Context, directory: LockDirectory) -> None:
    """Put them there. Most ticks find none, for the price of one query."""
    vms = read_tagged(context.xapi)
    if not vms:
        return
    policies, _errors = world.read_policies(context.xapi)
    found = judged(context.xapi, vms, policies)
    changes = [Change(one.vm, one.to) for one in found if not one.obstacle]
    for change in carry_out(context.xapi, changes):
        name, policy = one_line(change.vm.name, 100), change.to.uuid if change.to else ""
        if change.error:
            error = one_line(" ".join(change.error), 200)
            context.log("VM %s (%s) cannot be put on policy %s by its tag: %s" % (change.vm.uuid, name, policy, error))
        else:
            context.log("VM %s (%s) is put on policy %s by its tag" % (change.vm.uuid, name, policy))
    _tell(context, directory, [one for one in found if one.obstacle])


def read_tagged(xapi: Xapi) -> List[Member]:
    """The VMs on no schedule that have a tag which names one. A query cannot look for one of several tags: so the
    records of all VMs on no schedule come that have tags at all, and others than `vmss:none`."""
    return [vm for vm in read_members(xapi, NO_SCHEDULE, TAGGED, _ONLY_NONE) if named(vm.tags)]


def judged(xapi: Xapi, vms: Sequence[Member], policies: Sequence[Policy]) -> List[Tagged]:
    """What the tags of these VMs come to."""
    asked = [vm for vm in vms if not vm.schedule and by_tag.may_have_too_many(vm, policies)]
    snapshots = read_snapshots(xapi, [vm.ref for vm in asked])
    # A pinned one does not count, as in retention.
    numbers = {ref: sum(not one.pinned for one in mine.values()) for ref, mine in snapshots.items()}
    return by_tag.decide(vms, policies, numbers)


def _tell(context: Context, directory: LockDirectory, obstacles: Sequence[Tagged]) -> None:
    """Log what is in the way, if it is new, or was not told on this day yet."""
    lines = ["VM %s (%s) is not put on a policy: %s" % (one.vm.uuid, one_line(one.vm.name, 100), one.why)
             for one in obstacles]  # fmt: skip
    more = len(lines) - _TOLD_MAX
    lines = lines[:_TOLD_MAX] + (["and %d more VMs whose tags name schedules" % more] if more > 0 else [])
    name, day = context.pool.uuid + ".tags", context.now().astimezone(context.log.zone).strftime("%Y-%m-%d")
    if lines and directory.read(name) != {"day": day, "lines": lines}:
        for line in lines:
            context.log(line)
        try:
            directory.keep(name, {"day": day, "lines": lines})
        except LockError as error:  # a full disk: it is told again
            context.log(str(error))
