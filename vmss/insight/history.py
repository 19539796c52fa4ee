"""The run history, as XenCenter's wizard shows it, out of the messages of class VMSS. A function of values.

Messages of the vendor's plugin and of earlier versions are read too: their bodies have the same lines about VMs, which
are what XenCenter reads (xenadmin: XenAdmin/Alerts/Types/PolicyAlert.cs).
"""

import re
from datetime import datetime, tzinfo
from typing import Any, Dict, List, Mapping, Match, NamedTuple, Optional, Sequence, Tuple

from vmss.core import messages
from vmss.core.datetimes import parse_datetime, parse_stated, wall_to_instants
from vmss.core.failures import failure_of
from vmss.core.messages import SENTENCES, Victim
from vmss.core.served import AGAIN as AGAIN
from vmss.core.served import AT_SLOT as AT_SLOT
from vmss.core.served import BY_HAND as BY_HAND
from vmss.core.served import LATE as LATE
from vmss.core.served import PLAIN_INSTEAD
from vmss.core.words import counted
from vmss.insight.names import first_names

RUN_FAILED, RUN_WARNING, RUN_SUCCEEDED = "failed", "warning", "succeeded"

# The messages in a few words; the sentences of their bodies are the vendor's, and long.
_WORDS = {
    messages.SUCCEEDED: "all VMs were served",
    messages.FAILED: "at least one VM was not served",
    messages.LOCK_FAILED: "had to wait for another pass",
    messages.MISSED_EVENT: "a slot passed while it was still running",
    messages.LICENSE_ERROR: "the licence does not include scheduled snapshots",
    messages.LOGON_FAILURE: "no session with xapi",
    messages.NOT_QUIESCED: "plain snapshots instead of quiesced ones",
    messages.LEFT_SUSPENDED: "a VM is left suspended",
    messages.RESUMED: "a VM that was left suspended runs again",
}

# Lines of bodies that tell it, by their beginnings.
_PLAIN = {
    SENTENCES[messages.NOT_QUIESCED] + ". ": _WORDS[messages.NOT_QUIESCED],
    PLAIN_INSTEAD + ": ": "plain snapshots of VMs of which no other can be taken",
}

# The number of past runs that tell the duration of the next one.
RUNS_ASKED = 7

_VM_LINE = re.compile(r"VM:(.*?) UUID:(\S*) Error:\[(.*)\],?\s*\Z")
# No plugin writes a longer one; to match anybody else's would take long.
_LINE_LENGTH_MAX = 20000
# In single quotes; the vendor's plugin puts a text that contains one in double quotes.
_ITEM = re.compile(r"""'([^']*)'|"([^"]*)\"""")
# The sentence of served.Served.summary, matched to the end, for the name of a policy may be any text. Earlier versions
# wrote the plural with every number.
_SUMMARY = re.compile(
    r".*: ([0-9]+) of ([0-9]+) VMs? ha(?:s its|ve their) snapshot of "
    r"([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) \(([^()]*)\); ([0-9]+) expired snapshots? deleted\."
    r"(?: The run was started (at its slot|late, at|again, at|by hand at)(?: ([-0-9]{10} [:0-9]{8}) \(([^()]*)\),?)?"
    r" and took ([0-9]{1,9}) seconds?\.)?(?: .*)?\Z"
)
# The sentence of passes/cut_off.
_CUT_OFF = re.compile(r".* %s\. ([0-9]+) of ([0-9]+) VMs? ha(s|ve) a snapshot of it\.\Z" % re.escape(messages.CUT_OFF))
_STARTED = {"at its slot": AT_SLOT, "late, at": LATE, "again, at": AGAIN, "by hand at": BY_HAND}


