"""How the text of a setting is read: each form raises ValueError with the rule, which repeats nothing of the text."""

import os
import re
from typing import Callable, Optional

from vmss.edges.zones import time_zone

_HOST = r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)"
# No user before the host, no blank, no fragment, nothing that is not ASCII.
_HTTPS = re.compile(r"https://%s(:[0-9]{1,5})?([/?][!\"$-~]*)?\Z" % _HOST)
# What stands in a URL for another character is %XX, a colon and an @ in a password for instance (RFC 3986, 3.2.1).
_USER = r"([0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+"
_PROXY = re.compile(r"http://(%s:%s@)?%s:[0-9]{1,5}/?\Z" % (_USER, _USER, _HOST))


def number(low: int, high: int) -> Callable[[str], int]:
    """A whole number within these limits."""

    def parse(text: str) -> int:
        if not re.match(r"[0-9]{1,9}\Z", text):
            raise ValueError("is not a whole number from %d to %d" % (low, high))
        if not low <= int(text) <= high:
            raise ValueError("is not within %d to %d" % (low, high))
        return int(text)

    return parse


def number_or_empty(low: int, high: int) -> Callable[[str], Optional[int]]:
    """The same, or nothing."""
    parse = number(low, high)
    return lambda text: parse(text) if text else None


def choice(*choices: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError("is not one of %s" % ", ".join(choices))
        return text

    return parse


def boolean(text: str) -> bool:
    """Yes or no."""
    if text.lower() not in ("yes", "no", "true", "false"):
        raise ValueError("is neither yes nor no")
    return text.lower() in ("yes", "true")


def zone(text: str) -> str:
    """The name of a time zone, or nothing."""
    try:
        time_zone(text or None)
    except ValueError:
        raise ValueError("is not the name of a time zone, such as Europe/London")
    return text


def keep(text: str) -> str:
    """A rule of vmss.core.thinning, or nothing."""
    if text:
        from vmss.core.thinning import read  # most pools have no such setting

        read(text)
    return text


def path(text: str) -> str:
    """An absolute path, or nothing."""
    if text and not os.path.isabs(text):
        raise ValueError("is not an absolute path")
    return text


def https_url(text: str) -> str:
    """An https URL, or nothing. The rule repeats none of it: it carries a token."""
    port = int((re.match(r"https://[^/?]*:([0-9]+)([/?]|\Z)", text) or ["", "443"])[1])
    if text and not (len(text) <= 2000 and _HTTPS.match(text) and 0 < port < 65536):
        raise ValueError("is not https://HOST or https://HOST:PORT with a path, in ASCII and without a user")
    return text


def proxy(text: str) -> str:
    """The address of an HTTP proxy, or nothing. The rule repeats none of it: it may carry a password."""
    if text and not _PROXY.match(text):
        raise ValueError("is not http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")
    return text


def reserve(text: str) -> str:
    """A reserve of vmss.core.room."""
    from vmss.core.room import parse_reserve  # most pools have none

    parse_reserve(text)
    return text


def prefixes(text: str) -> str:
    """Marks in brackets, with which names begin. Any other word could be the beginning of many names: a mistyped one
    must not leave out half a pool."""
    if not all(re.match(r"\[[A-Za-z0-9_-]{1,30}\]\Z", prefix) for prefix in text.split()):
        raise ValueError("has a word that is no mark in brackets, such as [NOSNAP]")
    return text
