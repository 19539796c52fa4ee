"""VMs that a checkpoint leaves suspended: found, told, resumed; and all those that are none of our business."""

import io
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.front import Front, Once
from tests.pool import UTC, TestPool
from vmss.cli.commands import status
from vmss.core.datetimes import format_datetime
from vmss.core.frozen import LEFT, LOST, SETTLED, STUCK, UNDER_WAY, Frozen, Seen, judge
from vmss.core.problem import Problem
from vmss.core.records import FROZEN_PREFIX
from vmss.edges import frozen as kept
from vmss.edges.lock import LockDirectory
from vmss.edges.xapi import Unanswered
from vmss.insight import checks
from vmss.insight.reading import reading
from vmss.installation.root import Root
from vmss.simulator.faults import Rule

NIGHTLY = {"type": "checkpoint", "frequency": "daily", "schedule": {"hour": "10", "min": "15"}}
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
VM = "a8c24d42-44ef-7feb-e8e5-b4617589a82b"
TASK = "OpaqueRef:79490eab-7f1a-355e-526e-b523b3df44a4"


# --- what follows from what is seen ---


def seen(power_state: str = "Suspended", **more: Any) -> Seen:
    return Seen("OpaqueRef:vm", "db", power_state, **more)


@pytest.mark.parametrize(
    ("it", "minutes", "state"),
    [
        (None, 10, SETTLED),
        (seen("Running"), 10, SETTLED),
        (seen("Halted"), 10, SETTLED),
        (seen("Paused", operations=frozenset(["unpause"])), 10, SETTLED),
        (seen("Running", operations=frozenset(["checkpoint"])), 200, UNDER_WAY),
        (seen("Running", pending=True), 200, UNDER_WAY),
        (seen("Running", error="REFUSED"), 10, UNDER_WAY),
        (seen(), 10, LEFT),
        (seen(), 100000, LEFT),
        (seen(memory_gone=True), 10, LOST),
        (seen(memory_gone=True, operations=frozenset(["resume"])), 200, STUCK),
        (seen(by_others=True), 10, SETTLED),
        (seen(error="REFUSED"), 10, UNDER_WAY),
        (seen(operations=frozenset(["checkpoint"])), 10, UNDER_WAY),
        (seen(pending=True), 10, UNDER_WAY),
        (seen(operations=frozenset(["resume"])), 200, STUCK),
        (seen(pending=True), 200, STUCK),
        (seen(operations=frozenset(["checkpoint"])), -1, STUCK),
    ],
)
def test_what_follows_from_what_is_seen(it: Optional[Seen], minutes: int, state: str) -> None:
    assert judge(Frozen(VM, NOON), it, NOON + timedelta(minutes=minutes), 7200) == state


# --- the notes ---


def test_a_note_is_read_back_as_it_was_written() -> None:
    notes = [Frozen(VM, NOON), Frozen(VM[::-1].replace("-", "")[:8] + VM[8:], NOON, TASK, NOON)]
    assert list(kept.of_file(kept.to_file(notes)).values()) == notes
    assert kept.of_pool({FROZEN_PREFIX + VM: format_datetime(NOON), "vmss:retries": "1"}) == {VM: notes[0]}


def test_what_only_the_file_says_is_believed_for_a_day() -> None:
    filed = {VM: Frozen(VM, NOON, TASK)}
    assert kept.believed({}, filed, NOON + timedelta(hours=23)) == filed
    assert kept.believed({}, filed, NOON + timedelta(hours=25)) == {}
    assert kept.believed({}, filed, NOON - timedelta(hours=1)) == {}
    pooled = {VM: Frozen(VM, NOON)}
    assert kept.believed(pooled, filed, NOON + timedelta(days=9)) == filed
    assert kept.believed(pooled, {}, NOON + timedelta(days=9)) == pooled


# --- pools ---


