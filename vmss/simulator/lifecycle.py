"""The end and start of xapi: a clean restart, a death that loses unwritten changes, a change of coordinator.

Sessions and tasks are always gone, current operations are cleared, sets come in another order; the storage manager goes
on with what it was doing, and has nobody to tell (docs/xapi-facts.md, Restart of xapi).
"""

from typing import TYPE_CHECKING, Any, Generator, Optional, Set

from . import licence
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

# clean: SIGTERM; kill: kill -9; host: the machine dies, with the storage manager and the guests.
WAYS = ("clean", "kill", "host")
# The domain of processes that are not part of xapi and survive it.
DOMAIN = "simulator"
STOPPING_SECONDS_MAX = 60.0
STOPPING_STEP_SECONDS = 0.1


def restart(sim: "Simulator", way: str, seconds: float = 0.0, successor: Optional[str] = None) -> Steps:
    """Let xapi end in one of `WAYS` and start again after `seconds`, perhaps with another host as coordinator.

    If a call of xapi asks for it, that call ends with xapi; only the simulator's own calls return.
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
        sim.messages.generations_lost(sim.db.lose_unwritten())
    if way == "host":
        sim.storage.manager.collector.booted(sim.hosts.coordinator)
        sim.storage.manager.host_lost()
        sim.hosts.forget_domains(sim.hosts.coordinator)
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
        # VBD_metrics were removed: xapi clears references to them when it starts (seen on a real xapi).
        sim.db.set("VBD", vbd, "metrics", NULL)
    sim.upkeep.dangling = True
    _know_itself(sim)
    licence.enter(sim)
    sim.hosts.restart_timeouts()
    _restore_writers(sim)
    sim.storage.manager.collector.running.clear()
    for sr in list(sim.db.tables["SR"].rows):
        sim.storage.manager.collector.kick(sr)


def _know_itself(sim: "Simulator") -> None:
    """Record which host is the coordinator, which its own file says and not the database, and when its xapi started."""
    pool = next(iter(sim.db.tables["pool"].rows))
    if not sim.db.exists("host", sim.this_host):
        # The host joined after the database was last written, so its record was lost.
        master = sim.db.row("pool", pool)["master"]
        sim.this_host = master if sim.db.exists("host", master) else next(iter(sim.db.tables["host"].rows))
    sim.db.set("pool", pool, "master", sim.this_host)
    config = {**sim.db.row("host", sim.this_host)["other_config"], "agent_start_time": "%d." % sim.kernel.now()}
    sim.db.set("host", sim.this_host, "other_config", config)
    # These two changes survive a death of xapi.
    sim.db.written()


def lose_guests(sim: "Simulator", host: str) -> None:
    """Halt the guests of a dead host; xapi does this when the host is back (xapi: ocaml/xapi/dbsync_slave.ml)."""
    call = Call(sim, "VM.power_state_reset", NULL, NULL, TRUSTED)
    for vm in list(sim.db.pointing_at("VM", "resident_on", host)):
        if not sim.db.row("VM", vm)["is_control_domain"]:
            power_off(call, vm, "Halted")


def _restore_writers(sim: "Simulator") -> None:
    """Let guests write to the disks that the database has as attached, and to no others: changes may have been lost."""
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
                # The record of the disk was lost, and with it its attachments.
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
