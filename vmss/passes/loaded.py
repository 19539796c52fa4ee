"""Loads all modules that a pass may import: an upgrade, while it is at work, puts another version's in their places."""

import os
from contextlib import suppress
from functools import lru_cache

import vmss.core
import vmss.edges
import vmss.passes

# The floors that a pass is made of.
_PACKAGES = (vmss.core, vmss.edges, vmss.passes)


@lru_cache(maxsize=None)  # once in a process
def load_all() -> None:
    """Load them. It is for passes that have something to do, and may last: an idle tick has ended by then."""
    for package in _PACKAGES:
        for name in sorted(os.listdir(os.path.dirname(str(package.__file__)))):
            if name.endswith(".py") and not name.startswith("_"):
                # One of another version may not go with what is loaded already, and then is none that this one needs.
                with suppress(ImportError, AttributeError, SyntaxError):
                    __import__("%s.%s" % (package.__name__, name[: -len(".py")]))
