"""The clock of a pass: the coordinator's time, a monotonic time for timeouts, and sleeping."""

import os
import select
import time
from datetime import datetime, timedelta, timezone

from vmss.edges.stop import wakeup

UTC = timezone.utc


class Clock:
    """The clock of this machine, which is the coordinator's if this is its dom0."""

    def now(self) -> datetime:
        """The current instant, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds on a scale that is never set back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep; a signal that asks this process to stop ends it early."""
        pipe = wakeup()
        if pipe is None:
            time.sleep(max(0.0, seconds))
        elif select.select([pipe], [], [], max(0.0, seconds))[0]:
            os.read(pipe, 1024)


class RemoteClock(Clock):
    """The clock of a remote server: the time that it answered once, carried on with the local monotonic time."""

    def __init__(self, servertime: datetime) -> None:
        self._servertime = servertime
        self._since = time.monotonic()

    def now(self) -> datetime:
        return self._servertime + timedelta(seconds=time.monotonic() - self._since)
