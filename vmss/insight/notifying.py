"""Tells receivers elsewhere of a pass: a ping of each tick, for a dead-man's switch, and a document of each run.

The start of a pass that works is told while it is at work, by a child process that nobody waits for. All else is sent
after the lock is given back. No failure to do so gets out of here: it becomes a line of the log, and a note for
`vmss doctor`.
"""

import json
import time
from contextlib import suppress
from typing import Dict, List, Optional, Tuple

from vmss.core import notices
from vmss.core.datetimes import format_datetime
from vmss.core.notices import Notice
from vmss.core.policy import from_record
from vmss.core.problem import Problem
from vmss.core.records import NULL, Pool
from vmss.core.served import Served
from vmss.core.turn import Turn
from vmss.edges import notify
from vmss.edges.clock import Clock
from vmss.edges.lock import LockDirectory, existing
from vmss.edges.lock_folder import LockError
from vmss.edges.log import Log
from vmss.edges.notify import PING, WEBHOOK, Sending
from vmss.edges.surroundings import Surroundings, on_coordinator
from vmss.edges.zones import set_zone

# The settings that name the receivers, and what is said of one that has not taken what it was sent.
SETTINGS = {PING: "ping_url", WEBHOOK: "webhook_url"}
COMPLAINTS = {PING: "The ping was not taken", WEBHOOK: "The webhook has not taken all documents"}


class Notifier:
    """Tells of one pass. Only a tick pings: a run by hand would hide that no tick comes."""

    def __init__(self, around: Surroundings, kicked: bool) -> None:
        self._around = around
        self._settings = around.settings
        self._pings = kicked and bool(around.settings.ping_url)
        self._start: Optional[Sending] = None
        self._notices: List[Notice] = []

    def surroundings(self) -> Surroundings:
        """The surroundings for the pass."""
        return self._around._replace(works=self._works, notice=self._notices.append)

    def _works(self) -> None:
        self._around.works()
        if self._pings and self._start is None:
            with suppress(Exception):  # whatever it is, snapshots are to be taken
                self._start = self._ping(notices.START, notify.LIMIT_S)

    def finish(self, status: int) -> None:
        """Send what there is to tell of a pass that has given the lock back, with this exit status."""
        try:
            self._finish(status)
        except Exception as error:  # noqa: BLE001 - whatever it is, the pass has done its work
            # The text of any other error might have the URL.
            _complain(self._around, ["Receivers are not told: %s" % (_text(error))])

    def _finish(self, status: int) -> None:
        until = time.monotonic() + notify.LIMIT_S
        troubles: Dict[str, str] = {}
        documents = None
        try:
            documents = self._documents()
        except LockError as error:  # then it could happen twice
            troubles[WEBHOOK] = str(error)
        last = self._last_ping(status, until)
        notify.wait(sending for sending in (documents, last) if sending is not None)
        if last is not None:
            troubles[PING] = self._trouble_of_pings(last)
        if documents is not None:
            more = documents.asked - documents.taken
            troubles[WEBHOOK] = documents.trouble + ("; runs that it was not told of: %d" % more if more else "")
        lines = ["%s: %s" % (COMPLAINTS[name], trouble) for name, trouble in troubles.items() if trouble]
        if lines:
            _complain(self._around, lines)
        if troubles:
            _note(self._around, troubles)

    # The ping

    def _ping(self, end: str, limit_s: float) -> Sending:
        return Sending(notify.with_end(self._settings.ping_url, end), [None], self._settings, limit_s)

    def _last_ping(self, status: int, until: float) -> Optional[Sending]:
        """The ping of the end of a tick, after that of its start; None if it pings nothing. If the receiver has let the
        time pass with the first one, that is the last."""
        end = notices.ping_of(status, self._notices)
        if not self._pings or end is None or (self._around.place.local and not on_coordinator()):
            return None
        if self._start is not None:
            notify.wait([self._start])
        left = until - time.monotonic()
        return self._ping(end, left) if left > 0 or self._start is None else self._start

    def _trouble_of_pings(self, last: Sending) -> str:
        start = self._start.trouble if self._start is not None and self._start is not last else ""
        return last.trouble or ("%s: %s" % (notices.START, start) if start else "")

    # The documents

    def _documents(self) -> Optional[Sending]:
        """The documents of the runs that were not told before. That they are told is noted first: whatever happens to
        this process, none is sent twice. Raise LockError."""
        if not self._notices or not self._settings.webhook_url:
            return None
        pool, directory = self._notices[0].pool.uuid, LockDirectory(self._around.place.lock_dir)
        try:
            with directory.in_turn(pool + ".told"):
                told = notify.told_slots(directory, pool)
                new = [notice for notice in self._notices if notices.is_new(notice, told)]
                notify.keep_told_slots(directory, pool, told)
        finally:
            directory.close()
        if not new:
            return None
        bodies = [json.dumps(notices.document(notice)) for notice in new]
        return Sending(self._settings.webhook_url, bodies, self._settings, notify.LIMIT_S)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, Problem) else type(error).__name__


def _note(around: Surroundings, troubles: Dict[str, str]) -> None:
    """Note how the receivers have answered, beside the lock. Raise LockError."""
    at = format_datetime((around.clock or Clock()).now())
    with existing(around.place.lock_dir) as directory:
        if directory is not None:
            outcomes = {name: {"at": at, "trouble": trouble} for name, trouble in troubles.items()}
            notify.keep_outcomes(directory, outcomes)


def _complain(around: Surroundings, lines: List[str]) -> None:
    log = Log(around.place.log, (around.clock or Clock()).now, set_zone(around.settings.timezone))
    try:
        for line in lines:
            log(line)
    finally:
        log.close()


# By hand


def try_out(around: Surroundings) -> List[Tuple[str, str]]:
    """Send each receiver that is set something that says that it is a test, or a ping. Return the name of each setting,
    and why the receiver has not taken it, which is empty if it has."""
    settings = around.settings
    sendings = {}
    if settings.ping_url:
        sendings[PING] = Sending(settings.ping_url, [None], settings, notify.LIMIT_S)
    if settings.webhook_url:
        body = json.dumps(notices.document(_example(around), test=True))
        sendings[WEBHOOK] = Sending(settings.webhook_url, [body], settings, notify.LIMIT_S)
    notify.wait(sendings.values())
    troubles = {name: sending.trouble for name, sending in sendings.items()}
    with suppress(LockError):
        _note(around, troubles)
    return [(SETTINGS[name], trouble) for name, trouble in troubles.items()]


def _example(around: Surroundings) -> Notice:
    """A notice of a run that never was."""
    now, nobody = (around.clock or Clock()).now(), "00000000-0000-0000-0000-000000000000"
    record = {"uuid": nobody, "name_label": "a test", "enabled": True, "type": "snapshot", "retained_snapshots": "1"}
    record.update(frequency="daily", schedule={}, last_run_time="19700101T00:00:00Z", VMs=[])
    served = Served(Turn(from_record(NULL, record), now, forced=True), now)
    pool = Pool(NULL, nobody, NULL, {}, True, NULL, "a test")
    return Notice(served, now, pool, False, ("This is a test: there was no such run.",))
