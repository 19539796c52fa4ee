"""Whether anything is left of what a run failed in, by the VMs, snapshots and records of the pool as they are now.

An alert alone tells what was the case when it was raised. So each VM that it names is looked at, what the journal and
the list of leftovers have, and, of a new snapshot that lacked something, whether it is still there.
"""

from datetime import datetime
from typing import FrozenSet, Iterator, List, Sequence, Tuple

from vmss.core.left_over import DISK, SNAPSHOT, Item, stuck
from vmss.core.messages import Victim
from vmss.core.outcome import SNAPSHOT_NOT_READ, SNAPSHOT_UNFIT
from vmss.core.policy import Policy
from vmss.core.retention import surplus
from vmss.core.text import is_uuid
from vmss.edges.query import CHUNK, by_uuid, list_of, text_of, where
from vmss.edges.vms import read_snapshots
from vmss.edges.xapi import Xapi, understood
from vmss.insight.history import Run
from vmss.insight.reading import Reading
from vmss.passes import journal, left_over


def anything(session: Reading, policy: Policy, left: Sequence[Item], now: datetime, run: Run) -> bool:
    """Whether anything is left of what a run of a policy failed in, all of whose VMs have their snapshot. `left` is
    what is left over and still there.

    Of a run of which it is not known in how many VMs it failed, the answer is yes.
    """
    if run.numbers is None or not run.victims:
        return True
    if any(_does_not_count(session.xapi, victim) for victim in run.victims):
        return True
    if any(item.kind in (DISK, SNAPSHOT) for item in left):
        return True
    if left_over.still_there(session.xapi, _unfinished(session, now)):
        return True
    return _too_many(session, policy, [victim.uuid for victim in run.victims], now)


def _does_not_count(xapi: Xapi, victim: Victim) -> bool:
    """Whether a VM's new snapshot is one that does not count, or of which it is not known: then that the VM has one
    proves nothing."""
    code = victim.error[0] if victim.error else ""
    if code == SNAPSHOT_UNFIT and len(victim.error) > 1 and is_uuid(victim.error[1]):
        return bool(by_uuid(xapi, "VM", victim.error[1]))
    return code in (SNAPSHOT_UNFIT, SNAPSHOT_NOT_READ)


def _unfinished(session: Reading, now: datetime) -> List[Item]:
    """The disks that a pass has recorded to destroy, and has not yet."""
    return [
        Item(DISK, disk, snapshot, stuck((), now))
        for _, entry in journal.read(session.pool.other_config)
        if entry is not None and entry.stuck is None
        for snapshot, disks in entry.disks.items()
        for disk in disks
    ]


def _too_many(session: Reading, policy: Policy, vms: Sequence[str], now: datetime) -> bool:
    """Whether any of these VMs, given by their uuids, is on the policy and has more scheduled snapshots than are to be
    kept, and could lose one: nobody reads it."""
    for start in range(0, len(vms), CHUNK):
        tags = dict(_on_policy(session.xapi, policy, vms[start : start + CHUNK]))
        for vm, snapshots in read_snapshots(session.xapi, list(tags)).items():
            keep = session.settings.keep_of(policy, session.zone, tags[vm])
            if surplus(list(snapshots.values()), keep, now)[0]:
                return True
    return False


def _on_policy(xapi: Xapi, policy: Policy, vms: Sequence[str]) -> Iterator[Tuple[str, FrozenSet[str]]]:
    """Of these VMs those that are on the policy, with their tags."""
    with understood("VM"):
        for ref, record in where(xapi, "VM", "uuid", [vm for vm in vms if is_uuid(vm)]):
            if text_of(record, "snapshot_schedule") == policy.ref:
                yield ref, frozenset(map(str, list_of(record, "tags")))
