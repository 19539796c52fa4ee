"""A session with xapi: opened through the XenAPI client, and used over JSON-RPC.

The XenAPI client speaks XML-RPC, in which an answer is five times as long, and takes Python twenty times as long to
read. xapi takes the sessions of one for the other (docs/xapi-facts.md, JSON-RPC). A server that has no
JSON-RPC gets all calls through the client.
"""

import http.client
import json
import re
import ssl
import xmlrpc.client
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple
from xml.parsers.expat import ExpatError

import XenAPI

from vmss.core.text import is_reference, one_line, quoted
from vmss.edges.transport import CALL_TIMEOUT_S, reason_of, transport_to

# The name that makes xapi mark the snapshots of a local session as scheduled (ocaml/xapi/xapi_vmss.ml).
USER = "__dom0__vmss"
ORIGINATOR = "vmss"


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
    """No answer came that can be trusted. The call may have been carried out, or not.

    `final`: a retry would be in vain. `__cause__` is what went wrong with the connection, if it was that.
    """

    def __init__(self, reason: str, final: bool = False) -> None:
        Exception.__init__(self, reason)
        self.final = final


class Misunderstood(Unanswered):
    """An answer came, and part of it does not have the form of xapi's answers."""


# How HTTP says that there is nothing at the path of JSON-RPC: the call was not carried out.
_NOT_THERE = (403, 404, 405, 501)
_JSON_PATH = "/jsonrpc"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
Post = Callable[[str, str, bytes], bytes]

# The errors of code that reads an answer which does not have the form of xapi's.
MISREAD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, StopIteration)


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Raise Misunderstood if an answer that is read inside does not have the form of xapi's answers."""
    try:
        yield
    except MISREAD as error:
        raise Misunderstood("%s: not an answer of xapi: %s" % (what, one_line(repr(error), 200)))


class Fields(NamedTuple):
    """The fields that are wanted of records. The value of `told_by` is a list or a map: it tells a record from a map of
    xapi's, in which every value is a text."""

    told_by: str
    others: Tuple[str, ...]


# What is kept of records of which only the references are wanted: every class has it.
_LEAST = Fields("other_config", ())


def _read(text: str, fields: Optional[Fields]) -> Any:
    """The value of a text in JSON. Half of a surrogate pair, which only JSON's own form can bring, is no text: nothing
    could be written that has it."""
    value = json.loads(text, object_hook=(lambda value: _cut(value, fields)) if fields else None)
    if _SURROGATE.search(text) is None:
        return value
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8"))


def _cut(value: Any, fields: Fields) -> Any:
    """A record with these fields only."""
    if isinstance(value, dict) and isinstance(value.get(fields.told_by), (list, dict)):
        return {name: value[name] for name in (fields.told_by, *fields.others) if name in value}
    return value


