"""The drawings of the page, as SVG. They are stretched to their place, so they hold shapes only: all text is HTML."""

from datetime import datetime, timedelta, tzinfo
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from vmss.cli.page.markup import Markup, tag
from vmss.core.datetimes import EPOCH
from vmss.insight.calendar import FAILED, MADE_UP, MISSED, SERVED, WAITS, Cell
from vmss.insight.report import GOES, KEPT, PINNED, Coming, Mark, Repository

_DAY = timedelta(days=1)

# A label below a drawing: where, in per cent, and its text.
Label = Tuple[float, str]


class Span:
    """A period that is drawn from left to right."""

    def __init__(self, since: datetime, until: datetime) -> None:
        self.since, self.until = since, max(until, since + timedelta(minutes=1))

    def at(self, instant: datetime) -> float:
        """Where an instant is, in per cent."""
        part = (instant - self.since).total_seconds() / (self.until - self.since).total_seconds()
        return min(100.0, max(0.0, 100 * part))


# The steps between the labels of an axis, in hours.
_STEPS = (1, 2, 3, 6, 12, 24, 48, 7 * 24, 14 * 24, 28 * 24, 91 * 24, 365 * 24)


def ticks(span: Span, zone: tzinfo, day: Callable[[datetime], str]) -> List[Label]:
    """Full hours or midnights of the wall clock, at most seven of them."""
    hours = (span.until - span.since).total_seconds() / 3600
    step = next((step for step in _STEPS if hours / step <= 6), _STEPS[-1])
    start = span.since.astimezone(zone)
    at = start.replace(hour=0, minute=0, second=0, microsecond=0)
    found: List[Label] = []
    while at <= span.until:
        if at >= span.since:
            where, text = span.at(at), day(at) if at.hour == 0 else at.strftime("%H:%M")
            found.append((where, text))
        at += timedelta(hours=step)
    return [label for label in found if label[0] < 97]


def drawing(what: str, height: str, box: Tuple[float, float], *shapes: Markup) -> Markup:
    """A drawing, stretched to the width of its place; `what` it shows, for who does not see it."""
    return tag(
        "svg",
        shapes,
        class_="chart",
        role="img",
        aria_label=what,
        viewBox="0 0 %g %g" % box,
        preserveAspectRatio="none",
        style="height:%s" % height,
    )


def path(steps: str, class_: str, title: str = "") -> Markup:
    """A shape; `title` is shown where somebody points at it."""
    return tag("path", [tag("title", title)] if title else [], class_=class_, d=Markup(steps)) if steps else Markup("")


def box(x: float, y: float, width: float, height: float) -> str:
    """The steps of a rectangle."""
    return "M%.4g %.4gh%.4gv%.4gh-%.4gz" % (x, y, width, height, width)


def cut(x: float, y: float, width: float, height: float) -> str:
    """The steps of a line through a rectangle: what stands out by its colour has another shape too."""
    return "M%.4g %.4gl%.4g -%.4g" % (x, y + height, width, height)


def axis(labels: Sequence[Label]) -> Markup:
    """The labels below or above a drawing."""
    return tag(
        "div",
        [
            tag("span", text, class_="from" if at < 6 else "to" if at > 94 else None, style="left:%.4g%%" % at)
            for at, text in labels
        ],
        class_="axis",
        aria_hidden="true",
    )


def share(numbers: Sequence[Tuple[int, str]]) -> Markup:
    """How many of all have each class, as parts of one bar."""
    total, at, shapes = sum(number for number, _ in numbers) or 1, 0.0, []
    for number, class_ in numbers:
        width = 100.0 * number / total
        shapes.append(path(box(at, 0, width, 1) if number else "", class_))
        at += width
    return tag("svg", shapes, class_="share", viewBox="0 0 100 1", preserveAspectRatio="none", aria_hidden="true")


# The calendar: a column for each day, and in it a cell for each slot


