"""Waiting for busy objects, as xapi's server does it (xapi: ocaml/xapi/helpers.ml).

A call that finds its object busy sleeps 1 to 20 s at random and retries, for up to 2 hours. The end of an operation
wakes one waiter early. If more than 100 calls wait in the pool, the next one is refused.
"""

from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Generator, List, Tuple

from .errors import XapiError
from .kernel import Condition, Wait

if TYPE_CHECKING:
    from .call import Call
    from .simulator import Simulator

# The upper limit is one higher, because xapi compares before it counts.
WAITERS_MAX = 100
WAIT_SECONDS_MAX = 2 * 3600.0
PAUSE_SECONDS = (1.0, 20.0)
BUSY = "OTHER_OPERATION_IN_PROGRESS"


class Waiting:
    """All calls of the pool that wait for a busy object; `total` counts how often a call had to wait."""

    def __init__(self, sim: "Simulator") -> None:
        self.sim = sim
        self.count = 0
        self.total = 0
        self.conditions: Dict[Tuple[str, str], Condition] = {}

    def until_free(self, call: "Call", attempt: Callable[[], Any]) -> Generator[Any, Any, Any]:
        """Retry `attempt` until its object is not busy; return its result.

        `attempt` checks and marks in one step, so that no other call comes between.
        """
        kernel = self.sim.kernel
        deadline = kernel.now() + WAIT_SECONDS_MAX
        while True:
            try:
                return attempt()
            except XapiError as error:
                if error.code != BUSY or kernel.now() >= deadline:
                    raise
                key = (error.details[1], error.details[2])
            if self.count > WAITERS_MAX:
                raise XapiError("TOO_MANY_PENDING_TASKS")
            self.count += 1
            self.total += 1
            try:
                condition = self.conditions.setdefault(key, Condition(kernel))
                yield Wait(condition, self.sim.random.uniform(*PAUSE_SECONDS))
            finally:
                self.count -= 1
            call.check_cancelled()

    def released(self, cls: str, ref: str) -> None:
        """An operation on this object has ended: wake one waiter."""
        condition = self.conditions.get((cls, ref))
        if condition is None:
            return
        # On a real host a wake-up is lost if it comes between a waiter's check and its sleep.
        if self.sim.random.random() >= self.sim.durations.lost_wakeup:
            condition.notify_one()
        if not condition.waiters:
            del self.conditions[(cls, ref)]


def check_not_busy(cls: str, ref: str, operations: Dict[str, str], names: Dict[str, str]) -> None:
    """Raise OTHER_OPERATION_IN_PROGRESS if `operations` (task -> operation) is not empty."""
    if not operations:
        return
    tasks: List[str] = list(operations)
    words = [names.get(operation, operation) for operation in operations.values()]
    if len(tasks) == 1:
        raise XapiError(BUSY, cls, ref, words[0], tasks[0])
    raise XapiError(BUSY, cls, ref, "{%s}" % ",".join(words), "{%s}" % ",".join(tasks))


class HostQueue:
    """A queue for each host: one operation at a time, in the order of arrival."""

    def __init__(self) -> None:
        self.waiting: Dict[str, Deque[Condition]] = {}

    def enter(self, call: "Call", host: str) -> Generator[Any, Any, None]:
        queue = self.waiting.setdefault(host, deque())
        turn = Condition(call.sim.kernel)
        queue.append(turn)
        if queue[0] is not turn:
            yield Wait(turn)

    def leave(self, host: str) -> None:
        queue = self.waiting[host]
        queue.popleft()
        if queue:
            queue[0].notify_all()
        else:
            del self.waiting[host]
