"""The page as a whole, and what stands at its top: is every VM protected, since when, and what needs attention."""

from datetime import tzinfo
from typing import Iterator, List, Sequence, Tuple

from vmss.cli.page import charts, sections
from vmss.cli.page.markup import Markup, joined, tag
from vmss.cli.page.style import STYLE
from vmss.cli.page.words import Told, legend, section, sentence, since_when, told, with_commands
from vmss.core.coverage import DISABLED, UNSCHEDULED
from vmss.insight.calendar import FAILED, MADE_UP, MISSED, SERVED
from vmss.insight.findings import CRITICAL
from vmss.insight.report import AT_RISK, HOURS, LATE, NEW, PROTECTED, Guarded, Report
from vmss.version import VERSION

# The page may load nothing, run nothing and send nothing, whatever stands in it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

# So many VMs that are not protected are told one by one at the top.
_UNPROTECTED_MAX = 30

# The states of VMs, in words, with the class of what is drawn and of what is written.
_STATES = (
    (PROTECTED, "protected", "f-good"),
    (LATE, "without the latest snapshot", "f-bad"),
    (AT_RISK, "at risk: the next snapshot cannot be taken", "f-late"),
    (NEW, "waiting for the first run", "f-plan"),
    (DISABLED, "on a disabled schedule", "f-late"),
    (UNSCHEDULED, "on no schedule", "f-soft"),
)
_WRITTEN = {LATE: "bad", AT_RISK: "late", DISABLED: "late"}


def page(report: Report, zone: tzinfo) -> str:
    """The page, in ASCII: a mail or a server that mistakes the encoding does it no harm."""
    tell = Told(report.made, zone)
    title = "Snapshots of %s" % report.pool
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", "%s: %s" % (title, report.verdict)),
        tag("style", Markup(STYLE)),
    )
    body = tag("body", tag("main", _top(report, tell), _attention(report, tell), _rest(report, tell)), _foot())
    text = "<!DOCTYPE html>\n" + tag("html", head, body, lang="en") + "\n"
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _top(report: Report, tell: Told) -> Markup:
    numbers = [(sum(vm.state == state for vm in report.vms), text, class_) for state, text, class_ in _STATES]
    others = len(report.vms) - sum(number for number, _, _ in numbers)
    numbers.append((others, "of which no snapshot can be taken", "f-bad"))
    shown = [item for item in numbers if item[0]]
    square = charts.box(0, 0, 10, 10)
    counts = [(charts.swatch(charts.path(square, class_)), "%d %s" % (number, text)) for number, text, class_ in shown]
    if report.opted_out:
        counts.append((charts.swatch(charts.path(square, "o-soft")), "%d left out on purpose" % report.opted_out))
    return tag(
        "header",
        tag("p", "Snapshots of ", tag("strong", report.pool), " \u00b7 ", tell.full(report.made), class_="of"),
        tag("h1", report.verdict),
        tag("p", since_when(report, tell.moment), class_="lede"),
        charts.share([(number, class_) for number, _, class_ in shown]),
        legend(counts),
        _facts(report, tell),
    )


def _facts(report: Report, tell: Told) -> Markup:
    """The numbers at the top, each with what it says."""
    facts: List[Tuple[str, str, str]] = []
    newest = max((vm.marks[-1].time for vm in report.vms if vm.marks), default=None)
    if newest is not None:
        oldest = min(vm.marks[0].time for vm in report.vms if vm.marks)
        facts.append(("Newest snapshot", tell.distance(newest), "the oldest is of %s" % tell.moment(oldest)))
    cells = [cell for course in report.schedules for cell in course.cells]
    good = sum(cell.state in (SERVED, MADE_UP) for cell in cells)
    bad = sum(cell.state in (FAILED, MISSED) for cell in cells)
    if good + bad:
        worse = "%d failed or missed" % bad if bad else "none failed, none missed"
        facts.append(("Runs since %s" % tell.day(report.since), "%d of %d well" % (good, good + bad), worse))
    if report.storage:
        fullest = max(report.storage, key=lambda one: one.used / one.size)
        facts.append(("Fullest storage", "%d %% used" % (100 * fullest.used // fullest.size), fullest.name))
    upcoming = next(iter(report.coming), None)
    if upcoming is not None:
        what = "%s, %s" % (upcoming.schedule, tell.moment(upcoming.at))
        facts.append(("Next run", tell.distance(upcoming.at), what))
    return tag(
        "dl",
        [tag("div", tag("dt", name), tag("dd", value, tag("small", below))) for name, value, below in facts],
        class_="facts",
    )


def _attention(report: Report, tell: Told) -> Iterator[Markup]:
    """What is wrong now, and the VMs that are not protected."""
    if report.findings:
        items = []
        for finding in report.findings:
            critical = finding.severity == CRITICAL
            content = [
                tag(
                    "p",
                    tag("span", finding.state, class_="state " + ("bad" if critical else "late")),
                    tag("strong", sentence(finding.text)),
                )
            ]
            if finding.evidence:
                content.append(tag("p", finding.evidence, class_="soft small"))
            if finding.remedy:
                content.append(tag("p", with_commands(finding.remedy), class_="small"))
            items.append(("is-bad" if critical else "", content))
        yield section("What needs attention now", "What vmss status says, and what to do about it.", told(items))
    bare = [vm for vm in report.vms if not vm.protected]
    if bare:
        items = [_bare(vm) for vm in bare[:_UNPROTECTED_MAX]]
        hint = "Each of them with the reason, and what can be done."
        yield section("VMs that are not protected", hint, told(items), _more(bare[_UNPROTECTED_MAX:]))


def _more(vms: Sequence[Guarded]) -> List[Markup]:
    """The others, in a line each."""
    if not vms:
        return []
    lines = [tag("p", tag("strong", vm.name or vm.uuid), " ", vm.schedule, ": ", vm.why, class_="small") for vm in vms]
    return [tag("details", tag("summary", tag("h3", "%d more" % len(vms))), lines)]


def _bare(vm: Guarded) -> Tuple[str, List[Markup]]:
    class_ = _WRITTEN.get(vm.state, "bad" if vm.schedule else "soft")
    where = " on %s" % vm.schedule if vm.schedule else ""
    content = [
        tag("p", tag("strong", vm.name or vm.uuid), tag("span", where, class_="soft"), ": ", vm.why),
        tag("p", with_commands(vm.remedy), class_="small") if vm.remedy else Markup(""),
    ]
    return {"bad": "is-bad", "soft": "is-plain"}.get(class_, "" if vm.state != NEW else "is-plain"), content


def _rest(report: Report, tell: Told) -> Markup:
    return joined(
        [
            sections.runs(report, tell),
            sections.snapshots(report, tell),
            sections.storage(report, tell),
            sections.coming(report, tell, HOURS),
            sections.troubles(report, tell),
        ]
    )


def _foot() -> Markup:
    text = (
        "Made by vmss report, version %s. Times are those of the pool's clock. A VM is protected if it is on an "
        "enabled schedule, has a scheduled snapshot of the latest slot that should be over, and nothing is known that "
        "keeps the next one from being taken. xapi keeps 10,000 messages: runs that are older are unknown. This page "
        "needs no network, and runs no script." % VERSION
    )
    return tag("footer", tag("p", text))
