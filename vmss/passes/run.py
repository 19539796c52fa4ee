"""One pass over the pool, from the lock to the lock, in the order of the vendor's article CTX224169."""

import os
from collections import deque
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Deque, List, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core import messages
from vmss.core.datetimes import format_datetime, local, parse_reading
from vmss.core.messages import Victim
from vmss.core.policy import Policy
from vmss.core.problem import EXIT_FAILED, EXIT_LOCKED, EXIT_OK, BadInput, UnknownPolicy
from vmss.core.schedule import latest_slot, next_slot, next_tick
from vmss.core.text import one_line, quoted
from vmss.core.turn import Served, Turn
from vmss.edges import seal, sessions, world
from vmss.edges.alerts import Alerts
from vmss.edges.clock import Clock, RemoteClock
from vmss.edges.lock import Held, Lock, LockDirectory
from vmss.edges.log import Log
from vmss.edges.sessions import NoSession
from vmss.edges.settings import of_pool
from vmss.edges.surroundings import Surroundings, on_coordinator
from vmss.edges.xapi import Refused, Unanswered, Xapi, understood
from vmss.edges.zones import time_zone
from vmss.passes.journal import Journal

if TYPE_CHECKING:
    from vmss.passes.in_hand import Service
    from vmss.passes.orphans import Found, Notes


class Request(NamedTuple):
    """What a pass is asked for: one policy by its uuid whatever its schedule, or all that are due.

    `dry_run`: say what would be done, and change nothing. `at`: set a simulator's clock to this first, or
    with `dry_run` take it for the time. `kicked`: cron did it.
    """

    policy: Optional[str] = None
    dry_run: bool = False
    at: Optional[datetime] = None
    kicked: bool = False


class Report(NamedTuple):
    """How a pass ended: an exit status, one line that says it, and the policies that were served."""

    status: int
    line: str
    served: Tuple[Served, ...] = ()


class Look(NamedTuple):
    """One look at all policies: those that are due, those that are not, and those that make no sense."""

    turns: List[Turn]
    idle: List[Policy]
    errors: List[Tuple[str, str]]


def run(request: Request, around: Surroundings) -> Report:
    """Carry out one pass. Raise a Problem where it could not begin."""
    if around.place.local and not on_coordinator():
        return Report(EXIT_OK, "this host is not the pool's coordinator: nothing to do")
    clock = around.clock or Clock()
    # A rehearsal leaves no trace: what it has to warn of goes to standard error.
    log = Log(None if request.dry_run else around.place.log, clock.now, time_zone(around.settings.timezone or None))
    try:
        if request.kicked:
            log("===Kicking cron job for VMSS===")
        return _in_session(request, around, clock, log)
    finally:
        log.close()


def _in_session(request: Request, around: Surroundings, clock: Clock, log: Log) -> Report:
    place, settings = around.place, around.settings
    xapi = Xapi(place.xapi, settings.verify_tls, settings.ca_file, settings.call_limit, around.transport)
    if not xapi.unix and not request.dry_run:
        raise BadInput(
            "VMSS_XAPI: %s can be read (--dry-run), but snapshots have to be taken in dom0 of the coordinator, over "
            "xapi's unix socket: from elsewhere xapi does not mark them as scheduled" % quoted(place.xapi)
        )
    directory = None if request.dry_run else LockDirectory(place.lock_dir)
    try:
        try:
            sessions.log_in(xapi, place, settings, clock, around.say)
        except NoSession as error:
            if directory is not None:
                sessions.remember_failure(directory, place, clock, log, error)
            raise
        note = None if directory is None else sessions.note_login(xapi, directory, place, log)
        try:
            one_pass = Pass(request, around, clock, log, xapi)
            return one_pass.rehearse() if directory is None else one_pass.whole(directory)
        except (Unanswered, Refused) as error:
            # Of what concerns one VM or one policy the pass takes care; this is about the session itself.
            log("The pass ends here: %s" % error)
            raise NoSession("%s: %s" % (one_line(place.xapi), error))
        finally:
            sessions.log_out(xapi)
            if note is not None:
                note.close(settled=not xapi.session)
    finally:
        xapi.close()
        if directory is not None:
            directory.close()


