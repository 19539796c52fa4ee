"""`vmss doctor`: each thing that can be wrong, brought about in a simulated pool or in a dom0's files, and found."""

import io
import json
import os
import re
import shutil
import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dom0 import need
from tests.pool import START, UTC, TestPool
from tests.test_commands import vmss
from tests.test_hostile import Lie, front, is_safe, junk
from vmss.cli.commands import doctor, status
from vmss.core.records import FROZEN_PREFIX
from vmss.demo import VirtualClock
from vmss.edges.lock import LockDirectory
from vmss.edges.sessions import NoSession
from vmss.insight import checks
from vmss.insight.findings import Finding
from vmss.insight.reading import reading
from vmss.installation.root import Root
from vmss.passes.journal import LEFT_OVER

ROOT = Path(__file__).resolve().parent.parent

# When the checkpoint began that has left a VM suspended.
SINCE = "20260302T12:00:00Z"

# What a remedy has to name: something to type, or to look into.
COMMANDS = (
    "vmss ",
    "xe ",
    "xe-toolstack-restart",
    "rpm ",
    "chmod ",
    "chown ",
    "systemctl ",
    "chronyc ",
    "timedatectl",
    "df ",
)
FILE = re.compile(r"/(etc|var|usr)/[a-zA-Z]+|/vmss\.conf\b")


class Ward:
    """A pool, and a dom0 of it in which all is well at 10:20: one policy has run at 10:15."""

    def __init__(self, pool: TestPool) -> None:
        self.pool = pool
        self.root = pool.folder / "dom0"
        Path(pool.place.config).write_text("[vmss]\ntimezone = UTC\nlogin_limit = 0\n")
        self.vms = [pool.vm("vm %d" % number, [pool.sr("sr %d" % number)]) for number in range(2)]
        self.policy = pool.policy(self.vms)
        pool.at(10, 15)
        pool.tick()
        pool.at(10, 20)
        self.write("/etc/xensource/pool.conf", "master")
        self.write("/etc/xensource-inventory", "X='y'\nINSTALLATION_UUID='%s'\n" % pool.uuid("host", pool.host))
        self.copy("plugins/vmss", "/etc/xapi.d/plugins/vmss", 0o755)
        self.copy("cron.d/vmss.cron", "/etc/cron.d/vmss.cron", 0o644)
        self.write("/proc/812/comm", "crond\n")
        self.started(datetime(2026, 3, 2, 10, 15, 1, tzinfo=UTC))

    def write(self, path: str, text: str) -> None:
        place = Path(str(self.root) + path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")

    def copy(self, source: str, path: str, mode: int) -> None:
        place = Path(str(self.root) + path)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(ROOT / source), str(place))
        place.chmod(mode)

    def remove(self, path: str) -> None:
        os.unlink(str(self.root) + path)

    def started(self, at: datetime, what: str = "(root) CMD (python3 -c '… vmss …')") -> None:
        """Let cron's log say this; its times are those of the machine."""
        stamp = time.strftime("%b %e %H:%M:%S", time.localtime(at.timestamp()))
        self.write("/var/log/cron", "%s host CROND[17114]: %s\n" % (stamp, what))

    def findings(self, dom0: bool = True, **around: Any) -> List[Finding]:
        found, _session = checks.examine(self.pool.surroundings(**around), Root(str(self.root)), dom0)
        return found

    def bad(self, **options: Any) -> List[Finding]:
        """What is wrong."""
        return [finding for finding in self.findings(**options) if finding.severity]

    def only(self, check: str, state: str, *words: str, **options: Any) -> Finding:
        """The one thing that is wrong, which says these words."""
        bad = self.bad(**options)
        assert [(finding.check, finding.state) for finding in bad] == [(check, state)], bad
        for word in words:
            assert word in " ".join(bad[0][2:5]), bad[0]
        useful(bad[0])
        return bad[0]


def useful(finding: Finding) -> None:
    """A remedy names a command or a file."""
    assert (
        finding.remedy.startswith(COMMANDS)
        or FILE.search(finding.remedy)
        or any(" " + command in finding.remedy for command in COMMANDS)
    ), finding


@pytest.fixture
def ward(pool: TestPool) -> Ward:
    return Ward(pool)


def test_all_is_well(ward: Ward) -> None:
    findings = ward.findings()
    assert [finding for finding in findings if finding.severity or finding.skipped] == []
    named = {finding.check for finding in findings}
    assert {check.name for check in checks.CHECKS} == named
    assert ward.pool.sessions() == 0


def test_it_changes_nothing(ward: Ward) -> None:
    before = {path: path.stat().st_mtime_ns for path in ward.pool.folder.rglob("*") if path.is_file()}
    alerts, other = ward.pool.alerts(), ward.pool.other_config()
    ward.findings()
    assert {path: path.stat().st_mtime_ns for path in ward.pool.folder.rglob("*") if path.is_file()} == before
    assert (ward.pool.alerts(), ward.pool.other_config()) == (alerts, other)


# XAPI, the plugin, cron


def test_a_settings_file_with_a_mistake(ward: Ward) -> None:
    Path(ward.pool.place.config).write_text("[vmss]\nretries = many\n")
    ward.only("settings", "CRITICAL", "retries", "whole number")


