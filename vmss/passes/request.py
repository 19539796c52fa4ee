"""What a pass is asked for, and how it ended."""

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence, Tuple

from vmss.core.problem import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from vmss.core.pruning import Prune, Pruned
    from vmss.core.rehearsed import Listing, Rehearsal
    from vmss.core.served import Served


class Request(NamedTuple):
    """What a pass is asked for: one policy (its uuid, its name or the beginning of its uuid), whatever its schedule, or
    all that are due; or, with `prune`, to delete snapshots and to take none.

    `missing`: of that policy, only VMs that have no snapshot of the latest slot.

    `dry_run`: say what would be done, and change nothing. `at`: set a simulator's clock to this first; with `dry_run`,
    decide as if it were the present; without a zone it is the coordinator's wall clock. `kicked`: cron started it.
    """

    policy: Optional[str] = None
    dry_run: bool = False
    at: Optional[datetime] = None
    kicked: bool = False
    missing: bool = False
    prune: Optional["Prune"] = None


class Report(NamedTuple):
    """How a pass ended: its exit status, one line for people, and the runs of the policies that it served. What came of
    a request to delete snapshots; what its rehearsal lists; what a rehearsal of runs says. `idle`: it had nothing to
    do, and has changed nothing."""

    status: int
    line: str
    served: "Tuple[Served, ...]" = ()
    pruned: Optional["Pruned"] = None
    listing: Optional["Listing"] = None
    rehearsal: Optional["Rehearsal"] = None
    idle: bool = False

    @property
    def listed(self) -> Tuple[str, ...]:
        """The uuids of the snapshots that a request to delete would delete."""
        return tuple(one.uuid for one in self.listing.snapshots) if self.listing else ()


def ended(
    runs: "Tuple[Served, ...]",
    pruned: "Optional[Pruned]",
    complete: bool,
    idle: bool,
    progress: str,
    interrupted: "Sequence[Served]",
) -> Report:
    """The report of a pass that held the lock, given the runs that it has told, and what came of deletions on request.

    `complete`: all came to its end; else `progress` says how far it came, and `interrupted` has the runs that were not
    over. `idle`: there was nothing to do.
    """
    if pruned is not None:
        from vmss.passes.pruning import outcome

        failed, line = outcome(pruned, runs, complete, progress)
        return Report(EXIT_FAILED if failed else EXIT_OK, line, runs, pruned)
    if complete and not runs:
        return Report(EXIT_OK, "no schedule is due", idle=idle)
    from vmss.core.served import stopped_line, totals  # not needed by an idle tick

    if not complete:
        told = [served for served in runs if not served.stopped]
        return Report(EXIT_FAILED, stopped_line(progress, told + list(interrupted)), runs)
    return Report(EXIT_FAILED if any(served.victims for served in runs) else EXIT_OK, totals(runs), runs)
