"""Serves the schedules that are due, in the order: what is due, the plan, the operations, their outcomes, the alert."""

from collections import deque
from typing import Deque, Dict, Iterable, Iterator, List, Optional, Sequence

from vmss.core.engine import Engine
from vmss.core.job import TAKES, Job, Operation
from vmss.core.messages import Victim
from vmss.core.outcome import OVERTAKEN, UNREADABLE, Outcome
from vmss.core.problem import EXIT_FAILED, EXIT_LOCKED, EXIT_OK, Problem
from vmss.core.pruning import Pruned
from vmss.core.served import Served, stopped_line, totals
from vmss.core.turn import Turn
from vmss.core.vms import Vm
from vmss.edges import stop
from vmss.edges.lock import Lock
from vmss.passes.agenda import Agenda, Batches
from vmss.passes.at_work import AtWork
from vmss.passes.context import Context
from vmss.passes.cut_off import notes_of
from vmss.passes.deletions import JOBS_AT_ONCE, Deletions
from vmss.passes.handover import Answer, Inbox
from vmss.passes.hold import PAUSE_S, Hold
from vmss.passes.in_hand import InHand
from vmss.passes.journal import Journal
from vmss.passes.kept import Kept
from vmss.passes.line import Line
from vmss.passes.loaded import load_all
from vmss.passes.measures import note_measures
from vmss.passes.operations import Operations
from vmss.passes.planning import Planned, Planner
from vmss.passes.read_back import ReadBack
from vmss.passes.retrying import jobs_again
from vmss.passes.telling import Teller

# Upper limit on one wait for events, so that a request to stop is seen.
_WAIT_S = 10.0
# An operation that takes longer, in seconds, and twice as long as expected, keeps no token that others could use; none
# does that takes longer than the second number. Then it counts as hanging, too, when the next slot of its policy comes,
# unless it was expected to take so long. xapi makes most snapshots in seconds.
_SLOW_S, _HANGS_S = 300.0, 900.0