def test_a_setting_of_the_pool_with_a_mistake(ward: Ward) -> None:
    ref = ward.pool.call("pool.get_all")[0]
    ward.pool.call("pool.add_to_other_config", ref, "vmss:quiesce", "maybe")
    ward.only("settings", "WARNING", "quiesce: 'maybe'", "param-key=vmss:quiesce")


def test_no_xapi(ward: Ward) -> None:
    where = ward.pool.place._replace(xapi="unix:/nonexistent/xapi")
    findings = ward.findings(place=where)
    (bad,) = [finding for finding in findings if finding.severity]
    assert bad.check == "xapi" and "No such file" in bad.text
    useful(bad)
    without = {check.name for check in checks.CHECKS if check.needs == checks.SESSION}
    assert {finding.check for finding in findings if finding.skipped} == without
    assert any(finding.check == "tick" and finding.state == "OK" for finding in findings)


def test_no_licence(ward: Ward) -> None:
    ward.pool.call("simulator.restrict", "VMSS", True)
    ward.only("licence", "CRITICAL", "restrict_vmss")


def test_a_member(ward: Ward) -> None:
    ward.write("/etc/xensource/pool.conf", "slave:10.0.0.1\n")
    (finding,) = [finding for finding in ward.findings() if finding.check == "coordinator"]
    assert finding.severity == 0 and "a member" in finding.text


def test_a_host_without_a_role(ward: Ward) -> None:
    ward.write("/etc/xensource/pool.conf", "broken")
    ward.only("coordinator", "CRITICAL", "broken")


def test_a_host_that_wrongly_takes_itself_for_the_coordinator(ward: Ward) -> None:
    ward.write("/etc/xensource-inventory", "INSTALLATION_UUID='00000000-0000-0000-0000-000000000000'\n")
    ward.only("coordinator", "WARNING", "00000000-")


def test_no_plugin(ward: Ward) -> None:
    ward.remove("/etc/xapi.d/plugins/vmss")
    ward.only("plugin", "CRITICAL", "vmss install")


def test_a_plugin_that_is_not_executable(ward: Ward) -> None:
    os.chmod(str(ward.root) + "/etc/xapi.d/plugins/vmss", 0o644)
    ward.only("plugin", "CRITICAL", "not executable", "0644")


def test_somebody_elses_plugin(ward: Ward) -> None:
    ward.write("/etc/xapi.d/plugins/vmss", "#!/usr/bin/python2\n")
    ward.only("plugin", "WARNING", "not the one of this version")


SPEC = """
Name: vmss
Version: %s
Release: 1
Summary: x
License: x
BuildArch: noarch
%s
%%description
%%files
"""


@pytest.mark.parametrize("version, epoch, theirs", [("1.2.1", "", True), ("0.1.0", "Epoch: 1", False)])
def test_the_vendors_package_beside_ours(ward: Ward, version: str, epoch: str, theirs: bool) -> None:
    need("rpm", "rpmbuild")
    spec, root = ward.pool.folder / "vmss.spec", str(ward.root)
    spec.write_text(SPEC % (version, epoch))
    subprocess.run(["rpmbuild", "-bb", "--quiet", "--define", "_topdir %s" % ward.pool.folder, str(spec)], check=True)
    (package,) = ward.pool.folder.rglob("*.rpm")
    os.makedirs(root + "/var/lib/rpm")
    words = ["rpm", "--root", root, "--dbpath", "/var/lib/rpm", "-i", "--justdb", "--nodeps", str(package)]
    done = subprocess.run(words, stderr=subprocess.PIPE, encoding="utf-8")
    if done.returncode != 0 and os.geteuid() != 0:  # for others it needs a namespace of its own, or does not even try
        pytest.skip("rpm enters no other root for this user: %s" % done.stderr.strip().split("\n")[-1])
    assert done.returncode == 0, done.stderr
    assert ward.bad() == []  # it is the only one
    ward.write("/usr/lib/vmss/installed.json", "{}")
    if theirs:
        ward.only("plugin", "WARNING", "vmss-1.2.1-1", "rpm -U vmss-")
    else:
        assert ward.bad() == []


def test_no_cron_entry(ward: Ward) -> None:
    ward.remove("/etc/cron.d/vmss.cron")
    ward.only("cron entry", "CRITICAL", "vmss install")


def test_a_cron_entry_that_was_changed(ward: Ward) -> None:
    ward.write("/etc/cron.d/vmss.cron", "# ours\nPATH=/bin\n0 * * * * root python3 -c 'import vmss'\n")
    ward.only("cron entry", "WARNING", "was changed", "in line 3")


def test_a_comment_is_no_change(ward: Ward) -> None:
    path = Path(str(ward.root) + "/etc/cron.d/vmss.cron")
    path.write_text("# kept by hand\n" + path.read_text())
    assert ward.bad() == []


def test_two_cron_entries(ward: Ward) -> None:
    ward.write("/etc/cron.d/vmss-old", "*/15 * * * * root python -c 'import imp; vmss = imp.load_source(…)'\n")
    ward.write("/etc/cron.d/other", "*/15 * * * * root true\n")
    ward.only("cron entry", "WARNING", "more than one", "/etc/cron.d/vmss-old", "rpm -qf")


