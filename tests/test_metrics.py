"""`vmss metrics` and the file that passes write: what the numbers say, that they can be read, and what they cost."""

import io
import os
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.documents import ROOT
from tests.front import Front, valued
from tests.pool import GIB, UTC, TestPool
from tests.test_plugin import files
from tests.test_suspended import Ward
from vmss.cli.commands import metrics as command
from vmss.core import exposition
from vmss.core.datetimes import parse_datetime
from vmss.core.exposition import Family, Sample
from vmss.edges import surroundings
from vmss.edges.lock import LockDirectory
from vmss.edges.sessions import NoSession
from vmss.edges.settings import DEFAULT_XAPI
from vmss.edges.surroundings import Surroundings
from vmss.insight import metrics_writer, published, state
from vmss.insight.lock_and_log import read_local
from vmss.insight.reading import reading
from vmss.passes.request import Report, Request

HOSTILE = 'db "1" \\ back\\n {a="b"} 1\n# HELP vmss_last_tick_timestamp_seconds x\nvmss_licensed 0\t\u2028\x85ü €'

Numbers = Dict[Tuple[str, str], float]


def shown(pool: TestPool, **changes: Any) -> str:
    """What the command prints."""
    out = io.StringIO()
    around = pool.surroundings(**changes)
    with reading(around) as session:
        assert command.show(session, around.place, out) == 0
    return out.getvalue()


def numbers(text: str, by: str = "") -> Numbers:
    """The numbers in a text, as Prometheus's own client parses them: by name, and the value of one label."""
    found: Numbers = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type == "gauge"
        for sample in family.samples:
            found[sample.name[len("vmss_") :], sample.labels.get(by, "")] = sample.value
    return found


def names(text: str, label: str) -> List[str]:
    families = text_string_to_metric_families(text)
    return [sample.labels[label] for family in families for sample in family.samples if label in sample.labels]


def publishing(pool: TestPool, **settings: Any) -> Surroundings:
    folder = pool.folder / "textfile"
    folder.mkdir(exist_ok=True)
    changes = dict({"metrics_file": str(folder / "vmss.prom")}, **settings)
    return pool.surroundings(settings=pool.settings._replace(**changes))


def tick(pool: TestPool, around: Surroundings) -> Report:
    return published.run(Request(kicked=True), around)


def written(around: Surroundings) -> str:
    return Path(around.settings.metrics_file).read_text(encoding="utf-8")


# The numbers


def test_each_vm_has_its_snapshots_each_schedule_its_runs_and_each_repository_its_room(pool: TestPool) -> None:
    sr = pool.sr("store", size=100 * GIB)
    good, bad = pool.vm("good", [sr]), pool.vm("bad", [sr])
    policy = pool.policy([good, bad], "nightly", retained_snapshots="3")
    pool.policy([], "empty", enabled=False)
    disk = pool.call("VBD.get_VDI", pool.call("VM.get_VBDs", good)[0])
    for hour in (10, 11):
        pool.call("simulator.write", disk, 1 << 20)
        pool.at(hour, 15)
        pool.tick()
    pool.call("simulator.write", disk, 1 << 20)
    pool.call("VM.add_to_blocked_operations", bad, "snapshot", "no")
    pool.at(12, 15)
    pool.tick()
    pool.at(12, 50)
    text = shown(pool)
    vms, schedules, srs = (numbers(text, label) for label in ("vm", "schedule", "sr"))
    for name, vm in (("good", good), ("bad", bad)):
        times = [pool_time(record["snapshot_time"]) for record in pool.snapshots(vm)]
        assert vms["vm_snapshots", name] == len(times) == (3 if name == "good" else 2)
        assert vms["vm_newest_snapshot_timestamp_seconds", name] == max(times)
        assert vms["vm_oldest_snapshot_timestamp_seconds", name] == min(times)
    assert schedules["schedule_enabled", "nightly"] == 1 and schedules["schedule_enabled", "empty"] == 0
    assert schedules["schedule_vms", "nightly"] == 2
    assert schedules["schedule_retained_snapshots", "nightly"] == 3
    assert schedules["schedule_last_run_success", "nightly"] == 0
    assert schedules["schedule_last_run_vms_failed", "nightly"] == 1
    assert 0 < schedules["schedule_last_run_duration_seconds", "nightly"] < 300
    assert schedules["schedule_last_run_timestamp_seconds", "nightly"] == int(pool.last_run(policy).timestamp())
    # It is late: what is tried again with the next tick runs then, and nothing runs of what is disabled.
    assert ("schedule_next_run_timestamp_seconds", "empty") not in schedules
    assert srs["sr_size_bytes", "store"] == 100 * GIB and srs["sr_used_bytes", "store"] > 0
    assert srs["sr_chain_images", "store"] == 4  # three snapshots, and the disk itself
    # As `vmss status` has it.
    with reading(pool.surroundings()) as session:
        tally = state.examine(session, read_local(pool.place, session, session.now()), session.now())
    assert schedules["schedule_vms_late", "nightly"] == tally.numbers["vms_late"] == 1
    assert schedules["schedule_state", "nightly"] > 0 == schedules["schedule_state", "empty"]
    of_pool = numbers(text)
    assert of_pool["last_tick_timestamp_seconds", ""] == pool_time("20260302T12:15:00Z")
    assert of_pool["licensed", ""] == 1 and of_pool["left_over", ""] == tally.numbers["left_over"]
    assert of_pool["vms_unscheduled", ""] == tally.numbers["vms_unscheduled"]


