"""The policies that a pass has in hand: planned when they are admitted, carried out together, told one by one."""

from collections import Counter, deque
from datetime import datetime
from typing import Callable, Deque, Dict, FrozenSet, Iterator, List, NamedTuple, Sequence, Set, Tuple

from vmss.core import plan
from vmss.core.datetimes import parse_reading
from vmss.core.engine import Engine
from vmss.core.job import DESTROY_VM, SHUT_DOWN, TAKES, ExpiredSnapshot, Operation, already_gone
from vmss.core.messages import Victim
from vmss.core.outcome import UNREADABLE, Outcome
from vmss.core.policy import Policy
from vmss.core.records import Disk, Pool
from vmss.core.text import one_line
from vmss.core.turn import Served, Turn
from vmss.edges import world
from vmss.edges.clock import Clock
from vmss.edges.log import Log
from vmss.edges.settings import Settings
from vmss.edges.xapi import Misunderstood, Refused, Xapi
from vmss.passes import journal
from vmss.passes.execute import Execution, Watch
from vmss.passes.journal import Entries, Journal
from vmss.passes.orphans import Notes
from vmss.passes.planning import Planned, Planner


class Context(NamedTuple):
    """What a pass serves its policies with. `say` takes lines of progress for people; `unsettled` tells whether
    operations of an earlier pass are still under way; `until`, on the monotonic clock, when the pass has lasted too
    long."""

    xapi: Xapi
    pool: Pool
    settings: Settings
    clock: Clock
    log: Log
    journal: Journal
    notes: Notes
    say: Callable[[str], None]
    until: float
    unsettled: bool = False


