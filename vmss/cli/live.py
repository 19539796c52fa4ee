"""A picture that is drawn anew in its place, on any terminal that knows the cursor's movements of ECMA-48."""

import os
import shutil
from typing import List, TextIO, Tuple

from vmss.cli.streams import emit


def can_redraw(out: TextIO) -> bool:
    """Whether there is a terminal that can."""
    return out.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def size() -> Tuple[int, int]:
    """The columns and lines of the terminal; 80 and 24 if it does not tell."""
    columns, lines = shutil.get_terminal_size()
    return columns or 80, lines or 24


class Live:
    """The picture at the end of what stands on the terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._drawn = 0  # lines of the picture
        self._size = size()

    def draw(self, above: List[str], picture: List[str]) -> None:
        """Draw a picture in the place of the last one, with lines above it that stay."""
        # How a terminal that was resized has broken the lines is not known: what was drawn stays, and is drawn no more.
        if size() != self._size:
            self._size, self._drawn = size(), 0
        up = "\x1b[%dA" % self._drawn if self._drawn else ""
        # Each place is emptied before it is written: after a line as wide as the terminal its end would be.
        lines = "".join("\x1b[K%s\r\n" % line for line in above + picture)
        self._drawn = len(picture)
        emit("%s\r%s\x1b[J" % (up, lines), self._out)
