"""The run history: out of messages, as XenCenter reads them, and what they tell of durations."""

from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmss.core import messages
from vmss.core.datetimes import parse_stated, stated
from vmss.core.frequencies import DAILY, Schedule
from vmss.core.messages import Victim
from vmss.core.policy import SNAPSHOT, Policy
from vmss.core.served import Served
from vmss.core.turn import Turn
from vmss.edges.zones import time_zone
from vmss.insight import history
from vmss.insight.history import Run

UTC = timezone.utc
SLOT = datetime(2026, 3, 2, 10, 15, tzinfo=UTC)
ZONES = ("UTC", "Europe/London", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "Etc/GMT+5")
POLICY = "7b10ea29-ab0c-af14-a116-ae293560f404"

TEXTS = st.text(max_size=30)
VICTIMS = st.builds(Victim, TEXTS, st.uuids().map(str), st.lists(TEXTS, min_size=1, max_size=5))


def message(name: str = messages.SUCCEEDED, body: str = "", at: datetime = SLOT, priority: int = 5) -> Dict[str, Any]:
    return {
        "uuid": "x",
        "name": name,
        "priority": str(priority),
        "cls": "VMSS",
        "obj_uuid": POLICY,
        "timestamp": at.strftime("%Y%m%dT%H:%M:%SZ"),
        "body": body,
    }


def runs(*messages: Dict[str, Any]) -> List[Run]:
    return history.runs({"OpaqueRef:%d" % number: record for number, record in enumerate(messages)})


def served(name: str = "nightly", victims: Any = (), slot: datetime = SLOT) -> Served:
    policy = Policy("OpaqueRef:p", POLICY, name, True, SNAPSHOT, 7, Schedule(DAILY, 15, 10), None, ())
    return Served(Turn(policy, slot), slot, vms=3 + len(victims), taken=3, deleted=2, victims=tuple(victims))


# What failed


@given(st.lists(VICTIMS, max_size=5))
def test_what_an_alert_says_of_its_vms_is_read_back(victims: List[Victim]) -> None:
    body = messages.failed_body(victims, served(victims=victims).summary(UTC, SLOT))
    found = history.victims(body)
    assert [victim.uuid for victim in found] == [victim.uuid for victim in victims]
    for read, written in zip(found, victims):
        # Read once more, it is the same: nothing is lost but what an alert cannot carry.
        assert history.victims(messages.failure_line(read)) == [read]
        if all(text.isalnum() for text in (written.name, *written.error)):
            assert read == written._replace(error=tuple(written.error))


@given(st.text())
def test_any_body_is_read(body: str) -> None:
    (run,) = runs(message(messages.FAILED, body, priority=1))
    assert "\n" not in run.remark and run.story


@pytest.mark.parametrize(
    "line, error",
    [
        ("Error:['SR_BACKEND_FAILURE_44', '', 'no space left'],", ["SR_BACKEND_FAILURE_44", "", "no space left"]),
        ("Error:['INTERNAL_ERROR', \"can't do it\", 'x']", ["INTERNAL_ERROR", "can't do it", "x"]),
        ("Error:['A','say \"so\"'],", ["A", 'say "so"']),
        ("Error:[],", []),
    ],
)
def test_lines_of_the_vendors_plugin_are_read(line: str, error: List[str]) -> None:
    assert history.victims("VM: web 1  UUID:abc-1 %s" % line) == [Victim("web 1", "abc-1", tuple(error))]


@pytest.mark.parametrize(
    "line", ["VM:a UUID:b", "VM:a Error:['X'],", "xVM:a UUID:b Error:['X'],", "", "UUID:b Error:['X'],"]
)
def test_other_lines_are_no_failures(line: str) -> None:
    assert history.victims(line) == []


def test_a_line_that_no_plugin_writes_is_not_looked_at_for_long() -> None:
    assert history.victims("VM:a" + " UUID: Error:[" * 100000) == []
    longest = messages.failure_line(Victim("n" * 1000, "u" * 36, ["e" * 1000] * 20))
    assert len(history.victims(longest)[0].error) == 10


