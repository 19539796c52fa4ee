"""What is known of the pool, its VMs and their disks: the values that a pass decides by."""

from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from vmss.core.retention import Snapshot

# The null reference of XAPI.
NULL = "OpaqueRef:NULL"

# The operations of a VM, and of a snapshot in the making, that make a snapshot.
TAKING = {"snapshot", "checkpoint", "snapshot_with_quiesce"}


class Pool(NamedTuple):
    """The pool's own record, as far as it matters here."""

    ref: str
    uuid: str
    coordinator: str
    other_config: Mapping[str, str]
    licensed: bool
    suspend_sr: str


class Space(NamedTuple):
    """The room on an SR, in bytes. `thick`: each disk takes its whole size, as by default on LVM."""

    size: int
    used: int
    thick: bool


class Disk(NamedTuple):
    """A VDI; `vbds` are references of all its VBDs."""

    ref: str
    uuid: str
    sr: str
    type: str
    is_a_snapshot: bool
    managed: bool
    vbds: Tuple[str, ...]
    virtual_size: int = 0


class Disks(NamedTuple):
    """The disks of each VM or snapshot. `misread`: what is wrong with a record of one of its disks, or VBDs, that
    cannot be understood; of such a VM or snapshot not all disks are known."""

    of: Dict[str, List[Disk]]
    misread: Dict[str, str]


class Vm(NamedTuple):
    """A VM of a policy, with its scheduled snapshots. `snapshot_refs` are all that it has. `suspect` are uuids of
    snapshots whose records contradict each other, or cannot be understood; they are not among `snapshots`. `task`
    is the task, if there is one, that takes a scheduled snapshot of the VM at this moment: of a pass that was killed,
    or gave it up. `memory` is in bytes; `took`, if it is known, how many seconds the last scheduled snapshot took.
    `misread` is what is wrong with a record that cannot be understood; of such a VM nothing is known but its names."""

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
