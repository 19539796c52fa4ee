"""A snapshot schedule as a typed value, read from a VMSS record of XAPI."""

import re
from datetime import datetime, timedelta, tzinfo
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core import frequencies
from vmss.core.datetimes import EPOCH, in_future, parse_datetime
from vmss.core.frequencies import Schedule
from vmss.core.ocaml import read_int
from vmss.core.problem import BadInput, UnknownPolicy
from vmss.core.schedule import TICK_INTERVAL, due_slot, next_tick
from vmss.core.text import is_uuid, one_line, quoted
from vmss.core.words import did_you_mean, listed

SNAPSHOT, CHECKPOINT, QUIESCED = TYPES = ("snapshot", "checkpoint", "snapshot_with_quiesce")

# The beginning of a uuid, in lower case. Fewer characters are too easily another word.
_BEGINNING = r"[0-9a-f-]{4,35}\Z"
# The schedules that a message names where the wanted one is unknown.
_NAMED_MAX = 5


class PolicyError(Exception):
    """A VMSS record does not have xapi's form. The text is one line that names the field, its value and the rule."""


class Policy(NamedTuple):
    """A VMSS object. `last_run` is None for a policy that never ran; `vms` are references, in XAPI's order.
    `late_limit` is not of xapi, but a setting: after it a slot is not served any more; None: it is, until the next one
    comes. Nor is `changed`: since when it is as it is, if that is known and counts (vmss.core.changes)."""

    ref: str
    uuid: str
    name: str
    enabled: bool
    type: str
    retained: int
    schedule: Schedule
    last_run: Optional[datetime]
    vms: Tuple[str, ...]
    late_limit: Optional[timedelta] = None
    changed: Optional[datetime] = None

    def lapsed(self, slot: datetime, now: datetime) -> bool:
        """Whether it is too late for a slot. The tick of the slot never comes too late."""
        return self.late_limit is not None and now >= slot + max(self.late_limit, TICK_INTERVAL)

    def ran(self, now: datetime) -> Optional[datetime]:
        """The end of the last run; None if it never ran, and also if that lies in the future: it proves nothing."""
        return None if self.last_run is None or in_future(self.last_run, now) else self.last_run

    def due(self, zone: tzinfo, now: datetime, since: Optional[datetime] = None) -> Optional[datetime]:
        """The slot that is to be served now, or None, also if the policy is disabled or has no VM, or if it is too late
        for the slot. `since` is the first tick that could not serve what was due, if that was an earlier one."""
        slot = self.unserved(zone, now, since)
        return None if slot is None or self.lapsed(slot, now) else slot

    def unserved(self, zone: tzinfo, now: datetime, since: Optional[datetime] = None) -> Optional[datetime]:
        """The same, however late it is."""
        if not self.enabled or not self.vms:
            return None
        last_run, changed = self.last_run, self.changed
        if changed is None or (last_run is not None and last_run >= changed):
            return due_slot(self.schedule, zone, last_run, now, since)
        # It waits for a slot of its own, as if it had never run. That one is late, not lost, if no tick came to it.
        slot = due_slot(self.schedule, zone, None, now, None if since is None else max(since, changed))
        slot = slot if slot is not None or last_run is None else due_slot(self.schedule, zone, changed, now)
        served = self.ran(now)
        return slot if slot is None or served is None or slot > served else None

    def late(self, zone: tzinfo, now: datetime) -> bool:
        """Whether the next tick is to serve a slot that has passed. It is never so for a policy that never ran: only
        the tick of its slot serves it, and that one began at the slot."""
        slot = self.due(zone, next_tick(now))
        return slot is not None and slot <= now


