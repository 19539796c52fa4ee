"""The commands of xe that every class has for its fields: list, param-list, param-get, param-set and so on."""

from typing import Any, Dict, List

from vmss.core.records import NULL
from vmss.core.text import quoted
from vmss.edges.xapi import Refused
from vmss.xe.classes import Class
from vmss.xe.command import Command, Function
from vmss.xe.errors import failed
from vmss.xe.fields import HIDDEN, LIST, MAP, ONE, SET, Field, find
from vmss.xe.layout import Output
from vmss.xe.objects import XeObject, object_of, objects
from vmss.xe.session import Session
from vmss.xe.syntax import Line


def _list(cls: Class) -> Function:
    def do(session: Session, line: Line) -> Output:
        found = candidates(session, cls, line)
        shown = found
        for name, value in list(cls.only) + line.others("params"):
            found = filtered(found, name, value)
        if not line.flag("all"):
            shown = found
        wanted = line.get("params")
        names = cls.listed if wanted is None else () if wanted == "all" else tuple(wanted.split(","))
        # A minimal answer has only the first field, so the others are not read.
        return Output(tuple(obj.row(names, first=line.flag("minimal")) for obj in shown))

    return do


def candidates(session: Session, cls: Class, line: Line) -> List[XeObject]:
    """The objects that a list filters: with a uuid only that one, because reading all is slow in a large pool."""
    uuid = line.get("uuid")
    if uuid is None or line.flag("all"):
        return objects(session, cls, line.flag("all"))
    try:
        return [object_of(session, cls, uuid)]
    except Refused as refused:
        if refused.code in ("UUID_INVALID", "HANDLE_INVALID"):
            return []
        raise


def filtered(found: List[XeObject], name: str, value: str) -> List[XeObject]:
    """Those of these objects that match a filter of a list."""
    if not found:
        return []
    if name.startswith("database:"):
        if name[len("database:") :] in ("vdi-uuid", "filename"):
            raise failed("%s is not supported here" % name)
        return found
    field, key = find(found[0].fields, name)
    if field.holds == SET and key not in (None, "contains"):
        raise failed("A set is filtered with %s:contains=VALUE" % field.name)
    return [obj for obj in found if field.name in obj.fields and obj.matches(field, key, value)]


def _param_list(cls: Class) -> Function:
    return lambda session, line: Output((object_of(session, cls, line.need("uuid")).row((), costly=True),))


def _field_of(obj: XeObject, line: Line) -> Field:
    name = line.need("param-name")
    if name not in obj.fields:
        raise failed("Missing parameter: %s has no field %s" % (obj.cls.name, quoted(name)))
    return obj.fields[name]


def _param_get(cls: Class) -> Function:
    def do(session: Session, line: Line) -> Output:
        obj = object_of(session, cls, line.need("uuid"))
        field, key = _field_of(obj, line), line.get("param-key")
        if key is None or field.holds != MAP:
            return Output(lines=(obj.text(field),))
        values = obj.map(field)
        if key not in values:
            raise failed("Key %s not found in map" % quoted(key))
        return Output(lines=(session.user.shown(values[key], False),))

    return do


def _param_set(cls: Class) -> Function:
    def do(session: Session, line: Line) -> Output:
        obj = object_of(session, cls, line.need("uuid"))
        for name, value in line.others("uuid"):
            field, key = find(obj.fields, name)
            if key is None:
                _set(session, obj, field, value)
            elif field.holds == SET:
                raise failed("%s is a set: use %s-param-add and -remove" % (field.name, cls.name))
            elif not field.writable:
                raise failed("Map field %s is read-only" % quoted(field.name))
            else:
                _put(session, obj, field, key, value)
        return Output()

    return do


def _set(session: Session, obj: XeObject, field: Field, value: str) -> None:
    if not field.writable:
        raise failed("Field %s is read-only" % quoted(field.name))
    if field.holds not in (ONE, LIST):
        raise failed("Field %s is a set or a map: use NAME:KEY=VALUE, or param-add" % quoted(field.name))
    new: Any = field.kind.parse(field.name, value)
    if field.holds == LIST:
        new = [session.ref(field.of, uuid) for uuid in value.split(",") if uuid]
    elif field.of:
        new = session.ref(field.of, value) if value else NULL
    session.call("%s.set_%s" % (obj.cls.api, field.member), obj.ref, new)


def _put(session: Session, obj: XeObject, field: Field, key: str, value: str) -> None:
    """Set the value of a key of a map, the way xe does: xapi's own check of a schedule relies on it."""
    # Read again: a new frequency earlier on the same line changes the schedule.
    if key in session.call("%s.get_%s" % (obj.cls.api, field.member), obj.ref):
        session.call("%s.remove_from_%s" % (obj.cls.api, field.member), obj.ref, key)
    session.call("%s.add_to_%s" % (obj.cls.api, field.member), obj.ref, key, value)


