"""The outlook of `vmss next`: the runs to come, what is wrong with them, and how to move schedules that overlap."""

from datetime import timedelta
from typing import Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from vmss.core import words
from vmss.core.chain import LIMIT
from vmss.core.policy import Policy
from vmss.core.room import AFTER_EXPIRY, FITS, Room
from vmss.core.text import one_line
from vmss.edges.pool_vms import PoolVms
from vmss.edges.storage import named
from vmss.edges.xapi import Refused
from vmss.insight import forecast, policies
from vmss.insight.demands import Coming, Long, read_coming
from vmss.insight.forecast import Expected, Load, Move
from vmss.insight.loads import read_loads
from vmss.insight.policies import Entry
from vmss.insight.reading import Reading

_DAY = timedelta(days=1)


class Outlook(NamedTuple):
    """The runs to come, in order; loads and moves by the uuids of their policies; the names of storage repositories
    and hosts by their references; the schedules that will not run, for they cannot be understood; and what comes of the
    runs on their storage."""

    runs: List[Expected]
    loads: Mapping[str, Load]
    moves: Mapping[str, Move]
    names: Mapping[str, str]
    unreadable: List[Entry]
    coming: Coming = Coming()

    def behind(self, run: Expected) -> List[str]:
        """The names of the policies that are at work when a run begins."""
        return [one_line(self.loads[uuid].policy.name, 60) for uuid in run.behind]

    def shared(self, run: Expected) -> List[str]:
        """The names of the storage repositories and hosts that these policies are at work on."""
        return sorted(self.names.get(resource, resource) for resource in run.common)

    def remarks(self, run: Expected) -> Iterator[str]:
        """What is remarkable about a run."""
        excused = self.loads[run.policy.uuid].excused
        if excused:
            yield "without %s, as %s now: vmss plan tells why" % (
                words.counted(excused, "VM"),
                "it is" if excused == 1 else "they are",
            )
        if run.missed:
            yield "missed: its previous run is not over"
        if run.late:
            yield "late"
        if run.behind:
            yield "behind %s on %s" % (words.listed(self.behind(run)), words.listed(_shortened(self.shared(run))))
        if run.too_long:
            yield "cannot end before its next slot"


def read_outlook(
    session: Reading, hours: int, entries: Optional[Sequence[Entry]] = None, pool_vms: Optional[PoolVms] = None
) -> Outlook:
    """The outlook for this number of hours. The schedules, and the VMs of the pool, are those that were read already,
    if they were."""
    now = session.now()
    until = now + timedelta(hours=hours)
    entries = policies.read(session) if entries is None else entries
    # Another time of the day has to be free in the whole day.
    loads = read_loads(session, entries, now, max(until, now + _DAY), pool_vms)
    expected = forecast.expect(loads, session.zone, now, until)
    moves = forecast.moves(loads, session.zone, now, max(until, now + _DAY))
    by_policy = {load.policy.uuid: load for load in loads}
    return Outlook(
        expected,
        by_policy,
        {move.policy.uuid: move for move in moves},
        read_names(session, frozenset().union(*[run.common for run in expected])),
        [entry for entry in entries if entry.policy is None],
        read_coming(session, expected, by_policy, hours),
    )


def read_names(session: Reading, resources: FrozenSet[str]) -> Dict[str, str]:
    """The names of storage repositories and hosts."""
    names = {}
    for resource in resources:
        for cls in ("SR", "host"):
            try:
                names[resource] = str(session.xapi.call(cls + ".get_name_label", resource)) or resource
                break
            except Refused:
                continue
    return names


# What is wrong, and what to do about it


def warnings(session: Reading, outlook: Outlook) -> Iterator[str]:
    """Sentences: what is wrong with the runs to come, and the command that moves each policy that can be moved."""
    if not session.pool.licensed:
        yield "The pool's licence does not include scheduled snapshots: none will be taken."
    for entry in outlook.unreadable:
        yield "%s (%s) cannot be understood, and will not run: %s" % (
            one_line(entry.name, 60),
            one_line(entry.uuid, 40),
            entry.error,
        )
    by_policy: Dict[str, List[Expected]] = {}
    for run in outlook.runs:
        by_policy.setdefault(run.policy.uuid, []).append(run)
    for runs in by_policy.values():
        behind = [run for run in runs if run.behind]
        if behind:
            yield _overlap(session, outlook, behind)
        too_long = next((run for run in runs if run.too_long), None)
        if too_long is not None:
            yield _overrun(session, outlook, too_long)
    for sr, room in sorted(outlook.coming.rooms.items()):
        if room.verdict != FITS:
            yield _short_of_room(session, sr, room)
    long = [one for one in outlook.coming.chains if one.expected >= LIMIT]
    if long:
        yield _long_chains(long)
    for move in outlook.moves.values():
        at_once = move.policy._replace(schedule=move.schedule).late(session.zone, session.now())
        yield "Move %s to %s%s: %s" % (
            _short_name(move.policy),
            move.schedule.in_words(),
            " (today's run is then due at once)" if at_once else "",
            move.command,
        )


def _overlap(session: Reading, outlook: Outlook, behind: Sequence[Expected]) -> str:
    """A policy begins while others are at work; `behind` are its runs that do."""
    run = behind[0]
    others = [_short_name(outlook.loads[uuid].policy) for uuid in run.behind]
    helped = run.policy.uuid in outlook.moves or set(run.behind) <= set(outlook.moves)
    return "%s is to begin at %s while %s on %s%s.%s" % (
        _short_name(run.policy),
        session.moment(run.at),
        "%s %s work" % (words.listed(others), words.agree(len(others), "has", "have")),
        words.listed(_shortened(outlook.shared(run))),
        ", the first of %d such times" % len(behind) if len(behind) > 1 else "",
        "" if helped else " No quarter of an hour was found that is free for it: run one of them less often.",
    )


def _short_of_room(session: Reading, sr: str, room: Room) -> str:
    """The snapshots to come do not fit on a storage repository, or only if expiry frees room in time."""
    name, uuid = named(session.xapi, sr)
    what = "fit only after expiry" if room.verdict == AFTER_EXPIRY else "do not fit"
    return "The snapshots %s on %s: %s. See what occupies it: xe vdi-list sr-uuid=%s" % (
        what,
        one_line(name or sr, 60),
        room.sentence,
        uuid,
    )


def _long_chains(long: Sequence[Long]) -> str:
    """Chains will have as many images as are possible before these runs are over."""
    longest = max(long, key=lambda one: one.chain.length)
    return "The chains of %s may have %d images by then, at which no snapshot can be taken: that of %s has %d. %s" % (
        words.counted(len(long), "disk"),
        LIMIT,
        longest.disk.uuid,
        longest.chain.length,
        "See what keeps them from being coalesced: vmss doctor",
    )


def _overrun(session: Reading, outlook: Outlook, run: Expected) -> str:
    """A policy's run does not end in time."""
    load = outlook.loads[run.policy.uuid]
    alone = run.at + load.length >= run.next_slot
    return "%s cannot end before its next slot: it takes about %s, so the run of %s would end at %s.%s" % (
        _short_name(run.policy),
        words.duration(load.seconds),
        session.moment(run.at),
        session.moment(run.ends),
        " Run it less often, or move VMs to another schedule and storage repository." if alone else "",
    )


def _short_name(policy: Policy) -> str:
    """The name of a policy, without quotes; its uuid if it has no name."""
    return one_line(policy.name, 60) or policy.uuid


def _shortened(names: Sequence[str]) -> List[str]:
    return [one_line(name, 60) for name in names]
