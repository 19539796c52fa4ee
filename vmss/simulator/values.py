"""Values of the data model's types: checks of values from clients, and the texts that the database compares.

A type is written as in datamodel.json: string, int, float, bool, datetime, "enum NAME", "ref CLASS",
"record CLASS", "set(T)", "map(K,V)", "option(T)". Texts of failures are those of the OCaml RPC library
(ocaml-rpc: src/lib/rpc.ml, ppx/ppx_deriving_rpc.ml).
"""

import calendar
import re
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, List, Tuple

from .errors import internal_error, type_failure

Converter = Callable[[Any], Any]

NULL = "OpaqueRef:NULL"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class DateText(str):
    """The text of a dateTime element; it is parsed only where a datetime is expected."""


class Count(int):
    """An int that is sent as a real XML-RPC int (valid_ref_counts of event.from; nothing else)."""


# The prefix of a base is followed by a digit, not by an underscore (OCaml: runtime/ints.c).
_INT = re.compile(
    r"([-+]?)(0[xX][0-9a-fA-F][0-9a-fA-F_]*|0[oO][0-7][0-7_]*|0[bB][01][01_]*|0[uU][0-9][0-9_]*|[0-9][0-9_]*)\Z"
)
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(Z|[+-]\d\d:?\d\d)?$")
_BASES = {"x": 16, "o": 8, "b": 2, "u": 10}


def ocaml_int(text: str) -> int:
    """Given a number in OCaml's syntax, return it; raise ValueError otherwise."""
    match = _INT.match(text)
    if match is None:
        raise ValueError(text)
    sign, digits = match.groups()
    base = _BASES.get(digits[1:2].lower(), 10)
    number = int((digits[2:] if digits[1:2].isalpha() else digits).replace("_", ""), base)
    number = -number if sign == "-" else number
    if not -(1 << 63) <= number < (1 << 63):
        raise ValueError(text)
    return number


def describe(value: Any) -> str:
    """The value as the RPC library prints it inside a type failure."""
    if value is None:
        return "N"
    if isinstance(value, bool):
        return "B(%s)" % str(value).lower()
    if isinstance(value, int):
        return "I(%d)" % value
    if isinstance(value, float):
        return "F(%s)" % float_text(value)
    if isinstance(value, DateText):
        return "D(%s)" % value
    if isinstance(value, str):
        return "S(%s)" % value
    if isinstance(value, datetime):
        return "D(%s)" % date_text(value)
    if isinstance(value, dict):
        return "{%s}" % ";".join("%s:%s" % (key, describe(item)) for key, item in value.items())
    return "[%s]" % ";".join(describe(item) for item in value)


def float_text(value: float) -> str:
    return "%.16g" % value


def date_text(value: datetime) -> str:
    """A datetime as xapi prints it: whole seconds, with Z, with the offset that it has, or with neither."""
    day, time = (value.year, value.month, value.day), (value.hour, value.minute, value.second)
    text = "%04d%02d%02dT%02d:%02d:%02d" % (*day, *time)
    if value.tzinfo is timezone.utc:
        return text + "Z"
    offset = value.utcoffset()
    if offset is None:
        return text
    if not offset:
        return text + "Z"
    minutes = int(offset.total_seconds()) // 60
    return text + ("-" if minutes < 0 else "+") + "%02d:%02d" % divmod(abs(minutes), 60)


def parse_date(text: str) -> datetime:
    """Read a date as xapi does; without a zone it is UTC, an offset is kept (ocaml/libs/clock/date.ml)."""
    match = _DATE.match(text)
    if match is None or match.group(7):
        # A fraction is in the format, but the released parser refuses it: seen on xapi 26.17.
        raise internal_error("Invalid argument: Clock__Date.of_iso8601: %s" % text)
    zone = timezone.utc
    offset = match.group(8)
    if offset and offset != "Z":
        delta = timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:]))
        zone = timezone(-delta if offset[0] == "-" else delta)
    try:
        year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
        return datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError:
        raise internal_error("Invalid argument: Clock__Date.of_iso8601: %s" % text)


def from_seconds(seconds: float) -> datetime:
    """Seconds since the epoch as a UTC datetime in whole seconds, as every time in a record is."""
    return EPOCH + timedelta(seconds=int(seconds))


def to_seconds(value: datetime) -> float:
    return calendar.timegm(value.utctimetuple()) + value.microsecond / 1e6


def to_string(value: Any) -> str:
    if isinstance(value, str) and not isinstance(value, DateText):
        return value
    raise type_failure("Expected string, got '%s'" % describe(value))


def to_int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return ocaml_int(value)
        except ValueError:
            raise type_failure("Int64.of_string")
    raise type_failure("Expected int64, got '%s'" % describe(value))


