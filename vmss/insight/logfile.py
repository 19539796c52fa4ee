"""The end of the plugin's log, and of cron's: the last start by cron, and the complaints with their times.

No more than a MiB is read, and no line is trusted: its text is compared from the beginning with texts that we know,
for the names within it are chosen by others.
"""

import os
import re
import stat
from contextlib import suppress
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Dict, Iterator, Match, NamedTuple, Optional, Pattern, Sequence, Tuple

from vmss.core import messages
from vmss.core.datetimes import UTC, in_future, wall_to_instants
from vmss.edges.log import MONTHS

# A pass writes about 300 bytes for each VM, and so does an idle tick: this is days of a typical pool.
_BYTES_MAX = 1 << 20

TICK_LINE = "===Kicking cron job for VMSS==="

# A time as our log has it and rsyslog's traditional format, without year and zone; or as in RFC 3339, which is what
# rsyslog writes of its own accord, and so newer systems in cron's log.
_WALL = (
    r"(?P<month>[A-Z][a-z]{2}) (?P<day>[ 0-3][0-9]) (?P<hour>[0-2][0-9]):(?P<minute>[0-5][0-9]):(?P<second>[0-6][0-9])"
)
_RFC3339 = (
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})T(?P<time>[0-2][0-9]:[0-5][0-9]:[0-6][0-9])(?:\.[0-9]+)?"
    r"(?P<offset>Z|[-+][0-9]{2}:[0-9]{2})"
)
_LINE = re.compile(r"(?:%s|%s) \S+ (?P<program>[^\s:\[]+)(: )?\[(?P<pid>[0-9]+)\]:? (?P<text>.*)\Z" % (_WALL, _RFC3339))
_NO_TIME = (
    "no line begins with a time of the past in a form that is known: Mar  2 10:15:01 or 2026-03-02T10:15:01+00:00"
)
# The line that cron writes when it starts a pass.
_STARTED = re.compile(r"\([^()]*\) CMD \(.*vmss")
# A clock may have been set back; but a line that is ahead of now by more than this was written in another year.
_AHEAD = timedelta(days=1)
# Offsets of zones from UTC are multiples of it; and between the time of a line and its writing there is less.
_QUARTER, _SAME = timedelta(minutes=15), timedelta(seconds=2)


class Complaint(NamedTuple):
    """A complaint that the log can have: the beginning of its line, its meaning and the remedy."""

    key: str
    begins: Pattern[str]
    meaning: str
    remedy: str


def _alert(name: str, remedy: str) -> Complaint:
    return Complaint(name, re.compile("'?%s\\b" % re.escape(name)), messages.SENTENCES[name], remedy)


def _text(key: str, begins: str, meaning: str, remedy: str) -> Complaint:
    return Complaint(key, re.compile(begins), meaning, remedy)


