"""The room on a storage repository, and what snapshots to come need of it: a verdict, with the numbers it rests on."""

import re
from datetime import datetime, timedelta
from typing import NamedTuple, Optional, Sequence, Tuple

from vmss.core.plan import Need, Space
from vmss.core.words import size

FITS, AFTER_EXPIRY, NOT = "fits", "fits after expiry", "does not fit"


_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
# Notes that are closer to each other, in seconds, tell more of the hour of the day than of a trend.
_APART = 6 * 3600.0
_FAR = timedelta(days=3650)
# What the smallest volume has on LVM; a snapshot makes two (sm: lvhdutil.py), of which one gets what was written.
_EMPTY_VOLUME = 8 << 20
_EMPTY_SNAPSHOT = 2 * _EMPTY_VOLUME


class Note(NamedTuple):
    """How much was in use, in bytes, and when, in seconds since the epoch. `filling`: snapshots were taken and nothing
    expired for them, because VMs had not yet as many as are kept."""

    at: float
    used: int
    filling: bool = False


class Reserve(NamedTuple):
    """What is to stay free on a storage repository: bytes, or a part of its size in per cent."""

    bytes: int = 0
    per_cent: int = 0

    def of(self, whole: int) -> int:
        """In bytes, on a storage repository of this size."""
        return self.bytes + whole * self.per_cent // 100


def parse_reserve(text: str) -> Reserve:
    """Read `10%`, or bytes, with K, M, G or T for powers of 1024. Raise ValueError with the rule."""
    match = re.match(r"([0-9]{1,15})([KMGT%]?)\Z", text.upper())
    if match is None or (match.group(2) == "%" and int(match.group(1)) > 99):
        raise ValueError("is neither a number of bytes, such as 0 or 20G, nor from 0% to 99%")
    number, unit = int(match.group(1)), match.group(2)
    return Reserve(per_cent=number) if unit == "%" else Reserve(number << _UNITS[unit])


class Room(NamedTuple):
    """The room on a storage repository, in bytes. `needed`: what the snapshots to come need at once; `growth`: what
    else will be written meanwhile, if it goes on as it did; `freed`: what expires for them, which is free once the
    storage has coalesced it; `reserve`: what is to stay free; `at_once`: what of `needed` is needed before anything
    can come back, because it is for one run."""

    space: Space
    needed: int = 0
    growth: int = 0
    freed: int = 0
    reserve: int = 0
    at_once: int = 0

    @property
    def free(self) -> int:
        return max(0, self.space.size - self.space.used)

    @property
    def verdict(self) -> str:
        """Whether the snapshots fit: FITS, AFTER_EXPIRY or NOT."""
        left = self.free - self.needed - self.growth - self.reserve
        if left >= 0:
            return FITS
        return AFTER_EXPIRY if left + self.freed >= 0 and self.free >= self.at_once + self.reserve else NOT

    @property
    def sentence(self) -> str:
        """The numbers in words, without a full stop."""
        parts = ["%s of %s are free" % (size(self.free), size(self.space.size))]
        if self.needed:
            parts.append("the snapshots need up to %s" % size(self.needed))
        if self.growth:
            parts.append("%s more will be written if it goes on as it did" % size(self.growth))
        if self.freed:
            parts.append("expiry gives back up to %s once it is coalesced" % size(self.freed))
        if self.reserve:
            parts.append("%s are to stay free" % size(self.reserve))
        return ", ".join(parts)


class Demand(NamedTuple):
    """What the snapshots of one disk, or of a VM's memory, need on its storage repository: `times` are to come, and
    `expire` of those that exist go meanwhile. `bound`: the most that one may need at once. `written`: what one comes to
    occupy, in bytes, in the mean of those that exist; None if that is not known, and for memory, which needs its bound
    each time (`whole`)."""

    times: int
    expire: int
    bound: Need
    written: Optional[int] = None
    whole: bool = False


def forecast(
    space: Space, runs: Sequence[Sequence[Demand]], growth_rate: Optional[float], hours: int, reserve: int
) -> Room:
    """The room on a storage repository, given what the snapshots of each schedule need there within so many hours, and
    by how many bytes a second what is in use grows, which includes the snapshots.

    Of a disk whose snapshots have not told yet what they come to, the bound counts once: it is the whole disk."""
    needed = later = back = at_once = 0
    for demands in runs:
        of_one_run = 0
        for demand in demands:
            first, each, afterwards = _needs(demand, space)
            of_one_run += first
            needed += first + (demand.times - 1) * each
            later += demand.times * afterwards
            back += demand.expire * (each + afterwards)
        at_once = max(at_once, of_one_run)
    if growth_rate is None:
        return Room(space, needed, later, back, reserve, at_once)
    # What grows in the end is what comes less what goes.
    grown = max(0, round(growth_rate * hours * 3600))
    growth = max(later, grown - needed)
    return Room(space, needed, growth, min(back, needed + growth - grown), reserve, at_once)


def _needs(demand: Demand, space: Space) -> Tuple[int, int, int]:
    """What the first snapshot needs at once, each later one, and each afterwards, until the next one."""
    bound = amount(demand.bound, space)
    if demand.whole:
        return bound, bound, 0
    if not space.thick:
        # Its file is part of what was written; an empty one has a few KiB.
        return (bound, 0, 0) if demand.written is None else (0, 0, demand.written)
    if demand.written is None:
        return bound, min(bound, _EMPTY_SNAPSHOT), 0
    each = min(bound, demand.written + _EMPTY_VOLUME)
    return each, each, 0


def amount(need: Need, space: Space) -> int:
    """What a snapshot needs at once on a storage repository, in bytes."""
    return need.thick if space.thick else need.thin


def leaves_reserve(space: Space, needed: int, reserve: Reserve) -> bool:
    """Whether the reserve stays free once so many bytes more are in use."""
    return space.size - space.used - needed >= reserve.of(space.size)


def rate(notes: Sequence[Note]) -> Optional[float]:
    """By how many bytes a second the use grows; None if the notes do not tell. While VMs get their first snapshots it
    grows as it will not go on: so these notes count only as long as there are no others."""
    settled = _slope([note for note in notes if not note.filling])
    return _slope(notes) if settled is None else settled


def _slope(notes: Sequence[Note]) -> Optional[float]:
    """The median over all pairs of notes that are far enough apart, so that a disk that was added or deleted once does
    not count."""
    slopes = [
        (later.used - earlier.used) / (later.at - earlier.at)
        for at, earlier in enumerate(notes)
        for later in notes[at + 1 :]
        if later.at - earlier.at >= _APART
    ]
    return sorted(slopes)[len(slopes) // 2] if slopes else None


def full_at(space: Space, growth_rate: Optional[float], now: datetime) -> Optional[datetime]:
    """When a storage repository is full, if it goes on so; None if it does not grow, or not within ten years."""
    if growth_rate is None or growth_rate <= 0 or space.size <= 0:
        return None
    left = timedelta(seconds=min(max(0, space.size - space.used) / growth_rate, _FAR.total_seconds()))
    return None if left >= _FAR else now + left
