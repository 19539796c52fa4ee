"""Scheduled VM snapshots for XenServer and XCP-ng.

`python3 -c 'import vmss; vmss.trigger_schedule_snapshots()'` runs one pass by hand, as cron does.
"""


def trigger_schedule_snapshots() -> int:
    """Serve every snapshot schedule of the pool that is due. Return the exit status: 0 all well, 1 a snapshot
    failed, 2 bad configuration, 3 no session with xapi, 4 another pass holds the lock."""
    import gc

    gc.disable()  # what is imported stays: to look for garbage in it takes a tenth of an idle tick
    from vmss import plugin  # late, for whoever imports a module of the package loads this file too

    if hasattr(gc, "freeze"):  # from Python 3.7 on: not at the end of the process either
        gc.freeze()
    gc.enable()
    return plugin.trigger()
