"""Scheduled VM snapshots for XenServer and XCP-ng.

`python3 -c 'import vmss; vmss.trigger_schedule_snapshots()'` runs one pass by hand, as cron does.
"""


def trigger_schedule_snapshots() -> int:
    """Serve every snapshot schedule of the pool that is due. Return the exit status: 0 all well, 1 a snapshot
    failed, 2 bad configuration, 3 no session with xapi, 4 another pass holds the lock."""
    from vmss import plugin  # late, for whoever imports a module of the package loads this file too

    return plugin.trigger()
