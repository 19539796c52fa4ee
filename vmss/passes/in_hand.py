"""The policies that a pass has in hand: from the admission of a policy to the end of its run.

The run of a policy is over when each of its VMs has its snapshot or has failed. What the run deletes is told with it if
that ends soon after; otherwise the deletions go on, and neither the alert nor the policy's next slot waits for them.
"""

from datetime import datetime
from typing import Dict, Iterable, List, Optional, Sequence, Set

from vmss.core.engine import Engine
from vmss.core.job import Job, Operation, State
from vmss.core.messages import Victim
from vmss.core.outcome import OVERTAKEN, STOPPED, UNREADABLE, Error
from vmss.core.policy import Policy
from vmss.core.pruning import Pruned
from vmss.core.served import Served
from vmss.core.text import one_line
from vmss.core.turn import Turn
from vmss.core.vms import Vm
from vmss.core.words import agree, counted
from vmss.passes.context import Context

# Seconds that the alert of a run waits for its deletions. Most take seconds; one that hangs takes an hour.
_DELETIONS_S = 300.0


class _Run:
    """One policy's run: the numbers of its jobs, and the VMs that get no job.

    It counts its VMs that are still `unplanned`, the jobs whose snapshots are `unsettled`, and those that are
    `unfinished`. `names` are those of the unplanned, by their uuids. `settled_at` is the time on the monotonic clock at
    which the last of its snapshots was taken, or failed.
    """

    def __init__(self, turn: Turn, started: datetime, vms: Sequence[Vm]) -> None:
        self.turn = turn
        self.started = started
        self.unplanned = len(vms)
        self.names = {vm.uuid: vm.name for vm in vms}
        self.unsettled = self.unfinished = 0
        self.jobs: List[int] = []
        self.victims: List[Victim] = []
        self.settled_at: Optional[float] = None


