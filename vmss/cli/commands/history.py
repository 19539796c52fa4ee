"""`vmss history`: how past runs of the snapshot schedules fared."""

import argparse
import re
import sys
from datetime import timedelta
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, TextIO

from vmss.cli import colour, tables
from vmss.cli.layout import Column
from vmss.cli.parts import BY, NO_SCHEDULE, READING_STATUS, SCHEDULE, new_parser, surroundings, utf8
from vmss.core import words
from vmss.core.failures import failure_of
from vmss.core.text import one_line
from vmss.insight import history, policies
from vmss.insight.history import Run
from vmss.insight.policies import Entry
from vmss.insight.reading import Reading, reading

_EXAMPLES = """examples:
  vmss history                       the last 10 runs of each snapshot schedule, the newest first
  vmss history nightly --last 7d     those of one, of the last seven days
  vmss history --last 24h --json     for programs: with XAPI's error of every VM that failed

XAPI keeps 10,000 messages of all kinds: older runs are unknown.
"""

# How a run was started, in a word.
_STARTED = {history.AT_SLOT: "by cron"}

_DONE = re.compile(r"([0-9]+ of [0-9]+ VMs?) snapshotted, ([0-9]+) expired snapshots? deleted")

_HOURS = {"h": 1, "d": 24, "w": 24 * 7}


class Last(NamedTuple):
    """How far back: the number of runs of each schedule, or a time."""

    runs: Optional[int]
    time: timedelta = timedelta()


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = new_parser(
        "history", "The run history, as XenCenter shows it: the newest first.", _EXAMPLES + "\n" + READING_STATUS
    )
    command.add_argument("policy", type=utf8, metavar=SCHEDULE, nargs="?", help="one snapshot schedule: " + BY)
    command.add_argument(
        "--last",
        metavar="N|Nh|Nd|Nw",
        type=last,
        default=Last(10),
        help="the number of runs of each schedule, or the hours, days or weeks to go back (default 10)",
    )
    tables.add_form(command)
    return command


def last(text: str) -> Last:
    """The kind of the argument of --last."""
    match = re.match(r"([1-9][0-9]{0,4})([hdw]?)\Z", text)
    if not match:
        raise argparse.ArgumentTypeError(
            "%s is not a number of runs, or of hours, days or weeks such as 24h, 7d or 2w" % ascii(one_line(text, 40))
        )
    number = int(match.group(1))
    return Last(None, timedelta(hours=number * _HOURS[match.group(2)])) if match.group(2) else Last(number)


def do(arguments: argparse.Namespace) -> int:
    """Show it."""
    with reading(surroundings()) as session:
        return show(session, arguments, sys.stdout)


def show(session: Reading, arguments: argparse.Namespace, out: TextIO) -> int:
    """Show the history of the schedules of the pool that a session is open with."""
    entries = policies.read(session)
    if arguments.policy is not None:
        entries = [policies.find(entries, arguments.policy)]
    found = [(entry, run) for entry in entries for run in _runs(session, entry, arguments.last)]
    found.sort(key=lambda item: item[1].at, reverse=True)
    tables.write(_columns(session), [_row(session, entry, run) for entry, run in found], arguments, out)
    if not found:
        tables.remark("No run is known: vmss next tells when one will be." if entries else NO_SCHEDULE, arguments, out)
    for line in history.advice([run for _, run in found], session.pool.uuid):
        tables.remark(line, arguments, out)
    return 0


def _runs(session: Reading, entry: Entry, wanted: Last) -> List[Run]:
    """The newest runs of one schedule."""
    if wanted.runs is None:
        return policies.runs_since(session, entry, wanted.time)
    return policies.newest_runs(session, entry, wanted.runs)


def _columns(session: Reading) -> List[Column]:
    at = [(1, session.moment_there), (3, session.brief_moment)]
    return [
        Column("policy", "schedule", least=16),
        Column("time", "time", session.moment, gives=at),
        Column("result", "result", style=colour.of_result),
        Column("seconds", "took", words.duration, right=True, gives=[(5, None)]),
        Column("start", "started", lambda start: str(_STARTED.get(start, start)), gives=[(4, None)]),
        Column("story", "what happened", _in_few_words, least=30, flows=True),
        Column("uuid"),
        Column("message"),
        Column("remark"),
        Column("vms"),
        Column("taken"),
        Column("deleted"),
        Column("failures", show=_failures),
    ]


def _in_few_words(story: str) -> str:
    """The course of a run, short enough for the line of a table."""
    return _DONE.sub(
        lambda done: done.group(1) + ("" if done.group(2) == "0" else ", %s deleted" % done.group(2)), story
    )


def _row(session: Reading, entry: Entry, run: Run) -> Dict[str, Any]:
    counts = run.counts
    return {
        "policy": entry.name,
        "uuid": entry.uuid,
        "time": run.at,
        "result": run.result,
        "message": run.name,
        "story": run.story,
        "remark": run.remark,
        "vms": counts.vms if counts else None,
        "taken": counts.snapshotted if counts else None,
        "deleted": counts.deleted if counts else None,
        "start": counts.start or None if counts else None,
        "seconds": counts.seconds if counts else None,
        "failures": [
            {
                "vm": victim.name,
                "uuid": victim.uuid,
                "error": list(victim.error),
                "reason": failure_of(victim.error).sentence,
                "remedy": failure_of(victim.error, victim.uuid, run.policy, session.pool.uuid).remedy,
            }
            for victim in run.victims
        ],
    }


def _failures(failures: Sequence[Dict[str, Any]]) -> str:
    return "; ".join("%s: %s (%s)" % (one["vm"], one["reason"], " ".join(one["error"])) for one in failures)
