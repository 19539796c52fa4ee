"""`vmss list`: the snapshot schedules of the pool."""

import argparse
import sys
from typing import Any, Dict, List, TextIO

from vmss.cli import tables
from vmss.cli.parts import STATUS, new_parser, surroundings
from vmss.cli.tables import Column
from vmss.core.frequencies import DAYS, DAYS_KEY, HOUR_KEY, MINUTE_KEY
from vmss.insight import policies
from vmss.insight.policies import Entry
from vmss.insight.reading import Reading, reading

_EXAMPLES = """examples:
  vmss list                    a table; into a pipe one line each, with tabs between the fields
  vmss list | grep failed      those whose last run failed
  vmss list --json             for programs: times in UTC
  vmss list --csv              for a spreadsheet
"""


def parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    listing = new_parser(
        "list", "The pool's snapshot schedules: when they run, and how they fared.", _EXAMPLES + "\n" + STATUS
    )
    tables.add_form(listing)
    return listing


def do(arguments: argparse.Namespace) -> int:
    """List them."""
    with reading(surroundings()) as session:
        return show(session, arguments, sys.stdout)


def show(session: Reading, arguments: argparse.Namespace, out: TextIO) -> int:
    """List the schedules of the pool that a session is open with."""
    rows = [row(session, entry) for entry in policies.read(session)]
    tables.write(columns(session), rows, arguments, out)
    if not rows:
        tables.remark("This pool has no snapshot schedule.", arguments, out)
    return 0


def columns(session: Reading) -> List[Column]:
    """What is shown of a schedule."""
    at = session.moment
    return [
        Column("name", "name"),
        Column("schedule", "schedule"),
        Column("type", "type", spare=True),
        Column("state", "state", style=tables.result_style),
        Column("vms", "VMs", right=True),
        Column("last_run", "last run", at, whole=True),
        Column("last_result", "result", style=tables.result_style, whole=True),
        Column("next_run", "next run", at, whole=True),
        Column("uuid", "uuid", whole=True, spare=True),
        Column("enabled"),
        Column("retained_snapshots"),
        Column("frequency"),
        Column("minute"),
        Column("hour"),
        Column("days"),
        Column("error"),
    ]


def row(session: Reading, entry: Entry) -> Dict[str, Any]:
    """One schedule."""
    last = policies.last_runs(session, entry)
    values: Dict[str, Any] = {
        "name": entry.name,
        "uuid": entry.uuid,
        "description": entry.description,
        "last_result": last[0].result if last else None,
        "last_story": last[0].story if last else None,
    }
    policy = entry.policy
    if policy is None:
        return dict(values, state="error: " + entry.error, error=entry.error)
    slots = policy.schedule
    return dict(
        values,
        schedule=slots.in_words(),
        type=policy.type,
        state="disabled" if not policy.enabled else "enabled" if policy.vms else "no VMs",
        enabled=policy.enabled,
        vms=len(policy.vms),
        last_run=policy.last_run,
        next_run=policies.next_run(session, policy, session.now()),
        retained_snapshots=policy.retained,
        frequency=slots.frequency,
        minute=slots.minute if slots.reads(MINUTE_KEY) else None,
        hour=slots.hour if slots.reads(HOUR_KEY) else None,
        days=[DAYS[day] for day in sorted(slots.days)] if slots.reads(DAYS_KEY) else None,
    )
