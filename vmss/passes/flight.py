"""An operation in flight."""

from vmss.core.job import TAKES, Operation
from vmss.core.outcome import Outcome


class Flight:
    """An operation in flight: since when it is waited for, and its deadline, both on the monotonic clock; whether its
    task was `adopted` from an earlier pass, and whether it was cancelled."""

    def __init__(self, operation: Operation, since: float, adopted: bool, deadline: float) -> None:
        self.operation = operation
        self.since = since
        self.adopted = adopted
        self.deadline = deadline
        self.cancelled = False

    def has_taken(self, outcome: Outcome) -> bool:
        """Whether it ends with a snapshot that was started in this pass."""
        return self.operation.action in TAKES and not outcome.error and not self.adopted
