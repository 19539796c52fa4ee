"""The plan of a pass, as values: what each VM gets, what expires, and what must not be touched."""

from datetime import datetime, timedelta
from typing import Collection, FrozenSet, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core.datetimes import CLOCK_TOLERANCE, UTC
from vmss.core.job import TAKE_CHECKPOINT, TAKE_SNAPSHOT, ExpiredDisk, ExpiredSnapshot, Job, Kept, Operation, Tokens
from vmss.core.policy import Policy
from vmss.core.records import NULL
from vmss.core.retention import Keep, Snapshot, expired, in_future
from vmss.core.text import one_line
from vmss.core.turn import Turn
from vmss.core.vms import Disk, Vm
from vmss.core.ways import AS_EVER, Ways, left_out, method, take

# The expected duration of a snapshot if nothing is known of the VM: seconds for each disk (two snapshots at a time took
# 3.3 s in xen-api's pull request 2671), and bytes of memory that a checkpoint writes per second.
_DISK_SECONDS = 2.0
_MEMORY_PER_SECOND = 100e6

_MIB = 1 << 20

# The types of a VM's own disks. All others serve the pool, or another product: cbt_metadata, for one, is what a backup
# tool makes of a snapshot's disk, and needs for its next incremental backup (docs/xapi-facts.md, Types of disks).
_OF_A_VM = ("user", "system", "ephemeral")

# How a snapshot's name gives an instant, in UTC.
_INSTANT = "%Y-%m-%dT%H:%M:%SZ"

# The token of checkpoints of suspended VMs: xapi picks the host, so one runs at a time.
_ANY_HOST = "any host"


class Space(NamedTuple):
    """The space on an SR, in bytes. `thick`: each disk occupies its whole size, as on LVM."""

    size: int
    used: int
    thick: bool


class Need(NamedTuple):
    """The room that the snapshot of one disk, or of a VM's memory, may need on its SR, in bytes: on an SR that stores
    differences only, and on one that allocates whole volumes."""

    thin: int
    thick: int


class Expiry(NamedTuple):
    """The decision about one VM: whether it has its snapshot of the slot already; what expires, and what of that only
    once the new snapshot exists; what would expire if no operation were in progress on it; and how many may go beyond
    the one that the new snapshot replaces (None: all). `future` is the number of its snapshots that are dated in the
    future, without pinned ones. `excused`: why it counts as served though it got none; else empty. `kept`: see Job."""

    vm: Vm
    turn: Turn
    served: bool
    expired: Tuple[Snapshot, ...]
    after_new: FrozenSet[Snapshot] = frozenset()
    busy: Tuple[Snapshot, ...] = ()
    more: Optional[int] = None
    future: int = 0
    excused: str = ""
    kept: Kept = Kept()


def decide(vm: Vm, turn: Turn, keep: Keep, now: datetime, excused: str = "") -> Expiry:
    """Given a VM, its policy's turn and the rule of retention, return the decision about it. `excused`: why it
    is to get no snapshot, and counts as served; else empty.

    A VM with a scheduled snapshot that is not older than the slot was served already, by a run that was interrupted.
    """
    future = sum(1 for snapshot in vm.snapshots if not snapshot.pinned and in_future(snapshot, now))
    # An operation of that run may have ended after our clock was read; and xapi dates snapshots in whole seconds.
    latest = now + CLOCK_TOLERANCE
    counts = turn.missing or not turn.forced
    served = counts and any(turn.slot <= snapshot.time <= latest for snapshot in vm.snapshots)
    excused = "" if served else excused
    served = served or bool(excused)
    surplus = expired(vm.snapshots, keep, now, new=0 if served else 1)
    after_new = frozenset(surplus) - frozenset(expired(vm.snapshots, keep, now))
    # xapi would let the deletion wait until a copy or an export ends, which may take hours.
    free = tuple(snapshot for snapshot in surplus if not snapshot.operation)
    busy = tuple(snapshot for snapshot in surplus if snapshot.operation)
    return Expiry(vm, turn, served, free, after_new, busy, keep.more, future, excused, what_stays(vm, surplus, now))


def what_stays(vm: Vm, surplus: Sequence[Snapshot], now: datetime) -> Kept:
    """Given what exceeds retention, return those of the VM's snapshots that count and do not."""
    if not surplus:
        return Kept()
    others = set(vm.snapshots).difference(surplus)
    return Kept(vm.policy, frozenset(one.ref for one in others if not one.pinned and not in_future(one, now)))


