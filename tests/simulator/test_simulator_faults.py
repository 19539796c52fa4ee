"""Faults by rule: what they do to calls, to what runs in the background and to subtasks, and whom they strike."""

import http.client
import json
import xmlrpc.client
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from vmss.simulator import Durations, Simulator, XapiError
from vmss.simulator.call import Origin
from vmss.simulator.errors import Dropped
from vmss.simulator.faults import BadRule, Rule, parse_rule, read_rules

from .client import Client, Serve, UnixConnection
from .conftest import START

GIB = 1024**3
NULL = "OpaqueRef:NULL"
NO = '["SR_BACKEND_FAILURE_202", "", "no", ""]'
NO_LIST = ["SR_BACKEND_FAILURE_202", "", "no", ""]
AddFault = Callable[..., None]


@pytest.fixture
def root() -> Client:
    durations = Durations(vdi_snapshot=(2.0, 2.0), vdi_destroy=(1.0, 1.0), lost_wakeup=0.0)
    sim = Simulator(seed=1, now=START, durations=durations)
    return Client(sim, sim.call("session.login_with_password", "root", ""))


@pytest.fixture
def vm(root: Client) -> str:
    """A VM with two disks, "disk0" and "disk1"."""
    sr, vm = root.sr(), str(root.vm("web01"))
    for number in range(2):
        root.disk(vm, sr, GIB, str(number), "disk%d" % number)
    root("pool.sync_database")
    return vm


@pytest.fixture
def add(root: Client) -> AddFault:
    def add_fault(method: str, action: str, **keys: Any) -> None:
        root("simulator.add_fault", {"method": method, "action": action, **{k: str(v) for k, v in keys.items()}})

    return add_fault


def started(root: Client, name: str, *params: Any) -> List[Any]:
    """Start a call; what it ends with appears in the list."""
    ended: List[Any] = []
    root.sim.begin(name, [root.session, *params], Origin(True), lambda *end: ended.append(end))
    root.sim.kernel.run_due()
    return ended


def wait(root: Client, seconds: float) -> None:
    root.sim.set_time(root.sim.now() + timedelta(seconds=seconds))


def struck(root: Client) -> List[str]:
    return [rule["struck"] for rule in root("simulator.get_faults")]


def snapshots(root: Client, vm: str) -> int:
    return len(root("VM.get_snapshots", vm))


# --- errors ---


def test_an_error_before_leaves_nothing_and_after_leaves_all(root: Client, vm: str, add: AddFault) -> None:
    add("VM.snapshot", "error", error=NO)
    assert root.error("VM.snapshot", vm, "x") == NO_LIST and snapshots(root, vm) == 0
    add("VM.snapshot", "error", error=NO, when="after")
    assert root.error("VM.snapshot", vm, "x") == NO_LIST and snapshots(root, vm) == 1
    root("VM.snapshot", vm, "x")
    assert struck(root) == ["1", "1"] and root("task.get_all_where", 'field "status" = "pending"') == []


def test_an_async_call_fails_at_the_wire_or_in_its_task(root: Client, vm: str, add: AddFault) -> None:
    add("Async.VM.snapshot", "error", error=NO)
    assert root.error("Async.VM.snapshot", vm, "x") == NO_LIST
    add("VM.snapshot", "error", error=NO)
    task = root("Async.VM.snapshot", vm, "x")
    assert root.task_end(task)["error_info"] == NO_LIST and snapshots(root, vm) == 0
    add("VM.snapshot", "error", error=NO, when="after")
    task = root("Async.VM.snapshot", vm, "x")
    assert root.task_end(task)["error_info"] == NO_LIST and snapshots(root, vm) == 1


def test_a_subtask_that_fails_takes_the_finished_disks_along(root: Client, vm: str, add: AddFault) -> None:
    add("VDI.snapshot", "error", error=NO, skip=1)
    end = root.task_end(root("Async.VM.snapshot", vm, "x"))
    assert end["error_info"] == NO_LIST and len(end["subtasks"]) == 1
    assert root("VDI.get_all_where", 'field "is_a_snapshot" = "true"') == []
    add("VDI.snapshot", "error", error=NO, skip=1, when="after")
    assert root.error("VM.snapshot", vm, "x") == NO_LIST
    # The one that failed afterwards was made all the same.
    assert len(root("VDI.get_all_where", 'field "is_a_snapshot" = "true"')) == 1


