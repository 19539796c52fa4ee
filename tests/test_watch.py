"""`vmss watch`: the pass at work as it is seen from outside, and that the pass does not notice."""

import json
import os
import re
import signal
import subprocess
import sys
import unicodedata
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.front import Front
from tests.pool import START, TestPool
from tests.terminal import Screen
from tests.test_commands import tls, vmss  # noqa: F401
from tests.test_killed import start, two_vms, wait_for_task
from vmss.cli import watch_picture
from vmss.cli.layout import width_of
from vmss.cli.watch_picture import Paper, Scene, picture
from vmss.core import watched
from vmss.core.records import AT_WORK
from vmss.core.watched import Seen, SeenJob, SeenRun, after, changes, tally
from vmss.edges.xapi import Xapi
from vmss.insight.reading import Reading, reading
from vmss.insight.watching import Watch
from vmss.passes.request import Report, Request
from vmss.passes.run import run

ROOT = Path(__file__).resolve().parent.parent
FULL = '["SR_BACKEND_FAILURE_44", "", "There is insufficient space", ""]'
HOSTILE = "\x1b[2J\u202e\x9b31m\nroot# rm -rf 東京"


# By values


def a_pass(vms: int, srs: int, name: str = "vm") -> Seen:
    """A pass with two runs, whose VMs are on these many storage repositories."""
    seen = Seen(START, START)
    for number, uuid in enumerate(("r0", "r1")):
        jobs = tuple(
            SeenJob("v%d.%d" % (number, at), "u%d.%d" % (number, at), name, uuid, frozenset(["sr%d" % (at % srs)]), 4.0)
            for at in range(vms)
        )
        seen = after(seen, watched.RunSeen(SeenRun(uuid, name, START, START, 60.0, number), jobs), START)
    return seen


VMS = st.sampled_from(["v%d.%d" % (number, at) for number in (0, 1) for at in range(4)] + ["stranger"])
SECONDS = st.integers(0, 9000)
EVENTS = st.one_of(
    st.builds(
        lambda task, vm, at, status: watched.TaskSeen(task, vm, START + timedelta(seconds=at), status),
        st.sampled_from("abcd"),
        VMS,
        SECONDS,
        st.sampled_from(["pending", "success", "failure", "cancelled"]),
    ),
    st.builds(watched.TaskGone, st.sampled_from("abcd")),
    st.builds(lambda vm, at: watched.SnapshotSeen(vm, START + timedelta(seconds=at - 60)), VMS, SECONDS),
    st.builds(watched.DeletionSeen, st.sampled_from("xy"), st.booleans()),
    st.builds(watched.DeletingSeen, st.integers(0, 9)),
    st.builds(watched.PassDied, st.booleans()),
    st.builds(
        lambda uuid, errors: watched.RunTold(uuid, "failed", HOSTILE, dict.fromkeys(errors, ("E", HOSTILE))),
        st.sampled_from(["r0", "r1", "r2"]),
        st.lists(st.sampled_from(["u0.1", "u1.3", "other"])),
    ),
)


@settings(max_examples=100)
@given(st.lists(EVENTS, max_size=25), st.integers(1, 3), SECONDS)
def test_whatever_happens_the_numbers_agree_and_a_snapshot_that_was_seen_stays(
    events: List[Any], srs: int, more: int
) -> None:
    seen = a_pass(4, srs)
    told: List[watched.Change] = []
    for event in events:
        before, seen = seen, after(seen, event, START + timedelta(seconds=more))
        told += changes(before, seen)
        taken = {vm for vm, job in before.jobs.items() if job.state == watched.TAKEN}
        assert all(seen.jobs[vm].state == watched.TAKEN for vm in taken)
        if isinstance(event, watched.SnapshotSeen) and event.time < START:
            assert seen == before  # an older one, that was pinned or is being deleted
        assert set(seen.jobs) == set(before.jobs) and set(seen.runs) == {"r0", "r1"}
    for uuid in seen.runs:
        done = tally(seen, uuid)
        assert done.vms == 4 and done.taken + done.failed <= 4
        mine = [change.kind for change in told if change.run is not None and change.run.uuid == uuid]
        assert done.taken == mine.count(watched.TOOK) and seen.runs[uuid].over == (watched.TOLD in mine)
    now = START + timedelta(seconds=more)
    for place in watched.places(seen, now):
        assert place.at_work or place.waiting
        assert all(place.ref in job.tokens and job.state == watched.AT_WORK for job in place.at_work)
        assert 0 <= place.seconds <= watched.seconds_left(seen, now)