def test_a_cron_entry_that_cron_ignores(ward: Ward) -> None:
    os.chmod(str(ward.root) + "/etc/cron.d/vmss.cron", 0o666)
    ward.only("cron entry", "WARNING", "0666", "chmod 0644")


def test_no_cron(ward: Ward) -> None:
    ward.write("/proc/812/comm", "sshd\n")
    ward.only("cron", "CRITICAL", "crond", "systemctl")


def test_a_cron_that_does_not_fire(ward: Ward) -> None:
    ward.started(START - timedelta(hours=3))
    ward.only("cron log", "CRITICAL", "since 2026-03-02 07:00 UTC")


def test_a_cron_that_fires_others_only(ward: Ward) -> None:
    ward.started(START - timedelta(hours=3), "(root) CMD (run-parts /etc/cron.hourly)")
    ward.only("cron log", "CRITICAL", "cron has started no pass")


def test_a_log_that_a_vms_name_is_in_does_not_count(ward: Ward) -> None:
    ward.started(datetime(2026, 3, 2, 10, 15, tzinfo=UTC), "(root) MAIL (CMD (vmss))")
    (finding,) = [finding for finding in ward.findings() if finding.check == "cron log"]
    assert finding.skipped


def test_a_cron_log_of_a_newer_system(ward: Ward) -> None:
    line = "%s host CROND[1]: (root) CMD (python3 -c '… vmss …')\n"
    ward.write("/var/log/cron", line % "2026-03-02T15:45:01.453321+05:30")
    assert ward.bad() == []
    ward.write("/var/log/cron", line % "2026-03-02T12:45:01.453321+05:30")
    ward.only("cron log", "CRITICAL", "since 2026-03-02 07:15 UTC")
    ward.write("/var/log/cron", line % "1772446501.453321")
    (finding,) = [finding for finding in ward.findings() if finding.check == "cron log"]
    assert finding.skipped and "in a form that is known" in finding.text


def test_no_tick(ward: Ward) -> None:
    os.truncate(ward.pool.place.log, 0)
    ward.only("tick", "WARNING", "no ===Kicking cron job for VMSS===")


def test_an_old_tick(ward: Ward) -> None:
    ward.pool.call("VMSS.set_enabled", ward.policy, False)
    ward.pool.at(11)
    ward.started(datetime(2026, 3, 2, 10, 59, tzinfo=UTC))
    ward.only("tick", "WARNING", "last tick 4")


def complain(ward: Ward, text: str) -> None:
    with open(ward.pool.place.log, "a", encoding="utf-8") as file:
        file.write("Mar  2 10:16:00 host VMSS: [12] %s\n" % text)


@pytest.mark.parametrize(
    "text, key",
    [
        ("'VMSS_XAPI_LOGON_FAILURE': 'x'", "VMSS_XAPI_LOGON_FAILURE"),
        ("'VMSS_SNAPSHOT_LOCK_FAILED': 'x'", "VMSS_SNAPSHOT_LOCK_FAILED"),
        ("'VMSS_SNAPSHOT_MISSED_EVENT': 'x'", "VMSS_SNAPSHOT_MISSED_EVENT"),
        ("'VMSS_SNAPSHOT_FAILED': 'x'", "VMSS_SNAPSHOT_FAILED"),
        ("'VMSS_LICENSE_ERROR': 'x'", "VMSS_LICENSE_ERROR"),
        ("VMSS_SNAPSHOT_NOT_QUIESCED: x", "VMSS_SNAPSHOT_NOT_QUIESCED"),
        ("The run ended in an error of its own: KeyError('x')", "error of its own"),
        ("Traceback (most recent call last):", "traceback"),
        ("The pass ends here: x", "pass ended early"),
        ("Snapshot 1-2 of VM 3-4 is left alone: its records contradict each other", "left alone"),
        ("VM 1-2 is not served, its record cannot be understood: x", "unreadable VM"),
        ("The alert could not be stored by xapi", "alert not stored"),
    ],
)
def test_what_the_log_complains_of(ward: Ward, text: str, key: str) -> None:
    complain(ward, text)
    complain(ward, text)
    ward.only("log", "WARNING", key, "last 2026-03-02 10:16 UTC; lines: 2")


def test_old_complaints_are_history(ward: Ward) -> None:
    complain(ward, "'VMSS_XAPI_LOGON_FAILURE': 'x'")
    ward.pool.call("VMSS.set_enabled", ward.policy, False)
    ward.pool.at(10, 30, day=3)
    with open(ward.pool.place.log, "a", encoding="utf-8") as file:
        file.write("Mar  3 10:30:00 host VMSS: [12] ===Kicking cron job for VMSS===\n")
    ward.started(datetime(2026, 3, 3, 10, 30, tzinfo=UTC))
    assert ward.bad() == []


def test_a_lock_that_nobody_can_take(ward: Ward) -> None:
    os.chmod(ward.pool.place.lock_dir, 0o777)
    ward.only("lock", "CRITICAL", "nobody else may write to it", "chmod 0700")


