"""The demo: a simulated pool in virtual time, told day by day, through the real client and a real socket."""

import os
import shutil
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List, NamedTuple, Sequence, TextIO

from vmss.core import frequencies, words
from vmss.core.datetimes import format_datetime, local, parse_datetime
from vmss.core.schedule import TICK_INTERVAL
from vmss.core.served import Served
from vmss.edges.clock import Clock
from vmss.edges.settings import Place, Settings
from vmss.edges.surroundings import Surroundings
from vmss.edges.xapi import Xapi
from vmss.edges.zones import time_zone
from vmss.passes.request import Request
from vmss.passes.run import run
from vmss.simulator import Simulator
from vmss.simulator.build import build_pool
from vmss.simulator.server import Server

UTC = timezone.utc

# The week in which British clocks go forward: on its Sunday, the seventh day, there is no 01:30.
ZONE = "Europe/London"
FIRST_DAY = datetime(2026, 3, 23, tzinfo=UTC)
BLOCKED_DAY = 3


class _Plan(NamedTuple):
    name: str
    type: str
    frequency: str
    schedule: Dict[str, str]
    retained: int

    def __str__(self) -> str:
        when = frequencies.read(self.frequency, self.schedule).in_words()
        return "%-8s %-11s %-35s newest %d kept" % (self.name, self.type, when, self.retained)


_PLANS = (
    _Plan("hourly", "snapshot", "hourly", {"min": "45"}, 5),
    _Plan("nightly", "snapshot", "daily", {"hour": "1", "min": "30"}, 3),
    _Plan("memory", "checkpoint", "weekly", {"hour": "4", "min": "0", "days": "Wednesday,Saturday"}, 1),
)


_NEXT_STEP = """
To try every command by hand, on a simulated pool of your own (docs/guide.md), in one shell:
  mkdir -p my_pool && %(vmss)s simulator --socket my_pool/xapi.sock --hosts 2 --srs 4 --vms 20
and in another:
  VMSS_XAPI=unix:my_pool/xapi.sock %(vmss)s list"""


def _command() -> str:
    """How the command that is running can be called again: a virtual environment that is not entered is in no PATH."""
    path = sys.argv[0]
    return path if os.path.basename(path) == "vmss" and shutil.which("vmss") is None else "vmss"


