"""Which VMs of one schedule lack the snapshot that it has promised by now, of those that were read with theirs."""

from datetime import datetime
from typing import List, NamedTuple, Optional, Sequence, Set

from vmss.core.datetimes import EPOCH, in_future
from vmss.core.plan import snapshot_name
from vmss.core.policy import Policy
from vmss.core.vms import Vm
from vmss.insight import excuses, policies, promises
from vmss.insight.promises import Late
from vmss.insight.reading import Reading


class Lacking(NamedTuple):
    """The slot whose snapshot each VM should have, if there is one; and the uuids of those that lack it."""

    slot: Optional[datetime] = None
    vms: Set[str] = set()


def of_policy(session: Reading, policy: Policy, vms: Sequence[Vm], now: datetime) -> Lacking:
    """The VMs of a policy that lack their snapshot, as `vmss status` counts them where no pass has the policy in
    hand."""
    runs = policies.last_messages(session, policy, now)
    length = promises.length(policy, runs, False)
    known = promises.known(policy, session.zone, now, runs, None)
    slot = promises.promise(policy, session.zone, now, length, known).slot
    if slot is None:
        return Lacking()
    late = promises.without_newcomers(policy, _late(policy, vms, slot, now), runs, slot, False)
    return Lacking(slot, {vm.uuid for vm in excuses.without_excused(session, policy, late, slot)})


def _late(policy: Policy, vms: Sequence[Vm], slot: datetime, now: datetime) -> List[Late]:
    own = snapshot_name(policy, EPOCH).rpartition(" ")[0]  # all names of one policy differ in the time at the end only
    found = []
    for vm in vms:
        mine = [snapshot for snapshot in vm.snapshots if not in_future(snapshot.time, now)]
        newest = max(mine, key=lambda snapshot: snapshot.time, default=None)
        if newest is None:
            found.append(Late(vm.name, vm.uuid))
        elif newest.time < slot:
            found.append(Late(vm.name, vm.uuid, newest.time, newest.name.rpartition(" ")[0] == own))
    return found