def test_a_pass_that_does_not_end(ward: Ward) -> None:
    directory = LockDirectory(ward.pool.place.lock_dir)
    uuid = ward.pool.uuid("pool", ward.pool.call("pool.get_all")[0])
    lock = directory.acquire(uuid, {"pid": 1, "since": "20260228T10:15:00Z"})
    ward.only("lock", "CRITICAL", "longer than pass_limit")
    lock.release()
    assert ward.bad() == []
    directory.close()


class FastClock(VirtualClock):
    """Three minutes ahead."""

    def now(self) -> datetime:
        return VirtualClock.now(self) + timedelta(minutes=3)


def test_a_clock_that_is_wrong(ward: Ward) -> None:
    ward.only("clock", "WARNING", "3 min apart", clock=FastClock(ward.pool.simulator))


def test_another_time_zone(ward: Ward) -> None:
    Path(ward.pool.place.config).write_text("[vmss]\ntimezone = Asia/Kathmandu\nlogin_limit = 0\n")
    bad = ward.bad()
    assert "time zone" in {finding.check for finding in bad}
    (finding,) = [finding for finding in bad if finding.check == "time zone"]
    assert "Asia/Kathmandu" in finding.text and "+0545" in finding.evidence
    useful(finding)


# Schedules


def test_a_schedule_that_cannot_be_understood(ward: Ward) -> None:
    ward.pool.simulator.db.set("VMSS", ward.policy, "schedule", {"min": "7"})
    ward.only("schedules", "CRITICAL", "schedule:min: '7'", "vmss xe vmss-param-set")


def test_a_schedule_without_vms(ward: Ward) -> None:
    ward.pool.policy(name="empty")
    ward.only("schedules", "WARNING", "'empty' has no VM", "vmss assign")


def test_a_last_run_in_the_future(ward: Ward) -> None:
    ward.pool.simulator.db.set("VMSS", ward.policy, "last_run_time", datetime(2027, 1, 1, tzinfo=UTC))
    ward.only("dates", "WARNING", "the last run of 'policy' is dated in the future", "2026-03-02 11:15 UTC")


def test_messages_that_xencenter_cannot_show(ward: Ward) -> None:
    pool, uuid = ward.pool, ward.pool.uuid("VMSS", ward.policy)
    (of_pool,) = [record["uuid"] for record in pool.call("pool.get_all_records").values()]
    pool.call("message.create", "VMSS_SNAPSHOT_NOT_QUIESCED", "3", "Pool", of_pool, "of another class")
    for name in ("VMSS_SNAPSHOT_LOCK_FAILED", "VMSS_SNAPSHOT_MISSED_EVENT"):
        pool.call("message.create", name, "5", "VMSS", uuid, "known")
    (well,) = [finding for finding in ward.findings() if finding.check == "alerts"]
    assert not well.severity
    pool.call("message.create", "VMSS_SNAPSHOT_NOT_QUIESCED", "3", "VMSS", uuid, "of an earlier version")
    ward.only(
        "alerts", "WARNING", "1 message of class VMSS has a name", "VMSS_SNAPSHOT_NOT_QUIESCED", "message-destroy"
    )
    pool.call("message.create", "SOMEBODY'S\u202e", "3", "VMSS", uuid, "whoever raised it")
    found = ward.only("alerts", "WARNING", "2 messages of class VMSS have a name")
    assert found.evidence == "SOMEBODY'S\\u202e and VMSS_SNAPSHOT_NOT_QUIESCED"


def test_a_quiesced_schedule(ward: Ward) -> None:
    ward.pool.simulator.db.set("VMSS", ward.policy, "type", "snapshot_with_quiesce")
    ward.only("schedules", "WARNING", "quiesced", "type=snapshot")


def test_schedules_that_clash(ward: Ward) -> None:
    sr = ward.pool.sr("busy")
    for number in range(2):
        vm = ward.pool.vm("big %d" % number, [sr] * 10)
        ward.pool.policy([vm], name="clash %d" % number, schedule={"min": "45"})
    finding = ward.only("clashes", "WARNING", "clash 1", "clash 0")
    assert finding.remedy.startswith("vmss xe vmss-param-set uuid=")


def test_a_run_that_failed(ward: Ward) -> None:
    ward.pool.call("VM.add_to_blocked_operations", ward.vms[0], "snapshot", "no")
    ward.pool.at(11, 15)
    ward.pool.tick()
    ward.started(ward.pool.simulator.now())
    bad = ward.bad()
    assert [finding.check for finding in bad] == ["log", "last run", "snapshots", "VMs"]
    for finding in bad:
        useful(finding)


# Snapshots and disks


def test_a_vm_that_an_administrator_has_blocked(ward: Ward) -> None:
    ward.pool.call("VM.add_to_blocked_operations", ward.vms[0], "snapshot", "no")
    ward.only("VMs", "WARNING", "'vm 0' of 'policy' cannot be snapshotted", "OPERATION_BLOCKED", "xe vm-param-")


def disk_of(ward: Ward, vm: str) -> str:
    return str(ward.pool.call("VBD.get_VDI", ward.pool.call("VM.get_VBDs", vm)[0]))


