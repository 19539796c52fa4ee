"""Whether all is well, as functions of values: what was seen, and the time, give findings.

Every finding has its evidence, and unless all is well a remedy: a command, or a file to look into. The states are those
of monitoring plug-ins.
"""

from datetime import datetime, timedelta
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core import messages, words
from vmss.core.datetimes import parse_reading
from vmss.core.failures import failure_of
from vmss.core.policy import QUIESCED, Policy
from vmss.core.retention import Snapshot, expired
from vmss.core.schedule import TICK_INTERVAL, latest_slot
from vmss.core.text import one_line, quoted
from vmss.insight.forecast import Expected, Move
from vmss.insight.history import RUN_FAILED, Run, took
from vmss.insight.logfile import COMPLAINTS, TICK_LINE, Record

OK, WARNING, CRITICAL, UNKNOWN = range(4)

STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
NOT_CHECKED = "not checked"

# The worst first. What cannot be told is less than what is known to be wrong.
_ORDER = (CRITICAL, WARNING, UNKNOWN, OK)

# Two ticks may pass, of which the first could not serve the slot, before its run is missed, beside what it takes.
MARGIN = 2 * TICK_INTERVAL
# A run that was late, or was started by hand, seems to have taken long.
_USUAL_MAX = timedelta(hours=6)

# A tick that is this late is no longer chance.
TICK_WARNING, TICK_CRITICAL = 2 * TICK_INTERVAL, 4 * TICK_INTERVAL

# What the log complained of longer ago than this is history.
RECENT = timedelta(days=1)

CLOCKS_DIFFER = timedelta(seconds=60)

_NAMES_MAX = 5

Moment = Callable[[datetime], str]


class Finding(NamedTuple):
    """What was found out about one thing, in one line. `skipped`: it could not be looked at here, and `text` says
    why."""

    severity: int
    check: str
    text: str
    evidence: str = ""
    remedy: str = ""
    skipped: bool = False

    @property
    def state(self) -> str:
        return NOT_CHECKED if self.skipped else STATES[self.severity]


class Promise(NamedTuple):
    """What a policy's schedule has promised by now: every VM has a scheduled snapshot since `slot`, if there is one.
    `missed` are slots that nobody has served, and nobody is serving."""

    slot: Optional[datetime] = None
    missed: Tuple[datetime, ...] = ()


class Late(NamedTuple):
    """A VM without a snapshot since the promised slot; `newest` is its newest scheduled one, if it has any."""

    name: str
    uuid: str
    newest: Optional[datetime] = None


def worst(findings: Iterable[Finding]) -> int:
    """The state of all together, which is the exit status."""
    return min((finding.severity for finding in findings), key=_ORDER.index, default=OK)


