"""`vmss run` on a terminal: the lines of the pass, and below them what `vmss watch` shows, until the pass has ended."""

import os
import re
import signal
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.front import Front
from tests.pool import TestPool
from tests.terminal import Screen, on_terminal
from tests.test_killed import two_vms
from vmss.passes.request import Request
from vmss.passes.run import run

LINES = ["policy: snapshot of 2 VMs", "[1/2] one: ok", "[2/2] two: ok"]
END = "schedules served: 1, VMs snapshotted: 2 of 2, expired snapshots deleted: 0, VMs with errors: 0"


class Halfway:
    """A pool in which a pass halts halfway, before the snapshot of its second VM or before its first deletion, until it
    is told to go on."""

    def __init__(self, pool: TestPool) -> None:
        self.pool, self.go_on = pool, threading.Event()
        self._halts = {"Async.VM.snapshot": 2, "Async.VM.destroy": 1}
        Path(pool.place.config).write_text("[vmss]\nlogin_limit = 0\ntimezone = UTC\n")
        Front(pool.socket + ".front", pool.socket, before=self._before)

    def _before(self, method: str) -> None:
        self._halts[method] = self._halts.get(method, 0) - 1
        if self._halts[method] == 0:
            self.go_on.wait()

    @property
    def environment(self) -> Dict[str, Any]:
        place = self.pool.place
        return {
            "VMSS_XAPI": place.xapi + ".front",
            "VMSS_LOG": place.log,
            "VMSS_LOCK_DIR": place.lock_dir,
            "VMSS_CONFIG": place.config,
            "NO_COLOR": "1",
        }

    def run(self, columns: int = 100, lines: int = 24) -> Screen:
        """A run on a terminal, of which the picture is seen when it is halfway."""
        screen = Screen(columns, lines, "run", **self.environment)
        screen.read_until(" 1 of ")
        return screen


@pytest.fixture
def halfway(tmp_path: Path) -> Iterator[Halfway]:
    with TestPool(tmp_path, clock="real", speed=20.0) as pool:
        two_vms(pool)
        found = Halfway(pool)
        yield found
        found.go_on.set()


def test_the_picture_stands_below_the_lines_of_the_pass_and_is_gone_in_the_end(halfway: Halfway) -> None:
    screen = halfway.run()
    before = screen.modes
    screen.read_until("\x1b[J")
    first, second, *picture = screen.lines
    assert (first, second) == (LINES[0], "") and picture[0].startswith("A pass is at work for ")
    assert any(re.match("sr  +two|sr  +-  +-  +1 ", line) for line in picture), picture
    assert screen.modes == before
    halfway.go_on.set()
    assert screen.rest() == 0 and screen.lines == LINES + [END, ""]
    assert halfway.pool.sessions() == 0


def test_ctrl_c_stops_the_pass_and_it_is_shown_until_its_end(halfway: Halfway) -> None:
    pool = halfway.pool
    vm = pool.vm("three", [pool.call("SR.get_by_name_label", "sr")[0]])
    pool.call("VM.set_snapshot_schedule", vm, pool.call("VMSS.get_all")[0])
    screen = halfway.run()
    screen.type("\x03")
    halfway.go_on.set()
    assert screen.rest() == 1
    text = "\n".join(screen.lines)
    assert "Told to stop: nothing new is started" in text and "\nstopped before the end: 2 of 3 VMs are done" in text
    assert "A pass is at work" not in text and halfway.pool.sessions() == 0


def test_on_a_small_terminal_it_has_room_and_if_the_pass_is_killed_the_terminal_is_let_be(halfway: Halfway) -> None:
    screen = halfway.run(100, 8)
    before = screen.modes
    screen.read_until("\x1b[7A")
    screen.read_until("\x1b[J")
    screen.process.kill()
    screen.process.wait()
    assert screen.modes == before
    assert screen.rest() == -signal.SIGKILL  # nobody has the terminal any more
    assert screen.lines[0] == LINES[0] and screen.shown.endswith("\x1b[J")
    assert halfway.pool.sessions() == 1  # that of the pass, which the next one closes


def test_if_who_draws_is_killed_the_lines_come_all_the_same(halfway: Halfway) -> None:
    screen = halfway.run()
    (child,) = children(screen.process.pid)
    os.kill(child, signal.SIGKILL)
    halfway.go_on.set()
    assert screen.rest() == 0 and screen.lines[-4:] == LINES[1:] + [END, ""]


def children(process: int) -> List[int]:
    return [int(word) for word in Path("/proc/%d/task/%d/children" % (process, process)).read_text().split()]


def test_deletions_on_request_are_seen_before_the_first_line(halfway: Halfway) -> None:
    pool = halfway.pool
    (policy,) = pool.call("VMSS.get_all")
    pool.call("VMSS.set_retained_snapshots", policy, 3)
    for _ in range(2):
        run(Request(policy=pool.uuid("VMSS", policy)), pool.surroundings(clock=None))
    pool.call("VMSS.set_retained_snapshots", policy, 1)
    screen = Screen(100, 24, "prune", **halfway.environment)
    screen.read_until("deletions: expired snapshots listed to go: 2")
    assert screen.lines[1].startswith("A pass is at work for ")
    halfway.go_on.set()
    assert screen.rest() == 0 and screen.lines[-2:] == ["snapshots deleted: 2, of 2 VMs; VMs with errors: 0", ""]


def test_a_terminal_without_movements_of_the_cursor_gets_the_lines_and_where_nothing_is_due_there_is_no_picture(
    halfway: Halfway,
) -> None:
    halfway.go_on.set()
    shown = on_terminal("run", **dict(halfway.environment, TERM="dumb"))
    assert shown.splitlines() == LINES + [END]
    assert on_terminal("run", **halfway.environment) == "no schedule is due\n"
