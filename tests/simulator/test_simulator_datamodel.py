"""The whole data model over the wire: what exists, in which shape, and in which order a call is checked."""

import json
import os
import re
import xmlrpc.client
from typing import Any, Dict, Iterator, List

import pytest

import vmss.simulator
from tests.simulation.share import share
from vmss.simulator import Simulator, datamodel, dispatch
from vmss.simulator.build import Pool
from vmss.simulator.values import ocaml_int

from .client import Post, Serve, UnixTransport, end_of_task

PATH = os.path.join(os.path.dirname(vmss.simulator.__file__), "datamodel.json")
with open(PATH, encoding="utf-8") as stream:
    MODEL = json.load(stream)
CLASSES = MODEL["classes"]
ROLES = MODEL["role_sets"]["ALL"]
METHODS = ["%s.%s" % (name, m["name"]) for name, cls in CLASSES.items() for m in cls["methods"]]
# Every method of VMPP is removed, so there is no object of it; events are not in the database.
WITH_RECORDS = [name for name in CLASSES if name not in ("VMPP", "event")]
IN_DATABASE = [name for name in WITH_RECORDS if CLASSES[name]["in_database"]]
CONSTRUCTED = [name for name in IN_DATABASE if any(m["kind"] == "constructor" for m in CLASSES[name]["methods"])]
KEYED = [name for name, cls in CLASSES.items() if any("map_key_roles" in m for m in cls["methods"])]

NOWHERE = "OpaqueRef:nowhere"
INVALID = "OpaqueRef:invalid"
MISMATCH = "MESSAGE_PARAMETER_COUNT_MISMATCH"
SESSION_INVALID = ["SESSION_INVALID", INVALID]
NOT_FOUND = 'Server_helpers.Dispatcher_FieldNotFound("%s")'
DENIED = "No permission in user session. (Roles with this permission: %s)"
INT = re.compile(r"-?[0-9]+$")
DATE = re.compile(r"[0-9]{8}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")

every_class = pytest.mark.parametrize("cls", share(CLASSES))


# --- the model ---


def methods_of(cls: str) -> Iterator[Any]:
    """The methods of a class by their wire names."""
    for method in CLASSES[cls]["methods"]:
        yield "%s.%s" % (cls, method["name"]), method


def parameters(method: Any) -> Any:
    """The parameters after the session."""
    return method["params"][1:] if has_session(method) else method["params"]


def has_session(method: Any) -> bool:
    return bool(method["params"]) and method["params"][0]["name"] == "session_id"


def required(method: Any) -> int:
    return sum(not parameter.get("optional") for parameter in parameters(method))


def role_list(roles: Any) -> Any:
    return MODEL["role_sets"][roles] if isinstance(roles, str) else roles


def constructor(cls: str) -> Any:
    return next(method for method in CLASSES[cls]["methods"] if method["kind"] == "constructor")


def fields_of(cls: str) -> Any:
    """The fields that clients see."""
    return [field for field in CLASSES[cls]["fields"] if not field["internal_only"]]


def report(found: List[str]) -> None:
    assert not found, "\n".join(found)


# --- values ---


def sample(kind: str, method: Any = None) -> Any:
    """A value of a type; references lead nowhere, so that no call does anything to an object."""
    if kind.startswith("enum "):
        return MODEL["enums"][kind[5:]][0]
    if kind.startswith("ref "):
        return NOWHERE
    if kind.startswith("set("):
        return [sample(kind[4:-1])]
    if kind.startswith("map("):
        key, item = kind[4:-1].split(",", 1)
        return {sample(key): sample(item)}
    if kind.startswith("record "):
        return minimal(method)
    return {"int": "1", "bool": True, "datetime": "20260101T00:00:00Z", "float": 1.0, "string": "text"}[kind]


def samples(method: Any) -> List[Any]:
    return [sample(parameter["type"], method) for parameter in parameters(method)]


def minimal(constructor: Any) -> Dict[str, Any]:
    """Only what a constructor insists on."""
    return {f["name"]: sample(f["type"]) for f in constructor["constructor_fields"] if f["required"]}


def wrong(kind: str) -> List[Any]:
    """Values that are not of a type, those that are not so deep inside too."""
    if kind.startswith("enum "):
        return ["no such value", 5, []]
    if kind.startswith("set("):
        return ["text", {}, 5] + [[value] for value in wrong(kind[4:-1])]
    if kind.startswith("map("):
        key, item = kind[4:-1].split(",", 1)
        names = [name for name in wrong(key) if isinstance(name, str)]
        values: List[Any] = ["text", [], 5] + [{sample(key): value} for value in wrong(item)]
        return values + [{name: sample(item)} for name in names]
    if kind.startswith("record "):
        return ["text", [], 5]
    return {
        "int": ["text", "", "1.5", [], True],
        "float": ["text", [], True],
        "bool": ["true", "1", 1, []],
        "datetime": ["text", "", 5, []],
    }.get(kind, [5, True, 1.5, [], {}, None])


