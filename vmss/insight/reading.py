"""The session of a command that only reads: for the administrator, as root, from dom0 or over https."""

from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import Iterator, NamedTuple

from vmss.core import words
from vmss.core.records import Pool
from vmss.core.text import one_line
from vmss.edges import sessions, world
from vmss.edges.clock import Clock
from vmss.edges.server_time import clock_and_zone
from vmss.edges.sessions import NoSession
from vmss.edges.settings import Settings, of_pool
from vmss.edges.surroundings import Surroundings
from vmss.edges.xapi import Refused, Unanswered, Xapi
from vmss.edges.zones import time_zone


class Reading(NamedTuple):
    """A session, and what every command needs: the pool, the settings that apply there, the coordinator's clock, the
    zone of the schedules, and the zone of whoever asks."""

    xapi: Xapi
    pool: Pool
    settings: Settings
    clock: Clock
    zone: tzinfo
    here: tzinfo

    def now(self) -> datetime:
        """The coordinator's time."""
        return self.clock.now()

    def moment(self, instant: datetime) -> str:
        """An instant as people read it: on the server's clock, and on that of whoever asks, where they differ."""
        return words.moment(instant, self.zone, self.here)

    def moment_there(self, instant: datetime) -> str:
        """An instant on the server's clock alone."""
        return words.moment(instant, self.zone, self.zone)

    def brief_moment(self, instant: datetime) -> str:
        """An instant on the server's clock, in little room."""
        return words.brief_moment(instant, self.zone, self.here, self.now())


@contextmanager
def reading(around: Surroundings) -> Iterator[Reading]:
    """Open a session to read from, and close it. Raise a Problem where there is none, or where it ends too early.

    Somebody waits at a terminal: so the login to a server that does not answer is not retried.
    """
    settings = around.settings._replace(login_limit=0)
    xapi = Xapi(around.place.xapi, settings.verify_tls, settings.ca_file, settings.call_limit, around.transport)
    # Over xapi's own socket any user name will do; with the plugin's, xapi would take ours for scheduled operations
    # (docs/xapi-facts.md, Who may mark a snapshot as scheduled).
    clock = around.clock or Clock()
    try:
        sessions.log_in(xapi, around.place, settings, clock, around.waits, user="root")
        try:
            yield _read(xapi, around)
        finally:
            sessions.log_out(xapi)
    except (Unanswered, Refused) as error:
        raise NoSession("%s: %s" % (one_line(around.place.xapi), error), error)
    finally:
        xapi.close()


def _read(xapi: Xapi, around: Surroundings) -> Reading:
    pool = world.read_pool(xapi)
    settings, mistakes = of_pool(around.settings, pool.other_config)
    for mistake in mistakes:
        around.say("pool.other_config: %s (ignored)" % mistake)
    clock, zone = clock_and_zone(around, xapi, pool, settings)
    return Reading(xapi, pool, settings, clock, zone, time_zone(None))
