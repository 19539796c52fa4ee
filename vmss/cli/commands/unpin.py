"""`vmss unpin`: let retention have a scheduled snapshot again."""

import argparse

from vmss.cli.parts import PIN_STATUS, new_parser, surroundings, tell, utf8
from vmss.insight.reading import reading
from vmss.passes.pinning import unpin

_EXAMPLES = """examples:
  vmss unpin 7b10ea29          by the beginning of its uuid

It says why the snapshot was pinned. Then it counts like any other one, and the next run may delete it, or an older one
in its place: vmss plan tells.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = new_parser(
        "unpin", "Unpin a scheduled snapshot: it counts again, and a run may delete it.", _EXAMPLES + "\n" + PIN_STATUS
    )
    command.add_argument("snapshot", type=utf8, metavar="SNAPSHOT", help="its uuid, the beginning of that, or its name")
    return command


def do(arguments: argparse.Namespace) -> int:
    """Unpin it."""
    with reading(surroundings()) as session:
        tell(unpin(session.xapi, arguments.snapshot))
    return 0
