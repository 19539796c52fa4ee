"""The commands of xe for VMs and their snapshots."""

from typing import Any, Dict, Sequence, Tuple

from vmss.xe.classes import BY_NAME
from vmss.xe.command import Command, Function
from vmss.xe.commands_of_fields import candidates, filtered
from vmss.xe.errors import failed
from vmss.xe.layout import Output
from vmss.xe.objects import XeObject
from vmss.xe.session import Session
from vmss.xe.syntax import Line

# What selects the VMs of a command: see _chosen.
_SELECTORS = ("vm", "uuid", "<any field of a VM>")


def _chosen(session: Session, line: Line, *parameters: str) -> Sequence[XeObject]:
    """The VMs that a line selects: by vm=UUID or vm=NAME, or by their fields as in a list; `parameters` are none of
    these. Raise XeError."""
    cls = BY_NAME["vm"]
    found = candidates(session, cls, line)
    for name, value in [*cls.only, ("is-control-domain", "false"), *line.others("vm", *parameters)]:
        found = filtered(found, name, value)
    named = line.get("vm")
    if named is not None:
        uuid, label = cls.fields[:2]
        found = [vm for vm in found if vm.matches(uuid, None, named)] or [
            vm for vm in found if vm.matches(label, None, named)
        ]
    if not found:
        raise failed("No VM matches")
    if len(found) > 1 and not line.flag("multiple"):
        raise failed("%d VMs match: to select all of them, add --multiple" % len(found))
    return found


def _taking(method: str) -> Function:
    """The command that takes a snapshot or a checkpoint of each chosen VM."""

    def do(session: Session, line: Line) -> Output:
        name, about = line.need("new-name-label"), line.get("new-name-description")
        left_out = [session.ref("VDI", uuid) for uuid in line.get("ignore-vdi-uuids", "").split(",") if uuid]
        # An older xapi has no third parameter.
        more: Tuple[Any, ...] = (left_out,) if left_out else ()
        vms = _chosen(session, line, "new-name-label", "new-name-description", "ignore-vdi-uuids")
        made = [session.call(method, vm.ref, name, *more) for vm in vms]
        if about is not None:
            session.call("VM.set_name_description", made[0], about)
        return Output(lines=tuple(session.uuid_line("VM", ref) for ref in made))

    return do


COMMANDS: Dict[str, Command] = {
    "vm-snapshot": Command(
        ("new-name-label",),
        ("new-name-description", "ignore-vdi-uuids", *_SELECTORS),
        "Takes a snapshot of a VM by hand.",
        _taking("VM.snapshot"),
        slow=True,
    )
}
