"""A session with xapi through the XenAPI client, and asynchronous operations awaited on one event.from."""

import http.client
import io
import os
import re
import socket
import ssl
import time
import xmlrpc.client
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, Mapping, Optional
from xml.parsers.expat import ExpatError

import XenAPI

from vmss.core.outcome import RESULT_LOST, Outcome
from vmss.core.problem import Problem
from vmss.core.text import one_line, quoted
from vmss.edges.clock import Clock

# The name that makes xapi mark the snapshots of a local session as scheduled (ocaml/xapi/xapi_vmss.ml).
USER = "__dom0__vmss"
ORIGINATOR = "vmss"

# A task that says nothing for so long is asked: its event may be lost, its record collected
# (docs/xapi-facts.md, Task records are collected).
_SILENCE_S = 60.0
# A plain call that is not answered for so long never will be.
_CALL_TIMEOUT_S = 300.0
# No answer of xapi's comes near: 10,000 VMs, which one query of ours may have to read, are 90 MB.
_ANSWER_BYTES_MAX = 256 << 20
# The kernel takes a path of at most so many bytes for a unix socket.
_UNIX_PATH_MAX = 108


class Refused(Exception):
    """xapi answered with an error; `error` is its array, the code first."""

    def __init__(self, error: Any) -> None:
        items = error if isinstance(error, (list, tuple)) else [error]
        self.error = tuple(item if isinstance(item, str) else quoted(item) for item in items)
        Exception.__init__(self, self.error)

    @property
    def code(self) -> str:
        return self.error[0] if self.error else ""

    def __str__(self) -> str:
        return one_line(" ".join(self.error), 500)


class Unanswered(Exception):
    """No answer that can be trusted came back. The call may have been carried out, or not.

    `final`: there is no point in trying again.
    """

    def __init__(self, reason: str, final: bool = False) -> None:
        Exception.__init__(self, reason)
        self.final = final


class Misunderstood(Unanswered):
    """An answer came back, and part of it does not have the form xapi gives it."""


# What comes of reading a value that does not have the form xapi gives it.
MISREAD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, StopIteration)


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Raise Misunderstood where an answer that is read inside does not have the form xapi gives it."""
    try:
        yield
    except MISREAD as error:
        raise Misunderstood("%s: not an answer of xapi: %s" % (what, one_line(repr(error), 200)))


class AddressError(Problem):
    """VMSS_XAPI is not an address that we can use."""


class TooLarge(http.client.HTTPException):
    """An answer that is larger than any of xapi's."""


