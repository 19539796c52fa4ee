"""Several hosts, each with sockets of its own: members that forward or refuse, changes of role, deaths and returns."""

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable, List, NamedTuple

import pytest

from vmss.simulator import Simulator
from vmss.simulator.build import build_pool
from vmss.simulator.command import _neighbour
from vmss.simulator.listening import ServerError
from vmss.simulator.server import Endpoint, Server

from .client import Serve
from .test_simulator_http import NETWORK, Line, post_of, request

# A socket left open, here or in the server, is an error.
pytestmark = [
    pytest.mark.filterwarnings("error::ResourceWarning"),
    pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning"),
]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMMAND = (
    "import argparse, sys; from vmss.simulator.command import add_arguments, main; "
    "parser = argparse.ArgumentParser(prog='vmss simulator'); add_arguments(parser); "
    "sys.exit(main(parser.parse_args(), 'XAPI'))"
)
BOOTING = ["HOST_STILL_BOOTING"]
BROKEN = "broken"


class Machines(NamedTuple):
    """A pool of three hosts, the first of them the coordinator, and its server."""

    sim: Simulator
    server: Server
    hosts: List[str]
    vms: List[str]

    def unix(self, number: int) -> Any:
        return self.server.endpoints[self.hosts[number]].socket

    def tcp(self, number: int) -> Any:
        return self.server.endpoints[self.hosts[number]].http

    def address(self, number: int) -> str:
        return "%s:%d" % self.tcp(number)

    def control(self, method: str, *params: Any) -> None:
        """One of the simulator's own calls, over the socket of the first host, which may be dead."""
        assert call(self.unix(0), method, "no session", *params) == ""

    def pass_time(self, seconds: float) -> None:
        self.sim.set_time(self.sim.now() + timedelta(seconds=seconds))


@pytest.fixture
def machines(sim: Simulator, serve: Serve, tmp_path: Path) -> Machines:
    pool = build_pool(sim.call, hosts=3, vms=2)
    sim.call("pool.sync_database", pool.session)
    members = {host: Endpoint(str(tmp_path / host[-12:]), NETWORK) for host in pool.hosts[1:]}
    return Machines(sim, serve(sim, http=NETWORK, members=members), pool.hosts, pool.vms)


def call(address: Any, method: str, *params: Any) -> Any:
    """What one call on a connection of its own returns: a value, an error, or BROKEN."""
    with Line(address) as line:
        try:
            return line.call(method, *params)
        except ConnectionError:
            return BROKEN


def login(address: Any) -> Any:
    return call(address, "session.login_with_password", "root", "simulator")


# --- members at work ---


def test_a_call_on_a_members_own_socket_is_forwarded(machines: Machines) -> None:
    path = machines.unix(1)
    session = login(path)
    assert call(path, "session.get_this_host", session, session) == machines.hosts[1]
    snapshot = call(path, "VM.snapshot", session, machines.vms[0], "from a member")
    # It is one pool: the coordinator knows the session and the snapshot.
    assert call(machines.unix(0), "VM.get_name_label", session, snapshot) == "from a member"
    assert call(path, "pool.get_master", session, call(path, "pool.get_all", session)[0]) == machines.hosts[0]


def test_over_the_network_a_member_names_the_coordinator_and_it_is_there(machines: Machines) -> None:
    session = login(machines.tcp(0))
    for refused in (login(machines.tcp(2)), call(machines.tcp(2), "pool.get_all", session)):
        assert refused == ["HOST_IS_SLAVE", machines.address(0)]
    name, port = refused[1].split(":")
    assert call((name, int(port)), "session.get_this_host", session, session) == machines.hosts[0]


def test_the_clock_of_one_host_may_be_wrong(machines: Machines) -> None:
    session = login(machines.unix(0))
    machines.control("simulator.set_host_clock", machines.hosts[1], 300.0)
    times = [call(machines.unix(0), "host.get_servertime", session, host) for host in machines.hosts]
    seconds = [datetime.strptime(str(time)[:-1] + "+0000", "%Y%m%dT%H:%M:%S%z").timestamp() for time in times]
    assert seconds[2] - seconds[0] == 0 and seconds[1] - seconds[0] == 300
    machines.control("simulator.set_host_clock", machines.hosts[1], 0.0)
    assert call(machines.unix(0), "host.get_servertime", session, machines.hosts[1]) == times[0]


