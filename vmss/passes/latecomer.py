"""A pass that finds another one at work: it hands a run by hand over to it, or tells who has to wait."""

from typing import TYPE_CHECKING, Callable, Optional

from vmss.edges.lock import Held, LockDirectory
from vmss.passes.agenda import Agenda
from vmss.passes.context import Context
from vmss.passes.telling import Teller

if TYPE_CHECKING:
    from vmss.passes.handover import Answer


class Latecomer:
    """One such pass, which was asked for the policy with the uuid `wanted`, for all its VMs or for those that have no
    snapshot of the latest slot (`missing`); or for all that is due."""

    def __init__(
        self,
        context: Context,
        directory: LockDirectory,
        agenda: Agenda,
        teller: Teller,
        wanted: Optional[str],
        missing: bool,
    ) -> None:
        self._context = context
        self._directory = directory
        self._agenda = agenda
        self._teller = teller
        self._wanted = wanted
        self._missing = missing

    def hand_over(self, held: Held, started: Callable[[], None]) -> "Optional[Answer]":
        """Hand a run by hand over to the pass that holds the lock, unless that has the policy in hand itself. Return
        how it ended; None if it was not taken."""
        wanted, pool = self._wanted, self._context.pool
        if wanted is None or wanted in held.policies or not pool.licensed:
            return None
        from vmss.passes import handover  # not needed by an idle tick
        from vmss.passes.loaded import load_all

        load_all()  # it may wait for long, and then have to do it itself
        self._agenda.by_hand(wanted, self._missing)  # what does not exist is refused here
        limit_s = self._context.settings.pass_limit

        def taken() -> None:
            started()
            self._context.say("the pass that is at work has taken the run over")

        return handover.ask(self._directory, pool.uuid, self._context.clock, wanted, self._missing, taken, limit_s)

    def put_off(self, held: Held) -> str:
        """The policies that are due, and that the other pass has not in hand, are told that they are late. Return a
        line for who asked for a run by hand, which nobody will do later."""
        pool = self._context.pool.uuid
        due = self._agenda.read(self._wanted, self._missing)
        # Asked last, because the other pass learns what is due at the same instant as this one.
        in_hand = Held(self._directory.holder(pool) or held.holder).policies
        # In turn: of several passes that are put off at the same instant, the second has to find the alert of the
        # first.
        with self._directory.in_turn(pool):
            self._teller.put_off(due.turns, held, in_hand)
        return "not run: %s; run it again when that pass has ended" % held if self._wanted else ""
