"""`vmss export`: the snapshot schedules of a pool as the file that `vmss apply` takes."""

import argparse
import json
import sys

from vmss.cli.parts import BY, READING_STATUS, SCHEDULE, complain, new_parser, surroundings, utf8
from vmss.cli.streams import emit
from vmss.insight import declarations
from vmss.insight.reading import reading

_EXAMPLES = """examples:
  vmss export >schedules.json             all schedules, without their VMs
  vmss export nightly --vms name          one, with the names of its VMs
  vmss export | VMSS_XAPI=https://HOST vmss apply -      copy them to another pool, such as one for disaster recovery

With --vms name the VMs of that name are put on the schedule in the other pool, as far as they are there; with --vms
uuid those with the same uuids, which a VM has when it was copied with its metadata.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = new_parser(
        "export",
        "The snapshot schedules of the pool as JSON, which `vmss apply` takes.",
        _EXAMPLES + "\n" + READING_STATUS,
    )
    command.add_argument("policy", type=utf8, nargs="*", metavar=SCHEDULE, help="only these snapshot schedules: " + BY)
    command.add_argument("--vms", choices=declarations.FORMS, help="with their VMs, by name or by uuid")
    return command


def do(arguments: argparse.Namespace) -> int:
    """Print them."""
    with reading(surroundings()) as session:
        document, remarks = declarations.exported(session, arguments.policy, arguments.vms)
    emit(json.dumps(document, indent=2) + "\n", sys.stdout)
    for line in remarks:
        complain(line)
    return 0
