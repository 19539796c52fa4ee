"""The policies that are in hand at once: what is read for them, planned, carried out and told."""
from datetime import datetime, tzinfo
from typing import Callable, Dict, FrozenSet, List, NamedTuple, Sequence, Tuple

from vmss import journal, plan, world
from vmss.alerts import Victim
from vmss.clock import Clock
from vmss.datetimes import local
from vmss.engine import DESTROY_VM, SHUT_DOWN, Doomed, Engine, Job, Operation, Outcome, already_gone
from vmss.execute import TAKES, Execution, Watch
from vmss.journal import Entries, Journal
from vmss.log import Log
from vmss.plan import Turn
from vmss.settings import Settings
from vmss.text import one_line, quoted
from vmss.world import Pool
from vmss.xapi import NULL, Xapi


class Context(NamedTuple):
    """What the batches of a pass share. `say` takes lines of progress for people; `unsettled` tells whether
    operations of an earlier pass are still under way."""

    xapi: Xapi
    pool: Pool
    settings: Settings
    clock: Clock
    log: Log
    journal: Journal
    say: Callable[[str], None]
    unsettled: bool = False


class Served(NamedTuple):
    """How one policy's run went. `taken` counts the VMs that have their snapshot of the slot."""

    turn: Turn
    started: datetime
    vms: int = 0
    taken: int = 0
    deleted: int = 0
    victims: Tuple[Victim, ...] = ()
    degraded: bool = False

    def summary(self, zone: tzinfo) -> str:
        """The run in one sentence."""
        return "%s: %d of %d VMs have their snapshot of %s (%s); %d expired snapshots deleted." % (
            quoted(self.turn.policy.name), self.taken, self.vms, local(self.turn.slot, zone),
            self.turn.slot.astimezone(zone).tzname(), self.deleted,
        )


