"""Findings together: the worst is the state of all, and the summary names it first."""

from vmss.insight.findings import CRITICAL, OK, UNKNOWN, WARNING, Finding, summary, worst


def test_the_worst_is_the_state_of_all() -> None:
    def state(*severities: int) -> int:
        return worst([Finding(severity, "x", "y") for severity in severities])

    assert state() == state(OK, OK) == OK
    assert state(OK, UNKNOWN) == UNKNOWN
    assert state(UNKNOWN, WARNING, OK) == WARNING
    assert state(WARNING, CRITICAL, UNKNOWN) == CRITICAL


def test_a_summary_names_the_worst_first_and_counts_the_rest() -> None:
    found = [Finding(OK, "x", "fine")] + [Finding(WARNING, "x", "w%d" % number) for number in range(4)]
    found.append(Finding(CRITICAL, "x", "c"))
    assert summary(found, "all is well") == "c; w0; w1; and 2 more"
    assert summary(found[:1], "all is well") == "all is well"
