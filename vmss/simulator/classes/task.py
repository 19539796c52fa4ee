"""Tasks (xapi: ocaml/xapi/xapi_task.ml)."""

from typing import TYPE_CHECKING, Any

from ..errors import XapiError
from ..registry import method

if TYPE_CHECKING:
    from ..call import Call


def _check_owner(call: "Call", task: str) -> None:
    """Raise unless the caller may change a task: its own subject may, others need a permission."""
    row = call.db.row("task", task)
    owner = call.db.tables["session"].rows.get(row["session"])
    mine = call.db.row("session", call.session)
    if mine["is_local_superuser"]:
        return
    if owner is not None and owner["auth_user_sid"] == mine["auth_user_sid"]:
        return
    text = "No permission in user session. (Roles with this permission: pool-admin, pool-operator)"
    if call.sim.sessions.roles.get(call.session) not in ("pool-admin", "pool-operator"):
        # One permission covers everything that can be done to a task.
        raise XapiError("RBAC_PERMISSION_DENIED", "task.destroy/any", text)


@method("task.create")
def create(call: "Call", label: str, description: str) -> str:
    task = call.sim.dispatcher.new_task(label, call.session)
    call.db.set("task", task, "name_description", description)
    return task


@method("task.destroy")
def destroy(call: "Call", task: str) -> None:
    """Remove a task. One that has not ended is only marked for removal, which can be done once, and goes on."""
    _check_owner(call, task)
    if call.db.row("task", task)["status"] in ("pending", "cancelling"):
        call.db.add_to_map("task", task, "current_operations", "task", "destroy")
    else:
        call.db.delete("task", task)


@method("task.cancel")
def cancel(call: "Call", task: str) -> None:
    """Ask a task to stop; operations poll for this. It is no error if the task cannot be cancelled."""
    _check_owner(call, task)
    _mark(call, task, call.task_key)
    if call.db.row("task", task)["status"] == "pending":
        call.sim.cancelled.add(task)
        for part in call.db.pointing_at("task", "subtask_of", task):
            if call.db.row("task", part)["status"] == "pending":
                _mark(call, part, task)


def _mark(call: "Call", task: str, key: str) -> None:
    """Record a request to cancel a task, even if it has ended. The request replaces any earlier one."""
    call.db.set("task", task, "current_operations", {key: "cancel"})


@method("task.set_status", "task.set_progress", "task.set_result", "task.set_error_info", "task.set_other_config")
def set_field(call: "Call", task: str, value: Any) -> None:
    _check_owner(call, task)
    call.db.set("task", task, call.method[len("task.set_") :], value)


@method("task.add_to_other_config")
def add_to_other_config(call: "Call", task: str, key: str, value: str) -> None:
    _check_owner(call, task)
    call.db.add_to_map("task", task, "other_config", key, value)


@method("task.remove_from_other_config")
def remove_from_other_config(call: "Call", task: str, key: str) -> None:
    _check_owner(call, task)
    call.db.remove_from_map("task", task, "other_config", key)
