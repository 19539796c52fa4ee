"""`vmss show`: one snapshot schedule, with its VMs."""

import argparse
import sys
from datetime import datetime
from typing import Any, Callable, Dict, List, Optional, Sequence, TextIO

from vmss.cli import colour, schedules, tables
from vmss.cli.layout import Column
from vmss.cli.parts import BY, READING_STATUS, SCHEDULE, new_parser, surroundings, utf8
from vmss.cli.schedules import Field, of_run
from vmss.core import words
from vmss.core.datetimes import in_future
from vmss.insight import lacking, policies
from vmss.insight.lacking import Lacking
from vmss.insight.policies import Entry, Surplus
from vmss.insight.reading import Reading, reading

_EXAMPLES = """examples:
  vmss show nightly            by its name
  vmss show 7b10ea29           by the beginning of its uuid
  vmss show nightly --json     with the VMs, for programs
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    show = new_parser(
        "show",
        "One snapshot schedule: its settings, its runs, and its VMs with their snapshots.",
        _EXAMPLES + "\n" + READING_STATUS,
    )
    show.add_argument("policy", type=utf8, metavar=SCHEDULE, help="the snapshot schedule: " + BY)
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
    surplus = policies.surplus(session, entry.policy) if entry.policy else []
    lack = _lacking(session, entry, surplus)
    vms = [_vm_row(one, lack, session.now()) for one in surplus]
    row["vm_list"] = sorted(vms, key=lambda vm: not vm["lacking"])
    row["beyond_retention"] = sum(len(one.exceeding) for one in surplus)
    columns = [field.column for field in fields]
    columns += [Column("beyond_retention", "beyond retention", _beyond(entry)), Column("vm_list", show=_names)]
    if not tables.for_people(arguments):
        tables.write(columns, [row], arguments, out)
        return 0
    if not row["beyond_retention"]:
        columns = [column for column in columns if column.key != "beyond_retention"]
    lines = [{"field": column.title, "value": column.show(row.get(column.key))} for column in columns if column.title]
    value = Column("value", "value", style=colour.of_result, least=30, flows=True)
    tables.write([Column("field", "field"), value], lines, arguments, out)
    if row["vm_list"]:
        tables.remark("", arguments, out)
        tables.write(_vm_columns(session, row["vm_list"], lack), row["vm_list"], arguments, out)
    if lack.slot is not None and lack.vms:
        tables.remark(_missing(session, entry, lack.slot, len(lack.vms), len(surplus)), arguments, out)
    return 0


def _lacking(session: Reading, entry: Entry, surplus: Sequence[Surplus]) -> Lacking:
    if entry.policy is None:
        return Lacking()
    return lacking.of_policy(session, entry.policy, [one.vm for one in surplus], session.now())


def _missing(session: Reading, entry: Entry, slot: datetime, number: int, vms: int) -> str:
    """That VMs lack a snapshot, and how they get it."""
    return "%d of %s %s no snapshot since %s; to snapshot them now: vmss run --policy %s --missing" % (
        number,
        words.counted(vms, "VM"),
        words.agree(number, "has", "have"),
        session.moment(slot),
        entry.uuid,
    )


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


def _beyond(entry: Entry) -> Callable[[int], str]:
    """What becomes of so many snapshots that exceed retention."""
    return lambda number: (
        "%s; runs delete a few of each VM at a time; all at once: vmss prune --policy %s"
        % (words.counted(number, "snapshot"), entry.uuid)
    )


def _pins(pins: Sequence[Dict[str, Any]]) -> str:
    """How many snapshots are pinned, and why."""
    reasons = sorted({str(each["reason"]) for each in pins if each["reason"]})
    return "%d%s" % (len(pins), ": %s" % "; ".join(reasons) if reasons else "") if pins else ""


def _vm_columns(session: Reading, rows: Sequence[Dict[str, Any]], lack: Lacking) -> List[Column]:
    """Those of the VMs in these rows; what none of them has is left out."""
    beyond = any(row["beyond_retention"] for row in rows)
    pinned = any(row["pinned"] for row in rows)

    def going(snapshots: Sequence[Dict[str, Any]]) -> str:
        return "; ".join("%s of %s" % (each["uuid"], session.moment(each["time"])) for each in snapshots)

    mark = [Column("lacking", "latest", lambda lacks: "missing" if lacks else "taken", _style_of_lacking)]
    at = [(2, session.moment_there), (5, session.brief_moment)]
    retention = [
        Column("beyond_retention", "beyond retention", right=True),
        Column("next_deleted", "of these the next run deletes", going, gives=[(4, None)], least=38, flows=True),
    ]
    return [
        Column("name", "VM", least=16),
        *(mark if lack.slot is not None else []),
        Column("power_state", "state", least=9, gives=[(6, None)]),
        Column("snapshots", "snapshots", right=True),
        Column("newest_snapshot", "newest snapshot", session.moment, gives=at),
        *([Column("pinned", "pinned", _pins, gives=[(4, None)], least=16)] if pinned else [Column("pinned")]),
        Column("seconds", "took", lambda seconds: words.duration(seconds) if seconds else "", gives=[(3, None)]),
        *(retention if beyond else []),
        Column("uuid", "uuid", gives=[(1, None)]),
    ]


def _style_of_lacking(lacks: bool) -> str:
    return "red" if lacks else ""


def _vm_row(surplus: Surplus, lack: Lacking, now: datetime) -> Dict[str, Any]:
    """One VM: whether it lacks the latest snapshot, the number of its scheduled snapshots, the time of the newest that
    is not of the future, and what goes of those that exceed retention."""
    vm = surplus.vm
    times = [snapshot.time for snapshot in vm.snapshots if not in_future(snapshot.time, now)]
    return {
        "name": vm.name,
        "uuid": vm.uuid,
        "lacking": vm.uuid in lack.vms,
        "power_state": "error: %s" % vm.misread if vm.misread else vm.power_state,
        "snapshots": len(vm.snapshots),
        "newest_snapshot": max(times, default=None),
        "pinned": [{"uuid": each.uuid, "reason": each.pin} for each in vm.snapshots if each.pinned],
        "seconds": vm.took,
        "beyond_retention": len(surplus.exceeding),
        "next_deleted": [
            {"uuid": snapshot.uuid, "time": snapshot.time} for snapshot in surplus.exceeding[: surplus.next_run]
        ],
    }