class Ward:
    """A pool with one running VM on a checkpoint schedule, daily at 10:15, and what is to be said about it."""

    def __init__(self, pool: TestPool, **policy: Any) -> None:
        self.pool = pool
        self.sr = pool.sr()
        pool.call("pool.set_suspend_image_SR", self.pool_ref, self.sr)
        self.vm = pool.vm("db", [self.sr], running=True)
        self.uuid = pool.uuid("VM", self.vm)
        self.policy = pool.policy([self.vm], **{**NIGHTLY, **policy})

    @property
    def pool_ref(self) -> str:
        return str(self.pool.call("pool.get_all")[0])

    @property
    def power(self) -> str:
        return str(self.pool.call("VM.get_power_state", self.vm))

    def set(self, **changes: Any) -> None:
        self.pool.settings = self.pool.settings._replace(**changes)

    def fault(self, method: str, action: str, **how: Any) -> None:
        self.pool.simulator.faults.add(Rule(method=method, action=action, **how))

    def restarted_in_a_checkpoint(self) -> None:
        """A pass whose xapi is restarted, cleanly, while the VM is suspended."""
        self.fault("VDI.snapshot", "restart", way="clean", object="db 0")
        self.pool.at(10, 15)
        with pytest.raises(Problem):
            self.pool.tick()
        self.log_in()
        assert self.power == "Suspended"

    def log_in(self) -> None:
        """Open a session with the xapi that has started."""
        self.pool.xapi.close()
        self.pool.xapi.login("root", "")

    def given_up(self) -> None:
        """A pass whose checkpoint hangs while the VM is suspended, and is given up."""
        self.fault("VDI.snapshot", "hang")
        self.pool.at(10, 15)
        self.pool.tick()
        assert self.power == "Suspended"

    def note(self, since: datetime) -> None:
        """The note of a pass that was killed in a checkpoint of the VM."""
        directory = LockDirectory(self.pool.place.lock_dir)
        directory.keep(self.file.name, kept.to_file([Frozen(self.uuid, since)]))
        directory.close()
        key = FROZEN_PREFIX + self.uuid
        self.pool.call("pool.add_to_other_config", self.pool_ref, key, format_datetime(since))

    @property
    def file(self) -> Path:
        return Path(self.pool.place.lock_dir) / (self.pool.uuid("pool", self.pool_ref) + ".frozen")

    @property
    def noted(self) -> List[bool]:
        """Whether the VM is noted in the file, and in the pool's database."""
        return [
            self.file.exists() and self.uuid in self.file.read_text(),
            FROZEN_PREFIX + self.uuid in self.pool.other_config(),
        ]

    def told(self) -> List[Dict[str, Any]]:
        """The messages about the pool, oldest first."""
        records = [it for it in self.pool.call("message.get_all_records").values() if it["cls"] == "Pool"]
        return sorted(records, key=lambda it: str(it["timestamp"]))

    def messages(self) -> List[str]:
        """What xapi says of the VM."""
        records = [it for it in self.pool.call("message.get_all_records").values() if it["obj_uuid"] == self.uuid]
        return [it["name"] for it in sorted(records, key=lambda it: str(it["timestamp"]))]

    def status(self) -> List[str]:
        """The lines of `vmss status` about suspended VMs."""
        out = io.StringIO()
        with reading(self.pool.surroundings()) as session:
            code = status.show(session, self.pool.place, status.parser().parse_args([]), out)
        lines = [line for line in out.getvalue().splitlines()[1:] if "suspended VMs" in line]
        assert not lines or code == 2
        return lines

    def doctor(self) -> Sequence[Any]:
        findings, _ = checks.examine(self.pool.surroundings(), Root(str(self.pool.folder / "dom0")), False)
        return [finding for finding in findings if finding.check == "suspended VMs"]

    def is_reported(self, remedy: str) -> None:
        """`vmss status` and `vmss doctor` say that the VM is down, and how to bring it back."""
        (line,) = self.status()
        assert line.startswith("CRITICAL") and "VM 'db' is down" in line and remedy in line
        (finding,) = self.doctor()
        assert finding.state == "CRITICAL" and finding.remedy == remedy

    def is_well(self) -> None:
        """The VM runs, nothing is noted, and nothing is reported."""
        assert self.power == "Running"
        assert self.noted == [False, False]
        assert not self.status()
        (finding,) = self.doctor()
        assert finding.state == "OK"


@pytest.fixture
def ward(pool: TestPool) -> Ward:
    return Ward(pool)


