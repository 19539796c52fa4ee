"""The images of all SRs, and the records of them in xapi's database."""

from typing import TYPE_CHECKING, Any, Dict, Optional

from .images import Image, Repository
from .sr_types import SR_TYPES, is_thick
from .values import EPOCH, NULL, from_seconds

if TYPE_CHECKING:
    from .simulator import Simulator

# The fields that a copy of a disk takes over.
COPIED = ("name_label", "name_description", "other_config", "xenstore_data", "tags", "type", "sharable", "on_boot")


class ImageRecords:
    """Repositories by the uuid of their SR, whose record they outlive, and the VDI records of their images."""

    def __init__(self, sim: "Simulator") -> None:
        self.sim = sim
        self.db = sim.db
        self.repositories: Dict[str, Repository] = {}

    # --- finding images and records ---

    def create_repository(self, sr: str, capacity: int, device_config: Dict[str, str]) -> None:
        row = self.db.row("SR", sr)
        kind = SR_TYPES.get(row["type"])
        thick = is_thick(row["type"], row["sm_config"], device_config)
        repository = Repository(capacity, kind is not None and kind.thick, thick)
        repository.fake = kind is not None and kind.layout != "vhd"
        self.repositories.setdefault(row["uuid"], repository)

    def repository(self, sr: str) -> Repository:
        """The images on an SR."""
        uuid = self.db.row("SR", sr)["uuid"]
        if uuid not in self.repositories:
            self.create_repository(sr, self.db.row("SR", sr)["physical_size"], {})
        return self.repositories[uuid]

    def image(self, vdi: str) -> Optional[Image]:
        """The image of a disk; None if there is none."""
        row = self.db.row("VDI", vdi)
        if not self.db.exists("SR", row["SR"]):
            return None
        return self.repository(row["SR"]).images.get(row["location"])

    def vdi(self, name: str) -> Optional[str]:
        """The record of a VHD; None if xapi has none."""
        return self.db.tables["VDI"].uuids.get(name)

    def record_of(self, sr: str, name: str) -> Optional[str]:
        """The record of an image of any kind; None if xapi has none."""
        if self.layout(sr) != "iso":
            return self.vdi(name)
        found = (vdi for vdi in self.db.get("SR", sr, "VDIs") if self.db.row("VDI", vdi)["location"] == name)
        return next(found, None)

    def layout(self, sr: str) -> str:
        kind = SR_TYPES.get(self.db.row("SR", sr)["type"])
        return kind.layout if kind is not None else "vhd"

    # --- records ---

    def introduce(self, sr: str, row: Dict[str, Any]) -> str:
        vdi = self.db.create("VDI", row)
        self.show(sr, row["location"])
        self.sim.storage.refresh("VDI", vdi)
        return vdi

    def record_copy(self, sr: str, vdi: str, copy: str, base: Optional[str], is_snapshot: bool) -> str:
        row = self.db.row("VDI", vdi)
        repository = self.repository(sr)
        config = {"vdi_type": "vhd"} if repository.lvm else {}
        if base is not None:
            self.record_base(sr, vdi, base)
        fields = {key: row[key] for key in (*COPIED, "SR", "virtual_size")}
        # A clone has a snapshot_time too.
        now = from_seconds(self.sim.kernel.now())
        fields.update(uuid=copy, location=copy, managed=True, sm_config=config, snapshot_time=now)
        if is_snapshot:
            fields.update(is_a_snapshot=True, snapshot_of=vdi)
        if is_snapshot and self.sim.stopping:
            fields.update(self._not_entered())
        created = self.introduce(sr, fields)
        # The record of the live disk shows its new size only after a scan.
        self.show_parent(vdi, repository.images[row["location"]])
        self.show_space(sr)
        return created

    def record_base(self, sr: str, vdi: str, base: str) -> None:
        """Record the base copy that was made of a disk."""
        row = self.db.row("VDI", vdi)
        fields = {key: row[key] for key in ("SR", "type", "virtual_size")}
        fields.update(
            uuid=base, location=base, name_label="base copy", managed=False, read_only=True, snapshot_time=EPOCH,
            sm_config={"vdi_type": "vhd"} if self.repository(sr).lvm else {},
        )  # fmt: skip
        self.introduce(sr, fields)

    def _not_entered(self) -> Dict[str, Any]:
        """What a xapi that is stopped does not enter any more into the record of a snapshot's disk, which the storage
        manager has made, with the name (docs/xapi-facts.md, Disks that a death leaves behind)."""
        random, durations = self.sim.random, self.sim.durations
        if random.random() >= durations.without_source:
            return {}
        unmarked = {"is_a_snapshot": False, "snapshot_time": EPOCH} if random.random() < durations.unmarked else {}
        return dict(unmarked, snapshot_of=NULL)

    def record_nothing(self, sr: str, vdi: str, copy: str) -> str:
        """Record a snapshot on an SR without images."""
        row = self.db.row("VDI", vdi)
        fields = {key: row[key] for key in (*COPIED, "SR")}
        now = from_seconds(self.sim.kernel.now())
        fields.update(uuid=copy, location=copy, managed=True, read_only=True)
        fields.update(is_a_snapshot=True, snapshot_of=vdi, snapshot_time=now)
        return self.introduce(sr, fields)

    def show(self, sr: str, name: str) -> None:
        """Write the size and the parent of an image into its record."""
        repository = self.repository(sr)
        vdi, image = self.record_of(sr, name), repository.images[name]
        if vdi is not None:
            self.db.set("VDI", vdi, "physical_utilisation", repository.resized(name))
            self.show_parent(vdi, image)

    def show_parent(self, vdi: str, image: Image) -> None:
        config = {k: v for k, v in self.db.row("VDI", vdi)["sm_config"].items() if k != "vhd-parent"}
        if image.parent is not None:
            config["vhd-parent"] = image.parent
        self.db.set("VDI", vdi, "sm_config", config)

    def forget(self, vdi: str) -> None:
        """Remove the record of a disk, the attachments and the reference of a suspended VM."""
        if not self.db.exists("VDI", vdi):
            return
        for vbd in self.db.pointing_at("VBD", "VDI", vdi):
            self.db.delete("VBD", vbd)
        if self.db.row("VDI", vdi)["type"] == "suspend":
            for vm in self.db.pointing_at("VM", "suspend_VDI", vdi):
                self.db.set("VM", vm, "suspend_VDI", NULL)
        self.db.delete("VDI", vdi)

    def reconcile(self, sr: str, repository: Repository) -> None:
        present = {name for name, image in repository.images.items() if not image.fault}
        known = {self.db.row("VDI", vdi)["location"]: vdi for vdi in self.db.get("SR", sr, "VDIs")}
        for name, vdi in known.items():
            if name not in present:
                # The next upkeep removes the attachments.
                self.db.delete("VDI", vdi)
                self.sim.upkeep.dangling = True
        for name in repository.images:
            if name in present and name not in known:
                self._introduce_found(sr, name, repository.images[name])

    def _introduce_found(self, sr: str, name: str, image: Image) -> None:
        """Create a record for an image that the database does not have, or no longer has."""
        fields: Dict[str, Any] = {
            "uuid": name, "location": name, "SR": sr, "virtual_size": image.virtual, "managed": not image.hidden,
            "type": "user", "read_only": image.hidden,
            "sm_config": {"vdi_type": "vhd"} if self.repository(sr).lvm else {},
        }  # fmt: skip
        if self.layout(sr) == "iso":
            fields.update(uuid=self.db.new_uuid(), name_label=name, read_only=True)
        self.introduce(sr, fields)

    def show_sizes(self, sr: str) -> None:
        """Bring the sizes in the records of an SR's disks up to date, as a scan does."""
        repository = self.repository(sr)
        for name in list(repository.images):
            self.settle(repository, name)
            self.show(sr, name)
        self.show_space(sr)

    def show_space(self, sr: str) -> None:
        if self.db.exists("SR", sr):
            repository = self.repository(sr)
            used = min(repository.used + repository.filler, repository.capacity)
            self.db.update("SR", sr, physical_utilisation=used, virtual_allocation=repository.virtual)

    def settle(self, repository: Repository, name: str) -> None:
        repository.settle(name, self.sim.kernel.now(), self.sim.durations.written_bytes_per_second)
