"""What the schedules do not cover, as information, which is no fault; and tags that cannot be followed, which are."""

from typing import Iterator

from vmss.core.coverage import UNSCHEDULED
from vmss.insight import coverage, tags
from vmss.insight.case import Case
from vmss.insight.findings import OK, Finding
from vmss.insight.names import first_names


def check(case: Case) -> Iterator[Finding]:
    """Which VMs are covered, and which snapshots no run deletes."""
    found = coverage.examine(case.open, case.entries, case.vms, case.fitness)[0]
    text = found.headline(case.now)
    names = [row.vm or row.uuid for row in found.rows if row.what == UNSCHEDULED]
    if names:
        text += "; without a schedule: %s" % first_names(names)
    yield Finding(OK, "coverage", text + ("; vmss coverage lists them" if found.rows else ""))


def of_tags(case: Case) -> Iterator[Finding]:
    """Whether each tag that names a schedule can be followed, if that is asked for."""
    found = tags.findings(case.open, case.known, everywhere=True)
    yield from found
    if not found:
        on = case.open.settings.assign_by_tag
        yield Finding(OK, "tags", "every tag that names a schedule is followed" if on else "assign_by_tag is no")
