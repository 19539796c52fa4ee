"""The output of xe: records with their labels in a column, or with --minimal one line for a script. Pure.

See docs/xapi-facts.md, How xe prints.
"""

from typing import List, NamedTuple, Sequence, Tuple

Row = Sequence[Tuple[str, str]]


class Output(NamedTuple):
    """The output of a command: records, perhaps each with a title, or lines."""

    rows: Tuple[Row, ...] = ()
    lines: Tuple[str, ...] = ()
    titles: Tuple[str, ...] = ()


def render(output: Output, minimal: bool) -> str:
    """The output as text: in full, or minimal, which is the first value of each record on one line."""
    if minimal:
        firsts = [row[0][1] for row in output.rows if row]
        return ",".join(_escaped(text) for text in firsts + list(output.lines)) + "\n"
    records = [_record(row) + "\n" for row in output.rows]
    if output.titles:
        records = ["%s\n%s" % pair for pair in zip(output.titles, records)]
    return "".join(text + "\n" for text in records + list(output.lines))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,")


def _record(row: Row) -> str:
    width = 4 + max([len(label) for label, _ in row], default=0)
    lines: List[str] = []
    for label, value in row:
        lines.append("%s: %s" % (label.rjust(width) if lines else label.ljust(width), value))
    return "\n".join(lines) + "\n"
