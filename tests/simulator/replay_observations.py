"""The observations of the host in storage.jsonl, texts with figures, compared with the simulator's state."""

import ast
import re
from collections import Counter
from typing import Any, Dict, List, Set, Tuple

from vmss.simulator.images import BLOCK
from vmss.simulator.values import NULL

from .replay import Outcome, Trace
from .replay_stage import Stage

_DEPTHS = re.compile(r"depth disk0 (\d+) disk1 (\d+)(?:[,;] VDIs in SR (\d+))?(?:.*virtual_allocation (\d+))?")
_DISK = re.compile(
    r"VDI \S+ '(.*?)' +managed (\w+) +is_a_snapshot (\w+) +snapshot_of OpaqueRef:(\S+) VBDs (\d+) vhd-parent (\S*)"
)
_FIGURES = re.compile(r"VDI \S+ '(.*?)' +managed (\w+) +is_a_snapshot (\w+) +phys (\d+) +vhd-parent (\S*) ")
_FILE = re.compile(r"depth +(\d+) hidden +(\d) blocks (\d+)")
_SNAPSHOT = re.compile(r"\('([^']*)', '\d{8}T[0-9:]+Z', (True|False), \[")
_TELLS_NOTHING = {
    "burst": "how long calls took that were made at once: the order of ends is drawn at random",
    "files": "names and sizes of files on the host",
    "SMlog": "a log of the storage manager",
    "GC_run": "a log of the storage manager",
    "GC_log": "a log of the storage manager",
    "auto_GC": "a collector at work: how far it had come at some instants",
    "restart": "how long a start of xapi took",
    "clean_stop": "how long a stop of xapi took",
    "durations_table": "how long calls took that were made at once",
    "conflicting_calls": "the calls themselves are compared, one by one; this says how long they took",
    "twenty": "how long calls took that were made at once",
    "all_tasks": "an empty list, of tasks after a restart",
    "full": "what df printed",
    "task_timeline": "instants within one snapshot",
    "events": "events as they came, with their instants; the order within one answer is arbitrary",
    "7c_host_loss": "how the processes were killed",
    "client_closed": "a client that closes its connection: a test of its own shows it",
    "dangling_VBD": "when the database's own garbage collector came round; test_simulator_upkeep.py shows the rule",
    "state_after_scan_7c": "what a host that dies leaves of a snapshot under way: how far that had come is chance",
    "state_end": "what the calls around it answer, printed once more",
    "order_": "the order of sets after a restart, which is arbitrary",
}

# A Counter, which takes no parameters before Python 3.9.
Tally = Dict[Any, int]


def difference(what: str, recorded: Any, ours: Any) -> List[str]:
    return [] if recorded == ours else ["%s: recorded %s, ours %s" % (what, recorded, ours)]


