"""Pools drawn at random: which VM has its disks where, and how long each operation on it takes."""

from random import Random
from typing import Dict, FrozenSet, List, NamedTuple, Sequence, Tuple

from vmss.core.job import TAKE_CHECKPOINT, TAKE_SNAPSHOT, ExpiredDisk, ExpiredSnapshot, Job

SHAPES = ("even", "skewed", "tangled")
KINDS = ("snapshots", "checkpoints", "mixed")
HOSTS = 16

# By job and object: seconds.
Seconds = Dict[Tuple[int, str], float]


class Case(NamedTuple):
    """A pool: `even` has two disks a VM on one SR, `skewed` half of all disks on one SR, `tangled` a disk of each VM on
    three SRs. `mixed` is one checkpoint in five."""

    vms: int
    srs: int
    shape: str
    kind: str
    expiry: bool


class Step(NamedTuple):
    """An operation as the bound and the other orders see it: what it keeps busy, and for how long."""

    job: int
    srs: FrozenSet[str]
    host: str
    seconds: float
    snapshot: bool


class Pool(NamedTuple):
    """Jobs, how long each of their operations takes, and the same as plain steps, job by job."""

    jobs: List[Job]
    seconds: Seconds
    steps: List[Step]


def draw(case: Case, informed: bool) -> Pool:
    """A pool that is always the same; `informed`: the jobs know how long their snapshots took the last time, which
    was within a fifth of what they take now."""
    random = Random("%s" % (case,))
    jobs: List[Job] = []
    seconds: Seconds = {}
    steps: List[Step] = []
    for number in range(case.vms):
        srs = _srs(random, case, number)
        checkpoint = case.kind == "checkpoints" or (case.kind == "mixed" and random.random() < 0.2)
        host = "host%d" % random.randrange(HOSTS) if checkpoint else ""
        disks = 2.0 * len(srs)
        took = sum(random.lognormvariate(0.4, 0.4) for _ in srs)
        if checkpoint:
            disks += 25.0
            took += random.uniform(10, 40)
        vm, old = "vm%d" % number, "old%d" % number
        expired = _expired(old, srs) if case.expiry else ()
        seconds[number, vm] = took
        steps.append(Step(number, frozenset(srs), host, took, True))
        for doomed in expired:
            seconds[number, doomed.ref] = 0.1
            for disk in doomed.disks:
                seconds[number, disk.ref] = random.lognormvariate(0.0, 0.4)
                steps.append(Step(number, frozenset([disk.sr]), "", seconds[number, disk.ref], False))
        jobs.append(
            Job(
                "policy",
                vm,
                "",
                "",
                TAKE_CHECKPOINT if checkpoint else TAKE_SNAPSHOT,
                frozenset(srs) | frozenset([host] if host else []),
                took * random.uniform(0.8, 1.2) if informed else disks,
                expired,
            )
        )
    return Pool(jobs, seconds, steps)


def _srs(random: Random, case: Case, number: int) -> Sequence[str]:
    names = ["SR%d" % index for index in range(case.srs)]
    if case.shape == "tangled":
        return random.sample(names, min(3, case.srs))
    if case.shape == "even":
        return [names[number % case.srs]] * 2
    return [names[0] if case.srs == 1 or random.random() < 0.5 else random.choice(names[1:])] * 2


def _expired(old: str, srs: Sequence[str]) -> Tuple[ExpiredSnapshot, ...]:
    return (
        ExpiredSnapshot(
            old, "", False, tuple(ExpiredDisk("%s.%d" % (old, index), "", sr) for index, sr in enumerate(srs))
        ),
    )
