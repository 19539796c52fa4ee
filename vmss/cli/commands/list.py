"""`vmss list`: the snapshot schedules of the pool."""

import argparse
import sys
from typing import TextIO

from vmss.cli import schedules, tables
from vmss.cli.parts import NO_SCHEDULE, READING_STATUS, new_parser, surroundings
from vmss.insight import policies
from vmss.insight.reading import Reading, reading

_EXAMPLES = """examples:
  vmss list                    a table; into a pipe one line each, with tabs between the fields
  vmss list | grep failed      those whose last run failed
  vmss list --json             for programs: times in UTC
  vmss list --csv              for a spreadsheet
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    listing = new_parser(
        "list", "The pool's snapshot schedules: when they run, and how they fared.", _EXAMPLES + "\n" + READING_STATUS
    )
    tables.add_form(listing)
    return listing


def do(arguments: argparse.Namespace) -> int:
    """List them."""
    with reading(surroundings()) as session:
        return show(session, arguments, sys.stdout)


def show(session: Reading, arguments: argparse.Namespace, out: TextIO) -> int:
    """List the schedules of the pool that a session is open with."""
    fields = schedules.fields(session)
    rows = [schedules.row(fields, policies.details(session, entry)) for entry in policies.read(session)]
    tables.write([field.column for field in fields], rows, arguments, out)
    if not rows:
        tables.remark(NO_SCHEDULE, arguments, out)
    return 0
