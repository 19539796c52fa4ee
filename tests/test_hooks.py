"""Hooks: real programs that a pass starts before and after it, and before and after the snapshots of its VMs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from tests.documents import blocks, read
from tests.front import Front, Once, lose
from tests.pool import TestPool
from tests.test_killed import pool_uuid, start
from tests.test_service import refuse
from vmss.core.hooks import PHASES, phase_of
from vmss.demo import VirtualClock
from vmss.edges import children
from vmss.edges.hooks_dir import read_hooks
from vmss.edges.lock import LockDirectory
from vmss.edges.processes import started
from vmss.edges.sessions import NoSession
from vmss.edges.settings import Settings
from vmss.insight.checks import examine
from vmss.insight.findings import WARNING, Finding
from vmss.installation.root import Root
from vmss.passes.request import Request
from vmss.passes.run import run

# What all hooks here do: they write down what they are told, and print the rest of their work.
TELLS = """#!%s -ES
import json, os, sys, time
told = {name: text for name, text in os.environ.items() if name.startswith("VMSS_")}
told["name"], told["others"] = os.path.basename(sys.argv[0]), sorted(set(os.environ) - set(told) - {"LC_CTYPE"})
told["arguments"], told["input"] = sys.argv[1:], sys.stdin.read()
with open(%r, "a") as file:
    file.write(json.dumps(told) + "\\n")
"""


class Bench:
    """A pool with two VMs on two SRs that are due, and a directory of hooks."""

    def __init__(self, pool: TestPool, folder: Path) -> None:
        self.pool = pool
        self.folder = folder / "hooks.d"
        self.folder.mkdir()
        self.told_path = folder / "told"
        self.settings(hook_limit=20)

    def settings(self, **changes: Any) -> None:
        base = Settings(timezone="UTC", login_limit=0, hooks_dir=str(self.folder))
        self.pool.settings = base._replace(**changes)

    def vms(self, *names: str, **fields: Any) -> List[str]:
        vms = [self.pool.vm(name, [self.pool.sr(name)], running=True) for name in names]
        self.policy = self.pool.policy(vms, "nightly", **fields)
        self.pool.call("VMSS.set_last_run_time", self.policy, "20260302T01:00:00Z")
        return vms

    def hook(self, name: str, *more: str) -> Path:
        """A hook that tells what it was told, and then does this."""
        path = self.folder / name
        path.write_text(TELLS % (sys.executable, str(self.told_path)) + "\n".join(more) + "\n")
        path.chmod(0o755)
        return path

    def told(self) -> List[Dict[str, Any]]:
        text = self.told_path.read_text() if self.told_path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def names(self, vm: str = "") -> List[str]:
        """The hooks that were started, in their order; of one VM, or of all and the pass."""
        return [one["name"] for one in self.told() if not vm or one.get("VMSS_VM_NAME") == vm]

    def said(self, text: str) -> List[str]:
        return [line for line in self.pool.log() if text in line]

    @property
    def note(self) -> Dict[str, Any]:
        return LockDirectory(self.pool.place.lock_dir).read(pool_uuid(self.pool) + ".hooks")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that nobody but root can write to, nor anything above it: /tmp is none."""
    if os.geteuid() != 0:
        pytest.skip("hooks have to belong to root")
    path = Path(tempfile.mkdtemp(prefix="vmss_hooks_", dir=os.path.expanduser("~root")))
    yield path
    shutil.rmtree(str(path))


@pytest.fixture
def bench(pool: TestPool, folder: Path) -> Bench:
    return Bench(pool, folder)


# What is told, and in which order


