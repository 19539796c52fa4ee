"""The script of `vmss completion bash`, in real shells: what it offers, and what it must not do."""

import argparse
import os
import pty
import select
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Set

import pytest

from tests.documents import ROOT
from tests.pool import TestPool
from tests.test_commands import vmss
from vmss.cli.completion_script import KINDS, POLICY, XE_FLAGS, script
from vmss.cli.main import COMMANDS, parsers
from vmss.xe.classes import CLASSES
from vmss.xe.commands import COMMANDS as XE
from vmss.xe.syntax import OPTIONS, STANDARD

COPY = ROOT / "vmss" / "data" / "usr" / "share" / "bash-completion" / "completions" / "vmss"
PACKAGE = Path("/usr/share/bash-completion/bash_completion")

# What stands for a value that nobody but the user knows.
UNKNOWN = {"TAG", "TEXT", "GLOB", "SNAPSHOT", "TIME", "N", "NAME=VALUE", "N|Nh|Nd|Nw", "Nh|Nd|Nw", "HOST:PORT"}

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the program bash is not installed")


@pytest.fixture
def shell(tmp_path: Path) -> Dict[str, str]:
    """The environment of a shell that finds `vmss`, and no xapi."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "vmss"
    program.write_text(
        "#!%s\nimport sys\nsys.path.insert(0, %r)\nfrom vmss.cli.main import main\nsys.exit(main())\n"
        % (sys.executable, str(ROOT))
    )
    program.chmod(0o755)
    (folder / "script").write_text(script())
    (folder / "conf").write_text("[vmss]\nlogin_limit = 0\n")
    return dict(
        os.environ,
        PATH="%s:%s" % (folder, os.environ["PATH"]),
        SCRIPT=str(folder / "script"),
        LC_ALL="C",
        TERM="dumb",
        HISTFILE="",
        INPUTRC="/dev/null",
        VMSS_XAPI="unix:%s" % (folder / "nobody.sock"),
        VMSS_CONFIG=str(folder / "conf"),
    )


@pytest.fixture
def served(shell: Dict[str, str], pool: TestPool) -> Dict[str, str]:
    """The same, with a pool."""
    return dict(shell, VMSS_XAPI=pool.place.xapi)


def offered(environment: Dict[str, str], *words: str, before: str = "set -u") -> List[str]:
    """What is offered for the last of the words, as bash has cut them up; nothing may be said beside it."""
    text = '%s; source "$SCRIPT"; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _vmss vmss; ' % before
    text += 'for word in ${COMPREPLY[@]+"${COMPREPLY[@]}"}; do printf "%s\\0" "$word"; done'
    done = subprocess.run(
        ["bash", "--norc", "-c", text, "bash", "vmss"] + list(words),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode("utf-8").split("\0")[:-1]


# Everything is offered


def test_the_commands(shell: Dict[str, str]) -> None:
    assert set(COMMANDS) | {"--help", "-h", "--version"} == set(offered(shell, ""))
    assert offered(shell, "ru") == ["run"]
    assert offered(shell, "nothing") == []


@pytest.mark.parametrize("name", [name for name in COMMANDS if parsers()[name]])
def test_every_option_of_every_command(shell: Dict[str, str], name: str) -> None:
    parser = parsers()[name]
    assert parser is not None
    options = {option for action in parser._actions for option in action.option_strings}
    assert set(offered(shell, name, "-")) == options
    assert set(offered(shell, name, "--help", "--h")) == {option for option in options if option.startswith("--h")}


def test_it_is_known_of_every_value_what_completes_it() -> None:
    for name, parser in parsers().items():
        for action in parser._actions if parser else ():
            if not isinstance(action, argparse._SubParsersAction) and action.nargs != 0 and not action.choices:
                assert action.metavar in UNKNOWN | set(KINDS), (name, action.option_strings)


def test_a_value_that_only_the_user_knows_is_not_offered_options(shell: Dict[str, str]) -> None:
    assert offered(shell, "run", "--at", "") == []
    assert offered(shell, "demo", "--days", "") == []
    assert offered(shell, "run", "--at", "2026-03-01T10", ":", "15", ":", "00Z", "--d") == ["--dry-run"]
    assert offered(shell, "run", "--bogus", "=") == []


def test_choices(shell: Dict[str, str]) -> None:
    assert offered(shell, "completion", "b") == ["bash"]
    assert "bash" in offered(shell, "completion", "")


# xe


def test_the_commands_of_xe(shell: Dict[str, str]) -> None:
    assert set(offered(shell, "xe", "")) == set(XE) | set(OPTIONS)
    assert offered(shell, "xe", "vmss-c") == ["vmss-create"]
    assert offered(shell, "xe", "-s", "a_host", "-u", "root", "vmss-c") == ["vmss-create"]
    assert offered(shell, "xe", "-u", "") == []
    assert offered(shell, "xe", "help", "vmss-c") == ["vmss-create"]


def test_the_parameters_of_every_command_of_xe(shell: Dict[str, str]) -> None:
    for name, command in XE.items():
        words = set(offered(shell, "xe", name, "")) if name != "help" else set()
        for parameter in command.needs + command.may_have:
            assert parameter in words or parameter + "=" in words or parameter.startswith("<"), (name, parameter)
        assert words >= set(XE_FLAGS) or name == "help"
    assert {flag[2:] for flag in XE_FLAGS} - {"help"} <= set(STANDARD)


def test_of_a_word_with_a_colon_or_equals_sign_the_last_piece_is_replaced(shell: Dict[str, str]) -> None:
    assert offered(shell, "xe", "vm-list", "tags", ":", "con") == ["contains="]
    assert "args:" in offered(shell, "xe", "host-call-plugin", "plugin", "=", "vmss", "ar")
    # Where bash does not cut words up there.
    assert offered(shell, "xe", "vm-list", "tags:con", before="COMP_WORDBREAKS=' '") == ["tags:contains="]


# uuids


def test_the_names_of_schedules_and_uuids_that_were_begun(served: Dict[str, str], pool: TestPool) -> None:
    names = ["nightly", "weekly"]
    start = min(pool.uuid("VMSS", pool.policy(name=name)) for name in names)
    for name, parser in parsers().items():
        for action in parser._actions if parser else ():
            if KINDS.get(str(action.metavar)) == POLICY:
                option = list(action.option_strings[-1:])
                assert [word for word in offered(served, name, *option + [""]) if not word.startswith("-")] == names
                assert offered(served, name, *option + ["ni"]) == ["nightly"]
                assert offered(served, name, *option + [start[:8].upper()]) == [start]
    assert offered(served, "run", "--policy", "=", "we") == ["weekly"]
    assert offered(served, "run", "--policy=we", before="COMP_WORDBREAKS=' '") == ["--policy=weekly"]
    assert pool.sessions() == 0


@pytest.mark.timeout(60)
def test_a_pool_that_does_not_answer_does_not_hang_the_shell(shell: Dict[str, str], tmp_path: Path) -> None:
    path = str(tmp_path / "silent.sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen(5)
        assert offered(dict(shell, VMSS_XAPI="unix:" + path), "run", "--policy", "") == []


def test_the_uuids_of_xe(served: Dict[str, str], pool: TestPool) -> None:
    policy, vm = pool.uuid("VMSS", pool.policy()), pool.uuid("VM", pool.vm())
    host = pool.uuid("host", pool.host)
    assert offered(served, "xe", "vmss-param-list", "uuid", "=") == [policy]
    assert vm in offered(served, "xe", "vm-param-set", "uuid", "=", vm[:3])
    assert offered(served, "xe", "host-call-plugin", "host-uuid", "=", host[:3]) == [host]
    assert offered(served, "xe", "message-create", "sr-uuid", "=") == []  # no command lists SRs
    assert {cls.name for cls in CLASSES} >= {"vmss", "vm", "host"}


def test_where_no_xapi_answers_nothing_is_offered_and_nothing_said(shell: Dict[str, str]) -> None:
    assert offered(shell, "run", "--policy", "") == []
    assert (
        offered(dict(shell, PATH="/nowhere:" + os.path.dirname(shutil.which("bash") or "")), "run", "--policy", "")
        == []
    )


HOSTILE = ["a name", "it's", '"quoted"', "$(touch owned)", "`touch owned`", "a;touch owned", "*", "a,b", "a\nb", "\\"]


def test_hostile_names_of_policies_do_no_harm(served: Dict[str, str], pool: TestPool, tmp_path: Path) -> None:
    uuids = {name: pool.uuid("VMSS", pool.policy(name=name)) for name in [*HOSTILE, "-h", "", "twice"]}
    uuids["twice too"] = pool.uuid("VMSS", pool.policy(name="twice"))
    text = "cd %s" % tmp_path
    by_uuid = ("a\nb", "-h", "", "twice", "twice too")  # these cannot be typed, or two have them
    all_of_them = {name for name in uuids if name not in by_uuid} | {uuids[name] for name in by_uuid}
    for typed in ("", "0", "$(touch owned)", "'", '"', "*", "a\\ name", "'a name", '"a name', "'it", '"$(to'):
        words = offered(served, "run", "--policy", typed, before=text)
        # What the shell makes of the line when the word is in it; behind an open quote readline closes that.
        quote = typed[:1] if typed[:1] in ("'", '"') else ""
        lines = "".join("printf '%%s\\0' %s\n" % (quote + word + quote) for word in words)
        made = subprocess.check_output(["bash", "--norc", "-c", text + "\n" + lines], env=served).decode().split("\0")
        plain = typed[len(quote) :].replace("\\", "")
        begun = [name for name in all_of_them if name.startswith(plain)]
        begun += [uuids[name] for name in uuids if plain and name not in by_uuid and uuids[name].startswith(plain)]
        assert sorted(made[:-1]) == sorted(begun), typed
    assert not list(tmp_path.glob("**/owned"))


@pytest.mark.parametrize("answer", HOSTILE + ["00000000-0000-0000-0000-000000000000$(touch owned)", "-n", "[a-z]*"])
def test_what_is_no_uuid_goes_no_further(shell: Dict[str, str], tmp_path: Path, answer: str) -> None:
    program, good = tmp_path / "bin" / "vmss", "12345678-1234-1234-1234-123456789abc"
    (tmp_path / "answer").write_text("%s,%s\n" % (good, answer))
    program.write_text('#!/bin/sh\nexec cat "%s"\n' % (tmp_path / "answer"))
    assert offered(shell, "xe", "vmss-destroy", "uuid", "=", before="cd %s" % tmp_path) == [good]
    (tmp_path / "answer").write_text("%s\tnightly\n%s\t%s\n" % (good, answer, answer))
    assert offered(shell, "run", "--policy", "", before="cd %s" % tmp_path) == ["nightly"]
    assert not list(tmp_path.glob("**/owned"))


# In a shell on a terminal


class Terminal:
    """An interactive bash, which completes for true."""

    def __init__(self, folder: Path, environment: Dict[str, str], package: bool) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(str(folder))
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], dict(environment, PS1="ready> "))
        self._until(b"ready> ")
        self.do("stty cols 500; bind 'set enable-bracketed-paste off'")
        if package:
            self.do("source %s" % PACKAGE)
        self.do('source "$SCRIPT"; show() { printf "[%s]" "$@"; printf "%s\\n" do""ne; }; alias vmss=show')

    def do(self, line: str) -> None:
        os.write(self._terminal, line.encode() + b"\n")
        self._until(b"ready> ")

    def completed(self, line: str) -> List[str]:
        """The words that the command gets when its line is typed, with a tabulator behind it."""
        os.write(self._terminal, line.encode() + b"\t\n")
        shown = self._until(b"done").rpartition(b"done")[0].decode()
        return shown[shown.index("[") :].strip("[]").split("][")

    def _until(self, end: bytes) -> bytes:
        shown = b""
        while end not in shown:
            assert select.select([self._terminal], [], [], 60)[0], shown
            shown += os.read(self._terminal, 65536)
        return shown

    def end(self) -> None:
        os.close(self._terminal)
        os.waitpid(self._pid, 0)


@pytest.fixture(params=[False, True], ids=["alone", "with bash-completion"])
def terminal(request: Any, served: Dict[str, str], tmp_path: Path) -> Iterator[Terminal]:
    if request.param and not PACKAGE.exists():
        pytest.skip("the package bash-completion is not installed")
    folder = tmp_path / "here"
    folder.mkdir()
    shown = Terminal(folder, served, request.param)
    yield shown
    shown.end()


def test_on_a_terminal(terminal: Terminal, pool: TestPool, tmp_path: Path) -> None:
    name = "it's $(touch owned) \\ now: a=b"
    uuid = pool.uuid("VMSS", pool.policy(name=name))
    here = tmp_path / "here"
    (here / "a state's file $(touch owned).json").write_text("")
    (here / "a folder").mkdir()
    assert terminal.completed("vmss ru") == ["run"]
    assert terminal.completed("vmss run --dr") == ["run", "--dry-run"]
    assert terminal.completed("vmss run --policy ") == ["run", "--policy", name]
    assert terminal.completed("vmss run --policy=") == ["run", "--policy=" + name]
    for typed in ("it\\'s", "'it", '"it', "\"it's \\$", "it\\'s\\ \\$\\(touch\\ owned\\)\\ \\\\\\ now:"):
        assert terminal.completed("vmss show " + typed) == ["show", name], typed
    assert terminal.completed("vmss run --policy='it") == ["run", "--policy=" + name]
    assert terminal.completed("vmss xe vmss-param-list uuid=") == ["xe", "vmss-param-list", "uuid=" + uuid]
    assert terminal.completed("vmss xe vmss-create name-l") == ["xe", "vmss-create", "name-label="]
    assert terminal.completed("vmss xe host-call-plugin args") == ["xe", "host-call-plugin", "args:"]
    name = "a state's file $(touch owned).json"
    assert terminal.completed("vmss simulator --state a\\ s") == ["simulator", "--state", name]
    assert terminal.completed("vmss simulator --state 'a s") == ["simulator", "--state", name]
    assert terminal.completed("vmss simulator --plugins a") == ["simulator", "--plugins", "a folder/"]
    assert terminal.completed("vmss install --root a") == ["install", "--root", "a folder/"]
    assert sorted(path.name for path in here.iterdir()) == sorted([name, "a folder"])


# The script itself


def test_the_copy_that_is_installed_is_this_one() -> None:
    assert COPY.read_text(encoding="ascii") == script(), "vmss completion bash >%s" % COPY.relative_to(ROOT)


def test_the_command_prints_it(tmp_path: Path) -> None:
    ended = vmss(tmp_path, "completion", "bash")
    assert (ended.status, ended.out, ended.err) == (0, script(), "")
    assert vmss(tmp_path, "completion", "tcsh").status == 2


def test_what_it_defines_is_its_own(shell: Dict[str, str]) -> None:
    text = """COMP_WORDS=(vmss xe '') COMP_CWORD=2 COMPREPLY=()
        compgen -A function -A variable >"$SCRIPT.1"
        source "$SCRIPT"
        _vmss vmss
        compgen -A function -A variable"""
    after = subprocess.check_output(["bash", "--norc", "-c", text], env=shell, universal_newlines=True).split()
    before: Sequence[str] = Path(shell["SCRIPT"] + ".1").read_text().split()
    new: Set[str] = set(after) - set(before)
    assert new and all(name.startswith("_vmss") for name in new - {"_", "BASH_REMATCH"}), new
