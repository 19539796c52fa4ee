"""xapi's own housekeeping every 30 s: old sessions, old tasks, attachments that lead nowhere.

Source: xapi: ocaml/xapi/db_gc_util.ml, xapi_globs.ml.
"""

from typing import TYPE_CHECKING, Dict, List, Tuple

from .database import Row
from .values import NULL, to_seconds

if TYPE_CHECKING:
    from .simulator import Simulator

PERIOD_SECONDS = 30.0
SESSION_SECONDS_MAX = 24 * 3600.0
TASK_SECONDS_COMPLETED = 65 * 60.0
TASK_SECONDS_PENDING = 24 * 3600.0
TASKS_MAX = 200
# How many sessions of a group may live, by what the group is told by.
SESSIONS_MAX = {"external": 400, "internal": 400, "originator": 500, "name": 500}


class Upkeep:
    """Runs when its time has come and something happens; nothing waits for it."""

    def __init__(self, sim: "Simulator") -> None:
        self.sim = sim
        self.db = sim.db
        # Whether a VBD may refer to a disk or a VM that is gone.
        self.dangling = False
        self._progress: Dict[str, float] = {}
        sim.kernel.upkeep = self.run
        sim.kernel.upkeep_due = sim.kernel.now() + PERIOD_SECONDS

    def run(self) -> None:
        """One round; however much time has passed, it is one."""
        now = self.sim.kernel.now()
        self.sim.kernel.upkeep_due = now + PERIOD_SECONDS
        self._collect_tasks(now)
        self._collect_sessions(now)
        if self.dangling:
            self._collect_vbds()

    # --- tasks ---

    def _collect_tasks(self, now: float) -> None:
        young: List[Tuple[float, str]] = []
        completed = 0
        progress: Dict[str, float] = {}
        for ref, row in list(self.db.tables["task"].rows.items()):
            if row["status"] == "pending":
                age = now - to_seconds(row["created"])
                if age > TASK_SECONDS_PENDING and self._progress.get(ref) == row["progress"]:
                    self.db.delete("task", ref)
                else:
                    progress[ref] = row["progress"]
                continue
            finished = to_seconds(row["finished"])
            if now - finished > TASK_SECONDS_COMPLETED or "task" in row["current_operations"]:
                self.db.delete("task", ref)
            else:
                completed += 1
                young.append((finished, ref))
        self._progress = progress
        if len(young) + len(progress) > TASKS_MAX:
            # xapi subtracts the completed ones where it means the pending ones.
            young.sort(reverse=True)
            for _, ref in young[max(0, TASKS_MAX - completed) :]:
                self.db.delete("task", ref)

    # --- sessions ---

    def _collect_sessions(self, now: float) -> None:
        rows = self.db.tables["session"].rows
        if not rows:
            return
        busy = self._busy()
        groups: Dict[Tuple[str, str], List[Tuple[float, str]]] = {}
        for ref, row in list(rows.items()):
            if ref in busy:
                continue
            active = self.sim.sessions.last_used[ref]
            if now - active > SESSION_SECONDS_MAX:
                self.sim.sessions.destroy(ref)
            else:
                groups.setdefault(_group(row), []).append((active, ref))
        for (kind, _), members in groups.items():
            if len(members) > SESSIONS_MAX[kind]:
                for _, ref in sorted(members)[: len(members) - SESSIONS_MAX[kind]]:
                    self.sim.sessions.destroy(ref)

    def _busy(self) -> Dict[str, None]:
        """Sessions with a task that has not ended, and those above them."""
        sessions = self.db.tables["session"].rows
        busy: Dict[str, None] = {}
        for row in self.db.tables["task"].rows.values():
            session = row["session"] if row["status"] == "pending" else NULL
            while session in sessions and session not in busy:
                busy[session] = None
                session = sessions[session]["parent"]
        return busy

    # --- attachments ---

    def _collect_vbds(self) -> None:
        self.dangling = False
        disks, vms = self.db.tables["VDI"].rows, self.db.tables["VM"].rows
        for ref, row in list(self.db.tables["VBD"].rows.items()):
            if row["VM"] not in vms or (not row["empty"] and row["VDI"] not in disks):
                self.db.delete("VBD", ref)


def _group(row: Row) -> Tuple[str, str]:
    """The sessions that share a limit."""
    if row["pool"]:
        return "internal", ""
    if row["auth_user_name"] not in ("", "root"):
        return "name", row["auth_user_name"]
    return ("originator", row["originator"]) if row["originator"] else ("external", "")
