"""How the snapshot of a VM is taken: by which method, without which disks, and what if it cannot be taken so."""

from typing import FrozenSet, Iterable, List, NamedTuple, Sequence, Tuple

from vmss.core import policy
from vmss.core.job import TAKE_CHECKPOINT, TAKE_QUIESCED, TAKE_SNAPSHOT, Job, Operation
from vmss.core.outcome import ALL_DISKS_NEEDED, Error
from vmss.core.policy import Policy
from vmss.core.vms import Disk, Vm

# The tag of a VM that is snapshotted without its memory, whatever its schedule asks for.
NO_MEMORY = "vmss:no-memory"

# The tag of a VM that is snapshotted only while it runs.
ONLY_RUNNING = "vmss:only-running"

# The method that each type of policy asks for.
_METHODS = {policy.SNAPSHOT: TAKE_SNAPSHOT, policy.CHECKPOINT: TAKE_CHECKPOINT, policy.QUIESCED: TAKE_QUIESCED}

# What each method takes, in words.
WORDS = {TAKE_SNAPSHOT: "snapshot", TAKE_CHECKPOINT: "checkpoint", TAKE_QUIESCED: "quiesced snapshot"}

# Errors that say that this VM cannot be checkpointed as it is, now or later (docs/xapi-facts.md, When xapi refuses a
# snapshot). What may pass, such as an SR without room for the memory, is not among them.
NO_CHECKPOINT: FrozenSet[str] = frozenset(
    ("VM_IS_IMMOBILE", "VM_LACKS_FEATURE", "VM_NON_SUSPENDABLE", "VM_HAS_PCI_ATTACHED", "VM_HAS_VGPU", ALL_DISKS_NEEDED)
)


class Ways(NamedTuple):
    """What the settings say of it. `skip_disks`: the beginnings of the names of disks that are left out. `fallback`: of
    a VM that cannot be checkpointed, a plain snapshot is taken; `plain_instead`: of a quiesced schedule's VM where the
    server has no quiescing."""

    skip_disks: Tuple[str, ...] = ()
    fallback: bool = False
    plain_instead: bool = True


AS_EVER = Ways()


def method(chosen: Policy, vm: Vm) -> str:
    """The method that takes the snapshot of a VM of a policy, unless the VM is halted."""
    asked = _METHODS[chosen.type]
    return TAKE_SNAPSHOT if asked == TAKE_CHECKPOINT and NO_MEMORY in vm.tags else asked


def take(chosen: Policy, vm: Vm) -> str:
    """The method that takes the snapshot of a VM of a policy, as the VM is."""
    # Of a halted VM there is no memory to save, and nothing to quiesce.
    return TAKE_SNAPSHOT if vm.power_state == "Halted" else method(chosen, vm)


def left_out(disks: Sequence[Disk], ways: Ways) -> List[Disk]:
    """Those of a VM's disks that its snapshots leave out."""
    return [disk for disk in disks if disk.skip or disk.name.startswith(ways.skip_disks)]


def refusal(job: Job, action: str) -> Error:
    """The error of ours for which a job's snapshot is not started; empty if there is none."""
    if job.refused:
        return job.refused
    return (ALL_DISKS_NEEDED, action) if job.left_out and not job.task and action != TAKE_SNAPSHOT else ()


def become_plain(ended: Operation, error: Error, waiting: Iterable[Operation], jobs: Sequence[Job]) -> List[Operation]:
    """Given the operation that takes a snapshot and has ended with this error, those that wait, and the jobs, return
    the ones in whose place plain snapshots are taken."""
    job = jobs[ended.job]
    if ended.action == TAKE_CHECKPOINT:
        return [ended] if job.fallback and NO_CHECKPOINT.intersection(error[:1]) else []
    if ended.action != TAKE_QUIESCED or not job.plain_instead:
        return []
    if error[:1] == ("MESSAGE_REMOVED",):  # the server has no quiescing: nor has it for those that wait
        return [ended] + [it for it in waiting if it.action == TAKE_QUIESCED and jobs[it.job].plain_instead]
    return [ended] if error[:1] == (ALL_DISKS_NEEDED,) else []
