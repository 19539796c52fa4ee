"""event.from, tasks, messages and queries: how a client learns what has happened."""

import http.client
import json
from contextlib import closing
from datetime import timedelta
from typing import Any, Dict, List

import pytest

from vmss.simulator import Simulator
from vmss.simulator.build import Pool, vdi_record
from vmss.simulator.call import TRUSTED
from vmss.simulator.server import Server

from .client import Client, Connect, Serve
from .conftest import START

GIB = 1024**3


def events(answer: Any) -> Any:
    return [(event["class"], event["operation"], event["ref"]) for event in answer["events"]]


def test_an_empty_token_reports_everything_that_exists(root: Client) -> None:
    vm = root.vm()
    answer = root("event.from", ["vm"], "", 1.0)
    assert ("vm", "add", vm) in events(answer) and len(events(answer)) == 2
    assert answer["events"][0]["snapshot"] and answer["events"][0]["timestamp"] == "0.0"
    database, comma, messages = answer["token"].partition(",")
    assert len(database) == len(messages) == 20 and comma


def test_a_change_comes_once_as_a_modification(root: Client) -> None:
    vm = root.vm()
    token = root("event.from", ["VM"], "", 1.0)["token"]
    root("VM.set_name_label", vm, "a")
    root("VM.set_name_label", vm, "b")
    answer = root("event.from", ["VM"], token, 1.0)
    assert events(answer) == [("vm", "mod", vm)]
    assert answer["events"][0]["snapshot"]["name_label"] == "b"
    assert events(root("event.from", ["VM"], answer["token"], 1.0)) == []


def test_what_came_and_went_in_between_is_not_mentioned(root: Client) -> None:
    token = root("event.from", ["vmss"], "", 1.0)["token"]
    policy = root("VMSS.create", {"type": "snapshot", "frequency": "daily"})
    root("VMSS.destroy", policy)
    assert events(root("event.from", ["vmss"], token, 1.0)) == []
    policy = root("VMSS.create", {"type": "snapshot", "frequency": "daily"})
    answer = root("event.from", ["vmss"], token, 1.0)
    assert events(answer) == [("vmss", "add", policy)]
    root("VMSS.destroy", policy)
    gone = root("event.from", ["vmss"], answer["token"], 1.0)
    assert events(gone) == [("vmss", "del", policy)] and "snapshot" not in gone["events"][0]


def test_a_change_shows_on_the_other_side_of_a_relation(root: Client) -> None:
    vm, policy = root.vm(), root("VMSS.create", {"type": "snapshot", "frequency": "daily"})
    token = root("event.from", ["vmss"], "", 1.0)["token"]
    root("VM.set_snapshot_schedule", vm, policy)
    answer = root("event.from", ["vmss"], token, 1.0)
    assert events(answer) == [("vmss", "mod", policy)] and answer["events"][0]["snapshot"]["VMs"] == [vm]


def test_a_timeout_answers_with_no_events_and_a_usable_token(root: Client) -> None:
    token = root("event.from", ["vm"], "", 0.0)["token"]
    before = root.sim.now()
    answer = root("event.from", ["vm"], token, 30.0)
    # The token goes as far as anything that was asked for, not as far as the database.
    assert answer["events"] == [] and answer["token"] == token
    assert root.sim.now() - before == timedelta(seconds=30)
    answer = root("event.from", ["nosuchclass"], "", 30.0)
    assert answer["events"] == [] and answer["token"] == "%020d,%020d" % (0, 0)


def test_events_come_as_messages_additions_changes_and_deletions(root: Client) -> None:
    vm, other = root.vm("a"), root.vm("b")
    token = root("event.from", ["*"], "", 1.0)["token"]
    root("VM.destroy", other)
    root("VM.set_name_label", vm, "c")
    new = root.vm("d")
    root("message.create", "X", 3, "VM", root("VM.get_uuid", vm), "")
    order = [(cls, operation) for cls, operation, _ in events(root("event.from", ["*"], token, 1.0))]
    assert order[0] == ("message", "add") and order.index(("vm", "add")) < order.index(("vm", "mod"))
    assert order.index(("vm", "mod")) < order.index(("vm", "del"))
    assert events(root("event.from", ["vm/" + new], token, 1.0)) == [("vm", "add", new)]


