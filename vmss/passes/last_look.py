"""The last look, right before something is destroyed: what somebody reads, uses or has pinned since the plan stays."""

from itertools import islice
from math import inf
from typing import Dict, Iterator, List, Mapping, NamedTuple, Sequence, Set, Tuple

from vmss.core.job import DESTROY_VDI, DESTROY_VM, SHUT_DOWN, ExpiredDisk, ExpiredSnapshot, Job, Operation
from vmss.core.outcome import SPARED, UNREADABLE, Error, Outcome
from vmss.edges import storage
from vmss.edges.vms import read_held
from vmss.edges.xapi import Misunderstood
from vmss.passes.context import Context

# A look that is older than this, in seconds, is taken again: an operation may have waited for its SR since.
_FRESH_S = 5.0
# Disks that are looked at together with one whose turn has come, because theirs comes next on the same SR. Destroying
# one takes about a second.
_NEXT = 4


class _Question(NamedTuple):
    """An expired snapshot of a job; whether its own state is asked for; and those of its disks whose users are."""

    job: int
    snapshot: ExpiredSnapshot
    itself: bool
    disks: Tuple[ExpiredDisk, ...]


class LastLook:
    """Asks xapi, for many snapshots in one query. `problems` are the jobs of which it could not understand the answer,
    so that their snapshots stay."""

    def __init__(self, context: Context) -> None:
        self.problems: List[Tuple[int, Error]] = []
        self._context = context
        self._log = context.log
        self._asked: Dict[str, float] = {}  # by reference, on the monotonic clock
        self._in_use: Set[str] = set()  # disks that were, and that the log has told of
        self._next: Dict[str, Dict[str, _Question]] = {}  # disks to be destroyed, in their order, by SR and reference

    def spared(self, expired: Sequence[Tuple[int, ExpiredSnapshot]]) -> Set[str]:
        """The references of those of these snapshots, by the numbers of their jobs, and of their disks, that must
        stay."""
        questions = [_Question(number, snapshot, bool(snapshot.ref), snapshot.disks) for number, snapshot in expired]
        spared, unread = self._ask(questions)
        for number, snapshot in expired:
            if snapshot.ref in unread:
                self.problems.append((number, unread[snapshot.ref]))
        return spared | set(unread)

    def disks_are_next(self, number: int, snapshot: ExpiredSnapshot) -> None:
        """A snapshot of a job is gone, and its disks wait for their SRs."""
        for disk in snapshot.disks:
            if disk.ref in self._in_use:
                continue
            self._next.setdefault(disk.sr, {})[disk.ref] = _Question(number, snapshot, False, (disk,))

    def stopped(self, operations: Sequence[Operation], jobs: Sequence[Job]) -> Dict[Operation, Outcome]:
        """The outcomes of those of these operations that must not be started. No call is made if all were looked at a
        moment ago."""
        now = self._context.clock.monotonic()
        stale = [
            operation
            for operation in operations
            if operation.action in (SHUT_DOWN, DESTROY_VM, DESTROY_VDI)
            and now - self._asked.get(operation.ref, -inf) > _FRESH_S
        ]
        for operation in operations:
            for sr in operation.tokens:
                self._next.get(sr, {}).pop(operation.ref, None)
        questions = [question for operation in stale for question in self._about(operation, jobs[operation.job])]
        spared, unread = self._ask(questions) if questions else (set(), {})
        outcomes: Dict[Operation, Outcome] = {}
        for operation in stale:
            if operation.ref in unread:
                outcomes[operation] = Outcome(error=unread[operation.ref])
            elif operation.ref in spared:
                # A disk that somebody uses is no longer ours to destroy: so nothing is left to do.
                outcomes[operation] = Outcome(error=() if operation.action == DESTROY_VDI else (SPARED,))
        return outcomes

    def _about(self, operation: Operation, job: Job) -> Iterator[_Question]:
        """What to ask before an operation is started."""
        for snapshot in job.expired:
            if operation.action != DESTROY_VDI and operation.ref == snapshot.ref:
                yield _Question(operation.job, snapshot, True, ())
            for disk in snapshot.disks:
                if operation.action == DESTROY_VDI and operation.ref == disk.ref:
                    yield _Question(operation.job, snapshot, False, (disk,))
                    yield from islice(self._next.get(disk.sr, {}).values(), _NEXT)

    # Asking

    def _ask(self, questions: Sequence[_Question]) -> Tuple[Set[str], Dict[str, Error]]:
        """The references of what must stay; and of what cannot be told, with the reason."""
        spared: Set[str] = set()
        unread: Dict[str, Error] = {}
        try:
            spared = self._look(questions)
        except Misunderstood:  # asked one by one, it shows which snapshot is concerned
            for question in questions:
                try:
                    spared |= self._look([question])
                except Misunderstood as error:
                    self._log("Snapshot %s is left alone: who uses its disks cannot be told" % question.snapshot.uuid)
                    unread.update((ref, (UNREADABLE, str(error))) for ref in _refs(question))
        return spared, unread

    def _look(self, questions: Sequence[_Question]) -> Set[str]:
        xapi = self._context.xapi
        held = read_held(xapi, [question.snapshot.uuid for question in questions if question.itself])
        disks = [disk.ref for question in questions for disk in question.disks]
        users = storage.read_users(xapi, disks)
        now = self._context.clock.monotonic()
        spared: Set[str] = set()
        for question in questions:
            snapshot = question.snapshot
            stays = {disk.ref for disk in question.disks if users.get(disk.ref, set()) - {snapshot.ref}}
            if question.itself and _has_others(question, users):
                stays = {snapshot.ref}
                self._log("Snapshot %s is left for a later run: its disks are others by now" % snapshot.uuid)
            elif question.itself and snapshot.ref in held:
                stays = {snapshot.ref}
                if held[snapshot.ref]:
                    self._log(
                        "Snapshot %s is left for a later run: %s is in progress" % (snapshot.uuid, held[snapshot.ref])
                    )
            elif stays - self._in_use:
                self._in_use |= stays
                self._log("Disks of snapshot %s are left alone: %d (in use elsewhere)" % (snapshot.uuid, len(stays)))
            # What must stay is looked at again when its turn comes.
            self._asked.update((ref, now) for ref in _refs(question) if ref not in stays)
            spared |= stays
        return spared


def _has_others(question: _Question, users: Mapping[str, Set[str]]) -> bool:
    """Whether a snapshot has other disks than were planned: its VM was moved to other storage since. Of a memory image,
    which a suspended one has, nobody is a user."""
    mine = [disk for disk in question.disks if question.snapshot.ref in users.get(disk.ref, ())]
    return len(mine) + question.snapshot.suspended < len(question.disks)


def _refs(question: _Question) -> List[str]:
    """The references of what is asked for."""
    return [question.snapshot.ref] * question.itself + [disk.ref for disk in question.disks]
