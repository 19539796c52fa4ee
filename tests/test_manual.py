"""The manual page: all that there is stands in it, in roff that its readers take without a complaint."""

import argparse
import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.documents import ROOT, table
from tests.terminal import on_terminal
from tests.test_commands import vmss
from vmss.cli.main import COMMANDS, parser, parsers
from vmss.cli.manual_page import ENVIRONMENT, actions, literal, metavar, page, prose
from vmss.cli.parts import STATUS
from vmss.edges.settings import Settings
from vmss.edges.settings_table import SETTINGS, described, shown
from vmss.installation.install import FILES
from vmss.version import VERSION
from vmss.xe.commands import describe

DATED = {"SOURCE_DATE_EPOCH": "1767225600"}
COPY = ROOT / "vmss" / "data" / "usr" / "share" / "man" / "man8" / "vmss.8"
GROFF = ["groff", "-man", "-ww", "-Tascii", "-P-c", "-P-b", "-P-o", "-P-u", "-rLL=200n", "-"]
MANDOC = ["mandoc", "-man", "-Tascii", "-Owidth=200"]

_ESCAPES = {"e": "\\", "-": "-", "(aq": "'", "(ga": "`", "(ha": "^", "(ti": "~", "(dq": '"', "&": ""}


def plain(roff: str) -> str:
    """What the page says, without fonts and on one line: what roff would show, for those who have none."""
    text = re.sub(r"\\(f[BIR]|\(..|[-e&])", lambda match: _ESCAPES.get(match.group(1), ""), roff)
    return " ".join(text.split())


def sections() -> Dict[str, str]:
    """The page by headings, plain."""
    parts = re.split(r"^\.S[HS] (.*)$", page({}), flags=re.MULTILINE)
    return {plain(heading): plain(body) for heading, body in zip(parts[1::2], parts[2::2])}


