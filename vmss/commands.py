"""The command line: `vmss run`, `vmss demo`, `vmss simulator`."""
import argparse
import os
import sys
from contextlib import suppress
from datetime import datetime
from typing import Callable, Optional, Sequence

from vmss.version import VERSION

_DESCRIPTION = "Scheduled VM snapshots for XenServer and XCP-ng."
_STATUS = """exit status:
  0  all well, or nothing to do      1  a snapshot failed
  2  bad usage or bad input          3  no session with xapi
  4  another run holds the lock"""
_RUN_EXAMPLES = """examples:
  vmss run                     serve what is due, as cron does every 15 minutes
  vmss run --dry-run           say what would be taken and deleted now, and change nothing
  vmss run --policy UUID       run one snapshot schedule now
  VMSS_XAPI=unix:/tmp/pool/xapi.sock vmss run --at 2026-03-01T10:15:00Z
                               the same against a simulator, whose clock is set first
"""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Given the words of the command line, do it and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] == ["simulator"]:
            return _simulator(words[1:])
        arguments = _parser().parse_args(words)
        return int(arguments.do(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vmss", description=_DESCRIPTION, epilog=_STATUS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version="vmss " + VERSION)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    commands.required = True

    run = commands.add_parser(
        "run", help="one pass: take the snapshots that are due", epilog=_RUN_EXAMPLES + "\n" + _STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="One pass over the pool that VMSS_XAPI names; by default over xapi's own socket, in dom0.",
    )
    run.add_argument("--policy", metavar="UUID", help="run this snapshot schedule now, whatever its time")
    run.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    run.add_argument("--at", metavar="TIME", help="act as though it were TIME (ISO 8601), on a simulator or dry")
    run.set_defaults(do=_run)

    demo = commands.add_parser(
        "demo", help="watch a simulated pool being snapshotted for a week",
        description="A simulated pool in virtual time, driven through the real client over a real socket.",
    )
    demo.add_argument("--days", type=_count(1, 366), default=7, metavar="N", help="days to simulate (default 7)")
    demo.add_argument("--vms", type=_count(1, 200), default=6, metavar="N", help="VMs in the pool (default 6)")
    demo.set_defaults(do=_demo)

    # Only for the list of commands: its own module reads the rest, and nothing else has to load it.
    commands.add_parser("simulator", help="the embedded xapi, in the foreground")
    return parser


def _count(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError("%r is not a whole number from %d to %d" % (text, low, high))
        return int(text)

    return parse


def _run(arguments: argparse.Namespace) -> int:
    from vmss import stop
    from vmss.problem import Problem
    from vmss.run import BadInput, Request, Surroundings, run
    from vmss.settings import load, place
    from vmss.text import is_uuid, quoted

    try:
        if arguments.policy is not None and not is_uuid(arguments.policy):
            raise BadInput("--policy: %s is not a uuid (36 characters, as in xe vmss-list)" % quoted(arguments.policy))
        request = Request(arguments.policy, arguments.dry_run, _instant(arguments.at))
        where = place(os.environ)
        settings = load(where.config)
        stop.install()
        # Progress is for people; the exit status and the log say the rest.
        talkative = arguments.dry_run or sys.stdout.isatty()
        report = run(request, Surroundings(where, settings, say=_say if talkative else _be_quiet))
    except Problem as problem:
        print("vmss: %s" % problem, file=sys.stderr)
        return problem.status
    if report.status:
        print(report.line, file=sys.stderr)
    else:
        _say(report.line)
    return report.status


def _say(text: str) -> None:
    # Whatever becomes of the terminal, and whatever it can show: the pass goes on.
    with suppress(OSError, ValueError):
        encoding = sys.stdout.encoding or "ascii"
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _be_quiet(text: str) -> None:
    pass


def _instant(text: Optional[str]) -> Optional[datetime]:
    from vmss.datetimes import parse_datetime
    from vmss.run import BadInput
    from vmss.text import quoted

    if text is None:
        return None
    try:
        instant = parse_datetime(text)
    except ValueError as error:
        raise BadInput("--at: %s, such as 2026-03-01T10:15:00Z" % error)
    if not 1970 < instant.year < 9000:
        raise BadInput("--at: %s is not in a year from 1971 to 8999" % quoted(text))
    return instant


def _demo(arguments: argparse.Namespace) -> int:
    from vmss.demo import demo

    return demo(arguments.days, arguments.vms, sys.stdout)


def _simulator(words: Sequence[str]) -> int:
    from vmss.simulator.command import add_arguments, main

    parser = argparse.ArgumentParser(
        prog="vmss simulator", description="An embedded xapi in the foreground: a whole pool to try things on."
    )
    add_arguments(parser)
    parser.set_defaults(plugins=_plugins())
    return main(parser.parse_args(words), socket_variable="VMSS_XAPI")


def _plugins() -> Optional[str]:
    """The folder of our own host plugin: of the checkout, or where it was installed."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for folder in (os.path.join(here, "plugins"), sys.prefix + "/etc/xapi.d/plugins", "/etc/xapi.d/plugins"):
        if os.path.exists(os.path.join(folder, "vmss")):
            return folder
    return None
