"""A snapshot schedule as a row: the fields that `vmss list` and `vmss show` print, each with its column and value."""

from typing import Any, Callable, Dict, List, NamedTuple

from vmss.cli import colour
from vmss.cli.layout import Column
from vmss.core.frequencies import DAYS, Key, all_keys
from vmss.core.policy import Policy
from vmss.insight.history import Run
from vmss.insight.policies import Details
from vmss.insight.reading import Reading


class Field(NamedTuple):
    """One field: its column, and its value for a schedule."""

    column: Column
    value: Callable[[Details], Any]


def fields(session: Reading) -> List[Field]:
    """The fields, in the order of JSON and CSV; those whose column has a title are in the table of `vmss list`."""
    at, style = session.moment, colour.of_result
    server, brief = (3, session.moment_there), (5, session.brief_moment)
    return [
        Field(Column("name", "name", least=17), lambda one: one.entry.name),
        Field(
            Column("schedule", "schedule", gives=[(2, in_short), (6, in_shortest)]),
            _of_policy(lambda policy: policy.schedule.in_words()),
        ),
        Field(Column("type", "type", gives=[(4, None)]), _of_policy(lambda policy: policy.type)),
        Field(Column("state", "state", style=style, gives=[(9, None)], least=10), lambda one: one.state),
        Field(Column("vms", "VMs", right=True, gives=[(8, None)]), _of_policy(lambda policy: len(policy.vms))),
        Field(Column("last_run", "last run", at, gives=[server, brief, (7, None)]), lambda one: one.last_run),
        Field(Column("last_result", "result", style=style), of_run(lambda run: run.result)),
        Field(Column("next_run", "next run", at, gives=[server, brief, (10, None)]), lambda one: one.next_run),
        Field(Column("uuid", "uuid", gives=[(1, None)]), lambda one: one.entry.uuid),
        Field(Column("enabled"), _of_policy(lambda policy: policy.enabled)),
        Field(Column("retained_snapshots"), _of_policy(lambda policy: policy.retained)),
        Field(Column("frequency"), _of_policy(lambda policy: policy.schedule.frequency)),
        *(Field(Column(key.member), _of_key(key)) for key in all_keys()),
        Field(Column("error"), lambda one: one.entry.error or None),
    ]


def in_short(words: str) -> str:
    """A schedule in few words: `hourly :15`, `daily 02:30`, `Mon, Fri 22:00`."""
    for long, short in (("every hour at", "hourly"), ("every day at", "daily"), (" at ", " "), (" and ", ", ")):
        words = words.replace(long, short)
    for day in DAYS:
        words = words.replace(day + "s", day[:3])
    return words


def in_shortest(words: str) -> str:
    """A schedule in very few words: `hourly :15`, `daily 02:30`, `Mo Fr 22:00`."""
    short = in_short(words).replace(",", "")
    for day in DAYS:
        short = short.replace(day[:3], day[:2])
    return short


def row(fields: List[Field], details: Details) -> Dict[str, Any]:
    """The values of one schedule, by the keys of their columns."""
    return {field.column.key: field.value(details) for field in fields}


def _of_policy(value: Callable[[Policy], Any]) -> Callable[[Details], Any]:
    """A value that a schedule has only if its record can be understood."""
    return lambda one: value(one.entry.policy) if one.entry.policy is not None else None


def of_run(value: Callable[[Run], Any]) -> Callable[[Details], Any]:
    """A value that a schedule has only if a message tells of a run."""
    return lambda one: value(one.newest_run) if one.newest_run is not None else None


def _of_key(key: Key) -> Callable[[Details], Any]:
    """A value that a schedule has only if its frequency reads this key."""

    def value(policy: Policy) -> Any:
        return key.shown(getattr(policy.schedule, key.member)) if policy.schedule.reads(key) else None

    return _of_policy(value)
