"""What `vmss assign` and `vmss unassign` share: the selection of VMs, and the table of what changes for each."""

import argparse
from typing import Any, Dict, List, Mapping, TextIO

from vmss.cli import tables
from vmss.cli.layout import Column
from vmss.cli.parts import complain, surroundings, tell, utf8
from vmss.core.assignment import Change, Selector, deletions, in_one_line
from vmss.core.failures import failure_of
from vmss.core.problem import EXIT_FAILED, EXIT_OK
from vmss.core.words import counted
from vmss.insight import assignments
from vmss.insight.reading import reading

STATUS = """exit status:
  0  done, or nothing to do          1  xapi refused it for a VM
  2  bad usage, no VM is meant, or the answer cannot be written
  3  no session with xapi"""

ALREADY, DONE, WOULD, REFUSED = "already", "done", "to do", "refused"


def add_selection(parser: argparse.ArgumentParser) -> Any:
    """Give a command the options that select VMs, and return their group."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--tag", type=utf8, metavar="TAG", help="the VMs that have this tag")
    which.add_argument(
        "--name", type=utf8, metavar="GLOB", help="the VMs whose names match a pattern: `*`, `?`, `[a-z]`; in quotes"
    )
    which.add_argument("--uuid", type=utf8, nargs="+", metavar="UUID", help="the VMs with these uuids")
    return which


def add_rest(parser: argparse.ArgumentParser) -> None:
    """Give a command the other options."""
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    tables.add_form(parser)


def selector(arguments: argparse.Namespace) -> Selector:
    """Which VMs the command line means."""
    return Selector(arguments.tag, arguments.name, tuple(uuid.lower() for uuid in arguments.uuid or ()))


def carry_out(arguments: argparse.Namespace, on: bool, out: TextIO) -> int:
    """Put the VMs on the schedule, or take them off (`on`); print what changed, and return the exit status."""
    from vmss.passes import assigning

    with reading(surroundings()) as session:
        if on:
            changes = assignments.to_assign(session, arguments.policy, selector(arguments))
        else:
            changes = assignments.to_unassign(session, arguments.policy, selector(arguments))
        names = assignments.names(session)
        if not arguments.dry_run:
            changes = list(assigning.carry_out(session.xapi, changes))
    tables.write(_columns(), [_row(change, names, arguments.dry_run) for change in changes], arguments, out)
    if tables.for_people(arguments):
        tell(in_one_line(changes, arguments.dry_run))
        for line in deletions(changes):
            complain(line)
        if any(change.to is not None and not change.to.enabled for change in changes):
            complain("that schedule is disabled: it takes no snapshot")
    for change in changes:
        if change.error:
            failure = failure_of(change.error, change.vm.uuid, change.to.uuid if change.to else "")
            code = " ".join(change.error)
            complain("%s: %s (%s). %s" % (change.vm.name or change.vm.uuid, failure.sentence, code, failure.remedy))
    return EXIT_FAILED if any(change.error for change in changes) else EXIT_OK


def _columns() -> List[Column]:
    return [
        Column("vm", "VM", least=16),
        Column("from", "from", least=12),
        Column("to", "to", least=12),
        Column("result", "result"),
        Column("deletes", "next run deletes", _number, gives=[(3, None)]),
        Column("later", "later runs", lambda number: str(number or ""), right=True, gives=[(2, None)]),
        Column("uuid", "uuid", gives=[(1, None)]),
        Column("error"),
    ]


def _number(snapshots: Any) -> str:
    return counted(len(snapshots), "snapshot") if snapshots else ""


def _row(change: Change, names: Mapping[str, str], rehearsed: bool) -> Dict[str, Any]:
    result = REFUSED if change.error else ALREADY if not change.is_one else WOULD if rehearsed else DONE
    return {
        "vm": change.vm.name,
        "from": names.get(change.vm.schedule, change.vm.schedule) or None,
        "to": (change.to.name or change.to.uuid) if change.to else None,
        "result": result,
        "deletes": list(change.deletes),
        "later": change.later,
        "uuid": change.vm.uuid,
        "error": " ".join(change.error) or None,
    }
