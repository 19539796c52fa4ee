"""A world of weeks: a pool of up to some thirty VMs under several schedules, its ticks, its troubles and its people."""

import io
import json
import os
import re
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from tests.simulation.conduct import DESTROYS
from tests.simulation.faults import Fault, Listed
from tests.simulation.ledger import Lapse, Ledger, Touch
from tests.simulation.people import PEOPLE
from tests.simulation.troubles import DAY, UNTIL_THE_END, Trouble, begin, draw_troubles
from tests.simulation.wire import Answer, Serve, SimulatedClock
from tests.simulation.world import ZONES, PolicyShape, Shape, World, chance
from vmss.cli.main import main as vmss
from vmss.edges.settings import Settings
from vmss.simulator.collector import DOMAIN as COLLECTOR
from vmss.simulator.durations import Durations
from vmss.simulator.faults import Rule
from vmss.simulator.server import Server
from vmss.simulator.storage_manager import DOMAIN as STORAGE

UTC = timezone.utc
QUARTER = 900
NOTHING = "0 no schedule is due"
# The first and the last days are without new troubles: snapshots have to gather, and what is wrong has to come right.
CALM_BEFORE, CALM_AFTER = DAY, 2 * DAY
# No more ticks in a row are jumped over than this; the one that follows is real, and has to find nothing to do.
JUMPED_MAX = 47
# A tick that has nothing to do makes no more calls than this.
IDLE_CALLS = 8
_STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
# What status says where runs have failed, and nothing else is wrong.
ONLY_A_FAILED_RUN = re.compile("VMSS [A-Z]+: (last run of '[^']*' failed: [^;|]*(; )?)+[|]")
# No world may last so many times as long as it was to.
LONGEST = 3


class WeeksShape(NamedTuple):
    """The pool, for how many quarters of an hour it is watched, and what happens. `vmss status` is asked at the first
    real tick after at most `ask_within` quarters."""

    pool: Shape
    quarters: int
    troubles: Tuple[Trouble, ...]
    ask_within: int = 40


def draw_weeks(seed: int, weeks: float = 0.0) -> WeeksShape:
    """The world of a seed. `weeks`: how long it lasts; 0: so long as it likes."""
    random = Random("weeks %d" % seed)
    srs = tuple(random.choice(("nfs", "ext", "lvm", "lvmoiscsi")) for _ in range(random.randint(2, 4)))
    hourly = random.random() < 0.35
    policies = tuple(_policy(random, hourly and not number) for number in range(random.randint(3, 5)))
    # Few of them run every hour: what they add are calls, and nothing that was not seen with less.
    first = 1 if hourly else 0
    vms = [_vm(random, len(srs), 0) for _ in range(random.randint(1, 3))]
    more = random.randint(3, 9) if random.random() < 0.7 else random.randint(10, 25)
    vms += [_vm(random, len(srs), random.choice([-1] + list(range(first, len(policies))))) for _ in range(more)]
    weeks = weeks or random.choice((1.0,) if hourly else (1.0, 1.5, 2.0))
    quarters = int(weeks * 7 * DAY)
    zone, limit = random.choice(ZONES), random.choice((600, 3600))
    troubles = draw_troubles(random, max(DAY, quarters - CALM_BEFORE - CALM_AFTER), random.choice((0.5, 1.0, 2.0)))
    pool = Shape(
        zone=zone,
        srs=srs,
        vms=tuple(vms),
        policies=policies,
        durations=Durations(),
        settings=Settings(timezone=zone, snapshot_limit=limit, checkpoint_limit=2 * limit, destroy_limit=limit),
        steps=(),
        hosts=random.choice((1, 2, 3)),
        start=datetime(2026, 3, 2, tzinfo=UTC) + timedelta(days=random.randrange(300)),
    )
    return WeeksShape(pool, quarters, tuple(it._replace(at=it.at + CALM_BEFORE) for it in troubles))


