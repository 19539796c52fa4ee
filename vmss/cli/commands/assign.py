"""`vmss assign`: put VMs on a snapshot schedule."""

import argparse
import sys

from vmss.cli.assignments import STATUS, add_rest, add_selection, carry_out
from vmss.cli.parts import BY, SCHEDULE, new_parser, utf8

_EXAMPLES = """examples:
  vmss assign nightly --tag production --dry-run      what would change, and what the next run would then delete
  vmss assign nightly --tag production                all VMs with this tag
  vmss assign nightly --name 'db*'                    all whose names begin with db
  vmss assign nightly --uuid UUID UUID                these

A VM is on one schedule at most: it leaves the one that it was on, and takes its scheduled snapshots along. If the new
one keeps fewer, its next run deletes some of them: the table says how many. It needs no dom0: it works over https, too,
for whoever has the role pool-operator. Templates, snapshots and control domains are never meant.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    assign = new_parser("assign", "Put VMs on a snapshot schedule, and say what changes.", _EXAMPLES + "\n" + STATUS)
    assign.add_argument("policy", type=utf8, metavar=SCHEDULE, help="the snapshot schedule: " + BY)
    add_selection(assign)
    add_rest(assign)
    return assign


def do(arguments: argparse.Namespace) -> int:
    """Put them there."""
    return carry_out(arguments, on=True, out=sys.stdout)
