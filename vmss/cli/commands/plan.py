"""`vmss plan`: which scheduled snapshots stay, which go, when, and why."""

import argparse
import sys
from typing import TextIO

from vmss.cli import fates, tables
from vmss.cli.parts import BY, READING_STATUS, SCHEDULE, new_parser, surroundings, utf8
from vmss.insight import policies
from vmss.insight.plans import read_plan
from vmss.insight.reading import Reading, reading

_EXAMPLES = """examples:
  vmss plan                    of each VM of each schedule: what the next run takes, which snapshots stay, and which go
  vmss plan nightly            the same for one schedule; without one, also snapshots that no schedule deletes
  vmss plan nightly --json     for programs: the same, with all uuids

A snapshot stays because it is one of the newest, is kept by the setting keep or keep_days, is pinned, is dated in the
future, is being copied or exported, or because its schedule is disabled or its VM on none. The run that deletes it is
told as far as 400 runs ahead, as though none of them failed.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = new_parser(
        "plan",
        "Which scheduled snapshots of each VM stay, which go, by which run, and why; and what the next run takes.",
        _EXAMPLES + "\n" + READING_STATUS,
    )
    command.add_argument("policy", type=utf8, nargs="?", metavar=SCHEDULE, help="one snapshot schedule: " + BY)
    tables.add_form(command)
    return command


def do(arguments: argparse.Namespace) -> int:
    """Show it."""
    with reading(surroundings()) as session:
        return show(session, arguments, sys.stdout)


def show(session: Reading, arguments: argparse.Namespace, out: TextIO) -> int:
    """Show the plan of the pool that a session is open with."""
    entries = policies.read(session)
    chosen = entries if arguments.policy is None else [policies.find(entries, arguments.policy)]
    rows = [fates.row(*one) for one in read_plan(session, chosen, arguments.policy is None)]
    columns = fates.columns(session.moment, session.moment_there, session.brief_moment)
    tables.write(columns, rows, arguments, out)
    if not rows:
        tables.remark("There is no VM on a schedule, and no scheduled snapshot.", arguments, out)
    return 0
