"""The garbage collector of each SR: it removes and merges base copies that snapshots have left (sm: cleanup.py)."""

from typing import TYPE_CHECKING, Any, Dict, Generator, NamedTuple, Optional, Set

from .images import MIB, Image, Repository, logical_volume
from .kernel import Sleep

if TYPE_CHECKING:
    from .storage_manager import StorageManager

Steps = Generator[Any, Any, Any]

DOMAIN = "garbage collector"
QUIET_SECONDS = 300.0
STEP_SECONDS = 1.0
# A leaf in use is merged in one go when little is left, or when that takes no time.
LIVE_BYTES_MAX = 20 * MIB
LIVE_SECONDS_MAX = 5.0
ROUNDS_MAX = 20
ROUNDS_WITHOUT_PROGRESS_MAX = 3
GROWTH_MAX = 1.2


class Work(NamedTuple):
    """One thing to do: remove the base copy `name` (orphan), merge it into its parent (coalesce), or merge the leaf
    `name` into its parent (leaf)."""

    kind: str
    name: str


class Collector:
    """The collectors of all SRs: one process an SR, one piece of work at a time."""

    def __init__(self, manager: "StorageManager") -> None:
        self.manager = manager
        self.db = manager.db
        self.running: Set[str] = set()

    def kick(self, sr: str) -> None:
        """Start the collector of an SR, unless it runs, is switched off, or has nothing to do."""
        if sr in self.running or not self.db.exists("SR", sr):
            return
        if self._config(sr).get("gc") == "false" or self._next(sr, set()) is None:
            return
        self.running.add(sr)
        sim = self.manager.sim
        task = sim.dispatcher.new_task("Garbage Collection", "OpaqueRef:NULL")

        def done(result: Any, error: Optional[BaseException]) -> None:
            self.running.discard(sr)
            sim.dispatcher.finish_task(task, None, error)

        sim.kernel.spawn(self._collect(sr, task), done, DOMAIN)

    def _config(self, sr: str) -> Dict[str, str]:
        config: Dict[str, str] = self.db.row("SR", sr)["other_config"]
        return config

    def _collect(self, sr: str, task: str) -> Steps:
        yield Sleep(QUIET_SECONDS)
        failed: Set[str] = set()
        ended, total = 0, 1
        while self.db.exists("SR", sr):
            work = self._next(sr, failed)
            if work is None:
                return
            total = max(total, ended + len(self.manager.repository(sr).hidden))
            if not (yield from self._carry_out(sr, work)):
                failed.add(work.name)
            ended += 1
            if self.db.exists("task", task):
                self.db.set("task", task, "progress", min(1.0, ended / total))

    # --- what to do ---

    def _next(self, sr: str, failed: Set[str]) -> Optional[Work]:
        """The next thing to do: an orphan first, then the candidate with the tallest tree."""
        repository = self.manager.repository(sr)
        config = self._config(sr)
        best: Optional[Work] = None
        tallest = 0
        for base in repository.hidden:
            work = self._candidate(repository, base, config)
            if work is None or work.name in failed:
                continue
            if work.kind == "orphan":
                return work
            height = repository.height(base) + repository.depth(base)
            # Leaves come after all other work.
            rank = height + (1000 if work.kind == "coalesce" else 0)
            if rank > tallest:
                tallest, best = rank, work
        return best

    def _candidate(self, repository: Repository, base: str, config: Dict[str, str]) -> Optional[Work]:
        """What can be done about a base copy."""
        image = repository.images[base]
        if not image.children:
            return Work("orphan", base)
        if len(image.children) > 1:
            return None
        (child,) = image.children
        if not repository.images[child].hidden:
            return Work("leaf", child) if self._may_merge_leaf(child, config) else None
        return None if config.get("coalesce") == "false" else Work("coalesce", child)

    def _may_merge_leaf(self, name: str, config: Dict[str, str]) -> bool:
        vdi = self.manager.vdi(name)
        if vdi is None:
            return False
        row = self.db.row("VDI", vdi)
        wish = row["other_config"].get("leaf-coalesce")
        if wish == "false" or (config.get("leaf-coalesce") == "false" and wish != "force"):
            return False
        return not row["current_operations"] and row["on_boot"] != "reset" and not row["allow_caching"]

    # --- doing it ---

    def _carry_out(self, sr: str, work: Work) -> Steps:
        """Do one piece of work; return whether it was done. The world may change while it takes its time."""
        repository = self.manager.repository(sr)
        image = repository.images[work.name]
        if work.kind == "orphan":
            yield Sleep(STEP_SECONDS)
            if work.name in repository.images and not image.children:
                self._remove(repository, work.name)
                self.manager.show_space(sr)
            return True
        if not self._has_room(repository, work.name, image):
            self._tell_no_space(sr, work.name)
            return False
        self._clear_no_space(sr, work.name)
        if work.kind == "leaf":
            if not (yield from self._shrink_leaf(repository, work.name, image)):
                return False
        yield Sleep(STEP_SECONDS + image.used / self.manager.sim.durations.merge_bytes_per_second)
        if not self._is_still(repository, work, image):
            return True
        if work.kind == "leaf":
            self._merge_leaf(repository, work.name, image)
        else:
            self._merge_base(repository, work.name, image)
        self.manager.show_space(sr)
        return True

    def _is_still(self, repository: Repository, work: Work, image: Image) -> bool:
        if repository.images.get(work.name) is not image or image.parent not in repository.images:
            return False
        return len(repository.images[image.parent].children) == 1 and image.hidden == (work.kind == "coalesce")

    def _has_room(self, repository: Repository, name: str, image: Image) -> bool:
        """Merging needs room before it gives any back: for the parent's growth, or for its full volume."""
        parent = repository.images[image.parent or name]
        if repository.lvm:
            return repository.free >= logical_volume(parent.virtual) - parent.size
        return repository.free >= min(image.used, parent.virtual - parent.used)

    def _tell_no_space(self, sr: str, name: str) -> None:
        row = self.db.row("SR", sr)
        vdi = self.manager.vdi(name)
        if "gc_no_space" not in row["sm_config"]:
            text = "Unable to perform data coalesce due to a lack of space in SR %s" % row["uuid"]
            message = self.manager.sim.messages.create("SM_GC_NO_SPACE", 3, "SR", row["uuid"], text)
            self.db.set("SR", sr, "sm_config", {**row["sm_config"], "gc_no_space": message})
        if vdi is not None:
            config = {**self.db.row("VDI", vdi)["sm_config"]}
            config["gc_no_space"] = self.db.row("SR", sr)["sm_config"]["gc_no_space"]
            self.db.set("VDI", vdi, "sm_config", config)

    def _clear_no_space(self, sr: str, name: str) -> None:
        self.db.remove_from_map("SR", sr, "sm_config", "gc_no_space")
        vdi = self.manager.vdi(name)
        if vdi is not None:
            self.db.remove_from_map("VDI", vdi, "sm_config", "gc_no_space")

    def _shrink_leaf(self, repository: Repository, name: str, image: Image) -> Steps:
        """Move the data of a leaf that a guest writes to, round by round, until what is left is little."""
        rate = self.manager.sim.durations.merge_bytes_per_second
        stuck = 0
        for _ in range(ROUNDS_MAX):
            if image.writing_since is None or image.used <= max(LIVE_BYTES_MAX, LIVE_SECONDS_MAX * rate):
                return True
            parent = repository.images[image.parent or name]
            before, image.used = image.used, 0
            parent.used = min(parent.virtual, parent.used + before)
            yield Sleep(STEP_SECONDS + before / rate)
            if repository.images.get(name) is not image:
                return False
            self.manager.settle(repository, name)
            stuck += image.used >= before
            if stuck > ROUNDS_WITHOUT_PROGRESS_MAX or image.used > before * GROWTH_MAX:
                return False
        return False

    def _merge_base(self, repository: Repository, name: str, image: Image) -> None:
        """Put the data of a base copy into its parent; its children go on from there."""
        parent = image.parent or name
        base = repository.images[parent]
        base.used = min(base.virtual, base.used + image.used)
        for child in list(image.children):
            repository.link(child, parent)
            vdi = self.manager.vdi(child)
            if vdi is not None:
                config = {**self.db.row("VDI", vdi)["sm_config"], "vhd-parent": parent}
                self.db.set("VDI", vdi, "sm_config", config)
        self._remove(repository, name)
        repository.resized(parent)

    def _merge_leaf(self, repository: Repository, name: str, image: Image) -> None:
        """Put the data of a leaf into its parent, which takes the leaf's name.

        The record of the disk names the old parent until a scan: seen on a real xapi.
        """
        parent = image.parent or name
        base = repository.images[parent]
        image.used = min(image.virtual, image.used + base.used)
        repository.link(name, base.parent)
        self._remove(repository, parent)
        repository.resized(name)

    def _remove(self, repository: Repository, name: str) -> None:
        repository.drop(name)
        vdi = self.manager.vdi(name)
        if vdi is not None:
            self.db.delete("VDI", vdi)
