"""The log file: the form of its lines, its mode, and what it does not follow."""

import os
import re
import stat
from datetime import datetime, timezone
from pathlib import Path

import pytest

from vmss.edges.log import Log
from vmss.edges.zones import time_zone

AT = datetime(2017, 5, 1, 9, 15, 1, tzinfo=timezone.utc)


def log(path: Path) -> Log:
    return Log(str(path), lambda: AT, time_zone("Europe/London"))


def test_a_line_has_the_form_of_the_article_with_local_time(tmp_path: Path) -> None:
    written = log(tmp_path / "VMSSlog")
    written("No of Policies: 2")
    assert re.match(
        r"May  1 10:15:01 [^ .]+ VMSS: \[%d\] No of Policies: 2\n\Z" % os.getpid(), (tmp_path / "VMSSlog").read_text()
    )


def test_lines_are_appended_and_the_file_is_0640(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        log(tmp_path / "VMSSlog")("one")
        log(tmp_path / "VMSSlog")("two")
    finally:
        os.umask(old)
    assert [line.rsplit(" ", 1)[1] for line in (tmp_path / "VMSSlog").read_text().splitlines()] == ["one", "two"]
    assert stat.S_IMODE((tmp_path / "VMSSlog").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "hostile", ["a\nMay 21 10:15:01 host VMSS: [1] forged", "a\rb", "a\x1b[2Jb", "a\u2028b", "a\x85b"]
)
def test_no_name_can_forge_a_line(tmp_path: Path, hostile: str) -> None:
    log(tmp_path / "VMSSlog")("VM " + hostile)
    text = (tmp_path / "VMSSlog").read_bytes().decode("utf-8")
    assert len(text.splitlines()) == 1 and "\x1b" not in text


def test_any_text_is_valid_utf_8_and_bounded(tmp_path: Path) -> None:
    log(tmp_path / "VMSSlog")("\ud800 \u202e ö 📷 " + "x" * 100000)
    text = (tmp_path / "VMSSlog").read_bytes().decode("utf-8")
    assert "ö 📷" in text and "\u202e" not in text and len(text) < 21000


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "absent directory"])
def test_what_cannot_be_opened_as_a_log_sends_the_lines_to_standard_error(
    tmp_path: Path, kind: str, capfd: "pytest.CaptureFixture[str]"
) -> None:
    path = tmp_path / "VMSSlog"
    if kind == "link":
        (tmp_path / "victim").write_text("precious")
        path.symlink_to(tmp_path / "victim")
    elif kind == "fifo":
        os.mkfifo(str(path))
    elif kind == "directory":
        path.mkdir()
    else:
        path = tmp_path / "absent" / "VMSSlog"
    log(path)("hello")
    error = capfd.readouterr().err
    assert str(path) in error.splitlines()[0] and error.splitlines()[1].endswith("hello")
    if kind == "link":
        assert (tmp_path / "victim").read_text() == "precious"
