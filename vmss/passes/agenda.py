"""What is due: the schedules whose turn it is, read anew at every tick that a pass lives through."""

from datetime import datetime
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core.datetimes import format_datetime, in_future
from vmss.core.policy import Policy
from vmss.core.problem import BadInput, UnknownPolicy
from vmss.core.records import LAPSED_PREFIX, OWED_PREFIX
from vmss.core.schedule import TICK_INTERVAL, latest_slot, next_tick
from vmss.core.text import quoted
from vmss.core.turn import Turn
from vmss.edges import world
from vmss.passes.context import Context

if TYPE_CHECKING:
    from vmss.core.changes import Known
    from vmss.passes.owed import Owed


class Due(NamedTuple):
    """All policies at one instant: the turns of those that are due, the others, and by uuid the error of each that
    cannot be understood. `restricted` are the turns that the pool's licence does not allow, `lapsed` those for which it
    is too late, and of which nobody was told yet."""

    turns: List[Turn]
    idle: List[Policy]
    errors: List[Tuple[str, str]]
    restricted: List[Turn]
    lapsed: List[Turn] = []

    @property
    def policies(self) -> int:
        """The number of the pool's policies."""
        return len(self.turns) + len(self.restricted) + len(self.idle) + len(self.errors)


class Agenda:
    """Decides for one pass which policies are due. A slot that this pass has served is not due again."""

    def __init__(self, context: Context, writes: bool = True) -> None:
        """`writes`: it may note what the schedules are."""
        self._context = context
        self._writes = writes
        self._owed: Optional[Owed] = None
        self._known: Optional[Set[str]] = None  # the policies that existed when the pass began
        self._lapsed: Dict[str, Turn] = {}  # by policy: the slot for which it is too late, told or not
        self._changes: Optional[Dict[str, Known]] = None  # what the schedules were, as this pass has noted it
        self._served: Dict[str, datetime] = {}  # the latest slot that this pass has served, by policy
        self._began = self._next_tick = context.now()
        # The first tick that could not serve what was due; this one, unless earlier ones found no session or the lock
        # held.
        self.waiting_since = context.now()

    def waits_since(self, since: Optional[datetime]) -> None:
        """A tick could not serve what was due at this time either, if there was one."""
        self.waiting_since = min(self.waiting_since, since or self.waiting_since)

    @property
    def owed(self) -> "Owed":
        """What policies still owe."""
        from vmss.passes.owed import Owed  # not needed by an idle tick

        self._owed = self._owed or Owed(self._context)
        return self._owed

    def _is_noted(self) -> bool:
        return any(key.startswith(OWED_PREFIX) for key in self._context.pool.other_config)

    def read(self, wanted: Optional[str] = None, missing: bool = False) -> Due:
        """Read all policies, and return those that are due; or the one with the uuid `wanted`, whatever its schedule,
        for all its VMs or for those that have no snapshot of the latest slot (`missing`).

        Raise BadInput if that one does not exist or cannot be understood.
        """
        now = self._context.now()
        self._next_tick = next_tick(now)
        policies, errors = world.read_policies(self._context.xapi)
        policies = [self._context.settings.applied(policy) for policy in policies]
        if not self._context.settings.catch_up_changed:
            from vmss.passes import changed  # most pools do not ask for it

            policies, self._changes = changed.noted(self._context, policies, self._changes, self._writes)
        if self._known is None:
            known = [(policy.uuid, policy.name) for policy in policies] + [(uuid, "") for uuid, _ in errors]
            for one in self._context.settings.of_none(known):
                self._context.log("%s: no snapshot schedule of this pool is called so (ignored)" % one.where)
        if self._writes and self._is_noted():
            self.owed.forget_all_but([policy.uuid for policy in policies] + [uuid for uuid, _ in errors])
        turns = [self._wanted(wanted, policies, errors, missing)] if wanted else self._due(policies)
        refs = {turn.policy.ref for turn in turns}
        idle = [policy for policy in policies if policy.ref not in refs]
        if self._context.pool.licensed:
            return Due(turns, idle, errors, [], [] if wanted else self._newly_lapsed(policies, now))
        for turn in turns:
            self.served(turn)
        return Due([], idle, errors, [turn for turn in turns if not turn.again])

    def by_hand(self, uuid: str, missing: bool) -> Turn:
        """The turn of one policy, whatever its schedule, for a run that was handed over to this pass. Raise BadInput if
        it does not exist or cannot be understood."""
        return self._wanted(uuid, *world.read_policies(self._context.xapi), missing)

    def served(self, turn: Turn) -> None:
        """The run of a turn is over."""
        self._served[turn.policy.ref] = turn.slot
        if turn.again:
            self.owed.put_off(turn.policy.uuid)

    def seconds_to_tick(self) -> float:
        """The time until policies can become due that were not when `read` was last called; 0 if it has come."""
        left = self._next_tick - self._context.now()
        # Ticks are no further apart: if this one is, the clock was set back, and other slots come before it.
        return 0.0 if left > TICK_INTERVAL else max(0.0, left.total_seconds())

    def _due(self, policies: Sequence[Policy]) -> List[Turn]:
        now = self._context.now()
        turns = []
        for policy in policies:
            if policy.last_run is not None and in_future(policy.last_run, now):
                self._context.log(
                    "Warning: the last run of policy %s, %s, lies in the future: taken as never"
                    % (policy.uuid, format_datetime(policy.last_run))
                )
            # A policy that never ran is late, not lost, if an earlier tick could not serve it. One that was created
            # after this pass began waits for a slot of its own.
            known = self._known is None or policy.ref in self._known
            slot = policy.due(self._context.log.zone, now, self.waiting_since if known else None)
            if (
                slot is not None
                and (known or slot > self._began)
                and (policy.ref not in self._served or self._served[policy.ref] < slot)
            ):
                turns.append(Turn(policy, slot, begun=now))
                continue
            again = self.owed.turn(policy, now) if self._owed is not None or self._is_noted() else None
            if again is not None:
                turns.append(again)
        if self._known is None:
            self._known = {policy.ref for policy in policies}
        return turns

    def _newly_lapsed(self, policies: Sequence[Policy], now: datetime) -> List[Turn]:
        """The slots for which it is too late, but for those that a pass has told of: by its note, without a call."""
        found: List[Turn] = []
        for policy in policies:
            slot = policy.unserved(self._context.log.zone, now) if policy.late_limit is not None else None
            if slot is None or not policy.lapsed(slot, now):
                continue
            before = self._lapsed.get(policy.ref)
            noted = self._context.pool.other_config.get(LAPSED_PREFIX + policy.uuid)
            self._lapsed[policy.ref] = turn = Turn(policy, slot, begun=now)
            if noted != format_datetime(slot) and (before is None or before.slot != slot):
                found.append(turn)
        return found

    def _wanted(self, uuid: str, policies: Sequence[Policy], errors: Sequence[Tuple[str, str]], missing: bool) -> Turn:
        for policy in policies:
            if policy.uuid == uuid:
                now = self._context.now()
                slot = latest_slot(policy.schedule, self._context.log.zone, now)
                return Turn(policy, slot, forced=True, begun=now, missing=missing)
        for broken, error in errors:
            if broken == uuid:
                raise BadInput("snapshot schedule %s cannot be understood: %s" % (uuid, error))
        raise UnknownPolicy("no snapshot schedule of this pool has the uuid %s" % quoted(uuid))


class Batches:
    """The lines of the log about batches of policies, and about the policies that are not due."""

    def __init__(self, context: Context, due: Due) -> None:
        self._log = context.log
        self._idle = list(due.idle)
        self._number = 0
        self._log("No of Policies: %d" % due.policies)
        self._log("Max number of threads allocated for policy : %d" % context.settings.max_policies)
        for uuid, error in due.errors:
            self._log("Not processing policy: %s (%s)" % (uuid, error))
        if self._idle and not due.turns:
            self.next()

    def next(self) -> None:
        """A batch begins. The first one names the policies that are not due."""
        self._log("Policy Batch: %d" % self._number)
        self._number += 1
        while self._idle:
            self._log("Not processing policy: %s" % self._idle.pop(0).uuid)