class _Limit:
    """What one call may take: seconds, from now on, and bytes of its answer."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._bytes = _ANSWER_BYTES_MAX

    def seconds(self) -> float:
        """How many are left. Raise socket.timeout if none are."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        return left

    def take(self, count: int) -> None:
        """Note that so many bytes of the answer are there, or are to come. Raise TooLarge."""
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
        self._limit.take(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        io.RawIOBase.close(self)


class _Source:
    """All of a socket that an HTTPResponse asks for."""

    def __init__(self, sock: Any, limit: _Limit) -> None:
        self._sock = sock
        self._limit = limit

    def makefile(self, mode: str) -> Any:
        return io.BufferedReader(_Limited(self._sock, self._limit))


class _Connection(http.client.HTTPConnection):
    """A connection that keeps to the limit of the call at hand."""

    limit: _Limit

    def connect(self) -> None:
        self.timeout = self.limit.seconds()
        http.client.HTTPConnection.connect(self)

    def send(self, data: Any) -> None:
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


class _Transport(xmlrpc.client.Transport):
    """XML-RPC with a limit for each call.

    A request is sent once. The transport of the standard library sends it again when the connection breaks,
    which would take a snapshot twice.
    """

    # xapi packs no answers; and unpacked, one may be a thousand times as large.
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
        response = None
        try:
            response = self.send_request(host, handler, request_body, verbose).getresponse()
            if response.status == 200:
                return self.parse_response(response)
            raise xmlrpc.client.ProtocolError(str(host) + handler, response.status, response.reason, {})
        except BaseException:
            # What of the answer is still to come belongs to no other call, and need not have an end.
            if response is not None:
                response.close()
            self.close()
            raise

    def parse_response(self, response: Any) -> Any:
        if response.getheader("Content-Encoding"):
            raise http.client.HTTPException("the answer is packed")
        return xmlrpc.client.Transport.parse_response(self, response)


class UnixTransport(_Transport):
    """XML-RPC over a unix socket whose path may hold any characters: the client's own transport takes every
    underscore for a slash."""

    def __init__(self, path: str, timeout: float = _CALL_TIMEOUT_S) -> None:
        _Transport.__init__(self, timeout)
        self._path = path

    def _new_connection(self, host: Any) -> _Connection:
        return _UnixConnection(self._path)


class TlsTransport(_Transport):
    """XML-RPC over TLS."""

    def __init__(self, context: ssl.SSLContext, timeout: float = _CALL_TIMEOUT_S) -> None:
        _Transport.__init__(self, timeout)
        self._context = context

    def _new_connection(self, host: Any) -> _Connection:
        return _TlsConnection(host, context=self._context)


class Xapi:
    """One session. Every call is sent once, and its failure is one of three: Refused, Unanswered, or a bug."""

    def __init__(
        self,
        address: str,
        verify_tls: bool = True,
        ca_file: str = "",
        timeout_s: float = _CALL_TIMEOUT_S,
        transport: Any = None,
    ) -> None:
        """`address` is unix:PATH or https://HOST[:PORT]. Raise AddressError for anything else. `transport` carries the
        calls instead of a connection to there."""
        self.address = address
        self.unix = address.startswith("unix:")
        self.session = ""
        transport = transport or _transport(address, verify_tls, ca_file, timeout_s)
        uri = "http://localhost/" if self.unix else address
        self._client = XenAPI.Session(uri, transport=transport)
        self._close = transport.close

    def login(self, user: str, password: str, originator: str = ORIGINATOR) -> None:
        """Open the session. Raise Refused or Unanswered."""
        self._guarded(
            "session.login_with_password", lambda: self._client.login_with_password(user, password, "1.0", originator)
        )
        self.session = str(self._client.handle)
        # The client would log in again, silently, whenever the session is refused: with that the new session's
        # calls would go on as though the operations of the old one were still there
        # (docs/xapi-facts.md, The XenAPI client logs in again by itself).
        self._client.last_login_method = None

    def adopt(self, session: str) -> None:
        """Use a session that somebody else has opened, and will close."""
        self.session = session
        self._client._session = session

    def call(self, method: str, *params: Any) -> Any:
        """Call a method of the session and return its result."""
        return self._guarded(method, lambda: self._client.xenapi_request(method, params))

    def logout(self, session: Optional[str] = None) -> None:
        """Close the session, or one that an earlier pass has left open."""
        # The client's own logout works only where it did the login.
        ended = session or self.session
        answer = self._guarded("session.logout", lambda: self._client.session.logout(ended))
        if isinstance(answer, dict) and answer.get("Status") == "Failure":
            raise Refused(answer.get("ErrorDescription") or [""])
        if session is None:
            self.session = ""

    def close(self) -> None:
        """Close the connection, whatever became of the session."""
        self._close()

    def _guarded(self, method: str, request: Any) -> Any:
        try:
            return request()
        except XenAPI.Failure as failure:
            raise Refused(failure.details)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == 401:
                raise Refused(["SESSION_INVALID", self.session])
            raise Unanswered("%s: %s" % (method, one_line(str(fault.faultString), 200)))
        except xmlrpc.client.ProtocolError as error:
            self._close()
            raise Unanswered("%s: HTTP status %d" % (method, error.errcode))
        except (OSError, http.client.HTTPException) as error:
            self._close()
            final = isinstance(error, (PermissionError, ssl.SSLError))
            hint = " (no such socket: xapi is not running, or this is not its dom0; VMSS_XAPI says where it is)"
            missing = isinstance(error, FileNotFoundError)
            raise Unanswered("%s: %s%s" % (method, _reason(error), hint if missing else ""), final)
        except (ExpatError, xmlrpc.client.Error) + MISREAD as error:
            # What came back is not an answer of xapi's.
            self._close()
            raise Unanswered("%s: not an answer of xapi: %s" % (method, one_line(str(error), 200)))


def _transport(address: str, verify_tls: bool, ca_file: str, timeout_s: float) -> Any:
    if address.startswith("unix:") and len(address) > 5:
        return UnixTransport(address[5:], timeout_s)
    if re.match(r"https://[^/@\s]+/?\Z", address):
        try:
            context = ssl.create_default_context(cafile=ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise AddressError("ca_file: %s cannot be used: %s" % (quoted(ca_file), _reason(error)))
        if not verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return TlsTransport(context, timeout_s)
    raise AddressError("VMSS_XAPI: %s is neither unix:PATH nor https://HOST" % quoted(address))


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return one_line(str(text), 200)


class Tasks:
    """Asynchronous operations in flight. All are awaited together; the record of each that ended is destroyed."""

    def __init__(self, xapi: Xapi, clock: Clock, waits_per_second: int = 5) -> None:
        self._xapi = xapi
        self._clock = clock
        self._waits_per_second = waits_per_second
        self._methods: Dict[str, str] = {}  # by task
        self._token = ""
        self._next_wait = clock.monotonic()
        self._heard = clock.monotonic()

    @property
    def pending(self) -> Mapping[str, str]:
        """The tasks that have not ended, with the method of each."""
        return dict(self._methods)

    def start(self, method: str, *params: Any) -> str:
        """Start Async.METHOD and return its task. Raise Refused or Unanswered."""
        if not self._methods:
            self._heard = self._clock.monotonic()
        task = str(self._xapi.call("Async." + method, *params))
        self._methods[task] = method
        return task

    def adopt(self, task: str, method: str) -> None:
        """Await a task that somebody else has started."""
        self._methods[task] = method
        # Its last event may be past already, so the next wait asks for the state of all of them.
        self._token = ""

    def cancel(self, task: str) -> None:
        """Ask for a task to be cancelled; whether that had an effect shows when it ends, if it ends."""
        with suppress(Refused):  # it has ended, or cannot be cancelled
            self._xapi.call("task.cancel", task)

    def wait(self, timeout_s: float) -> Dict[str, Outcome]:
        """Wait until at least one task has ended or the time has passed; return how tasks ended."""
        self._throttle()
        classes = ["task/" + task for task in self._methods]
        try:
            answer = self._xapi.call("event.from", classes, self._token, max(0.0, float(timeout_s)))
        except Refused as refused:
            if refused.code != "EVENT_FROM_TOKEN_PARSE_FAILURE" or not self._token:
                raise
            self._token = ""  # a token of another life of xapi: ask for everything again
            return {}
        ended = {}
        with understood("event.from"):
            self._token = str(answer["token"])
            for event in answer["events"]:
                if event["class"] == "task" and event["ref"] in self._methods:
                    self._heard = self._clock.monotonic()
                    outcome = self._outcome(event["ref"], event.get("snapshot"))
                    if outcome is not None:
                        ended[str(event["ref"])] = outcome
        if not ended and self._clock.monotonic() - self._heard >= _SILENCE_S:
            ended = self._ask()
        for task in ended:
            del self._methods[task]
            self._destroy(task)
        return ended

    def _throttle(self) -> None:
        # Evenly: after a burst, the end of an operation would be heard of up to a second late.
        interval = 1.0 / self._waits_per_second
        early = min(interval, self._next_wait - self._clock.monotonic())
        if early > 0:
            self._clock.sleep(early)
        self._next_wait = self._clock.monotonic() + interval

    def _ask(self) -> Dict[str, Outcome]:
        self._heard = self._clock.monotonic()
        ended = {}
        for task in self._methods:
            try:
                with understood("task.get_record"):
                    outcome = self._outcome(task, self._xapi.call("task.get_record", task))
            except Refused as refused:
                if refused.code != "HANDLE_INVALID":
                    raise
                outcome = self._outcome(task, None)
            if outcome is not None:
                ended[task] = outcome
        return ended

    def _outcome(self, task: str, record: Optional[Mapping[str, Any]]) -> Optional[Outcome]:
        if record is None:  # xapi collects the records of tasks that ended
            return Outcome(error=(RESULT_LOST, self._methods[task]))
        status = record["status"]
        if status == "success":
            return Outcome(value=_unwrap(str(record["result"])))
        if status == "failure":
            return Outcome(error=tuple(str(item) for item in record["error_info"]) or ("INTERNAL_ERROR", "no reason"))
        if status == "cancelled":
            return Outcome(error=("TASK_CANCELLED", task))
        return None

    def _destroy(self, task: str) -> None:
        try:
            self._xapi.call("task.destroy", task)
        except Refused as refused:
            if refused.code != "HANDLE_INVALID":
                raise


def _unwrap(result: str) -> str:
    """A task's result is the XML value element of what the call returns."""
    match = re.match(r"\s*<value>(.*)</value>\s*\Z", result, re.DOTALL)
    return match.group(1) if match else result
