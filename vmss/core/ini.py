"""The text of the settings file: its entries, and its mistakes, which repeat nothing of it but names of settings."""

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

_COMMENTS = ("#", ";")
# No more than this is repeated of any file: what has the form of a setting's name, below the line [vmss].
_ENTRY = re.compile(r"([A-Za-z][A-Za-z_]{0,39})[ \t]*[=:][ \t]*(.*)\Z")


class Entry(NamedTuple):
    """A value, with the number of its line."""

    line: int
    text: str


class Section(NamedTuple):
    """The entries by their names in lower case, below the line [SECTION:NAME], or [SECTION] if `name` is empty; `line`
    is the number of that line."""

    name: str
    line: int
    entries: Dict[str, Entry]


def sections(text: str, section: str) -> Tuple[List[Section], List[str]]:
    """Given the text, return the sections [section] and [section:NAME], the former first, also where the file does not
    have it, and the mistakes.

    A file may be named by somebody who may not read it: a mistake tells the line and the name of a setting, never what
    stands there.
    """
    found = {"": Section("", 0, {})}
    mistakes: List[str] = []
    header, inside = "[%s]" % section, ""
    at_all = False  # whether any line [section] or [section:NAME] has come
    outside = False  # whether the lines are those of another section, which is told once
    for number, line in enumerate((line.strip() for line in text.split("\n")), 1):
        if not line or line.startswith(_COMMENTS):
            continue
        entry = _ENTRY.match(line)
        key = entry.group(1).lower() if entry else ""
        if line.startswith("["):
            name = _name(line, section)
            outside = name is None
            if name is None:
                mistakes.append("line %d: the only sections are %s and [%s:SCHEDULE]" % (number, header, section))
            else:
                at_all, inside = True, name
                found.setdefault(name, Section(name, number, {}))
        elif outside:
            continue
        elif not at_all:
            outside = True
            mistakes.append("line %d: is not below a line %s" % (number, header))
        elif entry is None:
            mistakes.append("line %d: is not NAME = VALUE" % number)
        elif key in found[inside].entries:
            mistakes.append("line %d: %s is set in line %d already" % (number, key, found[inside].entries[key].line))
        else:
            found[inside].entries[key] = Entry(number, entry.group(2))
    return list(found.values()), mistakes


def _name(line: str, section: str) -> Optional[str]:
    """What a line names: the empty text for [section], NAME for [section:NAME], None for anything else."""
    if line == "[%s]" % section:
        return ""
    start = "[%s:" % section
    if line.startswith(start) and line.endswith("]"):
        return line[len(start) : -1].strip() or None
    return None
