"""`vmss pin`: keep one scheduled snapshot, whatever retention says."""

import argparse

from vmss.cli.parts import PIN_STATUS, new_parser, surroundings, tell, utf8
from vmss.insight.reading import reading
from vmss.passes.pinning import pin

_EXAMPLES = """examples:
  vmss pin 7b10ea29 --reason "audit 2027"          by the beginning of its uuid
  vmss pin "nightly 2026-03-02T02:30:00Z"          by its name, if no other has it

xapi refuses to destroy a pinned snapshot, to everybody. It does not count: the schedule keeps its number beside it.
vmss plan and vmss show say what is pinned, and why. vmss unpin ends it.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = new_parser(
        "pin", "Pin a scheduled snapshot: no run deletes it, and it does not count.", _EXAMPLES + "\n" + PIN_STATUS
    )
    command.add_argument("snapshot", type=utf8, metavar="SNAPSHOT", help="its uuid, the beginning of that, or its name")
    command.add_argument("--reason", type=utf8, default="", metavar="TEXT", help="why, for those who find it")
    return command


def do(arguments: argparse.Namespace) -> int:
    """Pin it."""
    with reading(surroundings()) as session:
        tell(pin(session.xapi, arguments.snapshot, arguments.reason))
    return 0
