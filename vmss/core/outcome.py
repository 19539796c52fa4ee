"""How an XAPI operation ended."""

from typing import NamedTuple, Tuple

Error = Tuple[str, ...]

# Error codes of our own, for what no XAPI error describes, and their parameters.
TIMED_OUT = "VMSS_OPERATION_TIMED_OUT"  # [method, seconds]
RUN_OVER = "VMSS_RUN_TIMED_OUT"  # [seconds]
RESULT_LOST = "VMSS_RESULT_LOST"  # [method]
STORAGE_STUCK = "VMSS_STORAGE_STUCK"  # [method, the uuid of the VM whose operation has reached its limit there]
OVERTAKEN = "VMSS_OVERTAKEN_BY_NEXT_SLOT"  # [method]
STOPPED = "VMSS_RUN_STOPPED"  # [method]
OFF_SCHEDULE = "VMSS_LEFT_THE_SCHEDULE"  # no failure: the VM is gone, or off the schedule, since it was planned
LEFT_SUSPENDED = "VMSS_VM_LEFT_SUSPENDED"  # [why it is not resumed, the error array of the checkpoint]
ALL_DISKS_NEEDED = "VMSS_ALL_DISKS_NEEDED"  # [method]: it takes all disks, and some are to be left out
NO_ROOM = "VMSS_NO_ROOM"  # [the uuid of the SR, what is free, what is needed, what is to stay free]
CHAIN_TOO_LONG = "VMSS_CHAIN_TOO_LONG"  # [the uuid of the disk, the number of its images, the limit]
UNREADABLE = "VMSS_UNREADABLE_RECORD"  # [what is wrong with it]
HOOK_FAILED = "VMSS_HOOK_FAILED"  # [the name of the hook, why]
# A snapshot that its task says was taken, and that does not count when it is read back:
SNAPSHOT_MISSING = "VMSS_SNAPSHOT_MISSING"  # [method, what its task tells instead]: there is none
SNAPSHOT_UNFIT = "VMSS_SNAPSHOT_UNFIT"  # [the uuid of the snapshot, what it lacks]
SNAPSHOT_NOT_READ = "VMSS_SNAPSHOT_NOT_READ_BACK"  # [why]: it may be well

# The errors of operations that ran into a limit, and those of snapshots that were read back.
LIMITS = (TIMED_OUT, RUN_OVER, STORAGE_STUCK)
DOES_NOT_COUNT = (SNAPSHOT_MISSING, SNAPSHOT_UNFIT, SNAPSHOT_NOT_READ)

# No error: it was not started, because the snapshot is pinned or somebody reads it.
SPARED = "VMSS_SPARED"


class Outcome(NamedTuple):
    """How an operation ended: `error` is XAPI's error array, empty on success; `value` is the result."""

    value: str = ""
    error: Error = ()
