"""Which VMs of a schedule get no snapshot though it is due, because somebody wants it so; and why."""

from datetime import datetime
from typing import Dict, Optional, Sequence

from vmss.core.datetimes import parse_datetime
from vmss.core.fate import HALTED, NOT_RUNNING
from vmss.core.policy import Policy
from vmss.core.vms import Vm
from vmss.core.ways import ONLY_RUNNING
from vmss.edges.settings import Settings
from vmss.edges.xapi import MISREAD, Misunderstood, Refused, Xapi


def excused(
    xapi: Xapi, settings: Settings, policy: Policy, vms: Sequence[Vm], now: datetime, slot: Optional[datetime] = None
) -> Dict[str, str]:
    """The reason, by reference, for each of these VMs of a policy, read with their snapshots, that has one. `slot`: a
    VM that was started since then was not running at the slot."""
    found = {}
    if settings.of(policy).keep_halted:
        from vmss.edges.halted import unchanged  # most schedules do not ask for it

        found = dict.fromkeys(sorted(unchanged(xapi, vms, now, settings.ways(policy))), HALTED)
    found.update((vm.ref, NOT_RUNNING) for vm in vms if ONLY_RUNNING in vm.tags and not _ran(xapi, vm, slot))
    return found


def _ran(xapi: Xapi, vm: Vm, slot: Optional[datetime]) -> bool:
    if vm.power_state != "Running" or slot is None:
        return vm.power_state == "Running"
    try:
        return parse_datetime(xapi.call("VM_metrics.get_start_time", vm.metrics)) <= slot
    except (Refused, Misunderstood) + MISREAD:
        return True
