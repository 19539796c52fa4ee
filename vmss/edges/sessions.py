"""Opening the session of a pass, and closing it, now or later."""

from contextlib import suppress
from datetime import datetime
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from vmss.core import messages
from vmss.core.datetimes import format_datetime, local, parse_reading
from vmss.core.problem import EXIT_NO_SESSION, Problem
from vmss.core.text import one_line
from vmss.edges import stop
from vmss.edges.clock import Clock
from vmss.edges.lock import LockDirectory, LockError, Note
from vmss.edges.log import Log
from vmss.edges.settings import Place, Settings
from vmss.edges.xapi import USER, Refused, Unanswered, Xapi, understood

LOGON_FAILURE = "logon-failure"
_LOGIN = "login"

# What is said of a session that is no more.
_ENDED = ("SESSION_INVALID", "HANDLE_INVALID")

_TAKES = ("Async.VM.snapshot", "Async.VM.snapshot_with_quiesce", "Async.VM.checkpoint")


class NoSession(Problem):
    """xapi cannot be reached, or lets nobody in."""

    status = EXIT_NO_SESSION


def log_in(
    xapi: Xapi, place: Place, settings: Settings, clock: Clock, say: Callable[[str], None], user: str = USER
) -> None:
    """Log in; if xapi does not answer, try again for a while with growing pauses. Raise NoSession."""
    # Over its own socket xapi trusts everybody who may open it, and takes any name.
    user, password = (user, "") if xapi.unix else (place.user, place.password or "")
    give_up = clock.monotonic() + settings.login_limit
    pause = 1.0
    while True:
        try:
            return xapi.login(user, password)
        except Unanswered as error:
            reason, final = str(error), error.final
        except Refused as refused:
            reason, final = str(refused), refused.code != "HOST_STILL_BOOTING"
        if final or stop.requested() or clock.monotonic() + pause > give_up:
            raise NoSession("%s: no session: %s" % (one_line(place.xapi), reason))
        say("xapi does not answer at %s (%s): trying again" % (one_line(place.xapi), reason))
        clock.sleep(pause)
        pause = min(2 * pause, 15.0)


def remember_failure(directory: LockDirectory, place: Place, clock: Clock, log: Log, error: NoSession) -> None:
    """Log that nobody got in, and keep it for the next pass that does, to raise the alert."""
    now = clock.now()
    for line in messages.log_lines(messages.LOGON_FAILURE, local(now, log.zone)):
        log(line)
    log(str(error))
    earlier = failures(directory, place)
    since = format_datetime(earlier[0] if earlier else now)
    try:
        directory.keep(LOGON_FAILURE, {"xapi": place.xapi, "since": since, "last": format_datetime(now)})
    except LockError as full:
        log(str(full))


def failures(directory: LockDirectory, place: Place) -> Optional[Tuple[datetime, datetime]]:
    """The first and the last time nobody got in there, since somebody did; None if there was none."""
    kept = directory.read(LOGON_FAILURE)
    if kept.get("xapi") != place.xapi:
        return None
    try:
        return (parse_reading(kept.get("since")), parse_reading(kept.get("last"))) if kept else None
    except ValueError:
        return None


def forget_failures(directory: LockDirectory, log: Log) -> None:
    """The alert has been raised."""
    _forget(directory, LOGON_FAILURE, log)


def _forget(directory: LockDirectory, name: str, log: Log) -> None:
    try:
        directory.keep(name, {})
    except LockError as error:
        log(str(error))


def note_login(xapi: Xapi, directory: LockDirectory, place: Place, log: Log) -> Optional[Note]:
    """Write down that this process has a session: it has no lock yet to write it into, and may die before it has."""
    try:
        return directory.note(_LOGIN, {"xapi": place.xapi, "session": xapi.session})
    except LockError as error:
        log(str(error))
        return None


def left_logins(directory: LockDirectory, place: Place) -> Dict[str, str]:
    """The sessions there of processes that died, by the name of the note."""
    return {name: str(note.get("session")) for name, note in directory.left(_LOGIN) if note.get("xapi") == place.xapi}


