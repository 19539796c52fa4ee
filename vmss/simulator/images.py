"""The content of the SRs, independent of xapi's database: trees of VHD images, their sizes, and the free space.

Sources: sm: libs/sm/vhdutil.py, lvhdutil.py, libs/sm/drivers/FileSR.py, LVHDSR.py. Sizes are bytes. An image's name is
the uuid of its disk.
"""

from typing import Any, Dict, Iterator, List, Optional

KIB = 1024
MIB = 1024 * KIB
SECTOR = 512
PAGE = 4096
BLOCK = 2 * MIB
EXTENT = 4 * MIB
LV_METADATA = 4329472
LV_EMPTY = 8 * MIB
LV_JOURNALS = 2 * EXTENT
CHAIN_MAX = 30
FILE_MARGIN = 64 * KIB


class Image:
    """One image; `used` counts the data in this image alone.

    `inflated`: the logical volume has its full size. `fault`: "missing" or "corrupt", for a file that was removed or
    overwritten.
    """

    __slots__ = ("parent", "children", "used", "size", "hidden", "raw", "inflated", "virtual", "writing_since", "fault")

    def __init__(self, virtual: int) -> None:
        self.parent: Optional[str] = None
        self.children: Dict[str, None] = {}
        self.used = 0
        self.size = 0
        self.hidden = False
        self.raw = False
        self.inflated = False
        self.virtual = virtual
        self.writing_since: Optional[float] = None
        self.fault = ""


