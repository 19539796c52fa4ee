"""The ends and beginnings of xapi: a clean restart, a death that loses what was not written, a change of coordinator.

Sessions and tasks are always gone, current operations are cleared, sets come in another order; the storage manager goes
on with what it was doing, and has nobody to tell (docs/xapi-facts.md, Restart of xapi).
"""

from typing import TYPE_CHECKING, Any, Generator, Optional, Set

from .call import TRUSTED, Call
from .classes.vm import power_off
from .collector import DOMAIN as COLLECTOR
from .errors import Dropped, XapiError
from .kernel import Join, Sleep
from .storage_manager import DOMAIN as STORAGE
from .values import NULL
from .waiting import HostQueue, Waiting

if TYPE_CHECKING:
    from .simulator import Simulator

Steps = Generator[Any, Any, Any]

# clean: SIGTERM; kill: kill -9; host: the whole machine, the storage manager and the guests included.
WAYS = ("clean", "kill", "host")
# The domains that are not part of xapi, and survive it.
DOMAIN = "simulator"
STOPPING_SECONDS_MAX = 60.0
STOPPING_STEP_SECONDS = 0.1


def restart(sim: "Simulator", way: str, seconds: float = 0.0, successor: Optional[str] = None) -> Steps:
    """Let xapi end in one of `WAYS` and start again after `seconds`, perhaps with another host as coordinator.

    A call of xapi that asks for it ends with xapi: only those who are no part of it get to see it done.
    """
    if way not in WAYS:
        raise XapiError("INVALID_VALUE", "way", way)
    if not 0.0 <= seconds < float("inf"):
        raise XapiError("INVALID_VALUE", "seconds", str(seconds))
    # A dead host starts no xapi, neither as a member nor as the coordinator.
    sim.hosts.check_power(successor or sim.hosts.coordinator)
    return (yield Join(_restart(sim, way, seconds, successor), DOMAIN))


def _restart(sim: "Simulator", way: str, seconds: float, successor: Optional[str]) -> Steps:
    if way == "clean":
        yield from _stop(sim)
    died = sim.hosts.coordinator
    die(sim, way)
    sim.hosts.after_death_of_coordinator(successor)
    sim.hosts.restarting(sim.hosts.coordinator, seconds / 2, seconds / 2)
    start(sim)
    if way == "host":
        lose_guests(sim, died)


def _stop(sim: "Simulator") -> Steps:
    """A clean shutdown ends all calls, waits for running drivers, and records what they have done."""
    sim.stopping = True
    try:
        _end_calls(sim)
        for _ in range(int(STOPPING_SECONDS_MAX / STOPPING_STEP_SECONDS)):
            if not sim.kernel.alive(STORAGE):
                break
            yield Sleep(STOPPING_STEP_SECONDS)
    finally:
        sim.stopping = False
    sim.db.written()


def _end_calls(sim: "Simulator") -> None:
    """Break all connections: no call gets an answer any more."""
    for done in sim.kernel.kill("xapi"):
        done(None, Dropped())


def die(sim: "Simulator", way: str) -> None:
    """Kill xapi at this instant."""
    sim.life += 1
    if way == "host":
        sim.kernel.kill(STORAGE)
    _end_calls(sim)
    sim.kernel.kill(COLLECTOR)
    sim.cancelled.clear()
    if way != "clean":
        sim.db.lose_unwritten()
    if way == "host":
        sim.storage.manager.collector.booted(sim.hosts.coordinator)
        sim.storage.manager.host_lost()
        sim.db.written()
    sim.hang_up()


def start(sim: "Simulator") -> None:
    """Start xapi: read the database, clear what was running, check the SRs."""
    sim.db.reload()
    sim.sessions.forget()
    sim.messages.forget_events()
    sim.vmss_backup = {}
    sim.event_queues.clear()
    sim.waiting = Waiting(sim)
    sim.checkpoints = HostQueue()
    forget_operations(sim)
    for vbd in sim.db.tables["VBD"].rows:
        # There are no VBD_metrics any more, and a reference to one does not outlive a start (seen on a real xapi).
        sim.db.set("VBD", vbd, "metrics", NULL)
    sim.upkeep.dangling = True
    _know_itself(sim)
    sim.hosts.listen_for_the_dead()
    _look_at_guests(sim)
    sim.storage.manager.collector.running.clear()
    for sr in list(sim.db.tables["SR"].rows):
        sim.storage.manager.collector.kick(sr)


def _know_itself(sim: "Simulator") -> None:
    """The coordinator is what its own file says, whatever the database had; it tells since when its xapi runs."""
    pool = next(iter(sim.db.tables["pool"].rows))
    if not sim.db.exists("host", sim.this_host):
        # It joined after the database was last written.
        master = sim.db.row("pool", pool)["master"]
        sim.this_host = master if sim.db.exists("host", master) else next(iter(sim.db.tables["host"].rows))
    sim.db.set("pool", pool, "master", sim.this_host)
    config = {**sim.db.row("host", sim.this_host)["other_config"], "agent_start_time": "%d." % sim.kernel.now()}
    sim.db.set("host", sim.this_host, "other_config", config)
    # These two are not lost with the database.
    sim.db.written()


def lose_guests(sim: "Simulator", host: str) -> None:
    """No guest outlives its host, which finds them gone when it is back (xapi: ocaml/xapi/dbsync_slave.ml)."""
    call = Call(sim, "VM.power_state_reset", NULL, NULL, TRUSTED)
    for vm in list(sim.db.pointing_at("VM", "resident_on", host)):
        if not sim.db.row("VM", vm)["is_control_domain"]:
            power_off(call, vm, "Halted")


def _look_at_guests(sim: "Simulator") -> None:
    """Guests write where the database has them attached: a start or an end that was lost has not happened."""
    manager = sim.storage.manager
    written: Set[str] = set()
    for row in sim.db.tables["VBD"].rows.values():
        if row["currently_attached"] and row["mode"] == "RW" and not row["empty"]:
            written.add(row["VDI"])
    for vdi in sim.db.tables["VDI"].rows:
        image = manager.image(vdi)
        if image is not None and (image.writing_since is not None) != (vdi in written):
            manager.attached(vdi, vdi in written)
    for sr in sim.db.tables["SR"].rows:
        repository = manager.repository(sr)
        for name, image in repository.images.items():
            if image.writing_since is not None and manager.record_of(sr, name) is None:
                # Its record was lost, and with it the records that used it.
                manager.settle(repository, name)
                image.writing_since = None


def forget_operations(sim: "Simulator") -> None:
    """Clear the current operations of all objects."""
    for name, table in sim.db.tables.items():
        if "current_operations" not in table.cls.fields:
            continue
        for ref, row in list(table.rows.items()):
            if row["current_operations"]:
                sim.db.set(name, ref, "current_operations", {})
                sim.refresh_operations(name, ref)
