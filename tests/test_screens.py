"""What the commands show on terminals of several widths, to readers in the pool's zone and in another, as recorded in
tests/screens. After a change that is wanted, record them anew, and look at what has changed:

    python -m tests.test_screens
    git diff tests/screens
"""

import io
import json
import os
import re
import tempfile
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path
from typing import Dict, Iterator, List, Tuple
from unittest.mock import patch

import pytest

from tests import pictures
from tests.documents import ROOT
from tests.pool import GIB, UTC, TestPool
from tests.terminal import on_terminal, stands
from tests.test_commands import vmss
from vmss.cli.layout import width_of
from vmss.cli.main import main
from vmss.cli.watch_picture import Paper, Scene, picture
from vmss.core.watched import DeletingSeen, RunSeen, RunTold, Seen, SeenJob, SeenRun, SnapshotSeen, TaskSeen, after
from vmss.edges.sessions import NoSession
from vmss.edges.settings import Settings
from vmss.passes.request import Request
from vmss.passes.run import run

FOLDER = ROOT / "tests" / "screens"
ZONES = {"the pool's zone": "UTC", "another zone": "America/New_York"}
ALL = [(width, zone) for zone in ZONES for width in (60, 80, 100, 120, 200)]
SOME = [(60, "the pool's zone"), (80, "the pool's zone"), (80, "another zone"), (120, "the pool's zone")]

# The commands, by the file that has their screens.
COMMANDS: Dict[str, Tuple[List[str], List[Tuple[int, str]]]] = {
    "list": (["list"], ALL),
    "history": (["history", "--last", "12h"], SOME),
    "next": (["next"], SOME),
    "show": (["show", "nightly"], SOME),
    "status": (["status"], SOME),
    "doctor": (["doctor"], SOME[1:2]),
    "rehearsal": (["run", "--dry-run"], SOME),
}

# What `vmss watch` shows: of a pass as it is seen, for a pass that runs is not twice the same.
WATCH = (40, 60, 100)

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DURATION = re.compile(r"\b[0-9]+\s+(?:ms|s|min|h)\b")
_LONG = "customer-databases-frankfurt-every-other-day"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def build(pool: TestPool) -> None:
    """Schedules with short and long names, of each frequency; one that failed, one that is off, one that is new."""
    Path(pool.place.config).write_text("[vmss]\ntimezone = UTC\nlogin_limit = 0\n")
    slow, fast = pool.sr("slow"), pool.sr("fast")
    servers = [pool.vm(name, [slow]) for name in ("app", "database-of-the-shop-01", "database-of-the-shop-02", "mail")]
    pool.policy(servers, "nightly", frequency="daily", schedule={"hour": "2", "min": "30"}, retained_snapshots="7")
    pool.policy([pool.vm("build", [fast])], "hourly", retained_snapshots="5")
    days = {"hour": "22", "min": "0", "days": "Monday,Wednesday,Friday,Sunday"}
    pool.policy([pool.vm("crm", [fast], size=4 * GIB)], _LONG, frequency="weekly", schedule=days)
    pool.policy([pool.vm("wiki", [slow])], "東京\x9b31m\u202e", frequency="daily", schedule={"hour": "9", "min": "0"})
    pool.call("VMSS.set_enabled", pool.policy([pool.vm("old", [slow])], "off"), False)
    full = '["SR_BACKEND_FAILURE_44", "", "There is insufficient space", ""]'
    for day, hour, minute in ((1, 22, 0), (2, 2, 30), (2, 8, 15), (2, 9, 0), (2, 9, 15), (2, 10, 15)):
        if (day, hour) == (2, 2):
            rule = {"method": "VM.snapshot", "object": servers[2], "action": "error", "count": "0", "error": full}
            pool.call("simulator.add_fault", rule)
        pool.at(hour, minute, day=day)
        pool.tick()
    pool.policy([pool.vm("archive", [slow])], "archives", frequency="daily", schedule={"hour": "2", "min": "30"})
    pool.call("simulator.clear_faults")
    pool.simulator.set_time(datetime(2026, 3, 2, 10, 20, 30, tzinfo=UTC))


