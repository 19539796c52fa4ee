"""Passes whose server gives hostile answers, over all calls of a pass; and the truth afterwards."""

import threading
from collections import Counter
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from tests.front import Front, Lose
from tests.pool import TestPool
from tests.proof.lies import CHANGES, KINDS, told
from tests.proof.rounds import FAILURES_MAX, Proof, play
from tests.test_hostile import LONG_AGO, Estate, check_alerts, check_log, estate, one_line_or_report, untouched
from tests.test_killed import start
from vmss.core import messages
from vmss.core.datetimes import format_datetime
from vmss.core.records import AT_WORK
from vmss.passes.journal import PREFIX

# A pass of so small a pool makes no more calls than this; one that does goes round and round.
CALLS_MAX = 3000
# In the pool's time: the limit of an operation and that of its cancellation, twice, and what a late answer costs.
PASS_MAX = timedelta(hours=5)
QUARTER = timedelta(minutes=15)
LIMITS: Dict[str, Any] = {"snapshot_limit": 600, "checkpoint_limit": 600, "destroy_limit": 600, "cancel_limit": 10}
# The same for a process, in seconds, with the sum of what it may wait for.
SHORT = {"snapshot_limit": 10, "checkpoint_limit": 10, "destroy_limit": 10, "cancel_limit": 1}
PROCESS_MAX_S = 100
# In seconds, while lies are told: an answer that does not come costs as much. An honest one is waited for as ever, for
# who knows what else the machine does.
CALL_LIMIT = 1


class Ground(NamedTuple):
    """An estate with a checkpoint policy beside its own, and the VMs of both."""

    here: Estate
    policies: Tuple[str, str]
    vms: Tuple[str, ...]


@contextmanager
def ground() -> Iterator[Ground]:
    """It is the second of a slot at which both policies are due, and each VM has a snapshot that expires."""
    with estate() as here:
        pool = here.pool
        vm = pool.vm("three", [pool.call("SR.get_by_name_label", "sr")[0]], running=True)
        memory = pool.policy([vm], name="memory", type="checkpoint", retained_snapshots="1")
        pool.call("VMSS.set_last_run_time", memory, LONG_AGO)
        here.foreign["VM"].append(vm)
        here.foreign["VDI"] += [pool.call("VBD.get_VDI", vbd) for vbd in pool.call("VM.get_VBDs", vm)]
        assert pool.tick().status == 0
        pool.settings = pool.settings._replace(**LIMITS)
        pool.at(12, 15)
        yield Ground(here, (here.policy, memory), tuple(here.vms) + (vm,))


class Liar:
    """A front that gives hostile answers to some calls of a pass: `lies` by method and number, which begins with 0."""

    def __init__(self, ground: Ground, lies: Dict[Tuple[str, int], str], chance: Random) -> None:
        self.pool = ground.here.pool
        self.lies = lies
        self.chance = chance
        self.told: List[Tuple[str, str]] = []
        self.over = threading.Event()
        self.counts: Counter[str] = Counter()
        self.earlier: List[bytes] = []
        self.kind = ""
        self.direct = self.pool.place
        path = str(self.pool.folder / "liar.sock")
        self.front = Front(path, self.pool.socket, self.before, self.after, self.rewrite, self.wire)
        self.pool.place = self.direct._replace(xapi="unix:" + path)
        self.settings = self.pool.settings
        if lies:
            self.pool.settings = self.settings._replace(call_limit=CALL_LIMIT)

    def end(self) -> None:
        self.over.set()
        self.pool.place = self.direct
        self.pool.settings = self.settings

    def before(self, method: str) -> None:
        self.kind = self.lies.get((method, self.counts[method]), "")
        self.counts[method] += 1
        if self.kind:
            self.told.append((method, self.kind))
        if sum(self.counts.values()) > CALLS_MAX:
            raise Lose

    def after(self, method: str) -> None:
        if self.kind == "lost":
            raise Lose
        if self.kind == "late":
            late = timedelta(seconds=self.chance.choice((60, 1200, 10000)))
            self.pool.simulator.set_time(self.pool.simulator.now() + late)

    def rewrite(self, method: str, body: bytes) -> bytes:
        self.earlier.append(body)
        if self.kind == "cut":
            return body[: self.chance.randrange(len(body))]
        if self.kind == "another's":
            return self.chance.choice(self.earlier)
        return told(body, self.kind, self.chance) if self.kind in CHANGES else body

    def wire(self, method: str, message: bytes) -> bytes:
        if self.kind == "sent twice":
            return message + message
        return message[: self.chance.randrange(len(message))] if self.kind == "stalled" else message


def calls_of_a_pass() -> Dict[str, int]:
    """What an honest pass asks for, and how often."""
    with ground() as it:
        liar = Liar(it, {}, Random(0))
        assert it.here.pool.tick().status == 0
        liar.end()
        truth(it, liar)
        return dict(liar.counts)


def draw(chance: Random, calls: Dict[str, int], as_process: bool) -> Dict[Tuple[str, int], str]:
    """One to three lies: each method is as likely as any other, however often a pass calls it."""
    lies = {}
    # A process has the limit of the settings' file, which is too long to wait for: 10 s at least.
    kinds = [kind for kind in KINDS if not as_process or kind != "stalled"]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        method = chance.choice(sorted(calls))
        lies[method, chance.randrange(calls[method])] = chance.choice(kinds)
    return lies


