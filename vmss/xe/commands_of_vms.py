"""The commands of xe for VMs and their snapshots."""

from typing import Any, Dict, List, Sequence, Tuple

from vmss.core.records import NULL
from vmss.edges.xapi import Refused
from vmss.xe.classes import BY_NAME, Class
from vmss.xe.command import Command, Function
from vmss.xe.commands_of_fields import candidates, filtered
from vmss.xe.errors import XeError, failed
from vmss.xe.layout import Output, Row
from vmss.xe.objects import XeObject, object_of
from vmss.xe.session import Session
from vmss.xe.syntax import Line

# What selects the VMs of a command: see _chosen.
_SELECTORS = ("vm", "uuid", "<any field of a VM>")

# The key of VBD.other_config by which a disk belongs to its VM, and is destroyed with it.
_OWNER = "owner"


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


# Power


def _host(session: Session, text: str) -> str:
    """The host with this uuid or name. Raise XeError."""
    found = session.find_ref("host", text)
    hosts = [found] if found else session.call("host.get_by_name_label", text)
    if len(hosts) != 1:
        raise failed("%s host matches %s" % ("More than one" if hosts else "No", text))
    return str(hosts[0])


def _powering(method: str, *with_on: str) -> Function:
    """The command that starts or resumes VMs, on a host if the line says so."""

    def do(session: Session, line: Line) -> Output:
        force = line.flag("force")
        paused = line.flag("paused") if "paused" in with_on else False
        on = line.get("on")
        for vm in _chosen(session, line, "on", "progress", *with_on):
            if on is None:
                session.call("VM." + method, vm.ref, paused, force)
            else:
                session.call("VM.%s_on" % method, vm.ref, _host(session, on), paused, force)
        return Output()

    return do


def _vm_shutdown(session: Session, line: Line) -> Output:
    method = "VM.hard_shutdown" if line.flag("force") else "VM.clean_shutdown"
    for vm in _chosen(session, line, "progress"):
        session.call(method, vm.ref)
    return Output()


# Drives and disks


def _vbds(session: Session, vm: XeObject, cd: bool) -> List[str]:
    vbds = session.call("VM.get_VBDs", vm.ref)
    return [str(vbd) for vbd in vbds if (session.call("VBD.get_type", vbd) == "CD") == cd]


def _vm_cd_eject(session: Session, line: Line) -> Output:
    for vm in _chosen(session, line):
        drives = _vbds(session, vm, cd=True)
        if len(drives) != 1:
            raise failed("The VM has %d CD drives: use vbd-eject" % len(drives) if drives else "The VM has no CD drive")
        session.call("VBD.eject", drives[0])
    return Output()


def _vm_disk_list(session: Session, line: Line) -> Output:
    titled: List[Tuple[str, Row]] = []
    parameters = ("vbd-params", "vdi-params")
    vbd_fields = _names(line, "vbd-params", "uuid,vm-name-label,userdevice")
    vdi_fields = _names(line, "vdi-params", "uuid,name-label,sr-name-label,virtual-size")
    for vm in _chosen(session, line, *parameters):
        for number, ref in enumerate(_vbds(session, vm, cd=False)):
            vbd = _read(session, BY_NAME["vbd"], ref)
            titled.append(("Disk %d VBD:" % number, vbd.row(vbd_fields)))
            vdi = session.call("VBD.get_VDI", ref)
            if vdi != NULL:
                titled.append(("Disk %d VDI:" % number, _read(session, BY_NAME["vdi"], str(vdi)).row(vdi_fields)))
    return Output(tuple(row for _, row in titled), titles=tuple(title for title, _ in titled))


def _names(line: Line, name: str, default: str) -> Tuple[str, ...]:
    wanted = line.get(name, default)
    return () if wanted == "all" else tuple(wanted.split(","))


def _read(session: Session, cls: Class, ref: str) -> XeObject:
    return XeObject(session, cls, ref, session.call(cls.api + ".get_record", ref))


# Snapshots


def _snapshot(session: Session, line: Line) -> XeObject:
    """The snapshot that a line names. Raise XeError, or Refused if there is no such VM."""
    uuid = line.get("snapshot-uuid", line.get("uuid"))
    if uuid is None:
        raise XeError("Error: Required parameter not found: snapshot-uuid or uuid.")
    found = object_of(session, BY_NAME["snapshot"], uuid)
    if found.plain(found.fields["is-a-snapshot"]) != "true":
        raise failed("This can only be done with a snapshot of a VM, which %s is not" % uuid)
    return found


def _snapshot_revert(session: Session, line: Line) -> Output:
    session.call("VM.revert", _snapshot(session, line).ref)
    return Output()


