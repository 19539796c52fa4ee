"""The deletions of a pass, as the journal has them: recorded before they begin, struck off when they have ended."""

from itertools import islice
from typing import Dict, FrozenSet, Iterator, List, NamedTuple, Sequence, Set, Tuple

from vmss.core import plan
from vmss.core.engine import Engine
from vmss.core.job import DESTROY_VDI, TAKES, ExpiredSnapshot, Operation, already_gone
from vmss.core.outcome import RESULT_LOST, TIMED_OUT, UNREADABLE, Error, Outcome
from vmss.core.text import one_line
from vmss.core.vms import Disk
from vmss.edges import storage
from vmss.edges.query import by_uuid
from vmss.edges.vms import is_pinned
from vmss.edges.xapi import Misunderstood
from vmss.passes.context import Context
from vmss.passes.database import write_database
from vmss.passes.journal import Entries, Journal
from vmss.passes.notes import Notes

# Upper limit on the jobs in one entry of the journal.
JOBS_AT_ONCE = 300


class _Entry:
    """An entry of the journal: its jobs that have not ended, and the disks that could not be destroyed, by snapshot."""

    def __init__(self, jobs: Set[int]) -> None:
        self.jobs = jobs
        self.leftovers: Entries = {}


class _Leftover(NamedTuple):
    """An entry that an earlier pass left: its key, the snapshots in it that are gone with those of their disks that
    still exist, and what cannot be decided yet."""

    key: str
    gone: List[Tuple[str, List[Disk]]]
    undecided: Entries


