"""HTTP as xapi speaks it, over real sockets: what is served and refused, limits, connections that stay or break."""

import asyncio
import errno
import gzip
import http.client
import json
import os
import socket
import ssl
import subprocess
import xmlrpc.client
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import pytest

import vmss.simulator.http as protocol
import vmss.simulator.listening as serving
from vmss.simulator import Simulator
from vmss.simulator.build import Pool
from vmss.simulator.faults import Rule
from vmss.simulator.server import Server

from .client import Post, Serve

# A socket left open, here or in the server, is an error.
pytestmark = [
    pytest.mark.filterwarnings("error::ResourceWarning"),
    pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning"),
]
GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "traces.jsonl.gz")
NETWORK = ("127.0.0.1", 0)


class Answer(NamedTuple):
    """One response: its head as it came, and its body."""

    head: str
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1])

    @property
    def value(self) -> Any:
        """What the call returned, or its error."""
        result: Any = xmlrpc.client.loads(self.body)[0][0]
        return result["Value"] if result["Status"] == "Success" else result["ErrorDescription"]


class Line:
    """A connection to a server, byte by byte."""

    def __init__(self, address: Any) -> None:
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.settimeout(30)
        self.socket.connect(address)
        self.stream = self.socket.makefile("rb")

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *details: Any) -> None:
        self.stream.close()
        self.socket.close()

    def send(self, data: bytes) -> "Line":
        self.socket.sendall(data)
        return self

    def answer(self) -> Answer:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.stream.read(1)
            if not byte:
                raise ConnectionError("no answer")
            head += byte
        text = head.decode()
        length = int(text.split("content-length: ")[1].split("\r\n")[0])
        return Answer(text, self.stream.read(length))

    def call(self, method: str, *params: Any) -> Any:
        return self.send(post_of(request(method, *params))).answer().value

    def rest(self) -> bytes:
        """All that comes until the server hangs up."""
        try:
            return self.stream.read()
        except ConnectionResetError:
            # It did not wait for what it had no use for.
            return b""


def request(method: str, *params: Any) -> bytes:
    return xmlrpc.client.dumps(params, method, allow_none=True).encode()


