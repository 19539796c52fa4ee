"""SIGTERM and SIGINT as a request to stop: what runs may end, nothing new is started."""

import os
import signal
from typing import Optional

_requested = False
_pipe: Optional[int] = None


def install() -> None:
    """Let SIGTERM and SIGINT ask this process to stop. They interrupt a sleep, never a call to XAPI."""
    global _pipe
    if _pipe is None:
        # A signal writes to this pipe, so that a sleep can wait for one: a sleep that is merely interrupted
        # would be taken up again by Python (PEP 475).
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
    """Whether we have been asked to stop."""
    return _requested


def wakeup() -> Optional[int]:
    """A file descriptor that becomes readable when a signal arrives; None where none is handled."""
    return _pipe
