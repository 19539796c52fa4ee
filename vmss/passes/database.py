"""Having xapi write its database to the coordinator's disk, which it does by itself only every five minutes."""

from typing import Optional

from vmss.core.outcome import Error
from vmss.edges.xapi import Refused
from vmss.passes.context import Context
from vmss.passes.notes import Notes


def write_database(context: Context, notes: Optional[Notes]) -> Error:
    """Have xapi write its database. Return its error, which is logged; empty if it was written.

    If xapi dies, it forgets what is not on disk: snapshots that it took, and deletions (docs/xapi-facts.md, When xapi
    writes its database).
    """
    try:
        context.xapi.call("pool.sync_database")
    except Refused as refused:
        context.log("The pool's database could not be written: %s" % refused)
        return refused.error
    if notes is not None:
        notes.database_written()
    return ()
