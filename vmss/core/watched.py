"""A pass as it is seen from outside: a value, and what each event makes of it. No clock is read, and nothing is asked.

What a pass decides it tells nobody before the alert of a run. But its operations are tasks of xapi, which name their
VMs, and its snapshots are records: so it can be seen from anywhere which VM is at work, which has its snapshot, and
which waits, without one call of the pass.
"""

from datetime import datetime, timedelta
from typing import Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

from vmss.core.datetimes import EPOCH
from vmss.core.outcome import Error

# What is known of the snapshot of a VM. ENDED: its task is over, and neither a snapshot nor an error was seen yet.
WAITS, AT_WORK, ENDED, FAILED, TAKEN = "waits", "at work", "ended", "failed", "taken"

# An operation takes long if it needs more than so many seconds, and twice as long as expected; then a pass, too, lets
# others have what it occupies (vmss/passes/serve.py).
_LONG = 300.0

# A snapshot whose task is over shows by then, unless it was not taken.
_SHOWS = 10.0

# A pass of which nothing is seen for so long may have died. What it does between two operations takes seconds; but a
# hook, or a pause before something busy is tried again, may take minutes.
QUIET = timedelta(minutes=5)


class SeenJob(NamedTuple):
    """One VM of a run: `vm` is its reference, `run` the uuid of the policy, `tokens`, `seconds` and `share` are those
    of the job (vmss.core.job), as a forecast has them. `task` takes its snapshot; `since`: how long it is in its state.
    `error`: why it failed."""

    vm: str
    uuid: str
    name: str
    run: str
    tokens: FrozenSet[str]
    seconds: float
    share: float = 1.0
    state: str = WAITS
    task: str = ""
    since: Optional[datetime] = None
    error: Error = ()

    def elapsed(self, now: datetime) -> float:
        """For how many seconds it has been in its state."""
        return 0.0 if self.since is None else max(0.0, (now - self.since).total_seconds())

    def left(self, now: datetime) -> float:
        """The seconds that its snapshot is expected to take from now on."""
        return self.seconds if self.state == WAITS else max(0.0, self.seconds - self.elapsed(now))

    def takes_long(self, now: datetime) -> bool:
        """Whether it is at work for longer than it should."""
        return self.state == AT_WORK and self.elapsed(now) > max(_LONG, 2 * self.seconds)

    def is_without(self, now: datetime) -> bool:
        """Whether its task is over, and no snapshot has come of it, and nothing tells why: it was not seen how the task
        ended. The alert of the run will tell."""
        return self.state == ENDED and self.elapsed(now) >= _SHOWS


class SeenRun(NamedTuple):
    """The run of a policy, in hand since `since`. A snapshot counts if it is dated `counts_from` or later. `seconds`
    are expected, by `past` runs, or as an estimate if there are none. `result` and `story` are those of its alert;
    `over`: it is told, or the pass has ended."""

    uuid: str
    name: str
    since: datetime
    counts_from: datetime
    seconds: float
    past: int
    result: str = ""
    story: str = ""
    over: bool = False


class Seen(NamedTuple):
    """A pass at work since `since`, its runs by the uuids of their policies, and their VMs by reference. `deleting` is
    the number of expired snapshots that are listed to go, `deletions` are the tasks of deletions that are under way, by
    whomever. `moved`: when something was last seen to go on. `died`: its
    process does not hold the lock any more, and its sign stays."""

    since: datetime
    moved: datetime
    runs: Mapping[str, SeenRun] = {}
    jobs: Mapping[str, SeenJob] = {}
    deleting: int = 0
    deletions: FrozenSet[str] = frozenset()
    died: bool = False

    def of(self, run: str) -> List[SeenJob]:
        """The VMs of a run."""
        return [job for job in self.jobs.values() if job.run == run]

    def is_quiet(self, now: datetime) -> bool:
        """Whether nothing is seen to go on, and for so long that the pass may have died."""
        at_work = self.deletions or any(job.state == AT_WORK for job in self.jobs.values())
        return now - self.moved >= QUIET and not at_work


# The events


class RunSeen(NamedTuple):
    """A run was found to be in hand, with these VMs."""

    run: SeenRun
    jobs: Tuple[SeenJob, ...]


