"""Which hosts see which storage repositories, and whether a VM's snapshot finds a host that sees all it needs.

xapi carries out a snapshot on a live host that has every SR of the VM's disks and CDs attached, a checkpoint of a
running VM on the VM's own host. An operation on a disk of a shared SR takes place on the coordinator
(docs/xapi-facts.md, Where a snapshot is taken).
"""

from typing import FrozenSet, Iterable, Mapping, NamedTuple, Optional, Sequence, Tuple

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
    """Why a VM's snapshot fails.

    `code` is xapi's error; `srs` are the SRs that have to be attached, `pbds` the uuids of the PBDs that attach them,
    and `lacking` those of the SRs for which there is no PBD. `cds` are the CDs in the way whose SR nothing else needs.
    """

    code: str
    srs: Tuple[str, ...]
    pbds: Tuple[str, ...] = ()
    lacking: Tuple[str, ...] = ()
    cds: Tuple[Need, ...] = ()

    @property
    def only_cds(self) -> bool:
        """Whether nothing but CDs is in the way."""
        return {cd.sr for cd in self.cds} == set(self.srs)


def obstacle(access: Access, needs: Sequence[Need], host: str = "") -> Optional[Obstacle]:
    """Given what a VM needs, return what keeps its snapshot from being taken. `host`: its host, if a checkpoint is
    taken of it while it runs, so that it has to be resumed there."""
    srs = {need.sr for need in needs}
    # The snapshot of each disk is an operation of the SR; a CD is not snapshotted.
    shared = access.shared.intersection(need.sr for need in needs if not need.vbd)
    unserved = _unseen(access, shared, access.coordinator)
    missing = {each: _unseen(access, srs, each) for each in ({host} if host else access.hosts)}
    if srs and all(missing.values()):
        # The host on which the least has to be plugged; one that lacks a PBD comes last.
        ways = [missing[each] | unserved for each in sorted(missing)]
        return _obstacle(
            access, NOT_ATTACHED if host else NO_HOST, min(ways, key=lambda way: _cost(access, way)), needs
        )
    return _obstacle(access, NOT_PLUGGED, unserved, needs) if unserved else None


def _unseen(access: Access, srs: Iterable[str], host: str) -> FrozenSet[Tuple[str, str]]:
    return frozenset((sr, host) for sr in srs if host not in access.seen.get(sr, _NONE))


def _cost(access: Access, way: FrozenSet[Tuple[str, str]]) -> Tuple[bool, int]:
    return not way.issubset(access.unplugged), len(way)


def _obstacle(access: Access, code: str, way: FrozenSet[Tuple[str, str]], needs: Sequence[Need]) -> Obstacle:
    srs = {sr for sr, _host in way}
    only = srs - {need.sr for need in needs if not need.vbd}
    return Obstacle(
        code,
        tuple(sorted(srs)),
        tuple(sorted(access.unplugged[pair] for pair in way if pair in access.unplugged)),
        tuple(sorted({sr for sr, host in way if (sr, host) not in access.unplugged})),
        tuple(sorted(need for need in needs if need.sr in only)),
    )


def describe(found: Obstacle, names: Sequence[str]) -> str:
    """An obstacle in words, given the names of its SRs."""
    return "the storage %s %s%s %s not attached" % (
        agree(len(names), "repository", "repositories"),
        listed([quoted(name) for name in names]),
        ", from which a CD is in the drive," if found.only_cds else "",
        agree(len(names), "is", "are"),
    )


def remedy(
    access: Access, found: Obstacle, vms: Sequence[Tuple[str, Sequence[Need]]], srs: Mapping[str, str], host: str
) -> str:
    """What removes an obstacle that is the same for these VMs, given the uuid of each and the CDs that are in its way,
    and the uuids of the SRs and of the coordinator."""
    plug = "; ".join("xe pbd-plug uuid=%s" % pbd for pbd in found.pbds)
    if found.only_cds:
        if found.lacking or not plug:
            return "take the CD out: %s" % _ejects(vms, found.srs)
        if len(vms) <= _NAMED:
            return "take the CD out: %s; or, to keep it in: %s" % (_ejects(vms, found.srs), plug)
    steps = ["attach it: %s" % plug] if plug else []
    of_cds = {cd.sr for cd in found.cds}.intersection(found.lacking)
    if of_cds:
        steps.append("take the CD out: %s" % _ejects(vms, of_cds))
    return "; ".join(steps + [_without_pbd(access, sr, srs[sr], host) for sr in found.lacking if sr not in of_cds])


def _without_pbd(access: Access, sr: str, uuid: str, host: str) -> str:
    if sr in access.down:
        return "bring back the host that has it attached: xe pbd-list sr-uuid=%s" % uuid
    if access.seen.get(sr):
        return "move the disks of each VM to storage that one host sees: xe pbd-list sr-uuid=%s" % uuid
    create = "xe pbd-create sr-uuid=%s host-uuid=%s device-config:…, then xe pbd-plug" % (uuid, host)
    return "no host has a PBD for it: %s; and so for the other hosts" % create


def _ejects(vms: Sequence[Tuple[str, Sequence[Need]]], srs: Iterable[str]) -> str:
    of = set(srs)
    lines = [_eject(uuid, cd) for uuid, cds in vms[:_NAMED] for cd in cds if cd.sr in of]
    return "; ".join(lines + ["and so for the other VMs"] * (len(vms) > _NAMED))


def _eject(vm: str, cd: Need) -> str:
    # xe refuses vm-cd-eject for a VM with several drives.
    return "xe vm-cd-eject uuid=%s" % vm if cd.drives == 1 else "xe vbd-eject uuid=%s" % cd.vbd
