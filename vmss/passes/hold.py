"""Whether a pass still holds its lock, and what it does if somebody has removed it.

It acquires it anew, and goes on: its sign in xapi (vmss/passes/at_work.py) keeps others from working meanwhile. As long
as that is not possible it starts nothing, for another pass may have the lock; after a minute it ends, as though it had
been told to stop. The next pass goes on with the rest, as after a kill.
"""

from typing import Optional

from vmss.edges.lock import Lock
from vmss.passes.context import Context
from vmss.passes.kept import Kept

# The seconds in which another pass that has got the lock sees the sign, and gives the lock back.
WITHOUT_LOCK_S = 60.0
# The pause between two attempts to acquire it, in seconds.
PAUSE_S = 1.0


class Hold:
    """Watches one lock, and the notes beside it. `lost`: it could not be acquired again in time."""

    def __init__(self, context: Context, lock: Lock, kept: Kept) -> None:
        self.lost = False
        self._context = context
        self._lock = lock
        self._kept = kept
        self._since: Optional[float] = None  # without the lock, on the monotonic clock

    def is_firm(self) -> bool:
        """Whether the pass holds its lock, perhaps again. As long as it does not, nothing may be started."""
        if self._lock.is_held():
            self._since = None
            return True
        now = self._context.clock.monotonic()
        if self._since is None:
            self._since = now
            self._context.log("Somebody has removed the lock while this pass is at work: it is acquired again")
        if self._lock.hold_again():
            self._since = None
            self._kept.write_again()
            return True
        self.lost = now >= self._since + WITHOUT_LOCK_S
        return False
