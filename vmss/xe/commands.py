"""The commands of xe: those that every class has for its fields, and those of single classes."""

from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

from vmss.core.records import NULL
from vmss.core.text import quoted
from vmss.edges.xapi import Refused, understood
from vmss.xe.classes import BY_NAME, CLASSES, FREQUENCIES, TYPES, Class
from vmss.xe.errors import UsageError, failed
from vmss.xe.fields import HIDDEN, INTEGER, MAP, ONE, SET, Field, find
from vmss.xe.layout import Output
from vmss.xe.objects import Session, XeObject
from vmss.xe.syntax import Line

Function = Callable[[Session, Line], Output]


class Command(NamedTuple):
    """A command: required and optional parameters, its text in `help`, its function. `slow`: it has a long timeout."""

    needs: Tuple[str, ...]
    may_have: Tuple[str, ...]
    text: str
    do: Function
    slow: bool = False


def run(session: Session, line: Line) -> Output:
    """Carry out a command line. Raise XeError, Refused or Unanswered."""
    command = command_of(line)
    with understood(line.command):
        return command.do(session, line)


def command_of(line: Line) -> Command:
    """The command of a line. Raise UsageError if it is unknown or the line lacks a required parameter."""
    command = COMMANDS.get(line.command)
    if command is None:
        raise UsageError("Unknown command: %s" % quoted(line.command))
    for name in command.needs:
        line.need(name)
    return command


# Commands of every class


def _list(cls: Class) -> Function:
    def do(session: Session, line: Line) -> Output:
        found = _candidates(session, cls, line)
        shown = found
        for name, value in list(cls.only) + line.others("params"):
            found = _filtered(found, name, value)
        if not line.flag("all"):
            shown = found
        wanted = line.get("params")
        names = cls.listed if wanted is None else () if wanted == "all" else tuple(wanted.split(","))
        # A minimal answer has only the first field, so the others are not read.
        return Output(tuple(obj.row(names, first=line.flag("minimal")) for obj in shown))

    return do


def _candidates(session: Session, cls: Class, line: Line) -> List[XeObject]:
    """The objects that a list filters: with a uuid only that one, because reading all is slow in a large pool."""
    uuid = line.get("uuid")
    if uuid is None or line.flag("all"):
        return session.all(cls, line.flag("all"))
    try:
        return [session.one(cls, uuid)]
    except Refused as refused:
        if refused.code in ("UUID_INVALID", "HANDLE_INVALID"):
            return []
        raise


def _filtered(objects: List[XeObject], name: str, value: str) -> List[XeObject]:
    if not objects:
        return []
    if name.startswith("database:"):
        raise failed("database: is not supported here")
    field, key = find(objects[0].fields, name)
    if field.holds == SET and key not in (None, "contains"):
        raise failed("A set is filtered with %s:contains=VALUE" % field.name)
    return [obj for obj in objects if field.name in obj.fields and obj.matches(field, key, value)]


def _param_list(cls: Class) -> Function:
    return lambda session, line: Output((session.one(cls, line.need("uuid")).row((), costly=True),))


def _field_of(obj: XeObject, line: Line) -> Field:
    name = line.need("param-name")
    if name not in obj.fields:
        raise failed("Missing parameter: %s has no field %s" % (obj.cls.name, quoted(name)))
    return obj.fields[name]


def _param_get(cls: Class) -> Function:
    def do(session: Session, line: Line) -> Output:
        obj = session.one(cls, line.need("uuid"))
        field, key = _field_of(obj, line), line.get("param-key")
        if key is None or field.holds != MAP:
            return Output(lines=(obj.text(field),))
        values = obj.map(field)
        if key not in values:
            raise failed("Key %s not found in map" % quoted(key))
        return Output(lines=(session.shown(values[key], False),))

    return do


def _param_set(cls: Class) -> Function:
    def do(session: Session, line: Line) -> Output:
        obj = session.one(cls, line.need("uuid"))
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
    if field.holds != ONE:
        raise failed("Field %s is a set or a map: use NAME:KEY=VALUE, or param-add" % quoted(field.name))
    new: Any = field.kind.parse(field.name, value)
    if field.of:
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
        obj = session.one(cls, line.need("uuid"))
        field = _field_of(obj, line)
        _check_can(field, "add to")
        if field.holds == SET:
            key = line.get("param-key")
            if key is None:
                raise failed("%s is a set: param-key=VALUE is required" % field.name)
            session.call("%s.add_%s" % (cls.api, field.member), obj.ref, key)
        else:
            for key, value in line.others("uuid", "param-name", "param-key"):
                session.call("%s.add_to_%s" % (cls.api, field.member), obj.ref, key, value)
        return Output()

    return do


def _param_remove(cls: Class) -> Function:
    def do(session: Session, line: Line) -> Output:
        obj = session.one(cls, line.need("uuid"))
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
    form = "%s.remove_%s" if field.holds == SET else "%s.remove_from_%s"
    session.call(form % (obj.cls.api, field.member), obj.ref, key)


def _param_clear(cls: Class) -> Function:
    def do(session: Session, line: Line) -> Output:
        obj = session.one(cls, line.need("uuid"))
        field = _field_of(obj, line)
        if not field.writable:
            raise failed("Can only clear RW parameters, which %s is not" % field.name)
        if field.holds == ONE:
            _set(session, obj, field, "")
        else:
            for key in obj.items(field) if field.holds == SET else obj.map(field):
                _remove(session, obj, field, key)
        return Output()

    return do


def _on_fields(cls: Class) -> Dict[str, Command]:
    """The commands that every class has."""
    shown = [field for field in cls.fields if field.seen != HIDDEN]
    sets = tuple(field.name + ":contains" for field in shown if field.holds == SET)
    ones = tuple(field.name for field in shown if field.writable and field.holds == ONE)
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


