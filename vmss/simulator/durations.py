"""The durations, rates and probabilities of the simulated pool."""

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
    # The probability that a wake-up is lost, because it comes between a waiter's check and its sleep.
    lost_wakeup: float = 0.1
    # The probability that a storage operation finishes after xapi has died; otherwise it fails, because it needs xapi.
    orphan_finishes: float = 0.5
    # The probability that a snapshot interrupted by the death of its host has made the image of the copy, but not that
    # of the disk.
    half_made: float = 0.5
    # The probability that the record of a disk lacks its source, because a xapi that was stopped in the snapshot had no
    # time to enter it; and that it is then not marked as a snapshot either.
    without_source: float = 0.5
    unmarked: float = 0.5
