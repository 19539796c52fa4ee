"""One call of the API: its session, its origin, and its task."""

from typing import TYPE_CHECKING, Any, Generator, NamedTuple, Tuple

from .errors import XapiError
from .values import NULL

if TYPE_CHECKING:
    from .simulator import Simulator

Steps = Generator[Any, Any, Any]


class Headers(NamedTuple):
    """What the headers of a request say about its call.

    `task`: the task to run under; `subtask_of`: the parent of the call's own task; `other_config`: entries for the
    other_config of that task.
    """

    task: str = ""
    subtask_of: str = ""
    other_config: Tuple[Tuple[str, str], ...] = ()
    originator: str = ""
    user_agent: str = ""


class Origin(NamedTuple):
    """How a call reached the pool: over the trusted unix socket of a host, or over the network. `host` is the host that
    it arrived at; "" stands for the coordinator, whichever host that is."""

    trusted: bool
    host: str = ""
    headers: Headers = Headers()


TRUSTED = Origin(True)


class Call:
    """One call in progress, as its handler sees it."""

    __slots__ = ("sim", "db", "method", "session", "task", "origin")

    def __init__(self, sim: "Simulator", method: str, session: str, task: str, origin: Origin) -> None:
        self.sim = sim
        self.db = sim.db
        self.method = method
        self.session = session
        self.task = task
        self.origin = origin

    @property
    def task_key(self) -> str:
        """The key under which objects list this call in current_operations."""
        if self.task != NULL:
            return self.task
        return "DummyRef:|%s|%s" % (self.db.new_uuid(), self.method)

    def check_cancelled(self) -> None:
        """Operations notice a cancellation by polling (xapi: ocaml/xapi/taskHelper.ml), also that of the task they are
        part of."""
        tasks = self.db.tables["task"].rows
        task = self.task
        while self.sim.cancelled and task in tasks:
            if task in self.sim.cancelled:
                raise XapiError("TASK_CANCELLED", task)
            task = tasks[task]["subtask_of"]

    def allow_cancel(self) -> None:
        """Show in the record of this call's task that it may be cancelled; most operations ignore a cancellation."""
        if self.db.exists("task", self.task):
            self.db.set("task", self.task, "allowed_operations", ["cancel"])

    def set_progress(self, progress: float) -> None:
        if self.db.exists("task", self.task):
            self.db.set("task", self.task, "progress", progress)
