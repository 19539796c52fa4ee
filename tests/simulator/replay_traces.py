"""What happened beside the calls of traces.jsonl: the plugins on the host, the restart, what was typed meanwhile."""

from datetime import datetime, timezone
from typing import Dict, Set

from vmss.simulator import Simulator

from .replay import Replay, Trace


class Traces(Replay):
    """476 calls to a xapi without storage."""

    name = "traces"
    paths = {6: "/RPC2"}

    def simulator(self) -> Simulator:
        return Simulator(seed=1, now=datetime(2026, 11, 23, 22, 38, 20, tzinfo=timezone.utc))
