"""`vmss next`: what will run when, for how long, and how to rearrange what gets in its own way."""

import argparse
import sys
from datetime import datetime, timedelta
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Mapping, Sequence, TextIO

from vmss.cli import tables
from vmss.cli.parts import STATUS, complain, count, new_parser, surroundings
from vmss.cli.tables import Column
from vmss.core import plan, words
from vmss.core.plan import Expiry
from vmss.core.policy import Policy
from vmss.core.records import Vm
from vmss.core.text import one_line
from vmss.core.turn import Turn
from vmss.edges import storage, world
from vmss.edges.xapi import Refused
from vmss.insight import forecast, history, policies
from vmss.insight.forecast import Expected, Load, Move
from vmss.insight.policies import Entry
from vmss.insight.reading import Reading, reading

_EXAMPLES = """examples:
  vmss next                    the runs of the next 24 hours
  vmss next --hours 168        those of a week
  vmss next --json             for programs

How long a run takes is the middle one of the last 7, from the slot to the alert; of a schedule that never ran it is
estimated from its VMs. Where runs get in each other's way, it says to which quarter of an hour they can be moved.
"""

_DAY = timedelta(days=1)


def parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    command = new_parser(
        "next", "What will run when, for how long by past runs, and where runs overlap.", _EXAMPLES + "\n" + STATUS
    )
    command.add_argument("--hours", type=count(1, 24 * 31), default=24, metavar="N", help="how far ahead (default 24)")
    tables.add_form(command)
    return command


def do(arguments: argparse.Namespace) -> int:
    """Show it."""
    with reading(surroundings()) as session:
        return show(session, arguments, sys.stdout)


def show(session: Reading, arguments: argparse.Namespace, out: TextIO) -> int:
    """Show what will run in the pool that a session is open with."""
    now = session.now()
    until = now + timedelta(hours=arguments.hours)
    entries = policies.read(session)
    # Another time of the day has to be free in the whole day.
    loads = read_loads(session, entries, now, max(until, now + _DAY))
    expected = forecast.expect(loads, session.zone, now, until)
    known = {load.policy.uuid: load for load in loads}
    moves = {move.policy.uuid: move for move in forecast.moves(loads, session.zone, now, max(until, now + _DAY))}
    names = _names(session, frozenset().union(*[run.common for run in expected]))
    rows = [_row(run, known, names, moves) for run in expected]
    tables.write(_columns(session), rows, arguments, out)
    if not rows:
        tables.remark("Nothing will run in the next %d hours." % arguments.hours, arguments, out)
    if tables.for_people(arguments):
        say = _speaker(arguments, out)
        for line in _warnings(session, entries, expected, known, names, moves):
            say(line)
    return 0


def _speaker(arguments: argparse.Namespace, out: TextIO) -> Callable[[str], None]:
    """Warnings go below a table; into a pipe goes the list alone."""
    return (lambda line: tables.remark(line, arguments, out)) if out.isatty() else complain


# What is read


def read_loads(session: Reading, entries: Sequence[Entry], now: datetime, until: datetime) -> List[Load]:
    """What each policy that runs until then usually takes."""
    known = [entry.policy for entry in entries if entry.policy is not None]
    active = [policy for policy in known if _runs_until(session, policy, until)]
    vms: Dict[str, List[Vm]] = {}
    for vm in world.read_vms(session.xapi, active):
        if not vm.misread:
            vms.setdefault(vm.policy, []).append(vm)
    disks = storage.read_disks(session.xapi, [vm.ref for mine in vms.values() for vm in mine])
    loads = []
    for policy in active:
        jobs = [
            plan.job(Expiry(vm, Turn(policy, now), False, ()), disks.of, session.pool.suspend_sr)
            for vm in vms.get(policy.ref, ())
        ]
        work: Dict[str, float] = {}  # seconds, by what does one thing at a time
        for job in jobs:
            for resource in job.tokens:
                work[resource] = work.get(resource, 0.0) + job.seconds
        took = history.took(_past(session, policy, now), session.zone)
        seconds = history.usual(took) if took else max(work.values(), default=0.0)
        loads.append(Load(policy, max(1.0, seconds), len(took), frozenset(work)))
    return loads


def _runs_until(session: Reading, policy: Policy, until: datetime) -> bool:
    following = policies.next_run(session, policy, session.now())
    return following is not None and following <= until


def _past(session: Reading, policy: Policy, now: datetime) -> List[history.Run]:
    """The policy's last runs. Each message is a file that xapi reads: only those of the last slots."""
    apart = policy.schedule.distance
    return policies.runs(session, policy.uuid, now - 2 * history.RUNS_ASKED * apart)


def _names(session: Reading, resources: FrozenSet[str]) -> Dict[str, str]:
    """What storage repositories and hosts are called."""
    names = {}
    for resource in resources:
        for cls in ("SR", "host"):
            try:
                names[resource] = str(session.xapi.call(cls + ".get_name_label", resource)) or resource
                break
            except Refused:
                continue
    return names


