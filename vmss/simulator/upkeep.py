"""xapi's own housekeeping every 30 s: old sessions, old tasks, too many messages, dangling records.

Source: xapi: ocaml/xapi/db_gc_util.ml, xapi_globs.ml.
"""

from typing import TYPE_CHECKING, Dict, List, Set, Tuple

from .classes.vbd import refresh as refresh_vbd
from .table import Row
from .values import NULL, to_seconds

if TYPE_CHECKING:
    from .simulator import Simulator

PERIOD_SECONDS = 30.0
SESSION_SECONDS_MAX = 24 * 3600.0
TASK_SECONDS_COMPLETED = 65 * 60.0
TASK_SECONDS_PENDING = 24 * 3600.0
TASKS_MAX = 200
# Upper limits on the sessions of a group, by what defines the group.
SESSIONS_MAX = {"external": 400, "internal": 400, "originator": 500, "name": 500}


class Upkeep:
    """The housekeeping. It runs at the first event after it is due; no timer waits for it."""

    def __init__(self, sim: "Simulator") -> None:
        self.sim = sim
        self.db = sim.db
        # Whether any record may have a dangling reference.
        self.dangling = False
        # The progress of old pending tasks in the last round.
        self._progress: Dict[str, float] = {}
        sim.kernel.upkeep = self.run
        sim.kernel.upkeep_due = sim.kernel.now() + PERIOD_SECONDS

    def run(self) -> None:
        """One round, however much time has passed; none while xapi is down."""
        now = self.sim.kernel.now()
        self.sim.kernel.upkeep_due = now + PERIOD_SECONDS
        if not self.sim.hosts.is_up(self.sim.hosts.coordinator):
            return
        self._collect_tasks(now)
        self._collect_sessions(now)
        self.sim.messages.collect()
        if self.dangling:
            self.dangling = False
            self._collect_records()

    # --- tasks ---

    def _collect_tasks(self, now: float) -> None:
        completed: List[Tuple[float, str]] = []
        pending = 0
        progress: Dict[str, float] = {}
        for ref, row in list(self.db.tables["task"].rows.items()):
            if row["status"] in ("pending", "cancelling"):
                if now - to_seconds(row["created"]) > TASK_SECONDS_PENDING:
                    if row["progress"] <= self._progress.get(ref, -1.0):
                        self.db.delete("task", ref)
                        continue
                    progress[ref] = row["progress"]
                pending += 1
            elif _is_over(row, now):
                self.db.delete("task", ref)
            else:
                completed.append((to_seconds(row["finished"]), ref))
        self._progress = progress
        if len(completed) + pending > TASKS_MAX:
            # A bug of xapi: it subtracts the completed tasks where it means the pending ones.
            completed.sort(reverse=True)
            for _, ref in completed[max(0, TASKS_MAX - len(completed)) :]:
                self.db.delete("task", ref)

    # --- sessions ---

    def _collect_sessions(self, now: float) -> None:
        working = {row["session"] for row in self.db.tables["task"].rows.values() if row["status"] == "pending"}
        groups: Dict[Tuple[str, str], List[Tuple[float, str]]] = {}
        for ref, row in list(self.db.tables["session"].rows.items()):
            if self._is_busy(ref, working):
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

    def _is_busy(self, session: str, working: Set[str]) -> bool:
        """Whether a session or one of its ancestors has a pending task; one of a descendant does not count."""
        rows = self.db.tables["session"].rows
        while session in rows:
            if session in working:
                return True
            session = rows[session]["parent"]
        return False

    # --- references ---

    def _collect_records(self) -> None:
        """Remove records with dangling references; a CD drive is only emptied."""
        db = self.db
        srs, hosts, vms = db.tables["SR"].rows, db.tables["host"].rows, db.tables["VM"].rows
        for ref, row in list(db.tables["VDI"].rows.items()):
            if row["SR"] not in srs:
                db.delete("VDI", ref)
        for ref, row in list(db.tables["VBD"].rows.items()):
            if row["VM"] not in vms:
                db.delete("VBD", ref)
            elif not row["empty"] and not db.exists("VDI", row["VDI"]):
                self._lose_disk(ref, row)
        for ref, row in list(db.tables["PBD"].rows.items()):
            if row["SR"] not in srs or row["host"] not in hosts:
                db.delete("PBD", ref)

    def _lose_disk(self, vbd: str, row: Row) -> None:
        if row["type"] != "CD":
            self.db.delete("VBD", vbd)
            return
        self.db.update("VBD", vbd, VDI=NULL, empty=True)
        refresh_vbd(self.db, vbd)


def _is_over(task: Row, now: float) -> bool:
    """Whether a completed task is to be removed: it is old, or task.destroy was called while it was pending."""
    old = now - to_seconds(task["finished"]) > TASK_SECONDS_COMPLETED
    return old or "destroy" in task["current_operations"].values()


def _group(row: Row) -> Tuple[str, str]:
    """The group of sessions with which a session shares an upper limit."""
    if row["pool"]:
        return "internal", ""
    if row["auth_user_name"] not in ("", "root"):
        return "name", row["auth_user_name"]
    return ("originator", row["originator"]) if row["originator"] else ("external", "")
