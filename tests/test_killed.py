"""Real processes that are killed or told to stop in the middle of a pass, and the pass after them."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.pool import TestPool
from vmss.core.datetimes import format_datetime
from vmss.edges.lock import LockDirectory
from vmss.insight import history

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[TestPool]:
    """A pool whose clock runs, fast: a process can be met in the middle of something."""
    with TestPool(tmp_path, clock="real", speed=20.0) as pool:
        pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(12.0, 12.0))
        yield pool


def start(pool: TestPool, *words: str, checkout: Path = ROOT, config: str = "") -> "subprocess.Popen[bytes]":
    """Start `vmss run`, with these arguments, of this checkout, and with these lines more in its settings."""
    Path(pool.place.config).write_text("[vmss]\nlogin_limit = 0\ntimezone = UTC\n" + config)
    environment = dict(
        os.environ,
        PYTHONPATH=str(checkout),
        VMSS_LOG=pool.place.log,
        VMSS_LOCK_DIR=pool.place.lock_dir,
        VMSS_CONFIG=pool.place.config,
        VMSS_XAPI=pool.place.xapi,
    )
    command = [sys.executable, "-m", "vmss", "run"] + list(words)
    # Python looks there first.
    return subprocess.Popen(command, cwd=str(checkout), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_task(pool: TestPool, name: str) -> str:
    """Wait, by events, until a task of this name is under way. By short waits: they take no time but the pool's."""
    token = ""
    while True:
        answer = pool.call("event.from", ["task"], token, 0.05)
        token = answer["token"]
        for event in answer["events"]:
            record = event.get("snapshot", {})
            if record.get("name_label") == name and record["status"] == "pending":
                return str(event["ref"])


def two_vms(pool: TestPool) -> List[str]:
    """Two VMs on one SR, so that one waits for the other; their policy is due."""
    sr = pool.sr()
    vms = [pool.vm(name, [sr]) for name in ("one", "two")]
    policy = pool.policy(vms, retained_snapshots="1")
    pool.call("VMSS.set_last_run_time", policy, "20260302T01:00:00Z")
    return vms


def pool_uuid(pool: TestPool) -> str:
    return str(pool.call("pool.get_uuid", pool.call("pool.get_all")[0]))


def test_told_to_stop_it_lets_what_runs_end_starts_nothing_new_and_is_resumed(pool: TestPool) -> None:
    vms = two_vms(pool)
    process = start(pool)
    wait_for_task(pool, "Async.VM.snapshot")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.decode().startswith("stopped before the end: 1 of 2 VMs is done, the next pass goes on with the rest")
    assert any(line.startswith("Told to stop: nothing new is started; operations in flight: 1") for line in pool.log())
    assert sum(len(pool.snapshots(vm)) for vm in vms) == 1
    assert pool.names() == [] and pool.sessions() == 0 and pool.tasks() == []
    assert LockDirectory(pool.place.lock_dir).holder(pool_uuid(pool)) is None
    assert start(pool).wait(60) == 0
    assert [len(pool.snapshots(vm)) for vm in vms] == [1, 1]
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_by_hand_that_is_told_to_stop_tells_what_it_did_and_promises_nothing(
    pool: TestPool, number: signal.Signals
) -> None:
    one, two, bad = two_vms(pool) + [pool.vm("bad", [pool.sr()])]
    (policy,) = pool.call("VMSS.get_all")
    pool.call("VM.set_snapshot_schedule", bad, policy)
    pool.call("VM.add_to_blocked_operations", bad, "snapshot", "OPERATION_BLOCKED")
    before = pool.simulator.now()
    pool.call("VMSS.set_last_run_time", policy, format_datetime(before))
    process = start(pool, "--policy", pool.uuid("VMSS", policy))
    wait_for_task(pool, "Async.VM.snapshot")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.decode() == (
        "stopped before the end: 2 of 3 VMs are done, no pass goes on with what was started by hand: policy; "
        "schedules served: 0, VMs snapshotted: 1 of 3, expired snapshots deleted: 0, VMs with errors: 2\n"
        "vmss: policy: what failed, and what to do: vmss history {0}\n"
        "vmss: then, for the VMs that have no snapshot: vmss run --policy {0} --missing\n"
    ).format(pool.uuid("VMSS", policy))
    (left,) = [vm for vm in (one, two) if not pool.snapshots(vm)]
    (alert,) = pool.alerts(policy)
    assert alert["name"] == "VMSS_SNAPSHOT_FAILED"
    (run,) = history.runs({"": alert})
    errors = {victim.uuid: victim.error[0] for victim in run.victims}
    assert errors == {pool.uuid("VM", bad): "OPERATION_BLOCKED", pool.uuid("VM", left): "VMSS_RUN_STOPPED"}
    assert run.counts is not None and (run.counts.snapshotted, run.counts.vms) == (1, 3)
    assert "It was stopped before its end." in alert["body"]
    # It has served no slot, and the next pass neither goes on with it nor speaks of it again.
    assert pool.last_run(policy) == before.replace(microsecond=0)
    assert start(pool).wait(60) == 0
    assert len(pool.alerts(policy)) == 1 and pool.snapshots(left) == []
    assert start(pool, "--policy", pool.uuid("VMSS", policy), "--missing").wait(60) == 1
    assert len(pool.snapshots(left)) == 1


