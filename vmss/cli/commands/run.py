"""`vmss run`: one pass."""

import argparse
import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Optional, TextIO

from vmss.cli import tables
from vmss.cli.parts import BY, SCHEDULE, STATUS, complain, new_parser, tell, utf8

if TYPE_CHECKING:
    from vmss.passes.request import Report

_EXAMPLES = """examples:
  vmss run                     serve what is due, as cron does every 15 minutes
  vmss run --dry-run           say what would be taken and deleted now, and change nothing
  vmss run --dry-run --json    the same for programs
  vmss run --policy nightly    run one snapshot schedule now, by its name
  vmss run --policy 7b10ea29 --missing
                               the same, for those of its VMs that have no snapshot of its latest slot
  VMSS_XAPI=unix:/tmp/pool/xapi.sock vmss run --at 2026-03-01T10:15:00Z
                               the same against a simulator, whose clock is set first
"""


_AT = (
    "act as if it were TIME (ISO 8601), on a simulator or with --dry-run; without a zone it is the coordinator's wall "
    "clock, as in schedules"
)


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    run = new_parser(
        "run",
        "One pass over the pool that VMSS_XAPI names; by default over xapi's own socket, in dom0.",
        _EXAMPLES + "\n" + STATUS,
    )
    run.add_argument(
        "--policy", type=utf8, metavar=SCHEDULE, help="run this snapshot schedule now, whatever its time: " + BY
    )
    run.add_argument(
        "--missing", action="store_true", help="only VMs of that schedule without a snapshot of its latest slot"
    )
    run.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    run.add_argument("--at", metavar="TIME", help=_AT)
    tables.add_form(run)
    return run


def do(arguments: argparse.Namespace) -> int:
    """Carry out a pass."""
    from vmss.cli.progress import carry_out
    from vmss.core.problem import BadInput
    from vmss.edges import stop
    from vmss.edges.settings import place
    from vmss.edges.settings_file import load
    from vmss.edges.surroundings import Surroundings
    from vmss.passes.request import Request
    from vmss.passes.run import run

    if arguments.form and not arguments.dry_run:
        raise BadInput("--%s: goes with --dry-run, which lists what would be done" % arguments.form)
    if arguments.missing and arguments.policy is None:
        raise BadInput("--missing: goes with --policy, which names the schedule")
    request = Request(arguments.policy, arguments.dry_run, _instant(arguments.at), missing=arguments.missing)
    where = place(os.environ)
    settings = load(where.config)
    stop.install()
    around = Surroundings(where, settings, waits=complain)
    if not arguments.dry_run:
        return _tell_next_step(carry_out(request, around))
    return _rehearse(run(request, around), arguments, sys.stdout)


def _tell_next_step(report: "Report") -> int:
    """Say how a pass ended, and where to see why VMs failed. Return its exit status."""
    from vmss.cli.progress import tell_end
    from vmss.core.text import one_line

    status = tell_end(report)
    for served in report.served:
        uuid, name = served.turn.policy.uuid, one_line(served.turn.policy.name, 60)
        if not served.turn.policy.vms:
            complain("%s has no VM: vmss assign %s --uuid VM" % (name or uuid, uuid))
        if served.victims:
            complain("%s: what failed, and what to do: vmss history %s" % (name or uuid, uuid))
            if served.without:
                complain("then, for the VMs that have no snapshot: vmss run --policy %s --missing" % uuid)
    return status


def _rehearse(report: "Report", arguments: argparse.Namespace, out: TextIO) -> int:
    """Print what a rehearsal says; to people also a line about the whole."""
    if report.rehearsal is not None:
        from vmss.cli import rehearsal

        rehearsal.write(report.rehearsal, arguments, out)
    if tables.for_people(arguments):
        tell(report.line)
    return report.status


def _instant(text: Optional[str]) -> Optional[datetime]:
    from vmss.core.datetimes import parse_typed
    from vmss.core.problem import BadInput
    from vmss.core.text import quoted

    if text is None:
        return None
    try:
        instant = parse_typed(text)
    except ValueError as error:
        raise BadInput("--at: %s, such as 2026-03-01T10:15, or 2026-03-01T10:15:00Z" % error)
    if not 1970 < instant.year < 9000:
        raise BadInput("--at: %s is not in a year from 1971 to 8999" % quoted(text))
    return instant
