"""The errors of the commands of xe, as lines for the user; the exit status is always 1, as with xe."""

from typing import Callable, List, Sequence

from vmss.core.failures import CATALOGUE
from vmss.core.frequencies import DAYS, FREQUENCIES, MINUTES
from vmss.core.problem import EXIT_FAILED, Problem
from vmss.core.text import one_line
from vmss.edges.xapi import Refused
from vmss.xe.parameters import PARAMETERS

# The sentences of errors that only a command can meet, or that it words otherwise; the others are in the catalogue.
SENTENCES = {
    "INTERNAL_ERROR": "xapi has an internal error: see /var/log/xensource.log on the coordinator",
    "INVALID_VALUE": "This value is not allowed",
    "LICENCE_RESTRICTION": "The licence of the pool does not include this",
    "MAP_DUPLICATE_KEY": "The map has this key already: remove it first, or use param-set",
    "RBAC_PERMISSION_DENIED": "The user's role does not allow this",
    "UUID_INVALID": "There is no object of this type with this uuid",
    "VMSS_HAS_VM": "The snapshot schedule still has VMs: take each off it with vm-param-set snapshot-schedule=",
    "XENAPI_PLUGIN_FAILURE": "The plugin reports a failure",
}

# The values that xapi allows, by the field of INVALID_VALUE (docs/xapi-facts.md, Keys of a schedule).
ALLOWED = {
    "retained_snapshots": "1 to 10",
    "schedule:min": "%s or %d" % (", ".join(map(str, MINUTES[:-1])), MINUTES[-1]),
    "schedule:hour": "0 to 23",
    "schedule:days": "%s; several with commas between, each once" % ", ".join(DAYS),
}
# What each frequency reads of the map `schedule`.
KEYS = "; ".join(
    "%s (%s)" % (name, ", ".join(key.name for key in frequency.keys)) for name, frequency in FREQUENCIES.items()
)


class XeError(Problem):
    """Bad input, or an object that does not exist."""

    status = EXIT_FAILED


class UsageError(XeError):
    """The command is unknown, or lacks a parameter."""

    def __str__(self) -> str:
        return "%s\nFor usage run: vmss xe help" % self.args[0]


def failed(text: str) -> XeError:
    """The error with this text, in the form that xe gives its own."""
    return XeError("Error: " + text)


def error_lines(refused: Refused, name: Callable[[str], str]) -> List[str]:
    """Given an error of xapi, return its lines: a sentence with its code, then each parameter with its name.

    `name` returns the name of the object of a reference, and any other text as it is.
    """
    code, params = refused.code, refused.error[1:]
    if code == "SESSION_AUTHENTICATION_FAILED":
        return ["Authentication failed: wrong user name or password"]
    allowed = _allowed(params[0]) if code == "INVALID_VALUE" and len(params) > 1 else []
    sentence = SENTENCES.get(code) or (CATALOGUE[code].sentence if code in CATALOGUE else "xapi refuses this")
    return (
        ["%s (%s)" % (sentence, code)]
        + ["%s: %s" % (label, one_line(name(value))) for label, value in zip(_labels(code, params), params)]
        + allowed
    )


def _allowed(field: str) -> List[str]:
    """The line with the values that a field may have, if it is one of a schedule's."""
    if field in ALLOWED:
        return ["allowed: " + ALLOWED[field]]
    return ["allowed keys: " + KEYS] if field.partition(":")[0] == "schedule" else []


def _labels(code: str, params: Sequence[str]) -> List[str]:
    """The name of each parameter; `parameter` for one that xapi's data model does not name."""
    labels = list(PARAMETERS.get(code, ()))
    return labels + ["parameter"] * (len(params) - len(labels))
