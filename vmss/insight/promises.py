"""What a schedule promises, and how it was kept: missed slots, failed runs and VMs without their snapshot.

Functions of values: what was read, and the time, give findings.
"""

from datetime import datetime, timedelta, tzinfo
from typing import List, NamedTuple, Optional, Sequence, Tuple

from vmss.core import messages
from vmss.core.failures import failure_of
from vmss.core.policy import Policy
from vmss.core.schedule import TICK_INTERVAL, latest_slot
from vmss.core.words import agree, counted, listed
from vmss.insight.findings import CRITICAL, WARNING, Finding, Moment
from vmss.insight.history import RUN_FAILED, Run, durations
from vmss.insight.names import called, first_names

# After a slot two ticks may pass, the first of which could not serve it, and the run itself; then the slot is missed.
MARGIN = 2 * TICK_INTERVAL

# A run that was late, or was started by hand, seems to have lasted long.
_DURATION_MAX = timedelta(hours=6)


class Promise(NamedTuple):
    """What a policy's schedule has promised by now: every VM has a scheduled snapshot since `slot`, if there is one.
    `missed` are slots that no pass has served, and none is serving."""

    slot: Optional[datetime] = None
    missed: Tuple[datetime, ...] = ()


class Late(NamedTuple):
    """A VM without a snapshot since the promised slot; `newest` is its newest scheduled one, if it has any."""

    name: str
    uuid: str
    newest: Optional[datetime] = None


def promise(policy: Policy, zone: tzinfo, now: datetime, duration: timedelta, in_hand: bool) -> Promise:
    """Given the duration of the policy's last run, and whether a pass has it in hand, return what it has promised by
    now.

    Nothing, if it is disabled, has no VM, or never ran: when it was made is not known.
    """
    if not policy.enabled or not policy.vms or policy.last_run is None or policy.last_run > now:
        return Promise()
    slot = latest_slot(policy.schedule, zone, now)
    if policy.last_run >= slot:
        return Promise(slot)
    before = latest_slot(policy.schedule, zone, slot - timedelta(seconds=1))
    served_before = policy.last_run >= before
    if in_hand or now < slot + MARGIN + min(max(duration, timedelta(0)), _DURATION_MAX):
        # Its run may be under way, or still to come: the slot before this one counts.
        if served_before:
            return Promise(before)
        return Promise(missed=() if in_hand else (before,))
    return Promise(missed=(slot,) if served_before else (before, slot))


def last_duration(runs: Sequence[Run], zone: tzinfo) -> timedelta:
    """The duration of the newest run whose message tells it; zero if none does."""
    seconds = durations(runs, zone)
    return timedelta(seconds=seconds[0]) if seconds else timedelta(0)


def missed(policy: Policy, promised: Promise, moment: Moment) -> List[Finding]:
    """A slot that was not served is a warning, two in a row are critical."""
    if not promised.missed:
        return []
    slots = [moment(slot) for slot in promised.missed]
    return [
        Finding(
            CRITICAL if len(slots) > 1 else WARNING,
            "schedules",
            "%s has missed its run of %s" % (called(policy), listed(slots)),
            "last run ended %s" % moment(policy.last_run) if policy.last_run else "it never ran",
            "see what /var/log/VMSSlog says about that time; run it now: vmss run --policy %s" % policy.uuid,
        )
    ]


def last_run(policy: Policy, runs: Sequence[Run], moment: Moment) -> List[Finding]:
    """How the last run of a policy fared, by the messages about it, the newest first."""
    found = []
    for run in runs:
        if run.result == RUN_FAILED:
            found.append(_failed(policy, run, moment))
            break
        if run.name == messages.SUCCEEDED:
            break
    for run in runs:
        if run.name == messages.MISSED_EVENT:
            found.append(
                Finding(
                    WARNING,
                    "last run",
                    "%s was still running at its next slot" % called(policy),
                    "%s: %s" % (moment(run.at), run.remark),
                    "vmss next tells how to move it",
                )
            )
            break
    return found


def _failed(policy: Policy, run: Run, moment: Moment) -> Finding:
    failed, vms = len(run.victims), run.counts.vms if run.counts else len(policy.vms)
    text = "last run of %s failed" % called(policy)
    if failed:
        text += ": %d of %s" % (failed, counted(max(vms, failed), "VM"))
    remedy = "vmss history %s" % policy.uuid
    if run.victims:
        first = run.victims[0]
        remedy = "%s %s" % (failure_of(first.error, first.uuid, policy.uuid).remedy, remedy)
    severity = CRITICAL if failed >= vms else WARNING
    return Finding(severity, "last run", text, "%s: %s" % (moment(run.at), run.story), remedy)


def without_newcomers(policy: Policy, late: Sequence[Late], runs: Sequence[Run]) -> List[Late]:
    """Of the VMs that have no scheduled snapshot since the promised slot, those that were assigned when it was served.

    When a VM was assigned is not known. As many as there are now more than the last run counted may be new; where it
    did not count, those that have no scheduled snapshot at all.
    """
    named = {victim.uuid for run in runs for victim in run.victims}
    new = sum(1 for vm in late if vm.newest is None)
    for run in runs:
        if run.counts is not None or run.result == RUN_FAILED:
            new = max(0, len(policy.vms) - run.counts.vms) if run.counts is not None else 0
            break
    # One that a run has named is not new; those without any snapshot are the likeliest to be.
    likeliest_first = sorted(late, key=lambda vm: (vm.uuid in named, vm.newest is not None, vm.name, vm.uuid))
    return [vm for number, vm in enumerate(likeliest_first) if number >= new or vm.uuid in named]


def overdue(
    policy: Policy, slot: datetime, zone: tzinfo, late: Sequence[Late], runs: Sequence[Run], moment: Moment
) -> List[Finding]:
    """These VMs should have a scheduled snapshot since the promised slot: none since the one before is critical."""
    if not late:
        return []
    named = {victim.uuid for run in runs for victim in run.victims}
    before = latest_slot(policy.schedule, zone, slot - timedelta(seconds=1))
    critical = any(vm.newest < before if vm.newest is not None else vm.uuid in named for vm in late)
    newest = [vm.newest for vm in late if vm.newest is not None]
    names = first_names([vm.name or vm.uuid for vm in late])
    text = "%d of %s of %s %s no snapshot since %s: %s" % (
        len(late),
        counted(len(policy.vms), "VM"),
        called(policy),
        agree(len(late), "has", "have"),
        moment(slot),
        names,
    )
    evidence = "no scheduled snapshot at all"
    if newest:
        evidence = "%s: %s" % (agree(len(newest), "last snapshot", "oldest of the last snapshots"), moment(min(newest)))
    remedy = "vmss history %s tells why; snapshot the VMs now: vmss run --policy %s" % (policy.uuid, policy.uuid)
    return [Finding(CRITICAL if critical else WARNING, "snapshots", text, evidence, remedy)]