def test_a_vm_with_disks_on_several_repositories_counts_on_each_with_its_share() -> None:
    job = SeenJob("v", "u", "vm", "r", frozenset(["sr0", "sr1"]), 8.0, 0.5)
    seen = Seen(START, START, {"r": SeenRun("r", "nightly", START, START, 60.0, 1)}, {"v": job})
    assert [place.seconds for place in watched.places(seen, START)] == [4.0, 4.0]


@settings(max_examples=60, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    st.lists(EVENTS, max_size=12),
    st.integers(40, 200),
    st.integers(5, 60),
    st.text(max_size=20),
    st.booleans(),
    SECONDS,
)
def test_a_picture_has_room_and_no_name_reaches_the_terminal_as_it_is(
    events: List[Any], width: int, height: int, name: str, idle: bool, at: int
) -> None:
    seen, now = a_pass(4, 3, name + HOSTILE), START + timedelta(seconds=at)
    for event in events:
        seen = after(seen, event, now)
    names = {"sr%d" % number: HOSTILE * 3 for number in range(3)}
    scene = Scene(None if idle else seen, names, (START, (HOSTILE, name)), now)
    lines = picture(scene, now, Paper(width, height))
    assert 0 < len(lines) < height
    assert all(width_of(line) <= width and is_safe(line) for line in lines), lines
    coloured = picture(scene, now, Paper(width, height, colour=True))
    assert [re.sub("\x1b\\[[0-9]+m", "", line) for line in coloured] == lines
    for change in list(changes(None, seen)) + list(changes(seen, None)):
        assert is_safe(watch_picture.told(change, now))


def is_safe(text: str) -> bool:
    """Whether no character of a text moves the cursor, or changes how others are shown."""
    return all(unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text)


def test_a_task_of_an_earlier_try_says_nothing_of_the_next_one() -> None:
    def at(seen: Seen, task: str, status: str) -> Seen:
        return after(seen, watched.TaskSeen(task, "v0.0", START, status, ("VDI_IN_USE",)), START)

    seen = at(at(at(a_pass(1, 1), "a", "pending"), "a", "failure"), "b", "pending")
    assert seen.jobs["v0.0"].state == watched.AT_WORK
    assert at(seen, "a", "failure") == seen
    assert at(seen, "b", "failure").jobs["v0.0"].error == ("VDI_IN_USE",)


# Over events


class Observer:
    """Somebody who watches a pool, and what he has seen: the changes, and the picture at each of them."""

    def __init__(self, session: Reading, pool: TestPool) -> None:
        self.session, self.watch = session, Watch(session, pool.place)
        self._before: Optional[Seen] = None
        self.told: List[str] = []
        self.pictures: List[str] = []
        self.look()

    def look(self, method: str = "") -> None:
        """Look, and wait for nothing."""
        self.watch.look(0.0)
        now, ended = self.session.now(), self.watch.ended
        self.watch.ended = None
        found = [] if ended is None else list(changes(self._before, ended))
        found += changes(self._before if ended is None else ended, self.watch.seen)
        self._before = self.watch.seen
        self.told += [watch_picture.told(change, now) for change in found]
        if found:
            self.pictures.append(self.picture())

    def picture(self) -> str:
        """What there is to see now."""
        watch, session = self.watch, self.session
        scene = Scene(watch.seen, watch.names, watch.coming(), watch.next_tick(), session.moment)
        return "\n".join(picture(scene, session.now(), Paper(100, 40)))


