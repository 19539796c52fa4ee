"""What passes keep for one another: their notes are read when a pass has to do with them, for most ticks have not."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Optional, Sequence

from vmss.core.policy import CHECKPOINT
from vmss.core.served import Served
from vmss.edges.lock import LockDirectory
from vmss.edges.scheduled import scheduled_vms
from vmss.passes.context import Context
from vmss.passes.journal import Journal

if TYPE_CHECKING:
    from vmss.passes.frozen import FrozenVms
    from vmss.passes.hooks import Hooks
    from vmss.passes.left_over import LeftOver
    from vmss.passes.notes import Notes
    from vmss.passes.unplaced import Unplaced


# A snapshot that was cancelled, and has not begun for so long, is not expected to begin any more: else a task that xapi
# has forgotten to end would keep its VM from being served for ever.
_BEGINS_WITHIN = timedelta(hours=1)


class Kept:
    """The snapshots under way, the VMs that checkpoints may have left suspended, and what is left over. `at_once`: what
    could not be deleted is tried again whatever its pause. `tasks`: those of earlier passes that do not say yet of
    which VM they take a snapshot."""

    def __init__(
        self, context: Context, directory: LockDirectory, journal: Journal, at_once: bool, tasks: Sequence[str]
    ) -> None:
        self._context = context
        self._directory = directory
        self._journal = journal
        self._at_once = at_once
        self._tasks = tasks
        self._notes: Optional[Notes] = None
        self._frozen: Optional[FrozenVms] = None
        self._left_over: Optional[LeftOver] = None
        self._hooks: Optional[Hooks] = None

    @property
    def hooks(self) -> "Hooks":
        """The administrator's programs before and after snapshots, and what a pass that died has left of them."""
        from vmss.passes.hooks import Hooks

        self._hooks = self._hooks or Hooks(self._context, self._directory)
        return self._hooks

    def end_hooks(self, result: str) -> None:
        """At the end of a pass: carry out the hooks after what was begun, and wait for them."""
        if self._hooks is not None:
            self._hooks.finish(result)

    @property
    def notes(self) -> "Notes":
        """The notes of snapshots under way."""
        from vmss.passes.notes import Notes

        self._notes = self._notes or Notes(self._directory, self._context.pool, self._context.log)
        return self._notes

    @property
    def frozen(self) -> "FrozenVms":
        """The VMs that checkpoints may have left suspended."""
        from vmss.passes.frozen import FrozenVms

        self._frozen = self._frozen or FrozenVms(self._context, self._directory)
        return self._frozen

    @property
    def unplaced(self) -> "Unplaced":
        """The snapshots of earlier passes that are under way, and did not say of which VM they are."""
        from vmss.passes.unplaced import Unplaced

        settings, now = self._context.settings, self._context.clock.now()
        longest = max(_BEGINS_WITHIN, timedelta(seconds=settings.snapshot_limit + settings.cancel_limit))
        earlier = [it for it in self.notes.earlier if abs(now - it.since) < longest] if self._tasks else []
        return Unplaced(self._context.xapi, self._tasks, earlier)

    @property
    def left_over(self) -> "LeftOver":
        """What is left over."""
        from vmss.passes.left_over import LeftOver

        context = self._context
        self._left_over = self._left_over or LeftOver(context.xapi, context.pool, self._journal, self._at_once)
        return self._left_over

    def expect_attempts(self, since: datetime) -> None:
        """A pass that was at work since then has died, and its notes are not here: it may have begun a snapshot of each
        VM that is on a schedule."""
        self.notes.adopt(scheduled_vms(self._context.xapi), since)

    def share(self) -> None:
        """At the end of a pass: what is left of the notes goes where other hosts see it."""
        if self._notes is not None:
            self._notes.share(self._context.xapi, self._context.pool)

    def write_again(self) -> None:
        """Somebody has removed the lock, and with it perhaps the notes beside it: write them again."""
        self.notes.keep()
        self.frozen.keep()
        self.hooks.keep()

    def save(self, runs: Sequence[Served]) -> None:
        """Write down what is left over, after these runs."""
        if any(served.turn.policy.type == CHECKPOINT and served.victims for served in runs):
            from vmss.passes.orphans import find_memory

            find_memory(self._context, self.left_over)  # a checkpoint that failed may have left it
        if self._left_over is not None:
            self._left_over.save()
