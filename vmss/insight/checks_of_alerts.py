"""The check of what XenCenter cannot show: messages about schedules with names that it does not know."""

from typing import Iterator, Sequence

from vmss.core.messages import XENCENTER_KNOWS
from vmss.core.text import one_line
from vmss.core.words import agree, counted
from vmss.edges.xapi import understood
from vmss.insight.case import Case
from vmss.insight.findings import OK, WARNING, Finding
from vmss.insight.names import first_names

# Upper limit on the messages that one remedy destroys, lest the line become too long for a shell.
_MESSAGES_MAX = 100


def alerts(case: Case) -> Iterator[Finding]:
    """Whether XenCenter can show every message about a schedule, whoever raised it. Earlier versions of vmss raised one
    that it cannot."""
    known = " or ".join('field "name" = "%s"' % name for name in XENCENTER_KNOWS)
    with understood("message"):
        # xapi reads every message for it, up to 10,000, but sends only these.
        found = case.open.xapi.call(
            "message.get_all_records_where", '(field "cls" = "VMSS") and (not (%s))' % known
        ).values()
        names = sorted({str(record["name"]) for record in found})
        uuids = sorted(str(record["uuid"]) for record in found)
    if not uuids:
        yield Finding(OK, "alerts", "XenCenter knows the names of all messages about schedules")
        return
    yield Finding(
        WARNING,
        "alerts",
        "%s of class VMSS %s a name that XenCenter does not know: it shows the history of no schedule in this pool"
        % (counted(len(uuids), "message"), agree(len(uuids), "has", "have")),
        first_names(names),
        destruction(uuids),
    )


def destruction(uuids: Sequence[str]) -> str:
    """The command line that destroys these messages, or the first of them."""
    safe = [one_line(uuid, 40) for uuid in uuids[:_MESSAGES_MAX]]
    if len(uuids) == 1:
        return "vmss xe message-destroy uuid=%s" % safe[0]
    line = "for uuid in %s; do vmss xe message-destroy uuid=$uuid; done" % " ".join(safe)
    return line + ("; then again vmss doctor" if len(uuids) > len(safe) else "")
