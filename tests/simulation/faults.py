"""What can go wrong at a call: the kinds of faults, the plan that draws them from a seed, and what each does."""

from random import Random
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from tests.simulation.conduct import TAKES
from tests.simulation.wire import Answer, Died, Lost, Serve, failure
from vmss.simulator.faults import Rule

if TYPE_CHECKING:
    from tests.simulation.world import World

NULL = "OpaqueRef:NULL"


class Fault(NamedTuple):
    """One fault: in which pass, at which of its calls, of what kind; `seed` decides whatever else there is to it."""

    number: int
    call: int
    kind: str
    seed: int

    def __str__(self) -> str:
        return "%d.%d:%s:%d" % self


def parse(text: str) -> List[Fault]:
    """The faults that a list of them, separated by spaces, says."""
    found = []
    for word in text.split():
        at, kind, seed = word.split(":")
        number, call = at.split(".")
        found.append(Fault(int(number), int(call), kind, int(seed)))
    return found


class Drawn:
    """A plan that is drawn while the world runs. Swarm: each seed leaves some kinds out, and gives the others very
    different weights."""

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)
        self._rate = 10 ** self._random.uniform(-2.2, -0.8)
        kinds = sorted(KINDS)
        chosen = [kind for kind in kinds if self._random.random() < 0.4] or [self._random.choice(kinds)]
        self._kinds = chosen
        self._weights = [10 ** self._random.uniform(-1, 1) for _ in chosen]

    def at(self, number: int, call: int, method: str) -> Optional[Fault]:
        """The fault at a call of a pass, if there is one: what changes anything meets more than what only looks."""
        looks = method.partition(".")[2].startswith(("get_", "from"))
        if self._random.random() >= self._rate * (0.5 if looks else 3.0):
            return None
        (kind,) = self._random.choices(self._kinds, self._weights)
        return Fault(number, call, kind, self._random.getrandbits(32))


