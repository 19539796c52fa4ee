"""Whether VMs run that ran before we came: who has suspended which VM, and what has been said about it."""

import re
from typing import Any, Dict, Iterator, List, Set

from vmss.simulator import Simulator

Row = Dict[str, Any]

_ONLY_ANEW = re.compile(r"xe vm-shutdown force=true uuid=([-0-9a-f]{36}), then xe vm-start")


class Power:
    """Knows which VMs others have suspended, by the disks with their memory: a xapi that dies may bring back such a VM.
    Every other one that is Suspended is our concern."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._theirs: Set[str] = set()  # disks
        self._incurable: Set[str] = set()  # uuids of VMs of which a message says that they can only be started anew
        self._ran: Set[str] = set()  # when the pass began
        self._said: List[str] = []  # by the pass, in messages

    def begin(self) -> None:
        """A pass begins."""
        self._said = []
        self._ran = {ref for ref, row in self._vms().items() if row["power_state"] == "Running"}

    def asked(self, method: str, params: List[Any]) -> bool:
        """The pass is about to make a call. Return whether that is none of its business."""
        if method == "message.create":
            self._said.append(str(params[5]))
            self._incurable.update(_ONLY_ANEW.findall(str(params[5])))
        row = self._vms().get(params[1]) if method == "Async.VM.resume" else None
        return row is not None and row["power_state"] == "Suspended" and row["suspend_VDI"] in self._theirs

    def suspended_by_others(self, vm: str) -> None:
        """Somebody else has suspended a VM."""
        self._theirs.add(self._vms()[vm]["suspend_VDI"])

    def unsaid(self) -> Iterator[str]:
        """The VMs that ran when the pass began, are Suspended by us, and of which the pass has said nothing."""
        for ref, row in self._down():
            # In the middle of a checkpoint that has not ended yet a VM is Suspended, too.
            told = any(row["uuid"] in body and "is suspended since" in body for body in self._said)
            if ref in self._ran and not row["current_operations"] and not told:
                yield str(row["name_label"])

    def down(self) -> Iterator[str]:
        """The VMs that are Suspended by us; but for those whose memory went before xapi forgot that they ran again,
        and of which that was said."""
        disks = self._sim.db.tables["VDI"].rows
        for _, row in self._down():
            if row["suspend_VDI"] in disks or row["uuid"] not in self._incurable:
                yield str(row["name_label"])

    def _down(self) -> Iterator[Any]:
        for ref, row in sorted(self._vms().items()):
            if row["power_state"] == "Suspended" and row["suspend_VDI"] not in self._theirs:
                yield ref, row

    def _vms(self) -> Dict[str, Row]:
        rows = self._sim.db.tables["VM"].rows
        return {ref: row for ref, row in rows.items() if not row["is_a_snapshot"]}
