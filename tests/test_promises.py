"""What schedules promise, which VMs are late, and how bad that is, as functions of values."""

from datetime import datetime, timedelta, timezone
from typing import Any, List, Optional, Sequence

import pytest
from dateutil import tz
from hypothesis import given, settings
from hypothesis import strategies as st

from vmss.core import messages
from vmss.core.frequencies import DAILY, FREQUENCIES, HOURLY, Schedule
from vmss.core.messages import Victim
from vmss.core.policy import SNAPSHOT, Policy
from vmss.core.schedule import latest_slot, next_slot
from vmss.core.turn import Served, Turn
from vmss.insight import history, promises
from vmss.insight.findings import CRITICAL, WARNING, Finding
from vmss.insight.history import Run
from vmss.insight.promises import Late, Promise

UTC = timezone.utc
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)  # a Monday
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ZONES = [UTC, tz.gettz("Europe/London"), tz.gettz("America/New_York"), tz.gettz("Asia/Kathmandu")]
UUID = "7b10ea29-ab0c-af14-a116-ae293560f404"

quick = settings(max_examples=150, deadline=None)

schedules = st.builds(
    Schedule,
    st.sampled_from(list(FREQUENCIES)),
    st.sampled_from((0, 15, 30, 45)),
    st.integers(0, 23),
    st.frozensets(st.integers(0, 6), min_size=1),
)
instants = st.timedeltas(timedelta(0), timedelta(days=365)).map(lambda time: datetime(2026, 1, 1, tzinfo=UTC) + time)
zones = st.sampled_from(ZONES)


QUARTER_PAST = Schedule(HOURLY, 15)


def policy(schedule: Schedule = QUARTER_PAST, vms: int = 3, last: Optional[datetime] = None, **fields: Any) -> Policy:
    refs = tuple("OpaqueRef:%d" % number for number in range(vms))
    return Policy("OpaqueRef:p", UUID, "nightly", True, SNAPSHOT, 2, schedule, last, refs)._replace(**fields)


def moment(instant: datetime) -> str:
    return instant.strftime("%H:%M")


def promise(
    one: Policy, now: datetime, in_hand: bool = False, zone: Any = UTC, duration: timedelta = MINUTE
) -> Promise:
    return promises.promise(one, zone, now, duration - MINUTE, in_hand)


def run(victims: Sequence[Victim] = (), vms: int = 3, at: datetime = NOW) -> List[Run]:
    """The message of a run, read back from what a pass writes."""
    served = Served(Turn(policy(), at), at, vms=vms, taken=vms - len(victims), victims=tuple(victims))
    name = messages.FAILED if victims else messages.SUCCEEDED
    summary = served.summary(UTC, at)
    body = messages.failed_body(victims, summary) if victims else messages.body(name, summary)
    return history.runs(
        {
            "OpaqueRef:m": {
                "cls": "VMSS",
                "priority": str(messages.PRIORITIES[name]),
                "name": name,
                "obj_uuid": UUID,
                "body": body,
                "timestamp": at.strftime("%Y%m%dT%H:%M:%SZ"),
            }
        }
    )


# What a schedule promises


@pytest.mark.parametrize(
    "last, now, expected",
    [
        (NOW + 16 * MINUTE, NOW + 20 * MINUTE, Promise(NOW + 15 * MINUTE)),  # served
        (NOW - 44 * MINUTE, NOW + 14 * MINUTE, Promise(NOW - 45 * MINUTE)),  # the slot is still to come
        (NOW - 44 * MINUTE, NOW + 16 * MINUTE, Promise(NOW - 45 * MINUTE)),  # its run may be on
        (NOW - 44 * MINUTE, NOW + 44 * MINUTE, Promise(NOW - 45 * MINUTE)),
        (NOW - 44 * MINUTE, NOW + 45 * MINUTE, Promise(missed=(NOW + 15 * MINUTE,))),
        (NOW - 2 * HOUR, NOW + 20 * MINUTE, Promise(missed=(NOW - 45 * MINUTE,))),
        (NOW - 2 * HOUR, NOW + 50 * MINUTE, Promise(missed=(NOW - 45 * MINUTE, NOW + 15 * MINUTE))),
        (None, NOW, Promise()),  # never ran
        (NOW + HOUR, NOW, Promise()),  # a wrong clock
    ],
)
def test_promises(last: Optional[datetime], now: datetime, expected: Promise) -> None:
    assert promise(policy(last=last), now) == expected


def test_a_pass_that_has_it_in_hand_may_take_its_time() -> None:
    one = policy(last=NOW - 44 * MINUTE)
    assert promise(one, NOW + 70 * MINUTE, in_hand=True) == Promise(NOW - 45 * MINUTE)
    assert promise(one, NOW + 5 * HOUR, in_hand=True) == Promise()


def test_a_run_that_usually_takes_long_may_take_long() -> None:
    one = policy(Schedule(DAILY, 0, 10), last=NOW - DAY)
    assert promise(one, NOW + 59 * MINUTE).missed
    assert not promise(one, NOW, duration=3 * HOUR).missed
    assert promise(one, NOW + 6 * HOUR, duration=100 * HOUR).missed  # it was late, rather


@pytest.mark.parametrize("fields", [{"enabled": False}, {"vms": ()}, {"last_run": None}])
def test_these_promise_nothing(fields: Any) -> None:
    assert promise(policy(last=NOW - 30 * DAY)._replace(**fields), NOW) == Promise()


@given(schedules, zones, instants, st.timedeltas(timedelta(0), 29 * MINUTE))
@quick
def test_a_policy_that_is_served_in_time_is_never_late(
    schedule: Schedule, zone: Any, now: datetime, took: timedelta
) -> None:
    slot = latest_slot(schedule, zone, now - took)
    found = promise(policy(schedule, last=slot + took), now, zone=zone)
    assert found.slot == slot and not found.missed


