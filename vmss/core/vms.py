"""A VM of a policy and its disks: the values from which its snapshot is planned."""

from typing import FrozenSet, NamedTuple, Optional, Tuple

from vmss.core.records import NULL
from vmss.core.retention import Snapshot


class Disk(NamedTuple):
    """A VDI. `vbds` are the references of all its VBDs; `virtual_size` is in bytes; `parent` is the uuid of the base
    copy that its image builds on, if the storage tells. `skip`: its record asks to leave it out of scheduled snapshots.
    `used` are the bytes that its own image occupies. `snapshot_of` is a reference.
    """

    ref: str
    uuid: str
    sr: str
    type: str
    is_a_snapshot: bool
    managed: bool
    vbds: Tuple[str, ...]
    virtual_size: int = 0
    name: str = ""
    parent: str = ""
    skip: bool = False
    used: int = 0
    snapshot_of: str = ""


class Vm(NamedTuple):
    """A VM of a policy.

    `snapshots` are its scheduled snapshots, `snapshot_refs` all its snapshots. `suspect` are the uuids of scheduled
    snapshots whose records contradict each other or cannot be understood; `snapshots` leaves them out. `task` is the
    pending task, if there is one, that takes a scheduled snapshot of the VM, of a pass that was killed or gave it up.
    `memory` is in bytes. `took` is the duration in seconds of the last scheduled snapshot, if it is known. `misread` is
    the reason why the VM's record cannot be understood; then only `ref`, `uuid`, `name` and `policy` are known. `tags`
    are what people and other products mark it with, ours begin with `vmss:`. `parent` is the snapshot that was taken of
    the VM last, or that it was reverted to; it, `metrics`, `guest_metrics` (what its guest tools report) and `vbds`
    (None: not known) are references.
    """

    ref: str
    uuid: str
    name: str
    policy: str
    power_state: str
    host: str
    suspend_sr: str
    snapshots: Tuple[Snapshot, ...] = ()
    suspect: Tuple[str, ...] = ()
    task: str = ""
    memory: int = 0
    took: Optional[float] = None
    misread: str = ""
    snapshot_refs: Tuple[str, ...] = ()
    tags: FrozenSet[str] = frozenset()
    guest_metrics: str = NULL
    parent: str = ""
    metrics: str = ""
    vbds: Optional[Tuple[str, ...]] = None
