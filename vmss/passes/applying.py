"""Brings the schedules of a pool to what is declared: call by call, each schedule for itself."""

from typing import Dict, Iterator, List, Sequence, Tuple

from vmss.core.assignment import Change
from vmss.core.differences import CREATE, DELETE, DONE, NEW, REFUSED, SKIPPED, Step, Target
from vmss.core.records import NULL
from vmss.edges.xapi import Refused, Xapi
from vmss.passes import assigning


def carry_out(
    xapi: Xapi, targets: Sequence[Target], changes: Sequence[Change]
) -> Tuple[Tuple[Target, ...], Tuple[Change, ...]]:
    """Make these steps, then put the VMs on their schedules, and delete what is to be deleted last, when its VMs are
    elsewhere; return all with what came of it. VMs come on no schedule that is not as it is to be."""
    done = [target if _is_deletion(target) else _of_schedule(xapi, target) for target in targets]
    moved = tuple(_of_vms(xapi, changes, {target.name: target for target in done}))
    return tuple(_of_schedule(xapi, one) if _is_deletion(one) else one for one in done), moved


def _is_deletion(target: Target) -> bool:
    return target.action == DELETE


def _of_schedule(xapi: Xapi, target: Target) -> Target:
    """Make the steps of one schedule, up to the first that is refused."""
    steps: List[Step] = []
    for step in target.steps:
        if any(one.result == REFUSED for one in steps):
            steps.append(step._replace(result=SKIPPED))
            continue
        try:
            target = _make(xapi, target, step)
            steps.append(step._replace(result=DONE))
        except Refused as refused:
            if refused.code == "SESSION_INVALID":
                raise
            steps.append(step._replace(result=REFUSED, error=tuple(refused.error)))
    return target._replace(steps=tuple(steps))


def _make(xapi: Xapi, target: Target, step: Step) -> Target:
    """Make the calls of one step, and return the schedule, with its reference if it is new."""
    if step.what == CREATE:
        ((method, record),) = step.calls
        ref = str(xapi.call(method, record))
        return target._replace(ref=ref, uuid=str(xapi.call("VMSS.get_uuid", ref)))
    if step.what == DELETE:
        for vm in xapi.call("VMSS.get_VMs", target.ref):  # xapi deletes no schedule that has VMs
            xapi.call("VM.set_snapshot_schedule", vm, NULL)
    for method, *values in step.calls:
        xapi.call(method, target.ref, *values)
    return target


def _of_vms(xapi: Xapi, changes: Sequence[Change], made: Dict[str, Target]) -> Iterator[Change]:
    for change in changes:
        target = made.get(change.to.name if change.to else "")
        if change.to is None or target is None or target.refused:
            yield change
            continue
        to = change.to._replace(ref=target.ref, uuid=target.uuid) if change.to.ref == NEW else change.to
        yield from assigning.carry_out(xapi, [change._replace(to=to)])
