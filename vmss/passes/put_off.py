"""Since when ticks could not serve what was due, by what they have left: one answer for a pass and a rehearsal."""

from contextlib import suppress
from datetime import datetime
from typing import Any, Mapping, Optional

from vmss.core.datetimes import parse_reading
from vmss.core.records import AT_WORK
from vmss.edges import sessions
from vmss.edges.lock import Held, LockDirectory, existing
from vmss.edges.lock_folder import LockError
from vmss.edges.settings import Place
from vmss.passes.context import Context


def first_put_off(directory: LockDirectory, place: Place, previous: Mapping[str, Any]) -> Optional[datetime]:
    """The first tick that got no session, or found the lock held by a pass that left its work to others; `previous` is
    what that pass wrote into the lock. None if there was none."""
    failures = sessions.failed_logins(directory, place)
    found = [] if failures is None else [failures[0]]
    if previous:
        with suppress(ValueError):
            found.append(parse_reading(previous.get("since")))
    return min(found, default=None)


def seen_by_rehearsal(context: Context, place: Place) -> Optional[datetime]:
    """The same, and what the sign of a pass that was lost with its host tells, for a rehearsal: nothing is changed,
    and nothing is known where the lock is not on this machine."""
    if place.xapi.startswith("https:"):
        return None
    with suppress(LockError), existing(place.lock_dir) as directory:
        if directory is None:
            return None
        since = first_put_off(directory, place, directory.read(context.pool.uuid + ".lock"))
        if AT_WORK in context.pool.other_config:
            from vmss.passes.at_work import AtWork  # few passes need it

            with suppress(Held):
                since = min(filter(None, (since, AtWork(context, directory).look())), default=None)
        return since
    return None