def post_of(body: bytes, path: str = "/", version: str = "1.1", **headers: str) -> bytes:
    lines = ["POST %s HTTP/%s" % (path, version), "Content-Length: %d" % len(body)]
    lines += ["%s: %s" % (name.replace("_", "-"), value) for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def unix(server: Server) -> str:
    assert server.socket_path is not None
    return server.socket_path


def tcp(server: Server) -> Tuple[str, int]:
    assert server.http_address is not None
    return server.http_address


def ask(address: Any, data: bytes) -> Answer:
    """One exchange on a connection of its own."""
    with Line(address) as line:
        return line.send(data).answer()


# --- what is served ---


def recorded() -> List[Dict[str, Any]]:
    with gzip.open(GOLDEN, "rt", encoding="utf-8") as stream:
        traces = [json.loads(line) for line in stream]
    return [trace for trace in traces if trace.get("http") and trace["n"] < 30]


@pytest.mark.parametrize("trace", recorded(), ids=lambda trace: str(trace["n"]))
def test_the_lines_of_a_head_are_those_of_a_real_xapi(sim: Simulator, serve: Serve, trace: Dict[str, Any]) -> None:
    body = trace["request"].encode().replace(b"caf\\xe9", b"caf\xe9")
    answer = ask(unix(serve(sim)), post_of(body, "/RPC2" if "/RPC2" in trace["note"] else "/"))

    def without_length(head: str) -> List[str]:
        return [line for line in head.split("\n") if not line.startswith("content-length")]

    lines = answer.head.replace("\r\n", "\n").strip("\n")
    assert without_length(lines) == without_length("HTTP/1.1 " + trace["http"].strip("\n"))
    # The length stands where it stood, whatever it is.
    assert lines.split("\n")[1] == "content-length: %d" % len(answer.body)


def test_the_answer_to_a_call_is_that_of_xapi_to_the_byte(sim: Simulator, pool: Pool, serve: Serve) -> None:
    answer = ask(unix(serve(sim)), post_of(request("VM.get_power_state", pool.session, pool.vms[0])))
    assert answer.head == (
        "HTTP/1.1 200 OK\r\ncontent-length: 233\r\nconnection: keep-alive\r\ncache-control: no-cache, no-store\r\n"
        "content-type: text/xml\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Headers: X-Requested-With\r\n"
        "\r\n"
    )
    assert answer.body == (
        b'<?xml version="1.0"?><methodResponse><params><param><value><struct><member><name>Status</name>'
        b"<value>Success</value></member><member><name>Value</name><value>Running</value></member></struct>"
        b"</value></param></params></methodResponse>"
    )


def test_values_are_written_as_xapi_writes_them(sim: Simulator, pool: Pool, serve: Serve, post: Post) -> None:
    server = serve(sim)
    vm = pool.vms[0]
    sim.call("VM.set_name_label", pool.session, vm, "a<&>\"'\x01\té")
    body = post(server, request("VM.get_record", pool.session, vm))[2].decode()
    assert "<name>name_label</name><value>a&lt;&amp;&gt;&quot;'\té</value>" in body
    assert "<name>user_version</name><value>1</value>" in body
    assert "<name>is_a_template</name><value><boolean>0</boolean></value>" in body
    assert "<name>HVM_shadow_multiplier</name><value><double>1</double></value>" in body
    assert "<dateTime.iso8601>19700101T00:00:00Z</dateTime.iso8601>" in body
    assert "<string>" not in body and "<i4>" not in body
    void = post(server, request("VM.set_name_label", pool.session, vm, "x"))[2]
    assert b"<name>Value</name><value></value>" in void


@pytest.mark.parametrize("path", ["/", "/RPC2", "/RPC2/", "/RPC2/deeper", "/anything?a=b", "http://host/RPC2"])
def test_xml_rpc_is_served_at_every_path_that_is_nobody_elses(sim: Simulator, serve: Serve, path: str) -> None:
    answer = ask(unix(serve(sim)), post_of(request("session.login_with_password", "root", ""), path))
    assert answer.status == 200 and answer.value.startswith("OpaqueRef:")


@pytest.mark.parametrize("path", ["/jsonrpc", "/jsonrpc/", "/jsonrpc/deeper", "/jsonrpc?a=b", "/%6asonrpc"])
def test_json_rpc_is_served_below_its_path(sim: Simulator, serve: Serve, path: str) -> None:
    call = {"jsonrpc": "2.0", "method": "session.login_with_password", "params": ["root", ""], "id": 7}
    answer = ask(unix(serve(sim)), post_of(json.dumps(call).encode(), path))
    assert "\r\ncontent-type: application/json\r\n" in answer.head
    assert json.loads(answer.body.decode())["id"] == 7


def test_json_rpc_speaks_both_versions(sim: Simulator, pool: Pool, serve: Serve, post: Post) -> None:
    server = serve(sim)
    (the_pool,) = sim.call("pool.get_all", pool.session)

    def call(**body: Any) -> Any:
        status, headers, answer = post(server, json.dumps(body), "/jsonrpc")
        assert headers["content-type"] == "application/json" and status == 200
        return json.loads(answer.decode())

    two = call(jsonrpc="2.0", method="pool.get_all", params=[pool.session], id=1)
    assert two == {"jsonrpc": "2.0", "result": [the_pool], "id": 1}
    one = call(method="pool.get_all", params=[pool.session], id="a")
    assert one == {"result": [the_pool], "error": None, "id": "a"}
    error = call(jsonrpc="2.0", method="VM.get_record", params=[pool.session, "x"], id=2)
    assert error["error"] == {"code": 1, "message": "HANDLE_INVALID", "data": ["VM", "x"]}
    assert call(method="VM.get_record", params=[pool.session, "x"], id=3)["error"] == ["HANDLE_INVALID", "VM", "x"]
    vcpus = call(jsonrpc="2.0", method="VM.get_VCPUs_max", params=[pool.session, pool.vms[0]], id=4)
    assert vcpus["result"] == 2
    for wrong in ({}, {"id": None}, {"id": True}, {"id": 1.5}, {"id": 1, "jsonrpc": "1.0"}, {"id": 1, "jsonrpc": None}):
        body = dict({"method": "pool.get_all", "params": [pool.session]}, **wrong)
        assert post(server, json.dumps(body), "/jsonrpc")[0] == 500, wrong


NAMELESS = "<struct><member><name>a</name><value/></member><member><name/><value>x</value></member></struct>"


@pytest.mark.parametrize(
    "value",
    [
        NAMELESS,
        "<array><data><value>%s</value></data></array>" % NAMELESS,
        "<struct><member><name>schedule</name><value>%s</value></member></struct>" % NAMELESS,
        "<struct><member><value/><name>a</name></member></struct>",
        "<struct><member><name>a</name></member></struct>",
        "<struct><value/></struct>",
        *("<%s></%s>" % (tag, tag) for tag in ("int", "i4", "i8", "boolean", "double", "dateTime.iso8601", "base65")),
    ],
)
def test_what_the_real_parser_cannot_read_is_no_call(sim: Simulator, serve: Serve, post: Post, value: str) -> None:
    # Wherever it stands: the method and the session do not even have to exist.
    body = "<methodCall><methodName>%s</methodName><params><param><value>%s</value></param></params></methodCall>"
    server = serve(sim)
    for name, argument in (("pool.get_all", value), ("nothing", value), ("", "")):
        status, _, answer = post(server, body % (name, argument))
        assert status == 500 and b"Xmlrpc.Parse_error(" in answer


def test_empty_texts_sets_and_maps_are_values(sim: Simulator, pool: Pool, serve: Serve, post: Post) -> None:
    # The null is none that a text can be.
    call = "<methodCall><methodName>VM.set_%s</methodName><params>%s</params></methodCall>"
    server = serve(sim)
    for field, value in (
        ("name_label", "<string/>"),
        ("tags", "<array><data/></array>"),
        ("tags", "<array/>"),
        ("other_config", "<struct/>"),
    ):
        params = "".join("<param><value>%s</value></param>" % text for text in (pool.session, pool.vms[0], value))
        status, _, answer = post(server, call % (field, params))
        assert status == 200 and b"<value>Success</value>" in answer


def test_a_browser_is_told_that_it_may_call(sim: Simulator, serve: Serve) -> None:
    with Line(unix(serve(sim))) as line:
        line.send(b"OPTIONS /jsonrpc HTTP/1.1\r\nAccess-Control-Request-Headers: content-type\r\n\r\n")
        answer = line.answer()
        assert answer.status == 200 and answer.body == b""
        assert "\r\nAccess-Control-Allow-Headers: content-type, X-Requested-With\r\n" in answer.head
        assert line.call("session.login_with_password", "root", "").startswith("OpaqueRef:")


def test_nothing_is_compressed(sim: Simulator, pool: Pool, serve: Serve) -> None:
    body = request("VM.get_all_records", pool.session)
    answer = ask(unix(serve(sim)), post_of(body, Accept_Encoding="gzip, deflate"))
    assert "encoding" not in answer.head and answer.body.startswith(b"<?xml")


def test_a_failure_before_dispatch_has_no_headers_for_browsers(sim: Simulator, serve: Serve) -> None:
    server = serve(sim)
    body = b'{"jsonrpc": "2.0", "method": "VM.get_by_uuid", "params": ["x", "caf\xe9"], "id": 5}'
    answer = ask(unix(server), post_of(body, "/jsonrpc"))
    assert answer.status == 200 and "Access-Control" not in answer.head and b'"id":0' in answer.body
    sim.hosts.restarting(sim.hosts.coordinator, 0.0, 3600.0)
    sim.set_time(sim.now())
    booting = ask(unix(server), post_of(request("pool.get_all", "")))
    assert booting.value == ["HOST_STILL_BOOTING"] and "Access-Control" not in booting.head


# --- what headers say of a call's task ---


def test_headers_name_the_parent_of_a_calls_task_and_what_to_note_in_it(
    sim: Simulator, pool: Pool, serve: Serve
) -> None:
    parent = sim.call("task.create", pool.session, "parent", "")
    body = request("Async.VM.snapshot", pool.session, pool.vms[0], "snapshot")
    headers = {"Subtask-Of": parent, "X-HTTP-Other-Config-Why": "because: ä", "x_http_other_config_Two": "2"}
    task = ask(unix(serve(sim)), post_of(body, **headers)).value
    record = sim.call("task.get_record", pool.session, task)
    # The names of headers have no case.
    assert record["other_config"] == {"http:why": "because: ä", "http:two": "2"}
    assert record["subtask_of"] == parent and sim.call("task.get_subtasks", pool.session, parent) == [task]


def test_a_synchronous_call_has_a_task_with_that_parent_too(
    sim: Simulator, pool: Pool, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = sim.call("task.create", pool.session, "parent", "")
    parents: Dict[str, str] = {}
    create = sim.db.create

    def noting(cls: str, fields: Any, *more: Any) -> str:
        if cls == "task":
            parents[fields["name_label"]] = fields["subtask_of"]
        return create(cls, fields, *more)

    monkeypatch.setattr(sim.db, "create", noting)
    body = request("VM.snapshot", pool.session, pool.vms[0], "snapshot")
    assert ask(unix(serve(sim)), post_of(body, Subtask_Of=parent)).value.startswith("OpaqueRef:")
    assert parents["VM.snapshot"] == parent
    # It went with the call.
    assert sim.call("task.get_subtasks", pool.session, parent) == []


@pytest.mark.parametrize("prefix", ["", "Async."])
def test_a_call_can_run_under_a_task_that_there_is(sim: Simulator, pool: Pool, serve: Serve, prefix: str) -> None:
    task = sim.call("task.create", pool.session, "whole", "")
    tasks = set(sim.call("task.get_all", pool.session))
    body = request(prefix + "VM.snapshot", pool.session, pool.vms[0], "snapshot")
    value = ask(unix(serve(sim)), post_of(body, Task_Id=task)).value
    if prefix:
        assert value == task
        sim.set_time(sim.now() + timedelta(hours=1))
    assert len(sim.call("VM.get_snapshots", pool.session, pool.vms[0])) == 1
    # It shows how far the call has come, and it is not the call that completes it.
    assert sim.call("task.get_progress", pool.session, task) > 0.0
    assert sim.call("task.get_status", pool.session, task) == "pending"
    assert set(sim.call("task.get_all", pool.session)) == tasks


# --- what is refused ---


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "PUT /x HTTP/1.1", "CONNECT / HTTP/1.1", "POST x HTTP/1.1"])
def test_a_path_without_a_handler_is_forbidden(sim: Simulator, serve: Serve, line: str) -> None:
    with Line(unix(serve(sim))) as connection:
        answer = connection.send(line.encode() + b"\r\nContent-Length: 0\r\n\r\n").answer()
        assert answer.head == (
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 99\r\ncontent-type: text/html\r\nconnection: close\r\n"
            "cache-control: no-cache, no-store\r\n\r\n"
        )
        assert answer.body.startswith(b"<html><body><h1>HTTP 403 forbidden</h1>") and connection.rest() == b""


