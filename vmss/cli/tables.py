"""Prints a list: as a table on a terminal, as plain lines into a pipe, as JSON or CSV for scripts.

On a terminal the table is made by rich if that is installed, else it is plain aligned text, fitted to the width. Into a
pipe goes one line for each row, without a heading: the table's columns, separated by tabs, `-` for an empty one, so
that grep, cut and awk -F'\\t' find each field in the same place. JSON is one array of objects with typed values, CSV is
as in RFC 4180; both have every column, times in UTC and durations in seconds.
"""

import argparse
import csv
import io
import json
import shutil
import unicodedata
from datetime import datetime
from typing import Any, Callable, List, Mapping, NamedTuple, Sequence, TextIO

from vmss.cli.streams import emit
from vmss.core.datetimes import format_iso
from vmss.core.text import one_line

_GAP = "  "
_WIDTH_LEAST = 8  # lower limit on the width of a column
_LENGTH_MAX = 100000  # upper limit on a text in CSV

# A spreadsheet takes a text that begins so for a formula, and VMs may be named by people who may not run commands here.
_FORMULA = ("=", "+", "-", "@")

_STYLES = {"failed": "red", "error": "red", "warning": "yellow", "missed": "yellow", "succeeded": "green"}

# The forms for programs.
JSON, CSV = "json", "csv"