# What is shown


def _columns(session: Reading) -> List[Column]:
    at = tables.moments(session)
    return [
        Column("time", "time", at, whole=True),
        Column("policy", "schedule"),
        Column("vms", "VMs", right=True),
        Column("seconds", "takes about", words.duration, right=True),
        Column("runs", "by past runs", lambda runs: str(runs) if runs else "an estimate", right=True, spare=True),
        Column("ends", "ends about", at, whole=True, spare=True),
        Column("remarks", "remarks", style=lambda remarks: "yellow" if remarks else ""),
        Column("uuid", "uuid", whole=True, spare=True),
        Column("next_slot"),
        Column("late"),
        Column("missed"),
        Column("too_long"),
        Column("behind"),
        Column("on"),
        Column("move"),
    ]


def _row(
    run: Expected, loads: Mapping[str, Load], names: Mapping[str, str], moves: Mapping[str, Move]
) -> Dict[str, Any]:
    load, move = loads[run.policy.uuid], moves.get(run.policy.uuid)
    behind = [one_line(loads[uuid].policy.name, 60) for uuid in run.behind]
    on = sorted(names.get(resource, resource) for resource in run.common)
    return {
        "time": run.at,
        "policy": run.policy.name,
        "uuid": run.policy.uuid,
        "vms": len(run.policy.vms),
        "seconds": round(load.seconds),
        "runs": load.runs,
        "ends": None if run.missed else run.ends,
        "next_slot": run.next_slot,
        "late": run.late,
        "missed": run.missed,
        "too_long": run.too_long,
        "behind": behind,
        "on": on,
        "move": move.command if move else None,
        "remarks": "; ".join(_remarks(run, behind, on)),
    }


def _remarks(run: Expected, behind: Sequence[str], on: Sequence[str]) -> Iterator[str]:
    if run.missed:
        yield "missed: its run before is not over"
    if run.late:
        yield "late"
    if behind:
        yield "behind %s on %s" % (words.listed(behind), words.listed([one_line(name, 60) for name in on]))
    if run.too_long:
        yield "cannot end before its next slot"


def _warnings(
    session: Reading,
    entries: Sequence[Entry],
    expected: Sequence[Expected],
    loads: Mapping[str, Load],
    names: Mapping[str, str],
    moves: Mapping[str, Move],
) -> Iterator[str]:
    """What is wrong, and what to do about it."""
    if not session.pool.licensed:
        yield "The pool's licence does not include scheduled snapshots: none will be taken."
    for entry in entries:
        if entry.policy is None:
            yield "%s (%s) cannot be understood, and will not run: %s" % (
                one_line(entry.name, 60),
                one_line(entry.uuid, 40),
                entry.error,
            )
    mine: Dict[str, List[Expected]] = {}
    for run in expected:
        mine.setdefault(run.policy.uuid, []).append(run)
    for uuid, runs in mine.items():
        behind = [run for run in runs if run.behind]
        if behind:
            helped = uuid in moves or set(behind[0].behind) <= set(moves)
            yield _overlap(session, behind, loads, names, helped)
        too_long = next((run for run in runs if run.too_long), None)
        if too_long is not None:
            yield _overrun(session, too_long, loads[uuid])
    for move in moves.values():
        at_once = move.policy._replace(schedule=move.schedule).due(session.zone, session.now()) is not None
        yield "Move %s to %s%s: %s" % (
            _called(move.policy),
            move.schedule.in_words(),
            " (today's is then due at once)" if at_once else "",
            move.command,
        )


def _overlap(
    session: Reading, behind: Sequence[Expected], loads: Mapping[str, Load], names: Mapping[str, str], helped: bool
) -> str:
    """One policy begins while others are at work."""
    run = behind[0]
    return "%s is to begin at %s while %s on %s%s.%s" % (
        _called(run.policy),
        words.moment(run.at, session.zone, session.here),
        words.listed([_called(loads[uuid].policy) for uuid in run.behind])
        + (" has work" if len(run.behind) == 1 else " have work"),
        words.listed(sorted(one_line(names.get(resource, resource), 60) for resource in run.common)),
        ", the first of %d such times" % len(behind) if len(behind) > 1 else "",
        "" if helped else " No quarter of an hour was found that is free for it: run one of them less often.",
    )


def _overrun(session: Reading, run: Expected, load: Load) -> str:
    """One policy's run does not end in time."""
    alone = run.at + load.length >= run.next_slot
    return "%s cannot end before its next slot: it takes about %s, the run of %s would end at %s.%s" % (
        _called(run.policy),
        words.duration(load.seconds),
        words.moment(run.at, session.zone, session.here),
        words.moment(run.ends, session.zone, session.here),
        " Run it less often, or move some of its VMs to another schedule and storage repository." if alone else "",
    )


def _called(policy: Policy) -> str:
    return one_line(policy.name, 60) or policy.uuid
