"""Snapshots of earlier passes that are under way in xapi, and did not say of which VM they are as this pass began."""

from typing import Iterable, List

from vmss.core.job import Job
from vmss.core.outcome import Error
from vmss.edges.sessions import vm_of
from vmss.edges.xapi import Xapi
from vmss.passes.notes import Attempt


class Unplaced:
    """Tells for which VMs no second snapshot may be started yet.

    A task that is still to begin has no mark of its VM, and the VM does not show it as an operation. It was cancelled,
    but may take its snapshot all the same (docs/xapi-facts.md, Cancelling). It is of one of the VMs for which an
    earlier pass has noted a snapshot whose end it did not see.
    """

    def __init__(self, xapi: Xapi, tasks: Iterable[str], earlier: Iterable[Attempt]) -> None:
        """`tasks` are theirs, `earlier` the attempts of earlier passes."""
        self._xapi = xapi
        self._vm_of = dict.fromkeys(tasks, "")  # by task: the reference of its VM, once the task says it
        self._vms = {it.vm for it in earlier if it.ended is None and it.until is None} if self._vm_of else set()

    def concerns(self, job: Job) -> bool:
        """Whether one of them may be, or may have been, of a job's VM."""
        return job.uuid in self._vms

    def error_for(self, job: Job) -> Error:
        """The error with which xapi would refuse a second snapshot of a job's VM; empty if it may be started."""
        for task in self._maybe_of(job):
            vm = vm_of(self._xapi, task)
            if vm is None:
                del self._vm_of[task]
            else:
                self._vm_of[task] = vm
        return next(
            (("OTHER_OPERATION_IN_PROGRESS", "VM", job.vm, "snapshot", task) for task in self._maybe_of(job)), ()
        )

    def _maybe_of(self, job: Job) -> List[str]:
        return [task for task, vm in self._vm_of.items() if vm in ("", job.vm)] if self.concerns(job) else []
