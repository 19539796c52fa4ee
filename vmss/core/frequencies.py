"""The frequencies of snapshot schedules: one table with the keys, the slots and the words of each.

Slots are wall-clock times of one zone. The rules where the clock is changed:

- A slot whose wall-clock time falls into a gap of the clock (spring) is served at the first instant after
  the gap.
- A daily or weekly slot that occurs twice (autumn) is served once, at its first occurrence; an hourly one is
  served at both, which keeps one in every real hour. By the same thought an hour that the clock skips as a
  whole has no hourly slot: no real hour passed.

The keys, their values and their defaults are those of xapi (docs/xapi-facts.md, Keys of a schedule).
"""

from datetime import datetime, time, timedelta, tzinfo
from typing import Any, Callable, Dict, FrozenSet, Iterator, Mapping, NamedTuple, Tuple

from vmss.core.datetimes import wall_clock, wall_to_instants
from vmss.core.ocaml import read_int
from vmss.core.text import quoted
from vmss.core.words import listed

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MINUTES = (0, 15, 30, 45)

HOURLY, DAILY, WEEKLY = "hourly", "daily", "weekly"

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)


class Schedule(NamedTuple):
    """The times of a VMSS object: the name of its frequency, and wall-clock times. In `days`, 0 is Monday.

    A frequency uses the members that its keys name, and ignores the others.
    """

    frequency: str
    minute: int = 0
    hour: int = 0
    days: FrozenSet[int] = frozenset([0])

    def reads(self, key: "Key") -> bool:
        """Whether the frequency uses this key."""
        return key in find(self.frequency).keys

    @property
    def distance(self) -> timedelta:
        """The longest time between two slots, changes of the clock apart."""
        return find(self.frequency).distance

    def slots_around(self, zone: tzinfo, instant: datetime) -> Iterator[datetime]:
        """Slots near an instant in any order: at least the latest one at or before it, and the next one."""
        return find(self.frequency).slots_around(self, zone, instant)

    def in_words(self) -> str:
        """When it runs: `every hour at :15`, `every day at 02:30`, `Mondays and Fridays at 22:00`."""
        return find(self.frequency).in_words(self)


class Key(NamedTuple):
    """A key of the map VMSS.schedule: its name, the member of `Schedule` for it, its default in xapi, the reader of its
    value (ValueError with the value and the rule), and the form of the member that is printed."""

    name: str
    member: str
    default: str
    read: Callable[[Any], Any]
    shown: Callable[[Any], Any] = lambda value: value


class Frequency(NamedTuple):
    """One frequency: its name, the keys that it uses, and the answers of a `Schedule` that has it."""

    name: str
    keys: Tuple[Key, ...]
    distance: timedelta
    slots_around: Callable[[Schedule, tzinfo, datetime], Iterator[datetime]]
    in_words: Callable[[Schedule], str]


def find(name: Any) -> Frequency:
    """The frequency of this name. Raise ValueError for a name, or anything else, that is not in the table."""
    if not isinstance(name, str) or name not in FREQUENCIES:
        raise ValueError("frequency: %s is not one of %s" % (quoted(name), ", ".join(FREQUENCIES)))
    return FREQUENCIES[name]


def read(name: Any, keys: Any) -> Schedule:
    """Given VMSS.frequency and the map VMSS.schedule, return the schedule.

    Keys that are missing have xapi's defaults, and those that the frequency does not have are ignored: both occur
    (docs/xapi-facts.md, Setters leave keys behind). Raise ValueError with the field, its value and the rule.
    """
    frequency = find(name)
    if not isinstance(keys, Mapping):
        raise ValueError("schedule: %s is not a map" % quoted(keys))
    members = {}
    for key in frequency.keys:
        try:
            members[key.member] = key.read(keys.get(key.name, key.default))
        except ValueError as error:
            raise ValueError("schedule:%s: %s" % (key.name, error))
    return Schedule(frequency.name, **members)


# Keys


