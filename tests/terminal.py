"""A command on a terminal of its own, and what a terminal shows of what it is told."""

import codecs
import errno
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parent.parent


def on_terminal(*words: str, width: int = 120, status: int = 0, **environment: str) -> str:
    """What `vmss WORDS` shows on a terminal so wide, its lines ended as in a file. It has to end with this status."""
    path = os.pathsep.join([str(ROOT)] + os.environ.get("PYTHONPATH", "").split(os.pathsep)).rstrip(os.pathsep)
    variables: Dict[str, str] = dict(os.environ, PYTHONPATH=path, COLUMNS=str(width), TERM="xterm-256color")
    variables.pop("NO_COLOR", None)
    variables.update(environment)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vmss"] + list(words),
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    with open(master, "rb", buffering=0) as terminal:
        try:
            for data in iter(lambda: terminal.read(65536), b""):
                shown += data
        except OSError:  # so Linux tells that nobody has it open any more
            pass
    assert process.wait() == status, shown.decode("utf-8", "replace")
    return shown.decode("utf-8").replace("\r\n", "\n")


class Screen:
    """A terminal, so wide and high, with `vmss WORDS` on it, in a session of its own; and all that it was told."""

    def __init__(self, columns: int, lines: int, *words: str, **environment: str) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        variables = dict(os.environ, PYTHONPATH=str(ROOT), TERM="xterm")
        for name in ("COLUMNS", "LINES"):  # they would count before the terminal's own size
            variables.pop(name, None)
        variables.update(environment)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vmss"] + list(words),
            env=variables,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=lambda: _control(slave),
        )
        os.close(slave)
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a read can end within a character
        self._looked = 0  # characters of it that `read_until` has handed out

    def resize(self, columns: int, lines: int) -> None:
        self.columns = columns
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type on it: Ctrl-C is \\x03."""
        os.write(self._master, text.encode("utf-8"))

    @property
    def modes(self) -> List[Any]:
        """How it is set."""
        return termios.tcgetattr(self._master)

    def read_until(self, text: str) -> str:
        """What is shown after what the last call gave, up to this text and with it; the time limit of the test is that
        of the wait. One read can hold several of them, and each is for one call."""
        since = self._looked
        while text not in self.shown[since:]:
            self.shown += self._decoder.decode(os.read(self._master, 65536))
        self._looked = self.shown.index(text, since) + len(text)
        return self.shown[since : self._looked]

    def rest(self) -> int:
        """Read until nobody has it open any more; the exit status of the command."""
        try:
            for data in iter(lambda: os.read(self._master, 65536), b""):
                self.shown += self._decoder.decode(data)
        except OSError as error:  # so Linux tells it
            assert error.errno == errno.EIO
        os.close(self._master)
        self._looked = len(self.shown)
        return self.process.wait(60)

    def end(self, number: int) -> int:
        """Send the command a signal; its exit status."""
        self.process.send_signal(number)
        return self.rest()

    @property
    def lines(self) -> List[str]:
        """What stands on it, and above, after what the last call gave."""
        return stands(self.shown[: self._looked], self.columns)


def _control(terminal: int) -> None:
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests in the background ignores it


def stands(told: str, columns: int) -> List[str]:
    """The lines that stand on a terminal so wide after it was told this, with what has scrolled away. It knows what
    our programs use of ECMA-48, as xterm does: a line that is full has the cursor on its last place."""
    lines: List[List[str]] = [[]]
    row = column = 0
    for part in re.findall("\x1b\\[[0-9]*[A-Za-z]|[^\x1b]", told):
        if part == "\r":
            column = 0
        elif part == "\n":  # the kernel writes a \r with it
            row, column = row + 1, 0
        elif part == "\x1b[K":
            del lines[row][min(column, columns - 1) :]
        elif part == "\x1b[J":
            del lines[row][min(column, columns - 1) :], lines[row + 1 :]
        elif part[-1] == "A" and part[0] == "\x1b":
            row = max(0, row - int(part[2:-1]))
        elif part[0] == "\x1b":
            assert part[-1] == "m", repr(part)
        else:
            if column == columns:
                row, column = row + 1, 0
            lines += [[] for _ in range(row + 1 - len(lines))]
            lines[row] += [" "] * (column + 1 - len(lines[row]))
            lines[row][column] = part
            column += 1
        lines += [[] for _ in range(row + 1 - len(lines))]
    return ["".join(line).rstrip() for line in lines]
