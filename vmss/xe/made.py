"""The values of fields that xe makes of several calls, by xapi's class and the field."""

from typing import Any, Callable, Dict, Mapping, NamedTuple, Tuple

from vmss.core.records import NULL
from vmss.edges.xapi import Refused
from vmss.xe.session import Session

Record = Mapping[str, Any]
Making = Callable[[Session, str, Record], Any]

UNKNOWN = "<unknown>"


class Made(NamedTuple):
    """How a field is made, its type, and the member that a method sets if the field can be set."""

    by: Making
    type: str = "string"
    sets: str = ""


def _host_of_sr(session: Session, ref: str, record: Record) -> str:
    pbds = record["PBDs"]
    if len(pbds) > 1:
        return "<shared>"
    return session.name_label("host", session.call("PBD.get_host", pbds[0]) if pbds else NULL)


def _name_of_vdi(session: Session, ref: str, record: Record) -> str:
    return "<EMPTY>" if record["empty"] else session.name_label("VDI", record["VDI"])


def _attachable(session: Session, ref: str, record: Record) -> str:
    try:
        session.call("VBD.assert_attachable", ref)
    except Refused as refused:
        return "false (error: Server_error(%s, [ %s ]))" % (refused.code, "; ".join(refused.error[1:]))
    return "true"


def _rate(direction: str) -> Making:
    def of(session: Session, ref: str, record: Record) -> str:
        source = "vbd_%s_%s" % (record["device"], direction)
        try:
            return "%.3f" % (float(session.call("VM.query_data_source", record["VM"], source)) / 1024)
        except Refused:
            return UNKNOWN

    return of


def _pool_of_metadata(session: Session, ref: str, record: Record) -> str:
    pool = record["metadata_of_pool"]
    if pool in session.call("pool.get_all"):
        return session.uuid("pool", pool)
    try:
        return str(session.call("VDI.read_database_pool_uuid", ref)) or session.uuid("pool", NULL)
    except Refused:
        return session.uuid("pool", NULL)


def _memory_target(session: Session, ref: str, record: Record) -> str:
    try:
        return str(int(float(session.call("VM.query_data_source", ref, "memory_target"))))
    except Refused as refused:
        return "0" if refused.code == "VM_BAD_POWER_STATE" else UNKNOWN


def _utilisation(session: Session, ref: str, record: Record) -> Dict[str, str]:
    try:
        number = int(session.call("VM_metrics.get_VCPUs_number", record["metrics"]))
        return {
            str(cpu): "%.3f" % float(session.call("VM.query_data_source", ref, "cpu%d" % cpu)) for cpu in range(number)
        }
    except Refused:
        return {}


def _patches(session: Session, ref: str, record: Record) -> Any:
    patches = [session.call("host_patch.get_pool_patch", patch) for patch in record["patches"]]
    return [session.uuid("pool_patch", patch) for patch in patches]


def _types_of_srs(session: Session, ref: str, record: Record) -> Any:
    return session.call("SR.get_supported_types")


def _https_only(session: Session, ref: str, record: Record) -> bool:
    return all(session.call("host.get_https_only", host) for host in session.call("host.get_all"))


def _of_all_hosts(member: str) -> Making:
    def of(session: Session, ref: str, record: Record) -> Any:
        values = [session.call("host.get_" + member, host) for host in session.call("host.get_all")]
        return values[0] if all(value == values[0] for value in values) else "<inconsistent>"

    return of


MADE: Dict[Tuple[str, str], Made] = {
    ("SR", "host"): Made(_host_of_sr),
    ("VBD", "attachable"): Made(_attachable),
    ("VBD", "io_read_kbs"): Made(_rate("read")),
    ("VBD", "io_write_kbs"): Made(_rate("write")),
    ("VBD", "vdi-name-label"): Made(_name_of_vdi),
    ("VDI", "metadata-of-pool"): Made(_pool_of_metadata),
    ("VM", "VCPUs-utilisation"): Made(_utilisation, "map(string, string)"),
    ("VM", "memory-target"): Made(_memory_target),
    ("host", "patches"): Made(_patches, "set(string)"),
    ("pool", "console-idle-timeout"): Made(_of_all_hosts("console_idle_timeout"), "int", "console_idle_timeout"),
    ("pool", "https-only"): Made(_https_only, "bool", "https_only"),
    ("pool", "ssh-auto-mode"): Made(_of_all_hosts("ssh_auto_mode"), "bool", "ssh_auto_mode"),
    ("pool", "ssh-enabled"): Made(_of_all_hosts("ssh_enabled"), "bool"),
    ("pool", "ssh-enabled-timeout"): Made(_of_all_hosts("ssh_enabled_timeout"), "int", "ssh_enabled_timeout"),
    ("pool", "ssh-expiry"): Made(_of_all_hosts("ssh_expiry")),
    ("pool", "supported-sr-types"): Made(_types_of_srs, "set(string)"),
}
