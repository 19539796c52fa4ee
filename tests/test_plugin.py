"""The plugin file, as xapi runs it and as cron and people load it, under the interpreter of the tests."""

import json
import os
import shlex
import subprocess
import sys
import xmlrpc.client
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.pool import TestPool
from vmss.edges.lock import LockDirectory
from vmss.edges.xapi import Refused

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "plugins" / "vmss"


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[TestPool]:
    """A pool whose plugin directory holds the real file, run with its files in the test's folder: xapi itself
    gives a plugin nothing but PATH."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    with TestPool(tmp_path, plugins=str(plugins)) as pool:
        (plugins / "vmss").write_text(
            '#!/bin/sh\n%s exec %s %s "$@"\n'
            % (
                " ".join("%s=%s" % (name, shlex.quote(value)) for name, value in files(pool).items()),
                shlex.quote(sys.executable),
                shlex.quote(str(PLUGIN)),
            )
        )
        (plugins / "vmss").chmod(0o755)
        yield pool


def files(pool: TestPool) -> Dict[str, str]:
    Path(pool.place.config).write_text("[vmss]\ntimezone = UTC\nlogin_limit = 0\n")
    return {
        "VMSS_LOG": pool.place.log,
        "VMSS_LOCK_DIR": pool.place.lock_dir,
        "VMSS_CONFIG": pool.place.config,
        "VMSS_XAPI": pool.place.xapi,
    }


def plugin(pool: TestPool, function: str, **args: str) -> Any:
    return pool.call("host.call_plugin", pool.host, "vmss", function, args)


def error(pool: TestPool, function: str, **args: str) -> List[str]:
    with pytest.raises(Refused) as caught:
        plugin(pool, function, **args)
    return list(caught.value.error)


def wait_for(pool: TestPool, *names: str) -> None:
    """Wait, by events, until these alerts have been raised. By short waits: each takes no time but the pool's, and in a
    day of it, which is a second of long ones, xapi ends the session of a run that is still starting."""
    token = ""
    while not set(names) <= set(pool.names()):
        token = pool.call("event.from", ["message"], token, 0.05)["token"]


# As xapi runs it


def test_snapshot_now_starts_in_the_background_and_takes_the_snapshot(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm])
    assert pool.call("VMSS.snapshot_now", policy) == "started"
    wait_for(pool, "VMSS_SNAPSHOT_SUCCEEDED")
    assert len(pool.snapshots(vm)) == 1


def test_a_caller_that_waits_gets_the_result(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    uuid = pool.uuid("VMSS", pool.policy([vm]))
    assert plugin(pool, "snapshot_now", vmss_uuid=uuid, wait="true") == (
        "schedules served: 1, VMs snapshotted: 1 of 1, expired snapshots deleted: 0, VMs with errors: 0"
    )
    assert len(pool.snapshots(vm)) == 1
    pool.call("VM.add_to_blocked_operations", vm, "snapshot", "no")
    assert error(pool, "snapshot_now", vmss_uuid=uuid, wait="true")[0] == "VMSS_SNAPSHOT_FAILED"


def test_a_tick_can_be_asked_for(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], schedule={"min": "0"})
    assert plugin(pool, "trigger_schedule_snapshots", wait="true").startswith("schedules served: 1")
    assert "===Kicking cron job for VMSS===" in pool.log()


def test_the_status_names_the_holder_of_the_lock(pool: TestPool) -> None:
    status = json.loads(plugin(pool, "status"))
    assert status["running"] is False and status["holder"] is None
    uuid = pool.call("pool.get_uuid", pool.call("pool.get_all")[0])
    lock = LockDirectory(pool.place.lock_dir).acquire(uuid, {"pid": 4711})
    status = json.loads(plugin(pool, "status"))
    assert status["running"] is True and status["holder"] == {"pid": 4711}
    lock.release()


def test_the_lock_of_another_run_is_a_failure_with_the_articles_sentence(pool: TestPool) -> None:
    policy = pool.policy([pool.vm("vm", [pool.sr()])])
    uuid = pool.call("pool.get_uuid", pool.call("pool.get_all")[0])
    # The other pass has it in hand: else it would be asked to take the run over, and be waited for.
    in_hand = [pool.uuid("VMSS", policy)]
    lock = LockDirectory(pool.place.lock_dir).acquire(uuid, {"pid": 4711, "policies": in_hand})
    with pytest.raises(Refused) as caught:
        pool.call("VMSS.snapshot_now", policy)
    assert caught.value.error[:2] == (
        "VMSS_SNAPSHOT_LOCK_FAILED",
        "The snapshot phase is already executing for this snapshot policy. Please try again later",
    )
    lock.release()


@pytest.mark.parametrize(
    "function, args, expected",
    [
        ("snapshot_now", {}, ["INVALID_VALUE", "vmss_uuid", ""]),
        ("snapshot_now", {"vmss_uuid": "abc\n"}, ["INVALID_VALUE", "vmss_uuid", "abc\\x0a"]),
        ("snapshot_now", {"vmss_uuid": "0" * 8, "typo": "1"}, ["INVALID_VALUE", "typo", "1"]),
        (
            "snapshot_now",
            {"vmss_uuid": "00000000-0000-0000-0000-000000000000"},
            ["UUID_INVALID", "VMSS", "00000000-0000-0000-0000-000000000000"],
        ),
        ("trigger_schedule_snapshots", {"wait": "maybe"}, ["INVALID_VALUE", "wait", "maybe"]),
        ("status", {"x": "y"}, ["INVALID_VALUE", "x", "y"]),
        ("nonsense", {}, ["UNKNOWN_XENAPI_PLUGIN_FUNCTION", "nonsense"]),
    ],
)
def test_bad_calls_are_failures_of_xapi_and_no_tracebacks(
    pool: TestPool, function: str, args: Dict[str, str], expected: List[str]
) -> None:
    assert error(pool, function, **args) == expected


def test_a_plugin_that_finds_no_session_says_so(pool: TestPool) -> None:
    answer = run_plugin(
        xmlrpc.client.dumps(("OpaqueRef:x", {"wait": "true"}), "trigger_schedule_snapshots"),
        dict(files(pool), VMSS_XAPI="unix:" + str(pool.folder / "nobody.sock")),
    )
    assert answer["ErrorDescription"][0] == "VMSS_XAPI_LOGON_FAILURE"


def run_plugin(argument: str, environment: Dict[str, str]) -> Dict[str, Any]:
    words = [sys.executable, str(PLUGIN), argument]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    ((answer,), _) = xmlrpc.client.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_without_a_locale_arguments_may_still_hold_any_characters(pool: TestPool) -> None:
    call = xmlrpc.client.dumps(("OpaqueRef:x", {"vmss_uuid": "m\u00e4\U0001f4f7"}), "snapshot_now")
    answer = run_plugin(call, dict(files(pool), PATH="/usr/bin:/bin"))
    assert answer["ErrorDescription"] == ["INVALID_VALUE", "vmss_uuid", "m\u00e4\U0001f4f7"]


@pytest.mark.parametrize("argument", ["<", "<methodCall/>", "<html>", xmlrpc.client.dumps((1,), "status")])
def test_an_argument_that_is_no_call_is_a_failure(pool: TestPool, argument: str) -> None:
    assert run_plugin(argument, files(pool))["Status"] == "Failure"


@pytest.mark.parametrize("words", [[], ["--help"], ["status"], [""]])
def test_run_by_hand_it_says_what_it_is(words: List[str]) -> None:
    done = subprocess.run([sys.executable, str(PLUGIN)] + words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 2 and done.stdout == b"" and b"host-call-plugin" in done.stderr


# As cron and people load it

IMP = 'import imp; vmss = imp.load_source("vmss", "%s"); vmss.trigger_schedule_snapshots()'
PACKAGE = "import vmss; vmss.trigger_schedule_snapshots()"


def cron_line() -> str:
    (line,) = [line for line in (ROOT / "cron.d" / "vmss.cron").read_text().splitlines() if line.startswith("*")]
    return line


def code_of_cron() -> str:
    words = shlex.split(cron_line())
    assert words[5:10] == ["root", "python3", "-I", "-B", "-c"]
    return words[10].replace("/etc/xapi.d/plugins/vmss", "%s")


# The options of Python's and the code.
CRON = (["-I", "-B"], code_of_cron())
FORMS = [CRON, ([], PACKAGE)] + ([([], IMP)] if sys.version_info < (3, 12) else [])


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The plugin in a root of its own, as it is when installed, with its modules where it looks for them."""
    plugin = tmp_path / "root" / "etc" / "xapi.d" / "plugins" / "vmss"
    plugin.parent.mkdir(parents=True)
    plugin.write_bytes(PLUGIN.read_bytes())
    plugin.chmod(0o755)
    modules = tmp_path / "root" / "usr" / "lib" / "vmss"
    modules.mkdir(parents=True)
    os.symlink(str(ROOT / "vmss"), str(modules / "vmss"))
    return plugin


