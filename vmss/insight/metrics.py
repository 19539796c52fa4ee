"""The numbers that `vmss metrics` prints: of VMs and their snapshots, of schedules and runs, of storage."""

from datetime import datetime
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from vmss.core import exposition, messages
from vmss.core.assignment import Member
from vmss.core.chain import LIMIT, chains
from vmss.core.datetimes import in_future
from vmss.core.exposition import Family, Sample, labels_of
from vmss.core.left_over import Item
from vmss.core.policy import Policy
from vmss.core.room import full_at, parse_reserve, rate
from vmss.edges.chains import read_images
from vmss.edges.kept_times import KeptTimes, finished
from vmss.edges.lock import existing
from vmss.edges.members import ON_SCHEDULE, member_of
from vmss.edges.room_notes import read_notes
from vmss.edges.settings import Place
from vmss.edges.storage import named, read_disks
from vmss.edges.vms import VM_FIELDS
from vmss.edges.xapi import Xapi, understood
from vmss.insight import coverage, left_over, policies, rooms, state, suspended
from vmss.insight.findings import worst
from vmss.insight.history import RUN_SUCCEEDED, Run
from vmss.insight.lock_and_log import Local, read_local
from vmss.insight.policies import Entry
from vmss.insight.reading import Reading
from vmss.insight.state import Course
from vmss.version import VERSION

_ENDS = (messages.SUCCEEDED, messages.FAILED)
# Of so many VMs the chains are read, of those with the most snapshots: an image's record has 1.5 kB on the wire.
_CHAINS_OF = 200

# Of each sample of a family the labels, and the number or instant; None if it is not known.
Value = Union[int, datetime, None]
Values = List[Tuple[Mapping[str, str], Value]]


def text(session: Reading, where: Place) -> str:
    """All numbers, in the format of Prometheus. Nothing is written."""
    now = session.now()
    local = read_local(where, session, now)
    if local.hidden or local.lock_error:
        kept = KeptTimes(session.xapi, session.pool.uuid)
    else:
        with existing(where.lock_dir) as directory:
            kept = KeptTimes(session.xapi, session.pool.uuid, directory)
    families = read(session, local, now, kept)
    if local.log is not None and local.log.tick is not None and not in_future(local.log.tick, now):
        families.append(exposition.last_tick(local.log.tick, labels_of(session.pool.uuid)))
    return exposition.text_of(families)


def read(session: Reading, local: Local, now: datetime, kept: KeptTimes) -> List[Family]:
    """Read all but the last tick."""
    entries = policies.read(session)
    known = [entry.policy for entry in entries if entry.policy is not None]
    pool = labels_of(session.pool.uuid)
    vms = _vms(session.xapi, known)
    left = left_over.read(session)
    families = list(_of_pool(session, local, entries, left, now))
    families += _of_schedules(session, local, entries, left, now)
    families += _of_vms(session, known, vms, kept, now)
    families += _of_storage(session, _longest_chains(session.xapi, known, vms), now)
    families.append(exposition.read_at(now, pool))
    return families


def _vms(xapi: Xapi, known: Sequence[Policy]) -> Dict[str, List[Member]]:
    """The VMs of the policies, by the uuids of these. What is not asked of a VM's record is dropped at once."""
    found: Dict[str, List[Member]] = {policy.ref: [] for policy in known}
    with understood("VM"):
        for ref, record in xapi.records("VM", ON_SCHEDULE, VM_FIELDS).items():
            vm = member_of(ref, record)
            if vm.schedule in found:
                found[vm.schedule].append(vm)
    return {policy.uuid: sorted(found[policy.ref], key=lambda vm: (vm.name, vm.uuid)) for policy in known}


def _family(name: str, told: str, values: Values) -> Family:
    """A family, without what is not known."""
    samples = [_sample(labels, value) for labels, value in values if value is not None]
    return Family("vmss_" + name, told, tuple(samples))


def _sample(labels: Mapping[str, str], value: Union[int, datetime]) -> Sample:
    return exposition.seconds(value, labels) if isinstance(value, datetime) else Sample(value, labels)


