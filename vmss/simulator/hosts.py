"""Which host is the coordinator, which are dead or still booting, and what a call meets that arrives at one of them.

Source: xapi: ocaml/xapi/api_server.ml, xapi_session.ml, message_forwarding.ml.
"""

from typing import TYPE_CHECKING, Any, Dict, Generator, Optional, Set

from .errors import Dropped, XapiError
from .kernel import Join

if TYPE_CHECKING:
    from .dispatch import Origin
    from .simulator import Simulator

Steps = Generator[Any, Any, Any]

# xapi takes a host for dead when it has not been heard of for so long (xapi: ocaml/xapi/xapi_globs.ml).
ASSUMED_DEAD_SECONDS = 600.0
# What a host answers whose xapi has not started up, or which cannot reach its coordinator.
EMERGENCY_CALLS = (
    "host.is_in_emergency_mode", "host.get_management_interface", "host.shutdown_agent", "host.emergency_ha_disable",
    "pool.emergency_transition_to_master", "pool.emergency_reset_master", "session.slave_local_login",
    "session.slave_local_login_with_password", "session.local_logout",
)  # fmt: skip


class Hosts:
    """The hosts of the pool, beyond their records."""

    def __init__(self, sim: "Simulator") -> None:
        self.sim = sim
        self.dead: Set[str] = set()
        # Until when nobody listens, and until when xapi only says that it is booting.
        self.down_until: Dict[str, float] = {}
        self.booting_until: Dict[str, float] = {}

    @property
    def coordinator(self) -> str:
        return self.sim.this_host

    def at(self, origin: "Origin") -> str:
        """The host that a call arrives at."""
        return origin.host or self.coordinator

    def is_listening(self, host: str) -> bool:
        """Whether anybody takes connections there."""
        return host not in self.dead and self.sim.kernel.now() >= self.down_until.get(host, 0.0)

    def _is_booting(self, host: str) -> bool:
        return self.sim.kernel.now() < self.booting_until.get(host, 0.0)

    def restarting(self, host: str, down: float, booting: float) -> None:
        """xapi on a host is away for some seconds, and then starts up for some more."""
        now = self.sim.kernel.now()
        self.down_until[host] = now + down
        self.booting_until[host] = now + down + booting

    def admit(self, name: str, origin: "Origin") -> None:
        """Raise what keeps a call from being served where it arrived."""
        if name.startswith("simulator."):
            return
        host = self.at(origin)
        if not self.is_listening(host):
            raise Dropped()
        if name in EMERGENCY_CALLS:
            return
        if self._is_booting(host):
            raise XapiError("HOST_STILL_BOOTING")
        if host == self.coordinator:
            return
        if not origin.trusted:
            raise XapiError("HOST_IS_SLAVE", self.address(self.coordinator))
        if not self.is_listening(self.coordinator) or self._is_booting(self.coordinator):
            # The member has lost its coordinator: emergency mode.
            raise XapiError("HOST_STILL_BOOTING")

    def address(self, host: str) -> str:
        return str(self.sim.db.row("host", host)["address"])

    def is_live(self, host: str) -> bool:
        """Whether the pool believes a host to be alive."""
        db = self.sim.db
        metrics = db.tables["host_metrics"].rows.get(db.row("host", host)["metrics"])
        return metrics is not None and bool(metrics["live"])

    def reach(self, host: str) -> None:
        """Raise what a call finds that is to be forwarded to a host."""
        if not self.sim.db.exists("host", host) or not self.is_live(host):
            raise XapiError("HOST_OFFLINE", host)
        if host in self.dead or (host != self.coordinator and not self.is_listening(host)):
            raise XapiError("CANNOT_CONTACT_HOST", host)

    def run_on(self, host: str, steps: Steps) -> Steps:
        """Carry out part of a call on a host: it dies with it."""
        self.reach(host)
        return (yield Join(steps, "xapi:" + host))

    # --- death and return ---

    def die(self, host: str) -> None:
        """A host loses its power: what it was doing breaks off, and after a while the pool takes it for dead."""
        self.dead.add(host)
        for done in self.sim.kernel.kill("xapi:" + host):
            done(None, XapiError("CANNOT_CONTACT_HOST", host))
        self.sim.kernel.at(self.sim.kernel.now() + ASSUMED_DEAD_SECONDS, lambda: self._assume_dead(host))

    def _assume_dead(self, host: str) -> None:
        if host in self.dead:
            self._set_live(host, False)

    def _set_live(self, host: str, live: bool) -> None:
        db = self.sim.db
        metrics = db.row("host", host)["metrics"] if db.exists("host", host) else ""
        if db.exists("host_metrics", metrics):
            db.set("host_metrics", metrics, "live", live)

    def revive(self, host: str) -> None:
        """A host comes back."""
        self.dead.discard(host)
        self._set_live(host, True)

    def after_death_of_coordinator(self, successor: Optional[str]) -> None:
        """Write down who the coordinator is now."""
        if successor is not None:
            pool = next(iter(self.sim.db.tables["pool"].rows))
            self.sim.db.set("pool", pool, "master", successor)
            self.sim.this_host = successor