def _policy(random: Random, hourly: bool) -> PolicyShape:
    frequency = "hourly" if hourly else random.choice(("daily", "daily", "weekly"))
    schedule = {"min": random.choice(("0", "15", "30", "45"))}
    if frequency != "hourly":
        schedule["hour"] = str(random.randrange(24))
    if frequency == "weekly":
        days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
        schedule["days"] = ",".join(random.sample(days, random.randint(1, 3)))
    kind = random.choice(("snapshot",) * 4 + ("checkpoint",))
    return PolicyShape(kind, frequency, schedule, random.choice((1, 2, 3, 5)), True)


def _vm(random: Random, srs: int, policy: int) -> Tuple[Tuple[int, ...], bool, int]:
    disks = random.choice((0, 1, 1, 1, 1, 1, 1, 2))
    first = random.randrange(srs)
    both = first if random.random() < 0.7 else random.randrange(srs)
    return (first, both)[:disks], random.random() < 0.6, policy


def _as_file(settings: Settings) -> str:
    """The configuration file of these settings, as far as they are not the defaults."""
    ordinary, lines = Settings(), ["[vmss]"]
    for name, value in settings._asdict().items():
        if name != "schedules" and value != getattr(ordinary, name):
            lines.append(_as_line(name, value))
    for one in settings.schedules:
        lines.append("[vmss:%s]" % one.schedule)
        lines += [_as_line(name, value) for name, value in one.values]
    return "\n".join(lines) + "\n"


def _as_line(name: str, value: Any) -> str:
    return "%s = %s" % (name, {True: "yes", False: "no"}[value] if isinstance(value, bool) else value)


class _Strikes(Listed):
    """Faults that wait for a call of a certain number in any pass."""

    def __init__(self) -> None:
        Listed.__init__(self, [])
        self.waiting: List[Tuple[int, str, int]] = []

    def at(self, number: int, call: int, method: str) -> Optional[Fault]:
        for strike in self.waiting:
            if strike[0] == call:
                self.waiting.remove(strike)
                return Fault(number, call, strike[1], strike[2])
        return None


class _Interrupted(BaseException):
    """Somebody presses Ctrl-C."""


class _Impatient(SimulatedClock):
    """The clock of a command whose user does not wait."""

    def sleep(self, seconds: float) -> None:
        raise _Interrupted


class Asked(NamedTuple):
    """A run that somebody asked a pass for that was at work: the policy, and when."""

    policy: str
    at: datetime


