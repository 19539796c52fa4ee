"""Storage repositories that are not attached where VMs need them: found by the doctor, named in the alert, mended."""

from pathlib import Path
from typing import Dict, List, Sequence

import pytest

from tests.front import Front
from tests.pool import TestPool
from vmss.core.access import Access, Need, obstacle, remedy
from vmss.core.records import NULL
from vmss.edges.access import Asked, blocked
from vmss.edges.vms import read_vm
from vmss.edges.world import read_pool
from vmss.edges.xapi import Xapi
from vmss.insight import checks
from vmss.insight.findings import Finding
from vmss.installation.root import Root

# What a function of values decides: hosts A (the coordinator) and B; SRs by their names.


def access(seen: Dict[str, str], unplugged: Sequence[str] = (), shared: str = "") -> Access:
    """`seen`: the hosts of each SR, a letter each; `unplugged`: an SR and a host each."""
    return Access(
        "A",
        frozenset("AB"),
        {sr: frozenset(hosts) for sr, hosts in seen.items()},
        {(pair[0], pair[1]): "pbd-" + pair for pair in unplugged},
        frozenset(shared),
    )


@pytest.mark.parametrize(
    "seen, unplugged, shared, needs, host, code, srs, pbds",
    [
        ({"x": "AB"}, [], "x", "x", "", "", "", []),
        ({"x": "", "y": "AB"}, ["xA", "xB"], "", "xy", "", "NO_HOSTS_AVAILABLE", "x", ["pbd-xA"]),
        # Each of two local SRs is seen by a host, and no host sees both.
        ({"x": "A", "y": "B"}, [], "", "xy", "", "NO_HOSTS_AVAILABLE", "y", []),
        ({"x": "A", "y": "B"}, ["xB"], "", "xy", "", "NO_HOSTS_AVAILABLE", "x", ["pbd-xB"]),
        ({"x": "A", "y": "B"}, [], "", "x", "", "", "", []),
        # The operations of a shared SR are the coordinator's.
        ({"x": ""}, ["xA", "xB"], "x", "x", "", "NO_HOSTS_AVAILABLE", "x", ["pbd-xA"]),
        ({"x": "", "y": "B"}, ["xA", "xB"], "x", "xy", "", "NO_HOSTS_AVAILABLE", "x", ["pbd-xA", "pbd-xB"]),
        ({"x": "B"}, ["xA"], "x", "x", "", "SR_HAS_NO_PBDS", "x", ["pbd-xA"]),
        ({"x": "B"}, ["xA"], "", "x", "", "", "", []),
        # A VM that runs is resumed where it runs.
        ({"x": "A"}, ["xB"], "", "x", "B", "SR_NOT_ATTACHED", "x", ["pbd-xB"]),
        ({"x": "AB"}, [], "", "x", "B", "", "", []),
        ({}, [], "", "", "", "", "", []),
    ],
)
def test_obstacles(
    seen: Dict[str, str], unplugged: List[str], shared: str, needs: str, host: str, code: str, srs: str, pbds: List[str]
) -> None:
    found = obstacle(access(seen, unplugged, shared), [Need(sr) for sr in needs], host)
    assert (found.code if found else "") == code
    if found:
        assert (found.srs, list(found.pbds)) == (tuple(srs), pbds)


def test_a_cd_is_not_snapshotted_and_needs_no_coordinator() -> None:
    assert obstacle(access({"x": "B"}, ["xA"], "x"), [Need("x", "cd", 1)]) is None


def test_a_cd_is_taken_out_only_if_nothing_else_is_in_the_way() -> None:
    dark = access({"x": ""}, ["xA"])
    found = obstacle(dark, [Need("x", "cd", 1)])
    assert found is not None and found.cds == (Need("x", "cd", 1),)
    both = obstacle(dark, [Need("x", "cd", 1), Need("x")])
    assert both is not None and both.cds == ()
    assert "eject" not in remedy(dark, both, [("vm", ())], {"x": "sr"}, "A")


def test_each_sr_has_its_own_step() -> None:
    """A CD whose SR has no PBD is taken out, while the SR of the disk is attached."""
    dark = access({"x": "", "y": ""}, ["yA"])
    found = obstacle(dark, [Need("x", "cd", 1), Need("y")])
    assert found is not None and not found.only_cds
    text = remedy(dark, found, [("vm", found.cds)], {"x": "sr x", "y": "sr y"}, "A")
    assert text == "attach it: xe pbd-plug uuid=pbd-yA; take the CD out: xe vm-cd-eject uuid=vm"


