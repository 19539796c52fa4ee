"""VMSS: the validation, the merge and the backup quirk of xapi's snapshot schedules."""

from datetime import datetime, timezone
from typing import Any, List

import pytest

from .client import Client

VALID = {"type": "snapshot", "frequency": "daily", "schedule": {"hour": "3", "min": "30"}}


def policy(root: Client, **changes: Any) -> Any:
    return root("VMSS.create", dict(VALID, **changes))


@pytest.mark.parametrize(
    "frequency, given, stored",
    [
        ("hourly", {}, {"min": "0"}),
        ("hourly", {"min": "45"}, {"min": "45"}),
        ("daily", {}, {"hour": "0", "min": "0"}),
        ("daily", {"hour": "5"}, {"hour": "5", "min": "0"}),
        ("daily", {"hour": "03"}, {"hour": "03", "min": "0"}),
        ("daily", {"hour": "0x10"}, {"hour": "0x10", "min": "0"}),
        ("daily", {"hour": "0b1"}, {"hour": "0b1", "min": "0"}),
        ("daily", {"hour": "1_0"}, {"hour": "1_0", "min": "0"}),
        ("weekly", {}, {"hour": "0", "min": "0", "days": "Monday"}),
        ("weekly", {"days": "monday,FRIDAY"}, {"hour": "0", "min": "0", "days": "Monday,Friday"}),
        ("weekly", {"days": "Friday,Monday"}, {"hour": "0", "min": "0", "days": "Friday,Monday"}),
    ],
)
def test_create_fills_in_defaults_and_keeps_values_as_written(
    root: Client, frequency: Any, given: Any, stored: Any
) -> None:
    ref = policy(root, frequency=frequency, schedule=given)
    assert root("VMSS.get_schedule", ref) == stored


@pytest.mark.parametrize(
    "frequency, given, error",
    [
        ("daily", {"hour": "3", "min": "25"}, ["schedule:min", "25"]),
        ("daily", {"min": "00"}, ["schedule:min", "00"]),
        ("daily", {"hour": "24"}, ["schedule:hour", "24"]),
        ("daily", {"hour": "-1"}, ["schedule:hour", "-1"]),
        ("daily", {"hour": " 3"}, ["schedule:hour", " 3"]),
        ("daily", {"hour": ""}, ["schedule:hour", ""]),
        ("daily", {"days": "Monday"}, ["schedule:days", "Monday"]),
        ("daily", {"foo": "bar"}, ["schedule:foo", "bar"]),
        ("daily", {"": "bar"}, ["schedule", "bar"]),
        ("hourly", {"hour": "1"}, ["schedule:hour", "1"]),
        ("weekly", {"days": "Sun"}, ["schedule:days", "Sun"]),
        ("weekly", {"days": "Monday, Friday"}, ["schedule:days", " Friday"]),
        ("weekly", {"days": "Monday,Monday"}, ["schedule:days", "Monday,Monday"]),
        ("weekly", {"days": ""}, ["schedule:days", ""]),
        ("weekly", {"days": "Monday,"}, ["schedule:days", ""]),
    ],
)
def test_create_refuses_bad_schedules_and_leaves_nothing_behind(
    root: Client, frequency: Any, given: Any, error: Any
) -> None:
    record = dict(VALID, frequency=frequency, schedule=given)
    assert root.error("VMSS.create", record) == ["INVALID_VALUE"] + error
    assert root("VMSS.get_all") == []


@pytest.mark.parametrize("count", ["0", "11", "-1"])
def test_one_to_ten_snapshots_may_be_retained(root: Client, count: Any) -> None:
    expected = ["INVALID_VALUE", "retained_snapshots", count]
    assert root.error("VMSS.create", dict(VALID, retained_snapshots=count)) == expected
    ref = policy(root, retained_snapshots="10")
    assert root.error("VMSS.set_retained_snapshots", ref, count) == expected
    root("VMSS.set_retained_snapshots", ref, 1)
    assert root("VMSS.get_retained_snapshots", ref) == 1


def test_a_new_policy_has_never_run(root: Client) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert root("VMSS.get_last_run_time", policy(root, last_run_time="20200101T00:00:00Z")) == epoch


def test_set_frequency_drops_and_adds_keys(root: Client) -> None:
    ref = policy(root, frequency="weekly", schedule={"hour": "6", "days": "Sunday"})
    root("VMSS.set_frequency", ref, "hourly")
    assert root("VMSS.get_schedule", ref) == {"min": "0"}
    root("VMSS.set_frequency", ref, "weekly")
    assert root("VMSS.get_schedule", ref) == {"hour": "0", "min": "0", "days": "Monday"}


