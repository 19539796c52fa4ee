"""What every step of a pass works with."""

from datetime import datetime
from typing import Callable, NamedTuple, Optional

from vmss.core.records import Pool
from vmss.edges import world
from vmss.edges.clock import Clock
from vmss.edges.log import Log
from vmss.edges.server_time import clock_and_zone
from vmss.edges.settings import Settings, of_pool
from vmss.edges.surroundings import Surroundings
from vmss.edges.xapi import Xapi


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


def read_context(around: Surroundings, xapi: Xapi, log: Log) -> Context:
    """Read the pool and its settings, and let the log have the coordinator's clock and zone."""
    pool = world.read_pool(xapi)
    settings, mistakes = of_pool(around.settings, pool.other_config)
    for mistake in mistakes:
        log("pool.other_config: %s (ignored)" % mistake)
    clock, log.zone = clock_and_zone(around, xapi, pool, settings)
    log.now = clock.now
    return Context(xapi, pool, settings, clock, log, around.say, clock.monotonic())
