"""Snapshot schedules declared as data: the document of `vmss apply` read into values, and the mistakes in it."""

import re
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vmss.core import frequencies
from vmss.core.assignment import Selector
from vmss.core.frequencies import Key, all_keys
from vmss.core.ocaml import read_int
from vmss.core.policy import TYPES
from vmss.core.problem import BadInput
from vmss.core.text import is_uuid, quoted
from vmss.core.words import did_you_mean, listed

# The version of the form of the document; a change that an older vmss would misread raises it.
VERSION = 1

TOP = ("version", "schedules")
FIELDS = ("description", "enabled", "type", "frequency", "schedule", "retained_snapshots", "vms")
SELECTORS = ("names", "tags", "uuids")

_LENGTH_MAX = 10000  # upper limit on a text, in characters: a request to xapi has 300 KiB at most

# What XML cannot carry, and so no client can store.
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Twice(NamedTuple):
    """Stands for a map in which a key is there twice, as whoever parses a document has to tell."""

    key: str


class Declared(NamedTuple):
    """A schedule as a document declares it. None: the document does not say, and in the pool it stays as it is.
    `times` are members of vmss.core.frequencies.Schedule, with their values. `vms`: the VMs that are to be on it."""

    name: str
    description: Optional[str] = None
    enabled: Optional[bool] = None
    type: Optional[str] = None
    frequency: Optional[str] = None
    times: Tuple[Tuple[str, Any], ...] = ()
    retained: Optional[int] = None
    vms: Tuple[Selector, ...] = ()


