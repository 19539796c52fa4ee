"""The state of sessions that is not in their records: roles, last use, the top-most ancestor."""

from typing import TYPE_CHECKING, Any, Dict

from .values import NULL, from_seconds

if TYPE_CHECKING:
    from .simulator import Simulator

REFRESH_SECONDS = 600.0


class Sessions:
    """The sessions of the pool."""

    def __init__(self, sim: "Simulator") -> None:
        self.sim = sim
        self.roles: Dict[str, str] = {}
        self.last_used: Dict[str, float] = {}

    def create(
        self, user: str, originator: str, superuser: bool, parent: str = NULL, pool: bool = False, host: str = ""
    ) -> str:
        """A new session (xapi: ocaml/xapi/xapi_session.ml)."""
        now = self.sim.kernel.now()
        fields: Dict[str, Any] = {
            "this_host": host or self.sim.this_host,
            "last_active": from_seconds(now),
            "validation_time": from_seconds(now),
            "auth_user_name": user,
            "is_local_superuser": superuser,
            "originator": originator,
            "parent": parent,
            "pool": pool,
        }
        session = self.sim.db.create("session", fields)
        self.last_used[session] = now
        return session

    def destroy(self, session: str) -> None:
        self.roles.pop(session, None)
        self.sim.event_queues.pop(session, None)
        self.last_used.pop(session, None)
        self.sim.db.delete("session", session)

    def forget(self) -> None:
        """Forget all sessions: xapi has ended."""
        self.roles.clear()
        self.last_used.clear()

    def used(self, session: str) -> None:
        """Refresh last_active, at most every 600 s."""
        now = self.sim.kernel.now()
        if now - self.last_used[session] >= REFRESH_SECONDS:
            self.last_used[session] = now
            self.sim.db.set("session", session, "last_active", from_seconds(now))

    def is_scheduled_snapshot(self, session: str) -> bool:
        """Whether a snapshot that ends now in this session counts as scheduled: its top-most ancestor decides.

        Any error means no, also a session that has logged out meanwhile (xapi: ocaml/xapi/xapi_vmss.ml).
        """
        rows = self.sim.db.tables["session"].rows
        row = rows.get(session)
        while row is not None and row["parent"] != NULL:
            row = rows.get(row["parent"])
        return row is not None and row["is_local_superuser"] and row["auth_user_name"] == "__dom0__vmss"