@contextmanager
def observed(pool: TestPool) -> Iterator[Observer]:
    with reading(pool.surroundings()) as session:
        yield Observer(session, pool)


def tick(pool: TestPool, observer: Optional[Observer], **request: Any) -> Tuple[Report, List[str]]:
    """One pass, at each call of which the observer looks; and its calls."""
    path = pool.socket + ".front"
    if os.path.exists(path):
        os.unlink(path)
    front = Front(path, pool.socket, before=observer.look if observer else lambda method: None)
    around = pool.surroundings(place=pool.place._replace(xapi="unix:" + path))
    report = run(Request(**request) if request else Request(kicked=True), around)
    if observer:
        observer.look()
    return report, front.calls


def several(pool: TestPool) -> Dict[str, str]:
    """A schedule with VMs on two storage repositories, another with one of them; references by name."""
    slow, fast = pool.sr("slow"), pool.sr("fast")
    vms = {name: pool.vm(name, [slow]) for name in ("db1", "db2", "db3")}
    vms["web"] = pool.vm("web", [fast])
    vms["nightly"] = pool.policy([vms[name] for name in ("db1", "db2", "web")], "nightly", retained_snapshots="1")
    vms["hourly"] = pool.policy([vms["db3"]], "hourly")
    return vms


def test_a_pass_is_seen_from_its_begin_to_its_end_with_what_waits_and_what_failed(pool: TestPool) -> None:
    there = several(pool)
    pool.at(10, 15)
    pool.tick()
    rule = {"method": "VM.snapshot", "object": there["db2"], "action": "error", "count": "0", "error": FULL}
    pool.call("simulator.add_fault", rule)
    with observed(pool) as observer:
        assert observer.picture().startswith("No pass is at work. Next: hourly and nightly, 2026-03-02 11:15 UTC (in ")
        pool.at(11, 15)
        report, _ = tick(pool, observer)
        told = observer.told
        assert told[0] == "a pass is at work: hourly and nightly" or told[0] == "a pass is at work: nightly and hourly"
        assert sorted(line for line in told if "taken" in line) == sorted(
            line
            for line in told
            if re.match(r"(nightly: \[[12]/3\] (db1|web)|hourly: \[1/1\] db3): snapshot taken\Z", line)
        )
        assert sum(line.endswith(": snapshot taken") for line in told) == 3
        assert "nightly: failed: The storage repository is full: db2" in told
        assert any(line.startswith("hourly: succeeded: 1 of 1 VM snapshotted") for line in told)
        assert re.match(r"the pass has ended after \d+ s: 3 of 4 VMs have their snapshot; ", told[-1])
        assert "nightly failed" in told[-1] and "hourly succeeded" in told[-1]
        assert observer.pictures[-1].startswith("No pass is at work. Next: ")
        # In between: what is at work on each storage repository, and how many wait.
        assert re.search(r"^slow +db[123] +\d s of \d s +2 ", "\n".join(observer.pictures), re.MULTILINE)
        assert re.search(r"^fast +web +\d s of \d s +0 ", "\n".join(observer.pictures), re.MULTILINE)
        assert "db2: failed: The storage repository is full (SR_BACKEND_FAILURE_44)" in observer.pictures[-2]
        assert report.status == 1 and observer.watch.seen is None


