"""Alerts: the messages of class VMSS, which XenCenter shows as the run history of a policy, and of class Pool."""

from datetime import datetime
from typing import Any, Iterable, Iterator, Mapping

from vmss.core.datetimes import CLOCK_TOLERANCE, in_future, local, parse_datetime
from vmss.core.messages import PRIORITIES, class_of, log_lines
from vmss.core.records import NULL
from vmss.edges.clock import Clock
from vmss.edges.log import Log
from vmss.edges.xapi import Refused, Xapi, understood


class Alerts:
    """Raises alerts in XAPI, and writes them to the log."""

    def __init__(self, xapi: Xapi, clock: Clock, log: Log) -> None:
        self._xapi = xapi
        self._clock = clock
        self._log = log

    def create(self, name: str, about: str, text: str) -> bool:
        """Given the name of an alert, the uuid of the policy and the body, raise it. Return False if xapi could not
        store it; True also if the policy no longer exists, so that a retry would be in vain.

        For a name of class Pool, the uuid is the pool's.
        """
        began = self._clock.now()
        for line in log_lines(name, local(began, self._log.zone)):
            self._log(line)
        try:
            message = self._xapi.call("message.create", name, str(PRIORITIES[name]), class_of(name), about, text)
        except Refused as refused:
            self._log("The alert could not be raised: %s" % refused)
            return refused.code == "UUID_INVALID"
        # xapi has been seen to answer NULL although it had stored the message: the next pass would repeat it.
        stored = message != NULL or text in self._bodies(name, about, began - CLOCK_TOLERANCE)
        if not stored:
            self._log("The alert could not be stored by xapi")
        return stored

    def create_once(self, name: str, about: str, text: str, since: datetime, line: str = "") -> None:
        """Raise an alert, unless there has been one of this name about the same object since an instant; with `line`,
        one whose body has this line."""
        bodies = self._bodies(name, about, since)
        if not any(not line or line in body.split("\n") for body in bodies):
            self.create(name, about, text)

    def _bodies(self, name: str, about: str, since: datetime) -> Iterator[str]:
        """The bodies of the alerts of this name about an object since an instant. One from a time when the clock was
        ahead is none of these."""
        from vmss.edges.messages import before, messages_since  # not needed by an idle tick

        after, now = before(since), self._clock.now()
        try:
            with understood("message.get"):
                records = list(self._xapi.call("message.get", class_of(name), about, after).values())
                yield from _bodies_of(records, name, now)
            with understood("message.get_since"):
                # Rarely needed: when an alert is about to be raised, or has been answered with NULL.
                yield from _bodies_of(messages_since(self._xapi, class_of(name), about, after), name, now)
        except Refused:
            return


def _bodies_of(records: Iterable[Mapping[str, Any]], name: str, now: datetime) -> Iterator[str]:
    for record in records:
        if record["name"] == name and not in_future(parse_datetime(record["timestamp"]), now):
            yield str(record["body"])
