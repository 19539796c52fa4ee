"""What receivers elsewhere are told: the ping of a tick, and the document of a run (docs/webhook.schema.json)."""

from datetime import datetime, timedelta
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from vmss.core.datetimes import format_iso
from vmss.core.failures import failure_of
from vmss.core.messages import Victim
from vmss.core.problem import EXIT_LOCKED, EXIT_OK
from vmss.core.records import Pool
from vmss.core.served import BY_HAND, Served
from vmss.version import VERSION

# The version of the schema. Fields may be added to a version; none changes its meaning, and none goes.
SCHEMA = 1
# Upper limits on what a document has: VMs with errors, items of an error, and characters of a text from outside.
_FAILURES_MAX, _ITEMS_MAX, _LENGTH_MAX = 200, 10, 500

# The ends of the address of a ping.
START, SUCCESS, FAIL = "/start", "", "/fail"


class Notice(NamedTuple):
    """A run, as its alert tells it. `ended`: when it did; `remarks`: what the alert says beside the summary;
    `left_over`: what it says about what is left over; `failed`: whether the run has not done all that it should.
    `cut_off`: it was by hand, and its pass has not come to its end; a later one tells of it."""

    served: Served
    ended: datetime
    pool: Pool
    failed: bool
    remarks: Tuple[str, ...] = ()
    left_over: str = ""
    cut_off: bool = False

    @property
    def by_hand(self) -> bool:
        """Whether it was started by hand."""
        return self.served.start == BY_HAND

    @property
    def key(self) -> str:
        """What all notices of one kind about one schedule share: that of a slot, that of the VMs tried again, and that
        of runs by hand."""
        end = "/by-hand" if self.by_hand else "/again" if self.served.turn.again else ""
        return self.served.turn.policy.uuid + end

    @property
    def instant(self) -> str:
        """What tells it from others of its key, and later ones are greater: the slot, or when a run by hand began."""
        return format_iso(self.served.started if self.by_hand else self.served.turn.slot)

    @property
    def run(self) -> str:
        """A name of the run that no other one has: it is the same if a pass that was killed is repeated."""
        if self.by_hand:
            return "%s/%s" % (self.key, self.served.started.strftime("%Y%m%dT%H%M%S.%fZ"))
        return "%s/%s" % (self.key, self.instant)


def ping_of(status: int, told: Iterable[Notice] = ()) -> Optional[str]:
    """The end of the address that a tick pings, with this exit status, that has told of these runs; None if it pings
    nothing: then another pass is at work, and whether that comes to its end nobody knows."""
    if status == EXIT_LOCKED:
        return None
    # A run that was cut off is none of this tick, but none has pinged for it either.
    cut_off = any(notice.cut_off and notice.failed for notice in told)
    return SUCCESS if status == EXIT_OK and not cut_off else FAIL


def is_new(notice: Notice, told: Dict[str, str]) -> bool:
    """Whether a run was not told before, by the instants that were told, by keys; and add it to them.

    Each run by hand is one of its own. One that was cut off may have been told before that, or by a pass that was
    killed then. What is known of its begin is at most earlier than that was.
    """
    before = told.get(notice.key, "")
    if before >= notice.instant if notice.cut_off else before == notice.instant and not notice.by_hand:
        return False
    told[notice.key] = notice.instant
    return True


def document(notice: Notice, test: bool = False) -> Dict[str, Any]:
    """A notice as a JSON object."""
    served, policy = notice.served, notice.served.turn.policy
    seconds = max(timedelta(0), notice.ended - served.started).total_seconds()
    return {
        "schema": SCHEMA,
        "vmss": VERSION,
        "test": test,
        "run": notice.run,
        "pool": {"uuid": notice.pool.uuid, "name": _text(notice.pool.name)},
        "schedule": {"uuid": policy.uuid, "name": _text(policy.name), "type": policy.type},
        "slot": format_iso(served.turn.slot),
        "start": served.start,
        "started": format_iso(served.started),
        "ended": format_iso(notice.ended),
        "seconds": round(seconds),
        "result": "failed" if notice.failed else "succeeded",
        "counts": {
            "vms": served.vms,
            "taken": served.taken,
            "deleted": served.deleted,
            "failed": len(served.victims),
            "exceed_retention": served.left,
            "dated_in_future": served.future,
        },
        "failures": [_failure(victim, policy.uuid, notice.pool.uuid) for victim in served.victims[:_FAILURES_MAX]],
        "failures_left_out": max(0, len(served.victims) - _FAILURES_MAX),
        "remarks": [_text(remark.strip(), 4 * _LENGTH_MAX) for remark in notice.remarks if remark.strip()],
        "left_over": _text(notice.left_over.strip(), 4 * _LENGTH_MAX),
    }


def _failure(victim: Victim, schedule: str, pool: str) -> Dict[str, Any]:
    failure = failure_of(victim.error, victim.uuid, schedule, pool)
    error: List[str] = [_text(item) for item in victim.error[:_ITEMS_MAX]]
    return {
        "vm": _text(victim.name),
        "uuid": _text(victim.uuid),
        "error": error,
        "reason": _text(failure.sentence),
        "remedy": failure.remedy,
    }


def _text(text: str, length_max: int = _LENGTH_MAX) -> str:
    """A text from outside: JSON carries any, but for lone surrogates, which are no text."""
    return text[:length_max].encode("utf-8", "replace").decode("utf-8")