def test_why_a_vm_failed_shows_at_once_also_to_who_looks_once_in_a_second(pool: TestPool) -> None:
    there = several(pool)
    pool.at(10, 15)
    disk = pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", there["db1"])[0])
    rule = {"method": "VDI.snapshot", "object": disk, "action": "error", "count": "0", "error": FULL}
    pool.call("simulator.add_fault", rule)

    class Seldom(Observer):
        last = START

        def look(self, method: str = "") -> None:
            if (self.session.now() - self.last).total_seconds() >= 1.0:
                self.last = self.session.now()
                Observer.look(self)

    with reading(pool.surroundings()) as session:
        observer = Seldom(session, pool)
        tick(pool, observer)
    # Once the run is over, its alert tells that in other words.
    failed = re.compile("nightly: \\[[0-3]/3\\] db1: failed: The storage repository is full .SR_BACKEND_FAILURE_44.")
    assert any(failed.match(line) for line in observer.told), observer.told
    assert pool.tasks() == []


@pytest.mark.parametrize("minute", [15, 40])  # in the second case the slot is long ago
def test_who_comes_in_the_middle_sees_how_far_it_is(pool: TestPool, minute: int) -> None:
    there = several(pool)
    pool.at(10, 15)
    pool.tick()
    pool.at(11, minute)
    late: List[str] = []
    have: List[str] = []

    class Latecomer:
        calls = 0

        def look(self, method: str = "") -> None:
            self.calls += method == "Async.VM.destroy"
            if self.calls == 1 and not late:
                vms = [there[name] for name in ("db1", "db2", "web")]
                for vm in vms:
                    if str(pool.snapshots(vm)[-1]["snapshot_time"]) > "20260302T11":
                        pool.call("VM.snapshot", vm, "somebody else's, which is taken last", [])
                have.extend(vm for vm in vms if str(pool.snapshots(vm)[-1]["snapshot_time"]) > "20260302T11")
                with reading(pool.surroundings()) as session:
                    seen = Watch(session, pool.place).seen  # before any event
                    assert seen is not None and [tally(seen, nightly).taken] == [len(have)]
                with observed(pool) as observer:
                    late.append(observer.picture())
                    late.extend(observer.told)

    nightly = pool.uuid("VMSS", there["nightly"])
    tick(pool, Latecomer())  # type: ignore[arg-type]
    taken = int(re.search(r"^nightly +([0-3]) of 3", late[0], re.MULTILINE).group(1))  # type: ignore[union-attr]
    assert taken == len(have) > 0 and not any("taken" in line for line in late[1:])
    assert "expired snapshots listed to go: " in late[0]


def test_a_run_by_hand_counts_what_it_takes_itself_and_a_disabled_schedule_is_seen(pool: TestPool) -> None:
    there = several(pool)
    pool.at(10, 15)
    pool.tick()
    pool.call("VMSS.set_enabled", there["nightly"], False)
    pool.at(10, 20)
    with observed(pool) as observer:
        tick(pool, observer, policy=pool.uuid("VMSS", there["nightly"]))
        assert re.search(r"^nightly +0 of 3 ", observer.pictures[0], re.MULTILINE)
        assert "3 of 3 VMs have their snapshot; nightly succeeded" in observer.told[-1]


def test_what_the_sign_does_not_tell_shows_by_its_tasks(pool: TestPool) -> None:
    several(pool)
    pool.at(10, 15)
    (ref,) = pool.call("pool.get_all")

    class Forgetful(Observer):
        begun: Set[datetime] = set()

        def look(self, method: str = "") -> None:
            sign = pool.other_config().get(AT_WORK)
            if sign is not None and "runs" in sign:  # as an earlier version writes it
                short = {key: value for key, value in json.loads(sign).items() if key != "runs"}
                pool.call("pool.remove_from_other_config", ref, AT_WORK)
                pool.call("pool.add_to_other_config", ref, AT_WORK, json.dumps(short))
            Observer.look(self)
            with reading(pool.surroundings()) as session:  # who comes now
                seen = Watch(session, pool.place).seen
                self.begun |= {run.since for run in seen.runs.values()} if seen is not None else set()

    with reading(pool.surroundings()) as session:
        observer = Forgetful(session, pool)
        tick(pool, observer)
    assert observer.begun == {START + timedelta(minutes=15)}
    assert observer.told[0] == "a pass is at work"
    assert "4 of 4 VMs have their snapshot; " in observer.told[-1]


