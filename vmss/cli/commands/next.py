"""`vmss next`: what will run when, for how long, and how to rearrange schedules that overlap."""

import argparse
import sys
from typing import Any, Callable, Dict, List, Sequence, TextIO

from vmss.cli import tables
from vmss.cli.layout import Column
from vmss.cli.parts import READING_STATUS, complain, count, new_parser, surroundings
from vmss.core import words
from vmss.insight.forecast import Expected
from vmss.insight.outlook import Outlook, read_outlook, warnings
from vmss.insight.reading import Reading, reading

_EXAMPLES = """examples:
  vmss next                    the runs of the next 24 hours; on a terminal those of one schedule together
  vmss next --hours 168        those of a week
  vmss next --json             for programs

The duration of a run is the median of the last 7 that were started at their slot, as their alerts tell it; if none
does, it is estimated from the VMs. Where runs get in each other's way, the output names a quarter of an hour to move
one to.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = new_parser(
        "next",
        "Which schedules will run when, for how long by their past runs, and where they overlap.",
        _EXAMPLES + "\n" + READING_STATUS,
    )
    command.add_argument("--hours", type=count(1, 24 * 31), default=24, metavar="N", help="how far ahead (default 24)")
    tables.add_form(command)
    return command


def do(arguments: argparse.Namespace) -> int:
    """Show it."""
    with reading(surroundings()) as session:
        return show(session, arguments, sys.stdout)


def show(session: Reading, arguments: argparse.Namespace, out: TextIO) -> int:
    """Show what will run in the pool that a session is open with."""
    outlook = read_outlook(session, arguments.hours)
    rows, columns = [_row(outlook, run) for run in outlook.runs], _columns(session)
    if tables.for_people(arguments) and out.isatty():
        rows, columns[2:2] = _grouped(rows), _columns_of_groups(session)
    tables.write(columns, rows, arguments, out)
    if not outlook.runs:
        hours = "hour" if arguments.hours == 1 else "%d hours" % arguments.hours
        tables.remark("Nothing will run in the next %s: see vmss list." % hours, arguments, out)
    if tables.for_people(arguments):
        say = _speaker(arguments, out)
        for line in warnings(session, outlook):
            say(line)
    return 0


def _speaker(arguments: argparse.Namespace, out: TextIO) -> Callable[[str], None]:
    """How warnings are printed: below a table on a terminal, else on standard error."""
    return (lambda line: tables.remark(line, arguments, out)) if out.isatty() else complain


def _grouped(rows: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """The rows of one schedule together, as far as the same is said of them: at the first of them, with their number
    and the time of the last. Else the runs of an hourly schedule would hide all others."""
    groups: Dict[Any, List[Dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["uuid"], row["vms"], row["remarks"]), []).append(row)
    return [
        dict(group[0], times=len(group), last=group[-1]["time"] if len(group) > 1 else None)
        for group in groups.values()
    ]


def _columns_of_groups(session: Reading) -> List[Column]:
    at = [(3, session.moment_there), (5, session.brief_moment), (7, None)]
    return [Column("times", "runs", right=True), Column("last", "last of them", session.moment, gives=at)]


def _columns(session: Reading) -> List[Column]:
    at = [(3, session.moment_there), (5, session.brief_moment)]
    return [
        Column("time", "time", session.moment, gives=at),
        Column("policy", "schedule", least=20),
        Column("vms", "VMs", right=True, gives=[(6, None)]),
        Column("seconds", "takes about", words.duration, right=True, gives=[(8, None)]),
        Column(
            "runs", "by past runs", lambda runs: str(runs) if runs else "an estimate", right=True, gives=[(4, None)]
        ),
        Column("ends", "ends about", session.moment, gives=[(2, None)]),
        Column("remarks", "remarks", style=lambda remarks: "yellow" if remarks else "", least=24, flows=True),
        Column("uuid", "uuid", gives=[(1, None)]),
        Column("next_slot"),
        Column("late"),
        Column("missed"),
        Column("too_long"),
        Column("behind"),
        Column("on"),
        Column("move"),
    ]


def _row(outlook: Outlook, run: Expected) -> Dict[str, Any]:
    load, move = outlook.loads[run.policy.uuid], outlook.moves.get(run.policy.uuid)
    return {
        "time": run.at,
        "policy": run.policy.name,
        "uuid": run.policy.uuid,
        "vms": len(run.policy.vms),
        "seconds": round(load.seconds),
        "runs": load.runs,
        "ends": None if run.missed else run.ends,
        "next_slot": run.next_slot,
        "late": run.late,
        "missed": run.missed,
        "too_long": run.too_long,
        "behind": outlook.behind(run),
        "on": outlook.shared(run),
        "move": move.command if move else None,
        "remarks": "; ".join(outlook.remarks(run)),
    }