def test_a_checkpoint_that_ends_well_leaves_no_note(ward: Ward) -> None:
    ward.pool.at(10, 15)
    assert ward.pool.tick().status == 0
    ward.is_well()
    assert "suspended" not in ward.pool.alerts()[0]["body"] and not ward.told()


def test_what_a_checkpoint_costs_beside_a_snapshot(ward: Ward, tmp_path: Path) -> None:
    path = str(tmp_path / "front")
    front = Front(path, ward.pool.socket)
    ward.pool.place = ward.pool.place._replace(xapi="unix:" + path)
    ward.pool.at(10, 15)
    ward.pool.tick()
    # Any pass that works adds and removes its sign in the pool.
    more = ["VM.get_power_state"] * 2 + ["pool.add_to_other_config", "pool.remove_from_other_config"] * 2
    assert sorted(call for call in front.calls if call in more) == sorted(more)
    del front.calls[:]
    ward.pool.at(10, 30)
    ward.pool.tick()  # an idle tick
    assert not [call for call in front.calls if call.startswith(("VM.", "message."))]


def test_a_restart_of_xapi_in_a_checkpoint(ward: Ward) -> None:
    ward.restarted_in_a_checkpoint()
    assert ward.noted == [True, True]
    ward.is_reported("xe vm-resume uuid=%s" % ward.uuid)
    ward.pool.at(10, 30)
    assert ward.pool.tick().status == 0
    ward.is_well()
    # It was resumed before its checkpoint was taken.
    assert [name for name in ward.messages() if name in ("VM_RESUMED", "VM_CHECKPOINTED")] == [
        "VM_RESUMED",
        "VM_CHECKPOINTED",
    ]
    (alert,) = ward.pool.alerts()
    assert alert["name"] == "VMSS_SNAPSHOT_SUCCEEDED"
    assert "VM 'db' (%s) had been left suspended by its checkpoint of 2026-03-02 10:15:0" % ward.uuid in alert["body"]
    second = ward.pool.log()[ward.pool.log().index("VM %s (db) was resumed" % ward.uuid) :]
    assert "Processing VM: %s" % ward.uuid in second
    assert ward.pool.log().count("Processing VM: %s" % ward.uuid) == 2
    assert not ward.told() and not ward.pool.tasks() and not ward.pool.sessions()


def test_a_new_coordinator_has_no_file_and_resumes_the_vm(ward: Ward, tmp_path: Path) -> None:
    ward.restarted_in_a_checkpoint()
    ward.pool.place = ward.pool.place._replace(lock_dir=str(tmp_path / "another_host"))
    ward.pool.at(10, 30)
    ward.pool.tick()
    ward.is_well()


def test_a_xapi_that_has_forgotten_the_note_is_told_again(ward: Ward) -> None:
    ward.restarted_in_a_checkpoint()
    ward.pool.call("pool.remove_from_other_config", ward.pool_ref, FROZEN_PREFIX + ward.uuid)
    ward.set(resume=False)
    ward.pool.at(10, 30)
    ward.pool.tick()
    assert ward.noted == [True, True]
    ward.set(resume=True)
    ward.pool.call("pool.remove_from_other_config", ward.pool_ref, FROZEN_PREFIX + ward.uuid)
    ward.pool.at(10, 45)
    ward.pool.tick()
    ward.is_well()


def test_a_pass_with_nothing_else_to_do_resumes_the_vm_and_says_so(ward: Ward) -> None:
    ward.restarted_in_a_checkpoint()
    ward.pool.call("VM.set_snapshot_schedule", ward.vm, "")
    ward.pool.at(10, 30)
    ward.pool.tick()
    ward.is_well()
    (message,) = ward.told()
    assert (message["name"], message["priority"]) == ("VMSS_VM_RESUMED", "3")
    assert "VM 'db'" in message["body"] and not ward.pool.alerts()
    ward.pool.at(10, 45)
    ward.pool.tick()
    assert len(ward.told()) == 1


