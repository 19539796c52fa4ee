"""The judgements of `vmss doctor`, as functions of values: ticks, passes, storage, clocks, retention and complaints."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_promises import HOUR, MINUTE, NOW, UUID, moment, policy, quick
from vmss.core import messages
from vmss.core.retention import Keep, Snapshot
from vmss.insight import lock_and_log
from vmss.insight.checks_of_passes import complaints
from vmss.insight.checks_of_storage import beyond
from vmss.insight.checks_of_xapi import clocks
from vmss.insight.findings import CRITICAL, OK, UNKNOWN, WARNING
from vmss.insight.logfile import LogSummary, Seen


@pytest.mark.parametrize(
    "age, severity",
    [
        (0, OK),
        (15, OK),
        (30, OK),
        (31, WARNING),
        (60, WARNING),
        (61, CRITICAL),
        (100000, CRITICAL),
        (-1, OK),
        (-2, WARNING),
    ],
)
def test_ticks(age: int, severity: int) -> None:
    found = lock_and_log.last_tick(LogSummary("/log", tick=NOW - age * MINUTE), NOW)
    assert found.severity == severity and bool(found.remedy) == bool(severity)


@pytest.mark.parametrize(
    "log, severity",
    [
        (LogSummary("/log", "No such file or directory", True), WARNING),
        (LogSummary("/log", "Permission denied"), UNKNOWN),
        (LogSummary("/log"), WARNING),
    ],
)
def test_no_ticks(log: LogSummary, severity: int) -> None:
    assert lock_and_log.last_tick(log, NOW).severity == severity


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.none() | st.dictionaries(st.sampled_from(["pid", "since", "policies", "x"]), anything))
@quick
def test_any_holder_is_told(holder: Any) -> None:
    found = lock_and_log.running(holder, {}, "", 86400, NOW)
    assert found.severity in (OK, CRITICAL) and "\n" not in found.text


@pytest.mark.parametrize("hours, severity", [(1, OK), (24, OK), (25, CRITICAL)])
def test_a_pass_that_is_running(hours: int, severity: int) -> None:
    holder = {"pid": 7, "since": (NOW - hours * HOUR).strftime("%Y%m%dT%H:%M:%SZ"), "policies": [UUID]}
    found = lock_and_log.running(holder, {UUID: "nightly"}, "1 of 3 VMs has its snapshot", 86400, NOW)
    assert found.severity == severity and "'nightly', 1 of 3 VMs" in found.text


@pytest.mark.parametrize("seconds, severity", [(0, OK), (60, OK), (61, WARNING), (-61, WARNING)])
def test_clocks(seconds: int, severity: int) -> None:
    assert clocks(NOW, NOW + timedelta(seconds=seconds)).severity == severity


def test_snapshots_beyond_retention() -> None:
    snapshots = [Snapshot(str(number), str(number), NOW - number * HOUR) for number in range(3)]
    found = beyond(policy(), Keep(2), "vm", snapshots, NOW)
    assert found is not None and found.evidence == "expired: 2"
    assert found.text == "'vm' has 1 scheduled snapshot more than 'nightly' keeps"
    assert beyond(policy(), Keep(2), "vm", snapshots[:2], NOW) is None
    assert (
        beyond(policy(), Keep(2), "vm", [snapshots[0], snapshots[1], snapshots[2]._replace(pinned=True)], NOW) is None
    )


def test_complaints_are_warnings_for_a_day() -> None:
    for age, severity in ((HOUR, WARNING), (25 * HOUR, OK)):
        log = LogSummary("/log", complaints={messages.FAILED: Seen(3, NOW - age, "x" * 1000)})
        (found,) = complaints(log, NOW, moment)
        assert found.severity == severity and "lines: 3" in found.text and len(found.evidence) <= 200
