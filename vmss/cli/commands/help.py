"""`vmss help`: the commands, or the help of one of them."""

import argparse
import sys

from vmss.cli.parts import LOCAL_STATUS, new_parser


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    from vmss.cli.main import COMMANDS

    command = new_parser("help", "Show the commands; or the help of one, as `vmss COMMAND --help` does.", LOCAL_STATUS)
    command.add_argument(
        "about", type=_command, metavar="COMMAND", nargs="?", choices=list(COMMANDS), help="the command"
    )
    return command


def _command(word: str) -> str:
    from vmss.cli.main import COMMANDS, unknown_command

    if word not in COMMANDS:
        raise argparse.ArgumentTypeError(unknown_command(word))
    return word


def do(arguments: argparse.Namespace) -> int:
    """Show it."""
    from vmss.cli import main

    if arguments.about is None:
        sys.stdout.write(main.parser().format_help())
        return 0
    return main.main([arguments.about, "--help"])
