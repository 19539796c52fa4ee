"""The data model: classes, fields and methods, read once from its files and looked up by name."""

import json
import os
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional

from .values import Converter, Types

# Field groups that the wire flattens with "_" but the database joins with "__"
# (xapi: ocaml/idl/escaping.ml, the namespaces of ocaml/idl/datamodel*.ml).
_NAMESPACES: Dict[str, List[str]] = {
    "VM": ["memory", "VCPUs", "actions", "PV", "HVM"],
    "host": ["memory", "API_version"],
    "host_metrics": ["memory"],
    "VM_metrics": ["memory", "VCPUs"],
    "VBD": ["qos"],
}


class Field(NamedTuple):
    """One field of a class."""

    name: str
    column: str
    type: str
    default: Any
    internal: bool
    persistent: bool
    derived: bool
    relation: Optional[str]
    convert: Converter


class Parameter(NamedTuple):
    """One parameter of a method."""

    name: str
    type: str
    optional: bool
    default: Any
    convert: Converter


class Method(NamedTuple):
    """One method of a class, as the data model declares it. `required`: the number of parameters without a default."""

    cls: str
    name: str
    wire_name: str
    kind: str
    parameters: List[Parameter]
    required: int
    result: Optional[str]
    roles: FrozenSet[str]
    role_names: List[str]
    key_roles: Dict[str, FrozenSet[str]]
    constructor: List[Parameter]
    has_session: bool
    is_async: bool
    removed: bool
    internal: bool


def required(parameters: List[Parameter]) -> int:
    """The number of parameters that a client has to send."""
    return sum(1 for parameter in parameters if not parameter.optional)


class Class(NamedTuple):
    """One class: its fields in wire order and its methods. `defaults`: a new row, to be copied."""

    name: str
    fields: Dict[str, Field]
    wire_fields: List[Field]
    columns: Dict[str, Field]
    defaults: Dict[str, Any]
    methods: Dict[str, Method]
    in_database: bool
    events: bool
    persistent: bool


# Classes that were removed as a whole: all their calls answer MESSAGE_REMOVED.
REMOVED_CLASSES = ("VBD_metrics",)


class Model:
    """Every class of the data model; `others` are the methods of the classes of a real xapi that are not modelled."""

    def __init__(self, data: Dict[str, Any], others: Dict[str, str]) -> None:
        self.types = Types(data["enums"])
        self.roles: Dict[str, List[str]] = data["role_sets"]
        self.classes: Dict[str, Class] = {item["name"]: self._class(item) for item in data["classes"].values()}
        # The nominal priorities of the messages that xapi knows.
        self.priorities: Dict[str, int] = data["message_types"]
        self.others: Dict[str, List[str]] = {cls: names.split() for cls, names in others.items()}
        # Clients name the classes of their events in any case.
        self.names: Dict[str, str] = {name.lower(): name for name in (*self.classes, *self.others)}

    def _class(self, item: Dict[str, Any]) -> Class:
        fields = {field["name"]: self._field(item["name"], field) for field in item["fields"]}
        return Class(
            name=item["name"],
            fields=fields,
            wire_fields=[field for field in fields.values() if not field.internal],
            columns={field.column: field for field in fields.values()},
            defaults=_defaults([field for field in fields.values() if not field.derived]),
            methods={method["name"]: self._method(item["name"], method) for method in item["methods"]},
            in_database=item["in_database"],
            events=item["gen_events"],
            persistent=item["persist"] != "PersistNothing",
        )

    def _field(self, cls: str, item: Dict[str, Any]) -> Field:
        convert = self.types.converter(item["type"])
        return Field(
            name=item["name"],
            column=_column(cls, item["name"]),
            type=item["type"],
            default=self._default(item["type"], item["default"]),
            internal=item["internal_only"],
            persistent=item["persistent"],
            derived=item.get("derived", False),
            relation=item.get("relation"),
            convert=convert,
        )

    def _parameter(self, item: Dict[str, Any]) -> Parameter:
        optional = item.get("optional", "required" in item and not item["required"])
        convert = self.types.converter(item["type"])
        default = self._default(item["type"], item.get("default"))
        return Parameter(item["name"], item["type"], optional, default, convert)

    def _default(self, type_name: str, value: Any) -> Any:
        """The default as it is stored; the model writes an empty list for an enum that has none."""
        if value is None or (type_name.startswith("enum ") and not isinstance(value, str)):
            return self.types.empty(type_name)
        return self.types.converter(type_name)(value)

    def _method(self, cls: str, item: Dict[str, Any]) -> Method:
        parameters = [self._parameter(parameter) for parameter in item["params"]]
        has_session = bool(parameters) and parameters[0].name == "session_id"
        parameters = parameters[1:] if has_session else parameters
        return Method(
            cls=cls,
            name=item["name"],
            wire_name="%s.%s" % (cls, item["name"]),
            kind=item["kind"],
            parameters=parameters,
            required=required(parameters),
            result=item["result"],
            roles=frozenset(self._roles(item["roles"])),
            role_names=self._roles(item["roles"]),
            key_roles={k: frozenset(self._roles(v)) for k, v in item.get("map_key_roles", {}).items()},
            constructor=[self._parameter(field) for field in item.get("constructor_fields", [])],
            has_session=has_session,
            is_async=item["async"],
            removed=item.get("removed", False),
            internal=item.get("pool_internal", False),
        )

    def _roles(self, roles: Any) -> List[str]:
        return self.roles[roles] if isinstance(roles, str) else list(roles)


def _defaults(fields: List[Field]) -> Dict[str, Any]:
    """A row of defaults. As it is the dict of an object, its copies share the names of the fields (where Python knows
    how: up to 3.10 of any number, later of less than 30), which is half of the memory of rows."""

    class Names:
        pass

    row = Names()
    for field in fields:
        setattr(row, field.name, field.default)
    return vars(row)


def _column(cls: str, field: str) -> str:
    """The field's name in the database: namespaces are joined by two underscores."""
    for namespace in _NAMESPACES.get(cls, ()):
        if field.startswith(namespace + "_"):
            return namespace + "__" + field[len(namespace) + 1 :]
    # The pool's name was added later, as a plain field without a namespace.
    if field in ("name_label", "name_description") and cls != "pool":
        return field.replace("_", "__", 1)
    return field


def _read(name: str) -> Any:
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


_loaded: Dict[str, Model] = {}


def load() -> Model:
    """The data model shipped with the package; read from disk once."""
    if "model" not in _loaded:
        _loaded["model"] = Model(_read("datamodel.json"), _read("other_classes.json"))
    return _loaded["model"]