def test_a_checkpoint_that_hangs_and_is_given_up(ward: Ward) -> None:
    ward.given_up()
    remedy = "xe-toolstack-restart on the host where it ran, then xe vm-resume uuid=%s" % ward.uuid
    (failed,) = [alert for alert in ward.pool.alerts() if alert["name"] == "VMSS_SNAPSHOT_FAILED"]
    assert (
        "Error:['VMSS_VM_LEFT_SUSPENDED', 'checkpoint is still in progress', 'VMSS_OPERATION_TIMED_OUT'"
        in (failed["body"])
    )
    assert remedy in failed["body"]
    ward.is_reported(remedy)
    ward.pool.at(10, 0, day=3)
    ward.pool.tick()  # a day later, and nothing is due
    assert ward.power == "Suspended"
    ward.is_reported(remedy)
    # The remedy, as it is printed.
    with suppress(Unanswered):
        ward.pool.call("simulator.restart", "clean", 0.0)
    ward.log_in()
    ward.pool.call("VM.resume", ward.vm, False, False)
    assert ward.power == "Running" and not ward.status()
    ward.pool.at(10, 15, day=3)
    assert ward.pool.tick().status == 0
    ward.is_well()


def test_a_vm_that_stays_down_is_told_once_a_day_where_no_run_tells_it(ward: Ward) -> None:
    ward.restarted_in_a_checkpoint()
    ward.pool.call("VM.set_snapshot_schedule", ward.vm, "")
    ward.set(resume=False)
    for day, hour, minute in ((2, 10, 30), (2, 10, 45), (3, 10, 15), (3, 10, 45), (3, 11, 0)):
        ward.pool.at(hour, minute, day=day)
        ward.pool.tick()
    assert [(it["name"], it["priority"]) for it in ward.told()] == [("VMSS_VM_LEFT_SUSPENDED", "1")] * 2
    assert all("xe vm-resume uuid=%s." % ward.uuid in it["body"] for it in ward.told())


def test_a_vm_that_needs_another_remedy_than_was_told_is_told_anew(ward: Ward) -> None:
    ward.restarted_in_a_checkpoint()
    ward.pool.call("VM.set_snapshot_schedule", ward.vm, "")
    ward.set(resume=False)
    ward.pool.at(10, 30)
    ward.pool.tick()
    ward.pool.simulator.db.delete("VDI", ward.pool.simulator.db.row("VM", ward.vm)["suspend_VDI"])
    for minute in (45, 50):
        ward.pool.at(10, minute)
        ward.pool.tick()
    first, second = (it["body"] for it in ward.told())
    assert "xe vm-resume uuid=%s." % ward.uuid in first
    assert "xe vm-shutdown force=true uuid=%s, then xe vm-start uuid=%s." % (ward.uuid, ward.uuid) in second


def test_a_vm_whose_memory_is_gone_is_not_tried_to_be_resumed_and_told_with_what_helps(ward: Ward) -> None:
    # xapi has died, and has forgotten that the VM was resumed; the disk with its memory went when it was.
    ward.restarted_in_a_checkpoint()
    row = ward.pool.simulator.db.row("VM", ward.vm)
    ward.pool.simulator.db.delete("VDI", row["suspend_VDI"])
    remedy = "xe vm-shutdown force=true uuid=%s, then xe vm-start uuid=%s" % (ward.uuid, ward.uuid)
    ward.is_reported(remedy)
    path = str(ward.pool.folder / "front")
    front = Front(path, ward.pool.socket)
    ward.pool.place = ward.pool.place._replace(xapi="unix:" + path)
    ward.pool.at(10, 30)
    assert ward.pool.tick().status == 1
    assert "Async.VM.resume" not in front.calls
    assert ward.pool.log().count(
        "VM %s (db) was left suspended by its checkpoint, and is not resumed: its memory is gone" % ward.uuid
    )
    (alert,) = ward.pool.alerts()
    assert "'VMSS_VM_LEFT_SUSPENDED', 'its memory is gone'" in alert["body"] and remedy in alert["body"]
    ward.is_reported(remedy)
    ward.pool.call("VM.hard_shutdown", ward.vm)
    ward.pool.call("VM.start", ward.vm, False, False)
    ward.pool.at(10, 45)
    ward.pool.tick()
    ward.is_well()


