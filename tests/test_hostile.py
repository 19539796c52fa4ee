"""Whatever comes from outside: records, names, arguments, files and answers that somebody means harm with."""

import gzip
import http.server
import io
import json
import os
import re
import socketserver
import stat
import threading
import unicodedata
import xmlrpc.client
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests import xencenter
from tests.pool import TestPool
from vmss import plugin
from vmss.core import messages
from vmss.core.problem import Problem
from vmss.edges.lock import LockDirectory
from vmss.edges.lock_folder import LockError
from vmss.edges.log import Log
from vmss.edges.settings import Settings, SettingsError
from vmss.edges.settings_file import load
from vmss.edges.settings_table import SETTINGS
from vmss.edges.transport import UnixTransport
from vmss.edges.zones import time_zone
from vmss.passes.request import Report, Request
from vmss.passes.run import run

# VMSS_TEST_EXAMPLES=20 looks twenty times as long.
EXAMPLES = int(os.environ.get("VMSS_TEST_EXAMPLES", "1"))


def thorough(examples: int) -> settings:
    """Every example has a pool, or a file, of its own."""
    return settings(max_examples=examples * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


NOON = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
LONG_AGO = "20260302T01:00:00Z"
FORGED = "a\nMay 21 10:15:01 host VMSS: [1] Completed\nVM:forged UUID:x Error:['FORGED'],\n"
nasty = st.sampled_from(
    [
        "",
        " ",
        FORGED,
        "\r",
        "\x85",
        "\u2028",
        "\x1b[2J",
        "\x00",
        "\u202eevil",
        "\u200f",
        "\ufffe",
        "'",
        '"',
        "']",
        "',",
        "<b>&amp;</b>",
        "]]>",
        "&",
        "VM:x UUID:y Error:['Z'],",
        "UUID:",
        "Error:[",
        "%s%d{0}",
        "../../x",
        "OpaqueRef:NULL",
        "-1",
        "0",
        "9" * 30,
        "1e999",
        "nan",
        "true",
        "x" * 5000,
        "\U0001f4be\u00e4",
        "\u0663",
        "00010101T00:00:00Z",
        "99991231T23:59:59Z",
        "20260302T10:14:60Z",
    ]
)
hostile = st.one_of(nasty, st.text(max_size=20), st.lists(nasty, max_size=4).map("".join))
surrogates = st.lists(st.one_of(hostile, st.integers(0xD800, 0xDFFF).map(chr)), max_size=4).map("".join)


def is_safe(text: str) -> bool:
    text.encode("utf-8")
    return not {unicodedata.category(character) for character in text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


LINE = re.compile(r"[A-Z][a-z]{2} [ 1-3][0-9] [0-9:]{8} \S+ VMSS: \[%d\] " % os.getpid())


def xml_can_carry(text: str) -> bool:
    """What no XML can carry, xapi does not store; and the embedded one may send what no client can read."""
    return not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", text)


def check_log(pool: TestPool) -> None:
    """Every line is one of ours, whole, and safe to show."""
    path = Path(pool.place.log)
    for line in path.read_bytes().decode("utf-8").split("\n")[:-1] if path.exists() else []:
        assert LINE.match(line) and is_safe(line), line


def check_alerts(pool: TestPool, failed: Optional[Set[str]] = None) -> None:
    """Every alert is text that is safe to show, and names these VMs as failed, and no others."""
    named = set()
    for record in pool.alerts():
        assert all(is_safe(line) for line in record["body"].split("\n"))
        assert not xencenter.trouble_with(record["name"], record["body"])
        named |= {vm.uuid for vm in xencenter.current(record["body"])}
    assert failed is None or named == failed


# A pool in which much is none of our business


class Estate(NamedTuple):
    """A pool with an hourly policy that is due at 10:15 and has something to delete; `foreign` are objects, by
    class, that no pass may touch."""

    pool: TestPool
    policy: str
    vms: List[str]
    foreign: Dict[str, List[str]]


@contextmanager
def estate() -> Iterator[Estate]:
    with TemporaryDirectory() as folder, TestPool(Path(folder)) as pool:
        sr = pool.sr()
        pool.call("pool.set_suspend_image_SR", pool.call("pool.get_all")[0], sr)
        vms = [pool.vm("one", [sr, sr]), pool.vm("two", [sr])]
        policy = pool.policy(vms, retained_snapshots="1")
        other = pool.vm("bystander", [sr], running=True)
        pool.call("VM.suspend", other)
        manual = [pool.call("VM.snapshot", vm, "by hand") for vm in (vms[0], other)]
        alone = pool.call("VDI.snapshot", pool.vdi(sr), {})
        pool.call("VMSS.set_last_run_time", policy, LONG_AGO)
        pool.at(10, 15)
        assert pool.tick().status == 0
        # One of the snapshots' disks has a second user.
        (mine,) = pool.snapshots(vms[1])
        shared = pool.call("VBD.get_VDI", mine["VBDs"][0])
        pool.vbd(other, shared, 7)
        foreign = {
            "VM": vms + [other] + manual,
            "VDI": [
                pool.call("VBD.get_VDI", vbd) for vm in vms + [other] + manual for vbd in pool.call("VM.get_VBDs", vm)
            ]
            + [shared, alone, pool.call("VM.get_suspend_VDI", other)],
        }
        pool.at(11, 15)
        yield Estate(pool, policy, vms, foreign)


def untouched(here: Estate, but: str = "") -> None:
    for cls, refs in here.foreign.items():
        there = set(here.pool.call(cls + ".get_all"))
        assert [ref for ref in refs if ref not in there and ref != but] == []


def one_line_or_report(act: Callable[[], Report]) -> Optional[Report]:
    """A pass ends with a report, or with one line that says what kept it from that; never otherwise."""
    try:
        report = act()
    except Problem as problem:
        assert is_safe(str(problem)) and str(problem)
        return None
    assert is_safe(report.line)
    return report


# A server that is not xapi, or lies


class Lie(NamedTuple):
    """The n-th answer to a method has another value at one of its nodes, or lacks it. A node is the number of one, or
    a field of the answer's first record, or () for all of it."""

    method: str
    number: int
    node: Union[int, Tuple[str, ...]]
    value: Any
    drop: bool = False


# By reference, a field of a record and what it has instead, whoever asks.
Spoiled = Dict[str, Tuple[str, Any]]


class Liar(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A server on a unix socket that hands calls on, and changes what comes back; or says `raw`."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, path: str, server: str, lies: List[Lie], raw: Optional[Tuple[str, bytes]], spoiled: Spoiled
    ) -> None:
        socketserver.UnixStreamServer.__init__(self, path, Handler)
        self.spoiled = spoiled
        self.upstream = server
        self.lies = lies
        self.raw = raw
        self.calls: List[str] = []
        self.told = 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, method: str, params: Sequence[Any], value: Any) -> Any:
        number = self.calls.count(method)
        self.calls.append(method)
        for lie in self.lies:
            if (lie.method, lie.number) == (method, number):
                self.told += 1
                value = changed(value, lie)
        for ref, (field, bad) in self.spoiled.items():
            if isinstance(value, dict) and ref in value:
                value[ref][field] = bad
            elif method.endswith(".get_record") and field in value and ref in params:
                value[field] = bad
        return value


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Liar

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        by_json = self.path == "/jsonrpc"
        asked = json.loads(body.decode("utf-8")) if by_json else {}
        params, method = (asked["params"], asked["method"]) if by_json else xmlrpc.client.loads(body)
        if self.server.raw is not None and self.server.raw[0] in (method, ""):
            self.wfile.write(self.server.raw[1])
            self.close_connection = True
            return
        transport = UnixTransport(self.server.upstream)
        if by_json:
            told = json.loads(transport.post("localhost", "/jsonrpc", body).decode("utf-8"))
            if "result" in told:
                told["result"] = self.server.answer(str(method), params, told["result"])
            text = json.dumps(told, default=str)
        else:
            answer = transport.request("localhost", "/", body)[0]
            if answer["Status"] == "Success":
                answer["Value"] = self.server.answer(str(method), params, answer["Value"])
            text = xmlrpc.client.dumps((answer,), methodresponse=True, allow_none=True)
        transport.close()
        data = text.encode("utf-8", "surrogatepass")
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def nodes(value: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from nodes(value[key], path + (key,))


def changed(value: Any, lie: Lie) -> Any:
    """A value with one of its nodes, the topmost first, changed."""
    if isinstance(lie.node, int):
        paths = sorted(nodes(value), key=lambda path: (len(path), path))
        path = paths[lie.node % len(paths)]
    else:
        path = next(path for path in nodes(value) if path[len(path) - len(lie.node) :] == lie.node)
    if not path:
        return lie.value
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if lie.drop:
        del inner[path[-1]]
    else:
        inner[path[-1]] = lie.value
    return value


@contextmanager
def front(
    pool: TestPool, lies: List[Lie], raw: Optional[Tuple[str, bytes]] = None, spoiled: Optional[Spoiled] = None
) -> Iterator[Liar]:
    direct, path = pool.place, str(pool.folder / "liar.sock")
    pool.place = direct._replace(xapi="unix:" + path)
    with Liar(path, pool.socket, lies, raw, spoiled or {}) as liar:
        yield liar
        liar.shutdown()
    os.unlink(path)
    pool.place = direct


METHODS = [
    "session.login_with_password",
    "pool.get_all_records",
    "VMSS.get_all_records",
    "VM.get_all_records_where",
    "VBD.get_all_records_where",
    "VDI.get_all_records_where",
    "VDI.get_record",
    "Async.VM.snapshot",
    "event.from",
    "Async.VM.destroy",
    "Async.VDI.destroy",
    "task.destroy",
    "message.create",
    "SR.get_type",
    "SR.get_physical_size",
    "VMSS.set_last_run_time",
    "pool.add_to_other_config",
    "pool.remove_from_other_config",
    "session.logout",
]
junk = st.recursive(
    st.one_of(
        surrogates,
        st.none(),
        st.booleans(),
        st.integers(-(2**31), 2**31 - 1),
        st.floats(),
        st.sampled_from([xmlrpc.client.DateTime(text) for text in ("", "x", "00010101T00:00:00Z", LONG_AGO)]),
        st.binary(max_size=4),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(hostile, inner, max_size=3)),
    max_leaves=4,
)
lies = st.builds(
    Lie, st.sampled_from(METHODS), st.sampled_from([0, 0, 0, 1, 2]), st.integers(0, 300), junk, st.booleans()
)


# A task with a character that no call can carry, in a pass that leaves its tasks to the next one.
UNSPEAKABLE = [
    Lie("pool.get_all_records", 0, 113, ""),
    Lie("session.login_with_password", 2, 0, []),
    Lie("Async.VM.destroy", 0, 0, b"\x04\xd7\x96"),
]


@given(st.lists(lies, min_size=1, max_size=4))
@example(UNSPEAKABLE)
@thorough(25)
def test_no_lie_of_the_server_does_harm_and_the_truth_is_served_afterwards(told: List[Lie]) -> None:
    with estate() as here:
        with front(here.pool, told):
            one_line_or_report(here.pool.tick)
        check_log(here.pool)
        check_alerts(here.pool)
        untouched(here)
        here.pool.at(12, 15)
        assert here.pool.tick().status == 0
        untouched(here)
        for vm in here.vms:
            times = [str(record["snapshot_time"]) for record in here.pool.snapshots(vm)]
            assert len(times) == 1 and times[0] >= "20260302T12:15:00Z"
        assert here.pool.names(here.policy)[-1] == messages.SUCCEEDED


@pytest.mark.parametrize(
    "method, path, value",
    [
        ("pool.get_all_records", (), {}),
        ("pool.get_all_records", ("uuid",), "../../x"),
        ("pool.get_all_records", ("restrictions",), 5),
        ("VMSS.get_all_records", (), ["x"]),
        ("event.from", ("events",), 5),
        ("VM.get_all_records_where", (), 5),
    ],
)
def test_an_answer_of_another_form_is_no_answer_and_ends_the_pass_in_one_line(
    method: str, path: Tuple[str, ...], value: Any
) -> None:
    with estate() as here:
        with front(here.pool, [Lie(method, 0, path, value)]) as liar:
            assert one_line_or_report(here.pool.tick) is None
            assert liar.told == 1
        assert any("not an answer of xapi" in line for line in here.pool.log())
        # The session is written down where operations of it have not ended, and nowhere else.
        assert not any(name.startswith("login-") for name in os.listdir(here.pool.place.lock_dir))
        untouched(here)
        here.pool.at(11, 30)
        assert here.pool.tick().status == 0


@pytest.mark.parametrize(
    "field, value",
    [
        ("memory_dynamic_max", "lots"),
        ("memory_dynamic_max", "9" * 400),
        ("current_operations", 5),
        ("snapshots", ""),
        ("other_config", None),
        ("snapshot_schedule", "OpaqueRef:NULL"),
    ],
)
def test_a_vm_whose_record_makes_no_sense_is_named_and_stops_nobody(field: str, value: Any) -> None:
    with estate() as here:
        with front(here.pool, [Lie("VM.get_all_records_where", 0, (field,), value)]) as liar:
            report = one_line_or_report(here.pool.tick)
            assert liar.told == 1
        if field == "snapshot_schedule":  # it is another policy's by now
            assert report is not None and report.status == 0
            return
        assert report is not None and (report.status, report.line.split(", exp")[0]) == (
            1,
            "schedules served: 1, VMs snapshotted: 1 of 2",
        )
        (failed,) = here.pool.alerts(here.policy)[-1:]
        (vm,) = xencenter.current(failed["body"])
        assert vm.code == "VMSS_UNREADABLE_RECORD"
        assert vm.uuid in [here.pool.uuid("VM", ref) for ref in here.vms]
        untouched(here)


def test_a_snapshot_whose_record_makes_no_sense_is_left_alone_and_stops_nobody() -> None:
    with estate() as here:
        lie = Lie("VM.get_all_records_where", 1, ("snapshot_time",), "yesterday")
        with front(here.pool, [lie]) as liar:
            assert here.pool.tick().status == 0
            assert liar.told == 1
        assert sorted(len(here.pool.snapshots(vm)) for vm in here.vms) == [1, 2]
        assert any("is left alone" in line for line in here.pool.log())


@pytest.mark.parametrize(
    "cls, field, value",
    [
        ("VBD", "VM", 5),
        ("VBD", "VM", "OpaqueRef:other"),
        ("VBD", "VDI", None),
        ("VBD", "type", []),
        ("VBD", "userdevice", 0),
        ("VBD", "empty", "no"),
        ("VDI", "virtual_size", "9" * 400),
        ("VDI", "virtual_size", "x"),
        ("VDI", "VBDs", ""),
        ("VDI", "VBDs", {}),
    ],
)
@pytest.mark.parametrize("whose", ["vm", "expired snapshot"])
def test_a_disk_whose_record_makes_no_sense_fails_its_vm_and_nobody_else(
    cls: str, field: str, value: Any, whose: str
) -> None:
    with estate() as here:
        pool, (one, two) = here.pool, here.vms
        (old,) = pool.snapshots(one)
        owner = one if whose == "vm" else pool.call("VM.get_by_uuid", old["uuid"])
        vbd = pool.call("VM.get_VBDs", owner)[0]
        ref = vbd if cls == "VBD" else pool.call("VBD.get_VDI", vbd)
        with front(pool, [], spoiled={ref: (field, value)}):
            report = one_line_or_report(pool.tick)
        assert report is not None and report.status == 1
        check_log(pool)
        check_alerts(pool, {pool.uuid("VM", one)})
        untouched(here)
        (failed,) = xencenter.current(pool.alerts(here.policy)[-1]["body"])
        assert failed.code == "VMSS_UNREADABLE_RECORD"
        # The other one is served; of this one nothing was deleted, and the snapshot was taken if it could be.
        assert [str(record["snapshot_time"]) >= "20260302T11:15:00Z" for record in pool.snapshots(two)] == [True]
        assert [record["uuid"] for record in pool.snapshots(one)][0] == old["uuid"]
        assert len(pool.snapshots(one)) == (1 if whose == "vm" else 2)
        pool.at(12, 15)
        assert pool.tick().status == 0
        assert [len(pool.snapshots(vm)) for vm in here.vms] == [1, 1]


@pytest.mark.parametrize(
    "method, number",
    [("VBD.get_all_records_where", 0), ("VDI.get_all_records_where", 0), ("VBD.get_all_records_where", 1)],
)
@pytest.mark.parametrize("value", [["x"], 5, {"OpaqueRef:x": 5}, {"OpaqueRef:x": {}}])
def test_a_single_answer_about_disks_that_makes_no_sense_is_asked_for_again(
    method: str, number: int, value: Any
) -> None:
    with estate() as here:
        with front(here.pool, [Lie(method, number, (), value)]) as liar:
            assert here.pool.tick().status == 0
            assert liar.told == 1
        assert [len(here.pool.snapshots(vm)) for vm in here.vms] == [1, 1]
        untouched(here)


@given(st.sampled_from(["VBD", "VDI"]), st.integers(0, 30), st.integers(0, 60), junk)
@thorough(25)
def test_whatever_is_wrong_with_the_record_of_a_disk_the_pass_comes_to_its_end(
    cls: str, which: int, field: int, value: Any
) -> None:
    with estate() as here:
        pool = here.pool
        refs = sorted(pool.call(cls + ".get_all"))
        ref = refs[which % len(refs)]
        names = sorted(pool.call(cls + ".get_record", ref))
        with front(pool, [], spoiled={ref: (names[field % len(names)], value)}):
            assert one_line_or_report(pool.tick) is not None
        check_log(pool)
        check_alerts(pool)
        untouched(here)


def test_a_disk_of_a_snapshot_that_is_gone_and_makes_no_sense_waits_for_the_next_pass() -> None:
    with estate() as here:
        pool = here.pool
        (old,) = pool.snapshots(here.vms[0])
        vdis = [pool.call("VBD.get_VDI", vbd) for vbd in old["VBDs"]]
        pool.record({old["uuid"]: [pool.uuid("VDI", vdi) for vdi in vdis]})
        pool.call("VM.destroy", pool.call("VM.get_by_uuid", old["uuid"]))
        with front(pool, [], spoiled={vdis[0]: ("VBDs", "")}):
            assert pool.tick().status == 0
        assert set(vdis) <= set(pool.call("VDI.get_all"))
        pool.at(11, 30)
        assert pool.tick().status == 0
        assert not set(vdis) & set(pool.call("VDI.get_all"))
        untouched(here)


def test_a_server_whose_clock_has_left_the_calendar_is_no_server() -> None:
    with estate() as here, front(
        here.pool,
        [Lie("host.get_servertime", 0, 0, xmlrpc.client.DateTime(text), False) for text in ("99991231T23:59:59Z",)],
    ) as liar:
        around = here.pool.surroundings(clock=None)
        assert one_line_or_report(lambda: run(Request(kicked=True), around)) is None
        assert liar.told == 1


def http_answer(body: bytes, head: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def response(value: str) -> bytes:
    return ("<methodResponse><params><param><value>%s</value></param></params></methodResponse>" % value).encode(
        "utf-8", "surrogatepass"
    )


def failure(description: str) -> bytes:
    return response(
        "<struct><member><name>Status</name><value>Failure</value></member><member><name>ErrorDescription</name>"
        "<value>%s</value></member></struct>" % description
    )


tags = st.sampled_from(
    [
        "value",
        "int",
        "i8",
        "double",
        "boolean",
        "string",
        "base64",
        "dateTime.iso8601",
        "struct",
        "member",
        "name",
        "array",
        "data",
        "nil",
        "bigdecimal",
        "params",
        "param",
        "fault",
        "methodName",
    ]
)
markup = st.recursive(
    st.sampled_from(
        ["", "1", "x", "-5", "1e999", "Status", "Success", "Failure", "&#0;", "&#xD800;", "\ud800", "\u00e4"]
    ),
    lambda inner: st.builds(
        lambda tag, parts: "<%s>%s</%s>" % (tag, "".join(parts), tag), tags, st.lists(inner, max_size=3)
    ),
    max_leaves=8,
)
zipped = b"Content-Encoding: gzip\r\n"
raw_answers = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=40).map(http_answer),
    markup.map(response).map(http_answer),
    markup.map(failure).map(http_answer),
    st.binary(max_size=20).map(lambda body: http_answer(body, zipped)),
    st.sampled_from(
        [
            http_answer(gzip.compress(response("x"))[:-9], zipped),
            http_answer(b"\x1f\x8b\x08\x00" + b"\xff" * 30, zipped),
            http_answer(response("<bigdecimal>x</bigdecimal>")),
            http_answer(failure("<int>5</int>")),
            http_answer(
                failure(
                    "<array><data>"
                    + "<value><array><data>" * 9000
                    + "</data></array></value>" * 9000
                    + "</data></array>"
                )
            ),
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 999999 x\r\n\r\n",
            b"HTTP/1.1 401 no\r\nContent-Length: 0\r\n\r\n",
            b"SSH-2.0-x\r\n",
            b"x" * 70000,
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n",
        ]
    ),
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestPool]:
    """A pool for examples that leave it as it was."""
    with TestPool(tmp_path_factory.mktemp("plain")) as pool:
        vm = pool.vm("vm", [pool.sr()])
        pool.call("VMSS.set_last_run_time", pool.policy([vm]), LONG_AGO)
        pool.at(10, 15)
        yield pool


@given(raw_answers, st.sampled_from(["session.login_with_password", "pool.get_all_records", "VMSS.get_all_records"]))
@thorough(150)
def test_whatever_a_server_says_that_is_not_xapi_is_one_line(plain: TestPool, answer: bytes, method: str) -> None:
    with front(plain, [], (method, answer)):
        assert one_line_or_report(plain.tick) is None
    check_log(plain)
    assert plain.alerts() == []
    Path(plain.place.log).unlink()


# Names


@given(st.lists(hostile, min_size=1, max_size=6), hostile, hostile)
@thorough(25)
def test_no_name_forges_a_line_of_the_log_or_of_an_alert(names: List[str], policy_name: str, reason: str) -> None:
    with TemporaryDirectory() as folder, TestPool(Path(folder)) as pool:
        db, sr = pool.simulator.db, pool.sr()
        vms = [pool.vm("vm", [sr]) for _ in names]
        policy = pool.policy(vms)
        for vm, name in zip(vms, names):
            db.set("VM", vm, "name_label", name)
        db.set("VMSS", policy, "name_label", policy_name)
        db.set("VM", vms[0], "blocked_operations", {"snapshot": reason})
        pool.at(10, 15)
        report = one_line_or_report(pool.tick)
        check_log(pool)
        if not all(map(xml_can_carry, names + [policy_name, reason])):
            return
        assert report is not None and report.status == 1
        check_alerts(pool, {pool.uuid("VM", vms[0])})
        assert [len(pool.snapshots(vm)) for vm in vms] == [0] + [1] * (len(vms) - 1)


@given(st.lists(surrogates, max_size=30), surrogates, surrogates)
@thorough(100)
def test_a_failure_is_named_however_much_its_error_says(error: List[str], name: str, summary: str) -> None:
    body = messages.failed_body([messages.Victim(name, "uuid", ["CODE"] + error * 500)], summary)
    assert [vm.code for vm in xencenter.current(body)] == [vm.code for vm in xencenter.older(body)] == ["CODE"]
    assert all(is_safe(line) for line in body.split("\n")) and len(body.encode("utf-8")) < 300000


# The pool's other_config


setting_keys = st.sampled_from(["vmss:" + setting.name for setting in SETTINGS])


@given(st.dictionaries(st.one_of(setting_keys, hostile.map(lambda text: "vmss:" + text)), hostile, max_size=5))
@thorough(20)
def test_no_setting_of_the_pool_keeps_it_from_being_served(other_config: Dict[str, str]) -> None:
    with estate() as here:
        db = here.pool.simulator.db
        db.set("pool", here.pool.call("pool.get_all")[0], "other_config", other_config)
        report = one_line_or_report(here.pool.tick)
        check_log(here.pool)
        # xapi sends the names of a map as they are, see the embedded one's wire.
        if (
            not all(map(xml_can_carry, list(other_config.values())))
            or re.search("[&<>]", "".join(other_config))
            or (not all(map(xml_can_carry, other_config)))
        ):
            return
        assert report is not None and report.status == 0
        untouched(here)


@given(st.data())
@thorough(15)
def test_no_forged_record_of_what_is_to_be_destroyed_touches_what_is_in_use(data: st.DataObject) -> None:
    with estate() as here:
        pool = here.pool
        *used, alone, _ = here.foreign["VDI"]
        here.foreign["VDI"].remove(alone)  # a snapshot of a disk that nothing uses: what a record is there for
        every = {cls: [pool.uuid(cls, ref) for ref in pool.call(cls + ".get_all")] for cls in ("VDI", "VM")}
        assert {pool.uuid("VDI", ref) for ref in used} <= set(every["VDI"])
        uuids = st.one_of(st.sampled_from(every["VDI"]), st.sampled_from(every["VM"]), st.uuids().map(str), hostile)
        entries = st.dictionaries(uuids, st.one_of(st.lists(uuids, max_size=12), hostile), max_size=4)
        everything = st.uuids().map(lambda uuid: {str(uuid): every["VDI"]})
        forged = data.draw(st.one_of(everything.map(json.dumps), entries.map(json.dumps), hostile, st.just("[" * 9000)))
        pool.simulator.db.add_to_map(
            "pool", pool.call("pool.get_all")[0], "other_config", "vmss-destroying:" + data.draw(hostile), forged
        )
        one_line_or_report(pool.tick)
        check_log(pool)
        untouched(here)


# The plugin's argument


def answered(argument: str) -> Dict[str, Any]:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    with redirect_stdout(out):
        assert plugin.main(["vmss", argument]) == 0
    ((answer,), _) = xmlrpc.client.loads(raw.getvalue())
    assert isinstance(answer, dict)
    return answer


arguments = st.one_of(
    hostile.map(lambda text: "<" + text),
    surrogates.map(lambda text: "<" + text),
    markup.map(lambda text: "<methodCall><methodName>status</methodName><params>%s</params></methodCall>" % text),
    markup.map(
        lambda text: (
            "<methodCall><methodName>status</methodName><params><param><value>x</value></param><param>"
            "<value>%s</value></param></params></methodCall>" % text
        )
    ),
)


@given(arguments)
@thorough(300)
def test_no_argument_of_the_plugin_is_answered_by_anything_but_a_failure(argument: str) -> None:
    with env(VMSS_XAPI="unix:/nowhere", VMSS_LOCK_DIR="/nowhere/locks"):
        answer = answered(argument)
    assert answer["Status"] == "Failure" and all(is_safe(item) for item in answer["ErrorDescription"])


@given(
    st.sampled_from(["snapshot_now", "trigger_schedule_snapshots", "status", "main", "__init__", ""]),
    st.dictionaries(
        st.one_of(st.sampled_from(["vmss_uuid", "wait"]), hostile),
        st.one_of(hostile, st.integers(0, 9)),
        min_size=1,
        max_size=3,
    ),
)
@thorough(200)
def test_the_arguments_of_a_function_are_checked(function: str, args: Dict[str, Any]) -> None:
    if args.get("wait") in ("true", "false"):
        args["wait"] = "maybe"  # or a run would start
    call = xmlrpc.client.dumps(("OpaqueRef:x", args), function)
    with env(VMSS_XAPI="unix:/nowhere", VMSS_LOCK_DIR="/nowhere/locks"):
        answer = answered(call)
    assert answer["Status"] == "Failure" and all(is_safe(item) for item in answer["ErrorDescription"])


@contextmanager
def env(**variables: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def test_the_status_takes_no_other_name_for_the_lock_than_a_uuid(tmp_path: Path) -> None:
    with estate() as here, front(here.pool, [Lie("pool.get_all_records", 0, ("uuid",), "../x")]):
        (tmp_path / "x.lock").write_text(json.dumps({"secret": 1}))
        call = xmlrpc.client.dumps((here.pool.xapi.session, {}), "status")
        with env(VMSS_XAPI=here.pool.place.xapi, VMSS_LOCK_DIR=str(tmp_path / "locks")):
            answer = answered(call)
        assert answer["ErrorDescription"][0] == messages.LOGON_FAILURE and "secret" not in str(answer)


# Files


@given(
    st.one_of(
        st.binary(max_size=60),
        surrogates.map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.lists(st.tuples(st.one_of(hostile, st.sampled_from([setting.name for setting in SETTINGS])), hostile)).map(
            lambda rows: ("[vmss]\n" + "".join("%s = %s\n" % row for row in rows)).encode("utf-8")
        ),
    )
)
@thorough(300)
def test_a_configuration_file_is_understood_or_refused_in_one_line(text: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = os.path.join(folder, "vmss.conf")
        Path(path).write_bytes(text)
        try:
            assert isinstance(load(path), Settings)
        except SettingsError as error:
            assert is_safe(str(error)) and str(error).startswith(path)


def test_a_pipe_in_place_of_the_configuration_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "vmss.conf"))
    with pytest.raises(SettingsError, match="it is not a regular file"):
        load(str(tmp_path / "vmss.conf"))


@given(st.one_of(surrogates, st.text("ESTDUC0123456789+-:,./MJ<>_ ", max_size=20)))
@pytest.mark.filterwarnings("ignore")
@thorough(300)
def test_the_name_of_a_time_zone_is_known_or_is_not(name: str) -> None:
    try:
        zone = time_zone(name or None)
    except ValueError as error:
        assert is_safe(str(error)) and "not a known time zone" in str(error)
    else:
        assert NOON.astimezone(zone).utcoffset() is not None


kept = st.one_of(
    junk.map(lambda value: json.dumps(value, default=str)),
    hostile,
    st.just("[" * 100000),
    st.fixed_dictionaries(
        {},
        optional={
            "session": junk,
            "since": st.one_of(junk, nasty),
            "last": nasty,
            "xapi": hostile,
            "policies": junk,
            "vms": st.lists(
                st.fixed_dictionaries({}, optional={"vm": junk, "since": st.one_of(junk, nasty), "task": junk})
            ),
            "sessions": st.lists(st.fixed_dictionaries({}, optional={"session": junk, "tasks": junk})),
        },
    ).map(lambda value: json.dumps(value, default=str)),
)


# What no call to xapi can carry.
UNCARRIED = "OpaqueRef:\x04"


@given(kept, kept, kept, kept)
@example("", "", "", json.dumps({"sessions": [{"session": ""}]}))  # is not the session of the pass itself
@example("", "", "", json.dumps({"sessions": [{"session": UNCARRIED}]}))
@example("", "", "", json.dumps({"sessions": [{"session": "OpaqueRef:1", "tasks": [UNCARRIED]}]}))
@example(json.dumps({"session": UNCARRIED, "died": [UNCARRIED]}), "", "", "")
@example(json.dumps({"policies": [UNCARRIED], "since": UNCARRIED}), "", "", "")
@example("", "", json.dumps({"vms": [{"vm": UNCARRIED, "since": LONG_AGO, "task": UNCARRIED}]}), "")
@thorough(15)
def test_whatever_an_earlier_pass_is_said_to_have_left_the_next_one_serves(
    lock: str, logon: str, frozen: str, sessions: str
) -> None:
    with estate() as here:
        pool = here.pool
        uuid = pool.uuid("pool", pool.call("pool.get_all")[0])
        logon = logon.replace('"xapi"', json.dumps("xapi") + ': %s, "x"' % json.dumps(pool.place.xapi))
        files = {".lock": lock, ".sessions": sessions, ".frozen": frozen}
        for name, text in [("logon-failure", logon)] + [(uuid + suffix, text) for suffix, text in files.items()]:
            Path(pool.place.lock_dir, name).write_bytes(text.encode("utf-8", "surrogatepass"))
        assert pool.tick().status == 0
        check_log(pool)
        check_alerts(pool)
        untouched(here)


def foreign_file(path: Path) -> None:
    path.write_text("")
    os.chown(str(path), 12345, 12345)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.mark.parametrize("kind", ["hard link", pytest.param("foreign", marks=as_root)])
def test_a_log_that_may_be_somebody_elses_file_is_not_written_to(
    tmp_path: Path, kind: str, capfd: "pytest.CaptureFixture[str]"
) -> None:
    path, victim = tmp_path / "VMSSlog", tmp_path / "victim"
    if kind == "foreign":
        foreign_file(path)
    else:
        victim.write_text("")
        os.link(str(victim), str(path))
    Log(str(path), lambda: NOON, time_zone("UTC"))("hello")
    assert path.read_text() == "" and "hello" in capfd.readouterr().err


@as_root
def test_a_lock_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir(mode=0o700)
    os.chown(str(tmp_path / "locks"), 12345, 12345)
    with pytest.raises(LockError, match="has to belong to the user"):
        LockDirectory(str(tmp_path / "locks"))


def test_a_lock_directory_that_others_may_replace_is_refused(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    parent.chmod(0o777)
    with pytest.raises(LockError, match="another directory in place"):
        LockDirectory(str(parent / "locks"))
    parent.chmod(0o1777)  # as /tmp and /run/lock are
    LockDirectory(str(parent / "locks")).close()
    assert stat.S_IMODE((parent / "locks").stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory", "socket"])
@pytest.mark.parametrize("name", ["lock", "logon-failure", "sessions"])
def test_what_lies_in_the_way_of_a_file_of_ours_is_neither_followed_nor_waited_for(
    tmp_path: Path, kind: str, name: str
) -> None:
    with estate() as here:
        pool = here.pool
        uuid = pool.uuid("pool", pool.call("pool.get_all")[0])
        path = Path(pool.place.lock_dir, name if name == "logon-failure" else "%s.%s" % (uuid, name))
        victim = tmp_path / "victim"
        victim.write_text("precious")
        with suppress(FileNotFoundError):
            path.unlink()
        lay(path, kind, victim)
        report = one_line_or_report(pool.tick)
        assert (report is None) == (name == "lock")
        assert victim.read_text() == "precious" and not (tmp_path / "absent").exists()
        untouched(here)


def lay(path: Path, kind: str, victim: Path) -> None:
    if kind in ("link", "dangling"):
        path.symlink_to(victim if kind == "link" else victim.parent / "absent")
    elif kind == "fifo":
        os.mkfifo(str(path))
    elif kind == "directory":
        path.mkdir()
    else:
        os.mknod(str(path), stat.S_IFSOCK | 0o600)
