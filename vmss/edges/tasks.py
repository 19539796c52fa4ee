"""Asynchronous operations of xapi, awaited together on one event.from."""

import re
from contextlib import suppress
from typing import Any, Dict, Mapping, Optional

from vmss.core.outcome import RESULT_LOST, Outcome
from vmss.edges.clock import Clock
from vmss.edges.xapi import Refused, Xapi, understood

# A task that says nothing for so long is asked: its event may be lost, its record collected
# (docs/xapi-facts.md, Task records are collected).
_SILENCE_S = 60.0


class Tasks:
    """Asynchronous operations in flight. All are awaited together; the record of each that ended is destroyed."""

    def __init__(self, xapi: Xapi, clock: Clock, waits_per_second: int = 5) -> None:
        self._xapi = xapi
        self._clock = clock
        self._waits_per_second = waits_per_second
        self._methods: Dict[str, str] = {}  # by task
        self._token = ""
        self._next_wait = clock.monotonic()
        self._heard = clock.monotonic()

    @property
    def pending(self) -> Mapping[str, str]:
        """The tasks that have not ended, with the method of each."""
        return dict(self._methods)

    def start(self, method: str, *params: Any) -> str:
        """Start Async.METHOD and return its task. Raise Refused or Unanswered."""
        if not self._methods:
            self._heard = self._clock.monotonic()
        task = str(self._xapi.call("Async." + method, *params))
        self._methods[task] = method
        return task

    def adopt(self, task: str, method: str) -> None:
        """Await a task that somebody else has started."""
        self._methods[task] = method
        # Its last event may be past already, so the next wait asks for the state of all of them.
        self._token = ""

    def cancel(self, task: str) -> None:
        """Ask for a task to be cancelled; whether that had an effect shows when it ends, if it ends."""
        with suppress(Refused):  # it has ended, or cannot be cancelled
            self._xapi.call("task.cancel", task)

    def wait(self, timeout_s: float) -> Dict[str, Outcome]:
        """Wait until at least one task has ended or the time has passed; return how tasks ended."""
        self._throttle()
        classes = ["task/" + task for task in self._methods]
        try:
            answer = self._xapi.call("event.from", classes, self._token, max(0.0, float(timeout_s)))
        except Refused as refused:
            if refused.code != "EVENT_FROM_TOKEN_PARSE_FAILURE" or not self._token:
                raise
            self._token = ""  # a token of another life of xapi: ask for everything again
            return {}
        ended = {}
        with understood("event.from"):
            self._token = str(answer["token"])
            for event in answer["events"]:
                if event["class"] == "task" and event["ref"] in self._methods:
                    self._heard = self._clock.monotonic()
                    outcome = self._outcome(event["ref"], event.get("snapshot"))
                    if outcome is not None:
                        ended[str(event["ref"])] = outcome
        if not ended and self._clock.monotonic() - self._heard >= _SILENCE_S:
            ended = self._ask()
        for task in ended:
            del self._methods[task]
            self._destroy(task)
        return ended

    def _throttle(self) -> None:
        # Evenly: after a burst, the end of an operation would be heard of up to a second late.
        interval = 1.0 / self._waits_per_second
        early = min(interval, self._next_wait - self._clock.monotonic())
        if early > 0:
            self._clock.sleep(early)
        self._next_wait = self._clock.monotonic() + interval

    def _ask(self) -> Dict[str, Outcome]:
        self._heard = self._clock.monotonic()
        ended = {}
        for task in self._methods:
            try:
                with understood("task.get_record"):
                    outcome = self._outcome(task, self._xapi.call("task.get_record", task))
            except Refused as refused:
                if refused.code != "HANDLE_INVALID":
                    raise
                outcome = self._outcome(task, None)
            if outcome is not None:
                ended[task] = outcome
        return ended

    def _outcome(self, task: str, record: Optional[Mapping[str, Any]]) -> Optional[Outcome]:
        if record is None:  # xapi collects the records of tasks that ended
            return Outcome(error=(RESULT_LOST, self._methods[task]))
        status = record["status"]
        if status == "success":
            return Outcome(value=_unwrap(str(record["result"])))
        if status == "failure":
            return Outcome(error=tuple(str(item) for item in record["error_info"]) or ("INTERNAL_ERROR", "no reason"))
        if status == "cancelled":
            return Outcome(error=("TASK_CANCELLED", task))
        return None

    def _destroy(self, task: str) -> None:
        try:
            self._xapi.call("task.destroy", task)
        except Refused as refused:
            if refused.code != "HANDLE_INVALID":
                raise


def _unwrap(result: str) -> str:
    """A task's result is the XML value element of what the call returns."""
    match = re.match(r"\s*<value>(.*)</value>\s*\Z", result, re.DOTALL)
    return match.group(1) if match else result
