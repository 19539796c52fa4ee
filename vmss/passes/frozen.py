"""The VMs that ran when a checkpoint of ours began, as a pass knows them: its notes, and those of earlier passes."""

from datetime import datetime, timedelta
from typing import Collection, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from vmss.core.datetimes import format_datetime, stated
from vmss.core.frozen import LEFT, LOST, SETTLED, STUCK, UNDER_WAY, Frozen, Seen, judge, reason, remedy
from vmss.core.records import FROZEN_PREFIX, FROZEN_SUFFIX
from vmss.core.text import quoted
from vmss.edges import frozen as kept
from vmss.edges.lock import LockDirectory
from vmss.edges.lock_folder import LockError
from vmss.edges.xapi import Refused
from vmss.passes.context import Context

# An alert says so often that a VM is still Suspended.
_TOLD_AGAIN_AFTER = timedelta(days=1)


class Down(NamedTuple):
    """A frozen VM that is Suspended: its name, since when, the reason why it still is, and what follows: LEFT, LOST or
    STUCK."""

    name: str
    since: datetime
    why: str
    state: str = LEFT


class FrozenVms:
    """The notes of frozen VMs, in both places, and what became of these VMs in this pass.

    `notes` by the uuid of the VM; `earlier` are the VMs that earlier passes noted, until somebody has seen to them.
    `down` are those that are Suspended, `tried` those that this pass has tried to resume, both by the uuid.
    """

    def __init__(self, context: Context, directory: LockDirectory) -> None:
        self.down: Dict[str, Down] = {}
        self.tried: Dict[str, None] = {}
        self._resumed: List[str] = []  # what an alert has to say about VMs that were resumed
        self._context = context
        self._directory = directory
        self._name = context.pool.uuid + FROZEN_SUFFIX
        self._full = False
        filed, pooled = kept.of_file(directory.read(self._name)), kept.of_pool(context.pool.other_config)
        self._pooled = set(pooled)
        self.notes = kept.believed(pooled, filed, context.clock.now())
        self.earlier: List[str] = sorted(self.notes)
        if len(self.notes) < len(set(filed) | set(pooled)):
            self._write()

    def add(self, vm: str, now: datetime) -> None:
        """A VM is running, and its checkpoint is about to start."""
        self.notes[vm] = Frozen(vm, now.replace(microsecond=0))
        self._write()
        if vm not in self._pooled:
            self._tell_pool("pool.add_to_other_config", vm, format_datetime(now))

    def keep(self) -> None:
        """Write the notes of earlier passes again where they are missing: xapi has forgotten them, or the host had no
        room for them, or was not the coordinator."""
        for vm, frozen in self.notes.items():
            if vm not in self._pooled:
                self._tell_pool("pool.add_to_other_config", vm, format_datetime(frozen.since))
        self._write()

    def change(self, frozen: Frozen) -> None:
        """Replace the note of a VM, if there is one, by this."""
        if frozen.vm in self.notes and self.notes[frozen.vm] != frozen:
            self.notes[frozen.vm] = frozen
            self._write()

    def remove(self, vm: str) -> None:
        """The note of a VM has done its service."""
        self.down.pop(vm, None)
        if self.notes.pop(vm, None) is not None:
            self._tell_pool("pool.remove_from_other_config", vm)
            self._write()

    # How they are

    def look(self, vms: Collection[str]) -> Iterator[Tuple[Frozen, Optional[Seen], str]]:
        """The notes of these VMs, how the VMs are seen (None: gone), and what follows. What is settled loses its note,
        and what is Suspended and should not be is `down`."""
        notes = [self.notes[vm] for vm in vms if vm in self.notes]
        settings, now = self._context.settings, self._context.clock.now()
        limit_s = settings.checkpoint_limit + settings.cancel_limit
        seen = kept.look(self._context.xapi, notes, now, settings.resume) if notes else {}
        for frozen in notes:
            it = seen.get(frozen.vm)
            state = judge(frozen, it, now, limit_s)
            if state == SETTLED:
                self.remove(frozen.vm)
            elif it is not None and (state in (STUCK, LOST) or (state == LEFT and frozen.vm not in self.down)):
                self.is_down(frozen, it.name, reason(state, it.operations), state)
            elif state == UNDER_WAY:
                self.down.pop(frozen.vm, None)
            yield frozen, it, state

    def is_down(self, frozen: Frozen, name: str, why: str, state: str = LEFT) -> None:
        """A VM is Suspended."""
        self.down[frozen.vm] = Down(name, frozen.since, why, state)

    def was_resumed(self, frozen: Frozen, name: str) -> None:
        """A VM that was Suspended has been resumed."""
        began = stated(frozen.since, self._context.log.zone)
        self._resumed.append(
            "VM %s (%s) had been left suspended by its checkpoint of %s, and was resumed."
            % (quoted(name), frozen.vm, began)
        )
        self.tried.pop(frozen.vm, None)
        self.remove(frozen.vm)

    # What is to be told

    def resumed(self) -> List[str]:
        """The sentences about VMs that were resumed, each once."""
        sentences, self._resumed = self._resumed, []
        return sentences

    def sentence(self, vm: str) -> str:
        """What is to be said about a VM that is down."""
        down = self.down[vm]
        began = stated(down.since, self._context.log.zone)
        cure = remedy(vm, down.state)
        return "VM %s (%s) is suspended since its checkpoint of %s: %s." % (quoted(down.name), vm, began, cure)

    def told(self, vms: Sequence[str]) -> None:
        """An alert says that these VMs are down."""
        for vm in vms:
            if vm in self.notes:
                now = self._context.clock.now().replace(microsecond=0)
                self.change(self.notes[vm]._replace(told=now, told_as=self.down[vm].state))

    def still_down(self) -> List[str]:
        """The VMs that are down at this moment, and of which no alert has said so in the last day, or one with another
        remedy than is needed now."""
        untold = [vm for vm, down in sorted(self.down.items()) if self._is_untold(self.notes[vm], down.state)]
        try:
            return [frozen.vm for frozen, _, state in self.look(untold) if state in (LEFT, LOST, STUCK)]
        except Refused as refused:
            self._context.log("Whether VMs are suspended cannot be told: %s" % refused)
            return []

    def _is_untold(self, frozen: Frozen, state: str) -> bool:
        if frozen.told_as not in ("", state):
            return True
        age = None if frozen.told is None else self._context.clock.now() - frozen.told
        return age is None or not timedelta(0) <= age < _TOLD_AGAIN_AFTER

    def _tell_pool(self, method: str, vm: str, *more: str) -> None:
        try:
            self._context.xapi.call(method, self._context.pool.ref, FROZEN_PREFIX + vm, *more)
        except Refused as refused:
            if refused.code != "MAP_DUPLICATE_KEY":
                self._context.log("pool.other_config cannot note that VM %s ran: %s" % (vm, refused))
                return
        if more:
            self._pooled.add(vm)
        else:
            self._pooled.discard(vm)

    def _write(self) -> None:
        try:
            self._directory.keep(self._name, kept.to_file(list(self.notes.values())))
        except LockError as error:  # a full disk: there is the other place
            if not self._full:
                self._context.log(str(error))
            self._full = True
