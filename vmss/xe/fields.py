"""The fields of xapi's objects: how xe names, prints and parses them. Pure."""

import re
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from vmss.core.ocaml import parse_int
from vmss.core.text import quoted
from vmss.xe.errors import failed

NOT_IN_DATABASE = "<not in database>"

ONE, LIST, SET, TABLE, MAP = range(5)  # LIST and TABLE are printed like SET and MAP, but cannot be changed
ALWAYS, COSTLY, HIDDEN = range(3)  # a field that is slow to read is left out of lists, a hidden one out of all output


class Kind(NamedTuple):
    """The conversion of values to text and back; `parse` gets the name of the field for its errors."""

    show: Callable[[Any], str]
    parse: Callable[[str, str], Any]


class Field(NamedTuple):
    """One field: its source, its kind, and whether it can be set.

    `member` is a member of the record; with a dot, a member of a second record to which the first refers; with
    brackets at its end, a method of the class. `made` makes the value instead, of the session, the reference and the
    record. `of` is the class of references, of which `named` shows the name. `missing` is shown if there is no value.
    `adds` is what the methods that change a set are named after.
    """

    name: str
    member: str
    kind: Kind
    holds: int = ONE
    writable: bool = False
    of: str = ""
    named: bool = False
    made: Optional[Callable[[Any, str, Mapping[str, Any]], Any]] = None
    seen: int = ALWAYS
    deprecated: bool = False
    missing: str = NOT_IN_DATABASE
    between: str = "; "
    adds: str = ""

    @property
    def label(self) -> str:
        """The name as it stands in front of a value."""
        letters = {SET: "S", MAP: "M"}.get(self.holds, " ")
        mark = " [DEPRECATED]" if self.deprecated else ""
        return "%s (%s%s)%s" % (self.name, letters, "RW" if self.writable else "RO", mark)


def _number(name: str, text: str) -> str:
    try:
        return str(parse_int(text))
    except ValueError:
        raise failed("Parameter '%s' has to be an integer of 64 bits, not %s" % (name, quoted(text)))


def _bytes(name: str, text: str) -> str:
    match = re.match(r"([0-9]{1,18})(|bytes|KiB|MiB|GiB|TiB)\Z", text)
    if not match:
        raise failed(
            "Parameter '%s' has to be a number of bytes, perhaps with KiB, MiB, GiB or "
            "TiB, not %s" % (name, quoted(text))
        )
    return str(int(match.group(1)) << {"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}.get(match.group(2), 0))


def _real(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise failed("Parameter '%s' has to be a number, not %s" % (name, quoted(text)))


def _boolean(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise failed("Parameter '%s' has to be a boolean (true or false), not %s" % (name, quoted(text)))
    return text == "true"


def _as_it_is(name: str, text: str) -> str:
    return text


TEXT = Kind(str, _as_it_is)
LINES = Kind(str, _as_it_is)  # a text that may have several lines
INTEGER = Kind(str, _number)
BYTES = Kind(str, _bytes)
REAL = Kind(lambda value: "%.3f" % value, _real)
BOOLEAN = Kind(lambda value: str(value).lower() if isinstance(value, bool) else str(value), _boolean)
QUOTED = Kind(lambda value: "'%s'" % value, _as_it_is)


def choice(*values: str) -> Kind:
    """The kind of a field with one of these values."""
    return worded({value: value for value in values})


def worded(words: Mapping[str, str], exactly: bool = True) -> Kind:
    """The kind of a field whose values xe shows in these words; not `exactly`: it takes them in any case, and the
    values themselves."""
    known: Dict[str, str] = {word: value for value, word in words.items()}
    if not exactly:
        known = {word.lower(): value for value, word in words.items()}
        known.update((value, value) for value in words)

    def parse(name: str, text: str) -> str:
        value = known.get(text if exactly else text.lower())
        if value is None:
            raise failed(
                "Parameter '%s' has to be one of %s, not %s"
                % (name, ", ".join("'%s'" % word for word in words.values()), quoted(text))
            )
        return value

    return Kind(lambda value: words.get(str(value), str(value)), parse)


def find(fields: Mapping[str, Field], name: str) -> Tuple[Field, Optional[str]]:
    """Given the fields by name, and the name of a filter or a parameter, return its field; and the key, if the name
    has one: FIELD:KEY, or in the old form FIELD-KEY. Raise XeError."""
    if name in fields:
        return fields[name], None
    head, colon, key = name.partition(":")
    if colon:
        if head not in fields:
            raise failed("Unknown field %s" % quoted(name))
        if fields[head].holds not in (SET, MAP):
            raise failed("Field %s is not a set or map" % quoted(head))
        return fields[head], key
    for holds in (MAP, SET):
        meant = [field for field in fields.values() if field.holds == holds and name.startswith(field.name + "-")]
        if meant:
            longest = max(meant, key=lambda field: len(field.name))
            return longest, name[len(longest.name) + 1 :]
    raise failed("Unknown field %s" % quoted(name))