class TaskSeen(NamedTuple):
    """The task that takes the snapshot of a VM: `status` and `error` are its record's."""

    task: str
    vm: str
    created: datetime
    status: str
    error: Error = ()


class TaskGone(NamedTuple):
    """There is no such task any more: the pass has destroyed its record."""

    task: str


class SnapshotSeen(NamedTuple):
    """A scheduled snapshot of a VM is there."""

    vm: str
    time: datetime


class DeletionSeen(NamedTuple):
    """The task of a deletion: whether it is under way. It does not tell of what, nor whose it is."""

    task: str
    pending: bool


class DeletingSeen(NamedTuple):
    """So many expired snapshots are listed to go."""

    number: int


class RunTold(NamedTuple):
    """The alert of a run was raised. `errors` are those of the VMs that failed, by their uuids."""

    run: str
    result: str
    story: str
    errors: Mapping[str, Error] = {}


class PassDied(NamedTuple):
    """The lock is free, or held again: `died` says which."""

    died: bool


Event = Union[RunSeen, TaskSeen, TaskGone, SnapshotSeen, DeletionSeen, DeletingSeen, RunTold, PassDied]


def after(seen: Seen, event: Event, now: datetime) -> Seen:
    """What is known after an event."""
    changed = _after(seen, event, now)
    if changed == seen:
        return seen
    return changed if isinstance(event, PassDied) else changed._replace(moved=now)


def _after(seen: Seen, event: Event, now: datetime) -> Seen:
    if isinstance(event, RunSeen):
        of_others = {vm: job for vm, job in seen.jobs.items() if job.run != event.run.uuid}
        jobs = {**of_others, **{job.vm: job for job in event.jobs}}
        return seen._replace(runs={**seen.runs, event.run.uuid: event.run}, jobs=jobs)
    if isinstance(event, TaskSeen):
        return _with_job(seen, event.vm, _by_task(seen, event, now))
    if isinstance(event, TaskGone):
        of = next((job for job in seen.jobs.values() if job.task == event.task and job.state == AT_WORK), None)
        seen = seen._replace(deletions=seen.deletions - {event.task})
        return seen if of is None else _with_job(seen, of.vm, of._replace(state=ENDED, since=now))
    if isinstance(event, DeletionSeen):
        others = seen.deletions - {event.task}
        return seen._replace(deletions=others | {event.task} if event.pending else others)
    if isinstance(event, SnapshotSeen):
        job = seen.jobs.get(event.vm)
        if job is None or job.state == TAKEN or event.time < seen.runs[job.run].counts_from:
            return seen
        return _with_job(seen, event.vm, job._replace(state=TAKEN, error=()))
    if isinstance(event, DeletingSeen):
        return seen._replace(deleting=event.number)
    if isinstance(event, PassDied):
        return seen._replace(died=event.died)
    run = seen.runs.get(event.run)
    if run is None:
        return seen
    told = run._replace(result=event.result, story=event.story, over=True)
    failed = {job.vm: _failed(job, event.errors[job.uuid]) for job in seen.of(run.uuid) if job.uuid in event.errors}
    return seen._replace(runs={**seen.runs, run.uuid: told}, jobs={**seen.jobs, **failed})


def _failed(job: SeenJob, error: Error) -> SeenJob:
    """A VM with an error: one that has its snapshot may have failed in something else."""
    return job if job.state == TAKEN else job._replace(state=FAILED, error=error)


def _with_job(seen: Seen, vm: str, job: Optional[SeenJob]) -> Seen:
    return seen if job is None else seen._replace(jobs={**seen.jobs, vm: job})


def _by_task(seen: Seen, event: TaskSeen, now: datetime) -> Optional[SeenJob]:
    """What its task tells of a VM; None if nothing new."""
    job = seen.jobs.get(event.vm)
    if job is None or job.state == TAKEN:
        return None
    if event.status == "pending":
        # Of the clocks of two machines one may be ahead.
        return job._replace(state=AT_WORK, task=event.task, since=min(event.created, now), error=())
    if job.task and job.task != event.task:
        return None  # of an earlier try
    if event.status == "success":
        return job._replace(state=ENDED, task=event.task, since=now, error=())
    return job._replace(state=FAILED, task=event.task, error=event.error or ("TASK_CANCELLED", event.task))


