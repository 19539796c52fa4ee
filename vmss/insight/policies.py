"""The snapshot schedules of the pool, their runs and their VMs, as the commands for the administrator read them."""

from datetime import datetime, timedelta
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core import changes, retention
from vmss.core.datetimes import CLOCK_TOLERANCE, EPOCH, format_datetime, in_future, parse_datetime
from vmss.core.policy import Policy, PolicyError, from_record, index_of
from vmss.core.records import SCHEDULES
from vmss.core.retention import Snapshot
from vmss.core.schedule import next_slot, next_tick
from vmss.core.vms import Vm
from vmss.edges.settings import Settings
from vmss.edges.vms import read_vms, with_snapshots
from vmss.edges.xapi import Refused, understood
from vmss.insight import history
from vmss.insight.history import Run
from vmss.insight.reading import Reading

# The alert is raised before last-run-time is set, and clocks differ.
EARLIER = timedelta(minutes=1)


class Entry(NamedTuple):
    """A snapshot schedule; where its record cannot be understood, `error` says why, and there is no policy."""

    uuid: str
    name: str
    description: str
    policy: Optional[Policy]
    error: str = ""
    ref: str = ""


class Details(NamedTuple):
    """A snapshot schedule with the end of its last run, the newest message about its runs, and when it runs next. What
    somebody wanted to run by hand, and what did not begin, is no run."""

    entry: Entry
    last_run: Optional[datetime]
    newest_run: Optional[Run]
    next_run: Optional[datetime]

    @property
    def state(self) -> str:
        """Whether it runs: `enabled`, `disabled`, `no VMs`, or an error."""
        policy = self.entry.policy
        if policy is None:
            return "error: " + self.entry.error
        return "disabled" if not policy.enabled else "enabled" if policy.vms else "no VMs"


class Surplus(NamedTuple):
    """A VM, and its scheduled snapshots that exceed retention, oldest first: so many of them, from the oldest on, are
    deleted by the next run, beside the one that its new snapshot replaces."""

    vm: Vm
    exceeding: Tuple[Snapshot, ...]
    next_run: int


def read(session: Reading) -> List[Entry]:
    """All schedules, in the order of their names."""
    with understood("VMSS"):
        records: Dict[str, Any] = session.xapi.call("VMSS.get_all_records")
        entries = [_entry(ref, record, session.settings) for ref, record in records.items()]
    if not session.settings.catch_up_changed:
        entries = _with_changes(session, entries)
    return sorted(entries, key=lambda entry: (entry.name, entry.uuid))


def _with_changes(session: Reading, entries: Sequence[Entry]) -> List[Entry]:
    """The same, with the time since when each schedule is as it is: as passes have noted it, or the next one will."""
    policies = [entry.policy for entry in entries if entry.policy is not None]
    known = changes.renewed(policies, changes.read(session.pool.other_config.get(SCHEDULES, "")), session.now())
    changed = {policy.ref: policy for policy in changes.applied(policies, known)}
    return [entry._replace(policy=changed.get(entry.ref)) for entry in entries]


def find(entries: Sequence[Entry], wanted: str) -> Entry:
    """The schedule of this uuid or name. Raise BadInput where there is none, or more than one."""
    return entries[index_of([(entry.uuid, entry.name) for entry in entries], wanted)]


def details(session: Reading, entry: Entry) -> Details:
    """Read what is known of one schedule besides its record."""
    last = last_runs(session, entry)
    policy, now = entry.policy, session.now()
    following = next_run(session, policy, now) if policy is not None else None
    newest = next((run for run in last if not run.gave_up), None)
    return Details(entry, policy.ran(now) if policy is not None else None, newest, following)


def runs(session: Reading, uuid: str, since: datetime = EPOCH) -> List[Run]:
    """The messages about one schedule that are later than an instant, the newest first. xapi reads those of this
    schedule only, each from a file. Those of the future are left out: they would hide all others."""
    messages, now = _messages(session, uuid, since), session.now()
    with understood("message.get"):
        return [run for run in history.runs(messages) if not in_future(run.at, now)]


