"""The command line `vmss COMMAND …`: finds the command's module, and ends as all commands end."""
import argparse
import os
import sys
from importlib import import_module
from typing import Dict, Optional, Sequence

from vmss.cli.parts import STATUS
from vmss.problem import Problem
from vmss.version import VERSION

# What the list of commands says of each; the command is the module of that name in vmss.cli, which is loaded only
# when it is wanted.
COMMANDS: Dict[str, str] = {
    "run": "one pass: take the snapshots that are due",
    "demo": "watch a simulated pool being snapshotted for a week",
    "simulator": "the embedded xapi, in the foreground",
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Given the words of the command line, do it and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        command = _parser().parse_args(words[:1]).command
        module = import_module("vmss.cli." + command)
        if hasattr(module, "main"):
            return int(module.main(words[1:]))
        return int(module.do(module.parser().parse_args(words[1:])))
    except Problem as problem:
        print("vmss: %s" % problem, file=sys.stderr)
        return problem.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vmss", description="Scheduled VM snapshots for XenServer and XCP-ng.",
        epilog="`vmss COMMAND --help` tells more of each.\n\n" + STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version="vmss " + VERSION)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    commands.required = True
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text)
    return parser
