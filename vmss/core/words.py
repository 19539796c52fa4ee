"""Lists, durations and instants in words, for people."""

from datetime import datetime, timedelta, tzinfo
from typing import Iterable, Sequence

from vmss.core.text import quoted

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))

# At this distance month and day without the year may be taken for those of another year.
_FAR_OFF = timedelta(days=300)


def listed(words: Sequence[str]) -> str:
    """Words one after another: a, b and c."""
    if len(words) < 2:
        return "".join(words)
    return "%s and %s" % (", ".join(words[:-1]), words[-1])


def duration(seconds: float) -> str:
    """A length of time, to the second below an hour, to its two largest units above: `45 s`, `1 h 5 min`."""
    remaining = max(0, int(round(seconds)))
    for at, (size, unit) in enumerate(_UNITS):
        if remaining < size and size > 1:
            continue
        text = "%d %s" % (remaining // size, unit)
        if size > 1:
            smaller, name = _UNITS[at + 1]
            rest = remaining % size // smaller
            text += " %d %s" % (rest, name) if rest else ""
        return text
    return ""


def size(number: int) -> str:
    """A number of bytes, in the unit in which it has one to four digits: `512 KiB`, `12.5 GiB`."""
    if number < 1024:
        return "%d B" % number
    amount, unit = number / 1024.0, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if amount < 1000:
            break
        amount, unit = amount / 1024.0, larger
    return ("%.1f %s" if amount < 100 else "%.0f %s") % (amount, unit)


def distance(instant: datetime, now: datetime) -> str:
    """How far off an instant is: `5 min ago`, `in 2 h`, `now`."""
    seconds = int((instant - now).total_seconds())
    if seconds == 0:
        return "now"
    return "in " + duration(seconds) if seconds > 0 else duration(-seconds) + " ago"


def moment(instant: datetime, zone: tzinfo, here: tzinfo) -> str:
    """An instant on the server's clock, to the minute; and on the reader's clock, `here`, if that shows another time:
    `2026-03-02 23:30 UTC (2026-03-03 00:30 CET)`."""
    there, mine = instant.astimezone(zone), instant.astimezone(here)
    text = "%s %s" % (there.strftime("%Y-%m-%d %H:%M"), there.tzname())
    if there.replace(tzinfo=None) == mine.replace(tzinfo=None):
        return text
    form = "%H:%M" if there.date() == mine.date() else "%Y-%m-%d %H:%M"
    return "%s (%s %s)" % (text, mine.strftime(form), mine.tzname())


def brief_moment(instant: datetime, zone: tzinfo, here: tzinfo, now: datetime) -> str:
    """The same in little room: without the year, unless it is far off, and without the zone, unless the reader's clock
    shows another time: `03-02 23:30`, `2024-03-02`."""
    there, mine = instant.astimezone(zone), instant.astimezone(here)
    if abs(instant - now) > _FAR_OFF:
        return there.strftime("%Y-%m-%d")
    text = there.strftime("%m-%d %H:%M")
    return text if there.replace(tzinfo=None) == mine.replace(tzinfo=None) else "%s %s" % (text, there.tzname())


def plural(number: int, noun: str) -> str:
    """The noun after a number: `VM`, `VMs`."""
    return noun if number == 1 else noun + "s"


def counted(number: int, noun: str) -> str:
    """A number of things: `1 VM`, `3 VMs`."""
    return "%d %s" % (number, plural(number, noun))


def agree(number: int, one: str, many: str) -> str:
    """The form of a verb that agrees with a number: `1 of 3 VMs has`, `2 of 3 VMs have`."""
    return one if number == 1 else many


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question that ends a message about an unknown word: `: did you mean 'list'?`; empty if no known one is like
    it."""
    from difflib import get_close_matches  # only mistakes need it

    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word[:100].lower(), list(by_lower), 1)
    return ": did you mean %s?" % quoted(by_lower[close[0]]) if close else ""
