"""Fixtures for the tests of the embedded xapi: simulators, and clients over real sockets."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import XenAPI

from vmss.simulator import Simulator
from vmss.simulator.build import build_pool
from vmss.simulator.server import Server

from .client import Client, UnixConnection, UnixTransport

START = datetime(2026, 3, 2, 10, 0, tzinfo=timezone.utc)


@pytest.fixture
def sim() -> Any:
    return Simulator(seed=1, now=START)


@pytest.fixture
def root(sim: Simulator) -> Any:
    return Client(sim, sim.call("session.login_with_password", "root", ""))


@pytest.fixture
def vmss_user(root: Client) -> Any:
    """The user whose snapshots are scheduled ones."""
    return root.login("__dom0__vmss")


@pytest.fixture
def pool(sim: Simulator) -> Any:
    """A pool of 2 hosts, 2 SRs and 6 VMs with two disks each."""
    return build_pool(sim.call)


@pytest.fixture
def serve(tmp_path: Path) -> Any:
    """Serve simulators; the value of a call is the running server."""
    servers = []

    def start(sim: Simulator, **options: Any) -> Any:
        options.setdefault("socket", str(tmp_path / "x_y.sock"))
        server = Server(sim, **options)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def connect() -> Any:
    """Log in with the real XenAPI client over the unix socket of a server."""
    sessions = []

    def login(server: Any, user: Any = "root") -> Any:
        session = XenAPI.Session("http://localhost", transport=UnixTransport(server.socket_path))
        session.xenapi.login_with_password(user, "")
        sessions.append(session)
        return session

    return login


@pytest.fixture
def post() -> Any:
    """Send one raw request over a unix socket; the value is (status, headers, body)."""

    def send(server: Any, body: Any, path: Any = "/", headers: Any = None) -> Any:
        connection = UnixConnection(server.socket_path)
        connection.request("POST", path, body, headers or {})
        response = connection.getresponse()
        answer = response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        connection.close()
        return answer

    return send
