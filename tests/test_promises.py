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
from vmss.core.schedule import latest_slot
from vmss.core.served import Served
from vmss.core.turn import Turn
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


def promise(one: Policy, now: datetime, zone: Any = UTC, length: timedelta = promises.MARGIN, **known: Any) -> Promise:
    return promises.promise(one, zone, now, length, known.get("known", one.ran(now)))


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
        (NOW - 44 * MINUTE, NOW + 45 * MINUTE, Promise(NOW + 15 * MINUTE, missed=(NOW + 15 * MINUTE,))),
        (NOW - 2 * HOUR, NOW + 20 * MINUTE, Promise(NOW - 45 * MINUTE, missed=(NOW - 105 * MINUTE, NOW - 45 * MINUTE))),
        (NOW - 2 * HOUR, NOW + 50 * MINUTE, Promise(NOW + 15 * MINUTE, missed=(NOW - 45 * MINUTE, NOW + 15 * MINUTE))),
        (None, NOW, Promise()),  # never ran
        (NOW + HOUR, NOW, Promise()),  # a wrong clock
    ],
)
def test_promises(last: Optional[datetime], now: datetime, expected: Promise) -> None:
    assert promise(policy(last=last), now) == expected


def test_a_run_that_usually_takes_long_may_take_long() -> None:
    one = policy(Schedule(DAILY, 0, 10), last=NOW - DAY)
    assert promise(one, NOW + 59 * MINUTE).missed == (NOW - 2 * HOUR,)
    assert promise(one, NOW, length=3 * HOUR) == Promise(NOW - DAY - 2 * HOUR)


def test_a_run_that_takes_longer_than_the_time_between_two_slots_is_of_the_slot_before() -> None:
    one = policy(last=NOW - 5 * HOUR)
    slot = NOW + 15 * MINUTE - 2 * HOUR
    assert promise(one, NOW + 30 * MINUTE, length=2 * HOUR) == Promise(slot, missed=(slot - HOUR, slot))


def test_where_the_last_run_is_of_the_future_it_has_run_all_the_same() -> None:
    one = policy(last=NOW + DAY)
    instant = promises.known(one, UTC, NOW, [], None)
    assert promise(one, NOW, known=instant).slot == NOW - 45 * MINUTE


def test_one_that_never_ran_has_promised_what_was_due_by_its_messages() -> None:
    one = policy()
    assert promises.known(one, UTC, NOW, [], None) is None
    put_off = [Run(UUID, NOW - 45 * MINUTE + timedelta(seconds=9), messages.LOCK_FAILED, history.RUN_WARNING)]
    found = promise(one, NOW, known=promises.known(one, UTC, NOW, put_off, None))
    assert found.slot == NOW - 45 * MINUTE
    later = [Run(UUID, NOW + 15 * MINUTE, messages.LOCK_FAILED, history.RUN_WARNING)]
    assert promise(one, NOW + 20 * MINUTE, known=promises.known(one, UTC, NOW, later, None)) == Promise()


@pytest.mark.parametrize("minutes, slot", [(-45, -45), (-31, -45), (-30, None), (10, None)])
def test_one_that_never_ran_is_in_hand_since_the_slot_at_which_the_pass_began(minutes: int, slot: Any) -> None:
    """A pass that began at any other time may have taken it in hand at any later one."""
    instant = promises.known(policy(), UTC, NOW, [], NOW + minutes * MINUTE)
    found = promise(policy(), NOW, known=instant)
    assert found.slot == (NOW + slot * MINUTE if slot is not None else None)


# How long a run may take


def ran(*seconds: int, name: str = messages.SUCCEEDED) -> List[Run]:
    counts = [history.Counts(3, 3, 0, NOW, history.AT_SLOT, None, one) for one in seconds]
    return [Run(UUID, NOW, name, history.RUN_SUCCEEDED, counts=one) for one in counts]


@pytest.mark.parametrize(
    "runs, in_hand, minutes",
    [
        ([], False, 30),
        ([], True, 60),  # till its next slot
        (ran(60, 600, 120), False, 32),
        (ran(60, 600, 120), True, 32),  # that a pass is at work on it excuses nothing
        (ran(360000), True, 30 + 360),
        (ran(60) + ran(20000, 20000, name=messages.FAILED), True, 31),  # those waited for something that hung
        (ran(600, name=messages.FAILED), False, 40),
    ],
)
def test_how_long_a_run_may_take(runs: List[Run], in_hand: bool, minutes: int) -> None:
    assert promises.length(policy(), runs, in_hand) == minutes * MINUTE


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


