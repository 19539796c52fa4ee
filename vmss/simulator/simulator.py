"""The simulated pool: its objects, its clock and the one entry for calls, without sockets."""

import threading
from datetime import datetime, timezone
from random import Random
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from . import datamodel, state, vm_operations
from .call import TRUSTED, Origin
from .classes import every as _every  # noqa: F401 - enters the methods into the registry
from .classes.event import Queue
from .classes.pool import create_pool
from .database import Database
from .dispatch import Dispatcher, as_xapi_error
from .durations import Durations
from .errors import Dropped
from .faults import Faults, Rule
from .hosts import Hosts
from .kernel import Condition, Kernel, Process, Sleep
from .messages import MessageStore
from .plugins import Plugins
from .rate_limit import RateLimits
from .sessions import Sessions
from .storage import Storage
from .upkeep import Upkeep
from .values import NULL
from .waiting import HostQueue, Waiting

# How a call ends: with a result, with a XapiError, or without an answer (Dropped).
Done = Callable[[Any, Optional[Exception]], None]


class Traffic(NamedTuple):
    """The number of calls of one method, and the bytes of their bodies."""

    calls: int
    bytes_in: int
    bytes_out: int


class Pending:
    """A call in progress; `process` is None if it ended at once."""

    __slots__ = ("process",)

    def __init__(self, process: Optional[Process]) -> None:
        self.process = process

    @property
    def waits_for_time(self) -> bool:
        """Whether only the passing of simulated time can end it (not a plugin's child process)."""
        return self.process is not None and not self.process.finished and not self.process.outside