@contextmanager
def recorded(folder: Path) -> Iterator[TestPool]:
    """The pool whose screens are recorded."""
    with TestPool(folder, now=datetime(2026, 3, 1, 10, 0, tzinfo=UTC)) as pool:
        build(pool)
        yield pool


@contextmanager
def within(folder: Path) -> Iterator[None]:
    """With a folder as the current one, so that no path to it is on a screen."""
    before = os.getcwd()
    os.chdir(str(folder))
    try:
        yield
    finally:
        os.chdir(before)


def environment(pool: TestPool, prefix: str, width: int, zone: str) -> Dict[str, str]:
    """The variables of a reader; `prefix` stands before the names of the pool's files."""
    files = {"XAPI": "unix:" + prefix + "xapi.sock", "CONFIG": prefix + "vmss.conf", "LOG": prefix + "VMSSlog"}
    variables = {"VMSS_" + name: value for name, value in files.items()}
    return dict(variables, TERM="xterm", NO_COLOR="1", COLUMNS=str(width), TZ=ZONES[zone])


def screen(pool: TestPool, words: List[str], width: int, zone: str) -> str:
    """What a command shows, without what differs from one time to the next; as wide as it is."""
    out = Terminal()
    with ExitStack() as stack:
        stack.enter_context(within(pool.folder))
        stack.enter_context(patch.dict(os.environ, environment(pool, "", width, zone)))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(io.StringIO()))
        main(words)
    text = _UUID.sub("01234567-89ab-cdef-0123-456789abcdef", out.getvalue())
    return _DURATION.sub(lambda found: re.sub("[0-9]", "N", found.group()), text)


def screens(pool: TestPool, name: str) -> str:
    """All screens of one file."""
    words, kinds = COMMANDS[name]
    return "\n".join(
        "=== vmss %s: %d columns, %s\n%s" % (" ".join(words), width, zone, screen(pool, words, width, zone))
        for width, zone in kinds
    )


def watched_pass() -> Tuple[Seen, datetime]:
    """A pass with two runs on three storage repositories: what is at work, waits, hangs, has failed and is done."""
    began = datetime(2026, 3, 2, 10, 15, 1, tzinfo=UTC)
    seen, now = Seen(began, began), began + timedelta(minutes=12)
    for uuid, name, expected, past, srs in (
        ("n", "nightly", 600.0, 7, ("slow", "fast")),
        ("l", _LONG, 30.0, 0, ("a-backup-storage-repository-in-the-other-datacentre",)),
    ):
        jobs = tuple(
            SeenJob("%s%d" % (uuid, at), "%s%d" % (uuid, at), "%s-vm-%02d" % (sr, at), uuid, frozenset([sr]), 20.0)
            for at in range(4)
            for sr in (srs[at % len(srs)],)
        )
        run_seen = SeenRun(uuid, name, began, began, expected, past)
        seen = after(seen, RunSeen(run_seen, jobs), began)
    for task, vm, seconds in (("a", "n0", 1), ("b", "n1", 700), ("c", "l0", 3)):
        seen = after(seen, TaskSeen(task, vm, began + timedelta(seconds=seconds), "pending"), now)
    seen = after(seen, SnapshotSeen("n3", now), now)
    seen = after(seen, SnapshotSeen("l1", now), now)
    full = ("SR_BACKEND_FAILURE_44", "", "There is insufficient space", "")
    seen = after(seen, TaskSeen("d", "l2", began, "failure", full), now)
    return after(seen, DeletingSeen(3), now), now


def watch_screens() -> str:
    """The screens of `vmss watch`: a pass at work, and one that died."""
    seen, now = watched_pass()
    over = after(seen, RunTold("n", "succeeded", ""), now)
    names = {sr: sr for job in seen.jobs.values() for sr in job.tokens}
    told = ""
    for what, one in (("a pass", seen), ("one that died", over._replace(died=True))):
        scene = Scene(one, names, None, datetime(2026, 3, 2, 10, 30, tzinfo=UTC), lambda at: at.strftime("%H:%M UTC"))
        for width in WATCH:
            told += "=== vmss watch: %d columns, %s\n" % (width, what)
            told += "".join(line + "\n" for line in picture(scene, now, Paper(width, 24)))
    return told


