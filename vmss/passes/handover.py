"""The handover of a run by hand to the pass that is at work, which serves it beside the schedules that it has in hand.

Two files beside the lock carry it: `asked` has the requests that no pass has taken yet, `answers` what became of those
that were, both by an id that the asker draws.
"""

import os
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from vmss.core.datetimes import format_datetime, parse_reading
from vmss.core.problem import EXIT_FAILED
from vmss.core.text import is_uuid
from vmss.edges import stop
from vmss.edges.clock import Clock
from vmss.edges.lock import LockDirectory
from vmss.edges.lock_folder import LockError

# Seconds in which a pass that is at work takes a request over; it looks at least every ten seconds.
_TAKE_S = 60.0
# A request that nobody took is void after this; its asker has given up.
_VOID = timedelta(minutes=5)
# Upper limit on the answers that are kept: an asker that was killed reads none.
_ANSWERS_MAX = 100
_PAUSE_S = 1.0


class Answer(NamedTuple):
    """How a run that was handed over has ended: the exit status, and one line for people."""

    status: int
    line: str


# Who asked was told to stop. The other pass goes on with what it has taken over, and its alert says how that ended.
_NOT_WAITED_FOR = Answer(
    EXIT_FAILED, "stopped waiting: the run goes on in the pass that is at work, and its alert tells how it ends"
)
_NOT_BEGUN = Answer(EXIT_FAILED, "stopped: the run had not begun, and nobody does it later")


class Asked(NamedTuple):
    """A request: its id, the uuid of the policy, and whether only VMs without a snapshot of its slot are meant."""

    id: str
    policy: str
    missing: bool


class Inbox:
    """The requests to the pass that is at work on a pool."""

    def __init__(self, directory: LockDirectory, pool: str) -> None:
        self._directory = directory
        self._pool = pool

    def take(self, now: datetime) -> List[Asked]:
        """The requests that have come since the last time."""
        if not self._directory.read(_asked(self._pool)):
            return []
        with self._directory.in_turn(self._pool):
            requests = self._directory.read(_asked(self._pool))
            taken = [item for item in (_parse(key, value, now) for key, value in requests.items()) if item is not None]
            self._keep(_asked(self._pool), {})
            self._answer({item.id: {} for item in taken})
        return taken

    def answer(self, asked: str, answer: Answer) -> None:
        """A run that was asked for has ended."""
        with self._directory.in_turn(self._pool):
            if asked not in self._directory.read(_answers(self._pool)):
                return  # its asker was told to stop
            self._answer({asked: {"status": answer.status, "line": answer.line}})

    def _answer(self, answers: Dict[str, Any]) -> None:
        known = list(dict(self._directory.read(_answers(self._pool)), **answers).items())
        self._keep(_answers(self._pool), dict(known[-_ANSWERS_MAX:]))

    def _keep(self, name: str, value: Dict[str, Any]) -> None:
        with suppress(LockError):  # a full disk: the asker gives up
            self._directory.keep(name, value)


def ask(
    directory: LockDirectory,
    pool: str,
    clock: Clock,
    policy: str,
    missing: bool,
    started: Callable[[], None],
    limit_s: float,
) -> Optional[Answer]:
    """Ask the pass that holds the pool's lock for a run, tell when it has been taken over, and wait for its end, for
    `limit_s` seconds at most, and until this process is asked to stop.

    Return None if that pass takes nothing over, or does not end in that time. Its lock may be free afterwards.
    """
    asked = os.urandom(8).hex()
    try:
        with directory.in_turn(pool):
            request = {"policy": policy, "missing": missing, "since": format_datetime(clock.now())}
            directory.keep(_asked(pool), dict(directory.read(_asked(pool)), **{asked: request}))
    except LockError:
        return None
    until, taken = clock.monotonic() + _TAKE_S, False
    while directory.holder(pool) is not None and clock.monotonic() < until and not stop.requested():
        answer = _read_answer(directory, pool, asked)
        if answer is not None and not taken:
            taken, until = True, clock.monotonic() + limit_s
            started()
        if answer:
            break
        clock.sleep(_PAUSE_S)
    answer = _withdraw(directory, pool, asked)
    if answer:
        return Answer(int(answer["status"]), str(answer["line"]))
    if stop.requested():
        return _NOT_BEGUN if answer is None else _NOT_WAITED_FOR
    return None


def _read_answer(directory: LockDirectory, pool: str, asked: str) -> Optional[Dict[str, Any]]:
    """None if the request was not taken; an empty answer if its run has not ended."""
    answer = directory.read(_answers(pool)).get(asked)
    return answer if isinstance(answer, dict) else None


def _withdraw(directory: LockDirectory, pool: str, asked: str) -> Optional[Dict[str, Any]]:
    """Leave no request and no answer behind. Return the answer as `_read_answer` does."""
    with directory.in_turn(pool):
        answer = _read_answer(directory, pool, asked)
        for name in (_asked(pool), _answers(pool)):
            kept = directory.read(name)
            if kept.pop(asked, None) is not None:
                with suppress(LockError):  # a full disk: it is void soon
                    directory.keep(name, kept)
    return answer


def _parse(asked: str, value: Any, now: datetime) -> Optional[Asked]:
    try:
        if is_uuid(value["policy"]) and now - parse_reading(value["since"]) < _VOID:
            return Asked(asked, value["policy"], value["missing"] is True)
    except (KeyError, TypeError, ValueError):
        pass  # damaged, or of another version: its asker gives up
    return None


def _asked(pool: str) -> str:
    return pool + ".asked"


def _answers(pool: str) -> str:
    return pool + ".answers"
