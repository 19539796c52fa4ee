"""What a VM got since its job was planned: a snapshot whose answer was lost, or that an earlier pass had started."""

from typing import Tuple

from vmss.core.job import Job
from vmss.core.plan import free_name
from vmss.edges.vms import read_snapshots
from vmss.edges.xapi import Xapi


def snapshot_since(xapi: Xapi, job: Job) -> Tuple[str, Job]:
    """The reference of the scheduled snapshot that a job's VM got since the job was planned, empty if there is none;
    and the job, in which the next one has a name that no snapshot of the VM has now."""
    snapshots = read_snapshots(xapi, [job.vm]).get(job.vm, {})
    named = job._replace(label=free_name(job.label, {snapshot.name for snapshot in snapshots.values()}))
    since = job.slot if job.task else job.since  # an earlier pass has started it
    for ref, snapshot in snapshots.items():
        # By its date alone, one from a time when the clock was ahead would count as new.
        if snapshot.uuid not in job.known and snapshot.time >= since:
            return ref, named
    return "", named
