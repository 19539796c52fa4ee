"""Opening the session of a pass, and closing it, now or later."""
from contextlib import suppress
from typing import Any, Callable, Dict, List

from vmss import alerts, stop
from vmss.clock import Clock
from vmss.datetimes import format_datetime, local
from vmss.lock import LockDirectory
from vmss.log import Log
from vmss.settings import Place, Settings
from vmss.text import one_line
from vmss.xapi import USER, Refused, Unanswered, Xapi

LOGON_FAILURE = "logon-failure"


class NoSession(Exception):
    """xapi cannot be reached, or lets nobody in: one line that says why."""


def log_in(xapi: Xapi, place: Place, settings: Settings, clock: Clock, say: Callable[[str], None]) -> None:
    """Log in; if xapi does not answer, try again for a while with growing pauses. Raise NoSession."""
    # Over its own socket xapi trusts everybody who may open it, and takes any name.
    user, password = (USER, "") if xapi.unix else (place.user, place.password or "")
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


def remember_failure(directory: LockDirectory, clock: Clock, log: Log, error: NoSession) -> None:
    """Log that nobody got in, and keep it for the next pass that does, to raise the alert."""
    now = clock.now()
    for line in alerts.log_lines(alerts.LOGON_FAILURE, local(now, log.zone)):
        log(line)
    log(str(error))
    since = directory.read(LOGON_FAILURE).get("since", format_datetime(now))
    directory.keep(LOGON_FAILURE, {"since": since, "last": format_datetime(now)})


def log_out(xapi: Xapi) -> None:
    """Close the session, if it is open."""
    if xapi.session:
        with suppress(Refused, Unanswered):  # gone with xapi
            xapi.logout()


def leave_open(xapi: Xapi, directory: LockDirectory, pool: str, pending: List[str], log: Log) -> None:
    """Write the session down, for a later pass to close: with it these tasks still take snapshots.

    xapi decides at the end of a snapshot, from its session, whether it is a scheduled one: without the session
    it would be kept for ever.
    """
    kept = _kept(directory, pool)
    directory.keep(_name(pool), {"sessions": kept + [{"session": xapi.session, "tasks": pending}]})
    xapi.session = ""
    log("The session is left open for %d snapshots that have not ended" % len(pending))


def close_old(xapi: Xapi, directory: LockDirectory, pool: str, died: str) -> None:
    """Close the sessions that earlier passes left open, if their snapshots have ended; `died` is the session
    of one that was killed, or empty."""
    kept = _kept(directory, pool)
    if died:
        with suppress(Refused):  # ended with xapi
            kept.append({"session": died, "tasks": xapi.call("session.get_tasks", died)})
    if kept:
        still = [entry for entry in kept if not _closed(xapi, entry)]
        directory.keep(_name(pool), {"sessions": still} if still else {})


def _closed(xapi: Xapi, entry: Dict[str, Any]) -> bool:
    """Close one session, unless one of its tasks is still pending."""
    for task in entry.get("tasks") or []:
        try:
            if xapi.call("task.get_status", str(task)) == "pending":
                return False
            xapi.call("task.destroy", str(task))
        except Refused:
            pass  # collected
    with suppress(Refused):  # ended with xapi
        xapi.logout(str(entry.get("session")))
    return True


def _name(pool: str) -> str:
    return pool + ".sessions"


def _kept(directory: LockDirectory, pool: str) -> List[Dict[str, Any]]:
    entries = directory.read(_name(pool)).get("sessions")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
