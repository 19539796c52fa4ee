"""Of which VMs no snapshot can be taken, and why: as far as records tell that, which are read for all VMs together."""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core.coverage import Unfit
from vmss.core.policy import CHECKPOINT, Policy
from vmss.core.ways import left_out
from vmss.edges.access import Blocked, asked, blocked, refs_where
from vmss.edges.pool_vms import PoolVms
from vmss.edges.query import where
from vmss.edges.settings import Settings
from vmss.edges.storage import read_disks
from vmss.edges.xapi import Refused, Xapi, understood
from vmss.insight.reading import Reading

# Upper limits on the VMs that xapi is asked about one by one, for no record tells why it would refuse; and on disks.
_MAX = 200
_DISKS_MAX = 1000
_ALIVE = 'field "is_a_snapshot" = "false"'
# A disk of LVM without a format that has snapshots: a map is stored as an S-expression.
_RAW = "(field \"sm_config\" = \"(('vdi_type' 'aio'))\") and (%s)" % _ALIVE


class Examined(NamedTuple):
    """A VM that is to be snapshotted: its policy and its record."""

    policy: Policy
    record: Mapping[str, Any]


class Fitness:
    """What keeps snapshots of the VMs on enabled schedules from being taken: found out when a part of a command first
    asks for it."""

    def __init__(self, session: Reading, policies: Sequence[Policy], pool_vms: PoolVms) -> None:
        self._session = session
        self._policies = [policy for policy in policies if policy.enabled]
        self._pool_vms = pool_vms
        self._examined: Optional[Dict[str, Examined]] = None
        self._unfit: Optional[Dict[str, Unfit]] = None
        self._unattached: Optional[List[Blocked]] = None

    @property
    def examined(self) -> Dict[str, Examined]:
        """The VMs that are asked about, by their references."""
        if self._examined is None:
            vms = ((ref, policy, record) for policy in self._policies for ref, record in self._pool_vms.on(policy))
            self._examined = {ref: Examined(policy, record) for ref, policy, record in vms}
        return self._examined

    @property
    def unfit(self) -> Dict[str, Unfit]:
        """Those of which no snapshot can be taken for themselves or their disks."""
        if self._unfit is None:
            self._unfit = _read(self._session.xapi, self.examined, self._session.settings)
        return self._unfit

    @property
    def unattached(self) -> List[Blocked]:
        """Those of which none can be taken because an SR is not attached where it is needed."""
        if self._unattached is None:
            ordered = sorted(self.examined.items(), key=lambda item: (str(item[1].record["name_label"]), item[0]))
            asking = {ref: asked(vm.record, vm.policy.type == CHECKPOINT) for ref, vm in ordered}
            self._unattached = blocked(self._session.xapi, self._session.pool, asking)
        return self._unattached


def _read(xapi: Xapi, vms: Mapping[str, Examined], settings: Settings) -> Dict[str, Unfit]:
    """Those of these VMs, by their references, of which no snapshot can be taken."""
    found = _in_the_way(xapi, vms, _by_disks(xapi), settings)
    unfit: Dict[str, Unfit] = {}
    asked = 0
    for ref, (policy, record) in vms.items():
        if ref in found:
            unfit[ref] = found[ref]
            continue
        operation = _refused(policy, record)
        if not operation:
            continue
        error = _by_record(ref, record, operation)
        if error is None and asked < _MAX:
            asked += 1
            error = _by_xapi(xapi, ref, operation)
        if error is not None:
            unfit[ref] = Unfit(error)
    return unfit


def _in_the_way(
    xapi: Xapi, vms: Mapping[str, Examined], found: Mapping[str, Unfit], settings: Settings
) -> Dict[str, Unfit]:
    """Of VMs with disks that cannot be snapshotted those with one that their snapshots do not leave out; the disks are
    now their names."""
    bad = [ref for ref in found if ref in vms]
    disks = read_disks(xapi, bad).of
    kept = {}
    for ref in bad:
        mine = disks.get(ref, [])
        in_the_way = set(found[ref].disks) - {disk.ref for disk in left_out(mine, settings.ways(vms[ref].policy))}
        if in_the_way:
            names = tuple(disk.name or disk.uuid for disk in mine if disk.ref in in_the_way)
            kept[ref] = found[ref]._replace(disks=names, of=len(mine))
    return kept


