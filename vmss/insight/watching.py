"""Watches the pass at work by the events of xapi, from dom0 or from elsewhere: it only reads, and takes no lock.

Where no pass is at work, one event.from waits for the pool to show the sign of one, and for schedules that change.
While one is, events of VMs and tasks come too. Messages are not among the events: at the first question for them xapi
reads all that it has, each from a file. A run that is over shows by its last-run-time, and its messages are asked for.
"""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core import messages, watched
from vmss.core.datetimes import parse_datetime
from vmss.core.job import DESTROY_VDI, DESTROY_VM, SHUT_DOWN
from vmss.core.policy import Policy
from vmss.core.records import AT_WORK, NULL, TAKING
from vmss.core.schedule import latest_slot, next_tick
from vmss.core.vms import Vm
from vmss.core.watched import Seen, SeenJob, SeenRun
from vmss.edges.events import Event, Events
from vmss.edges.excused import excused
from vmss.edges.sessions import SNAPSHOT_TASKS
from vmss.edges.settings import Place
from vmss.edges.vms import is_marked, read_snapshots, with_snapshots
from vmss.edges.xapi import MISREAD, Refused
from vmss.insight import lock_and_log, outlook, policies
from vmss.insight.loads import Work, read_work
from vmss.insight.policies import EARLIER, Entry
from vmss.insight.reading import Reading
from vmss.insight.snapshots import taken_since
from vmss.passes import at_work, journal

# The classes whose events are waited for: where no pass is at work, and where one is.
_IDLE, _BUSY = ("pool", "vmss"), ("pool", "vmss", "task", "vm")

# The names of the tasks of deletions.
_DELETIONS = tuple("Async." + method for method in (DESTROY_VM, DESTROY_VDI, SHUT_DOWN))

# Where nothing moves for so long, it is looked whether the lock is held; and as often again.
_LOOKS_AT_LOCK = timedelta(seconds=20)


class Coming(NamedTuple):
    """The next runs: when, and the names of their schedules."""

    at: datetime
    names: Tuple[str, ...]


