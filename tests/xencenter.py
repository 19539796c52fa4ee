"""How XenCenter reads the body of an alert: written anew from what is known of its two parsers.

`current` is that of the last public version, `older` the one that it had before October 2020
(docs/xapi-facts.md, Bodies that XenCenter parses). Both give the VMs that failed.
"""

import re
from typing import List, NamedTuple, Tuple

# The names of class VMSS for which it has a sentence. It cannot show any other, nor the dialog in which it is.
KNOWS = (
    "VMSS_SNAPSHOT_SUCCEEDED",
    "VMSS_SNAPSHOT_FAILED",
    "VMSS_SNAPSHOT_LOCK_FAILED",
    "VMSS_SNAPSHOT_MISSED_EVENT",
    "VMSS_LICENSE_ERROR",
    "VMSS_XAPI_LOGON_FAILURE",
)

# Greedy, so the last mark and the last single quote count.
_LINE = re.compile(r"VM:(?P<name>.*)UUID:(?P<uuid>.*)Error:\[(?P<items>'.*')\],?")


class Failed(NamedTuple):
    """A VM that failed, as XenCenter shows it: it translates the code. `items` are the code and what follows it."""

    name: str
    uuid: str
    code: str
    items: Tuple[str, ...] = ()


def current(body: str) -> List[Failed]:
    """The VMs of a body of priority 1 or 2: each line that has the form is one, unless its code is empty."""
    found = []
    for line in re.split("\r\n|\r|\n", body):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        items = [item.strip().strip("'") for item in match.group("items").split(",") if item]
        if items[0]:
            name, uuid = match.group("name").strip(), match.group("uuid").strip()
            found.append(Failed(name, uuid, items[0], tuple(items)))
    return found


def older(body: str) -> List[Failed]:
    """The VMs of a body of any priority but 4: as many as there are marks `VM:` in the whole body. Raise IndexError,
    as that version of XenCenter does, where what it takes for granted is not there."""
    number = body.count("VM:")
    if not number:
        return []
    details = body.replace("\n", " ").split("Details:")[1]
    found = []
    for vm in details.split("VM:")[1:]:
        parts = vm.strip().split("Error:")
        named = parts[0].split("UUID:")
        errors = parts[1].replace("[", "").replace("],", "").replace("]", "")
        items = [item.replace("'", "").strip() for item in errors.split("',")]
        found.append(Failed(named[0].strip(), named[1].strip(), items[0], tuple(items)))
    # Its title has the number, its text the VMs.
    assert len(found) == number, (number, found)
    return found


def trouble_with(name: str, body: str) -> str:
    """What either version of XenCenter makes of a message of class VMSS that is wrong; empty if nothing is."""
    if name not in KNOWS:
        return "its dialog cannot show a message %s" % name
    try:
        first, second = ([vm[:3] for vm in parser(body)] for parser in (current, older))
    except (IndexError, AssertionError) as error:
        return "the older one fails: %r" % error
    return "" if first == second else "it shows %s, the older one %s" % (first, second)
