"""The VMs of a whole pool that can be on a schedule, or are on one: read once in a command, for all of its parts."""

from contextlib import contextmanager
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Tuple

from vmss.core.assignment import Member
from vmss.core.policy import Policy
from vmss.core.vms import Vm
from vmss.edges.members import ON_SCHEDULE, REAL, member_of
from vmss.edges.scheduled import scheduled_snapshots
from vmss.edges.vms import VM_FIELDS, vms_of
from vmss.edges.xapi import Fields, Refused, Unanswered, Xapi, understood

# What the parts of a command ask for, besides what a Vm is made of.
_FIELDS = Fields(
    VM_FIELDS.told_by,
    (
        *VM_FIELDS.others,
        "VUSBs",
        "allowed_operations",
        "attached_PCIs",
        "blocked_operations",
        "is_a_template",
        "is_control_domain",
    ),
)


class PoolVms:
    """The VMs as they were when a part of the command first asked for any. Its methods raise Misunderstood, besides
    what calls raise. What could not be read is not tried again: each part would wait for the same timeout."""

    def __init__(self, xapi: Xapi) -> None:
        self._xapi = xapi
        self._records: Optional[Dict[str, Any]] = None
        self._on: Dict[Any, List[str]] = {}  # by schedule
        self._scheduled: Optional[FrozenSet[str]] = None
        self._failed: Dict[str, Exception] = {}  # by what could not be read

    def on(self, policy: Policy) -> Iterator[Tuple[str, Mapping[str, Any]]]:
        """The records of the VMs on a schedule, without those that make no sense."""
        records = self._all()
        for ref in self._on.get(policy.ref, ()):
            if isinstance(records[ref].get("name_label"), str):
                yield ref, records[ref]

    def of(self, policies: Sequence[Policy]) -> List[Vm]:
        """The same as read_vms."""
        records = self._all()
        mine = dict.fromkeys(ref for policy in policies for ref in (*self._on.get(policy.ref, ()), *policy.vms))
        return vms_of(self._xapi, [(ref, records[ref]) for ref in mine if ref in records], policies)

    def members(self) -> Iterator[Tuple[Member, Mapping[str, Any]]]:
        """The VMs that can be on a schedule, with their records."""
        for ref, record in self._all().items():
            if record.get("is_a_template") is False and record.get("is_control_domain") is False:
                yield member_of(ref, record), record

    def scheduled(self) -> FrozenSet[str]:
        """The references of all scheduled snapshots of the pool, also of VMs that are gone."""
        if self._scheduled is None:
            with self._once("snapshots"):
                self._scheduled = frozenset(scheduled_snapshots(self._xapi))
        return self._scheduled

    def _all(self) -> Mapping[str, Mapping[str, Any]]:
        if self._records is None:
            with self._once("VMs"), understood("VM"):
                records = self._xapi.records("VM", "(%s) or (%s)" % (REAL, ON_SCHEDULE), _FIELDS)
                # What is no record has nothing that anybody asks for.
                records = {ref: record if isinstance(record, Mapping) else {} for ref, record in records.items()}
                for ref, record in records.items():
                    self._on.setdefault(record.get("snapshot_schedule"), []).append(ref)
                self._records = records
        return self._records

    @contextmanager
    def _once(self, what: str) -> Iterator[None]:
        """Raise again what was raised inside before."""
        if what in self._failed:
            raise self._failed[what]
        try:
            yield
        except (Refused, Unanswered) as error:
            self._failed[what] = error
            raise