@given(schedules, zones, instants, st.timedeltas(timedelta(0), 40 * DAY), st.timedeltas(timedelta(0), 7 * HOUR))
@quick
def test_promised_is_the_latest_slot_that_should_be_over(
    schedule: Schedule, zone: Any, last: datetime, later: timedelta, length: timedelta
) -> None:
    now = last + later
    found = promise(policy(schedule, last=last), now, length=length, zone=zone)
    slots = [latest_slot(schedule, zone, now)]
    while slots[-1] > last:
        slots.append(latest_slot(schedule, zone, slots[-1] - timedelta(seconds=1)))
    over = [slot for slot in slots if slot <= last or slot + length <= now]
    assert found.slot == over[0]
    assert list(found.missed) == sorted(slot for slot in over[:2] if slot > last)


@pytest.mark.parametrize("slots, severity", [((), None), ((NOW,), WARNING), ((NOW - HOUR, NOW), CRITICAL)])
def test_one_slot_is_a_warning_two_are_critical(slots: Any, severity: Optional[int]) -> None:
    found = promises.missed(policy(last=NOW - DAY), Promise(missed=slots), False, moment)
    assert [finding.severity for finding in found] == ([severity] if severity else [])


# VMs without what was promised


def overdue(late: Sequence[Late], runs: Sequence[Run], vms: int = 3, in_hand: bool = False) -> List[Finding]:
    one, slot = policy(vms=vms), NOW - 45 * MINUTE
    late = promises.without_newcomers(one, late, runs, slot, in_hand)
    return promises.overdue(one, slot, UTC, late, runs, in_hand, moment)


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
    assert overdue([Late("web", "u")], [], in_hand=True)  # it is being served
    put_off = [Run(UUID, NOW - 44 * MINUTE, messages.LOCK_FAILED, history.RUN_WARNING)]
    assert overdue([Late("web", "u")], put_off)  # it was due
    by_hand = [put_off[0]._replace(remark=messages.NOT_RUN + "another pass holds the lock.")]  # this proves nothing
    assert overdue([Late("web", "u")], by_hand) == overdue([Late("web", "u")], [])


def test_a_run_that_made_up_for_another_makes_no_newcomers() -> None:
    one = run(vms=1, at=NOW - 30 * MINUTE)
    assert one[0].counts is not None
    one[0] = one[0]._replace(counts=one[0].counts._replace(start=history.BY_HAND))
    late = [Late("vm %d" % number, "u%d" % number, NOW - HOUR) for number in range(3)]
    (found,) = overdue(late, one + run(vms=3, at=NOW - 44 * MINUTE))
    assert found.text.startswith("3 of 3 VMs")


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
    old = {victim.uuid for victim in victims} | {vm.uuid for vm in late if vm.own}
    expected = max(len(late) - new, len(old))
    found = overdue(late, runs, vms=vms)
    assert [int(finding.text.split(" ")[0]) for finding in found] == ([expected] if expected else [])


# Runs


@pytest.mark.parametrize("victims, severity", [(1, WARNING), (2, WARNING), (3, CRITICAL)])
def test_a_run_that_failed(victims: int, severity: int) -> None:
    failed = [Victim("vm", str(number), ("SR_BACKEND_FAILURE_44", "", "full")) for number in range(victims)]
    (found,) = promises.last_run(policy(), run(failed), "", moment)
    assert found.severity == severity and found.text == "last run of 'nightly' failed: %d of 3 VMs" % victims
    assert "vmss history" in found.remedy and "storage repository is full" in found.evidence


def test_a_run_that_was_good() -> None:
    assert promises.last_run(policy(), run(), "", moment) == []


def test_a_good_run_after_a_bad_one() -> None:
    bad = run([Victim("vm", "u", ("X",))], at=NOW - HOUR)
    assert promises.last_run(policy(), run() + bad, "", moment) == []


def test_a_slot_that_passed_while_it_ran() -> None:
    missed = [Run(UUID, NOW, messages.MISSED_EVENT, history.RUN_WARNING, remark="Missed: 11:15.")]
    (found,) = promises.last_run(policy(), missed + run(), "", moment)
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
    for finding in promises.last_run(policy(), runs, "", moment):
        assert finding.severity in (WARNING, CRITICAL) and finding.remedy
