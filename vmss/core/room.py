"""The room on a storage repository, and what snapshots to come need of it: a verdict, with the numbers it rests on."""

import re
from datetime import datetime, timedelta
from typing import NamedTuple, Optional, Sequence, Tuple

from vmss.core.plan import Need, Space
from vmss.core.words import size

FITS, AFTER_EXPIRY, NOT = "fits", "fits after expiry", "does not fit"

# How much was in use, in bytes, and when, in seconds since the epoch.
Note = Tuple[float, int]

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
# Notes that are closer to each other, in seconds, tell more of the hour of the day than of a trend.
_APART = 6 * 3600.0
_FAR = timedelta(days=3650)


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
    storage has coalesced it; `reserve`: what is to stay free."""

    space: Space
    needed: int = 0
    growth: int = 0
    freed: int = 0
    reserve: int = 0

    @property
    def free(self) -> int:
        return max(0, self.space.size - self.space.used)

    @property
    def verdict(self) -> str:
        """Whether the snapshots fit: FITS, AFTER_EXPIRY or NOT."""
        left = self.free - self.needed - self.growth - self.reserve
        return FITS if left >= 0 else AFTER_EXPIRY if left + self.freed >= 0 else NOT

    @property
    def sentence(self) -> str:
        """The numbers in words, without a full stop."""
        parts = ["%s of %s are free" % (size(self.free), size(self.space.size))]
        parts.append("the snapshots need up to %s" % size(self.needed))
        if self.growth:
            parts.append("%s more will be written if it goes on as it did" % size(self.growth))
        if self.freed:
            parts.append("expiry gives back up to %s once it is coalesced" % size(self.freed))
        if self.reserve:
            parts.append("%s are to stay free" % size(self.reserve))
        return ", ".join(parts)


def amount(need: Need, space: Space) -> int:
    """What a snapshot needs at once on a storage repository, in bytes."""
    return need.thick if space.thick else need.thin


def leaves_reserve(space: Space, needed: int, reserve: Reserve) -> bool:
    """Whether the reserve stays free once so many bytes more are in use."""
    return space.size - space.used - needed >= reserve.of(space.size)


def rate(notes: Sequence[Note]) -> Optional[float]:
    """By how many bytes a second the use grows: the median over all pairs of notes that are far enough apart, so that a
    disk that was added or deleted once does not count. None if there are none."""
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for at, earlier in enumerate(notes)
        for later in notes[at + 1 :]
        if later[0] - earlier[0] >= _APART
    ]
    return sorted(slopes)[len(slopes) // 2] if slopes else None


def full_at(space: Space, growth_rate: Optional[float], now: datetime) -> Optional[datetime]:
    """When a storage repository is full, if it goes on so; None if it does not grow, or not within ten years."""
    if growth_rate is None or growth_rate <= 0 or space.size <= 0:
        return None
    left = timedelta(seconds=min(max(0, space.size - space.used) / growth_rate, _FAR.total_seconds()))
    return None if left >= _FAR else now + left
