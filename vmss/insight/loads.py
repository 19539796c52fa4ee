"""How long the run of each policy usually lasts, and on which storage repositories and hosts: what a forecast needs."""

from datetime import datetime
from itertools import chain, repeat
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from vmss.core import plan
from vmss.core.job import Job
from vmss.core.plan import Expiry
from vmss.core.policy import Policy
from vmss.core.turn import Turn
from vmss.core.vms import Disk, Vm
from vmss.core.ways import ONLY_RUNNING
from vmss.edges import storage
from vmss.edges.hooks_dir import freeze_guests
from vmss.edges.pool_vms import PoolVms
from vmss.edges.vms import read_vms, with_snapshots
from vmss.insight import history, policies
from vmss.insight.forecast import Load, Piece
from vmss.insight.policies import Entry
from vmss.insight.reading import Reading

# So many slots back past runs are looked for: if none of them had one, so many.
_SLOTS_ASKED = (2 * history.RUNS_ASKED, 24 * history.RUNS_ASKED)


class Work(NamedTuple):
    """The load of a policy, and each of its VMs with the job of its run; without those that cannot be understood.
    `alone`: snapshots share no storage repository, because guests may stand still until they are taken."""

    load: Load
    jobs: Tuple[Tuple[Vm, Job], ...]
    alone: bool


def read_loads(
    session: Reading, entries: Sequence[Entry], now: datetime, until: datetime, pool_vms: Optional[PoolVms] = None
) -> List[Load]:
    """The load of each policy that runs until then: its duration by past runs, or else estimated from its VMs, which
    need not be read if all VMs of the pool were."""
    known = [entry.policy for entry in entries if entry.policy is not None]
    active = [one for one in known if _runs_until(session, one, until)]
    return [work.load for work in read_work(session, active, now, pool_vms)]


def read_work(
    session: Reading, active: Sequence[Policy], now: datetime, pool_vms: Optional[PoolVms] = None
) -> List[Work]:
    """The load of each of these policies, with the jobs of a run of it that would begin now."""
    vms: Dict[str, List[Vm]] = {}
    for vm in read_vms(session.xapi, active) if pool_vms is None else pool_vms.of(active):
        if not vm.misread:
            vms.setdefault(vm.policy, []).append(vm)
    disks = storage.read_disks_of(session.xapi, [vm for of_policy in vms.values() for vm in of_policy])
    alone = session.settings.sync_hook or freeze_guests(session.settings.hooks_dir)
    found = []
    for policy in active:
        expiries = [Expiry(vm, Turn(policy, now), False, ()) for vm in vms.get(policy.ref, ())]
        ways, suspend_sr = session.settings.ways(policy), session.pool.suspend_sr
        jobs = [plan.job(expiry, disks.of, suspend_sr, ways) for expiry in expiries]
        excused = _excused(session, policy, vms.get(policy.ref, ()), now)
        served = [(expiry, job) for expiry, job in zip(expiries, jobs) if job.vm not in excused]
        work: Dict[str, float] = {}  # seconds, by resource, each of which does one thing at a time
        for _, job in served:
            for resource in job.tokens:
                work[resource] = work.get(resource, 0.0) + job.seconds * job.share(alone)
        past = _durations(session, policy, now)
        longest = max([*work.values(), *(job.seconds for _, job in served)], default=0.0)
        seconds = history.median_duration(past) if past else longest
        pieces = [piece for expiry, job in served for piece in _pieces(expiry, job, disks.of, suspend_sr)]
        load = Load(policy, max(1.0, seconds), len(past), frozenset(work), tuple(pieces), len(excused))
        found.append(Work(load, tuple((expiry.vm, job) for expiry, job in zip(expiries, jobs)), alone))
    return found


def _excused(session: Reading, policy: Policy, vms: Sequence[Vm], now: datetime) -> Set[str]:
    """The VMs, by reference, of which a run takes no snapshot if they stay as they are."""
    keeps = session.settings.of(policy).keep_halted
    asked = [vm for vm in vms if ONLY_RUNNING in vm.tags or (keeps and vm.power_state == "Halted")]
    if not asked:
        return set()
    from vmss.edges.excused import excused  # few pools have any

    return set(excused(session.xapi, session.settings, policy, with_snapshots(session.xapi, asked), now))


def _pieces(expiry: Expiry, job: Job, disks: Mapping[str, Sequence[Disk]], suspend_sr: str) -> Iterator[Piece]:
    """What the snapshot of a VM makes: of each of its disks that is not left out, and of its memory."""
    taken = [disk for disk in disks.get(job.vm, ()) if disk.ref not in job.left_out]
    needs = plan.needs(expiry, job, taken, suspend_sr)
    for (sr, need), disk in zip(needs, chain(taken, repeat(None))):
        yield Piece(sr, need, disk, len(expiry.vm.snapshot_refs))


def _runs_until(session: Reading, policy: Policy, until: datetime) -> bool:
    following = policies.next_run(session, policy, session.now())
    return following is not None and following <= until


def _durations(session: Reading, policy: Policy, now: datetime) -> List[int]:
    """How long the policy's last runs took. Each message is a file that xapi reads: so only those of the last slots are
    asked for, and more if a pause lies between."""
    for slots in _SLOTS_ASKED if policy.last_run is not None else ():
        past = history.durations(
            policies.runs(session, policy.uuid, now - slots * policy.schedule.distance), late=False
        )
        if past:
            return past
    return []