class Listed:
    """A plan that is written down."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = {(fault.number, fault.call): fault for fault in faults}

    def at(self, number: int, call: int, method: str) -> Optional[Fault]:
        """The fault at a call of a pass, if there is one."""
        return self._faults.get((number, call))


class Meeting(NamedTuple):
    """A call that meets a fault."""

    world: "World"
    method: str
    params: List[Any]
    serve: Serve
    random: Random


Act = Callable[[Meeting], Answer]


# The call itself


def lost_before(meeting: Meeting) -> Answer:
    """The server has not seen the call."""
    raise Lost("the connection broke before the call got there")


def lost_after(meeting: Meeting) -> Answer:
    """The server has acted, the answer is lost."""
    meeting.serve()
    raise Lost("the connection broke before the answer")


def killed_before(meeting: Meeting) -> Answer:
    """Our process is killed when it is about to call."""
    raise Died


def killed_after(meeting: Meeting) -> Answer:
    """Our process is killed when the server has acted, and before the answer is there."""
    meeting.serve()
    raise Died


_SM = [
    ("SR_BACKEND_FAILURE_44", "", "There is insufficient space", ""),
    ("SR_BACKEND_FAILURE_46", "", "The VDI is not available", ""),
    ("SR_BACKEND_FAILURE_80", "", "Failed to mark VDI hidden", ""),
]
_BUSY = ("OTHER_OPERATION_IN_PROGRESS", "VM", "{ref}", "clone", "OpaqueRef:somebody")
# The errors of the operations themselves (docs/xapi-facts.md, Storage errors); {ref} is their object.
OPERATION_ERRORS: Dict[str, List[Tuple[str, ...]]] = {
    "VM.snapshot": _SM
    + [
        _BUSY,
        ("VM_BAD_POWER_STATE", "{ref}", "halted", "running"),
        ("VDI_IN_USE", "OpaqueRef:disk", "snapshot"),
        ("SR_BACKEND_FAILURE_81", "", "VDI clone failed error 28", ""),
        ("CANNOT_CONTACT_HOST", "OpaqueRef:host"),
        ("SR_BACKEND_FAILURE_109", "", "The snapshot chain is too long", ""),
        ("HOST_OFFLINE", "OpaqueRef:host"),
    ],
    "VM.checkpoint": _SM + [_BUSY, ("VM_BAD_POWER_STATE", "{ref}", "running", "halted"), ("VM_IS_IMMOBILE", "{ref}")],
    # Not OPERATION_BLOCKED: it says that the snapshot is pinned, which `snapshot_pinned` does.
    "VM.destroy": [_BUSY, ("INTERNAL_ERROR", "Db_exn.DBCache_NotFound")],
    "VM.hard_shutdown": [_BUSY, ("INTERNAL_ERROR", "xenopsd")],
    "VM.resume": [_BUSY, ("HOST_NOT_ENOUGH_FREE_MEMORY", "1", "0"), ("NO_HOSTS_AVAILABLE",)],
    "VDI.destroy": _SM
    + [("VDI_IN_USE", "{ref}", "destroy"), ("OTHER_OPERATION_IN_PROGRESS", "VDI", "{ref}", "clone", "OpaqueRef:other")],
}
OPERATION_ERRORS["VM.snapshot_with_quiesce"] = OPERATION_ERRORS["VM.snapshot"]


def refused(meeting: Meeting) -> Answer:
    """xapi answers the call itself with an error that it may have."""
    errors: List[Tuple[str, ...]] = [("INTERNAL_ERROR", "Unix.Unix_error(Unix.ENOSPC)")]
    if meeting.method.startswith("Async."):
        errors += [("TOO_MANY_PENDING_TASKS",), ("INTERNAL_ERROR", "Not_found")]
    elif meeting.method.startswith("session.login"):
        errors = [("HOST_STILL_BOOTING",)]
    elif meeting.method == "event.from":
        errors = [("EVENT_FROM_TOKEN_PARSE_FAILURE", "token"), ("SESSION_INVALID", str(meeting.params[0]))]
    elif meeting.method == "message.create":
        # It could not write the message's file.
        return {"Status": "Success", "Value": NULL}
    return failure(*meeting.random.choice(errors))


def events_lost(meeting: Meeting) -> Answer:
    """A wait on events ends as though nothing had happened; what had happened is not told again."""
    answer = meeting.serve()
    if meeting.method == "event.from" and answer["Status"] == "Success":
        answer["Value"]["events"] = []
    return answer


# Operations in the background


def _rule(meeting: Meeting, **how: Any) -> Answer:
    """Let the operation that this call starts end in some way, or one of its parts."""
    method = meeting.method[len("Async.") :]
    if meeting.method.startswith("Async.") and method in OPERATION_ERRORS:
        part = method in ("VM.snapshot", "VM.checkpoint") and meeting.random.random() < 0.3
        if "error" in how:
            errors = _SM if part else OPERATION_ERRORS[method]
            how["error"] = [item.replace("{ref}", meeting.params[1]) for item in meeting.random.choice(errors)]
        how["method"] = "VDI.snapshot" if part else method
        meeting.world.sim.faults.add(Rule(**how))
    return meeting.serve()


def operation_fails(meeting: Meeting) -> Answer:
    return _rule(meeting, action="error", error=[])


def operation_hangs(meeting: Meeting) -> Answer:
    return _rule(meeting, action="hang", when=meeting.random.choice(["before", "after"]))


def operation_late(meeting: Meeting) -> Answer:
    """It ends, but later than anybody waits for it."""
    seconds = meeting.random.choice([30.0, 700.0, 4000.0])
    return _rule(meeting, action="delay", seconds=seconds, when=meeting.random.choice(["before", "after"]))


def checkpoint_stays_down(meeting: Meeting) -> Answer:
    """A checkpoint cannot resume its VM, or hangs when it should."""
    if meeting.method == "Async.VM.checkpoint":
        error = ["VM_CHECKPOINT_RESUME_FAILED", meeting.params[1]]
        action = meeting.random.choice(["error", "error", "hang"])
        meeting.world.sim.faults.add(Rule(method="VM.checkpoint.resume", action=action, error=error))
    return meeting.serve()


def operation_silent(meeting: Meeting) -> Answer:
    """It ends without a word: its task stays pending."""
    return _rule(meeting, action="drop", when=meeting.random.choice(["before", "after"]))


def task_gone(meeting: Meeting) -> Answer:
    """Somebody, or xapi itself, removes the record of a task that we wait for."""
    tasks = meeting.world.sim.db.tables["task"].rows
    mine = [ref for ref, row in tasks.items() if row["name_label"].startswith("Async.V") and row["status"] != "pending"]
    if mine:
        meeting.world.outside("task.destroy", meeting.random.choice(mine))
    return meeting.serve()


def result_altered(meeting: Meeting) -> Answer:
    """The task of a snapshot tells a result that is none: nothing, another object, or the VM itself."""
    return _altered(meeting, feigned=False)


def _altered(meeting: Meeting, feigned: bool) -> Answer:
    world, random = meeting.world, meeting.random
    refs = ["", NULL, "OpaqueRef:no-such-object", random.choice(world.vms), random.choice(_snapshots(world) or [NULL])]
    if meeting.method in TAKES:
        refs.append(str(meeting.params[1]))
    world.alter(random.choice(["", "<value>%s</value>" % random.choice(refs)]), feigned)
    return meeting.serve()


def success_feigned(meeting: Meeting) -> Answer:
    """The task of a snapshot that failed says that it went well, and tells some result."""
    error = list(meeting.random.choice(_SM))
    meeting.world.sim.faults.add(Rule(method="VDI.snapshot", action="error", error=error))
    return _altered(meeting, feigned=True)


# xapi and its storage


def _restart(way: str) -> Act:
    def act(meeting: Meeting) -> Answer:
        """xapi ends and starts again, before the call or after it."""
        answer = meeting.serve() if meeting.random.random() < 0.5 else None
        meeting.world.observer.about_to_change()
        meeting.world.call("simulator.restart", "", way, meeting.random.choice([0.0, 5.0, 40.0, 600.0]))
        meeting.world.observer.restarted()
        if answer is not None:
            raise Lost("xapi ended before the answer")
        return meeting.serve()

    return act


def host_restarted(meeting: Meeting) -> Answer:
    """The coordinator's host is started anew: xapi is gone for a while, our process and dom0's memory for good."""
    if meeting.random.random() < 0.5:
        meeting.serve()
    meeting.world.observer.about_to_change()
    meeting.world.call("simulator.restart", "", "host", meeting.random.choice([0.0, 40.0, 600.0]))
    meeting.world.observer.restarted()
    meeting.world.forget_memory()
    raise Died


def coordinator_changed(meeting: Meeting) -> Answer:
    """Another host becomes the coordinator, before the call or after it: by designation, or because xapi of the old one
    has died, or all of its host, and our process with it."""
    world, random = meeting.world, meeting.random
    answer = meeting.serve() if random.random() < 0.5 else None
    others = [host for host in world.hosts if host != world.sim.this_host and host not in world.sim.hosts.dead]
    if not others:
        return answer or meeting.serve()
    way = random.choice(["clean", "clean", "kill", "host"])
    world.observer.about_to_change()
    world.call("simulator.fail_over", "", random.choice(others), way, random.choice([0.0, 5.0, 40.0, 600.0]))
    world.show_role()
    world.observer.restarted()
    if way == "host":
        world.forget_memory()
        raise Died
    if answer is not None:
        raise Lost("xapi ended before the answer")
    return meeting.serve()


def stop_asked(meeting: Meeting) -> Answer:
    """SIGTERM, before the server has the call or after it has acted."""
    if meeting.random.random() < 0.5:
        meeting.world.ask_to_stop()
        return meeting.serve()
    answer = meeting.serve()
    meeting.world.ask_to_stop()
    return answer


def disk_full(meeting: Meeting) -> Answer:
    """There is no room any more under the log, the lock and the state, for the rest of the pass."""
    meeting.world.disk.fill(meeting.random.choice([0, 0, 1, 30, 200]))
    meeting.world.observer.disk_is_full()
    return meeting.serve()


def sr_full(meeting: Meeting) -> Answer:
    """Foreign files fill an SR, or leave it again."""
    world, random = meeting.world, meeting.random
    world.call("simulator.fill", "", random.choice(world.srs), random.choice([0, 1 << 50]))
    return meeting.serve()


# Other people


def _others(act: Callable[["World", Random], None]) -> Act:
    """What somebody does just before the call gets to the server, or just after it has acted."""

    def both(meeting: Meeting) -> Answer:
        answer = meeting.serve() if meeting.random.random() < 0.5 else None
        before = meeting.world.observer.about_to_change()
        act(meeting.world, meeting.random)
        meeting.world.observer.others_acted(before)
        return meeting.serve() if answer is None else answer

    return both


def _vm(world: "World", random: Random) -> str:
    return random.choice(world.vms)


def vm_deleted(world: "World", random: Random) -> None:
    vm = _vm(world, random)
    world.outside("VM.hard_shutdown", vm)
    world.outside("VM.destroy", vm)


def vm_renamed(world: "World", random: Random) -> None:
    world.outside("VM.set_name_label", _vm(world, random), random.choice(["new", "UUID: Error:['", "\u202e\n", ""]))


def vm_power(world: "World", random: Random) -> None:
    vm = _vm(world, random)
    calls: List[Tuple[str, List[Any]]] = [("VM.hard_shutdown", []), ("VM.start", [False, False]), ("VM.suspend", [])]
    method, more = random.choice(calls)
    if world.outside(method, vm, *more) is not None and method == "VM.suspend":
        world.observer.power.suspended_by_others(vm)


def vm_reassigned(world: "World", random: Random) -> None:
    world.outside("VM.set_snapshot_schedule", _vm(world, random), random.choice(world.policies + [NULL]))


def vm_snapshotted(world: "World", random: Random) -> None:
    world.outside("Async.VM.snapshot", _vm(world, random), "before the update")


def policy_deleted(world: "World", random: Random) -> None:
    policy = random.choice(world.policies)
    for vm in world.vms:
        if world.sim.db.exists("VM", vm) and world.sim.db.row("VM", vm)["snapshot_schedule"] == policy:
            world.outside("VM.set_snapshot_schedule", vm, NULL)
    world.outside("VMSS.destroy", policy)


def policy_changed(world: "World", random: Random) -> None:
    policy = random.choice(world.policies)
    changes: List[Tuple[str, Any]] = [
        ("VMSS.set_retained_snapshots", str(random.randint(1, 4))),
        ("VMSS.set_enabled", random.random() < 0.7),
        ("VMSS.set_type", random.choice(["snapshot", "checkpoint"])),
    ]
    method, value = random.choice(changes)
    world.outside(method, policy, value)


def _snapshots(world: "World") -> List[str]:
    return [ref for ref, row in world.sim.db.tables["VM"].rows.items() if row["is_a_snapshot"]]


def snapshot_pinned(world: "World", random: Random) -> None:
    for snapshot in random.sample(_snapshots(world), min(1, len(_snapshots(world)))):
        pinned = "destroy" in world.sim.db.row("VM", snapshot)["blocked_operations"]
        if pinned:
            world.outside("VM.remove_from_blocked_operations", snapshot, "destroy")
        else:
            world.outside("VM.add_to_blocked_operations", snapshot, "destroy", "keep")


def snapshot_deleted(world: "World", random: Random) -> None:
    for snapshot in random.sample(_snapshots(world), min(1, len(_snapshots(world)))):
        disks = world.disks_of(snapshot)
        world.outside("VM.destroy", snapshot)
        for disk in disks:
            world.outside("VDI.destroy", disk)


def disk_attached(world: "World", random: Random) -> None:
    """A VM gets a disk of a snapshot."""
    disks = [disk for snapshot in _snapshots(world) for disk in world.disks_of(snapshot)]
    if disks:
        world.attach(_vm(world, random), random.choice(disks))


def clock_forward(world: "World", random: Random) -> None:
    world.clock.step(random.choice([61.0, 1000.0, 3600.0, 20 * 3600.0]))


def clock_back(world: "World", random: Random) -> None:
    world.clock.step(-random.choice([61.0, 1000.0, 3600.0, 20 * 3600.0]))


def second_tick(world: "World", random: Random) -> None:
    """Cron starts another pass, or a plugin does."""
    world.second_pass("")


def snapshot_now(world: "World", random: Random) -> None:
    """Somebody asks for a run of one policy."""
    world.second_pass(random.choice(world.policies))


def vm_migrated(world: "World", random: Random) -> None:
    way = random.choice(["", "Async."])  # over, or under way
    world.outside(way + "VM.pool_migrate", _vm(world, random), random.choice(world.hosts), {})


def licence_changed(world: "World", random: Random) -> None:
    """The licence has no scheduled snapshots any more; or has them again."""
    (pool,) = world.sim.db.tables["pool"].rows.values()
    taken = pool["restrictions"].get("restrict_vmss") == "true"
    world.call("simulator.restrict", "", "VMSS", not taken)
    world.observer.licence_changed()


def member_lost(world: "World", random: Random) -> None:
    """A host loses its power, or is back."""
    members = [host for host in world.hosts if host != world.sim.this_host and host != world.here]
    if members:
        host = random.choice(members)
        world.call("simulator.%s_host" % ("start" if host in world.sim.hosts.dead else "kill"), "", host)


def failed_all_the_same(meeting: Meeting) -> Answer:
    """The task of a snapshot fails, because something was busy, when the snapshot is there already."""
    error = [item.replace("{ref}", str(meeting.params[1])) for item in _BUSY]
    method = meeting.method[len("Async.") :]
    meeting.world.sim.faults.add(Rule(method=method, action="error", error=error, when="after"))
    return meeting.serve()


def stored_all_the_same(meeting: Meeting) -> Answer:
    """A message is stored, and the answer says that it is not."""
    return dict(meeting.serve(), Value=NULL)


def _newest(world: "World") -> str:
    rows = world.observer.scheduled()
    return max(rows, key=lambda ref: (rows[ref]["snapshot_time"], ref))


def newest_gone(world: "World", random: Random) -> None:
    """Somebody deletes the newest scheduled snapshot."""
    newest = _newest(world)
    disks = world.disks_of(newest)
    world.outside("VM.destroy", newest)
    for disk in disks:
        world.outside("VDI.destroy", disk)


def disk_taken(world: "World", random: Random) -> None:
    """Somebody deletes a disk of the newest scheduled snapshot."""
    newest = _newest(world)
    world.observer.lacking.add(newest)
    world.outside("VDI.destroy", sorted(world.disks_of(newest))[-1])


KINDS: Dict[str, Act] = {
    "lost_before": lost_before,
    "lost_after": lost_after,
    "killed_before": killed_before,
    "killed_after": killed_after,
    "refused": refused,
    "events_lost": events_lost,
    "operation_fails": operation_fails,
    "operation_hangs": operation_hangs,
    "operation_late": operation_late,
    "operation_silent": operation_silent,
    "checkpoint_stays_down": checkpoint_stays_down,
    "task_gone": task_gone,
    "result_altered": result_altered,
    "success_feigned": success_feigned,
    "xapi_restarted": _restart("clean"),
    "xapi_killed": _restart("kill"),
    "host_lost": _restart("host"),
    "sr_full": sr_full,
    "vm_deleted": _others(vm_deleted),
    "vm_renamed": _others(vm_renamed),
    "vm_power": _others(vm_power),
    "vm_reassigned": _others(vm_reassigned),
    "vm_snapshotted": _others(vm_snapshotted),
    "policy_deleted": _others(policy_deleted),
    "policy_changed": _others(policy_changed),
    "snapshot_pinned": _others(snapshot_pinned),
    "snapshot_deleted": _others(snapshot_deleted),
    "disk_attached": _others(disk_attached),
    "clock_forward": _others(clock_forward),
    "clock_back": _others(clock_back),
    "second_tick": _others(second_tick),
    "snapshot_now": _others(snapshot_now),
    "vm_migrated": _others(vm_migrated),
    "licence_changed": _others(licence_changed),
    "member_lost": _others(member_lost),
    "coordinator_changed": coordinator_changed,
    "host_restarted": host_restarted,
    "stop_asked": stop_asked,
    "disk_full": disk_full,
}

# No seed draws these: they are for worlds that are written down.
WRITTEN_ONLY: Dict[str, Act] = {
    "disk_taken": _others(disk_taken),
    "newest_gone": _others(newest_gone),
    "failed_all_the_same": failed_all_the_same,
    "stored_all_the_same": stored_all_the_same,
}


def meet(fault: Fault, world: "World", method: str, params: List[Any], serve: Serve) -> Answer:
    """Let a call meet a fault; return the client's answer."""
    act = KINDS.get(fault.kind) or WRITTEN_ONLY[fault.kind]
    return act(Meeting(world, method, params, serve, Random(fault.seed)))
