"""`vmss completion`: the script with which a shell completes the words of `vmss`."""

import argparse
import sys

from vmss.cli.parts import new_parser
from vmss.cli.tables import emit

_EXAMPLES = """examples:
  eval "$(vmss completion bash)"      in the shell at hand
  vmss completion bash >/usr/share/bash-completion/completions/vmss
                                      for everybody; packages and `vmss install` have done so
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    completion = new_parser(
        "completion",
        "Print the script with which a shell completes commands, options, files, and the uuids of snapshot schedules.",
        _EXAMPLES,
    )
    completion.add_argument("shell", choices=("bash",), help="the shell that the script is for")
    return completion


def do(arguments: argparse.Namespace) -> int:
    """Print it."""
    from vmss.cli.completion_script import script

    emit(script(), sys.stdout)
    return 0
