"""`vmss run`: one pass."""

import argparse
import os
from datetime import datetime
from typing import Optional

from vmss.cli.parts import BY, SCHEDULE, STATUS, new_parser, say, tell, utf8

_EXAMPLES = """examples:
  vmss run                     serve what is due, as cron does every 15 minutes
  vmss run --dry-run           say what would be taken and deleted now, and change nothing
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
    return run


def do(arguments: argparse.Namespace) -> int:
    """Carry out a pass."""
    from vmss.cli.progress import carry_out, tell_end
    from vmss.core.problem import BadInput
    from vmss.edges import stop
    from vmss.edges.settings import load, place
    from vmss.edges.surroundings import Surroundings
    from vmss.passes.run import Request, run

    if arguments.missing and arguments.policy is None:
        raise BadInput("--missing: goes with --policy, which names the schedule")
    request = Request(arguments.policy, arguments.dry_run, _instant(arguments.at), missing=arguments.missing)
    where = place(os.environ)
    settings = load(where.config)
    stop.install()
    if arguments.dry_run:
        report = run(request, Surroundings(where, settings, say=tell))
        tell(report.line)
        return report.status
    return tell_end(carry_out(request, Surroundings(where, settings, say=say)))


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
