"""One HTTP connection: requests in, RPC answers out, one after another.

Source of the rules and headers: xapi: ocaml/libs/http-lib/http.ml, http_svr.ml, ocaml/xapi/api_server.ml.
"""

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import unquote, urlsplit

from . import wire
from .call import Headers, Origin
from .dispatch import BareList
from .errors import XapiError
from .pages import page
from .visitors import EVERY_PAGE, Pairs, Visitors

if TYPE_CHECKING:
    from .server import Server

COPIED_MAX = 64 * 1024
BODY_MAX = 300 * 1024
# Upper limits on the first request of a connection over the network: bytes, and seconds of the wall clock.
NETWORK_HEADERS_MAX = 1024
HEADER_READ_SECONDS = 10.0
HEADER_TOTAL_SECONDS = 60.0

# The path prefixes that have a handler. With GET and PUT xapi serves files, consoles and imports; this server does not.
_HANDLERS: Dict[str, Dict[str, str]] = {
    "POST": {"/": "xml", "/RPC2": "xml", "/jsonrpc": "json"},
    "OPTIONS": {"/": "options"},
    "GET": {},
    "PUT": {},
    "CONNECT": {},
}
_OTHER_CONFIG = "x-http-other-config-"


class Head(NamedTuple):
    """A request line, and the headers that the server uses."""

    verb: str
    path: str
    version: str
    keep_alive: bool
    length: Optional[int]
    headers: Headers
    requested_headers: str = ""
    host: Optional[str] = None
    page: Optional[str] = None  # where the page is from whose request it is: the header Origin


class BadHead(Exception):
    """Something that is not an HTTP request; the message goes onto the page of the answer."""


@lru_cache(maxsize=64)  # a client's requests differ in little but their lengths
def parse_head(data: bytes) -> Head:
    """The part of a request before its body; raises BadHead."""
    # xapi takes names and values of headers as bytes; those that it stores in its database must be UTF-8.
    lines = data.decode("utf-8", "replace").split("\n")
    parts = lines[0].split()
    if len(parts) != 3:
        raise BadHead("The HTTP headers could not be parsed.")
    try:
        path = unquote(urlsplit(parts[1]).path)
    except ValueError:
        raise BadHead("The HTTP headers could not be parsed.")
    cut = [line.partition(":") for line in lines[1:]]
    pairs = [(name.lower(), value.strip()) for name, colon, value in cut if colon]
    headers = dict(pairs)
    # HTTP 1.0 is answered with 1.0, every other version with 1.1.
    version = "1.0" if parts[2][len("HTTP/") :] == "1.0" else "1.1"
    return Head(
        parts[0],
        path,
        version,
        _keep_alive(version, pairs),
        _length(headers.get("content-length")),
        _meaning(headers),
        headers.get("access-control-request-headers", ""),
        headers.get("host"),
        headers.get("origin"),
    )


def _keep_alive(version: str, pairs: List[Tuple[str, str]]) -> bool:
    """Whether the connection stays open; the last header that says so or otherwise wins."""
    said = [value.lower() for name, value in pairs if name == "connection"]
    wishes = [value for value in said if value in ("close", "keep-alive")]
    return wishes[-1] == "keep-alive" if wishes else version != "1.0"


def _length(text: Optional[str]) -> Optional[int]:
    if text is None:
        return None
    if not text.isdecimal():
        raise BadHead(_escape('Failure("Int64.of_string")'))
    return int(text)


def _meaning(headers: Dict[str, str]) -> Headers:
    # Names of headers have no case, so the keys are in lower case.
    start = len(_OTHER_CONFIG)
    noted = tuple((name[start:], value) for name, value in headers.items() if name.startswith(_OTHER_CONFIG))
    plain = (headers.get(name, "") for name in ("task-id", "subtask-of", "originator", "user-agent"))
    task, subtask_of, originator, user_agent = plain
    return Headers(task, subtask_of, noted, originator, user_agent)


def _handler(verb: str, path: str) -> str:
    """The handler with the longest prefix of the path; "" when there is none."""
    prefixes = [prefix for prefix in _HANDLERS[verb] if path.startswith(prefix)]
    return _HANDLERS[verb][max(prefixes, key=len)] if prefixes else ""


