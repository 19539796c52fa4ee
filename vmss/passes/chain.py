"""Hooks that are carried out one after another: those of one VM, or of the pass, before or after."""

from collections import deque
from typing import Callable, Deque, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core.hooks import Subject
from vmss.core.text import one_line
from vmss.edges.children import Child
from vmss.edges.hooks_dir import Found
from vmss.edges.log import Log
from vmss.edges.settings import Settings
from vmss.edges.surroundings import PATH

# The only locale that every dom0 has.
_LANG = "C"
# Upper limit on the characters of one line of a hook's output in the log.
_LINE_MAX = 1000
# Upper limit on the programs of which the log says that they are not run.
_TOLD_MAX = 20


class Step(NamedTuple):
    """One hook: its name, what it is about in words, its command, environment and standard input, and its timeout in
    seconds. `optional`: the chain goes on whatever becomes of it."""

    name: str
    about: str
    command: Sequence[str]
    environment: Mapping[str, str]
    limit: int
    given: Optional[bytes] = None
    optional: bool = False


class Commands:
    """The hooks that there are."""

    def __init__(self, settings: Settings, log: Log, found: Found) -> None:
        self._settings = settings
        self._log = log
        self._found = found
        self._secret: Optional[str] = None
        self._no_secret = False
        for refused in found.refused[:_TOLD_MAX]:
            log("Hook %s is not run: %s" % (one_line(refused.path, 300), refused.why))

    def has(self, phase: str) -> bool:
        """Whether there is a hook of this phase."""
        return bool(self._found.hooks[phase])

    def of(self, phase: str, told: Mapping[str, str], vm: str = "") -> List[Step]:
        """The hooks of a phase, told this, in the order of their names; `vm` is the uuid of the VM that they are
        about."""
        environment = dict(told, PATH=PATH, LANG=_LANG)
        about = "VM: %s" % vm if vm else "the pass"
        return [
            Step(path.rpartition("/")[2], about, [path], environment, self._settings.hook_limit)
            for path in self._found.hooks[phase]
        ]

    def sync(self, subject: Subject, before: bool) -> List[Step]:
        """The request of the VM sync hook, in a list that is empty if this VM is not asked."""
        if not subject.sync or self._no_secret or not self._settings.sync_hook:
            return []
        from vmss.edges import sync_hook  # few pools have it

        if self._secret is None:
            try:
                self._secret = sync_hook.secret(self._settings.sync_secret_file)
            except sync_hook.NoSecret as error:
                self._no_secret = True
                self._log("No guest is asked before its snapshot: %s" % error)
                return []
        if not sync_hook.is_address(subject.sync):  # somebody has changed the note
            return []
        path = sync_hook.BEFORE if before else sync_hook.AFTER
        given = sync_hook.request(subject.sync, path, self._settings, self._secret)
        environment: Dict[str, str] = {"PATH": PATH, "LANG": _LANG}
        about, limit = "VM: %s" % subject.vm_uuid, self._settings.hook_limit
        return [Step(path, about, sync_hook.command(), environment, limit, given, optional=True)]


class Chain:
    """Carries out steps, one after another. With `stops`, the first that fails is the last.

    `failure` are the name of the first one that has failed, and why; `synced`: the guest was asked, and has answered.
    """

    def __init__(self, steps: Sequence[Step], stops: bool, log: Log, failure: Tuple[str, ...] = ()) -> None:
        self.failure = failure
        self.synced = False
        self.child: Optional[Child] = None
        self._step: Optional[Step] = None
        self._steps: Deque[Step] = deque(steps)
        self._stops = stops
        self._log = log
        self.look()

    @property
    def is_over(self) -> bool:
        """Whether no step is left."""
        return self.child is None and not self._steps

    def look(self) -> None:
        """Start the next step if the last one has ended; without waiting."""
        while True:
            if self.child is not None:
                if not self.child.has_ended():
                    return
                self._ended(self.child.trouble)
            if not self._steps:
                return
            self._step = step = self._steps.popleft()
            self._log("Hook %s of %s is started" % (step.name, step.about))
            self.child = Child(step.command, step.environment, step.limit, self._say(step), step.given)

    def stop(self) -> None:
        """Tell the step that runs to end, and start no other one."""
        self._steps.clear()
        if self.child is not None:
            self.child.stop("the pass was told to stop")

    def _ended(self, trouble: str) -> None:
        step, self.child = self._step, None
        if step is None:
            return
        self.synced = self.synced or (step.optional and not trouble)
        if not trouble:
            return
        self._log("Hook %s of %s failed: %s" % (step.name, step.about, trouble))
        if step.optional:
            return
        self.failure = self.failure or (step.name, trouble)
        if self._stops:
            self._steps.clear()

    def _say(self, step: Step) -> Callable[[str], None]:
        def say(line: str) -> None:
            self._log("Hook %s of %s says: %s" % (step.name, step.about, one_line(line, _LINE_MAX)))

        return say
