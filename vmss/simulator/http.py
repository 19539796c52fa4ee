"""One HTTP connection: requests in, RPC answers out, one after another.

Source of the rules and headers: xapi: ocaml/libs/http-lib/http_svr.ml, ocaml/xapi/api_server.ml.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional

from . import wire
from .dispatch import BareList, Origin
from .errors import XapiError

if TYPE_CHECKING:
    from .server import Server

BODY_MAX = 300 * 1024
NETWORK_HEADERS_MAX = 1024
UNIX_HEADERS_MAX = 64 * 1024

_REASONS = {
    200: "OK",
    403: "Forbidden",
    431: "Request Header Fields Too Large",
    501: "Method Not Implemented",
}
_RPC_HEADERS = "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Headers: X-Requested-With\r\n"
_PAGE_500 = (
    "<html><body><h1>HTTP 500 internal server error</h1>An unexpected error occurred; please wait a while and "
    "try again. If the problem persists, please contact your support representative.<h1> Additional information "
    "</h1>%s</body></html>"
)


class Head(NamedTuple):
    """A request line and what matters of its headers."""

    verb: str
    path: str
    version: str
    keep_alive: bool
    length: Optional[int]


class BadHead(Exception):
    """Something that is not an HTTP request."""


def parse_head(data: bytes) -> Head:
    lines = data.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/"):
        raise BadHead(lines[0])
    headers: Dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    # 1.0 is answered in kind, everything else as 1.1.
    version = "1.0" if parts[2] == "HTTP/1.0" else "1.1"
    connection = headers.get("connection", "").lower()
    keep_alive = connection == "keep-alive" if version == "1.0" else connection != "close"
    length = headers.get("content-length", "")
    return Head(parts[0], parts[1], version, keep_alive, int(length) if length.isdigit() else None)


class Connection(asyncio.Protocol):
    """Reads requests, starts their calls, and writes the answers in order."""

    def __init__(self, server: "Server", origin: Origin) -> None:
        self.server = server
        self.origin = origin
        self.transport: Any = None
        self.buffer = bytearray()
        self.head: Optional[Head] = None
        self.busy = False
        self.headers_max = UNIX_HEADERS_MAX if origin.trusted else NETWORK_HEADERS_MAX

    # --- the transport's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.connections.add(self)

    def connection_lost(self, error: Optional[Exception]) -> None:
        """The call that runs, if any, goes on: closing a socket cancels nothing in xapi."""
        self.transport = None
        self.server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.server.activity += 1
        self._requests()

    def _requests(self) -> None:
        """Take the next complete request from the buffer, unless one is being answered."""
        while not self.busy and self.transport is not None:
            if self.head is None and not self._read_head():
                return
            head = self.head
            if head is None:
                return
            length = head.length or 0
            if len(self.buffer) < length:
                return
            body = bytes(self.buffer[:length])
            del self.buffer[:length]
            self.head = None
            self._request(head, body)

    def _read_head(self) -> bool:
        """Parse the headers if they are complete; refuse what the server does not take."""
        end = self.buffer.find(b"\r\n\r\n")
        if (end if end >= 0 else len(self.buffer)) > self.headers_max:
            self._refuse(431, "<html><body><h1>HTTP 431</h1></body></html>")
            return False
        if end < 0:
            return False
        try:
            head = parse_head(bytes(self.buffer[:end]))
        except BadHead as error:
            self._refuse(500, _PAGE_500 % wire.escape(str(error)))
            return False
        del self.buffer[: end + 4]
        if not head.path.startswith("/"):
            self._refuse(403, "<html><body><h1>HTTP 403 forbidden</h1></body></html>")
            return False
        if head.verb != "POST":
            self._refuse(501, "<html><body><h1>HTTP 501 method not implemented</h1></body></html>")
            return False
        if head.length is None or head.length > BODY_MAX:
            reason = "Content-Length is missing" if head.length is None else "the request body is too large"
            self._refuse(500, _PAGE_500 % reason)
            return False
        self.head = head
        return True

    # --- one request ---

    def _request(self, head: Head, body: bytes) -> None:
        is_json = head.path.startswith("/jsonrpc")
        try:
            request = wire.decode_json(body) if is_json else wire.decode_xml(body)
        except wire.Malformed as error:
            self._refuse(500, _PAGE_500 % wire.escape(str(error)))
            return
        bad_text = _invalid_utf8(request.params) if is_json else None
        if bad_text is not None:
            # Found while preparing the call, before xapi knows its id: the shape of this answer is its own.
            refusal = XapiError("INVALID_VALUE", "Invalid UTF-8 string in parameter", "S(%s)" % bad_text)
            self._finish(head, request, wire.encode_json_early_failure(refusal, request))
            return
        self.busy = True
        self.server.start_call(
            request.method,
            request.params,
            self.origin,
            len(body),
            lambda result, error: self._answer(head, request, result, error),
        )

    def _answer(self, head: Head, request: wire.Request, result: Any, error: Optional[XapiError]) -> None:
        self._finish(head, request, encode(request, result, error))

    def _finish(self, head: Head, request: wire.Request, body: bytes) -> None:
        self.server.count_answer(request.method, len(body))
        self._write(head, body, "text/xml" if request.version == "xml" else "application/json")
        self.busy = False
        if not head.keep_alive:
            self._close()
        elif self.buffer:
            self._requests()

    def _write(self, head: Head, body: bytes, content_type: str) -> None:
        if self.transport is None:
            return
        connection = "keep-alive" if head.keep_alive else "close"
        lines = (
            "HTTP/%s 200 OK\r\ncontent-length: %d\r\nconnection: %s\r\ncache-control: no-cache, no-store\r\n"
        )
        first = lines % (head.version, len(body), connection)
        text = "%scontent-type: %s\r\n%s\r\n" % (first, content_type, _RPC_HEADERS)
        self.transport.write(text.encode("latin-1") + body)

    def _refuse(self, status: int, page: str) -> None:
        """Answer with an HTML page and hang up."""
        if self.transport is not None:
            body = page.encode("utf-8", "replace")
            reason = _REASONS.get(status, "Internal Error")
            text = "HTTP/1.1 %d %s\r\ncontent-length: %d\r\ncontent-type: text/html\r\nconnection: close\r\n"
            head = text % (status, reason, len(body)) + "cache-control: no-cache, no-store\r\n\r\n"
            self.transport.write(head.encode("latin-1") + body)
        self._close()

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.close()
            self.transport = None


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


def _invalid_utf8(value: Any) -> Optional[str]:
    """The first text that came as invalid UTF-8; only JSON can carry one this far."""
    if isinstance(value, str):
        return value if any("\udc80" <= char <= "\udcff" for char in value) else None
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        found = _invalid_utf8(item)
        if found is not None:
            return found
    return None
