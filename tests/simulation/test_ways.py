"""The ways of a call between a pass and the embedded xapi in one process: what is read is the same in each."""

import json
from datetime import datetime, timezone
from typing import Any, Iterator

import pytest

from tests.simulation import world as worlds
from tests.simulation.run import live
from tests.simulation.wire import Way, as_read, way_of
from vmss.simulator import Simulator
from vmss.simulator.build import build_pool
from vmss.simulator.values import Count
from vmss.simulator.wire import Request, encode_json_success

REQUEST = Request("", [], "2.0", 1)


def containers(value: Any) -> Iterator[int]:
    """What could be changed in place, by its identity."""
    if isinstance(value, (dict, list)):
        yield id(value)
        for item in value.values() if isinstance(value, dict) else value:
            yield from containers(item)


def answers() -> Iterator[Any]:
    """Answers with all that a pool has."""
    sim = Simulator(now=datetime(2026, 3, 2, tzinfo=timezone.utc))
    pool = build_pool(sim.call, hosts=1, srs=1, vms=2)
    sim.call("VM.snapshot", pool.session, pool.vms[0], "snapshot", [])
    for name, table in sim.db.tables.items():
        yield sim.db.records(name, table.rows)
    yield dict.fromkeys("ab", Count(2))
    yield [
        "x",
        1,
        1.5,
        True,
        None,
        datetime(2026, 3, 2, 10, 0, 7, tzinfo=timezone.utc),
        {"a": [{"b": []}]},
        ("c", ["d"]),
    ]


def test_what_is_handed_over_is_what_its_text_would_be_read_as() -> None:
    seen = 0
    for answer in answers():
        read, text = as_read(answer), encode_json_success(answer, REQUEST).decode()
        assert json.dumps(read) == json.dumps(json.loads(text)["result"])
        assert not set(containers(read)) & set(containers(answer))
        seen += len(answer)
    assert seen > 50


def test_of_ten_worlds_most_hand_over_and_one_each_has_its_texts() -> None:
    ways = [way_of(seed) for seed in range(100)]
    assert [ways.count(way) for way in (Way.VALUES, Way.JSON, Way.XML)] == [80, 10, 10]


@pytest.mark.parametrize("way", [Way.JSON, Way.XML])
def test_a_world_is_the_same_whatever_the_way(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    handed_over = live(11)
    monkeypatch.setattr(worlds, "way_of", lambda seed: way)
    outcome = live(11)
    assert outcome.calls > 300
    # An older server, which the way by XML-RPC stands for, tells references with their records only.
    history = [line.replace("get_all_where", "get_all_records_where") for line in handed_over.history]
    assert ".get_all_where" in "".join(handed_over.history)
    assert (outcome.history, outcome.log) == (handed_over.history if way is Way.JSON else history, handed_over.log)
