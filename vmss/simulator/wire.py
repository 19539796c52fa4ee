"""XML-RPC and JSON-RPC on the wire, as xapi reads and writes them.

Sources: ocaml-rpc src/lib/xmlrpc.ml and jsonrpc.ml, xapi ocaml/xapi/api_server.ml. Ints and strings are sent
without a type tag, a void result is an empty string, and API errors are never XML-RPC faults.
"""

import io
import json
import re
from datetime import datetime
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple
from xml.etree import ElementTree

from .errors import XapiError
from .values import Count, DateText, date_text, float_text, ocaml_int

PROLOGUE = '<?xml version="1.0"?>'

_SPECIAL = re.compile('[&<>"\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]')
# Upper limit on the pieces of text before they are joined.
PIECES_MAX = 4096
# What stands for a byte that is not UTF-8.
_NO_TEXT = re.compile("[\udc80-\udcff]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


class Malformed(Exception):
    """The body is no RPC request; the answer is HTTP 500."""


class Request(NamedTuple):
    """A call as it was received; `version` is xml or a version of JSON-RPC, and `identity` the id of its request."""

    method: str
    params: List[Any]
    version: str
    identity: Any


def escape(text: str) -> str:
    """Escape XML characters and drop the control characters XML cannot carry."""
    if text.isprintable() and not ("&" in text or "<" in text or ">" in text or '"' in text):
        # For long texts, of which a pool has many, this is twice as fast as the expression.
        return text
    return _SPECIAL.sub(lambda match: _ESCAPES.get(match.group(), ""), text)


# --- XML-RPC ---


def decode_xml(body: bytes) -> Request:
    """Read a methodCall."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314, expat guards itself against entities
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Malformed("Xmlm.Error(%s)" % error)
    name = root.find("methodName")
    if root.tag != "methodCall" or name is None or not name.text:
        raise parse_error("open_tag(%s)" % root.tag, "open_tag(methodCall)")
    values = [read_value(element) for element in root.iterfind("params/param/value")]
    return Request(name.text.strip(), values, "xml", None)


def parse_error(got: str, expected: str) -> Malformed:
    """What xapi's parser says of XML that is no XML-RPC (ocaml-rpc: src/lib/xmlrpc.ml)."""
    return Malformed('Xmlrpc.Parse_error("%s", "%s", _)' % (got, expected))


def read_value(element: Any) -> Any:
    """A <value> element as a Python value."""
    if not len(element):
        return element.text or ""
    child = element[0]
    tag = child.tag
    text = child.text or ""
    if tag == "string":
        return text
    if tag == "array":
        return [read_value(item) for item in child.iterfind("data/value")]
    if tag == "struct":
        return dict(_member(member) for member in child)
    if tag == "nil":
        return None
    if tag not in _SCALARS:
        raise parse_error("open_tag(%s)" % tag, _TAGS)
    if not text:
        raise parse_error("empty_" + tag, tag)
    return _SCALARS[tag](text)


def _number(kind: Callable[[str], Any], failure: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise Malformed('Failure("%s")' % failure)

    return read


_SCALARS: Dict[str, Callable[[str], Any]] = {
    "int": _number(ocaml_int, "Int64.of_string"),
    "i4": _number(ocaml_int, "Int64.of_string"),
    "i8": _number(ocaml_int, "Int64.of_string"),
    "boolean": lambda text: text == "1",
    "double": _number(float, "float_of_string"),
    "dateTime.iso8601": DateText,
}
_TAGS = "open_tag(int/i8/i4/boolean/double/string/dateTime.iso8601/array/struct/nil)"


def _member(member: Any) -> Tuple[str, Any]:
    """The name and the value of a member. xapi's parser takes what follows an empty name for a part of it."""
    tags = [child.tag for child in member]
    if member.tag != "member" or tags != ["name", "value"]:
        raise parse_error("open_tag(%s)" % "/".join(tags), "open_tag(name)")
    name, value = member
    if not name.text:
        raise parse_error("open_tag(value)", "close_tag(name)")
    return name.text, read_value(value)


class _Pieces(List[str]):
    """A text under construction. A bulk read has millions of pieces, so they are joined and encoded in between."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded = io.BytesIO()

    def join(self) -> None:
        self.encoded.write("".join(self).encode("utf-8"))
        self.clear()

    def body(self) -> bytes:
        self.join()
        return self.encoded.getvalue()


def encode_value(value: Any, out: _Pieces) -> None:
    """Append a value as a <value> element."""
    kind = type(value)
    if kind is str:
        out.append("<value>%s</value>" % escape(value))
    elif kind is bool:
        out.append("<value><boolean>%d</boolean></value>" % value)
    elif kind is int:
        out.append("<value>%d</value>" % value)
    elif kind is dict:
        out.append("<value><struct>")
        for name, item in value.items():
            # Names of members are not escaped, as in xapi.
            out.append("<member><name>%s</name>" % (name,))
            encode_value(item, out)
            out.append("</member>")
        out.append("</struct></value>")
        if len(out) > PIECES_MAX:
            out.join()
    elif kind is list:
        out.append("<value><array><data>")
        for item in value:
            encode_value(item, out)
        out.append("</data></array></value>")
    elif kind is datetime:
        out.append("<value><dateTime.iso8601>%s</dateTime.iso8601></value>" % date_text(value))
    elif kind is float:
        out.append("<value><double>%s</double></value>" % float_text(value))
    elif kind is Count:
        out.append("<value><i4>%d</i4></value>" % value)
    elif value is None:
        out.append("<value></value>")
    else:
        raise TypeError("cannot encode %r" % (value,))


def value_text(value: Any) -> str:
    """A value as the text of its element, as in task.result."""
    out = _Pieces()
    encode_value(value, out)
    return out.body().decode("utf-8")


_HEAD = PROLOGUE + "<methodResponse><params><param>"
_TAIL = "</param></params></methodResponse>"
_SUCCESS = _HEAD + "<value><struct><member><name>Status</name><value>Success</value></member><member><name>Value</name>"
_FAILURE = (
    _HEAD + "<value><struct><member><name>Status</name><value>Failure</value></member>"
    "<member><name>ErrorDescription</name>"
)
_END = "</member></struct></value>" + _TAIL


def encode_xml_success(value: Any, bare: bool = False) -> bytes:
    """A methodResponse; `bare` leaves the Status struct out (system.listMethods)."""
    out = _Pieces()
    out.append(_HEAD if bare else _SUCCESS)
    encode_value(value, out)
    out.append(_TAIL if bare else _END)
    return out.body()


def encode_xml_failure(error: XapiError) -> bytes:
    out = _Pieces()
    out.append(_FAILURE)
    encode_value([str(detail) for detail in error.details], out)
    out.append(_END)
    return out.body()


def encode_plugin_call(function: str, session: str, args: Dict[str, str]) -> str:
    """The methodCall that a plugin gets as its argument; here names of members are escaped too."""
    out = _Pieces()
    out += [PROLOGUE, "<methodCall><methodName>", escape(function), "</methodName><params><param>"]
    encode_value(session, out)
    out.append("</param><param><value><struct>")
    for name, value in args.items():
        out.append("<member><name>%s</name>" % escape(name))
        encode_value(value, out)
        out.append("</member>")
    out.append("</struct></value></param></params></methodCall>")
    return out.body().decode("utf-8")


# --- JSON-RPC ---


def decode_json(body: bytes) -> Request:
    """Read a JSON-RPC 1.0 or 2.0 request."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        text = body.decode("utf-8", "surrogateescape")
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Malformed("Jsonrpc.Malformed_method_request(%s)" % error)
    if not isinstance(data, dict) or not isinstance(data.get("method"), str):
        raise Malformed("Jsonrpc.Malformed_method_request")
    version, identity = data.get("jsonrpc", "1.0"), data.get("id")
    if version != "2.0" and "jsonrpc" in data:
        raise Malformed("Jsonrpc.Malformed_method_request")
    params = data.get("params")
    if params is None and version == "2.0":
        params = []
    elif isinstance(params, dict) and version == "2.0":
        params = [params]
    if not isinstance(params, list) or type(identity) not in (str, int):
        raise Malformed("Jsonrpc.Malformed_method_request")
    return Request(data["method"], params, version, identity)


def invalid_utf8(value: Any) -> Optional[str]:
    """The first text that is invalid UTF-8; only JSON can contain one here."""
    if isinstance(value, str):
        return value if _NO_TEXT.search(value) else None
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        found = invalid_utf8(item)
        if found is not None:
            return found
    return None


def _to_json(value: Any) -> Any:
    """The text of a datetime, the only type that JSON does not have."""
    if isinstance(value, datetime):
        return date_text(value)
    raise TypeError("cannot encode %r" % (value,))


def encode_json_success(value: Any, request: Request) -> bytes:
    result = "" if value is None else value
    if request.version == "2.0":
        answer = {"jsonrpc": "2.0", "result": result, "id": request.identity}
    else:
        answer = {"result": result, "error": None, "id": request.identity}
    return _json_bytes(answer)


def encode_json_failure(error: XapiError, request: Request) -> bytes:
    details = [str(detail) for detail in error.details]
    if request.version == "2.0":
        failure = {"code": 1, "message": details[0], "data": details[1:]}
        return _json_bytes({"jsonrpc": "2.0", "error": failure, "id": request.identity})
    return _json_bytes({"result": None, "error": details, "id": request.identity})


def encode_json_early_failure(error: XapiError, request: Request) -> bytes:
    """The answer to a request that xapi refuses before it reads the id."""
    if request.version == "2.0":
        return _json_bytes({"jsonrpc": "2.0", "error": error.details, "id": 0})
    return _json_bytes({"result": None, "error": error.details, "id": 0})


_json_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_to_json).encode


def _json_bytes(answer: Any) -> bytes:
    return _json_text(answer).encode("utf-8", "surrogateescape")