def is_new(seen: Seen, event: TaskSeen) -> bool:
    """Whether a task that has begun is of a run that is not known yet: of a VM of none, or of one whose run is over."""
    job = seen.jobs.get(event.vm)
    if event.status != "pending" or (job is not None and event.task == job.task):
        return False
    return job is None or seen.runs[job.run].over


# What there is to see


class Tally(NamedTuple):
    """How many VMs of a run have their snapshot, have failed so far, and how many there are."""

    taken: int
    failed: int
    vms: int


def tally(seen: Seen, run: str = "") -> Tally:
    """The numbers of a run, or of all."""
    states = [job.state for job in (seen.of(run) if run else seen.jobs.values())]
    return Tally(states.count(TAKEN), states.count(FAILED), len(states))


class Place(NamedTuple):
    """A storage repository, or a host that makes checkpoints, by its reference: the VMs at work there, those that wait
    for it, and the seconds that all of them are expected to work there, one after another."""

    ref: str
    at_work: Tuple[SeenJob, ...]
    waiting: int
    seconds: float


def places(seen: Seen, now: datetime) -> List[Place]:
    """Where something is at work or waits, that with the most work first."""
    there: Dict[str, List[SeenJob]] = {}
    for job in _unfinished(seen):
        for token in job.tokens:
            there.setdefault(token, []).append(job)
    found = [
        Place(
            token,
            tuple(job for job in jobs if job.state == AT_WORK),
            sum(1 for job in jobs if job.state == WAITS),
            sum(job.left(now) * job.share for job in jobs),
        )
        for token, jobs in there.items()
    ]
    return sorted(found, key=lambda place: (-place.seconds, -len(place.at_work), place.ref))


def seconds_left(seen: Seen, now: datetime) -> float:
    """How long the snapshots are expected to take from now on: as long as those of the place with most work."""
    return max([place.seconds for place in places(seen, now)] + [job.left(now) for job in _unfinished(seen)] + [0.0])


def _unfinished(seen: Seen) -> Iterator[SeenJob]:
    for job in seen.jobs.values():
        if job.state == AT_WORK or (job.state == WAITS and not seen.runs[job.run].over):
            yield job


def failures(seen: Seen) -> List[SeenJob]:
    """The VMs that have failed so far."""
    return [job for job in seen.jobs.values() if job.state == FAILED]


def without(seen: Seen, now: datetime) -> List[SeenJob]:
    """The VMs whose tasks are over without a snapshot, and that are tried again, or have failed."""
    return [job for job in seen.jobs.values() if job.is_without(now) and not seen.runs[job.run].over]


# What has changed

BEGAN, STARTED, TOOK, NOT_TAKEN, TOLD, OVER = "pass", "started", "taken", "failed", "run", "ended"


class Change(NamedTuple):
    """One change: its kind, and what it is about. `seen` is the pass then; that which has ended, at its end."""

    kind: str
    seen: Seen
    job: Optional[SeenJob] = None
    run: Optional[SeenRun] = None


def changes(before: Optional[Seen], now: Optional[Seen]) -> Iterator[Change]:
    """What has changed between two pictures; None stands for no pass."""
    if before is not None and (now is None or now.since != before.since):
        yield Change(OVER, before)
        before = None
    if now is None:
        return
    if before is None:
        yield Change(BEGAN, now)
    known = before or Seen(EPOCH, EPOCH)
    kinds = {AT_WORK: STARTED, TAKEN: TOOK, FAILED: NOT_TAKEN}
    for vm, job in now.jobs.items():
        old = known.jobs.get(vm)
        # What a picture begins with is not told as if it had just happened, but for failures.
        if old is None and before is None and job.state == TAKEN:
            continue
        # Of a run that is over its alert tells which have failed.
        if job.state == FAILED and now.runs[job.run].over:
            continue
        if job.state in kinds and (old is None or (old.state, old.task) != (job.state, job.task)):
            yield Change(kinds[job.state], now, job=job, run=now.runs[job.run])
    for uuid, run in now.runs.items():
        if run.over and run.result and not (uuid in known.runs and known.runs[uuid].over):
            yield Change(TOLD, now, run=run)
