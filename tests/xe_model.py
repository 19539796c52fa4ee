"""Makes vmss/xe/model.py, what `vmss xe` has to know of xapi's data model: `python -m tests.xe_model
>vmss/xe/model.py`."""

import json
import re
import textwrap
from typing import Any, Dict, Iterator, List

from tests.documents import ROOT
from vmss.xe.names import CLASSES, SECOND_RECORDS

DATA_MODEL = ROOT / "vmss" / "simulator" / "datamodel.json"

HEAD = '''"""What xapi's data model says of the classes of `vmss xe`. Made by `python -m tests.xe_model`, not by hand.

A reference does not tell its class over the API, nor a number that it is one, so that the records alone are not enough.
"""

from typing import Dict

# By class, each member of a record with its type. Behind it stands = if a method sets it, + if one adds to it.
MEMBERS: Dict[str, str] = {
%s}

# The values of the enumerations in them.
ENUMS: Dict[str, str] = {
%s}
'''


def text() -> str:
    model = json.loads(DATA_MODEL.read_text("utf-8"))
    names = sorted({cls.api for cls in CLASSES} | set(SECOND_RECORDS.values()))
    members = {name: list(_members(model["classes"][name])) for name in names}
    used = set(re.findall(r"enum (\w+)", json.dumps(members)))
    enums = {name: [", ".join(values)] for name, values in sorted(model["enums"].items()) if name in used}
    return HEAD % (_table(members), _table(enums))


def _members(cls: Dict[str, Any]) -> Iterator[str]:
    """The members of a class's records; what only xapi itself may set counts as read-only."""
    methods = {
        method["name"]: len(method["params"])
        for method in cls["methods"]
        if method["roles"] != "LOCAL_ROOT_ONLY" and not method.get("removed")
    }
    for field in cls["fields"]:
        if field["internal_only"]:
            continue
        name = field["name"]
        sets = "=" * (methods.get("set_" + name) == 3)
        adds = "+" * bool(methods.get("add_to_" + name) or methods.get("add_" + name))
        yield "%s %s%s%s" % (name, field["type"].replace(",", ", "), sets, adds)


def _table(rows: Dict[str, List[str]]) -> str:
    out = ""
    for name, items in rows.items():
        lines = textwrap.wrap("; ".join(items), 109, break_on_hyphens=False)
        quoted = ['"%s"' % (line + " " * (line is not lines[-1])) for line in lines]
        if len(quoted) == 1 and len(name) + len(quoted[0]) < 110:
            out += '    "%s": %s,\n' % (name, quoted[0])
        else:
            out += '    "%s": (\n%s    ),\n' % (name, "".join("        %s\n" % line for line in quoted))
    return out


if __name__ == "__main__":
    print(text(), end="")
