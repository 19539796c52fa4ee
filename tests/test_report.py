"""`vmss report`: the same numbers as the other commands, the calendar of runs, and the page in a real browser."""

import io
import json
import re
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import pytest

from tests import browser
from tests.browser import Browser
from tests.documents import table
from tests.pool import GIB, UTC, TestPool
from vmss.cli.commands import coverage, plan, report
from vmss.cli.commands import next as next_
from vmss.cli.commands.status import parser as status_parser
from vmss.cli.commands.status import show as show_status
from vmss.core.policy import Policy, from_record
from vmss.insight.calendar import cells, unbroken_since
from vmss.insight.history import runs
from vmss.insight.reading import reading

# What a person who may name VMs might try.
HOSTILE = "<script>window.ran = 1</script>\"><img src=x onerror='window.ran = 2'>\u202e&amp;"
# It has no blank where a line could be broken.
LONG = "customer-databases-frankfurt-am-main-every-other-day-" * 3


class Ward(NamedTuple):
    """A pool in which much has happened, the page about it, and its data."""

    pool: TestPool
    vms: Dict[str, str]
    page: Path
    data: Dict[str, Any]


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("report")
    with TestPool(folder, now=datetime(2026, 3, 1, 22, 0, tzinfo=UTC)) as pool:
        vms = build(pool)
        path = folder / "report.html"
        assert shown(pool, "--html", str(path), "--since", "3d") == ""
        yield Ward(pool, vms, path, json.loads(shown(pool, "--json", "--since", "3d")))


def build(pool: TestPool) -> Dict[str, str]:
    """Two schedules with six runs each, one of them missed and some that failed; and VMs that nobody protects."""
    srs = [pool.sr("filer", size=100 * GIB), pool.sr("<b>lun</b> " + LONG, "lvmohba", size=100 * GIB)]
    vms = {name: pool.vm(name, [sr]) for name, sr in (("web", srs[0]), (HOSTILE, srs[1]), (LONG, srs[1]))}
    vms.update((name, pool.vm(name)) for name in ("alone", "paused", "out"))
    pool.call("VM.set_tags", vms["out"], ["vmss:none"])
    hourly = pool.policy([vms["web"]], "hourly", retained_snapshots="3")
    pool.policy([vms[HOSTILE], vms[LONG]], "half past", schedule={"min": "30"}, retained_snapshots="3")
    pool.policy([vms["paused"]], "old", enabled=False)
    pool.policy(name="empty")
    vms["new"] = pool.vm("new", [srs[0]])
    weekly = {"days": "Monday", "hour": "5", "min": "15"}
    pool.policy([vms["new"]], "weekly", frequency="weekly", schedule=weekly)
    for number in range(6):
        if number == 2:
            pool.call("VM.add_to_blocked_operations", vms[HOSTILE], "snapshot", "copied")
        if number == 4:
            pool.call("VM.remove_from_blocked_operations", vms[HOSTILE], "snapshot")
        if number == 5:
            vms["joined"] = pool.vm("joined", [srs[0]])
            pool.call("VM.set_snapshot_schedule", vms["joined"], hourly)
        if number != 3:
            for minute in (15, 30):
                pool.simulator.set_time(datetime(2026, 3, 1, 22, minute, tzinfo=UTC) + timedelta(hours=number))
                pool.tick()
    pool.call("VM.add_to_blocked_operations", vms[LONG], "snapshot", "moved")
    snapshot = pool.snapshots(vms["web"])[0]
    pool.call("VM.add_to_blocked_operations", pool.call("VM.get_by_uuid", snapshot["uuid"]), "destroy", "audit")
    pool.simulator.set_time(datetime(2026, 3, 2, 4, 0, tzinfo=UTC))
    now = int(pool.simulator.now().timestamp())
    notes = ["%d:%d" % (now - (20 - at) * 43200, (60 + at) * GIB) for at in range(20)]
    for sr in srs:
        pool.call("SR.remove_from_other_config", sr, "vmss:used")
        pool.call("SR.add_to_other_config", sr, "vmss:used", " ".join(notes))
    pool.simulator.db.set("SR", srs[0], "physical_utilisation", 95 * GIB)
    return vms


def shown(pool: TestPool, *words: str) -> str:
    """What the command prints."""
    out = io.StringIO()
    with reading(pool.surroundings()) as session:
        assert report.show(session, pool.place, report.parser().parse_args(words), out) == 0
    return out.getvalue()


