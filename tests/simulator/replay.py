"""Replays answers recorded from a real xapi against a fresh simulator, and says where they differ.

    python -m tests.simulator.replay [traces|storage] [--all] [NUMBER ...]

prints a table by section and the differences; with numbers, those calls in full.
"""

import gzip
import json
import os
import re
import sys
import xmlrpc.client
from datetime import timedelta
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from vmss.simulator import Simulator
from vmss.simulator.server import Server
from vmss.simulator.wire import encode_xml_success

from .client import UnixConnection

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")

# What a daemon makes up at random, or takes from its clock. Each kind is renamed apart.
_NAMES = re.compile(
    r"(?P<ref>OpaqueRef:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"|(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"|(?P<token>\d{20},\d{20})"
    r"|(?P<track>trackid=[0-9a-f]{32})"
    r"|(?P<time>\d{8}T\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)?)"
)
_EPOCH = "19700101T00:00:00Z"


class Trace(NamedTuple):
    """One recorded call, or one observation of the host (`observation`)."""

    number: int
    section: str
    method: str
    note: str
    request: str
    response: str
    http: str
    observation: str
    milliseconds: int


def read(name: str) -> List[Trace]:
    """The traces of one recording, in order."""
    with gzip.open(os.path.join(GOLDEN, name + ".jsonl.gz"), "rt", encoding="utf-8") as stream:
        return [_trace(json.loads(line)) for line in stream]


def _trace(item: Dict[str, Any]) -> Trace:
    return Trace(
        item["n"], item["section"], item["method"], item["note"], item.get("request", ""), item.get("response", ""),
        item.get("http") or "", item.get("observation", ""), item.get("ms", 0),
    )  # fmt: skip


# --- renaming ---


class Names:
    """Which of our names stands for which recorded one; a name that no answer has shown stands for itself."""

    def __init__(self) -> None:
        self.ours: Dict[str, str] = {}
        self.taken: Dict[str, str] = {}
        self.given: Set[str] = {_EPOCH}
        self._bound: List[Tuple[str, Optional[str]]] = []

    def mark(self) -> int:
        """A point to go back to."""
        return len(self._bound)

    def back_to(self, mark: int) -> None:
        """Forget what was bound since."""
        while len(self._bound) > mark:
            recorded, before = self._bound.pop()
            self.taken.pop(self.ours[recorded], None)
            if before is None:
                del self.ours[recorded]
            else:
                self.ours[recorded] = before

    def _set(self, recorded: str, ours: str) -> None:
        self._bound.append((recorded, self.ours.get(recorded)))
        self.ours[recorded] = ours

    def bind(self, recorded: str, ours: str) -> bool:
        """Note that `ours` stands for `recorded`; return whether that fits what is known."""
        if recorded in self.ours or ours in self.taken:
            return self.ours.get(recorded) == ours
        self._set(recorded, ours)
        self.taken[ours] = recorded
        return True

    def translate(self, text: str) -> str:
        """A recorded request, with our names in it."""
        for match in _NAMES.finditer(text):
            if match.group("time") and match.group() not in self.ours:
                self.given.add(match.group())
        return _NAMES.sub(lambda match: self.ours.get(match.group(), match.group()), text)

    def same_text(self, recorded: str, ours: str) -> bool:
        """Whether two texts are the same but for names, which are bound on the way."""
        if recorded == ours and not _NAMES.search(recorded):
            return True
        if _NAMES.sub(_kind, recorded) != _NAMES.sub(_kind, ours):
            return False
        pairs = zip(_NAMES.finditer(recorded), _NAMES.finditer(ours))
        return all(self._same_name(one.lastgroup or "", one.group(), other.group()) for one, other in pairs)

    def _same_name(self, kind: str, recorded: str, ours: str) -> bool:
        if kind == "time":
            if recorded in self.given or ours in self.given:
                return recorded == ours
            self._set(recorded, ours)
            return True
        if kind == "token":
            self._set(recorded, ours)
            return True
        return self.bind(recorded, ours)


def _kind(match: Any) -> str:
    # Times differ in their zones: these are compared.
    zone = match.group()[17:] if match.lastgroup == "time" else ""
    return "<%s%s>" % (match.lastgroup, zone)


# --- comparing ---

# Fields whose values are the host's own, or drawn at random: only their presence is compared.
FREE_FIELDS = {
    "generation_id", "software_version", "telemetry_uuid", "telemetry_next_collection", "id", "agent_start_time",
    "boot_time", "snapshot_metadata", "domid", "memory_free", "memory_total",
    # dom0's, of a class that is not modelled.
    "consoles",
    # A map of the blocks that are in use, which the simulator only counts.
    "vhd-blocks",
}  # fmt: skip
# Objects of these classes come and go with the daemon itself.
FREE_COUNTS = {
    "user", "secret", "network", "console", "session", "task", "pif", "pif_metrics", "role", "sm", "vbd_metrics",
}  # fmt: skip


class Comparison:
    """Compares a recorded value with ours; `differences` collects where they part."""

    def __init__(self, names: Names, free: Set[str]) -> None:
        self.names = names
        self.free = free
        self.differences: List[str] = []

    def values(self, path: str, recorded: Any, ours: Any) -> None:
        if path.rsplit(".", 1)[-1] in self.free:
            if type(recorded) is not type(ours):
                self._differ(path, recorded, ours)
        elif isinstance(recorded, xmlrpc.client.DateTime) and isinstance(ours, xmlrpc.client.DateTime):
            self.texts(path, str(recorded), str(ours))
        elif type(recorded) is not type(ours):
            self._differ(path, recorded, ours)
        elif isinstance(recorded, dict):
            self._structs(path, recorded, ours)
        elif isinstance(recorded, list):
            self._arrays(path, recorded, ours)
        elif isinstance(recorded, str):
            self.texts(path, recorded, ours)
        elif recorded != ours:
            self._differ(path, recorded, ours)

    def texts(self, path: str, recorded: str, ours: str) -> None:
        if not self.names.same_text(recorded, ours):
            self._differ(path, recorded, ours)

    def _differ(self, path: str, recorded: Any, ours: Any) -> None:
        self.differences.append("%s: recorded %s, ours %s" % (path, _short(recorded), _short(ours)))

    def _structs(self, path: str, recorded: Dict[str, Any], ours: Dict[str, Any]) -> None:
        if path.endswith("valid_ref_counts"):
            recorded = {name: count for name, count in recorded.items() if name not in FREE_COUNTS}
            ours = {name: count for name, count in ours.items() if name not in FREE_COUNTS}
        left = [key for key in recorded if self._our_key(key) not in ours]
        for key in recorded:
            if key not in left:
                self.values("%s.%s" % (path, key), recorded[key], ours[self._our_key(key)])
        known = {self._our_key(key) for key in recorded}
        unknown = [key for key in ours if key not in known]
        for key in left:
            # It may have been named by what came before.
            if self._our_key(key) in ours:
                self.values("%s.%s" % (path, key), recorded[key], ours[self._our_key(key)])
            elif not self._pair("%s.%s" % (path, key), key, recorded[key], unknown, ours):
                self.differences.append("%s: %s is missing" % (path, _short({key: recorded[key]})))
        for key in unknown:
            self.differences.append("%s: %s is ours alone" % (path, _short({key: ours[key]})))

    def _our_key(self, key: str) -> str:
        return _NAMES.sub(lambda match: self.names.ours.get(match.group(), match.group()), key)

    def _pair(self, path: str, key: str, value: Any, unknown: List[str], ours: Dict[str, Any]) -> bool:
        """Find which of our keys stands for a name not seen before: the one whose value fits."""
        candidates = [other for other in unknown if _NAMES.sub(_kind, key) == _NAMES.sub(_kind, other)]
        for other in candidates:
            mark = self.names.mark()
            attempt = Comparison(self.names, self.free)
            attempt.texts(path, key, other)
            attempt.values(path, value, ours[other])
            if not attempt.differences:
                unknown.remove(other)
                return True
            self.names.back_to(mark)
        if len(candidates) == 1:
            self.texts(path, key, candidates[0])
            self.values(path, value, ours[candidates[0]])
            unknown.remove(candidates[0])
            return True
        return False

    def _arrays(self, path: str, recorded: List[Any], ours: List[Any]) -> None:
        """In order, or else in any order: xapi promises none."""
        if len(recorded) != len(ours):
            self._differ(path, recorded, ours)
            return
        if all(isinstance(item, str) and not _NAMES.search(item) for item in recorded):
            if sorted(recorded) != sorted(map(str, ours)) or (recorded != ours and path.endswith("ErrorDescription")):
                self._differ(path, recorded, ours)
            return
        mark = self.names.mark()
        attempt = Comparison(self.names, self.free)
        for number, (one, other) in enumerate(zip(recorded, ours)):
            attempt.values("%s[%d]" % (path, number), one, other)
            if attempt.differences and not path.endswith("ErrorDescription"):
                break
        if not attempt.differences or path.endswith("ErrorDescription"):
            self.differences += attempt.differences
            return
        self.names.back_to(mark)
        rest = list(ours)
        if self._is_same_crowd(recorded, ours):
            return
        for number, one in enumerate(recorded):
            if not self._take("%s[%d]" % (path, number), one, rest):
                # Neither order fits; what was bound on the way is worth nothing.
                self.names.back_to(mark)
                self.differences += [*attempt.differences, "%s: nothing of ours is like %s" % (path, _short(one))]
                return

    def _is_same_crowd(self, recorded: List[Any], ours: List[Any]) -> bool:
        """Whether two sets of references are the same as far as they are known; who the others are does not show."""
        if not all(isinstance(item, str) and item.startswith("OpaqueRef:") for item in recorded):
            return False
        known = {self.names.ours[item] for item in recorded if item in self.names.ours}
        strangers = [item for item in ours if item not in known]
        return known <= set(ours) and not any(item in self.names.taken for item in strangers)

    def _take(self, path: str, value: Any, rest: List[Any]) -> bool:
        for position, other in enumerate(rest):
            mark = self.names.mark()
            attempt = Comparison(self.names, self.free)
            attempt.values(path, value, other)
            if not attempt.differences:
                del rest[position]
                return True
            self.names.back_to(mark)
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 300 else text[:300] + "…"


# --- answers ---


def parse(text: str) -> Any:
    """The answer as a value; an HTML page is a text that begins with its status."""
    if text.lstrip().startswith(("{", "[")):
        # Bytes that are no UTF-8 were written down as \\xHH.
        return json.loads(re.sub(r"\\x[0-9a-f]{2}", "?", text))
    if text.startswith("<html"):
        return "page"
    try:
        return xmlrpc.client.loads(text)[0][0]
    except Exception:  # noqa: BLE001, whatever the parser makes of it: the text is compared as it is
        return text


class Outcome(NamedTuple):
    """What came of one call: its verdict, and what differed."""

    trace: Trace
    verdict: str
    details: List[str]


UNEXPLAINED = "an observation of the host, not an answer of xapi"
SAME, DIFFERENT, MISSING, APART = "same", "different", "not implemented", "not comparable"


class Replay:
    """One recording played against one simulator. Subclasses know what happened beside the calls."""

    name = ""
    # Fields that are free in one call, and why the recording differs there.
    free: Dict[int, Set[str]] = {}

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.names = Names()
        self.sim = self.simulator()
        self.server = Server(self.sim, socket=os.path.join(folder, "xapi.sock"), http=("127.0.0.1", 0))
        self.traces = {trace.number: trace for trace in read(self.name)}
        self.outcomes: List[Outcome] = []

    def simulator(self) -> Simulator:
        raise NotImplementedError

    def run(self) -> List[Outcome]:
        """Play every trace in order."""
        with self.server:
            for trace in self.traces.values():
                self.before(trace)
                direction = getattr(self, "before_%d" % trace.number, None)
                if direction is not None:
                    direction()
                self.outcomes.append(self.play(trace))
        return self.outcomes

    def before(self, trace: Trace) -> None:
        """What happened before a call, where it is the same for many; `before_N` is for one."""

    def play(self, trace: Trace) -> Outcome:
        if trace.observation:
            return self.observe(trace)
        self.log_in_as_recorded(trace)
        self.find_as_recorded(trace)
        self.wait_as_recorded(trace)
        status, answer = self.send(trace)
        if trace.http and status != trace.http.split(" ", 1)[0]:
            return Outcome(trace, DIFFERENT, ["HTTP status %s, ours %s" % (trace.http.split("\r\n")[0], status)])
        recorded, ours = parse(trace.response), parse(answer)
        comparison = Comparison(self.names, FREE_FIELDS | self.free_fields(trace))
        if _code(recorded) == "INTERNAL_ERROR" == _code(ours):
            return Outcome(trace, SAME, [])
        comparison.values("", recorded, ours)
        if _code(ours) == "NOT_IMPLEMENTED":
            return Outcome(trace, MISSING, [])
        return Outcome(trace, DIFFERENT if comparison.differences else SAME, comparison.differences)

    def observe(self, trace: Trace) -> Outcome:
        """Compare an observation of the host, where there is a check of it."""
        check: Optional[Callable[[str], List[str]]] = getattr(self, "check_%d" % trace.number, None)
        if check is None:
            return Outcome(trace, APART, [self.reason_apart(trace)])
        differences = check(trace.observation)
        return Outcome(trace, DIFFERENT if differences else SAME, differences)

    def reason_apart(self, trace: Trace) -> str:
        """Why an observation of the host cannot be compared."""
        return UNEXPLAINED

    def log_in_as_recorded(self, trace: Trace) -> None:
        """A session that no recorded call has opened was opened by one that was not written down."""
        match = _NAMES.search(trace.request)
        known = match is None or match.group() in self.names.ours or "SESSION_INVALID" in trace.response
        if not known and "login" not in trace.method and match is not None:
            self.names.bind(match.group(), self.sim.call("session.login_with_password", "__dom0__vmss", ""))

    def find_as_recorded(self, trace: Trace) -> None:
        """An object that no recorded call has shown was found by one that was not written down: whichever of ours has
        the record that the answer shows."""
        cls, _, method = trace.method.partition(".")
        if method != "get_record" or cls not in self.sim.db.tables:
            return
        params, recorded = _params(trace.request), parse(trace.response)
        ref = params[-1]
        if ref in self.names.ours or recorded["Status"] != "Success":
            return
        for candidate in self.sim.db.tables[cls].rows:
            mark = self.names.mark()
            comparison = Comparison(self.names, FREE_FIELDS | self.free_fields(trace))
            if self.names.bind(ref, candidate):
                comparison.values("", recorded["Value"], self.record(cls, candidate))
                if not comparison.differences:
                    return
            self.names.back_to(mark)

    def record(self, cls: str, ref: str) -> Any:
        """One of our records as a client sees it."""
        body = encode_xml_success(self.sim.db.record(cls, ref)).decode("utf-8")
        return parse(body)["Value"]

    def free_fields(self, trace: Trace) -> Set[str]:
        """Fields of an answer that are free in this recording."""
        return self.free.get(trace.number, set())

    def wait_as_recorded(self, trace: Trace) -> None:
        """Where a recorded answer shows that an operation had ended, the client had waited for it."""
        if trace.method.startswith("task."):
            recorded = parse(trace.response)
            value = recorded.get("Value") if isinstance(recorded, dict) else None
            ended = value.get("status") not in (None, "pending") if isinstance(value, dict) else False
            if ended:
                self.finish(self.names.translate(_params(trace.request)[1]))

    def finish(self, task: str) -> None:
        """Let time pass until a task has ended."""
        rows = self.sim.db.tables["task"].rows
        for _ in range(100000):
            with self.sim.lock:
                if task not in rows or rows[task]["status"] != "pending":
                    return
                if not self.sim.kernel.advance():
                    # A plugin is at work: its end is told to all who wait for the lock.
                    self.sim.lock.wait(10)

    def let_pass(self, seconds: float) -> None:
        self.sim.set_time(self.sim.now() + timedelta(seconds=seconds))

    def send(self, trace: Trace) -> Tuple[str, str]:
        """Send one request over a connection of its own; return the status and the body."""
        body = self.names.translate(trace.request).encode("utf-8", "surrogateescape")
        path = "/jsonrpc" if trace.method.startswith("jsonrpc_") else self.paths.get(trace.number, "/")
        if trace.method.startswith("tcp_"):
            import http.client

            connection: Any = http.client.HTTPConnection(*(self.server.http_address or ("", 0)))
        else:
            connection = UnixConnection(self.server.socket_path)
        connection.request("POST", path, self.raw(trace, body), {"Content-Type": "text/xml"})
        response = connection.getresponse()
        text = response.read().decode("utf-8", "backslashreplace")
        connection.close()
        return str(response.status), text

    paths: Dict[int, str] = {}

    def raw(self, trace: Trace, body: bytes) -> bytes:
        """The bytes that were sent: those that are no UTF-8 were written down as \\xHH."""
        if "invalid UTF-8" not in trace.note:
            return body
        return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match.group(1), 16)]), body)

    def value(self, number: int) -> Any:
        """What a recorded call returned, in our names."""
        recorded = parse(self.traces[number].response)["Value"]
        return self.names.translate(recorded) if isinstance(recorded, str) else recorded

    def call(self, method: str, *params: Any) -> Any:
        """A call that the recording client made without writing it down, or one of the simulator's own."""
        if method.startswith("simulator."):
            return self.sim.call(method, "", *params)
        session = self.sim.call("session.login_with_password", "root", "")
        try:
            return self.sim.call(method, session, *params)
        finally:
            self.sim.call("session.logout", session)