class Answers:
    """Rounds of hostile answers: each has a pool of its own."""

    def __init__(self) -> None:
        self.calls = calls_of_a_pass()

    def one(self, seed: int) -> List[str]:
        """One pass that is lied to, and those after it, which are not."""
        chance = Random("answer %d" % seed)
        with ground() as it:
            as_process = seed % 10 == 0
            lies = draw(chance, self.calls, as_process)
            liar = Liar(it, lies, chance)
            try:
                lied_to(it, as_process)
                assert sum(liar.counts.values()) <= CALLS_MAX, liar.counts
            finally:
                liar.end()
            untouched(it.here)
            try:
                truth(it, liar)
            except AssertionError as error:
                raise AssertionError("%s\nafter these answers: %s" % (error, liar.told)) from error
            return ["answers %s" % kind for _, kind in liar.told] + ["answers"] * len(liar.told)


def lied_to(it: Ground, as_process: bool) -> None:
    """A pass ends by itself, within its limits, in one line."""
    pool = it.here.pool
    if as_process:
        process_lied_to(pool)
    else:
        began = pool.simulator.now()
        one_line_or_report(pool.tick)
        check_log(pool)
        assert pool.simulator.now() - began < PASS_MAX
    check_alerts(pool)


def process_lied_to(pool: TestPool) -> None:
    """Its clock runs as ours does, though the pool's is virtual: its limits are short."""
    (ref,) = pool.call("pool.get_all")
    for name, seconds in SHORT.items():
        pool.call("pool.add_to_other_config", ref, "vmss:" + name, str(seconds))
    process = start(pool)
    try:
        err = process.communicate(timeout=PROCESS_MAX_S)[1].decode()
    finally:
        process.kill()
        process.wait()
        for name in SHORT:
            pool.call("pool.remove_from_other_config", ref, "vmss:" + name)
    assert process.returncode in range(5) and "Traceback" not in err, (process.returncode, err)


def next_slot(now: datetime) -> datetime:
    """The next quarter past an hour."""
    slot = now.replace(minute=15, second=0, microsecond=0)
    return slot if slot > now else slot + timedelta(hours=1)


def truth(it: Ground, liar: Liar) -> None:
    """Two quiet ticks, the next slot, and one more quiet tick: all is as it would be had nobody lied."""
    pool = it.here.pool
    for _ in range(2):
        pool.simulator.set_time(pool.simulator.now() + QUARTER)
        pool.tick()
        untouched(it.here)
        assert all(pool.snapshots(vm) for vm in it.vms), "a VM without a snapshot"
    slot = next_slot(pool.simulator.now())
    pool.simulator.set_time(slot)
    before = [len(pool.names(policy)) for policy in it.policies]
    assert pool.tick().status == 0
    pool.simulator.set_time(slot + QUARTER)
    assert pool.tick().status == 0
    for policy, count in zip(it.policies, before):
        assert pool.names(policy)[count:] == [messages.SUCCEEDED], "not one alert per run"
    for vm in it.vms:
        times = [str(record["snapshot_time"]) for record in pool.snapshots(vm)]
        assert len(times) == 1 and times[0] >= format_datetime(slot), "not one snapshot of the slot: %s" % times
    nothing_is_left(it, liar)


def nothing_is_left(it: Ground, liar: Liar) -> None:
    """No orphaned disk, no entry of the journal, no session, no task, no sign of a pass at work."""
    pool = it.here.pool
    untouched(it.here)
    records = pool.call("VM.get_all_records")
    snapshots = {ref for ref, record in records.items() if record["is_a_snapshot"]}
    kept = {str(record["suspend_VDI"]) for record in records.values()} | set(it.here.foreign["VDI"])
    for vbd in pool.call("VBD.get_all_records").values():
        if vbd["VM"] in snapshots:
            kept.add(str(vbd["VDI"]))
    # A disk of which xapi said that somebody uses it is never destroyed; it is reported.
    spared = [line for line in pool.log() if "left alone" in line]
    orphans = {pool.uuid("VDI", vdi) for vdi in set(pool.snapshot_vdis()) - kept}
    orphans = {uuid for uuid in orphans if not any(uuid in line for line in spared)}
    assert not orphans, "orphaned disks: %s" % orphans
    left = [key for key in pool.other_config() if key.startswith((PREFIX, AT_WORK))]
    assert not left, "left in pool.other_config: %s" % left
    assert pool.tasks() == [], "left tasks: %s" % pool.tasks()
    # A session whose login nobody was told truly is known to nobody: xapi closes it after a day.
    unknown = sum(method == "session.login_with_password" for method, _ in liar.told)
    assert pool.sessions() <= unknown, "left sessions: %d" % pool.sessions()


def answers(seed: int, count: int) -> Proof:
    """Passes that are given so many hostile answers in all, or a few more."""
    it = Answers()
    rounds = given = 0
    seen: Counter[str] = Counter()
    failures: List[str] = []
    while given < count and len(failures) < FAILURES_MAX:
        proof = play("answers", seed + rounds, 1, it.one)
        rounds += 1
        seen.update(dict(proof.seen))
        failures += proof.failures
        given = seen["answers"] + len(failures)
    return Proof("answers", given, tuple(sorted(seen.items())), tuple(failures))