class InHand:
    """Knows which job belongs to which policy, and when the run of a policy is over.

    Every method that may end a run returns the runs that it has ended.
    """

    def __init__(self, context: Context, engine: Engine) -> None:
        self._context = context
        self._engine = engine
        self._runs: Dict[str, _Run] = {}  # by policy
        self._of: Dict[int, _Run] = {}  # the run of each job
        self._on_request: Dict[int, None] = {}  # jobs that delete snapshots on request, and are of no policy in hand
        self._problems: Dict[int, Error] = {}  # why expired snapshots of a job have to stay
        self._left: Dict[int, Error] = {}  # by job: that its VM was left suspended, and why it still is
        self.short: Dict[str, str] = {}  # what is said of SRs with little room
        self._done = 0
        self._total = 0

    @property
    def policies(self) -> List[Policy]:
        """The policies whose runs are not over."""
        return [turn.policy for turn in self.turns]

    @property
    def turns(self) -> List[Turn]:
        """The turns whose runs are not over."""
        return [run.turn for run in self._runs.values()]

    def progress(self) -> str:
        """How far the pass has come, in words."""
        return "%d of %s %s done" % (self._done, counted(self._total, "VM"), agree(self._done, "is", "are"))

    def admit(self, turn: Turn, vms: Sequence[Vm], started: datetime) -> List[Served]:
        """Take a policy with these VMs in hand; its run began at `started`. Misread VMs get no job."""
        context, policy = self._context, turn.policy
        context.log("Processing policy: %s" % policy.uuid)
        context.log("No of VMs: %d" % len(vms))
        context.log("Max number of threads for processing VM: %d" % context.settings.max_operations)
        context.say("%s: %s of %s" % (one_line(policy.name, 60) or policy.uuid, policy.type, counted(len(vms), "VM")))
        self._runs[policy.ref] = _Run(turn, started, vms)
        self._total += len(vms)
        served = [] if vms else self._over(policy.ref)
        for vm in vms:
            served += self.victim(policy.ref, Victim(vm.name, vm.uuid, (UNREADABLE, vm.misread))) if vm.misread else []
        return served

    def victim(self, policy: str, victim: Victim) -> List[Served]:
        """A VM of a policy in hand gets no job, and this is why."""
        run = self._runs[policy]
        run.victims.append(victim)
        run.unplanned -= 1
        run.names.pop(victim.uuid, None)
        self._total -= 1
        return self._if_over(run)

    def add(self, number: int, job: Job) -> None:
        """A VM of a policy in hand, or one of which snapshots are deleted on request, has become a job of the
        engine."""
        if not job.policy:
            self._on_request[number] = None
            self._total += 1
            return
        run = self._of[number] = self._runs[job.policy]
        run.jobs.append(number)
        run.unplanned -= 1
        run.names.pop(job.uuid, None)
        run.unfinished += 1
        run.unsettled += not self._engine.settled(number)

    def problem(self, number: int, error: Error) -> None:
        """Expired snapshots of a job have to stay, and this is why."""
        self._problems[number] = error

    def left_suspended(self, number: int, error: Error) -> None:
        """Whether a checkpoint of ours has left a job's VM suspended; the error is empty if not."""
        if error:
            self._left[number] = error

    def job_ended(self, number: int) -> List[Served]:
        """A job has ended, be it one of a policy in hand, one on request, or a leftover's."""
        run = self._of.get(number)
        if run is None and number not in self._on_request:
            return []
        job = self._engine.jobs[number]
        self._context.log("Completed processing VM: %s" % job.uuid)
        self._done += 1
        if run is not None:
            run.unfinished -= 1
        self._context.say("[%d/%d] %s: %s" % (self._done, self._total, one_line(job.name, 60), self._result(number)))
        return self._if_over(run) if run is not None else []

    # Runs that do not wait for the rest

    def snapshot_ended(self, number: int) -> None:
        """The snapshot of a job was taken, or has failed."""
        run = self._of.get(number)
        if run is not None:
            run.unsettled -= 1

    def settled(self) -> List[Served]:
        """The runs that are over although some of their deletions are not."""
        over: List[Served] = []
        now = self._context.clock.monotonic()
        for policy, run in list(self._runs.items()):
            if run.settled_at is None and not run.unplanned and not run.unsettled:
                run.settled_at = now
            if run.settled_at is not None and now >= run.settled_at + _DELETIONS_S:
                over += self._over(policy)
        return over

    def slot(self, policy: str) -> Optional[datetime]:
        """The slot that the run of this policy serves; None if the policy is not in hand."""
        return self._runs[policy].turn.slot if policy in self._runs else None

    def stalled(self, policy: str, slow: Set[Operation]) -> bool:
        """Whether nothing of the run of this policy goes on but deletions, and snapshots that hang: `slow` operations,
        and those that wait for them."""
        run = self._runs[policy]
        return not run.unplanned and self._engine.stalled(run.jobs, slow)

    def overtake(self, policy: str, slot: datetime) -> List[Served]:
        """The policy's next slot has come, and its run is stalled: the run is over, and the VMs that have no snapshot
        yet have failed."""
        return self._over(policy, slot)

    def interrupted(self) -> List[Served]:
        """The pass was told to stop: its runs are over, and the VMs that have no snapshot yet have failed."""
        for run in self._runs.values():
            run.victims += [Victim(name, uuid, (STOPPED, "VM.snapshot")) for uuid, name in run.names.items()]
        over = [self._over(policy, stopped=True) for policy in list(self._runs)]
        return [served for of_policy in over for served in of_policy]

    def unsettled(self, policy: str) -> Set[int]:
        """The jobs of this policy's run whose snapshots have not ended."""
        return {number for number in self._runs[policy].jobs if not self._engine.settled(number)}

    def pruned(self) -> Pruned:
        """What came of the deletions on request."""
        mine = [(number, self._engine.jobs[number]) for number in self._on_request]
        return Pruned(
            vms=len(mine),
            deleted=sum(self._engine.states[number].destroyed for number, _ in mine),
            victims=tuple(
                Victim(job.name, job.uuid, self._error(number)) for number, job in mine if self._error(number)
            ),
        )

    def _result(self, number: int) -> str:
        error, destroyed = self._error(number), self._engine.states[number].destroyed
        job = self._engine.jobs[number]
        well = "ok" if job.take or number not in self._of else job.excused or "has its snapshot already"
        result = "failed: %s" % _in_words(error) if error else well
        return result + (", %d expired" % destroyed if destroyed else "")

    def _error(self, number: int, unsettled: str = OVERTAKEN) -> Error:
        """The error of a job; empty if it met none; `unsettled` is the code if its snapshot has not ended. A VM that is
        down is worse than one without a snapshot."""
        error = self._engine.states[number].error or self._problems.get(number, ())
        if not self._engine.settled(number):
            error = (unsettled, self._engine.jobs[number].take)
        return self._left.get(number, ()) + error

    def _if_over(self, run: _Run) -> List[Served]:
        policy = run.turn.policy.ref
        if self._runs.get(policy) is not run or run.unplanned or run.unfinished:
            return []
        return self._over(policy)

    def _over(self, policy: str, overtaken: Optional[datetime] = None, stopped: bool = False) -> List[Served]:
        run, unsettled = self._runs.pop(policy), STOPPED if stopped else OVERTAKEN
        states = ((number, self._engine.states[number]) for number in run.jobs)
        mine = [(number, self._engine.jobs[number], state) for number, state in states if not state.off_schedule]
        errors = {number: self._error(number, unsettled) for number, _, _ in mine}
        failed = {number: Victim(job.name, job.uuid, errors[number]) for number, job, _ in mine if errors[number]}
        without = [failed[number] for number, job, state in mine if job.take and not state.snapshot]
        return [
            Served(
                turn=run.turn,
                started=run.started,
                vms=len(mine) + len(run.victims),
                taken=sum(1 for _, job, state in mine if state.snapshot or not job.take),
                had=sum(1 for _, job, _ in mine if not job.take and not job.excused),
                deleted=sum(state.destroyed for _, _, state in mine),
                left=sum(state.left for _, _, state in mine),
                # Of a VM that has no other snapshot `vmss prune --dated-in-future` leaves one, so that is not offered.
                future=sum(job.future for _, job, state in mine if state.snapshot or not job.take),
                victims=tuple(list(failed.values()) + run.victims),
                without=tuple(without + run.victims),
                degraded=any(state.degraded and not _alone(state) for _, _, state in mine),
                overtaken=overtaken,
                stopped=stopped,
                plain=tuple(
                    Victim(job.name, job.uuid, state.degraded)
                    for _, job, state in mine
                    if state.degraded and state.snapshot and _alone(state)
                ),
                excused=tuple(job.excused for _, job, _ in mine if job.excused),
                short=tuple(self.short[sr] for sr in _srs(job for _, job, _ in mine) if sr in self.short),
            )
        ]


def _srs(jobs: Iterable[Job]) -> List[str]:
    return sorted({token for job in jobs for token in job.tokens})


def _alone(state: State) -> bool:
    """Whether a plain snapshot is taken for a reason of this VM, and not because the server has no quiesced ones."""
    return state.degraded[:1] != ("MESSAGE_REMOVED",)


def _in_words(error: Error) -> str:
    """An error in a sentence, with its code."""
    from vmss.core.failures import failure_of  # most passes need none

    return one_line("%s (%s)" % (failure_of(error).sentence, error[0]), 200)