def _param_add(cls: Class) -> Function:
    def do(session: Session, line: Line) -> Output:
        obj = object_of(session, cls, line.need("uuid"))
        field = _field_of(obj, line)
        _check_can(field, "add to")
        if field.holds == SET:
            key = line.get("param-key")
            if key is None:
                raise failed("%s is a set: param-key=VALUE is required" % field.name)
            session.call("%s.add_%s" % (cls.api, field.adds), obj.ref, _member(session, field, key))
        else:
            for key, value in line.others("uuid", "param-name", "param-key"):
                session.call("%s.add_to_%s" % (cls.api, field.member), obj.ref, key, value)
        return Output()

    return do


def _param_remove(cls: Class) -> Function:
    def do(session: Session, line: Line) -> Output:
        obj = object_of(session, cls, line.need("uuid"))
        field, key = _field_of(obj, line), line.need("param-key")
        _check_can(field, "remove from")
        if key not in (obj.items(field) if field.holds == SET else obj.map(field)):
            raise failed("Key %s is not in %s %s" % (quoted(key), "set" if field.holds == SET else "map", field.name))
        _remove(session, obj, field, key)
        return Output()

    return do


def _check_can(field: Field, action: str) -> None:
    if field.holds not in (SET, MAP):
        raise failed("Can only %s parameters of type Set or Map, which %s is not" % (action, field.name))
    if not field.writable:
        raise failed("Parameter %s is read-only" % quoted(field.name))


def _remove(session: Session, obj: XeObject, field: Field, key: str) -> None:
    if field.holds == SET:
        session.call("%s.remove_%s" % (obj.cls.api, field.adds), obj.ref, _member(session, field, key))
    else:
        session.call("%s.remove_from_%s" % (obj.cls.api, field.member), obj.ref, key)


def _member(session: Session, field: Field, text: str) -> str:
    """A member of a set, which the user gives as a uuid if it is a reference."""
    return session.ref(field.of, text) if field.of else text


def _param_clear(cls: Class) -> Function:
    def do(session: Session, line: Line) -> Output:
        obj = object_of(session, cls, line.need("uuid"))
        field = _field_of(obj, line)
        if not field.writable:
            raise failed("Can only clear RW parameters, which %s is not" % field.name)
        if field.holds in (ONE, LIST):
            _set(session, obj, field, "")
        else:
            for key in obj.items(field) if field.holds == SET else obj.map(field):
                _remove(session, obj, field, key)
        return Output()

    return do


def on_fields(cls: Class) -> Dict[str, Command]:
    """The commands that every class has."""
    shown = [field for field in cls.fields if field.seen != HIDDEN]
    sets = tuple(field.name + ":contains" for field in shown if field.holds == SET)
    ones = tuple(field.name for field in shown if field.writable and field.holds in (ONE, LIST))
    maps = tuple(field.name + ":" for field in shown if field.writable and field.holds == MAP)
    commands = {
        "list": Command(
            (),
            ("params", "database:") + tuple(field.name for field in shown) + sets,
            "Lists all the %ss, filtering on the optional arguments. To filter on map parameters, use the "
            "syntax 'map-param:key=value'" % cls.name,
            _list(cls),
        ),
        "param-list": Command(("uuid",), (), "Shows all fields of one object.", _param_list(cls)),
        "param-get": Command(
            ("uuid", "param-name"),
            ("param-key",),
            "Shows one field, or with param-key the value of that key of a map.",
            _param_get(cls),
        ),
    }
    if ones or maps:
        commands.update(
            {
                "param-set": Command(
                    ("uuid",),
                    ones + maps,
                    "Sets the parameter specified. If param-value is not given, the parameter is set to a "
                    "null value. To set a (key,value) pair in a map parameter, use the syntax "
                    "'map-param:key=value'.",
                    _param_set(cls),
                ),
                "param-add": Command(
                    ("uuid", "param-name"),
                    ("param-key",),
                    "Adds param-key to a set, or KEY=VALUE to a map.",
                    _param_add(cls),
                ),
                "param-remove": Command(
                    ("uuid", "param-name", "param-key"), (), "Removes a key from a set or a map.", _param_remove(cls)
                ),
                "param-clear": Command(("uuid", "param-name"), (), "Empties a field.", _param_clear(cls)),
            }
        )
    return {"%s-%s" % (cls.name, name): command for name, command in commands.items()}
