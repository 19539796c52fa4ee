"""Lays text out on a terminal of a given width: a table with one line for each row, and sentences in lines.

A table that is too wide gives way by importance, as its columns say: a value is shown in a shorter form, a column is
left out, a text is cut. No column becomes so narrow that a text in it could not be read.
"""

import unicodedata
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.cli.colour import painted
from vmss.cli.commands_in_text import pieces
from vmss.core.datetimes import format_iso
from vmss.core.text import one_line

_GAP = "  "
_WIDTH_LEAST = 8  # lower limit on the width of a column whose texts are cut


def plain(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if hasattr(value, "tzinfo"):
        return format_iso(value)
    if isinstance(value, (list, tuple)):
        return "; ".join(plain(item) for item in value)
    return str(value)


def unstyled(value: Any) -> str:
    """No colour."""
    return ""


Show = Callable[[Any], str]


class Column(NamedTuple):
    """One column: the key of its values in the rows; its title in the table, without which it is in JSON and CSV only;
    how a value is shown to people, and in which style.

    `gives`: what it gives up where the terminal is too narrow, each with its turn among all columns, the lowest first:
    another form in which its values are shown, or None, and it is left out. `least`: texts that are longer than this
    are cut, or, where it `flows`, go on in the next line; with 0 they are always whole.
    """

    key: str
    title: str = ""
    show: Show = plain
    style: Callable[[Any], str] = unstyled
    right: bool = False
    gives: Sequence[Tuple[int, Optional[Show]]] = ()
    least: int = 0
    flows: bool = False


Row = Mapping[str, Any]


def shown(column: Column, row: Row) -> str:
    """A value as it stands in a table, on one line; empty if the row has none."""
    value = row.get(column.key)
    return "" if value is None else one_line(column.show(value))


def table(columns: Sequence[Column], rows: Sequence[Row], width: int, colour: bool = False, cut: str = "…") -> str:
    """The rows under titles, aligned, within this width; `cut` stands for what is left out of a text."""
    fitting = _fitting([column for column in columns if column.title], rows, width)
    widths = _fitted(fitting, rows, width)
    titles = [_lines(column.title, column, widths[at], cut) for at, column in enumerate(fitting)]
    text = _row(fitting, titles, widths, ["bold" if colour else ""] * len(fitting))
    for row in rows:
        cells = [_lines(shown(column, row) or "-", column, widths[at], cut) for at, column in enumerate(fitting)]
        styles = [column.style(row.get(column.key)) if colour else "" for column in fitting]
        text += _row(fitting, cells, widths, styles)
    return text


def lines(text: str, width: int) -> List[str]:
    """A text in lines of this width, broken between words. A command line is never broken, nor a word that is too long:
    so each can be copied whole."""
    found: List[str] = []
    for piece in pieces(text):
        if found and width_of(found[-1]) + 1 + width_of(piece) <= width:
            found[-1] += " " + piece
        else:
            found.append(piece)
    return found or [""]


def width_of(text: str) -> int:
    """The width of a text on a terminal, in character cells."""
    if text.isalnum() and len(text) == len(text.encode("utf-8", "replace")):
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def shortened(text: str, width: int, cut: str) -> str:
    """A text within this width: without its middle, for names differ at their beginnings or at their ends."""
    if width_of(text) <= width:
        return text
    room = max(0, width - len(cut))
    head, tail = text, ""
    while head and width_of(head) > room - room // 2:
        head = head[:-1]
    while len(head) + len(tail) < len(text) and width_of(text[len(text) - len(tail) - 1 :]) <= room - width_of(head):
        tail = text[len(text) - len(tail) - 1 :]
    return head + cut[:width] + tail


def _fitting(columns: Sequence[Column], rows: Sequence[Row], width: int) -> List[Column]:
    """The columns, each with what it gave up until they have room: texts that may be cut have the room that they need
    at least."""
    found = list(columns)
    turns = sorted((turn, at) for at, column in enumerate(columns) for turn, _ in column.gives)
    for turn, at in turns:
        if _together(_least(found, rows)) <= width:
            return found
        here = next(number for number, column in enumerate(found) if column.key == columns[at].key)
        show = dict(columns[at].gives)[turn]
        found[here : here + 1] = [] if show is None else [found[here]._replace(show=show)]
    while len(found) > 1 and _together(_least(_all_cut(found), rows)) > width:
        found.pop()
    return found


def _all_cut(columns: Sequence[Column]) -> List[Column]:
    """The columns, their texts cut as far as they may be."""
    return [column._replace(least=min(column.least, _WIDTH_LEAST)) for column in columns]


def _together(widths: Sequence[int]) -> int:
    """The width of a row whose columns are so wide."""
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _least(columns: Sequence[Column], rows: Sequence[Row]) -> List[int]:
    widths = _widths(columns, rows)
    return [min(widths[at], max(column.least, 1)) if column.least else widths[at] for at, column in enumerate(columns)]


def _widths(columns: Sequence[Column], rows: Sequence[Row]) -> List[int]:
    """The width of the widest text of each column."""
    return [max([width_of(column.title)] + [width_of(shown(column, row)) for row in rows]) for column in columns]


def _fitted(columns: Sequence[Column], rows: Sequence[Row], width: int) -> List[int]:
    """The widths, the widest texts that may be cut reduced until all columns fit, or none can be reduced any more."""
    widths = _widths(columns, rows)
    excess = _together(widths) - width
    # First to what they need at least, then names further, and only then the texts in which sentences flow.
    for floors in (
        [column.least for column in columns],
        [column.least if column.flows else min(column.least, _WIDTH_LEAST) for column in columns],
        [min(column.least, _WIDTH_LEAST) for column in columns],
    ):
        while excess > 0:
            may = [at for at, floor in enumerate(floors) if floor and widths[at] > floor]
            if not may:
                break
            widths[max(may, key=lambda at: widths[at])] -= 1
            excess -= 1
    return widths


def _lines(text: str, column: Column, width: int, cut: str) -> List[str]:
    """The lines of a cell: several only where its column flows."""
    if not column.flows:
        return [shortened(text, width, cut)]
    return [part for line in lines(text, width) for part in _broken(line, width)]


def _broken(line: str, width: int) -> List[str]:
    """A line of a column: what is too long for it, such as a name without spaces, in parts of the column's width. The
    last column's may be as long as it is, if it is a command line."""
    if width_of(line) <= width or pieces(line) == [line] and " " in line:
        return [line]
    parts = [""]
    for character in line:
        if width_of(parts[-1]) + width_of(character) > width:
            parts.append("")
        parts[-1] += character
    return parts


def _row(columns: Sequence[Column], cells: Sequence[List[str]], widths: Sequence[int], styles: Sequence[str]) -> str:
    text = ""
    for number in range(max(map(len, cells), default=0)):
        parts = [cell[number] if number < len(cell) else "" for cell in cells]
        fields = []
        for at, part in enumerate(parts):
            space = " " * (widths[at] - width_of(part))
            part = painted(part, styles[at])
            fields.append(space + part if columns[at].right else part + space)
        text += _GAP.join(fields).rstrip() + "\n"
    return text
