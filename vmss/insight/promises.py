"""What a schedule promises, and how it was kept: missed slots, failed runs and VMs without their snapshot.

Functions of values: what was read, and the time, give findings.
"""

from datetime import datetime, timedelta, tzinfo
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from vmss.core import messages
from vmss.core.datetimes import EPOCH
from vmss.core.failures import failure_of
from vmss.core.outcome import DOES_NOT_COUNT
from vmss.core.policy import Policy
from vmss.core.schedule import TICK_INTERVAL, latest_slot
from vmss.core.words import agree, counted, listed
from vmss.insight.findings import CRITICAL, WARNING, Finding, Moment
from vmss.insight.history import AT_SLOT, RUN_FAILED, Run, durations, median_duration
from vmss.insight.names import called, first_names

# After a slot two ticks may pass, the first of which could not serve it, and the run itself; then it should be over.
MARGIN = 2 * TICK_INTERVAL

# No run may take longer, however long others took: else one that hangs would excuse the next.
_LENGTH_MAX = timedelta(hours=6)


class Promise(NamedTuple):
    """What a policy's schedule has promised by now: every VM has a scheduled snapshot since `slot`, if there is one.
    `missed`: this slot, and the one before it, as far as no run has served them."""

    slot: Optional[datetime] = None
    missed: Tuple[datetime, ...] = ()


class Late(NamedTuple):
    """A VM without a snapshot since the promised slot; `newest` is its newest scheduled one, if it has any, and `own`
    whether that has a name that the policy gives."""

    name: str
    uuid: str
    newest: Optional[datetime] = None
    own: bool = False


def promise(policy: Policy, zone: tzinfo, now: datetime, length: timedelta, known: Optional[datetime]) -> Promise:
    """Given the length that a run may have, and an instant at which the policy is known to have run or to have been
    due, return what it has promised by now: the latest slot that should be over. No pass that has it in hand changes
    that.

    Nothing, if it is disabled, has no VM, or if that instant is None: when it was made is not known.
    """
    if not policy.enabled or not policy.vms or known is None:
        return Promise()
    last = policy.ran(now)
    slot = latest_slot(policy.schedule, zone, now)
    while now < slot + length and (last is None or last < slot):
        slot = _before(policy, zone, slot)  # its run may be under way, or still to come
    first = latest_slot(policy.schedule, zone, known)
    if slot < first or (policy.changed is not None and slot <= policy.changed):
        return Promise()
    if last is None:
        return Promise(slot, (slot,))  # whether the one before was served is not known
    return Promise(slot, tuple(one for one in (_before(policy, zone, slot), slot) if last < one))


def _before(policy: Policy, zone: tzinfo, slot: datetime) -> datetime:
    return latest_slot(policy.schedule, zone, slot - timedelta(seconds=1))


def length(policy: Policy, runs: Sequence[Run], in_hand: bool) -> timedelta:
    """The time after a slot in which its run should be over, by the lengths of past ones; `in_hand`: a pass serves it.

    Of past runs those count that succeeded, if any did: one that failed may have waited for something that hung.
    """
    seconds = durations([run for run in runs if run.name == messages.SUCCEEDED]) or durations(runs)
    if seconds:
        return MARGIN + min(_LENGTH_MAX, timedelta(seconds=median_duration(seconds)))
    # It may be the first run, or the first of this version: then nothing is known but that it ends before its next.
    return max(MARGIN, min(_LENGTH_MAX, policy.schedule.distance)) if in_hand else MARGIN


def known(
    policy: Policy, zone: tzinfo, now: datetime, runs: Sequence[Run], pass_since: Optional[datetime]
) -> Optional[datetime]:
    """An instant at which the policy has run, or was due: by its last run, by the messages about it, or by the pass
    that has it in hand and began at `pass_since`. None if nothing tells."""
    if policy.last_run is not None:
        return policy.ran(now) or EPOCH  # by a wrong clock, but it ran
    if runs:
        return min(run.at for run in runs)
    if pass_since is not None and pass_since < latest_slot(policy.schedule, zone, pass_since) + TICK_INTERVAL:
        return pass_since  # that pass began at a slot of its
    return None


def missed(policy: Policy, promised: Promise, in_hand: bool, moment: Moment) -> List[Finding]:
    """A slot that was not served, though its VMs have no snapshot of it, is a warning, two in a row are critical."""
    if not promised.missed:
        return []
    slots = [moment(slot) for slot in promised.missed]
    ended = policy.last_run is not None and "last run ended %s" % moment(policy.last_run)
    if in_hand:
        text = "%s should have ended its run of %s: a pass has it in hand"
        remedy = "see what the pass waits for: vmss watch --once, /var/log/VMSSlog, xe task-list"
    else:
        text = "%s has missed its run of %s"
        remedy = (
            "see what /var/log/VMSSlog says about that time; run it now: vmss run --policy %s --missing" % policy.uuid
        )
    return [
        Finding(
            CRITICAL if len(slots) > 1 else WARNING,
            "schedules",
            text % (called(policy), listed(slots)),
            ended or "it never ran",
            remedy,
        )
    ]


def made_good(runs: Sequence[Run], promised: bool, anything: Callable[[Run], bool]) -> List[Run]:
    """Of the messages about the last run of a policy, of whose VMs none is late, those that still matter: `anything`
    tells of a run that failed whether anything is left of what it failed in. `promised`: a slot is promised, and each
    VM has its snapshot; so what no run took for it no longer matters."""
    return [run for run in runs if run.name == messages.SUCCEEDED or _matters(run, promised, anything)]


