"""Pins of scheduled snapshots: which snapshot somebody means, and the key that xapi has for a pin."""

import re
from typing import Callable, Sequence, Tuple

from vmss.core.problem import BadInput
from vmss.core.text import one_line, quoted

# The operation that is blocked, a key of blocked_operations; its value is the reason.
KEY = "destroy"
WITHOUT_REASON = "pinned by vmss"

# The beginning of a uuid, in lower case. Fewer characters are too easily another word.
_BEGINNING = r"[0-9a-f-]{4,36}\Z"
_NAMED_MAX = 5


def may_begin_uuid(wanted: str) -> bool:
    """Whether a word may be the beginning of a uuid."""
    return bool(re.match(_BEGINNING, wanted.lower()))


def index_of(known: Sequence[Tuple[str, str]], wanted: str, vm_of: Callable[[int], str]) -> int:
    """Given the uuids and names of scheduled snapshots, return the index of the wanted one: by its uuid in any case, by
    its name, or by the beginning of its uuid. Raise BadInput where there is none, or more than one, which `vm_of` tells
    apart: the name of the VM of one. A run gives all of its snapshots the same name."""
    lower = wanted.lower()
    found = [index for index, (uuid, _) in enumerate(known) if uuid.lower() == lower]
    found = found or [index for index, (_, name) in enumerate(known) if name == wanted != ""]
    if not found and may_begin_uuid(lower):
        found = [index for index, (uuid, _) in enumerate(known) if uuid.lower().startswith(lower)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInput("no scheduled snapshot of this pool is called %s: vmss plan lists them" % quoted(wanted))
    some = ", ".join("%s (of %s)" % (known[at][0], one_line(vm_of(at), 80)) for at in found[:_NAMED_MAX])
    more = len(found) - _NAMED_MAX
    raise BadInput(
        "%d scheduled snapshots are called %s; give the uuid of one: %s%s"
        % (len(found), quoted(wanted), some, " and %d more" % more if more > 0 else "")
    )
