"""Listening sockets: unix, TCP and TLS, with xapi's limits on connections."""

import asyncio
import os
import socket as sockets
import ssl
import stat
from typing import TYPE_CHECKING, Any, Dict, Optional, Set

from .call import Origin
from .http import Connection
from .visitors import Visitors

if TYPE_CHECKING:
    from .server import Server

BACKLOG = 128
# Upper limits on the connections of a socket; further ones wait in the backlog (xapi: ocaml/xapi/xapi_globs.ml).
UNIX_CONNECTIONS_MAX = 1024
NETWORK_CONNECTIONS_MAX = 800
# Pause in seconds before the next accept, after one that lacked a file descriptor.
ACCEPT_PAUSE_SECONDS = 1.0
# Turns of the event loop until a closed transport is gone; TLS needs several.
CLOSING_TURNS = 10
SUN_PATH_MAX = 107


class ServerError(Exception):
    """The server cannot listen where it was told to; the message is one clear line."""


class Listener:
    """One listening socket. It has the same upper limit on connections as xapi's; the others wait in the backlog."""

    def __init__(
        self,
        server: "Server",
        listener: sockets.socket,
        origin: Origin,
        context: Optional[ssl.SSLContext] = None,
        visitors: Optional[Visitors] = None,
    ) -> None:
        self.server = server
        self.visitors = visitors
        self.loop = server.loop
        self.listener = listener
        self.origin = origin
        self.context = context
        self.connections: Set[Connection] = set()
        # The connections that the event loop does not serve yet.
        self._accepted: Dict[Connection, sockets.socket] = {}
        self._tasks: Set[Any] = set()
        self._closed = False
        self.loop.add_reader(listener, self._accept)

    def _accept(self) -> None:
        try:
            client, _ = self.listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            self.loop.remove_reader(self.listener)
            self.loop.call_later(ACCEPT_PAUSE_SECONDS, self._go_on)
            return
        self.server.activity += 1
        if not self.origin.trusted and not self.server.is_listening(self.origin):
            # On the unix socket the first call decides, because the simulator's own methods are always served.
            client.close()
            return
        client.setblocking(False)
        connection = Connection(self.server, self.origin, self._lost, self.visitors)
        self.connections.add(connection)
        self._accepted[connection] = client
        if self._is_full():
            self.loop.remove_reader(self.listener)
        task = self.loop.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: Connection) -> None:
        """Let the event loop serve a client on its connection, with TLS after the handshake."""
        client = self._accepted.pop(connection)
        try:
            await self.loop.connect_accepted_socket(lambda: connection, client, ssl=self.context)
        except (OSError, asyncio.CancelledError):
            # The client has gone or speaks no TLS, or the listener is closed.
            self._lost(connection)

    def _is_full(self) -> bool:
        return len(self.connections) >= (UNIX_CONNECTIONS_MAX if self.origin.trusted else NETWORK_CONNECTIONS_MAX)

    def _lost(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._go_on()

    def _go_on(self) -> None:
        if not self._closed and not self._is_full():
            self.loop.add_reader(self.listener, self._accept)

    def close(self) -> None:
        """Close the socket and its connections, which takes some turns of the event loop."""
        self._closed = True
        self.loop.remove_reader(self.listener)
        self.listener.close()
        for task in self._tasks:
            task.cancel()
        for connection, client in self._accepted.items():
            client.close()
            self.connections.discard(connection)
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.abort()


def remove_socket(path: str, device: int, inode: int) -> None:
    """Remove the file of a socket, unless another server has replaced it since."""
    try:
        status = os.stat(path)
    except OSError:
        return
    if (status.st_dev, status.st_ino) == (device, inode):
        os.unlink(path)


def listen_tcp(host: str, port: int) -> sockets.socket:
    listener = sockets.socket(sockets.AF_INET6 if ":" in host else sockets.AF_INET, sockets.SOCK_STREAM)
    try:
        listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ServerError("cannot listen on %s:%d: %s" % (host, port, getattr(error, "strerror", None) or error))
    return listener


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
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