def test_vms_that_failed_are_told_with_the_reason_those_of_the_same_together() -> None:
    full = ("SR_BACKEND_FAILURE_44", "", "")
    victims = [Victim("a", "1", full), Victim("b", "2", ("VM_BAD_POWER_STATE", "x")), Victim("c", "3", full)]
    (run,) = runs(message(messages.FAILED, messages.failed_body(victims, "x"), priority=1))
    assert run.result == history.RUN_FAILED and list(run.victims) == victims
    assert run.story == "The storage repository is full: a and c; The VM is in the wrong power state: b"


def test_an_error_without_parameters_is_read_as_it_was() -> None:
    victims = [Victim("a", "1", ("VMSS_RUN_TIMED_OUT",)), Victim("b", "2", ("SR_FULL", "x"))]
    assert history.victims(messages.failed_body(victims, "x")) == victims


def test_of_many_vms_the_first_are_named() -> None:
    victims = [Victim("vm%d" % number, "1", ("SR_FULL",)) for number in range(9)]
    (run,) = runs(message(messages.FAILED, messages.failed_body(victims, "x"), priority=1))
    assert run.story == "The storage repository is full: vm0, vm1, vm2, vm3, vm4 and 4 more"


# Results


@pytest.mark.parametrize(
    "priority, result",
    [(0, "failed"), (1, "failed"), (2, "failed"), (3, "warning"), (4, "succeeded"), (5, "succeeded"), (6, "succeeded")],
)
def test_a_result_is_xencenters_class_of_the_priority_whatever_the_name(priority: int, result: str) -> None:
    for name in (messages.SUCCEEDED, messages.FAILED, "SOMETHING"):
        assert runs(message(name, priority=priority))[0].result == result


def test_vms_are_read_out_of_failed_runs_only() -> None:
    body = messages.failed_body([Victim("a", "1", ("SR_FULL",))], "x")
    assert runs(message(messages.LOCK_FAILED, body, priority=3))[0].victims == ()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=8))
def test_the_newest_run_comes_first_and_of_one_second_the_worst(times: Any) -> None:
    found = runs(*[message(at=SLOT + timedelta(seconds=seconds), priority=priority) for seconds, priority in times])
    assert len(found) == len(times)
    order = {"failed": 0, "warning": 1, "succeeded": 2}
    keys = [(-run.at.timestamp(), order[run.result]) for run in found]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    "change", [{"cls": "VM"}, {"priority": "high"}, {"timestamp": "never"}, {"timestamp": None}, {"cls": None}]
)
def test_what_is_no_message_of_a_policy_is_left_out(change: Dict[str, Any]) -> None:
    assert runs(dict(message(), **change), message())[0].name == messages.SUCCEEDED
    assert len(runs(dict(message(), **change), message())) == 1


def test_a_field_that_is_missing_does_not_hide_the_rest() -> None:
    damaged = message()
    del damaged["body"]
    assert len(history.runs({"a": damaged, "b": message(), "c": None, "d": "text"})) == 1


def test_every_alert_has_words_of_its_own() -> None:
    meanings = [runs(message(name, messages.body(name, "")))[0].meaning for name in messages.PRIORITIES]
    assert len(set(meanings)) == len(meanings) and not set(meanings) & set(messages.PRIORITIES)
    assert runs(message("VMSS_NEW"))[0].story == "VMSS_NEW"


def test_a_warning_is_told_with_what_its_body_adds() -> None:
    body = messages.body(messages.MISSED_EVENT, "Missed: 2026-03-02 11:15:00.")
    (run,) = runs(message(messages.MISSED_EVENT, body, priority=3))
    assert run.story == "a slot passed while it was still running: Missed: 2026-03-02 11:15:00."


# Durations


