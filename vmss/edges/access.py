"""What is read of hosts and storage repositories to tell which host sees what, and what VMs need of it."""

from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple

from vmss.core import access
from vmss.core.access import Access, Need, Obstacle
from vmss.core.records import NULL, Pool
from vmss.core.text import one_line, quoted
from vmss.edges.query import text_of, where
from vmss.edges.storage import named
from vmss.edges.xapi import Xapi, understood

# Upper limits on SRs, and on disks whose VMs are asked for: where their SR alone does not keep a snapshot from being
# taken, and where it does.
_SRS_MAX, _DISKS_MAX, _DARK_MAX = 200, 1000, 10000
# Upper limit on the VMs of a run that are asked about.
_VMS_MAX = 500


class Asked(NamedTuple):
    """A VM that is asked about: its uuid; its memory image if it is suspended; its host if a checkpoint of it is taken
    while it runs."""

    uuid: str
    image: str = NULL
    host: str = NULL


def asked(record: Mapping[str, Any], checkpoint: bool) -> Asked:
    """To ask about the VM with this record. `checkpoint`: its memory is to be saved too, if it runs."""
    uuid, state = one_line(str(record.get("uuid", "UUID")), 40), record.get("power_state")
    if state == "Suspended":
        return Asked(uuid, image=str(record.get("suspend_VDI", NULL)))
    if state == "Running" and checkpoint:
        return Asked(uuid, host=str(record.get("resident_on", NULL)))
    return Asked(uuid)


class Blocked(NamedTuple):
    """VMs, by their references, of which no snapshot can be taken for the same reason: xapi's error, the reason in
    words, and what removes it."""

    vms: List[str]
    code: str
    text: str
    remedy: str


def blocked(xapi: Xapi, pool: Pool, vms: Mapping[str, Asked]) -> List[Blocked]:
    """Those of these VMs whose snapshot fails because an SR is not attached where it is needed.

    Disks, and not VMs, are what is searched: in a large pool few SRs are not attached everywhere.
    """
    seen = read_access(xapi, pool)
    disks = _read_disks(xapi, sorted(seen.partial)[:_SRS_MAX])
    suspects = _read_users(xapi, seen, disks) | {ref for ref, vm in vms.items() if vm.image in disks}
    needs = _read_needs(xapi, {ref: vm for ref, vm in vms.items() if ref in suspects}, disks)
    groups: Dict[Obstacle, List[Tuple[str, Tuple[Need, ...]]]] = {}
    for ref, of_vm in needs.items():
        found = access.obstacle(seen, of_vm, "" if vms[ref].host == NULL else vms[ref].host)
        if found is not None:
            # The CDs are each VM's own: VMs that need the same SR are told together.
            groups.setdefault(found._replace(cds=tuple(sorted({Need(cd.sr) for cd in found.cds}))), []).append(
                (ref, found.cds)
            )
    return [_told(xapi, seen, found, vms, group) for found, group in groups.items()]


def reasons(xapi: Xapi, pool: Pool, names: Mapping[str, str], checkpoint: bool) -> List[str]:
    """Why no snapshot can be taken of VMs, and what removes that, in words: one line for the VMs of one reason.
    `names`: the names of the VMs by their uuids."""
    with understood("VM"):
        records = where(xapi, "VM", "uuid", list(names)[:_VMS_MAX])
        ordered = sorted((names[text_of(record, "uuid")], ref, record) for ref, record in records)
        vms = {ref: asked(record, checkpoint) for _, ref, record in ordered}
        found = blocked(xapi, pool, vms)
        return ["%s: %s. %s" % (_first(names, vms, each), each.text, _sentence(each.remedy)) for each in found]


def _first(names: Mapping[str, str], vms: Mapping[str, Asked], found: Blocked) -> str:
    name = quoted(names[vms[found.vms[0]].uuid])
    return "%s and %d more" % (name, len(found.vms) - 1) if len(found.vms) > 1 else name


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _told(
    xapi: Xapi, seen: Access, found: Obstacle, vms: Mapping[str, Asked], group: Sequence[Tuple[str, Tuple[Need, ...]]]
) -> Blocked:
    srs = [named(xapi, sr) for sr in found.srs]
    cds = [(vms[ref].uuid, of_vm) for ref, of_vm in group]
    host = _host(xapi, seen) if found.lacking else ""
    remedy = access.remedy(seen, found, cds, {sr: uuid for sr, (_, uuid) in zip(found.srs, srs)}, host)
    return Blocked([ref for ref, _ in group], found.code, access.describe(found, [name for name, _ in srs]), remedy)


