"""The storage manager: the operations of its drivers on the images of an SR and on xapi's database.

Each operation is a process of its own, as on a host: it goes on when xapi dies, and then nobody gets its result.
Sources: sm: libs/sm/drivers/FileSR.py, LVHDSR.py, libs/sm/blktap2.py; the errors are those of a real xapi
(docs/xapi-facts.md, Storage errors).
"""

from typing import TYPE_CHECKING, Any, Dict, Generator, List, Optional

from .collector import Collector
from .errors import XapiError
from .image_records import COPIED, ImageRecords
from .images import (
    BLOCK,
    CHAIN_MAX,
    FILE_MARGIN,
    LV_EMPTY,
    LV_JOURNALS,
    MIB,
    Image,
    Repository,
    logical_volume,
    round_up,
)
from .kernel import Condition, Join, Sleep, Wait
from .values import NULL

if TYPE_CHECKING:
    from .simulator import Simulator

Steps = Generator[Any, Any, Any]

DOMAIN = "storage manager"
SIZE_MIN, SIZE_MAX = 1, 2088960 * MIB
# The time of five attempts to find a missing file.
MISSING_SECONDS = 10.0


class StorageManager(ImageRecords):
    """The drivers of all SRs."""

    def __init__(self, sim: "Simulator") -> None:
        super().__init__(sim)
        self.collector = Collector(self)
        self.paused: List[str] = []  # disks that are paused for a snapshot now

    # --- running ---

    def run(self, steps: Steps) -> Steps:
        """Wait for an operation of the storage manager. A xapi that is shutting down starts none."""
        if self.sim.stopping:
            yield Wait(Condition(self.sim.kernel))
        return (yield Join(steps, DOMAIN))

    def _is_orphan(self, life: int) -> bool:
        """Whether xapi has died since the operation began. By chance, raise: the driver needed xapi to go on."""
        if self.sim.life == life:
            return False
        if self.sim.random.random() >= self.sim.durations.orphan_finishes:
            raise failure(202, "General backend error [opterr=xapi is gone]")
        return True

    # --- the operations ---

    def create(self, sr: str, fields: Dict[str, Any]) -> Steps:
        """VDI.create: sizes are rounded up to whole VHD blocks."""
        life = self.sim.life
        yield self.sim.draw("vdi_create")
        repository = self.repository(sr)
        wanted = fields["virtual_size"]
        if not SIZE_MIN <= wanted <= SIZE_MAX:
            raise failure(79, "VDI Invalid size [opterr=VDI size must be between 1 MB and 2088960 MB]")
        virtual = round_up(wanted, BLOCK)
        if repository.lvm:
            if (logical_volume(virtual) if repository.thick else LV_EMPTY) > repository.free:
                raise failure(44, "There is insufficient space")
        elif repository.read_only:
            raise failure(78, "VDI Creation failed [opterr=error 30]")
        elif repository.free < FILE_MARGIN:
            raise failure(78, "VDI Creation failed [opterr=error 28]")
        orphan = self._is_orphan(life)
        raw = fields.get("sm_config", {}).get("type") == "raw"
        uuid = self.db.new_uuid()
        image = repository.add(uuid, virtual)
        image.raw, image.inflated = raw, repository.thick and not raw
        repository.resized(uuid)
        repository.virtual += virtual
        if orphan:
            return NULL
        # xapi leaves this one reference empty in a VDI that a client created.
        row = dict(fields, uuid=uuid, location=uuid, virtual_size=virtual, managed=True, metadata_of_pool="")
        row["sm_config"] = {"vdi_type": "aio" if raw else "vhd"} if repository.lvm else {}
        if repository.fake:
            row["sm_config"] = {"samplekey": "This is a dummy SR VDI"}
        vdi = self.introduce(sr, row)
        self.show_space(sr)
        return vdi

    def snapshot(self, vdi: str, is_snapshot: bool) -> Steps:
        """VDI.snapshot and VDI.clone: the old leaf becomes a hidden base copy with two empty children."""
        life = self.sim.life
        row = self.db.row("VDI", vdi)
        sr, name = row["SR"], row["location"]
        self.paused.append(vdi)
        try:
            yield self.sim.draw("vdi_snapshot")
            yield from self._check_image(sr, name)
            orphan = self._is_orphan(life)
            self._check_snapshot(sr, vdi, name)
            repository = self.repository(sr)
            copy = self.db.new_uuid()
            base = self._branch(repository, name, copy)
        except Exception:
            self.paused.remove(vdi)
            raise
        # Not in a finally clause: a killed driver leaves the disk paused.
        self.paused.remove(vdi)
        if orphan or not self.db.exists("VDI", vdi):
            return NULL
        if self.layout(sr) == "none":
            return self.record_nothing(sr, vdi, copy)
        return self.record_copy(sr, vdi, copy, base, is_snapshot)

    def _check_image(self, sr: str, name: str) -> Steps:
        """Open an image, as every command does first."""
        image = self.repository(sr).images.get(name)
        if image is None or image.fault == "missing":
            yield Sleep(MISSING_SECONDS)
            raise failure(46, "The VDI is not available [opterr=VDI %s not found]" % name)
        if image.fault == "corrupt":
            raise failure(65, "Failed to load VDI [opterr=Failed load VDI information %s]" % self._path(sr, name))

    def _path(self, sr: str, name: str) -> str:
        return "/run/sr-mount/%s/%s.vhd" % (self.db.row("SR", sr)["uuid"], name)

    def _check_snapshot(self, sr: str, vdi: str, name: str) -> None:
        repository = self.repository(sr)
        image = repository.images[name]
        self.settle(repository, name)
        if image.raw:
            raise XapiError("UNIMPLEMENTED_IN_SM_BACKEND", sr)
        # The disk is paused before its chain is measured (sm: libs/sm/drivers/FileSR.py, _do_snapshot).
        if self.db.exists("VDI", vdi) and "paused" in self.db.row("VDI", vdi)["sm_config"]:
            text = "Failed to snapshot VDI [opterr=['MAP_DUPLICATE_KEY', 'VDI', 'sm_config', '%s', 'paused']]"
            raise failure(82, text % vdi)
        if repository.depth(name) >= CHAIN_MAX:
            raise failure(109, "The snapshot chain is too long")
        if repository.read_only:
            paths = (self._path(sr, name), self._path(sr, self.db.new_uuid()))
            raise failure(1200, "[Errno 30] Read-only file system: '%s' -> '%s'" % paths)
        self._check_room(repository, image)

    def _check_room(self, repository: Repository, image: Image) -> None:
        if repository.lvm:
            # Needed: the new leaf, a small volume for the copy, two journals; less the space that the base frees.
            leaf = logical_volume(image.virtual) if image.inflated else LV_EMPTY
            base = Image(image.virtual)
            base.used = image.used
            if repository.free < leaf + LV_EMPTY + LV_JOURNALS - (image.size - repository.size_of(base)):
                raise failure(44, "There is insufficient space")
        elif repository.free < FILE_MARGIN:
            raise failure(81, "Failed to clone VDI [opterr=VDI clone failed error 28]")

    def _branch(self, repository: Repository, name: str, copy: str) -> Optional[str]:
        """Create the images of a snapshot; return the new base copy, or None if none was needed."""
        leaf = repository.images[name]
        base: Optional[str] = None
        if repository.fake:
            repository.add(copy, 0)
            return base
        # A leaf without data does not become a base copy: both children get its parent.
        if leaf.used or leaf.parent is None:
            base = self.db.new_uuid()
            image = repository.add(base, leaf.virtual, leaf.parent)
            image.used, leaf.used = leaf.used, 0
            repository.hide(base)
            repository.link(name, base)
            repository.resized(base)
        repository.add(copy, leaf.virtual, leaf.parent)
        repository.virtual += leaf.virtual
        repository.resized(name)
        repository.resized(copy)
        return base

    def destroy(self, vdi: str) -> Steps:
        """VDI.destroy: the records that point at the disk go with it."""
        life = self.sim.life
        row = self.db.row("VDI", vdi)
        sr, name = row["SR"], row["location"]
        repository = self.repository(sr)
        yield self.sim.draw("vdi_destroy")
        image = repository.images.get(name)
        if image is not None and image.fault == "missing":
            yield Sleep(MISSING_SECONDS)
        if image is not None and image.fault == "corrupt":
            yield from self._check_image(sr, name)
        if image is not None and repository.read_only and not image.fault:
            # sm describes a failed deletion as a failed marking (libs/sm/drivers/FileSR.py, XE_SR_ERRORCODES.xml).
            reason = "[Errno 30] Read-only file system: '%s'" % self._path(sr, name)
            text = "Failed to mark VDI hidden [opterr=Failed to unlink file during deleting VDI: %s]"
            raise failure(80, text % reason)
        if image is not None:
            repository.virtual -= image.virtual
            repository.drop(name)
        if self.sim.life != life:
            return
        self.forget(vdi)
        self.show_space(sr)
        self.collector.kick(sr)

    def revert(self, snapshot: str, target: str) -> Steps:
        """VDI.revert: a new empty child of the snapshot's base copy becomes the image of the target."""
        life = self.sim.life
        row = self.db.row("VDI", snapshot)
        sr, name, replaced = row["SR"], row["location"], self.db.row("VDI", target)["location"]
        yield self.sim.draw("vdi_snapshot")
        yield from self._check_image(sr, name)
        self._check_snapshot(sr, snapshot, name)
        repository, copy = self.repository(sr), self.db.new_uuid()
        base = self._branch(repository, name, copy)
        repository.virtual -= repository.images[replaced].virtual
        repository.drop(replaced)
        repository.rename(copy, replaced)
        if self._is_orphan(life):
            return
        if base is not None:
            self.record_base(sr, snapshot, base)
        self.db.set("VDI", target, "virtual_size", row["virtual_size"])
        self.show(sr, replaced)
        self.show_parent(snapshot, repository.images[name])
        self.show_space(sr)
        self.collector.kick(sr)

    def resize(self, vdi: str, size: int) -> Steps:
        life = self.sim.life
        row = self.db.row("VDI", vdi)
        repository, name = self.repository(row["SR"]), row["location"]
        yield self.sim.draw("vdi_resize")
        yield from self._check_image(row["SR"], name)
        image = repository.images[name]
        virtual = round_up(size, BLOCK)
        if virtual < image.virtual:
            raise failure(79, "VDI Invalid size [opterr=shrinking not allowed]")
        repository.virtual += virtual - image.virtual
        image.virtual = virtual
        repository.resized(name)
        if self.sim.life == life:
            self.db.set("VDI", vdi, "virtual_size", virtual)
            self.show(row["SR"], name)
            self.show_space(row["SR"])

    def copy(self, vdi: str, sr: str, target: Optional[str] = None) -> Steps:
        """VDI.copy: an independent disk with all the data, on this or another SR."""
        life = self.sim.life
        row = self.db.row("VDI", vdi)
        source, name = self.repository(row["SR"]), row["location"]
        yield from self._check_image(row["SR"], name)
        used = sum(source.images[other].used for other in [name, *source.ancestors(name)])
        yield Sleep(1.0 + used / self.sim.durations.merge_bytes_per_second)
        if target is None and self._is_orphan(life):
            self._leave_copy(sr, row["virtual_size"], used)
            return NULL
        if target is None:
            fields = {key: row[key] for key in (*COPIED, "virtual_size")}
            target = yield from self.create(sr, dict(fields, SR=sr, sm_config={}))
        if self.sim.life == life and self.db.exists("VDI", target):
            self.write(target, used)
        return target

    def _leave_copy(self, sr: str, virtual: int, used: int) -> None:
        """Leave the copied image without a record."""
        if self.db.exists("SR", sr):
            repository, name = self.repository(sr), self.db.new_uuid()
            repository.add(name, virtual).inflated = repository.thick
            repository.write(name, used)
            repository.resized(name)

    def scan(self, sr: str) -> Steps:
        """SR.scan: make the records match the images, and start the garbage collector."""
        life = self.sim.life
        yield self.sim.draw("sr_scan")
        if self.sim.life != life:
            return
        repository = self.repository(sr)
        if repository.has_corrupt:
            raise failure(40, "The SR scan failed  [opterr=uuid=None]")
        if self.layout(sr) != "none" and self.db.exists("SR", sr):
            self.reconcile(sr, repository)
            repository.virtual = sum(image.virtual for image in repository.images.values())
        if self.db.exists("SR", sr):
            self.db.remove_from_map("SR", sr, "other_config", "dirty")
        self.show_sizes(sr)
        self.collector.kick(sr)

    # --- guests ---

    def attached(self, vdi: str, writing: bool) -> None:
        """A guest begins or stops to write to a disk."""
        image = self.image(vdi) if self.db.exists("VDI", vdi) else None
        if image is None:
            return
        row = self.db.row("VDI", vdi)
        repository = self.repository(row["SR"])
        self.settle(repository, row["location"])
        image.writing_since = self.sim.kernel.now() if writing else None
        if repository.lvm and not image.raw:
            # A thin volume is inflated while it may be written to.
            image.inflated = repository.thick or writing
            repository.resized(row["location"])

    def write(self, vdi: str, count: int) -> None:
        """Put new data into a disk; its record shows the size."""
        row = self.db.row("VDI", vdi)
        repository = self.repository(row["SR"])
        if row["location"] in repository.images:
            repository.write(row["location"], count)
            self.show(row["SR"], row["location"])
            self.show_space(row["SR"])

    # --- failures ---

    def host_lost(self) -> None:
        """End the drivers with their host: paused disks stay marked, and a snapshot may be left half made."""
        for vdi in self.paused:
            if self.db.exists("VDI", vdi):
                self._leave_half(vdi)
                config = self.db.row("VDI", vdi)["sm_config"]
                self.db.set("VDI", vdi, "sm_config", {"paused": "true", **config})
        self.paused.clear()

    def _leave_half(self, vdi: str) -> None:
        row, image = self.db.row("VDI", vdi), self.image(vdi)
        started = image is not None and not image.used and image.parent is not None
        if image is not None and started and self.sim.random.random() < self.sim.durations.half_made:
            repository, name = self.repository(row["SR"]), self.db.new_uuid()
            repository.add(name, image.virtual, image.parent)
            repository.resized(name)

    def reset_disks(self, sr: str) -> None:
        """Remove the marks that a dead driver left, as plugging a PBD does."""
        for vdi in self.db.get("SR", sr, "VDIs"):
            self.db.remove_from_map("VDI", vdi, "sm_config", "paused")

    # --- state ---

    def dump(self) -> Dict[str, Any]:
        for repository in self.repositories.values():
            for name in repository.images:
                self.settle(repository, name)
        return {uuid: repository.dump() for uuid, repository in self.repositories.items()}

    def restore(self, dumped: Dict[str, Any]) -> None:
        for uuid, repository in dumped.items():
            self.repositories[uuid] = Repository.restore(repository)
        for sr in self.db.tables["SR"].rows:
            self.collector.kick(sr)


def failure(number: int, description: str) -> XapiError:
    """An error of the storage manager as clients see it."""
    return XapiError("SR_BACKEND_FAILURE_%d" % number, "", description, "")


def is_full(error: XapiError) -> bool:
    """Whether an error says that an SR has no room: LVM has a code for it, file systems have errno 28."""
    return error.code == "SR_BACKEND_FAILURE_44" or "error 28]" in " ".join(error.details[1:])