class Service:
    """What a pass has in hand: the policies that were admitted and have not ended, and what an earlier pass left.

    After `serve`, `changed` tells whether anything in the pool was, `pending` are the tasks that have not ended,
    and `lost` tells whether there may be one more.
    """

    def __init__(self, context: Context, finish: Callable[[Served], None], admit: Callable[[], float]) -> None:
        """`finish` is told of each policy whose run is over. `admit` is called whenever something may have
        changed: it admits what there is room for, and returns the seconds until it has to be called again."""
        self._context = context
        self._log = context.log
        self._finish = finish
        self._admit = admit
        self._plans: Deque[Iterator[Planned]] = deque()  # those that are not at their end
        self._turns: Dict[str, Turn] = {}  # by policy, as all that follows
        self._started: Dict[str, datetime] = {}
        self._numbers: Dict[str, List[int]] = {}  # of the policy's jobs
        self._left: Dict[str, int] = {}  # jobs that have not ended
        self._misread: Dict[str, List[Victim]] = {}  # VMs that have no job
        self._unread: Dict[int, Tuple[str, ...]] = {}  # jobs of whose expired snapshots some had to stay, and why
        self._done, self._total = 0, 0
        self._names: Dict[int, str] = {}  # of the snapshots, by job
        self._under_way: Dict[int, str] = {}  # tasks, by job, that take the snapshot already
        self._engine = Engine(context.settings.max_operations, plain_instead=context.settings.quiesce == "snapshot")
        self._execution = Execution(
            context.xapi,
            context.clock,
            context.settings,
            context.journal,
            self._engine,
            self._names,
            self._under_way,
            Watch(
                self._on_start,
                self._on_end,
                self._on_again,
                self._on_finish,
                self._spared,
                self._taken,
                self._serves,
                self._on_stop,
                self._more,
            ),
            context.until,
        )

    @property
    def in_hand(self) -> List[Policy]:
        """The policies that were admitted and whose runs are not over."""
        return [self._turns[ref].policy for ref, left in self._left.items() if left]

    @property
    def changed(self) -> bool:
        return self._execution.changed

    @property
    def lost(self) -> bool:
        return self._execution.lost

    @property
    def pending(self) -> List[str]:
        return self._execution.pending()

    def progress(self) -> str:
        """How far it has come, in words."""
        return "%d of %d VMs are done" % (self._done, self._total)

    def serve(self) -> bool:
        """Finish what an earlier pass has left, and carry out what is admitted; return whether all came to its
        end."""
        for key, leftovers, undecided in self._leftovers():
            numbers = self._engine.add([plan.leftover(snapshot, disks) for snapshot, disks in leftovers])
            self._execution.adopt(key, numbers, undecided)
        complete = self._execution.run() and not any(self._left.values())
        if complete:
            self._note_durations()
        return complete

    def admit(self, turns: Sequence[Turn], now: datetime) -> None:
        """Take these policies in hand; `now` is the time to decide by."""
        context = self._context
        started = context.clock.now()
        planner = Planner(context.xapi, context.pool, context.log, turns, now)
        vms = Counter(vm.policy for vm in planner.vms)
        for turn in turns:
            ref = turn.policy.ref
            self._turns[ref], self._started[ref], self._numbers[ref] = turn, started, []
            self._misread[ref] = [
                Victim(vm.name, vm.uuid, (UNREADABLE, vm.misread)) for vm in planner.misread if vm.policy == ref
            ]
            self._left[ref] = vms[ref] - len(self._misread[ref])
            self._total += self._left[ref]
            self._announce(turn, vms[ref])
            if not self._left[ref]:
                self._finish_policy(ref)
        self._plans.append(planner.plans())

    # Inside

    def _more(self) -> float:
        """Admit what there is room for, and plan a group of VMs. Return the seconds until the next time."""
        seconds = self._admit()
        self._context.notes.see(self._context.xapi, self._context.clock.now())
        while self._plans:
            planned = next(self._plans[0], None)
            if planned is not None:
                self._take_in_hand(planned)
                return 0.0
            self._plans.popleft()
        return seconds

    def _take_in_hand(self, planned: Planned) -> None:
        for vm in planned.misread:
            self._misread[vm.policy].append(Victim(vm.name, vm.uuid, (UNREADABLE, vm.misread)))
            self._total -= 1
            self._left[vm.policy] -= 1
            if not self._left[vm.policy]:
                self._finish_policy(vm.policy)
        numbers = self._engine.add(planned.jobs, planned.tight)
        for number, job in zip(numbers, planned.jobs):
            self._numbers[job.policy].append(number)
            if job.vm in planned.spared:
                self._unread[number] = (UNREADABLE, planned.spared[job.vm])
            if job.take:
                self._names[number] = plan.snapshot_name(self._turns[job.policy])
            if job.vm in planned.under_way:
                self._under_way[number] = planned.under_way[job.vm]
        for number in numbers:
            if self._engine.states[number].done:
                self._on_finish(number)  # it was served, and nothing of it expires

    def _announce(self, turn: Turn, vms: int) -> None:
        self._log("Processing policy: %s" % turn.policy.uuid)
        self._log("No of VMs: %d" % vms)
        self._log("Max number of threads for processing VM: %d" % self._context.settings.max_operations)
        self._context.say(
            "%s: %s of %d VMs" % (one_line(turn.policy.name, 60) or turn.policy.uuid, turn.policy.type, vms)
        )

    def _leftovers(self) -> Iterator[Tuple[str, List[Tuple[str, List[Disk]]], Entries]]:
        """The records of earlier passes: their keys, the snapshots that are gone with those of their disks that
        are not, and what cannot be decided yet."""
        xapi = self._context.xapi
        for key, snapshots in self._context.journal.left():
            if snapshots is None:
                self._log(
                    "pool.other_config: %s was written by no pass of this pool, and is removed: %s"
                    % (one_line(key, 100), one_line(self._context.pool.other_config[key], 1000))
                )
                self._context.journal.remove(key)
                continue
            gone: List[Tuple[str, List[Disk]]] = []
            undecided: Entries = {}
            for snapshot, uuids in sorted(snapshots.items()):
                if journal.still_there(xapi, snapshot):
                    # Nothing of it was destroyed, and retention decides anew; unless its end is still under way.
                    if self._context.unsettled:
                        undecided[snapshot] = uuids
                    continue
                try:
                    gone.append((snapshot, journal.disks(xapi, uuids)))
                except Misunderstood as error:
                    undecided[snapshot] = uuids
                    self._log("The disks of snapshot %s, which is gone, are left alone: %s" % (snapshot, error))
                    continue
                self._log("Finishing the deletion of snapshot: %s. Disks left: %d" % (snapshot, len(gone[-1][1])))
            yield key, gone, undecided

    def _note_durations(self) -> None:
        """For the next pass: which SR has most work. Last, when no SR waits for us."""
        for number, seconds in self._execution.took.items():
            job = self._engine.jobs[number]
            if plan.worth_noting(job, seconds):
                world.note_took(self._context.xapi, job.vm, seconds)

    def _on_stop(self) -> None:
        line = "Told to stop: %d operations in flight get up to %d s, and nothing new is started" % (
            len(self._engine.running),
            self._context.settings.stop_limit,
        )
        self._log(line)
        self._context.say(line)

    # What the execution asks

    def _spared(self, doomed: Sequence[ExpiredSnapshot]) -> FrozenSet[str]:
        """Disks of expired snapshots that somebody has taken into use since the plan was made; checkpoints that
        were pinned since, which would lose their memory before xapi refuses to destroy them."""
        xapi, spared = self._context.xapi, set()
        users, unknown = self._users(doomed)
        for snapshot in doomed:
            if snapshot.ref in unknown:
                self._log("Snapshot %s is left alone: who uses its disks cannot be told" % snapshot.uuid)
                spared.add(snapshot.ref)
                continue
            if snapshot.suspended and world.is_pinned(xapi, snapshot.ref):
                spared.add(snapshot.ref)
                continue
            used = {disk.ref for disk in snapshot.disks if users.get(disk.ref, set()) - {snapshot.ref}}
            if used:
                self._log("Disks of snapshot %s are left alone: %d (in use elsewhere)" % (snapshot.uuid, len(used)))
            spared |= used
        return frozenset(spared)

    def _users(self, doomed: Sequence[ExpiredSnapshot]) -> Tuple[Dict[str, Set[str]], Set[str]]:
        """Who uses each disk of these snapshots, and the snapshots of whose disks that cannot be told."""
        xapi, unknown = self._context.xapi, set()
        try:
            return world.read_users(xapi, [disk.ref for snapshot in doomed for disk in snapshot.disks]), set()
        except Misunderstood:  # of whose shows when each is asked for by itself
            users: Dict[str, Set[str]] = {}
            for snapshot in doomed:
                try:
                    users.update(world.read_users(xapi, [disk.ref for disk in snapshot.disks]))
                except Misunderstood as error:
                    unknown.add(snapshot.ref)
                    for number, job in enumerate(self._engine.jobs):
                        if job.policy and snapshot in job.expired:
                            self._unread[number] = (UNREADABLE, str(error))
            return users, unknown

    def _taken(self, number: int) -> str:
        """The scheduled snapshot of a job's VM that has come since its policy was admitted, if there is one."""
        job = self._engine.jobs[number]
        for ref, snapshot in world.read_snapshots(self._context.xapi, [job.vm]).get(job.vm, {}).items():
            if snapshot.time >= self._started[job.policy].replace(microsecond=0):
                return ref
        return ""

    def _serves(self, number: int, snapshot: str) -> bool:
        """Whether a snapshot is one of the slot that its policy is served for."""
        turn = self._turns[self._engine.jobs[number].policy]
        try:
            return parse_reading(self._context.xapi.call("VM.get_snapshot_time", snapshot)) >= turn.slot
        except (Refused, ValueError):
            return False  # it is gone, or no time at all

    # What the execution tells us

    def _on_start(self, operation: Operation) -> None:
        job = self._engine.jobs[operation.job]
        if operation.action in TAKES:
            self._log("Processing VM: %s" % job.uuid)
            self._context.notes.began(job.uuid, self._context.clock.now())
            return
        for doomed in job.expired:
            if doomed.ref == operation.ref and operation.action == (SHUT_DOWN if doomed.suspended else DESTROY_VM):
                self._log(
                    "Snapshot retention value reached for VM: %s. Deleting the oldest snapshot: %s"
                    % (job.uuid, doomed.uuid)
                )

    def _on_end(self, operation: Operation, outcome: Outcome) -> None:
        job = self._engine.jobs[operation.job]
        if operation.action in TAKES:
            self._context.notes.ended(job.uuid, self._context.clock.now(), outcome)
        if outcome.error and not already_gone(operation, outcome):
            self._log(
                "%s failed for VM: %s (%s): %s"
                % (operation.action, job.uuid, one_line(job.name, 100), one_line(" ".join(outcome.error), 1000))
            )

    def _on_again(self, operation: Operation, outcome: Outcome, seconds: int) -> None:
        job = self._engine.jobs[operation.job]
        self._log(
            "%s is tried again in %d s for VM: %s (%s): %s"
            % (operation.action, seconds, job.uuid, one_line(job.name, 100), one_line(" ".join(outcome.error), 1000))
        )

    def _on_finish(self, number: int) -> None:
        job, state = self._engine.jobs[number], self._engine.states[number]
        if job.policy not in self._turns:
            return
        self._log("Completed processing VM: %s" % job.uuid)
        self._done += 1
        error = self._error(number)
        result = "failed: %s" % one_line(" ".join(error), 200) if error else "ok"
        if state.destroyed:
            result += ", %d expired" % state.destroyed
        self._context.say("[%d/%d] %s: %s" % (self._done, self._total, one_line(job.name, 60), result))
        self._left[job.policy] -= 1
        if self._left[job.policy] == 0:
            self._finish_policy(job.policy)

    def _error(self, number: int) -> Tuple[str, ...]:
        """What went wrong with a job; empty if nothing did."""
        return tuple(self._engine.states[number].error) or self._unread.get(number, ())

    def _finish_policy(self, ref: str) -> None:
        numbers = self._numbers[ref]
        mine = [(self._engine.jobs[number], self._engine.states[number]) for number in numbers]
        misread = self._misread.pop(ref, [])
        failed = [
            Victim(job.name, job.uuid, self._error(number))
            for number, (job, _) in zip(numbers, mine)
            if self._error(number)
        ]
        self._finish(
            Served(
                turn=self._turns[ref],
                started=self._started[ref],
                vms=len(mine) + len(misread),
                taken=sum(1 for job, state in mine if state.snapshot or not job.take),
                deleted=sum(state.destroyed for _, state in mine),
                victims=tuple(failed + misread),
                degraded=any(state.degraded for _, state in mine),
            )
        )
