"""Every remedy that the product prints mends what it is named for, and costs nothing else.

`tests/remedies.py` finds them all in the source. Each is either followed here as it is printed, on a pool that has the
trouble, or elsewhere; or it is named below with the reason why no test can follow it.
"""

import json
import os
import re
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Set, Tuple

import pytest

from tests.documents import ROOT
from tests.pool import GIB, UTC, TestPool
from tests.remedies import remedies
from tests.test_access import Halted
from tests.test_doctor import Ward, complain
from tests.test_doctor import ward as ward_of_a_dom0
from tests.test_read_back import Bench
from tests.test_readme_commands import environment
from vmss.cli.main import COMMANDS as OURS
from vmss.core.coverage import DISABLED, EMPTY, LEFT_BEHIND, LEFT_OUT, UNSCHEDULED, Row
from vmss.core.records import FROZEN_PREFIX, NULL
from vmss.edges.chain_notes import all_wait, waiting_of
from vmss.edges.lock import LockDirectory
from vmss.insight import coverage, state
from vmss.insight.findings import Finding
from vmss.insight.lock_and_log import read_local
from vmss.insight.reading import reading
from vmss.installation.install import example
from vmss.passes.journal import LEFT_OVER
from vmss.simulator.server import Server
from vmss.xe.commands import COMMANDS

ward = ward_of_a_dom0

# The remedies that are followed, by their texts, of which the end may be left out, and the tests that follow them.
FOLLOWED: Dict[str, str] = {}

# Followed in another file.
ELSEWHERE = {
    "vmss prune --dated-in-future": "test_prune.py: test_a_run_says_once_a_day_what_is_dated_in_the_future",
    "%s %s dated in the future…": "test_prune.py: test_a_run_says_once_a_day_what_is_dated_in_the_future",
    "%s Then try at once: vmss run": "test_status.py: test_what_cannot_be_deleted_is_a_warning_until_it_is_gone",
    "set VMSS_USER and VMSS_PASSWORD to a user of the pool…": "test_no_session.py: test_a_wrong_password_is_mended",
    "python3 -c %s >/etc…": "test_no_session.py: test_a_certificate_is_mended_by_either_setting",
    "fetch the server's certificate…": "test_no_session.py: test_a_certificate_is_mended_by_either_setting",
    "correct it: VMSS_XAPI is…": "test_no_session.py: test_a_ca_file_that_is_none",
    "put our RPM in its place…": "test_packaging.py: test_installing_from_files_is_refused_beside_a_package",
    "upgrade it: rpm -U ": "test_packaging.py: test_installing_from_files_is_refused_beside_a_package",
    "Snapshot the VMs that have none of the latest slot…": "test_killed.py: "
    "test_a_run_by_hand_that_is_told_to_stop_tells_what_it_did_and_promises_nothing",
    "What it said is in /var/log/VMSSlog. Mend it…": "test_hooks.py: test_a_hook_that_fails_before_a_snapshot",
    "chown root {0} && chmod go-w {0}": "test_hooks.py: test_what_the_doctor_says_about_a_hook_mends_it",
    "name the directory itself in /etc…": "test_hooks.py: test_what_the_doctor_says_about_a_hook_mends_it",
    "mv %s %s/": "test_hooks.py: test_what_the_doctor_says_about_a_hook_mends_it",
    "chmod u+x %s": "test_hooks.py: test_what_the_doctor_says_about_a_hook_mends_it",
    "chown root {0} && chmod 0600 {0}": "test_hooks.py: test_the_doctor_mends_the_secret_of_the_sync_hook",
    "take the snapshots now: vmss run --policy %s --missing": "test_late.py: "
    "test_a_slot_that_is_too_late_is_told_once_and_the_next_one_is_served",
    "%s: %s. More time has passed since then…": "test_late.py: "
    "test_a_slot_that_is_too_late_is_told_once_and_the_next_one_is_served",
    "take the section out of the file…": "test_settings.py: "
    "test_a_section_or_key_of_no_schedule_is_logged_and_is_a_finding",
    "set %s, notify_ca_file and notify_proxy…": "test_receivers.py: "
    "test_the_doctor_says_that_a_receiver_took_nothing_and_to_try_it_ends_that",
    "chmod 0600 %s": "test_receivers.py: test_the_doctor_says_that_a_receiver_took_nothing_and_to_try_it_ends_that",
    "%s: %d schedules of the pool have this name…": "test_apply.py: "
    "test_what_no_document_can_declare_is_refused_with_the_command_that_mends_it",
    "give it another one: vmss xe…": "test_apply.py: "
    "test_what_no_document_can_declare_is_refused_with_the_command_that_mends_it",
    "rpm -U --replacepkgs ": "test_packaging.py: test_a_file_of_the_package_is_put_back_as_the_doctor_says",
}

LOOK = "it says where to look, and changes nothing"
OUTSIDE = "it is done outside of the pool: on a disk, a network, a host or a licence"
DOM0 = "it acts on services, the clock or the pool's role of a real dom0"
STAYS = "what it is about ends by itself"
NO_REMEDY = "it is no remedy: it says what is wrong, or what belongs to the rest of a sentence"
# Not followed, and why.
NOT_FOLLOWED = {
    "The snapshots %s on %s: %s. See what occupies it…": LOOK,
    "See what keeps them from being coalesced: vmss doctor": LOOK,
    "See to the VM whose uuid is in the error first…": LOOK,
    "the line of /var/log/VMSSlog says why; metrics_file…": LOOK,
    "the line of /var/log/VMSSlog says why; to make it…": LOOK,
    "the check receivers of vmss doctor says…": LOOK,
    "What vmss status says of the schedule…": NO_REMEDY,
    "Find the task that hangs…": LOOK,
    "Resume it: xe vm-resume…": "its command is the one that the doctor prints for the same VM, which is followed here",
    "xe-toolstack-restart on the host where it ran…": DOM0,
    " Disks of deleted snapshots…": LOOK,
    " Expired snapshots that could not…": LOOK,
    " Memory images that no suspended VM has…": LOOK,
    "; then again vmss doctor": NO_REMEDY,
    "set it by NTP…": DOM0,
    "see to those that are named…": LOOK,
    "the clock was or is wrong: timedatectl; the next tick mends…": DOM0,
    "vmss doctor names the VM…": LOOK,
    "see /var/log/xensource.log for what ended…": LOOK,
    "see what the pass waits for…": LOOK,
    "the pass goes on with them…": LOOK,
    "last run dated in the future: vmss doctor": LOOK,
    "move the disks of each VM…": OUTSIDE,
    "Nothing to do.": STAYS,
    "Nothing to do if it was deleted on purpose.": STAYS,
    "See /var/log/SMlog…": LOOK,
    "See who has its disks…": LOOK,
    "Wait for it.": STAYS,
    "Wait until they have ended…": STAYS,
    "Check the host…": OUTSIDE,
    "Bring the host back…": OUTSIDE,
    "See the reason in the error…": LOOK,
    "Install them, or: ": "followed by a remedy that is followed here",
    "Finish the upgrade…": OUTSIDE,
    "Compare the licences…": OUTSIDE,
    "Run it in dom0…": OUTSIDE,
    "Read it with…": LOOK,
    "See /var/log/xensource.log…": LOOK,
    "%s failed: see…": LOOK,
    "see whether its disk is full…": OUTSIDE,
    "VMSS_XAPI: %s is neither…": NO_REMEDY,
    "VMSS_XAPI: %s can be read…": NO_REMEDY,
    "see %s and the entry in /etc/cron.d…": DOM0,
    "xe-toolstack-restart; see /var…": DOM0,
    "xe pool-list params=master…": DOM0,
    "systemctl enable…": DOM0,
    "files in /etc/cron.d…": NO_REMEDY,
    "vmss next tells whether…": LOOK,
    "%s See the VM…": LOOK,
    "set the zone of dom0…": DOM0,
    "set them by NTP…": DOM0,
    "see whether cron runs…": DOM0,
    "run this as root; ls…": "the tests run as root already",
    "run this as root: only…": "the tests run as root already; test_no_session.py has the reason that leads to it",
    "vmss history tells which…": LOOK,
    "; vmss coverage lists them": LOOK,
    "mend these first, then again…": LOOK,
    "take the tag off in another way…": LOOK,
    ": vmss coverage lists them": LOOK,
    "vmss doctor tells what is wrong…": LOOK,
    "vmss doctor tells whether…": LOOK,
    "compare the licences of…": OUTSIDE,
    "report the line of…": LOOK,
    "see what it said: grep Hook…": LOOK,
    "report the lines of…": LOOK,
    "see /var/log/xensource.log; the next pass…": STAYS,
    "look at the snapshot…": LOOK,
    "look at the VM…": LOOK,
    "see whether the coordinator's disk…": OUTSIDE,
    "see /var/log/xensource.log": LOOK,
    "see on that host…": OUTSIDE,
    "ask the coordinator…": "one simulator is no pool of hosts; test_no_session.py has the text",
    "wait until xapi has started…": STAYS,
    "set VMSS_USER and VMSS_PASSWORD to a user with the role…": "the simulator gives its users all roles",
    "%s %s": "a remedy that is followed here, and a command to look",
    "xapi would not store that…": LOOK,
    "another `vmss install`…": STAYS,
    "%s: a host plugin…": NO_REMEDY,
}
# Commands of xe that remedies name, and `vmss xe` does not have.
REAL_XE = {"vusb-list", "vusb-destroy"}


