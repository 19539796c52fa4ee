"""A finding: the result of one check, with its evidence and a remedy; and a list of them as one state.

Unless all is well a finding has a remedy: a command, or a file to look into. The states are those of monitoring
plug-ins.
"""

from datetime import datetime
from typing import Callable, Iterable, List, NamedTuple, Sequence

from vmss.core.words import plural

OK, WARNING, CRITICAL, UNKNOWN = range(4)

STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
NOT_CHECKED = "not checked"

# The worst first. What cannot be determined weighs less than what is known to be wrong.
_ORDER = (CRITICAL, WARNING, UNKNOWN, OK)

# How an instant is shown to people.
Moment = Callable[[datetime], str]


class Finding(NamedTuple):
    """The result of one check, in one line. `skipped`: it could not be carried out here, and `text` says why."""

    severity: int
    check: str
    text: str
    evidence: str = ""
    remedy: str = ""
    skipped: bool = False

    @property
    def state(self) -> str:
        return NOT_CHECKED if self.skipped else STATES[self.severity]


def skipped(check: str, reason: str) -> Finding:
    """A check that cannot be carried out here."""
    return Finding(OK, check, reason, skipped=True)


def worst(findings: Iterable[Finding]) -> int:
    """The state of all findings together, which is the exit status."""
    return min((finding.severity for finding in findings), key=_ORDER.index, default=OK)


def ordered(findings: Iterable[Finding]) -> List[Finding]:
    """The findings, the worst first."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def counts(findings: Sequence[Finding], well: str) -> str:
    """How many findings there are of each state but OK, the worst first: `1 critical, 2 warnings`; `well` if there is
    none."""
    numbers = {state: sum(finding.severity == state for finding in findings) for state in _ORDER[:-1]}
    words = {CRITICAL: "critical", WARNING: plural(numbers[WARNING], "warning"), UNKNOWN: "unknown"}
    said = ["%d %s" % (number, words[state]) for state, number in numbers.items() if number]
    return ", ".join(said) or well


def summary(findings: Sequence[Finding], well: str) -> str:
    """The findings in one line: the three worst, and how many more there are; `well` if there is none."""
    bad = [finding for finding in ordered(findings) if finding.severity]
    if not bad:
        return well
    shown = "; ".join(finding.text for finding in bad[:3])
    return shown + ("; and %d more" % (len(bad) - 3) if len(bad) > 3 else "")