class Pass:
    """A pass within its session."""

    def __init__(self, request: Request, around: Surroundings, clock: Clock, log: Log, xapi: Xapi) -> None:
        self.request = request
        self.around = around
        self.log = log
        self.xapi = xapi
        self.pending: List[str] = []  # tasks that have not ended when the pass does
        self.lost = False  # whether there may be one more
        self.progress = ""  # how far a pass came that was stopped
        self.owing = False  # an alert that could not be stored
        self.pool = world.read_pool(xapi)
        self.settings, mistakes = of_pool(around.settings, self.pool.other_config)
        for mistake in mistakes:
            log("pool.other_config: %s (ignored)" % mistake)
        log.zone = time_zone(self.settings.timezone or None)
        self.clock = self._clock(clock)
        log.now = self.clock.now
        self.alerts = Alerts(xapi, self.clock, log)
        self.settled = True  # whether all operations of earlier passes have ended
        self.notes: Optional[Notes] = None  # of what is begun and may be lost
        self.orphans: List[Found] = []  # that no alert has told of
        self.served: List[Served] = []
        self.changed = False  # anything in the pool, since the last look at what is due
        self.waiting_since = self.clock.now()
        self.known: Optional[Set[str]] = None  # policies that were there when the pass began
        self.batches = 0
        self.next_look = self.clock.now()
        self.began = self.clock.monotonic()

    def _clock(self, clock: Clock) -> Clock:
        if self.request.at is not None and not self.request.dry_run:
            try:
                self.xapi.call("simulator.set_time", format_datetime(self.request.at))
            except Refused:
                raise BadInput(
                    "--at: only a simulator's clock can be set; with --dry-run it is the time to suppose, anywhere"
                )
        if self.around.clock is not None or self.around.place.local:
            return clock
        with understood("host.get_servertime"):
            return RemoteClock(parse_reading(self.xapi.call("host.get_servertime", self.pool.coordinator)))

    def whole(self, directory: LockDirectory) -> Report:
        """The pass, from the lock to the lock."""
        holder = {"pid": os.getpid(), "since": format_datetime(self.clock.now()), "session": self.xapi.session}
        try:
            lock = directory.acquire(self.pool.uuid, holder)
        except Held as held:
            return self.put_off(held, directory)
        complete = False
        key = partial(seal.key, self.pool.uuid, self.around.place.local, directory)
        self.journal = Journal(self.xapi, self.pool, key)
        try:
            self.take_over(directory, lock)
            self.find_orphans(directory)
            look = self.look(self.request.policy)
            self.around.started()
            self.logon_failures(directory, look.turns)
            complete = self.serve(look, lock, directory)
            # A run that holds the lock makes others come back later. So before it gives the lock back it looks
            # once more for what became due meanwhile.
            while complete and self.changed:
                self.sync_database()
                if self.too_late():
                    break
                look = self.look()
                complete = self.serve(look, lock, directory, again=True)
        finally:
            try:
                # The session first: until the lock is given back, the next pass would find it there.
                if self.pending or self.lost:
                    sessions.leave_open(self.xapi, directory, self.pool.uuid, self.pending, self.log)
                sessions.log_out(self.xapi)
                if self.xapi.session:  # the logout was refused, or its answer lost
                    sessions.leave_open(self.xapi, directory, self.pool.uuid, [], self.log)
            finally:
                # Too late to look once more, it leaves to the next pass what has become due.
                done = complete and not self.owing and not self.too_late()
                lock.release(None if done else {"since": format_datetime(self.waiting_since)})
        return self.report(complete)

    def take_over(self, directory: LockDirectory, lock: Lock) -> None:
        """See to what passes before this one have left: their sessions, and ticks that nobody could serve."""
        self.settled = sessions.close_old(self.xapi, directory, self.around.place, self.pool.uuid, lock.died, self.log)
        failures = sessions.failures(directory, self.around.place)
        if failures is not None:
            self.waiting_since = min(self.waiting_since, failures[0])
        if lock.before:
            with suppress(ValueError):
                self.waiting_since = min(self.waiting_since, parse_reading(lock.before.get("since")))

    def find_orphans(self, directory: LockDirectory) -> None:
        """See to what a xapi that died may have left of snapshots that passes before this one began."""
        if self.settled and directory.read(self.pool.uuid + ".taking"):
            from vmss.passes import orphans

            limit = max(self.settings.snapshot_limit, self.settings.checkpoint_limit) + self.settings.cancel_limit
            self.orphans = orphans.look(
                self.xapi,
                self.notes_in(directory),
                self.journal,
                self.pool.coordinator,
                limit,
                self.clock.now(),
                self.log,
            )

    def notes_in(self, directory: LockDirectory) -> "Notes":
        """What passes note of snapshots that are begun."""
        from vmss.passes.orphans import Notes

        self.notes = self.notes or Notes(directory, self.pool.uuid, self.log)
        return self.notes

    # What is due

    def too_late(self) -> bool:
        """Whether this pass takes nothing more in hand: one whose work never ends could not be told from one that
        hangs."""
        return self.clock.monotonic() >= self.began + self.settings.pass_limit / 2

    def look(self, wanted: Optional[str] = None, put_off: bool = False) -> Look:
        """Go through all policies and find those whose turn it is: the due ones, or the one that is wanted. A pass that
        is `put_off` leaves it to the other one to tell them of the licence."""
        self.next_look = next_tick(self.now())
        policies, errors = world.read_policies(self.xapi)
        turns = [self.wanted(wanted, policies, errors)] if wanted else self.due(policies)
        due = {turn.policy.ref for turn in turns}
        if not self.pool.licensed:
            if not put_off:
                self.restricted(turns)
            turns = []
        return Look(turns, [policy for policy in policies if policy.ref not in due], errors)

    def due(self, policies: Sequence[Policy]) -> List[Turn]:
        """The turns of the policies that are due and were not served by this very pass."""
        now = self.now()
        done = {served.turn.policy.ref: served.turn.slot for served in self.served}
        turns = []
        for policy in policies:
            if policy.last_run is not None and policy.last_run > now:
                self.log(
                    "Warning: the last run of policy %s, %s, lies in the future: taken as never"
                    % (policy.uuid, format_datetime(policy.last_run))
                )
            # One that never ran is late, not lost, if its tick was another's; not if it is newer than that.
            since = self.waiting_since if self.known is None or policy.ref in self.known else None
            slot = policy.due(self.log.zone, now, since)
            if slot is not None and (policy.ref not in done or done[policy.ref] < slot):
                turns.append(Turn(policy, slot))
        if self.known is None:
            self.known = {policy.ref for policy in policies}
        return turns

    def wanted(self, uuid: str, policies: Sequence[Policy], errors: Sequence[Tuple[str, str]]) -> Turn:
        """The turn of the policy that was asked for, whatever its schedule."""
        for policy in policies:
            if policy.uuid == uuid:
                return Turn(policy, latest_slot(policy.schedule, self.log.zone, self.now()), forced=True)
        for broken, error in errors:
            if broken == uuid:
                raise BadInput("snapshot schedule %s cannot be understood: %s" % (uuid, error))
        raise UnknownPolicy("no snapshot schedule of this pool has the uuid %s" % quoted(uuid))

    def now(self) -> datetime:
        """The time of the pass: its clock's, or the one it was told to suppose."""
        return self.request.at if self.request.at is not None and self.request.dry_run else self.clock.now()

    # Serving it

    def serve(self, look: Look, lock: Lock, directory: LockDirectory, again: bool = False) -> bool:
        """Serve the policies that are due, those too that become due meanwhile, and finish what an earlier pass has
        recorded. Return whether all came to its end."""
        if not again:
            self.log("No of Policies: %d" % (len(look.turns) + len(look.idle) + len(look.errors)))
            self.log("Max number of threads allocated for policy : %d" % self.settings.max_policies)
            for uuid, error in look.errors:
                self.log("Not processing policy: %s (%s)" % (uuid, error))
        idle = [] if again else list(look.idle)
        if idle and not look.turns:
            self.open_batch(idle)
        if not look.turns and not self.journal.any_left:
            return True  # most ticks end here
        from vmss.passes.in_hand import Context, Service  # what only a pass needs that has something to do

        waiting = deque(look.turns)
        context = Context(
            self.xapi,
            self.pool,
            self.settings,
            self.clock,
            self.log,
            self.journal,
            self.notes_in(directory),
            self.around.say,
            self.began + self.settings.pass_limit,
            not self.settled,
        )
        service = Service(context, self.finish, lambda: self.admit(service, lock, waiting, idle))
        try:
            # Told to stop before it has admitted all, it is through with what it has in hand, and yet not complete.
            complete = service.serve() and not waiting
        finally:
            self.pending += service.pending
            self.lost = self.lost or service.lost
            self.changed = self.changed or service.changed
        if not complete:
            self.progress = service.progress()
        return complete

    def admit(self, service: "Service", lock: Lock, waiting: Deque[Turn], idle: List[Policy]) -> float:
        """Admit what has become due, as far as there is room. Return the seconds until the next look."""
        if self.too_late():
            return float(self.settings.pass_limit)  # not in this pass
        if self.now() >= self.next_look:
            known = {policy.ref for policy in service.in_hand} | {turn.policy.ref for turn in waiting}
            waiting.extend(turn for turn in self.look().turns if turn.policy.ref not in known)
        while waiting and len(service.in_hand) < self.settings.max_policies:
            room = self.settings.max_policies - len(service.in_hand)
            turns = [waiting.popleft() for _ in range(min(room, len(waiting)))]
            self.open_batch(idle)
            lock.working_on([policy.uuid for policy in service.in_hand] + [turn.policy.uuid for turn in turns])
            service.admit(turns, self.now())
        return max(0.0, (self.next_look - self.now()).total_seconds())

    def open_batch(self, idle: List[Policy]) -> None:
        """Log that a batch begins; and once, which policies have to wait for another time."""
        self.log("Policy Batch: %d" % self.batches)
        self.batches += 1
        while idle:
            self.log("Not processing policy: %s" % idle.pop(0).uuid)

    def finish(self, served: Served) -> None:
        """One policy's run is over: the alert, then last-run-time, in this order, so that a crash between the
        two repeats an alert rather than losing one."""
        policy, zone, ended = served.turn.policy, self.log.zone, self.clock.now()
        self.log(
            "snapshot start time: %s, end time: %s, Last expected run time: %s"
            % (local(served.started, zone), local(ended, zone), local(served.turn.slot, zone))
        )
        summary = served.summary(zone) + self.told_of_orphans()
        if served.victims:
            raised = self.alerts.create(messages.FAILED, policy.uuid, messages.failed_body(served.victims, summary))
        else:
            raised = self.alerts.create(messages.SUCCEEDED, policy.uuid, messages.body(messages.SUCCEEDED, summary))
        if served.degraded:
            self.log("%s: %s" % (messages.NOT_QUIESCED, messages.SENTENCES[messages.NOT_QUIESCED]))
            self.alerts.create_once(
                messages.NOT_QUIESCED,
                policy.uuid,
                messages.body(messages.NOT_QUIESCED, summary),
                ended - timedelta(days=1),
            )
        self.missed(served, ended)
        if raised:
            self.set_last_run_time(policy, ended)
        else:
            self.owing = True  # the next pass finds the policy due still, and tries again
        self.log("Completed processing policy: %s" % policy.uuid)
        self.served.append(served)
        self.changed = True

    def told_of_orphans(self) -> str:
        """A sentence about disks that were found: in the first alert of the pass."""
        if not self.orphans:
            return ""
        from vmss.passes.orphans import summary

        found, self.orphans = self.orphans, []
        return summary(found)

    def missed(self, served: Served, ended: datetime) -> None:
        """Slots of the policy that passed while it was running are missed."""
        policy = served.turn.policy
        slots: List[str] = []
        slot = next_slot(policy.schedule, self.log.zone, served.started)
        while slot <= ended and policy.enabled and len(slots) <= 10:
            slots.append(local(slot, self.log.zone))
            slot = next_slot(policy.schedule, self.log.zone, slot)
        if slots:
            self.alerts.create(
                messages.MISSED_EVENT,
                policy.uuid,
                messages.body(
                    messages.MISSED_EVENT, "Missed: %s." % ", ".join(slots[:10] + ["and more"] * (len(slots) > 10))
                ),
            )

    def set_last_run_time(self, policy: Policy, ended: datetime) -> None:
        """Note, in UTC, when the policy's run ended."""
        try:
            self.xapi.call("VMSS.set_last_run_time", policy.ref, format_datetime(ended))
        except Refused as refused:
            self.log("last-run-time of policy %s could not be set: %s" % (policy.uuid, refused))

    def sync_database(self) -> None:
        """xapi writes its database every five minutes; what we destroyed must not come back if it dies."""
        self.changed = False
        try:
            self.xapi.call("pool.sync_database")
            if self.notes:
                self.notes.written()
        except Refused as refused:
            self.log("The pool's database could not be written: %s" % refused)

    # What keeps a policy from being served

    def put_off(self, held: Held, directory: LockDirectory) -> Report:
        """Another run holds the lock: the policies that are due and that it has not in hand are late, and each is
        told of it once a slot."""
        self.log("The lock is taken: %s" % held)
        turns = self.look(self.request.policy, put_off=True).turns
        # Last: the other run looks for what is due at the same instant as we do.
        in_hand = (directory.holder(self.pool.uuid) or held.holder).get("policies")
        # In turn: of several that are put off at the same instant, the second has to find the alert of the first.
        with directory.in_turn(self.pool.uuid):
            for turn in turns:
                text = messages.body(messages.LOCK_FAILED, "%s has to wait: %s." % (quoted(turn.policy.name), held))
                if turn.forced:
                    self.alerts.create(messages.LOCK_FAILED, turn.policy.uuid, text)
                elif not isinstance(in_hand, list) or turn.policy.uuid not in in_hand:
                    self.alerts.create_once(messages.LOCK_FAILED, turn.policy.uuid, text, turn.slot)
        return Report(EXIT_LOCKED, str(held))

    def restricted(self, turns: Sequence[Turn]) -> None:
        """The pool's licence has no scheduled snapshots: each policy that was due is told of it once a slot."""
        for turn in turns:
            victim = Victim(turn.policy.name, turn.policy.uuid, ("LICENCE_RESTRICTION", "VMSS"))
            self.served.append(Served(turn, self.clock.now(), victims=(victim,)))
            if not self.request.dry_run:
                text = messages.body(
                    messages.LICENSE_ERROR, "No snapshots were taken for %s." % quoted(turn.policy.name)
                )
                self.alerts.create_once(messages.LICENSE_ERROR, turn.policy.uuid, text, turn.slot)

    def logon_failures(self, directory: LockDirectory, turns: Sequence[Turn]) -> None:
        """Earlier ticks could not log in: tell the policies that waited for them."""
        failures = sessions.failures(directory, self.around.place)
        if failures is None:
            return
        since, last = failures
        for turn in turns:
            if turn.slot <= last:
                self.alerts.create(
                    messages.LOGON_FAILURE,
                    turn.policy.uuid,
                    messages.body(
                        messages.LOGON_FAILURE,
                        "No session from %s to %s." % (local(since, self.log.zone), local(last, self.log.zone)),
                    ),
                )
        sessions.forget_failures(directory, self.log)

    # Reports

    def rehearse(self) -> Report:
        """Say what a pass would do now, and change nothing."""
        from vmss.core.plan import lines
        from vmss.passes.planning import Planner

        look = self.look(self.request.policy)
        for start in range(0, len(look.turns), self.settings.max_policies):
            turns = look.turns[start : start + self.settings.max_policies]
            planner = Planner(self.xapi, self.pool, self.log, turns, self.now())
            for line in lines([job for planned in planner.plans() for job in planned.jobs], turns):
                self.around.say(line)
        return Report(
            EXIT_OK,
            "policies that would run: %d of %d; nothing was changed"
            % (len(look.turns), len(look.turns) + len(look.idle) + len(look.errors)),
        )

    def report(self, complete: bool) -> Report:
        """How the pass ended."""
        failed = sum(len(served.victims) for served in self.served)
        line = "policies served: %d, VMs snapshotted: %d of %d, expired snapshots deleted: %d, VMs with errors: %d" % (
            len(self.served),
            sum(served.taken for served in self.served),
            sum(served.vms for served in self.served),
            sum(served.deleted for served in self.served),
            failed,
        )
        if not complete:
            stopped = "stopped before the end: %s, the next pass goes on with the rest; " % self.progress
            return Report(EXIT_FAILED, stopped + line, tuple(self.served))
        return Report(
            EXIT_FAILED if failed else EXIT_OK, line if self.served else "no policy is due", tuple(self.served)
        )