@pytest.mark.parametrize(
    "field, value, code", [("on_boot", "reset", "VDI_ON_BOOT_MODE"), ("sharable", True, "VDI_IS_SHARABLE")]
)
def test_a_vm_with_a_disk_that_cannot_be_snapshotted(ward: Ward, field: str, value: Any, code: str) -> None:
    ward.pool.simulator.db.set("VDI", disk_of(ward, ward.vms[1]), field, value)
    ward.only("VMs", "WARNING", "'vm 1'", code)


def test_a_vm_on_storage_without_snapshots(ward: Ward) -> None:
    sm = next(ref for ref, row in ward.pool.call("SM.get_all_records").items() if row["type"] == "nfs")
    ward.pool.simulator.db.set("SM", sm, "features", {"VDI_CREATE": 1})
    bad = ward.bad()
    assert [finding.check for finding in bad] == ["VMs", "VMs"] and "SR_OPERATION_NOT_SUPPORTED" in bad[0].evidence


def test_a_disk_that_is_left_out_is_in_nobodys_way(ward: Ward) -> None:
    disk = disk_of(ward, ward.vms[1])
    ward.pool.simulator.db.set("VDI", disk, "sharable", True)
    assert ward.bad()
    ward.pool.call("VDI.add_to_other_config", disk, "vmss:skip", "yes")
    assert not ward.bad()


def test_full_storage(ward: Ward) -> None:
    sr = ward.pool.call("VDI.get_SR", disk_of(ward, ward.vms[0]))
    set_used(ward, sr, 0.95)
    ward.only("storage", "WARNING", "'sr 0' is 95 % full", "xe vdi-list")
    set_used(ward, sr, 0.99)
    ward.only("storage", "CRITICAL", "99 %")