def read_by(program: List[str], roff: str) -> str:
    """What a real program shows of it; it must not complain. Skips the test where the program is missing."""
    if shutil.which(program[0]) is None:
        pytest.skip("the program %s is not installed" % program[0])
    done = subprocess.run(program, input=roff.encode("ascii"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    return re.sub(".\b", "", done.stdout.decode("ascii"))


# All is in it


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_section_with_all_that_its_help_says(name: str) -> None:
    body, command = sections()["vmss " + name], parsers()[name]
    if command is None:
        for line in describe(()).lines or ():
            assert plain(line) in body
        return
    assert plain(prose(command.description or "")) in body
    for action in actions(command):
        if isinstance(action, argparse._HelpAction):
            continue
        value = "" if action.nargs == 0 else metavar(action)
        assert " ".join([", ".join(action.option_strings), value]).strip() in body
        assert action.help and plain(prose(action.help % vars(action))) in body
    for line in (command.epilog or "").replace(STATUS, "").splitlines():
        assert " ".join(line.lower().split()).replace("`", "") in body.lower().replace("`", "")


def test_every_option_stands_in_the_synopsis() -> None:
    lines = [line.strip() for line in sections()["SYNOPSIS"].split(".br")]
    known = [("", parser())] + [(" " + name, command) for name, command in parsers().items() if command]
    assert len(lines) == 1 + len(COMMANDS)
    for name, command in known:
        start = "vmss%s " % (name or " [--help]")
        (line,) = [line for line in lines if (line + " ").startswith(start)]
        for action in actions(command):
            if action.option_strings and not isinstance(action, argparse._HelpAction):
                assert "[%s" % action.option_strings[-1] in line


def test_every_setting_has_its_default_and_reason() -> None:
    body = sections()["SETTINGS"]
    for setting in SETTINGS:
        default = getattr(Settings(), setting.name)
        text = shown(default)
        beside = " (default %s)" % text if text else ""
        assert "%s%s %s" % (setting.name, beside, described(setting)) in body


def test_the_environment_is_what_the_documents_say_and_what_the_code_reads() -> None:
    rows = table("docs/settings.md", "environment")
    assert [row.replace("`", "") for row in rows] == [
        "| %s | %s | %s |" % (", ".join(names), default, text.replace("`", "")) for names, default, text in ENVIRONMENT
    ]
    read = set(re.findall(r'environment\.get\("(VMSS_\w+)"', (ROOT / "vmss" / "edges" / "settings.py").read_text()))
    assert read == {name for names, _, _ in ENVIRONMENT for name in names}
    for names, default, text in ENVIRONMENT:
        assert "%s (default %s) %s" % (", ".join(names), default, plain(prose(text))) in sections()["ENVIRONMENT"]


def test_every_installed_file_is_named() -> None:
    for file in FILES:
        assert file.path in sections()["FILES"].split(" ")


def test_the_exit_status_is_that_of_the_commands() -> None:
    body = sections()["EXIT STATUS"]
    for status in range(5):
        assert re.search(r"(^| )%d [a-z]" % status, body)


# What a file has


def test_it_is_the_same_each_time_and_dated_only_when_told_to() -> None:
    assert page({}) == page({})
    assert page({}).startswith('.TH VMSS 8 "" "vmss %s"\n' % VERSION)
    assert page(DATED).startswith('.TH VMSS 8 "2026-01-01" "vmss %s"\n' % VERSION)
    assert page(DATED).splitlines()[1:] == page({}).splitlines()[1:]


def test_the_copy_that_is_installed_is_this_one() -> None:
    assert COPY.read_text(encoding="ascii") == page({}), "vmss manual >%s" % COPY.relative_to(ROOT)


def test_the_command_prints_it_into_a_pipe(tmp_path: Path) -> None:
    ended = vmss(tmp_path, "manual", SOURCE_DATE_EPOCH=None, PYTHONIOENCODING="ascii")
    assert (ended.status, ended.out, ended.err) == (0, page({}), "")


@pytest.mark.skipif(shutil.which("man") is None, reason="the program man is not installed")
def test_the_command_shows_it_on_a_terminal() -> None:
    shown = on_terminal("manual", MANPAGER="cat", MAN_KEEP_FORMATTING="", MANWIDTH="100", LC_ALL="C")
    if "has been minimized" in shown:
        pytest.skip("man is only a note here")
    assert re.search(r"^ *.*VMSS\(8\)", shown)
    assert "vmss run" in re.sub("\x1b\\[[0-9;]*m|.\b", "", shown) and ".TH" not in shown


def test_without_man_the_command_says_how_to_have_it(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="vmss: man -l -: cannot be started: No such file or directory"):
        on_terminal("manual", PATH=str(tmp_path))


# Its roff


def test_mandoc_has_nothing_against_it() -> None:
    assert read_by(["mandoc", "-T", "lint", "-W", "style"], page(DATED)) == ""


@pytest.mark.parametrize("program", [GROFF, MANDOC], ids=["groff", "mandoc"])
def test_every_character_is_shown(program: List[str]) -> None:
    shown = read_by(program, page(DATED))
    for text in (
        "--dry-run",
        "VMSS_XAPI=unix:/tmp/pool/xapi.sock vmss run --at 2026-03-01T10:15:00Z",
        "`vmss xe help COMMAND` describes",
        '[{"method": "*VM.snapshot", "skip": 1,',
        'eval "$(vmss completion bash)"',
    ):
        assert text in shown


@given(st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30), min_size=1))
@settings(max_examples=25, deadline=None)
def _lines_come_out_as_they_went_in(program: List[str], lines: List[str]) -> None:
    roff = "\n".join(['.TH X 8 "2026-01-01" "x"', ".SH NAME"] + list(literal(lines)) + [""])
    shown = read_by(program, roff).split("NAME\n", 1)[1]
    assert [line.strip() for line in shown.splitlines() if line.strip()][: len(lines)] == lines


@pytest.mark.parametrize("program", [GROFF, MANDOC], ids=["groff", "mandoc"])
def test_any_text_comes_out_as_it_went_in(program: List[str]) -> None:
    read_by(program, page(DATED))  # skips it for all, once
    _lines_come_out_as_they_went_in(program)


def test_a_text_that_begins_like_a_request_or_has_other_letters_is_text() -> None:
    assert prose(".TH is no request. 'Nor is this; \\fB nor `.SH`") == (
        "\\&.TH is no request. \\(aqNor is this; \\efB nor \\fB.SH\\fR"
    )
    assert prose("Zo\u00eb") == "Zo\\[u00EB]"