class Repository:
    """The images of one SR. `filler`: bytes of foreign files; `read_only`: the file system has failed."""

    def __init__(self, capacity: int, lvm: bool, thick: bool) -> None:
        self.capacity = capacity
        self.lvm = lvm
        self.thick = thick
        self.images: Dict[str, Image] = {}
        self.hidden: Dict[str, None] = {}
        # Indexes for the garbage collector: the base copies with fewer than two children, those whose map of blocks is
        # not in their records yet, and the images with a fault.
        self.few: Dict[str, None] = {}
        self.unmapped: Dict[str, None] = {}
        self.faulty: Dict[str, None] = {}
        self.used = 0
        # The sum of virtual sizes as the driver reports it: each new or deleted disk changes it, and a scan counts it
        # anew, with the base copies (seen on a real xapi).
        self.virtual = 0
        self.filler = 0
        self.read_only = False
        # The SR has plain files instead of VHDs, or nothing.
        self.fake = False

    @property
    def free(self) -> int:
        return self.capacity - self.used - self.filler

    # --- the tree ---

    def add(self, name: str, virtual: int, parent: Optional[str] = None) -> Image:
        image = Image(virtual)
        self.images[name] = image
        self.link(name, parent)
        return image

    def copy(self, names: List[str], fresh: Dict[str, str]) -> None:
        """Copy images, each after its parent, under fresh names; a parent that is not among them stays the parent."""
        for name in names:
            old = self.images[name]
            new = self.add(fresh[name], old.virtual, fresh.get(old.parent or "", old.parent))
            new.used, new.raw, new.inflated, new.writing_since = old.used, old.raw, old.inflated, old.writing_since
            if old.fault:
                self.spoil(fresh[name], old.fault)
            if not old.hidden:
                self.virtual += old.virtual
            else:
                self.hide(fresh[name])
                if name not in self.unmapped:
                    del self.unmapped[fresh[name]]
            self.resized(fresh[name])

    def drop(self, name: str) -> None:
        """Remove an image; its parent stays for the garbage collector."""
        image = self.images.pop(name)
        self.used -= image.size
        for index in (self.hidden, self.few, self.unmapped, self.faulty):
            index.pop(name, None)
        self._lose_child(image.parent, name)

    def _lose_child(self, parent: Optional[str], name: str) -> None:
        if parent in self.images:
            self.images[parent].children.pop(name, None)
            self._count(parent)

    def _count(self, name: str) -> None:
        """Update what depends on the number of an image's children."""
        image = self.images[name]
        if image.hidden and len(image.children) < 2:
            self.few[name] = None
        else:
            self.few.pop(name, None)

    def link(self, name: str, parent: Optional[str]) -> None:
        """Make `parent` the parent of an image."""
        image = self.images[name]
        self._lose_child(image.parent, name)
        image.parent = parent
        if parent is not None:
            self.images[parent].children[name] = None
            self._count(parent)

    def hide(self, name: str) -> None:
        """Make an image a base copy."""
        self.images[name].hidden = True
        self.hidden[name] = self.unmapped[name] = None
        self._count(name)

    def spoil(self, name: str, fault: str) -> None:
        """Give an image a fault."""
        self.images[name].fault = fault
        self.faulty[name] = None

    @property
    def has_corrupt(self) -> bool:
        return any(self.images[name].fault == "corrupt" for name in self.faulty)

    def rename(self, old: str, new: str) -> None:
        """Give an image another name, which must be free, also in the links of its tree."""
        image = self.images.pop(old)
        self.images[new] = image
        for index in (self.hidden, self.few, self.unmapped, self.faulty):
            if index.pop(old, self) is not self:
                index[new] = None
        if image.parent in self.images:
            siblings = self.images[image.parent].children
            siblings.pop(old, None)
            siblings[new] = None
        for child in image.children:
            self.images[child].parent = new

    def ancestors(self, name: str) -> Iterator[str]:
        """The chain above an image, its parent first."""
        parent = self.images[name].parent
        while parent is not None:
            yield parent
            parent = self.images[parent].parent

    def depth(self, name: str) -> int:
        """The length of a disk's chain, as vhd-util counts it."""
        return 1 + sum(1 for _ in self.ancestors(name))

    def height(self, name: str) -> int:
        """The length of the longest chain below an image, itself included."""
        return 1 + max((self.height(child) for child in self.images[name].children), default=0)

    # --- sizes ---

    def size_of(self, image: Image) -> int:
        """The size of an image in bytes."""
        if image.raw or self.fake:
            return image.virtual
        if self.lvm:
            if image.inflated:
                return logical_volume(image.virtual)
            return max(LV_EMPTY, round_up(image.used + LV_METADATA, EXTENT))
        return vhd_file(image.virtual, image.used, image.parent is not None)

    def resized(self, name: str) -> int:
        """Recompute the size of a changed image, and return it."""
        image = self.images[name]
        size = self.size_of(image)
        self.used += size - image.size
        image.size = size
        return size

    def settle(self, name: str, now: float, rate: float) -> None:
        """Add the data that a guest has written since the last time, at `rate` bytes per second."""
        image = self.images[name]
        if image.writing_since is not None:
            written = int(max(0.0, now - image.writing_since) * rate)
            image.writing_since = now
            self.write(name, written)

    def write(self, name: str, count: int) -> None:
        """Put `count` bytes of new data into an image."""
        if count > 0:
            image = self.images[name]
            image.used = min(image.virtual, image.used + count)
            self.resized(name)

    # --- state ---

    def dump(self) -> Dict[str, Any]:
        images = {
            name: [i.virtual, i.used, i.parent, i.hidden, i.raw, i.inflated, i.writing_since, i.fault]
            for name, i in self.images.items()
        }
        return {
            "capacity": self.capacity, "lvm": self.lvm, "thick": self.thick, "filler": self.filler,
            "read_only": self.read_only, "fake": self.fake, "virtual": self.virtual, "images": images,
        }  # fmt: skip

    @classmethod
    def restore(cls, dumped: Dict[str, Any]) -> "Repository":
        """What `dump` returned; parents may come after their children."""
        repository = cls(dumped["capacity"], dumped["lvm"], dumped["thick"])
        repository.filler, repository.read_only = dumped["filler"], dumped["read_only"]
        repository.fake, repository.virtual = dumped["fake"], dumped["virtual"]
        parents: List[Any] = []
        for name, (virtual, used, parent, hidden, raw, inflated, since, fault) in dumped["images"].items():
            image = repository.add(name, virtual)
            image.used, image.raw, image.inflated, image.writing_since = used, raw, inflated, since
            if fault:
                repository.spoil(name, fault)
            if hidden:
                repository.hide(name)
            parents.append((name, parent))
        for name, parent in parents:
            repository.link(name, parent)
            repository.resized(name)
        return repository


def round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def logical_volume(virtual: int) -> int:
    """The size of a full logical volume for a disk (sm: libs/sm/lvhdutil.py)."""
    return round_up(virtual + LV_METADATA + 4 * KIB * (virtual // BLOCK), EXTENT)


def vhd_file(virtual: int, used: int, has_parent: bool) -> int:
    """A dynamic VHD: headers, the block table, a parent locator, each block after its bitmap, and a footer. The data
    of a block begins at a whole page (measured on files of a real SR)."""
    head = 2560 + round_up(4 * -(-virtual // BLOCK), SECTOR) + (1536 if has_parent else 0)
    blocks = -(-used // BLOCK)
    if not blocks:
        return head + SECTOR
    return round_up(head + SECTOR, PAGE) + blocks * BLOCK + (blocks - 1) * PAGE + SECTOR