def test_each_hosts_record_says_where_it_is_served_whatever_a_death_loses(machines: Machines) -> None:
    expected = [machines.address(number) for number in range(3)]
    for _ in range(2):
        session = login(machines.unix(0))
        found = [call(machines.unix(0), "host.get_address", session, host) for host in machines.hosts]
        assert found == expected
        # Nothing was written since the server began.
        machines.control("simulator.restart", "kill", 0.0)


def test_port_80_is_not_mentioned(sim: Simulator, serve: Serve, tmp_path: Path) -> None:
    pool = build_pool(sim.call, hosts=2, vms=0)
    members = {pool.hosts[1]: Endpoint(http=("127.0.0.80", 80))}
    try:
        serve(sim, members=members)
    except ServerError:
        pytest.skip("port 80 is not ours to use")
    assert sim.call("host.get_address", pool.session, pool.hosts[1]) == "127.0.0.80"
    # The first host has no such address, and keeps what it had.
    assert sim.call("host.get_address", pool.session, pool.hosts[0]) == "192.0.2.1"


def test_only_other_hosts_of_the_pool_can_be_members(sim: Simulator, tmp_path: Path) -> None:
    for stranger in (sim.this_host, "OpaqueRef:nobody"):
        with pytest.raises(ServerError) as caught:
            Server(sim, str(tmp_path / "a.sock"), members={stranger: Endpoint(str(tmp_path / "b.sock"))}).start()
        assert str(caught.value) == "%s is no member of the pool" % stranger
    assert os.listdir(str(tmp_path)) == []


def test_when_one_socket_cannot_be_had_none_is_left(sim: Simulator, tmp_path: Path) -> None:
    hosts = build_pool(sim.call, hosts=2, vms=0).hosts
    members = {hosts[1]: Endpoint(str(tmp_path / "no" / "such" / "directory"))}
    with pytest.raises(ServerError):
        Server(sim, str(tmp_path / "a.sock"), http=NETWORK, members=members).start()
    assert os.listdir(str(tmp_path)) == []


# --- roles ---


def test_roles_are_swapped_on_the_same_sockets(machines: Machines) -> None:
    session = login(machines.unix(0))
    # The connection of who asks for it breaks.
    assert call(machines.unix(0), "pool.designate_new_master", session, machines.hosts[1]) == BROKEN
    assert call(machines.unix(1), "pool.get_all", session) == BROKEN
    assert call(machines.unix(2), "pool.get_all", session) == BOOTING
    machines.pass_time(60.0)
    assert call(machines.unix(1), "pool.get_all", session) == ["SESSION_INVALID", session]
    assert login(machines.tcp(0)) == login(machines.tcp(2)) == ["HOST_IS_SLAVE", machines.address(1)]
    session = login(machines.tcp(1))
    assert call(machines.tcp(1), "session.get_this_host", session, session) == machines.hosts[1]
    # The old coordinator is a member like another.
    session = login(machines.unix(0))
    assert call(machines.unix(0), "session.get_this_host", session, session) == machines.hosts[0]
    pool = call(machines.unix(0), "pool.get_all", session)[0]
    assert call(machines.unix(0), "pool.get_master", session, pool) == machines.hosts[1]
    assert call(machines.unix(0), "VM.snapshot", session, machines.vms[0], "later").startswith("OpaqueRef:")


def test_without_members_the_socket_is_that_of_whoever_is_the_coordinator(
    sim: Simulator, serve: Serve, tmp_path: Path
) -> None:
    pool = build_pool(sim.call, hosts=2, vms=0)
    server = serve(sim, http=NETWORK)
    sim.call("simulator.fail_over", "", pool.hosts[1], "clean", 0.0)
    for address in (server.socket_path, server.http_address):
        session = login(address)
        assert call(address, "session.get_this_host", session, session) == pool.hosts[1]
    assert call(server.socket_path, "host.get_address", session, pool.hosts[0]) == "192.0.2.1"


# --- deaths and returns ---


