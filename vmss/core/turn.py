"""A policy whose turn it is, and the result of its run."""

from datetime import datetime, tzinfo
from typing import NamedTuple, Optional, Tuple

from vmss.core.datetimes import local
from vmss.core.messages import Victim
from vmss.core.policy import Policy
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
    `victims` are the VMs with an error. `degraded`: plain snapshots were taken instead of quiesced ones. `overtaken` is
    the policy's next slot, if the run had to give up the rest of its VMs for it.
    """

    turn: Turn
    started: datetime
    vms: int = 0
    taken: int = 0
    deleted: int = 0
    victims: Tuple[Victim, ...] = ()
    degraded: bool = False
    overtaken: Optional[datetime] = None

    def summary(self, zone: tzinfo) -> str:
        """The run in one sentence, which insight.history reads back."""
        return "%s: %d of %s %s snapshot of %s (%s); %s deleted." % (
            quoted(self.turn.policy.name),
            self.taken,
            counted(self.vms, "VM"),
            agree(self.taken, "has its", "have their"),
            local(self.turn.slot, zone),
            self.turn.slot.astimezone(zone).tzname(),
            counted(self.deleted, "expired snapshot"),
        )