COMPLAINTS: Tuple[Complaint, ...] = (
    _alert(messages.LOGON_FAILURE, "vmss doctor tells whether xapi answers now; the log has the reason below"),
    _alert(messages.FAILED, "vmss history tells which VMs and why; see /var/log/xensource.log and /var/log/SMlog"),
    _alert(messages.LOCK_FAILED, "vmss next tells which schedules clash, and how to move them"),
    _alert(messages.MISSED_EVENT, "vmss next tells which schedules take too long, and how to move them"),
    _alert(messages.LICENSE_ERROR, messages.LICENCES),
    _alert(messages.NOT_QUIESCED, "the check schedules of vmss doctor names the schedule, and has the command"),
    _alert(messages.LEFT_SUSPENDED, "vmss doctor names the VM; xe vm-resume uuid=UUID"),
    _alert(messages.RESUMED, "see /var/log/xensource.log for what ended the checkpoint"),
    _text(
        "left suspended",
        "VM .* was left suspended by its checkpoint, and is not resumed: ",
        "A VM that a checkpoint has left suspended could not be resumed",
        "vmss doctor names the VM; xe vm-resume uuid=UUID",
    ),
    _text(
        "error of its own",
        "The run ended in an error of its own",
        "A defect of the plugin ended a run",
        "report the line of /var/log/VMSSlog, with those before it",
    ),
    _text(
        "hook failed",
        "Hook .* (failed|is not run): |No guest is asked before its snapshot: ",
        "A hook failed, or was not run",
        "see what it said: grep Hook /var/log/VMSSlog; vmss doctor names those that are not run",
    ),
    _text(
        "traceback",
        r"Traceback \(most recent call last\)",
        "The plugin ended in an unforeseen error",
        "report the lines of /var/log/VMSSlog",
    ),
    _text(
        "pass ended early",
        "The pass ends here: ",
        "xapi stopped answering in the middle of a pass",
        "see /var/log/xensource.log; the next pass goes on",
    ),
    _text(
        "left alone",
        "(Snapshot|Disks of snapshot) .* left alone: ",
        "An expired snapshot, or a disk of it, could not be deleted",
        "look at the snapshot that /var/log/VMSSlog names: xe snapshot-param-list uuid=UUID",
    ),
    _text(
        "unreadable VM",
        "VM .* is not served, ",
        "A VM's record cannot be understood",
        "look at the VM that /var/log/VMSSlog names: xe vm-param-list uuid=UUID",
    ),
    _text(
        "alert not stored",
        "The alert could not be (raised|stored)",
        "An alert could not be raised",
        "see whether the coordinator's disk is full: df /var",
    ),
    _text(
        "metrics not written",
        "The file with metrics is not written: ",
        "The file with metrics could not be written",
        "the line of /var/log/VMSSlog says why; metrics_file is set in /etc/vmss.conf",
    ),
    _text(
        "report not made",
        "The report is not (written|mailed): ",
        "The daily report was not made",
        "the line of /var/log/VMSSlog says why; to make it by hand: vmss report",
    ),
    _text(
        "receiver not told",
        "The ping was not taken: |The webhook has not taken all documents: |Receivers are not told: ",
        "A receiver of pings or documents has not taken what it was sent",
        "the check receivers of vmss doctor says whether that lasts; to try them: vmss notify",
    ),
)


class Seen(NamedTuple):
    """A complaint that was found: the number of its lines, and the time and the text of the last."""

    times: int
    last: datetime
    text: str


class LogSummary(NamedTuple):
    """The log in short. `error`: why it cannot be read, else empty; `missing`: there is none; `since`: the time of the
    oldest line that was read; `tick`: the last start by cron; `complaints`: by their keys."""

    path: str
    error: str = ""
    missing: bool = False
    since: Optional[datetime] = None
    tick: Optional[datetime] = None
    complaints: Dict[str, Seen] = {}


def read(path: str, zone: tzinfo, now: datetime) -> LogSummary:
    """Read the end of the plugin's log, whose times are wall-clock times of this zone, without a year."""
    text, error, missing = tail(path)
    if error:
        return LogSummary(path, error, missing)
    first: Optional[Match[str]] = None
    last: Optional[Match[str]] = None
    tick: Optional[Match[str]] = None
    counts: Dict[str, int] = {}
    latest: Dict[str, Match[str]] = {}
    for match in _matches(text):
        if match.group("program") != "VMSS":
            continue
        first, last = first or match, match
        text_of_line = match.group("text")
        if text_of_line == TICK_LINE:
            tick = match
            continue
        for complaint in COMPLAINTS:
            if complaint.begins.match(text_of_line):
                counts[complaint.key] = counts.get(complaint.key, 0) + 1
                latest[complaint.key] = match
    zone = _zone_of(last, path, zone)
    seen = {}
    for key, match in latest.items():
        at = _instant(match, zone, now)
        if at is not None:
            seen[key] = Seen(counts[key], at, match.group("text"))
    return LogSummary(path, since=_instant(first, zone, now), tick=_instant(tick, zone, now), complaints=seen)


