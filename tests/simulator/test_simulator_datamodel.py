"""The data model over the wire: what exists, in which shape, and in which order a call is checked."""

import json
import os
from typing import Any

import pytest
import XenAPI

import vmss.simulator
from vmss.simulator import Simulator, datamodel
from vmss.simulator.build import Pool

from .client import Client, Connect, Post, Serve

PATH = os.path.join(os.path.dirname(vmss.simulator.__file__), "datamodel.json")
with open(PATH, encoding="utf-8") as stream:
    MODEL = json.load(stream)
CLASSES = MODEL["classes"]
IN_DATABASE = [name for name, cls in CLASSES.items() if cls["in_database"]]
METHODS = ["%s.%s" % (name, m["name"]) for name, cls in CLASSES.items() for m in cls["methods"]]


def declared(wire_name: Any) -> Any:
    cls, _, name = wire_name.partition(".")
    return next(method for method in CLASSES[cls]["methods"] if method["name"] == name)


def failure(call: Any, *params: Any) -> Any:
    with pytest.raises(XenAPI.Failure) as caught:
        call(*params)
    return caught.value.details


@pytest.mark.parametrize("cls", [n for n in IN_DATABASE if n not in ("session", "VMPP")])
def test_each_record_has_exactly_the_wire_fields_with_their_types(
    sim: Simulator, pool: Pool, serve: Serve, connect: Connect, cls: Any
) -> None:
    sim.call("VM.snapshot", pool.session, pool.vms[0], "snap")
    policy = {"type": "snapshot", "frequency": "daily"}
    sim.call("VMSS.create", pool.session, policy)
    sim.call("task.create", pool.session, "label", "")
    xenapi = connect(serve(sim)).xenapi
    records = getattr(xenapi, cls).get_all_records()
    fields = {field["name"]: field["type"] for field in CLASSES[cls]["fields"] if not field["internal_only"]}
    assert records
    for record in records.values():
        assert list(record) == list(fields)
        for name, kind in fields.items():
            assert isinstance(record[name], python_type(kind)), name


def python_type(kind: Any) -> Any:
    import xmlrpc.client

    if kind.startswith("set("):
        return list
    if kind.startswith("map("):
        return dict
    simple = {"bool": bool, "float": float, "datetime": xmlrpc.client.DateTime}
    # Ints are sent as bare text.
    return simple.get(kind, str)


def test_a_session_record_has_exactly_the_wire_fields(sim: Simulator, serve: Serve, connect: Connect) -> None:
    session = connect(serve(sim), "someone")
    record = session.xenapi.session.get_record(session._session)
    assert list(record) == [f["name"] for f in CLASSES["session"]["fields"] if not f["internal_only"]]
    assert record["auth_user_name"] == "someone"


def test_every_method_of_the_model_exists_and_nothing_answers_with_an_invented_value(
    sim: Simulator, root: Client
) -> None:
    for name in METHODS:
        # Far too few parameters: the shape is checked first, so nothing runs.
        required = [p for p in declared(name)["params"][1:] if not p.get("optional")]
        if len(required) > 1:
            assert root.error(name)[:2] == ["MESSAGE_PARAMETER_COUNT_MISMATCH", name]


def test_every_removed_method_says_so_after_the_session_check(sim: Simulator, root: Client) -> None:
    for name in METHODS:
        method = declared(name)
        if method.get("removed"):
            params = [sample(p["type"], method) for p in method["params"][1:]]
            assert root.error(name, *params) == ["MESSAGE_REMOVED"], name


def sample(kind: Any, method: Any) -> Any:
    simple = {"int": "1", "bool": True, "datetime": "20260101T00:00:00Z", "float": 1.0}
    if kind.startswith("enum "):
        return MODEL["enums"][kind[5:]][0]
    if kind.startswith("set("):
        return []
    if kind.startswith("record "):
        return {f["name"]: sample(f["type"], method) for f in method["constructor_fields"]}
    return {} if kind.startswith("map(") else simple.get(kind, "text")


def test_what_is_not_implemented_is_named(root: Client, pool: Pool) -> None:
    assert root.error("VM.provision", pool.vms[0]) == ["NOT_IMPLEMENTED", "VM.provision"]


def test_async_forms_exist_exactly_where_the_model_says_so(root: Client, pool: Pool) -> None:
    assert root.error("Async.VM.get_record", pool.vms[0]) == [
        "Fault",
        "No async mode for this operation (rpc: Async.VM.get_record)",
    ]
    assert root.error("Async.VMSS.snapshot_now", "x")[0] == "Fault"
    assert root("Async.VM.update_allowed_operations", pool.vms[0]).startswith("OpaqueRef:")


def test_class_underscore_method_is_an_alias(root: Client, pool: Pool) -> None:
    assert root("VM_get_power_state", pool.vms[0]) == "Running"


def test_list_methods_is_a_bare_array(sim: Simulator, serve: Serve, connect: Connect, post: Post) -> None:
    status, _, body = post(serve(sim), "<methodCall><methodName>system.listMethods</methodName></methodCall>")
    assert status == 200
    assert b"<value>VMSS.create</value>" in body and b"Status" not in body
    assert body.count(b"<value>") == len(METHODS) + 1