def job(expiry: Expiry, disks: Mapping[str, Sequence[Disk]], suspend_sr: str, ways: Ways = AS_EVER) -> Job:
    """Given the decision about a VM, the disks of VMs and expired snapshots by reference, the SR for the memory of the
    pool's suspended VMs, and what the settings say of how snapshots are taken, return the job."""
    vm = expiry.vm
    taken_by = "" if expiry.served else take(expiry.turn.policy, vm)
    without = left_out(disks.get(vm.ref, ()), ways)
    mine = [disk for disk in disks.get(vm.ref, ()) if disk not in without]
    tokens = frozenset(disk.sr for disk in mine)
    seconds = _DISK_SECONDS * max(1, len(mine))
    if taken_by == TAKE_CHECKPOINT:
        tokens |= _checkpoint_tokens(vm, suspend_sr)
        seconds += vm.memory / _MEMORY_PER_SECOND
    return Job(
        policy=expiry.turn.policy.ref,
        vm=vm.ref,
        uuid=vm.uuid,
        name=vm.name,
        take=taken_by,
        tokens=tokens if taken_by else frozenset(),
        seconds=seconds if vm.took is None else vm.took,
        expired=tuple(
            _expired(snapshot, disks.get(snapshot.ref, ()), snapshot in expiry.after_new) for snapshot in expiry.expired
        ),
        label=_label(expiry) if taken_by else "",
        known=frozenset([snapshot.uuid for snapshot in vm.snapshots] + list(vm.suspect)),
        slot=expiry.turn.slot,
        task="" if expiry.turn.forced else vm.task,
        more=expiry.more,
        future=expiry.future,
        unless_halted=method(expiry.turn.policy, vm),
        disks=len(mine),
        left_out=tuple(disk.ref for disk in without),
        fallback=ways.fallback,
        plain_instead=ways.plain_instead,
        excused=expiry.excused,
        kept=expiry.kept,
    )


def unproven(expiry: Expiry, job: Job, now: datetime, disks: Optional[int]) -> Job:
    """Given the decision about a VM that was served already, the job that would take its snapshot, and how many disks
    the VM had, if that is known, return the job that reads back the snapshot that is there. Until then nothing goes."""
    of_slot = [one for one in expiry.vm.snapshots if expiry.turn.slot <= one.time <= now + CLOCK_TOLERANCE]
    there = max(of_slot, key=lambda one: (one.time, one.uuid))
    return job._replace(
        there=there.ref,
        label=there.name,
        known=job.known - {there.uuid},
        disks=job.disks if disks is None else disks,
        expired=tuple(one._replace(after_new=True) for one in job.expired),
    )


def _checkpoint_tokens(vm: Vm, suspend_sr: str) -> Tokens:
    """What the checkpoint of a VM occupies beside the SRs of its disks: the memory is written to an SR too, and xapi
    takes one checkpoint per host at a time."""
    return frozenset(_memory_sr(vm, suspend_sr)) | {vm.host if vm.host != NULL else _ANY_HOST}


def take_anew(operation: Operation, job: Job, degraded: bool, vm: Optional[Vm], suspend_sr: str) -> Optional[Operation]:
    """Given the operation that takes the snapshot of a job, and the job's VM as it is right before that starts, None if
    it is gone, return the operation that takes the snapshot; None if the VM has left the policy.

    `degraded`: a plain snapshot is taken because the server has no quiesced ones.
    """
    if vm is None or vm.policy != job.policy:
        return None
    action = TAKE_SNAPSHOT if degraded or vm.power_state == "Halted" else job.unless_halted
    tokens = operation.tokens
    if action == TAKE_CHECKPOINT and operation.action != TAKE_CHECKPOINT:
        tokens |= _checkpoint_tokens(vm, suspend_sr)
    return operation._replace(action=action, tokens=tokens)


