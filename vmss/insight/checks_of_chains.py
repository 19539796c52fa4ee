"""Checks of the chains of images that disks are made of: how long they are, and what stops coalescing."""

from datetime import datetime, timedelta
from typing import Dict, Iterator, List, Mapping, NamedTuple, Sequence, Set, Tuple

from vmss.core.chain import LIMIT, Chain, chains
from vmss.core.datetimes import in_future, parse_datetime
from vmss.core.policy import Policy
from vmss.core.text import is_uuid, one_line, quoted
from vmss.core.vms import Disk
from vmss.core.words import agree, counted, size
from vmss.edges.access import refs_where
from vmss.edges.chains import read_images
from vmss.edges.sizes import read_bases
from vmss.edges.storage import named, read_disks
from vmss.edges.xapi import MISREAD, Refused, Xapi
from vmss.insight.case import Case
from vmss.insight.coalescing import stalled, switched_off
from vmss.insight.findings import CRITICAL, OK, WARNING, Finding
from vmss.insight.names import first_names

# A chain that is as long may reach the limit before the storage has coalesced it: a schedule makes it longer each time.
_LONG = 24
# Upper limits on what is examined: VMs, storage repositories, and findings.
_VMS_MAX = 200
_SRS_MAX = 200
_FINDINGS_MAX = 20
# A snapshot that somebody has made is told of when it is older.
_OLD = timedelta(days=30)


class _Vm(NamedTuple):
    """A VM of an enabled schedule, by its reference, and the uuid of that."""

    ref: str
    policy: str


def lengths(case: Case) -> Iterator[Finding]:
    """Whether the chains of disks on schedules come near to their limit."""
    xapi = case.open.xapi
    mine, found = _read(xapi, case.known)
    long = sorted((uuid for uuid in found if found[uuid].length >= _LONG), key=lambda uuid: -found[uuid].length)
    for uuid in long[:_FINDINGS_MAX]:
        yield _too_long(xapi, mine[uuid][0], mine[uuid][1], found[uuid])
    stopped = list(_stopped(xapi, sorted({disk.sr for disk, _ in mine.values()}), case.now))
    yield from stopped
    yield from _made_by_hand(case)
    if not long and not stopped:
        yield Finding(OK, "chains", _in_short(found), "disks on enabled schedules: %d" % len(found))


def by_storage(xapi: Xapi, known: Sequence[Policy]) -> Dict[str, List[Chain]]:
    """The chains of disks on enabled schedules, by their storage repositories; of so many VMs as `lengths` examines."""
    mine, found = _read(xapi, known)
    chains_of: Dict[str, List[Chain]] = {}
    for uuid, chain in found.items():
        chains_of.setdefault(mine[uuid][0].sr, []).append(chain)
    return chains_of


def _read(xapi: Xapi, known: Sequence[Policy]) -> Tuple[Dict[str, Tuple[Disk, _Vm]], Dict[str, Chain]]:
    """The disks on enabled schedules with their VMs, and the chains of these disks, by their uuids."""
    vms = [_Vm(ref, policy.uuid) for policy in known if policy.enabled for ref in policy.vms][:_VMS_MAX]
    disks = read_disks(xapi, [vm.ref for vm in vms]).of
    mine = {disk.uuid: (disk, vm) for vm in vms for disk in disks.get(vm.ref, ())}
    images = read_images(xapi, [disk for disk, _ in mine.values()], snapshots=True)
    return mine, chains(list(mine), images)


def _in_short(found: Mapping[str, Chain]) -> str:
    longest = max((chain.length for chain in found.values()), default=0)
    waiting = sum(chain.waiting for chain in found.values())
    total = sum(chain.bytes for chain in found.values())
    text = "the longest chain has %s of %d" % (counted(longest, "image"), LIMIT)
    return text + ("; %s (%s) wait to be coalesced" % (counted(waiting, "image"), size(total)) if waiting else "")


