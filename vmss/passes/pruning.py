"""Plans what a pass deletes on request: reads the VMs and their snapshots, and lets the core decide what goes."""

from datetime import datetime
from typing import Dict, Iterator, List, Sequence, Set, Tuple

from vmss.core import plan, pruning
from vmss.core.datetimes import CLOCK_TOLERANCE
from vmss.core.job import Kept
from vmss.core.messages import Victim
from vmss.core.outcome import UNREADABLE
from vmss.core.policy import Policy, index_of
from vmss.core.problem import BadInput
from vmss.core.pruning import DELETED, FUTURE, SURPLUS, Going, Prune
from vmss.core.rehearsed import Doomed
from vmss.core.retention import Keep
from vmss.core.served import Served
from vmss.core.vms import Vm
from vmss.edges import scheduled, world
from vmss.edges.sizes import read_sizes
from vmss.edges.vms import read_vms, with_snapshots
from vmss.passes.context import Context
from vmss.passes.planning import Planned, read_disks, spare

# VMs that are planned together, as their snapshots are read.
_GROUP = 200


class Pruner:
    """Plans one request. `misread` are the VMs that could not be looked at, because their records cannot be understood;
    `stay` says which snapshots stay though they were asked for."""

    def __init__(self, context: Context, prune: Prune) -> None:
        """Raise BadInput if the schedule that is asked for does not exist or cannot be understood."""
        self._context = context
        self._xapi = context.xapi
        self._log = context.log
        self._prune = prune
        self._now: datetime = context.now()
        self.misread: List[Victim] = []
        self.stay: List[str] = []
        self._policies = self._read_policies()
        self._by_ref: Dict[str, Policy] = {policy.ref: policy for policy in self._policies}

    def plans(self) -> Iterator[Planned]:
        """The plans, group by group."""
        for group in self._groups():
            yield self._plan(group)

    def listed(self) -> Iterator[Doomed]:
        """What would be deleted."""
        counted_already: Set[str] = set()
        for group in self._groups():
            sizes = read_sizes(self._xapi, [one for going in group for one in going.expired], counted_already)
            for going in group:
                for one in going.expired:
                    yield Doomed(going.vm.name, going.vm.uuid, one.uuid, one.name, one.time, sizes.get(one.ref))

    # What goes

    def _read_policies(self) -> List[Policy]:
        """The schedules whose VMs are asked about; disabled ones only by their names, for they delete nothing."""
        policies, errors = world.read_policies(self._xapi)
        if self._prune.policy is None:
            for uuid, error in errors:
                self._log("Not processing policy: %s (%s)" % (uuid, error))
            return [policy for policy in policies if policy.enabled]
        known = [(policy.uuid, policy.name) for policy in policies] + [(uuid, "") for uuid, _ in errors]
        index = index_of(known, self._prune.policy)
        if index >= len(policies):
            raise BadInput("snapshot schedule %s cannot be understood: %s" % errors[index - len(policies)])
        return [policies[index]]

    def _vms(self) -> List[Vm]:
        """The VMs of which snapshots may go, without their snapshots."""
        if self._prune.what == DELETED:
            return scheduled.without_schedule(self._xapi, scheduled.scheduled_snapshots(self._xapi))
        if self._prune.what == FUTURE and self._prune.policy is None:
            snapshots = scheduled.scheduled_snapshots(self._xapi)
            future = scheduled.later_than(self._xapi, snapshots, self._now + CLOCK_TOLERANCE)
            return scheduled.owners(self._xapi, future, len(snapshots))
        return read_vms(self._xapi, self._policies)

    def _groups(self) -> Iterator[List[Going]]:
        vms = self._vms()
        for vm in vms:
            if vm.misread:
                self._log("VM %s is not served, its record cannot be understood: %s" % (vm.uuid, vm.misread))
                self.misread.append(Victim(vm.name, vm.uuid, (UNREADABLE, vm.misread)))
        vms = [vm for vm in vms if not vm.misread]
        for start in range(0, len(vms), _GROUP):
            yield [self._going(vm) for vm in with_snapshots(self._xapi, vms[start : start + _GROUP])]

    def _going(self, vm: Vm) -> Going:
        # Only what exceeds retention is asked of a rule, and only VMs of these schedules are asked for that.
        keep = Keep(0)
        if self._prune.what == SURPLUS:
            keep = self._context.settings.keep_of(self._by_ref[vm.policy], self._log.zone, vm.tags)
        going = pruning.going(vm, self._prune, keep, self._now)
        self.stay += _last(going)
        self.stay += plan.left_alone(vm, (), going.busy, {})
        return going

    # The plan

    def _plan(self, group: Sequence[Going]) -> Planned:
        disks, misread = read_disks(self._xapi, [], [snapshot for going in group for snapshot in going.expired])
        spared: Dict[str, str] = {}
        jobs = []
        for going in group:
            expired = spare(going.vm, going.expired, misread, spared, self._log)
            for line in plan.left_alone(going.vm, expired, going.busy, disks):
                self._log(line)
            for line in _last(going):
                self._log(line)
            if going.expired:
                jobs.append(plan.deletion(going.vm, expired, disks, self._kept(going)))
        return Planned(jobs, [], [], spared)

    def _kept(self, going: Going) -> Kept:
        if self._prune.what != SURPLUS:
            return Kept()  # what else is asked for goes whatever is kept
        return plan.what_stays(going.vm, going.expired + going.busy, self._now)


def _last(going: Going) -> Iterator[str]:
    if going.last is not None:
        yield "Snapshot %s of VM %s stays: it is dated in the future, but the VM has no other scheduled one" % (
            going.last.uuid,
            going.vm.uuid,
        )


def outcome(pruned: pruning.Pruned, runs: Sequence[Served], complete: bool, progress: str) -> Tuple[bool, str]:
    """Given what came of a request, and the runs of policies that became due meanwhile, return whether anything failed,
    and the line for people. `progress` is how far a pass came that is not complete."""
    failed = not complete or bool(pruned.victims) or any(served.victims for served in runs)
    line = pruning.summary(pruned)
    if runs:
        line += "; schedules that became due meanwhile and were served: %d" % len(runs)
    if not complete:
        line = "stopped before the end: %s, call it again for the rest; %s" % (progress, line)
    return failed, line
