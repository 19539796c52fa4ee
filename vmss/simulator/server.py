"""The sockets of all hosts: unix, TCP and TLS, on one event loop that also drives the simulated clock."""

import asyncio
import os
import signal
import ssl
import threading
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

from .call import Origin
from .listening import CLOSING_TURNS, Listener, ServerError, listen_tcp, listen_unix, remove_socket, tls_context
from .simulator import Done, Pending, Simulator
from .visitors import is_loopback, visitors


class Endpoint(NamedTuple):
    """Where one host serves: `socket` is a path, `http` (host, port), `https` (host, port, certificate file, key
    file); port 0 takes a free one."""

    socket: Optional[str] = None
    http: Optional[Tuple[str, int]] = None
    https: Optional[Tuple[str, int, str, str]] = None


class Server:
    """Serves a simulator: `with Server(...)` in a background thread, `run` in this one."""

    def __init__(
        self,
        sim: Simulator,
        socket: Optional[str] = None,
        http: Optional[Tuple[str, int]] = None,
        https: Optional[Tuple[str, int, str, str]] = None,
        members: Optional[Mapping[str, Endpoint]] = None,
        any_host: bool = False,
    ) -> None:
        """`socket`, `http` and `https` are those of the coordinator, as in an Endpoint; `members` are other hosts by
        their references. Without `members` the sockets are those of whichever host is the coordinator; with them every
        host keeps its own, whatever its role is. Without `any_host`, `http` and `https` have to be loopback addresses,
        and only requests that name them are answered."""
        self.sim = sim
        self.socket_path = socket
        self.http_address: Optional[Tuple[str, int]] = None
        self.https_address: Optional[Tuple[str, int]] = None
        # By host, or "" for the coordinator: the endpoints with the ports that the server has got.
        self.endpoints: Dict[str, Endpoint] = {}
        self._first = Endpoint(socket, http, https)
        self._members = members
        self._any_host = any_host
        self.activity = 0
        self.loop = asyncio.new_event_loop()
        self._pending: Set[Pending] = set()
        self._listeners: List[Listener] = []
        self._thread: Optional[threading.Thread] = None
        self._thread_id = 0
        self._woken = False
        self._moving = False
        self._timer: Optional[Any] = None
        self._socket_files: List[Tuple[str, int, int]] = []

    # --- starting and stopping ---

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *details: Any) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, and serve in a background thread."""
        self._open()
        self._thread = threading.Thread(target=self._serve, name="simulator", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the background thread and close everything."""
        if self._thread is not None:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self._thread = None
        self._close()

    def run(self, ready: Callable[[], None]) -> None:
        """Serve in this thread until SIGTERM or SIGINT; `ready` is called once it does."""
        self._open()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.loop.stop)
        try:
            self.loop.call_soon(ready)
            self._serve()
        finally:
            self._close()

    def _serve(self) -> None:
        self._thread_id = threading.get_ident()
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._drive)
        self.loop.run_forever()

    # --- opening and closing ---

    def _open(self) -> None:
        try:
            for host, endpoint in self._wanted().items():
                self.endpoints[host] = self._listen(host, endpoint)
        except BaseException:
            self._close()
            raise
        first = next(iter(self.endpoints.values()))
        self.http_address = first.http
        self.https_address = None if first.https is None else first.https[:2]
        self.sim.wake = self._wake
        self.sim.hang_up = self._hang_up
        with self.sim.lock:
            self._record_addresses()

    def _wanted(self) -> Dict[str, Endpoint]:
        """The endpoints to open, that of the coordinator first."""
        if self._members is None:
            return {"": self._first}
        coordinator = self.sim.hosts.coordinator
        for host in self._members:
            if host == coordinator or not self.sim.db.exists("host", host):
                raise ServerError("%s is no member of the pool" % host)
        return {coordinator: self._first, **self._members}

    def _listen(self, host: str, endpoint: Endpoint) -> Endpoint:
        """Open the sockets of a host; return where they are."""
        http, https = endpoint.http, endpoint.https
        if endpoint.socket is not None:
            listener = listen_unix(endpoint.socket)
            status = os.stat(endpoint.socket)
            self._socket_files.append((endpoint.socket, status.st_dev, status.st_ino))
            self._listeners.append(Listener(self, listener, Origin(True, host)))
        if http is not None:
            http = self._listen_tcp(host, http[0], http[1], None)
        if https is not None:
            context = tls_context(*https[2:])
            https = (*self._listen_tcp(host, https[0], https[1], context), *https[2:])
        return Endpoint(endpoint.socket, http, https)

    def _listen_tcp(self, host: str, name: str, port: int, context: Optional[ssl.SSLContext]) -> Tuple[str, int]:
        if not self._any_host and not is_loopback(name):
            raise ServerError("%s is reached by other machines: --any-host serves it all the same" % (name or "it"))
        listener = listen_tcp(name, port)
        address = listener.getsockname()
        welcome = visitors(name, address[0], address[1], context is not None, self._any_host)
        self._listeners.append(Listener(self, listener, Origin(False, host), context, welcome))
        return address[0], address[1]

    def _record_addresses(self) -> None:
        """Write each host's address into its record, as xapi does whenever it starts.

        A client finds it in HOST_IS_SLAVE and connects to it. Here all hosts are on one machine and differ by their
        ports, so the address has a port, unlike a real one; 80 is left out because it is the default of clients.
        """
        for host, endpoint in self.endpoints.items():
            if endpoint.http is not None and self.sim.db.exists("host", host):
                name, port = endpoint.http
                name = "[%s]" % name if ":" in name else name
                self.sim.db.set("host", host, "address", name if port == 80 else "%s:%d" % (name, port))

    def _close(self) -> None:
        if self.loop.is_closed():
            return
        self.sim.wake = self.sim.hang_up = lambda: None
        for listener in self._listeners:
            listener.close()
        for _ in range(CLOSING_TURNS):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        self.loop.close()
        for path, device, inode in self._socket_files:
            remove_socket(path, device, inode)

    def is_listening(self, origin: Origin) -> bool:
        """Whether a host serves its connections."""
        hosts = self.sim.hosts
        return hosts.is_listening(hosts.at(origin))

    def _hang_up(self) -> None:
        """Close the connections, because xapi has ended. The caller holds the simulator's lock, on any thread."""
        self._record_addresses()
        if threading.get_ident() == self._thread_id:
            self._close_idle()
        else:
            self.loop.call_soon_threadsafe(self._close_idle)

    def _close_idle(self) -> None:
        """Close the connections without a call in progress; the others are closed when their call ends."""
        for listener in self._listeners:
            for connection in list(listener.connections):
                if not connection.busy:
                    connection.close()

    # --- calls ---

    def start_call(self, name: str, params: List[Any], origin: Origin, size: int, answer: Done) -> None:
        """Start a call for a connection; `answer` is called on this loop, at once or later."""
        sim = self.sim
        pending: List[Pending] = []

        def done(result: Any, error: Optional[Exception]) -> None:
            if pending:
                self._pending.discard(pending[0])
            if threading.get_ident() == self._thread_id:
                answer(result, error)
            else:
                self.loop.call_soon_threadsafe(answer, result, error)

        with sim.lock:
            sim.bytes_in[name] = sim.bytes_in.get(name, 0) + size
            started = sim.begin(name, params, origin, done)
            if started.process is not None:
                pending.append(started)
                self._pending.add(started)
                sim.kernel.run_due()
                if started.process.finished:
                    self._pending.discard(started)
        self._drive()

    def count_answer(self, name: str, size: int) -> None:
        self.sim.bytes_out[name] = self.sim.bytes_out.get(name, 0) + size

    # --- time ---

    def _wake(self) -> None:
        """Check what is due, because another thread has changed something."""
        # One check is enough for all changes before it.
        if not self._woken and threading.get_ident() != self._thread_id and not self.loop.is_closed():
            self._woken = True
            self.loop.call_soon_threadsafe(self._drive)

    def _drive(self) -> None:
        """Run what is due, and schedule the next check."""
        self._woken = False
        with self.sim.lock:
            kernel = self.sim.kernel
            kernel.run_due()
            when = kernel.next_timer()
            self.sim.lock.notify_all()
        if when is None:
            return
        if not kernel.virtual:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(kernel.seconds_until(when), self._drive)
        elif not self._moving and any(pending.waits_for_time for pending in self._pending):
            self._moving = True
            self.loop.call_soon(self._poll, self.activity)

    def _poll(self, activity: int) -> None:
        """Let the event loop poll the sockets, which takes it one more turn, before time jumps."""
        self.loop.call_soon(self._move, activity)

    def _move(self, activity: int) -> None:
        """Let virtual time jump to the next timer, unless input came first."""
        self._moving = False
        if activity == self.activity and any(pending.waits_for_time for pending in self._pending):
            with self.sim.lock:
                self.sim.kernel.advance()
        self._drive()
