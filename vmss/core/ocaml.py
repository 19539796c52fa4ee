"""Integers in the notation of OCaml, the language of xapi."""

import re
from typing import Any

from vmss.core.text import quoted

_INTEGER = re.compile(r"(?P<sign>[-+]?)(?P<base>0[xXoObBuU])?(?P<digits>[0-9a-fA-F][0-9a-fA-F_]*)\Z")
_BASES = {"0x": 16, "0o": 8, "0b": 2, "0u": 10}

# An integer of xapi has 64 bits: in base 2 a sign, two characters for the base and 64 digits.
_LENGTH_MAX = 67

# A number that xapi sends has at most the 20 characters of -2**63.
_SENT_LENGTH_MAX = 23


def parse_int(text: str) -> int:
    """Given an integer as OCaml's Int64.of_string reads one ("07", "0x7", "1_0"), return it.

    Raise ValueError for any other text, and for a number that has more than 64 bits.
    """
    match = _INTEGER.match(text) if len(text) <= _LENGTH_MAX else None
    if match is None:
        raise ValueError("%s is not a whole number" % quoted(text))
    base = _BASES[match.group("base").lower()] if match.group("base") else 10
    try:
        number = int(match.group("sign") + match.group("digits").replace("_", ""), base)
    except ValueError:  # a digit that the base does not have
        raise ValueError("%s is not a whole number" % quoted(text))
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError("%s has more than 64 bits" % quoted(text))
    return number


def read_int(value: Any, low: int, high: int) -> int:
    """Given an integer out of a record, which has it as text or as a number, return it.

    Raise ValueError, in one line with the value and the rule, unless it is within `low` to `high`. xapi checks some
    numbers with int_of_string and stores them as they were written, so the text may be in any notation of OCaml.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, str) and len(value) <= _SENT_LENGTH_MAX):
        raise ValueError("%s is not a whole number" % quoted(value))
    number = int(value) if whole else parse_int(value)
    if not low <= number <= high:
        raise ValueError("%s is not within %d to %d" % (quoted(value), low, high))
    return number
