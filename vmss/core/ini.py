"""The text of the settings file: its entries, and its mistakes, which repeat nothing of it but names of settings."""

import re
from typing import Dict, List, NamedTuple, Tuple

_COMMENTS = ("#", ";")
# No more than this is repeated of any file: what has the form of a setting's name, below the line [vmss].
_ENTRY = re.compile(r"([A-Za-z][A-Za-z_]{0,39})[ \t]*[=:][ \t]*(.*)\Z")


class Entry(NamedTuple):
    """A value, with the number of its line."""

    line: int
    text: str


def entries(text: str, section: str) -> Tuple[Dict[str, Entry], List[str]]:
    """Given the text, return the entries below the line [section] by their names in lower case, and the mistakes.

    A file may be named by somebody who may not read it: a mistake tells the line and the name, never what stands there.
    """
    found: Dict[str, Entry] = {}
    mistakes: List[str] = []
    header, inside = "[%s]" % section, False
    outside = False  # whether the lines are those of another section, which is told once
    for number, line in enumerate((line.strip() for line in text.split("\n")), 1):
        if not line or line.startswith(_COMMENTS):
            continue
        entry = _ENTRY.match(line)
        name = entry.group(1).lower() if entry else ""
        if line.startswith("["):
            inside, outside = line == header, line != header
            if outside:
                mistakes.append("line %d: the only section is %s" % (number, header))
        elif outside:
            continue
        elif not inside:
            outside = True
            mistakes.append("line %d: is not below a line %s" % (number, header))
        elif entry is None:
            mistakes.append("line %d: is not NAME = VALUE" % number)
        elif name in found:
            mistakes.append("line %d: %s is set in line %d already" % (number, name, found[name].line))
        else:
            found[name] = Entry(number, entry.group(2))
    return found, mistakes
