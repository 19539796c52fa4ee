"""Which VMs `vmss assign` and `vmss unassign` are asked to put elsewhere, and what that means for their snapshots."""

from typing import Dict, List, Mapping, Optional, Sequence

from vmss.core.assignment import Change, Member, Selector, change_to
from vmss.core.policy import Policy
from vmss.core.problem import BadInput
from vmss.core.retention import Snapshot
from vmss.core.text import is_uuid, one_line, quoted
from vmss.edges.members import TAGGED, read_by_uuid, read_members
from vmss.edges.vms import read_snapshots
from vmss.insight import policies
from vmss.insight.reading import Reading


def to_assign(session: Reading, wanted: str, selector: Selector) -> List[Change]:
    """The VMs that are meant, each with what it means for it to be on the schedule of this name or uuid.

    Raise BadInput if there is no such schedule, if it cannot be understood, or if no VM is meant.
    """
    to, now = _policy(session, wanted), session.now()
    vms = _meant(session, selector)
    keeps = [session.settings.keep_of(to, session.zone, vm.tags) for vm in vms]
    may = [vm.ref for vm, keep in zip(vms, keeps) if keep.may_expire(len(vm.snapshots) + 1)]
    snapshots = read_snapshots(session.xapi, may)
    return [change_to(vm, to, keep, of_vm(vm, snapshots), now) for vm, keep in zip(vms, keeps)]


def of_vm(vm: Member, snapshots: Mapping[str, Mapping[str, Snapshot]]) -> List[Snapshot]:
    """The scheduled snapshots of a VM, of all that were read."""
    return [one for ref, one in snapshots.get(vm.ref, {}).items() if ref in vm.snapshots]


def to_unassign(session: Reading, wanted: Optional[str], selector: Selector) -> List[Change]:
    """The VMs that are meant, of the schedule of this name or uuid, or of all. Raise BadInput as above."""
    entry = None if wanted is None else policies.find(policies.read(session), wanted)
    if entry is None:
        return [Change(vm, None) for vm in _meant(session, selector)]
    vms = [
        vm for vm in read_members(session.xapi, 'field "snapshot_schedule" = "%s"' % entry.ref) if selector.takes(vm)
    ]
    if not vms:
        name = quoted(entry.name or entry.uuid)
        meant = "is on %s" % name if selector == Selector() else "of %s has %s" % (name, selector)
        raise BadInput("no VM %s: nothing was changed" % meant)
    return [Change(vm, None) for vm in vms]


def names(session: Reading) -> Dict[str, str]:
    """The name of each schedule by its reference; its uuid, if it has none."""
    return {entry.ref: entry.name or entry.uuid for entry in policies.read(session)}


def _policy(session: Reading, wanted: str) -> Policy:
    entry = policies.find(policies.read(session), wanted)
    if entry.policy is None:
        raise BadInput("snapshot schedule %s cannot be understood: %s" % (one_line(entry.uuid, 80), entry.error))
    return entry.policy


def _meant(session: Reading, selector: Selector) -> List[Member]:
    """The VMs that are meant. Raise BadInput if there is none, or if one of the uuids is not of such a VM."""
    if selector.uuids:
        vms = read_by_uuid(session.xapi, selector.uuids)
        check_uuids(selector.uuids, [vm.uuid for vm in vms])
        return vms
    vms = read_members(session.xapi, *([TAGGED] if selector.tag is not None else []))
    vms = [vm for vm in vms if selector.takes(vm)]
    if not vms:
        raise BadInput("no VM has %s: nothing was changed" % str(selector))
    return vms


def check_uuids(wanted: Sequence[str], found: Sequence[str]) -> None:
    """Raise BadInput for the first of these uuids that is not among those found, which are of VMs."""
    known = frozenset(found)
    missing = [uuid for uuid in wanted if uuid not in known]
    if missing:
        why = "is no uuid" if not is_uuid(missing[0]) else "is the uuid of no VM, or of a template, snapshot or dom0"
        raise BadInput("%s %s: nothing was changed" % (quoted(missing[0]), why))