def pool_time(value: Any) -> int:
    return int(parse_datetime(value).timestamp())


def test_a_vm_that_a_checkpoint_left_suspended(pool: TestPool) -> None:
    ward = Ward(pool)
    ward.set(resume=False)
    assert numbers(shown(pool))["vms_left_suspended", ""] == 0
    ward.given_up()
    assert numbers(shown(pool))["vms_left_suspended", ""] == 1


def test_what_cannot_be_understood_or_lies_in_the_future(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], "nightly")
    broken = pool.policy([pool.vm("other")], "broken")
    for hour in (10, 11):
        pool.at(hour, 15)
        pool.tick()
    ahead, other = pool.call("VM.get_snapshots", vm)
    pool.simulator.db.set("VM", ahead, "snapshot_time", datetime(2027, 1, 1, tzinfo=UTC))
    pool.simulator.db.set("VMSS", broken, "retained_snapshots", 99)
    found = numbers(shown(pool), "vm")
    assert found["schedules_unreadable", ""] == 1
    assert found["vm_snapshots", "vm"] == 1  # what is dated in the future proves nothing
    assert found["vm_newest_snapshot_timestamp_seconds", "vm"] == pool_time(pool.call("VM.get_snapshot_time", other))


@given(st.text(), st.text())
def test_any_text_in_a_label_is_read_as_it_was(name: str, other: str) -> None:
    text = exposition.text_of([Family("vmss_x", other + ".", (Sample(1, {"vm": name, "sr": other}),))])
    (family,) = text_string_to_metric_families(text)
    (sample,) = family.samples
    assert sample.labels == {
        "vm": name.encode("utf-8", "replace").decode(), "sr": other.encode("utf-8", "replace").decode()
    }  # fmt: skip
    assert text.count("\n") == 3


def test_hostile_names_are_labels_and_nothing_else(pool: TestPool) -> None:
    sr = pool.sr(HOSTILE)
    pool.policy([pool.vm(HOSTILE, [sr])], HOSTILE)
    around = publishing(pool)
    for hour in (10, 11):
        pool.at(hour, 15)
        tick(pool, around)
    known = pool.call("VM.get_name_label", pool.call("VMSS.get_all_records").popitem()[1]["VMs"][0])
    for text in (shown(pool), written(around)):
        assert set(names(text, "vm")) == set(names(text, "schedule")) == set(names(text, "sr")) == {known}
        found = numbers(text)
        assert found["licensed", ""] == 1 and found["last_tick_timestamp_seconds", ""] == pool_time(
            "20260302T11:15:00Z"
        )


def test_it_is_utf_8_whatever_the_locale(pool: TestPool) -> None:
    pool.policy([pool.vm("bücher €")], "n")
    environment = dict(os.environ, PYTHONPATH=str(ROOT), LC_ALL="C", PYTHONIOENCODING="ascii", **files(pool))
    done = subprocess.run(
        [sys.executable, "-m", "vmss", "metrics"], env=environment, stdout=subprocess.PIPE, check=True
    )
    assert set(names(done.stdout.decode("utf-8"), "vm")) == {"bücher €"}


def test_what_it_costs_does_not_grow_with_snapshots_that_are_known(pool: TestPool) -> None:
    sr = pool.sr()
    pool.policy([pool.vm("vm %d" % number, [sr]) for number in range(6)], "nightly", retained_snapshots="4")
    around = publishing(pool)
    for hour in (10, 11, 12):
        pool.at(hour, 15)
        tick(pool, around)
    assert numbers(written(around), "vm")["vm_snapshots", "vm 3"] == 3
    sent: List[str] = []  # the snapshots whose records were sent

    def note(method: str, value: Any) -> None:
        if method == "VM.get_all_records_where":
            sent.extend(ref for ref, record in value.items() if record["is_a_snapshot"])

    # By hand none that a pass has asked for.
    front = Front(str(pool.folder / "by_hand.sock"), pool.socket, rewrite=valued(note))
    place = pool.place._replace(xapi="unix:" + str(pool.folder / "by_hand.sock"))
    told = shown(pool, place=place)
    assert not sent and len(front.calls) < 35
    # Where no pass has been, each once, and together.
    calls = len(front.calls)
    assert numbers(shown(pool, place=place._replace(lock_dir=str(pool.folder / "none"))), "vm") == numbers(told, "vm")
    assert len(sent) == len(set(sent)) == 18
    assert len(front.calls) == 2 * calls + 1
    assert not [call for call in front.calls if call.startswith("VM.get_") and "_all_" not in call]
    # One that is new is asked for alone.
    pool.at(13, 15)
    tick(pool, pool.surroundings())
    sent.clear()
    shown(pool, place=place)
    assert len(sent) == 6