def test_storage_that_will_be_full(ward: Ward) -> None:
    sr = ward.pool.call("VDI.get_SR", disk_of(ward, ward.vms[0]))
    now, size = ward.pool.simulator.now().timestamp(), int(ward.pool.call("SR.get_physical_size", sr))
    notes = " ".join("%d:%d" % (now - days * 86400, size * (93 - days) // 100) for days in (3, 2, 1))
    ward.pool.call("SR.remove_from_other_config", sr, "vmss:used")
    ward.pool.call("SR.add_to_other_config", sr, "vmss:used", notes)
    set_used(ward, sr, 0.93)
    ward.only("storage", "WARNING", "'sr 0' is 93 % full", "; full in 6 d 2", "xe vdi-list")
    ward.pool.call("SR.remove_from_other_config", sr, "vmss:used")
    ward.pool.call("SR.add_to_other_config", sr, "vmss:used", "no note 7:x :")
    ward.only("storage", "WARNING", "'sr 0' is 93 % full")


@pytest.mark.parametrize("key", ["gc", "coalesce"])
def test_coalescing_that_is_switched_off(ward: Ward, key: str) -> None:
    sr = ward.pool.call("VDI.get_SR", disk_of(ward, ward.vms[0]))
    ward.pool.call("SR.add_to_other_config", sr, key, "false")
    ward.only("chains", "WARNING", "switched off on the storage repository 'sr 0'", "xe sr-param-remove")


def test_a_long_chain_and_a_full_one(ward: Ward) -> None:
    pool, disk = ward.pool, disk_of(ward, ward.vms[0])
    for _ in range(23):
        pool.call("simulator.write", disk, 1 << 20)
        pool.call("VDI.snapshot", disk, {})
    ward.only("chains", "WARNING", "a disk of 'vm 0' has 25 images; at 30 no snapshot", "retained-snapshots=N")


def test_snapshots_that_somebody_made_long_ago_are_told_and_no_fault(ward: Ward) -> None:
    pool = ward.pool
    pool.call("VM.snapshot", ward.vms[0], "before the upgrade")
    made = pool.call("VM.get_by_name_label", "before the upgrade")[0]
    pool.simulator.db.set("VM", made, "snapshot_time", datetime(2026, 1, 1, tzinfo=UTC))
    assert not ward.bad()
    (found,) = [one for one in ward.findings() if one.check == "chains" and "somebody" in one.text]
    assert found.text == "1 snapshot that somebody has made is older than 30 days: of vm 0"
    assert found.evidence.startswith("the oldest is of 2026-01-01 00:00 UTC; the images that they keep have ")


def set_used(ward: Ward, sr: str, part: float) -> None:
    size = int(ward.pool.call("SR.get_physical_size", sr))
    ward.pool.simulator.db.set("SR", sr, "physical_utilisation", int(size * part) + 1)


def test_snapshots_beyond_retention(ward: Ward) -> None:
    for hour in (11, 12):
        ward.pool.at(hour, 15)
        ward.pool.tick()
    ward.started(ward.pool.simulator.now())
    assert ward.bad() == []
    ward.pool.call("VMSS.set_retained_snapshots", ward.policy, "1")
    pinned = ward.pool.call("VM.get_snapshots", ward.vms[1])[0]
    ward.pool.call("VM.add_to_blocked_operations", pinned, "destroy", "kept")
    ward.only("retention", "WARNING", "'vm 0' has 1 scheduled snapshot more than 'policy' keeps", "vmss prune")


def test_disks_that_are_left_over(ward: Ward) -> None:
    snapshot = ward.pool.call("VM.get_snapshots", ward.vms[0])[0]
    vdi = disk_of(ward, snapshot)
    ward.pool.call("VBD.destroy", ward.pool.call("VM.get_VBDs", snapshot)[0])
    assert ward.bad() == []  # as young as it is, it might be that of a snapshot in the making
    ward.pool.at(11, 30)
    ward.pool.tick()
    ward.started(ward.pool.simulator.now())
    ward.only("disks", "WARNING", ward.pool.uuid("VDI", vdi), "xe vdi-destroy")


def test_what_keeps_snapshots_from_being_taken_is_found_out_once(ward: Ward) -> None:
    """Two checks ask for it."""
    pool = ward.pool
    pool.simulator.db.set("VM", ward.vms[0], "allowed_operations", [])
    pool.simulator.reset_counts()
    ward.findings()
    calls = {method: counted.calls for method, counted in pool.simulator.traffic().items()}
    assert calls["VM.assert_operation_valid"] == calls["SM.get_all_records"] == calls["host_metrics.get_all_where"] == 1


def test_deletions_that_nobody_finished(ward: Ward) -> None:
    ward.pool.record({"00000000-0000-0000-0000-000000000001": []})
    ward.only("left by passes", "WARNING", "vmss-destroying:0", "vmss run")


NEVER = {"method": "VDI.destroy", "action": "error", "count": "0", "error": '["SR_BACKEND_FAILURE_80", "", "no", ""]'}
MARK = {"since": "20260302T10:15:00Z", "tried": "20260302T10:15:00Z", "tries": 0, "error": []}


def test_a_disk_that_cannot_be_destroyed_is_told_until_it_is_gone(ward: Ward) -> None:
    pool = ward.pool
    uuid = pool.uuid("VDI", pool.call("VDI.snapshot", disk_of(ward, ward.vms[0]), {}))
    pool.call("simulator.add_fault", dict(NEVER, object=uuid))
    pool.record({"00000000-0000-0000-0000-000000000001": [uuid]})
    pool.at(10, 30)
    pool.tick()
    ward.started(pool.simulator.now())
    since = "since 2026-03-02 10:30 UTC, tries: 1, the next one in 15 min"
    finding = ward.only("left over", "WARNING", uuid, "SR_BACKEND_FAILURE_80", since)
    assert finding.text == "1 disk could not be destroyed with its snapshot: The storage reports an error: %s" % uuid
    assert finding.remedy == "See /var/log/SMlog on the coordinator. Then try at once: vmss run"
    pool.tick(kicked=False)
    ward.only("left over", "WARNING", uuid, "tries: 2, the next one in 30 min")
    pool.call("simulator.clear_faults")
    assert pool.tick(kicked=False).status == 0  # the remedy
    assert ward.bad() == []


def test_a_disk_that_the_administrator_destroyed_himself_is_told_no_more(ward: Ward) -> None:
    pool = ward.pool
    disk = pool.call("VDI.snapshot", disk_of(ward, ward.vms[0]), {})
    pool.call("simulator.add_fault", dict(NEVER, object=pool.uuid("VDI", disk)))
    pool.record({"00000000-0000-0000-0000-000000000001": [pool.uuid("VDI", disk)]})
    pool.tick()
    ward.only("left over", "WARNING", pool.uuid("VDI", disk))
    pool.call("simulator.clear_faults")
    pool.call("VDI.destroy", disk)
    assert ward.bad() == []


def test_a_snapshot_that_cannot_be_deleted_is_told_once_and_the_remedy_deletes_it(ward: Ward) -> None:
    pool = ward.pool
    (oldest,) = pool.snapshots(ward.vms[0])
    stuck = {"method": "VM.destroy", "action": "error", "count": "0", "error": '["INTERNAL_ERROR", "stuck"]'}
    pool.call("simulator.add_fault", dict(stuck, object=oldest["uuid"]))
    for hour, minute in ((11, 15), (12, 15), (12, 30), (13, 0)):
        pool.at(hour, minute)
        pool.tick()
    Path(pool.place.log).write_text("")  # that the run of 12:15 failed is another matter
    pool.at(13, 15)
    pool.tick()  # it rests
    ward.started(pool.simulator.now())
    assert pool.names()[-1] == "VMSS_SNAPSHOT_SUCCEEDED"
    finding = ward.only("left over", "WARNING", oldest["uuid"], "INTERNAL_ERROR stuck; since 2026-03-02 12:15 UTC")
    assert finding.text.startswith("1 expired snapshot could not be deleted: ")
    pool.call("simulator.clear_faults")
    before = pool.names()
    assert finding.remedy.endswith("Then try at once: vmss run") and pool.tick(kicked=False).status == 0
    assert ward.bad() == [] and pool.names() == before
    assert [len(pool.snapshots(vm)) for vm in ward.vms] == [2, 2]  # and it costs nobody else anything


def test_a_disk_that_may_have_been_left_has_three_remedies(ward: Ward) -> None:
    pool = ward.pool
    vdis = [pool.call("VDI.snapshot", disk_of(ward, ward.vms[0]), {}) for _ in range(3)]
    items = [dict(MARK, kind="suspect", uuid=pool.uuid("VDI", vdi), of=pool.uuid("VM", ward.vms[0])) for vdi in vdis]
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], LEFT_OVER + "0", json.dumps(items))
    pool.at(11, 15)
    pool.tick()
    pool.at(11, 40)  # an hour later they are too old to be in the making
    ward.started(pool.simulator.now())
    bad = ward.bad()
    assert [finding.check for finding in bad] == ["left over"] * 3  # not once more among the disks without a VM
    for finding, uuid in zip(bad, sorted(str(item["uuid"]) for item in items)):
        assert "xe vdi-param-list uuid=%s" % uuid in finding.remedy
        assert "xe vdi-destroy uuid=%s" % uuid in finding.remedy
        assert "xe vdi-param-set uuid=%s other-config:vmss-keep=true" % uuid in finding.remedy
    pool.call("VDI.destroy", vdis[0])
    pool.call("VDI.add_to_other_config", vdis[1], "vmss-keep", "true")
    ward.only("left over", "WARNING", pool.uuid("VDI", vdis[2]))
    pool.vbd(ward.vms[1], vdis[2], 7)
    assert ward.bad() == []


