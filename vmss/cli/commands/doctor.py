"""`vmss doctor`: what is wrong, the evidence, and what to do, in the order of the vendor's article CTX224169."""

import argparse
import os
import sys
from typing import Dict, Iterator, Sequence, TextIO

from vmss.cli import finding_rows, tables
from vmss.cli.parts import new_parser
from vmss.edges.settings import Settings, place
from vmss.edges.surroundings import Surroundings
from vmss.insight.checks import examine
from vmss.insight.findings import STATES, UNKNOWN, Finding, summary, worst
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
    findings, has_session = examine(around, root, dom0)
    columns = finding_rows.columns()
    if tables.for_people(arguments) and out.isatty():
        tables.write(columns[:3], list(_with_remedies(findings, out)), arguments, out)
    else:
        tables.write(columns, finding_rows.rows(findings), arguments, out)
    severity = worst(findings) if has_session else UNKNOWN
    tables.remark("VMSS %s: %s" % (STATES[severity], summary(findings, "nothing is wrong")), arguments, out)
    return severity


def _with_remedies(findings: Sequence[Finding], out: TextIO) -> Iterator[Dict[str, str]]:
    """The rows for people: each finding with its evidence and its remedy below it."""
    empty = "\u00a0" if "utf" in (out.encoding or "").lower() else "-"
    for finding in findings:
        yield {"state": finding.state, "check": finding.check, "text": finding.text}
        if finding.severity:
            below = (("shown by: ", finding.evidence), ("what to do: ", finding.remedy))
            yield from ({"state": empty, "check": empty, "text": title + text} for title, text in below if text)
