"""The check of what is dated in the future: it proves nothing, so it is passed over, and has to be mended."""

from typing import Iterator, List

from vmss.core.datetimes import in_future
from vmss.core.policy import Policy
from vmss.core.schedule import next_slot
from vmss.core.words import agree, counted
from vmss.edges.scheduled import read_times
from vmss.edges.xapi import Refused, Xapi
from vmss.insight import policies
from vmss.insight.case import Case
from vmss.insight.checks_of_alerts import destruction
from vmss.insight.findings import OK, WARNING, Finding
from vmss.insight.names import called, first_names

# So many snapshots are looked at, which is 3 MB. In a larger pool they are those of VMs that have more than is to be
# kept: what is dated in the future does not count there, so with the next run such VMs have.
_SNAPSHOTS_MAX = 500


def dates(case: Case) -> Iterator[Finding]:
    """Whether last runs, alerts and scheduled snapshots are dated in the future."""
    found = [finding for policy in case.known for finding in _of_policy(case, policy)]
    found += _snapshots(case)
    yield from found
    if not found:
        yield Finding(OK, "dates", "no last run, alert or scheduled snapshot is dated in the future")


def _of_policy(case: Case, policy: Policy) -> Iterator[Finding]:
    """The last run of a policy, and the messages about it."""
    if policy.last_run is not None and policy.ran(case.now) is None:
        remedy = "the clock was or is wrong: timedatectl; the next run sets it right"
        if policy.enabled and policy.vms:
            remedy += ", %s" % case.moment(next_slot(policy.schedule, case.zone, case.now))
        yield Finding(
            WARNING,
            "dates",
            "the last run of %s is dated in the future: it counts as none" % called(policy),
            case.moment(policy.last_run),
            remedy,
        )
    messages = policies.of_the_future(case.open, policy.uuid)
    if messages:
        yield Finding(
            WARNING,
            "dates",
            "%s of %s %s dated in the future: they are passed over, and XenCenter takes them for the last runs"
            % (counted(len(messages), "alert"), called(policy), agree(len(messages), "is", "are")),
            "the latest: %s" % case.moment(max(messages.values())),
            destruction(sorted(messages)),
        )


def _snapshots(case: Case) -> List[Finding]:
    """The scheduled snapshots that retention leaves alone, because their age is unknown."""
    xapi = case.open.xapi
    scheduled = sorted(case.vms.scheduled())
    suspects = scheduled if len(scheduled) <= _SNAPSHOTS_MAX else _of_vms_with_too_many(case)
    times = read_times(xapi, suspects, len(scheduled))
    ahead = {ref: time for ref, time in times.items() if in_future(time, case.now)}
    if not ahead:
        return []
    vms = sorted({_name_of(xapi, ref) for ref in ahead})
    return [
        Finding(
            WARNING,
            "dates",
            "%s of %s %s dated in the future: retention leaves them alone"
            % (counted(len(ahead), "scheduled snapshot"), first_names(vms), agree(len(ahead), "is", "are")),
            "the latest: %s" % case.moment(max(ahead.values())),
            "vmss prune --dated-in-future",
        )
    ]


def _of_vms_with_too_many(case: Case) -> List[str]:
    """Those of VMs that have more of them than their policies keep. Soon after the clock was put right, all are."""
    found: List[str] = []
    for policy in case.known:
        for _, record in case.vms.on(policy):
            mine = case.vms.scheduled().intersection(map(str, record.get("snapshots", ())))
            if len(mine) > policy.retained:
                found += sorted(mine)
    return found[:_SNAPSHOTS_MAX]


def _name_of(xapi: Xapi, snapshot: str) -> str:
    """The name of the VM that a snapshot was taken of."""
    try:
        vm = str(xapi.call("VM.get_snapshot_of", snapshot))
        return str(xapi.call("VM.get_name_label", vm)) or str(xapi.call("VM.get_uuid", vm))
    except Refused:
        return "a VM that is gone"
