"""Events of xapi, as a command waits for them that watches: what exists is not told again, only what changes.

With an empty token xapi tells everything that exists of the classes that are asked for, and a pool's VMs and snapshots
may be 590 MB (docs/xapi-facts.md, Size of requests and records). So the first question is about classes with few
objects, and its token is the beginning for all others.
"""

from typing import Any, List, Mapping, NamedTuple, Optional, Sequence

from vmss.edges.xapi import Xapi, understood


class Event(NamedTuple):
    """One event: the class in lower case, the reference, and the record; None if the object is gone."""

    cls: str
    ref: str
    record: Optional[Mapping[str, Any]]


class Events:
    """The events since the last question."""

    def __init__(self, xapi: Xapi) -> None:
        self._xapi = xapi
        self._token = ""

    def all_of(self, classes: Sequence[str]) -> List[Event]:
        """All objects of these classes; from now on `wait` tells what has changed since."""
        self._token = ""
        return self.wait(classes, 0.0)

    def wait(self, classes: Sequence[str], timeout_s: float) -> List[Event]:
        """What has changed of these classes: at once if anything has, else as soon as it does, or nothing after the
        timeout. Raise Refused or Unanswered."""
        answer = self._xapi.call("event.from", list(classes), self._token, float(timeout_s))
        with understood("event.from"):
            found = [Event(str(it["class"]), str(it["ref"]), _record(it)) for it in answer["events"]]
            self._token = str(answer["token"])
        return found


def _record(event: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
    record = event.get("snapshot") if event["operation"] != "del" else None
    return record if isinstance(record, Mapping) else None
