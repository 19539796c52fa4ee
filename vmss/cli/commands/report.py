"""`vmss report`: whether every VM is protected and since when, as one page for people, or as data for programs."""

import argparse
import json
import os
import sys
from datetime import datetime, timedelta
from typing import Any, TextIO

from vmss.cli.page.words import since_when
from vmss.cli.parts import READING_STATUS, count, new_parser, period
from vmss.cli.streams import emit, write_whole
from vmss.core.datetimes import format_iso
from vmss.core.text import one_line
from vmss.edges.settings import Place, place
from vmss.edges.settings_file import load
from vmss.edges.surroundings import Surroundings
from vmss.insight import report
from vmss.insight.findings import Finding, Moment
from vmss.insight.reading import Reading, reading
from vmss.insight.report import TIMELINES, Report

# The version of the form of the data; a change that breaks a reader raises it.
FORM = 1

# So many VMs that are not protected are told in lines.
_BARE_MAX = 20

_EXAMPLES = """examples:
  vmss report                                 in a few lines: what is protected, and what is not
  vmss report --html report.html              the page, of the last 30 days: one file that needs nothing else
  vmss report --html - --since 7d | mail ...  the page to standard output
  vmss report --json                          the same for programs

The page shows whether every VM is protected and since when, what became of each slot, the snapshots of each VM, the
room on storage and how it goes on, the next 24 hours, and the failures with their remedies. It holds the names of VMs:
keep it from who may not know them.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = new_parser(
        "report", "Whether every VM is protected, and since when: as a page.", _EXAMPLES + "\n" + READING_STATUS
    )
    command.add_argument(
        "--since", type=period, default=timedelta(days=30), metavar="Nh|Nd|Nw", help="how far back (default 30d)"
    )
    command.add_argument(
        "--timelines",
        type=count(0, 100000),
        default=TIMELINES,
        metavar="N",
        help="read and show the snapshots of at most so many VMs (default %d)" % TIMELINES,
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--html", metavar="FILE", help="write the page to this file, or to standard output if it is -")
    form.add_argument("--json", action="store_true", help="print the data as JSON")
    return command


def do(arguments: argparse.Namespace) -> int:
    """Make it."""
    where = place(os.environ)
    with reading(Surroundings(where, load(where.config))) as session:
        return show(session, where, arguments, sys.stdout)


def show(session: Reading, where: Place, arguments: argparse.Namespace, out: TextIO) -> int:
    """Show the report on the pool that a session is open with."""
    found = report.read(session, where, arguments.since, arguments.timelines)
    if arguments.json:
        whole = dict(data(found), version=FORM, verdict=found.verdict, protected=found.protected, gap=data(found.gap))
        emit(json.dumps(whole, indent=1, sort_keys=True) + "\n", out)
    elif arguments.html is not None:
        from vmss.cli.page.document import page  # nothing else needs it

        text = page(found, session.zone)
        if arguments.html == "-":
            emit(text, out)
        else:
            write_whole(arguments.html, text)
    else:
        emit(_in_short(found, session.moment), out)
    return 0


def _in_short(found: Report, moment: Moment) -> str:
    """What is protected and what is not, a line for each."""
    lines = [found.verdict, since_when(found, moment)]
    lines += ["%s: %s%s" % (one.state, one.text, " -> %s" % one.remedy if one.remedy else "") for one in found.findings]
    bare = [vm for vm in found.vms if not vm.protected]
    lines += ["%s: %s: %s" % (vm.state, vm.name or vm.uuid, vm.why) for vm in bare[:_BARE_MAX]]
    lines += ["... and %d more: vmss report --html FILE" % (len(bare) - _BARE_MAX)] if len(bare) > _BARE_MAX else []
    return "".join(one_line(line) + "\n" for line in lines)


def data(value: Any) -> Any:
    """A value of the report as JSON has it: objects for what has names, instants in ISO 8601."""
    if isinstance(value, datetime):
        return format_iso(value)
    fields = getattr(value, "_asdict", None)
    if fields is not None:
        found = {name: data(item) for name, item in fields().items()}
        return dict(found, state=value.state) if isinstance(value, Finding) else found
    if isinstance(value, (tuple, list)):
        return [data(item) for item in value]
    return sorted(value) if isinstance(value, frozenset) else value
