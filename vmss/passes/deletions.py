"""The deletions of a pass, as the journal has them: recorded before they begin, struck off when they have ended."""

from itertools import islice
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core import plan
from vmss.core.engine import Engine
from vmss.core.job import DESTROY_VDI, DESTROY_VM, TAKES, ExpiredSnapshot, Operation, already_gone
from vmss.core.left_over import Entry, Stuck, stuck
from vmss.core.outcome import RESULT_LOST, RUN_OVER, SPARED, STORAGE_STUCK, TIMED_OUT, UNREADABLE, Error, Outcome
from vmss.core.text import one_line
from vmss.core.vms import Disk
from vmss.edges import storage
from vmss.edges.query import by_uuid
from vmss.edges.xapi import Misunderstood, Refused
from vmss.passes import still_expired
from vmss.passes.context import Context
from vmss.passes.database import write_database
from vmss.passes.journal import Entries, Journal
from vmss.passes.last_look import LastLook
from vmss.passes.left_over import LeftOver
from vmss.passes.notes import Notes

# Upper limit on the jobs in one entry of the journal.
JOBS_AT_ONCE = 300
# What says nothing about the snapshot or the disk: it is pinned, somebody reads it, the pass had no time for it, or it
# was not even tried, because another operation hangs on the same storage.
_NOT_STUCK = ("OPERATION_BLOCKED", SPARED, RUN_OVER, STORAGE_STUCK)


class _Entry:
    """An entry of the journal: its jobs that have not ended, the mark that it had, and what remains of it: by the code
    of an error, that error and the disks, by snapshot. What has no error is tried again by the next pass."""

    def __init__(self, jobs: Set[int], mark: Optional[Stuck] = None) -> None:
        self.jobs = jobs
        self.mark = mark
        self.remaining: Dict[str, Tuple[Error, Entries]] = {}

    def remains(self, error: Error, snapshot: str, disks: Sequence[str]) -> None:
        """These disks of a snapshot remain because of an error."""
        entries = self.remaining.setdefault(error[0] if error else "", (error, {}))[1]
        entries.setdefault(snapshot, []).extend(disks)


class _Leftover(NamedTuple):
    """An entry that an earlier pass left: its key and mark; the snapshots in it that are gone with those of their disks
    that still exist; what cannot be decided yet; and what cannot be understood, with the reasons."""

    key: str
    mark: Optional[Stuck]
    gone: List[Tuple[str, List[Disk]]]
    undecided: Entries
    misread: List[Tuple[str, List[str], Error]]