class Counts(NamedTuple):
    """The numbers of a run: VMs that were snapshotted, VMs of the policy, and snapshots deleted. `slot` is its slot.
    `start`: how it was started, empty if that is not known; `started`: when, unless it was at its slot; `seconds`: how
    long it took, if that is known. Earlier versions stated both times as a wall clock showed them, which are naive
    datetimes here, and `zone` is what that clock called its zone."""

    snapshotted: int
    vms: int
    deleted: int
    slot: datetime
    start: str = ""
    started: Optional[datetime] = None
    seconds: Optional[int] = None
    zone: str = ""

    def began(self, zone: tzinfo) -> List[datetime]:
        """The instants at which it may have begun: one, unless an earlier version stated it. What that says is read on
        the clock of `zone`, if that was the clock: the setting may have changed since."""
        stated = self.started or self.slot
        if stated.tzinfo is not None:
            return [stated]
        return [at for at in wall_to_instants(zone, stated) if at.astimezone(zone).tzname() == self.zone]


class Run(NamedTuple):
    """One message: when it came, and the result as XenCenter shows it. `remark` is its first line that is neither the
    sentence of the alert nor about a VM. `plain`: in words, that plain snapshots were taken instead of
    others; else empty."""

    policy: str
    at: datetime
    name: str
    result: str
    victims: Tuple[Victim, ...] = ()
    remark: str = ""
    counts: Optional[Counts] = None
    plain: str = ""

    @property
    def meaning(self) -> str:
        """The message in words."""
        if self.gave_up:
            return "not run, for another pass was at work"
        if self.too_late:
            return "a slot was too late to be made up for"
        return _WORDS.get(self.name, self.name)

    @property
    def numbers(self) -> Optional[Tuple[int, int]]:
        """How many VMs were snapshotted, and how many were to be, if the message tells it; that of a run by hand that
        was cut off tells no other numbers."""
        if self.counts is not None:
            return self.counts.snapshotted, self.counts.vms
        match = _CUT_OFF.match(self.remark)
        return (int(match.group(1)), int(match.group(2))) if match else None

    @property
    def gave_up(self) -> bool:
        """Whether it is of a run by hand that did not begin, because another pass was at work."""
        return self.name == messages.LOCK_FAILED and self.remark.startswith(messages.NOT_RUN)

    @property
    def too_late(self) -> bool:
        """Whether it is of a slot that was not made up for, because of the setting late_limit."""
        return self.name == messages.MISSED_EVENT and self.remark.startswith(messages.NOT_MADE_UP)

    @property
    def story(self) -> str:
        """The course of the run in words: the VMs that failed and why, those with the same error together."""
        return self._course() + ("; %s" % self.plain if self.plain else "")

    def _course(self) -> str:
        if self.victims:
            names: Dict[str, List[str]] = {}
            for victim in self.victims:
                names.setdefault(reason(victim), []).append(victim.name or victim.uuid)
            return "; ".join("%s: %s" % (why, first_names(vms)) for why, vms in names.items())
        if self.counts:
            vms = counted(self.counts.vms, "VM")
            deleted = counted(self.counts.deleted, "expired snapshot")
            return "%d of %s snapshotted, %s deleted" % (self.counts.snapshotted, vms, deleted)
        if self.gave_up or self.too_late:
            return self.remark
        return "%s: %s" % (self.meaning, self.remark) if self.remark else self.meaning


class Trouble(NamedTuple):
    """An error with its remedy; the names of the VMs that had it, in how many runs, and the ends of the first and of
    the last of these."""

    sentence: str
    remedy: str
    vms: Tuple[str, ...]
    runs: int
    first: datetime
    last: datetime


def result_of(priority: int) -> str:
    """XenCenter's class of a message, by its priority alone."""
    return RUN_FAILED if priority < 3 else RUN_WARNING if priority == 3 else RUN_SUCCEEDED


def runs(messages: Mapping[str, Any]) -> List[Run]:
    """The runs that these records of messages tell of, the newest first; of those of one second the worst first.

    A record that is no message about a policy is skipped.
    """
    found = []
    for record in messages.values():
        try:
            if record["cls"] == "VMSS":
                found.append((int(record["priority"]), _run(record)))
        except (LookupError, TypeError, ValueError, AttributeError):
            continue
    found.sort(key=lambda item: (-item[1].at.timestamp(), item[0], item[1].name))
    return [run for _, run in found]


def victims(body: str) -> List[Victim]:
    """The VMs that failed, read from the body of a message: the inverse of messages.failure_line."""
    found = []
    for line in body.split("\n"):
        match = _vm_line(line)
        if match:
            items = tuple(single or double for single, double in _ITEM.findall(match.group(3)))
            # An error without parameters has an empty one, for XenCenter.
            error = items[:1] if items[1:] == ("",) else items
            found.append(Victim(match.group(1).strip(), match.group(2), error))
    return found