def ordered(findings: Iterable[Finding]) -> List[Finding]:
    """The findings, the worst first."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def skipped(check: str, why: str) -> Finding:
    """Something cannot be looked at here."""
    return Finding(OK, check, why, skipped=True)


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = ["%d more" % (len(names) - _NAMES_MAX)] if len(names) > _NAMES_MAX else []
    return words.listed([one_line(name, 60) for name in names[:_NAMES_MAX]] + more)


# Ticks and passes


def tick(log: Record, now: datetime) -> Finding:
    """Whether cron starts passes, by the log."""
    remedy = "see whether cron runs (systemctl status crond), whether it starts us (/var/log/cron), and /etc/cron.d"
    if log.missing:
        return Finding(WARNING, "tick", "cron has started no pass yet", "there is no %s" % one_line(log.path), remedy)
    if log.error:
        return Finding(
            UNKNOWN,
            "tick",
            "the log cannot be read: %s" % log.error,
            one_line(log.path),
            "run it as root; ls -l %s" % one_line(log.path),
        )
    if log.tick is None:
        evidence = "no %s in the last MiB of %s" % (TICK_LINE, one_line(log.path))
        return Finding(WARNING, "tick", "cron has started no pass", evidence, remedy)
    age = now - log.tick
    text = "last tick %s" % words.distance(log.tick, now)
    evidence = "%s in %s" % (log.tick.strftime("%Y-%m-%dT%H:%M:%SZ"), one_line(log.path))
    severity = CRITICAL if age > TICK_CRITICAL else WARNING if age > TICK_WARNING else OK
    return Finding(severity, "tick", text, evidence, remedy if severity else "")


def since_of(holder: Mapping[str, Any]) -> Optional[datetime]:
    """Since when the holder of the lock has it, as it says."""
    try:
        return parse_reading(holder.get("since"))
    except ValueError:
        return None


def running(
    holder: Optional[Mapping[str, Any]], names: Mapping[str, str], progress: str, pass_limit_s: int, now: datetime
) -> Finding:
    """Whether a pass is running, and since when. `names` are the policies', by their uuids; `progress` says how far it
    has come."""
    if holder is None:
        return Finding(OK, "pass", "no pass is running")
    since = since_of(holder)
    who = "process %s" % one_line(str(holder.get("pid")), 20)
    text = "a pass is running"
    if since is not None:
        text += " for %s" % words.duration((now - since).total_seconds())
    hand = holder.get("policies")
    if isinstance(hand, list) and hand:
        text += ", on %s" % some([quoted(names.get(str(uuid), str(uuid))) for uuid in hand])
    text += ", %s" % progress if progress else ""
    if since is not None and now - since > timedelta(seconds=pass_limit_s) + MARGIN:
        return Finding(
            CRITICAL,
            "pass",
            text,
            "%s, longer than pass_limit, %s" % (who, words.duration(pass_limit_s)),
            "see what it waits for in /var/log/VMSSlog and with xe task-list; then end it: kill PID",
        )
    return Finding(OK, "pass", text, who)


# What schedules promise


def promise(policy: Policy, zone: Any, now: datetime, usual: timedelta, in_hand: bool) -> Promise:
    """Given how long the policy's runs take, and whether a pass has it in hand, return what it has promised by now.

    Nothing, if it is disabled, has no VM, or never ran: when it was made nobody knows.
    """
    if not policy.enabled or not policy.vms or policy.last_run is None or policy.last_run > now:
        return Promise()
    slot = latest_slot(policy.schedule, zone, now)
    if policy.last_run >= slot:
        return Promise(slot)
    before = latest_slot(policy.schedule, zone, slot - timedelta(seconds=1))
    served_before = policy.last_run >= before
    if in_hand or now < slot + MARGIN + min(max(usual, timedelta(0)), _USUAL_MAX):
        # Its run may be on, or still to come: it is the slot before this one that counts.
        if served_before:
            return Promise(before)
        return Promise(missed=() if in_hand else (before,))
    return Promise(missed=(slot,) if served_before else (before, slot))


def missed(policy: Policy, promised: Promise, moment: Moment) -> List[Finding]:
    """A slot that was not served is a warning, two in a row are critical."""
    if not promised.missed:
        return []
    slots = [moment(slot) for slot in promised.missed]
    return [
        Finding(
            CRITICAL if len(slots) > 1 else WARNING,
            "schedules",
            "%s has missed its run of %s" % (called(policy), words.listed(slots)),
            "last run ended %s" % moment(policy.last_run) if policy.last_run else "it never ran",
            "see what /var/log/VMSSlog says of that time; run it now: vmss run --policy %s" % policy.uuid,
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
        text += ": %d of %d VMs" % (failed, max(vms, failed))
    remedy = "vmss history %s" % policy.uuid
    if run.victims:
        remedy = "%s %s" % (failure_of(run.victims[0].error).remedy, remedy)
    severity = CRITICAL if failed >= vms else WARNING
    return Finding(severity, "last run", text, "%s: %s" % (moment(run.at), run.story), remedy)


def usual(runs: Sequence[Run], zone: Any) -> timedelta:
    """How long the run took that these messages tell of, the newest first."""
    seconds = took(runs, zone)
    return timedelta(seconds=seconds[0]) if seconds else timedelta(0)


def without_newcomers(policy: Policy, late: Sequence[Late], runs: Sequence[Run]) -> List[Late]:
    """Of the VMs that have no scheduled snapshot since the promised slot, those that were there when it was served.

    When a VM was assigned nobody knows. As many as there are now more than the last run counted may be new; where it
    did not count, those that have no scheduled snapshot at all.
    """
    named = {victim.uuid for run in runs for victim in run.victims}
    new = sum(1 for vm in late if vm.newest is None)
    for run in runs:
        if run.counts is not None or run.result == RUN_FAILED:
            new = max(0, len(policy.vms) - run.counts.vms) if run.counts is not None else 0
            break
    # One that a run has named is not new; those without any snapshot are the likeliest to be.
    ordered = sorted(late, key=lambda vm: (vm.uuid in named, vm.newest is not None, vm.name, vm.uuid))
    return [vm for number, vm in enumerate(ordered) if number >= new or vm.uuid in named]


def overdue(
    policy: Policy, slot: datetime, zone: Any, late: Sequence[Late], runs: Sequence[Run], moment: Moment
) -> List[Finding]:
    """These VMs should have a scheduled snapshot since the promised slot: none since the one before is critical."""
    if not late:
        return []
    named = {victim.uuid for run in runs for victim in run.victims}
    before = latest_slot(policy.schedule, zone, slot - timedelta(seconds=1))
    critical = any(vm.newest < before if vm.newest is not None else vm.uuid in named for vm in late)
    newest = [vm.newest for vm in late if vm.newest is not None]
    return [
        Finding(
            CRITICAL if critical else WARNING,
            "snapshots",
            "%d of %d VMs of %s have no snapshot since %s: %s"
            % (len(late), len(policy.vms), called(policy), moment(slot), some([vm.name or vm.uuid for vm in late])),
            "newest snapshot, of the worst of them: %s" % moment(min(newest)) if newest else "they have none at all",
            "vmss history %s tells why; take them now: vmss run --policy %s" % (policy.uuid, policy.uuid),
        )
    ]


def called(policy: Policy) -> str:
    """The policy as messages name it."""
    return quoted(policy.name or policy.uuid)


# What else can be wrong


def licence(licensed: bool) -> Finding:
    """Whether the pool's licence includes scheduled snapshots."""
    if licensed:
        return Finding(OK, "licence", "the licence includes scheduled snapshots", "restrict_vmss is false")
    return Finding(
        CRITICAL,
        "licence",
        "the pool's licence does not include scheduled snapshots: none is taken",
        "restrict_vmss is true, or missing, in the restrictions of the pool",
        "check the licence of every host: xe host-license-view host-uuid=UUID",
    )


