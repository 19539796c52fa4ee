"""What a method answers that xapi has and this server lacks: what xapi checks before it acts, then NOT_IMPLEMENTED.

The number of parameters, their types, the session and the role are checked for every method, in dispatch.py. Here it is
the reference of the object that the method is of. Source: xapi: ocaml/xapi/message_forwarding.ml.
"""

from typing import TYPE_CHECKING, Any, List

from .datamodel import REMOVED_CLASSES, Method
from .errors import XapiError
from .values import to_string

if TYPE_CHECKING:
    from .call import Call
    from .dispatch import Dispatcher

# Of these classes xapi reads the object first.
_READ_FIRST = ("VM", "VDI", "VBD", "SR", "PBD", "task", "VMSS")
# Methods of hosts that the coordinator carries out itself. All others it forwards, so that a host which does not exist
# is one that is not there to do it.
_ON_COORDINATOR = frozenset(
    "host." + name
    for name in (
        "allocate_resources_for_vm", "apply_updates", "create_new_blob", "declare_dead", "get_management_interface",
        "get_vms_which_prevent_evacuation", "migrate_receive", "power_on", "reset_networking",
        "retrieve_wlb_evacuate_recommendations", "sync_data",
    )
)  # fmt: skip


def refuse(call: "Call", method: Method, args: List[Any]) -> None:
    """Raise the error of a method without a handler."""
    kind = method.parameters[0].type if method.parameters else ""
    if kind == "ref host" and method.cls in ("host", "SR") and method.wire_name not in _ON_COORDINATOR:
        call.sim.hosts.reach(args[0])
    elif kind == "ref " + method.cls and method.cls in (*_READ_FIRST, "host"):
        call.db.row(method.cls, args[0])
    raise XapiError("NOT_IMPLEMENTED", method.wire_name)


def answer_other(dispatcher: "Dispatcher", name: str, params: List[Any]) -> Any:
    """The answer to a method of a class of xapi that has no objects in this pool, and is not in the data model. What
    its parameters are is known of accessors only."""
    cls, _, short = name.partition(".")
    is_accessor = short.startswith(_ACCESSORS) or short == "destroy"
    expected = _COUNTS.get(short, 1 if is_accessor else 0)
    received = len(params) - 1
    if received < expected or (short in _COUNTS and received > expected):
        raise XapiError("MESSAGE_PARAMETER_COUNT_MISMATCH", name, str(expected), str(received))
    texts = [to_string(param) for param in params[: 1 + min(1, expected)]]
    dispatcher.check_session(texts[0])
    if cls in REMOVED_CLASSES:
        raise XapiError("MESSAGE_REMOVED")
    if short in ("get_all", "get_by_name_label", "get_all_where"):
        return []
    if short in ("get_all_records", "get_all_records_where"):
        return {}
    if short == "get_by_uuid":
        raise XapiError("UUID_INVALID", cls, texts[1])
    if is_accessor and not short.startswith("get_by_") and cls not in _WITHOUT_OBJECTS:
        raise XapiError("HANDLE_INVALID", cls, texts[1])
    raise XapiError("NOT_IMPLEMENTED", name)


_ACCESSORS = ("get_", "set_", "add_to_", "remove_from_")
# The parameters of the methods that every class has, beside the session.
_COUNTS = {
    "get_all": 0, "get_all_records": 0, "get_all_where": 1, "get_all_records_where": 1, "get_by_uuid": 1,
    "get_by_name_label": 1, "get_record": 1, "get_uuid": 1, "destroy": 1,
}  # fmt: skip
# Classes whose methods are of no object.
_WITHOUT_OBJECTS = ("auth", "Diagnostics")