def to_float(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise type_failure("float_of_string")
    raise type_failure("Expected float, got '%s'" % describe(value))


def to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise type_failure("Expected bool, got '%s'" % describe(value))


def to_datetime(value: Any) -> datetime:
    if isinstance(value, str):
        return parse_date(value)
    if isinstance(value, datetime):
        whole = value.replace(microsecond=0)
        return whole if whole.tzinfo is not None else whole.replace(tzinfo=timezone.utc)
    raise type_failure("Date.t_of_rpc")


def to_anything(value: Any) -> Any:
    return value


def enum_converter(values: List[str]) -> Converter:
    """Enums are matched without regard to case and kept in their canonical spelling."""
    canonical = {value.lower(): value for value in values}

    def to_enum(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in canonical:
            raise type_failure("Unknown tag/contents")
        return canonical[value.lower()]

    return to_enum


def set_converter(item: Converter) -> Converter:
    def to_set(value: Any) -> List[Any]:
        if not isinstance(value, (list, tuple)):
            raise type_failure("Expecting Rpc.Enum, but found '%s'" % describe(value))
        return [item(element) for element in value]

    return to_set


def map_converter(key: Converter, item: Converter) -> Converter:
    def to_map(value: Any) -> Dict[Any, Any]:
        if not isinstance(value, dict):
            raise type_failure("Expecting Rpc.Dict, but found '%s'" % describe(value))
        return {key(name): item(element) for name, element in value.items()}

    return to_map


def split_map(type_name: str) -> Tuple[str, str]:
    """Given "map(K,V)", return K and V; K never holds a comma."""
    key, value = type_name[4:-1].split(",", 1)
    return key, value


_SIMPLE: Dict[str, Converter] = {
    "string": to_string,
    "int": to_int,
    "float": to_float,
    "bool": to_bool,
    "datetime": to_datetime,
}


class Types:
    """Converters for every type of the data model, made once each."""

    def __init__(self, enums: Dict[str, List[str]]) -> None:
        self.enums = enums
        self._made: Dict[str, Converter] = dict(_SIMPLE)

    def converter(self, type_name: str) -> Converter:
        """The function that checks a client's value of this type and returns it as it is stored."""
        if type_name not in self._made:
            self._made[type_name] = self._make(type_name)
        return self._made[type_name]

    def _make(self, type_name: str) -> Converter:
        if type_name.startswith("enum "):
            return enum_converter(self.enums[type_name[5:]])
        if type_name.startswith("ref "):
            return to_string
        if type_name.startswith("set("):
            return set_converter(self.converter(type_name[4:-1]))
        if type_name.startswith("map("):
            key, item = split_map(type_name)
            return map_converter(self.converter(key), self.converter(item))
        if type_name.startswith("option("):
            return self.converter(type_name[7:-1])
        return to_anything

    def empty(self, type_name: str) -> Any:
        """The value that a field without a default has until it is set."""
        if type_name.startswith("ref "):
            return NULL
        if type_name.startswith("set("):
            return []
        if type_name.startswith("map("):
            return {}
        if type_name.startswith("enum "):
            return self.enums[type_name[5:]][0]
        return {"int": 0, "float": 0.0, "bool": False, "datetime": EPOCH}.get(type_name, "")


def quoted(text: str) -> str:
    """A text inside an S-expression."""
    return "'%s'" % text.replace("\\", "\\\\").replace("'", "\\'")


def stored_text(value: Any) -> str:
    """The value as the text that the database stores and that queries compare (xapi: ocaml/database/)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, datetime):
        return date_text(value)
    if isinstance(value, dict):
        pairs = ("(%s %s)" % (quoted(stored_text(k)), quoted(stored_text(v))) for k, v in value.items())
        return "(%s)" % " ".join(pairs)
    return "(%s)" % " ".join(quoted(stored_text(item)) for item in value)


# --- reading stored texts ---

_WORD = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|([()]))")


def _words(text: str) -> List[Tuple[str, str]]:
    """The lexemes of an S-expression: ("word", text) or ("sign", one of the brackets)."""
    words: List[Tuple[str, str]] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _WORD.match(text, position)
        if match is None:
            raise ValueError(text)
        word, sign = match.groups()
        words.append(("sign", sign) if sign else ("word", re.sub(r"\\(.)", r"\1", word)))
        position = match.end()
    return words


def read_set(text: str) -> List[str]:
    """Given "('a' 'b')", return the texts; raise ValueError otherwise."""
    words = _words(text)
    if words[:1] != [("sign", "(")] or words[-1:] != [("sign", ")")] or ("sign", "(") in words[1:]:
        raise ValueError(text)
    return [word for _, word in words[1:-1]]


def read_map(text: str) -> Dict[str, str]:
    """Given "(('k' 'v') ('l' 'w'))", return the pairs; raise ValueError otherwise."""
    words = _words(text)
    inner = words[1:-1]
    if words[:1] != [("sign", "(")] or words[-1:] != [("sign", ")")] or len(inner) % 4:
        raise ValueError(text)
    pairs = [inner[start : start + 4] for start in range(0, len(inner), 4)]
    if any([kind for kind, _ in pair] != ["sign", "word", "word", "sign"] for pair in pairs):
        raise ValueError(text)
    return {pair[1][1]: pair[2][1] for pair in pairs}


def read_stored(text: str, type_name: str) -> Any:
    """The value behind a stored text, as a client would send it."""
    if type_name.startswith("map("):
        return read_map(text)
    if type_name.startswith("set("):
        return read_set(text)
    return text == "true" if type_name == "bool" else text
