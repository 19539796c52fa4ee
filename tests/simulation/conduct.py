"""How a pass conducts itself, call by call: what no look at the pool afterwards shows.

Nothing here is shared with the code under test.
"""

import re
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Set, Tuple

from tests import xencenter
from vmss.simulator import Simulator

TAKES = ("Async.VM.snapshot", "Async.VM.checkpoint", "Async.VM.snapshot_with_quiesce")
DESTROYS = ("Async.VM.destroy", "Async.VDI.destroy")
POLICIES = "VMSS.get_all_records"
# An operation that has exceeded its limit is cancelled so many seconds later at most: a call in between may take long.
CANCEL_SECONDS = 700.0
BUSY = re.compile(r"UUID:(\S+) Error:\['OTHER_OPERATION_IN_PROGRESS', 'VM', '(OpaqueRef:[^']*)'")
CHANGED = re.compile(r"UUID:(\S+) Error:\['VM_BAD_POWER_STATE', '(OpaqueRef:[^']*)'")
# The alert of a run comes so long after the last snapshot has ended, whatever else is under way.
TELL_SECONDS = 1800.0

Found = Iterator[Tuple[int, str]]


class Limits(NamedTuple):
    """The settings of a pass that its conduct is held to: seconds, numbers."""

    snapshot: int
    checkpoint: int
    destroy: int
    whole_pass: int
    operations: int
    retries: int

    def of(self, method: str) -> int:
        """The limit on an operation."""
        if method in TAKES:
            return self.checkpoint if method == "Async.VM.checkpoint" else self.snapshot
        return self.destroy


class Taking(NamedTuple):
    """The task of a snapshot that was asked for, the method, and whether its task was heard of."""

    task: str
    method: str
    heard: bool = False


