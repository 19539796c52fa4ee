"""What `vmss apply` and `vmss export` are about: the schedules that are declared, beside those of the pool."""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from vmss.core import declared, differences
from vmss.core.assignment import Change, Member, Selection, Selector, change_to
from vmss.core.declared import Declared
from vmss.core.differences import DELETE, LEFT, Present, Target
from vmss.core.policy import Policy
from vmss.core.problem import BadInput
from vmss.core.text import one_line, quoted
from vmss.core.words import agree, counted, listed
from vmss.edges import document
from vmss.edges.members import TAGGED, read_by_uuid, read_members
from vmss.edges.vms import read_snapshots
from vmss.insight import policies
from vmss.insight.assignments import check_uuids, of_vm
from vmss.insight.policies import Entry
from vmss.insight.reading import Reading

# How `vmss export` names the VMs of a schedule.
BY_NAME, BY_UUID = FORMS = ("name", "uuid")


class Intent(NamedTuple):
    """What is to become of each schedule, and of each VM that is not where it is declared to be; `already` are those
    that are, and `remarks` what else there is to say."""

    targets: Tuple[Target, ...]
    changes: Tuple[Change, ...]
    already: int
    remarks: Tuple[str, ...]


def load(path: str) -> List[Declared]:
    """The schedules that a document declares: in a file, or on standard input for `-`. Raise BadInput, with its name,
    for what cannot be read, and for a mistake."""
    try:
        return declared.read(document.load(path))
    except BadInput as mistake:
        raise BadInput("%s: %s" % (document.name_of(path), mistake))


def intended(session: Reading, path: str, wanted: Sequence[Declared], delete_others: bool) -> Intent:
    """What it takes to bring the pool there. Raise BadInput, with the document's name, where that cannot be told."""
    try:
        targets = differences.compare(wanted, _present(policies.read(session)), delete_others)
        meant, remarks = _meant(session, wanted)
        changes = list(_changes(session, [one for one in targets if one.action not in (LEFT, DELETE)], meant))
    except BadInput as mistake:
        raise BadInput("%s: %s" % (document.name_of(path), mistake))
    moving = tuple(change for change in changes if change.is_one)
    remarks += [text for target in targets for text in _of_target(target, wanted, meant)]
    return Intent(tuple(targets), moving, len(changes) - len(moving), tuple(remarks))


def exported(session: Reading, chosen: Sequence[str], vms: Optional[str]) -> Tuple[Dict[str, Any], List[str]]:
    """The document that declares schedules of the pool, all if none is chosen, with their VMs if `vms` says how these
    are named; and what else there is to say. Raise BadInput for what no document can declare."""
    entries = policies.read(session)
    wanted = [policies.find(entries, one).uuid for one in chosen] or [entry.uuid for entry in entries]
    present = _present([entry for entry in entries if entry.uuid in wanted])
    known = list(_declarable(present))
    members = read_members(session.xapi) if vms else []
    remarks = list(_ambiguous(present, members)) if vms == BY_NAME else []
    found = [differences.declaration(one, text, _selectors(one, members, vms)) for one, text in known]
    return declared.document(found), remarks


def _present(entries: Sequence[Entry]) -> List[Present]:
    return [
        Present(entry.ref, entry.uuid, entry.name, entry.description, entry.policy, entry.error) for entry in entries
    ]


# The VMs


def _meant(session: Reading, wanted: Sequence[Declared]) -> Tuple[Dict[str, List[Member]], List[str]]:
    """The VMs that are meant, by the names of schedules, and what is said of selectors that mean none. Raise BadInput
    for a uuid of no VM, and for a VM that is to be on two schedules."""
    selectors = [selector for one in wanted for selector in one.vms]
    vms = Selection(_candidates(session, selectors))
    found: Dict[str, List[Member]] = {}
    remarks: List[str] = []
    on: Dict[str, str] = {}
    for one in wanted:
        mine: Dict[str, Member] = {}
        for selector in one.vms:
            taken = vms.of(selector)
            try:
                check_uuids(selector.uuids, [vm.uuid for vm in taken])
            except BadInput as mistake:
                raise BadInput("%s: vms: uuids: %s" % (declared.at(one.name), mistake))
            if not taken:
                remarks.append("%s: no VM has %s" % (declared.at(one.name), selector))
            mine.update((vm.ref, vm) for vm in taken)
        for vm in mine.values():
            if vm.ref in on:
                raise BadInput(
                    "schedules %s and %s: the VM %s is meant by both, and can be on one only: nothing was changed"
                    % (quoted(on[vm.ref]), quoted(one.name), quoted(vm.name or vm.uuid))
                )
            on[vm.ref] = one.name
        found[one.name] = list(mine.values())
    return found, remarks


