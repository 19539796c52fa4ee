"""Faults by rule: which calls and operations fail, hang, lose their connection or are late, or kill xapi."""

import json
import math
from fnmatch import fnmatchcase
from random import Random
from typing import TYPE_CHECKING, Any, Dict, Generator, List, NamedTuple, Optional

from .errors import Dropped, XapiError
from .kernel import Condition, Sleep, Wait
from .lifecycle import WAYS, restart

if TYPE_CHECKING:
    from .simulator import Simulator

Steps = Generator[Any, Any, Any]

ACTIONS = ("error", "hang", "drop", "delay", "restart")


class BadRule(Exception):
    """A rule that cannot be used; the message is one clear line that names the key, the value and the rule."""


class Rule(NamedTuple):
    """One fault.

    `method` is a pattern (`VM.snapshot`, `Async.VM.*`, `*`): the wire name of a call, or, without `Async.`, an
    operation that runs in the background, a subtask included; VM.checkpoint.resume is the part of a checkpoint that
    resumes its VM. `object` is a reference, uuid or name among its
    parameters. The first `skip` matches pass. The fault applies to each of the others with `probability`, and at most
    `count` times (0: no upper limit). A `drop` breaks the caller's connection; in the background the operation ends
    without a result, and its task stays pending. A `hang` and a `restart` end with xapi.
    """

    method: str
    action: str
    when: str = "before"
    object: str = ""
    error: List[str] = []
    seconds: float = 0.0
    way: str = "kill"
    skip: int = 0
    count: int = 1  # type: ignore[assignment]
    probability: float = 1.0
    seed: int = 1


def parse_rule(given: Dict[str, Any]) -> Rule:
    """A rule from JSON or from a map of texts, where `error` is a JSON array; raises BadRule."""
    unknown = sorted(set(given) - set(Rule._fields))
    if unknown:
        raise BadRule("a fault has no key %s (it has %s)" % (unknown[0], ", ".join(Rule._fields)))
    values: Dict[str, Any] = {name: _converted(name, value) for name, value in given.items()}
    for name in ("method", "action"):
        if not values.get(name):
            raise BadRule("a fault needs the key %s" % name)
    rule = Rule(**values)
    _check(rule)
    return rule


def _converted(name: str, value: Any) -> Any:
    try:
        if name == "error":
            details = json.loads(value) if isinstance(value, str) else value
            if not isinstance(details, list) or not all(isinstance(item, str) for item in details):
                raise ValueError
            return details
        if name in ("seconds", "probability"):
            return _finite(value)
        if name in ("skip", "count", "seed"):
            return _whole(value)
        if not isinstance(value, str):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        text = value if isinstance(value, str) else json.dumps(value)
        raise BadRule("the fault's key %s cannot be %s" % (name, text))
    return value


def _finite(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError
    return number


def _whole(value: Any) -> int:
    number = int(value)
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise ValueError
    return number


def _check(rule: Rule) -> None:
    choices = {"action": (rule.action, ACTIONS), "when": (rule.when, ("before", "after")), "way": (rule.way, WAYS)}
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise BadRule("the fault's key %s must be one of %s, not %s" % (name, ", ".join(allowed), value))
    if rule.action == "error" and not rule.error:
        raise BadRule("a fault with the action error needs the key error: an array of the code and its parameters")
    if min(rule.seconds, rule.skip, rule.count) < 0 or not 0.0 <= rule.probability <= 1.0:
        raise BadRule("the numbers of a fault must not be negative, and its probability must be at most 1")


def read_rules(path: str) -> List[Rule]:
    """The rules of a file: a JSON array of objects; raises BadRule, also when the file cannot be read."""
    try:
        with open(path, encoding="utf-8") as stream:
            items = json.load(stream)
    except OSError as error:
        raise BadRule("cannot read the file of faults %s: %s" % (path, error.strerror))
    except ValueError as error:
        raise BadRule("the file of faults %s is not JSON: %s" % (path, error))
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BadRule("the file of faults %s is not a JSON array of objects" % path)
    return [_rule_of_file(path, number, item) for number, item in enumerate(items, 1)]


def _rule_of_file(path: str, number: int, item: Dict[str, Any]) -> Rule:
    try:
        return parse_rule(item)
    except BadRule as error:
        raise BadRule("rule %d of the file of faults %s: %s" % (number, path, error))


class _Active:
    """A rule in force: its random generator, how often it matched, and how often it was applied."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.random = Random(rule.seed)  # noqa: S311, a simulation
        self.matched = 0
        self.struck = 0

    def strikes(self) -> bool:
        self.matched += 1
        if self.matched <= self.rule.skip or (self.rule.count and self.struck >= self.rule.count):
            return False
        if self.rule.probability < 1.0 and self.random.random() >= self.rule.probability:
            return False
        self.struck += 1
        return True


class Faults:
    """All rules in force, in the order in which they were added; the first that applies wins."""

    def __init__(self, sim: "Simulator") -> None:
        self.sim = sim
        self.active: List[_Active] = []

    def add(self, rule: Rule) -> None:
        self.active.append(_Active(rule))

    def clear(self) -> None:
        self.active.clear()

    def describe(self) -> List[Dict[str, str]]:
        """The rules as they were given, and how often each was applied."""
        return [_described(active) for active in self.active]

    def meet(self, name: str, params: List[Any]) -> Optional[Rule]:
        """The rule that applies to this call or operation; None if none does."""
        for active in self.active:
            rule = active.rule
            meant = fnmatchcase(name, rule.method) and (not rule.object or self._is_about(rule.object, params))
            if meant and active.strikes():
                return rule
        return None

    def _is_about(self, wanted: str, params: List[Any]) -> bool:
        """Whether one of the parameters is the object, or refers to it."""
        texts = [param for param in params if isinstance(param, str)]
        if wanted in texts:
            return True
        rows = (table.rows[text] for table in self.sim.db.tables.values() for text in texts if text in table.rows)
        return any(wanted in (row["uuid"], row.get("name_label")) for row in rows)

    def around(self, rule: Rule, steps: Steps) -> Steps:
        """Carry out `steps`, with the fault before or after them."""
        if rule.when == "before":
            yield from self._act(rule)
        result = yield from steps
        if rule.when == "after":
            yield from self._act(rule)
        return result

    def _act(self, rule: Rule) -> Steps:
        if rule.action == "error":
            raise XapiError(*rule.error)
        if rule.action == "drop":
            raise Dropped
        if rule.action == "hang":
            yield Wait(Condition(self.sim.kernel))
        if rule.action == "delay":
            yield Sleep(rule.seconds)
        if rule.action == "restart":
            # The restart ends this call too: the rest of it must not run in the xapi that starts.
            yield from restart(self.sim, rule.way, rule.seconds)


def _described(active: _Active) -> Dict[str, str]:
    texts = {name: str(value) for name, value in active.rule._asdict().items() if name != "error"}
    return {**texts, "error": json.dumps(active.rule.error), "struck": str(active.struck)}