@pytest.mark.parametrize(
    "name",
    ["nightly", "", "x: 9 of 9 VMs have their snapshot of 2020-01-01 00:00:00 (UTC); 1 expired snapshots deleted."],
)
def test_a_run_tells_what_it_did_and_how_long_it_took(name: str) -> None:
    for victims in ((), (Victim("a", "1", ("SR_FULL",)),)):
        run = served(name, victims)
        alert, text = messages.SUCCEEDED, run.summary(UTC, SLOT + timedelta(seconds=240))
        body = messages.failed_body(victims, text) if victims else messages.body(alert, text)
        # When its message was stored tells nothing of it.
        (found,) = runs(message(messages.FAILED if victims else alert, body, SLOT + timedelta(minutes=7)))
        assert found.counts is not None
        assert (found.counts.snapshotted, found.counts.vms, found.counts.deleted) == (3, 3 + len(victims), 2)
        assert history.durations([found]) == [240]


@pytest.mark.parametrize(
    "after, forced, seconds, told",
    [
        (4, False, 95, "The run was started at its slot and took 95 seconds."),
        (899, False, 1, "The run was started at its slot and took 1 second."),
        (900, False, 0, "The run was started late, at 2026-03-02 11:30:00 (CET, UTC+01:00), and took 0 seconds."),
        (
            477005,
            True,
            7200,
            "The run was started by hand at 2026-03-07 23:45:05 (CET, UTC+01:00) and took 7200 seconds.",
        ),
        (5, False, -30, "The run was started at its slot and took 0 seconds."),  # the clock was set back
    ],
)
def test_a_run_tells_how_it_was_started(after: int, forced: bool, seconds: int, told: str) -> None:
    zone = timezone(timedelta(hours=1), "CET")
    began = SLOT + timedelta(seconds=after, microseconds=400000)
    run = served()
    run = run._replace(started=began, turn=run.turn._replace(forced=forced))
    text = run.summary(zone, began + timedelta(seconds=seconds))
    assert text.endswith("2 expired snapshots deleted. " + told)
    for postscript in ("", " Disks that unfinished snapshots may have left: 1 (x); see the log."):
        (found,) = runs(message(body=messages.body(messages.SUCCEEDED, text + postscript)))
        counts = found.counts
        assert counts is not None and counts[:3] == (3, 3, 2)
        assert counts.slot == SLOT
        assert counts.seconds == max(0, seconds)
        assert counts.start == (history.BY_HAND if forced else history.LATE if after >= 900 else history.AT_SLOT)
        assert counts.started == (None if counts.start == history.AT_SLOT else began.replace(microsecond=0))
        assert counts.began(UTC) == [counts.started or SLOT]
        assert history.durations([found]) == ([] if forced else [max(0, seconds)])


OLD = "'a': 1 of 1 %s snapshot of 2026-03-02 10:15:00 (UTC); 1 expired %s deleted."


@pytest.mark.parametrize(
    "summary", [OLD % ("VM has its", "snapshot"), OLD % ("VMs have their", "snapshots")], ids=["one", "plural"]
)
def test_the_summaries_of_earlier_versions_are_read_and_tell_no_duration(summary: str) -> None:
    (found,) = runs(message(body=messages.body(messages.SUCCEEDED, summary), at=SLOT + timedelta(days=5, hours=6)))
    assert found.counts is not None and found.counts[:3] == (1, 1, 1)
    assert found.story == "1 of 1 VM snapshotted, 1 expired snapshot deleted"
    assert history.durations([found]) == [] and found.counts.start == ""
    one = served("a")._replace(vms=1, taken=1, deleted=1)
    assert one.summary(UTC, SLOT).startswith(OLD % ("VM has its", "snapshot"))


