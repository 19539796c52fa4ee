"""The sign in xapi that a pass is at work, for others that do not see its lock because somebody has removed it.

It is a key of pool.other_config. It names the process, and not the session, which would be a login for all who may read
the key: whether the process lives, the coordinator's dom0 tells, where all passes run.
"""

import json
import os
from contextlib import suppress
from typing import Any, Dict, Optional

from vmss.core.datetimes import format_datetime
from vmss.core.records import AT_WORK
from vmss.edges.lock import Held
from vmss.edges.processes import started
from vmss.edges.xapi import Refused, Unanswered, understood
from vmss.passes.context import Context


class AtWork:
    """The sign of one pass."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._shown = False

    def look(self) -> None:
        """The pool had a sign when it was read: raise Held if another pass still shows it. That of a pass that died is
        removed."""
        other = self._other()
        if other is not None:
            raise Held(other)

    def show(self) -> None:
        """Show the sign, before anything is changed. Raise Held if another pass shows it."""
        if self._shown:
            return
        process = os.getpid()
        since = format_datetime(self._context.clock.now())
        value = json.dumps({"pid": process, "started": started(process), "since": since})
        for _ in range(2):  # the second time after that of a pass that died was removed
            refused = self._add(value)
            if refused is None:
                self._shown = True
                return
            if refused.code != "MAP_DUPLICATE_KEY":
                self._context.log("The sign that this pass is at work cannot be shown: %s" % refused)
                return
            other = self._other()  # xapi adds a key once: of two passes one gets it
            if other is not None:
                raise Held(other)
        raise Held({})

    def take_down(self) -> None:
        """Take the sign down, if it is shown."""
        if self._shown:
            self._remove()
            self._shown = False

    def _other(self) -> Optional[Dict[str, Any]]:
        """The process that shows the sign, and since when; None if there is none, or none that lives."""
        with understood("pool.get_other_config"):
            text = dict(self._context.xapi.call("pool.get_other_config", self._context.pool.ref)).get(AT_WORK)
        if text is None:
            return None
        other = _parsed(text)
        if other is not None:
            return other
        self._remove()
        return None

    def _add(self, value: str) -> Optional[Refused]:
        """Add the sign. Return xapi's error, if it refused that."""
        try:
            self._context.xapi.call("pool.add_to_other_config", self._context.pool.ref, AT_WORK, value)
        except Refused as refused:
            return refused
        return None

    def _remove(self) -> None:
        with suppress(Refused, Unanswered):  # the next pass removes it
            self._context.xapi.call("pool.remove_from_other_config", self._context.pool.ref, AT_WORK)


def _parsed(text: Any) -> Optional[Dict[str, Any]]:
    """The pass that a sign names; None if its process does not live, or is this one, whose earlier pass has ended."""
    try:
        value = json.loads(text)
        pid, since = int(value["pid"]), str(value["since"])
        lives = bool(value["started"]) and value["started"] == started(pid)
    except (ValueError, TypeError, LookupError, RecursionError):
        return None  # nobody who is at work has written that
    return {"pid": pid, "since": since} if lives and pid != os.getpid() else None
