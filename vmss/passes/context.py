"""What every step of a pass works with."""

from datetime import datetime
from typing import Callable, NamedTuple, Optional

from vmss.core.datetimes import format_datetime, parse_reading
from vmss.core.problem import BadInput
from vmss.core.records import Pool
from vmss.edges import world
from vmss.edges.clock import Clock, RemoteClock
from vmss.edges.log import Log
from vmss.edges.settings import Settings, of_pool
from vmss.edges.surroundings import Surroundings
from vmss.edges.xapi import Refused, Xapi, understood
from vmss.edges.zones import time_zone


class Context(NamedTuple):
    """The session of a pass, the pool, the settings that hold there, the coordinator's clock, and the log.

    `say` takes lines of progress for people. `began` is the start of the pass on the monotonic clock. `supposed` is the
    time that a rehearsal takes for the present.
    """

    xapi: Xapi
    pool: Pool
    settings: Settings
    clock: Clock
    log: Log
    say: Callable[[str], None]
    began: float
    supposed: Optional[datetime] = None

    def now(self) -> datetime:
        """The time to decide by."""
        return self.supposed or self.clock.now()

    @property
    def until(self) -> float:
        """The limit of the whole pass, on the monotonic clock."""
        return self.began + self.settings.pass_limit

    def too_late(self) -> bool:
        """Whether this pass takes nothing more in hand: a pass whose work never ends cannot be told from one that
        hangs."""
        return self.clock.monotonic() >= self.began + self.settings.pass_limit / 2


def read_context(around: Surroundings, xapi: Xapi, clock: Clock, log: Log, supposed: Optional[datetime]) -> Context:
    """Read the pool and its settings, and let the log have the coordinator's clock and zone."""
    pool = world.read_pool(xapi)
    settings, mistakes = of_pool(around.settings, pool.other_config)
    for mistake in mistakes:
        log("pool.other_config: %s (ignored)" % mistake)
    log.zone = time_zone(settings.timezone or None)
    if around.clock is None and not around.place.local:
        with understood("host.get_servertime"):
            clock = RemoteClock(parse_reading(xapi.call("host.get_servertime", pool.coordinator)))
    log.now = clock.now
    return Context(xapi, pool, settings, clock, log, around.say, clock.monotonic(), supposed)


def set_clock(xapi: Xapi, at: datetime) -> None:
    """Set the clock of a simulator. Raise BadInput where xapi is none."""
    try:
        xapi.call("simulator.set_time", format_datetime(at))
    except Refused:
        raise BadInput("--at: only a simulator's clock can be set; with --dry-run it is the time to suppose, anywhere")
