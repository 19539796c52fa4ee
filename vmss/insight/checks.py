"""The checks of `vmss doctor`, in the order of the vendor's article CTX224169, and carrying them out.

A check is a function from a case to findings, in the module of its group, and an entry in CHECKS.
"""

from typing import Callable, Iterator, List, NamedTuple, Tuple

from vmss.core.text import one_line
from vmss.edges.lock_folder import LockError
from vmss.edges.surroundings import Surroundings
from vmss.edges.xapi import Refused, Unanswered, understood
from vmss.insight import (
    checks_of_alerts,
    checks_of_chains,
    checks_of_coverage,
    checks_of_dates,
    checks_of_hooks,
    checks_of_installation,
    checks_of_passes,
    checks_of_receivers,
    checks_of_schedules,
    checks_of_storage,
    checks_of_xapi,
)
from vmss.insight.case import Case, opened
from vmss.insight.findings import UNKNOWN, Finding, skipped
from vmss.installation.root import Root


class Check(NamedTuple):
    """One check: its name, and the function that gives its findings. `needs` is DOM0, SESSION, or nothing."""

    name: str
    findings: Callable[[Case], Iterator[Finding]]
    needs: str = ""


DOM0, SESSION = "dom0", "session"

CHECKS: Tuple[Check, ...] = (
    # XAPI, the plugin and the cron job: the three parts of the feature.
    Check("settings", checks_of_xapi.settings),
    Check("xapi", checks_of_xapi.xapi),
    Check("licence", checks_of_xapi.licence, SESSION),
    Check("coordinator", checks_of_installation.coordinator, DOM0),
    Check("plugin", checks_of_installation.plugin, DOM0),
    Check("cron entry", checks_of_installation.cron_entry, DOM0),
    Check("cron", checks_of_installation.cron, DOM0),
    Check("cron log", checks_of_installation.cron_log, DOM0),
    Check("tick", checks_of_passes.tick),
    Check("hooks", checks_of_hooks.hooks, DOM0),
    Check("receivers", checks_of_receivers.receivers, DOM0),
    # What the log says; one pass at a time.
    Check("log", checks_of_passes.log),
    Check("lock", checks_of_passes.lock, SESSION),
    Check("clock", checks_of_xapi.clock, SESSION),
    Check("time zone", checks_of_xapi.time_zone, SESSION),
    Check("dates", checks_of_dates.dates, SESSION),
    Check("alerts", checks_of_alerts.alerts, SESSION),
    # Schedules, and how they fared.
    Check("schedules", checks_of_schedules.schedules, SESSION),
    Check("clashes", checks_of_schedules.clashes, SESSION),
    Check("last run", checks_of_schedules.last_run, SESSION),
    Check("suspended VMs", checks_of_passes.suspended_vms, SESSION),
    # What keeps snapshots from being taken, and from being deleted.
    Check("VMs", checks_of_storage.vms, SESSION),
    Check("coverage", checks_of_coverage.check, SESSION),
    Check("tags", checks_of_coverage.of_tags, SESSION),
    Check("storage", checks_of_storage.storage, SESSION),
    Check("chains", checks_of_chains.lengths, SESSION),
    Check("retention", checks_of_storage.retention, SESSION),
    Check("disks", checks_of_storage.disks, SESSION),
    Check("left over", checks_of_passes.left_over, SESSION),
    Check("left by passes", checks_of_passes.leftovers, SESSION),
)


def examine(
    around: Surroundings, root: Root, dom0: bool, begins: Callable[[str], None] = lambda check: None
) -> Tuple[List[Finding], bool]:
    """All findings, in the order of the checks; and whether there was a session. `begins` is called with the name of
    each check as it begins."""
    found: List[Finding] = []
    with opened(around, root, dom0) as case:
        for check in CHECKS:
            begins(check.name)
            found += _carried_out(check, case)
        return found, case.session is not None


def _carried_out(check: Check, case: Case) -> Iterator[Finding]:
    """The findings of a check, or why it could not be carried out."""
    if check.needs == DOM0 and not case.dom0:
        yield skipped(check.name, "this is not dom0: xapi is at %s" % one_line(case.where.xapi))
        return
    if check.needs == SESSION and case.session is None:
        yield skipped(check.name, "there is no session with xapi")
        return
    try:
        with understood(check.name):
            yield from check.findings(case)
    except (Refused, Unanswered, LockError, OSError) as error:
        yield Finding(
            UNKNOWN,
            check.name,
            "this could not be checked: %s" % one_line(str(error), 300),
            "",
            "see /var/log/xensource.log, and try again: vmss doctor",
        )