def test_bad_tokens_and_subscriptions_are_refused(root: Client) -> None:
    # Two integers as OCaml reads them: of 64 bits, and without blanks.
    for token in ("garbage", "1", "1,2,3", " 1,2", "9223372036854775808,0"):
        assert root.error("event.from", ["vm"], token, 1.0) == ["EVENT_FROM_TOKEN_PARSE_FAILURE", token]
    assert root("event.from", ["vm"], "0x7fff_ffff,-1", 1.0)["events"] == []
    assert root.error("event.from", ["vm/a/b"], "", 1.0) == ["EVENT_SUBSCRIPTION_PARSE_FAILURE", "vm/a/b"]


def test_valid_ref_counts_cover_all_classes_as_real_ints(
    sim: Simulator, pool: Pool, serve: Serve, connect: Connect
) -> None:
    server = serve(sim)
    answer = getattr(connect(server).xenapi.event, "from")(["vmss"], "", 0.0)
    counts = answer["valid_ref_counts"]
    assert counts["vm"] == 8 and counts["vmss"] == 0 and counts["network"] == 0 and len(counts) > 70
    assert all(type(count) is int for count in counts.values())


def test_tasks_alone_are_answered_without_a_pause_and_the_rest_after_fifty_milliseconds(root: Client) -> None:
    task = root("task.create", "label", "")
    before = root.sim.now()
    root("event.from", ["task/" + task], "", 1.0)
    assert root.sim.now() == before
    root("event.from", ["vm"], "", 1.0)
    assert root.sim.now() - before == timedelta(seconds=0.05)


def test_inject_touches_an_object_spelt_as_in_the_model(root: Client) -> None:
    vm = root.vm()
    token = root("event.from", ["vm"], "", 1.0)["token"]
    injected = root("event.inject", "VM", vm)
    # The token lies just before the touch, so that a client that waits from there sees it.
    assert events(root("event.from", ["vm"], injected, 1.0)) == [("vm", "mod", vm)]
    assert events(root("event.from", ["vm"], token, 1.0)) == [("vm", "mod", vm)]
    assert root.error("event.inject", "vm", vm) == ["HANDLE_INVALID", "vm", vm]


def test_a_logout_wakes_the_clients_that_wait_with_the_session(sim: Simulator, root: Client) -> None:
    watcher = root.login("watcher")
    ended = []
    sim.begin("event.from", [watcher.session, ["vmpp"], "", 60.0], TRUSTED, lambda *end: ended.append(end))
    root("VM.get_all")
    assert ended == []
    watcher("session.logout")
    sim.set_time(sim.now() + timedelta(seconds=1))
    ((result, error),) = ended
    assert result is None and error.details == ["SESSION_INVALID", watcher.session]


# --- tasks ---


def test_a_finished_task_tells_all(root: Client) -> None:
    vm = root.vm()
    record = root.task_end(root("Async.VM.snapshot", vm, "snap"))
    (snap,) = root("VM.get_snapshots", vm)
    assert record["name_label"] == "Async.VM.snapshot" and record["status"] == "success"
    assert record["result"] == "<value>%s</value>" % snap
    assert record["progress"] == 1.0 and record["finished"] >= record["created"] and record["type"] == "<none/>"
    assert record["backtrace"] == "()" and record["allowed_operations"] == []
    assert root.task_end(root("Async.VM.destroy", snap))["result"] == "<value></value>"


def test_a_failed_task_holds_the_error(root: Client) -> None:
    record = root.task_end(root("Async.VM.snapshot", "OpaqueRef:bad", "x"))
    assert record["status"] == "failure" and record["progress"] == 1.0 and record["result"] == ""
    assert record["error_info"] == ["HANDLE_INVALID", "VM", "OpaqueRef:bad"]


def test_destroying_a_pending_task_only_marks_it(root: Client) -> None:
    vm = root.vm()
    root.disk(vm, root.sr())
    task = root("Async.VM.snapshot", vm, "x")
    root("task.destroy", task)
    assert root("task.get_current_operations", task) == {"task": "destroy"}
    again = ["MAP_DUPLICATE_KEY", "task", "current_operations", task, "task"]
    assert root.error("task.destroy", task) == again
    assert root.task_end(task)["status"] == "success"
    root("task.destroy", task)
    task = root("task.create", "one of a client's", "")
    root("task.set_status", task, "cancelling")
    root("task.destroy", task)
    assert root("task.get_current_operations", task) == {"task": "destroy"}
    root("task.set_status", task, "success")
    root("task.destroy", task)
    assert root.error("task.destroy", task) == ["HANDLE_INVALID", "task", task]


