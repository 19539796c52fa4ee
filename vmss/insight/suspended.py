"""VMs that a checkpoint of ours has left suspended, as `vmss status` and `vmss doctor` report them."""

from datetime import datetime
from typing import Dict, List

from vmss.core.frozen import LEFT, LOST, STUCK, Frozen, judge, reason, remedy
from vmss.core.records import FROZEN_SUFFIX
from vmss.core.text import one_line, quoted
from vmss.edges import frozen as kept
from vmss.edges.lock import existing
from vmss.insight.findings import CRITICAL, OK, Finding
from vmss.insight.lock_and_log import Local
from vmss.insight.reading import Reading

CHECK = "suspended VMs"


def examine(session: Reading, local: Local, now: datetime) -> List[Finding]:
    """One finding for each VM that ran when a checkpoint of ours began, and that is Suspended though none is under way.

    No call is made unless a pass has left a note.
    """
    notes = _notes(session, local)
    seen = kept.look(session.xapi, notes, now) if notes else {}
    limit_s = session.settings.checkpoint_limit + session.settings.cancel_limit
    found = []
    for frozen in notes:
        it = seen.get(frozen.vm)
        state = judge(frozen, it, now, limit_s)
        if it is not None and state in (LEFT, LOST, STUCK):
            found.append(
                Finding(
                    CRITICAL,
                    CHECK,
                    "VM %s is down: a checkpoint has left it suspended" % quoted(it.name or frozen.vm),
                    "it ran when the checkpoint began, %s; %s"
                    % (session.moment(frozen.since), one_line(reason(state, it.operations), 130)),
                    remedy(frozen.vm, state),
                )
            )
    return found


def check(session: Reading, local: Local, now: datetime) -> List[Finding]:
    """The same, or that there is none."""
    return examine(session, local, now) or [
        Finding(OK, CHECK, "no VM is suspended that ran when a checkpoint of it began")
    ]


def _notes(session: Reading, local: Local) -> List[Frozen]:
    """What passes have noted: in the pool's database, and in the file beside the lock if this machine has it."""
    filed: Dict[str, Frozen] = {}
    if not local.hidden and not local.lock_error:
        with existing(local.lock_dir) as directory:
            filed = {} if directory is None else kept.of_file(directory.read(session.pool.uuid + FROZEN_SUFFIX))
    notes = kept.believed(kept.of_pool(session.pool.other_config), filed, session.now())
    return [notes[vm] for vm in sorted(notes)]
