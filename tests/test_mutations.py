"""The mutations of the catalogue fit the product as it is, and trying one tells who notices it."""

import pytest

from tests.mutations.catalogue import MUTATIONS, Mutation
from tests.mutations.trial import fault_of, tried

ASKED_FOR = 60


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_mutation_changes_one_place_of_the_product_and_leaves_it_python(mutation: Mutation) -> None:
    assert not fault_of(mutation)


def test_there_are_enough_and_no_two_are_the_same() -> None:
    assert len({(it.path, it.old, it.new) for it in MUTATIONS}) == len({it.what for it in MUTATIONS}) == len(MUTATIONS)
    assert len(MUTATIONS) >= ASKED_FOR


def test_a_mutation_is_noticed_by_the_suite_and_by_the_simulation() -> None:
    noticed = tried(MUTATIONS[0], suite=True, seconds=20.0)
    assert noticed.suite is not None and noticed.suite.startswith("tests/test_retention.py::")
    assert noticed.simulation is not None and noticed.simulation.startswith("invariant 2: ")


def test_in_the_product_as_it_is_nothing_is_noticed() -> None:
    assert tried(None, suite=False, seconds=3.0) == (None, "")