def test_who_is_protected_and_since_when(ward: Ward) -> None:
    vms = {vm["name"]: vm for vm in ward.data["vms"]}
    assert {name: vm["state"] for name, vm in vms.items()} == {
        "web": "protected", HOSTILE: "protected", "joined": "protected", LONG: "at risk", "new": "new",
        "alone": "no schedule", "paused": "disabled",
    }  # fmt: skip
    assert ward.data["verdict"] == "3 of 7 VMs are protected" and ward.data["protected"] == 3
    # The slot of 01:15 was missed; of the VM that was blocked there is nothing of 00:30, and that of 01:30 came late.
    assert vms["web"]["since"] == "2026-03-02T02:15:00Z" and vms[HOSTILE]["since"] == "2026-03-02T01:30:00Z"
    assert vms["joined"]["since"] == "2026-03-02T03:15:00Z" and not vms["joined"]["whole"]
    assert ward.data["gap"] == "2026-03-02T03:15:00Z"
    text = shown(ward.pool).splitlines()
    assert text[:2] == ["3 of 7 VMs are protected", "None of these 3 has missed a snapshot since 2026-03-02 03:15 UTC."]
    assert any(line.startswith("no schedule: alone: it is on no schedule") for line in text)


def test_a_late_vm_is_told_with_the_slot_that_it_lacks(pool: TestPool) -> None:
    vm = pool.vm("web", [pool.sr()])
    pool.policy([vm], "hourly", schedule={"min": "15"})
    pool.at(10, 15)
    pool.tick()
    pool.call("VM.add_to_blocked_operations", vm, "snapshot", "for a while")
    pool.at(11, 15)
    pool.tick()
    pool.at(11, 55)
    assert shown(pool).startswith("The VM is not protected\n")
    assert "\nlate: web: no snapshot since 2026-03-02 11:15 UTC. An administrator has blocked" in shown(pool)


def test_it_says_what_the_other_commands_say(ward: Ward) -> None:
    def rows(command: Any) -> List[Dict[str, Any]]:
        out = io.StringIO()
        with reading(ward.pool.surroundings()) as session:
            command.show(session, command.parser().parse_args(["--json"]), out)
        found: List[Dict[str, Any]] = json.loads(out.getvalue())
        return found

    told = {vm["uuid"]: vm["why"] for vm in ward.data["vms"]}
    for row in rows(coverage):
        assert row["what"] == "no VM" or row["why"] in told[row["uuid"]]
    fates = {row["snapshot"]: (row["why"], row["goes"]) for row in rows(plan) if row["snapshot"]}
    marks = [mark for vm in ward.data["vms"] for mark in vm["marks"] or ()]
    assert {mark["uuid"]: (mark["why"], mark["goes"]) for mark in marks} == fates and len(fates) > 5
    assert sorted(mark["kind"] for mark in marks if mark["kind"] != "kept") == ["goes next"] * 4 + ["pinned"]
    assert [(run["uuid"], run["at"]) for run in ward.data["coming"]] == [
        (row["uuid"], row["time"]) for row in rows(next_)
    ]
    clash = [run["behind"] for run in ward.data["coming"] if run["schedule"] == "weekly"]
    assert clash == [["hourly"]] and any("Move weekly to" in text for text in ward.data["advice"])
    out = io.StringIO()
    with reading(ward.pool.surroundings()) as session:
        severity = show_status(session, ward.pool.place, status_parser().parse_args(["--json"]), out)
    bad = [finding["text"] for finding in json.loads(out.getvalue()) if finding["state"] not in ("OK", "not checked")]
    assert severity == ward.data["severity"] and sorted(bad) == sorted(one["text"] for one in ward.data["findings"])


def test_the_calendar_has_a_cell_for_each_slot(ward: Ward) -> None:
    of = {
        course["name"]: [(cell["slot"][11:16], cell["state"]) for cell in course["cells"]]
        for course in ward.data["schedules"]
    }
    known = {name: [cell for cell in found if cell[1] != "unknown"] for name, found in of.items()}
    served = [("22:15", "served"), ("23:15", "served"), ("00:15", "served"), ("01:15", "missed"), ("02:15", "served")]
    assert known["hourly"] == served + [("03:15", "served")]
    assert [state for _, state in known["half past"]] == ["served", "served", "failed", "late", "served", "served"]
    assert len(of["hourly"]) == 72 and known["old"] == []  # three days; and nothing is known of what never ran
    (trouble,) = ward.data["troubles"]
    assert trouble["vms"][0].startswith("<script>") and trouble["runs"] == 1 and trouble["remedy"]


AGAIN = "again, at 2026-03-01 02:15:00 (UTC),"


def a_policy(last_run: str) -> Policy:
    record = {
        "uuid": "u", "name_label": "n", "enabled": True, "type": "snapshot", "retained_snapshots": "3",
        "frequency": "daily", "schedule": {"hour": "2", "min": "0"}, "last_run_time": last_run, "VMs": ["OpaqueRef:1"]
    }  # fmt: skip
    return from_record("OpaqueRef:p", record)


