"""The behaviour of each API class, in the module that bears its name."""

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
