"""The command line, in processes of its own: what it does, and one clear line for each bad input."""

import ast
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest
import XenAPI

from tests.documents import shell_lines
from tests.pool import TestPool
from vmss.cli.main import COMMANDS, parsers
from vmss.edges.lock import LockDirectory

ROOT = Path(__file__).resolve().parent.parent


class Ended:
    """How a command ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


def vmss(folder: Path, *words: str, **environment: Optional[str]) -> Ended:
    """Run `python -m vmss`, with its files in a folder."""
    (folder / "conf").exists() or (folder / "conf").write_text("[vmss]\nlogin_limit = 0\ntimezone = UTC\n")
    variables: Dict[str, Any] = dict(
        os.environ,
        PYTHONPATH=str(ROOT),
        VMSS_LOG=str(folder / "VMSSlog"),
        VMSS_LOCK_DIR=str(folder / "lock"),
        VMSS_CONFIG=str(folder / "conf"),
        VMSS_XAPI="unix:" + str(folder / "nobody.sock"),
    )
    variables.update(environment)
    done = subprocess.run(
        [sys.executable, "-m", "vmss"] + list(words),
        cwd=str(folder),
        stdin=subprocess.DEVNULL,
        env={name: value for name, value in variables.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return Ended(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))


def one_line(ended: Ended, status: int, *words: str) -> None:
    """One clear line on standard error, with these words in it, and this exit status."""
    assert "Traceback" not in ended.err
    lines = ended.err.strip().splitlines()
    assert len(lines) == 1, ended.err
    for word in words:
        assert word in lines[0]
    assert ended.status == status


# Bad input


def test_an_unknown_policy(pool: TestPool) -> None:
    ended = vmss(pool.folder, "run", "--policy", "0" * 8 + "-0000-0000-0000-" + "0" * 12, VMSS_XAPI=pool.place.xapi)
    one_line(ended, 2, "no snapshot schedule of this pool has the uuid '00000000-")
    assert pool.sessions() == 0


@pytest.mark.parametrize("name", ["abc", "", "x" * 5000, "00000000-0000-0000-0000-000000000000\n"])
def test_a_name_that_no_schedule_has(pool: TestPool, name: str) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], name="nightly", schedule={"min": "0"})
    for words in (["run"], ["run", "--dry-run"], ["prune"], ["prune", "--dry-run"]):
        ended = vmss(pool.folder, *words, "--policy", name, VMSS_XAPI=pool.place.xapi)
        one_line(ended, 2, "no snapshot schedule of this pool has the uuid or the name", "; there is 'nightly'")
    assert pool.snapshots(vm) == [] and pool.sessions() == 0


def test_a_run_by_hand_takes_a_name_or_the_beginning_of_a_uuid(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    uuid = pool.uuid("VMSS", pool.policy([vm], name="every night", enabled=False, retained_snapshots="10"))
    for number, word in enumerate(("every night", uuid.upper(), uuid[:4], uuid[:20].upper()), 1):
        pool.at(11, number)
        for words in (["run"], ["prune", "--dry-run"]):
            ended = vmss(pool.folder, *words, "--policy", word, VMSS_XAPI=pool.place.xapi)
            assert (ended.status, ended.err) == (0, "")
        assert len(pool.snapshots(vm)) == number


def test_an_unreachable_socket(tmp_path: Path) -> None:
    one_line(vmss(tmp_path, "run"), 3, "nobody.sock", "No such file or directory")
    log = (tmp_path / "VMSSlog").read_text()
    assert "'VMSS_XAPI_LOGON_FAILURE': " in log


def test_a_login_that_failed_raises_its_alert_when_the_next_pass_gets_in(pool: TestPool) -> None:
    policy = pool.policy([pool.vm("vm", [pool.sr()])])
    pool.at(10, 15)
    os.rename(pool.socket, pool.socket + ".away")
    vmss(pool.folder, "run", VMSS_XAPI=pool.place.xapi)
    os.rename(pool.socket + ".away", pool.socket)
    # That process had no server to ask for the time: what it kept bears this machine's.
    assert (pool.folder / "lock" / "logon-failure").exists()
    pool.tick()
    assert pool.names(policy) == ["VMSS_XAPI_LOGON_FAILURE", "VMSS_SNAPSHOT_SUCCEEDED"]
    assert pool.alerts(policy)[0]["priority"] == "1"
    assert not (pool.folder / "lock" / "logon-failure").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read the socket")
def test_a_socket_nobody_may_read() -> None:
    # The modules are loaded before, for the interpreter may lie where only root can read.
    code = (
        "import contextlib, io, os, sys\n"
        "from vmss.cli.main import main\n"
        "with contextlib.redirect_stderr(io.StringIO()):\n"
        "    main(['run', '--policy', 'x'])\n"
        "    main(['run'])\n"
        "os.environ.update(VMSS_XAPI=sys.argv[1], VMSS_LOG=sys.argv[2] + '/log', VMSS_LOCK_DIR=sys.argv[2] + '/lock')\n"
        "os.setgid(65534)\n"
        "os.setuid(65534)\n"
        "sys.exit(main(['run']))\n"
    )
    # Another pytest that starts meanwhile closes the folder of all temporary ones again.
    with tempfile.TemporaryDirectory() as folder, TestPool(Path(folder)) as pool:
        os.chmod(folder, 0o755)
        os.chmod(pool.socket, 0o600)
        (pool.folder / "conf").write_text("[vmss]\nlogin_limit = 0\n")
        mine = pool.folder / "mine"
        mine.mkdir()
        os.chown(str(mine), 65534, 65534)
        words = [sys.executable, "-c", code, pool.place.xapi, str(mine)]
        done = subprocess.run(
            words,
            cwd="/",
            stderr=subprocess.PIPE,
            env=dict(
                os.environ,
                PYTHONPATH=str(ROOT),
                VMSS_XAPI="unix:/absent",
                VMSS_LOG=str(pool.folder / "log"),
                VMSS_LOCK_DIR=str(pool.folder / "lock"),
                VMSS_CONFIG=str(pool.folder / "conf"),
            ),
        )
        one_line(Ended(done.returncode, "", done.stderr.decode()), 3, pool.socket, "Permission denied")


@pytest.mark.parametrize("address", ["x", "http://host", "unix:"])
def test_an_address_of_no_known_kind(tmp_path: Path, address: str) -> None:
    one_line(vmss(tmp_path, "run", VMSS_XAPI=address), 2, "VMSS_XAPI", "'%s'" % address, "unix:PATH")


def test_a_password_in_an_address_is_not_shown(tmp_path: Path) -> None:
    for address in ("https://root:hunter2@host", "root:hunter2@host"):
        ended = vmss(tmp_path, "run", VMSS_XAPI=address)
        one_line(ended, 2, "VMSS_XAPI", "@host'", "https://HOST")
        assert "hunter2" not in ended.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be given a socket that only root may use")
@pytest.mark.parametrize("variable", ["SUDO_UID", "PKEXEC_UID"])
def test_with_more_rights_than_its_caller_the_command_minds_nothing_of_the_environment(
    pool: TestPool, variable: str
) -> None:
    secret = pool.folder / "shadow"
    secret.write_text("root:hunter2:19000\n")
    bad = {"VMSS_CONFIG": str(secret), "VMSS_XAPI": pool.place.xapi, "TZ": "Asia/Tokyo", variable: "1000"}
    mine: Dict[str, Optional[str]] = {"VMSS_FRESH_SEED": None, "VMSS_SHARE": None}  # of the tests
    ended = vmss(pool.folder, "xe", "vmss-list", **mine, **bad)  # which does not wait for a xapi
    told = "VMSS_CONFIG, VMSS_LOCK_DIR, VMSS_LOG, VMSS_XAPI (in a shell of root's: unset SUDO_UID)"
    assert told in ended.err and ended.err.count("not used, because") == 1
    # It is dom0's own socket that it looks for.
    assert str(pool.folder) not in ended.out + ended.err and "hunter2" not in ended.out + ended.err
    assert ended.status == 1
    assert not (pool.folder / "VMSSlog").exists() and not (pool.folder / "lock").exists()
    # For root himself, and in a shell where the remedy was followed, they count.
    for environment in ({variable: "0"}, {variable: None}, {}):
        assert vmss(pool.folder, "list", VMSS_XAPI=pool.place.xapi, **environment).status == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_real_user_counts_where_the_effective_one_differs(pool: TestPool) -> None:
    code = (
        "import os, sys\n"
        "from vmss.cli.main import main\n"
        "os.setresuid(65534, 0, 0)\n"
        "status = main(['xe', 'vmss-list'])\n"
        "print(sorted(os.environ))\n"
        "sys.exit(status)\n"
    )
    variables = {
        "PYTHONPATH": str(ROOT),
        "VMSS_XAPI": pool.place.xapi,
        "MANPAGER": "x",
        "SSL_CERT_FILE": "x",
        "TERM": "x",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    assert done.returncode == 1 and "not used" in done.stderr and pool.socket not in done.stderr
    assert set(ast.literal_eval(done.stdout)) <= {"LC_CTYPE", "PATH", "TERM"}


def test_a_configuration_file_with_a_typo(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("[vmss]\nmax_operatoins = 3\n")
    one_line(vmss(tmp_path, "run"), 2, str(tmp_path / "conf"), "line 2: max_operatoins is not a setting")


def test_a_configuration_file_that_is_not_there(tmp_path: Path) -> None:
    one_line(vmss(tmp_path, "run", VMSS_CONFIG="/absent/vmss.conf"), 2, "/absent/vmss.conf: no such configuration")


def test_a_log_that_cannot_be_written_sends_the_lines_to_standard_error_and_the_pass_goes_on(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], schedule={"min": "0"})
    ended = vmss(pool.folder, "run", VMSS_XAPI=pool.place.xapi, VMSS_LOG="/absent/VMSSlog")
    assert ended.status == 0 and "Traceback" not in ended.err
    assert ended.err.splitlines()[0].startswith("vmss: /absent/VMSSlog: the log cannot be opened")
    assert "Processing VM: " + pool.uuid("VM", vm) in ended.err
    assert len(pool.snapshots(vm)) == 1


def test_a_lock_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one_line(vmss(tmp_path, "run", VMSS_LOCK_DIR=str(tmp_path / "file")), 2, str(tmp_path / "file"), "lock directory")


def test_a_failed_login_elsewhere_is_no_business_of_this_pool(pool: TestPool) -> None:
    policy = pool.policy([pool.vm("vm", [pool.sr()])])
    pool.at(10, 15)
    vmss(pool.folder, "run", VMSS_XAPI="unix:" + str(pool.folder / "nobody.sock"))
    pool.tick()
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_time_in_a_year_that_no_clock_has(pool: TestPool, time: str) -> None:
    one_line(vmss(pool.folder, "run", "--dry-run", "--at", time, VMSS_XAPI=pool.place.xapi), 2, "--at", time)


@pytest.mark.parametrize(("since", "said"), [("20260302T10:00:00Z", "2026-03-02T10:00:00Z"), ("10:00", "10:00")])
def test_a_lock_that_another_process_holds(pool: TestPool, since: str, said: str) -> None:
    policy = pool.policy([pool.vm("vm", [pool.sr()])], schedule={"min": "0"})
    uuid = pool.call("pool.get_uuid", pool.call("pool.get_all")[0])
    lock = LockDirectory(pool.place.lock_dir).acquire(uuid, {"pid": 4711, "since": since})
    ended = vmss(pool.folder, "run", VMSS_XAPI=pool.place.xapi)
    lock.release()
    one_line(ended, 4, "another pass holds the lock: process 4711, since %s" % said)
    assert pool.names(policy) == ["VMSS_SNAPSHOT_LOCK_FAILED"]


def test_a_time_without_a_zone_is_of_the_coordinators_wall_clock(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], frequency="daily", schedule={"hour": "2", "min": "30"})
    (pool.folder / "conf").write_text("[vmss]\nlogin_limit = 0\n")
    for zone, setting, instant in (
        ("Asia/Tokyo", "", "2026-03-05T02:30Z"),  # the clock of the embedded pool is in UTC
        ("America/New_York", "Asia/Tokyo", "2026-03-04T17:30Z"),
    ):
        pool.call("pool.set_other_config", pool.call("pool.get_all")[0], {"vmss:timezone": setting} if setting else {})
        for time in ("2026-03-05T02:30", "2026-03-05 02:30:00", instant):
            ended = vmss(pool.folder, "run", "--dry-run", "--at", time, VMSS_XAPI=pool.place.xapi, TZ=zone)
            assert (ended.status, "would run: 1 of 1" in ended.out) == (0, True), (zone, time, ended.out)
    ended = vmss(pool.folder, "run", "--at", "2026-03-05T02:30", VMSS_XAPI=pool.place.xapi, TZ="Asia/Tokyo")
    assert ended.out.startswith("schedules served: 1, ")
    assert [it["name_label"] for it in pool.snapshots(vm)] == ["policy 2026-03-04T17:30:00Z"]


@pytest.mark.parametrize("time", ["yesterday", "2026-13-01", "", "10:15"])
def test_a_time_that_is_none(tmp_path: Path, time: str) -> None:
    one_line(vmss(tmp_path, "run", "--at", time), 2, "--at", "'%s' is not a date and time" % time)


@pytest.mark.parametrize(
    "words",
    [[], ["nonsense"], ["run", "extra"], ["run", "--nonsense"], ["demo", "--days", "0"], ["demo", "--vms", "x"]],
)
def test_bad_usage_is_status_2(tmp_path: Path, words: List[str]) -> None:
    ended = vmss(tmp_path, *words)
    assert ended.status == 2 and "Traceback" not in ended.err and "usage: vmss" in ended.err


def test_the_commands_are_shown_for_nothing_and_for_help(tmp_path: Path) -> None:
    alone, asked = vmss(tmp_path), vmss(tmp_path, "help")
    assert (alone.status, alone.out, alone.err) == (2, "", asked.out)
    assert (asked.status, asked.err) == (0, "") and all("    %s" % name in asked.out for name in COMMANDS)
    for name in ("list", "xe"):
        assert vmss(tmp_path, "help", name).out == vmss(tmp_path, name, "--help").out != ""


@pytest.mark.parametrize(
    "typed, meant",
    [("lst", "list"), ("STATUS", "status"), ("help hitsory", "history"), ("list --jsn", "--json")]
    + [("run --dryrun", "--dry-run"), ("xe vmss-lst", "vmss-list"), ("xe help vmss-lst", "vmss-list")],
)
def test_what_is_mistyped_is_asked_about(tmp_path: Path, typed: str, meant: str) -> None:
    ended = vmss(tmp_path, *typed.split())
    assert ended.status == (1 if typed.startswith("xe") else 2) and ended.out == ""
    assert ": did you mean '%s'?" % meant in ended.err
    assert "did you mean" not in vmss(tmp_path, "nonsense").err


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["demo", "--help"], ["simulator", "--help"]])
def test_help_has_examples_or_commands(tmp_path: Path, words: List[str]) -> None:
    ended = vmss(tmp_path, *words)
    assert ended.status == 0 and "vmss" in ended.out and ended.err == ""


@pytest.mark.parametrize("name", [name for name in COMMANDS if parsers()[name]])
def test_the_help_of_a_command_lists_its_own_exit_statuses(name: str) -> None:
    parser = parsers()[name]
    assert parser is not None
    listed = parser.format_help().partition("exit status")[2]
    statuses = set(re.findall(r"(?:^|  )([0-9])  ", listed, re.MULTILINE))
    reads = {"0", "2", "3"}
    assert statuses == {
        **dict.fromkeys(("run", "prune"), set("01234")),
        **dict.fromkeys(
            ("list", "show", "history", "next", "plan", "pin", "unpin", "coverage", "report", "metrics", "completion")
            + ("export", "watch"),
            reads,
        ),
        **dict.fromkeys(("status", "doctor", "assign", "unassign", "apply"), set("0123")),
        **dict.fromkeys(("install", "uninstall", "notify"), set("012")),
    }.get(name, {"0", "2"})
    assert bool(re.search("1  a (snapshot|deletion) failed", listed)) == (name in ("run", "prune"))


# Streams that are closed, full or without a reader


def in_shell(pool: TestPool, line: str) -> Ended:
    """A line of a shell in which $V is the command. Its output is buffered, as that of users is."""
    script = "exec </dev/null; " + line.replace("$V", '"%s" -m vmss' % sys.executable)
    variables = dict(os.environ, PYTHONPATH=str(ROOT), **pool_environment(pool))
    variables.pop("PYTHONUNBUFFERED", None)
    done = subprocess.run(
        ["bash", "-c", script], env=variables, cwd=str(pool.folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def pool_environment(pool: TestPool) -> Dict[str, str]:
    place = pool.place
    names = ("VMSS_XAPI", "VMSS_LOG", "VMSS_LOCK_DIR", "VMSS_CONFIG")
    (pool.folder / "conf").write_text("[vmss]\nlogin_limit = 0\n")
    return dict(zip(names, (place.xapi, place.log, place.lock_dir, str(pool.folder / "conf"))))


@pytest.mark.parametrize(
    "command",
    ["list", "list --json", "status", "run --dry-run", "prune --dry-run", "xe vmss-list", "completion schedules"]
    + ["help", "--version", "demo --days 1 --vms 1"],
)
def test_an_answer_that_cannot_be_written_is_one_line(pool: TestPool, command: str) -> None:
    pool.policy(name="nightly")
    for how, why in ((">&-", ""), (">/dev/full", "No space left on device")):
        one_line(in_shell(pool, "$V %s %s" % (command, how)), 1 if command[:2] == "xe" else 2, "cannot be written", why)
    for how in (">&- 2>&-", ">/dev/full 2>/dev/full"):
        ended = in_shell(pool, "$V %s %s" % (command, how))
        assert (ended.status, ended.out, ended.err) == (1 if command[:2] == "xe" else 2, "", "")


def test_an_option_before_the_command_is_named(tmp_path: Path) -> None:
    ended = vmss(tmp_path, "--json", "list")
    assert ended.status == 2 and "there is no option '--json' before the command" in ended.err


@pytest.mark.parametrize("how", [">&-", ">/dev/full", "2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_work_is_done_though_nobody_can_be_told(pool: TestPool, how: str) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], name="nightly", enabled=False)
    ended = in_shell(pool, "$V run --policy nightly " + how)
    assert (ended.status, ended.err) == (0, "") and len(pool.snapshots(vm)) == 1
    # The log was not opened in the place of a stream, and no line went astray into it.
    assert all(" VMSS: [" in line for line in Path(pool.place.log).read_text().splitlines()) and ended.out in (
        "",
        "schedules served: 1, VMs snapshotted: 1 of 1, expired snapshots deleted: 0, VMs with errors: 0\n",
    )
    ended = in_shell(pool, "VMSS_LOG=/absent/log $V run --policy nightly " + how)  # the log goes to standard error
    assert ended.status == 0 and len(pool.snapshots(vm)) == 2


def test_a_run_of_a_schedule_without_vms_says_how_to_give_it_one(pool: TestPool) -> None:
    uuid = pool.uuid("VMSS", pool.policy(name="empty"))
    ended = vmss(pool.folder, "run", "--policy", "empty", VMSS_XAPI=pool.place.xapi)
    assert (ended.status, ended.err) == (0, "vmss: empty has no VM: vmss assign %s --uuid VM\n" % uuid)


def test_bad_input_has_its_status_though_nobody_can_be_told(pool: TestPool) -> None:
    for line in ("run --policy x", "lst", "", "list --jsn", "simulator --socket no/such/folder"):
        for how in ("2>&-", "2>/dev/full"):
            ended = in_shell(pool, "$V %s %s" % (line, how))
            assert (ended.status, ended.out, ended.err) == (2, "", ""), (line, how)


def test_a_reader_that_leaves_early_is_no_error(pool: TestPool) -> None:
    ended = in_shell(
        pool, "for c in 'manual' 'demo --days 1 --vms 1' --help; do $V $c | : ; echo ${PIPESTATUS[0]}; done"
    )
    assert (ended.out, ended.err) == ("0\n0\n0\n", "")


# Without the embedded xapi, as in dom0


@pytest.fixture
def dom0s(tmp_path: Path) -> Path:
    """A folder with the package as dom0 has it."""
    package = tmp_path / "dom0s" / "vmss"
    shutil.copytree(str(ROOT / "vmss"), str(package), ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(str(package / "simulator"))
    (package / "demo.py").unlink()
    return package.parent


@pytest.mark.parametrize(
    "words", [["demo"], ["demo", "--help"], ["demo", "--days", "1"], ["simulator"], ["simulator", "--socket", "x"]]
)
def test_what_dom0_does_without_says_where_to_get_it(dom0s: Path, tmp_path: Path, words: List[str]) -> None:
    ended = vmss(tmp_path, *words, PYTHONPATH=str(dom0s))
    one_line(ended, 2, "`vmss %s` is not in this installation" % words[0], "python3 -m vmss " + words[0])
    (dom0s / "vmss" / "simulator" / "classes").mkdir(parents=True)  # as an upgrade may leave it
    assert vmss(tmp_path, *words, PYTHONPATH=str(dom0s)).err == ended.err


@pytest.mark.parametrize(
    "words", [["--help"], ["list", "--help"], ["doctor", "--help"], ["manual"], ["completion", "bash"], ["xe", "help"]]
)
def test_the_other_commands_do_not_need_it(dom0s: Path, tmp_path: Path, words: List[str]) -> None:
    ended = vmss(tmp_path, *words, PYTHONPATH=str(dom0s))
    assert (ended.status, ended.err) == (0, "") and "vmss" in ended.out


def test_an_error_within_the_simulator_is_not_taken_for_its_absence(dom0s: Path, tmp_path: Path) -> None:
    (dom0s / "vmss" / "demo.py").write_text("import nobody_has_this")
    (dom0s / "vmss" / "simulator").mkdir()
    (dom0s / "vmss" / "simulator" / "__init__.py").write_text("import nobody_has_this")
    for name in ("demo", "simulator"):
        ended = vmss(tmp_path, name, PYTHONPATH=str(dom0s))
        assert ended.status == 1 and "No module named 'nobody_has_this'" in ended.err


def test_the_demo_tells_a_day_and_how_to_go_on(tmp_path: Path) -> None:
    script = tmp_path / "vmss"  # as in a virtual environment that was not entered
    script.write_text("import sys\nfrom vmss.cli.main import main\nsys.exit(main())\n")
    words = [sys.executable, str(script), "demo", "--days", "1", "--vms", "3"]
    done = subprocess.run(words, env={"PYTHONPATH": str(ROOT), "PATH": ""}, stdout=subprocess.PIPE)
    assert done.returncode == 0
    for text in ("Wednesdays and Saturdays at 04:00", "Mon 23 Mar  nightly   1 run", "Completed processing policy"):
        assert text in done.stdout.decode()
    assert done.stdout.decode().endswith("VMSS_XAPI=unix:my_pool/xapi.sock %s list\n" % script)


# Over TLS


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Dict[str, str]]:
    """A simulator that serves https, and the environment to reach it."""
    try:
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=127.0.0.1",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                str(tmp_path / "key"),
                "-out",
                str(tmp_path / "crt"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    from vmss.simulator import Simulator
    from vmss.simulator.server import Server

    (tmp_path / "conf").write_text("[vmss]\nlogin_limit = 0\nca_file = %s\n" % (tmp_path / "crt"))
    files = str(tmp_path / "crt"), str(tmp_path / "key")
    with Server(Simulator(password="correct horse"), https=("127.0.0.1", 0) + files) as server:
        assert server.https_address is not None
        host, port = server.https_address
        yield {"VMSS_XAPI": "https://%s:%d" % (host, port), "VMSS_PASSWORD": "correct horse"}


def test_a_wrong_password_over_https(tmp_path: Path, tls: Dict[str, str]) -> None:
    ended = vmss(tmp_path, "run", "--dry-run", **dict(tls, VMSS_PASSWORD="wrong secret"))
    one_line(ended, 3, tls["VMSS_XAPI"], "SESSION_AUTHENTICATION_FAILED", "root")
    assert "wrong secret" not in ended.err + ended.out
    log = tmp_path / "VMSSlog"
    assert not log.exists() or "wrong secret" not in log.read_text()


def test_the_right_password_reads_over_https(tmp_path: Path, tls: Dict[str, str]) -> None:
    ended = vmss(tmp_path, "run", "--dry-run", **tls)
    assert (ended.status, ended.out, ended.err) == (0, "schedules that would run: 0 of 0; nothing was changed\n", "")


def test_the_certificate_that_the_guide_fetches_is_enough(tmp_path: Path, tls: Dict[str, str]) -> None:
    both = tmp_path / "xapi-ssl.pem"
    both.write_text((tmp_path / "key").read_text() + (tmp_path / "crt").read_text())
    (line,) = [line for line in shell_lines("docs/guide.md") if line.startswith("ssh root@HOST openssl")]
    there = line.replace("ssh root@HOST ", "").replace("/etc/xensource/xapi-ssl.pem", str(both))
    subprocess.run(["sh", "-ec", there], cwd=str(tmp_path), check=True)
    assert "PRIVATE" not in (tmp_path / "pool.pem").read_text()
    (tmp_path / "conf").write_text("[vmss]\nca_file = %s\n" % (tmp_path / "pool.pem"))
    assert vmss(tmp_path, "list", **tls).status == 0


def test_over_https_no_snapshot_is_taken(tmp_path: Path, tls: Dict[str, str]) -> None:
    one_line(vmss(tmp_path, "run", **tls), 2, "VMSS_XAPI", "in dom0 of the coordinator")


def test_a_certificate_that_cannot_be_verified(tmp_path: Path, tls: Dict[str, str]) -> None:
    (tmp_path / "conf").write_text("[vmss]\nlogin_limit = 30\n")
    one_line(vmss(tmp_path, "run", "--dry-run", **tls), 3, tls["VMSS_XAPI"], "certificate verify failed")
    (tmp_path / "conf").write_text("[vmss]\nverify_tls = no\n")
    assert vmss(tmp_path, "run", "--dry-run", **tls).status == 0


# Two shells


class Shell:
    """`vmss simulator` in a process of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vmss", "simulator"] + list(words),
            cwd=str(folder),
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline().decode()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)
        return self.process.returncode


