"""The policies that a pass has in hand: from the admission of a policy to the end of its run."""

from datetime import datetime
from typing import Dict, List, Sequence

from vmss.core.engine import Engine
from vmss.core.job import Job
from vmss.core.messages import Victim
from vmss.core.outcome import UNREADABLE, Error
from vmss.core.policy import Policy
from vmss.core.text import one_line
from vmss.core.turn import Served, Turn
from vmss.core.vms import Vm
from vmss.core.words import agree, counted
from vmss.passes.context import Context


class _Run:
    """One policy's run: the numbers of its jobs, the VMs that have not ended, and those that got no job."""

    def __init__(self, turn: Turn, started: datetime, vms: int) -> None:
        self.turn = turn
        self.started = started
        self.unfinished = vms
        self.jobs: List[int] = []
        self.victims: List[Victim] = []


class InHand:
    """Knows which job belongs to which policy, and when the run of a policy is over.

    Every method that may end a run returns the runs that it has ended.
    """

    def __init__(self, context: Context, engine: Engine) -> None:
        self._context = context
        self._engine = engine
        self._runs: Dict[str, _Run] = {}  # by policy
        self._problems: Dict[int, Error] = {}  # why expired snapshots of a job have to stay
        self._done = 0
        self._total = 0

    @property
    def policies(self) -> List[Policy]:
        """The policies whose runs are not over."""
        return [run.turn.policy for run in self._runs.values()]

    def progress(self) -> str:
        """How far the pass has come, in words."""
        return "%d of %s %s done" % (self._done, counted(self._total, "VM"), agree(self._done, "is", "are"))

    def admit(self, turn: Turn, vms: Sequence[Vm], started: datetime) -> List[Served]:
        """Take a policy with these VMs in hand; its run began at `started`. Misread VMs get no job."""
        context, policy = self._context, turn.policy
        context.log("Processing policy: %s" % policy.uuid)
        context.log("No of VMs: %d" % len(vms))
        context.log("Max number of threads for processing VM: %d" % context.settings.max_operations)
        context.say("%s: %s of %d VMs" % (one_line(policy.name, 60) or policy.uuid, policy.type, len(vms)))
        self._runs[policy.ref] = _Run(turn, started, len(vms))
        self._total += len(vms)
        served = [] if vms else self._over(policy.ref)
        for vm in vms:
            served += self.misread(vm) if vm.misread else []
        return served

    def misread(self, vm: Vm) -> List[Served]:
        """A VM gets no job, because its record, or that of a disk, cannot be understood."""
        run = self._runs[vm.policy]
        run.victims.append(Victim(vm.name, vm.uuid, (UNREADABLE, vm.misread)))
        self._total -= 1
        return self._vm_ended(run)

    def add(self, number: int, job: Job) -> None:
        """A VM of a policy in hand has become a job of the engine."""
        self._runs[job.policy].jobs.append(number)

    def problem(self, number: int, error: Error) -> None:
        """Expired snapshots of a job have to stay, and this is why."""
        self._problems[number] = error

    def job_ended(self, number: int) -> List[Served]:
        """A job has ended, be it one of a policy in hand or a leftover's."""
        job = self._engine.jobs[number]
        run = self._runs.get(job.policy)
        if run is None:
            return []
        self._context.log("Completed processing VM: %s" % job.uuid)
        self._done += 1
        self._context.say("[%d/%d] %s: %s" % (self._done, self._total, one_line(job.name, 60), self._result(number)))
        return self._vm_ended(run)

    def _result(self, number: int) -> str:
        error, destroyed = self._error(number), self._engine.states[number].destroyed
        result = "failed: %s" % one_line(" ".join(error), 200) if error else "ok"
        return result + (", %d expired" % destroyed if destroyed else "")

    def _error(self, number: int) -> Error:
        """The first error of a job; empty if it met none."""
        return self._engine.states[number].error or self._problems.get(number, ())

    def _vm_ended(self, run: _Run) -> List[Served]:
        run.unfinished -= 1
        return [] if run.unfinished else self._over(run.turn.policy.ref)

    def _over(self, policy: str) -> List[Served]:
        run = self._runs.pop(policy)
        mine = [(number, self._engine.jobs[number], self._engine.states[number]) for number in run.jobs]
        failed = [Victim(job.name, job.uuid, self._error(number)) for number, job, _ in mine if self._error(number)]
        return [
            Served(
                turn=run.turn,
                started=run.started,
                vms=len(mine) + len(run.victims),
                taken=sum(1 for _, job, state in mine if state.snapshot or not job.take),
                deleted=sum(state.destroyed for _, _, state in mine),
                victims=tuple(failed + run.victims),
                degraded=any(state.degraded for _, _, state in mine),
            )
        ]