class Deletions:
    """Keeps the journal of one engine's deletions.

    `changed`: an entry was written or closed. `problems` are the jobs of which snapshots had to stay, and why.
    """

    def __init__(self, context: Context, engine: Engine, journal: Journal, notes: Notes) -> None:
        self.changed = False
        self._notes = notes
        self._context = context
        self._log = context.log
        self._engine = engine
        self._journal = journal
        self._entries: Dict[str, _Entry] = {}  # by key
        self._written: Set[int] = set()  # jobs that are in the journal
        self.problems: List[Tuple[int, Error]] = []

    def resume_leftovers(self, settled: bool) -> None:
        """Turn what earlier passes recorded and did not finish into jobs. `settled`: all their operations ended."""
        for leftover in self._leftovers(settled):
            jobs = self._engine.add([plan.leftover(snapshot, disks) for snapshot, disks in leftover.gone])
            entry = _Entry({job for job in jobs if not self._engine.states[job].done})
            entry.leftovers = leftover.undecided
            if jobs or not leftover.undecided:
                self._entries[leftover.key] = entry
                self._close(leftover.key)
            # else all of it is undecided: the entry stays as it is

    def record(self, jobs: Sequence[int]) -> List[int]:
        """Write what these jobs destroy into the journal, and let the engine start on it. Return the jobs of which
        everything was spared, and which have ended thereby.

        Before that, the journal and the records of the new snapshots are on the coordinator's disk: otherwise the death
        of xapi would leave a VM with neither the old snapshot nor the new one. If xapi cannot write its database,
        nothing is destroyed.
        """
        if not self._written.issuperset(jobs):
            self._write(jobs)
        expired = [(number, snapshot) for number in jobs for snapshot in self._engine.jobs[number].expired]
        error = write_database(self._context, self._notes)
        if error:
            self.problems += [(number, error) for number in jobs]
            self._engine.recorded(jobs, frozenset(snapshot.ref for _, snapshot in expired))
        else:
            self._engine.recorded(jobs, self._spared(expired))
        return [number for number in jobs if self._engine.states[number].done]

    def operation_ended(self, operation: Operation, outcome: Outcome) -> None:
        """Before the engine is told: note what could not be destroyed, or may yet be."""
        if operation.action in TAKES or not outcome.error or already_gone(operation, outcome):
            return
        for snapshot in self._engine.jobs[operation.job].expired:
            disks = [disk.uuid for disk in snapshot.disks if operation.ref in (disk.ref, snapshot.ref)]
            if disks and (operation.action == DESTROY_VDI or outcome.error[0] in (TIMED_OUT, RESULT_LOST)):
                entries = (entry for entry in self._entries.values() if operation.job in entry.jobs)
                next(entries).leftovers.setdefault(snapshot.uuid, []).extend(disks)

    def job_ended(self, number: int) -> None:
        """Strike a job off its entry."""
        for key in [key for key, entry in self._entries.items() if number in entry.jobs]:
            self._entries[key].jobs.discard(number)
            self._close(key)

    # The journal

    def _write(self, jobs: Sequence[int]) -> None:
        """Record what these jobs destroy, and with them others whose turn will come: that costs no more, and an entry
        says nothing about a snapshot that still exists."""
        waiting = (number for number, job in enumerate(self._engine.jobs) if job.expired and not job.recorded)
        others = (number for number in waiting if number not in self._written and number not in jobs)
        together = list(jobs) + list(islice(others, max(0, JOBS_AT_ONCE - len(jobs))))
        entries = {
            snapshot.uuid: [disk.uuid for disk in snapshot.disks]
            for job in together
            if job not in self._written
            for snapshot in self._engine.jobs[job].expired
        }
        self.changed = True
        self._written.update(together)
        unfinished = {job for job in together if not self._engine.states[job].done}
        for key in self._journal.write(entries):
            self._entries[key] = _Entry(set(unfinished))

    def _close(self, key: str) -> None:
        """If all jobs of an entry have ended, replace it by one of what is left over, if anything is."""
        entry = self._entries[key]
        if not entry.jobs:
            del self._entries[key]
            self.changed = True
            self._journal.write(entry.leftovers)
            self._journal.remove(key)

    def _leftovers(self, settled: bool) -> Iterator[_Leftover]:
        for key, snapshots in self._readable_entries():
            gone: List[Tuple[str, List[Disk]]] = []
            undecided: Entries = {}
            for snapshot, uuids in sorted(snapshots.items()):
                if by_uuid(self._context.xapi, "VM", snapshot):
                    # Nothing of it was destroyed, and retention decides anew; unless its deletion is still under way.
                    if not settled:
                        undecided[snapshot] = uuids
                    continue
                try:
                    gone.append((snapshot, storage.remaining_disks(self._context.xapi, uuids)))
                except Misunderstood as error:
                    undecided[snapshot] = uuids
                    self._log("The disks of snapshot %s, which is gone, are left alone: %s" % (snapshot, error))
                    continue
                self._log("Finishing the deletion of snapshot: %s. Disks left: %d" % (snapshot, len(gone[-1][1])))
            yield _Leftover(key, gone, undecided)

    def _readable_entries(self) -> Iterator[Tuple[str, Entries]]:
        """The entries of earlier passes; what cannot be understood is removed."""
        for key, snapshots in self._journal.leftovers():
            if snapshots is None:
                self._log(
                    "pool.other_config: %s cannot be understood as a record of deletions, and is removed: %s"
                    % (one_line(key, 100), one_line(self._context.pool.other_config[key], 1000))
                )
                self._journal.remove(key)
            else:
                yield key, snapshots

    # What must stay, asked right before the deletion

    def _spared(self, expired: Sequence[Tuple[int, ExpiredSnapshot]]) -> FrozenSet[str]:
        """The references of what must not be destroyed after all: disks that somebody has started to use since the plan
        was made, and checkpoints that were pinned since, which would lose their memory before xapi refuses
        (docs/xapi-facts.md, Pinned snapshots)."""
        spared: Set[str] = set()
        users, unknown = self._users(expired)
        for _, snapshot in expired:
            if snapshot.ref in unknown:
                self._log("Snapshot %s is left alone: who uses its disks cannot be told" % snapshot.uuid)
                spared.add(snapshot.ref)
                continue
            if snapshot.suspended and is_pinned(self._context.xapi, snapshot.ref):
                spared.add(snapshot.ref)
                continue
            used = {disk.ref for disk in snapshot.disks if users.get(disk.ref, set()) - {snapshot.ref}}
            if used:
                self._log("Disks of snapshot %s are left alone: %d (in use elsewhere)" % (snapshot.uuid, len(used)))
            spared |= used
        return frozenset(spared)

    def _users(self, expired: Sequence[Tuple[int, ExpiredSnapshot]]) -> Tuple[Dict[str, Set[str]], Set[str]]:
        """The users of each disk of these snapshots, and the snapshots of which the users cannot be told."""
        xapi = self._context.xapi
        try:
            return storage.read_users(xapi, [disk.ref for _, snapshot in expired for disk in snapshot.disks]), set()
        except Misunderstood:  # asked one by one, it shows which snapshot is concerned
            users: Dict[str, Set[str]] = {}
            unknown: Set[str] = set()
            for number, snapshot in expired:
                try:
                    users.update(storage.read_users(xapi, [disk.ref for disk in snapshot.disks]))
                except Misunderstood as error:
                    unknown.add(snapshot.ref)
                    self.problems.append((number, (UNREADABLE, str(error))))
            return users, unknown
