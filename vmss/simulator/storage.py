"""Storage: SR types, the VHD tree below the VDI records, space, one operation per SR, and coalescing.

Sources: sm: libs/sm/vhdutil.py, lvhdutil.py, drivers/FileSR.py, LVHDSR.py, cleanup.py; xapi:
ocaml/xapi/xapi_sr_operations.ml, message_forwarding.ml.

Coalescing is a first form: candidates and switches are those of cleanup.py, the data moves at a constant
rate, a live leaf is merged in one step, and space is not checked.
"""

from typing import TYPE_CHECKING, Any, Callable, Dict, Generator, List, NamedTuple, Optional, Set, Tuple

from .errors import XapiError
from .kernel import Sleep
from .values import EPOCH, NULL, from_seconds
from .waiting import check_not_busy

if TYPE_CHECKING:
    from .dispatch import Call
    from .simulator import Simulator

Steps = Generator[Any, Any, Any]

KIB = 1024
MIB = 1024 * KIB
BLOCK = 2 * MIB
EXTENT = 4 * MIB
LV_METADATA = 4329472
LV_EMPTY = 8 * MIB
CHAIN_MAX = 30
SIZE_MIN, SIZE_MAX = 1, 2088960 * MIB
GC_QUIET_SECONDS = 300.0
DEFAULT_SR_SIZE = 1024 * 1024 * MIB

THIN_TYPES = ("ext", "nfs", "smb", "file")
THICK_TYPES = ("lvm", "lvmoiscsi", "lvmohba")

_FILE_FEATURES = (
    "SR_PROBE SR_UPDATE THIN_PROVISIONING VDI_ACTIVATE VDI_ATTACH VDI_CLONE VDI_CONFIG_CBT VDI_CREATE "
    "VDI_DEACTIVATE VDI_DELETE VDI_DETACH VDI_GENERATE_CONFIG VDI_MIRROR VDI_RESIZE VDI_SNAPSHOT"
)
_LVM_FEATURES = (
    "SR_PROBE SR_UPDATE SR_TRIM VDI_ACTIVATE VDI_ATTACH VDI_CLONE VDI_CONFIG_CBT VDI_CREATE VDI_DEACTIVATE "
    "VDI_DELETE VDI_DETACH VDI_GENERATE_CONFIG VDI_MIRROR VDI_RESIZE VDI_SNAPSHOT VDI_UPDATE"
)
_ISO_FEATURES = "SR_ATTACH SR_DETACH SR_SCAN VDI_ATTACH VDI_CREATE VDI_DELETE VDI_DETACH"


class SrType(NamedTuple):
    """What one storage plugin says of itself."""

    name: str
    label: str
    features: List[str]


SR_TYPES: Dict[str, SrType] = {
    kind.name: kind
    for kind in (
        SrType("ext", "Local EXT3 VHD", _FILE_FEATURES.split() + ["SR_SUPPORTS_LOCAL_CACHING", "VDI_UPDATE"]),
        SrType("file", "Local Path VHD", _FILE_FEATURES.split()),
        SrType("nfs", "NFS VHD", _FILE_FEATURES.split() + ["SR_CACHING", "VDI_UPDATE"]),
        SrType("smb", "SMB VHD", _FILE_FEATURES.split()),
        SrType("lvm", "Local VHD on LVM", _LVM_FEATURES.split()),
        SrType("lvmoiscsi", "VHD over iSCSI", _LVM_FEATURES.split()),
        SrType("lvmohba", "VHD over FC", _LVM_FEATURES.split()),
        SrType("iso", "ISO", _ISO_FEATURES.split()),
    )
}

