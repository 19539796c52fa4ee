"""The simulation of weeks: fixed and fresh seeds, what was seen once, and whether the checks can fail.

Longer, and with what was met in numbers: python -m tests.simulation --weeks --seconds 600
"""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Set

import pytest

from tests.simulation.cases import CASES, CHECKS, DAILY, HOURLY, MARKED, TWO, world_of
from tests.simulation.run import live_weeks
from tests.simulation.share import share
from tests.simulation.test_simulation import printed_by_two_processes
from tests.simulation.troubles import DAY, KINDS, Trouble, parse_troubles
from tests.simulation.weeks import Weeks
from tests.simulation.world import PolicyShape, chance

UTC = timezone.utc
ROOT = Path(__file__).resolve().parent.parent.parent
FIXED = range(1, 17)
# Worlds that nobody has seen yet, drawn as in test_simulation.py; by hand:
# python -m tests.simulation --weeks --seconds 600 --keep-going
FRESH_SEED = os.environ.get("VMSS_FRESH_SEED", "")
FRESH_WORLDS = 4


def _keeps_the_promises(seed: int) -> None:
    found = live_weeks(seed).surprises
    # The command finds the fewest troubles too, which takes longer than a test may.
    assert not found, "python -m tests.simulation --weeks --seed %d" % seed


@pytest.mark.parametrize("seed", share(FIXED))
def test_the_promises_are_kept_for_a_fixed_seed(seed: int) -> None:
    _keeps_the_promises(seed)


@pytest.mark.skipif(not FRESH_SEED, reason="VMSS_FRESH_SEED is not set")
@pytest.mark.parametrize("number", range(FRESH_WORLDS))
def test_the_promises_are_kept_for_a_fresh_seed(number: int) -> None:
    _keeps_the_promises(int(FRESH_SEED, 16) + number)


@pytest.mark.parametrize("name", share(sorted(CASES)))
def test_what_was_seen_once_lapses_where_it_is_marked_and_nowhere_else(name: str) -> None:
    outcome = live_weeks(1, shape=CASES[name].shape)
    seen = {lapse.check: str(lapse) for lapse in outcome.lapses}
    assert not outcome.found
    surprises = {check: text for check, text in seen.items() if check not in CASES[name].marks}
    mended = [check for check in CASES[name].marks if check not in seen]
    assert not surprises
    assert not mended, "this is mended: take its mark out of tests/simulation/cases.py"


@pytest.mark.parametrize(
    "check, name",
    [
        ("13 pruned", "fewer are to be kept, and somebody prunes"),
        ("handed over", "somebody asks the pass that is at work for a run"),
        ("14 clocks", "a host whose clock is wrong becomes the coordinator"),
    ],
)
def test_what_needs_somebody_to_do_something_is_checked_in_a_case(check: str, name: str) -> None:
    assert live_weeks(1, shape=CASES[name].shape).asked[check] > 0


def test_every_mark_is_of_a_check_and_has_a_reason() -> None:
    assert set(CHECKS) >= MARKED
    assert all(reason for case in CASES.values() for reason in case.marks.values())


def test_the_same_seed_gives_the_same_world_in_any_process() -> None:
    answers = printed_by_two_processes("--weeks", "1", "--seed", "41", "--count", "1", apart_from=b"seconds: ")
    assert answers[0] == answers[1] and len(answers[0]) > 1000


def test_a_list_of_troubles_is_read_as_it_is_written() -> None:
    troubles = [Trouble(3, 7, kind, 11) for kind in KINDS]
    assert parse_troubles(" ".join(map(str, troubles))) == troubles


# The checks themselves


def _lives(tmp_path: Path, spoil: Callable[[Weeks], None], policy: PolicyShape = HOURLY, looks: int = 9) -> Set[str]:
    """A world in which something is spoiled; and some looks later, without a pass in between, what has lapsed."""
    shape = world_of(TWO, [policy], [])
    world = Weeks(1, tmp_path, shape._replace(quarters=4 * 4))
    world.live()
    assert not world.ledger.lapses and not world.observer.found
    with chance(1):
        spoil(world)
        for _ in range(looks):
            world.sim.set_time(world.sim.now() + timedelta(minutes=15))
            world.ledger.look()
    return {lapse.check for lapse in world.ledger.lapses}


def _nothing(world: Weeks) -> None:
    """No pass runs any more."""


def _one_more(world: Weeks) -> None:
    """The snapshot that was destroyed last is there again."""
    for vm in world.vms:
        for _ in range(3):
            _copy(world, vm, world.sim.now() - timedelta(hours=9))
        _copy(world, vm, world.sim.now() + timedelta(hours=1))


def _copy(world: Weeks, vm: str, time: datetime) -> None:
    row = dict(world.row("VM", world.snapshots_of(vm)[0]), snapshot_time=time, name_label=str(time), uuid="")
    world.sim.db.create("VM", row)


def _same_name(world: Weeks) -> None:
    snapshot = world.snapshots_of(world.vms[0])[0]
    world.sim.db.create("VM", dict(world.row("VM", snapshot), uuid=""))