def test_a_method_that_takes_no_time_can_fail_too(root: Client, vm: str, add: AddFault) -> None:
    add("VM.get_record", "error", error='["HANDLE_INVALID", "VM", "x"]')
    assert root.error("VM.get_record", vm) == ["HANDLE_INVALID", "VM", "x"]
    add("VM.set_name_label", "error", error=NO, when="after")
    assert root.error("VM.set_name_label", vm, "changed") == NO_LIST
    assert root("VM.get_name_label", vm) == "changed"


# --- the other actions ---


def test_a_drop_before_does_nothing_and_after_leaves_the_caller_in_the_dark(
    root: Client, vm: str, add: AddFault
) -> None:
    add("VM.set_name_label", "drop")
    with pytest.raises(Dropped):
        root("VM.set_name_label", vm, "changed")
    assert root("VM.get_name_label", vm) == "web01"
    add("Async.VM.snapshot", "drop", when="after")
    with pytest.raises(Dropped):
        root("Async.VM.snapshot", vm, "x")
    wait(root, 10)
    assert snapshots(root, vm) == 1


def test_a_drop_in_the_background_ends_it_without_a_word(root: Client, vm: str, add: AddFault) -> None:
    add("VDI.snapshot", "drop", skip=1)
    task = root("Async.VM.snapshot", vm, "x")
    wait(root, 60)
    assert root("task.get_status", task) == "pending" and snapshots(root, vm) == 0
    assert root("VM.get_current_operations", vm) == {}
    root("VM.snapshot", vm, "y")


def test_a_delay_before_or_after_takes_its_time(root: Client, vm: str, add: AddFault) -> None:
    for when in ("before", "after"):
        add("VM.get_record", "delay", seconds=7.5, when=when)
        before = root.sim.now()
        assert root("VM.get_record", vm)["name_label"] == "web01"
        assert (root.sim.now() - before).total_seconds() == 7.5
    add("VDI.snapshot", "delay", seconds=100)
    task = root("Async.VM.snapshot", vm, "x")
    wait(root, 99)
    assert root("task.get_progress", task) == 0.0
    assert root.task_end(task)["status"] == "success"


def test_a_hang_lasts_until_xapi_ends(root: Client, vm: str, add: AddFault) -> None:
    add("VM.get_record", "hang")
    ended = started(root, "VM.get_record", vm)
    wait(root, 100000)
    assert ended == []
    root.sim.call("simulator.restart", NULL, "clean", 0.0)
    assert isinstance(ended[0][1], Dropped)


def test_a_subtask_that_hangs_keeps_its_vm_busy_and_no_sr(root: Client, vm: str, add: AddFault) -> None:
    add("VDI.snapshot", "hang", skip=1)
    task = root("Async.VM.snapshot", vm, "x")
    wait(root, 100)
    assert root("VM.get_current_operations", vm) == {task: "snapshot"}
    assert [row["current_operations"] for row in root("SR.get_all_records").values()] == [{}]
    new = root.login("root")
    new.sim.call("simulator.restart", NULL, "kill", 0.0)
    assert root.login("root")("VM.get_current_operations", vm) == {}


@pytest.mark.parametrize("way", ["clean", "kill", "host"])
@pytest.mark.parametrize("method, call", [
    ("VM.destroy", ("VM.destroy",)),
    ("VM.destroy", ("Async.VM.destroy",)),
    ("Async.VM.destroy", ("Async.VM.destroy",)),
    ("VDI.snapshot", ("Async.VM.snapshot", "x")),
    ("VDI.snapshot", ("VM.snapshot", "x")),
])  # fmt: skip
def test_what_meets_a_restart_before_it_begins_never_happens(
    root: Client, vm: str, add: AddFault, method: str, call: Any, way: str
) -> None:
    add(method, "restart", way=way)
    name, params = call[0], call[1:]
    ended = started(root, name, vm, *params)
    wait(root, 60)
    assert root.sim.life == 2
    new = root.login("root")
    assert new("VM.get_name_label", vm) == "web01" and new("VM.get_current_operations", vm) == {}
    assert new("VDI.get_all_where", 'field "is_a_snapshot" = "true"') == []
    # Who called the background operation had its task by then.
    assert len(ended) == 1 and (isinstance(ended[0][1], Dropped) or name.startswith("Async."))
    assert [row["current_operations"] for row in new("SR.get_all_records").values()] == [{}]


def test_a_restart_after_a_call_comes_before_its_answer(root: Client, vm: str, add: AddFault) -> None:
    add("VM.snapshot", "restart", way="clean", when="after")
    with pytest.raises(Dropped):
        root("VM.snapshot", vm, "x")
    assert snapshots(root.login("root"), vm) == 1
    root.session = root.login("root").session
    add("VM.snapshot", "restart", way="kill", when="after")
    with pytest.raises(Dropped):
        root("VM.snapshot", vm, "y")
    assert snapshots(root.login("root"), vm) == 1


