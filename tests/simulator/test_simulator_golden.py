"""The embedded xapi answers what a real one answered, call by call and value by value.

See docs/xapi-facts.md, Recordings of a real xapi.
"""

import pytest

from .recordings import RECORDINGS, play
from .replay import APART, DIFFERENT, MISSING, SAME, UNEXPLAINED, described

# The calls and observations that agree. `python -m tests.simulator.replay --all` gives the reason for each of the rest.
AGREE = {"traces": 476, "storage": 599}


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_every_recorded_call_is_answered_as_it_was(name: str) -> None:
    outcomes = play(name)
    wrong = [outcome for outcome in outcomes if outcome.verdict in (DIFFERENT, MISSING)]
    assert not wrong, "\n".join(line for outcome in wrong for line in described(name, outcome))
    assert sum(1 for outcome in outcomes if outcome.verdict == SAME) == AGREE[name]


def test_only_observations_of_the_host_are_not_compared_and_each_has_a_reason_of_its_own() -> None:
    outcomes = [outcome for outcome in play("storage") if outcome.verdict == APART]
    assert all(outcome.trace.observation for outcome in outcomes)
    assert not [outcome.trace for outcome in outcomes if outcome.details == [UNEXPLAINED]]
