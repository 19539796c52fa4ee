"""Writes the file with metrics after a pass. No failure to do so gets out of here: it becomes a line of the log."""

from datetime import datetime, timedelta
from typing import Optional, Tuple

from vmss.core import exposition
from vmss.core.datetimes import CLOCK_TOLERANCE, EPOCH
from vmss.core.problem import Problem
from vmss.edges import stop
from vmss.edges.clock import Clock
from vmss.edges.log import Log
from vmss.edges.metrics_file import Content, MetricsFile
from vmss.edges.surroundings import Surroundings, on_coordinator
from vmss.edges.zones import set_zone

# What is read anew of the pool: all; all if it is old; or nothing.
ALL, OLD, NOTHING = "all", "old", "nothing"

# A tick without work makes no calls. But what grows without a run, such as a storage repository, must show in the end.
_OLD_AFTER = timedelta(hours=6)
# The timeout in seconds of a call, so that no process stays behind for long where xapi hangs.
_CALL_LIMIT = 20


def write(around: Surroundings, tick: Optional[datetime], status: int, what: str) -> None:
    """Write the file, or only the numbers of the tick in it: when cron started this pass, if it did, and the pass's
    exit status."""
    clock = around.clock or Clock()
    try:
        with MetricsFile(around.settings.metrics_file) as file:
            if around.place.local and not on_coordinator():
                _leave_to_coordinator(file)
            else:
                _Writer(around, clock.now(), file).write(tick, status, what)
    except Exception as error:  # noqa: BLE001 - whatever it is, the pass has done its work
        _complain(around, clock, error)


def _leave_to_coordinator(file: MetricsFile) -> None:
    """Remove the file if there is one: it is of the time when this host was the coordinator, and would look like a
    pool whose ticks have stopped."""
    old = file.read()
    if old is not None and exposition.is_ours(old.text):
        file.remove()


def _complain(around: Surroundings, clock: Clock, error: Exception) -> None:
    log = Log(around.place.log, clock.now, set_zone(around.settings.timezone))
    try:
        log("The file with metrics is not written: %s" % (error or repr(error)))
    finally:
        log.close()


class _Writer:
    """Writes one file, after one pass."""

    def __init__(self, around: Surroundings, now: datetime, file: MetricsFile) -> None:
        self._around = around
        self._now = now
        self._file = file

    def write(self, tick: Optional[datetime], status: int, what: str) -> None:
        numbers, pool = "", ""
        failure: Optional[Problem] = None
        if what == ALL or (what == OLD and self._is_old()):
            try:
                numbers, pool = ("", "") if stop.requested() else _read(self._around)
            except Problem as problem:
                failure = problem
        # Only now, for ticks may have come while the pool was read.
        old = self._old()
        before, end = exposition.parted(old.text if old is not None else "")
        if tick is not None and not self._knows_later(end, tick):
            labels = exposition.labels_of(pool or exposition.pool_in(before + end))
            end = exposition.text_of([exposition.last_tick(tick, labels), exposition.tick_status(status, labels)])
        text = (numbers or before) + end
        if text and (old is None or text != old.text):
            self._file.replace(text, None if numbers else old)
        if failure is not None:
            raise failure

    def _old(self) -> Optional[Content]:
        old = self._file.read()
        return old if old is not None and exposition.is_ours(old.text) else None

    def _is_old(self) -> bool:
        old = self._old()
        read = exposition.read_in(old.text) if old is not None else None
        if old is None or read is None or not timedelta(0) <= self._now - _instant(read) < _OLD_AFTER:
            return True
        # A slot has passed, and yet nothing was due: a schedule has been changed since.
        following = exposition.next_in(old.text)
        return following is not None and _instant(following) <= self._now

    def _knows_later(self, end: str, tick: datetime) -> bool:
        """Whether a tick that came after this one has been written already, while this pass was at work."""
        known = exposition.tick_in(end)
        return known is not None and tick < _instant(known) <= self._now + CLOCK_TOLERANCE


def _instant(seconds: int) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def _read(around: Surroundings) -> Tuple[str, str]:
    """The numbers of the pool as text, and its uuid. What never changes is kept for the next time."""
    # Not needed by an idle tick.
    from vmss.edges.kept_times import KeptTimes
    from vmss.edges.lock import existing
    from vmss.insight import metrics
    from vmss.insight.lock_and_log import read_local
    from vmss.insight.reading import reading

    settings = around.settings._replace(call_limit=min(around.settings.call_limit, _CALL_LIMIT))
    quiet = around._replace(settings=settings, say=lambda text: None, waits=lambda text: None)
    with reading(quiet) as session, existing(around.place.lock_dir) as directory:
        now = session.now()
        kept = KeptTimes(session.xapi, session.pool.uuid, directory)
        found = metrics.read(session, read_local(around.place, session, now), now, kept)
        if directory is not None:
            kept.keep(directory)
        return exposition.text_of(found), session.pool.uuid
