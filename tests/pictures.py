"""Makes the pictures of the documents anew, and prints what they are of:

    python -m tests.pictures

Of the page of `vmss report` a browser makes them; of a terminal, here, as SVG: that one a test compares.
"""

import io
import re
import tempfile
from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from typing import Iterator, List, Tuple

from tests.browser import Browser
from tests.documents import ROOT
from tests.pool import GIB, UTC, TestPool
from vmss.cli.commands import report
from vmss.cli.layout import width_of
from vmss.cli.watch_picture import Paper, Scene, picture
from vmss.core.watched import DeletingSeen, RunSeen, RunTold, Seen, SeenJob, SeenRun, SnapshotSeen, TaskSeen, after
from vmss.insight.reading import reading

DOCS = ROOT / "docs"
TERMINAL = DOCS / "watch.svg"

BEGIN, NOW = datetime(2026, 2, 1, 0, 0, tzinfo=UTC), datetime(2026, 3, 2, 10, 40, tzinfo=UTC)
FULL = '["SR_BACKEND_FAILURE_44", "", "There is insufficient space", ""]'

# The size of a character, and the colours: of SGR's numbers, by what a terminal has for them.
WIDTH, HEIGHT = 8.4, 19
COLOURS = {"31": "#ff8a80", "32": "#9ccc65", "33": "#ffca6a", "1": "#ffffff"}


