"""What `vmss status` examines: licence, lock and log, how the last runs fared, what is overdue, what is left over."""

from datetime import datetime
from functools import partial
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core import words
from vmss.core.left_over import Item
from vmss.core.messages import FAILED, LICENCES, SUCCEEDED
from vmss.core.policy import Policy
from vmss.core.problem import Problem
from vmss.core.text import one_line, quoted
from vmss.edges.settings import Place, Settings, SettingsError, of_pool
from vmss.edges.shell import shell_word
from vmss.insight import (
    coalescing,
    coverage,
    excuses,
    left_over,
    lock_and_log,
    no_session,
    policies,
    promises,
    remains,
    rooms,
    snapshots,
    suspended,
    tags,
)
from vmss.insight.findings import CRITICAL, OK, UNKNOWN, WARNING, Finding
from vmss.insight.history import Run
from vmss.insight.lock_and_log import TICK_CRITICAL, TICK_WARNING, Local
from vmss.insight.names import called
from vmss.insight.policies import Entry
from vmss.insight.promises import Late
from vmss.insight.reading import Reading

# Timeout in seconds of a call: a monitoring system waits as long, or less.
CALL_LIMIT = 20


class Lack(NamedTuple):
    """The slot of a policy that should be over, and its VMs without a snapshot since; None if nothing is promised."""

    slot: Optional[datetime] = None
    vms: Tuple[Late, ...] = ()


class Tally(NamedTuple):
    """The findings; the performance data, by label; one line for the case that all is well; and what each policy that
    runs lacks, by its uuid."""

    findings: List[Finding]
    numbers: Dict[str, Any] = {}
    well: str = ""
    lacks: Mapping[str, Lack] = {}


class Course(NamedTuple):
    """What there is to say of a policy, and what it has promised and lacks."""

    policy: Policy
    findings: List[Finding]
    lack: Lack = Lack()

    @property
    def late(self) -> int:
        """The number of its VMs without the snapshots that were promised."""
        return len(self.lack.vms)


def examine(session: Reading, local: Local, now: datetime) -> Tally:
    """Read what is needed, and judge it."""
    entries = policies.read(session)
    known = [entry.policy for entry in entries if entry.policy is not None]
    findings = [licence(session.pool.licensed)] + settings_of_pool(session, entries)
    findings += lock_and_log.examine(session, local, known, now)
    findings += suspended.examine(session, local, now)
    findings += [unreadable(entry) for entry in entries if entry.policy is None]
    alone = coverage.unscheduled(session.xapi)
    told = coverage.in_numbers(alone, known)
    findings += tags.findings(session, known, everywhere=False)
    findings += [Finding(OK, "coverage", told + ": vmss coverage lists them")] if told else []
    left = left_over.read(session)
    courses = list(courses_of(session, local.holder, known, left, now))
    fared = [finding for course in courses for finding in course.findings]
    findings += left_over.findings(left, session.moment, now)
    repositories = rooms.read(session.xapi)
    findings += rooms.full(session.xapi, repositories, session.settings, now)
    findings += coalescing.stalled(session.xapi, [one.ref for one in repositories], now)
    numbers: Dict[str, Any] = {
        "policies": len(entries),
        "vms": sum(len(policy.vms) for policy in known),
        "runs_failed": sum(1 for finding in fared if finding.severity and finding.check == "last run"),
        "vms_late": sum(course.late for course in courses),
        "left_over": len(left),
        "vms_unscheduled": alone.number,
    }
    if repositories:
        most = max(repository.part for repository in repositories)
        numbers["storage_used"] = "%d%%;%d;%d" % (most, session.settings.room_warning, session.settings.room_critical)
    numbers.update(_local_numbers(local, now))
    lacks = {course.policy.uuid: course.lack for course in courses}
    return Tally(findings + fared, numbers, _well(numbers, local, now), lacks)


def without_session(problem: Problem, place: Place) -> Tally:
    """The one finding where no session can be opened."""
    # Without its settings no pass begins; of anything else nothing is known.
    if isinstance(problem, SettingsError):
        severity, remedy = CRITICAL, problem.remedy
    else:
        severity, remedy = UNKNOWN, no_session.remedy(problem, place)
    return Tally([Finding(severity, "session", str(problem), "", remedy)])


def _local_numbers(local: Local, now: datetime) -> Dict[str, Any]:
    """The performance data of the log and the lock, where they can be seen."""
    numbers: Dict[str, Any] = {}
    if local.log is not None and local.log.tick is not None:
        age = max(0, int((now - local.log.tick).total_seconds()))
        numbers["tick_age"] = "%ds;%d;%d" % (age, TICK_WARNING.total_seconds(), TICK_CRITICAL.total_seconds())
    if not local.hidden:
        numbers["running"] = int(local.holder is not None)
    return numbers


def _well(numbers: Mapping[str, int], local: Local, now: datetime) -> str:
    parts = ["schedules: %d" % numbers["policies"], "VMs: %d" % numbers["vms"]]
    if local.log is not None and local.log.tick is not None:
        parts.append("last tick %s" % words.distance(local.log.tick, now))
    if local.holder is not None:
        parts.append("a pass is running")
    return ", ".join(parts)


# What the doctor finds too


def licence(licensed: bool) -> Finding:
    """Whether the pool's licence includes scheduled snapshots."""
    if licensed:
        return Finding(OK, "licence", "the licence includes scheduled snapshots", "restrict_vmss is false")
    return Finding(
        CRITICAL,
        "licence",
        "the pool's licence does not include scheduled snapshots: none is taken",
        "restrict_vmss is true, or missing, in the restrictions of the pool",
        LICENCES,
    )


