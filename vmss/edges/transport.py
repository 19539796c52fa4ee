"""The connection to xapi: HTTP over a unix socket or TLS, with a limit of time and size for each call."""

import http.client
import io
import os
import re
import socket
import ssl
import time
import xmlrpc.client
from typing import Any, Callable, List, Mapping, Optional

from vmss.core.problem import Problem
from vmss.core.text import one_line, quoted

# The timeout of an ordinary call. xapi keeps the caller waiting for a busy object only in operations.
CALL_TIMEOUT_S = 300.0
# The largest answer that we can ask for, the records of 10,000 VMs, has 90 MB.
_ANSWER_BYTES_MAX = 256 << 20
# What is read of an answer at a time.
_PART_BYTES = 1 << 20
# The length of the path in the kernel's address of a unix socket, in bytes, its final NUL included.
_UNIX_PATH_MAX = 108


class AddressError(Problem):
    """VMSS_XAPI is not an address that can be used."""


class TooLarge(http.client.HTTPException):
    """The answer is larger than any that xapi could give."""


class _Limit:
    """The limits of one call: the time from now on, and the bytes of its answer."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._bytes = _ANSWER_BYTES_MAX

    def seconds(self) -> float:
        """The seconds that remain. Raise socket.timeout if none do."""
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise socket.timeout("timed out")
        return remaining

    def count(self, count: int) -> None:
        """Count bytes of the answer that have come. Raise TooLarge if they are too many."""
        self._bytes -= count
        if self._bytes < 0:
            raise TooLarge("the answer is larger than %d MiB" % (_ANSWER_BYTES_MAX >> 20))


class _Limited(io.RawIOBase):
    """The answer on a socket. The timeout of the socket itself begins anew with every byte."""

    def __init__(self, sock: Any, limit: _Limit) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._limit = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        self._sock.settimeout(self._limit.seconds())
        count = self._raw.readinto(buffer)
        self._limit.count(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        io.RawIOBase.close(self)


class _Source:
    """The part of a socket that an HTTPResponse asks for."""

    def __init__(self, sock: Any, limit: _Limit) -> None:
        self._sock = sock
        self._limit = limit

    def makefile(self, mode: str) -> Any:
        return io.BufferedReader(_Limited(self._sock, self._limit))


class _Connection(http.client.HTTPConnection):
    """A connection that keeps to the limit of the current call."""

    limit: _Limit
    _parts: Optional[List[bytes]] = None

    def post(self, handler: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a request in one write: http.client makes one of its head and one of its body."""
        parts: List[bytes] = []
        self._parts = parts
        self.request("POST", handler, body, headers)
        self._parts = None
        self.send(b"".join(parts))

    def connect(self) -> None:
        self.timeout = self.limit.seconds()
        http.client.HTTPConnection.connect(self)

    def send(self, data: Any) -> None:
        if self._parts is not None:
            self._parts.append(data)
            return
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.limit.seconds())
        http.client.HTTPConnection.send(self, data)

    def response_class(self, sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        source: Any = _Source(sock, self.limit)
        return http.client.HTTPResponse(source, *args, **kwargs)


class _UnixConnection(_Connection):
    def __init__(self, path: str) -> None:
        http.client.HTTPConnection.__init__(self, "localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.limit.seconds())
        if len(os.fsencode(self._path)) < _UNIX_PATH_MAX:
            self.sock.connect(self._path)
            return
        # The descriptor of its directory makes a path short.
        directory, name = os.path.split(self._path)
        descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock.connect("/proc/self/fd/%d/%s" % (descriptor, name))
        finally:
            os.close(descriptor)


class _TlsConnection(_Connection, http.client.HTTPSConnection):
    def connect(self) -> None:
        self.timeout = self.limit.seconds()
        http.client.HTTPSConnection.connect(self)


class Transport(xmlrpc.client.Transport):
    """XML-RPC, as the XenAPI client needs it, and JSON-RPC, with a limit for each call.

    A request is sent once. The transport of the standard library sends it again if the connection breaks, which
    would take a snapshot twice.
    """

    # xapi compresses no answers, and decompressed one may be a thousand times as large.
    accept_gzip_encoding = False

    def __init__(self, timeout: float) -> None:
        xmlrpc.client.Transport.__init__(self)
        self._timeout = timeout
        self._kept: Optional[_Connection] = None

    def _new_connection(self, host: Any) -> _Connection:
        raise NotImplementedError

    def make_connection(self, host: Any) -> _Connection:
        if self._kept is None:
            self._kept = self._new_connection(host)
            self._connection = host, self._kept
        self._kept.limit = _Limit(self._timeout)
        return self._kept

    def close(self) -> None:
        self._kept = None
        xmlrpc.client.Transport.close(self)

    def request(self, host: Any, handler: str, request_body: Any, verbose: bool = False) -> Any:
        self.verbose = verbose
        return self._answered(
            host, handler, lambda: self.send_request(host, handler, request_body, verbose), self.parse_response
        )

    def post(self, host: str, handler: str, body: bytes) -> bytes:
        """Send a request in JSON, and return the body of its answer."""

        def send() -> http.client.HTTPConnection:
            connection = self.make_connection(host)
            connection.post(handler, body, {"Content-Type": "application/json"})
            return connection

        return bytes(self._answered(host, handler, send, _whole))

    def _answered(
        self, host: Any, handler: str, send: Callable[[], http.client.HTTPConnection], read: Callable[[Any], Any]
    ) -> Any:
        response = None
        try:
            response = send().getresponse()
            if response.status == 200:
                return read(response)
            raise xmlrpc.client.ProtocolError(str(host) + handler, response.status, response.reason, {})
        except BaseException:
            # The rest of the answer belongs to no other call, and need not have an end.
            if response is not None:
                response.close()
            self.close()
            raise

    def parse_response(self, response: Any) -> Any:
        _refuse_compressed(response)
        return xmlrpc.client.Transport.parse_response(self, response)


def _whole(response: Any) -> bytes:
    _refuse_compressed(response)
    # Not at once: the length that an answer claims would be allocated before its first byte has come.
    return b"".join(iter(lambda: response.read(_PART_BYTES), b""))


def _refuse_compressed(response: Any) -> None:
    if response.getheader("Content-Encoding"):
        raise http.client.HTTPException("the answer is compressed")


class UnixTransport(Transport):
    """A unix socket of any path. XenAPI's own transport takes every underscore in it for a slash."""

    def __init__(self, path: str, timeout: float = CALL_TIMEOUT_S) -> None:
        Transport.__init__(self, timeout)
        self._path = path

    def _new_connection(self, host: Any) -> _Connection:
        return _UnixConnection(self._path)


class TlsTransport(Transport):
    """TLS."""

    def __init__(self, context: ssl.SSLContext, timeout: float = CALL_TIMEOUT_S) -> None:
        Transport.__init__(self, timeout)
        self._context = context

    def _new_connection(self, host: Any) -> _Connection:
        return _TlsConnection(host, context=self._context)


def transport_to(address: str, verify_tls: bool, ca_file: str, timeout_s: float) -> Transport:
    """Given unix:PATH or https://HOST[:PORT], return the transport to there. Raise AddressError for anything else."""
    if address.startswith("unix:") and len(address) > 5:
        return UnixTransport(address[5:], timeout_s)
    if re.match(r"https://[^/@\s]+/?\Z", address):
        try:
            if ca_file and not os.path.isfile(ca_file):  # a pipe would be waited for
                raise OSError("there is no such file")
            context = ssl.create_default_context(cafile=ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise AddressError("ca_file: %s cannot be used: %s" % (quoted(ca_file), reason_of(error)))
        if not verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return TlsTransport(context, timeout_s)
    # Before an @ may stand a password, which does not belong there.
    shown = re.sub(r"(?s).*@", "…@", address)
    raise AddressError("VMSS_XAPI: %s is neither unix:PATH nor https://HOST" % quoted(shown))


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return one_line(str(text), 200)