def _host(xapi: Xapi, seen: Access) -> str:
    """The uuid of the coordinator, for a command."""
    return one_line(str(xapi.call("host.get_uuid", seen.coordinator)), 40)


def refs_where(xapi: Xapi, cls: str, expression: str) -> List[str]:
    """The references of the objects that a query finds."""
    with understood(cls):
        return sorted(xapi.refs(cls, expression))


def read_access(xapi: Xapi, pool: Pool) -> Access:
    """Which hosts see which SRs."""
    dead: Set[str] = set()
    for metrics in refs_where(xapi, "host_metrics", 'field "live" = "false"'):
        dead.update(refs_where(xapi, "host", 'field "metrics" = "%s"' % metrics))
    shared = refs_where(xapi, "SR", 'field "shared" = "true"')
    local = refs_where(xapi, "SR", 'not (field "shared" = "true")')
    seen: Dict[str, Set[str]] = {sr: set() for sr in shared + local}
    unplugged: Dict[Tuple[str, str], str] = {}
    hosts, down = {pool.coordinator}, set()
    with understood("PBD"):
        for pbd in xapi.call("PBD.get_all_records").values():
            sr, host = text_of(pbd, "SR"), text_of(pbd, "host")
            if host in dead:
                down.update([sr] if pbd["currently_attached"] else [])
                continue
            hosts.add(host)
            of_sr = seen.setdefault(sr, set())
            if pbd["currently_attached"] is True:
                of_sr.add(host)
            else:
                unplugged[sr, host] = one_line(text_of(pbd, "uuid"), 40)
    frozen = {sr: frozenset(of_sr) for sr, of_sr in seen.items()}
    return Access(pool.coordinator, frozenset(hosts - dead), frozen, unplugged, frozenset(shared), frozenset(down))


def _read_disks(xapi: Xapi, srs: Iterable[str]) -> Dict[str, str]:
    """The SR of each disk, CD and memory image on these SRs that a VM has; snapshots of disks are left out."""
    # A memory image has no VBD.
    used = '(field "is_a_snapshot" = "false") and ((not (field "VBDs" = "()")) or (field "type" = "suspend"))'
    return {vdi: sr for sr in srs for vdi in refs_where(xapi, "VDI", '(field "SR" = "%s") and (%s)' % (sr, used))}


@understood("VBD")
def _read_users(xapi: Xapi, seen: Access, disks: Mapping[str, str]) -> Set[str]:
    """The VMs and snapshots that have one of these disks: at first of those on SRs that keep every snapshot from being
    taken."""
    dark = [vdi for vdi, sr in disks.items() if seen.is_dark(sr)][:_DARK_MAX]
    number: Dict[str, int] = {}
    for sr in disks.values():
        number[sr] = number.get(sr, 0) + 1
    others = [vdi for vdi, sr in disks.items() if not seen.is_dark(sr)]
    # A VM that needs two SRs is found by either; the one with fewer disks finds it sooner.
    others.sort(key=lambda vdi: (number[disks[vdi]], vdi))
    vbds = where(xapi, "VBD", "VDI", dark + others[:_DISKS_MAX])
    return {text_of(vbd, "VM") for _, vbd in vbds if not vbd["empty"]}


@understood("VBD")
def _read_needs(xapi: Xapi, vms: Mapping[str, Asked], disks: Mapping[str, str]) -> Dict[str, List[Need]]:
    """What VMs need of the SRs of these disks."""
    vbds = [vbd for _, vbd in where(xapi, "VBD", "VM", list(vms)) if text_of(vbd, "VM") in vms]
    drives: Dict[str, int] = {}
    for vbd in vbds:
        if text_of(vbd, "type") == "CD":
            drives[vbd["VM"]] = drives.get(vbd["VM"], 0) + 1
    needs: Dict[str, List[Need]] = {ref: [] for ref in vms}
    for vbd in vbds:
        sr = disks.get(text_of(vbd, "VDI"))
        if sr is not None and not vbd["empty"]:
            is_cd = vbd["type"] == "CD"
            needs[vbd["VM"]].append(
                Need(sr, one_line(text_of(vbd, "uuid"), 40) if is_cd else "", drives[vbd["VM"]] if is_cd else 0)
            )
    for ref, vm in vms.items():
        if vm.image in disks:
            needs[ref].append(Need(disks[vm.image]))
    return needs