# The pool


def _of_pool(
    session: Reading, local: Local, entries: Sequence[Entry], left: Sequence[Item], now: datetime
) -> Iterator[Family]:
    xapi, pool = session.xapi, labels_of(session.pool.uuid)
    info = dict(pool, pool_name=str(xapi.call("pool.get_name_label", session.pool.ref)), version=VERSION)
    unreadable = sum(entry.policy is None for entry in entries)
    down = len(suspended.examine(session, local, now))
    alone = coverage.unscheduled(xapi).number
    yield _family("info", "1; the name of the pool, and the version of vmss.", [(info, 1)])
    yield _family(
        "licensed", "1 if the licence includes scheduled snapshots, else 0.", [(pool, int(session.pool.licensed))]
    )
    yield _family("schedules_unreadable", "Schedules that cannot be understood, and do not run.", [(pool, unreadable)])
    yield _family(
        "left_over", "Disks and snapshots that could not be deleted, or may have been left behind.", [(pool, len(left))]
    )
    yield _family("vms_left_suspended", "VMs that ran, and that a checkpoint has left suspended.", [(pool, down)])
    yield _family(
        "vms_unscheduled", "VMs on no schedule, without those that the tag vmss:none leaves out.", [(pool, alone)]
    )


# Schedules and their runs


class _Schedule(NamedTuple):
    """A schedule with its labels, its last run if it is known, when it runs next, and what `vmss status` says of it."""

    policy: Policy
    labels: Mapping[str, str]
    run: Optional[Run]
    following: Optional[datetime]
    course: Course


def _of_schedules(
    session: Reading, local: Local, entries: Sequence[Entry], left: Sequence[Item], now: datetime
) -> Iterator[Family]:
    known = [entry.policy for entry in entries if entry.policy is not None]
    courses = {one.policy.uuid: one for one in state.courses_of(session, local.holder, known, left, now)}
    found = []
    for entry in entries:
        if entry.policy is not None:
            ended = (run for run in policies.last_runs(session, entry) if run.name in _ENDS)
            following = policies.next_run(session, entry.policy, now)
            labels = _labels_of(session, entry.policy)
            found.append(_Schedule(entry.policy, labels, next(ended, None), following, courses[entry.uuid]))
    yield from _as_they_are(found)
    yield from _as_they_ran(found, now)


def _labels_of(session: Reading, policy: Policy) -> Dict[str, str]:
    return dict(labels_of(session.pool.uuid), schedule=policy.name, schedule_uuid=policy.uuid)


def _as_they_are(found: Sequence[_Schedule]) -> Iterator[Family]:
    yield _family(
        "schedule_enabled",
        "1 if the schedule is enabled, else 0.",
        [(one.labels, int(one.policy.enabled)) for one in found],
    )
    yield _family("schedule_vms", "VMs on the schedule.", [(one.labels, len(one.policy.vms)) for one in found])
    yield _family(
        "schedule_retained_snapshots",
        "Snapshots that are kept of each VM.",
        [(one.labels, one.policy.retained) for one in found],
    )
    yield _family(
        "schedule_next_run_timestamp_seconds",
        "When the schedule runs next.",
        [(one.labels, one.following) for one in found],
    )
    yield _family(
        "schedule_state",
        "What vmss status says of the schedule: 0 OK, 1 WARNING, 2 CRITICAL.",
        [(one.labels, worst(one.course.findings)) for one in found],
    )
    yield _family(
        "schedule_vms_late",
        "VMs without a snapshot of the latest slot whose run should be over. Where more "
        "than 100 are, not all are counted.",
        [(one.labels, one.course.late) for one in found],
    )