def needs(expiry: Expiry, job: Job, disks: Sequence[Disk], suspend_sr: str) -> Iterator[Tuple[str, Need]]:
    """The room that the snapshot of a VM with these disks may need, as pairs of an SR and a need.

    On LVM it is the size of the disk's data (sm: LVHDSR.py), which only the storage layer knows: at most the disk's
    size. Elsewhere it is the allocation table of a new VHD.
    """
    if not job.take:
        return
    for disk in disks:
        if disk.ref in job.left_out:
            continue
        yield disk.sr, Need(thin=8 * _MIB + disk.virtual_size // 500, thick=disk.virtual_size + 24 * _MIB)
    if job.take == TAKE_CHECKPOINT:
        for sr in _memory_sr(expiry.vm, suspend_sr):
            yield sr, Need(expiry.vm.memory, expiry.vm.memory + 24 * _MIB)


def after(space: Space, need: Need) -> Space:
    """The room on an SR after a snapshot has been allocated what it may need; `used` may exceed `size` then."""
    return space._replace(used=space.used + (need.thick if space.thick else need.thin))


def worth_noting(job: Job, seconds: float) -> bool:
    """Whether the duration of a job's snapshot differs so much from the expected one that it is noted for the next
    time. Less than a factor of two changes no order that is worth the calls."""
    return not job.seconds / 2 <= max(0.1, seconds) <= job.seconds * 2


def _memory_sr(vm: Vm, suspend_sr: str) -> Iterator[str]:
    """The SR that a checkpoint of this VM writes its memory to."""
    sr = vm.suspend_sr if vm.suspend_sr != NULL else suspend_sr
    if sr != NULL:
        yield sr


def deletion(vm: Vm, snapshots: Sequence[Snapshot], disks: Mapping[str, Sequence[Disk]], kept: Kept) -> Job:
    """The job that deletes these snapshots of a VM, takes none, and belongs to no run. `disks` are theirs, by
    reference; `kept` as in Job, if they go because of retention."""
    expired = tuple(_expired(snapshot, disks.get(snapshot.ref, ()), after_new=False) for snapshot in snapshots)
    return Job("", vm.ref, vm.uuid, vm.name, "", frozenset(), 0.0, expired, kept=kept)


def leftover(snapshot_uuid: str, disks: Sequence[Disk]) -> Job:
    """The job that destroys the remaining disks of a snapshot that an earlier pass destroyed."""
    gone = ExpiredSnapshot("", snapshot_uuid, False, tuple(_expired_disk(disk) for disk in disks if ours(disk, 0)))
    return Job("", "", snapshot_uuid, "", "", frozenset(), 0.0, (gone,), recorded=True)


def snapshot_name(chosen: Policy, instant: datetime) -> str:
    """The name of a policy's snapshot that stands for an instant: the policy's name, and the instant in UTC, which no
    clock change makes ambiguous."""
    # XML cannot carry control characters.
    name = "".join(character for character in chosen.name if character.isprintable())[:180]
    return "%s %s" % (name or "scheduled", instant.strftime(_INSTANT))


def free_name(name: str, taken: Collection[str]) -> str:
    """Given the name of a snapshot to be, and those that its VM's have, return it; or, if one of them has it, because
    the clock was set back or because that one does not count, the name of the next second that none has."""
    while name in taken:
        label, _, instant = name.rpartition(" ")
        later = datetime.strptime(instant, _INSTANT).replace(tzinfo=UTC) + timedelta(seconds=1)
        name = "%s %s" % (label, later.strftime(_INSTANT))
    return name


def _label(expiry: Expiry) -> str:
    """The name of a VM's new snapshot."""
    name = snapshot_name(expiry.turn.policy, expiry.turn.instant)
    return free_name(name, {snapshot.name for snapshot in expiry.vm.snapshots})


def _expired(snapshot: Snapshot, disks: Sequence[Disk], after_new: bool) -> ExpiredSnapshot:
    mine = tuple(_expired_disk(disk) for disk in disks if ours(disk, 1))
    return ExpiredSnapshot(snapshot.ref, snapshot.uuid, snapshot.suspended, mine, after_new)


def _expired_disk(disk: Disk) -> ExpiredDisk:
    return ExpiredDisk(disk.ref, disk.uuid, disk.sr)


def ours(disk: Disk, vbds: int) -> bool:
    """Whether a disk may be destroyed with its snapshot, to which `vbds` of its VBDs belong: it is a snapshot of a VM's
    disk or a memory image, not a base copy of the storage layer, and no other VM has it."""
    if disk.type == "suspend":
        return disk.managed and not disk.vbds
    return disk.type in _OF_A_VM and disk.is_a_snapshot and disk.managed and len(disk.vbds) <= vbds


def left_alone(
    vm: Vm, expired: Sequence[Snapshot], busy: Sequence[Snapshot], disks: Mapping[str, Sequence[Disk]]
) -> Iterator[str]:
    """One line for each snapshot, or its disks, that would be deleted and that are left alone."""
    for uuid in vm.suspect:
        yield "Snapshot %s of VM %s is left alone: its records contradict each other" % (uuid, vm.uuid)
    for snapshot in busy:
        yield "Snapshot %s of VM %s is left for a later run: %s is in progress" % (
            snapshot.uuid,
            vm.uuid,
            one_line(snapshot.operation, 40),
        )
    for snapshot in expired:
        left = [disk.uuid for disk in disks.get(snapshot.ref, ()) if not ours(disk, 1)]
        if left:
            yield "Disks of snapshot %s are left alone: %s (in use elsewhere, or no snapshots of a VM's disks)" % (
                snapshot.uuid,
                ", ".join(left),
            )
