"""What schedules still owe: VMs that failed for a reason that may pass, noted in the pool's database for later ticks.

A note is a key of pool.other_config, `vmss-owed:UUID`, one per policy: the slot, and the uuids of the VMs. It holds
until each of them has its snapshot of the slot, the next slot comes, or a day is over, or the setting `late_limit`.
"""

import json
from datetime import datetime, timedelta
from typing import Collection, Dict, FrozenSet, Optional, Sequence, Tuple

from vmss.core.datetimes import EPOCH, format_datetime, parse_reading
from vmss.core.policy import Policy
from vmss.core.records import OWED_PREFIX
from vmss.core.schedule import TICK_INTERVAL, latest_slot, next_tick
from vmss.core.text import is_uuid
from vmss.core.turn import Turn
from vmss.edges.xapi import MISREAD, Refused
from vmss.passes.context import Context

# Without a late_limit it is tried for so long.
_TRIED_FOR = timedelta(days=1)

# Upper limit on the VMs in a note: the pool's record is read at every tick. Beyond it, all VMs of the policy are meant.
_VMS_MAX = 100


class Owed:
    """The notes of the pool, and those of this pass."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._notes: Dict[str, Tuple[datetime, FrozenSet[str]]] = {}  # by the uuid of the policy
        self._tried: Dict[str, datetime] = {}  # when this pass last tried to serve them
        for key, text in context.pool.other_config.items():
            if key.startswith(OWED_PREFIX):
                self._notes[key[len(OWED_PREFIX) :]] = _parse(text)

    def turn(self, policy: Policy, now: datetime) -> Optional[Turn]:
        """The turn by which a policy tries once more to keep its promise for the latest slot; None if it owes nothing,
        or this pass has tried in this tick."""
        slot, vms = self._notes.get(policy.uuid, (None, frozenset()))
        if slot is None or not policy.enabled or not policy.vms:
            return None
        if slot != latest_slot(policy.schedule, self._context.log.zone, now):
            return None  # what missed its slot is not made up for after the next one
        if policy.changed is not None and slot <= policy.changed - TICK_INTERVAL:
            return None  # nor by a schedule that has become another one, and waits for its next slot
        if now >= slot + _TRIED_FOR if policy.late_limit is None else policy.lapsed(slot, now):
            return None
        if policy.uuid in self._tried and now < next_tick(self._tried[policy.uuid]):
            return None
        return Turn(policy, slot, begun=now, missing=True, again=True, only=vms)

    def forget_all_but(self, policies: Collection[str]) -> None:
        """Remove the notes of policies that are gone; given are the uuids of those that are there."""
        for uuid in sorted(self._notes.keys() - set(policies)):
            self._write("remove_from_other_config", OWED_PREFIX + uuid)
            del self._notes[uuid]

    def put_off(self, policy: str) -> None:
        """This pass tries the policy with this uuid again at a later tick only."""
        self._tried[policy] = self._context.now()

    def note(self, turn: Turn, vms: Sequence[str]) -> None:
        """After a run: these VMs, by their uuids, still lack their snapshot of the slot."""
        uuid = turn.policy.uuid
        self._tried[uuid] = self._context.now()
        note = (turn.slot, frozenset(vms if len(vms) <= _VMS_MAX else ()))
        if vms and self._notes.get(uuid) == note:
            return
        if uuid in self._notes:
            self._write("remove_from_other_config", OWED_PREFIX + uuid)
            del self._notes[uuid]
        if vms:
            self._notes[uuid] = note
            text = {"slot": format_datetime(turn.slot), "vms": sorted(note[1])}
            self._write("add_to_other_config", OWED_PREFIX + uuid, json.dumps(text, separators=(",", ":")))

    def _write(self, method: str, *params: str) -> None:
        try:
            self._context.xapi.call("pool." + method, self._context.pool.ref, *params)
        except Refused as refused:
            self._context.log(
                "What policy %s still owes could not be noted: %s" % (params[0][len(OWED_PREFIX) :], refused)
            )


def _parse(text: str) -> Tuple[datetime, FrozenSet[str]]:
    """A note, read. What cannot be understood owes nothing."""
    try:
        note = json.loads(text)
        slot, vms = parse_reading(note["slot"]), frozenset(note["vms"])
        if all(map(is_uuid, vms)):
            return slot, vms
    except MISREAD:
        pass
    return EPOCH, frozenset()
