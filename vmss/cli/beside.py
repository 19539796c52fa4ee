"""The lines of a pass on a terminal, and below them what `vmss watch` shows: drawn by a process beside the pass.

A pass is one thread, which waits for xapi and for nothing else. So another process watches it as `vmss watch` does, and
is given the lines. It is forked before the pass has a session or a lock, and looks at nothing before the pass begins to
work, which an idle one never does, or hands its work over. If it dies, the pass prints its lines itself; if the pass
dies, it lets the terminal be.
"""

import os
import select
import signal
import socket
import sys
import threading
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Callable, Iterator, List, Optional, TextIO, Tuple

from vmss.cli import colour, tables
from vmss.cli.live import Live, size
from vmss.cli.parts import be_quiet, say
from vmss.cli.watch_picture import Paper, Scene, picture
from vmss.core.text import one_line
from vmss.edges.output import TAKES_S, takes
from vmss.edges.surroundings import Surroundings

# The seconds between two pictures, and between two questions to xapi.
_DRAWS_S = 1.0
# Those in which its session is closed, after the pass; and in which all of that has come to its end.
_CLOSES_S, _SHOWS_S = 2.0, 10.0

# What ends the lines of a pass that has ended by itself; and a line that is not shown: the pass begins to work.
_END, _BEGIN = b"\n", "\0"


@contextmanager
def drawn(around: Surroundings, out: TextIO) -> Iterator[Surroundings]:
    """Give the pass in these surroundings others, in which its lines are shown above the picture of it."""
    ours, its = socket.socketpair()
    process = 0
    with suppress(OSError):
        out.flush()
        process = os.fork()
        if not process:
            ours.close()
            _beside(its, around, out)
    its.close()
    try:
        yield around._replace(say=lambda text: _tell(ours, one_line(text)), works=lambda: _tell(ours, _BEGIN))
    finally:
        with suppress(OSError):
            ours.sendall(_END)
        if process:
            _wait_for(process, ours)
        ours.close()


def _tell(ours: socket.socket, text: str) -> None:
    """Give a line to the process; print it if there is none any more."""
    try:
        if takes(ours.fileno()):
            ours.sendall(text.encode("utf-8") + b"\n")
    except OSError:
        if text != _BEGIN and takes(sys.stdout.fileno()):
            say(text)


def _wait_for(process: int, ours: socket.socket) -> None:
    """Wait until all is shown: it closes its end then."""
    if not select.select([ours], [], [], _SHOWS_S)[0]:
        os.kill(process, signal.SIGKILL)
    with suppress(ChildProcessError):  # who started this process has the kernel reap its children
        os.waitpid(process, 0)


# The process beside the pass


def _beside(its: socket.socket, around: Surroundings, out: TextIO) -> None:
    """Draw until the pass ends, or dies, and exit."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they are for the pass
            signal.signal(number, signal.SIG_IGN)
        watcher = _Watcher(around)
        with suppress(Exception):  # the terminal is gone
            _draw(its, watcher, out)
        watcher.end()
    finally:
        os._exit(0)


def _draw(its: socket.socket, watcher: "_Watcher", out: TextIO) -> None:
    live, rest = Live(out), b""
    lines: List[str] = []  # not shown yet
    while True:
        if select.select([its], [], [], _DRAWS_S)[0]:
            data = its.recv(65536)
            if not data:
                return
            *whole, rest = (rest + data).split(b"\n")
            lines += [line.decode("utf-8") for line in whole]
        over = lines[-1:] == [""]
        if any(lines):
            watcher.begin()
        if not watcher.has_begun:
            if over:
                return
            continue
        # One that is halted must not hold up the end of the pass.
        if select.select([], [out], [], TAKES_S if over else 0.0)[1]:
            live.draw(
                [line for line in lines if line not in ("", _BEGIN)], [] if over else watcher.picture(_paper(out))
            )
            lines = []
        if over:
            return


def _paper(out: TextIO) -> Paper:
    return Paper(*size(), colour.wanted(colour.AUTO, out), tables.cut(out))


class _Watcher(threading.Thread):
    """Watches the pass over a session of its own. It is a thread, so that neither the lines nor the time that a picture
    tells wait for xapi."""

    def __init__(self, around: Surroundings) -> None:
        threading.Thread.__init__(self, daemon=True)
        self._around = around._replace(say=be_quiet, waits=be_quiet)
        self._over = threading.Event()
        self._seen: Optional[Tuple[Scene, Callable[[], datetime]]] = None

    def run(self) -> None:
        """Watch until the end, or as long as there is a session: without one there is no picture."""
        from vmss.insight.reading import reading
        from vmss.insight.watching import Watch

        with suppress(Exception), reading(self._around) as session:
            watch = Watch(session, self._around.place)
            while not self._over.is_set():
                scene = Scene(watch.seen, dict(watch.names), None, watch.next_tick(), session.moment)
                self._seen = scene, session.now
                self._over.wait(_DRAWS_S)
                watch.look(0.0)
        self._seen = None

    def picture(self, paper: Paper) -> List[str]:
        """What there is to see now, below an empty line; nothing if no pass is at work."""
        scene, now = self._seen or (Scene(None), None)
        if scene.seen is None or now is None:
            return []
        return [""] + picture(scene, now(), paper._replace(height=paper.height - 1))

    @property
    def has_begun(self) -> bool:
        """Whether it watches, or has."""
        return self.ident is not None

    def begin(self) -> None:
        """Begin to watch, once."""
        if not self.has_begun:
            self.start()

    def end(self) -> None:
        """Have it close its session."""
        if self.has_begun:
            self._over.set()
            self.join(_CLOSES_S)
