"""Asynchronous operations of xapi, awaited together on one event.from."""

import re
from contextlib import suppress
from math import inf
from typing import Any, Dict, Mapping, NamedTuple, Optional

from vmss.core.outcome import RESULT_LOST, Outcome
from vmss.core.text import is_reference
from vmss.edges.clock import Clock
from vmss.edges.xapi import Refused, Xapi, understood

# After this time without an event, the records of the tasks are read: an event may be lost, or a record collected
# (docs/xapi-facts.md, Task records are collected).
_SILENCE_S = 60.0
# For so many seconds the record of an operation that failed stays: why it did, others see there alone (`vmss watch`),
# which ask once in a second. It costs no call.
_SHOWS_FAILURE = 3.0


class _Ended(NamedTuple):
    """A task that has ended: its method, and when its record is to be destroyed, on the monotonic clock."""

    method: str
    at: float


class Tasks:
    """Asynchronous operations in flight. All are awaited together, and the task record of each that ended is destroyed:
    at once, or soon after a failure; at the latest by `finish`.

    `waits_per_second` is the upper limit on event.from calls per second.
    """

    def __init__(self, xapi: Xapi, clock: Clock, waits_per_second: int = 5) -> None:
        self._xapi = xapi
        self._clock = clock
        self._waits_per_second = waits_per_second
        self._methods: Dict[str, str] = {}  # by task
        self._ended: Dict[str, _Ended] = {}
        self._token = ""
        self._next_wait = clock.monotonic()
        self._last_event = clock.monotonic()

    @property
    def pending(self) -> Mapping[str, str]:
        """The tasks that have not ended, or whose records are not destroyed, and the method of each."""
        return {**self._methods, **{task: ended.method for task, ended in self._ended.items()}}

    @property
    def in_flight(self) -> bool:
        """Whether any has not ended."""
        return bool(self._methods)

    @property
    def is_time(self) -> bool:
        """Whether the next wait begins at once, so that there are no more than so many in a second."""
        return self._clock.monotonic() >= self._next_wait

    def start(self, method: str, *params: Any) -> str:
        """Start Async.METHOD and return its task. Raise Refused or Unanswered; Refused with RESULT_LOST if xapi tells
        the task of another operation, or what is none, so that this one's is not known."""
        if not self._methods:
            self._last_event = self._clock.monotonic()
        told = self._xapi.call("Async." + method, *params)
        # To wait for what is no task would be refused, for all operations. Written down, every later pass would ask for
        # it.
        if not is_reference(told):
            raise Refused([RESULT_LOST, method])
        task = str(told)
        self._add(task, method)
        return task

    def adopt(self, task: str, method: str) -> None:
        """Await a task that an earlier pass started. Raise Refused with RESULT_LOST if it is awaited already."""
        self._add(task, method)
        # Its last event may be past, so the next wait asks for the state of all tasks.
        self._token = ""

    def _add(self, task: str, method: str) -> None:
        # Of two operations with one task, one would never end.
        if task in self.pending:
            raise Refused([RESULT_LOST, method])
        self._methods[task] = method

    def cancel(self, task: str) -> None:
        """Ask xapi to cancel a task. Only the task's end, if it comes, shows whether that had an effect."""
        with suppress(Refused):  # it has ended, or cannot be cancelled
            self._xapi.call("task.cancel", task)

    def wait(self, timeout_s: float) -> Dict[str, Outcome]:
        """Wait until a task has ended, or until the timeout. Return the outcomes of the tasks that have ended."""
        self._throttle()
        classes = ["task/" + task for task in self._methods]
        try:
            answer = self._xapi.call("event.from", classes, self._token, max(0.0, float(timeout_s)))
        except Refused as refused:
            if refused.code != "EVENT_FROM_TOKEN_PARSE_FAILURE" or not self._token:
                raise
            self._token = ""  # xapi was restarted: ask for the state of all tasks
            return {}
        ended = {}
        with understood("event.from"):
            self._token = str(answer["token"])
            for event in answer["events"]:
                if event["class"] == "task" and event["ref"] in self._methods:
                    self._last_event = self._clock.monotonic()
                    outcome = self._outcome(event["ref"], event.get("snapshot"))
                    if outcome is not None:
                        ended[str(event["ref"])] = outcome
        if not ended and self._clock.monotonic() - self._last_event >= _SILENCE_S:
            ended = self._read_records()
        now = self._clock.monotonic()
        for task, outcome in ended.items():
            shows = outcome.error and outcome.error[0] != RESULT_LOST
            self._ended[task] = _Ended(self._methods.pop(task), now + _SHOWS_FAILURE if shows else now)
        self._destroy_until(now)
        return ended

    def finish(self) -> None:
        """Destroy the records of all that have ended."""
        self._destroy_until(inf)

    def _destroy_until(self, at: float) -> None:
        for task, ended in list(self._ended.items()):
            if ended.at <= at:
                self._destroy(task)

    def _throttle(self) -> None:
        # The calls are spread evenly. After a burst, the end of an operation would be learnt up to a second late.
        interval = 1.0 / self._waits_per_second
        early = min(interval, self._next_wait - self._clock.monotonic())
        if early > 0:
            self._clock.sleep(early)
        self._next_wait = self._clock.monotonic() + interval

    def _read_records(self) -> Dict[str, Outcome]:
        self._last_event = self._clock.monotonic()
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
        if record is None:  # xapi has collected the record of a task that ended
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
                return  # tried again after the next wait and at the end, else by a later pass
        del self._ended[task]


def _unwrap(result: str) -> str:
    """The value in the result of a task, which is an XML element."""
    match = re.match(r"\s*<value>(.*)</value>\s*\Z", result, re.DOTALL)
    return match.group(1) if match else result
