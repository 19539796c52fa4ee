"""The lock is removed while a pass is at work: no VM gets two snapshots, and nothing is left undone."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from tests.front import Front, Once
from tests.pool import TestPool
from tests.test_killed import pool_uuid, start, two_vms, wait_for_task
from vmss.core.records import AT_WORK
from vmss.edges.lock import Held, Lock, LockDirectory
from vmss.edges.lock_folder import LockError
from vmss.edges.processes import started
from vmss.passes import at_work
from vmss.passes.hold import WITHOUT_LOCK_S
from vmss.simulator.faults import Rule

SERVED = ["VMSS_SNAPSHOT_SUCCEEDED"]


def remove(pool: TestPool) -> None:
    shutil.rmtree(pool.place.lock_dir)


def lay_over(pool: TestPool) -> None:
    """What a mount does: the path leads to another directory, and the first is still there."""
    os.rename(pool.place.lock_dir, pool.place.lock_dir + ".below")
    os.mkdir(pool.place.lock_dir, 0o700)


def remove_file(pool: TestPool) -> None:
    Path(pool.place.lock_dir, pool_uuid(pool) + ".lock").unlink()


WAYS = [remove, lay_over, remove_file]


def shown(pool: TestPool, **value: Any) -> None:
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], AT_WORK, json.dumps(value))


# Real processes


@pytest.fixture
def live(tmp_path: Path) -> Iterator[TestPool]:
    """A pool whose clock runs, fast."""
    with TestPool(tmp_path, clock="real", speed=20.0) as pool:
        pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(12.0, 12.0))
        yield pool


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stopped", [True, False])
def test_a_second_pass_sees_the_first_whose_lock_was_removed(
    live: TestPool, way: Callable[[TestPool], None], stopped: bool
) -> None:
    vms = two_vms(live)
    first = start(live)
    wait_for_task(live, "Async.VM.snapshot")
    if stopped:  # so it cannot acquire its lock anew, and only xapi tells of it
        first.send_signal(signal.SIGSTOP)
    way(live)
    second = start(live)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 4 and "another pass holds the lock: process %d" % first.pid in err.decode()
    if stopped:
        assert LockDirectory(live.place.lock_dir).holder(pool_uuid(live)) is None
        first.send_signal(signal.SIGCONT)
    assert first.wait(60) == 0
    assert [len(live.snapshots(vm)) for vm in vms] == [1, 1]
    assert sorted(live.names())[-1:] == SERVED and live.names().count(SERVED[0]) == 1
    assert live.sessions() == 0 and live.tasks() == [] and AT_WORK not in live.other_config()


@pytest.mark.parametrize("way", WAYS)
def test_a_pass_that_was_killed_and_whose_lock_was_removed_keeps_nobody_waiting(
    live: TestPool, way: Callable[[TestPool], None]
) -> None:
    vms = two_vms(live)
    first = start(live)
    wait_for_task(live, "Async.VM.snapshot")
    first.kill()
    first.communicate()
    assert AT_WORK in live.other_config()
    way(live)
    assert start(live).wait(60) == 0
    assert [len(live.snapshots(vm)) for vm in vms] == [1, 1]
    assert live.names() == SERVED and AT_WORK not in live.other_config()


# In virtual time


def run_with(pool: TestPool, **hooks: Any) -> Front:
    path = pool.socket + ".front"
    front = Front(path, pool.socket, **hooks)
    pool.place = pool.place._replace(xapi="unix:" + path)
    return front


def both(*hooks: Once) -> Callable[[str], None]:
    def hook(method: str) -> None:
        for one in hooks:
            one(method)

    return hook


@pytest.mark.parametrize("way", WAYS)
def test_the_lock_is_acquired_anew_before_the_next_operation_starts(
    pool: TestPool, way: Callable[[TestPool], None]
) -> None:
    vms = two_vms(pool)
    holders: List[Any] = []

    def look() -> None:
        holders.append(LockDirectory(pool.place.lock_dir).holder(pool_uuid(pool)))

    first, second = Once("Async.VM.snapshot", lambda: way(pool)), Once("Async.VM.snapshot", look, 2)
    run_with(pool, before=both(first, second))
    assert pool.tick().status == 0
    assert holders[0]["pid"] == os.getpid() and len(holders[0]["policies"]) == 1
    assert [len(pool.snapshots(vm)) for vm in vms] == [1, 1] and pool.names() == SERVED
    assert len([line for line in pool.log() if line.startswith("Somebody has removed the lock")]) == 1
    assert LockDirectory(pool.place.lock_dir).holder(pool_uuid(pool)) is None


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint"])
@pytest.mark.parametrize("way", [remove, lay_over])
def test_the_notes_beside_the_lock_are_written_anew_with_it(
    pool: TestPool, way: Callable[[TestPool], None], kind: str
) -> None:
    vm = pool.vm("vm", [pool.sr()], running=True)
    pool.policy([vm], type=kind)
    pool.at(10, 15)
    found: List[str] = []
    first = Once("Async.VM." + kind, lambda: way(pool))
    then = Once("event.from", lambda: found.extend(os.listdir(pool.place.lock_dir)))
    run_with(pool, before=both(first, then))
    assert pool.tick().status == 0
    notes = {".lock", ".taking"} | ({".frozen"} if kind == "checkpoint" else set())
    assert notes == {os.path.splitext(name)[1] for name in found}


def test_while_somebody_else_has_the_lock_nothing_is_started_and_after_a_minute_the_pass_ends(pool: TestPool) -> None:
    vms = two_vms(pool)
    others: List[Lock] = []

    def take() -> None:
        remove(pool)
        others.append(LockDirectory(pool.place.lock_dir).acquire(pool_uuid(pool), {"pid": 1}))

    front = run_with(pool, before=Once("Async.VM.snapshot", take))
    began = pool.simulator.now()
    report = pool.tick()
    assert report.status == 1 and report.line.startswith("stopped before the end: 1 of 2 VMs is done")
    assert front.calls.count("Async.VM.snapshot") == 1 and pool.names() == []
    assert WITHOUT_LOCK_S <= (pool.simulator.now() - began).total_seconds() < WITHOUT_LOCK_S + 30
    assert len(front.calls) < 60
    assert any(line.startswith("Another pass has the lock: nothing new is started") for line in pool.log())
    assert pool.sessions() == 0 and AT_WORK not in pool.other_config()
    others[0].release()
    assert pool.tick().status == 0
    assert [len(pool.snapshots(vm)) for vm in vms] == [1, 1] and pool.names() == SERVED


def test_somebody_who_has_the_lock_for_a_moment_makes_the_pass_only_wait(pool: TestPool) -> None:
    vms = two_vms(pool)
    others: List[Lock] = []

    def take() -> None:
        remove(pool)
        others.append(LockDirectory(pool.place.lock_dir).acquire(pool_uuid(pool), {"pid": 1}))

    first, second = Once("Async.VM.snapshot", take), Once("task.destroy", lambda: others[0].release())
    run_with(pool, before=both(first, second))
    assert pool.tick().status == 0
    assert [len(pool.snapshots(vm)) for vm in vms] == [1, 1] and pool.names() == SERVED


@pytest.fixture
def other() -> Iterator[int]:
    """A process that lives."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


