"""Fixtures: a simulated pool with a real socket."""

from pathlib import Path
from typing import Iterator

import pytest

from tests.pool import TestPool


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[TestPool]:
    with TestPool(tmp_path) as pool:
        yield pool
