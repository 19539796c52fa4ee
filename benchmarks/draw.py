"""Pools drawn at random: the SRs of each VM's disks, and the duration of each operation."""

from random import Random
from typing import Dict, List, NamedTuple, Sequence, Tuple

from benchmarks.storage import Phase
from vmss.core.job import TAKE_CHECKPOINT, TAKE_SNAPSHOT, ExpiredDisk, ExpiredSnapshot, Job

SHAPES = ("even", "skewed", "tangled")
KINDS = ("snapshots", "checkpoints", "mixed")
HOSTS = 16

# The phases of each operation, by job and by the reference of its object.
Phases = Dict[Tuple[int, str], Tuple[Phase, ...]]


class Case(NamedTuple):
    """A kind of pool. `even`: each VM has two disks on one SR; `skewed`: half of all disks are on the same SR;
    `tangled`: each VM has disks on three SRs, `paired`: on two. `mixed`: a fifth of the snapshots are checkpoints.
    `expiry`: each VM loses a snapshot too."""

    vms: int
    srs: int
    shape: str
    kind: str
    expiry: bool


class Step(NamedTuple):
    """An operation for the bound and the other orders. The phases of a snapshot are its disks, one after another. A
    checkpoint has one, which needs its host and all its SRs: its guest stands still, and its memory is written."""

    job: int
    phases: Tuple[Phase, ...]
    snapshot: bool

    @property
    def seconds(self) -> float:
        return sum(phase.seconds for phase in self.phases)


class Pool(NamedTuple):
    """Jobs for the engine, the phases of their operations, and the same operations as steps, job by job."""

    jobs: List[Job]
    phases: Phases
    steps: List[Step]


def draw(case: Case, informed: bool) -> Pool:
    """Draw the pool of a case, always the same. `informed`: the jobs know the last durations of their snapshots, each
    within a fifth of the present one."""
    random = Random("%s" % (case,))
    jobs: List[Job] = []
    phases: Phases = {}
    steps: List[Step] = []
    for number in range(case.vms):
        srs = _srs(random, case, number)
        checkpoint = case.kind == "checkpoints" or (case.kind == "mixed" and random.random() < 0.2)
        host = "host%d" % random.randrange(HOSTS) if checkpoint else ""
        disks = 2.0 * len(srs)
        of_disks = [Phase(frozenset([sr]), random.lognormvariate(0.4, 0.4)) for sr in srs]
        took = sum(phase.seconds for phase in of_disks)
        if checkpoint:
            disks += 25.0
            took += random.uniform(10, 40)
            of_disks = [Phase(frozenset([host, *srs]), took)]
        vm = "vm%d" % number
        expired = _expired("old%d" % number, srs) if case.expiry else ()
        phases[number, vm] = tuple(of_disks)
        steps.append(Step(number, phases[number, vm], True))
        for snapshot in expired:
            phases[number, snapshot.ref] = (Phase(frozenset(), 0.1),)
            for disk in snapshot.disks:
                phases[number, disk.ref] = (Phase(frozenset([disk.sr]), random.lognormvariate(0.0, 0.4)),)
                steps.append(Step(number, phases[number, disk.ref], False))
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
    return Pool(jobs, phases, steps)


def _srs(random: Random, case: Case, number: int) -> Sequence[str]:
    names = ["SR%d" % index for index in range(case.srs)]
    if case.shape in ("tangled", "paired"):
        return random.sample(names, min(3 if case.shape == "tangled" else 2, case.srs))
    if case.shape == "even":
        return [names[number % case.srs]] * 2
    return [names[0] if case.srs == 1 or random.random() < 0.5 else random.choice(names[1:])] * 2


def _expired(ref: str, srs: Sequence[str]) -> Tuple[ExpiredSnapshot, ...]:
    return (
        ExpiredSnapshot(
            ref, "", False, tuple(ExpiredDisk("%s.%d" % (ref, index), "", sr) for index, sr in enumerate(srs))
        ),
    )