def a_message(at: str, name: str, start: str, slot: str, taken: int) -> Dict[str, Any]:
    took = "The run was started %s and took 5 seconds." % start
    summary = "n: %d of 1 VM has its snapshot of %s (UTC); 0 expired snapshots deleted. %s" % (taken, slot, took)
    body = summary if taken else "Details:\nVM:a UUID:vm-1 Error:['SR_FULL', ''],\n" + summary
    return {
        "cls": "VMSS", "obj_uuid": "u", "timestamp": at, "name": "VMSS_SNAPSHOT_" + name,
        "priority": "5" if name == "SUCCEEDED" else "1", "body": body
    }  # fmt: skip


@pytest.mark.parametrize(
    "messages, states",
    [
        ([], ["unknown", "unknown", "waits"]),
        ([("02:00:09", "SUCCEEDED", "at its slot", 1)], ["served", "missed", "waits"]),
        ([("09:00:00", "SUCCEEDED", "late, at 2026-03-01 08:59:00 (UTC),", 1)], ["late", "missed", "waits"]),
        ([("02:00:09", "FAILED", "at its slot", 0)], ["failed", "missed", "waits"]),
        (
            [("02:00:09", "FAILED", "at its slot", 0), ("02:15:09", "SUCCEEDED", AGAIN, 1)],
            ["late", "missed", "waits"],
        ),
    ],
)  # fmt: skip
def test_what_becomes_of_a_slot(messages: List[Tuple[str, str, str, int]], states: List[str]) -> None:
    now = datetime(2026, 3, 3, 2, 0, 5, tzinfo=UTC)
    records = {
        str(number): a_message("20260301T%sZ" % at, name, start, "2026-03-01 02:00:00", taken)
        for number, (at, name, start, taken) in enumerate(messages)
    }
    told, policy = runs(records), a_policy("20260301T02:00:09Z")
    second = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
    found = cells(policy, told, UTC, datetime(2026, 3, 1, tzinfo=UTC), now, second)
    assert [cell.state for cell in found] == states
    assert unbroken_since(found, "vm-1") is None
    # What does not run now has not missed what nobody knows of; and what should be over does not wait.
    idle = cells(policy._replace(enabled=False), told, UTC, second - timedelta(days=1), now, None)
    assert [cell.state for cell in idle] == [states[0], "unknown", "unknown"]
    over = cells(policy, told, UTC, second - timedelta(days=1), now, second + timedelta(days=1))
    assert over[-1].state == ("missed" if told else "unknown")
    # Before the slot that was missed nothing was broken, but for the VM that failed.
    first = unbroken_since(found[:1], "vm-1")
    assert (first is None) == (states[0] in ("failed", "unknown")) and unbroken_since(found[:0], "vm-1") is None


def test_the_document_names_the_keys_and_the_states(ward: Ward) -> None:
    rows = table("docs/report.md", "key")
    assert {key for row in rows for key in re.findall("`(.*?)`", row.split("|")[1])} == set(ward.data) - {"version"}
    words = "".join(table("docs/report.md", "it says"))
    assert {vm["state"] for vm in ward.data["vms"]} - {"protected"} <= set(re.findall("`(.*?)`", words))


def test_so_many_snapshots_are_read_and_no_more(ward: Ward) -> None:
    data = json.loads(shown(ward.pool, "--json", "--since", "3d", "--timelines", "1"))
    read = [vm["name"] for vm in data["vms"] if vm["marks"] is not None]
    assert read == [LONG]  # what may need somebody comes first
    assert {vm["name"]: vm["state"] for vm in data["vms"]} == {vm["name"]: vm["state"] for vm in ward.data["vms"]}
    path = ward.page.parent / "short.html"
    shown(ward.pool, "--html", str(path), "--timelines", "1")
    assert "--timelines takes a larger number" in path.read_text() and "3 more" not in path.read_text()


# The page


