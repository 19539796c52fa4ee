"""Prints what a rehearsal says, as the other commands print their lists."""

import argparse
from datetime import datetime
from typing import Any, Dict, List, Sequence, TextIO

from vmss.cli import tables
from vmss.cli.layout import Column
from vmss.core import ways, words
from vmss.core.fate import GOES, SKIPPED
from vmss.core.rehearsed import Doomed, Listing, Rehearsal, Rehearsed

# What a pass takes, by the method.
_TAKES = dict(ways.WORDS, **{"": "has it already"})


def write(rehearsal: Rehearsal, arguments: argparse.Namespace, out: TextIO) -> None:
    """Print it in the form that the command line asks for."""
    tables.write(_columns(rehearsal), [_row(one) for one in rehearsal.vms], arguments, out)


def _columns(rehearsal: Rehearsal) -> List[Column]:
    zone, here = rehearsal.zone, rehearsal.here

    def on_the_server(at: datetime) -> str:
        return words.moment(at, zone, zone)

    def brief(at: datetime) -> str:
        return words.brief_moment(at, zone, here, at)

    return [
        Column("schedule", "schedule", least=16),
        Column("slot", "slot", lambda at: words.moment(at, zone, here), gives=[(2, on_the_server), (4, brief)]),
        Column("vm", "VM", least=16),
        Column("takes", "takes", lambda takes: str(_TAKES.get(takes, takes))),
        Column("deletes", "deletes", _number, gives=[(6, None)]),
        Column("later", "more in later runs", lambda number: str(number or ""), right=True, gives=[(3, None)]),
        Column("reasons", "why", _why, gives=[(5, None)], least=24, flows=True),
        Column("uuid", "uuid", gives=[(1, None)]),
        Column("schedule_uuid"),
    ]


def _number(snapshots: Sequence[str]) -> str:
    return words.counted(len(snapshots), "snapshot") if snapshots else ""


def _why(reasons: Sequence[Dict[str, Any]]) -> str:
    """Why snapshots go, or are not taken; why each of the others stays is for programs, and for `vmss plan`."""
    return "; ".join(sorted({each["why"] for each in reasons if each["fate"] in (GOES, SKIPPED)}))


def _row(one: Rehearsed) -> Dict[str, Any]:
    reasons = [
        {"snapshot": each.uuid or None, "time": each.time, "fate": each.fate, "why": each.why} for each in one.fates
    ]
    row = dict(one._asdict(), deletes=list(one.deletes), reasons=reasons)
    del row["fates"]
    return row


def write_listing(listing: Listing, arguments: argparse.Namespace, out: TextIO) -> None:
    """Print what a request to delete would delete, in the form that the command line asks for."""
    tables.write(_columns_of_listing(listing), [_row_of(one, listing) for one in listing.snapshots], arguments, out)


def _columns_of_listing(listing: Listing) -> List[Column]:
    zone, here = listing.zone, listing.here

    def brief(at: datetime) -> str:
        return words.brief_moment(at, zone, here, listing.now)

    def on_the_server(at: datetime) -> str:
        return words.moment(at, zone, zone)

    return [
        Column("vm", "VM", lambda name: name or GONE, least=16),
        Column("name", "snapshot", least=24, gives=[(6, None)]),
        Column("time", "taken", lambda at: words.moment(at, zone, here), gives=[(2, on_the_server), (4, brief)]),
        Column("age", "age", words.duration, right=True, gives=[(7, None)]),
        Column("size", "size on disk", words.size, right=True, gives=[(5, None)]),
        Column("uuid", "uuid", gives=[(3, None)]),
        Column("vm_uuid", "", str),
    ]


# What stands for the name of a VM that was deleted.
GONE = "(deleted)"


def _row_of(one: Doomed, listing: Listing) -> Dict[str, Any]:
    return dict(one._asdict(), age=int((listing.now - one.time).total_seconds()))
