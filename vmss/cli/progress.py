"""The progress of a pass on a terminal: its lines, and a bar below them if rich is installed."""

import re
from contextlib import contextmanager, suppress
from typing import Callable, Iterator

from vmss.cli.parts import say

# The beginning of a line that says how many VMs are done (vmss.passes.in_hand).
_DONE = re.compile(r"\[([0-9]+)/([0-9]+)\] ")


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

    with suppress(OSError, ValueError):
        drawn.start()
    try:
        yield tell
    finally:
        with suppress(OSError, ValueError):
            drawn.stop()
