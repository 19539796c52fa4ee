"""The syntax of xe's command line. Pure."""

import re
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from vmss.core.text import quoted
from vmss.xe.errors import UsageError, XeError, failed

Pairs = List[Tuple[str, str]]

# The parameters of the connection, by option. They can also be given as NAME=VALUE.
OPTIONS = {"-s": "server", "-h": "server", "-p": "port", "-u": "username", "-pw": "password", "-pwf": "passwordfile"}
_IGNORED = {"--debug", "--debug-on-fail"}

# Parameters that every command of xe has.
STANDARD = (
    "server",
    "password",
    "port",
    "username",
    "minimal",
    "force",
    "multiple",
    "all",
    "message-priority",
    "trace",
)

_TRUE = ("true", "t", "yes", "y", "1")
_FALSE = ("false", "f", "no", "n", "0")

# The characters that XML cannot carry.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Line(NamedTuple):
    """A command, its parameters in order, its words without `=`, and the parameters of the connection."""

    command: str = ""
    pairs: Tuple[Tuple[str, str], ...] = ()
    words: Tuple[str, ...] = ()
    login: Tuple[Tuple[str, str], ...] = ()
    help: bool = False

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a parameter; if it is given twice, the first value."""
        return next((value for key, value in self.pairs if key == name), default)

    def need(self, name: str) -> str:
        """The value of a required parameter. Raise UsageError."""
        value = self.get(name)
        if value is None:
            raise UsageError("The parameter %s is missing" % name)
        return str(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean parameter."""
        text = self.get(name)
        if text is None:
            return default
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise failed(
            "Parameter '%s' has to be one of %s, not %s"
            % (name, ",".join("'%s'" % word for pair in zip(_TRUE, _FALSE) for word in pair), quoted(text))
        )

    def map(self, name: str) -> Dict[str, str]:
        """The parameters NAME:KEY=VALUE, by KEY."""
        found: Dict[str, str] = {}
        for key, value in self.pairs:
            if key.startswith((name + ":", name + "-")) and len(key) > len(name) + 1:
                found.setdefault(key[len(name) + 1 :], value)
        return found

    def others(self, *names: str) -> Pairs:
        """The parameters other than these and the standard ones."""
        return [(key, value) for key, value in self.pairs if key not in names and key not in STANDARD]


def parse(words: Sequence[str]) -> Line:
    """Given the words after `xe`, return the command. Raise XeError or UsageError."""
    wants_help = any(word in ("-help", "--help") for word in words)
    login, rest = _login([word for word in words if word not in ("-help", "--help")])
    if not rest or wants_help:
        return Line(login=tuple(login), help=wants_help)
    command = rest[0]
    if command.startswith("-") or "=" in command:
        raise UsageError("Syntax error: %s instead of a command" % quoted(command))
    pairs: Pairs = []
    bare: List[str] = []
    for word in rest[1:]:
        _check(word)
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            pairs.append((name, value if equals else "true"))
        elif word.startswith("-") or not word.partition("=")[0]:
            raise UsageError("Syntax error: %s" % quoted(word))
        elif "=" in word:
            name, _, value = word.partition("=")
            pairs.append((name, value))
        elif command == "help":
            bare.append(word)
        else:
            raise UsageError("Syntax error: %s is not of the form NAME=VALUE" % quoted(word))
    return Line(command, tuple(pairs), tuple(bare), tuple(login))


def _login(words: Sequence[str]) -> Tuple[Pairs, List[str]]:
    """The parameters of the connection among the words, and the other words."""
    login: Pairs = []
    rest: List[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        if word in OPTIONS or word == "--traceparent":
            if not queue:
                raise UsageError("Syntax error: %s needs a value" % word)
            value = queue.pop(0)
            if word in OPTIONS:
                login.append((OPTIONS[word], value))
        elif word == "--nossl":
            raise XeError("--nossl: passwords are not sent without TLS")
        elif equals and name in OPTIONS.values():
            login.append((name, value))
        elif word not in _IGNORED:
            rest.append(word)
    return login, rest


def _check(word: str) -> None:
    bad = _NOT_XML.search(word)
    if bad:
        raise failed("%s has a character that XenAPI cannot carry: %s" % (quoted(word), quoted(bad.group())))