def test_resume_no_leaves_the_vm_alone_and_reports_it_until_it_runs(ward: Ward) -> None:
    ward.set(resume=False)
    ward.restarted_in_a_checkpoint()
    ward.pool.at(10, 30)
    assert ward.pool.tick().status == 1
    assert ward.power == "Suspended" and "VM_RESUMED" not in ward.messages()
    (alert,) = ward.pool.alerts()
    assert alert["name"] == "VMSS_SNAPSHOT_FAILED" and "'VMSS_VM_LEFT_SUSPENDED', 'resume = no'" in alert["body"]
    assert "1 of 1 VM has its snapshot" in alert["body"]  # which there is all the same
    ward.pool.at(10, 45)
    ward.pool.tick()
    assert not ward.told()  # the alert of the run has told it
    ward.is_reported("xe vm-resume uuid=%s" % ward.uuid)
    ward.pool.call("VM.resume", ward.vm, False, False)
    assert not ward.status()
    ward.pool.at(11, 0)
    ward.pool.tick()
    ward.is_well()


def test_a_checkpoint_that_fails_to_resume_its_vm(ward: Ward) -> None:
    ward.fault("VM.checkpoint.resume", "error", error=["VM_CHECKPOINT_RESUME_FAILED", ward.vm])
    ward.pool.at(10, 15)
    assert ward.pool.tick().status == 1
    ward.is_well()
    (alert,) = ward.pool.alerts()
    assert "Error:['VM_CHECKPOINT_RESUME_FAILED'" in alert["body"] and "and was resumed." in alert["body"]
    assert not ward.told()


def test_a_vm_that_cannot_be_resumed_fails_its_run_and_is_tried_again_by_the_next_pass(ward: Ward) -> None:
    ward.restarted_in_a_checkpoint()
    ward.fault("VM.resume", "error", error=["HOST_NOT_ENOUGH_FREE_MEMORY", "1", "0"])
    ward.pool.at(10, 30)
    assert ward.pool.tick().status == 1
    assert ward.power == "Suspended" and ward.noted == [True, True]
    (alert,) = ward.pool.alerts()
    assert alert["name"] == "VMSS_SNAPSHOT_FAILED"
    assert "'VMSS_VM_LEFT_SUSPENDED', 'VM.resume failed: HOST_NOT_ENOUGH_FREE_MEMORY 1 0'" in alert["body"]
    ward.is_reported("xe vm-resume uuid=%s" % ward.uuid)
    ward.pool.at(10, 45)
    ward.pool.tick()
    ward.is_well()
    assert [it["name"] for it in ward.told()] == ["VMSS_VM_RESUMED"]


def test_a_resumption_that_meets_something_busy_is_tried_again_in_the_same_pass(ward: Ward) -> None:
    ward.restarted_in_a_checkpoint()
    busy = ["OTHER_OPERATION_IN_PROGRESS", "VM", ward.vm, "clone", "OpaqueRef:somebody"]
    ward.fault("VM.resume", "error", error=busy, count=2)
    ward.pool.at(10, 30)
    assert ward.pool.tick().status == 0
    ward.is_well()


def test_a_resumption_that_hangs_is_given_up_and_keeps_nobody_else_waiting(ward: Ward) -> None:
    other = ward.pool.vm("web", [ward.pool.sr("another")], running=True)
    ward.pool.call("VM.set_snapshot_schedule", other, ward.policy)
    ward.set(resume_limit=900)
    ward.restarted_in_a_checkpoint()
    ward.fault("VM.resume", "hang", object=ward.vm)
    ward.pool.at(10, 30)
    assert ward.pool.tick().status == 1
    (snapshot,) = ward.pool.snapshots(other)
    assert str(snapshot["snapshot_time"]) < "20260302T10:31:00Z"
    log = "\n".join(ward.pool.log())
    assert "VM.resume failed for VM: %s (db): VMSS_OPERATION_TIMED_OUT VM.resume 900 s" % ward.uuid in log
    (alert,) = ward.pool.alerts(ward.policy)
    assert (
        "VM:db UUID:%s Error:['VMSS_VM_LEFT_SUSPENDED'" % ward.uuid in alert["body"] and "VM:web" not in alert["body"]
    )


