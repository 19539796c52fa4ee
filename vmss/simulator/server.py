"""The sockets: unix, TCP and TLS, on one event loop that also drives the simulated clock."""

import asyncio
import os
import signal
import socket as sockets
import ssl
import stat
import threading
from typing import Any, Callable, List, Optional, Set, Tuple

from .dispatch import NETWORK, TRUSTED, Origin
from .errors import XapiError
from .http import Connection
from .simulator import Pending, Simulator

Answer = Callable[[Any, Optional[XapiError]], None]
BACKLOG = 128
SUN_PATH_MAX = 107


class ServerError(Exception):
    """The server cannot listen where it was told to; the message is one clear line."""


class Server:
    """Serves a simulator: `with Server(...)` in a background thread, `run` in this one."""

    def __init__(
        self,
        sim: Simulator,
        socket: Optional[str] = None,
        http: Optional[Tuple[str, int]] = None,
        https: Optional[Tuple[str, int, str, str]] = None,
    ) -> None:
        """`http` is (host, port), `https` (host, port, certificate file, key file); port 0 takes a free one."""
        self.sim = sim
        self.socket_path = socket
        self.http = http
        self.https = https
        self.http_address: Optional[Tuple[str, int]] = None
        self.https_address: Optional[Tuple[str, int]] = None
        self.activity = 0
        self.connections: Set[Connection] = set()
        self._pending: Set[Pending] = set()
        self._loop = asyncio.new_event_loop()
        self._listeners: List[Any] = []
        self._thread: Optional[threading.Thread] = None
        self._thread_id = 0
        self._moving = False
        self._timer: Optional[Any] = None
        self._socket_identity: Optional[Tuple[int, int]] = None

    # --- life ---

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
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._thread = None
        self._close()

    def run(self, ready: Callable[[], None]) -> None:
        """Serve in this thread until SIGTERM or SIGINT; `ready` is called once it does."""
        self._open()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._loop.stop)
        try:
            self._loop.call_soon(ready)
            self._serve()
        finally:
            self._close()

    def _serve(self) -> None:
        self._thread_id = threading.get_ident()
        self.sim.wake = self._wake
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._drive)
        self._loop.run_forever()

    def _open(self) -> None:
        try:
            if self.socket_path is not None:
                listener = listen_unix(self.socket_path)
                status = os.stat(self.socket_path)
                self._socket_identity = (status.st_dev, status.st_ino)
                self._listen(listener, TRUSTED, None)
            if self.http is not None:
                self.http_address = self._listen(_listen_tcp(*self.http), NETWORK, None)
            if self.https is not None:
                host, port, certificate, key = self.https
                context = _tls_context(certificate, key)
                self.https_address = self._listen(_listen_tcp(host, port), NETWORK, context)
        except BaseException:
            self._close()
            raise

    def _listen(self, listener: sockets.socket, origin: Origin, context: Optional[ssl.SSLContext]) -> Any:
        address = listener.getsockname()
        create = self._loop.create_server(
            lambda: Connection(self, origin), sock=listener, backlog=BACKLOG, ssl=context
        )
        self._listeners.append(self._loop.run_until_complete(create))
        return address[:2] if isinstance(address, tuple) else address

    def _close(self) -> None:
        if self._loop.is_closed():
            return
        self.sim.wake = lambda: None
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()
        # Let the transports close before their listeners do, and these before the loop does.
        self._loop.call_soon(self._loop.stop)
        self._loop.run_forever()
        for listener in self._listeners:
            listener.close()
        self._loop.call_soon(self._loop.stop)
        self._loop.run_forever()
        self._loop.close()
        self._remove_socket()

    def _remove_socket(self) -> None:
        if self._socket_identity is None or self.socket_path is None:
            return
        try:
            status = os.stat(self.socket_path)
        except OSError:
            return
        # Another server may have taken the path over.
        if (status.st_dev, status.st_ino) == self._socket_identity:
            os.unlink(self.socket_path)

    # --- calls ---

    def start_call(self, name: str, params: List[Any], origin: Origin, size: int, answer: Answer) -> None:
        """Start a call for a connection; `answer` is called on this loop, at once or later."""
        sim = self.sim
        pending: List[Pending] = []

        def done(result: Any, error: Optional[XapiError]) -> None:
            if pending:
                self._pending.discard(pending[0])
            if threading.get_ident() == self._thread_id:
                answer(result, error)
            else:
                self._loop.call_soon_threadsafe(answer, result, error)

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
        """Another thread has changed something: look again."""
        if threading.get_ident() != self._thread_id and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._drive)

    def _drive(self) -> None:
        """Run what is due, and see to it that we come back when the next thing is."""
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
            self._timer = self._loop.call_later(kernel.seconds_until(when), self._drive)
        elif not self._moving and any(pending.waits_for_time for pending in self._pending):
            self._moving = True
            self._loop.call_soon(self._look_for_input, self.activity)

    def _look_for_input(self, activity: int) -> None:
        # Sockets are polled between this turn of the loop and the one after the next.
        self._loop.call_soon(self._move, activity)

    def _move(self, activity: int) -> None:
        """Let virtual time jump to the next timer, unless input came first."""
        self._moving = False
        if activity == self.activity and any(pending.waits_for_time for pending in self._pending):
            with self.sim.lock:
                self.sim.kernel.advance()
        self._drive()


def _listen_tcp(host: str, port: int) -> sockets.socket:
    listener = sockets.socket(sockets.AF_INET6 if ":" in host else sockets.AF_INET, sockets.SOCK_STREAM)
    try:
        listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ServerError(
            "cannot listen on %s:%d: %s" % (host, port, getattr(error, "strerror", None) or error)
        )
    return listener


def _tls_context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ServerError("cannot use the certificate %s: %s" % (certificate, error.strerror or error))
    return context


def listen_unix(path: str) -> sockets.socket:
    """Listen on a unix socket, mode 0600; a socket that nobody serves any more is replaced.

    The path is reached through its directory's file descriptor, so that it may be longer than the 108 bytes a
    socket address holds.
    """
    directory, name = os.path.split(path)
    if not name:
        raise ServerError("the socket path %s is a directory" % path)
    try:
        descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ServerError("cannot create the socket %s: %s" % (path, error.strerror))
    try:
        short = "/proc/self/fd/%d/%s" % (descriptor, name)
        if len(os.fsencode(short)) > SUN_PATH_MAX:
            raise ServerError("the socket's file name is too long: %s" % name)
        _remove_stale(path, short)
        return _bind_unix(path, short)
    finally:
        os.close(descriptor)


def _remove_stale(path: str, short: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise ServerError("%s exists and is not a socket" % path)
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        try:
            probe.connect(short)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            raise ServerError("cannot replace the socket %s: %s" % (path, error.strerror))
    raise ServerError("another server is serving %s" % path)


def _bind_unix(path: str, short: str) -> sockets.socket:
    listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        listener.bind(short)
        # Nobody can connect before listen, so the mode is never wider in effect.
        os.chmod(path, 0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ServerError("cannot create the socket %s: %s" % (path, error.strerror))
    return listener
