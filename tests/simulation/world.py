"""A pool, its policies, its time and its faults, all drawn from one seed; and its passes, one after another."""

import os
import socket
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from tests.simulation.allowed import Allowed
from tests.simulation.conduct import TAKES, Limits
from tests.simulation.disk import Disk
from tests.simulation.faults import Drawn, Fault, Listed, meet
from tests.simulation.invariants import Observer, lock_is_held
from tests.simulation.people import PEOPLE
from tests.simulation.wire import (
    Answer,
    Died,
    DirectTransport,
    Lost,
    Serve,
    SimulatedClock,
    Stuck,
    by_value,
    serve,
    way_of,
)
from vmss.core.problem import Problem
from vmss.core.pruning import Prune
from vmss.edges import stop, surroundings
from vmss.edges.settings import Place, Settings
from vmss.edges.surroundings import Surroundings
from vmss.edges.xapi import Xapi
from vmss.passes.request import Request
from vmss.passes.run import run
from vmss.simulator import Simulator
from vmss.simulator.build import vbd_record, vdi_record, vm_record
from vmss.simulator.collector import DOMAIN as COLLECTOR
from vmss.simulator.durations import Durations
from vmss.simulator.storage_manager import DOMAIN as STORAGE

UTC = timezone.utc
GIB = 1 << 30
MIB = 1 << 20
QUARTER = timedelta(minutes=15)
# Calls of one pass, with all that may be tried again in so small a pool.
CALLS_MAX = 30000
ZONES = ("UTC", "Europe/London", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Santiago")
# The instants at which clocks change there, by an hour, by half an hour, and by an hour at midnight.
CHANGES = {
    "Europe/London": (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)),
    "America/New_York": (datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)),
    "Australia/Lord_Howe": (datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    "America/Santiago": (datetime(2026, 4, 5, 3, tzinfo=UTC), datetime(2026, 9, 6, 4, tzinfo=UTC)),
}


class PolicyShape(NamedTuple):
    """A policy to be, and whether it has run before."""

    type: str
    frequency: str
    schedule: Dict[str, str]
    retained: int
    ran: bool


class Shape(NamedTuple):
    """What a world is made of. `vms`: for each the SRs of its disks, whether it runs, its policy (-1: none).
    `steps`: minutes from pass to pass; nothing goes wrong in the first `calm` passes. `start`: when its time begins;
    None: some time in January. `older`: for each VM how many scheduled snapshots it has from before, which may be more
    than its policy keeps. What is `switched` on, by its names (switches.py): beside settings `tags` of each VM, `marks`
    of each of its disks, and `people` who act between passes."""

    zone: str
    srs: Tuple[str, ...]
    vms: Tuple[Tuple[Tuple[int, ...], bool, int], ...]
    policies: Tuple[PolicyShape, ...]
    durations: Durations
    settings: Settings
    steps: Tuple[int, ...]
    calm: int = 0
    hosts: int = 1
    start: Optional[datetime] = None
    older: Tuple[int, ...] = ()
    switched: Tuple[str, ...] = ()
    tags: Tuple[Tuple[str, ...], ...] = ()
    marks: Tuple[Tuple[str, ...], ...] = ()
    people: Tuple[str, ...] = ()


