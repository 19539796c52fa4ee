"""The hooks of a pass: programs that are started before and after it, and before and after the snapshots of its VMs.

They are child processes. The pass starts them, looks at them between its waits for xapi, and goes on with other VMs
meanwhile. What has begun for a VM is ended whatever becomes of its snapshot, so that no guest stays frozen:

- Each try of a snapshot has hooks of its own. A VM that is tried again after a pause is not frozen in that pause.
- After-hooks start as soon as the try has ended: taken, failed, refused, cancelled, given up, or not even started.
- A pass ends only when all its hooks have. One that is killed leaves a note beside the lock, by which the next pass
  carries out the after-hooks at once, with the result `lost`.
"""

from contextlib import suppress
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from vmss.core.hooks import (
    AFTER_PASS,
    AFTER_VM,
    BEFORE_PASS,
    BEFORE_VM,
    LOST,
    OK,
    Subject,
    slot_text,
    told_after,
    told_before,
)
from vmss.core.job import Job, Operation
from vmss.core.outcome import HOOK_FAILED, RESULT_LOST, STOPPED, Error, Outcome
from vmss.core.records import HOOKS_SUFFIX
from vmss.core.text import is_uuid
from vmss.core.turn import Turn
from vmss.core.vms import Vm
from vmss.edges import stop
from vmss.edges.children import Child, look_after
from vmss.edges.hooks_dir import read_hooks
from vmss.edges.lock import LockDirectory
from vmss.edges.lock_folder import LockError
from vmss.edges.xapi import Refused, Unanswered
from vmss.passes.chain import Chain, Commands
from vmss.passes.context import Context

# Upper limit on one wait for hooks. Their end wakes the pass at once; that of a snapshot is learnt between two of them.
_STEP_S = 0.2
# Upper limit on the chains at once: where after-hooks take long, further before-hooks wait for them.
_AT_ONCE = 64
# The name under which the hooks of the pass itself are noted.
_ALL = "the pass"


class _Try:
    """One try of a snapshot: its operation, what its hooks are told, and the chain that runs before it, if it has
    begun. `started`: the snapshot was started, or is not to be any more. `owes`: the hooks after it are to be carried
    out."""

    def __init__(self, operation: Operation, subject: Subject) -> None:
        self.operation = operation
        self.subject = subject
        self.before: Optional[Chain] = None
        self.started = False
        self.owes = False

    @property
    def is_prepared(self) -> bool:
        """Whether its hooks have ended, and the snapshot was not started yet."""
        return self.before is not None and self.before.is_over and not self.started


