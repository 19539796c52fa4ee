"""What becomes of the scheduled snapshots of a VM, and why: by which rule each stays, and which run deletes it."""

from datetime import datetime
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence

from vmss.core.retention import EXPIRED, FUTURE, NEWEST, PINNED, YOUNG, Keep, Snapshot, Vote, expired, in_future, votes
from vmss.core.text import one_line
from vmss.core.vms import Vm

# What becomes of a snapshot: a run takes it, or none does; it stays, or a run deletes it.
TAKEN, SKIPPED, STAYS, GOES = "is taken", "is not taken", "stays", "goes"

# Why a VM gets no snapshot though its schedule is due, and what is said of several.
HALTED = "halted and unchanged since its last snapshot (keep_halted)"
NOT_RUNNING = "not running (vmss:only-running)"
SAID = {
    HALTED: "%s %s halted and unchanged since the last snapshot, which stands for this one too (keep_halted).",
    NOT_RUNNING: "%s %s not running, and snapshotted only then (the tag vmss:only-running).",
}

# Coming runs that are looked at; what they do not delete stays for longer than anybody plans.
RUNS_MAX = 400


class Fate(NamedTuple):
    """What becomes of one snapshot, and why. `uuid` is empty for one that is to be taken, and then `time` is that of
    the run. `goes` is the run that deletes it; None: none of those that were looked at."""

    uuid: str
    time: datetime
    fate: str
    why: str
    goes: Optional[datetime] = None


def fates(vm: Vm, keep: Keep, now: datetime, runs: Iterable[datetime], new: int = 0) -> List[Fate]:
    """Given a VM with its snapshots, its rule of retention and the times of the coming runs, return what becomes of
    each snapshot, the newest first. `new`: as many are taken now, before anything is deleted."""
    deleted = _deleted(vm.snapshots, keep, runs)
    found = [
        Fate(
            vote.snapshot.uuid,
            vote.snapshot.time,
            STAYS if vote.stays or vote.snapshot.operation else GOES,
            why(vote, keep, now),
            deleted.get(vote.snapshot.ref),
        )
        for vote in reversed(votes(vm.snapshots, keep, now, new))
    ]
    damaged = "its records contradict each other: no run deletes it"
    return found + [Fate(uuid, now, STAYS, damaged) for uuid in vm.suspect]


def of_no_run(vm: Vm, now: datetime, because: str) -> List[Fate]:
    """What becomes of the snapshots of a VM whose schedule deletes none, the newest first."""
    newest_first = sorted(vm.snapshots, key=lambda snapshot: (snapshot.time, snapshot.uuid), reverse=True)
    return [Fate(one.uuid, one.time, STAYS, _pinned(one) if one.pinned else because) for one in newest_first]


def why(vote: Vote, keep: Keep, now: datetime) -> str:
    """Why a snapshot stays or goes, in words."""
    snapshot = vote.snapshot
    if vote.rule == PINNED:
        return _pinned(snapshot)
    if vote.rule == EXPIRED:
        # xapi would let the deletion wait until a copy or an export ends.
        reading = "; it stays as long as %s is in progress on it" % one_line(snapshot.operation, 40)
        return "exceeds the %d that are kept%s" % (keep.retained, reading if snapshot.operation else "")
    if vote.rule == FUTURE or in_future(snapshot, now):
        return "dated in the future: it does not count, and stays until its time has come"
    if vote.rule == NEWEST:
        return "newest %d of %d" % (vote.place, keep.retained)
    if vote.rule == YOUNG:
        return "younger than %d day%s" % (keep.days, "" if keep.days == 1 else "s")
    return "kept as %s, %d of %d" % (vote.rule, vote.place, dict(keep.spread)[vote.rule])


def _pinned(snapshot: Snapshot) -> str:
    return "pinned%s" % (": %s" % one_line(snapshot.pin, 200) if snapshot.pin else "")


def _deleted(snapshots: Sequence[Snapshot], keep: Keep, runs: Iterable[datetime]) -> Dict[str, datetime]:
    """Which of the coming runs deletes each snapshot, by reference, if each of them takes its own and nothing fails."""
    found: Dict[str, datetime] = {}
    left = {snapshot.ref for snapshot in snapshots if not snapshot.pinned}
    there = list(snapshots)
    for number, run in enumerate(runs):
        if not left - set(found) or number == RUNS_MAX:
            break
        # What is in progress on a snapshot now is taken to have ended by the run after the next.
        gone = [one for one in expired(there, keep, run, 1) if number or not one.operation]
        gone = gone[: keep.in_a_run(len(gone))]
        found.update((one.ref, run) for one in gone)
        there = [one for one in there if one not in gone]
        there.append(Snapshot("run %d" % number, "run %05d" % number, run))
    return found