def mends(*texts: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks a test that follows these remedies."""

    def marked(test: Callable[..., None]) -> Callable[..., None]:
        FOLLOWED.update(dict.fromkeys(texts, test.__name__))
        return test

    return marked


def is_named(text: str, name: str) -> bool:
    """Whether a name stands for a text: it is the text, or how it begins, with three dots."""
    return text.startswith(name[:-1]) if name.endswith("…") else text == name


def test_every_remedy_is_followed_or_excused() -> None:
    found, known = remedies(), [*FOLLOWED, *ELSEWHERE, *NOT_FOLLOWED]
    assert len(found) > 100
    cases: Dict[str, List[str]] = {name: [text for text in found if is_named(text, name)] for name in known}
    for text, place in found.items():
        assert any(text in texts for texts in cases.values()), "%s: no case for: %s" % (place, text)
    for name, texts in cases.items():
        assert len(texts) == 1, "%s: %s" % (name, texts)  # so that none slips in beside another
    for where in ELSEWHERE.values():
        name, test = where.split(": ")
        assert "def %s" % test in (ROOT / "tests" / name).read_text(encoding="utf-8"), where


def test_every_command_in_a_remedy_exists() -> None:
    for text, place in remedies().items():
        for words in re.findall(r"\bvmss xe ([a-z]+(?:-[a-z]+)+)", text):
            assert words in COMMANDS, place
        for words in re.findall(r"(?<!vmss )\bxe ([a-z]+(?:-[a-z]+)+)", text):
            assert words in COMMANDS or words in REAL_XE, (place, words)
        for words in re.findall(r"(?<![`=-])\bvmss ([a-z]+)\b", text):
            assert words in OURS, (place, words)


def test_no_remedy_takes_snapshots_of_vms_that_have_theirs() -> None:
    """A second snapshot of the same slot would take the place of an older one of a VM that nothing is wrong with."""
    for text, place in remedies().items():
        assert not re.search(r"\bvmss run (?!--policy \S+ --missing|--dry-run)\S", text), (place, text)


# Following them

_COMMAND = re.compile(
    r"(?<![/\w])(?:(?:vmss xe|xe) [a-z]+(?:-[a-z]+)+(?: [a-z]+(?:-[a-z]+)*(?::[\w:-]+)?=[^\s;,()]*)*"
    r"|vmss history [-\w]+|vmss (?:un)?assign [-\w]+(?: --uuid [-\w]+)"
    r"|vmss [a-z]+(?: --[a-z]+(?:-[a-z]+)*(?: [0-9a-f]{8}-[-0-9a-f]+)?)*|(?:chmod|chown|mv|kill|rm) [^;]+)"
)


def commands(text: str) -> List[str]:
    """The commands in a remedy, as somebody would copy them."""
    return [command.rstrip(".") for command in _COMMAND.findall(text)]


class Hands:
    """Somebody who does what is printed, in bash, against a pool; and sees to it that nothing is lost."""

    def __init__(self, pool: TestPool, folder: Path) -> None:
        self.pool = pool
        self.environment = environment(pool, folder)
        Path(pool.place.config).exists() or Path(pool.place.config).write_text("[vmss]\ntimezone = UTC\n")

    def do(self, *lines: str, status: Sequence[int] = (0,), loses: int = 0, **words: str) -> str:
        """Carry out command lines, with these words filled in. At most `loses` snapshots may be gone afterwards, and
        nothing else."""
        before, out = self.inventory(), ""
        for line in lines:
            for name, value in words.items():
                line = re.sub(r"\b%s\b" % name, value, line)
            assert not re.search(r"\b(UUID|VM|SCHEDULE|OTHER|DISK|POOL|PID|N)\b", line), "to be filled in: %s" % line
            done = subprocess.run(
                ["bash", "-c", line],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=60,
                cwd=str(ROOT),
            )
            out += done.stdout.decode()
            assert done.returncode in status, "%s: %d: %s" % (line, done.returncode, done.stdout.decode())
        lost = [name for name in before - self.inventory() if name[0] != "VDI"]
        assert len(lost) <= loses and all(kind == "snapshot" for kind, _ in lost), lost
        return out

    def inventory(self) -> Set[Tuple[str, str]]:
        """What an administrator has: VMs, their snapshots and disks, schedules, and the VMs on them."""
        found = set()
        for record in self.pool.call("VM.get_all_records").values():
            kind = "snapshot" if record["is_a_snapshot"] else "VM"
            if not record["is_a_template"] or record["is_a_snapshot"]:
                found.add((kind, record["uuid"]))
        found.update(("VMSS", record["uuid"]) for record in self.pool.call("VMSS.get_all_records").values())
        for record in self.pool.call("VDI.get_all_records").values():
            if record["managed"] and not record["is_a_snapshot"] and record["type"] != "suspend":
                found.add(("disk", record["uuid"]))
        return found


@pytest.fixture
def hands(pool: TestPool, tmp_path: Path) -> Hands:
    return Hands(pool, tmp_path)


def one(findings: List[Finding], check: str) -> Finding:
    """The one thing that is wrong by a check."""
    (found,) = [finding for finding in findings if finding.check == check]
    return found


def gone(ward: Ward, check: str) -> None:
    assert [finding for finding in ward.bad() if finding.check == check] == []


# What the doctor and the status say


def uncovered(pool: TestPool, what: str) -> List[Row]:
    """The rows of `vmss coverage` that say this."""
    with reading(pool.surroundings()) as session:
        return [row for row in coverage.read(session).rows if row.what == what]


@mends("vmss assign SCHEDULE --uuid %s; or, if it…")
def test_a_vm_on_no_schedule_is_put_on_one_or_left_out(ward: Ward, hands: Hands) -> None:
    vms = [ward.pool.vm(name) for name in ("one", "two")]
    first, second = uncovered(ward.pool, UNSCHEDULED)
    hands.do(commands(first.remedy)[0], SCHEDULE="policy")
    assert ward.pool.call("VM.get_snapshot_schedule", vms[0]) == ward.policy
    hands.do(commands(second.remedy)[1])
    assert uncovered(ward.pool, UNSCHEDULED) == []
    assert ward.pool.call("VM.get_snapshot_schedule", vms[1]) == NULL


@mends("take the tag off: xe vm-param-remove…", "put it there, after a look at what goes…")
def test_tags_that_cannot_be_followed(ward: Ward, hands: Hands) -> None:
    (ref,) = ward.pool.call("pool.get_all")
    ward.pool.call("pool.add_to_other_config", ref, "vmss:assign_by_tag", "yes")
    two, unknown = (ward.pool.vm(name) for name in ("two", "unknown"))
    ward.pool.call("VM.set_tags", two, ["vmss:policy", "vmss:other"])
    ward.pool.call("VM.set_tags", unknown, ["vmss:it's $(no) such"])
    other = ward.pool.policy(name="other")
    ward.pool.call("VM.set_tags", ward.vms[0], ["vmss:other"])
    for finding in [finding for finding in ward.bad() if finding.check == "tags"]:
        hands.do(*commands(finding.remedy) if "param-key" not in finding.remedy else [finding.remedy.split(": ", 1)[1]])
    gone(ward, "tags")
    assert ward.pool.call("VM.get_snapshot_schedule", ward.vms[0]) == other
    assert ward.pool.call("VM.get_tags", unknown) == [] and len(ward.pool.call("VM.get_tags", two)) == 1


@mends("vmss xe vmss-param-set enabled=true uuid=%s", "vmss assign %s --uuid VM")
def test_a_schedule_that_is_disabled_or_has_no_vm(ward: Ward, hands: Hands) -> None:
    ward.pool.call("VMSS.set_enabled", ward.policy, False)
    hands.do(*commands(uncovered(ward.pool, DISABLED)[0].remedy))
    assert uncovered(ward.pool, DISABLED) == []
    ward.pool.policy([], "empty")
    (row,) = uncovered(ward.pool, EMPTY)
    hands.do(*commands(row.remedy), VM=ward.pool.uuid("VM", ward.pool.vm("new")))
    assert uncovered(ward.pool, EMPTY) == []


@mends("to include one: xe vdi-param-remove…")
def test_a_disk_that_is_left_out_on_purpose(ward: Ward, hands: Hands) -> None:
    disk = ward.pool.call("VBD.get_VDI", ward.pool.call("VM.get_VBDs", ward.vms[0])[0])
    ward.pool.call("VDI.add_to_other_config", disk, "vmss:skip", "yes")
    hands.do(*commands(uncovered(ward.pool, LEFT_OUT)[0].remedy))
    assert uncovered(ward.pool, LEFT_OUT) == []


@mends("vmss prune --of-deleted --dry-run lists them…")
def test_snapshots_that_no_run_deletes(ward: Ward, hands: Hands) -> None:
    ward.pool.call("VM.set_snapshot_schedule", ward.vms[0], NULL)
    listing, deletion = commands(uncovered(ward.pool, LEFT_BEHIND)[0].remedy)
    hands.do(listing)
    hands.do(deletion + " --yes", loses=1)  # it asks at a terminal
    assert uncovered(ward.pool, LEFT_BEHIND) == [] and len(ward.pool.snapshots(ward.vms[1])) == 1


@mends("xe pool-param-remove uuid=%s param-name=other-config…")
def test_a_setting_of_the_pool_with_a_mistake(ward: Ward, hands: Hands) -> None:
    ref = ward.pool.call("pool.get_all")[0]
    ward.pool.call("pool.add_to_other_config", ref, "vmss:quiesce", "maybe")
    ward.pool.call("pool.add_to_other_config", ref, "vmss:retries", "3")
    hands.do(*commands(one(ward.bad(), "settings").remedy))
    gone(ward, "settings")
    assert "vmss:retries" in ward.pool.other_config()


@mends("correct the file: /etc/vmss.conf.example has all settings")
def test_a_settings_file_with_a_mistake(ward: Ward) -> None:
    config = Path(ward.pool.place.config)
    config.write_text("[vmss]\nretries = many\n")
    one(ward.bad(), "settings")
    config.write_bytes(example().replace(b"# timezone =", b"timezone = UTC"))
    gone(ward, "settings")


@pytest.mark.skipif(os.geteuid() != 0, reason="it is root that does not believe what others wrote")
@mends("chown root:root {0} && chmod 0644 {0}")
def test_a_settings_file_that_others_can_write(ward: Ward, hands: Hands) -> None:
    config = ward.pool.place.config
    Path(config).write_text("[vmss]\nretries = 3\n")
    os.chmod(config, 0o666)
    hands.do(*commands(one(ward.bad(), "settings").remedy))
    gone(ward, "settings")
    os.chown(config, 1000, 1000)
    hands.do(*commands(one(ward.bad(), "settings").remedy))
    gone(ward, "settings")


@mends("remove the setting: xe pool-param-remove…", "remove the line timezone from %s")
def test_another_time_zone(ward: Ward, hands: Hands) -> None:
    config, ref = Path(ward.pool.place.config), ward.pool.call("pool.get_all")[0]
    ward.pool.call("pool.add_to_other_config", ref, "vmss:timezone", "Asia/Tokyo")
    hands.do(*commands(one(ward.bad(), "time zone").remedy))
    gone(ward, "time zone")
    config.write_text("[vmss]\ntimezone = Asia/Tokyo\n")
    assert one(ward.bad(), "time zone").remedy.endswith(str(config))
    config.write_text("[vmss]\n")
    gone(ward, "time zone")


@pytest.mark.parametrize(
    "fields",
    [
        {"schedule": {"min": "7"}},
        {"retained_snapshots": 50},
        {"frequency": "daily", "schedule": {"min": "0", "hour": "99"}},
        {"frequency": "weekly", "schedule": {"min": "0", "hour": "1", "days": "someday"}},
    ],
)
@mends("set the field again…")
def test_a_schedule_that_cannot_be_understood(ward: Ward, hands: Hands, fields: Dict[str, Any]) -> None:
    for name, value in fields.items():
        ward.pool.simulator.db.set("VMSS", ward.policy, name, value)
    hands.do(*commands(one(ward.bad(), "schedules").remedy))
    gone(ward, "schedules")


@mends("give it one: vmss assign…")
def test_a_schedule_without_vms(ward: Ward, hands: Hands) -> None:
    ward.pool.policy(name="empty")
    free = ward.pool.vm("free", [ward.pool.sr("free")])
    hands.do(*commands(one(ward.bad(), "schedules").remedy), VM=ward.pool.uuid("VM", free))
    gone(ward, "schedules")


@pytest.mark.parametrize("number", [1, 3])
@mends("vmss xe message-destroy uuid=%s", "for uuid in %s; do…")
def test_messages_that_xencenter_cannot_show(ward: Ward, hands: Hands, number: int) -> None:
    pool, uuid = ward.pool, ward.pool.uuid("VMSS", ward.policy)
    before = {record["uuid"] for record in pool.call("message.get_all_records").values()}
    for _ in range(number):
        pool.call("message.create", "VMSS_SNAPSHOT_NOT_QUIESCED", "3", "VMSS", uuid, "of an earlier version")
    hands.do(one(ward.bad(), "alerts").remedy)
    gone(ward, "alerts")
    assert {record["uuid"] for record in pool.call("message.get_all_records").values()} == before


@mends("To end these messages, set the schedule's type…")
def test_a_run_that_took_plain_snapshots_instead(pool: TestPool, hands: Hands) -> None:
    policy = pool.policy([pool.vm("vm", [pool.sr()], running=True)])
    pool.simulator.db.set("VMSS", policy, "type", "snapshot_with_quiesce")
    pool.tick(policy=pool.uuid("VMSS", policy))
    (line,) = [line for line in pool.alerts(policy)[-1]["body"].split("\n") if "To end these messages" in line]
    hands.do(*commands(line))
    pool.tick(policy=pool.uuid("VMSS", policy))
    assert "plain snapshots" not in pool.alerts(policy)[-1]["body"]


@mends("vmss xe vmss-param-set uuid=%s type=snapshot", "the check schedules of vmss doctor names the schedule…")
def test_a_quiesced_schedule(ward: Ward, hands: Hands) -> None:
    ward.pool.simulator.db.set("VMSS", ward.policy, "type", "snapshot_with_quiesce")
    complain(ward, "VMSS_SNAPSHOT_NOT_QUIESCED: x")
    assert "the check schedules" in one(ward.bad(), "log").remedy
    hands.do(*commands(one(ward.bad(), "schedules").remedy))
    gone(ward, "schedules")


@mends("the clock was or is wrong: timedatectl; the next run sets it right")
def test_a_last_run_in_the_future(ward: Ward) -> None:
    ward.pool.simulator.db.set("VMSS", ward.policy, "last_run_time", datetime(2027, 1, 1, tzinfo=UTC))
    one(ward.bad(), "dates")
    ward.pool.at(11, 15)
    ward.pool.tick()
    gone(ward, "dates")


def left_suspended(ward: Ward) -> str:
    """A VM that a checkpoint has left suspended."""
    down = ward.pool.vm("down", [ward.pool.sr("memory")], running=True)
    pool, uuid = ward.pool.call("pool.get_all")[0], ward.pool.uuid("VM", down)
    ward.pool.call("pool.set_suspend_image_SR", pool, ward.pool.call("SR.get_by_name_label", "memory")[0])
    ward.pool.simulator.durations = ward.pool.simulator.durations._replace(vm_shutdown=(0.0, 0.0))
    ward.pool.call("VM.suspend", down)
    for message in ward.pool.call("message.get_all"):
        ward.pool.call("message.destroy", message)  # as though a checkpoint, which makes none, had suspended it
    ward.pool.call("pool.add_to_other_config", pool, FROZEN_PREFIX + uuid, "20260302T10:14:00Z")
    return str(down)


@mends("xe vm-resume uuid=%s")
def test_a_vm_that_a_checkpoint_has_left_suspended(ward: Ward, hands: Hands) -> None:
    down = left_suspended(ward)
    hands.do(*commands(one(ward.bad(), "suspended VMs").remedy))
    gone(ward, "suspended VMs")
    assert ward.pool.call("VM.get_power_state", down) == "Running"


@mends("xe vm-shutdown force=true uuid=%s, then xe vm-start uuid=%s")
def test_a_vm_that_a_checkpoint_has_left_suspended_and_whose_memory_is_gone(ward: Ward, hands: Hands) -> None:
    down = left_suspended(ward)
    ward.pool.simulator.db.delete("VDI", ward.pool.call("VM.get_suspend_VDI", down))
    hands.do(*commands(one(ward.bad(), "suspended VMs").remedy))
    gone(ward, "suspended VMs")
    assert ward.pool.call("VM.get_power_state", down) == "Running"


@mends("xe vdi-param-list uuid=%s shows it; if nobody needs it…")
@pytest.mark.parametrize("number", [1, 2])
def test_a_disk_that_a_xapi_that_died_may_have_left(ward: Ward, hands: Hands, number: int) -> None:
    disk = ward.pool.call("VDI.snapshot", ward.pool.vdi(ward.pool.sr()), {})
    item = {"since": "20260302T10:15:00Z", "tried": "20260302T10:15:00Z", "tries": 0, "error": []}
    found = dict(item, kind="suspect", uuid=ward.pool.uuid("VDI", disk), of="")
    ward.pool.call("pool.add_to_other_config", ward.pool.call("pool.get_all")[0], LEFT_OVER + "0", json.dumps([found]))
    hands.do(commands(one(ward.bad(), "left over").remedy)[number])
    gone(ward, "left over")


@mends(
    "vmss xe vmss-param-set uuid=%s",
    "vmss next tells which schedules clash…",
    "vmss next tells which schedules take too long…",
    "vmss next tells how to move it",
)
def test_schedules_that_clash(ward: Ward, hands: Hands) -> None:
    sr = ward.pool.sr("busy")
    for number in range(2):
        vm = ward.pool.vm("big %d" % number, [sr] * 10)
        ward.pool.policy([vm], name="clash %d" % number, schedule={"min": "45"})
    (command,) = commands(one(ward.bad(), "clashes").remedy)
    assert command in hands.do("vmss next")
    hands.do(command)
    gone(ward, "clashes")


@mends("see what /var/log/VMSSlog says about that time; run it now…")
def test_a_slot_that_was_missed(ward: Ward, hands: Hands) -> None:
    ward.pool.at(12, 0)
    hands.do(*commands(one(ward.bad(), "schedules").remedy))
    gone(ward, "schedules")


@mends("vmss history %s tells why; snapshot the VMs now…", "vmss history %s")
def test_a_vm_without_its_snapshot(ward: Ward, hands: Hands) -> None:
    ward.pool.call("VM.add_to_blocked_operations", ward.vms[0], "snapshot", "no")
    ward.pool.at(11, 15)
    ward.pool.tick()
    ward.pool.call("VM.remove_from_blocked_operations", ward.vms[0], "snapshot")
    out = hands.do(commands(one(ward.bad(), "last run").remedy)[-1] + " --json")
    assert "Unblock it: xe vm-param-remove" in out and ward.pool.uuid("VM", ward.vms[0]) in out
    hands.do(*commands(one(ward.bad(), "snapshots").remedy))
    gone(ward, "snapshots")


@mends("delete them now: vmss prune --policy %s…", "%s still %s retention…")
def test_more_snapshots_than_the_schedule_keeps(ward: Ward, hands: Hands) -> None:
    for minute in (25, 35):
        ward.pool.at(10, minute)
        ward.pool.tick(policy=ward.pool.uuid("VMSS", ward.policy))
    ward.pool.call("VMSS.set_retained_snapshots", ward.policy, "1")
    found = [finding for finding in ward.bad() if finding.check == "retention"]
    assert len(found) == 2
    hands.do(*commands(found[0].remedy)[:1], loses=4)
    gone(ward, "retention")
    assert [len(ward.pool.snapshots(vm)) for vm in ward.vms] == [1, 1]


@mends(
    "see what occupies it: xe vdi-list…",
    "Free space on it: delete…",
    "vmss xe vmss-param-set retained-snapshots=N uuid=SCHEDULE",
)
def test_an_sr_that_is_full(ward: Ward, hands: Hands) -> None:
    pool = ward.pool
    sr = pool.sr("thick", "lvm", 8 * GIB)
    vm = pool.vm("big", [sr])
    policy = pool.policy([vm], name="big", retained_snapshots="3")
    uuid = pool.uuid("VMSS", policy)
    for minute in (21, 22, 23):
        pool.at(10, minute)
        pool.tick(policy=uuid)
    free = int(pool.call("SR.get_physical_size", sr)) - int(pool.call("SR.get_physical_utilisation", sr))
    pool.call("simulator.fill", sr, str(free - (20 << 20)))
    pool.call("SR.scan", sr)
    assert "'thick'" in one(ward.bad(), "storage").text
    (victim,) = pool.tick(policy=uuid).served[0].victims
    hands.do(*commands(advice(pool, policy, victim.error[0])), loses=9, N="1")
    pool.tick(policy=uuid)
    pool.at(10, 45)
    pool.call("SR.scan", sr)
    assert pool.tick(policy=uuid).served[0].victims == ()


@mends("see whether anybody needs it: xe vdi-param-list…")
def test_disks_that_belong_to_no_vm(ward: Ward, hands: Hands) -> None:
    snapshot = ward.pool.call("VM.get_snapshots", ward.vms[0])[0]
    ward.pool.call("VBD.destroy", ward.pool.call("VM.get_VBDs", snapshot)[0])
    ward.pool.at(11, 15)
    ward.pool.tick()
    ward.started(ward.pool.simulator.now())
    found = one(ward.bad(), "disks")
    hands.do(*commands(found.remedy))
    gone(ward, "disks")


@mends("vmss run", "vmss run; xe task-list shows…")
def test_what_a_pass_did_not_finish(ward: Ward, hands: Hands) -> None:
    ward.pool.record({"00000000-0000-0000-0000-000000000001": []})
    directory = LockDirectory(ward.pool.place.lock_dir)
    uuid = ward.pool.uuid("pool", ward.pool.call("pool.get_all")[0])
    directory.keep(uuid + ".sessions", {"sessions": [{"session": "OpaqueRef:ended", "tasks": []}]})
    directory.close()
    first, second = [finding for finding in ward.bad() if finding.check == "left by passes"]
    hands.do(*commands(first.remedy), *commands(second.remedy))
    gone(ward, "left by passes")


@mends("see /var/log/xensource.log, and try again: vmss doctor")
def test_what_could_not_be_checked(ward: Ward, hands: Hands) -> None:
    fault = {"method": "SR.get_all", "action": "error", "error": '["INTERNAL_ERROR", "x"]'}
    ward.pool.call("simulator.add_fault", fault)
    out = hands.do(*commands(one(ward.bad(), "storage").remedy))
    assert "could not be checked" not in out


# The lock


@mends("chown root:root {0} && chmod 0700 {0}", "chmod +t %s", "run this as root; if something else is there…")
def test_a_lock_directory_that_cannot_be_used(ward: Ward, hands: Hands) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may chown")
    place = Path(ward.pool.place.lock_dir)
    place.chmod(0o777)
    hands.do(*commands(one(ward.bad(), "lock").remedy))
    gone(ward, "lock")
    place.parent.chmod(0o777)
    hands.do(*commands(one(ward.bad(), "lock").remedy))
    gone(ward, "lock")
    place.rename(str(place) + ".old")
    place.write_text("a file")
    hands.do(*commands(one(ward.bad(), "lock").remedy))
    gone(ward, "lock")


@mends("see what it waits for: vmss watch…")
def test_a_pass_that_does_not_end(ward: Ward, hands: Hands) -> None:
    uuid = ward.pool.uuid("pool", ward.pool.call("pool.get_all")[0])
    code = (
        "import os, sys, time\nfrom vmss.edges.lock import LockDirectory\n"
        "lock = LockDirectory(sys.argv[1]).acquire(sys.argv[2], {'pid': os.getpid(), 'since': '20260228T10:15:00Z'})\n"
        "print('held', flush=True)\ntime.sleep(600)\n"
    )
    words = [sys.executable, "-c", code, ward.pool.place.lock_dir, uuid]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, env=hands.environment)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        hands.do(*commands(one(ward.bad(), "lock").remedy))
        assert process.wait(60) == -signal.SIGTERM
        gone(ward, "lock")
    finally:
        process.kill()
        process.wait()


# The installation


class File(NamedTuple):
    """A trouble with a file of the installation: what brings it about, and the check that finds it."""

    check: str
    spoil: Callable[[Ward], None]


FILES = [
    File("plugin", lambda ward: ward.remove("/etc/xapi.d/plugins/vmss")),
    File("plugin", lambda ward: os.chmod(str(ward.root) + "/etc/xapi.d/plugins/vmss", 0o644)),
    File("plugin", lambda ward: ward.write("/etc/xapi.d/plugins/vmss", "#!/usr/bin/python2\n")),
    File("cron entry", lambda ward: ward.remove("/etc/cron.d/vmss.cron")),
    File("cron entry", lambda ward: os.chmod(str(ward.root) + "/etc/cron.d/vmss.cron", 0o666)),
    File("cron entry", lambda ward: ward.write("/etc/cron.d/vmss.cron", "0 * * * * root python3 -c 'import vmss'\n")),
    File("cron entry", lambda ward: ward.write("/etc/cron.d/old", "*/15 * * * * root python -c 'import vmss'\n")),
]


@pytest.mark.parametrize("number", range(len(FILES)))
@mends(
    "vmss install",
    "rm %s, then vmss install",
    "chmod 0755 %s",
    "chmod 0644 %s",
    "rm %s, then %s",
    "remove the others, or their packages…",
)
def test_a_file_of_the_installation(ward: Ward, hands: Hands, number: int) -> None:
    check, root = FILES[number].check, str(ward.root)
    FILES[number].spoil(ward)
    remedy = one(ward.bad(), check).remedy
    lines = [line for part in remedy.split(", then ") for line in commands(part)]
    other = re.search(r"rpm -qf (\S+)", remedy)
    if other:
        lines.append("rm " + other.group(1))
    for line in lines:
        if line == "vmss install":
            hands.do("vmss install --root " + root)
        else:
            hands.do(re.sub(r"(?<= )/etc/", root + "/etc/", line))
    gone(ward, check)


@mends("%s: is not what `vmss install`…")
def test_a_plugin_that_install_keeps(ward: Ward, hands: Hands) -> None:
    root, plugin = str(ward.root), "/etc/xapi.d/plugins/vmss"
    ward.write(plugin, "#!/usr/bin/python2\n")
    out = hands.do("vmss install --root " + root, status=(2,))
    (line,) = [line for line in re.findall(r"rm [^;]+", out) if plugin in line]
    hands.do(line.replace(plugin, root + plugin), "vmss install --root " + root)
    gone(ward, "plugin")


# Storage that is not attached


@mends("xe pbd-plug uuid=%s", "Which one, and the command that attaches it…")
def test_an_sr_that_is_not_attached(pool: TestPool, hands: Hands) -> None:
    halted = Halted(pool)
    halted.unplug(halted.sr)
    assert halted.fails() == ["vm 0", "vm 1"]
    out = hands.do(*commands(advice(pool, halted.policy, "NO_HOSTS_AVAILABLE")), status=(1, 2))
    (finding,) = halted.findings()
    assert finding.remedy in out
    hands.do(*commands(finding.remedy))
    assert [found.severity for found in halted.findings()] == [0] and halted.fails() == []


@pytest.mark.parametrize("drives, which, pbd", [(1, 0, True), (2, 0, True), (1, 1, True), (1, 0, False)])
@mends(
    "xe vm-cd-eject uuid=%s",
    "xe vbd-eject uuid=%s",
    "take the CD out: %s",
    "take the CD out: %s; or, to keep it in: %s",
)
def test_a_cd_of_an_sr_that_is_not_attached(pool: TestPool, hands: Hands, drives: int, which: int, pbd: bool) -> None:
    halted = Halted(pool)
    for number in range(drives - 1):
        pool.vbd(halted.vms[0], "OpaqueRef:NULL", 8 + number, type="CD", mode="RO", empty=True)
    halted.insert(halted.vms[0])
    halted.unplug(halted.isos)
    if not pbd:
        pool.call("PBD.destroy", pool.call("SR.get_PBDs", halted.isos)[0])
    (finding,) = halted.findings()
    assert ("keep it in" in finding.remedy) == pbd
    assert commands(finding.remedy)[0].startswith("xe vm-cd-eject" if drives == 1 else "xe vbd-eject")
    hands.do(commands(finding.remedy)[which])
    assert [found.severity for found in halted.findings()] == [0] and halted.fails() == []


@mends("xe pbd-create sr-uuid…")
def test_an_sr_without_a_pbd(pool: TestPool, hands: Hands) -> None:
    halted = Halted(pool)
    halted.unplug(halted.sr)
    (pbd,) = pool.call("SR.get_PBDs", halted.sr)
    pool.call("PBD.destroy", pbd)
    (finding,) = halted.findings()
    create, plug = commands(finding.remedy)
    # The device-config is that of the storage.
    made = hands.do(re.sub("device-config:.*", "device-config:x=y", create))
    assert pool.uuid("host", pool.host) in create
    hands.do("%s uuid=%s" % (plug, made.strip()))
    assert [found.severity for found in halted.findings()] == [0] and halted.fails() == []


@mends("bring back the host that has it attached…")
def test_an_sr_whose_host_is_down(pool: TestPool, hands: Hands) -> None:
    other = pool.call("host.create", "", "host2", "", "host2", "192.0.2.2")
    theirs = str(pool.call("SR.create", other, {}, str(100 * GIB), "theirs", "", "ext", "user", False, {}))
    halted = Halted(pool)
    vm = pool.vm("theirs", [theirs])
    pool.call("VM.set_snapshot_schedule", vm, halted.policy)
    pool.call("simulator.kill_host", other)
    pool.at(11, 0)  # by now the pool takes it for dead
    (finding,) = halted.findings()
    assert finding.remedy.startswith("bring back the host") and halted.fails() == ["theirs"]
    hands.do(*commands(finding.remedy))
    pool.call("simulator.start_host", other)
    pool.at(11, 30)
    assert [found.severity for found in halted.findings()] == [0] and halted.fails() == []


@mends("in dom0: xe-toolstack-restart; %s…")
def test_a_xapi_that_is_down(ward: Ward) -> None:
    ward.pool.server.stop()
    assert one(ward.bad(), "xapi").remedy.startswith("in dom0: xe-toolstack-restart; ")
    with Server(ward.pool.simulator, socket=ward.pool.socket):  # which starts xapi
        gone(ward, "xapi")


@mends(
    "switch it on: xe sr-param-remove…",
    "free space on it, then let it try again: xe sr-scan…",
    "keep fewer: vmss xe vmss-param-set…",
)
def test_chains_that_grow(ward: Ward, tmp_path: Path) -> None:
    pool, hands = ward.pool, Hands(ward.pool, tmp_path)
    (vbd,) = pool.call("VM.get_VBDs", ward.vms[0])
    disk = pool.call("VBD.get_VDI", vbd)
    sr = pool.call("VDI.get_SR", disk)
    pool.call("SR.add_to_other_config", sr, "gc", "false")
    hands.do(*commands(one(ward.bad(), "chains").remedy))
    gone(ward, "chains")
    pool.call("SR.add_to_other_config", sr, "gc", "false")
    for _ in range(24):
        pool.call("simulator.write", disk, 1 << 20)
        pool.call("VDI.destroy", pool.call("VDI.snapshot", disk, {}))
    pool.call("SR.add_to_sm_config", sr, "gc_no_space", "a message")
    pool.call("SR.remove_from_other_config", sr, "gc")
    found = [finding.remedy for finding in ward.bad() if finding.check == "chains"]
    assert len(found) == 2
    for remedy in found:
        hands.do(commands(remedy)[-1])
    pool.simulator.set_time(pool.simulator.now() + timedelta(hours=2))
    pool.call("SR.remove_from_sm_config", sr, "gc_no_space")  # as the collector does when it has room
    assert not [finding for finding in ward.bad() if finding.check == "chains"]


@mends("start it: xe sr-scan…")
def test_coalescing_that_has_stopped(ward: Ward, tmp_path: Path) -> None:
    """Somebody has switched it off, and on again later, which starts no collector."""
    pool, hands = ward.pool, Hands(ward.pool, tmp_path)
    (vbd,) = pool.call("VM.get_VBDs", ward.vms[0])
    disk = pool.call("VBD.get_VDI", vbd)
    sr = pool.call("VDI.get_SR", disk)
    pool.call("SR.add_to_other_config", sr, "gc", "false")
    for hour in (11, 12, 23):  # twelve hours after the first note of what is in use comes the next
        pool.call("simulator.write", disk, 1 << 20)
        pool.at(hour, 15)
        pool.tick()
    noted = waiting_of(pool.call("SR.get_other_config", sr))
    assert noted is not None and len(noted.images) == 2 and all_wait(pool.xapi, sr, noted)
    pool.at(22, 0, day=3)
    assert [found.text for found in told(ward)] == [
        "coalescing is switched off on the storage repository 'sr 0': what is deleted there frees nothing"
    ]
    pool.at(22, 15, day=3)
    pool.tick()  # it deletes one more, and the note stays
    assert waiting_of(pool.call("SR.get_other_config", sr)) == noted
    pool.call("SR.remove_from_other_config", sr, "gc")
    assert told(ward) == []  # it is not yet a day
    pool.at(23, 20, day=3)
    (found,) = told(ward)
    assert found.text == "the storage repository 'sr 0' has coalesced nothing for 1 d"
    assert found.evidence == "2 images that waited then wait still: " + " and ".join(noted.images)
    assert found in said_by_status(ward)
    hands.do(commands(found.remedy)[0])
    pool.at(23, 40, day=3)
    assert told(ward) == []


def told(ward: Ward) -> List[Finding]:
    """What is wrong with chains, as doctor and status say it."""
    return [finding for finding in ward.bad() if finding.check == "chains"]


def said_by_status(ward: Ward) -> List[Finding]:
    """What `vmss status` finds."""
    with reading(ward.pool.surroundings()) as session:
        return state.examine(session, read_local(ward.pool.place, session, session.now()), session.now()).findings


# What the alert of a run that failed says


def advice(pool: TestPool, policy: str, code: str) -> str:
    """The remedy for an error, in the last alert of a policy."""
    (line,) = [line for line in pool.alerts(policy)[-1]["body"].split("\n") if line.startswith(code + ": ")]
    return str(line)


class Sick:
    """A schedule of two VMs, each with a snapshot; one of them is about to have a trouble."""

    def __init__(self, pool: TestPool, kind: str) -> None:
        self.pool, running = pool, kind == "checkpoint"
        self.vm, self.well = [pool.vm(name, [pool.sr("sr of " + name)], running) for name in ("sick", "well")]
        memory = pool.call("SR.get_by_name_label", "sr of well")[0]
        pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], memory)
        pool.call("VM.set_suspend_SR", self.well, memory)
        self.policy = pool.policy([self.vm, self.well], type=kind, retained_snapshots="5")
        self.other = pool.policy([], name="other")
        self.run()

    def run(self) -> List[str]:
        """Run the schedule; the codes of the errors of the sick VM."""
        self.pool.simulator.set_time(self.pool.simulator.now() + timedelta(minutes=1))
        (served,) = self.pool.tick(policy=self.pool.uuid("VMSS", self.policy)).served
        assert {victim.name for victim in served.victims} <= {"sick"}
        return [victim.error[0] for victim in served.victims]

    def set(self, cls: str, ref: str, name: str, value: Any) -> None:
        self.pool.simulator.db.set(cls, ref, name, value)

    def disk(self) -> str:
        (vbd,) = self.pool.call("VM.get_VBDs", self.vm)
        return str(self.pool.call("VBD.get_VDI", vbd))

    def metrics(self, **fields: Any) -> None:
        for name, value in fields.items():
            self.set("VM_guest_metrics", self.pool.call("VM.get_guest_metrics", self.vm), name, value)

    def for_the_pool(self, name: str, value: str) -> None:
        self.pool.call("pool.add_to_other_config", self.pool.call("pool.get_all")[0], "vmss:" + name, value)

    def without_room(self) -> None:
        self.for_the_pool("room_reserve", "1G")
        sr = self.pool.call("VDI.get_SR", self.disk())
        self.set("SR", sr, "physical_utilisation", int(self.pool.call("SR.get_physical_size", sr)))

    def with_a_chain(self) -> None:
        self.for_the_pool("chain_limit", "5")
        for _ in range(5):
            self.pool.call("simulator.write", self.disk(), 1 << 20)
            self.pool.call("VDI.snapshot", self.disk(), {})

    def leave_out(self) -> None:
        self.pool.call("VDI.add_to_other_config", self.disk(), "vmss:skip", "yes")

    def on_an_old_server(self) -> None:
        self.pool.call("simulator.withhold", "VM.snapshot.ignore_vdis", True)
        self.leave_out()

    def refuse(self, method: str, code: str, count: str = "0") -> None:
        rule = {"method": method, "action": "error", "error": '["%s", "x"]' % code, "object": self.vm, "count": count}
        self.pool.call("simulator.add_fault", rule)


class Failing(NamedTuple):
    """An error: its code, the type of the schedule, what brings it about, and which of the commands is followed."""

    code: str
    kind: str
    trouble: Callable[[Sick], None]
    which: int = 0
    words: Dict[str, str] = {}


SNAPSHOT, CHECKPOINT = "snapshot", "checkpoint"
DROP = "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION"
FAILING = [
    Failing(
        "OPERATION_BLOCKED",
        SNAPSHOT,
        lambda sick: sick.pool.call("VM.add_to_blocked_operations", sick.vm, "snapshot", "no"),
    ),
    Failing(
        "OPERATION_BLOCKED",
        CHECKPOINT,
        lambda sick: sick.pool.call("VM.add_to_blocked_operations", sick.vm, "checkpoint", "no"),
        words={"param-key=snapshot": "param-key=checkpoint"},
    ),
    Failing("VM_IS_IMMOBILE", CHECKPOINT, lambda sick: sick.set("VM", sick.vm, "platform", {"nomigrate": "true"})),
    Failing("VM_NON_SUSPENDABLE", CHECKPOINT, lambda sick: sick.metrics(other={"data-cant-suspend-reason": "x"})),
    Failing("VM_LACKS_FEATURE", CHECKPOINT, lambda sick: sick.metrics(other={}, PV_drivers_detected=False)),
    Failing("VM_HAS_PCI_ATTACHED", CHECKPOINT, lambda sick: sick.refuse("VM.checkpoint", "VM_HAS_PCI_ATTACHED")),
    Failing("VM_HAS_VGPU", CHECKPOINT, lambda sick: sick.refuse("VM.checkpoint", "VM_HAS_VGPU")),
    Failing("VM_HAS_VGPU", CHECKPOINT, lambda sick: sick.refuse("VM.checkpoint", "VM_HAS_VGPU"), 1),
    Failing("VMSS_ALL_DISKS_NEEDED", CHECKPOINT, lambda sick: sick.leave_out()),
    Failing("VMSS_ALL_DISKS_NEEDED", CHECKPOINT, lambda sick: sick.leave_out(), 1),
    Failing("VMSS_NO_ROOM", SNAPSHOT, lambda sick: sick.without_room(), -1, {r"=N\b": "=0"}),
    Failing("VMSS_CHAIN_TOO_LONG", SNAPSHOT, lambda sick: sick.with_a_chain(), -1, {r"=N\b": "=29"}),
    Failing("MESSAGE_PARAMETER_COUNT_MISMATCH", SNAPSHOT, lambda sick: sick.on_an_old_server()),
    Failing(
        "VM_NO_SUSPEND_SR",
        CHECKPOINT,
        lambda sick: sick.pool.call("pool.set_suspend_image_SR", sick.pool.call("pool.get_all")[0], NULL),
    ),
    Failing("VM_HAS_VUSBS", SNAPSHOT, lambda sick: sick.refuse("VM.snapshot", "VM_HAS_VUSBS"), -1),
    Failing("VM_BAD_POWER_STATE", SNAPSHOT, lambda sick: sick.refuse("VM.snapshot", "VM_BAD_POWER_STATE", "1")),
    Failing("TASK_CANCELLED", SNAPSHOT, lambda sick: sick.refuse("VM.snapshot", "TASK_CANCELLED", "1")),
    Failing(
        "OTHER_OPERATION_IN_PROGRESS",
        SNAPSHOT,
        lambda sick: sick.refuse("VM.snapshot", "OTHER_OPERATION_IN_PROGRESS", str(1 + sick.pool.settings.retries)),
    ),
    Failing(DROP, SNAPSHOT, lambda sick: sick.set("VDI", sick.disk(), "on_boot", "reset")),
    Failing(DROP, SNAPSHOT, lambda sick: sick.set("VDI", sick.disk(), "on_boot", "reset"), 1),
    Failing(DROP, SNAPSHOT, lambda sick: sick.set("VDI", sick.disk(), "on_boot", "reset"), 2),
    Failing("VDI_IS_SHARABLE", SNAPSHOT, lambda sick: sick.set("VDI", sick.disk(), "sharable", True)),
    Failing("VDI_IS_SHARABLE", SNAPSHOT, lambda sick: sick.set("VDI", sick.disk(), "sharable", True), 1),
    Failing(
        "SR_OPERATION_NOT_SUPPORTED", SNAPSHOT, lambda sick: sick.refuse("VM.snapshot", "SR_OPERATION_NOT_SUPPORTED")
    ),
    Failing(
        "UNIMPLEMENTED_IN_SM_BACKEND", SNAPSHOT, lambda sick: sick.refuse("VM.snapshot", "UNIMPLEMENTED_IN_SM_BACKEND")
    ),
    Failing(
        "VMSS_OPERATION_TIMED_OUT",
        SNAPSHOT,
        lambda sick: slow(sick, "snapshot_limit", "10"),
        1,
        words={r"\bN\b": "3000"},
    ),
]


def slow(sick: Sick, limit: str, seconds: str) -> None:
    """Snapshots of the VM take ten minutes, longer than the limit."""
    pool = sick.pool
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], "vmss:" + limit, seconds)
    rule = {"method": "VDI.snapshot", "action": "delay", "seconds": "600", "object": sick.disk(), "count": "0"}
    pool.call("simulator.add_fault", rule)


@pytest.mark.parametrize("case", FAILING, ids=["%s-%d" % (case.code, number) for number, case in enumerate(FAILING)])
@mends(
    "Unblock it: xe vm-param-remove…",
    "xe vm-param-set snapshot-schedule= uuid=VM",
    "Put the VM on a schedule of type snapshot…",
    "The next run takes it…",
    "Wait until it has ended; what it is…",
    "Detach it (xe vusb-list…",
    "Take the VM off the schedule: %s; %s.",
    "xe vdi-param-remove param-name=other-config param-key=vmss:skip…",
    "xe vm-param-add param-name=tags…",
    "or leave that disk out…",
    "Let the schedule take its snapshots without memory…",
    "Upgrade the pool, or leave no disk…",
    "See what occupies it: xe vdi-list sr-uuid=UUID; free…",
    "Delete other snapshots of the VM, keep fewer…",
    "Take the VM off the schedule: %s; or let…",
    "Move the disk, or take the VM off the schedule…",
    "Find its task: xe task-list. If it is only slow…",
)
def test_a_vm_that_failed(pool: TestPool, hands: Hands, case: Failing) -> None:
    sick = Sick(pool, case.kind)
    case.trouble(sick)
    assert sick.run() == [case.code]
    line = commands(advice(pool, sick.policy, case.code))[case.which]
    for word, value in case.words.items():
        line = re.sub(word, value, line)
    names = {
        "OTHER": ("VMSS", sick.other),
        "DISK": ("VDI", sick.disk()),
        "POOL": ("pool", pool.call("pool.get_all")[0]),
    }
    snapshots = len(pool.snapshots(sick.vm))
    for word, (cls, ref) in names.items():
        line = re.sub(r"\b%s\b" % word, pool.uuid(cls, ref), line)
    hands.do(line)
    assert sick.run() == []
    on = pool.call("VM.get_snapshot_schedule", sick.vm)
    assert on == sick.policy and len(pool.snapshots(sick.vm)) > snapshots or on != sick.policy
    if on == sick.other:
        assert pool.tick(policy=pool.uuid("VMSS", on)).served[0].victims == ()


@mends("Set the schedule's type…")
def test_a_quiesced_schedule_that_is_to_fail(pool: TestPool, hands: Hands) -> None:
    policy = pool.policy([pool.vm("vm", [pool.sr()], running=True)])
    pool.simulator.db.set("VMSS", policy, "type", "snapshot_with_quiesce")
    pool.call("pool.add_to_other_config", pool.call("pool.get_all")[0], "vmss:quiesce", "fail")
    (victim,) = pool.tick(policy=pool.uuid("VMSS", policy)).served[0].victims
    hands.do(*commands(advice(pool, policy, victim.error[0])))
    assert pool.tick(policy=pool.uuid("VMSS", policy)).served[0].victims == ()


@pytest.mark.parametrize("lacks", ["unmarked", "without_a_disk"])
@mends("Delete it, its uuid is in the error…")
def test_a_new_snapshot_that_lacks_something(pool: TestPool, hands: Hands, lacks: str) -> None:
    bench = Bench(pool)
    bench.happens = getattr(bench, lacks)
    pool.at(10, 15)
    assert pool.tick().status == 1
    bench.happens = lambda new: new
    code, unfit, _ = bench.error()
    # With it goes the oldest of each VM that gets its snapshot now: of the one VM that has none.
    hands.do(*commands(advice(pool, bench.policy, code)), UUID=unfit, loses=2)
    assert len(bench.uuids()) == 2 and unfit not in bench.uuids()
    assert bench.uuids()[0] == bench.old[1]["uuid"]


@mends("Spread the schedules: vmss next. Or raise the limit…")
def test_a_run_that_reached_its_limit(pool: TestPool, hands: Hands) -> None:
    sr = pool.sr()
    vms = [pool.vm("vm %d" % number, [sr]) for number in range(3)]
    policy = pool.policy(vms)
    (ref,) = pool.call("pool.get_all")
    pool.call("pool.add_to_other_config", ref, "vmss:pass_limit", "600")
    pool.call("simulator.add_fault", {"method": "VDI.snapshot", "action": "delay", "seconds": "400", "count": "0"})
    victims = pool.tick(policy=pool.uuid("VMSS", policy)).served[0].victims
    assert "VMSS_RUN_TIMED_OUT" in {victim.error[0] for victim in victims}
    line = commands(advice(pool, policy, "VMSS_RUN_TIMED_OUT"))[-1]
    hands.do(line, N="7200", POOL=pool.uuid("pool", ref))
    assert pool.tick(policy=pool.uuid("VMSS", policy)).served[0].victims == ()


@mends("Keep fewer…")
def test_a_chain_that_is_too_long(pool: TestPool, hands: Hands) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], retained_snapshots="5")
    uuid = pool.uuid("VMSS", policy)
    for minute in range(1, 5):
        pool.at(10, minute)
        pool.tick(policy=uuid)
    rule = {"method": "VM.snapshot", "action": "error", "error": '["SR_BACKEND_FAILURE_109", "", "x", ""]'}
    pool.call("simulator.add_fault", dict(rule, count="2"))  # as long as there are many
    pool.tick(policy=uuid)
    hands.do(*commands(advice(pool, policy, "SR_BACKEND_FAILURE_109"))[:2], loses=9, N="1")
    for kept in (1, 1):
        pool.tick(policy=uuid)
        assert len(pool.snapshots(vm)) == kept
    assert pool.names(policy)[-1] == "VMSS_SNAPSHOT_SUCCEEDED"