def misfits(kind: str, value: Any) -> Iterator[str]:
    """What in a value is not of its type as the wire has it, down to the elements of sets and maps."""
    if kind.startswith("set(") and isinstance(value, list):
        for element in value:
            yield from misfits(kind[4:-1], element)
    elif kind.startswith("map(") and isinstance(value, dict):
        key, item = kind[4:-1].split(",", 1)
        for name, element in value.items():
            yield from misfits(key, name)
            yield from misfits(item, element)
    elif kind.startswith("record ") and kind[7:] in CLASSES:
        yield from record_misfits(kind[7:], value)
    elif not fits(kind, value):
        yield "%r is no %s" % (value, kind)


def fits(kind: str, value: Any) -> bool:
    # Ints are bare text on the wire, and a method without a result answers with an empty text.
    if kind.startswith("enum "):
        return value in MODEL["enums"][kind[5:]]
    if kind.startswith("ref "):
        return isinstance(value, str) and value.startswith("OpaqueRef:")
    if kind == "int":
        return isinstance(value, str) and INT.match(value) is not None
    if kind == "datetime":
        return isinstance(value, xmlrpc.client.DateTime) and DATE.match(value.value) is not None
    return isinstance(value, {"string": str, "bool": bool, "float": float}.get(kind, ()))


def record_misfits(cls: str, record: Any) -> Iterator[str]:
    fields = {field["name"]: field["type"] for field in fields_of(cls)}
    if list(record) != list(fields):
        yield "%s record has %s, not %s" % (cls, list(record), list(fields))
    for name, kind in fields.items():
        # Where the storage manager made the VDI this is empty: recorded from a real xapi.
        if name not in record or (name == "metadata_of_pool" and record[name] == ""):
            continue
        for misfit in misfits(kind, record[name]):
            yield "%s.%s: %s" % (cls, name, misfit)


def on_wire(kind: str, value: Any) -> Any:
    """A default of the model as a client sees it."""
    if kind.startswith("set("):
        return [on_wire(kind[4:-1], element) for element in value]
    if kind.startswith("map("):
        key, item = kind[4:-1].split(",", 1)
        return {on_wire(key, name): on_wire(item, element) for name, element in value.items()}
    if kind == "datetime":
        return xmlrpc.client.DateTime(value)
    return str(value) if kind == "int" else float(value) if kind == "float" else value


# --- the wire ---


class Wire:
    """Calls over the unix socket, each with the session it is given; the answers as they come."""

    def __init__(self, path: Any) -> None:
        self.proxy = xmlrpc.client.ServerProxy("http://localhost", transport=UnixTransport(path), allow_none=True)
        self.root = self.login()

    def answer(self, name: str, *params: Any) -> Any:
        return getattr(self.proxy, name)(*params)

    def error(self, name: str, *params: Any) -> Any:
        """The error of a call; nothing if it succeeds."""
        return self.answer(name, *params).get("ErrorDescription", [])

    def value(self, name: str, *params: Any) -> Any:
        answer = self.answer(name, *params)
        assert answer["Status"] == "Success", (name, answer)
        return answer["Value"]

    def __call__(self, name: str, *params: Any) -> Any:
        """The value of a call by root."""
        return self.value(name, self.root, *params)

    def login(self) -> Any:
        return self.value("session.login_with_password", "root", "")

    def role_session(self, role: str) -> Any:
        return self("simulator.create_session", "somebody", role)

    def ended(self, task: str) -> Any:
        """The record of a task when it has ended."""
        return end_of_task(self, task)

    def records(self, cls: str) -> Any:
        if cls == "session":
            return {self.root: self("session.get_record", self.root)}
        return self(cls + ".get_all_records")


@pytest.fixture
def wire(sim: Simulator, serve: Serve, caplog: Any) -> Iterator[Wire]:
    """A client of a fresh pool. An exception nobody foresaw would pass for a refusal, but is logged."""
    client = Wire(serve(sim).socket_path)
    yield client
    client.proxy("close")()
    assert [record.getMessage() for record in caplog.get_records("call")] == []


@pytest.fixture
def world(wire: Wire, pool: Pool) -> Wire:
    """A pool with an object of every class, in more than one state."""
    policy = wire("VMSS.create", {"type": "snapshot", "frequency": "weekly"})
    wire("VM.set_snapshot_schedule", pool.vms[0], policy)
    wire("VM.snapshot", pool.vms[0], "snapshot")
    wire("VM.checkpoint", pool.running[0], "checkpoint")
    wire("VM.suspend", pool.running[1])
    wire("task.create", "label", "description")
    wire.ended(wire("Async.VM.clone", NOWHERE, "clone"))
    wire.ended(wire("Async.VM.clone", pool.vms[2], "clone"))
    return wire


# --- objects ---

# The fields that something sets when an object is made, whatever default they have
# (docs/xapi-facts.md, The data model).
SET: Dict[str, Any] = {
    "session": ["auth_user_name", "is_local_superuser", "validation_time"],
    "pool": ["restrictions", "ha_cluster_stack", "allowed_operations", "ext_auth_cache_enabled"],
    "host": ["allowed_operations", "edition", "virtual_hardware_platform_versions", "control_domain", "timezone"],
    "host_metrics": ["memory_free"],
    "SR": ["allowed_operations"],
    "SM": ["name_label", "name_description", "capabilities", "features", "driver_filename"],
    "VM": ["allowed_operations", "memory_overhead", "hardware_platform_version", "domain_type"],
    "VM_guest_metrics": ["live", "PV_drivers_detected"],
    "VBD": ["allowed_operations", "metrics"],
    "VDI": ["allowed_operations", "location", "metadata_of_pool"],
    "VMSS": ["schedule"],
}


