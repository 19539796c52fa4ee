"""Colour on a terminal: whether there is any, by the rules that other programs follow, and how a text gets it."""

import argparse
import os
from typing import TextIO

AUTO, ALWAYS, NEVER = CHOICES = ("auto", "always", "never")

# The styles, each with its escape sequence (ECMA-48, SGR).
_CODES = {"red": "31", "yellow": "33", "green": "32", "bold": "1"}

_STYLES = {
    "failed": "red",
    "error": "red",
    "CRITICAL": "red",
    "warning": "yellow",
    "missed": "yellow",
    "WARNING": "yellow",
    "UNKNOWN": "yellow",
    "succeeded": "green",
    "OK": "green",
}


def add_option(parser: argparse.ArgumentParser) -> None:
    """Give a command the option --color."""
    parser.add_argument(
        "--color",
        choices=CHOICES,
        default=AUTO,
        help="colour: on a terminal unless NO_COLOR is set (auto, the default), always, or never",
    )


def wanted(choice: str, out: TextIO) -> bool:
    """Whether what is printed there gets colour, by the option. Without one: on a terminal that knows colours, unless
    NO_COLOR is set (https://no-color.org)."""
    if choice != AUTO:
        return choice == ALWAYS
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def painted(text: str, style: str) -> str:
    """A text in a style; as it is if that is empty."""
    return "\x1b[%sm%s\x1b[0m" % (_CODES[style], text) if style and text else text


def of_result(value: object) -> str:
    """The style of a result, or of a state: by what stands before the first colon."""
    return _STYLES.get(str(value).split(":")[0], "")
