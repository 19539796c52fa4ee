"""The host of a pass is lost with it: the next coordinator, or the host started anew, learns from the database."""

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.front import Front
from tests.pool import TestPool
from tests.test_lock_lost import shown
from tests.test_orphans import Death, fails, loose, told
from vmss.core.records import AT_WORK, BEGUN
from vmss.edges.processes import boot
from vmss.passes.request import Request
from vmss.passes.run import run


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[TestPool]:
    with TestPool(tmp_path) as pool:
        pool.simulator.durations = pool.simulator.durations._replace(without_source=0.0)
        yield pool


def empty_lock_directory(pool: TestPool) -> None:
    """What is in memory is gone: another directory is in its place, as on another host."""
    os.rename(pool.place.lock_dir, "%s.%d" % (pool.place.lock_dir, len(list(pool.folder.iterdir()))))


def lost_in_a_snapshot(pool: TestPool) -> List[str]:
    """xapi dies in the snapshot of a VM, and the pass with it; return the disks that are left."""
    sr = pool.sr()
    pool.policy([pool.vm("vm", [sr, sr])])
    pool.at(10, 15)
    fails(pool, Death(pool, "clean"))
    return loose(pool)


def calls(pool: TestPool, **request: Any) -> List[str]:
    """The calls of a pass."""
    path = "%s.%d" % (pool.socket, len(list(pool.folder.iterdir())))
    front = Front(path, pool.socket)
    place = pool.place._replace(xapi="unix:" + path)
    run(Request(**request) if request else Request(kicked=True), pool.surroundings(place=place))
    return front.calls


def test_what_a_pass_left_that_was_lost_with_its_host_is_found(pool: TestPool) -> None:
    left = lost_in_a_snapshot(pool)
    empty_lock_directory(pool)
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert left and [line.split()[1] for line in told(pool)] == left
    assert loose(pool) == left and AT_WORK not in pool.other_config()


def test_it_is_found_too_if_the_next_pass_dies_before_it_has_looked(pool: TestPool) -> None:
    left = lost_in_a_snapshot(pool)
    empty_lock_directory(pool)
    pool.at(10, 30)
    fails(pool, Death(pool, "kill"))
    empty_lock_directory(pool)
    pool.at(10, 45)
    assert pool.tick().status == 0
    assert set(left) <= {line.split()[1] for line in told(pool)}


def test_what_a_pass_left_is_found_however_long_it_had_been_at_work(pool: TestPool) -> None:
    """The sign tells when the pass began, not when its last snapshot did."""
    sr = pool.sr()
    vms = [pool.vm("vm %d" % number, [sr, sr]) for number in range(15)]
    pool.policy(vms, frequency="daily", schedule={"hour": "10", "min": "15"})
    pool.call("simulator.add_fault", {"method": "VDI.snapshot", "action": "delay", "seconds": "420", "count": "0"})
    pool.at(10, 15)
    death = Death(pool, "clean")

    def late(method: str) -> None:
        if pool.simulator.now().hour >= 13:
            death(method)

    fails(pool, late)
    left = loose(pool)
    empty_lock_directory(pool)
    pool.call("simulator.clear_faults")
    pool.at(14, 0)
    pool.tick()
    assert left and set(left) <= {line.split()[1] for line in told(pool)}


def test_a_second_loss_does_not_make_the_first_forgotten(pool: TestPool) -> None:
    lost_in_a_snapshot(pool)
    empty_lock_directory(pool)
    pool.at(10, 30)
    fails(pool, Death(pool, "kill"))
    sign = json.loads(pool.other_config()[AT_WORK])
    assert (sign["since"], sign["lost"]) == ("20260302T10:30:00Z", "20260302T10:15:00Z")
    empty_lock_directory(pool)
    pool.at(10, 45)
    assert pool.tick().status == 0
    (attempt,) = json.loads(pool.other_config()[BEGUN])["operations"]
    assert (attempt["vm"], attempt["since"]) == ("", "20260302T10:15:00Z")


def test_what_is_left_of_the_notes_at_the_end_of_a_pass_follows_the_pool(pool: TestPool) -> None:
    """Disks whose records were lost come to light by a scan: the second search, a day later, is on another host."""
    lost_in_a_snapshot(pool)
    pool.at(10, 30)
    assert pool.tick().status == 0
    assert len(json.loads(pool.other_config()[BEGUN])["operations"]) == 1
    empty_lock_directory(pool)
    pool.at(10, 45, day=3)
    searched = calls(pool)
    assert "host.get_other_config" in searched  # when xapi was started: the first call of a search
    assert BEGUN not in pool.other_config()
    assert "host.get_other_config" not in calls(pool)