@pytest.mark.parametrize("cls", WITH_RECORDS)
def test_each_record_has_exactly_the_wire_fields_with_their_types(world: Wire, cls: str) -> None:
    records = world.records(cls)
    assert records
    found: List[str] = []
    for ref, record in records.items():
        found += misfits("ref " + cls, ref)
        found += record_misfits(cls, record)
    report(found)


@pytest.mark.parametrize("cls", WITH_RECORDS)
def test_every_way_to_read_an_object_agrees(world: Wire, cls: str) -> None:
    records = world.records(cls)
    found: List[str] = []
    for name, wanted in list(bulk_reads(cls, records)) + list(single_reads(cls, records)):
        call, params = name
        got = world.answer(call, world.root, *params)
        if call not in METHODS:
            wanted = {"Status": "Failure", "ErrorDescription": ["MESSAGE_METHOD_UNKNOWN", call]}
        if got != wanted:
            found.append("%s%s is %s, not %s" % (call, params, got, wanted))
    report(found)


def success(value: Any) -> Any:
    return {"Status": "Success", "Value": value}


def bulk_reads(cls: str, records: Any) -> Iterator[Any]:
    """Calls for all objects of a class, the hidden ones too, and what they give."""
    for query, wanted in (("true", records), ("false", {})):
        yield (cls + ".get_all_where", (query,)), success(list(wanted))
        yield (cls + ".get_all_records_where", (query,)), success(wanted)
    yield (cls + ".get_all", ()), success(list(records))
    yield (cls + ".get_all_records", ()), success(records)


def single_reads(cls: str, records: Any) -> Iterator[Any]:
    """Calls for single objects and single fields, and what they give."""
    for ref, record in records.items():
        yield (cls + ".get_record", (ref,)), success(record)
        yield (cls + ".get_by_uuid", (record["uuid"],)), success(ref)
    removed = {method["name"] for method in CLASSES[cls]["methods"] if method.get("removed")}
    for field in CLASSES[cls]["fields"]:
        name = "get_" + field["name"]
        for ref, record in list(records.items())[-2:]:
            failure = {"Status": "Failure", "ErrorDescription": ["MESSAGE_REMOVED"]}
            yield (cls + "." + name, (ref,)), failure if name in removed else success(record.get(field["name"]))


@pytest.mark.parametrize("cls", [name for name in IN_DATABASE if name + ".get_by_name_label" in METHODS])
def test_objects_are_found_by_their_names(world: Wire, cls: str) -> None:
    records = world.records(cls)
    for label in {record["name_label"] for record in records.values()}:
        named = {ref for ref, record in records.items() if record["name_label"] == label}
        assert set(world(cls + ".get_by_name_label", label)) == named
    assert world(cls + ".get_by_name_label", "nobody's name") == []


def test_events_carry_whole_records_and_internal_fields_are_in_none(world: Wire) -> None:
    events = world("event.from", ["*"], "", 1.0)["events"]
    by_lower = {name.lower(): name for name, cls in CLASSES.items() if cls["gen_events"]}
    assert {event["class"] for event in events} == set(by_lower) - {"vmpp"}
    found: List[str] = []
    for event in events:
        assert list(event) == ["id", "timestamp", "class", "operation", "ref", "snapshot"]
        assert INT.match(event["id"]) and event["timestamp"] == "0.0"
        assert event["operation"] in MODEL["enums"]["event_operation"]
        found += record_misfits(by_lower[event["class"]], event["snapshot"])
    report(found)


# --- accessors ---

SETTERS = {"map": ("set_", "add_to_", "remove_from_"), "set": ("set_", "add_", "remove_")}


@every_class
def test_accessors_are_those_the_model_lists(wire: Wire, cls: str) -> None:
    found: List[str] = []
    for field in CLASSES[cls]["fields"]:
        if field["qualifier"] == "RW" and not field["internal_only"]:
            for prefix in SETTERS.get(field["type"].split("(")[0], ("set_",)):
                if "%s.%s%s" % (cls, prefix, field["name"]) not in METHODS:
                    found.append("the model lacks %s.%s%s" % (cls, prefix, field["name"]))
        for prefix in ("get_", "set_", "add_", "remove_", "add_to_", "remove_from_"):
            name = "%s.%s%s" % (cls, prefix, field["name"])
            unknown = wire.error(name, wire.root) == ["MESSAGE_METHOD_UNKNOWN", name]
            if unknown == (name in METHODS):
                found.append("%s is %s" % (name, "unknown" if unknown else "known"))
    report(found)


@pytest.mark.parametrize("cls", IN_DATABASE)
def test_fields_that_may_be_written_keep_what_is_written(world: Wire, pool: Pool, cls: str) -> None:
    ref = pool.vms[5] if cls == "VM" else list(world.records(cls))[0]
    found: List[str] = []
    for field in fields_of(cls):
        if field["qualifier"] == "RW":
            found += unkept(world, cls, ref, field["name"], field["type"])
    report(found)


