"""The alerts about a schedule: names, priorities and sentences, and the bodies that XenCenter and people read."""

from typing import Dict, List, NamedTuple, Sequence

from vmss.core.text import one_line
from vmss.core.words import counted

# The name of each alert; its priority in XAPI, which XenCenter shows as Failed (1, 2), Warning (3) or Succeeded (4, 5)
# (docs/xapi-facts.md, Priorities of messages); and its sentence. LOCK_FAILED and MISSED_EVENT have the vendor's.
SUCCEEDED = "VMSS_SNAPSHOT_SUCCEEDED"
FAILED = "VMSS_SNAPSHOT_FAILED"
LOCK_FAILED = "VMSS_SNAPSHOT_LOCK_FAILED"
MISSED_EVENT = "VMSS_SNAPSHOT_MISSED_EVENT"
LICENSE_ERROR = "VMSS_LICENSE_ERROR"
LOGON_FAILURE = "VMSS_XAPI_LOGON_FAILURE"
# XenCenter knows the names above. A message of class VMSS with any other name breaks its dialog of schedules, for the
# whole pool: what is ours alone is of class Pool (docs/xapi-facts.md, Names that XenCenter knows).
XENCENTER_KNOWS = (SUCCEEDED, FAILED, LOCK_FAILED, MISSED_EVENT, LICENSE_ERROR, LOGON_FAILURE)
NOT_QUIESCED = "VMSS_SNAPSHOT_NOT_QUIESCED"
LEFT_SUSPENDED = "VMSS_VM_LEFT_SUSPENDED"
RESUMED = "VMSS_VM_RESUMED"

PRIORITIES = {
    SUCCEEDED: 5,
    FAILED: 1,
    LOCK_FAILED: 3,
    MISSED_EVENT: 3,
    LICENSE_ERROR: 1,
    LOGON_FAILURE: 1,
    NOT_QUIESCED: 3,
    LEFT_SUSPENDED: 1,
    RESUMED: 3,
}
SENTENCES = {
    SUCCEEDED: "The scheduled snapshots of this snapshot policy were taken",
    FAILED: "At least one scheduled snapshot of this snapshot policy failed",
    LOCK_FAILED: "The snapshot phase is already executing for this snapshot policy. Please try again later",
    MISSED_EVENT: "A scheduled snapshot event was missed due to another on-going scheduled snapshot run. "
    "This is unexpected behaviour, please re-configure your snapshot sub-policy",
    LICENSE_ERROR: "The pool's licence does not include scheduled snapshots",
    LOGON_FAILURE: "Could not login to XAPI session",
    NOT_QUIESCED: "This pool has no quiesced snapshots any more: plain snapshots were taken instead",
    LEFT_SUSPENDED: "A VM ran, and a checkpoint of it has left it suspended",
    RESUMED: "A VM that a checkpoint had left suspended was resumed",
}
# Where to look for what a pool's licence lacks: it includes what the licences of all its hosts do.
LICENCES = "compare the licences of the hosts: xe host-list params=name-label,edition,license-params"
# How the text for people begins in an alert LOCK_FAILED of a run by hand: nobody will do it later.
NOT_MADE_UP = "Missed, and not made up for"
NOT_RUN = "Not run by hand: "
# In the alert of a run by hand that did not come to its end, which another pass raises.
CUT_OFF = "was cut off: its pass was killed, or lost xapi"
_KINDS = {1: "error", 3: "warn", 5: "info"}

# The upper limit on a call to xapi is 300 KiB of XML (docs/xapi-facts.md, Size of requests and records).
_BODY_BYTES_MAX = 100000
_NAME_LENGTH_MAX = 200
_ELEMENT_LENGTH_MAX = 500
_ELEMENTS_MAX = 10

DETAILS = "Details:"
# What XenCenter's parsers look for. With a blank before the colon they do not find it, and people read the same.
_MARKS = ("VM:", "UUID:", "Error:", DETAILS)


class Victim(NamedTuple):
    """A VM that was not served, and XAPI's error array."""

    name: str
    uuid: str
    error: Sequence[str]


def log_lines(name: str, at: str) -> List[str]:
    """The lines that the log has for an alert; `at` is the local wall-clock time."""
    kind = _KINDS[PRIORITIES[name]]
    lines = [] if name == SUCCEEDED else ["'%s': '%s'" % (name, SENTENCES[name])]
    lines.append(
        "RETURN in create_structured_alert: <XCData><time>%s</time><messagetype>%s</messagetype>"
        "<message>%s</message></XCData>" % (at, kind, name)
    )
    return lines


