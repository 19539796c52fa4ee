"""A policy from a VMSS record as the XenAPI client returns it: good records, bad ones, and junk."""

from datetime import datetime, timezone
from typing import Any, Dict, FrozenSet, Optional
from xmlrpc.client import DateTime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmss.core.frequencies import Schedule
from vmss.core.policy import Policy, PolicyError, from_record, index_of
from vmss.core.problem import BadInput, UnknownPolicy

UTC = timezone.utc
REF = "OpaqueRef:7e2a6e2f-1d2c-4b8f-9a51-0b9a3c0f9f11"

# As a real xapi answers: numbers as text, times as DateTime, and fields that we have no use for.
RECORD: Dict[str, Any] = {
    "uuid": "f26bbb2c-6a4b-4c2b-a1d5-5f4d1b9f8d1e",
    "name_label": "Nightly",
    "name_description": "",
    "enabled": True,
    "type": "snapshot",
    "retained_snapshots": "7",
    "frequency": "daily",
    "schedule": {"hour": "10", "min": "15"},
    "last_run_time": DateTime("20260130T10:17:03Z"),
    "VMs": ["OpaqueRef:1", "OpaqueRef:2"],
}


def record(**fields: Any) -> Dict[str, Any]:
    return dict(RECORD, **fields)


def weekly(**keys: Any) -> Dict[str, Any]:
    return record(frequency="weekly", schedule=keys)


def refusal(bad: Dict[str, Any]) -> str:
    with pytest.raises(PolicyError) as caught:
        from_record(REF, bad)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 1000
    text.encode("utf-8")
    return text


# Good records


def test_every_field_that_matters_is_in_the_policy() -> None:
    assert from_record(REF, RECORD) == Policy(
        ref=REF,
        uuid="f26bbb2c-6a4b-4c2b-a1d5-5f4d1b9f8d1e",
        name="Nightly",
        enabled=True,
        type="snapshot",
        retained=7,
        schedule=Schedule("daily", 15, 10),
        last_run=datetime(2026, 1, 30, 10, 17, 3, tzinfo=UTC),
        vms=("OpaqueRef:1", "OpaqueRef:2"),
    )


def test_fields_that_a_newer_xapi_may_add_are_ignored() -> None:
    assert from_record(REF, record(other_config={"a": "b"}, snapshot_class=7)) == from_record(REF, RECORD)


@pytest.mark.parametrize(
    "frequency, keys, expected",
    [
        ("hourly", {}, Schedule("hourly")),
        ("hourly", {"min": "45"}, Schedule("hourly", 45)),
        ("daily", {}, Schedule("daily")),
        ("daily", {"hour": "23"}, Schedule("daily", 0, 23)),
        ("daily", {"min": "30"}, Schedule("daily", 30)),
        ("weekly", {}, Schedule("weekly", 0, 0, frozenset([0]))),
        ("weekly", {"days": "Sunday"}, Schedule("weekly", 0, 0, frozenset([6]))),
    ],
)
def test_a_schedule_that_lost_keys_has_the_defaults_of_xapi(
    frequency: str, keys: Dict[str, str], expected: Schedule
) -> None:
    assert from_record(REF, record(frequency=frequency, schedule=keys)).schedule == expected


@pytest.mark.parametrize(
    "frequency, expected",
    [
        ("hourly", Schedule("hourly", 30)),
        ("daily", Schedule("daily", 30, 4)),
        ("weekly", Schedule("weekly", 30, 4, frozenset([4]))),
    ],
)
def test_keys_of_another_frequency_and_unknown_ones_are_ignored(frequency: str, expected: Schedule) -> None:
    keys = {"min": "30", "hour": "4", "days": "Friday", "moon": "full"}
    assert from_record(REF, record(frequency=frequency, schedule=keys)).schedule == expected


def test_a_bad_value_of_a_key_of_another_frequency_does_no_harm() -> None:
    keys = {"min": "30", "hour": "noon", "days": "Caturday"}
    assert from_record(REF, record(frequency="hourly", schedule=keys)).schedule == Schedule("hourly", 30)