def test_a_member_takes_over_from_a_dead_coordinator(machines: Machines) -> None:
    session = login(machines.unix(1))
    machines.control("simulator.kill_host", machines.hosts[0])
    assert login(machines.unix(0)) == login(machines.tcp(0)) == BROKEN
    assert login(machines.unix(1)) == call(machines.unix(2), "pool.get_all", session) == BOOTING
    assert call(machines.unix(1), "host.is_in_emergency_mode", session) is True
    assert call(machines.unix(1), "pool.emergency_transition_to_master", session) == BROKEN
    machines.pass_time(60.0)
    assert login(machines.tcp(2)) == ["HOST_IS_SLAVE", machines.address(1)]
    session = login(machines.tcp(1))
    snapshot = call(machines.tcp(1), "VM.snapshot", session, machines.vms[0], "under new rule")
    assert call(machines.unix(2), "VM.get_name_label", session, snapshot) == "under new rule"
    assert call(machines.unix(1), "host.is_in_emergency_mode", session) is False
    # It comes back as a member.
    assert login(machines.unix(0)) == BROKEN
    machines.control("simulator.start_host", machines.hosts[0])
    assert call(machines.unix(0), "VM.get_name_label", session, snapshot) == "under new rule"
    assert login(machines.tcp(0)) == ["HOST_IS_SLAVE", machines.address(1)]


def test_a_dead_coordinator_that_comes_back_is_the_coordinator(machines: Machines) -> None:
    session = login(machines.unix(0))
    machines.control("simulator.kill_host", machines.hosts[0])
    assert login(machines.unix(2)) == BOOTING
    machines.control("simulator.start_host", machines.hosts[0])
    machines.pass_time(600.0)
    assert call(machines.unix(0), "pool.get_all", session) == ["SESSION_INVALID", session]
    assert call(machines.unix(2), "pool.get_all", login(machines.tcp(0)))


def test_the_sockets_of_a_dead_member_break_and_the_pool_goes_on(machines: Machines) -> None:
    session = login(machines.unix(1))
    with Line(machines.unix(1)) as line:
        assert line.call("pool.get_all", session)
        machines.control("simulator.kill_host", machines.hosts[1])
        assert line.send(post_of(request("pool.get_all", session))).rest() == b""
    assert login(machines.unix(1)) == login(machines.tcp(1)) == BROKEN
    assert call(machines.unix(0), "pool.get_all", session)
    assert call(machines.unix(2), "pool.get_all", session)
    machines.control("simulator.start_host", machines.hosts[1])
    machines.pass_time(600.0)
    assert call(machines.unix(1), "pool.get_all", session)


def test_a_restart_is_seen_as_broken_connections_then_booting_then_service(machines: Machines) -> None:
    session = login(machines.unix(0))
    machines.control("simulator.restart", "kill", 40.0)
    assert login(machines.unix(0)) == login(machines.tcp(0)) == BROKEN
    assert login(machines.unix(1)) == BOOTING
    machines.pass_time(21.0)
    assert login(machines.unix(0)) == login(machines.tcp(0)) == login(machines.unix(1)) == BOOTING
    machines.pass_time(20.0)
    assert call(machines.unix(0), "pool.get_all", session) == ["SESSION_INVALID", session]
    session = login(machines.tcp(0))
    assert call(machines.unix(0), "pool.get_all", session) and call(machines.unix(1), "pool.get_all", session)


# --- the command ---


@pytest.fixture
def command(tmp_path: Path) -> Any:
    """Start `vmss simulator` in a directory of its own; the value of a call is the child and its first lines."""
    children = []

    def start(lines: int, *args: str) -> Any:
        child: Any = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *args],
            cwd=str(tmp_path),
            env=dict(os.environ, PYTHONPATH=ROOT),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        children.append(child)
        return child, [child.stdout.readline() for _ in range(lines)]

    yield start
    for child in children:
        if child.returncode is None:
            child.kill()
            child.communicate()


Command = Callable[..., Any]