class VirtualClock(Clock):
    """The clock of a simulated pool; sleeping advances it."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def now(self) -> datetime:
        return self._simulator.now()

    def monotonic(self) -> float:
        return self._simulator.now().timestamp()

    def sleep(self, seconds: float) -> None:
        self._simulator.set_time(self.now() + timedelta(seconds=max(0.0, seconds)))


def demo(days: int, vms: int, out: TextIO) -> int:
    """Given the number of days and of VMs, tell the story of a pool to `out`. Return the exit status."""
    simulator = Simulator(seed=1, now=FIRST_DAY, clock="virtual")
    with tempfile.TemporaryDirectory(prefix="vmss_demo_") as folder:
        # An underscore in the path, which the client's own unix transport could not carry.
        socket = os.path.join(folder, "xapi_of_the_demo.sock")
        place = Place("unix:" + socket, log=os.path.join(folder, "VMSSlog"), lock_dir=os.path.join(folder, "lock"))
        clock = VirtualClock(simulator)
        around = Surroundings(place, Settings(timezone=ZONE), clock=clock)
        with Server(simulator, socket=socket):
            xapi = Xapi(place.xapi)
            xapi.login("root", "")
            _Story(xapi, around, clock, out).tell(days, vms)
            xapi.logout()
            xapi.close()
    return 0


class _Story:
    """The pool, the runs of each day, the snapshots that are kept in the end, and the log."""

    def __init__(self, xapi: Xapi, around: Surroundings, clock: Clock, out: TextIO) -> None:
        self.xapi = xapi
        self.clock = clock
        self.around = around
        self.zone = time_zone(ZONE)
        self.out = out
        self.names: Dict[str, str] = {}  # of the VMs, by reference
        self.log_start = 0  # where the last pass that took a snapshot begins in the log

    def tell(self, days: int, vms: int) -> None:
        """Tell all of it."""
        self.build(vms)
        for number in range(days):
            if number == BLOCKED_DAY:
                self.block("copied to new storage, back tomorrow")
            self.day(FIRST_DAY + timedelta(days=number))
            if number == BLOCKED_DAY:
                self.unblock()
        self.what_is_kept()
        self.print("\nWhat /var/log/VMSSlog holds of the last pass that took a snapshot:")
        with open(self.around.place.log, encoding="utf-8") as log:
            log.seek(self.log_start)
            for line in log:
                self.print("  " + line.rstrip())
                if "Completed processing policy" in line:
                    break
        self.print(_NEXT_STEP % {"vmss": _command()})

    # The pool

    def build(self, vms: int) -> None:
        """Build the pool and its policies through the API."""
        pool = build_pool(self.call_with_session, hosts=2, srs=2, vms=vms, disks=2, seed=1)
        self.xapi.call("pool.set_suspend_image_SR", self.xapi.call("pool.get_all")[0], pool.srs[1])
        self.names = {ref: str(self.xapi.call("VM.get_name_label", ref)) for ref in pool.vms}
        self.print("A pool of 2 hosts, 2 storage repositories and %s with two disks each." % words.counted(vms, "VM"))
        self.print("Its snapshot schedules, in the coordinator's time (%s):\n" % ZONE)
        for number, plan in enumerate(_PLANS):
            self.schedule(plan, pool.vms[number :: len(_PLANS)])
        self.print("")

    def call_with_session(self, method: str, *params: Any) -> Any:
        """Make a call for the simulator's builder, which would log in and pass its own session: it gets ours."""
        return self.xapi.session if method.startswith("session.login") else self.xapi.call(method, *params[1:])

    def schedule(self, plan: _Plan, vms: Sequence[str]) -> None:
        """Create one policy for these VMs."""
        policy = self.xapi.call(
            "VMSS.create",
            {
                "name_label": plan.name,
                "type": plan.type,
                "frequency": plan.frequency,
                "schedule": plan.schedule,
                "retained_snapshots": str(plan.retained),
            },
        )
        for vm in vms:
            self.xapi.call("VM.set_snapshot_schedule", vm, policy)
        self.print("  %s   %s" % (plan, ", ".join(self.names[vm] for vm in vms) or "(no VM)"))

    # The days

    def day(self, date: datetime) -> None:
        """All ticks of one day of the wall clock, and their runs."""
        served: List[Served] = []
        instant = date.replace(tzinfo=self.zone).astimezone(UTC)
        while instant.astimezone(self.zone).date() == date.date():
            served.extend(self.tick(instant))
            instant += TICK_INTERVAL
        for name in (plan.name for plan in _PLANS):
            runs = [run_ for run_ in served if run_.turn.policy.name == name]
            taken, deleted = sum(run_.taken for run_ in runs), sum(run_.deleted for run_ in runs)
            if runs:
                self.print(
                    "%s  %-8s %2d %-4s  %3d %-3s snapshotted, %3d expired %s deleted%s"
                    % (
                        date.strftime("%a %d %b"),
                        name,
                        len(runs),
                        words.plural(len(runs), "run"),
                        taken,
                        words.plural(taken, "VM"),
                        deleted,
                        words.plural(deleted, "snapshot"),
                        self.moved(runs[0]) if len(runs) == 1 else "",
                    )
                )
        for failed in [run_ for run_ in served if run_.victims][:1]:
            self.alert(failed)

    def tick(self, instant: datetime) -> Sequence[Served]:
        """One start by cron."""
        if instant > self.clock.now():  # a pass may have taken longer than to the next tick
            self.xapi.call("simulator.set_time", format_datetime(instant))
        before = os.path.getsize(self.around.place.log) if os.path.exists(self.around.place.log) else 0
        report = run(Request(kicked=True), self.around)
        if report.served:
            self.log_start = before
        return report.served

    def moved(self, run_: Served) -> str:
        """A remark if the change of the clock has moved the slot."""
        at, schedule = run_.turn.slot.astimezone(self.zone), run_.turn.policy.schedule
        if (at.hour, at.minute) == (schedule.hour, schedule.minute):
            return ""
        return "   (no %02d:%02d today: served at %s)" % (schedule.hour, schedule.minute, at.strftime("%H:%M"))

    def alert(self, failed: Served) -> None:
        """The alert of a failed run, as an administrator sees it."""
        since = format_datetime(failed.started - TICK_INTERVAL)
        for record in self.xapi.call("message.get", "VMSS", failed.turn.policy.uuid, since).values():
            if record["name"] == "VMSS_SNAPSHOT_FAILED":
                self.print(
                    "    alert: %s, priority %s, %s"
                    % (record["name"], record["priority"], local(parse_datetime(record["timestamp"]), self.zone))
                )
                for line in str(record["body"]).splitlines():
                    self.print("      | " + line)
                return

    def block(self, reason: str) -> None:
        """An administrator keeps one VM from being snapshotted for a day."""
        vm = list(self.names)[1 % len(self.names)]
        self.xapi.call("VM.add_to_blocked_operations", vm, "snapshot", reason)
        self.print("    (an administrator blocks snapshots of %s for a day: %s)" % (self.names[vm], reason))

    def unblock(self) -> None:
        """The administrator removes the block."""
        vm = list(self.names)[1 % len(self.names)]
        self.xapi.call("VM.remove_from_blocked_operations", vm, "snapshot")

    # The end

    def what_is_kept(self) -> None:
        """The scheduled snapshots of each VM, and the number of their disks."""
        self.print("\nWhat is kept in the end:")
        for vm, name in self.names.items():
            records = [self.xapi.call("VM.get_record", ref) for ref in self.xapi.call("VM.get_snapshots", vm)]
            times = sorted(parse_datetime(record["snapshot_time"]).astimezone(self.zone) for record in records)
            self.print("  %-8s %s" % (name, ", ".join(time.strftime("%a %H:%M") for time in times) or "nothing"))
        disks = [record for record in self.xapi.call("VDI.get_all_records").values() if record["is_a_snapshot"]]
        self.print(
            "  These snapshots have %d disks; disks of deleted snapshots that were left behind: %d"
            % (
                sum(bool(record["VBDs"]) for record in disks),
                sum(not record["VBDs"] and record["type"] != "suspend" for record in disks),
            )
        )

    def print(self, text: str) -> None:
        """Print one line of the story."""
        print(text, file=self.out, flush=True)
