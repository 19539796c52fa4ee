"""Whether somebody takes what is written: a terminal may be halted, and a pipe have a reader that does not read."""

import select
from typing import Set

# The seconds in which a terminal or a pipe has to take a line.
TAKES_S = 5.0

_halted: Set[int] = set()


def takes(descriptor: int) -> bool:
    """Whether a descriptor takes a line. One that did not take the last is not waited for any more, until it does."""
    try:
        ready = select.select([], [descriptor], [], 0.0 if descriptor in _halted else TAKES_S)[1]
    except (OSError, ValueError):
        return True  # whoever writes learns what is wrong
    if ready:
        _halted.discard(descriptor)
    else:
        _halted.add(descriptor)
    return bool(ready)