def _read_minute(value: Any) -> int:
    minute = read_int(value, 0, 59)
    if minute not in MINUTES:
        raise ValueError("%s is not 0, 15, 30 or 45" % quoted(value))
    return minute


def _read_hour(value: Any) -> int:
    return read_int(value, 0, 23)


def _read_days(value: Any) -> FrozenSet[int]:
    names = [name.strip().capitalize() for name in value.split(",")] if isinstance(value, str) else [""]
    if not set(names) <= set(DAYS):
        raise ValueError("%s is not a list of English day names" % quoted(value))
    return frozenset(map(DAYS.index, names))


MINUTE_KEY = Key("min", "minute", "0", _read_minute)
HOUR_KEY = Key("hour", "hour", "0", _read_hour)
DAYS_KEY = Key("days", "days", "Monday", _read_days, lambda days: [DAYS[day] for day in sorted(days)])


# Slots


def _hourly_slots(schedule: Schedule, zone: tzinfo, instant: datetime) -> Iterator[datetime]:
    # The wall-clock hours near four real hours on either side, and their neighbours: where the clock was
    # changed at 00:01, an hour lasted for a minute only.
    near = {_hour(wall_clock(zone, instant + step * _HOUR)) for step in range(-4, 5)}
    for hour in {hour + step * _HOUR for hour in near for step in (-1, 0, 1)}:
        for slot in wall_to_instants(zone, hour.replace(minute=schedule.minute)):
            # A slot that was moved to the end of a gap still has to lie in its own hour.
            if _hour(wall_clock(zone, slot)) == hour:
                yield slot


def _hour(wall: datetime) -> datetime:
    return wall.replace(minute=0, second=0, microsecond=0)


def _daily_slots(schedule: Schedule, zone: tzinfo, instant: datetime) -> Iterator[datetime]:
    # A clock that skips a day, or shows one twice, moves the slots by a day.
    return _slots_of_days(schedule, frozenset(range(7)), 2, zone, instant)


def _weekly_slots(schedule: Schedule, zone: tzinfo, instant: datetime) -> Iterator[datetime]:
    return _slots_of_days(schedule, schedule.days, 9, zone, instant)


def _slots_of_days(
    schedule: Schedule, weekdays: FrozenSet[int], within: int, zone: tzinfo, instant: datetime
) -> Iterator[datetime]:
    """The slots on these weekdays, of so many days on either side."""
    at = time(schedule.hour, schedule.minute)
    today = wall_clock(zone, instant).date()
    for day in (today + offset * _DAY for offset in range(-within, within + 1)):
        if day.weekday() in weekdays:
            yield wall_to_instants(zone, datetime.combine(day, at))[0]


# Words


def _hourly_words(schedule: Schedule) -> str:
    return "every hour at :%02d" % schedule.minute


def _daily_words(schedule: Schedule) -> str:
    return "every day at %02d:%02d" % (schedule.hour, schedule.minute)


def _weekly_words(schedule: Schedule) -> str:
    if len(schedule.days) == len(DAYS):
        return _daily_words(schedule)
    days = listed([DAYS[day] + "s" for day in sorted(schedule.days)])
    return "%s at %02d:%02d" % (days, schedule.hour, schedule.minute)


# The table

FREQUENCIES: Dict[str, Frequency] = {
    frequency.name: frequency
    for frequency in (
        Frequency(HOURLY, (MINUTE_KEY,), _HOUR, _hourly_slots, _hourly_words),
        Frequency(DAILY, (MINUTE_KEY, HOUR_KEY), _DAY, _daily_slots, _daily_words),
        Frequency(WEEKLY, (MINUTE_KEY, HOUR_KEY, DAYS_KEY), 7 * _DAY, _weekly_slots, _weekly_words),
    )
}


def all_keys() -> Tuple[Key, ...]:
    """The keys of all frequencies, each once."""
    return tuple({key: None for frequency in FREQUENCIES.values() for key in frequency.keys})
