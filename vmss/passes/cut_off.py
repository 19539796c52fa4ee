"""Tells of runs by hand that were cut off: their pass was killed, or lost xapi, and no pass goes on with them.

A pass writes into its lock which policies somebody has it run by hand, and since when. What it has not told at its end
stands there for the next one.
"""

from datetime import datetime
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Sequence, Tuple

from vmss.core import messages
from vmss.core.datetimes import format_datetime, parse_reading, stated
from vmss.core.messages import Victim
from vmss.core.notices import Notice
from vmss.core.outcome import STOPPED
from vmss.core.policy import Policy
from vmss.core.pruning import Pruned, summary
from vmss.core.schedule import latest_slot
from vmss.core.served import Served, totals
from vmss.core.text import quoted
from vmss.core.turn import Turn
from vmss.core.words import agree, counted
from vmss.edges.alerts import Alerts
from vmss.edges.vms import read_vms, with_snapshots
from vmss.edges.world import read_policies
from vmss.edges.xapi import Misunderstood, Refused
from vmss.passes.context import Context


def notes_of(turns: Iterable[Turn]) -> Dict[str, Any]:
    """What has to be known of those of these turns that are by hand, if their pass is cut off: by the policy's uuid."""
    return {
        turn.policy.uuid: {"since": format_datetime(turn.begun or turn.slot), "missing": turn.missing}
        for turn in turns
        if turn.forced
    }


def came_of_it(policy: Optional[str], runs: Sequence[Served], worked: bool, pruned: Optional[Pruned] = None) -> str:
    """What to add for the person who started the run of a policy by hand, if its pass loses xapi after these runs;
    `worked`: it has begun one more. `pruned`: what came of the deletions that somebody asked it for."""
    if pruned is not None:
        return "; it had got so far: %s; call it again for the rest" % summary(pruned)
    mine = [served for served in runs if served.turn.policy.uuid == policy]
    if mine:
        ended = "been stopped" if any(served.dropped for served in mine) else "come to its end"
        return "; the run had %s before: %s" % (ended, totals(mine))
    by_hand = policy is not None and worked
    return "; the run was cut off, and the next pass raises an alert that says how far it came" if by_hand else ""


def tell(
    context: Context, notes: Mapping[str, Any], notice: Optional[Callable[[Notice], None]] = None
) -> Dict[str, Any]:
    """Raise an alert for each of these runs, which says what VMs have their snapshot all the same, and give it to
    `notice`. Return the notes of those that are still to be told. Of a policy that is gone, nobody wants to know it."""
    left = {}
    for policy in read_policies(context.xapi)[0]:
        try:
            since, missing = _parse(notes[policy.uuid])
        except (LookupError, TypeError, ValueError):
            continue  # it was not run; or the note is damaged, or of another version
        try:
            served, text = _served(context, policy, since, missing)
            raised = _raise(context, served, text)
            if notice is not None:
                now, failed = context.clock.now(), bool(served.victims)
                notice(Notice(served, now, context.pool, failed, (text,), cut_off=True))
        except (Refused, Misunderstood) as error:
            context.log("What came of the run of policy %s by hand cannot be read: %s" % (policy.uuid, error))
            raised = False
        if not raised:
            left[policy.uuid] = notes[policy.uuid]
    return left


def _parse(note: Any) -> Tuple[datetime, bool]:
    return parse_reading(note["since"]), note["missing"] is True


def _served(context: Context, policy: Policy, since: datetime, missing: bool) -> Tuple[Served, str]:
    """What came of a run, as the pool shows it now, and the same in words: what it deleted, and how long it took,
    nobody knows."""
    zone = context.log.zone
    turn = Turn(policy, latest_slot(policy.schedule, zone, since), forced=True, begun=since, missing=missing)
    everyone = read_vms(context.xapi, [policy])
    vms = with_snapshots(context.xapi, [vm for vm in everyone if not vm.misread])
    taken = {vm.uuid for vm in vms if any(snapshot.time >= turn.counts_from for snapshot in vm.snapshots)}
    victims = tuple(Victim(vm.name, vm.uuid, (STOPPED, "VM.snapshot")) for vm in everyone if vm.uuid not in taken)
    text = "%s: the run that was started by hand at %s %s. %d of %s %s it." % (
        quoted(policy.name),
        stated(since, zone),
        messages.CUT_OFF,
        len(taken),
        counted(len(everyone), "VM"),
        agree(len(taken), "has a snapshot of", "have a snapshot of"),
    )
    served = Served(turn, since, len(everyone), len(taken), victims=victims, without=victims, stopped=True)
    return served, text


def _raise(context: Context, served: Served, text: str) -> bool:
    """Raise the alert. Return whether it is stored."""
    policy, since = served.turn.policy, format_datetime(served.started)
    context.log("Cut off: the run of policy %s that was started by hand at %s" % (policy.uuid, since))
    alerts = Alerts(context.xapi, context.clock, context.log)
    if not served.victims:
        return alerts.create(messages.SUCCEEDED, policy.uuid, messages.body(messages.SUCCEEDED, text))
    body = messages.failed_body(served.victims, text, policy.uuid, pool=context.pool.uuid)
    return alerts.create(messages.FAILED, policy.uuid, body)
