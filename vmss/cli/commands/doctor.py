"""`vmss doctor`: what is wrong, the evidence, and what to do, the worst first."""

import argparse
import os
import sys
from typing import TextIO

from vmss.cli import colour, finding_rows, tables
from vmss.cli.parts import new_parser
from vmss.cli.progress import sign_of_life
from vmss.cli.streams import emit
from vmss.edges.settings import Settings, place
from vmss.edges.surroundings import Surroundings
from vmss.insight.checks import examine
from vmss.insight.findings import UNKNOWN, counts, worst
from vmss.installation.root import Root

_EXAMPLES = """examples:
  vmss doctor                  all checks; in dom0 of the coordinator none is left out
  vmss doctor | grep -v ^OK    what is wrong, and what could not be checked
  vmss doctor --json           for programs, or to attach to a report

It changes nothing. A check that cannot be carried out where it is called says `not checked`, and why.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = new_parser(
        "doctor",
        "What is wrong with scheduled snapshots here, with the evidence and the remedy.",
        _EXAMPLES + "\n" + finding_rows.STATUS,
    )
    tables.add_form(command)
    return command


def do(arguments: argparse.Namespace) -> int:
    """Examine, and show what was found."""
    where = place(os.environ)
    return show(Surroundings(where, Settings()), Root("/"), where.local, arguments, sys.stdout)


def show(around: Surroundings, root: Root, dom0: bool, arguments: argparse.Namespace, out: TextIO) -> int:
    """Examine what is there; `root` is where the files of this machine are, `dom0` whether it is one."""
    with sign_of_life(sys.stderr) as tell:
        findings, has_session = examine(around, root, dom0, tell)
    severity = worst(findings) if has_session else UNKNOWN
    if not tables.for_people(arguments) or not out.isatty():
        tables.write(finding_rows.columns(), finding_rows.rows(findings), arguments, out)
        return severity
    coloured = colour.wanted(arguments.color, out)
    emit(finding_rows.screen(findings, tables.width(), coloured), out)
    said = counts(findings, "nothing is wrong")
    emit(finding_rows.verdict(severity, said, tables.width(), coloured), out)
    return severity