def unkept(wire: Wire, cls: str, ref: str, name: str, kind: str) -> Iterator[str]:
    """Write a field in every way there is; what cannot be read back."""
    value: Any = "OpaqueRef:NULL" if kind.startswith("ref ") else sample(kind)
    more = {"map": {"k": "v"}, "set": ["more"]}.get(kind.split("(")[0])
    steps: List[Any] = [("set_", (value,), value)]
    if kind == "bool":
        steps.append(("set_", (False,), False))
    elif isinstance(more, dict):
        key, item = next(iter(value.items()))
        steps = [("set_", ({},), {}), ("add_to_", (key, item), value), ("remove_from_", (key,), {})] + steps
    elif isinstance(more, list):
        steps += [("add_", more, value + more), ("remove_", value, more)]
    for prefix, params, wanted in steps:
        error = wire.error("%s.%s%s" % (cls, prefix, name), wire.root, ref, *params)
        got = error or wire("%s.get_%s" % (cls, name), ref)
        if got != wanted:
            yield "%s.%s%s%s gives %s, not %s" % (cls, prefix, name, params, got, wanted)


# --- shapes ---


# Of a suspended VM, and the disk is checked.
CHECKED_REFERENCES = {"VM.set_suspend_VDI"}


def test_an_empty_reference_is_kept_as_it_was_written(world: Wire) -> None:
    found: List[str] = []
    for name, method in [pair for cls in WITH_RECORDS for pair in methods_of(cls)]:
        cls, _, setter = name.partition(".")
        types = [parameter["type"] for parameter in method["params"][2:]]
        if not setter.startswith("set_") or len(types) != 1 or not types[0].startswith("ref "):
            continue
        if special(method) or name in CHECKED_REFERENCES:
            continue
        for ref in world(cls + ".get_all")[:3]:
            before = world("%s.get_%s" % (cls, setter[4:]), ref)
            for value in ("", "OpaqueRef:NULL", ""):
                world(name, ref, value)
                kept = world("%s.get_%s" % (cls, setter[4:]), ref)
                if kept != value or world(cls + ".get_record", ref)[setter[4:]] != value:
                    found.append("%s of %r is %r" % (name, value, kept))
            world(name, ref, before)
    report(found)


@every_class
def test_the_number_of_parameters_is_checked_first(wire: Wire, cls: str) -> None:
    found: List[str] = []
    for name, method in methods_of(cls):
        extra = 1 if has_session(method) else 0
        total, needed = len(parameters(method)), required(method)
        surplus = [total + 1, total + 2] if needed == total else []
        for count in list(range(-extra, needed)) + surplus:
            for call in [name, "Async." + name] if method["async"] else [name]:
                # Ints fit none of the types in question, the session least of all.
                got = wire.error(call, *[5] * (extra + count))
                wanted = [MISMATCH, name, str(needed), str(count)]
                if got != wanted:
                    found.append("%s with %d parameters: %s, not %s" % (call, count, got, wanted))
    report(found)


@every_class
def test_defaulted_parameters_may_be_left_off_and_then_surplus_ones_are_ignored(wire: Wire, cls: str) -> None:
    found: List[str] = []
    for name, method in methods_of(cls):
        total, needed = len(parameters(method)), required(method)
        session, wanted = ([INVALID], SESSION_INVALID) if has_session(method) else ([], [])
        for count in range(needed, total + 3 if needed < total else needed):
            got = wire.error(name, *(session + samples(method) + ["surplus", 5])[: len(session) + count])
            if got != wanted:
                found.append("%s with %d parameters: %s, not %s" % (name, count, got, wanted))
    report(found)


@every_class
def test_each_method_may_be_called_with_an_underscore_for_the_dot(wire: Wire, cls: str) -> None:
    found: List[str] = []
    for name, _ in methods_of(cls):
        # Without parameters an unknown method is named before any session is looked at.
        got = wire.error(name.replace(".", "_"))
        if got[0] != MISMATCH:
            found.append("%s: %s" % (name.replace(".", "_"), got))
    report(found)


# --- types ---


@every_class
def test_a_value_of_a_wrong_type_is_refused_before_the_session_is_looked_at(wire: Wire, cls: str) -> None:
    found: List[str] = []
    for name, method in methods_of(cls):
        session = [INVALID] if has_session(method) else []
        for params in wrong_calls(method):
            got = wire.error(name, *session + params)
            # Of a removed method's parameters only the session is ever read (xapi: gen_server.ml).
            right = got == SESSION_INVALID if method.get("removed") else is_internal_error(got)
            if not right:
                found.append("%s%s: %s" % (name, tuple(params), got))
        for value in wrong("ref session") if session else ():
            got = wire.error(name, value, *samples(method))
            if not is_internal_error(got):
                found.append("%s with session %r: %s" % (name, value, got))
    report(found)


def is_internal_error(error: Any) -> bool:
    return len(error) == 2 and error[0] == "INTERNAL_ERROR" and error[1] != ""


def wrong_calls(method: Any) -> Iterator[List[Any]]:
    """The parameters of calls in which one value, and only one, is of a wrong type."""
    for position, parameter in enumerate(parameters(method)):
        for value in wrong(parameter["type"]):
            params = samples(method)
            params[position] = value
            yield params
    for field in method.get("constructor_fields", ()):
        for value in wrong(field["type"]):
            yield [dict(minimal(method), **{field["name"]: value})]


# --- sessions ---