def test_sessions_that_nobody_closed(ward: Ward) -> None:
    directory = LockDirectory(ward.pool.place.lock_dir)
    uuid = ward.pool.uuid("pool", ward.pool.call("pool.get_all")[0])
    directory.keep(uuid + ".sessions", {"sessions": [{"session": "OpaqueRef:secret", "tasks": []}]})
    directory.close()
    finding = ward.only("left by passes", "WARNING", "sessions that were left open: 1")
    assert "secret" not in str(finding)


# Where it cannot be seen


def test_elsewhere_what_belongs_to_dom0_is_not_checked(ward: Ward) -> None:
    findings = ward.findings(dom0=False)
    assert [finding for finding in findings if finding.severity] == []
    dom0 = {check.name for check in checks.CHECKS if check.needs == checks.DOM0}
    assert {finding.check for finding in findings if finding.skipped} == dom0 | {"clock"}
    assert all(finding.text for finding in findings if finding.skipped)


def test_what_xapi_refuses_is_unknown(ward: Ward) -> None:
    ward.pool.call(
        "simulator.add_fault",
        {"method": "SR.get_all", "action": "error", "error": '["RBAC_PERMISSION_DENIED", "sr.get_all"]'},
    )
    ward.only("storage", "UNKNOWN", "RBAC_PERMISSION_DENIED")


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_each_finding_has_its_evidence_and_remedy_below(ward: Ward) -> None:
    ward.write("/proc/812/comm", "sshd\n")
    out = Terminal(io.BytesIO(), encoding="utf-8")
    words = doctor.parser().parse_args([])
    assert doctor.show(ward.pool.surroundings(), Root(str(ward.root)), True, words, out) == 2
    lines = re.sub("\x1b\\[[0-9]*m", "", out.buffer.getvalue().decode("utf-8")).splitlines()  # type: ignore[attr-defined]
    assert lines[:3] == [
        "CRITICAL  cron: cron is not running: no pass is started",
        "          shown by: no process is called crond or cron",
        "          what to do: systemctl enable --now crond",
    ]
    states = [line.split()[0] for line in lines[3:-1] if not line.startswith(" ")]
    assert states == sorted(states, key=["CRITICAL", "WARNING", "UNKNOWN", "OK", "not"].index)
    assert lines[-1].startswith("VMSS CRITICAL: 1 critical")


def test_xapi_that_dies_meanwhile(ward: Ward) -> None:
    ward.pool.call("simulator.add_fault", {"method": "SR.get_all", "action": "drop"})
    assert "storage" in {finding.check for finding in ward.bad()}


READ = [
    "pool.get_all_records",
    "host.get_server_localtime",
    "host.get_servertime",
    "host.get_uuid",
    "VMSS.get_all_records",
    "message.get",
    "VM.get_all_where",
    "VM.get_all_records_where",
    "VDI.get_all_where",
    "VDI.get_record",
    "SR.get_all",
    "SR.get_type",
    "SR.get_physical_size",
    "SM.get_all_records",
    "SR.get_all_where",
    "PBD.get_all_records",
    "host_metrics.get_all_where",
    "VBD.get_all_records_where",
    "VM.assert_operation_valid",
    "VM.get_snapshot_of",
    "VDI.get_all_records_where",
    "VM.get_name_label",
]


