"""`vmss manual`: the manual page, made from the commands and the settings."""

import argparse
import subprocess
import sys

from vmss.cli.parts import LOCAL_STATUS, new_parser
from vmss.cli.streams import emit
from vmss.core.problem import Problem

_EXAMPLES = """examples:
  vmss manual                  read it, on a terminal
  vmss manual >vmss.8          its source
"""


class ManualError(Problem):
    """The manual page cannot be shown."""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    return new_parser(
        "manual",
        "Show the manual page vmss(8) with `man`; into a file or pipe, print its source.",
        _EXAMPLES + "\n" + LOCAL_STATUS,
    )


def do(arguments: argparse.Namespace) -> int:
    """Show or print it."""
    from vmss.cli.manual_page import page

    if not sys.stdout.isatty():
        emit(page(), sys.stdout)
        return 0
    man = ["man", "-l", "-"]
    try:
        return subprocess.run(man, input=page().encode("ascii")).returncode
    except OSError as error:
        raise ManualError(
            "%s: cannot be started: %s; `vmss manual | cat` prints the source" % (" ".join(man), error.strerror)
        )
