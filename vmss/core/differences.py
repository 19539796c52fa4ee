"""What sets the schedules of a pool apart from those that are declared, and the calls that bring them there.

Each call leaves a schedule that xapi can run, and one that was made is no difference any more: so whoever is killed
between two of them, and begins anew, goes on.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from vmss.core import frequencies
from vmss.core.assignment import Selector
from vmss.core.declared import Declared, as_xml_has_it, at, check_keys
from vmss.core.frequencies import Schedule
from vmss.core.policy import Policy
from vmss.core.problem import BadInput
from vmss.core.text import one_line
from vmss.core.words import counted

# What becomes of a schedule.
CREATE, CHANGE, UNCHANGED, LEFT, DELETE = "create", "change", "unchanged", "left", "delete"

# What became of a step: it is still to be made, was made, was refused, or was left out after one that was refused.
TO_DO, DONE, REFUSED, SKIPPED = "to do", "done", "refused", "not done"

# The reference of a schedule that is still to be made, and the number that it keeps if nothing is said, as in xapi.
NEW, _RETAINED = "new", 7

# A method of xapi and its parameters behind the session and the reference of the schedule.
Call = Tuple[Any, ...]


class Present(NamedTuple):
    """A schedule of the pool; `policy` is None where its record cannot be understood, and `error` says why."""

    ref: str
    uuid: str
    name: str
    description: str
    policy: Optional[Policy]
    error: str = ""


class Step(NamedTuple):
    """One difference: a field, or CREATE or DELETE, with what is and what is to be, and the calls that make it so.
    `error` is xapi's, if it refused one of them."""

    what: str
    before: Any
    after: Any
    calls: Tuple[Call, ...]
    result: str = TO_DO
    error: Tuple[str, ...] = ()


