"""Every wait has a limit: whoever does not go on, read, or answer, holds up nobody for ever.

docs/architecture.md has the list, which is compared with the code here.
"""

import ast
import fcntl
import importlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

import pytest

from tests.pool import TestPool
from tests.test_killed import pool_uuid, start, two_vms
from vmss import plugin
from vmss.demo import VirtualClock
from vmss.edges import lock as locks
from vmss.edges import output, stop, surroundings
from vmss.edges.lock import LockDirectory
from vmss.edges.settings import Settings
from vmss.edges.transport import AddressError, transport_to
from vmss.installation import install
from vmss.passes.handover import ask

ROOT = Path(__file__).resolve().parent.parent


# The turn beside the lock


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[LockDirectory]:
    """A directory in which a process that does not go on has the turn."""
    directory = LockDirectory(str(tmp_path / "taken"))
    descriptor = os.open(str(tmp_path / "taken" / "p.turn"), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield directory
    os.close(descriptor)


def test_a_turn_that_does_not_come_is_not_waited_for(taken: LockDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "TURN_S", 0.1)
    done = []
    with taken.in_turn("p"):
        done.append(1)
    assert done == [1]


def test_who_is_asked_to_stop_waits_for_no_turn(taken: LockDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "TURN_S", 1000.0)
    monkeypatch.setattr(stop, "_requested", True)
    with taken.in_turn("p"):
        pass


def test_a_tick_that_waits_for_its_turn_hears_sigterm_and_leaves_no_session(tmp_path: Path) -> None:
    with TestPool(tmp_path, clock="real", speed=20.0) as pool:
        two_vms(pool)
        uuid = pool_uuid(pool)
        held = LockDirectory(pool.place.lock_dir).acquire(uuid, {"pid": 4711, "since": "now"})
        descriptor = os.open(os.path.join(pool.place.lock_dir, uuid + ".turn"), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        tick = start(pool)
        while not any("The lock is taken" in line for line in pool.log()):
            assert tick.poll() is None
            os.sched_yield()
        tick.send_signal(signal.SIGTERM)
        assert tick.wait(60) == 4 and pool.sessions() == 0
        assert pool.names() == ["VMSS_SNAPSHOT_LOCK_FAILED"]
        os.close(descriptor)
        held.release()


# A run that was handed over


class Taker(VirtualClock):
    """A clock beside which a pass takes over what it is asked for, and never comes to its end."""

    def __init__(self, pool: TestPool, directory: LockDirectory, then: Callable[[], None] = lambda: None) -> None:
        VirtualClock.__init__(self, pool.simulator)
        self._directory = directory
        self._then = then

    def sleep(self, seconds: float) -> None:
        VirtualClock.sleep(self, seconds)
        asked = self._directory.read("p.asked")
        if asked:
            self._directory.keep("p.answers", {key: {} for key in asked})
            self._then()


@pytest.mark.parametrize("stopped", [True, False])
def test_a_run_that_was_handed_over_is_waited_for_until_its_limit_or_sigterm(
    pool: TestPool, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    directory = LockDirectory(pool.place.lock_dir)
    lock = directory.acquire("p", {"pid": 4711})
    began: List[int] = []

    def asked_to_stop() -> None:
        if stopped:
            monkeypatch.setattr(stop, "_requested", True)

    clock = Taker(pool, directory, asked_to_stop)
    before = clock.monotonic()
    answer = ask(directory, "p", clock, pool_uuid(pool), False, lambda: began.append(1), 600.0)
    assert (answer is not None and answer.line.startswith("stopped waiting: the run goes on")) == stopped
    assert began == ([] if stopped else [1])
    assert clock.monotonic() - before <= (2 if stopped else 603)
    assert directory.read("p.asked") == {} and directory.read("p.answers") == {}
    lock.release()


# Who does not read


def test_a_line_that_nobody_takes_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "TAKES_S", 0.1)
    reading, writing = os.pipe()
    assert output.takes(writing)
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    assert not output.takes(writing)
    monkeypatch.setattr(output, "TAKES_S", 1000.0)
    assert not output.takes(writing)  # at once: it did not take the last one
    assert len(os.read(reading, 1 << 20)) >= 4096
    assert output.takes(writing)
    os.close(reading)
    os.close(writing)


def test_a_pass_on_a_terminal_that_is_halted_comes_to_its_end(tmp_path: Path) -> None:
    with TestPool(tmp_path, clock="real", speed=20.0) as pool:
        vms = two_vms(pool)
        master, slave = pty.openpty()
        Path(pool.place.config).write_text("[vmss]\nlogin_limit = 0\ntimezone = UTC\n")
        environment = dict(
            os.environ,
            PYTHONPATH=str(ROOT),
            TERM="xterm-256color",
            VMSS_LOG=pool.place.log,
            VMSS_LOCK_DIR=pool.place.lock_dir,
            VMSS_CONFIG=pool.place.config,
            VMSS_XAPI=pool.place.xapi,
        )
        os.write(master, b"\x13")  # Ctrl-S
        process = subprocess.Popen(
            [sys.executable, "-m", "vmss", "run"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=subprocess.PIPE,
        )
        os.close(slave)
        while pool.names() != ["VMSS_SNAPSHOT_SUCCEEDED"] or pool.sessions():
            assert process.poll() is None or process.returncode == 0
            os.sched_yield()
        assert [len(pool.snapshots(vm)) for vm in vms] == [1, 1]
        os.write(master, b"\x11")  # Ctrl-Q: its last line may wait for that, and nobody waits for it any more
        shown = os.read(master, 65536)
        assert process.wait(60) == 0, shown
        os.close(master)


# Who does not answer


def test_the_plugin_waits_no_longer_than_its_limit_for_the_run_in_the_background() -> None:
    reading, writing = os.pipe()
    with pytest.raises(plugin.PluginFailure) as caught:
        next(plugin.messages_of(reading, 0.1))
    assert caught.value.error == ["INTERNAL_ERROR", "the run does not answer: see the log"]
    text = json.dumps({"started": True}).encode() + b"\n"
    os.write(writing, text + text[:5])
    messages = plugin.messages_of(reading, 60.0)
    assert next(messages) == {"started": True}
    os.write(writing, text[5:])
    os.close(writing)
    assert list(messages) == [{"started": True}]
    os.close(reading)


def test_a_plugin_that_does_not_end_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "plugin"
    script.write_text("#!/bin/sh\nread never < %s\n" % (tmp_path / "fifo"))
    os.mkfifo(str(tmp_path / "fifo"))
    script.chmod(0o755)
    monkeypatch.setattr(install, "PLUGIN", str(script))
    monkeypatch.setattr(install, "PLUGIN_S", 0.2)
    assert install._trouble() == ["%s: does not start: it has not ended within 0 s" % script]


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    monkeypatch.setattr(surroundings, "POOL_ROLE", fifo)
    assert surroundings.on_coordinator()
    with pytest.raises(AddressError, match="ca_file"):
        transport_to("https://host", True, fifo, 10.0)


# The list in docs/architecture.md

NAMED = re.compile(r"`(\w+)` \(([0-9.]+)(?: s)?\)")
# Calls that wait for somebody, and where it is for a person, or with a limit of its caller's that the list has.
WAITING = {"flock", "select", "sleep", "connect", "recv", "waitpid", "wait", "communicate", "input", "run", "Popen"}
MODULES = {"fcntl", "select", "time", "os", "subprocess", "socket", "sock", ""}
ELSEWHERE = {
    ("vmss/edges/children.py", "Popen"): "hooks are polled, and the list has their limits",
    ("vmss/edges/clock.py", "sleep"): "the seconds of its caller",
    ("vmss/edges/clock.py", "select"): "the same",
    ("vmss/cli/commands/prune.py", "input"): "a person",
    ("vmss/cli/commands/manual.py", "run"): "a pager, for a person",
    ("vmss/installation/root.py", "flock"): "LOCK_NB: it does not wait",
}
# Files that are opened without O_NONBLOCK, and why none of them can be a pipe that is waited for.
OPENED = {
    "vmss/edges/processes.py": "/proc",
    "vmss/insight/checks_of_installation.py": "/proc",
    "vmss/installation/install.py": "the files of this package",
    "vmss/installation/shipped.py": "the same",
    "vmss/cli/commands/xe.py": "the password file that its caller names",
    "vmss/cli/streams.py": "/dev/null, and the standard streams",
    "vmss/plugin.py": "/dev/null",
    "vmss/installation/root.py": "it is seen before that it is a regular file, or made anew",
    "vmss/edges/lock_folder.py": "a directory",
    "vmss/edges/metrics_file.py": "a directory",
    "vmss/edges/transport.py": "a directory",
}


def rows() -> List[Tuple[str, str, str]]:
    """What, at most, and where."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("### What is waited for\n")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")][2:]
    return [(what.strip(), most.strip(), where.strip(" `")) for what, most, _, where in cells]


def product() -> Dict[str, ast.Module]:
    """The modules that run in dom0, by path."""
    paths = [path.relative_to(ROOT) for path in (ROOT / "vmss").rglob("*.py")]
    return {
        str(path): ast.parse((ROOT / path).read_text(encoding="utf-8"))
        for path in paths
        if path.parts[1] not in ("simulator", "demo.py", "data")
    }


def calls(tree: ast.AST) -> Iterator[Tuple[str, str, ast.Call]]:
    """The calls in a module: of what, by which name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield "", node.func.id, node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value
            yield getattr(of, "attr", getattr(of, "id", "?")), node.func.attr, node


def test_the_limits_of_the_list_are_those_of_the_code() -> None:
    assert len(rows()) > 25
    for what, most, where in rows():
        named = NAMED.findall(most)
        assert named, what
        for name, value in named:
            module = importlib.import_module(where[: -len(".py")].replace("/", "."))
            found: Any = getattr(Settings(), name) if name in Settings._fields else getattr(module, name)
            seconds = found.total_seconds() if isinstance(found, timedelta) else found
            assert float(value) == seconds, (what, name)


def test_every_setting_and_constant_that_limits_a_wait_is_in_the_list() -> None:
    listed = {name for _, most, _ in rows() for name, _ in NAMED.findall(most)}
    settings = {name for name in Settings._fields if name.endswith(("_limit", "_pause"))}
    # Until when a slot is served; nobody waits for it.
    assert settings - listed == {"late_limit", "checkpoint_late_limit", "chain_limit"}
    constants: Set[str] = set()
    for tree in product().values():
        names = [target.id for node in tree.body if isinstance(node, ast.Assign) for one in node.targets
                 for target in getattr(one, "elts", [one])]  # fmt: skip
        constants |= {name for name in names if name.isupper() and name.endswith("_S")}
    # How fresh the last look is; pauses within a wait that is listed; the default of call_limit.
    assert constants - listed == {"_FRESH_S", "_PAUSE_S", "PAUSE_S", "CALL_TIMEOUT_S"}


def test_every_call_that_may_wait_is_in_the_list() -> None:
    listed = {where for _, _, where in rows()}
    for path, tree in product().items():
        for of, name, call in calls(tree):
            if name not in WAITING or of not in MODULES or (of == "" and name != "input"):
                continue
            assert path in listed or (path, name) in ELSEWHERE, (path, call.lineno, name)
            text = ast.dump(call)
            if name == "flock":
                assert "LOCK_NB" in text, (path, call.lineno)
            if of == "subprocess":
                assert "timeout" in text or (path, name) in ELSEWHERE, (path, call.lineno)
            if name == "select":
                assert len(call.args) == 4, (path, call.lineno)


def test_no_file_is_opened_so_that_a_pipe_in_its_place_would_be_waited_for() -> None:
    for path, tree in product().items():
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for function in functions:
            opens = any(name == "open" and of in ("", "os") for of, name, _ in calls(function))
            text = ast.dump(function)  # the flags may stand in a line of their own
            unhurried = "O_NONBLOCK" in text or "without_waiting" in text
            assert not opens or unhurried or path in OPENED, (path, function.name)
