"""One pass over the pool, from the lock to the lock, in the order of the vendor's article CTX224169."""

import os
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Union

from vmss.core.datetimes import format_datetime
from vmss.core.problem import EXIT_LOCKED, EXIT_OK, BadInput
from vmss.core.records import AT_WORK, BEGUN, FROZEN_PREFIX, FROZEN_SUFFIX, HOOKS_SUFFIX
from vmss.core.text import one_line, quoted
from vmss.edges import sessions
from vmss.edges.clock import Clock
from vmss.edges.lock import Held, Lock, LockDirectory
from vmss.edges.log import Log
from vmss.edges.sessions import NoSession
from vmss.edges.surroundings import Surroundings, on_coordinator
from vmss.edges.xapi import Refused, Unanswered, Xapi
from vmss.edges.zones import set_zone
from vmss.passes.agenda import Agenda, Batches, Due
from vmss.passes.context import Context, read_context
from vmss.passes.journal import LEFT_OVER, Journal
from vmss.passes.put_off import first_put_off, seen_by_rehearsal
from vmss.passes.request import Report, Request, ended
from vmss.passes.telling import Teller

if TYPE_CHECKING:
    from vmss.core.pruning import Prune, Pruned
    from vmss.core.served import Served
    from vmss.passes.at_work import AtWork
    from vmss.passes.kept import Kept
    from vmss.passes.latecomer import Latecomer
    from vmss.passes.planning import Planned
    from vmss.passes.serve import Service


_NOT_HERE = Report(EXIT_OK, "this host is not the pool's coordinator: nothing to do")


def run(request: Request, around: Surroundings) -> Report:
    """Carry out one pass. Raise a Problem if it could not begin."""
    if around.place.local and not on_coordinator():
        return _NOT_HERE
    clock = around.clock or Clock()
    # A rehearsal leaves no trace: its warnings go to standard error.
    log = Log(None if request.dry_run else around.place.log, clock.now, set_zone(around.settings.timezone))
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
        from vmss.passes.rehearsal import why_nothing_else

        why = why_nothing_else(prunes=request.prune is not None)
        raise BadInput("VMSS_XAPI: %s can be read (--dry-run), but %s" % (quoted(place.xapi), why))
    directory = None if request.dry_run else LockDirectory(place.lock_dir)
    try:
        try:
            sessions.log_in(xapi, place, settings, clock, around.waits)
        except NoSession as error:
            if directory is not None:
                sessions.record_failed_login(directory, place, clock, log, error)
            raise
        note = None if directory is None else sessions.note_login(xapi, directory, place, log)
        try:
            # The role may have moved while the login was tried again. A member lets its own processes log in, with the
            # new coordinator; but the lock that keeps two passes apart is in the new one's dom0.
            moved = place.local and not on_coordinator()
            return _NOT_HERE if moved else _carried_out(request, around, xapi, log, directory)
        finally:
            try:
                sessions.log_out(xapi)
            finally:
                if note is not None:
                    note.close(settled=not xapi.session)
    finally:
        xapi.close()
        if directory is not None:
            directory.close()


def _carried_out(
    request: Request, around: Surroundings, xapi: Xapi, log: Log, directory: Optional[LockDirectory]
) -> Report:
    """The pass; its rehearsal, if there is no directory for the lock. Raise NoSession if the session is lost."""
    one_pass: Optional[Pass] = None
    try:
        context = read_context(around, xapi, log)
        if request.policy is not None or request.prune is not None or request.at is not None:
            from vmss.passes import asked  # not needed by an idle tick

            request = asked.resolved(request, xapi, log.zone)
            if request.dry_run:
                context = context._replace(supposed=request.at)
            elif request.at is not None:
                asked.set_clock(xapi, request.at)
                context = read_context(around, xapi, log)
        one_pass = Pass(request, around, context)
        return one_pass.rehearse() if directory is None else one_pass.whole(directory)
    except (Unanswered, Refused) as error:
        # The pass handles what concerns one VM or one policy; this concerns the session itself.
        log("The pass ends here: %s" % error)
        from vmss.passes.cut_off import came_of_it

        more = ""
        if one_pass is not None:
            more = came_of_it(request.policy, one_pass.teller.runs, one_pass.worked, one_pass.pruned)
        raise NoSession("%s: %s%s" % (one_line(around.place.xapi), error, more), error)