def _as_they_ran(found: Sequence[_Schedule], now: datetime) -> Iterator[Family]:
    ran = [(one.labels, one.run, one.run.counts) for one in found if one.run is not None]
    yield _family(
        "schedule_last_run_timestamp_seconds",
        "When the last run ended.",
        [(one.labels, one.policy.ran(now)) for one in found],
    )
    yield _family(
        "schedule_last_run_success",
        "1 if every VM was served in the last run, else 0.",
        [(labels, int(run.result == RUN_SUCCEEDED)) for labels, run, _ in ran],
    )
    yield _family(
        "schedule_last_run_duration_seconds",
        "How long the last run took.",
        [(labels, counts and counts.seconds) for labels, _, counts in ran],
    )
    yield _family(
        "schedule_last_run_vms_failed",
        "VMs that failed in the last run.",
        [(labels, len(run.victims)) for labels, run, _ in ran],
    )


# VMs and their snapshots


def _of_vms(
    session: Reading, known: Sequence[Policy], vms: Mapping[str, Sequence[Member]], kept: KeptTimes, now: datetime
) -> Iterator[Family]:
    scheduled = set(finished(session.xapi))
    times = kept.read({vm.ref: vm.snapshots & scheduled for of_policy in vms.values() for vm in of_policy})
    number: Values = []
    newest: Values = []
    oldest: Values = []
    for policy in known:
        for vm in vms[policy.uuid]:
            labels = dict(_labels_of(session, policy), vm=vm.name, vm_uuid=vm.uuid)
            mine = [times[ref] for ref in vm.snapshots & scheduled if ref in times]
            # One that is dated in the future proves nothing.
            dated = [time for time in mine if not in_future(time, now)]
            number.append((labels, len(dated)))
            newest.append((labels, max(dated, default=None)))
            oldest.append((labels, min(dated, default=None)))
    yield _family("vm_snapshots", "Scheduled snapshots of the VM.", number)
    told = "When the %s scheduled snapshot of the VM was taken."
    yield _family("vm_newest_snapshot_timestamp_seconds", told % "newest", newest)
    yield _family("vm_oldest_snapshot_timestamp_seconds", told % "oldest", oldest)


# Storage


def _longest_chains(xapi: Xapi, known: Sequence[Policy], vms: Mapping[str, Sequence[Member]]) -> Dict[str, int]:
    """The images of the longest chain on each storage repository that a disk of a VM on an enabled schedule has."""
    mine = [vm for policy in known if policy.enabled for vm in vms[policy.uuid]]
    mine.sort(key=lambda vm: (-len(vm.snapshots), vm.uuid))
    read = read_disks(xapi, [vm.ref for vm in mine[:_CHAINS_OF]]).of
    disks = {disk.uuid: disk for of in read.values() for disk in of}
    longest: Dict[str, int] = {}
    for uuid, chain in chains(list(disks), read_images(xapi, list(disks.values()))).items():
        sr = disks[uuid].sr
        longest[sr] = max(longest.get(sr, 0), chain.length)
    return longest


def _of_storage(session: Reading, longest: Mapping[str, int], now: datetime) -> Iterator[Family]:
    xapi, reserve = session.xapi, parse_reserve(session.settings.room_reserve)
    found = []
    for one in rooms.read(xapi):
        name, uuid = named(xapi, one.ref)
        labels = dict(labels_of(session.pool.uuid), sr=name, sr_uuid=uuid)
        end = full_at(one.space, rate(read_notes(xapi, one.ref)), now)
        found.append((labels, one, end))
    yield _family(
        "sr_size_bytes", "Size of the storage repository.", [(labels, one.space.size) for labels, one, _ in found]
    )
    yield _family("sr_used_bytes", "What of it is in use.", [(labels, one.space.used) for labels, one, _ in found])
    yield _family(
        "sr_reserve_bytes",
        "What is to stay free on it: the setting room_reserve.",
        [(labels, reserve.of(one.space.size)) for labels, one, _ in found],
    )
    yield _family(
        "sr_full_timestamp_seconds",
        "When it is full, if it goes on as it did.",
        [(labels, end) for labels, _, end in found],
    )
    yield _family(
        "sr_chain_images",
        "Images of the longest chain of a disk on it, of %d that are possible. Looked at "
        "are the %d VMs on enabled schedules that have the most snapshots." % (LIMIT, _CHAINS_OF),
        [(labels, longest.get(one.ref)) for labels, one, _ in found],
    )
