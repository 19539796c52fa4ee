"""Which VMs of a policy lack a scheduled snapshot since a slot.

A snapshot's record is 6 kB on the wire, and a monitoring system asks every minute. So first it is seen whether what
the alerts of the runs since the slot claim is all there: they name the VMs that failed, and say how many did not; and
as many scheduled snapshots have the names that these runs gave, and are dated within them. None of this is believed
alone. Where it agrees, only the VMs that failed are looked at; else all.
"""

from datetime import datetime, timedelta, tzinfo
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from vmss.core import messages
from vmss.core.datetimes import EPOCH, format_datetime, in_future, parse_datetime
from vmss.core.plan import snapshot_name
from vmss.core.policy import Policy
from vmss.core.retention import Snapshot
from vmss.edges.members import AT_REST
from vmss.edges.query import CHUNK, by_uuid, where
from vmss.edges.vms import read_snapshots
from vmss.edges.xapi import Fields, Refused, Xapi, understood
from vmss.insight.history import AT_SLOT, Run
from vmss.insight.promises import Late

# What is read of a snapshot.
_FIELDS = Fields("current_operations", ("snapshot_of", "snapshot_time"))
# So many VMs without a snapshot are told apart; then nobody needs to know of more.
_LATE_MAX = 100
# The dates of snapshots are asked for second by second: so many in one call, and in all. Longer runs are not believed.
_SECONDS_AT_ONCE, _SECONDS_MAX = 900, 4 * 3600
# Upper limits on the snapshots that are counted while a pass is running, and on the runs by hand since one slot.
_SNAPSHOTS_MAX, _RUNS_MAX = 1000, 20


def ambiguous(policies: Sequence[Policy]) -> Set[str]:
    """The uuids of policies whose snapshots bear the same names as those of another one."""
    by_name: Dict[str, List[str]] = {}
    for policy in policies:
        by_name.setdefault(snapshot_name(policy, EPOCH), []).append(policy.uuid)
    return {uuid for uuids in by_name.values() if len(uuids) > 1 for uuid in uuids}


def late_vms(
    xapi: Xapi, policy: Policy, slot: datetime, runs: Sequence[Run], zone: tzinfo, now: datetime
) -> Tuple[List[Late], bool]:
    """The VMs of a policy without a scheduled snapshot since a slot, or the first 100 of them; and whether one that
    was assigned since then may be among them. No `runs` are to be believed of a policy that is ambiguous."""
    since = list(_since(slot, runs, zone))
    names = _names(policy, slot, [began for began, _ in since])
    victims = _victims(policy, [run for _, run in since])
    if victims is not None and _as_claimed(xapi, names, since):
        asked = {ref for uuid in victims for ref in by_uuid(xapi, "VM", uuid)}
        return _without(xapi, policy, [vm for vm in policy.vms if vm in asked], slot, now), False
    served = _served(xapi, names, slot, now)
    return _without(xapi, policy, [vm for vm in policy.vms if vm not in served], slot, now), True


def count_since(xapi: Xapi, policy: Policy, slots: Iterable[datetime], since: datetime) -> int:
    """How many snapshots of these slots, or of the pass itself, were taken at an instant or later."""
    refs = _named(xapi, [name for slot in slots for name in _names(policy, slot, [])])
    return sum(1 for ref in refs[:_SNAPSHOTS_MAX] if _is_since(xapi, ref, since))


def taken_since(xapi: Xapi, since: datetime, now: datetime) -> Optional[List[str]]:
    """The references of the scheduled snapshots that are dated since an instant, of whatever VM, without checkpoints in
    the making, which may yet fail; None if that is so long ago that it costs xapi less to be asked for each VM."""
    seconds = _seconds(since, now + timedelta(seconds=1))
    if not 0 < len(seconds) <= _SECONDS_AT_ONCE:
        return None
    dates = [format_datetime(EPOCH + timedelta(seconds=at)) for at in seconds]
    wanted = '((field "is_vmss_snapshot" = "true") and (%s)) and (%s)' % (AT_REST, _any("snapshot_time", dates))
    with understood("VM"):
        return xapi.refs("VM", wanted)


# What the alerts claim


def _since(slot: datetime, runs: Sequence[Run], zone: tzinfo) -> Iterator[Tuple[datetime, Run]]:
    """The runs since a slot that say what they did, each with the instant that it stands for."""
    for run in runs:
        if run.counts is not None and run.name in (messages.SUCCEEDED, messages.FAILED):
            began = max([at for at in run.counts.began(zone) if at <= run.at], default=None)
            if began is not None and began >= slot:
                yield began, run