class Conduct:
    """One pass. Each method yields the invariants that its conduct breaks, by their numbers."""

    def __init__(
        self,
        sim: Simulator,
        limits: Limits,
        steady: Callable[[], float],
        is_owed: Callable[[Dict[str, Any], str], bool],
    ) -> None:
        """`is_owed`: whether a snapshot with this name, of a VM of this policy, is that of one that is tried again."""
        self._sim = sim
        self._is_owed = is_owed
        self._limits = limits
        self._steady = steady
        self._began = steady()
        self._started: Dict[str, Tuple[str, float]] = {}  # tasks that it has heard of: the method, and when
        self._cancelled: Set[str] = set()
        self._destroying: Dict[str, str] = {}  # by task, what it destroys
        self._destroyed: Set[str] = set()  # since xapi was last asked to write its database
        self._taken: Dict[str, int] = {}  # how often a snapshot of each VM was asked for
        self._takings: Dict[str, List[Taking]] = {}  # by VM, in this pass
        self._worked_since_read = False
        # By the uuid of a policy of which snapshots were asked for since its last alert: of which VMs, and when one was
        # last under way.
        self._untold: Dict[str, Tuple[Set[str], float]] = {}

    def _is_pending(self, task: str) -> bool:
        row = self._sim.db.tables["task"].rows.get(task)
        return row is not None and row["status"] == "pending"

    def asked(self, method: str, params: List[Any]) -> Found:
        """It is about to make a call."""
        if self._started:
            yield from self._overdue()
        if self._untold:
            yield from self._unsaid()
        if method == "task.cancel":
            self._cancelled.add(str(params[1]))
        elif method == "task.destroy" and str(params[1]) in self._destroying:
            row = self._sim.db.tables["task"].rows.get(str(params[1]))
            if row is not None and row["status"] == "success":
                self._destroyed.add(self._destroying[str(params[1])])
        elif method == "pool.sync_database":
            self._destroyed.clear()
        elif method == POLICIES:
            self._worked_since_read = False
        elif method in TAKES or method in DESTROYS or method == "Async.VM.hard_shutdown":
            self._worked_since_read = True
            if method in TAKES:
                yield from self._takes(method, str(params[1]), str(params[2]))
            pending = sum(1 for task in self._started if task not in self._cancelled and self._is_pending(task))
            if pending >= self._limits.operations:
                yield 7, "%s is started while %d operations are under way" % (method, pending)
        elif method == "message.create":
            self._untold.pop(str(params[4]), None)
            yield from self._failed_at_once(str(params[5]))
            trouble = xencenter.trouble_with(str(params[1]), str(params[5])) if params[3] == "VMSS" else ""
            if trouble:
                yield 9, "XenCenter: %s" % trouble

    def _takes(self, method: str, vm: str, name: str) -> Found:
        """A snapshot of a VM is about to be asked for."""
        self._taken[vm] = self._taken.get(vm, 0) + 1
        tables = self._sim.db.tables
        policy = tables["VM"].rows.get(vm, {}).get("snapshot_schedule")
        # VMs that are tried again make no run, and no alert before the last of them has its snapshot.
        if policy in tables["VMSS"].rows and not self._is_owed(tables["VMSS"].rows[policy], name):
            uuid = str(tables["VMSS"].rows[policy]["uuid"])
            self._untold[uuid] = self._untold.get(uuid, (set(), 0.0))[0] | {vm}, self._steady()
        tasks = self._sim.db.tables["task"].rows
        for it in self._takings.get(vm, ()):
            status = tasks.get(it.task, {}).get("status")
            if status == "pending" and it.task not in self._cancelled:
                yield 1, "%s is asked for while one of the same VM is under way" % method
            elif status == "success" and not it.heard:
                yield 1, "%s is asked for again, after an answer that was lost" % method
            elif it.method == method == "Async.VM.snapshot_with_quiesce" and it.heard:
                yield 6, "%s is asked for again of the same VM" % method

    def answered(self, method: str, params: List[Any], answer: Dict[str, Any]) -> None:
        """The server has answered, whether that gets back or not."""
        if method in TAKES and answer["Status"] == "Success":
            self._takings.setdefault(str(params[1]), []).append(Taking(str(answer["Value"]), method))

    def heard(self, method: str, params: List[Any], answer: Dict[str, Any]) -> None:
        """An answer has come back."""
        if method.startswith("Async.") and method != "Async.VM.resume" and answer["Status"] == "Success":
            self._started[str(answer["Value"])] = method, self._steady()
            if method in DESTROYS:
                self._destroying[str(answer["Value"])] = str(params[1])
        if method in TAKES:
            mine = self._takings.get(str(params[1]), [])
            mine[:] = [it._replace(heard=it.heard or it.task == answer.get("Value")) for it in mine]

    def others_took(self, seconds: float) -> None:
        """What somebody else did has lasted so long, and the pass could do nothing meanwhile."""
        self._started = {task: (method, began + seconds) for task, (method, began) in self._started.items()}
        self._untold = {policy: (vms, since + seconds) for policy, (vms, since) in self._untold.items()}

    def _overdue(self) -> Found:
        now = self._steady()
        for task, (method, began) in list(self._started.items()):
            if now >= began + self._limits.of(method) + CANCEL_SECONDS and task not in self._cancelled:
                del self._started[task]
                if self._is_pending(task):
                    yield 7, "%s has taken %d s, and is not cancelled" % (method, now - began)

    def _members(self, policy: str) -> Set[str]:
        """The VMs of a policy, given by its uuid."""
        ref = self._sim.db.tables["VMSS"].uuids.get(policy)
        return set(self._sim.db.pointing_at("VM", "snapshot_schedule", ref)) if ref is not None else set()

    def _unsaid(self) -> Found:
        """A run is told when the snapshots of all of its VMs have ended, whatever its deletions do."""
        now = self._steady()
        for policy, (asked, since) in list(self._untold.items()):
            vms = self._members(policy)
            tasks = [it.task for vm in vms for it in self._takings.get(vm, ())]
            if not vms or not vms <= asked or any(map(self._is_pending, tasks)):
                self._untold[policy] = asked, now
            elif now - since > TELL_SECONDS:
                del self._untold[policy]
                yield 9, "the snapshots of a policy have ended %d s ago, and nothing was said" % TELL_SECONDS

    def _failed_at_once(self, body: str) -> Found:
        """What an alert says of VMs that failed at the first try: of some errors that is too early."""
        rows = self._sim.db.tables["VM"].rows
        uuids = {row["uuid"]: ref for ref, row in rows.items()}
        for uuid, ref in BUSY.findall(body):
            if ref == uuids.get(uuid) and self._taken.get(ref) == 1 and self._limits.retries:
                yield 6, "%s was busy once, and its snapshot was not tried again" % uuid
        for uuid, ref in CHANGED.findall(body):
            methods = [it.method for it in self._takings.get(ref, ())]
            if ref == uuids.get(uuid) and methods == ["Async.VM.checkpoint"] and rows[ref]["power_state"] == "Halted":
                yield 6, "%s was shut down, and got no snapshot instead of its checkpoint" % uuid

    def ended(self) -> Found:
        """It has come to its end, and was not told to stop."""
        if self._steady() - self._began >= self._limits.whole_pass / 2:
            return
        tables = self._sim.db.tables
        gone = {it for it in self._destroyed if it not in tables["VM"].rows and it not in tables["VDI"].rows}
        if gone:
            yield 3, "xapi may forget that %d were destroyed" % len(gone)
        if self._worked_since_read:
            yield 9, "what has become due was not looked for after the last operation"