class Deletions:
    """Keeps the journal of one engine's deletions. `problems` are the jobs of which snapshots had to stay, and why."""

    def __init__(self, context: Context, engine: Engine, journal: Journal, left: LeftOver, notes: Notes) -> None:
        self._notes = notes
        self._context = context
        self._log = context.log
        self._engine = engine
        self._journal = journal
        self._left = left
        self._last_look = LastLook(context)
        self._entries: Dict[str, _Entry] = {}  # by key
        self._written: Set[int] = set()  # jobs that are in the journal
        self._resting: Dict[Tuple[int, str], bool] = {}  # by job and snapshot
        self.problems: List[Tuple[int, Error]] = self._last_look.problems

    def resume_leftovers(self, settled: bool) -> None:
        """Turn what earlier passes recorded and did not finish into jobs. `settled`: all their operations ended."""
        for leftover in self._leftovers(settled):
            jobs = self._engine.add([plan.leftover(snapshot, disks) for snapshot, disks in leftover.gone])
            entry = _Entry({job for job in jobs if not self._engine.states[job].done}, leftover.mark)
            for snapshot, disks, error in leftover.misread:
                entry.remains(error, snapshot, disks)
            if jobs or leftover.misread or not leftover.undecided:
                for snapshot, disks in leftover.undecided.items():
                    entry.remains((), snapshot, disks)
                self._entries[leftover.key] = entry
                self._close(leftover.key)
            # else all of it is undecided: the entry stays as it is

    def record(self, jobs: Sequence[int]) -> List[int]:
        """Write what these jobs destroy into the journal, and let the engine start on it. Return the jobs of which
        everything was spared, and which have ended thereby.

        Before that, the journal and the records of the new snapshots are on the coordinator's disk: otherwise the death
        of xapi would leave a VM with neither the old snapshot nor the new one. If xapi cannot write its database,
        nothing is destroyed. What could not be deleted before stays until its pause is over, and so does what has not
        expired any more.
        """
        expired = [(number, snapshot) for number in jobs for snapshot in self._engine.jobs[number].expired]
        wanted = [(number, snapshot) for number, snapshot in expired if not self._rests(number, snapshot)]
        stay = self._stays_after_all(wanted)
        wanted = [(number, snapshot) for number, snapshot in wanted if snapshot.ref not in stay]
        error: Error = ()
        if wanted:
            if not self._written.issuperset(number for number, _ in wanted):
                self._write(jobs)
            error = write_database(self._context, self._notes)
        if error:
            self.problems += [(number, error) for number in dict.fromkeys(number for number, _ in wanted)]
            self._engine.recorded(jobs, frozenset(snapshot.ref for _, snapshot in expired))
        else:
            resting = {snapshot.ref for _, snapshot in expired} - {snapshot.ref for _, snapshot in wanted}
            self._engine.recorded(jobs, frozenset(self._last_look.spared(wanted) | resting))
        return [number for number in jobs if self._engine.states[number].done]

    def stopped(self, operations: Sequence[Operation]) -> Dict[Operation, Outcome]:
        """The outcomes of those of these operations that must not be started after all: somebody has begun to use or to
        read what they destroy, or has pinned it."""
        return self._last_look.stopped(operations, self._engine.jobs)

    def operation_ended(self, operation: Operation, outcome: Outcome) -> None:
        """Before the engine is told: note what could not be destroyed, or may yet be."""
        if operation.action in TAKES:
            return
        error = () if already_gone(operation, outcome) else outcome.error
        for snapshot in self._engine.jobs[operation.job].expired:
            disks = [disk.uuid for disk in snapshot.disks if operation.ref in (disk.ref, snapshot.ref)]
            if operation.ref == snapshot.ref:
                self._snapshot_ended(operation, snapshot, error)
            if error and disks and (operation.action == DESTROY_VDI or error[0] in (TIMED_OUT, RESULT_LOST)):
                entries = (entry for entry in self._entries.values() if operation.job in entry.jobs)
                next(entries).remains(() if error[0] in _NOT_STUCK else error, snapshot.uuid, disks)

    def job_ended(self, number: int) -> None:
        """Strike a job off its entry."""
        for key in [key for key, entry in self._entries.items() if number in entry.jobs]:
            self._entries[key].jobs.discard(number)
            self._close(key)

    def _rests(self, number: int, snapshot: ExpiredSnapshot) -> bool:
        """Whether a job leaves a snapshot alone because it could not be deleted before. Decided once: what was left out
        of the journal must not be destroyed when the pause has ended meanwhile."""
        key = number, snapshot.uuid
        if key not in self._resting:
            self._resting[key] = self._left.rests(snapshot.uuid, self._context.clock.now())
        return self._resting[key]

    def _stays_after_all(self, wanted: Sequence[Tuple[int, ExpiredSnapshot]]) -> Set[str]:
        """The references of those of these snapshots that have not expired any more."""
        numbers = dict.fromkeys(number for number, _ in wanted)
        doomed = [(self._engine.jobs[number], self._engine.states[number].snapshot) for number in numbers]
        return still_expired.spared(self._context, doomed)

    def _snapshot_ended(self, operation: Operation, snapshot: ExpiredSnapshot, error: Error) -> None:
        """The shutdown or the deletion of a snapshot has ended."""
        if not error and operation.action == DESTROY_VM:
            self._left.gone(snapshot.uuid)
            self._last_look.disks_are_next(operation.job, snapshot)
        elif error and error[0] not in _NOT_STUCK:
            vm = self._engine.jobs[operation.job].uuid
            self._left.not_deleted(snapshot.uuid, vm, error, self._context.clock.now())

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
            if not self._rests(job, snapshot)
        }
        self._written.update(together)
        unfinished = {job for job in together if not self._engine.states[job].done}
        for key in self._journal.write(entries):
            self._entries[key] = _Entry(set(unfinished))

    def _close(self, key: str) -> None:
        """If all jobs of an entry have ended, replace it by entries of what is left over, if anything is."""
        entry = self._entries[key]
        if entry.jobs:
            return
        del self._entries[key]
        now = self._context.clock.now()
        for error, entries in entry.remaining.values():
            mark = (stuck(error, now) if entry.mark is None else entry.mark.again(error, now)) if error else None
            self._journal.write(entries, mark)
        self._journal.remove(key)
        self._left.save()

    def _leftovers(self, settled: bool) -> Iterator[_Leftover]:
        for key, entry in self._readable_entries():
            leftover = _Leftover(key, entry.stuck, [], {}, [])
            for snapshot, uuids in sorted(entry.disks.items()):
                refs = by_uuid(self._context.xapi, "VM", snapshot)
                if refs:
                    # Nothing of it was destroyed, and retention decides anew; unless its deletion is still under way.
                    if not settled or self._is_busy(refs[0]):
                        leftover.undecided[snapshot] = uuids
                    continue
                try:
                    there = storage.remaining_disks(self._context.xapi, uuids)
                except Misunderstood as error:
                    leftover.misread.append((snapshot, uuids, (UNREADABLE, str(error))))
                    self._log("The disks of snapshot %s, which is gone, are left alone: %s" % (snapshot, error))
                    continue
                leftover.gone.append((snapshot, there))
                self._log("Finishing the deletion of snapshot: %s. Disks left: %d" % (snapshot, len(there)))
                others = [disk.uuid for disk in there if not plan.ours(disk, 0)]
                if others:
                    self._log(
                        "Disks of snapshot %s are left alone: %s (in use elsewhere, or no snapshots of a VM's disks)"
                        % (snapshot, ", ".join(others))
                    )
            yield leftover

    def _is_busy(self, snapshot: str) -> bool:
        """Whether a deletion of a snapshot may be under way. Notes of sessions may lack it: a full disk takes none.
        Before it begins, a task does not say what it is about."""
        pending = '(field "name__label" = "Async.VM.destroy") and (field "status" = "pending")'
        try:
            return bool(
                self._context.xapi.call("VM.get_current_operations", snapshot)
                or self._context.xapi.call("task.get_all_records_where", pending)
            )
        except Refused:  # it is gone meanwhile: the next pass sees it
            return True

    def _readable_entries(self) -> Iterator[Tuple[str, Entry]]:
        """The entries of earlier passes that do not rest; what cannot be understood is removed."""
        for key, entry in self._journal.leftovers():
            if entry is None:
                self._log(
                    "pool.other_config: %s cannot be understood as a record of deletions, and is removed: %s"
                    % (one_line(key, 100), one_line(self._context.pool.other_config[key], 1000))
                )
                self._journal.remove(key)
            else:
                yield key, entry
