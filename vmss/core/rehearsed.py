"""What a rehearsal says: of runs, each VM with what would be taken and deleted; of a deletion, each snapshot."""

from datetime import datetime, tzinfo
from typing import List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core.fate import Fate
from vmss.core.job import Job
from vmss.core.turn import Turn


class Rehearsed(NamedTuple):
    """One VM of a schedule that would run for a slot. `takes` is the method, such as `VM.snapshot`, or empty if the VM
    has its snapshot of the slot already; `deletes` are the uuids of the snapshots that would go, the oldest first, and
    `later` is the number of those that would go in later runs. `fates`: what would become of each of its snapshots, and
    why."""

    schedule: str
    schedule_uuid: str
    slot: datetime
    vm: str
    uuid: str
    takes: str
    deletes: Tuple[str, ...]
    later: int
    fates: Tuple[Fate, ...] = ()


class Rehearsal(NamedTuple):
    """All of them, in the order of the schedules; and the zones of the schedules and of whoever asks."""

    vms: Tuple[Rehearsed, ...]
    zone: tzinfo
    here: tzinfo


class Doomed(NamedTuple):
    """One snapshot that a request to delete would delete: its VM, whose name is empty if it is gone; when it was taken;
    its size on disk in bytes, if that is known."""

    vm: str
    vm_uuid: str
    uuid: str
    name: str
    time: datetime
    size: Optional[int] = None


class Listing(NamedTuple):
    """All of them, by the names of VMs, and of each the oldest first; a line for each that stays though it was asked
    for; the time at which they were listed, the zone of the schedules, and that of whoever asks."""

    snapshots: Tuple[Doomed, ...]
    stay: Tuple[str, ...]
    now: datetime
    zone: tzinfo
    here: tzinfo


def rehearsed(jobs: Sequence[Job], turns: Sequence[Turn], fates: Mapping[str, Sequence[Fate]]) -> List[Rehearsed]:
    """The plan of these jobs; `fates` are those of the snapshots of their VMs, by reference."""
    return [
        Rehearsed(
            turn.policy.name,
            turn.policy.uuid,
            turn.slot,
            job.name,
            job.uuid,
            job.take,
            tuple(snapshot.uuid for snapshot in job.first_to_go),
            len(job.expired) - len(job.first_to_go),
            tuple(fates.get(job.vm, ())),
        )
        for turn in turns
        for job in jobs
        if job.policy == turn.policy.ref
    ]
