"""Whether VMs run that ran before we came: who has suspended which VM, and what has been said about it."""

from typing import Any, Dict, Iterator, List, Set

from vmss.simulator import Simulator

Row = Dict[str, Any]


class Power:
    """Knows which VMs others have suspended. Every other one that is Suspended is our concern."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._theirs: Set[str] = set()
        self._ran: Set[str] = set()  # when the pass began
        self._said: List[str] = []  # by the pass, in messages

    def begin(self) -> None:
        """A pass begins."""
        self._said = []
        self._look()
        self._ran = {ref for ref, row in self._vms().items() if row["power_state"] == "Running"}

    def asked(self, method: str, params: List[Any]) -> bool:
        """The pass is about to make a call. Return whether that is none of its business."""
        self._look()
        if method == "message.create":
            self._said.append(str(params[5]))
        return method == "Async.VM.resume" and params[1] in self._theirs

    def suspended_by_others(self, vm: str) -> None:
        """Somebody else has suspended a VM."""
        self._theirs.add(vm)

    def unsaid(self) -> Iterator[str]:
        """The VMs that ran when the pass began, are Suspended by us, and of which the pass has said nothing."""
        for ref, row in self._down():
            # In the middle of a checkpoint that has not ended yet a VM is Suspended, too.
            told = any(row["uuid"] in body and "is suspended since" in body for body in self._said)
            if ref in self._ran and not row["current_operations"] and not told:
                yield str(row["name_label"])

    def down(self) -> Iterator[str]:
        """The VMs that are Suspended by us."""
        for _, row in self._down():
            yield str(row["name_label"])

    def _down(self) -> Iterator[Any]:
        self._look()
        for ref, row in sorted(self._vms().items()):
            if row["power_state"] == "Suspended" and ref not in self._theirs:
                yield ref, row

    def _look(self) -> None:
        """Whoever suspends a VM that runs again does so anew."""
        vms = self._vms()
        self._theirs = {ref for ref in self._theirs if ref in vms and vms[ref]["power_state"] == "Suspended"}

    def _vms(self) -> Dict[str, Row]:
        rows = self._sim.db.tables["VM"].rows
        return {ref: row for ref, row in rows.items() if not row["is_a_snapshot"]}
