"""What a pass tells of its runs: the alerts, last-run-time, and the lines of the log that go with them."""

from datetime import datetime, timedelta
from typing import List, Sequence

from vmss.core import messages
from vmss.core.datetimes import format_datetime, local
from vmss.core.messages import Victim
from vmss.core.policy import CHECKPOINT, Policy
from vmss.core.schedule import next_slot
from vmss.core.text import quoted
from vmss.core.turn import Served, Turn
from vmss.edges.alerts import Alerts
from vmss.edges.lock import Held
from vmss.edges.xapi import Misunderstood, Refused
from vmss.passes.context import Context

# Missed slots that an alert names.
_MISSED_NAMED = 10


class Teller:
    """Tells of runs that are over, of policies that could not be served, and remembers what it has told.

    `runs` are the runs that are over. `owing`: an alert could not be stored, so the policy stays due and the next pass
    repeats its alert. `postscript` is a sentence that the next alert of a run has to carry.
    """

    def __init__(self, context: Context) -> None:
        self.runs: List[Served] = []
        self.owing = False
        self.postscript = ""
        self._context = context
        self._log = context.log
        self._alerts = Alerts(context.xapi, context.clock, context.log)

    def run_is_over(self, served: Served) -> None:
        """Raise the alert of a run, then set last-run-time: in this order a crash between the two repeats the alert,
        and loses none."""
        policy, zone, ended = served.turn.policy, self._log.zone, self._context.clock.now()
        self._log(
            "snapshot start time: %s, end time: %s, Last expected run time: %s"
            % (local(served.started, zone), local(ended, zone), local(served.turn.slot, zone))
        )
        summary, self.postscript = served.summary(zone) + self.postscript, ""
        if served.victims:
            body = messages.failed_body(served.victims, summary, policy.uuid, self._reasons(served))
            raised = self._alerts.create(messages.FAILED, policy.uuid, body)
        else:
            raised = self._alerts.create(messages.SUCCEEDED, policy.uuid, messages.body(messages.SUCCEEDED, summary))
        if served.degraded:
            self._not_quiesced(policy, summary, ended)
        self._missed(served, ended)
        if raised:
            self._set_last_run_time(policy, ended)
        else:
            self.owing = True
        self._log("Completed processing policy: %s" % policy.uuid)
        self.runs.append(served)

    def restricted(self, turns: Sequence[Turn], alert: bool = True) -> None:
        """The pool's licence does not include scheduled snapshots: tell each policy that was due, once a slot."""
        for turn in turns:
            victim = Victim(turn.policy.name, turn.policy.uuid, ("LICENCE_RESTRICTION", "VMSS"))
            self.runs.append(Served(turn, self._context.clock.now(), victims=(victim,)))
            if alert:
                body = messages.body(
                    messages.LICENSE_ERROR, "No snapshots were taken for %s." % quoted(turn.policy.name)
                )
                self._alerts.create_once(messages.LICENSE_ERROR, turn.policy.uuid, body, turn.slot)

    def put_off(self, turns: Sequence[Turn], held: Held, in_hand: Sequence[str]) -> None:
        """Another pass holds the lock: tell each due policy that it has to wait, once a slot, unless the other pass has
        it in hand (`in_hand` are uuids). A run by hand is told every time."""
        for turn in turns:
            body = messages.body(messages.LOCK_FAILED, "%s has to wait: %s." % (quoted(turn.policy.name), held))
            if turn.forced:
                self._alerts.create(messages.LOCK_FAILED, turn.policy.uuid, body)
            elif turn.policy.uuid not in in_hand:
                self._alerts.create_once(messages.LOCK_FAILED, turn.policy.uuid, body, turn.slot)

    def logon_failures(self, turns: Sequence[Turn], since: datetime, last: datetime) -> None:
        """Earlier ticks, from `since` to `last`, could not log in: tell the policies that waited for them."""
        period = "No session from %s to %s." % (local(since, self._log.zone), local(last, self._log.zone))
        for turn in turns:
            if turn.slot <= last:
                body = messages.body(messages.LOGON_FAILURE, period)
                self._alerts.create(messages.LOGON_FAILURE, turn.policy.uuid, body)

    def _reasons(self, served: Served) -> List[str]:
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

    def _not_quiesced(self, policy: Policy, summary: str, ended: datetime) -> None:
        self._log("%s: %s" % (messages.NOT_QUIESCED, messages.SENTENCES[messages.NOT_QUIESCED]))
        body = messages.body(messages.NOT_QUIESCED, summary)
        self._alerts.create_once(messages.NOT_QUIESCED, policy.uuid, body, ended - timedelta(days=1))

    def _missed(self, served: Served, ended: datetime) -> None:
        """Slots of the policy that passed while it was running are missed."""
        policy = served.turn.policy
        slots: List[str] = []
        slot = next_slot(policy.schedule, self._log.zone, served.started)
        while slot <= ended and policy.enabled and len(slots) <= _MISSED_NAMED:
            slots.append(local(slot, self._log.zone))
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
