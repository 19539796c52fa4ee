"""The sections of the page with drawings: runs, snapshots, storage, what comes; and the failures in words."""

from datetime import timedelta
from typing import Dict, List, Optional, Sequence

from vmss.cli.page import charts
from vmss.cli.page.charts import Days, Span, box, path, swatch
from vmss.cli.page.markup import Markup, tag
from vmss.cli.page.words import Told, legend, nothing, row, scale, section, told, with_commands
from vmss.core import words
from vmss.core.chain import LIMIT
from vmss.core.words import counted, size
from vmss.insight.calendar import FAILED, MADE_UP, MISSED, SERVED, UNKNOWN, Cell
from vmss.insight.report import AT_RISK, LATE, NEW, PINNED, Coming, Course, Guarded, Report, Repository

# A schedule's VMs are shown at once if there are no more of them; so many VMs are shown at once in all.
_OPEN_MAX, _OPEN_IN_ALL = 40, 120
_DAY = 86400.0


# Runs


def runs(report: Report, tell: Told) -> Markup:
    """The calendar: what became of each slot of each schedule."""
    days = Days(report.since, report.made, tell.zone)
    hint = "A column is a day. A schedule that runs every hour has 24 cells in it, midnight on top."
    if not report.schedules:
        return section("Runs", "", nothing("This pool has no snapshot schedule."))
    rows = [_course(course, days, tell) for course in report.schedules]
    whole = box(0, 0, 10, 10)
    shapes = [
        (swatch(path(whole, "f-good")), "served at its slot"),
        (swatch(path(whole, "f-track"), path(box(0, 5, 10, 5), "f-late")), "served late, or in a second try"),
        (swatch(path(whole, "f-bad"), path(charts.cut(0, 0, 10, 10), "l-cut")), "failed for at least one VM"),
        (swatch(path(whole, "o-bad")), "missed: no run is known of"),
        (swatch(path(whole, "f-track"), path(box(0, 8, 10, 2), "f-plan")), "under way, or about to begin"),
        (swatch(path(whole, "f-track")), "no slot, or not known"),
    ]
    return section("Runs", hint, [scale(charts.axis(days.labels(tell.day)))], rows, [legend(shapes)])


def _course(course: Course, days: Days, tell: Told) -> Markup:
    def say(cell: Cell) -> str:
        return "%s: %s%s" % (tell.moment(cell.slot), cell.state, ", " + cell.text if cell.text else "")

    number = {state: sum(cell.state == state for cell in course.cells) for state in (SERVED, MADE_UP, FAILED, MISSED)}
    known = sum(cell.state != UNKNOWN for cell in course.cells)
    wrong = [
        "%d %s" % (number[state], text)
        for state, text in ((FAILED, "failed"), (MISSED, "missed"), (MADE_UP, "late"))
        if number[state]
    ]
    says = "%d of %d served" % (number[SERVED] + number[MADE_UP], known) if known else "no run is known of"
    class_ = "bad" if number[FAILED] + number[MISSED] else ""
    below = ", ".join(wrong) if wrong else "none failed, none missed" if known else ""
    if course.state != "enabled":
        says, below, class_ = course.state, says if known else "", "late"
    what = "Runs of %s: %s; %s" % (course.name, says, below)
    drawn = charts.calendar(what, course.cells, days, tell.zone, say)
    name = course.name or course.uuid
    return row(
        name, "%s, %s" % (course.when, counted(course.vms, "VM")) if course.when else "", drawn, says, below, class_
    )


# Snapshots


def snapshots(report: Report, tell: Told) -> Markup:
    """The timelines of the VMs, those of one schedule together."""
    groups: Dict[str, List[Guarded]] = {}
    for vm in sorted(report.vms, key=lambda vm: (vm.schedule, vm.name, vm.uuid)):
        groups.setdefault(vm.schedule_uuid if vm.marks is not None else "", []).append(vm)
    unread = [vm for vm in groups.pop("", []) if vm.schedule]
    of = {course.uuid: course for course in report.schedules}
    shown = 0
    parts: List[Markup] = []
    for uuid, vms in groups.items():
        is_open = len(vms) <= _OPEN_MAX and shown + len(vms) <= _OPEN_IN_ALL
        shown += len(vms) if is_open else 0
        parts.append(_group(of.get(uuid), vms, is_open, tell))
    if unread:
        parts.append(_without_drawings(unread))
    parts += [_others(report)] if report.others else []
    if not parts:
        return section("Snapshots of each VM", "", nothing("No VM is on a schedule."))
    dot, edge = "M5 5h.001", "M5 0V10"
    shapes = [
        (swatch(path(dot, "m-kept")), "kept"),
        (swatch(path(dot, "m-goes"), path(dot, "m-hole")), "goes with the next run that deletes one"),
        (swatch(path(dot, "m-pin")), "pinned"),
        (swatch(path(edge, "l-now")), "now"),
        (swatch(path(edge, "l-next")), "the next run"),
    ]
    hint = "Each mark is a scheduled snapshot. The scale is each schedule's own."
    return section("Snapshots of each VM", hint, [legend(shapes)], parts)