@given(
    st.lists(
        st.builds(
            Lie, st.sampled_from(READ), st.sampled_from([0, 0, 0, 1, 2]), st.integers(0, 300), junk, st.booleans()
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=40, deadline=None)
def test_whatever_the_server_says_there_are_findings(lies: List[Lie]) -> None:
    with TemporaryDirectory() as folder, TestPool(Path(folder)) as pool:
        ward = Ward(pool)
        pool.call("VM.add_to_blocked_operations", ward.vms[0], "snapshot", "no")
        pool.call("VM.destroy", pool.call("VM.get_snapshots", ward.vms[1])[0])
        pool.call("PBD.unplug", pool.call("SR.get_PBDs", pool.call("VDI.get_SR", disk_of(ward, ward.vms[1])))[0])
        with front(pool, lies):
            findings = ward.findings()
            for finding in findings:
                assert finding.text and finding.state
                if finding.severity:
                    useful(finding)
            try:
                with reading(pool.surroundings()) as session:
                    words, out = status.parser().parse_args([]), io.StringIO()
                    assert status.show(session, pool.place, words, out) in range(4)
                    assert is_safe(out.getvalue().replace("\n", ""))
            except NoSession as problem:
                assert is_safe(str(problem))


def test_a_record_that_makes_no_sense_is_unknown(ward: Ward) -> None:
    with front(ward.pool, [], spoiled={ward.vms[0]: ("snapshots", 5)}):
        bad = ward.bad()
    assert {(finding.check, finding.state) for finding in bad} == {("retention", "UNKNOWN")}


# Each check and its remedies


def spoil(ward: Ward) -> None:
    """Let everything be wrong that can be at once."""
    pool = ward.pool
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], "vmss:retries", "many")
    ward.write("/etc/xensource/pool.conf", "broken")
    ward.remove("/etc/xapi.d/plugins/vmss")
    ward.remove("/etc/cron.d/vmss.cron")
    ward.write("/proc/812/comm", "sshd\n")
    ward.started(START - timedelta(hours=3))
    complain(ward, "Traceback (most recent call last):")
    pool.policy(name="empty")
    pool.call("VM.add_to_blocked_operations", ward.vms[0], "snapshot", "no")
    sr = pool.sr("busy")
    for number in range(2):
        pool.policy([pool.vm("big %d" % number, [sr] * 10)], name="clash %d" % number, schedule={"min": "45"})
    set_used(ward, sr, 0.99)
    pool.call("SR.add_to_other_config", sr, "gc", "false")
    pool.call("VMSS.set_retained_snapshots", ward.policy, "1")
    for hour in (11, 12):
        pool.at(hour, 15)
        pool.simulator.db.set("VMSS", ward.policy, "retained_snapshots", 10)
        pool.tick()
    pool.simulator.db.set("VMSS", ward.policy, "retained_snapshots", 1)
    pool.call("VBD.destroy", pool.snapshots(ward.vms[1])[0]["VBDs"][0])
    pool.at(12, 50)
    pool.record({"00000000-0000-0000-0000-000000000001": []})
    pool.call("message.create", "VMSS_UNKNOWN", "3", "VMSS", pool.uuid("VMSS", ward.policy), "")
    down = pool.vm("down", running=True)
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], FROZEN_PREFIX + pool.uuid("VM", down), SINCE)
    pool.simulator.db.set("VM", down, "power_state", "Suspended")
    found = dict(MARK, kind="suspect", uuid=pool.uuid("VDI", pool.vdi(pool.sr())), of="")
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], LEFT_OVER + "0", json.dumps([found]))
    os.chmod(pool.place.lock_dir, 0o777)
    ward.write("/hooks.d/before-vm", "")  # it is not executable, and everybody may write to /tmp
    hooks = str(ward.root) + "/hooks.d"
    Path(pool.place.config).write_text("[vmss]\ntimezone = Asia/Tokyo\nlogin_limit = 0\nhooks_dir = %s\n" % hooks)
    with open(pool.place.config, "a", encoding="utf-8") as file:
        file.write("ping_url = https://localhost/x\n")  # and everybody may read it


def test_every_check_can_fail_and_names_a_command_or_a_file(ward: Ward) -> None:
    spoil(ward)
    bad = ward.bad(clock=FastClock(ward.pool.simulator))
    bad += ward.bad(place=ward.pool.place._replace(xapi="unix:/nonexistent/xapi"))
    ward.pool.call("simulator.restrict", "VMSS", True)
    ward.pool.simulator.db.set("VMSS", ward.policy, "last_run_time", datetime(2027, 1, 1, tzinfo=UTC))
    bad += ward.bad()
    for finding in bad:
        useful(finding)
    named = {finding.check for finding in bad}
    # What is not covered is information; and tags count if a setting says so, which has tests of its own.
    assert {check.name for check in checks.CHECKS} - {"coverage", "tags"} <= named


# As a process


def test_as_a_process(pool: TestPool) -> None:
    ward = Ward(pool)
    ended = vmss(pool.folder, "doctor", VMSS_XAPI=pool.place.xapi)
    assert (ended.status, ended.err) == (0, "")
    assert all(line.startswith(("OK\t", "not checked\t")) for line in ended.out.splitlines())
    pool.call("simulator.restrict", "VMSS", True)
    ended = vmss(pool.folder, "doctor", "--json", VMSS_XAPI=pool.place.xapi)
    rows: List[Dict[str, Optional[str]]] = json.loads(ended.out)
    assert ended.status == 2 and [row["check"] for row in rows if row["state"] == "CRITICAL"] == ["licence"]
    assert ended.err == "" and ward.pool.sessions() == 0


def test_without_xapi(tmp_path: Path) -> None:
    ended = vmss(tmp_path, "doctor")
    assert ended.status == 3 and ended.err == "" and "nobody.sock" in ended.out


def test_the_help_has_examples(tmp_path: Path) -> None:
    ended = vmss(tmp_path, "doctor", "--help")
    assert ended.status == 0 and "examples:" in ended.out