def _candidates(session: Reading, selectors: Sequence[Selector]) -> List[Member]:
    """The VMs among which those are that are meant: no more than have to be read."""
    found: Dict[str, Member] = {}
    if any(selector.name is not None for selector in selectors):
        found.update((vm.ref, vm) for vm in read_members(session.xapi))
    elif any(selector.tag is not None for selector in selectors):
        found.update((vm.ref, vm) for vm in read_members(session.xapi, TAGGED))
    uuids = [uuid for selector in selectors for uuid in selector.uuids]
    known = {vm.uuid for vm in found.values()}
    missing = [uuid for uuid in uuids if uuid not in known]
    found.update((vm.ref, vm) for vm in (read_by_uuid(session.xapi, missing) if missing else []))
    return sorted(found.values(), key=lambda vm: (vm.name, vm.uuid))


def _changes(session: Reading, targets: Sequence[Target], meant: Dict[str, List[Member]]) -> Iterator[Change]:
    """Each VM that is meant, with what it means for it to be on its schedule."""
    now = session.now()
    pairs = [(vm, target.policy) for target in targets for vm in meant.get(target.name, ()) if target.policy]
    keeps = [session.settings.keep_of(to, session.zone, vm.tags) for vm, to in pairs]
    may = [
        vm.ref
        for (vm, to), keep in zip(pairs, keeps)
        if vm.schedule != to.ref and keep.may_expire(len(vm.snapshots) + 1)
    ]
    snapshots = read_snapshots(session.xapi, may)
    for (vm, to), keep in zip(pairs, keeps):
        yield change_to(vm, to, keep, of_vm(vm, snapshots), now)


def _of_target(target: Target, wanted: Sequence[Declared], meant: Dict[str, List[Member]]) -> Iterator[str]:
    """What is said of a schedule beside its differences."""
    policy, name = target.policy, quoted(target.name)
    if policy is None or not policy.vms:
        return
    lowered = [step for step in target.steps if step.what == "retained_snapshots" and step.after < step.before]
    for step in lowered:
        yield "%s keeps %s of each VM instead of %d: its next runs delete older ones, a few at a time" % (
            name, counted(step.after, "snapshot"), step.before
        )  # fmt: skip
    mine = {vm.ref for vm in meant.get(target.name, ())}
    if target.action == DELETE:
        left = set(policy.vms) - {vm.ref for vms in meant.values() for vm in vms}
        if left:
            yield "%s is deleted: %s of it %s on no schedule then, and no run deletes their snapshots" % (
                name, counted(len(left), "VM"), agree(len(left), "is", "are")
            )  # fmt: skip
    others = set(policy.vms) - mine
    if others and any(one.name == target.name and one.vms for one in wanted):
        yield "%s of %s %s not in the document: left on it" % (
            counted(len(others), "VM"), name, agree(len(others), "is", "are")
        )  # fmt: skip


# The export


def _declarable(present: Sequence[Present]) -> Iterator[Tuple[Policy, str]]:
    """The schedules with their descriptions. Raise BadInput for one that no document can declare."""
    names = [one.name for one in present]
    rename = "give it another one: vmss xe vmss-param-set name-label=NAME uuid=%s"
    for one in present:
        if one.policy is None:
            raise BadInput("schedule %s cannot be understood: %s" % (one_line(one.uuid, 80), one.error))
        if not one.name:
            raise BadInput("a schedule has no name; " + rename % one_line(one.uuid, 80))
        if names.count(one.name) > 1:
            same = "%d schedules have the name %s; " % (names.count(one.name), quoted(one.name))
            raise BadInput(same + rename % one_line(one.uuid, 80))
        yield one.policy, one.description


def _selectors(one: Policy, members: Sequence[Member], vms: Optional[str]) -> Tuple[Selector, ...]:
    mine = [vm for vm in members if vm.schedule == one.ref]
    if not vms or not mine:
        return ()
    if vms == BY_UUID:
        return (Selector(uuids=tuple(vm.uuid for vm in mine)),)
    return declared.exactly(sorted({vm.name for vm in mine}))


def _ambiguous(present: Sequence[Present], members: Sequence[Member]) -> Iterator[str]:
    """What is said of names that VMs have on several schedules, or on one and on none."""
    mine = {one.ref for one in present}
    places: Dict[str, Dict[str, int]] = {}
    for vm in members:
        places.setdefault(vm.name, {})[vm.schedule] = 1
    doubtful = sorted(name for name, on in places.items() if len(on) > 1 and mine.intersection(on))
    if doubtful:
        names = listed([quoted(name) for name in doubtful[:3]] + ["%d more" % (len(doubtful) - 3)] * bool(doubtful[3:]))
        yield "several VMs are called %s, and not all of them are on one schedule: use --vms uuid" % names