def plain(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return format_iso(value)
    if isinstance(value, (list, tuple)):
        return "; ".join(plain(item) for item in value)
    return str(value)


def unstyled(value: Any) -> str:
    """No colour."""
    return ""


class Column(NamedTuple):
    """One column: the key of its values in the rows; its title in the table, without which it is in JSON and CSV only;
    how a value is shown to people, and in which style of rich. `whole`: its values, such as uuids and times, are not
    wrapped. `spare`: it is left out where the terminal is too narrow for all; the last such column first.
    """

    key: str
    title: str = ""
    show: Callable[[Any], str] = plain
    style: Callable[[Any], str] = unstyled
    whole: bool = False
    right: bool = False
    spare: bool = False


Row = Mapping[str, Any]


def add_form(parser: argparse.ArgumentParser) -> None:
    """Give a command the options --json and --csv."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const=JSON, help="print a JSON array of objects")
    form.add_argument("--csv", dest="form", action="store_const", const=CSV, help="print CSV, with a heading")
    parser.set_defaults(form="")


def for_people(arguments: argparse.Namespace) -> bool:
    """Whether the output is for people, so that remarks may stand beside the list."""
    return not arguments.form


def write(columns: Sequence[Column], rows: Sequence[Row], arguments: argparse.Namespace, out: TextIO) -> None:
    """Print the rows in the form that the command line asks for. A row may lack keys: then those fields are empty."""
    if arguments.form == JSON:
        text = as_json(columns, rows)
    elif arguments.form == CSV:
        text = as_csv(columns, rows)
    elif not out.isatty():
        text = as_lines(columns, rows)
    elif rows and not _rich_table(columns, rows, out):
        text = as_table(columns, rows, shutil.get_terminal_size().columns)
    else:
        return
    emit(text, out)


def as_json(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A JSON array of objects, in ASCII."""
    values = [{column.key: _typed(row.get(column.key)) for column in columns} for row in rows]
    return json.dumps(values, indent=2) + "\n"


def as_csv(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """CSV with a heading. A text that a spreadsheet would take for a formula gets a single quote in front."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([column.key for column in columns])
    for row in rows:
        writer.writerow([_cell(column, row.get(column.key)) for column in columns])
    return file.getvalue()


def as_lines(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """One line for each row, its fields separated by tabs."""
    shown = [column for column in columns if column.title]
    return "".join("\t".join(_shown(column, row) or "-" for column in shown) + "\n" for row in rows)


def as_table(columns: Sequence[Column], rows: Sequence[Row], width: int) -> str:
    """Aligned text under titles; a text that is too wide for its column is wrapped."""
    shown = _room_for(columns, rows, width)
    cells = [[column.title for column in shown]] + [[_shown(column, row) or "-" for column in shown] for row in rows]
    widths = _fitted(shown, _widths(shown, rows), width)
    lines = []
    for line in cells:
        wrapped = [_wrapped(text, widths[at]) for at, text in enumerate(line)]
        for number in range(max(map(len, wrapped))):
            parts = [column[number] if number < len(column) else "" for column in wrapped]
            fields = [_padded(text, widths[at], shown[at].right) for at, text in enumerate(parts)]
            lines.append(_GAP.join(fields).rstrip() + "\n")
    return "".join(lines)


def remark(text: str, arguments: argparse.Namespace, out: TextIO) -> None:
    """Print a line beside the list, if that goes to a terminal, and is for people."""
    if for_people(arguments) and out.isatty():
        emit(one_line(text) + "\n", out)


def result_style(value: Any) -> str:
    """The colour of a result, or of a state."""
    return _STYLES.get(str(value).split(":")[0], "")


def _typed(value: Any) -> Any:
    """A value that JSON can represent."""
    if isinstance(value, datetime):
        return format_iso(value)
    if isinstance(value, Mapping):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_typed(item) for item in value]
    return value


def _cell(column: Column, value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, datetime):
        return format_iso(value)
    text = one_line(value if isinstance(value, str) else column.show(value), _LENGTH_MAX)
    return "'" + text if text.startswith(_FORMULA) else text


def _shown(column: Column, row: Row) -> str:
    value = row.get(column.key)
    return "" if value is None else one_line(column.show(value))


def _rich_table(columns: Sequence[Column], rows: Sequence[Row], out: TextIO) -> bool:
    """Print the table with rich. Return whether that is installed."""
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    terminal = Console(file=out)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    shown = _room_for(columns, rows, terminal.width)
    for column in shown:
        table.add_column(
            Text(column.title), justify="right" if column.right else "left", no_wrap=column.whole, overflow="fold"
        )
    for row in rows:
        # As Text, for rich interprets markup in a plain string.
        table.add_row(*[Text(_shown(column, row) or "-", style=column.style(row.get(column.key))) for column in shown])
    with terminal.capture() as printed:
        terminal.print(table)
    emit(printed.get(), out)
    return True


def _room_for(columns: Sequence[Column], rows: Sequence[Row], width: int) -> List[Column]:
    """The columns of the table, without spare ones as far as the width is too small for all."""
    shown = [column for column in columns if column.title]
    while sum(_widths(shown, rows)) + len(_GAP) * (len(shown) - 1) > width:
        spare = [column for column in shown if column.spare]
        if not spare:
            break
        shown.remove(spare[-1])
    return shown


def _widths(columns: Sequence[Column], rows: Sequence[Row]) -> List[int]:
    """The width of the widest text of each column."""
    return [max([_width(column.title)] + [_width(_shown(column, row)) for row in rows]) for column in columns]


def _fitted(columns: Sequence[Column], widths: List[int], width: int) -> List[int]:
    """The widths, the widest ones reduced until all columns fit, or none can be reduced any more."""
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    while excess > 0:
        may = [at for at, column in enumerate(columns) if not column.whole and widths[at] > _WIDTH_LEAST]
        if not may:
            break
        widths[max(may, key=lambda at: widths[at])] -= 1
        excess -= 1
    return widths


def _wrapped(text: str, width: int) -> List[str]:
    """A text in lines of this width at most: broken between words, and within a word that is too long for a line."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and _width(lines[-1]) + 1 + _width(word) <= width:
            lines[-1] += " " + word
            continue
        lines.append("")
        for character in word:
            if lines[-1] and _width(lines[-1]) + _width(character) > width:
                lines.append("")
            lines[-1] += character
    return lines[1:]


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


def _width(text: str) -> int:
    """The width of a text on a terminal, in character cells."""
    if text.isalnum() and len(text) == len(text.encode("utf-8", "replace")):
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
