"""Whether what the task of a snapshot tells is the snapshot that was to be taken: a function of what was read back."""

from datetime import datetime
from typing import Iterator, Mapping, NamedTuple, Tuple

from vmss.core.datetimes import CLOCK_TOLERANCE, EPOCH
from vmss.core.job import Job


class Taken(NamedTuple):
    """A scheduled snapshot of a VM, as it is read back. `vbds` are the references of its VBDs; `making`: an operation
    that takes a snapshot is still in progress on it. `memory` is the reference of its memory image, the null reference
    if it should have one and has none, and empty if it should not."""

    ref: str
    uuid: str
    time: datetime
    vbds: Tuple[str, ...] = ()
    making: bool = False
    memory: str = ""


class Named(NamedTuple):
    """An object that the task of a snapshot tells, and that is none of the VM's scheduled snapshots. `of` is the
    reference of the VM that it is a snapshot of."""

    uuid: str
    is_a_snapshot: bool
    of: str
    marked: bool
    time: datetime = EPOCH


def new_snapshot(told: str, snapshots: Mapping[str, Taken], job: Job, since: datetime) -> str:
    """Given the reference that the task of a job's snapshot tells, and scheduled snapshots of the VM by reference,
    return that of the new one: the one that was told, or else the newest other one; empty if there is none.

    New is one that the plan did not know, and that is not older than `since`.
    """
    new = {ref: snapshot for ref, snapshot in snapshots.items() if _is_new(snapshot, job, since)}
    if told in new:
        return told
    # One that is still being made may yet fail.
    others = [snapshot for snapshot in new.values() if not snapshot.making]
    return max(others, key=lambda one: (one.time, one.uuid)).ref if others else ""


def _is_new(snapshot: Taken, job: Job, since: datetime) -> bool:
    # Clocks differ a little. What is older, and ours, the plan knew.
    return snapshot.uuid not in job.known and snapshot.time >= since - CLOCK_TOLERANCE


def reasons(named: Named, job: Job, since: datetime) -> Iterator[str]:
    """Why an object that the task of a job's snapshot tells is not that snapshot; the first reason counts."""
    if not named.is_a_snapshot:
        yield "it tells an object that is no snapshot"
    if named.of != job.vm:
        yield "it tells a snapshot of another VM"
    if named.uuid in job.known or named.time < since - CLOCK_TOLERANCE:
        yield "it tells a snapshot that is older"