def test_the_calls_of_a_pass_are_the_same_with_and_without_somebody_who_watches(tmp_path: Path) -> None:
    made: List[List[str]] = []
    for number, watches in enumerate((False, True)):
        (tmp_path / str(number)).mkdir()
        with TestPool(tmp_path / str(number)) as pool:
            several(pool)
            pool.at(10, 15)
            pool.tick()
            pool.at(11, 15)
            if watches:
                with observed(pool) as observer:
                    made.append(tick(pool, observer)[1])
                assert pool.sessions() == 0
            else:
                made.append(tick(pool, None)[1])
    without, with_one = ([call for call in calls if call != "event.from"] for calls in made)
    assert sorted(without) == sorted(with_one) and len(without) > 30
    # Its waits follow the clock, which goes on while somebody looks.
    assert abs(len(made[0]) - len(made[1])) <= 3


def test_it_reads_little_and_with_a_read_only_role_as_much_and_writes_nothing(pool: TestPool) -> None:
    several(pool)
    pool.at(10, 15)
    path = pool.socket + ".reader"
    vms_told: List[int] = []

    def count(method: str, body: bytes) -> bytes:
        vms_told.extend([body.count(b"<name>is_a_snapshot</name>")] if method == "event.from" else [])
        return body

    front = Front(path, pool.socket, rewrite=count)
    pool.tick()
    pool.at(11, 15)
    with reading(pool.surroundings()) as session:
        xapi = Xapi("unix:" + path)
        xapi.adopt(str(pool.call("simulator.create_session", "somebody", "read-only")))
        observer = Observer(session._replace(xapi=xapi), pool)
        tick(pool, observer)
        xapi.close()
    assert "4 of 4 VMs have their snapshot; " in observer.told[-1]
    assert all(call in ("event.from", "message.get") or ".get_" in call for call in front.calls), set(front.calls)
    # xapi tells of VMs and snapshots that change, and not of those that are there.
    assert vms_told[:3] == [0, 0, 0] and sum(vms_told) < 60, vms_told
    assert front.calls.count("VM.get_all_records_where") <= 4 and "VM.get_all_records" not in front.calls


def hang(pool: TestPool, vm: str) -> None:
    """The storage hangs in the snapshot of a VM's disk."""
    disk = pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", vm)[0])
    rule = {"method": "VDI.snapshot", "object": disk, "when": "before", "action": "hang", "count": "0"}
    pool.call("simulator.add_fault", rule)


def test_a_storage_that_hangs_is_seen_and_the_others_go_on(pool: TestPool) -> None:
    there = several(pool)
    pool.settings = pool.settings._replace(snapshot_limit=1200)
    hang(pool, there["db1"])
    pool.at(10, 15)
    hanging = []

    class Patient(Observer):
        def look(self, method: str = "") -> None:
            Observer.look(self)
            hanging.extend([self.picture()] if "Longer than expected: db1" in self.picture() else [])

    with reading(pool.surroundings()) as session:
        observer = Patient(session, pool)
        report, _ = tick(pool, observer)
    shown = "\n".join(observer.pictures + hanging)
    assert report.status == 1 and any("web: snapshot taken" in line for line in observer.told)
    assert not re.search("^Nothing is seen|died", shown, re.MULTILINE)
    assert hanging and re.search(r"^slow +db1 +\d+ min.* of 2 s +\d", hanging[-1], re.MULTILINE)


def test_a_pass_that_died_is_told_and_what_is_printed_mends_it(tmp_path: Path) -> None:
    with TestPool(tmp_path, clock="real") as pool:
        a_pass_dies(pool)