def _params(request: str) -> Any:
    return xmlrpc.client.loads(request)[0]


def _code(answer: Any) -> str:
    if isinstance(answer, dict) and answer.get("Status") == "Failure":
        return str(answer["ErrorDescription"][0])
    return ""


# --- the report ---


def table(outcomes: List[Outcome]) -> Iterator[str]:
    """The counts by section."""
    verdicts = (SAME, DIFFERENT, MISSING, APART)
    sections = list(dict.fromkeys(outcome.trace.section for outcome in outcomes))
    yield "%-60s %6s %9s %15s %14s" % ("section", *verdicts)
    for section in [*sections, ""]:
        of_section = [outcome for outcome in outcomes if section in ("", outcome.trace.section)]
        counts = [sum(1 for outcome in of_section if outcome.verdict == verdict) for verdict in verdicts]
        yield "%-60.60s %6s %9s %15s %14s" % (section or "all", *counts)


def described(name: str, outcome: Outcome) -> Iterator[str]:
    """One outcome in full."""
    trace = outcome.trace
    yield "%s %d %s (%s): %s" % (name, trace.number, trace.method, trace.note, outcome.verdict)
    yield from ("    " + line for line in outcome.details)


def main(arguments: List[str]) -> int:
    from .recordings import RECORDINGS, play

    numbers = {int(word) for word in arguments if word.isdigit()}
    for name in [word for word in arguments if word in RECORDINGS] or list(RECORDINGS):
        outcomes = play(name)
        for outcome in outcomes:
            wanted = outcome.verdict in (DIFFERENT, MISSING) or ("--all" in arguments and outcome.verdict == APART)
            if outcome.trace.number in numbers or (wanted and not numbers):
                print("\n".join(described(name, outcome)))
        print("\n".join(table(outcomes)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
