"""Clients for the tests: one in this process, and the pieces of one over a unix socket."""

import http.client
import socket
import xmlrpc.client
from typing import Any, Callable

import pytest

from vmss.simulator import Simulator, XapiError
from vmss.simulator.build import vbd_record, vdi_record, vm_record
from vmss.simulator.server import Server

GIB = 1024**3

# What the fixtures of these names are.
Serve = Callable[..., Server]
Connect = Callable[..., Any]
Post = Callable[..., Any]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, whatever characters its path has."""

    def __init__(self, path: Any) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


class UnixTransport(xmlrpc.client.Transport):
    """The transport of the XenAPI client, over a unix socket."""

    def __init__(self, path: Any) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: Any) -> Any:
        if self._connection is None or self._connection[0] != host:
            self._connection = (host, UnixConnection(self.path))
        return self._connection[1]


def end_of_task(call: Callable[..., Any], task: str) -> Any:
    """Wait by events for the end of a task; return its last record. `call` takes a method and its parameters."""
    token = ""
    while True:
        answer = call("event.from", ["task/" + task], token, 3600.0)
        token = answer["token"]
        record = answer["events"][-1]["snapshot"]
        if record["status"] != "pending":
            return record


class Client:
    """One client in this process: `client("VM.get_all")` adds the session."""

    def __init__(self, sim: Simulator, session: Any) -> None:
        self.sim = sim
        self.session = session

    def __call__(self, method: Any, *params: Any) -> Any:
        return self.sim.call(method, self.session, *params)

    def error(self, method: Any, *params: Any) -> Any:
        """The error of a call that must fail."""
        with pytest.raises(XapiError) as caught:
            self(method, *params)
        return caught.value.details

    def vm(self, name: Any = "vm", **changes: Any) -> Any:
        return self("VM.create", vm_record(name, **changes))

    def sr(self, kind: Any = "ext", size: Any = 0, name: Any = "storage", **device_config: Any) -> Any:
        host = self("host.get_all")[0]
        config = dict(location="/srv", **device_config)
        return self("SR.create", host, config, str(size), name, "", kind, "user", True, {})

    def keep_memory_on(self, sr: str) -> None:
        """Let the pool's VMs be suspended to this SR."""
        self("pool.set_suspend_image_SR", self("pool.get_all")[0], sr)

    def disk(self, vm: str, sr: Any, size: Any = GIB, device: Any = "autodetect", name: Any = "disk") -> Any:
        vdi = self("VDI.create", vdi_record(name, sr, size))
        self("VBD.create", vbd_record(vm, vdi, device))
        return vdi

    def task_end(self, task: Any) -> Any:
        """Wait for a task as a client does; return its last record."""
        return end_of_task(self, task)

    def login(self, user: Any) -> Any:
        return Client(self.sim, self.sim.call("session.login_with_password", user, ""))