def _group(course: Optional[Course], vms: Sequence[Guarded], is_open: bool, tell: Told) -> Markup:
    upcoming = course.next_run if course is not None else None
    oldest = min((vm.marks[0].time for vm in vms if vm.marks), default=tell.now - timedelta(days=1))
    span = Span(oldest - (tell.now - oldest) / 50, max(tell.now, upcoming or tell.now))
    span = Span(span.since, span.until + (span.until - span.since) / 50)
    marks = sum(len(vm.marks or ()) for vm in vms)
    name = vms[0].schedule or vms[0].schedule_uuid
    about = "%s, %s" % (counted(len(vms), "VM"), counted(marks, "snapshot"))
    if course is not None and course.retained:
        about += ", %d kept of each" % course.retained
    return tag(
        "details",
        tag("summary", tag("h3", name), tag("span", about, class_="soft")),
        scale(charts.axis(charts.ticks(span, tell.zone, tell.day))) if marks else [],
        [_line(vm, span, course, tell) for vm in vms],
        open="" if is_open else None,
    )


def _line(vm: Guarded, span: Span, course: Optional[Course], tell: Told) -> Markup:
    marks = vm.marks or ()
    upcoming = course.next_run if course is not None else None
    pinned = sum(mark.kind == PINNED for mark in marks)
    says = "%d kept" % len(marks) + (", %d pinned" % pinned if pinned else "")
    newest = "newest %s" % tell.moment(marks[-1].time) if marks else "no snapshot"
    state = {LATE: "late", AT_RISK: "at risk", NEW: "new"}.get(vm.state, "")
    if vm.since is not None:
        below = "no gap since %s%s" % (tell.day(vm.since), " at least" if vm.whole else "")
    else:
        below = vm.why if vm.state == NEW else state
    what = "%s: %s, %s" % (vm.name, says, newest)
    class_ = "bad" if vm.state == LATE else "late" if vm.state == AT_RISK else ""
    drawn = charts.timeline(what, marks, span, tell.now, upcoming)
    return row(vm.name or vm.uuid, below, drawn, newest, says if marks else "", class_)


def _without_drawings(vms: Sequence[Guarded]) -> Markup:
    """The VMs whose snapshots were not read."""
    text = "The snapshots of so many were not read: --timelines takes a larger number."
    rows = [tag("p", tag("strong", vm.name or vm.uuid), " on %s: %s" % (vm.schedule, vm.state)) for vm in vms]
    head = tag("h3", "%s more" % counted(len(vms), "VM"))
    return tag("details", tag("summary", head), tag("p", text, class_="hint"), rows)


def _others(report: Report) -> Markup:
    """Schedules without VMs, and snapshots that no run deletes."""
    items = []
    for one in report.others:
        name = one.vm or one.schedule or one.uuid
        content = [tag("p", tag("strong", name), ": ", one.why)]
        items.append(("is-plain", content + [tag("p", with_commands(one.remedy), class_="small")]))
    head = tag("h3", "What belongs to no VM on a schedule")
    return tag("details", tag("summary", head, tag("span", "%d" % len(items), class_="soft")), told(items))


# Storage


def storage(report: Report, tell: Told) -> Markup:
    """The room on each storage repository, how it goes on, and how deep the chains are."""
    if not report.storage:
        return section("Storage", "", nothing("No storage repository tells its size."))
    shapes = [
        (swatch(path("M0 5H10", "l-good")), "in use"),
        (swatch(path("M0 5H10", "l-plan")), "if it goes on so"),
        (swatch(path("M0 5H10", "l-edge")), "full"),
        (swatch(path("M5 0V10", "l-now")), "now"),
    ]
    rooms = tag("div", [_room(one, tell) for one in report.storage], class_="rooms")
    hint = "What was in use whenever a pass noted it, and the line on which that goes on."
    return section("Storage", hint, rooms, [legend(shapes)])