def test_a_restart_between_two_disks_leaves_the_first(root: Client, vm: str, add: AddFault) -> None:
    add("VDI.snapshot", "restart", way="clean", when="after", seconds=20)
    root("Async.VM.snapshot", vm, "x")
    wait(root, 10)
    with pytest.raises(Dropped):
        root.login("root")
    wait(root, 20)
    new = root.login("root")
    (disk,) = new("VDI.get_all_records_where", 'field "is_a_snapshot" = "true"').values()
    assert disk["VBDs"] == [] and snapshots(new, vm) == 0


# --- whom they strike ---


def test_a_rule_is_for_one_object_by_reference_uuid_or_name(root: Client, vm: str, add: AddFault) -> None:
    other = root.vm("other")
    for wanted in (vm, root("VM.get_uuid", vm), "web01"):
        add("VM.get_power_state", "error", error=NO, object=wanted)
        assert root("VM.get_power_state", other) == "Halted"
        assert root.error("VM.get_power_state", vm) == NO_LIST
    disk = root("VDI.get_by_name_label", "disk0")[0]
    add("VDI.snapshot", "error", error=NO, object="disk0", count=0)
    end = root.task_end(root("Async.VM.snapshot", vm, "x"))
    assert end["error_info"] == NO_LIST
    assert root("VDI.get_current_operations", disk) == {}
    root("VDI.snapshot", root("VDI.get_by_name_label", "disk1")[0], {})


def test_an_object_may_be_of_another_class_than_the_method(root: Client, vm: str, add: AddFault) -> None:
    policy = root("VMSS.create", {"type": "snapshot", "frequency": "daily", "name_label": "nightly"})
    add("VM.set_snapshot_schedule", "error", error=NO, object="nightly")
    assert root.error("VM.set_snapshot_schedule", vm, policy) == NO_LIST
    root("VM.set_snapshot_schedule", vm, policy)


def test_some_matches_pass_then_so_many_are_struck(root: Client, vm: str, add: AddFault) -> None:
    add("VM.get_*", "error", error=NO, skip=2, count=3)
    seen = []
    for _ in range(8):
        try:
            root("VM.get_name_label", vm)
            seen.append("ok")
        except XapiError:
            seen.append("no")
    assert seen == ["ok"] * 2 + ["no"] * 3 + ["ok"] * 3 and struck(root) == ["3"]


def test_without_a_count_every_match_is_struck(root: Client, vm: str, add: AddFault) -> None:
    add("VM.get_name_label", "error", error=NO, count=0)
    for _ in range(5):
        assert root.error("VM.get_name_label", vm) == NO_LIST


def strikes(seed: int) -> List[bool]:
    rule = Rule("VM.get_all", "error", error=["NO"], count=0, probability=0.5, seed=seed)
    sim = Simulator(seed=9, now=START, faults=[rule])
    client = Client(sim, sim.call("session.login_with_password", "root", ""))
    seen = []
    for _ in range(60):
        try:
            client("VM.get_all")
            seen.append(False)
        except XapiError:
            seen.append(True)
    return seen


def test_the_same_seed_strikes_the_same_calls(root: Client) -> None:
    assert strikes(1) == strikes(1) != strikes(2)
    assert 15 < sum(strikes(1)) < 45


def test_the_first_rule_that_strikes_does_and_others_count_no_match(root: Client, vm: str, add: AddFault) -> None:
    add("VM.*", "error", error='["FIRST"]')
    add("VM.get_name_label", "error", error='["SECOND"]')
    assert root.error("VM.get_name_label", vm) == ["FIRST"]
    assert root.error("VM.get_name_label", vm) == ["SECOND"]
    assert struck(root) == ["1", "1"]


def test_the_simulators_own_methods_are_never_struck(root: Client, add: AddFault) -> None:
    add("*", "error", error=NO, count=0)
    assert root("simulator.get_time")
    root("simulator.clear_faults")
    assert root("simulator.get_faults") == [] and root("VM.get_all")


def test_faults_are_listed_as_they_were_given(root: Client, add: AddFault) -> None:
    add("VM.snapshot", "error", error=NO, skip=2, probability=0.25)
    (rule,) = root("simulator.get_faults")
    wanted = {"method": "VM.snapshot", "action": "error", "skip": "2", "probability": "0.25", "struck": "0"}
    wanted["error"] = NO
    assert {key: rule[key] for key in wanted} == wanted


# --- at the wire ---