class Watch:
    """What is seen of the pool, kept up to date by `look`. `seen` is the pass at work, None if there is none; `ended`
    the one that ended last, as it was seen at its end."""

    def __init__(self, session: Reading, place: Place) -> None:
        self._session = session
        self._place = place
        self._events = Events(session.xapi)
        self._entries: List[Entry] = []
        self._stale = True  # whether schedules may have changed since they were read
        self._strangers: Set[str] = set()  # VMs with tasks like those of a pass, that are on no schedule
        self._sign: Optional[str] = None
        self._looked = session.now()  # when it was last seen whether the lock is held
        self.names: Dict[str, str] = {}  # of storage repositories and hosts, by reference
        self.seen: Optional[Seen] = None
        self.ended: Optional[Seen] = None
        self._begin()

    @property
    def entries(self) -> List[Entry]:
        """The schedules."""
        if self._stale:
            self._stale, self._entries = False, policies.read(self._session)
        return self._entries

    def look(self, timeout_s: float) -> None:
        """Learn what has happened; if nothing has, wait for it, no longer than that."""
        classes = _IDLE if self.seen is None else _BUSY
        events = self._events.wait(classes, timeout_s)
        for event in events:
            if event.cls == "vmss":
                self._stale = True
        for event in events:
            if event.cls == "pool" and event.record is not None and self._pool(event.record):
                return  # begun anew
            if self.seen is not None:
                self._learn(event)
        if self.seen is not None:
            self._look_at_lock(self.seen)

    def coming(self) -> Optional[Coming]:
        """The next runs; None if no schedule runs."""
        now = self._session.now()
        known = [entry.policy for entry in self.entries if entry.policy is not None]
        runs = [(policies.next_run(self._session, policy, now), policy) for policy in known]
        first = min([at for at, _ in runs if at is not None], default=None)
        if first is None or not self._session.pool.licensed:
            return None
        return Coming(first, tuple(policy.name or policy.uuid for at, policy in runs if at == first))

    def next_tick(self) -> datetime:
        """When cron starts the next pass."""
        return next_tick(self._session.now())

    # The pass

    def _begin(self) -> None:
        """See whether a pass is at work, and if so, which VMs it has in hand and how far it has come."""
        found = self._events.all_of(("pool", "task"))
        pools = [event.record for event in found if event.cls == "pool" and event.record is not None]
        config = dict(pools[0]["other_config"]) if pools else {}
        self._sign, self.seen = config.get(AT_WORK), None
        shown = at_work.shown(self._sign) if self._sign is not None else None
        if shown is None:
            return
        self._strangers, now = set(), self._session.now()
        since = min(shown.since, now)
        self.seen = Seen(since, now)
        wanted = {entry.uuid: entry.policy for entry in self.entries if entry.policy is not None}
        runs = [(wanted[uuid], counts_from) for uuid, counts_from in shown.runs.items() if uuid in wanted]
        self._take_in(runs, since)
        self._happened(_deleting(config))
        for event in found:
            self._learn(event)
        for uuid in list(self.seen.runs):
            self._ask_result(uuid)

    def _pool(self, record: Mapping[str, Any]) -> bool:
        """The pool has changed. Return whether a pass has begun or ended."""
        config = dict(record["other_config"])
        if config.get(AT_WORK) == self._sign:
            self._happened(_deleting(config))
            return False
        if self.seen is not None:
            for uuid, run in self.seen.runs.items():
                if not run.over:
                    self._ask_result(uuid)
            self.ended = self.seen
        self._stale = True
        self._begin()
        return True

    def _take_in(self, runs: Sequence[Tuple[Policy, datetime]], since: datetime) -> None:
        """These policies are in hand, each with the instant from which on a snapshot counts."""
        now, counts = self._session.now(), {policy.uuid: at for policy, at in runs}
        found: Dict[datetime, List[Vm]] = {}
        for work in read_work(self._session, [policy for policy, _ in runs], now):
            policy = work.load.policy
            run = SeenRun(policy.uuid, policy.name, since, counts[policy.uuid], work.load.seconds, work.load.runs)
            self._name(work.load.resources)
            self._happened(watched.RunSeen(run, self._jobs(work, now)))
            found.setdefault(run.counts_from, []).extend(vm for vm, _ in work.jobs)
        for counts_from, vms in found.items():
            for ref, at in self._served(vms, counts_from):
                self._happened(watched.SnapshotSeen(ref, at))

    def _jobs(self, work: Work, now: datetime) -> Tuple[SeenJob, ...]:
        """The VMs of which a run takes a snapshot: without those that somebody wants it to leave out."""
        session, policy = self._session, work.load.policy
        vms = [vm for vm, _ in work.jobs]
        if session.settings.of(policy).keep_halted:
            vms = with_snapshots(session.xapi, vms)
        out = excused(session.xapi, session.settings, policy, vms, now)
        return tuple(
            SeenJob(vm.ref, vm.uuid, vm.name or vm.uuid, policy.uuid, job.tokens, job.seconds, job.share(work.alone))
            for vm, job in work.jobs
            if vm.ref not in out
        )

    def _served(self, vms: Sequence[Vm], since: datetime) -> Iterable[Tuple[str, datetime]]:
        """Those of these VMs that have a scheduled snapshot since then, with an instant since when it has one. The one
        that was taken last is the parent of its VM: only where somebody else took that, the snapshot tells its VM."""
        taken = taken_since(self._session.xapi, since, self._session.now())
        last = frozenset(taken or ())
        served = {vm.ref for vm in vms if vm.parent in last}
        yield from ((ref, since) for ref in served)
        more, lacking = last.difference(vm.parent for vm in vms), [vm for vm in vms if vm.ref not in served]
        if taken is None or len(more) > len(lacking):
            yield from self._served_one_by_one(lacking, since)
            return
        for ref in more:
            with suppress(Refused):  # it is gone
                yield str(self._session.xapi.call("VM.get_snapshot_of", ref)), since

    def _served_one_by_one(self, vms: Sequence[Vm], since: datetime) -> Iterable[Tuple[str, datetime]]:
        others = []
        for vm in vms:
            with suppress(Refused, *MISREAD):  # it is gone
                at = None if vm.parent in ("", NULL) else _time_of(self._session, vm.parent)
                if at is None or at < since:
                    continue
                if self._session.xapi.call("VM.get_is_vmss_snapshot", vm.parent) is True:
                    yield vm.ref, at
                else:
                    others.append(vm.ref)
        for ref, snapshots in read_snapshots(self._session.xapi, others).items() if others else ():
            yield ref, max(snapshot.time for snapshot in snapshots.values())

    def _name(self, resources: Iterable[str]) -> None:
        unknown = frozenset(resources).difference(self.names)
        self.names.update(outlook.read_names(self._session, unknown))

    # What happens

    def _happened(self, event: watched.Event) -> None:
        if self.seen is not None:
            self.seen = watched.after(self.seen, event, self._session.now())

    def _learn(self, event: Event) -> None:
        """What an event tells of the pass. Whatever does not have the form of xapi's records tells nothing."""
        with suppress(*MISREAD):
            if event.cls == "task" and event.record is None:
                self._happened(watched.TaskGone(event.ref))
            elif event.cls == "task" and event.record is not None:
                self._task(event.ref, event.record)
            elif event.cls == "vm" and event.record is not None:
                self._snapshot(event.record)
            elif event.cls == "vmss" and event.record is not None:
                self._ask_result(str(event.record["uuid"]))

    def _task(self, ref: str, record: Mapping[str, Any]) -> None:
        if record["name_label"] in _DELETIONS:
            self._happened(watched.DeletionSeen(ref, record["status"] == "pending"))
            return
        vm = str(record["other_config"].get("applies_to", ""))
        if self.seen is None or record["name_label"] not in SNAPSHOT_TASKS or not is_marked(record["other_config"], vm):
            return
        error = tuple(str(item) for item in record["error_info"])
        created = parse_datetime(record["created"])
        event = watched.TaskSeen(ref, vm, created, str(record["status"]), error)
        if watched.is_new(self.seen, event) and vm not in self._strangers:
            self._take_in_vm(vm, created)
        self._happened(event)

    def _take_in_vm(self, vm: str, created: datetime) -> None:
        """A pass takes a snapshot of a VM of which its sign tells nothing: so it has its policy in hand, for the latest
        slot, or by hand if that was served before."""
        with suppress(Refused):
            ref = str(self._session.xapi.call("VM.get_snapshot_schedule", vm))
            for policy in (entry.policy for entry in self.entries if entry.ref == ref):
                if policy is not None and self.seen is not None:
                    now = self._session.now()
                    slot, last = latest_slot(policy.schedule, self._session.zone, now), policy.ran(now)
                    counts_from = slot if last is None or last < slot else created.replace(microsecond=0)
                    # Others of its VMs may have had their turn before.
                    self._take_in([(policy, counts_from)], min(created, now, max(counts_from, self.seen.since)))
        if self.seen is not None and vm not in self.seen.jobs:
            self._strangers.add(vm)

    def _snapshot(self, record: Mapping[str, Any]) -> None:
        """A VM or a snapshot has changed: one in the making may yet fail."""
        making = set(record["current_operations"].values()) & TAKING
        if record["is_vmss_snapshot"] is True and record["is_a_snapshot"] is True and not making:
            self._happened(watched.SnapshotSeen(str(record["snapshot_of"]), parse_datetime(record["snapshot_time"])))

    def _ask_result(self, uuid: str) -> None:
        """The run of a policy may be over: ask for its alert."""
        run = self.seen.runs.get(uuid) if self.seen is not None else None
        if run is None or run.over:
            return
        for told in policies.runs(self._session, uuid, run.since - EARLIER):
            if told.name in (messages.SUCCEEDED, messages.FAILED) and told.at >= run.since.replace(microsecond=0):
                errors = {victim.uuid: tuple(victim.error) for victim in told.victims}
                self._happened(watched.RunTold(uuid, told.result, told.story, errors))
                return

    def _look_at_lock(self, seen: Seen) -> None:
        """Where the lock is on this machine, and nothing has moved for a while, see whether the pass lives."""
        now = self._session.now()
        if now - max(seen.moved, self._looked) < _LOOKS_AT_LOCK:
            return
        self._looked = now
        held = lock_and_log.is_held(self._place, self._session)
        if held is not None:
            self._happened(watched.PassDied(not held))


def _deleting(config: Mapping[str, str]) -> watched.DeletingSeen:
    """How many expired snapshots are listed to go, without those that could not be deleted."""
    entries = [entry for _, entry in journal.read(config) if entry is not None and entry.stuck is None]
    return watched.DeletingSeen(sum(len(entry.disks) for entry in entries))


def _time_of(session: Reading, snapshot: str) -> datetime:
    return parse_datetime(session.xapi.call("VM.get_snapshot_time", snapshot))