def a_pass_dies(pool: TestPool) -> None:
    vms = two_vms(pool)
    for vm in vms:
        hang(pool, vm)
    process = start(pool)
    wait_for_task(pool, "Async.VM.snapshot")
    process.kill()
    process.communicate()
    pool.call("simulator.clear_faults")
    with observed(pool) as observer:
        assert "died" not in observer.picture()
        pool.simulator.set_time(pool.simulator.now() + timedelta(seconds=30))
        observer.look()
        said = " ".join(observer.picture().split())
        assert re.match(
            "The pass that began 3. s ago has died. The next one at 2026-03-02 10:15 UTC goes on with ", said
        )
    pool.call("simulator.restart", "kill", 0.0)  # ends what hangs
    with reading(pool.surroundings()) as session:
        afar = Observer(session, pool)
        afar.watch = Watch(session, pool.place._replace(xapi="https://pool.example"))  # the lock is not seen
        pool.simulator.set_time(pool.simulator.now() + timedelta(minutes=6))
        afar.look()
        quiet = " ".join(afar.picture().split())
        assert re.match(
            "A pass is at work for 6 min .*: vmss status. If it has died, the next one at 2026-03-02 10:1", quiet
        )
        (remedy,) = re.findall("to go on now: (vmss run)", said)
        assert remedy == "vmss run" and start(pool).wait(60) == 0
        assert [len(pool.snapshots(vm)) for vm in vms] == [1, 1]
        afar.look()
        assert afar.picture().startswith("No pass is at work.")
        assert re.match("the pass has ended after .*: 2 of 2 VMs have their snapshot; policy succeeded", afar.told[-1])


# The command


def environment(pool: TestPool) -> Dict[str, str]:
    Path(pool.place.config).write_text("[vmss]\ntimezone = UTC\nlogin_limit = 60\n")
    place = pool.place
    return {
        "VMSS_XAPI": place.xapi,
        "VMSS_CONFIG": place.config,
        "VMSS_LOCK_DIR": place.lock_dir,
        "VMSS_LOG": place.log,
    }


def test_without_a_pass_it_says_when_the_next_one_comes(pool: TestPool) -> None:
    several(pool)
    for words in (["--once"], ["--until-done"]):
        ended = vmss(pool.folder, "watch", *words, **environment(pool))
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.startswith("No pass is at work. Next: hourly and nightly, 2026-03-02 10:15 UTC (in 14 min ")
    ended = vmss(pool.folder, "watch", "--once", "--json", **environment(pool))
    (told,) = [json.loads(line) for line in ended.out.splitlines()]
    assert told["at_work"] is False and told["next"] == "2026-03-02T10:15:00Z"
    assert told["next_schedules"] == ["hourly", "nightly"] and pool.sessions() == 0


def test_where_nothing_will_run_it_says_so(pool: TestPool) -> None:
    ended = vmss(pool.folder, "watch", "--once", **environment(pool))
    assert ended.out == "No pass is at work, and no schedule will run: vmss list\n"


def test_into_a_pipe_goes_a_line_for_each_change_or_an_object(tmp_path: Path) -> None:
    with TestPool(tmp_path, clock="real", speed=5.0) as pool:
        several(pool)
        for policy in pool.call("VMSS.get_all"):
            pool.call("VMSS.set_last_run_time", policy, "20260302T01:00:00Z")
        path = pool.socket + ".front"
        front_calls: List[str] = []

        def once(method: str) -> None:
            front_calls.append(method)
            if front_calls.count("Async.VM.snapshot") == 1 and method == "Async.VM.snapshot":
                started.extend(popen(pool, words) for words in (["--until-done"], ["--until-done", "--json"]))
                for process in started:  # both have seen the pass before it goes on
                    assert process.stdout is not None
                    firsts.append(process.stdout.readline())

        started: List[subprocess.Popen[str]] = []
        firsts: List[str] = []
        Front(path, pool.socket, before=once)
        run(Request(kicked=True), pool.surroundings(clock=None, place=pool.place._replace(xapi="unix:" + path)))
        text, objects = (process.communicate(timeout=60)[0] for process in started)
        assert [process.returncode for process in started] == [0, 0]
        lines = (firsts[0] + text).splitlines()
        assert all(re.match(r"2026-03-02T\d\d:\d\d:\d\dZ ", line) for line in lines[:-1])
        assert " a pass is at work: " in lines[0] and " the pass has ended after " in lines[-2]
        assert lines[-1].startswith("No pass is at work. Next: ")
        told = [json.loads(line) for line in (firsts[1] + objects).splitlines()]
        assert told[0]["at_work"] and not told[-1]["at_work"]
        assert {each["name"]: each["vms"] for each in told[0]["schedules"]} == {"nightly": 3, "hourly": 1}
        assert pool.sessions() == 0