def test_a_vm_with_several_drives_has_another_command() -> None:
    dark = access({"x": ""})
    found = obstacle(dark, [Need("x", "cd", 2)])
    assert found is not None
    assert remedy(dark, found, [("vm", found.cds)], {"x": "sr"}, "A") == "take the CD out: xe vbd-eject uuid=cd"


# On a pool


def iso_library(pool: TestPool) -> str:
    """An ISO SR."""
    where = {"location": "/isos"}
    return str(pool.call("SR.create", pool.host, where, "0", "ISO library", "", "iso", "iso", True, {}))


class Halted:
    """A pool of VMs that are halted, with a policy that has run."""

    def __init__(self, pool: TestPool, vms: int = 2) -> None:
        self.pool = pool
        self.sr, self.isos = pool.sr("disks"), iso_library(pool)
        Path(pool.place.config).write_text("[vmss]\ntimezone = UTC\nlogin_limit = 0\n")
        self.vms = [pool.vm("vm %d" % number, [self.sr]) for number in range(vms)]
        self.policy = pool.policy(self.vms)

    def insert(self, vm: str, number: int = 7) -> None:
        iso = self.pool.call(
            "VDI.introduce", "", "a.iso", "", self.isos, "user", False, True, {}, "%s.iso" % vm, {}, {}, True, "1000000"
        )
        self.pool.vbd(vm, iso, number, type="CD", mode="RO")

    def unplug(self, sr: str) -> str:
        (pbd,) = self.pool.call("SR.get_PBDs", sr)
        self.pool.call("PBD.unplug", pbd)
        return self.pool.uuid("PBD", pbd)

    def findings(self) -> List[Finding]:
        found, _ = checks.examine(self.pool.surroundings(), Root(str(self.pool.folder)), False)
        return [finding for finding in found if finding.check == "VMs"]

    def fails(self) -> List[str]:
        """The names of the VMs that a run cannot snapshot."""
        report = self.pool.tick(policy=self.pool.uuid("VMSS", self.policy))
        return sorted(victim.name for victim in report.served[0].victims)


def test_all_srs_are_attached(pool: TestPool) -> None:
    halted = Halted(pool)
    halted.insert(halted.vms[0])
    assert [finding.text for finding in halted.findings()] == ["all 2 VMs can be snapshotted"]


def test_a_cd_of_an_sr_that_is_unplugged(pool: TestPool) -> None:
    halted = Halted(pool)
    halted.insert(halted.vms[0])
    pbd = halted.unplug(halted.isos)
    (finding,) = halted.findings()
    assert finding.text == (
        "'vm 0' of 'policy' cannot be snapshotted: the storage repository 'ISO library', "
        "from which a CD is in the drive, is not attached"
    )
    vm = pool.uuid("VM", halted.vms[0])
    assert finding.remedy == (
        "take the CD out: xe vm-cd-eject uuid=%s; or, to keep it in: xe pbd-plug uuid=%s" % (vm, pbd)
    )
    assert halted.fails() == ["vm 0"]
    last = pool.alerts(halted.policy)[-1]["body"].split("\n")[-1]
    assert last.startswith("'vm 0': the storage repository 'ISO library', from which a CD is in the drive, is not")
    assert last.endswith(" attached. T" + finding.remedy[1:])


def test_many_vms_of_one_sr_are_one_finding(pool: TestPool) -> None:
    halted = Halted(pool, vms=274)
    pbd = halted.unplug(halted.sr)
    (finding,) = halted.findings()
    assert finding.text == "274 VMs of 'policy' cannot be snapshotted: the storage repository 'disks' is not attached"
    assert finding.remedy == "attach it: xe pbd-plug uuid=%s" % pbd and "and 269 more" in finding.evidence


def test_an_sr_of_a_vm_that_no_schedule_has_is_nobodys_business(pool: TestPool) -> None:
    halted = Halted(pool)
    pool.vm("other", [pool.sr("gone")])
    halted.unplug(pool.call("SR.get_by_name_label", "gone")[0])
    assert [finding.severity for finding in halted.findings()] == [0]


