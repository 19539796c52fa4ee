"""The garbage collector of each SR, which removes and merges the base copies of deleted snapshots.

Source: sm: libs/sm/cleanup.py.
"""

import base64
import zlib
from typing import TYPE_CHECKING, Any, Dict, Generator, List, NamedTuple, Optional, Set

from .images import BLOCK, MIB, Image, Repository, logical_volume
from .kernel import Sleep

if TYPE_CHECKING:
    from .storage_manager import StorageManager

Steps = Generator[Any, Any, Any]

DOMAIN = "garbage collector"
QUIET_SECONDS = 300.0
BOOTING_SECONDS = 15.0
STEP_SECONDS = 1.0
# A leaf in use is merged in one step if it holds little data, or if that takes little time.
LIVE_BYTES_MAX = 20 * MIB
LIVE_SECONDS_MAX = 5.0
ROUNDS_MAX = 20
ROUNDS_WITHOUT_PROGRESS_MAX = 3
GROWTH_MAX = 1.2
# The key under which an SR and a disk name the message that there is no room to merge.
NO_SPACE = "gc_no_space"
# The key under which the record of a base copy has the map of its blocks.
BLOCKS = "vhd-blocks"


class Work(NamedTuple):
    """One thing to do: remove the base copy `name` (orphan), merge it into its parent (coalesce), or merge the leaf
    `name` into its parent (leaf)."""

    kind: str
    name: str