@pytest.mark.parametrize(
    "told, read_in, began",
    [
        # An offset from UTC says the same whatever the setting is now.
        ("2026-07-02 12:15:00 (CEST, UTC+02:00)", "Asia/Tokyo", ["10:15"]),
        ("2026-07-02 04:45:00 (UTC-05:30)", "Europe/Berlin", ["10:15"]),
        ("2026-07-02 10:15:00 (UTC)", "Europe/Berlin", ["10:15"]),
        # Earlier versions named the zone alone: read on a clock that has this name then, and otherwise on none.
        ("2026-07-02 12:15:00 (CEST)", "Europe/Berlin", ["10:15"]),
        ("2026-07-02 12:15:00 (CEST)", "Asia/Tokyo", []),
    ],
)
def test_an_instant_in_an_alert_means_the_same_whatever_the_zone_is_now(
    told: str, read_in: str, began: List[str]
) -> None:
    summary = "'a': 1 of 1 VM has its snapshot of %s; 1 expired snapshot deleted." % told
    (found,) = runs(message(body=messages.body(messages.SUCCEEDED, summary)))
    assert found.counts is not None
    assert [at.strftime("%H:%M") for at in found.counts.began(time_zone(read_in))] == began


@given(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)), st.sampled_from(ZONES))  # noqa: DTZ001, in UTC
def test_what_is_stated_is_read_back(at: datetime, name: str) -> None:
    instant = at.replace(microsecond=0, tzinfo=UTC)
    wall, _, zone = stated(instant, time_zone(name)).partition(" (")
    assert parse_stated(wall, zone[:-1]) == instant


def test_the_alerts_of_earlier_versions_are_read() -> None:
    summary = served(victims=[Victim("b", "2", ())]).summary(UTC, SLOT + timedelta(seconds=9))
    body = "VM:a UUID: b UUID:2 Error:['OPERATION_BLOCKED', 'x', 'Error: [y'],\n%s\nOPERATION_BLOCKED: z." % summary
    (found,) = runs(message(messages.FAILED, body, priority=1))
    assert found.victims == (Victim("a UUID: b", "2", ("OPERATION_BLOCKED", "x", "Error: [y")),)
    assert found.remark == summary and history.durations([found]) == [9] and not found.plain
    # They raised this one of class VMSS, with the summary of the run.
    body = "This pool has no quiesced snapshots any more: plain snapshots were taken instead.\n%s" % summary
    (found,) = runs(message(messages.NOT_QUIESCED, body, priority=3))
    assert found.remark == summary and found.meaning == "plain snapshots instead of quiesced ones" and not found.plain


def test_only_the_last_runs_tell_how_long_the_next_takes() -> None:
    found = []
    for number in range(12):
        slot = SLOT - timedelta(days=number)
        text = served(slot=slot).summary(UTC, slot + timedelta(seconds=10 + number))
        found += runs(message(body=messages.body(messages.SUCCEEDED, text), at=slot))
        # A second message about the same run.
        found += runs(message(messages.NOT_QUIESCED, messages.body(messages.NOT_QUIESCED, text), at=slot, priority=3))
    assert history.durations(found) == [10 + number for number in range(history.RUNS_ASKED)]


def test_a_late_run_is_not_taken_for_the_length_of_the_next() -> None:
    late = served()._replace(started=SLOT + timedelta(hours=18))
    told = late.summary(UTC, SLOT + timedelta(hours=18, minutes=15))
    past = runs(message(body=messages.body(messages.SUCCEEDED, told)))
    assert (history.durations(past, late=False), history.durations(past)) == ([], [900])


def test_messages_without_a_count_tell_no_duration() -> None:
    assert history.durations(runs(message(), message(messages.LOCK_FAILED, "x: 1 of 2 VMs"))) == []


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_the_median_duration_is_one_of_them_and_half_of_the_runs_are_no_longer(seconds: List[float]) -> None:
    median = history.median_duration(seconds)
    assert median in seconds
    assert 2 * sum(1 for one in seconds if one <= median) >= len(seconds)
    assert 2 * sum(1 for one in seconds if one >= median) >= len(seconds)


def test_one_run_that_met_slow_storage_does_not_count() -> None:
    assert history.median_duration([60.0, 7200.0, 61.0]) == 61.0
