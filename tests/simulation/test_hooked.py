"""Worlds with hooks: real programs that are quick or slow, fail or hang, in passes that are killed or told to stop.

They take real time, so that the calls of such a world differ from run to run: no seed draws hooks.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Optional

import pytest

from tests.simulation.conduct import TAKES
from tests.simulation.faults import Fault, Listed
from tests.simulation.small import SEED, small
from tests.simulation.world import World

# What every hook does first; then those before the snapshot of one VM do more.
TELLS = """#!/bin/sh
echo "$VMSS_PHASE|$VMSS_VM_NAME|$VMSS_RESULT" >>%s
[ "$VMSS_PHASE|$VMSS_VM_NAME" = "before-vm|vm 0" ] || exit 0
%s
"""
HOOKS: Dict[str, str] = {"quick": "", "slow": "sleep 0.1", "fails": "exit 7", "hangs": "exec sleep 60"}
FAILED = ("fails", "hangs")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that nobody but root can write to, nor anything above it."""
    if os.geteuid() != 0:
        pytest.skip("hooks have to belong to root")
    path = Path(tempfile.mkdtemp(prefix="vmss_hooked_", dir=os.path.expanduser("~root")))
    yield path
    shutil.rmtree(str(path))


class AtSnapshots(Listed):
    """A fault of a kind strikes where the first two passes ask for their first snapshots."""

    def __init__(self, kind: str) -> None:
        Listed.__init__(self, [])
        self._kind = kind
        self.struck: List[int] = []

    def at(self, number: int, call: int, method: str) -> Optional[Fault]:
        if not self._kind or method not in TAKES or number in self.struck or number > 1:
            return None
        self.struck.append(number)
        return Fault(number, call, self._kind, number)


class Hooked(World):
    """A world in which what hooks have told is undone that a dead process would not have started."""

    def _files(self) -> Dict[Path, bytes]:
        told = self._folder.parent / "told"
        files = World._files(self)
        if told.exists():
            files[told] = told.read_bytes()
        return files


def lives(folder: Path, kind: str, on_error: str, fault: str = "") -> World:
    """A world with hooks of a kind before and after each snapshot."""
    hooks = folder / "hooks.d"
    hooks.mkdir()
    for phase in ("before-pass", "before-vm", "after-vm", "after-pass"):
        path = hooks / phase
        path.write_text(TELLS % (folder / "told", HOOKS[kind]))
        path.chmod(0o755)
    settings = small().settings._replace(hooks_dir=str(hooks), hook_limit=1, hook_error=on_error)
    (folder / "world").mkdir()
    plan = AtSnapshots(fault)
    world = Hooked(SEED, folder / "world", plan, small()._replace(settings=settings, steps=(60, 60)))
    world.live()
    assert plan.struck[:1] == ([0] if fault else [])
    return world


def unended(folder: Path) -> Iterator[str]:
    """What was begun for a VM, or for a pass, and neither ended nor begun anew only after its end."""
    begun: Dict[str, bool] = {}
    for line in (folder / "told").read_text().splitlines():
        phase, vm, result = line.split("|")
        if phase.startswith("before"):
            if begun.get(vm):
                yield "%s is begun twice" % (vm or "a pass")
            begun[vm] = True
        else:
            # What a pass that was killed has begun may be ended twice; and a hook that is told to stop with its pass
            # may not have come to say that it has begun.
            if not begun.get(vm) and result not in ("lost", "VMSS_RUN_STOPPED"):
                yield "%s is ended, and was not begun" % (vm or "a pass")
            begun[vm] = False
    for vm in begun:
        if begun[vm]:
            yield "%s is not ended" % (vm or "a pass")


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("on_error", ["continue", "skip"])
def test_a_hook_costs_at_most_the_snapshots_of_its_own_vm_which_is_told(kind: str, on_error: str, folder: Path) -> None:
    world = lives(folder, kind, on_error)
    assert not world.observer.found and not list(unended(folder))
    bodies = [it["body"] for it in world.sim.messages.records.values() if it["name"] == "VMSS_SNAPSHOT_FAILED"]
    named = [line for body in bodies for line in body.splitlines() if line.startswith("VM:")]
    skips = kind in FAILED and on_error == "skip"
    assert bool(named) == skips
    assert all(line.startswith("VM:vm 0 ") and "'VMSS_HOOK_FAILED'" in line for line in named)


@pytest.mark.parametrize("kind", ["killed_before", "killed_after", "stop_asked", "xapi_killed", "operation_hangs"])
def test_what_was_begun_for_a_vm_is_ended_whatever_becomes_of_its_pass(kind: str, folder: Path) -> None:
    world = lives(folder, "slow", "skip", kind)
    assert not world.observer.found
    assert not list(unended(folder))
