"""The sign in xapi that a pass is at work.

It is for others that do not see its lock, because somebody has removed it; and for the next pass, if the host dies with
this one, and with it the notes beside the lock.

It is a key of pool.other_config. It names the process, and not the session, which would be a login for all who may read
the key: whether the process lives, the coordinator's dom0 tells, where all passes run. It names what the pass begins
with too, for `vmss watch`, which may be anywhere: that costs no further call.
"""

import json
import os
from contextlib import suppress
from datetime import datetime
from typing import Any, Dict, NamedTuple, Optional, Sequence

from vmss.core.datetimes import format_datetime, parse_reading
from vmss.core.records import AT_WORK
from vmss.core.text import is_uuid
from vmss.core.turn import Turn
from vmss.edges.lock import Held, LockDirectory
from vmss.edges.processes import started
from vmss.edges.xapi import MISREAD, Refused, Unanswered, understood
from vmss.passes.context import Context
from vmss.passes.database import write_database

# The pool's record is read at every tick, by other clients too: so many runs are named.
_RUNS_MAX = 100


class Shown(NamedTuple):
    """What a sign tells: since when its pass is at work; and the runs that it begins with, each with the instant from
    which on a snapshot counts as one of it, by the uuids of their policies."""

    since: datetime
    runs: Dict[str, datetime]


class AtWork:
    """The sign of one pass."""

    def __init__(self, context: Context, directory: LockDirectory) -> None:
        self._context = context
        self._directory = directory
        self._shown = self._on_disk = False
        self._dead_since: Optional[datetime] = None

    def look(self) -> Optional[datetime]:
        """The pool had a sign when it was read: raise Held if another pass still shows it. If it is that of a pass that
        died, and its lock and its notes are not here, return since when it was at work.

        They are not on another coordinator, and gone when the host was started anew. The sign stays until `show` or
        `remove`.
        """
        other = self._other()
        if other is not None:
            raise Held(other)
        return self._dead_since

    def show(self, lasting: bool = False, turns: Sequence[Turn] = ()) -> None:
        """Show the sign, before anything is changed. Raise Held if another pass shows it. `turns` are what the pass
        begins with.

        `lasting`: snapshots are going to be started, so xapi writes it to its disk too. Else it would be gone with a
        host that dies in the first minutes of a pass, and nobody would look for what its snapshots have left.
        """
        if not self._shown:
            self._add(turns)
        if lasting and self._shown and not self._on_disk:
            self._on_disk = not write_database(self._context, None)

    def _add(self, turns: Sequence[Turn]) -> None:
        process = os.getpid()
        since = format_datetime(self._context.clock.now())
        sign: Dict[str, Any] = {
            "pid": process,
            "started": started(process),
            "since": since,
            "notes": self._directory.identity(),
        }
        if turns:
            sign["runs"] = {turn.policy.uuid: format_datetime(turn.counts_from) for turn in turns[:_RUNS_MAX]}
        if self._dead_since is not None:  # if this host is lost as well before that was searched for
            sign["lost"] = format_datetime(self._dead_since)
        value = json.dumps(sign)
        for _ in range(2):  # the second time after that of a pass that died was removed
            refused = self._refused(value)
            if refused is None:
                self._shown = True
                return
            if refused.code != "MAP_DUPLICATE_KEY":
                self._context.log("The sign that this pass is at work cannot be shown: %s" % refused)
                return
            other = self._other()  # xapi adds a key once: of two passes one gets it
            if other is not None:
                raise Held(other)
            self.remove()
        raise Held({})

    def take_down(self) -> None:
        """Take the sign down, if it is shown."""
        if self._shown:
            self.remove()
            self._shown = False

    def _other(self) -> Optional[Dict[str, Any]]:
        """The process that shows the sign, and since when; None if there is none, or none that lives. Of one that died
        elsewhere, remember since when it was at work."""
        with understood("pool.get_other_config"):
            text = dict(self._context.xapi.call("pool.get_other_config", self._context.pool.ref)).get(AT_WORK)
        if text is None:
            return None
        sign = _parsed(text)
        if sign is None or _lives(sign):
            return sign
        if sign["notes"] not in ("", self._directory.identity()):
            with suppress(ValueError):
                self._dead_since = parse_reading(sign["lost"] or sign["since"])
        return None

    def _refused(self, value: str) -> Optional[Refused]:
        """Add the sign. Return xapi's error, if it refused that."""
        try:
            self._context.xapi.call("pool.add_to_other_config", self._context.pool.ref, AT_WORK, value)
        except Refused as refused:
            return refused
        return None

    def remove(self) -> None:
        """Remove the sign, whoever showed it."""
        with suppress(Refused, Unanswered):  # the next pass removes it
            self._context.xapi.call("pool.remove_from_other_config", self._context.pool.ref, AT_WORK)


def shown(text: Any) -> Optional[Shown]:
    """What a sign tells to whoever watches; None if no pass has written that."""
    try:
        value = json.loads(text)
        runs = {uuid: parse_reading(at) for uuid, at in value.get("runs", {}).items() if is_uuid(uuid)}
        return Shown(parse_reading(value["since"]), runs)
    except MISREAD:
        return None


def _parsed(text: Any) -> Optional[Dict[str, Any]]:
    """A sign; None if no pass has written that. One of an earlier version does not tell where the notes are."""
    try:
        value = json.loads(text)
        texts = {name: str(value.get(name, "")) for name in ("started", "since", "notes", "lost")}
        return dict(texts, pid=int(value["pid"]))
    except MISREAD:
        return None


def _lives(sign: Dict[str, Any]) -> bool:
    """Whether the process of a sign is at work; if it is this one, an earlier pass of it, which has ended."""
    return bool(sign["started"]) and sign["started"] == started(sign["pid"]) and sign["pid"] != os.getpid()