class Observations(Stage):
    """Compares observations; `check_N` checks that of number N."""

    def reason_apart(self, trace: Trace) -> str:
        for start, reason in _TELLS_NOTHING.items():
            if trace.method.startswith(start):
                return reason
        return super().reason_apart(trace)

    def play(self, trace: Trace) -> Outcome:
        outcome = super().play(trace)
        if 96 <= trace.number <= 98 or 100 <= trace.number <= 109 or 117 <= trace.number <= 135:
            self.depths.append(self._depths())
        return outcome

    # --- chains ---

    def _depths(self) -> Tuple[int, int, int, int]:
        """The depths of vm-a's disks, how many disks their SR has, and the virtual size it tells."""
        sr = self.sim.db.row("VDI", self.value(14))["SR"]
        repository = self.sim.storage.manager.repository(sr)
        depths = [repository.depth(self.uuid("VDI", self.value(number))) for number in (14, 16)]
        row = self.sim.db.row("SR", sr)
        return depths[0], depths[1], len(self.sim.db.get("SR", sr, "VDIs")), row["virtual_allocation"]

    def _chain(self, text: str, ours: List[Tuple[int, int, int, int]]) -> List[str]:
        found = [match.groups() for match in _DEPTHS.finditer(text)][-len(ours) :]
        for recorded, figures in zip(found, ours):
            pairs = [(int(one), other) for one, other in zip(recorded, figures) if one is not None]
            if any(one != other for one, other in pairs):
                return ["recorded %s, ours %s" % (recorded, figures)]
        return difference("depths", len(found), len(ours))

    def check_99(self, text: str) -> List[str]:
        return self._chain(text, self.depths[:3])

    def check_110(self, text: str) -> List[str]:
        return self._chain(text, self.depths[3:13])

    def check_136(self, text: str) -> List[str]:
        return self._chain(text, self.depths[13:])

    def check_114(self, text: str) -> List[str]:
        names = [line.split()[1] for line in text.splitlines()]
        return difference("order", names, [row["name_label"] for row in self._snapshots(self.value(10))])

    def _snapshots(self, vm: str) -> List[Dict[str, Any]]:
        return [self.sim.db.row("VM", ref) for ref in self.sim.db.get("VM", vm, "snapshots")]

    def _order(self, text: str, vm: str) -> List[str]:
        recorded = ast.literal_eval(text[text.index("[") : text.index("]") + 1])
        vbds = (self.sim.db.row("VBD", vbd) for vbd in self.sim.db.get("VM", vm, "VBDs"))
        return difference("order", recorded, [vbd["userdevice"] for vbd in vbds])

    def check_270(self, text: str) -> List[str]:
        return self._order(text, self.value(263))

    def check_426(self, text: str) -> List[str]:
        return self._order(text, self.value(419))

    # --- what a failure or a cancellation leaves ---

    def remember(self) -> None:
        """Note which disks there are, before something that leaves more."""
        self.seen: Set[str] = set(self.sim.db.tables["VDI"].rows)

    def _new(self, text: str) -> List[str]:
        part = text[text.index("new VDI records") :]
        recorded = ast.literal_eval(part[part.index("[") : part.index("]") + 1])
        rows = [row for vdi, row in self.sim.db.tables["VDI"].rows.items() if vdi not in self.seen]
        self.remember()
        ours = [(row["name_label"], row["is_a_snapshot"], row["managed"]) for row in rows]
        return difference("new disks", Counter(recorded), Counter(ours))

    check_272 = check_330 = check_491 = check_497 = check_502 = check_507 = _new

    def check_139(self, text: str) -> List[str]:
        tasks = ast.literal_eval(text[text.index("tasks left: ") + len("tasks left: ") :].strip())
        rows = self.sim.db.tables["task"].rows.values()
        ours = [(row["name_label"], row["status"], row["error_info"]) for row in rows]
        return difference("tasks", sorted(map(str, tasks)), sorted(map(str, ours)))

    # --- deaths of xapi ---

    def _state(self, text: str) -> List[str]:
        db = self.sim.db
        recorded = Counter(
            (name, managed, snapshot, of != "NULL", int(vbds), bool(parent))
            for name, managed, snapshot, of, vbds, parent in _DISK.findall(text)
        )
        ours: Tally = Counter()
        for vdi in db.get("SR", self.value(418), "VDIs"):
            row = db.row("VDI", vdi)
            key = (row["name_label"], str(row["managed"]), str(row["is_a_snapshot"]), row["snapshot_of"] != NULL)
            ours[(*key, len(db.pointing_at("VBD", "VDI", vdi)), "vhd-parent" in row["sm_config"])] += 1
        snapshots = ast.literal_eval(text[text.index("VM snapshots ") + len("VM snapshots ") :].splitlines()[0])
        of_vm = db.get("VM", self.value(419), "snapshots")
        names = [(db.row("VM", ref)["name_label"], len(db.pointing_at("VBD", "VM", ref))) for ref in of_vm]
        return difference("disks", recorded, ours) + difference("snapshots", sorted(snapshots), sorted(names))

    check_434 = check_438 = check_452 = check_454 = check_456 = check_460 = check_478 = check_484 = _state

    # --- coalescing ---

    def _figures(self, text: str) -> List[str]:
        """The records and the files of the SR of section 9."""
        db, sr = self.sim.db, self.value(518)
        recorded = Counter((*figures, bool(parent)) for *figures, parent in _FIGURES.findall(text))
        ours: Tally = Counter()
        for vdi in db.get("SR", sr, "VDIs"):
            row = db.row("VDI", vdi)
            key = (row["name_label"], str(row["managed"]), str(row["is_a_snapshot"]), str(row["physical_utilisation"]))
            ours[(*key, "vhd-parent" in row["sm_config"])] += 1
        repository = self.sim.storage.manager.repository(sr)
        images = Counter(
            (str(repository.depth(name)), str(int(image.hidden)), str(-(-image.used // BLOCK)))
            for name, image in repository.images.items()
        )
        files = Counter(_FILE.findall(text))
        return difference("records", recorded, ours) + (difference("files", files, images) if files else [])

    check_522 = check_529 = check_531 = check_533 = check_539 = check_541 = check_546 = check_547 = _figures

    def check_568(self, text: str) -> List[str]:
        names = Counter((r["name"], r["cls"], str(r["priority"])) for r in self.sim.messages.records.values())
        return difference("messages", Counter(ast.literal_eval(text)), names)

    # --- trees of snapshots ---

    def check_583(self, text: str) -> List[str]:
        db, vm = self.sim.db, self.names.translate(self.first_ref(580))
        ours = set()
        for ref in [*db.get("VM", vm, "snapshots"), vm]:
            row = db.row("VM", ref)
            parent = db.tables["VM"].rows.get(row["parent"], {"name_label": None})["name_label"]
            children = [db.row("VM", child)["name_label"] for child in db.get("VM", ref, "children")]
            ours.add("%s parent %s%s" % (row["name_label"], parent, "" if ref == vm else " children %s" % children))
        return difference("tree", set(text.strip().splitlines()), ours)

    def check_585(self, text: str) -> List[str]:
        vm = self.names.translate(self.first_ref(580))
        parent = self.sim.db.row("VM", self.sim.db.row("VM", vm)["parent"])["name_label"]
        return difference("parent", text.strip(), "vm-order parent %r" % parent)

    def check_588(self, text: str) -> List[str]:
        recorded = Counter(ast.literal_eval(text[text.index("Counter(") + len("Counter(") :].strip()[:-1]))
        rows = [self.sim.db.row("VDI", vdi) for vdi in self.sim.db.get("SR", self.value(569), "VDIs")]
        ours = Counter((row["name_label"], row["is_a_snapshot"], row["managed"]) for row in rows)
        return difference("disks", recorded, ours)

    def _marks(self, text: str) -> List[str]:
        """The snapshots of vm-13 and whether they are scheduled ones."""
        recorded = [(name, mark == "True") for name, mark in _SNAPSHOT.findall(text)]
        vm = self.names.translate(self.first_ref(646))
        ours = [(row["name_label"], row["is_vmss_snapshot"]) for row in self._snapshots(vm)]
        return difference("snapshots", recorded, ours[: len(recorded)])

    check_651 = check_654 = check_661 = check_664 = _marks
