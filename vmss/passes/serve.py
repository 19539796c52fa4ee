"""Serves the schedules that are due, in the order: what is due, the plan, the operations, their outcomes, the alert."""

from collections import deque
from typing import Deque, Dict, Iterator, List, Optional, Sequence

from vmss.core import plan
from vmss.core.engine import Engine
from vmss.core.job import Operation
from vmss.core.outcome import UNREADABLE, Outcome
from vmss.core.turn import Served, Turn
from vmss.core.vms import Vm
from vmss.edges import stop
from vmss.edges.lock import Lock
from vmss.edges.vms import note_took
from vmss.passes.agenda import Agenda, Batches
from vmss.passes.context import Context
from vmss.passes.deletions import JOBS_AT_ONCE, Deletions
from vmss.passes.in_hand import InHand
from vmss.passes.journal import Journal
from vmss.passes.left_over import LeftOver
from vmss.passes.notes import Notes
from vmss.passes.operations import Operations
from vmss.passes.planning import Planned, Planner
from vmss.passes.retrying import jobs_again
from vmss.passes.telling import Teller

# Upper limit on one wait for events, so that a request to stop is seen.
_WAIT_S = 10.0


class Service:
    """Serves policies side by side: the turns it is given, and those that become due meanwhile."""

    def __init__(
        self,
        context: Context,
        agenda: Agenda,
        batches: Batches,
        lock: Lock,
        journal: Journal,
        left: LeftOver,
        notes: Notes,
        teller: Teller,
    ) -> None:
        self._context = context
        self._agenda = agenda
        self._batches = batches
        self._lock = lock
        self._left = left
        self._notes = notes
        self._teller = teller
        self._engine = Engine(context.settings.max_operations, plain_instead=context.settings.quiesce == "snapshot")
        self._in_hand = InHand(context, self._engine)
        self._deletions = Deletions(context, self._engine, journal, left, notes)
        self._operations = Operations(context, self._engine, notes)
        self._waiting: Deque[Turn] = deque()  # due, and not yet in hand
        self._plans: Deque[Iterator[Planned]] = deque()  # of policies in hand, not yet at their end
        self._stop_by: Optional[float] = None  # on the monotonic clock, once the pass was told to stop

    @property
    def worked(self) -> bool:
        """Whether any operation was started."""
        return self._operations.worked

    @property
    def changed(self) -> bool:
        """Whether anything in the pool was changed that has to be on the coordinator's disk."""
        return self._operations.changed

    @property
    def lost(self) -> bool:
        """Whether the answer to a start was lost, so that there may be one more task than `pending` knows."""
        return self._operations.lost

    @property
    def pending(self) -> List[str]:
        """The tasks that have not ended."""
        return self._operations.pending

    def progress(self) -> str:
        """How far it has come, in words."""
        return self._in_hand.progress()

    def serve(self, turns: Sequence[Turn], settled: bool) -> bool:
        """Finish what earlier passes left over, and serve these turns. Return whether all came to its end.

        `settled`: the operations of earlier passes have all ended.
        """
        self._waiting.extend(turns)
        self._deletions.resume_leftovers(settled)
        if settled:  # else it may be under way still
            self._engine.add(jobs_again(self._context, self._left, [turn.policy.ref for turn in turns]))
        while True:
            self._watch_limits()
            timeout, progress = _WAIT_S, False
            if self._stop_by is None:
                admitted = self._admit()
                planned = self._plan()
                pause = self._operations.resume()
                started = self._start()
                progress = admitted or planned or started
                timeout = 0.0 if planned else min(_WAIT_S, pause, self._seconds_to_admission())
            if self._operations.in_flight:
                if self._stop_by is not None and self._context.clock.monotonic() >= self._stop_by:
                    return False
                self._wait(timeout)
            elif self._engine.finished and not progress:
                break
            elif self._stop_by is not None:
                return False
            elif not progress and self._operations.parked:
                self._context.clock.sleep(timeout)
        if self._waiting or self._in_hand.policies:
            return False
        self._note_durations()
        return True

    # What is due

    def _admit(self) -> bool:
        """Take in hand what is due, as far as there is room. Return whether anything was."""
        if self._context.too_late():
            return False
        if not self._agenda.seconds_to_tick():
            due = self._agenda.read()
            self._teller.restricted(due.restricted)
            known = {policy.ref for policy in self._in_hand.policies} | {turn.policy.ref for turn in self._waiting}
            self._waiting.extend(turn for turn in due.turns if turn.policy.ref not in known)
        admitted = False
        while self._waiting and len(self._in_hand.policies) < self._context.settings.max_policies:
            room = self._context.settings.max_policies - len(self._in_hand.policies)
            turns = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
            in_hand = self._in_hand.policies + [turn.policy for turn in turns]
            self._batches.next()
            self._lock.working_on([policy.uuid for policy in in_hand])
            self._take_in_hand(turns)
            admitted = True
        return admitted

    def _take_in_hand(self, turns: Sequence[Turn]) -> None:
        now = self._context.now()
        planner = Planner(self._context, turns, now)
        vms: Dict[str, List[Vm]] = {turn.policy.ref: [] for turn in turns}
        for vm in planner.vms:
            vms[vm.policy].append(vm)
        for turn in turns:
            self._tell(self._in_hand.admit(turn, vms[turn.policy.ref], now))
        self._plans.append(planner.plans())

    def _seconds_to_admission(self) -> float:
        return _WAIT_S if self._context.too_late() else self._agenda.seconds_to_tick()

    # The plan

    def _plan(self) -> bool:
        """Plan one group of VMs. Return whether there was one."""
        self._notes.read_disks(self._context.xapi, self._context.clock.now())
        while self._plans:
            planned = next(self._plans[0], None)
            if planned is not None:
                self._take_over(planned)
                return True
            self._plans.popleft()
        return False

    def _take_over(self, planned: Planned) -> None:
        for vm in planned.misread:
            self._tell(self._in_hand.misread(vm))
        numbers = self._engine.add(planned.jobs, planned.tight)
        for number, job in zip(numbers, planned.jobs):
            self._in_hand.add(number, job)
            if job.vm in planned.spared:
                self._in_hand.problem(number, (UNREADABLE, planned.spared[job.vm]))
        for number in numbers:
            if self._engine.states[number].done:  # it has its snapshot, and nothing of it expires
                self._job_ended(number)

    # The operations

    def _start(self) -> bool:
        """Start whatever may start, and record what has to be recorded for more to start. Return whether anything was
        started."""
        started = False
        while True:
            operations = self._engine.start()
            stopped = self._deletions.stopped(operations)
            for operation in operations:
                outcome = stopped.get(operation) or self._operations.start(operation)
                if outcome is not None:
                    self._operation_ended(operation, outcome)
            if operations:
                started = True
                continue  # what was refused at once has made room for others
            jobs = self._engine.to_record(JOBS_AT_ONCE)
            if not jobs:
                return started
            ended = self._deletions.record(jobs)
            for number, error in self._deletions.problems:
                self._in_hand.problem(number, error)
            for number in ended:
                self._job_ended(number)

    def _wait(self, timeout: float) -> None:
        if self._stop_by is not None:
            timeout = min(timeout, max(0.0, self._stop_by - self._context.clock.monotonic()))
        for operation, outcome in self._operations.wait(timeout):
            self._operation_ended(operation, outcome)

    def _watch_limits(self) -> None:
        """See whether the pass was told to stop, or has reached its limit."""
        self._operations.enforce_pass_limit()
        if self._stop_by is None and stop.requested():
            self._stop_by = self._context.clock.monotonic() + self._context.settings.stop_limit
            line = "Told to stop: nothing new is started; operations in flight: %d, with up to %d s to end" % (
                len(self._engine.running),
                self._context.settings.stop_limit,
            )
            self._context.log(line)
            self._context.say(line)

    # The outcomes

    def _operation_ended(self, operation: Operation, outcome: Outcome) -> None:
        self._deletions.operation_ended(operation, outcome)
        number = self._engine.end(operation, outcome)
        if number is not None:
            self._job_ended(number)

    def _job_ended(self, number: int) -> None:
        self._deletions.job_ended(number)
        self._tell(self._in_hand.job_ended(number))

    # The alert

    def _tell(self, over: Sequence[Served]) -> None:
        for served in over:
            self._teller.run_is_over(served)
            self._agenda.served(served.turn)

    def _note_durations(self) -> None:
        """Note at the VMs how long their snapshots took, so that the next pass knows which SR has most work. Last, when
        no SR waits for us."""
        for number, seconds in self._operations.took.items():
            job = self._engine.jobs[number]
            if plan.worth_noting(job, seconds):
                note_took(self._context.xapi, job.vm, seconds)