def test_at_the_wire_a_drop_closes_the_connection_and_a_delay_answers(
    root: Client, vm: str, add: AddFault, serve: Serve
) -> None:
    server = serve(root.sim)
    add("VM.get_name_label", "drop")
    add("VM.get_name_label", "delay", seconds=3600)
    add("Async.VM.snapshot", "drop", when="after")
    body = xmlrpc.client.dumps((root.session, vm), "VM.get_name_label")
    connection = UnixConnection(server.socket_path)
    connection.request("POST", "/", body)
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        connection.getresponse()
    connection = UnixConnection(server.socket_path)
    connection.request("POST", "/", body)
    assert b"web01" in connection.getresponse().read()
    connection.request("POST", "/", xmlrpc.client.dumps((root.session, vm, "x"), "Async.VM.snapshot"))
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        connection.getresponse()
    assert root("task.get_all_where", 'field "name__label" = "Async.VM.snapshot"')


def test_at_the_wire_a_restart_breaks_the_call_off(root: Client, vm: str, add: AddFault, serve: Serve) -> None:
    server = serve(root.sim)
    add("VM.snapshot", "restart", way="kill", when="after")
    connection = UnixConnection(server.socket_path)
    connection.request("POST", "/", xmlrpc.client.dumps((root.session, vm, "x"), "VM.snapshot"))
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        connection.getresponse()
    assert root.sim.life == 2 and snapshots(root.login("root"), vm) == 0


# --- reading rules ---


def test_rules_come_from_a_file_of_json(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text(json.dumps([
        {"method": "VM.snapshot", "action": "error", "error": ["SR_FULL", "1", "0"], "skip": 1, "count": 0},
        {"method": "Async.*", "action": "delay", "seconds": 1.5, "object": "web01", "probability": 0.5, "seed": 7},
    ]))  # fmt: skip
    assert read_rules(str(path)) == [
        Rule("VM.snapshot", "error", error=["SR_FULL", "1", "0"], skip=1, count=0),
        Rule("Async.*", "delay", seconds=1.5, object="web01", probability=0.5, seed=7),
    ]


GOOD: Dict[str, Any] = {"method": "VM.snapshot", "action": "hang"}


@pytest.mark.parametrize("change, words", [
    ({"methods": "x"}, ["methods", "method, action"]),
    ({"method": ""}, ["needs the key method"]),
    ({"action": "explode"}, ["action", "explode", "restart"]),
    ({"when": "later"}, ["when", "later", "before, after"]),
    ({"action": "restart", "way": "softly"}, ["way", "softly", "clean"]),
    ({"action": "error"}, ["needs the key error"]),
    ({"action": "error", "error": "no"}, ["error", "no"]),
    ({"action": "error", "error": [1]}, ["error", "[1]"]),
    ({"action": "error", "error": []}, ["needs the key error"]),
    ({"skip": -1}, ["must not be negative"]),
    ({"skip": "two"}, ["skip", "two"]),
    ({"count": 1.5}, ["count", "1.5"]),
    ({"count": True}, ["count", "true"]),
    ({"count": None}, ["count", "null"]),
    ({"seconds": "nan"}, ["seconds", "nan"]),
    ({"seconds": float("inf")}, ["seconds", "Infinity"]),
    ({"skip": float("inf")}, ["skip", "Infinity"]),
    ({"probability": 2}, ["probability"]),
    ({"object": ["web01"]}, ["object", "web01"]),
])  # fmt: skip
def test_a_bad_rule_is_refused_in_one_clear_line(tmp_path: Path, change: Any, words: Any) -> None:
    with pytest.raises(BadRule) as caught:
        parse_rule({**GOOD, **change})
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)
    path = tmp_path / "faults.json"
    path.write_text(json.dumps([GOOD, {**GOOD, **change}]))
    with pytest.raises(BadRule) as caught:
        read_rules(str(path))
    # Of many rules it says which.
    assert "rule 2" in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("content, words", [
    (None, "cannot read"), ("{", "not JSON"), ('{"method": "x"}', "not a JSON array"), ("[1]", "not a JSON array"),
])  # fmt: skip
def test_a_file_that_holds_no_rules_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    path = tmp_path / "faults.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadRule) as caught:
        read_rules(str(path))
    assert words in str(caught.value) and str(path) in str(caught.value)


def test_a_bad_rule_over_the_wire_is_an_invalid_value(root: Client) -> None:
    details = root.error("simulator.add_fault", {"method": "x", "action": "explode"})
    assert details[:2] == ["INVALID_VALUE", "rule"] and "explode" in details[2]
    assert root("simulator.get_faults") == []
