"""Deterministic simulation: fixed and fresh seeds, deaths at every boundary of a pass, and whether the checks can fail.

Longer, and with what was met in numbers: python -m tests.simulation --seconds 600
"""

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import Callable, List

import pytest

from tests.simulation import run as simulated
from tests.simulation.faults import Fault, Listed, parse
from tests.simulation.once import ONCE
from tests.simulation.run import live, report, shrink
from tests.simulation.share import share
from tests.simulation.slots import latest_slot
from tests.simulation.small import calls_of_the_second_pass, small, worlds
from tests.simulation.world import PolicyShape, Shape, World, chance

ROOT = Path(__file__).resolve().parent.parent.parent
FIXED = range(1, 31)
# Worlds that nobody has seen yet: the first seed. In .ci/run it comes from the tree that is tested, so that what breaks
# is the commit's and not the hour's; by hand: python -m tests.simulation --seconds 600 --keep-going
FRESH_SEED = os.environ.get("VMSS_FRESH_SEED", "")
FRESH_WORLDS = 120


@pytest.mark.parametrize("seed", FIXED)
def test_the_invariants_hold_for_a_fixed_seed(seed: int) -> None:
    outcome = live(seed)
    assert not outcome.found, report(seed, outcome)


@pytest.mark.skipif(not FRESH_SEED, reason="VMSS_FRESH_SEED is not set")
def test_the_invariants_hold_for_fresh_seeds() -> None:
    first = int(FRESH_SEED, 16)
    for seed in share(range(first, first + FRESH_WORLDS)):
        outcome = live(seed)
        assert not outcome.found, report(seed, outcome)


