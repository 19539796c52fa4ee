"""Which VMs the schedules cover, and what is left of those that they once covered: rows and numbers, from what is read.

What is said here is information: a VM on no schedule may be on none on purpose.
"""

from datetime import datetime
from typing import Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core import tags, words
from vmss.core.assignment import Member
from vmss.core.failures import failure_of
from vmss.core.text import quoted

# What a row is about, in the order of the list.
UNSCHEDULED, DISABLED, UNABLE, PARTLY = "no schedule", "disabled", "no snapshot", "some disks"
LEFT_OUT = "without disks"
EMPTY, LEFT_BEHIND = "no VM", "left behind"


class Known(NamedTuple):
    """A schedule; `enabled` is None if its record cannot be understood."""

    uuid: str
    name: str
    enabled: Optional[bool]
    vms: int

    @property
    def called(self) -> str:
        return self.name or self.uuid


class Unfit(NamedTuple):
    """A VM of which no snapshot can be taken: xapi's error; if that is because of disks, their names, and the number of
    all disks of the VM. `text` and `remedy` are set where the error alone does not tell."""

    error: Tuple[str, ...]
    disks: Tuple[str, ...] = ()
    of: int = 0
    text: str = ""
    remedy: str = ""


class LeftOut(NamedTuple):
    """The disks of a VM that its snapshots leave out on purpose: their names, the number of all its disks, and the
    uuids of those that a key on the disk leaves out, and not a setting."""

    disks: Tuple[str, ...]
    of: int
    marked: Tuple[str, ...] = ()


class Left(NamedTuple):
    """The scheduled snapshots of one VM that no run deletes, for it is on no schedule, or gone (then it has no name):
    how many, the time of the oldest, and what they occupy, in bytes. `gone`: the VM was deleted."""

    vm: str
    vm_uuid: str
    number: int
    oldest: Optional[datetime] = None
    size: int = 0
    gone: bool = False


class Row(NamedTuple):
    """One thing to know: what, of which VM or schedule, why, and what can be done."""

    what: str
    vm: str = ""
    uuid: str = ""
    schedule: str = ""
    schedule_uuid: str = ""
    why: str = ""
    remedy: str = ""
    error: str = ""
    snapshots: Optional[int] = None
    oldest: Optional[datetime] = None
    size: Optional[int] = None


class Coverage(NamedTuple):
    """The rows; the number of VMs, and of those that are left out on purpose; the numbers of rows by what they say; how
    many snapshots are left behind, the time of the oldest, and what they occupy."""

    rows: Tuple[Row, ...]
    vms: int
    opted_out: int
    snapshots: int
    oldest: Optional[datetime]
    size: int

    def number(self, what: str) -> int:
        """How many rows say this."""
        return sum(row.what == what for row in self.rows)

    @property
    def covered(self) -> int:
        """The VMs on an enabled schedule of which a snapshot can be taken."""
        return self.vms - self.opted_out - sum(map(self.number, (UNSCHEDULED, DISABLED, UNABLE, PARTLY)))

    def headline(self, now: datetime) -> str:
        """The numbers, in one line."""
        parts = ["%d of %s covered" % (self.covered, words.counted(self.vms, "VM"))]
        for what, text in (
            (UNSCHEDULED, "on no schedule: %d"),
            (DISABLED, "on a disabled schedule: %d"),
            (UNABLE, "without any disk that can be snapshotted, or refused: %d"),
            (PARTLY, "kept from it by some of their disks: %d"),
            (LEFT_OUT, "without some of their disks, on purpose: %d"),
            (EMPTY, "schedules without VMs: %d"),
        ):
            parts += [text % self.number(what)] if self.number(what) else []
        parts += ["left out on purpose: %d" % self.opted_out] if self.opted_out else []
        if self.snapshots:
            parts.append("snapshots that no run deletes: %d (%s)" % (self.snapshots, self._extent(now)))
        return "; ".join(parts)

    def _extent(self, now: datetime) -> str:
        return extent(self.size, self.oldest, now)


def extent(size: int, oldest: Optional[datetime], now: datetime) -> str:
    """The size and the age of snapshots: `12.5 GiB, the oldest is 40 d old`."""
    text = words.size(size)
    return text + (", the oldest is %s old" % words.duration((now - oldest).total_seconds()) if oldest else "")


