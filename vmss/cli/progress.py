"""Progress on a terminal: the lines of a pass, and a bar below them if rich is installed; what the doctor looks at."""

import os
import re
import sys
from contextlib import contextmanager, suppress
from typing import Callable, Iterator, TextIO

from vmss.cli.parts import be_quiet, complain, say
from vmss.cli.streams import tell_error
from vmss.edges.output import takes
from vmss.edges.surroundings import Surroundings
from vmss.insight.published import run
from vmss.passes.request import Report, Request

# The beginning of a line that says how many VMs are done (vmss.passes.in_hand).
_DONE = re.compile(r"\[([0-9]+)/([0-9]+)\] ")


def carry_out(request: Request, around: Surroundings) -> Report:
    """Carry out a pass. Its progress is for people: without a terminal, the exit status and the log say the rest."""
    if not sys.stdout.isatty():
        # Whoever sits there should know why nothing comes; cron would mail it.
        waits = complain if sys.stderr.isatty() else be_quiet
        return run(request, around._replace(say=be_quiet, waits=waits))
    with bar() as tell:
        tell = _if_it_is_taken(tell)
        return run(request, around._replace(say=tell, waits=tell))


def _if_it_is_taken(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Tell a line only if the terminal takes it: one that is halted must not hold up a pass, nor the lock with it."""
    return lambda text: tell(text) if takes(sys.stdout.fileno()) else None


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


@contextmanager
def bar() -> Iterator[Callable[[str], None]]:
    """Give a function that shows a line of progress. If the terminal is gone, the pass goes on."""
    try:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.text import Text
    except ImportError:
        yield say
        return
    # It is drawn with every line: auto_refresh would need a thread.
    drawn = Progress(
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} VMs"),
        TimeElapsedColumn(),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = drawn.add_task("", total=1, visible=False)

    def tell(text: str) -> None:
        with suppress(OSError, ValueError):
            done = _DONE.match(text)
            if done:
                drawn.update(task, completed=int(done.group(1)), total=int(done.group(2)), visible=True)
            drawn.console.print(Text(text), soft_wrap=True)
            drawn.refresh()

    # Both write: on a terminal that is halted the pass would not begin, and not end.
    with suppress(OSError, ValueError):
        if takes(sys.stdout.fileno()):
            drawn.start()
    try:
        yield tell
    finally:
        with suppress(OSError, ValueError):
            if takes(sys.stdout.fileno()):
                drawn.stop()