def class_of(name: str) -> str:
    """The class of the messages of this name: VMSS, which are about a schedule, or Pool."""
    return "VMSS" if name in XENCENTER_KNOWS else "Pool"


def failure_line(victim: Victim) -> str:
    """The line about one VM that was not served, in the form that XenCenter parses (docs/xapi-facts.md, Bodies that
    XenCenter parses)."""
    items = ", ".join("'%s'" % item for item in _items(victim.error))
    return "VM:%s UUID:%s Error:[%s]," % (_element(victim.name, _NAME_LENGTH_MAX), _element(victim.uuid, 40), items)


def failed_body(
    victims: Sequence[Victim], summary: str, schedule: str = "", reasons: Sequence[str] = (), pool: str = ""
) -> str:
    """The body of an alert about VMs that were not served, in the vendor's form: a heading, `Details:`, and lines that
    XenCenter parses; then text for people.

    `schedule` is the uuid of the policy, `pool` that of the pool; `reasons` are what was found out about these failures
    beyond their errors.
    """
    lines: List[str] = []
    more: List[str] = []
    size = 0
    for victim in victims:
        line = failure_line(victim)
        # In XML, each of these three becomes up to five bytes.
        size += len(line.encode("utf-8")) + 4 * sum(map(line.count, "&<>")) + 1
        if size > _BODY_BYTES_MAX:
            more.append("%s failed: see /var/log/VMSSlog." % counted(len(victims) - len(lines), "more VM"))
            break
        lines.append(line)
    text = "\n".join(more + [summary] + _advice(victims, schedule, pool)[:20] + list(reasons[:20]))
    return "\n".join([SENTENCES[FAILED] + ".", DETAILS] + lines + [_for_people(text)])


def not_made_up(slot: str, schedule: str) -> str:
    """The body of the alert that a slot was missed and is too late to be made up for; `slot` is stated. The vendor's
    sentence would say that another run was in its way."""
    return _for_people(
        "%s: %s. More time has passed since then than the setting late_limit allows.\n"
        "To take the snapshots now: vmss run --policy %s --missing" % (NOT_MADE_UP, slot, schedule)
    )


def body(name: str, summary: str) -> str:
    """The body of any other alert. XenCenter before October 2020 looks for VMs that failed in these as well."""
    return _for_people("%s.\n%s" % (SENTENCES[name], summary))


def _advice(victims: Sequence[Victim], schedule: str, pool: str) -> List[str]:
    """One line for each different error: its sentence and the next step, for the VM if it is the only one."""
    from vmss.core.failures import failure_of  # few passes need it

    vms: Dict[str, List[Victim]] = {}
    for victim in victims:
        failure = failure_of(victim.error)
        code = _element(victim.error[0] if victim.error else "", 80)
        vms.setdefault("%s: %s. %s" % (code, _element(failure.sentence, 200), failure.remedy), []).append(victim)
    lines = []
    for same in vms.values():
        failure = failure_of(same[0].error, same[0].uuid if len(same) == 1 else "", schedule, pool)
        code = _element(same[0].error[0] if same[0].error else "", 80)
        lines.append("%s: %s. %s" % (code, _element(failure.sentence, 200), failure.remedy))
    return lines


def _items(error: Sequence[str]) -> List[str]:
    """The items of an error array, so that each parser finds them: the current one needs a code, which ends at a comma.
    The one before October 2020 drops brackets, ends an item at a single quote and a comma, and takes all that follows
    the last one for a part of it: so the code is never the last one."""
    code = _element(error[0], _ELEMENT_LENGTH_MAX) if error else ""
    for sign in "[],":
        code = code.replace(sign, " ")
    code = code.strip()
    items = [_element(item, _ELEMENT_LENGTH_MAX) for item in error[1:_ELEMENTS_MAX]] or [""]
    return [code or "UNKNOWN_ERROR"] + [" " + item if item.startswith(",") else item for item in items]


def _element(text: str, length_max: int) -> str:
    """A text from outside, for a line about a VM: it has no single quote, and begins no VM."""
    return _unmarked(one_line(text, length_max).replace("'", "\u2019"))


def _for_people(text: str) -> str:
    """Lines for people, in which XenCenter finds no VM."""
    return "\n".join(_unmarked(one_line(line)) for line in text.split("\n"))


def _unmarked(text: str) -> str:
    for mark in _MARKS:
        text = text.replace(mark, mark[:-1] + " :")
    return text
