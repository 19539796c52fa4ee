"""The commands of `vmss xe` for VMs, their snapshots and disks: the calls they make, what they ask and what they print.

What they have to do is that of xe: xen-api, ocaml/xapi-cli-server/cli_operations.ml.
"""

import os
import subprocess
import sys
from typing import List, Set

import pytest

from tests import test_xe
from tests.documents import ROOT
from tests.pool import TestPool
from tests.test_commands import Ended
from tests.test_xe import do

here = test_xe.here


def asked(pool: TestPool, answer: str, *words: str) -> Ended:
    """A command that asks, in a process of its own, which reads this answer."""
    done = subprocess.run(
        [sys.executable, "-m", "vmss", "xe", *words],
        input=answer.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=str(ROOT), VMSS_XAPI=pool.place.xapi),
        timeout=60,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def disks(pool: TestPool) -> Set[str]:
    return {record["uuid"] for record in pool.call("VDI.get_all_records").values() if record["managed"]}


def taken(pool: TestPool, capture: "pytest.CaptureFixture[bytes]", vm: str, *words: str) -> str:
    """The uuid of a snapshot that was taken by a command."""
    ended = do(capture, words[0], "uuid=" + pool.uuid("VM", vm), "new-name-label=s", *words[1:])
    assert ended.status == 0, ended.err
    return ended.out.strip()


