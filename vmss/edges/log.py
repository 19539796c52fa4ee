"""The log of the plugin, /var/log/VMSSlog: lines in the form of the vendor's article CTX224169."""

import os
import socket
import stat
from contextlib import suppress
from datetime import datetime, tzinfo
from typing import Callable, Optional

from vmss.core.text import one_line
from vmss.edges.output import takes

# The months as a line has them, in every locale.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Log:
    """Appends lines `May 21 10:15:01 HOSTNAME VMSS: [PID] TEXT` to a file, each in one write.

    `now` returns the instant of a line, in UTC; it is written as the wall-clock time of `zone`. If the file cannot be
    opened, or `path` is None, lines go to standard error.
    """

    def __init__(self, path: Optional[str], now: Callable[[], datetime], zone: tzinfo) -> None:
        self.now = now
        self.zone = zone
        self.path = path
        self._hostname = socket.gethostname().split(".")[0]
        self._descriptor = 2
        if path is not None:
            try:
                self._descriptor = _open(path)
            except OSError as error:
                self.path = None
                if takes(2):
                    line = "vmss: %s: the log cannot be opened (%s); logging to standard error\n"
                    line %= (one_line(path), error.strerror or error)
                    with suppress(OSError):
                        os.write(2, line.encode("utf-8", "backslashreplace"))

    def __call__(self, text: str) -> None:
        """Write one line; a text of several lines, or with control characters, is made one."""
        at = self.now().astimezone(self.zone)
        line = "%s %2d %02d:%02d:%02d %s VMSS: [%d] %s\n" % (
            MONTHS[at.month - 1],
            at.day,
            at.hour,
            at.minute,
            at.second,
            self._hostname,
            os.getpid(),
            one_line(text, 20000),
        )
        if self._descriptor == 2 and not takes(2):
            return  # snapshots go on when nobody reads
        with suppress(OSError):  # and when the disk is full
            os.write(self._descriptor, line.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Close the file."""
        if self._descriptor != 2:
            os.close(self._descriptor)
            self._descriptor = 2


def _open(path: str) -> int:
    # A link in place of the log must not be followed, and opening a pipe must not wait for a reader.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o640)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        reason = "not a regular file"
    elif status.st_uid not in (0, os.geteuid()):
        reason = "it belongs to another user"
    elif status.st_nlink > 1:
        reason = "it has more than one hard link"
    else:
        return descriptor
    os.close(descriptor)
    raise OSError(reason)
