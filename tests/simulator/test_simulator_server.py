"""The server: many clients, plugins as child processes, the command and its state file."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import xmlrpc.client
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from vmss.simulator import Durations, Simulator, StateError, XapiError
from vmss.simulator.build import Pool, build_pool, vdi_record
from vmss.simulator.listening import ServerError
from vmss.simulator.server import Server

from .client import Client, Connect, Serve

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMMAND = (
    "import argparse, sys; from vmss.simulator.command import add_arguments, main; "
    "parser = argparse.ArgumentParser(prog='vmss simulator'); add_arguments(parser); "
    "sys.exit(main(parser.parse_args()))"
)


def request(method: Any, *params: Any) -> Any:
    return xmlrpc.client.dumps(params, method, allow_none=True).encode()


# --- clients side by side ---


def test_a_call_that_blocks_does_not_block_others(sim: Simulator, pool: Pool, serve: Serve, connect: Connect) -> None:
    server = serve(sim)
    watcher, other = connect(server), connect(server)
    answers = []
    # A timeout beyond all others: in virtual time it must not come before the change.
    thread = threading.Thread(
        target=lambda: answers.append(getattr(watcher.xenapi.event, "from")(["vmss"], "", 86400.0))
    )
    thread.start()
    policy = other.xenapi.VMSS.create({"type": "snapshot", "frequency": "daily"})
    thread.join(20)
    assert not thread.is_alive()
    refs = [event["ref"] for event in answers[0]["events"]]
    # In virtual time a day may have passed before the other client was heard.
    assert refs in ([policy], [])


def test_many_clients_at_once_get_their_own_answers(sim: Simulator, pool: Pool, serve: Serve, connect: Connect) -> None:
    server = serve(sim)
    sessions = [connect(server) for _ in range(8)]
    names = {vm: sim.call("VM.get_name_label", pool.session, vm) for vm in pool.vms}
    wrong = []

    def work(session: Any) -> None:
        for vm in pool.vms * 10:
            if session.xenapi.VM.get_name_label(vm) != names[vm]:
                wrong.append(vm)

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_synchronous_snapshots_of_several_clients_all_end(
    sim: Simulator, pool: Pool, serve: Serve, connect: Connect
) -> None:
    server = serve(sim)
    sessions = [connect(server) for _ in pool.vms]
    snaps = []
    threads = [
        threading.Thread(target=lambda s=session, v=vm: snaps.append(s.xenapi.VM.snapshot(v, "x")))
        for session, vm in zip(sessions, pool.vms)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(snaps)) == len(pool.vms)


def test_closing_a_socket_in_a_call_does_the_call_no_harm(
    sim: Simulator, pool: Pool, serve: Serve, connect: Connect
) -> None:
    server = serve(sim)
    body = request("VM.snapshot", pool.session, pool.vms[0], "left alone")
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(server.socket_path or "")
    connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    connection.close()
    session = connect(server)
    while not session.xenapi.VM.get_snapshots(pool.vms[0]):
        getattr(session.xenapi.event, "from")(["vm"], "", 1.0)


def test_the_server_counts_calls_and_bytes(sim: Simulator, pool: Pool, serve: Serve, connect: Connect) -> None:
    session = connect(serve(sim))
    session.xenapi.simulator.reset_counts()
    for _ in range(3):
        session.xenapi.VM.get_power_state(pool.vms[0])
    counts = session.xenapi.simulator.get_counts()["VM.get_power_state"]
    assert counts["calls"] == "3" and int(counts["bytes_in"]) > 300 and int(counts["bytes_out"]) > 600
    assert sim.counts["VM.get_power_state"] == 3


def test_the_clock_can_be_set_from_outside_and_from_inside(
    sim: Simulator, root: Client, serve: Serve, connect: Connect
) -> None:
    session = connect(serve(sim))
    host = session.xenapi.host.get_all()[0]
    session.xenapi.simulator.set_time(xmlrpc.client.DateTime("20260401T12:00:00Z"))
    assert session.xenapi.host.get_servertime(host).value == "20260401T12:00:00Z"
    assert not session.xenapi.host.get_server_localtime(host).value.endswith("Z")
    # After a month idle the other session is gone.
    assert root.error("host.get_all") == ["SESSION_INVALID", root.session]
    root.session = session.handle
    task = session.xenapi.Async.VDI.create(vdi_record("disk", root.sr(), 1))
    assert session.xenapi.task.get_status(task) == "pending"
    sim.set_time(sim.now().replace(hour=13))
    assert session.xenapi.task.get_status(task) == "success"


def test_a_running_clock_ends_operations_by_itself_and_can_be_stepped(serve: Serve, connect: Connect) -> None:
    sim = Simulator(clock="real", speed=100.0, durations=Durations(vdi_create=(3600.0, 3600.0)))
    session = connect(serve(sim))
    host = session.xenapi.host.get_all()[0]
    sr = session.xenapi.SR.create(host, {}, "0", "sr", "", "ext", "", False, {})
    task = session.xenapi.Async.VDI.create(vdi_record("disk", sr, 1))
    assert session.xenapi.task.get_status(task) == "pending"
    # A step back lengthens nothing, a step forward ends what falls due.
    sim.set_time(sim.now() - timedelta(days=1))
    sim.set_time(sim.now() + timedelta(hours=2))
    assert session.xenapi.task.get_status(task) == "success"
    waited = getattr(session.xenapi.event, "from")(["vmpp"], "", 10.0)
    assert waited["events"] == []


# --- sockets ---


def test_the_socket_is_private_and_gone_afterwards(sim: Simulator, tmp_path: Path) -> None:
    path = str(tmp_path / "x_y" / "ä b.sock")
    os.mkdir(os.path.dirname(path))
    with Server(sim, socket=path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert not os.path.exists(path)


def test_a_path_may_be_longer_than_a_socket_address(sim: Simulator, tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    with Server(sim, socket=str(directory / "xapi.sock")):
        assert (directory / "xapi.sock").exists()


def test_a_stale_socket_is_replaced_a_live_one_and_a_file_are_not(sim: Simulator, tmp_path: Path) -> None:
    path = str(tmp_path / "xapi.sock")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    with Server(sim, socket=path):
        with pytest.raises(ServerError) as caught:
            Server(Simulator(), socket=path).start()
        assert str(caught.value) == "another server is serving " + path
    (tmp_path / "xapi.sock").write_text("precious")
    with pytest.raises(ServerError):
        Server(sim, socket=path).start()
    assert (tmp_path / "xapi.sock").read_text() == "precious"


# --- plugins ---

PRINT = "#!/bin/sh\nprintf '%%s' '%s'\n"
SUCCESS = "<methodResponse><params><param><value><struct><member><name>Status</name><value>%s</value></member>%s"
END = "</struct></value></param></params></methodResponse>"


def response(status: Any, name: Any, value: Any) -> Any:
    return SUCCESS % (status, "<member><name>%s</name>%s</member>" % (name, value)) + END


@pytest.fixture
def plugins(tmp_path: Path) -> Any:
    """A simulator with a directory of plugins; the value writes one and calls it."""
    directory = tmp_path / "plugins"
    directory.mkdir()
    sim = Simulator(plugins=str(directory), plugin_environment={"EXTRA": "1"})
    session = sim.call("session.login_with_password", "root", "")
    host = sim.call("host.get_all", session)[0]

    def call(script: Any, name: str = "plugin", function: str = "fn", args: Any = None, mode: int = 0o755) -> Any:
        if script is not None:
            (directory / name).write_text(script)
            (directory / name).chmod(mode)
        return sim.call("host.call_plugin", session, host, name, function, args or {})

    calls: Any = call
    calls.sim, calls.session, calls.directory = sim, session, directory
    return calls


def plugin_error(plugins: Any, *args: Any, **options: Any) -> Any:
    with pytest.raises(XapiError) as caught:
        plugins(*args, **options)
    return caught.value.details


def test_a_plugins_string_is_the_answer(plugins: Any) -> None:
    assert plugins(PRINT % response("Success", "Value", "<value>hand made</value>")) == "hand made"
    assert plugins(PRINT % response("Success", "Value", "<value><string></string></value>")) == ""


FAILURE = "XENAPI_PLUGIN_FAILURE"


@pytest.mark.parametrize(
    "script, details",
    [
        ("#!/bin/sh\necho out; echo err >&2; exit 3\n", [FAILURE, "non-zero exit", "out\n", "err\n"]),
        ("#!/bin/sh\nkill -9 $$\n", [FAILURE, "signal: SIGKILL", "", ""]),
        ("#!/bin/sh\nkill -40 $$\n", [FAILURE, "signal: (ocaml signal 40 with an unknown name)", "", ""]),
        (
            "#!/bin/sh\necho no xml\n",
            [FAILURE, "failed to parse plugin output", "no xml\n", "expected root element line 1"],
        ),
        ("#!/bin/sh\n", [FAILURE, "failed to parse plugin output", "", "unexpected end of input line 1"]),
        (
            PRINT
            % response(
                "Failure",
                "ErrorDescription",
                "<value><array><data><value>CODE</value><value>p</value></data></array></value>",
            ),
            ["CODE", "p"],
        ),
        (
            PRINT % "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>4</int></value>"
            "</member><member><name>faultString</name><value>text</value></member></struct></value></fault>"
            "</methodResponse>",
            [FAILURE, "fault", "4", "text"],
        ),
    ],
)
def test_each_other_end_of_a_plugin_has_its_failure(plugins: Any, script: Any, details: Any) -> None:
    assert plugin_error(plugins, script) == details


@pytest.mark.parametrize(
    "output",
    [
        "<value>x</value>",
        "<methodResponse><params><param><value>plain</value></param></params></methodResponse>",
        response("Success", "Value", "<value><int>1</int></value>"),
        response("Failure", "ErrorDescription", "<value><array><data></data></array></value>"),
    ],
)
def test_answers_of_the_wrong_shape_are_internal_errors(plugins: Any, output: Any) -> None:
    assert plugin_error(plugins, PRINT % output)[0] == "INTERNAL_ERROR"


def test_a_plugin_is_named_to_the_letter(plugins: Any) -> None:
    for name in ("nosuch", "../plugins/plugin", "", "."):
        assert plugin_error(plugins, None, name=name) == ["XENAPI_MISSING_PLUGIN", name]


def test_a_plugin_that_cannot_start_looks_like_an_exit(plugins: Any) -> None:
    silent = [FAILURE, "non-zero exit", "", ""]
    assert plugin_error(plugins, "#!/bin/sh\n", mode=0o644) == silent
    assert plugin_error(plugins, "#!/bin/sh\n", args={"a": "x" * 200000}) == silent


ECHO = """#!/usr/bin/env python3
import os, sys, xmlrpc.client
# In the C locale of such an environment Python 3.6 does not read arguments as UTF-8.
params, method = xmlrpc.client.loads(os.fsencode(sys.argv[1]))
value = ascii([method, params[0], sorted(params[1].items()), sorted(os.environ), len(sys.argv), sys.stdin.read()])
print(xmlrpc.client.dumps(({"Status": "Success", "Value": value},), methodresponse=True))
"""


def test_a_plugin_gets_one_argument_and_hardly_any_environment(plugins: Any) -> None:
    answer = plugins(ECHO, function="f<&>", args={"k<": "v&é"})
    names = [name for name in ("EXTRA", "LC_CTYPE", "PATH") if name in answer]
    expected = ["f<&>", plugins.session, [("k<", "v&é")], names, 2, ""]
    assert eval(answer) == expected and "EXTRA" in names and "PATH" in names


def test_snapshot_now_runs_the_plugin_vmss_with_the_callers_session(plugins: Any) -> None:
    policy = plugins.sim.call("VMSS.create", plugins.session, {"type": "snapshot", "frequency": "daily"})
    uuid = plugins.sim.call("VMSS.get_uuid", plugins.session, policy)
    (plugins.directory / "vmss").write_text(ECHO)
    (plugins.directory / "vmss").chmod(0o755)
    answer = plugins.sim.call("VMSS.snapshot_now", plugins.session, policy)
    assert eval(answer)[:3] == ["snapshot_now", plugins.session, [("vmss_uuid", uuid)]]


@pytest.mark.parametrize("first", ["/usr/bin/env python3", "/usr/bin/python3", " /usr/bin/python3 -I "])
def test_a_plugin_that_asks_for_python3_runs_on_the_simulators_own_with_its_option(plugins: Any, first: str) -> None:
    says = "import sys; value = '%s %d' % (sys.prefix, sys.flags.isolated)\n"
    script = "#!%s\n%sprint(%r %% value)\n" % (first, says, response("Success", "Value", "<value>%s</value>"))
    assert plugins(script) == "%s %d" % (sys.prefix, "-I" in first)


BACK = """#!/usr/bin/env python3
import http.client, os, socket, sys, xmlrpc.client
params, method = xmlrpc.client.loads(sys.argv[1])
body = xmlrpc.client.dumps((params[0], params[1]["vm"], "by the plugin"), "VM.snapshot")
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(os.environ["XAPI"])
connection.request("POST", "/", body)
value = xmlrpc.client.loads(connection.getresponse().read())[0][0]["Value"]
print(xmlrpc.client.dumps(({"Status": "Success", "Value": value},), methodresponse=True))
"""


def test_the_server_serves_the_plugin_it_has_started(tmp_path: Path, serve: Serve, connect: Connect) -> None:
    directory, path = tmp_path / "plugins", str(tmp_path / "x_y.sock")
    directory.mkdir()
    (directory / "back").write_text(BACK)
    (directory / "back").chmod(0o755)
    sim = Simulator(plugins=str(directory), plugin_environment={"XAPI": path})
    pool = build_pool(sim.call)
    session = connect(serve(sim, socket=path))
    host = session.xenapi.host.get_all()[0]
    snap = session.xenapi.host.call_plugin(host, "back", "fn", {"vm": pool.vms[0]})
    assert session.xenapi.VM.get_name_label(snap) == "by the plugin"


# --- state and the command ---


def test_a_pool_survives_saving_and_loading(sim: Simulator, pool: Pool, tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    session = pool.session
    snap = sim.call("VM.snapshot", session, pool.vms[0], "snap")
    sim.call("Async.VM.snapshot", session, pool.vms[1], "cut off")
    before = {name: sim.call(name + ".get_all_records", session) for name in ("PBD", "VMSS", "SM", "VM_metrics", "VBD")}
    messages = sim.call("message.get_all_records", session)
    sim.save(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and os.listdir(str(tmp_path)) == ["state.json"]
    loaded = Simulator.load(path)
    session = loaded.call("session.login_with_password", "root", "")
    assert {name: loaded.call(name + ".get_all_records", session) for name in before} == before
    assert loaded.call("message.get_all_records", session) == messages
    assert loaded.call("VM.get_record", session, snap)["snapshot_of"] == pool.vms[0]
    # Sessions and tasks do not persist, and what they were doing is forgotten.
    assert loaded.call("task.get_all", session) == []
    assert loaded.call("VM.get_current_operations", session, pool.vms[1]) == {}
    assert "snapshot" in loaded.call("VM.get_allowed_operations", session, pool.vms[1])
    loaded.call("VM.snapshot", session, pool.vms[1], "again")


@pytest.mark.parametrize(
    "content, reason",
    [('{"format": "simulated xapi da', "is cut off or damaged"), ('{"a": 1}', "is not a state file"), ("", "cut off")],
)
def test_a_file_that_is_no_state_is_refused_and_left_alone(tmp_path: Path, content: Any, reason: Any) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(StateError) as caught:
        Simulator.load(str(path))
    assert str(path) in str(caught.value) and reason in str(caught.value)
    assert path.read_text() == content


def command(tmp_path: Path, *args: Any) -> Any:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND] + list(args),
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )


def test_the_command_serves_until_it_is_told_to_stop_and_keeps_the_pool(tmp_path: Path, connect: Connect) -> None:
    args = ("--socket", "xapi.sock", "--state", "state.json", "--vms", "1", "--now", "2026-03-29T00:50:00Z")
    uuids = []
    for _ in range(2):
        child = command(tmp_path, *args)
        assert child.stdout.readline() == "ready: unix:xapi.sock\n"
        server = type("Running", (), {"socket_path": str(tmp_path / "xapi.sock")})
        session = connect(server)
        uuids.append(sorted(session.xenapi.VM.get_uuid(vm) for vm in session.xenapi.VM.get_all()))
        if len(uuids) == 1:
            host = session.xenapi.host.get_all()[0]
            assert session.xenapi.host.get_servertime(host).value.startswith("20260329T00:50:")
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=20)
        assert (child.returncode, out, err) == (0, "", "")
    assert uuids[0] == uuids[1]


def test_a_new_pool_loads_no_time_zones(tmp_path: Path) -> None:
    """Their library takes a sixth of the time in which the command starts."""
    code = "import sys, vmss.simulator.command as c; c.Simulator(seed=1); print('dateutil' in sys.modules)"
    environment = {key: value for key, value in os.environ.items() if key != "TZ"}
    out = subprocess.check_output(
        [sys.executable, "-c", code], cwd=str(tmp_path), env=dict(environment, PYTHONPATH=ROOT)
    )
    assert out == b"False\n"


@pytest.mark.parametrize(
    "args, line",
    [
        ((), "one of --socket, --http and --https is required"),
        (("--socket", "x", "--hosts", "0"), "--hosts must be at least 1"),
        (("--socket", "no/such/dir/x"), "cannot create the socket no/such/dir/x: No such file or directory"),
        (("--socket", "x", "--plugins", "nosuch"), "nosuch"),
        (("--socket", "x", "--state", "cut.json"), "cut.json is cut off or damaged"),
        (("--http", "nonsense"), "--http must be HOST:PORT"),
        (("--http", "127.0.0.1:0", "--password-file", "nosuch"), "cannot read the password file nosuch"),
        (("--https", "127.0.0.1:0"), "--https needs --certificate"),
    ],
)
def test_bad_arguments_give_one_line_and_status_two(tmp_path: Path, args: Any, line: Any) -> None:
    (tmp_path / "cut.json").write_text('{"format"')
    child = command(tmp_path, *args)
    out, err = child.communicate(timeout=20)
    assert child.returncode == 2 and out == ""
    assert line in err and err.count("\n") == 1 and err.startswith("vmss simulator: ")
    assert (tmp_path / "cut.json").read_text() == '{"format"'


def test_the_same_seed_gives_the_same_pool() -> None:
    first, second = (build_pool(Simulator(seed=5, now=START).call, 1, 0, 2, 0) for START in [Simulator().now()] * 2)
    assert first == second