@every_class
def test_an_invalid_session_is_named_by_every_method_and_its_async_form(wire: Wire, cls: str) -> None:
    logged_out = wire.login()
    wire.value("session.logout", logged_out)
    found: List[str] = []
    for name, method in methods_of(cls):
        for session in (INVALID, logged_out, "", "OpaqueRef:NULL") if has_session(method) else ():
            for call in (name, "Async." + name):
                got = wire.error(call, session, *samples(method))
                if got != ["SESSION_INVALID", session]:
                    found.append("%s with session %r: %s" % (call, session, got))
    report(found)


# --- roles ---


def denial(permission: str, roles: Any) -> Any:
    return ["RBAC_PERMISSION_DENIED", permission.lower(), DENIED % ", ".join(role_list(roles))]


@every_class
def test_a_role_that_a_method_does_not_list_is_denied_and_one_it_lists_is_not(wire: Wire, cls: str) -> None:
    found: List[str] = []
    sessions: Dict[str, Any] = {}
    for name, method in methods_of(cls):
        for role in ROLES if has_session(method) else ():
            if role not in sessions or cls == "session":
                # Some methods of this class end the session they are called with.
                sessions[role] = wire.role_session(role)
            got = wire.error(name, sessions[role], *samples(method))
            if not is_right_for_role(name, method, role, got):
                found.append("%s as %s: %s" % (name, role, got))
    report(found)


def is_right_for_role(name: str, method: Any, role: str, error: Any) -> bool:
    # Both are decided together with the session, before roles are (xapi: gen_server.ml, session_check.ml).
    if method.get("removed"):
        return bool(error == ["MESSAGE_REMOVED"])
    if method.get("pool_internal"):
        return is_internal_error(error)
    if role in role_list(method["roles"]):
        return "RBAC_PERMISSION_DENIED" not in error
    return bool(error == denial(name, method["roles"]))


@pytest.mark.parametrize("cls", KEYED)
def test_protected_keys_of_maps_have_roles_of_their_own(wire: Wire, cls: str) -> None:
    found: List[str] = []
    for role in ROLES:
        session = wire.role_session(role)
        for name, method in methods_of(cls):
            # Only where a key is given; a setter gives a whole map.
            keyed = len(parameters(method)) > 1 and parameters(method)[1]["name"] == "key"
            for key, roles in method.get("map_key_roles", {}).items() if keyed else ():
                got = wire.error(name, session, NOWHERE, key.replace("*", "x"), *samples(method)[2:])
                permission = "%s/key:%s" % (name, key)
                allowed = role in role_list(roles)
                if allowed == ("RBAC_PERMISSION_DENIED" in got) or not (allowed or got == denial(permission, roles)):
                    found.append("%s of %s as %s: %s" % (name, key, role, got))
    report(found)


def test_a_key_is_protected_only_as_it_is_spelt(wire: Wire) -> None:
    session = wire.role_session("vm-operator")
    for key in ("Folder", "folder2", "XenCenter.CustomField"):
        got = wire.error("pool.add_to_other_config", session, NOWHERE, key, "value")
        assert got == denial("pool.add_to_other_config", "POOL_OP")


# --- removed and internal methods, async forms ---


@every_class
def test_removed_and_pool_internal_methods_say_so_to_root_too(wire: Wire, cls: str) -> None:
    found: List[str] = []
    for name, method in methods_of(cls):
        for call in (name, "Async." + name):
            got = wire.error(call, wire.root, *samples(method)) if special(method) else []
            if method.get("removed") and got != ["MESSAGE_REMOVED"]:
                found.append("%s: %s" % (call, got))
            if method.get("pool_internal") and not is_internal_error(got):
                found.append("%s: %s" % (call, got))
    report(found)


def special(method: Any) -> bool:
    return bool(method.get("removed") or method.get("pool_internal"))


@every_class
def test_async_forms_exist_exactly_where_the_model_says_so(wire: Wire, cls: str) -> None:
    found: List[str] = []
    for name, method in methods_of(cls):
        if has_session(method) and not method["async"] and not special(method):
            got = wire.error("Async." + name, wire.login(), *samples(method))
            if got != ["Fault", "No async mode for this operation (rpc: Async.%s)" % name]:
                found.append("Async.%s: %s" % (name, got))
    report(found)


@every_class
def test_what_comes_of_an_async_call_is_in_its_task(wire: Wire, cls: str) -> None:
    sessions = {role: wire.role_session(role) for role in ROLES}
    found: List[str] = []
    for name, method in methods_of(cls):
        if method["async"] and not special(method):
            denied = [role for role in ROLES if role not in role_list(method["roles"])]
            for session in [wire.root] + [sessions[role] for role in denied]:
                found += untold(wire, name, session, samples(method))
    report(found)


def untold(wire: Wire, name: str, session: str, params: List[Any]) -> Iterator[str]:
    """What the task of an async call does not tell, although the plain call told it its caller."""
    plain = wire.error(name, session, *params)
    answer = wire.answer("Async." + name, session, *params)
    task = answer.get("Value", "")
    if not fits("ref task", task):
        yield "Async.%s answers %s" % (name, answer)
        return
    record = wire.ended(task)
    wanted = ["Async." + name, "failure" if plain else "success", plain, 1.0, []]
    got = [record[key] for key in ("name_label", "status", "error_info", "progress", "allowed_operations")]
    is_value = re.match("<value>.*</value>$", record["result"]) is not None
    if got != wanted or is_value == bool(plain):
        yield "Async.%s: %s with result %r, not %s" % (name, got, record["result"], wanted)
    yield from record_misfits("task", record)


