"""`vmss apply`: bring the snapshot schedules of a pool to what a file declares."""

import argparse
import sys
from typing import Mapping, Sequence, TextIO

from vmss.cli import applied, tables
from vmss.cli.applied import Applied
from vmss.cli.parts import complain, new_parser, surroundings, tell
from vmss.core.assignment import deletions
from vmss.core.problem import EXIT_FAILED, EXIT_OK
from vmss.insight import assignments, declarations
from vmss.insight.reading import reading

_EXAMPLES = """examples:
  vmss apply schedules.json --dry-run     what would change
  vmss apply schedules.json               do it; a second time there is nothing to do
  vmss export | VMSS_XAPI=https://HOST vmss apply -      copy the schedules of this pool to another one

The file is JSON, or YAML where Python has the package PyYAML; `vmss export` prints one:
  {"version": 1, "schedules": {"nightly": {"type": "snapshot", "frequency": "daily", "schedule": {"hour": 2, "min": 30},
    "retained_snapshots": 7, "enabled": true, "description": "", "vms": {"names": ["web*"], "tags": [], "uuids": []}}}}
What it does not say stays as it is in the pool; a new schedule needs type and frequency. VMs are put on schedules, and
taken off none. A schedule that is not in the file stays, unless --delete-others is given; no snapshot is ever deleted.
It needs no dom0: it works over https, too, for whoever has the role pool-operator.

exit status:
  0  done, or nothing to do          1  xapi refused a change
  2  bad usage, a mistake in the file: nothing was changed; or the answer cannot be written
  3  no session with xapi"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = new_parser("apply", "Make the snapshot schedules of the pool as a file declares them.", _EXAMPLES)
    command.add_argument("file", metavar="FILE", help="the file; - is standard input")
    command.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    command.add_argument(
        "--delete-others",
        action="store_true",
        help="delete the schedules that are not in the file; their VMs come on none, and keep their snapshots",
    )
    tables.add_form(command)
    return command


def do(arguments: argparse.Namespace) -> int:
    """Carry it out."""
    wanted = declarations.load(arguments.file)
    with reading(surroundings()) as session:
        intent = declarations.intended(session, arguments.file, wanted, arguments.delete_others)
        names = assignments.names(session)
        found = Applied(intent.targets, intent.changes, intent.already, arguments.dry_run)
        if not arguments.dry_run:
            from vmss.passes import applying

            targets, changes = applying.carry_out(session.xapi, found.targets, found.changes)
            found = found._replace(targets=targets, changes=changes)
    _tell(found, names, intent.remarks, arguments, sys.stdout)
    return EXIT_FAILED if found.refused else EXIT_OK


def _tell(
    found: Applied, names: Mapping[str, str], remarks: Sequence[str], arguments: argparse.Namespace, out: TextIO
) -> None:
    """Print what became of all, and what there is to say about it."""
    tables.write(applied.columns(), list(applied.rows(found, names)), arguments, out)
    if tables.for_people(arguments):
        tell(applied.in_one_line(found))
    for line in remarks:
        complain(line)
    for target in found.targets:
        for line in deletions([change for change in found.changes if change.to and change.to.name == target.name]):
            complain(line)
    for line in applied.errors(found):
        complain(line)