# --- what is none of our business ---


def test_a_vm_that_was_suspended_before_its_checkpoint_stays_so(ward: Ward) -> None:
    ward.pool.call("VM.suspend", ward.vm)
    ward.fault("VDI.snapshot", "restart", way="clean")
    ward.pool.at(10, 15)
    with pytest.raises(Problem):
        ward.pool.tick()
    ward.log_in()
    assert ward.noted == [False, False]
    ward.pool.at(10, 30)
    assert ward.pool.tick().status == 0
    assert ward.power == "Suspended" and not ward.status() and not ward.told()


@pytest.mark.parametrize("without_links", [0, 1])
def test_a_vm_that_somebody_has_suspended_since_stays_so(ward: Ward, without_links: int) -> None:
    ward.pool.at(10, 0)
    ward.note(datetime(2026, 3, 2, 9, 50, tzinfo=UTC))
    ward.pool.call("simulator.collide", without_links)  # xapi stores the message, and does not find it by its VM
    ward.pool.call("VM.suspend", ward.vm)
    assert not ward.status()
    ward.pool.tick()
    assert ward.power == "Suspended" and ward.noted == [False, False] and not ward.told()


def test_a_note_from_the_future_proves_nothing(ward: Ward) -> None:
    ward.pool.at(10, 5)
    ward.note(datetime(2027, 3, 2, 9, 50, tzinfo=UTC))
    ward.pool.call("VM.suspend", ward.vm)
    ward.pool.tick()
    assert ward.power == "Suspended" and ward.noted == [False, False] and not ward.told()
    ward.pool.at(10, 10)
    ward.pool.call("VM.resume", ward.vm, False, False)
    ward.note(datetime(2027, 3, 2, 9, 50, tzinfo=UTC))
    ward.pool.simulator.db.set("VM", ward.vm, "power_state", "Suspended")
    ward.is_reported("xe vm-resume uuid=%s" % ward.uuid)
    ward.pool.at(10, 14)
    ward.pool.tick()
    ward.is_well()


def test_a_vm_that_is_down_when_the_run_begins_and_runs_when_it_ends_does_not_fail_it(
    ward: Ward, tmp_path: Path
) -> None:
    ward.pool.call("VMSS.set_type", ward.policy, "snapshot")
    ward.set(resume=False)
    ward.pool.at(10, 0)
    ward.note(datetime(2026, 3, 2, 9, 50, tzinfo=UTC))
    ward.pool.simulator.db.set("VM", ward.vm, "power_state", "Suspended")
    resume = Once("event.from", lambda: ward.pool.call("VM.resume", ward.vm, False, False))
    Front(str(tmp_path / "front"), ward.pool.socket, before=resume)
    ward.pool.place = ward.pool.place._replace(xapi="unix:%s" % (tmp_path / "front"))
    ward.pool.at(10, 15)
    assert ward.pool.tick().status == 0
    assert ward.pool.names() == ["VMSS_SNAPSHOT_SUCCEEDED"] and not ward.told()


def test_a_vm_that_was_reverted_since_to_a_checkpoint_stays_suspended(ward: Ward) -> None:
    ward.pool.at(9, 30)
    checkpoint = ward.pool.call("VM.checkpoint", ward.vm, "by hand")
    ward.restarted_in_a_checkpoint()
    ward.pool.call("VM.revert", checkpoint)
    assert ward.power == "Suspended" and not ward.status()
    ward.pool.at(10, 16)
    ward.pool.tick()
    assert ward.power == "Suspended" and "VM_RESUMED" not in ward.messages() and ward.noted == [False, False]


