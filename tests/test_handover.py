"""A run by hand while another pass is at work: that pass serves it, and its result is the asker's."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.pool import TestPool
from tests.terminal import Screen
from tests.test_killed import wait_for_task
from vmss.edges.lock import LockDirectory
from vmss.passes.handover import Answer, Inbox, ask

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def real(tmp_path: Path) -> Iterator[TestPool]:
    """A pool whose clock runs, fast."""
    with TestPool(tmp_path, clock="real", speed=20.0) as pool:
        Path(pool.place.config).write_text("[vmss]\ntimezone = UTC\nstop_limit = 0\n")
        yield pool


def environment(pool: TestPool) -> Dict[str, str]:
    place = pool.place
    files = {"VMSS_LOG": place.log, "VMSS_LOCK_DIR": place.lock_dir, "VMSS_CONFIG": place.config}
    return dict(files, VMSS_XAPI=place.xapi, TZ="UTC")


def start(pool: TestPool, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "vmss", "run"] + list(words),
        env=dict(os.environ, PYTHONPATH=str(ROOT), **environment(pool)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )


def pool_uuid(pool: TestPool) -> str:
    return str(pool.call("pool.get_uuid", pool.call("pool.get_all")[0]))


def ends(process: "subprocess.Popen[str]") -> List[str]:
    out, err = process.communicate(timeout=60)
    return [str(process.returncode), (out + err).strip()]


@pytest.fixture
def busy(real: TestPool) -> Dict[str, Any]:
    """A pass that waits for a VM whose snapshot hangs."""
    hanging = real.vm("hanging", [real.sr("one")])
    policy = real.policy([hanging], name="hanging")
    real.call("simulator.add_fault", {"method": "VM.snapshot", "object": hanging, "when": "before", "action": "hang"})
    process = start(real, "--policy", real.uuid("VMSS", policy))
    wait_for_task(real, "Async.VM.snapshot")
    return {"process": process, "policy": policy, "vm": hanging}


def test_another_schedule_is_run_by_the_pass_that_is_at_work(real: TestPool, busy: Dict[str, Any]) -> None:
    vm, gone = real.vm("vm", [real.sr("other")]), "11111111-2222-3333-4444-555555555555"
    policy = real.policy([vm], name="asked for", enabled=False)
    asker = Screen(100, 24, "run", "--policy", real.uuid("VMSS", policy), **environment(real))
    assert asker.rest() == 0 and asker.lines == [
        "the pass that is at work has taken the run over",
        "schedules served: 1, VMs snapshotted: 1 of 1, expired snapshots deleted: 0, VMs with errors: 0",
        "",
    ]
    assert real.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"] and len(real.snapshots(vm)) == 1
    # The one that is being served is refused, and so is one that does not exist.
    status, line = ends(start(real, "--policy", real.uuid("VMSS", busy["policy"])))
    assert status == "4" and "another pass holds the lock" in line
    status, line = ends(start(real, "--policy", gone))
    assert status == "2" and "no snapshot schedule of this pool has the uuid" in line
    busy["process"].terminate()
    ends(busy["process"])
    assert [name for name in os.listdir(real.place.lock_dir) if re.search("asked|answers", name)] == []


def test_if_the_pass_dies_the_asker_runs_it(real: TestPool, busy: Dict[str, Any]) -> None:
    vm = real.vm("vm", [real.sr("other")])
    policy = real.policy([vm], name="asked for")
    busy["process"].send_signal(19)  # it takes nothing over any more
    asker = start(real, "--policy", real.uuid("VMSS", policy))
    asked = Path(real.place.lock_dir) / (pool_uuid(real) + ".asked")
    while not asked.exists():
        assert asker.poll() is None
        os.sched_yield()
    busy["process"].kill()
    busy["process"].communicate()
    assert ends(asker)[0] == "0" and len(real.snapshots(vm)) == 1


@pytest.mark.parametrize("taken", [True, False])
def test_whoever_stops_waiting_is_told_what_becomes_of_the_run(
    real: TestPool, busy: Dict[str, Any], taken: bool
) -> None:
    vm = real.vm("slow", [real.sr("other")])
    policy = real.policy([vm], name="asked for")
    rule = {"method": "VM.snapshot", "object": vm, "when": "before", "action": "delay", "seconds": "60"}
    real.call("simulator.add_fault", rule)
    if not taken:
        busy["process"].send_signal(signal.SIGSTOP)
    asker = start(real, "--policy", real.uuid("VMSS", policy))
    if taken:
        while len(real.call("VM.get_current_operations", vm)) == 0:
            assert asker.poll() is None
    else:
        asked = Path(real.place.lock_dir) / (pool_uuid(real) + ".asked")
        while not asked.exists():
            assert asker.poll() is None
            os.sched_yield()
    asker.send_signal(signal.SIGINT)
    status, line = ends(asker)
    assert status == "1" and line == (
        "stopped waiting: the run goes on in the pass that is at work, and its alert tells how it ends"
        if taken
        else "stopped: the run had not begun, and nobody does it later"
    )
    busy["process"].send_signal(signal.SIGCONT)
    while taken and real.names(policy) != ["VMSS_SNAPSHOT_SUCCEEDED"]:
        assert busy["process"].poll() is None
    busy["process"].terminate()
    ends(busy["process"])
    assert real.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"] * taken and len(real.snapshots(vm)) == taken
    assert [name for name in os.listdir(real.place.lock_dir) if re.search("asked|answers", name)] == []


def test_a_request_that_nobody_takes_is_withdrawn(pool: TestPool) -> None:
    directory, clock = LockDirectory(pool.place.lock_dir), pool.surroundings().clock
    assert clock is not None
    lock = directory.acquire("p", {"pid": 4711})
    assert ask(directory, "p", clock, pool_uuid(pool), False, lambda: None, 600.0) is None
    assert directory.read("p.asked") == {} and directory.read("p.answers") == {}
    lock.release()


@pytest.mark.parametrize(
    "value", [None, 7, [], {}, {"policy": "x", "since": "now"}, {"policy": 7}, {"policy": "1" * 36, "since": "x"}]
)
def test_what_is_no_request_is_taken_for_none(pool: TestPool, value: Any) -> None:
    directory, now = LockDirectory(pool.place.lock_dir), pool.simulator.now()
    directory.keep("p.asked", {"id": value})
    inbox = Inbox(directory, "p")
    assert inbox.take(now) == [] and directory.read("p.asked") == {}
    directory.keep("p.answers", {"id": value, "other": {}})
    inbox.answer("other", Answer(0, "line"))
    assert directory.read("p.answers")["other"] == {"status": 0, "line": "line"}