def test_cancelling_what_cannot_be_cancelled_is_no_error(root: Client) -> None:
    disk = root("VDI.create", vdi_record("d", root.sr(), GIB))
    task = root("Async.VDI.destroy", disk)
    root("task.cancel", task)
    assert list(root("task.get_current_operations", task).values()) == ["cancel"]
    assert root.task_end(task)["status"] == "success"
    root("task.cancel", task)


def test_a_synchronous_call_has_a_task_only_while_it_runs(root: Client) -> None:
    sr = root.sr()
    before = root("task.get_all")  # that of the new SR's plug, which has ended
    token = root("event.from", ["task"], "", 0.0)["token"]
    token = root("event.from", ["task"], token, 0.0)["token"]  # past the end of SR.create's own
    root("VDI.create", vdi_record("d", sr, GIB))
    assert root("task.get_all") == before
    assert events(root("event.from", ["task"], token, 0.0)) == []


# --- messages ---


def test_messages_are_created_read_and_destroyed(root: Client) -> None:
    vm = root.vm()
    uuid = root("VM.get_uuid", vm)
    ref = root("message.create", "NAME", "3", "vm", uuid, "<b>body & text</b>")
    record = root("message.get_record", ref)
    assert record["cls"] == "VM" and record["priority"] == 3 and record["body"] == "<b>body & text</b>"
    assert root("message.get_by_uuid", record["uuid"]) == ref and root("message.get_all") == [ref]
    assert list(root("message.get", "VM", uuid, "19700101T00:00:00Z")) == [ref]
    assert root("message.get", "VM", uuid, "20990101T00:00:00Z") == {}
    assert root.error("message.create", "X", "3", "VMSS", uuid, "") == ["UUID_INVALID", "VMSS", uuid]
    assert root.error("message.get", "VM", "nope", "19700101T00:00:00Z") == ["UUID_INVALID"]
    assert root.error("message.get_by_uuid", "nope") == ["UUID_INVALID", "message", "nope"]
    root("message.destroy", ref)
    assert root.error("message.destroy", ref) == ["HANDLE_INVALID", "message", ref]


def test_get_since_is_strictly_later(root: Client) -> None:
    uuid = root("VM.get_uuid", root.vm())
    root("message.create", "OLD", "3", "VM", uuid, "")
    root.sim.set_time(root.sim.now() + timedelta(seconds=10))
    new = root("message.create", "NEW", "3", "VM", uuid, "")
    when = root("message.get_record", new)["timestamp"]
    assert list(root("message.get_since", when - timedelta(seconds=1))) == [new]
    assert root("message.get_since", when) == {}


def test_the_messages_of_an_object_are_compared_by_their_whole_seconds(root: Client) -> None:
    root.sim.set_time(START + timedelta(hours=1, seconds=0.7))
    uuid = root("VM.get_uuid", root.vm())
    ref = root("message.create", "NAME", "3", "VM", uuid, "")
    when = root("message.get_record", ref)["timestamp"]
    # Its file has the whole time in its name.
    assert list(root("message.get_since", when)) == [ref]
    assert root("message.get", "VM", uuid, when) == {}
    assert list(root("message.get", "VM", uuid, when - timedelta(seconds=1))) == [ref]


def test_while_the_hosts_are_upgraded_known_messages_have_their_nominal_priority(root: Client) -> None:
    uuid, pool = root("VM.get_uuid", root.vm()), root("pool.get_all")[0]
    root("pool.add_to_other_config", pool, "rolling_upgrade_in_progress", "true")
    for name, priority in (("VMSS_SNAPSHOT_FAILED", 3), ("UNKNOWN_TO_XAPI", 1)):
        ref = root("message.create", name, "1", "VM", uuid, "")
        assert root("message.get_record", ref)["priority"] == priority
    root("pool.remove_from_other_config", pool, "rolling_upgrade_in_progress")
    ref = root("message.create", "VMSS_SNAPSHOT_FAILED", "1", "VM", uuid, "")
    assert root("message.get_record", ref)["priority"] == 1


def test_the_last_five_hundred_deleted_messages_are_told_and_all_that_exist(root: Client) -> None:
    uuid = root("VM.get_uuid", root.vm())
    token = root("event.from", ["message"], "", 0.0)["token"]
    refs = [root("message.create", "X", "5", "VM", uuid, "") for _ in range(1025)]
    assert len(root("event.from", ["message"], token, 0.0)["events"]) == 1025
    root("message.destroy_many", refs[:1024])
    told = root("event.from", ["message"], token, 0.0)["events"]
    assert [event["operation"] for event in told] == ["del"] * 1024 + ["add"]
    root("message.destroy", refs[1024])
    assert events(root("event.from", ["message"], token, 0.0)) == [("message", "del", ref) for ref in refs[:512:-1]]


