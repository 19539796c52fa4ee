"""`vmss show`: one snapshot schedule, with its VMs."""

import argparse
import sys
from datetime import datetime
from typing import Any, Dict, List, Optional, Sequence, TextIO

from vmss.cli import schedules, tables
from vmss.cli.parts import STATUS, new_parser, surroundings, utf8
from vmss.cli.schedules import Field, of_run
from vmss.cli.tables import Column
from vmss.core import words
from vmss.core.datetimes import in_future
from vmss.core.vms import Vm
from vmss.insight import policies
from vmss.insight.reading import Reading, reading

_EXAMPLES = """examples:
  vmss show nightly            by its name
  vmss show 7b10ea29-ab0c-af14-a116-ae293560f404
  vmss show nightly --json     with the VMs, for programs
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    show = new_parser(
        "show",
        "One snapshot schedule: its settings, its runs, and its VMs with their snapshots.",
        _EXAMPLES + "\n" + STATUS,
    )
    show.add_argument("policy", type=utf8, metavar="UUID|NAME", help="the snapshot schedule")
    tables.add_form(show)
    return show


def do(arguments: argparse.Namespace) -> int:
    """Show it."""
    with reading(surroundings()) as session:
        return show(session, arguments, sys.stdout)


def show(session: Reading, arguments: argparse.Namespace, out: TextIO) -> int:
    """Show a schedule of the pool that a session is open with."""
    entry = policies.find(policies.read(session), arguments.policy)
    fields = _fields(session)
    row = schedules.row(fields, policies.details(session, entry))
    row["vm_list"] = [_vm_row(vm, session.now()) for vm in policies.vms(session, entry.policy)] if entry.policy else []
    columns = [field.column for field in fields] + [Column("vm_list", show=_names)]
    if not tables.for_people(arguments):
        tables.write(columns, [row], arguments, out)
        return 0
    lines = [{"field": column.title, "value": column.show(row.get(column.key))} for column in columns if column.title]
    style = tables.result_style
    tables.write([Column("field", "field", whole=True), Column("value", "value", style=style)], lines, arguments, out)
    if row["vm_list"]:
        tables.write(_vm_columns(session), row["vm_list"], arguments, out)
    return 0


def _fields(session: Reading) -> List[Field]:
    """Those of the list, and others for which there is room with one schedule."""
    now = session.now()

    def at(instant: Optional[datetime]) -> str:
        return "%s, %s" % (session.moment(instant), words.distance(instant, now)) if instant else ""

    fields = []
    for field in schedules.fields(session):
        column = field.column
        if column.key == "retained_snapshots":
            column = column._replace(title="snapshots kept")
        if column.key in ("last_run", "next_run"):
            column = column._replace(show=at)
        fields.append(field._replace(column=column))
    return fields + [
        Field(Column("description", "description"), lambda one: one.entry.description),
        Field(Column("last_story", "last run in words"), of_run(lambda run: run.story)),
    ]


def _names(vms: Sequence[Dict[str, Any]]) -> str:
    return "; ".join(str(vm["name"]) for vm in vms or ())


def _vm_columns(session: Reading) -> List[Column]:
    return [
        Column("name", "VM"),
        Column("power_state", "state"),
        Column("snapshots", "snapshots", right=True),
        Column("newest_snapshot", "newest snapshot", session.moment, whole=True),
        Column("seconds", "took", lambda seconds: words.duration(seconds) if seconds else ""),
        Column("uuid", "uuid", whole=True, spare=True),
    ]


def _vm_row(vm: Vm, now: datetime) -> Dict[str, Any]:
    """One VM, with the number of its scheduled snapshots and the time of the newest that is not of the future."""
    times = [snapshot.time for snapshot in vm.snapshots if not in_future(snapshot.time, now)]
    return {
        "name": vm.name,
        "uuid": vm.uuid,
        "power_state": "error: %s" % vm.misread if vm.misread else vm.power_state,
        "snapshots": len(vm.snapshots),
        "newest_snapshot": max(times, default=None),
        "seconds": vm.took,
    }
