"""What happened beside the calls of storage.jsonl."""

from datetime import datetime, timezone

from vmss.simulator import Simulator

from .replay import Replay


class Storage(Replay):
    """673 calls and looks at a xapi with the real storage manager below it."""

    name = "storage"

    def simulator(self) -> Simulator:
        return Simulator(seed=1, now=datetime(2026, 11, 23, 23, 21, 0, tzinfo=timezone.utc))
