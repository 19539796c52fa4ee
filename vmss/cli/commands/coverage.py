"""`vmss coverage`: which VMs have no snapshots to expect, and which snapshots nobody deletes."""

import argparse
import sys
from typing import List, TextIO

from vmss.cli import tables
from vmss.cli.layout import Column
from vmss.cli.parts import READING_STATUS, new_parser, surroundings
from vmss.cli.streams import emit
from vmss.core import words
from vmss.core.text import one_line
from vmss.insight import coverage
from vmss.insight.reading import Reading, reading

_EXAMPLES = """examples:
  vmss coverage                        the numbers, then what is not covered, and what can be done
  vmss coverage | grep '^no schedule'  the VMs on no schedule
  vmss coverage --json                 for programs

what it lists:
  no schedule   a VM on no schedule; the tag vmss:none says that this is on purpose, and then it is only counted
  disabled      a VM whose schedule is disabled, or cannot be understood
  no snapshot   a VM of which no snapshot can be taken, and why: as far as records tell without trying
  some disks    the same, but only some of its disks are in the way
  without disks a VM that is snapshotted without some of its disks, because the disk or a setting says so
  no VM         a schedule without VMs
  left behind   scheduled snapshots that no run deletes: the VM was deleted or taken off, or its schedule was deleted.
                The size is what their disks, memory and base copies occupy; pinned ones do not count
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = new_parser(
        "coverage",
        "Which VMs are on no schedule, or cannot be snapshotted, and which snapshots no run deletes.",
        _EXAMPLES + "\n" + READING_STATUS,
    )
    tables.add_form(command)
    return command


def do(arguments: argparse.Namespace) -> int:
    """Show it."""
    with reading(surroundings()) as session:
        return show(session, arguments, sys.stdout)


def show(session: Reading, arguments: argparse.Namespace, out: TextIO) -> int:
    """Show what is covered in the pool that a session is open with."""
    found = coverage.read(session)
    if tables.for_people(arguments):
        emit(one_line(found.headline(session.now())) + "\n", out)
    tables.write(_columns(session), [row._asdict() for row in found.rows], arguments, out)
    return 0


def _columns(session: Reading) -> List[Column]:
    return [
        Column("what", "what"),
        Column("vm", "VM", least=14),
        Column("schedule", "schedule", least=10, gives=[(4, None)]),
        Column("why", "why", least=24, flows=True),
        Column("remedy", "what can be done", least=24, flows=True, gives=[(5, None)]),
        Column("snapshots", "snapshots", right=True, gives=[(1, None)]),
        Column("oldest", "the oldest", session.moment, gives=[(2, None)]),
        Column("size", "size on disk", words.size, right=True, gives=[(3, None)]),
        Column("uuid"),
        Column("schedule_uuid"),
        Column("error"),
    ]
