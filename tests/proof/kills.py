"""Real processes of a pass that are killed at a random time or at a random call, and the pass after each."""

import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Callable, List, Optional

from tests.front import Front, lose
from tests.proof.rounds import Proof, play
from tests.test_processes import Ended, Logins, ProcessPool, Strike, at_some_time, disturb, undisturbed
from vmss.edges.settings_file import load
from vmss.edges.surroundings import Surroundings
from vmss.passes.request import Request
from vmss.passes.run import run


class FastPool(ProcessPool):
    """Its clock runs faster. The pass after a kill needs no process of its own: it is one that nothing happens to."""

    speed = 60

    def configure(self, **settings: int) -> None:
        ProcessPool.configure(self, waits_per_second=20, **settings)

    def whole_pass(self) -> Ended:
        report = run(Request(), Surroundings(self.place, load(self.place.config)))
        return Ended(report.status, "" if report.status == 0 else report.line)


class AtCall:
    """A hook that acts on the n-th call from now, whatever it is."""

    def __init__(self) -> None:
        self.left = 0
        self.action: Callable[[], object] = lose

    def __call__(self, method: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.action()


class Killer:
    """A pool, with a front, whose passes are killed; a new one after each failure."""

    def __init__(self, at_calls: bool = False) -> None:
        """`at_calls`: none is killed at a time, which no seed repeats exactly."""
        self.stack = ExitStack()
        self.pool: Optional[FastPool] = None
        self.at_calls = at_calls

    def close(self) -> None:
        self.stack.close()
        self.pool = None

    def open(self) -> FastPool:
        self.pool = pool = FastPool(Path(self.stack.enter_context(TemporaryDirectory(prefix="proof"))))
        self.stack.enter_context(pool)
        self.before, self.after = AtCall(), AtCall()
        path = str(pool.folder / "front.sock")
        front = Front(path, pool.socket, self.before, self.after)
        # All passes take this way: what one notes of its session names the way, and is for those that take it too.
        pool.place = pool.place._replace(xapi="unix:" + path)
        self.took = undisturbed(pool)
        met = len(front.calls)
        pool.next_slot()
        assert pool.start().wait(60) == 0
        self.calls = len(front.calls) - met
        return pool

    def one(self, seed: int) -> List[str]:
        """Kill one pass, and let the next make everything whole."""
        try:
            return self._one(self.pool or self.open(), Random("kill %d" % seed), seed)
        except BaseException:
            self.close()
            raise

    def _one(self, pool: FastPool, chance: Random, seed: int) -> List[str]:
        pool.call("simulator.clear_faults")
        # Some disks are slow, so that an operation outlives the killed process and meets the next one.
        for method in ("VDI.snapshot", "VDI.destroy"):
            rule = {"method": method, "action": "delay", "seconds": "30", "count": "0", "probability": "0.15"}
            pool.call("simulator.add_fault", dict(rule, seed=str(seed)))
        by_call = chance.random() < 0.5 or self.at_calls
        strike = self.at_some_call(chance) if by_call else at_some_time(pool, signal.SIGKILL, chance, self.took)
        kind = disturb(pool, signal.SIGKILL, strike)
        if pool.lost_sessions:
            self.close()  # xapi would close that session at some time of a later round
        return ["at a call" if by_call else "at a time", kind[len("SIGKILL ") :]]

    def at_some_call(self, chance: Random) -> Strike:
        """Before xapi has some call of the pass, or before the pass has the answer."""
        hook = chance.choice((self.before, self.after))
        number = chance.randint(1, self.calls)

        def strike(logins: Logins) -> "subprocess.Popen[str]":
            pool = self.pool
            assert pool is not None
            started: List[subprocess.Popen[str]] = []

            def kill() -> None:
                started[0].kill()
                lose()

            hook.action, hook.left = kill, number
            started.append(pool.start())
            started[0].wait(60)
            hook.left = 0
            return started[0]

        return strike


def kills(seed: int, count: int, at_calls: bool = False) -> Proof:
    """Kill so many passes; `at_calls`: only at calls."""
    killer = Killer(at_calls)
    try:
        return play("kills", seed, count, killer.one)
    finally:
        killer.close()