def test_the_sign_is_on_disk_before_the_first_snapshot_begins(pool: TestPool) -> None:
    pool.policy([pool.vm("vm", [pool.sr()])])
    pool.at(10, 15)
    made = [
        call for call in calls(pool) if call in ("pool.add_to_other_config", "pool.sync_database", "Async.VM.snapshot")
    ]
    assert made[:3] == ["pool.add_to_other_config", "pool.sync_database", "Async.VM.snapshot"]
    assert made.count("pool.sync_database") == 2  # and at the end


def test_a_pass_that_began_with_nothing_due_has_its_sign_on_disk_before_the_first_snapshot(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], retained_snapshots="1")
    pool.at(8, 15)
    pool.tick()
    stuck = {"method": "VDI.destroy", "action": "error", "error": '["INTERNAL_ERROR", "stuck"]', "count": "0"}
    pool.call("simulator.add_fault", stuck)
    pool.at(9, 15)
    pool.tick()
    pool.call("simulator.clear_faults")
    pool.call("simulator.add_fault", {"method": "VDI.destroy", "action": "delay", "seconds": "600", "count": "1"})
    pool.at(10, 10)
    made = calls(pool, kicked=False)
    first = made.index("Async.VM.snapshot")
    assert "Async.VDI.destroy" in made[:first] and "pool.sync_database" in made[:first]


def test_an_older_database_that_shows_the_sign_of_a_pass_that_has_ended_makes_nobody_search(pool: TestPool) -> None:
    """On the same host the notes beside the lock tell that nothing is left."""
    pool.policy([pool.vm("vm", [pool.sr()])])
    pool.at(10, 15)
    assert pool.tick().status == 0
    pool.call("simulator.restart", "kill", 0.0)
    pool.xapi.close()
    pool.xapi.login("root", "")
    assert AT_WORK in pool.other_config()
    pool.at(10, 30)
    assert "host.get_other_config" not in calls(pool)
    assert AT_WORK not in pool.other_config()


ELSEWHERE: Dict[str, Any] = {"pid": 1, "started": "0", "since": "20260302T10:15:00Z", "notes": "another 1 2"}


def test_a_schedule_that_never_ran_is_late_and_not_lost_if_its_first_run_was_lost_with_the_host(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.at(9, 50)
    pool.policy([vm])
    shown(pool, **ELSEWHERE)
    pool.at(10, 40)
    assert pool.tick().status == 0
    assert len(pool.snapshots(vm)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"notes": None},
        {"notes": ""},
        {"since": "yesterday"},
        {"since": None},
        {"pid": "x"},
        {"notes": ["x"], "pid": []},
        {"pid": float("inf")},
    ],
)
def test_a_sign_of_an_earlier_version_or_of_nobody_makes_nobody_search(pool: TestPool, change: Dict[str, Any]) -> None:
    value = {name: value for name, value in dict(ELSEWHERE, **change).items() if value is not None}
    shown(pool, **value)
    made = calls(pool)
    assert "VM.get_all_records_where" not in made and AT_WORK not in pool.other_config()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        '{"operations": 1}',
        '{"operations": [1, {}, {"vm": "x"}]}',
        '{"operations": [{"vm": "", "since": "20260302T10:15:00Z", "disks": Infinity}]}',
        "[" * 9000,
    ],
)
def test_notes_in_the_database_that_make_no_sense_are_none(pool: TestPool, text: str) -> None:
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], BEGUN, text)
    assert pool.tick().status == 0 and told(pool) == []
    assert BEGUN not in pool.other_config()


def test_a_snapshot_that_a_lost_pass_has_taken_counts_when_it_was_read_back(pool: TestPool) -> None:
    """Nobody has seen the end of it: it is looked at, as after a pass that was killed here."""
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm])
    pool.at(10, 15)
    assert pool.tick().status == 0
    policy = pool.call("VMSS.get_all")[0]
    pool.simulator.db.row("VMSS", policy)["last_run_time"] = pool.simulator.now().replace(hour=9, tzinfo=None)
    shown(pool, **ELSEWHERE)
    pool.at(10, 30)
    made = calls(pool)
    assert "Async.VM.snapshot" not in made and len(pool.snapshots(vm)) == 1
    assert "VBD.get_all_records_where" in made and made.count("VM.get_all_records_where") >= 2


def test_this_machine_tells_its_start() -> None:
    assert len(boot()) == 36 and boot() == boot()
