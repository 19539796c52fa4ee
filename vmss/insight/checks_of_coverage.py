"""What the schedules do not cover, as information: nothing of it is a fault, so no status changes."""

from typing import Iterator

from vmss.core.coverage import UNSCHEDULED
from vmss.insight import coverage
from vmss.insight.case import Case
from vmss.insight.findings import OK, Finding
from vmss.insight.names import first_names


def check(case: Case) -> Iterator[Finding]:
    """Which VMs are covered, and which snapshots no run deletes."""
    found = coverage.read(case.open)
    text = found.headline(case.now)
    names = [row.vm or row.uuid for row in found.rows if row.what == UNSCHEDULED]
    if names:
        text += "; without a schedule: %s" % first_names(names)
    yield Finding(OK, "coverage", text + ("; vmss coverage lists them" if found.rows else ""))
