"""The commands of xe for schedules, storage, messages and plugins."""

from typing import Dict

from vmss.core.policy import TYPES
from vmss.xe.classes import BY_NAME
from vmss.xe.command import Command, Function
from vmss.xe.errors import ALLOWED, KEYS, failed
from vmss.xe.fields import INTEGER, Field
from vmss.xe.layout import Output
from vmss.xe.session import Session
from vmss.xe.syntax import Line

# Schedules


def _vmss_create(session: Session, line: Line) -> Output:
    fields: Dict[str, Field] = {field.name: field for field in BY_NAME["vmss"].fields}
    record = {
        "name_label": line.need("name-label"),
        "name_description": line.get("name-description", ""),
        "type": fields["type"].kind.parse("type", line.need("type")),
        "frequency": fields["frequency"].kind.parse("frequency", line.need("frequency")),
        "enabled": line.flag("enabled", default=True),
        "retained_snapshots": INTEGER.parse("retained-snapshots", line.get("retained-snapshots", "7")),
        "schedule": line.map("schedule"),
    }
    return Output(lines=(session.uuid_line("VMSS", session.call("VMSS.create", record)),))


def _on_one(method: str) -> Function:
    """The command that calls a method of the object with the uuid of the line."""

    def do(session: Session, line: Line) -> Output:
        session.call(method, session.ref(method.split(".")[0], line.need("uuid")))
        return Output()

    return do


# Storage


def _pbd_create(session: Session, line: Line) -> Output:
    record = {
        "host": session.ref("host", line.need("host-uuid")),
        "SR": session.ref("SR", line.need("sr-uuid")),
        "device_config": line.map("device-config"),
        "other_config": {},
    }
    return Output(lines=(session.uuid_line("PBD", session.call("PBD.create", record)),))


# Messages and plugins

_OBJECTS = {"vm-uuid": "VM", "host-uuid": "Host", "sr-uuid": "SR", "pool-uuid": "Pool"}


def _message_destroy(session: Session, line: Line) -> Output:
    """One that xapi has stored without links it does not find by its uuid, but lists and destroys
    (docs/xapi-facts.md, message.create)."""
    uuid = line.need("uuid")
    ref = session.find_ref("message", uuid)
    if not ref:
        records = session.call("message.get_all_records")
        ref = next((ref for ref, record in records.items() if record["uuid"] == uuid), "")
    session.call("message.destroy", ref or session.ref("message", uuid))
    return Output()


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
    return Output(lines=(session.user.shown(str(answer), True),))


_VALUES = (
    ("type", ", ".join(TYPES)),
    ("frequency", KEYS),
    ("schedule:min", ALLOWED["schedule:min"]),
    ("schedule:hour", ALLOWED["schedule:hour"]),
    ("schedule:days", ALLOWED["schedule:days"]),
    ("retained-snapshots", ALLOWED["retained_snapshots"]),
)

COMMANDS: Dict[str, Command] = {
    "vmss-create": Command(
        ("name-label", "type", "frequency"),
        ("name-description", "enabled", "schedule:", "retained-snapshots"),
        "Create a VM snapshot schedule.",
        _vmss_create,
        values=_VALUES,
    ),
    "vmss-destroy": Command(("uuid",), (), "Destroy a VM snapshot schedule.", _on_one("VMSS.destroy")),
    "vdi-destroy": Command(("uuid",), (), "Destroys a disk and what is on it.", _on_one("VDI.destroy"), slow=True),
    "vbd-eject": Command(("uuid",), (), "Takes the CD out of a drive.", _on_one("VBD.eject")),
    "pbd-create": Command(
        ("host-uuid", "sr-uuid"), ("device-config:",), "Lets a host attach a storage repository.", _pbd_create
    ),
    "sr-scan": Command(
        ("uuid",), (), "Lets a storage repository look at its disks, and coalesce.", _on_one("SR.scan"), slow=True
    ),
    "pbd-plug": Command(("uuid",), (), "Attaches a storage repository to a host.", _on_one("PBD.plug"), slow=True),
    "message-create": Command(
        ("name", "priority", "body"), tuple(_OBJECTS), "Raises a message about an object.", _message_create
    ),
    "message-destroy": Command(("uuid",), (), "Removes a message.", _message_destroy),
    "host-call-plugin": Command(
        ("host-uuid", "plugin", "fn"),
        ("args:",),
        "Calls a function of a plugin on a host and shows its answer.",
        _call_plugin,
        slow=True,
    ),
}