class Hooks:
    """Carries out the hooks of one pass, with as many services as it has."""

    def __init__(self, context: Context, directory: LockDirectory) -> None:
        self._context = context
        self._directory = directory
        self._name = context.pool.uuid + HOOKS_SUFFIX
        self._noted: Dict[str, Any] = directory.read(self._name)
        self._commands = Commands(context.settings, context.log, read_hooks(context.settings.hooks_dir))
        self._policies: Dict[str, Tuple[str, str, str]] = {}  # uuid, name and slot, by reference
        self._sync: Dict[str, str] = {}  # by VM
        self._tries: Dict[int, _Try] = {}  # by job, until the try has ended
        self._after: List[Tuple[str, Chain]] = []  # the chains after tries, with the uuid of the VM
        self._pass: Optional[Chain] = None  # before the pass
        self._adopted: Set[str] = set()
        self._stopping = False

    # The pass

    def see_to_lost(self) -> None:
        """Start the after-hooks that a pass which died has left, with the result `lost`."""
        for key, value in list(self._noted.items()):
            subject = _subject(key, value)
            if subject is None:
                del self._noted[key]
                continue
            what = "VM %s" % key if key != _ALL else "a pass"
            self._context.log(
                "A pass that died has not carried out the hooks after %s: they are carried out now" % what
            )
            self._start_after(key, subject, LOST)
        self.keep()

    def may_admit(self) -> bool:
        """Whether the hooks before the pass have ended; they start when it is first asked."""
        if self._pass is None:
            # What a pass that died has left of itself ends first.
            if any(key == _ALL for key, _ in self._after):
                return False
            steps = self._commands.of(BEFORE_PASS, told_before(BEFORE_PASS, Subject()))
            if steps or self._commands.has(AFTER_PASS):
                self._note(_ALL, Subject())
            self._pass = Chain(steps, self._skips, self._context.log)
        return self._pass.is_over

    def finish(self, result: str) -> None:
        """The pass ends with this result: carry out all that is still to be, and wait for it. Nothing goes wrong here
        that would keep the lock from being released: each hook has its limit."""
        self.stop()
        self._wait_for_all()
        for number in list(self._tries):
            self._over(number, STOPPED if stop.requested() else RESULT_LOST)
        self._wait_for_all()
        if self._pass is not None:
            self._start_after(_ALL, Subject(), result)
            self._wait_for_all()

    def stop(self) -> None:
        """The pass was told to stop: what is only before a snapshot ends now, and what comes after it begins."""
        self._stopping = True
        if self._pass is not None:
            self._pass.stop()
        for number, one in list(self._tries.items()):
            if one.before is not None:
                one.before.stop()
            if one.before is None or one.is_prepared:
                self._over(number, STOPPED)

    @property
    def _skips(self) -> bool:
        return self._context.settings.hook_error == "skip"

    @property
    def _not_prepared(self) -> Tuple[str, ...]:
        """Which hook before the pass has failed, and why, if no VM gets a snapshot for that."""
        return self._pass.failure if self._pass is not None and self._skips else ()

    # The VMs

    @property
    def still_guests(self) -> bool:
        """Whether guests may stand still until their snapshots are taken."""
        return self._commands.has(BEFORE_VM) or self._context.settings.sync_hook

    def expect(self, turns: Sequence[Turn], vms: Sequence[Vm]) -> None:
        """These turns are admitted, with these VMs."""
        for turn in turns:
            self._policies[turn.policy.ref] = (turn.policy.uuid, turn.policy.name, slot_text(turn.slot))
        if self._context.settings.sync_hook:
            from vmss.edges.sync_hook import addresses

            for vm in vms:
                self._sync.pop(vm.uuid, None)
            asked, lines = addresses(self._context.xapi, vms)
            self._sync.update(asked)
            for line in lines:
                self._context.log(line)

    def holds(self, operation: Operation, job: Job) -> bool:
        """Whether a snapshot that could be started has to wait for its hooks: then `prepared` gives it."""
        if job.task and job.task not in self._adopted:  # an earlier pass has started it, with its hooks
            self._adopted.add(job.task)
            return False
        has = self._commands.has
        if not (self._not_prepared or job.uuid in self._sync or has(BEFORE_VM) or has(AFTER_VM)):
            return False
        policy_uuid, policy_name, slot = self._policies.get(job.policy, ("", "", ""))
        subject = Subject(policy_uuid, policy_name, job.uuid, job.name, job.label, slot, self._sync.get(job.uuid, ""))
        self._tries[operation.job] = _Try(operation, subject)
        self._start_before()
        return True

    def prepared(self) -> Iterator[Tuple[Operation, Error]]:
        """The snapshots whose hooks have ended, each once; with an error if it is not to be started."""
        for one in list(self._tries.values()):
            if one.before is not None and one.is_prepared:
                one.started = True
                yield one.operation, (HOOK_FAILED, *one.before.failure) if self._skips and one.before.failure else ()

    def has_ended(self, operation: Operation, outcome: Outcome) -> None:
        """A try of a snapshot has ended: start the hooks after it, if those before it were."""
        one = self._tries.get(operation.job)
        if one is None or one.operation != operation:
            return
        result = outcome.error[0] if outcome.error else OK
        uuid = ""
        if outcome.value and self._commands.has(AFTER_VM):
            with suppress(Refused, Unanswered):  # it is read back later; the guest waits now
                uuid = str(self._context.xapi.call("VM.get_uuid", outcome.value))
        synced = one.before is not None and one.before.synced
        self._over(operation.job, result, uuid, outcome.error)
        if outcome.value and synced:
            from vmss.edges.sync_hook import SYNCED

            with suppress(Refused):  # somebody has deleted it
                self._context.xapi.call("VM.add_tags", outcome.value, SYNCED)

    # Waiting

    @property
    def busy(self) -> bool:
        """Whether any hook runs, or waits for others to end."""
        return any(not chain.is_over for chain in self._chains()) or any(
            one.before is None for one in self._tries.values()
        )

    @property
    def are_prepared(self) -> bool:
        """Whether `prepared` has any to give."""
        return any(one.is_prepared for one in self._tries.values())

    def wait(self, timeout_s: float) -> float:
        """Wait for hooks, a fifth of a second at most, and let the next ones of their chains start. Return how long to
        wait for anything else then: not at all."""
        running: List[Child] = [chain.child for chain in self._chains() if chain.child is not None]
        look_after(running, min(timeout_s, _STEP_S))
        self.look()
        return 0.0

    def look(self) -> None:
        """See which hooks have ended, without waiting, and let the next ones start."""
        for chain in self._chains():
            chain.look()
        ended = [key for key, chain in self._after if chain.is_over]
        if ended:
            self._after = [(key, chain) for key, chain in self._after if not chain.is_over]
            for key in ended:
                self._noted.pop(key, None)
            self.keep()
        if self._stopping:
            self.stop()
        self._start_before()

    def _chains(self) -> List[Chain]:
        before = [one.before for one in self._tries.values() if one.before is not None]
        return [chain for _, chain in self._after] + before + ([self._pass] if self._pass is not None else [])

    def _wait_for_all(self) -> None:
        while any(not chain.is_over for chain in self._chains()):
            self.wait(_STEP_S)
        self.look()

    # Chains

    def _start_before(self) -> None:
        """Start the hooks before the snapshots that wait for that, as far as there is room."""
        waiting = [one for one in self._tries.values() if one.before is None]
        if not waiting or self._stopping:
            return
        room = _AT_ONCE - sum(not chain.is_over for chain in self._chains())
        occupied = {key for key, _ in self._after}
        begin = [one for one in waiting if one.subject.vm_uuid not in occupied][: max(0, room)]
        if begin and not self._not_prepared:
            self._noted.update((one.subject.vm_uuid, _written(one.subject)) for one in begin)
            self.keep()
        for one in begin:
            if self._not_prepared:
                one.before = Chain([], True, self._context.log, self._not_prepared)
                continue
            one.owes = True
            steps = self._commands.of(BEFORE_VM, told_before(BEFORE_VM, one.subject), one.subject.vm_uuid)
            steps += self._commands.sync(one.subject, before=True)
            one.before = Chain(steps, self._skips, self._context.log)

    def _over(self, number: int, result: str, uuid: str = "", error: Error = ()) -> None:
        """A try is over: start the hooks after it."""
        one = self._tries.pop(number)
        if one.owes:
            self._start_after(one.subject.vm_uuid, one.subject, result, uuid, error)

    def _start_after(self, key: str, subject: Subject, result: str, uuid: str = "", error: Error = ()) -> None:
        phase = AFTER_PASS if key == _ALL else AFTER_VM
        steps = self._commands.sync(subject, before=False)
        steps += self._commands.of(phase, told_after(phase, subject, result, uuid, error), subject.vm_uuid)
        self._after.append((key, Chain(steps, False, self._context.log)))

    # The note

    def _note(self, key: str, subject: Subject) -> None:
        self._noted[key] = _written(subject)
        self.keep()

    def keep(self) -> None:
        """Write down what is to be ended, also where somebody has removed what was written before."""
        try:
            self._directory.keep(self._name, self._noted)
        except LockError as error:  # a full disk
            self._context.log(str(error))


def _written(subject: Subject) -> Dict[str, str]:
    return dict(subject._asdict())


def _subject(key: str, value: Any) -> Optional[Subject]:
    """What `_written` gives, under this key; None for anything else."""
    if not isinstance(value, Mapping) or set(value) != set(Subject._fields):
        return None
    if not all(isinstance(text, str) for text in value.values()):
        return None
    subject = Subject(**value)
    return subject if key == (subject.vm_uuid or _ALL) and (key == _ALL or is_uuid(key)) else None