class Collector:
    """The collectors of all SRs: one process per SR, one piece of work at a time."""

    def __init__(self, manager: "StorageManager") -> None:
        self.manager = manager
        self.db = manager.db
        self.running: Set[str] = set()
        # For each host that has been the coordinator: the SRs whose collector has not run there since the host booted.
        self._untouched: Dict[str, Set[str]] = {}

    def booted(self, host: str) -> None:
        """A host was booted: no collector has run there since."""
        self._untouched[host] = set(self.db.tables["SR"].rows)

    def moved(self, old: str, new: str) -> None:
        """Another host has become the coordinator, perhaps for the first time since it booted."""
        self._untouched.setdefault(old, set())
        if new not in self._untouched:
            self.booted(new)

    def _is_first(self, sr: str) -> bool:
        """Whether the collector runs for the first time since the host booted. Later calls return False."""
        untouched = self._untouched.get(self.manager.sim.hosts.coordinator, set())
        first = sr in untouched
        untouched.discard(sr)
        return first

    def kick(self, sr: str) -> None:
        """Start the collector of an SR, unless it is running, switched off, or without work."""
        if sr in self.running or not self._may_run(sr):
            return
        first = self._is_first(sr)
        lacking: Dict[str, None] = {}
        if not self._plan(sr, set(), lacking):
            self._show_lack(sr, lacking)
            return
        self.running.add(sr)
        sim = self.manager.sim
        task = sim.dispatcher.new_task("Garbage Collection", "OpaqueRef:NULL")
        self.db.update(
            "task", task, name_description="Garbage collection for SR %s" % self.db.row("SR", sr)["uuid"],
            other_config={"applies_to": sr},
        )  # fmt: skip

        def done(result: Any, error: Optional[BaseException]) -> None:
            self.running.discard(sr)
            self._end_task(task, error)

        # Only the first run since the host booted starts without a pause (sm: libs/sm/cleanup.py, _gcLoopPause).
        sim.kernel.spawn(self._collect(sr, task, 0.0 if first else QUIET_SECONDS), done, DOMAIN)

    def _end_task(self, task: str, error: Optional[BaseException]) -> None:
        """The collector is a client of xapi: it sets the status of its task, but not the time of its end."""
        if error is not None:
            self.manager.sim.dispatcher.finish_task(task, None, error)
        elif self.db.exists("task", task):
            self.db.update("task", task, status="success", progress=1.0)

    def _may_run(self, sr: str) -> bool:
        """Whether the SR exists and is attached where the collector runs, and its collector is not switched off."""
        if not self.db.exists("SR", sr) or not self.manager.sim.storage.is_served(sr):
            return False
        return self._config(sr).get("gc") != "false"

    def _config(self, sr: str) -> Dict[str, str]:
        config: Dict[str, str] = self.db.row("SR", sr)["other_config"]
        return config

    def _collect(self, sr: str, task: str, quiet: float) -> Steps:
        hosts = self.manager.sim.hosts
        while not hosts.is_up(hosts.coordinator):
            yield Sleep(BOOTING_SECONDS)
        yield Sleep(quiet)
        failed: Set[str] = set()
        lacking: Dict[str, None] = {}
        ended, total = 0, 1
        plan: List[Work] = []
        while self._may_run(sr):
            if not plan:
                self._show_blocks(sr)
                plan = self._plan(sr, failed, lacking)
            if not plan:
                break
            work = plan.pop(0)
            if not self._is_due(sr, work, lacking):
                continue
            total = max(total, ended + len(self.manager.repository(sr).hidden))
            if not (yield from self._carry_out(sr, work)):
                failed.add(work.name)
            ended += 1
            if self.db.exists("task", task):
                self.db.set("task", task, "progress", min(1.0, ended / total))
        if self.db.exists("SR", sr):
            self._show_lack(sr, lacking)

    def _show_blocks(self, sr: str) -> None:
        """Note in the records of base copies which blocks they have, where that is not known yet."""
        repository = self.manager.repository(sr)
        for name in list(repository.unmapped):
            vdi, image = self.manager.vdi(name), repository.images[name]
            if vdi is not None and image.children:
                if BLOCKS not in self.db.row("VDI", vdi)["sm_config"]:
                    self._note_blocks(vdi, image)
                del repository.unmapped[name]

    def _note_blocks(self, vdi: str, image: Image) -> None:
        config = self.db.row("VDI", vdi)["sm_config"]
        self.db.set("VDI", vdi, "sm_config", {**config, BLOCKS: block_map(image)})

    # --- planning ---

    def _plan(self, sr: str, failed: Set[str], lacking: Dict[str, None]) -> List[Work]:
        """The next pieces of work: orphans first, then base copies, those of the tallest tree first, then leaves.

        The real collector plans anew after each piece of work. This one plans a sixteenth of the work at a time, which
        is one piece unless there are many. Work for which there is no room goes into `lacking`.
        """
        repository = self.manager.repository(sr)
        config = self._config(sr)
        found = (self._candidate(repository, base, config) for base in repository.few)
        works = [work for work in found if work is not None and work.name not in failed]
        if not works or repository.has_corrupt:
            return []
        count = 1 + len(works) // 16
        orphans = [work for work in works if work.kind == "orphan"]
        if orphans:
            return orphans[:count]
        heights: Dict[str, int] = {}
        plan: List[Work] = []
        for work in sorted(works, key=lambda work: self._rank(repository, work, heights)):
            if not self._has_room(repository, work.name, repository.images[work.name]):
                lacking[work.name] = None
            elif len(plan) < count:
                plan.append(work)
            else:
                break
        return plan

    def _is_due(self, sr: str, work: Work, lacking: Dict[str, None]) -> bool:
        """Whether planned work is still needed and possible."""
        repository = self.manager.repository(sr)
        image = repository.images.get(work.name)
        if image is None:
            return False
        base = work.name if work.kind == "orphan" else image.parent
        if base is None or self._candidate(repository, base, self._config(sr)) != work:
            return False
        if work.kind != "orphan" and not self._has_room(repository, work.name, image):
            return False
        lacking.pop(work.name, None)
        self._unmark(work.name)
        return True

    def _rank(self, repository: Repository, work: Work, heights: Dict[str, int]) -> int:
        """The sort key of planned work: the lowest is done first. Leaves come after all other work, in any order."""
        if work.kind == "leaf":
            return 1
        root = [work.name, *repository.ancestors(work.name)][-1]
        if root not in heights:
            heights[root] = repository.height(root)
        return -heights[root]

    def _candidate(self, repository: Repository, base: str, config: Dict[str, str]) -> Optional[Work]:
        """The work that a base copy needs; None if it needs none."""
        image = repository.images[base]
        if image.fault:
            return None
        if not image.children:
            return Work("orphan", base)
        if len(image.children) > 1 or config.get("coalesce") == "false":
            return None
        (child,) = image.children
        if repository.images[child].fault:
            return None
        if repository.images[child].hidden:
            return Work("coalesce", child)
        return Work("leaf", child) if self._may_merge_leaf(child, config) else None

    def _may_merge_leaf(self, name: str, config: Dict[str, str]) -> bool:
        vdi = self.manager.vdi(name)
        if vdi is None or config.get("leaf-coalesce") == "false":
            return False
        row = self.db.row("VDI", vdi)
        if row["other_config"].get("leaf-coalesce") == "false" or row["current_operations"]:
            return False
        return row["on_boot"] != "reset" and not row["allow_caching"]

    # --- carrying out ---

    def _carry_out(self, sr: str, work: Work) -> Steps:
        """Do one piece of work, and return whether it was done. The tree may change meanwhile."""
        repository = self.manager.repository(sr)
        image = repository.images[work.name]
        if work.kind == "leaf" and not (yield from self._shrink_leaf(repository, work, image)):
            return False
        moved = 0 if work.kind == "orphan" else image.used
        yield Sleep(STEP_SECONDS + moved / self.manager.sim.durations.merge_bytes_per_second)
        if repository.read_only:
            return False
        if not self._may_run(sr) or not self._is_still(repository, work, image):
            # The tree has changed meanwhile: the next plan takes that into account.
            return True
        if work.kind == "orphan":
            self._remove(repository, work.name)
        elif work.kind == "leaf":
            self._merge_leaf(repository, work.name, image)
        else:
            self._merge_base(repository, work.name, image)
        self.manager.show_space(sr)
        return True

    def _is_still(self, repository: Repository, work: Work, image: Image) -> bool:
        """Whether the tree is still as it was when the work was chosen."""
        if repository.images.get(work.name) is not image:
            return False
        if work.kind == "orphan":
            return not image.children
        if image.parent is None or image.hidden != (work.kind == "coalesce"):
            return False
        return list(repository.images[image.parent].children) == [work.name]

    def _has_room(self, repository: Repository, name: str, image: Image) -> bool:
        """Whether there is room for a merge: the parent grows, or gets its full volume, before any space is freed."""
        parent = repository.images[image.parent or name]
        if repository.lvm:
            return repository.free >= logical_volume(max(parent.virtual, image.virtual)) - parent.size
        return repository.free >= min(image.used, parent.virtual - parent.used)

    # --- alerts about lacking room ---

    def _show_lack(self, sr: str, lacking: Dict[str, None]) -> None:
        """Raise one message for an SR on which a merge lacks room, until all merges are possible again."""
        row = self.db.row("SR", sr)
        messages = self.manager.sim.messages
        message = row["sm_config"].get(NO_SPACE)
        if not lacking:
            if message is not None:
                if message in messages.records:
                    messages.destroy(message)
                self.db.remove_from_map("SR", sr, "sm_config", NO_SPACE)
            return
        if message not in messages.records:
            text = "Unable to perform data coalesce due to a lack of space in SR %s" % row["uuid"]
            message = messages.create("SM_GC_NO_SPACE", 3, "SR", row["uuid"], text)
            self.db.set("SR", sr, "sm_config", {**row["sm_config"], NO_SPACE: message})
        for name in lacking:
            vdi = self.manager.vdi(name)
            if vdi is not None:
                config = {**self.db.row("VDI", vdi)["sm_config"], NO_SPACE: message}
                self.db.set("VDI", vdi, "sm_config", config)

    def _unmark(self, name: str) -> None:
        vdi = self.manager.vdi(name)
        if vdi is not None:
            self.db.remove_from_map("VDI", vdi, "sm_config", NO_SPACE)

    # --- merging ---

    def _shrink_leaf(self, repository: Repository, work: Work, image: Image) -> Steps:
        """Move the data of a leaf that a guest writes to, round by round, until little remains; return whether the
        leaf can be merged. With leaf-coalesce=force it is merged as it is."""
        rate = self.manager.sim.durations.merge_bytes_per_second
        little = max(LIVE_BYTES_MAX, LIVE_SECONDS_MAX * rate)
        stuck = 0
        for _ in range(ROUNDS_MAX):
            if image.writing_since is None or image.used <= little or self._is_forced(work.name):
                return True
            before = self._flush_leaf(repository, work.name, image)
            yield Sleep(STEP_SECONDS + before / rate)
            if not self._is_still(repository, work, image):
                return True
            self.manager.settle(repository, work.name)
            stuck += image.used >= before
            if stuck > ROUNDS_WITHOUT_PROGRESS_MAX or image.used > before * GROWTH_MAX:
                return False
        return image.used <= little

    def _is_forced(self, name: str) -> bool:
        vdi = self.manager.vdi(name)
        return vdi is not None and self.db.row("VDI", vdi)["other_config"].get("leaf-coalesce") == "force"

    def _flush_leaf(self, repository: Repository, name: str, image: Image) -> int:
        """Move the data of a leaf into its parent, which leaves the leaf empty; return the number of bytes."""
        parent = image.parent or name
        base, before = repository.images[parent], image.used
        base.virtual = max(base.virtual, image.virtual)
        base.used = min(base.virtual, base.used + before)
        image.used = 0
        repository.resized(parent)
        repository.resized(name)
        return before

    def _merge_base(self, repository: Repository, name: str, image: Image) -> None:
        """Put the data of a base copy into its parent, which becomes the parent of its children."""
        parent = image.parent or name
        base = repository.images[parent]
        # The disk may have grown since its base was made.
        base.virtual = max(base.virtual, image.virtual)
        base.used = min(base.virtual, base.used + image.used)
        for child in list(image.children):
            repository.link(child, parent)
            vdi = self.manager.vdi(child)
            if vdi is not None:
                config = {**self.db.row("VDI", vdi)["sm_config"], "vhd-parent": parent}
                self.db.set("VDI", vdi, "sm_config", config)
        self._remove(repository, name)
        repository.resized(parent)
        grown = self.manager.vdi(parent)
        if grown is not None:
            self._note_blocks(grown, base)

    def _merge_leaf(self, repository: Repository, name: str, image: Image) -> None:
        """Put the data of a leaf into its parent, which takes the leaf's name.

        The record of the disk names the old parent until a scan, unless it has none any more: seen on a real xapi.
        """
        parent = image.parent or name
        base = repository.images[parent]
        image.used = min(image.virtual, image.used + base.used)
        repository.link(name, base.parent)
        self._remove(repository, parent)
        repository.resized(name)
        vdi = self.manager.vdi(name)
        if vdi is not None and image.parent is None:
            self.db.remove_from_map("VDI", vdi, "sm_config", "vhd-parent")

    def _remove(self, repository: Repository, name: str) -> None:
        repository.drop(name)
        vdi = self.manager.vdi(name)
        if vdi is not None:
            self.db.delete("VDI", vdi)


def block_map(image: Image) -> str:
    """A bitmap of the blocks in use, packed. Only their number is known here, so the first blocks count as used."""
    used, size = -(-image.used // BLOCK), -(-image.virtual // (8 * BLOCK))
    whole, rest = divmod(min(used, 8 * size), 8)
    packed = b"\xff" * whole + (bytes([0xFF00 >> rest & 0xFF]) if rest else b"")
    return base64.b64encode(zlib.compress(packed.ljust(size, b"\0"))).decode("ascii")