def written_down(directory: LockDirectory, pool: str) -> int:
    """How many sessions a later pass has to close."""
    return len(_kept(directory, pool)) + len(directory.left(_LOGIN))


def log_out(xapi: Xapi) -> None:
    """Close the session, if it is open. Afterwards `xapi.session` is empty, unless it may be open still."""
    if xapi.session:
        with suppress(Unanswered):
            if _end(xapi, xapi.session):
                xapi.session = ""


def leave_open(xapi: Xapi, directory: LockDirectory, pool: str, tasks: List[str], log: Log) -> None:
    """Write the session down, for a later pass to close: some of its operations have not ended.

    xapi decides at the end of a snapshot, from its session, whether it is a scheduled one: without the session
    it would be kept for ever (docs/xapi-facts.md, The session has to outlive its snapshots).
    """
    session, xapi.session = xapi.session, ""
    log("The session is left open: %d of its operations have not ended, or their answer was lost" % len(tasks))
    _keep(directory, pool, _kept(directory, pool) + [{"session": session, "tasks": tasks}], log)


def close_old(xapi: Xapi, directory: LockDirectory, place: Place, pool: str, killed: Sequence[str], log: Log) -> bool:
    """Close the sessions that earlier passes left open, if their operations have ended; `killed` are the sessions
    of those that died with the lock. Return whether all are closed."""
    logins = left_logins(directory, place)
    died = sorted(set(killed).union(logins.values()))
    kept = _kept(directory, pool) + [{"session": session, "tasks": []} for session in died]
    if not kept:
        return True
    if died and _keep(directory, pool, kept, log):  # should this pass not come to the end of it
        for name in logins:
            _forget(directory, name, log)
    still = [entry for entry in kept if not _closed(xapi, entry)]
    _keep(directory, pool, still, log)
    return not still


def _closed(xapi: Xapi, entry: Dict[str, Any]) -> bool:
    """Close one session, unless one of its tasks is still pending."""
    session = str(entry.get("session"))
    written = entry.get("tasks")
    tasks = [str(task) for task in written] if isinstance(written, list) else []
    try:
        with understood("session.get_tasks"):
            tasks += [str(task) for task in xapi.call("session.get_tasks", session)]
    except Refused as refused:
        if refused.code not in _ENDED:
            return False  # it may have an operation under way that nobody has told us of
    pending = [task for task in tasks if _pending(xapi, task)]
    if pending:
        return False
    return _end(xapi, session)


def _end(xapi: Xapi, session: str) -> bool:
    """Log a session out. Return whether it has ended, now or before."""
    try:
        xapi.logout(session)
    except Refused as refused:
        return refused.code in _ENDED
    return True


def _pending(xapi: Xapi, task: str) -> bool:
    """Whether a task has not ended; the record of one that has is destroyed.

    A snapshot that still waits for a busy VM has no sign of which VM that is, and so could not be told from one
    that has to be started: it is cancelled (docs/xapi-facts.md, Marks of a scheduled snapshot's task).
    """
    try:
        record = xapi.call("task.get_record", task)
        with understood("task.get_record"):
            ended = record["status"] != "pending"
            waits = record["name_label"] in _TAKES and "applies_to" not in record["other_config"]
        if ended:
            xapi.call("task.destroy", task)
            return False
        if waits:
            xapi.call("task.cancel", task)
        return True
    except Refused as refused:
        return refused.code not in _ENDED  # collected; else nobody knows


def _name(pool: str) -> str:
    return pool + ".sessions"


def _kept(directory: LockDirectory, pool: str) -> List[Dict[str, Any]]:
    entries = directory.read(_name(pool)).get("sessions")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _keep(directory: LockDirectory, pool: str, entries: List[Dict[str, Any]], log: Log) -> bool:
    try:
        directory.keep(_name(pool), {"sessions": entries} if entries else {})
        return True
    except LockError as error:  # a full disk: xapi itself closes a session that is idle for a day
        log(str(error))
        return False
