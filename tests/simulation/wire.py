"""The way from the client to the embedded xapi without a socket, and the clock of a simulated coordinator."""

import http.client
import json
import re
import xmlrpc.client
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from vmss.edges.clock import Clock
from vmss.edges.xapi import Fields, Refused, Xapi
from vmss.simulator import Simulator
from vmss.simulator.call import TRUSTED, Origin
from vmss.simulator.errors import XapiError
from vmss.simulator.values import EPOCH, Count, date_text
from vmss.simulator.wire import decode_json, decode_xml, encode_json_failure, encode_json_success

Answer = Dict[str, Any]
Serve = Callable[[], Answer]
# Given a method, its parameters and what lets the server have it, return the answer that the client gets.
Carry = Callable[[str, List[Any], Serve], Answer]

# No pass of so small a pool looks at the clock so often, unless it waits for something that never comes.
LOOKS_MAX = 200000


class Died(BaseException):
    """The process that runs the pass is killed here. No code of ours catches this."""


class Stuck(BaseException):
    """A pass goes round and round."""


class Lost(http.client.RemoteDisconnected):
    """The connection breaks before an answer has come."""


class Way(Enum):
    """How calls and answers get to the other side. What is read is the same."""

    VALUES = "as values, without a text"
    JSON = "as the texts of JSON-RPC"
    XML = "as XML-RPC, because the server is an older one: it knows neither JSON-RPC nor get_all_where"


def way_of(seed: int) -> Way:
    """The way of a world: most of them save the time that texts take."""
    return {0: Way.XML, 5: Way.JSON}.get(seed % 10, Way.VALUES)


class DirectTransport(xmlrpc.client.Transport):
    """Hands each call to the simulator in this process.

    Of XML-RPC only the client's own encoding is read; the answer is made of the values that the client would have read
    from it. A session is always opened and closed in this way, through the XenAPI client.
    """

    def __init__(self, sim: Simulator, carry: Carry, here: Callable[[], str], way: Way) -> None:
        """`here` tells the host in whose dom0 the client runs."""
        xmlrpc.client.Transport.__init__(self)
        self._sim = sim
        self._carry = carry
        self._here = here
        self.hands_over = way is Way.VALUES
        self._older = way is Way.XML
        self.post = None if self._older else self._post

    def request(self, host: Any, handler: str, request_body: Any, verbose: bool = False) -> Tuple[Any, ...]:
        answer = self.answer(*_read(request_body))
        return (dict(answer, Value=as_received(answer["Value"])) if "Value" in answer else answer,)

    def _post(self, host: str, handler: str, body: bytes) -> bytes:
        request = decode_json(body)
        answer = self.answer(request.method, request.params)
        if answer["Status"] == "Success":
            return encode_json_success(answer["Value"], request)
        return encode_json_failure(XapiError(*answer["ErrorDescription"]), request)

    def answer(self, method: str, params: List[Any]) -> Answer:
        """Carry a call to the server, and its answer back."""
        if self._older and method.endswith(".get_all_where"):
            return failure("MESSAGE_METHOD_UNKNOWN", method)
        return self._carry(method, params, lambda: serve(self._sim, method, params, Origin(True, self._here())))


_by_text = Xapi._by_json


def by_value(xapi: Xapi, post: Any, method: str, params: Sequence[Any], fields: Optional[Fields]) -> Any:
    """Make a call like Xapi in JSON, in whose place this is; but hand the values over, if the transport does, and all
    fields of records."""
    transport = getattr(post, "__self__", None)
    if not isinstance(transport, DirectTransport) or not transport.hands_over:
        return _by_text(xapi, post, method, params, fields)
    answer = transport.answer(method, [xapi.session, *(as_read(value) for value in params)])
    if answer["Status"] == "Success":
        return as_read(answer["Value"])
    raise Refused(answer["ErrorDescription"])


_PLAIN = frozenset([str, bool, int, float, Count, type(None)])