def test_a_simulator_in_one_shell_and_a_pass_in_another(tmp_path: Path) -> None:
    (tmp_path / "x_y").mkdir()
    shell = Shell(
        tmp_path,
        "--socket",
        "x_y/xapi.sock",
        "--srs",
        "2",
        "--vms",
        "3",
        "--now",
        "2026-03-02T10:14:00Z",
        "--speed",
        "50",
    )
    assert re.match(r"ready: unix:.*x_y/xapi\.sock\n\Z", shell.first)
    try:
        # Any XenAPI script can talk to it: here the client's own transport, through a path without underscores.
        link = tmp_path / "plain"
        link.symlink_to(tmp_path / "x_y" / "xapi.sock")
        if "_" not in str(link):
            session = XenAPI.Session("http://" + str(link).replace("/", "_"), transport=XenAPI.UDSTransport())
        else:
            from vmss.edges.transport import UnixTransport

            session = XenAPI.Session("http://localhost", transport=UnixTransport(str(link)))
        session.login_with_password("root", "")
        policy = session.xenapi.VMSS.create(
            {"name_label": "hourly", "type": "snapshot", "frequency": "hourly", "schedule": {"min": "15"}}
        )
        vms = [
            ref
            for ref, record in session.xenapi.VM.get_all_records().items()
            if not record["is_a_template"] and not record["is_control_domain"]
        ]
        for vm in vms:
            session.xenapi.VM.set_snapshot_schedule(vm, policy)
        ended = vmss(tmp_path, "run", "--at", "2026-03-02T10:15:00Z", VMSS_XAPI="unix:x_y/xapi.sock")
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.startswith("schedules served: 1, VMs snapshotted: 3 of 3, ")
        assert all(len(session.xenapi.VM.get_snapshots(vm)) == 1 for vm in vms)
        session.logout()
    finally:
        assert shell.end() == 0