def draw(seed: int) -> Shape:
    """The world of a seed."""
    random = Random("shape %d" % seed)
    srs = tuple(random.choice(("nfs", "ext", "lvm", "lvmoiscsi", "smb")) for _ in range(random.randint(1, 4)))
    policies = tuple(_policy(random) for _ in range(random.randint(1, 3)))
    vms = tuple(
        (
            tuple(random.randrange(len(srs)) for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3)))),
            random.random() < 0.6,
            random.choice([-1] + 5 * list(range(len(policies)))),
        )
        for _ in range(random.randint(1, random.choice((6,) * 9 + (30,))))
    )
    longest = random.choice((0.5, 3.0, 3.0, 60.0, 400.0, 600.0))
    limit = random.choice((60, 600, 3600))
    zone = random.choice(ZONES)
    start = None
    if zone in CHANGES and random.random() < 0.5:
        start = random.choice(CHANGES[zone]) - QUARTER * random.choice((random.randrange(16), random.randrange(120)))
        policies = tuple(_at_night(policy, random) if random.random() < 0.5 else policy for policy in policies)
    return Shape(
        zone=zone,
        srs=srs,
        vms=vms,
        policies=policies,
        durations=Durations(vdi_snapshot=(0.1, longest), vdi_destroy=(0.1, random.choice((0.5, 1.0, longest)))),
        settings=_with_options(
            Settings(
                timezone=zone,
                snapshot_limit=limit,
                checkpoint_limit=2 * limit,
                destroy_limit=limit,
                login_limit=random.choice((0, 60)),
                max_operations=random.choice((1, 3, 64)),
                max_policies=random.choice((1, 100)),
                stop_limit=random.choice((0, 60)),
                waits_per_second=random.choice((1, 1, 5)),
            ),
            seed,
        ),
        steps=tuple(random.choice((1, 15, 15, 30, 60, 60, 60, 120, 1440)) for _ in range(random.randint(3, 9))),
        calm=random.choice((0, 0, 1, 2)),
        hosts=random.choice((1, 1, 2, 3)),
        start=start,
        older=tuple(random.choice((0, 0, 0, 2, 5, 9)) for _ in vms) if random.random() < 0.3 else (),
    )


def _with_options(settings: Settings, seed: int) -> Settings:
    """What an administrator may have switched on, for half of the seeds: guards that refuse what the storage would
    refuse soon, and plain snapshots of VMs that cannot be checkpointed. Drawn apart, so that each world stays as it
    was."""
    random = Random("options %d" % seed)
    return settings._replace(
        checkpoint_fallback=random.choice(("fail", "snapshot")),
        room_reserve=random.choice(("0", "1")),
        chain_limit=random.choice((0, 30)),
    )


def thinning(shape: Shape, seed: int) -> Shape:
    """The same world; in one of four the newest snapshot of each of some days is kept, and not only the newest."""
    random = Random("thinning %d" % seed)  # apart, so that all else is drawn as before
    if random.random() >= 0.25:
        return shape
    keep = "daily:%d" % random.choice((1, 2, 2, 3))
    return shape._replace(settings=shape.settings._replace(keep=keep))


def _policy(random: Random) -> PolicyShape:
    frequency = random.choice(("hourly",) * 6 + ("daily", "weekly"))
    schedule = {"min": random.choice(("0", "15", "30", "45"))}
    if frequency != "hourly":
        schedule["hour"] = str(random.randrange(24))
    if frequency == "weekly":
        schedule["days"] = ",".join(random.sample(("Monday", "Tuesday", "Thursday", "Sunday"), random.randint(1, 3)))
    kind = random.choice(("snapshot",) * 6 + ("checkpoint",) * 2 + ("snapshot_with_quiesce",))
    return PolicyShape(kind, frequency, schedule, random.choice((1, 1, 2, 3)), random.random() < 0.7)


def _at_night(policy: PolicyShape, random: Random) -> PolicyShape:
    """A policy with slots near those hours that clocks skip or show twice."""
    schedule = {"min": random.choice(("0", "15", "30", "45")), "hour": random.choice(("23", "0", "1", "2"))}
    return policy._replace(frequency="daily", schedule=schedule, ran=True)


def _limits(settings: Settings) -> Limits:
    return Limits(
        snapshot=settings.snapshot_limit,
        checkpoint=settings.checkpoint_limit,
        destroy=settings.destroy_limit,
        whole_pass=settings.pass_limit,
        operations=settings.max_operations,
        retries=settings.retries,
    )


@contextmanager
def chance(seed: int) -> Iterator[None]:
    """Let what comes from the machine come from the seed: the names of records, the process's number, the host's."""
    random = Random("machine %d" % seed)
    before = os.urandom, os.getpid, socket.gethostname, time.sleep, stop.install
    in_text = Xapi._by_json
    role = surroundings.POOL_ROLE
    stop._requested = False
    os.urandom = lambda size: bytes(random.getrandbits(8) for _ in range(size))
    os.getpid = lambda: 4711
    socket.gethostname = lambda: "dom0"
    time.sleep = lambda seconds: None  # whoever finds the lock taken looks again in a moment
    stop.install = lambda: None  # signals are this process's, and not that of a command in it
    Xapi._by_json = by_value  # type: ignore[assignment]
    try:
        yield
    finally:
        os.urandom, os.getpid, socket.gethostname, time.sleep, stop.install = before
        Xapi._by_json = in_text  # type: ignore[method-assign]
        surroundings.POOL_ROLE = role
        stop._requested = False