def test_a_vm_that_runs_elsewhere_is_gone_or_off_needs_nothing(ward: Ward) -> None:
    uuid = "00000000-0000-4000-8000-000000000002"
    other = ward.pool.call("host.create", uuid, "two", "", "two", "192.0.2.2")
    ward.pool.call("host.enable", other)
    pbd = ward.pool.call("PBD.create", {"host": other, "SR": ward.sr, "device_config": {}, "other_config": {}})
    ward.pool.call("PBD.plug", pbd)
    ward.pool.at(9, 0)
    changes: List[Any] = [
        lambda: ward.pool.call("VM.pool_migrate", ward.vm, other, {}),
        lambda: ward.pool.call("VM.hard_shutdown", ward.vm),
        lambda: ward.pool.call("VM.destroy", ward.vm),
    ]
    for number, change in enumerate(changes):
        ward.note(datetime(2026, 3, 2, 9, 0, tzinfo=UTC))
        change()
        ward.pool.at(9, 15 + number)
        ward.pool.tick()
        assert ward.noted == [False, False] and "VM_RESUMED" not in ward.messages()
    assert not ward.told()


def test_a_checkpoint_that_a_killed_pass_has_started_is_left_to_its_end(ward: Ward) -> None:
    ward.pool.simulator.durations = ward.pool.simulator.durations._replace(vdi_snapshot=(1500.0, 1500.0))
    ward.pool.at(10, 0)
    ward.note(datetime(2026, 3, 2, 10, 0, tzinfo=UTC))
    ward.pool.call("Async.VM.checkpoint", ward.vm, "under way")
    ward.pool.at(10, 5)
    assert ward.power == "Suspended"
    ward.pool.tick()
    assert ward.noted == [True, True] and not ward.told() and not ward.status()
    ward.pool.at(11, 0)
    ward.pool.tick()
    assert "VM_RESUMED" not in ward.messages()
    ward.is_well()


def test_a_pass_that_is_told_to_stop_starts_no_resumption(ward: Ward) -> None:
    from vmss.edges import stop

    ward.restarted_in_a_checkpoint()
    ward.pool.at(10, 30)
    stop._requested = True
    try:
        ward.pool.tick()
    finally:
        stop._requested = False
    assert ward.power == "Suspended" and ward.noted == [True, True]
    ward.pool.at(10, 45)
    ward.pool.tick()
    ward.is_well()


# --- whatever the notes say ---

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from([VM, TASK, "20260302T09:00:00Z"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["vm", "since", "task", "told", "vms"]) | st.text(max_size=5), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(junk)
def test_whatever_the_file_has_is_a_note_or_none(value: Any) -> None:
    for notes in (kept.of_file({"vms": value}), kept.of_file({"vms": [value]})):
        for vm, frozen in notes.items():
            assert vm == frozen.vm and len(vm) == 36 and frozen.since.tzinfo is not None
            assert not frozen.task or frozen.task.startswith("OpaqueRef:")


@given(st.dictionaries(st.text(max_size=10).map(lambda text: FROZEN_PREFIX + text), st.text(max_size=20), max_size=4))
def test_whatever_the_pool_has_is_a_note_or_none(other_config: Dict[str, str]) -> None:
    assert kept.of_pool(other_config) == {}
    assert list(kept.of_pool({FROZEN_PREFIX + VM: "20260302T09:00:00Z", **other_config})) == [VM]


# The names of members of a map are not escaped, by xapi either.
keys = st.text("".join(map(chr, range(32, 127))).replace("&", "").replace("<", "").replace(">", ""), max_size=20)


@given(junk, keys)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_note_keeps_a_pass_from_serving_nor_resumes_a_vm_that_somebody_suspended(
    tmp_path_factory: pytest.TempPathFactory, value: Any, text: str
) -> None:
    with TestPool(tmp_path_factory.mktemp("notes")) as pool:
        ward = Ward(pool)
        pool.at(9, 30)
        suspended = pool.vm("suspended", [ward.sr], running=True)
        pool.call("VM.suspend", suspended)
        directory = LockDirectory(pool.place.lock_dir)
        mine = {"vm": pool.uuid("VM", suspended), "since": "20260302T09:00:00Z", "task": value}
        directory.keep(ward.file.name, {"vms": [value, mine, {"vm": VM, "since": "20260302T09:00:00Z"}]})
        directory.close()
        pool.call("pool.add_to_other_config", ward.pool_ref, FROZEN_PREFIX + text, text)
        pool.at(10, 15)
        assert pool.tick().status == 0
        assert pool.call("VM.get_power_state", suspended) == "Suspended"
        ward.is_well()
