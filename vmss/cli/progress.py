"""Progress on a terminal: that of a pass, and what the doctor looks at."""

import os
import sys
from contextlib import contextmanager, suppress
from typing import Callable, Iterator, TextIO

from vmss.cli.live import can_redraw
from vmss.cli.parts import be_quiet, complain, say
from vmss.cli.streams import tell_error
from vmss.edges.output import takes
from vmss.edges.surroundings import Surroundings
from vmss.insight.published import run
from vmss.passes.request import Report, Request


def carry_out(request: Request, around: Surroundings) -> Report:
    """Carry out a pass. Its progress is for people: without a terminal, the exit status and the log say the rest."""
    if not sys.stdout.isatty():
        # Whoever sits there should know why nothing comes; cron would mail it.
        waits = complain if sys.stderr.isatty() else be_quiet
        return run(request, around._replace(say=be_quiet, waits=waits))
    if not can_redraw(sys.stdout):
        return run(request, around._replace(say=_if_it_is_taken, waits=_if_it_is_taken))
    from vmss.cli.beside import drawn  # not needed without a terminal

    with drawn(around, sys.stdout) as others:
        return run(request, others._replace(waits=_if_it_is_taken))


def _if_it_is_taken(text: str) -> None:
    """Print a line only if the terminal takes it: one that is halted must not hold up a pass, nor the lock with it."""
    if takes(sys.stdout.fileno()):
        say(text)


def tell_end(report: Report) -> int:
    """Say how a pass ended, on standard error if not well. Return its exit status."""
    if report.status:
        tell_error(report.line)
    else:
        say(report.line)
    return report.status


@contextmanager
def sign_of_life(err: TextIO) -> Iterator[Callable[[str], None]]:
    """Give a function that shows what is being looked at, for in a large pool that takes a while: on a terminal, where
    its line is gone in the end."""
    if not err.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield be_quiet
        return

    def show(text: str) -> None:
        with suppress(OSError, ValueError):
            if takes(err.fileno()):
                print("\r\x1b[K%s" % text, end="", file=err, flush=True)

    try:
        yield lambda what: show("looking at: %s" % what)
    finally:
        show("")