def _zone_of(last: Optional[Match[str]], path: str, zone: tzinfo) -> tzinfo:
    """The zone of the log's last line. It is not `zone` if the setting has changed since: the file was written last
    when that line was, and the line's wall clock differs from that instant by the zone's offset."""
    if last is None or last.group("date"):
        return zone
    try:
        written = datetime.fromtimestamp(os.stat(path, follow_symlinks=False).st_mtime, UTC)
    except (OSError, OverflowError, ValueError):
        return zone
    for wall in _walls(last, written.year):
        ahead = wall - written.replace(tzinfo=None)
        offset = _QUARTER * round(ahead / _QUARTER)
        if abs(offset) < timedelta(days=1) and abs(ahead - offset) <= _SAME and offset != zone.utcoffset(written):
            return timezone(offset)
    return zone


def last_start(path: str, zone: tzinfo, now: datetime) -> Tuple[Optional[datetime], Optional[datetime], str]:
    """When cron, by its log, last started a pass; the time of the oldest line that was read; and why neither can be
    told, if so. What is dated in the future proves nothing, and counts for neither."""
    text, error, _missing = tail(path)
    matches = list(_matches(text))
    starts = [
        match
        for match in reversed(matches)
        if match.group("program").lower() in ("crond", "cron") and _STARTED.match(match.group("text"))
    ]
    oldest = _first_past(matches, zone, now)
    if oldest is None and text.strip() and not error:
        error = _NO_TIME
    return _first_past(starts, zone, now), oldest, error


def _first_past(matches: Sequence[Match[str]], zone: tzinfo, now: datetime) -> Optional[datetime]:
    instants = (_instant(match, zone, now) for match in matches)
    return next((instant for instant in instants if instant is not None and not in_future(instant, now)), None)


def tail(path: str) -> Tuple[str, str, bool]:
    """The last MiB of a log, continued in the file that the last rotation made; why it cannot be read, else an empty
    text; and whether there is no log."""
    try:
        data = _end(path, _BYTES_MAX)
    except OSError as error:
        return "", error.strerror or str(error), isinstance(error, FileNotFoundError)
    if len(data) < _BYTES_MAX:
        with suppress(OSError):  # it was never rotated
            data = _end(path + ".1", _BYTES_MAX - len(data)) + data
    return data.decode("utf-8", "replace"), "", False


def _end(path: str, length: int) -> bytes:
    # No following of a link that somebody put in place of the log, no waiting for the writer of a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        return os.pread(descriptor, length, max(0, status.st_size - length))
    finally:
        os.close(descriptor)


def _matches(text: str) -> Iterator[Match[str]]:
    for line in text.split("\n"):
        match = _LINE.match(line)
        if match:
            yield match


def _instant(match: Optional[Match[str]], zone: tzinfo, now: datetime) -> Optional[datetime]:
    """When a line was written: the latest instant that its time can mean. None if there is no line, no such day, or the
    time is far ahead."""
    if match is None:
        return None
    if match.group("date"):
        instant = _absolute(match)
        return instant if instant is not None and instant <= now + _AHEAD else None
    for wall in _walls(match, now.astimezone(zone).year):
        found = [instant for instant in wall_to_instants(zone, wall) if instant <= now + _AHEAD]
        # In the hour that comes twice: the later instant, unless it is still to come.
        past = [instant for instant in found if instant <= now]
        if found:
            return max(past or found)
    return None


def _walls(match: Match[str], here: int) -> Iterator[datetime]:
    """What the time of a line, which has no year, can mean in the years around this one, the latest first."""
    if match.group("month") not in MONTHS:
        return
    month = MONTHS.index(match.group("month")) + 1
    day, hour, minute, second = [int(match.group(name)) for name in ("day", "hour", "minute", "second")]
    for year in range(here + 1, here - 5, -1):
        with suppress(ValueError):  # the 29th of February
            yield datetime(year, month, day, hour, minute, min(second, 59))  # noqa: DTZ001, a wall clock


def _absolute(match: Match[str]) -> Optional[datetime]:
    """The instant of a time that has its year and offset; None if there is no such time."""
    year, month, day = map(int, match.group("date").split("-"))
    hour, minute, second = map(int, match.group("time").split(":"))
    hours, minutes = map(int, match.group("offset").replace("Z", "+00:00").split(":"))
    east = timedelta(hours=hours, minutes=-minutes if match.group("offset").startswith("-") else minutes)
    try:
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=timezone(east)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
