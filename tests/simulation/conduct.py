"""How a pass conducts itself, call by call: what no look at the pool afterwards shows.

Nothing here is shared with the code under test.
"""

import re
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Set, Tuple

from vmss.simulator import Simulator

TAKES = ("Async.VM.snapshot", "Async.VM.checkpoint", "Async.VM.snapshot_with_quiesce")
DESTROYS = ("Async.VM.destroy", "Async.VDI.destroy")
POLICIES = "VMSS.get_all_records"
# An operation that has exceeded its limit is cancelled so many seconds later at most: a call in between may take long.
CANCEL_SECONDS = 700.0
BUSY = re.compile(r"UUID:(\S+) Error:\['OTHER_OPERATION_IN_PROGRESS', 'VM', '(OpaqueRef:[^']*)'")

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


class Conduct:
    """One pass. Each method yields the invariants that its conduct breaks, by their numbers."""

    def __init__(self, sim: Simulator, limits: Limits, steady: Callable[[], float]) -> None:
        self._sim = sim
        self._limits = limits
        self._steady = steady
        self._began = steady()
        self._started: Dict[str, Tuple[str, float]] = {}  # tasks that it has heard of: the method, and when
        self._cancelled: Set[str] = set()
        self._destroying: Dict[str, str] = {}  # by task, what it destroys
        self._destroyed: Set[str] = set()  # since xapi was last asked to write its database
        self._taken: Dict[str, int] = {}  # how often a snapshot of each VM was asked for
        self._worked_since_read = False

    def _is_pending(self, task: str) -> bool:
        row = self._sim.db.tables["task"].rows.get(task)
        return row is not None and row["status"] == "pending"

    def asked(self, method: str, params: List[Any]) -> Found:
        """It is about to make a call."""
        yield from self._overdue()
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
                self._taken[str(params[1])] = self._taken.get(str(params[1]), 0) + 1
            pending = sum(1 for task in self._started if task not in self._cancelled and self._is_pending(task))
            if pending >= self._limits.operations:
                yield 7, "%s is started while %d operations are under way" % (method, pending)
        elif method == "message.create":
            yield from self._busy(str(params[5]))

    def heard(self, method: str, params: List[Any], answer: Dict[str, Any]) -> None:
        """An answer has come back."""
        if method.startswith("Async.") and method != "Async.VM.resume" and answer["Status"] == "Success":
            self._started[str(answer["Value"])] = method, self._steady()
            if method in DESTROYS:
                self._destroying[str(answer["Value"])] = str(params[1])

    def others_took(self, seconds: float) -> None:
        """What somebody else did has lasted so long, and the pass could do nothing meanwhile."""
        self._started = {task: (method, began + seconds) for task, (method, began) in self._started.items()}

    def _overdue(self) -> Found:
        now = self._steady()
        for task, (method, began) in list(self._started.items()):
            if now >= began + self._limits.of(method) + CANCEL_SECONDS and task not in self._cancelled:
                del self._started[task]
                if self._is_pending(task):
                    yield 7, "%s has taken %d s, and is not cancelled" % (method, now - began)

    def _busy(self, body: str) -> Found:
        uuids = {row["uuid"]: ref for ref, row in self._sim.db.tables["VM"].rows.items()}
        for uuid, ref in BUSY.findall(body):
            if ref == uuids.get(uuid) and self._taken.get(ref) == 1 and self._limits.retries:
                yield 6, "%s was busy once, and its snapshot was not tried again" % uuid

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
