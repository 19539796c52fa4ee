"""Tags of a VM that are meant for us: they begin with `vmss:`. Whoever may start a VM may write its tags."""

from typing import AbstractSet, FrozenSet

PREFIX = "vmss:"
# The VM is on no schedule on purpose.
NONE = PREFIX + "none"
# What stands behind the prefix and names no schedule; the last is the beginning of a rule.
_WORDS, _RULE = ("none", "no-memory", "only-running"), "keep="


def named(tags: AbstractSet[str]) -> FrozenSet[str]:
    """The names of schedules that these tags name."""
    names = (tag[len(PREFIX) :] for tag in tags if tag.startswith(PREFIX))
    return frozenset(name for name in names if name not in _WORDS and not name.startswith(_RULE))
