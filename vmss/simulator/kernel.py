"""A discrete-event kernel: simulated time, timers and processes that are Python generators.

Nothing here knows XAPI, sockets or threads. A process is a generator that yields `Sleep`, `Wait` or `Child`
and is resumed when what it waits for has come; everything that may run now runs in a fixed order, so the same
seed gives the same history.
"""

import heapq
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Generator, List, NamedTuple, Optional, Tuple

Steps = Generator[Any, Any, Any]
Done = Callable[[Any, Optional[BaseException]], None]


class Sleep(NamedTuple):
    """Wait for some simulated seconds."""

    seconds: float


class Wait(NamedTuple):
    """Wait until `condition` is notified, at most `timeout` seconds; resumed with whether it was notified."""

    condition: "Condition"
    timeout: Optional[float] = None


class Child(NamedTuple):
    """Wait for something outside simulated time; `start` gets the function to call with the result."""

    start: Callable[[Callable[[Any], None]], None]


class Process:
    """One running generator."""

    __slots__ = ("steps", "done", "timer", "condition", "outside", "finished")

    def __init__(self, steps: Steps, done: Optional[Done]) -> None:
        self.steps = steps
        self.done = done
        self.timer: Optional[Timer] = None
        self.condition: Optional[Condition] = None
        self.outside = False
        self.finished = False


class Condition:
    """Something processes wait for. The newest waiter is woken first, as in xapi: ocaml/xapi/helpers.ml."""

    __slots__ = ("kernel", "waiters")

    def __init__(self, kernel: "Kernel") -> None:
        self.kernel = kernel
        self.waiters: Dict[Process, None] = {}

    def notify_one(self) -> bool:
        """Wake one waiter; return whether there was one."""
        if not self.waiters:
            return False
        process, _ = self.waiters.popitem()
        self.kernel.resume(process, True)
        return True

    def notify_all(self) -> None:
        """Wake all waiters, the oldest first."""
        waiters = list(self.waiters)
        self.waiters.clear()
        for process in waiters:
            self.kernel.resume(process, True)


class Timer:
    """A callback that is due at a simulated time; `cancel` makes it void."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Optional[Callable[[], None]] = callback

    def cancel(self) -> None:
        self.callback = None


class Kernel:
    """The clock, the timers and the processes.

    With `speed` None time is virtual: it stands still until somebody calls `advance`. With a number, time
    follows the wall clock from `now` on, that many times as fast.
    """

    def __init__(self, now: float, speed: Optional[float] = None) -> None:
        self._now = now
        self.speed = speed
        self._wall = time.monotonic()
        self._timers: List[Tuple[float, int, Timer]] = []
        self._sequence = 0
        self._ready: Deque[Tuple[Process, Any]] = deque()
        self._running = False

    @property
    def virtual(self) -> bool:
        return self.speed is None

    def now(self) -> float:
        """Seconds since the epoch; safe to call from any thread."""
        if self.speed is None:
            return self._now
        return self._now + (time.monotonic() - self._wall) * self.speed

    def set_time(self, now: float) -> None:
        """Step the clock. Forward, what falls due on the way happens, in order and each at its own time.

        Back, what waits goes on waiting as long as it would have: an operation takes its time by any clock.
        """
        back = self.now() - now
        if back > 0:
            self._timers = [(when - back, sequence, timer) for when, sequence, timer in self._timers]
        when = self.next_timer()
        while when is not None and when <= now:
            self._restart(max(self.now(), when))
            self.run_due()
            when = self.next_timer()
        self._restart(now)
        self.run_due()

    def _restart(self, now: float) -> None:
        self._now = now
        self._wall = time.monotonic()

    def run_with_wall(self, now: float, speed: float) -> None:
        """Follow the wall clock from `now` on; whatever still waits goes on waiting."""
        self.speed = speed
        self._restart(now)

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` when it is `when`."""
        timer = Timer(callback)
        self._sequence += 1
        heapq.heappush(self._timers, (when, self._sequence, timer))
        return timer

    def next_timer(self) -> Optional[float]:
        """When the next timer is due; None if there is none."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def seconds_until(self, when: float) -> float:
        """Wall-clock seconds until `when`, for a clock that follows the wall clock."""
        return max(0.0, (when - self.now()) / (self.speed or 1.0))

    def advance(self) -> bool:
        """Let virtual time jump to the next timer and run it; return whether there was one."""
        when = self.next_timer()
        if when is None:
            return False
        if self.speed is None:
            self._now = max(self._now, when)
        self.run_due()
        return True

    def run_due(self) -> None:
        """Run every timer that is due, then everything that became ready."""
        self.run()
        while True:
            when = self.next_timer()
            if when is None or when > self.now():
                return
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                callback()
            self.run()

    def spawn(self, steps: Steps, done: Optional[Done] = None) -> Process:
        """Start a process; `done` is called with its result or its exception."""
        process = Process(steps, done)
        self._ready.append((process, None))
        return process

    def resume(self, process: Process, value: Any) -> None:
        """Make a waiting process ready to go on with `value`."""
        if process.timer is not None:
            process.timer.cancel()
            process.timer = None
        process.condition = None
        process.outside = False
        self._ready.append((process, value))

    def run(self) -> None:
        """Step every ready process until all of them wait. Not reentrant: a nested call returns at once."""
        if self._running:
            return
        self._running = True
        try:
            while self._ready:
                process, value = self._ready.popleft()
                self._step(process, value)
        finally:
            self._running = False

    def _step(self, process: Process, value: Any) -> None:
        try:
            wish = process.steps.send(value)
        except StopIteration as stop:
            self._finish(process, stop.value, None)
        except Exception as error:  # noqa: BLE001, it is handed to the process's owner
            self._finish(process, None, error)
        else:
            self._park(process, wish)

    def _park(self, process: Process, wish: Any) -> None:
        if isinstance(wish, Sleep):
            process.timer = self.at(self.now() + wish.seconds, lambda: self.resume(process, None))
        elif isinstance(wish, Wait):
            process.condition = wish.condition
            wish.condition.waiters[process] = None
            if wish.timeout is not None:
                process.timer = self.at(self.now() + wish.timeout, lambda: self._time_out(process))
        elif isinstance(wish, Child):
            process.outside = True
            wish.start(lambda value: self.resume(process, value))
        else:
            raise TypeError("a process yielded %r" % (wish,))

    def _time_out(self, process: Process) -> None:
        if process.condition is not None:
            process.condition.waiters.pop(process, None)
        self.resume(process, False)

    def _finish(self, process: Process, result: Any, error: Optional[BaseException]) -> None:
        process.finished = True
        if process.done is not None:
            process.done(result, error)
