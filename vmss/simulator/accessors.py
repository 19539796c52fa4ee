"""The accessors of fields and collections, generated from the data model."""

from typing import Any, Callable, Dict, Optional

from . import query
from .datamodel import Method, Model


def accessor(model: Model, method: Method) -> Optional[Callable[..., Any]]:
    """The function of a generated accessor; None if the method is not an accessor."""
    cls, name = method.cls, method.name
    if cls not in model.classes or not model.classes[cls].in_database:
        return None
    kind = method.kind
    if kind == "field getter":
        field = name[4:]
        if model.classes[cls].fields[field].derived:
            return lambda call, ref: call.db.get(cls, ref, field)
        return lambda call, ref: call.db.row(cls, ref)[field]
    if kind == "field setter":
        return lambda call, ref, value: call.db.set(cls, ref, name[4:], value)
    if kind in ("map add", "map remove", "set add", "set remove"):
        return collection_accessor(cls, name)
    implicit: Dict[str, Callable[..., Any]] = {
        "get_by_uuid": lambda call, uuid: call.db.by_uuid(cls, uuid),
        "get_by_name_label": lambda call, label: list(call.db.tables[cls].labels.get(label, ()))[::-1],
        "get_record": lambda call, ref: call.db.record(cls, ref),
        "get_all": lambda call: list(call.db.tables[cls].rows),
        "get_all_records": lambda call: call.db.records(cls, call.db.tables[cls].rows),
        "get_all_where": lambda call, text: query.select(call.db, cls, text),
        "get_all_records_where": lambda call, text: call.db.records(cls, query.select(call.db, cls, text)),
    }
    return implicit.get(name)


def collection_accessor(cls: str, name: str) -> Callable[..., Any]:
    """The accessor of a collection: add_to_F and remove_from_F for maps, add_F and remove_F for sets."""
    if name.startswith("add_to_"):
        return lambda call, ref, key, value: call.db.add_to_map(cls, ref, name[7:], key, value)
    if name.startswith("remove_from_"):
        return lambda call, ref, key: call.db.remove_from_map(cls, ref, name[12:], key)
    if name.startswith("add_"):
        field = name[4:]
        return lambda call, ref, value: call.db.set(
            cls, ref, field, [v for v in call.db.row(cls, ref)[field] if v != value] + [value]
        )
    field = name[7:]
    return lambda call, ref, value: call.db.set(
        cls, ref, field, [v for v in call.db.row(cls, ref)[field] if v != value]
    )