class Target(NamedTuple):
    """A schedule, what becomes of it, and its steps. `policy` is as it will be; None, if it cannot be understood."""

    name: str
    uuid: str
    ref: str
    action: str
    policy: Optional[Policy]
    steps: Tuple[Step, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether xapi refused one of its steps."""
        return any(step.result == REFUSED for step in self.steps)


def compare(declared: Sequence[Declared], present: Sequence[Present], delete_others: bool = False) -> List[Target]:
    """Given the schedules that are declared and those of the pool, return what becomes of each. Raise BadInput where a
    name means several, or one that cannot be understood, or where the document says too little for a new one."""
    targets = []
    for one in declared:
        found = [schedule for schedule in present if schedule.name == one.name]
        if len(found) > 1:
            uuids = ", ".join(one_line(schedule.uuid, 80) for schedule in found)
            raise BadInput(
                "%s: %d schedules of the pool have this name: %s; give the others another one: vmss xe vmss-param-set "
                "name-label=NAME uuid=UUID" % (at(one.name), len(found), uuids)
            )
        targets.append(_changed(one, found[0]) if found else _new(one))
    names = {one.name for one in declared}
    for schedule in present:
        if schedule.name not in names:
            targets.append(_deleted(schedule) if delete_others else _target(schedule, LEFT))
    return targets


def declaration(policy: Policy, description: str, vms: Tuple[Selector, ...] = ()) -> Declared:
    """The declaration of a schedule of the pool."""
    times = tuple((key.member, getattr(policy.schedule, key.member)) for key in _keys(policy.schedule))
    return Declared(
        name=policy.name,
        description=as_xml_has_it(description),
        enabled=policy.enabled,
        type=policy.type,
        frequency=policy.schedule.frequency,
        times=times,
        retained=policy.retained,
        vms=vms,
    )


def in_words(policy: Policy) -> str:
    """A schedule in a few words: when, what, and how many."""
    text = "%s, %s, keeps %d" % (policy.schedule.in_words(), policy.type, policy.retained)
    return text if policy.enabled else text + ", disabled"


def _target(schedule: Present, action: str, policy: Optional[Policy] = None, *steps: Step) -> Target:
    return Target(schedule.name, schedule.uuid, schedule.ref, action, policy or schedule.policy, steps)


def _new(one: Declared) -> Target:
    for field in ("type", "frequency"):
        if getattr(one, field) is None:
            raise BadInput(
                "%s: %s is missing: the pool has no such schedule, and a new one needs it" % (at(one.name), field)
            )
    schedule = Schedule(str(one.frequency))._replace(**dict(one.times))
    policy = Policy(
        ref=NEW,
        uuid="",
        name=one.name,
        enabled=one.enabled is not False,
        type=str(one.type),
        retained=_RETAINED if one.retained is None else one.retained,
        schedule=schedule,
        last_run=None,
        vms=(),
    )
    record = {
        "name_label": one.name,
        "name_description": one.description or "",
        "enabled": policy.enabled,
        "type": policy.type,
        "frequency": schedule.frequency,
        "schedule": _as_xapi_has_it(schedule),
        "retained_snapshots": str(policy.retained),
    }
    return Target(
        one.name, "", NEW, CREATE, policy, (Step(CREATE, None, in_words(policy), (("VMSS.create", record),)),)
    )


def _deleted(schedule: Present) -> Target:
    policy = schedule.policy
    vms = len(policy.vms) if policy is not None else 0
    before = in_words(policy) if policy is not None else "cannot be understood"
    before += ", %s" % counted(vms, "VM") if vms else ""
    return _target(schedule, DELETE, None, Step(DELETE, before, None, (("VMSS.destroy",),)))


def _changed(one: Declared, schedule: Present) -> Target:
    policy = schedule.policy
    if policy is None:
        raise BadInput("%s: the pool's schedule of this name cannot be understood: %s" % (at(one.name), schedule.error))
    frequency = one.frequency or policy.schedule.frequency
    check_keys(one.name, frequency, [member for member, _ in one.times])
    times = policy.schedule._replace(frequency=frequency)._replace(**dict(one.times))
    wanted = policy._replace(
        enabled=policy.enabled if one.enabled is None else one.enabled,
        type=one.type or policy.type,
        retained=one.retained or policy.retained,
        schedule=times,
    )
    steps = list(_steps(policy, wanted))
    before = as_xml_has_it(schedule.description)
    if one.description is not None and one.description != before:
        call = ("VMSS.set_name_description", one.description)
        steps.insert(0, Step("description", before, one.description, (call,)))
    # What is to rest rests first, and what is to run runs when all else is as it should be.
    steps.sort(key=lambda step: 0 if step.what != "enabled" else 1 if wanted.enabled else -1)
    return _target(schedule, CHANGE if steps else UNCHANGED, wanted, *steps)


def _steps(policy: Policy, wanted: Policy) -> Iterator[Step]:
    if wanted.type != policy.type:
        yield Step("type", policy.type, wanted.type, (("VMSS.set_type", wanted.type),))
    if _as_xapi_has_it(wanted.schedule) != _as_xapi_has_it(policy.schedule) or (
        wanted.schedule.frequency != policy.schedule.frequency
    ):
        yield _times(policy.schedule, wanted.schedule)
    if wanted.retained != policy.retained:
        call = ("VMSS.set_retained_snapshots", str(wanted.retained))
        yield Step("retained_snapshots", policy.retained, wanted.retained, (call,))
    if wanted.enabled != policy.enabled:
        yield Step("enabled", policy.enabled, wanted.enabled, (("VMSS.set_enabled", wanted.enabled),))


def _times(schedule: Schedule, wanted: Schedule) -> Step:
    """The step to other times. set_schedule takes the keys of all frequencies, and set_frequency keeps those of the new
    one: in this order a new frequency has its own times from the first moment, where the other one would run at xapi's
    defaults in between (docs/xapi-facts.md, Keys of a schedule)."""
    calls: List[Call] = [("VMSS.set_schedule", _as_xapi_has_it(wanted))]
    if wanted.frequency != schedule.frequency:
        calls.append(("VMSS.set_frequency", wanted.frequency))
    return Step("schedule", schedule.in_words(), wanted.in_words(), tuple(calls))


def _keys(schedule: Schedule) -> Tuple[frequencies.Key, ...]:
    return frequencies.find(schedule.frequency).keys


def _as_xapi_has_it(schedule: Schedule) -> Dict[str, str]:
    """The map VMSS.schedule, with each key of the frequency."""
    values = {key.name: key.shown(getattr(schedule, key.member)) for key in _keys(schedule)}
    return {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in values.items()}