class World:
    """One world. `struck` are the faults that it has met, `history` what happened, in lines."""

    def __init__(self, seed: int, folder: Path, plan: Union[Drawn, Listed], shape: Shape) -> None:
        self.seed = seed
        self.shape = shape
        self.plan = plan
        self.struck: List[Fault] = []
        self.history: List[str] = []
        self.passes = 0
        self.calls = 0
        self.at_peace = False
        self._depth = 0
        self._dead = False
        self._wrong_value: Optional[str] = None  # of the next snapshot that ends
        self._altering: Tuple[str, ...] = ()  # how it has to end for that
        self._left: Dict[Path, bytes] = {}  # the files when the process died
        self._forgotten: List[Path] = []  # lock directories that are gone with their host's memory
        random = Random("start %d" % seed)
        january = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(minutes=15 * random.randrange(4 * 24 * 7))
        start = self.shape.start or january
        self.sim = Simulator(seed=seed, now=start, durations=self.shape.durations)
        self._start = self.sim.kernel.now()
        self.clock = SimulatedClock(self.sim)
        self.srs: List[str] = []
        self.vms: List[str] = []
        self.policies: List[str] = []
        self.hosts: List[str] = []
        self.disks = 0
        self.disk = Disk()
        self._folder = folder
        self._build()
        self.places = {
            host: Place(log=str(folder / ("log%d" % number)), lock_dir=str(folder / ("lock%d" % number)))
            for number, host in enumerate(self.hosts)
        }
        self.here = self.sim.this_host  # where our process runs
        self._transport = DirectTransport(self.sim, self._carry, lambda: self.here, way_of(seed))
        self.observer = Observer(
            self.sim,
            [Path(place.lock_dir) for place in self.places.values()],
            self.shape.zone,
            self.clock.monotonic,
            self.shape.settings.stop_limit,
            _limits(self.shape.settings),
            Allowed(self.sim, self.shape.settings, self.shape.zone, self.clock.monotonic),
        )

    @property
    def place(self) -> Place:
        """What the host has where our process runs."""
        return self.places[self.here]

    # The pool

    def call(self, method: str, *params: Any) -> Any:
        """A call that has to succeed."""
        answer = serve(self.sim, method, list(params))
        if answer["Status"] != "Success":
            raise AssertionError("%s: %s" % (method, answer))
        return answer["Value"]

    def outside(self, method: str, *params: Any) -> Any:
        """What somebody else tries. Return what came of it, None if nothing did."""
        value = None
        with suppress(Lost):
            login = serve(self.sim, "session.login_with_password", ["root", "", "1.0", "somebody"])
            if login["Status"] == "Success":
                value = serve(self.sim, method, [login["Value"], *params]).get("Value")
                if not method.startswith("Async."):  # what was started lives on the session
                    serve(self.sim, "session.logout", [login["Value"]])
        return value

    def attach(self, vm: str, disk: str) -> None:
        """Give a VM one more disk."""
        self.disks += 1
        self.outside("VBD.create", vbd_record(vm, disk, str(100 + self.disks)))

    def disks_of(self, vm: str) -> List[str]:
        """The disks of a VM or snapshot."""
        return [row["VDI"] for row in self.sim.db.tables["VBD"].rows.values() if row["VM"] == vm and row["VDI"] != NULL]

    def _build(self) -> None:
        session = self.call("session.login_with_password", "root", "", "1.0", "build")
        host = self.call("host.get_all", session)[0]
        self.hosts.append(str(host))
        for number in range(2, self.shape.hosts + 1):
            name, uuid = "host%d" % number, "00000000-0000-4000-8000-%012d" % number
            self.hosts.append(self.call("host.create", session, uuid, name, "", name, "192.0.2.%d" % number))
            self.call("host.enable", session, self.hosts[-1])
        for number, kind in enumerate(self.shape.srs):
            config = {"location": "/srv/%d" % number}
            self.srs.append(
                str(
                    self.call(
                        "SR.create",
                        session,
                        host,
                        config,
                        str(1000 * GIB),
                        "sr %d" % number,
                        "",
                        kind,
                        "user",
                        True,
                        {},
                    )
                )
            )
        pool = self.call("pool.get_all", session)[0]
        self.call("pool.set_suspend_image_SR", session, pool, self.srs[-1])
        upgraded: List[str] = []
        for number, policy in enumerate(self.shape.policies):
            quiesced = policy.type == "snapshot_with_quiesce"
            ref = self.call(
                "VMSS.create",
                session,
                {
                    "name_label": "policy %d" % number,
                    "type": "snapshot" if quiesced else policy.type,
                    "frequency": policy.frequency,
                    "schedule": policy.schedule,
                    "retained_snapshots": str(policy.retained),
                },
            )
            if quiesced:  # as an upgrade leaves it: no VM can be given to one any more
                upgraded.append(ref)
            if policy.ran:
                self.call("VMSS.set_last_run_time", session, ref, "20251201T00:00:00Z")
            self.policies.append(str(ref))
        for number, (disks, running, policy_number) in enumerate(self.shape.vms):
            memory = str(256 * MIB)
            vm = self.call(
                "VM.create",
                session,
                vm_record(
                    "vm %d" % number,
                    memory_static_max=memory,
                    memory_dynamic_max=memory,
                    memory_dynamic_min=memory,
                    memory_static_min=memory,
                ),
            )
            for device, sr in enumerate(disks):
                record = vdi_record("disk on sr %d" % sr, self.srs[sr], GIB)
                mark = self.shape.marks[number][device] if self.shape.marks else ""
                if mark.startswith("["):
                    record["name_label"] = "%s %s" % (mark, record["name_label"])
                elif mark:
                    record["other_config"] = {mark: "yes"}
                self.call("VBD.create", session, vbd_record(vm, self.call("VDI.create", session, record), str(device)))
            if running:
                self.call("VM.start", session, vm, False, False)
            if policy_number >= 0:
                self.call("VM.set_snapshot_schedule", session, vm, self.policies[policy_number])
            for tag in sorted(set(self.shape.tags[number])) if self.shape.tags else ():
                self.call("VM.add_tags", session, vm, tag)
            self.vms.append(str(vm))
        self._take_older()
        for policy_ref in upgraded:
            self.sim.db.set("VMSS", policy_ref, "type", "snapshot_with_quiesce")
        self.call("pool.sync_database", session)
        self.call("session.logout", session)

    def _take_older(self) -> None:
        """The scheduled snapshots from before, a day apart: so old that no clock that is set back reaches them."""
        session = self.call("session.login_with_password", "__dom0__vmss", "", "1.0", "build")
        for vm, count in zip(self.vms, self.shape.older):
            for number in range(count):
                snapshot = self.call("VM.snapshot", session, vm, "from before", [])
                time = (self.sim.now() - timedelta(days=300 + number)).replace(microsecond=0)
                self.sim.db.set("VM", snapshot, "snapshot_time", time)
                self.sim.db.set("VM", snapshot, "name_label", "from before %d" % number)
        self.call("session.logout", session)

    # The way of each call

    def _carry(self, method: str, params: List[Any], serve_it: Serve) -> Answer:
        if self._dead:
            raise Died
        if self._depth > 1:
            return self._carry_second(method, params, serve_it)
        self.calls += 1
        if self.calls > CALLS_MAX:
            raise Stuck("the pass has made %d calls" % self.calls)
        number, call = self.passes, self.calls
        fault = None if self.at_peace or number < self.shape.calm else self.plan.at(number, call, method)
        self.observer.asked(method, params)
        served: List[Answer] = []

        def served_now() -> Answer:
            answer = self._altered(serve_it())
            served.append(answer)
            self.observer.answered(method, params, answer)
            return answer

        outcome = "broken"
        try:
            answer = served_now() if fault is None else self._struck(fault, method, params, served_now)
            outcome = str(answer["Status"] if answer["Status"] == "Success" else answer["ErrorDescription"])
            self.observer.heard(method, params, answer)
            return answer
        finally:
            self.note(
                "%d.%d %s %s%s%s"
                % (number, call, method, outcome, " (acted)" if served else "", " <- %s" % fault.kind if fault else "")
            )

    def alter(self, value: str, feigned: bool) -> None:
        """Let the task of the next snapshot that ends tell this value; `feigned`: also if it has failed."""
        self._wrong_value, self._altering = value, ("success", "failure") if feigned else ("success",)

    def _altered(self, answer: Answer) -> Answer:
        """An answer; or what became of it on its way."""
        value = answer.get("Value")
        if self._wrong_value is None or not isinstance(value, dict):
            return answer
        tasks = [event.get("snapshot", {}) for event in value.get("events", ()) if event["class"] == "task"]
        ended = (task for task in tasks if task.get("status") in self._altering)
        task = next((task for task in ended if task["name_label"] in TAKES), None)
        if task is not None:
            task.update(status="success", result=self._wrong_value, error_info=[])
            self._wrong_value = None
        return answer

    def _struck(self, fault: Fault, method: str, params: List[Any], serve_it: Serve) -> Answer:
        self.struck.append(fault)
        try:
            return meet(fault, self, method, params, serve_it)
        except Died:
            # What runs on the way out of the code under test, no dead process would run: from here it reaches nobody,
            # and what it does to files is undone (see _bury).
            self._dead = True
            self._left = self._files()
            raise

    def _carry_second(self, method: str, params: List[Any], serve_it: Serve) -> Answer:
        self.observer.second_asked(method, params)
        answer = serve_it()
        self.note("    second pass: %s" % method)
        return answer

    def note(self, line: str) -> None:
        """One more line of what happened, and when, in seconds."""
        self.history.append("%12.3f %s" % (self.sim.kernel.now() - self._start, line))

    # Passes

    def live(self) -> None:
        """All of it: passes with faults, the end of the faults, two quiet ticks; the invariants after each."""
        with chance(self.seed), self.disk.in_place():
            random, status = Random("hands %d" % self.seed), "0"
            prunes, people = Random("prunes %d" % self.seed), Random("people %d" % self.seed)
            for step in self.shape.steps:
                # After a run that failed somebody may start another by hand, while its operations are under way.
                for person in self.shape.people:
                    PEOPLE[person](self, people)
                self.wait(1 if status[0] != "0" and random.random() < 0.5 else step)
                status = self.tick(random.choice(self.policies) if random.random() < 0.05 else "")
                if prunes.random() < 0.1:
                    self.wait(1)
                    self.tick(prune=True)
            self.calm_down()
            for number, step in enumerate((15, 1440, 75)):
                self.wait(step)
                self.tick()
                if not number:
                    self.observer.check_first()
            self.observer.check_end()
        for domain in ("xapi", "simulator", STORAGE, COLLECTOR):
            self.sim.kernel.kill(domain)  # what still waits would wait for its turn in Python's own garbage collection

    def wait(self, minutes: int) -> None:
        """Until the next tick that is at least so many minutes away; or one minute, for whoever starts it by hand."""
        seconds = (self.sim.now() + timedelta(minutes=max(1, minutes - 14))).timestamp()
        if minutes > 1:
            seconds = (seconds // 900 + 1) * 900
        self.sim.set_time(datetime.fromtimestamp(seconds, UTC))

    def tick(self, policy: str = "", prune: bool = False) -> str:
        """One pass, and the check of what has to hold after it; of one policy, if somebody asks for it, or to delete
        what exceeds retention. Return how it ended."""
        self.calls = self.clock.looks = 0
        self._wrong_value = None
        self.disk.clear()
        stop._requested = False
        self.here = self.sim.this_host  # passes run in dom0 of the coordinator, with its lock and its log
        self._depth += 1
        self.observer.lock_dir = Path(self.place.lock_dir)
        self.observer.begin()
        if prune:
            self.observer.pruned()
        status = self._run(Request(prune=Prune()) if prune else self._request(policy))
        self._depth -= 1
        self.note("pass %d ended: %s" % (self.passes, status))
        self.observer.end(status)
        self.passes += 1
        return status

    def _request(self, policy: str) -> Request:
        if not policy or not self.sim.db.exists("VMSS", policy):
            return Request(kicked=True)
        self.observer.forced()
        return Request(policy=self.sim.db.row("VMSS", policy)["uuid"])

    def _run(self, request: Request) -> str:
        self.show_role()
        around = Surroundings(self.place, self.shape.settings, clock=self.clock, transport=self._transport)
        try:
            return "%d %s" % run(request, around)[:2]
        except Problem as problem:
            text = str(problem).replace(str(self._folder), "")  # which is another each time
            return "%d %s: %s" % (problem.status, type(problem).__name__, text)
        except Died:
            self._bury()
            return "killed"
        except Stuck as stuck:
            self.observer.broken(7, str(stuck))
            return "stuck"
        except Exception as error:  # noqa: BLE001, whatever a pass raises that is no Problem is a bug
            self.observer.broken(6, "the pass ended with %r" % error)
            return "crashed"

    def show_role(self) -> None:
        """Write xapi's file in the dom0 where our process runs: whether that host is the coordinator."""
        path = self._folder / "pool.conf"
        path.write_text("master" if self.here == self.sim.this_host else "slave:192.0.2.1")
        surroundings.POOL_ROLE = str(path)

    def _files(self) -> Dict[Path, bytes]:
        """What the files hold that a pass writes."""
        paths = [Path(place.log) for place in self.places.values()]
        for place in self.places.values():
            paths += sorted(Path(place.lock_dir).glob("*"))
        return {path: path.read_bytes() for path in paths if path.exists()}

    def _bury(self) -> None:
        """Make the files what they were when the process died. They are new ones: so its locks are free, also where
        what runs on the way out did not come to closing them."""
        self._dead = False
        for path in self._files():
            path.unlink()
        for path, content in self._left.items():
            path.write_bytes(content)
            path.chmod(0o600)

        for number, path in enumerate(self._forgotten):
            path.rename(self._folder / ("gone %d %d" % (self.passes, number)))
        self._forgotten = []

    def forget_memory(self) -> None:
        """The host where our process runs is started anew: its lock directory is gone."""
        path = Path(self.place.lock_dir)
        if path.exists() and path not in self._forgotten:
            self._forgotten.append(path)

    def second_pass(self, policy: str) -> None:
        """Another pass, while ours holds the lock or is about to take it."""
        if self._depth > 1:
            return
        here, asked = self.here, stop._requested
        self._depth += 1
        stop._requested = False  # the other process was not told to
        self.here = self.sim.this_host
        self.observer.first_holds_the_lock = lock_is_held(Path(self.place.lock_dir))
        status = self._run(self._request(policy))
        self.here, stop._requested = here, asked
        self.show_role()
        self._depth -= 1
        self.observer.second_ended(status)

    def ask_to_stop(self) -> None:
        """Our process gets a SIGTERM."""
        if self._depth == 1:
            stop._requested = True
            self.observer.asked_to_stop()

    def calm_down(self) -> None:
        """The end of all faults."""
        self.at_peace = True
        # What takes longer than its limit is a fault too.
        self.sim.durations = Durations()
        self.sim.faults.clear()
        self.sim.set_time(self.sim.now() + timedelta(seconds=700))  # xapi may still be away
        for host in self.hosts:
            self.call("simulator.start_host", "", host)
        for sr in self.srs:
            self.call("simulator.fill", "", sr, 0)
        self.call("simulator.restrict", "", "VMSS", False)
        # What hangs ends with xapi; a disk that a dead host had paused is freed by plugging.
        self.call("simulator.restart", "", "clean", 0.0)
        self.observer.peace()
        session = self.call("session.login_with_password", "root", "")
        for pbd in list(self.sim.db.tables["PBD"].rows):
            serve(self.sim, "PBD.unplug", [session, pbd])
            serve(self.sim, "PBD.plug", [session, pbd])
        self.call("session.logout", session)
        self.note("the faults end")


NULL = "OpaqueRef:NULL"
