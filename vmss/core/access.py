"""Which hosts see which storage repositories, and whether a VM's snapshot finds a host that sees all it needs.

xapi carries out a snapshot on a live host that has every SR of the VM's disks and CDs attached, a checkpoint of a
running VM on the VM's own host. An operation on a disk of a shared SR takes place on the coordinator
(docs/xapi-facts.md, Where a snapshot is taken).
"""

from typing import FrozenSet, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core.text import quoted
from vmss.core.words import agree, listed

NO_HOST, NOT_PLUGGED, NOT_ATTACHED = "NO_HOSTS_AVAILABLE", "SR_HAS_NO_PBDS", "SR_NOT_ATTACHED"
# The errors that tell of an SR which is not attached where it is needed.
ERRORS = (NO_HOST, NOT_PLUGGED, NOT_ATTACHED)

_NONE: FrozenSet[str] = frozenset()
# VMs for each of which there is a command.
_NAMED = 5


class Need(NamedTuple):
    """An SR that a VM needs: for a disk, a CD or its memory image. `vbd` is the uuid of the CD's VBD, empty for others;
    `drives` the number of the VM's CD drives."""

    sr: str
    vbd: str = ""
    drives: int = 0


class Access(NamedTuple):
    """The hosts that see each SR.

    `hosts` are the live hosts, and `seen` those of them that have an SR attached, for every SR; `unplugged` the uuids
    of their PBDs that are not attached, by SR and host; `shared` the shared SRs; `down` the SRs that hosts have
    attached which are not live.
    """

    coordinator: str
    hosts: FrozenSet[str]
    seen: Mapping[str, FrozenSet[str]]
    unplugged: Mapping[Tuple[str, str], str]
    shared: FrozenSet[str]
    down: FrozenSet[str] = _NONE

    @property
    def partial(self) -> FrozenSet[str]:
        """The SRs that at least one host does not see: only for these a snapshot can find no host."""
        return frozenset(sr for sr, hosts in self.seen.items() if hosts != self.hosts)

    def is_dark(self, sr: str) -> bool:
        """Whether no snapshot of a VM with a disk on this SR succeeds, whatever else the VM needs."""
        seen = self.seen.get(sr, _NONE)
        return not seen or sr in self.shared and self.coordinator not in seen


class Obstacle(NamedTuple):
    """Why a VM's snapshot fails: xapi's error, the SRs that have to be attached, and the uuids of the PBDs that attach
    them; empty where there is no PBD. `cds` are the VBDs of the CDs that are in the way, if nothing else is."""

    code: str
    srs: Tuple[str, ...]
    pbds: Tuple[str, ...] = ()
    cds: Tuple[Need, ...] = ()


def obstacle(access: Access, needs: Sequence[Need], host: str = "") -> Optional[Obstacle]:
    """Given what a VM needs, return what keeps its snapshot from being taken. `host`: its host, if a checkpoint is
    taken of it while it runs, so that it has to be resumed there."""
    srs = {need.sr for need in needs}
    missing = {each: frozenset(sr for sr in srs if each not in access.seen.get(sr, _NONE)) for each in access.hosts}
    if host:
        missing = {host: missing.get(host, frozenset(srs))}
    if srs and all(missing.values()):
        # The host on which the least has to be plugged; one that lacks a PBD comes last.
        chosen = min(missing, key=lambda each: (not _can_plug(access, missing[each], each), len(missing[each]), each))
        return _obstacle(access, NOT_ATTACHED if host else NO_HOST, missing[chosen], chosen, needs)
    # The snapshot of each disk is an operation of the SR; a CD is not snapshotted.
    disks = {need.sr for need in needs if not need.vbd}
    unserved = frozenset(sr for sr in disks & access.shared if access.coordinator not in access.seen.get(sr, _NONE))
    return _obstacle(access, NOT_PLUGGED, unserved, access.coordinator, needs) if unserved else None


def _can_plug(access: Access, srs: FrozenSet[str], host: str) -> bool:
    return all((sr, host) in access.unplugged for sr in srs)


def _obstacle(access: Access, code: str, srs: FrozenSet[str], host: str, needs: Sequence[Need]) -> Obstacle:
    pbds = tuple(sorted(access.unplugged[sr, host] for sr in srs)) if _can_plug(access, srs, host) else ()
    in_the_way = [need for need in needs if need.sr in srs]
    cds = tuple(sorted(in_the_way)) if all(need.vbd for need in in_the_way) else ()
    return Obstacle(code, tuple(sorted(srs)), pbds, cds)


def describe(found: Obstacle, names: Sequence[str]) -> str:
    """An obstacle in words, given the names of its SRs."""
    return "the storage %s %s%s %s not attached" % (
        agree(len(names), "repository", "repositories"),
        listed([quoted(name) for name in names]),
        ", from which a CD is in the drive," if found.cds else "",
        agree(len(names), "is", "are"),
    )


def remedy(access: Access, found: Obstacle, vms: Sequence[Tuple[str, Sequence[Need]]], srs: Sequence[str]) -> str:
    """What removes an obstacle that is the same for these VMs, given the uuid of each and the CDs that are in its way,
    and the uuids of the SRs."""
    plug = "; ".join("xe pbd-plug uuid=%s" % pbd for pbd in found.pbds)
    if found.cds and (len(vms) <= _NAMED or not plug):
        eject = "; ".join(_eject(uuid, cd) for uuid, cds in vms[:_NAMED] for cd in cds)
        eject += "; and so for the other VMs" if len(vms) > _NAMED else ""
        return "take the CD out: %s%s" % (eject, "; or, to keep it in: %s" % plug if plug else "")
    if plug:
        return "attach it: %s" % plug
    if access.down.intersection(found.srs):
        return "bring back the host that has it attached: xe pbd-list %s" % _where(srs)
    if any(access.seen.get(sr) for sr in found.srs):
        return "move the disks of each VM to storage that one host sees: xe pbd-list %s" % _where(srs)
    return "no host has a PBD for it: xe pbd-create %s host-uuid=UUID device-config:…, then xe pbd-plug" % _where(srs)


def _eject(vm: str, cd: Need) -> str:
    # xe refuses vm-cd-eject for a VM with several drives.
    return "xe vm-cd-eject uuid=%s" % vm if cd.drives == 1 else "xe vbd-eject uuid=%s" % cd.vbd


def _where(srs: Sequence[str]) -> str:
    return "sr-uuid=%s" % (srs[0] if srs else "UUID")
