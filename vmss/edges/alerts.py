"""Alerts: the messages of class VMSS, which XenCenter shows as the run history of a policy."""

from datetime import datetime, timedelta
from typing import Any, Iterable, Mapping, Optional

from vmss.core.datetimes import CLOCK_TOLERANCE, format_datetime, in_future, local, parse_datetime
from vmss.core.messages import PRIORITIES, log_lines
from vmss.core.records import NULL
from vmss.edges.clock import Clock
from vmss.edges.log import Log
from vmss.edges.messages import messages_since
from vmss.edges.xapi import Refused, Xapi, understood


class Alerts:
    """Raises alerts in XAPI, and writes them to the log."""

    def __init__(self, xapi: Xapi, clock: Clock, log: Log) -> None:
        self._xapi = xapi
        self._clock = clock
        self._log = log

    def create(self, name: str, policy: str, text: str, cls: str = "VMSS") -> bool:
        """Given the name of an alert, the uuid of the policy and the body, raise it. Return False if xapi could not
        store it; True also if the policy no longer exists, so that a retry would be in vain.

        With the class Pool, the uuid is the pool's.
        """
        began = self._clock.now()
        for line in log_lines(name, local(began, self._log.zone)):
            self._log(line)
        try:
            message = self._xapi.call("message.create", name, str(PRIORITIES[name]), cls, policy, text)
        except Refused as refused:
            self._log("The alert could not be raised: %s" % refused)
            return refused.code == "UUID_INVALID"
        # xapi has been seen to answer NULL although it had stored the message: the next pass would repeat it.
        stored = message != NULL or self._exists(name, policy, text, began - CLOCK_TOLERANCE, cls)
        if not stored:
            self._log("The alert could not be stored by xapi")
        return stored

    def create_once(self, name: str, policy: str, text: str, since: datetime) -> None:
        """Raise an alert, unless the policy has had one of this name since an instant."""
        if not self._exists(name, policy, None, since):
            self.create(name, policy, text)

    def _exists(self, name: str, policy: str, text: Optional[str], since: datetime, cls: str = "VMSS") -> bool:
        """Whether the policy has had an alert of this name since an instant; with this body, unless it is None. One
        from a time when the clock was ahead is none of these."""
        # xapi answers with messages that are strictly later, in whole seconds.
        after, now = format_datetime(since - timedelta(seconds=1)), self._clock.now()

        def has_it(records: Iterable[Mapping[str, Any]]) -> bool:
            return any(
                record["name"] == name
                and text in (None, record["body"])
                and not in_future(parse_datetime(record["timestamp"]), now)
                for record in records
            )

        try:
            with understood("message.get"):
                found = has_it(self._xapi.call("message.get", cls, policy, after).values())
            with understood("message.get_since"):
                # Rarely needed: when an alert is about to be raised, or has been answered with NULL.
                return found or has_it(messages_since(self._xapi, cls, policy, after))
        except Refused:
            return False