class Service:
    """Serves policies side by side: the turns it is given, and those that become due meanwhile."""

    def __init__(
        self,
        context: Context,
        agenda: Agenda,
        batches: Batches,
        lock: Lock,
        journal: Journal,
        kept: Kept,
        teller: Teller,
        inbox: Inbox,
        sign: AtWork,
    ) -> None:
        load_all()
        self._sign = sign
        self._context = context
        self._agenda = agenda
        self._batches = batches
        self._lock = lock
        self._hold = Hold(context, lock, kept)
        self._left = left = kept.left_over
        self._notes = notes = kept.notes
        self._teller = teller
        self._inbox = inbox
        self._asked: Dict[str, str] = {}  # the ids of requests that were handed over, by policy
        self._engine = Engine(context.settings.max_operations, alone=kept.hooks.still_guests)
        self._in_hand = InHand(context, self._engine)
        self._deletions = Deletions(context, self._engine, journal, left, notes)
        self._hooks = kept.hooks
        self._operations = Operations(context, self._engine, notes, kept.frozen, kept.unplaced, kept.hooks)
        self._read_back = ReadBack(context, self._engine, notes)
        self._waiting = Line()
        self._next: Dict[str, Turn] = {}  # by policy in hand: its next slot, which has come meanwhile
        self._plans: Deque[Iterator[Planned]] = deque()  # of policies in hand, not yet at their end
        self.interrupted: List[Served] = []  # the runs that were not over when the pass was told to stop
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

    @property
    def pruned(self) -> Pruned:
        """What came of the deletions on request."""
        return self._in_hand.pruned()

    def serve(self, turns: Sequence[Turn], settled: bool, on_request: Optional[Iterable[Planned]] = None) -> bool:
        """Finish what earlier passes left over, serve these turns, and carry out these plans of deletions that somebody
        requests. Return whether all came to its end.

        `settled`: the operations of earlier passes have all ended.
        """
        self._line_up(turns)
        if on_request is not None:
            self._plans.append(iter(on_request))
        self._operations.resuming.see_to_earlier()
        self._deletions.resume_leftovers(settled)
        # Else it may be under way still; and a request to delete tries all that it is about by itself.
        if settled and on_request is None:
            self._engine.add(jobs_again(self._context, self._left, [turn.policy.ref for turn in turns]))
        complete = self._work_off()
        self._operations.finish()
        if complete:
            note_measures(self._context, self._engine, self._operations.took)
        else:
            self._interrupt()
        return complete

    def _work_off(self) -> bool:
        """Serve until all has come to its end, or the pass is told to stop. Return which of the two."""
        while True:
            self._watch_limits()
            self._pass_by()
            timeout, progress = _WAIT_S, False
            held = self._stop_by is not None or self._hold.is_firm()
            if not held:
                timeout = PAUSE_S
            elif self._stop_by is None:
                admitted = self._admit()
                planned = self._plan()
                pause = self._operations.resume()
                started = self._start()
                progress = admitted or planned or started
                timeout = 0.0 if planned else min(_WAIT_S, pause, self._seconds_to_admission())
            if self._count_taken():
                continue
            if self._operations.in_flight:
                if self._stop_by is not None and self._context.clock.monotonic() >= self._stop_by:
                    return False
                self._wait(timeout)
            elif self._engine.finished and not progress and held:
                break
            elif self._stop_by is not None:
                return False
            elif not progress and not self._operations.parked and held:
                self._context.log("Nothing is in flight, and nothing can be started: the pass ends")
                return False
            elif not progress:
                self._context.clock.sleep(timeout)
        return not (self._waiting or self._in_hand.policies or self._plans)

    def _interrupt(self) -> None:
        """The pass ends before its runs do. With those that are due the next one goes on, and tells of them; with those
        that were started by hand nobody does, so this one tells."""
        self._count_taken(at_once=True)
        self.interrupted = self._in_hand.interrupted()
        self._tell([served for served in self.interrupted if served.turn.forced])
        now = self._context.now()
        self.interrupted += [Served(turn, now, vms=len(turn.policy.vms), stopped=True) for turn in self._waiting]

    # What is due

    def _admit(self) -> bool:
        """Take in hand what is due, as far as there is room. Return whether anything was."""
        if self._context.too_late():
            return False
        if not self._agenda.seconds_to_tick():
            due = self._agenda.read()
            self._teller.restricted(due.restricted)
            self._line_up(due.turns)
        self._take_over_requests()
        for turn in self._waiting.take_late(self._context.now()) if self._waiting else ():
            self._teller.too_late(turn)
        admitted = False
        most = self._context.settings.max_policies
        while self._waiting and len(self._in_hand.policies) < most and self._hooks.may_admit():
            room = most - len(self._in_hand.policies)
            turns = self._waiting.take(room)
            self._batches.next()
            self._note_in_hand(turns)
            self._sign.show(lasting=True)  # before the first snapshot
            self._take_in_hand(turns)
            admitted = True
        return admitted

    def _line_up(self, turns: Sequence[Turn]) -> None:
        for turn in turns:
            slot = self._in_hand.slot(turn.policy.ref)
            if slot is not None and turn.slot > slot:
                self._next[turn.policy.ref] = turn
            elif slot is None:
                replaced = self._waiting.add(turn)
                if replaced is not None:
                    self._teller.missed_in_line(replaced, turn.slot)

    def _take_over_requests(self) -> None:
        """Put runs by hand that other processes ask for first in the line."""
        for asked in self._inbox.take(self._context.clock.now()):
            try:
                turn = self._agenda.by_hand(asked.policy, asked.missing)
            except Problem as problem:
                self._inbox.answer(asked.id, Answer(problem.status, str(problem)))
                continue
            ref = turn.policy.ref
            if self._in_hand.slot(ref) is not None or ref in self._waiting:
                self._inbox.answer(asked.id, Answer(EXIT_LOCKED, "the schedule is being served at this moment"))
            else:
                self._context.log("Asked for by hand: policy %s is served by this pass" % asked.policy)
                self._asked[ref] = asked.id
                self._waiting.add_first(turn)

    def _pass_by(self) -> None:
        """Let nothing wait for what hangs: neither operations on other SRs and hosts, nor the alert of a run for its
        deletions, nor the next slot of a policy for its run."""
        # In an order that does not depend on the process: what waits for them starts in it.
        for operation in sorted(self._operations.slow(_SLOW_S, most=_HANGS_S)):
            self._engine.release(operation)
        self._tell(self._in_hand.settled())
        hangs = self._operations.slow(_HANGS_S) if self._next else set()
        if self._next:
            self._count_taken(at_once=True)
        for policy, turn in list(self._next.items()):
            if self._in_hand.stalled(policy, hangs):
                waiting = self._in_hand.unsettled(policy)
                self._tell(self._in_hand.overtake(policy, turn.slot))
                self._engine.withdraw(waiting, (OVERTAKEN, "VM.snapshot"))
                self._end_hopeless()
                self._waiting.add(turn)

    def _take_in_hand(self, turns: Sequence[Turn]) -> None:
        now = self._context.now()
        turns = [turn._replace(begun=now) for turn in turns]
        planner = Planner(self._context, turns, now, self._notes.begun)
        vms: Dict[str, List[Vm]] = {turn.policy.ref: [] for turn in turns}
        for vm in planner.vms:
            vms[vm.policy].append(vm)
        self._hooks.expect(turns, planner.vms)
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
        self._in_hand.short.update(planned.short)
        for vm in planned.misread:
            self._tell(self._in_hand.victim(vm.policy, Victim(vm.name, vm.uuid, (UNREADABLE, vm.misread))))
        jobs = list(self._without_doubles(planned.jobs))
        numbers = self._engine.add(jobs, planned.tight)
        for number, job in zip(numbers, jobs):
            self._in_hand.add(number, job)
            if job.vm in planned.spared:
                self._in_hand.problem(number, (UNREADABLE, planned.spared[job.vm]))
        for number in numbers:
            if self._engine.states[number].done:  # it has its snapshot, and nothing of it expires
                self._job_ended(number)

    def _without_doubles(self, jobs: Sequence[Job]) -> Iterator[Job]:
        """These jobs, without what goes on for an earlier run of this pass: a VM whose snapshot still hangs gets no
        second one, and where expired snapshots are still being deleted, the younger ones are left to the next run."""
        being_taken, being_expired = self._engine.being_taken, self._engine.being_expired
        for job in jobs:
            if job.take and job.vm in being_taken:
                victim = Victim(job.name, job.uuid, (OVERTAKEN, job.take))
                self._tell(self._in_hand.victim(job.policy, victim))
            else:
                yield job._replace(expired=()) if job.vm in being_expired else job

    # The operations

    def _start(self) -> bool:
        """Start whatever may start, and record what has to be recorded for more to start. Return whether anything was
        started."""
        started = False
        while self._hold.is_firm():
            operations = self._engine.start()
            stopped = self._deletions.stopped(operations)
            for operation in operations:
                outcome = stopped.get(operation) or self._operations.start(operation)
                if outcome is not None:
                    self._operation_ended(operation, outcome)
            prepared = list(self._operations.prepared())
            for operation, outcome in prepared:
                if outcome is not None:
                    self._operation_ended(operation, outcome)
            if operations or prepared:
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
        return started

    def _wait(self, timeout: float) -> None:
        if self._stop_by is not None:
            timeout = min(timeout, max(0.0, self._stop_by - self._context.clock.monotonic()))
        for operation, outcome in self._operations.wait(timeout):
            self._operation_ended(operation, outcome)

    def _watch_limits(self) -> None:
        """See whether the pass was told to stop, has lost its lock, or has reached its limit."""
        self._operations.enforce_pass_limit()
        if self._stop_by is None and (stop.requested() or self._hold.lost):
            self._stop_by = self._context.clock.monotonic() + self._context.settings.stop_limit
            self._hooks.stop()
            line = "%s: nothing new is started; operations in flight: %d, with up to %d s to end" % (
                "Another pass has the lock" if self._hold.lost else "Told to stop",
                len(self._engine.running),
                self._context.settings.stop_limit,
            )
            self._context.log(line)
            self._context.say(line)

    # The outcomes

    def _operation_ended(self, operation: Operation, outcome: Outcome) -> None:
        if operation.action in TAKES and not outcome.error:
            self._read_back.add(operation, outcome)
        else:
            self._end(operation, outcome)

    def _count_taken(self, at_once: bool = False) -> bool:
        """Read the snapshots back that were taken, if it is time. Return whether any was."""
        outcomes = self._read_back.read(at_once)
        for operation, outcome in outcomes:
            self._end(operation, outcome)
        return bool(outcomes)

    def _end(self, operation: Operation, outcome: Outcome) -> None:
        self._deletions.operation_ended(operation, outcome)
        settled = self._engine.settled(operation.job)
        number = self._engine.end(operation, outcome)
        if not settled and self._engine.settled(operation.job):
            self._in_hand.snapshot_ended(operation.job)
        if number is not None:
            self._job_ended(number)
        self._end_hopeless()

    def _end_hopeless(self) -> None:
        for operation, outcome in self._engine.hopeless():
            if self._operations.over:  # what was cancelled for that says nothing about its storage
                outcome = self._operations.start(operation) or outcome
            self._operation_ended(operation, outcome)

    def _job_ended(self, number: int) -> None:
        self._deletions.job_ended(number)
        self._in_hand.left_suspended(number, self._operations.resuming.left(self._engine.jobs[number].uuid))
        self._tell(self._in_hand.job_ended(number))

    # The alert

    def _tell(self, over: Sequence[Served]) -> None:
        for served in over:
            self._teller.run_is_over(served)
            self._agenda.served(served.turn)
            self._next.pop(served.turn.policy.ref, None)
            asked = self._asked.pop(served.turn.policy.ref, None)
            if asked is not None:
                line = stopped_line(self.progress(), [served]) if served.dropped else totals([served])
                self._inbox.answer(asked, Answer(EXIT_FAILED if served.victims else EXIT_OK, line))
        if over:
            self._note_in_hand()

    def _note_in_hand(self, more: Sequence[Turn] = ()) -> None:
        turns = self._in_hand.turns + list(more)
        self._lock.working_on([turn.policy.uuid for turn in turns], notes_of(turns))