class Connection(asyncio.Protocol):
    """Reads requests, starts their calls, and writes the answers in order."""

    def __init__(
        self,
        server: "Server",
        origin: Origin,
        lost: Callable[["Connection"], None],
        visitors: Optional[Visitors] = None,
    ) -> None:
        """`lost` is called when the connection is closed. `visitors`: whose requests are answered; None: all are."""
        self.server = server
        self.visitors = visitors
        self.origin = origin
        self.lost = lost
        self.transport: Any = None
        self.buffer = bytearray()
        self.head: Optional[Head] = None
        self.handler = ""
        # A call is under way; the client has finished sending.
        self.busy = False
        self.ended = False
        self._taking = False
        self._deadline: Optional[float] = None
        self._timer: Optional[asyncio.TimerHandle] = None

    # --- callbacks of the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.activity += 1
        if not self.origin.trusted:
            self._deadline = self.server.loop.time() + HEADER_TOTAL_SECONDS
            self._wait_for_headers()

    def connection_lost(self, error: Optional[Exception]) -> None:
        """A call in progress continues: closing a socket cancels nothing in xapi."""
        self._headers_came()
        if self.transport is not None:
            # In Python 3.6 a TLS transport has to be closed even if the client has closed it.
            self.transport.close()
            self.transport = None
        self.lost(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.server.activity += 1
        self._requests()
        if self._deadline is not None:
            self._wait_for_headers()

    def eof_received(self) -> bool:
        """A client that has finished sending still gets the answer to what it has sent."""
        self.ended = True
        # TLS cannot be closed in one direction only.
        return self.busy and self.transport is not None and self.transport.get_extra_info("sslcontext") is None

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def close(self) -> None:
        """Close the connection once everything written is sent."""
        self._headers_came()
        if self.is_open:
            self.transport.close()

    # --- the timeout of the first headers ---

    def _wait_for_headers(self) -> None:
        loop = self.server.loop
        if self._timer is not None:
            self._timer.cancel()
        remaining = (self._deadline or 0.0) - loop.time()
        self._timer = loop.call_later(max(0.0, min(HEADER_READ_SECONDS, remaining)), self._too_late)

    def _too_late(self) -> None:
        self._refuse(408)

    def _headers_came(self) -> None:
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- reading requests ---

    def _requests(self) -> None:
        """Take complete requests from the buffer, each when the one before it has been answered."""
        if self._taking:
            # The call that ended was started by the loop below, which continues.
            return
        self._taking = True
        while not self.busy and self.is_open and self._take_request():
            pass
        self._taking = False
        if self.ended and not self.busy:
            self.close()

    def _take_request(self) -> bool:
        """Take one request and start its call; return whether there was a complete one."""
        if self.head is None and not self._read_head():
            return False
        head = self.head
        if head is None or len(self.buffer) < (head.length or 0):
            return False
        length = head.length or 0
        body = bytes(self.buffer[:length])
        del self.buffer[:length]
        self.head = None
        self._request(head, body)
        return True

    def _read_head(self) -> bool:
        """Parse the headers if they are complete; refuse a request that the server does not serve."""
        end = self.buffer.find(b"\r\n\r\n")
        size = end + 4 if end >= 0 else len(self.buffer)
        if not self.origin.trusted and size > NETWORK_HEADERS_MAX:
            self._refuse(431)
            return False
        if end < 0:
            return False
        self._headers_came()
        try:
            head = parse_head(bytes(self.buffer[:end]))
        except BadHead as error:
            self._refuse(500, str(error))
            return False
        del self.buffer[: end + 4]
        if not self._takes(head):
            return False
        # The body of an OPTIONS request is ignored.
        self.head = head._replace(length=None) if self.handler == "options" else head
        return True

    def _takes(self, head: Head) -> bool:
        """Whether a request has a handler and a usable length; otherwise it is refused here."""
        if head.verb not in _HANDLERS:
            self._refuse(501, wire.escape(head.verb), head.version)
            return False
        refusal = self.visitors.refusal(head.host, head.page) if self.visitors is not None else ""
        if refusal:
            self._refuse(403, " (%s)" % refusal, head.version)
            return False
        self.handler = _handler(head.verb, head.path)
        if not self.handler:
            self._refuse(403)
            return False
        if self.handler == "options":
            return True
        if head.length is None:
            # So xapi refuses chunked bodies too.
            self._refuse(500, _escape('Failure("We require a content-length: HTTP header")'), head.version)
            return False
        if head.length > BODY_MAX:
            self._refuse(500, "Http_svr.Client_requested_size_over_limit", head.version)
            return False
        return True

    # --- one request ---

    def _request(self, head: Head, body: bytes) -> None:
        if self.handler == "options":
            self._allow(head)
            return
        is_json = self.handler == "json"
        try:
            request = wire.decode_json(body) if is_json else wire.decode_xml(body)
        except wire.Malformed as error:
            self._refuse(500, _escape(str(error)), head.version)
            return
        bad_text = wire.invalid_utf8(request.params) if is_json else None
        if bad_text is not None:
            refusal = XapiError("INVALID_VALUE", "Invalid UTF-8 string in parameter", "S(%s)" % bad_text)
            self._answer(head, request, None, refusal, early=True)
            return
        self.busy = True
        self.server.start_call(
            request.method,
            request.params,
            self.origin._replace(headers=head.headers),
            len(body),
            lambda result, error: self._answer(head, request, result, error),
        )

    def _answer(
        self, head: Head, request: wire.Request, result: Any, error: Optional[Exception], early: bool = False
    ) -> None:
        self.busy = False
        failure = error if isinstance(error, XapiError) else None
        if error is not failure or not self._is_served(request.method):
            # xapi or its host has died: whatever the outcome of the call, there is no answer.
            self.close()
            return
        if failure is not None and (early or failure.code == "HOST_STILL_BOOTING"):
            body, more = _early_failure(request, failure)
        else:
            body, more = encode(request, result, failure), self._for_pages(head)
        self.server.count_answer(request.method, len(body))
        kind = "text/xml" if request.version == "xml" else "application/json"
        self._write(head, body, (("content-type", kind), *more))
        self._requests()

    def _is_served(self, method: str = "") -> bool:
        """Whether xapi is there to answer. The simulator's own methods always answer."""
        return self.server.is_listening(self.origin) or method.startswith("simulator.")

    def _allow(self, head: Head) -> None:
        """Answer the request that a browser sends before a page of another server may call this one."""
        allowed = ", ".join(name for name in (head.requested_headers, "X-Requested-With") if name)
        if self._is_served():
            *near, (name, _) = self._for_pages(head) or EVERY_PAGE[1:]
            self._write(head, b"", (*near, (name, allowed), ("Access-Control-Allow-Methods", "PUT")))
        else:
            self.close()

    def _for_pages(self, head: Head) -> Pairs:
        """The headers that let the page of a request read the answer."""
        return EVERY_PAGE if self.visitors is None else self.visitors.headers(head.page)

    def _write(self, head: Head, body: bytes, more: Pairs) -> None:
        connection = "keep-alive" if head.keep_alive else "close"
        pairs = (("connection", connection), ("cache-control", "no-cache, no-store"), *more)
        self._send(head.version, 200, "OK", pairs, body)
        if not head.keep_alive:
            self.close()

    def _refuse(self, status: int, text: str = "", version: str = "1.1") -> None:
        """Answer with an HTML page, and close the connection."""
        if self._is_served():
            reason, body = page(status, text)
            pairs = (("content-type", "text/html"), ("connection", "close"), ("cache-control", "no-cache, no-store"))
            self._send(version, status, reason, pairs, body)
        self.close()

    def _send(self, version: str, status: int, reason: str, pairs: Pairs, body: bytes) -> None:
        if self.is_open:
            lines = ["HTTP/%s %d %s" % (version, status, reason), "content-length: %d" % len(body)]
            lines += ["%s: %s" % pair for pair in pairs]
            head = "\r\n".join([*lines, "", ""]).encode("utf-8", "replace")
            if len(body) < COPIED_MAX:
                self.transport.write(head + body)
            else:
                # A bulk read may be a gigabyte: it must not be copied here, and only once by the transport.
                self.transport.write(head)
                self.transport.write(memoryview(body))


def _escape(text: str) -> str:
    """Escape the text of an exception as xapi does for its HTML page."""
    return wire.escape(text).replace("'", "&apos;")


def _early_failure(request: wire.Request, error: XapiError) -> Tuple[bytes, Pairs]:
    """The answer to a call that fails before it is dispatched: the host is booting, or a text is not UTF-8. The answer
    in JSON has no id, and the headers for browsers are left out."""
    is_xml = request.version == "xml"
    return wire.encode_xml_failure(error) if is_xml else wire.encode_json_early_failure(error, request), ()


def encode(request: wire.Request, result: Any, error: Optional[XapiError]) -> bytes:
    """The body of the answer in the protocol of the request."""
    if request.version == "xml":
        if error is not None:
            return wire.encode_xml_failure(error)
        if isinstance(result, BareList):
            return wire.encode_xml_success(list(result), bare=True)
        return wire.encode_xml_success(result)
    if error is not None:
        return wire.encode_json_failure(error, request)
    return wire.encode_json_success(list(result) if isinstance(result, BareList) else result, request)
