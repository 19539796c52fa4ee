"""A browser on a developer's machine: which requests over the network are answered, and which page may read answers."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, Optional, Tuple

import pytest

from vmss.simulator import Simulator
from vmss.simulator.listening import ServerError
from vmss.simulator.server import Server
from vmss.simulator.visitors import is_loopback, visitors

from .client import Serve
from .test_simulator_http import Answer, Line, post_of, request

LOGIN = request("session.login_with_password", "root", "simulator")


@pytest.fixture
def address(sim: Simulator, serve: Serve) -> Iterator[Tuple[str, int]]:
    server = serve(sim, http=("127.0.0.1", 0))
    assert server.http_address is not None
    yield server.http_address


def ask(address: Tuple[str, int], body: bytes = LOGIN, path: str = "/", **headers: Optional[str]) -> Answer:
    port = str(address[1])
    sent = {name: value.replace("PORT", port) for name, value in headers.items() if value is not None}
    with Line(address) as line:
        return line.send(post_of(body, path, **sent)).answer()


@pytest.mark.parametrize("host", [None, "localhost:PORT", "LOCALHOST:PORT", "127.0.0.1:PORT", "[::1]:PORT"])
@pytest.mark.parametrize("origin", [None, "http://localhost:PORT", "http://localhost:3000", "https://127.0.0.1"])
def test_what_is_asked_of_this_machine_by_this_machine_is_answered(
    address: Tuple[str, int], host: Optional[str], origin: Optional[str]
) -> None:
    answer = ask(address, Host=host, Origin=origin)
    assert answer.status == 200 and answer.value.startswith("OpaqueRef:")
    # A page is told that it may read the answer, and no other page is.
    allowed = "" if origin is None else "Access-Control-Allow-Origin: " + origin.replace("PORT", str(address[1]))
    assert "*" not in answer.head and ("\r\n%s\r\n" % allowed in answer.head)
    assert ("Access-Control" in answer.head) == (origin is not None)


FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:PORT",
    "localhost",  # another port
    "localhost:1",
    "localhost.evil.example:PORT",
    "127.0.0.1.evil.example:PORT",
    "127.0.0.1:PORT0",
    "0.0.0.0:PORT",
    "",
]
FOREIGN_PAGES = [
    "http://evil.example",
    "https://evil.example:PORT",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://localhost@evil.example",
    "http://evil.example#localhost",
    "http://[::1].evil.example",
    "http://[::1",
    "null",
    "",
    "file://localhost",
    "moz-extension://localhost",
    "http://localhost:PORT http://evil.example",
    "*",
]


@pytest.mark.parametrize(
    "host, origin",
    [(host, None) for host in FOREIGN_HOSTS]
    + [(host, "http://localhost:PORT") for host in FOREIGN_HOSTS]
    + [("localhost:PORT", page) for page in FOREIGN_PAGES]
    + [("evil.example:PORT", "http://evil.example:PORT")],  # a name that was pointed to this machine afterwards
)
def test_what_comes_from_a_foreign_page_is_refused_before_it_is_carried_out(
    sim: Simulator, address: Tuple[str, int], host: Optional[str], origin: Optional[str]
) -> None:
    sim.call("simulator.reset_counts", "")
    for path in ("/", "/RPC2", "/jsonrpc"):
        answer = ask(address, LOGIN, path, Host=host, Origin=origin, Content_Type="text/plain")
        assert answer.status == 403 and "Access-Control" not in answer.head and b"OpaqueRef" not in answer.body
        assert b"--any-host" in answer.body or b"web page" in answer.body
    asked = "OPTIONS / HTTP/1.1\r\nHost: %s\r\n%sAccess-Control-Request-Headers: content-type\r\n\r\n" % (
        host,
        "" if origin is None else "Origin: %s\r\n" % origin,
    )
    with Line(address) as line:
        answer = line.send(asked.replace("PORT", str(address[1])).encode()).answer()
        assert answer.status == 403 and "Access-Control" not in answer.head
    assert "session.login_with_password" not in sim.call("simulator.get_counts", "")


def test_a_page_of_this_machine_is_told_what_it_may_send(address: Tuple[str, int]) -> None:
    asked = "OPTIONS /jsonrpc HTTP/1.1\r\nHost: localhost:%d\r\nOrigin: http://localhost:3000\r\n" % address[1]
    with Line(address) as line:
        answer = line.send((asked + "Access-Control-Request-Headers: content-type\r\n\r\n").encode()).answer()
    assert answer.status == 200
    assert "\r\nAccess-Control-Allow-Origin: http://localhost:3000\r\n" in answer.head
    assert "\r\nAccess-Control-Allow-Headers: content-type, X-Requested-With\r\n" in answer.head


def test_no_page_has_a_plugin_run(sim: Simulator, serve: Serve, tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    (tmp_path / "shell").write_text("#!/bin/sh\n: >%s\n" % str(trace).replace(" ", "\\ "))
    (tmp_path / "shell").chmod(0o755)
    sim.plugins.directory = str(tmp_path)
    address = serve(sim, http=("127.0.0.1", 0)).http_address
    assert address is not None
    # Not even with a session that it has guessed: they are drawn from the seed.
    session = sim.call("session.login_with_password", "root", "")
    call = request("host.call_plugin", session, sim.call("host.get_all", session)[0], "shell", "fn", {})
    assert ask(address, call, Host="localhost:PORT", Origin="http://evil.example").status == 403
    assert ask(address, call, Host="evil.example:PORT").status == 403
    assert not trace.exists()
    assert ask(address, call, Host="localhost:PORT").status == 200 and trace.exists()


def test_an_address_that_others_reach_has_to_be_asked_for(sim: Simulator) -> None:
    for name in ("0.0.0.0", "", "::", "192.0.2.7", "example.org"):
        assert not is_loopback(name)
        with pytest.raises(ServerError, match="--any-host"):
            Server(sim, http=(name, 0)).start()
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))


def test_any_host_serves_every_name_but_no_foreign_page(sim: Simulator) -> None:
    with Server(sim, http=("0.0.0.0", 0), any_host=True) as server:
        assert server.http_address is not None
        address = ("127.0.0.1", server.http_address[1])
        assert ask(address, Host="simulator.test").status == 200
        own = ask(address, Host="simulator.test:80", Origin="http://simulator.test:80")
        assert own.status == 200 and "Access-Control-Allow-Origin: http://simulator.test:80\r\n" in own.head
        assert ask(address, Host="simulator.test", Origin="http://evil.example").status == 403


def test_a_port_that_clients_leave_out_may_be_left_out() -> None:
    assert visitors("127.0.0.1", "127.0.0.1", 80, False, False).refusal("localhost", None) == ""
    assert visitors("127.0.0.1", "127.0.0.1", 443, True, False).refusal("localhost", None) == ""
    assert visitors("127.0.0.1", "127.0.0.1", 443, False, False).refusal("localhost", None) != ""
    assert visitors("127.9.9.9", "127.9.9.9", 80, False, False).refusal("127.9.9.9:80", None) == ""


def test_the_command_asks_for_a_password_of_ones_own_before_it_serves_others(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[2])

    def simulator(*words: str) -> Any:
        command = [sys.executable, "-m", "vmss", "simulator", *words]
        environment = dict(os.environ, PYTHONPATH=root)
        return subprocess.run(command, env=environment, stderr=subprocess.PIPE, encoding="utf-8", timeout=60)

    done = simulator("--http", "0.0.0.0:0")
    assert done.returncode == 2 and "--any-host" in done.stderr
    done = simulator("--http", "0.0.0.0:0", "--any-host")
    assert done.returncode == 2 and "--password-file" in done.stderr
