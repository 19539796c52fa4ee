"""What one VM more costs commands that look at a whole pool: as many calls, bytes and operations in any pool.

They are counted; no time is measured.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import pytest

from tests.pool import START
from tests.simulator import test_simulator_large
from tests.simulator.test_simulator_large import large_pool
from tests.test_growth import operations
from vmss.core.policy import Policy
from vmss.demo import VirtualClock
from vmss.edges.settings import Place, Settings
from vmss.edges.surroundings import Surroundings
from vmss.insight import checks_of_chains, checks_of_dates, coverage, metrics, outlook, plans, policies, report
from vmss.insight.checks import examine
from vmss.insight.reading import Reading, reading
from vmss.installation.root import Root
from vmss.passes.request import Request
from vmss.passes.run import run
from vmss.simulator import Simulator
from vmss.simulator.server import Server

SIZES = (100, 200, 1000)
# What is looked at of so many only, whatever the pool: so few that the smallest pool has as many.
LIMITS = ((checks_of_chains, "_VMS_MAX"), (metrics, "_CHAINS_OF"), (checks_of_dates, "_SNAPSHOTS_MAX"))


class Cost(NamedTuple):
    """What a command cost: calls, their bytes, and how often a function was called or a generator resumed in it."""

    calls: float
    size: float
    operations: float


def commands(around: Surroundings) -> Dict[str, Callable[[], Any]]:
    """What commands do that look at a whole pool, but for the printing."""

    def with_session(look: Callable[[Reading], Any]) -> Callable[[], Any]:
        def work() -> None:
            with reading(around) as session:
                look(session)

        return work

    def known(session: Reading) -> List[Policy]:
        return [entry.policy for entry in policies.read(session) if entry.policy is not None]

    return {
        "next": with_session(lambda session: outlook.read_outlook(session, 24)),
        "doctor": lambda: examine(around, Root(around.place.lock_dir), False),
        "coverage": with_session(coverage.read),
        "plan": with_session(lambda session: list(plans.read_plan(session, policies.read(session), True))),
        "show": with_session(lambda session: [policies.surplus(session, policy) for policy in known(session)]),
        "report": with_session(lambda session: report.read(session, around.place, timedelta(days=7), 50)),
        "metrics": with_session(lambda session: metrics.text(session, around.place)),
        "run --dry-run": lambda: run(Request(dry_run=True), around),
    }


def costs(folder: Path, vms: int) -> Dict[str, Cost]:
    """What each of the commands costs in a pool of so many VMs."""
    simulator = Simulator(seed=1, now=START, clock="virtual")
    large_pool(simulator, vms)
    for policy in simulator.db.tables["VMSS"].rows:
        simulator.db.set("VMSS", policy, "last_run_time", START - timedelta(days=1))  # so both are due
    with Server(simulator, socket=str(folder / "x.sock")):
        place = Place("unix:%s/x.sock" % folder, str(folder / "log"), str(folder / "lock"), str(folder / "conf"))
        around = Surroundings(place, Settings(timezone="UTC"), clock=VirtualClock(simulator))
        return {name: _cost(simulator, work) for name, work in commands(around).items()}


def _cost(simulator: Simulator, work: Callable[[], Any]) -> Cost:
    simulator.reset_counts()
    counted = operations(work)
    traffic = simulator.traffic().values()
    return Cost(sum(each.calls for each in traffic), sum(each.bytes_in + each.bytes_out for each in traffic), counted)


def test_what_one_vm_more_costs_does_not_grow_with_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_simulator_large, "SNAPSHOTS", 1)
    for module, name in LIMITS:
        monkeypatch.setattr(module, name, 40)
    small, middle, large = [costs(tmp_path, vms) for vms in SIZES]
    for name in small:
        at_first, later = _each(small[name], middle[name], SIZES[:2]), _each(middle[name], large[name], SIZES[1:])
        assert later.calls < 1.2 * at_first.calls + 0.01 and later.calls < 0.15, name
        assert later.size < 1.2 * at_first.size and later.operations < 1.2 * at_first.operations, name


def _each(fewer: Cost, more: Cost, vms: Sequence[int]) -> Cost:
    """What one VM more costs, between two pools of so many."""
    return Cost(*((b - a) / (vms[1] - vms[0]) for a, b in zip(fewer, more)))