class Pass:
    """A pass within its session: with the lock, without it, or as a rehearsal."""

    def __init__(self, request: Request, around: Surroundings, context: Context) -> None:
        self.request = request
        self.around = around
        self.context = context
        self.log = context.log
        self.xapi = context.xapi
        self.agenda = Agenda(context, writes=not request.dry_run)
        self.teller = Teller(context, self.agenda, around.notice)
        self._kept: Optional[Kept] = None
        self._at_work: Optional[AtWork] = None
        self.pending: List[str] = []  # the tasks that have not ended when the pass does
        self.lost = False  # whether there may be one more, because the answer to its start was lost
        self.worked = False  # whether anything was done since it was last looked at what is due
        self.changed = False  # whether anything in the pool was changed since xapi was last told to write its database
        self.progress = ""  # how far a pass came that was stopped
        self.interrupted: List[Served] = []  # the runs that were not over then
        self.pruned: Optional[Pruned] = None
        self.unserved = False  # whether what earlier ticks could not serve is left by this pass too

    # In the order of a pass

    def whole(self, directory: LockDirectory) -> Report:
        """The pass, from the lock to the lock."""
        pool, clock = self.context.pool, self.context.clock
        holder = {"pid": os.getpid(), "since": format_datetime(clock.now()), "session": self.xapi.session}
        lock = self._acquire(directory, holder)
        if isinstance(lock, Report):
            return lock
        self.directory, self.lock = directory, lock
        # Who starts a pass by hand does not want to wait for the end of a pause.
        self.journal = Journal(self.xapi, pool, clock.now(), at_once=not self.request.kicked)
        complete = False
        try:
            since = self.agenda.waiting_since
            settled = self._take_over()
            if AT_WORK in pool.other_config:
                self._learn_from_sign()
            if self.lock.cut_off and settled:
                from vmss.passes import cut_off  # few passes have any

                self.lock.cut_off = cut_off.tell(self.context, self.lock.cut_off, self.around.notice)
            if self.request.prune is not None:
                complete = self._prune(self.request.prune, settled, put_off=self.agenda.waiting_since < since)
            else:
                complete = self._serve_first(settled)
            # While this pass held the lock, other ticks were put off. So before it gives the lock back, it serves what
            # has become due since.
            while complete and self.worked:
                self.worked = False
                if self.changed:
                    self._write_database()
                if self.context.too_late():
                    break
                complete = self._serve(self.agenda.read(), settled)
            self.teller.down()
        except Held as held:  # by its sign: somebody has removed its lock
            return self._put_off(held, directory)
        finally:
            self._give_back(complete)
        runs, idle = tuple(self.teller.runs), self._at_work is None
        return ended(runs, self.pruned, complete, idle, self.progress, self.interrupted)

    def _serve_first(self, settled: bool) -> bool:
        """Serve what is due as the pass begins. Return whether all came to its end."""
        if settled:
            self._find_orphans()
        if self.context.settings.assign_by_tag and self.request.policy is None and self.context.pool.licensed:
            from vmss.passes import by_tag  # not needed by an idle tick without it

            by_tag.assign(self.context, self.directory)
        due = self.agenda.read(self.request.policy, self.request.missing)
        self.around.started()
        self._tell_logon_failures(due)
        self.batches = Batches(self.context, due)
        return self._serve(due, settled)

    def _prune(self, prune: "Prune", settled: bool, put_off: bool) -> bool:
        """Delete snapshots on request. Return whether all came to its end. `put_off`: earlier ticks could not serve.

        What is due as the pass begins is left to the next tick, for nobody asked for a snapshot now. What becomes due
        later is served, as by every pass: while this one holds the lock, no tick can.
        """
        from vmss.passes.pruning import Pruner

        pruner = Pruner(self.context, prune)
        due = self.agenda.read()
        # The tick of their slot may find the lock held by this pass: the next one has to know that it is late.
        self.unserved = put_off or bool(due.turns)
        for turn in due.turns:
            self.agenda.served(turn)
        due = due._replace(turns=[], restricted=[])
        self.around.started()
        self.batches = Batches(self.context, due)
        service = self._service()
        try:
            return self._carry_out(service, due, settled, pruner.plans())
        finally:
            pruned = service.pruned
            self.pruned = pruned._replace(
                vms=pruned.vms + len(pruner.misread),
                victims=pruned.victims + tuple(pruner.misread),
                stay=tuple(pruner.stay),
            )

    def _take_over(self) -> bool:
        """Close the sessions that earlier passes left open, and learn since when ticks could not serve what was due.
        Return whether all operations of earlier passes have ended."""
        self.earlier = sessions.close_earlier(
            self.xapi, self.directory, self.around.place, self.context.pool.uuid, self.lock.dead_sessions, self.log
        )
        self.agenda.waits_since(first_put_off(self.directory, self.around.place, self.lock.previous))
        if self.directory.read(self.context.pool.uuid + HOOKS_SUFFIX):
            self.kept.hooks.see_to_lost()
        return self.earlier.settled

    def _learn_from_sign(self) -> None:
        """Raise Held if the pass is at work whose sign is there. If it died with its host, nothing else tells of it."""
        since = self._sign.look()
        if since is not None:
            self.agenda.waits_since(since)
            self.kept.expect_attempts(since)
        self._sign.remove()

    def _find_orphans(self) -> None:
        """Search for disks that a dying xapi left of snapshots that earlier passes had started."""
        pool = self.context.pool
        if BEGUN in pool.other_config or self.directory.read(pool.uuid + ".taking"):
            from vmss.passes import orphans

            due = orphans.due_attempts(self.kept.notes, self.context.clock.now())
            if due:
                self._sign.show()
                orphans.find_orphans(self.context, due, self.kept.notes, self.journal, self.kept.left_over)

    def _tell_logon_failures(self, due: Due) -> None:
        failures = sessions.failed_logins(self.directory, self.around.place)
        if failures is not None:
            self.teller.logon_failures(due.turns, *failures)
            sessions.forget_failed_logins(self.directory, self.log)

    def _serve(self, due: Due, settled: bool) -> bool:
        """Serve the policies that are due, and finish what earlier passes left over. Return whether all came to its
        end."""
        self.teller.restricted(due.restricted)
        if due.lapsed:
            from vmss.passes.lapsed import tell_lapsed  # most passes have none

            tell_lapsed(self.context, due)
        if not (due.turns or self.journal.has_leftovers or self._is_anything_kept(settled)):
            return True  # most ticks end here
        return self._carry_out(self._service(), due, settled)

    def _is_anything_kept(self, settled: bool) -> bool:
        """Whether earlier passes left VMs suspended, or snapshots that can be deleted now."""
        pool = self.context.pool
        noted = any(key.startswith((FROZEN_PREFIX, LEFT_OVER)) for key in pool.other_config)
        if self._kept is None and not noted and not self.directory.read(pool.uuid + FROZEN_SUFFIX):
            return False
        now = self.context.clock.now()
        return bool(self.kept.frozen.earlier) or (settled and self.kept.left_over.has_ripe(now))

    @property
    def _sign(self) -> "AtWork":
        from vmss.passes.at_work import AtWork  # not needed by an idle tick

        self._at_work = self._at_work or AtWork(self.context, self.directory)
        return self._at_work

    @property
    def kept(self) -> "Kept":
        """What passes keep for one another."""
        from vmss.passes.kept import Kept  # not needed by an idle tick

        at_once = not self.request.kicked
        self._kept = self._kept or Kept(self.context, self.directory, self.journal, at_once, self.earlier.unplaced)
        return self._kept

    def _service(self) -> "Service":
        from vmss.passes.handover import Inbox
        from vmss.passes.serve import Service  # not needed by an idle tick

        self.kept.left_over.refresh()
        self.teller.left_over, self.teller.frozen = self.kept.left_over.sentences, self.kept.frozen
        inbox = Inbox(self.directory, self.context.pool.uuid)
        return Service(
            self.context, self.agenda, self.batches, self.lock, self.journal, self.kept, self.teller, inbox, self._sign
        )

    def _carry_out(
        self, service: "Service", due: Due, settled: bool, on_request: Optional[Iterable["Planned"]] = None
    ) -> bool:
        self.around.works()
        self._sign.show(turns=due.turns)
        told = len(self.teller.runs)
        try:
            complete = service.serve(due.turns, settled, on_request)
        finally:
            self.pending += service.pending
            self.lost = self.lost or service.lost
            self.worked = service.worked or len(self.teller.runs) > told
            self.changed = self.changed or service.changed or len(self.teller.runs) > told
            self.interrupted = service.interrupted
        self.kept.save(self.teller.runs[told:])
        self.progress = "" if complete else service.progress()
        return complete

    def _write_database(self) -> None:
        """Have xapi write its database: what was destroyed must not come back if it dies."""
        from vmss.passes.database import write_database  # not needed by an idle tick

        self.changed = False
        write_database(self.context, self.kept.notes)

    def _give_back(self, complete: bool) -> None:
        """Close the session, or write it down for a later pass, and release the lock."""
        pool = self.context.pool.uuid
        try:
            if self._kept is not None:
                failed = any(served.victims for served in self.teller.runs)
                self._kept.end_hooks("failed" if failed and complete else "ok" if complete else "stopped")
                self._kept.share()
            if self._at_work is not None:
                self._at_work.take_down()
            # The session first: as long as the lock is held, its holder's session can be found in it.
            if self.pending or self.lost:
                sessions.leave_open(self.xapi, self.directory, pool, self.pending, self.log)
            sessions.log_out(self.xapi)
            if self.xapi.session:  # the logout was refused, or its answer lost
                sessions.leave_open(self.xapi, self.directory, pool, [], self.log)
        finally:
            # A pass that has no time to serve what has become due leaves that to the next one.
            done = complete and not self.teller.owing and not self.unserved and not self.context.too_late()
            self.lock.release(None if done else {"since": format_datetime(self.agenda.waiting_since)})

    # A pass that does not serve

    def _acquire(self, directory: LockDirectory, holder: Dict[str, Any]) -> Union[Lock, Report]:
        """The lock; or, if another pass holds it, how this one ends."""
        try:
            return directory.acquire(self.context.pool.uuid, holder)
        except Held as held:
            answer = self._latecomer(directory).hand_over(held, self.around.started)
            if answer is not None:
                return Report(answer.status, answer.line)
        try:  # the other pass may have ended meanwhile
            return directory.acquire(self.context.pool.uuid, holder)
        except Held as held:
            return self._put_off(held, directory)

    def _put_off(self, held: Held, directory: LockDirectory) -> Report:
        self.log("The lock is taken: %s" % held)
        if self.request.prune is not None:
            return Report(EXIT_LOCKED, "nothing was deleted: %s" % held)
        by_hand = self._latecomer(directory).put_off(held)
        return Report(EXIT_LOCKED, by_hand or str(held))

    def _latecomer(self, directory: LockDirectory) -> "Latecomer":
        from vmss.passes.latecomer import Latecomer  # not needed by an idle tick

        return Latecomer(self.context, directory, self.agenda, self.teller, self.request.policy, self.request.missing)

    def rehearse(self) -> Report:
        """Say what a pass would do now, and change nothing."""
        from vmss.passes import rehearsal  # not needed by an idle tick

        if self.request.prune is not None:
            line, listing = rehearsal.of_prune(self.context, self.request.prune)
            return Report(EXIT_OK, line, listing=listing)
        self.agenda.waits_since(seen_by_rehearsal(self.context, self.around.place))
        due = self.agenda.read(self.request.policy, self.request.missing)
        line, said = rehearsal.of_what_is_due(self.context, due)
        return Report(EXIT_OK, line, rehearsal=said)
