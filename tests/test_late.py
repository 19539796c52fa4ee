"""Missed slots: how late they are made up for, by the settings late_limit and checkpoint_late_limit."""

from typing import List

import pytest

from tests.pool import TestPool
from vmss.edges.settings import Settings
from vmss.insight import policies, state
from vmss.insight.lock_and_log import read_local
from vmss.insight.reading import reading

MISSED = "VMSS_SNAPSHOT_MISSED_EVENT"


def daily(pool: TestPool, **fields: str) -> str:
    """A schedule of every day at 10:00, which has run once, on the second of March."""
    vm = pool.vm("vm", [pool.sr()], running=True)
    policy = pool.policy([vm], "nightly", frequency="daily", schedule={"hour": "10", "min": "0"}, **fields)
    pool.at(10, 0)
    pool.tick()
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"]
    return policy


def findings(pool: TestPool) -> List[str]:
    with reading(pool.surroundings()) as session:
        now = session.now()
        return [one.text for one in state.examine(session, read_local(pool.place, session, now), now).findings]


def test_without_a_limit_a_missed_slot_is_made_up_for_however_late(pool: TestPool) -> None:
    policy = daily(pool)
    pool.at(9, 45, 4)
    assert pool.tick().status == 0 and pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"] * 2


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint"])
def test_a_slot_that_is_too_late_is_told_once_and_the_next_one_is_served(pool: TestPool, kind: str) -> None:
    policy = daily(pool, type=kind)
    pool.settings = Settings(timezone="UTC", late_limit=3600)
    if kind == "checkpoint":
        pool.settings = Settings(timezone="UTC", checkpoint_late_limit=3600)
    pool.at(11, 0, 3)
    pool.tick()
    pool.call("simulator.reset_counts")
    pool.at(11, 15, 3)
    assert pool.tick().line == "no schedule is due"
    # Idle again: what was told costs no call, not even of another process.
    assert sum(count for name, count in pool.simulator.counts.items() if not name.startswith("simulator.")) <= 5
    alerts = pool.alerts(policy)
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED", MISSED]
    assert "2026-03-03 10:00:00" in alerts[1]["body"] and "another" not in alerts[1]["body"]
    assert [line for line in pool.log() if line.startswith("The slot 20260303T10:00:00Z")]
    with reading(pool.surroundings()) as session:
        entry = policies.find(policies.read(session), "nightly")
        assert entry.policy is not None
        following = policies.next_run(session, entry.policy, session.now())
        assert following is not None and following.day == 4
        assert policies.runs(session, entry.uuid)[0].story.startswith("Missed, and not made up for: ")
    assert any("has missed its run of 2026-03-03 10:00" in text for text in findings(pool))
    assert any("too late to be made up for" in text for text in findings(pool))
    # The remedy of all three.
    assert pool.tick(policy=pool.uuid("VMSS", policy), missing=True).status == 0
    assert not [text for text in findings(pool) if "missed" in text or "too late" in text]
    pool.at(10, 0, 4)
    assert pool.tick().status == 0 and pool.names(policy)[-1] == "VMSS_SNAPSHOT_SUCCEEDED"


def test_the_tick_of_the_slot_and_those_within_the_limit_serve_it(pool: TestPool) -> None:
    policy = daily(pool)
    for day, hour, minute, limit in ((3, 10, 10, 0), (4, 10, 59, 3600), (5, 11, 0, None)):
        pool.settings = Settings(timezone="UTC", late_limit=limit)
        pool.at(hour, minute, day)
        pool.tick()
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"] * 4


def test_what_is_set_for_one_schedule_wins_over_what_is_set_for_checkpoints(pool: TestPool) -> None:
    policy = daily(pool, type="checkpoint")
    (ref,) = pool.call("pool.get_all")
    pool.call("pool.add_to_other_config", ref, "vmss:%s:late_limit" % pool.uuid("VMSS", policy), "")
    pool.settings = Settings(timezone="UTC", late_limit=60, checkpoint_late_limit=60)
    pool.at(12, 0, 3)
    pool.tick()
    assert pool.names(policy) == ["VMSS_SNAPSHOT_SUCCEEDED"] * 2


def test_a_note_of_a_schedule_that_is_gone_goes_too(pool: TestPool) -> None:
    policy, other = daily(pool), pool.policy([pool.vm("other", [pool.sr()])], "other")
    (ref,) = pool.call("pool.get_all")
    pool.call("pool.add_to_other_config", ref, "vmss-lapsed:gone", "20260301T10:00:00Z")
    pool.call("VMSS.set_enabled", other, False)
    pool.settings = Settings(timezone="UTC", late_limit=60)
    pool.at(12, 0, 3)
    pool.tick()
    assert [key for key in pool.other_config() if "lapsed" in key] == ["vmss-lapsed:" + pool.uuid("VMSS", policy)]