class Days:
    """The days of the calendar, by the wall clock."""

    def __init__(self, since: datetime, until: datetime, zone: tzinfo) -> None:
        self._first, self._zone = since.astimezone(zone).date(), zone
        self.number = (until.astimezone(zone).date() - self._first).days + 1

    def of(self, instant: datetime) -> int:
        """The column of an instant."""
        return (instant.astimezone(self._zone).date() - self._first).days

    def labels(self, text: Callable[[datetime], str]) -> List[Label]:
        """The dates of at most six days, that of the last among them."""
        step = max(1, -(-self.number // 5))
        found = []
        for day in range(self.number - 1, -1, -step):
            noon = datetime(self._first.year, self._first.month, self._first.day, 12, tzinfo=self._zone) + day * _DAY
            found.append((100 * (day + 0.5) / self.number, text(noon)))
        return found


# What is drawn of a slot: the class, and which part of the cell it fills.
_LOOKS = {
    SERVED: ("f-good", 0.0, 1.0),
    MADE_UP: ("f-late", 0.5, 0.5),
    FAILED: ("f-bad", 0.0, 1.0),
    MISSED: ("o-bad", 0.0, 1.0),
    WAITS: ("f-plan", 0.8, 0.2),
}


def calendar(what: str, cells: Sequence[Cell], days: Days, zone: tzinfo, say: Callable[[Cell], str]) -> Markup:
    """What became of the slots of a schedule: one cell a day, or in each day one for each hour."""
    per_day: Dict[int, int] = {}
    for cell in cells:
        per_day[days.of(cell.slot)] = per_day.get(days.of(cell.slot), 0) + 1
    hourly = max(per_day.values(), default=1) > 2
    rows = 24 if hourly else 1
    calm: Dict[str, List[str]] = {}
    marked = []
    for cell in cells:
        if cell.state not in _LOOKS:
            continue
        class_, top, height = _LOOKS[cell.state]
        row = cell.slot.astimezone(zone).hour if hourly else 0
        gap = 0.1 if hourly else 0.0
        inner = 1 - 2 * gap
        steps = box(days.of(cell.slot) + 0.1, row + gap + top * inner, 0.8, height * inner)
        if cell.state in (SERVED, WAITS):
            calm.setdefault(class_, []).append(steps)
        else:
            marked.append(path(steps, class_, say(cell)))
        if cell.state == FAILED:
            marked.append(path(cut(days.of(cell.slot) + 0.1, row + gap, 0.8, inner), "l-cut"))
    track = path("".join(box(day + 0.1, 0, 0.8, rows) for day in range(days.number)), "f-track")
    shapes = [path("".join(steps), class_) for class_, steps in calm.items()]
    return drawing(what, "96px" if hourly else "26px", (days.number, rows), track, *(shapes + marked))


# The timeline of a VM


def timeline(what: str, marks: Sequence[Mark], span: Span, now: datetime, runs: Optional[datetime]) -> Markup:
    """A VM's snapshots, and when the next one is to be taken."""
    dots: Dict[str, str] = {KEPT: "", PINNED: "", GOES: ""}
    for mark in marks:
        dots[mark.kind] += "M%.4g 5h.001" % span.at(mark.time)
    shapes = [path("M0 5H100", "l-base"), path("M%.4g 0V10" % span.at(now), "l-now")]
    shapes += [path(dots[KEPT], "m-kept"), path(dots[GOES], "m-goes"), path(dots[GOES], "m-hole")]
    shapes += [path(dots[PINNED], "m-pin")]
    if runs is not None:
        shapes.append(path("M%.4g 1V9" % span.at(runs), "l-next"))
    return drawing(what, "18px", (100, 10), *shapes)


# Storage


def room(what: str, sr: Repository, now: datetime) -> Tuple[Markup, Span]:
    """What was in use, and the line on which it goes on."""
    notes = [(EPOCH + timedelta(seconds=at), used) for at, used in sr.notes] + [(now, sr.used)]
    length = max(now - notes[0][0], 14 * _DAY)
    until = now + length
    if sr.full_at is not None and now < sr.full_at < now + 3 * length:
        until = max(until, sr.full_at + length / 8)
    span = Span(min(notes[0][0], now - 3 * _DAY), until)

    def height(used: float) -> float:
        return 40 - 36 * min(1.0, max(0.0, used / sr.size))

    line = "".join(
        "%s%.4g %.4g" % ("L" if at else "M", span.at(when), height(used)) for at, (when, used) in _each(notes)
    )
    area = "%sV40H%.4gz" % (line, span.at(notes[0][0]))
    shapes = [path(area, "f-wash"), path("M0 40H100", "l-base"), path("M0 4H100", "l-edge"), path(line, "l-good")]
    if sr.rate is not None:
        last = sr.full_at if sr.full_at is not None and sr.full_at < until else until
        then = sr.used + sr.rate * (last - now).total_seconds()
        steps = "M%.4g %.4gL%.4g %.4g" % (span.at(now), height(sr.used), span.at(last), height(then))
        shapes.append(path(steps, "l-plan"))
    shapes.append(path("M%.4g 0V40" % span.at(now), "l-now"))
    return drawing(what, "96px", (100, 40), *shapes), span


def _each(notes: Sequence[Tuple[datetime, int]]) -> List[Tuple[int, Tuple[datetime, int]]]:
    return list(enumerate(notes))


# What comes


def bars(what: str, runs: Sequence[Coming], span: Span, say: Callable[[Coming], str]) -> Markup:
    """The runs of one schedule to come; those that get in each other's way, or are missed, stand out."""
    shapes = [path("M0 5H100", "l-base")]
    for run in runs:
        start = span.at(run.at)
        width = max(0.5, span.at(run.ends) - start)
        start = min(start, 100 - width)
        class_ = "o-bad" if run.missed else "f-late" if run.clash else "f-plan"
        top, height = (0, 10) if run.clash else (2, 6)
        shapes.append(path(box(start, top, width, height), class_, say(run)))
    return drawing(what, "20px", (100, 10), *shapes)


def swatch(*shapes: Markup) -> Markup:
    """A small example of a shape, for a legend."""
    return tag("svg", shapes, viewBox="0 0 10 10", aria_hidden="true")
