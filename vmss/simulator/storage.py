"""xapi's side of storage: one operation per SR at a time, the checks before it, and which operations are allowed.

Sources: xapi: ocaml/xapi/xapi_sr_operations.ml, xapi_vdi.ml, message_forwarding.ml.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Callable, Dict, Generator, List, Optional, Sequence, Tuple

from .errors import XapiError
from .sr_types import features
from .storage_manager import StorageManager
from .waiting import check_not_busy

if TYPE_CHECKING:
    from .call import Call
    from .simulator import Simulator

Steps = Generator[Any, Any, Any]

# SR operations in error texts are dotted (xapi: ocaml/xapi-cli-server/record_util.ml).
SR_OPERATION_NAMES = {
    name: "VDI." + name[4:]
    for name in ("vdi_create", "vdi_destroy", "vdi_snapshot", "vdi_clone", "vdi_resize", "vdi_introduce", "vdi_revert")
}
SR_OPERATIONS = [
    "vdi_enable_cbt", "vdi_list_changed_blocks", "unplug", "plug", "pbd_create", "vdi_disable_cbt", "update",
    "pbd_destroy", "vdi_resize", "forget", "vdi_clone", "vdi_data_destroy", "scan", "vdi_snapshot", "vdi_mirror",
    "vdi_create", "vdi_destroy",
]  # fmt: skip
VDI_OPERATIONS = ["copy", "generate_config", "clone", "forget", "resize", "snapshot", "destroy"]
_VDI_FEATURES = {
    "generate_config": "VDI_GENERATE_CONFIG",
    "clone": "VDI_CLONE",
    "resize": "VDI_RESIZE",
    "snapshot": "VDI_SNAPSHOT",
    "destroy": "VDI_DELETE",
}
# The feature of a storage driver that reverts disks in place.
REVERT_FEATURE = "VDI_REVERT"
# Operations that a disk in use by a running VM still allows.
_WHEN_ATTACHED = ("clone", "snapshot")


class Storage:
    """The locks that xapi takes before each call of the storage manager."""

    def __init__(self, sim: "Simulator") -> None:
        self.sim = sim
        self.db = sim.db
        self.manager = StorageManager(sim)

    def operation(
        self, call: "Call", sr: str, sr_operation: str, vdi: Optional[str], work: Callable[[], Steps]
    ) -> Steps:
        """Wait until SR and VDI are free, mark them, run `work`, and wake the next call that waits."""
        key = call.task_key
        vdi_operation = _vdi_operation(sr_operation)

        call.allow_cancel()

        def mark() -> None:
            self._check_free(sr, vdi, sr_operation)
            self._mark("SR", sr, key, sr_operation)
            if vdi is not None:
                self._mark("VDI", vdi, key, vdi_operation)

        yield from self.sim.waiting.until_free(call, mark)
        try:
            return (yield from self.manager.run(work()))
        finally:
            if vdi is not None:
                self._unmark("VDI", vdi, key)
            self._unmark("SR", sr, key)

    def reverts_in_place(self, sr: str) -> bool:
        """Whether the driver of an SR can replace the contents of a disk by those of its snapshot, as its SM record
        says. No released driver of files or LVM can yet."""
        kind = self.db.row("SR", sr)["type"]
        return any(
            row["type"] == kind and REVERT_FEATURE in row["features"] for row in self.db.tables["SM"].rows.values()
        )

    def _check_free(self, sr: str, vdi: Optional[str], operation: str) -> None:
        """xapi's checks before an operation. Only plugs of an SR, by several hosts, may run at the same time."""
        running = self.db.row("SR", sr)["current_operations"]
        if vdi is not None:
            self.db.row("VDI", vdi)
        if operation == "plug":
            running = {task: name for task, name in running.items() if name != "plug"}
        check_not_busy("SR", sr, running, SR_OPERATION_NAMES)
        if vdi is not None:
            self.check_vdi(vdi, _vdi_operation(operation))
        if operation not in ("plug", "unplug"):
            self.check_plugged(sr)
        if vdi is not None and not self.db.row("VDI", vdi)["managed"]:
            raise XapiError("VDI_NOT_MANAGED", vdi)

    def is_plugged(self, sr: str) -> bool:
        """Whether any host has the SR attached."""
        return bool(self._hosts_with(sr))

    def _hosts_with(self, sr: str) -> List[str]:
        pbds = (self.db.row("PBD", pbd) for pbd in self.db.pointing_at("PBD", "SR", sr))
        return [pbd["host"] for pbd in pbds if pbd["currently_attached"]]

    def check_plugged(self, sr: str) -> None:
        """Raise unless the host that serves the SR is up and has it plugged. The coordinator serves every shared SR
        (xapi: message_forwarding.ml, choose_pbd_for_sr)."""
        hosts = self._hosts_with(sr)
        if self.db.row("SR", sr)["shared"]:
            hosts = [host for host in hosts if host == self.sim.hosts.coordinator]
        if not hosts:
            raise XapiError("SR_HAS_NO_PBDS", sr)
        self.sim.hosts.reach(hosts[0])

    def is_served(self, sr: str) -> bool:
        """Whether `check_plugged` succeeds."""
        try:
            self.check_plugged(sr)
        except XapiError:
            return False
        return True

    def check_vdi(self, vdi: str, operation: str) -> None:
        """Raise unless this operation may start on a VDI now; the checks are in xapi's order."""
        row = self.db.row("VDI", vdi)
        sr = self.db.row("SR", row["SR"])
        running = {task: name for task, name in row["current_operations"].items() if name != "copy"}
        check_not_busy("VDI", vdi, running, {})
        if operation not in _WHEN_ATTACHED and self.is_attached(vdi):
            raise XapiError("VDI_IN_USE", vdi, operation)
        if _VDI_FEATURES.get(operation, "") not in ["", *features(sr["type"])]:
            raise XapiError("SR_OPERATION_NOT_SUPPORTED", row["SR"])
        if operation == "revert_to" and not self.reverts_in_place(row["SR"]):
            raise XapiError("SR_OPERATION_NOT_SUPPORTED", row["SR"])
        if operation == "snapshot":
            if row["sharable"]:
                raise XapiError("VDI_IS_SHARABLE", vdi)
            if row["on_boot"] == "reset":
                raise XapiError("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")
            if row["current_operations"]:
                raise XapiError("OPERATION_NOT_ALLOWED", "Snapshot operation not allowed during copy.")
        if operation == "destroy":
            self._check_destroy(vdi, row, sr)

    def _check_destroy(self, vdi: str, row: Dict[str, Any], sr: Dict[str, Any]) -> None:
        if sr["type"] == "udev":
            raise XapiError("VDI_IS_A_PHYSICAL_DEVICE", vdi)
        if sr["is_tools_sr"]:
            raise XapiError("SR_OPERATION_NOT_SUPPORTED", row["SR"])
        if row["type"] == "rrd":
            raise XapiError("VDI_HAS_RRDS", vdi)
        pool = next(iter(self.db.tables["pool"].rows.values()))
        if row["type"] in ("ha_statefile", "redo_log") and pool["ha_enabled"]:
            raise XapiError("HA_IS_ENABLED")

    def is_attached(self, vdi: str) -> bool:
        """Whether a running VM uses the disk."""
        vbds = (self.db.row("VBD", vbd) for vbd in self.db.pointing_at("VBD", "VDI", vdi))
        return any(vbd["currently_attached"] or vbd["reserved"] for vbd in vbds)

    def _mark(self, cls: str, ref: str, key: str, operation: str) -> None:
        operations = self.db.row(cls, ref)["current_operations"]
        self.db.set(cls, ref, "current_operations", {**operations, key: operation})
        self.refresh(cls, ref)

    def _unmark(self, cls: str, ref: str, key: str) -> None:
        if self.db.exists(cls, ref):
            self.db.remove_from_map(cls, ref, "current_operations", key)
            self.refresh(cls, ref)
        self.sim.waiting.released(cls, ref)

    def refresh(self, cls: str, ref: str) -> None:
        """Recompute allowed_operations of an SR or a VDI."""
        row = self.db.row(cls, ref)
        running = set(row["current_operations"].values())
        allowed: Sequence[str] = ()
        if not running:
            allowed = self._sr_allowed(ref, row) if cls == "SR" else self._vdi_allowed(ref, row)
        elif running == {"plug"}:
            allowed = ["plug"]
        self.db.set_list(cls, ref, "allowed_operations", allowed)

    def _sr_allowed(self, sr: str, row: Dict[str, Any]) -> Sequence[str]:
        return _operations_of_sr(row["type"], self.is_plugged(sr))

    def _vdi_allowed(self, vdi: str, row: Dict[str, Any]) -> Sequence[str]:
        if not self.db.exists("SR", row["SR"]):
            return ()
        return _operations_of_vdi(self.db.row("SR", row["SR"])["type"], self.is_attached(vdi))


@lru_cache(maxsize=None)
def _operations_of_sr(kind: str, plugged: bool) -> Tuple[str, ...]:
    """The operations that an SR of a type allows while none runs."""
    withheld = set() if "VDI_SNAPSHOT" in features(kind) else {"vdi_snapshot"}
    if plugged:
        withheld.add("forget")
    return tuple(name for name in SR_OPERATIONS if name not in withheld)


@lru_cache(maxsize=None)
def _operations_of_vdi(kind: str, attached: bool) -> Tuple[str, ...]:
    """The operations that a disk on an SR of a type allows while none runs."""
    able = ["", *features(kind)]
    allowed = (name for name in VDI_OPERATIONS if _VDI_FEATURES.get(name, "") in able)
    return tuple(name for name in allowed if not attached or name in _WHEN_ATTACHED)


def _vdi_operation(sr_operation: str) -> str:
    """The name of an operation of the SR as the disk lists it."""
    return "revert_to" if sr_operation == "vdi_revert" else sr_operation[4:]