# The file


def test_a_pass_writes_the_file_aside_with_a_mode_that_others_can_read(pool: TestPool) -> None:
    pool.policy([pool.vm("vm", [pool.sr()])], "nightly")
    around = publishing(pool)
    pool.at(10, 15)
    old = os.umask(0o077)
    try:
        assert tick(pool, around).status == 0
    finally:
        os.umask(old)
    path = Path(around.settings.metrics_file)
    assert os.listdir(str(path.parent)) == ["vmss.prom"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    found = numbers(written(around), "vm")
    assert found["vm_snapshots", "vm"] == 1 and found["last_tick_exit_status", ""] == 0
    assert pool.sessions() == 0


def test_a_tick_with_nothing_to_do_shows_without_a_call_until_the_numbers_are_old(pool: TestPool) -> None:
    pool.policy([pool.vm("vm", [pool.sr()])], "daily", frequency="daily", schedule={"hour": "10", "min": "15"})
    around = publishing(pool)
    pool.at(10, 15)
    tick(pool, around)
    before = written(around)

    def calls_at(hour: int, minute: int, around: Surroundings = around) -> int:
        path = str(pool.folder / ("%s.sock" % os.urandom(4).hex()))
        front = Front(path, pool.socket)
        pool.at(hour, minute)
        assert tick(pool, around._replace(place=around.place._replace(xapi="unix:" + path))).idle
        return len(front.calls)

    idle = calls_at(10, 30)
    assert idle == calls_at(10, 30, pool.surroundings()) <= 5
    after = written(around)
    assert exposition.parted(after)[0] == exposition.parted(before)[0]
    assert numbers(after)["last_tick_timestamp_seconds", ""] == pool_time("20260302T10:30:00Z")
    assert calls_at(16, 15) == idle
    assert calls_at(16, 30) > idle  # six hours after they were read
    assert numbers(written(around))["metrics_timestamp_seconds", ""] >= pool_time("20260302T16:30:00Z")
    # A slot that passes without a run: the schedule was disabled, and the file must not say that it is overdue.
    (policy,) = pool.call("VMSS.get_all")
    pool.call("VMSS.set_schedule", policy, {"hour": "17", "min": "0"})
    pool.at(16, 45)
    Path(around.settings.metrics_file).unlink()
    tick(pool, around)
    pool.call("VMSS.set_enabled", policy, False)
    assert ("schedule_next_run_timestamp_seconds", "daily") in numbers(written(around), "schedule")
    assert calls_at(17, 0) > idle
    assert ("schedule_next_run_timestamp_seconds", "daily") not in numbers(written(around), "schedule")
    assert calls_at(17, 15) == idle


def test_a_tick_without_a_session_or_without_the_lock_shows_too(pool: TestPool) -> None:
    pool.policy([pool.vm("vm", [pool.sr()])], "nightly")
    around = publishing(pool)
    pool.at(10, 15)
    tick(pool, around)
    numbers_before = exposition.parted(written(around))[0]
    pool.at(10, 30)
    with pytest.raises(NoSession):
        tick(pool, around._replace(place=around.place._replace(xapi="unix:/nowhere")))
    found = numbers(written(around), "pool")
    (uuid,) = {pool for _, pool in found}
    assert found["last_tick_exit_status", uuid] == 3
    assert found["last_tick_timestamp_seconds", uuid] == pool_time("20260302T10:30:00Z")
    directory = LockDirectory(pool.place.lock_dir)
    lock = directory.acquire(uuid, {"pid": 1, "since": "20260302T10:15:00Z"})
    pool.at(11, 15)
    assert tick(pool, around).status == 4
    lock.release()
    directory.close()
    assert numbers(written(around))["last_tick_exit_status", ""] == 4
    assert exposition.parted(written(around))[0] == numbers_before
    # A run by hand is no tick; one that ends after a later tick does not hide it.
    pool.at(11, 20)
    published.run(Request(policy="nightly"), around)
    found = numbers(written(around), "")
    assert found["last_tick_exit_status", ""] == 4 and found["metrics_timestamp_seconds", ""] > pool_time(
        "20260302T11:20:00Z"
    )


@pytest.mark.parametrize("kind", ["link", "directory", "gone", "link to the folder", "of another program"])
def test_the_file_is_never_written_through_a_link_and_never_fails_a_pass(pool: TestPool, kind: str) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], "nightly")
    around = publishing(pool)
    path, secret = Path(around.settings.metrics_file), pool.folder / "secret"
    secret.write_text("secret\n")
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "directory":
        path.mkdir()
    elif kind == "gone":
        path.parent.rmdir()
    elif kind == "of another program":
        path.write_text("theirs 1\n")
    else:
        path.parent.rmdir()
        path.parent.symlink_to(pool.folder)
    pool.at(10, 15)
    assert tick(pool, around).status == 0 and len(pool.snapshots(vm)) == 1
    assert secret.read_text() == "secret\n"
    complaints = [line for line in pool.log() if line.startswith("The file with metrics is not written: ")]
    if kind in ("link", "of another program"):
        assert complaints == [] and not path.is_symlink() and "theirs" not in written(around)
        assert numbers(written(around))["licensed", ""] == 1
    else:
        assert len(complaints) == 1 and str(path) in complaints[0]
        assert not (pool.folder / "vmss.prom").exists()
        assert path.is_dir() or not path.exists()
    assert not [name for name in os.listdir(str(pool.folder)) if name.startswith(".vmss.prom")]


