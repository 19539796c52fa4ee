"""SIGTERM and SIGINT as a request to stop: operations in flight may end, and no new one is started."""

import os
import signal
from typing import Optional

_requested = False
_pipe: Optional[int] = None


def install() -> None:
    """Make SIGTERM and SIGINT a request to stop. They end a sleep early, and never interrupt a call to XAPI."""
    global _pipe
    if _pipe is None:
        # A signal writes to this pipe, and a sleep waits until it is readable: Python resumes a sleep that a signal
        # merely interrupts (PEP 475).
        _pipe, end = os.pipe()
        os.set_blocking(_pipe, False)
        os.set_blocking(end, False)
        signal.set_wakeup_fd(end)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _request)


def _request(number: int, frame: object) -> None:
    global _requested
    _requested = True


def requested() -> bool:
    """Whether this process has been asked to stop."""
    return _requested


def wakeup() -> Optional[int]:
    """A file descriptor that becomes readable when a signal arrives; None if signals are not handled."""
    return _pipe
