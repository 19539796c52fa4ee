"""The ends and beginnings of xapi: a clean restart, a death that loses what was not written, a change of coordinator.

Seen on a real xapi (facts, q.5): sessions and tasks are always gone, current operations are cleared, sets come in
another order; the storage manager goes on with what it was doing, and has nobody to tell.
"""

from typing import TYPE_CHECKING, Any, Generator, Optional

from .classes.vm_copy import HostQueue
from .errors import Dropped, XapiError
from .kernel import Sleep
from .storage_manager import DOMAIN as STORAGE
from .waiting import Waiting

if TYPE_CHECKING:
    from .simulator import Simulator

Steps = Generator[Any, Any, Any]

# clean: SIGTERM; kill: kill -9; host: the whole machine, the storage manager included.
WAYS = ("clean", "kill", "host")
STOPPING_SECONDS_MAX = 60.0
STOPPING_STEP_SECONDS = 0.1


def restart(sim: "Simulator", way: str, seconds: float = 0.0, successor: Optional[str] = None) -> Steps:
    """Let xapi end in one of `WAYS` and start again after `seconds`, perhaps with another host as coordinator."""
    if way not in WAYS:
        raise XapiError("INVALID_VALUE", "way", way)
    if way == "clean":
        yield from _let_storage_finish(sim)
        sim.db.written()
    die(sim, way)
    sim.hosts.after_death_of_coordinator(successor)
    start(sim)
    sim.hosts.restarting(sim.hosts.coordinator, seconds / 2, seconds / 2)


def _let_storage_finish(sim: "Simulator") -> Steps:
    """A clean shutdown waits for the drivers that run, and starts no other."""
    sim.stopping = True
    try:
        for _ in range(int(STOPPING_SECONDS_MAX / STOPPING_STEP_SECONDS)):
            if not sim.kernel.alive(STORAGE):
                return
            yield Sleep(STOPPING_STEP_SECONDS)
    finally:
        sim.stopping = False


def die(sim: "Simulator", way: str) -> None:
    """End xapi where it stands."""
    sim.life += 1
    if way == "host":
        sim.kernel.kill(STORAGE)
    orphans = sim.kernel.kill("xapi")
    sim.cancelled.clear()
    if way != "clean":
        sim.db.lose_unwritten()
    if way == "host":
        sim.storage.manager.host_lost()
        sim.db.written()
    sim.kernel.kill("garbage collector")
    for done in orphans:
        done(None, Dropped())
    sim.hang_up()


def start(sim: "Simulator") -> None:
    """What xapi does when it starts: read the database, forget what was running, look at its SRs."""
    sim.db.reload()
    sim.sessions.forget()
    sim.messages.forget_events()
    sim.vmss_backup = {}
    sim.event_queues.clear()
    sim.waiting = Waiting(sim)
    sim.checkpoints = HostQueue()
    forget_operations(sim)
    sim.upkeep.dangling = True
    _note_start(sim)
    sim.storage.manager.collector.running.clear()
    for sr in list(sim.db.tables["SR"].rows):
        sim.storage.manager.collector.kick(sr)
    if not sim.db.exists("host", sim.this_host):
        # It joined after the database was last written.
        sim.this_host = next(iter(sim.db.tables["host"].rows))


def _note_start(sim: "Simulator") -> None:
    """A host tells since when its xapi runs."""
    if sim.db.exists("host", sim.this_host):
        config = {**sim.db.row("host", sim.this_host)["other_config"], "agent_start_time": "%d." % sim.kernel.now()}
        sim.db.set("host", sim.this_host, "other_config", config)


def forget_operations(sim: "Simulator") -> None:
    """Nothing runs any more."""
    for name, table in sim.db.tables.items():
        if "current_operations" not in table.cls.fields:
            continue
        for ref, row in list(table.rows.items()):
            if row["current_operations"]:
                sim.db.set(name, ref, "current_operations", {})
                sim.refresh_operations(name, ref)
