"""Names of schedules, VMs and snapshots within a sentence: short, and on one line."""

from typing import Sequence

from vmss.core import words
from vmss.core.policy import Policy
from vmss.core.text import one_line, quoted

# A longer list ends with the number of the others.
_NAMES_MAX = 5


def first_names(names: Sequence[str]) -> str:
    """The first five names, and how many more there are: `a, b, c, d, e and 4 more`."""
    more = ["%d more" % (len(names) - _NAMES_MAX)] if len(names) > _NAMES_MAX else []
    return words.listed([one_line(name, 60) for name in names[:_NAMES_MAX]] + more)


def called(policy: Policy) -> str:
    """The name of a policy in quotes; its uuid if it has no name."""
    return quoted(policy.name or policy.uuid)
