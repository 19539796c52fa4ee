"""Checks of passes: that cron starts them, what they complain of, whether one is stuck, and what they left undone."""

from datetime import datetime, timedelta
from typing import Iterator, List

from vmss.core.text import one_line
from vmss.edges.lock import existing
from vmss.edges.sessions import count_unclosed
from vmss.insight import left_over as left
from vmss.insight import lock_and_log, suspended
from vmss.insight.case import Case
from vmss.insight.findings import OK, WARNING, Finding, Moment, skipped
from vmss.insight.logfile import COMPLAINTS, LogSummary
from vmss.insight.names import first_names
from vmss.passes.journal import read

# A complaint of the log that is older than this is history.
_RECENT = timedelta(days=1)


def tick(case: Case) -> Iterator[Finding]:
    """Whether cron starts passes, by the plugin's log."""
    yield lock_and_log.tick(case.local, case.now, case.dom0)


def log(case: Case) -> Iterator[Finding]:
    """The complaints in the plugin's log."""
    if case.local.log is None:
        yield skipped("log", case.local.hidden)
        return
    yield from complaints(case.local.log, case.now, case.moment)


def complaints(log: LogSummary, now: datetime, moment: Moment) -> List[Finding]:
    """The complaints in a log, each of which is a warning for a day."""
    if log.missing or log.error:
        return [skipped("log", "%s: %s" % (one_line(log.path), log.error))]
    found = []
    for complaint in COMPLAINTS:
        seen = log.complaints.get(complaint.key)
        if seen is None:
            continue
        recent = now - seen.last <= _RECENT
        found.append(
            Finding(
                WARNING if recent else OK,
                "log",
                "%s: %s (last %s; lines: %d)" % (complaint.key, complaint.meaning, moment(seen.last), seen.times),
                one_line(seen.text, 200),
                complaint.remedy if recent else "",
            )
        )
    if not found:
        since = " since %s" % moment(log.since) if log.since else ""
        found.append(Finding(OK, "log", "no complaints%s" % since, one_line(log.path)))
    return found


def lock(case: Case) -> Iterator[Finding]:
    """Whether passes can take the lock, and whether the one that holds it ends."""
    if case.local.hidden:
        yield skipped("lock", case.local.hidden)
    else:
        finding = lock_and_log.running_pass(case.open, case.local, case.known, case.now)
        yield finding._replace(check="lock")


def left_over(case: Case) -> Iterator[Finding]:
    """What could not be deleted, and the disks that a dying xapi may have left."""
    found = left.findings(left.read(case.open), case.moment, case.now)
    yield from found or [Finding(OK, left.CHECK, "nothing is left over")]


def leftovers(case: Case) -> Iterator[Finding]:
    """What an interrupted pass recorded, and the next one is to finish."""
    if case.local.holder is not None:
        yield skipped("left by passes", "a pass is running, and will finish them")
        return
    records = [key for key, entry in read(case.open.pool.other_config) if entry is None or entry.stuck is None]
    if records:
        yield Finding(
            WARNING,
            "left by passes",
            "deletions that a pass did not finish: the next one will",
            "pool.other_config has %s" % first_names(records),
            "vmss run",
        )
    sessions = _open_sessions(case)
    if sessions:
        yield Finding(
            WARNING,
            "left by passes",
            "sessions that were left open: %d; a pass closes them once their operations have ended" % sessions,
            one_line(case.local.lock_dir),
            "vmss run; xe task-list shows the operations",
        )
    if not records and not sessions:
        yield Finding(OK, "left by passes", "no pass has left anything unfinished")


def suspended_vms(case: Case) -> Iterator[Finding]:
    """Whether a checkpoint has left VMs suspended."""
    yield from suspended.check(case.open, case.local, case.now)


def _open_sessions(case: Case) -> int:
    """How many sessions of earlier passes are recorded to be closed."""
    local = case.local
    if local.hidden or local.lock_error:
        return 0
    with existing(local.lock_dir) as directory:
        return 0 if directory is None else count_unclosed(directory, case.open.pool.uuid)
