"""All modules with the behaviour of API classes: importing this one enters their methods into the registry."""

from . import (
    event,
    host,
    message,
    pbd,
    pool,
    session,
    simulator,
    sr,
    task,
    vbd,
    vdi,
    vm,
    vm_config,
    vm_copy,
    vm_move,
    vm_revert,
    vmss,
)  # fmt: skip

__all__ = [
    "event", "host", "message", "pbd", "pool", "session", "simulator", "sr", "task", "vbd", "vdi", "vm", "vm_config",
    "vm_copy", "vm_move", "vm_revert", "vmss",
]  # fmt: skip
