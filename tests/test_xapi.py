"""The session with xapi: the traps of the client and of the wire."""

import socket
import threading
from pathlib import Path
from typing import Any, List

import pytest

from tests.pool import TestPool
from vmss.demo import VirtualClock
from vmss.edges.tasks import Tasks
from vmss.edges.transport import AddressError
from vmss.edges.xapi import Refused, Unanswered, Xapi


def serve(path: Path, answers: List[bytes]) -> List[bytes]:
    """A server that takes one request on each connection and gives the next answer, then hangs up."""
    requests: List[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(5)

    def run() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            head = b""
            while b"</methodCall>" not in head and b'"id":' not in head:
                head += connection.recv(65536)
            requests.append(head)
            connection.sendall(answer)
            connection.close()
        listener.close()

    threading.Thread(target=run, daemon=True).start()
    return requests


def http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


# No answers in whatever form a call has.
NO_ANSWERS = [
    b"",
    b"garbage",
    b"HTTP/1.1 500 Internal Error\r\nContent-Length: 0\r\n\r\n",
    http(b""),
    http(b"<html>no</html>"),
    http(b"\xff\xfe"),
]


@pytest.mark.parametrize("address", ["", "unix:", "http://host", "https://", "https://host/path", "tcp:x", "/var/x"])
def test_an_address_that_is_none_is_one_clear_line(address: str) -> None:
    with pytest.raises(AddressError, match="VMSS_XAPI"):
        Xapi(address)


def test_a_server_is_asked_at_the_port_of_https_and_at_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(address: Any, *_rest: Any, **_more: Any) -> None:
        asked.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(Unanswered):
        Xapi("https://xapi.example").login("root", "")
    assert set(asked) == {("xapi.example", 443)}  # hosts need not serve port 80, and the newest ones do not


@pytest.mark.parametrize(
    "name", ["a_b_c.sock", "with space.sock", "ümläut.sock", "percent%20.sock", "n" * 60 + ".sock"]
)
def test_the_path_of_a_socket_may_hold_any_characters_and_be_long(tmp_path: Path, name: str) -> None:
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    from vmss.simulator import Simulator
    from vmss.simulator.server import Server

    with Server(Simulator(), socket=str(folder / name)):
        xapi = Xapi("unix:" + str(folder / name))
        xapi.login("root", "")
        assert len(xapi.call("pool.get_all")) == 1
        xapi.logout()


def test_a_session_that_xapi_has_ended_is_not_silently_replaced(pool: TestPool) -> None:
    xapi = Xapi(pool.place.xapi)
    xapi.login("root", "")
    pool.xapi.logout(xapi.session)
    with pytest.raises(Refused) as caught:
        xapi.call("pool.get_all")
    assert caught.value.error == ("SESSION_INVALID", xapi.session)
    assert pool.sessions() == 0


def test_a_session_that_was_handed_to_us_can_be_used(pool: TestPool) -> None:
    xapi = Xapi(pool.place.xapi)
    xapi.adopt(pool.xapi.session)
    assert xapi.call("pool.get_all") == pool.call("pool.get_all")


def test_a_request_whose_answer_is_lost_is_not_sent_again(tmp_path: Path) -> None:
    requests = serve(tmp_path / "s", [b"", b"", b""])
    xapi = Xapi("unix:" + str(tmp_path / "s"))
    with pytest.raises(Unanswered):
        xapi.call("Async.VM.snapshot", "OpaqueRef:1", "name")
    assert len(requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        *NO_ANSWERS,
        http(b"<?xml version='1.0'?><methodResponse><params><param><value>x</value></param></params></methodResponse>"),
        http(b"<methodResponse><params></params></methodResponse>"),
        http(
            b"<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member>"
            b"</struct></value></param></params></methodResponse>"
        ),
        http(
            b"<methodResponse><params><param><value><struct><member><name>Status</name><value>Failure</value></member>"
            b"</struct></value></param></params></methodResponse>"
        ),
        http(
            b"<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1</int></value></member>"
            b"<member><name>faultString</name><value>no</value></member></struct></value></fault></methodResponse>"
        ),
    ],
)
def test_an_answer_to_the_login_that_is_not_xapis_is_no_answer(tmp_path: Path, answer: bytes) -> None:
    serve(tmp_path / "s", [answer])
    with pytest.raises(Unanswered) as caught:
        Xapi("unix:" + str(tmp_path / "s")).login("root", "")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        *NO_ANSWERS,
        http(b"[" * 100000),
        http(b'"text"'),
        http(b"[]"),
        http(b"null"),
        http(b"{}"),
        http(b'{"jsonrpc":"2.0","id":1}'),
        http(b'{"jsonrpc":"2.0","error":"no","id":1}'),
        http(b'{"jsonrpc":"2.0","result":"of another call","id":7}'),
        http(b'{"jsonrpc":"2.0","error":{"code":1},"id":1}'),
        http(b'{"jsonrpc":"2.0","error":{"message":"X","data":null},"id":1}'),
    ],
)
def test_an_answer_that_is_not_xapis_is_no_answer(tmp_path: Path, answer: bytes) -> None:
    serve(tmp_path / "s", [answer])
    with pytest.raises(Unanswered) as caught:
        Xapi("unix:" + str(tmp_path / "s")).call("pool.get_all")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [b'{"code":1,"message":"HANDLE_INVALID","data":["VM","x"]},"id":1', b'["HANDLE_INVALID","VM","x"],"id":0'],
    ids=["as usual", "before the call is looked at"],
)
def test_the_error_of_an_answer_has_two_forms(tmp_path: Path, error: bytes) -> None:
    serve(tmp_path / "s", [http(b'{"jsonrpc":"2.0","error":%s}' % error)])
    with pytest.raises(Refused) as caught:
        Xapi("unix:" + str(tmp_path / "s")).call("VM.get_uuid", "x")
    assert caught.value.error == ("HANDLE_INVALID", "VM", "x")


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_a_server_without_json_rpc_gets_all_calls_through_the_client(tmp_path: Path, status: int) -> None:
    none = b"HTTP/1.1 %d No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status
    done = http(
        b"<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member>"
        b"<member><name>Value</name><value>done</value></member></struct></value></param></params></methodResponse>"
    )
    requests = serve(tmp_path / "s", [none, done, done])
    xapi = Xapi("unix:" + str(tmp_path / "s"))
    assert xapi.call("VM.snapshot", "x", "name") == xapi.call("VM.snapshot", "x", "name") == "done"
    assert [request.split(b" ")[1] for request in requests] == [b"/jsonrpc", b"/", b"/"], requests


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    serve(
        tmp_path / "s", [http(b'{"jsonrpc":"2.0","result":{"a\\ud800":["\\udFff","\\ud83d\\udcf7","\\u0001"]},"id":1}')]
    )
    read = Xapi("unix:" + str(tmp_path / "s")).call("VM.get_record", "x")
    assert read == {"a?": ["?", "\U0001f4f7", "\x01"]}