def test_a_checkpoint_has_the_memory(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    sr = here.sr()
    here.call("pool.set_suspend_image_SR", here.call("pool.get_all")[0], sr)
    vm = here.vm("vm", [sr], running=True)
    uuid = taken(here, capfdbinary, vm, "vm-checkpoint", "new-name-description=by hand")
    ref = here.call("VM.get_by_uuid", uuid)
    assert here.call("VM.get_power_state", ref) == "Suspended" and here.call("VM.get_power_state", vm) == "Running"
    assert here.call("VM.get_name_description", ref) == "by hand"
    # Uninstalled, its memory goes with it.
    before = disks(here)
    ended = do(capfdbinary, "snapshot-uninstall", "snapshot-uuid=" + uuid, "--force")
    assert ended.status == 0 and ended.out.count("\nVDI: ") == 2 and len(before - disks(here)) == 2


def test_a_vm_is_reverted_to_a_snapshot(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    vm = here.vm("vm", [here.sr()])
    here.call("VM.set_name_description", vm, "then")
    uuid = taken(here, capfdbinary, vm, "vm-snapshot")
    here.call("VM.set_name_description", vm, "now")
    for words in (["snapshot-revert"], ["snapshot-revert", "uuid=" + here.uuid("VM", vm)]):
        assert do(capfdbinary, *words).status == 1
    assert here.call("VM.get_name_description", vm) == "now"
    assert do(capfdbinary, "snapshot-revert", "snapshot-uuid=" + uuid).status == 0
    assert here.call("VM.get_name_description", vm) == "then"


@pytest.mark.parametrize("answer, gone", [("yes\n", True), (" YES \n", True), ("no\n", False), ("y\n", False)])
def test_it_asks_before_a_snapshot_is_uninstalled(
    here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]", answer: str, gone: bool
) -> None:
    vm = here.vm("vm", [here.sr()])
    uuid = taken(here, capfdbinary, vm, "vm-snapshot")
    (record,) = [record for record in here.call("VDI.get_all_records").values() if record["is_a_snapshot"]]
    before = disks(here)
    said = (
        "The following items are about to be destroyed\nVM : %s (s)\nVDI: %s (vm 0) \nType 'yes' to continue\n%s\n"
        % (uuid, record["uuid"], "All objects destroyed" if gone else "Aborted (you typed: '%s')" % answer.strip())
    )
    ended = asked(here, answer, "snapshot-uninstall", "uuid=" + uuid)
    assert (ended.status, ended.out, ended.err) == (0, said, "")
    assert (before - disks(here) == {record["uuid"]}) == gone and bool(here.call("VM.get_snapshots", vm)) != gone


def test_who_cannot_answer_has_not_agreed(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    vm = here.vm("vm", [here.sr()])
    uuid = taken(here, capfdbinary, vm, "vm-snapshot")
    ended = asked(here, "", "snapshot-uninstall", "uuid=" + uuid)
    assert ended.status == 1 and "nothing was done" in ended.err and "Traceback" not in ended.err
    assert len(here.call("VM.get_snapshots", vm)) == 1 and here.sessions() == 0


def test_only_disks_that_a_snapshot_owns_are_destroyed_with_it(
    here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]"
) -> None:
    """Not the CD in its drive, nor a disk that is attached without the mark that it belongs to the VM."""
    sr, isos = here.sr(), here.sr("isos")
    vm = here.vm("vm", [sr])
    here.vbd(vm, here.vdi(sr, name="foreign"), 1)
    here.vbd(vm, here.vdi(isos, name="iso"), 3, type="CD", mode="RO", other_config={})
    before = disks(here)
    uuid = taken(here, capfdbinary, vm, "vm-snapshot")
    made = disks(here) - before
    assert len(made) == 2
    for vbd in here.call("VM.get_VBDs", here.call("VM.get_by_uuid", uuid)):
        if here.call("VBD.get_userdevice", vbd) == "1":
            here.call("VBD.remove_from_other_config", vbd, "owner")
    ended = do(capfdbinary, "snapshot-uninstall", "uuid=" + uuid, "force=true")
    assert ended.status == 0 and "Type 'yes'" not in ended.out
    assert len(made & disks(here)) == 1 and before <= disks(here)
    assert "no object of this type" in do(capfdbinary, "snapshot-uninstall", "uuid=" + uuid, "force=true").err


def test_a_destroyed_snapshot_leaves_its_disks(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    vm = here.vm("vm", [here.sr()])
    uuid = taken(here, capfdbinary, vm, "vm-snapshot")
    before = disks(here)
    assert do(capfdbinary, "snapshot-destroy", "uuid=" + here.uuid("VM", vm)).status == 1
    assert do(capfdbinary, "snapshot-destroy", "uuid=" + uuid).status == 0
    assert here.call("VM.get_snapshots", vm) == [] and disks(here) == before
    (left,) = [record for record in here.call("VDI.get_all_records").values() if record["is_a_snapshot"]]
    assert do(capfdbinary, "vdi-destroy", "uuid=" + left["uuid"]).status == 0
    assert before - disks(here) == {left["uuid"]}


def test_a_vm_is_started_suspended_resumed_and_shut_down(
    here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]"
) -> None:
    sr = here.sr()
    here.call("pool.set_suspend_image_SR", here.call("pool.get_all")[0], sr)
    vm = here.vm("vm", [sr])
    host = here.call("host.get_name_label", here.host)

    def state(*words: str) -> str:
        ended = do(capfdbinary, *words, "vm=vm")
        assert (ended.status, ended.out) == (0, ""), ended.err
        return str(here.call("VM.get_power_state", vm))

    assert state("vm-start", "on=" + host) == "Running"
    here.call("VM.suspend", vm)
    assert state("vm-resume") == "Running"
    here.call("VM.suspend", vm)
    assert state("vm-resume", "on=" + here.uuid("host", here.host)) == "Running"
    assert state("vm-shutdown") == "Halted"
    assert state("vm-start", "paused=true") == "Paused"
    assert state("vm-shutdown", "--force") == "Halted"
    assert "No host" in do(capfdbinary, "vm-start", "vm=vm", "on=elsewhere").err


def test_the_cd_of_the_only_drive_is_ejected(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    vm = here.vm("vm", [here.sr()])
    assert "no CD drive" in do(capfdbinary, "vm-cd-eject", "vm=vm").err
    iso = here.vdi(here.sr("isos"), name="iso")
    drives = [here.vbd(vm, iso, number, type="CD", mode="RO") for number in (3, 4)]
    assert "2 CD drives: use vbd-eject" in do(capfdbinary, "vm-cd-eject", "vm=vm").err
    assert do(capfdbinary, "vbd-eject", "uuid=" + here.uuid("VBD", drives[0])).status == 0
    here.call("VBD.destroy", drives[0])
    assert do(capfdbinary, "vm-cd-eject", "vm=vm").status == 0
    assert here.call("VBD.get_empty", drives[1]) is True


def test_the_disks_of_a_vm_are_listed(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    vm = here.vm("vm", [here.sr("storage")])
    here.vbd(vm, "OpaqueRef:NULL", 3, type="CD", mode="RO", empty=True)
    (vbd,) = [vbd for vbd in here.call("VM.get_VBDs", vm) if here.call("VBD.get_type", vbd) == "Disk"]
    disk = here.uuid("VDI", here.call("VBD.get_VDI", vbd))
    assert do(capfdbinary, "vm-disk-list", "vm=vm").out == (
        "Disk 0 VBD:\nuuid ( RO)             : %s\n    vm-name-label ( RO): vm\n       userdevice ( RW): 0\n\n\n"
        "Disk 0 VDI:\nuuid ( RO)             : %s\n       name-label ( RW): vm 0\n    sr-name-label ( RO): storage\n"
        "     virtual-size ( RO): 1073741824\n\n\n" % (here.uuid("VBD", vbd), disk)
    )
    words: List[str] = ["vm-disk-list", "vm=vm", "vbd-params=none", "vdi-params=uuid", "--minimal"]
    assert do(capfdbinary, *words).out == disk + "\n"


def test_the_control_domain_is_no_vm_that_a_command_selects(
    here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]"
) -> None:
    """Else --multiple would shut it down with the others."""
    dom0 = here.uuid("VM", here.call("host.get_control_domain", here.host))
    assert "No VM" in do(capfdbinary, "vm-shutdown", "uuid=" + dom0, "--force").err
    assert "No VM" in do(capfdbinary, "vm-snapshot", "power-state=running", "new-name-label=x", "--multiple").err


def test_storage_is_attached(here: TestPool, capfdbinary: "pytest.CaptureFixture[bytes]") -> None:
    sr = here.sr()
    (pbd,) = here.call("SR.get_PBDs", sr)
    here.call("PBD.unplug", pbd)
    assert do(capfdbinary, "pbd-plug", "uuid=" + here.uuid("PBD", pbd)).status == 0
    assert here.call("PBD.get_currently_attached", pbd) is True
    here.call("PBD.unplug", pbd)
    here.call("PBD.destroy", pbd)
    where = ("sr-uuid=" + here.uuid("SR", sr), "host-uuid=" + here.uuid("host", here.host))
    made = do(capfdbinary, "pbd-create", *where, "device-config:server=nfs", "device-config:serverpath=/x")
    (new,) = here.call("SR.get_PBDs", sr)
    assert made.out.strip() == here.uuid("PBD", new)
    assert here.call("PBD.get_device_config", new) == {"server": "nfs", "serverpath": "/x"}