def _many_go(world: Weeks) -> None:
    for number in range(4):
        _copy(world, world.vms[0], world.sim.now() - timedelta(hours=10 + number))
    world.ledger.look()
    for snapshot in world.snapshots_of(world.vms[0])[:4]:
        world.sim.db.delete("VM", snapshot)


def _all_go(world: Weeks) -> None:
    for snapshot in world.snapshots_of(world.vms[0]):
        world.sim.db.delete("VM", snapshot)


def _disks_go(world: Weeks) -> None:
    for snapshot in world.snapshots_of(world.vms[0]):
        for disk in world.disks_of(snapshot):
            world.sim.db.delete("VDI", disk)


def _suspend(world: Weeks) -> None:
    world.outside("VM.start", world.vms[0], False, False)
    world.ledger.accept(world.vms[0])
    world.ledger.look()
    world.outside("VM.suspend", world.vms[0])


def _start(world: Weeks) -> None:
    world.outside("VM.start", world.vms[0], False, False)


def _record(world: Weeks) -> None:
    (pool,) = world.sim.db.tables["pool"].rows
    world.sim.db.set("pool", pool, "other_config", {"vmss-destroying:x": "{}"})


def _prunes_nothing(world: Weeks) -> None:
    _one_more(world)
    world.ledger.pruned(world.ledger.snapshots(), whole=True)


def _prunes_too_much(world: Weeks) -> None:
    before = {vm: dict(rows) for vm, rows in world.ledger.snapshots().items()}
    world.sim.db.delete("VM", world.snapshots_of(world.vms[0])[0])
    world.ledger.pruned(before, whole=False)


def _says_that_it_has_run(world: Weeks) -> None:
    world.sim.set_time(world.sim.now() + timedelta(minutes=5))
    world.ledger.served_by_hand(world.policies[0], world.sim.now(), 0)


@pytest.mark.parametrize(
    "check, spoil",
    [
        ("13 pruned", _prunes_nothing),
        ("13 pruned", _prunes_too_much),
        ("handed over", _says_that_it_has_run),
        ("12 served", _nothing),
        ("13 kept", _one_more),
        ("12 names", _same_name),
        ("13 gently", _many_go),
        ("15 usable", _all_go),
        ("15 usable", _disks_go),
        ("14 runs", _suspend),
        ("14 runs", _start),
        ("13 finished", _record),
    ],
)
def test_a_world_that_is_spoiled_lapses(check: str, spoil: Callable[[Weeks], None], tmp_path: Path) -> None:
    assert check in _lives(tmp_path, spoil)


def test_a_wrong_clock_that_doctor_does_not_name_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Weeks(1, tmp_path, CASES["a host whose clock is wrong becomes the coordinator"].shape)
    carry_out = world.call

    def tells_no_host(method: str, *params: Any) -> Any:
        return None if method == "simulator.set_host_clock" else carry_out(method, *params)

    monkeypatch.setattr(world, "call", tells_no_host)
    world.live()
    assert "14 clocks" in {lapse.check for lapse in world.ledger.lapses}


def test_what_has_no_record_keeps_no_image_from_waiting_as_far_as_xapi_knows(tmp_path: Path) -> None:
    world = Weeks(1, tmp_path, world_of([((0,), True, 0)], [HOURLY], [])._replace(quarters=4 * 4))
    world.live()
    assert not world.uncoalesced()
    newest = world.snapshots_of(world.vms[0])[1]
    world.sim.db.delete("VDI", world.disks_of(newest)[0])  # a dying xapi has forgotten it, and its image is there
    assert world.uncoalesced() == {"sr 0"}


def test_a_vm_that_is_not_tried_again_is_seen(tmp_path: Path) -> None:
    assert "11 tried again" in _lives(tmp_path, _nothing, DAILY, looks=110)


def _leave_a_disk(world: Weeks) -> None:
    vdi = world.disks_of(world.snapshots_of(world.vms[0])[0])[0]
    world.sim.db.create("VDI", dict(world.row("VDI", vdi), uuid=""))


@pytest.mark.parametrize("spoil", [_nothing, _leave_a_disk, _record, _suspend])
def test_the_account_knows_what_status_has_to_say(spoil: Callable[[Weeks], None], tmp_path: Path) -> None:
    shape = world_of(TWO, [DAILY], [])
    world = Weeks(1, tmp_path, shape._replace(quarters=DAY))
    world.live()
    assert world.ledger.verdict().well
    with chance(1):
        spoil(world)
        world.sim.set_time(world.sim.now() + timedelta(hours=1))
        world.ledger.look()
        if spoil is not _nothing:
            assert not world.ledger.verdict().well
            assert not world.ledger.verdict().broken
        world.sim.set_time(world.sim.now() + timedelta(hours=30))
        world.ledger.look()
    verdict = world.ledger.verdict()
    assert verdict.missing and verdict.broken
    assert bool(verdict.left) == (spoil in (_leave_a_disk, _record))
