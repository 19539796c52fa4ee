"""A policy whose turn it is."""

from datetime import datetime
from typing import FrozenSet, NamedTuple, Optional

from vmss.core.policy import Policy
from vmss.core.schedule import TICK_INTERVAL


class Turn(NamedTuple):
    """A policy whose turn it is, and the slot to serve.

    `forced`: by hand, whatever its schedule says. `begun` is the time at which its turn was found; None stands for that
    of the slot. `missing`: only VMs without a snapshot of the slot get one, by hand too. `again`: a run of the slot was
    told already, and some VMs had failed; `only` are the uuids of these, and empty if there are too many.
    """

    policy: Policy
    slot: datetime
    forced: bool = False
    begun: Optional[datetime] = None
    missing: bool = False
    again: bool = False
    only: FrozenSet[str] = frozenset()

    @property
    def late(self) -> bool:
        """Whether the turn was found by a later tick than that of the slot."""
        return self.begun is not None and self.begun >= self.slot + TICK_INTERVAL

    @property
    def instant(self) -> datetime:
        """The instant that the snapshots stand for: the slot, or the beginning of a run that is late or by hand."""
        return self.begun if self.begun is not None and (self.forced or self.late) else self.slot

    @property
    def counts_from(self) -> datetime:
        """The instant from which on a snapshot counts as one of this run."""
        return self.begun if self.begun is not None and self.forced and not self.missing else self.slot