def test_a_host_that_is_no_longer_the_coordinator_removes_its_file(
    pool: TestPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pool.policy([pool.vm("vm", [pool.sr()])], "nightly")
    around = publishing(pool)
    pool.at(10, 15)
    tick(pool, around)
    role = tmp_path / "pool.conf"
    role.write_text("slave:10.0.0.1")
    monkeypatch.setattr(surroundings, "POOL_ROLE", str(role))
    path = Path(around.settings.metrics_file)
    member = around._replace(place=around.place._replace(xapi=DEFAULT_XAPI))
    assert tick(pool, member).status == 0 and not path.exists()
    path.write_text("theirs 1\n")
    tick(pool, member)
    assert path.read_text() == "theirs 1\n"


def test_cron_and_the_plugin_write_the_file(pool: TestPool) -> None:
    pool.policy([pool.vm("vm", [pool.sr()])], "nightly", enabled=False)
    around = publishing(pool)
    pool.simulator.set_time(datetime.now(UTC))  # in dom0 both have one clock
    environment = dict(os.environ, PYTHONPATH=str(ROOT), TZ="UTC", **files(pool))
    with open(pool.place.config, "a") as file:
        file.write("metrics_file = %s\n" % around.settings.metrics_file)
    line = "import vmss, sys; vmss.trigger_schedule_snapshots(); print(*sys.modules)"
    for first in (True, False):
        done = subprocess.run([sys.executable, "-c", line], env=environment, stdout=subprocess.PIPE, check=True)
        assert numbers(written(around))["last_tick_exit_status", ""] == 0
        # The second has nothing to read: it loads what replaces a few lines, and no more.
        loaded = set(done.stdout.decode().split())
        assert ("vmss.insight.metrics" in loaded) == ("vmss.insight.reading" in loaded) == first
    assert pool.sessions() == 0


def test_a_rehearsal_writes_nothing(pool: TestPool) -> None:
    pool.policy([pool.vm("vm", [pool.sr()])], "nightly")
    around = publishing(pool)
    pool.at(10, 15)
    published.run(Request(dry_run=True), around)
    assert not Path(around.settings.metrics_file).exists()


def test_a_pass_that_ends_after_a_later_tick_does_not_hide_it(pool: TestPool) -> None:
    around = publishing(pool)
    pool.at(10, 15)
    tick(pool, around)
    pool.at(10, 30)
    tick(pool, around)
    first, later = (datetime(2026, 3, 2, 10, minute, tzinfo=UTC) for minute in (15, 30))
    metrics_writer.write(around, first, 1, metrics_writer.ALL)
    found = numbers(written(around))
    assert (found["last_tick_timestamp_seconds", ""], found["last_tick_exit_status", ""]) == (later.timestamp(), 0)
    pool.at(10, 20)  # the clock was ahead, and was put right: what is dated in the future hides nothing
    tick(pool, around)
    assert numbers(written(around))["last_tick_timestamp_seconds", ""] == pool_time("20260302T10:20:00Z")


def test_what_has_a_second_name_is_not_published_again(pool: TestPool) -> None:
    around = publishing(pool)
    secret = pool.folder / "secret"
    secret.write_text("# HELP vmss_secret of root\n")
    os.link(str(secret), around.settings.metrics_file)
    with pytest.raises(NoSession):
        tick(pool, around._replace(place=around.place._replace(xapi="unix:/nowhere")))
    assert "secret" not in written(around) and secret.read_text() == "# HELP vmss_secret of root\n"
    assert numbers(written(around))["last_tick_exit_status", ""] == 3