def main() -> None:
    """Make all of them."""
    TERMINAL.write_text(terminal(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, TestPool(Path(folder), now=BEGIN) as pool:
        build(pool)
        page = Path(folder) / "report.html"
        with reading(pool.surroundings()) as session:
            arguments = report.parser().parse_args(["--html", str(page)])
            report.show(session, pool.place, arguments, io.StringIO())
        with Browser(Path(folder) / "profile") as browser:
            for name, dark, heading in (("report", False, ""), ("report-dark", True, "Runs")):
                browser.open(page, 1000, dark)
                browser.screenshot(DOCS / (name + ".png"), browser.run(TOP % heading), 1000, 800)
            print(browser.run("document.body.innerText.split('\\n').slice(0, 12).join('\\n')"))


# Where the section with this heading begins, in pixels; 0 without a heading.
TOP = """(() => {
    const heading = [...document.querySelectorAll('h2')].find(one => one.innerText == '%s')
    return heading ? Math.max(0, heading.getBoundingClientRect().top + window.scrollY - 40) : 0
})()"""


def build(pool: TestPool) -> None:
    """A pool after a month of which most went well."""
    pool.call("pool.set_name_label", pool.call("pool.get_all")[0], "Frankfurt")
    filer, iscsi = pool.sr("Filer", size=2000 * GIB), pool.sr("Old iSCSI", "lvmoiscsi", size=500 * GIB)
    servers = [pool.vm(name, [filer], size=40 * GIB) for name in ("app01", "app02", "db01", "db02", "mail01", "web01")]
    nightly = {"frequency": "daily", "schedule": {"hour": "2", "min": "30"}}
    pool.policy(servers, "nightly", retained_snapshots="7", **nightly)
    pool.policy([pool.vm("files01", [filer]), pool.vm("build01", [iscsi])], "hourly", retained_snapshots="5")
    twice = {"days": "Wednesday,Sunday", "hour": "4", "min": "0"}
    pool.policy([pool.vm("wiki", [iscsi])], "archives", frequency="weekly", schedule=twice, retained_snapshots="8")
    pool.policy([pool.vm("old01", [iscsi])], "before the move", enabled=False, **nightly)
    pool.vm("test01", [iscsi])
    pool.call("VM.set_tags", pool.vm("scratch", [iscsi]), ["vmss:none"])
    for at in (BEGIN + timedelta(hours=number) for number in range((NOW - BEGIN) // timedelta(hours=1) + 1)):
        if at == datetime(2026, 2, 21, 1, 0, tzinfo=UTC):
            pool.call("simulator.add_fault", {"method": "VM.snapshot", "object": "db01", "action": "error",
                                              "count": "0", "error": FULL})  # fmt: skip
        if at == datetime(2026, 2, 23, 1, 0, tzinfo=UTC):
            pool.call("simulator.clear_faults")
        if at == datetime(2026, 3, 1, 12, 0, tzinfo=UTC):
            pool.call("VM.add_to_blocked_operations", servers[2], "snapshot", "moved to other storage")
        if timedelta(0) <= at - datetime(2026, 2, 14, 18, 0, tzinfo=UTC) < timedelta(hours=10):
            continue  # the host was down
        for minute in (0, 15, 30):
            if minute == 15 or at.hour in (2, 4):
                pool.simulator.set_time(max(at + timedelta(minutes=minute), pool.simulator.now()))
                pool.tick()
    pool.simulator.set_time(NOW)
    wiki = pool.snapshots(pool.call("VM.get_by_name_label", "wiki")[0])[2]
    pool.call("VM.add_to_blocked_operations", pool.call("VM.get_by_uuid", wiki["uuid"]), "destroy", "audit")
    # As passes have measured it, twice a day.
    used = ["%d:%d" % (NOW.timestamp() - (60 - day) * 43200, (341 + 2 * day) * GIB) for day in range(60)]
    pool.call("SR.remove_from_other_config", iscsi, "vmss:used")
    pool.call("SR.add_to_other_config", iscsi, "vmss:used", " ".join(used))
    pool.simulator.db.set("SR", iscsi, "physical_utilisation", 461 * GIB)


def terminal() -> str:
    """`vmss watch` on a terminal, as SVG."""
    began = datetime(2026, 3, 2, 2, 30, 1, tzinfo=UTC)
    now = began + timedelta(seconds=125)
    seen = Seen(began, began)
    for run, name, vms in (("n", "nightly", ("app", "db", "mail", "web")), ("h", "hourly", ("files",))):
        jobs = tuple(
            SeenJob(vm, vm, vm, run, frozenset(["Old iSCSI" if vm[:2] in ("db", "ma") else "Filer"]), 20.0)
            for vm in ("%s%02d" % (kind, number) for kind in vms for number in range(1, 5))
        )
        seen = after(seen, RunSeen(SeenRun(run, name, began, began, 240.0, 30), jobs), began)
    for vm in ("app01", "app02", "app03", "app04", "web01", "db01", "files01", "files02", "files03", "files04"):
        seen = after(seen, SnapshotSeen(vm, now), now)
    seen = after(seen, RunTold("h", "succeeded", ""), now)
    for vm, seconds, status, error in (
        ("db02", 60, "failure", ("SR_BACKEND_FAILURE_44", "", "There is insufficient space", "")),
        ("db03", 119, "pending", ()),
        ("web02", 123, "pending", ()),
    ):
        seen = after(seen, TaskSeen(vm, vm, began + timedelta(seconds=seconds), status, error), now)
    seen = after(seen, DeletingSeen(8), now)
    names = {sr: sr for job in seen.jobs.values() for sr in job.tokens}
    lines = ["# vmss watch"] + picture(Scene(seen, names), now, Paper(84, 30, colour=True))
    width, height = 84 * WIDTH + 32, len(lines) * HEIGHT + 28
    rows = "\n".join(_row(number, line) for number, line in enumerate(lines))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">\n'
        "<title>vmss watch: the pass at work</title>\n"
        '<rect width="100%%" height="100%%" rx="8" fill="#1c1f24"/>\n'
        '<g font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14" fill="#d6d9de">\n'
        "%s\n</g>\n</svg>\n"
    ) % (width, height, width, height, rows)


def _row(number: int, line: str) -> str:
    """A line: each word where it stands on a terminal, whatever the width of the font."""
    words = []
    for column, style, word in _words(line):
        colour = ' fill="%s"' % COLOURS[style] if style else ""
        place = 'x="%.1f" y="%d" textLength="%.1f"' % (
            16 + column * WIDTH,
            28 + number * HEIGHT,
            width_of(word) * WIDTH,
        )
        words.append("<text %s%s>%s</text>" % (place, colour, escape(word, quote=False)))
    return "".join(words)


def _words(line: str) -> Iterator[Tuple[int, str, str]]:
    column, style = 0, ""
    parts: List[str] = re.findall("\x1b\\[[0-9]+m| +|[^\x1b ]+(?: [^\x1b ]+)*", line)
    for part in parts:
        if part.startswith("\x1b"):
            style = part[2:-1] if part != "\x1b[0m" else ""
            continue
        if part.strip():
            yield column, style, part
        column += width_of(part)


if __name__ == "__main__":
    main()