def judge(
    vms: Sequence[Member],
    schedules: Mapping[str, Known],
    unfit: Mapping[str, Unfit],
    left: Sequence[Left],
    now: datetime,
    left_out: Mapping[str, LeftOut] = {},
) -> Coverage:
    """Given all VMs, the schedules by reference, which VMs cannot be snapshotted, by reference, what is left behind,
    and which VMs, by reference, are snapshotted without some of their disks, return what is covered and what is not.
    Of a VM one thing is said: the first in the order of the list."""
    rows: List[Row] = []
    opted_out = 0
    for vm in vms:
        schedule = schedules.get(vm.schedule)
        if schedule is None and tags.NONE in vm.tags:
            opted_out += 1
        else:
            rows += _of_vm(vm, schedule, unfit.get(vm.ref), left_out.get(vm.ref))
    rows += [_empty(schedule) for schedule in schedules.values() if not schedule.vms]
    rows += [_left(one, now) for one in left]
    order = (UNSCHEDULED, DISABLED, UNABLE, PARTLY, LEFT_OUT, EMPTY, LEFT_BEHIND)
    rows.sort(key=lambda row: (order.index(row.what), row.vm or row.schedule, row.uuid))
    oldest = min((one.oldest for one in left if one.oldest), default=None)
    number, size = sum(one.number for one in left), sum(one.size for one in left)
    return Coverage(tuple(rows), len(vms), opted_out, number, oldest, size)


def _of_vm(vm: Member, schedule: Optional[Known], unfit: Optional[Unfit], left_out: Optional[LeftOut]) -> Iterator[Row]:
    if schedule is None:
        remedy = (
            "vmss assign SCHEDULE --uuid %s; or, if it is to be on none: "
            "xe vm-param-add param-name=tags param-key=vmss:none uuid=%s" % (vm.uuid, vm.uuid)
        )
        yield Row(UNSCHEDULED, vm.name, vm.uuid, why="it is on no schedule", remedy=remedy)
        return
    row = Row(DISABLED, vm.name, vm.uuid, schedule.called, schedule.uuid)
    if schedule.enabled is None:
        remedy = "vmss doctor tells what is wrong with it"
        yield row._replace(why="its schedule cannot be understood, and does not run", remedy=remedy)
    elif not schedule.enabled:
        remedy = "vmss xe vmss-param-set enabled=true uuid=%s" % schedule.uuid
        yield row._replace(why="its schedule is disabled", remedy=remedy)
    elif unfit is not None:
        yield _unfit(row, unfit)
    elif left_out is not None:
        yield row._replace(
            what=LEFT_OUT, why=_of_disks(left_out.disks, left_out.of, "left out"), remedy=_to_include(left_out.marked)
        )


def _of_disks(disks: Sequence[str], of: int, text: str) -> str:
    names = [quoted(name) for name in disks[:3]] + ["%d more" % (len(disks) - 3)] * (len(disks) > 3)
    return "%d of %s: %s: %s" % (len(disks), words.counted(of, "disk"), words.listed(names), text)


def _to_include(marked: Sequence[str]) -> str:
    if not marked:
        return "the setting skip_disks says so"
    return "to include one: xe vdi-param-remove param-name=other-config param-key=vmss:skip uuid=%s" % marked[0]


def _unfit(row: Row, unfit: Unfit) -> Row:
    failure = failure_of(unfit.error, row.uuid, row.schedule_uuid)
    why = unfit.text or failure.sentence
    partly = 0 < len(unfit.disks) < unfit.of
    if unfit.disks:
        why = _of_disks(unfit.disks, unfit.of, why)
    return row._replace(
        what=PARTLY if partly else UNABLE, why=why, remedy=unfit.remedy or failure.remedy, error=" ".join(unfit.error)
    )


def _empty(schedule: Known) -> Row:
    return Row(
        EMPTY,
        schedule=schedule.called,
        schedule_uuid=schedule.uuid,
        why="the schedule has no VM: it never runs",
        remedy="vmss assign %s --uuid VM" % schedule.uuid,
    )


def _left(one: Left, now: datetime) -> Row:
    whose = "the VM is gone" if one.gone else "the VM is on no schedule"
    why = "%s of %s: %s" % (
        words.counted(one.number, "scheduled snapshot"),
        extent(one.size, one.oldest, now),
        whose + ", so no run deletes them",
    )
    remedy = "vmss prune --of-deleted --dry-run lists them; vmss prune --of-deleted asks, and deletes them"
    return Row(
        LEFT_BEHIND, one.vm, one.vm_uuid, why=why, remedy=remedy, snapshots=one.number, oldest=one.oldest, size=one.size
    )
