"""Lists: the same rows as a table, as plain lines, as JSON and as CSV, whatever the names are."""

import argparse
import csv
import io
import json
import subprocess
import sys
import unicodedata
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmss.cli import tables
from vmss.cli.tables import Column

UTC = timezone.utc
ROOT = Path(__file__).resolve().parent.parent
AT = datetime(2026, 3, 2, 10, 15, tzinfo=UTC)

COLUMNS = [
    Column("name", "name"),
    Column("at", "at", whole=True),
    Column("vms", "VMs", right=True),
    Column("seconds", "takes", lambda seconds: "%d s" % seconds),
    Column("days"),
    Column("on"),
]
VALUES = st.one_of(st.none(), st.text(max_size=40), st.integers(), st.booleans(), st.lists(st.text(max_size=5)))


def form(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    tables.add_form(parser)
    return parser.parse_args(words)


def written(rows: List[Dict[str, Any]], *words: str, columns: Any = None) -> str:
    out = io.StringIO()
    tables.write(columns or COLUMNS, rows, form(*words), out)
    return out.getvalue()


ROW = {"name": "nightly", "at": AT, "vms": 3, "seconds": 90, "days": ["Monday", "Friday"], "on": True}


def test_a_pipe_gets_one_line_each_with_tabs_between_the_fields() -> None:
    assert written([ROW, {"name": "empty"}]) == "nightly\t2026-03-02T10:15:00Z\t3\t90 s\nempty\t-\t-\t-\n"
    assert written([]) == ""


def test_json_is_an_array_of_objects_with_typed_values() -> None:
    assert json.loads(written([ROW, {"name": "empty"}], "--json")) == [
        dict(ROW, at="2026-03-02T10:15:00Z"),
        {"name": "empty", "at": None, "vms": None, "seconds": None, "days": None, "on": None},
    ]
    assert written([], "--json") == "[]\n"


def test_csv_has_a_heading_and_the_line_ends_of_rfc_4180() -> None:
    assert written([ROW, {"name": 'a "b", c'}], "--csv") == (
        'name,at,vms,seconds,days,on\r\nnightly,2026-03-02T10:15:00Z,3,90,Monday; Friday,true\r\n"a ""b"", c",,,,,\r\n'
    )
    assert written([], "--csv") == "name,at,vms,seconds,days,on\r\n"


def test_json_and_csv_together_are_refused(capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        form("--json", "--csv")
    assert ended.value.code == 2 and "not allowed with" in capsys.readouterr().err


@given(st.lists(st.fixed_dictionaries({"name": VALUES, "days": VALUES, "on": VALUES}), max_size=4))
def test_json_gives_back_every_value(rows: List[Dict[str, Any]]) -> None:
    text = tables.as_json(COLUMNS, rows)
    assert text.isascii() if hasattr(text, "isascii") else True
    for read, row in zip(json.loads(text), rows):
        assert {key: read[key] for key in row} == row


@given(st.lists(st.text(), max_size=4))
def test_csv_keeps_its_columns_and_nothing_in_it_is_calculated_or_controls_a_terminal(names: List[str]) -> None:
    text = tables.as_csv(COLUMNS, [{"name": name} for name in names])
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == len(names) + 1 and {len(row) for row in rows} == {len(COLUMNS)}
    for row, name in zip(rows[1:], names):
        assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r"))
        if name.isprintable():
            assert row[0].lstrip("'") == name.lstrip("'")
    assert safe(text.replace("\r\n", ""))


@pytest.mark.parametrize(
    "name, cell",
    [("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"), ("@x", "'@x"), ("-1", "'-1"), ("a=b", "a=b"), ("'x", "'x")],
)
def test_a_name_that_is_a_formula_has_a_quote_before_it_and_only_in_csv(name: str, cell: str) -> None:
    assert next(csv.reader([written([{"name": name}], "--csv").splitlines()[1]]))[0] == cell
    assert json.loads(written([{"name": name}], "--json"))[0]["name"] == name
    assert written([{"name": name}]).split("\t")[0] == name


def test_a_negative_number_stays_one() -> None:
    assert written([{"vms": -1}], "--csv").splitlines()[1] == ",,-1,,,"


def safe(text: str) -> bool:
    text.encode("utf-8")
    return not {unicodedata.category(character) for character in text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.lists(st.text(alphabet=st.characters(), max_size=30), min_size=1, max_size=4))
def test_lines_and_tables_hold_nothing_that_controls_a_terminal(names: List[str]) -> None:
    rows = [{"name": name, "vms": 1} for name in names]
    lines = tables.as_lines(COLUMNS, rows)
    assert len(lines.split("\n")) == len(names) + 1
    assert all(line.count("\t") == 3 for line in lines.split("\n")[:-1])
    assert safe(lines.replace("\n", "").replace("\t", ""))
    assert safe(tables.as_table(COLUMNS, rows, 60).replace("\n", ""))


@given(
    st.lists(st.text(alphabet=st.sampled_from("ab \u6771\u4eac\u0301="), max_size=200), min_size=1, max_size=4),
    st.integers(60, 120),
)
def test_a_table_fits_the_terminal_and_loses_nothing(names: List[str], width: int) -> None:
    columns = [Column("name", "name"), Column("vms", "VMs", right=True), Column("uuid", "uuid", whole=True)]
    table = tables.as_table(columns, [{"name": name, "vms": 1, "uuid": "x" * 36} for name in names], width)
    wide = unicodedata.east_asian_width
    for line in table.splitlines():
        assert sum(0 if unicodedata.combining(c) else 1 + (wide(c) in "WF") for c in line) <= width
    told = "".join(table.split()).replace("x" * 36, "").replace("1", "")
    assert told == "nameVMsuuid" + "".join("".join((name or "-").split()) for name in names)


def test_what_may_be_left_out_is_where_it_has_no_room_the_last_first() -> None:
    columns = [Column("a", "a"), Column("b", "b", spare=True), Column("c", "c", whole=True, spare=True)]
    row = {"a": "a" * 10, "b": "b" * 10, "c": "c" * 10}
    shown = [tables.as_table(columns, [row], width).split()[3:] for width in (34, 33, 22)]
    assert shown[0] == ["a" * 10, "b" * 10, "c" * 10]
    assert tables.as_table(columns, [row], 33).split() == ["a", "b", "a" * 10, "b" * 10]
    assert tables.as_table(columns, [row], 21).split() == ["a", "a" * 10]


def test_a_table_is_aligned_under_its_titles() -> None:
    assert tables.as_table(COLUMNS, [ROW, {"name": "x", "vms": 10}], 80) == (
        "name     at                    VMs  takes\n"
        "nightly  2026-03-02T10:15:00Z    3  90 s\n"
        "x        -                      10  -\n"
    )


class Ascii(io.TextIOWrapper):
    """Standard output in the locale C."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii", newline="")


def test_what_the_terminal_cannot_show_is_escaped() -> None:
    out = Ascii()
    tables.write(COLUMNS, [{"name": "\u6771"}], form(), out)
    assert out.buffer.getvalue() == b"\\u6771\t-\t-\t-\n"  # type: ignore[attr-defined]


def test_a_full_disk_is_one_clear_line() -> None:
    code = (
        "import argparse, sys\n"
        "from vmss.cli import tables\n"
        "from vmss.core.problem import Problem\n"
        "try:\n"
        "    rows = [{'a': 'x' * 100}] * 1000\n"
        "    tables.write([tables.Column('a', 'a')], rows, argparse.Namespace(form=''), sys.stdout)\n"
        "except Problem as problem:\n"
        "    print(problem, file=sys.stderr)\n"
        "    sys.exit(problem.status)\n"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), stdout=full, stderr=subprocess.PIPE)
    assert done.stderr == b"standard output: cannot be written: No space left on device\n"
    assert done.returncode == 2