def test_hooks_are_told_what_they_are_about_and_nothing_else(bench: Bench) -> None:
    pool = bench.pool
    name = "db 'one'; $(reboot)\n=x"
    (vm,) = bench.vms(name)
    for hook in ("after-vm", "before-vm-20", "before-vm-10-first", "after-pass", "before-pass"):
        bench.hook(hook, 'print("from", told["name"], "\\033[31m")')
    assert pool.tick().status == 0
    assert bench.names() == ["before-pass", "before-vm-10-first", "before-vm-20", "after-vm", "after-pass"]
    before_pass, first, _, after, after_pass = bench.told()
    (snapshot,) = pool.snapshots(vm)
    about = {
        "VMSS_POLICY_UUID": pool.uuid("VMSS", bench.policy),
        "VMSS_POLICY_NAME": "nightly",
        "VMSS_VM_UUID": pool.uuid("VM", vm),
        "VMSS_VM_NAME": name,
        "VMSS_SNAPSHOT_NAME": snapshot["name_label"],
        "VMSS_SLOT": "2026-03-02T09:15:00Z",
    }
    plain = {"others": ["LANG", "PATH"], "arguments": [], "input": ""}
    assert first == dict(about, **plain, VMSS_PHASE="before-vm", name="before-vm-10-first")
    ended = {"VMSS_RESULT": "ok", "VMSS_ERROR": "", "VMSS_SNAPSHOT_UUID": snapshot["uuid"]}
    assert after == dict(about, **plain, **ended, VMSS_PHASE="after-vm", name="after-vm")
    assert before_pass == dict(plain, VMSS_PHASE="before-pass", name="before-pass")
    assert after_pass["VMSS_RESULT"] == "ok"
    uuid = about["VMSS_VM_UUID"]
    assert "Hook after-vm of VM: %s says: from after-vm \\x1b[31m" % uuid in pool.log()
    assert bench.note == {} and pool.sessions() == 0


def test_a_tick_with_nothing_due_reads_no_hook_and_starts_none(bench: Bench) -> None:
    bench.vms("one")
    bench.pool.tick()
    told = len(bench.pool.log())
    for phase in PHASES:
        bench.hook(phase)
    shutil.rmtree(str(bench.folder))
    bench.folder.symlink_to("/proc/self")  # it would be refused, with a line
    assert bench.pool.tick().status == 0
    assert bench.told() == [] and not any("Hook" in line for line in bench.pool.log()[told:])


@pytest.mark.parametrize(
    "name, phase",
    [
        ("before-vm", "before-vm"),
        ("after-pass-10.sh", "after-pass"),
        ("before-vm-10-mysql", "before-vm"),
        ("before-vms", ""),
        ("before-vm-", ""),
        ("before-vm-10~", ""),
        ("before-vm-10.rpmsave", ""),
        ("before-vm-10\n", ""),
        ("README", ""),
    ],
)
def test_the_name_of_a_file_says_whether_it_is_a_hook(name: str, phase: str) -> None:
    assert phase_of(name) == phase


@pytest.mark.parametrize("frozen", [True, False])
def test_the_pair_of_the_manual_freezes_and_thaws_the_guest(bench: Bench, frozen: bool) -> None:
    (vm,) = bench.vms("db01")
    of_manual, uuid = "4e2fb3a1-1c52-4f0e-9d1c-0c6f4d7a2b10", bench.pool.uuid("VM", vm)
    ssh = bench.folder.parent / "ssh"
    bench.hook("ssh", 'print(*told["arguments"][-2:])').rename(ssh)
    scripts = [text for language, text in blocks("docs/hooks.md") if language == "bash"]
    for name, text in zip(("before-vm-50-database", "after-vm-50-database"), scripts):
        assert "`%s`" % name in read("docs/hooks.md") and "/usr/bin/ssh" in text
        path = bench.folder / name
        path.write_text(text.replace("/usr/bin/ssh", str(ssh)).replace(of_manual, uuid if frozen else of_manual))
        path.chmod(0o755)
    assert bench.pool.tick().status == 0 and bench.said("failed") == []
    asked = [told["arguments"][-2:] for told in bench.told()]
    before = "systemd-run --on-active=120 fsfreeze --unfreeze /var/lib/mysql && fsfreeze --freeze /var/lib/mysql"
    commands = [before, "fsfreeze --unfreeze /var/lib/mysql"] if frozen else []
    assert asked == [["root@192.0.2.21", command] for command in commands]


# What is not run


def writable(path: Path) -> None:
    path.chmod(0o775)


def anothers(path: Path) -> None:
    os.chown(str(path), 1000, 0)