def test_an_empty_drive_needs_no_sr(pool: TestPool) -> None:
    halted = Halted(pool)
    halted.insert(halted.vms[0])
    halted.unplug(halted.isos)
    drive = pool.call("VM.get_VBDs", halted.vms[0])[0]
    pool.call("VBD.eject", drive)
    assert [finding.severity for finding in halted.findings()] == [0] and halted.fails() == []


def test_the_memory_image_of_a_suspended_vm_needs_its_sr(pool: TestPool) -> None:
    halted = Halted(pool)
    images = pool.sr("images")
    pool.call("VM.set_suspend_SR", halted.vms[1], images)
    pool.call("VM.start", halted.vms[1], False, False)
    pool.call("VM.suspend", halted.vms[1])
    halted.unplug(images)
    (finding,) = halted.findings()
    assert "'vm 1' of 'policy'" in finding.text and "'images' is not attached" in finding.text
    assert halted.fails() == ["vm 1"]


def test_a_shared_sr_that_the_coordinator_has_not_attached(pool: TestPool) -> None:
    halted = Halted(pool)
    other = pool.call("host.create", "", "host2", "", "host2", "192.0.2.2")
    pbd = pool.call("PBD.create", {"host": other, "SR": halted.sr, "device_config": {}})
    (first,) = set(pool.call("SR.get_PBDs", halted.sr)) - {pbd}
    pool.call("PBD.plug", pbd)
    assert [finding.severity for finding in halted.findings()] == [0]
    pool.call("PBD.unplug", first)
    (finding,) = halted.findings()
    assert finding.evidence == "SR_HAS_NO_PBDS: vm 0 and vm 1"
    assert finding.remedy == "attach it: xe pbd-plug uuid=%s" % pool.uuid("PBD", first)
    assert halted.fails() == ["vm 0", "vm 1"]
    errors = pool.alerts(halted.policy)[-1]["body"]
    assert "Error:['SR_HAS_NO_PBDS', '%s']" % halted.sr in errors
    assert "'vm 0' and 1 more: the storage repository 'disks' is not attached. Attach it: xe pbd-plug" in errors


def test_two_srs_that_no_host_has_in_common(pool: TestPool) -> None:
    halted = Halted(pool)
    other = pool.call("host.create", "", "host2", "", "host2", "192.0.2.2")
    theirs = str(pool.call("SR.create", other, {}, "1000000000000", "theirs", "", "ext", "user", False, {}))
    pool.vbd(halted.vms[0], pool.vdi(theirs), 3)
    mine = str(pool.call("SR.create", pool.host, {}, "1000000000000", "mine", "", "ext", "user", False, {}))
    pool.vbd(halted.vms[0], pool.vdi(mine), 4)
    (finding,) = halted.findings()
    assert "'vm 0' of 'policy'" in finding.text and finding.remedy.startswith("move the disks")
    assert halted.fails() == ["vm 0"]


def test_the_calls_do_not_grow_with_the_vms(pool: TestPool) -> None:
    halted = Halted(pool, vms=40)
    path = str(pool.folder / "f")
    front, xapi = Front(path, pool.socket), Xapi("unix:" + path)
    xapi.adopt(pool.xapi.session)
    context = read_pool(xapi)
    asked = {vm: Asked(pool.uuid("VM", vm)) for vm in halted.vms}

    def calls() -> int:
        before = len(front.calls)
        blocked(xapi, context, asked)
        return len(front.calls) - before

    assert calls() == 4
    halted.unplug(halted.sr)
    assert calls() == 9
    xapi.close()


def test_an_empty_reference_names_no_sr_for_memory(pool: TestPool) -> None:
    # xapi keeps what a client has written, and takes it for none.
    ref, sr, vm = pool.call("pool.get_all")[0], pool.sr(), pool.vm("vm", [])
    pool.call("pool.set_default_SR", ref, sr)
    pool.call("pool.set_suspend_image_SR", ref, "")
    pool.call("VM.set_suspend_SR", vm, "")
    found = read_vm(pool.xapi, vm)
    assert read_pool(pool.xapi).suspend_sr == sr and found is not None and found.suspend_sr == NULL
    pool.call("pool.set_default_SR", ref, "")
    assert read_pool(pool.xapi).suspend_sr == NULL
