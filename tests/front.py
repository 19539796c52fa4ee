"""A socket in front of a simulator that meets every call on its way: to do something just then, or to lose it."""

import json
import socket
import threading
from typing import Any, Callable, List, Optional, Tuple

Hook = Callable[[str], None]


class Lose(Exception):
    """Raised by a hook: the connection breaks here."""


def _message(connection: socket.socket) -> Optional[Tuple[bytes, bytes]]:
    """One HTTP message: head and body; None at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    (length,) = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while len(body) < length:
        body += connection.recv(65536)
    return head, body


def _method(body: bytes) -> str:
    if body.startswith(b"{"):
        return str(json.loads(body.decode("utf-8", "surrogateescape"))["method"])
    return body.partition(b"<methodName>")[2].partition(b"</methodName>")[0].decode()


class Front:
    """Hands calls on from a unix socket to a server's. `before` is told of each call before the server gets it,
    `after` when the server has answered; either may do anything, and lose the call. `rewrite` gets the method and the
    answer's body, and returns the body that the client gets; `wire` gets the method and the whole answer, and returns
    what goes to the client, which need not be one answer."""

    def __init__(
        self,
        path: str,
        server: str,
        before: Hook = lambda method: None,
        after: Hook = lambda method: None,
        rewrite: Callable[[str, bytes], bytes] = lambda method, body: body,
        wire: Callable[[str, bytes], bytes] = lambda method, message: message,
    ) -> None:
        self.calls: List[str] = []
        self._server = server
        self._before = before
        self._after = after
        self._rewrite = rewrite
        self._wire = wire
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(5)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(self._server)
            try:
                for request in iter(lambda: _message(client), None):
                    method = _method(request[1])
                    self.calls.append(method)
                    self._before(method)
                    upstream.sendall(b"\r\n\r\n".join(request))
                    answer = _message(upstream)
                    self._after(method)
                    head, body = answer or (b"", b"")
                    shown = self._rewrite(method, body)
                    lengths = (b"content-length: %d" % len(body), b"content-length: %d" % len(shown))
                    client.sendall(self._wire(method, b"\r\n\r\n".join((head.replace(*lengths), shown))))
            except (Lose, ConnectionError):  # lost, or the client has died
                pass


def valued(change: Callable[[str, Any], None]) -> Callable[[str, bytes], bytes]:
    """For `rewrite`: change the value that an answer in JSON has, in place."""

    def rewritten(method: str, body: bytes) -> bytes:
        if not body.startswith(b"{"):
            return body
        answer = json.loads(body.decode("utf-8"))
        change(method, answer.get("result"))
        return json.dumps(answer).encode("utf-8")

    return rewritten


class Once:
    """A hook that acts on the n-th call of a method."""

    def __init__(self, method: str, action: Callable[[], object], number: int = 1) -> None:
        self.method, self.action, self.number = method, action, number

    def __call__(self, method: str) -> None:
        if method == self.method:
            self.number -= 1
            if self.number == 0:
                self.action()


def lose() -> None:
    """An action: break the connection."""
    raise Lose
