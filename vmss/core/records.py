"""The pool as a value, and what all of XAPI's records share."""

from typing import Mapping, NamedTuple

# The null reference of XAPI.
NULL = "OpaqueRef:NULL"

# The operations by which a snapshot is made, in `current_operations` of the VM and of a checkpoint in the making.
TAKING = {"snapshot", "checkpoint", "snapshot_with_quiesce"}


class Pool(NamedTuple):
    """The pool. `coordinator` and `suspend_sr` are references; `licensed`: its licence includes scheduled snapshots."""

    ref: str
    uuid: str
    coordinator: str
    other_config: Mapping[str, str]
    licensed: bool
    suspend_sr: str
