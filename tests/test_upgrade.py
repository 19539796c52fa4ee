"""An upgrade, and the way back: what one version leaves behind, the other one finishes; and a pass outlives both."""

import io
import shutil
import subprocess
import sys
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple

import pytest

from tests.dom0 import need
from tests.pool import TestPool
from tests.test_killed import start, wait_for_task

ROOT = Path(__file__).resolve().parent.parent

# The commit of the version before: of the last release; none has been made yet, so it is one of the history.
BEFORE = "f7720f22d666781db27823c099bb23e1be461903"
# The seconds, in the pool's time, that something lasts which a test meets under way.
LONG_S = 200.0


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the version before."""
    need("git")
    words = ["git", "archive", "--format=zip", BEFORE, "vmss"]
    done = subprocess.run(words, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        why = done.stderr.decode("utf-8", "replace").strip()
        pytest.skip("the version before is not in this tree, which is exported or a shallow clone: %s" % why)
    folder = tmp_path_factory.mktemp("before")
    with zipfile.ZipFile(io.BytesIO(done.stdout)) as archive:
        archive.extractall(str(folder))
    # To see that it is what runs, and not the tree that is tested.
    (folder / "vmss" / "version.py").write_text('VERSION = "before"\n')
    said = subprocess.run([sys.executable, "-m", "vmss", "--version"], cwd=str(folder), stdout=subprocess.PIPE)
    assert said.stdout == b"vmss before\n"
    return folder


class Versions(NamedTuple):
    """The checkouts of the version that is there first, and of the one that comes after it."""

    first: Path
    second: Path


@pytest.fixture(params=["upgrade", "back"])
def versions(before: Path, request: Any) -> Versions:
    return Versions(before, ROOT) if request.param == "upgrade" else Versions(ROOT, before)


class Slots(TestPool):
    """A pool whose clock runs, fast, with two schedules that keep one snapshot of each VM: of the disks of two VMs, and
    of the memory of a third one. Nothing takes time but what a test wants to last."""

    def __enter__(self) -> "Slots":
        super().__enter__()
        self.lasts()
        srs = [self.sr(name) for name in ("one", "two", "three")]
        self.call("pool.set_suspend_image_SR", self.call("pool.get_all")[0], srs[2])
        self.vms = [self.vm("vm 0", [srs[0], srs[0]]), self.vm("vm 1", [srs[1]])]
        self.vms.append(self.vm("vm 2", [srs[2]], running=True))
        self.disks = self.policy(self.vms[:2], name="disks", retained_snapshots="1")
        self.memory = self.policy(self.vms[2:], name="memory", type="checkpoint", retained_snapshots="1")
        self.hour = self.simulator.now().hour
        return self

    def lasts(self, **seconds: float) -> None:
        """From now on nothing takes time but this."""
        every = {"sr_create", "sr_scan", "pbd_plug", "vdi_create", "vdi_destroy", "vdi_snapshot", "vm_start"}
        times = {name: (seconds.get(name, 0.0),) * 2 for name in every}
        self.simulator.durations = self.simulator.durations._replace(**times)  # type: ignore[arg-type]

    def slot(self) -> None:
        """Let the next slot of both schedules come."""
        self.hour += 1
        self.simulator.set_time(self.simulator.now().replace(hour=self.hour, minute=15, second=0))
        for policy in (self.disks, self.memory):
            if self.hour == 11:
                self.call("VMSS.set_last_run_time", policy, "20260302T01:00:00Z")

    def run(self, version: Path, *words: str, status: int = 0) -> None:
        """A pass of a version to its end."""
        process = start(self, *words, checkout=version)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, (out, err, self.log())

    def killed(self, version: Path, *tasks: str) -> None:
        """A pass of a version, which is killed while each of these tasks is under way. They end soon after it."""
        process = start(self, checkout=version)
        for task in tasks:
            wait_for_task(self, task)
        process.kill()
        process.communicate()
        self.goes_on()

    def goes_on(self) -> None:
        """What is under way has ended, and takes no time any more."""
        self.lasts()
        self.simulator.set_time(self.simulator.now() + timedelta(minutes=5))

    def records(self) -> List[str]:
        """The records of what is to be destroyed, could not be, or may be suspended."""
        kinds = ("vmss-destroying:", "vmss-left-over:", "vmss-frozen:")
        return [name for name in self.other_config() if name.startswith(kinds)]

    def is_whole(self, *told: str) -> None:
        """Each VM has the snapshot of the latest slot, with all its disks, and nothing else is left of anything; and
        each run was told once: those of the disks as `told` says, after VMSS_SNAPSHOT_."""
        assert [len(self.snapshots(vm)) for vm in self.vms] == [1, 1, 1]
        times = {str(self.snapshots(vm)[0]["snapshot_time"]) for vm in self.vms}
        assert {time[: len("20260302T11")] for time in times} == {"20260302T%02d" % self.hour}
        assert len(self.snapshot_vdis()) == 5
        assert self.call("VM.get_power_state", self.vms[2]) == "Running"
        assert self.records() == [] and self.sessions() == 0 and self.tasks() == []
        assert self.names(self.disks) == ["VMSS_SNAPSHOT_" + name for name in told]
        assert self.names(self.memory) == ["VMSS_SNAPSHOT_SUCCEEDED"] * len(told)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Slots]:
    with Slots(tmp_path, clock="real", speed=20.0) as pool:
        yield pool


def cannot_be_deleted(pool: Slots, vm: str) -> None:
    """From now on xapi refuses to destroy the snapshot of this VM."""
    (old,) = pool.call("VM.get_snapshots", vm)
    error = '["SR_BACKEND_FAILURE_80", "", "no", ""]'
    rule = {"method": "VM.destroy", "object": old, "action": "error", "count": "0", "error": error}
    pool.call("simulator.add_fault", rule)


def test_what_one_version_was_killed_in_the_other_one_finishes(pool: Slots, versions: Versions) -> None:
    pool.slot()
    pool.lasts(vdi_snapshot=LONG_S)
    pool.killed(versions.first, "Async.VM.snapshot", "Async.VM.checkpoint")
    pool.run(versions.second)
    pool.run(versions.second)  # which closes the session that the snapshots needed
    pool.is_whole("SUCCEEDED")
    # And the way back, in the middle of the deletions.
    pool.slot()
    pool.lasts(vdi_destroy=LONG_S)
    pool.killed(versions.second, "Async.VDI.destroy")
    assert pool.records() != []
    pool.run(versions.first)
    pool.run(versions.first)
    pool.is_whole("SUCCEEDED", "SUCCEEDED")
    # What one of them could not delete, the other one deletes.
    cannot_be_deleted(pool, pool.vms[1])
    pool.slot()
    pool.run(versions.second, status=1)
    assert len(pool.snapshot_vdis()) == 6 and pool.records() != []
    pool.call("simulator.clear_faults")
    pool.run(versions.first)
    pool.is_whole("SUCCEEDED", "SUCCEEDED", "FAILED")


def test_what_one_version_left_pending_the_other_one_adopts_and_closes_its_session(
    pool: Slots, versions: Versions
) -> None:
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], "vmss:stop_limit", "0")
    pool.slot()
    pool.lasts(vdi_snapshot=LONG_S)
    stopped = start(pool, checkout=versions.first)
    for task in ("Async.VM.snapshot", "Async.VM.checkpoint"):
        wait_for_task(pool, task)
    stopped.terminate()
    out, err = stopped.communicate(timeout=60)
    assert stopped.returncode == 1 and pool.sessions() == 1, (out, err)
    pool.goes_on()
    pool.run(versions.second)
    pool.run(versions.second)
    pool.is_whole("SUCCEEDED")


def test_a_pass_of_one_version_takes_over_what_the_other_one_is_asked_for(pool: Slots, versions: Versions) -> None:
    pool.slot()
    pool.call("VMSS.set_enabled", pool.memory, False)
    disk = pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", pool.vms[1])[0])
    pool.call(
        "simulator.add_fault", {"method": "VDI.snapshot", "object": disk, "action": "delay", "seconds": str(LONG_S)}
    )
    at_work = start(pool, checkout=versions.first)
    wait_for_task(pool, "Async.VM.snapshot")
    pool.run(versions.second, "--policy", pool.uuid("VMSS", pool.memory))
    assert at_work.poll() is None
    pool.goes_on()
    out, err = at_work.communicate(timeout=60)
    assert at_work.returncode == 0 and b"s served: 2" in out + err, (out, err)
    pool.is_whole("SUCCEEDED")


def test_a_pass_outlives_an_upgrade_of_its_files(pool: Slots, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "simulator")
    shutil.copytree(str(ROOT / "vmss"), str(checkout / "vmss"), ignore=ignored)
    pool.slot()
    pool.run(checkout)
    pool.slot()
    # What few passes need: a VM that fails, and a deletion that does.
    cannot_be_deleted(pool, pool.vms[0])
    rule = {"method": "VM.snapshot", "object": pool.vms[1], "action": "error", "error": '["NO_HOSTS_AVAILABLE"]'}
    pool.call("simulator.add_fault", rule)
    pool.lasts(vdi_snapshot=LONG_S)
    process = start(pool, checkout=checkout)
    wait_for_task(pool, "Async.VM.checkpoint")
    for path in checkout.rglob("*.py"):
        path.write_text("raise ImportError('of another version')\n")
    pool.goes_on()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"VMs snapshotted: 2 of 3" in out + err, (out, err)
    assert not [line for line in pool.log() if "another version" in line or "error of its own" in line]
    assert pool.names(pool.disks) == ["VMSS_SNAPSHOT_SUCCEEDED", "VMSS_SNAPSHOT_FAILED"]


def test_a_module_of_another_version_that_does_not_go_with_what_is_loaded_ends_no_pass(tmp_path: Path) -> None:
    shutil.copytree(str(ROOT / "vmss"), str(tmp_path / "vmss"), ignore=shutil.ignore_patterns("__pycache__", "data"))
    (tmp_path / "vmss" / "passes" / "aa_newer.py").write_text("from vmss.core.records import NOT_THERE\n")
    code = (
        "import sys; from vmss.passes.loaded import load_all; load_all(); print('vmss.passes.unplaced' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=str(tmp_path), stdout=subprocess.PIPE)
    assert done.stdout == b"True\n"
