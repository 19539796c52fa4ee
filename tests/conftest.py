"""Fixtures: a simulated pool with a real socket. And how long a property may take, and how one that hangs is ended."""

import os
from pathlib import Path
from typing import Iterator, List

import pytest
from hypothesis import HealthCheck, settings

from tests.pool import TestPool

# How long an example takes says how busy the machine is. What hangs is ended by the time limit of its test.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# Whoever runs the tests through sudo is root: what they put into the environment is meant.
for _name in ("SUDO_UID", "PKEXEC_UID"):
    os.environ.pop(_name, None)
# Tests start hundreds of processes of the package. Without compiled files each of them would compile it, which takes a
# quarter of the processor time of such tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """End the properties by a thread, and the whole run with them, instead of by a signal.

    The signal raises a failure, and hypothesis would take it for the example's and try that example again, this time
    without a limit.
    """
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            marker = item.get_closest_marker("timeout")
            item.add_marker(pytest.mark.timeout(*(marker.args if marker else ()), method="thread"), append=False)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[TestPool]:
    with TestPool(tmp_path) as pool:
        yield pool
