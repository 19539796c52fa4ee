"""The words of the page: instants as people say them, states, remedies with their command lines, rows and legends."""

from datetime import datetime, timedelta, tzinfo
from typing import List, NamedTuple, Sequence, Tuple

from vmss.cli.commands_in_text import parts
from vmss.cli.page.markup import Content, Markup, joined, tag
from vmss.core import words
from vmss.core.text import one_line
from vmss.insight.findings import Moment
from vmss.insight.report import Report

# strftime would take the names of the locale.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

# Further off a date has its year.
_FAR_OFF = timedelta(days=300)


class Told(NamedTuple):
    """How instants are told: on which clock, and what that shows now."""

    now: datetime
    zone: tzinfo

    def day(self, instant: datetime) -> str:
        """The date: `2 Mar`, with the year if it is far off."""
        there = instant.astimezone(self.zone)
        text = "%d %s" % (there.day, _MONTHS[there.month - 1])
        return "%s %d" % (text, there.year) if abs(instant - self.now) > _FAR_OFF else text

    def time(self, instant: datetime) -> str:
        """The time of the day: `02:30`."""
        return instant.astimezone(self.zone).strftime("%H:%M")

    def moment(self, instant: datetime) -> str:
        """Both, as short as it is clear: `today 02:30`, `Mon 2 Mar 02:30`."""
        there, today = instant.astimezone(self.zone), self.now.astimezone(self.zone)
        days = (there.date() - today.date()).days
        near = {-1: "yesterday", 0: "today", 1: "tomorrow"}.get(days)
        return "%s %s" % (near or "%s %s" % (_DAYS[there.weekday()], self.day(instant)), self.time(instant))

    def distance(self, instant: datetime) -> str:
        """How far off it is, without seconds from a minute on: `25 min ago`, `in 35 days`, `in 5 years`."""
        seconds = (instant - self.now).total_seconds()
        length = abs(seconds)
        if length >= 2 * 365 * 86400:
            text = "%d years" % (length // (365 * 86400))
        elif length >= 3 * 86400:
            text = "%d days" % (length // 86400)
        else:
            text = words.duration(length - length % 60 if length >= 60 else length)
        return "in " + text if seconds > 0 else text + " ago"

    def full(self, instant: datetime) -> str:
        """With the year and the zone: `2 Mar 2026 10:30 UTC`."""
        there = instant.astimezone(self.zone)
        return "%d %s %d %s" % (there.day, _MONTHS[there.month - 1], there.year, there.strftime("%H:%M %Z"))


def since_when(report: Report, moment: Moment) -> str:
    """Since when the VMs that are protected have missed no snapshot."""
    period = words.duration((report.made - report.since).total_seconds())
    if not report.protected:
        return "No VM has all the snapshots that its schedule promises."
    number = report.protected
    whose = "None of them" if number > 1 else "It"
    whose = whose if number == len(report.vms) else "None of these %d" % number if number > 1 else "This one"
    verb = "%s has missed %s" % (whose, "a snapshot" if number > 1 else "no snapshot")
    if report.gap is None:
        return "%s in the last %s, as far as the run history tells." % (verb, period)
    return "%s since %s." % (verb, moment(report.gap))


def with_commands(text: str, capital: bool = True) -> Markup:
    """A text for people, with its command lines set apart. `capital`: it is a sentence, and begins with no name."""
    pieces = [tag("code", part) if command else part for part, command in parts(one_line(text)) if part]
    if capital and pieces and not isinstance(pieces[0], Markup):
        pieces[0] = sentence(pieces[0])
    return joined(pieces)


def sentence(text: str) -> str:
    """A text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def section(title: str, hint: str, *content: Content) -> Markup:
    """A section of the page; `hint` says what it shows."""
    return tag("section", tag("h2", title), tag("p", hint, class_="hint") if hint else [], content)


def row(name: str, below: str, drawn: Markup, says: str, says_below: str = "", class_: str = "") -> Markup:
    """A line with a name, a drawing and what it says."""
    return tag(
        "div",
        tag("div", name, tag("small", below) if below else [], class_="name"),
        tag("div", drawn, class_="draw"),
        tag("div", says, tag("small", says_below) if says_below else [], class_=("says " + class_).strip()),
        class_="row",
    )


def scale(labels: Markup) -> Markup:
    """The line of a list of rows that has the axis of their drawings."""
    return tag(
        "div",
        tag("div", class_="name"),
        tag("div", labels, class_="draw"),
        tag("div", class_="says"),
        class_="row scale",
    )


def legend(items: Sequence[Tuple[Markup, str]]) -> Markup:
    """What the shapes of a drawing mean."""
    return tag("ul", [tag("li", shape, text) for shape, text in items], class_="legend")


def told(items: Sequence[Tuple[str, List[Markup]]]) -> Markup:
    """A list of things that somebody has to know, each with its class."""
    return tag("ul", [tag("li", content, class_=class_ or None) for class_, content in items], class_="told")


def nothing(text: str) -> Markup:
    """What is said where there is nothing to show."""
    return tag("p", text, class_="soft")