class Weeks(World):
    """One world of weeks. `lapses` are what the checks of time found; `observer` has those of each pass."""

    def __init__(self, seed: int, folder: Path, shape: WeeksShape) -> None:
        self.strikes = _Strikes()
        self._waiting = sorted(shape.troubles, reverse=True)
        self._going: List[Tuple[int, Any, Iterator[Touch]]] = []  # when each ends, its account, and what ends it
        self._rules: List[Tuple[Any, float]] = []  # the simulator's rules that are in force, and until when
        self.weeks = shape
        World.__init__(self, seed, folder, self.strikes, shape.pool)
        limits = shape.pool.settings
        self.ledger = Ledger(
            self.sim, shape.pool.zone, limits.snapshot_limit, limits.checkpoint_limit, self.observer.allowed
        )
        self.ticks = self.jumped = self.asked_status = 0
        self._steady_start = self._start
        self._socket = str(folder / "xapi")
        self._config = folder / "vmss.conf"
        self._config.write_text(_as_file(limits))
        self._people = Random("people %d" % seed)
        self._acted = 0.0  # the quarter in which people last acted
        self._chance = Random("hands %d" % seed)
        self._whim = Random("asked %d" % seed)
        self._ended = ""  # how the last tick ended
        self._ticked = self.sim.now()
        self._owes = self._stirred = True
        self._row = 0  # ticks that were jumped over since the last real one
        self._next_quarter = self._ask_at = 0.0
        self._clocks: Dict[str, float] = {}  # hosts whose clocks are wrong, and by how many seconds
        self._shown = 0.0  # by how many the coordinator's is, by which the pool goes
        self._wrong: Any = None  # the account of that
        self._to_ask: List[Tuple[int, str]] = []  # runs to ask a pass for when it makes so many calls, and of what
        self._asked: List[Asked] = []  # of the pass that is at work
        self._inside = False  # what happens between two calls of a pass is under way

    # The pool, for whoever does something to it

    def row(self, cls: str, ref: str) -> Dict[str, Any]:
        """The row of an object."""
        return dict(self.sim.db.row(cls, ref))

    def living(self) -> List[str]:
        """The VMs that there still are."""
        return [vm for vm in self.vms if self.sim.db.exists("VM", vm)]

    def snapshots_of(self, vm: str) -> List[str]:
        """The scheduled snapshots of a VM, the oldest first."""
        rows = self.ledger.snapshots().get(vm, {})
        return sorted(rows, key=lambda ref: (rows[ref]["snapshot_time"], ref))

    def some_vm(self, random: Random, scheduled: bool = False) -> Optional[str]:
        """A VM; one that has scheduled snapshots, if asked for."""
        vms = [vm for vm in self.living() if not scheduled or self.snapshots_of(vm)]
        return random.choice(vms) if vms else None

    def remove(self, vm: str) -> None:
        """Delete a VM with its disks, and all of its snapshots with theirs."""
        gone = [ref for ref, row in self.sim.db.tables["VM"].rows.items() if row["snapshot_of"] == vm]
        self.ledger.people_deleted(set(gone))
        self.outside("VM.hard_shutdown", vm)
        for each in gone + [vm]:
            disks = self.disks_of(each) + [self.sim.db.row("VM", each)["suspend_VDI"]]
            self.outside("VM.destroy", each)
            for disk in disks:
                self.outside("VDI.destroy", disk)

    def rule(self, rule: Rule, seconds: float = 0.0) -> Any:
        """Put a rule of the simulator in force, which lasts so many seconds."""
        self.sim.faults.add(rule)
        active = self.sim.faults.active[-1]
        if rule.seconds == UNTIL_THE_END:
            self._rules.append((active, self.clock.monotonic() + seconds))
            self._delay()
        return active

    def forget(self, rules: Sequence[Any]) -> None:
        """End these rules."""
        for active in rules:
            if active in self.sim.faults.active:
                self.sim.faults.active.remove(active)
        self._rules = [it for it in self._rules if it[0] not in rules]

    def _delay(self) -> None:
        """Let what begins now end with the trouble that delays it."""
        for active, until in self._rules:
            active.rule = active.rule._replace(seconds=max(1.0, until - self.clock.monotonic()))

    def see_that_it_stays(self) -> None:
        """What somebody has put right may not be wrong again because xapi dies and forgets it: nobody would know."""
        self.outside("pool.sync_database")

    def restart(self, way: str, seconds: float, successor: str = "") -> None:
        """xapi ends and starts again, on another host perhaps."""
        if successor:
            self.call("simulator.fail_over", "", successor, way, seconds)
        else:
            self.call("simulator.restart", "", way, seconds)
        self.observer.restarted()
        self.ledger.accept_restart()
        self._show_clocks()

    def set_host_clock(self, host: str, seconds: float) -> None:
        """The clock of a host goes wrong by so many seconds; 0: somebody has put it right."""
        self._clocks[host] = seconds
        self._show_clocks()
        if not self._depth and self.sim.hosts.is_up(self.sim.this_host):
            self._check_clocks()

    def _show_clocks(self) -> None:
        """The pool goes by the clock of whichever host is the coordinator."""
        wrong = self._clocks.get(self.sim.this_host, 0.0)
        if wrong != self._shown:
            self.set_clock(wrong - self._shown)
            self._shown = wrong
        for host in self.hosts:
            self.call("simulator.set_host_clock", "", host, self._clocks.get(host, 0.0) - wrong)
        if wrong and self._wrong is None:
            self._wrong = self.ledger.trouble_begins(Touch(everybody=True))
        elif not wrong and self._wrong is not None:
            self.ledger.trouble_ends(self._wrong)
            self._wrong = None

    def _check_clocks(self) -> None:
        """`vmss doctor` names the hosts, and no others, whose clocks are not the coordinator's."""
        _, text = self.command("doctor")
        named = set(re.findall("the clock of host '([^']*)' is", text))
        alive = [host for host in self.hosts if self.sim.hosts.is_up(host)]
        wrong = {host for host in alive if abs(self._clocks.get(host, 0.0) - self._shown) > 60}
        names = {self.row("host", host)["name_label"] for host in wrong}
        self._check(
            "14 clocks", named == names, "doctor names clocks of %s, not of %s" % (sorted(named), sorted(names))
        )

    def strike_at(self, call: int, kind: str) -> None:
        """Let a fault strike the next pass that makes so many calls."""
        self.strikes.waiting.append((call, kind, self._chance.getrandbits(32)))

    def set_clock(self, seconds: float) -> None:
        """Somebody, or the network, sets the clock."""
        self.clock.step(seconds)
        self.ledger.clock_was_set(seconds)
        if seconds < 0:
            self.observer.clock_was_set_back()
        self._ticked = self.sim.now()

    def run_by_hand(self, policy: str) -> None:
        """Somebody asks for a run of a schedule, on the coordinator."""
        if self._depth:
            self.second_pass(policy)
        elif self.sim.hosts.is_up(self.sim.this_host):
            self._ended = self.tick(policy)
            self.ledger.look()

    def ask_meanwhile(self, call: int, policy: str) -> None:
        """Let somebody ask the next pass that makes so many calls for a run of a policy."""
        self._to_ask.append((call, policy))

    def _ask_pass(self, policy: str) -> None:
        """Ask the pass that is at work for a run, as `vmss run --policy` does, and do not wait for its end."""
        clock, here, at = self.clock, self.here, self.sim.now()
        self.clock = _Impatient(self.sim)
        try:
            self.second_pass(policy)
            self.note("asked for a run, which is refused")
        except _Interrupted:
            self._depth -= 1
            self.here = here
            self._asked.append(Asked(policy, at))
            self.note("asked for a run of %s" % self.row("VMSS", policy)["name_label"])
        finally:
            self.clock = clock

    def prune_by_hand(self) -> None:
        """Somebody gives `vmss prune` on the coordinator. While a pass is at work it is refused."""
        if self._depth or not self.sim.hosts.is_up(self.sim.this_host):
            return
        before = {vm: dict(rows) for vm, rows in self.ledger.snapshots().items()}
        self._ended = self.tick(prune=True)
        self.ledger.pruned(before, whole=self._ended.startswith("0"))

    # The way of each call

    def _carry(self, method: str, params: List[Any], serve_it: Serve) -> Answer:
        if self._depth == 1 and not self._inside and not self._dead and self.sim.kernel.now() >= self._next_quarter:
            self._inside = True
            self._between_calls()
            self._inside = False
        if self._depth == 1 and not self._inside and not self._dead:
            for call, policy in [it for it in self._to_ask if it[0] == self.calls]:
                self._to_ask.remove((call, policy))
                self._inside = True
                self._ask_pass(policy)
                self._inside = False
        if method in DESTROYS and self._depth == 1 and not self._dead:
            self.ledger.tried(str(params[1]))
        return World._carry(self, method, params, serve_it)

    def _struck(self, fault: Fault, method: str, params: List[Any], serve_it: Serve) -> Answer:
        self.ledger.trouble_ends(self.ledger.trouble_begins(Touch(everybody=True)))
        try:
            return World._struck(self, fault, method, params, serve_it)
        finally:
            self.ledger.trouble_ends(self.ledger.trouble_begins(Touch(everybody=True)))
            if fault.kind.startswith("xapi_"):
                self.ledger.accept_restart()

    def _between_calls(self) -> None:
        """A quarter of an hour has begun while a pass is under way: cron starts another, and life goes on."""
        before = self.observer.about_to_change()
        self._happen()
        self.observer.others_acted(before)
        self.second_pass("")
        self._after_tick()
        self._next_quarter = self._following()

    # The course of time

    def live(self) -> None:
        """All of it."""
        with chance(self.seed), self.disk.in_place(), Server(self.sim, socket=self._socket):
            self.ledger.look()
            while self._quarters() < self.weeks.quarters * LONGEST:
                if self._quarters() >= self.weeks.quarters and not self._going and not self._waiting:
                    break
                self._step()
            self._row = JUMPED_MAX  # the last tick is a real one
            self._step()
            self.observer.check_left()
            unassigned = list(self.observer.allowed.unassigned())
            self._check("1 assigned", not unassigned, "on no schedule, whatever their tags say: %s" % unassigned)
            self._ask()
        for domain in ("xapi", "simulator", STORAGE, COLLECTOR):
            self.sim.kernel.kill(domain)  # what still waits would wait for its turn in Python's own garbage collection

    def _quarters(self) -> float:
        return (self.clock.monotonic() - self._steady_start) / QUARTER

    def _following(self) -> float:
        return (self.sim.kernel.now() // QUARTER + 1) * QUARTER

    def _step(self) -> None:
        """The next quarter of an hour: a tick, or one that is jumped over because it would find nothing to do."""
        self.clock.looks = 0
        self.sim.set_time(datetime.fromtimestamp(self._following(), UTC))
        self._happen()
        now = self.sim.now()
        could = self._could_jump(now)
        if could and self._row < JUMPED_MAX:
            self._row += 1
            self.jumped += 1
            if self.ledger.pending:
                self.ledger.look()
            return
        self._next_quarter = self._following()
        self._rotate()
        self._ended = self.tick()
        self.ticks += 1
        self._ticked, self._stirred = now, False
        if could and self._ended != NOTHING:
            self.ledger.lapses.append(
                Lapse("jump", "%s: a tick that others like it were jumped over: %s" % (now, self._ended))
            )
        self._after_tick(could)
        self._row = 0

    def _could_jump(self, now: datetime) -> bool:
        """Whether a tick would do what the last real one did: nothing, and nothing has happened since."""
        if self._stirred or self._owes or self._ended != NOTHING:
            return False
        if any(call <= IDLE_CALLS for call, _, _ in self.strikes.waiting):
            return False
        if self._row == 0 and self._is_something_noted():
            return False
        return not self.ledger.slot_since(self._ticked, now)

    def _is_something_noted(self) -> bool:
        """Whether passes have left word for later ones, which may wait for its time."""
        return any(path.suffix not in (".lock", ".turn") for path in Path(self.place.lock_dir).glob("*"))

    def _rotate(self) -> None:
        """Begin a new log each day, as logrotate does; commands read only the end of it."""
        for place in self.places.values():
            log = Path(place.log)
            if log.exists() and log.stat().st_size > 30000:
                log.rename(str(log) + ".1")

    def _look_at_answers(self) -> None:
        """What a pass says that it has done for who asked it meanwhile."""
        asked, self._asked = self._asked, []
        answers: List[Any] = []
        for path in Path(self.place.lock_dir).glob("*.answers"):
            answers += [answer for answer in json.loads(path.read_text()).values() if answer]
            path.unlink()  # nobody reads them any more
        if len(asked) == len(answers) == 1:  # which is whose they do not say
            self.ledger.served_by_hand(asked[0].policy, asked[0].at, int(answers[0]["status"]))

    def _after_tick(self, certainly: bool = False) -> None:
        if not self._depth:
            self._look_at_answers()
        self.ledger.look()
        self._owes = self.ledger.owes()
        if certainly or self._quarters() >= self._ask_at:
            self._ask()
            self._ask_at = self._quarters() + self._whim.randint(1, self.weeks.ask_within)
        for vm in self.ledger.lost_vms():  # somebody notices that it is down
            self.outside("VM.resume", vm, False, False)
            self.ledger.accept(vm)

    # What happens

    def _happen(self) -> None:
        """End and begin the troubles whose time has come."""
        quarters = self._quarters()
        for going in [it for it in self._going if it[0] <= quarters]:
            self._going.remove(going)
            self.note("%s ends" % str(going[1][0]))
            next(going[2], None)
            self.ledger.trouble_ends(going[1][1])
            self._stirred = True
        while self._waiting and self._waiting[-1].at <= quarters:
            self._begin(self._waiting.pop())
        if self.weeks.pool.people and quarters >= self._acted + DAY / 2 and not self._depth:
            self._acted = quarters
            for person in self.weeks.pool.people:
                PEOPLE[person](self, self._people)
            self._stirred = True
        self._delay()

    def _begin(self, trouble: Trouble) -> None:
        if not self.sim.hosts.is_up(self.sim.this_host):
            return  # nobody can do anything, and nothing worse can happen
        left = {what for _, what in self.ledger.left()}
        begun = begin(self, trouble)
        if trouble.kind in ("vm_comes", "vm_goes", "vm_reverted"):
            self.ledger.people_left(left)
        self.note("%s begins%s" % (str(trouble), "" if begun else " for nobody"))
        if begun is not None:
            touch, going = begun
            self._going.append((trouble.at + trouble.lasts, (trouble, self.ledger.trouble_begins(touch)), going))
            self._stirred = True

    # What `vmss status` says

    def _ask(self) -> None:
        """Ask the real command, over the socket, and compare what it says with the account."""
        if not self.sim.hosts.is_up(self.sim.this_host):
            return
        self.asked_status += 1
        verdict = self.ledger.verdict()
        code, text = self.command("status")
        code, text = self._without_room(code, text)
        line = text.splitlines()[0] if text else "nothing"
        if verdict.broken:
            self._check("11 told", code != 0, "status is OK, but %s" % "; ".join(verdict.broken[:3]))
        elif verdict.left:
            self._check("11 left told", code != 0, "status is OK, but %s" % "; ".join(verdict.left[:3]))
        elif verdict.well:
            check = "11 made good" if ONLY_A_FAILED_RUN.match(line) else "11 calm"
            self._check(check, code == 0, "all is well, but status says %s" % line)
        given_up = bool(verdict.missing) and self.ledger.given_up(verdict.missing) and self.ledger.untroubled()
        if code and given_up and not self._depth:
            self._try_remedies(verdict.missing, text)

    def uncoalesced(self) -> Set[str]:
        """The names of the storage repositories where images wait to be coalesced, by the records that xapi has: what a
        dying xapi has left without one can keep an image from it, and only a scan, which status names, shows that."""
        names = set()
        manager = self.sim.storage.manager
        for sr, row in self.sim.db.tables["SR"].rows.items():
            images = manager.repository(sr).images
            merged = {image.parent for image in images.values() if image.hidden and image.parent is not None}
            known = ([it for it in images[parent].children if manager.vdi(it)] for parent in merged)
            if any(len(children) == 1 and images[children[0]].hidden for children in known):
                names.add(str(row["name_label"]))
        return names

    def _without_room(self, code: int, text: str) -> Tuple[int, str]:
        """What status says, without what it says of storage repositories that are nearly full or do not coalesce: that
        breaks no promise yet. It is so said as it is."""
        srs = [row for row in self.sim.db.tables["SR"].rows.values() if row["type"] not in ("iso", "udev")]
        full = {row["name_label"] for row in srs if row["physical_utilisation"] >= 0.9 * row["physical_size"] > 0}
        told = set(re.findall(r"(?m)^(?:WARNING|CRITICAL): storage: the storage repository '([^']*)' is", text))
        if "\nOK: licence" in text or told:  # else there was no session
            self._check("11 room", told == full, "nearly full are %s, but status says %s" % (full, told))
        idle = set(re.findall(r"(?m)^WARNING: chains: the storage repository '([^']*)' has coalesced nothing", text))
        self._check("11 chains", idle <= self.uncoalesced(), "nothing waits on %s, but status says so" % idle)
        if not told and not idle:
            return code, text
        said = r"(?:; )?the storage repository '[^']*' (?:is [0-9]+ % full|has coalesced nothing for [0-9a-z ]*)"
        first, *others = re.sub(said, "", text).splitlines()
        of_storage = ("WARNING: storage", "CRITICAL: storage", "WARNING: chains")
        others = [line for line in others if not line.startswith(of_storage)]
        states = {line.partition(":")[0] for line in others} & set(_STATES)
        code = max((_STATES.index(state) for state in states), default=0)
        first = re.sub(r"^VMSS [A-Z]+: (?:; )?", "VMSS %s: " % _STATES[code], first)
        return code, "\n".join([first] + others)

    def _check(self, check: str, holds: bool, text: str) -> None:
        self.ledger.asked[check] = self.ledger.asked.get(check, 0) + 1
        if not holds:
            self.ledger.lapses.append(Lapse(check, "%s: %s" % (self.sim.now().strftime("%a %d %b %H:%M"), text)))

    def _try_remedies(self, missing: List[str], text: str) -> None:
        """Give the commands that status names as remedies for VMs without a snapshot: they have one afterwards, and no
        other VM has lost any that its schedule keeps."""
        before = self.ledger.snapshots()
        spare = self.ledger.surplus()  # a run by hand tries at once to delete what could not be deleted
        served = set(before) - set(missing) - self.ledger.newcomers()
        commands = sorted(set(re.findall(r"vmss (run --policy [0-9a-f-]{36}(?: --missing)?)", text)))
        self._check(
            "16 named", bool(commands), "status names no remedy for VMs without a snapshot: %s" % text.splitlines()[0]
        )
        for words in commands:
            self.observer.forced()
            self.command(*words.split())
        if commands:
            after = self.ledger.snapshots()
            still = [vm for vm in missing if set(after.get(vm, {})) <= set(before.get(vm, {}))]
            self._check("16 mends", not still, "VMs that have no new snapshot after %s: %d" % (commands, len(still)))
            poorer = [vm for vm in served if set(before[vm]) - set(after.get(vm, {})) - spare]
            self._check("16 costs nothing", not poorer, "VMs that lost a snapshot by %s: %d" % (commands, len(poorer)))
            self.ledger.people_deleted({ref for vm in before for ref in set(before[vm]) - set(after.get(vm, {}))})
        self._stirred = True

    def command(self, *words: str) -> Tuple[int, str]:
        """A command, as somebody in dom0 of the coordinator gives it: its exit status and its output."""
        place = self.places[self.sim.this_host]
        wanted = {
            "VMSS_XAPI": "unix:" + self._socket,
            "VMSS_CONFIG": str(self._config),
            "VMSS_LOG": place.log,
            "VMSS_LOCK_DIR": place.lock_dir,
        }
        before = dict(os.environ)
        os.environ.update(wanted)
        out = io.StringIO()
        try:
            with redirect_stdout(out), redirect_stderr(out):
                code = vmss(list(words))
        except Exception as error:  # noqa: BLE001, whatever a command raises is a bug
            self.ledger.lapses.append(Lapse("crash", "vmss %s: %r" % (" ".join(words), error)))
            code = -1
        finally:
            os.environ.clear()
            os.environ.update(before)
        self.note("vmss %s: %d %s" % (" ".join(words), code, out.getvalue().splitlines()[:1]))
        return code, out.getvalue()
