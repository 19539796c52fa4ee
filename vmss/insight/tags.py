"""Tags of VMs that name a schedule and cannot be followed: what is in the way, and what removes it."""

from typing import Iterator, List, Sequence

from vmss.core.assignment import Member
from vmss.core.by_tag import ELSEWHERE, TOO_MANY, Tagged
from vmss.core.policy import Policy
from vmss.core.text import one_line, quoted
from vmss.edges.members import TAGGED, read_members
from vmss.edges.shell import shell_word
from vmss.insight.findings import WARNING, Finding
from vmss.insight.reading import Reading
from vmss.passes import by_tag

# So many VMs are told one by one.
_TOLD_MAX = 10
# A tag that is longer, or has characters that would be escaped, is in no command.
_TAG_MAX = 100


def findings(session: Reading, policies: Sequence[Policy], everywhere: bool) -> List[Finding]:
    """A finding for each VM whose tag cannot be followed, if tags are: of the VMs on no schedule, or `everywhere`."""
    if not session.settings.assign_by_tag:
        return []
    vms: List[Member] = read_members(session.xapi, TAGGED) if everywhere else by_tag.read_tagged(session.xapi)
    return list(_told([one for one in by_tag.judged(session.xapi, vms, policies) if one.obstacle]))


def _told(found: Sequence[Tagged]) -> Iterator[Finding]:
    for one in found[:_TOLD_MAX]:
        text = "%s is not where its tag says: %s" % (quoted(one.vm.name or one.vm.uuid), one.why)
        yield Finding(WARNING, "tags", text, "assign_by_tag is yes; %s" % one.obstacle, _remedy(one))
    if found[_TOLD_MAX:]:
        text = "VMs that are not where their tags say: %d more" % len(found[_TOLD_MAX:])
        yield Finding(WARNING, "tags", text, "assign_by_tag is yes", "mend these first, then again: vmss doctor")


def _remedy(one: Tagged) -> str:
    uuid = one_line(one.vm.uuid, 40)
    if one.to is not None and one.obstacle in (ELSEWHERE, TOO_MANY):
        return "put it there, after a look at what goes (--dry-run): vmss assign %s --uuid %s" % (one.to.uuid, uuid)
    if one_line(one.tag, _TAG_MAX) != one.tag:
        return "take the tag off in another way, for no command line here can have it: xe vm-param-list uuid=%s" % uuid
    word = shell_word(one.tag, _TAG_MAX)
    return "take the tag off: xe vm-param-remove uuid=%s param-name=tags param-key=%s" % (uuid, word)