def as_xml_has_it(text: str) -> str:
    """A text with the ends of its lines as XML has them: xapi may have others, that a client never sees."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read(document: Any) -> List[Declared]:
    """Given a document as JSON or YAML has it, return the schedules that it declares, by name. Raise BadInput, with the
    place, the value and the rule, for the first mistake."""
    top = _map(document, "the document", TOP)
    for key in TOP:
        if key not in top:
            raise BadInput("%s is missing" % key)
    version = top["version"]
    if isinstance(version, bool) or version != VERSION:
        raise BadInput("version: %s is not %d, which is the one that this vmss reads" % (_said(version), VERSION))
    schedules = _map(top["schedules"], "schedules")
    return [_schedule(name, schedules[name]) for name in sorted(schedules)]


def check_keys(name: str, frequency: str, members: Sequence[str]) -> None:
    """Raise BadInput for the first of these members of a schedule that its frequency does not have."""
    keys = frequencies.find(frequency).keys
    for key in all_keys():
        if key.member in members and key not in keys:
            has = listed([one.name for one in keys])
            raise BadInput("%s: schedule:%s: a schedule that is %s has only %s" % (at(name), key.name, frequency, has))


def at(name: str) -> str:
    """The place of a schedule in a document."""
    return "schedule %s" % quoted(name)


def document(declared: Sequence[Declared]) -> Dict[str, Any]:
    """The document that declares these schedules."""
    return {"version": VERSION, "schedules": {one.name: dict(_written(one)) for one in declared}}


def exactly(names: Sequence[str]) -> Tuple[Selector, ...]:
    """Selectors of the VMs with these names, in which no character stands for another."""
    return tuple(Selector(name=re.sub(r"([*?\[])", r"[\1]", name)) for name in names)


def _schedule(name: str, value: Any) -> Declared:
    place = at(name)
    if not name:
        raise BadInput("schedules: a name must not be empty")
    if "\r" in _text(name, place):  # in the pool it is another name, which the next run would not find
        raise BadInput("%s: a name must not have a carriage return" % place)
    fields = _map(value, place, FIELDS)
    found: Dict[str, Any] = {}
    for field, member, read_value in _READERS:
        if field in fields:
            found[member] = read_value(fields[field], "%s: %s" % (place, field))
    one = Declared(name, **found)
    if one.frequency is not None:
        check_keys(name, one.frequency, [member for member, _ in one.times])
    return one


def _description(value: Any, place: str) -> str:
    return as_xml_has_it(_text(value, place))


def _enabled(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise BadInput("%s: %s is neither true nor false" % (place, _said(value)))
    return value


def _type(value: Any, place: str) -> str:
    return _choice(value, place, TYPES)


def _frequency(value: Any, place: str) -> str:
    return _choice(value, place, tuple(frequencies.FREQUENCIES))


def _choice(value: Any, place: str, choices: Tuple[str, ...]) -> str:
    if value not in choices:
        raise BadInput("%s: %s is not one of %s" % (place, _said(value), ", ".join(choices)))
    return str(value)


def _retained(value: Any, place: str) -> int:
    return int(_checked(lambda: read_int(value, 1, 10), value, place))


def _times(value: Any, place: str) -> Tuple[Tuple[str, Any], ...]:
    keys = {key.name: key for key in all_keys()}
    values = _map(value, place, tuple(keys))
    return tuple((keys[name].member, _time(keys[name], values[name], "%s:%s" % (place, name))) for name in values)


def _time(key: Key, value: Any, place: str) -> Any:
    if isinstance(value, list):
        value = ",".join(_texts(value, place))
    read_value = _checked(lambda: key.read(value), value, place)
    if isinstance(read_value, frozenset) and len(read_value) < len(value.split(",")):
        raise BadInput("%s: %s has a day twice" % (place, quoted(value)))
    return read_value


def _checked(read_value: Callable[[], Any], value: Any, place: str) -> Any:
    """What the reader of a value returns; its complaint with the place."""
    if not isinstance(value, (str, int)):  # it would be repeated whole
        raise BadInput("%s: %s is neither a number nor a text" % (place, _said(value)))
    try:
        return read_value()
    except ValueError as error:
        raise BadInput("%s: %s" % (place, error))


def _vms(value: Any, place: str) -> Tuple[Selector, ...]:
    given = _map(value, place, SELECTORS)
    texts = {kind: _texts(given[kind], "%s: %s" % (place, kind)) for kind in given}
    uuids = tuple(uuid.lower() for uuid in texts.get("uuids", ()))
    for uuid in uuids:
        if not is_uuid(uuid):
            raise BadInput("%s: uuids: %s is no uuid" % (place, quoted(uuid)))
    found = [Selector(name=name) for name in texts.get("names", ())]
    found += [Selector(tag=tag) for tag in texts.get("tags", ())]
    # With nothing at all, a selector takes every VM.
    return tuple(found + ([Selector(uuids=uuids)] if uuids else []))


def _texts(value: Any, place: str) -> List[str]:
    if not isinstance(value, list):
        raise BadInput("%s: %s is not a list" % (place, _said(value)))
    return [_text(item, place) for item in value]


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise BadInput("%s: %s is not a text; if it is meant as one, put it in quotes" % (place, _said(value)))
    if _NOT_IN_XML.search(value):
        raise BadInput("%s: %s has a character that xapi cannot store" % (place, quoted(value)))
    if len(value) > _LENGTH_MAX:
        raise BadInput("%s: %s is longer than %d characters" % (place, quoted(value), _LENGTH_MAX))
    return value


def _map(value: Any, place: str, keys: Optional[Tuple[str, ...]] = None) -> Mapping[str, Any]:
    """A value that has to be a map, with no other keys than these."""
    if isinstance(value, Twice):
        raise BadInput("%s: %s is there twice" % (place, quoted(value.key)))
    if not isinstance(value, Mapping):
        # What is no document may be a file of secrets, and whoever named it may not be allowed to read it.
        raise BadInput("%s: %s is not a map" % (place, "a text" if isinstance(value, str) else _said(value)))
    for key in value:
        if not isinstance(key, str):
            raise BadInput("%s: the name %s is not a text: put it in quotes" % (place, _said(key)))
        if keys is not None and key not in keys:
            hint = did_you_mean(key, keys) or "; there are %s" % listed(keys)
            raise BadInput("%s: there is no key %s%s" % (place, quoted(key), hint))
    return value


def _said(value: Any) -> str:
    """A value for a message. Of lists and maps nothing is repeated: YAML can nest them without an end."""
    if isinstance(value, Twice):
        value = {}
    kinds = ((list, "a list"), (Mapping, "a map"))
    return next((words for kind, words in kinds if isinstance(value, kind)), quoted(value))


_READERS: Tuple[Tuple[str, str, Callable[[Any, str], Any]], ...] = (
    ("description", "description", _description),
    ("enabled", "enabled", _enabled),
    ("type", "type", _type),
    ("frequency", "frequency", _frequency),
    ("schedule", "times", _times),
    ("retained_snapshots", "retained", _retained),
    ("vms", "vms", _vms),
)


def _written(one: Declared) -> Iterator[Tuple[str, Any]]:
    """The fields of a schedule as the document has them; those of which nothing is said are left out."""
    values = {field: getattr(one, member) for field, member, _ in _READERS}
    times = dict(one.times)
    values["schedule"] = {key.name: key.shown(times[key.member]) for key in all_keys() if key.member in times} or None
    values["vms"] = _selectors(one.vms) or None
    return ((field, values[field]) for field in FIELDS if values[field] is not None)


def _selectors(vms: Sequence[Selector]) -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    for one in vms:
        if one.name is not None:
            found.setdefault("names", []).append(one.name)
        elif one.tag is not None:
            found.setdefault("tags", []).append(one.tag)
        else:
            found.setdefault("uuids", []).extend(one.uuids)
    return found