def _room(one: Repository, tell: Told) -> Markup:
    part = 100 * one.used // one.size
    use = "%s of %s in use (%d %%)" % (size(one.used), size(one.size), part)
    goes_on = _goes_on(one, tell)
    drawn, span = charts.room("%s: %s; %s" % (one.name, use, goes_on), one, tell.now)
    soon = one.full_at is not None and one.full_at < tell.now + timedelta(days=30)
    labels = [(0.0, tell.day(span.since)), (100.0, tell.day(span.until))]
    middle = span.at(tell.now)
    labels += [(middle, "now")] if 25 < middle < 75 else []
    return tag(
        "div",
        tag("h3", one.name or one.uuid),
        tag("p", use, class_="soft"),
        drawn,
        charts.axis(labels),
        tag("p", goes_on, class_="bad" if soon else None),
        tag("p", _depth(one), class_="soft"),
    )


def _goes_on(one: Repository, tell: Told) -> str:
    if one.rate is None:
        return "How it goes on is not known yet: passes note what is in use twice a day."
    a_day = one.rate * _DAY
    if one.full_at is not None:
        ahead = tell.distance(one.full_at)
        far = one.full_at - tell.now > timedelta(days=730)
        on = "" if far else ", on %s" % tell.day(one.full_at)
        return "Grows by %s a day: full %s%s." % (size(int(a_day)), ahead, on)
    if a_day >= 1 << 20:
        return "Grows by %s a day: not full within ten years." % size(int(a_day))
    return "Does not grow." if a_day > -(1 << 20) else "Shrinks by %s a day." % size(int(-a_day))


def _depth(one: Repository) -> str:
    if one.longest is None:
        return "No disk of a scheduled VM was looked at here."
    text = "Longest chain: %s of %d." % (counted(one.longest, "image"), LIMIT)
    if one.waiting:
        verb = words.agree(one.waiting, "waits", "wait")
        text += " %s (%s) %s to be coalesced." % (counted(one.waiting, "image"), size(one.waiting_bytes), verb)
    return text


# What comes


def coming(report: Report, tell: Told, hours: int) -> Markup:
    """The runs of the next hours, and where they get in each other's way."""
    title = "The next %d hours" % hours
    advice = [("", [tag("p", with_commands(text, capital=False))]) for text in report.advice]
    if not report.coming:
        return section(title, "", nothing("Nothing will run."), told(advice) if advice else [])
    span = Span(tell.now, tell.now + timedelta(hours=hours))

    def say(run: Coming) -> str:
        return "%s to %s%s" % (tell.moment(run.at), tell.time(run.ends), ": " + run.remarks if run.remarks else "")

    of: Dict[str, List[Coming]] = {}
    for run in report.coming:
        of.setdefault(run.uuid, []).append(run)
    rows = []
    for mine in of.values():
        clashes = sum(run.clash for run in mine)
        says = "%s, the first %s" % (counted(len(mine), "run"), tell.time(mine[0].at))
        below = "%d behind others, or too long" % clashes if clashes else ""
        bars = charts.bars("%s: %s" % (mine[0].schedule, says), mine, span, say)
        takes = "takes about %s" % words.duration((mine[0].ends - mine[0].at).total_seconds())
        rows.append(row(mine[0].schedule or mine[0].uuid, takes, bars, says, below, "late" if clashes else ""))
    shapes = [
        (swatch(path(box(0, 2, 10, 6), "f-plan")), "a run"),
        (swatch(path(box(0, 0, 10, 10), "f-late")), "a run that is behind another one, or too long"),
        (swatch(path(box(0, 0, 10, 10), "o-bad")), "missed: the run before it is not over"),
    ]
    hint = "As long as runs took in the past. Where they need the same storage or host, the later one waits."
    labels = charts.ticks(span, tell.zone, tell.day)
    parts = [scale(charts.axis(labels))] + rows + [legend(shapes)]
    return section(title, hint, parts, [told(advice)] if advice else [])


# Failures


def troubles(report: Report, tell: Told) -> Markup:
    """The errors of the period in words, with remedies."""
    title = "Failures since %s" % tell.day(report.since)
    if not report.troubles:
        return section(title, "", nothing("No run failed."))
    items = []
    for one in report.troubles:
        names = words.listed(list(one.vms[:8]) + (["%d more" % (len(one.vms) - 8)] if len(one.vms) > 8 else []))
        when = "%s, the last %s" % (counted(one.runs, "run"), tell.moment(one.last))
        content = [
            tag("p", tag("strong", one.sentence)),
            tag("p", "%s: %s" % (when, names), class_="soft small"),
            tag("p", with_commands(one.remedy), class_="small"),
        ]
        items.append(("is-plain", content))
    return section(title, "Each error once, the newest first, with what mends it.", told(items))
