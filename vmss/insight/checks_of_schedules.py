"""Checks of the schedules: records, times at which they get in each other's way, and how their last runs fared."""

from datetime import timedelta
from typing import Dict, Iterator, List, Mapping, Sequence

from vmss.core import words
from vmss.core.policy import QUIESCED, Policy
from vmss.insight import forecast, left_over, state
from vmss.insight.case import Case
from vmss.insight.findings import OK, WARNING, Finding, Moment
from vmss.insight.forecast import Expected, Move
from vmss.insight.loads import read_loads
from vmss.insight.names import called

_DAY = timedelta(days=1)


def schedules(case: Case) -> Iterator[Finding]:
    """Schedules that cannot be understood, or are odd."""
    found = [state.unreadable(entry) for entry in case.entries if entry.policy is None]
    found += [finding for policy in case.known for finding in _oddities(policy)]
    yield from found
    if not found:
        yield Finding(OK, "schedules", "nothing is odd about the schedules", "schedules: %d" % len(case.entries))


def _oddities(policy: Policy) -> Iterator[Finding]:
    """What is odd about one schedule."""
    if policy.enabled and not policy.vms:
        yield Finding(
            WARNING,
            "schedules",
            "%s has no VM: it never runs" % called(policy),
            "VMSS %s" % policy.uuid,
            "give it one: vmss assign %s --uuid VM" % policy.uuid,
        )
    if policy.enabled and policy.type == QUIESCED:
        yield Finding(
            WARNING,
            "schedules",
            "%s asks for quiesced snapshots: a server that has none takes plain ones instead" % called(policy),
            "type %s" % policy.type,
            "vmss xe vmss-param-set uuid=%s type=snapshot" % policy.uuid,
        )


def clashes(case: Case) -> Iterator[Finding]:
    """Runs of the next day that get in each other's way, or do not end in time."""
    session, until = case.open, case.now + _DAY
    loads = read_loads(session, case.entries, case.now, until, case.vms)
    expected = forecast.expect(loads, session.zone, case.now, until)
    moves = forecast.moves(loads, session.zone, case.now, until)
    found = _clashes(expected, {move.policy.uuid: move for move in moves}, case.moment)
    yield from found
    if not found:
        yield Finding(OK, "clashes", "no two schedules get in each other's way in the next 24 hours")


def _clashes(expected: Sequence[Expected], moves: Mapping[str, Move], moment: Moment) -> List[Finding]:
    """The first clash of each policy; `moves` are other times, by policy."""
    names = {run.policy.uuid: called(run.policy) for run in expected}
    found: Dict[str, Finding] = {}
    for run in expected:
        uuid = run.policy.uuid
        if uuid in found or not (run.behind or run.too_long):
            continue
        if run.behind:
            text = "%s begins at %s, while %s %s at work on the same storage or host" % (
                called(run.policy),
                moment(run.at),
                words.listed([names.get(other, other) for other in run.behind]),
                words.agree(len(run.behind), "is", "are"),
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
            "by the durations of past runs, or an estimate",
            moves[uuid].command if uuid in moves else "vmss next tells whether there is another time",
        )
    return list(found.values())


def last_run(case: Case) -> Iterator[Finding]:
    """How the last runs fared, and which VMs have no snapshot of them."""
    left = left_over.read(case.open)
    courses = list(state.courses_of(case.open, case.local.holder, case.known, left, case.now))
    findings = [finding for course in courses for finding in course.findings]
    yield from findings or [Finding(OK, "last run", "there is no schedule")]
