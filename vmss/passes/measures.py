"""What a pass has measured, noted for later: how long snapshots took, what is in use on each SR, and what waits."""

from typing import Dict, List, Mapping

from vmss.core import plan
from vmss.core.engine import Engine
from vmss.core.job import Job
from vmss.edges.chain_notes import note_waiting
from vmss.edges.room_notes import note_use
from vmss.edges.vms import note_took
from vmss.passes.context import Context


def note_measures(context: Context, engine: Engine, took: Mapping[int, float]) -> None:
    """Note at the VMs how long their snapshots `took`, in seconds by the numbers of their jobs, so that the next pass
    knows which SR has most work; and at the SRs how much is in use, and what waits to be coalesced. Last, when no SR
    waits for us."""
    for number, seconds in took.items():
        job = engine.jobs[number]
        if engine.states[number].snapshot and plan.worth_noting(job, seconds):
            note_took(context.xapi, job.vm, seconds)
    jobs: Dict[str, List[Job]] = {}
    for number in took:
        # The tokens of checkpoints are hosts, too, of which nothing is noted.
        for token in engine.jobs[number].tokens:
            jobs.setdefault(token, []).append(engine.jobs[number])
    now = context.clock.now()
    filling = {sr: 2 * sum(bool(job.expired) for job in jobs[sr]) < len(jobs[sr]) for sr in sorted(jobs)}
    for sr in note_use(context.xapi, filling, now):
        # What was deleted just now waits to be coalesced.
        deleting_first = sorted(jobs[sr], key=lambda job: (not job.expired, job.uuid))
        note_waiting(context.xapi, sr, [job.vm for job in deleting_first], now)