def test_messages_are_filtered_and_an_unknown_field_matches_nothing(root: Client) -> None:
    uuid = root("VM.get_uuid", root.vm())
    one = root("message.create", "ONE", "3", "VM", uuid, "")
    root("message.create", "TWO", "5", "VM", uuid, "")
    assert list(root("message.get_all_records_where", 'field "priority" = "3"')) == [one]
    assert root("message.get_all_records_where", 'field "nofield" = "3"') == {}
    assert root.error("message.get_all_records_where", "nonsense")[0] == "INVALID_VALUE"


def test_beyond_ten_thousand_messages_the_oldest_go(root: Client) -> None:
    uuid = root("VM.get_uuid", root.vm())
    root.sim.set_time(START + timedelta(seconds=1))
    later = root("message.create", "LATER", "5", "VM", uuid, "")
    # The oldest is so by its time.
    root.sim.set_time(START)
    first = root("message.create", "FIRST", "1", "VM", uuid, "")
    for _ in range(9999):
        root.sim.messages.create("X", 5, "VM", uuid, "")
    assert len(root("message.get_all")) == 10001
    # xapi looks every half minute.
    root.sim.set_time(START + timedelta(seconds=31))
    left = root("message.get_all")
    assert len(left) == 10000 and later in left
    assert root.error("message.get_record", first)[0] == "HANDLE_INVALID"


# --- queries ---


@pytest.mark.parametrize(
    "expression, names",
    [
        ("true", ["a", "b", "c"]),
        ("false", []),
        ('field "name__label" = "a"', ["a"]),
        ('"a" = field "name__label"', ["a"]),
        ('field "name__label"="a" or field "name__label"="b"', ["a", "b"]),
        # `and` and `or` have one precedence and group to the left.
        ("true or true and false", []),
        ("true or (true and false)", ["a", "b", "c"]),
        # `not` is weaker than both.
        ('not field "name__label" = "a" and false', ["a", "b", "c"]),
        ('(not field "name__label" = "a") and true', ["b", "c"]),
        ('field "user_version" = "1"', ["a", "b", "c"]),
        ('field "VCPUs__max" = "2"', ["a", "b", "c"]),
        ('field "snapshot_time" = "19700101T00:00:00Z"', ["a", "b", "c"]),
        ("field \"tags\" = \"('x' 'y')\"", ["a"]),
        ("field \"platform\" = \"(('acpi' '1'))\"", ["a", "b", "c"]),
        ('field "HVM__shadow_multiplier" = "1"', ["a", "b", "c"]),
        ('field "snapshots" = "()"', ["a", "b", "c"]),
    ],
)
def test_queries_are_read_as_xapi_reads_them(root: Client, expression: Any, names: Any) -> None:
    root.vm("a", tags=["x", "y"])
    root.vm("b")
    root.vm("c")
    found = root("VM.get_all_records_where", '(%s) and field "is_control_domain" = "false"' % expression)
    assert sorted(record["name_label"] for record in found.values()) == names
    assert set(root("VM.get_all_where", expression)) >= set(found)


def test_derived_sets_and_references_can_be_asked_for(root: Client) -> None:
    vm = root.vm()
    sr = root.sr()
    disk, lone = root.disk(vm, sr), root("VDI.create", vdi_record("lone", sr, GIB))
    (vbd,) = root("VM.get_VBDs", vm)
    assert root("VDI.get_all_where", 'field "VBDs" = "(\'%s\')"' % vbd) == [disk]
    assert root("VDI.get_all_where", 'field "VBDs" = "()"') == [lone]
    snap = root("VM.snapshot", vm, "snap")
    query = 'field "snapshot_of" = "%s" and field "is_vmss_snapshot" = "false"' % vm
    assert list(root("VM.get_all_records_where", query)) == [snap]
    assert root("VM.get_all_where", 'field "snapshot_of" = "%s" and field "name__label" = "x"' % vm) == []