def _too_long(xapi: Xapi, disk: Disk, vm: _Vm, chain: Chain) -> Finding:
    name, uuid = str(xapi.call("VM.get_name_label", vm.ref)), one_line(str(xapi.call("VM.get_uuid", vm.ref)), 40)
    sr = named(xapi, disk.sr)[1]
    return Finding(
        CRITICAL if chain.length >= LIMIT else WARNING,
        "chains",
        "the chain of a disk of %s has %d images; at %d no snapshot of it can be taken"
        % (quoted(name), chain.length, LIMIT),
        "disk %s; %d of them, with %s, %s to be coalesced"
        % (disk.uuid, chain.waiting, size(chain.bytes), agree(chain.waiting, "waits", "wait")),
        "keep fewer: vmss xe vmss-param-set retained-snapshots=N uuid=%s, then vmss prune --policy %s; delete other "
        "snapshots of the VM: xe snapshot-list snapshot-of=%s; let the storage coalesce: xe sr-scan uuid=%s"
        % (vm.policy, vm.policy, uuid, sr),
    )


# What stops coalescing


def _stopped(xapi: Xapi, srs: Sequence[str], now: datetime) -> Iterator[Finding]:
    """What keeps these storage repositories from coalescing, and where none of what waits goes, whatever it is."""
    told = []
    for sr in srs:
        found = list(_reasons(xapi, sr))
        told += [sr] if found else []
        yield from found
    every = [str(sr) for sr in xapi.call("SR.get_all")][:_SRS_MAX]
    yield from stalled(xapi, [sr for sr in every if sr not in told], now)


def _reasons(xapi: Xapi, sr: str) -> Iterator[Finding]:
    try:
        switches, marks = xapi.call("SR.get_other_config", sr), xapi.call("SR.get_sm_config", sr)
    except Refused:
        return  # it is gone
    yield from switched_off(xapi, sr, switches)
    if isinstance(marks, Mapping) and "gc_no_space" in marks:
        name, uuid = named(xapi, sr)
        yield Finding(
            WARNING,
            "chains",
            "the storage repository %s has too little room to coalesce" % quoted(name),
            "gc_no_space in its sm-config",
            "free space on it, then let it try again: xe sr-scan uuid=%s" % uuid,
        )


# Snapshots that somebody has made


def _made_by_hand(case: Case) -> Iterator[Finding]:
    """Old snapshots of VMs on schedules that no schedule has taken: they make the chains longer too, and nobody but
    who made them may delete them."""
    xapi = case.open.xapi
    scheduled: Set[str] = {ref for policy in case.known for ref in policy.vms}
    by_hand = '(field "is_a_snapshot" = "true") and (field "is_vmss_snapshot" = "false")'
    refs = refs_where(xapi, "VM", by_hand)[:_VMS_MAX]
    old: Dict[str, List[str]] = {}
    oldest = case.now
    for ref, record in _records(xapi, refs):
        try:
            made = parse_datetime(record["snapshot_time"])
            if record["snapshot_of"] in scheduled and made < case.now - _OLD and not in_future(made, case.now):
                old.setdefault(str(record["snapshot_of"]), []).append(ref)
                oldest = min(oldest, made)
        except MISREAD:
            continue
    if not old:
        return
    count = sum(len(refs) for refs in old.values())
    kept = _size(xapi, [ref for refs in old.values() for ref in refs])
    names = [str(xapi.call("VM.get_name_label", vm)) for vm in old]
    yield Finding(
        OK,
        "chains",
        "%s that somebody has made %s older than %d days: of %s"
        % (counted(count, "snapshot"), agree(count, "is", "are"), _OLD.days, first_names(names)),
        "the oldest is of %s; the images that they keep have %s" % (case.moment(oldest), size(kept)),
    )


def _records(xapi: Xapi, refs: Sequence[str]) -> Iterator[tuple]:  # type: ignore[type-arg]
    for ref in refs:
        try:
            yield (
                ref,
                {
                    "snapshot_of": xapi.call("VM.get_snapshot_of", ref),
                    "snapshot_time": xapi.call("VM.get_snapshot_time", ref),
                },
            )
        except Refused:
            continue  # it is gone


def _size(xapi: Xapi, snapshots: Sequence[str]) -> int:
    """What the base copies occupy that the disks of these snapshots build on, in bytes."""
    disks = [disk for of in read_disks(xapi, snapshots).of.values() for disk in of]
    return sum(read_bases(xapi, {disk.parent for disk in disks if is_uuid(disk.parent)}).values())