def _halt(session: Session, ref: str) -> None:
    if session.call("VM.get_power_state", ref) != "Halted":
        session.call("VM.hard_shutdown", ref)


def _snapshot_destroy(session: Session, line: Line) -> Output:
    ref = _snapshot(session, line).ref
    _halt(session, ref)
    session.call("VM.destroy", ref)
    return Output()


def _snapshot_uninstall(session: Session, line: Line) -> Output:
    snapshot = _snapshot(session, line)
    disks, memory = _disks_of(session, snapshot.ref), _memory_of(session, snapshot.ref)
    name = snapshot.plain(snapshot.fields["name-label"])
    lines = ["The following items are about to be destroyed"]
    lines.append("VM : %s (%s)" % (snapshot.plain(snapshot.fields["uuid"]), name))
    lines.extend(_line_of(session, vdi) for vdi in disks + memory)
    session.user.say(lines)
    if not line.flag("force"):
        session.user.say(["Type 'yes' to continue"])
        typed = session.user.answer()
        if typed.strip().lower() != "yes":
            return Output(lines=("Aborted (you typed: '%s')" % session.user.shown(typed, False),))
    _halt(session, snapshot.ref)
    session.call("VM.destroy", snapshot.ref)
    for vdi in disks:
        session.call("VDI.destroy", vdi)
    for vdi in memory:
        _if_it_exists(session, "VDI.destroy", vdi)
    return Output(lines=("All objects destroyed",))


def _disks_of(session: Session, vm: str) -> List[str]:
    """The disks that belong to a VM, and exist."""
    found = []
    for vbd in session.call("VM.get_VBDs", vm):
        record = _if_it_exists(session, "VBD.get_record", vbd)
        if record is not None and _OWNER in record["other_config"] and _exists(session, record["VDI"]):
            found.append(str(record["VDI"]))
    return found


def _memory_of(session: Session, vm: str) -> List[str]:
    vdi = session.call("VM.get_suspend_VDI", vm)
    return [str(vdi)] if _exists(session, vdi) else []


def _exists(session: Session, vdi: str) -> bool:
    return vdi != NULL and _if_it_exists(session, "VDI.get_uuid", vdi) is not None


def _if_it_exists(session: Session, method: str, ref: str) -> Any:
    """The answer to a call; None if xapi refuses it: the object may have been deleted meanwhile."""
    try:
        return session.call(method, ref)
    except Refused:
        return None


def _line_of(session: Session, ref: str) -> str:
    record = session.call("VDI.get_record", ref)
    warning = " ** WARNING: disk is shared by other VMs" if len(record["VBDs"]) > 1 else ""
    return "VDI: %s (%s) %s" % (record["uuid"], session.user.shown(str(record["name_label"]), False), warning)


_OF_A_SNAPSHOT = ("uuid", "snapshot-uuid")

COMMANDS: Dict[str, Command] = {
    "vm-snapshot": Command(
        ("new-name-label",),
        ("new-name-description", "ignore-vdi-uuids", *_SELECTORS),
        "Takes a snapshot of a VM by hand.",
        _taking("VM.snapshot"),
        slow=True,
    ),
    "vm-checkpoint": Command(
        ("new-name-label",),
        ("new-name-description", *_SELECTORS),
        "Takes a snapshot of a VM with its memory by hand.",
        _taking("VM.checkpoint"),
        slow=True,
    ),
    "vm-start": Command(
        (), ("force", "on", "paused", *_SELECTORS), "Starts a VM.", _powering("start", "paused"), slow=True
    ),
    "vm-resume": Command((), ("force", "on", *_SELECTORS), "Resumes a suspended VM.", _powering("resume"), slow=True),
    "vm-shutdown": Command(
        (), ("force", *_SELECTORS), "Shuts a VM down; with force, powers it off.", _vm_shutdown, slow=True
    ),
    "vm-cd-eject": Command((), _SELECTORS, "Takes the CD out of a VM's only CD drive.", _vm_cd_eject),
    "vm-disk-list": Command((), ("vbd-params", "vdi-params", *_SELECTORS), "Lists the disks of VMs.", _vm_disk_list),
    "snapshot-revert": Command((), _OF_A_SNAPSHOT, "Reverts a VM to a snapshot.", _snapshot_revert, slow=True),
    "snapshot-destroy": Command(
        (), _OF_A_SNAPSHOT, "Destroys a snapshot, and leaves its disks where they are.", _snapshot_destroy, slow=True
    ),
    "snapshot-uninstall": Command(
        (),
        (*_OF_A_SNAPSHOT, "force"),
        "Destroys a snapshot with the disks that it owns and its memory. Without force it asks.",
        _snapshot_uninstall,
        slow=True,
    ),
}
