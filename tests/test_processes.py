"""Real processes against a real `vmss simulator`: killed at random moments, started all at once, stuck.

A normal run does a few rounds. VMSS_TEST_EXAMPLES=50 does all of them, 200 that are killed and 100 that race:

    VMSS_TEST_EXAMPLES=50 python -m pytest -s tests/test_processes.py

Each prints its seed; VMSS_TEST_SEED=N draws the same moments again. After every round the invariants (numbered as
in the design) are checked from what the API answers.
"""

import fcntl
import json
import os
import queue
import random
import re
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Set, Tuple

import pytest

from tests.front import Front, Once, lose
from tests.pool import START, TestPool
from vmss.core.datetimes import format_datetime
from vmss.core.records import NULL
from vmss.edges.settings import Place
from vmss.edges.xapi import Refused, Unanswered, Xapi

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = int(os.environ.get("VMSS_TEST_EXAMPLES", "1"))
KILLED, RACES = 4 * EXAMPLES, 2 * EXAMPLES
SEED = int(os.environ.get("VMSS_TEST_SEED") or random.SystemRandom().randrange(1000000))

# Whatever is waited for comes long before; if it does not come, that is the failure.
TIMEOUT_S = 60.0
SPEED = 20
HOUR = timedelta(hours=1)
TAKEN = "VMSS_SNAPSHOT_SUCCEEDED"
LOCKED = "VMSS_SNAPSHOT_LOCK_FAILED"
FAILED = "VMSS_SNAPSHOT_FAILED"

# Loads all that a pass needs, says that it is ready, and waits until all may go.
CONTENDER = """
import fcntl, json, os, sys, time
import vmss
from vmss import plugin
from vmss.cli import main as commands
from vmss.passes import run, serve
ready, gate, name, words = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
os.write(os.open(ready, os.O_RDWR), b".")
with open(gate) as file:
    fcntl.flock(file, fcntl.LOCK_SH)
    offset = json.load(file)[name]
time.sleep(offset)
if name == "plugin":
    sys.exit(plugin.main(["vmss"] + words))
sys.exit(commands.main(words) if words else vmss.trigger_schedule_snapshots())
"""


class Ended(NamedTuple):
    """How a process, or a call of the plugin, ended; a failure of the plugin has status 4 if it is of the lock."""

    status: int
    err: str


class Seen(NamedTuple):
    """What the API tells at one moment: the scheduled snapshots of each VM, as (time, reference), oldest first;
    for each policy its last run, and the names of its alerts since the slot."""

    snapshots: Dict[str, List[Tuple[str, str]]]
    last_run: Dict[str, datetime]
    alerts: Dict[str, List[str]]