def settings_of_pool(session: Reading, entries: Sequence[Entry]) -> List[Finding]:
    """The mistakes among the settings in pool.other_config, and those for schedules that do not exist."""
    found = []
    known = [(entry.uuid, entry.name) for entry in entries]
    for one in session.settings.of_none(known):
        if not one.pool:
            text = "%s: no snapshot schedule of this pool is called so" % one.where
            remedy = "take the section out of the file, or name a schedule of: vmss list"
            found.append(Finding(WARNING, "settings", text, "what is set there is ignored", remedy))
    for key, value in sorted(session.pool.other_config.items()):
        settings, mistakes = of_pool(Settings(), {key: value})
        mistakes += ["%s: no snapshot schedule has this uuid" % quoted(key) for _ in settings.of_none(known)]
        for mistake in mistakes[:1]:
            command = "xe pool-param-remove uuid=%s param-name=other-config param-key=%s" % (
                session.pool.uuid,
                shell_word(key, 100),
            )
            text = "pool.other_config: %s" % mistake
            found.append(Finding(WARNING, "settings", text, "the setting is ignored", command))
    return found


# Values that a field of a schedule may have, by the beginning of the text that says what is wrong with it.
_EXAMPLES = {
    "frequency": "frequency=daily",
    "type": "type=snapshot",
    "retained_snapshots": "retained-snapshots=7",
    "schedule:min": "schedule:min=0",
    "schedule:hour": "schedule:hour=0",
    "schedule:days": "schedule:days=Monday",
}


def unreadable(entry: Entry) -> Finding:
    """A schedule whose record cannot be understood."""
    return Finding(
        CRITICAL,
        "schedules",
        "%s cannot be understood, and does not run: %s" % (one_line(entry.name, 60) or entry.uuid, entry.error),
        "VMSS %s" % one_line(entry.uuid, 40),
        _set_again(entry),
    )


def _set_again(entry: Entry) -> str:
    uuid, field = one_line(entry.uuid, 40), entry.error.split(": ")[0]
    if field in _EXAMPLES:
        return "set the field again, for example: vmss xe vmss-param-set uuid=%s %s" % (uuid, _EXAMPLES[field])
    return "xapi would not store that: see /var/log/xensource.log, and vmss xe vmss-param-list uuid=%s" % uuid


def courses_of(
    session: Reading, holder: Optional[Mapping[str, Any]], known: Sequence[Policy], left: Sequence[Item], now: datetime
) -> Iterator[Course]:
    """How the policies' last runs fared, and which VMs lack the snapshots that were promised."""
    busy = lock_and_log.in_hand(holder, known)
    ambiguous = snapshots.ambiguous(known)
    for policy in known:
        if not policy.enabled or not policy.vms:
            yield Course(policy, [_calm(session, policy, [], now)])
            continue
        runs, in_hand = policies.last_messages(session, policy, now), policy in busy
        since = lock_and_log.held_since(holder, now) if holder is not None and in_hand else None
        instant = promises.known(policy, session.zone, now, runs, since)
        length = promises.length(policy, runs, in_hand)
        promise = promises.promise(policy, session.zone, now, length, instant)
        late: List[Late] = []
        if promise.slot is not None:
            believed = [] if policy.uuid in ambiguous else runs
            late, doubtful = snapshots.late_vms(session.xapi, policy, promise.slot, believed, session.zone, now)
            if doubtful:
                late = promises.without_newcomers(policy, late, runs, promise.slot, in_hand)
            late = excuses.without_excused(session, policy, late, promise.slot)
        last = _of_last_run(policy, runs, now)
        matter = last
        if not late:
            anything = partial(remains.anything, session, policy, left, now)
            matter = promises.made_good(last, promise.slot is not None, anything)
        told = promises.last_run(policy, matter, session.pool.uuid, session.moment)
        findings = told or [_calm(session, policy, last, now)]
        if promise.slot is not None and late:
            findings = findings + promises.missed(policy, promise, in_hand, session.moment)
            findings += promises.overdue(policy, promise.slot, session.zone, late, last, in_hand, session.moment)
        yield Course(policy, findings, Lack(promise.slot, tuple(late)))


def _of_last_run(policy: Policy, runs: Sequence[Run], now: datetime) -> List[Run]:
    """Of these messages, those about the last run, and those that came since."""
    last = policy.ran(now)
    return [run for run in runs if last is None or run.at >= last - policies.EARLIER]


def _calm(session: Reading, policy: Policy, runs: Sequence[Run], now: datetime) -> Finding:
    """What there is to say of a policy whose last run gives no cause for alarm."""
    if not policy.enabled:
        text = "disabled"
    elif policy.last_run is None:
        text = "never ran"
    elif policy.ran(now) is None:
        text = "last run dated in the future: vmss doctor"
    else:
        run = next((run for run in runs if run.name in (SUCCEEDED, FAILED)), None)
        text = "last run ended %s" % words.distance(policy.last_run, now)
        text += ": %s" % run.story if run else ""
        if run is not None and run.name == FAILED:
            lacked = promises.only_lacked(run)
            text += "; %s" % (
                "all VMs that it left out have a snapshot by now" if lacked else "all is made good by now"
            )
    following = policies.next_run(session, policy, now)
    if following is not None:
        text += "; next run %s" % words.distance(following, now)
    return Finding(OK, "last run", "%s: %s" % (called(policy), text))
