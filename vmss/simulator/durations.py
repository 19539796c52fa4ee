"""How long things take in the simulated pool, and the other odds of its model."""

from typing import NamedTuple, Tuple


class Durations(NamedTuple):
    """How long operations take: (shortest, longest) in seconds, drawn evenly; and the rates and odds of the model."""

    sr_create: Tuple[float, float] = (0.3, 0.6)
    sr_scan: Tuple[float, float] = (0.2, 0.6)
    pbd_plug: Tuple[float, float] = (0.2, 0.5)
    vdi_create: Tuple[float, float] = (0.1, 0.4)
    vdi_destroy: Tuple[float, float] = (0.1, 1.0)
    vdi_snapshot: Tuple[float, float] = (0.5, 3.0)
    vdi_resize: Tuple[float, float] = (0.1, 0.4)
    vm_start: Tuple[float, float] = (2.0, 6.0)
    vm_shutdown: Tuple[float, float] = (5.0, 20.0)
    vm_hard_shutdown: Tuple[float, float] = (0.5, 2.0)
    vm_reboot: Tuple[float, float] = (5.0, 20.0)
    vm_migrate: Tuple[float, float] = (5.0, 20.0)
    restart: Tuple[float, float] = (1.0, 5.0)
    memory_bytes_per_second: float = 200e6
    written_bytes_per_second: float = 16e3
    merge_bytes_per_second: float = 100e6
    # A wake-up that comes between a waiter's look and its sleep is lost.
    lost_wakeup: float = 0.1
    # An operation in storage that xapi has not lived to see the end of: it finishes, or fails for want of xapi.
    orphan_finishes: float = 0.5
    # A host that is lost in the middle of a snapshot has made the copy's image already, and not yet the disk's.
    half_made: float = 0.5