@pytest.mark.parametrize("how", ["killed", "xapi dies"])
def test_a_run_by_hand_that_is_cut_off_is_told_by_the_next_pass_once(pool: TestPool, how: str) -> None:
    one, two = two_vms(pool)
    (policy,) = pool.call("VMSS.get_all")
    pool.call("VMSS.set_last_run_time", policy, format_datetime(pool.simulator.now()))
    process = start(pool, "--policy", pool.uuid("VMSS", policy))
    wait_for_task(pool, "Async.VM.snapshot")
    while not (pool.snapshots(one) or pool.snapshots(two)):
        pool.call("event.from", ["vm"], "", 0.05)
    if how == "killed":
        process.kill()
        process.communicate()
    else:
        pool.call("simulator.restart", "kill", 0.0)
        err = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 3 and "the next pass raises an alert that says how far it came" in err, err
        pool.xapi.login("root", "")
    lacking = [vm for vm in (one, two) if not pool.snapshots(vm)]
    assert pool.alerts(policy) == []
    while not pool.alerts(policy):  # a pass that finds operations still under way leaves it to the next one
        assert start(pool).wait(60) == 0  # nothing is due
    lacking = [vm for vm in (one, two) if not pool.snapshots(vm)]  # what was under way may have ended
    (alert,) = pool.alerts(policy)
    (run,) = history.runs({"": alert})
    assert {victim.uuid for victim in run.victims} == {pool.uuid("VM", vm) for vm in lacking}
    assert alert["name"] == ("VMSS_SNAPSHOT_FAILED" if lacking else "VMSS_SNAPSHOT_SUCCEEDED")
    counted = "%d of 2 VMs %s of it" % (2 - len(lacking), "has a snapshot" if len(lacking) == 1 else "have a snapshot")
    assert "was cut off: its pass was killed, or lost xapi. " + counted in alert["body"]
    assert start(pool).wait(60) == 0
    assert pool.alerts(policy) == [alert]


def test_after_a_kill_the_snapshot_under_way_is_adopted_and_not_doubled(pool: TestPool) -> None:
    vms = two_vms(pool)
    process = start(pool)
    wait_for_task(pool, "Async.VM.snapshot")
    process.kill()
    process.communicate()
    assert pool.sessions() == 1
    assert start(pool).wait(60) == 0
    assert [len(pool.snapshots(vm)) for vm in vms] == [1, 1]
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"]
    # The session of the one that was killed had a snapshot under way; the next pass closes it. If the snapshot ended
    # before it could be adopted, but after it was looked whether it has ended, the next pass removes its task, too.
    assert start(pool).wait(60) == 0
    assert pool.sessions() == 0 and pool.tasks() == []


def test_after_a_kill_between_a_snapshots_record_and_its_disks_the_disks_go_too(pool: TestPool) -> None:
    sr = pool.sr()
    vm = pool.vm("vm", [sr, sr])
    policy = pool.policy([vm], retained_snapshots="1")
    pool.call("VMSS.set_last_run_time", policy, "20260302T01:00:00Z")
    assert start(pool).wait(60) == 0
    pool.call("VMSS.set_last_run_time", policy, "20260302T01:00:00Z")
    pool.simulator.set_time(pool.simulator.now().replace(hour=18, minute=15))
    pool.simulator.durations = pool.simulator.durations._replace(vdi_destroy=(20.0, 20.0))
    process = start(pool)
    wait_for_task(pool, "Async.VDI.destroy")
    process.kill()
    process.communicate()
    assert any(key.startswith("vmss-destroying:") for key in pool.other_config())
    assert start(pool).wait(60) == 0
    assert len(pool.snapshots(vm)) == 1 and len(pool.snapshot_vdis()) == 2
    assert not any(key.startswith("vmss-destroying:") for key in pool.other_config())


def test_while_one_runs_another_says_so_and_ends(pool: TestPool) -> None:
    two_vms(pool)
    first = start(pool)
    wait_for_task(pool, "Async.VM.snapshot")
    second = start(pool)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 4
    assert ("another pass holds the lock: process %d" % first.pid) in err.decode()
    assert "session" not in err.decode() and "OpaqueRef" not in err.decode()
    assert first.wait(60) == 0
    assert pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"]
