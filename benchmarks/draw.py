"""Pools drawn at random: the SRs of each VM's disks, and the duration of each operation."""

from random import Random
from typing import Dict, FrozenSet, List, NamedTuple, Sequence, Tuple

from vmss.core.job import TAKE_CHECKPOINT, TAKE_SNAPSHOT, ExpiredDisk, ExpiredSnapshot, Job

SHAPES = ("even", "skewed", "tangled")
KINDS = ("snapshots", "checkpoints", "mixed")
HOSTS = 16

# The duration of each operation, by job and by the reference of its object.
Seconds = Dict[Tuple[int, str], float]


class Case(NamedTuple):
    """A kind of pool. `even`: each VM has two disks on one SR; `skewed`: half of all disks are on the same SR;
    `tangled`: each VM has disks on three SRs. `mixed`: a fifth of the snapshots are checkpoints. `expiry`: each VM
    loses a snapshot too."""

    vms: int
    srs: int
    shape: str
    kind: str
    expiry: bool


class Step(NamedTuple):
    """An operation for the bound and the other orders: the SRs and the host that it keeps busy, and for how long."""

    job: int
    srs: FrozenSet[str]
    host: str
    seconds: float
    snapshot: bool


class Pool(NamedTuple):
    """Jobs for the engine, the durations of their operations, and the same operations as steps, job by job."""

    jobs: List[Job]
    seconds: Seconds
    steps: List[Step]


def draw(case: Case, informed: bool) -> Pool:
    """Draw the pool of a case, always the same. `informed`: the jobs know the last durations of their snapshots, each
    within a fifth of the present one."""
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
        vm = "vm%d" % number
        expired = _expired("old%d" % number, srs) if case.expiry else ()
        seconds[number, vm] = took
        steps.append(Step(number, frozenset(srs), host, took, True))
        for snapshot in expired:
            seconds[number, snapshot.ref] = 0.1
            for disk in snapshot.disks:
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


def _expired(ref: str, srs: Sequence[str]) -> Tuple[ExpiredSnapshot, ...]:
    return (
        ExpiredSnapshot(
            ref, "", False, tuple(ExpiredDisk("%s.%d" % (ref, index), "", sr) for index, sr in enumerate(srs))
        ),
    )