def of_the_future(session: Reading, uuid: str) -> Dict[str, datetime]:
    """The messages about one schedule that are dated in the future: their dates, by their uuids."""
    messages = _messages(session, uuid, session.now() + CLOCK_TOLERANCE)
    with understood("message.get"):
        return {str(record["uuid"]): parse_datetime(record["timestamp"]) for record in messages.values()}


def _messages(session: Reading, uuid: str, since: datetime) -> Mapping[str, Any]:
    try:
        messages: Mapping[str, Any] = session.xapi.call("message.get", "VMSS", uuid, format_datetime(since))
    except Refused as refused:
        if refused.code != "UUID_INVALID":  # it is gone, and its messages with it
            raise
        return {}
    return messages


def newest_runs(session: Reading, entry: Entry, number: int) -> List[Run]:
    """The newest messages about one schedule, at most this number. Each is a file that xapi reads: so of a long history
    only its end is asked for, if that is enough."""
    if entry.policy is not None:
        found = runs(session, entry.uuid, _before(session.now(), 2 * number * entry.policy.schedule.distance))
        if len(found) >= number:
            return found[:number]
    return runs(session, entry.uuid)[:number]


def runs_since(session: Reading, entry: Entry, time: timedelta) -> List[Run]:
    """The messages about one schedule in this time until now, the newest first."""
    # xapi answers with what is strictly later, in whole seconds.
    return runs(session, entry.uuid, _before(session.now(), time + timedelta(seconds=1)))


def last_runs(session: Reading, entry: Entry) -> List[Run]:
    """The messages about the last run, and those that came since, the newest first: a few of perhaps thousands."""
    last = entry.policy.ran(session.now()) if entry.policy else None
    if last is None:
        return runs(session, entry.uuid)
    return runs(session, entry.uuid, last - EARLIER)


def last_messages(session: Reading, policy: Policy, now: datetime) -> List[Run]:
    """The messages about the policy's last runs, the newest first: as many as tell how long one takes."""
    since = now - (history.RUNS_ASKED + 1) * policy.schedule.distance
    last = policy.ran(now)
    return runs(session, policy.uuid, since if last is None else min(since, last - EARLIER))


def next_run(session: Reading, policy: Policy, now: datetime) -> Optional[datetime]:
    """When the policy runs next: at its next slot, or in the next tick if it is late; never if it is disabled, or has
    no VM."""
    if not policy.enabled or not policy.vms:
        return None
    if policy.late(session.zone, now):
        return next_tick(now)
    return next_slot(policy.schedule, session.zone, now)


def vms(session: Reading, policy: Policy) -> List[Vm]:
    """The VMs of one schedule, with their scheduled snapshots."""
    return with_snapshots(session.xapi, read_vms(session.xapi, [policy]))


def surplus(session: Reading, policy: Policy) -> List[Surplus]:
    """The VMs of one schedule, with their scheduled snapshots, and what of these exceeds retention."""
    now = session.now()
    return [
        Surplus(vm, *retention.surplus(vm.snapshots, session.settings.keep_of(policy, session.zone, vm.tags), now))
        for vm in vms(session, policy)
    ]


def _before(now: datetime, time: timedelta) -> datetime:
    return max(EPOCH, now - time) if time < now - EPOCH else EPOCH


def _entry(ref: str, record: Any, settings: Settings) -> Entry:
    fields: Mapping[str, Any] = record if isinstance(record, Mapping) else {}
    texts = [
        str(fields.get(name, default))
        for name, default in (("uuid", ref), ("name_label", ""), ("name_description", ""))
    ]
    try:
        return Entry(texts[0], texts[1], texts[2], settings.applied(from_record(ref, record)), ref=ref)
    except PolicyError as error:
        return Entry(texts[0], texts[1], texts[2], None, str(error), ref)