def lay_traps(folder: Path) -> None:
    """Put modules into a folder that leave a trace when they are imported, under names of modules that a pass uses."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("XenAPI", "importlib", "random", "socket", "usercustomize", "vmss"):
        (folder / (name + ".py")).write_text("open(__file__ + ' was imported', 'w')\n")


def trodden(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".py")


@pytest.mark.parametrize("options, code", FORMS)
def test_each_form_of_the_start_runs_a_pass_under_the_name_vmss(
    pool: TestPool, installed: Path, tmp_path: Path, options: List[str], code: str
) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], schedule={"min": "0"})
    code = code % installed if "%s" in code else code
    environment = dict(os.environ, PYTHONPATH=str(ROOT), **files(pool))
    done = subprocess.run(
        [sys.executable, "-W", "ignore"] + options + ["-c", code],
        env=environment,
        cwd=str(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert len(pool.snapshots(vm)) == 1
    assert "===Kicking cron job for VMSS===" in pool.log()


def test_what_lies_in_the_folder_where_cron_starts_or_beside_the_plugin_is_not_imported(
    pool: TestPool, installed: Path, tmp_path: Path
) -> None:
    vm = pool.vm("vm", [pool.sr()])
    policy = pool.policy([vm], schedule={"min": "0"})
    home = tmp_path / "home"
    lay_traps(home)
    options, code = CRON
    environment = dict(files(pool), PATH="/usr/bin:/bin", HOME=str(home), PYTHONPATH=str(home))
    done = subprocess.run(
        [sys.executable] + options + ["-c", code % installed],
        env=environment,
        cwd=str(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert (done.returncode, done.stdout) == (0, b"")
    assert len(pool.snapshots(vm)) == 1

    # The same for the plugin, which xapi starts by its first line.
    lay_traps(installed.parent)
    pool.simulator.plugins.directory = str(installed.parent)
    pool.simulator.plugins.environment.update(environment)
    assert plugin(pool, "snapshot_now", vmss_uuid=pool.uuid("VMSS", policy), wait="true").startswith("schedules served")
    assert len(pool.snapshots(vm)) == 2
    assert trodden(home) == [] and trodden(installed.parent) == ["vmss"]


def test_a_tick_with_nothing_to_do_loads_nothing_that_only_a_run_needs(pool: TestPool) -> None:
    pool.policy([pool.vm("vm", [pool.sr()])])
    pool.at(10, 1)
    environment = dict(os.environ, PYTHONPATH=str(ROOT), TZ="UTC", **files(pool))
    Path(pool.place.config).unlink()  # most hosts have none
    done = subprocess.run(
        [sys.executable, "-c", PACKAGE + "; import sys; print(*sys.modules, sep='\\n')"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert pool.names() == []
    loaded = set(done.stdout.splitlines())
    assert "vmss.passes.run" in loaded
    for_a_run = {"dateutil", "configparser"}
    for_a_run |= {"vmss.core." + name for name in ("engine", "job", "plan", "outcome", "failures")}
    for_a_run |= {"vmss.core.vms", "vmss.core.retention", "vmss.edges.vms", "vmss.edges.query", "vmss.edges.storage"}
    for_a_run |= {"vmss.passes." + name for name in ("serve", "planning", "deletions", "notes", "orphans", "last_look")}
    for_a_run |= {
        "vmss.passes.owed",
        "vmss.passes.kept",
        "vmss.passes.frozen",
        "vmss.core.left_over",
        "vmss.passes.left_over",
        "vmss.passes.retrying",
        "vmss.passes.database",
        "vmss.core.notices",
        "vmss.edges.notify",
        "vmss.insight.notifying",
    }
    assert loaded & for_a_run == set()
    # Everything named is a module, or this would hold nothing.
    assert all((ROOT / (name.replace(".", "/") + ".py")).exists() for name in for_a_run if name.startswith("vmss."))


def test_without_the_package_it_says_so_in_one_line(tmp_path: Path) -> None:
    installed = tmp_path / "deep" / "plugins" / "vmss"
    installed.parent.mkdir(parents=True)
    installed.write_bytes(PLUGIN.read_bytes())
    done = subprocess.run([sys.executable, "-I", "-S", str(installed)], stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.decode().strip() == "vmss: the Python package `vmss` is not installed for " + sys.executable


def test_the_cron_entry_is_one_that_python_crontab_reads() -> None:
    from crontab import CronTab

    table = CronTab(tabfile=str(ROOT / "cron.d" / "vmss.cron"), user=False)
    (job,) = list(table)
    assert job.is_valid() and job.user == "root" and str(job.slices) == "*/15 * * * *"
    assert "%" not in job.command  # cron takes it for a line break
