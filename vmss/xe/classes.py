"""The classes of xe with their fields: xe's names and their order, and of xapi's data model their types and setters.

A field is named after its member, with dashes; a reference may end with -uuid, and with -name-label it is the name of
its object. What the record has not, the records to which it refers may have.
"""

import re
from typing import Dict, NamedTuple, Optional, Tuple

from vmss.xe import names
from vmss.xe.fields import (
    ALWAYS,
    BOOLEAN,
    BYTES,
    COSTLY,
    HIDDEN,
    INTEGER,
    LINES,
    LIST,
    MAP,
    NOT_IN_DATABASE,
    ONE,
    QUOTED,
    REAL,
    SET,
    TABLE,
    TEXT,
    Field,
    Kind,
    choice,
    worded,
)
from vmss.xe.made import MADE
from vmss.xe.model import ENUMS, MEMBERS
from vmss.xe.names import SECOND_RECORDS


class Class(NamedTuple):
    """A class of xe: see `Names`. `where` is the same as `only`, as a query for xapi."""

    name: str
    api: str
    fields: Tuple[Field, ...]
    listed: Tuple[str, ...]
    only: Tuple[Tuple[str, str], ...]
    where: str


class Member(NamedTuple):
    """A member of a record: its type, and whether there are methods that set it, or add to it."""

    type: str
    sets: bool
    adds: bool


def _members(text: str) -> Dict[str, Member]:
    found = {}
    for item in text.split("; "):
        name, _, kind = item.partition(" ")
        found[name] = Member(kind.rstrip("=+"), "=" in kind, kind.endswith("+"))
    return found


_MODEL: Dict[str, Dict[str, Member]] = {cls: _members(text) for cls, text in MEMBERS.items()}
_VALUES: Dict[str, Tuple[str, ...]] = {name: tuple(text.split(", ")) for name, text in ENUMS.items()}


def _in_words(enum: str) -> Kind:
    """Such as "Core dump and restart"."""
    return worded(
        {value: value.replace("coredump", "core_dump").replace("_", " ").capitalize() for value in _VALUES[enum]}, False
    )


def _dotted(enum: str) -> Kind:
    """Such as VDI.create, for vdi_create."""
    return worded(
        {value: re.sub("^(vdi|pbd|vm)_", lambda m: m.group(1).upper() + ".", value) for value in _VALUES[enum]}
    )


# The enumerations that xe shows in words of its own; and the kinds of single fields.
_ENUMS: Dict[str, Kind] = {
    "host_allowed_operations": _dotted("host_allowed_operations"),
    "on_crash_behaviour": _in_words("on_crash_behaviour"),
    "on_normal_exit": _in_words("on_normal_exit"),
    "on_softreboot_behavior": _in_words("on_softreboot_behavior"),
    "storage_operations": _dotted("storage_operations"),
    "tristate_type": worded({"yes": "true", "no": "false"}),
    "vdi_type": worded(
        {
            "cbt_metadata": "CBT metadata",
            "crashdump": "Crashdump",
            "ephemeral": "Ephemeral",
            "ha_statefile": "HA statefile",
            "metadata": "Metadata",
            "pvs_cache": "PVS cache",
            "redo_log": "Redo log",
            "suspend": "Suspend",
            "system": "System",
            "user": "User",
        }
    ),
    "vm_power_state": worded({value: value.lower() for value in _VALUES["vm_power_state"]}),
}
_KINDS: Dict[Tuple[str, str], Kind] = {
    ("VM", "last-boot-record"): QUOTED,
    ("message", "body"): LINES,
    **{("VM", "memory-%s" % name): BYTES for name in ("static-max", "dynamic-max", "dynamic-min", "static-min")},
}
_SIMPLE = {"int": INTEGER, "float": REAL, "bool": BOOLEAN}


def _field(api: str, name: str) -> Field:
    """The field of this name."""
    made, method = MADE.get((api, name)), names.METHODS.get(api, {}).get(name)
    member = ""
    if made is not None:
        member, model = made.sets, Member(made.type, bool(made.sets), False)
    elif method is not None:
        member, model = method[0], Member(method[1], False, False)
    else:
        member = names.MEMBERS.get(api, {}).get(name) or _member_of(api, name)
        model = _member(api, member)
    of = (re.findall(r"ref (\w+)", model.type) or [""])[-1]
    if name == "ha-statefiles":
        of = "VDI"
    holds = _holds(api, name, model.type)
    settable = model.sets if holds in (ONE, LIST) else model.adds or (api, name) in names.ADDS
    return Field(
        name,
        member,
        _KINDS.get((api, name)) or _kind(model),
        holds,
        writable=settable and not _is(api, name, names.READ_ONLY),
        of=of,
        named=bool(of) and name.endswith("-name-label"),
        made=None if made is None else made.by,
        seen=COSTLY if _is(api, name, names.COSTLY) else HIDDEN if _is(api, name, names.HIDDEN) else ALWAYS,
        deprecated=_is(api, name, names.DEPRECATED),
        missing=names.MISSING.get(api, {}).get(name, NOT_IN_DATABASE),
        between=", " if name in names.COMMAS else "; ",
        adds=names.ADDS.get((api, name), member),
    )


def _is(api: str, name: str, table: Dict[str, str]) -> bool:
    return name in table.get(api, "").split()


def _member(api: str, path: str) -> Member:
    head, dot, tail = path.partition(".")
    return _MODEL[SECOND_RECORDS[api, head]][tail] if dot else _MODEL[api][head]


def _member_of(api: str, name: str) -> str:
    """The member that a field is named after, by xe's rules."""
    own = _found(api, name)
    if own is not None:
        return own
    for (cls, head), second in SECOND_RECORDS.items():
        tail = _found(second, name) if cls == api else None
        if tail is not None:
            return "%s.%s" % (head, tail)
    raise LookupError("%s has no member for %s" % (api, name))


def _found(api: str, name: str) -> Optional[str]:
    stem = re.sub("-(uuids?|name-label)$", "", name)
    for wanted in (name, stem, stem + "s"):
        for member in _MODEL[api]:
            if member.lower() == wanted.replace("-", "_").lower():
                return member
    return None


def _holds(api: str, name: str, kind: str) -> int:
    whole = _is(api, name, names.WHOLE)
    if kind.startswith("set("):
        return LIST if whole else SET
    if name == "current-operations":
        return SET  # a map from tasks to operations, of which xe shows the operations
    if kind.startswith("map("):
        return TABLE if whole else MAP
    return ONE


def _kind(model: Member) -> Kind:
    """The kind of a member, or of what a set or map of it has."""
    inner = re.sub(r"^(set|map)\((.*, )?(.*)\)$", r"\3", model.type)
    if inner.startswith("enum "):
        enum = inner[len("enum ") :]
        return _ENUMS.get(enum) or (choice(*_VALUES[enum]) if model.sets else TEXT)
    return _SIMPLE.get(inner, TEXT)


_FIELDS = {api: tuple(_field(api, name) for name in text.split()) for api, text in names.FIELDS.items()}

CLASSES: Tuple[Class, ...] = tuple(
    Class(
        cls.name,
        cls.api,
        _FIELDS[cls.api],
        tuple(cls.listed.split()),
        cls.only,
        " and ".join('field "%s"="%s"' % (name.replace("-", "_"), value) for name, value in cls.only),
    )
    for cls in names.CLASSES
)

BY_NAME: Dict[str, Class] = {cls.name: cls for cls in CLASSES}
