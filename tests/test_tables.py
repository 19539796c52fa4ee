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

from vmss.cli import colour, layout, tables
from vmss.cli.commands_in_text import pieces
from vmss.cli.layout import Column, width_of

UTC = timezone.utc
ROOT = Path(__file__).resolve().parent.parent
AT = datetime(2026, 3, 2, 10, 15, tzinfo=UTC)

COLUMNS = [
    Column("name", "name"),
    Column("at", "at"),
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
    assert safe(layout.table(COLUMNS, rows, 60).replace("\n", ""))


@given(
    st.lists(st.text(alphabet=st.sampled_from("ab \u6771\u4eac\u0301="), max_size=200), min_size=1, max_size=4),
    st.integers(60, 120),
)
def test_a_table_fits_the_terminal_and_a_text_that_flows_loses_nothing(names: List[str], width: int) -> None:
    columns = [Column("vms", "VMs", right=True), Column("uuid", "uuid"), Column("name", "name", least=10, flows=True)]
    table = layout.table(columns, [{"name": name, "vms": 1, "uuid": "x" * 36} for name in names], width)
    assert all(width_of(line) <= width for line in table.splitlines())
    told = "".join(table.split()).replace("x" * 36, "").replace("1", "")
    assert told == "VMsuuidname" + "".join("".join((name or "-").split()) for name in names)


@given(
    st.lists(st.text(alphabet=st.sampled_from("ab \u6771\u4eac\u0301="), max_size=200), min_size=1, max_size=4),
    st.integers(10, 120),
)
def test_a_table_has_one_line_for_each_row_however_narrow_it_is(names: List[str], width: int) -> None:
    columns = [
        Column("name", "name", least=12),
        Column("at", "at", gives=[(1, lambda at: "today")]),
        Column("vms", "V"),
    ]
    lines = layout.table(columns, [{"name": name, "at": AT, "vms": 1} for name in names], width).splitlines()
    assert len(lines) == len(names) + 1 and all(width_of(line) <= width for line in lines)


def test_what_is_given_up_where_there_is_no_room_has_its_turn() -> None:
    columns = [
        Column("a", "a", least=4),
        Column("b", "b", gives=[(2, lambda text: text[:5]), (3, None)]),
        Column("c", "c", gives=[(1, None)]),
    ]
    row = {"a": "a" * 10, "b": "b" * 10, "c": "c" * 10}

    def cells(width: int) -> List[str]:
        return layout.table(columns, [row], width).splitlines()[1].split()

    assert cells(34) == ["a" * 10, "b" * 10, "c" * 10]
    assert cells(28) == ["aa\u2026a", "b" * 10, "c" * 10]
    assert cells(27) == ["a" * 10, "b" * 10]
    assert cells(15) == ["aaaa\u2026aaa", "bbbbb"]
    assert cells(10) == ["a" * 10]
    assert cells(9) == ["aaaa\u2026aaaa"]


def test_a_text_is_cut_in_its_middle_to_the_cell() -> None:
    assert layout.shortened("customer-web-01", 9, "\u2026") == "cust\u2026b-01"
    assert layout.shortened("customer-web-01", 9, "...") == "cus...-01"
    assert layout.shortened("customer", 8, "\u2026") == "customer"
    assert layout.shortened("\u6771\u4eac\u6771\u4eac", 5, "\u2026") == "\u6771\u2026\u4eac"


@pytest.mark.parametrize(
    "text, command",
    [
        ("keep fewer (vmss xe vmss-param-set retained-snapshots=N uuid=SCHEDULE), or extend it",
         "(vmss xe vmss-param-set retained-snapshots=N uuid=SCHEDULE),"),
        ("tells why; snapshot the VMs now: vmss run --policy 60fc47fa-3f8b-1baa-4715-8a7e4ba44898 --missing",
         "vmss run --policy 60fc47fa-3f8b-1baa-4715-8a7e4ba44898 --missing"),
        ("vmss history 60fc47fa-3f8b-1baa-4715-8a7e4ba44898 tells why",
         "vmss history 60fc47fa-3f8b-1baa-4715-8a7e4ba44898"),
        ("find it: xe task-list. If it is slow", "xe task-list."),
        ("see whether xapi runs: systemctl status xapi; VMSS_XAPI says", "systemctl status xapi;"),
        ("then xe vm-shutdown force=true uuid=UUID, then", "xe vm-shutdown force=true uuid=UUID,"),
        ("remove it: rm '/etc/cron.d/a b' and go on", "rm '/etc/cron.d/a b'"),
    ],
)  # fmt: skip
def test_a_command_line_is_not_broken(text: str, command: str) -> None:
    assert command in pieces(text) and " ".join(pieces(text)) == text
    for width in (20, 40, 60):
        assert [line for line in layout.lines(text, width) if command in line]


def test_colour_is_there_by_the_usual_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, pipe = io.StringIO(), io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert colour.wanted("auto", terminal) and colour.wanted("always", pipe)
    assert not colour.wanted("auto", pipe) and not colour.wanted("never", terminal)
    monkeypatch.setenv("NO_COLOR", "")
    assert colour.wanted("auto", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.wanted("auto", terminal) and colour.wanted("always", terminal)
    monkeypatch.delenv("NO_COLOR")
    for term in ("dumb", None):
        monkeypatch.setenv("TERM", term) if term else monkeypatch.delenv("TERM")
        assert not colour.wanted("auto", terminal)


def test_a_table_is_aligned_under_its_titles() -> None:
    assert layout.table(COLUMNS, [ROW, {"name": "x", "vms": 10}], 80) == (
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
    terminal = Ascii()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    tables.write([*COLUMNS[:1], COLUMNS[2]], [{"name": "\u6771", "vms": 1}], form("--color", "never"), terminal)
    assert terminal.buffer.getvalue() == b"name    VMs\n\\u6771    1\n"  # type: ignore[attr-defined]


def test_a_full_disk_is_one_clear_line() -> None:
    code = (
        "import argparse, sys\n"
        "from vmss.cli import tables\n"
        "from vmss.cli.layout import Column\n"
        "from vmss.core.problem import Problem\n"
        "try:\n"
        "    rows = [{'a': 'x' * 100}] * 1000\n"
        "    tables.write([Column('a', 'a')], rows, argparse.Namespace(form='', color='never'), sys.stdout)\n"
        "except Problem as problem:\n"
        "    print(problem, file=sys.stderr)\n"
        "    sys.exit(problem.status)\n"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), stdout=full, stderr=subprocess.PIPE)
    assert done.stderr == b"standard output: cannot be written: No space left on device\n"
    assert done.returncode == 2
