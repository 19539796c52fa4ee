"""What is left over, as `vmss status` and `vmss doctor` tell it: by the one list that passes keep."""

from datetime import datetime
from typing import Dict, Iterator, List, Sequence, Tuple

from vmss.core.failures import failure_of
from vmss.core.left_over import DISK, MEMORY, NAMELESS, SNAPSHOT, Item
from vmss.core.text import one_line
from vmss.core.words import agree, counted, distance
from vmss.insight.findings import WARNING, Finding, Moment
from vmss.insight.names import first_names
from vmss.insight.reading import Reading
from vmss.passes import left_over
from vmss.passes.journal import LEFT_OVER
from vmss.passes.retrying import with_surplus

CHECK = "left over"

# Upper limit on the disks that have a finding, and a remedy, each.
_FOUND_MAX = 10

_NOUNS = {DISK: "disk", SNAPSHOT: "expired snapshot"}
_VERBS = {DISK: "could not be destroyed with %s: %s", SNAPSHOT: "could not be deleted%s: %s"}


def read(session: Reading) -> List[Item]:
    """What is on the list and is still there, without snapshots that retention keeps by now, which the next try takes
    off the list. No call is made if nothing is on it."""
    there = left_over.still_there(session.xapi, left_over.read(session.pool.other_config))
    vms = sorted({item.of for item in there if item.kind == SNAPSHOT})
    if not vms:
        return there
    read_vms = with_surplus(session.xapi, session.settings, session.zone, vms, session.now())
    surplus = {snapshot.uuid for _, snapshots in read_vms for snapshot in snapshots}
    misread = {vm.uuid for vm, _ in read_vms if vm.misread}
    return [item for item in there if item.kind != SNAPSHOT or item.uuid in surplus or item.of in misread]


def findings(items: Sequence[Item], moment: Moment, now: datetime) -> List[Finding]:
    """A finding for all that could not be deleted for one reason, and one for each disk that may have been left."""
    groups: Dict[Tuple[str, str], List[Item]] = {}
    for item in items:
        if item.kind in _NOUNS:
            groups.setdefault((item.kind, item.stuck.error[0] if item.stuck.error else ""), []).append(item)
    found = [_stuck(group, moment, now) for group in groups.values()]
    return found + list(_found([item for item in items if item.kind not in _NOUNS], moment))


def _stuck(group: Sequence[Item], moment: Moment, now: datetime) -> Finding:
    """Disks or snapshots that could not be deleted for one reason; all are tried again."""
    first = min(group, key=lambda item: item.stuck.since)
    failure = failure_of(first.stuck.error)
    whose = agree(len({item.of for item in group}), "its snapshot", "their snapshots") if first.kind == DISK else ""
    following = min(item.stuck.tried + item.stuck.pause for item in group)
    evidence = "%s; since %s, tries: %d, the next one %s" % (
        one_line(" ".join(first.stuck.error), 200),
        moment(first.stuck.since),
        max(item.stuck.tries for item in group),
        distance(following, now) if following > now else "at the next tick",
    )
    uuids = [item.uuid for item in sorted(group, key=lambda item: (item.stuck.since, item.uuid))]
    what = "%s %s" % (counted(len(group), _NOUNS[first.kind]), _VERBS[first.kind] % (whose, failure.sentence))
    remedy = failure.remedy.replace("vdi-uuid=UUID", "vdi-uuid=%s" % uuids[0])
    return Finding(
        WARNING, CHECK, "%s: %s" % (what, first_names(uuids)), evidence, "%s Then try at once: vmss run" % remedy
    )


def _found(items: Sequence[Item], moment: Moment) -> Iterator[Finding]:
    """Disks that a dying xapi may have left, or a checkpoint. Whose they are only an administrator can find out."""
    for item in sorted(items, key=lambda item: (item.stuck.since, item.uuid))[:_FOUND_MAX]:
        whys = {NAMELESS: "it has no name and no VM", MEMORY: "the memory of a VM; no suspended VM has it"}
        why = whys.get(item.kind, "made while a snapshot of VM %s was taken" % item.of)
        yield Finding(
            WARNING,
            CHECK,
            "%s may have left disk %s"
            % ("a checkpoint" if item.kind == MEMORY else "an unfinished snapshot", item.uuid),
            "%s; found %s" % (why, moment(item.stuck.since)),
            "xe vdi-param-list uuid=%s shows it; if nobody needs it: xe vdi-destroy uuid=%s; "
            "if it is another product's: xe vdi-param-set uuid=%s other-config:%s=true"
            % (item.uuid, item.uuid, item.uuid, left_over.KEEP_KEY),
        )
    if len(items) > _FOUND_MAX:
        yield Finding(
            WARNING,
            CHECK,
            "unfinished snapshots may have left more disks: %d" % (len(items) - _FOUND_MAX),
            "they are named in pool.other_config, %s…" % LEFT_OVER,
            "see to those that are named: then vmss doctor names the others",
        )
