"""Text from outside: made safe for one line of a log, a terminal or an alert; the forms of uuids and references."""

import re
import unicodedata
from typing import Any

# Categories of characters that could break a line or change how the text around them is shown: control characters,
# format characters (right-to-left marks among them), lone surrogates, line and paragraph separators.
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_REFERENCE = re.compile(r"OpaqueRef:(?!NULL\Z)[0-9A-Za-z-]+\Z")


def one_line(text: str, length_max: int = 2000) -> str:
    """Given any text, return it on one line in valid UTF-8: unsafe characters are escaped, and a text of more than
    `length_max` characters loses its middle."""
    if len(text) > length_max:
        kept = max(0, length_max - 3)
        text = text[: kept - kept // 2] + "..."[:length_max] + text[len(text) - kept // 2 :]
    if text.isprintable():  # nearly always, and much faster
        return text
    return "".join(
        _escaped(character) if unicodedata.category(character) in _UNSAFE else character for character in text
    )


def _escaped(character: str) -> str:
    code = ord(character)
    return "\\x%02x" % code if code < 0x100 else "\\u%04x" % code if code < 0x10000 else "\\U%08x" % code


def quoted(value: Any) -> str:
    """Given a value of any type, return it for a message: short, on one line, in single quotes."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # a number with thousands of digits, lists nested without an end
        text = "a value that cannot be shown"
    return "'%s'" % one_line(text, 80)


def is_uuid(text: Any) -> bool:
    """Whether a value has the form of a uuid, as XAPI writes it."""
    return isinstance(text, str) and bool(_UUID.match(text))


def is_reference(value: Any) -> bool:
    """Whether a value has the form of a reference to an object of XAPI, and is not the null one."""
    return isinstance(value, str) and bool(_REFERENCE.match(value))
