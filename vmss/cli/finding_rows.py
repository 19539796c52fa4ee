"""Findings as rows and as a screen for people, and the exit status: what `vmss status` and `vmss doctor` share."""

from typing import Any, Dict, Iterator, List, Sequence, Tuple

from vmss.cli import colour, layout
from vmss.cli.layout import Column
from vmss.core.text import one_line
from vmss.insight.findings import NOT_CHECKED, STATES, Finding, ordered

STATUS = """exit status, as for monitoring plug-ins:
  0  all well        1  a warning
  2  critical        3  unknown: no session with xapi, for one"""

_LENGTH_MAX = 1000  # upper limit on a text of a finding
_WIDTH_LEAST = 30  # lower limit on the width of the texts beside the states


def columns() -> List[Column]:
    """The columns of a finding."""
    return [
        Column("state", "state"),
        Column("check", "check"),
        Column("text", "finding"),
        Column("evidence", "evidence"),
        Column("remedy", "what to do"),
    ]


def rows(findings: Sequence[Finding]) -> List[Dict[str, Any]]:
    """The findings by the keys of their columns, the worst first."""
    return [dict(finding._asdict(), state=finding.state) for finding in ordered(findings)]


def verdict(severity: int, said: str, width: int, coloured: bool) -> str:
    """The state of all findings together, and what is said of it."""
    state = "VMSS %s" % STATES[severity]
    lines = layout.lines(one_line("%s: %s" % (state, said), _LENGTH_MAX), width)
    style = colour.of_result(STATES[severity]) if coloured else ""
    return "".join(line + "\n" for line in lines).replace(state, colour.painted(state, style), 1)


def screen(findings: Sequence[Finding], width: int, coloured: bool) -> str:
    """The findings for people, the worst first: each with its evidence and its remedy on lines of their own; what could
    not be checked last, together as far as the reason is the same."""
    indent = max([len(finding.state) for finding in findings], default=0) + 2
    text = ""
    for state, sentences in [*map(_parts, _checked(findings)), *_not_checked(findings)]:
        style = colour.of_result(state) if coloured else ""
        margin = colour.painted(state, style) + " " * (indent - len(state))
        for sentence in sentences:
            for line in layout.lines(one_line(sentence, _LENGTH_MAX), max(_WIDTH_LEAST, width - indent)):
                text += margin + line + "\n"
                margin = " " * indent
    return text


def _checked(findings: Sequence[Finding]) -> List[Finding]:
    return [finding for finding in ordered(findings) if not finding.skipped]


def _parts(finding: Finding) -> Tuple[str, List[str]]:
    """The state of a finding, and what is said of it."""
    said = ["%s: %s" % (finding.check, finding.text)]
    if finding.severity and finding.evidence:
        said.append("shown by: %s" % finding.evidence)
    if finding.severity and finding.remedy:
        said.append("what to do: %s" % finding.remedy)
    return finding.state, said


def _not_checked(findings: Sequence[Finding]) -> Iterator[Tuple[str, List[str]]]:
    """The checks that could not be carried out, by the reason."""
    checks: Dict[str, List[str]] = {}
    for finding in findings:
        if finding.skipped:
            checks.setdefault(finding.text, []).append(finding.check)
    for reason, names in checks.items():
        yield NOT_CHECKED, ["%s: %s" % (", ".join(names), reason)]
