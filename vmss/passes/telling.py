"""What a pass tells of its runs: the alerts, last-run-time, and the lines of the log that go with them."""

from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Callable, List, Optional, Sequence

from vmss.core import messages
from vmss.core.datetimes import format_datetime, local, stated, wall_clock
from vmss.core.messages import Victim
from vmss.core.policy import CHECKPOINT, Policy
from vmss.core.schedule import next_slot
from vmss.core.text import quoted
from vmss.core.turn import Turn
from vmss.edges.alerts import Alerts
from vmss.edges.lock import Held
from vmss.edges.xapi import Misunderstood, Refused
from vmss.passes.agenda import Agenda
from vmss.passes.context import Context

if TYPE_CHECKING:
    from vmss.core.notices import Notice
    from vmss.core.served import Served
    from vmss.passes.frozen import FrozenVms

# Missed slots that an alert names.
_MISSED_NAMED = 10


class Teller:
    """Tells of runs that are over, of policies that could not be served, and remembers what it has told.

    `runs` are the runs that are over. `owing`: an alert could not be stored, so the policy stays due and the next pass
    repeats its alert. `left_over` gives the sentences that the next alert of a run has to carry. `frozen` are the VMs
    that checkpoints may have left suspended, as far as this pass has to do with any. `notice` is called with each run.
    """

    def __init__(self, context: Context, agenda: Agenda, notice: "Optional[Callable[[Notice], None]]" = None) -> None:
        self._agenda = agenda
        self._notice = notice
        self.runs: List[Served] = []
        self.owing = False
        self.left_over: Callable[[], str] = str
        self.frozen: Optional[FrozenVms] = None
        self._context = context
        self._log = context.log
        self._alerts = Alerts(context.xapi, context.clock, context.log)

    def run_is_over(self, served: "Served") -> None:
        """Raise the alert of a run, then set last-run-time: in this order a crash between the two repeats the alert,
        and loses none."""
        policy, zone, ended = served.turn.policy, self._log.zone, self._context.clock.now()
        if served.overtaken is not None:
            # The next slot is still to be served, also if this pass dies now.
            ended = min(ended, served.overtaken - timedelta(seconds=1))
        self._log(
            "snapshot start time: %s, end time: %s, Last expected run time: %s"
            % (local(served.started, zone), local(ended, zone), local(served.turn.slot, zone))
        )
        owing = self._may_pass(served.without)
        if not served.turn.forced or served.turn.missing:
            # Before the alert: if this pass dies between the two, the slot is not served yet, and all is done again.
            self._agenda.owed.note(served.turn, owing)
        if served.turn.again and (owing or not served.vms):
            self._log("Tried again, without an alert; VMs still without a snapshot of the slot: %d" % len(owing))
            self._completed(served)
            return
        remarks = served.remarks(of_the_day=not _same_day(policy.last_run, ended, zone))
        # Once in a pass: a hundred schedules need not all say what is left over.
        left_over, self.left_over = self.left_over(), str
        of_frozen, reasons = self._of_frozen(served), self._reasons(served) if served.victims else []
        summary = served.summary(zone, ended) + left_over + of_frozen
        if served.turn.again:
            summary += " The snapshot had failed at the slot, and was tried again."
        summary = "\n".join([summary] + remarks)
        if served.victims:
            pool = self._context.pool.uuid
            body = messages.failed_body(served.victims, summary, policy.uuid, reasons, pool)
            raised = self._alerts.create(messages.FAILED, policy.uuid, body)
        else:
            raised = self._alerts.create(messages.SUCCEEDED, policy.uuid, messages.body(messages.SUCCEEDED, summary))
        self._tell_receivers(served, ended, bool(served.victims), [of_frozen] + remarks + reasons, left_over)
        if served.degraded:
            self._not_quiesced(served, ended)
        self._missed(served.turn.policy, served.started, ended)
        if not raised:
            self.owing = True
        elif not served.dropped:  # it has served no slot
            self._set_last_run_time(policy, ended)
        self._completed(served)

    def _completed(self, served: "Served") -> None:
        self._log("Completed processing policy: %s" % served.turn.policy.uuid)
        self.runs.append(served)

    def _tell_receivers(
        self, served: "Served", ended: datetime, failed: bool, remarks: Sequence[str], left_over: str = ""
    ) -> None:
        """Give a run to whoever tells receivers elsewhere, after the pass."""
        if self._notice is not None:
            from vmss.core.notices import Notice  # few pools have any

            self._notice(Notice(served, ended, self._context.pool, failed, tuple(remarks), left_over))

    def _may_pass(self, victims: Sequence[Victim]) -> List[str]:
        """The uuids of the victims whose reason may pass."""
        if not victims:
            return []
        from vmss.core.failures import may_pass  # not needed by an idle tick

        return [victim.uuid for victim in victims if may_pass(victim.error)]

    def down(self) -> None:
        """Tell of VMs that checkpoints have left suspended, as far as no alert of a run does: of those that are down
        once a day, of those that were resumed once."""
        if self.frozen is None:
            return
        for sentence in self.frozen.resumed():
            self._tell_pool(messages.RESUMED, sentence)
        down = self.frozen.still_down()
        if down:
            text = " ".join(self.frozen.sentence(vm) for vm in down)
            if self._tell_pool(messages.LEFT_SUSPENDED, text):
                self.frozen.told(down)

    def _tell_pool(self, name: str, text: str) -> bool:
        return self._alerts.create(name, self._context.pool.uuid, messages.body(name, text))

    def _of_frozen(self, served: "Served") -> str:
        """What the alert of a run says of VMs that checkpoints have left suspended: its own, and those resumed."""
        if self.frozen is None:
            return ""
        down = [victim.uuid for victim in served.victims if victim.uuid in self.frozen.down]
        sentences = self.frozen.resumed() + [self.frozen.sentence(vm) for vm in down]
        self.frozen.told(down)
        return "".join(" " + sentence for sentence in sentences)

    def restricted(self, turns: Sequence[Turn], alert: bool = True) -> None:
        """The pool's licence does not include scheduled snapshots: tell each policy that was due, once a slot."""
        if not turns:
            return
        from vmss.core.served import Served  # few passes need it

        for turn in turns:
            victim = Victim(turn.policy.name, turn.policy.uuid, ("LICENCE_RESTRICTION", "VMSS"))
            now = self._context.clock.now()
            self.runs.append(Served(turn, now, victims=(victim,)))
            if alert:
                body = messages.body(
                    messages.LICENSE_ERROR, "No snapshots were taken for %s." % quoted(turn.policy.name)
                )
                self._alerts.create_once(messages.LICENSE_ERROR, turn.policy.uuid, body, turn.slot)
                # Of no VM: the receiver is told by the remark.
                served = Served(turn, now, vms=len(turn.policy.vms))
                self._tell_receivers(served, now, True, [messages.SENTENCES[messages.LICENSE_ERROR] + "."])

    def put_off(self, turns: Sequence[Turn], held: Held, in_hand: Sequence[str]) -> None:
        """Another pass holds the lock: tell each due policy that it has to wait, once a slot, unless the other pass has
        it in hand (`in_hand` are uuids). A run by hand does not wait, and is told every time."""
        for turn in turns:
            name = quoted(turn.policy.name)
            body = messages.body(messages.LOCK_FAILED, "%s has to wait: %s." % (name, held))
            if turn.forced:
                body = messages.body(
                    messages.LOCK_FAILED,
                    "%s%s. Run %s again when that pass has ended." % (messages.NOT_RUN, held, name),
                )
                self._alerts.create(messages.LOCK_FAILED, turn.policy.uuid, body)
            elif turn.policy.uuid not in in_hand and not turn.again:
                self._alerts.create_once(messages.LOCK_FAILED, turn.policy.uuid, body, turn.slot)

    def logon_failures(self, turns: Sequence[Turn], since: datetime, last: datetime) -> None:
        """Earlier ticks, from `since` to `last`, could not log in: tell the policies that waited for them."""
        period = "No session from %s to %s." % (stated(since, self._log.zone), stated(last, self._log.zone))
        for turn in turns:
            if turn.slot <= last and not turn.again:
                body = messages.body(messages.LOGON_FAILURE, period)
                self._alerts.create(messages.LOGON_FAILURE, turn.policy.uuid, body)

    def _reasons(self, served: "Served") -> List[str]:
        """Which SRs are not attached, where that made VMs fail: their errors name no SR, or only its reference."""
        from vmss.core.access import ERRORS  # few passes need it
        from vmss.edges.access import reasons

        failed = {victim.uuid: victim.name for victim in served.victims if set(victim.error[:1]).intersection(ERRORS)}
        if not failed:
            return []
        try:
            return reasons(self._context.xapi, self._context.pool, failed, served.turn.policy.type == CHECKPOINT)
        except (Refused, Misunderstood) as error:
            self._log("What keeps VMs from being snapshotted cannot be looked for: %s" % error)
            return []

    def _not_quiesced(self, served: "Served", ended: datetime) -> None:
        """Plain snapshots were taken instead of quiesced ones, and the alert of the run says so: tell the pool as well,
        once a day for each policy."""
        self._log("%s: %s" % (messages.NOT_QUIESCED, messages.SENTENCES[messages.NOT_QUIESCED]))
        line = served.plain_instead
        body = messages.body(messages.NOT_QUIESCED, "Schedule: %s.\n%s" % (quoted(served.turn.policy.name), line))
        day = ended - timedelta(days=1)
        self._alerts.create_once(messages.NOT_QUIESCED, self._context.pool.uuid, body, day, line)

    def missed_in_line(self, turn: Turn, until: datetime) -> None:
        """A turn has waited for other runs until the next slot of its policy, `until`: its slot is missed. Of one that
        tries again the run was told already."""
        if not turn.again:
            before = timedelta(seconds=1)
            self._missed(turn.policy, turn.slot - before, until - before)

    def too_late(self, turn: Turn) -> None:
        """A turn has waited for so long that it is too late for its slot. Of one that tries again the run was told
        already."""
        if not turn.again:
            from vmss.passes.lapsed import tell  # most passes have none

            tell(self._context, turn)

    def _missed(self, policy: Policy, after: datetime, ended: datetime) -> None:
        """The slots of a policy after an instant, up to the end of a run, are missed."""
        slots: List[str] = []
        slot = next_slot(policy.schedule, self._log.zone, after)
        while slot <= ended and policy.enabled and len(slots) <= _MISSED_NAMED:
            slots.append(stated(slot, self._log.zone))
            slot = next_slot(policy.schedule, self._log.zone, slot)
        if slots:
            named = slots[:_MISSED_NAMED] + ["and more"] * (len(slots) > _MISSED_NAMED)
            body = messages.body(messages.MISSED_EVENT, "Missed: %s." % ", ".join(named))
            self._alerts.create(messages.MISSED_EVENT, policy.uuid, body)

    def _set_last_run_time(self, policy: Policy, ended: datetime) -> None:
        try:
            self._context.xapi.call("VMSS.set_last_run_time", policy.ref, format_datetime(ended))
        except Refused as refused:
            self._log("last-run-time of policy %s could not be set: %s" % (policy.uuid, refused))


def _same_day(last_run: Optional[datetime], now: datetime, zone: tzinfo) -> bool:
    """Whether a policy's last run was on the day that the wall clock shows now."""
    return last_run is not None and wall_clock(zone, last_run).date() == wall_clock(zone, now).date()
