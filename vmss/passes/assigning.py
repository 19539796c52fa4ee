"""Puts VMs on schedules, or takes them off: one call for each VM, whose trouble keeps no other from being served."""

from typing import Iterable, Iterator

from vmss.core.assignment import Change
from vmss.core.records import NULL
from vmss.edges.xapi import Refused, Xapi


def carry_out(xapi: Xapi, changes: Iterable[Change]) -> Iterator[Change]:
    """Make these changes, and give each with what came of it. The role pool-operator is needed."""
    for change in changes:
        if change.is_one:
            try:
                xapi.call("VM.set_snapshot_schedule", change.vm.ref, change.to.ref if change.to else NULL)
            except Refused as refused:
                if refused.code == "SESSION_INVALID":
                    raise
                change = change._replace(error=refused.error)
        yield change