@every_class
def test_root_may_do_everything_and_gets_results_of_the_declared_types(wire: Wire, cls: str) -> None:
    found: List[str] = []
    for name, method in methods_of(cls):
        if has_session(method):
            answer = wire.answer(name, wire.login(), *samples(method))
            if "RBAC_PERMISSION_DENIED" in answer.get("ErrorDescription", ()):
                found.append("%s: %s" % (name, answer))
            if "Value" in answer and method["result"] is None and answer["Value"] != "":
                found.append("%s without a result answers %r" % (name, answer["Value"]))
            if "Value" in answer and method["result"] is not None:
                found += ["%s: %s" % (name, misfit) for misfit in misfits(method["result"], answer["Value"])]
    report(found)


# --- constructors ---


@pytest.mark.parametrize("cls", CONSTRUCTED)
def test_constructors_refuse_what_lacks_a_required_member(wire: Wire, cls: str) -> None:
    record = minimal(constructor(cls))
    found: List[str] = []
    for position, member in enumerate(record):
        for left in (set(record) - {member}, set(list(record)[:position])):
            given = {name: value for name, value in record.items() if name in left}
            got = wire.error(cls + ".create", INVALID, dict(given, nofield="text"))
            if got != ["INTERNAL_ERROR", NOT_FOUND % member]:
                found.append("%s.create without %s: %s" % (cls, member, got))
    report(found)


@pytest.mark.parametrize("cls", IN_DATABASE)
def test_a_fresh_object_has_the_defaults_of_the_model(wire: Wire, cls: str) -> None:
    record = fresh(wire, cls)
    found: List[str] = []
    for field in fields_of(cls):
        if field["has_default"] and field["name"] not in SET.get(cls, ()):
            wanted = on_wire(field["type"], field["default"])
            if record[field["name"]] != wanted:
                found.append("%s.%s is %r, not %r" % (cls, field["name"], record[field["name"]], wanted))
    report(found)


def fresh(wire: Wire, cls: str) -> Any:
    """The record of an object made with as little as it takes."""
    refs = {"session": wire.root, "task": wire("task.create", "", "")}
    refs.update((name, wire(name + ".get_all")[0]) for name in ("pool", "SM"))
    sr = wire("SR.create", wire("host.get_all")[0], {}, "0", "", "", "ext", "", False, {})
    refs["host"] = wire("host.create", "", "", "", "", "192.0.2.9")
    refs["host_metrics"] = wire("host.get_metrics", refs["host"])
    refs["SR"] = sr
    refs["PBD"] = create(wire, "PBD", SR=sr, host=refs["host"])
    refs["VDI"] = create(wire, "VDI", SR=sr)
    refs["VM"] = create(wire, "VM", is_a_template=False, affinity="OpaqueRef:NULL")
    refs["VBD"] = create(wire, "VBD", VM=refs["VM"], VDI=refs["VDI"], userdevice="0", empty=False)
    refs["VMSS"] = create(wire, "VMSS")
    record = wire("VM.get_record", refs["VM"])
    if cls == "VM_guest_metrics":
        wire("VM.start", refs["VM"], False, False)
    for metrics in ("metrics", "guest_metrics"):
        refs["VM_" + metrics] = wire("VM.get_" + metrics, refs["VM"])
    return record if cls == "VM" else wire(cls + ".get_record", refs[cls])


def create(wire: Wire, cls: str, **members: Any) -> Any:
    """Make an object; what its constructor does not know is ignored."""
    return wire(cls + ".create", dict(minimal(constructor(cls)), nofield="text", **members))


# --- what the walks above do not reach ---


def test_the_methods_listed_are_those_of_the_model_hidden_ones_too(wire: Wire) -> None:
    names = wire.answer("system.listMethods")
    # A real xapi lists those of classes that are not in the model as well.
    assert sorted(name for name in names if name.split(".")[0] in CLASSES) == sorted(METHODS)
    assert len(names) == len(set(names))


def test_list_methods_is_a_bare_array(sim: Simulator, serve: Serve, post: Post) -> None:
    status, _, body = post(serve(sim), "<methodCall><methodName>system.listMethods</methodName></methodCall>")
    assert status == 200
    assert b"<value>VMSS.create</value>" in body and b"Status" not in body
    assert all(b"<value>%s</value>" % name.encode() in body for name in METHODS)
    assert body.count(b"<array>") == 1 and body.count(b"<value>") > len(METHODS)


# Of these the coordinator reads the host's record; all other calls are forwarded to the host.
READ_HOST = {"host.power_on", "host.reset_networking", "host.declare_dead", "host.sync_data", "host.migrate_receive",
             "host.get_vms_which_prevent_evacuation", "host.retrieve_wlb_evacuate_recommendations",
             "host.create_new_blob", "host.apply_updates", "host.allocate_resources_for_vm",
             "host.get_management_interface"}  # fmt: skip


