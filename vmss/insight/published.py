"""A pass, and after its end the file with metrics, if there is to be one.

By then the lock is given back and the session closed: whatever becomes of the file, no snapshot fails or waits for it.
"""

from vmss.core.problem import EXIT_FAILED, EXIT_OK, Problem
from vmss.edges.clock import Clock
from vmss.edges.surroundings import Surroundings
from vmss.passes import run as passes
from vmss.passes.request import Report, Request


def run(request: Request, around: Surroundings) -> Report:
    """Carry out one pass. Raise a Problem if it could not begin."""
    if not around.settings.metrics_file or request.dry_run:
        return passes.run(request, around)
    from vmss.insight import metrics_writer  # most pools have no such file

    tick = (around.clock or Clock()).now() if request.kicked else None
    try:
        report = passes.run(request, around)
    except Problem as problem:
        metrics_writer.write(around, tick, problem.status, metrics_writer.NOTHING)
        raise
    told = report.status in (EXIT_OK, EXIT_FAILED)  # else another pass is at work, and tells at its end
    what = metrics_writer.NOTHING if not told else metrics_writer.OLD if report.idle else metrics_writer.ALL
    metrics_writer.write(around, tick, report.status, what)
    return report
