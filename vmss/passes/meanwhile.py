"""What has become of an operation whose result is lost, or of a VM since its job was planned: the pool is asked."""

from typing import Optional, Tuple

from vmss.core.job import DESTROY_VDI, DESTROY_VM, Job, Operation
from vmss.core.outcome import Outcome
from vmss.core.plan import free_name
from vmss.edges.query import exists
from vmss.edges.vms import read_snapshots
from vmss.edges.xapi import Refused, Xapi


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


def if_gone(xapi: Xapi, operation: Operation) -> Optional[Outcome]:
    """The outcome of a deletion whose result is lost, if what it was to destroy is gone; else None."""
    cls = {DESTROY_VM: "VM", DESTROY_VDI: "VDI"}.get(operation.action)
    try:
        if cls is None or exists(xapi, cls, operation.ref):
            return None
    except Refused:
        return None
    return Outcome(error=("HANDLE_INVALID", cls, operation.ref))
