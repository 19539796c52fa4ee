"""The plan of `vmss plan`: what the next run takes of each VM, and what becomes of its scheduled snapshots, and why."""

from datetime import datetime
from typing import Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core import fate, thinning, ways
from vmss.core.fate import RUNS_MAX, SKIPPED, TAKEN, Fate
from vmss.core.policy import Policy
from vmss.core.schedule import next_slot
from vmss.core.text import one_line
from vmss.core.vms import Vm
from vmss.edges import scheduled
from vmss.edges.excused import excused
from vmss.edges.vms import with_snapshots
from vmss.insight import policies
from vmss.insight.policies import Entry
from vmss.insight.reading import Reading


class Planned(NamedTuple):
    """A snapshot of a VM, taken already or to be taken. `schedule` and `schedule_uuid` are empty for a VM that is on
    none; a VM that is gone has no `vm`."""

    schedule: str
    schedule_uuid: str
    vm: str
    vm_uuid: str
    fate: Fate


def read_plan(session: Reading, entries: Sequence[Entry], whole: bool) -> Iterator[Planned]:
    """The plan for these schedules; `whole`: they are all of the pool, and what belongs to none of them follows."""
    now = session.now()
    seen: Set[str] = set()  # VMs, and their snapshots
    for entry in entries:
        if entry.policy is None:
            continue
        vms = policies.vms(session, entry.policy)
        seen.update(ref for vm in vms if not vm.misread for ref in (vm.ref, *vm.snapshot_refs))
        for vm, found in of_vms(session, entry.policy, vms, now):
            for one in found:
                yield Planned(entry.name, entry.uuid, vm.name, vm.uuid, one)
    if whole:
        others = [ref for ref in scheduled.scheduled_snapshots(session.xapi) if ref not in seen]
        for vm in with_snapshots(session.xapi, scheduled.without_schedule(session.xapi, others, seen)):
            for one in fate.of_no_run(vm, now, "its VM is on no schedule: no run deletes it"):
                yield Planned("", "", vm.name, vm.uuid, one)


def of_vms(session: Reading, policy: Policy, vms: Sequence[Vm], now: datetime) -> Iterator[Tuple[Vm, Iterator[Fate]]]:
    """What becomes of the scheduled snapshots of VMs of one policy, whose snapshots were read."""
    runs = _Runs(session, policy, now)
    reasons = excused(session.xapi, session.settings, policy, vms, now)
    for vm in vms:
        yield vm, _of_vm(session, policy, vm, now, runs, reasons.get(vm.ref, ""))


class _Runs:
    """The coming runs of a policy, computed as far as somebody asks: the same for all of its VMs."""

    def __init__(self, session: Reading, policy: Policy, now: datetime) -> None:
        self._zone, self._policy = session.zone, policy
        first = policies.next_run(session, policy, now)
        self._known: List[datetime] = [] if first is None else [first]

    def __iter__(self) -> Iterator[datetime]:
        for index in range(RUNS_MAX if self._known else 0):
            if index == len(self._known):
                self._known.append(next_slot(self._policy.schedule, self._zone, self._known[-1]))
            yield self._known[index]

    @property
    def first(self) -> Optional[datetime]:
        return next(iter(self), None)


def _of_vm(session: Reading, policy: Policy, vm: Vm, now: datetime, runs: _Runs, why_not: str) -> Iterator[Fate]:
    run = runs.first
    if run is None:
        yield from fate.of_no_run(vm, now, "its schedule is disabled: no run deletes it")
        return
    yield Fate("", run, SKIPPED, why_not) if why_not else _next(session, policy, vm, run)
    keep = session.settings.keep_of(policy, session.zone, vm.tags)
    yield from fate.fates(vm, keep, now, runs if session.pool.licensed and not why_not else ())


def _next(session: Reading, policy: Policy, vm: Vm, run: datetime) -> Fate:
    """What the next run takes of a VM."""
    if not session.pool.licensed:
        return Fate("", run, SKIPPED, "the pool's licence does not include scheduled snapshots")
    if vm.misread:
        return Fate("", run, SKIPPED, "its record cannot be understood: %s" % one_line(vm.misread, 100))
    _, mistake = thinning.of_tags(vm.tags, ())
    what = ways.WORDS[ways.take(policy, vm)]
    return Fate("", run, TAKEN, "%s%s" % (what, "; %s" % mistake if mistake else ""))
