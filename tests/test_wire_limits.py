"""A server whose answer has no end, comes byte by byte, or is larger than any of xapi's."""

import gzip
import socket
import threading
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest

from vmss.edges import transport
from vmss.edges.xapi import Unanswered, Xapi

Call = Callable[[Xapi], None]

TIMEOUT_S = 20.0
LIMIT = 1 << 20
ANSWER = (
    b"<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member>"
    b"<member><name>Value</name><value>OpaqueRef:1</value></member></struct></value></param></params>"
    b"</methodResponse>"
)
HEAD = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n"


def login(xapi: Xapi) -> None:
    """A call in XML."""
    xapi.login("root", "")


def read(xapi: Xapi) -> None:
    """A call in JSON."""
    xapi.call("pool.get_all")


BOTH = pytest.mark.parametrize("call", [login, read])


def endless(start: bytes, again: bytes) -> Callable[[], Iterator[bytes]]:
    def parts() -> Iterator[bytes]:
        yield start
        while True:
            yield again

    return parts


class Server:
    """Answers one call, whatever it is, with these parts as long as anybody takes them; `sent` says how many bytes
    were taken before the other side hung up."""

    def __init__(self, path: Path, parts: Callable[[], Iterator[bytes]]) -> None:
        self.sent = 0
        self._parts = parts
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            received = b""
            while b"</methodCall>" not in received and b'"id":' not in received:
                received += connection.recv(65536)
            try:
                for part in self._parts():
                    connection.sendall(part)
                    self.sent += len(part)
            except OSError:
                pass

    def join(self) -> None:
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "nobody hung up"


def drip(text: bytes) -> Iterator[bytes]:
    for number in range(len(text)):
        time.sleep(0.02)
        yield text[number : number + 1]


@BOTH
@pytest.mark.parametrize(
    "quick, slow",
    [
        (b"", HEAD + LENGTH % len(ANSWER) + ANSWER),
        (HEAD, b"X: " + b"y" * 300 + b"\r\n" + LENGTH % len(ANSWER) + ANSWER),
        (HEAD + LENGTH % len(ANSWER), ANSWER),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(ANSWER), ANSWER)),
    ],
    ids=["all", "header", "body", "chunk"],
)
def test_an_answer_that_comes_byte_by_byte_is_not_waited_for_beyond_the_limit_of_the_call(
    tmp_path: Path, call: Call, quick: bytes, slow: bytes
) -> None:
    def parts() -> Iterator[bytes]:
        yield quick
        yield from drip(slow)

    server = Server(tmp_path / "s", parts)
    with pytest.raises(Unanswered, match="timed out"):
        call(Xapi("unix:" + str(tmp_path / "s"), timeout_s=0.5))
    server.join()
    assert server.sent < len(quick + slow)


def test_an_answer_that_comes_byte_by_byte_and_in_time_is_one(tmp_path: Path) -> None:
    Server(tmp_path / "s", lambda: iter([HEAD, LENGTH % len(ANSWER)] + [bytes([byte]) for byte in ANSWER]))
    xapi = Xapi("unix:" + str(tmp_path / "s"))
    xapi.login("root", "")
    assert xapi.session == "OpaqueRef:1"


@BOTH
@pytest.mark.parametrize(
    "parts",
    [
        endless(HEAD + LENGTH % 10**12 + b"<methodResponse>", b" " * 65536),
        endless(HEAD + LENGTH % 10**12 + b"<methodResponse><params><param>", b"<value>" * 5000),
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
        endless(HEAD + b"\r\n", b"x" * 65536),
        endless(HEAD, b"X: y\r\n"),
        endless(HEAD + b"X: ", b"y" * 65536),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        endless(b"", b"x" * 65536),
        endless(b"HTTP/1.1 500 no\r\n" + LENGTH % 10**12, b"x" * 65536),
    ],
    ids=["body", "markup", "chunks", "until the end", "headers", "a header", "continue", "status", "error"],
)
def test_an_answer_without_an_end_is_not_read_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, parts: Callable[[], Iterator[bytes]]
) -> None:
    monkeypatch.setattr(transport, "_ANSWER_BYTES_MAX", LIMIT)
    server = Server(tmp_path / "s", parts)
    with pytest.raises(Unanswered) as caught:
        call(Xapi("unix:" + str(tmp_path / "s")))
    assert "\n" not in str(caught.value) and "timed out" not in str(caught.value)
    server.join()
    assert server.sent < 4 * LIMIT  # what the kernel keeps of it included


@BOTH
def test_a_large_answer_says_why_it_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    monkeypatch.setattr(transport, "_ANSWER_BYTES_MAX", LIMIT)
    Server(tmp_path / "s", endless(HEAD + LENGTH % 10**12, b" " * 65536))
    with pytest.raises(Unanswered, match="larger than 1 MiB"):
        call(Xapi("unix:" + str(tmp_path / "s")))


@BOTH
def test_an_answer_that_may_be_a_thousand_times_as_large_as_it_looks_is_not_decompressed(
    tmp_path: Path, call: Call
) -> None:
    compressed = gzip.compress(ANSWER)
    Server(tmp_path / "s", lambda: iter([HEAD + b"Content-Encoding: gzip\r\n" + LENGTH % len(compressed) + compressed]))
    with pytest.raises(Unanswered, match="compressed"):
        call(Xapi("unix:" + str(tmp_path / "s")))


def test_a_server_that_takes_no_request_is_not_waited_for_beyond_the_limit_of_the_call(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen(1)
    with pytest.raises(Unanswered, match="timed out"):
        Xapi("unix:" + str(tmp_path / "s"), timeout_s=0.5).login("root", "x" * (1 << 22))
    listener.close()