def _victims(policy: Policy, runs: Sequence[Run]) -> Optional[Set[str]]:
    """The uuids of the VMs that these runs of a policy name; None if it may have others that none of them served."""
    if len(runs) > _RUNS_MAX:
        return None
    victims: Set[str] = set()
    whole = False
    for run in runs:
        if run.counts is None or len(run.victims) < run.counts.vms - run.counts.snapshotted:
            return None  # an alert names so many only
        whole = whole or run.counts.start == AT_SLOT or run.counts.vms >= len(policy.vms)
        victims.update(victim.uuid for victim in run.victims)
    return victims if whole else None


# Snapshots


def _names(policy: Policy, slot: datetime, began: Sequence[datetime]) -> List[str]:
    """The names of snapshots of a slot, and of runs that began at these instants; those that xapi can be asked for."""
    names = [snapshot_name(policy, at) for at in [slot] + list(began[:_RUNS_MAX])]
    return sorted({name for name in names if '"' not in name})


def _named(xapi: Xapi, names: Sequence[str], condition: str = "true") -> List[str]:
    """The scheduled snapshots that have one of these names, and meet the condition."""
    if not names:
        return []
    # In xapi's query language `and` binds no tighter than `or`; what few snapshots meet is asked first.
    wanted = '((field "is_vmss_snapshot" = "true") and (%s)) and (%s)' % (_any("name__label", names), condition)
    with understood("VM"):
        return xapi.refs("VM", wanted)


def _as_claimed(xapi: Xapi, names: Sequence[str], runs: Sequence[Tuple[datetime, Run]]) -> bool:
    """Whether as many snapshots have these names, and are dated within these runs, as the runs claim."""
    seconds = sorted({second for began, run in runs for second in _seconds(began, run.at)})
    if not names or len(seconds) > _SECONDS_MAX:
        return False
    found = 0
    # xapi's queries know nothing but equality, and dates are whole seconds.
    for start in range(0, len(seconds), _SECONDS_AT_ONCE):
        dates = [format_datetime(EPOCH + timedelta(seconds=at)) for at in seconds[start : start + _SECONDS_AT_ONCE]]
        found += len(_named(xapi, names, _any("snapshot_time", dates)))
    return found == sum(run.counts.snapshotted for _, run in runs if run.counts)


def _seconds(began: datetime, ended: datetime) -> Sequence[int]:
    return range(int(began.timestamp()), int(ended.timestamp()) + 1)[: _SECONDS_MAX + 1]


def _any(field: str, values: Sequence[str]) -> str:
    return " or ".join('(field "%s" = "%s")' % (field, value) for value in values)


def _served(xapi: Xapi, names: Sequence[str], slot: datetime, now: datetime) -> Set[str]:
    """The VMs that have a snapshot of one of these names, if it is of the slot by its date too."""
    served = set()
    for of, time in _taken(xapi, names):
        try:
            if slot <= parse_datetime(time) and not in_future(parse_datetime(time), now):
                served.add(of)
        except ValueError:
            continue  # it has no time at all
    return served


def _taken(xapi: Xapi, names: Sequence[str]) -> Iterator[Tuple[str, str]]:
    marked = 'field "is_vmss_snapshot" = "true"'
    for _, record in where(xapi, "VM", "name__label", names, marked, _FIELDS):
        with understood("VM"):
            if not record["current_operations"]:  # a checkpoint in the making may yet fail
                yield str(record["snapshot_of"]), str(record["snapshot_time"])


def _without(xapi: Xapi, policy: Policy, vms: Sequence[str], slot: datetime, now: datetime) -> List[Late]:
    """Of these VMs of a policy, those that have no scheduled snapshot since a slot, by whatever name."""
    found: List[Late] = []
    for start in range(0, len(vms), CHUNK):
        some = vms[start : start + CHUNK]
        snapshots = read_snapshots(xapi, some)
        for vm in some:
            mine = [one for one in snapshots.get(vm, {}).values() if not in_future(one.time, now)]
            newest = max(mine, key=lambda one: one.time, default=None)
            if newest is None or newest.time < slot:
                found += _late(xapi, policy, vm, newest)
        if len(found) >= _LATE_MAX:
            break
    return found


def _late(xapi: Xapi, policy: Policy, vm: str, newest: Optional[Snapshot]) -> List[Late]:
    """A VM without a snapshot; none if it is gone."""
    try:
        name, uuid = str(xapi.call("VM.get_name_label", vm)), str(xapi.call("VM.get_uuid", vm))
        if newest is None:
            return [Late(name, uuid)]
        # All names of one policy differ in the time at the end only.
        own = snapshot_name(policy, EPOCH).rpartition(" ")[0]
        bears = str(xapi.call("VM.get_name_label", newest.ref)).rpartition(" ")[0]
        return [Late(name, uuid, newest.time, bears == own)]
    except Refused:
        return []


def _is_since(xapi: Xapi, snapshot: str, since: datetime) -> bool:
    try:
        return parse_datetime(xapi.call("VM.get_snapshot_time", snapshot)) >= since
    except (Refused, ValueError):
        return False  # it is gone, or no time at all
