"""Snapshot schedules (xapi: ocaml/xapi/xapi_vmss.ml, map_check.ml)."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict, Generator

from ..errors import XapiError, internal_error
from ..licence import require_feature
from ..registry import method
from ..values import EPOCH, ocaml_int
from .vm import check_quiesce

if TYPE_CHECKING:
    from ..call import Call

Schedule = Dict[str, str]

DEFAULTS: Dict[str, Schedule] = {
    "hourly": {"min": "0"},
    "daily": {"hour": "0", "min": "0"},
    "weekly": {"hour": "0", "min": "0", "days": "Monday"},
}
ALL_KEYS: Schedule = {key: default for defaults in DEFAULTS.values() for key, default in defaults.items()}
MINUTES = ("0", "15", "30", "45")
DAYS = {day.lower(): day for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")}
RETAINED_MIN, RETAINED_MAX = 1, 10


def _invalid(key: str, value: str) -> XapiError:
    return XapiError("INVALID_VALUE", "schedule:" + key if key else "schedule", value)


def check_value(key: str, value: str) -> str:
    """Check one value of a schedule, and return its stored form."""
    if key == "min":
        if value.lower() not in MINUTES:
            raise _invalid(key, value)
        return value
    if key == "hour":
        try:
            hour = ocaml_int(value)
        except ValueError:
            raise _invalid(key, value)
        if not 0 <= hour <= 23:
            raise _invalid(key, value)
        return value
    return _check_days(value)


def _check_days(value: str) -> str:
    """Check day names in any case, and store them capitalised; the error names the last wrong one, as in xapi."""
    built = ""
    for name in reversed(value.split(",")):
        day = DAYS.get(name.lower())
        if day is None:
            raise _invalid("days", name)
        if day in built:
            raise _invalid("days", value)
        built = day + ("," + built if built else "")
    return built


def check_schedule(schedule: Schedule, allowed: Schedule) -> Schedule:
    """Check all keys and values against the keys that are allowed; return the canonical schedule."""
    checked = {}
    for key, value in schedule.items():
        if key not in allowed:
            raise _invalid(key, value)
        checked[key] = check_value(key, value)
    return checked


def check_retained(count: int) -> None:
    if not RETAINED_MIN <= count <= RETAINED_MAX:
        raise XapiError("INVALID_VALUE", "retained_snapshots", str(count))


@method("VMSS.create")
def create(call: "Call", fields: Dict[str, Any]) -> str:
    require_feature(call.sim, "VMSS")
    if fields["type"] == "snapshot_with_quiesce":
        require_feature(call.sim, "VSS")
    defaults = DEFAULTS[fields["frequency"]]
    fields["schedule"] = {**defaults, **check_schedule(fields["schedule"], defaults)}
    check_retained(fields["retained_snapshots"])
    return call.db.create("VMSS", dict(fields, last_run_time=EPOCH))


@method("VMSS.destroy")
def destroy(call: "Call", policy: str) -> None:
    require_feature(call.sim, "VMSS")
    uuid = call.db.row("VMSS", policy)["uuid"]
    if call.db.get("VMSS", policy, "VMs"):
        raise XapiError("VMSS_HAS_VM")
    for message in call.sim.messages.of_object(uuid):
        call.sim.messages.destroy(message)
    call.db.delete("VMSS", policy)


@method("VMSS.snapshot_now")
def snapshot_now(call: "Call", policy: str) -> Generator[Any, Any, str]:
    """Run the host plugin `vmss` with the caller's own session."""
    require_feature(call.sim, "VMSS")
    args = {"vmss_uuid": call.db.row("VMSS", policy)["uuid"]}
    return (yield from call.sim.plugins.run(call.session, "vmss", "snapshot_now", args))


@method("VMSS.set_retained_snapshots")
def set_retained_snapshots(call: "Call", policy: str, count: int) -> None:
    require_feature(call.sim, "VMSS")
    check_retained(count)
    call.db.set("VMSS", policy, "retained_snapshots", count)


@method("VMSS.set_frequency")
def set_frequency(call: "Call", policy: str, frequency: str) -> None:
    """The schedule keeps the keys that the new frequency has, and gets defaults for the others."""
    require_feature(call.sim, "VMSS")
    defaults = DEFAULTS[frequency]
    stored = call.db.row("VMSS", policy)["schedule"]
    kept = {key: stored.get(key, default) for key, default in defaults.items()}
    schedule = check_schedule(kept, defaults)
    call.db.set("VMSS", policy, "frequency", frequency)
    call.db.set("VMSS", policy, "schedule", schedule)


@method("VMSS.set_schedule")
def set_schedule(call: "Call", policy: str, schedule: Schedule) -> None:
    """Set the given keys of the schedule; the other keys stay."""
    require_feature(call.sim, "VMSS")
    merged = _merge(schedule, _stored(call, policy))
    call.db.set("VMSS", policy, "schedule", check_schedule(merged, ALL_KEYS))


def _merge(new: Schedule, stored: Schedule) -> Schedule:
    """Both schedules; new values win. New keys come first, so that an error is about the first bad one of them."""
    merged = {key: value for key, value in new.items() if key not in stored}
    merged.update((key, new.get(key, value)) for key, value in stored.items())
    return merged


def _stored(call: "Call", policy: str) -> Schedule:
    stored: Schedule = call.db.row("VMSS", policy)["schedule"]
    return stored


@method("VMSS.add_to_schedule")
def add_to_schedule(call: "Call", policy: str, key: str, value: str) -> None:
    """Add a key. As in xapi, a failure restores its value before the last remove_from_schedule, of any policy."""
    require_feature(call.sim, "VMSS")
    try:
        checked = check_schedule(_merge({key: value}, _stored(call, policy)), ALL_KEYS)
        call.db.add_to_map("VMSS", policy, "schedule", key, checked[key])
    except XapiError:
        if key not in call.sim.vmss_backup:
            raise internal_error("Not_found")
        call.db.add_to_map("VMSS", policy, "schedule", key, call.sim.vmss_backup[key])
        raise


@method("VMSS.remove_from_schedule")
def remove_from_schedule(call: "Call", policy: str, key: str) -> None:
    require_feature(call.sim, "VMSS")
    call.sim.vmss_backup = dict(_stored(call, policy))
    call.db.remove_from_map("VMSS", policy, "schedule", key)


@method("VMSS.set_last_run_time")
def set_last_run_time(call: "Call", policy: str, when: datetime) -> None:
    require_feature(call.sim, "VMSS")
    call.db.set("VMSS", policy, "last_run_time", when)


@method("VMSS.set_type")
def set_type(call: "Call", policy: str, kind: str) -> None:
    require_feature(call.sim, "VMSS")
    call.db.row("VMSS", policy)
    if kind == "snapshot_with_quiesce":
        require_feature(call.sim, "VSS")
        for vm in call.db.get("VMSS", policy, "VMs"):
            check_quiesce(call, vm)
    call.db.set("VMSS", policy, "type", kind)