@given(schedules, zones, instants, st.timedeltas(timedelta(0), 40 * DAY), st.booleans())
@quick
def test_promised_slots_are_slots_that_were_served(
    schedule: Schedule, zone: Any, last: datetime, later: timedelta, in_hand: bool
) -> None:
    now = last + later
    found = promise(policy(schedule, last=last), now, in_hand=in_hand, zone=zone)
    assert not (found.slot and found.missed)
    if found.slot is not None:
        assert found.slot <= last and latest_slot(schedule, zone, found.slot) == found.slot
    for slot in found.missed:
        assert last < slot <= now - promises.MARGIN or slot < latest_slot(schedule, zone, now)
    following = next_slot(schedule, zone, last)
    if now >= following + promises.MARGIN and not in_hand:
        assert found.missed


@pytest.mark.parametrize("slots, severity", [((), None), ((NOW,), WARNING), ((NOW - HOUR, NOW), CRITICAL)])
def test_one_slot_is_a_warning_two_are_critical(slots: Any, severity: Optional[int]) -> None:
    found = promises.missed(policy(last=NOW - DAY), Promise(missed=slots), moment)
    assert [finding.severity for finding in found] == ([severity] if severity else [])


# VMs without what was promised


def overdue(late: Sequence[Late], runs: Sequence[Run], vms: int = 3) -> List[Finding]:
    one = policy(vms=vms)
    return promises.overdue(one, NOW - 45 * MINUTE, UTC, promises.without_newcomers(one, late, runs), runs, moment)


def test_nobody_is_late() -> None:
    assert overdue([], run()) == []


@pytest.mark.parametrize(
    "newest, severity",
    [(NOW - HOUR, WARNING), (NOW - 105 * MINUTE, WARNING), (NOW - 106 * MINUTE, CRITICAL), (None, WARNING)],
)
def test_how_late(newest: Optional[datetime], severity: int) -> None:
    (found,) = overdue([Late("web", "u", newest)], run())
    assert found.severity == severity and "1 of 3 VMs of 'nightly' has no snapshot since 11:15: web" in found.text


def test_a_vm_that_a_run_has_named_and_that_has_none_at_all() -> None:
    (found,) = overdue([Late("web", "u")], run([Victim("web", "u", ("X",))]))
    assert found.severity == CRITICAL


def test_newcomers_are_excused_if_the_run_counted_fewer() -> None:
    assert overdue([Late("new", "u")], run(vms=2)) == []
    (found,) = overdue([Late("new", "u"), Late("old", "v", NOW - HOUR)], run(vms=2))
    assert "1 of 3" in found.text and found.text.endswith(": old")
    (found,) = overdue([Late("bad", "b"), Late("new", "u")], run([Victim("bad", "b", ("X",))], vms=2))
    assert found.text.endswith(": bad")
    assert overdue([Late("web", "u")], []) == []  # nothing is known of the run: it may be new


@given(
    st.lists(
        st.builds(Late, st.text(max_size=5), st.uuids().map(str), st.none() | instants),
        max_size=6,
        unique_by=lambda vm: vm.uuid,
    ),
    st.integers(0, 8),
    st.integers(1, 8),
    st.integers(0, 3),
)
@quick
def test_as_many_are_excused_as_can_be_new(late: List[Late], counted: int, vms: int, named: int) -> None:
    victims = [Victim(vm.name, vm.uuid, ("X",)) for vm in late[:named]]
    runs = run(victims, vms=max(counted, len(victims)))
    new = max(0, vms - max(counted, len(victims)))
    expected = max(len(late) - new, len(victims))
    found = overdue(late, runs, vms=vms)
    assert [int(finding.text.split(" ")[0]) for finding in found] == ([expected] if expected else [])


# Runs


@pytest.mark.parametrize("victims, severity", [(1, WARNING), (2, WARNING), (3, CRITICAL)])
def test_a_run_that_failed(victims: int, severity: int) -> None:
    failed = [Victim("vm", str(number), ("SR_BACKEND_FAILURE_44", "", "full")) for number in range(victims)]
    (found,) = promises.last_run(policy(), run(failed), moment)
    assert found.severity == severity and found.text == "last run of 'nightly' failed: %d of 3 VMs" % victims
    assert "vmss history" in found.remedy and "storage repository is full" in found.evidence


def test_a_run_that_was_good() -> None:
    assert promises.last_run(policy(), run(), moment) == []


def test_a_good_run_after_a_bad_one() -> None:
    bad = run([Victim("vm", "u", ("X",))], at=NOW - HOUR)
    assert promises.last_run(policy(), run() + bad, moment) == []


def test_a_slot_that_passed_while_it_ran() -> None:
    missed = [Run(UUID, NOW, messages.MISSED_EVENT, history.RUN_WARNING, remark="Missed: 11:15.")]
    (found,) = promises.last_run(policy(), missed + run(), moment)
    assert found.severity == WARNING and "Missed: 11:15." in found.evidence


@given(st.text(), st.sampled_from([1, 3, 5]), st.sampled_from(sorted(messages.SENTENCES)))
@quick
def test_any_message_is_judged(body: str, priority: int, name: str) -> None:
    runs = history.runs(
        {
            "x": {
                "cls": "VMSS",
                "priority": str(priority),
                "name": name,
                "obj_uuid": "u",
                "body": body,
                "timestamp": "20260302T10:00:00Z",
            }
        }
    )
    for finding in promises.last_run(policy(), runs, moment):
        assert finding.severity in (WARNING, CRITICAL) and finding.remedy