class ProcessPool(TestPool):
    """A pool in a simulator that is a process of its own, on a fast clock. Two SRs, two policies, both hourly at
    minute 15: one of disk snapshots, which keeps 1 of each of two VMs; one of checkpoints, which keeps 2."""

    speed = SPEED

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a_pool"
        self.folder.mkdir()
        self.socket = str(self.folder / "xapi.sock")
        self.place = Place(
            xapi="unix:" + self.socket,
            log=str(self.folder / "VMSSlog"),
            lock_dir=str(self.folder / "lock"),
            config=str(self.folder / "vmss.conf"),
        )
        self.xapi = Xapi(self.place.xapi)
        self.slot = START.replace(minute=15) - HOUR
        self.vms: List[str] = []
        self.policies: List[str] = []
        self.started: List[subprocess.Popen[str]] = []
        self.lost_sessions = 0  # that nobody knows of any more; xapi closes each after a day
        self.told_to_stop = False  # the run by hand of this round
        self.cut_off = False  # the same, or killed: then it says what it left, or the next pass does

    def __enter__(self) -> "ProcessPool":
        self.configure()
        (self.folder / "plugins").mkdir()
        words = [
            sys.executable,
            "-m",
            "vmss",
            "simulator",
            "--socket",
            self.socket,
            "--hosts",
            "1",
            "--srs",
            "0",
            "--vms",
            "0",
            "--now",
            (START - HOUR).isoformat(),
            "--speed",
            str(self.speed),
            "--plugins",
            str(self.folder / "plugins"),
        ]
        self.process = subprocess.Popen(words, env=self.environment(), stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith(b"ready: ")
        self.xapi.login("root", "")
        self.host = str(self.call("host.get_all")[0])
        self.pool = str(self.call("pool.get_all")[0])
        self.lock = Path(self.place.lock_dir) / (self.uuid("pool", self.pool) + ".lock")
        self.build()
        return self

    def __exit__(self, *error: Any) -> None:
        self.xapi.close()
        for process in self.started:  # that a test which failed has left
            process.kill()
        self.process.terminate()
        self.process.communicate(timeout=TIMEOUT_S)

    def answer(self, method: str, params: Sequence[Any]) -> Any:
        return self.xapi.call(method, *params)

    def build(self) -> None:
        self.srs = [self.sr("a"), self.sr("b")]
        self.call("pool.set_suspend_image_SR", self.pool, self.srs[1])
        self.vms = [self.vm("one", self.srs), self.vm("two", self.srs[:1]), self.vm("three", self.srs[1:], True)]
        self.policies = [
            self.policy(self.vms[:2], name="disks", retained_snapshots="1"),
            self.policy(self.vms[2:], name="memory", retained_snapshots="2", type="checkpoint"),
        ]
        self.kept = {self.vms[0]: 1, self.vms[1]: 1, self.vms[2]: 2}
        self.foreign = self.call("VM.snapshot", self.vms[0], "somebody's own")
        self.base = self.disks_of(self.vms)

    def configure(self, **settings: int) -> None:
        lines = ["[vmss]", "login_limit = 0", "timezone = UTC"] + ["%s = %d" % item for item in settings.items()]
        Path(self.place.config).write_text("\n".join(lines) + "\n")

    def environment(self) -> Dict[str, str]:
        return dict(
            os.environ,
            PYTHONPATH=str(ROOT),
            VMSS_LOG=self.place.log,
            VMSS_LOCK_DIR=self.place.lock_dir,
            VMSS_CONFIG=self.place.config,
            VMSS_XAPI=self.place.xapi,
        )

    def start(self, *words: str) -> "subprocess.Popen[str]":
        command = [sys.executable] + (list(words) or ["-m", "vmss", "run"])
        process = subprocess.Popen(
            command,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        self.started = [earlier for earlier in self.started if earlier.poll() is None] + [process]
        return process

    def whole_pass(self) -> Ended:
        return ended(self.start())

    def next_slot(self) -> None:
        """It is the very second of the next slot."""
        self.slot += HOUR
        self.call("simulator.set_time", format_datetime(self.slot))

    # What the API tells

    def see(self) -> Seen:
        # In this order: of what is told of one moment, what comes later in a pass must not be read later.
        last_run = {policy: self.last_run(policy) for policy in self.policies}
        alerts = {policy: self.names_since(policy) for policy in self.policies}
        snapshots: Dict[str, List[Tuple[str, str]]] = {vm: [] for vm in self.vms}
        for ref, record in self.call("VM.get_all_records").items():
            if record["is_vmss_snapshot"]:
                snapshots[record["snapshot_of"]].append((str(record["snapshot_time"]), ref))
        return Seen({vm: sorted(found) for vm, found in snapshots.items()}, last_run, alerts)

    def names_since(self, policy: str) -> List[str]:
        since = format_datetime(self.slot - timedelta(seconds=1))
        found = self.call("message.get", "VMSS", self.uuid("VMSS", policy), since)
        return sorted(str(record["name"]) for record in found.values())

    def disks_of(self, vms: Sequence[str]) -> Set[str]:
        return {
            str(record["VDI"])
            for record in self.call("VBD.get_all_records").values()
            if record["VM"] in vms and record["type"] == "Disk"
        }

    def pending(self) -> List[str]:
        return [name for name in self.tasks() if name.startswith("Async.V")]

    def journal(self) -> List[str]:
        return [key for key in self.other_config() if key.startswith("vmss-destroying:")]

    # What the machine tells

    def lock_is_free(self) -> bool:
        try:
            with open(str(self.lock)) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False
        return True

    def in_lock(self) -> Dict[str, Any]:
        text = self.lock.read_text() if self.lock.exists() else ""
        return dict(json.loads(text)) if text else {}

    def written_down(self) -> List[str]:
        """The sessions that a pass has left for the next one to close."""
        path = self.lock.with_suffix(".sessions")
        return [str(entry["session"]) for entry in json.loads(path.read_text())["sessions"]] if path.exists() else []

    def logins(self) -> List[str]:
        """The notes of sessions that are open, or whose process died."""
        return [path.name for path in Path(self.place.lock_dir).glob("login-*")]

    def log_by_process(self, start: int) -> Dict[int, List[str]]:
        """The lines of the log from this one on, by the process that wrote them."""
        lines: Dict[int, List[str]] = {}
        for line in Path(self.place.log).read_text(encoding="utf-8").splitlines()[start:]:
            match = re.match(r".* VMSS: \[(\d+)\] (.*)", line)
            assert match, line
            lines.setdefault(int(match.group(1)), []).append(match.group(2))
        return lines

    # The invariants

    def check_at_any_moment(self, before: Seen, seen: Seen) -> None:
        """2, 4, 9 and 10, which hold in the middle of a pass too."""
        for vm, kept in self.kept.items():
            old, now = before.snapshots[vm], seen.snapshots[vm]
            left = [item for item in now if item in old]
            new = [item for item in now if item not in old]
            assert left == old[len(old) - len(left) :], "not the oldest first"
            assert left == old or len(now) >= kept, "fewer than are to be kept"
            assert left == old or new, "one is gone before the new one is there"
            assert len(new) <= 1, "doubled"
        assert self.foreign in self.call("VM.get_snapshots", self.vms[0])
        assert self.base <= set(self.call("VDI.get_all")), "a disk of a VM is gone"
        for policy in self.policies:
            assert seen.last_run[policy] < self.slot or TAKEN in seen.alerts[policy], "last-run-time before the alert"
            may_be = {TAKEN, LOCKED, FAILED} if self.cut_off else {TAKEN, LOCKED}
            assert set(seen.alerts[policy]) <= may_be, seen.alerts[policy]

    def check_served(self, before: Seen, seen: Seen) -> None:
        """1 and 2: one new snapshot for the slot, as many kept as are to be, nothing else deleted."""
        self.check_at_any_moment(before, seen)
        for vm, kept in self.kept.items():
            old, now = before.snapshots[vm], seen.snapshots[vm]
            assert len([item for item in now if item not in old]) == 1, "no snapshot for the slot"
            # Told to stop between a snapshot and its deletions, a run by hand leaves these to the next run.
            most = min(kept, len(old) + 1) + self.told_to_stop
            assert min(kept, len(old) + 1) <= len(now) <= most
            assert format_datetime(self.slot) <= now[-1][0] < format_datetime(self.slot + HOUR)
        for policy in self.policies:
            assert self.slot <= seen.last_run[policy] < self.slot + HOUR

    def check_nothing_left(self) -> None:
        """3 and 8: no disk without its snapshot, no session, task, record or lock."""
        records = self.call("VM.get_all_records")
        snapshots = [ref for ref, record in records.items() if record["is_a_snapshot"]]
        memory = {str(record["suspend_VDI"]) for record in records.values()} - {NULL}
        assert set(self.snapshot_vdis()) == self.disks_of(snapshots) | memory
        assert self.written_down() == [], "sessions to close: %s, tasks: %s" % (self.written_down(), self.tasks())
        sessions = self.sessions()
        assert sessions == self.lost_sessions, "sessions: %d, of which %d are lost" % (sessions, self.lost_sessions)
        assert self.pending() == [] and self.journal() == []
        assert self.lock_is_free() and self.in_lock() == {} and self.logins() == []


def ended(process: "subprocess.Popen[str]") -> Ended:
    err = process.communicate(timeout=TIMEOUT_S)[1]
    assert "Traceback" not in err, err
    return Ended(process.returncode, err)


def until(condition: Callable[[], Any]) -> None:
    """Ask until something is so."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[ProcessPool]:
    with ProcessPool(tmp_path) as pool:
        yield pool


# Killed


class Logins:
    """The sessions that were opened so far."""

    def __init__(self, pool: ProcessPool) -> None:
        self.pool = pool
        self.before = self.count()

    def count(self) -> int:
        return int(self.pool.call("simulator.get_counts")["session.login_with_password"]["calls"])

    def wait(self) -> None:
        until(lambda: self.count() > self.before)


def undisturbed(pool: ProcessPool) -> float:
    """Passes until snapshots expire; the seconds that the last one took from its login on."""
    for _ in range(3):
        pool.next_slot()
        before, logins = pool.see(), Logins(pool)
        process = pool.start()
        logins.wait()
        began = time.monotonic()
        assert ended(process) == Ended(0, "")
        took = time.monotonic() - began
        pool.check_served(before, pool.see())
        pool.check_nothing_left()
    return took


# Starts a pass and sends a signal to its process at some moment.
Strike = Callable[[Logins], "subprocess.Popen[str]"]


def at_some_time(pool: ProcessPool, number: signal.Signals, chance: random.Random, took: float) -> Strike:
    """At a random time within the seconds that a pass takes, or before its login; not by SIGINT, for which an
    interpreter that is still starting prints a traceback of its own."""

    def strike(logins: Logins) -> "subprocess.Popen[str]":
        process = pool.start()
        met = chance.random() < 0.9 or number == signal.SIGINT
        if met:
            logins.wait()
        time.sleep(chance.uniform(0, took if met else 0.2))
        process.send_signal(number)
        return process

    return strike


def disturb(pool: ProcessPool, number: signal.Signals, strike: Strike) -> str:
    """A pass that is struck by a signal, and then one clean pass. Return what kind of round it was."""
    pool.next_slot()
    before, logins = pool.see(), Logins(pool)
    process = strike(logins)
    err = process.communicate(timeout=TIMEOUT_S)[1]
    assert "Traceback" not in err, err
    status = process.returncode
    logged_in = logins.count() > logins.before
    killed = status < 0 or not logged_in
    assert pool.lock_is_free()
    middle = pool.see()
    pool.check_at_any_moment(before, middle)
    begun = middle.snapshots != before.snapshots or bool(pool.in_lock())
    lost = False
    if number == signal.SIGKILL:
        # Killed in the instant after its login, it has written its session down nowhere: xapi closes it after a day.
        lost = pool.sessions() > pool.lost_sessions and not pool.in_lock() and not pool.logins() and middle == before
        pool.lost_sessions += lost
    elif logged_in:
        # Told to stop, it has cleared away what is its own, whatever it leaves to be done.
        assert status in (0, 1), (status, err)
        assert err.startswith("stopped before the end") if status else not err, err
        assert pool.sessions() == pool.lost_sessions and pool.pending() == []
    clean = pool.whole_pass()
    assert clean == Ended(0, ""), (clean, pool.log()[-40:])
    after = pool.see()
    pool.check_served(before, after)
    for policy in pool.policies:
        # 9 and 10: a crash between the alert and last-run-time repeats the alert.
        again = killed and TAKEN in middle.alerts[policy] and middle.last_run[policy] < pool.slot
        assert after.alerts[policy] in ([TAKEN], [TAKEN] * 2 if again else [TAKEN])
    unsettled = bool(pool.written_down())
    if unsettled:
        # 8: operations of the killed pass outlived the clean one; the next closes their session.
        assert killed
        pool.call("simulator.set_time", format_datetime(pool.slot + HOUR / 2))
        clean = pool.whole_pass()
        assert clean == Ended(0, "") and pool.see() == after, clean
    pool.check_nothing_left()
    served = all(last >= pool.slot for last in middle.last_run.values())
    kind = "login" if lost else "served" if served else "unsettled" if unsettled else "begun" if begun else "not served"
    return "%s %s" % (number.name, kind)


def test_killed_or_told_to_stop_at_any_moment_the_next_pass_makes_everything_whole(processes: ProcessPool) -> None:
    print("VMSS_TEST_SEED=%d" % SEED)
    chance = random.Random(SEED)
    took = undisturbed(processes)
    # Some disks are slow, so that an operation outlives the killed process and meets the next one.
    for method in ("VDI.snapshot", "VDI.destroy"):
        rule = {"method": method, "action": "delay", "seconds": "15", "count": "0", "probability": "0.2"}
        processes.call("simulator.add_fault", dict(rule, seed=str(SEED)))
    kinds: Counter[str] = Counter()
    for count in range(KILLED):
        number = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT)[count % 4]
        try:
            kinds[disturb(processes, number, at_some_time(processes, number, chance, took))] += 1
        except BaseException:
            print("round %d, %s" % (count, number.name))
            raise
    print("%d rounds over %.2f s: %s" % (KILLED, took, dict(sorted(kinds.items()))))
    if KILLED >= 40:
        assert sum(kinds[kind] for kind in kinds if not kind.endswith(" served")) > KILLED / 4, "too late to matter"


def test_a_killed_passs_snapshot_that_comes_when_the_next_has_read_the_clock_is_not_doubled(
    processes: ProcessPool,
) -> None:
    pool = processes
    pool.next_slot()
    before = pool.see()
    pool.call("simulator.add_fault", {"method": "VDI.snapshot", "action": "delay", "seconds": "45"})
    process = pool.start()
    until(lambda: pool.call("simulator.get_faults")[0]["struck"] == "1")
    process.kill()
    process.communicate(timeout=TIMEOUT_S)

    def come() -> None:
        pool.call("simulator.set_time", format_datetime(pool.slot + timedelta(seconds=50)))
        until(lambda: any(pool.see().snapshots.values()))

    direct, path = pool.place, str(pool.folder / "front.sock")
    Front(path, pool.socket, before=Once("VM.get_all_records_where", come))
    pool.place = direct._replace(xapi="unix:" + path)
    assert pool.whole_pass() == Ended(0, "")
    pool.place = direct
    pool.check_served(before, pool.see())
    # The first found its operation under way, and so left its session to the second.
    pool.call("simulator.set_time", format_datetime(pool.slot + HOUR / 2))
    assert pool.whole_pass() == Ended(0, "")
    pool.check_nothing_left()


def test_a_checkpoint_whose_memory_a_killed_pass_still_destroys_is_no_failure_of_the_next(
    processes: ProcessPool,
) -> None:
    pool = processes
    pool.call("VMSS.set_retained_snapshots", pool.policies[1], "1")
    pool.kept[pool.vms[2]] = 1
    pool.next_slot()
    assert pool.whole_pass() == Ended(0, "")
    pool.next_slot()
    before = pool.see()
    memory = pool.call("VM.get_suspend_VDI", before.snapshots[pool.vms[2]][0][1])
    # Long enough to outlive the start of the next pass: 2 s.
    rule = {"method": "VDI.destroy", "object": memory, "action": "delay", "seconds": str(2 * SPEED)}
    pool.call("simulator.add_fault", rule)
    process = pool.start()
    until(lambda: pool.call("simulator.get_faults")[0]["struck"] == "1")
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    assert pool.whole_pass() == Ended(0, "")
    pool.check_served(before, pool.see())
    pool.call("simulator.set_time", format_datetime(pool.slot + HOUR / 2))
    assert pool.whole_pass() == Ended(0, "")
    pool.check_nothing_left()


@pytest.mark.parametrize(
    "method, number", [("session.login_with_password", signal.SIGTERM), ("VMSS.get_all_records", signal.SIGINT)]
)
def test_told_to_stop_before_it_begins_the_slot_of_a_policy_that_never_ran_is_not_lost(
    processes: ProcessPool, method: str, number: signal.Signals
) -> None:
    processes.next_slot()
    before = processes.see()
    direct, path = processes.place, str(processes.folder / "front.sock")
    started: List[subprocess.Popen[str]] = []
    Front(path, processes.socket, after=Once(method, lambda: started[0].send_signal(number)))
    processes.place = direct._replace(xapi="unix:" + path)
    started.append(processes.start())
    stopped = ended(started[0])
    processes.place = direct
    assert stopped.status == 1 and stopped.err.startswith("stopped before the end"), stopped
    assert processes.see() == before
    # Past the only tick in which a policy that never ran is due by itself.
    processes.call("simulator.set_time", format_datetime(processes.slot + HOUR / 2))
    assert processes.whole_pass() == Ended(0, "")
    processes.check_served(before, processes.see())
    processes.check_nothing_left()


@pytest.mark.parametrize("method", ["pool.get_all_records", "VMSS.get_all_records"])
def test_the_session_of_a_pass_that_is_killed_before_or_just_after_it_has_the_lock_is_closed_by_the_next(
    processes: ProcessPool, method: str
) -> None:
    processes.next_slot()
    before = processes.see()
    direct, path = processes.place, str(processes.folder / "front.sock")
    started: List[subprocess.Popen[str]] = []

    def kill() -> None:
        started[0].kill()
        lose()

    Front(path, processes.socket, before=Once(method, kill))
    processes.place = direct._replace(xapi="unix:" + path)
    started.append(processes.start())
    started[0].communicate(timeout=TIMEOUT_S)
    assert processes.sessions() == 1 and len(processes.logins()) == 1
    # A rehearsal leaves it as it is, and has none of its own.
    rehearsal = ended(processes.start("-m", "vmss", "run", "--dry-run"))
    assert rehearsal.status == 0
    assert processes.sessions() == 1 and len(processes.logins()) == 1
    assert processes.whole_pass() == Ended(0, "")
    processes.place = direct
    processes.check_served(before, processes.see())
    processes.check_nothing_left()


def in_background(pool: ProcessPool) -> None:
    """Let the plugin start a run of the first policy, as xapi does."""
    arguments = {"vmss_uuid": pool.uuid("VMSS", pool.policies[0])}
    call = xmlrpc.client.dumps((pool.xapi.session, arguments), "snapshot_now")
    code = "import sys; from vmss import plugin; sys.exit(plugin.main(['vmss'] + sys.argv[1:]))"
    process = pool.start("-c", code, call)
    out, err = process.communicate(timeout=TIMEOUT_S)
    ((answer,), _) = xmlrpc.client.loads(out)
    assert (answer, err) == ({"Status": "Success", "Value": "started"}, "")


def test_a_snapshot_now_that_is_killed_at_any_moment_is_made_whole_by_the_next_tick(processes: ProcessPool) -> None:
    print("VMSS_TEST_SEED=%d" % SEED)
    pool, chance = processes, random.Random(SEED)
    took = undisturbed(pool)
    kinds: Counter[str] = Counter()
    for count in range(KILLED):
        pool.next_slot()
        before = pool.see()
        in_background(pool)
        # It holds the lock until it has ended.
        holder = pool.in_lock().get("pid")
        time.sleep(chance.uniform(0, took))
        number = (signal.SIGKILL, signal.SIGTERM)[count % 2]
        if holder is not None and not pool.lock_is_free():
            os.kill(int(holder), number)
        pool.told_to_stop, pool.cut_off = number == signal.SIGTERM, True
        until(pool.lock_is_free)
        middle = pool.see()
        pool.check_at_any_moment(before, middle)
        assert pool.whole_pass() == Ended(0, "")
        after = pool.see()
        pool.check_served(before, after)
        assert set(after.alerts[pool.policies[1]]) == {TAKEN}
        if pool.written_down():
            # What it was killed in the middle of outlived the tick, which left its session to the next one.
            pool.call("simulator.set_time", format_datetime(pool.slot + HOUR / 2))
            assert pool.whole_pass() == Ended(0, "")
            assert pool.see() == after
        pool.check_nothing_left()
        done = middle.last_run[pool.policies[0]] >= pool.slot
        kinds["%s %s" % (number.name, "served" if done else "begun" if middle != before else "not begun")] += 1
    print("%d rounds over %.2f s: %s" % (KILLED, took, dict(sorted(kinds.items()))))


# All at once


class Race:
    """Two ticks, a snapshot_now and a run by hand, which all wait at a gate; the first snapshot of the winner takes
    until it is told to go on."""

    def __init__(self, pool: ProcessPool, by_hand: Sequence[str]) -> None:
        self.pool = pool
        self.ended: queue.Queue[Tuple[str, Ended]] = queue.Queue()
        self.pids: Dict[str, int] = {}
        self.gate, ready = pool.folder / "gate", pool.folder / "ready"
        contender = pool.folder / "contender.py"
        contender.write_text(CONTENDER)
        if not ready.exists():
            os.mkfifo(str(ready))
        arguments = [str(contender), str(ready), str(self.gate)]
        plugin = pool.folder / "plugins" / "vmss"
        names = ("PYTHONPATH", "VMSS_LOG", "VMSS_LOCK_DIR", "VMSS_CONFIG")
        plugin.write_text(
            '#!/bin/sh\n%s exec %s plugin "$@"\n'
            % (
                " ".join("%s=%s" % (name, shlex.quote(pool.environment()[name])) for name in names),
                " ".join(map(shlex.quote, [sys.executable] + arguments)),
            )
        )
        plugin.chmod(0o755)
        self.gate.write_text("")
        self.held = open(str(self.gate), "r+")  # noqa: SIM115, it is given back in `go`
        fcntl.flock(self.held, fcntl.LOCK_EX)
        self.names = ["tick 1", "tick 2", "by hand", "plugin"]
        with open(os.open(str(ready), os.O_RDWR), "rb", 0) as signs:
            for name, words in (("tick 1", ()), ("tick 2", ()), ("by hand", ["run"] + list(by_hand))):
                process = pool.start(*(arguments + [name] + list(words)))
                self.pids[name] = process.pid
                self.collect(name, partial(ended, process))
            self.collect("plugin", self.snapshot_now)
            for _ in self.names:
                assert select.select([signs], [], [], TIMEOUT_S)[0], "somebody does not come to the gate"
                signs.read(1)

    def collect(self, name: str, work: Callable[[], Ended]) -> None:
        def collector() -> None:
            try:
                self.ended.put((name, work()))
            except BaseException as error:  # noqa: BLE001 - it is told where somebody waits for it
                self.ended.put((name, Ended(-1000, repr(error))))

        threading.Thread(target=collector, daemon=True).start()

    def snapshot_now(self) -> Ended:
        xapi = Xapi(self.pool.place.xapi)
        xapi.login("root", "")
        try:
            uuid = self.pool.uuid("VMSS", self.pool.policies[0])
            arguments = {"vmss_uuid": uuid, "wait": "true"}
            return Ended(0, str(xapi.call("host.call_plugin", self.pool.host, "vmss", "snapshot_now", arguments)))
        except Refused as refused:
            return Ended(4 if refused.code == LOCKED else -1000, " ".join(refused.error))
        finally:
            xapi.logout()
            xapi.close()

    def go(self, offsets: Dict[str, float]) -> Tuple[str, Dict[str, Ended]]:
        """Open the gate; return who won, and how each of them ended."""
        for method in ("VM.snapshot", "VM.checkpoint"):
            self.pool.call("simulator.add_fault", {"method": method, "action": "delay", "seconds": "600"})
        json.dump(offsets, self.held)
        self.held.close()
        until(lambda: any(rule["struck"] == "1" for rule in self.pool.call("simulator.get_faults")))
        self.holder = self.pool.in_lock()
        assert not self.pool.lock_is_free()
        winner = next((name for name, pid in self.pids.items() if pid == self.holder["pid"]), "plugin")
        endings: Dict[str, Ended] = {}
        # The ticks are put off at once; what was asked for by hand may have been handed over to the winner.
        while not {"tick 1", "tick 2"} - {winner} <= set(endings):
            endings.update([self.ended.get(timeout=TIMEOUT_S)])
        self.pool.call("simulator.clear_faults")
        self.pool.call("simulator.set_time", format_datetime(self.pool.slot + timedelta(minutes=11)))
        while len(endings) < len(self.names):
            endings.update([self.ended.get(timeout=TIMEOUT_S)])
        return winner, endings


def race(pool: ProcessPool, chance: random.Random, count: int) -> str:
    """One race; return who won it."""
    pool.next_slot()
    before, lines = pool.see(), len(pool.log())
    first, second = (pool.uuid("VMSS", policy) for policy in pool.policies)
    forced = count % 2 == 1
    contest = Race(pool, ["--policy", second] if forced else [])
    winner, endings = contest.go({name: chance.uniform(0, 0.03) for name in contest.names})

    # 5: one ran, and the others name it, by exit status and in the log.
    assert endings[winner].status == 0, endings
    losers = [name for name in contest.names if name != winner]
    handed_over = [name for name in losers if not name.startswith("tick") and endings[name].status == 0]
    # It takes the winner a moment to say what it has in hand; what it is asked for in that moment it refuses itself.
    refused = [name for name in losers if "is being served" in endings[name].err]
    sign = "another pass holds the lock: process %d, since " % contest.holder["pid"]
    assert contest.pids.get(winner, contest.holder["pid"]) == contest.holder["pid"]
    losers = [name for name in losers if name not in handed_over + refused]
    for name in losers:
        assert endings[name].status == 4, endings
        assert name.startswith("tick") or sign in endings[name].err, endings
    log = pool.log_by_process(lines)
    assert [pid for pid, texts in log.items() if any(text.startswith("No of Policies") for text in texts)] == [
        contest.holder["pid"]
    ]
    assert len([pid for pid, texts in log.items() if "The lock is taken: " + sign in "".join(texts)]) == len(losers)
    for uuid in (first, second):
        assert [text for texts in log.values() for text in texts].count("Processing policy: " + uuid) == 1

    # 1 and 9: no slot is lost, each policy is told of its run once, and of having had to wait.
    after = pool.see()
    pool.check_served(before, after)
    asked = {pool.policies[0]: "plugin", pool.policies[1]: "by hand" if forced else ""}
    for policy, who in asked.items():
        names = Counter(after.alerts[policy])
        told = names[LOCKED]
        assert names == Counter({TAKEN: 1, LOCKED: told} if told else {TAKEN: 1})
        assert told >= (who in losers), "who asked for it was not told"
        # The one policy that its winner was asked for is in hand, the other waits.
        if winner in asked.values() and who != winner and not handed_over:
            assert told >= 1, "it had to wait and was not told"
        # Once for all ticks that found it so, and once for each that was asked for it.
        assert told <= 1 + (who in losers), "told twice"
    pool.check_nothing_left()
    return winner


def test_of_two_ticks_a_snapshot_now_and_a_run_by_hand_at_once_one_runs_and_the_others_say_so(
    processes: ProcessPool,
) -> None:
    print("VMSS_TEST_SEED=%d" % SEED)
    chance = random.Random(SEED)
    winners: Counter[str] = Counter()
    for count in range(RACES):
        try:
            winners[race(processes, chance, count)] += 1
        except BaseException:
            print("race %d" % count)
            raise
    print("%d races, won by %s" % (RACES, dict(winners)))
    if RACES >= 50:
        assert len(winners) == 4, "not everybody has won once"


# Stuck


def test_what_hangs_is_cancelled_and_reported_and_holds_nobody_up(processes: ProcessPool) -> None:
    pool = processes
    one, stuck, three = pool.vms
    pool.call("VMSS.set_retained_snapshots", pool.policies[1], "1")
    pool.next_slot()
    assert pool.whole_pass() == Ended(0, "")
    before = pool.see()
    # A snapshot on the first SR, and on the second the end of a checkpoint's memory.
    memory = pool.call("VM.get_suspend_VDI", before.snapshots[three][0][1])
    for method, ref in (("VM.snapshot", stuck), ("VDI.destroy", memory)):
        pool.call("simulator.add_fault", {"method": method, "object": ref, "action": "hang"})
    pool.configure(snapshot_limit=10, destroy_limit=10, cancel_limit=1, late_limit=0)
    pool.next_slot()
    pool.call("simulator.reset_counts")
    began = time.monotonic()
    how = pool.whole_pass()
    took = time.monotonic() - began

    # 7: both limits, at the same time; either is the limit and what a cancelled operation gets.
    assert how.status == 1 and "VMs with errors: 2\n" in how.err, how
    assert 11 <= took < 22
    assert {rule["struck"] for rule in pool.call("simulator.get_faults")} == {"1"}
    assert int(pool.call("simulator.get_counts")["task.cancel"]["calls"]) == 2
    # 6 and 9: each is reported by its name, and nobody else is.
    after = pool.see()
    assert [after.alerts[policy] for policy in pool.policies] == [["VMSS_SNAPSHOT_FAILED"]] * 2
    for policy, vm, operation in zip(pool.policies, (stuck, three), ("VM.snapshot", "VM.hard_shutdown")):
        lines = [line for line in pool.alerts(policy)[-1]["body"].splitlines() if "Error:[" in line]
        assert lines == [
            "VM:%s UUID:%s Error:['VMSS_OPERATION_TIMED_OUT', '%s', '10 s'],"
            % (pool.call("VM.get_name_label", vm), pool.uuid("VM", vm), operation)
        ]
    # 1 and 2: who shares the SR has the new one and not the old one any more.
    assert len(after.snapshots[one]) == 1 and after.snapshots[one] != before.snapshots[one]
    assert after.snapshots[stuck] == before.snapshots[stuck]
    assert len(after.snapshots[three]) == 2 and after.snapshots[three][0] == before.snapshots[three][0]
    assert all(last >= pool.slot for last in after.last_run.values())
    # 8: what still hangs needs its session.
    assert pool.lock_is_free() and len(pool.written_down()) == pool.sessions() == 1
    assert sorted(pool.pending()) == ["Async.VM.hard_shutdown", "Async.VM.snapshot"]
    # While it hangs a tick that is not due, and too late to try again, waits for nothing and leaves the session open.
    pool.call("simulator.set_time", format_datetime(pool.slot + HOUR / 3))
    pool.configure(late_limit=0)
    assert pool.whole_pass() == Ended(0, "")
    assert len(pool.written_down()) == pool.sessions() == 1 and pool.see() == after

    restart(pool)
    pool.next_slot()
    assert pool.whole_pass() == Ended(0, "")
    final = pool.see()
    assert [final.alerts[policy] for policy in pool.policies] == [[TAKEN]] * 2
    for vm in pool.vms:
        assert len(final.snapshots[vm]) == 1 and final.snapshots[vm][0] not in after.snapshots[vm]
    pool.check_nothing_left()


def test_told_to_stop_while_an_operation_hangs_it_waits_no_longer_than_its_limit_and_is_resumed(
    processes: ProcessPool,
) -> None:
    pool = processes
    one, stuck, three = pool.vms
    pool.next_slot()
    before = pool.see()
    pool.call("simulator.add_fault", {"method": "VM.snapshot", "object": stuck, "action": "hang"})
    pool.configure(stop_limit=1)
    process = pool.start()
    until(lambda: pool.call("simulator.get_faults")[0]["struck"] == "1")
    process.send_signal(signal.SIGTERM)
    how = ended(process)
    assert how.status == 1 and how.err.startswith("stopped before the end: "), how
    # 5 and 8: the lock is free; what hangs needs its session, which is written down.
    assert pool.lock_is_free() and "session" not in pool.in_lock()
    assert len(pool.written_down()) == pool.sessions() == 1 and pool.pending() == ["Async.VM.snapshot"]
    assert pool.logins() == []
    middle = pool.see()
    pool.check_at_any_moment(before, middle)
    assert middle.snapshots[stuck] == before.snapshots[stuck] and middle.alerts[pool.policies[0]] == []
    # 10: the policy is not told to have run.
    assert middle.last_run[pool.policies[0]] < pool.slot
    restart(pool)
    pool.configure()
    assert pool.whole_pass() == Ended(0, "")
    pool.check_served(before, pool.see())
    assert all(TAKEN in pool.see().alerts[policy] for policy in pool.policies)
    pool.check_nothing_left()


def restart(pool: ProcessPool) -> None:
    """End xapi, and with it what hangs, and wait until it serves again."""
    pool.call("simulator.clear_faults")
    pool.call("simulator.restart", "clean", 1.0)

    def serves() -> bool:
        try:
            pool.xapi.login("root", "")
            return True
        except (Refused, Unanswered):
            return False

    until(serves)
