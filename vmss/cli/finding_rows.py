"""Findings as rows, and the exit status that follows from them: what `vmss status` and `vmss doctor` share."""

from typing import Any, Dict, List, Sequence

from vmss.cli import colour
from vmss.cli.layout import Column
from vmss.insight.findings import Finding

STATUS = """exit status, as for monitoring plug-ins:
  0  all well        1  a warning
  2  critical        3  unknown: no session with xapi, for one"""


def columns() -> List[Column]:
    """The columns of a finding."""
    return [
        Column("state", "state", style=colour.of_result),
        Column("check", "check"),
        Column("text", "finding", least=30, flows=True),
        Column("evidence", "evidence", least=30, flows=True),
        Column("remedy", "what to do", least=30, flows=True),
    ]


def rows(findings: Sequence[Finding]) -> List[Dict[str, Any]]:
    """The findings by the keys of their columns."""
    return [dict(finding._asdict(), state=finding.state) for finding in findings]
