"""Every transcript in the documents is what the program prints, in the pools that are built here.

A transcript is a block of code with lines `$ vmss …`, each followed by its output. In it a line `…` stands for any
number of lines, and `…` within a line for any text.
"""

import io
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Dict, Iterator, List, Tuple
from unittest.mock import patch

import pytest

from tests.documents import DOCUMENTS, blocks
from tests.pool import UTC, TestPool
from tests.terminal import on_terminal
from tests.test_commands import vmss
from tests.test_doctor import Terminal, Ward
from vmss.cli.commands import doctor
from vmss.demo import demo
from vmss.installation.root import Root

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DURATION = re.compile(r"\b[0-9]+ (ms|s|min|h)\b")


def transcripts() -> Iterator[Tuple[str, str, str]]:
    """The page, the command and the output of each."""
    for page in DOCUMENTS:
        for language, block in blocks(page):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:] if not language else ():
                command, _, output = part.partition("\n")
                yield page, command, output


def normal(text: str) -> str:
    """A text without what differs from pool to pool and from machine to machine."""
    text = _DURATION.sub(r"N \1", _UUID.sub("UUID", text))
    return re.sub(r"\[[0-9]+\]", "[PID]", re.sub(" +", " ", text)).strip()


def matches(transcript: str, printed: str) -> bool:
    """Whether a transcript tells what was printed."""
    parts: List[str] = []
    for line in transcript.strip("\n").split("\n"):
        if line.strip() == "…":
            parts.append("(?:.*\n)*?")
        else:
            parts.append(" ?" + ".*?".join(re.escape(normal(part)) for part in re.split(" ?… ?", line)) + " ?\n")
    lines = "".join(normal(line) + "\n" for line in printed.strip("\n").split("\n"))
    return re.match("".join(parts) + r"\Z", lines) is not None


class Outputs:
    """What commands print: of the demo, of a pool with three schedules, and of a dom0 in which something is wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: Dict[str, str] = {}

    def of(self, command: str) -> str:
        if command not in self._known:
            words = command.split()[1:]
            self._known[command] = {"demo": self._demo, "doctor": self._doctor}.get(words[0], self._pool)(words)
        return self._known[command]

    def _demo(self, words: List[str]) -> str:
        out = io.StringIO()
        assert demo(7, 6, out) == 0
        return out.getvalue()

    def _doctor(self, words: List[str]) -> str:
        (self.folder / "doctor").mkdir()
        with TestPool(self.folder / "doctor") as pool:
            ward = Ward(pool)
            ward.copy("cron.d/vmss.cron", "/etc/cron.d/vmss-old", 0o644)
            ward.write("/proc/812/comm", "sshd\n")
            out = Terminal(io.BytesIO(), encoding="utf-8")
            with patch.dict(os.environ, {"COLUMNS": "120", "NO_COLOR": "1"}):
                doctor.show(pool.surroundings(), Root(str(ward.root)), True, doctor.parser().parse_args([]), out)
            return bytes(out.buffer.getvalue()).decode("utf-8")  # type: ignore[attr-defined]

    def _pool(self, words: List[str]) -> str:
        folder = self.folder / "_".join(words)
        folder.mkdir()
        with TestPool(folder) as pool:
            build(pool)
            if "--nagios" in words:
                return vmss(pool.folder, *words, VMSS_XAPI=pool.place.xapi, VMSS_LOG=pool.place.log).out.replace(
                    pool.place.log, "/var/log/VMSSlog"
                )
            environment = {"VMSS_XAPI": pool.place.xapi, "VMSS_CONFIG": pool.place.config, "VMSS_LOG": pool.place.log}
            status = 1 if words[0] == "status" else 0
            return on_terminal(*words, width=120, status=status, NO_COLOR="1", **environment)


def build(pool: TestPool) -> None:
    """Two schedules that have run, one of them with failures, and a new one that gets in the way of a run."""
    Path(pool.place.config).write_text("[vmss]\ntimezone = UTC\nlogin_limit = 0\n")
    slow, fast = pool.sr("slow"), pool.sr("fast")
    servers = [pool.vm(name, [slow]) for name in ("app 1", "app 2", "db 1", "db 2", "files", "mail", "web 1", "web 2")]
    builders = [pool.vm(name, [fast]) for name in ("build 1", "build 2", "build 3")]
    at_night = {"frequency": "daily", "schedule": {"hour": "2", "min": "30"}}
    pool.policy(servers, "nightly", retained_snapshots="7", **at_night)
    pool.policy(builders, "hourly", retained_snapshots="5")
    full = '["SR_BACKEND_FAILURE_44", "", "There is insufficient space", ""]'
    for day in (1, 2):
        pool.at(2, 30, day=day)
        pool.tick()
        for name in ("db 1", "db 2"):
            rule = {"method": "VM.snapshot", "object": name, "action": "error", "count": "0", "error": full}
            pool.call("simulator.add_fault", rule)
    for hour in range(3, 11):
        pool.at(hour, 15)
        pool.tick()
    pool.policy([pool.vm(name, [slow]) for name in ("archive", "wiki")], "archives", **at_night)
    pool.simulator.set_time(datetime(2026, 3, 2, 10, 20, tzinfo=UTC))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    return Outputs(tmp_path_factory.mktemp("transcripts"))


@pytest.mark.parametrize("page, command, output", list(transcripts()))
def test_it_is_what_the_program_prints(outputs: Outputs, page: str, command: str, output: str) -> None:
    printed = outputs.of(command)
    assert matches(output, printed), "%s: %s prints:\n%s" % (page, command, printed)


def test_what_is_left_out_and_what_is_wrong() -> None:
    printed = "VMSS OK\nhourly  12 s  [17]\nnightly\nend\n"
    for good in ("VMSS OK\nhourly 3 s [9]\n…\nend\n", "VMSS …\n…\n", "…\nend\n", printed):
        assert matches(good, printed)
    for bad in (
        "VMSS OK\n",
        "VMSS OK\n…\nnightly\n",
        "VMSS OK\nnightly\nend\n",
        "VMSS WARNING\n…\n",
        "…\nhourly 3 s\n…\n",
    ):
        assert not matches(bad, printed)
