"""Checks of VMs and their storage: what keeps snapshots from being taken, and what should be deleted and is not."""

from datetime import datetime, timedelta
from typing import AbstractSet, Iterator, List, Optional, Sequence, Tuple

from vmss.core.datetimes import in_future, parse_datetime
from vmss.core.failures import failure_of
from vmss.core.policy import Policy
from vmss.core.retention import Keep, Snapshot, expired
from vmss.core.schedule import latest_slot
from vmss.core.text import one_line, quoted
from vmss.core.words import counted
from vmss.edges.access import refs_where
from vmss.edges.query import CHUNK
from vmss.edges.vms import read_snapshots
from vmss.edges.xapi import Refused, understood
from vmss.insight import left_over, lock_and_log, rooms
from vmss.insight.case import Case
from vmss.insight.checks_of_access import unattached
from vmss.insight.findings import OK, WARNING, Finding
from vmss.insight.names import called, first_names
from vmss.passes.left_over import KEEP_KEY

# Upper limit on what is examined one by one: VMs, storage repositories and unused disks.
_MAX = 200
# The disks of a snapshot exist before the snapshot does.
_MAKING = timedelta(hours=1)


# VMs of which no snapshot can be taken


def vms(case: Case) -> Iterator[Finding]:
    """Whether a snapshot can be taken of each VM."""
    bad, examined = 0, case.fitness.examined
    for ref, found in case.fitness.unfit.items():
        policy, record = examined[ref]
        bad += 1
        uuid = one_line(str(record["uuid"]), 40)
        failure = failure_of(found.error, uuid, policy.uuid)
        yield Finding(
            WARNING,
            "VMs",
            "%s of %s cannot be snapshotted: %s" % (quoted(record["name_label"]), called(policy), failure.sentence),
            one_line(" ".join(found.error), 200),
            "%s See the VM: xe vm-param-list uuid=%s" % (failure.remedy, uuid),
        )
    for finding, number in unattached(case.fitness.unattached, examined):
        bad += number
        yield finding
    if not bad:
        seen = len(examined)
        text = "all %d VMs can be snapshotted" % seen if seen > 1 else "the one VM can be snapshotted"
        yield Finding(OK, "VMs", text if seen else "no enabled schedule has a VM")


# Room


def storage(case: Case) -> Iterator[Finding]:
    """Whether storage repositories have room."""
    yield from rooms.full(case.open.xapi, rooms.read(case.open.xapi), case.settings, case.now)


# What should be deleted


def retention(case: Case) -> Iterator[Finding]:
    """Whether VMs have more scheduled snapshots than their policies keep."""
    found, ahead = 0, False
    busy = lock_and_log.in_hand(case.local.holder, case.known)
    told = {item.uuid for item in left_over.read(case.open)}  # which no ordinary run will delete
    for policy in case.known:
        if not policy.enabled or policy in busy or policy.last_run is None:
            continue
        if policy.last_run < latest_slot(policy.schedule, case.zone, case.now):
            continue  # its run may be under way: the new snapshot comes before the old one goes
        for name, keep, snapshots in _with_too_many(case, policy):
            if found >= _MAX:
                break
            ahead = ahead or any(in_future(snapshot.time, case.now) for snapshot in snapshots)
            finding = beyond(policy, keep, name, snapshots, case.now, told)
            if finding is not None:
                found += 1
                yield finding
    if not found:
        yield Finding(
            OK,
            "retention",
            "no VM has more scheduled snapshots than its schedule keeps%s"
            % (", but for those dated in the future" if ahead else ""),
            "scheduled snapshots: %d" % len(case.vms.scheduled()),
        )


def _with_too_many(case: Case, policy: Policy) -> Iterator[Tuple[str, Keep, List[Snapshot]]]:
    """The VMs on a schedule of whose scheduled snapshots any can have expired: the name, the rule, and these."""
    suspects = []
    for ref, record in case.vms.on(policy):
        keep = case.settings.keep_of(policy, case.zone, frozenset(record.get("tags", ())))
        if keep.may_expire(len(case.vms.scheduled().intersection(record.get("snapshots", ())))):
            suspects.append((ref, record["name_label"], keep))
    for start in range(0, len(suspects), CHUNK):
        some = suspects[start : start + CHUNK]
        read = read_snapshots(case.open.xapi, [ref for ref, _, _ in some])
        for ref, name, keep in some:
            yield name, keep, list(read.get(ref, {}).values())


def beyond(
    policy: Policy,
    keep: Keep,
    name: str,
    snapshots: Sequence[Snapshot],
    now: datetime,
    told: AbstractSet[str] = frozenset(),
) -> Optional[Finding]:
    """Whether a VM has more scheduled snapshots than its policy keeps. Pinned ones do not count; those of `told`, by
    uuid, are told of elsewhere."""
    gone = [snapshot for snapshot in expired(snapshots, keep, now) if snapshot.uuid not in told]
    if not gone:
        return None
    return Finding(
        WARNING,
        "retention",
        "%s has %s more than %s keeps" % (quoted(name), counted(len(gone), "scheduled snapshot"), called(policy)),
        "expired: %s" % first_names([snapshot.uuid for snapshot in gone]),
        "delete them now: vmss prune --policy %s; runs delete a few at a time; if they stay, /var/log/VMSSlog says why"
        % policy.uuid,
    )


def disks(case: Case) -> Iterator[Finding]:
    """Whether there are snapshots of disks that no VM has."""
    xapi = case.open.xapi
    unused = '(field "is_a_snapshot" = "true") and (field "managed" = "true") and (field "VBDs" = "()")'
    uuids, size = [], 0
    told = {item.uuid for item in left_over.read(case.open)}
    for vdi in refs_where(xapi, "VDI", unused)[:_MAX]:
        try:
            record = xapi.call("VDI.get_record", vdi)
        except Refused:
            continue  # it is gone
        with understood("VDI"):
            made = parse_datetime(record["snapshot_time"])
            if made > case.now - _MAKING and not in_future(made, case.now):
                continue  # it may get its VM yet
            if record["uuid"] in told or KEEP_KEY in record["other_config"]:
                continue
            if record["type"] in ("user", "system") and not record["current_operations"]:
                uuids.append(str(record["uuid"]))
                size += int(record["virtual_size"])
    if uuids:
        yield Finding(
            WARNING,
            "disks",
            "disk snapshots that belong to no VM: %d; a xapi that died, or another product, "
            "may have left them" % len(uuids),
            "%s (%d MiB)" % (first_names(uuids), size >> 20),
            "see whether anybody needs it: xe vdi-param-list uuid=%s; if not: xe vdi-destroy uuid=%s%s"
            % (uuids[0], uuids[0], "; and so for each of the others" if len(uuids) > 1 else ""),
        )
    else:
        yield Finding(OK, "disks", "every disk snapshot belongs to a VM")
