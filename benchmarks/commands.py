"""What commands cost in large pools: calls, bytes, and the time and memory of their processes."""

import json
import os
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from benchmarks.processes import ROOT, Usage, measured
from tests.simulator.test_simulator_large import SNAPSHOTS, large_pool
from vmss.core.datetimes import format_datetime
from vmss.core.records import AT_WORK, NULL
from vmss.simulator import Simulator
from vmss.simulator.server import Server

COMMANDS = ("list", "status", "next", "doctor", "coverage", "plan", "metrics", "report --json")
# Of one schedule that has all VMs.
OF_ONE = ("show", "run --dry-run --policy")

# What the command finds wrong is no failure of the benchmark; a command that asks the server nothing is.
_RUN = "import sys; from vmss.cli.main import main; main()"


class Cost(NamedTuple):
    """What a command cost: its calls, the bytes of requests and answers, and its process."""

    calls: int
    size: int
    usage: Usage


def costs(vms: int) -> Dict[str, Cost]:
    """The cost of each command in a pool of so many VMs, each with two disks and ten scheduled snapshots."""
    simulator = Simulator(seed=1, now=datetime(2026, 3, 2, 10, 0, tzinfo=timezone.utc), clock="virtual")
    session = large_pool(simulator, vms)
    with tempfile.TemporaryDirectory() as folder, Server(simulator, socket=os.path.join(folder, "x.sock")):
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "VMSS_XAPI": "unix:%s/x.sock" % folder,
            "VMSS_LOG": str(Path(folder) / "log"),
            "VMSS_LOCK_DIR": str(Path(folder) / "lock"),
            "TZ": "UTC",
        }
        found = {command: _cost(simulator, environment, *command.split()) for command in COMMANDS}
        found["watch --once"] = _of_watch(simulator, environment)
        schedule = _put_together(simulator, session)
        found.update({command: _cost(simulator, environment, *command.split(), schedule) for command in OF_ONE})
        found.update(_of_apply(simulator, environment, folder))
        return found


def _of_watch(simulator: Simulator, environment: Dict[str, str]) -> Cost:
    """While a pass that has just begun has all VMs in hand."""
    (pool,) = simulator.db.tables["pool"].rows
    config = dict(simulator.db.row("pool", pool)["other_config"])
    now = format_datetime(simulator.now())
    runs = {row["uuid"]: now for row in simulator.db.tables["VMSS"].rows.values()}
    sign = json.dumps({"pid": 1, "started": "", "since": now, "runs": runs})
    simulator.db.set("pool", pool, "other_config", {**config, AT_WORK: sign})
    cost = _cost(simulator, environment, "watch", "--once")
    simulator.db.set("pool", pool, "other_config", config)
    return cost


def _of_apply(simulator: Simulator, environment: Dict[str, str], folder: str) -> Iterator[Tuple[str, Cost]]:
    """All VMs are put on one schedule, by their tag, then on another one by their names: and each once more."""
    vms = {ref: row for ref, row in simulator.db.tables["VM"].rows.items() if row["snapshot_schedule"] != NULL}
    for ref in vms:
        simulator.db.set("VM", ref, "tags", ["production"])
    for kind, values in (("tag", ["production"]), ("name", [row["name_label"] for row in vms.values()])):
        schedule: Dict[str, Any] = {"type": "snapshot", "frequency": "daily", "schedule": {"hour": 2, "min": 30}}
        schedule.update(retained_snapshots=10, vms={kind + "s": values})
        path = Path(folder) / (kind + ".json")
        path.write_text(json.dumps({"version": 1, "schedules": {"by " + kind: schedule}}))
        for label in ("apply, %s" % kind, "apply, %s 2nd" % kind):
            yield label, _cost(simulator, environment, "apply", str(path))


def _put_together(simulator: Simulator, session: str) -> str:
    """Put all VMs on one of the two schedules, and return its uuid."""
    first, second = simulator.call("VMSS.get_all", session)
    for vm in simulator.call("VMSS.get_VMs", session, second):
        simulator.call("VM.set_snapshot_schedule", session, vm, first)
    return str(simulator.call("VMSS.get_uuid", session, first))


def _cost(simulator: Simulator, environment: Dict[str, str], *command: str) -> Cost:
    simulator.reset_counts()
    usage = measured(environment, "-c", _RUN, *command)
    traffic = simulator.traffic().values()
    calls = sum(one.calls for one in traffic)
    if calls < 3:
        raise SystemExit("vmss %s asked the server nothing" % " ".join(command))
    return Cost(calls, sum(one.bytes_in + one.bytes_out for one in traffic), usage)


def page(sizes: Sequence[int]) -> Iterator[str]:
    """Yield the lines of this part of the page."""
    found: List[Dict[str, Cost]] = [costs(vms) for vms in sizes]
    yield "Each VM has two disks and %d scheduled snapshots." % SNAPSHOTS
    yield ""
    yield "| command              |   VMs |  calls |    MiB | processor, s | peak, MB |"
    yield "|----------------------|------:|-------:|-------:|-------------:|---------:|"
    for command in found[0]:
        for vms, of in zip(sizes, found):
            cost = of[command]
            yield "| %-20s | %5d | %6d | %6.1f | %12.1f | %8.0f |" % (
                "vmss " + command.replace(" --policy", ""),
                vms,
                cost.calls,
                cost.size / (1 << 20),
                cost.usage.cpu,
                cost.usage.memory,
            )
