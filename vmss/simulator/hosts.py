"""The hosts that are the coordinator, dead or booting, and the answer of each of them to a call.

Source: xapi: ocaml/xapi/api_server.ml, xapi_session.ml, message_forwarding.ml.
"""

from typing import TYPE_CHECKING, Any, Callable, Dict, Generator, Optional, Set

from .errors import Dropped, XapiError
from .kernel import Join, Timer

if TYPE_CHECKING:
    from .call import Origin
    from .simulator import Simulator

Steps = Generator[Any, Any, Any]

# Timeout after which xapi considers a silent host dead (xapi: ocaml/xapi/xapi_globs.ml).
ASSUMED_DEAD_SECONDS = 600.0
# The calls that a host accepts while its xapi boots, or while it cannot reach its coordinator.
EMERGENCY_CALLS = (
    "host.is_in_emergency_mode", "host.get_management_interface", "host.shutdown_agent", "host.emergency_ha_disable",
    "pool.emergency_transition_to_master", "pool.emergency_reset_master", "session.slave_local_login",
    "session.slave_local_login_with_password", "session.local_logout",
)  # fmt: skip


class Hosts:
    """The state of the hosts that is not in their records."""

    def __init__(self, sim: "Simulator") -> None:
        self.sim = sim
        self.dead: Set[str] = set()
        self._domains: Dict[str, int] = {}  # the number of the newest domain of a host
        self.clocks: Dict[str, float] = {}  # by how many seconds the clocks of hosts are ahead of the pool's
        # The hosts that do not listen, and those whose xapi is booting. Timers end both states, so that they last as
        # long if the clock is set.
        self._down: Set[str] = set()
        self._booting: Set[str] = set()
        # The next event of a host: it comes up, or the pool considers it dead.
        self._timers: Dict[str, Timer] = {}

    @property
    def coordinator(self) -> str:
        return self.sim.this_host

    def clock(self, host: str) -> float:
        """What the clock of a host shows, in seconds since 1970."""
        return self.sim.kernel.now() + self.clocks.get(host, 0.0)

    def new_domain(self, host: str) -> int:
        """A number for one more running VM of a host: one that none has had since the host was booted."""
        db = self.sim.db
        if host not in self._domains:
            residents = db.pointing_at("VM", "resident_on", host)
            self._domains[host] = max((db.row("VM", vm)["domid"] for vm in residents), default=0)
        self._domains[host] += 1
        return self._domains[host]

    def forget_domains(self, host: str) -> None:
        """The numbers of a host begin anew, or a VM has brought its own: the next one is above those in use."""
        self._domains.pop(host, None)

    def at(self, origin: "Origin") -> str:
        """The host that a call arrives at."""
        return origin.host or self.coordinator

    def is_listening(self, host: str) -> bool:
        """Whether the host accepts connections."""
        if host == self.coordinator and self.sim.stopping:
            return False
        return host not in self.dead and host not in self._down

    def is_up(self, host: str) -> bool:
        """Whether xapi serves calls on the host."""
        return self.is_listening(host) and host not in self._booting

    def restarting(self, host: str, down: float, booting: float) -> None:
        """xapi on a host is down for some seconds, and then boots for some more."""
        self._down.discard(host)
        self._booting.discard(host)
        if down + booting > 0:
            self._down.add(host)
            self._booting.add(host)
            self._after(host, down, lambda: self._boot(host, booting))

    def _boot(self, host: str, seconds: float) -> None:
        self._down.discard(host)
        self._after(host, seconds, lambda: self._booting.discard(host))

    def _after(self, host: str, seconds: float, callback: Callable[[], None]) -> None:
        """Set the next event of a host."""
        self._forget_timer(host)
        self._timers[host] = self.sim.kernel.at(self.sim.kernel.now() + seconds, callback)

    def _forget_timer(self, host: str) -> None:
        timer = self._timers.pop(host, None)
        if timer is not None:
            timer.cancel()

    def admit(self, name: str, origin: "Origin") -> None:
        """Raise the error of a call that cannot be served by the host at which it arrived."""
        if name.startswith("simulator."):
            return
        if self._down or self._booting:
            # With a real clock, timers may be due that have not run.
            self.sim.kernel.run_due()
        host = self.at(origin)
        if not self.is_listening(host):
            raise Dropped
        if name in EMERGENCY_CALLS:
            return
        if host in self._booting:
            raise XapiError("HOST_STILL_BOOTING")
        if host == self.coordinator:
            return
        if not origin.trusted:
            raise XapiError("HOST_IS_SLAVE", self.address(self.coordinator))
        if not self.is_up(self.coordinator):
            # The member has lost its coordinator: emergency mode.
            raise XapiError("HOST_STILL_BOOTING")

    def address(self, host: str) -> str:
        return str(self.sim.db.row("host", host)["address"])

    def is_live(self, host: str) -> bool:
        """Whether the pool believes a host to be alive."""
        db = self.sim.db
        metrics = db.tables["host_metrics"].rows.get(db.row("host", host)["metrics"])
        return metrics is not None and bool(metrics["live"])

    def check_power(self, host: str) -> None:
        if host in self.dead:
            raise XapiError("CANNOT_CONTACT_HOST", host)

    def reach(self, host: str) -> None:
        """Raise the error of a call that cannot be forwarded to a host."""
        if not self.sim.db.exists("host", host) or not self.is_live(host):
            raise XapiError("HOST_OFFLINE", host)
        if host != self.coordinator and not self.is_listening(host):
            raise XapiError("CANNOT_CONTACT_HOST", host)

    def run_on(self, host: str, steps: Steps) -> Steps:
        """Carry out part of a call on a host; if the host dies, that part ends."""
        self.reach(host)
        return (yield Join(steps, "xapi:" + host))

    # --- death and return ---

    def die(self, host: str) -> None:
        """A host loses its power: its calls break off, and after a timeout the pool considers it dead."""
        if host in self.dead:
            return
        self.dead.add(host)
        self.forget_domains(host)
        self.sim.storage.manager.collector.booted(host)
        self._down.discard(host)
        self._booting.discard(host)
        for done in self.sim.kernel.kill("xapi:" + host):
            done(None, XapiError("CANNOT_CONTACT_HOST", host))
        self._start_timeout(host)

    def _start_timeout(self, host: str) -> None:
        self._after(host, ASSUMED_DEAD_SECONDS, lambda: self._set_live(host, False))

    def restart_timeouts(self) -> None:
        """Start the timeouts of the dead hosts anew, as a coordinator does that has just started; its predecessor may
        be among them. All other hosts are live, whatever the database says."""
        for host in sorted(self.dead):
            self._start_timeout(host)
        for host, row in self.sim.db.tables["host"].rows.items():
            metrics = self.sim.db.tables["host_metrics"].rows.get(row["metrics"])
            if host not in self.dead and metrics is not None and not metrics["live"]:
                self._set_live(host, True)

    def _set_live(self, host: str, live: bool) -> None:
        db = self.sim.db
        metrics = db.row("host", host)["metrics"] if db.exists("host", host) else ""
        if db.exists("host_metrics", metrics):
            db.set("host_metrics", metrics, "live", live)

    def revive(self, host: str) -> None:
        """A host comes back."""
        if host in self.dead:
            self.dead.discard(host)
            self._forget_timer(host)
        self._set_live(host, True)

    def after_death_of_coordinator(self, successor: Optional[str]) -> None:
        """Record which host is the coordinator."""
        if successor is not None:
            self.sim.storage.manager.collector.moved(self.coordinator, successor)
            pool = next(iter(self.sim.db.tables["pool"].rows))
            self.sim.db.set("pool", pool, "master", successor)
            self.sim.this_host = successor
