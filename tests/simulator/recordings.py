"""The recordings, and what happened beside their calls."""

import tempfile
from typing import Dict, List, Type

from .replay import Outcome, Replay
from .replay_storage import Storage
from .replay_traces import Traces

RECORDINGS: Dict[str, Type[Replay]] = {"traces": Traces, "storage": Storage}


def play(name: str) -> List[Outcome]:
    """Play one recording against a fresh simulator."""
    with tempfile.TemporaryDirectory() as folder:
        return RECORDINGS[name](folder).run()