class Batch:
    """Some due policies of a pass; none, where there is only something to finish.

    After `serve`, `changed` tells whether anything in the pool was, `pending` are the tasks that have not ended,
    and `lost` tells whether there may be one more.
    """

    def __init__(
        self, context: Context, turns: Sequence[Turn], now: datetime, finish: Callable[[Served], None]
    ) -> None:
        """`now` is the time to decide by; `finish` is told of each policy whose run is over."""
        self.changed = False
        self.lost = False
        self.pending: List[str] = []
        self._context = context
        self._log = context.log
        self._now = now
        self._finish = finish
        self._turns = {turn.policy.ref: turn for turn in turns}
        self._started = context.clock.now()
        self._under_way: Dict[int, str] = {}  # tasks, by job, that take the snapshot already
        self._jobs: List[Job] = self._plan() if turns else []
        self._numbers: Dict[str, List[int]] = {ref: [] for ref in self._turns}  # jobs by policy
        for number, job in enumerate(self._jobs):
            self._numbers[job.policy].append(number)
        self._left = {ref: len(numbers) for ref, numbers in self._numbers.items()}
        self._done, self._total = 0, len(self._jobs)

    def progress(self) -> str:
        """How far the batch has come, in words."""
        return "%d of %d VMs are done" % (self._done, self._total)

    def lines(self) -> List[str]:
        """The plan in words."""
        return plan.lines(self._jobs, list(self._turns.values()))

    def serve(self) -> bool:
        """Carry out the plan, and what an earlier pass has left; return whether that came to its end."""
        context = self._context
        records = self._leftovers()
        if not self._turns and not records:
            return True
        for ref, turn in self._turns.items():
            self._log("Processing policy: %s" % turn.policy.uuid)
            self._log("No of VMs: %d" % self._left[ref])
            self._log("Max number of threads for processing VM: %d" % context.settings.max_operations)
            context.say("%s: %s of %d VMs" % (
                one_line(turn.policy.name, 60) or turn.policy.uuid, turn.policy.type, self._left[ref]
            ))
        names = {
            number: plan.snapshot_name(self._turns[job.policy]) for number, job in enumerate(self._jobs) if job.take
        }
        self._engine = Engine(
            self._jobs, context.settings.max_operations, plain_instead=context.settings.quiesce == "snapshot"
        )
        execution = Execution(
            context.xapi, context.clock, context.settings, context.journal, self._engine, names, self._under_way,
            Watch(self._on_start, self._on_end, self._on_finish, self._spared, self._taken, self._on_stop),
        )
        try:
            for key, numbers, undecided in records:
                execution.adopt(key, numbers, undecided)
            self._finish_idle()
            return execution.run()
        finally:
            self.pending = execution.pending()
            self.changed = execution.changed
            self.lost = execution.lost

    # Before

    def _plan(self) -> List[Job]:
        xapi = self._context.xapi
        vms = world.read_vms(xapi, [turn.policy for turn in self._turns.values()])
        expiries = [plan.decide(vm, self._turns[vm.policy], self._now) for vm in vms]
        doomed = [snapshot for expiry in expiries for snapshot in expiry.expired]
        disks = world.read_disks(xapi, [vm.ref for vm in vms] + [snapshot.ref for snapshot in doomed])
        for snapshot in doomed:
            if snapshot.suspend_vdi != NULL:
                disks.setdefault(snapshot.ref, []).extend(world.read_disk(xapi, snapshot.suspend_vdi))
        self._under_way = {
            number: expiry.vm.taking
            for number, expiry in enumerate(expiries) if expiry.vm.taking and not expiry.turn.forced
        }
        for expiry in expiries:
            for line in plan.left_alone(expiry, disks):
                self._log(line)
        return [plan.job(expiry, disks, self._context.pool.suspend_sr) for expiry in expiries]

    def _leftovers(self) -> List[Tuple[str, List[int], Entries]]:
        """Add jobs for the disks of snapshots that an earlier pass has destroyed and recorded. Return the
        records, with the numbers of their jobs and what cannot be decided yet."""
        xapi, records = self._context.xapi, []
        for key, snapshots in self._context.journal.left():
            numbers: List[int] = []
            undecided: Entries = {}
            for snapshot, uuids in sorted(snapshots.items()):
                if journal.still_there(xapi, snapshot):
                    # Nothing of it was destroyed, and retention decides anew; unless its end is still under way.
                    if self._context.unsettled:
                        undecided[snapshot] = uuids
                    continue
                disks = journal.disks(xapi, uuids)
                self._log("Finishing the deletion of snapshot: %s. Disks left: %d" % (snapshot, len(disks)))
                numbers.append(len(self._jobs))
                self._jobs.append(plan.leftover(snapshot, disks))
            records.append((key, numbers, undecided))
        return records

    def _finish_idle(self) -> None:
        """What has nothing to wait for: VMs that were served and have nothing that expires, policies whose
        VMs are gone."""
        for number, state in enumerate(self._engine.states):
            if state.done:
                self._on_finish(number)
        for ref, numbers in self._numbers.items():
            if not numbers:
                self._finish_policy(ref)

    def _on_stop(self) -> None:
        line = "Told to stop: %d operations in flight get up to %d s, and nothing new is started" % (
            len(self._engine.running), self._context.settings.stop_limit
        )
        self._log(line)
        self._context.say(line)

    # What the execution asks

    def _spared(self, doomed: Sequence[Doomed]) -> FrozenSet[str]:
        """Disks of expired snapshots that somebody has taken into use since the plan was made; checkpoints that
        were pinned since, which would lose their memory before xapi refuses to destroy them."""
        xapi, spared = self._context.xapi, set()
        now = world.read_disks(xapi, [snapshot.ref for snapshot in doomed])
        for snapshot in doomed:
            if snapshot.suspended and world.is_pinned(xapi, snapshot.ref):
                spared.add(snapshot.ref)
                continue
            disks = now.get(snapshot.ref, [])
            known = {disk.ref for disk in disks}
            for disk in snapshot.disks:
                if disk.ref not in known:  # its memory, which has no VBD
                    disks.extend(world.read_disk(xapi, disk.ref))
            left = {disk.ref for disk in snapshot.disks} - {disk.ref for disk in disks if plan.ours(disk, 1)}
            if left:
                self._log("Disks of snapshot %s are left alone: %d (in use elsewhere, or gone)"
                          % (snapshot.uuid, len(left)))
            spared |= left
        return frozenset(spared)

    def _taken(self, number: int) -> str:
        """The scheduled snapshot of a job's VM that has come since this batch began, if there is one."""
        vm = self._jobs[number].vm
        for ref, snapshot in world.read_snapshots(self._context.xapi, [vm]).get(vm, {}).items():
            if snapshot.time >= self._started.replace(microsecond=0):
                return ref
        return ""

    # What the execution tells us

    def _on_start(self, operation: Operation) -> None:
        job = self._jobs[operation.job]
        if operation.action in TAKES:
            self._log("Processing VM: %s" % job.uuid)
            return
        for doomed in job.expired:
            if doomed.ref == operation.ref and operation.action == (SHUT_DOWN if doomed.suspended else DESTROY_VM):
                self._log("Snapshot retention value reached for VM: %s. Deleting the oldest snapshot: %s"
                          % (job.uuid, doomed.uuid))

    def _on_end(self, operation: Operation, outcome: Outcome) -> None:
        job = self._jobs[operation.job]
        if outcome.error and not already_gone(operation, outcome):
            self._log("%s failed for VM: %s (%s): %s" % (
                operation.action, job.uuid, one_line(job.name, 100), one_line(" ".join(outcome.error), 1000)
            ))

    def _on_finish(self, number: int) -> None:
        job, state = self._jobs[number], self._engine.states[number]
        if job.policy not in self._turns:
            return
        self._log("Completed processing VM: %s" % job.uuid)
        self._done += 1
        result = "failed: %s" % one_line(" ".join(state.error), 200) if state.error else "ok"
        if state.destroyed:
            result += ", %d expired" % state.destroyed
        self._context.say("[%d/%d] %s: %s" % (self._done, self._total, one_line(job.name, 60), result))
        self._left[job.policy] -= 1
        if self._left[job.policy] == 0:
            self._finish_policy(job.policy)

    def _finish_policy(self, ref: str) -> None:
        mine = [(self._jobs[number], self._engine.states[number]) for number in self._numbers[ref]]
        self._finish(Served(
            turn=self._turns[ref],
            started=self._started,
            vms=len(mine),
            taken=sum(1 for job, state in mine if state.snapshot or not job.take),
            deleted=sum(state.destroyed for _, state in mine),
            victims=tuple(Victim(job.name, job.uuid, state.error) for job, state in mine if state.error),
            degraded=any(state.degraded for _, state in mine),
        ))