# SR operations in error texts are dotted (xapi: ocaml/xapi-cli-server/record_util.ml).
SR_OPERATION_NAMES = {
    name: "VDI." + name[4:]
    for name in ("vdi_create", "vdi_destroy", "vdi_snapshot", "vdi_clone", "vdi_resize", "vdi_introduce")
}
SR_OPERATIONS = [
    "vdi_enable_cbt", "vdi_list_changed_blocks", "unplug", "plug", "pbd_create", "vdi_disable_cbt", "update",
    "pbd_destroy", "vdi_resize", "vdi_clone", "vdi_data_destroy", "scan", "vdi_snapshot", "vdi_mirror",
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


class Durations(NamedTuple):
    """How long operations take: (shortest, longest) in seconds, drawn evenly; and the rates of the model."""

    sr_create: Tuple[float, float] = (0.3, 0.6)
    sr_scan: Tuple[float, float] = (0.2, 0.6)
    pbd_plug: Tuple[float, float] = (0.2, 0.5)
    vdi_create: Tuple[float, float] = (0.1, 0.4)
    vdi_destroy: Tuple[float, float] = (0.1, 1.0)
    vdi_snapshot: Tuple[float, float] = (0.5, 3.0)
    vdi_resize: Tuple[float, float] = (0.1, 0.4)
    vm_start: Tuple[float, float] = (2.0, 6.0)
    vm_shutdown: Tuple[float, float] = (5.0, 20.0)
    vm_hard_shutdown: Tuple[float, float] = (0.5, 2.0)
    memory_bytes_per_second: float = 200e6
    written_bytes_per_second: float = 16e3
    merge_bytes_per_second: float = 100e6
    lost_wakeup: float = 0.1


class Node:
    """One image on an SR, below the record of its VDI; `used` counts the data in this image alone."""

    __slots__ = ("sr", "parent", "children", "used", "size", "hidden", "raw", "virtual", "writing_since")

    def __init__(self, sr: str, virtual: int) -> None:
        self.sr = sr
        self.parent: Optional[str] = None
        self.children: Set[str] = set()
        self.used = 0
        self.size = 0
        self.hidden = False
        self.raw = False
        self.virtual = virtual
        self.writing_since: Optional[float] = None


def round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


class Storage:
    """All SRs of the pool."""

    def __init__(self, sim: "Simulator", durations: Durations) -> None:
        self.sim = sim
        self.db = sim.db
        self.durations = durations
        self.nodes: Dict[str, Node] = {}
        self.hidden: Dict[str, Set[str]] = {}
        self.used: Dict[str, int] = {}
        self.virtual: Dict[str, int] = {}
        self.collecting: Set[str] = set()

    # --- one operation per SR ---

    def draw(self, name: str) -> Sleep:
        """The time one operation takes."""
        return Sleep(self.sim.random.uniform(*getattr(self.durations, name)))

    def operation(
        self, call: "Call", sr: str, sr_operation: str, vdi: Optional[str], work: Callable[[], Steps]
    ) -> Steps:
        """Wait until SR and VDI are free, mark them, run `work`, and let the next one in."""
        key = call.task_key
        vdi_operation = sr_operation[4:]

        def mark() -> None:
            self._check_free(sr, vdi, vdi_operation)
            self._mark("SR", sr, key, sr_operation)
            if vdi is not None:
                self._mark("VDI", vdi, key, vdi_operation)

        yield from self.sim.waiting.until_free(call, mark)
        try:
            return (yield from work())
        finally:
            if vdi is not None:
                self._unmark("VDI", vdi, key)
            self._unmark("SR", sr, key)

    def _check_free(self, sr: str, vdi: Optional[str], operation: str) -> None:
        """What xapi checks before it starts (xapi: ocaml/xapi/xapi_sr_operations.ml, xapi_vdi.ml)."""
        row = self.db.row("SR", sr)
        check_not_busy("SR", sr, row["current_operations"], SR_OPERATION_NAMES)
        if vdi is not None:
            self.check_vdi(vdi, operation)
        if not any(self.db.row("PBD", pbd)["currently_attached"] for pbd in self.db.get("SR", sr, "PBDs")):
            raise XapiError("SR_HAS_NO_PBDS", sr)
        if vdi is not None and not self.db.row("VDI", vdi)["managed"]:
            raise XapiError("VDI_NOT_MANAGED", vdi)

    def check_vdi(self, vdi: str, operation: str) -> None:
        """Whether this operation may start on a VDI now; the checks in xapi's order."""
        row = self.db.row("VDI", vdi)
        sr = self.db.row("SR", row["SR"])
        running = {task: name for task, name in row["current_operations"].items() if name != "copy"}
        check_not_busy("VDI", vdi, running, {})
        if operation == "destroy":
            for vbd in self.db.pointing_at("VBD", "VDI", vdi):
                if self.db.row("VBD", vbd)["currently_attached"] or self.db.row("VBD", vbd)["reserved"]:
                    raise XapiError("VDI_IN_USE", vdi, operation)
        if _VDI_FEATURES.get(operation, "") not in ["", *self._features(sr["type"])]:
            raise XapiError("SR_OPERATION_NOT_SUPPORTED", row["SR"])
        if operation == "snapshot":
            if row["sharable"]:
                raise XapiError("VDI_IS_SHARABLE", vdi)
            if row["on_boot"] == "reset":
                raise XapiError("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")
        if operation == "destroy" and row["type"] == "rrd":
            raise XapiError("VDI_HAS_RRDS", vdi)

    def _features(self, sr_type: str) -> List[str]:
        return SR_TYPES[sr_type].features if sr_type in SR_TYPES else []

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
        allowed: List[str] = []
        if not row["current_operations"]:
            sr_type = row["type"] if cls == "SR" else self.db.row("SR", row["SR"])["type"]
            features = ["", *self._features(sr_type)]
            if cls == "SR":
                allowed = [op for op in SR_OPERATIONS if op != "vdi_snapshot" or "VDI_SNAPSHOT" in features]
            else:
                allowed = [op for op in VDI_OPERATIONS if _VDI_FEATURES.get(op, "") in features]
        self.db.set(cls, ref, "allowed_operations", allowed)

    # --- space ---

    def image_size(self, vdi: str, node: Node) -> int:
        """The bytes an image takes on its SR."""
        if node.raw:
            return node.virtual
        if self.db.row("SR", node.sr)["type"] in THICK_TYPES:
            if not node.hidden and not self.db.row("VDI", vdi)["is_a_snapshot"]:
                return logical_volume(node.virtual)
            return max(LV_EMPTY, round_up(node.used + LV_METADATA, EXTENT))
        # A dynamic VHD: headers, the block table, a parent locator, and each block with its bitmap.
        blocks = -(-node.used // BLOCK)
        table = round_up(4 * -(-node.virtual // BLOCK), 512)
        return 3 * KIB + table + (1536 if node.parent else 0) + blocks * (BLOCK + 512)

    def free_space(self, sr: str) -> int:
        return int(self.db.row("SR", sr)["physical_size"]) - self.used.get(sr, 0)

    def resized(self, vdi: str, show: bool = True) -> None:
        """An image has changed: count its size anew, and show it in the record of the disk."""
        node = self.nodes[vdi]
        size = self.image_size(vdi, node)
        self.used[node.sr] = self.used.get(node.sr, 0) + size - node.size
        node.size = size
        if show:
            self.db.set("VDI", vdi, "physical_utilisation", size)
        self.show_space(node.sr)

    def show_sizes(self, sr: str) -> None:
        """Bring the sizes in the records of an SR's disks up to date, as a scan does."""
        for vdi in self.db.get("SR", sr, "VDIs"):
            if vdi in self.nodes:
                self._settle(vdi)
                self.resized(vdi)
        self.show_space(sr)

    def show_space(self, sr: str) -> None:
        row = self.db.row("SR", sr)
        used = min(self.used.get(sr, 0), row["physical_size"])
        self.db.update("SR", sr, physical_utilisation=used, virtual_allocation=self.virtual.get(sr, 0))

    # --- images ---

    def add_image(self, vdi: str, sr: str, virtual: int, parent: Optional[str] = None) -> Node:
        node = Node(sr, virtual)
        self.nodes[vdi] = node
        self.virtual[sr] = self.virtual.get(sr, 0) + virtual
        self._link(vdi, parent)
        return node

    def drop_image(self, vdi: str) -> None:
        """Remove an image; its parent stays for the garbage collector."""
        node = self.nodes.pop(vdi)
        self.used[node.sr] -= node.size
        if node.hidden:
            self.hidden[node.sr].discard(vdi)
        else:
            self.virtual[node.sr] -= node.virtual
        if node.parent is not None:
            self.nodes[node.parent].children.discard(vdi)
        self.show_space(node.sr)

    def _link(self, vdi: str, parent: Optional[str]) -> None:
        """Make `parent` the parent of an image, in the tree and in sm_config."""
        node = self.nodes[vdi]
        if node.parent is not None and node.parent in self.nodes:
            self.nodes[node.parent].children.discard(vdi)
        node.parent = parent
        config = {k: v for k, v in self.db.row("VDI", vdi)["sm_config"].items() if k != "vhd-parent"}
        if parent is not None:
            self.nodes[parent].children.add(vdi)
            config["vhd-parent"] = self.db.row("VDI", parent)["uuid"]
        self.db.set("VDI", vdi, "sm_config", config)

    def depth(self, vdi: str) -> int:
        """How many images the chain of a disk has."""
        depth = 1
        parent = self.nodes[vdi].parent
        while parent is not None:
            depth += 1
            parent = self.nodes[parent].parent
        return depth

    def attached(self, vdi: str, writing: bool) -> None:
        """A guest begins or stops to write to a disk."""
        if vdi in self.nodes:
            self._settle(vdi)
            self.nodes[vdi].writing_since = self.sim.kernel.now() if writing else None

    def _settle(self, vdi: str) -> None:
        """Count what a guest has written to an attached disk since the last look."""
        node = self.nodes[vdi]
        if node.writing_since is None:
            return
        now = self.sim.kernel.now()
        seconds = max(0.0, now - node.writing_since)
        node.writing_since = now
        self.write(vdi, int(seconds * self.durations.written_bytes_per_second))

    def write(self, vdi: str, count: int) -> None:
        """Put `count` bytes of new data into a disk."""
        node = self.nodes[vdi]
        if count > 0:
            node.used = min(node.virtual, node.used + count)
            self.resized(vdi)

    # --- operations on disks ---

    def create_vdi(self, call: "Call", sr: str, fields: Dict[str, Any]) -> Steps:
        """VDI.create: sizes are rounded up to whole VHD blocks."""
        yield self.draw("vdi_create")
        wanted = fields["virtual_size"]
        if not SIZE_MIN <= wanted <= SIZE_MAX:
            text = "VDI Invalid size [opterr=VDI size must be between 1 MB and 2088960 MB]"
            raise backend_failure(79, text)
        virtual = round_up(wanted, BLOCK)
        sr_type = self.db.row("SR", sr)["type"]
        if sr_type in THICK_TYPES and logical_volume(virtual) > self.free_space(sr):
            raise backend_failure(44, "There is insufficient space")
        if sr_type in THIN_TYPES and self.free_space(sr) < 64 * KIB:
            raise backend_failure(78, "VDI Creation failed [opterr=error 28]")
        uuid = self.db.new_uuid()
        # xapi leaves this one reference empty in a VDI that a client created.
        row = dict(fields, uuid=uuid, location=uuid, virtual_size=virtual, managed=True, metadata_of_pool="")
        row["sm_config"] = self._sm_config(sr_type, fields.get("sm_config", {}))
        vdi = self.db.create("VDI", row)
        node = self.add_image(vdi, sr, virtual)
        node.raw = fields.get("sm_config", {}).get("type") == "raw"
        self.resized(vdi)
        self.refresh("VDI", vdi)
        return vdi

    def _sm_config(self, sr_type: str, given: Dict[str, str]) -> Dict[str, str]:
        raw = given.get("type") == "raw"
        return {"vdi_type": "aio" if raw else "vhd"} if sr_type in THICK_TYPES else {}

    def snapshot_vdi(self, call: "Call", vdi: str, snapshot: bool) -> Steps:
        """VDI.snapshot and VDI.clone: the old leaf becomes a hidden base copy with two empty children."""
        yield self.draw("vdi_snapshot")
        row = self.db.row("VDI", vdi)
        sr = row["SR"]
        node = self.nodes[vdi]
        self._settle(vdi)
        if node.raw:
            raise XapiError("UNIMPLEMENTED_IN_SM_BACKEND", sr)
        if self.depth(vdi) >= CHAIN_MAX:
            raise backend_failure(109, "The snapshot chain is too long")
        self._check_space_for_snapshot(sr, node)
        # An image without data of its own is no use as a base: both go on from its parent.
        parent = node.parent if node.used == 0 and node.parent is not None else self._make_base(vdi)
        uuid = self.db.new_uuid()
        copied = ("name_label", "name_description", "other_config", "xenstore_data", "tags", "type",
                  "sharable", "on_boot", "virtual_size", "read_only", "SR")  # fmt: skip
        fields = {name: row[name] for name in copied}
        fields.update(uuid=uuid, location=uuid, managed=True, sm_config=self._sm_config(self._type(sr), {}))
        if snapshot:
            fields.update(
                is_a_snapshot=True, snapshot_of=vdi, snapshot_time=from_seconds(self.sim.kernel.now())
            )
        copy = self.db.create("VDI", fields)
        self.add_image(copy, sr, node.virtual, parent)
        # The record of the live disk shows its new size only after a scan.
        self.resized(vdi, show=False)
        self.resized(copy)
        self.refresh("VDI", copy)
        return copy

    def _type(self, sr: str) -> str:
        return str(self.db.row("SR", sr)["type"])

    def _check_space_for_snapshot(self, sr: str, node: Node) -> None:
        if self._type(sr) in THICK_TYPES:
            # sm: LVHDSR: the new leaf at full size, two small volumes, less what the base gives back.
            if self.free_space(sr) < node.used + 2 * LV_EMPTY:
                raise backend_failure(44, "There is insufficient space")
        elif self.free_space(sr) < 64 * KIB:
            raise backend_failure(81, "Failed to clone VDI [opterr=VDI clone failed error 28]")

    def _make_base(self, vdi: str) -> str:
        """Turn the image of a leaf into a base copy under a new uuid; the leaf goes on empty, below it."""
        row = self.db.row("VDI", vdi)
        leaf = self.nodes[vdi]
        uuid = self.db.new_uuid()
        fields = {name: row[name] for name in ("SR", "type", "virtual_size")}
        fields.update(
            uuid=uuid, location=uuid, name_label="base copy", managed=False, read_only=True,
            sm_config=self._sm_config(self._type(leaf.sr), {}), snapshot_time=EPOCH,
        )  # fmt: skip
        base = self.db.create("VDI", fields)
        node = self.add_image(base, leaf.sr, leaf.virtual, leaf.parent)
        node.hidden = True
        node.used, leaf.used = leaf.used, 0
        self.virtual[leaf.sr] -= leaf.virtual
        self.hidden.setdefault(leaf.sr, set()).add(base)
        self._link(vdi, base)
        self.resized(base)
        self.refresh("VDI", base)
        return base

    def destroy_vdi(self, call: "Call", vdi: str) -> Steps:
        """VDI.destroy: the records that point at the disk go with it."""
        yield self.draw("vdi_destroy")
        row = self.db.row("VDI", vdi)
        sr = row["SR"]
        if vdi in self.nodes:
            self.drop_image(vdi)
        for vbd in self.db.pointing_at("VBD", "VDI", vdi):
            self.db.delete("VBD", vbd)
        if row["type"] == "suspend":
            for vm, fields in list(self.db.tables["VM"].rows.items()):
                if fields["suspend_VDI"] == vdi:
                    self.db.set("VM", vm, "suspend_VDI", NULL)
        self.db.delete("VDI", vdi)
        self.kick_collector(sr)

    def resize_vdi(self, call: "Call", vdi: str, size: int) -> Steps:
        yield self.draw("vdi_resize")
        node = self.nodes[vdi]
        virtual = round_up(size, BLOCK)
        if virtual < node.virtual:
            raise backend_failure(79, "VDI Invalid size [opterr=shrinking not allowed]")
        self.virtual[node.sr] += virtual - node.virtual
        node.virtual = virtual
        self.db.set("VDI", vdi, "virtual_size", virtual)
        self.resized(vdi)

    # --- the garbage collector ---

    def kick_collector(self, sr: str) -> None:
        """Start the collector of an SR, unless it runs or is switched off (sm: cleanup.py)."""
        if sr in self.collecting or not self.db.exists("SR", sr):
            return
        if self.db.row("SR", sr)["other_config"].get("gc") == "false" or self._work(sr) is None:
            return
        self.collecting.add(sr)
        task = self.sim.dispatcher.new_task("Garbage Collection", NULL)
        self.sim.kernel.spawn(self._collect(sr), lambda result, error: self._collected(sr, task, error))

    def _collected(self, sr: str, task: str, error: Optional[BaseException]) -> None:
        self.collecting.discard(sr)
        self.sim.dispatcher.finish_task(task, None, error)

    def _collect(self, sr: str) -> Steps:
        yield Sleep(GC_QUIET_SECONDS)
        while self.db.exists("SR", sr):
            work = self._work(sr)
            if work is None:
                return
            kind, vdi = work
            moved = self.nodes[vdi].used if kind != "orphan" else 0
            yield Sleep(1.0 + moved / self.durations.merge_bytes_per_second)
            # Somebody may have taken or destroyed a snapshot meanwhile: look again before touching anything.
            if self._work(sr, vdi) == (kind, vdi):
                self._tidy(kind, vdi)

    def _work(self, sr: str, only: Optional[str] = None) -> Optional[Tuple[str, str]]:
        """The next thing to do on an SR: an orphan first, then the deepest candidate."""
        config = self.db.row("SR", sr)["other_config"]
        best: Tuple[int, Optional[Tuple[str, str]]] = (0, None)
        for base in sorted(self.hidden.get(sr, ())):
            kind, vdi = self._candidate(base, config)
            if not kind or (only is not None and vdi != only):
                continue
            depth = self.depth(vdi) + (CHAIN_MAX * 2 if kind == "orphan" else 0)
            if depth > best[0]:
                best = (depth, (kind, vdi))
        return best[1]

    def _candidate(self, base: str, config: Dict[str, str]) -> Tuple[str, str]:
        """What can be done about a base copy: remove it, merge its only child into it, or nothing."""
        children = self.nodes[base].children
        if not children:
            return "orphan", base
        if len(children) > 1:
            return "", base
        (child,) = children
        if self.nodes[child].hidden:
            return ("" if config.get("coalesce") == "false" else "coalesce"), child
        row = self.db.row("VDI", child)
        if "false" in (config.get("leaf-coalesce"), row["other_config"].get("leaf-coalesce")):
            return "", child
        if row["current_operations"] or row["on_boot"] == "reset":
            return "", child
        return "leaf", child

    def _tidy(self, kind: str, vdi: str) -> None:
        node = self.nodes[vdi]
        if kind == "orphan":
            self.drop_image(vdi)
            self.db.delete("VDI", vdi)
            return
        parent = node.parent or ""
        base = self.nodes[parent]
        merged = min(node.virtual, node.used + base.used)
        if kind == "coalesce":
            base.used = merged
            for child in list(node.children):
                self._link(child, parent)
            self.drop_image(vdi)
            self.db.delete("VDI", vdi)
            self.resized(parent)
        else:
            node.used = merged
            self._link(vdi, base.parent)
            self.drop_image(parent)
            self.db.delete("VDI", parent)
            self.resized(vdi)

    # --- state ---

    def dump(self) -> Dict[str, Any]:
        """What the records do not hold: the data in each image, and the tree."""
        for vdi in self.nodes:
            self._settle(vdi)
        return {
            vdi: [node.used, node.parent, node.hidden, node.raw, node.writing_since]
            for vdi, node in self.nodes.items()
        }

    def restore(self, images: Dict[str, Any]) -> None:
        for vdi, (used, parent, hidden, raw, since) in images.items():
            row = self.db.row("VDI", vdi)
            node = Node(row["SR"], row["virtual_size"])
            node.used, node.parent, node.hidden, node.raw = used, parent, hidden, raw
            node.writing_since = since
            self.nodes[vdi] = node
        for vdi, node in self.nodes.items():
            node.size = self.image_size(vdi, node)
            self.used[node.sr] = self.used.get(node.sr, 0) + node.size
            if node.parent is not None:
                self.nodes[node.parent].children.add(vdi)
            if node.hidden:
                self.hidden.setdefault(node.sr, set()).add(vdi)
            else:
                self.virtual[node.sr] = self.virtual.get(node.sr, 0) + node.virtual
        for sr in self.hidden:
            self.kick_collector(sr)


def logical_volume(virtual: int) -> int:
    """The size of a full logical volume for a disk (sm: lvhdutil.py)."""
    return round_up(virtual + LV_METADATA + 4 * KIB * (virtual // BLOCK), EXTENT)


def backend_failure(number: int, description: str) -> XapiError:
    """An error of the storage manager as clients see it."""
    return XapiError("SR_BACKEND_FAILURE_%d" % number, "", description, "")
