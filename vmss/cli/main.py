"""The command line `vmss COMMAND …`: loads the module of the command, calls it, and gives its exit status."""

import argparse
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Dict, Optional, Sequence

from vmss.cli.parts import STATUS, NotInstalled, complain
from vmss.core.problem import Problem
from vmss.edges.surroundings import drop_callers_environment
from vmss.version import VERSION

# The text of each in the list of commands. A command is the module of that name in vmss.cli.commands, which is loaded
# only when it is called.
COMMANDS: Dict[str, str] = {
    "run": "one pass: take the snapshots that are due",
    "prune": "delete what exceeds retention, and take no snapshot",
    "list": "the snapshot schedules: when they run, and how they fared",
    "show": "one snapshot schedule, with its VMs",
    "history": "how past runs fared: what failed, and why",
    "next": "what will run when, for how long, and how to rearrange it",
    "status": "whether all is well, for monitoring systems",
    "doctor": "what is wrong, with the evidence and the remedy",
    "demo": "watch a simulated pool being snapshotted for a week",
    "simulator": "the embedded xapi, in the foreground",
    "install": "install the plugin and all that belongs to it, without an RPM",
    "uninstall": "remove what was installed that way",
    "xe": "the commands of xe that schedules need, without xe",
    "manual": "the manual page",
    "completion": "the script with which a shell completes all this",
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Given the words of the command line, carry out the command and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    dropped = drop_callers_environment()
    if dropped:
        complain(dropped)
    try:
        command = parser().parse_args(words[:1]).command
        module = import_module("vmss.cli.commands." + command)
        if hasattr(module, "main"):
            return int(module.main(words[1:]))
        return int(module.do(module.parser().parse_args(words[1:])))
    except Problem as problem:
        print("vmss: %s%s" % (problem, _remedy(problem)), file=sys.stderr)
        return problem.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _remedy(problem: Problem) -> str:
    """What to do where there is no session, to be said after the reason."""
    from vmss.edges.sessions import NoSession  # in dom0 they would slow down each start

    if not isinstance(problem, NoSession):
        return ""
    from vmss.edges.settings import place
    from vmss.insight.no_session import remedy

    return " -> " + remedy(problem, place(os.environ))


def parsers() -> Dict[str, Optional[argparse.ArgumentParser]]:
    """The parser of each command in this installation; None for one with a syntax of its own."""
    known: Dict[str, Optional[argparse.ArgumentParser]] = {}
    for name in COMMANDS:
        module = import_module("vmss.cli.commands." + name)
        with suppress(NotInstalled):
            known[name] = module.parser() if hasattr(module, "parser") else None
    return known


def parser() -> argparse.ArgumentParser:
    """The parser of the first word."""
    first = argparse.ArgumentParser(
        prog="vmss",
        description="Scheduled VM snapshots for XenServer and XCP-ng.",
        epilog="`vmss COMMAND --help` tells more of each.\n\n" + STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    first.add_argument("--version", action="version", version="vmss " + VERSION)
    commands = first.add_subparsers(metavar="COMMAND", dest="command")
    commands.required = True
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text)
    return first
