"""What the commands that read cost in large pools: calls, bytes, and the time and memory of their processes."""

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from benchmarks.goals import Figures
from benchmarks.processes import START, Usage, environment, in_tmp, measured
from tests.simulator.test_simulator_large import SNAPSHOTS, large_pool
from vmss.core.datetimes import format_datetime
from vmss.core.records import AT_WORK, NULL
from vmss.simulator import Simulator
from vmss.simulator.server import Server

COMMANDS = ("list", "status", "next", "doctor", "coverage", "plan", "metrics", "report --json", "run --dry-run", "show")
# A bare client that reads the records of all VMs, without their snapshots.
BARE = "VM.get_all_records"
_BARE = """
import XenAPI
from XenAPI.XenAPI import UDSTransport
session = XenAPI.Session("http://%s", transport=UDSTransport())
session.login_with_password("root", "", "1.0", "bare")
session.xenapi.VM.get_all_records_where('field "is_a_snapshot" = "false"')
session.xenapi.session.logout()
"""

# What the command finds wrong is no failure of the benchmark; a command that asks the server nothing is.
_RUN = "import sys; from vmss.cli.main import main; main()"


class Cost(NamedTuple):
    """What a command cost: its calls, the bytes of requests and answers, and its process."""

    calls: int
    size: int
    usage: Usage


def costs(vms: int) -> Dict[str, Cost]:
    """The cost of each command in a pool of so many VMs, each with two disks and ten scheduled snapshots; and of a bare
    client. For `run --dry-run` both schedules are due; `show` shows one to which all VMs belong by then."""
    simulator = Simulator(seed=1, now=START, clock="virtual")
    session = large_pool(simulator, vms)
    policies = simulator.call("VMSS.get_all", session)
    with in_tmp() as folder, Server(simulator, socket=str(folder / "x.sock")):
        found = {command: _cost(simulator, folder, "-c", _RUN, *command.split()) for command in COMMANDS[:-2]}
        found["watch --once"] = _of_watch(simulator, folder)
        for policy in policies:
            simulator.call("VMSS.set_last_run_time", session, policy, "20260301T04:00:00Z")
        found["run --dry-run"] = _cost(simulator, folder, "-c", _RUN, "run", "--dry-run")
        for vm in simulator.call("VMSS.get_VMs", session, policies[1]):
            simulator.call("VM.set_snapshot_schedule", session, vm, policies[0])
        uuid = simulator.call("VMSS.get_uuid", session, policies[0])
        found["show"] = _cost(simulator, folder, "-c", _RUN, "show", uuid)
        found[BARE] = _cost(simulator, folder, "-c", _BARE % str(folder / "x.sock").replace("/", "_"))
        found.update(_of_apply(simulator, folder))
    return found


def _of_watch(simulator: Simulator, folder: Path) -> Cost:
    """While a pass that has just begun has all VMs in hand."""
    (pool,) = simulator.db.tables["pool"].rows
    config = dict(simulator.db.row("pool", pool)["other_config"])
    now = format_datetime(simulator.now())
    runs = {row["uuid"]: now for row in simulator.db.tables["VMSS"].rows.values()}
    sign = json.dumps({"pid": 1, "started": "", "since": now, "runs": runs})
    simulator.db.set("pool", pool, "other_config", {**config, AT_WORK: sign})
    cost = _cost(simulator, folder, "-c", _RUN, "watch", "--once")
    simulator.db.set("pool", pool, "other_config", config)
    return cost


def _of_apply(simulator: Simulator, folder: Path) -> Iterator[Tuple[str, Cost]]:
    """All VMs are put on one schedule, by their tag, then on another one by their names: and each once more."""
    vms = {ref: row for ref, row in simulator.db.tables["VM"].rows.items() if row["snapshot_schedule"] != NULL}
    for ref in vms:
        simulator.db.set("VM", ref, "tags", ["production"])
    for kind, values in (("tag", ["production"]), ("name", [row["name_label"] for row in vms.values()])):
        schedule: Dict[str, Any] = {"type": "snapshot", "frequency": "daily", "schedule": {"hour": 2, "min": 30}}
        schedule.update(retained_snapshots=10, vms={kind + "s": values})
        path = folder / (kind + ".json")
        path.write_text(json.dumps({"version": 1, "schedules": {"by " + kind: schedule}}))
        for label in ("apply, %s" % kind, "apply, %s 2nd" % kind):
            yield label, _cost(simulator, folder, "-c", _RUN, "apply", str(path))


def _cost(simulator: Simulator, folder: Path, *arguments: str) -> Cost:
    simulator.reset_counts()
    usage = measured(environment(folder), *arguments)
    traffic = simulator.traffic().values()
    calls = sum(one.calls for one in traffic)
    if calls < 3:
        raise SystemExit("%s asked the server nothing" % (arguments,))
    return Cost(calls, sum(one.bytes_in + one.bytes_out for one in traffic), usage)


def page(sizes: Sequence[int], figures: Figures) -> Iterator[str]:
    """Yield the lines of this part of the page."""
    found: List[Dict[str, Cost]] = [costs(vms) for vms in sizes]
    yield "Each VM has two disks and %d scheduled snapshots." % SNAPSHOTS
    yield ""
    yield "| command              |   VMs |  calls |    MiB |    s | processor, s | peak, MB |"
    yield "|----------------------|------:|-------:|-------:|-----:|-------------:|---------:|"
    for command in found[0]:
        for vms, of in zip(sizes, found):
            cost = of[command]
            yield "| %-20s | %5d | %6d | %6.1f | %4.1f | %12.1f | %8.0f |" % (
                command if command == BARE else "vmss " + command,
                vms,
                cost.calls,
                cost.size / (1 << 20),
                cost.usage.wall,
                cost.usage.cpu,
                cost.usage.memory,
            )
            if vms == 5000:
                figures.update({command + ", s": cost.usage.wall, command + ", MiB": cost.size / (1 << 20)})