def test_a_pass_is_shown_as_it_is_recorded() -> None:
    assert watch_screens() == (FOLDER / "watch.txt").read_text(encoding="utf-8")


def test_the_picture_of_a_terminal_is_what_it_shows() -> None:
    made = pictures.TERMINAL.read_text(encoding="utf-8")
    assert made == pictures.terminal(), "python -m tests.pictures makes it anew"
    words = re.findall(">([^<]+)</text>", made)
    assert "db02: failed: The storage repository is full (SR_BACKEND_FAILURE_44)" in words and "succeeded" in words


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestPool]:
    with recorded(tmp_path_factory.mktemp("screens")) as built:
        yield built


@pytest.mark.parametrize("name", COMMANDS)
def test_it_shows_what_is_recorded(pool: TestPool, name: str) -> None:
    recording = (FOLDER / (name + ".txt")).read_text(encoding="utf-8")
    assert screens(pool, name) == recording, "python -m tests.test_screens records it anew"


def test_a_recorded_list_has_one_line_for_each_schedule_with_its_name() -> None:
    text = (FOLDER / "list.txt").read_text(encoding="utf-8")
    for part in text.split("=== ")[1:]:
        heading, *lines = part.rstrip("\n").split("\n")
        width = int(heading.split()[2])
        assert len(lines) == 7 and all(width_of(line) <= width for line in lines), part
        names = [line.split("  ")[0] for line in lines[1:]]
        assert [name for name in names if not name.startswith(("customer", "東京"))] == [
            "archives", "hourly", "nightly", "off"
        ], part  # fmt: skip
        assert names[1].startswith("customer") and names[1].endswith("-day"), part


def test_a_real_terminal_shows_the_same(pool: TestPool) -> None:
    variables = environment(pool, str(pool.folder) + "/", 80, "another zone")
    del variables["COLUMNS"]
    shown = on_terminal("list", width=80, status=0, **variables)
    assert shown == screen(pool, ["list"], 80, "another zone")


def test_colour_is_asked_for_or_not_and_no_name_brings_its_own(pool: TestPool) -> None:
    with within(pool.folder), patch.dict(os.environ, environment(pool, "", 80, "another zone")):
        for color, number in (("always", 8), ("never", 0), ("auto", 0)):
            out = io.StringIO()
            with redirect_stdout(out):
                main(["list", "--color", color])
            assert out.getvalue().count("\x1b[") == number and "\x9b" not in out.getvalue()
            assert "nightly\tevery day at 02:30\t" in out.getvalue()


def test_a_rehearsal_is_for_programs_too(pool: TestPool) -> None:
    xapi = {"VMSS_XAPI": pool.place.xapi, "VMSS_CONFIG": pool.place.config}
    (vm,) = json.loads(vmss(pool.folder, "run", "--dry-run", "--json", **xapi).out)
    assert (vm["schedule"], vm["vm"], vm["takes"]) == ("nightly", "database-of-the-shop-02", "VM.snapshot")
    assert (vm["slot"], vm["deletes"], vm["later"]) == ("2026-03-02T02:30:00Z", [], 0)
    ended = vmss(pool.folder, "run", "--json", **xapi)
    assert ended.status == 2 and ended.err.startswith("vmss: --json: goes with --dry-run")


def test_runs_that_are_one_line_on_a_terminal_are_one_each_for_programs(pool: TestPool) -> None:
    xapi = {"VMSS_XAPI": pool.place.xapi, "VMSS_CONFIG": pool.place.config}
    runs = json.loads(vmss(pool.folder, "next", "--json", **xapi).out)
    assert sum(run["policy"] == "hourly" for run in runs) == 24
    assert len(vmss(pool.folder, "next", **xapi).out.splitlines()) == len(runs) == 28


def test_the_doctor_shows_what_it_looks_at_while_it_does(pool: TestPool) -> None:
    variables = {"VMSS_XAPI": pool.place.xapi, "VMSS_CONFIG": pool.place.config, "VMSS_LOG": pool.place.log}
    shown = on_terminal("doctor", width=80, status=2, **variables)
    assert "\r\x1b[Klooking at: storage" in shown and "looking" not in shown.split("\r\x1b[K")[-1]
    ended = vmss(pool.folder, "doctor", **variables)
    assert ended.err == "" and ended.out.startswith("CRITICAL\tsnapshots\t")