def bad_reference(cls: str, kind: str, name: str) -> Any:
    """What xapi says of a reference that leads nowhere, as the first parameter; nothing if it does not look at it."""
    if kind == "ref host" and cls in ("host", "SR"):
        return ["HANDLE_INVALID", "host", NOWHERE] if name in READ_HOST else ["HOST_OFFLINE", NOWHERE]
    read = cls in ("VM", "VDI", "VBD", "SR") and kind == "ref " + cls
    return ["HANDLE_INVALID", cls, NOWHERE] if read else []


@every_class
def test_what_is_not_implemented_says_so_where_xapi_would_begin(wire: Wire, pool: Pool, cls: str) -> None:
    """Parameters, session, role and the kinds of calls are checked above, for all methods."""
    lacking = [(name, method) for name, method in methods_of(cls) if name not in implemented() and not special(method)]
    reader = wire.role_session("read-only")
    some = {"ref " + name: wire(name + ".get_all")[0] for name in ("host", "VM", "VDI", "VBD", "SR", "pool")}
    found: List[str] = []
    for name, method in lacking:
        if not has_session(method):
            continue
        kinds = [parameter["type"] for parameter in parameters(method)]
        bad = samples(method)
        good = [some.get(kind, value) for kind, value in zip(kinds, bad)]
        lacks = ["NOT_IMPLEMENTED", name]
        wanted = [(good, lacks), (bad, bad_reference(cls, kinds[0] if kinds else "", name) or lacks)]
        for params, error in wanted:
            got = wire.error(name, wire.root, *params)
            if got != error:
                found.append("%s%s: %s, not %s" % (name, params, got, error))
            if method["async"]:
                record = wire.ended(wire("Async." + name, *params))
                if record["error_info"] != error:
                    found.append("Async.%s%s: %s, not %s" % (name, params, record["error_info"], error))
        if "read-only" not in role_list(method["roles"]):
            denied = wire.error(name, reader, *bad)
            if denied != denial(name, method["roles"]):
                found.append("%s as a reader: %s" % (name, denied))
    report(found)


def implemented() -> Any:
    return dispatch.methods_of(datamodel.load()).handlers


def test_a_host_that_is_not_there_is_offline_for_all_that_is_forwarded_to_it(wire: Wire, pool: Pool) -> None:
    forwarded: Dict[str, List[Any]] = {
        "get_server_certificate": [], "get_servertime": [], "get_server_localtime": [], "enable": [], "disable": [],
        "restart_agent": [], "has_extension": ["x"], "call_extension": ["x"], "call_plugin": ["x", "x", {}],
    }  # fmt: skip
    for name, rest in forwarded.items():
        assert wire.error("host." + name, wire.root, NOWHERE, *rest) == ["HOST_OFFLINE", NOWHERE], name
    assert wire.error("pool.eject", wire.root, NOWHERE) == ["HOST_OFFLINE", NOWHERE]
    for name in ("shutdown", "reboot", "evacuate", "assert_can_evacuate", "get_uuid"):
        assert wire.error("host." + name, wire.root, NOWHERE) == ["HANDLE_INVALID", "host", NOWHERE], name


def test_classes_without_objects_have_no_object_that_is_named(wire: Wire) -> None:
    for name, params, error in (
        ("network.get_record", [], ["MESSAGE_PARAMETER_COUNT_MISMATCH", "network.get_record", "1", "0"]),
        ("network.get_all", ["x"], ["MESSAGE_PARAMETER_COUNT_MISMATCH", "network.get_all", "0", "1"]),
        ("network.get_record", [5], ["INTERNAL_ERROR", "Failure(\"Expected string, got 'I(5)'\")"]),
        ("network.get_record", ["x"], ["SESSION_INVALID", INVALID]),
    ):
        assert wire.error(name, INVALID, *params) == error
    for name in ("network.get_bridge", "VIF.set_other_config", "PIF.add_to_other_config", "VGPU.destroy"):
        params = ["x"] if name == "VGPU.destroy" else ["x", "y", "z"]
        assert wire.error(name, wire.root, *params) == ["HANDLE_INVALID", name.split(".")[0], "x"]
    lacking = ["network.create", "Caller.create", "Rate_limit.create", "role.get_by_permission", "Diagnostics.gc_stats"]
    for name in lacking:
        assert wire.error(name, wire.root, "x") == ["NOT_IMPLEMENTED", name]
    assert wire("VM_appliance.get_all") == [] and wire("Rate_limit.get_all_records") == {}


def test_unknown_methods_are_named_after_the_session_check(wire: Wire) -> None:
    assert wire.error("VM.nonsense", INVALID) == SESSION_INVALID
    assert wire.error("VM.nonsense", wire.root) == ["MESSAGE_METHOD_UNKNOWN", "VM.nonsense"]
    assert wire.error("VM.nonsense") == ["MESSAGE_METHOD_UNKNOWN", "VM.nonsense"]
    assert wire.error("Async.nonsense.x", wire.root) == ["MESSAGE_METHOD_UNKNOWN", "nonsense.x"]


def test_class_underscore_method_is_an_alias(wire: Wire, pool: Pool) -> None:
    assert wire("VM_get_power_state", pool.vms[0]) == "Running"


def test_a_session_record_names_its_user(wire: Wire) -> None:
    session = wire.value("session.login_with_password", "someone", "")
    assert wire.value("session.get_record", session, session)["auth_user_name"] == "someone"