def reason(victim: Victim) -> str:
    """Why a VM failed, in words."""
    return failure_of(victim.error).sentence


def advice(runs: Sequence[Run], pool: str) -> List[str]:
    """The meaning and the remedy of each error, those of the newest run first; `pool` is the pool's uuid."""
    return ["%s: %s" % (trouble.sentence, trouble.remedy) for trouble in troubles(runs, pool)]


def troubles(runs: Sequence[Run], pool: str) -> List[Trouble]:
    """The errors in these runs, the newest of which come first."""
    found: Dict[Tuple[str, str], List[Tuple[Victim, Run]]] = {}
    for run in runs:
        for victim in run.victims:
            failure = failure_of(victim.error)
            found.setdefault((failure.sentence, failure.remedy), []).append((victim, run))
    return [
        Trouble(
            sentence,
            _remedy([(victim, run.policy) for victim, run in same], pool),
            tuple({victim.uuid: victim.name or victim.uuid for victim, _ in same}.values()),
            len({(run.policy, run.at) for _, run in same}),
            min(run.at for _, run in same),
            max(run.at for _, run in same),
        )
        for (sentence, _), same in found.items()
    ]


def _remedy(same: Sequence[Tuple[Victim, str]], pool: str) -> str:
    """The remedy of an error that these VMs had, each in a run of a policy, given by its uuid."""
    vms, policies = {victim.uuid for victim, _ in same}, {policy for _, policy in same}
    vm, policy = (found.pop() if len(found) == 1 else "" for found in (vms, policies))
    return failure_of(same[0][0].error, vm, policy, pool).remedy


def durations(past: Sequence[Run], late: bool = True) -> List[int]:
    """The durations of the last RUNS_ASKED runs in seconds, as their messages tell them, the newest first. Those that
    somebody started by hand do not count: they say nothing of the next one at its slot. Nor do those that were started
    late, unless `late`: after a pause many schedules run at once, and wait for each other."""
    ended, left_out = (messages.SUCCEEDED, messages.FAILED), (AGAIN, BY_HAND) + (() if late else (LATE,))
    told = [run.counts for run in past if run.counts is not None and run.name in ended]
    found = [counts.seconds for counts in told if counts.seconds is not None and counts.start not in left_out]
    return found[:RUNS_ASKED]


def median_duration(seconds: Sequence[float]) -> float:
    """The median of these durations, of an even number the longer of the two in the middle: one run that met a slow
    storage repository does not count."""
    return float(sorted(seconds)[len(seconds) // 2])


def _vm_line(line: str) -> Optional[Match[str]]:
    return _VM_LINE.match(line) if len(line) <= _LINE_LENGTH_MAX else None


def _run(record: Mapping[str, Any]) -> Run:
    name, body, result = str(record["name"]), str(record["body"]), result_of(int(record["priority"]))
    lines = [line for line in body.split("\n") if line.strip() and not _vm_line(line)]
    heading = (SENTENCES.get(name, "") + ".", messages.DETAILS)
    remark = next((line for line in lines if line not in heading), "")
    return Run(
        policy=str(record["obj_uuid"]),
        at=parse_datetime(record["timestamp"]),
        name=name,
        result=result,
        victims=tuple(victims(body)) if result == RUN_FAILED else (),
        remark=remark,
        counts=_counts(remark),
        plain=next((words for begin, words in _PLAIN.items() for line in lines if line.startswith(begin)), ""),
    )


def _counts(remark: str) -> Optional[Counts]:
    match = _SUMMARY.match(remark)
    if match is None:
        return None
    snapshotted, vms, slot, zone, deleted, start, started, zone_then, seconds = match.groups()
    try:
        return Counts(
            int(snapshotted),
            int(vms),
            int(deleted),
            parse_stated(slot, zone),
            _STARTED.get(start, ""),
            parse_stated(started, zone_then) if started else None,
            int(seconds) if seconds else None,
            zone_then or zone,
        )
    except ValueError:
        return None