def without_its_own_methods(path: str, server: str) -> None:
    """A socket that hands calls on to a simulator, but as to a server that has no methods of a simulator's."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(5)

    def copy(source: socket.socket, sink: socket.socket, old: bytes, new: bytes) -> None:
        for data in iter(lambda: source.recv(1 << 20), b""):
            sink.sendall(data.replace(old, new) if old else data)
        sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(server)
            for words in ((client, upstream, b"simulator.", b"nonsense_."), (upstream, client, b"", b"")):
                threading.Thread(target=copy, args=words, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def test_a_real_servers_clock_is_not_set(pool: TestPool) -> None:
    vm = pool.vm("vm", [pool.sr()])
    pool.policy([vm], schedule={"min": "0"})
    front = str(pool.folder / "real.sock")
    without_its_own_methods(front, pool.socket)
    ended = vmss(pool.folder, "run", "--at", "2026-03-02T11:00:00Z", VMSS_XAPI="unix:" + front)
    one_line(ended, 2, "--at: only a simulator's clock can be set")
    assert pool.snapshots(vm) == [] and pool.sessions() == 0
    assert vmss(pool.folder, "run", "--dry-run", "--at", "2026-03-02T11:00:00Z", VMSS_XAPI="unix:" + front).status == 0


def test_a_plugin_writes_where_the_simulator_is_told(tmp_path: Path) -> None:
    places = {"VMSS_LOG": tmp_path / "plugin.log", "VMSS_LOCK_DIR": tmp_path / "locks of the plugin"}
    words = [word for name, place in places.items() for word in ("--plugin-env", "%s=%s" % (name, place))]
    shell = Shell(tmp_path, "--socket", "s", *words)
    host = vmss(tmp_path, "xe", "host-list", "--minimal", VMSS_XAPI="unix:s").out.strip().split(",")[0]
    call = ["host-call-plugin", "host-uuid=" + host, "plugin=vmss", "fn=trigger_schedule_snapshots", "args:wait=true"]
    ended = vmss(tmp_path, "xe", *call, VMSS_XAPI="unix:s")
    assert (ended.status, ended.out) == (0, "no schedule is due\n"), ended.err
    assert shell.end() == 0 and all(place.exists() for place in places.values())
    ended = vmss(tmp_path, "simulator", "--socket", "s", "--plugin-env", "VMSS_LOG")
    assert ended.status == 2 and "'VMSS_LOG' is not NAME=VALUE" in ended.err


def test_a_state_file_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for state in ("absent/state", "file/state", "/proc/state", "/sys/state"):
        ended = vmss(tmp_path, "simulator", "--socket", "s", "--state", state)
        one_line(ended, 2, "vmss simulator: cannot write the state file %s: " % state)
    # Also where only what is in the file finds no room.
    limited = "ulimit -f 8; trap '' XFSZ; exec %s -m vmss simulator --socket s --state state" % sys.executable
    done = subprocess.run(
        ["bash", "-c", limited],
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    one_line(Ended(done.returncode, "", done.stderr.decode()), 2, "cannot write the state file state: File too large")
    assert done.stdout == b"" and sorted(os.listdir(str(tmp_path))) == ["conf", "file"]


def test_a_state_file_is_of_one_simulator_at_a_time(tmp_path: Path) -> None:
    shell = Shell(tmp_path, "--socket", "s", "--state", "state", "--vms", "1")
    (tmp_path / "link").symlink_to("state")
    for name in ("state", "./state", "link"):
        ended = vmss(tmp_path, "simulator", "--socket", "another", "--state", name)
        one_line(ended, 2, "the state file %s is in use by another simulator, process %d" % (name, shell.process.pid))
    assert shell.end() == 0 and not (tmp_path / "state.lock").exists()
    # One that was killed holds nothing.
    for _ in range(2):
        shell = Shell(tmp_path, "--socket", "s", "--state", "state")
        assert shell.first.startswith("ready:")
        shell.process.kill()
        shell.process.communicate()


def test_a_state_file_that_is_cut_off(tmp_path: Path) -> None:
    shell = Shell(tmp_path, "--socket", "s", "--state", "state", "--vms", "2")
    assert shell.first.startswith("ready:")
    assert shell.end() == 0
    whole = (tmp_path / "state").read_bytes()
    (tmp_path / "state").write_bytes(whole[: len(whole) // 2])
    ended = vmss(tmp_path, "simulator", "--socket", "s", "--state", "state")
    one_line(ended, 2, "state")
    assert (tmp_path / "state").read_bytes() == whole[: len(whole) // 2]
