"""The session of a pass: opened, closed, or recorded for a later pass to close; and logins that failed."""

from contextlib import suppress
from datetime import datetime
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from vmss.core import messages
from vmss.core.datetimes import format_datetime, local, parse_reading
from vmss.core.problem import EXIT_NO_SESSION, Problem
from vmss.core.text import is_reference, one_line
from vmss.core.words import duration
from vmss.edges import stop
from vmss.edges.clock import Clock
from vmss.edges.lock import LockDirectory, Note
from vmss.edges.lock_folder import LockError
from vmss.edges.log import Log
from vmss.edges.settings import Place, Settings
from vmss.edges.xapi import USER, Refused, Unanswered, Xapi, understood

LOGON_FAILURE = "logon-failure"
_LOGIN = "login"

# xapi's errors about a session, or a task, that no longer exists.
_GONE = ("SESSION_INVALID", "HANDLE_INVALID")

# The names of tasks that make a snapshot.
SNAPSHOT_TASKS = ("Async.VM.snapshot", "Async.VM.snapshot_with_quiesce", "Async.VM.checkpoint")


class Earlier(NamedTuple):
    """What earlier passes left in xapi: whether all their operations have ended and all their sessions are closed; and
    their pending tasks that do not say of which VM they take a snapshot."""

    settled: bool
    unplaced: Tuple[str, ...] = ()


class NoSession(Problem):
    """xapi cannot be reached, or refuses the login; `error` is what it answered, or that it did not."""

    status = EXIT_NO_SESSION

    def __init__(self, text: str, error: Union[Unanswered, Refused]) -> None:
        Problem.__init__(self, text)
        self.error = error


def log_in(
    xapi: Xapi, place: Place, settings: Settings, clock: Clock, waits: Callable[[str], None], user: str = USER
) -> None:
    """Log in. While xapi does not answer, retry with growing pauses for `login_limit` seconds, and say so once. Raise
    NoSession."""
    # Over its own socket xapi trusts every process that may open it, and accepts any name.
    user, password = (user, "") if xapi.unix else (place.user, place.password or "")
    give_up = clock.monotonic() + settings.login_limit
    pause, told = 1.0, False
    while True:
        try:
            return xapi.login(user, password)
        except Unanswered as unanswered:
            error: Union[Unanswered, Refused] = unanswered
            final = unanswered.final
        except Refused as refused:
            error, final = refused, refused.code != "HOST_STILL_BOOTING"
        if final or stop.requested() or clock.monotonic() + pause > give_up:
            raise NoSession("%s: no session: %s" % (one_line(place.xapi), error), error)
        if not told:
            told = True
            waits(
                "xapi does not answer at %s (%s): waiting for it, for up to %s (login_limit)"
                % (one_line(place.xapi), error, duration(settings.login_limit))
            )
        clock.sleep(pause)
        pause = min(2 * pause, 15.0)


def record_failed_login(directory: LockDirectory, place: Place, clock: Clock, log: Log, error: NoSession) -> None:
    """Log that a login failed, and keep it for the next pass that gets a session: it raises the alert."""
    now = clock.now()
    for line in messages.log_lines(messages.LOGON_FAILURE, local(now, log.zone)):
        log(line)
    log(str(error))
    earlier = failed_logins(directory, place)
    since = format_datetime(min(earlier[0], now) if earlier else now)
    try:
        directory.keep(LOGON_FAILURE, {"xapi": place.xapi, "since": since, "last": format_datetime(now)})
    except LockError as full:
        log(str(full))


def failed_logins(directory: LockDirectory, place: Place) -> Optional[Tuple[datetime, datetime]]:
    """The times of the first and the last login to this xapi that failed since one succeeded; None if none did."""
    kept = directory.read(LOGON_FAILURE)
    if kept.get("xapi") != place.xapi:
        return None
    try:
        return (parse_reading(kept.get("since")), parse_reading(kept.get("last"))) if kept else None
    except ValueError:
        return None


def forget_failed_logins(directory: LockDirectory, log: Log) -> None:
    """Remove the record of failed logins: the alert has been raised."""
    _forget(directory, LOGON_FAILURE, log)


def _forget(directory: LockDirectory, name: str, log: Log) -> None:
    try:
        directory.keep(name, {})
    except LockError as error:
        log(str(error))


def note_login(xapi: Xapi, directory: LockDirectory, place: Place, log: Log) -> Optional[Note]:
    """Note the session of this process beside the lock, for a later pass to close if this process dies before it has
    the lock and can write the session into it."""
    try:
        return directory.note(_LOGIN, {"xapi": place.xapi, "session": xapi.session})
    except LockError as error:
        log(str(error))
        return None


def count_unclosed(directory: LockDirectory, pool: str) -> int:
    """The number of sessions that a later pass has to close."""
    return len(_read(directory, pool)) + len(directory.leftover_notes(_LOGIN))