def test_wrong_values_give_the_failures_of_the_rpc_library(wire: Wire) -> None:
    failures: Dict[Any, str] = {
        ("VMSS.set_enabled", INVALID, "x", "true"): "Expected bool, got 'S(true)'",
        ("VMSS.set_retained_snapshots", INVALID, "x", "abc"): "Int64.of_string",
        ("VMSS.set_type", INVALID, "x", "bogus"): "Unknown tag/contents",
        ("VM.snapshot", INVALID, "x", "name", "x"): "Expecting Rpc.Enum, but found 'S(x)'",
        ("VM.get_record", INVALID, 5): "Expected string, got 'I(5)'",
        ("VM.get_record", 5, "x"): "Expected string, got 'I(5)'",
    }
    for call, text in failures.items():
        assert wire.error(*call) == ["INTERNAL_ERROR", 'Failure("%s")' % text]


def test_ints_may_come_in_ocaml_notation_and_enums_in_any_case(wire: Wire) -> None:
    ref = wire("VMSS.create", {"type": "SNAPSHOT", "frequency": "Daily", "retained_snapshots": "0x3"})
    assert wire("VMSS.get_record", ref)["retained_snapshots"] == "3"
    assert wire("VMSS.get_type", ref) == "snapshot"


def test_constructors_ignore_what_they_do_not_know_and_fill_in_what_is_left_out(wire: Wire) -> None:
    ref = wire("VMSS.create", {"type": "snapshot", "frequency": "daily", "nofield": "x", "uuid": "zzz"})
    record = wire("VMSS.get_record", ref)
    assert record["uuid"] != "zzz" and record["retained_snapshots"] == "7" and record["enabled"] is True


def test_references_and_uuids_that_lead_nowhere_are_named(wire: Wire) -> None:
    host = wire("host.get_all")[0]
    assert wire.error("VM.get_record", wire.root, host) == ["HANDLE_INVALID", "VM", host]
    assert wire.error("VM.get_record", wire.root, "OpaqueRef:NULL") == ["HANDLE_INVALID", "VM", "OpaqueRef:NULL"]
    assert wire.error("VMSS.get_by_uuid", wire.root, "nope") == ["UUID_INVALID", "VMSS", "nope"]


def test_maps_and_sets_are_changed_key_by_key(wire: Wire, pool: Pool) -> None:
    ref = wire("pool.get_all")[0]
    wire("pool.add_to_other_config", ref, "k", "v")
    duplicate = ["MAP_DUPLICATE_KEY", "pool", "other_config", ref, "k"]
    assert wire.error("pool.add_to_other_config", wire.root, ref, "k", "v2") == duplicate
    wire("pool.remove_from_other_config", ref, "nokey")
    wire("pool.remove_from_other_config", ref, "k")
    assert "k" not in wire("pool.get_other_config", ref)
    assert wire.error("pool.add_to_other_config", wire.root, ref, "", "v")[0] == "INTERNAL_ERROR"
    wire("VM.add_tags", pool.vms[0], "a")
    wire("VM.add_tags", pool.vms[0], "a")
    assert wire("VM.get_tags", pool.vms[0]) == ["a"]


def test_datetimes_keep_their_offset_and_have_no_fraction(wire: Wire) -> None:
    ref = wire("VMSS.create", {"type": "snapshot", "frequency": "daily"})
    for given, kept in (
        ("20261123T10:20:30Z", "20261123T10:20:30Z"),
        ("20261123T11:22:33", "20261123T11:22:33Z"),
        ("2026-11-23T12:00:00", "20261123T12:00:00Z"),
        ("20261123T13:00:00+02:00", "20261123T13:00:00+02:00"),
        ("20261123T13:00:00-03:30", "20261123T13:00:00-03:30"),
    ):
        for value in (given, xmlrpc.client.DateTime(given)):
            wire("VMSS.set_last_run_time", ref, "19700101T00:00:00Z")
            wire("VMSS.set_last_run_time", ref, value)
            assert wire("VMSS.get_last_run_time", ref).value == kept
    for text in ("20261123T13:00:00.5Z", "garbage"):
        assert wire.error("VMSS.set_last_run_time", wire.root, ref, text)[0] == "INTERNAL_ERROR"


def test_the_model_is_loaded_once() -> None:
    assert datamodel.load() is datamodel.load()


def test_every_stored_value_is_of_its_fields_type(sim: Simulator, pool: Pool) -> None:
    # Internal fields are stored too, and no call shows them.
    sim.call("VM.checkpoint", pool.session, pool.running[0], "snap")
    for table in sim.db.tables.values():
        for row in table.rows.values():
            for field in table.stored:
                assert field.convert(row[field.name]) == row[field.name]


@pytest.mark.parametrize(
    "text, number", [("07", 7), ("0x7_f", 127), ("0b1_0", 2), ("0u10", 10), ("-1_0", -10), ("+3", 3)]
)
def test_an_integer_is_read_as_ocaml_reads_it(text: str, number: int) -> None:
    assert ocaml_int(text) == number


@pytest.mark.parametrize("text", ["", "_1", "0x_1", "0u", "1\n", " 1", "1.0", "9223372036854775808"])
def test_what_ocaml_takes_for_no_integer(text: str) -> None:
    with pytest.raises(ValueError):
        ocaml_int(text)