# Commands of single classes


def _vmss_create(session: Session, line: Line) -> Output:
    record = {
        "name_label": line.need("name-label"),
        "name_description": line.get("name-description", ""),
        "type": TYPES.parse("type", line.need("type")),
        "frequency": FREQUENCIES.parse("frequency", line.need("frequency")),
        "enabled": line.flag("enabled", default=True),
        "retained_snapshots": INTEGER.parse("retained-snapshots", line.get("retained-snapshots", "7")),
        "schedule": line.map("schedule"),
    }
    return _uuid_of(session, "VMSS", session.call("VMSS.create", record))


def _uuid_of(session: Session, cls: str, ref: Any) -> Output:
    return Output(lines=(str(session.call(cls + ".get_uuid", ref)),))


def _destroy(cls: str) -> Function:
    def do(session: Session, line: Line) -> Output:
        session.call(cls + ".destroy", session.ref(cls, line.need("uuid")))
        return Output()

    return do


def _vm_snapshot(session: Session, line: Line) -> Output:
    made = [session.call("VM.snapshot", vm.ref, line.need("new-name-label")) for vm in _chosen(session, line)]
    return Output(lines=tuple(str(session.call("VM.get_uuid", ref)) for ref in made))


def _chosen(session: Session, line: Line) -> Sequence[XeObject]:
    """The VMs that a line selects: by vm=UUID or vm=NAME, or by their fields as in a list. Raise XeError."""
    cls = BY_NAME["vm"]
    found = _candidates(session, cls, line)
    for name, value in list(cls.only) + line.others("new-name-label", "vm"):
        found = _filtered(found, name, value)
    named = line.get("vm")
    if named is not None:
        uuid, label = cls.fields[:2]
        found = [vm for vm in found if vm.matches(uuid, None, named)] or [
            vm for vm in found if vm.matches(label, None, named)
        ]
    if not found:
        raise failed("No VM matches")
    if len(found) > 1 and not line.flag("multiple"):
        raise failed("%d VMs match: to select all of them, add --multiple" % len(found))
    return found


_OBJECTS = {"vm-uuid": "VM", "host-uuid": "Host", "sr-uuid": "SR", "pool-uuid": "Pool"}


def _message_create(session: Session, line: Line) -> Output:
    given = [(cls, line.need(name)) for name, cls in _OBJECTS.items() if line.get(name) is not None]
    if len(given) != 1:
        raise failed("Exactly one of these parameters is required: %s" % ", ".join(_OBJECTS))
    priority = INTEGER.parse("priority", line.need("priority"))
    session.call("message.create", line.need("name"), priority, given[0][0], given[0][1], line.need("body"))
    return Output()


def _call_plugin(session: Session, line: Line) -> Output:
    host = session.ref("host", line.need("host-uuid"))
    answer = session.call("host.call_plugin", host, line.need("plugin"), line.need("fn"), line.map("args"))
    return Output(lines=(session.shown(str(answer), True),))


def _help(session: Session, line: Line) -> Output:
    return describe(line.words)


def describe(names: Sequence[str]) -> Output:
    """The help on these commands, or the overview if there are none. Raise UsageError."""
    if not names:
        return Output(lines=_overview())
    for name in names:
        if name not in COMMANDS:
            raise UsageError("Unknown command: %s" % quoted(name))
    return Output(
        tuple(
            (
                ("command name        ", name),
                ("reqd params     ", ", ".join(COMMANDS[name].needs)),
                ("optional params ", ", ".join(COMMANDS[name].may_have)),
                ("description     ", COMMANDS[name].text),
            )
            for name in names
        )
    )


def _overview() -> Tuple[str, ...]:
    lines = [
        "Usage: vmss xe COMMAND [NAME=VALUE ...] [--minimal]",
        "       with -s SERVER [-p PORT] -u USER -pwf FILE: over TLS to this server instead of VMSS_XAPI",
        "The commands of xe that snapshot schedules need; `vmss xe help COMMAND` describes one:",
    ]
    for cls in CLASSES:
        prefix = cls.name + "-"
        rest = [
            name[len(prefix) :]
            for name, command in COMMANDS.items()
            if name.startswith(prefix) and name != "host-call-plugin"
        ]
        lines.append("  %s%s" % (prefix, ", -".join(rest)))
    return tuple(lines + ["  host-call-plugin", "  help"])


COMMANDS: Dict[str, Command] = {}
for _cls in CLASSES:
    COMMANDS.update(_on_fields(_cls))
COMMANDS.update(
    {
        "vmss-create": Command(
            ("name-label", "type", "frequency"),
            ("name-description", "enabled", "schedule:", "retained-snapshots"),
            "Create a VM snapshot schedule.",
            _vmss_create,
        ),
        "vmss-destroy": Command(("uuid",), (), "Destroy a VM snapshot schedule.", _destroy("VMSS")),
        "vm-snapshot": Command(
            ("new-name-label",),
            ("vm", "uuid", "<any field of a VM>"),
            "Takes a snapshot of a VM by hand.",
            _vm_snapshot,
            slow=True,
        ),
        "message-create": Command(
            ("name", "priority", "body"), tuple(_OBJECTS), "Raises a message about an object.", _message_create
        ),
        "message-destroy": Command(("uuid",), (), "Removes a message.", _destroy("message")),
        "host-call-plugin": Command(
            ("host-uuid", "plugin", "fn"),
            ("args:",),
            "Calls a function of a plugin on a host and shows its answer.",
            _call_plugin,
            slow=True,
        ),
        "help": Command((), (), "Shows the usage of the commands given.", _help),
    }
)
