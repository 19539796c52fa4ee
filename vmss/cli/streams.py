"""The standard streams of a command: closed by the caller, full, or without a reader.

What cannot be written to standard output is one line on standard error. What cannot be written there nobody can be
told: the exit status remains.
"""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from vmss.core.problem import Problem
from vmss.core.text import one_line


class WriteError(Problem):
    """The output cannot be written, for instance because the disk is full."""


def open_closed() -> None:
    """Open the standard streams that the caller has closed: else the next file that is opened would take the place of
    one, and Python has none to print to. Standard output is opened so that writing to it fails."""
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, flags)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
    sys.stdin = sys.stdin or _stream(0, "r")
    sys.stdout = sys.stdout or _stream(1, "w")
    sys.stderr = sys.stderr or _stream(2, "w")


def _stream(descriptor: int, mode: str) -> Any:
    return open(descriptor, mode, encoding="utf-8", closefd=False)


def in_utf8(out: TextIO) -> TextIO:
    """A stream for a format that is UTF-8, whatever the locale says of the standard stream: that one, or another on
    the same descriptor."""
    if (out.encoding or "utf-8").lower().replace("-", "") == "utf8":
        return out
    return open(out.fileno(), "w", encoding="utf-8", closefd=False)


def emit(text: str, out: TextIO) -> None:
    """Print a text; characters that `out` cannot encode are escaped. Raise WriteError if it cannot be written."""
    encoding = out.encoding or "utf-8"
    try:
        if text:  # an unbuffered stream writes nothing, too
            out.write(text.encode(encoding, "backslashreplace").decode(encoding))
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up(out)
        raise WriteError("standard output: cannot be written: %s" % why_not(error))


def why_not(error: OSError) -> str:
    """The reason why a stream cannot be written."""
    return "it is closed" if error.errno == errno.EBADF else str(error.strerror or error)


class Checked(io.TextIOBase):
    """Standard output for who prints line by line: each is printed by `emit`."""

    def write(self, text: str) -> int:
        emit(text, sys.stdout)
        return len(text)


def tell_error(text: str) -> None:
    """Print lines on standard error, if that takes them."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        give_up(sys.stderr)


def write_whole(path: str, text: str) -> None:
    """Write a file aside, and put it in its place when it is whole: whoever reads it meanwhile has the old one. Raise
    WriteError."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a terminal, a pipe
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            return
        # Of another name each time, and never one that somebody else has made there.
        import tempfile  # slow to load

        descriptor, aside = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".vmss-")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(descriptor, _mode_of(path))
            os.replace(aside, path)
        except BaseException:
            os.unlink(aside)
            raise
    except OSError as error:
        raise WriteError("%s: cannot be written: %s" % (one_line(path), error.strerror or error))


def _mode_of(path: str) -> int:
    """The mode of a file that is written anew: as it was, or as a shell makes one."""
    with suppress(OSError):
        return os.stat(path).st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def give_up(stream: TextIO) -> None:
    """Write no more to a stream: else the interpreter tries again, and complains, when it exits."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
