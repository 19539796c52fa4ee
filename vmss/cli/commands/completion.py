"""`vmss completion`: the script with which a shell completes the words of `vmss`."""

import argparse
import sys

from vmss.cli.parts import READING_STATUS, new_parser
from vmss.cli.streams import emit
from vmss.core.text import one_line

_EXAMPLES = """examples:
  eval "$(vmss completion bash)"      in the shell at hand
  vmss completion schedules           what the script asks for: the uuid of each schedule, and its name
  vmss completion bash >/usr/share/bash-completion/completions/vmss
                                      for everybody; packages and `vmss install` have done so
"""


SCHEDULES = "schedules"


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    completion = new_parser(
        "completion",
        "Print the script with which a shell completes commands, options, files, and the names of snapshot schedules.",
        _EXAMPLES + "\n" + READING_STATUS,
    )
    completion.add_argument("shell", choices=("bash", SCHEDULES), help="the shell, or what the script asks for")
    return completion


def do(arguments: argparse.Namespace) -> int:
    """Print it."""
    if arguments.shell == SCHEDULES:
        return _schedules()
    from vmss.cli.completion_script import script

    emit(script(), sys.stdout)
    return 0


def _schedules() -> int:
    """Print a line for each schedule: its uuid, a tabulator, and its name, if it can be typed and no other has it."""
    from vmss.cli.parts import surroundings
    from vmss.insight import policies
    from vmss.insight.reading import reading

    with reading(surroundings()) as session:
        entries = policies.read(session)
    names = [entry.name for entry in entries]
    lines = [
        "%s\t%s\n" % (entry.uuid, entry.name if names.count(entry.name) == 1 and _can_be_typed(entry.name) else "")
        for entry in entries
    ]
    # The shell compares bytes, whatever the locale is.
    sys.stdout.buffer.write("".join(lines).encode("utf-8"))
    return 0


def _can_be_typed(name: str) -> bool:
    return one_line(name) == name and not name.startswith("-")