@pytest.mark.parametrize(
    "text, hour",
    [
        ("0", 0),
        ("7", 7),
        ("07", 7),
        ("007", 7),
        ("23", 23),
        ("0x7", 7),
        ("0X17", 23),
        ("0xf", 15),
        ("0xF", 15),
        ("0o17", 15),
        ("0O7", 7),
        ("0b1", 1),
        ("0B101", 5),
        ("0u9", 9),
        ("1_0", 10),
        ("1__0_", 10),
        ("0x1_0", 16),
        ("-0", 0),
        ("+5", 5),
        ("0b1_0", 2),
        (7, 7),
    ],
)
def test_an_hour_is_read_as_ocaml_reads_integers(text: Any, hour: int) -> None:
    assert from_record(REF, record(schedule={"hour": text})).schedule == Schedule("daily", 0, hour)


@pytest.mark.parametrize("text", ["0", "15", "30", "45"])
def test_each_minute_that_xapi_allows_is_understood(text: str) -> None:
    assert from_record(REF, record(schedule={"min": text})).schedule == Schedule("daily", int(text))


@pytest.mark.parametrize(
    "text, days",
    [
        ("Monday", [0]),
        ("monday", [0]),
        ("MONDAY", [0]),
        ("mOnDaY", [0]),
        ("Monday,Wednesday,Friday", [0, 2, 4]),
        ("sunday,SATURDAY", [5, 6]),
        ("Sunday,Monday", [0, 6]),
        ("Monday, Friday", [0, 4]),
        ("Tuesday,Tuesday", [1]),
        ("Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_days_are_english_names_in_any_case(text: str, days: FrozenSet[int]) -> None:
    assert from_record(REF, weekly(days=text)).schedule.days == frozenset(days)


@pytest.mark.parametrize("value, retained", [("1", 1), ("10", 10), (1, 1), (10, 10)])
def test_one_to_ten_snapshots_can_be_retained(value: Any, retained: int) -> None:
    assert from_record(REF, record(retained_snapshots=value)).retained == retained


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint", "snapshot_with_quiesce"])
def test_each_type_of_snapshot_is_understood(kind: str) -> None:
    assert from_record(REF, record(type=kind)).type == kind


@pytest.mark.parametrize(
    "value, expected",
    [
        (DateTime("20260130T10:17:03Z"), datetime(2026, 1, 30, 10, 17, 3, tzinfo=UTC)),
        (DateTime("20260130T10:17:03"), datetime(2026, 1, 30, 10, 17, 3, tzinfo=UTC)),
        (DateTime("2026-01-30T10:17:03Z"), datetime(2026, 1, 30, 10, 17, 3, tzinfo=UTC)),
        (DateTime("20260130T10:17:03+02:00"), datetime(2026, 1, 30, 8, 17, 3, tzinfo=UTC)),
        ("20260130T10:17:03Z", datetime(2026, 1, 30, 10, 17, 3, tzinfo=UTC)),
        (DateTime("20991231T23:59:59Z"), datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_last_run_is_an_instant_in_utc(value: Any, expected: datetime) -> None:
    assert from_record(REF, record(last_run_time=value)).last_run == expected


@pytest.mark.parametrize("text", ["19700101T00:00:00Z", "1970-01-01T00:00:00Z", "19691231T23:59:59Z"])
def test_a_last_run_at_the_epoch_or_before_is_none(text: str) -> None:
    assert from_record(REF, record(last_run_time=DateTime(text))).last_run is None


@pytest.mark.parametrize("name", ["", "a\nb", "\x00", "x" * 10000, "Büro 'A' [1], \u202e"])
def test_a_name_may_be_any_text(name: str) -> None:
    assert from_record(REF, record(name_label=name)).name == name


def test_a_policy_may_have_no_vms_and_be_disabled() -> None:
    policy = from_record(REF, record(VMs=[], enabled=False))
    assert (policy.vms, policy.enabled) == ((), False)


# Bad records


@pytest.mark.parametrize(
    "field",
    ["uuid", "name_label", "enabled", "type", "retained_snapshots", "frequency", "schedule", "last_run_time", "VMs"],
)
def test_a_record_that_lacks_a_field_is_refused_by_the_fields_name(field: str) -> None:
    bad = record()
    del bad[field]
    assert refusal(bad) == "%s: missing from the record" % field


@pytest.mark.parametrize(
    "field, value, shown",
    [
        ("uuid", 7, "'7'"),
        ("uuid", None, "'None'"),
        ("name_label", ["x"], "'['x']'"),
        ("enabled", "true", "'true'"),
        ("enabled", 1, "'1'"),
        ("type", "backup", "'backup'"),
        ("type", "Snapshot", "'Snapshot'"),
        ("type", ["snapshot"], "'['snapshot']'"),
        ("type", {}, "'{}'"),
        ("frequency", "yearly", "'yearly'"),
        ("frequency", "", "''"),
        ("frequency", None, "'None'"),
        ("retained_snapshots", "0", "'0'"),
        ("retained_snapshots", "11", "'11'"),
        ("retained_snapshots", "-1", "'-1'"),
        ("retained_snapshots", "9223372036854775807", "'9223372036854775807'"),
        ("retained_snapshots", "9" * 30, "'" + "9" * 30 + "'"),
        ("retained_snapshots", 10**30, "'1" + "0" * 30 + "'"),
        ("retained_snapshots", "seven", "'seven'"),
        ("retained_snapshots", "", "''"),
        ("retained_snapshots", "7.0", "'7.0'"),
        ("retained_snapshots", 7.0, "'7.0'"),
        ("retained_snapshots", True, "'True'"),
        ("retained_snapshots", None, "'None'"),
        ("schedule", "daily", "'daily'"),
        ("schedule", None, "'None'"),
        ("schedule", [["min", "0"]], "'[['min', '0']]'"),
        ("last_run_time", "yesterday", "'yesterday'"),
        ("last_run_time", "", "''"),
        ("last_run_time", None, "'None'"),
        ("last_run_time", DateTime("20261301T00:00:00Z"), "'20261301T00:00:00Z'"),
        ("last_run_time", DateTime("20260230T00:00:00Z"), "'20260230T00:00:00Z'"),
        ("last_run_time", DateTime("20260101T25:00:00Z"), "'20260101T25:00:00Z'"),
        ("last_run_time", DateTime("20260101T00:00:00+99:00"), "'20260101T00:00:00+99:00'"),
        ("VMs", "OpaqueRef:1", "'OpaqueRef:1'"),
        ("VMs", ["OpaqueRef:1", None], "'['OpaqueRef:1', None]'"),
        ("VMs", {}, "'{}'"),
        ("VMs", None, "'None'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field_and_the_value(field: str, value: Any, shown: str) -> None:
    text = refusal(record(**{field: value}))
    assert text.startswith(field + ": ") and shown in text


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_last_run_that_no_calendar_has_in_utc_is_refused_like_any_other(text: str) -> None:
    assert refusal(record(last_run_time=DateTime(text))).startswith("last_run_time: '%s'" % text)


@pytest.mark.parametrize(
    "key, value, shown",
    [
        ("min", "10", "'10'"),
        ("min", "60", "'60'"),
        ("min", "-15", "'-15'"),
        ("min", "", "''"),
        ("min", " 15", "' 15'"),
        ("min", "15 ", "'15 '"),
        ("min", "quarter", "'quarter'"),
        ("min", None, "'None'"),
        ("min", 15.0, "'15.0'"),
        ("hour", "24", "'24'"),
        ("hour", "-1", "'-1'"),
        ("hour", "0x18", "'0x18'"),
        ("hour", "0x", "'0x'"),
        ("hour", "0b2", "'0b2'"),
        ("hour", "0o8", "'0o8'"),
        ("hour", "0xg", "'0xg'"),
        ("hour", "_1", "'_1'"),
        ("hour", "0x_1", "'0x_1'"),
        ("hour", "--1", "'--1'"),
        ("hour", "+-1", "'+-1'"),
        ("hour", "1e1", "'1e1'"),
        ("hour", "a", "'a'"),
        ("hour", "7\n", r"'7\x0a'"),
        ("hour", " 7", "' 7'"),
        ("hour", "\u0667", "'\u0667'"),
        ("hour", "0" * 30, "'" + "0" * 30 + "'"),
        ("hour", False, "'False'"),
        ("hour", ["7"], "'['7']'"),
        ("days", "", "''"),
        ("days", "Mon", "'Mon'"),
        ("days", "Monday,", "'Monday,'"),
        ("days", ",", "','"),
        ("days", "Monday;Friday", "'Monday;Friday'"),
        ("days", "Montag", "'Montag'"),
        ("days", None, "'None'"),
        ("days", ["Monday"], "'['Monday']'"),
        ("days", "Monday,Caturday", "'Monday,Caturday'"),
        ("days", 0, "'0'"),
    ],
)
def test_a_wrong_value_in_the_schedule_is_refused_with_its_key_and_the_value(key: str, value: Any, shown: str) -> None:
    text = refusal(weekly(**{key: value}))
    assert text.startswith("schedule:%s: " % key) and shown in text


@pytest.mark.parametrize(
    "value",
    ["line\nbreak", "\x1b[2J", "back\x85", "\u2028", "\u202eesrever", "\udcff", "x" * 100000, "'", "%s %d", "{0}"],
)
@pytest.mark.parametrize("field", ["type", "frequency", "retained_snapshots", "schedule", "last_run_time", "VMs"])
def test_hostile_text_is_refused_on_one_short_line(field: str, value: str) -> None:
    assert refusal(record(**{field: value})).startswith(field + ": ")


def test_a_refusal_says_what_would_have_been_right() -> None:
    assert refusal(record(type="backup")) == (
        "type: 'backup' is not one of snapshot, checkpoint, snapshot_with_quiesce"
    )
    assert refusal(record(schedule={"min": "10"})) == "schedule:min: '10' is not 0, 15, 30 or 45"
    assert refusal(record(retained_snapshots="11")) == "retained_snapshots: '11' is not within 1 to 10"


# When a policy is due


@pytest.mark.parametrize(
    "enabled, vms, due",
    [
        (True, ["OpaqueRef:1"], datetime(2026, 1, 31, 10, 15, tzinfo=UTC)),
        (False, ["OpaqueRef:1"], None),
        (True, [], None),
    ],
)
def test_only_an_enabled_policy_with_vms_is_due(enabled: bool, vms: Any, due: Optional[datetime]) -> None:
    policy = from_record(REF, record(enabled=enabled, VMs=vms))
    assert policy.due(UTC, datetime(2026, 1, 31, 11, 0, tzinfo=UTC)) == due


# Junk

texts = st.one_of(
    st.text(),
    st.text("0123456789-+:.TWZ ,", max_size=30),
    st.text("0123456789abcdefxobuXOBU_+-", max_size=12),
    st.sampled_from(["snapshot", "hourly", "daily", "weekly", "Monday", "7", "15", "20260130T10:17:03Z", "\udc80"]),
)
datetimes = st.one_of(
    st.datetimes(timezones=st.just(UTC)),
    st.sampled_from([datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)]),
)
times = st.one_of(
    texts,
    datetimes.map(str),
    st.builds(
        lambda moment, offset: moment.strftime("%Y%m%dT%H:%M:%S").zfill(17) + offset,
        datetimes,
        st.sampled_from(["", "Z", "+14:00", "-14:00", "+0530", "+23:59", "-23:59", "+24:00"]),
    ),
)
scalars = st.one_of(
    texts, times.map(DateTime), st.none(), st.booleans(), st.integers(), st.floats(), st.binary(), datetimes
)
junk = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner), st.dictionaries(texts, inner)), max_leaves=5)
schedule_maps = st.dictionaries(st.sampled_from(["min", "hour", "days", "moon"]), scalars)


def reads_or_refuses(bad: Dict[str, Any]) -> None:
    try:
        policy = from_record(REF, bad)
    except PolicyError as error:
        text = str(error)
        text.encode("utf-8")
        assert len(text.splitlines()) == 1 and len(text) < 1000
        assert text.split(":")[0] in RECORD
    else:
        assert isinstance(policy, Policy)
        assert 1 <= policy.retained <= 10
        assert policy.schedule.minute in (0, 15, 30, 45) and 0 <= policy.schedule.hour <= 23
        assert policy.schedule.days and policy.schedule.days <= frozenset(range(7))
        assert policy.last_run is None or policy.last_run.tzinfo is UTC


@given(st.dictionaries(st.sampled_from(sorted(RECORD)), junk))
@settings(deadline=None)
def test_a_record_of_junk_is_refused_and_nothing_else(fields: Dict[str, Any]) -> None:
    reads_or_refuses(fields)


@given(st.sampled_from(sorted(RECORD)), junk)
@settings(deadline=None, max_examples=200)
def test_junk_in_one_field_of_a_good_record_gives_a_policy_or_a_refusal(field: str, value: Any) -> None:
    reads_or_refuses(record(**{field: value}))


@given(times)
@settings(deadline=None, max_examples=300)
def test_any_last_run_gives_a_policy_or_a_refusal(value: str) -> None:
    reads_or_refuses(record(last_run_time=DateTime(value)))


@given(st.sampled_from(["hourly", "daily", "weekly"]), schedule_maps)
@settings(deadline=None, max_examples=200)
def test_junk_in_the_schedule_gives_a_policy_or_a_refusal(frequency: str, keys: Any) -> None:
    reads_or_refuses(record(frequency=frequency, schedule=keys))


@given(st.integers(0, 23), st.sampled_from(["%d", "%02d", "0x%x", "0X%X", "0o%o", "0u%d", "+%d"]))
def test_every_hour_in_every_notation_is_that_hour(hour: int, notation: str) -> None:
    assert from_record(REF, record(schedule={"hour": notation % hour})).schedule.hour == hour


# By what people type


KNOWN = [
    ("7b10ea29-ab0c-af14-a116-ae293560f404", "nightly"),
    ("7b10ea30-0000-0000-0000-000000000000", "Wochenende"),
    ("0123abcd-0000-0000-0000-000000000000", "7b10"),
    ("fedc0000-0000-0000-0000-000000000000", ""),
]


@pytest.mark.parametrize(
    "wanted, index",
    [("nightly", 0), (KNOWN[0][0], 0), (KNOWN[0][0].upper(), 0), ("7b10ea29", 0), ("7B10EA30-", 1)]
    + [("7b10", 2), ("0123", 2), ("FEDC", 3)],  # a name goes before the beginning of a uuid
)
def test_a_schedule_is_found_by_its_name_its_uuid_or_the_beginning_of_that(wanted: str, index: int) -> None:
    assert index_of(KNOWN, wanted) == index


@pytest.mark.parametrize("wanted", ["", "fed", "012", "nobody", "-", "0123abce", "x" * 5000, "\x1b[2J"])
def test_what_names_no_schedule_is_refused_with_the_names_that_there_are(wanted: str) -> None:
    with pytest.raises(UnknownPolicy, match="; there are '7b10', 'Wochenende' and 'nightly'$"):
        index_of(KNOWN, wanted)


def test_a_beginning_that_several_uuids_have_is_refused_with_the_candidates() -> None:
    with pytest.raises(BadInput) as caught:
        index_of(KNOWN, "7b10EA")
    assert str(caught.value) == (
        "the uuids of 2 snapshot schedules begin with '7b10EA'; give more of one: "
        "7b10ea29-ab0c-af14-a116-ae293560f404 (nightly), 7b10ea30-0000-0000-0000-000000000000 (Wochenende)"
    )


@pytest.mark.parametrize("wanted, meant", [("nigtly", "nightly"), ("NIGHTLY", "nightly"), ("wochenend", "Wochenende")])
def test_who_mistypes_a_name_is_asked_which_one_was_meant(wanted: str, meant: str) -> None:
    with pytest.raises(UnknownPolicy, match="the name '%s': did you mean '%s'\\?$" % (wanted, meant)):
        index_of(KNOWN, wanted)
    many = [("%08d-0000-0000-0000-000000000000" % number, "x%d" % number) for number in range(8)]
    with pytest.raises(UnknownPolicy, match="there are 'x0', 'x1', 'x2', 'x3', 'x4' and 3 more$"):
        index_of(many, "nightly")