@pytest.mark.parametrize("verb, version", [("DELETE", "1.1"), ("HEAD", "1.0"), ("post", "1.1")])
def test_a_method_that_nobody_handles_is_not_implemented(sim: Simulator, serve: Serve, verb: str, version: str) -> None:
    answer = ask(unix(serve(sim)), ("%s / HTTP/%s\r\n\r\n" % (verb, version)).encode())
    assert answer.head.startswith("HTTP/%s 501 Method not implemented\r\n" % version)
    assert b"<p>Unknown %s not supported.<br /></p>" % verb.encode() in answer.body


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"POST / HTTP/1.1\r\n\r\n", b"We require a content-length: HTTP header"),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n<xml\r\n0\r\n\r\n",
            b"We require a content-length: HTTP header",
        ),
        (b"POST / HTTP/1.0\r\nContent-Length: 307201\r\n\r\n", b"Http_svr.Client_requested_size_over_limit"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"Int64.of_string"),
        (b"POST / HTTP/1.1\r\nContent-Length: \xc2\xb2\r\n\r\n", b"Int64.of_string"),
        (b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n<xml", b"Xmlm.Error"),
        (b"POST /jsonrpc HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]", b"Malformed_method_request"),
        (b"complete nonsense\r\n\r\n", b"The HTTP headers could not be parsed."),
        (b"POST //[ HTTP/1.1\r\n\r\n", b"The HTTP headers could not be parsed."),
    ],
)
def test_what_is_no_call_gets_a_page_and_the_connection_ends(
    sim: Simulator, serve: Serve, data: bytes, reason: bytes
) -> None:
    with Line(unix(serve(sim))) as line:
        answer = line.send(data).answer()
        assert answer.head.split(" ", 1)[1].startswith("500 Internal Error\r\n")
        assert answer.head.startswith("HTTP/1.0" if b"/1.0" in data else "HTTP/1.1")
        assert answer.body.startswith(b"<html><body><h1>HTTP 500 internal server error</h1>") and reason in answer.body
        assert line.rest() == b""


