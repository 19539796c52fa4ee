"""How `vmss apply` shows what becomes of schedules and of VMs: the table, the sentence about all, and the errors."""

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Set, Tuple

from vmss.cli.layout import Column
from vmss.core.assignment import Change
from vmss.core.differences import (
    CHANGE,
    CREATE,
    DELETE,
    DONE,
    LEFT,
    REFUSED,
    SKIPPED,
    TO_DO,
    UNCHANGED,
    Target,
    in_words,
)
from vmss.core.failures import failure_of
from vmss.core.words import counted

# What a row says of a schedule that has no difference.
WORDS = {UNCHANGED: "unchanged", LEFT: "not declared"}
# What changes in the row of a VM.
VM = "VM"


class Applied(NamedTuple):
    """What became of the schedules, and of the VMs that were not where they are declared to be; `already` were.
    `rehearsed`: nothing was changed."""

    targets: Tuple[Target, ...]
    changes: Tuple[Change, ...]
    already: int
    rehearsed: bool

    @property
    def refused(self) -> bool:
        """Whether xapi refused anything."""
        return any(target.refused for target in self.targets) or any(change.error for change in self.changes)


def columns() -> List[Column]:
    """The columns of the table."""
    return [
        Column("schedule", "schedule", least=12),
        Column("change", "change"),
        Column("vm", "VM", least=8),
        Column("from", "from", least=16, flows=True),
        Column("to", "to", least=16, flows=True),
        Column("result", "result"),
        Column("deletes", "next run deletes", _number, gives=[(3, None)]),
        Column("later", "later runs", lambda number: str(number or ""), right=True, gives=[(2, None)]),
        Column("uuid", "uuid", gives=[(1, None)]),
        Column("error"),
    ]


def rows(applied: Applied, names: Mapping[str, str]) -> Iterator[Dict[str, Any]]:
    """A row for each difference, each schedule without one, and each VM that moves. `names` are those of schedules by
    reference."""
    for target in applied.targets:
        if target.action in WORDS:
            yield {
                "schedule": target.name,
                "to": in_words(target.policy) if target.policy else None,
                "result": WORDS[target.action],
                "uuid": target.uuid,
            }
        for step in target.steps:
            yield {
                "schedule": target.name,
                "change": step.what,
                "from": step.before,
                "to": step.after,
                "result": step.result,
                "uuid": target.uuid or None,
                "error": " ".join(step.error) or None,
            }
    refused = _refused(applied.targets)
    for change in applied.changes:
        to = change.to.name if change.to else ""
        yield {
            "schedule": to,
            "change": VM,
            "vm": change.vm.name,
            "from": names.get(change.vm.schedule, change.vm.schedule) or None,
            "to": to,
            "result": _result(change, applied, refused),
            "deletes": list(change.deletes),
            "later": change.later,
            "uuid": change.vm.uuid,
            "error": " ".join(change.error) or None,
        }


def in_one_line(applied: Applied) -> str:
    """What came, or would come, of all this."""
    done, rehearsed = TO_DO if applied.rehearsed else DONE, "would be " if applied.rehearsed else ""
    numbers = {
        action: sum(
            target.action == action and all(step.result == done for step in target.steps) for target in applied.targets
        )
        for action in (CREATE, CHANGE, DELETE, UNCHANGED, LEFT)
    }
    parts = [
        "%s %s%s" % (counted(numbers[action], "schedule"), rehearsed, word)
        for action, word in ((CREATE, "created"), (CHANGE, "changed"), (DELETE, "deleted"))
        if numbers[action]
    ]
    refused = _refused(applied.targets)
    moved = sum(_result(change, applied, refused) == done for change in applied.changes)
    parts += ["%s %sput on schedules" % (counted(moved, "VM"), rehearsed)] if moved else []
    parts += ["%s unchanged" % counted(numbers[UNCHANGED], "schedule")] if numbers[UNCHANGED] else []
    parts += ["%s not declared, and left alone" % counted(numbers[LEFT], "schedule")] if numbers[LEFT] else []
    errors = sum(target.refused for target in applied.targets) + sum(bool(change.error) for change in applied.changes)
    parts += ["errors: %d" % errors] if errors else []
    return "; ".join((parts or ["there is nothing to do"]) + ["nothing was changed"] * applied.rehearsed)


def errors(applied: Applied) -> Iterator[str]:
    """What xapi refused: of each the reason, and what to do."""
    for target in applied.targets:
        for step in target.steps:
            if step.error:
                yield _told("%s: %s" % (target.name, step.what), step.error, "", target.uuid)
    for change in applied.changes:
        if change.error and change.to is not None:
            yield _told(change.vm.name or change.vm.uuid, change.error, change.vm.uuid, change.to.uuid)


def _told(what: str, error: Sequence[str], vm: str, schedule: str) -> str:
    failure = failure_of(error, vm, schedule)
    return "%s: %s (%s). %s" % (what, failure.sentence, " ".join(error), failure.remedy)


def _refused(targets: Sequence[Target]) -> Set[str]:
    return {target.name for target in targets if target.refused}


def _result(change: Change, applied: Applied, refused: Set[str]) -> str:
    """What became of a VM: it comes on no schedule of which something was refused."""
    if change.error:
        return REFUSED
    if change.to is not None and change.to.name in refused:
        return SKIPPED
    return TO_DO if applied.rehearsed else DONE


def _number(snapshots: Any) -> str:
    return counted(len(snapshots), "snapshot") if snapshots else ""
