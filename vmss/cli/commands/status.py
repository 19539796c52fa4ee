"""`vmss status`: whether all is well: for people, or as a monitoring plug-in says it; and an exit status for both."""

import argparse
import os
import sys
from typing import TextIO

from vmss.cli import colour, finding_rows, tables
from vmss.cli.parts import new_parser
from vmss.cli.streams import WriteError, emit
from vmss.core.problem import Problem
from vmss.core.text import one_line
from vmss.edges.settings import Place, place
from vmss.edges.settings_file import load
from vmss.edges.surroundings import Surroundings
from vmss.insight import state
from vmss.insight.findings import STATES, Finding, counts, ordered, summary, worst
from vmss.insight.lock_and_log import read_local
from vmss.insight.reading import Reading, reading
from vmss.insight.state import CALL_LIMIT, Tally

_EXAMPLES = """examples:
  vmss status                  the verdict, then the details; into a pipe as with --nagios
  vmss status --nagios         one line that says all, with performance data, then the details, each on one line
  vmss status --json           the details, for programs

It takes no lock, writes nothing, and may be called every minute. Where the lock and the log cannot be seen, over https
or on a host that is not the coordinator, it says so, and judges by what xapi tells.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = new_parser(
        "status",
        "Whether all is well: a pass that is running, the last tick, the lock, how runs "
        "fared, and VMs without the snapshots that their schedules promise.",
        _EXAMPLES + "\n" + finding_rows.STATUS,
    )
    command.add_argument(
        "--nagios", action="store_true", help="on a terminal too, the lines of a plug-in of a monitoring system"
    )
    tables.add_form(command)
    return command


def do(arguments: argparse.Namespace) -> int:
    """Show it."""
    where = place(os.environ)
    try:
        settings = load(where.config)
        settings = settings._replace(call_limit=min(settings.call_limit, CALL_LIMIT))
        with reading(Surroundings(where, settings)) as session:
            return show(session, where, arguments, sys.stdout)
    except WriteError:
        raise
    except Problem as problem:
        return _report(state.without_session(problem, where), arguments, sys.stdout)


def show(session: Reading, where: Place, arguments: argparse.Namespace, out: TextIO) -> int:
    """Show the state of the pool that a session is open with."""
    now = session.now()
    return _report(state.examine(session, read_local(where, session, now), now), arguments, out)


def _report(tally: Tally, arguments: argparse.Namespace, out: TextIO) -> int:
    """Print the findings, in the form that is asked for; return the exit status."""
    severity, findings = worst(tally.findings), ordered(tally.findings)
    if arguments.form:
        tables.write(finding_rows.columns(), finding_rows.rows(tally.findings), arguments, out)
        return severity
    if out.isatty() and not arguments.nagios:
        _tell_people(tally, arguments, out)
        return severity
    line = "VMSS %s: %s" % (STATES[severity], _safe(summary(findings, tally.well)))
    if tally.numbers:
        line += " | " + " ".join("%s=%s" % (label, value) for label, value in tally.numbers.items())
    emit("".join(text + "\n" for text in [line] + [_safe(_detail(finding)) for finding in findings]), out)
    return severity


def _tell_people(tally: Tally, arguments: argparse.Namespace, out: TextIO) -> None:
    """Print the verdict, then the findings."""
    coloured = colour.wanted(arguments.color, out)
    said = [part for part in (counts(tally.findings, ""), tally.well) if part]
    emit(finding_rows.verdict(worst(tally.findings), "; ".join(said), tables.width(), coloured), out)
    emit(finding_rows.screen(tally.findings, tables.width(), coloured), out)


def _detail(finding: Finding) -> str:
    text = "%s: %s: %s" % (finding.state, finding.check, finding.text)
    text += " (%s)" % finding.evidence if finding.evidence else ""
    return text + (" -> %s" % finding.remedy if finding.remedy else "")


def _safe(text: str) -> str:
    """A line for a monitoring system: after a | it would read performance data."""
    return one_line(text, 1000).replace("|", "\\x7c")