def _matters(run: Run, promised: bool, anything: Callable[[Run], bool]) -> bool:
    if run.name != messages.FAILED:  # it took no snapshot at all
        return not promised
    if not promised and (run.numbers is None or run.numbers[0] < run.numbers[1]):
        return True
    return not only_lacked(run) and anything(run)


def only_lacked(run: Run) -> bool:
    """Whether all that a run failed in were snapshots that it did not take."""
    return (
        run.numbers is not None
        and len(run.victims) == run.numbers[1] - run.numbers[0]
        and not any(victim.error and victim.error[0] in DOES_NOT_COUNT for victim in run.victims)
    )


def last_run(policy: Policy, runs: Sequence[Run], pool: str, moment: Moment) -> List[Finding]:
    """How the last run of a policy fared, by the messages about it, the newest first; `pool` is the pool's uuid."""
    found = []
    for run in runs:
        if run.result == RUN_FAILED:
            found.append(_failed(policy, run, pool, moment))
            break
        if run.name == messages.SUCCEEDED:
            break
    for run in runs:
        if run.name == messages.MISSED_EVENT:
            late = run.too_late
            text = "%s was still running at its next slot"
            text = "%s has a slot that is too late to be made up for" if late else text
            remedy = "take the snapshots now: vmss run --policy %s --missing" % policy.uuid
            evidence = "%s: %s" % (moment(run.at), run.remark)
            remedy = remedy if late else "vmss next tells how to move it"
            found.append(Finding(WARNING, "last run", text % called(policy), evidence, remedy))
            break
    return found


def _failed(policy: Policy, run: Run, pool: str, moment: Moment) -> Finding:
    failed, vms = len(run.victims), run.numbers[1] if run.numbers else len(policy.vms)
    text = "last run of %s failed" % called(policy)
    if failed:
        text += ": %d of %s" % (failed, counted(max(vms, failed), "VM"))
    remedy = "vmss history %s" % policy.uuid
    if run.victims:
        first = run.victims[0]
        remedy = "%s %s" % (failure_of(first.error, first.uuid, policy.uuid, pool).remedy, remedy)
    severity = CRITICAL if failed >= vms else WARNING
    return Finding(severity, "last run", text, "%s: %s" % (moment(run.at), run.story), remedy)


def without_newcomers(
    policy: Policy, late: Sequence[Late], runs: Sequence[Run], slot: datetime, in_hand: bool
) -> List[Late]:
    """Of the VMs that have no scheduled snapshot since the promised slot, those that were assigned when it was served.

    When a VM was assigned is not known. None is new that a run has named, or that has a snapshot by this policy. Of the
    others as many may be as there are now more than the last run counted. Where none did count, those that have no
    scheduled snapshot at all; but no VM is new if the policy is being served, or was due and could not be served.
    """
    named = {victim.uuid for run in runs for victim in run.victims}
    new = _newcomers_max(policy, late, runs, slot, in_hand)
    old = [vm for vm in late if vm.own or vm.uuid in named]
    # Those without any snapshot are the likeliest to be new.
    likeliest_first = sorted(set(late) - set(old), key=lambda vm: (vm.newest is not None, vm.name, vm.uuid))
    return old + likeliest_first[new:]


def _newcomers_max(policy: Policy, late: Sequence[Late], runs: Sequence[Run], slot: datetime, in_hand: bool) -> int:
    most = None
    for run in runs:
        if run.counts is not None:
            # A run that made up for another one has fewer VMs: so all count, down to the last that began at its slot.
            most = max(most or 0, run.counts.vms)
            if run.counts.start in (AT_SLOT, ""):
                break
        elif run.result == RUN_FAILED and most is None:
            return 0
    if most is not None:
        return max(0, len(policy.vms) - most)
    return 0 if in_hand or _was_due(runs, slot) else sum(1 for vm in late if vm.newest is None)


def _was_due(runs: Sequence[Run], slot: datetime) -> bool:
    """Whether a message says that the policy was due since a slot, and had to wait. A run by hand may have given up
    though it was not due."""
    waited = (messages.LOCK_FAILED, messages.LOGON_FAILURE)
    return any(run.name in waited and not run.gave_up and run.at >= slot for run in runs)


def overdue(
    policy: Policy,
    slot: datetime,
    zone: tzinfo,
    late: Sequence[Late],
    runs: Sequence[Run],
    in_hand: bool,
    moment: Moment,
) -> List[Finding]:
    """These VMs should have a scheduled snapshot since the promised slot: none since the one before is critical."""
    if not late:
        return []
    late = sorted(late, key=lambda vm: (vm.name, vm.uuid))
    named = {victim.uuid for run in runs for victim in run.victims}
    before = _before(policy, zone, slot)
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
    return [
        Finding(CRITICAL if critical else WARNING, "snapshots", text, evidence, remedy_of_overdue(policy.uuid, in_hand))
    ]


def remedy_of_overdue(policy: str, in_hand: bool) -> str:
    """What to do about VMs of a policy, given by its uuid, that lack their snapshot."""
    if in_hand:
        return "the pass goes on with them; what it waits for: vmss watch --once, /var/log/VMSSlog, xe task-list"
    return "vmss history %s tells why; snapshot the VMs now: vmss run --policy %s --missing" % (policy, policy)
