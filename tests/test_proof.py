"""The short form of the proof: real processes killed, hostile answers, many passes in one process, steps of the clock.

The long one: python -m tests.proof
"""

import os

import pytest

from tests.proof.answers import answers
from tests.proof.clocks import STEPS, clocks
from tests.proof.kills import kills
from tests.proof.passes import CACHES_MAX, Size, judge, passes
from tests.proof.rounds import Proof, play

# In .ci/run it comes from the tree that is tested, so that what breaks is the commit's and not the hour's.
SEED = int(os.environ.get("VMSS_FRESH_SEED") or "1", 16)


def held(proof: Proof) -> None:
    assert not proof.failures, "\n".join(proof.failures)


@pytest.mark.timeout(300)
def test_a_process_that_is_killed_leaves_nothing_that_the_next_pass_does_not_make_whole() -> None:
    held(kills(SEED, 4, at_calls=True))  # test_processes kills at times


@pytest.mark.timeout(300)
def test_no_hostile_answer_does_harm() -> None:
    held(answers(SEED, 40))


@pytest.mark.timeout(300)
def test_passes_in_one_process_do_not_grow() -> None:
    held(passes(SEED, 20))


def test_what_grows_is_seen() -> None:
    steady = Size(objects=2 << 20, resident=30 << 20, descriptors=5, threads=1, files=1, sessions=0, tasks=0)
    assert judge([steady] * 300) == []
    for name, by in (("objects", 4 * CACHES_MAX), ("resident", 20 << 20), ("descriptors", 1), ("threads", 1)):
        grown = steady._replace(**{name: getattr(steady, name) + by})
        (wrong,) = judge([steady] * 299 + [grown])
        assert name in wrong
    for name in ("sessions", "tasks"):
        (wrong,) = judge([steady] * 150 + [steady._replace(**{name: 1})] + [steady] * 149)
        assert wrong.startswith(name)


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_a_step_of_the_clock_in_the_middle_of_a_pass_costs_nothing(step: int) -> None:
    held(clocks(4 * SEED + step, 1))


def test_what_fails_is_told_with_the_command_that_shows_it_again(capsys: "pytest.CaptureFixture[str]") -> None:
    def one(seed: int) -> "list[str]":
        assert seed != 6, "bad"
        return ["good"]

    proof = play("clocks", 5, 3, one)
    assert (proof.rounds, proof.seen) == (3, (("good", 2),))
    (failure,) = proof.failures
    assert "AssertionError: bad" in failure
    assert failure.endswith("python -m tests.proof --only clocks --clocks 1 --seed 6")
    assert failure in capsys.readouterr().out
