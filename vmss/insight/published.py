"""A pass, and after its end what others are to know of it: metrics, receivers elsewhere, and the daily report.

By then the lock is given back and the session closed: whatever becomes of these, no snapshot fails or waits for them.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Optional

from vmss.core.problem import EXIT_FAILED, EXIT_OK, Problem
from vmss.edges import stop
from vmss.edges.clock import Clock
from vmss.edges.surroundings import Surroundings
from vmss.passes import run as passes
from vmss.passes.request import Report, Request

if TYPE_CHECKING:
    from vmss.insight.notifying import Notifier


def run(request: Request, around: Surroundings) -> Report:
    """Carry out one pass. Raise a Problem if it could not begin."""
    settings = around.settings
    reports = settings.report_file or settings.report_mail
    if request.dry_run or not (settings.metrics_file or settings.ping_url or settings.webhook_url or reports):
        return passes.run(request, around)
    publisher = _Publisher(request, around)
    try:
        report = passes.run(request, publisher.around)
    except Problem as problem:
        publisher.publish(problem.status)
        raise
    publisher.publish(report.status, report)
    return report


class _Publisher:
    """Tells of one pass. What it needs is loaded before: an upgrade may put another version's modules in their places.

    `around` are the surroundings of the pass.
    """

    def __init__(self, request: Request, around: Surroundings) -> None:
        self.around = around
        self._tick: Optional[datetime] = (around.clock or Clock()).now() if request.kicked else None
        self._notifier: Optional[Notifier] = None
        if around.settings.metrics_file:
            from vmss.insight import metrics_writer  # most pools have no such file

            self._metrics = metrics_writer
        if around.settings.report_file or around.settings.report_mail:
            from vmss.insight import daily_report  # most pools have none

            self._daily_report = daily_report
        if around.settings.webhook_url or (around.settings.ping_url and request.kicked):
            from vmss.insight import notifying  # most pools have no receiver

            self._notifier = notifying.Notifier(around, request.kicked)
            self.around = self._notifier.surroundings()

    def publish(self, status: int, report: Optional[Report] = None) -> None:
        """Tell how it ended."""
        if self._notifier is not None:
            self._notifier.finish(status)
        self._publish_metrics(status, report)
        settings = self.around.settings
        if (settings.report_file or settings.report_mail) and status in (EXIT_OK, EXIT_FAILED) and not stop.requested():
            self._daily_report.make(self.around)

    def _publish_metrics(self, status: int, report: Optional[Report]) -> None:
        if self.around.settings.metrics_file:
            told = report is not None and status in (EXIT_OK, EXIT_FAILED)  # else another pass is at work, and tells
            idle = report is not None and report.idle
            metrics = self._metrics
            what = metrics.NOTHING if not told else metrics.OLD if idle else metrics.ALL
            metrics.write(self.around, self._tick, status, what)