def test_set_schedule_merges_and_never_removes(root: Client) -> None:
    ref = policy(root)
    root("VMSS.set_schedule", ref, {"min": "0"})
    assert root("VMSS.get_schedule", ref) == {"hour": "3", "min": "0"}
    root("VMSS.set_schedule", ref, {})
    assert root("VMSS.get_schedule", ref) == {"hour": "3", "min": "0"}
    # The legal keys are those of all frequencies here.
    root("VMSS.set_schedule", ref, {"days": "sunday"})
    assert root("VMSS.get_schedule", ref) == {"days": "Sunday", "hour": "3", "min": "0"}
    assert root.error("VMSS.set_schedule", ref, {"foo": "bar"}) == ["INVALID_VALUE", "schedule:foo", "bar"]


def test_of_several_bad_values_xapi_names_the_one_it_meets_first(root: Client) -> None:
    """Days are read from the right; keys that the policy does not have yet come before those that it has."""
    weekly = dict(VALID, frequency="weekly")
    for days, named in (("foo,bar", "bar"), ("foo,Monday,Monday", "foo,Monday,Monday"), ("Monday,foo,Friday", "foo")):
        refused = ["INVALID_VALUE", "schedule:days", named]
        assert root.error("VMSS.create", dict(weekly, schedule={"days": days})) == refused
    ref = policy(root)
    both = {"hour": "99", "foo": "bar"}
    assert root.error("VMSS.set_schedule", ref, both) == ["INVALID_VALUE", "schedule:foo", "bar"]


def test_a_bad_add_without_a_backup_is_an_internal_error(root: Client) -> None:
    ref = policy(root)
    assert root.error("VMSS.add_to_schedule", ref, "days", "Sun") == ["INTERNAL_ERROR", "Not_found"]
    assert root.error("VMSS.add_to_schedule", ref, "hour", "7") == ["INTERNAL_ERROR", "Not_found"]
    # Of whatever kind the failure is.
    assert root.error("VMSS.add_to_schedule", "OpaqueRef:bad", "hour", "7") == ["INTERNAL_ERROR", "Not_found"]
    root("VMSS.add_to_schedule", ref, "days", "sunday")
    assert root("VMSS.get_schedule", ref)["days"] == "Sunday"


def test_a_bad_add_after_a_remove_puts_the_old_value_back(root: Client) -> None:
    ref = policy(root)
    root("VMSS.remove_from_schedule", ref, "hour")
    assert root("VMSS.get_schedule", ref) == {"min": "30"}
    assert root.error("VMSS.add_to_schedule", ref, "hour", "25") == ["INVALID_VALUE", "schedule:hour", "25"]
    assert root("VMSS.get_schedule", ref)["hour"] == "3"
    root("VMSS.remove_from_schedule", ref, "hour")
    root("VMSS.add_to_schedule", ref, "hour", "6")
    duplicate = ["MAP_DUPLICATE_KEY", "VMSS", "schedule", ref, "hour"]
    assert root.error("VMSS.add_to_schedule", ref, "hour", "7") == duplicate
    assert root.error("VMSS.add_to_schedule", ref, "hour", "99") == duplicate
    root("VMSS.remove_from_schedule", ref, "nokey")


def test_the_backup_is_one_for_all_policies(root: Client) -> None:
    one, other = policy(root), policy(root, schedule={"hour": "9"})
    root("VMSS.remove_from_schedule", one, "hour")
    root("VMSS.remove_from_schedule", other, "hour")
    assert root.error("VMSS.add_to_schedule", one, "hour", "25")[0] == "INVALID_VALUE"
    assert root("VMSS.get_schedule", one)["hour"] == "9"


def test_without_the_licence_only_reading_names_and_enabling_work(root: Client) -> None:
    ref = policy(root)
    vm = root.vm()
    root("simulator.restrict", "VMSS", True)
    restricted = ["LICENCE_RESTRICTION", "VMSS"]
    calls: List[Any] = [
        ("VMSS.create", VALID),
        ("VMSS.destroy", ref),
        ("VMSS.set_type", ref, "checkpoint"),
        ("VMSS.set_frequency", ref, "hourly"),
        ("VMSS.set_schedule", ref, {}),
        ("VMSS.add_to_schedule", ref, "min", "0"),
        ("VMSS.remove_from_schedule", ref, "min"),
        ("VMSS.set_retained_snapshots", ref, "3"),
        ("VMSS.set_last_run_time", ref, "20260101T00:00:00Z"),
        ("VMSS.snapshot_now", ref),
        ("VM.set_snapshot_schedule", vm, ref),
        ("VM.set_snapshot_schedule", vm, "OpaqueRef:NULL"),
    ]
    for call in calls:
        assert root.error(*call) == restricted, call
    root("VMSS.set_enabled", ref, False)
    root("VMSS.set_name_label", ref, "renamed")
    assert root("VMSS.get_record", ref)["name_label"] == "renamed"
    host = root("host.get_all")[0]
    assert root("pool.get_restrictions", root("pool.get_all")[0])["restrict_vmss"] == "true"
    assert root("host.get_license_params", host)["restrict_vmss"] == "true"
    root("simulator.restrict", "vmss", False)
    root("VMSS.destroy", ref)


