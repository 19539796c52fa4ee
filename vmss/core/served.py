"""The result of one policy's run, and what is said of it."""

from datetime import datetime, timedelta, tzinfo
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from vmss.core.datetimes import stated
from vmss.core.fate import SAID
from vmss.core.messages import NOT_QUIESCED, SENTENCES, Victim
from vmss.core.outcome import STOPPED
from vmss.core.schedule import TICK_INTERVAL
from vmss.core.text import one_line, quoted
from vmss.core.turn import Turn
from vmss.core.words import agree, counted, listed

# How a run was started.
AT_SLOT, LATE, AGAIN, BY_HAND = "at its slot", "late", "again", "by hand"

# The beginning of a remark, which insight.history reads back.
PLAIN_INSTEAD = "Plain snapshots were taken of VMs that cannot be snapshotted as the schedule asks"
# Upper limit on the VMs that a remark names for each reason.
_NAMED_MAX = 10


class Served(NamedTuple):
    """The result of one policy's run.

    `taken` counts the VMs that have their snapshot of the slot, `had` those of them that had it before the run;
    `deleted` the expired snapshots that are gone, `left` those that exceed retention and are left to later runs,
    `future` those that are dated in the future.
    `victims` are the VMs with an error, `without` those of them that have no snapshot of the slot. `degraded`: plain
    snapshots were taken instead of quiesced ones, for the pool has none; `plain` are the VMs of which no other can be
    taken, with the error that told it. `overtaken` is the policy's next slot, if the run had to give up the
    rest of its VMs for it. `stopped`: the pass was told to stop before it was over.
    `excused` has the reason of each of `taken` that got none. `short`: what is said of storage with little room.
    """

    turn: Turn
    started: datetime
    vms: int = 0
    taken: int = 0
    had: int = 0
    deleted: int = 0
    left: int = 0
    future: int = 0
    victims: Tuple[Victim, ...] = ()
    without: Tuple[Victim, ...] = ()
    degraded: bool = False
    overtaken: Optional[datetime] = None
    stopped: bool = False
    plain: Tuple[Victim, ...] = ()
    excused: Tuple[str, ...] = ()
    short: Tuple[str, ...] = ()

    def summary(self, zone: tzinfo, ended: datetime) -> str:
        """The run in two sentences, which insight.history reads back: what it did; how it was started, and how long
        it took."""
        return "%s: %d of %s %s snapshot of %s; %s deleted. %s" % (
            quoted(self.turn.policy.name),
            self.taken,
            counted(self.vms, "VM"),
            agree(self.taken, "has its", "have their"),
            stated(self.turn.slot, zone),
            counted(self.deleted, "expired snapshot"),
            self._course(zone, ended),
        )

    @property
    def errors(self) -> Sequence[Victim]:
        """The victims, without VMs that the next pass comes to."""
        goes_on = self.stopped and not self.turn.forced
        return [victim for victim in self.victims if not (goes_on and victim.error[:1] == (STOPPED,))]

    @property
    def dropped(self) -> bool:
        """Whether VMs have no snapshot that no later pass takes: the pass was told to stop, and the run was started by
        hand."""
        return self.stopped and self.turn.forced and self.taken < self.vms

    def remarks(self, of_the_day: bool) -> List[str]:
        """Sentences beside the summary, each for a line of its own; `of_the_day`: also what is said once a day."""
        said = []
        if self.degraded:
            said.append("%s. %s" % (SENTENCES[NOT_QUIESCED], self.plain_instead))
        if self.plain:
            said.append("%s: %s" % (PLAIN_INSTEAD, "; ".join(_by_reason(self.plain))))
        for reason in sorted(set(self.excused)):
            number = self.excused.count(reason)
            said.append(SAID[reason] % (counted(number, "VM"), agree(number, "is", "are")))
        said.extend(self.short[:_NAMED_MAX])
        if self.left:
            said.append(
                "%s still %s retention: later runs delete a few of each VM at a time; to delete all at once: "
                "vmss prune --policy %s"
                % (
                    counted(self.left, "scheduled snapshot"),
                    agree(self.left, "exceeds", "exceed"),
                    self.turn.policy.uuid,
                )
            )
        if self.future and of_the_day:
            said.append(
                "%s %s dated in the future, because the clock was wrong, and retention leaves them alone; if the clock "
                "is right now: vmss prune --dated-in-future"
                % (counted(self.future, "scheduled snapshot"), agree(self.future, "is", "are"))
            )
        return said

    @property
    def plain_instead(self) -> str:
        """What to do about plain snapshots that are taken instead of quiesced ones. It is the same in every run of the
        policy, and of no other."""
        return (
            "To end these messages, set the schedule's type: vmss xe vmss-param-set uuid=%s type=snapshot"
            % self.turn.policy.uuid
        )

    @property
    def start(self) -> str:
        """How it was started."""
        if self.turn.forced:
            return BY_HAND
        if self.turn.again:
            return AGAIN
        return LATE if self.started >= self.turn.slot + TICK_INTERVAL else AT_SLOT

    def _course(self, zone: tzinfo, ended: datetime) -> str:
        # Of a clock that was set back meanwhile, no length is known but that it was not negative.
        took = "took %s" % counted(round(max(timedelta(0), ended - self.started).total_seconds()), "second")
        if self.start == BY_HAND:
            stopped = " It was stopped before its end." if self.stopped else ""
            return "The run was started by hand at %s and %s.%s" % (stated(self.started, zone), took, stopped)
        if self.start == AGAIN:
            return "The run was started again, at %s, and %s." % (stated(self.started, zone), took)
        if self.start == LATE:
            return "The run was started late, at %s, and %s." % (stated(self.started, zone), took)
        return "The run was started at its slot and %s." % took


def _by_reason(vms: Sequence[Victim]) -> Iterator[str]:
    """Each reason, with the VMs that have it."""
    from vmss.core.failures import failure_of  # most runs need none

    names: Dict[str, List[str]] = {}
    for vm in vms:
        names.setdefault(failure_of(vm.error).sentence, []).append(quoted(one_line(vm.name or vm.uuid, 60)))
    for reason, those in names.items():
        more = ["%d more" % (len(those) - _NAMED_MAX)] if len(those) > _NAMED_MAX else []
        yield "%s: %s" % (reason, listed(those[:_NAMED_MAX] + more))


def stopped_line(progress: str, runs: Sequence[Served]) -> str:
    """How a pass ended that was told to stop, in one line, with the results of these runs. Of those that were not over
    the next pass goes on with the ones that were due; nobody goes on with those that were started by hand."""
    dropped = [one_line(served.turn.policy.name, 60) for served in runs if served.dropped]
    goes_on = any(served.stopped and not served.dropped for served in runs) or not dropped
    rest = ["the next pass goes on with the rest"] if goes_on else []
    rest += ["no pass goes on with what was started by hand: %s" % listed(dropped)] if dropped else []
    return "stopped before the end: %s, %s; %s" % (progress, ", but ".join(rest), totals(runs))


def totals(runs: Sequence[Served]) -> str:
    """The results of these runs in one line, for people."""
    had = sum(served.had for served in runs)
    return "schedules served: %d, VMs snapshotted: %d of %d%s, expired snapshots deleted: %d, VMs with errors: %d" % (
        sum(not served.stopped for served in runs),
        sum(served.taken for served in runs),
        sum(served.vms for served in runs),
        " (%d of them before)" % had if had else "",
        sum(served.deleted for served in runs),
        sum(len(served.errors) for served in runs),
    )