def test_the_sign_of_a_pass_that_lives_puts_others_off_before_they_change_anything(pool: TestPool, other: int) -> None:
    vms = two_vms(pool)
    shown(pool, pid=other, started=started(other), since="20260302T09:59:00Z")
    front = run_with(pool)
    report = pool.tick()
    assert report.status == 4 and "process %d, since 2026-03-02T09:59:00Z" % other in report.line
    assert [pool.snapshots(vm) for vm in vms] == [[], []] and pool.names() == ["VMSS_SNAPSHOT_LOCK_FAILED"]
    assert not any(call.startswith(("Async.", "pool.add", "pool.remove")) for call in front.calls)
    assert LockDirectory(pool.place.lock_dir).holder(pool_uuid(pool)) is None and AT_WORK in pool.other_config()


def test_of_two_passes_that_show_the_sign_at_one_instant_one_works(pool: TestPool, other: int) -> None:
    vms = two_vms(pool)
    show = Once("VMSS.get_all_records", lambda: shown(pool, pid=other, started=started(other), since="now"))
    run_with(pool, before=show)  # the pool was read before
    assert pool.tick().status == 4
    assert [pool.snapshots(vm) for vm in vms] == [[], []] and pool.sessions() == 0


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"pid": 4711, "started": "", "since": "now"},
        {"pid": 1, "started": "no such tick", "since": "now"},
        {"pid": 10**30, "started": "1", "since": "now"},
        {"pid": [], "started": {}, "since": None},
        {"pid": "x", "started": "1"},
        {"pid": os.getpid(), "started": started(os.getpid()), "since": "now"},
    ],
)
@pytest.mark.parametrize("due", [True, False])
def test_a_sign_of_nobody_who_lives_is_removed(pool: TestPool, value: Dict[str, Any], due: bool) -> None:
    vms = two_vms(pool) if due else []
    shown(pool, **value)
    assert pool.tick().status == 0
    assert all(len(pool.snapshots(vm)) == 1 for vm in vms) and AT_WORK not in pool.other_config()