def test_the_command_serves_every_host_and_says_where(command: Command, tmp_path: Path) -> None:
    args = ("--socket", "xapi.sock", "--http", "127.0.0.1:0", "--hosts", "3", "--vms", "0", "--members")
    child, lines = command(6, *args)
    assert [lines[0], lines[2], lines[4]] == [
        "ready: unix:xapi.sock\n",
        "ready: unix:xapi.sock.host2 (host2)\n",
        "ready: unix:xapi.sock.host3 (host3)\n",
    ]
    assert lines[1].startswith("ready: http://127.0.0.1:") and lines[5].endswith(" (host3)\n")
    session = login(str(tmp_path / "xapi.sock.host3"))
    third = call(str(tmp_path / "xapi.sock"), "session.get_this_host", session, session)
    assert call(str(tmp_path / "xapi.sock"), "host.get_name_label", session, third) == "host3"
    port = int(lines[3].split(":")[3].split(" ")[0])
    first = lines[1].strip()[len("ready: http://") :]
    assert call(("127.0.0.1", port), "pool.get_all", session) == ["HOST_IS_SLAVE", first]
    child.send_signal(signal.SIGTERM)
    assert child.communicate(timeout=20) == ("", "") and child.returncode == 0
    assert os.listdir(str(tmp_path)) == []


def test_members_follow_the_coordinator_on_the_next_paths_and_ports() -> None:
    first = Endpoint("xapi.sock", ("h", 8080), ("h", 8443, "c", "k"))
    assert _neighbour(first, 2) == Endpoint("xapi.sock.host3", ("h", 8082), ("h", 8445, "c", "k"))
    assert _neighbour(Endpoint(None, ("h", 0)), 1) == Endpoint(None, ("h", 0))


WHERE = """#!/usr/bin/env python3
import os, xmlrpc.client
print(xmlrpc.client.dumps(({"Status": "Success", "Value": os.environ["XAPI"]},), methodresponse=True))
"""


@pytest.mark.parametrize("more, own", [((), "xapi.sock"), (("--members",), "xapi.sock.host2")])
def test_a_plugin_is_told_the_socket_of_its_own_host(command: Command, tmp_path: Path, more: Any, own: str) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "where").write_text(WHERE)
    (tmp_path / "plugins" / "where").chmod(0o755)
    command(1, "--socket", "xapi.sock", "--vms", "0", "--plugins", "plugins", *more)
    path = str(tmp_path / "xapi.sock")
    session = login(path)
    hosts = {call(path, "host.get_name_label", session, host): host for host in call(path, "host.get_all", session)}
    told = [call(path, "host.call_plugin", session, hosts["host%d" % number], "where", "fn", {}) for number in (1, 2)]
    assert told == ["unix:%s" % path, "unix:%s" % (tmp_path / own)]


def test_the_command_puts_faults_in_force_once_the_pool_stands(command: Command, tmp_path: Path) -> None:
    refusal = {"method": "VM.get_all", "action": "error", "error": ["X", "y"]}
    (tmp_path / "faults.json").write_text(json.dumps([refusal, {"method": "VM.create", "action": "drop"}]))
    command(1, "--socket", "xapi.sock", "--vms", "1", "--faults", "faults.json")
    path = str(tmp_path / "xapi.sock")
    session = login(path)
    assert call(path, "VM.get_all", session) == ["X", "y"]
    # The building of the pool has not met the other.
    assert len(call(path, "VM.get_all", session)) == 3
    assert call(path, "VM.create", session, {}) == BROKEN


def test_what_the_command_has_built_survives_the_death_of_xapi(command: Command, tmp_path: Path) -> None:
    command(1, "--socket", "xapi.sock", "--vms", "1")
    path = str(tmp_path / "xapi.sock")
    assert call(path, "simulator.restart", "", "kill", 0.0) == ""
    assert len(call(path, "host.get_all", login(path))) == 2


@pytest.mark.parametrize(
    "args, line",
    [
        (("--faults", "nosuch.json"), "cannot read the file of faults nosuch.json: No such file or directory"),
        (("--faults", "cut.json"), "the file of faults cut.json is not JSON"),
        (("--faults", "odd.json"), "a fault has no key colour"),
        (("--http", "127.0.0.1:65535", "--members"), "there are not enough ports for the members after port 65535"),
    ],
)
def test_bad_faults_and_ports_give_one_line_and_status_two(
    command: Command, tmp_path: Path, args: Any, line: str
) -> None:
    (tmp_path / "cut.json").write_text("[{")
    (tmp_path / "odd.json").write_text('[{"method": "*", "action": "drop", "colour": "red"}]')
    child, _ = command(0, "--socket", "xapi.sock", "--vms", "0", *args)
    out, err = child.communicate(timeout=20)
    assert child.returncode == 2 and out == ""
    assert line in err and err.count("\n") == 1 and err.startswith("vmss simulator: ")
    assert not (tmp_path / "xapi.sock").exists()
