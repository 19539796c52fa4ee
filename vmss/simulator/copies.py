"""Copies of VMs, put straight into the tables and onto the SRs: how a large pool is built without a call for each."""

import re
from math import gcd
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Tuple

from .build import ROLES, Pool, build_pool, vm_name
from .images import Repository
from .table import Row
from .values import NULL

if TYPE_CHECKING:
    from .simulator import Simulator

_ID = "(?:OpaqueRef:)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

# So many VMs of a large pool are made by calls, at least, in all and for each host. Their copies have what was drawn
# for them, the sizes of disks and the hosts.
PATTERNS_MIN = 96
PATTERNS_OF_HOST = 24


def build_large_pool(
    sim: "Simulator", hosts: int = 2, srs: int = 2, vms: int = 6, disks: int = 2, seed: int = 1
) -> Pool:
    """The pool of `build_pool`, whose VMs beyond the first ones are copies of these."""
    # Names, power states (two of three VMs run; 3 divides the number of roles) and the SRs of disks come again after
    # so many VMs.
    period = len(ROLES) * srs // gcd(len(ROLES), srs) if srs else len(ROLES)
    first = period * -(-max(PATTERNS_MIN, PATTERNS_OF_HOST * hosts) // period)
    pool = build_pool(sim.call, hosts, srs, min(vms, first), disks, seed, room=vms)
    patterns = [Pattern(sim, vm) for vm in pool.vms] if vms > first else []
    running, own = set(pool.running), list(pool.vms)
    for number in range(first, vms):
        vm = own[number % first]
        fresh = patterns[number % first].copy(vm_name(number))
        pool.vms.append(fresh[vm])
        if vm in running:
            pool.running.append(fresh[vm])
        start = number % first * disks
        pool.disks.extend(fresh[disk] for disk in pool.disks[start : start + disks])
    for sr in pool.srs:
        sim.storage.manager.show_space(sr)
    return pool


class _Member(NamedTuple):
    """One row of a pattern, and those of its fields that name the VM, or an object of its own, cut (`Pattern._cut`)."""

    cls: str
    ref: str
    row: Row
    own: Row


class Pattern:
    """A VM to copy, with what belongs to it: its snapshots, the rows and images of all disks, and its messages.

    Nothing of it may be in use by an operation, and it is not to change as long as it is copied. Its name gives way to
    that of the copy wherever it stands, so it has to be one that means nothing else in a record.
    """

    def __init__(self, sim: "Simulator", vm: str) -> None:
        self.sim = sim
        self._name: str = sim.db.row("VM", vm)["name_label"]
        refs = list(dict.fromkeys(_rows_of(sim, vm)))
        rows = [sim.db.row(cls, ref) for cls, ref in refs]
        messages = [sim.messages.record(message) for row in rows for message in sim.messages.of_object(row["uuid"])]
        # Copied with fresh ids is what belongs to the pattern, and what is no object at all: a seed of MAC addresses.
        self._ids = [ref for _, ref in refs] + [row["uuid"] for row in rows]
        found = re.findall(_ID, repr(rows))
        self._ids = list(dict.fromkeys(self._ids + [text for text in found if not self._is_known(text)]))
        self._texts = re.compile("(%s|%s)" % (_ID, re.escape(self._name)))
        own = dict.fromkeys([*self._ids, self._name], "")
        self._members = [
            _Member(cls, ref, row, {k: self._cut(v) for k, v in row.items() if _renewed(self._cut(v), own) != v})
            for (cls, ref), row in zip(refs, rows)
        ]
        self._messages = [(message, self._cut(message["body"])) for message in messages]
        self._images: Dict[Repository, List[str]] = {}
        for (cls, _), row in zip(refs, rows):
            repository = sim.storage.manager.repository(row["SR"]) if cls == "VDI" else None
            if repository is not None and row["location"] in repository.images:
                self._images.setdefault(repository, []).append(row["location"])

    def copy(self, name: str) -> Dict[str, str]:
        """Add one more VM like this one; return the references of its objects by those that they are copies of.

        The records of the SRs do not show what has become of their room: see `ImageRecords.show_space`.
        """
        db = self.sim.db
        fresh = {old: db.new_ref() if old.startswith("OpaqueRef:") else db.new_uuid() for old in self._ids}
        fresh[self._name] = name
        for repository, images in self._images.items():
            repository.copy(images, fresh)
        for cls, ref, pattern, own in self._members:
            row = pattern.copy()
            for field, value in own.items():
                row[field] = _renewed(value, fresh)
            if cls == "VM" and row["resident_on"] != NULL:
                row["domid"] = self.sim.hosts.new_domain(row["resident_on"])
            db.enter(db.tables[cls], fresh[ref], row)
        for message, body in self._messages:
            self.sim.messages.create(
                message["name"], message["priority"], message["cls"], fresh[message["obj_uuid"]], _renewed(body, fresh)
            )
        return fresh

    def _is_known(self, text: str) -> bool:
        """Whether a text is the id of an object of the pool."""
        return any(text in table.rows or text in table.uuids for table in self.sim.db.tables.values())

    def _cut(self, value: Any) -> Any:
        """A value of the pattern, for `_renewed`. A text that has more than an id or the name is cut into pieces at
        these: they are found once, and not for each copy."""
        if isinstance(value, str):
            pieces = tuple(self._texts.split(value))
            return value if value in (pieces[0], *pieces[1:2]) else pieces
        if isinstance(value, dict):
            return {key: self._cut(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._cut(item) for item in value]
        return value


def _renewed(value: Any, fresh: Dict[str, str]) -> Any:
    """What has been cut, with what is fresh in the place of what is the pattern's own."""
    if isinstance(value, str):
        return fresh.get(value, value)
    if isinstance(value, tuple):
        pieces: Tuple[str, ...] = value
        return "".join([fresh.get(piece, piece) for piece in pieces])
    if isinstance(value, dict):
        return {key: _renewed(item, fresh) for key, item in value.items()}
    if isinstance(value, list):
        return [_renewed(item, fresh) for item in value]
    return value


def _rows_of(sim: "Simulator", vm: str) -> Iterator[Tuple[str, str]]:
    """What belongs to a VM: class and reference, each after what it refers to, some of them twice."""
    db = sim.db
    for machine in [vm, *reversed(db.pointing_at("VM", "snapshot_of", vm))]:
        row = db.row("VM", machine)
        vbds = db.pointing_at("VBD", "VM", machine)[::-1]
        for disk in [row["suspend_VDI"], *(db.row("VBD", vbd)["VDI"] for vbd in vbds)]:
            yield from (("VDI", vdi) for vdi in _chain(sim, disk))
        for cls, ref in (("VM_metrics", row["metrics"]), ("VM_guest_metrics", row["guest_metrics"])):
            if db.exists(cls, ref):
                yield cls, ref
        yield "VM", machine
        yield from (("VBD", vbd) for vbd in vbds)


def _chain(sim: "Simulator", vdi: str) -> List[str]:
    """The records of a disk and of the images above its own, the topmost first; nothing if there is no disk."""
    if not sim.db.exists("VDI", vdi):
        return []
    row, manager = sim.db.row("VDI", vdi), sim.storage.manager
    names = manager.repository(row["SR"]).ancestors(row["location"]) if manager.image(vdi) is not None else ()
    bases = [manager.vdi(name) for name in names]
    return [base for base in bases[::-1] if base is not None] + [vdi]