def test_mistakes_in_queries_are_told_apart(root: Client) -> None:
    text = "this is no query"
    assert root.error("VM.get_all_where", text)[:2] == ["INVALID_VALUE", text]
    unknown = ["INTERNAL_ERROR", "missing field", "name_label", ""]
    assert root.error("VM.get_all_where", 'field "name_label" = "a"') == unknown
    # Only a row that is compared finds the field missing.
    assert root("VMSS.get_all_where", 'field "name_label" = "a"') == []
    assert root("VM.get_all_where", 'false and field "name_label" = "a"') == []


@pytest.mark.parametrize(
    "expression, text",
    [
        ("", "Stdlib.Parsing.Parse_error"),
        ("true true", "Stdlib.Parsing.Parse_error"),
        ('field "x" "y"', "Stdlib.Parsing.Parse_error"),
        ('(field "x" = "y"', "Stdlib.Parsing.Parse_error"),
        ("this is not an expression", 'Failure("lexing: empty token")'),
        ('field "x" = y', 'Failure("lexing: empty token")'),
        ('field "x" = "y', 'Failure("lexing: empty token")'),
        ('field "x"\r= "y"', 'Failure("lexing: empty token")'),
        ("true %", 'Failure("lexing: empty token")'),
        # Nothing after the first error is read, as xapi's parser asks for one token at a time.
        ('field "x" "y" %', "Stdlib.Parsing.Parse_error"),
        ('= "y', "Stdlib.Parsing.Parse_error"),
        ("true true name_label", "Stdlib.Parsing.Parse_error"),
    ],
)
def test_the_first_error_of_an_expression_is_named_as_ocaml_prints_it(root: Client, expression: str, text: str) -> None:
    for name in ("VM.get_all_where", "VM.get_all_records_where", "message.get_all_records_where"):
        assert root.error(name, expression) == ["INVALID_VALUE", expression, text]


# --- a client that listens to everything over JSON-RPC, as XenAdminQt and XenCenter's heirs do ---


def listening(server: Server, version: str) -> Any:
    """Calls over JSON-RPC, each on its own connection; the value of a call is its result."""

    def call(method: str, *params: Any) -> Any:
        body: Dict[str, Any] = {"method": method, "params": list(params), "id": 1}
        if version == "2.0":
            body["jsonrpc"] = version
        connection = http.client.HTTPConnection(*(server.http_address or ("", 0)), timeout=60)
        with closing(connection):
            connection.request("POST", "/jsonrpc", json.dumps(body), {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        assert not answer.get("error"), answer
        return answer["result"]

    return call


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("classes", [["*"], ["vm", "message", "task"]])
def test_a_client_that_listens_to_everything_gets_all_alerts(
    sim: Simulator, root: Client, serve: Serve, version: str, classes: List[str]
) -> None:
    """Also those of before xapi was started, and more than it remembers the creation of."""
    uuid = root("VM.get_uuid", root.vm())
    old = {root("message.create", "VMSS_SNAPSHOT_FAILED", "1", "VM", uuid, "body") for _ in range(600)}
    gone = root("message.create", "GONE", "1", "VM", uuid, "")
    root("message.destroy", gone)
    sim.call("simulator.restart", "OpaqueRef:NULL", "clean", 0.0)
    server = serve(sim, http=("127.0.0.1", 0))
    call = listening(server, version)
    session = call("session.login_with_password", "root", sim.password, "1.3", "a client")
    answer = call("event.from", session, classes, "", 30.0)
    alerts = [event for event in answer["events"] if event["class"] == "message"]
    assert {event["ref"] for event in alerts} == old
    assert all(event["operation"] == "add" and event["snapshot"]["obj_uuid"] == uuid for event in alerts)
    assert alerts[0]["snapshot"]["priority"] == 1 and alerts[0]["snapshot"]["cls"] == "VM"
    assert {"vm", "message"} <= {event["class"] for event in answer["events"]}
    assert answer["valid_ref_counts"]["vm"] == len(call("VM.get_all", session))
    # By the token: what is new, once, and nothing that was told before.
    new = call("message.create", session, "NEW", 3, "VM", uuid, "")
    later = call("event.from", session, ["message"], answer["token"], 30.0)
    assert [(event["ref"], event["operation"]) for event in later["events"]] == [(new, "add")]
    call("message.destroy", session, new)
    last = call("event.from", session, ["message"], later["token"], 30.0)
    assert [(event["ref"], event["operation"]) for event in last["events"]] == [(new, "del")]
    idle = call("event.from", session, ["message"], last["token"], 0.1)
    assert idle["events"] == [] and idle["token"] >= last["token"]