def test_any_text_is_carried(pool: TestPool) -> None:
    xapi = Xapi(pool.place.xapi)
    xapi.adopt(pool.xapi.session)
    vm = pool.vm()
    xapi.call("VM.set_name_label", vm, "caf\udce9")
    assert pool.call("VM.get_name_label", vm) == "caf?"
    xapi.call("VM.set_name_label", vm, "m\u00e4\U0001f4f7 <&>'\"\\")
    assert pool.call("VM.get_name_label", vm) == xapi.call("VM.get_name_label", vm) == "m\u00e4\U0001f4f7 <&>'\"\\"


def started(pool: TestPool, count: int) -> "tuple[Tasks, List[str]]":
    tasks = Tasks(pool.xapi, VirtualClock(pool.simulator))
    sr = pool.sr()
    return tasks, [tasks.start("VM.snapshot", pool.vm("vm", [sr]), "s") for _ in range(count)]


def test_tasks_are_awaited_together_and_their_records_destroyed(pool: TestPool) -> None:
    tasks, refs = started(pool, 3)
    ended = {}
    while tasks.pending:
        ended.update(tasks.wait(60.0))
    assert set(ended) == set(refs)
    for outcome in ended.values():
        assert outcome.error == () and pool.call("VM.get_is_a_snapshot", outcome.value) is True
    assert pool.tasks() == []


def test_a_task_whose_record_is_gone_has_lost_its_result(pool: TestPool) -> None:
    tasks, (lost,) = started(pool, 1)
    assert tasks.wait(0.0) == {}
    # Somebody else follows the task and destroys it.
    token = ""
    while pool.call("task.get_status", lost) == "pending":
        token = pool.call("event.from", ["task/" + lost], token, 60.0)["token"]
    pool.call("task.destroy", lost)
    assert tasks.wait(60.0)[lost].error == ("VMSS_RESULT_LOST", "VM.snapshot")
    assert not tasks.pending


def test_an_error_of_a_task_comes_back_as_xapi_gave_it(pool: TestPool) -> None:
    tasks = Tasks(pool.xapi, VirtualClock(pool.simulator))
    vm = pool.vm("vm")
    pool.call("VM.add_to_blocked_operations", vm, "snapshot", "no")
    task = tasks.start("VM.snapshot", vm, "s")
    assert tasks.wait(60.0)[task].error == ("OPERATION_BLOCKED", vm, "no")


def test_a_wait_ends_when_its_time_has_passed(pool: TestPool) -> None:
    tasks, _ = started(pool, 1)
    before = pool.simulator.now()
    tasks.wait(0.0)
    assert tasks.wait(0.1) == {} and (pool.simulator.now() - before).total_seconds() < 5