def test_quiesced_policies_need_a_feature_and_guests_that_no_longer_exist(root: Client) -> None:
    ref = policy(root, type="snapshot_with_quiesce")
    vm = root.vm()
    refused = ["VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", vm]
    assert root.error("VM.set_snapshot_schedule", vm, ref) == refused
    # A disk that starts afresh at each boot is found before.
    reset = root.vm("reset")
    disk = root.disk(reset, root.sr())
    root.sim.db.set("VDI", disk, "sm_config", {"on_boot": "reset"})
    unfit = ["VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION"]
    assert root.error("VM.set_snapshot_schedule", reset, ref) == unfit
    root("VMSS.set_type", ref, "snapshot")
    root("VM.set_snapshot_schedule", reset, ref)
    assert root.error("VMSS.set_type", ref, "snapshot_with_quiesce") == unfit
    root("VM.set_snapshot_schedule", reset, "")
    root("VM.set_snapshot_schedule", vm, ref)
    assert root.error("VMSS.set_type", ref, "snapshot_with_quiesce") == refused
    root("simulator.restrict", "VSS", True)
    quiesced = dict(VALID, type="snapshot_with_quiesce")
    assert root.error("VMSS.create", quiesced) == ["LICENCE_RESTRICTION", "VSS"]


def test_a_vm_has_one_schedule_and_not_every_vm_may_have_one(root: Client) -> None:
    one, other, vm = policy(root), policy(root), root.vm()
    root("VM.set_snapshot_schedule", vm, one)
    root("VM.set_snapshot_schedule", vm, other)
    assert root("VMSS.get_VMs", one) == [] and root("VMSS.get_VMs", other) == [vm]
    assert root.error("VM.set_is_a_template", vm, True) == ["VM_ASSIGNED_TO_SNAPSHOT_SCHEDULE", vm, other]
    template = root.vm("template", is_a_template=True)
    assert root.error("VM.set_snapshot_schedule", template, one) == ["VM_IS_TEMPLATE", template]
    dom0 = root("VM.get_all_where", 'field "is_control_domain" = "true"')[0]
    assert root.error("VM.set_snapshot_schedule", dom0, one) == ["INVALID_VALUE", one]
    assert root.error("VM.set_snapshot_schedule", vm, "OpaqueRef:bad") == ["INVALID_VALUE", "OpaqueRef:bad"]
    assert root.error("VM.set_snapshot_schedule", "bad", one) == ["HANDLE_INVALID", "VM", "bad"]
    assert root.error("VM.set_snapshot_schedule", "bad", "worse") == ["INVALID_VALUE", "worse"]
    # Taking a policy away is never wrong.
    for other in (template, dom0):
        root("VM.set_snapshot_schedule", other, "OpaqueRef:NULL")
    root("VM.set_snapshot_schedule", vm, "")
    assert root("VM.get_snapshot_schedule", vm) == "" and root("VMSS.get_VMs", one) == []
    # An empty reference is none: such a VM may become a template.
    root("VM.set_is_a_template", vm, True)


def test_destroying_a_policy_needs_no_vms_and_takes_its_messages_along(root: Client) -> None:
    ref, vm = policy(root), root.vm()
    uuid = root("VMSS.get_uuid", ref)
    root("message.create", "VMSS_SNAPSHOT_SUCCEEDED", "5", "VMSS", uuid, "body")
    kept = root("message.create", "OTHER", "5", "VM", root("VM.get_uuid", vm), "body")
    root("VM.set_snapshot_schedule", vm, ref)
    assert root.error("VMSS.destroy", ref) == ["VMSS_HAS_VM"]
    root("VM.set_snapshot_schedule", vm, "OpaqueRef:NULL")
    root("VMSS.destroy", ref)
    assert root.error("VMSS.destroy", ref) == ["HANDLE_INVALID", "VMSS", ref]
    assert root("message.get_all") == [kept]
