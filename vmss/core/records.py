"""The pool as a value, and what all of XAPI's records share."""

from typing import Mapping, NamedTuple

# The null reference of XAPI.
NULL = "OpaqueRef:NULL"

# The notes of VMs that ran when a checkpoint of ours began: a key of pool.other_config is the prefix and the uuid of
# the VM, the name of the file beside the lock the uuid of the pool and the suffix.
FROZEN_PREFIX = "vmss-frozen:"
FROZEN_SUFFIX = ".frozen"

# The note of the hooks that are still to be ended: the name of the file beside the lock is the pool's uuid and this.
HOOKS_SUFFIX = ".hooks"

# The key of pool.other_config by which a pass shows that it is at work (vmss/passes/at_work.py).
AT_WORK = "vmss-at-work"

# The key of pool.other_config with the snapshots that were started and did not end as they should (passes/notes.py).
BEGUN = "vmss-begun"

# The operations by which a snapshot is made, in `current_operations` of the VM and of a checkpoint in the making.
TAKING = {"snapshot", "checkpoint", "snapshot_with_quiesce"}


# The prefix of the keys of pool.other_config that note what policies still owe (vmss/passes/owed.py).
OWED_PREFIX = "vmss-owed:"


# The prefix of the keys of pool.other_config that note which slot of a policy, too late to be served, was told.
LAPSED_PREFIX = "vmss-lapsed:"

# The key of pool.other_config with what the schedules were, and since when (vmss.core.changes).
SCHEDULES = "vmss-schedules"


class Pool(NamedTuple):
    """The pool. `coordinator` and `suspend_sr` are references; `licensed`: its licence includes scheduled snapshots."""

    ref: str
    uuid: str
    coordinator: str
    other_config: Mapping[str, str]
    licensed: bool
    suspend_sr: str
    name: str = ""
