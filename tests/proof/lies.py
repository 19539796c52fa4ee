"""Hostile answers: an honest one made into another, by a kind and by chance."""

import json
import xmlrpc.client
from random import Random
from typing import Any, Callable, Dict, Iterator, List, Tuple

# What is put in place of a value: other types, and values that xapi never gives.
_OTHERS: Tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**31 - 1,
    1e300,
    "",
    " ",
    "OpaqueRef:NULL",
    "OpaqueRef:ffffffff-ffff-ffff-ffff-ffffffffffff",
    "../../x",
    "\x04",
    "9" * 400,
    [],
    ["x"],
    {},
    {"x": {}},
    [[[[[]]]]],
    b"\x00\xff",
    xmlrpc.client.DateTime("99991231T23:59:59Z"),
    xmlrpc.client.DateTime("x"),
)
# Of a xapi that does not exist yet.
_FIELDS: Dict[str, Any] = {"quantum_state": "entangled", "shards": {"a": ["OpaqueRef:x"], "b": []}, "ratio": 0.5}
_ENUMS = frozenset(("status", "power_state", "type", "frequency", "cls", "domain_type", "on_boot", "operation", "mode"))
_OPERATIONS = ("current_operations", "allowed_operations")
_HUGE = 2 << 20
_MANY = 5000

Path = Tuple[Any, ...]


def _nodes(value: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _nodes(value[key], path + (key,))


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def _put(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    _at(value, path[:-1])[path[-1]] = new
    return value


def _node(value: Any, chance: Random) -> Path:
    """Some node: as often near the top as far from it."""
    paths = sorted(_nodes(value), key=len)
    depth = chance.choice(sorted({len(path) for path in paths}))
    return chance.choice([path for path in paths if len(path) == depth])


def _of_another_type(value: Any, chance: Random) -> Any:
    return _put(value, _node(value, chance), chance.choice(_OTHERS))


def _without(value: Any, chance: Random) -> Any:
    path = _node(value, chance)
    if not path:
        return ""
    del _at(value, path[:-1])[path[-1]]
    return value


def _huge(value: Any, chance: Random) -> Any:
    path = _node(value, chance)
    there = _at(value, path)
    new: Any = "x" * _HUGE
    if isinstance(there, list) and there:
        new = [chance.choice(there) for _ in range(_MANY)]
    elif isinstance(there, dict):
        new = dict(there, **{"huge %d" % number: "x" for number in range(_MANY)})
    return _put(value, path, new)


def _doubled(value: Any, chance: Random) -> Any:
    for path in list(_nodes(value)):
        there = _at(value, path)
        if isinstance(there, list):
            value = _put(value, path, there + there)
    return value


def _reordered(value: Any, chance: Random) -> Any:
    for path in sorted(_nodes(value), key=len, reverse=True):
        there = _at(value, path)
        if isinstance(there, list):
            there.reverse()
        elif isinstance(there, dict):
            items = list(there.items())
            chance.shuffle(items)
            value = _put(value, path, dict(items))
    return value


def _of_the_future(value: Any, chance: Random) -> Any:
    """Every record has new fields, and some enum a value that nobody knows yet."""
    for path in list(_nodes(value)):
        there = _at(value, path)
        if isinstance(there, dict) and len(there) > 3 and "uuid" in there:
            there.update(_FIELDS)
            for name in _OPERATIONS:
                if name in there and chance.random() < 0.5:
                    new: Any = {"OpaqueRef:y": "teleport"} if isinstance(there[name], dict) else ["teleport"]
                    there[name] = dict(there[name], **new) if isinstance(new, dict) else list(there[name]) + new
            enums = sorted(_ENUMS.intersection(there))
            if enums and chance.random() < 0.3:
                there[chance.choice(enums)] = "teleported"
    return value


Change = Callable[[Any, Random], Any]
CHANGES: Dict[str, Change] = {
    "of another type": _of_another_type,
    "lacking": _without,
    "huge": _huge,
    "doubled": _doubled,
    "reordered": _reordered,
    "of the future": _of_the_future,
}
# By what the front does, see answers.py.
WAYS = ("cut", "lost", "stalled", "sent twice", "another's", "late")
KINDS: List[str] = sorted(CHANGES) + list(WAYS)


def told(body: bytes, kind: str, chance: Random) -> bytes:
    """The body of an answer, made into another one. One that says no is left as it is."""
    if body.startswith(b"{"):
        said = json.loads(body.decode("utf-8"))
        if "result" in said:
            said["result"] = CHANGES[kind](said["result"], chance)
        # What JSON has no form for becomes a text.
        return json.dumps(said, default=str).encode("utf-8")
    ((answer,), _) = xmlrpc.client.loads(body)
    if not isinstance(answer, dict) or answer.get("Status") != "Success":
        return body
    answer["Value"] = CHANGES[kind](answer["Value"], chance)
    text = xmlrpc.client.dumps((answer,), methodresponse=True, allow_none=True)
    return text.encode("utf-8", "surrogatepass")