class Xapi:
    """One session. Every call is sent once. It raises Refused or Unanswered; any other error is a defect."""

    def __init__(
        self,
        address: str,
        verify_tls: bool = True,
        ca_file: str = "",
        timeout_s: float = CALL_TIMEOUT_S,
        transport: Any = None,
    ) -> None:
        """`address` is unix:PATH or https://HOST[:PORT]; raise AddressError for anything else. `transport` replaces the
        connection to it."""
        self.address = address
        self.unix = address.startswith("unix:")
        self.session = ""
        transport = transport or transport_to(address, verify_tls, ca_file, timeout_s)
        uri = "http://localhost/" if self.unix else address
        self._client = XenAPI.Session(uri, transport=transport)
        self._host = "localhost" if self.unix else address[len("https://") :].rstrip("/")
        self._post: Optional[Post] = getattr(transport, "post", None)
        self._number = 0  # of the last call
        self._tells_refs = True  # as far as is known
        self._close = transport.close

    def login(self, user: str, password: str, originator: str = ORIGINATOR) -> None:
        """Open the session. Raise Refused or Unanswered."""
        self._guarded(
            "session.login_with_password", lambda: self._client.login_with_password(user, password, "1.0", originator)
        )
        if not is_reference(self._client.handle):
            raise Misunderstood("session.login_with_password: not an answer of xapi: %s" % quoted(self._client.handle))
        self.session = self._client.handle
        # XenAPI would log in again, silently, if the session were refused. The calls of the new session would go on as
        # if the operations of the old one still existed
        # (docs/xapi-facts.md, The XenAPI client logs in again by itself).
        self._client.last_login_method = None

    def adopt(self, session: str) -> None:
        """Use a session that its owner opened, and will close."""
        self.session = session
        self._client._session = session

    def call(self, method: str, *params: Any) -> Any:
        """Call a method of the session and return its result."""
        return self._call(method, params)

    def records(self, cls: str, condition: str, fields: Optional[Fields] = None) -> Dict[str, Any]:
        """The records of a class that meet a condition, by reference, with these fields, or with all if none is named.
        Others, which are most of a large answer, are dropped while it is read."""
        found: Dict[str, Any] = self._call(cls + ".get_all_records_where", (condition,), fields)
        # Over XML-RPC they have all come.
        return {ref: _cut(one, fields) for ref, one in found.items()} if fields and self._post is None else found

    def refs(self, cls: str, condition: str) -> List[str]:
        """The references of the objects of a class that meet a condition. An older xapi tells them with their records
        only (docs/xapi-facts.md, Queries)."""
        if self._tells_refs:
            try:
                return list(map(str, self.call(cls + ".get_all_where", condition)))
            except Refused as refused:
                if refused.code != "MESSAGE_METHOD_UNKNOWN":
                    raise
                self._tells_refs = False
        return sorted(map(str, self.records(cls, condition, _LEAST)))

    def _call(self, method: str, params: Sequence[Any], fields: Optional[Fields] = None) -> Any:
        if self._post is not None:
            try:
                return self._guarded(method, lambda: self._by_json(self._post, method, params, fields))
            except Unanswered as error:
                if getattr(error.__cause__, "errcode", 0) not in _NOT_THERE:
                    raise
                self._post = None
        return self._guarded(method, lambda: self._client.xenapi_request(method, params))

    def _by_json(self, post: Post, method: str, params: Sequence[Any], fields: Optional[Fields]) -> Any:
        self._number += 1
        asked = {"jsonrpc": "2.0", "method": method, "params": [self.session, *params], "id": self._number}
        # No text of xapi's can have what UTF-8 cannot, and whoever types it is told before.
        text = json.dumps(asked, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        answer = _read(post(self._host, _JSON_PATH, text).decode("utf-8"), fields)
        error = answer.get("error")
        if isinstance(error, list):  # what is refused before the call is looked at has the older form, and no number
            raise Refused(error)
        if answer["id"] != self._number:
            raise ValueError("it is the answer to another call")
        if error is None:
            return answer["result"]
        raise Refused([error["message"], *error["data"]])

    def logout(self, session: Optional[str] = None) -> None:
        """Close the session, or that of an earlier pass."""
        # XenAPI's own logout works only for a session that it opened.
        ended = self.session if session is None else session
        answer = self._guarded("session.logout", lambda: self._client.session.logout(ended))
        if isinstance(answer, dict) and answer.get("Status") == "Failure":
            raise Refused(answer.get("ErrorDescription") or [""])
        if session is None:
            self.session = ""

    def close(self) -> None:
        """Close the connection. The session stays open if it was not closed."""
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
            raise Unanswered("%s: HTTP status %d" % (method, error.errcode)) from error
        except (OSError, http.client.HTTPException) as error:
            self._close()
            final = isinstance(error, (PermissionError, ssl.SSLError))
            hint = " (no such socket: xapi is not running, or this is not its dom0)"
            missing = isinstance(error, FileNotFoundError)
            raise Unanswered("%s: %s%s" % (method, reason_of(error), hint if missing else ""), final) from error
        except (ExpatError, xmlrpc.client.Error) + MISREAD as error:
            self._close()
            raise Unanswered("%s: not an answer of xapi: %s" % (method, one_line(str(error), 200))) from error
