"""A discrete-event kernel: simulated time, timers and processes that are Python generators.

Nothing here knows XAPI, sockets or threads. A process is a generator that yields `Sleep`, `Wait`, `Child` or
`Join` and is resumed when what it waits for has come; everything that may run now runs in a fixed order, so the
same seed gives the same history.
"""

import heapq
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Generator, List, NamedTuple, Optional, Tuple, Union

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


class Join(NamedTuple):
    """Start another process and wait for its end; resumed with its result, or its exception is raised.

    The other process belongs to `domain`, so that it survives when the waiting process is killed.
    """

    steps: Steps
    domain: str


class Killed(BaseException):
    """Raised inside a process that is killed, at the point where it waits."""


class _Raise(NamedTuple):
    """Resumes a process with an exception."""

    error: BaseException


class Process:
    """One running generator; `domain` is the group of processes with which it is killed."""

    __slots__ = ("steps", "done", "domain", "timer", "condition", "joined", "_outside", "finished")

    def __init__(self, steps: Steps, done: Optional[Done], domain: str) -> None:
        self.steps = steps
        self.done = done
        self.domain = domain
        self.timer: Optional[Timer] = None
        self.condition: Optional[Condition] = None
        self.joined: Optional[Process] = None
        self._outside = False
        self.finished = False

    @property
    def outside(self) -> bool:
        """Whether it waits for something outside simulated time, itself or the process that it waits for."""
        return self._outside or (self.joined is not None and self.joined.outside)

    @outside.setter
    def outside(self, value: bool) -> None:
        self._outside = value


class Condition:
    """A condition that processes wait for. `notify_one` wakes the newest, as in xapi: ocaml/xapi/helpers.ml."""

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
        if not self.waiters:
            return
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
        # In the order of their start: they are killed in this order.
        self._alive: Dict[Process, None] = {}
        # Regular housekeeping: `upkeep` is called at the first event after `upkeep_due`, and sets the next instant.
        # It is no timer: virtual time does not jump to it.
        self.upkeep: Callable[[], None] = lambda: None
        self.upkeep_due: Optional[float] = None

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

        Back, timers keep their remaining time: the duration of an operation does not depend on the clock.
        """
        # Processes that are ready run at the time at which they became ready.
        self.run_due()
        back = self.now() - now
        if back > 0:
            self._timers = [(when - back, sequence, timer) for when, sequence, timer in self._timers]
            if self.upkeep_due is not None:
                self.upkeep_due -= back
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
        """Follow the wall clock from `now` on; timers keep their remaining time."""
        self.speed = speed
        self._restart(now)

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` at the instant `when`."""
        timer = Timer(callback)
        self._sequence += 1
        heapq.heappush(self._timers, (when, self._sequence, timer))
        return timer

    def next_timer(self) -> Optional[float]:
        """The instant of the next timer; None if there is none."""
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
        if self.upkeep_due is not None and self.now() >= self.upkeep_due:
            self.upkeep()
            # A process may wait for what the timer changed.
            self.run()
        while True:
            when = self.next_timer()
            if when is None or when > self.now():
                return
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                callback()
            self.run()

    def spawn(self, steps: Steps, done: Optional[Done] = None, domain: str = "") -> Process:
        """Start a process; `done` is called with its result or its exception."""
        process = Process(steps, done, domain)
        self._alive[process] = None
        self._ready.append((process, None))
        return process

    def alive(self, domain: str) -> int:
        """The number of processes of a domain that have not ended."""
        return sum(1 for process in self._alive if process.domain == domain)

    def kill(self, domain: str) -> List[Done]:
        """Kill all processes of a domain and of its subdomains (`xapi:…`); return the callbacks `done` of those that
        have one, which nobody has called."""
        unanswered = []
        below = domain + ":"
        for process in list(self._alive):
            if process.finished or not (process.domain == domain or process.domain.startswith(below)):
                continue
            self._detach(process)
            process.finished = True
            del self._alive[process]
            _end(process.steps)
            if process.done is not None:
                unanswered.append(process.done)
        return unanswered

    def _detach(self, process: Process) -> None:
        if process.timer is not None:
            process.timer.cancel()
        if process.condition is not None:
            process.condition.waiters.pop(process, None)

    def resume(self, process: Process, value: Any) -> None:
        """Make a waiting process ready to go on with `value`."""
        if process.timer is not None:
            process.timer.cancel()
            process.timer = None
        process.condition = None
        process.joined = None
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
                if not process.finished:
                    self._step(process, value)
        finally:
            self._running = False

    def _step(self, process: Process, value: Any) -> None:
        try:
            raised = isinstance(value, _Raise)
            wish = process.steps.throw(value.error) if raised else process.steps.send(value)
        except StopIteration as stop:
            self._finish(process, stop.value, None)
        except Exception as error:  # noqa: BLE001, it is handed to the process's owner
            self._finish(process, None, error)
        else:
            self._park(process, wish)

    def _park(self, process: Process, wish: Union[Sleep, Wait, Child, Join]) -> None:
        if process.finished:
            # It was killed while it ran, by its own action.
            _end(process.steps)
        elif isinstance(wish, Sleep):
            process.timer = self.at(self.now() + wish.seconds, lambda: self.resume(process, None))
        elif isinstance(wish, Wait):
            process.condition = wish.condition
            wish.condition.waiters[process] = None
            if wish.timeout is not None:
                process.timer = self.at(self.now() + wish.timeout, lambda: self._time_out(process))
        elif isinstance(wish, Child):
            process.outside = True
            wish.start(lambda value: self.resume(process, value))
        elif isinstance(wish, Join):
            process.joined = self.spawn(
                wish.steps, lambda result, error: self._joined(process, result, error), wish.domain
            )
        else:
            raise TypeError("a process yielded %r" % (wish,))

    def _joined(self, process: Process, result: Any, error: Optional[BaseException]) -> None:
        if not process.finished:
            self.resume(process, result if error is None else _Raise(error))

    def _time_out(self, process: Process) -> None:
        if process.condition is not None:
            process.condition.waiters.pop(process, None)
        self.resume(process, False)

    def _finish(self, process: Process, result: Any, error: Optional[BaseException]) -> None:
        if process.finished:
            return
        process.finished = True
        del self._alive[process]
        if process.done is not None:
            process.done(result, error)


def _end(steps: Steps) -> None:
    """Kill a generator, and ignore what it yields while it is unwound."""
    while True:
        try:
            steps.throw(Killed())
        except (StopIteration, Killed):
            return
        except Exception:  # noqa: BLE001, nobody is left to be told
            # The generator that is running raises ValueError here; it is killed when it next waits.
            return
