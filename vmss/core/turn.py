"""A policy whose turn it is, and the result of its run."""

from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple, Tuple

from vmss.core.datetimes import local
from vmss.core.messages import Victim
from vmss.core.policy import Policy
from vmss.core.schedule import TICK_INTERVAL
from vmss.core.text import quoted
from vmss.core.words import agree, counted


class Turn(NamedTuple):
    """A policy whose turn it is, and the slot to serve. `forced`: by hand, whatever its schedule says."""

    policy: Policy
    slot: datetime
    forced: bool = False


class Served(NamedTuple):
    """The result of one policy's run.

    `taken` counts the VMs that have their snapshot of the slot; `deleted` the expired snapshots that are gone.
    `victims` are the VMs with an error. `degraded`: plain snapshots were taken instead of quiesced ones.
    """

    turn: Turn
    started: datetime
    vms: int = 0
    taken: int = 0
    deleted: int = 0
    victims: Tuple[Victim, ...] = ()
    degraded: bool = False

    def summary(self, zone: tzinfo, ended: datetime) -> str:
        """The run in two sentences, which insight.history reads back: what it did; how it was started, and how long
        it took."""
        return "%s: %d of %s %s snapshot of %s; %s deleted. %s" % (
            quoted(self.turn.policy.name),
            self.taken,
            counted(self.vms, "VM"),
            agree(self.taken, "has its", "have their"),
            _with_zone(self.turn.slot, zone),
            counted(self.deleted, "expired snapshot"),
            self._course(zone, ended),
        )

    def _course(self, zone: tzinfo, ended: datetime) -> str:
        # Of a clock that was set back meanwhile, no length is known but that it was not negative.
        took = "took %s" % counted(round(max(timedelta(0), ended - self.started).total_seconds()), "second")
        if self.turn.forced:
            return "The run was started by hand at %s and %s." % (_with_zone(self.started, zone), took)
        if self.started >= self.turn.slot + TICK_INTERVAL:
            return "The run was started late, at %s, and %s." % (_with_zone(self.started, zone), took)
        return "The run was started at its slot and %s." % took


def _with_zone(instant: datetime, zone: tzinfo) -> str:
    """An instant on the wall clock, to the second, and the name of the zone."""
    return "%s (%s)" % (local(instant.replace(microsecond=0), zone), instant.astimezone(zone).tzname())