def test_a_sign_that_was_taken_down_since_the_pool_was_read_puts_nobody_off(pool: TestPool, other: int) -> None:
    vms = two_vms(pool)
    shown(pool, pid=other, started=started(other), since="now")
    ref = pool.call("pool.get_all")[0]
    gone = Once("pool.get_other_config", lambda: pool.call("pool.remove_from_other_config", ref, AT_WORK))
    run_with(pool, before=gone)
    assert pool.tick().status == 0 and all(len(pool.snapshots(vm)) == 1 for vm in vms)


def test_xapi_that_takes_no_sign_is_served_all_the_same(pool: TestPool) -> None:
    vms = two_vms(pool)
    pool.simulator.faults.add(Rule(method="pool.add_to_other_config", action="error", error=["NO"], count=1))
    assert pool.tick().status == 0 and all(len(pool.snapshots(vm)) == 1 for vm in vms)
    assert any("The sign that this pass is at work cannot be shown: NO" in line for line in pool.log())


def test_a_tick_with_nothing_to_do_shows_no_sign(pool: TestPool) -> None:
    front = run_with(pool)
    assert pool.tick().status == 0
    assert front.calls == ["session.login_with_password", "pool.get_all_records", "VMSS.get_all_records"] + [
        "session.logout"
    ]


def test_the_sign_tells_nobody_a_session(pool: TestPool) -> None:
    two_vms(pool)
    policy = pool.uuid("VMSS", pool.call("VMSS.get_all")[0])
    seen: List[str] = []
    look = Once("Async.VM.snapshot", lambda: seen.append(pool.other_config()[AT_WORK]))
    run_with(pool, before=look)
    pool.tick()
    sign = json.loads(seen[0])
    assert sorted(sign) == ["notes", "pid", "runs", "since", "started"] and "OpaqueRef" not in seen[0]
    assert sign["runs"] == {policy: "20260302T09:15:00Z"}  # what it begins with, and from when a snapshot counts


def test_the_sign_of_a_run_by_hand_counts_snapshots_from_its_beginning(pool: TestPool) -> None:
    two_vms(pool)
    policy = pool.uuid("VMSS", pool.call("VMSS.get_all")[0])
    seen: List[str] = []
    look = Once("Async.VM.snapshot", lambda: seen.append(pool.other_config()[AT_WORK]))
    run_with(pool, before=look)
    pool.at(10, 20)
    pool.tick(policy=policy)
    shown_there = at_work.shown(seen[0])
    assert shown_there is not None and shown_there.runs == {policy: shown_there.since}
    for text in ("", "[]", "{}", '{"since": 1}', '{"since": "20260302T09:15:00Z", "runs": [1]}', None):
        assert at_work.shown(text) is None


# The lock itself


def test_a_process_that_has_ended_and_was_not_waited_for_does_not_live() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert started(process.pid)
    assert process.stdout is not None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert started(process.pid) == ""
    process.communicate()


def test_a_lock_that_is_removed_each_time_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, tries = LockDirectory(str(tmp_path)), []
    monkeypatch.setattr(LockDirectory, "is_at", lambda *_: tries.append(1))
    with pytest.raises(LockError, match="removed again and again"):
        directory.acquire("pool", {})
    assert len(tries) == 4


@pytest.mark.parametrize("whole", [True, False])
def test_a_directory_that_is_replaced_under_a_pass_is_seen_and_the_lock_acquired_in_the_new_one(
    tmp_path: Path, whole: bool
) -> None:
    path = tmp_path / "locks"
    directory = LockDirectory(str(path))
    lock = directory.acquire("pool", {"pid": 1})
    assert lock.is_held()
    shutil.rmtree(str(path))
    if whole:
        path.write_text("")  # something else is there
    assert not lock.is_held() and lock.hold_again() is not whole
    if whole:
        path.unlink()
        assert lock.hold_again()
    assert lock.is_held() and json.loads((path / "pool.lock").read_text()) == {"pid": 1}
    with pytest.raises(Held):
        LockDirectory(str(path)).acquire("pool", {})
    lock.release()