def _refused(policy: Policy, record: Mapping[str, Any]) -> str:
    """The operation of the policy's snapshot, if xapi would refuse it; else an empty text."""
    halted = record.get("power_state") == "Halted"
    operation = "checkpoint" if policy.type == CHECKPOINT and not halted else "snapshot"
    # What is under way with the VM at this moment will be over.
    allowed = operation in record.get("allowed_operations", ()) or record.get("current_operations")
    return "" if allowed else operation


def _by_record(ref: str, record: Mapping[str, Any], operation: str) -> Optional[Tuple[str, ...]]:
    """xapi's error, if the VM's record tells it: in the order in which xapi looks (ocaml/xapi/xapi_vm_lifecycle.ml)."""
    blocked = record.get("blocked_operations")
    if isinstance(blocked, Mapping) and operation in blocked:
        return "OPERATION_BLOCKED", ref, str(blocked[operation])
    if operation == "checkpoint" and record.get("attached_PCIs"):
        return "VM_HAS_PCI_ATTACHED", ref
    return ("VM_HAS_VUSBS", ref) if record.get("VUSBs") else None


def _by_xapi(xapi: Xapi, vm: str, operation: str) -> Optional[Tuple[str, ...]]:
    """The error with which xapi would refuse the operation, if it would."""
    try:
        xapi.call("VM.assert_operation_valid", vm, operation)
    except Refused as refused:
        if refused.code == "RBAC_PERMISSION_DENIED":
            raise
        return None if refused.code == "HANDLE_INVALID" else refused.error
    return None


def _by_disks(xapi: Xapi) -> Dict[str, Unfit]:
    """By VM, the error that the snapshot of a disk of its would end with: as far as the disk's record, or the type of
    its storage, tells that. The disks are their references."""
    errors: Dict[str, Tuple[str, ...]] = {}  # by disk
    for vdi in refs_where(xapi, "VDI", _RAW):
        errors[vdi] = ("UNIMPLEMENTED_IN_SM_BACKEND",)
    for vdi in refs_where(xapi, "VDI", '(field "on_boot" = "reset") and (%s)' % _ALIVE):
        errors[vdi] = ("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION",)
    for vdi in refs_where(xapi, "VDI", '(field "sharable" = "true") and (%s)' % _ALIVE):
        errors[vdi] = ("VDI_IS_SHARABLE", vdi)
    for kind in _without_snapshots(xapi):
        for sr in refs_where(xapi, "SR", 'field "type" = "%s"' % kind.replace('"', "")):
            for vdi in refs_where(xapi, "VDI", '(field "SR" = "%s") and (not (field "VBDs" = "()"))' % sr):
                errors.setdefault(vdi, ("SR_OPERATION_NOT_SUPPORTED", sr))
    found: Dict[str, Unfit] = {}
    for _, vbd in where(xapi, "VBD", "VDI", list(errors)[:_DISKS_MAX]):
        with understood("VBD"):
            if vbd["type"] == "Disk":
                vm, vdi = str(vbd["VM"]), str(vbd["VDI"])
                mine = found.setdefault(vm, Unfit(errors.get(vdi, ())))
                found[vm] = mine._replace(disks=mine.disks + (vdi,))
    return found


def _without_snapshots(xapi: Xapi) -> List[str]:
    """The types of storage that cannot snapshot a disk."""
    with understood("SM"):
        return sorted(
            {
                str(record["type"])
                for record in xapi.call("SM.get_all_records").values()
                if "VDI_SNAPSHOT" not in record["features"]
            }
        )