def test_a_body_may_have_300_kib_and_no_more(sim: Simulator, serve: Serve) -> None:
    server = serve(sim)
    login = request("session.login_with_password", "root", "%s")
    largest = login.replace(b"%s", b"x" * (307200 - len(login) + 2))
    assert len(largest) == 307200
    assert ask(unix(server), post_of(largest)).value.startswith("OpaqueRef:")
    assert ask(unix(server), post_of(largest + b"\n")[:100]).status == 500


def padded(body: bytes, size: int) -> bytes:
    """A request whose headers have so many bytes."""
    bare = len(post_of(body, X="")) - len(body)
    return post_of(body, X="y" * (size - bare))


def test_headers_have_1024_bytes_over_the_network_and_any_number_over_the_unix_socket(
    sim: Simulator, serve: Serve
) -> None:
    server = serve(sim, http=NETWORK)
    body = request("session.login_with_password", "root", "simulator")
    assert ask(tcp(server), padded(body, 1024)).value.startswith("OpaqueRef:")
    assert ask(tcp(server), padded(body, 1025)).status == 431
    answer = ask(tcp(server), b"POST / HTTP/1.1\r\nX: " + b"y" * 1024)
    assert answer.status == 431 and b"Exceeded the maximum header size." in answer.body
    assert ask(unix(server), padded(body, 200000)).value.startswith("OpaqueRef:")


