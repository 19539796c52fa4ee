"""Child processes that are started and looked at now and then, so that the one thread of a pass never waits for one."""

import fcntl
import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from typing import Callable, Iterable, Mapping, Optional, Sequence

from vmss.edges.stop import wakeup

# Seconds between the request to end and the kill.
KILL_AFTER_S = 10.0
# The pauses between the end of its output and that of the process itself, which follows at once: how many, and seconds.
_INSTANTS, _INSTANT_S = 20, 0.001
# Upper limits on what is told of the output of a process: bytes in all, and lines. The rest is read, and left out.
_BYTES_MAX, _LINES_MAX = 64 << 10, 200
# What a pipe holds, and fcntl's command to make it larger, which Python names since 3.10 (linux/fcntl.h).
_PIPE_BYTES, _SETPIPE_SZ = 64 << 10, 1031


class Child:
    """A process in a group of its own, with no standard input but `given`, and with this environment and no other.

    Each line of its output goes to `says`. After `limit_s` seconds its group is told to end, and killed ten seconds
    later. The clock is this machine's own, whatever the clock of the pool. `trouble` says in words why the process has
    failed, once it has ended; it is empty if it has not failed.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        limit_s: float,
        says: Callable[[str], None],
        given: Optional[bytes] = None,
    ) -> None:
        self.trouble = ""
        self._says = says
        self._limit = limit_s
        self._deadline = time.monotonic() + limit_s
        self._signal: Optional[signal.Signals] = None  # the last one that was sent
        self._why = ""  # it was sent
        self._line = b""
        self._bytes = self._lines = 0
        self._process = self._started(command, environment, given)

    def _started(
        self, command: Sequence[str], environment: Mapping[str, str], given: Optional[bytes]
    ) -> "Optional[subprocess.Popen[bytes]]":
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={name: text.encode("utf-8", "backslashreplace") for name, text in environment.items()},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            self.trouble = "it cannot be started: %s" % error.strerror
            return None
        if process.stdin is not None:
            with suppress(OSError):  # it has ended
                _give(process.stdin.fileno(), given or b"")
            process.stdin.close()
        if process.stdout is not None:
            os.set_blocking(process.stdout.fileno(), False)
        return process

    def output(self) -> Optional[int]:
        """The descriptor from which its output can be read; None if there will be no more."""
        return self._process.stdout.fileno() if self._process and self._process.stdout else None

    def stop(self, why: str) -> None:
        """Tell it to end before its limit."""
        if self._signal is None:
            self._send(signal.SIGTERM, why)

    def has_ended(self) -> bool:
        """Read what it says, enforce its limit, and return whether it has ended."""
        if self._process is None:
            return True
        closed = self._read()
        if time.monotonic() >= self._deadline:
            if self._signal is None:
                self._send(signal.SIGTERM, "it has not ended within %d s" % self._limit)
            elif self._signal == signal.SIGTERM:
                self._send(signal.SIGKILL, self._why)
        # The kernel closes its output an instant before it is dead.
        tries = _INSTANTS if closed else 1
        while not _is_dead(self._process.pid):
            tries -= 1
            if not tries:
                return False
            select.select([], [], [], _INSTANT_S)
        # Not reaped yet, its number is nobody else's: what is left of its group can be killed.
        if self._signal is not None:
            self._send(signal.SIGKILL, self._why)
        code = self._process.poll()
        self._read()
        self._close()
        if self._line:
            self._tell(b"\n")
        self.trouble = self._why or _of_code(code)
        self._process = None
        return True

    def _send(self, number: signal.Signals, why: str) -> None:
        self._signal, self._why = number, why
        self._deadline = time.monotonic() + KILL_AFTER_S
        if self._process is not None:
            with suppress(OSError):
                os.killpg(self._process.pid, number)

    def _read(self) -> bool:
        """Take over what it has written. Return whether that has just come to its end. A process that it leaves behind
        may hold the pipe open for ever."""
        descriptor = self.output()
        for _ in range(16):
            if descriptor is None:
                break
            try:
                data = os.read(descriptor, 1 << 16)
            except OSError:  # there is nothing to read now
                break
            if not data:
                self._close()
                return True
            self._tell(data)
        return False

    def _close(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
            self._process.stdout = None

    def _tell(self, data: bytes) -> None:
        full = self._bytes > _BYTES_MAX or self._lines > _LINES_MAX
        self._bytes += len(data)
        if full:
            return
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._lines += 1
            if self._lines > _LINES_MAX:
                break
            if line.strip():
                self._says(line.decode("utf-8", "backslashreplace"))
        if self._bytes > _BYTES_MAX or self._lines > _LINES_MAX:
            self._says("(it says more, which is left out)")
            self._line = b""


def _give(descriptor: int, data: bytes) -> None:
    """Write to a pipe at once, whether anybody reads or not."""
    if len(data) > _PIPE_BYTES:
        fcntl.fcntl(descriptor, _SETPIPE_SZ, len(data))
    os.set_blocking(descriptor, False)
    os.write(descriptor, data)


def _is_dead(pid: int) -> bool:
    """Whether a child has ended; it is not reaped."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # who started this process has the kernel reap its children
        return True


def _of_code(code: Optional[int]) -> str:
    """The failure that an exit status tells of, in words."""
    if not code:
        return ""
    return "a signal has ended it: %d" % -code if code < 0 else "exit status %d" % code


def look_after(children: Iterable[Child], timeout_s: float) -> None:
    """Wait until one of these says something or closes its output, as each does at its end, or until the timeout; a
    signal that asks this process to stop ends it early."""
    descriptors = [number for number in (child.output() for child in children) if number is not None]
    pipe = wakeup()
    watched = descriptors + ([] if pipe is None else [pipe])
    if pipe in select.select(watched, [], [], max(0.0, timeout_s))[0] and pipe is not None:
        os.read(pipe, 1024)
