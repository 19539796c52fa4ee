"""Prints what becomes of snapshots, and why: for `vmss plan`, and for a rehearsal."""

from datetime import datetime
from typing import Any, Callable, Dict, List, Optional

from vmss.cli.layout import Column
from vmss.core.fate import GOES, SKIPPED, Fate

_STYLES = {GOES: "yellow", SKIPPED: "red"}

Show = Callable[[datetime], str]


def columns(moment: Show, there: Show, brief: Show) -> List[Column]:
    """Those of one snapshot; an instant is shown in three forms, the longest first."""

    def some(show: Show) -> Callable[[Optional[datetime]], str]:
        return lambda at: show(at) if at is not None else ""

    return [
        Column("schedule", "schedule", least=12),
        Column("vm", "VM", least=12),
        Column("time", "snapshot of", moment, gives=[(2, there), (4, brief)]),
        Column("fate", "fate", style=lambda fate: _STYLES.get(fate, "")),
        Column("why", "why", least=24, flows=True),
        Column("goes", "deleted by the run of", some(moment), gives=[(3, some(there)), (5, some(brief)), (7, None)]),
        Column("snapshot", "snapshot", gives=[(1, None)]),
        Column("vm_uuid"),
        Column("schedule_uuid"),
    ]


def row(schedule: str, schedule_uuid: str, vm: str, vm_uuid: str, fate: Fate) -> Dict[str, Any]:
    """One snapshot; `snapshot` is null for one that is to be taken."""
    return {
        "schedule": schedule,
        "schedule_uuid": schedule_uuid,
        "vm": vm,
        "vm_uuid": vm_uuid,
        "snapshot": fate.uuid or None,
        "time": fate.time,
        "fate": fate.fate,
        "why": fate.why,
        "goes": fate.goes,
    }
