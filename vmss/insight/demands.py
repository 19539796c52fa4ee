"""What the runs to come need on each storage repository, and how long they make chains, by the snapshots that exist."""

from itertools import groupby
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core.chain import Chain, chains, expected, written
from vmss.core.room import Demand, Room, forecast, parse_reserve, rate
from vmss.core.vms import Disk
from vmss.edges.chains import read_images
from vmss.edges.room_notes import read_notes
from vmss.edges.storage import read_space
from vmss.insight.forecast import Expected, Load, Piece
from vmss.insight.reading import Reading

# Of so many disks the chains are read, at least one on each storage repository: the record of an image is 1.5 kB.
_DISKS_READ = 40


class Long(NamedTuple):
    """A disk with its chain, and how many images that is expected to have after the runs to come."""

    disk: Disk
    chain: Chain
    expected: int


class Coming(NamedTuple):
    """The room on the storage repositories that the runs touch, by reference; and the chains that were looked at."""

    rooms: Mapping[str, Room] = {}
    chains: Sequence[Long] = ()


class _Needed(NamedTuple):
    """A piece of a schedule's run: so many such runs are to come, and so many of the VM's snapshots expire in them."""

    piece: Piece
    policy: str
    times: int
    expire: int


def read_coming(session: Reading, runs: Sequence[Expected], loads: Mapping[str, Load], hours: int) -> Coming:
    """What comes of these runs, which begin within so many hours."""
    by_sr: Dict[str, List[_Needed]] = {}
    for one in _needed(runs, loads):
        by_sr.setdefault(one.piece.sr, []).append(one)
    looked_at = {disk.uuid: (disk, one) for of_sr in by_sr.values() for disk, one in _some(of_sr, len(by_sr))}
    images = read_images(session.xapi, [disk for disk, _ in looked_at.values()], snapshots=True)
    each = {uuid: written(uuid, images, one.piece.snapshots) for uuid, (_, one) in looked_at.items()}
    everywhere = _part([disk for disk, _ in looked_at.values()], each)
    reserve = parse_reserve(session.settings.room_reserve)
    rooms = {}
    for sr, of_sr in by_sr.items():
        space = read_space(session.xapi, sr)
        if space is not None and space.size > 0:
            part = _part([one.piece.disk for one in of_sr if one.piece.disk is not None], each)
            demands = _demands(of_sr, each, everywhere if part is None else part)
            grows = rate(read_notes(session.xapi, sr))
            rooms[sr] = forecast(space, demands, grows, hours, reserve.of(space.size))
    found = chains(list(looked_at), images)
    return Coming(
        rooms,
        [
            Long(disk, found[uuid], expected(found[uuid], one.times, one.expire))
            for uuid, (disk, one) in looked_at.items()
        ],
    )


def _needed(runs: Sequence[Expected], loads: Mapping[str, Load]) -> Iterator[_Needed]:
    times: Dict[str, int] = {}
    for run in runs:
        times[run.policy.uuid] = times.get(run.policy.uuid, 0) + (not run.missed)
    for uuid, count in times.items():
        retained = loads[uuid].policy.retained
        for piece in loads[uuid].pieces if count else ():
            yield _Needed(piece, uuid, count, min(count, max(0, piece.snapshots + count - retained)))


def _some(needed: Sequence[_Needed], srs: int) -> List[Tuple[Disk, _Needed]]:
    """The disks whose chains are read: of the VMs with the most snapshots, which tell most and have the longest."""
    disks = [(one.piece.disk, one) for one in needed if one.piece.disk is not None and one.piece.snapshots]
    disks.sort(key=lambda pair: (-pair[1].piece.snapshots, pair[0].uuid))
    return disks[: max(1, _DISKS_READ // srs)]


def _part(disks: Sequence[Disk], each: Mapping[str, Optional[int]]) -> Optional[float]:
    """What a snapshot of these disks comes to, to their sizes; None if none of them tells."""
    known = [(disk.virtual_size, each.get(disk.uuid)) for disk in disks]
    whole = sum(size for size, told in known if told is not None)
    return sum(told for _, told in known if told is not None) / whole if whole else None


def _demands(needed: Sequence[_Needed], each: Mapping[str, Optional[int]], part: Optional[float]) -> List[List[Demand]]:
    """What the snapshots need, by schedule. Of disks that have not told it is this part of their sizes. A disk without
    a snapshot is another matter: its first one has all of its data."""

    def demand(one: _Needed) -> Demand:
        disk = one.piece.disk
        told = None if disk is None else each.get(disk.uuid)
        if disk is not None and told is None and part is not None and one.piece.snapshots:
            told = round(disk.virtual_size * part)
        return Demand(one.times, one.expire, one.piece.need, told, whole=disk is None)

    return [[demand(one) for one in of_policy] for _, of_policy in groupby(needed, key=lambda one: one.policy)]
