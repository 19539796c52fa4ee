"""The command line `vmss COMMAND …`: loads the module of the command, calls it, and gives its exit status."""

import argparse
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Dict, Optional, Sequence

from vmss.cli.parts import STATUS, NotInstalled, Parser, complain
from vmss.cli.streams import emit, give_up, open_closed, tell_error
from vmss.core.problem import EXIT_BAD_INPUT, EXIT_NO_SESSION, Problem
from vmss.core.text import quoted
from vmss.core.words import did_you_mean
from vmss.edges.surroundings import drop_callers_environment
from vmss.installation.modules import NEEDED, PRIVATE, how_to_get
from vmss.version import VERSION

# The text of each in the list of commands. A command is the module of that name in vmss.cli.commands, which is loaded
# only when it is called.
COMMANDS: Dict[str, str] = {
    "run": "one pass: take the snapshots that are due",
    "prune": "delete what exceeds retention, and take no snapshot",
    "list": "the snapshot schedules: when they run, and how they fared",
    "show": "one snapshot schedule, with its VMs",
    "plan": "which snapshots stay, which go, when, and why",
    "pin": "keep one scheduled snapshot, whatever retention says",
    "unpin": "let retention have it again",
    "history": "how past runs fared: what failed, and why",
    "next": "what will run when, for how long, and how to rearrange it",
    "coverage": "which VMs have no snapshots to expect, and which snapshots nobody deletes",
    "report": "whether every VM is protected, and since when: as a page",
    "assign": "put VMs on a snapshot schedule, by tag, name or uuid",
    "unassign": "take VMs off their snapshot schedules",
    "apply": "make the snapshot schedules as a file declares them",
    "export": "the snapshot schedules as such a file, for another pool",
    "watch": "the pass at work, live: what it takes, what waits, what failed",
    "status": "whether all is well, for monitoring systems",
    "metrics": "the same in numbers, for Prometheus",
    "notify": "try the receivers of pings and documents",
    "doctor": "what is wrong, with the evidence and the remedy",
    "demo": "watch a simulated pool being snapshotted for a week",
    "simulator": "the embedded xapi, in the foreground",
    "install": "install the plugin and all that belongs to it, without an RPM",
    "uninstall": "remove what was installed that way",
    "xe": "the commands of xe that schedules need, without xe",
    "manual": "the manual page",
    "completion": "the script with which a shell completes all this",
    "help": "these commands, or the help of one of them",
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Given the words of the command line, carry out the command and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    open_closed()
    dropped = drop_callers_environment()
    if dropped:
        complain(dropped)
    try:
        try:
            status = _carry_out(words)
        except SystemExit:  # by argparse, which has printed the help, or what is wrong
            emit("", sys.stdout)
            raise
        emit("", sys.stdout)  # what is still in its buffer
        return status
    except Problem as problem:
        tell_error("vmss: %s%s" % (problem, _remedy(problem)))
        return problem.status
    except ImportError as error:
        if error.name not in NEEDED:
            raise
        tell_error("vmss: " + how_to_get(error.name, sys.executable, PRIVATE if PRIVATE in sys.path else ""))
        return EXIT_NO_SESSION
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output is gone
        give_up(sys.stdout)
        return 0


def _carry_out(words: Sequence[str]) -> int:
    """Carry out the command, and return its exit status."""
    if not words:
        tell_error(parser().format_help().rstrip("\n"))
        return EXIT_BAD_INPUT
    command = _command_of(words[0])
    module = import_module("vmss.cli.commands." + command)
    if hasattr(module, "main"):
        return int(module.main(words[1:]))
    return int(module.do(module.parser().parse_args(words[1:])))


def _command_of(word: str) -> str:
    """The command that the first word names. An option ends the process here, and so does an unknown word."""
    if not word.startswith("-") and word not in COMMANDS:
        parser().error(unknown_command(word))
    if word.startswith("-") and word not in ("-h", "--help", "--version"):
        parser().error("there is no option %s before the command; `vmss help` shows the commands" % quoted(word))
    return str(parser().parse_args([word]).command)


def unknown_command(word: str) -> str:
    """What is said of a word that is no command."""
    near = did_you_mean(word, COMMANDS)
    return "there is no command %s%s" % (quoted(word), near or "; `vmss help` shows them all")


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
    first = Parser(
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