def index_of(known: Sequence[Tuple[str, str]], wanted: str) -> int:
    """Given the uuids and names of schedules, return the index of the wanted one: by its uuid in any case, by its name,
    or by the beginning of its uuid. Raise BadInput where there is none, or more than one."""
    lower = wanted.lower()
    found = [index for index, (uuid, _) in enumerate(known) if uuid.lower() == lower]
    # An empty word is a shell's variable that was never set, and means none.
    found = found or [index for index, (_, name) in enumerate(known) if name == wanted != ""]
    if len(found) > 1:
        raise BadInput(
            "%d snapshot schedules are called %s; give the uuid of one: %s"
            % (len(found), quoted(wanted), ", ".join(one_line(known[index][0], 80) for index in found))
        )
    if not found and re.match(_BEGINNING, lower):
        found = [index for index, (uuid, _) in enumerate(known) if uuid.lower().startswith(lower)]
        if len(found) > 1:
            candidates = ("%s (%s)" % (one_line(known[at][0], 80), one_line(known[at][1], 80)) for at in found)
            raise BadInput(
                "the uuids of %d snapshot schedules begin with %s; give more of one: %s"
                % (len(found), quoted(wanted), ", ".join(candidates))
            )
    if not found:
        kind = "uuid" if is_uuid(lower) else "uuid or the name"
        names = sorted({name for _, name in known if name})
        hint = did_you_mean(wanted, names)
        if not hint and names:
            hint = "; there %s %s" % ("is" if len(names) == 1 else "are", _some(names))
        raise UnknownPolicy("no snapshot schedule of this pool has the %s %s%s" % (kind, quoted(wanted), hint))
    return found[0]


def _some(names: Sequence[str]) -> str:
    """The first of these names."""
    shown = [quoted(name) for name in names[:_NAMED_MAX]]
    return listed(shown + (["%d more" % (len(names) - len(shown))] if len(names) > len(shown) else []))


def from_record(ref: str, record: Mapping[str, Any]) -> Policy:
    """Given a VMSS reference and its record as the XenAPI client returns it, return the policy.

    Raise PolicyError for a record that xapi would not store.
    """
    if not isinstance(record, Mapping):
        raise PolicyError("record: %s is not a map" % quoted(record))
    try:
        last_run = parse_datetime(_field(record, "last_run_time"))
    except ValueError as error:
        raise PolicyError("last_run_time: %s" % error)
    return Policy(
        ref=ref,
        uuid=_text(record, "uuid"),
        name=_text(record, "name_label"),
        enabled=_boolean(record, "enabled"),
        type=_choice(record, "type", TYPES),
        retained=_retained(_field(record, "retained_snapshots")),
        schedule=_schedule(_field(record, "frequency"), _field(record, "schedule")),
        last_run=last_run if last_run > EPOCH else None,
        vms=_references(record, "VMs"),
    )


def _retained(value: Any) -> int:
    try:
        return read_int(value, 1, 10)
    except ValueError as error:
        raise PolicyError("retained_snapshots: %s" % error)


def _schedule(frequency: Any, keys: Any) -> Schedule:
    try:
        return frequencies.read(frequency, keys)
    except ValueError as error:
        raise PolicyError(str(error))


def _field(record: Mapping[str, Any], name: str) -> Any:
    try:
        return record[name]
    except KeyError:
        raise PolicyError("%s: missing from the record" % name)


def _text(record: Mapping[str, Any], name: str) -> str:
    value = _field(record, name)
    if not isinstance(value, str):
        raise PolicyError("%s: %s is not a text" % (name, quoted(value)))
    return value


def _boolean(record: Mapping[str, Any], name: str) -> bool:
    value = _field(record, name)
    if not isinstance(value, bool):
        raise PolicyError("%s: %s is neither true nor false" % (name, quoted(value)))
    return value


def _choice(record: Mapping[str, Any], name: str, choices: Tuple[str, ...]) -> str:
    value = _field(record, name)
    if value not in choices:
        raise PolicyError("%s: %s is not one of %s" % (name, quoted(value), ", ".join(choices)))
    return str(value)


def _references(record: Mapping[str, Any], name: str) -> Tuple[str, ...]:
    value = _field(record, name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise PolicyError("%s: %s is not a list of references" % (name, quoted(value)))
    return tuple(value)