@pytest.mark.parametrize("folder", ["/absent", "/proc"])
def test_a_machine_whose_memory_cannot_be_written_to_lives_the_same(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = live(1).log
    monkeypatch.setattr(simulated, "MEMORY", Path(folder))
    assert live(1).log == log


def printed_by_two_processes(*words: str, apart_from: bytes) -> List[List[bytes]]:
    """The lines that two processes print for the same worlds, apart from those with these words. Their salts of
    Python's own hashes, and so the order of sets, differ."""
    answers = []
    for salt in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", *words, "--show"]
        out = subprocess.run(
            command, stdout=subprocess.PIPE, check=True, cwd=str(ROOT), env=dict(os.environ, PYTHONHASHSEED=salt)
        ).stdout
        answers.append([line for line in out.splitlines() if apart_from not in line])
    return answers


def test_the_same_seed_gives_the_same_log_byte_for_byte_in_any_process() -> None:
    answers = printed_by_two_processes("--seed", "70", "--count", "6", apart_from=b"a second")
    assert answers[0] == answers[1] and len(answers[0]) > 1000


def test_the_list_of_the_faults_that_a_seed_drew_gives_the_same_world() -> None:
    drawn = next(outcome for outcome in map(live, range(80, 100)) if len(outcome.struck) > 5)
    seed = next(seed for seed in range(80, 100) if live(seed).struck == drawn.struck)
    listed = live(seed, parse(" ".join(map(str, drawn.struck))))
    assert (listed.history, listed.log) == (drawn.history, drawn.log)


# Exhaustive: a death at every boundary of a pass that takes and expires


def meets(faults: str, shape: Shape) -> int:
    """Run a world in which these faults break nothing. Return how many of them it has met."""
    outcome = live(7, parse(faults), shape)
    assert not outcome.found, outcome.found
    return len(outcome.struck)


@pytest.mark.parametrize("kind", ["killed_before", "killed_after"])
@pytest.mark.parametrize("seconds", [0.0, 100.0])
def test_killed_at_every_call_of_a_pass_and_started_again(seconds: float, kind: str) -> None:
    shape = small(seconds)
    calls = calls_of_the_second_pass(shape)
    assert calls > 40, "this is not a pass that does much"
    # Where it is slow, most of its calls are waits for the same operations.
    for call in share(range(4, calls + 1, 4) if seconds else range(1, calls + 1)):
        outcome = live(7, [Fault(1, call, kind, 0)], shape)
        assert len(outcome.struck) == 1
        assert not outcome.found, (call, outcome.found)


def test_a_pass_that_is_killed_leaves_nothing_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert meets("1.9:killed_after:0", small()) == 1
    assert len(os.listdir("/proc/self/fd")) == before


# What the simulation has found once, in the smallest world that shows it


@pytest.mark.parametrize("kind", ["killed_before", "killed_after", "refused", "lost_before"])
def test_a_second_blow_while_a_pass_sees_to_one_that_died_loses_no_session(kind: str) -> None:
    # Who died had its session in the lock, where the next pass put its own.
    for first, second in share(product(range(3, calls_of_the_second_pass(small()), 12), range(2, 8))):
        faults = [Fault(1, first, "killed_after", 0), Fault(2, second, kind, 0)]
        assert not live(7, faults, small()).found, faults


@pytest.mark.parametrize("kind", ["refused", "lost_before", "lost_after"])
def test_a_logout_that_fails_is_made_up_for(kind: str) -> None:
    calls = calls_of_the_second_pass(small())
    outcome = live(7, [Fault(1, calls, kind, 0)], small())
    assert any("session.logout" in line and kind in line for line in outcome.history)
    assert not outcome.found


@pytest.mark.parametrize("kind", ["stop_asked", "disk_full", "coordinator_changed", "licence_changed", "snapshot_now"])
def test_a_trouble_at_every_fifth_call_of_a_pass_is_got_over(kind: str) -> None:
    shape = small(100.0)._replace(hosts=2)
    for call in share(range(1, calls_of_the_second_pass(shape) + 1, 5)):
        outcome = live(7, [Fault(1, call, kind, call)], shape)
        assert len(outcome.struck) == 1
        assert not outcome.found, (call, outcome.found)


def test_a_disk_that_takes_a_part_of_what_is_written_costs_no_session() -> None:
    # A list of sessions that was written in part was put in place of the list that was there.
    shape = small(1000.0)
    shape = shape._replace(settings=shape.settings._replace(snapshot_limit=60, checkpoint_limit=60, destroy_limit=60))
    for seed, call in share(product(range(8), (2, 4, 8))):  # the seed is of the room that is left
        outcome = live(7, [Fault(2, call, "disk_full", seed)], shape)
        assert len(outcome.struck) == 1
        assert not outcome.found, (call, seed, outcome.found)


@pytest.mark.parametrize("kind", ["result_altered", "success_feigned"])
@pytest.mark.parametrize("call", range(1, 40, 8))
def test_a_task_that_tells_a_wrong_result_costs_no_snapshot(call: int, kind: str) -> None:
    for seed in range(3):
        outcome = live(7, [Fault(1, call, kind, seed)], small())
        assert len(outcome.struck) == 1
        assert not outcome.found, (seed, outcome.found)


@pytest.mark.parametrize("call", [12, 15, 17, 20])
def test_no_pass_goes_on_in_the_dom0_of_a_host_that_lost_its_role_while_the_pass_logged_in(call: int) -> None:
    # Its lock was in one dom0, and that of the next pass in the other.
    shape = small()._replace(hosts=2)
    assert meets("1.1:coordinator_changed:584023093 1.%d:second_tick:0" % call, shape) >= 1


def test_alerts_that_somebody_deleted_with_their_policy_were_raised() -> None:
    # xapi dies and forgets that the policy was deleted; the alerts of its runs are files, and do not come back.
    weekly = PolicyShape("snapshot", "weekly", {"min": "0", "hour": "0", "days": "Thursday"}, 1, True)
    shape = small()._replace(policies=(weekly,), vms=(((0,), False, 0),))
    assert meets("1.2:policy_deleted:0 1.3:xapi_killed:0", shape) == 2


@pytest.mark.parametrize("seed", [6, 7, 10])
def test_a_snapshot_of_a_dead_pass_that_has_not_begun_yet_is_not_taken_twice(seed: int) -> None:
    # It said of which VM it is only once it began, and was not seen before.
    policy = small().policies[0]._replace(schedule={"min": "15"}, retained=3)
    shape = small()._replace(policies=(policy,), vms=(((), False, 0),), steps=(60, 60, 1, 120))
    assert meets("1.8:operation_late:%d 1.9:killed_before:0" % seed, shape) == 2


@pytest.mark.parametrize("name", ONCE)
def test_what_a_seed_broke_once_is_kept(name: str) -> None:
    it = ONCE[name]
    assert not live(it.seed, parse(it.faults), switches=it.switches.split()).found


def test_small_worlds_in_which_something_is_certain_to_happen() -> None:
    assert len(worlds()) > 120
    for name, it in share(list(worlds().items())):
        assert not it.live(), name


# The checks themselves


@pytest.mark.parametrize(
    "zone, frequency, at, now, slot",
    [
        # A gap: London, 01:00 to 02:00; Lord Howe, 02:00 to 02:30; Santiago, 00:00 to 01:00.
        ("Europe/London", "daily", "01:15", "2026-03-29T01:00", "2026-03-29T01:00"),
        ("Europe/London", "hourly", "00:15", "2026-03-29T01:00", "2026-03-29T00:15"),
        ("Australia/Lord_Howe", "daily", "02:15", "2026-10-03T15:45", "2026-10-03T15:30"),
        ("Australia/Lord_Howe", "hourly", "00:15", "2026-10-03T15:30", "2026-10-03T15:30"),
        ("America/Santiago", "daily", "00:30", "2026-09-06T04:00", "2026-09-06T04:00"),
        # Twice: London, 01:00 to 02:00; Santiago, 23:00 to 24:00 on the day before.
        ("Europe/London", "daily", "01:15", "2026-10-25T01:30", "2026-10-25T00:15"),
        ("Europe/London", "hourly", "00:15", "2026-10-25T01:30", "2026-10-25T01:15"),
        ("America/Santiago", "daily", "23:30", "2026-04-05T03:45", "2026-04-05T02:30"),
    ],
)
def test_the_slots_of_a_day_on_which_clocks_change(zone: str, frequency: str, at: str, now: str, slot: str) -> None:
    hour, minute = at.split(":")
    policy = {"frequency": frequency, "schedule": {"hour": hour, "min": minute}}
    instants = [datetime.strptime(text, "%Y-%m-%dT%H:%M").replace(tzinfo=timezone.utc) for text in (now, slot)]
    assert latest_slot(zone, policy, instants[0]) == instants[1]


Sabotage = Callable[[World], None]


def _unmark(world: World) -> None:
    """One snapshot is none of VMSS any more: the VM lacks that of its slot."""
    snapshot = sorted(world.observer.scheduled())[0]
    world.sim.db.set("VM", snapshot, "is_vmss_snapshot", False)


def _double(world: World) -> None:
    """One snapshot is there twice."""
    ref, row = sorted(world.observer.scheduled().items())[0]
    fields = {name: value for name, value in row.items() if name != "uuid"}
    world.sim.db.create("VM", dict(fields, uuid=world.sim.db.new_uuid()))


def _keep_more(world: World) -> None:
    """All snapshots are there twice, but for those of the latest slots."""
    newest = max(row["snapshot_time"] for row in world.observer.scheduled().values())
    for row in list(world.observer.scheduled().values()):
        time = newest - timedelta(days=1)
        fields = {name: value for name, value in row.items() if name != "uuid"}
        world.sim.db.create("VM", dict(fields, uuid="", name_label="one more", snapshot_time=time))


def _leave_a_disk(world: World) -> None:
    """Storage keeps a disk that was to go."""
    uuid = next(uuid for uuid, (snapshot, _) in sorted(world.observer._doomed_disks.items()))
    world.sim.db.create("VDI", {"uuid": uuid, "is_a_snapshot": True, "managed": True, "SR": world.srs[0]})


def _leave_a_record(world: World) -> None:
    (pool,) = world.sim.db.tables["pool"].rows
    record = json.dumps({"destroying": {"11111111-1111-1111-1111-111111111111": []}})
    world.sim.db.set("pool", pool, "other_config", {"vmss-destroying:x": record})


def _leave_a_session(world: World) -> None:
    world.call("session.login_with_password", "__dom0__vmss", "", "1.0", "vmss")


def _silence(world: World) -> None:
    """The alerts are gone."""
    for ref in list(world.sim.messages.records):
        world.sim.messages.destroy(ref)


def _hold_the_lock(world: World) -> None:
    for path in Path(world.place.lock_dir).glob("*.lock"):
        path.write_text(json.dumps({"session": "OpaqueRef:none"}))


def _leave_a_task(world: World) -> None:
    world.sim.db.create(
        "task", {"name_label": "Async.VM.snapshot", "session": sorted(world.observer._sessions)[0], "status": "pending"}
    )


def _leave_a_vm_down(world: World) -> None:
    world.sim.db.set("VM", world.vms[2], "power_state", "Suspended")


def _set_back(world: World) -> None:
    """The policies look as though they had not been served."""
    for policy in world.policies:
        world.sim.db.set("VMSS", policy, "last_run_time", world.sim.now().replace(year=2025))


@pytest.mark.parametrize(
    "number, sabotage",
    [
        (1, _unmark),
        (1, _double),
        (2, _keep_more),
        (3, _leave_a_disk),
        (3, _leave_a_record),
        (8, _leave_a_session),
        (8, _hold_the_lock),
        (8, _leave_a_task),
        (9, _silence),
        (9, _set_back),
        (14, _leave_a_vm_down),
    ],
)
def test_a_world_that_was_spoiled_afterwards_breaks_the_invariant(
    number: int, sabotage: Sabotage, tmp_path: Path
) -> None:
    world = World(7, tmp_path, Listed([]), small())
    world.live()
    assert not world.observer.found
    sabotage(world)
    world.observer.end("0")
    world.observer.check_end()
    assert {broken.number for broken in world.observer.found} >= {number}, world.observer.found


def _asks(world: World, method: str, *params: str) -> None:
    """The pass is made to ask for something."""
    session = world.call("session.login_with_password", "root", "")
    world.observer.asked(method, [session, *params])


def _destroys_what_is_no_snapshot(world: World) -> None:
    _asks(world, "Async.VM.destroy", world.vms[0])


def _destroys_the_last_one(world: World) -> None:
    _asks(world, "Async.VM.destroy", sorted(world.observer.scheduled())[0])


def _destroys_a_foreign_disk(world: World) -> None:
    _asks(world, "Async.VDI.destroy", world.disks_of(world.vms[0])[0])


def _destroys_without_a_record(world: World) -> None:
    snapshot = sorted(world.observer.scheduled())[0]
    _asks(world, "Async.VDI.destroy", world.disks_of(snapshot)[0])


def _notes_the_run_in_silence(world: World) -> None:
    _asks(world, "VMSS.set_last_run_time", world.policies[0], "20270101T00:00:00Z")


def _tells_what_xencenter_does_not_know(world: World) -> None:
    uuid = world.sim.db.row("VMSS", world.policies[0])["uuid"]
    _asks(world, "message.create", "VMSS_SNAPSHOT_NOT_QUIESCED", "3", "VMSS", uuid, "x")


def _tells_of_a_vm_without_details(world: World) -> None:
    uuid = world.sim.db.row("VMSS", world.policies[0])["uuid"]
    _asks(world, "message.create", "VMSS_SNAPSHOT_SUCCEEDED", "5", "VMSS", uuid, "'VM:x': 1 of 1 VM has its snapshot")


def _names_no_victim(world: World) -> None:
    world.observer._slots[world.policies[0]] = world.sim.now().replace(year=2027)
    world.observer.answered(
        "message.create",
        ["", "VMSS_SNAPSHOT_FAILED", "1", "VMSS", world.sim.db.row("VMSS", world.policies[0])["uuid"], "x"],
        {"Status": "Success", "Value": ""},
    )
    _notes_the_run_in_silence(world)


def _resumes_what_somebody_has_suspended(world: World) -> None:
    world.outside("VM.suspend", world.vms[2])
    world.observer.power.suspended_by_others(world.vms[2])
    _asks(world, "Async.VM.resume", world.vms[2])


def _leaves_a_vm_down_in_silence(world: World) -> None:
    _leave_a_vm_down(world)
    world.observer.end("1")


def _second_pass_runs(world: World) -> None:
    world.observer.first_holds_the_lock = True
    world.observer.second_ended("0 schedules served: 1")


def _never_ends(world: World) -> None:
    world.sim.set_time(world.sim.now().replace(year=2027))
    world.observer.end("0")


def _starts_more_when_it_was_asked_to_stop(world: World) -> None:
    world.observer.asked_to_stop()
    _asks(world, "event.from")
    _asks(world, "Async.VDI.destroy", world.disks_of(world.vms[0])[0])


def _takes_one_of_no_slot(world: World) -> None:
    _asks(world, "Async.VM.snapshot", world.vms[0], "policy 0 2026-01-07T05:59:00Z")


def _does_not_end_when_it_was_asked_to(world: World) -> None:
    world.observer.asked_to_stop()
    world.sim.set_time(world.sim.now() + timedelta(seconds=300))
    world.observer.end("0")


def _keeps_silent_about_the_licence(world: World) -> None:
    world.sim.set_time(world.sim.now() + timedelta(hours=1))
    world.call("simulator.restrict", "", "VMSS", True)
    world.observer.begin()
    world.observer.end("0")


@pytest.mark.parametrize(
    "number, sabotage",
    [
        (7, _starts_more_when_it_was_asked_to_stop),
        (7, _does_not_end_when_it_was_asked_to),
        (9, _keeps_silent_about_the_licence),
        (1, _takes_one_of_no_slot),
        (2, _destroys_what_is_no_snapshot),
        (2, _destroys_the_last_one),
        (4, _destroys_a_foreign_disk),
        (3, _destroys_without_a_record),
        (10, _notes_the_run_in_silence),
        (6, _names_no_victim),
        (9, _tells_what_xencenter_does_not_know),
        (9, _tells_of_a_vm_without_details),
        (5, _second_pass_runs),
        (14, _resumes_what_somebody_has_suspended),
        (14, _leaves_a_vm_down_in_silence),
        (7, _never_ends),
    ],
)
def test_a_pass_that_did_wrong_would_be_seen(number: int, sabotage: Sabotage, tmp_path: Path) -> None:
    with chance(7):
        world = World(7, tmp_path, Listed([]), small())
        for _ in range(2):
            world.wait(60)
            world.tick()
        world.observer.begin()
        assert not world.observer.found
        sabotage(world)
    assert {broken.number for broken in world.observer.found} >= {number}, world.observer.found


def test_the_shares_of_all_runs_are_all_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VMSS_SHARE", raising=False)
    assert share(range(7)) == list(range(7))
    taken = []
    for number in ("1", "2", "3"):
        monkeypatch.setenv("VMSS_SHARE", number + "/3")
        taken.append(share(range(7)))
    assert taken == [[0, 3, 6], [1, 4], [2, 5]]
    monkeypatch.setenv("VMSS_SHARE", "2,3/3")
    assert share(range(7)) == [1, 2, 4, 5]


def test_a_list_of_faults_is_shrunk_to_those_that_matter() -> None:
    faults = [Fault(0, call, "lost_before", 0) for call in range(1, 31)]
    needed = {faults[3], faults[20]}
    assert set(shrink(faults, lambda some: needed <= set(some))) == needed