def test_the_shape_is_checked_before_the_types_and_the_types_before_the_session(sim: Simulator) -> None:
    def error(*params: Any) -> Any:
        with pytest.raises(vmss.simulator.XapiError) as caught:
            sim.call(*params)
        return caught.value.details

    mismatch = "MESSAGE_PARAMETER_COUNT_MISMATCH"
    assert error("VM.get_record", "OpaqueRef:bad") == [mismatch, "VM.get_record", "1", "0"]
    assert error("pool.get_all_records") == [mismatch, "pool.get_all_records", "0", "-1"]
    assert error("pool.get_all_records", "OpaqueRef:bad", "extra") == [
        mismatch,
        "pool.get_all_records",
        "0",
        "1",
    ]
    assert error("session.login_with_password", "u") == [mismatch, "session.login_with_password", "2", "1"]
    assert error("VM.get_record", "bad", 5) == ["INTERNAL_ERROR", "Failure(\"Expected string, got 'I(5)'\")"]
    assert error("VM.get_record", "bad", "vm") == ["SESSION_INVALID", "bad"]
    assert error("VM.nonsense", "OpaqueRef:bad") == ["SESSION_INVALID", "OpaqueRef:bad"]
    assert error("VM.nonsense") == ["MESSAGE_METHOD_UNKNOWN", "VM.nonsense"]


def test_surplus_arguments_are_ignored_where_some_have_defaults(sim: Simulator) -> None:
    assert sim.call("session.login_with_password", "u", "", "1.0", "me", "surplus").startswith("OpaqueRef:")


def test_wrong_values_give_the_failures_of_the_rpc_library(root: Client) -> None:
    failures = {
        ("VMSS.set_enabled", "x", "true"): "Expected bool, got 'S(true)'",
        ("VMSS.set_retained_snapshots", "x", "abc"): "Int64.of_string",
        ("VMSS.set_type", "x", "bogus"): "Unknown tag/contents",
        ("VM.snapshot", "x", "name", "x"): "Expecting Rpc.Enum, but found 'S(x)'",
    }
    for call, text in failures.items():
        assert root.error(*call) == ["INTERNAL_ERROR", 'Failure("%s")' % text]


def test_ints_may_come_in_ocaml_notation_and_enums_in_any_case(root: Client) -> None:
    policy = {"type": "SNAPSHOT", "frequency": "Daily", "retained_snapshots": "0x_3"}
    ref = root("VMSS.create", {**policy, "retained_snapshots": "0x3"})
    assert root("VMSS.get_record", ref)["retained_snapshots"] == 3
    assert root("VMSS.get_type", ref) == "snapshot"


def test_constructors_ignore_what_they_do_not_know_and_refuse_what_is_missing(root: Client) -> None:
    missing = 'Server_helpers.Dispatcher_FieldNotFound("type")'
    assert root.error("VMSS.create", {"frequency": "daily"}) == ["INTERNAL_ERROR", missing]
    ref = root("VMSS.create", {"type": "snapshot", "frequency": "daily", "nofield": "x", "uuid": "zzz"})
    record = root("VMSS.get_record", ref)
    assert record["uuid"] != "zzz" and record["retained_snapshots"] == 7 and record["enabled"] is True


def test_references_and_uuids_that_lead_nowhere_are_named(root: Client, pool: Pool) -> None:
    host = root("host.get_all")[0]
    assert root.error("VM.get_record", host) == ["HANDLE_INVALID", "VM", host]
    assert root.error("VM.get_record", "OpaqueRef:NULL") == ["HANDLE_INVALID", "VM", "OpaqueRef:NULL"]
    assert root.error("VMSS.get_by_uuid", "nope") == ["UUID_INVALID", "VMSS", "nope"]
    assert root("VM.get_by_name_label", "nope") == []


def test_maps_and_sets_are_changed_key_by_key(root: Client, pool: Pool) -> None:
    ref = root("pool.get_all")[0]
    root("pool.add_to_other_config", ref, "k", "v")
    duplicate = ["MAP_DUPLICATE_KEY", "pool", "other_config", ref, "k"]
    assert root.error("pool.add_to_other_config", ref, "k", "v2") == duplicate
    root("pool.remove_from_other_config", ref, "nokey")
    root("pool.remove_from_other_config", ref, "k")
    assert "k" not in root("pool.get_other_config", ref)
    assert root.error("pool.add_to_other_config", ref, "", "v")[0] == "INTERNAL_ERROR"
    root("VM.add_tags", pool.vms[0], "a")
    root("VM.add_tags", pool.vms[0], "a")
    assert root("VM.get_tags", pool.vms[0]) == ["a"]


def test_datetimes_keep_their_offset_and_have_no_fraction(root: Client) -> None:
    ref = root("VMSS.create", {"type": "snapshot", "frequency": "daily"})
    for given, kept in (
        ("20261123T10:20:30Z", "20261123T10:20:30Z"),
        ("20261123T11:22:33", "20261123T11:22:33Z"),
        ("2026-11-23T12:00:00", "20261123T12:00:00Z"),
        ("20261123T13:00:00+02:00", "20261123T13:00:00+02:00"),
        ("20261123T13:00:00-03:30", "20261123T13:00:00-03:30"),
    ):
        root("VMSS.set_last_run_time", ref, given)
        assert vmss.simulator.values.date_text(root("VMSS.get_last_run_time", ref)) == kept
    assert root.error("VMSS.set_last_run_time", ref, "20261123T13:00:00.5Z")[0] == "INTERNAL_ERROR"
    assert root.error("VMSS.set_last_run_time", ref, "garbage")[0] == "INTERNAL_ERROR"


def test_the_model_is_loaded_once() -> None:
    assert datamodel.load() is datamodel.load()


def test_every_stored_value_is_of_its_fields_type(sim: Simulator, pool: Pool) -> None:
    sim.call("VM.checkpoint", pool.session, pool.running[0], "snap")
    for table in sim.db.tables.values():
        for row in table.rows.values():
            for field in table.stored:
                assert field.convert(row[field.name]) == row[field.name]