def linked(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def not_executable(path: Path) -> None:
    path.chmod(0o644)


def misnamed(path: Path) -> None:
    path.rename(path.parent / "before-snapshot")


def directory_of_others(path: Path) -> None:
    path.parent.chmod(0o1777)


def directory_above(path: Path) -> None:
    path.parent.parent.chmod(0o777)


def directory_linked(path: Path) -> None:
    folder = path.parent
    folder.rename(folder.parent / "real")
    folder.symlink_to(folder.parent / "real")


SPOILT = [writable, anothers, linked, not_executable, misnamed, directory_of_others, directory_above, directory_linked]


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_others_could_have_written_is_no_hook(folder: Path, spoil: Callable[[Path], None]) -> None:
    path = folder / "hooks.d" / "before-vm"
    path.parent.mkdir()
    path.write_text("")
    path.chmod(0o755)
    assert read_hooks(str(path.parent)).hooks["before-vm"] == [str(path)]
    spoil(path)
    found = read_hooks(str(path.parent))
    assert found.number == 0 and len(found.refused) == 1 and found.refused[0].remedy


def test_what_is_no_hook_is_not_run_and_the_log_tells(bench: Bench) -> None:
    (vm,) = bench.vms("one")
    writable(bench.hook("before-vm"))
    bench.hook("after-vm")
    assert bench.pool.tick().status == 0 and len(bench.pool.snapshots(vm)) == 1
    assert bench.names() == ["after-vm"]
    path = bench.folder / "before-vm"
    assert bench.said("is not run: ") == ["Hook %s is not run: others than root can write to it" % path]


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_the_doctor_says_about_a_hook_mends_it(bench: Bench, spoil: Callable[[Path], None]) -> None:
    path, config = bench.hook("before-vm"), Path(bench.pool.place.config)
    config.write_text("[vmss]\ntimezone = UTC\nlogin_limit = 0\nhooks_dir = %s\n" % bench.folder)
    assert doctor(bench).text == "hooks: 1"
    spoil(path)
    finding = doctor(bench)
    assert finding.severity == WARNING and finding.text.startswith("a hook is not run: ")
    told, _, remedy = finding.remedy.rpartition(": ")
    if told.startswith("name the directory"):
        config.write_text("[vmss]\n%s\n" % remedy)
    else:
        subprocess.run(["bash", "-c", remedy], check=True)
    if told.startswith("take it away"):
        (bench.folder.parent / "elsewhere").rename(path)
    elif told.startswith("rename it"):
        (bench.folder.parent / "before-snapshot").rename(path)
    assert doctor(bench).text == "hooks: 1"


def test_the_doctor_mends_the_secret_of_the_sync_hook(bench: Bench) -> None:
    secret = bench.folder.parent / "a secret"
    secret.write_text("hunter2")
    Path(bench.pool.place.config).write_text(
        "[vmss]\nhooks_dir = %s\nsync_hook = yes\nsync_secret_file = %s\n" % (bench.folder, secret)
    )
    secret.chmod(0o644)
    os.chown(str(secret), 1000, 1000)
    finding = doctor(bench)
    assert finding.text == "no guest is asked before its snapshot" and "hunter2" not in str(finding)
    subprocess.run(["bash", "-c", finding.remedy], check=True)
    assert doctor(bench).text == "there are no hooks"


def doctor(bench: Bench) -> Finding:
    """What `vmss doctor` says of hooks."""
    found, _ = examine(bench.pool.surroundings(), Root(str(bench.pool.folder)), dom0=True)
    (finding,) = [finding for finding in found if finding.check == "hooks"]
    return finding


# When a hook fails


@pytest.mark.parametrize("error", ["continue", "skip"])
def test_a_hook_that_fails_before_a_snapshot(bench: Bench, error: str) -> None:
    pool = bench.pool
    one, two = bench.vms("one", "two")
    bench.settings(hook_error=error)
    bench.hook("before-vm-1", 'sys.exit(3 if told["VMSS_VM_NAME"] == "one" else 0)')
    bench.hook("before-vm-2")
    bench.hook("after-vm")
    skips = error == "skip"
    assert pool.tick().status == (1 if skips else 0)
    assert [len(pool.snapshots(vm)) for vm in (one, two)] == [0 if skips else 1, 1]
    assert bench.names("one") == ["before-vm-1", "after-vm"] if skips else ["before-vm-1", "before-vm-2", "after-vm"]
    assert bench.names("two") == ["before-vm-1", "before-vm-2", "after-vm"]
    (after,) = [told for told in bench.told() if told["name"] == "after-vm" and told["VMSS_VM_NAME"] == "one"]
    assert after["VMSS_RESULT"] == ("VMSS_HOOK_FAILED" if skips else "ok")
    uuid = pool.uuid("VM", one)
    assert "Hook before-vm-1 of VM: %s failed: exit status 3" % uuid in pool.log()
    if skips:
        body = pool.alerts()[0]["body"]
        assert "UUID:%s Error:['VMSS_HOOK_FAILED', 'before-vm-1', 'exit status 3']" % uuid in body
        bench.hook("before-vm-1")  # mended, as the alert says
        assert pool.tick(policy=pool.uuid("VMSS", bench.policy), missing=True).status == 0
        assert [len(pool.snapshots(vm)) for vm in (one, two)] == [1, 1]


@pytest.mark.parametrize("error", ["continue", "skip"])
def test_a_hook_that_fails_before_the_pass(bench: Bench, error: str) -> None:
    vms = bench.vms("one", "two")
    bench.settings(hook_error=error)
    bench.hook("before-pass", "sys.exit(1)")
    for name in ("before-vm", "after-vm", "after-pass"):
        bench.hook(name)
    status = bench.pool.tick().status
    if error == "skip":
        assert status == 1 and [bench.pool.snapshots(vm) for vm in vms] == [[], []]
        assert bench.names() == ["before-pass", "after-pass"]
        assert bench.told()[-1]["VMSS_RESULT"] == "failed"
        assert bench.pool.alerts()[0]["body"].count("Error:['VMSS_HOOK_FAILED', 'before-pass', 'exit status 1']") == 2
    else:
        assert status == 0 and len(bench.names()) == 6
    assert bench.note == {}


def test_a_hook_that_does_not_end_is_killed_with_all_that_it_has_started(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "KILL_AFTER_S", 0.2)
    (vm,) = bench.vms("one")
    bench.settings(hook_limit=1)
    children_of = "import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    pid = bench.folder.parent / "pid"
    start_one = "open(%r, 'w').write(str(subprocess.Popen(['sleep', '300']).pid))" % str(pid)
    bench.hook("before-vm", children_of, start_one, "time.sleep(300)")
    bench.hook("after-vm")
    assert bench.pool.tick().status == 0 and len(bench.pool.snapshots(vm)) == 1
    assert bench.names() == ["before-vm", "after-vm"]
    assert len(bench.said("failed: it has not ended within 1 s")) == 1
    assert started(int(pid.read_text())) == ""


def test_output_is_bounded_and_a_program_that_cannot_be_started_is_a_failure(bench: Bench) -> None:
    bench.vms("one")
    bench.hook("before-vm-1", "for number in range(100000): print('line', number)", "sys.stdout.write('x' * 99999)")
    bench.hook("before-vm-2").write_text("#!/no/such/program\n")
    assert bench.pool.tick().status == 0
    assert len(bench.said("says: line ")) == 200 and len(bench.said("more, which is left out")) == 1
    assert len(bench.said("before-vm-2 of VM")) == 2 and len(bench.said("failed: it cannot be started: No such")) == 1


# Beside other VMs, and when a snapshot does not succeed


@pytest.mark.parametrize("hook", [False, True])
def test_no_guest_stands_still_while_xapi_lets_its_snapshot_wait_for_an_sr(bench: Bench, hook: bool) -> None:
    pool = bench.pool
    srs = [pool.sr("one"), pool.sr("two")]
    pool.policy([pool.vm("vm %d" % number, srs) for number in range(3)])
    pool.at(10, 15)
    if hook:
        bench.hook("before-vm")
    assert pool.tick().status == 0
    # Without hooks two VMs work on the two SRs at the same time.
    assert bool(pool.simulator.waiting.total) is not hook


def test_other_vms_go_on_while_a_hook_runs_and_xapi_is_not_asked_too_often(bench: Bench) -> None:
    pool = bench.pool
    pool.simulator.durations = pool.simulator.durations._replace(vdi_snapshot=(0.3, 0.3))
    one, two = bench.vms("one", "two")
    flag = bench.folder.parent / "two is done"
    wait = "while not os.path.exists(%r): time.sleep(0.01)" % str(flag)
    bench.hook("before-vm", 'if told["VMSS_VM_NAME"] == "one":', "    " + wait)
    bench.hook("after-vm")

    def say(line: str) -> None:
        if line.endswith("two: ok"):
            flag.write_text("")

    waits: List[float] = []
    front = Front(
        pool.socket + ".front",
        pool.socket,
        before=lambda method: waits.append(clock()) if method == "event.from" else None,
    )
    clock = VirtualClock(pool.simulator).monotonic
    around = pool.surroundings(say=say, place=pool.place._replace(xapi="unix:" + pool.socket + ".front"))
    assert run(Request(kicked=True), around).status == 0
    assert [len(pool.snapshots(vm)) for vm in (one, two)] == [1, 1] and "event.from" in front.calls
    assert bench.names("two") == ["before-vm", "after-vm"]
    assert not bench.said("failed: it has not ended")
    assert all(later - earlier > 0.19 for earlier, later in zip(waits, waits[1:]))


@pytest.mark.parametrize("method", ["VM.snapshot", "Async.VM.snapshot"])
def test_a_vm_that_is_tried_again_is_not_frozen_meanwhile(bench: Bench, method: str) -> None:
    (vm,) = bench.vms("one")
    refuse(bench.pool, method, vm, 2)
    bench.hook("before-vm")
    bench.hook("after-vm", "time.sleep(0.1)")
    assert bench.pool.tick().status == 0 and len(bench.pool.snapshots(vm)) == 1
    assert bench.names() == ["before-vm", "after-vm"] * 3
    results = [told["VMSS_RESULT"] for told in bench.told() if told["name"] == "after-vm"]
    assert results == ["OTHER_OPERATION_IN_PROGRESS"] * 2 + ["ok"]


def test_a_vm_is_not_frozen_anew_before_it_is_thawed(bench: Bench) -> None:
    (vm, other) = bench.vms("one", "other")
    bench.settings(retry_pause=1, waits_per_second=1)
    bench.pool.simulator.durations = bench.pool.simulator.durations._replace(vdi_snapshot=(30.0, 30.0))
    refuse(bench.pool, "VM.snapshot", vm, 1)
    bench.hook("before-vm")
    bench.hook("after-vm-1", 'time.sleep(0.6 if told["VMSS_VM_NAME"] == "one" else 0)')
    bench.hook("after-vm-2")
    assert bench.pool.tick().status == 0 and len(bench.pool.snapshots(other)) == 1
    assert bench.names("one") == ["before-vm", "after-vm-1", "after-vm-2"] * 2


def test_a_snapshot_that_hangs_is_followed_by_its_hooks_when_it_is_given_up(bench: Bench) -> None:
    (vm,) = bench.vms("one")
    bench.settings(snapshot_limit=10, cancel_limit=1, retries=0)
    bench.pool.call("simulator.add_fault", {"method": "VM.snapshot", "object": vm, "action": "hang"})
    bench.hook("before-vm")
    bench.hook("after-vm")
    assert bench.pool.tick().status == 1
    assert bench.told()[1]["VMSS_RESULT"] == "VMSS_OPERATION_TIMED_OUT" and bench.note == {}
    assert bench.told()[1]["VMSS_ERROR"].startswith("VMSS_OPERATION_TIMED_OUT VM.snapshot")


@pytest.mark.parametrize(
    "method, number, result",
    [
        ("Async.VM.snapshot", 1, "VMSS_RESULT_LOST"),
        ("event.from", 1, "VMSS_RESULT_LOST"),
        ("event.from", 3, "VMSS_RESULT_LOST"),
        ("VM.get_uuid", 1, "ok"),
        ("pool.add_to_other_config", 1, ""),  # its sign, before all hooks
    ],
)
def test_a_xapi_that_does_not_answer_any_more_leaves_no_guest_frozen(
    bench: Bench, method: str, number: int, result: str
) -> None:
    pool = bench.pool
    bench.vms("one")
    bench.hook("before-vm")
    for name in ("after-vm", "after-pass"):
        bench.hook(name)
    once = Once(method, lose, number)
    Front(pool.socket + ".front", pool.socket, before=once)
    around = pool.surroundings(place=pool.place._replace(xapi="unix:" + pool.socket + ".front"))
    with suppress(NoSession):
        run(Request(kicked=True), around)
    assert once.number <= 0 and bench.note == {}
    assert bench.names() == (["before-vm", "after-vm", "after-pass"] if result else [])
    if result:
        assert [told.get("VMSS_RESULT") for told in bench.told()][:2] == [None, result]


def test_a_checkpoint_that_leaves_its_vm_suspended_is_followed_by_its_hooks_when_that_runs_again(bench: Bench) -> None:
    pool = bench.pool
    (vm,) = bench.vms("one", type="checkpoint")
    pool.call(
        "simulator.add_fault", {"method": "VM.checkpoint.resume", "action": "error", "error": '["INTERNAL_ERROR"]'}
    )
    bench.hook("before-vm")
    bench.hook("after-vm")
    seen: List[List[str]] = []
    resume = Once("Async.VM.resume", lambda: seen.append(bench.names()))
    Front(pool.socket + ".front", pool.socket, before=resume)
    around = pool.surroundings(place=pool.place._replace(xapi="unix:" + pool.socket + ".front"))
    run(Request(kicked=True), around)
    assert seen == [["before-vm"]] and pool.call("VM.get_power_state", vm) == "Running"
    assert bench.names() == ["before-vm", "after-vm"] and bench.note == {}


# Passes that are told to stop, or die


@pytest.fixture
def process(bench: Bench) -> Iterator[Callable[[], Any]]:
    """Starts a real pass, and ends it with the test."""
    started_here = []

    def begin() -> Any:
        process = start(bench.pool, config="hooks_dir = %s\nhook_limit = 60\n" % bench.folder)
        started_here.append(process)
        return process

    yield begin
    for one in started_here:
        one.kill()
        one.communicate()


def until(bench: Bench, process: Any, name: str) -> None:
    while name not in bench.names():
        assert process.poll() is None, process.communicate()
        os.sched_yield()


def test_told_to_stop_before_a_snapshot_it_ends_the_hook_and_carries_out_the_one_after(
    bench: Bench, process: Callable[[], Any]
) -> None:
    (vm,) = bench.vms("one")
    bench.hook("before-pass")
    bench.hook("before-vm", "time.sleep(300)")
    bench.hook("after-vm")
    bench.hook("after-pass")
    one = process()
    until(bench, one, "before-vm")
    one.send_signal(signal.SIGTERM)
    assert one.wait(60) == 1
    assert bench.names() == ["before-pass", "before-vm", "after-vm", "after-pass"]
    assert [told.get("VMSS_RESULT") for told in bench.told()] == [None, None, "VMSS_RUN_STOPPED", "stopped"]
    assert bench.pool.snapshots(vm) == [] and bench.note == {} and bench.pool.sessions() == 0


def test_what_a_pass_that_was_killed_has_left_is_ended_by_the_next(bench: Bench, process: Callable[[], Any]) -> None:
    pool = bench.pool
    (vm,) = bench.vms("one")
    bench.hook("before-pass")
    bench.hook("before-vm", "os.kill(os.getppid(), 9)")
    bench.hook("after-vm")
    bench.hook("after-pass")
    one = process()
    assert one.wait(60) == -9
    assert sorted(bench.note) == sorted([pool.uuid("VM", vm), "the pass"])
    bench.hook("before-vm")
    assert pool.tick().status == 0 and len(pool.snapshots(vm)) == 1
    told_since = bench.told()[2:]
    lost = [told for told in told_since if told.get("VMSS_RESULT") == "lost"]
    assert sorted(told["name"] for told in lost) == ["after-pass", "after-vm"]
    # The pass goes on meanwhile; but of one VM none overlaps another.
    names = [told["name"] for told in told_since if told not in lost]
    assert names == ["before-pass", "before-vm", "after-vm", "after-pass"]
    assert bench.names("one") == ["before-vm", "after-vm"] * 2
    (of_vm,) = [told for told in lost if told["name"] == "after-vm"]
    assert of_vm["VMSS_VM_UUID"] == pool.uuid("VM", vm) and of_vm["VMSS_SNAPSHOT_UUID"] == ""
    assert bench.note == {}


@pytest.mark.parametrize("text", ['{"x": 1}', '{"the pass": {}}', '{"the pass": []}', "no JSON"])
def test_a_note_that_is_none_is_removed(bench: Bench, text: str) -> None:
    bench.vms("one")
    bench.pool.tick()
    path = Path(bench.pool.place.lock_dir) / (pool_uuid(bench.pool) + ".hooks")
    path.write_text(text)
    bench.hook("after-vm")
    assert bench.pool.tick().status == 0 and bench.told() == []
    assert bench.note == {}