def test_a_run_that_failed_says_why_in_words_and_what_to_do_next(tmp_path: Path) -> None:
    with TestPool(tmp_path) as pool:
        Path(pool.place.config).write_text("[vmss]\ntimezone = UTC\nlogin_limit = 0\n")
        vm = pool.vm("db", [pool.sr()])
        uuid = pool.uuid("VMSS", pool.policy([vm], "nightly"))
        full = '["SR_BACKEND_FAILURE_44", "", "There is insufficient space", ""]'
        rule = {"method": "VM.snapshot", "object": "db", "action": "error", "count": "0", "error": full}
        pool.call("simulator.add_fault", rule)
        variables = environment(pool, str(pool.folder) + "/", 80, "the pool's zone")
        variables["VMSS_LOCK_DIR"] = pool.place.lock_dir
        del variables["COLUMNS"]
        pool.at(10, 15)
        *lines, last = stands(on_terminal("run", width=200, status=1, **variables), 200)
        assert last == "" and lines[:2] == [
            "nightly: snapshot of 1 VM",
            "[1/1] db: failed: The storage repository is full (SR_BACKEND_FAILURE_44)",
        ]
        look, again = [line.rpartition(": vmss ")[2].split() for line in lines[-2:]]
        assert (look, again) == (["history", uuid], ["run", "--policy", uuid, "--missing"])
        pool.call("simulator.clear_faults")
        assert "The storage repository is full: Free space" in on_terminal(*look, width=80, status=0, **variables)
        on_terminal(*again, width=80, status=0, **variables)
        assert len(pool.snapshots(vm)) == 1


def test_a_run_that_waits_for_xapi_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("[vmss]\nlogin_limit = 2\n")
    files = {"VMSS_LOG": str(tmp_path / "log"), "VMSS_LOCK_DIR": str(tmp_path / "lock")}
    nothing = dict(files, VMSS_XAPI="unix:%s" % (tmp_path / "none"), VMSS_CONFIG=str(tmp_path / "conf"))
    shown = on_terminal("run", width=80, status=3, **nothing).splitlines()
    assert len(shown) == 2 and shown[1].startswith("vmss: unix:")
    assert shown[0].startswith("xapi does not answer at unix:") and "waiting for it, for up to 2 s" in shown[0]
    assert len(vmss(tmp_path, "run", **nothing).err.splitlines()) == 1  # as cron would start it


def test_what_is_waited_for_is_told_once_however_often_it_is_tried(pool: TestPool, tmp_path: Path) -> None:
    files = {"log": str(tmp_path / "log"), "lock_dir": str(tmp_path / "lock")}
    place = pool.place._replace(xapi="unix:%s" % (tmp_path / "none"), **files)
    told: List[str] = []
    before = pool.simulator.now()
    with pytest.raises(NoSession):
        run(Request(), pool.surroundings(place=place, settings=Settings(login_limit=60), waits=told.append))
    waited = pool.simulator.now() - before
    pool.simulator.set_time(before)
    assert waited > timedelta(seconds=30) and len(told) == 1 and "for up to 1 min (login_limit)" in told[0]


def test_the_lines_of_the_plug_in_can_be_had_on_a_terminal(pool: TestPool) -> None:
    variables = environment(pool, str(pool.folder) + "/", 80, "the pool's zone")
    del variables["COLUMNS"]
    shown = on_terminal("status", "--nagios", width=80, status=2, **variables).splitlines()
    piped = vmss(pool.folder, "status", **variables).out.splitlines()
    assert shown[0].startswith("VMSS CRITICAL: 1 of 4 VMs") and " | policies=6 vms=9 " in shown[0]
    assert len(shown) == len(piped) and shown[1:3] == piped[1:3]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, recorded(Path(temporary)) as here:
        for each in COMMANDS:
            (FOLDER / (each + ".txt")).write_text(screens(here, each), encoding="utf-8")
    (FOLDER / "watch.txt").write_text(watch_screens(), encoding="utf-8")