@pytest.mark.parametrize("name", ["HEADER_READ_SECONDS", "HEADER_TOTAL_SECONDS"])
def test_a_client_that_says_nothing_is_sent_away_from_the_network(
    sim: Simulator, serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(protocol, name, 0.01)
    with Line(tcp(serve(sim, http=NETWORK))) as line:
        answer = line.answer()
        assert answer.head.startswith("HTTP/1.1 408 Request Timeout\r\n") and line.rest() == b""


class Timers:
    """Stands in for the timers of a server's loop: time passes when the test says so."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = server.loop
        self.path = unix(server)
        self.started: List[Any] = []
        monkeypatch.setattr(server.loop, "call_later", self.call_later)

    def call_later(self, delay: float, callback: Any) -> Any:
        timer = asyncio.Handle(callback, (), self.loop)
        self.started.append((delay, timer))
        return timer

    def live(self) -> List[asyncio.Handle]:
        # Python 3.6 has no Handle.cancelled.
        return [timer for _, timer in self.started if not timer._cancelled]

    def expire(self) -> None:
        for timer in self.live():
            self.loop.call_soon_threadsafe(timer._run)

    def wait(self, started: int, live: int) -> None:
        """Let the server's loop turn until so many have been started, and so many are left."""
        with Line(self.path) as line:
            for _ in range(1000):
                if (len(self.started), len(self.live())) == (started, live):
                    return
                line.call("system.isAlive", "")
        raise AssertionError("%d started, %d are left" % (len(self.started), len(self.live())))


def test_a_client_that_is_slow_with_its_headers_is_sent_away_from_the_network_only(
    sim: Simulator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(sim, http=NETWORK)
    timers = Timers(server, monkeypatch)
    call = post_of(request("session.login_with_password", "root", ""))
    with Line(unix(server)) as local, Line(tcp(server)) as slow:
        timers.wait(1, 1)
        local.send(call[:30])
        slow.send(call[:30])
        timers.wait(2, 1)
        timers.expire()
        assert slow.answer().status == 408 and slow.rest() == b""
        assert local.send(call[30:]).answer().status == 200


def test_only_the_first_headers_of_a_connection_have_to_hurry(
    sim: Simulator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(sim, http=NETWORK)
    timers = Timers(server, monkeypatch)
    call = post_of(request("session.login_with_password", "root", "simulator"))
    with Line(tcp(server)) as line:
        timers.wait(1, 1)
        # All of the headers, a part of the body.
        line.send(call[:-10])
        timers.wait(1, 0)
        assert line.send(call[-10:]).answer().status == 200
        line.send(call[:20])
        timers.wait(1, 0)
        assert line.send(call[20:]).answer().status == 200
        assert len(timers.started) == 1


def test_each_piece_of_the_headers_gives_a_client_more_time_but_not_for_ever(
    sim: Simulator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEADER_TOTAL_SECONDS", 60.0)
    server = serve(sim, http=NETWORK)
    timers = Timers(server, monkeypatch)
    monkeypatch.setattr(server.loop, "time", lambda: 1000.0)
    call = post_of(request("session.login_with_password", "root", "simulator"))
    with Line(tcp(server)) as line:
        timers.wait(1, 1)
        for piece, passed in enumerate((0.0, 45.0, 55.0), 1):
            monkeypatch.setattr(server.loop, "time", lambda: 1000.0 + passed)  # noqa: B023, called before the next
            line.send(call[piece - 1 : piece])
            timers.wait(piece + 1, 1)
    assert [delay for delay, _ in timers.started] == [10.0, 10.0, 10.0, 5.0]


# --- how many ---


@pytest.mark.parametrize("name", ["UNIX_CONNECTIONS_MAX", "NETWORK_CONNECTIONS_MAX"])
def test_connections_beyond_the_limit_wait_until_one_ends(
    sim: Simulator, serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(serving, name, 2)
    server = serve(sim, http=NETWORK)
    address: Any = unix(server) if name.startswith("UNIX") else tcp(server)
    with Line(address) as first, Line(address) as second, Line(address) as third:
        session = first.call("session.login_with_password", "root", "simulator")
        third.send(post_of(request("host.get_all", session)))
        for _ in range(20):
            second.call("pool.get_all", session)
        assert "host.get_all" not in sim.counts
        first.__exit__()
        assert len(third.answer().value) == 1
        # And nobody took a place that was not given back.
        assert second.call("pool.get_all", session)


def test_the_limits_are_those_of_xapi() -> None:
    assert (serving.NETWORK_CONNECTIONS_MAX, serving.UNIX_CONNECTIONS_MAX, serving.BACKLOG) == (800, 1024, 128)
    assert (protocol.HEADER_READ_SECONDS, protocol.HEADER_TOTAL_SECONDS) == (10.0, 60.0)
    assert (protocol.NETWORK_HEADERS_MAX, protocol.BODY_MAX) == (1024, 307200)


def test_128_clients_can_wait_to_be_let_in(sim: Simulator, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "UNIX_CONNECTIONS_MAX", 1)
    path = unix(serve(sim))
    waiting = []
    with Line(path) as first:
        first.call("session.login_with_password", "root", "")
        with pytest.raises(BlockingIOError) as caught:
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(path)
        for client in waiting:
            client.close()
    assert caught.value.errno == errno.EAGAIN
    # Linux lets one more in than it is told.
    assert len(waiting) - 1 in (128, 129)


def test_a_server_without_file_descriptors_tries_again(
    sim: Simulator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "ACCEPT_PAUSE_SECONDS", 0.0)
    accept = socket.socket.accept
    failures = [errno.EMFILE, errno.ECONNABORTED, errno.EMFILE]

    def failing(listener: socket.socket) -> Any:
        if failures:
            raise OSError(failures.pop(), "none left")
        return accept(listener)

    server = serve(sim)
    monkeypatch.setattr(socket.socket, "accept", failing)
    answer = ask(unix(server), post_of(request("session.login_with_password", "root", "")))
    assert answer.status == 200 and failures == []


# --- one after another ---


def test_a_connection_is_kept_and_its_requests_are_answered_in_order(sim: Simulator, pool: Pool, serve: Serve) -> None:
    with Line(unix(serve(sim))) as line:
        line.send(b"".join(post_of(request("VM.get_name_label", pool.session, vm)) for vm in pool.vms[:3]))
        assert [line.answer().value for _ in range(3)] == ["web01", "db01", "mail01"]


def test_the_next_request_of_a_connection_begins_when_the_last_has_ended(
    sim: Simulator, pool: Pool, serve: Serve
) -> None:
    with Line(unix(serve(sim))) as line:
        line.send(post_of(request("VM.snapshot", pool.session, pool.vms[0], "first")))
        line.send(post_of(request("VM.get_snapshots", pool.session, pool.vms[0])))
        snapshot = line.answer().value
        assert snapshot.startswith("OpaqueRef:") and line.answer().value == [snapshot]


def test_any_number_of_requests_can_be_sent_ahead(sim: Simulator, pool: Pool, serve: Serve) -> None:
    with Line(unix(serve(sim))) as line:
        call = post_of(request("pool.get_all", pool.session))
        line.send(call * 300)
        for _ in range(300):
            assert line.answer().status == 200
    assert sim.counts["pool.get_all"] >= 300


def test_requests_may_come_in_pieces(sim: Simulator, pool: Pool, serve: Serve) -> None:
    server = serve(sim)
    data = post_of(request("VM.get_power_state", pool.session, pool.vms[0]))
    with Line(unix(server)) as line, Line(unix(server)) as other:
        for start in range(0, len(data), 50):
            line.send(data[start : start + 50])
            # A turn of the server's loop in between.
            other.call("pool.get_all", pool.session)
        assert line.answer().value == "Running"


@pytest.mark.parametrize(
    "version, headers, kept",
    [
        ("1.0", {}, False),
        ("1.0", {"Connection": "Keep-Alive"}, True),
        ("1.1", {}, True),
        ("1.1", {"Connection": "Close"}, False),
        ("1.1", {"Connection": "upgrade"}, True),
        ("2.0", {}, True),
    ],
)
def test_http_1_0_closes_unless_asked_and_1_1_stays_unless_asked(
    sim: Simulator, pool: Pool, serve: Serve, version: str, headers: Dict[str, str], kept: bool
) -> None:
    with Line(unix(serve(sim))) as line:
        call = post_of(request("pool.get_all", pool.session), "/", version, **headers)
        answer = line.send(call).answer()
        assert answer.head.startswith("HTTP/%s 200 OK\r\n" % ("1.0" if version == "1.0" else "1.1"))
        assert ("\r\nconnection: %s\r\n" % ("keep-alive" if kept else "close")) in answer.head
        if kept:
            assert line.send(call).answer().status == 200
        else:
            assert line.rest() == b""


def test_a_client_that_has_finished_sending_gets_its_answer(sim: Simulator, pool: Pool, serve: Serve) -> None:
    with Line(unix(serve(sim))) as line:
        line.send(post_of(request("VM.snapshot", pool.session, pool.vms[0], "last words")))
        line.socket.shutdown(socket.SHUT_WR)
        assert line.answer().value.startswith("OpaqueRef:") and line.rest() == b""


# --- connections that break ---


@pytest.mark.parametrize("when, happened", [("before", False), ("after", True)])
def test_a_call_that_is_dropped_ends_without_an_answer(
    sim: Simulator, pool: Pool, serve: Serve, when: str, happened: bool
) -> None:
    sim.faults.add(Rule("VM.set_name_label", "drop", when))
    with Line(unix(serve(sim))) as line:
        # What was sent ahead is not looked at.
        line.send(b"".join(post_of(request("VM.set_name_label", pool.session, vm, "new")) for vm in pool.vms[:2]))
        assert line.rest() == b""
    names = [sim.call("VM.get_name_label", pool.session, vm) for vm in pool.vms[:2]]
    assert names == ["new" if happened else "web01", "db01"]


@pytest.mark.parametrize("way", ["clean", "kill", "host"])
def test_when_xapi_ends_all_connections_break_but_that_of_who_ended_it(
    sim: Simulator, pool: Pool, serve: Serve, way: str
) -> None:
    server = serve(sim, http=NETWORK)
    sim.call("pool.sync_database", pool.session)
    path = unix(server)
    with Line(path) as idle, Line(tcp(server)) as remote, Line(path) as busy, Line(path) as ours:
        assert idle.call("pool.get_all", pool.session) and remote.call("pool.get_all", pool.session)
        ours.call("simulator.add_fault", "", {"method": "VM.get_all", "action": "hang"})
        busy.send(post_of(request("VM.get_all", pool.session)))
        while "VM.get_all" not in sim.counts:
            ours.call("simulator.get_counts", "")
        assert ours.call("simulator.restart", "", way, 0.0) == ""
        assert [line.rest() for line in (idle, remote, busy)] == [b"", b"", b""]
        assert ours.call("pool.get_all", pool.session) == ["SESSION_INVALID", pool.session]


def test_xapi_can_end_from_this_process_while_its_server_runs_and_after(
    sim: Simulator, pool: Pool, serve: Serve
) -> None:
    server = serve(sim)
    sim.call("pool.sync_database", pool.session)
    with Line(unix(server)) as line:
        assert line.call("pool.get_all", pool.session)
        sim.call("simulator.restart", "", "kill", 0.0)
        assert line.rest() == b""
    server.stop()
    # Nobody is told any more: the loop is closed, and would say so.
    sim.call("simulator.restart", "", "kill", 0.0)
    assert sim.life == 3


def test_a_host_that_does_not_listen_closes_what_it_accepts(
    sim: Simulator, pool: Pool, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is not for being slow.
    monkeypatch.setattr(protocol, "HEADER_READ_SECONDS", 3600.0)
    monkeypatch.setattr(protocol, "HEADER_TOTAL_SECONDS", 3600.0)
    server = serve(sim, http=NETWORK)
    sim.call("pool.sync_database", pool.session)
    sim.call("simulator.kill_host", "", pool.hosts[0])
    with Line(tcp(server)) as line:
        # Without a word from us.
        assert line.rest() == b""
    for data in (
        post_of(request("pool.get_all", pool.session)),
        b"nonsense, but complete\r\n\r\n",
        b"OPTIONS / HTTP/1.1\r\n\r\n",
        post_of(b'{"jsonrpc": "2.0", "method": "VM.get_by_uuid", "params": ["x", "caf\xe9"], "id": 5}', "/jsonrpc"),
    ):
        with Line(unix(server)) as line:
            assert line.send(data).rest() == b""


def test_the_simulator_itself_can_be_reached_while_xapi_is_away(sim: Simulator, pool: Pool, serve: Serve) -> None:
    server = serve(sim)
    sim.call("pool.sync_database", pool.session)
    with Line(unix(server)) as line:
        assert line.call("simulator.kill_host", "no session", pool.hosts[0]) == ""
        assert line.call("simulator.get_time", "no session").value.startswith("2026")
        assert line.call("simulator.start_host", "no session", pool.hosts[0]) == ""
        assert line.call("session.login_with_password", "root", "").startswith("OpaqueRef:")


# --- TLS ---


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    pem = str(tmp_path / "server.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem, "-out", pem + ".crt"]
    try:
        subprocess.check_output(command + ["-subj", "/CN=localhost"], stderr=subprocess.STDOUT)
    except FileNotFoundError:
        pytest.skip("no openssl here")
    with open(pem, "a") as both, open(pem + ".crt") as public:
        both.write(public.read())
    return pem


def login_over_tls(server: Server, pem: str) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(pem + ".crt")
    connection = http.client.HTTPSConnection(*(server.https_address or ()), context=context)
    connection.request("POST", "/", request("session.login_with_password", "root", "simulator"))
    answer: bytes = connection.getresponse().read()
    connection.close()
    return answer


def test_https_needs_only_a_certificate(sim: Simulator, serve: Serve, certificate: str) -> None:
    server = serve(sim, https=("127.0.0.1", 0, certificate, certificate))
    assert b"Success" in login_over_tls(server, certificate)


def test_clients_that_speak_no_tls_or_nothing_cost_no_place(
    sim: Simulator, serve: Serve, certificate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "NETWORK_CONNECTIONS_MAX", 2)
    server = serve(sim, https=("127.0.0.1", 0, certificate, certificate))
    # This one is in the middle of shaking hands until the server ends.
    with Line(server.https_address) as silent:
        for _ in range(3):
            with Line(server.https_address) as line:
                line.send(b"GET / HTTP/1.0\r\n\r\n")
                line.rest()
        assert b"Success" in login_over_tls(server, certificate)
        server.stop()
        assert silent.rest() == b""