class Simulator:
    """An embedded xapi.

    With clock "virtual", time stands still except while a call waits for it; with "real" it runs on
    from `now`, `speed` times as fast as the wall clock.
    """

    def __init__(
        self,
        seed: int = 1,
        now: Optional[datetime] = None,
        clock: str = "virtual",
        speed: float = 1.0,
        plugins: Optional[str] = None,
        plugin_environment: Optional[Dict[str, str]] = None,
        password: str = "simulator",  # noqa: S107, the documented default
        durations: Optional[Durations] = None,
        content: Optional[Tuple[Dict[str, Any], str]] = None,
        faults: Sequence[Rule] = (),
    ) -> None:
        if clock not in ("virtual", "real"):
            raise ValueError("clock is neither virtual nor real: %s" % clock)
        self.random = Random(seed)  # noqa: S311, a simulation
        start = now if now is not None else datetime.now(timezone.utc)
        self.kernel = Kernel(start.timestamp(), None if clock == "virtual" else speed)
        self.model = datamodel.load()
        self.db = Database(self.model, self.random)
        self.db.clock = self.kernel.now
        self.durations = durations or Durations()
        self.lock = threading.Condition(threading.RLock())
        self.counts: Dict[str, int] = {}
        self.bytes_in: Dict[str, int] = {}
        self.bytes_out: Dict[str, int] = {}
        self.cancelled: Set[str] = set()
        self.password = password
        self.state_path: Optional[str] = None
        self.wake: Callable[[], None] = self._wake_nobody
        self.hang_up: Callable[[], None] = self._hang_up_nobody
        # The coordinator; the number of starts of xapi; whether xapi is shutting down.
        self.this_host = NULL
        self.life = 1
        self.stopping = False
        self.licence: Dict[str, str] = {}  # what was granted or revoked, by key of pool.restrictions
        self.hosts = Hosts(self)
        self.faults = Faults(self)
        self.rate_limits = RateLimits(self)
        self.upkeep = Upkeep(self)
        self.sessions = Sessions(self)
        self.waiting = Waiting(self)
        self.storage = Storage(self)
        self.messages = MessageStore(self)
        self.plugins = Plugins(self, plugins, plugin_environment or {})
        self.changed = Condition(self.kernel)
        self.db.listener = self.changed.notify_all
        self.vmss_backup: Dict[str, str] = {}
        self.event_queues: Dict[str, Queue] = {}
        self.checkpoints = HostQueue()
        self.dispatcher = Dispatcher(self)
        if content is None:
            create_pool(self)
        else:
            state.restore(self, *content)
        self.db.written()
        for rule in faults:
            self.faults.add(rule)

    # --- calls ---

    def begin(self, name: str, params: List[Any], origin: Origin, done: Done) -> Pending:
        """Start a call; `done` gets its result or its error, at once or later. Every call begins here."""
        self.counts[name] = self.counts.get(name, 0) + 1
        try:
            self.hosts.admit(name, origin)
            ours = name.startswith("simulator.")
            rule = self.faults.meet(name, params) if self.faults.active and not ours else None
            if rule is None:
                outcome = self.dispatcher.call(name, params, origin)
            else:
                outcome = self.faults.around(rule, self._late(name, params, origin))
        except Exception as error:  # noqa: BLE001, a bug here must not end the server
            done(None, _ending(error))
            return Pending(None)
        if not hasattr(outcome, "send"):
            done(outcome, None)
            return Pending(None)
        domain = "simulator" if ours else "xapi"
        return Pending(self.kernel.spawn(outcome, lambda result, error: _deliver(done, result, error), domain))

    def _late(self, name: str, params: List[Any], origin: Origin) -> Any:
        """Process a call when its turn comes."""
        outcome = self.dispatcher.call(name, params, origin)
        if hasattr(outcome, "send"):
            outcome = yield from outcome
        return outcome

    def call(self, name: str, *params: Any) -> Any:
        """Run one call to its end; a virtual clock moves by the time that the call takes."""
        ended: List[Any] = []
        with self.lock:
            pending = self.begin(name, list(params), TRUSTED, lambda result, error: ended.append((result, error)))
            self.kernel.run_due()
            while not ended:
                self._let_time_pass(pending)
            self.wake()
        result, error = ended[0]
        if error is not None:
            raise error
        return _copied(result)

    def _let_time_pass(self, pending: Pending) -> None:
        when = self.kernel.next_timer()
        if self.kernel.virtual and pending.waits_for_time:
            if not self.kernel.advance():
                raise RuntimeError("a call waits for an event that will never happen")
            return
        timeout = None if self.kernel.virtual or when is None else self.kernel.seconds_until(when)
        if timeout is None or timeout > 0:
            self.lock.wait(timeout)
        self.kernel.run_due()

    def post(self, callback: Callable[[], None]) -> None:
        """Run a callback on behalf of another thread (the end of a plugin's child process)."""
        with self.lock:
            callback()
            self.kernel.run_due()
            self.lock.notify_all()
            self.wake()

    def _wake_nobody(self) -> None:
        """Do nothing; a server replaces this with a check of what is due."""

    def _hang_up_nobody(self) -> None:
        """Do nothing; a server replaces this and closes its connections without a call in progress."""

    def draw(self, name: str) -> Sleep:
        """Draw the duration of one operation."""
        return Sleep(self.random.uniform(*getattr(self.durations, name)))

    # --- the clock ---

    def now(self) -> datetime:
        """The simulated time; safe to read from another thread."""
        return datetime.fromtimestamp(self.kernel.now(), timezone.utc)

    def set_time(self, now: datetime) -> None:
        """Step the clock; what falls due on the way happens. Safe to call from another thread."""
        with self.lock:
            self.step_clock(now.timestamp())
            self.lock.notify_all()
            self.wake()

    def step_clock(self, seconds: float) -> None:
        self.kernel.set_time(seconds)

    def run_clock(self, now: datetime, speed: float) -> None:
        """Let the clock run with the wall clock from here on."""
        self.kernel.run_with_wall(now.timestamp(), speed)

    def refresh_operations(self, cls: str, ref: str) -> None:
        """Recompute allowed_operations of an object that was changed outside a call."""
        if cls == "VM":
            vm_operations.refresh(self.db, ref)
        elif cls in ("SR", "VDI"):
            self.storage.refresh(cls, ref)

    # --- counting ---

    def traffic(self) -> Dict[str, Traffic]:
        return {
            name: Traffic(calls, self.bytes_in.get(name, 0), self.bytes_out.get(name, 0))
            for name, calls in self.counts.items()
        }

    def reset_counts(self) -> None:
        self.counts.clear()
        self.bytes_in.clear()
        self.bytes_out.clear()

    # --- state ---

    def save(self, path: str) -> None:
        """Write everything persistent to a file, atomically."""
        with self.lock:
            state.save(self, path)

    @classmethod
    def load(cls, path: str, **options: Any) -> "Simulator":
        """A simulator with the content of a state file. Raise StateError if the file is not one."""
        content = state.read(path)
        if options.get("now") is None:
            options["now"] = state.time_of(content)
        return cls(content=(content, path), **options)


def _deliver(done: Done, result: Any, error: Optional[BaseException]) -> None:
    done(result, None if error is None else _ending(error))


def _ending(error: BaseException) -> Exception:
    return error if isinstance(error, Dropped) else as_xapi_error(error)


def _copied(value: Any) -> Any:
    """A copy for a caller in this process, because stored values are shared."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value