class Outline(HTMLParser):
    """The elements and attributes of a page, and its text outside of the style sheet."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Set[str] = set()
        self.text: List[str] = []

    def handle_starttag(self, tag: str, attributes: List[Tuple[str, Optional[str]]]) -> None:
        self.found |= {tag} | {name for name, _ in attributes}

    def handle_data(self, text: str) -> None:
        self.text.append(text)


def test_the_page_holds_no_script_and_no_address(ward: Ward) -> None:
    data = ward.page.read_bytes()
    outline = Outline()
    outline.feed(data.decode("ascii"))
    assert not {name for name in outline.found if name.startswith("on")} | outline.found & {
        "script",
        "img",
        "src",
        "href",
    }
    assert b"//" not in data and b"url(" not in data and b"@import" not in data
    assert "".join(outline.text).count(HOSTILE.replace("\u202e", "\\u202e")) >= 1
    assert b"default-src &#x27;none&#x27;" in data and oct(ward.page.stat().st_mode & 0o777) != oct(0o600)


def test_the_page_replaces_the_one_before_only_when_it_is_whole(ward: Ward, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    path.chmod(0o640)
    shown(ward.pool, "--html", str(path))
    assert path.read_text().endswith("</html>\n") and path.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
    from vmss.cli.streams import WriteError

    with pytest.raises(WriteError, match="no_folder/report.html: cannot be written: No such file or directory"):
        shown(ward.pool, "--html", str(tmp_path / "no_folder" / "report.html"))


# In the page: every text that can be seen, where it is, its colours and size; and the colours of shapes.
LOOK = """(() => {
  document.querySelectorAll('details').forEach(one => one.open = true);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    }
    return 'none';
  };
  const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || parent.closest('svg, style')) continue;
    const range = document.createRange(), style = getComputedStyle(parent);
    range.selectNodeContents(node);
    const box = (parent.closest('section') || document.body).getBoundingClientRect();
    for (const part of range.getClientRects()) if (part.width > 0.5) texts.push({
      text: node.data.slice(0, 60), at: [part.left, part.top, part.right, part.bottom],
      inside: part.left >= box.left && part.right <= box.right + 0.5 && part.bottom <= box.bottom + 0.5,
      colour: style.color, ground: ground(parent), size: parseFloat(style.fontSize), bold: +style.fontWeight >= 600});
  }
  const shapes = [...document.querySelectorAll('section svg path')].map(path => {
    const style = getComputedStyle(path), line = style.fill === 'none';
    return {class: path.getAttribute('class'), colour: line ? style.stroke : style.fill, ground: ground(path)};
  });
  return {texts, shapes, width: document.documentElement.scrollWidth, window: innerWidth, ran: window.ran || 0};
})()"""
# What is drawn only to guide the eye, or on top of another shape.
QUIET = {"f-track", "f-wash", "l-base", "l-cut", "m-hole", None}


def light(colour: str) -> float:
    """The relative luminance of a colour, as WCAG defines it."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((light(one), light(other)))
    return (lighter + 0.05) / (darker + 0.05)


def overlapping(texts: List[Dict[str, Any]]) -> List[Tuple[str, str]]:
    """The pairs of texts that stand on each other, by more than the height of an accent."""
    found = []
    for index, one in enumerate(texts):
        left, top, right, bottom = one["at"]
        for other in texts[index + 1 :]:
            x, y, x2, y2 = other["at"]
            if min(right, x2) - max(left, x) > 1 and min(bottom, y2) - max(top, y) > 3:
                found.append((one["text"], other["text"]))
    return found


@pytest.mark.skipif(not browser.find(), reason="no Chromium: the page is not looked at (apt-get install chromium)")
def test_in_a_browser_nothing_overlaps_is_cut_runs_or_is_fetched(ward: Ward, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as page:
        for width in (360, 820, 1280):
            for dark in (False, True):
                page.open(ward.page, width, dark)
                seen = page.run(LOOK)
                where = "%d pixels, %s" % (width, "dark" if dark else "light")
                assert len(seen["texts"]) > 80 and seen["ran"] == 0, where
                assert seen["width"] <= seen["window"] == width, where
                assert [text["text"] for text in seen["texts"] if not text["inside"]] == [], where
                assert overlapping(seen["texts"]) == [], where
                assert light(seen["texts"][0]["ground"]) < 0.1 if dark else light(seen["texts"][0]["ground"]) > 0.8
                for text in seen["texts"]:
                    large = text["size"] >= 24 or (text["bold"] and text["size"] >= 18.67)
                    assert contrast(text["colour"], text["ground"]) >= (3 if large else 4.5), (where, text)
                track = next(shape["colour"] for shape in seen["shapes"] if shape["class"] == "f-track")
                for shape in seen["shapes"]:
                    if shape["class"] not in QUIET:
                        assert contrast(shape["colour"], shape["ground"]) >= 3, (where, shape)
                        assert not shape["class"].startswith("f-") or contrast(shape["colour"], track) >= 3, (
                            where,
                            shape,
                        )
        long = tmp_path / "long.html"
        shown(ward.pool, "--html", str(long), "--since", "20w")  # whose drawings are long, and whole
        page.open(long)
        names = page.run("[...document.querySelectorAll('.row .name')].map(one => one.innerText.split('\\n')[0])")
        assert HOSTILE.replace("\u202e", "\\u202e") in names
        assert page.told == [] and set(page.requested) == {ward.page.as_uri(), long.as_uri()}
        page.print(tmp_path / "report.pdf")
        assert (tmp_path / "report.pdf").read_bytes().count(b"/MediaBox [0 0 594") >= 1  # A4
