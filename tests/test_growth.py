"""What the work for one VM costs does not grow with the pool: operations are counted, not time."""

from cProfile import Profile
from datetime import timedelta
from typing import Any, Callable, Dict, List

import pytest

from benchmarks.draw import Case, draw
from benchmarks.makespan import run
from tests.simulator.client import Client
from tests.simulator.conftest import START
from vmss.simulator import Simulator
from vmss.simulator.build import build_pool

SMALL, LARGE = 100, 1000
# As many references as the product names in one query.
CHUNK = 50
NULL = "OpaqueRef:NULL"


def operations(work: Callable[[], Any]) -> int:
    """How often a function is called or a generator resumed while `work` runs, in Python and in C."""
    profile = Profile()
    profile.runcall(work)
    return sum(entry.callcount for entry in profile.getstats())


# The heaps of the engine may show, a look at every VM for each VM may not: that would be 10. Where each VM is on three
# SRs, a hundred VMs are too few to keep 16 SRs busy, and nothing waits.
@pytest.mark.parametrize("shape, most", [("even", 1.1), ("skewed", 1.1), ("tangled", 1.6)])
def test_the_operations_of_the_engine_for_one_vm_do_not_grow_with_the_pass(shape: str, most: float) -> None:
    def each(vms: int) -> float:
        pool = draw(Case(vms, 16, shape, "snapshots", True), True)
        return operations(lambda: run(pool)) / vms

    assert each(LARGE) < most * each(SMALL)


class Life:
    """What happens to the VMs of a pool of the embedded xapi, all of it to each of them."""

    def __init__(self, vms: int) -> None:
        self.sim = Simulator(seed=1, now=START)
        self.root = Client(self.sim, self.sim.call("session.login_with_password", "root", ""))
        self.count = vms
        self.vms: List[str] = []

    def build(self) -> None:
        self.vms = build_pool(self.sim.call, hosts=2, srs=4, vms=self.count, disks=1).vms

    def snapshot(self) -> None:
        for vm in self.vms:
            self.root("VM.snapshot", vm, "snapshot", [])

    def query(self) -> None:
        vbds = self._where("VBD", "VM", self.vms)
        users = ["('%s')" % ref for ref, vbd in vbds.items() if vbd["VDI"] != NULL]
        assert len(self._where("VDI", "VBDs", users)) == len(users)
        assert len(self._where("VM", "snapshot_of", self.vms)) == self.count
        assert set(self._where("VM", "_ref", self.vms)) == set(self.vms)
        metrics = [self.root("VM.get_metrics", vm) for vm in self.vms]
        assert set(self._where("VM", "metrics", metrics)) == set(self.vms)
        # Right before deletions.
        counting = '(field "is_vmss_snapshot" = "true") and (field "blocked_operations" = "()")'
        assert self._where("VM", "snapshot_of", self.vms, counting) == {}
        on = '(field "is_a_snapshot" = "false") and (field "snapshot_schedule" = "%s")' % NULL
        assert set(self._where("VM", "_ref", self.vms, on)) == set(self.vms)
        assert self._where("VM", "_ref", self.vms, 'not (field "current_operations" = "()")') == {}

    def _where(self, cls: str, field: str, texts: List[str], condition: str = "") -> Dict[str, Any]:
        """Ask as the product does, for the records in which a field has one of many values."""
        found: Dict[str, Any] = {}
        for start in range(0, len(texts), CHUNK):
            named = " or ".join('(field "%s" = "%s")' % (field, text) for text in texts[start : start + CHUNK])
            expression = "(%s) and (%s)" % (condition, named) if condition else named
            found.update(self.root(cls + ".get_all_records_where", expression))
        return found

    def destroy(self) -> None:
        for vm in self.vms:
            (snapshot,) = self.root("VM.get_snapshots", vm)
            disks = [self.root("VBD.get_VDI", vbd) for vbd in self.root("VM.get_VBDs", snapshot)]
            self.root("VM.destroy", snapshot)
            for disk in disks:
                if disk != NULL:
                    self.root("VDI.destroy", disk)
        # The garbage collectors of the SRs have their share.
        self.sim.set_time(self.sim.now() + timedelta(hours=4))

    def wait(self) -> None:
        """Operations of some VMs in the background, of which a client awaits many together."""
        for start in range(0, SMALL, CHUNK):
            tasks = [self.root("Async.VM.snapshot", vm, "one more", []) for vm in self.vms[start : start + CHUNK]]
            pending, token = set(tasks), ""
            while pending:
                answer = self.root("event.from", ["task/" + task for task in sorted(pending)], token, 60.0)
                token = answer["token"]
                pending -= {it["ref"] for it in answer["events"] if it["snapshot"]["status"] != "pending"}
            for task in tasks:
                assert self.root("task.get_status", task) == "success"
                self.root("task.destroy", task)

    def operations(self) -> Dict[str, float]:
        """The operations for one VM of each part, in their order."""
        parts = (self.build, self.snapshot, self.query, self.destroy)
        each = {part.__name__: operations(part) / self.count for part in parts}
        return {**each, "wait": operations(self.wait) / SMALL}


def test_the_operations_of_the_embedded_xapi_for_one_vm_do_not_grow_with_the_pool() -> None:
    small, large = Life(SMALL).operations(), Life(LARGE).operations()
    assert {name: large[name] / small[name] for name in large if large[name] > 1.03 * small[name]} == {}
