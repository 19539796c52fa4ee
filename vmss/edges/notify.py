"""Requests to a receiver of pings or documents, which a child process carries out; and what is kept of them."""

import json
import os
import sys
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Sequence

from vmss.edges import notify_request
from vmss.edges.children import Child, look_after
from vmss.edges.lock import LockDirectory
from vmss.edges.settings import Settings
from vmss.edges.surroundings import PATH
from vmss.version import VERSION

# Upper limit in seconds on the answer to one request; and what each further document of one pass adds to that.
LIMIT_S = 10.0
_EACH_MORE = 1.0
# Pauses between two looks at the child processes, which wake this one when they end.
_PAUSE_S = 0.5
# Upper limit on the documents of one pass together, in bytes. A pipe of that size may be made.
_BYTES_MAX = 900 << 10

# The receivers, and the file beside the lock with how each has answered last.
PING, WEBHOOK = "ping", "webhook"
_OUTCOMES = "notified"
# The file with the slots that a webhook was told of.
_TOLD = ".told"
# Schedules that were deleted stay in it.
_TOLD_MAX = 5000


class Sending:
    """Requests to one receiver: one after another, each once, until one fails. A body of None is a ping.

    `taken` counts those that the receiver has taken. `trouble` says why not all, once it has ended.
    """

    def __init__(self, url: str, bodies: Sequence[Optional[str]], settings: Settings, limit_s: float) -> None:
        self.asked = len(bodies)
        self.taken = 0
        self._why = ""
        self._limit = limit_s
        bodies = list(_first(bodies))
        given = {
            "url": url,
            "bodies": bodies,
            "agent": "vmss/%s" % VERSION,
            "ca_file": settings.notify_ca_file,
            "proxy": settings.notify_proxy,
            "limit": limit_s,
        }
        limit_s += _EACH_MORE * max(0, len(bodies) - 1)
        command = [sys.executable or "/usr/bin/python3", "-I", os.path.abspath(notify_request.__file__)]
        self.child = Child(command, {"PATH": PATH}, limit_s, self._says, json.dumps(given).encode("ascii"))

    def _says(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "failed":
            self._why = rest
        elif not line.strip("."):
            self.taken += len(line)

    @property
    def trouble(self) -> str:
        """Why the receiver has not taken all; empty if it has."""
        if self._why or self.taken == self.asked:
            return self._why
        if self.child.trouble.startswith("exit status"):  # it prints whatever it likes, and that may have the URL
            return "the process that asks has failed"
        if not self.child.trouble:
            return "there were too many documents"
        if self.child.trouble.startswith("it cannot be started"):
            return self.child.trouble
        return "there is no answer within %d s" % max(1, round(self._limit))


def _first(bodies: Sequence[Optional[str]]) -> Iterator[Optional[str]]:
    """Those that are not too large together."""
    size = 0
    for body in bodies:
        size += len(body or "")
        if size <= _BYTES_MAX:
            yield body


def wait(sendings: Iterable[Sending]) -> None:
    """Wait until these have ended, which each does at its own limit."""
    under_way = list(sendings)
    while True:
        under_way = [one for one in under_way if not one.child.has_ended()]
        if not under_way:
            return
        look_after([one.child for one in under_way], _PAUSE_S)


def with_end(url: str, end: str) -> str:
    """A URL with more at the end of its path."""
    address, sign, query = url.partition("?")
    return (address.rstrip("/") + end if end else address) + sign + query


def keep_outcomes(directory: LockDirectory, outcomes: Mapping[str, Dict[str, Any]]) -> None:
    """Note how receivers have answered: `at` and `trouble` by receiver. Raise LockError."""
    with directory.in_turn(_OUTCOMES):
        directory.keep(_OUTCOMES, dict(directory.read(_OUTCOMES), **outcomes))


def outcomes(directory: LockDirectory) -> Dict[str, Dict[str, Any]]:
    """What was noted."""
    return {name: told for name, told in directory.read(_OUTCOMES).items() if isinstance(told, dict)}


def told_slots(directory: LockDirectory, pool: str) -> Dict[str, str]:
    """The slots that the webhook was told of, by the key of a notice."""
    return {key: str(slot) for key, slot in directory.read(pool + _TOLD).items()}


def keep_told_slots(directory: LockDirectory, pool: str, slots: Dict[str, str]) -> None:
    """Note them, the newest. Raise LockError."""
    directory.keep(pool + _TOLD, dict(sorted(slots.items(), key=lambda item: item[1])[-_TOLD_MAX:]))