def complaints(log: Record, now: datetime, moment: Moment) -> List[Finding]:
    """What the log has complained of. It is a warning for a day."""
    if log.missing or log.error:
        return [skipped("log", "%s: %s" % (one_line(log.path), log.error))]
    found = []
    for complaint in COMPLAINTS:
        seen = log.complaints.get(complaint.key)
        if seen is None:
            continue
        recent = now - seen.last <= RECENT
        found.append(
            Finding(
                WARNING if recent else OK,
                "log",
                "%s: %s (last %s; lines: %d)" % (complaint.key, complaint.meaning, moment(seen.last), seen.times),
                one_line(seen.text, 200),
                complaint.remedy if recent else "",
            )
        )
    if not found:
        since = " since %s" % moment(log.since) if log.since else ""
        found.append(Finding(OK, "log", "no complaints%s" % since, one_line(log.path)))
    return found


def clocks(mine: datetime, theirs: datetime) -> Finding:
    """Whether this machine's clock and xapi's agree."""
    apart = abs(mine - theirs)
    evidence = "here %s, xapi's %s" % tuple(time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in (mine, theirs))
    if apart <= CLOCKS_DIFFER:
        return Finding(OK, "clock", "this machine's clock and xapi's agree", evidence)
    return Finding(
        WARNING,
        "clock",
        "this machine's clock and xapi's are %s apart" % words.duration(apart.total_seconds()),
        evidence,
        "set them by NTP: chronyc tracking, timedatectl",
    )