def log_out(xapi: Xapi) -> None:
    """Close the session, if there is one. `xapi.session` is empty afterwards, unless it may still be open."""
    if xapi.session:
        with suppress(Unanswered):
            if _log_out(xapi, xapi.session):
                xapi.session = ""


def leave_open(xapi: Xapi, directory: LockDirectory, pool: str, tasks: List[str], log: Log) -> None:
    """Record the session for a later pass to close: operations of it have not ended.

    xapi decides at the end of a snapshot, from its session, whether it is a scheduled one: if the session were closed
    before, retention would never delete it (docs/xapi-facts.md, The session has to outlive its snapshots).
    """
    session, xapi.session = xapi.session, ""
    log("The session is left open: operations that have not ended, or whose answer was lost: %d" % len(tasks))
    _write(directory, pool, _read(directory, pool) + [{"session": session, "tasks": tasks}], log)


def close_earlier(
    xapi: Xapi, directory: LockDirectory, place: Place, pool: str, dead: Sequence[str], log: Log
) -> Earlier:
    """Close the sessions of earlier passes whose operations have ended; `dead` are those of passes that died with the
    lock. Return what is left of them."""
    logins = _dead_logins(directory, place)
    dead = sorted(set(dead).union(logins.values()))
    sessions = _read(directory, pool) + [{"session": session, "tasks": []} for session in dead]
    if not sessions:
        return Earlier(True)
    if dead and _write(directory, pool, sessions, log):  # in case this pass dies before they are closed
        for name in logins:
            _forget(directory, name, log)
    unplaced: List[str] = []
    unclosed = [entry for entry in sessions if not _close(xapi, entry, unplaced)]
    _write(directory, pool, unclosed, log)
    return Earlier(not unclosed, tuple(unplaced))


def _dead_logins(directory: LockDirectory, place: Place) -> Dict[str, str]:
    """The sessions with this xapi of processes that died before they had the lock, by the name of the note."""
    notes = directory.leftover_notes(_LOGIN)
    return {name: str(note.get("session")) for name, note in notes if note.get("xapi") == place.xapi}


def _close(xapi: Xapi, entry: Dict[str, Any], unplaced: List[str]) -> bool:
    """Close one session, unless one of its tasks is pending. Return whether it is closed. Add those of its tasks to
    `unplaced` that do not say of which VM they take a snapshot."""
    # What is no reference was not written by a pass. To ask xapi for it may end this pass, and so every later one: a
    # server cannot read a call with characters that XML does not carry.
    session = str(entry.get("session"))
    if not is_reference(session):
        return True
    recorded = entry.get("tasks")
    tasks = [task for task in recorded if is_reference(task)] if isinstance(recorded, list) else []
    try:
        with understood("session.get_tasks"):
            tasks += [task for task in xapi.call("session.get_tasks", session) if is_reference(task)]
    except Refused as refused:
        if refused.code not in _GONE:
            return False  # it may have an operation in flight that is not recorded
    pending = {task: vm for task, vm in ((task, vm_of(xapi, task, cancel=True)) for task in tasks) if vm is not None}
    unplaced += [task for task, vm in pending.items() if not vm]
    return not pending and _log_out(xapi, session)


def _log_out(xapi: Xapi, session: str) -> bool:
    """Log a session out. Return whether it is closed, now or before."""
    try:
        xapi.logout(session)
    except Refused as refused:
        return refused.code in _GONE
    return True


def vm_of(xapi: Xapi, task: str, cancel: bool = False) -> Optional[str]:
    """The VM of which a pending task takes a scheduled snapshot, empty if it does not say so; None if the task has
    ended, and then its record is destroyed. For a task that takes none, return its own name.

    A snapshot that still waits for a busy VM does not say for which VM (docs/xapi-facts.md, Marks of a scheduled
    snapshot's task). It is cancelled, with `cancel`, for this slot's snapshot should not have to wait behind it.
    """
    try:
        record = xapi.call("task.get_record", task)
        with understood("task.get_record"):
            ended = record["status"] != "pending"
            vm = str(record["other_config"].get("applies_to", ""))
            takes = record["name_label"] in SNAPSHOT_TASKS
        if ended:
            xapi.call("task.destroy", task)
            return None
        if takes and not vm and cancel:
            xapi.call("task.cancel", task)
        return vm if takes else task
    except Refused as refused:
        return None if refused.code in _GONE else ""  # xapi has collected it; after any other error it may be pending


def _name(pool: str) -> str:
    return pool + ".sessions"


def _read(directory: LockDirectory, pool: str) -> List[Dict[str, Any]]:
    """The recorded sessions that are to be closed: `session` and `tasks` of each."""
    entries = directory.read(_name(pool)).get("sessions")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _write(directory: LockDirectory, pool: str, entries: List[Dict[str, Any]], log: Log) -> bool:
    """Record sessions that are to be closed. Return whether they could be written."""
    try:
        directory.keep(_name(pool), {"sessions": entries} if entries else {})
        return True
    except LockError as error:  # a full disk: xapi itself closes a session that is idle for a day
        log(str(error))
        return False
