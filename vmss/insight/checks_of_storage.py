"""Checks of VMs and their storage: what keeps snapshots from being taken, and what should be deleted and is not."""

from datetime import datetime, timedelta
from typing import AbstractSet, Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from vmss.core.datetimes import in_future, parse_datetime
from vmss.core.failures import failure_of
from vmss.core.policy import Policy
from vmss.core.retention import Keep, Snapshot, expired
from vmss.core.schedule import latest_slot
from vmss.core.text import one_line, quoted
from vmss.core.words import counted
from vmss.edges.access import refs_where
from vmss.edges.query import where
from vmss.edges.vms import read_snapshots
from vmss.edges.xapi import Refused, Xapi, understood
from vmss.insight import left_over, lock_and_log, rooms, unfit
from vmss.insight.case import Case
from vmss.insight.checks_of_access import unattached
from vmss.insight.findings import OK, WARNING, Finding
from vmss.insight.names import called, first_names
from vmss.insight.unfit import Examined
from vmss.passes.left_over import KEEP_KEY

# Upper limit on what is examined one by one: VMs, storage repositories and unused disks.
_MAX = 200
# The disks of a snapshot exist before the snapshot does.
_MAKING = timedelta(hours=1)


# VMs of which no snapshot can be taken


def vms(case: Case) -> Iterator[Finding]:
    """Whether a snapshot can be taken of each VM."""
    xapi, bad = case.open.xapi, 0
    examined = {
        ref: Examined(policy, record)
        for policy in case.known
        if policy.enabled
        for ref, record in _records(xapi, policy)
    }
    for ref, found in unfit.read(xapi, examined, case.open.settings).items():
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
    for finding, number in unattached(xapi, case.open.pool, examined):
        bad += number
        yield finding
    if not bad:
        seen = len(examined)
        text = "all %d VMs can be snapshotted" % seen if seen > 1 else "the one VM can be snapshotted"
        yield Finding(OK, "VMs", text if seen else "no enabled schedule has a VM")


def _records(xapi: Xapi, policy: Policy) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """The VMs of one policy; those whose records make no sense are left out."""
    for ref, record in where(xapi, "VM", "snapshot_schedule", [policy.ref]):
        if isinstance(record, Mapping) and isinstance(record.get("name_label"), str):
            yield ref, dict(record)


# Room


def storage(case: Case) -> Iterator[Finding]:
    """Whether storage repositories have room."""
    yield from rooms.full(case.open.xapi, rooms.read(case.open.xapi), case.settings, case.now)


# What should be deleted


def retention(case: Case) -> Iterator[Finding]:
    """Whether VMs have more scheduled snapshots than their policies keep."""
    xapi, found, ahead = case.open.xapi, 0, False
    scheduled = set(refs_where(xapi, "VM", 'field "is_vmss_snapshot" = "true"'))
    busy = lock_and_log.in_hand(case.local.holder, case.known)
    told = {item.uuid for item in left_over.read(case.open)}  # which no ordinary run will delete
    for policy in case.known:
        if not policy.enabled or policy in busy or policy.last_run is None:
            continue
        if policy.last_run < latest_slot(policy.schedule, case.zone, case.now):
            continue  # its run may be under way: the new snapshot comes before the old one goes
        for ref, record in _records(xapi, policy):
            keep = case.settings.keep_of(policy, case.zone, frozenset(record.get("tags", ())))
            if found < _MAX and keep.may_expire(len(scheduled.intersection(record.get("snapshots", ())))):
                snapshots = list(read_snapshots(xapi, [ref]).get(ref, {}).values())
                ahead = ahead or any(in_future(snapshot.time, case.now) for snapshot in snapshots)
                finding = beyond(policy, keep, record["name_label"], snapshots, case.now, told)
                if finding is not None:
                    found += 1
                    yield finding
    if not found:
        yield Finding(
            OK,
            "retention",
            "no VM has more scheduled snapshots than its schedule keeps%s"
            % (", but for those dated in the future" if ahead else ""),
            "scheduled snapshots: %d" % len(scheduled),
        )


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
