"""`vmss unassign`: take VMs off their snapshot schedules."""

import argparse
import sys

from vmss.cli.assignments import STATUS, add_rest, add_selection, carry_out
from vmss.cli.parts import BY, SCHEDULE, new_parser, utf8
from vmss.core.problem import BadInput

_EXAMPLES = """examples:
  vmss unassign nightly --name 'test*'     of the VMs of this schedule those whose names begin with test
  vmss unassign nightly --all              all VMs of this schedule
  vmss unassign --uuid UUID                this VM, whatever schedule it is on

A VM that is taken off keeps its scheduled snapshots, and no run deletes them any more: vmss prune --of-deleted does.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    unassign = new_parser(
        "unassign", "Take VMs off their snapshot schedules, and say what changes.", _EXAMPLES + "\n" + STATUS
    )
    unassign.add_argument(
        "policy", type=utf8, nargs="?", metavar=SCHEDULE, help="only VMs of this snapshot schedule: " + BY
    )
    add_selection(unassign).add_argument("--all", action="store_true", help="all VMs of the schedule")
    add_rest(unassign)
    return unassign


def do(arguments: argparse.Namespace) -> int:
    """Take them off."""
    if arguments.all and arguments.policy is None:
        raise BadInput("--all: goes with a schedule, all of whose VMs are meant; vmss list shows them")
    return carry_out(arguments, on=False, out=sys.stdout)