def policies(found: Sequence[Policy], now: datetime, moment: Moment) -> List[Finding]:
    """What is odd about schedules themselves."""
    findings = []
    for policy in found:
        if policy.last_run is not None and policy.last_run > now:
            findings.append(
                Finding(
                    WARNING,
                    "schedules",
                    "the last run of %s lies in the future" % called(policy),
                    moment(policy.last_run),
                    "the clock was wrong, or is: timedatectl; its next run puts it right",
                )
            )
        if policy.enabled and not policy.vms:
            findings.append(
                Finding(
                    WARNING,
                    "schedules",
                    "%s has no VM: it never runs" % called(policy),
                    "VMSS %s" % policy.uuid,
                    "give it one: xe vm-param-set uuid=VM snapshot-schedule=%s" % policy.uuid,
                )
            )
        if policy.enabled and policy.type == QUIESCED:
            findings.append(
                Finding(
                    WARNING,
                    "schedules",
                    "%s asks for quiesced snapshots, which no current server has" % called(policy),
                    "type %s" % policy.type,
                    "vmss xe vmss-param-set uuid=%s type=snapshot" % policy.uuid,
                )
            )
    return findings


def clashes(expected: Sequence[Expected], moves: Mapping[str, Move], moment: Moment) -> List[Finding]:
    """Which runs get in each other's way, or do not end in time; `moves` are other times, by policy."""
    names = {run.policy.uuid: called(run.policy) for run in expected}
    found: Dict[str, Finding] = {}
    for run in expected:
        uuid = run.policy.uuid
        if uuid in found or not (run.behind or run.too_long):
            continue
        if run.behind:
            text = "%s begins at %s, while %s is at work on the same storage or host" % (
                called(run.policy),
                moment(run.at),
                words.listed([names.get(other, other) for other in run.behind]),
            )
        else:
            text = "%s cannot end before its next slot: the run of %s would end at %s" % (
                called(run.policy),
                moment(run.at),
                moment(run.ends),
            )
        found[uuid] = Finding(
            WARNING,
            "clashes",
            text,
            "by past runs, or an estimate",
            moves[uuid].command if uuid in moves else "vmss next tells whether there is another time",
        )
    return list(found.values())


def beyond(policy: Policy, name: str, snapshots: Sequence[Snapshot], now: datetime) -> Optional[Finding]:
    """Whether a VM has more scheduled snapshots than its policy keeps: pinned ones do not count."""
    gone = expired(snapshots, policy.retained, now)
    if not gone:
        return None
    return Finding(
        WARNING,
        "retention",
        "scheduled snapshots of %s beyond those that %s keeps, %d: %d"
        % (quoted(name), called(policy), policy.retained, len(gone)),
        "expired: %s" % some([snapshot.uuid for snapshot in gone]),
        "the next run deletes them: vmss run --policy %s; if they stay, /var/log/VMSSlog says why" % policy.uuid,
    )


def room(name: str, uuid: str, size: int, used: int) -> Optional[Finding]:
    """Whether a storage repository has room for snapshots, and for the coalescing that comes of their deletion."""
    if size <= 0 or used < 0:
        return None
    part = 100 * used // size
    if part < 90:
        return None
    return Finding(
        CRITICAL if part >= 98 else WARNING,
        "storage",
        "the storage repository %s is %d %% full" % (quoted(name), part),
        "%d of %d MiB are used" % (used >> 20, size >> 20),
        "delete snapshots or disks, lower retained-snapshots, or extend it: xe sr-param-list uuid=%s" % uuid,
    )


def summary(findings: Sequence[Finding], well: str) -> str:
    """The findings in one line: the worst, and how many more there are."""
    bad = [finding for finding in ordered(findings) if finding.severity]
    if not bad:
        return well
    shown = "; ".join(finding.text for finding in bad[:3])
    return shown + ("; and %d more" % (len(bad) - 3) if len(bad) > 3 else "")


def numbers(values: Dict[str, Any]) -> str:
    """Performance data in the form of monitoring plug-ins: label=value[unit;warning;critical]."""
    return " ".join("%s=%s" % (label, value) for label, value in values.items())
