"""Prints a list: as a table on a terminal, as plain lines into a pipe, as JSON or CSV for scripts.

On a terminal the table is fitted to the width (vmss.cli.layout). Into a pipe goes one line for each row, without a
heading: the table's columns, separated by tabs, `-` for an empty one, so that grep, cut and awk -F'\\t' find each field
in the same place. JSON is one array of objects with typed values, CSV is as in RFC 4180; both have every column, times
in UTC and durations in seconds.
"""

import argparse
import csv
import io
import json
import shutil
from datetime import datetime
from typing import Any, Mapping, Sequence, TextIO

from vmss.cli import colour, layout
from vmss.cli.layout import Column, Row, shown
from vmss.cli.streams import emit
from vmss.core.datetimes import format_iso
from vmss.core.text import one_line

_LENGTH_MAX = 100000  # upper limit on a text in CSV

# A spreadsheet takes a text that begins so for a formula, and VMs may be named by people who may not run commands here.
_FORMULA = ("=", "+", "-", "@")

# The forms for programs.
JSON, CSV = "json", "csv"


def add_form(parser: argparse.ArgumentParser) -> None:
    """Give a command the options --json, --csv and --color."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const=JSON, help="print a JSON array of objects")
    form.add_argument("--csv", dest="form", action="store_const", const=CSV, help="print CSV, with a heading")
    parser.set_defaults(form="")
    colour.add_option(parser)


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
        text = as_lines(columns, rows, colour.wanted(arguments.color, out))
    elif rows:
        text = layout.table(
            [_escaped(column, out) for column in columns], rows, width(), colour.wanted(arguments.color, out), cut(out)
        )
    else:
        return
    emit(text, out)


def _escaped(column: Column, out: TextIO) -> Column:
    """The same column, with what the terminal cannot show escaped, as `emit` does it, before its width is measured."""
    encoding = out.encoding or "utf-8"

    def escaped(show: layout.Show) -> layout.Show:
        return lambda value: show(value).encode(encoding, "backslashreplace").decode(encoding)

    gives = [(turn, shorter and escaped(shorter)) for turn, shorter in column.gives]
    return column._replace(show=escaped(column.show), gives=gives)


def width() -> int:
    """The width of the terminal; 80 if it does not tell, as a serial console: an old Python says 0 then."""
    return shutil.get_terminal_size().columns or 80


def cut(out: TextIO) -> str:
    """What stands for the part of a text that is left out there."""
    return "\u2026" if "utf" in (out.encoding or "").lower() else "..."


def as_json(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A JSON array of objects, in ASCII."""
    values = [{column.key: typed(row.get(column.key)) for column in columns} for row in rows]
    return json.dumps(values, indent=2) + "\n"


def as_csv(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """CSV with a heading. A text that a spreadsheet would take for a formula gets a single quote in front."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([column.key for column in columns])
    for row in rows:
        writer.writerow([_cell(column, row.get(column.key)) for column in columns])
    return file.getvalue()


def as_lines(columns: Sequence[Column], rows: Sequence[Row], coloured: bool = False) -> str:
    """One line for each row, its fields separated by tabs."""
    titled = [column for column in columns if column.title]
    return "".join("\t".join(_field(column, row, coloured) for column in titled) + "\n" for row in rows)


def _field(column: Column, row: Row, coloured: bool) -> str:
    text = shown(column, row) or "-"
    return colour.painted(text, column.style(row.get(column.key))) if coloured else text


def remark(text: str, arguments: argparse.Namespace, out: TextIO) -> None:
    """Print a sentence beside the list, if that goes to a terminal, and is for people: no command in it is broken."""
    if for_people(arguments) and out.isatty():
        emit("".join(line + "\n" for line in layout.lines(one_line(text), width())), out)


def typed(value: Any) -> Any:
    """A value that JSON can represent."""
    if isinstance(value, datetime):
        return format_iso(value)
    if isinstance(value, Mapping):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [typed(item) for item in value]
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
