"""The room on the pool's storage repositories: what is in use, and what is said of it."""

from datetime import datetime
from typing import Iterator, List, NamedTuple, Sequence

from vmss.core import words
from vmss.core.plan import Space
from vmss.core.room import full_at, rate
from vmss.core.text import quoted
from vmss.core.words import size
from vmss.edges.room_notes import read_notes
from vmss.edges.settings import Settings
from vmss.edges.storage import named, read_space
from vmss.edges.xapi import Refused, Xapi, understood
from vmss.insight.findings import CRITICAL, OK, WARNING, Finding

# Upper limit on the storage repositories that are looked at.
_MAX = 200


class Repository(NamedTuple):
    """A storage repository for disks, by its reference, and the space on it."""

    ref: str
    space: Space

    @property
    def part(self) -> int:
        """What is in use, in per cent."""
        return 100 * self.space.used // self.space.size


def read(xapi: Xapi) -> List[Repository]:
    """Those that tell their size."""
    with understood("SR"):
        srs = [str(sr) for sr in xapi.call("SR.get_all")][:_MAX]
    return [found for sr in srs for found in _read(xapi, sr)]


def _read(xapi: Xapi, sr: str) -> Iterator[Repository]:
    try:
        space = read_space(xapi, sr, not_of=("iso", "udev"))
    except Refused as refused:
        if refused.code == "RBAC_PERMISSION_DENIED":
            raise
        return
    if space is not None and space.size > 0 and space.used >= 0:
        yield Repository(sr, space)


def full(xapi: Xapi, repositories: Sequence[Repository], settings: Settings, now: datetime) -> List[Finding]:
    """Those with too little room for snapshots, and for the coalescing after their deletion; if none has, that."""
    least = min(settings.room_warning, settings.room_critical)
    found = [_finding(xapi, one, settings, now) for one in repositories if one.part >= least]
    if found:
        return found
    seen = "storage repositories: %d" % len(repositories)
    return [Finding(OK, "storage", "no storage repository is nearly full", seen)]


def _finding(xapi: Xapi, repository: Repository, settings: Settings, now: datetime) -> Finding:
    space = repository.space
    end = full_at(space, rate(read_notes(xapi, repository.ref)), now)
    ahead = "; full %s, if it goes on as it did" % words.distance(end, now) if end is not None and end > now else ""
    name, uuid = named(xapi, repository.ref)
    return Finding(
        CRITICAL if repository.part >= settings.room_critical else WARNING,
        "storage",
        "the storage repository %s is %d %% full" % (quoted(name), repository.part),
        "%s of %s are used%s" % (size(space.used), size(space.size), ahead),
        "see what occupies it: xe vdi-list sr-uuid=%s; delete snapshots or disks, lower retained-snapshots, "
        "or extend it" % uuid,
    )