def popen(pool: TestPool, words: List[str], **streams: Any) -> "subprocess.Popen[str]":
    streams = streams or {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(
        [sys.executable, "-m", "vmss", "watch"] + words,
        env=dict(os.environ, PYTHONPATH=str(ROOT), TERM="xterm", **environment(pool)),
        stdin=subprocess.DEVNULL,
        universal_newlines=True,
        **streams,
    )


def test_on_a_terminal_it_is_drawn_in_its_place_until_somebody_ends_it(tmp_path: Path) -> None:
    with TestPool(tmp_path, clock="real") as pool:
        vm = pool.vm(HOSTILE.replace("\x1b", ""), [pool.sr()])
        pool.policy([vm], "nightly")
        (ref,) = pool.call("pool.get_all")
        pool.call("pool.add_to_other_config", ref, AT_WORK, sign_of(pool))
        screen = Screen(60, 20, "watch", "--color", "never", **environment(pool))
        screen.read_until("\x1b[J")
        again = screen.read_until("\x1b[J")  # one second later
        assert re.match("\x1b\\[[0-9]+A\r\x1b\\[KA pass is at work for ", again), again
        assert set(re.findall("\x1b\\[[0-9]*[A-Za-z]", screen.shown)) <= {"\x1b[K", "\x1b[J"} | set(
            re.findall("\x1b\\[[0-9]+A", screen.shown)
        )
        assert "\u202e" not in screen.shown and "\x9b" not in screen.shown
        screen.resize(100, 30)
        while re.match("\x1b\\[[0-9]+A", again):
            again = screen.read_until("\x1b[J")
        assert again.startswith("\r")  # what stood there has moved to nobody knows where
        assert screen.end(signal.SIGINT) == 0 and pool.sessions() == 0


def sign_of(pool: TestPool) -> str:
    """The sign of a pass with one run."""
    uuid = pool.uuid("VMSS", pool.call("VMSS.get_all")[0])
    return json.dumps({"pid": 1, "started": "", "since": "20260302T10:00:00Z", "runs": {uuid: "20260302T09:15:00Z"}})


def test_a_session_that_is_lost_is_asked_for_again_for_a_while(tmp_path: Path) -> None:
    with TestPool(tmp_path, clock="real") as pool:
        several(pool)
        screen = Screen(80, 24, "watch", **environment(pool))
        screen.read_until("No pass is at work")
        pool.call("simulator.restart", "kill", 0.0)
        screen.read_until("; asked again in 2 s")
        screen.read_until("No pass is at work")
        assert screen.end(signal.SIGTERM) == 0 and pool.sessions() == 0


def test_it_reads_over_https(tmp_path: Path, tls: Dict[str, str]) -> None:  # noqa: F811
    (tmp_path / "conf").write_text("[vmss]\nverify_tls = no\nlogin_limit = 0\n")
    ended = vmss(tmp_path, "watch", "--once", **tls)
    assert (ended.status, ended.err) == (0, "") and ended.out.startswith("No pass is at work, and no schedule")