def as_read(value: Any) -> Any:
    """A copy of a value, as whoever reads its text in JSON has it."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        read = value.copy()
        for name, item in value.items():
            if type(item) not in _PLAIN:
                read[name] = as_read(item)
        return read
    if kind is list:
        return [item if type(item) in _PLAIN else as_read(item) for item in value]
    if kind is datetime:
        return date_text(value)
    return json.loads(json.dumps(value))


_TEXTS = re.compile(
    rb"<\?xml version='1.0'\?>\n<methodCall>\n<methodName>([\w.]+)</methodName>\n<params>\n"
    rb"((?:<param>\n<value><string>[^<&\x00-\x08\x0b-\x1f]*</string></value>\n</param>\n)*)</params>\n</methodCall>\n\Z"
)
_TEXT = re.compile(rb"<string>([^<]*)</string>")


def _read(body: bytes) -> Tuple[str, List[Any]]:
    """The method and the parameters of a call; most have nothing but plain texts, and are read the short way."""
    found = _TEXTS.match(body)
    if found is None:
        request = decode_xml(body)
        return request.method, request.params
    return found.group(1).decode("ascii"), [text.decode("utf-8") for text in _TEXT.findall(found.group(2))]


def serve(sim: Simulator, method: str, params: List[Any], origin: Origin = TRUSTED) -> Answer:
    """Run one call to its end; the clock moves as far as it needs. Return its answer, whose values may be the server's
    own. Raise Lost where a client would see its connection break."""
    ended: List[Tuple[Any, Any]] = []
    with sim.lock:
        sim.begin(method, params, origin, lambda result, error: ended.append((result, error)))
        sim.kernel.run_due()
        while not ended:
            if not sim.kernel.advance():
                raise Stuck("%s waits for something that will never happen" % method)
    result, error = ended[0]
    if isinstance(error, XapiError):
        return failure(*error.details)
    if error is not None:
        raise Lost("the connection was closed")
    return {"Status": "Success", "Value": "" if result is None else result}


def failure(*details: str) -> Answer:
    """The answer to a call that failed."""
    return {"Status": "Failure", "ErrorDescription": [str(detail) for detail in details]}


_SAME = frozenset([str, bool, float])


def as_received(value: Any) -> Any:
    """A value of the server as the client reads it: its own copy, integers as texts, dates as the client's type."""
    return value if type(value) in _SAME else _READ.get(type(value), str)(value)


def _map(value: Dict[str, Any]) -> Dict[str, Any]:
    # Nearly all of what is read are fields that need nothing done.
    return {name: item if type(item) in _SAME else _READ.get(type(item), str)(item) for name, item in value.items()}


def _list(value: List[Any]) -> List[Any]:
    return [item if type(item) in _SAME else _READ.get(type(item), str)(item) for item in value]


_READ: Dict[type, Callable[[Any], Any]] = {
    dict: _map,
    list: _list,
    datetime: lambda value: xmlrpc.client.DateTime(date_text(value)),
    Count: int,
    type(None): lambda value: "",
}


class SimulatedClock(Clock):
    """The coordinator's clock. Steps of it are no time that has passed: the monotonic clock does not see them."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._stepped = 0.0
        self._seconds, self._shown = 0.0, EPOCH
        self.looks = 0

    def now(self) -> datetime:
        self._look()
        seconds = self._sim.kernel.now()
        if seconds != self._seconds:  # it often stands still
            whole = datetime.fromtimestamp(int(seconds), timezone.utc)
            # Never early, as rounding would have it: xapi cuts what it notes down to seconds.
            self._seconds, self._shown = seconds, whole.replace(microsecond=int(seconds % 1 * 1e6))
        return self._shown

    def monotonic(self) -> float:
        self._look()
        return self._sim.kernel.now() - self._stepped

    def sleep(self, seconds: float) -> None:
        self._look()
        with self._sim.lock:
            # No sleep is shorter than this; and time that is counted since 1970 cannot grow by much less.
            self._sim.step_clock(self._sim.kernel.now() + max(1e-3, seconds))

    def step(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self._stepped += seconds
        with self._sim.lock:
            self._sim.step_clock(self._sim.kernel.now() + seconds)

    def _look(self) -> None:
        self.looks += 1
        if self.looks > LOOKS_MAX:
            raise Stuck("the pass has looked at the clock %d times" % self.looks)
